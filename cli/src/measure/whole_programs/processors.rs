//! The processors that the programs may use: the same ones for all that are compared.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The number of processors for each participant, unless it is restricted to one.
pub const PROCESSORS: usize = 2;

/// Lets `command` run on the processors that all participants share, or on the first of them.
pub fn restrict(command: &mut Command, one_core: bool) -> Result<()> {
    let all = sched_getaffinity(None).context("sched_getaffinity")?;
    let set = first(&all, if one_core { 1 } else { PROCESSORS });
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
    // functions are allowed. It makes one system call and does not allocate.
    unsafe {
        command.pre_exec(move || Ok(sched_setaffinity(None, &set)?));
    }
    Ok(())
}

/// The first `wanted` processors that `allowed` has.
fn first(allowed: &CpuSet, wanted: usize) -> CpuSet {
    let mut set = CpuSet::new();
    let all = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    all.take(wanted).for_each(|cpu| set.set(cpu));
    set
}

#[cfg(test)]
mod tests {
    use rustix::thread::CpuSet;

    use super::first;

    #[test]
    fn only_allowed_processors_are_used() {
        let mut allowed = CpuSet::new();
        [3, 5, 6].iter().for_each(|&cpu| allowed.set(cpu));
        let of = |wanted| {
            let set = first(&allowed, wanted);
            (0..CpuSet::MAX_CPU)
                .filter(|&cpu| set.is_set(cpu))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(1), [3]);
        assert_eq!(of(2), [3, 5]);
        assert_eq!(of(8), [3, 5, 6]);
    }
}
