//! What the child of a fork resets, and whether this process is such a child.
//!
//! Only the forking thread exists in the child. Another thread of the parent may have been in the
//! middle of changing any static, or may have held its lock. So each static with such state is
//! declared by `fork_reset!`, and state of another form registers a function
//! with `after_fork!`. Both put a function pointer into a section of the
//! library, which [`reset_all`] runs through in the child.

use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// A static that the child of a fork can replace.
pub struct ForkReset<T>(UnsafeCell<T>);

// SAFETY: it can be shared if T can; `replace` is called only when no other thread exists.
unsafe impl<T: Sync> Sync for ForkReset<T> {}

impl<T> ForkReset<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub fn get(&self) -> &T {
        // SAFETY: only `replace` writes, and its caller promises that no reference is live.
        unsafe { &*self.0.get() }
    }

    /// Stores `value` and leaks the old value, which may be half changed.
    ///
    /// # Safety
    /// The process has one thread, which holds no reference from `get`.
    pub unsafe fn replace(&self, value: T) {
        // SAFETY: our caller makes the same promise.
        unsafe { self.0.get().write(value) };
    }
}

/// A function that resets some state in the child of a fork.
///
/// # Safety
/// To call it, the process must have one thread, which is in none of the functions that use that
/// state.
pub type Reset = unsafe fn();

/// Has the child of a fork call a [`Reset`].
#[macro_export]
macro_rules! after_fork {
    ($reset:expr) => {
        const _: () = {
            #[allow(unsafe_code, reason = "the section contains only such pointers")]
            #[used]
            #[unsafe(link_section = "fork_resets")]
            static RESET: $crate::state::fork_reset::Reset = $reset;
        };
    };
}

/// Declares a static [`ForkReset`] which the child of a fork replaces by its first value.
#[macro_export]
macro_rules! fork_reset {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        $(#[$doc])*
        static $name: $crate::state::fork_reset::ForkReset<$type> =
            $crate::state::fork_reset::ForkReset::new($value);
        after_fork!({
            #[allow(unsafe_code, reason = "the caller of a Reset makes the promise")]
            unsafe fn reset() {
                // SAFETY: the contract of a `Reset` is the same.
                unsafe { $name.replace($value) };
            }
            reset
        });
    };
}

// The bounds are no symbols of the library.
std::arch::global_asm!(".hidden __start_fork_resets", ".hidden __stop_fork_resets");

unsafe extern "C" {
    /// The section's bounds, which the linker defines.
    #[link_name = "__start_fork_resets"]
    static FIRST: usize;
    #[link_name = "__stop_fork_resets"]
    static END: usize;
}

/// Resets everything that is registered.
///
/// # Safety
/// The process has one thread, which is in none of the functions that use the registered state.
pub unsafe fn reset_all() {
    let (first, end) = (
        (&raw const FIRST).cast::<Reset>(),
        (&raw const END).cast::<Reset>(),
    );
    // SAFETY: the section contains only pointers of this type, one after the other, and the caller
    // keeps the contract of each.
    unsafe {
        let resets = std::slice::from_raw_parts(first, end.offset_from_unsigned(first));
        for reset in resets {
            reset();
        }
    }
}

/// A word that the kernel clears in every child that gets a copy of this memory; null if the kernel
/// does not support that.
static ORIGINAL: AtomicPtr<AtomicBool> = AtomicPtr::new(null_mut());

/// Makes [`is_bare_child`] work. Called once, at start-up.
pub fn mark_memory() {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    const PAGE: usize = 4096;
    // SAFETY: a new anonymous mapping overlaps nothing, and the advice applies to that mapping
    // alone.
    let page = unsafe {
        mmap_anonymous(
            null_mut(),
            PAGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
        .and_then(|page| madvise(page, PAGE, Advice::LinuxWipeOnFork).map(|()| page))
    };
    if let Ok(page) = page {
        let word = page.cast::<AtomicBool>();
        // SAFETY: the page is never unmapped, and zeroes are a valid AtomicBool.
        unsafe { &*word }.store(true, Ordering::Relaxed);
        ORIGINAL.store(word, Ordering::Relaxed);
    }
}

/// Whether this process is a child in which no fork handler ran because it was made by _Fork(3),
/// clone(2) or a raw system call. In such a child the threads that hold the shim's locks or do its
/// jobs do not exist.
pub fn is_bare_child() -> bool {
    // SAFETY: null, or a word that is never unmapped.
    unsafe { ORIGINAL.load(Ordering::Relaxed).as_ref() }
        .is_some_and(|word| !word.load(Ordering::Relaxed))
}

/// A fork handler runs in this child, so it is not a bare one.
pub fn note_handled_child() {
    // SAFETY: null, or a word that is never unmapped.
    if let Some(word) = unsafe { ORIGINAL.load(Ordering::Relaxed).as_ref() } {
        word.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    fork_reset! {
        static NUMBER: Mutex<u32> = Mutex::new(1);
    }

    #[test]
    fn a_child_starts_with_the_first_value() {
        *NUMBER.get().lock().unwrap() = 2;
        let forked = NUMBER.get().lock().unwrap();
        // SAFETY: fork has no arguments, and the child only makes system calls and resets.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the child has one thread, which no longer uses its copy of the guard.
            unsafe { super::reset_all() };
            let is_reset = *NUMBER.get().lock().unwrap() == 1;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!is_reset)) };
        }
        drop(forked);
        let mut status = -1;
        // SAFETY: the status is alive.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
