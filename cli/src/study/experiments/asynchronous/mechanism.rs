//! What every mechanism of asynchronous I/O does: it takes reads and reports that they are done.

use std::io;
use std::os::fd::RawFd;

use anyhow::{Result, ensure};

use crate::study::experiments::buffer::Buffer;

/// One read of `size` bytes at `offset` into the memory of its slot.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub slot: usize,
    pub offset: u64,
    pub size: usize,
}

/// A way to do several reads at once. The memory belongs to the mechanism as long as it has reads
/// under way.
pub trait Mechanism {
    /// Starts `requests`, in one system call if the kernel has one for that.
    fn submit(&mut self, requests: &[Request]) -> Result<()>;

    /// Waits until `count` reads are done.
    fn wait(&mut self, count: usize) -> Result<()>;
}

/// The memory for reads: a slot of `size` bytes for each of `slots` reads at once.
pub struct Slots {
    buffer: Buffer,
    size: usize,
    slots: usize,
}

impl Slots {
    pub fn new(slots: usize, size: usize) -> Slots {
        Slots {
            buffer: Buffer::new(slots * size),
            size,
            slots,
        }
    }

    /// The address of slot `slot`.
    pub fn address(&mut self, slot: usize) -> *mut u8 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        self.buffer.address(slot * self.size)
    }

    /// All slots, as `readv` and io_uring describe memory.
    pub fn vectors(&mut self) -> Vec<libc::iovec> {
        (0..self.slots)
            .map(|slot| libc::iovec {
                iov_base: self.address(slot).cast(),
                iov_len: self.size,
            })
            .collect()
    }
}

/// Blocking reads, one after the other: what the mechanisms are compared with.
pub struct Blocking {
    pub fd: RawFd,
    pub slots: Slots,
}

impl Mechanism for Blocking {
    fn submit(&mut self, requests: &[Request]) -> Result<()> {
        for request in requests {
            let address = self.slots.address(request.slot);
            pread(self.fd, address, request)?;
        }
        Ok(())
    }

    fn wait(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// Reads into the memory at `address`, which is as large as the request's slot.
pub fn pread(fd: RawFd, address: *mut u8, request: &Request) -> Result<()> {
    let offset = i64::try_from(request.offset)?;
    // SAFETY: the address is that of a slot of at least `size` bytes, which nobody else accesses
    // until this call returns.
    let result = unsafe { libc::pread(fd, address.cast(), request.size, offset) };
    if result < 0 {
        return Err(io::Error::last_os_error().into());
    }
    check(result as i64, request.size)
}

/// Checks the result that a kernel interface reports: the number of bytes or a negative errno.
pub fn check(result: i64, size: usize) -> Result<()> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-result)?).into());
    }
    ensure!(
        result == i64::try_from(size)?,
        "read {result} of {size} bytes"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn results_are_bytes_or_errors() {
        assert!(check(4096, 4096).is_ok());
        assert!(check(100, 4096).is_err());
        let error = check(-i64::from(libc::EIO), 4096).expect_err("an error");
        assert!(error.to_string().contains("Input/output"));
    }
}
