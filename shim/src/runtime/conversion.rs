//! Which calls of a thread are converted. The host and the options decide that at the attach; later
//! changes of the thread's privileges, seccomp filters and forks restrict it.

use crate::host::Host;
use crate::state::{options, sanitizers};
use std::cell::Cell;

pub struct Conversion {
    /// Whether calls on locks are converted on its fibers.
    locks: bool,
    /// Whether a lock hook may return at once, because calls are neither recorded nor passed
    /// through.
    fast_path: bool,
    /// Whether all calls pass through to libc, because the shim cannot make system calls of its own
    /// in the thread's current state.
    passes_through: Cell<bool>,
    /// In the child of fork, until its host attaches the thread again: calls pass through, because
    /// the host may run other fibers.
    awaits_host: Cell<bool>,
    /// In the child of fork, if the thread could not be replaced by a new one: it can no longer
    /// wait.
    defunct: Cell<bool>,
}

impl Conversion {
    /// For a thread of `host`; `watched` says whether its calls are recorded.
    pub fn new(host: &Host, watched: bool) -> Self {
        let locks =
            options::current().locks && !host.leaves_locks() && !sanitizers::watches_locks();
        Self {
            locks,
            fast_path: locks && !watched,
            passes_through: Cell::new(false),
            awaits_host: Cell::new(false),
            defunct: Cell::new(false),
        }
    }

    /// Whether calls on locks are converted on the thread's fibers.
    #[inline(always)]
    pub fn includes_locks(&self) -> bool {
        self.locks
    }

    /// Whether a hook may return without starting a recorded call.
    #[inline(always)]
    pub fn allows_fast_path(&self) -> bool {
        self.fast_path
    }

    /// Whether all of the thread's calls pass through to libc.
    pub fn passes_through(&self) -> bool {
        self.passes_through.get()
    }

    pub fn set_passes_through(&self, passes_through: bool) {
        self.passes_through.set(passes_through);
    }

    /// Whether this thread is in the child of fork and its host may attach it again.
    pub fn awaits_host(&self) -> bool {
        self.awaits_host.get()
    }

    pub fn set_awaits_host(&self) {
        self.awaits_host.set(true);
    }

    /// Whether the thread can no longer wait.
    pub fn is_defunct(&self) -> bool {
        self.defunct.get()
    }

    /// In the child of fork, if the thread could not be replaced by a new one: its polls return at
    /// once from now on.
    pub fn set_defunct(&self) {
        self.defunct.set(true);
    }
}
