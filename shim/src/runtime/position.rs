//! The lock on a file position, called a turn here: reads and writes at the current position are
//! atomic per open file.
//!
//! The kernel holds a lock during read(2) and write(2) at f_pos; io_uring takes none. Therefore an
//! operation that has several steps, or that the engine performs, first takes the turn of its open
//! file. There is one holder per open file, and other fibers park in FIFO order. Descriptors that
//! share an open file share the turn, whether they were shared by dup, fork or SCM_RIGHTS: the
//! queue is found by inode, and kcmp(2) tells apart two opens of one file.
//!
//! There are also turns for reading or writing a stream that does not support nonblocking tries,
//! and for accepting connections. Their holders may block indefinitely, so signals, cancellation
//! and deadlines end the wait for such a turn.
//!
//! kcmp(2) also orders open files. Finding a queue therefore takes a number of calls that is
//! logarithmic in the number of open files in use with that inode, and none if there is only one.
//!
//! A plain thread or another process that uses the same open file is not blocked by a turn; see
//! docs/limits.md.

use crate::context::{Mutex, MutexGuard};
use crate::engine::Direction;
use crate::host::Token;
use crate::host::remote::Remote;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::Deadline;
use crate::state::attached;
use crate::state::descriptors::Descriptor;
use crate::state::holds::Hold;
use std::cmp;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// An open file whose turn is taken.
struct OpenFile {
    id: u64,
    inode: u32,
    /// The holder's hold on the file.
    holder: *const Hold,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    hold: *const Hold,
    fiber: *mut c_void,
    thread: Arc<Remote>,
    /// For a wait that may end early: the claim, which the side that ends the wait sets first, and
    /// the wait's token on its thread.
    in_flight: Option<(Arc<AtomicBool>, Token)>,
}

impl Waiter {
    /// Gives the waiter the turn; false if its wait has ended early.
    fn wake(&self) -> bool {
        match &self.in_flight {
            None => self.thread.unpark(self.fiber),
            Some((claim, token)) => {
                if claim.swap(true, Ordering::AcqRel) {
                    return false;
                }
                self.thread.complete(*token, 0);
            }
        }
        true
    }
}

// SAFETY: holds outlive the turns that they belong to, and only an atomic in them is read. The
// fiber's address is only passed back to its host, on its own thread (Remote::unpark).
unsafe impl Send for OpenFile {}

impl OpenFile {
    fn fd(&self) -> c_int {
        // SAFETY: the holder's hold lives on its stack until the turn is passed on, which happens
        // under the shard's lock.
        unsafe { &*self.holder }.fd()
    }
}

const SHARDS: usize = 64;

/// Open files in use, sorted by the hash of their inode, and by the kernel's order within one hash.
type Shard = Mutex<Vec<OpenFile>>;

fork_reset! {
    static QUEUES: [Shard; SHARDS] = [const { Mutex::new(Vec::new()) }; SHARDS];
}
static NEXT_ID: AtomicU64 = AtomicU64::new(0);
/// The number of open files whose position turn is taken, over all threads.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// The same for the files of each shard.
static HELD_IN: [AtomicUsize; SHARDS] = [const { AtomicUsize::new(0) }; SHARDS];

/// How many transfers of one system call are in progress, in [`STRIPES`] counters, so that few
/// threads share one.
static SINGLE_STEPS: [Counter; STRIPES] = [const { Counter(AtomicUsize::new(0)) }; STRIPES];
const STRIPES: usize = 64;

/// A counter with a cache line of its own.
#[repr(align(64))]
struct Counter(AtomicUsize);

after_fork!(|| {
    HELD.store(0, Ordering::SeqCst);
    for held in &HELD_IN {
        held.store(0, Ordering::SeqCst);
    }
    for Counter(count) in &SINGLE_STEPS {
        count.store(0, Ordering::SeqCst);
    }
});

/// Whether any turn at a position is taken.
#[inline(always)]
pub fn in_use() -> bool {
    HELD.load(Ordering::Acquire) != 0
}

/// The index of the shard of the files with this inode.
fn shard_of(inode: u32) -> usize {
    inode as usize % SHARDS
}

fn shard(inode: u32) -> MutexGuard<'static, Vec<OpenFile>> {
    // These locks are never held across a park, so waiting for one blocks the thread only briefly.
    QUEUES.get()[shard_of(inode)].lock()
}

/// The index of the counter that the thread whose state is at this address uses. Allocators put the
/// states of threads at the same offsets in different arenas, so all bits of the address count.
#[inline(always)]
fn stripe(thread: usize) -> usize {
    let mixed = (thread as u64 >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - STRIPES.ilog2())) as usize
}

/// Whether the turn of this open file may be taken; false for most other open files.
#[inline(always)]
fn may_be_taken(descriptor: Descriptor) -> bool {
    HELD.load(Ordering::SeqCst) != 0 && may_be_taken_in_shard(descriptor)
}

#[cold]
#[inline(never)]
fn may_be_taken_in_shard(descriptor: Descriptor) -> bool {
    let inode = descriptor.examined().inode();
    HELD_IN[shard_of(inode)].load(Ordering::SeqCst) != 0
}

/// Returns the index of the open file of `hold`, or the index where to insert it. For a position,
/// equal descriptors refer to one file. If kcmp(2) does not answer, all opens of an inode count as
/// one open file, which is slower but correct.
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

/// Inserts a new queue at `at`, with the caller as its holder, and returns its id.
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

