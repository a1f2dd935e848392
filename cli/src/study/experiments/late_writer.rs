//! Pipes into which something is written later, and pipes that are full.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::study::instruments::meter::now_ns;

/// A thread that writes a byte some time after it was asked to.
pub struct LateWriter {
    /// `None` once the thread is to end.
    ask: Option<PipeWriter>,
    answers: PipeReader,
    /// When it wrote last, on CLOCK_MONOTONIC.
    wrote: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl LateWriter {
    /// Starts the thread.
    pub fn start(delay: Duration) -> Result<LateWriter> {
        let (mut requests, ask) = pipe()?;
        let (answers, mut writer) = pipe()?;
        let wrote = Arc::new(AtomicU64::new(0));
        let writes = Arc::clone(&wrote);
        let work = move || {
            let mut byte = [0];
            // Both fail when this is dropped.
            while matches!(requests.read(&mut byte), Ok(1)) {
                thread::sleep(delay);
                writes.store(now_ns(), Ordering::Release);
                if writer.write_all(&byte).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(work);
        Ok(LateWriter {
            ask: Some(ask),
            answers,
            wrote,
            thread: Some(thread.context("cannot start a thread")?),
        })
    }

    /// Asks for a byte, which comes after the delay.
    pub fn ask(&self) -> Result<()> {
        let mut ask = self.ask.as_ref().context("the thread has ended")?;
        Ok(ask.write_all(&[1])?)
    }

    /// The pipe into which the bytes come.
    pub fn fd(&self) -> RawFd {
        self.answers.as_raw_fd()
    }

    /// When the byte that was read last had been written: just before, on CLOCK_MONOTONIC.
    pub fn wrote_ns(&self) -> u64 {
        self.wrote.load(Ordering::Acquire)
    }

    /// Reads the byte.
    pub fn read(&self) -> Result<()> {
        Ok((&self.answers).read_exact(&mut [0])?)
    }
}

impl Drop for LateWriter {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            // It ends without a panic: it only reads, sleeps and writes.
            let _ = thread.join();
        }
    }
}

/// A pipe that this thread itself fills.
pub struct FullPipe(PipeReader, PipeWriter);

impl FullPipe {
    pub fn new() -> Result<FullPipe> {
        let (reader, writer) = pipe()?;
        Ok(FullPipe(reader, writer))
    }

    /// Puts a byte into it.
    pub fn fill(&self) -> Result<()> {
        Ok((&self.1).write_all(&[1])?)
    }

    /// Reads the byte.
    pub fn read(&self) -> Result<()> {
        Ok((&self.0).read_exact(&mut [0])?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FullPipe, LateWriter, now_ns};

    #[test]
    fn a_byte_comes_late() {
        let writer = LateWriter::start(Duration::from_millis(5)).expect("a thread");
        for _ in 0..2 {
            let (start, asked) = (Instant::now(), now_ns());
            writer.ask().expect("it listens");
            writer.read().expect("it answers");
            assert!(start.elapsed() >= Duration::from_millis(5));
            assert!(writer.wrote_ns() >= asked + 5_000_000);
            assert!(writer.wrote_ns() <= now_ns());
        }
    }

    #[test]
    fn a_full_pipe_can_be_read() {
        let pipe = FullPipe::new().expect("a pipe");
        pipe.fill().expect("it takes a byte");
        pipe.read().expect("it has one");
    }
}
