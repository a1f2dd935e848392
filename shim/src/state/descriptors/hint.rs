//! The hint of one descriptor: how it is found out, read, and updated by what its calls learn.

use super::examination::{NO_KIND, has_position, inode_hash, may_seek, of_flags};
use super::socket_options;
use super::table::{
    ALL_USES, CLASS, HELD, INODE, LEARNED, MISS_SHARE, MISSES, OF_WRITES, OPENED, POOL_IN_USE,
    POSITION, SPECIAL_KIND, USES, note_remembered, slot,
};
use policy::{Direction, Hint, Learned};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use sys::sockets;

/// Whether `fd` is remembered as a file with a position.
pub fn probably_has_position(fd: c_int) -> bool {
    let known = POSITION | u64::from(Hint::SEEKABLE.bits());
    slot(fd).is_some_and(|slot| slot.load(Ordering::Relaxed) & known != 0)
}

/// The hint of a descriptor as one call read it. A call updates the hint through this value.
#[derive(Clone, Copy)]
pub struct Descriptor {
    fd: c_int,
    word: u64,
}

impl Descriptor {
    /// The hint of `fd`. The first look-up examines the descriptor with system calls.
    #[inline]
    pub fn get(fd: c_int) -> Self {
        Self::known(fd).unwrap_or_else(|| Self::examine(fd))
    }

    /// Like [`Self::get`], for a transfer at the position, which usually only copies data and then
    /// needs only to know that there is a position. So the first ones after an open take its result
    /// for an answer, which costs no system call; files that are used more often are examined. The
    /// answer lacks the inode: [`Self::examined`].
    #[inline]
    pub fn get_at_position(fd: c_int) -> Self {
        Self::known(fd)
            .or_else(|| Self::presumed(fd))
            .unwrap_or_else(|| Self::examine(fd))
    }

    #[inline(never)]
    fn presumed(fd: c_int) -> Option<Self> {
        let slot = slot(fd)?;
        let word = slot.load(Ordering::Relaxed);
        let direct = u64::from(Hint::DIRECT.bits());
        if word & (OPENED | POSITION | direct) != OPENED | POSITION || word & ALL_USES == ALL_USES {
            return None;
        }
        let counted = word + USES;
        let _ = slot.compare_exchange(word, counted, Ordering::Relaxed, Ordering::Relaxed);
        Some(Self {
            fd,
            word: word & !ALL_USES | u64::from(Hint::SEEKABLE.bits()),
        })
    }

    /// The hint with all that an examination finds, if [`Self::get_at_position`] made none.
    #[inline(always)]
    pub fn examined(self) -> Self {
        if self.word & OPENED != 0 {
            Self::get(self.fd)
        } else {
            self
        }
    }

    /// Remembers what the `flags` say about `fd`, which was just opened, and whether it is known to
    /// have a position. The first use finds out the rest.
    pub fn opened(fd: c_int, flags: c_int, has_position: bool) {
        if let Some(slot) = slot(fd) {
            let position = if has_position { POSITION } else { 0 };
            let word = OPENED | position | u64::from(of_flags(flags).bits());
            slot.store(word, Ordering::Relaxed);
            note_remembered(fd);
        }
    }

    /// Examines `fd`, with one or two system calls if its state is that of a recent open, otherwise
    /// with two to five.
    #[cold]
    fn examine(fd: c_int) -> Self {
        let word = slot(fd).map_or(0, |slot| slot.load(Ordering::Relaxed));
        match sys::fstat(fd) {
            Ok(stat) if word & OPENED != 0 => {
                let hint = Hint::from_bits(word as u16 as u32);
                Self::remember(fd, &stat, hint, || word & POSITION != 0 || has_position(fd))
            }
            _ => Self::learn(fd),
        }
    }

