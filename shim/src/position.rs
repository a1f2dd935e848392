//! Turns at a file's position: reads and writes at the current position are atomic per open file.
//!
//! The kernel holds a lock over read(2) and write(2) at f_pos; io_uring takes none. So an operation
//! that is done in more than one step, or by the engine, first takes its turn: one holder per open
//! file, the others park in order. Descriptors that share an open file share the turn however they
//! came to be (dup, fork, SCM_RIGHTS): the queue is found by inode, and kcmp(2) tells two opens of
//! one file apart.
//!
//! Likewise for those who read, or write, a stream that cannot tell whether it would wait, and for
//! those who accept connections. What they have their turn at may take for ever: so signals,
//! cancellation and deadlines end the wait for that turn.
//!
//! kcmp(2) also puts open files into an order, so a turn costs as many calls as the logarithm of
//! the number of open files of that inode, and none where only one is in use.
//!
//! A plain thread, or another process, that uses the same open file meanwhile is not held up: see
//! docs/limits.md.

use crate::call::Call;
use crate::critical::{Mutex, MutexGuard};
use crate::deadlines::Deadline;
use crate::engine::{Token, Way};
use crate::errno::Errno;
use crate::fork::Renewable;
use crate::holds::Hold;
use crate::remote::Remote;
use crate::{sys, tls};
use std::cmp;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One open file in use at its position.
struct OpenFile {
    id: u64,
    inode: u32,
    /// The holder's hold on it.
    holder: *const Hold,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    hold: *const Hold,
    fiber: *mut c_void,
    thread: Arc<Remote>,
    /// Of a wait that may end early: who sets the claim first ends it, and its token on its thread.
    in_flight: Option<(Arc<AtomicBool>, Token)>,
}

impl Waiter {
    /// Gives it its turn; false if its wait has ended early.
    fn wake(&self) -> bool {
        match &self.in_flight {
            None => self.thread.unpark(self.fiber),
            Some((claim, token)) => {
                if claim.swap(true, Ordering::AcqRel) {
                    return false;
                }
                self.thread.land(*token, 0);
            }
        }
        true
    }
}

// SAFETY: holds outlive the turns they are for, and all that is read of them is an atomic. The
// fiber's name is only handed back to its host, on its own thread (Remote::unpark).
unsafe impl Send for OpenFile {}

impl OpenFile {
    fn fd(&self) -> c_int {
        // SAFETY: the holder's hold lives on its stack until the turn is passed on, under the
        // shard's lock.
        unsafe { &*self.holder }.fd()
    }
}

const SHARDS: usize = 64;

/// Open files in use, by their inodes' hashes, and those of one hash in the kernel's order.
type Shard = Mutex<Vec<OpenFile>>;

static QUEUES: Renewable<[Shard; SHARDS]> =
    Renewable::new([const { Mutex::new(Vec::new()) }; SHARDS]);
static NEXT_ID: AtomicU64 = AtomicU64::new(0);
/// Open files in use at their position, over all threads.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// Attached threads. With one, nothing can come between two steps of a fiber that does not park.
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

pub fn attached() {
    ATTACHED.fetch_add(1, Ordering::SeqCst);
}

pub fn detached() {
    ATTACHED.fetch_sub(1, Ordering::SeqCst);
}

/// Whether more than one thread is attached.
pub fn other_threads() -> bool {
    ATTACHED.load(Ordering::Relaxed) > 1
}

/// Whether a thread is attached other than the calling one, if that is on a fiber.
#[inline(always)]
pub fn others_are_attached() -> bool {
    match ATTACHED.load(Ordering::Relaxed) {
        0 => false,
        1 => tls::here().is_null(),
        _ => true,
    }
}

/// Whether any file's turn is held.
#[inline(always)]
pub fn in_use() -> bool {
    HELD.load(Ordering::Acquire) != 0
}

/// In the child of a fork, with `threads` attached threads left: other fibers' turns are gone with
/// them.
pub fn renew(threads: usize) {
    // SAFETY: the child has one thread, and it is in a fork handler: no reference into the queues
    // is live.
    unsafe { QUEUES.renew([const { Mutex::new(Vec::new()) }; SHARDS]) };
    HELD.store(0, Ordering::SeqCst);
    ATTACHED.store(threads, Ordering::SeqCst);
}

fn shard(inode: u32) -> MutexGuard<'static, Vec<OpenFile>> {
    // Our own locks are no fiber's to park for.
    QUEUES.get()[inode as usize % SHARDS].lock()
}

/// Where the open file of `hold` is in use, or would be. A position is the file's own, so equal
/// numbers name one file; where the kernel will not say more, one inode counts as one open file:
/// slower, never wrong.
fn find(files: &[OpenFile], hold: &Hold, inode: u32, position: bool) -> Result<usize, usize> {
    let fd = hold.fd();
    files.binary_search_by(|file| {
        file.inode.cmp(&inode).then_with(|| {
            if position && file.fd() == fd {
                return cmp::Ordering::Equal;
            }
            sys::compare_open_files(file.fd(), fd).unwrap_or(cmp::Ordering::Equal)
        })
    })
}

