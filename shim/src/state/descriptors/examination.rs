//! What the attributes and the flags of an open file tell.

use super::table::INODE;
use policy::Hint;
use std::ffi::c_int;

/// The file type of anonymous inodes, which have no name.
pub(super) const NO_KIND: libc::mode_t = 0;

/// Whether it is a regular file, a directory, a disk, or a memory device: with few exceptions these
/// have a position.
pub(super) fn may_seek(stat: &libc::stat) -> bool {
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

pub(super) fn has_position(fd: c_int) -> bool {
    sys::lseek(fd, 0, libc::SEEK_CUR).is_ok()
}

/// The major number of /dev/null, zero, full, random and urandom.
pub const MEMORY_DEVICES: u32 = 1;

/// The hints that flags of open(2) give.
pub(super) fn of_flags(flags: c_int) -> Hint {
    let known = [
        (libc::O_DIRECT, Hint::DIRECT),
        (libc::O_DSYNC, Hint::SYNC),
        (libc::O_NONBLOCK, Hint::NONBLOCKING),
        (libc::O_APPEND, Hint::APPEND),
    ];
    let given = known.into_iter().filter(|(flag, _)| flags & flag != 0);
    given.fold(Hint::from_bits(0), |hint, (_, bit)| hint.with(bit))
}

pub(super) fn inode_hash(stat: &libc::stat) -> u32 {
    let mixed = (stat.st_ino ^ stat.st_dev.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> INODE) as u32
}
