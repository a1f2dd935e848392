//! The calls as their C callers see them: arguments, result, errno, file position. There is one
//! file per group of calls.
//!
//! The rows of [`crate::hooks`] name the functions of this module. A function runs on a fiber, gets
//! the [`Call`](crate::runtime::call::Call) and libc's arguments, and returns a [`Verdict`]; the
//! hook turns that into a result and errno, or makes libc's call.

pub mod cached_read;
pub mod clone;
pub mod connect;
pub mod directory;
mod fifo;
pub mod file;
pub mod flock;
pub mod ipc;
pub mod locale;
pub mod locks;
mod message;
pub mod mmsg;
pub mod name;
pub mod net;
pub mod open;
pub mod poll;
pub mod process;
pub mod random;
pub mod resolver;
pub mod results;
pub mod rw;
pub mod select;
pub mod signal;
pub mod sleep;
pub mod slow_stream;
pub mod space;
pub mod splice;
pub mod stat;
pub mod statics;
pub mod stdio;
pub mod syscall;
pub mod system;
pub mod terminal;
pub mod thread_state;
mod transfer;
pub mod via;
pub mod walk;

pub use crate::runtime::verdict::{CResult, Verdict};
