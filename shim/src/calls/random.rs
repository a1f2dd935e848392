//! getrandom(2), getentropy(3): they only block until the system has gathered its first entropy.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a call for random bytes may block. Once the answer is false, it stays false.
pub fn waits() -> bool {
    static READY: AtomicBool = AtomicBool::new(false);
    if READY.load(Ordering::Relaxed) {
        return false;
    }
    let ready =
        rustix::rand::getrandom(&mut [0_u8; 1], rustix::rand::GetRandomFlags::NONBLOCK).is_ok();
    READY.store(ready, Ordering::Relaxed);
    !ready
}
