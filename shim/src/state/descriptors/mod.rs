//! Per-descriptor hints: the facts that the shim remembers, one atomic word per descriptor.
//!
//! Descriptors are also closed and opened where the shim does not see it (inside libc, by raw
//! system calls), so a hint may be stale. Every use of a hint must be correct even then. The hooks
//! forget a descriptor when it is closed or replaced, on a fiber or off.

mod examination;
mod hint;
mod owned;
mod socket_options;
mod table;

pub use examination::{MEMORY_DEVICES, is_file};
pub use hint::{Descriptor, probably_has_position};
pub use owned::{adopt, disown, is_shim_owned, mark_shim_owned, take_shim_owned};
pub use socket_options::{
    note_lingering_socket, note_socket_option, socket_options_were_set, sockets_may_linger,
};
pub use table::{
    CAPACITY, clear, end_of_remembered, forget, init, set_held, set_pool_in_use, users,
};