    /// Examines `fd` again, with two to five system calls.
    #[cold]
    pub fn learn(fd: c_int) -> Self {
        let (Ok(stat), Ok(flags)) = (sys::fstat(fd), sys::status_flags(fd)) else {
            return Self { fd, word: 0 };
        };
        Self::remember(fd, &stat, of_flags(flags), || has_position(fd))
    }

    /// Remembers `fd`, an open file with these attributes and flags.
    fn remember(
        fd: c_int,
        stat: &libc::stat,
        flags: Hint,
        has_position: impl Fn() -> bool,
    ) -> Self {
        let kind = stat.st_mode & libc::S_IFMT;
        // FUSE files and some kernel files are regular but have no position. Of the character
        // devices, only the memory devices have one when lseek(2) succeeds.
        let class = if may_seek(stat) && (kind == libc::S_IFCHR || has_position()) {
            Hint::SEEKABLE
        } else {
            Hint::STREAM
        };
        let mut hint = class.with(flags);
        if class == Hint::STREAM {
            // On a pipe O_DIRECT means packet mode, which is unrelated to disks.
            hint = hint.without(Hint::DIRECT);
        }
        if kind == libc::S_IFSOCK && (sockets::low_water_mark(fd) > 1 || sockets::has_timeout(fd)) {
            hint = hint.with(Hint::HAS_TIMEOUT);
        }
        // The socket may be inherited from the parent program, with SO_LINGER already set.
        if kind == libc::S_IFSOCK && sockets::lingers(fd) {
            socket_options::note_lingering_socket();
        }
        let mut word = u64::from(hint.bits()) | u64::from(inode_hash(stat)) << INODE;
        let is_peculiar = match kind {
            libc::S_IFCHR => sys::terminal(fd).is_some(),
            NO_KIND => sys::is_signalfd(fd),
            libc::S_IFSOCK => sockets::is_unix(fd) && !sockets::is_byte_stream(fd),
            _ => false,
        };
        if is_peculiar {
            word |= SPECIAL_KIND;
        }
        if let Some(slot) = slot(fd) {
            word |= slot.load(Ordering::Relaxed) & (POOL_IN_USE | HELD);
            slot.store(word, Ordering::Relaxed);
            note_remembered(fd);
        }
        Self { fd, word }
    }

    /// The hint of `fd`, without a system call; None if there is none.
    #[inline]
    pub fn known(fd: c_int) -> Option<Self> {
        let word = slot(fd)?.load(Ordering::Relaxed);
        (word & CLASS != 0).then_some(Self { fd, word })
    }

