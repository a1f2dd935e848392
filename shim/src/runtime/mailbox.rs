//! How an attached thread is reached: messages and wake-ups from other threads, and the watcher
//! that wakes a host which sleeps elsewhere.

use crate::context;
use crate::host::Host;
use crate::host::remote::{Message, Remote};
use crate::runtime::host_waker::HostWaker;
use crossbeam_channel::Receiver;
use std::cell::RefCell;
use std::ffi::c_int;
use std::sync::Arc;
use sys::errno::Errno;

pub struct Mailbox {
    remote: Arc<Remote>,
    inbox: Receiver<Message>,
    /// Wakes a host that sleeps elsewhere; started when first needed.
    host_waker: RefCell<Option<HostWaker>>,
}

impl Mailbox {
    pub fn new(host: &Host) -> Result<Self, Errno> {
        let (remote, inbox) = Remote::new(host)?;
        Ok(Self {
            remote: Arc::new(remote),
            inbox,
            host_waker: RefCell::new(None),
        })
    }

    /// The part that other threads use.
    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Whether no message waits. Ended waits for locks are not messages.
    pub fn is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Hands all messages to `each`, and then the waits for locks that have ended.
    pub fn receive(&self, mut each: impl FnMut(Message)) {
        while let Some(message) = self.next() {
            each(message);
        }
        self.remote
            .take_woken(|token| each(Message::Completed(token, 0)));
    }

    /// The next message. If its sender is still writing it, the channel waits by sched_yield(2).
    /// That must not count as a call of the fiber whose `park` polls: the fiber would yield in the
    /// middle of its park, and the host would take that for the end of the park.
    fn next(&self) -> Option<Message> {
        if self.inbox.is_empty() {
            return None;
        }
        let _off = context::critical();
        self.inbox.try_recv().ok()
    }

    /// Arranges that the host is woken after `nanos`, or when the engine has completed something.
    /// `ready` returns the descriptor through which the engine signals completions.
    pub fn order_wake_up(&self, nanos: Option<u64>, ready: impl FnOnce() -> Option<c_int>) {
        let mut host_waker = self.host_waker.borrow_mut();
        if host_waker.is_none() {
            *host_waker = HostWaker::start(&self.remote, ready());
        }
        if let Some(host_waker) = &*host_waker {
            host_waker.order(nanos);
        }
    }

    /// Ends the watcher, because the engine that it watches ends.
    pub fn end_watcher(&self) {
        self.host_waker.take();
    }

    /// Call when the thread is about to be detached. Other threads may still hold the [`Remote`]
    /// and write to its eventfd; the last one closes it.
    pub fn close(&self) {
        self.end_watcher();
        self.remote.detach();
    }
}
