//! Rows: sockets. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! sockets {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Sockets" {
        fn recv, __recv(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int) -> ssize_t
            => Convert(calls::net::recv), cancellation_point, any_thread;
        fn __recv_chk(
            fd: c_int, buf: *mut c_void, n: size_t, object: size_t, flags: c_int
        ) -> ssize_t
            => Convert(calls::net::recv_chk), cancellation_point, any_thread;
        fn recvfrom(
            fd: c_int, buf: *mut c_void, n: size_t, flags: c_int, address: *mut sockaddr,
            len: *mut socklen_t
        ) -> ssize_t
            => Convert(calls::net::recvfrom), number(SYS_recvfrom),
               waits(DATA, unless_flag(3, MSG_DONTWAIT)), cancellation_point, any_thread;
        fn __recvfrom_chk(
            fd: c_int, buf: *mut c_void, n: size_t, object: size_t, flags: c_int,
            address: *mut sockaddr, len: *mut socklen_t
        ) -> ssize_t
            => Convert(calls::net::recvfrom_chk), cancellation_point, any_thread;
        fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t
            => Convert(calls::net::recvmsg), number(SYS_recvmsg),
               waits(DATA, unless_flag(2, MSG_DONTWAIT)), cancellation_point, any_thread;
        fn recvmmsg(
            fd: c_int, messages: *mut mmsghdr, n: c_uint, flags: c_int, limit: *mut timespec
        ) -> c_int
            => Convert(calls::mmsg::recvmmsg), number(SYS_recvmmsg),
               waits(DATA, unless_flag(3, MSG_DONTWAIT)), cancellation_point, any_thread;
        fn send, __send(fd: c_int, buf: *const c_void, n: size_t, flags: c_int) -> ssize_t
            => Convert(calls::net::send), cancellation_point, any_thread;
        fn sendto(
            fd: c_int, buf: *const c_void, n: size_t, flags: c_int, address: *const sockaddr,
            len: socklen_t
        ) -> ssize_t
            => Convert(calls::net::sendto), number(SYS_sendto),
               waits(ROOM, unless_flag(3, MSG_DONTWAIT)), cancellation_point, any_thread;
        fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t
            => Convert(calls::net::sendmsg), number(SYS_sendmsg),
               waits(ROOM, unless_flag(2, MSG_DONTWAIT)), cancellation_point, any_thread;
        fn sendmmsg, __sendmmsg(fd: c_int, messages: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int
            => Convert(calls::mmsg::sendmmsg), number(SYS_sendmmsg),
               waits(ROOM, unless_flag(3, MSG_DONTWAIT)), cancellation_point, any_thread;
        fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int
            => Convert(calls::connect::accept), number(SYS_accept), waits(PEER), cancellation_point,
               any_thread;
        fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int
            => Convert(calls::connect::accept4), number(SYS_accept4), waits(PEER),
               cancellation_point, any_thread;
        fn connect, __connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int
            => Convert(calls::connect::connect), number(SYS_connect), waits(PEER),
               cancellation_point, any_thread;
    }
        } }
    };
}
