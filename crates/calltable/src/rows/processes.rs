//! Rows: processes and the state of a thread. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! processes {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Calls that make children without fork handlers" {
        // clone is variadic in C, like syscall.
        fn clone, __clone(
            entry: calls::clone::Entry, stack: *mut c_void, flags: c_int, argument: *mut c_void,
            parent_id: *mut c_void, tls: *mut c_void, child_id: *mut c_void
        ) -> c_int
            => Everywhere(calls::clone::clone), system_call(SYS_clone),
               waits(CHILD, if_flag(0, CLONE_VFORK));
        fn _Fork() -> pid_t
            => Everywhere(calls::clone::fork), otherwise(calls::clone::fallback_fork);
    }

    "Changes of the thread: its rights, namespaces, filters and priorities" {
        // Variadic in C, like syscall.
        fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int
            => Everywhere(calls::thread_state::prctl);
        fn unshare(flags: c_int) -> c_int
            => Everywhere(calls::thread_state::unshare);
        fn setns(fd: c_int, kind: c_int) -> c_int
            => Everywhere(calls::thread_state::setns);
        fn capset(header: *mut c_void, data: *const c_void) -> c_int
            => Everywhere(calls::thread_state::capset);
        fn setfsuid(user: uid_t) -> c_int
            => Everywhere(calls::thread_state::set_file_owner);
        fn setfsgid(group: gid_t) -> c_int
            => Everywhere(calls::thread_state::set_file_owner);
        fn setpriority(which: c_int, who: id_t, priority: c_int) -> c_int
            => Everywhere(calls::thread_state::setpriority);
        fn nice(step: c_int) -> c_int
            => Everywhere(calls::thread_state::nice);
        fn sched_setscheduler, __sched_setscheduler(
            pid: pid_t, policy: c_int, parameters: *const c_void
        ) -> c_int
            => Everywhere(calls::thread_state::sched_setscheduler);
        fn sched_setparam(pid: pid_t, parameters: *const c_void) -> c_int
            => Everywhere(calls::thread_state::sched_setparam);
        fn sched_setaffinity(pid: pid_t, n: size_t, set: *const c_void) -> c_int
            => Everywhere(calls::thread_state::sched_setaffinity);
    }

    "Processes" {
        fn wait, __wait(status: *mut c_int) -> pid_t
            => Convert(calls::process::wait), cancellation_point;
        fn waitpid, __waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t
            => Convert(calls::process::waitpid), cancellation_point;
        fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t
            => Convert(calls::process::wait3), cancellation_point;
        fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t
            => Convert(calls::process::wait4), number(SYS_wait4),
               waits(CHILD, unless_flag(2, WNOHANG)), cancellation_point;
        fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int
            => Convert(calls::process::waitid), number(SYS_waitid, waitid),
               waits(CHILD, unless_flag(3, WNOHANG)), cancellation_point;
        fn system(command: *const c_char) -> c_int
            => Convert(calls::system::system);
        // Variadic in C, like open.
        fn ptrace(request: c_long, pid: pid_t, address: *mut c_void, data: *mut c_void) -> c_long
            => Convert(calls::process::ptrace), passes;
    }
        } }
    };
}
