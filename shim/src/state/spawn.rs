//! Threads that start without taking a lock of the loader.
//!
//! std's threads and crossbeam's receivers use thread-locals with destructors. The first such
//! variable in a thread is registered under the loader's lock (`__cxa_thread_atexit_impl`). If a
//! library's constructor, inside dlopen(3), waited for such a thread, the thread would wait for the
//! constructor: a deadlock. Therefore these threads are pthreads and use no such variable.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
