//! tcsetattr(3): waits for what was written only where it is asked to.

use std::ffi::c_int;

pub fn drains(actions: c_int) -> bool {
    matches!(actions, libc::TCSADRAIN | libc::TCSAFLUSH)
}
