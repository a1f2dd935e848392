//! Compares the call table with this machine's libc: it contains every name of a converted call,
//! and no other.

use calltable::{EXPORTS, NAMES, ROWS, Route, Row};
use object::{Object, ObjectSymbol};
use std::collections::BTreeSet;
use std::path::Path;
use testprogs::libraries;

/// Names in libc that look like an alias but that a program cannot be linked to: compatibility
/// symbols, and private ones.
const COMPATIBILITY: [&str; 4] = ["llseek", "__fstat64", "__mktemp", "__pthread_barrier_wait"];

fn defined(library: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(library).expect("the library can be read");
    let file = object::File::parse(&*bytes).expect("the library is an ELF file");
    file.dynamic_symbols()
        .filter(|s| s.is_definition())
        .filter_map(|s| s.name().ok().map(str::to_owned))
        .collect()
}

/// The names in this process's libc, which is found through its mappings. Before glibc 2.34
/// libpthread is a separate library, and the file names of both contain the version.
fn libc() -> BTreeSet<String> {
    const FILES: [&str; 3] = ["/libc.so", "/libc-2", "/libpthread-2"];
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let paths: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| FILES.iter().any(|file| path.contains(file)))
        .collect();
    assert!(!paths.is_empty(), "this process uses a shared libc");
    paths
        .iter()
        .flat_map(|path| defined(Path::new(path)))
        .collect()
}

/// Removes the decorations of an alias: `__pread64_chk` -> `pread`, `preadv64v2` -> `preadv2`.
fn undecorated(name: &str) -> String {
    let core = name.strip_prefix("__").unwrap_or(name);
    let core = core.strip_suffix("_chk").unwrap_or(core);
    let core = core.strip_suffix("_2").unwrap_or(core);
    core.replacen("64v", "64", 1).replacen("64", "", 1)
}

#[test]
fn every_name_of_a_converted_call_in_this_libc_is_hooked() {
    let hooked = defined(&libraries().aioshim);
    let calls: BTreeSet<String> = hooked.iter().map(|name| undecorated(name)).collect();
    let libc = libc();
    let wanted: BTreeSet<&str> = libc
        .iter()
        .map(String::as_str)
        .filter(|name| calls.contains(&undecorated(name)) && !COMPATIBILITY.contains(name))
        .collect();
    assert!(wanted.len() > 150, "libc's names were read: {wanted:?}");
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !hooked.contains(**name))
        .collect();
    assert!(
        missing.is_empty(),
        "libc has these names of converted calls, but the table does not: {missing:?}"
    );
}

/// The names of [`EXPORTS`], or those of libc only.
fn exports(only_libc: bool) -> impl Iterator<Item = &'static str> {
    let all = EXPORTS.iter().filter(move |e| e.of_libc || !only_libc);
    all.flat_map(|export| export.names.iter().copied())
}

#[test]
fn the_exports_are_the_table_the_other_hooks_and_the_host_table() {
    let exported = defined(&libraries().aioshim);
    let exported: BTreeSet<&str> = exported
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("aioshim_"))
        .collect();
    let listed: BTreeSet<&str> = NAMES.iter().map(|n| n.name).chain(exports(false)).collect();
    let (unlisted, missing): (Vec<_>, Vec<_>) = (
        exported.difference(&listed).collect(),
        listed.difference(&exported).collect(),
    );
    assert!(
        NAMES.len() > 400 && unlisted.is_empty() && missing.is_empty(),
        "exported, but not listed: {unlisted:?}; listed, but not exported: {missing:?}"
    );
}

#[test]
fn nothing_is_exported_but_hooks_and_the_host_table() {
    let libc = libc();
    // Some libcs lack functions that the shim replaces.
    let rows = NAMES.iter().filter(|name| !name.row.replaced);
    let strays: Vec<_> = rows
        .map(|name| name.name)
        .chain(exports(true))
        .filter(|name| !libc.contains(*name))
        .collect();
    assert!(
        strays.is_empty(),
        "these would shadow a program's own symbols: {strays:?}"
    );
}

