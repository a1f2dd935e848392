//! What an engine is asked to do: one operation, in the kernel's terms.
//!
//! The memory it names belongs to the kernel until its completion is reaped: the parked fiber that
//! asked for it keeps it in place (flight.rs). So a request is only ever made from the arguments of
//! a libc call that has not returned.

use super::socket::SocketCall;
pub use crate::policy::Way;
use crate::sys::AT_POSITION;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::AtomicBool;
use syscalls::Sysno;

/// The most the kernel transfers in one call (MAX_RW_COUNT); more is cut to it after other checks
/// than io_uring's.
pub const MAX_COUNT: usize = 0x7fff_f000;

#[derive(Clone, Copy)]
pub enum Request {
    Transfer(Transfer),
    /// The plain call: for what no engine can do without waiting.
    Plain(Transfer),
    Socket(SocketCall),
    /// Until a file is ready, as poll(2) has it: the result is what of `events` there is, errors
    /// and hang-ups too.
    Poll {
        fd: c_int,
        events: i16,
    },
    /// Until a signal is pending that `fd`, a signalfd(2), is about: one for the calling thread
    /// alone, too, which nobody but that thread itself is told of.
    AwaitSignal {
        fd: c_int,
    },
    Fsync {
        fd: c_int,
        data_only: bool,
    },
    Open {
        dir: c_int,
        path: *const c_char,
        flags: c_int,
        mode: u32,
    },
    Close {
        fd: c_int,
    },
    /// Any code, on a thread of the pool; the result is 0, for the code itself leaves what it has
    /// to say.
    Run(Run),
    /// Any system call that the kernel may be interrupted in, on a thread of the pool.
    Kernel(KernelCall),
    /// futex(2)'s wait, by an engine that has them ([`super::Engine::has_futexes`]): in the
    /// kernel's queue before anybody else runs. `flags` are those of futex2(2).
    Futex {
        address: usize,
        value: u32,
        mask: u32,
        flags: u32,
    },
    /// futex_waitv(2) of the `n` futexes at an address, likewise.
    Futexes {
        futexes: usize,
        n: u32,
    },
    /// No operation: until the deadline, or until somebody lands the token. `claim` decides between
    /// the two where other threads may land it: whoever sets it first ends the wait. Null where
    /// nobody else does.
    Wait {
        claim: *const AtomicBool,
    },
}

/// Code for a thread of the pool, and its argument, on the stack of the fiber that waits for it.
#[derive(Clone, Copy)]
pub struct Run {
    pub code: unsafe fn(*mut c_void),
    pub data: *mut c_void,
    pub names: Names,
    pub lane: Lane,
}

/// Which threads of the pool carry a request out, by what ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A disk: it takes a while, and needs nobody's help.
    Disk,
    /// A peer, which may never come, and may itself need a thread of the pool.
    Peers,
}

/// Which files the code names by numbers, at most two: those must not be closed, and come to name
/// other files, before.
#[derive(Clone, Copy)]
pub enum Names {
    Nothing,
    /// Descriptors, or AT_FDCWD, until the code is done: a disk ends it.
    UntilDone([c_int; 2]),
    /// A descriptor, until the code begins: it may wait for ever, and has its file then, as a
    /// thread in the same call has.
    UntilBegun(c_int),
}

impl Names {
    /// One file until the code is done.
    pub fn until_done(file: c_int) -> Self {
        Self::UntilDone([file, NO_FILE])
    }

    /// The numbers.
    pub fn files(self) -> impl Iterator<Item = c_int> {
        let files = match self {
            Self::Nothing => [NO_FILE; 2],
            Self::UntilDone(files) => files,
            Self::UntilBegun(file) => [file, NO_FILE],
        };
        files.into_iter().filter(|&file| file != NO_FILE)
    }
}

/// In the place of a descriptor, where there is none.
pub const NO_FILE: c_int = -1;

