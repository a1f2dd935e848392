//! The C++ ABI's guards: a static variable of a function is initialised once, by the first fiber or
//! thread that reaches it.
//!
//! The C++ library's own functions cannot tell the fibers of one thread apart. If a second fiber
//! arrives while the first one waits in the initialiser, it gets a `recursive_init_error` or blocks
//! the thread. The functions here park it instead.
//!
//! The first byte of a guard says that the variable is initialised; compiled code checks it without
//! a call. The other bits are those of libstdc++, because a library may contain a copy of
//! libstdc++'s functions. The upper half identifies the owner. It tells an initialiser that uses
//! its own variable from another fiber that has to wait.

use crate::arch::slots;
use crate::clock::NEVER;
use crate::record::wait_queue::Queue;
use crate::record::wait_reason::WaitReason;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::futex;

/// The variable is initialised.
const DONE: u32 = 1;
/// A fiber or thread is initialising the variable.
const PENDING: u32 = 1 << 8;
/// The variable is being initialised, and others wait.
const WAITED_FOR: u32 = 1 << 16;

/// `__guard` of the C++ ABI, 64 bits.
#[repr(C, align(8))]
pub(crate) struct Guard {
    state: AtomicU32,
    owner: AtomicU32,
}

/// Fibers that wait for any guard. Such waits are rare, so one queue is enough; a woken fiber
/// checks its own guard.
static WAITING: Queue = Queue::new(0);

/// Returns a number that identifies the calling fiber or thread.
fn caller() -> u32 {
    match on_fiber() {
        // Records are 64 bytes apart.
        Ok(worker) => (worker.current().addr() >> 6) as u32,
        Err(_) => (slots::exceptions().addr() >> 4) as u32,
    }
}

/// Returns 1 if the caller must initialise the variable, or 0 once it is initialised. May park.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_guard_acquire(guard: &Guard) -> c_int {
    let mut state = guard.state.load(Ordering::Acquire);
    loop {
        if state & DONE != 0 {
            return 0;
        }
        let next = if state == 0 {
            PENDING
        } else {
            PENDING | WAITED_FOR
        };
        if state != 0 && guard.owner.load(Ordering::Relaxed) == caller() {
            return recursive_init(guard);
        }
        match guard
            .state
            .compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(0) => {
                guard.owner.store(caller(), Ordering::Relaxed);
                return 1;
            }
            Ok(_) => {
                wait_for(guard);
                state = guard.state.load(Ordering::Acquire);
            }
            Err(now) => state = now,
        }
    }
}

/// Waits until the owner of the guard is done. May return early.
fn wait_for(guard: &Guard) {
    let is_pending = || guard.state.load(Ordering::SeqCst) == PENDING | WAITED_FOR;
    let Ok(worker) = on_fiber() else {
        // The futex is not private, because libstdc++ does not use a private one.
        let _ = futex::wait(
            &guard.state,
            futex::Flags::empty(),
            PENDING | WAITED_FOR,
            None,
        );
        return;
    };
    let queue = WAITING.lock();
    if is_pending() {
        let _ = wait::wait(worker, queue, WaitReason::Once, 0, NEVER, || ());
    }
}

/// Marks the variable as initialised.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_guard_release(guard: &Guard) {
    end(guard, DONE);
}

/// An exception left the initialiser; the next caller tries again.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_guard_abort(guard: &Guard) {
    end(guard, 0);
}

fn end(guard: &Guard, state: u32) {
    guard.owner.store(0, Ordering::Relaxed);
    if guard.state.swap(state, Ordering::SeqCst) & WAITED_FOR == 0 {
        return;
    }
    let _ = futex::wake(&guard.state, futex::Flags::empty(), u32::MAX >> 1);
    let mut queue = WAITING.lock();
    let all = queue.pop_all();
    drop(queue);
    all.wake();
}

/// The initialiser used its own variable, which is undefined in C++. Leaves the reaction to the C++
/// library.
#[cold]
fn recursive_init(guard: &Guard) -> c_int {
    type Acquire = extern "C" fn(&Guard) -> c_int;
    // SAFETY: dlsym only looks the name up.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"__cxa_guard_acquire".as_ptr()) };
    if next.is_null() {
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            b"fiber: the initialiser of a static variable used the variable itself; aborting\n",
        );
        std::process::abort();
    }
    // SAFETY: this is the type that the C++ ABI gives the function. It throws or waits forever.
    let next = unsafe { transmute::<*mut c_void, Acquire>(next) };
    next(guard)
}
