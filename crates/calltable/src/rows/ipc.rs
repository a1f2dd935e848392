//! Rows: interprocess communication and other system calls. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! ipc {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Interprocess communication, and the rest" {
        fn msgrcv(
            queue: c_int, message: *mut c_void, n: size_t, kind: c_long, flags: c_int
        ) -> ssize_t
            => Convert(calls::ipc::msgrcv), number(SYS_msgrcv),
               waits(MESSAGE, unless_flag(4, IPC_NOWAIT)), cancellation_point, any_thread;
        fn msgsnd(queue: c_int, message: *const c_void, n: size_t, flags: c_int) -> c_int
            => Convert(calls::ipc::msgsnd), number(SYS_msgsnd),
               waits(MESSAGE, unless_flag(3, IPC_NOWAIT)), cancellation_point, any_thread;
        fn semop(set: c_int, operations: *mut c_void, n: size_t) -> c_int
            => Convert(calls::ipc::semop), number(SYS_semop), waits(LOCK), cancellation_point,
               any_thread;
        fn semtimedop(
            set: c_int, operations: *mut c_void, n: size_t, limit: *const timespec
        ) -> c_int
            => Convert(calls::ipc::semtimedop), number(SYS_semtimedop), waits(LOCK),
               cancellation_point, any_thread;
        fn mq_receive(
            queue: c_int, message: *mut c_char, n: size_t, priority: *mut c_uint
        ) -> ssize_t
            => Convert(calls::ipc::mq_receive), cancellation_point, any_thread;
        fn mq_timedreceive(
            queue: c_int, message: *mut c_char, n: size_t, priority: *mut c_uint,
            until: *const timespec
        ) -> ssize_t
            => Convert(calls::ipc::mq_timedreceive), number(SYS_mq_timedreceive), waits(MESSAGE),
               cancellation_point, any_thread;
        fn mq_send(queue: c_int, message: *const c_char, n: size_t, priority: c_uint) -> c_int
            => Convert(calls::ipc::mq_send), cancellation_point, any_thread;
        fn mq_timedsend(
            queue: c_int, message: *const c_char, n: size_t, priority: c_uint,
            until: *const timespec
        ) -> c_int
            => Convert(calls::ipc::mq_timedsend), number(SYS_mq_timedsend), waits(MESSAGE),
               cancellation_point, any_thread;
        fn mq_open(
            name: *const c_char, flags: c_int, mode: mode_t, attributes: *const c_void
        ) -> c_int
            => Offload;
        fn __mq_open_2(name: *const c_char, flags: c_int) -> c_int
            => Offload;
        fn mq_unlink(name: *const c_char) -> c_int
            => Offload;
        fn shm_open(name: *const c_char, flags: c_int, mode: mode_t) -> c_int
            => Offload;
        fn shm_unlink(name: *const c_char) -> c_int
            => Offload;
        fn sem_unlink(name: *const c_char) -> c_int
            => Offload;
        fn eventfd_read(fd: c_int, value: *mut c_void) -> c_int
            => Convert(calls::rw::eventfd_read), cancellation_point, any_thread;
        fn eventfd_write(fd: c_int, value: u64) -> c_int
            => Convert(calls::rw::eventfd_write), cancellation_point, any_thread;
        fn getrandom(buf: *mut c_void, n: size_t, flags: c_uint) -> ssize_t
            => Offload, when(calls::random::waits()), system_call(SYS_getrandom),
               waits(ENTROPY, unless_flag(2, GRND_NONBLOCK)), cancellation_point,
               without_case(ENTROPY_ONLY);
        fn getentropy(buf: *mut c_void, n: size_t) -> c_int
            => Offload, when(calls::random::waits()), without_case(ENTROPY_ONLY);
        fn tcdrain(fd: c_int) -> c_int
            => Offload, file(fd), cancellation_point;
        fn tcsendbreak(fd: c_int, duration: c_int) -> c_int
            => Offload, file(fd);
        fn tcsetattr(fd: c_int, actions: c_int, settings: *const c_void) -> c_int
            => Offload, file(fd), when(calls::terminal::drains(actions));
        fn aio_suspend, aio_suspend64(
            list: *const c_void, n: c_int, limit: *const timespec
        ) -> c_int
            => Offload, cancellation_point;
        fn lio_listio, lio_listio64(
            mode: c_int, list: *const c_void, n: c_int, event: *mut c_void
        ) -> c_int
            => Offload, when(mode == LIO_WAIT), version("GLIBC_2.4");
        fn mlock(address: *const c_void, n: size_t) -> c_int
            => Offload;
        fn mlock2(address: *const c_void, n: size_t, flags: c_uint) -> c_int
            => Offload;
        fn mlockall(flags: c_int) -> c_int
            => Offload;
    }

    "System calls by number" {
        // Variadic in C. Up to six arguments are read, the last one from the stack, even if fewer
        // were passed.
        fn syscall(
            number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long
        ) -> c_long
            => Convert(calls::syscall::dispatch), uncharged, instead(numbers::by_number),
               by(calls::syscall::plainly);
    }
        } }
    };
}
