// SPDX-License-Identifier: MIT
// aioshim.hpp - attaches a scheduler that is written in C++14 or later to libaioshim.so.
//
// A scheduler derives from aioshim::Host and defines five functions:
//
//     class Scheduler : public aioshim::Host<Scheduler> {
//     public:
//         Fiber *running() noexcept;                the running fiber, or nullptr
//         void park() noexcept;                     switches away from it
//         void unpark(void *fiber) noexcept;        makes it runnable
//         unsigned runnable() noexcept;             how many could run
//         void wake() noexcept;                     from any thread; usually wake_thread()
//
// and may define others: alone, watch, name, cancelled, yield, counts, and the constants
// keeps_runtimes, flags and library. The table has only the callbacks that the class defines.
// attach() attaches the calling OS thread; the destructor of the Attachment that it returns
// detaches it. Everything is declared noexcept, because no exception may pass through the shim.
//
// docs/hosts.md explains what each function must do, docs/host-table.md has the details.
#ifndef AIOSHIM_HPP
#define AIOSHIM_HPP

#ifndef AIOSHIM_USE_VERSION
#define AIOSHIM_USE_VERSION 2
#endif
#if AIOSHIM_USE_VERSION < 2
#error "aioshim.hpp needs version 2 of the table"
#endif

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "aioshim_host.h"

namespace aioshim
{

// The functions of the shim, found once; functions().attach is null if it is not preloaded.
inline const aioshim_functions_t &functions() noexcept
{
    static const aioshim_functions_t found = [] {
        aioshim_functions_t functions;
        aioshim_find(&functions);
        return functions;
    }();
    return found;
}

// Whether the shim is preloaded.
inline bool is_preloaded() noexcept { return functions().attach != nullptr; }

// Whether the shim is preloaded and supports these AIOSHIM_HOST_* and AIOSHIM_FEATURE_* bits.
inline bool supports(std::uint64_t features) noexcept
{
    return is_preloaded() && aioshim_supports(&functions(), features);
}

// An attached thread: detaches it at its end. May be empty, because the shim is not preloaded or
// has refused; error() says why. Functions of an empty one do nothing. Use it on its own thread,
// except wake and is_asleep.
class Attachment
{
  public:
    Attachment() noexcept = default;
    Attachment(aioshim_thread_t *thread, int error) noexcept : thread_(thread), error_(error) {}
    Attachment(Attachment &&other) noexcept
        : thread_(std::exchange(other.thread_, nullptr)), error_(other.error_)
    {
    }
    Attachment &operator=(Attachment &&other) noexcept
    {
        if (this != &other) {
            detach();
            thread_ = std::exchange(other.thread_, nullptr);
            error_ = other.error_;
        }
        return *this;
    }
    Attachment(const Attachment &) = delete;
    Attachment &operator=(const Attachment &) = delete;
    ~Attachment() { detach(); }

    explicit operator bool() const noexcept { return thread_ != nullptr; }
    // 0, or the error number of aioshim_attach; ENOSYS without the shim.
    int error() const noexcept { return error_; }
    aioshim_thread_t *handle() const noexcept { return thread_; }

    // Returns 0, or EBUSY if fibers are parked in the shim: it stays attached then.
    int detach() noexcept
    {
        int error = thread_ ? functions().detach(thread_) : 0;
        if (error == 0)
            thread_ = nullptr;
        return error;
    }
    void prepare() const noexcept
    {
        if (thread_ && functions().prepare)
            functions().prepare(thread_);
    }
    // Submits, and unparks the fibers whose operations are complete.
    int poll() const noexcept { return poll_ns(0); }
    // Also waits for up to this time.
    int poll(std::chrono::nanoseconds limit) const noexcept
    {
        return poll_ns(limit.count() > 0 ? limit.count() : 0);
    }
    // Also waits without limit. Without the shim it returns at once.
    int poll_forever() const noexcept { return poll_ns(-1); }
    void wake() const noexcept
    {
        if (thread_)
            functions().wake(thread_);
    }
    // The descriptor for the scheduler's own event loop, or -1.
    int fd() const noexcept { return thread_ && functions().fd ? functions().fd(thread_) : -1; }
    // See aioshim_arm; -1 without the shim.
    std::int64_t arm() const noexcept
    {
        return thread_ && functions().arm ? functions().arm(thread_) : -1;
    }
    // ENOSYS if the library in use lacks it.
    int watch_fd(int fd, std::uint32_t events) const noexcept
    {
        return thread_ && functions().watch_fd ? functions().watch_fd(thread_, fd, events) : ENOSYS;
    }
    // Whether the fiber's wait was ended, as aioshim_cancel and aioshim_expire do.
    bool cancel(const void *fiber) const noexcept
    {
        return thread_ && functions().cancel && functions().cancel(thread_, fiber) == 0;
    }
    bool expire(const void *fiber) const noexcept
    {
        return thread_ && functions().expire && functions().expire(thread_, fiber) == 0;
    }
    void leaving() const noexcept
    {
        if (thread_ && functions().leaving)
            functions().leaving(thread_);
    }
    void ended(void *fiber) const noexcept
    {
        if (thread_ && functions().ended)
            functions().ended(thread_, fiber);
    }
    std::size_t in_flight() const noexcept { return thread_ ? functions().in_flight(thread_) : 0; }
    bool all_blocked() const noexcept
    {
        return thread_ && functions().all_blocked && functions().all_blocked(thread_);
    }
    bool is_asleep() const noexcept
    {
        return thread_ && functions().is_asleep && functions().is_asleep(thread_);
    }
    // For a scheduler with one thread and without timers, when nothing is runnable.
    bool is_deadlock() const noexcept
    {
        return thread_ && aioshim_is_deadlock(&functions(), thread_, 0);
    }
    // What a parked fiber waits for; empty if it is not parked in the shim.
    std::string describe(const void *fiber) const
    {
        char text[128] = "";
        if (thread_)
            functions().describe(thread_, fiber, text, sizeof text);
        return text;
    }

