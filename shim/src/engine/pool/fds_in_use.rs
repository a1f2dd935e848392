//! The descriptors that jobs use, so that a thread can wait for the jobs before it closes one.
//!
//! A job names its file by a number. If the number were closed before a thread gets to the job, it
//! might name another file by then. So a thread that closes a descriptor first waits for the disk
//! jobs on it. For jobs that may block without limit, it waits until their threads have blocked in
//! the kernel.
//!
//! Invariant: while a job on a descriptor must be waited for, the descriptor is marked as in use by
//! the pool, so that a close of it comes here.

use crate::context::{Condvar, Mutex};
use crate::state::descriptors;
use std::collections::HashMap;
use std::ffi::c_int;

pub struct FdsInUse {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    jobs: HashMap<c_int, FdJobs>,
    /// Number of threads that wait for a change. Without them a change is not announced, because
    /// that is a system call.
    waiting: usize,
}

/// The jobs on one descriptor.
#[derive(Default)]
struct FdJobs {
    /// Number of jobs that must be done, or have begun, before the descriptor is closed.
    waited_for: usize,
    /// The threads that have begun the jobs that may block without limit.
    begun: Vec<c_int>,
}

impl FdsInUse {
    pub fn new() -> Self {
        Self {
            table: Mutex::new(Table::default()),
            changed: Condvar::new(),
        }
    }

    pub fn begin(&self, fd: c_int) {
        self.table.lock().jobs.entry(fd).or_default().waited_for += 1;
        descriptors::set_pool_in_use(fd, true);
    }

    pub fn end(&self, fd: c_int) {
        self.change(fd, |jobs| jobs.waited_for -= 1);
    }

    /// `thread` is about to make a call that may block without limit.
    pub fn enter(&self, fd: c_int, thread: c_int) {
        self.change(fd, |jobs| {
            jobs.waited_for -= 1;
            jobs.begun.push(thread);
        });
    }

    pub fn leave(&self, fd: c_int, thread: c_int) {
        self.change(fd, |jobs| jobs.begun.retain(|&other| other != thread));
    }

    fn change(&self, fd: c_int, change: impl FnOnce(&mut FdJobs)) {
        let mut table = self.table.lock();
        let Some(jobs) = table.jobs.get_mut(&fd) else {
            return;
        };
        change(jobs);
        if jobs.waited_for == 0 && jobs.begun.is_empty() {
            table.jobs.remove(&fd);
            descriptors::set_pool_in_use(fd, false);
        }
        if table.waiting > 0 {
            self.changed.notify_all();
        }
    }

    pub fn wait(&self, fd: c_int) {
        let mut table = self.table.lock();
        while let Some(jobs) = table.jobs.get(&fd) {
            if jobs.waited_for > 0 {
                table.waiting += 1;
                table = self.changed.wait(table);
                table.waiting -= 1;
            } else if jobs
                .begun
                .iter()
                .all(|&thread| sys::waits_in_kernel(thread))
            {
                break;
            } else {
                drop(table);
                sys::yield_thread();
                table = self.table.lock();
            }
        }
        descriptors::set_pool_in_use(fd, false);
    }
}
