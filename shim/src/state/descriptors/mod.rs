//! Per-descriptor hints: the facts that the shim remembers, one atomic word per descriptor.
//!
//! Descriptors are also closed and opened where the shim does not see it (inside libc, by raw
//! system calls), so a hint may be stale. Every use of a hint must be correct even then. The hooks
//! forget a descriptor when it is closed or replaced, on a fiber or off.

use crate::state::attached;
use once_cell::race::OnceNonZeroUsize;
use policy::{Direction, Hint, Learned};
use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sys::errno::Errno;
use sys::sockets;

/// Descriptors at or above this number are examined on every call.
pub const CAPACITY: usize = 1 << 20;

/// The table's address: one reservation of 8 MiB, of which only the pages in use take memory. Made
/// by the first attach.
static TABLE: OnceNonZeroUsize = OnceNonZeroUsize::new();

// The layout of a word: bits 0-15, 30 and 31 hold the hint's flags and its count of tries to skip.
// Bits 16-23 and 29 hold the other learned values, bits 24-28 and 32 the flags of this module, and
// the highest 31 bits a hash of the inode.
/// A terminal, a signalfd(2), or an AF_UNIX socket that preserves message boundaries.
const SPECIAL_KIND: u64 = 1 << 24;
/// A descriptor of the shim itself. The program never received it, so it must not close it.
const SHIM_OWNED: u64 = 1 << 25;
/// Jobs of the offload pool refer to the descriptor by its number.
const POOL_IN_USE: u64 = 1 << 26;
/// Operations hold the descriptor ([`holds`](crate::state::holds)).
const HELD: u64 = 1 << 32;
/// Not examined since it was opened: only the flags are known, and possibly that it has a position.
const OPENED: u64 = 1 << 27;
const POSITION: u64 = 1 << 28;
/// Counts the uses of that knowledge: 2 bits, of those that later hold learned values.
const USES: u64 = 1 << MISSES;
const ALL_USES: u64 = 3 * USES;
/// One of these bits is set once the descriptor was examined.
const CLASS: u64 = Hint::SEEKABLE.with(Hint::STREAM).bits() as u64;
/// The learned values are about writes.
const OF_WRITES: u64 = 1 << 29;
/// 3 bits.
const MISSES: u32 = 16;
/// 5 bits.
const MISS_SHARE: u32 = 19;
const LEARNED: u64 = 0xff00 | 0xff << MISSES | OF_WRITES;
const INODE: u32 = 33;

/// Makes the table. Idempotent. If it fails, every call examines its descriptor, which is slower
/// but correct.
pub fn init() {
    let _ = TABLE.get_or_try_init(|| {
        let base = sys::reserve_zeroes(CAPACITY * size_of::<AtomicU64>())?;
        NonZeroUsize::new(base).ok_or(Errno::NOMEM)
    });
}

#[inline(always)]
fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    let base = TABLE.get()?;
    if fd as u32 as usize >= CAPACITY {
        return None;
    }
    // Threads that open files at the same time use consecutive numbers: in different cache lines.
    let at = fd as usize ^ (fd as usize & 7) << 3;
    // SAFETY: `base` is a mapping of CAPACITY zeroed words that stays, and `at` is below CAPACITY.
    Some(unsafe { &*(base.get() as *const AtomicU64).add(at) })
}

/// Forgets `fd`, which is being closed or replaced, or whose flags change. If it belongs to the
/// shim, or if operations, jobs or another thread may use it, this changes nothing and returns the
/// descriptor, which the caller passes to `runtime::release`.
#[inline(always)]
pub fn forget(fd: c_int) -> Option<c_int> {
    let slot = slot(fd)?;
    if slot.load(Ordering::Relaxed) & (SHIM_OWNED | POOL_IN_USE | HELD) != 0
        || attached::others_are_attached()
    {
        return Some(fd);
    }
    slot.store(0, Ordering::Relaxed);
    None
}