  private:
    int poll_ns(std::int64_t limit) const noexcept
    {
        return thread_ ? functions().poll(thread_, limit) : 0;
    }

    aioshim_thread_t *thread_ = nullptr;
    int error_ = ENOSYS;
};

// Keeps errno, C++ exceptions and the locale of the running fiber over a switch that the shim does
// not see. Make it before the switch; resume(attachment) after it, on the thread that runs then.
class SavedValues
{
  public:
    explicit SavedValues(const Attachment &here) noexcept
        : saved_(here && functions().save && functions().restore)
    {
        if (saved_)
            functions().save(here.handle(), &values_);
    }
    SavedValues(const SavedValues &) = delete;
    SavedValues &operator=(const SavedValues &) = delete;
    void restore(const Attachment &here) noexcept
    {
        if (saved_ && here)
            functions().restore(here.handle(), &values_);
        saved_ = false;
    }

  private:
    aioshim_values_t values_;
    bool saved_;
};

namespace detail
{

template <typename...> using Void = void;

// Declares Callback<S>, the optional callback `verb` of the table: null if the class S lacks it.
// After the name: the callback's result, the parameters behind `data`, and their names.
#define AIOSHIM_OPTIONAL(verb, result, parameters, arguments)                                \
    template <typename S, typename = void> struct verb##_of {                                \
        static constexpr std::nullptr_t callback = nullptr;                                  \
    };                                                                                       \
    template <typename S> struct verb##_of<S, Void<decltype(&S::verb)>> {                    \
        static result callback parameters { return static_cast<S *>(data)->verb arguments; } \
    };

AIOSHIM_OPTIONAL(alone, int, (void *data), ())
AIOSHIM_OPTIONAL(watch, void, (void *data, aioshim_watch_t *out), (out))
AIOSHIM_OPTIONAL(name, std::size_t, (void *data, const void *fiber, char *buf, std::size_t len),
                 (fiber, buf, len))
AIOSHIM_OPTIONAL(cancelled, void, (void *data), ())
AIOSHIM_OPTIONAL(yield, void, (void *data), ())
AIOSHIM_OPTIONAL(counts, void, (void *data, aioshim_counts_t *out), (out))

#undef AIOSHIM_OPTIONAL

template <typename S, typename = void> struct flags_of {
    static constexpr std::uint64_t value = 0;
};
template <typename S> struct flags_of<S, Void<decltype(S::flags)>> {
    static constexpr std::uint64_t value = S::flags;
};
template <typename S, typename = void> struct keeps_runtimes_of {
    static constexpr bool value = false;
};
template <typename S> struct keeps_runtimes_of<S, Void<decltype(S::keeps_runtimes)>> {
    static constexpr bool value = S::keeps_runtimes;
};
template <typename S, typename = void> struct library_of {
    static const char *value() { return nullptr; }
};
template <typename S> struct library_of<S, Void<decltype(S::library)>> {
    static const char *value() { return S::library; }
};

} // namespace detail

// The base of a scheduler S; one object for each OS thread that runs fibers.
template <typename S> class Host
{
  public:
    // Attaches the calling thread. The object must outlive the attachment.
    Attachment attach() noexcept
    {
        if (!is_preloaded())
            return {};
        static const aioshim_host_t table = make_table();
        aioshim_thread_t *thread = nullptr;
        int error = functions().attach(&table, static_cast<S *>(this), &thread);
        return { error ? nullptr : thread, error };
    }

  protected:
    Host() = default;
    ~Host() = default;

  private:
    static S *of(void *data) noexcept { return static_cast<S *>(data); }

    static aioshim_host_t make_table() noexcept
    {
        static_assert(
            noexcept(std::declval<S &>().park()) &&noexcept(std::declval<S &>().unpark(nullptr))
                &&noexcept(std::declval<S &>().running()) &&noexcept(
                    std::declval<S &>().runnable()) &&noexcept(std::declval<S &>().wake()),
            "the five callbacks must be noexcept: no exception may leave them");
        aioshim_host_t table{};
        table.size = sizeof table;
        table.running = [](void *data) -> void * { return of(data)->running(); };
        table.park = [](void *data) { of(data)->park(); };
        table.unpark = [](void *data, void *fiber) { of(data)->unpark(fiber); };
        table.runnable = [](void *data) -> unsigned { return of(data)->runnable(); };
        table.wake = [](void *data) { of(data)->wake(); };
        table.alone = detail::alone_of<S>::callback;
        table.watch = detail::watch_of<S>::callback;
        table.name = detail::name_of<S>::callback;
        table.cancelled = detail::cancelled_of<S>::callback;
        table.keeps_runtimes = detail::keeps_runtimes_of<S>::value;
        table.flags = detail::flags_of<S>::value;
        table.yield = detail::yield_of<S>::callback;
        table.library = detail::library_of<S>::value();
        table.counts = detail::counts_of<S>::callback;
        return table;
    }
};

} // namespace aioshim

#endif