/// A system call by its number. Made anew when it was interrupted for nobody: so a time it waits
/// for must be absolute.
#[derive(Clone, Copy)]
pub struct KernelCall {
    pub number: Sysno,
    pub arguments: [usize; 6],
    pub names: Names,
    /// Whether nobody has tried it in a form that does not wait. Then it is begun even if it is
    /// interrupted before that: what it waits for may have come first.
    pub is_first_try: bool,
}

impl Request {
    /// The descriptor it is about; None for a path.
    #[inline(always)]
    pub fn fd(&self) -> Option<c_int> {
        match *self {
            Self::Transfer(Transfer { fd, .. })
            | Self::Plain(Transfer { fd, .. })
            | Self::Socket(SocketCall { fd, .. })
            | Self::Poll { fd, .. }
            | Self::Fsync { fd, .. }
            | Self::AwaitSignal { fd }
            | Self::Close { fd } => Some(fd),
            Self::Open { .. }
            | Self::Run(_)
            | Self::Kernel(_)
            | Self::Futex { .. }
            | Self::Futexes { .. }
            | Self::Wait { .. } => None,
        }
    }

    /// Whether the kernel would end it for a signal: it does not where a disk is waited for.
    pub fn is_interruptible(&self) -> bool {
        match self {
            Self::Transfer(transfer) | Self::Plain(transfer) => transfer.at_position(),
            Self::Fsync { .. } | Self::Close { .. } | Self::Run(_) => false,
            Self::Socket(_)
            | Self::Poll { .. }
            | Self::AwaitSignal { .. }
            | Self::Open { .. }
            | Self::Kernel(_)
            | Self::Futex { .. }
            | Self::Futexes { .. }
            | Self::Wait { .. } => true,
        }
    }

    /// Whom it waits for where a thread of the pool makes the call.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Transfer(transfer) if !transfer.at_position() => Lane::Disk,
            Self::Fsync { .. } | Self::Open { .. } | Self::Close { .. } => Lane::Disk,
            Self::Run(run) => run.lane,
            Self::Transfer(_)
            | Self::Plain(_)
            | Self::Socket(_)
            | Self::Poll { .. }
            | Self::AwaitSignal { .. }
            | Self::Kernel(_)
            | Self::Futex { .. }
            | Self::Futexes { .. }
            | Self::Wait { .. } => Lane::Peers,
        }
    }

    /// What its file must be ready for, if it is one that can be tried then.
    pub fn way(&self) -> Option<Way> {
        match self {
            Self::Transfer(transfer) => Some(transfer.way),
            Self::Socket(call) => Some(call.action.way()),
            _ => None,
        }
    }

    /// The same on another descriptor of its file.
    pub fn on(self, fd: c_int) -> Self {
        match self {
            Self::Transfer(transfer) => Self::Transfer(Transfer { fd, ..transfer }),
            Self::Socket(call) => Self::Socket(SocketCall { fd, ..call }),
            other => other,
        }
    }
}

/// A read or a write.
#[derive(Clone, Copy)]
pub struct Transfer {
    pub way: Way,
    pub fd: c_int,
    pub data: Data,
    /// [`AT_POSITION`] is the current position, and the only one for streams; else it is not
    /// negative.
    pub offset: i64,
    /// Of preadv2(2) and pwritev2(2).
    pub flags: c_int,
    /// The descriptor was opened with O_DIRECT, as far as is known: a hint.
    pub direct: bool,
    /// It is known to miss the page cache, or was lately seen to.
    pub cold: bool,
}

impl Transfer {
    pub fn at_position(&self) -> bool {
        self.offset == AT_POSITION
    }

    /// Bytes asked for, if it is of one buffer.
    #[inline(always)]
    pub fn buffer_len(&self) -> Option<usize> {
        match self.data {
            Data::Buffer(_, n) => Some(n as usize),
            Data::Vector(..) => None,
        }
    }

