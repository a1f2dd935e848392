//! The part of an attached thread that other threads touch: how it is woken, and how its fibers
//! are.
//!
//! Invariant: a wake-up is never lost. The waker publishes what there is to see (a message here, or
//! the host's own), then swaps the state; the thread says that it is about to sleep, or has slept,
//! by a swap of the same word, and looks for messages only after that.

use crate::critical;
use crate::engine::Token;
use crate::host::Host;
use crate::lot::{self, Land};
use crate::thread::Thread;
use crate::{errno::Errno, fds, sys, tls};
use crossbeam_channel::{Receiver, Sender};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// What other threads tell this one.
pub enum Message {
    /// A fiber is to be unparked.
    Unpark(*mut c_void),
    /// The offload pool is done with a request: its result, as a system call's.
    Landed(Token, i32),
}

// SAFETY: the pointer is the host's name for a fiber; it is only handed back to the host, on the
// fiber's own thread.
unsafe impl Send for Message {}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const NOTIFIED: u32 = 2;

/// The part of a thread that others may touch.
pub struct Remote {
    /// An eventfd that ends a sleep in `poll`; None where the process has no descriptor left for
    /// one, and the thread sleeps on `state`.
    wake_fd: Option<c_int>,
    /// AWAKE, ASLEEP (or about to be) or NOTIFIED (the next sleep does not happen). A futex.
    state: AtomicU32,
    inbox: Sender<Message>,
    /// Fibers whose waits for locks are over, the last one first: a stack through their nodes, so
    /// that whoever ends one takes no memory.
    landed: AtomicPtr<Node>,
    host_wake: HostWake,
    /// The host may sleep elsewhere than in `poll`.
    sleeps_elsewhere: bool,
}

/// A fiber that waits in the [`lot`].
pub type Node = lot::Node<Parked>;

/// How a fiber that waits is found again.
pub struct Parked {
    pub token: Token,
    /// Its thread, to be told from others.
    pub thread: *const Thread,
    /// The thread's own, alive as long as one of its fibers is parked.
    pub remote: *const Arc<Remote>,
}

impl Land for Parked {
    unsafe fn land(node: *const Node) {
        // SAFETY: its fiber is parked until the token is landed below, so node, thread and remote
        // are alive until then.
        unsafe {
            let parked = &(*node).fiber;
            let here = tls::here();
            // On the scheduler's own stack it could be in the middle of anything.
            if here == parked.thread && !(*here).host().running().is_null() {
                (*here).land(parked.token);
                return;
            }
            let remote = Arc::clone(&*parked.remote);
            remote.push_landed(node);
            remote.wake_wherever();
        }
    }
}

/// The host's wake verb, which any thread may call until the detach. No lock: sem_post(3) in a
/// signal handler comes here.
struct HostWake {
    wake: unsafe extern "C" fn(*mut c_void),
    data: *mut c_void,
    /// How many threads are calling it, and [`CLOSED`].
    callers: AtomicUsize,
}

/// The thread is detached, or about to be.
const CLOSED: usize = 1 << (usize::BITS - 1);

// SAFETY: `wake` is the verb that hosts must allow from any thread (aioshim.h), with that argument.
unsafe impl Send for HostWake {}
// SAFETY: as for Send.
unsafe impl Sync for HostWake {}

