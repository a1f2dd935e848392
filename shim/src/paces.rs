//! How fast the last calls of each kind went, by the directory or file they named by number: an
//! atomic byte each.
//!
//! A path is not looked at: it may be an address where nothing is, which is the kernel's to say
//! (EFAULT). So all paths that are looked up from one directory share an account. A hint, like
//! [`crate::fds`]: a wrong one costs time.

use crate::policy::{Kind, Pace};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, Ordering};

/// Descriptors that differ in their last bits have accounts of their own.
const ACCOUNTS: usize = 64;

static PACES: [[AtomicU8; ACCOUNTS]; Kind::COUNT] =
    [const { [const { AtomicU8::new(0) }; ACCOUNTS] }; Kind::COUNT];

#[derive(Clone, Copy)]
pub struct Account(&'static AtomicU8);

impl Account {
    /// Of calls of this kind on the descriptor `file`, or on names looked up from it.
    #[inline(always)]
    pub fn of(kind: Kind, file: c_int) -> Self {
        Self(&PACES[kind as usize][file as usize % ACCOUNTS])
    }

    #[inline(always)]
    pub fn pace(self) -> Pace {
        Pace::of_bits(self.0.load(Ordering::Relaxed))
    }

    /// A call took so long. Written only when that teaches something.
    #[inline(always)]
    pub fn took(self, nanos: u64) {
        let pace = self.pace();
        let taught = pace.took(nanos);
        if taught != pace {
            self.0.store(taught.bits(), Ordering::Relaxed);
        }
    }
}
