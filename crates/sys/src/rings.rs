//! The system calls on the rings that carry operations to the kernel and back: those of io_uring(7)
//! and of AIO, io_submit(2).

use super::outcome;
use crate::errno::Errno;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use syscalls::{Sysno, raw};

/// The mmap(2) offsets of a ring's queue and of its entries.
pub const IORING_OFF_SQ_RING: u64 = 0;
pub const IORING_OFF_SQES: u64 = 0x1000_0000;

/// Maps `size` bytes of a ring's memory again. Returns the address, for [`unmap`].
pub fn map_ring(ring: c_int, offset: u64, size: usize) -> Result<usize, Errno> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    // SAFETY: the descriptor is borrowed for this call only, and the ring is open.
    let ring = unsafe { BorrowedFd::borrow_raw(ring) };
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping overlaps nothing.
    let base = unsafe {
        mmap(
            std::ptr::null_mut(),
            size,
            protection,
            MapFlags::SHARED,
            ring,
            offset,
        )
    };
    base.map(<*mut c_void>::expose_provenance)
        .map_err(|error| Errno(error.raw_os_error()))
}

/// Removes a mapping made by [`map_ring`] that is no longer in use.
pub fn unmap(address: usize, size: usize) {
    // SAFETY: the mapping belongs to the caller, and this is its last use.
    let _ = unsafe { rustix::mm::munmap(std::ptr::with_exposed_provenance_mut(address), size) };
}

/// io_uring_enter(2) without an argument. Returns how many entries were submitted.
///
/// # Safety
/// The memory that the queued entries refer to must stay in place until their completions.
pub unsafe fn io_uring_enter(
    ring: c_int,
    submit: u32,
    want: u32,
    flags: u32,
) -> Result<usize, Errno> {
    let (call, ring, submit) = (
        Sysno::io_uring_enter as usize,
        ring as usize,
        submit as usize,
    );
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe { raw::syscall6(call, ring, submit, want as usize, flags as usize, 0, 0) })
}

/// io_uring_register(2) IORING_REGISTER_FILES_UPDATE: puts the open file of `fd` into `slot` of the
/// ring's file table; -1 empties the slot.
pub fn io_uring_update_file(ring: c_int, slot: u32, fd: c_int) -> Result<(), Errno> {
    #[repr(C)]
    struct FilesUpdate {
        offset: u32,
        reserved: u32,
        files: u64,
    }
    const IORING_REGISTER_FILES_UPDATE: usize = 6;
    let update = FilesUpdate {
        offset: slot,
        reserved: 0,
        files: (&raw const fd).addr() as u64,
    };
    let (call, update) = (
        Sysno::io_uring_register as usize,
        (&raw const update) as usize,
    );
    // SAFETY: the kernel reads the update and the one descriptor that it points to; both are alive
    // during the call.
    outcome(unsafe {
        raw::syscall4(call, ring as usize, IORING_REGISTER_FILES_UPDATE, update, 1)
    })?;
    Ok(())
}

/// io_setup(2): returns the id of a new AIO context, which is the address of its ring.
pub fn io_setup(operations: u32) -> Result<usize, Errno> {
    let mut id = 0_usize;
    // SAFETY: the kernel writes one word, which is alive during the call.
    outcome(unsafe {
        raw::syscall2(
            Sysno::io_setup as usize,
            operations as usize,
            &raw mut id as usize,
        )
    })?;
    Ok(id)
}

/// io_submit(2).
///
/// # Safety
/// `operations` points to `n` pointers to `struct iocb`. The memory that these name must stay in
/// place until their completions.
pub unsafe fn io_submit(
    context: usize,
    n: usize,
    operations: *const c_void,
) -> Result<usize, Errno> {
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe { raw::syscall3(Sysno::io_submit as usize, context, n, operations as usize) })
}

/// io_getevents(2).
///
/// # Safety
/// `events` has room for `most` values of `struct io_event`.
pub unsafe fn io_getevents(
    context: usize,
    least: usize,
    most: usize,
    events: *mut c_void,
    timeout: Option<&libc::timespec>,
) -> Result<usize, Errno> {
    let timeout = timeout.map_or(0, |timeout| std::ptr::from_ref(timeout) as usize);
    let call = Sysno::io_getevents as usize;
    // SAFETY: `timeout` is alive; our caller guarantees the rest.
    outcome(unsafe { raw::syscall5(call, context, least, most, events as usize, timeout) })
}

/// io_destroy(2): waits for operations that cannot be cancelled at once.
pub fn io_destroy(context: usize) {
    // SAFETY: nothing in the process refers to the context's ring any more.
    unsafe { raw::syscall1(Sysno::io_destroy as usize, context) };
}
