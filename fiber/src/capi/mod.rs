//! The C API: each function of fiber.h checks its arguments and returns an error number. A test
//! compiles these signatures against the header, so the two cannot drift apart.
//!
//! Invariant, relied on by every `unsafe` block here: a pointer that a caller passes is NULL, where
//! the header allows it, or valid for everything that the header says the function does with it.
//! Objects were initialised and outlive their use. This is the C contract.

mod cancel;
mod sync;

use crate::clock::{self, NEVER};
use crate::errno::{Errno, as_int};
use crate::launch::{self, Setup, options};
use crate::record::fiber::{Entry, Fiber, Handle, NAME_LEN};
use crate::record::key;
use crate::record::name;
use crate::record::stack::Class;
use crate::record::unwind::Destructor;
use crate::report::dump;
use crate::sched::join::{self, Spec};
use crate::sched::{cancel_point, switching};
use crate::worker::current::{self, on_fiber};
use crate::worker::state::Worker;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::mem::offset_of;
use core::ptr::null_mut;

/// `fiber_t`, which is never accessed: a pointer to it is a handle.
#[repr(C)]
pub struct FiberHandle {
    _opaque: [u8; 0],
}

/// `fiber_options_t`.
#[repr(C)]
pub struct FiberOptions {
    size: usize,
    workers: c_uint,
    stack_size: usize,
}

/// `fiber_attr_t`.
#[repr(C)]
pub struct FiberAttr {
    size: usize,
    stack_size: usize,
    name: *const c_char,
    detached: c_int,
}

const VERSION: [u32; 3] = [0, 1, 0];

#[inline(always)]
fn handle(f: *mut FiberHandle) -> Handle {
    Handle(f as u64)
}

/// Returns the object behind a C pointer, or `EINVAL` for NULL.
#[inline(always)]
fn object<'a, T>(at: *const T) -> Result<&'a T, Errno> {
    // SAFETY: the C contract: the pointer is NULL or valid.
    unsafe { at.as_ref() }.ok_or(Errno::EINVAL)
}

