//! Which descriptors the queued operations refer to by their numbers: a set of 256 bits, each of
//! which stands for all descriptors with the same remainder.
//!
//! A descriptor that is closed must first be looked up by the operations that were called with it.
//! Submitting everything queued at each close would end most batches of a server that opens a file
//! for each request.

use crate::engine::{Action, Request, SocketCall};
use std::cell::Cell;
use std::ffi::c_int;

const WORDS: usize = 4;

pub struct QueuedFiles([Cell<u64>; WORDS]);

impl QueuedFiles {
    pub const fn new() -> Self {
        Self([const { Cell::new(0) }; WORDS])
    }

    /// Adds the descriptors of a request that was queued.
    #[inline(always)]
    pub fn add(&self, request: &Request) {
        match request {
            Request::Open { .. } => self.add_all(),
            // The descriptors that the message passes on are in its control data.
            Request::Socket(SocketCall {
                action: Action::SendMessage(_),
                ..
            }) => self.add_all(),
            _ => match request.fd() {
                Some(fd) => {
                    let (word, bit) = self.place(fd);
                    word.set(word.get() | bit);
                }
                None => self.add_all(),
            },
        }
    }

    /// Any descriptor may be in use.
    #[cold]
    fn add_all(&self) {
        self.0.iter().for_each(|word| word.set(u64::MAX));
    }

    /// Whether a queued operation may refer to `fd`. False only if none does.
    #[inline(always)]
    pub fn may_contain(&self, fd: c_int) -> bool {
        let (word, bit) = self.place(fd);
        word.get() & bit != 0
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.get() == 0)
    }

    /// Everything queued was submitted.
    #[inline(always)]
    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.set(0));
    }

    #[inline(always)]
    fn place(&self, fd: c_int) -> (&Cell<u64>, u64) {
        (&self.0[fd as usize / 64 % WORDS], 1 << (fd as u32 % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(fd: c_int) -> Request {
        Request::Poll { fd, events: 0 }
    }

    #[test]
    fn a_queued_descriptor_is_found_until_all_are_submitted() {
        let files = QueuedFiles::new();
        assert!(files.is_empty());
        for fd in [3, 64, 255, 1_000_003] {
            assert!(!files.may_contain(fd));
            files.add(&poll(fd));
            assert!(files.may_contain(fd) && !files.is_empty());
        }
        assert!(!files.may_contain(4) && !files.may_contain(65));
        files.clear();
        assert!(!files.may_contain(3) && files.is_empty());
    }

    #[test]
    fn an_open_and_a_message_may_refer_to_any_descriptor() {
        let message = SocketCall {
            fd: 3,
            flags: 0,
            action: Action::SendMessage(std::ptr::null()),
        };
        let open = Request::Open {
            dir: 5,
            path: std::ptr::null(),
            flags: 0,
            mode: 0,
        };
        for request in [Request::Socket(message), open] {
            let files = QueuedFiles::new();
            files.add(&request);
            assert!((0..256).all(|fd| files.may_contain(fd)));
        }
    }
}
