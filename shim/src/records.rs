//! Memory in which a fiber finds what libc keeps in static memory for whole processes or threads:
//! `getpwnam`, `strerror`, `h_errno` and their kin.
//!
//! A record belongs to one fiber and one function of libc's; the next call of that function on that
//! fiber overwrites it, as the next call of a thread would. Nobody tells the shim of a fiber's end,
//! so a record is left to the next fiber with the same address, and a thread keeps at most
//! [`MOST`]: then the one that was made first is taken for the newest.
//!
//! Invariant: a record is never freed, for the program may hold its address as long as that of
//! libc's own static memory.

use crate::critical::{self, Mutex};
use crate::fork::Renewable;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;

/// How many records a thread keeps.
const MOST: usize = 1 << 14;

/// A function's result: a structure of libc's and what it points to.
pub struct Record {
    /// Larger than any of these structures.
    pub entry: [u64; 16],
    pub text: Vec<u8>,
}

impl Record {
    /// Room for most entries of /etc/passwd; it grows where needed.
    const ROOM: usize = 512;
}

/// A fiber, and the row of the function.
type Key = (*const c_void, usize);

/// The records of one thread's fibers.
#[derive(Default)]
pub struct Records(RefCell<Kept>);

#[derive(Default)]
struct Kept {
    of: HashMap<Key, &'static mut Record>,
    /// The oldest first.
    order: VecDeque<Key>,
}

/// Records of threads that were detached.
static SPARE: Renewable<Mutex<Vec<&'static mut Record>>> = Renewable::new(Mutex::new(Vec::new()));

/// In the child of a fork, where another thread may have been at the spare ones.
///
/// # Safety
/// As [`Renewable::renew`].
pub unsafe fn renew() {
    // SAFETY: vouched for by the caller.
    unsafe { SPARE.renew(Mutex::new(Vec::new())) };
}

impl Records {
    /// The record of `fiber` for the function of `row`. It stays in place, and is the fiber's
    /// alone.
    pub fn of(&self, fiber: *const c_void, row: usize) -> *mut Record {
        let _section = critical::enter();
        let kept = &mut *self.0.borrow_mut();
        let key = (fiber, row);
        if !kept.of.contains_key(&key) {
            let oldest = (kept.order.len() == MOST)
                .then(|| kept.order.pop_front())
                .flatten();
            let record = oldest
                .and_then(|oldest| kept.of.remove(&oldest))
                .unwrap_or_else(fresh);
            kept.of.insert(key, record);
            kept.order.push_back(key);
        }
        &raw mut **kept.of.get_mut(&key).expect("just inserted")
    }

    /// The record that [`Self::of`] has made before, if it has.
    pub fn existing(&self, fiber: *const c_void, row: usize) -> Option<*mut Record> {
        let _section = critical::enter();
        let kept = &mut *self.0.borrow_mut();
        kept.of
            .get_mut(&(fiber, row))
            .map(|record| &raw mut **record)
    }
}

impl Drop for Records {
    /// Others reuse them, as calls of libc's reuse its static memory.
    fn drop(&mut self) {
        let kept = std::mem::take(self.0.get_mut());
        SPARE.get().lock().extend(kept.of.into_values());
    }
}

fn fresh() -> &'static mut Record {
    SPARE.get().lock().pop().unwrap_or_else(|| {
        Box::leak(Box::new(Record {
            entry: [0; 16],
            text: vec![0; Record::ROOM],
        }))
    })
}
