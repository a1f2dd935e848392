//! Answers requests when their time has come.
//!
//! Every request waits equally long, so requests become due in the order of their arrival, and one
//! thread that sleeps until the oldest one is due serves any number of them. Requests never wait
//! for each other, as on a disk that handles all of them at once.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Answers one request.
type Answer = Box<dyn FnOnce() + Send>;

/// The thread's queue. The thread ends when this is dropped and the queue is empty.
pub struct Timer {
    latency: Duration,
    queue: Sender<(Instant, Answer)>,
}

impl Timer {
    /// Starts the thread.
    pub fn start(latency: Duration) -> Result<Timer> {
        let (queue, requests) = channel();
        thread::Builder::new()
            .name("timer".to_owned())
            .spawn(move || answer_all(&requests))
            .context("cannot start the timer's thread")?;
        Ok(Timer { latency, queue })
    }

    /// Calls `answer` after the latency.
    pub fn answer_later(&self, answer: impl FnOnce() + Send + 'static) {
        let due = Instant::now() + self.latency;
        // If the thread is gone, dropping the answer reports an error to the kernel.
        let _ = self.queue.send((due, Box::new(answer)));
    }
}

fn answer_all(requests: &Receiver<(Instant, Answer)>) {
    // By default the kernel may let a sleeper wake up 50 us late.
    let slack = std::num::NonZeroU64::new(1);
    let precise = rustix::thread::set_current_timer_slack(slack);
    if let Err(error) = precise {
        eprintln!("aioshim: answers may come 50 us late, cannot change the timer slack: {error}");
    }
    for (due, answer) in requests {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        answer();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::Timer;

    #[test]
    fn answers_come_in_order_and_never_early() {
        let latency = Duration::from_millis(5);
        let timer = Timer::start(latency).expect("a thread");
        let (sender, answers) = channel();
        let start = Instant::now();
        for number in 0..100 {
            let sender = sender.clone();
            timer.answer_later(move || sender.send(number).expect("a receiver"));
        }
        drop(sender);
        assert_eq!(answers.recv(), Ok(0));
        assert!(start.elapsed() >= latency);
        assert!(answers.into_iter().eq(1..100));
    }
}
