//! Expands each row of the table into the exported function, its path on an attached thread, and
//! the lookup of the function in libc.

// Names that the expansion of every row uses.
pub(super) use crate::calls::{CResult, Outcome};
pub(super) use crate::runtime::call::{Call, LastLook};
pub(super) use crate::runtime::thread::Thread;
pub(super) use crate::tls;
pub(super) use policy::{Kind, Why};
use std::ffi::c_void;
pub(super) use std::sync::atomic::{AtomicPtr, Ordering};
pub(super) use sys::errno;

/// Evaluates a row's `forgets` expression: Some if the descriptor cannot simply be forgotten. Most
/// rows have none.
macro_rules! marked {
    () => {
        None::<c_int>
    };
    ($marked:expr) => {
        $marked
    };
}

/// Whether a row closes or changes a descriptor.
macro_rules! forgets {
    () => {
        false
    };
    ($marked:expr) => {
        true
    };
}

/// The fallback for a function that an older libc lacks.
macro_rules! otherwise {
    () => {
        missing as *mut ()
    };
    ($own:path) => {
        $own as *mut ()
    };
}

/// Calls libc's function, through the `by` function if the row has one.
macro_rules! libcs_own {
    ($real:expr, ($($arg:ident),*)) => {
        $real($($arg),*)
    };
    ($real:expr, ($($arg:ident),*), $by:path) => {
        $by($real, $($arg),*)
    };
}

/// Runs when a row is called before it is bound: binds it, or calls the `unbound` function instead.
macro_rules! when_unbound {
    (($($arg:ident),*)) => {{
        bind();
        libc()($($arg),*)
    }};
    (($($arg:ident),*), $unbound:path) => {
        $unbound($($arg),*)
    };
}

/// Returns the answer of the `instead` function, if it gives one.
macro_rules! in_its_place {
    (($($arg:ident),*)) => {};
    (($($arg:ident),*), $instead:path) => {
        if let Some(result) = $instead($($arg),*) {
            return result;
        }
    };
}

/// Returns the answer of the `first` function, if it gives one. Expanded in the hook itself,
/// because every nanosecond counts here.
macro_rules! at_once {
    ($here:ident, ($($arg:ident),*)) => {};
    ($here:ident, ($($arg:ident),*), $first:path) => {
        // SAFETY: `here` is this thread's attached Thread, and stays attached while one of its
        // hooks runs.
        let thread = unsafe { &*$here };
        if thread.answers_at_once()
            && let Some(result) = $first(thread, $($arg),*)
        {
            return result;
        }
    };
}

/// Begins a call. A call on a lock consumes no budget: as long as the lock is free, no other fiber
/// runs.
macro_rules! begun {
    ($thread:ident, $row:expr, $record:expr $(, $first:path)?) => {
        if IS_LOCK && !$thread.converts_locks() {
            $thread.stats().of($row).through[Why::LocksOff as usize].add(1);
            None
        } else if IS_LOCK || IS_LOCK_OF_STREAM || is_free!($($first)?) {
            Call::begin_free($thread, $row, $record)
        } else {
            Call::begin($thread, $row, $record)
        }
    };
}

/// Whether the row has a `first` function, and so decides itself when to let other fibers run.
macro_rules! is_free {
    () => {
        false
    };
    ($first:path) => {
        true
    };
}

/// Whether the function at this path belongs to [`crate::calls::locks`] and is about a lock.
/// Functions that join a thread or yield are not.
pub(super) const fn is_lock(path: &str) -> bool {
    contains(path, "locks") && !contains(path, "join") && !contains(path, "yield")
}

/// Whether the function is flockfile(3) or a variant of it.
pub(super) const fn is_lock_of_stream(path: &str) -> bool {
    contains(path, "lockfile")
}

const fn contains(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let mut at = 0;
    while at + word.len() <= text.len() {
        let mut same = 0;
        while same < word.len() && text[at + same] == word[same] {
            same += 1;
        }
        if same == word.len() {
            return true;
        }
        at += 1;
    }
    false
}

