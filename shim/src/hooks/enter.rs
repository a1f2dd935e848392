//! The path of a call from the exported function to its route, and back.
//!
//! Everything here is generic over the function, so the compiler makes a copy for each name in
//! which the options that the row does not have are gone.

use super::function::{self, Function};
use crate::calls::{self, CResult, Verdict};
use crate::context::{self, Slot};
use crate::runtime::call::Call;
use crate::runtime::release;
use crate::runtime::thread::Thread;
use crate::state::recent_paths;
use calltable::Next;
use policy::Reason;
use std::ffi::{c_int, c_void};
use sys::errno;

/// A libc function whose calls are handled on a fiber, with the parts of its row.
pub trait Hook: Function {
    /// What a call counts for.
    const CHARGE: Charge = Charge::Quantum;

    /// Asked first, wherever the call is made. If it gives a result, nothing else happens.
    #[inline(always)]
    fn instead(_: Self::Arguments) -> Option<Self::Result> {
        None
    }

    /// May answer at once on an attached thread.
    #[inline(always)]
    fn first(_: &Thread, _: Self::Arguments) -> Option<Self::Result> {
        None
    }

    /// May answer on an attached thread before the call begins, if calls are not recorded.
    #[inline(always)]
    fn early(_: &Thread, _: Self::Arguments) -> Option<Self::Result> {
        None
    }

    /// Makes the call on a fiber, by the row's route.
    fn convert(call: &Call<'_>, arguments: Self::Arguments) -> Verdict<Self::Result>;

    /// Forgets the facts about the descriptor that the call closes or changes. Returns the
    /// descriptor if it cannot simply be forgotten.
    #[inline(always)]
    fn forget(_: Self::Arguments) -> Option<c_int> {
        None
    }

    /// Leaves the call to libc.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    #[inline(always)]
    unsafe fn plain(arguments: Self::Arguments) -> Self::Result {
        // SAFETY: our caller guarantees what the libc function requires.
        unsafe { Self::call(arguments) }
    }

    /// Whether an offloaded call may block.
    #[inline(always)]
    fn may_block(_: Self::Arguments) -> bool {
        true
    }

    /// The descriptor that an offloaded call is about.
    #[inline(always)]
    fn file(_: Self::Arguments) -> Option<c_int> {
        None
    }

    /// [`attached`], in a function of its own, so that the exported function needs no stack frame.
    /// Such functions take their arguments one by one, in registers.
    ///
    /// # Safety
    /// As for [`attached`].
    unsafe fn attached(slot: *const Slot, arguments: Self::Arguments) -> Self::Result;

    /// [`watched`], in a function of its own.
    ///
    /// # Safety
    /// As for [`watched`].
    unsafe fn watched(thread: &Thread, arguments: Self::Arguments) -> Self::Result;

    /// [`release()`], in a function of its own.
    ///
    /// # Safety
    /// As for [`release()`].
    unsafe fn release(fd: c_int, arguments: Self::Arguments) -> Self::Result;
}

/// What a call counts for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// It uses up the fiber's quantum; when that is spent, others run after the call.
    Quantum,
    /// Nothing.
    Nothing,
    /// Nothing: as long as a lock is free, no other fiber runs. The host or the user may choose to
    /// leave such calls to libc.
    Lock,
}

/// The exported function of a name, except that rows with the route `Everywhere` have only their
/// handler.
///
/// # Safety
/// The requirements of the libc function apply.
#[inline(always)]
pub unsafe fn enter<H: Hook>(arguments: H::Arguments) -> H::Result {
    if H::RENAMES {
        recent_paths::forget();
    }
    if let Some(result) = H::instead(arguments) {
        return result;
    }
    let slot = context::active();
    if slot.is_null() {
        // SAFETY: our caller guarantees what the libc function requires.
        return unsafe { by_libc::<H>(arguments) };
    }
    // SAFETY: not null, and the thread stays attached while one of its hooks runs.
    let thread = unsafe { Thread::of_slot(slot) };
    // In the exported function itself, because every nanosecond counts here.
    if thread.conversion().allows_fast_path()
        && let Some(result) = H::first(thread, arguments)
    {
        return result;
    }
    // SAFETY: `slot` is this thread's slot; our caller guarantees the rest.
    unsafe { H::attached(slot, arguments) }
}

