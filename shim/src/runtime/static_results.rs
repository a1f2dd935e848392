//! Per-fiber memory for results that libc keeps in static memory per process or per thread:
//! `getpwnam`, `strerror`, `h_errno` and similar functions.
//!
//! A record belongs to one fiber and one libc function. The next call of that function on that
//! fiber overwrites it, as the next call of a thread would. When the host tells that a fiber has
//! ended, other fibers reuse its records. If it does not tell, the next fiber at the same address
//! inherits them. A thread keeps at most [`MAX_RESULTS`] records; after that a new record reuses
//! the oldest.
//!
//! Invariant: a record is never freed, because the program may keep its address as long as an
//! address in static memory.

use crate::context::{self, Mutex};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;

/// The maximum number of records of a thread.
const MAX_RESULTS: usize = 1 << 14;

/// The result of a function: a libc structure and the data that it points to. The structure comes
/// first, because `h_errno` is found at the record's address.
#[repr(C)]
pub struct StaticResult {
    /// Larger than any of these structures.
    pub entry: [u64; 16],
    pub text: Vec<u8>,
}

impl StaticResult {
    /// Enough for most entries of /etc/passwd; the text grows if necessary.
    const ROOM: usize = 512;
}

/// A fiber, and the function's index in the call table.
type Key = (*const c_void, usize);

/// The records of one thread's fibers.
#[derive(Default)]
pub struct StaticResults(RefCell<Kept>);

#[derive(Default)]
struct Kept {
    of: BTreeMap<Key, &'static mut StaticResult>,
    /// The oldest record comes first.
    order: VecDeque<Key>,
    /// Records of fibers that have ended.
    spare: Vec<&'static mut StaticResult>,
}

fork_reset! {
    /// Records of threads that have detached.
    static SPARE: Mutex<Vec<&'static mut StaticResult>> = Mutex::new(Vec::new());
}

impl StaticResults {
    /// The record of `fiber` for the function of `row`. It stays in place, and no other fiber uses
    /// it.
    pub fn of(&self, fiber: *const c_void, row: usize) -> *mut StaticResult {
        let _section = context::critical();
        let kept = &mut *self.0.borrow_mut();
        let key = (fiber, row);
        if !kept.of.contains_key(&key) {
            let oldest = (kept.order.len() == MAX_RESULTS)
                .then(|| kept.order.pop_front())
                .flatten();
            let record = oldest
                .and_then(|oldest| kept.of.remove(&oldest))
                .or_else(|| kept.spare.pop())
                .unwrap_or_else(fresh);
            record.entry = [0; 16];
            kept.of.insert(key, record);
            kept.order.push_back(key);
        }
        &raw mut **kept.of.get_mut(&key).expect("just inserted")
    }

    /// `fiber` has ended.
    pub fn forget(&self, fiber: *const c_void) {
        let kept = &mut *self.0.borrow_mut();
        let before = kept.of.len();
        while let Some((&key, _)) = kept.of.range((fiber, 0)..=(fiber, usize::MAX)).next() {
            kept.spare.extend(kept.of.remove(&key));
        }
        if kept.of.len() < before {
            kept.order.retain(|(of, _)| *of != fiber);
        }
    }

    /// The record that [`Self::of`] made earlier, if any.
    pub fn existing(&self, fiber: *const c_void, row: usize) -> Option<*mut StaticResult> {
        let _section = context::critical();
        let kept = &mut *self.0.borrow_mut();
        kept.of
            .get_mut(&(fiber, row))
            .map(|record| &raw mut **record)
    }
}

impl Drop for StaticResults {
    /// Later threads reuse the records, as calls of libc reuse its static memory.
    fn drop(&mut self) {
        let kept = std::mem::take(self.0.get_mut());
        let mut spare = SPARE.get().lock();
        spare.extend(kept.of.into_values());
        spare.extend(kept.spare);
    }
}

fn fresh() -> &'static mut StaticResult {
    SPARE.get().lock().pop().unwrap_or_else(|| {
        Box::leak(Box::new(StaticResult {
            entry: [0; 16],
            text: vec![0; StaticResult::ROOM],
        }))
    })
}
