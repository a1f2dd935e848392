//! Tests on a ring of which the kernel takes a part at a time, and on rings that cannot be used.

use super::*;
use rustix::event::{EventfdFlags, eventfd};
use std::io::Write;
use std::os::fd::{IntoRawFd, OwnedFd};

struct Results(Vec<(Token, i32)>);

impl Sink for Results {
    fn done(&mut self, token: Token, result: i32) {
        self.0.push((token, result));
    }

    fn offload(&mut self, _: Token, _: Request) {
        panic!("io_uring gives nothing to the pool");
    }
}

/// An engine whose kernel side stops at an entry that it rejects, as it also does when it runs
/// out of memory. None if the kernel refuses io_uring.
fn engine(wake: &OwnedFd) -> Option<Uring> {
    descriptors::init();
    let engine = IoUring::new(8)
        .map_err(Errno::from)
        .and_then(|ring| Uring::with_ring(ring, wake.as_raw_fd()));
    engine
        .inspect_err(|error| testprogs::skip(&format!("io_uring: {error}")))
        .ok()
}

#[test]
fn the_kernel_takes_a_part_of_the_queue_and_the_rest_before_a_close() {
    let wake = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let Some(mut engine) = engine(&wake) else {
        return;
    };
    let (first, mut first_writer) = std::io::pipe().unwrap();
    let (last, mut last_writer) = std::io::pipe().unwrap();
    let poll = |fd: &std::io::PipeReader| Request::Poll {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
    };
    assert!(engine.queue(&poll(&first), 1));
    let rejected = opcode::Nop::new()
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
        .user_data(SILENT);
    engine.push(&rejected, INTERNAL);
    assert!(engine.queue(&poll(&last), 2));

    let mut results = Results(Vec::new());
    engine.poll(Wait::No, &mut results).unwrap();
    assert_eq!(engine.queued, [2]);
    assert!(engine.has_unsubmitted() && engine.is_stalled() && results.0.is_empty());

    engine.submit();
    assert!(!engine.has_unsubmitted());
    // From here on the number refers to a pipe without a writer: POLLHUP.
    let (unconnected, _) = std::io::pipe().unwrap();
    let mut number = OwnedFd::from(last);
    rustix::io::dup2(&unconnected, &mut number).unwrap();
    for writer in [&mut first_writer, &mut last_writer] {
        writer.write_all(b"x").unwrap();
    }
    while results.0.len() < 2 {
        engine.poll(Wait::Forever, &mut results).unwrap();
    }
    results.0.sort_unstable();
    let readable = i32::from(libc::POLLIN);
    assert_eq!(results.0, [(1, readable), (2, readable)]);
}

#[track_caller]
fn is_closed(fd: c_int) {
    assert!(!descriptors::is_shim_owned(fd), "still marked");
    assert!(sys::same_open_file(fd, fd).is_none(), "still open");
}

#[test]
fn a_ring_that_cannot_be_mapped_is_closed() {
    descriptors::init();
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let eventfd = descriptors::adopt(eventfd.into_raw_fd()).unwrap();
    let mut params = rustix::io_uring::io_uring_params::default();
    params.sq_entries = 8;
    params.cq_entries = 16;
    let mapped = setup::map(eventfd, params);
    assert_eq!(mapped.err(), Some(Errno(libc::ENODEV)));
    is_closed(eventfd);
}

#[test]
fn a_ring_that_takes_no_entry_is_closed() {
    let wake = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    descriptors::init();
    let ring = match IoUring::builder().setup_r_disabled().build(8) {
        Ok(ring) => ring,
        Err(error) => return testprogs::skip(&format!("io_uring: {error}")),
    };
    let fd = ring.as_raw_fd();
    descriptors::mark_shim_owned(fd, true);
    let engine = Uring::with_ring(ring, wake.as_raw_fd());
    assert_eq!(engine.err(), Some(Errno(libc::EBADFD)));
    is_closed(fd);
}
