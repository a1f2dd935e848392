//! What the common steps cost: `cargo bench -p fiber`. The same from C: `cargo run --release -p fiber --example costs`.

use criterion::{Criterion, criterion_group, criterion_main};
use fiber::{Mutex, Options, Semaphore};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Runs `f` on a fiber of one worker.
fn on_a_fiber(f: impl FnOnce()) {
    fiber::run(Options::new().workers(1), f).unwrap();
}

/// Time for `n` yields of each of `others + 1` fibers, divided by their number.
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
    // Until all run, a yield comes back before each of them had its turn, and would be counted as a whole round.
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

fn benches(c: &mut Criterion) {
    on_a_fiber(|| {
        for others in [1, 9, 99, 999] {
            c.bench_function(&format!("yield among {}", others + 1), |b| {
                b.iter_custom(|n| yields(others, n))
            });
        }
        c.bench_function("spawn and join", |b| {
            b.iter(|| fiber::spawn(|| black_box(1)).join().unwrap())
        });
        c.bench_function("mutex, uncontended", |b| {
            let mutex = Mutex::new(0);
            b.iter(|| *mutex.lock() += 1)
        });
        c.bench_function("park and unpark, two semaphores", |b| {
            let (ping, pong) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
            let (p, q) = (ping.clone(), pong.clone());
            let stop = Arc::new(AtomicBool::new(false));
            let s = stop.clone();
            let echo = fiber::spawn(move || {
                loop {
                    p.wait();
                    if s.load(Ordering::Relaxed) {
                        break;
                    }
                    q.post();
                }
            });
            b.iter(|| {
                ping.post();
                pong.wait();
            });
            stop.store(true, Ordering::Relaxed);
            ping.post();
            echo.join().unwrap();
        });
    });
}

criterion_group! {
    name = group;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = benches
}
criterion_main!(group);
