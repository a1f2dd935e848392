//! fork(2): the child continues on the current fiber with a new engine, and the parent is not
//! affected.
//!
//! Only the forking thread exists in the child. At the moment of the fork another thread of the
//! parent may have been in the middle of any change. Therefore the child never reads data that such
//! a thread may change without a lock: it leaks the attached thread, its engine, its channels and
//! its wait queues. The child needs three things that other threads may have changed, and each is
//! consistent by construction. The descriptor numbers of the shim are atomics
//! ([`descriptors::take_shim_owned`]). The marked streams and the owners of special mutexes are
//! protected by locks that the forking thread holds across the fork. All other shared state is
//! replaced ([`mod@fork_reset`]).

use crate::calls::{locks, thread_state};
use crate::context::{self, Mutex};
use crate::entry::main_fiber;
use crate::runtime::thread::Thread;
use crate::runtime::{signal, stream};
use crate::state::{attached as attached_threads, descriptors, fork_reset, stderr};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::MutexGuard;
use sys::SignalSet;

fork_reset! {
    /// Held while a thread attaches, because the first attach initializes process-wide state. The
    /// child may attach threads, too.
    static ATTACHING: Mutex<()> = Mutex::new(());
}

/// Runs `attach`, which attaches a thread. No other thread attaches or forks in that time.
pub fn attaching<R>(attach: impl FnOnce() -> R) -> R {
    let _attaching = ATTACHING.get().lock();
    attach()
}

/// The locks that the forking thread holds from before the fork until after it.
struct Held {
    /// The signal mask to restore, without the signals that the shim blocked to defer them. During
    /// the fork no handler runs, because a handler could need one of these locks.
    mask: SignalSet,
    _attaching: Option<MutexGuard<'static, ()>>,
    streams: Option<stream::parked::Locked>,
    owners: Option<locks::LockedOwners>,
}

thread_local! {
    /// This thread's locks, during a fork. ManuallyDrop avoids a thread-local destructor.
    static HELD: RefCell<ManuallyDrop<Option<Held>>> =
        const { RefCell::new(ManuallyDrop::new(None)) };
}

fn take_held() -> Option<Held> {
    HELD.with_borrow_mut(|held| held.take())
}

/// Registers the handlers that prepare for each fork and clean up after it.
pub fn register_handlers() {
    // SAFETY: the handlers are never unloaded.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(child)) };
}

extern "C" fn before() {
    if thread_state::must_be_quiet() {
        return;
    }
    let _off = context::libc();
    // SAFETY: null, or this OS thread's own handle, which lives while it is attached.
    let thread = Thread::attached();
    let held = Held {
        mask: thread.map_or_else(
            || sys::block(signal::DEFERRABLE),
            |thread| thread.signals().block(signal::DEFERRABLE),
        ),
        _attaching: ATTACHING.get().lock_before_fork(),
        streams: stream::parked::lock_before_fork(),
        owners: locks::lock_owners_before_fork(),
    };
    HELD.set(ManuallyDrop::new(Some(held)));
}

extern "C" fn after() {
    if let Some(held) = take_held() {
        let mask = held.mask;
        // Waking a thread that waits for one of the locks calls a hook, in which the fiber could
        // park.
        let off = context::libc();
        drop(held);
        drop(off);
        // SAFETY: null, or this OS thread's own handle, which lives while it is attached.
        match Thread::attached() {
            Some(thread) => thread.signals().end_masked(mask),
            None => drop(sys::set_blocked(mask)),
        }
    }
}

extern "C" fn child() {
    if thread_state::must_be_quiet() {
        return;
    }
    let entered = context::libc();
    let attached = context::attached().cast_mut().cast::<Thread>();
    let held = take_held();
    let mask = held.as_ref().map(|held| held.mask);
    fork_reset::note_handled_child();
    if let Some(Held {
        streams, owners, ..
    }) = held
    {
        stream::parked::restore(streams);
        // SAFETY: the child of a fork has one thread, which holds no reference to the owners.
        unsafe { locks::keep_owners(owners) };
    }
    // SAFETY: the child of a fork has one thread, which is in no other function of the
    // shim.
    unsafe { fork_reset::reset_all() };
    attached_threads::note_fork(usize::from(!attached.is_null()));
    // Rings, eventfds and duplicates belong to the parent. If they stayed open in the child, they
    // would keep the parent's files open.
    descriptors::take_shim_owned(|descriptor| {
        if stderr::is_duplicate(descriptor) {
            descriptors::mark_shim_owned(descriptor, true);
        } else {
            let _ = sys::close(descriptor);
        }
    });
    if !attached.is_null() {
        // SAFETY: this thread's own handle, which lives while it is attached; no reference to it is
        // live.
        unsafe { begin_anew(attached) };
    }
    drop(entered);
    // Signals that the parent defers are pending only in the parent.
    if let Some(mask) = mask {
        sys::set_blocked(mask);
    }
}

/// Replaces the forking thread's `Thread` by a new one.
///
/// # Safety
/// `attached` is the calling thread's own handle, and no reference to it is live.
unsafe fn begin_anew(attached: *mut Thread) {
    // SAFETY: our caller makes the same promise.
    let old = unsafe { &*attached };
    let host = *old.host();
    match Thread::new(host) {
        Ok(fresh) => {
            fresh.streams().inherit(old.streams(), host.running());
            fresh.runtimes().inherit(old.runtimes());
            if !host.forks() {
                fresh.await_host();
            } else if old.conversion().passes_through() {
                fresh.pass_through();
            }
            // SAFETY: our caller makes the same promise, and `old` is not used any more. The
            // objects that it refers to are leaked, because its engine belongs to the parent.
            unsafe { attached.write(fresh) };
            // SAFETY: just written, and this thread stays attached.
            main_fiber::attach_in_child(unsafe { &*attached });
        }
        // If no eventfd can be made, the child's fibers continue as if the thread had never
        // attached.
        Err(_) => {
            old.conversion().set_defunct();
            old.pass_through();
        }
    }
}
