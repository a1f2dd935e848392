//! Which calls are cancellation points, as listed in pthreads(7): where a fiber may end after its
//! host cancelled it.
//!
//! The host requests the end of the call that a fiber is parked in (`aioshim_cancel`). If that wait
//! can be interrupted, it is, as by a signal. The host is told (`cancelled`) only when the call
//! holds none of the shim's resources and has had no effect for the caller; the host may end the
//! fiber there ([`crate::runtime::call::Call::cancellation_point`]). If the fiber does not end, the
//! call fails with EINTR. A call that has moved data returns the number of bytes. A fiber whose
//! calls never block is checked whenever its quantum is used up.

/// Whether the call is a cancellation point; `row` is its index in [`calltable::NAMES`].
///
/// The points are all calls that may block, except locks and system(3), which changes the signal
/// dispositions of the whole process while it waits.
#[inline]
pub fn is_point(row: usize) -> bool {
    calltable::is_cancellation_point(row)
}

/// Whether the call is a cancellation point while it waits. Most calls of fcntl(2) are none, but
/// the only ones that wait take a lock with F_SETLKW.
pub fn is_waiting_point(row: usize) -> bool {
    const FCNTL: [usize; 2] = [calltable::index_of("fcntl"), calltable::index_of("fcntl64")];
    is_point(row) || FCNTL.contains(&row)
}
