//! What runs when a fiber ends before its function returns: cleanup handlers of the C API, and the
//! data of libc and of the unwinder for pthread_exit(3).
//!
//! Invariant: a registered handler or buffer lies in a frame of its fiber that has not returned.

use core::ffi::{c_int, c_void};

/// A function of the program that runs at the end of a fiber: the destructor of a key, or a cleanup
/// handler.
pub(crate) type Destructor = extern "C" fn(*mut c_void);

/// `fiber_cleanup_t`, on the stack of the fiber that pushed it.
#[repr(C)]
pub struct Cleanup {
    pub(crate) routine: Destructor,
    pub(crate) arg: *mut c_void,
    pub(crate) next: *mut Cleanup,
}

#[cfg(target_arch = "x86_64")]
const REGISTERS: usize = 8;
#[cfg(target_arch = "aarch64")]
const REGISTERS: usize = 22;

/// `__pthread_unwind_buf_t`.
#[repr(C)]
pub(crate) struct JumpBuffer {
    pub registers: [u64; REGISTERS],
    mask_was_saved: c_int,
    /// The buffer that was registered before this one.
    pub prev: *mut JumpBuffer,
    reserved: [*mut c_void; 3],
}

impl JumpBuffer {
    /// Returns whether the frame with stack pointer `sp` is the one that registered the buffer, or
    /// one of its callers.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_reached(&self, sp: usize) -> bool {
        const RSP: usize = 6;
        let guard: u64;
        // SAFETY: reads the word of the thread control block with which libc mangles the pointers
        // in jump buffers.
        unsafe {
            core::arch::asm!("mov {}, fs:[0x30]", out(reg) guard, options(nostack, preserves_flags,
                readonly))
        };
        sp as u64 >= self.registers[RSP].rotate_right(17) ^ guard
    }

    /// Does the same on aarch64. Untested, because no aarch64 machine was available. The key that
    /// mangles the stack pointer cannot be read here. Therefore this function recognises the frame
    /// only from its caller, when the frame itself has been unwound already; its memory is still
    /// intact.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn is_reached(&self, sp: usize) -> bool {
        sp > core::ptr::from_ref(self).addr()
    }
}

type UnwindCleanup = extern "C" fn(c_int, *mut Unwinding);

/// `_Unwind_Exception`.
#[repr(C, align(16))]
pub(crate) struct Unwinding {
    class: u64,
    cleanup: Option<UnwindCleanup>,
    reserved: [usize; 2],
}

impl Unwinding {
    /// An exception that calls `cleanup` if a catch block does not rethrow it.
    pub(crate) const fn new(cleanup: Option<UnwindCleanup>) -> Unwinding {
        Unwinding {
            class: 0,
            cleanup,
            reserved: [0; 2],
        }
    }
}
