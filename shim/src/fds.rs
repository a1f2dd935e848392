//! What is remembered of each descriptor: hints, an atomic word each.
//!
//! Descriptors are closed and opened behind our back (inside libc, by raw system calls), so a hint may be stale; every
//! use of one must stay right then. Hooks forget a descriptor where it is closed or replaced, also off a fiber.

use crate::policy::{self, Class, Hint};
use crate::sys;
use once_cell::race::OnceNonZeroUsize;
use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Descriptors past this are looked at anew on each call.
const CAPACITY: usize = 1 << 20;

/// The table's address: one reservation of 8 MiB, of which the pages in use are touched. Made by the first attach.
static TABLE: OnceNonZeroUsize = OnceNonZeroUsize::new();

// One word: class in bits 0-1, a flag a bit, then the two counters, then the inode's hash.
const DIRECT: u64 = 1 << 2;
const SYNC: u64 = 1 << 3;
const NONBLOCKING: u64 = 1 << 4;
const NO_TRY: u64 = 1 << 5;
const SKIP: u32 = 8;
const MISSES: u32 = 16;
const INODE: u32 = 32;

/// Makes the table. Idempotent; on failure every descriptor is looked at anew, which is only slow.
pub fn init() {
    let _ = TABLE.get_or_try_init(|| {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh anonymous mapping overlaps nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                CAPACITY * 8,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        NonZeroUsize::new(base as usize).ok_or(rustix::io::Errno::NOMEM)
    });
}

#[inline(always)]
fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    let base = TABLE.get()?;
    if fd as u32 as usize >= CAPACITY {
        return None;
    }
    // SAFETY: `base` is a mapping of CAPACITY zeroed words that is never unmapped, and `fd` is below CAPACITY.
    Some(unsafe { &*(base.get() as *const AtomicU64).add(fd as usize) })
}

/// Forgets `fd`: it is being closed, replaced, or its flags change.
#[inline(always)]
pub fn forget(fd: c_int) {
    if let Some(slot) = slot(fd) {
        slot.store(0, Ordering::Relaxed);
    }
}

/// One past the highest descriptor ever remembered: what there is to forget of a range.
static HIGH: AtomicU32 = AtomicU32::new(0);

/// Forgets `first` to `last`, both included.
pub fn forget_range(first: u32, last: u32) {
    for fd in first..HIGH.load(Ordering::Relaxed).min(last.saturating_add(1)) {
        forget(fd as c_int);
    }
}

/// A descriptor as it was looked up for one call; what the call teaches goes back through it.
#[derive(Clone, Copy)]
pub struct Descriptor {
    fd: c_int,
    word: u64,
}

impl Descriptor {
    /// What is known of `fd`, looked at with two system calls the first time.
    #[inline]
    pub fn get(fd: c_int) -> Self {
        Self::known(fd).unwrap_or_else(|| Self::learn(fd))
    }

    #[cold]
    fn learn(fd: c_int) -> Self {
        let (Ok(stat), Ok(flags)) = (sys::fstat(fd), sys::status_flags(fd)) else {
            return Self { fd, word: 0 };
        };
        Self::remember(fd, &stat, flags)
    }

    /// Remembers `fd` as just opened with `flags`.
    pub fn remember(fd: c_int, stat: &libc::stat, flags: c_int) -> Self {
        let class = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR => Class::Seekable,
            // A character device may have a position (/dev/zero) or none (a terminal).
            libc::S_IFCHR if sys::lseek(fd, 0, libc::SEEK_CUR).is_ok() => Class::Seekable,
            _ => Class::Stream,
        };
        let mut word = class as u64 | u64::from(inode_hash(stat)) << INODE;
        for (flag, bit) in [
            (libc::O_DIRECT, DIRECT),
            (libc::O_DSYNC, SYNC),
            (libc::O_NONBLOCK, NONBLOCKING),
        ] {
            if flags & flag != 0 {
                word |= bit;
            }
        }
        // A pipe's O_DIRECT is packet mode, nothing of disks.
        if class == Class::Stream {
            word &= !DIRECT;
        }
        let descriptor = Self { fd, word };
        descriptor.store();
        HIGH.fetch_max(fd as u32 + 1, Ordering::Relaxed);
        descriptor
    }

    /// What is known of `fd` without looking: None if nothing.
    #[inline]
    pub fn known(fd: c_int) -> Option<Self> {
        let word = slot(fd)?.load(Ordering::Relaxed);
        (word != 0).then_some(Self { fd, word })
    }

    fn store(self) {
        if let Some(slot) = slot(self.fd) {
            slot.store(self.word, Ordering::Relaxed);
        }
    }

    #[inline]
    pub fn hint(self) -> Hint {
        Hint {
            class: match self.word & 3 {
                1 => Class::Seekable,
                2 => Class::Stream,
                _ => Class::Unknown,
            },
            direct: self.word & DIRECT != 0,
            sync: self.word & SYNC != 0,
            nonblocking: self.word & NONBLOCKING != 0,
            no_try: self.word & NO_TRY != 0,
            skip: (self.word >> SKIP) as u8,
        }
    }

    /// A hash of the file's device and inode numbers: equal for descriptors of one open file.
    pub fn inode(self) -> u32 {
        (self.word >> INODE) as u32
    }

    pub fn is_seekable(self) -> bool {
        self.hint().class == Class::Seekable
    }

    /// A try found nothing cached, or a copy was throttled: skip ever more tries.
    pub fn missed(mut self) {
        let misses = (self.word >> MISSES) as u8;
        self.set_counters(policy::backoff(misses), misses.saturating_add(1).min(7));
        self.store();
    }

    /// A try was served.
    #[inline]
    pub fn hit(mut self) {
        if self.word >> SKIP & 0xffff != 0 {
            self.set_counters(0, 0);
            self.store();
        }
    }

    /// A call was submitted for lack of luck with tries: one try less to skip.
    pub fn submitted(mut self) {
        let skip = (self.word >> SKIP) as u8;
        if skip > 0 {
            self.set_counters(skip - 1, (self.word >> MISSES) as u8);
            self.store();
        }
    }

    /// The file refuses RWF_NOWAIT.
    pub fn refuses_tries(mut self) {
        self.word |= NO_TRY;
        self.store();
    }

    fn set_counters(&mut self, skip: u8, misses: u8) {
        self.word &= !(0xffff << SKIP);
        self.word |= u64::from(skip) << SKIP | u64::from(misses) << MISSES;
    }
}

fn inode_hash(stat: &libc::stat) -> u32 {
    let mixed = (stat.st_ino ^ stat.st_dev.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_file_a_pipe_and_a_closed_descriptor_are_told_apart() {
        init();
        let file = rustix::fs::open("Cargo.toml", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        assert!(Descriptor::get(file.as_raw_fd()).is_seekable());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(Descriptor::get(reader.as_raw_fd()).hint().class, Class::Stream);
        assert_eq!(Descriptor::get(-1).hint().class, Class::Unknown);
    }

    #[test]
    fn misses_back_off_and_a_hit_forgives() {
        let d = Descriptor { fd: -1, word: 1 };
        let mut after = d;
        after.set_counters(policy::backoff(2), 3);
        assert_eq!((after.hint().skip, (after.word >> MISSES) as u8), (4, 3));
        after.set_counters(0, 0);
        assert_eq!(after.word, d.word);
    }
}
