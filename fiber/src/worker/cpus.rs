//! The CPUs that the workers of a runtime start on.
//!
//! The kernel starts a thread on the CPU of the thread that creates it, if that one then sleeps,
//! and often wakes a thread on the CPU of its waker. At the gate, where the last worker wakes the
//! others, both put two workers on one CPU: one of them then waits for 3 to 5 ms, and they may
//! share that CPU for 30 ms while another one is idle, because the kernel hesitates to move a
//! thread whose data is in the cache. A program that runs for that long gains nothing from its
//! second worker. So each worker claims a CPU when it starts, and stays there until it has passed
//! the gate. Afterwards the kernel may move it as it likes.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::sync::Mutex;

/// The CPUs that workers have claimed.
pub(crate) struct Cpus {
    /// None if there is no CPU for each worker; then the kernel decides alone.
    claimed: Option<Mutex<CpuSet>>,
}

impl Cpus {
    pub(crate) fn new(workers: usize) -> Cpus {
        let is_enough = |cpus: CpuSet| cpus.count() as usize >= workers;
        let has_spare = workers > 1 && sched_getaffinity(None).is_ok_and(is_enough);
        Cpus {
            claimed: has_spare.then(|| Mutex::new(CpuSet::new())),
        }
    }

    /// Whether one of several workers can spin without taking a CPU from another.
    pub(crate) fn has_spare(&self) -> bool {
        self.claimed.is_some()
    }

    /// Claims a CPU for the calling thread, which is a worker's, and moves it there. Threads that
    /// it creates may run anywhere.
    pub(crate) fn claim(&self) -> Claim {
        Claim(self.claim_one())
    }

    fn claim_one(&self) -> Option<Claimed> {
        let claimed = self.claimed.as_ref()?;
        let allowed = sched_getaffinity(None).ok()?;
        let mut claimed = claimed.lock().ok()?;
        let here = sched_getcpu();
        let cpu = choose(here, &allowed, &claimed)?;
        claimed.set(cpu);
        drop(claimed);
        let mut only = CpuSet::new();
        only.set(cpu);
        let claimed = Claimed { allowed, only };
        if cpu != here {
            claimed.stay_during(|| ());
        }
        Some(claimed)
    }
}

/// The CPU of a worker, if it could claim one.
pub(crate) struct Claim(Option<Claimed>);

impl Claim {
    /// Calls `wait` and returns on the claimed CPU.
    pub(crate) fn stay_during(&self, wait: impl FnOnce()) {
        match &self.0 {
            Some(claimed) => claimed.stay_during(wait),
            None => wait(),
        }
    }
}

struct Claimed {
    /// The CPUs on which the thread may run otherwise.
    allowed: CpuSet,
    only: CpuSet,
}

impl Claimed {
    fn stay_during(&self, wait: impl FnOnce()) {
        // The first call moves the thread if need be. If it fails, the kernel decides.
        let _ = sched_setaffinity(None, &self.only);
        wait();
        let _ = sched_setaffinity(None, &self.allowed);
    }
}

/// Returns a CPU that is allowed and not claimed: `here` if possible.
fn choose(here: usize, allowed: &CpuSet, claimed: &CpuSet) -> Option<usize> {
    let is_free = |&cpu: &usize| allowed.is_set(cpu) && !claimed.is_set(cpu);
    Some(here)
        .into_iter()
        .chain(0..CpuSet::MAX_CPU)
        .filter(|&cpu| cpu < CpuSet::MAX_CPU)
        .find(is_free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|&cpu| set.set(cpu));
        set
    }

    #[test]
    fn a_worker_stays_where_it_is_unless_another_one_is_there() {
        let allowed = set(&[2, 3, 5]);
        assert_eq!(choose(3, &allowed, &set(&[])), Some(3));
        assert_eq!(choose(3, &allowed, &set(&[3])), Some(2));
        assert_eq!(choose(3, &allowed, &set(&[2, 3])), Some(5));
        assert_eq!(choose(3, &allowed, &allowed), None);
    }

    #[test]
    fn workers_get_different_cpus_and_keep_their_affinity() {
        let allowed = sched_getaffinity(None).expect("sched_getaffinity");
        let workers = allowed.count() as usize;
        let cpus = Cpus::new(workers);
        let used = Mutex::new(CpuSet::new());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    let claim = cpus.claim();
                    assert_eq!(sched_getaffinity(None), Ok(allowed));
                    claim.stay_during(|| {
                        std::thread::yield_now();
                        used.lock().expect("no panic").set(sched_getcpu());
                    });
                    assert_eq!(sched_getaffinity(None), Ok(allowed));
                });
            }
        });
        if let Some(claimed) = cpus.claimed {
            assert_eq!(claimed.into_inner().expect("no panic"), allowed);
            assert_eq!(used.into_inner().expect("no panic"), allowed);
        }
    }
}
