//! The C++ ABI's guards: a static variable of a function is initialised once, by the fiber or
//! thread that comes first.
//!
//! The C++ library's own functions take all fibers of a thread for one: a second fiber that comes
//! while the first waits in the initialiser gets `recursive_init_error`, or blocks the thread.
//! These park it instead.
//!
//! A guard's first byte says that the variable is initialised: compiled code looks at that by
//! itself. The other bits are those of libstdc++, for a library that has its functions built in.
//! The upper half names the owner, by which an initialiser that comes back to its own variable is
//! told from one that waits.

use crate::fiber::Waits;
use crate::park::{self, Queue};
use crate::sync::on_fiber;
use crate::timer::NEVER;
use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::futex;

/// The variable is initialised.
const DONE: u32 = 1;
/// Somebody is initialising it.
const PENDING: u32 = 1 << 8;
/// The same, and others wait.
const WAITED_FOR: u32 = 1 << 16;

/// `__guard` of the C++ ABI, 64 bits.
#[repr(C, align(8))]
pub(crate) struct Guard {
    state: AtomicU32,
    owner: AtomicU32,
}

/// Fibers that wait for any guard: so few do that one queue is enough. Each looks at its own guard
/// once woken.
static WAITING: Queue = Queue::new(0);

/// A number for the calling fiber or thread.
fn caller() -> u32 {
    match on_fiber() {
        // Records are 64 bytes apart.
        Ok(worker) => (worker.current.get().addr() >> 6) as u32,
        Err(_) => (crate::tls::exceptions().addr() >> 4) as u32,
    }
}

/// 1 if the caller is to initialise the variable, 0 once it is initialised. May park.
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
            return came_back(guard);
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
                wait(guard);
                state = guard.state.load(Ordering::Acquire);
            }
            Err(now) => state = now,
        }
    }
}

/// Waits until the guard's owner is through. It may come back for nothing.
fn wait(guard: &Guard) {
    let is_pending = || guard.state.load(Ordering::SeqCst) == PENDING | WAITED_FOR;
    let Ok(worker) = on_fiber() else {
        // Not private: libstdc++ wakes so.
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
        let _ = park::wait(worker, queue, Waits::Once, 0, NEVER, || ());
    }
}

/// The variable is initialised.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_guard_release(guard: &Guard) {
    end(guard, DONE);
}

/// An exception left the initialiser: the next to come tries again.
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

/// The initialiser came back to its own variable: undefined in C++, and whatever the C++ library
/// makes of it.
#[cold]
fn came_back(guard: &Guard) -> c_int {
    type Acquire = extern "C" fn(&Guard) -> c_int;
    // SAFETY: a look-up by name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"__cxa_guard_acquire".as_ptr()) };
    if next.is_null() {
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            b"fiber: a static variable's initialiser used the variable itself; it never ends, so the program does\n",
        );
        std::process::abort();
    }
    // SAFETY: the C++ ABI's type of the function of this name. It throws, or waits for ever.
    let next = unsafe { transmute::<*mut c_void, Acquire>(next) };
    next(guard)
}
