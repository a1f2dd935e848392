//! Determines how a seccomp filter that the program is about to install affects the shim's system
//! calls. A filter is a classic BPF program; this follows all of its paths for each system call
//! number.
//!
//! Only the number and the architecture of a call are treated as known. A branch on any other value
//! is followed both ways. A call that is reported as allowed is therefore really allowed, but a
//! filter that looks at arguments may be judged stricter than it is.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use syscalls::Sysno;

/// One instruction, with the memory layout of `struct sock_filter`: code, jt, jf, k.
pub type Instruction = u64;

/// Which system calls of the shim a filter blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockedCalls {
    /// Calls of io_uring.
    pub uring: bool,
    /// Calls of Linux AIO.
    pub aio: bool,
    /// Calls that pool threads make for fibers. They fail with an error or wait for a supervisor,
    /// just as they would on the fiber's own thread.
    pub pool: bool,
    /// A call that conversion needs, or a call for which the filter may kill the process even if it
    /// is only tried.
    pub essential: bool,
}

impl BlockedCalls {
    /// The verdict for seccomp's strict mode, which allows almost nothing.
    pub const STRICT: Self = Self {
        uring: true,
        aio: true,
        pool: true,
        essential: true,
    };
}

/// The calls that the shim and its engines need, and the calls that io_uring would perform without
/// the filter seeing them.
const ESSENTIAL: [Sysno; 38] = [
    Sysno::read,
    Sysno::write,
    Sysno::readv,
    Sysno::writev,
    Sysno::pread64,
    Sysno::pwrite64,
    Sysno::preadv,
    Sysno::pwritev,
    Sysno::openat,
    Sysno::close,
    Sysno::fstat,
    Sysno::lseek,
    Sysno::fsync,
    Sysno::fdatasync,
    Sysno::fcntl,
    Sysno::ppoll,
    Sysno::futex,
    Sysno::mmap,
    Sysno::munmap,
    Sysno::mprotect,
    Sysno::madvise,
    Sysno::rt_sigaction,
    Sysno::rt_sigprocmask,
    Sysno::rt_sigreturn,
    Sysno::rt_sigtimedwait,
    Sysno::tgkill,
    Sysno::gettid,
    Sysno::getpid,
    Sysno::sched_yield,
    Sysno::nanosleep,
    Sysno::clock_nanosleep,
    Sysno::accept4,
    Sysno::connect,
    Sysno::recvfrom,
    Sysno::sendto,
    Sysno::recvmsg,
    Sysno::sendmsg,
    Sysno::exit,
];

/// Calls that neither the shim nor any libc function on its threads makes: a filter may treat them
/// in any way.
const FOREIGN: [Sysno; 82] = [
    Sysno::acct,
    Sysno::add_key,
    Sysno::adjtimex,
    Sysno::bpf,
    Sysno::capget,
    Sysno::capset,
    Sysno::chroot,
    Sysno::clock_adjtime,
    Sysno::clock_settime,
    Sysno::delete_module,
    Sysno::execve,
    Sysno::execveat,
    Sysno::fanotify_init,
    Sysno::fanotify_mark,
    Sysno::finit_module,
    Sysno::fsconfig,
    Sysno::fsmount,
    Sysno::fsopen,
    Sysno::fspick,
    Sysno::get_mempolicy,
    Sysno::get_robust_list,
    Sysno::init_module,
    Sysno::inotify_add_watch,
    Sysno::inotify_init1,
    Sysno::inotify_rm_watch,
    Sysno::ioprio_get,
    Sysno::ioprio_set,
    Sysno::kexec_file_load,
    Sysno::kexec_load,
    Sysno::keyctl,
    Sysno::landlock_add_rule,
    Sysno::landlock_create_ruleset,
    Sysno::landlock_restrict_self,
    Sysno::lookup_dcookie,
    Sysno::mbind,
    Sysno::memfd_create,
    Sysno::memfd_secret,
    Sysno::migrate_pages,
    Sysno::mount,
    Sysno::mount_setattr,
    Sysno::move_mount,
    Sysno::move_pages,
    Sysno::name_to_handle_at,
    Sysno::nfsservctl,
    Sysno::open_by_handle_at,
    Sysno::open_tree,
    Sysno::perf_event_open,
    Sysno::personality,
    Sysno::pidfd_getfd,
    Sysno::pidfd_send_signal,
    Sysno::pivot_root,
    Sysno::process_madvise,
    Sysno::process_vm_writev,
    Sysno::ptrace,
    Sysno::quotactl,
    Sysno::reboot,
    Sysno::request_key,
    Sysno::sched_setattr,
    Sysno::sched_setparam,
    Sysno::sched_setscheduler,
    Sysno::seccomp,
    Sysno::set_mempolicy,
    Sysno::setdomainname,
    Sysno::setfsgid,
    Sysno::setfsuid,
    Sysno::setgid,
    Sysno::setgroups,
    Sysno::sethostname,
    Sysno::setns,
    Sysno::setregid,
    Sysno::setresgid,
    Sysno::setresuid,
    Sysno::setreuid,
    Sysno::settimeofday,
    Sysno::setuid,
    Sysno::swapoff,
    Sysno::swapon,
    Sysno::syslog,
    Sysno::umount2,
    Sysno::unshare,
    Sysno::userfaultfd,
    Sysno::vhangup,
];

