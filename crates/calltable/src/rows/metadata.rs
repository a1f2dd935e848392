//! Rows: names and attributes of files. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! metadata {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Metadata: names and attributes of files" {
        fn stat, stat64(path: *const c_char, into: *mut c_void) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(old SYS_stat), waits(DISK),
               otherwise(calls::stat::fallback_stat);
        fn lstat, lstat64(path: *const c_char, into: *mut c_void) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(old SYS_lstat), waits(DISK),
               otherwise(calls::stat::fallback_lstat);
        fn fstat, fstat64(fd: c_int, into: *mut c_void) -> c_int
            => Adaptive(Lookup, fd), otherwise(calls::stat::fallback_fstat);
        fn fstatat, fstatat64(
            dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int
        ) -> c_int
            => Adaptive(Lookup, dir), system_call(SYS_newfstatat),
               waits(DISK, unless_flag(3, AT_EMPTY_PATH)), otherwise(calls::stat::fallback_fstatat);
        // Called by programs that were built for a glibc before 2.33.
        fn __xstat, __xstat64(version: c_int, path: *const c_char, into: *mut c_void) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn __lxstat, __lxstat64(version: c_int, path: *const c_char, into: *mut c_void) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn __fxstat, __fxstat64(version: c_int, fd: c_int, into: *mut c_void) -> c_int
            => Adaptive(Lookup, fd);
        fn __fxstatat, __fxstatat64(
            version: c_int, dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int
        ) -> c_int
            => Adaptive(Lookup, dir);
        fn statx(
            dir: c_int, path: *const c_char, flags: c_int, mask: c_uint, into: *mut c_void
        ) -> c_int
            => Adaptive(Lookup, dir), system_call(SYS_statx), waits(DISK);
        fn access(path: *const c_char, mode: c_int) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(old SYS_access), waits(DISK);
        fn euidaccess(path: *const c_char, mode: c_int) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn eaccess(path: *const c_char, mode: c_int) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn faccessat(dir: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int
            => Adaptive(Lookup, dir), system_call(SYS_faccessat), waits(DISK);
        fn statfs, statfs64, __statfs(path: *const c_char, into: *mut c_void) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(SYS_statfs), waits(DISK);
        fn statvfs, statvfs64(path: *const c_char, into: *mut c_void) -> c_int
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn fstatfs, fstatfs64(fd: c_int, into: *mut c_void) -> c_int
            => Adaptive(Lookup, fd), system_call(SYS_fstatfs), waits(DISK);
        fn fstatvfs, fstatvfs64(fd: c_int, into: *mut c_void) -> c_int
            => Adaptive(Lookup, fd);
        fn readlink(path: *const c_char, into: *mut c_char, n: size_t) -> ssize_t
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(old SYS_readlink), waits(DISK);
        fn __readlink_chk(
            path: *const c_char, into: *mut c_char, n: size_t, object: size_t
        ) -> ssize_t
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn readlinkat(dir: c_int, path: *const c_char, into: *mut c_char, n: size_t) -> ssize_t
            => Adaptive(Lookup, dir), system_call(SYS_readlinkat), waits(DISK);
        fn __readlinkat_chk(
            dir: c_int, path: *const c_char, into: *mut c_char, n: size_t, object: size_t
        ) -> ssize_t
            => Adaptive(Lookup, dir);
        fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD), version("GLIBC_2.3");
        fn __realpath_chk(path: *const c_char, resolved: *mut c_char, object: size_t) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn canonicalize_file_name(path: *const c_char) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn getxattr(
            path: *const c_char, name: *const c_char, value: *mut c_void, n: size_t
        ) -> ssize_t
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(SYS_getxattr), waits(DISK);
        fn lgetxattr(
            path: *const c_char, name: *const c_char, value: *mut c_void, n: size_t
        ) -> ssize_t
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(SYS_lgetxattr), waits(DISK);
        fn fgetxattr(fd: c_int, name: *const c_char, value: *mut c_void, n: size_t) -> ssize_t
            => Adaptive(Lookup, fd), system_call(SYS_fgetxattr), waits(DISK);
        fn listxattr(path: *const c_char, list: *mut c_char, n: size_t) -> ssize_t
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(SYS_listxattr), waits(DISK);
        fn llistxattr(path: *const c_char, list: *mut c_char, n: size_t) -> ssize_t
            => Adaptive(Lookup, libc::AT_FDCWD), system_call(SYS_llistxattr), waits(DISK);
        fn flistxattr(fd: c_int, list: *mut c_char, n: size_t) -> ssize_t
            => Adaptive(Lookup, fd), system_call(SYS_flistxattr), waits(DISK);
        fn name_to_handle_at(
            dir: c_int, path: *const c_char, handle: *mut c_void, mount: *mut c_int, flags: c_int
        ) -> c_int
            => Adaptive(Lookup, dir);
        fn open_by_handle_at(mount: c_int, handle: *mut c_void, flags: c_int) -> c_int
            => WithLibc(calls::name::open_by_handle_at), without_case(ADAPTIVE);
        fn chdir(path: *const c_char) -> c_int
            => WithLibc(calls::name::chdir), number(SYS_chdir), waits(DISK), without_case(ADAPTIVE);
        fn fchdir(dir: c_int) -> c_int
            => WithLibc(calls::name::fchdir), number(SYS_fchdir), without_case(ADAPTIVE);
        fn unlink(path: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_unlink), waits(DISK);
        fn rmdir(path: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_rmdir), waits(DISK);
        fn remove(path: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD);
        fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int
            => Adaptive(Change, dir), system_call(SYS_unlinkat), waits(DISK);
        fn rename(from: *const c_char, to: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_rename), waits(DISK), renames;
        fn link(from: *const c_char, to: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_link), waits(DISK), renames;
        fn symlink(from: *const c_char, to: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_symlink), waits(DISK), renames;
        fn renameat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int
            => Adaptive(Change, to_dir, from_dir), system_call(SYS_renameat), waits(DISK), renames;
        fn renameat2(
            from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_uint
        ) -> c_int
            => Adaptive(Change, to_dir, from_dir), system_call(SYS_renameat2), waits(DISK), renames;
        fn linkat(
            from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_int
        ) -> c_int
            => Adaptive(Change, to_dir, from_dir), system_call(SYS_linkat), waits(DISK), renames;
        fn symlinkat(target: *const c_char, dir: c_int, path: *const c_char) -> c_int
            => Adaptive(Change, dir), system_call(SYS_symlinkat), waits(DISK), renames;
        fn mkdir(path: *const c_char, mode: mode_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_mkdir), waits(DISK);
        fn mkfifo(path: *const c_char, mode: mode_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), renames;
        fn chmod(path: *const c_char, mode: mode_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_chmod), waits(DISK);
        fn lchmod(path: *const c_char, mode: mode_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD);
        fn mkdirat(dir: c_int, path: *const c_char, mode: mode_t) -> c_int
            => Adaptive(Change, dir), system_call(SYS_mkdirat), waits(DISK);
        fn mkfifoat(dir: c_int, path: *const c_char, mode: mode_t) -> c_int
            => Adaptive(Change, dir), renames;
        fn mknod(path: *const c_char, mode: mode_t, device: dev_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_mknod), waits(DISK), renames,
               otherwise(calls::stat::fallback_mknod);
        fn mknodat(dir: c_int, path: *const c_char, mode: mode_t, device: dev_t) -> c_int
            => Adaptive(Change, dir), system_call(SYS_mknodat), waits(DISK), renames,
               otherwise(calls::stat::fallback_mknodat);
        fn __xmknod(version: c_int, path: *const c_char, mode: mode_t, device: *mut dev_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), renames;
        fn __xmknodat(
            version: c_int, dir: c_int, path: *const c_char, mode: mode_t, device: *mut dev_t
        ) -> c_int
            => Adaptive(Change, dir), renames;
        fn fchmod(fd: c_int, mode: mode_t) -> c_int
            => Adaptive(Change, fd), system_call(SYS_fchmod), waits(DISK);
        fn fchmodat(dir: c_int, path: *const c_char, mode: mode_t, flags: c_int) -> c_int
            => Adaptive(Change, dir), system_call(SYS_fchmodat), waits(DISK);
        fn chown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_chown), waits(DISK);
        fn lchown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_lchown), waits(DISK);
        fn fchown(fd: c_int, owner: uid_t, group: gid_t) -> c_int
            => Adaptive(Change, fd), system_call(SYS_fchown), waits(DISK);
        fn fchownat(
            dir: c_int, path: *const c_char, owner: uid_t, group: gid_t, flags: c_int
        ) -> c_int
            => Adaptive(Change, dir), system_call(SYS_fchownat), waits(DISK);
        fn utime(path: *const c_char, times: *const c_void) -> c_int
            => Adaptive(Change, libc::AT_FDCWD);
        fn utimes(path: *const c_char, times: *const c_void) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(old SYS_utimes), waits(DISK);
        fn lutimes(path: *const c_char, times: *const c_void) -> c_int
            => Adaptive(Change, libc::AT_FDCWD);
        fn futimes(fd: c_int, times: *const c_void) -> c_int
            => Adaptive(Change, fd);
        fn futimens(fd: c_int, times: *const c_void) -> c_int
            => Adaptive(Change, fd);
        fn futimesat(dir: c_int, path: *const c_char, times: *const c_void) -> c_int
            => Adaptive(Change, dir);
        fn utimensat(dir: c_int, path: *const c_char, times: *const c_void, flags: c_int) -> c_int
            => Adaptive(Change, dir), system_call(SYS_utimensat), waits(DISK);
        fn setxattr(
            path: *const c_char, name: *const c_char, value: *const c_void, n: size_t, flags: c_int
        ) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(SYS_setxattr), waits(DISK);
        fn lsetxattr(
            path: *const c_char, name: *const c_char, value: *const c_void, n: size_t, flags: c_int
        ) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(SYS_lsetxattr), waits(DISK);
        fn fsetxattr(
            fd: c_int, name: *const c_char, value: *const c_void, n: size_t, flags: c_int
        ) -> c_int
            => Adaptive(Change, fd), system_call(SYS_fsetxattr), waits(DISK);
        fn removexattr(path: *const c_char, name: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(SYS_removexattr), waits(DISK);
        fn lremovexattr(path: *const c_char, name: *const c_char) -> c_int
            => Adaptive(Change, libc::AT_FDCWD), system_call(SYS_lremovexattr), waits(DISK);
        fn fremovexattr(fd: c_int, name: *const c_char) -> c_int
            => Adaptive(Change, fd), system_call(SYS_fremovexattr), waits(DISK);
        // libc chooses the descriptor, so it cannot be forgotten before the call.
        fn mkstemp, mkstemp64(template: *mut c_char) -> c_int
            => WithLibc(calls::name::mkstemp), without_case(ADAPTIVE);
        fn mkstemps, mkstemps64(template: *mut c_char, suffix: c_int) -> c_int
            => WithLibc(calls::name::mkstemps), without_case(ADAPTIVE);
        fn mkostemp, mkostemp64(template: *mut c_char, flags: c_int) -> c_int
            => WithLibc(calls::name::mkstemps), without_case(ADAPTIVE);
        fn mkostemps, mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int
            => WithLibc(calls::name::mkostemps), without_case(ADAPTIVE);
        fn mkdtemp(template: *mut c_char) -> *mut c_char
            => Adaptive(Change, libc::AT_FDCWD);
        fn mktemp(template: *mut c_char) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn tmpnam_r(into: *mut c_char) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn tmpnam(into: *mut c_char) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD);
        fn tempnam(dir: *const c_char, prefix: *const c_char) -> *mut c_char
            => Adaptive(Lookup, libc::AT_FDCWD);
    }
        } }
    };
}
