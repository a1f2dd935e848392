//! The history of a thread's opens: how long they took, and which paths were files.

use crate::state::recent_paths::RecentPathCache;
use policy::Opens;
use std::cell::Cell;

pub struct OpenHistory {
    speed: Cell<Opens>,
    recent_paths: RecentPathCache,
}

impl OpenHistory {
    pub fn new() -> Self {
        Self {
            speed: Cell::new(Opens::NOTHING),
            recent_paths: RecentPathCache::new(),
        }
    }

    /// The speed of the thread's opens so far.
    pub fn speed(&self) -> &Cell<Opens> {
        &self.speed
    }

    pub fn recent_paths(&self) -> &RecentPathCache {
        &self.recent_paths
    }
}
