//! Restarting interrupted calls: the one rule, which is the kernel's (signal(7)). A call is made
//! again if no handler ran, or if every handler that ran was installed with SA_RESTART and the
//! kernel restarts calls of this kind; otherwise it fails with EINTR.

use super::call::Call;
use super::signal::Handled;

/// Whether a call is restarted after handlers that were installed with SA_RESTART: signal(7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    IfHandlersAllow,
    Never,
}

impl Restart {
    /// Whether the call goes on after its handlers ran.
    pub fn continues(self, handled: Handled) -> bool {
        match handled {
            Handled::Nothing => true,
            Handled::Restart => self == Self::IfHandlersAllow,
            Handled::End => false,
        }
    }
}

/// Whether an interrupted call has tried once more before its handlers run.
pub struct LastAttempt(bool);

impl LastAttempt {
    pub const fn new() -> Self {
        Self(false)
    }
}

impl Call<'_> {
    /// Runs the handlers of an interrupted call. Returns whether the call goes on; otherwise it
    /// fails with EINTR. Call only while holding no locks, because a handler may jump away and a
    /// cancelled fiber ends here.
    pub fn continue_after_handlers(&self, restart: Restart) -> bool {
        restart.continues(self.interrupted())
    }

    /// [`Self::continue_after_handlers`], except that the call first tries once more before its
    /// handlers run: the event it waits for may have arrived before the signal, and then the call
    /// succeeds.
    #[cold]
    #[inline(never)]
    pub fn continue_after_attempt(&self, restart: Restart, last: &mut LastAttempt) -> bool {
        self.attempts_again(last) || self.continue_after_handlers(restart)
    }

    /// Whether an interrupted call that has not run its handlers yet should try once more. A
    /// cancelled call should not.
    pub fn attempts_again(&self, last: &mut LastAttempt) -> bool {
        let attempts = !last.0
            && self.thread.signals().has_deferred()
            && !self.thread.operations().is_cancelled(self.fiber);
        last.0 = attempts;
        attempts
    }
}