    /// Stores a new word, unless the descriptor was forgotten or learned again since this hint was
    /// read.
    fn update(self, word: u64) {
        if let Some(slot) = slot(self.fd) {
            let _ = slot.compare_exchange(self.word, word, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub fn hint(self) -> Hint {
        Hint::from_bits(self.word as u32)
    }

    /// A hash of the file's device and inode numbers, 31 bits long. Descriptors of the same open
    /// file have equal hashes.
    pub fn inode(self) -> u32 {
        (self.word >> INODE) as u32
    }

    /// Whether the number still refers to a file with the inode that was remembered.
    pub fn is_still_open(self) -> bool {
        sys::fstat(self.fd).is_ok_and(|stat| inode_hash(&stat) == self.inode())
    }

    #[inline(always)]
    pub fn is_seekable(self) -> bool {
        self.hint().contains(Hint::SEEKABLE)
    }

    /// Whether it is a signalfd(2), whose signals depend on the calling thread.
    pub fn is_signalfd(self) -> bool {
        self.word & SPECIAL_KIND != 0 && sys::is_signalfd(self.fd)
    }

    /// Whether it is a terminal. Only for descriptors that are neither a socket nor a signalfd(2).
    pub fn is_terminal(self) -> bool {
        self.word & SPECIAL_KIND != 0
    }

    /// Whether a socket is an AF_UNIX socket that preserves message boundaries. Only for sockets.
    pub fn preserves_unix_boundaries(self) -> bool {
        self.word & SPECIAL_KIND != 0
    }

    /// A try found nothing in the cache, or a copy was throttled; `batch` is the size of the
    /// expected batch.
    pub fn missed(self, direction: Direction, batch: u32) {
        self.update(self.with(self.learned().missed(direction, batch)));
    }

    /// A try succeeded, or a copy was quick. `batch` is called only if something was learned
    /// before.
    #[inline]
    pub fn hit(self, direction: Direction, batch: impl FnOnce() -> u32) {
        if self.word & LEARNED != 0 {
            self.update(self.with(self.learned().hit(direction, batch())));
        }
    }

    /// A transfer was submitted without a try.
    #[inline(always)]
    pub fn submitted(self, direction: Direction) {
        if self.hint().skips(direction) {
            self.count_down(direction);
        }
    }

    /// Not inlined: most submitted transfers have no skip count to decrement.
    #[inline(never)]
    fn count_down(self, direction: Direction) {
        self.update(self.with(self.learned().submitted(direction)));
    }

    /// It supports tries: it has answered one. Not kept before it is examined.
    #[inline]
    #[must_use]
    pub fn with_nowait_known(self) -> Self {
        if self.hint().contains(Hint::NOWAIT_KNOWN) || self.word & OPENED != 0 {
            return self;
        }
        let word = self.word | u64::from(Hint::NOWAIT_KNOWN.bits());
        self.update(word);
        Self { word, ..self }
    }

    /// The file does not support RWF_NOWAIT.
    #[must_use]
    pub fn with_nowait_refused(self, direction: Direction) -> Self {
        let word = self.word | u64::from(Hint::refuses_nowait(direction).bits());
        self.update(word);
        Self { word, ..self }
    }

    fn learned(self) -> Learned {
        Learned {
            direction: if self.word & OF_WRITES != 0 {
                Direction::Write
            } else {
                Direction::Read
            },
            skip: self.hint().skip(),
            misses: (self.word >> MISSES) as u8 & 7,
            miss_share: (self.word >> MISS_SHARE) as u8 & Learned::ALL_MISSES,
        }
    }

    fn with(self, learned: Learned) -> u64 {
        let of_writes = match learned.direction {
            Direction::Write
                if learned
                    != (Learned {
                        direction: Direction::Write,
                        ..Learned::NOTHING
                    }) =>
            {
                OF_WRITES
            }
            _ => 0,
        };
        let word = self.word & !LEARNED;
        let hint = Hint::from_bits(word as u32).with_skip(learned.direction, learned.skip);
        word | u64::from(hint.bits())
            | u64::from(learned.misses) << MISSES
            | u64::from(learned.miss_share) << MISS_SHARE
            | of_writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::descriptors::init;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_file_a_pipe_and_a_closed_descriptor_are_told_apart() {
        init();
        let file = rustix::fs::open(
            "Cargo.toml",
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        assert!(Descriptor::get(file.as_raw_fd()).is_seekable());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(Descriptor::get(reader.as_raw_fd()).hint(), Hint::STREAM);
        assert_eq!(Descriptor::get(-1).hint().bits(), 0);
    }

    #[test]
    fn what_is_learned_is_kept_beside_all_else() {
        let d = Descriptor {
            fd: -1,
            word: 0x2bcd_ef01 << INODE | SPECIAL_KIND | 1,
        };
        for direction in [Direction::Read, Direction::Write] {
            let learned = Learned {
                direction,
                skip: 64,
                misses: 7,
                miss_share: Learned::ALL_MISSES,
            };
            let after = Descriptor {
                fd: -1,
                word: d.with(learned),
            };
            assert_eq!((after.learned(), after.inode()), (learned, 0x2bcd_ef01));
            assert!(after.is_terminal() && after.hint().skips(direction));
            assert_eq!(after.with(Learned::NOTHING), d.word);
        }
    }
}
