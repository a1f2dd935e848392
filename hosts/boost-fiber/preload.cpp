// SPDX-License-Identifier: MIT
// libaioshim_boost_fiber.so - attaches the threads of programs that use Boost.Fiber as a shared
// library, without a change in them. To preload before libaioshim.so.
//
// round_robin is the algorithm that each thread begins with. These definitions of its functions
// stand before those of libboost_fiber.so and call them. A thread is attached when its first fiber
// becomes runnable, and detached when the program gives it another algorithm.
#include <atomic>
#include <typeinfo>

#include "aioshim_round_robin.hpp"

using boost::fibers::context;
using boost::fibers::algo::algorithm;
using boost::fibers::algo::round_robin;
using time_point = std::chrono::steady_clock::time_point;

namespace
{

// Other threads know only the algorithm to notify. The places are used again, but never freed.
struct place {
    std::atomic<const round_robin *> algorithm{ nullptr };
    std::atomic<bool> taken{ false };
    aioshim_fiber_thread thread;
    place *next = nullptr;
};

std::atomic<place *> places{ nullptr };

place *take_place()
{
    for (place *p = places; p; p = p->next)
        if (!p->taken.exchange(true))
            return p;
    place *made = new place;
    made->taken = true;
    made->next = places;
    while (!places.compare_exchange_weak(made->next, made)) {}
    return made;
}

// The place of this thread. It is given back after the last fiber, when the thread ends.
struct own_place {
    place *here = nullptr;
    ~own_place() { leave(); }

    void leave()
    {
        if (!here)
            return;
        here->algorithm = nullptr;
        here->thread.detach();
        here->taken = false;
        here = nullptr;
    }
};

thread_local own_place own;

template <class Function> Function next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) {
        std::fprintf(stderr, "aioshim: Boost.Fiber: %s: %s\n", name, dlerror());
        std::abort();
    }
    return reinterpret_cast<Function>(function);
}

// Classes that a program derives are not attached.
bool is_plain(const algorithm &a) { return typeid(a) == typeid(round_robin); }

// The thread whose algorithm is `a`; null if it is not attached.
aioshim_fiber_thread *thread_of(const round_robin *a)
{
    bool attached = own.here && own.here->algorithm == a && own.here->thread.attached();
    return attached ? &own.here->thread : nullptr;
}

void attach(const round_robin *a)
{
    if (!own.here)
        own.here = take_place();
    own.here->algorithm = a;
    own.here->thread.attach();
}

} // namespace

namespace boost
{
namespace fibers
{
namespace algo
{

void round_robin::awakened(context *c) noexcept
{
    static auto real = next<void (*)(round_robin *, context *)>(
        "_ZN5boost6fibers4algo11round_robin8awakenedEPNS0_7contextE");
    if (!thread_of(this) && is_plain(*this) && c->is_context(type::worker_context))
        attach(this);
    if (aioshim_fiber_thread *thread = thread_of(this))
        thread->awakened(c);
    real(this, c);
}

context *round_robin::pick_next() noexcept
{
    static auto real =
        next<context *(*)(round_robin *)>("_ZN5boost6fibers4algo11round_robin9pick_nextEv");
    aioshim_fiber_thread *thread = thread_of(this);
    if (thread)
        thread->begin_pick();
    context *picked = real(this);
    if (thread)
        thread->picked(picked);
    return picked;
}

void round_robin::suspend_until(time_point const &time) noexcept
{
    static auto real = next<void (*)(round_robin *, time_point const &)>(
        "_ZN5boost6fibers4algo11round_robin13suspend_untilERKNSt6chrono10time_pointINS3_3_V2"
        "12steady_clockENS3_8durationIlSt5ratioILl1ELl1000000000EEEEEE");
    if (aioshim_fiber_thread *thread = thread_of(this))
        thread->suspend_until(time);
    else
        real(this, time);
}

// Called from any thread.
void round_robin::notify() noexcept
{
    static auto real = next<void (*)(round_robin *)>("_ZN5boost6fibers4algo11round_robin6notifyEv");
    for (place *p = places; p; p = p->next)
        if (p->algorithm == this && p->thread.attached())
            return p->thread.wake();
    real(this);
}

} // namespace algo

void scheduler::set_algo(algo::algorithm::ptr_t given) noexcept
{
    static auto real = next<void (*)(scheduler *, algo::algorithm::ptr_t)>(
        "_ZN5boost6fibers9scheduler8set_algoENS_13intrusive_ptrINS0_4algo9algorithmEEE");
    real(this, given);
    own.leave();
}

} // namespace fibers
} // namespace boost
