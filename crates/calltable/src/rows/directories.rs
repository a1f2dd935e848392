//! Rows: directories. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! directories {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Directories" {
        fn opendir(path: *const c_char) -> *mut DIR
            => WithLibc(calls::directory::opendir);
        fn fdopendir(fd: c_int) -> *mut DIR
            => Adaptive(Lookup, fd);
        fn readdir, readdir64(directory: *mut DIR) -> *mut c_void
            => WithLibc(calls::directory::readdir);
        fn readdir_r, readdir64_r(
            directory: *mut DIR, entry: *mut c_void, result: *mut *mut c_void
        ) -> c_int
            => WithLibc(calls::directory::readdir_r);
        fn getdents64(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t
            => Adaptive(Directory, fd), system_call(SYS_getdents64), waits(DISK);
        fn getdirentries, getdirentries64(
            fd: c_int, buf: *mut c_char, n: size_t, base: *mut off_t
        ) -> ssize_t
            => Adaptive(Directory, fd);
        fn scandir, scandir64(
            path: *const c_char, list: *mut *mut *mut c_void, filter: Filter, compare: Compare
        ) -> c_int
            => WithLibc(calls::directory::scandir);
        fn scandirat, scandirat64(
            dir: c_int, path: *const c_char, list: *mut *mut *mut c_void, filter: Filter,
            compare: Compare
        ) -> c_int
            => WithLibc(calls::directory::scandirat), without_case(ADAPTIVE);
        fn ftw, ftw64(path: *const c_char, visit: FtwVisit, descriptors: c_int) -> c_int
            => WithLibc(calls::walk::ftw), without_case(ADAPTIVE);
        fn nftw, nftw64(
            path: *const c_char, visit: NftwVisit, descriptors: c_int, flags: c_int
        ) -> c_int
            => WithLibc(calls::walk::nftw), version("GLIBC_2.3.3");
        fn glob, glob64(
            pattern: *const c_char, flags: c_int, error: GlobError, into: *mut c_void
        ) -> c_int
            => WithLibc(calls::walk::glob), version("GLIBC_2.27");
        fn fts_open, fts64_open(
            paths: *const *mut c_char, options: c_int, compare: Compare
        ) -> *mut Fts
            => WithLibc(calls::walk::fts_open), without_case(ADAPTIVE);
        fn fts_read, fts64_read(tree: *mut Fts) -> *mut c_void
            => WithLibc(calls::walk::fts_read), without_case(ADAPTIVE);
        fn fts_children, fts64_children(tree: *mut Fts, options: c_int) -> *mut c_void
            => WithLibc(calls::walk::fts_children), without_case(ADAPTIVE);
        fn fts_close, fts64_close(tree: *mut Fts) -> c_int
            => Adaptive(Directory, libc::AT_FDCWD);
    }
        } }
    };
}
