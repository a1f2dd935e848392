//! fork(2): the child continues on the current fiber with a new engine; the parent is not
//! disturbed.
//!
//! Only the forking thread exists in the child. Another thread of the parent may have been in the
//! middle of any change at the moment of the fork, so the child never reads what such a thread
//! could be changing without a lock: its attached thread, its engine, its channels and its wait
//! queues are leaked. The child needs three things of the others, and each is consistent by
//! construction: the numbers of the shim's descriptors (atomics, [`fds::take_ours`]), and the
//! marked streams and the owners of special mutexes, whose locks the forking thread holds across
//! the fork. All other shared state is replaced ([`Renewable`]).

use crate::calls::{locks, thread_state};
use crate::critical::Mutex;
use crate::sys::SignalSet;
use crate::thread::Thread;
use crate::tls::OffFiber;
use crate::{
    calls, engine, escapes, fds, holds, pool, position, records, signal, stall, start, stats,
    stderr, stdio, sys, tls, trace,
};
use std::cell::{RefCell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// A static that the child of a fork can replace.
pub struct Renewable<T>(UnsafeCell<T>);

// SAFETY: shared as T is; `renew` is only called where no other thread exists.
unsafe impl<T: Sync> Sync for Renewable<T> {}

impl<T> Renewable<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub fn get(&self) -> &T {
        // SAFETY: only `renew` writes, and its caller vouches that no reference is live.
        unsafe { &*self.0.get() }
    }

    /// Puts `value` in place, and leaks what was there: it may be half changed.
    ///
    /// # Safety
    /// The process has one thread, and it holds no reference from `get`.
    pub unsafe fn renew(&self, value: T) {
        // SAFETY: vouched for by the caller.
        unsafe { self.0.get().write(value) };
    }
}

/// Held while a thread attaches, which may do what is done once per process. The child may attach
/// threads, too.
static ATTACHING: Renewable<Mutex<()>> = Renewable::new(Mutex::new(()));

/// Attaches a thread, by `attach`: no other thread does meanwhile, and none forks.
pub fn attaching<R>(attach: impl FnOnce() -> R) -> R {
    let _attaching = ATTACHING.get().lock();
    attach()
}

/// What the forking thread holds from before the fork until after it.
struct Held {
    /// What was blocked, but for signals that are held back; meanwhile no handler runs, which could
    /// want one of the locks.
    mask: SignalSet,
    _attaching: Option<MutexGuard<'static, ()>>,
    streams: Option<stdio::monitor::Locked>,
    owners: Option<locks::LockedOwners>,
}

