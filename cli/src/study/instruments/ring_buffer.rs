//! The memory that the kernel shares with a reader of an event's records.
//!
//! The first page holds two positions that only grow: the kernel writes records and advances the
//! head, the reader advances the tail. A record may wrap around the end of the data.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of data; the kernel wants a power of two.
const PAGES: usize = 64;
const PAGE: usize = 4096;

/// Where the positions are in the first page: `data_head` and `data_tail` of
/// `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// The records of one event.
pub struct RingBuffer {
    /// Keeps the event open.
    _event: File,
    memory: NonNull<u8>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: u32,
    pub flags: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl RingBuffer {
    /// Maps the records of `event`.
    pub fn new(event: File) -> io::Result<RingBuffer> {
        let length = (PAGES + 1) * PAGE;
        // SAFETY: the kernel chooses an address where nothing is mapped.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(RingBuffer {
            _event: event,
            memory,
        })
    }

    /// Takes all records that are there.
    pub fn take(&mut self) -> Vec<Record> {
        let head = self.position(HEAD).load(Ordering::Acquire);
        let mut tail = self.position(TAIL).load(Ordering::Relaxed);
        let mut records = Vec::new();
        while tail < head {
            let header = self.bytes(tail, 8);
            let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
            let size = u64::from(word(6));
            if size < 8 {
                break;
            }
            records.push(Record {
                kind: u32::from_ne_bytes([header[0], header[1], header[2], header[3]]),
                flags: word(4),
                body: self.bytes(tail + 8, size - 8),
            });
            tail += size;
        }
        self.position(TAIL).store(head, Ordering::Release);
        records
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the first page is mapped as long as `self` lives, the position is aligned in it,
        // and the kernel accesses it atomically, too.
        unsafe { self.memory.add(at).cast().as_ref() }
    }

    /// Copies `length` bytes of data from position `from`.
    fn bytes(&self, from: u64, length: u64) -> Vec<u8> {
        let size = (PAGES * PAGE) as u64;
        let byte = |position: u64| {
            let at = PAGE + (position % size) as usize;
            // SAFETY: the data pages are mapped as long as `self` lives, the offset lies in them,
            // and the kernel does not write between the tail and the head.
            unsafe { self.memory.add(at).read() }
        };
        (from..from + length).map(byte).collect()
    }
}

impl Drop for RingBuffer {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping that `new` made, and no reference to it is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), (PAGES + 1) * PAGE) };
    }
}
