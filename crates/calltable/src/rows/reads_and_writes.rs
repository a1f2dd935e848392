//! Rows: reads and writes. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! reads_and_writes {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Reads and writes" {
        fn read, __read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t
            => Convert(calls::rw::read), number(SYS_read), waits(DATA), cancellation_point,
               any_thread;
        fn __read_chk(fd: c_int, buf: *mut c_void, n: size_t, object: size_t) -> ssize_t
            => Convert(calls::rw::read_chk), cancellation_point, any_thread;
        fn write, __write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t
            => Convert(calls::rw::write), number(SYS_write), waits(ROOM), cancellation_point,
               any_thread;
        fn pread, pread64, __pread64(
            fd: c_int, buf: *mut c_void, n: size_t, offset: off_t
        ) -> ssize_t
            => Convert(calls::rw::pread), early(calls::cached_read::pread), number(SYS_pread64),
               waits(DATA), cancellation_point, any_thread;
        fn __pread_chk, __pread64_chk(
            fd: c_int, buf: *mut c_void, n: size_t, offset: off_t, object: size_t
        ) -> ssize_t
            => Convert(calls::rw::pread_chk), early(calls::cached_read::pread_chk),
               cancellation_point, any_thread;
        fn pwrite, pwrite64, __pwrite64(
            fd: c_int, buf: *const c_void, n: size_t, offset: off_t
        ) -> ssize_t
            => Convert(calls::rw::pwrite), number(SYS_pwrite64), waits(ROOM), cancellation_point,
               any_thread;
        fn readv(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t
            => Convert(calls::rw::readv), number(SYS_readv), waits(DATA), cancellation_point,
               any_thread;
        fn writev(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t
            => Convert(calls::rw::writev), number(SYS_writev), waits(ROOM), cancellation_point,
               any_thread;
        fn preadv, preadv64(fd: c_int, iov: *const iovec, n: c_int, offset: off_t) -> ssize_t
            => Convert(calls::rw::preadv), number(SYS_preadv), waits(DATA), cancellation_point,
               any_thread;
        fn pwritev, pwritev64(fd: c_int, iov: *const iovec, n: c_int, offset: off_t) -> ssize_t
            => Convert(calls::rw::pwritev), number(SYS_pwritev), waits(ROOM), cancellation_point,
               any_thread;
        fn preadv2, preadv64v2(
            fd: c_int, iov: *const iovec, n: c_int, offset: off_t, flags: c_int
        ) -> ssize_t
            => Convert(calls::rw::preadv2), number(SYS_preadv2, preadv2),
               waits(DATA, unless_flag(5, RWF_NOWAIT)), cancellation_point, any_thread;
        fn pwritev2, pwritev64v2(
            fd: c_int, iov: *const iovec, n: c_int, offset: off_t, flags: c_int
        ) -> ssize_t
            => Convert(calls::rw::pwritev2), number(SYS_pwritev2, pwritev2),
               waits(ROOM, unless_flag(5, RWF_NOWAIT)), cancellation_point, any_thread;
    }
        } }
    };
}
