//! Fiber-local storage: keys belong to the process, values to each fiber.
//!
//! Invariant: when the number of a key is reused, its sequence number differs. Each value carries
//! the sequence number under which it was set. Therefore the values of a deleted key read as NULL
//! and its destructor never runs for them, no matter when they are found.

use super::unwind::{Cleanup, Destructor, JumpBuffer, Unwinding};
use crate::errno::Errno;
use crate::spin::SpinLock;
use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_uint, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// `FIBER_KEYS_MAX`.
pub(crate) const KEYS_MAX: usize = 1024;
/// `FIBER_DESTRUCTOR_ITERATIONS`.
pub(crate) const DESTRUCTOR_ITERATIONS: usize = 4;

struct Key {
    /// Odd while the key exists.
    sequence: AtomicU32,
    /// The address of the [`Destructor`], or 0.
    destructor: AtomicUsize,
}

static KEYS: [Key; KEYS_MAX] = [const {
    Key {
        sequence: AtomicU32::new(0),
        destructor: AtomicUsize::new(0),
    }
}; KEYS_MAX];

/// Held while a key is created or deleted.
static KEYS_LOCK: SpinLock<()> = SpinLock::new(());

/// For fork: ensures that no other thread holds the lock in the child.
pub(crate) fn acquire() {
    KEYS_LOCK.acquire();
}

pub(crate) fn release() {
    KEYS_LOCK.release();
}

struct Value {
    sequence: Cell<u32>,
    value: Cell<*mut c_void>,
}

/// Creates a key. Returns `EAGAIN` if all keys are in use.
pub(crate) fn create(destructor: Option<Destructor>) -> Result<c_uint, Errno> {
    let _lock = KEYS_LOCK.lock();
    let free = KEYS
        .iter()
        .position(|k| k.sequence.load(Ordering::Relaxed) % 2 == 0)
        .ok_or(Errno::EAGAIN)?;
    KEYS[free]
        .destructor
        .store(destructor.map_or(0, |d| d as usize), Ordering::Relaxed);
    KEYS[free].sequence.fetch_add(1, Ordering::Release);
    Ok(free as c_uint)
}

/// Deletes a key. Returns `EINVAL` if it does not exist.
pub(crate) fn delete(key: c_uint) -> Result<(), Errno> {
    let _lock = KEYS_LOCK.lock();
    sequence(key)?;
    KEYS[key as usize].sequence.fetch_add(1, Ordering::Release);
    Ok(())
}

/// Returns the sequence number of a key, or `EINVAL` if the key does not exist.
#[inline(always)]
fn sequence(key: c_uint) -> Result<u32, Errno> {
    let sequence = KEYS
        .get(key as usize)
        .map_or(0, |k| k.sequence.load(Ordering::Acquire));
    if sequence % 2 == 1 {
        Ok(sequence)
    } else {
        Err(Errno::EINVAL)
    }
}

/// A fiber's values, and other data that only few fibers have.
struct Values {
    /// Long enough for the highest key that was set, rounded up.
    by_key: Vec<Value>,
    /// The cleanup handler that was pushed last, or null.
    cleanup: *mut Cleanup,
    /// The jump buffer that pthread_cleanup_push(3) registered last, or null.
    jump_buffer: *mut JumpBuffer,
    /// The exception that unwinds its frames while pthread_exit(3) ends it.
    unwinding: Unwinding,
}

/// The values of one fiber, allocated when the first one is set. Only the fiber itself uses them.
pub(crate) struct Locals(UnsafeCell<Option<Box<Values>>>);

impl Locals {
    pub(crate) const fn new() -> Locals {
        Locals(UnsafeCell::new(None))
    }

    #[inline(always)]
    fn values(&self) -> Option<&Values> {
        // SAFETY: only the fiber itself touches its values, and no caller runs foreign code while
        // it holds the reference.
        unsafe { &*self.0.get() }.as_deref()
    }

