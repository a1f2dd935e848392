//! Question 4: the cost of answering a completion.

mod answering;
mod interrupts;
mod waits;

pub use answering::Answering;
pub use interrupts::Interrupts;
