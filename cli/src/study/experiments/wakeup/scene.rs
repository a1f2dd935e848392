//! A sleeper, a waker, and threads that keep their processors busy, each on its own processor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::bell::Bell;
use crate::study::estimate::median;
use crate::study::instruments::meter::{Whose, cpu_ns, now_ns};
use crate::study::latency::Latency;

/// The processors of the threads, and the load of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub sleeper: usize,
    pub waker: usize,
    /// Whether another thread computes on each of the two processors.
    pub loaded: bool,
    /// How long the sleeper sleeps before it is woken.
    pub asleep: Duration,
}

/// What waking has cost: medians, because a single preemption takes longer than all wake-ups.
pub struct Woken {
    /// Nanoseconds from the call that wakes until the sleeper runs.
    pub latency: f64,
    /// Nanoseconds until the call returns to the waker.
    pub call: f64,
    /// Processor time of the sleeper for falling asleep and waking, on average.
    pub sleeper_cpu: f64,
    pub latencies: Latency,
}

/// How often the waker looks whether the sleeper has run.
const LOOK: Duration = Duration::from_micros(20);

/// The time after which the sleeper counts as lost.
const GIVE_UP: Duration = Duration::from_secs(5);

/// The processors that this thread may use.
pub fn processors() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// Moves this thread to `processor`.
fn move_to(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

impl Scene {
    /// Wakes the sleeper again and again for `time`, and at least three times.
    pub fn play(&self, bell: &Bell, time: Duration) -> Result<Woken> {
        let ran = AtomicU64::new(0);
        let over = AtomicBool::new(false);
        let (waker, sleeper) = thread::scope(|scope| {
            if self.loaded {
                for processor in [self.sleeper, self.waker] {
                    scope.spawn({
                        let over = &over;
                        move || compute(processor, over)
                    });
                    if self.sleeper == self.waker {
                        break;
                    }
                }
            }
            let sleeper = scope.spawn(|| self.sleep(bell, &ran, &over));
            let waker = scope.spawn(|| {
                let woken = self.wake(bell, time, &ran);
                over.store(true, Ordering::Release);
                woken.and_then(|woken| bell.ring().map(|()| woken))
            });
            (waker.join(), sleeper.join())
        });
        let mut woken = waker.map_err(|_| anyhow!("the waker panicked"))??;
        woken.sleeper_cpu = sleeper.map_err(|_| anyhow!("the sleeper panicked"))??;
        Ok(woken)
    }

    /// Sleeps until it is over. Returns the processor time of each sleep.
    fn sleep(&self, bell: &Bell, ran: &AtomicU64, over: &AtomicBool) -> Result<f64> {
        move_to(self.sleeper)?;
        let cpu = cpu_ns(Whose::Thread);
        let mut heard = 0;
        loop {
            bell.wait(heard)?;
            ran.store(now_ns(), Ordering::Release);
            heard += 1;
            if over.load(Ordering::Acquire) {
                return Ok((cpu_ns(Whose::Thread) - cpu) as f64 / f64::from(heard));
            }
        }
    }

    fn wake(&self, bell: &Bell, time: Duration, ran: &AtomicU64) -> Result<Woken> {
        move_to(self.waker)?;
        let mut latencies = Latency::new();
        let (mut latency, mut call) = (Vec::new(), Vec::new());
        let start = Instant::now();
        while call.len() < 3 || start.elapsed() < time {
            thread::sleep(self.asleep);
            ran.store(0, Ordering::Release);
            let began = now_ns();
            bell.ring()?;
            call.push((now_ns() - began) as f64);
            let woken = until_it_ran(ran)? - began;
            latency.push(woken as f64);
            latencies.add(woken, 1);
        }
        Ok(Woken {
            latency: median(&mut latency).unwrap_or_default(),
            call: median(&mut call).unwrap_or_default(),
            sleeper_cpu: 0.0,
            latencies,
        })
    }
}

/// Waits until the sleeper has run, and returns when that was.
fn until_it_ran(ran: &AtomicU64) -> Result<u64> {
    let start = Instant::now();
    loop {
        match ran.load(Ordering::Acquire) {
            0 if start.elapsed() < GIVE_UP => thread::sleep(LOOK),
            0 => return Err(anyhow!("the sleeper did not wake up")),
            ns => return Ok(ns),
        }
    }
}

/// Keeps `processor` busy until it is over.
fn compute(processor: usize, over: &AtomicBool) {
    // Where threads cannot be moved, the sleeper and the waker report it.
    let _ = move_to(processor);
    let mut number = 1_u64;
    while !over.load(Ordering::Relaxed) {
        for _ in 0..1000 {
            number = std::hint::black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bell::{Bell, Way};
    use super::{Scene, processors};

    #[test]
    fn a_sleeper_is_woken_on_any_processor() {
        let processors = processors().expect("the processors");
        let last = processors[processors.len() - 1];
        for way in Way::ALL {
            for loaded in [false, true] {
                let scene = Scene {
                    sleeper: processors[0],
                    waker: last,
                    loaded,
                    asleep: Duration::from_micros(100),
                };
                let bell = Bell::new(way).expect("a bell");
                let woken = scene.play(&bell, Duration::ZERO).expect("it wakes");
                assert!(woken.latency > 0.0 && woken.call > 0.0);
                assert_eq!(woken.latencies.count(), 3);
            }
        }
    }
}
