//! Switching between contexts: the only code that touches the stack pointer. One file per CPU, the
//! same verbs in each.
//!
//! A context that is not running is a stack pointer; what is needed to go on lies just above it:
//!
//! ```text
//!   higher addresses
//!     | frames of the caller            |
//!     | callee-saved registers          |
//!     | floating-point control words    |
//!     | address to go on at             |  <- saved stack pointer
//!   lower addresses
//! ```
//!
//! | verb | saves the running context | goes on at |
//! |---|---|---|
//! | [`switch`] | yes | a saved context |
//! | [`start`] | yes | the top of a fresh stack |
//! | [`leave`] | no: it has ended | a saved context |
//! | [`leave_to_start`] | no: it has ended | the top of a fresh stack, perhaps the very one it ran on |
//!
//! The verbs are inlined assembly ended by an indirect jump, not a call ended by `ret`: the return
//! address predictor then stays in step when two fibers switch from the same place. Nothing is ever
//! written to a fresh stack but by the fiber itself, and the frame at its base has no caller for
//! unwinders (`.cfi_undefined`).
//!
//! # Why not corosensei
//!
//! A round of its resume and suspend costs 12.9 ns here, for it is asymmetric: two switches and a
//! result value to pass a fiber's turn on. One symmetric switch costs 5.4 ns. Of these, 4 go into
//! the floating-point control words, which the ABI calls callee-saved (`stmxcsr` alone takes 3.5);
//! a switch without them would cost 1.2 ns, and would let a fiber's rounding mode leak into the
//! next.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod cpu;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod cpu;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("fibers need a file in switch/ for this CPU");

pub(crate) use cpu::{FloatControl, leave, leave_to_start, prefetch, start, switch};

/// Bytes at the top of a stack that must stay unused: the ABIs want 16-byte alignment, unwinders a
/// readable word above.
pub(crate) const TOP_GAP: usize = 16;
