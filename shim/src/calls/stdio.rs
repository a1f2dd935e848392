//! fopen(3), fclose(3), fflush(3), flockfile(3), dprintf(3): the stdio functions that do more than
//! a stream's jump table sees, or never reach it. The rest is in [`crate::runtime::stream`].

use super::{Verdict, open};
use crate::calls::via::offload;
use crate::context;
use crate::hooks;
use crate::runtime::call::Call;
use crate::runtime::stream::layout::File;
use crate::runtime::stream::{self, parked, waiting};
use libc::FILE;
use policy::{Contention, Reason};
use std::ffi::{CStr, c_char, c_int, c_void};
use sys::errno::{self, Errno};

/// The buffer for dprintf's text on the fiber's stack; longer texts are allocated.
const LINE: usize = 512;

/// libc reads this many characters of a mode.
const MODE_LENGTH: usize = 7;

/// The permissions of a new file, before the umask.
const ACCESS: libc::mode_t = 0o666;

/// How to open a stream: the parts of a mode that can be done in two steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode {
    flags: c_int,
    /// The equivalent mode for fdopen.
    plain: &'static CStr,
}

impl Mode {
    /// Returns None if the mode is invalid, or if libc does more with it (a character set, a
    /// mapping).
    fn of(text: &CStr) -> Option<Self> {
        let (first, rest) = text.to_bytes().split_first()?;
        let (mut access, mut flags, [plain, both]) = match first {
            b'r' => (libc::O_RDONLY, 0, [c"r", c"r+"]),
            b'w' => (libc::O_WRONLY, libc::O_CREAT | libc::O_TRUNC, [c"w", c"w+"]),
            b'a' => (
                libc::O_WRONLY,
                libc::O_CREAT | libc::O_APPEND,
                [c"a", c"a+"],
            ),
            _ => return None,
        };
        if rest.contains(&b',') {
            return None;
        }
        let mut plain = plain;
        for letter in rest.iter().take(MODE_LENGTH - 1) {
            match letter {
                b'+' => (access, plain) = (libc::O_RDWR, both),
                b'x' => flags |= libc::O_EXCL,
                b'e' => flags |= libc::O_CLOEXEC,
                b'm' | b'c' => return None,
                _ => {}
            }
        }
        Some(Self {
            flags: flags | access,
            plain,
        })
    }

    /// Whether the stream starts at the end of its file.
    fn appends_only(self) -> bool {
        self.flags & (libc::O_APPEND | libc::O_ACCMODE) == libc::O_APPEND | libc::O_WRONLY
    }
}

/// Opens the file as open(2) does, then makes a stream of the descriptor.
pub fn fopen(call: &Call<'_>, path: *const c_char, mode: *const c_char) -> Verdict {
    // SAFETY: the C caller passes a string.
    let Some(mode) = Mode::of(unsafe { CStr::from_ptr(mode) }) else {
        if !stream::is_converted() || call.load().contention == Contention::SoleFiber {
            return Verdict::PassThrough(Reason::Alone);
        }
        return on_pool(call, || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { (stream::libc_stdio().fopen)(path, mode) }
        });
    };
    let fd = match open::open(call, path, mode.flags, ACCESS) {
        Verdict::Done(fd) => fd as c_int,
        other => return other,
    };
    if mode.appends_only() {
        // Failure is harmless for files without a position.
        let _ = sys::lseek(fd, 0, libc::SEEK_END);
    }
    let errno = errno::get();
    // SAFETY: the descriptor has no other user, and the mode is a C string.
    let stream = unsafe { libc::fdopen(fd, mode.plain.as_ptr()) };
    if stream.is_null() {
        let error = Errno(errno::get());
        // SAFETY: the descriptor still has no other user, because no stream was made of it.
        unsafe { hooks::call_close(fd) };
        return Verdict::from_error(error);
    }
    errno::set(errno);
    Verdict::Done(stream.expose_provenance() as isize)
}

/// Runs libc's whole function on a pool thread; returns the stream or an error.
fn on_pool(call: &Call<'_>, function: impl FnOnce() -> *mut FILE) -> Verdict {
    match offload::run(call, function) {
        Some(stream) if stream.is_null() => Verdict::Failed(Errno(errno::get())),
        Some(stream) => Verdict::Done(stream.expose_provenance() as isize),
        None => Verdict::PassThrough(Reason::NoEngine),
    }
}

/// The remaining output is written through the jump table, but no fiber may be inside the stream.
pub fn fclose(call: &Call<'_>, stream: *mut FILE) -> Verdict {
    let errno = errno::get();
    // SAFETY: the C caller passes an open stream; fileno returns -1 for one without a descriptor,
    // and changes errno.
    call.thread.submit_users_of(unsafe { libc::fileno(stream) });
    errno::set(errno);
    leave_alone(call, stream);
    Verdict::PassThrough(Reason::Quick)
}

