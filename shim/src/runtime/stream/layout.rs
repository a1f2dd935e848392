//! The parts of glibc's `FILE` structure that the shim reads and changes. They are part of its ABI:
//! old programs have these offsets compiled in (getc_unlocked was a macro), so they have not
//! changed since 2.1.
//!
//! The offsets are those of 64-bit machines, which are the only supported ones.

use std::ffi::{c_char, c_int, c_void};

/// The areas of a stream's buffer: of bytes in a [`File`], of wide characters in a [`Wide`].
///
/// They limit how far getc and putc work without a function call: these read from `read_ptr` to
/// `read_end` and write from `write_ptr` to `write_end`.
#[repr(C)]
pub struct Areas {
    pub read_ptr: *mut c_char,
    pub read_end: *mut c_char,
    pub read_base: *mut c_char,
    pub write_base: *mut c_char,
    pub write_ptr: *mut c_char,
    pub write_end: *mut c_char,
    buf_base: *mut c_char,
    buf_end: *mut c_char,
    /// The pushed-back characters, or the main area while those are being read.
    pub save_base: *mut c_char,
    backup_base: *mut c_char,
    save_end: *mut c_char,
}

/// `FILE`.
#[repr(C)]
pub struct File {
    pub flags: c_int,
    pub areas: Areas,
    pub markers: *mut c_void,
    chain: *mut File,
    pub fileno: c_int,
    pub flags2: c_int,
    old_offset: i64,
    cur_column: u16,
    vtable_offset: i8,
    short_buffer: [u8; 1],
    /// Null if the stream has no lock, like the streams on the stack inside libc's functions.
    pub lock: *mut Lock,
    /// The position of the descriptor, or -1 while it is unknown.
    pub offset: i64,
    codecvt: *mut c_void,
    pub wide: *mut Wide,
    freeres_list: *mut File,
    freeres_buffer: *mut c_void,
    pad: usize,
    /// Positive for a stream of wide characters, negative for one of bytes.
    pub mode: c_int,
    unused: [u8; 20],
    pub jumps: *const usize,
}

/// The head of `struct _IO_wide_data`.
#[repr(C)]
pub struct Wide {
    pub areas: Areas,
}

/// `_IO_lock_t`: a recursive lock that an OS thread owns.
#[repr(C)]
pub struct Lock {
    lock: c_int,
    count: c_int,
    pub owner: *mut c_void,
}

const _: () = assert!(std::mem::offset_of!(File, lock) == 136);
const _: () = assert!(std::mem::offset_of!(File, mode) == 192);
const _: () = assert!(std::mem::offset_of!(File, jumps) == 216);

/// Bits of [`File::flags`].
pub mod flags {
    use std::ffi::c_int;

    pub const ERROR_SEEN: c_int = 0x20;
    pub const LINE_BUFFERED: c_int = 0x200;
    /// Pushed-back characters are being read.
    pub const IN_BACKUP: c_int = 0x100;
    pub const CURRENTLY_PUTTING: c_int = 0x800;
    /// The program locks the stream itself (`__fsetlocking`).
    pub const USER_LOCK: c_int = 0x8000;
}

/// Bits of [`File::flags2`].
pub mod flags2 {
    use std::ffi::c_int;

    /// The stream's system calls are no cancellation points: mode `c`.
    pub const NOT_CANCELED: c_int = 2;
    /// getc and putc take the lock. Not set while the process has one thread, until flockfile is
    /// called.
    pub const NEEDS_LOCK: c_int = 128;
}

/// The index of each function in a jump table.
#[allow(dead_code, reason = "some only keep the numbering")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Slot {
    Finish = 2,
    Overflow,
    Underflow,
    Uflow,
    PushBackFail,
    PutN,
    GetN,
    SeekOffset,
    SeekPosition,
    SetBuffer,
    Sync,
    Allocate,
    Read,
    Write,
    Seek,
    Close,
    Stat,
    ShowMany,
    Imbue,
}

/// The number of words in a table, which begins with two unused ones.
pub const SLOTS: usize = Slot::Imbue as usize + 1;