const URING: [Sysno; 3] = [
    Sysno::io_uring_setup,
    Sysno::io_uring_enter,
    Sysno::io_uring_register,
];
const AIO: [Sysno; 4] = [
    Sysno::io_setup,
    Sysno::io_submit,
    Sysno::io_getevents,
    Sysno::io_destroy,
];

/// The calls of [`ESSENTIAL`] that a pool thread can make for a fiber; it waits for the supervisor
/// as the fiber's own thread would.
const SUPERVISED: [Sysno; 7] = [
    Sysno::openat,
    Sysno::pread64,
    Sysno::pwrite64,
    Sysno::preadv,
    Sysno::pwritev,
    Sysno::fsync,
    Sysno::fdatasync,
];

/// Which system calls `program` blocks.
pub fn blocked_calls(program: &[Instruction]) -> BlockedCalls {
    let mut blocked = BlockedCalls::default();
    for call in Sysno::iter() {
        match worst_effect(program, call as u32) {
            Effect::Allowed => {}
            _ if URING.contains(&call) => blocked.uring = true,
            _ if AIO.contains(&call) => blocked.aio = true,
            _ if FOREIGN.contains(&call) => {}
            Effect::Refused if !ESSENTIAL.contains(&call) => blocked.pool = true,
            // Both engines would perform the call without the supervisor seeing it.
            Effect::Supervised if SUPERVISED.contains(&call) || !ESSENTIAL.contains(&call) => {
                blocked.uring = true;
                blocked.aio = true;
                blocked.pool = true;
            }
            _ => blocked.essential = true,
        }
    }
    blocked
}

/// The effect of a filter on a call; the worst is last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Allowed,
    /// The call fails with an error.
    Refused,
    /// The call waits until another process or thread has decided on it: seccomp_unotify(2).
    Supervised,
    /// Any other effect: the thread or the process is killed, or a tracer decides.
    Other,
}

impl Effect {
    fn of_action(action: u32) -> Self {
        match action & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG => Self::Allowed,
            libc::SECCOMP_RET_ERRNO => Self::Refused,
            libc::SECCOMP_RET_USER_NOTIF => Self::Supervised,
            _ => Self::Other,
        }
    }
}

/// The AUDIT_ARCH value for the system calls that the shim makes.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

// Instruction classes and the other parts of a code, from <linux/bpf_common.h>.
const LD: u16 = 0;
const LDX: u16 = 1;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
const ABS: u16 = 0x20;
const IMM: u16 = 0x00;
const SOURCE_X: u16 = 0x08;
const RETURN_A: u16 = 0x10;
const TXA: u16 = 0x80;

/// The worst effect of any path through `program` on the call `number`.
fn worst_effect(program: &[Instruction], number: u32) -> Effect {
    let mut worst = Effect::Allowed;
    let mut seen = HashSet::new();
    // The pending paths: the next instruction, and the accumulator if it is known.
    let mut paths = vec![(0_usize, None::<u32>)];
    while let Some((at, mut a)) = paths.pop() {
        if worst == Effect::Other {
            break;
        }
        let Some(&instruction) = program.get(at) else {
            return Effect::Other;
        };
        if !seen.insert((at, a)) {
            continue;
        }
        let (code, k) = (instruction as u16, (instruction >> 32) as u32);
        let (jump_true, jump_false) = (instruction >> 16 & 0xff, instruction >> 24 & 0xff);
        match code & 7 {
            LD => {
                a = match code & 0xe0 {
                    ABS if k == NUMBER_AT => Some(number),
                    ABS if k == ARCHITECTURE_AT => Some(ARCHITECTURE),
                    IMM => Some(k),
                    _ => None,
                }
            }
            ALU => {
                a = a
                    .filter(|_| code & SOURCE_X == 0)
                    .and_then(|a| computed(code & 0xf0, a, k))
            }
            MISC if code & 0xf8 == TXA => a = None,
            RET => {
                let action = if code & 0x18 == RETURN_A { a } else { Some(k) };
                worst = worst.max(action.map_or(Effect::Other, Effect::of_action));
                continue;
            }
            JMP => {
                let holds = a
                    .filter(|_| code & SOURCE_X == 0)
                    .and_then(|a| condition(code & 0xf0, a, k));
                if code & 0xf0 == 0 {
                    paths.push((at + 1 + k as usize, a));
                    continue;
                }
                if holds != Some(false) {
                    paths.push((at + 1 + jump_true as usize, a));
                }
                if holds != Some(true) {
                    paths.push((at + 1 + jump_false as usize, a));
                }
                continue;
            }
            // Stores, and loads of X, which is always treated as unknown.
            LDX | 2 | 3 | MISC => {}
            _ => {}
        }
        paths.push((at + 1, a));
    }
    worst
}

