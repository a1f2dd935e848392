//! Functions of libc's that call back into the program: they run on a thread of the pool, and each
//! call-back on the fiber.
//!
//! The thread leaves what is to be called where its fiber finds it, unparks that, and waits; the
//! fiber calls it as if libc's function had, errno included, and parks again. A walk through a cold
//! tree so blocks nobody, at a hand-over there and back for each call-back.
//!
//! A call-back may never return: it throws an exception, jumps, or ends its fiber. Before its
//! frames go ([`end_left`]) the thread is told, makes libc's function end, and is waited for.
//!
//! Invariant: exactly one of the two runs at a time; the conversation lies on the fiber's stack and
//! outlives both.

use crate::call::Call;
use crate::critical::{self, Condvar, Mutex, MutexGuard};
use crate::engine::{Lane, Names, Run};
use crate::errno;
use crate::policy::Why;
use crate::remote::Remote;
use crate::thread::Thread;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// Whose turn it is.
enum Turn {
    /// The thread's.
    Function,
    /// The fiber's, to call this.
    CallBack(*mut (dyn FnMut() + 'static)),
    /// The thread's, whose call-back will not return: the function is to end.
    Left,
    /// The fiber's, for the function has returned.
    Over,
}

// SAFETY: the pointer is only followed by the fiber, while the thread whose stack it is on waits
// for it.
unsafe impl Send for Turn {}

struct Conversation<R, F> {
    function: Option<F>,
    result: Option<R>,
    errno: c_int,
    link: Link,
}

/// What both sides talk over, whatever the function is.
pub struct Link {
    turn: Mutex<Turn>,
    answered: Condvar,
    fiber: *mut c_void,
    remote: Arc<Remote>,
    /// The program's function.
    callback: *const c_void,
}

thread_local! {
    /// The conversation that this thread of the pool is in.
    static LINK: Cell<*const Link> = const { Cell::new(std::ptr::null()) };
}

/// What `function`, libc's own, returns; None if libc is to be called as ever, from the fiber. It
/// may call [`ask`].
pub fn whole<R, F: FnOnce() -> R>(
    call: &Call<'_>,
    callback: *const c_void,
    function: F,
) -> Option<R> {
    if call.is_sole_fiber() {
        call.through(Why::Alone);
        return None;
    }
    let result = call
        .has_engine()
        .then(|| talk(call, callback, function))
        .flatten();
    if result.is_none() {
        call.through(Why::NoEngine);
    }
    result
}

fn talk<R, F: FnOnce() -> R>(call: &Call<'_>, callback: *const c_void, function: F) -> Option<R> {
    let mut conversation = Conversation {
        function: Some(function),
        result: None,
        errno: errno::get(),
        link: Link {
            turn: Mutex::new(Turn::Function),
            answered: Condvar::new(),
            fiber: call.fiber,
            remote: Arc::clone(call.thread.remote()),
            callback,
        },
    };
    let conversation = &raw mut conversation;
    let run = Run {
        code: travel::<R, F>,
        data: conversation.cast(),
        names: Names::Nothing,
        lane: Lane::Peers,
    };
    if !call.start_on_pool(run) {
        return None;
    }
    // SAFETY: on this stack; what else is in the conversation is not touched before the function
    // has returned.
    let link = unsafe { &(*conversation).link };
    loop {
        // Unparked once for each time that the thread says something.
        call.await_turn();
        let callback = match &*link.turn() {
            Turn::CallBack(callback) => *callback,
            _ => break,
        };
        call.thread.talks().borrow_mut().push(link);
        // SAFETY: on the stack of the thread, which waits for the answer; the link is on this one.
        critical::in_program(call.thread, || unsafe { watched::call(&callback, link) });
        call.thread
            .talks()
            .borrow_mut()
            .retain(|other| !std::ptr::eq(*other, link));
        let mut turn = link.turn();
        *turn = Turn::Function;
        link.answered.notify_all();
    }
    // SAFETY: the thread is done with it.
    let conversation = unsafe { &mut *conversation };
    errno::set(conversation.errno);
    conversation.result.take()
}

/// On the pool's thread.
///
/// # Safety
/// `data` is a `Conversation<R, F>` whose fiber is parked until it is told to go on.
unsafe fn travel<R, F: FnOnce() -> R>(data: *mut c_void) {
    let conversation = data.cast::<Conversation<R, F>>();
    // SAFETY: the caller's promise; the fiber looks at the link alone until the function has
    // returned.
    let (link, function) = unsafe {
        (
            &raw const (*conversation).link,
            (*conversation).function.take(),
        )
    };
    let Some(function) = function else { return };
    LINK.set(link);
    // SAFETY: the fiber looks at the link alone until the function has returned.
    unsafe { errno::set((*conversation).errno) };
    let result = function();
    LINK.set(std::ptr::null());
    // SAFETY: the fiber, and with it the conversation, goes on once it is unparked and not before.
    let (remote, fiber) = unsafe {
        (*conversation).result = Some(result);
        (*conversation).errno = errno::get();
        let link = &*link;
        let (remote, fiber) = (Arc::clone(&link.remote), link.fiber);
        let mut turn = link.turn();
        if matches!(*turn, Turn::Left) {
            // The fiber is not parked, but waits here.
            *turn = Turn::Over;
            link.answered.notify_all();
            return;
        }
        *turn = Turn::Over;
        (remote, fiber)
    };
    remote.unpark(fiber);
}

/// From within the function: has the fiber call back what the program gave, and returns what that
/// does; `stop` once the fiber has left.
///
/// # Panics
/// Outside a conversation: libc calls back from the thread that it was called on.
pub fn ask<R>(stop: R, call: impl FnOnce(*const c_void) -> R) -> R {
    // SAFETY: set while the function runs, during which the conversation lasts.
    let link = unsafe { LINK.get().as_ref() }.expect("within a conversation");
    if matches!(*link.turn(), Turn::Left) {
        return stop;
    }
    let mut call = Some(call);
    let mut result = None;
    let mut errno = errno::get();
    let mut callback = || {
        errno::set(errno);
        result = call.take().map(|call| call(link.callback));
        errno = errno::get();
    };
    let callback: &mut dyn FnMut() = &mut callback;
    // SAFETY: the fiber calls it while this waits, and not after it has answered.
    let callback =
        unsafe { std::mem::transmute::<&mut dyn FnMut(), *mut (dyn FnMut() + 'static)>(callback) };
    *link.turn() = Turn::CallBack(callback);
    link.remote.unpark(link.fiber);
    let mut turn = link.turn();
    while !matches!(*turn, Turn::Function | Turn::Left) {
        turn = link.answered.wait(turn);
    }
    let has_left = matches!(*turn, Turn::Left);
    drop(turn);
    if has_left {
        return stop;
    }
    errno::set(errno);
    result.expect("the fiber has called back")
}

/// Ends the conversations of `fiber`, which is running, whose frames are `leaving`: no call-back of
/// theirs will return.
pub fn end_left(thread: &Thread, fiber: *const c_void, leaving: impl Fn(*const Link) -> bool) {
    loop {
        let mut talks = thread.talks().borrow_mut();
        // SAFETY: the frames that the links lie in are still in place.
        let is_left =
            |link: &*const Link| unsafe { (**link).fiber.cast_const() } == fiber && leaving(*link);
        let Some(at) = talks.iter().rposition(is_left) else {
            return;
        };
        let link = talks.remove(at);
        drop(talks);
        // SAFETY: the link's frame is still in place, and off the list nobody looks at the link
        // afterwards.
        unsafe { Link::end(link.cast_mut()) };
    }
}

/// Whether there is a conversation that could be left.
pub fn is_talking(thread: &Thread) -> bool {
    !thread.talks().borrow().is_empty()
}

impl Link {
    /// Has the function end, and waits until it has.
    ///
    /// # Safety
    /// The fiber has its turn and will not answer; the conversation is not used afterwards.
    unsafe fn end(link: *mut Self) {
        let errno = errno::get();
        {
            // SAFETY: the caller's promise.
            let link = unsafe { &*link };
            let mut turn = link.turn();
            *turn = Turn::Left;
            link.answered.notify_all();
            while !matches!(*turn, Turn::Over) {
                turn = link.answered.wait(turn);
            }
        }
        // SAFETY: the thread is done with it, and the frame it lies in is never returned to.
        unsafe { std::ptr::drop_in_place(&raw mut (*link).remote) };
        errno::set(errno);
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock()
    }
}

/// The frame from which a call-back is called: exceptions that pass through it, and the unwinding
/// by which a thread ends, are noticed by its personality routine.
mod watched {
    use super::{Link, end_left};
    use crate::tls;
    use std::arch::naked_asm;
    use std::ffi::{c_int, c_void};

    type CallBack = *mut (dyn FnMut() + 'static);

    /// Calls `*callback`, of the conversation that `link` is of.
    ///
    /// # Safety
    /// It may be called.
    pub unsafe fn call(callback: &CallBack, link: *const Link) {
        // SAFETY: the caller's promise.
        unsafe { frame(enter, callback, link) }
    }

    unsafe extern "C" fn enter(callback: *const CallBack) {
        // SAFETY: as `call`'s caller says.
        unsafe { (**callback)() }
    }

    /// The register that holds the link meanwhile, as unwinders number them.
    #[cfg(target_arch = "x86_64")]
    const LINK: c_int = 3;
    #[cfg(target_arch = "aarch64")]
    const LINK: c_int = 19;

    #[cfg(target_arch = "x86_64")]
    #[unsafe(naked)]
    unsafe extern "C" fn frame(
        enter: unsafe extern "C" fn(*const CallBack),
        callback: *const CallBack,
        link: *const Link,
    ) {
        naked_asm!(
            ".cfi_startproc",
            // Relative to the instruction pointer, 4 bytes.
            ".cfi_personality 0x1b, {personality}",
            "push rbx",
            ".cfi_adjust_cfa_offset 8",
            ".cfi_offset rbx, -16",
            "mov rbx, rdx",
            "mov rax, rdi",
            "mov rdi, rsi",
            "call rax",
            "pop rbx",
            ".cfi_adjust_cfa_offset -8",
            ".cfi_restore rbx",
            "ret",
            ".cfi_endproc",
            personality = sym personality,
        )
    }

    /// Untested: no aarch64 machine was at hand.
    #[cfg(target_arch = "aarch64")]
    #[unsafe(naked)]
    unsafe extern "C" fn frame(
        enter: unsafe extern "C" fn(*const CallBack),
        callback: *const CallBack,
        link: *const Link,
    ) {
        naked_asm!(
            ".cfi_startproc",
            ".cfi_personality 0x1b, {personality}",
            "stp x29, x30, [sp, #-32]!",
            ".cfi_adjust_cfa_offset 32",
            ".cfi_offset x29, -32",
            ".cfi_offset x30, -24",
            "str x19, [sp, #16]",
            ".cfi_offset x19, -16",
            "mov x29, sp",
            "mov x19, x2",
            "mov x9, x0",
            "mov x0, x1",
            "blr x9",
            "ldr x19, [sp, #16]",
            "ldp x29, x30, [sp], #32",
            ".cfi_adjust_cfa_offset -32",
            "ret",
            ".cfi_endproc",
            personality = sym personality,
        )
    }

    const CLEANUP_PHASE: c_int = 2;
    const CONTINUE_UNWIND: c_int = 8;

    unsafe extern "C" {
        fn _Unwind_GetGR(context: *mut c_void, register: c_int) -> usize;
    }

    /// Nothing is caught here; the frame is about to go, and the conversation with it.
    extern "C" fn personality(
        _: c_int,
        actions: c_int,
        _: u64,
        _: *mut c_void,
        context: *mut c_void,
    ) -> c_int {
        if actions & CLEANUP_PHASE != 0 {
            // SAFETY: the unwinder's context, of the frame above.
            let left = unsafe { _Unwind_GetGR(context, LINK) };
            // SAFETY: a fiber runs on its own thread, which is attached.
            if let Some(thread) = unsafe { tls::attached().as_ref() } {
                end_left(thread, thread.host().running(), |link| link.addr() == left);
            }
        }
        CONTINUE_UNWIND
    }
}
