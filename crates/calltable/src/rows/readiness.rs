//! Rows: waiting for readiness. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! readiness {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Waiting for readiness" {
        fn poll, __poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int
            => Convert(calls::poll::poll), number(old SYS_poll), waits(EVENT, unless_zero(2)),
               cancellation_point, any_thread;
        fn __poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, object: size_t) -> c_int
            => Convert(calls::poll::poll_chk), cancellation_point, any_thread;
        fn ppoll(
            fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t
        ) -> c_int
            => Convert(calls::poll::ppoll), number(SYS_ppoll, ppoll), waits(EVENT),
               cancellation_point, any_thread;
        fn __ppoll_chk(
            fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t,
            object: size_t
        ) -> c_int
            => Convert(calls::poll::ppoll_chk), cancellation_point, any_thread;
        fn select, __select(
            n: c_int, readable: *mut fd_set, writable: *mut fd_set, exceptional: *mut fd_set,
            timeout: *mut timeval
        ) -> c_int
            => Convert(calls::select::select), number(old SYS_select), waits(EVENT),
               cancellation_point, any_thread;
        fn pselect(
            n: c_int, readable: *mut fd_set, writable: *mut fd_set, exceptional: *mut fd_set,
            timeout: *const timespec, mask: *const sigset_t
        ) -> c_int
            => Convert(calls::select::pselect), system_call(SYS_pselect6), waits(EVENT),
               cancellation_point, any_thread;
        fn epoll_wait(epoll: c_int, events: *mut epoll_event, n: c_int, timeout: c_int) -> c_int
            => Convert(calls::poll::epoll_wait), number(old SYS_epoll_wait),
               waits(EVENT, unless_zero(3)), cancellation_point, any_thread;
        fn epoll_pwait(
            epoll: c_int, events: *mut epoll_event, n: c_int, timeout: c_int, mask: *const sigset_t
        ) -> c_int
            => Convert(calls::poll::epoll_pwait), number(SYS_epoll_pwait, epoll_pwait),
               waits(EVENT, unless_zero(3)), cancellation_point, any_thread;
        fn epoll_pwait2(
            epoll: c_int, events: *mut epoll_event, n: c_int, timeout: *const timespec,
            mask: *const sigset_t
        ) -> c_int
            => Convert(calls::poll::epoll_pwait2), system_call(SYS_epoll_pwait2), waits(EVENT),
               cancellation_point, any_thread, otherwise(calls::poll::fallback_epoll_pwait2);
    }
        } }
    };
}
