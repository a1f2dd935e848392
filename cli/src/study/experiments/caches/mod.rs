//! Question 7: what write-back and the caches of the processor change.

mod buffers;
mod dirty_limit;
mod processor_caches;
mod write_back;

pub use buffers::Buffers;
pub use write_back::WriteBack;
