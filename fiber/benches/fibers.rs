//! Measures the cost of common operations: `cargo bench -p fiber`. To measure the same from C, run
//! `cargo run --release -p fiber --example costs`.

use criterion::{Criterion, criterion_group, criterion_main};
use fiber::{JoinHandle, Mutex, Options, Semaphore};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `f` on a fiber, with one worker.
fn on_a_fiber(f: impl FnOnce()) {
    fiber::run(Options::new().workers(1), f).unwrap();
}

/// Returns the time for `n` yields of each of `others + 1` fibers, divided by the number of fibers.
fn yields(others: u32, n: u64) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Arc::new(AtomicU32::new(0));
    let fibers: Vec<_> = (0..others)
        .map(|_| {
            let (stop, started) = (stop.clone(), started.clone());
            fiber::spawn(move || {
                started.fetch_add(1, Ordering::Relaxed);
                while !stop.load(Ordering::Relaxed) {
                    fiber::yield_now();
                }
            })
        })
        .collect();
    // Wait until all fibers run. Until then, a yield returns before each of them had its turn, and
    // would be counted as a whole round.
    while started.load(Ordering::Relaxed) < others {
        fiber::yield_now();
    }
    let began = Instant::now();
    for _ in 0..n {
        fiber::yield_now();
    }
    let time = began.elapsed() / (others + 1);
    stop.store(true, Ordering::Relaxed);
    fibers.into_iter().for_each(|f| f.join().unwrap());
    time
}

/// Returns the sum of the numbers of all leaves. Each fiber creates ten fibers and joins them.
fn tree(first: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return first;
    }
    let each = leaves / 10;
    let children: [_; 10] = std::array::from_fn(|i| {
        let first = first + i as u64 * each;
        fiber::spawn(move || tree(first, each))
    });
    children.into_iter().map(|f| f.join().unwrap()).sum()
}

/// Spawns a fiber that runs on the second worker. No fiber of the caller's worker runs until it has
/// started there.
fn on_the_other_worker<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let here = thread::current().id();
    let started = Arc::new(AtomicBool::new(false));
    let s = started.clone();
    let fiber = fiber::spawn(move || {
        assert_ne!(
            thread::current().id(),
            here,
            "it started on the first worker"
        );
        s.store(true, Ordering::Release);
        f()
    });
    while !started.load(Ordering::Acquire) {
        thread::yield_now();
    }
    fiber
}

/// A fiber that answers each post of the first semaphore with a post of the second, until it is
/// told to stop.
struct Echo {
    ping: Arc<Semaphore>,
    pong: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
    fiber: JoinHandle<()>,
}

impl Echo {
    fn start(spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> JoinHandle<()>) -> Echo {
        let (ping, pong) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (p, q, s) = (ping.clone(), pong.clone(), stop.clone());
        let fiber = spawn(Box::new(move || {
            loop {
                p.wait();
                if s.load(Ordering::Relaxed) {
                    break;
                }
                q.post();
            }
        }));
        Echo {
            ping,
            pong,
            stop,
            fiber,
        }
    }

    fn there_and_back(&self) {
        self.ping.post();
        self.pong.wait();
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ping.post();
        self.fiber.join().unwrap();
    }
}

/// Measures setting and cancelling one timer among `others` that are set: a wait with a limit that
/// ends at once.
fn timed_waits(c: &mut Criterion, others: u32) {
    let end = Arc::new(Semaphore::new(0));
    let asleep = Arc::new(AtomicU32::new(0));
    let sleepers: Vec<_> = (0..others)
        .map(|i| {
            let (end, asleep) = (end.clone(), asleep.clone());
            fiber::spawn(move || {
                asleep.fetch_add(1, Ordering::Relaxed);
                // None of these limits expires during the benchmark.
                let limit =
                    Duration::from_secs(3600 + u64::from(i.wrapping_mul(2654435761) % 3600));
                assert!(end.wait_timeout(limit));
            })
        })
        .collect();
    while asleep.load(Ordering::Relaxed) < others {
        fiber::yield_now();
    }
    let echo = Echo::start(fiber::spawn);
    c.bench_function(&format!("wait with a limit, beside {others} timers"), |b| {
        b.iter(|| {
            echo.ping.post();
            assert!(echo.pong.wait_timeout(Duration::from_secs(1000)));
        })
    });
    echo.end();
    (0..others).for_each(|_| end.post());
    sleepers.into_iter().for_each(|f| f.join().unwrap());
}

fn benches(c: &mut Criterion) {
    one_worker(c);
    two_workers(c);
}

fn two_workers(c: &mut Criterion) {
    fiber::run(Options::new().workers(2), || {
        let echo = Echo::start(on_the_other_worker);
        c.bench_function("wake across workers, there and back", |b| {
            b.iter(|| echo.there_and_back())
        });
        echo.end();
        c.bench_function("spawn until another worker has run it", |b| {
            b.iter(|| on_the_other_worker(|| black_box(1)).join().unwrap())
        });
    })
    .unwrap();
}

fn one_worker(c: &mut Criterion) {
    on_a_fiber(|| {
        for others in [1, 9, 99, 999, 9999] {
            c.bench_function(&format!("yield among {}", others + 1), |b| {
                b.iter_custom(|n| yields(others, n))
            });
        }
        c.bench_function("spawn and join", |b| {
            b.iter(|| fiber::spawn(|| black_box(1)).join().unwrap())
        });
        c.bench_function("spawn 1000, then join them", |b| {
            b.iter(|| {
                let fibers: Vec<_> = (0..1000)
                    .map(|i| fiber::spawn(move || black_box(i)))
                    .collect();
                fibers.into_iter().map(|f| f.join().unwrap()).sum::<i32>()
            })
        });
        c.bench_function("a tree of 1111 fibers", |b| b.iter(|| tree(0, 1000)));
        c.bench_function("mutex, uncontended", |b| {
            let mutex = Mutex::new(0);
            b.iter(|| *mutex.lock() += 1)
        });
        c.bench_function("park and unpark, two semaphores", |b| {
            let echo = Echo::start(fiber::spawn);
            b.iter(|| echo.there_and_back());
            echo.end();
        });
        for others in [0, 10_000] {
            timed_waits(c, others);
        }
    });
}

criterion_group! {
    name = group;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = benches
}
criterion_main!(group);
