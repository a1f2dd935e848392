//! A thread pool: each thread takes a read and blocks in it.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use super::mechanism::{Mechanism, Request, Slots, pread};

/// The pool.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    slots: Slots,
}

struct Shared {
    fd: RawFd,
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Address, Request)>,
    done: usize,
    error: Option<anyhow::Error>,
    ends: bool,
}

/// The memory of a slot, which belongs to the thread that took the read.
struct Address(*mut u8);

// SAFETY: the address is that of a slot with one read at a time, so only one thread uses it.
unsafe impl Send for Address {}

impl Pool {
    /// Starts `threads` threads.
    pub fn new(fd: RawFd, slots: Slots, threads: usize) -> Result<Pool> {
        let shared = Arc::new(Shared {
            fd,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Pool {
            shared,
            threads: Vec::new(),
            slots,
        };
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let started = thread::Builder::new().spawn(move || shared.work());
            pool.threads.push(started.context("cannot start a thread")?);
        }
        Ok(pool)
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock().expect("no thread panics");
        loop {
            let Some((address, request)) = state.queue.pop_front() else {
                if state.ends {
                    return;
                }
                state = self.work.wait(state).expect("no thread panics");
                continue;
            };
            drop(state);
            let result = pread(self.fd, address.0, &request);
            state = self.state.lock().expect("no thread panics");
            state.done += 1;
            if let Err(error) = result {
                state.error = Some(error);
            }
            self.done.notify_one();
        }
    }
}

impl Mechanism for Pool {
    fn submit(&mut self, requests: &[Request]) -> Result<()> {
        let mut state = self
            .shared
            .state
            .lock()
            .map_err(|_| anyhow!("a thread died"))?;
        for request in requests {
            let address = Address(self.slots.address(request.slot));
            state.queue.push_back((address, *request));
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn wait(&mut self, count: usize) -> Result<()> {
        let state = self
            .shared
            .state
            .lock()
            .map_err(|_| anyhow!("a thread died"))?;
        let waited = self
            .shared
            .done
            .wait_while(state, |state| state.done < count);
        let mut state = waited.map_err(|_| anyhow!("a thread died"))?;
        state.done -= count;
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Drop for Pool {
    /// Waits for reads under way, whose memory goes afterwards.
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.ends = true;
        }
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // It ends without a panic.
            let _ = thread.join();
        }
    }
}
