//! The queue of a crew's jobs, and the threads that wait for one.
//!
//! To hand a job to a sleeping thread takes a wake-up and a context switch more than the job itself
//! needs. A thread that finds no job therefore yields the CPU once before it sleeps. Most often the
//! thread that runs the fibers waits for the same CPU at that moment, and queues the next job. If
//! other processes need the CPU, a yield costs a time slice; then most threads go without it.
//!
//! The thread that fell asleep last is woken first: its memory is most likely still in the CPU's
//! caches, and the threads that are not needed sleep until they end.
//!
//! Invariants: a thread falls asleep only while there is no item, and a push wakes a thread if one
//! sleeps. A woken thread may find that another one, which was awake, has taken the item. A sleeper
//! is in the list exactly while its state is ASLEEP, and both change under the lock.

use crate::context::Mutex;
use rustix::event::Timespec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

pub struct Queue<T> {
    state: Mutex<State<T>>,
    /// How many times threads will sleep without a yield before.
    sleeps_at_once: AtomicU32,
    /// The value of `sleeps_at_once` after the next slow yield.
    after_slow_yield: AtomicU32,
}

struct State<T> {
    items: VecDeque<T>,
    /// The threads that sleep, in the order in which they fell asleep.
    sleepers: Vec<Arc<Sleeper>>,
}

/// What a thread sleeps on.
pub struct Sleeper {
    /// A futex: AWAKE or ASLEEP.
    state: AtomicU32,
}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// A yield that takes longer has most likely let another process run. The threads of a busy crew
/// return from it after 10 us each.
const SLOW_YIELD_NS: u64 = 500_000;

/// How many times threads sleep without a yield after a slow one. The number doubles with each slow
/// yield in a row: a single one may have other causes.
const FEWEST_WITHOUT_YIELD: u32 = 8;
const MOST_WITHOUT_YIELD: u32 = 1024;

impl<T> Queue<T> {
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                sleepers: Vec::new(),
            }),
            sleeps_at_once: AtomicU32::new(0),
            after_slow_yield: AtomicU32::new(FEWEST_WITHOUT_YIELD),
        }
    }

    /// Adds an item. Wakes a thread only if one sleeps, because waking is a system call.
    pub fn push(&self, item: T) {
        let mut state = self.state.lock();
        state.items.push_back(item);
        let sleeper = state.sleepers.pop();
        if let Some(sleeper) = &sleeper {
            sleeper.state.store(AWAKE, Release);
        }
        drop(state);
        if let Some(sleeper) = sleeper {
            sys::futex_wake(&sleeper.state, 1, false);
        }
    }

    /// Takes the first item; None if the queue stays empty for `time`. `sleeper` is the calling
    /// thread's own.
    pub fn take_within(&self, sleeper: &Arc<Sleeper>, time: Duration) -> Option<T> {
        if let Some(item) = self.take() {
            return Some(item);
        }
        self.yield_if_quick();
        let end = sys::now() + time.as_nanos() as u64;
        loop {
            let mut state = self.state.lock();
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            let is_listed = || {
                state
                    .sleepers
                    .iter()
                    .any(|other| Arc::ptr_eq(other, sleeper))
            };
            debug_assert!(!is_listed(), "a push would wake one thread twice");
            sleeper.state.store(ASLEEP, Relaxed);
            state.sleepers.push(Arc::clone(sleeper));
            drop(state);
            if !sleeper.sleep_until(end) {
                let mut state = self.state.lock();
                state.sleepers.retain(|other| !Arc::ptr_eq(other, sleeper));
                sleeper.state.store(AWAKE, Relaxed);
                return state.items.pop_front();
            }
        }
    }

    fn take(&self) -> Option<T> {
        self.state.lock().items.pop_front()
    }

    /// Lets the thread run that may queue the next item, unless yields are slow.
    fn yield_if_quick(&self) {
        // If two threads count down at the same time, one of the two steps is lost.
        let left = self.sleeps_at_once.load(Relaxed);
        if left > 0 {
            self.sleeps_at_once.store(left - 1, Relaxed);
            return;
        }
        let begin = sys::now();
        sys::yield_thread();
        self.note_yield(sys::now() - begin);
    }

    fn note_yield(&self, took_ns: u64) {
        let mut next = FEWEST_WITHOUT_YIELD;
        if took_ns > SLOW_YIELD_NS {
            let pause = self.after_slow_yield.load(Relaxed);
            self.sleeps_at_once.store(pause, Relaxed);
            next = (pause * 2).min(MOST_WITHOUT_YIELD);
        }
        self.after_slow_yield.store(next, Relaxed);
    }
}

