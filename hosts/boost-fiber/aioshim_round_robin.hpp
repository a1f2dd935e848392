// SPDX-License-Identifier: MIT
// aioshim_round_robin.hpp - the round-robin algorithm of Boost.Fiber, attached to libaioshim.so.
// One line on each thread that runs fibers, before the first of them:
//
//     boost::fibers::use_scheduling_algorithm<aioshim_round_robin>();
//
// Without the preload it behaves as round_robin.
#ifndef AIOSHIM_ROUND_ROBIN_HPP
#define AIOSHIM_ROUND_ROBIN_HPP

#ifndef AIOSHIM_USE_VERSION
#define AIOSHIM_USE_VERSION 2 // of the table in aioshim.h
#endif

#include <algorithm>
#include <boost/fiber/all.hpp>
#include <boost/fiber/scheduler.hpp>
#include <boost/version.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "aioshim_host.h"

// A thread that runs fibers, and its place in the shim. The algorithm of the thread calls it.
class aioshim_fiber_thread
{
    using context = boost::fibers::context;
    using clock = std::chrono::steady_clock;

    aioshim_functions_t shim_ = {};
    aioshim_thread_t *thread_ = nullptr; // null: not attached
    unsigned ready_ = 0;
    unsigned parked_ = 0;
    // Boost.Fiber runs its scheduler on the stacks of fibers: true while the shim is polled there.
    bool in_scheduler_ = false;

    static bool is_dispatcher(const context *c)
    {
        return c->is_context(boost::fibers::type::dispatcher_context);
    }

    static aioshim_fiber_thread &of(void *data)
    {
        return *static_cast<aioshim_fiber_thread *>(data);
    }

    static void *running(void *data)
    {
        context *active = context::active();
        return of(data).in_scheduler_ || is_dispatcher(active) ? nullptr : active;
    }

    static void park(void *data)
    {
        of(data).parked_++;
        context::active()->suspend();
        of(data).parked_--;
    }

    static void unpark(void *, void *fiber)
    {
        context::active()->schedule(static_cast<context *>(fiber));
    }

    static unsigned runnable(void *data) { return of(data).ready_; }

    static void wake(void *data) { of(data).wake(); }

    static const aioshim_host_t *table()
    {
        static const aioshim_host_t made = [] {
            aioshim_host_t host = {};
            host.size = sizeof host;
            host.running = running;
            host.park = park;
            host.unpark = unpark;
            host.runnable = runnable;
            host.wake = wake;
            host.flags = AIOSHIM_HOST_SLEEPS_IN_POLL;
#if AIOSHIM_USE_VERSION >= 2 // The program may have chosen version 1 before.
            host.library = "Boost.Fiber " BOOST_LIB_VERSION;
#endif
            return host;
        }();
        return &made;
    }

    void poll(std::int64_t nanoseconds) noexcept
    {
        in_scheduler_ = true;
        shim_.poll(thread_, nanoseconds);
        in_scheduler_ = false;
    }

    // Only for a process whose fibers all run on this thread: other threads may wake fibers.
    void check_deadlock() noexcept
    {
        in_scheduler_ = true;
        if (parked_ > 0 && aioshim_is_deadlock(&shim_, thread_, 0)) {
            std::fprintf(stderr,
                         "aioshim: Boost.Fiber: deadlock: %u fibers wait for locks, and nothing "
                         "can wake any of them\n",
                         parked_);
            std::abort();
        }
        in_scheduler_ = false;
    }

  public:
    aioshim_fiber_thread() = default;
    aioshim_fiber_thread(const aioshim_fiber_thread &) = delete;
    aioshim_fiber_thread &operator=(const aioshim_fiber_thread &) = delete;
    ~aioshim_fiber_thread() { detach(); }

    bool attached() const { return thread_ != nullptr; }

    void attach() noexcept
    {
        if (!thread_ && aioshim_find(&shim_) && shim_.attach(table(), this, &thread_) != 0)
            thread_ = nullptr;
    }

    void detach() noexcept
    {
        if (thread_ && shim_.detach(thread_) == 0)
            thread_ = nullptr;
    }

    void wake() noexcept { shim_.wake(thread_); }

    void awakened(const context *c) noexcept
    {
        if (!is_dispatcher(c))
            ready_++;
    }

    // Before the algorithm chooses the next fiber. The dispatcher does so once a round.
    void begin_pick() noexcept
    {
        if (thread_ && is_dispatcher(context::active()))
            poll(0);
    }

    void picked(const context *c) noexcept
    {
        if (c && !is_dispatcher(c))
            ready_--;
    }

    // Sleeps until a fiber can run or the time has come.
    void suspend_until(const clock::time_point &time) noexcept
    {
        if (time == (clock::time_point::max)()) {
            check_deadlock();
            poll(-1);
            return;
        }
        std::chrono::nanoseconds left = time - clock::now();
        poll((std::max)(std::int64_t{ 0 }, std::int64_t{ left.count() }));
    }
};

class aioshim_round_robin : public boost::fibers::algo::round_robin
{
    using base = boost::fibers::algo::round_robin;
    using context = boost::fibers::context;

    aioshim_fiber_thread thread_;

  public:
    aioshim_round_robin() { thread_.attach(); }

    void awakened(context *c) noexcept override
    {
        thread_.awakened(c);
        base::awakened(c);
    }

    context *pick_next() noexcept override
    {
        thread_.begin_pick();
        context *next = base::pick_next();
        thread_.picked(next);
        return next;
    }

    void suspend_until(std::chrono::steady_clock::time_point const &time) noexcept override
    {
        if (thread_.attached())
            thread_.suspend_until(time);
        else
            base::suspend_until(time);
    }

    void notify() noexcept override
    {
        if (thread_.attached())
            thread_.wake();
        else
            base::notify();
    }
};

#endif