/// What uses a descriptor that is about to be closed or replaced.
pub struct Users {
    /// The shim owns it.
    pub is_shim_owned: bool,
    /// Operations hold it ([`holds`](crate::state::holds)).
    pub is_held: bool,
    /// Jobs of the offload pool refer to it by its number.
    pub is_pool_in_use: bool,
}

/// The users of `fd`; None if nothing is remembered of it.
pub fn users(fd: c_int) -> Option<Users> {
    let word = slot(fd)?.load(Ordering::Relaxed);
    Some(Users {
        is_shim_owned: word & SHIM_OWNED != 0,
        is_held: word & HELD != 0,
        is_pool_in_use: word & POOL_IN_USE != 0,
    })
}

/// Forgets `fd`, whose users have been taken care of.
pub fn clear(fd: c_int) {
    if let Some(slot) = slot(fd) {
        slot.store(0, Ordering::Relaxed);
    }
}

/// Sets or clears the flag that operations hold the descriptor.
pub fn set_held(fd: c_int, held: bool) {
    set_flag(fd, HELD, held);
}

/// Sets or clears the flag that jobs of the offload pool refer to the descriptor.
pub fn set_pool_in_use(fd: c_int, in_use: bool) {
    set_flag(fd, POOL_IN_USE, in_use);
}

fn set_flag(fd: c_int, flag: u64, on: bool) {
    let Some(slot) = slot(fd) else { return };
    if on {
        slot.fetch_or(flag, Ordering::Relaxed);
        note_remembered(fd);
    } else {
        slot.fetch_and(!flag, Ordering::Relaxed);
    }
}

/// The program has set a timeout or a low-water mark on some socket. Any descriptor may refer to
/// that socket.
static SOCKET_OPTIONS: AtomicBool = AtomicBool::new(false);

pub fn note_socket_option() {
    SOCKET_OPTIONS.store(true, Ordering::Relaxed);
}

pub fn socket_options_were_set() -> bool {
    SOCKET_OPTIONS.load(Ordering::Relaxed)
}

/// The program has set SO_LINGER on some socket, so closing any socket may block.
static LINGERING: AtomicBool = AtomicBool::new(false);

pub fn note_lingering_socket() {
    LINGERING.store(true, Ordering::Relaxed);
}

#[inline(always)]
pub fn sockets_may_linger() -> bool {
    LINGERING.load(Ordering::Relaxed)
}

/// Whether the descriptor belongs to the shim.
pub fn is_shim_owned(fd: c_int) -> bool {
    slot(fd).is_some_and(|slot| slot.load(Ordering::Relaxed) & SHIM_OWNED != 0)
}

/// One bit per page of the table that ever contained a descriptor of the shim. The child of a fork
/// scans only these pages.
static PAGES_WITH_SHIM_OWNED: [AtomicU64; CAPACITY / WORDS_IN_PAGE / 64] =
    [const { AtomicU64::new(0) }; _];
const WORDS_IN_PAGE: usize = 512;

/// In the child of a fork: forgets all descriptors of the shim, because they belong to the parent,
/// and calls `each` for each one.
pub fn take_shim_owned(mut each: impl FnMut(c_int)) {
    for (n, bits) in PAGES_WITH_SHIM_OWNED.iter().enumerate() {
        let mut bits = bits.swap(0, Ordering::Relaxed);
        while bits != 0 {
            let page = n * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            for fd in page * WORDS_IN_PAGE..(page + 1) * WORDS_IN_PAGE {
                let fd = fd as c_int;
                if is_shim_owned(fd) {
                    mark_shim_owned(fd, false);
                    each(fd);
                }
            }
        }
    }
}

