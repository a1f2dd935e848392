//! The functions that the jump tables point to. Each enters the stream, runs the libc function
//! or its replacement, and leaves the stream.
//!
//! The functions that reach the kernel (read, write, seek, close) call the functions of the [hook
//! table](crate::hooks) instead of the kernel, and thereby reach the policy and the engines like
//! any other call. No other function parks by itself.

use super::tables::{self, TableKind};
use crate::hooks;
use crate::runtime::stream::layout::{File, Slot, flags, flags2};
use crate::runtime::stream::visit::{self, StreamVisit};
use std::ffi::{c_char, c_int, c_void};
use std::mem::transmute;

const EOF: c_int = -1;
const NOTHING: () = ();
/// `_IO_pos_BAD`.
const NO_POSITION: i64 = -1;

/// Runs `call` inside the stream `file`. Returns `refused` if the stream must not be touched.
///
/// # Safety
/// The stream is open.
#[inline(always)]
unsafe fn within<R>(file: *mut File, refused: R, call: impl FnOnce() -> R) -> R {
    // SAFETY: our caller makes the same promise.
    let Some(visit) = (unsafe { StreamVisit::enter(file) }) else {
        return refused;
    };
    let result = call();
    // SAFETY: this fiber entered the stream above.
    unsafe { visit.leave(file) };
    result
}

/// Runs `call`, which calls libc's function, inside the stream.
macro_rules! libcs {
    ($call:expr) => {
        $call
    };
}

/// Runs `call`, which calls the program's own function: while that runs, its calls do not count as
/// the stream's.
macro_rules! the_programs {
    ($call:expr) => {
        || visit::run_user_callback($call)
    };
}

/// Defines the functions for some slots. Each calls the function that the slot had before, inside
/// the stream, and returns `refused` if the stream must not be touched.
macro_rules! slots {
    ($whose:ident; $( $slot:ident: $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty,
        refused: $refused:expr; )*) => {$(
        unsafe extern "C" fn $name(file: *mut File $(, $arg: $ty)*) -> $ret {
            // SAFETY: libc passes an open stream; the slot's type is the table's.
            unsafe {
                within(file, $refused, $whose!(|| {
                    let original: unsafe extern "C" fn(*mut File $(, $ty)*) -> $ret =
                        transmute(tables::original((*file).jumps, Slot::$slot));
                    original(file $(, $arg)*)
                }))
            }
        }
    )*};
}

slots! {
    libcs;
    Finish: finish(x: c_int) -> (), refused: NOTHING;
    Overflow: overflow(c: c_int) -> c_int, refused: EOF;
    Underflow: underflow() -> c_int, refused: EOF;
    Uflow: uflow() -> c_int, refused: EOF;
    PushBackFail: push_back_fail(c: c_int) -> c_int, refused: EOF;
    PutN: put_n_inside(data: *const c_void, n: usize) -> usize, refused: 0;
    GetN: get_n_inside(data: *mut c_void, n: usize) -> usize, refused: 0;
    SeekOffset: seek_offset(offset: i64, whence: c_int, mode: c_int) -> i64, refused: NO_POSITION;
    SeekPosition: seek_position(position: i64, mode: c_int) -> i64, refused: NO_POSITION;
    SetBuffer: set_buffer(buffer: *mut c_char, n: isize) -> *mut File,
        refused: std::ptr::null_mut();
    Sync: sync() -> c_int, refused: EOF;
}

/// `_IO_new_file_xsputn`, which fprintf calls for each piece. If there is room, it only copies, so
/// it cannot park. A stream that a fiber is parked inside has no room. The copy is done here, so it
/// takes no longer than without the shim.
unsafe extern "C" fn put_n(file: *mut File, data: *const c_void, n: usize) -> usize {
    // SAFETY: libc passes an open stream and n bytes, and there is room for them.
    unsafe {
        if !has_room(file, n) {
            return put_n_inside(file, data, n);
        }
        let areas = &mut (*file).areas;
        std::ptr::copy_nonoverlapping(data.cast(), areas.write_ptr, n);
        areas.write_ptr = areas.write_ptr.add(n);
    }
    n
}

/// `_IO_file_xsgetn`, handled like [`put_n`].
unsafe extern "C" fn get_n(file: *mut File, data: *mut c_void, n: usize) -> usize {
    // SAFETY: libc passes an open stream and a buffer of n bytes, and the stream's buffer has n
    // bytes.
    unsafe {
        if !has_bytes(file, n) {
            return get_n_inside(file, data, n);
        }
        let areas = &mut (*file).areas;
        std::ptr::copy_nonoverlapping(areas.read_ptr, data.cast(), n);
        areas.read_ptr = areas.read_ptr.add(n);
    }
    n
}

/// Whether n bytes can be written to the buffer without a system call.
///
/// # Safety
/// The stream is open.
#[inline(always)]
unsafe fn has_room(file: *const File, n: usize) -> bool {
    // SAFETY: our caller makes the same promise.
    let file = unsafe { &*file };
    let room = (file.areas.write_end as isize).wrapping_sub(file.areas.write_ptr as isize);
    // A stream of wide characters has a separate buffer, and in a line-buffered stream a newline
    // may have to be written at once.
    n > 0 && room >= n as isize && file.mode <= 0 && file.flags & flags::LINE_BUFFERED == 0
}

/// Whether n bytes can be read from the buffer without a system call.
///
/// # Safety
/// The stream is open.
#[inline(always)]
unsafe fn has_bytes(file: *const File, n: usize) -> bool {
    // SAFETY: our caller makes the same promise.
    let file = unsafe { &*file };
    let bytes = (file.areas.read_end as isize).wrapping_sub(file.areas.read_ptr as isize);
    n > 0 && bytes >= n as isize && file.mode <= 0
}