/// Stores a result at `at`, unless that is NULL.
#[inline(always)]
fn store<T>(at: *mut T, value: T) {
    if !at.is_null() {
        // SAFETY: the C contract: the pointer is valid for a write.
        unsafe { at.write(value) }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_version() -> c_uint {
    VERSION[0] << 16 | VERSION[1] << 8 | VERSION[2]
}

/// Calls `f`, which neither parks nor unwinds, and converts its result for C.
#[inline(always)]
fn c_result(f: impl FnOnce() -> Result<(), Errno>) -> c_int {
    as_int(f())
}

/// A cancellation point: if the fiber is cancelled in `f`, it ends here.
#[inline(always)]
fn cancellation_point(f: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    cancel_point::act_on(f())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_run(
    opt: *const FiberOptions,
    f: Option<Entry>,
    arg: *mut c_void,
    ret: *mut *mut c_void,
) -> c_int {
    c_result(|| {
        if current::worker().is_some() {
            return Err(Errno::EBUSY);
        }
        let f = f.ok_or(Errno::EINVAL)?;
        // SAFETY: the C contract: the pointer is NULL or valid.
        let (workers, stack_size) = match unsafe { opt.as_ref() } {
            None => (0, 0),
            Some(o) if o.size >= size_of::<FiberOptions>() => (o.workers as usize, o.stack_size),
            Some(_) => return Err(Errno::EINVAL),
        };
        let setup = Setup {
            unwinds: false,
            workers: match workers {
                0 => options::workers(),
                n if n <= options::WORKERS_MAX => n,
                _ => return Err(Errno::EINVAL),
            },
            class: match stack_size {
                0 => options::stack(),
                n => Class::of(n).ok_or(Errno::EINVAL)?,
            },
        };
        store(ret, launch::run(setup, f, arg)?);
        Ok(())
    })
}

/// Converts an attribute object to the parameters of a fiber.
fn spec(worker: &Worker, attr: *const FiberAttr) -> Result<Spec, Errno> {
    let mut spec = Spec {
        class: worker.runtime().class(),
        name: [0; NAME_LEN],
        detached: false,
        pinned: false,
        unwinds: false,
    };
    // SAFETY: the C contract: the pointer is NULL or valid.
    if let Some(attr) = unsafe { attr.as_ref() } {
        if attr.size < offset_of!(FiberAttr, detached) + size_of::<c_int>() {
            return Err(Errno::EINVAL);
        }
        if attr.stack_size != 0 {
            spec.class = Class::of(attr.stack_size).ok_or(Errno::EINVAL)?;
        }
        if !attr.name.is_null() {
            // SAFETY: the C contract: the name ends in a NUL.
            let name = unsafe { CStr::from_ptr(attr.name) }.to_bytes();
            spec.name = name::checked_name(&name[..name.len().min(NAME_LEN - 1)])?;
        }
        spec.detached = attr.detached != 0;
    }
    Ok(spec)
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_create(
    out: *mut *mut FiberHandle,
    attr: *const FiberAttr,
    f: Option<Entry>,
    arg: *mut c_void,
) -> c_int {
    c_result(|| {
        let worker = on_fiber()?;
        let f = f.ok_or(Errno::EINVAL)?;
        let made = join::create(worker, &spec(worker, attr)?, f, arg)?;
        store(out, made.0 as *mut FiberHandle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_join(f: *mut FiberHandle, ret: *mut *mut c_void) -> c_int {
    c_result(|| {
        let worker = on_fiber()?;
        cancellation_point(|| {
            store(ret, join::join(worker, handle(f))?);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_detach(f: *mut FiberHandle) -> c_int {
    c_result(|| join::detach(handle(f)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_exit(ret: *mut c_void) {
    if let Ok(worker) = on_fiber() {
        cancel_point::exit(worker, ret);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_self() -> *mut FiberHandle {
    match on_fiber() {
        Ok(worker) => worker.running().handle().0 as *mut FiberHandle,
        Err(_) => null_mut(),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_yield() {
    match on_fiber() {
        Ok(worker) => switching::yield_now(worker),
        Err(_) => rustix::thread::sched_yield(),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sleep(ns: u64) -> c_int {
    c_result(|| {
        let worker = on_fiber()?;
        let until = clock::now().saturating_add(ns).min(NEVER - 1);
        cancellation_point(|| switching::sleep_until(worker, until))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_id(f: *mut FiberHandle) -> u64 {
    crate::api::id_of(handle(f)).unwrap_or(0)
}

/// Returns the fiber of a handle. NULL means the calling fiber.
fn fiber_or_self(f: *mut FiberHandle) -> Result<&'static Fiber, Errno> {
    if f.is_null() {
        return on_fiber().map(Worker::running).map_err(|_| Errno::ESRCH);
    }
    handle(f).fiber().ok_or(Errno::ESRCH)
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_setname(f: *mut FiberHandle, name: *const c_char) -> c_int {
    c_result(|| {
        let fiber = fiber_or_self(f)?;
        let name = object(name)?;
        // SAFETY: the C contract: the name ends in a NUL.
        name::set_name(
            fiber,
            name::checked_name(unsafe { CStr::from_ptr(name) }.to_bytes())?,
        );
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_getname(f: *mut FiberHandle, buf: *mut c_char, len: usize) -> c_int {
    c_result(|| {
        let name = name::name(fiber_or_self(f)?);
        let text = name::text(&name);
        if len <= text.len() {
            return Err(Errno::ERANGE);
        }
        object(buf.cast_const())?;
        // SAFETY: the C contract: `buf` has `len` bytes. A stored name ends in a NUL.
        unsafe { core::ptr::copy_nonoverlapping(name.as_ptr().cast(), buf, text.len() + 1) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_dump(fd: c_int) {
    dump::dump(fd);
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_key_create(key: *mut c_uint, destructor: Option<Destructor>) -> c_int {
    c_result(|| {
        object(key.cast_const())?;
        store(key, key::create(destructor)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_key_delete(key: c_uint) -> c_int {
    c_result(|| key::delete(key))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_getspecific(key: c_uint) -> *mut c_void {
    on_fiber().map_or(null_mut(), |worker| worker.running().locals.get(key))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_setspecific(key: c_uint, value: *const c_void) -> c_int {
    c_result(|| on_fiber()?.running().locals.set(key, value.cast_mut()))
}
