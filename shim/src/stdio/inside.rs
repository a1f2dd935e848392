//! Which streams the fibers of a thread are inside.
//!
//! Two kinds of entries. Those of functions of the jump tables are a stack: such a function parks
//! nowhere but in the shim, and each park of the shim's takes the running fiber's entries away and
//! brings them back. Those of flockfile, and of streams whose functions are the program's own, name
//! their fiber: it may run other code meanwhile, and park elsewhere.
//!
//! A park in the shim leaves all of the fiber's streams ([`monitor`]). One with none costs two
//! loads.

use super::layout::File;
use super::lock;
use super::monitor::{self, Left};
use crate::{critical, tls};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::null_mut;

/// How deep functions of the jump tables nest at most: one that reads the standard input writes the
/// standard output. What a jump out of them left behind counts, until it is found to be gone.
const DEPTH: usize = 16;

#[derive(Clone, Copy)]
struct Entry {
    file: *mut File,
    /// Where on the stack the function is: one that was jumped out of is below the next.
    frame: usize,
    /// The stream's lock is to be given back once more than it was taken.
    made_up: bool,
}

const NONE: Entry = Entry {
    file: null_mut(),
    frame: 0,
    made_up: false,
};

/// A stream that a fiber has by name.
struct Held {
    fiber: *mut c_void,
    file: *mut File,
}

/// The streams that the fibers of an attached thread are inside.
pub struct Files {
    depth: Cell<usize>,
    /// How many are in `held`.
    holds: Cell<usize>,
    entries: [Cell<Entry>; DEPTH],
    held: RefCell<Vec<Held>>,
}

/// The entries of a fiber that is away.
struct Entries {
    depth: usize,
    entries: [Entry; DEPTH],
}

impl Files {
    pub fn new() -> Self {
        Self {
            depth: Cell::new(0),
            holds: Cell::new(0),
            entries: [const { Cell::new(NONE) }; DEPTH],
            held: RefCell::new(Vec::new()),
        }
    }

    /// Whether any fiber that runs, or is parked elsewhere than in the shim, is inside a stream.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.depth.get() | self.holds.get() != 0
    }

    /// Parks `fiber`, the running one, which leaves its streams meanwhile.
    #[cold]
    #[inline(never)]
    pub fn park(&self, fiber: *mut c_void, park: impl FnOnce()) {
        let mut away = self.take_entries();
        let mut held = self.take_held(fiber);
        let files = away.files().chain(held.iter().map(|held| held.file));
        // SAFETY: the fiber is inside these, so they are open; the second time one is found to be
        // left already.
        let left: Vec<Left> = files
            .filter_map(|file| unsafe { monitor::leave(file, fiber) })
            .collect();
        park();
        for left in left {
            // SAFETY: just left; the stream stayed open, for the fiber is inside.
            if unsafe { monitor::come_back(&left) } {
                away.make_up(left.file());
            }
        }
        self.bring_entries(away);
        self.holds.update(|n| n + held.len());
        self.held.borrow_mut().append(&mut held);
    }

    fn take_entries(&self) -> Entries {
        let depth = self.depth.replace(0);
        Entries {
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

    fn bring_entries(&self, away: Entries) {
        for (cell, entry) in self.entries.iter().zip(away.entries).take(away.depth) {
            cell.set(entry);
        }
        self.depth.set(away.depth);
    }

    fn take_held(&self, fiber: *mut c_void) -> Vec<Held> {
        if self.holds.get() == 0 {
            return Vec::new();
        }
        let mut held = self.held.borrow_mut();
        let taken: Vec<Held> = held.extract_if(.., |held| held.fiber == fiber).collect();
        self.holds.update(|n| n - taken.len());
        taken
    }

    /// `fiber` has locked `file`, or is in a function of the program's that is called by it.
    pub fn hold(&self, fiber: *mut c_void, file: *mut File) {
        self.held.borrow_mut().push(Held { fiber, file });
        self.holds.update(|n| n + 1);
    }

    /// The opposite of the last [`Self::hold`] of the two.
    pub fn let_go(&self, fiber: *mut c_void, file: *mut File) {
        let mut held = self.held.borrow_mut();
        if let Some(last) = held
            .iter()
            .rposition(|held| held.fiber == fiber && held.file == file)
        {
            held.remove(last);
            self.holds.update(|n| n - 1);
        }
    }

    /// `file` is about to be closed: whoever left entries of it, jumping out, is not inside.
    pub fn forget(&self, file: *mut File) {
        let entries = self.entries.iter().take(self.depth.get());
        entries
            .filter(|entry| entry.get().file == file)
            .for_each(|entry| {
                entry.update(|entry| Entry {
                    file: null_mut(),
                    ..entry
                });
            });
        if self.holds.get() > 0 {
            self.held.borrow_mut().retain(|held| held.file != file);
            self.holds.set(self.held.borrow().len());
        }
    }

    /// In the child of a fork: what the forking fiber has locked, it has locked there.
    pub fn inherit(&self, parent: &Self, fiber: *mut c_void) {
        if let Ok(held) = parent.held.try_borrow() {
            held.iter()
                .filter(|held| held.fiber == fiber)
                .for_each(|held| self.hold(fiber, held.file));
        }
    }
}

impl Entries {
    /// The streams, outermost first.
    fn files(&self) -> impl Iterator<Item = *mut File> {
        let entries = self.entries.iter().take(self.depth);
        entries
            .map(|entry| entry.file)
            .filter(|file| !file.is_null())
    }

    /// The lock of `file` is to be given back by the outermost function inside it.
    fn make_up(&mut self, file: *mut File) {
        // Locked by name: then it had its lock.
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.file == file) {
            entry.made_up = true;
        }
    }
}

