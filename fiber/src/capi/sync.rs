//! The C API for locks and waits.

use super::{c_result, cancellation_point, object, store};
use crate::errno::Errno;
use crate::sync::{At, Forever, Kind, RawBarrier, RawCond, RawMutex, RawOnce, RawRwLock, RawSem};
use core::ffi::{c_int, c_uint, c_void};
use libc::{CLOCK_REALTIME, timespec};

/// `fiber_mutexattr_t`.
#[repr(C)]
pub struct FiberMutexAttr {
    kind: c_int,
}

/// Stores a new object at `at`. Returns `EINVAL` if that is NULL.
fn init<T>(at: *mut T, value: T) -> Result<(), Errno> {
    object(at.cast_const())?;
    store(at, value);
    Ok(())
}

/// `FIBER_BARRIER_SERIAL_FIBER`.
const SERIAL_FIBER: c_int = -1;

fn reserved(attr: *const c_void) -> Result<(), Errno> {
    if attr.is_null() {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Returns the deadline behind a C pointer.
fn at<'a>(clock: c_int, abstime: *const timespec) -> Result<At<'a>, Errno> {
    Ok(At(clock, object(abstime)?))
}

// ---- Mutex

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutexattr_init(a: *mut FiberMutexAttr) -> c_int {
    c_result(|| {
        init(
            a,
            FiberMutexAttr {
                kind: Kind::Normal as c_int,
            },
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutexattr_destroy(a: *mut FiberMutexAttr) -> c_int {
    c_result(|| object(a.cast_const()).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutexattr_settype(a: *mut FiberMutexAttr, kind: c_int) -> c_int {
    c_result(|| {
        Kind::of(kind).ok_or(Errno::EINVAL)?;
        init(a, FiberMutexAttr { kind })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutexattr_gettype(a: *const FiberMutexAttr, kind: *mut c_int) -> c_int {
    c_result(|| {
        store(kind, object(a)?.kind);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_init(m: *mut RawMutex, a: *const FiberMutexAttr) -> c_int {
    c_result(|| {
        let kind = if a.is_null() {
            Kind::Normal
        } else {
            Kind::of(object(a)?.kind).ok_or(Errno::EINVAL)?
        };
        init(m, RawMutex::new(kind))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_destroy(m: *mut RawMutex) -> c_int {
    c_result(|| object(m)?.destroy())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_lock(m: *mut RawMutex) -> c_int {
    c_result(|| object(m)?.lock(Forever))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_trylock(m: *mut RawMutex) -> c_int {
    c_result(|| object(m)?.try_lock())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_timedlock(m: *mut RawMutex, abstime: *const timespec) -> c_int {
    c_result(|| object(m)?.lock(at(CLOCK_REALTIME, abstime)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_clocklock(
    m: *mut RawMutex,
    clock: c_int,
    abstime: *const timespec,
) -> c_int {
    c_result(|| object(m)?.lock(at(clock, abstime)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_mutex_unlock(m: *mut RawMutex) -> c_int {
    c_result(|| object(m)?.unlock())
}

// ---- Condition variable

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_init(c: *mut RawCond, attr: *const c_void) -> c_int {
    c_result(|| {
        reserved(attr)?;
        init(c, RawCond::new())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_destroy(c: *mut RawCond) -> c_int {
    c_result(|| object(c)?.destroy())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_wait(c: *mut RawCond, m: *mut RawMutex) -> c_int {
    c_result(|| cancellation_point(|| object(c)?.wait(object(m)?, Forever)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_timedwait(
    c: *mut RawCond,
    m: *mut RawMutex,
    abstime: *const timespec,
) -> c_int {
    c_result(|| cancellation_point(|| object(c)?.wait(object(m)?, at(CLOCK_REALTIME, abstime)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_clockwait(
    c: *mut RawCond,
    m: *mut RawMutex,
    clock: c_int,
    abstime: *const timespec,
) -> c_int {
    c_result(|| cancellation_point(|| object(c)?.wait(object(m)?, at(clock, abstime)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_signal(c: *mut RawCond) -> c_int {
    c_result(|| {
        object(c)?.signal();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_cond_broadcast(c: *mut RawCond) -> c_int {
    c_result(|| {
        object(c)?.broadcast();
        Ok(())
    })
}

// ---- Semaphore

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_init(s: *mut RawSem, pshared: c_int, value: c_uint) -> c_int {
    c_result(|| {
        if pshared != 0 {
            return Err(Errno::ENOSYS);
        }
        if value > RawSem::VALUE_MAX {
            return Err(Errno::EINVAL);
        }
        init(s, RawSem::new(value))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_destroy(s: *mut RawSem) -> c_int {
    c_result(|| object(s)?.destroy())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_wait(s: *mut RawSem) -> c_int {
    c_result(|| cancellation_point(|| object(s)?.wait(Forever)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_trywait(s: *mut RawSem) -> c_int {
    c_result(|| object(s)?.try_wait())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_timedwait(s: *mut RawSem, abstime: *const timespec) -> c_int {
    c_result(|| cancellation_point(|| object(s)?.wait(at(CLOCK_REALTIME, abstime)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_clockwait(
    s: *mut RawSem,
    clock: c_int,
    abstime: *const timespec,
) -> c_int {
    c_result(|| cancellation_point(|| object(s)?.wait(at(clock, abstime)?)))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_post(s: *mut RawSem) -> c_int {
    c_result(|| object(s)?.post())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_sem_getvalue(s: *mut RawSem, value: *mut c_int) -> c_int {
    c_result(|| {
        store(value, object(s)?.value() as c_int);
        Ok(())
    })
}

// ---- Read-write lock

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_init(l: *mut RawRwLock, attr: *const c_void) -> c_int {
    c_result(|| {
        reserved(attr)?;
        init(l, RawRwLock::new())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_destroy(l: *mut RawRwLock) -> c_int {
    c_result(|| object(l)?.destroy())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_rdlock(l: *mut RawRwLock) -> c_int {
    c_result(|| object(l)?.read(Forever))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_tryrdlock(l: *mut RawRwLock) -> c_int {
    c_result(|| object(l)?.try_read())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_timedrdlock(l: *mut RawRwLock, abstime: *const timespec) -> c_int {
    c_result(|| object(l)?.read(at(CLOCK_REALTIME, abstime)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_clockrdlock(
    l: *mut RawRwLock,
    clock: c_int,
    abstime: *const timespec,
) -> c_int {
    c_result(|| object(l)?.read(at(clock, abstime)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_wrlock(l: *mut RawRwLock) -> c_int {
    c_result(|| object(l)?.write(Forever))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_trywrlock(l: *mut RawRwLock) -> c_int {
    c_result(|| object(l)?.try_write())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_timedwrlock(l: *mut RawRwLock, abstime: *const timespec) -> c_int {
    c_result(|| object(l)?.write(at(CLOCK_REALTIME, abstime)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_clockwrlock(
    l: *mut RawRwLock,
    clock: c_int,
    abstime: *const timespec,
) -> c_int {
    c_result(|| object(l)?.write(at(clock, abstime)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_rwlock_unlock(l: *mut RawRwLock) -> c_int {
    c_result(|| object(l)?.unlock())
}

// ---- Barrier and once

#[unsafe(no_mangle)]
pub extern "C" fn fiber_barrier_init(
    b: *mut RawBarrier,
    attr: *const c_void,
    count: c_uint,
) -> c_int {
    c_result(|| {
        reserved(attr)?;
        init(b, RawBarrier::new(count)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_barrier_destroy(b: *mut RawBarrier) -> c_int {
    c_result(|| object(b)?.destroy())
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_barrier_wait(b: *mut RawBarrier) -> c_int {
    match object(b).and_then(RawBarrier::wait) {
        Ok(true) => SERIAL_FIBER,
        Ok(false) => 0,
        Err(e) => e.raw(),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn fiber_once(o: *mut RawOnce, f: Option<extern "C" fn()>) -> c_int {
    c_result(|| {
        let f = f.ok_or(Errno::EINVAL)?;
        object(o)?.call(|| f())
    })
}

/// Checks the sizes that fiber.h reserves for the objects.
const _: () = {
    assert!(size_of::<RawMutex>() == 40 && size_of::<RawCond>() == 32 && size_of::<RawSem>() == 32);
    assert!(
        size_of::<RawRwLock>() == 48 && size_of::<RawBarrier>() == 32 && size_of::<RawOnce>() == 24
    );
};
