//! Where the program, the loader and the kernel enter the shim, apart from the hooks.

pub mod fork;
pub mod host_api;
pub mod init;
mod main_fiber;
mod sanitizers;
pub mod stdio;
mod variadic;
pub mod vfork;
