//! Operations in flight: a slab per thread; an operation's index is the token its completion brings back.
//!
//! Invariant: a flight lives on its fiber's stack, from before it is queued until its completion is reaped, and the
//! fiber is parked for all of that time. So the memory the kernel owns, and the flight itself, stay in place.

use crate::engine::{Request, Token};
use std::ffi::{c_int, c_void};

/// One operation, on the stack of the fiber that waits for it. Small: with many fibers the stacks are what misses the
/// cache.
pub struct Flight {
    pub fiber: *mut c_void,
    /// The call's row in the table of hooks, for reports.
    pub row: u32,
    /// As a system call's; meaningful after the fiber was unparked.
    pub result: i32,
    /// The descriptor, for reports; -1 for none.
    pub fd: c_int,
    /// Its completion was reaped.
    pub landed: bool,
    /// The fiber is parked until it lands; else it only has to be noted.
    pub awaited: bool,
    /// Another flight that the fiber waits for at the same time: whichever lands first ends the wait. Null for none.
    pub partner: *mut Flight,
}

impl Flight {
    pub fn new(fiber: *mut c_void, row: usize, request: &Request) -> Self {
        Self {
            fiber,
            row: row as u32,
            result: -libc::ECANCELED,
            fd: request.fd().unwrap_or(-1),
            landed: false,
            awaited: true,
            partner: std::ptr::null_mut(),
        }
    }
}

enum Slot {
    /// The index of the next vacant slot.
    Vacant(u32),
    Taken(*mut Flight),
}

/// The flights of one thread.
pub struct Flights {
    slots: Vec<Slot>,
    vacant: u32,
    taken: usize,
}

const NONE: u32 = u32::MAX;

impl Flights {
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant: NONE,
            taken: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.taken
    }

    #[inline(always)]
    pub fn add(&mut self, flight: *mut Flight) -> Token {
        self.taken += 1;
        let token = self.vacant;
        match self.slots.get_mut(token as usize) {
            Some(slot) => {
                if let Slot::Vacant(next) = *slot {
                    self.vacant = next;
                }
                *slot = Slot::Taken(flight);
                token
            }
            None => {
                self.slots.push(Slot::Taken(flight));
                self.slots.len() as Token - 1
            }
        }
    }

    /// Takes out the flight of `token`; None for a token that is not in flight.
    #[inline]
    pub fn remove(&mut self, token: Token) -> Option<*mut Flight> {
        let slot = self.slots.get_mut(token as usize)?;
        let Slot::Taken(flight) = *slot else { return None };
        *slot = Slot::Vacant(self.vacant);
        self.vacant = token;
        self.taken -= 1;
        Some(flight)
    }

    pub fn iter(&self) -> impl Iterator<Item = *mut Flight> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Taken(flight) => Some(*flight),
            Slot::Vacant(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_reused_and_an_unknown_token_is_nobodys() {
        let mut flights = Flights::new();
        let at = |n: usize| std::ptr::without_provenance_mut::<Flight>(n * 8);
        assert_eq!((0..4).map(|n| flights.add(at(n + 1))).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(flights.remove(1), Some(at(2)));
        assert_eq!(flights.remove(1), None);
        assert_eq!(flights.remove(9), None);
        assert_eq!(flights.len(), 3);
        assert_eq!(flights.add(at(7)), 1);
        assert_eq!(flights.add(at(8)), 4);
        assert_eq!(flights.iter().count(), 5);
    }
}
