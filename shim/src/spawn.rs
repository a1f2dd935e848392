//! Threads that need no lock of the loader's to start, and a queue that they wait at.
//!
//! std's threads, and crossbeam's receivers, keep thread-locals with destructors. The first of
//! these in a thread is registered with the loader's lock held (`__cxa_thread_atexit_impl`): a
//! thread that a library's constructor waits for, in dlopen(3), would wait for that constructor. So
//! these threads are pthreads, and use no such variable.

use crate::critical::{Condvar, Mutex};
use crate::sys;
use std::collections::VecDeque;
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a new thread is given.
struct Start<F> {
    name: &'static CStr,
    run: F,
    finished: Arc<AtomicBool>,
}

/// A thread that was started; detached when the handle is dropped.
pub struct Handle {
    thread: libc::pthread_t,
    finished: Arc<AtomicBool>,
}

/// Starts a thread with `stack` bytes of stack, which runs `run`.
pub fn start<F: FnOnce() + Send + 'static>(
    name: &'static CStr,
    stack: usize,
    run: F,
) -> io::Result<Handle> {
    let finished = Arc::new(AtomicBool::new(false));
    let start = Box::into_raw(Box::new(Start {
        name,
        run,
        finished: Arc::clone(&finished),
    }));
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = 0;
    // SAFETY: the attributes are initialised first and destroyed last; the thread takes `start`
    // over if there is one.
    let error = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
        let error: c_int =
            libc::pthread_create(&mut thread, attributes.as_ptr(), begin::<F>, start.cast());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        error
    };
    if error == 0 {
        return Ok(Handle { thread, finished });
    }
    // SAFETY: made above, and no thread has it.
    drop(unsafe { Box::from_raw(start) });
    Err(io::Error::from_raw_os_error(error))
}

extern "C" fn begin<F: FnOnce()>(start: *mut c_void) -> *mut c_void {
    // SAFETY: what `start` made, for this thread alone.
    let Start {
        name,
        run,
        finished,
    } = *unsafe { Box::from_raw(start.cast::<Start<F>>()) };
    let _ = rustix::thread::set_name(name);
    run();
    finished.store(true, Ordering::Release);
    null_mut()
}

impl Handle {
    /// Whether it has run what it was given.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits for its end.
    pub fn join(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: a thread of ours that is neither joined nor detached, as its handle is still
        // there.
        unsafe {
            libc::pthread_join(this.thread, null_mut());
            drop(std::ptr::read(&this.finished));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: as in `join`.
        unsafe { libc::pthread_detach(self.thread) };
    }
}

/// Items in order, for any number of threads that wait for one.
pub struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    filled: Condvar,
}

impl<T> Queue<T> {
    pub const fn new() -> Self {
        Self {
            items: Mutex::new(VecDeque::new()),
            filled: Condvar::new(),
        }
    }

    pub fn push(&self, item: T) {
        self.items.lock().push_back(item);
        self.filled.notify_one();
    }

    /// Takes the first one; None if there has been none for so long.
    pub fn take_within(&self, time: Duration) -> Option<T> {
        let mut items = self.items.lock();
        if items.is_empty() {
            let end = sys::now() + time.as_nanos() as u64;
            // Another thread may be sooner than the one that is woken.
            while items.is_empty() {
                let left = end.saturating_sub(sys::now());
                if left == 0 {
                    return None;
                }
                items = self.filled.wait_for(items, Duration::from_nanos(left));
            }
        }
        items.pop_front()
    }
}
