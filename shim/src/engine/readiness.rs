//! Waits for files with epoll(7). When epoll reports a file ready, each transfer or socket call on
//! it is attempted, and stays queued until an attempt succeeds or fails for good. A poll completes
//! when the file is ready.
//!
//! A thread that is blocked in read(2) keeps its file when another thread closes the descriptor,
//! and does not notice that the number is reused. Waits here must behave the same way, so each
//! registers its descriptor with a [`Hold`]: it receives a duplicate when the number is closed, and
//! needs no second descriptor until then.
//!
//! epoll identifies a file by the number under which it was added, and cannot be asked about it by
//! another number. A stale registration under an old number reports at most once (EPOLLONESHOT),
//! and its generation number gives it away.

use super::request::{Direction, Request};
use super::{Sink, Wait};
use crate::host::Token;
use crate::state::holds::Hold;
use crate::state::{descriptors, log};
use format::options::Level;
use rustix::event::{self, PollFd, PollFlags, epoll};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd};
use sys::errno::Errno;

/// The epoll data of the wake-up eventfd.
const WAKE: u64 = u64::MAX;

pub struct Readiness {
    epoll: c_int,
    wake_fd: c_int,
    watched: Slab<WatchedFile>,
    /// Maps the program's descriptor numbers to the entries of `watched` that were opened under
    /// them.
    by_fd: HashMap<c_int, Vec<usize>>,
    /// For each waiting token: the key of its file in `watched`.
    keys: Vec<usize>,
    /// Consecutive failures of epoll_wait.
    failures: u32,
    /// The kernel refuses to watch files. The thread pool does all current and future waits.
    refused: bool,
    /// The generation of the next entry of `watched`.
    generation: u32,
    /// The number of entries of `watched` that rest.
    resting: usize,
}

/// Marks a token in `keys` that does not wait.
const NOT_WAITING: usize = usize::MAX;

/// How many consecutive failures of epoll_wait are tolerated.
const MAX_FAILURES: u32 = 3;

/// An open file with at least one waiting request, or one that rests: epoll still knows it, but
/// reports nothing. The next wait under its number most likely finds the same file, and arming it
/// again is cheaper than adding it. If the number refers to another file by then, epoll says so.
struct WatchedFile {
    /// The program's descriptor at the time the first request began to wait.
    fd: c_int,
    /// Boxed because it must not move. None while the file rests.
    hold: Option<Box<Hold>>,
    /// Tells this entry from earlier ones with the same key.
    generation: u32,
    /// The descriptor number that epoll knows the file by.
    number: Option<c_int>,
    readers: VecDeque<(Token, Request)>,
    writers: VecDeque<(Token, Request)>,
    /// Polls, with the events that each waits for.
    polls: Vec<(Token, i16)>,
    /// The events that epoll will report. Empty until armed, and again after each report.
    armed: epoll::EventFlags,
    /// Consecutive times that the file was reported ready although no attempt succeeded.
    spurious: u32,
}

/// poll(2) reports some sockets as ready although a call would block: a datagram socket whose
/// receiver is full, or one with a message in its error queue. After this many failed attempts the
/// fiber is told to make the call without the engine.
pub const MAX_SPURIOUS_READY: u32 = 50;

impl WatchedFile {
    fn queue(&mut self, direction: Direction) -> &mut VecDeque<(Token, Request)> {
        match direction {
            Direction::Read => &mut self.readers,
            Direction::Write => &mut self.writers,
        }
    }

    /// The descriptor that currently refers to the file.
    fn file(&self) -> c_int {
        self.hold.as_ref().map_or(self.fd, |hold| hold.fd())
    }

    fn wanted(&self) -> epoll::EventFlags {
        let mut events = epoll::EventFlags::empty();
        events.set(epoll::EventFlags::IN, !self.readers.is_empty());
        events.set(epoll::EventFlags::OUT, !self.writers.is_empty());
        // The events of poll(2) have the same values in epoll(7). A poll always waits for errors,
        // even if it asks for no event.
        self.polls.iter().fold(events, |events, (_, wanted)| {
            events
                | epoll::EventFlags::ERR
                | epoll::EventFlags::from_bits_retain(u32::from(*wanted as u16))
        })
    }

