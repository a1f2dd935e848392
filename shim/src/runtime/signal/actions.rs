//! The handlers that the program installed: sigaction(2) and its older variants, as the program
//! must see them.
//!
//! From the first attach on, the kernel has [`super::trampoline`] in place of each handler.
//! Programs that never attach keep their handlers untouched.

use super::trampoline;
use crate::context;
use crate::state::sigsys;
use std::ffi::{c_int, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use sys::SignalSet;
use sys::{SIGNALS_OF_LIBC, signal_bit};

type Handler = libc::sighandler_t;
type Info = *mut libc::siginfo_t;

/// The program's action, as far as the shim hides it from the kernel.
pub struct Action {
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: AtomicU64,
}

/// The recorded action of a signal.
#[derive(Clone, Copy)]
pub struct Recorded {
    pub handler: Handler,
    pub flags: c_int,
    /// The signals to block while the handler runs, in addition to the current mask.
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

/// The signals that a mask can contain.
const BLOCKABLE: SignalSet = !(signal_bit(libc::SIGKILL) | signal_bit(libc::SIGSTOP));

/// The kernel's part of an action's mask: libc's larger set begins with it.
fn mask_of(action: &mut libc::sigaction) -> &mut SignalSet {
    // SAFETY: libc's set is longer than the kernel's, and its alignment is the same.
    unsafe { &mut *(&raw mut action.sa_mask).cast::<SignalSet>() }
}

const SIGNALS: usize = 65;
static ACTIONS: [Action; SIGNALS] = [const { Action::none() }; SIGNALS];

/// The flags that differ between the program's action and the kernel's. The shim's entry always
/// takes a siginfo, and a deferred signal must find its handler still installed. The mask differs
/// too: no other signal may arrive before the entry has decided about this one, and the entry
/// applies the program's mask when it runs the handler.
const HIDDEN: c_int = libc::SA_SIGINFO | libc::SA_RESETHAND;

/// Whether handlers are wrapped, because a thread is or was attached.
static WRAPPING: AtomicBool = AtomicBool::new(false);

/// Called at each attach: wraps all present and future handlers.
pub fn wrap_all() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        wrap_again();
    });
}

