//! Question 3: the cost of asynchronous I/O, by mechanism.

mod contender;
mod linux_aio;
mod mechanism;
mod pool;
mod posix_aio;
mod submission;
mod sustained;
mod uring;

pub use contender::Contender;
pub use linux_aio::Queue;
pub use mechanism::Request;
pub use submission::Submission;
pub use sustained::Sustained;
