//! System calls by number, through syscall(2): if a row exists for the call, its hook makes it.
//!
//! A number therefore behaves as its name does: it parks a fiber if the call blocks, forgets
//! descriptors that it closes or replaces, and leaves the shim's own descriptors alone. Calls whose
//! rows are adaptive are passed through here, except those that rename or link a file, because
//! [`recent_paths`] has to know about them.

use super::enter::{Hook, enter};
use super::function::Function;
use super::{
    BY_NUMBER, clock_nanosleep as clock_nanosleep_row, epoll_pwait as epoll_pwait_row,
    fcntl as fcntl_row, ioctl as ioctl_row, ppoll as ppoll_row, preadv2 as preadv2_row,
    pwritev2 as pwritev2_row, sigsuspend as sigsuspend_row, waitid as waitid_row,
};
use crate::calls;
use crate::state::recent_paths;
use std::ffi::{c_int, c_long, c_uint, c_ulong};
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use sys::errno;

/// The arguments of a system call.
type Words = [c_long; 6];

/// Makes a system call as a call of the table. Returns None if the kernel alone handles it.
pub type ByNumber = fn(Words) -> Option<c_long>;

/// How each system call is made, by its number.
pub type SyscallTable = [Option<ByNumber>; 512];

/// The system call of a row, and how it is made. Rows that may change the file that a path names do
/// something even if the kernel handles their system call.
pub const fn of<F: Function>() -> Option<(c_long, ByNumber)> {
    match (F::NUMBER, F::BY_NUMBER) {
        (Some(number), Some(by_number)) => Some((number, by_number)),
        (Some(number), None) if F::RENAMES => Some((number, rename)),
        _ => None,
    }
}

/// The table of all rows, and of the calls that are exported without a row.
pub const fn table(rows: &[Option<(c_long, ByNumber)>]) -> SyscallTable {
    let mut table: SyscallTable = [None; _];
    table[libc::SYS_close_range as usize] = Some(close_range);
    let mut at = 0;
    while at < rows.len() {
        if let Some((number, by_number)) = rows[at] {
            assert!(table[number as usize].is_none(), "a number has one row");
            table[number as usize] = Some(by_number);
        }
        at += 1;
    }
    table
}

