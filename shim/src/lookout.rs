//! Wakes a host whose thread sleeps elsewhere than in aioshim_poll when there is something for it
//! to poll: an operation of the engine is done, or a deadline is over. What other threads land,
//! they tell the host themselves ([`crate::remote`]).
//!
//! A thread of the shim's own looks out for an attached thread, made when that first leaves a poll
//! with nothing to run and operations in flight. It sleeps in poll(2) on what the engine completes
//! through; where the engine has no such descriptor (Linux AIO) it has the host look every few
//! milliseconds.
//!
//! Invariant: an order is carried out once. The attached thread gives the next one when it leaves
//! its next poll.

use crate::critical::Mutex;
use crate::errno;
use crate::fds;
use crate::remote::Remote;
use crate::signal;
use crate::sys;
use crate::tls::OffFiber;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::Arc;

/// How often a host looks for itself what an engine without a descriptor has done.
const LOOK_NS: u64 = 5_000_000;

/// What to look out for.
enum Order {
    Nothing,
    /// The descriptor becomes readable, or the time comes.
    Until(Option<Arc<Descriptor>>, Option<u64>),
    /// The attached thread is detached.
    End,
}

struct Shared {
    remote: Arc<Remote>,
    order: Mutex<Order>,
    /// An eventfd: there is a new order.
    bell: Descriptor,
}

/// What an attached thread has of it.
pub struct Lookout {
    shared: Arc<Shared>,
    /// What the engine completes through, and a duplicate of it that is open as long as somebody
    /// looks out for it.
    ready: Option<Arc<Descriptor>>,
}

/// One of the shim's own descriptors.
struct Descriptor(c_int);

impl Drop for Descriptor {
    fn drop(&mut self) {
        fds::disown(self.0);
        let _ = sys::close(self.0);
    }
}

impl Descriptor {
    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }

    /// An eventfd's count starts anew; of an epoll instance there is nothing to read.
    fn empty(&self) {
        let _ = rustix::io::read(self.borrow(), &mut [0_u8; 8]);
    }
}

impl Lookout {
    /// Starts to look out, for what the engine completes through if it has such a descriptor; None
    /// where that takes more than there is.
    pub fn start(remote: &Arc<Remote>, ready: Option<c_int>) -> Option<Self> {
        let _errno = errno::Kept::now();
        let ready = ready.and_then(sys::duplicate_out_of_the_way);
        let ready = ready
            .inspect(|ready| fds::mark_ours(*ready, true))
            .map(Descriptor);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = fds::adopt(eventfd(0, flags).ok()?.into_raw_fd()).ok()?;
        let shared = Arc::new(Shared {
            remote: Arc::clone(remote),
            order: Mutex::new(Order::Nothing),
            bell: Descriptor(bell),
        });
        let of_thread = Arc::clone(&shared);
        let _off = OffFiber::enter();
        let _blocked = signal::Blocked::all();
        std::thread::Builder::new()
            .name("aioshim-lookout".into())
            .stack_size(64 << 10)
            .spawn(move || of_thread.look_out())
            .ok()?;
        Some(Self {
            shared,
            ready: ready.map(Arc::new),
        })
    }

    /// Has the host woken when the engine has done something, or after `nanos`.
    pub fn order(&self, nanos: Option<u64>) {
        let nanos = match self.ready {
            None => Some(nanos.unwrap_or(LOOK_NS).min(LOOK_NS)),
            Some(_) => nanos,
        };
        let until = nanos.map(|nanos| sys::now().saturating_add(nanos));
        self.shared.replace(Order::Until(self.ready.clone(), until));
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.shared.replace(Order::End);
    }
}

impl Shared {
    fn replace(&self, order: Order) {
        *self.order.lock() = order;
        sys::write_all(self.bell.0, &1u64.to_ne_bytes());
    }

    fn look_out(&self) {
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

    /// False if what was ordered has come, true if there may be a new order.
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
