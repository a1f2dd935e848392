//! The thread engine: epoll waits for streams, and the offload pool does everything else. If the
//! process has no free descriptor for an epoll instance, the pool waits for streams too.
//!
//! This is the classic design with a pool of I/O threads. It works everywhere, and the asynchronous
//! engines are measured against it.

use super::readiness::Readiness;
use super::{Engine, Request, Sink, Wait};
use crate::host::Token;
use format::options::EngineChoice;
use std::ffi::c_int;
use sys::errno::Errno;

pub struct Threads {
    readiness: Option<Readiness>,
}

impl Threads {
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        Ok(Self {
            readiness: Some(Readiness::new(wake_fd)?),
        })
    }

    pub fn without_descriptors() -> Self {
        Self { readiness: None }
    }
}

impl Engine for Threads {
    fn name(&self) -> &'static str {
        if self.readiness.is_some() {
            "threads"
        } else {
            "threads without descriptors"
        }
    }

    fn sleeps(&self) -> bool {
        self.readiness.is_some()
    }

    fn has_operations(&self) -> bool {
        self.readiness
            .as_ref()
            .is_some_and(|readiness| !readiness.is_empty())
    }

    fn ready_descriptor(&mut self) -> Option<c_int> {
        self.readiness.as_ref().map(Readiness::fd)
    }

    fn batches(&self) -> bool {
        false
    }

    fn queue(&mut self, request: &Request, token: Token) -> bool {
        let Some(readiness) = &mut self.readiness else {
            return false;
        };
        match *request {
            Request::Transfer(transfer) if !transfer.at_position() => false,
            Request::Socket(call) if !call.can_be_tried() => false,
            Request::Transfer(_)
            | Request::Socket(_)
            | Request::Poll { .. }
            | Request::AwaitSignal { .. } => readiness.add(request, token),
            _ => false,
        }
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.readiness
            .as_mut()
            .is_some_and(|readiness| readiness.remove(token))
    }

    fn submit(&mut self) {}

    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno> {
        if let Some(readiness) = &mut self.readiness
            && (!matches!(wait, Wait::No) || !readiness.is_empty())
        {
            readiness.poll(wait, sink);
        }
        Ok(())
    }

    fn shut_down(self: Box<Self>, _in_flight: usize) -> Vec<(Token, i32)> {
        // Only `poll` attempts operations, so none can be in progress.
        Vec::new()
    }

    fn choice(&self) -> EngineChoice {
        EngineChoice::Threads
    }
}
