/* SPDX-License-Identifier: MIT */
/* cxx_locks.cc - the locks of the C++ library on fibers and on threads: mutual exclusion,
 * exceptions out of call_once, and the cancellation of a thread that waits for a condition. */
#include <fiber.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pthread.h>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

static bool on_fibers;

struct Task {
    void (*body)(int);
    int number;
    fiber_t *fiber;
    std::thread thread;
};

static void *start(void *task)
{
    auto *self = static_cast<Task *>(task);
    self->body(self->number);
    return nullptr;
}

/* Runs body in n tasks, and in two plain threads. */
static void all_at_once(int n, void (*body)(int))
{
    std::vector<Task> tasks(n);
    for (int i = 0; i < n; i++) {
        tasks[i].body = body;
        tasks[i].number = i;
        if (!on_fibers || i < 2)
            tasks[i].thread = std::thread(start, &tasks[i]);
        else if (fiber_create(&tasks[i].fiber, nullptr, start, &tasks[i]))
            abort();
    }
    for (int i = 0; i < n; i++)
        if (!on_fibers || i < 2)
            tasks[i].thread.join();
        else if (fiber_join(tasks[i].fiber, nullptr))
            abort();
}

enum { ROUNDS = 300 };
static std::mutex plain;
static std::recursive_mutex recursive;
static std::timed_mutex timed;
static std::shared_mutex shared;
static std::condition_variable turned;
static std::once_flag once, stubborn;
static std::atomic<int> ready, waiting;
static int count, turn, runs, thrown;

static void each_mutex(int)
{
    for (int i = 0; i < ROUNDS; i++) {
        std::lock_guard<std::mutex> a(plain);
        std::lock_guard<std::recursive_mutex> b(recursive), c(recursive);
        std::unique_lock<std::timed_mutex> d(timed, std::chrono::seconds(1000));
        if (!d.owns_lock())
            abort();
        std::this_thread::yield();
        count++;
    }
}

static void in_turns(int number)
{
    for (int i = 0; i < 50; i++) {
        std::unique_lock<std::mutex> lock(plain);
        if (i % 2)
            turned.wait(lock, [=] { return turn % 8 == number; });
        else if (!turned.wait_for(lock, std::chrono::seconds(1000),
                                  [=] { return turn % 8 == number; }))
            abort();
        turn++;
        turned.notify_all();
    }
}

static void read_or_write(int number)
{
    for (int i = 0; i < ROUNDS; i++)
        if ((i + number) % 3) {
            std::shared_lock<std::shared_mutex> lock(shared);
            std::this_thread::yield();
        } else {
            std::unique_lock<std::shared_mutex> lock(shared);
            count++;
        }
}

/* The first three callers throw; the fourth succeeds. */
static void try_once(int)
{
    try {
        std::call_once(stubborn, [] {
            std::this_thread::yield();
            if (++runs <= 3)
                throw std::runtime_error("not yet");
        });
    } catch (const std::runtime_error &) {
        __atomic_add_fetch(&thrown, 1, __ATOMIC_SEQ_CST);
    }
    std::call_once(once, [] { count++; });
}

/* Waits on an atomic (C++20), as the library implements them. */
static void wait_for_flag(int number)
{
    if (number == 7) {
        while (waiting != 7)
            std::this_thread::yield();
        ready = 1;
        ready.notify_all();
    } else {
        waiting++;
        ready.wait(0);
    }
}

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static bool in_wait;

static void unlock(void *) { pthread_mutex_unlock(&m); }

static void *wait_for_ever(void *)
{
    pthread_mutex_lock(&m);
    pthread_cleanup_push(unlock, nullptr);
    in_wait = true;
    for (;;)
        pthread_cond_wait(&c, &m);
    pthread_cleanup_pop(1);
    return nullptr;
}

/* Off a fiber, a wait for a condition is a cancellation point of the thread. */
static void cancel()
{
    pthread_t thread;
    if (pthread_create(&thread, nullptr, wait_for_ever, nullptr))
        abort();
    for (bool there = false; !there; std::this_thread::yield()) {
        pthread_mutex_lock(&m);
        there = in_wait;
        pthread_mutex_unlock(&m);
    }
    void *result = nullptr;
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("cancelled: %d, the mutex is free: %d\n", result == PTHREAD_CANCELED,
           pthread_mutex_trylock(&m) == 0);
    pthread_mutex_unlock(&m);
}

static void *all(void *)
{
    all_at_once(16, each_mutex);
    printf("mutexes: %d\n", count);
    all_at_once(8, in_turns);
    printf("turns: %d\n", turn);
    count = 0;
    all_at_once(15, read_or_write);
    printf("shared: %d\n", count);
    count = 0;
    all_at_once(16, try_once);
    printf("once: %d, in %d tries, %d thrown\n", count, runs, thrown);
    all_at_once(8, wait_for_flag);
    puts("atomics: awake");
    cancel();
    return nullptr;
}

int main(int argc, char **argv)
{
    on_fibers = argc == 2;
    if (!on_fibers) {
        all(nullptr);
        return 0;
    }
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = static_cast<unsigned>(atoi(argv[1]));
    return fiber_run(&options, all, nullptr, nullptr);
}
