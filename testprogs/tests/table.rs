//! The hook table against this machine's libc: every name of a converted call is there, and no other.

use object::{Object, ObjectSymbol};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use testprogs::libraries;

/// Names of libc's that look like an alias and are none that a program can be linked to: compatibility symbols.
const COMPATIBILITY: [&str; 1] = ["llseek"];

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
        _ => core.strip_suffix("64").unwrap_or(core),
    }
}

#[test]
fn every_name_of_a_converted_call_in_this_libc_is_hooked() {
    let hooked = defined(&libraries().aioshim);
    let calls: BTreeSet<&str> = hooked.iter().map(|name| undecorated(name)).collect();
    let libc = defined(&libc());
    let wanted: BTreeSet<&str> = libc
        .iter()
        .map(String::as_str)
        .filter(|name| calls.contains(undecorated(name)) && !COMPATIBILITY.contains(name))
        .collect();
    assert!(wanted.len() > 150, "libc's names were read: {wanted:?}");
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
