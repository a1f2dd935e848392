//! A request for an engine: one operation, in the kernel's terms.
//!
//! The memory that a request refers to belongs to the kernel until the completion is reaped. The
//! parked fiber that submitted it keeps the memory in place (operation.rs). Therefore a request is
//! only made from the arguments of a libc call that has not returned.

use super::socket::SocketCall;
pub use policy::Direction;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::AtomicBool;
use sys::AT_POSITION;
use syscalls::Sysno;

/// The most that the kernel transfers in one call (MAX_RW_COUNT). It truncates longer transfers,
/// after checks that differ from io_uring's.
pub const MAX_COUNT: usize = 0x7fff_f000;

#[derive(Clone, Copy)]
pub enum Request {
    Transfer(Transfer),
    /// The plain blocking call. Used when no engine can do a transfer without blocking.
    Plain(Transfer),
    Socket(SocketCall),
    /// Waits until a file is ready, like poll(2). The result is the ready subset of `events`, plus
    /// errors and hang-ups.
    Poll {
        fd: c_int,
        events: i16,
    },
    /// Waits until a signal of the signalfd(2) `fd` is pending. The signal may be directed at the
    /// calling thread alone, in which case only that thread can see it.
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
    /// Arbitrary code, run on a pool thread. The result is always 0: the code stores its own
    /// result.
    Run(Run),
    /// An interruptible system call, made on a pool thread.
    Kernel(KernelCall),
    /// The wait operation of futex(2). The engine must support it ([`super::Engine::has_futexes`]).
    /// The kernel queues the waiter before any other fiber runs. `flags` are those of futex2(2).
    Futex {
        address: usize,
        value: u32,
        mask: u32,
        flags: u32,
    },
    /// futex_waitv(2) on the `n` futexes at an address. The engine must support futexes.
    Futexes {
        futexes: usize,
        n: u32,
    },
    /// No operation: waits until the deadline or until the token is woken. If other threads may
    /// wake it, `claim` decides the race between the two: the first to set it ends the wait. Null
    /// if no other thread wakes it.
    Wait {
        claim: *const AtomicBool,
    },
}

/// Code for a pool thread, and its argument, which lies on the stack of the waiting fiber.
#[derive(Clone, Copy)]
pub struct Run {
    pub code: unsafe fn(*mut c_void),
    pub data: *mut c_void,
    pub pin: FdPin,
    pub lane: Lane,
}

/// Which threads of the pool carry out a request, chosen by what the request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Waits for a disk, and completes after a while without anyone's help.
    Disk,
    /// Waits for a peer, which may never respond and may itself need a pool thread.
    Peers,
}

/// The files that the code refers to by descriptor number, two at most. The numbers must stay valid
/// for the time given.
#[derive(Clone, Copy)]
pub enum FdPin {
    None,
    /// Descriptors, or AT_FDCWD, that are pinned until the code is done. The code waits for a disk
    /// only.
    UntilDone([c_int; 2]),
    /// A descriptor that is pinned until the code starts. The code may block without limit. By then
    /// it holds the file, as any thread blocked in the same call does.
    UntilStarted(c_int),
}

impl FdPin {
    /// Pins one file until the code is done.
    pub fn until_done(file: c_int) -> Self {
        Self::UntilDone([file, NO_FILE])
    }

    /// The descriptor numbers.
    pub fn files(self) -> impl Iterator<Item = c_int> {
        let files = match self {
            Self::None => [NO_FILE; 2],
            Self::UntilDone(files) => files,
            Self::UntilStarted(file) => [file, NO_FILE],
        };
        files.into_iter().filter(|&file| file != NO_FILE)
    }
}

/// Stands for "no descriptor".
pub const NO_FILE: c_int = -1;

/// A system call by number. It is restarted after an interruption that concerns no fiber, so a
/// timeout among the arguments must be absolute.
#[derive(Clone, Copy)]
pub struct KernelCall {
    pub number: Sysno,
    pub arguments: [usize; 6],
    pub pin: FdPin,
    /// Whether no non-blocking attempt was made before. If so, the call is started even if the
    /// fiber was already interrupted, because the event that it waits for may have come first.
    pub is_first_try: bool,
}

impl Request {
    /// The descriptor that the request works on; None if it has a path, or no file.
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

