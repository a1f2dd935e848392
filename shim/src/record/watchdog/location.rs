//! Finds out where a thread is that does not yield: the system call that it is blocked in, or the
//! functions that it computes in.
//!
//! The kernel tells whether a thread is in a system call, and in which. A computing thread is sent
//! a signal whose handler walks its stack. Only the thread itself can do that, because it keeps
//! running. The signal is sent only to computing threads, because it interrupts calls that
//! SA_RESTART does not restart. If the thread begins such a call at that very moment, the call is
//! restarted (`begin_again`), because it had not blocked yet.

use crate::record::handlers;
use crate::state::sigsys;
use crate::state::symbol;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use sys::errno::Errno;
use syscalls::Sysno;

/// The number of frames in a report.
const DEPTH: usize = 24;
/// The number of frames that the handler and the signal delivery add.
const HANDLER_FRAMES: usize = 8;

/// The location of a thread.
pub enum Location {
    /// In a system call with this number, made at this address, and blocked in this kernel
    /// function.
    Call(usize, usize, String),
    /// Computing, with these frames; the innermost is first.
    Frames(Vec<usize>),
    /// The thread did not answer.
    Unknown,
}

/// The signal that asks a thread for its stack; 0 until one is chosen.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The request. There is only one at a time.
struct Request {
    /// The thread that was asked; 0 if none is.
    of: AtomicI32,
    frames: [AtomicUsize; DEPTH],
    /// The number of frames written plus one; 0 until the thread has answered.
    answer: AtomicUsize,
}

static REQUEST: Request = Request {
    of: AtomicI32::new(0),
    frames: [const { AtomicUsize::new(0) }; DEPTH],
    answer: AtomicUsize::new(0),
};

/// How long a thread may take to answer. It may have blocked the signal.
const ANSWER_TIMEOUT_NS: u64 = 1_000_000_000;

/// Call before the first [`Location::of`]. Takes over a signal that the program does not use.
pub fn prepare() {
    // Loads the unwinder, which a signal handler must not do.
    walk(&mut [std::ptr::null_mut(); 4]);
    // The child of fork has inherited the signal, and possibly a request from the parent.
    REQUEST.of.store(0, Ordering::Relaxed);
    if SIGNAL.load(Ordering::Relaxed) != 0 {
        return;
    }
    let free = (libc::SIGRTMIN()..libc::SIGRTMAX()).rev();
    if let Some(number) = free
        .into_iter()
        .find(|number| handlers::take(*number, answer))
    {
        SIGNAL.store(number, Ordering::Relaxed);
    }
}

impl Location {
    /// The location of a thread of this process.
    pub fn of(tid: i32) -> Self {
        let Some(text) = sys::thread_file(tid, "syscall") else {
            return Self::Unknown;
        };
        let mut words = text.split_ascii_whitespace();
        match words.next() {
            Some("running") => Self::frames(tid),
            // The thread is blocked, but not in a system call: it has a page fault.
            Some("-1") | None => Self::Unknown,
            Some(number) => {
                let at = words.next_back().and_then(|word| word.strip_prefix("0x"));
                let at = at.and_then(|word| usize::from_str_radix(word, 16).ok());
                let kernel = sys::thread_file(tid, "wchan").unwrap_or_default();
                Self::Call(
                    number.parse().unwrap_or(usize::MAX),
                    at.unwrap_or(0),
                    kernel,
                )
            }
        }
    }

    fn frames(tid: i32) -> Self {
        let number = SIGNAL.load(Ordering::Relaxed);
        // The program may have taken the signal in the meantime.
        if number == 0 || !handlers::is_taken(number, answer) {
            return Self::Unknown;
        }
        REQUEST.answer.store(0, Ordering::Relaxed);
        REQUEST.of.store(tid, Ordering::Release);
        sys::signal_thread(tid, number);
        let begin = sys::now();
        while REQUEST.answer.load(Ordering::Acquire) == 0 && sys::now() - begin < ANSWER_TIMEOUT_NS
        {
            sys::sleep(100_000);
        }
        // From here on a late handler no longer writes to the frames.
        let unasked = REQUEST.of.swap(0, Ordering::AcqRel) == tid;
        let n = REQUEST.answer.load(Ordering::Acquire);
        if unasked || n <= 1 {
            return Self::Unknown;
        }
        let frames = REQUEST.frames.iter().take(n - 1);
        Self::Frames(frames.map(|frame| frame.load(Ordering::Relaxed)).collect())
    }

