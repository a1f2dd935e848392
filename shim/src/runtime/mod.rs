//! What happens on an attached thread: its calls, its operations in flight and its signals.

pub mod accepting;
pub mod blocking;
pub mod call;
pub mod callback;
pub mod cancel;
pub mod completion;
pub mod conversion;
pub mod deadlines;
pub mod duplicates;
pub mod host_waker;
pub mod in_flight;
pub mod language;
pub mod mailbox;
pub mod open_history;
pub mod operation;
pub mod position;
pub mod quantum;
pub mod release;
pub mod restart;
pub mod signal;
pub mod static_results;
pub mod stream;
pub mod thread;
pub mod thread_engine;
pub mod verdict;
pub mod wait_set;