/// Ends a call that [`begun`] began, and yields if the quantum is used up. Rows that decide
/// themselves when to yield have done so already, and calls on locks never yield here.
macro_rules! ended {
    ($thread:ident, $row:expr) => {
        if !IS_LOCK && !IS_LOCK_OF_STREAM {
            Call::ended($thread, $row)
        }
    };
    ($thread:ident, $row:expr, $first:path) => {};
}

/// Finds libc's function by its name.
macro_rules! found {
    ($name:ident) => {
        redhook::real!($name) as *mut ()
    };
    ($name:ident, $version:literal) => {
        newest(concat!(stringify!($name), "\0"), concat!($version, "\0"))
            .unwrap_or_else(|| redhook::real!($name) as *mut ())
    };
}

/// Finds libc's function of that version. If another library behind the shim defines the name too,
/// returns that library's function: the names of a sanitizer's runtime, for example, have no
/// versions.
pub(super) fn newest(name: &'static str, version: &'static str) -> Option<*mut ()> {
    let libcs = versioned(name, version)?;
    // SAFETY: `name` is a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) };
    let object_of = |function: *mut c_void| {
        let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: dladdr only looks the address up. It fills a zeroed Dl_info, which is a valid
        // value.
        unsafe {
            libc::dladdr(function, found.as_mut_ptr());
            found.assume_init().dli_fbase
        }
    };
    // The comparison of addresses succeeds at once except with an old loader. Asking for the
    // objects is slow because it searches all their symbols.
    let is_libcs =
        next.is_null() || next == libcs.cast() || object_of(next) == object_of(libcs.cast());
    Some(if is_libcs { libcs } else { next.cast() })
}

/// Finds one version of the libc function `name`; both strings end with a NUL. Returns None if the
/// function has no such version.
pub(super) fn versioned(name: &'static str, version: &'static str) -> Option<*mut ()> {
    // SAFETY: both are C strings.
    let function = unsafe {
        libc::dlvsym(
            libc::RTLD_NEXT,
            name.as_ptr().cast(),
            version.as_ptr().cast(),
        )
    };
    (!function.is_null()).then_some(function.cast())
}

/// For rows with `at: everywhere`: calls the row's function and returns.
macro_rules! everywhere {
    ([], $real:expr, ($($arg:ident),*), $($function:ident)::+) => {};
    ([everywhere], $real:expr, ($($arg:ident),*), $($function:ident)::+) => {
        return $($function)::+($real, $($arg),*);
    };
}

