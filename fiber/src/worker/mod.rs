//! One OS thread that runs fibers.

pub(crate) mod current;
pub(crate) mod gate;
pub(crate) mod load;
pub(crate) mod round;
pub(crate) mod state;
pub(crate) mod thread_state;
pub(crate) mod unstarted;
