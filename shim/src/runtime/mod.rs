//! What happens on an attached thread: its calls, its operations in flight and its signals.

pub mod call;
pub mod cancel;
pub mod deadlines;
pub mod holds;
pub mod language;
pub mod lookout;
pub mod operation;
pub mod position;
pub mod signal;
pub mod static_results;
pub mod thread;
pub mod wait_set;
