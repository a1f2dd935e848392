//! Signals that the kernel delivered while their handlers had to wait: of each number the one that
//! came first, with its `siginfo_t`.
//!
//! The kernel delivers the signals of one number in the order in which they were sent. One that was
//! taken from its queue cannot be put back at the front, so its `siginfo_t` is kept here. When
//! handlers may run again, a stand-in of the same number goes to the end of the kernel's queue
//! ([`Stash::release`]); from then on each delivery hands out what is kept here and keeps its own
//! instead ([`Stash::exchange`]), until the stand-in itself hands out the last one. So the kernel
//! still runs the handlers, with real frames, and the order stays that of the senders.
//!
//! Invariant: only the owning thread and its signal handlers touch a stash. While a signal is kept
//! and has no stand-in, it is blocked, or it is one of the fault signals, which only coalesce; so
//! no handler changes an entry that is being read.

use super::bit;
use crate::errno::Errno;
use crate::sys::{self, SignalSet};
use libc::siginfo_t;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The first real-time signal. Below, a signal that is pending already is not queued a second time.
const FIRST_REALTIME: c_int = 32;

/// The start of a `siginfo_t` as sigqueue(3) fills it in.
#[repr(C)]
struct Queued {
    signal: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: c_int,
    uid: u32,
    value: *mut c_void,
}

pub struct Stash {
    /// Signals of which one is kept.
    kept: AtomicU64,
    /// Those of them with a stand-in in the kernel's queue.
    queued: AtomicU64,
    /// What came with each signal in `kept`, by number.
    infos: Box<[UnsafeCell<MaybeUninit<siginfo_t>>; 64]>,
}

impl Stash {
    pub fn new() -> Self {
        Self {
            kept: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            infos: Box::new([const { UnsafeCell::new(MaybeUninit::uninit()) }; 64]),
        }
    }

    /// Signals that are kept and whose stand-ins are not on their way.
    pub fn waiting(&self) -> SignalSet {
        self.kept.load(Relaxed) & !self.queued.load(Relaxed)
    }

    fn slot(&self, signal: c_int) -> *mut siginfo_t {
        self.infos[signal as usize - 1].get().cast()
    }

    fn has(&self, signal: c_int) -> bool {
        self.kept.load(Relaxed) & bit(signal) != 0
    }

    fn forget(&self, signal: c_int) {
        self.kept
            .store(self.kept.load(Relaxed) & !bit(signal), Relaxed);
        self.queued
            .store(self.queued.load(Relaxed) & !bit(signal), Relaxed);
    }

    /// What marks a stand-in: an address that no sender has a reason to send.
    fn mark(&self) -> *mut c_void {
        self.infos.as_ptr().cast_mut().cast()
    }

    /// Whether `info` came with a stand-in. One that found no room in the kernel's queue comes with
    /// nothing, as if process 0 had sent it.
    ///
    /// # Safety
    /// `info` points to what the kernel gave.
    unsafe fn is_stand_in(&self, signal: c_int, info: *const siginfo_t) -> bool {
        // SAFETY: every siginfo_t is as long as this part of it; the caller vouches for the rest.
        let info = unsafe { &*info.cast::<Queued>() };
        match info.code {
            libc::SI_QUEUE => info.value == self.mark(),
            libc::SI_USER => {
                self.queued.load(Relaxed) & bit(signal) != 0 && (info.pid, info.uid) == (0, 0)
            }
            _ => false,
        }
    }

    /// In a handler: keeps a signal that must wait.
    ///
    /// # Safety
    /// `info` points to what the kernel gave this handler.
    pub unsafe fn keep(&self, signal: c_int, info: *const siginfo_t) {
        // SAFETY: passed on to our caller; a slot is as large as what is copied to it.
        unsafe {
            if self.is_stand_in(signal, info) {
                // What it stands for is kept on.
                self.queued
                    .store(self.queued.load(Relaxed) & !bit(signal), Relaxed);
            } else if !self.has(signal) {
                self.slot(signal).copy_from_nonoverlapping(info, 1);
                self.kept
                    .store(self.kept.load(Relaxed) | bit(signal), Relaxed);
            } else if signal >= FIRST_REALTIME {
                queue(signal, info);
            }
        }
    }

    /// In a handler that is about to run the program's: has `info` be that of the first signal of
    /// its number. False for a stand-in of nothing: there is nothing to handle.
    ///
    /// # Safety
    /// `info` points to what the kernel gave this handler.
    pub unsafe fn exchange(&self, signal: c_int, info: *mut siginfo_t) -> bool {
        // SAFETY: passed on to our caller; slots in `kept` are filled in.
        unsafe {
            let stand_in = self.is_stand_in(signal, info);
            if !self.has(signal) {
                return !stand_in;
            }
            if stand_in {
                info.copy_from_nonoverlapping(self.slot(signal), 1);
                self.forget(signal);
                return true;
            }
            std::ptr::swap_nonoverlapping(info, self.slot(signal), 1);
        }
        if signal < FIRST_REALTIME {
            // The stand-in was not queued, for this one was pending then.
            self.send_stand_in(signal);
        }
        true
    }

