//! Threads that start without taking a lock of the loader, and a queue for them to wait on.
//!
//! std's threads and crossbeam's receivers use thread-locals with destructors. The first such
//! variable in a thread is registered under the loader's lock (`__cxa_thread_atexit_impl`). If a
//! library's constructor, inside dlopen(3), waited for such a thread, the thread would wait for the
//! constructor: a deadlock. Therefore these threads are pthreads and use no such variable.

use crate::context::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The start argument of a new thread.
struct Start<F> {
    name: &'static CStr,
    run: F,
    finished: Arc<AtomicBool>,
}

/// The handle of a started thread, which is detached when the handle is dropped.
pub struct Handle {
    thread: libc::pthread_t,
    finished: Arc<AtomicBool>,
}

/// Starts a thread that runs `run` on a stack of `stack` bytes.
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
    // SAFETY: the attributes are initialised first and destroyed last; the new thread, if there is
    // one, takes ownership of `start`.
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
    // SAFETY: the box was made above, and no thread has it.
    drop(unsafe { Box::from_raw(start) });
    Err(io::Error::from_raw_os_error(error))
}

extern "C" fn begin<F: FnOnce()>(start: *mut c_void) -> *mut c_void {
    // SAFETY: `start` made this box for this thread alone.
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
    /// Whether the thread's function has returned.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits for the thread's end.
    pub fn join(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: we started this thread, and it is neither joined nor detached while its handle
        // exists.
        unsafe {
            libc::pthread_join(this.thread, null_mut());
            drop(std::ptr::read(&this.finished));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: we started this thread, and it is neither joined nor detached while its handle
        // exists.
        unsafe { libc::pthread_detach(self.thread) };
    }
}

/// A FIFO queue of items, on which any number of threads can wait.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    /// The number of threads that wait for an item.
    waiting: usize,
    /// How many of these a wake-up is on its way to; at most `waiting`.
    notified: usize,
}

impl<T> Queue<T> {
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                waiting: 0,
                notified: 0,
            }),
            filled: Condvar::new(),
        }
    }

    /// Adds an item. Wakes a thread only if one waits, because waking is a system call.
    pub fn push(&self, item: T) {
        let mut state = self.state.lock();
        state.items.push_back(item);
        let wakes = state.waiting > state.notified;
        state.notified += usize::from(wakes);
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
    }

    /// Takes the first item; None if the queue stays empty for `time`.
    pub fn take_within(&self, time: Duration) -> Option<T> {
        let mut state = self.state.lock();
        if state.items.is_empty() {
            let end = sys::now() + time.as_nanos() as u64;
            // Another thread may take the item before the woken thread does.
            while state.items.is_empty() {
                let left = end.saturating_sub(sys::now());
                if left == 0 {
                    return None;
                }
                state.waiting += 1;
                state = self.filled.wait_for(state, Duration::from_nanos(left));
                state.waiting -= 1;
                // If this thread woke without a notification, the next push notifies once more
                // than necessary.
                state.notified = state.notified.saturating_sub(1).min(state.waiting);
            }
        }
        state.items.pop_front()
    }
}
