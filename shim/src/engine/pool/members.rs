//! The threads of a crew by their handles. Ends idle threads when the thread that started them is
//! about to change an attribute that they inherited.

use crate::context::Mutex;
use crate::state::spawn::Handle;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// How long idle threads may take to end.
const END_TIMEOUT_NS: u64 = 1_000_000_000;
/// How long busy threads are given. A thread that has just reported the end of its job counts as
/// busy for a moment longer.
const GRACE_NS: u64 = 20_000_000;
const PAUSE_NS: u64 = 20_000;

pub struct Members {
    handles: Mutex<Vec<Handle>>,
    /// Number of threads that run a job.
    busy: AtomicUsize,
}

impl Members {
    pub const fn new() -> Self {
        Self {
            handles: Mutex::new(Vec::new()),
            busy: AtomicUsize::new(0),
        }
    }

    /// Remembers a thread that was started.
    pub fn add(&self, handle: Handle) {
        self.forget_ended();
        self.handles.lock().push(handle);
    }

    /// Forgets the threads that have ended, which frees their stacks.
    pub fn forget_ended(&self) {
        self.handles.lock().retain(|handle| !handle.is_finished());
    }

    pub fn begin_job(&self) {
        self.busy.fetch_add(1, SeqCst);
    }

    pub fn end_job(&self) {
        self.busy.fetch_sub(1, SeqCst);
    }

    fn alive(&self) -> usize {
        let handles = self.handles.lock();
        handles
            .iter()
            .filter(|handle| !handle.is_finished())
            .count()
    }

    /// Calls `wake_one` once for each idle thread, and waits until these have ended. From now on a
    /// thread ends when it has no job.
    pub fn end_idle(&self, wake_one: impl Fn()) {
        for _ in self.busy.load(SeqCst)..self.alive() {
            wake_one();
        }
        let begin = sys::now();
        loop {
            let (alive, waited) = (self.alive(), sys::now() - begin);
            let only_busy = alive <= self.busy.load(SeqCst);
            if alive == 0 || waited > END_TIMEOUT_NS || only_busy && waited > GRACE_NS {
                break;
            }
            sys::pause(PAUSE_NS);
        }
        // libc counts a thread until it is joined.
        let mut handles = self.handles.lock();
        let (ended, others): (Vec<_>, _) = std::mem::take(&mut *handles)
            .into_iter()
            .partition(Handle::is_finished);
        *handles = others;
        drop(handles);
        for handle in ended {
            handle.join();
        }
    }
}