/// A function of a jump table, inside its stream.
pub struct Inside {
    files: *const Files,
    depth: usize,
}

impl Inside {
    /// Enters `file`; waits while a fiber is parked inside. None when the stream must be left
    /// alone.
    ///
    /// # Safety
    /// The stream is open.
    #[inline(always)]
    pub unsafe fn enter(file: *mut File) -> Option<Self> {
        // SAFETY: the caller's promise.
        if monitor::may_be_marked(file) && !unsafe { monitor::await_free(file) } {
            return None;
        }
        // SAFETY: a thread stays attached while code of its fibers runs.
        let Some(thread) = (unsafe { tls::here().as_ref() }) else {
            return Some(Self {
                files: std::ptr::null(),
                depth: 0,
            });
        };
        let files = thread.files();
        let here = 0u8;
        let frame = &raw const here as usize;
        let mut depth = files.depth.get();
        // What was jumped out of is gone.
        while depth > 0 && files.entries[depth - 1].get().frame <= frame {
            depth -= 1;
        }
        if depth < DEPTH {
            files.entries[depth].set(Entry {
                file,
                frame,
                made_up: false,
            });
            files.depth.set(depth + 1);
        }
        Some(Self { files, depth })
    }

    /// Leaves it.
    ///
    /// # Safety
    /// `file` is the one entered, by this fiber; it may be gone.
    #[inline(always)]
    pub unsafe fn leave(self, file: *mut File) {
        // SAFETY: a thread stays attached while code of its fibers runs.
        let Some(files) = (unsafe { self.files.as_ref() }) else {
            return;
        };
        files.depth.set(self.depth);
        if self.depth < DEPTH && files.entries[self.depth].get().made_up {
            // SAFETY: taken by `come_back`, so the stream has a lock, and it is this thread's.
            unsafe { lock::give_back(file) };
        }
    }
}

/// Whether this thread is attached, and not in a signal handler.
#[inline(always)]
pub fn on_attached_thread() -> bool {
    !tls::here().is_null()
}

/// Runs a function of the program's, called inside a stream: the running fiber's entries name it
/// meanwhile.
pub fn lend<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: a thread stays attached while code of its fibers runs.
    let Some(thread) = (unsafe { tls::here().as_ref() }) else {
        return call();
    };
    let fiber = thread.host().running();
    let files = thread.files();
    let away = files.take_entries();
    away.files().for_each(|file| files.hold(fiber, file));
    let result = critical::in_program(thread, call);
    away.files().for_each(|file| files.let_go(fiber, file));
    files.bring_entries(away);
    result
}
