//! How long recent calls of each kind took, per directory or file descriptor that they used: one
//! atomic byte each.
//!
//! Paths are not examined: a path may be an invalid address, and then only the kernel may report
//! that (EFAULT). Therefore all paths that are relative to one directory share an account. Like
//! [`crate::state::descriptors`] these are hints: a wrong one only costs time.

use policy::{Kind, Pace};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, Ordering};

/// Descriptors that differ in their lowest bits have separate accounts.
const ACCOUNTS: usize = 64;

static PACES: [[AtomicU8; ACCOUNTS]; Kind::COUNT] =
    [const { [const { AtomicU8::new(0) }; ACCOUNTS] }; Kind::COUNT];

#[derive(Clone, Copy)]
pub struct Account(&'static AtomicU8);

impl Account {
    /// The account of calls of this kind on the descriptor `file`, or on paths relative to it.
    #[inline(always)]
    pub fn of(kind: Kind, file: c_int) -> Self {
        Self(&PACES[kind as usize][file as usize % ACCOUNTS])
    }

    #[inline(always)]
    pub fn pace(self) -> Pace {
        Pace::of_bits(self.0.load(Ordering::Relaxed))
    }

    /// Records that a call took this long. Writes only if that changes the account.
    #[inline(always)]
    pub fn took(self, nanos: u64) {
        let pace = self.pace();
        let taught = pace.took(nanos);
        if taught != pace {
            self.0.store(taught.bits(), Ordering::Relaxed);
        }
    }
}
