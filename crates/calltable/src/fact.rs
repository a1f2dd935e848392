//! Turns the parts of a row into data. A part that is not listed here does not compile.

/// The route of a row.
macro_rules! route {
    (Convert($($function:tt)*)) => {
        Route::Convert(stringify!($($function)*))
    };
    (WithLibc($($function:tt)*)) => {
        Route::Convert(stringify!($($function)*))
    };
    (Offload) => {
        Route::Offload
    };
    (Adaptive($kind:ident, $($files:tt)*)) => {
        Route::Adaptive(stringify!($kind))
    };
    (Recorded($twin:ident $(, h_errno)?)) => {
        Route::Recorded(stringify!($twin))
    };
    (RecordedBy($($function:tt)*)) => {
        Route::RecordedBy(stringify!($($function)*))
    };
    (Copied) => {
        Route::Copied
    };
    (CopiedBy($($function:tt)*)) => {
        Route::CopiedBy
    };
    (Everywhere($($function:tt)*)) => {
        Route::Everywhere(stringify!($($function)*))
    };
}

/// The number of a system call that newer architectures lack.
macro_rules! old {
    ($number:ident) => {{
        #[cfg(target_arch = "x86_64")]
        let number = Some(libc::$number);
        #[cfg(not(target_arch = "x86_64"))]
        let number = None;
        number
    }};
}

/// The row with one fact more.
macro_rules! fact {
    ($row:ident, number(old $number:ident)) => {
        Row { number: crate::fact::old!($number), ..$row }
    };
    ($row:ident, number($number:ident $(, $function:ident)?)) => {
        Row { number: Some(libc::$number), ..$row }
    };
    ($row:ident, system_call(old $number:ident)) => {
        Row { number: crate::fact::old!($number), ..$row }
    };
    ($row:ident, system_call($number:ident)) => {
        Row { number: Some(libc::$number), ..$row }
    };
    ($row:ident, waits($event:ident $(, $($condition:tt)*)?)) => {
        Row { waits: Some(crate::wait::wait!($event $(, $($condition)*)?)), ..$row }
    };
    ($row:ident, cancellation_point) => {
        Row { cancellation_point: true, ..$row }
    };
    ($row:ident, any_thread) => {
        Row { any_thread: true, ..$row }
    };
    ($row:ident, passes) => {
        Row { passes: true, ..$row }
    };
    ($row:ident, forgets($($value:tt)*)) => {
        Row { forgets: true, ..$row }
    };
    ($row:ident, otherwise($($value:tt)*)) => {
        Row { replaced: true, ..$row }
    };
    ($row:ident, when($($condition:tt)*)) => {
        Row { route: Route::OffloadWhen(stringify!($($condition)*)), ..$row }
    };
    ($row:ident, without_case($reason:ident)) => {
        Row { without_case: Some(crate::row::reasons::$reason), ..$row }
    };
    // Only the shim's macro reads the rest.
    ($row:ident, lock) => { $row };
    ($row:ident, uncharged) => { $row };
    ($row:ident, renames) => { $row };
    ($row:ident, file($($value:tt)*)) => { $row };
    ($row:ident, instead($($value:tt)*)) => { $row };
    ($row:ident, first($($value:tt)*)) => { $row };
    ($row:ident, early($($value:tt)*)) => { $row };
    ($row:ident, by($($value:tt)*)) => { $row };
    ($row:ident, unbound($($value:tt)*)) => { $row };
    ($row:ident, version($($value:tt)*)) => { $row };
}

pub(crate) use {fact, old, route};