/// Waits until no fiber is parked inside a stream that is about to be closed, and stops treating
/// any as being inside it.
fn leave_alone(call: &Call<'_>, stream: *mut FILE) {
    let file = stream.cast::<File>();
    if !stream::is_converted() || file.is_null() {
        return;
    }
    if parked::may_be_marked(file) {
        // SAFETY: the C caller passes an open stream.
        unsafe { waiting::await_free(file) };
    }
    call.thread.streams().forget(file);
}

/// The wait for the process also goes through the jump table.
pub fn pclose(call: &Call<'_>, stream: *mut FILE) -> Verdict {
    fclose(call, stream)
}

pub fn freopen(
    call: &Call<'_>,
    path: *const c_char,
    mode: *const c_char,
    stream: *mut FILE,
) -> Verdict {
    if !finish(call, stream) {
        return Verdict::PassThrough(Reason::Alone);
    }
    on_pool(call, || {
        // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
        unsafe { (stream::libc_stdio().freopen)(path, mode, stream) }
    })
}

/// Flushes buffered output on this thread, so that SIGPIPE reaches the caller; a pool thread may
/// then close the stream. Returns false if closing inline delays no other fiber.
fn finish(call: &Call<'_>, stream: *mut FILE) -> bool {
    call.thread.submit_queued();
    leave_alone(call, stream);
    if call.load().contention == Contention::SoleFiber || !stream::is_converted() {
        return false;
    }
    let errno = errno::get();
    // SAFETY: the C caller passes an open stream. If flushing fails, closing it reports the error
    // again.
    unsafe { (stream::libc_stdio().fflush)(stream) };
    errno::set(errno);
    super::file::before_fclose(stream);
    true
}

/// A null pointer means all streams. They are flushed one by one, because libc's own function keeps
/// its list of streams locked during the whole flush.
pub fn fflush(call: &Call<'_>, stream: *mut FILE) -> Verdict {
    if !stream.is_null() || !stream::is_converted() {
        return Verdict::PassThrough(Reason::Quick);
    }
    let flushed = flush_all(call);
    Verdict::from_result(if flushed {
        Ok(0)
    } else {
        Err(Errno(errno::get()))
    })
}

pub fn flush_all_streams(call: &Call<'_>) -> Verdict {
    fflush(call, std::ptr::null_mut())
}

/// Flushes all streams first, so that libc finds nothing to write.
pub fn fcloseall(call: &Call<'_>) -> Verdict {
    if !stream::is_converted() {
        return Verdict::PassThrough(Reason::Quick);
    }
    flush_all(call);
    let _off = context::libc();
    // SAFETY: libc's own function, which has no arguments.
    Verdict::Done(unsafe { (stream::libc_stdio().fcloseall)() } as isize)
}

/// Writes the pending output of all streams. Returns whether all of it was written.
fn flush_all(call: &Call<'_>) -> bool {
    let mut flushed = Vec::new();
    let mut all = true;
    while let Some(file) = waiting::lock_next_pending(&flushed) {
        flushed.push(file);
        call.thread.streams().add_held(call.fiber, file);
        // SAFETY: we hold the stream's lock, so no one closes it.
        unsafe {
            all &= stream::flush(file);
            call.thread.streams().remove_held(call.fiber, file);
            (stream::libc_stdio().unlock)(file.cast());
        }
    }
    all
}

/// The stream belongs to this fiber until funlockfile, even while the fiber is parked.
pub fn flockfile(call: &Call<'_>, stream: *mut FILE) -> Verdict {
    if !stream::is_converted() {
        return Verdict::PassThrough(Reason::Quick);
    }
    let file = stream.cast::<File>();
    // SAFETY: the C caller passes an open stream.
    unsafe {
        (stream::libc_stdio().lock)(file.cast());
        if parked::may_be_marked(file) {
            waiting::await_free(file);
        }
    }
    call.thread.streams().add_held(call.fiber, file);
    call.inline();
    Verdict::Done(0)
}

pub fn ftrylockfile(call: &Call<'_>, stream: *mut FILE) -> Verdict {
    if !stream::is_converted() {
        return Verdict::PassThrough(Reason::Quick);
    }
    let file = stream.cast::<File>();
    call.inline();
    // SAFETY: the C caller passes an open stream.
    let result = unsafe {
        match (stream::libc_stdio().try_lock)(file.cast()) {
            0 if parked::is_marked(file) => {
                (stream::libc_stdio().unlock)(file.cast());
                libc::EBUSY
            }
            result => result,
        }
    };
    if result == 0 {
        call.thread.streams().add_held(call.fiber, file);
    } else {
        // A fiber that retries in a loop may be waiting for a fiber of its own thread.
        call.yield_if_exhausted();
    }
    Verdict::Done(result as isize)
}

