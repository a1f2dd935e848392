//! Functions of libc's that call back into the program: they run on a thread of the pool, and each call-back on the fiber.
//!
//! The thread leaves what is to be called where its fiber finds it, unparks that, and waits; the fiber calls it as if libc's
//! function had, errno included, and parks again. A walk through a cold tree so blocks nobody, at a hand-over there and back
//! for each call-back.
//!
//! Invariant: exactly one of the two runs at a time; the conversation lies on the fiber's stack and outlives both.

use crate::call::Call;
use crate::critical::{self, Condvar, Mutex, MutexGuard};
use crate::engine::{Lane, Names, Run};
use crate::errno;
use crate::policy::{Alone, Why};
use crate::remote::Remote;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// Whose turn it is.
enum Turn {
    /// The thread's.
    Function,
    /// The fiber's, to call this.
    CallBack(*mut (dyn FnMut() + 'static)),
    /// The fiber's, for the function has returned.
    Over,
}

// SAFETY: the pointer is only followed by the fiber, while the thread whose stack it is on waits for it.
unsafe impl Send for Turn {}

struct Conversation<R, F> {
    function: Option<F>,
    result: Option<R>,
    errno: c_int,
    link: Link,
}

/// What both sides talk over, whatever the function is.
struct Link {
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

/// What `function`, libc's own, returns; None if libc is to be called as ever, from the fiber. It may call [`ask`].
pub fn whole<R, F: FnOnce() -> R>(call: &Call<'_>, callback: *const c_void, function: F) -> Option<R> {
    if call.load().alone == Alone::Entirely {
        call.through(Why::Alone);
        return None;
    }
    let result = call.has_engine().then(|| talk(call, callback, function)).flatten();
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
    // SAFETY: on this stack; what else is in the conversation is not touched before the function has returned.
    let link = unsafe { &(*conversation).link };
    loop {
        // Unparked once for each time that the thread says something.
        call.await_turn();
        let callback = match &*link.turn() {
            Turn::CallBack(callback) => *callback,
            _ => break,
        };
        // SAFETY: on the stack of the thread, which waits for the answer.
        critical::in_program(call.thread, || unsafe { (*callback)() });
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
    // SAFETY: the caller's promise; the fiber looks at the link alone until the function has returned.
    let (link, function) = unsafe { (&raw const (*conversation).link, (*conversation).function.take()) };
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
        *(*link).turn() = Turn::Over;
        (Arc::clone(&(*link).remote), (*link).fiber)
    };
    remote.unpark(fiber);
}

/// From within the function: has the fiber call back what the program gave, and returns what that does.
///
/// # Panics
/// Outside a conversation: libc calls back from the thread that it was called on.
pub fn ask<R>(call: impl FnOnce(*const c_void) -> R) -> R {
    // SAFETY: set while the function runs, during which the conversation lasts.
    let link = unsafe { LINK.get().as_ref() }.expect("within a conversation");
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
    let callback = unsafe { std::mem::transmute::<&mut dyn FnMut(), *mut (dyn FnMut() + 'static)>(callback) };
    *link.turn() = Turn::CallBack(callback);
    link.remote.unpark(link.fiber);
    let mut turn = link.turn();
    while !matches!(*turn, Turn::Function) {
        turn = link.answered.wait(turn);
    }
    drop(turn);
    errno::set(errno);
    result.expect("the fiber has called back")
}

impl Link {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock()
    }
}
