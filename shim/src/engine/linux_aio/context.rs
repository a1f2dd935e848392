//! An AIO context: io_setup(2), io_submit(2), io_getevents(2), and the completion ring that the
//! kernel maps.
//!
//! libc has no wrappers for these calls; their structures are defined in <linux/aio_abi.h>.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};
use sys::errno::Errno;

pub const PREAD: u16 = 0;
pub const PWRITE: u16 = 1;
pub const FSYNC: u16 = 2;
pub const FDSYNC: u16 = 3;
pub const PREADV: u16 = 7;
pub const PWRITEV: u16 = 8;

/// `struct iocb`: one operation. The kernel copies it when it is submitted.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Iocb {
    /// Returned in the event.
    pub data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    /// The flags of preadv2(2).
    pub rw_flags: u32,
    #[cfg(target_endian = "big")]
    key: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    /// The address of a buffer or a vector, or the events of a poll.
    pub data_at: u64,
    pub length: u64,
    pub offset: i64,
    reserved: u64,
    flags: u32,
    /// The eventfd that counts the completion, if [`RESULT_FD`] is set.
    result_fd: u32,
}
const _: () = assert!(size_of::<Iocb>() == 64);

/// IOCB_FLAG_RESFD
const RESULT_FD: u32 = 1;

impl Iocb {
    /// Makes an operation whose completion is counted in `eventfd`.
    pub fn new(opcode: u16, fd: c_int, data: u64, eventfd: c_int) -> Self {
        Self {
            data,
            opcode,
            fd: fd as u32,
            flags: RESULT_FD,
            result_fd: eventfd as u32,
            ..Self::default()
        }
    }
}

/// `struct io_event`: one completion.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Event {
    pub data: u64,
    iocb: u64,
    pub result: i64,
    result2: i64,
}
const _: () = assert!(size_of::<Event>() == 32);

/// `struct aio_ring`, which lies at the address that is the context's id, followed by the events.
/// No header defines it, but it has not changed since 2.6, it has a magic number, and other
/// software (fio) reads it too.
#[repr(C)]
struct Ring {
    id: u32,
    length: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compatible: u32,
    incompatible: u32,
    header_length: u32,
}
const MAGIC: u32 = 0xa10a_10a1;

/// The most events taken by one system call.
const EVENTS_PER_CALL: usize = 128;

/// Checks that the kernel has these calls and that no seccomp filter refuses them. The calls name
/// no context, so they fail with EINVAL and have no effect. Creating a real context would delay the
/// end of the process.
pub fn probe() -> Result<(), Errno> {
    // SAFETY: the calls get no operations and no room for events, so they access no memory.
    let (submitted, taken) = unsafe {
        let nothing = std::ptr::null_mut();
        (
            sys::io_submit(0, 0, nothing),
            sys::io_getevents(0, 0, 0, nothing, None),
        )
    };
    for refused in [sys::io_setup(0).err(), submitted.err(), taken.err()]
        .into_iter()
        .flatten()
    {
        if refused != Errno::INVAL {
            return Err(refused);
        }
    }
    Ok(())
}

pub struct Context {
    id: usize,
    /// The most operations at a time.
    capacity: usize,
    /// Whether completions can be taken off the ring without a system call.
    readable: bool,
}

impl Context {
    /// Creates a context for at least `operations` at a time. EAGAIN if the system-wide limit
    /// (fs.aio-max-nr) is reached.
    pub fn new(operations: u32) -> Result<Self, Errno> {
        let id = sys::io_setup(operations)?;
        // SAFETY: the id is the address of the ring, which the kernel keeps mapped until
        // io_destroy.
        let ring = unsafe { &*(id as *const Ring) };
        let readable = ring.magic == MAGIC
            && ring.incompatible == 0
            && ring.header_length as usize == size_of::<Ring>();
        Ok(Self {
            id,
            capacity: operations as usize,
            readable,
        })
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Submits `operations` in order and returns how many the kernel took. An error refers to the
    /// first operation.
    ///
    /// # Safety
    /// The memory that the operations name must stay in place until their completions.
    pub unsafe fn submit(&self, operations: &[Iocb]) -> Result<usize, Errno> {
        let mut pointers = [std::ptr::null::<Iocb>(); EVENTS_PER_CALL];
        let n = operations.len().min(EVENTS_PER_CALL);
        for (pointer, operation) in pointers.iter_mut().zip(operations) {
            *pointer = operation;
        }
        // SAFETY: `pointers` has n valid entries, which the kernel copies during the call; our
        // caller keeps the memory that the operations name.
        unsafe { sys::io_submit(self.id, n, pointers.as_ptr().cast()) }
    }

    /// Takes the available completions off the ring.
    pub fn reap(&self, mut done: impl FnMut(Event)) {
        if !self.readable {
            let _ = self.wait(0, Some(0), done);
            return;
        }
        // SAFETY: the id is the address of the ring, which the kernel keeps mapped until
        // io_destroy.
        let ring = unsafe { &*(self.id as *const Ring) };
        let mut head = ring.head.load(Ordering::Relaxed);
        // Pairs with the kernel's barrier between writing an event and moving the tail.
        while head != ring.tail.load(Ordering::Acquire) {
            // SAFETY: `head` is below the ring's length, and the kernel does not write events
            // before the tail.
            let event = unsafe {
                std::ptr::from_ref(ring)
                    .add(1)
                    .cast::<Event>()
                    .add(head as usize)
                    .read_volatile()
            };
            head = (head + 1) % ring.length;
            ring.head.store(head, Ordering::Release);
            done(event);
        }
    }

    /// Waits for at least `least` completions, for at most `nanos`.
    pub fn wait(
        &self,
        least: usize,
        nanos: Option<u64>,
        done: impl FnMut(Event),
    ) -> Result<(), Errno> {
        let mut events = [Event::default(); EVENTS_PER_CALL];
        let timeout = nanos.map(sys::timespec_of);
        // SAFETY: `events` has room for AT_ONCE events, which is the number passed to the kernel.
        let n = unsafe {
            sys::io_getevents(
                self.id,
                least,
                EVENTS_PER_CALL,
                events.as_mut_ptr().cast(),
                timeout.as_ref(),
            )
        }?;
        events[..n].iter().copied().for_each(done);
        Ok(())
    }
}

impl Drop for Context {
    /// Waits for in-flight operations and for an RCU grace period of the kernel. In the child of
    /// fork the context does not exist, and this does nothing.
    fn drop(&mut self) {
        sys::io_destroy(self.id);
    }
}
