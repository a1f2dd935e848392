//! Scheduling: which fiber runs next, and how fibers wait, end and are cancelled.
//!
//! From the bottom up: [`ready`] makes parked fibers ready, and [`interrupt`] ends waits early.
//! [`switching`] picks the next fiber and switches to it. [`cancel`] delivers requests, [`idle`]
//! sleeps, and [`main_loop`] calls both between rounds. [`wait`] parks a fiber in a wait queue,
//! [`join`] creates and joins fibers, and [`cancel_point`] ends the cancelled ones.

pub(crate) mod cancel;
pub(crate) mod cancel_point;
pub(crate) mod idle;
pub(crate) mod interrupt;
pub(crate) mod join;
pub(crate) mod main_loop;
pub(crate) mod ready;
pub(crate) mod switching;
pub(crate) mod wait;
