//! The hook table against this machine's libc: every name of a converted call is there, and no other.

use object::{Object, ObjectSymbol};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use testprogs::libraries;

/// The calls that are converted, without the decorations under which libc has them.
const CALLS: &[&str] = &[
    "read",
    "write",
    "pread",
    "pwrite",
    "readv",
    "writev",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "open",
    "openat",
    "creat",
    "close",
    "fsync",
    "fdatasync",
    "lseek",
    "dup",
    "dup2",
    "dup3",
    "stat",
    "fstat",
    "lstat",
    "fstatat",
    "xstat",
    "fxstat",
    "lxstat",
    "fxstatat",
    "statx",
    "access",
    "euidaccess",
    "eaccess",
    "faccessat",
    "statfs",
    "fstatfs",
    "statvfs",
    "fstatvfs",
    "readlink",
    "readlinkat",
    "realpath",
    "canonicalize_file_name",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "name_to_handle_at",
    "open_by_handle_at",
    "chdir",
    "fchdir",
    "unlink",
    "rmdir",
    "remove",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "mkfifo",
    "mkfifoat",
    "mknod",
    "mknodat",
    "xmknod",
    "xmknodat",
    "chmod",
    "fchmod",
    "lchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "lutimes",
    "futimes",
    "futimesat",
    "futimens",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "mkstemp",
    "mkstemps",
    "mkostemp",
    "mkostemps",
    "mkdtemp",
    "mktemp",
    "tmpnam",
    "tmpnam_r",
    "tempnam",
    "truncate",
    "ftruncate",
    "fallocate",
    "posix_fallocate",
    "posix_fadvise",
    "readahead",
    "sync",
    "syncfs",
    "sync_file_range",
    "msync",
    "copy_file_range",
    "sendfile",
    "splice",
    "tee",
    "vmsplice",
    "flock",
    "lockf",
    "opendir",
    "fdopendir",
    "readdir",
    "readdir_r",
    "getdents",
    "getdirentries",
    "scandir",
    "scandirat",
    "ftw",
    "nftw",
    "glob",
    "fts_open",
    "fts_read",
    "fts_children",
    "fts_close",
    "closedir",
];

/// Converted as well, with decorations of their own or none.
const OTHERS: [&str; 6] = ["fcntl", "fcntl64", "__fcntl", "close_range", "closefrom", "vfork"];

/// Names of libc's that look like an alias and are none that a program can be linked to: compatibility symbols,
/// and what is private to libc.
const COMPATIBILITY: [&str; 3] = ["llseek", "__fstat64", "__mktemp"];

fn defined(library: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(library).expect("the library can be read");
    let file = object::File::parse(&*bytes).expect("the library is an ELF file");
    file.dynamic_symbols()
        .filter(|s| s.is_definition())
        .filter_map(|s| s.name().ok().map(str::to_owned))
        .collect()
}

/// The libc of this process, found where it is mapped.
fn libc() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so"));
    PathBuf::from(path.expect("this process uses a shared libc"))
}

/// `__pread64_chk` -> `pread`: what is left when an alias's decorations are taken off.
fn undecorated(name: &str) -> &str {
    let mut core = name.strip_prefix("__").unwrap_or(name);
    core = core
        .strip_suffix("_chk")
        .or_else(|| core.strip_suffix("_2"))
        .unwrap_or(core);
    // preadv64v2 is preadv2's 64-bit name; pread64 and preadv64 are pread's and preadv's.
    match core {
        "preadv64v2" => "preadv2",
        "pwritev64v2" => "pwritev2",
        "readdir64_r" => "readdir_r",
        "fts64_open" => "fts_open",
        "fts64_read" => "fts_read",
        "fts64_children" => "fts_children",
        "fts64_close" => "fts_close",
        _ => core.strip_suffix("64").unwrap_or(core),
    }
}

#[test]
fn every_name_of_a_converted_call_in_this_libc_is_hooked() {
    let hooked = defined(&libraries().aioshim);
    let libc = defined(&libc());
    let wanted: BTreeSet<&str> = libc
        .iter()
        .map(String::as_str)
        .filter(|name| CALLS.contains(&undecorated(name)) || OTHERS.contains(name))
        .filter(|name| !COMPATIBILITY.contains(name))
        .collect();
    assert!(wanted.len() > 180, "libc's names were read: {wanted:?}");
    let missing: Vec<_> = wanted.iter().filter(|name| !hooked.contains(**name)).collect();
    assert!(
        missing.is_empty(),
        "libc has these names of converted calls, the table has not: {missing:?}"
    );
}

#[test]
fn nothing_is_exported_but_hooks_and_the_host_table() {
    let libc = defined(&libc());
    let strays: Vec<_> = defined(&libraries().aioshim)
        .into_iter()
        .filter(|name| !name.starts_with("aioshim_") && !libc.contains(name))
        // Exported on every libc; in libc itself from 2.34 on.
        .filter(|name| name != "close_range" && name != "closefrom")
        .collect();
    assert!(
        strays.is_empty(),
        "these would shadow a program's own symbols: {strays:?}"
    );
}

#[test]
fn aliases_lose_their_decorations() {
    for (alias, call) in [
        ("__pread64_chk", "pread"),
        ("__open64_2", "open"),
        ("preadv64v2", "preadv2"),
        ("dup2", "dup2"),
    ] {
        assert_eq!(undecorated(alias), call);
    }
}
