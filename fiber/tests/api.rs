//! Tests of the Rust API: results, panics, and every object under stress on one worker and on
//! three.

use fiber::{Barrier, Builder, Condvar, Errno, Mutex, Once, Options, RwLock, Semaphore};
use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

unsafe extern "C" {
    /// A function of the library's C API, callable from any thread.
    safe fn fiber_dump(fd: i32);
}

/// Far longer than any test takes. It guards against a hang and measures nothing.
const HANG_LIMIT: Duration = Duration::from_secs(60);

/// Calls `fiber::run`. If the run hangs, ends the process with a line that names the test and one
/// line per fiber.
fn run<T>(options: Options, f: impl FnOnce() -> T) -> Result<T, Errno> {
    let (running, ended) = mpsc::channel::<()>();
    let test = thread::current()
        .name()
        .unwrap_or("a thread of a test")
        .to_owned();
    thread::spawn(move || {
        if ended.recv_timeout(HANG_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Do not use eprintln: the test harness captures its output until the test ends.
            let _ = writeln!(
                io::stderr(),
                "\n{test} hangs (no end after {HANG_LIMIT:?}). All fibers:"
            );
            fiber_dump(2);
            std::process::abort();
        }
    });
    let result = fiber::run(options, f);
    drop(running);
    result
}

/// Runs `f` on one worker and on three.
fn everywhere(f: impl Fn()) {
    for workers in [1, 3] {
        run(Options::new().workers(workers), &f).unwrap();
    }
}

fn spawn_all(n: u32, f: impl Fn(u32) + Send + Sync + 'static) {
    let f = Arc::new(f);
    let fibers: Vec<_> = (0..n)
        .map(|i| {
            let f = f.clone();
            fiber::spawn(move || f(i))
        })
        .collect();
    fibers.into_iter().for_each(|h| h.join().unwrap());
}

#[test]
fn results_come_back() {
    everywhere(|| {
        let fibers: Vec<_> = (0..100u64)
            .map(|i| fiber::spawn(move || (i, vec![i; 3])))
            .collect();
        for (i, f) in (0..).zip(fibers) {
            assert_eq!(f.join().unwrap(), (i, vec![i; 3]));
        }
    });
    assert_eq!(run(Options::new(), || "borrowed".len()), Ok(8));
}

#[test]
fn panics_come_back_from_join_and_run() {
    everywhere(|| {
        let panicked = fiber::spawn(|| -> u32 { panic!("on a fiber") })
            .join()
            .unwrap_err();
        assert_eq!(*panicked.downcast_ref::<&str>().unwrap(), "on a fiber");
    });
    let out =
        std::panic::catch_unwind(|| run(Options::new(), || -> u32 { panic!("in the first") }));
    assert_eq!(
        *out.unwrap_err().downcast_ref::<&str>().unwrap(),
        "in the first"
    );
}

#[test]
fn a_dropped_handle_leaves_the_fiber_running() {
    everywhere(|| {
        let ran = Arc::new(Semaphore::new(0));
        let value = Arc::new(());
        for _ in 0..10 {
            let (ran, value) = (ran.clone(), value.clone());
            drop(fiber::spawn(move || {
                ran.post();
                value
            }));
        }
        (0..10).for_each(|_| ran.wait());
        while Arc::strong_count(&value) > 1 {
            fiber::yield_now();
        }
    });
}

