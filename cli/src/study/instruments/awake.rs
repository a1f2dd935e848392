//! Keeps processors out of their idle states, because the kernel does not record tracepoints of
//! interrupts that arrive at an idle processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A thread on each processor, in the class that runs only where nothing else wants to. The threads
/// end when this is dropped.
pub struct Awake {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Awake {
    /// Starts the threads on the processors that this thread may use.
    pub fn start() -> Result<Awake> {
        let set = sched_getaffinity(None)?;
        let mut awake = Awake {
            over: Arc::default(),
            threads: Vec::new(),
        };
        for processor in (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)) {
            let over = Arc::clone(&awake.over);
            let thread = thread::Builder::new().spawn(move || spin(processor, &over));
            awake.threads.push(thread.context("cannot start a thread")?);
        }
        Ok(awake)
    }
}

fn spin(processor: usize, over: &AtomicBool) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set)?;
    // SAFETY: all zeros is a valid parameter, which this class demands, and 0 is this thread.
    let result = unsafe {
        let parameter: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter)
    };
    // In any other class the thread would take time from what is measured.
    ensure!(
        result == 0,
        "SCHED_IDLE: {}",
        std::io::Error::last_os_error()
    );
    while !over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    Ok(())
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Without one of the threads, fewer handlers are recorded.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Awake;

    #[test]
    fn the_threads_end() {
        let awake = Awake::start().expect("threads");
        assert!(!awake.threads.is_empty());
        drop(awake);
    }
}