impl Sleeper {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU32::new(AWAKE),
        })
    }

    /// Returns false if the time has come and nobody has woken the thread.
    fn sleep_until(&self, end: u64) -> bool {
        while self.state.load(Acquire) == ASLEEP {
            let left = end.saturating_sub(sys::now());
            if left == 0 {
                return false;
            }
            let limit = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            sys::futex_wait(&self.state, ASLEEP, false, Some(&limit));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    fn await_sleepers(queue: &Queue<usize>, count: usize) {
        while queue.state.lock().sleepers.len() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn an_empty_queue_ends_the_wait() {
        let queue = Queue::<usize>::new();
        let sleeper = Sleeper::new();
        assert_eq!(queue.take_within(&sleeper, Duration::from_nanos(1)), None);
        assert!(queue.state.lock().sleepers.is_empty());
        queue.push(1);
        assert_eq!(queue.take_within(&sleeper, Duration::ZERO), Some(1));
    }

    #[test]
    fn the_last_sleeper_is_woken_first() {
        let queue = Queue::new();
        thread::scope(|scope| {
            let first = scope.spawn(|| queue.take_within(&Sleeper::new(), LONG));
            await_sleepers(&queue, 1);
            let second = scope.spawn(|| queue.take_within(&Sleeper::new(), LONG));
            await_sleepers(&queue, 2);
            queue.push(1);
            assert_eq!(second.join().unwrap(), Some(1));
            queue.push(2);
            assert_eq!(first.join().unwrap(), Some(2));
        });
    }

    #[test]
    fn slow_yields_become_rare() {
        let queue = Queue::<usize>::new();
        let (slow, quick) = (SLOW_YIELD_NS + 1, SLOW_YIELD_NS);
        let pause = || queue.sleeps_at_once.swap(0, Relaxed);
        let pauses: Vec<_> = (0..9)
            .map(|_| (queue.note_yield(slow), pause()).1)
            .collect();
        assert_eq!(pauses, [8, 16, 32, 64, 128, 256, 512, 1024, 1024]);
        queue.note_yield(quick);
        assert_eq!(pause(), 0);
        queue.note_yield(slow);
        assert_eq!(pause(), 8, "a quick yield ends the row");
    }

    #[test]
    fn a_pause_ends_after_so_many_sleeps() {
        let queue = Queue::<usize>::new();
        queue.sleeps_at_once.store(3, Relaxed);
        let sleeper = Sleeper::new();
        for left in [2, 1, 0] {
            assert_eq!(queue.take_within(&sleeper, Duration::ZERO), None);
            assert_eq!(queue.sleeps_at_once.load(Relaxed), left);
        }
    }

    #[test]
    fn no_item_is_lost_or_taken_twice() {
        const ITEMS: usize = 20_000;
        let queue = Queue::new();
        let (taken, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let sleeper = Sleeper::new();
                    // Short waits, so that many of them end while an item is pushed.
                    while taken.load(SeqCst) < ITEMS {
                        if let Some(item) = queue.take_within(&sleeper, Duration::from_micros(20)) {
                            sum.fetch_add(item, SeqCst);
                            taken.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
            for item in 0..ITEMS {
                queue.push(item);
                if item % 7 == 0 {
                    thread::yield_now();
                }
            }
        });
        assert_eq!(taken.into_inner(), ITEMS);
        assert_eq!(sum.into_inner(), ITEMS * (ITEMS - 1) / 2);
    }
}
