//! Rows: stdio. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! streams {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Streams, where stdio does more than its jump tables see" {
        fn fopen, fopen64, _IO_fopen(path: *const c_char, mode: *const c_char) -> *mut FILE
            => Convert(calls::stdio::fopen);
        fn freopen, freopen64(
            path: *const c_char, mode: *const c_char, stream: *mut FILE
        ) -> *mut FILE
            => Convert(calls::stdio::freopen), forgets(calls::file::before_fclose(stream));
        fn tmpfile, tmpfile64() -> *mut FILE
            => Offload;
        fn fclose, _IO_fclose(stream: *mut FILE) -> c_int
            => Convert(calls::stdio::fclose), forgets(calls::file::before_fclose(stream));
        fn pclose(stream: *mut FILE) -> c_int
            => Convert(calls::stdio::pclose), forgets(calls::file::before_fclose(stream));
        fn fcloseall() -> c_int
            => Convert(calls::stdio::fcloseall), without_case(STREAM_LOCK);
        fn fflush(stream: *mut FILE) -> c_int
            => Convert(calls::stdio::fflush);
        fn fflush_unlocked(stream: *mut FILE) -> c_int
            => Convert(calls::stdio::fflush);
        fn _IO_fflush(stream: *mut FILE) -> c_int
            => Convert(calls::stdio::fflush);
        fn _IO_flush_all() -> c_int
            => Convert(calls::stdio::flush_all_streams), without_case(STREAM_LOCK);
        fn flockfile, _IO_flockfile(stream: *mut FILE) -> ()
            => Convert(calls::stdio::flockfile), uncharged, without_case(STREAM_LOCK);
        fn ftrylockfile, _IO_ftrylockfile(stream: *mut FILE) -> c_int
            => Convert(calls::stdio::ftrylockfile), uncharged, without_case(STREAM_LOCK);
        fn funlockfile, _IO_funlockfile(stream: *mut FILE) -> ()
            => Convert(calls::stdio::funlockfile), uncharged, without_case(STREAM_LOCK);
        // The variadic functions are in shim/src/entry/variadic.rs and call these. A va_list is
        // passed by its address.
        fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int
            => Convert(calls::stdio::vdprintf);
        fn __vdprintf_chk(
            fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void
        ) -> c_int
            => Convert(calls::stdio::vdprintf_chk);
        fn closedir(directory: *mut DIR) -> c_int
            => Convert(calls::file::closedir), any_thread, without_case(POSITION),
               forgets(calls::file::before_closedir(directory));
    }
        } }
    };
}
