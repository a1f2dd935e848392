//! The call table: one row for each libc call that the shim interposes, with all of its names.
//!
//! The rows are written once, in the files of `rows/`, and everything that needs to know them is
//! made from them. [`ROWS`] and [`NAMES`] hold their facts as data, for the statistics, the
//! cancellation points, the tracer of unhooked calls, docs/calls.md and the tests. The shim passes
//! the same rows to its own macro ([`with_rows`]), which makes the exported functions, the lookup
//! of the libc functions and the map of system call numbers.
//!
//! A row looks like this:
//!
//! ```text
//! fn read, __read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t
//!     => Convert(calls::rw::read), number(SYS_read), waits(DATA), cancellation_point, any_thread;
//! ```
//!
//! After the names and the signature comes the route, which says how a call is made on a fiber:
//!
//! - `Convert(function)`: by this function of the shim. It returns a result, or the reason to leave
//!   the call to libc. An interrupted call is restarted.
//! - `WithLibc(function)`: the same, but the function gets the libc function as an argument.
//! - `Offload`: the libc function runs on a pool thread.
//! - `Adaptive(kind, file)`: the libc function runs inline as long as such calls are quick, and on
//!   a pool thread otherwise. A second descriptor may follow. Neither descriptor is closed before
//!   the pool thread has made the call.
//! - `Recorded(twin)`: the reentrant twin runs, with its result in memory that belongs to the
//!   fiber; `Recorded(twin, h_errno)` if the twin also stores an `h_errno`. `RecordedBy(function)`
//!   is the same by a function of the shim.
//! - `Copied`: the libc function does not block; its result is copied to memory that belongs to
//!   the fiber. `CopiedBy(function)` is the same by a function of the shim.
//! - `Everywhere(function)`: by this function of the shim, on a fiber and off. It gets libc's own
//!   function as an argument. Nothing else is done for the call.
//!
//! Then come the facts, which are data here:
//!
//! - `number(SYS_x)`: the system call of this call, by which syscall(2) makes it as well.
//!   `number(SYS_x, function)` names a function of the shim that decides from the arguments whether
//!   it is the same call. `old` before the number marks system calls that newer architectures lack.
//! - `system_call(SYS_x)`: the system call that libc makes. The shim does not convert it if the
//!   program makes it by number.
//! - `waits(event)`: what the system call can wait for, and the condition under which it does.
//! - `cancellation_point`: a cancelled fiber may end in this call, as pthreads(7) says.
//! - `lock`: the call is about a lock; AIOSHIM_LOCKS=off leaves it to libc.
//! - `uncharged`: the call does not count against the fiber's quantum. Calls about locks do not,
//!   either.
//! - `any_thread`: if another preloaded library interposes the function, a pool thread may call it.
//! - `passes`: the shim does something before the call, then passes it through to libc.
//! - `renames`: the call may change the file that a path names.
//! - `without_case(reason)`: why `testprogs/c/blocking.c` has no case for the call.
//!
//! And the functions of the shim that take part, which only the shim's macro reads:
//!
//! - `file(expression)`: the descriptor that an offloaded call is about.
//! - `when(condition)`: an offloaded call may block only under this condition; otherwise it runs
//!   inline.
//! - `forgets(expression)`: forgets the cached facts about the descriptor that the call closes or
//!   changes. The result is Some if the descriptor belongs to the shim; the libc function is then
//!   not called, and the call fails with EBADF.
//! - `instead(function)`: asked first, wherever the call is made. If it gives a result, nothing
//!   else happens.
//! - `first(function)`: may answer at once on an attached thread. Such an answer is only counted if
//!   calls are being timed.
//! - `early(function)`: may answer on an attached thread before the call begins, unless calls are
//!   being timed. Such an answer is counted.
//! - `by(function)`: the function through which the libc function is called, on a fiber and off.
//! - `unbound(function)`: makes the call before the libc function is found, for calls that dlsym
//!   itself makes.
//! - `version("GLIBC_x")`: the symbol version of the libc function, for names with older versions
//!   that dlsym might find.
//! - `otherwise(function)`: replaces a function that this libc lacks.

#![forbid(unsafe_code)]

mod exports;
mod fact;
mod row;
mod rows;
mod wait;

pub use exports::{EXPORTS, Export};
pub use row::{
    COUNT, NAMES, Name, Next, ROWS, Route, Row, c_name, index_of, is_cancellation_point, name, next,
};
pub use wait::{Condition, Wait, wait_of};

/// Calls the macro `callback` with all rows, grouped by sections of docs/calls.md.
#[macro_export]
macro_rules! with_rows {
    ($callback:ident) => {
        $crate::next_rows! { { $callback } {
            reads_and_writes descriptors sockets readiness time processes metadata data directories
            name_services ipc locks statics streams
        } {} }
    };
}

/// Passes the rows collected so far to the next file, or to the callback after the last one.
#[doc(hidden)]
#[macro_export]
macro_rules! next_rows {
    ({ $callback:ident } {} $rows:tt) => {
        $callback! $rows
    };
    ($callback:tt { $file:ident $($more:ident)* } $rows:tt) => {
        $crate::$file! { $callback { $($more)* } $rows }
    };
}