/// The result of a fiber's call, or None if libc must make the call.
macro_rules! converted {
    ([everywhere], $call:ident, $real:expr, ($($arg:ident),*), $($function:ident)::+) => {{
        $( let _ = $arg; )*
        let _ = $call;
        None
    }};
    ([], $($rest:tt)*) => {
        converted!($($rest)*)
    };
    ($call:ident, $real:expr, ($($arg:ident),*), offload($file:expr) when $when:expr) => {
        if $when {
            converted!($call, $real, ($($arg),*), offload($file))
        } else {
            $call.through(Why::Quick);
            None
        }
    };
    ($call:ident, $real:expr, ($($arg:ident),*), offload($file:expr)) => {
        calls::via::offload::whole_on($call, $file, || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { $real($($arg),*) }
        })
    };
    ($call:ident, $real:expr, ($($arg:ident),*), offload when $when:expr) => {
        if $when {
            converted!($call, $real, ($($arg),*), offload)
        } else {
            $call.through(Why::Quick);
            None
        }
    };
    ($call:ident, $real:expr, ($($arg:ident),*), offload) => {
        calls::via::offload::whole($call, || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { $real($($arg),*) }
        })
    };
    ($call:ident, $real:expr, ($($arg:ident),*), paced($kind:ident, $file:expr, $other:expr)) => {
        calls::via::adaptive::whole_of_two($call, Kind::$kind, [$file, $other], || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { $real($($arg),*) }
        })
    };
    ($call:ident, $real:expr, ($($arg:ident),*), paced($kind:ident, $file:expr)) => {
        calls::via::adaptive::whole($call, Kind::$kind, $file, || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { $real($($arg),*) }
        })
    };
    ($call:ident, $real:expr, ($($arg:ident),*), recorded($twin:ident)) => {
        Some(calls::results::look_up($call, ROW, |room| {
            // SAFETY: libc's own function, with the caller's arguments and buffers for the result,
            // while that call lasts.
            unsafe {
                let (entry, text) = (room.entry.cast(), room.text.cast());
                let result = room.result.cast();
                super::$twin::real($($arg,)* entry, text, room.n, result)
            }
        }))
    };
    ($call:ident, $real:expr, ($($arg:ident),*), recorded($twin:ident, h_errno)) => {
        Some(calls::results::look_up($call, ROW, |room| {
            // SAFETY: libc's own function, with the caller's arguments and buffers for the result,
            // while that call lasts.
            unsafe {
                let (entry, text, result) = (room.entry, room.text, room.result);
                super::$twin::real($($arg,)* entry, text, room.n, result, room.h_errno)
            }
        }))
    };
    ($call:ident, $real:expr, ($($arg:ident),*), copied) => {{
        // SAFETY: libc's own function, with its caller's arguments.
        let result = unsafe { $real($($arg),*) };
        Some(calls::results::copied_text($call, ROW, result))
    }};
    ($call:ident, $real:expr, ($($arg:ident),*), in_record($($function:ident)::+)) => {
        Some($($function)::+($call, ROW, $($arg),*))
    };
    ($call:ident, $real:expr, ($($arg:ident),*), with_libc($($function:ident)::+)) => {
        $($function)::+($call, $real, $($arg),*)
    };
    ($call:ident, $real:expr, ($($arg:ident),*), $($function:ident)::+) => {{
        let mut look = LastLook::new();
        loop {
            break match $($function)::+($call, $($arg),*) {
                Outcome::Done(Ok(result)) => Some(CResult::from_done(result)),
                Outcome::Done(Err(error)) => {
                    if $call.begins_anew(error, &mut look) {
                        continue;
                    }
                    errno::set(error.of_c());
                    Some(CResult::from_done(-1))
                }
                Outcome::Through(why) => {
                    $call.through(why);
                    None
                }
            };
        }
    }};
}

/// Whether dlsym finds libc's function of this name, which ends with a NUL.
pub(super) fn is_there(name: &'static str) -> bool {
    // SAFETY: `name` is a C string.
    !unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) }.is_null()
}

/// glibc's base symbol version. Compatibility-only symbols exist under this version alone, so plain
/// dlsym does not find them.
#[cfg(target_arch = "x86_64")]
pub(super) const FIRST_VERSION: &str = "GLIBC_2.2.5\0";
#[cfg(target_arch = "aarch64")]
pub(super) const FIRST_VERSION: &str = "GLIBC_2.17\0";

