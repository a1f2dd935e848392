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