#[test]
fn the_files_of_the_other_exports_define_them() {
    for export in EXPORTS {
        let path = testprogs::workspace().join("shim/src").join(export.file);
        let source = std::fs::read_to_string(&path).expect("the file of an export");
        for name in export.names {
            assert!(source.contains(name), "{name} is not in {}", export.file);
        }
    }
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

/// The text before the tables in docs/calls.md.
const PREFACE: &str = "\
# Calls

This page lists every libc function that the shim interposes, and how its calls are handled on a
fiber. Off a fiber, all calls pass straight through to libc. The page is generated from the call
table (`crates/calltable/`) by `AIOSHIM_WRITE_DOCS=1 cargo test -p testprogs --test table`.

- **converted**: handled by the named function in `shim/src/calls/`. It makes the call inline if the
  call need not wait; otherwise it submits an operation to the engine, or as a last resort to the
  thread pool, and parks the fiber.
- **offloaded**: the whole libc function runs on a pool thread while the fiber is parked; errno,
  h_errno and the locale are carried there and back. *may wait*: only if the call may wait.
- **recorded**: as offloaded, but through the named reentrant function. The result is in memory of
  the fiber, and its next call of the same function overwrites it.
- **copied**: made inline, because the call does not wait. The result is in memory of the fiber, as
  for *recorded*.
- **adaptive**: the libc function runs inline while such calls are quick, and on a pool thread once
  they are slow; the first slow call blocks the thread. [measured.md](measured.md) lists the costs.
- **passed**: the libc function runs inline, because it does not wait; the shim does something
  before it (such as submitting queued operations).
- **wakes**: never waits, on a fiber or off; the call may end the wait of a fiber or change how the
  shim handles later calls.

All other stdio functions are converted through stdio's jump tables (`shim/src/entry/stdio/`).
[limits.md](limits.md) lists the differences from a thread.
";

/// The text before the table of functions without a row.
const OTHERS: &str = "
## Functions without a row

These are variadic, written in assembly, or replace libc's function instead of calling it: variants
of the calls above, functions that install signal handlers, that jump, that change or report the
signal mask, or whose new thread or program inherits it, and functions of the C++ library.

| functions | where |
|---|---|
";

/// How the calls of a row are handled on a fiber.
fn in_words(row: &Row) -> String {
    // The names of modules within shim/src/calls/.
    let within = |path: &str| path.replace(' ', "").replace("calls::", "");
    match row.route {
        Route::Convert(_) if row.passes => "passed".to_owned(),
        Route::Convert(function) => format!("converted: `{}`", within(function)),
        Route::Offload => "offloaded".to_owned(),
        Route::OffloadWhen(_) => "offloaded: may wait".to_owned(),
        Route::Recorded(twin) | Route::RecordedBy(twin) => format!("recorded: `{}`", within(twin)),
        Route::Copied | Route::CopiedBy => "copied".to_owned(),
        Route::Adaptive(kind) => format!("adaptive: {}", kind.to_lowercase()),
        Route::Everywhere(_) => "wakes".to_owned(),
    }
}

/// Generates docs/calls.md. Rows of one section that are handled the same way share a line.
fn calls_page() -> String {
    let mut page = PREFACE.to_owned();
    let mut lines: Vec<(String, String, Vec<String>)> = Vec::new();
    for row in ROWS {
        let how = in_words(row);
        let names: Vec<_> = row.names.iter().map(|name| format!("`{name}`")).collect();
        match lines
            .iter_mut()
            .find(|(section, other, _)| (section.as_str(), other) == (row.section, &how))
        {
            Some((_, _, line)) => line.extend(names),
            None => lines.push((row.section.to_owned(), how, names)),
        }
    }
    let mut section = String::new();
    for (of, how, names) in lines {
        if of != section {
            page += &format!("\n## {of}\n\n| calls | on a fiber |\n|---|---|\n");
            section = of;
        }
        page += &format!("| {} | {how} |\n", names.join(" "));
    }
    page += OTHERS;
    for export in EXPORTS {
        let names: Vec<_> = export
            .names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        page += &format!("| {} | `shim/src/{}` |\n", names.join(" "), export.file);
    }
    page
}

#[test]
fn the_page_of_calls_is_the_table() {
    let path = testprogs::workspace().join("docs/calls.md");
    let page = calls_page();
    if std::env::var_os("AIOSHIM_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/calls.md can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page
        .lines()
        .zip(found.lines().chain(std::iter::repeat("")))
        .find(|(a, b)| a != b);
    assert!(
        page == found,
        "docs/calls.md differs from the table: {differs:?}; AIOSHIM_WRITE_DOCS=1 rewrites it"
    );
}