/// A call on an attached thread.
///
/// # Safety
/// `slot` is this thread's slot. The requirements of the libc function apply.
#[inline(always)]
pub unsafe fn attached<H: Hook>(slot: *const Slot, arguments: H::Arguments) -> H::Result {
    // SAFETY: a thread stays attached while one of its hooks runs.
    let thread = unsafe { Thread::of_slot(slot) };
    if thread.recorder().is_watched() {
        // SAFETY: our caller guarantees what the libc function requires.
        return unsafe { H::watched(thread, arguments) };
    }
    if let Some(result) = H::early(thread, arguments) {
        thread.recorder().stats().of(H::INDEX).inline.add(1);
        return result;
    }
    // SAFETY: our caller guarantees what the libc function requires.
    let result = unsafe { make::<H>(thread, arguments) };
    end::<H>(thread);
    result
}

/// Makes a call by its route, or leaves it to libc. The [`Call`] ends before the libc function
/// runs, so signal handlers run during that function.
///
/// # Safety
/// The requirements of the libc function apply.
#[inline(always)]
unsafe fn make<H: Hook>(thread: &Thread, arguments: H::Arguments) -> H::Result {
    if let Some(fiber) = caller::<H>(thread) {
        let call = Call::new(thread, fiber, H::INDEX, None);
        charge::<H>(&call);
        if let Some(result) = H::convert(&call, arguments).settle_row(&call, H::INDEX) {
            return result;
        }
    }
    // SAFETY: our caller guarantees what the libc function requires.
    unsafe { by_libc::<H>(arguments) }
}

/// Like [`attached`], but keeps a record of the call.
///
/// # Safety
/// The requirements of the libc function apply.
#[inline(always)]
pub unsafe fn watched<H: Hook>(thread: &Thread, arguments: H::Arguments) -> H::Result {
    let record = thread.recorder().begin_call(H::INDEX);
    let call = caller::<H>(thread).map(|fiber| {
        let call = Call::new(thread, fiber, H::INDEX, Some(&record));
        charge::<H>(&call);
        call
    });
    let converted = call.as_ref().and_then(|call| {
        let verdict = match function::next_of::<H>() {
            Next::Converted => H::convert(call, arguments),
            Next::Through => Verdict::PassThrough(Reason::Interposed),
            _ => calls::via::offload::call_libc(call, || {
                // SAFETY: the next function, with its caller's arguments, while that call lasts.
                unsafe { H::call(arguments) }
            }),
        };
        verdict.settle(call)
    });
    let of_fiber = call.is_some();
    // End the call first, so that handlers are not deferred during the libc function.
    drop(call);
    let result = match converted {
        Some(result) => {
            record.end(result.is_failure());
            result
        }
        None => {
            let passing = thread
                .recorder()
                .tracer()
                .map(|tracer| tracer.passing(H::INDEX));
            // SAFETY: our caller guarantees what the libc function requires.
            let result = unsafe { by_libc::<H>(arguments) };
            drop(passing);
            if of_fiber {
                record.end(result.is_failure());
            }
            result
        }
    };
    end::<H>(thread);
    result
}

/// The fiber that makes a call. None if no fiber does, or if the call is left to libc.
#[inline(always)]
fn caller<H: Hook>(thread: &Thread) -> Option<*mut c_void> {
    if H::CHARGE == Charge::Lock && !thread.conversion().includes_locks() {
        thread.recorder().stats().of(H::INDEX).passed_through[Reason::LocksOff as usize].add(1);
        return None;
    }
    let fiber = thread.host().running();
    (!fiber.is_null()).then_some(fiber)
}

/// Counts a call that has begun.
#[inline(always)]
fn charge<H: Hook>(call: &Call<'_>) {
    if H::CHARGE == Charge::Quantum {
        call.charge();
    }
}

/// Ends a call, including libc's part of it: yields if the quantum is used up.
#[inline(always)]
fn end<H: Hook>(thread: &Thread) {
    if H::CHARGE == Charge::Quantum {
        Call::after_call(thread, H::INDEX);
    }
}

/// Leaves the call to libc, after forgetting the facts that the call changes.
///
/// # Safety
/// The requirements of the libc function apply.
#[inline(always)]
unsafe fn by_libc<H: Hook>(arguments: H::Arguments) -> H::Result {
    match H::forget(arguments) {
        // SAFETY: our caller guarantees what the libc function requires.
        Some(fd) => unsafe { H::release(fd, arguments) },
        // SAFETY: our caller guarantees what the libc function requires.
        None => unsafe { H::plain(arguments) },
    }
}

/// Makes a call about a descriptor that could not simply be forgotten: fails with EBADF if it
/// belongs to the shim.
///
/// # Safety
/// The requirements of the libc function apply.
#[inline(always)]
pub unsafe fn release<H: Hook>(fd: c_int, arguments: H::Arguments) -> H::Result {
    if release::release(fd) {
        errno::set(libc::EBADF);
        return H::Result::from_done(-1);
    }
    // SAFETY: our caller guarantees what the libc function requires.
    unsafe { H::call(arguments) }
}
