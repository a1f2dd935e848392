//! Question 4: what it costs to answer a completion.

mod answering;
mod interrupts;
mod waits;

pub use answering::Answering;
pub use interrupts::Interrupts;
