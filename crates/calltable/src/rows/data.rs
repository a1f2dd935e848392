//! Rows: the contents of files. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! data {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Data: what else is done to a file's contents" {
        fn truncate, truncate64(path: *const c_char, length: off_t) -> c_int
            => Adaptive(Space, libc::AT_FDCWD), system_call(SYS_truncate), waits(DISK);
        fn ftruncate, ftruncate64(fd: c_int, length: off_t) -> c_int
            => Adaptive(Space, fd), number(SYS_ftruncate), waits(DISK);
        fn fallocate, fallocate64(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int
            => Adaptive(Space, fd), number(SYS_fallocate), waits(DISK), cancellation_point;
        fn posix_fallocate, posix_fallocate64(fd: c_int, offset: off_t, length: off_t) -> c_int
            => WithLibc(calls::space::posix_fallocate), cancellation_point, any_thread;
        fn posix_fadvise, posix_fadvise64(
            fd: c_int, offset: off_t, length: off_t, advice: c_int
        ) -> c_int
            => Adaptive(Space, fd);
        fn readahead(fd: c_int, offset: off_t, n: size_t) -> ssize_t
            => Adaptive(Space, fd);
        fn sync() -> ()
            => Adaptive(Flush, calls::via::adaptive::NO_FILE), system_call(SYS_sync), waits(DISK);
        fn syncfs(fd: c_int) -> c_int
            => Adaptive(Flush, fd), number(SYS_syncfs), waits(DISK);
        fn sync_file_range(fd: c_int, offset: off_t, length: off_t, flags: c_uint) -> c_int
            => WithLibc(calls::space::sync_file_range), number(SYS_sync_file_range), waits(DISK),
               cancellation_point, any_thread;
        fn msync(memory: *mut c_void, length: size_t, flags: c_int) -> c_int
            => WithLibc(calls::space::msync), number(SYS_msync), waits(DISK), cancellation_point,
               any_thread;
        fn copy_file_range(
            from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, n: size_t,
            flags: c_uint
        ) -> ssize_t
            => WithLibc(calls::splice::copy_file_range), number(SYS_copy_file_range), waits(ROOM),
               cancellation_point, any_thread;
        fn sendfile, sendfile64(to: c_int, from: c_int, from_at: *mut off_t, n: size_t) -> ssize_t
            => WithLibc(calls::splice::sendfile), number(SYS_sendfile), waits(ROOM),
               cancellation_point, any_thread;
        fn splice(
            from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, n: size_t,
            flags: c_uint
        ) -> ssize_t
            => WithLibc(calls::splice::splice), number(SYS_splice),
               waits(DATA, unless_flag(5, SPLICE_F_NONBLOCK)), cancellation_point, any_thread;
        fn tee(from: c_int, to: c_int, n: size_t, flags: c_uint) -> ssize_t
            => WithLibc(calls::splice::tee), number(SYS_tee),
               waits(DATA, unless_flag(3, SPLICE_F_NONBLOCK)), cancellation_point, any_thread;
        fn vmsplice(pipe: c_int, iov: *const iovec, n: size_t, flags: c_uint) -> ssize_t
            => WithLibc(calls::splice::vmsplice), number(SYS_vmsplice),
               waits(DATA, unless_flag(3, SPLICE_F_NONBLOCK)), cancellation_point, any_thread;
        fn flock(fd: c_int, operation: c_int) -> c_int
            => WithLibc(calls::flock::flock), number(SYS_flock),
               waits(LOCK, unless_flag(1, LOCK_NB)), any_thread;
        fn lockf, lockf64(fd: c_int, command: c_int, length: off_t) -> c_int
            => WithLibc(calls::flock::lockf), cancellation_point, any_thread;
    }
        } }
    };
}