macro_rules! hooks {
    ($( fn $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty
         => $($function:ident)::+ $(( $($option:tt)* ))? $(when $when:expr)?
         $(, changes: $changes:expr)? $(, instead: $instead:path)? $(, forgets: $marked:expr)?
         $(, first: $first:path)? $(, by: $by:path)?
         $(, at: $everywhere:ident)? $(, version: $version:literal)? $(, otherwise: $own:path)?
         $(, unbound: $unbound:path)? ; )*) => {
        /// The rows' names.
        pub const NAMES: [&str; [$( stringify!($name) ),*].len()] = [$( stringify!($name) ),*];

        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Row { $( $name ),* }

        /// The row of [`crate::calls::results::h_errno`].
        pub const H_ERRNO: usize = Row::__h_errno_location as usize;

        /// Finds libc's function for every row before any of them is called.
        pub fn bind() {
            $( $name::bind(); )*
            // A name that was not found leaves an error that the program's next dlerror(3) would
            // report.
            // SAFETY: only clears this thread's error.
            unsafe { libc::dlerror() };
            // This is separate from binding because `look` allocates. An allocator may call hooks
            // while it hands out its first memory; such a call binds its own row, which must not
            // allocate.
            $( $name::look(); )*
        }

        $(
            #[allow(
                non_snake_case,
                static_mut_refs,
                missing_abi,
                dead_code,
                unreachable_code,
                clippy::too_many_arguments
            )]
            pub mod $name {
                use super::*;
                use super::macros::*;

                #[allow(dead_code)]
                const ROW: usize = Row::$name as usize;
                /// The host or the user may choose to leave calls on locks to libc.
                #[allow(dead_code)]
                const IS_LOCK: bool = is_lock(stringify!($($function)::+));
                #[allow(dead_code)]
                const IS_LOCK_OF_STREAM: bool = is_lock_of_stream(stringify!($($function)::+));

                redhook::hook! {
                    unsafe fn $name($($arg: $ty),*) -> $ret => hook {
                        $($changes;)?
                        in_its_place!(($($arg),*) $(, $instead)?);
                        everywhere!([$($everywhere)?], libc(), ($($arg),*), $($function)::+);
                        let here = tls::here();
                        if here.is_null() {
                            if let Some(fd) = marked!($($marked)?) {
                                // SAFETY: makes libc's call with its caller's arguments.
                                return unsafe { marked(fd, $($arg),*) };
                            }
                            // SAFETY: makes libc's call with its caller's arguments.
                            unsafe { own($($arg),*) }
                        } else {
                            at_once!(here, ($($arg),*) $(, $first)?);
                            // SAFETY: `here` is this thread's attached Thread.
                            unsafe { attached(here, $($arg),*) }
                        }
                    }
                }

                /// The hook's path on an attached thread. A function of its own, so that the hook
                /// itself needs no stack frame.
                #[inline(never)]
                unsafe fn attached(here: *const Thread, $($arg: $ty),*) -> $ret {
                    // SAFETY: a thread stays attached while one of its hooks runs.
                    let thread = unsafe { &*here };
                    if thread.is_watched() {
                        // SAFETY: at most makes libc's call, with its caller's arguments.
                        return unsafe { watched(thread, $($arg),*) };
                    }
                    let result = 'made: {
                        if let Some(call) = begun!(thread, Row::$name as usize, None $(, $first)?)
                            && let Some(result) = converted(&call, $($arg),*)
                        {
                            break 'made result;
                        }
                        if let Some(fd) = marked!($($marked)?) {
                            // SAFETY: makes libc's call with its caller's arguments.
                            break 'made unsafe { marked(fd, $($arg),*) };
                        }
                        // SAFETY: makes libc's call with its caller's arguments.
                        unsafe { own($($arg),*) }
                    };
                    ended!(thread, Row::$name as usize $(, $first)?);
                    result
                }

                /// Calls libc's function, through the `by` function if the row has one.
                #[inline(always)]
                unsafe fn own($($arg: $ty),*) -> $ret {
                    // SAFETY: libc's own function, with its caller's arguments.
                    unsafe { libcs_own!(libc(), ($($arg),*) $(, $by)?) }
                }

                /// Calls libc's function for a row whose `fd` could not simply be forgotten; fails
                /// with EBADF if the descriptor belongs to the shim. A function of its own, so that
                /// the hook needs no stack frame.
                #[cold]
                unsafe fn marked(fd: c_int, $($arg: $ty),*) -> $ret {
                    if fds::release(fd) {
                        errno::set(libc::EBADF);
                        return CResult::from_done(-1);
                    }
                    // SAFETY: libc's own function, with its caller's arguments.
                    unsafe { libc()($($arg),*) }
                }

                /// Like `attached`, but keeps a record of the call.
                #[cold]
                #[inline(never)]
                unsafe fn watched(thread: &Thread, $($arg: $ty),*) -> $ret {
                    let record = thread.record(Row::$name as usize);
                    let call = begun!(thread, Row::$name as usize, Some(&record) $(, $first)?);
                    let by = NEXT.get();
                    if let Some(begun) = &call
                        && let Some(result) = match by {
                            Next::Converted => converted(begun, $($arg),*),
                            _ => calls::via::offload::next(begun, by, || {
                                // SAFETY: the next function, with its caller's arguments, while
                                // that call lasts.
                                unsafe { libc()($($arg),*) }
                            }),
                        }
                    {
                        drop(call);
                        let result = record.end(result);
                        ended!(thread, Row::$name as usize $(, $first)?);
                        return result;
                    }
                    let of_fiber = call.is_some();
                    // End the call first, so that handlers are not deferred during libc's function.
                    drop(call);
                    let row = Row::$name as usize;
                    let passing = thread.escapes().map(|escapes| escapes.passing(row));
                    let result = match marked!($($marked)?) {
                        // SAFETY: makes libc's call with its caller's arguments.
                        Some(fd) => unsafe { marked(fd, $($arg),*) },
                        // SAFETY: makes libc's call with its caller's arguments.
                        None => unsafe { own($($arg),*) },
                    };
                    drop(passing);
                    let result = if of_fiber { record.end(result) } else { result };
                    ended!(thread, Row::$name as usize $(, $first)?);
                    result
                }

                /// The result of a fiber's call, or None if libc must make the call.
                #[inline(always)]
                fn converted(call: &Call<'_>, $($arg: $ty),*) -> Option<$ret> {
                    converted!(
                        [$($everywhere)?], call, libc(), ($($arg),*),
                        $($function)::+ $(( $($option)* ))? $(when $when)?
                    )
                }

                /// libc's own function, for calls that are built from other calls.
                ///
                /// # Safety
                /// The requirements of libc's function apply.
                #[allow(dead_code)]
                pub unsafe fn real($($arg: $ty),*) -> $ret {
                    // SAFETY: our caller guarantees what libc's function requires.
                    unsafe { libc()($($arg),*) }
                }

                type Real = unsafe extern "C" fn($($ty),*) -> $ret;

                /// Whether another library interposes libc's function, and how to call it in that
                /// case.
                static NEXT: next::Mark = next::Mark::new();

                /// libc's function, found by redhook. Until then it is `find`, so that the hook
                /// needs no check.
                static LIBC: AtomicPtr<()> = AtomicPtr::new(find as *mut ());

                #[inline(always)]
                fn libc() -> Real {
                    // SAFETY: LIBC only ever holds functions of this type: `find`, or what `bind`
                    // found under the name.
                    unsafe { std::mem::transmute::<*mut (), Real>(LIBC.load(Ordering::Relaxed)) }
                }

                #[cold]
                unsafe extern "C" fn find($($arg: $ty),*) -> $ret {
                    // SAFETY: libc's own function, or our replacement for it, with its caller's
                    // arguments.
                    unsafe { when_unbound!(($($arg),*) $(, $unbound)?) }
                }

                pub fn bind() {
                    let name = concat!(stringify!($name), "\0");
                    let real = if is_there(name) {
                        found!($name $(, $version)?)
                    } else {
                        versioned(name, FIRST_VERSION).unwrap_or(otherwise!($($own)?))
                    };
                    LIBC.store(real, Ordering::Relaxed);
                }

                /// Checks whether another library interposes the function that `bind` found.
                /// Allocates.
                pub fn look() {
                    let handler = concat!(
                        stringify!($($function)::+), " ", $(stringify!($($option)*))?
                    );
                    let forgets = forgets!($($marked)?);
                    NEXT.set(next::of(LIBC.load(Ordering::Relaxed), handler, forgets));
                }

                /// Replaces a function that was not found; its library may have been loaded since.
                /// Fails with ENOSYS if this libc does not have the function at all.
                #[cold]
                #[allow(dead_code)]
                unsafe extern "C" fn missing($($arg: $ty),*) -> $ret {
                    let Some(function) = late::find(concat!(stringify!($name), "\0")) else {
                        errno::set(libc::ENOSYS);
                        return CResult::from_done(-1);
                    };
                    LIBC.store(function, Ordering::Relaxed);
                    // SAFETY: libc's own function of that name, with its caller's arguments.
                    unsafe { libc()($($arg),*) }
                }
            }
        )*
    };
}
