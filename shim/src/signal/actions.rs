//! What handlers the program installed: sigaction(2) and its older names, as the program is to see
//! them.
//!
//! From the first attach on each handler has [`super::entry`] in its place with the kernel.
//! Programs that never attach keep theirs untouched.

use super::{OF_LIBC, bit, entry};
use crate::escapes;
use crate::sys::SignalSet;
use crate::tls::OffFiber;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};

type Handler = libc::sighandler_t;
type Info = *mut libc::siginfo_t;

/// What the program asked for, as far as ours hides it.
pub struct Action {
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: AtomicU64,
}

/// What is known of a program's handler.
#[derive(Clone, Copy)]
pub struct Recorded {
    pub handler: Handler,
    pub flags: c_int,
    /// What is blocked while it runs, besides what was blocked before.
    pub mask: SignalSet,
}

impl Action {
    const fn none() -> Self {
        Self {
            handler: AtomicUsize::new(0),
            flags: AtomicI32::new(0),
            mask: AtomicU64::new(0),
        }
    }

    fn load(&self) -> Recorded {
        Recorded {
            handler: self.handler.load(Relaxed),
            flags: self.flags.load(Relaxed),
            mask: self.mask.load(Relaxed),
        }
    }

    fn store(&self, action: &libc::sigaction) {
        self.mask
            .store(*mask_of(&mut action.clone()) & BLOCKABLE, Relaxed);
        self.flags.store(action.sa_flags, Relaxed);
        self.handler.store(action.sa_sigaction, Relaxed);
    }
}

/// Signals that a mask can hold.
const BLOCKABLE: SignalSet = !(bit(libc::SIGKILL) | bit(libc::SIGSTOP));

/// The kernel's part of an action's mask: libc's set begins with it.
fn mask_of(action: &mut libc::sigaction) -> &mut SignalSet {
    // SAFETY: libc's set is longer than the kernel's, and as well aligned.
    unsafe { &mut *(&raw mut action.sa_mask).cast::<SignalSet>() }
}

const SIGNALS: usize = 65;
static ACTIONS: [Action; SIGNALS] = [const { Action::none() }; SIGNALS];

/// Flags that the kernel is given differently: our entry always takes what comes with a signal; and
/// a signal that waits must find its handler still there. The mask is different, too: no other
/// signal comes before our entry has decided what to do about one, and it blocks what the program
/// asked for when it runs the handler.
const HIDDEN: c_int = libc::SA_SIGINFO | libc::SA_RESETHAND;

/// A thread is or was attached: handlers are wrapped.
static WRAPPING: AtomicBool = AtomicBool::new(false);

/// At an attach: wraps the handlers that are there, and those to come.
pub fn wrap_all() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        wrap_again();
    });
}

