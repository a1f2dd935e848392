//! The part of an attached thread that other threads use, to wake the thread and its fibers.
//!
//! Invariant: a wake-up is never lost. The waker first publishes the event (a message here, or the
//! host's own state) and then swaps the state word. The thread swaps the same word before and after
//! a sleep, and checks for messages only after that.

use crate::context;
use crate::host::{Host, Token};
use crate::state::descriptors;
use crossbeam_channel::{Receiver, Sender};
use queue::Mpsc;
use queue::wait_table::{self, Wake};
use rustix::event::{EventfdFlags, Timespec};
use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use sys::errno::Errno;

/// A message from another thread.
pub enum Message {
    /// Unpark this fiber.
    Unpark(*mut c_void),
    /// The offload pool has completed a request, with this result of a system call.
    Completed(Token, i32),
}

// SAFETY: the pointer is the host's address of a fiber; it is only passed back to the host, on the
// fiber's own thread.
unsafe impl Send for Message {}

const AWAKE: u32 = 0;
const ASLEEP_ON_EVENTFD: u32 = 1;
const NOTIFIED: u32 = 2;
const ASLEEP_ON_FUTEX: u32 = 3;

/// Where a thread sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SleepPlace {
    /// In the engine or in the event loop of the host, until the eventfd ends it.
    Eventfd,
    /// On the state word. This takes fewer system calls to enter, to end and to leave.
    Futex,
}

/// The part of an attached thread that other threads may use.
pub struct Remote {
    /// An eventfd that ends a sleep in the engine. None if the process had no free descriptor for
    /// it; the thread then sleeps on `state`.
    wake_fd: Option<c_int>,
    /// AWAKE, ASLEEP_ (or about to sleep), or NOTIFIED (the next sleep returns at once). A futex.
    state: AtomicU32,
    inbox: Sender<Message>,
    /// Fibers whose waits for locks have ended, linked through their nodes, so that ending a wait
    /// allocates no memory.
    woken: Mpsc<Node>,
    host_wake: HostWake,
    /// The host may sleep outside of `poll`, where only its `wake` callback reaches it.
    sleeps_elsewhere: AtomicBool,
}

/// A fiber that waits in the wait table for locks.
pub type Node = wait_table::Node<Parked>;

/// How to find a waiting fiber again.
pub struct Parked {
    pub token: Token,
    /// The fiber's thread, only for comparison.
    pub thread: *const c_void,
    /// Ends the wait if the calling code runs on a fiber of that thread; otherwise does nothing and
    /// returns false. The wait has not ended yet.
    pub wake_here: unsafe fn(&Parked) -> bool,
    /// The thread's own field, which lives as long as one of its fibers is parked.
    pub remote: *const Arc<Remote>,
}

impl Wake for Parked {
    unsafe fn wake(node: *const Node) {
        // SAFETY: the node's fiber is parked until the token is woken below, so node, thread and
        // remote are alive until then.
        unsafe {
            let parked = &(*node).fiber;
            if (parked.wake_here)(parked) {
                return;
            }
            let remote = Arc::clone(&*parked.remote);
            remote.woken.push(node.cast_mut());
            remote.wake_wherever();
        }
    }
}

/// The host's `wake` callback, which any thread may call until the detach. It uses no lock, because
/// sem_post(3) in a signal handler may call it.
struct HostWake {
    wake: unsafe extern "C" fn(*mut c_void),
    data: *mut c_void,
    /// The number of threads that are calling it, and the [`CLOSED`] bit.
    callers: AtomicUsize,
}

/// The thread is detached, or about to be.
const CLOSED: usize = 1 << (usize::BITS - 1);

// SAFETY: hosts must allow `wake` to be called from any thread, with this argument (aioshim.h).
unsafe impl Send for HostWake {}
// SAFETY: hosts must allow `wake` to be called from any thread, with this argument (aioshim.h).
unsafe impl Sync for HostWake {}

