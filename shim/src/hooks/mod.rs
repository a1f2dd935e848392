//! The exported functions that have a row in the call table.
//!
//! [`calltable`] holds the rows. From each name of a row, [`expand`] makes the exported function, a
//! module with the libc function, and the types that [`enter`] and [`routes`] are generic over. A
//! call takes this way:
//!
//! 1. The exported function calls [`enter::enter`]. Off a fiber it jumps to the libc function.
//! 2. [`enter::attached`] begins a [`Call`] and follows the route of the row ([`routes`]), which
//!    leads to a function of [`crate::calls`]. Its [`Verdict`] becomes the result and errno.
//! 3. If the verdict leaves the call to libc, the libc function is called.
//!
//! Off a fiber, a hook costs one thread-local load, a branch and a jump to libc. It allocates
//! nothing, takes no lock and prints nothing.

mod enter;
mod entries;
mod function;
mod late;
mod next;
mod numbers;
mod routes;
#[macro_use]
mod expand;

pub use entries::*;
pub use next::collect as collect_libraries;

// Names that the rows and their expansion use.
use crate::calls::directory::{Compare, Filter};
use crate::calls::walk::{Fts, FtwVisit, GlobError, NftwVisit};
use crate::calls::{self, Verdict};
use crate::context::Slot;
use crate::runtime::call::Call;
use crate::runtime::thread::Thread;
use crate::state::descriptors;
use crate::state::loaded::{self, Object};
use enter::{Charge, Hook};
use function::{Function, c_string};
use libc::{
    DIR, FILE, LIO_WAIT, clockid_t, dev_t, epoll_event, fd_set, gid_t, id_t, idtype_t, iovec,
    mmsghdr, mode_t, msghdr, nfds_t, off_t, pid_t, pollfd, rusage, siginfo_t, sigset_t, size_t,
    sockaddr, socklen_t, ssize_t, timespec, timeval, uid_t,
};
use libc::{
    pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, pthread_t, sem_t,
};
use numbers::ByNumber;
use policy::CallKind;
use routes::Converted;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

calltable::with_rows!(hooks);

/// The index of [`crate::calls::results::h_errno`].
pub const H_ERRNO: usize = Index::__h_errno_location as usize;

/// Finds out which names other libraries interpose, unless that was done. Whoever attaches a thread
/// calls this, or start-up, if only the loader can look names up; then all names are looked up,
/// because no fiber may wait for the loader in the middle of a call.
pub fn bind() {
    static BOUND: AtomicBool = AtomicBool::new(false);
    if BOUND.swap(true, Relaxed) {
        return;
    }
    let objects: Vec<_> = loaded::behind().collect();
    if !loaded::is_readable() || next::may_interpose(&objects) {
        bind_each(&objects);
        mark_each();
    }
}
