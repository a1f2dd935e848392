//! Processes and threads: their state, and how they end.

use super::{close, openat, outcome, read};
use crate::errno::Errno;
use std::ffi::c_int;
use std::os::fd::IntoRawFd;
use syscalls::{Sysno, raw};

/// sched_yield(2): lets other threads run.
pub fn yield_thread() {
    rustix::thread::sched_yield();
}

/// How often the calling thread has lost its CPU.
#[derive(Clone, Copy)]
pub struct Switches {
    /// It gave the CPU up, to wait for something.
    pub voluntary: u64,
    /// It was preempted.
    pub involuntary: u64,
}

impl Switches {
    pub const NONE: Self = Self {
        voluntary: 0,
        involuntary: 0,
    };

    /// Whether the thread has waited for something since these counts were `before`.
    pub fn has_waited_since(&self, before: Self) -> bool {
        self.voluntary > before.voluntary
    }
}

/// The calling thread's context switches so far: getrusage(2).
pub fn context_switches() -> Switches {
    // SAFETY: zeroes are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let at = &raw mut usage as usize;
    // SAFETY: the kernel writes one `rusage`, which is alive.
    let _ = unsafe { raw::syscall2(Sysno::getrusage as usize, libc::RUSAGE_THREAD as usize, at) };
    Switches {
        voluntary: usage.ru_nvcsw as u64,
        involuntary: usage.ru_nivcsw as u64,
    }
}

/// Whether a thread of this process is blocked in a system call other than futex(2), according to
/// /proc. Returns true if /proc is not available.
pub fn waits_in_kernel(thread: c_int) -> bool {
    let path = format!("/proc/self/task/{thread}/syscall\0");
    // SAFETY: the path is a C string that is alive during the call.
    let Ok(fd) = (unsafe {
        openat(
            libc::AT_FDCWD,
            path.as_ptr().cast(),
            libc::O_RDONLY | libc::O_CLOEXEC,
            0,
        )
    }) else {
        return true;
    };
    let mut text = [0u8; 32];
    // SAFETY: the kernel writes at most `text.len()` bytes to `text`, which is alive.
    let n = unsafe { read(fd, text.as_mut_ptr().cast(), text.len(), None) }.unwrap_or(0);
    let _ = close(fd);
    // The file holds "running" or the number of the system call, which is -1 for a thread that is
    // blocked outside of one.
    let number = str::from_utf8(&text[..n])
        .ok()
        .and_then(|text| text.split(' ').next());
    match number.map(str::parse::<i64>) {
        Some(Ok(number)) => number >= 0 && number != libc::SYS_futex,
        _ => false,
    }
}

/// pidfd_open(2): a descriptor that becomes readable once the process has ended.
pub fn process_descriptor(pid: libc::pid_t) -> Result<c_int, Errno> {
    // SAFETY: the call accesses no memory.
    outcome(unsafe { raw::syscall2(Sysno::pidfd_open as usize, pid as usize, 0) })
        .map(|n| n as c_int)
}

/// wait4(2).
///
/// # Safety
/// `status` and `usage` are null or may be written to; the kernel checks the addresses.
pub unsafe fn wait4(
    pid: libc::pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> Result<libc::pid_t, Errno> {
    let call = Sysno::wait4 as usize;
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe {
        raw::syscall4(
            call,
            pid as usize,
            status as usize,
            options as usize,
            usage as usize,
        )
    })
    .map(|n| n as libc::pid_t)
}

/// waitid(2).
pub fn waitid(
    kind: libc::idtype_t,
    id: libc::id_t,
    info: &mut libc::siginfo_t,
    options: c_int,
) -> Result<(), Errno> {
    let (call, info) = (Sysno::waitid as usize, std::ptr::from_mut(info) as usize);
    // SAFETY: the kernel writes one siginfo_t, which is alive.
    outcome(unsafe { raw::syscall5(call, kind as usize, id as usize, info, options as usize, 0) })?;
    Ok(())
}

/// Whether a child has ended that was not waited for yet.
pub fn has_ended_child() -> bool {
    // SAFETY: zeroes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let found = waitid(
        libc::P_ALL,
        0,
        &mut info,
        libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
    );
    // The kernel returns a signal number of 0 if there is none.
    found.is_ok() && info.si_signo != 0
}

/// gettid(2).
pub fn thread_id() -> c_int {
    // SAFETY: the call accesses no memory.
    unsafe { raw::syscall0(Sysno::gettid as usize) as c_int }
}

/// The content of a thread's /proc file `name`, which must be short and a single line.
pub fn thread_file(tid: i32, name: &str) -> Option<String> {
    use rustix::fs::{Mode, OFlags, open};
    let path = format!("/proc/self/task/{tid}/{name}");
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 256];
    let n = rustix::io::read(&file, &mut text);
    // Rust's own drop would call libc's close, which is our hook.
    let _ = close(file.into_raw_fd());
    Some(String::from_utf8_lossy(&text[..n.ok()?]).trim().to_owned())
}