/// Gives the program's handlers back to the kernel as they were installed, before the process may
/// end for a system call that our entry makes. No fiber's wait may end for a handler any more.
pub fn unwrap_all() {
    WRAPPING.store(false, Relaxed);
    for signal in 1..SIGNALS as c_int {
        // SAFETY: zeroes are a valid sigaction; both calls get one that is alive.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if real_sigaction(signal, std::ptr::null(), &mut action) != 0
                || !is_ours(action.sa_sigaction)
            {
                continue;
            }
            ACTIONS[signal as usize].load().show(&mut action);
            real_sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Wraps the handlers that are there, and those to come.
pub fn wrap_again() {
    WRAPPING.store(true, Relaxed);
    (1..SIGNALS as c_int).for_each(wrap);
}

/// The program's handler of `signal`, which is about to run.
pub fn begin(signal: c_int) -> Recorded {
    let recorded = ACTIONS[signal as usize].load();
    if recorded.flags & libc::SA_RESETHAND != 0 {
        // SAFETY: zeroes are a valid sigaction; the kernel, too, keeps the flags and the mask.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            real_sigaction(signal, std::ptr::null(), &mut action);
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = action.sa_flags & !HIDDEN | recorded.flags & HIDDEN;
            *mask_of(&mut action) = recorded.mask;
            real_sigaction(signal, &action, std::ptr::null_mut());
        }
    }
    recorded
}

fn is_ours(handler: Handler) -> bool {
    handler == entry::enter as *const () as Handler
}

/// Records a handler and puts ours in its place; what is no handler stays as it is.
fn hide(signal: c_int, action: &mut libc::sigaction) {
    let handler = action.sa_sigaction;
    if matches!(handler, libc::SIG_DFL | libc::SIG_IGN) || is_ours(handler) {
        return;
    }
    ACTIONS[signal as usize].store(action);
    action.sa_sigaction = entry::enter as *const () as Handler;
    action.sa_flags = action.sa_flags & !HIDDEN | libc::SA_SIGINFO;
    *mask_of(action) = !OF_LIBC;
}

/// Puts ours in the place of the handler that is installed.
pub fn wrap(signal: c_int) {
    // SAFETY: zeroes are a valid sigaction; both calls get one that is alive. Signals that libc
    // keeps to itself are refused and stay zero, which is SIG_DFL.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if real_sigaction(signal, std::ptr::null(), &mut action) != 0 {
            return;
        }
        let before = action.sa_sigaction;
        hide(signal, &mut action);
        if action.sa_sigaction != before {
            real_sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Has the program's own handler of a signal that is ours (escapes/) take one that is not; without
/// one it kills, as it does by default.
pub fn hand_on(signal: c_int, info: Info, context: *mut c_void) {
    match ACTIONS[signal as usize].handler.load(Relaxed) {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            // SAFETY: the default action takes no handler; the signal is sent to this thread alone.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                real_sigaction(signal, &default, std::ptr::null_mut());
                libc::raise(signal);
            }
        }
        handler => {
            let record = &ACTIONS[signal as usize];
            let flags = record.flags.load(Relaxed);
            if flags & libc::SA_RESETHAND != 0 {
                record.handler.store(libc::SIG_DFL, Relaxed);
            }
            let _off = OffFiber::enter();
            escapes::entered_handler();
            // SAFETY: recorded with the type that its flags say it has. The kernel, too, passes all
            // three arguments to either kind.
            unsafe {
                if flags & libc::SA_SIGINFO != 0 {
                    std::mem::transmute::<usize, Own>(handler)(signal, info, context);
                } else {
                    std::mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal);
                }
            }
        }
    }
}

/// sigaction(2) for a signal that is ours: the program's action is only recorded.
///
/// # Safety
/// As sigaction(2).
unsafe fn record_only(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    let record = &ACTIONS[signal as usize];
    // SAFETY: null or the C caller's.
    let (new, old) = unsafe { (new.as_ref().copied(), old.as_mut()) };
    if let Some(old) = old {
        // SAFETY: zeroes are a valid sigaction.
        *old = unsafe { std::mem::zeroed() };
        record.load().show(old);
    }
    if let Some(new) = new {
        record.store(&new);
    }
    0
}

/// Whether a signal is the shim's, and the program's action for it stands behind.
fn is_the_shims(signal: c_int) -> bool {
    signal == libc::SIGSYS && escapes::owns_sigsys()
}

/// The program's own action, before it is replaced.
fn recorded(signal: c_int) -> Option<Recorded> {
    Some(ACTIONS.get(usize::try_from(signal).ok()?)?.load())
}

impl Recorded {
    /// Has an action that the kernel told of say what the program installed.
    fn show(self, action: &mut libc::sigaction) {
        action.sa_sigaction = self.handler;
        action.sa_flags = action.sa_flags & !HIDDEN | self.flags & HIDDEN;
        *mask_of(action) = self.mask;
    }
}

/// # Safety
/// As sigaction(2).
unsafe fn real_sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { sigaction::real()(signal, new, old) }
}

