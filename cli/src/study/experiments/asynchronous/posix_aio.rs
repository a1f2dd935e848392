//! POSIX AIO of the C library: lio_listio(3) and aio_suspend(3). glibc does it with threads.

use std::io;
use std::os::fd::RawFd;

use anyhow::{Context, Result};

use super::mechanism::{Mechanism, Request, Slots, check};

/// Reads by the C library.
pub struct PosixAio {
    fd: RawFd,
    slots: Slots,
    /// The operations under way.
    #[expect(clippy::vec_box, reason = "the C library keeps pointers to them")]
    blocks: Vec<Box<libc::aiocb>>,
}

impl PosixAio {
    pub fn new(fd: RawFd, slots: Slots) -> PosixAio {
        PosixAio {
            fd,
            slots,
            blocks: Vec::new(),
        }
    }
}

impl Mechanism for PosixAio {
    fn submit(&mut self, requests: &[Request]) -> Result<()> {
        for request in requests {
            // SAFETY: all zeros is a valid aiocb, as its manual page says.
            let mut block: Box<libc::aiocb> = Box::new(unsafe { std::mem::zeroed() });
            block.aio_fildes = self.fd;
            block.aio_lio_opcode = libc::LIO_READ;
            block.aio_buf = self.slots.address(request.slot).cast();
            block.aio_nbytes = request.size;
            block.aio_offset = request.offset.cast_signed();
            block.aio_sigevent.sigev_notify = libc::SIGEV_NONE;
            self.blocks.push(block);
        }
        let first = self.blocks.len() - requests.len();
        let mut list: Vec<*mut libc::aiocb> = self.blocks[first..]
            .iter_mut()
            .map(|block| &raw mut **block)
            .collect();
        let many = i32::try_from(list.len())?;
        // SAFETY: each block lives in a box of its own until `wait` or `drop` has seen its end, and
        // so do the slots that it names.
        let result = unsafe {
            libc::lio_listio(
                libc::LIO_NOWAIT,
                list.as_mut_ptr(),
                many,
                std::ptr::null_mut(),
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).context("lio_listio"),
        }
    }

    fn wait(&mut self, count: usize) -> Result<()> {
        let count = count.min(self.blocks.len());
        let mut result = Ok(());
        for mut block in self.blocks.drain(..count) {
            // The others must be waited for, whatever became of this one.
            result = result.and(finish(&mut block));
        }
        result
    }
}

/// Waits until the operation is done, and checks its result.
fn finish(block: &mut libc::aiocb) -> Result<()> {
    let pointer: *mut libc::aiocb = block;
    let list = [pointer.cast_const()];
    // SAFETY: the block belongs to an operation that was submitted and not yet finished.
    while unsafe { libc::aio_error(pointer) } == libc::EINPROGRESS {
        // SAFETY: the list has one valid block. An error only means that a signal came.
        unsafe { libc::aio_suspend(list.as_ptr(), 1, std::ptr::null()) };
    }
    // SAFETY: the operation is done, and its result was not asked for before.
    let (error, result) = unsafe { (libc::aio_error(pointer), libc::aio_return(pointer)) };
    match error {
        0 => check(result as i64, block.aio_nbytes),
        error => Err(io::Error::from_raw_os_error(error).into()),
    }
}

impl Drop for PosixAio {
    /// Waits for reads under way, because the C library writes to their memory.
    fn drop(&mut self) {
        for mut block in self.blocks.drain(..) {
            // The result of this read is not needed any more.
            let _ = finish(&mut block);
        }
    }
}
