//! Where the program, the loader and the kernel enter the shim, apart from the hooks.

pub mod fork;
pub mod init;
pub mod sanitizers;
mod variadic;
pub mod vfork;
