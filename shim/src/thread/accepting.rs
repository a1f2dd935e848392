//! How a connection that is there is accepted without parking.

use super::Thread;
use crate::engine::SocketCall;
use crate::errno::Errno;
use crate::signal::Alarm;
use crate::{fork, sys};
use std::cell::{Cell, OnceCell};
use std::ffi::c_int;

/// What a thread keeps for it.
#[derive(Default)]
pub struct Accepting {
    /// Made for the first accept; None where there is none to be had.
    alarm: OnceCell<Option<Alarm>>,
    /// Accepts that are still to be made with more care, since others took a connection first.
    careful: Cell<u32>,
}

/// How many accepts are made with more care then: the processes that share the socket are likely to
/// race for the next connections, too.
const AFTER_A_LOST_RACE: u32 = 64;

impl Thread {
    /// accept4(2) on a socket that has a connection: EAGAIN where that is gone by now. None where
    /// it is better made by the thread pool: the thread must not wait, and its engine cannot try.
    pub fn accept_now(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        self.accept_at_once(call)
            .or_else(|| self.try_by_engine(call))
    }

    /// Makes the plain call, which an alarm ends if it has to wait. None where it is not to be
    /// made.
    fn accept_at_once(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        let Accepting { alarm, careful } = &self.accepting;
        if careful.get() > 0 {
            careful.update(|left| left - 1);
            return None;
        }
        if fork::is_bare_child() {
            // The timer is the parent's; its number may be another one's here.
            return None;
        }
        let alarm = alarm.get_or_init(Alarm::new).as_ref()?;
        let result = alarm.limit(|| call.stand_in())?;
        if result == Err(Errno::INTR) {
            // It is still there where the alarm, or another signal, came before the call had begun.
            if !sys::poll_now(call.fd, libc::POLLIN) {
                careful.set(AFTER_A_LOST_RACE);
            }
            return Some(Err(Errno::AGAIN));
        }
        Some(result.map(|fd| fd as c_int))
    }

    /// Has the engine try, and submits with that what is queued.
    fn try_by_engine(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        let result = self.engine()?.accept_now(call)?;
        self.queued.set(0);
        Some(result)
    }
}