/// The result of the call with this number, or -1 with the error in errno. Returns None if no row
/// exists for the call, so that the kernel alone handles it.
#[inline(always)]
pub fn by_number(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> Option<c_long> {
    // Language runtimes and the shim's own libraries make this call most often.
    if number == libc::SYS_futex {
        return None;
    }
    of_row(number, [a, b, c, d, e, f])
}

#[inline(never)]
fn of_row(number: c_long, words: Words) -> Option<c_long> {
    let by_number = (*BY_NUMBER.get(usize::try_from(number).ok()?)?)?;
    by_number(words)
}

/// Calls a row's hook with the first words as its arguments.
pub fn by_words<H: Hook>(words: Words) -> Option<c_long>
where
    H::Arguments: FromWords,
    H::Result: IntoWord,
{
    // SAFETY: the arguments are those of syscall(2)'s caller, who must guarantee for them what the
    // call itself requires.
    let result = unsafe { enter::<H>(H::Arguments::from_words(words)) };
    Some(result.into_word())
}

/// Renames or links a file.
fn rename(_: Words) -> Option<c_long> {
    recent_paths::forget();
    None
}

/// close_range(2).
fn close_range([first, last, flags, ..]: Words) -> Option<c_long> {
    let result = calls::file::close_range(first as c_uint, last as c_uint, flags as c_int);
    Some(c_long::from(result))
}

/// preadv2(2), which takes the offset in two words.
pub fn preadv2([fd, vector, n, offset, _, flags]: Words) -> Option<c_long> {
    by_words::<preadv2_row::Type>([fd, vector, n, offset, flags, 0])
}

/// pwritev2(2), which takes the offset in two words.
pub fn pwritev2([fd, vector, n, offset, _, flags]: Words) -> Option<c_long> {
    by_words::<pwritev2_row::Type>([fd, vector, n, offset, flags, 0])
}

/// fcntl(2), if the libc function passes the command on unchanged and the hook handles it.
pub fn fcntl(words: Words) -> Option<c_long> {
    let is_known = matches!(
        words[1] as c_int,
        libc::F_DUPFD
            | libc::F_DUPFD_CLOEXEC
            | libc::F_SETFL
            | libc::F_SETLK
            | libc::F_SETLKW
            | libc::F_OFD_SETLK
            | libc::F_OFD_SETLKW
    );
    if is_known {
        by_words::<fcntl_row::Type>(words)
    } else {
        None
    }
}

/// ioctl(2), for FIONBIO.
pub fn ioctl(words: Words) -> Option<c_long> {
    if words[1] as c_ulong == libc::FIONBIO {
        by_words::<ioctl_row::Type>(words)
    } else {
        None
    }
}

/// The size of the kernel signal set in bytes. Calls with a mask take it as an argument.
const MASK_SIZE: c_long = 8;

/// ppoll(2), unless the kernel rejects the size of the mask.
pub fn ppoll(words: Words) -> Option<c_long> {
    if words[3] == 0 || words[4] == MASK_SIZE {
        by_words::<ppoll_row::Type>(words)
    } else {
        None
    }
}

/// epoll_pwait(2), unless the kernel rejects the size of the mask.
pub fn epoll_pwait(words: Words) -> Option<c_long> {
    if words[4] == 0 || words[5] == MASK_SIZE {
        by_words::<epoll_pwait_row::Type>(words)
    } else {
        None
    }
}

/// rt_sigsuspend(2), unless the kernel rejects the size of the mask.
pub fn sigsuspend(words: Words) -> Option<c_long> {
    if words[1] == MASK_SIZE {
        by_words::<sigsuspend_row::Type>(words)
    } else {
        None
    }
}

/// waitid(2), unless it also reports the resources that the child used.
pub fn waitid(words: Words) -> Option<c_long> {
    if words[4] == 0 {
        by_words::<waitid_row::Type>(words)
    } else {
        None
    }
}

/// clock_nanosleep(2), whose libc function returns the error number.
pub fn clock_nanosleep(words: Words) -> Option<c_long> {
    match by_words::<clock_nanosleep_row::Type>(words)? {
        0 => Some(0),
        error => {
            errno::set(error as c_int);
            Some(-1)
        }
    }
}

/// Converts an argument of syscall(2) to the type that the call itself takes.
trait OfWord {
    fn of_word(word: c_long) -> Self;
}

macro_rules! of_word {
    ($($type:ty),*) => {$(
        impl OfWord for $type {
            fn of_word(word: c_long) -> Self {
                word as Self
            }
        }
    )*};
}

of_word!(c_int, c_uint, c_long, u64, usize);

impl<T> OfWord for *mut T {
    fn of_word(word: c_long) -> Self {
        with_exposed_provenance_mut(word as usize)
    }
}

impl<T> OfWord for *const T {
    fn of_word(word: c_long) -> Self {
        with_exposed_provenance(word as usize)
    }
}

/// Converts the first words to the arguments of a call.
pub trait FromWords {
    fn from_words(words: Words) -> Self;
}

impl FromWords for () {
    fn from_words(_: Words) {}
}

macro_rules! from_words {
    ($($type:ident $word:ident),*) => {
        impl<$($type: OfWord),*> FromWords for ($($type,)*) {
            fn from_words([$($word,)* ..]: Words) -> Self {
                ($($type::of_word($word),)*)
            }
        }
    };
}

from_words!(A a);
from_words!(A a, B b);
from_words!(A a, B b, C c);
from_words!(A a, B b, C c, D d);
from_words!(A a, B b, C c, D d, E e);
from_words!(A a, B b, C c, D d, E e, F f);

/// Converts the result of a call to what syscall(2) returns.
pub trait IntoWord {
    fn into_word(self) -> c_long;
}

impl IntoWord for c_int {
    fn into_word(self) -> c_long {
        c_long::from(self)
    }
}

impl IntoWord for c_long {
    fn into_word(self) -> c_long {
        self
    }
}

impl IntoWord for isize {
    fn into_word(self) -> c_long {
        self as c_long
    }
}
