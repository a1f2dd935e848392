//! Signals that the kernel delivered while their handlers were deferred: for each number the first
//! signal, with its `siginfo_t`.
//!
//! The kernel delivers the signals of one number in the order in which they were sent. A signal
//! that was taken from its queue cannot go back to the front, so its `siginfo_t` is kept here. When
//! handlers may run again, a stand-in with the same number is appended to the kernel's queue
//! ([`Stash::release`]). From then on each delivery takes the `siginfo_t` that is kept here and
//! leaves its own instead ([`Stash::exchange`]), until the stand-in takes the last one. So the
//! kernel still runs the handlers, with real frames, and in the order in which the signals were
//! sent.
//!
//! Invariant: only the owning thread and its signal handlers touch a stash. While a signal is kept
//! and has no stand-in, it is blocked, or it is one of the fault signals, of which only one can be
//! pending. Therefore no handler changes an entry that is being read.

use libc::siginfo_t;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sys::SignalSet;
use sys::errno::Errno;
use sys::signal_bit;

/// The first real-time signal. The kernel does not queue a second instance of the signals below it.
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
    /// The signals that have an entry.
    stored: AtomicU64,
    /// Those that also have a stand-in in the kernel's queue.
    queued: AtomicU64,
    /// The siginfo of each signal in `stored`, by number.
    infos: Box<[UnsafeCell<MaybeUninit<siginfo_t>>; 64]>,
}

impl Stash {
    pub fn new() -> Self {
        Self {
            stored: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            infos: Box::new([const { UnsafeCell::new(MaybeUninit::uninit()) }; 64]),
        }
    }

    /// The signals that are kept and have no stand-in underway.
    pub fn waiting(&self) -> SignalSet {
        self.stored.load(Relaxed) & !self.queued.load(Relaxed)
    }

    fn slot(&self, signal: c_int) -> *mut siginfo_t {
        self.infos[signal as usize - 1].get().cast()
    }

    fn has(&self, signal: c_int) -> bool {
        self.stored.load(Relaxed) & signal_bit(signal) != 0
    }

    fn forget(&self, signal: c_int) {
        self.stored
            .store(self.stored.load(Relaxed) & !signal_bit(signal), Relaxed);
        self.queued
            .store(self.queued.load(Relaxed) & !signal_bit(signal), Relaxed);
    }

    /// The value that marks a stand-in: an address that no sender has a reason to send.
    fn mark(&self) -> *mut c_void {
        self.infos.as_ptr().cast_mut().cast()
    }

    /// Whether `info` belongs to a stand-in. A stand-in that found no room in the kernel's queue
    /// carries no information, and looks as if process 0 had sent it.
    ///
    /// # Safety
    /// `info` points to what the kernel passed to the handler.
    unsafe fn is_stand_in(&self, signal: c_int, info: *const siginfo_t) -> bool {
        // SAFETY: every siginfo_t is at least as long as this part of it; our caller guarantees
        // that the pointer is valid.
        let info = unsafe { &*info.cast::<Queued>() };
        match info.code {
            libc::SI_QUEUE => info.value == self.mark(),
            libc::SI_USER => {
                self.queued.load(Relaxed) & signal_bit(signal) != 0
                    && (info.pid, info.uid) == (0, 0)
            }
            _ => false,
        }
    }

    /// In a handler: keeps a signal that must be deferred.
    ///
    /// # Safety
    /// `info` points to what the kernel passed to this handler.
    pub unsafe fn store(&self, signal: c_int, info: *const siginfo_t) {
        // SAFETY: our caller keeps the same contract; a slot is as large as the copied value.
        unsafe {
            if self.is_stand_in(signal, info) {
                // The signal that it stands for stays in the stash.
                self.queued
                    .store(self.queued.load(Relaxed) & !signal_bit(signal), Relaxed);
            } else if !self.has(signal) {
                self.slot(signal).copy_from_nonoverlapping(info, 1);
                self.stored
                    .store(self.stored.load(Relaxed) | signal_bit(signal), Relaxed);
            } else if signal >= FIRST_REALTIME {
                queue(signal, info);
            }
        }
    }

