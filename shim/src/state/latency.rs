//! Whether recent calls of each kind were slow, per directory or file descriptor that they used:
//! one atomic byte each.
//!
//! Paths are not examined: a path may be an invalid address, and then only the kernel may report
//! that (EFAULT). Therefore all paths that are relative to one directory share a slot. Like
//! [`crate::state::descriptors`] these are hints: a wrong one only costs time.

use policy::{CallKind, SlowRate};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, Ordering};

/// Descriptors that differ in their lowest bits have separate slots.
const SLOTS: usize = 64;

static SLOW_RATES: [[AtomicU8; SLOTS]; CallKind::COUNT] =
    [const { [const { AtomicU8::new(0) }; SLOTS] }; CallKind::COUNT];

#[derive(Clone, Copy)]
pub struct LatencySlot(&'static AtomicU8);

impl LatencySlot {
    /// The slot of calls of this kind on the descriptor `file`, or on paths relative to it.
    #[inline(always)]
    pub fn of(kind: CallKind, file: c_int) -> Self {
        Self(&SLOW_RATES[kind as usize][file as usize % SLOTS])
    }

    #[inline(always)]
    pub fn slow_rate(self) -> SlowRate {
        SlowRate::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Records whether a call was slow. Writes only if that changes the rate.
    #[inline(always)]
    pub fn record(self, is_slow: bool) {
        let slow_rate = self.slow_rate();
        let updated = slow_rate.record(is_slow);
        if updated != slow_rate {
            self.0.store(updated.bits(), Ordering::Relaxed);
        }
    }
}
