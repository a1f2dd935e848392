//! A mount namespace of this thread's own.
//!
//! Mounts that are made in it are visible to this thread, to the threads that it starts and to its
//! child processes, and disappear with the last of them, however they end.

use std::cell::RefCell;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

thread_local! {
    /// Whether this thread has its own namespace, or why not. `None` before the first try.
    static OWN: RefCell<Option<Result<(), String>>> = const { RefCell::new(None) };
}

/// Gives this thread its own namespace unless it has one. Returns why that is not possible.
pub fn enter() -> Result<(), String> {
    OWN.with_borrow_mut(|own| own.get_or_insert_with(make).clone())
}

fn make() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may mount".to_owned());
    }
    // SAFETY: this separates only the mounts, and with them the current directory, from the other
    // threads'. No thread of this command changes its current directory.
    let made = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    made.map_err(|error| format!("cannot create a mount namespace: {error}"))?;
    // Otherwise each mount would appear in the namespace that this one was copied from.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|error| format!("cannot separate the mounts: {error}"))
}