/// Gives the program's handlers back to the kernel as they were installed, because the process
/// might otherwise end for a system call that the entry makes. From then on signals no longer
/// interrupt the waits of fibers.
pub fn unwrap_all() {
    WRAPPING.store(false, Relaxed);
    for signal in 1..SIGNALS as c_int {
        // SAFETY: zeroes are a valid sigaction, and it is alive during both calls.
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

/// Wraps all present and future handlers.
pub fn wrap_again() {
    WRAPPING.store(true, Relaxed);
    (1..SIGNALS as c_int).for_each(wrap);
}

/// Returns the program's handler of `signal`, which is about to run. Resets it if SA_RESETHAND says
/// so.
pub fn begin(signal: c_int) -> Recorded {
    let recorded = ACTIONS[signal as usize].load();
    if recorded.flags & libc::SA_RESETHAND != 0 {
        // SAFETY: zeroes are a valid sigaction. The kernel also keeps the flags and the mask.
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

/// The signals that report a fault of the thread which gets them.
const FAULTS: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
];

/// Whether the program has handlers of signals other than faults.
pub fn has_handlers() -> bool {
    (1..SIGNALS as c_int).any(|signal| {
        let handler = ACTIONS[signal as usize].handler.load(Relaxed);
        !matches!(handler, libc::SIG_DFL | libc::SIG_IGN) && !FAULTS.contains(&signal)
    })
}

fn is_ours(handler: Handler) -> bool {
    handler == trampoline::enter as *const () as Handler
}

/// Records a handler and puts the shim's entry in its place. Leaves SIG_DFL and SIG_IGN as they
/// are.
fn hide(signal: c_int, action: &mut libc::sigaction) {
    let handler = action.sa_sigaction;
    if matches!(handler, libc::SIG_DFL | libc::SIG_IGN) || is_ours(handler) {
        return;
    }
    ACTIONS[signal as usize].store(action);
    action.sa_sigaction = trampoline::enter as *const () as Handler;
    action.sa_flags = action.sa_flags & !HIDDEN | libc::SA_SIGINFO;
    *mask_of(action) = !SIGNALS_OF_LIBC;
}

/// Puts the shim's entry in place of the installed handler.
pub fn wrap(signal: c_int) {
    // SAFETY: zeroes are a valid sigaction, and it is alive during both calls. libc refuses its
    // reserved signals; their action stays zero, which is SIG_DFL.
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

/// Forwards a signal that the shim handles (record/unhooked/) but did not cause to the program's
/// own handler. Without a handler the signal kills the process, as by default.
pub fn forward(signal: c_int, info: Info, context: *mut c_void) {
    match ACTIONS[signal as usize].handler.load(Relaxed) {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            // SAFETY: the default action has no handler; the signal is sent to this thread only.
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
            let _handler = context::handler();
            sigsys::entered_handler();
            // SAFETY: the handler has the type that its recorded flags say. The kernel also passes
            // all three arguments to either kind.
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

/// sigaction(2) for a signal that the shim handles: only records the program's action.
///
/// # Safety
/// The same contract as sigaction(2).
unsafe fn record_only(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    let record = &ACTIONS[signal as usize];
    // SAFETY: each pointer is null or valid: they belong to the C caller.
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

/// Whether the shim handles the signal itself, and only forwards it to the program's action.
fn is_the_shims(signal: c_int) -> bool {
    signal == libc::SIGSYS && sigsys::is_owned()
}

/// The program's own action before it is replaced.
fn recorded(signal: c_int) -> Option<Recorded> {
    Some(ACTIONS.get(usize::try_from(signal).ok()?)?.load())
}

impl Recorded {
    /// Rewrites an action that the kernel returned to what the program installed.
    fn show(self, action: &mut libc::sigaction) {
        action.sa_sigaction = self.handler;
        action.sa_flags = action.sa_flags & !HIDDEN | self.flags & HIDDEN;
        *mask_of(action) = self.mask;
    }
}

/// # Safety
/// The same contract as sigaction(2).
unsafe fn real_sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: our caller keeps the same contract.
    unsafe { sigaction::real()(signal, new, old) }
}

macro_rules! sigactions {
    ($($name:ident),*) => {$(
        mod $name {
            #![allow(static_mut_refs, missing_abi)]
            use super::*;

            redhook::hook! {
                unsafe fn $name(
                    number: c_int,
                    new: *const libc::sigaction,
                    old: *mut libc::sigaction
                ) -> c_int => hook {
                    // SAFETY: our caller keeps the same contract.
                    unsafe { install(number, new, old, real()) }
                }
            }

            /// libc's own function.
            pub fn real() -> RealSigaction {
                next_function!($name as RealSigaction)
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
/// The same contract as sigaction(2); `real` is libc's own function.
unsafe fn install(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
    real: RealSigaction,
) -> c_int {
    if !WRAPPING.load(Relaxed) || !(1..SIGNALS as c_int).contains(&signal) {
        // SAFETY: this calls libc's own function with the caller's arguments.
        return unsafe { real(signal, new, old) };
    }
    if is_the_shims(signal) {
        // SAFETY: our caller keeps the same contract.
        return unsafe { record_only(signal, new, old) };
    }
    let before = recorded(signal);
    let mut replaced;
    let mut action = new;
    if !new.is_null() {
        // SAFETY: the pointer is not null, and belongs to the C caller.
        replaced = unsafe { *new };
        hide(signal, &mut replaced);
        action = &raw const replaced;
    }
    // SAFETY: our caller keeps the contract of sigaction(2); the action is a local copy.
    let result = unsafe { real(signal, action, old) };
    if result == 0 && !old.is_null() {
        // SAFETY: the pointer is not null, and libc has just written to it.
        let old = unsafe { &mut *old };
        if let Some(before) = before.filter(|_| is_ours(old.sa_sigaction)) {
            before.show(old);
        }
    }
    result
}

/// Installs a handler by one of the older functions: `by_libc` calls libc's own function, then the
/// shim's entry takes the handler's place. Returns the handler from before.
fn install_handler(number: c_int, handler: Handler, by_libc: impl FnOnce() -> Handler) -> Handler {
    let before = recorded(number);
    if is_the_shims(number) {
        let record = &ACTIONS[number as usize];
        record.flags.store(0, Relaxed);
        return record.handler.swap(handler, Relaxed);
    }
    let old = by_libc();
    if !WRAPPING.load(Relaxed) || old == libc::SIG_ERR {
        return old;
    }
    wrap(number);
    before
        .filter(|_| is_ours(old))
        .map_or(old, |before| before.handler)
}

/// The older functions that install a handler.
macro_rules! older_names {
    ($($name:ident),*) => {$(
        mod $name {
            #![allow(static_mut_refs, missing_abi)]
            use super::*;

            redhook::hook! {
                unsafe fn $name(number: c_int, handler: Handler) -> Handler => hook {
                    type Next = unsafe extern "C" fn(c_int, Handler) -> Handler;
                    install_handler(number, handler, || {
                        let next = next_function!($name as Next);
                        // SAFETY: this calls libc's own function with the caller's arguments.
                        unsafe { next(number, handler) }
                    })
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

/// A handler that belongs to the shim.
type Own = extern "C" fn(c_int, Info, *mut c_void);

/// Installs `handler` for a signal that has no handler. Returns whether it did.
pub fn take(signal: c_int, handler: Own) -> bool {
    // SAFETY: zeroes are a valid sigaction, and it is alive during both calls; the handler has the
    // type that SA_SIGINFO demands.
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

/// Whether that handler is still installed.
pub fn is_taken(signal: c_int, handler: Own) -> bool {
    // SAFETY: zeroes are a valid sigaction, and it is alive.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        real_sigaction(signal, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == handler as *const () as Handler
    }
}