/// The caller is the first in a new queue, at `at`, whose number this returns.
fn begin(files: &mut Vec<OpenFile>, at: usize, hold: &Hold, inode: u32) -> u64 {
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let file = OpenFile {
        id,
        inode,
        holder: hold,
        waiting: VecDeque::new(),
    };
    files.insert(at, file);
    id
}

/// A turn at an open file's position; passed on when dropped.
pub enum Turn<'a> {
    /// Nobody holds one and no other thread is attached: nothing to take, as long as the fiber does
    /// not park.
    Unneeded {
        hold: &'a Hold,
        inode: u32,
    },
    Held {
        id: u64,
        inode: u32,
    },
    /// A turn to read or to write a stream: nothing to do with any position.
    OfStream {
        id: u64,
        inode: u32,
    },
}

impl<'a> Turn<'a> {
    /// Whether a fiber needs none as long as it does not park.
    #[inline(always)]
    pub fn is_unneeded() -> bool {
        !in_use() && ATTACHED.load(Ordering::Relaxed) == 1
    }

    /// Takes the turn at the position of the file of `hold`; parks while another fiber has it.
    /// `inode` is the file's hash.
    #[inline]
    pub fn take(call: &Call<'_>, hold: &'a Hold, inode: u32) -> Self {
        if Self::is_unneeded() {
            Self::Unneeded { hold, inode }
        } else {
            Self::hold(call, hold, inode)
        }
    }

    /// Before the fiber parks in the middle of its operation: makes sure that the turn, and the
    /// file, are really held.
    pub fn keep(&mut self, call: &Call<'_>) {
        if let Self::Unneeded { hold, inode } = *self {
            *self = Self::hold(call, hold, inode);
        }
    }

    /// Takes the turn to read, or to write, the stream that `hold` names; parks while another fiber
    /// has it. Err(RESTART) if the fiber was interrupted meanwhile, Err(TIME) if `deadline` came
    /// first.
    pub fn of_stream(
        call: &Call<'_>,
        hold: &'a Hold,
        inode: u32,
        way: Way,
        deadline: Deadline,
    ) -> Result<Self, Errno> {
        // Reading and writing one stream are two queues.
        let inode = inode ^ (way as u32 + 1);
        let mut files = shard(inode);
        let at = match find(&files, hold, inode, false) {
            Ok(at) => at,
            Err(at) => {
                let id = begin(&mut files, at, hold, inode);
                return Ok(Self::OfStream { id, inode });
            }
        };
        let id = files[at].id;
        let claim = Arc::new(AtomicBool::new(false));
        let result = call.await_turn_until(&claim, hold.fd(), deadline, |token| {
            let mut files = files;
            files[at].waiting.push_back(Waiter {
                hold,
                fiber: call.fiber,
                thread: Arc::clone(call.thread.remote()),
                in_flight: Some((Arc::clone(&claim), token)),
            });
        });
        if result >= 0 {
            return Ok(Self::OfStream { id, inode });
        }
        let is_ours = |waiter: &Waiter| matches!(&waiter.in_flight, Some((other, _)) if Arc::ptr_eq(other, &claim));
        if let Some(file) = shard(inode).iter_mut().find(|file| file.id == id) {
            file.waiting.retain(|waiter| !is_ours(waiter));
        }
        Err(Errno::of(result))
    }

    /// Takes the turn at a position, and parks until it is the fiber's.
    fn hold(call: &Call<'_>, hold: &Hold, inode: u32) -> Self {
        hold.begin(call);
        let mut files = shard(inode);
        let id = match find(&files, hold, inode, true) {
            Ok(at) => {
                let id = files[at].id;
                files[at].waiting.push_back(Waiter {
                    hold,
                    fiber: call.fiber,
                    thread: Arc::clone(call.thread.remote()),
                    in_flight: None,
                });
                drop(files);
                call.await_turn();
                id
            }
            Err(at) => {
                HELD.fetch_add(1, Ordering::AcqRel);
                begin(&mut files, at, hold, inode)
            }
        };
        Self::Held { id, inode }
    }

    /// Passes the turn on.
    fn pass(id: u64, inode: u32, position: bool) {
        let mut files = shard(inode);
        let Some(at) = files.iter().position(|file| file.id == id) else {
            return;
        };
        while let Some(next) = files[at].waiting.pop_front() {
            files[at].holder = next.hold;
            if next.wake() {
                return;
            }
        }
        files.remove(at);
        if position {
            HELD.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match *self {
            Self::Unneeded { .. } => {}
            Self::Held { id, inode } => Self::pass(id, inode, true),
            Self::OfStream { id, inode } => Self::pass(id, inode, false),
        }
    }
}
