//! The C API for cancellation. The parent module states the rules.

use super::{FiberHandle, c_result, handle, object, store};
use crate::errno::Errno;
use crate::record::unwind::{Cleanup, Destructor};
use crate::sched::{cancel, cancel_point};
use crate::worker::current::on_fiber;
use core::ffi::{c_int, c_void};

const ENABLE: c_int = 0;
const DISABLE: c_int = 1;
const DEFERRED: c_int = 0;
const ASYNCHRONOUS: c_int = 1;

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cancel(f: *mut FiberHandle) -> c_int {
    c_result(|| cancel::request(handle(f)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_setcancelstate(state: c_int, old: *mut c_int) -> c_int {
    c_result(|| {
        if !matches!(state, ENABLE | DISABLE) {
            return Err(Errno::EINVAL);
        }
        let enabled = cancel_point::set_enabled(state == ENABLE)?;
        store(old, if enabled { ENABLE } else { DISABLE });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_setcanceltype(kind: c_int, old: *mut c_int) -> c_int {
    c_result(|| {
        on_fiber()?;
        match kind {
            DEFERRED => {
                store(old, DEFERRED);
                Ok(())
            }
            ASYNCHRONOUS => Err(Errno::ENOTSUP),
            _ => Err(Errno::EINVAL),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_testcancel() {
    if let Ok(worker) = on_fiber() {
        let _ = cancel_point::act_on(worker.running().cancellation.check());
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cleanup_enter(
    here: *mut Cleanup,
    routine: Option<Destructor>,
    arg: *mut c_void,
) {
    extern "C" fn nothing(_: *mut c_void) {}
    let routine = routine.unwrap_or(nothing);
    let me = on_fiber().ok().map(|worker| worker.running());
    let next = me
        .and_then(|me| me.locals.top_cleanup())
        .unwrap_or(core::ptr::null_mut());
    store(here, Cleanup { routine, arg, next });
    if let Some(me) = me {
        me.locals.set_top_cleanup(here);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cleanup_leave(here: *mut Cleanup, execute: c_int) {
    let Ok(cleanup) = object(here.cast_const()) else {
        return;
    };
    if let Ok(worker) = on_fiber() {
        worker.running().locals.set_top_cleanup(cleanup.next);
    }
    if execute != 0 {
        (cleanup.routine)(cleanup.arg);
    }
}