    /// A value that is equal for equal places in the program. The position within the innermost
    /// function does not matter, but its callers do.
    pub fn identity(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hash = DefaultHasher::new();
        match self {
            Self::Call(number, at, _) => (number, at).hash(&mut hash),
            Self::Frames(frames) => {
                let first = frames.first().map_or(0, |at| symbol::function_of(*at));
                (first, frames.get(1..4)).hash(&mut hash);
            }
            Self::Unknown => {}
        }
        hash.finish()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(number, at, kernel) => {
                match Sysno::new(*number) {
                    Some(call) => write!(f, "blocked in {}", call.name())?,
                    None => write!(f, "blocked in system call {number}")?,
                }
                if !matches!(kernel.as_str(), "" | "0") {
                    write!(f, " ({kernel})")?;
                }
                write!(f, ", called at {}", symbol::name_of(*at))
            }
            Self::Frames(frames) => {
                write!(f, "computing at")?;
                for (n, frame) in frames.iter().enumerate() {
                    // All frames except the innermost are return addresses, which may lie behind
                    // the end of the function.
                    let name = symbol::name_of(frame - usize::from(n > 0));
                    write!(f, "\n  #{n} {name}")?;
                }
                Ok(())
            }
            Self::Unknown => write!(f, "at an unknown location"),
        }
    }
}

/// The signal handler: writes the interrupted thread's stack to the request.
extern "C" fn answer(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    sigsys::entered_handler();
    // SAFETY: this is the kernel's argument to a handler.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    begin_again(context);
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    let errno = sys::errno::get();
    // Claims the request, so that the watchdog waits for the answer.
    if REQUEST
        .of
        .compare_exchange(me, -me, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
    {
        let mut frames = [std::ptr::null_mut::<c_void>(); DEPTH + HANDLER_FRAMES];
        let n = walk(&mut frames);
        let at = program_counter(context);
        // Leaves out the frames of the handler.
        let begin = frames[..n].iter().position(|frame| *frame as usize == at);
        let frames = &frames[begin.unwrap_or(0)..n];
        for (to, frame) in REQUEST.frames.iter().zip(frames) {
            to.store(*frame as usize, Ordering::Relaxed);
        }
        REQUEST
            .answer
            .store(frames.len().min(DEPTH) + 1, Ordering::Release);
    }
    sys::errno::set(errno);
}

/// Writes the calling thread's stack to `frames` as return addresses. Returns their number.
fn walk(frames: &mut [*mut c_void]) -> usize {
    unsafe extern "C" {
        fn backtrace(buffer: *mut *mut c_void, size: c_int) -> c_int;
    }
    // SAFETY: this calls libc's function, which writes at most `frames.len()` entries.
    unsafe { backtrace(frames.as_mut_ptr(), frames.len() as c_int) as usize }
}

#[cfg(target_arch = "x86_64")]
fn program_counter(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
}

#[cfg(target_arch = "aarch64")]
fn program_counter(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.pc as usize
}

/// Undoes the EINTR of a call that the signal interrupted right at its start, by going back to
/// libc's `mov eax, NUMBER; syscall`. The kernel has kept all other registers, and SA_RESTART has
/// already handled the calls that it restarts.
#[cfg(target_arch = "x86_64")]
fn begin_again(context: &mut libc::ucontext_t) {
    const MOV_EAX: u8 = 0xb8;
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let at = program_counter(context);
    let registers = &mut context.uc_mcontext.gregs;
    let result = registers[libc::REG_RAX as usize];
    // The seven bytes before must be in the same page.
    if result != -i64::from(Errno::INTR.0) || at & 0xfff < 7 {
        return;
    }
    // SAFETY: the thread executes in this page, so it is readable.
    let code = unsafe { std::slice::from_raw_parts((at - 7) as *const u8, 7) };
    if code[0] == MOV_EAX && code[5..] == SYSCALL {
        registers[libc::REG_RIP as usize] -= 7;
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn begin_again(_: &mut libc::ucontext_t) {}
