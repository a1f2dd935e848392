//! Initial-exec thread-local variables. There are two pointers: [`active`] is the thread's slot if
//! hooks convert calls, and null otherwise; [`attached`] is the slot whether they do or not. A
//! third variable holds the thread's C++ exception state.
//!
//! Every hook first reads `active`, so this must cost one load. A Rust `thread_local!` in a shared
//! library uses the general-dynamic model, a function call of 2.7 ns. The code here does what
//! `__thread` with `tls_model("initial-exec")` does in C. A preloaded library is loaded at
//! start-up, so its static TLS always has room. Signal handlers read `attached`.

use super::Slot;
use std::arch::{asm, global_asm};

/// Defines a variable, and the functions that load and store it.
macro_rules! variable {
    ($symbol:literal, $(#[$load_doc:meta])* $load:ident, $(#[$store_doc:meta])* $store:ident) => {
        global_asm!(
            concat!(".pushsection .tbss.", $symbol, ",\"awT\",@nobits"),
            ".balign 8",
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ",@object"),
            concat!(".size ", $symbol, ",8"),
            concat!($symbol, ": .zero 8"),
            ".popsection",
        );

        $(#[$load_doc])*
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        pub fn $load() -> *const Slot {
            let slot: *const Slot;
            // SAFETY: loads this thread's copy of an 8-byte variable that is defined above and
            // written only by its `set_` function.
            unsafe {
                asm!(
                    concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                    "mov {0}, qword ptr fs:[{0}]",
                    out(reg) slot,
                    options(nostack, preserves_flags, readonly),
                );
            }
            slot
        }

        $(#[$store_doc])*
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        pub fn $store(slot: *const Slot) {
            // SAFETY: stores to this thread's copy of the variable defined above.
            unsafe {
                asm!(
                    concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                    "mov qword ptr fs:[{0}], {1}",
                    out(reg) _,
                    in(reg) slot,
                    options(nostack, preserves_flags),
                );
            }
        }

        $(#[$load_doc])*
        /// Untested: no aarch64 machine was available.
        #[cfg(target_arch = "aarch64")]
        #[inline(always)]
        pub fn $load() -> *const Slot {
            let slot: *const Slot;
            // SAFETY: loads this thread's copy of an 8-byte variable that is defined above and
            // written only by its `set_` function.
            unsafe {
                asm!(
                    concat!("adrp {0}, :gottprel:", $symbol),
                    concat!("ldr {0}, [{0}, :gottprel_lo12:", $symbol, "]"),
                    "mrs {1}, tpidr_el0",
                    "ldr {0}, [{1}, {0}]",
                    out(reg) slot,
                    out(reg) _,
                    options(nostack, preserves_flags, readonly),
                );
            }
            slot
        }

        $(#[$store_doc])*
        /// Untested: no aarch64 machine was available.
        #[cfg(target_arch = "aarch64")]
        #[inline(always)]
        pub fn $store(slot: *const Slot) {
            // SAFETY: stores to this thread's copy of the variable defined above.
            unsafe {
                asm!(
                    concat!("adrp {0}, :gottprel:", $symbol),
                    concat!("ldr {0}, [{0}, :gottprel_lo12:", $symbol, "]"),
                    "mrs {1}, tpidr_el0",
                    "str {2}, [{1}, {0}]",
                    out(reg) _,
                    out(reg) _,
                    in(reg) slot,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

variable!(
    "aioshim_active",
    /// This thread's slot if hooks convert calls; otherwise null.
    active,
    /// Sets the value of [`active`] for this OS thread.
    set_active
);

variable!(
    "aioshim_attached",
    /// This thread's slot if a host has attached the thread; otherwise null.
    attached,
    /// Sets the value of [`attached`] for this OS thread.
    set_attached
);

global_asm!(
    ".pushsection .tbss.aioshim_exceptions,\"awT\",@nobits",
    ".balign 8",
    ".globl aioshim_exceptions",
    ".hidden aioshim_exceptions",
    ".type aioshim_exceptions,@object",
    ".size aioshim_exceptions,16",
    "aioshim_exceptions: .zero 16",
    ".popsection",
);

/// This thread's C++ exception state (`__cxa_eh_globals`).
#[cfg(target_arch = "x86_64")]
pub fn exceptions() -> *mut [usize; 2] {
    let at: *mut [usize; 2];
    // SAFETY: computes the address of this thread's own copy of the variable defined above.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + aioshim_exceptions@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) at,
            options(nostack, readonly),
        );
    }
    at
}

/// This thread's C++ exception state (`__cxa_eh_globals`). Untested: no aarch64 machine was
/// available.
#[cfg(target_arch = "aarch64")]
pub fn exceptions() -> *mut [usize; 2] {
    let at: *mut [usize; 2];
    // SAFETY: computes the address of this thread's own copy of the variable defined above.
    unsafe {
        asm!(
            "adrp {0}, :gottprel:aioshim_exceptions",
            "ldr {0}, [{0}, :gottprel_lo12:aioshim_exceptions]",
            "mrs {1}, tpidr_el0",
            "add {0}, {0}, {1}",
            out(reg) at,
            out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    at
}
