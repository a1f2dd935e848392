//! The ring's file table: slots that stand for open files.
//!
//! Slot 0 is the batch's hot file ([`super::hot_file`]). The others hold the file of one operation
//! each. The kernel runs fsync(2) in a worker thread that looks the file up when it starts, after
//! io_uring_enter(2) has returned. A descriptor's number may name another file by then, so such an
//! operation names a slot, which is filled when the call is made and emptied when the operation
//! completes. Emptying a slot does not release the process's record locks on the file, as closing a
//! duplicate would.

use io_uring::IoUring;
use std::ffi::c_int;
use std::os::fd::AsRawFd;

/// The slot of the hot file.
pub const HOT: u32 = 0;
/// Table sizes, tried in turn: the table counts against RLIMIT_NOFILE.
const TABLE_SIZES: [u32; 4] = [256, 64, 16, HOT + 1];
const NO_FILE: c_int = -1;

pub struct Files {
    ring: c_int,
    /// The slots that hold no file.
    free: Vec<u32>,
    has_table: bool,
}

impl Files {
    pub fn new(ring: &IoUring) -> Self {
        let size = TABLE_SIZES
            .into_iter()
            .find(|&size| ring.submitter().register_files_sparse(size).is_ok());
        Self {
            ring: ring.as_raw_fd(),
            free: size.map_or(Vec::new(), |size| (HOT + 1..size).rev().collect()),
            has_table: size.is_some(),
        }
    }

    /// Whether there is a slot for the hot file.
    pub fn has_hot_slot(&self) -> bool {
        self.has_table
    }

    /// Puts the open file of `fd` into a slot. None if all slots are taken or the kernel refuses.
    pub fn capture(&mut self, fd: c_int) -> Option<u32> {
        let slot = self.free.pop()?;
        if sys::io_uring_update_file(self.ring, slot, fd).is_ok() {
            return Some(slot);
        }
        self.free.push(slot);
        None
    }

    /// Empties a slot whose operation has completed.
    #[cold]
    pub fn release(&mut self, slot: u32) {
        // A slot that cannot be emptied is not used again: the next operation would find the wrong
        // file there.
        if sys::io_uring_update_file(self.ring, slot, NO_FILE).is_ok() {
            self.free.push(slot);
        }
    }
}
