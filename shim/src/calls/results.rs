//! Functions whose results libc keeps in static memory. On a fiber, the results are in memory that
//! belongs to the fiber ([`crate::runtime::static_results`]), so that another fiber's call does not
//! change them.
//!
//! Lookups are made through their reentrant twins (`getpwnam_r`) on a pool thread. Functions that
//! do not block are also made through their twins, but inline; the result of a function without a
//! twin is copied.

use crate::calls::via::offload;
use crate::hooks;
use crate::runtime::call::Call;
use crate::runtime::static_results::StaticResult;
use crate::runtime::thread::Thread;
use policy::Reason;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use sys::errno;

/// The buffers of a twin's result: the structure, and the text that it points to.
pub struct Room {
    pub entry: *mut c_void,
    pub text: *mut c_void,
    pub n: usize,
    pub result: *mut c_void,
    pub h_errno: *mut c_void,
}

/// Value of `h_errno` meaning that errno has the details.
const NETDB_INTERNAL: c_int = -1;

/// Calls the twin through `query` with the record of the calling fiber and `row`, and returns the
/// result; null if the twin finds nothing.
pub fn look_up(call: &Call<'_>, row: usize, query: impl Fn(&Room) -> c_int) -> *mut c_void {
    let record = call.thread.static_results().of(call.fiber, row);
    run(call, || {
        // SAFETY: the record stays in place and belongs to this fiber, which waits for this to end.
        let record = unsafe { &mut *record };
        fill(record, &query)
    })
}

/// Runs a lookup where it delays no other fiber: on the pool, or inline if this is the only fiber.
fn run<R>(call: &Call<'_>, function: impl Fn() -> R) -> R {
    if call.is_sole_fiber() {
        call.count_pass_through(Reason::Alone);
    } else if let Some(result) = offload::run(call, &function) {
        return result;
    } else {
        call.count_pass_through(Reason::NoEngine);
    }
    let _passing = call.passing();
    let result = function();
    keep_h_errno(call.thread, call.fiber);
    result
}

fn fill(record: &mut StaticResult, query: &impl Fn(&Room) -> c_int) -> *mut c_void {
    loop {
        let (mut result, mut h_errno) = (null_mut::<c_void>(), 0_i32);
        let error = query(&Room {
            entry: record.entry.as_mut_ptr().cast(),
            text: record.text.as_mut_ptr().cast(),
            n: record.text.len(),
            result: (&raw mut result).cast(),
            h_errno: (&raw mut h_errno).cast(),
        });
        if error == libc::ERANGE && matches!(h_errno, 0 | NETDB_INTERNAL) {
            let longer = record.text.len() * 2;
            record.text.resize(longer, 0);
            continue;
        }
        if h_errno != 0 {
            set_own_h_errno(h_errno);
        }
        return if error == 0 { result } else { null_mut() };
    }
}

/// getlogin(3).
pub fn getlogin(call: &Call<'_>, row: usize) -> *mut c_char {
    let record = call.thread.static_results().of(call.fiber, row);
    run(call, || {
        // SAFETY: the record stays in place and belongs to this fiber, which waits for this to end.
        let text = unsafe { &mut (*record).text };
        // SAFETY: `text` has that many writable bytes.
        let error = unsafe { hooks::getlogin_r::real(text.as_mut_ptr().cast(), text.len()) };
        if error == 0 {
            text.as_mut_ptr().cast()
        } else {
            null_mut()
        }
    })
}

/// Copies the text that libc returned into the record of the calling fiber and `row`; null stays
/// null.
pub fn copied_text(call: &Call<'_>, row: usize, text: *const c_char) -> *mut c_char {
    if text.is_null() {
        return null_mut();
    }
    // SAFETY: libc's function returned a C string.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes_with_nul();
    // SAFETY: the record stays in place and belongs to this fiber.
    let own = unsafe { &mut (*call.thread.static_results().of(call.fiber, row)).text };
    if own.len() < text.len() {
        own.resize(text.len(), 0);
    }
    own[..text.len()].copy_from_slice(text);
    own.as_mut_ptr().cast()
}

/// strerror(3), through strerror_r(3): before glibc 2.32 all threads share the memory for the text
/// of an unknown error.
pub fn strerror(call: &Call<'_>, row: usize, number: c_int) -> *mut c_char {
    let mut room = [0; 128];
    // SAFETY: `room` has that many writable bytes; the text is either there or a constant of
    // libc's.
    copied_text(call, row, unsafe {
        strerror_r(number, room.as_mut_ptr(), room.len())
    })
}

unsafe extern "C" {
    /// GNU's variant.
    fn strerror_r(number: c_int, text: *mut c_char, n: usize) -> *mut c_char;
    fn asctime_r(time: *const c_void, text: *mut c_char) -> *mut c_char;
    fn ctime_r(time: *const c_void, text: *mut c_char) -> *mut c_char;
    fn gmtime_r(time: *const c_void, broken_down: *mut c_void) -> *mut c_void;
    fn localtime_r(time: *const c_void, broken_down: *mut c_void) -> *mut c_void;
    fn tzset();
    fn ptsname_r(fd: c_int, text: *mut c_char, n: usize) -> c_int;
    fn ttyname_r(fd: c_int, text: *mut c_char, n: usize) -> c_int;
    fn ether_ntoa_r(address: *const c_void, text: *mut c_char) -> *mut c_char;
    fn ether_aton_r(text: *const c_char, address: *mut c_void) -> *mut c_void;
    fn strtok_r(
        text: *mut c_char,
        delimiters: *const c_char,
        place: *mut *mut c_char,
    ) -> *mut c_char;
}

