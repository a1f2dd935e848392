//! Stack overflow: if a fault hits a fiber's guard page, the handler reports the fiber before the
//! process dies of the fault.
//!
//! Invariant: the handler runs on its own signal stack and uses only async-signal-safe operations.
//! It passes every fault on to the handler that was installed before, including the ones it
//! reported.

use crate::output;
use crate::record::fiber::Fiber;
use crate::record::{name, stack};
use crate::worker::current;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::BorrowedFd;
use std::sync::Once;

/// The previous action for SIGSEGV.
struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: it is written once, before our handler is installed, and only read afterwards.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::uninit()));
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler once.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sigaction gets valid arguments. No fiber runs yet, so PREVIOUS is complete before
        // our handler can need it.
        unsafe {
            let previous = PREVIOUS.0.get().cast::<libc::sigaction>();
            libc::sigaction(libc::SIGSEGV, core::ptr::null(), previous);
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGSEGV, &action, null_mut());
        }
    });
}

extern "C" fn handler(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let address = unsafe { (*info).si_addr() }.addr();
    if let Some(fiber) = overflowed(address)
        && !REPORTED.swap(true, Ordering::Relaxed)
    {
        report(fiber);
    }
    forward(signal, info, context);
}

/// Returns the running fiber if `address` lies in its guard.
fn overflowed(address: usize) -> Option<&'static Fiber> {
    // SAFETY: records are never unmapped.
    let fiber = unsafe { current::worker()?.current().as_ref() }?;
    let guard = fiber.stack.get().addr();
    (guard..guard + stack::page())
        .contains(&address)
        .then_some(fiber)
}

fn report(fiber: &Fiber) {
    let mut line = Line {
        text: [0; 256],
        len: 0,
    };
    let size = fiber.class.get().size() >> 10;
    line.text("fiber: stack overflow in fiber ");
    line.number(fiber.id.load(Ordering::Relaxed));
    // SAFETY: the fiber runs on this thread. If another thread changes the name at this moment, the
    // report may mix the two names.
    let name = unsafe { *fiber.name.get() };
    if name[0] != 0 {
        line.text(" \"");
        line.bytes(name::text(&name));
        line.text("\"");
    }
    line.text(": its stack of ");
    line.number(size as u64);
    line.text(" KiB is full; set FIBER_STACK=");
    line.number(size as u64 * 2);
    line.text("K or fiber_attr_t.stack_size to enlarge it\n");
    if let Some(fd) = output::stderr() {
        // SAFETY: the descriptor is borrowed for this call only. It was open a moment ago; if it
        // has been closed since, the write returns EBADF.
        let _ = rustix::io::write(
            unsafe { BorrowedFd::borrow_raw(fd) },
            &line.text[..line.len],
        );
    }
}

/// A line of text that is built without allocation or the formatting machinery.
struct Line {
    text: [u8; 256],
    len: usize,
}

impl Line {
    fn bytes(&mut self, bytes: &[u8]) {
        for &b in bytes.iter().take(self.text.len() - self.len) {
            self.text[self.len] = b;
            self.len += 1;
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, mut n: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.bytes(&digits[at..]);
    }
}

/// Passes the fault on to the previous handler. If there is none, restores the default action; the
/// fault then repeats and kills the process.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: PREVIOUS was written before our handler was installed, and held a valid action then.
    unsafe {
        let previous = &*PREVIOUS.0.get().cast::<libc::sigaction>();
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default: libc::sigaction = core::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(libc::SIGSEGV, &default, null_mut());
            }
            f if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let f: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    core::mem::transmute(f);
                f(signal, info, context);
            }
            f => {
                let f: extern "C" fn(c_int) = core::mem::transmute(f);
                f(signal);
            }
        }
    }
}

/// A signal stack for a worker's thread, if the thread had none.
pub(crate) struct SignalStack(Option<Box<[MaybeUninit<u8>]>>);

/// Enough space for the registers of the largest CPUs and for the handlers of other libraries.
const SIGNAL_STACK: usize = 64 << 10;

impl SignalStack {
    /// Gives the calling thread a signal stack, unless it already has one.
    pub(crate) fn install() -> SignalStack {
        // SAFETY: the calls read and set this thread's signal stack. The memory stays allocated
        // until `drop` removes the stack.
        unsafe {
            let mut now: libc::stack_t = core::mem::zeroed();
            libc::sigaltstack(core::ptr::null(), &mut now);
            if now.ss_flags & libc::SS_DISABLE == 0 {
                return SignalStack(None);
            }
            // Not zeroed: its pages are only touched if a handler runs on it.
            let mut memory = Box::new_uninit_slice(SIGNAL_STACK);
            let ours = libc::stack_t {
                ss_sp: memory.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: SIGNAL_STACK,
            };
            libc::sigaltstack(&ours, null_mut());
            SignalStack(Some(memory))
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        if self.0.is_some() {
            let none = libc::stack_t {
                ss_sp: null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            // SAFETY: this thread's signal stack is the one that `install` set.
            unsafe { libc::sigaltstack(&none, null_mut()) };
        }
    }
}
