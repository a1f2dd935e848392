//! The OS threads that run fibers. This layer holds their state; the scheduler above it decides.
//!
//! [`state`] is a worker and [`remote`] the part of it that other threads use. A [`runtime`] is a
//! number of workers. The other files are the parts of the two.

pub(crate) mod cancel_requests;
pub(crate) mod cpus;
pub(crate) mod crowding;
pub(crate) mod current;
pub(crate) mod gate;
pub(crate) mod idle_workers;
pub(crate) mod load;
pub(crate) mod remote;
pub(crate) mod round;
pub(crate) mod runtime;
pub(crate) mod shim;
pub(crate) mod spin_time;
pub(crate) mod state;
pub(crate) mod thread_state;
pub(crate) mod unstarted;
