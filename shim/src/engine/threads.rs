//! The thread engine: streams are waited for by epoll, everything else is the offload pool's.
//!
//! This is the design of spare I/O threads that asynchronous I/O is measured against, and what works everywhere.

use super::readiness::Readiness;
use super::{Engine, Request, Sink, Token, Wait};
use crate::errno::Errno;
use std::ffi::c_int;

pub struct Threads {
    readiness: Readiness,
}

impl Threads {
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        Ok(Self {
            readiness: Readiness::new(Some(wake_fd))?,
        })
    }
}

impl Engine for Threads {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn batches(&self) -> bool {
        false
    }

    fn queue(&mut self, request: &Request, token: Token) -> bool {
        match *request {
            Request::Transfer(transfer) if !transfer.at_position() => false,
            Request::Socket(call) if !call.can_be_tried() => false,
            Request::Transfer(_) | Request::Socket(_) | Request::Poll { .. } => self.readiness.add(request, token),
            _ => false,
        }
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.readiness.remove(token)
    }

    fn submit(&mut self) {}

    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) {
        if !matches!(wait, Wait::No) || !self.readiness.is_empty() {
            self.readiness.poll(wait, sink);
        }
    }

    fn abandon(self: Box<Self>) {}
}
