//! Rows: locks. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! locks {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Locks" {
        fn pthread_mutex_lock, __pthread_mutex_lock(m: *mut pthread_mutex_t) -> c_int
            => Convert(calls::locks::mutex::lock), lock, first(calls::locks::mutex::lock_fast);
        fn pthread_mutex_trylock, __pthread_mutex_trylock(m: *mut pthread_mutex_t) -> c_int
            => Convert(calls::locks::mutex::trylock), lock, without_case(TRIES),
               first(calls::locks::mutex::lock_fast);
        fn pthread_mutex_timedlock(m: *mut pthread_mutex_t, time: *const timespec) -> c_int
            => Convert(calls::locks::mutex::timedlock), lock;
        fn pthread_mutex_clocklock(
            m: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::mutex::clocklock), lock;
        fn pthread_mutex_unlock, __pthread_mutex_unlock(m: *mut pthread_mutex_t) -> c_int
            => Everywhere(calls::locks::mutex::unlock);
        fn pthread_cond_wait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> c_int
            => Convert(calls::locks::cond::wait), cancellation_point, lock,
               by(calls::locks::cond::wait_plainly), version("GLIBC_2.3.2");
        fn pthread_cond_timedwait(
            c: *mut pthread_cond_t, m: *mut pthread_mutex_t, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::cond::timedwait), cancellation_point, lock,
               by(calls::locks::cond::timedwait_plainly), version("GLIBC_2.3.2");
        fn pthread_cond_clockwait(
            c: *mut pthread_cond_t, m: *mut pthread_mutex_t, clock: clockid_t,
            time: *const timespec
        ) -> c_int
            => Convert(calls::locks::cond::clockwait), cancellation_point, lock,
               by(calls::locks::cond::clockwait_plainly);
        fn pthread_cond_signal(c: *mut pthread_cond_t) -> c_int
            => Everywhere(calls::locks::cond::signal), version("GLIBC_2.3.2");
        fn pthread_cond_broadcast(c: *mut pthread_cond_t) -> c_int
            => Everywhere(calls::locks::cond::broadcast), version("GLIBC_2.3.2");
        fn pthread_rwlock_rdlock, __pthread_rwlock_rdlock(l: *mut pthread_rwlock_t) -> c_int
            => Convert(calls::locks::rwlock::rdlock), lock,
               first(calls::locks::rwlock::rdlock_fast);
        fn pthread_rwlock_wrlock, __pthread_rwlock_wrlock(l: *mut pthread_rwlock_t) -> c_int
            => Convert(calls::locks::rwlock::wrlock), lock,
               first(calls::locks::rwlock::wrlock_fast);
        fn pthread_rwlock_tryrdlock, __pthread_rwlock_tryrdlock(l: *mut pthread_rwlock_t) -> c_int
            => Convert(calls::locks::rwlock::tryrdlock), lock, without_case(TRIES),
               first(calls::locks::rwlock::rdlock_fast);
        fn pthread_rwlock_trywrlock, __pthread_rwlock_trywrlock(l: *mut pthread_rwlock_t) -> c_int
            => Convert(calls::locks::rwlock::trywrlock), lock, without_case(TRIES),
               first(calls::locks::rwlock::wrlock_fast);
        fn pthread_rwlock_timedrdlock(l: *mut pthread_rwlock_t, time: *const timespec) -> c_int
            => Convert(calls::locks::rwlock::timedrdlock), lock;
        fn pthread_rwlock_timedwrlock(l: *mut pthread_rwlock_t, time: *const timespec) -> c_int
            => Convert(calls::locks::rwlock::timedwrlock), lock;
        fn pthread_rwlock_clockrdlock(
            l: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::rwlock::clockrdlock), lock;
        fn pthread_rwlock_clockwrlock(
            l: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::rwlock::clockwrlock), lock;
        fn pthread_rwlock_unlock, __pthread_rwlock_unlock(l: *mut pthread_rwlock_t) -> c_int
            => Everywhere(calls::locks::rwlock::unlock);
        fn pthread_spin_lock(lock: *mut calls::locks::spin::Lock) -> c_int
            => Convert(calls::locks::spin::lock), lock;
        fn pthread_spin_trylock(lock: *mut calls::locks::spin::Lock) -> c_int
            => Convert(calls::locks::spin::trylock), lock, without_case(TRIES);
        fn sched_yield, __sched_yield() -> c_int
            => Convert(calls::locks::spin::yield_now), number(SYS_sched_yield), without_case(TRIES);
        fn pthread_yield() -> c_int
            => Convert(calls::locks::spin::yield_now), without_case(TRIES);
        fn thrd_yield() -> ()
            => Convert(calls::locks::spin::yield_now), without_case(TRIES);
        fn pthread_barrier_wait(b: *mut pthread_barrier_t) -> c_int
            => Convert(calls::locks::barrier::wait), lock, by(calls::locks::barrier::wait_plainly);
        fn pthread_barrier_destroy(b: *mut pthread_barrier_t) -> c_int
            => Convert(calls::locks::barrier::destroy), lock, without_case(TRIES);
        fn pthread_once, __pthread_once(
            control: *mut c_int, routine: calls::locks::once::Routine
        ) -> c_int
            => Convert(calls::locks::once::once), lock, first(calls::locks::once::done),
               by(calls::locks::once::run), unbound(calls::locks::once::without_libc);
        fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int
            => Convert(calls::locks::join::join);
        fn pthread_timedjoin_np(
            thread: pthread_t, value: *mut *mut c_void, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::join::timedjoin);
        fn pthread_clockjoin_np(
            thread: pthread_t, value: *mut *mut c_void, clock: clockid_t, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::join::clockjoin);
        fn sem_wait(s: *mut sem_t) -> c_int
            => Convert(calls::locks::sem::wait), cancellation_point, lock,
               first(calls::locks::sem::wait_fast);
        fn sem_trywait(s: *mut sem_t) -> c_int
            => Convert(calls::locks::sem::trywait), lock, without_case(TRIES),
               first(calls::locks::sem::take_fast);
        fn sem_timedwait(s: *mut sem_t, time: *const timespec) -> c_int
            => Convert(calls::locks::sem::timedwait), cancellation_point, lock;
        fn sem_clockwait(s: *mut sem_t, clock: clockid_t, time: *const timespec) -> c_int
            => Convert(calls::locks::sem::clockwait), cancellation_point, lock;
        fn sem_post(s: *mut sem_t) -> c_int
            => Everywhere(calls::locks::sem::post);
        fn mtx_lock(m: *mut pthread_mutex_t) -> c_int
            => Convert(calls::locks::c11::mtx_lock), lock, first(calls::locks::mutex::lock_fast);
        fn mtx_trylock(m: *mut pthread_mutex_t) -> c_int
            => Convert(calls::locks::c11::mtx_trylock), lock, without_case(TRIES),
               first(calls::locks::mutex::lock_fast);
        fn mtx_timedlock(m: *mut pthread_mutex_t, time: *const timespec) -> c_int
            => Convert(calls::locks::c11::mtx_timedlock), lock;
        fn mtx_unlock(m: *mut pthread_mutex_t) -> c_int
            => Everywhere(calls::locks::c11::mtx_unlock);
        fn cnd_wait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> c_int
            => Convert(calls::locks::c11::cnd_wait), cancellation_point, lock,
               by(calls::locks::cond::wait_plainly);
        fn cnd_timedwait(
            c: *mut pthread_cond_t, m: *mut pthread_mutex_t, time: *const timespec
        ) -> c_int
            => Convert(calls::locks::c11::cnd_timedwait), cancellation_point, lock,
               by(calls::locks::cond::timedwait_plainly);
        fn cnd_signal(c: *mut pthread_cond_t) -> c_int
            => Everywhere(calls::locks::cond::signal);
        fn cnd_broadcast(c: *mut pthread_cond_t) -> c_int
            => Everywhere(calls::locks::cond::broadcast);
        fn call_once(control: *mut c_int, routine: calls::locks::once::Routine) -> ()
            => Convert(calls::locks::once::once), lock, first(calls::locks::once::called),
               by(calls::locks::once::call);
        fn thrd_join(thread: pthread_t, result: *mut c_int) -> c_int
            => Convert(calls::locks::join::thrd_join);
    }
        } }
    };
}