/// Defines functions of one argument through their twins. Their results fit in any record, and they
/// do not block.
macro_rules! twins {
    ($( $(#[$doc:meta])* fn $name:ident($arg:ident: $ty:ty) -> $result:ty
         => $twin:ident, $field:ident $(, after $before:ident)?; )*) => {$(
        $(#[$doc])*
        pub fn $name(call: &Call<'_>, row: usize, $arg: $ty) -> $result {
            let record = call.thread.static_results().of(call.fiber, row);
            // SAFETY: the C caller's argument; the record stays in place and belongs to this fiber.
            unsafe {
                $( $before(); )?
                $twin($arg, (*record).$field.as_mut_ptr().cast())
            }
        }
    )*};
}

twins! {
    /// asctime(3).
    fn asctime(time: *const c_void) -> *mut c_char => asctime_r, text;
    /// ctime(3).
    fn ctime(time: *const c_void) -> *mut c_char => ctime_r, text, after tzset;
    /// gmtime(3).
    fn gmtime(time: *const c_void) -> *mut c_void => gmtime_r, entry;
    /// localtime(3), which checks TZ each time.
    fn localtime(time: *const c_void) -> *mut c_void => localtime_r, entry, after tzset;
    /// ether_ntoa(3).
    fn ether_ntoa(address: *const c_void) -> *mut c_char => ether_ntoa_r, text;
    /// ether_aton(3).
    fn ether_aton(text: *const c_char) -> *mut c_void => ether_aton_r, entry;
}

/// The name of a terminal, through a twin that returns an error number.
fn terminal_name(
    call: &Call<'_>,
    row: usize,
    fd: c_int,
    twin: unsafe extern "C" fn(c_int, *mut c_char, usize) -> c_int,
) -> *mut c_char {
    let record = call.thread.static_results().of(call.fiber, row);
    // SAFETY: the record stays in place and belongs to this fiber.
    let text = unsafe { &mut (*record).text };
    // SAFETY: `text` has that many writable bytes.
    let error = unsafe { twin(fd, text.as_mut_ptr().cast(), text.len()) };
    if error == 0 {
        return text.as_mut_ptr().cast();
    }
    errno::set(error);
    null_mut()
}

/// ttyname(3).
pub fn ttyname(call: &Call<'_>, row: usize, fd: c_int) -> *mut c_char {
    terminal_name(call, row, fd, ttyname_r)
}

/// ptsname(3).
pub fn ptsname(call: &Call<'_>, row: usize, fd: c_int) -> *mut c_char {
    terminal_name(call, row, fd, ptsname_r)
}

/// strtok(3), with the position to continue from kept per fiber.
pub fn strtok(
    call: &Call<'_>,
    row: usize,
    text: *mut c_char,
    delimiters: *const c_char,
) -> *mut c_char {
    let record = call.thread.static_results().of(call.fiber, row);
    // SAFETY: the C caller's arguments; the fiber's position is a pointer in a record that stays in
    // place.
    unsafe { strtok_r(text, delimiters, (&raw mut (*record).entry).cast()) }
}

// ---- h_errno ----------------------------------------------------------------------------------

/// libc's own `h_errno` of the calling thread.
fn own_h_errno() -> *mut c_int {
    // SAFETY: libc's accessor, valid on every thread.
    unsafe { hooks::__h_errno_location::real() }
}

fn set_own_h_errno(value: c_int) {
    // SAFETY: the address of the calling thread's variable.
    unsafe { *own_h_errno() = value };
}

/// The address of `h_errno`: on a fiber, the fiber's own copy.
pub fn h_errno_location(real: unsafe extern "C" fn() -> *mut c_int) -> *mut c_int {
    if let Some(thread) = Thread::current() {
        let fiber = thread.host().running();
        if !fiber.is_null() {
            return thread.static_results().of(fiber, hooks::H_ERRNO).cast();
        }
    }
    // SAFETY: libc's own function.
    unsafe { real() }
}

/// The running fiber's `h_errno` if the fiber has its own, otherwise its thread's.
pub fn h_errno(thread: &Thread, fiber: *const c_void) -> c_int {
    let own = thread.static_results().existing(fiber, hooks::H_ERRNO);
    // SAFETY: the address of the fiber's record or of the thread's own variable.
    unsafe { own.map_or_else(|| *own_h_errno(), |own| *own.cast::<c_int>()) }
}

/// Sets the `h_errno` of the fiber and of its thread; herror(3) prints the latter.
pub fn set_h_errno(thread: &Thread, fiber: *const c_void, value: c_int) {
    set_own_h_errno(value);
    keep_h_errno(thread, fiber);
}

/// Copies the thread's `h_errno` to the fiber, after libc may have set it.
pub fn keep_h_errno(thread: &Thread, fiber: *const c_void) {
    // SAFETY: the address of the calling thread's variable.
    let value = unsafe { *own_h_errno() };
    let own = thread.static_results().existing(fiber, hooks::H_ERRNO);
    if let Some(own) =
        own.or_else(|| (value != 0).then(|| thread.static_results().of(fiber, hooks::H_ERRNO)))
    {
        // SAFETY: the address of the fiber's record.
        unsafe { *own.cast::<c_int>() = value };
    }
}