    /// Before `blocked` becomes the mask: queues a stand-in for each signal that it lets through.
    pub fn release(&self, blocked: SignalSet) {
        for signal in signals(self.waiting() & !blocked) {
            self.queued
                .store(self.queued.load(Relaxed) | bit(signal), Relaxed);
            self.send_stand_in(signal);
        }
    }

    /// After [`Self::release`], once the mask is in force: queues lost stand-ins again, and returns
    /// whether there were any.
    ///
    /// A stand-in that finds no room in the kernel's queue is sent without its `siginfo_t`, and the
    /// kernel drops it while other signals of its number are pending. Those have been delivered by
    /// now, so that the next stand-in arrives.
    pub fn send_again(&self) -> bool {
        let queued = self.queued.load(Relaxed);
        let lost = if queued == 0 {
            0
        } else {
            queued & !sys::blocked()
        };
        signals(lost).for_each(|signal| self.send_stand_in(signal));
        lost != 0
    }

    fn send_stand_in(&self, signal: c_int) {
        // SAFETY: zeroes are a valid siginfo_t; every siginfo_t is as long as this part of it.
        let info = unsafe {
            let mut info = MaybeUninit::<siginfo_t>::zeroed();
            info.as_mut_ptr().cast::<Queued>().write(Queued {
                signal,
                errno: 0,
                code: libc::SI_QUEUE,
                padding: 0,
                pid: 0,
                uid: 0,
                value: self.mark(),
            });
            info
        };
        // SAFETY: alive, and filled in above.
        unsafe { queue(signal, info.as_ptr()) };
    }

    /// Signals that are blocked now: they become pending, as if they had come after they were
    /// blocked.
    pub fn give_back(&self) {
        for signal in signals(self.waiting()) {
            // SAFETY: slots in `kept` are filled in.
            unsafe { queue(signal, self.slot(signal)) };
            self.forget(signal);
        }
    }

    /// Takes out a signal of `set`, and what came with it.
    pub fn take(&self, set: SignalSet) -> Option<(c_int, siginfo_t)> {
        let signal = signals(self.waiting() & set).next()?;
        // SAFETY: slots in `kept` are filled in.
        let info = unsafe { self.slot(signal).read() };
        self.forget(signal);
        Some((signal, info))
    }
}

/// The numbers in a set, the lowest first.
fn signals(mut set: SignalSet) -> impl Iterator<Item = c_int> {
    std::iter::from_fn(move || {
        let signal = (set != 0).then(|| set.trailing_zeros() as c_int + 1)?;
        set &= set - 1;
        Some(signal)
    })
}

/// Queues a signal to the calling thread. Where the queue is full (RLIMIT_SIGPENDING) it comes
/// without its `siginfo_t`, as one of kill(2) would.
///
/// # Safety
/// `info` points to a `siginfo_t`.
unsafe fn queue(signal: c_int, info: *const siginfo_t) {
    // SAFETY: passed on to our caller.
    if unsafe { sys::queue_to_self(signal, info) } == Err(Errno::AGAIN) {
        // SAFETY: zeroes are a valid siginfo_t, that of SI_USER.
        let bare = MaybeUninit::<siginfo_t>::zeroed();
        // SAFETY: alive.
        let _ = unsafe { sys::queue_to_self(signal, bare.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(value: usize) -> siginfo_t {
        let mut info = MaybeUninit::<siginfo_t>::zeroed();
        // SAFETY: zeroes are a valid siginfo_t, as long as this part of it.
        unsafe {
            (*info.as_mut_ptr().cast::<Queued>()).code = libc::SI_QUEUE;
            (*info.as_mut_ptr().cast::<Queued>()).value = std::ptr::without_provenance_mut(value);
            info.assume_init()
        }
    }

    fn value(info: &siginfo_t) -> usize {
        // SAFETY: made by `info` above.
        unsafe { info.si_value() }.sival_ptr.addr()
    }

    #[test]
    fn deliveries_hand_out_the_oldest_and_the_stand_in_the_last() {
        let (stash, signal) = (Stash::new(), 40);
        // SAFETY: all of these are alive.
        unsafe {
            stash.keep(signal, &info(1));
            assert_eq!(stash.waiting(), bit(signal));
            // As `release` would, without the kernel.
            stash.queued.store(bit(signal), Relaxed);
            let (mut second, mut third) = (info(2), info(3));
            let mut stand_in = info(stash.mark().addr());
            assert!(stash.exchange(signal, &mut second));
            assert!(stash.exchange(signal, &mut third));
            assert!(stash.exchange(signal, &mut stand_in));
            assert_eq!(
                [second, third, stand_in].map(|info| value(&info)),
                [1, 2, 3]
            );
            let mut fourth = info(4);
            assert!(stash.exchange(signal, &mut fourth));
            assert_eq!(value(&fourth), 4);
            assert!(!stash.exchange(signal, &mut info(stash.mark().addr())));
        }
    }

    #[test]
    fn a_signal_of_the_set_is_taken_once() {
        let stash = Stash::new();
        // SAFETY: alive.
        unsafe { stash.keep(12, &info(7)) };
        assert!(stash.take(bit(10)).is_none());
        assert_eq!(
            stash.take(bit(12) | bit(10)).map(|(signal, _)| signal),
            Some(12)
        );
        assert!(stash.take(!0).is_none());
    }
}
