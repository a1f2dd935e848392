//! The CPUs that the workers of a runtime start on.
//!
//! A worker that waits at the gate is woken by the last one that arrives, and the kernel often puts
//! it on the CPU of its waker. Two busy threads may then share a CPU for 30 ms while another one is
//! idle, because the kernel hesitates to move a thread whose data is in the cache. A program that
//! runs for that long gains nothing from its second worker. So each worker claims the CPU that it
//! starts on, and moves to another one if that is taken. Afterwards the kernel may move it as it
//! likes.

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

    /// Gives the calling thread, which is a worker's, a CPU of its own to start on.
    pub(crate) fn claim(&self) {
        let Some(claimed) = &self.claimed else { return };
        let Ok(allowed) = sched_getaffinity(None) else {
            return;
        };
        let Ok(mut claimed) = claimed.lock() else {
            return;
        };
        let here = sched_getcpu();
        let Some(cpu) = choose(here, &allowed, &claimed) else {
            return;
        };
        claimed.set(cpu);
        drop(claimed);
        if cpu != here {
            let mut only = CpuSet::new();
            only.set(cpu);
            // The first call moves the thread. If it fails, the kernel decides.
            let _ = sched_setaffinity(None, &only);
            let _ = sched_setaffinity(None, &allowed);
        }
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
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    cpus.claim();
                    assert_eq!(sched_getaffinity(None), Ok(allowed));
                });
            }
        });
        if let Some(claimed) = cpus.claimed {
            assert_eq!(claimed.into_inner().expect("no panic"), allowed);
        }
    }
}