/// `_IO_file_read`.
unsafe extern "C" fn read(file: *mut File, data: *mut c_void, n: isize) -> isize {
    // SAFETY: libc passes an open stream and a buffer of n bytes.
    unsafe {
        let Some(visit) = StreamVisit::enter(file) else {
            return 0;
        };
        let result = if calls_through(file) {
            hooks::call_read((*file).fileno, data, n as usize)
        } else {
            let original: unsafe extern "C" fn(*mut File, *mut c_void, isize) -> isize =
                transmute(tables::original((*file).jumps, Slot::Read));
            original(file, data, n)
        };
        visit.leave(file);
        result
    }
}

/// `_IO_new_file_write`: writes until all is written or an error occurs.
unsafe extern "C" fn write(file: *mut File, data: *const c_void, n: isize) -> isize {
    // SAFETY: libc passes an open stream and n bytes.
    unsafe {
        let Some(visit) = StreamVisit::enter(file) else {
            return 0;
        };
        let result = if calls_through(file) {
            write_all(file, data, n)
        } else {
            let original: unsafe extern "C" fn(*mut File, *const c_void, isize) -> isize =
                transmute(tables::original((*file).jumps, Slot::Write));
            original(file, data, n)
        };
        visit.leave(file);
        result
    }
}

/// # Safety
/// The same as for [`write()`].
unsafe fn write_all(file: *mut File, data: *const c_void, n: isize) -> isize {
    let mut done = 0;
    while done < n {
        // SAFETY: our caller makes the same promise.
        let result = unsafe {
            hooks::call_write((*file).fileno, data.byte_offset(done), (n - done) as usize)
        };
        if result < 0 {
            // SAFETY: our caller makes the same promise: an open stream.
            unsafe { (*file).flags |= flags::ERROR_SEEN };
            break;
        }
        done += result;
    }
    // SAFETY: our caller makes the same promise: an open stream.
    unsafe {
        if (*file).offset >= 0 {
            (*file).offset += done as i64;
        }
    }
    done
}

/// `_IO_file_seek`.
unsafe extern "C" fn seek(file: *mut File, offset: i64, whence: c_int) -> i64 {
    // SAFETY: libc passes an open stream.
    unsafe {
        let Some(visit) = StreamVisit::enter(file) else {
            return NO_POSITION;
        };
        let result = hooks::call_lseek((*file).fileno, offset, whence);
        visit.leave(file);
        result
    }
}

/// `_IO_file_close`.
unsafe extern "C" fn close(file: *mut File) -> c_int {
    // SAFETY: libc passes an open stream, which is closed only once.
    unsafe {
        let Some(visit) = StreamVisit::enter(file) else {
            return 0;
        };
        let result = hooks::call_close((*file).fileno);
        visit.leave(file);
        result
    }
}

/// Closes a popen stream, which waits for its process, or a mapped stream, on a pool thread.
unsafe extern "C" fn close_and_wait(file: *mut File) -> c_int {
    // SAFETY: libc passes an open stream, which is closed only once; the slot's type is the
    // table's.
    unsafe {
        let Some(visit) = StreamVisit::enter(file) else {
            return 0;
        };
        let original: unsafe extern "C" fn(*mut File) -> c_int =
            transmute(tables::original((*file).jumps, Slot::Close));
        let result = hooks::pclose_on_pool(|| original(file)).unwrap_or_else(|| original(file));
        visit.leave(file);
        result
    }
}

/// Whether a hook can do the stream's reads and writes in the same way.
///
/// # Safety
/// The stream is open.
unsafe fn calls_through(file: *mut File) -> bool {
    // SAFETY: our caller makes the same promise.
    visit::on_attached_thread() && unsafe { (*file).flags2 } & flags2::NOT_CANCELED == 0
}

slots! {
    the_programs;
    Read: cookie_read(data: *mut c_void, n: isize) -> isize, refused: 0;
    Write: cookie_write(data: *const c_void, n: isize) -> isize, refused: 0;
    Seek: cookie_seek(offset: i64, whence: c_int) -> i64, refused: NO_POSITION;
    Close: cookie_close() -> c_int, refused: 0;
}

/// The functions for the slots of a table of this kind. `closes_as_files`: the table's close
/// function is that of files.
pub fn functions(kind: TableKind, closes_as_files: bool) -> [(Slot, usize); 15] {
    let close = if closes_as_files {
        close
    } else {
        close_and_wait
    };
    let [r, w, s, c] = match kind {
        TableKind::File => [
            read as *const (),
            write as *const (),
            seek as *const (),
            close as *const (),
        ],
        TableKind::Cookie => [
            cookie_read as *const (),
            cookie_write as *const (),
            cookie_seek as *const (),
            cookie_close as *const (),
        ],
    };
    [
        (Slot::Finish, finish as *const ()),
        (Slot::Overflow, overflow as *const ()),
        (Slot::Underflow, underflow as *const ()),
        (Slot::Uflow, uflow as *const ()),
        (Slot::PushBackFail, push_back_fail as *const ()),
        (Slot::PutN, put_n as *const ()),
        (Slot::GetN, get_n as *const ()),
        (Slot::SeekOffset, seek_offset as *const ()),
        (Slot::SeekPosition, seek_position as *const ()),
        (Slot::SetBuffer, set_buffer as *const ()),
        (Slot::Sync, sync as *const ()),
        (Slot::Read, r),
        (Slot::Write, w),
        (Slot::Seek, s),
        (Slot::Close, c),
    ]
    .map(|(slot, function)| (slot, function as usize))
}
