//! Linux AIO: io_setup(2), io_submit(2) and io_getevents(2).

use std::io;
use std::os::fd::RawFd;

use anyhow::{Context, Result};

use super::mechanism::{Mechanism, Request, Slots, check};

/// `struct iocb` of <linux/aio_abi.h>, on a little-endian machine.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Block {
    data: u64,
    key: u32,
    flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    eventfd: u32,
}

/// `IOCB_CMD_PREAD` and `IOCB_CMD_POLL`.
const READ: u16 = 0;
const POLL: u16 = 5;

/// `struct io_event`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Event {
    data: u64,
    block: u64,
    result: i64,
    more: i64,
}

/// The kernel's queue of operations.
pub struct Queue {
    id: libc::c_ulong,
    events: Vec<Event>,
}

impl Queue {
    /// A queue for `depth` operations at once.
    pub fn new(depth: usize) -> io::Result<Queue> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: the kernel writes the number of the queue to the local variable.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, depth as i64, &raw mut id) };
        match result {
            0 => Ok(Queue {
                id,
                events: vec![Event::default(); depth],
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until `fd` is readable, which completes with the poll events as the result.
    pub fn submit_poll(&mut self, fd: RawFd) -> Result<()> {
        let block = Block {
            opcode: POLL,
            fd: fd.cast_unsigned(),
            buffer: libc::POLLIN as u64,
            ..Block::default()
        };
        self.submit(&[block])
    }

    /// Waits for a completion and returns its result.
    pub fn wait_one(&mut self) -> Result<i64> {
        self.take(1)?;
        Ok(self.events[0].result)
    }

    /// The memory that the blocks name must stay until they complete.
    fn submit(&mut self, blocks: &[Block]) -> Result<()> {
        let mut pointers: Vec<*const Block> = blocks.iter().map(|b| &raw const *b).collect();
        while !pointers.is_empty() {
            // SAFETY: the kernel copies the blocks during the call. The memory that they name
            // outlives the operations: `LinuxAio` waits for all of them before it drops its slots.
            let taken = unsafe {
                let many = pointers.len() as i64;
                libc::syscall(libc::SYS_io_submit, self.id, many, pointers.as_ptr())
            };
            if taken <= 0 {
                return Err(io::Error::last_os_error()).context("io_submit");
            }
            pointers.drain(..taken as usize);
        }
        Ok(())
    }

    /// Waits for at least one and at most `most` completions, and returns how many came.
    fn take(&mut self, most: usize) -> Result<usize> {
        let most = most.min(self.events.len());
        loop {
            // SAFETY: the kernel writes at most `most` events to memory that holds so many.
            let taken = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.id,
                    1_i64,
                    most as i64,
                    self.events.as_mut_ptr(),
                    std::ptr::null_mut::<libc::timespec>(),
                )
            };
            let error = io::Error::last_os_error();
            match taken {
                1.. => return Ok(taken as usize),
                // A ring that is being closed interrupts the thread's system calls, too.
                _ if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return Err(error).context("io_getevents"),
            }
        }
    }
}

impl Drop for Queue {
    /// Waits for all operations.
    fn drop(&mut self) {
        // SAFETY: the queue is this one's, and nobody uses it any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// Reads through a queue. The queue is dropped first, which waits for reads under way.
pub struct LinuxAio {
    queue: Queue,
    fd: RawFd,
    slots: Slots,
}

impl LinuxAio {
    pub fn new(fd: RawFd, slots: Slots, depth: usize) -> Result<LinuxAio> {
        let queue = Queue::new(depth).context("io_setup")?;
        Ok(LinuxAio { queue, fd, slots })
    }
}

impl Mechanism for LinuxAio {
    fn submit(&mut self, requests: &[Request]) -> Result<()> {
        let blocks: Vec<Block> = requests
            .iter()
            .map(|request| Block {
                opcode: READ,
                data: request.size as u64,
                fd: self.fd.cast_unsigned(),
                buffer: self.slots.address(request.slot).expose_provenance() as u64,
                bytes: request.size as u64,
                offset: request.offset.cast_signed(),
                ..Block::default()
            })
            .collect();
        self.queue.submit(&blocks)
    }

    fn wait(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let taken = self.queue.take(left)?;
            for event in &self.queue.events[..taken] {
                check(event.result, event.data as usize)?;
            }
            left -= taken;
        }
        Ok(())
    }
}
