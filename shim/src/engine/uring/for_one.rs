//! The ring of a thread with a single fiber: the program's own main thread.
//!
//! io_uring hands operations that would block to a kernel worker thread, and one worker then stays
//! until the process ends. It counts as a thread of the program, so unshare(2) and setns(2) refuse
//! to move the process to a new user namespace from then on. Therefore such operations go to the
//! thread pool, whose threads can be ended on demand.

use super::Uring;
use crate::engine::{Engine, Request, Sink, SocketCall, Transfer, Wait};
use crate::host::Token;
use format::options::EngineChoice;
use std::ffi::c_int;
use sys::errno::Errno;

pub struct ForOne(pub Uring);

/// Whether `request` may need a kernel worker thread.
fn may_block_kernel(request: &Request) -> bool {
    match request {
        Request::Transfer(Transfer { direct, .. }) if *direct => false,
        Request::Transfer(transfer) => !transfer.at_position(),
        Request::Open { .. } | Request::Close { .. } | Request::Fsync { .. } => true,
        _ => false,
    }
}

impl Engine for ForOne {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn choice(&self) -> EngineChoice {
        self.0.choice()
    }

    fn batches(&self) -> bool {
        self.0.batches()
    }

    fn does_sockets(&self) -> bool {
        self.0.does_sockets()
    }

    fn queue(&mut self, request: &Request, token: Token) -> bool {
        !may_block_kernel(request) && self.0.queue(request, token)
    }

    fn accept_now(&mut self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        self.0.accept_now(call)
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.0.cancel(token)
    }

    fn submit(&mut self) {
        self.0.submit();
    }

    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno> {
        self.0.poll(wait, sink)
    }

    fn shut_down(self: Box<Self>, in_flight: usize) -> Vec<(Token, i32)> {
        Box::new(self.0).shut_down(in_flight)
    }
}
