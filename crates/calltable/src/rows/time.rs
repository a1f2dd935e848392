//! Rows: sleeping, and waiting for signals. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! time {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Time and signals" {
        fn nanosleep, __nanosleep(time: *const timespec, left: *mut timespec) -> c_int
            => Convert(calls::sleep::nanosleep), number(SYS_nanosleep), waits(TIME),
               cancellation_point, any_thread;
        fn usleep(microseconds: c_uint) -> c_int
            => Convert(calls::sleep::usleep), cancellation_point, any_thread;
        fn sleep(seconds: c_uint) -> c_uint
            => Convert(calls::sleep::sleep), cancellation_point, any_thread;
        fn clock_nanosleep(
            clock: c_int, flags: c_int, time: *const timespec, left: *mut timespec
        ) -> c_int
            => Convert(calls::sleep::clock_nanosleep), number(SYS_clock_nanosleep, clock_nanosleep),
               waits(TIME), cancellation_point, any_thread, version("GLIBC_2.17");
        fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int
            => Convert(calls::sleep::thrd_sleep), cancellation_point, any_thread;
        fn pause() -> c_int
            => Convert(calls::signal::pause), number(old SYS_pause), waits(SIGNAL),
               cancellation_point;
        fn sigsuspend, __sigsuspend(mask: *const sigset_t) -> c_int
            => Convert(calls::signal::sigsuspend), number(SYS_rt_sigsuspend, sigsuspend),
               waits(SIGNAL), cancellation_point;
        fn sigpause(mask: c_int) -> c_int
            => Convert(calls::signal::sigpause);
        fn __sigpause(what: c_int, is_signal: c_int) -> c_int
            => Convert(calls::signal::sigpause_either);
        fn __xpg_sigpause(signal: c_int) -> c_int
            => Convert(calls::signal::sigpause_one);
        fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int
            => Convert(calls::signal::sigwait), cancellation_point;
        fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int
            => Convert(calls::signal::sigwaitinfo), cancellation_point;
        fn sigtimedwait, __sigtimedwait(
            set: *const sigset_t, info: *mut siginfo_t, timeout: *const timespec
        ) -> c_int
            => Convert(calls::signal::sigtimedwait), system_call(SYS_rt_sigtimedwait),
               waits(SIGNAL), cancellation_point;
    }
        } }
    };
}
