//! How an attached thread sleeps in the event loop of its host, and how aioshim_poll sleeps on
//! descriptors of the host ([`pollable`](crate::runtime::pollable)).

use super::Thread;
use crate::context;
use crate::engine::Wait;
use crate::host::remote::SleepPlace;
use crate::runtime::pollable::Sources;
use std::ffi::c_int;
use sys::errno::{self, Errno};

/// How soon to poll again if the kernel could not take an operation yet.
pub(super) const RETRY_NS: u64 = 1_000_000;

impl Thread {
    /// Implements aioshim_fd.
    pub fn ready_descriptor(&self) -> Result<c_int, Errno> {
        let _off = context::libc();
        let _errno = errno::Preserved::now();
        let wake = self.remote().wake_fd().ok_or(Errno::MFILE)?;
        let ready = self.pollable.ready_descriptor(|| self.sources(wake))?;
        self.remote().note_ready_descriptor();
        self.mailbox.end_watcher();
        Ok(ready)
    }

    fn sources(&self, wake: c_int) -> Sources {
        Sources {
            engine: self.engine.ready_descriptor(),
            wake,
        }
    }

    /// Implements aioshim_watch_fd.
    pub fn watch_descriptor(&self, fd: c_int, events: u32) -> Result<(), Errno> {
        self.ready_descriptor()?;
        let _off = context::libc();
        let _errno = errno::Preserved::now();
        self.pollable.watch(fd, events)
    }

    /// Implements aioshim_arm: polls without waiting, and prepares for a sleep on the ready
    /// descriptor. Returns [`Wait::No`] if the host must not sleep now, otherwise how long it may.
    pub fn arm(&self) -> Wait {
        self.end_armed_sleep();
        self.empty_sources();
        if self.poll(Wait::No) > 0 || self.signals.has_deferred() || self.host.runnable() > 0 {
            return Wait::No;
        }
        if !self.pollable.has_ready_descriptor() {
            // There was no descriptor for it.
            return Wait::Nanos(RETRY_NS);
        }
        if !self.remote().begin_sleep(SleepPlace::Eventfd) {
            return Wait::No;
        }
        if !self.mailbox.is_empty() || self.remote().has_woken() {
            self.remote().end_sleep();
            return Wait::No;
        }
        self.pollable.arm();
        let wait = self.operations.shorten(Wait::Forever);
        if self.engine.is_stalled() {
            self.operations.shorten(Wait::Nanos(RETRY_NS))
        } else {
            wait
        }
    }

    /// The thread is awake again, if it slept in the event loop of its host.
    #[inline(always)]
    pub(super) fn end_armed_sleep(&self) {
        if self.pollable.disarm() {
            self.remote().end_sleep();
        }
    }

    /// Call before the last poll before a sleep on the ready descriptor.
    pub(super) fn empty_sources(&self) {
        if let Some(wake) = self.remote().wake_fd()
            && self.pollable.has_ready_descriptor()
        {
            self.pollable.empty(self.sources(wake));
        }
    }
}