    /// Whether a signal would interrupt the request in the kernel. Waits for a disk are not
    /// interruptible.
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

    /// The lane of the thread pool that the request belongs to.
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

    /// The direction in which the file must be ready, if the request can be attempted without
    /// blocking.
    pub fn direction(&self) -> Option<Direction> {
        match self {
            Self::Transfer(transfer) => Some(transfer.direction),
            Self::Socket(call) => Some(call.action.direction()),
            _ => None,
        }
    }

    /// The same request on another descriptor of the same file.
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
    pub direction: Direction,
    pub fd: c_int,
    pub data: Data,
    /// [`AT_POSITION`] is the current file position, and the only value allowed for streams. Any
    /// other offset is not negative.
    pub offset: i64,
    /// The flags of preadv2(2) and pwritev2(2).
    pub flags: c_int,
    /// Whether the descriptor was opened with O_DIRECT, as far as the shim knows: a hint.
    pub direct: bool,
    /// Whether the transfer is expected to miss the page cache, or recently did.
    pub cold: bool,
}

impl Transfer {
    pub fn at_position(&self) -> bool {
        self.offset == AT_POSITION
    }

    /// The number of bytes requested, if the transfer uses a single buffer.
    #[inline(always)]
    pub fn buffer_len(&self) -> Option<usize> {
        match self.data {
            Data::Buffer(_, n) => Some(n as usize),
            Data::Vector(..) => None,
        }
    }

    /// The number of bytes requested. For a vector, call this only after the kernel has transferred
    /// some of it: before that, reading the vector here could fault where the kernel returns
    /// EFAULT.
    pub fn len(&self) -> usize {
        match self.data {
            Data::Buffer(_, n) => n as usize,
            Data::Vector(iov, n) => {
                // SAFETY: the kernel has just read this vector of n entries, as the contract above
                // demands.
                let parts = unsafe { std::slice::from_raw_parts(iov, n as usize) };
                parts
                    .iter()
                    .map(|part| part.iov_len)
                    .sum::<usize>()
                    .min(MAX_COUNT)
            }
        }
    }

    /// The rest of the transfer after the kernel has transferred the first `done` bytes. `storage`
    /// holds the shortened vector and must outlive the result.
    pub fn after(&self, done: usize, storage: &mut Vec<libc::iovec>) -> Self {
        let data = match self.data {
            // SAFETY: the kernel has transferred `done` bytes of the buffer, so the offset lies
            // within it.
            Data::Buffer(p, n) => Data::Buffer(unsafe { p.add(done) }, n - done as u32),
            Data::Vector(iov, n) => {
                let mut left = self.len() - done;
                // SAFETY: the kernel has read this vector of n entries to transfer those bytes.
                let parts = unsafe { std::slice::from_raw_parts(iov, n as usize) };
                storage.clear();
                let mut skip = done;
                for part in parts {
                    let skipped = skip.min(part.iov_len);
                    skip -= skipped;
                    let iov_len = left.min(part.iov_len - skipped);
                    left -= iov_len;
                    if iov_len > 0 {
                        // SAFETY: `skipped` is at most the length of the part.
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

/// The memory of a transfer: one buffer of at most 0x7ffff000 bytes, or a vector.
#[derive(Clone, Copy)]
pub enum Data {
    Buffer(*mut u8, u32),
    Vector(*const libc::iovec, u32),
}

/// The poll(2) event that says that a file is ready in this direction.
pub fn event(direction: Direction) -> i16 {
    match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file offset and the memory address of each byte of a transfer.
    fn bytes(transfer: &Transfer) -> Vec<(i64, usize)> {
        let memory: Vec<usize> = match transfer.data {
            Data::Buffer(p, n) => (p.addr()..p.addr() + n as usize).collect(),
            Data::Vector(iov, n) => {
                // SAFETY: the test's own vector, which is alive.
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
            // SAFETY: the offset lies inside `memory`.
            iov_base: unsafe { base.add(from) }.cast(),
            iov_len,
        };
        let vector = [part(40, 5), part(0, 0), part(8, 1), part(20, 7)];
        for data in [Data::Buffer(base, 13), Data::Vector(vector.as_ptr(), 4)] {
            let whole = Transfer {
                direction: Direction::Write,
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
