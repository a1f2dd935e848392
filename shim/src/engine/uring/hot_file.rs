//! The batch's hot file: when one descriptor fills the batches, it is looked up once a batch, not
//! once an operation.
//!
//! Taking and dropping a reference to the file costs an operation some 50 of its 550 ns (cached 4
//! KiB read). A slot of the ring's file table saves that, but a slot that outlives the batch would
//! keep the file open behind the program's back, and would still name it when the descriptor is
//! closed and reused. So each batch puts the descriptor into the slot as its first operation and
//! takes it out as its last: the slot never holds a file longer than the operations themselves do,
//! and always the one that the descriptor names at that moment.
//!
//! Which descriptor that will be is guessed from the batch before (Boyer and Moore's majority
//! vote); a wrong guess costs two operations of about 50 ns.

use super::files;
use io_uring::{IoUring, opcode, squeue};
use std::ffi::c_int;

/// A lead in votes from which the two extra operations pay.
const WORTH_IT: u32 = 16;
const NOBODY: c_int = -1;

pub struct HotFile {
    /// The kernel has all that is needed: a file table, and operations without completions.
    available: bool,
    /// This batch's descriptor, guessed when the last one was submitted.
    fd: c_int,
    /// The slot is taken in this batch.
    taken: bool,
    candidate: c_int,
    votes: u32,
    /// What the two operations read: a descriptor for the slot, or -1. Boxed, for the kernel holds
    /// the address.
    values: Box<[c_int; 2]>,
}

impl HotFile {
    /// `has_slot` says that the ring's file table has a slot for it.
    pub fn new(ring: &IoUring, has_slot: bool) -> Self {
        Self {
            available: has_slot && ring.params().is_feature_skip_cqe_on_success(),
            fd: NOBODY,
            taken: false,
            candidate: NOBODY,
            votes: 0,
            values: Box::new([NOBODY; 2]),
        }
    }

    /// Where the kernel reads the number of the file that is put into the slot: the first of two.
    pub fn values(&self) -> *const [c_int; 2] {
        &raw const *self.values
    }

    /// Counts an operation on `fd`; whether it is the hot one.
    #[inline]
    pub fn vote(&mut self, fd: c_int) -> bool {
        if fd == self.candidate {
            self.votes += 1;
        } else if self.votes == 0 {
            (self.candidate, self.votes) = (fd, 1);
        } else {
            self.votes -= 1;
        }
        self.available && fd == self.fd && fd != NOBODY
    }

    /// The operation that must come before this batch's first use of the slot, if it has not yet.
    #[inline]
    pub fn take(&mut self) -> Option<squeue::Entry> {
        if self.taken {
            return None;
        }
        self.taken = true;
        self.values[0] = self.fd;
        Some(update(&self.values[0]))
    }

    /// Not all of a batch was submitted: no hot file in the next one.
    pub fn cool(&mut self) {
        self.fd = NOBODY;
    }

    /// The batch is complete: the operation that must come last, if the slot was used. Guesses the
    /// next batch's file.
    #[inline]
    pub fn end_batch(&mut self) -> Option<squeue::Entry> {
        self.fd = if self.votes >= WORTH_IT {
            self.candidate
        } else {
            NOBODY
        };
        (self.candidate, self.votes) = (NOBODY, 0);
        let was_taken = std::mem::take(&mut self.taken);
        was_taken.then(|| update(&self.values[1]))
    }
}

/// Puts `value` into the slot; no completion unless it fails, and then the operations on the slot
/// fail the same way.
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
            fd: NOBODY,
            taken: false,
            candidate: NOBODY,
            votes: 0,
            values: Box::new([NOBODY; 2]),
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