#[test]
fn run_waits_for_every_fiber() {
    for workers in [1, 3] {
        let ended = Arc::new(AtomicU32::new(0));
        let count = ended.clone();
        run(Options::new().workers(workers), move || {
            for _ in 0..100 {
                let ended = count.clone();
                fiber::spawn(move || {
                    (0..10).for_each(|_| fiber::yield_now());
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        })
        .unwrap();
        assert_eq!(ended.load(Ordering::Relaxed), 100);
    }
}

#[test]
fn names_and_numbers() {
    everywhere(|| {
        let me = fiber::current().unwrap();
        assert!(me.id() > 0);
        assert_eq!(me.name(), None);
        let f = Builder::new()
            .name("a name too long by far")
            .spawn(|| fiber::current().unwrap())
            .unwrap();
        let id = f.id();
        let it = f.join().unwrap();
        assert!(id > me.id());
        assert_eq!((it.id(), it.name()), (0, None), "it is gone");
        let f = Builder::new()
            .name("ein Näme ohne é")
            .spawn(|| fiber::current().unwrap().name())
            .unwrap();
        assert_eq!(
            f.join().unwrap().as_deref(),
            Some("ein Näme ohne "),
            "cut between characters"
        );
    });
    assert!(fiber::current().is_none());
}

#[test]
fn options_are_checked() {
    assert_eq!(run(Options::new().workers(5000), || ()), Err(Errno::EINVAL));
    assert_eq!(
        run(Options::new().stack_size(100), || ()),
        Err(Errno::EINVAL)
    );
    run(Options::new(), || {
        assert_eq!(run(Options::new(), || ()), Err(Errno::EBUSY));
        assert_eq!(
            Builder::new().stack_size(1).spawn(|| ()).unwrap_err(),
            Errno::EINVAL
        );
    })
    .unwrap();
    assert_eq!(Builder::new().spawn(|| ()).unwrap_err(), Errno::EPERM);
    assert!(
        std::panic::catch_unwind(|| Mutex::new(1).lock().to_owned()).is_err(),
        "not on a fiber"
    );
}

#[test]
fn deep_frames_fit_the_stack_asked_for() {
    fn deep(n: u32) -> u32 {
        let frame = std::hint::black_box([n; 256]);
        if n == 0 {
            0
        } else {
            deep(n - 1) + u32::from(frame[255] == n)
        }
    }
    everywhere(|| {
        let f = Builder::new()
            .stack_size(16 << 20)
            .spawn(|| deep(3000))
            .unwrap();
        assert_eq!(f.join().unwrap(), 3000);
    });
}

#[test]
fn mutex_excludes_and_is_granted_in_order() {
    everywhere(|| {
        let counter = Arc::new(Mutex::new(0u64));
        let inside = Arc::new(AtomicBool::new(false));
        let c = counter.clone();
        spawn_all(20, move |i| {
            for n in 0..500 {
                let mut count = c.lock();
                assert!(!inside.swap(true, Ordering::Relaxed));
                if (n + i) % 7 == 0 {
                    fiber::yield_now();
                }
                *count += 1;
                inside.store(false, Ordering::Relaxed);
            }
        });
        assert_eq!(*counter.lock(), 10_000);
        assert!(counter.try_lock().is_some());
    });
    // With one worker the order is known.
    run(Options::new().workers(1), || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = order.lock();
        let fibers: Vec<_> = (0..10)
            .map(|i| {
                let order = order.clone();
                let f = fiber::spawn(move || order.lock().push(i));
                fiber::yield_now();
                f
            })
            .collect();
        drop(held);
        fibers.into_iter().for_each(|f| f.join().unwrap());
        assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
    })
    .unwrap();
}

#[test]
fn fibers_that_lock_in_a_loop_keep_no_other_worker_out() {
    run(Options::new().workers(3), || {
        let mutex = Arc::new(Mutex::new(0u64));
        let done = Arc::new(AtomicBool::new(false));
        let (m, d) = (mutex.clone(), done.clone());
        let hogs = fiber::spawn(move || {
            spawn_all(6, move |_| {
                for turn in 0u64.. {
                    let mut locked = m.lock();
                    *locked += 1;
                    if turn % 64 == 0 {
                        // Parks with the lock, so that the others queue up behind it.
                        fiber::yield_now();
                    }
                    if d.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        });
        // Each of these fibers gets the lock a hundred times.
        let m = mutex.clone();
        spawn_all(6, move |_| {
            for _ in 0..100 {
                *m.lock() += 1;
                fiber::yield_now();
            }
        });
        done.store(true, Ordering::Relaxed);
        hogs.join().unwrap();
        assert!(*mutex.lock() >= 600);
    })
    .unwrap();
}

#[test]
fn condvar_passes_a_token_around() {
    everywhere(|| {
        let shared = Arc::new((Mutex::new(0u32), Condvar::new()));
        let s = shared.clone();
        spawn_all(5, move |i| {
            for lap in 0..200 {
                let mut turn = s.1.wait_while(s.0.lock(), |turn| *turn != lap * 5 + i);
                *turn += 1;
                drop(turn);
                s.1.notify_all();
            }
        });
        assert_eq!(*shared.0.lock(), 1000);
    });
}

#[test]
fn waits_with_a_limit_end() {
    everywhere(|| {
        let m = Mutex::new(());
        let (_guard, out) = Condvar::new().wait_timeout(m.lock(), Duration::from_millis(1));
        assert!(out);
        assert!(!Semaphore::new(0).wait_timeout(Duration::from_millis(1)));
        assert!(Semaphore::new(1).wait_timeout(Duration::ZERO));
    });
}

/// Timers and posts race for the same waiters. No unit may be lost, and none may be counted twice.
#[test]
fn timeouts_and_posts_race_without_loss() {
    everywhere(|| {
        const UNITS: usize = 3000;
        let sem = Arc::new(Semaphore::new(0));
        let got = Arc::new(AtomicUsize::new(0));
        let (s, g) = (sem.clone(), got.clone());
        let takers = fiber::spawn(move || {
            spawn_all(8, move |i| {
                while g.load(Ordering::Relaxed) < UNITS {
                    if s.wait_timeout(Duration::from_micros(u64::from(i) * 3)) {
                        g.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        for _ in 0..UNITS {
            sem.post();
            fiber::yield_now();
        }
        takers.join().unwrap();
        assert_eq!((got.load(Ordering::Relaxed), sem.value()), (UNITS, 0));
    });
}

#[test]
fn rwlock_shares_readers_and_excludes_writers() {
    everywhere(|| {
        let pair = Arc::new(RwLock::new((0u32, 0u32)));
        let p = pair.clone();
        spawn_all(12, move |i| {
            for _ in 0..300 {
                if i % 4 == 0 {
                    let mut both = p.write();
                    both.0 += 1;
                    fiber::yield_now();
                    both.1 += 1;
                } else {
                    let both = p.read();
                    fiber::yield_now();
                    assert_eq!(both.0, both.1);
                }
            }
        });
        assert_eq!(*pair.read(), (900, 900));
        let (a, b) = (pair.read(), pair.try_read());
        assert!(b.is_some() && pair.try_write().is_none());
        drop((a, b));
        assert!(pair.try_write().is_some());
    });
}

#[test]
fn barrier_has_one_leader_per_round() {
    everywhere(|| {
        let barrier = Arc::new(Barrier::new(6));
        let leaders = Arc::new(AtomicU32::new(0));
        let l = leaders.clone();
        spawn_all(6, move |_| {
            for round in 1..=200 {
                if barrier.wait().is_leader() {
                    assert_eq!(l.fetch_add(1, Ordering::Relaxed) + 1, round);
                }
            }
        });
        assert_eq!(leaders.load(Ordering::Relaxed), 200);
    });
}

#[test]
fn once_runs_once_and_again_after_a_panic() {
    everywhere(|| {
        let once = Arc::new((Once::new(), AtomicU32::new(0)));
        let o = once.clone();
        let failed = fiber::spawn(move || o.0.call_once(|| panic!("first try"))).join();
        assert!(failed.is_err() && !once.0.is_completed());
        let o = once.clone();
        spawn_all(20, move |_| {
            o.0.call_once(|| {
                fiber::yield_now();
                o.1.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(o.1.load(Ordering::Relaxed), 1);
        });
    });
}

#[test]
fn sleepers_sleep_long_enough() {
    everywhere(|| {
        spawn_all(20, |i| {
            let before = std::time::Instant::now();
            let time = Duration::from_micros(u64::from(i) * 300);
            fiber::sleep(time);
            assert!(before.elapsed() >= time);
        });
    });
}

/// Runs a fiber that can end only if another one runs at the same time. This proves that a second
/// worker stole it.
#[test]
fn idle_workers_steal_unstarted_fibers() {
    run(Options::new().workers(2), || {
        let here = thread::current().id();
        let flag = Arc::new(AtomicBool::new(false));
        let f = flag.clone();
        let other = fiber::spawn(move || {
            f.store(true, Ordering::Release);
            thread::current().id()
        });
        // This blocks the worker. Without stealing, the loop would never end.
        while !flag.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert_ne!(other.join().unwrap(), here);
    })
    .unwrap();
}

#[test]
fn a_fiber_that_creates_and_joins_others_delays_no_other() {
    everywhere(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        let others: Vec<_> = (0..1000)
            .map(|i| {
                let ran = ran.clone();
                fiber::spawn(move || {
                    (0..i % 3).for_each(|_| fiber::yield_now());
                    ran.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        while ran.load(Ordering::Relaxed) < others.len() {
            fiber::spawn(|| ()).join().unwrap();
        }
        // Join in reverse order of creation.
        others.into_iter().rev().for_each(|f| f.join().unwrap());
    });
}

#[test]
fn a_tree_of_fibers_sums_up() {
    fn sum(first: u64, leaves: u64) -> u64 {
        if leaves == 1 {
            return first;
        }
        let each = leaves / 10;
        let children: Vec<_> = (0..10)
            .map(|i| fiber::spawn(move || sum(first + i * each, each)))
            .collect();
        children.into_iter().rev().map(|f| f.join().unwrap()).sum()
    }
    everywhere(|| assert_eq!(sum(0, 10_000), 9_999 * 10_000 / 2));
}

#[test]
fn a_started_fiber_stays_on_its_thread() {
    run(Options::new().workers(3), || {
        let sem = Arc::new(Semaphore::new(0));
        let s = sem.clone();
        spawn_all(50, move |i| {
            let home = thread::current().id();
            for _ in 0..100 {
                if i % 2 == 0 {
                    s.post()
                } else {
                    s.wait()
                }
                fiber::yield_now();
                assert_eq!(thread::current().id(), home);
            }
        });
    })
    .unwrap();
}

/// Plain threads post and fibers wait. Every post must wake a fiber, whether the workers sleep or
/// not.
#[test]
fn no_wake_up_from_plain_threads_is_lost() {
    for workers in [1, 3] {
        const EACH: u32 = 20_000;
        let (ping, pong) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (p, q) = (ping.clone(), pong.clone());
        let thread = thread::spawn(move || {
            for _ in 0..EACH {
                p.post();
                while !q.try_wait() {
                    thread::yield_now();
                }
            }
        });
        run(Options::new().workers(workers), move || {
            for _ in 0..EACH {
                ping.wait();
                pong.post();
            }
        })
        .unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn errno_belongs_to_the_fiber() {
    run(Options::new().workers(1), || {
        // SAFETY: the call returns the address of this thread's errno.
        let errno = || unsafe { &mut *libc::__errno_location() };
        spawn_all(5, move |i| {
            for n in 0..100 {
                *errno() = (i * 1000 + n) as i32;
                fiber::yield_now();
                if n % 10 == 0 {
                    fiber::sleep(Duration::from_micros(10));
                }
                assert_eq!(*errno(), (i * 1000 + n) as i32);
            }
        });
    })
    .unwrap();
}

/// The rounding mode is part of a fiber's context. A new fiber starts with the mode of the
/// runtime's caller.
#[cfg(target_arch = "x86_64")]
#[test]
fn rounding_belongs_to_the_fiber() {
    unsafe extern "C" {
        fn fesetround(mode: i32) -> i32;
        fn fegetround() -> i32;
    }
    const UPWARD: i32 = 0x800;
    run(Options::new().workers(1), || {
        // SAFETY: these calls change only the rounding mode of this fiber.
        let up = fiber::spawn(|| unsafe {
            fesetround(UPWARD);
            (0..10).for_each(|_| fiber::yield_now());
            let kept = fegetround();
            fesetround(0);
            kept
        });
        for _ in 0..5 {
            fiber::yield_now();
            // SAFETY: this only reads the mode.
            assert_eq!(unsafe { fegetround() }, 0);
            // SAFETY: this only reads the mode.
            assert_eq!(fiber::spawn(|| unsafe { fegetround() }).join().unwrap(), 0);
        }
        assert_eq!(up.join().unwrap(), UPWARD);
    })
    .unwrap();
}

#[test]
fn runtimes_come_one_after_another_and_side_by_side() {
    for _ in 0..50 {
        assert_eq!(
            run(Options::new().workers(2), || fiber::spawn(|| 1)
                .join()
                .unwrap()),
            Ok(1)
        );
    }
    // A fiber of one runtime wakes a fiber of the other one.
    let sem = Semaphore::new(0);
    thread::scope(|s| {
        s.spawn(|| run(Options::new(), || (0..1000).for_each(|_| sem.wait())).unwrap());
        s.spawn(|| run(Options::new(), || (0..1000).for_each(|_| sem.post())).unwrap());
    });
    assert_eq!(sem.value(), 0);
}

thread_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });

#[test]
fn a_panic_unwinds_through_parked_frames() {
    struct Bump;
    impl Drop for Bump {
        fn drop(&mut self) {
            fiber::yield_now();
            DEPTH.set(DEPTH.get() + 1);
        }
    }
    run(Options::new().workers(1), || {
        DEPTH.set(0);
        let fibers: Vec<_> = (0..5)
            .map(|_| {
                fiber::spawn(|| {
                    let _bump = Bump;
                    fiber::yield_now();
                    panic!("through");
                })
            })
            .collect();
        assert!(fibers.into_iter().all(|f| f.join().is_err()));
        assert_eq!(DEPTH.get(), 5);
    })
    .unwrap();
}
