//! Wakes a host whose thread sleeps outside of aioshim_poll when there is something to poll for: an
//! engine completion or an expired deadline. Other threads that unpark a fiber wake the host
//! themselves ([`crate::host::remote`]).
//!
//! Each attached thread that needs it gets one watcher thread, made when it first leaves a poll
//! with nothing to run and operations in flight. The watcher sleeps in poll(2) on the descriptor
//! through which the engine signals completions. If the engine has no such descriptor (Linux AIO),
//! the watcher wakes the host every few milliseconds.
//!
//! Invariant: an order is carried out once. The attached thread gives the next order when it leaves
//! its next poll.

use crate::context;
use crate::context::Mutex;
use crate::host::remote::Remote;
use crate::state::blocked::Blocked;
use crate::state::descriptors;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::Arc;
use sys::errno;

/// How often the watcher wakes the host if the engine has no descriptor.
const POLL_EVERY_NS: u64 = 5_000_000;

/// An event to wait for.
enum Order {
    Nothing,
    /// The descriptor becomes readable, or the time comes.
    Until(Option<Arc<Descriptor>>, Option<u64>),
    /// The attached thread was detached; the watcher ends.
    End,
}

struct Shared {
    remote: Arc<Remote>,
    order: Mutex<Order>,
    /// An eventfd that signals a new order.
    bell: Descriptor,
}

/// The attached thread's handle to its watcher.
pub struct HostWaker {
    shared: Arc<Shared>,
    /// A duplicate of the descriptor through which the engine signals completions. It stays open as
    /// long as the watcher may poll it.
    ready: Option<Arc<Descriptor>>,
}

/// A descriptor of the shim.
struct Descriptor(c_int);

impl Drop for Descriptor {
    fn drop(&mut self) {
        descriptors::disown(self.0);
        let _ = sys::close(self.0);
    }
}

impl Descriptor {
    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }

    /// Resets an eventfd's count. An epoll instance has nothing to read, and the read fails.
    fn empty(&self) {
        let _ = rustix::io::read(self.borrow(), &mut [0_u8; 8]);
    }
}

impl HostWaker {
    /// Starts a watcher, with the engine's completion descriptor if there is one; None if a thread
    /// or a descriptor cannot be made.
    pub fn start(remote: &Arc<Remote>, ready: Option<c_int>) -> Option<Self> {
        let _errno = errno::Preserved::now();
        let ready = ready.and_then(sys::duplicate_out_of_the_way);
        let ready = ready
            .inspect(|ready| descriptors::mark_shim_owned(*ready, true))
            .map(Descriptor);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = descriptors::adopt(eventfd(0, flags).ok()?.into_raw_fd()).ok()?;
        let shared = Arc::new(Shared {
            remote: Arc::clone(remote),
            order: Mutex::new(Order::Nothing),
            bell: Descriptor(bell),
        });
        let of_thread = Arc::clone(&shared);
        let _off = context::libc();
        let _blocked = Blocked::all();
        std::thread::Builder::new()
            .name("aioshim-lookout".into())
            .stack_size(64 << 10)
            .spawn(move || of_thread.watch_engine())
            .ok()?;
        Some(Self {
            shared,
            ready: ready.map(Arc::new),
        })
    }

    /// Orders the watcher to wake the host when the engine has completed something, or after
    /// `nanos`.
    pub fn order(&self, nanos: Option<u64>) {
        let nanos = match self.ready {
            None => Some(nanos.unwrap_or(POLL_EVERY_NS).min(POLL_EVERY_NS)),
            Some(_) => nanos,
        };
        let until = nanos.map(|nanos| sys::now().saturating_add(nanos));
        self.shared.replace(Order::Until(self.ready.clone(), until));
    }
}

impl Drop for HostWaker {
    fn drop(&mut self) {
        self.shared.replace(Order::End);
    }
}

impl Shared {
    fn replace(&self, order: Order) {
        *self.order.lock() = order;
        sys::write_all(self.bell.0, &1u64.to_ne_bytes());
    }

    fn watch_engine(&self) {
        let (mut ready, mut until): (Option<Arc<Descriptor>>, _) = (None, None);
        loop {
            if !self.sleep(ready.as_deref(), until) {
                if let Some(ready) = ready.take() {
                    ready.empty();
                }
                until = None;
                self.remote.wake_host();
                continue;
            }
            match std::mem::replace(&mut *self.order.lock(), Order::Nothing) {
                Order::Nothing => {}
                Order::Until(descriptor, time) => (ready, until) = (descriptor, time),
                Order::End => return,
            }
        }
    }

    /// Returns false if the ordered event has come, true if there may be a new order.
    fn sleep(&self, ready: Option<&Descriptor>, until: Option<u64>) -> bool {
        let files = [&self.bell, ready.unwrap_or(&self.bell)];
        let mut polled = files.map(|file| PollFd::from_borrowed_fd(file.borrow(), PollFlags::IN));
        let limit = until.map(|until| {
            let left = until.saturating_sub(sys::now());
            Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            }
        });
        let woken = poll(&mut polled, limit.as_ref());
        let rang = !polled[0].revents().is_empty();
        if rang {
            self.bell.empty();
        }
        rang || woken.is_err()
    }
}
