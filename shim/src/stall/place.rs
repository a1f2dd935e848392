//! Where a thread is that keeps its turn: the system call it sits in, or the functions it computes
//! in.
//!
//! The kernel tells of a thread in a system call. One that computes is sent a signal, whose handler
//! walks its stack, on that thread, since nobody else may: it moves. The signal is for computing
//! threads alone, because it ends the calls that no SA_RESTART restarts. A thread that begins one
//! at that very moment has it begun again (`begin_again`): it had not waited yet.

use crate::errno::Errno;
use crate::escapes;
use crate::{signal, symbol, sys};
use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use syscalls::Sysno;

/// Frames of a report.
const DEPTH: usize = 24;
/// Those of the handler itself, and what the signal puts between.
const OURS: usize = 8;

/// Where a thread is.
pub enum Place {
    /// In a system call, made at this address, sleeping in that function of the kernel's.
    Call(usize, usize, String),
    /// Computing: the innermost frame first.
    Frames(Vec<usize>),
    /// It did not say.
    Unknown,
}

/// Which signal asks a thread for its stack; 0 before there is one.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The one request there is at a time.
struct Request {
    /// The thread asked; 0 while none is.
    of: AtomicI32,
    frames: [AtomicUsize; DEPTH],
    /// Frames written plus one; 0 until then.
    answer: AtomicUsize,
}

static REQUEST: Request = Request {
    of: AtomicI32::new(0),
    frames: [const { AtomicUsize::new(0) }; DEPTH],
    answer: AtomicUsize::new(0),
};

/// How long a thread has to answer: it may block the signal.
const PATIENCE: u64 = 1_000_000_000;

/// Before the first [`Place::of`]: takes a signal that the program has no use for.
pub fn prepare() {
    // Loads the unwinder, which a handler must not.
    walk(&mut [std::ptr::null_mut(); 4]);
    // The child of a fork has the signal already, and perhaps its parent's request.
    REQUEST.of.store(0, Ordering::Relaxed);
    if SIGNAL.load(Ordering::Relaxed) != 0 {
        return;
    }
    let free = (libc::SIGRTMIN()..libc::SIGRTMAX()).rev();
    if let Some(number) = free
        .into_iter()
        .find(|number| signal::take(*number, answer))
    {
        SIGNAL.store(number, Ordering::Relaxed);
    }
}

impl Place {
    /// Of a thread of this process.
    pub fn of(tid: i32) -> Self {
        let Some(text) = sys::thread_file(tid, "syscall") else {
            return Self::Unknown;
        };
        let mut words = text.split_ascii_whitespace();
        match words.next() {
            Some("running") => Self::frames(tid),
            // Blocked, but in no call: a page fault.
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
        // The program may have taken it meanwhile.
        if number == 0 || !signal::is_taken(number, answer) {
            return Self::Unknown;
        }
        REQUEST.answer.store(0, Ordering::Relaxed);
        REQUEST.of.store(tid, Ordering::Release);
        sys::signal_thread(tid, number);
        let begin = sys::now();
        while REQUEST.answer.load(Ordering::Acquire) == 0 && sys::now() - begin < PATIENCE {
            sys::sleep(100_000);
        }
        // From here on a late handler leaves the frames alone.
        let unasked = REQUEST.of.swap(0, Ordering::AcqRel) == tid;
        let n = REQUEST.answer.load(Ordering::Acquire);
        if unasked || n <= 1 {
            return Self::Unknown;
        }
        let frames = REQUEST.frames.iter().take(n - 1);
        Self::Frames(frames.map(|frame| frame.load(Ordering::Relaxed)).collect())
    }

    /// The same for the same place in the program: where in a function it happened to be does not
    /// count, who called it does.
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

impl fmt::Display for Place {
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
                    // All but the innermost are where a call returns to, which may be behind the
                    // function's end.
                    let name = symbol::name_of(frame - usize::from(n > 0));
                    write!(f, "\n  #{n} {name}")?;
                }
                Ok(())
            }
            Self::Unknown => write!(f, "at a place that could not be found out"),
        }
    }
}

/// The handler: writes down the interrupted thread's stack.
extern "C" fn answer(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    escapes::entered_handler();
    // SAFETY: the kernel's argument to a handler.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    begin_again(context);
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    let errno = crate::errno::get();
    // Taken, so that whoever asked waits for the answer.
    if REQUEST
        .of
        .compare_exchange(me, -me, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
    {
        let mut frames = [std::ptr::null_mut::<c_void>(); DEPTH + OURS];
        let n = walk(&mut frames);
        let at = program_counter(context);
        // The frames of the handler are not the fiber's.
        let begin = frames[..n].iter().position(|frame| *frame as usize == at);
        let frames = &frames[begin.unwrap_or(0)..n];
        for (to, frame) in REQUEST.frames.iter().zip(frames) {
            to.store(*frame as usize, Ordering::Relaxed);
        }
        REQUEST
            .answer
            .store(frames.len().min(DEPTH) + 1, Ordering::Release);
    }
    crate::errno::set(errno);
}

/// The calling thread's stack, as return addresses.
fn walk(frames: &mut [*mut c_void]) -> usize {
    unsafe extern "C" {
        fn backtrace(buffer: *mut *mut c_void, size: c_int) -> c_int;
    }
    // SAFETY: libc's, which writes at most so many.
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

/// Undoes the EINTR of a call that our signal ended as it began: back to the `mov eax, NUMBER;
/// syscall` of libc's. The kernel has kept all other registers, and its SA_RESTART has seen to the
/// calls that it restarts.
#[cfg(target_arch = "x86_64")]
fn begin_again(context: &mut libc::ucontext_t) {
    const MOV_EAX: u8 = 0xb8;
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let at = program_counter(context);
    let registers = &mut context.uc_mcontext.gregs;
    let result = registers[libc::REG_RAX as usize];
    // Seven bytes before, in the same page.
    if result != -i64::from(Errno::INTR.0) || at & 0xfff < 7 {
        return;
    }
    // SAFETY: the thread executes in this page.
    let code = unsafe { std::slice::from_raw_parts((at - 7) as *const u8, 7) };
    if code[0] == MOV_EAX && code[5..] == SYSCALL {
        registers[libc::REG_RIP as usize] -= 7;
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn begin_again(_: &mut libc::ucontext_t) {}
