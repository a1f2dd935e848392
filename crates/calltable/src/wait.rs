//! What a system call waits for: the facts of the rows, and those of system calls that no row
//! makes.
//!
//! A system call counts as waiting if it can sleep until something else happens. This leaves out
//! calls that only compute or wait for short locks inside the kernel (memory, identity, signal
//! masks), close(2) and fstat(2), which answer from memory on a local file system, and calls that
//! their flags or a timeout of 0 keep from blocking.

use crate::row::TABLE;
use std::ffi::c_long;

/// The event that a system call waits for, and when it does.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub event: &'static str,
    pub condition: Condition,
}

/// The arguments with which a system call waits. The numbers are those of arguments, from 0.
#[derive(Clone, Copy, Debug)]
pub enum Condition {
    Always,
    /// Unless the argument has this flag.
    UnlessFlag(usize, u32),
    /// If the argument has this flag.
    IfFlag(usize, u32),
    /// Unless the argument is 0.
    UnlessZero(usize),
    /// If the argument is one of these values.
    IfOneOf(usize, &'static [u32]),
}

impl Wait {
    /// Whether a system call with these arguments can wait.
    pub fn can_wait(&self, arguments: &[usize; 6]) -> bool {
        let argument = |n: usize| arguments[n] as u32;
        match self.condition {
            Condition::Always => true,
            Condition::UnlessFlag(n, flag) => argument(n) & flag == 0,
            Condition::IfFlag(n, flag) => argument(n) & flag != 0,
            Condition::UnlessZero(n) => argument(n) != 0,
            Condition::IfOneOf(n, values) => values.contains(&argument(n)),
        }
    }
}

pub(crate) mod events {
    pub const DATA: &str = "data";
    pub const ROOM: &str = "room or the disk";
    pub const DISK: &str = "the disk";
    pub const PEER: &str = "a peer";
    pub const EVENT: &str = "an event";
    pub const TIME: &str = "time";
    pub const SIGNAL: &str = "a signal";
    pub const CHILD: &str = "a child";
    pub const LOCK: &str = "a lock";
    pub const MESSAGE: &str = "a message";
    pub const ENTROPY: &str = "entropy";
    pub const LINE: &str = "the line";
}

/// Requests of ioctl(2) that wait until a terminal has sent its output, as tcdrain(3) does.
pub(crate) const DRAINS: &[u32] = &[
    libc::TCSBRK as u32,
    libc::TCSBRKP as u32,
    libc::TCSETSW as u32,
    libc::TCSETSF as u32,
    0x5407, // TCSETAW
    0x5408, // TCSETAF
];

/// The operations of futex(2) that sleep, with the flags that each may have.
const FUTEX_WAITS: &[u32] = &{
    const COMMANDS: [u32; 5] = [
        libc::FUTEX_WAIT as u32,
        libc::FUTEX_WAIT_BITSET as u32,
        libc::FUTEX_LOCK_PI as u32,
        13, // FUTEX_LOCK_PI2
        libc::FUTEX_WAIT_REQUEUE_PI as u32,
    ];
    let mut operations = [0; 4 * COMMANDS.len()];
    let mut at = 0;
    while at < operations.len() {
        let private = if at & 1 != 0 {
            libc::FUTEX_PRIVATE_FLAG as u32
        } else {
            0
        };
        let real_time = if at & 2 != 0 {
            libc::FUTEX_CLOCK_REALTIME as u32
        } else {
            0
        };
        operations[at] = COMMANDS[at / 4] | private | real_time;
        at += 1;
    }
    operations
};

/// A [`Wait`] as the rows write it.
macro_rules! wait {
    ($event:ident) => {
        crate::wait::wait!(@ $event, crate::wait::Condition::Always)
    };
    ($event:ident, unless_flag($n:literal, $flag:ident)) => {
        crate::wait::wait!(@ $event, crate::wait::Condition::UnlessFlag($n, libc::$flag as u32))
    };
    ($event:ident, if_flag($n:literal, $flag:ident)) => {
        crate::wait::wait!(@ $event, crate::wait::Condition::IfFlag($n, libc::$flag as u32))
    };
    ($event:ident, unless_zero($n:literal)) => {
        crate::wait::wait!(@ $event, crate::wait::Condition::UnlessZero($n))
    };
    ($event:ident, if_one_of($n:literal, &[$($value:ident),*])) => {
        crate::wait::wait!(
            @ $event, crate::wait::Condition::IfOneOf($n, &[$(libc::$value as u32),*])
        )
    };
    ($event:ident, if_one_of($n:literal, $values:ident)) => {
        crate::wait::wait!(@ $event, crate::wait::Condition::IfOneOf($n, crate::wait::$values))
    };
    (@ $event:ident, $condition:expr) => {
        crate::wait::Wait { event: crate::wait::events::$event, condition: $condition }
    };
}

pub(crate) use wait;

/// System calls that can wait and that belong to no row.
macro_rules! others {
    ($( $number:ident: $event:ident $(, $condition:ident $arguments:tt)?; )*) => {
        &[$( (syscalls::Sysno::$number as c_long, wait!($event $(, $condition $arguments)?)) ),*]
    };
}

const WITHOUT_ROW: &[(c_long, Wait)] = others! {
    io_getevents: EVENT, unless_zero(1);
    io_pgetevents: EVENT, unless_zero(1);
    io_uring_enter: EVENT, unless_zero(2);
    futex: LOCK, if_one_of(1, FUTEX_WAITS);
    futex_waitv: LOCK;
    futex_wait: LOCK;
    openat2: DISK;
    faccessat2: DISK;
    fchmodat2: DISK;
    execve: DISK;
    execveat: DISK;
};

#[cfg(target_arch = "x86_64")]
const WITHOUT_ROW_OLD: &[(c_long, Wait)] = others! {
    vfork: CHILD;
    getdents: DISK;
};
#[cfg(not(target_arch = "x86_64"))]
const WITHOUT_ROW_OLD: &[(c_long, Wait)] = &[];

/// The size of [`POSITIONS`]: larger than any system call number.
const NUMBERS: usize = 512;

/// The number of system calls that can wait.
const COUNT: usize = {
    let (mut count, mut number) = (0, 0);
    while number < NUMBERS {
        count += find(number as c_long).is_some() as usize;
        number += 1;
    }
    count
};

/// The waits of all system calls that can wait, by number.
static WAITS: [Wait; COUNT] = {
    let mut waits = [WITHOUT_ROW[0].1; COUNT];
    let (mut at, mut number) = (0, 0);
    while number < NUMBERS {
        if let Some(wait) = find(number as c_long) {
            waits[at] = wait;
            at += 1;
        }
        number += 1;
    }
    waits
};

/// For each system call, one more than its position in [`WAITS`]; 0 if it cannot wait. This keeps
/// the pointers in `WAITS`, which the loader relocates, close together.
static POSITIONS: [u8; NUMBERS] = {
    assert!(COUNT < u8::MAX as usize);
    let mut positions = [0; NUMBERS];
    let (mut at, mut number) = (0, 0);
    while number < NUMBERS {
        if find(number as c_long).is_some() {
            at += 1;
            positions[number] = at;
        }
        number += 1;
    }
    positions
};

/// The wait of a system call, from the rows and the lists above.
const fn find(number: c_long) -> Option<Wait> {
    let mut at = 0;
    while at < TABLE.len() {
        if let (Some(of_row), Some(wait)) = (TABLE[at].number, TABLE[at].waits)
            && of_row == number
        {
            return Some(wait);
        }
        at += 1;
    }
    match find_in(WITHOUT_ROW, number) {
        Some(wait) => Some(wait),
        None => find_in(WITHOUT_ROW_OLD, number),
    }
}

const fn find_in(list: &[(c_long, Wait)], number: c_long) -> Option<Wait> {
    let mut at = 0;
    while at < list.len() {
        if list[at].0 == number {
            return Some(list[at].1);
        }
        at += 1;
    }
    None
}

/// What the system call of this number can wait for.
pub fn wait_of(number: c_long) -> Option<&'static Wait> {
    let position = *POSITIONS.get(usize::try_from(number).ok()?)?;
    WAITS.get(usize::from(position).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The event that the call waits for with these arguments.
    fn what_for(number: c_long, arguments: &[usize; 6]) -> Option<&'static str> {
        let wait = wait_of(number).filter(|wait| wait.can_wait(arguments))?;
        Some(wait.event)
    }

    #[test]
    fn what_cannot_wait_is_none() {
        use events::{EVENT, LOCK, TIME};
        let poll = |timeout: usize| what_for(libc::SYS_epoll_pwait, &[3, 0, 1, timeout, 0, 0]);
        assert_eq!(
            (poll(0), poll(7), poll(usize::MAX)),
            (None, Some(EVENT), Some(EVENT))
        );
        let futex = |op: i32| what_for(libc::SYS_futex, &[0, op as usize, 0, 0, 0, 0]);
        assert_eq!(
            futex(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG),
            Some(LOCK)
        );
        assert_eq!(
            futex(libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME | libc::FUTEX_PRIVATE_FLAG),
            Some(LOCK)
        );
        assert_eq!(futex(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG), None);
        let lock = |how: i32| what_for(libc::SYS_flock, &[3, how as usize, 0, 0, 0, 0]);
        assert_eq!(lock(libc::LOCK_EX), Some(LOCK));
        assert_eq!(lock(libc::LOCK_EX | libc::LOCK_NB), None);
        assert_eq!(what_for(libc::SYS_getpid, &[0; 6]), None);
        assert_eq!(what_for(libc::SYS_nanosleep, &[0; 6]), Some(TIME));
    }
}