    /// In a handler that is about to run the program's handler: replaces `info` with that of the
    /// first signal of its number. Returns false for a stand-in without a kept signal, because
    /// there is nothing to handle.
    ///
    /// # Safety
    /// `info` points to what the kernel passed to this handler.
    pub unsafe fn exchange(&self, signal: c_int, info: *mut siginfo_t) -> bool {
        // SAFETY: our caller keeps the same contract; the slots in `stored` are filled in.
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
            // The stand-in was not queued, because this signal was already pending.
            self.send_stand_in(signal);
        }
        true
    }

    /// Call before `blocked` becomes the mask: queues a stand-in for each kept signal that the mask
    /// lets through.
    pub fn release(&self, blocked: SignalSet) {
        for signal in signals(self.waiting() & !blocked) {
            self.queued
                .store(self.queued.load(Relaxed) | signal_bit(signal), Relaxed);
            self.send_stand_in(signal);
        }
    }

    /// Call after [`Self::release`], once the mask is in force: queues lost stand-ins again.
    /// Returns whether there were any.
    ///
    /// A stand-in that finds no room in the kernel's queue is sent without its `siginfo_t`, and the
    /// kernel drops it if another signal of its number is pending. Those signals have been
    /// delivered by now, so the next stand-in arrives.
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
        // SAFETY: zeroes are a valid siginfo_t, and every siginfo_t is at least as long as this
        // part of it.
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
        // SAFETY: the value is alive, and was filled in above.
        unsafe { queue(signal, info.as_ptr()) };
    }

    /// Call for signals that are blocked now: they become pending, as if they had arrived after
    /// they were blocked.
    pub fn requeue(&self) {
        for signal in signals(self.waiting()) {
            // SAFETY: the slots in `stored` are filled in.
            unsafe { queue(signal, self.slot(signal)) };
            self.forget(signal);
        }
    }

    /// Takes a signal of `set` out, with its siginfo.
    pub fn take(&self, set: SignalSet) -> Option<(c_int, siginfo_t)> {
        let signal = signals(self.waiting() & set).next()?;
        // SAFETY: the slots in `stored` are filled in.
        let info = unsafe { self.slot(signal).read() };
        self.forget(signal);
        Some((signal, info))
    }
}

/// The signal numbers in a set, in ascending order.
fn signals(mut set: SignalSet) -> impl Iterator<Item = c_int> {
    std::iter::from_fn(move || {
        let signal = (set != 0).then(|| set.trailing_zeros() as c_int + 1)?;
        set &= set - 1;
        Some(signal)
    })
}

/// Queues a signal to the calling thread. If the queue is full (RLIMIT_SIGPENDING) the signal is
/// sent without its `siginfo_t`, as kill(2) would.
///
/// # Safety
/// `info` points to a `siginfo_t`.
unsafe fn queue(signal: c_int, info: *const siginfo_t) {
    // SAFETY: our caller keeps the same contract.
    if unsafe { sys::queue_to_self(signal, info) } == Err(Errno::AGAIN) {
        // SAFETY: zeroes are a valid siginfo_t, that of SI_USER.
        let bare = MaybeUninit::<siginfo_t>::zeroed();
        // SAFETY: the value is alive.
        let _ = unsafe { sys::queue_to_self(signal, bare.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(value: usize) -> siginfo_t {
        let mut info = MaybeUninit::<siginfo_t>::zeroed();
        // SAFETY: zeroes are a valid siginfo_t, which is at least as long as this part of it.
        unsafe {
            (*info.as_mut_ptr().cast::<Queued>()).code = libc::SI_QUEUE;
            (*info.as_mut_ptr().cast::<Queued>()).value = std::ptr::without_provenance_mut(value);
            info.assume_init()
        }
    }

    fn value(info: &siginfo_t) -> usize {
        // SAFETY: the function `info` above has filled it in.
        unsafe { info.si_value() }.sival_ptr.addr()
    }

    #[test]
    fn deliveries_hand_out_the_oldest_and_the_stand_in_the_last() {
        let (stash, signal) = (Stash::new(), 40);
        // SAFETY: all pointers refer to values that are alive.
        unsafe {
            stash.store(signal, &info(1));
            assert_eq!(stash.waiting(), signal_bit(signal));
            // The same as `release` does, but without the kernel.
            stash.queued.store(signal_bit(signal), Relaxed);
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
        // SAFETY: the value is alive.
        unsafe { stash.store(12, &info(7)) };
        assert!(stash.take(signal_bit(10)).is_none());
        assert_eq!(
            stash
                .take(signal_bit(12) | signal_bit(10))
                .map(|(signal, _)| signal),
            Some(12)
        );
        assert!(stash.take(!0).is_none());
    }
}
