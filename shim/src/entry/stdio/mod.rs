//! stdio on fibers: `fgets`, `fprintf`, `scanf`, `putwc` and similar functions, intercepted where
//! libc's buffers meet the kernel.
//!
//! The path of one `fgets` on a fiber:
//!
//! 1. libc takes the stream's lock, finds its buffer empty, and calls through the stream's jump
//!    table.
//! 2. [`tables`] has pointed that at a function of [`slots`]. It waits while another fiber is
//!    parked in the stream ([`crate::runtime::stream`]), and then enters the stream.
//! 3. libc's own function fills the buffer, and calls `read` through the table for that. This
//!    reaches the hook, like any other read.
//! 4. The fiber parks in the hook and leaves the stream for that time.
//!
//! libc stays unchanged in programs that never attach a thread.

mod slots;
mod tables;

use crate::runtime::stream;
use crate::state::log;
use format::options::Level;
use std::sync::Once;
use sys::errno;

/// At the first attach: makes stdio call the shim. If that is impossible, stdio keeps blocking the
/// threads of its fibers.
pub fn convert() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let errno = errno::get();
        let result = if stream::find_functions() {
            tables::patch()
        } else {
            Err("this libc lacks some of glibc's functions")
        };
        match result {
            Ok(()) => stream::note_converted(),
            Err(reason) => log::say(
                Level::Info,
                format_args!("stdio is not converted: {reason}"),
            ),
        }
        errno::set(errno);
    });
}
