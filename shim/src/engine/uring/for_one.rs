//! The ring of a thread that has one fiber, the program's own main thread.
//!
//! What io_uring cannot start without blocking goes to a kernel thread, one of which then stays as
//! long as the process: it counts as a thread of the program, which unshare(2) and setns(2) refuse
//! to move to a new user namespace after that. So such operations are left to the thread pool,
//! whose threads end when they have to.

use super::Uring;
use crate::conf::EngineChoice;
use crate::engine::{Engine, Request, Sink, SocketCall, Token, Transfer, Wait};
use crate::errno::Errno;
use std::ffi::c_int;

pub struct ForOne(pub Uring);

/// Whether a kernel thread may have to carry out `request`.
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

    fn rung(&self) -> EngineChoice {
        self.0.rung()
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

    fn surrender(self: Box<Self>, in_flight: usize) -> Vec<(Token, i32)> {
        Box::new(self.0).surrender(in_flight)
    }
}