/// Marks a descriptor as the shim's, or clears that mark.
pub fn mark_shim_owned(fd: c_int, owned: bool) {
    if let Some(slot) = slot(fd) {
        if owned {
            let page = fd as usize / WORDS_IN_PAGE;
            PAGES_WITH_SHIM_OWNED[page / 64].fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
        slot.store(if owned { SHIM_OWNED } else { 0 }, Ordering::Relaxed);
        note_remembered(fd);
    }
}

/// Makes `fd`, which was just opened, a descriptor of the shim, moves it to a high number that the
/// program does not use, and returns that number. If no such number is free, closes `fd` and
/// returns EMFILE.
pub fn adopt(fd: c_int) -> Result<c_int, Errno> {
    mark_shim_owned(fd, true);
    let high = sys::duplicate_out_of_the_way(fd);
    if let Some(high) = high {
        mark_shim_owned(high, true);
    }
    if high.is_none_or(|high| still_is(fd, high)) {
        disown(fd);
        let _ = sys::close(fd);
    }
    high.ok_or(Errno::MFILE)
}

/// Clears the mark of a descriptor of the shim, before it is closed.
pub fn disown(fd: c_int) {
    mark_shim_owned(fd, false);
}

/// Whether `fd` still refers to the file of `owned`. It does not if another thread closed it by its
/// number before it was marked; the number may then belong to the program.
pub fn still_is(fd: c_int, owned: c_int) -> bool {
    sys::same_open_file(fd, owned).unwrap_or(true)
}

/// See [`end_of_remembered`].
static END_OF_REMEMBERED: AtomicU32 = AtomicU32::new(0);

/// Notes that `fd` is remembered. Rarely writes, because every open on every thread comes here.
#[inline(always)]
fn note_remembered(fd: c_int) {
    if END_OF_REMEMBERED.load(Ordering::Relaxed) <= fd as u32 {
        END_OF_REMEMBERED.fetch_max(fd as u32 + 1, Ordering::Relaxed);
    }
}

/// One past the highest descriptor ever remembered.
pub fn end_of_remembered() -> u32 {
    END_OF_REMEMBERED.load(Ordering::Relaxed)
}

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
            LINGERING.store(true, Ordering::Relaxed);
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

    /// The stream supports tries: it has answered one.
    #[inline]
    #[must_use]
    pub fn with_nowait_known(self) -> Self {
        if !self.hint().contains(Hint::STREAM) || self.hint().contains(Hint::NOWAIT_KNOWN) {
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

/// The file type of anonymous inodes, which have no name.
const NO_KIND: libc::mode_t = 0;

/// Whether it is a regular file, a directory, a disk, or a memory device: with few exceptions these
/// have a position.
fn may_seek(stat: &libc::stat) -> bool {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR => true,
        libc::S_IFCHR => libc::major(stat.st_rdev) == MEMORY_DEVICES,
        _ => false,
    }
}

/// Like [`may_seek`], for a descriptor, without calling lseek(2): on a /proc file that is generated
/// while it is read, lseek(2) would discard the generated text.
pub fn is_file(fd: c_int) -> bool {
    sys::fstat(fd).is_ok_and(|stat| may_seek(&stat))
}

fn has_position(fd: c_int) -> bool {
    sys::lseek(fd, 0, libc::SEEK_CUR).is_ok()
}

/// The major number of /dev/null, zero, full, random and urandom.
pub const MEMORY_DEVICES: u32 = 1;

/// The hints that flags of open(2) give.
fn of_flags(flags: c_int) -> Hint {
    let known = [
        (libc::O_DIRECT, Hint::DIRECT),
        (libc::O_DSYNC, Hint::SYNC),
        (libc::O_NONBLOCK, Hint::NONBLOCKING),
        (libc::O_APPEND, Hint::APPEND),
    ];
    let given = known.into_iter().filter(|(flag, _)| flags & flag != 0);
    given.fold(Hint::from_bits(0), |hint, (_, bit)| hint.with(bit))
}

fn inode_hash(stat: &libc::stat) -> u32 {
    let mixed = (stat.st_ino ^ stat.st_dev.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> INODE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
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