thread_local! {
    /// This thread's, during a fork. It is not dropped with the thread, so that it needs no
    /// destructor.
    static HELD: RefCell<ManuallyDrop<Option<Held>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

fn take_held() -> Option<Held> {
    HELD.with_borrow_mut(|held| held.take())
}

/// A word that the kernel clears in each child that gets a copy of this memory; null where the
/// kernel cannot do that.
static ORIGINAL: AtomicPtr<AtomicBool> = AtomicPtr::new(null_mut());

/// Makes [`ORIGINAL`].
fn mark_memory() {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    const PAGE: usize = 4096;
    // SAFETY: a new anonymous mapping overlaps nothing, and the advice is about that mapping alone.
    let page = unsafe {
        mmap_anonymous(
            null_mut(),
            PAGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
        .and_then(|page| madvise(page, PAGE, Advice::LinuxWipeOnFork).map(|()| page))
    };
    if let Ok(page) = page {
        let word = page.cast::<AtomicBool>();
        // SAFETY: the page is never unmapped, and zeroes are a valid AtomicBool.
        unsafe { &*word }.store(true, Ordering::Relaxed);
        ORIGINAL.store(word, Ordering::Relaxed);
    }
}

/// Whether this is a child that no fork handler ran in: by _Fork(3), clone(2) or a system call.
/// Then the threads that hold the shim's locks, or do its jobs, are not here.
pub fn is_bare_child() -> bool {
    // SAFETY: null, or a word that stays.
    unsafe { ORIGINAL.load(Ordering::Relaxed).as_ref() }
        .is_some_and(|word| !word.load(Ordering::Relaxed))
}

/// Has each fork from now on prepared for, and cleaned up after.
pub fn watch() {
    mark_memory();
    // SAFETY: the handlers are functions that stay.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(child)) };
}

extern "C" fn before() {
    if thread_state::must_be_quiet() {
        return;
    }
    let _off = OffFiber::enter();
    // SAFETY: null, or alive while attached, and this OS thread's own.
    let thread = unsafe { tls::attached().as_ref() };
    let held = Held {
        mask: thread.map_or_else(
            || sys::block(signal::HOLDABLE),
            |thread| thread.signals().block(signal::HOLDABLE),
        ),
        _attaching: ATTACHING.get().lock_before_fork(),
        streams: stdio::monitor::lock_before_fork(),
        owners: locks::lock_owners_before_fork(),
    };
    HELD.set(ManuallyDrop::new(Some(held)));
}

extern "C" fn after() {
    if let Some(held) = take_held() {
        let mask = held.mask;
        // The wake-up of a thread that waits for one of the locks is a hook, in which the fiber
        // could park.
        let off = OffFiber::enter();
        drop(held);
        drop(off);
        // SAFETY: null, or alive while attached, and this OS thread's own.
        match unsafe { tls::attached().as_ref() } {
            Some(thread) => thread.signals().end_masked(mask),
            None => drop(sys::set_blocked(mask)),
        }
    }
}

extern "C" fn child() {
    if thread_state::must_be_quiet() {
        return;
    }
    // In a handler the thread is off its fiber, and is to be back on it afterwards.
    let (here, attached) = (tls::here(), tls::attached().cast_mut());
    tls::set_here(std::ptr::null());
    let held = take_held();
    let mask = held.as_ref().map(|held| held.mask);
    // SAFETY: null, or a word that stays.
    if let Some(word) = unsafe { ORIGINAL.load(Ordering::Relaxed).as_ref() } {
        word.store(true, Ordering::Relaxed);
    }
    if let Some(Held {
        streams, owners, ..
    }) = held
    {
        stdio::monitor::restore(streams);
        // SAFETY: a fork's child has one thread, and it holds no reference to them.
        unsafe { locks::keep_owners(owners) };
    }
    // SAFETY: a fork's child has one thread, and it is in none of the functions that read these.
    unsafe {
        ATTACHING.renew(Mutex::new(()));
        stats::forget_all();
        trace::forget_all();
        escapes::forget_all();
        stall::renew();
        pool::renew();
        calls::system::renew();
        records::renew();
        start::renew();
        stdio::monitor::renew();
        locks::renew();
        holds::renew();
        engine::renew();
    }
    position::renew(usize::from(!attached.is_null()));
    // Rings, eventfds and duplicates are the parent's; open in the child they would keep the
    // parent's files open.
    fds::take_ours(|descriptor| {
        if stderr::is_duplicate(descriptor) {
            fds::mark_ours(descriptor, true);
        } else {
            let _ = sys::close(descriptor);
        }
    });
    if !attached.is_null() {
        // SAFETY: this thread's own, alive while attached, and no reference to it is live.
        unsafe { begin_anew(attached, here) };
    }
    // Signals that the parent holds back are pending in the parent alone.
    if let Some(mask) = mask {
        sys::set_blocked(mask);
    }
}

/// Puts a new `Thread` in the place of the forking thread's.
///
/// # Safety
/// `attached` is the calling thread's own, and no reference to it is live.
unsafe fn begin_anew(attached: *mut Thread, here: *const Thread) {
    // SAFETY: the caller's promise.
    let old = unsafe { &*attached };
    let host = *old.host();
    match Thread::new(host) {
        Ok(fresh) => {
            fresh.files().inherit(old.files(), host.running());
            fresh.runtimes().inherit(old.runtimes());
            let converts = host.forks() && !old.passes_through();
            if !host.forks() {
                fresh.await_host();
            } else if !converts {
                fresh.pass_through();
            }
            // SAFETY: the caller's promise; `old` is not used any more. What it refers to is
            // leaked, not dropped: its engine is the parent's.
            unsafe { attached.write(fresh) };
            if converts {
                tls::set_here(here);
            }
        }
        // Without an eventfd to be had the child's fibers continue as if never attached.
        Err(_) => old.set_defunct(),
    }
}
