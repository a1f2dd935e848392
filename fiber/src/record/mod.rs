//! What is recorded of a fiber.

pub(crate) mod fiber;
pub(crate) mod key;
pub(crate) mod slab;
pub(crate) mod stack;
pub(crate) mod timer;
