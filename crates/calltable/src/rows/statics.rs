//! Rows: functions with static memory. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! statics {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "What libc keeps for a thread, or in static memory" {
        fn __h_errno_location() -> *mut c_int
            => Everywhere(calls::results::h_errno_location);
        fn strerror(number: c_int) -> *mut c_char
            => CopiedBy(calls::results::strerror), uncharged;
        fn strsignal(signal: c_int) -> *mut c_char
            => Copied, uncharged;
        fn inet_ntoa(address: c_uint) -> *mut c_char
            => Copied, uncharged;
        fn asctime(time: *const c_void) -> *mut c_char
            => CopiedBy(calls::results::asctime), uncharged;
        fn ctime(time: *const c_void) -> *mut c_char
            => CopiedBy(calls::results::ctime), uncharged;
        fn gmtime(time: *const c_void) -> *mut c_void
            => CopiedBy(calls::results::gmtime), uncharged;
        fn localtime(time: *const c_void) -> *mut c_void
            => CopiedBy(calls::results::localtime), uncharged;
        fn ttyname(fd: c_int) -> *mut c_char
            => CopiedBy(calls::results::ttyname), uncharged;
        fn ptsname(fd: c_int) -> *mut c_char
            => CopiedBy(calls::results::ptsname), uncharged;
        fn ether_ntoa(address: *const c_void) -> *mut c_char
            => CopiedBy(calls::results::ether_ntoa), uncharged;
        fn ether_aton(text: *const c_char) -> *mut c_void
            => CopiedBy(calls::results::ether_aton), uncharged;
        fn l64a(number: c_long) -> *mut c_char
            => Copied, uncharged;
        fn strtok(text: *mut c_char, delimiters: *const c_char) -> *mut c_char
            => CopiedBy(calls::results::strtok), uncharged;
        fn uselocale, __uselocale(new: libc::locale_t) -> libc::locale_t
            => Everywhere(calls::locale::uselocale);
    }
        } }
    };
}
