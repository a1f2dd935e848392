//! tcsetattr(3): waits for pending output only if the caller asks for it.

use std::ffi::c_int;

pub fn drains(actions: c_int) -> bool {
    matches!(actions, libc::TCSADRAIN | libc::TCSAFLUSH)
}
