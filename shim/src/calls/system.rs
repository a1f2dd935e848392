//! system(3): starts a shell and waits for it.
//!
//! This cannot be libc's own function on a pool thread, because that would block SIGCHLD in the
//! pool thread instead of the caller. So the steps are done here: SIGINT and SIGQUIT are ignored by
//! the process as long as any such call is in progress, SIGCHLD is blocked in the calling thread,
//! and the child starts with the original dispositions and mask.

use super::{Verdict, process};
use crate::context::Mutex;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::signal::Handled;
use libc::{pid_t, sigset_t};
use policy::Reason;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use sys::errno::Errno;
use sys::signal_bit;

const INTERRUPTS: [c_int; 2] = [libc::SIGINT, libc::SIGQUIT];

/// The number of calls in progress, and the actions of SIGINT and SIGQUIT from before the first
/// one.
struct Ignored {
    calls: usize,
    before: [libc::sigaction; 2],
}

impl Ignored {
    const NONE: Self = Self {
        calls: 0,
        // SAFETY: zeroes are a valid sigaction.
        before: unsafe { std::mem::zeroed() },
    };
}

fork_reset! {
    static IGNORED: Mutex<Ignored> = Mutex::new(Ignored::NONE);
}

pub fn system(call: &Call<'_>, command: *const c_char) -> Verdict {
    if command.is_null() {
        return Verdict::PassThrough(Reason::Quick);
    }
    if call.is_sole_fiber() {
        return Verdict::PassThrough(Reason::Alone);
    }
    if !call.has_engine() {
        return Verdict::PassThrough(Reason::NoEngine);
    }
    let before = ignore();
    let blocked = call.thread.signals().block(signal_bit(libc::SIGCHLD));
    // SAFETY: the C caller passes a valid command.
    let status = unsafe { start(command, before, blocked) }.and_then(|child| end_of(call, child));
    restore();
    call.thread.signals().end_masked(blocked);
    Verdict::from_result(match status {
        Ok(status) => Ok(status as isize),
        // As if a shell that could not be executed had exited with status 127.
        Err(Failure::Start(error)) => {
            sys::errno::set(error.0);
            Ok(127 << 8)
        }
        Err(Failure::Wait(error)) => Err(error),
    })
}

enum Failure {
    Start(Errno),
    Wait(Unfinished),
}

/// Makes the process ignore SIGINT and SIGQUIT. Returns the actions from before.
fn ignore() -> [libc::sigaction; 2] {
    let mut ignored = IGNORED.get().lock();
    ignored.calls += 1;
    if ignored.calls == 1 {
        // SAFETY: zeroes are a valid sigaction; all pointers are to live values.
        unsafe {
            let mut ignore: libc::sigaction = std::mem::zeroed();
            ignore.sa_sigaction = libc::SIG_IGN;
            for (signal, before) in INTERRUPTS.into_iter().zip(&mut ignored.before) {
                libc::sigaction(signal, &ignore, before);
            }
        }
    }
    ignored.before
}

/// Undoes [`ignore`].
fn restore() {
    let mut ignored = IGNORED.get().lock();
    ignored.calls -= 1;
    if ignored.calls == 0 {
        for (signal, before) in INTERRUPTS.into_iter().zip(&ignored.before) {
            // SAFETY: `before` was filled by sigaction.
            unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
        }
    }
}

/// Starts the shell.
///
/// # Safety
/// `command` is a C string.
unsafe fn start(
    command: *const c_char,
    before: [libc::sigaction; 2],
    blocked: sys::SignalSet,
) -> Result<pid_t, Failure> {
    unsafe extern "C" {
        static environ: *const *mut c_char;
    }
    let mut attributes = MaybeUninit::uninit();
    let (mut reset, mut mask) = (
        MaybeUninit::<sigset_t>::zeroed(),
        MaybeUninit::<sigset_t>::zeroed(),
    );
    let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), command, std::ptr::null()];
    let mut child = 0;
    // SAFETY: all pointers are to live values, and the attributes are initialised before they are
    // used. libc's signal set starts with the kernel's set.
    let error = unsafe {
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        for (signal, before) in INTERRUPTS.into_iter().zip(&before) {
            if before.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(reset.as_mut_ptr(), signal);
            }
        }
        mask.as_mut_ptr().cast::<sys::SignalSet>().write(blocked);
        libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), reset.as_ptr());
        libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), mask.as_ptr());
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as _);
        let error = libc::posix_spawn(
            &mut child,
            c"/bin/sh".as_ptr(),
            std::ptr::null(),
            attributes.as_ptr(),
            arguments.as_ptr().cast(),
            environ,
        );
        libc::posix_spawnattr_destroy(attributes.as_mut_ptr());
        error
    };
    if error == 0 {
        Ok(child)
    } else {
        Err(Failure::Start(Errno(error)))
    }
}

/// Waits for the shell. Handlers run during the wait and do not end it.
fn end_of(call: &Call<'_>, child: pid_t) -> Result<c_int, Failure> {
    let mut status = 0;
    loop {
        match process::end_of(call, child, &mut status) {
            Ok(()) => return Ok(status),
            Err(Unfinished::Interrupted) => {
                let _: Handled = call.interrupted();
            }
            Err(error) => return Err(Failure::Wait(error)),
        }
    }
}
