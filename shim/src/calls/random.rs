//! getrandom(2), getentropy(3): they wait only while the system has yet to gather its first
//! entropy.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether random bytes may have to be waited for. Once not, never again.
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