impl HostWake {
    fn call(&self) {
        if self.callers.fetch_add(1, Ordering::AcqRel) & CLOSED == 0 {
            // SAFETY: the thread is attached: `close` waits for this caller.
            unsafe { (self.wake)(self.data) };
        }
        self.callers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Afterwards it is not called any more, nor running.
    fn close(&self) {
        self.callers.fetch_or(CLOSED, Ordering::AcqRel);
        while self.callers.load(Ordering::Acquire) != CLOSED {
            rustix::thread::sched_yield();
        }
    }
}

impl Remote {
    /// The remote part of a thread of `host`'s, and where the thread finds the fibers that others
    /// wake.
    pub fn new(host: &Host) -> Result<(Self, Receiver<Message>), Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags).map_err(|e| Errno(e.raw_os_error()));
        let wake_fd = match eventfd.and_then(|eventfd| fds::adopt(eventfd.into_raw_fd())) {
            Err(Errno::MFILE) => None,
            result => Some(result?),
        };
        let (inbox, messages) = crossbeam_channel::unbounded();
        let host_wake = HostWake {
            wake: host.table.wake,
            data: host.data,
            callers: AtomicUsize::new(0),
        };
        Ok((
            Self {
                wake_fd,
                state: AtomicU32::new(AWAKE),
                inbox,
                landed: AtomicPtr::new(null_mut()),
                host_wake,
                sleeps_elsewhere: host.sleeps_elsewhere(),
            },
            messages,
        ))
    }

    pub fn wake_fd(&self) -> Option<c_int> {
        self.wake_fd
    }

    /// Sleeps until a wake-up, at most for `limit`; only between `begin_sleep` and `end_sleep`.
    pub fn sleep(&self, limit: Option<&Timespec>) {
        let Some(wake_fd) = self.wake_fd else {
            sys::futex_wait(&self.state, ASLEEP, false, limit);
            return;
        };
        // SAFETY: open as long as `self` is.
        let wake_fd = unsafe { BorrowedFd::borrow_raw(wake_fd) };
        let _ = poll(&mut [PollFd::new(&wake_fd, PollFlags::IN)], limit);
        let _ = rustix::io::read(wake_fd, &mut [0u8; 8]);
    }

    /// Ends the thread's sleep in `poll`, or lets its next one not happen.
    pub fn wake(&self) {
        self.end_sleep_in_poll();
    }

    /// The same for a thread that may sleep elsewhere: then its host is told, too.
    fn wake_wherever(&self) {
        if !self.end_sleep_in_poll() && self.sleeps_elsewhere {
            self.host_wake.call();
        }
    }

    /// Whether the host may sleep elsewhere than in `poll`, and is to be woken there.
    pub fn sleeps_elsewhere(&self) -> bool {
        self.sleeps_elsewhere
    }

    /// Calls the host's wake verb, unless the thread is detached.
    pub fn wake_host(&self) {
        self.host_wake.call();
    }

    /// Whether the thread slept in `poll`.
    fn end_sleep_in_poll(&self) -> bool {
        // The swap comes after whatever the woken thread is to see; `begin_sleep` and `end_sleep`
        // pair with it.
        let asleep = self.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP;
        if asleep {
            match self.wake_fd {
                Some(wake_fd) => sys::write_all(wake_fd, &1u64.to_ne_bytes()),
                None => {
                    sys::futex_wake(&self.state, 1, false);
                }
            }
        }
        asleep
    }

    /// From another thread: makes `fiber`, parked on this one, runnable.
    pub fn unpark(&self, fiber: *mut c_void) {
        let _section = critical::enter();
        // Cannot fail: the receiver lives as long as a fiber of the thread is parked.
        let _ = self.inbox.send(Message::Unpark(fiber));
        self.host_wake.call();
    }

    /// From a thread of the pool: the request of `token` is done.
    pub fn land(&self, token: Token, result: i32) {
        let _section = critical::enter();
        // Cannot fail: the receiver lives as long as anything is in flight.
        let _ = self.inbox.send(Message::Landed(token, result));
        self.wake_wherever();
    }

    /// From any thread: the wait of `node`'s fiber is over. To be followed by a wake.
    ///
    /// # Safety
    /// The node is alive until it is taken, and its link is ours.
    unsafe fn push_landed(&self, node: *const Node) {
        let mut top = self.landed.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller's promise.
            unsafe { (*node).set_next(top) };
            match self.landed.compare_exchange_weak(
                top,
                node.cast_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Hands the tokens of what has landed to `each`, in order. Only for the thread itself.
    pub fn take_landed(&self, mut each: impl FnMut(Token)) {
        if self.landed.load(Ordering::Relaxed).is_null() {
            return;
        }
        let mut node = self.landed.swap(null_mut(), Ordering::Acquire).cast_const();
        let mut first: *const Node = null_mut();
        // SAFETY: pushed nodes are alive until their token is landed, and their links are ours now.
        unsafe {
            while !node.is_null() {
                let next = (*node).next();
                (*node).set_next(first);
                first = node;
                node = next;
            }
            while !first.is_null() {
                let next = (*first).next();
                each((*first).fiber.token);
                first = next;
            }
        }
    }

    /// False when there was a wake-up since the last sleep: this one must not happen.
    pub fn begin_sleep(&self) -> bool {
        let asleep = self
            .state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !asleep {
            self.state.swap(AWAKE, Ordering::AcqRel);
        }
        asleep
    }

    pub fn end_sleep(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// The host's wake verb is not called any more, nor running, when this returns.
    pub fn detach(&self) {
        self.host_wake.close();
    }

    /// Closes the eventfd; in the child of a fork, before the rest is leaked.
    pub fn close(&self) {
        if let Some(wake_fd) = self.wake_fd {
            fds::disown(wake_fd);
            let _ = sys::close(wake_fd);
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.close();
    }
}