/// A transfer at the position that is a single system call. It needs no turn, because the kernel
/// makes it atomic, but it must not run while another thread is between the steps of a transfer at
/// that position. Therefore it begins only if the turn of its file is free, and whoever takes a
/// turn waits until those that have begun are over. They never park.
pub struct SingleStep(Option<&'static AtomicUsize>);

impl SingleStep {
    /// Begins a transfer of `descriptor`. None if its turn may be taken. If a turn at another file
    /// had the same effect, this transfer would take a turn, too, and so would all others, for as
    /// long as two threads are busy.
    #[inline(always)]
    pub fn begin(call: &Call<'_>, descriptor: Descriptor) -> Option<Self> {
        if attached::is_single() {
            return (!may_be_taken(descriptor)).then_some(Self(None));
        }
        let Counter(count) = &SINGLE_STEPS[stripe(std::ptr::from_ref(call.thread).addr())];
        // The order of this and the next line, and of their counterparts in `await_single_steps`,
        // makes sure that one of both threads sees the other.
        count.fetch_add(1, Ordering::SeqCst);
        let step = Self(Some(count));
        (!may_be_taken(descriptor)).then_some(step)
    }

    /// For a transfer that is not at a position.
    #[inline(always)]
    pub const fn elsewhere() -> Self {
        Self(None)
    }
}

impl Drop for SingleStep {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Waits until the transfers of other threads that began before the caller's turn are over.
fn await_single_steps() {
    for Counter(count) in &SINGLE_STEPS {
        while count.load(Ordering::SeqCst) != 0 {
            sys::yield_thread();
        }
    }
}

/// A turn at an open file; passed on when dropped.
pub enum PositionGuard<'a> {
    /// No turn is taken and no other thread is attached, so no turn is needed as long as the fiber
    /// does not park.
    Unneeded {
        hold: &'a Hold,
        inode: u32,
    },
    Held {
        id: u64,
        inode: u32,
    },
    /// A turn to read or write a stream, independent of any position.
    Stream {
        id: u64,
        inode: u32,
    },
}

impl<'a> PositionGuard<'a> {
    /// Takes the turn at the position of the file of `hold`, and parks while another fiber has it.
    /// `inode` is the file's hash.
    #[inline]
    pub fn acquire(call: &Call<'_>, hold: &'a Hold, inode: u32) -> Self {
        if !in_use() && attached::is_single() {
            Self::Unneeded { hold, inode }
        } else {
            Self::acquire_held(call, hold, inode)
        }
    }

    /// Makes sure that the turn and the file are really held. Call it before the fiber parks in the
    /// middle of its operation.
    pub fn ensure_held(&mut self, call: &Call<'_>) {
        if let Self::Unneeded { hold, inode } = *self {
            *self = Self::acquire_held(call, hold, inode);
        }
    }

    /// Takes the turn to read or write the stream of `hold`, and parks while another fiber has it.
    /// Fails if the fiber was interrupted in that wait, or if `deadline` passed.
    pub fn acquire_stream(
        call: &Call<'_>,
        hold: &'a Hold,
        inode: u32,
        direction: Direction,
        deadline: Deadline,
    ) -> Result<Self, Unfinished> {
        // Readers and writers of one stream have separate queues.
        let inode = inode ^ (direction as u32 + 1);
        let mut files = shard(inode);
        let at = match find(&files, hold, inode, false) {
            Ok(at) => at,
            Err(at) => {
                let id = begin(&mut files, at, hold, inode);
                return Ok(Self::Stream { id, inode });
            }
        };
        let id = files[at].id;
        let claim = Arc::new(AtomicBool::new(false));
        let turn = call.await_unpark_until(&claim, hold.fd(), deadline, |token| {
            let mut files = files;
            files[at].waiting.push_back(Waiter {
                hold,
                fiber: call.fiber,
                thread: Arc::clone(call.thread.remote()),
                in_flight: Some((Arc::clone(&claim), token)),
            });
        });
        let Err(error) = turn else {
            return Ok(Self::Stream { id, inode });
        };
        let is_ours = |waiter: &Waiter| {
            let other = waiter.in_flight.as_ref().map(|(other, _)| other);
            other.is_some_and(|other| Arc::ptr_eq(other, &claim))
        };
        if let Some(file) = shard(inode).iter_mut().find(|file| file.id == id) {
            file.waiting.retain(|waiter| !is_ours(waiter));
        }
        Err(error)
    }

    /// Takes the turn at a position, parking until it is free.
    fn acquire_held(call: &Call<'_>, hold: &Hold, inode: u32) -> Self {
        call.hold(hold);
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
                call.await_unpark();
                id
            }
            Err(at) => {
                HELD.fetch_add(1, Ordering::SeqCst);
                HELD_IN[shard_of(inode)].fetch_add(1, Ordering::SeqCst);
                let id = begin(&mut files, at, hold, inode);
                drop(files);
                await_single_steps();
                id
            }
        };
        Self::Held { id, inode }
    }

    /// Passes the turn on to the next waiter.
    fn release(id: u64, inode: u32, position: bool) {
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
            HELD_IN[shard_of(inode)].fetch_sub(1, Ordering::AcqRel);
            HELD.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for PositionGuard<'_> {
    fn drop(&mut self) {
        match *self {
            Self::Unneeded { .. } => {}
            Self::Held { id, inode } => Self::release(id, inode, true),
            Self::Stream { id, inode } => Self::release(id, inode, false),
        }
    }
}