    fn remove(&mut self, token: Token) {
        self.readers.retain(|(other, _)| *other != token);
        self.writers.retain(|(other, _)| *other != token);
        self.polls.retain(|(other, _)| *other != token);
    }
}

impl Readiness {
    /// `wake_fd` is an eventfd that ends the waits.
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Errno(e.raw_os_error()))?;
        let readiness = Self {
            epoll: descriptors::adopt(epoll.into_raw_fd())?,
            wake_fd,
            watched: Slab::new(),
            by_fd: HashMap::new(),
            keys: Vec::new(),
            failures: 0,
            refused: false,
            generation: 0,
            resting: 0,
        };
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(
            readiness.epoll(),
            borrowed(wake_fd),
            data,
            epoll::EventFlags::IN,
        )
        .map_err(|e| Errno(e.raw_os_error()))?;
        // A seccomp filter may allow epoll_create1 and deny the other calls.
        let mut room = [MaybeUninit::<epoll::Event>::uninit()];
        epoll::wait(readiness.epoll(), &mut room, Wait::No.timeout().as_ref())
            .map_err(|e| Errno(e.raw_os_error()))?;
        Ok(readiness)
    }

    fn epoll(&self) -> BorrowedFd<'static> {
        borrowed(self.epoll)
    }

    /// Starts to wait for `request`, a transfer on a stream, a socket call or a poll. Returns false
    /// if it is none of these, or if epoll cannot wait for its file.
    pub fn add(&mut self, request: &Request, token: Token) -> bool {
        let Some(fd) = request.fd() else { return false };
        if self.refused {
            return false;
        }
        let key = self.find(fd).unwrap_or_else(|| self.watch(fd));
        let watched = &mut self.watched[key];
        if watched.hold.is_none() {
            watched.hold = Some(registered(fd));
            self.resting -= 1;
        }
        match *request {
            Request::Poll { events, .. } => watched.polls.push((token, events)),
            Request::AwaitSignal { .. } => watched.polls.push((token, libc::POLLIN)),
            _ => {
                if let Some(direction) = request.direction() {
                    let queue = watched.queue(direction);
                    if queue.capacity() == 0 {
                        // Most files have one waiter; a first push would make room for four.
                        queue.reserve_exact(1);
                    }
                    queue.push_back((token, *request));
                }
            }
        }
        let at = token as usize;
        if self.keys.len() <= at {
            self.keys.resize(at + 1, NOT_WAITING);
        }
        self.keys[at] = key;
        if self.arm(key).is_ok() {
            return true;
        }
        self.remove(token);
        false
    }

    /// Cancels the wait of `token`, if it waits here.
    pub fn remove(&mut self, token: Token) -> bool {
        let Some(slot) = self.keys.get_mut(token as usize) else {
            return false;
        };
        let key = std::mem::replace(slot, NOT_WAITING);
        if key == NOT_WAITING {
            return false;
        }
        self.watched[key].remove(token);
        self.rearm(key);
        true
    }

    /// The watched file that `fd` currently refers to, or a resting one that may be it.
    fn find(&self, fd: c_int) -> Option<usize> {
        let keys = self.by_fd.get(&fd)?;
        let same = |&&key: &&usize| {
            let file = self.watched[key].file();
            file == fd || sys::same_open_file(file, fd) == Some(true)
        };
        keys.iter().find(same).copied()
    }

    fn watch(&mut self, fd: c_int) -> usize {
        self.generation = self.generation.wrapping_add(1) & (i32::MAX as u32);
        let key = self.watched.insert(WatchedFile {
            fd,
            hold: Some(registered(fd)),
            generation: self.generation,
            number: None,
            readers: VecDeque::new(),
            writers: VecDeque::new(),
            polls: Vec::new(),
            armed: epoll::EventFlags::empty(),
            spurious: 0,
        });
        self.by_fd.entry(fd).or_default().push(key);
        key
    }

    /// Registers the events that requests wait for. Lets the file rest if no request waits for it,
    /// or drops it.
    fn arm(&mut self, key: usize) -> Result<(), Errno> {
        let watched = &mut self.watched[key];
        let wanted = watched.wanted();
        if wanted.is_empty() {
            self.rest_or_forget(key);
            return Ok(());
        }
        let file = watched.file();
        let is_known = watched.number == Some(file);
        if is_known && watched.armed == wanted {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(u64::from(watched.generation) << 32 | key as u64);
        let once = wanted | epoll::EventFlags::ONESHOT;
        let modify = || epoll::modify(borrowed(self.epoll), borrowed(file), data, once);
        let add = || epoll::add(borrowed(self.epoll), borrowed(file), data, once);
        let result = if is_known {
            modify().or_else(|error| match error {
                rustix::io::Errno::NOENT => add(),
                error => Err(error),
            })
        } else {
            add().or_else(|error| match error {
                rustix::io::Errno::EXIST => modify(),
                error => Err(error),
            })
        };
        result.map_err(|error| Errno(error.raw_os_error()))?;
        (watched.number, watched.armed) = (Some(file), wanted);
        Ok(())
    }

    /// Like [`Self::arm`], except that the file stays in `watched` when the kernel refuses, because
    /// other requests may wait for it.
    fn rearm(&mut self, key: usize) {
        if let Err(error) = self.arm(key) {
            self.note_failure(error);
        }
    }

    /// Ignores errors that say that a number was closed unnoticed; any other error means that the
    /// kernel refuses epoll.
    fn note_failure(&mut self, error: Errno) {
        if !matches!(error.0, libc::ENOENT | libc::EBADF) {
            self.refuse(error);
        }
    }

    #[cold]
    fn refuse(&mut self, error: Errno) {
        if !self.refused {
            self.refused = true;
            log::say(
                Level::Info,
                format_args!(
                    "epoll failed: {error}; this thread uses the thread pool to wait for files"
                ),
            );
        }
    }

    fn rest_or_forget(&mut self, key: usize) {
        let watched = &mut self.watched[key];
        let is_disarmed = watched.armed.is_empty() && watched.number == Some(watched.fd);
        // If the number was closed, it is of no use to find the file again.
        if is_disarmed && watched.file() == watched.fd {
            watched.hold = None;
            self.resting += 1;
        } else {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: usize) {
        let watched = self.watched.remove(key);
        if let Some(keys) = self.by_fd.get_mut(&watched.fd) {
            keys.retain(|&other| other != key);
            if keys.is_empty() {
                self.by_fd.remove(&watched.fd);
            }
        }
        // If the number refers to another file by now, epoll must not be asked to delete it.
        if watched.number == Some(watched.file())
            && let Err(error) = epoll::delete(self.epoll(), borrowed(watched.file()))
        {
            self.note_failure(Errno(error.raw_os_error()));
        }
    }

    /// Waits as `wait` says until a file is ready or the thread is woken, then attempts the
    /// requests that wait for the ready files.
    pub fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) {
        if self.refused {
            return self.poll_refused(wait, sink);
        }
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        let events = match epoll::wait(self.epoll(), &mut room, wait.timeout().as_ref()) {
            Ok((events, _)) => events,
            // The caller checks its state and polls again.
            Err(rustix::io::Errno::INTR) => return,
            Err(error) => {
                self.failures += 1;
                if self.failures > MAX_FAILURES {
                    self.refuse(Errno(error.raw_os_error()));
                }
                return;
            }
        };
        self.failures = 0;
        for event in events {
            match event.data.u64() {
                WAKE => {
                    let _ = rustix::io::read(borrowed(self.wake_fd), &mut [0u8; 8]);
                }
                data => self.ready(data as u32 as usize, (data >> 32) as u32, event.flags, sink),
            }
        }
        if self.refused {
            self.poll_refused(Wait::No, sink);
        }
    }

    /// Without epoll: gives all waiting requests to the thread pool, then waits for a wake-up only.
    #[cold]
    fn poll_refused(&mut self, wait: Wait, sink: &mut dyn Sink) {
        let gave = !self.is_empty();
        self.resting = 0;
        for watched in self
            .watched
            .drain()
            .filter(|watched| watched.hold.is_some())
        {
            // The pool threads wait on a duplicate, which stays open.
            let file = match sys::duplicate_to_wait_on(watched.file()) {
                Some(duplicate) => {
                    descriptors::mark_shim_owned(duplicate, true);
                    duplicate
                }
                None => watched.file(),
            };
            for (token, request) in watched.readers.into_iter().chain(watched.writers) {
                sink.offload(token, request.on(file));
            }
            for (token, events) in watched.polls {
                sink.offload(token, Request::Poll { fd: file, events });
            }
        }
        self.by_fd.clear();
        self.keys.fill(NOT_WAITING);
        let wait = if gave { Wait::No } else { wait };
        let wake_fd = borrowed(self.wake_fd);
        let _ = event::poll(
            &mut [PollFd::new(&wake_fd, PollFlags::IN)],
            wait.timeout().as_ref(),
        );
        let _ = rustix::io::read(wake_fd, &mut [0u8; 8]);
    }

    fn ready(
        &mut self,
        key: usize,
        generation: u32,
        events: epoll::EventFlags,
        sink: &mut dyn Sink,
    ) {
        use epoll::EventFlags as Events;
        let failed = events.intersects(Events::ERR | Events::HUP);
        let mut progressed = false;
        let keys = &mut self.keys;
        let mut ended = |token: Token| keys[token as usize] = NOT_WAITING;
        // The kernel may report a file under a stale number that no request waits for any more. A
        // file that rests must not be counted as resting once more.
        let Some(watched) = self
            .watched
            .get_mut(key)
            .filter(|watched| watched.generation == generation && watched.hold.is_some())
        else {
            return;
        };
        watched.armed = Events::empty();
        for (direction, event) in [
            (Direction::Read, Events::IN),
            (Direction::Write, Events::OUT),
        ] {
            if !failed && !events.contains(event) {
                continue;
            }
            let file = watched.file();
            let queue = watched.queue(direction);
            while let Some(&(token, request)) = queue.front() {
                let tried = request.on(file).attempt();
                if matches!(tried, Ok(None)) {
                    break;
                }
                progressed = true;
                queue.pop_front();
                ended(token);
                match (tried, request) {
                    (Ok(n), _) => sink.done(token, n.unwrap_or(0) as i32),
                    // The file used to support non-blocking attempts and no longer does. It is
                    // ready, so the pool makes the plain call.
                    (Err(Errno::NOTSUP), Request::Transfer(transfer)) => {
                        sink.offload(token, Request::Plain(transfer))
                    }
                    (Err(error), _) => sink.done(token, -error.0),
                }
            }
        }
        watched.spurious = if progressed { 0 } else { watched.spurious + 1 };
        if watched.spurious > MAX_SPURIOUS_READY {
            watched.spurious = 0;
            for queue in [&mut watched.readers, &mut watched.writers] {
                if let Some(&(token, Request::Socket(_))) = queue.front() {
                    queue.pop_front();
                    ended(token);
                    sink.done(token, -Errno::AGAIN.0);
                }
            }
        }
        let reported = events.bits() as i16;
        watched.polls.retain(|&(token, wanted)| {
            let found = reported & (wanted | libc::POLLERR | libc::POLLHUP);
            if found != 0 {
                ended(token);
                sink.done(token, i32::from(found));
            }
            found == 0
        });
        self.rearm(key);
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.watched.len() == self.resting
    }

    /// A descriptor that becomes readable when [`Self::poll`] would find an event.
    pub fn fd(&self) -> c_int {
        self.epoll
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        close(self.epoll);
    }
}

/// A hold on the file of `fd` that lasts until it is dropped.
fn registered(fd: c_int) -> Box<Hold> {
    let hold = Box::new(Hold::new(fd));
    hold.register();
    hold
}

/// Closes a descriptor that the shim owns.
fn close(fd: c_int) {
    descriptors::disown(fd);
    let _ = sys::close(fd);
}

fn borrowed(fd: c_int) -> BorrowedFd<'static> {
    // SAFETY: `fd` is one of the engine's own descriptors, the wake-up eventfd of the owning
    // thread, or a file that a [`Hold`] or its duplicate keeps open during the call.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
