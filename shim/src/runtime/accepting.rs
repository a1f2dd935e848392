//! Accepts a pending connection by the plain call, without parking the fiber.

use crate::engine::SocketCall;
use crate::runtime::signal::alarm::Alarm;
use crate::state::fork_reset::is_bare_child;
use std::cell::{Cell, OnceCell};
use std::ffi::c_int;
use sys::errno::Errno;

/// What one thread keeps for this.
#[derive(Default)]
pub struct Accepting {
    /// Created for the first accept; None if the kernel refuses it.
    alarm: OnceCell<Option<Alarm>>,
    /// How many more accepts must avoid the plain call, because another process took a connection
    /// first.
    careful: Cell<u32>,
}

/// How many accepts avoid the plain call after a lost race. Processes that share the socket are
/// likely to race for the next connections too.
const AFTER_A_LOST_RACE: u32 = 64;

impl Accepting {
    /// Calls accept4(2) on a socket that has a pending connection, with an alarm that ends the call
    /// if it blocks. EAGAIN if the connection is gone by now. None if the plain call must not be
    /// made.
    pub fn accept(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        if self.careful.get() > 0 {
            self.careful.update(|left| left - 1);
            return None;
        }
        if is_bare_child() {
            // The timer belongs to the parent; its number may name another timer here.
            return None;
        }
        let alarm = self.alarm.get_or_init(Alarm::new).as_ref()?;
        let result = alarm.limit(|| call.stand_in())?;
        if result == Err(Errno::INTR) {
            // The connection may still be there if the alarm or another signal arrived before the
            // call began.
            if !sys::poll_now(call.fd, libc::POLLIN) {
                self.careful.set(AFTER_A_LOST_RACE);
            }
            return Some(Err(Errno::AGAIN));
        }
        Some(result.map(|fd| fd as c_int))
    }
}
