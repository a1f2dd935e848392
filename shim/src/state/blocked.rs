//! Blocks all signals on the calling thread for a while.

use std::mem::MaybeUninit;

/// While this value lives, the calling thread takes no signals, and a thread that it creates never
/// takes any.
pub struct Blocked(libc::sigset_t);

impl Blocked {
    pub fn all() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are alive, and the first is filled before it is read. The call cannot
        // fail, because the only error is an unknown `how`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the mask comes from the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}
