/* SPDX-License-Identifier: MIT */
/* cxx_host - a scheduler in C++ that attaches through aioshim.hpp. Its fibers read a file, sleep,
 * and throw exceptions across waits and across switches of their own.
 *
 * usage: cxx_host FILE; prints the sum of the bytes that each fiber has read. */
#include <aioshim.hpp>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <stdexcept>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

namespace
{

struct Fiber {
    ucontext_t context;
    std::function<void()> work;
    std::vector<char> stack = std::vector<char>(256 * 1024);
    bool done = false;
};

class Scheduler : public aioshim::Host<Scheduler>
{
  public:
    static constexpr const char *library = "cxx_host 1";
    static constexpr std::uint64_t flags = AIOSHIM_HOST_SLEEPS_IN_POLL;

    void *running() noexcept { return current; }
    void park() noexcept { swapcontext(&current->context, &context); }
    void unpark(void *fiber) noexcept { queue.push_back(static_cast<Fiber *>(fiber)); }
    unsigned runnable() noexcept { return static_cast<unsigned>(queue.size()); }
    void wake() noexcept { shim.wake(); }
    int alone() noexcept { return fibers.size() - ended == 1 ? 2 : 0; }

    void spawn(std::function<void()> work);
    void yield_here();
    void run();

    Fiber *current = nullptr;
    aioshim::Attachment shim;
    std::uint64_t ended = 0;

  private:
    static void begin(unsigned low, unsigned high);

    ucontext_t context;
    std::deque<Fiber *> queue;
    std::vector<std::unique_ptr<Fiber>> fibers;
};

Scheduler scheduler;

void Scheduler::begin(unsigned low, unsigned high)
{
    auto *self = reinterpret_cast<Fiber *>(std::uintptr_t{ high } << 32 | low);
    self->work();
    self->done = true;
}

void Scheduler::spawn(std::function<void()> work)
{
    fibers.push_back(std::make_unique<Fiber>());
    Fiber *fiber = fibers.back().get();
    fiber->work = std::move(work);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.data();
    fiber->context.uc_stack.ss_size = fiber->stack.size();
    fiber->context.uc_link = &context;
    auto address = reinterpret_cast<std::uintptr_t>(fiber);
    makecontext(&fiber->context, reinterpret_cast<void (*)()>(begin), 2,
                static_cast<unsigned>(address), static_cast<unsigned>(address >> 32));
    queue.push_back(fiber);
}

// A switch that the shim does not see.
void Scheduler::yield_here()
{
    aioshim::SavedValues values(shim);
    queue.push_back(current);
    park();
    values.restore(shim);
}

void Scheduler::run()
{
    shim = attach();
    while (ended < fibers.size()) {
        for (std::size_t round = queue.size(); round > 0; round--) {
            current = queue.front();
            queue.pop_front();
            Fiber *ran = current;
            swapcontext(&context, &ran->context);
            current = nullptr;
            if (ran->done) {
                ended++;
                shim.ended(ran);
            }
        }
        if (!queue.empty())
            shim.poll();
        else if (ended < fibers.size())
            shim.poll_forever();
    }
}

void nap() { nanosleep(std::make_unique<timespec>(timespec{ 0, 1000000 }).get(), nullptr); }

/* Each fiber handles its own exception while others throw and handle theirs. */
void throw_across_waits(int number)
{
    for (int i = 0; i < 20; i++) {
        try {
            throw std::runtime_error(std::to_string(number * 1000 + i));
        } catch (const std::exception &mine) {
            /* Without the shim nobody keeps exceptions over the switch. */
            if (i % 2 || !scheduler.shim)
                nap();
            else
                scheduler.yield_here();
            try {
                throw;
            } catch (const std::exception &again) {
                if (std::stoi(again.what()) != number * 1000 + i || &again != &mine)
                    std::abort();
            }
        }
    }
}

} // namespace

int main(int argc, char **argv)
{
    int file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    if (file < 0)
        return 2;
    std::vector<unsigned long> sums(8);
    for (std::size_t i = 0; i < sums.size(); i++)
        scheduler.spawn([i, file, &sums] {
            throw_across_waits(static_cast<int>(i));
            unsigned char block[512];
            for (off_t at = 0; ssize_t n = pread(file, block, sizeof block, at); at += n)
                for (ssize_t j = 0; j < n; j++)
                    sums[i] += block[j];
        });
    scheduler.run();
    for (unsigned long sum : sums)
        std::printf("%lu\n", sum);
    std::fprintf(stderr, "cxx_host: %s\n", scheduler.shim ? "attached" : "not attached");
    return scheduler.shim.detach();
}
