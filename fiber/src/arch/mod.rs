//! What depends on the CPU: context switches, and the thread-local slots of [`slots`]. Only this
//! code touches the stack pointer. It knows nothing of fibers. There is one file per CPU, and all
//! define the same functions.
//!
//! A context that is not running is represented by its stack pointer. The data needed to resume it
//! lies just above:
//!
//! ```text
//!   higher addresses
//!     | frames of the caller            |
//!     | callee-saved registers          |
//!     | floating-point control words    |
//!     | address to resume at            |  <- saved stack pointer
//!   lower addresses
//! ```
//!
//! | function | saves the running context | continues at |
//! |---|---|---|
//! | [`switch`] | yes | a saved context |
//! | [`start`] | yes | the top of a fresh stack |
//! | [`leave`] | no: it has ended | a saved context |
//! | [`leave_to_start`] | no: it has ended | the top of a fresh stack, perhaps the one it ran on |
//!
//! The functions are inlined assembly that ends in an indirect jump, not calls that end in `ret`.
//! The return address predictor therefore stays in step when two fibers switch from the same place.
//! Only the fiber itself ever writes to its fresh stack, and the frame at the base of the stack has
//! no caller for unwinders (`.cfi_undefined`).
//!
//! # Why not corosensei
//!
//! Resuming and suspending once with corosensei costs 12.9 ns here. It is asymmetric: passing
//! control from one fiber to another takes two switches and a result value. One symmetric switch
//! costs 5.4 ns. Of these, 4 ns are spent on the floating-point control words, which the ABI
//! declares callee-saved (`stmxcsr` alone takes 3.5 ns). A switch without them would cost 1.2 ns,
//! but one fiber's rounding mode would leak into the next fiber.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod cpu;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod cpu;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("fibers need a file in arch/ for this CPU");

pub(crate) mod slots;

pub(crate) use cpu::{FloatControl, leave, leave_to_start, prefetch, start, switch};

/// What a new context runs, and its argument.
pub(crate) trait Main {
    /// The first function of a context. It never returns.
    extern "C" fn main(argument: *mut Self) -> !;
}

/// The number of bytes at the top of a stack that must stay unused. The ABIs require 16-byte
/// alignment, and unwinders need a readable word above the first frame.
pub(crate) const TOP_GAP: usize = 16;
