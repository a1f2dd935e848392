//! Question 7: the effect of write-back and of the processor's caches.

mod buffers;
mod dirty_limit;
mod processor_caches;
mod write_back;

pub use buffers::Buffers;
pub use write_back::WriteBack;