    #[expect(clippy::mut_from_ref, reason = "only the fiber itself uses it")]
    fn values_mut(&self) -> &mut Values {
        // SAFETY: only the fiber itself touches its values, and no caller runs foreign code while
        // it holds the reference.
        unsafe { &mut *self.0.get() }.get_or_insert_with(|| {
            Box::new(Values {
                by_key: Vec::new(),
                cleanup: null_mut(),
                jump_buffer: null_mut(),
                unwinding: Unwinding::new(None),
            })
        })
    }

    /// Returns the cleanup handler that the fiber pushed last, if any is left.
    pub(crate) fn top_cleanup(&self) -> Option<*mut Cleanup> {
        let cleanup = self.values()?.cleanup;
        (!cleanup.is_null()).then_some(cleanup)
    }

    pub(crate) fn set_top_cleanup(&self, cleanup: *mut Cleanup) {
        self.values_mut().cleanup = cleanup;
    }

    /// Returns the jump buffer that the fiber registered last, or null if it has none.
    pub(crate) fn jump_buffer(&self) -> *mut JumpBuffer {
        self.values()
            .map_or(null_mut(), |values| values.jump_buffer)
    }

    pub(crate) fn set_jump_buffer(&self, buffer: *mut JumpBuffer) {
        self.values_mut().jump_buffer = buffer;
    }

    /// The fiber's exception for pthread_exit(3). It must stay in place until the fiber ends. It
    /// cannot lie on the stack, because the frames there are unwound.
    pub(crate) fn unwinding(&self) -> *mut Unwinding {
        &raw mut self.values_mut().unwinding
    }

    /// Returns the value of `key`, or NULL if the fiber has none.
    #[inline(always)]
    pub(crate) fn get(&self, key: c_uint) -> *mut c_void {
        let Some(values) = self.values() else {
            return null_mut();
        };
        match (values.by_key.get(key as usize), sequence(key)) {
            (Some(value), Ok(sequence)) if value.sequence.get() == sequence => value.value.get(),
            _ => null_mut(),
        }
    }

    /// Sets the value of `key`. Returns `EINVAL` if the key does not exist and `ENOMEM` if memory
    /// runs out.
    pub(crate) fn set(&self, key: c_uint, value: *mut c_void) -> Result<(), Errno> {
        let sequence = sequence(key)?;
        let values = self.values_mut();
        let key = key as usize;
        if values.by_key.len() <= key {
            let len = (key + 1).next_multiple_of(8);
            values
                .by_key
                .try_reserve_exact(len - values.by_key.len())
                .map_err(|_| Errno::ENOMEM)?;
            values.by_key.resize_with(len, || Value {
                sequence: Cell::new(0),
                value: Cell::new(null_mut()),
            });
        }
        values.by_key[key].sequence.set(sequence);
        values.by_key[key].value.set(value);
        Ok(())
    }

    /// Runs the destructors of a fiber that ends. They run on that fiber, may park and may set
    /// values again.
    #[inline(always)]
    pub(crate) fn run_destructors(&self) {
        if self.values().is_some() {
            self.run_rounds();
        }
    }

    #[cold]
    fn run_rounds(&self) {
        for _ in 0..DESTRUCTOR_ITERATIONS {
            let mut ran = false;
            for (i, key) in KEYS.iter().enumerate() {
                let value = self.get(i as c_uint);
                let destructor = key.destructor.load(Ordering::Relaxed);
                if value.is_null() {
                    continue;
                }
                let _ = self.set(i as c_uint, null_mut());
                if destructor != 0 {
                    // SAFETY: a non-zero destructor was stored from a valid one, and its key still
                    // exists.
                    let destructor =
                        unsafe { core::mem::transmute::<usize, Destructor>(destructor) };
                    destructor(value);
                    ran = true;
                }
            }
            if !ran {
                break;
            }
        }
        // SAFETY: only the fiber itself touches its values, and it runs no foreign code any more.
        unsafe { *self.0.get() = None };
    }

    /// In a forked child: leaks the values of a fiber that does not exist there.
    ///
    /// # Safety
    /// No code uses the values any more.
    pub(crate) unsafe fn forget(&self) {
        // SAFETY: our caller makes the same promise.
        unsafe { self.0.get().write(None) };
    }
}
