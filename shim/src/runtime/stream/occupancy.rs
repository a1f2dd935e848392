//! The record of the streams that a thread's fibers are inside.
//!
//! There are two kinds of entries. Entries of functions in the jump tables form a stack: such a
//! function parks only in the shim, and each park of the shim removes the running fiber's entries
//! and restores them afterwards. Entries of flockfile, and of streams whose functions belong to the
//! program, name their fiber, because it may run other code in between and park elsewhere.
//!
//! A park in the shim leaves all of the fiber's streams ([`parked`]). For a fiber that is in no
//! stream this costs two loads.

use super::layout::File;
use crate::runtime::stream::parked::{self, LeftStream};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr::null_mut;

/// The maximum nesting depth of functions of the jump tables. One that reads the standard input may
/// write the standard output. Entries left behind by a jump count until they are found to be stale.
const DEPTH: usize = 16;

#[derive(Clone, Copy)]
struct OccupiedStream {
    file: *mut File,
    /// The stack address of the function. If a later function finds an entry at or below its own
    /// address, the entry's function has ended by a longjmp(3) without removing its entry.
    frame: usize,
    /// The function must release the stream's lock once more than it was taken.
    owes_unlock: bool,
}

const NONE: OccupiedStream = OccupiedStream {
    file: null_mut(),
    frame: 0,
    owes_unlock: false,
};

/// A stream that a fiber is inside, with the fiber's name.
struct LockedStream {
    fiber: *mut c_void,
    file: *mut File,
}

/// The streams that the fibers of an attached thread are inside.
pub struct Occupancy {
    depth: Cell<usize>,
    /// The length of `held`.
    holds: Cell<usize>,
    entries: [Cell<OccupiedStream>; DEPTH],
    held: RefCell<Vec<LockedStream>>,
    /// The fibers that are parked in the shim and have left streams for that time.
    parked: RefCell<HashSet<*const c_void>>,
}

/// The entries of a fiber that is parked.
struct SavedStreams {
    depth: usize,
    entries: [OccupiedStream; DEPTH],
}

impl Occupancy {
    pub fn new() -> Self {
        Self {
            depth: Cell::new(0),
            holds: Cell::new(0),
            entries: [const { Cell::new(NONE) }; DEPTH],
            held: RefCell::new(Vec::new()),
            parked: RefCell::default(),
        }
    }