/// The result of an operation with a constant; None if it is unknown or invalid.
fn computed(operation: u16, a: u32, k: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(k),
        0x10 => a.wrapping_sub(k),
        0x20 => a.wrapping_mul(k),
        0x30 => a.checked_div(k)?,
        0x40 => a | k,
        0x50 => a & k,
        0x60 => a.checked_shl(k)?,
        0x70 => a.checked_shr(k)?,
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(k)?,
        0xa0 => a ^ k,
        _ => return None,
    })
}

fn condition(comparison: u16, a: u32, k: u32) -> Option<bool> {
    match comparison {
        0x10 => Some(a == k),
        0x20 => Some(a > k),
        0x30 => Some(a >= k),
        0x40 => Some(a & k != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const SUPERVISE: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn instruction(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
        u64::from(code)
            | u64::from(jump_true) << 16
            | u64::from(jump_false) << 24
            | u64::from(k) << 32
    }

    /// A filter with the effect `then` on the listed calls, and `otherwise` on all others.
    fn filter(calls: &[Sysno], then: u32, otherwise: u32) -> Vec<Instruction> {
        let mut program = vec![
            instruction(0x20, 0, 0, ARCHITECTURE_AT),
            instruction(0x15, 1, 0, ARCHITECTURE),
            instruction(0x06, 0, 0, KILL),
            instruction(0x20, 0, 0, NUMBER_AT),
        ];
        for &call in calls {
            program.push(instruction(0x15, 0, 1, call as u32));
            program.push(instruction(0x06, 0, 0, then));
        }
        program.push(instruction(0x06, 0, 0, otherwise));
        program
    }

    #[test]
    fn a_list_of_what_is_refused_leaves_the_engines_that_it_does_not_name() {
        let nothing = BlockedCalls::default();
        assert_eq!(blocked_calls(&filter(&[], ALLOW, ALLOW)), nothing);
        assert_eq!(
            blocked_calls(&filter(&[Sysno::mount, Sysno::ptrace], KILL, ALLOW)),
            nothing
        );
        let pool = BlockedCalls {
            pool: true,
            ..nothing
        };
        assert_eq!(
            blocked_calls(&filter(&[Sysno::preadv2, Sysno::mkdir], REFUSE, ALLOW)),
            pool
        );
        assert_eq!(
            blocked_calls(&filter(&URING, REFUSE, ALLOW)),
            BlockedCalls {
                uring: true,
                ..nothing
            }
        );
        assert_eq!(
            blocked_calls(&filter(&[Sysno::io_submit], KILL, ALLOW)),
            BlockedCalls {
                aio: true,
                ..nothing
            }
        );
        assert!(blocked_calls(&filter(&[Sysno::openat], REFUSE, ALLOW)).essential);
        assert!(blocked_calls(&filter(&[Sysno::preadv2], KILL, ALLOW)).essential);
    }

    #[test]
    fn what_is_supervised_is_left_to_threads_that_may_wait_for_the_supervisor() {
        let threads = BlockedCalls {
            uring: true,
            aio: true,
            pool: true,
            essential: false,
        };
        assert_eq!(
            blocked_calls(&filter(&[Sysno::pread64], SUPERVISE, ALLOW)),
            threads
        );
        assert!(blocked_calls(&filter(&[Sysno::futex], SUPERVISE, ALLOW)).essential);
    }

    #[test]
    fn a_list_of_what_is_allowed_has_every_call_pass_through() {
        assert!(blocked_calls(&filter(&[Sysno::read, Sysno::write], ALLOW, KILL)).essential);
        assert!(blocked_calls(&filter(&[Sysno::read, Sysno::write], ALLOW, REFUSE)).essential);
    }

    #[test]
    fn a_branch_on_an_argument_is_followed_both_ways() {
        let mut program = filter(&[], ALLOW, ALLOW);
        program.pop();
        program.extend([
            instruction(0x15, 0, 3, Sysno::write as u32),
            instruction(0x20, 0, 0, 16),
            instruction(0x15, 1, 0, 1),
            instruction(0x06, 0, 0, KILL),
            instruction(0x06, 0, 0, ALLOW),
        ]);
        assert!(blocked_calls(&program).essential);
    }

    #[test]
    fn a_program_that_runs_off_its_end_is_not_trusted() {
        assert!(blocked_calls(&[instruction(0x20, 0, 0, 0)]).essential);
        assert!(blocked_calls(&[]).essential);
    }
}
