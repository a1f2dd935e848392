//! The hot file of a batch: if one descriptor dominates the batches, the kernel looks it up once
//! per batch instead of once per operation.
//!
//! Taking and dropping the file reference costs about 50 of the 550 ns of an operation (cached 4
//! KiB read). A slot of the ring's file table saves that. But a slot that outlives the batch would
//! keep the file open without the program's knowledge, and would still refer to it after the
//! descriptor is closed and reused. So each batch puts the descriptor into the slot as its first
//! operation and takes it out as its last. The slot never holds a file longer than the operations
//! themselves do, and always holds the file that the descriptor refers to at that moment.
//!
//! The previous batch predicts the descriptor (Boyer and Moore's majority vote). A wrong guess
//! costs two operations of about 50 ns.

use super::files;
use io_uring::{IoUring, opcode, squeue};
use std::ffi::c_int;

/// The lead in votes from which the two extra operations pay off.
const WORTH_IT: u32 = 16;
const NO_FILE: c_int = -1;

pub struct HotFile {
    /// The kernel supports everything needed: a file table, and operations without completions.
    available: bool,
    /// The descriptor of this batch, guessed when the previous batch was submitted.
    fd: c_int,
    /// Whether this batch has filled the slot.
    taken: bool,
    candidate: c_int,
    votes: u32,
    /// The arguments of the two operations: a descriptor for the slot, or -1. Boxed because the
    /// kernel holds the address.
    values: Box<[c_int; 2]>,
}

impl HotFile {
    /// `has_slot` says whether the ring's file table has a slot for the hot file.
    pub fn new(ring: &IoUring, has_slot: bool) -> Self {
        Self {
            available: has_slot && ring.params().is_feature_skip_cqe_on_success(),
            fd: NO_FILE,
            taken: false,
            candidate: NO_FILE,
            votes: 0,
            values: Box::new([NO_FILE; 2]),
        }
    }

    /// The address from which the kernel reads the descriptor for the slot: the first of two
    /// values.
    pub fn values(&self) -> *const [c_int; 2] {
        &raw const *self.values
    }

    /// Counts an operation on `fd`. Returns whether `fd` is the hot file.
    #[inline]
    pub fn vote(&mut self, fd: c_int) -> bool {
        if fd == self.candidate {
            self.votes += 1;
        } else if self.votes == 0 {
            (self.candidate, self.votes) = (fd, 1);
        } else {
            self.votes -= 1;
        }
        self.available && fd == self.fd && fd != NO_FILE
    }

    /// The operation that must precede this batch's first use of the slot, unless already queued.
    #[inline]
    pub fn take(&mut self) -> Option<squeue::Entry> {
        if self.taken {
            return None;
        }
        self.taken = true;
        self.values[0] = self.fd;
        Some(update(&self.values[0]))
    }

    /// Only part of a batch was submitted, so the next batch has no hot file.
    pub fn cool(&mut self) {
        self.fd = NO_FILE;
    }

    /// Call when the batch is complete. Returns the operation that must come last if the slot was
    /// used, and guesses the next batch's file.
    #[inline]
    pub fn end_batch(&mut self) -> Option<squeue::Entry> {
        self.fd = if self.votes >= WORTH_IT {
            self.candidate
        } else {
            NO_FILE
        };
        (self.candidate, self.votes) = (NO_FILE, 0);
        let was_taken = std::mem::take(&mut self.taken);
        was_taken.then(|| update(&self.values[1]))
    }
}

/// Puts `value` into the slot. Posts a completion only on failure; the operations on the slot then
/// fail with the same error.
fn update(value: &c_int) -> squeue::Entry {
    opcode::FilesUpdate::new(value, 1)
        .offset(files::HOT as i32)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot() -> HotFile {
        HotFile {
            available: true,
            fd: NO_FILE,
            taken: false,
            candidate: NO_FILE,
            votes: 0,
            values: Box::new([NO_FILE; 2]),
        }
    }

    #[test]
    fn a_descriptor_that_filled_a_batch_is_hot_in_the_next_one() {
        let mut hot = hot();
        assert!((0..20).all(|_| !hot.vote(7)));
        assert!(hot.end_batch().is_none());
        assert!(hot.vote(7) && !hot.vote(8));
        assert!(hot.take().is_some() && hot.take().is_none());
        assert!(hot.end_batch().is_some());
        assert!(!hot.vote(7), "one vote in the batch before is no majority");
    }

    #[test]
    fn many_descriptors_in_turn_make_none_hot() {
        let mut hot = hot();
        (0..200).for_each(|i| {
            hot.vote(i % 40);
        });
        hot.end_batch();
        assert!((0..40).all(|fd| !hot.vote(fd)));
    }
}
