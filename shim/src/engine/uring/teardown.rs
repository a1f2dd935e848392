//! Waits until the kernel has freed a ring.
//!
//! The kernel frees a ring some time after its descriptor is closed (10 to 40 ms), in a thread of
//! its own. As part of that it interrupts the thread that submitted to the ring, although no signal
//! arrives. A nanosleep(2) then continues as restart_syscall(2), which a seccomp filter may punish
//! by ending the process, and an epoll_wait(2) returns EINTR. Only then has every operation ended,
//! also those whose completions cannot be reaped any more.
//!
//! A freed ring releases the files of its table. So a pipe's only writer is put there: its reader
//! sees the end of the file when the ring is gone.

use super::files;
use crate::state::descriptors;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::c_int;
use std::os::fd::IntoRawFd;

/// How long to wait. The ring lives longer if the program has duplicated its descriptor, or if a
/// child of fork lives: it has the ring's memory mapped, and the io-uring crate does not say where.
const LIMIT_NS: u64 = 200_000_000;

/// The end of a ring that is about to be closed.
pub struct Teardown {
    /// The reader of the pipe; None if the kernel refused it, or if there is no file table.
    reader: Option<c_int>,
}

impl Teardown {
    /// Call before `ring` is closed, when no operation uses the slot of the hot file any more.
    pub fn of(ring: c_int) -> Self {
        Self {
            reader: put_writer_into(ring),
        }
    }

    /// Call after the ring was closed, without a lock. Blocks the calling thread until the ring is
    /// freed, or for `otherwise` nanoseconds if that cannot be observed.
    pub fn wait(self, otherwise: u64) {
        match self.reader {
            Some(reader) => {
                sys::wait_for_end(reader, LIMIT_NS);
                close(reader);
            }
            None if otherwise > 0 => sys::pause(otherwise),
            None => {}
        }
    }
}

/// Puts the only writer of a new pipe into the file table of `ring`. Returns the reader.
fn put_writer_into(ring: c_int) -> Option<c_int> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    let reader = descriptors::adopt(reader.into_raw_fd());
    let writer = descriptors::adopt(writer.into_raw_fd());
    let put = writer.and_then(|writer| {
        let put = sys::io_uring_update_file(ring, files::HOT, writer);
        close(writer);
        put
    });
    if put.is_err()
        && let Ok(reader) = reader
    {
        close(reader);
    }
    put.and(reader).ok()
}

fn close(fd: c_int) {
    descriptors::disown(fd);
    let _ = sys::close(fd);
}
