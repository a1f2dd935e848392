//! What a fiber and the pool thread that runs a libc function for it share, and the list of those
//! whose call-backs the fibers of a thread are running.

use crate::context::{Condvar, Mutex, MutexGuard};
use crate::host::remote::Remote;
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;
use sys::errno;

/// Which side may run.
pub(super) enum Phase {
    /// The pool thread.
    Function,
    /// The fiber, which must make this call.
    CallBack(*mut (dyn FnMut() + 'static)),
    /// The pool thread, which must end the function because its call-back will not return.
    Abandoned,
    /// The fiber, because the function has returned.
    Done,
}

// SAFETY: only the fiber follows the pointer, while the thread whose stack it points to waits.
unsafe impl Send for Phase {}

/// State shared by both sides, independent of the type of the function.
pub struct Link {
    phase: Mutex<Phase>,
    pub(super) answered: Condvar,
    pub(super) fiber: *mut c_void,
    pub(super) remote: Arc<Remote>,
    /// The program's call-back function.
    pub(super) callback: *const c_void,
}

impl Link {
    pub(super) fn new(fiber: *mut c_void, remote: Arc<Remote>, callback: *const c_void) -> Self {
        Self {
            phase: Mutex::new(Phase::Function),
            answered: Condvar::new(),
            fiber,
            remote,
            callback,
        }
    }

    /// Ends the function, and waits until it has returned.
    ///
    /// # Safety
    /// The fiber may run and will not answer; the job is not used afterwards.
    unsafe fn end(link: *mut Self) {
        let errno = errno::get();
        {
            // SAFETY: the caller guarantees that the link is valid.
            let link = unsafe { &*link };
            let mut phase = link.phase();
            *phase = Phase::Abandoned;
            link.answered.notify_all();
            while !matches!(*phase, Phase::Done) {
                phase = link.answered.wait(phase);
            }
        }
        // SAFETY: the pool thread no longer uses it, and the frame that contains it is never
        // returned to.
        unsafe { std::ptr::drop_in_place(&raw mut (*link).remote) };
        errno::set(errno);
    }

    pub(super) fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock()
    }
}

/// The call-backs that the fibers of one thread are running for pool threads.
#[derive(Default)]
pub struct ActiveCallbacks(RefCell<Vec<*const Link>>);

impl ActiveCallbacks {
    /// Whether any call-back is in progress that could be left.
    pub fn any(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// A call-back of `link` begins. Its link stays in place until it is removed.
    pub(super) fn add(&self, link: *const Link) {
        self.0.borrow_mut().push(link);
    }

    pub(super) fn remove(&self, link: *const Link) {
        self.0
            .borrow_mut()
            .retain(|other| !std::ptr::eq(*other, link));
    }

    /// Ends the functions whose call-backs will not return because the frames for which `leaving`
    /// is true are being removed from the stack of the running `fiber`.
    pub fn end_abandoned(&self, fiber: *const c_void, leaving: impl Fn(*const Link) -> bool) {
        loop {
            let mut active = self.0.borrow_mut();
            // SAFETY: the frames that contain the links are still in place.
            let is_left = |link: &*const Link| unsafe {
                (**link).fiber.cast_const() == fiber && leaving(*link)
            };
            let Some(at) = active.iter().rposition(is_left) else {
                return;
            };
            let link = active.remove(at);
            drop(active);
            // SAFETY: the link's frame is still in place, and no one uses the link once it is off
            // the list.
            unsafe { Link::end(link.cast_mut()) };
        }
    }
}
