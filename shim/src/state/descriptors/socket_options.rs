//! Options that the program has set on some socket of the process.

use std::sync::atomic::{AtomicBool, Ordering};

/// The program has set a timeout or a low-water mark on some socket. Any descriptor may refer to
/// that socket.
static SOCKET_OPTIONS: AtomicBool = AtomicBool::new(false);

pub fn note_socket_option() {
    SOCKET_OPTIONS.store(true, Ordering::Relaxed);
}

pub fn socket_options_were_set() -> bool {
    SOCKET_OPTIONS.load(Ordering::Relaxed)
}

/// The program has set SO_LINGER on some socket, so closing any socket may block.
static LINGERING: AtomicBool = AtomicBool::new(false);

pub fn note_lingering_socket() {
    LINGERING.store(true, Ordering::Relaxed);
}

#[inline(always)]
pub fn sockets_may_linger() -> bool {
    LINGERING.load(Ordering::Relaxed)
}
