//! How to wait for another thread that needs only a few instructions more.

/// The backoff of a spin lock. It counts the waits so far.
#[derive(Default)]
pub struct Backoff(u32);

impl Backoff {
    /// Waits a moment: spins at first, later yields the CPU to other threads, because the kernel
    /// may have preempted the thread that is waited for.
    // Inlined, because a call would make the callers save registers on their fast paths, too.
    #[cold]
    #[inline(always)]
    pub fn relax(&mut self) {
        self.0 += 1;
        #[cfg(loom)]
        loom::thread::yield_now();
        #[cfg(not(loom))]
        if self.0 < 64 {
            core::hint::spin_loop();
        } else {
            rustix::thread::sched_yield();
        }
    }
}