macro_rules! sigactions {
    ($($name:ident),*) => {$(
        mod $name {
            #![allow(static_mut_refs, missing_abi)]
            use super::*;

            redhook::hook! {
                unsafe fn $name(number: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int => hook {
                    // SAFETY: as the caller's.
                    unsafe { install(number, new, old, redhook::real!($name)) }
                }
            }

            /// libc's own; one of the two is enough for our own use.
            #[allow(dead_code)]
            pub fn real() -> RealSigaction {
                redhook::real!($name)
            }
        }
    )*};
}

sigactions!(sigaction, __sigaction);

type RealSigaction =
    unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;

/// sigaction(2) as the program sees it.
///
/// # Safety
/// As sigaction(2); `real` is libc's own.
unsafe fn install(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
    real: RealSigaction,
) -> c_int {
    if !WRAPPING.load(Relaxed) || !(1..SIGNALS as c_int).contains(&signal) {
        // SAFETY: libc's own function, with its caller's arguments.
        return unsafe { real(signal, new, old) };
    }
    if is_the_shims(signal) {
        // SAFETY: as the caller's.
        return unsafe { record_only(signal, new, old) };
    }
    let before = recorded(signal);
    let mut replaced;
    let mut action = new;
    if !new.is_null() {
        // SAFETY: not null; the C caller's.
        replaced = unsafe { *new };
        hide(signal, &mut replaced);
        action = &raw const replaced;
    }
    // SAFETY: as the caller's, with a copy of the action.
    let result = unsafe { real(signal, action, old) };
    if result == 0 && !old.is_null() {
        // SAFETY: not null, and just written by libc.
        let old = unsafe { &mut *old };
        if let Some(before) = before.filter(|_| is_ours(old.sa_sigaction)) {
            before.show(old);
        }
    }
    result
}

/// The older names by which a handler is installed: libc's own does it, then ours is put in its
/// place.
macro_rules! older_names {
    ($($name:ident),*) => {$(
        mod $name {
            #![allow(static_mut_refs, missing_abi)]
            use super::*;

            redhook::hook! {
                unsafe fn $name(number: c_int, handler: Handler) -> Handler => hook {
                    let before = recorded(number);
                    if is_the_shims(number) {
                        let record = &ACTIONS[number as usize];
                        record.flags.store(0, Relaxed);
                        return record.handler.swap(handler, Relaxed);
                    }
                    // SAFETY: libc's own function, with its caller's arguments.
                    let old = unsafe { redhook::real!($name)(number, handler) };
                    if !WRAPPING.load(Relaxed) || old == libc::SIG_ERR {
                        return old;
                    }
                    wrap(number);
                    before.filter(|_| is_ours(old)).map_or(old, |before| before.handler)
                }
            }
        }
    )*};
}

older_names!(
    signal,
    bsd_signal,
    ssignal,
    sysv_signal,
    __sysv_signal,
    sigset
);

/// While it lives the calling thread takes no signals, and a thread that it makes never does.
pub struct Blocked(libc::sigset_t);

impl Blocked {
    pub fn all() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are alive; the first is filled before it is read, and a failure (an
        // unknown `how`) is impossible.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a mask that the kernel gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// A handler of the shim's own.
type Own = extern "C" fn(c_int, Info, *mut c_void);

/// Installs `handler` for a signal that has none; whether it did.
pub fn take(signal: c_int, handler: Own) -> bool {
    // SAFETY: zeroes are a valid sigaction; both calls get one that is alive, and the handler is of
    // the kind that SA_SIGINFO says.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if real_sigaction(signal, std::ptr::null(), &mut action) != 0
            || action.sa_sigaction != libc::SIG_DFL
        {
            return false;
        }
        action.sa_sigaction = handler as *const () as Handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigfillset(&mut action.sa_mask);
        real_sigaction(signal, &action, std::ptr::null_mut()) == 0
    }
}

/// Whether that handler is still there.
pub fn is_taken(signal: c_int, handler: Own) -> bool {
    // SAFETY: zeroes are a valid sigaction, and it is alive.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        real_sigaction(signal, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == handler as *const () as Handler
    }
}