pub fn funlockfile(call: &Call<'_>, stream: *mut FILE) -> Verdict {
    call.thread.streams().remove_held(call.fiber, stream.cast());
    Verdict::PassThrough(Reason::Quick)
}

unsafe extern "C" {
    fn vsnprintf(
        text: *mut c_char,
        size: usize,
        format: *const c_char,
        arguments: *mut c_void,
    ) -> c_int;
    fn __vsnprintf_chk(
        text: *mut c_char,
        size: usize,
        flag: c_int,
        object: usize,
        format: *const c_char,
        arguments: *mut c_void,
    ) -> c_int;
}

/// The address of a `va_list`. Functions that consume their arguments get a copy of it.
type Arguments = *mut c_void;

/// As large as the largest `va_list`, which is aarch64's.
type Copied = [usize; 4];

pub fn vdprintf(
    call: &Call<'_>,
    fd: c_int,
    format: *const c_char,
    arguments: Arguments,
) -> Verdict {
    print(call, fd, |text, size| {
        let mut arguments = copied(arguments);
        // SAFETY: the C caller passes a format with its arguments; `text` has `size` bytes.
        unsafe { vsnprintf(text, size, format, arguments.as_mut_ptr().cast()) }
    })
}

/// `__vdprintf_chk`: its checks of the format are also made by `__vsnprintf_chk`.
pub fn vdprintf_chk(
    call: &Call<'_>,
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: Arguments,
) -> Verdict {
    print(call, fd, |text, size| {
        let mut arguments = copied(arguments);
        // SAFETY: the C caller passes a format with its arguments; `text` has `size` bytes.
        unsafe {
            __vsnprintf_chk(
                text,
                size,
                flag,
                usize::MAX,
                format,
                arguments.as_mut_ptr().cast(),
            )
        }
    })
}

fn copied(arguments: Arguments) -> Copied {
    let size = if cfg!(target_arch = "x86_64") { 24 } else { 32 };
    let mut copy: Copied = [0; 4];
    // SAFETY: the C caller passes a va_list, which has that size.
    unsafe {
        std::ptr::copy_nonoverlapping(arguments.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), size)
    };
    copy
}

/// Writes the text that `format` produces to `fd`; `format` returns the length.
fn print(call: &Call<'_>, fd: c_int, format: impl Fn(*mut c_char, usize) -> c_int) -> Verdict {
    let errno = errno::get();
    let mut line = [0u8; LINE];
    let length = format(line.as_mut_ptr().cast(), LINE);
    let Ok(length) = usize::try_from(length) else {
        return Verdict::Failed(Errno(errno::get()));
    };
    if length < LINE {
        return write_all(call, fd, &line[..length]);
    }
    let mut text = vec![0u8; length + 1];
    // %m must produce the same text the second time.
    errno::set(errno);
    format(text.as_mut_ptr().cast(), text.len());
    write_all(call, fd, &text[..length])
}

fn write_all(call: &Call<'_>, fd: c_int, text: &[u8]) -> Verdict {
    call.inline();
    let mut rest = text;
    while !rest.is_empty() {
        // SAFETY: `rest` is a valid slice.
        match unsafe { hooks::call_write(fd, rest.as_ptr().cast(), rest.len()) } {
            n if n > 0 => rest = &rest[n as usize..],
            _ => return Verdict::Failed(Errno(errno::get())),
        }
    }
    Verdict::Done(text.len() as isize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn mode(text: &CStr) -> (c_int, &'static CStr) {
        let mode = Mode::of(text).expect("a plain mode");
        (mode.flags, mode.plain)
    }

    #[test]
    fn modes_are_read_as_libc_reads_them() {
        use libc::{O_APPEND, O_CLOEXEC, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
        assert_eq!(mode(c"r"), (O_RDONLY, c"r"));
        assert_eq!(mode(c"rb+"), (O_RDWR, c"r+"));
        assert_eq!(mode(c"r+b"), (O_RDWR, c"r+"));
        assert_eq!(mode(c"w"), (O_WRONLY | O_CREAT | O_TRUNC, c"w"));
        assert_eq!(
            mode(c"w+xe"),
            (O_RDWR | O_CREAT | O_TRUNC | O_EXCL | O_CLOEXEC, c"w+")
        );
        assert_eq!(mode(c"a"), (O_WRONLY | O_CREAT | O_APPEND, c"a"));
        assert_eq!(
            mode(c"at+"),
            (O_RDWR | O_CREAT | O_APPEND, c"a+"),
            "others are ignored"
        );
        assert_eq!(mode(c"rbbbbb+"), (O_RDWR, c"r+"), "the seventh counts");
        assert_eq!(mode(c"rbbbbbb+"), (O_RDONLY, c"r"), "the eighth does not");
        for other in [c"", c"q", c"+r", c"rm", c"rc", c"r,ccs=UTF-8"] {
            assert_eq!(Mode::of(other), None, "{other:?}");
        }
    }
}