    /// Bytes asked for. Of a vector only to be asked once the kernel has transferred some of it:
    /// before, reading the vector here could fault where the kernel says EFAULT.
    pub fn len(&self) -> usize {
        match self.data {
            Data::Buffer(_, n) => n as usize,
            Data::Vector(iov, n) => {
                // SAFETY: the kernel has just read this vector, of n entries (see above).
                let parts = unsafe { std::slice::from_raw_parts(iov, n as usize) };
                parts
                    .iter()
                    .map(|part| part.iov_len)
                    .sum::<usize>()
                    .min(MAX_COUNT)
            }
        }
    }

    /// What is left after the first `done` bytes, which the kernel has transferred. `storage` holds
    /// the shorter vector; it must outlive the result.
    pub fn after(&self, done: usize, storage: &mut Vec<libc::iovec>) -> Self {
        let data = match self.data {
            // SAFETY: `done` is within the buffer: the kernel has transferred so many bytes of it.
            Data::Buffer(p, n) => Data::Buffer(unsafe { p.add(done) }, n - done as u32),
            Data::Vector(iov, n) => {
                let mut left = self.len() - done;
                // SAFETY: the kernel has read this vector, of n entries, to transfer those bytes.
                let parts = unsafe { std::slice::from_raw_parts(iov, n as usize) };
                storage.clear();
                let mut skip = done;
                for part in parts {
                    let skipped = skip.min(part.iov_len);
                    skip -= skipped;
                    let iov_len = left.min(part.iov_len - skipped);
                    left -= iov_len;
                    if iov_len > 0 {
                        // SAFETY: within the part.
                        let iov_base = unsafe { part.iov_base.cast::<u8>().add(skipped) }.cast();
                        storage.push(libc::iovec { iov_base, iov_len });
                    }
                }
                Data::Vector(storage.as_ptr(), storage.len() as u32)
            }
        };
        let offset = if self.at_position() {
            AT_POSITION
        } else {
            self.offset + done as i64
        };
        Self {
            data,
            offset,
            ..*self
        }
    }
}

impl From<Transfer> for Request {
    fn from(transfer: Transfer) -> Self {
        Self::Transfer(transfer)
    }
}

/// The memory of a transfer: at most 0x7ffff000 bytes in one piece, or a vector.
#[derive(Clone, Copy)]
pub enum Data {
    Buffer(*mut u8, u32),
    Vector(*const libc::iovec, u32),
}

impl Way {
    /// The event of poll(2) that says a file is ready for it.
    pub fn event(self) -> i16 {
        match self {
            Self::Read => libc::POLLIN,
            Self::Write => libc::POLLOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a transfer puts its bytes in the file, and the memory that it takes them from.
    fn bytes(transfer: &Transfer) -> Vec<(i64, usize)> {
        let memory: Vec<usize> = match transfer.data {
            Data::Buffer(p, n) => (p.addr()..p.addr() + n as usize).collect(),
            Data::Vector(iov, n) => {
                // SAFETY: the vector of the test, which is alive.
                let parts = unsafe { std::slice::from_raw_parts(iov, n as usize) };
                let range =
                    |part: &libc::iovec| part.iov_base.addr()..part.iov_base.addr() + part.iov_len;
                parts.iter().flat_map(range).collect()
            }
        };
        (transfer.offset..).zip(memory).collect()
    }

    #[test]
    fn the_rest_of_a_transfer_is_the_transfer_without_what_is_done() {
        let mut memory = [0u8; 64];
        let base = memory.as_mut_ptr();
        let part = |from: usize, iov_len| libc::iovec {
            // SAFETY: inside `memory`.
            iov_base: unsafe { base.add(from) }.cast(),
            iov_len,
        };
        let vector = [part(40, 5), part(0, 0), part(8, 1), part(20, 7)];
        for data in [Data::Buffer(base, 13), Data::Vector(vector.as_ptr(), 4)] {
            let whole = Transfer {
                way: Way::Write,
                fd: -1,
                data,
                offset: 1000,
                flags: 0,
                direct: false,
                cold: false,
            };
            for done in 0..13 {
                let mut storage = Vec::new();
                assert_eq!(
                    bytes(&whole.after(done, &mut storage)),
                    bytes(&whole)[done..]
                );
            }
        }
    }
}
