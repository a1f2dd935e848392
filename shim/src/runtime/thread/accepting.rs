//! Accepts a pending connection without parking the fiber.

use super::Thread;
use crate::engine::SocketCall;
use crate::runtime::signal::alarm::Alarm;
use crate::state::fork_reset::is_bare_child;
use std::cell::{Cell, OnceCell};
use std::ffi::c_int;
use sys::errno::Errno;

/// The state that a thread keeps for this.
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

impl Thread {
    /// Calls accept4(2) on a socket that has a pending connection. EAGAIN if the connection is gone
    /// by now. None if the thread pool should make the call, because this thread must not block and
    /// its engine cannot try.
    pub fn accept_now(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        self.accept_or_fail(call)
            .or_else(|| self.try_by_engine(call))
    }

    /// Makes the plain call, with an alarm that ends it if it blocks. None if the plain call must
    /// not be made.
    fn accept_or_fail(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        let Accepting { alarm, careful } = &self.accepting;
        if careful.get() > 0 {
            careful.update(|left| left - 1);
            return None;
        }
        if is_bare_child() {
            // The timer belongs to the parent; its number may name another timer here.
            return None;
        }
        let alarm = alarm.get_or_init(Alarm::new).as_ref()?;
        let result = alarm.limit(|| call.stand_in())?;
        if result == Err(Errno::INTR) {
            // The connection may still be there if the alarm or another signal arrived before the
            // call began.
            if !sys::poll_now(call.fd, libc::POLLIN) {
                careful.set(AFTER_A_LOST_RACE);
            }
            return Some(Err(Errno::AGAIN));
        }
        Some(result.map(|fd| fd as c_int))
    }

    /// Lets the engine try, which also submits everything queued.
    fn try_by_engine(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        let result = self.engine()?.accept_now(call)?;
        self.queued.set(0);
        Some(result)
    }
}