    /// Whether a fiber that is running, or parked outside of the shim, is inside a stream.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.depth.get() | self.holds.get() != 0
    }

    /// Parks `fiber`, the running one, which leaves its streams for that time.
    #[cold]
    #[inline(never)]
    pub fn park(&self, fiber: *mut c_void, park: impl FnOnce()) {
        self.parked.borrow_mut().insert(fiber);
        let mut saved = self.save();
        let mut held = self.take_held(fiber);
        let files = saved.files().chain(held.iter().map(|held| held.file));
        // SAFETY: the fiber is inside these streams, so they are open; `leave` skips a stream that
        // it already left.
        let left: Vec<LeftStream> = files
            .filter_map(|file| unsafe { parked::leave(file, fiber) })
            .collect();
        park();
        for left in left {
            // SAFETY: the fiber has just left the stream, which stayed open because the fiber is
            // inside it.
            if unsafe { parked::re_enter(&left) } {
                saved.owe_unlock(left.file());
            }
        }
        self.restore(saved);
        self.holds.update(|n| n + held.len());
        self.held.borrow_mut().append(&mut held);
        self.parked.borrow_mut().remove(&fiber.cast_const());
    }

    /// Whether `fiber` is parked in the shim and inside a stream.
    pub fn is_parked_inside(&self, fiber: *const c_void) -> bool {
        self.parked.borrow().contains(&fiber)
    }

    /// A jump-table function whose frame is at the stack address `frame` enters `file`. Returns how
    /// deep it is nested, for [`Self::leave`].
    #[inline(always)]
    pub fn enter(&self, file: *mut File, frame: usize) -> usize {
        let mut depth = self.depth.get();
        // Drop entries that a jump left behind.
        while depth > 0 && self.entries[depth - 1].get().frame <= frame {
            depth -= 1;
        }
        if depth < DEPTH {
            self.entries[depth].set(OccupiedStream {
                file,
                frame,
                owes_unlock: false,
            });
            self.depth.set(depth + 1);
        }
        depth
    }

    /// The function leaves its stream. Returns whether it must release the stream's lock once more
    /// than it was taken.
    #[inline(always)]
    pub fn leave(&self, depth: usize) -> bool {
        self.depth.set(depth);
        depth < DEPTH && self.entries[depth].get().owes_unlock
    }

    /// Runs `call`, a function of the program that a stream calls on `fiber`. While it runs, the
    /// entries of `fiber`, which is running, are of the kind that names the fiber.
    pub fn keep_over<R>(&self, fiber: *mut c_void, call: impl FnOnce() -> R) -> R {
        let saved = self.save();
        saved.files().for_each(|file| self.add_held(fiber, file));
        let result = call();
        saved.files().for_each(|file| self.remove_held(fiber, file));
        self.restore(saved);
        result
    }

    fn save(&self) -> SavedStreams {
        let depth = self.depth.replace(0);
        SavedStreams {
            depth,
            entries: std::array::from_fn(|n| {
                if n < depth {
                    self.entries[n].get()
                } else {
                    NONE
                }
            }),
        }
    }

    fn restore(&self, saved: SavedStreams) {
        for (cell, entry) in self.entries.iter().zip(saved.entries).take(saved.depth) {
            cell.set(entry);
        }
        self.depth.set(saved.depth);
    }

    fn take_held(&self, fiber: *mut c_void) -> Vec<LockedStream> {
        if self.holds.get() == 0 {
            return Vec::new();
        }
        let mut held = self.held.borrow_mut();
        let taken: Vec<LockedStream> = held.extract_if(.., |held| held.fiber == fiber).collect();
        self.holds.update(|n| n - taken.len());
        taken
    }

    /// `fiber` has locked `file`, or is in a function of the program that the stream calls.
    pub fn add_held(&self, fiber: *mut c_void, file: *mut File) {
        self.held.borrow_mut().push(LockedStream { fiber, file });
        self.holds.update(|n| n + 1);
    }

    /// Undoes the last [`Self::add_held`] with these arguments.
    pub fn remove_held(&self, fiber: *mut c_void, file: *mut File) {
        let mut held = self.held.borrow_mut();
        if let Some(last) = held
            .iter()
            .rposition(|held| held.fiber == fiber && held.file == file)
        {
            held.remove(last);
            self.holds.update(|n| n - 1);
        }
    }

    /// `file` is about to be closed: drops entries that a jump out of it left behind.
    pub fn forget(&self, file: *mut File) {
        let entries = self.entries.iter().take(self.depth.get());
        entries
            .filter(|entry| entry.get().file == file)
            .for_each(|entry| {
                entry.update(|entry| OccupiedStream {
                    file: null_mut(),
                    ..entry
                });
            });
        if self.holds.get() > 0 {
            self.held.borrow_mut().retain(|held| held.file != file);
            self.holds.set(self.held.borrow().len());
        }
    }

    /// `fiber` has ended, perhaps inside of streams, whose locks stay with its thread.
    pub fn forget_fiber(&self, fiber: *mut c_void) {
        self.take_held(fiber);
        self.parked.borrow_mut().remove(&fiber.cast_const());
    }

    /// In the child of a fork: streams that the forking fiber has locked stay locked by it.
    pub fn inherit(&self, parent: &Self, fiber: *mut c_void) {
        if let Ok(held) = parent.held.try_borrow() {
            held.iter()
                .filter(|held| held.fiber == fiber)
                .for_each(|held| self.add_held(fiber, held.file));
        }
    }
}

impl SavedStreams {
    /// The streams, outermost first.
    fn files(&self) -> impl Iterator<Item = *mut File> {
        let entries = self.entries.iter().take(self.depth);
        entries
            .map(|entry| entry.file)
            .filter(|file| !file.is_null())
    }

    /// Tells the outermost function inside `file` to release its lock once more.
    fn owe_unlock(&mut self, file: *mut File) {
        // There is no entry for a stream that was locked by flockfile, which had its lock.
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.file == file) {
            entry.owes_unlock = true;
        }
    }
}
