//! Restarting interrupted calls: the one rule, which is the kernel's (signal(7)).

use super::call::Call;
use super::signal::Handled;

/// Whether a call is restarted after handlers that were installed with SA_RESTART: signal(7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    AsHandlersSay,
    Never,
}

impl Restart {
    /// Whether the call goes on after its handlers ran.
    pub fn goes_on(self, handled: Handled) -> bool {
        match handled {
            Handled::Nothing => true,
            Handled::Restart => self == Self::AsHandlersSay,
            Handled::End => false,
        }
    }
}

/// Whether an interrupted call has tried once more before its handlers run.
pub struct LastLook(bool);

impl LastLook {
    pub const fn new() -> Self {
        Self(false)
    }
}

impl Call<'_> {
    /// Runs the handlers of an interrupted call. Returns whether the call goes on; otherwise it
    /// fails with EINTR. Call only while holding no locks, because a handler may jump away and a
    /// cancelled fiber ends here.
    pub fn goes_on(&self, restart: Restart) -> bool {
        restart.goes_on(self.interrupted())
    }

    /// [`Self::goes_on`], except that the call first tries once more before its handlers run: the
    /// event it waits for may have arrived before the signal, and then the call succeeds.
    #[cold]
    #[inline(never)]
    pub fn goes_on_after_look(&self, restart: Restart, look: &mut LastLook) -> bool {
        self.looks_again(look) || self.goes_on(restart)
    }

    /// Whether an interrupted call that has not run its handlers yet should try once more. A
    /// cancelled call should not.
    pub fn looks_again(&self, look: &mut LastLook) -> bool {
        let looks =
            !look.0 && self.thread.signals().is_held() && !self.thread.is_cancelled(self.fiber);
        look.0 = looks;
        looks
    }
}