impl HostWake {
    fn call(&self) {
        if self.callers.fetch_add(1, Ordering::AcqRel) & CLOSED == 0 {
            // SAFETY: the thread is attached, because `close` waits for this caller.
            unsafe { (self.wake)(self.data) };
        }
        self.callers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits for running calls of the callback, and prevents new ones.
    fn close(&self) {
        self.callers.fetch_or(CLOSED, Ordering::AcqRel);
        while self.callers.load(Ordering::Acquire) != CLOSED {
            rustix::thread::sched_yield();
        }
    }
}

impl Remote {
    /// Makes the remote part of a thread of `host`, and the channel on which the thread receives
    /// its messages.
    pub fn new(host: &Host) -> Result<(Self, Receiver<Message>), Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = rustix::event::eventfd(0, flags).map_err(|e| Errno(e.raw_os_error()));
        let wake_fd = match eventfd.and_then(|eventfd| descriptors::adopt(eventfd.into_raw_fd())) {
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
                woken: Mpsc::default(),
                host_wake,
                sleeps_elsewhere: AtomicBool::new(host.sleeps_elsewhere()),
            },
            messages,
        ))
    }

    pub fn wake_fd(&self) -> Option<c_int> {
        self.wake_fd
    }

    /// Sleeps on the futex until a wake-up, for at most `limit`. Call it only between
    /// `begin_sleep(SleepPlace::Futex)` and `end_sleep`.
    pub fn sleep(&self, limit: Option<&Timespec>) {
        sys::futex_wait(&self.state, ASLEEP_ON_FUTEX, false, limit);
    }

    /// Ends the thread's sleep in `poll`, or makes its next sleep return at once.
    pub fn wake(&self) {
        self.end_sleep_in_poll();
    }

    /// Like `wake`, and calls the host's `wake` callback if the thread may be sleeping outside of
    /// `poll`.
    fn wake_wherever(&self) {
        if !self.end_sleep_in_poll() && self.sleeps_elsewhere() {
            self.host_wake.call();
        }
    }

    /// Whether the host may sleep outside of `poll`, where only its `wake` callback reaches it.
    pub fn sleeps_elsewhere(&self) -> bool {
        self.sleeps_elsewhere.load(Ordering::Relaxed)
    }

    /// The host sleeps in `poll` or on the ready descriptor from now on.
    pub fn note_ready_descriptor(&self) {
        self.sleeps_elsewhere.store(false, Ordering::Relaxed);
    }

    /// Calls the host's `wake` callback, unless the thread is detached.
    pub fn wake_host(&self) {
        self.host_wake.call();
    }

    /// Ends a sleep in `poll`, and returns whether the thread was sleeping there.
    fn end_sleep_in_poll(&self) -> bool {
        // The swap comes after the waker has published the event; it pairs with the swaps in
        // `begin_sleep` and `end_sleep`.
        match (self.state.swap(NOTIFIED, Ordering::AcqRel), self.wake_fd) {
            (ASLEEP_ON_EVENTFD, Some(wake_fd)) => {
                sys::write_all(wake_fd, &1u64.to_ne_bytes());
                true
            }
            (ASLEEP_ON_FUTEX, _) => {
                sys::futex_wake(&self.state, 1, false);
                true
            }
            _ => false,
        }
    }

    /// Makes `fiber`, which is parked on this thread, runnable. Called from another thread.
    pub fn unpark(&self, fiber: *mut c_void) {
        let _section = context::critical();
        // Cannot fail: the receiver lives as long as a fiber of the thread is parked.
        let _ = self.inbox.send(Message::Unpark(fiber));
        self.host_wake.call();
    }

    /// The request of `token` is done. Called from a thread of the pool.
    pub fn complete(&self, token: Token, result: i32) {
        let _section = context::critical();
        // Cannot fail: the receiver lives as long as anything is in flight.
        let _ = self.inbox.send(Message::Completed(token, result));
        self.wake_wherever();
    }

    /// Whether waits for locks have ended that the thread has not heard of yet.
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Whether the thread sleeps in `poll`, and no other thread has sent it anything. From any
    /// thread.
    pub fn is_asleep(&self) -> bool {
        let state = self.state.load(Ordering::SeqCst);
        matches!(state, ASLEEP_ON_EVENTFD | ASLEEP_ON_FUTEX)
            && self.inbox.is_empty()
            && !self.has_woken()
    }

    /// Calls `each` with the tokens of the ended waits, in order. Only the thread itself may call
    /// this.
    pub fn take_woken(&self, mut each: impl FnMut(Token)) {
        if !self.has_woken() {
            return;
        }
        // SAFETY: pushed nodes are alive until their token is woken.
        self.woken.take(|node| each(unsafe { &*node }.fiber.token));
    }

    /// Announces a sleep in `place`: only on the futex if there is no eventfd. Returns false if
    /// there was a wake-up since the last sleep; then the thread must not sleep.
    pub fn begin_sleep(&self, place: SleepPlace) -> bool {
        let state = match place {
            SleepPlace::Eventfd => ASLEEP_ON_EVENTFD,
            SleepPlace::Futex => ASLEEP_ON_FUTEX,
        };
        let asleep = self
            .state
            .compare_exchange(AWAKE, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !asleep {
            self.state.swap(AWAKE, Ordering::AcqRel);
        }
        asleep
    }

    pub fn end_sleep(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// Waits for running calls of the host's `wake` callback, and prevents new ones.
    pub fn detach(&self) {
        self.host_wake.close();
    }

    /// Closes the eventfd. The child of a fork calls this before it leaks the rest.
    pub fn close(&self) {
        if let Some(wake_fd) = self.wake_fd {
            descriptors::disown(wake_fd);
            let _ = sys::close(wake_fd);
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.close();
    }
}
