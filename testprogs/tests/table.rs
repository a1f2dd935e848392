//! Compares the hook table with this machine's libc: it contains every name of a converted call,
//! and no other.

use object::{Object, ObjectSymbol};
use std::collections::BTreeSet;
use std::path::Path;
use testprogs::{How, libraries};

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

/// Removes the decorations of an alias: `__pread64_chk` -> `pread`.
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
    let calls: BTreeSet<&str> = hooked.iter().map(|name| undecorated(name)).collect();
    let libc = libc();
    let wanted: BTreeSet<&str> = libc
        .iter()
        .map(String::as_str)
        .filter(|name| calls.contains(undecorated(name)) && !COMPATIBILITY.contains(name))
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

#[test]
fn nothing_is_exported_but_hooks_and_the_host_table() {
    let libc = libc();
    let strays: Vec<_> = defined(&libraries().aioshim)
        .into_iter()
        .filter(|name| !name.starts_with("aioshim_") && !libc.contains(name))
        // From the C++ library (shim/src/runtime/language.rs, shim/src/calls/statics.rs).
        .filter(|name| !name.starts_with("__cxa_"))
        // Used only by the sanitizer runtimes (shim/src/entry/sanitizers.rs).
        .filter(|name| {
            !["__asan_default_options", "__tsan_default_suppressions"].contains(&name.as_str())
        })
        // The shim exports these on every libc; libc itself has them since versions 2.33 to 2.35.
        .filter(|name| {
            ![
                "close_range",
                "closefrom",
                "epoll_pwait2",
                "mknod",
                "mknodat",
            ]
            .contains(&name.as_str())
        })
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

/// The text before the tables in docs/calls.md.
const PREFACE: &str = "\
# Calls

This page lists every libc function that the shim interposes, and how its calls are handled on a
fiber. Off a fiber, all calls pass straight through to libc. The page is generated from the hook
table (`shim/src/hooks/mod.rs`) by `AIOSHIM_WRITE_DOCS=1 cargo test -p testprogs --test table`.

- **converted**: handled by the named function in `shim/src/calls/`. It makes the call inline if the
  call need not wait; otherwise it submits an operation to the engine, or as a last resort to the
  thread pool, and parks the fiber.
- **offloaded**: the whole libc function runs on a pool thread while the fiber is parked; errno,
  h_errno and the locale are carried there and back. *may wait*: only if the call may wait.
- **recorded**: as offloaded, but through the named reentrant variant. The result is in memory of
  the fiber, and its next call of the same function overwrites it.
- **copied**: made inline, because the call does not wait. The result is in memory of the fiber, as
  for *recorded*.
- **paced**: the libc function runs inline while such calls are quick, and on a pool thread once
  they are slow; the first slow call blocks the thread. [measured.md](measured.md) lists the costs.
- **passed**: the libc function runs inline, because it does not wait; the shim does something
  before it (such as submitting queued operations).
- **wakes**: never waits, on a fiber or off; the call may end the wait of a fiber or change how the
  shim handles later calls.

Some functions are interposed without a row in the table, because they are variadic, written in
assembly, or missing from some versions of libc: `dprintf`, `__dprintf_chk`, `syslog`,
`__syslog_chk`, `pthread_exit`, `__cxa_guard_acquire`, `__cxa_get_globals` and related functions of
the C++ library, `close_range`, `closefrom`, `vfork`, `__vfork`; `sigaction` and the older functions
that install signal handlers; the functions that jump; those that change or report the signal mask;
and those whose new thread or program inherits it (`pthread_create`, `posix_spawn`, exec and related
functions). All other stdio functions are converted through stdio's jump tables
(`shim/src/stdio/`). [limits.md](limits.md) lists the differences from a thread.
";

fn in_words(how: &How) -> String {
    match how {
        How::Converted(function) => format!("converted: `{function}`"),
        How::Offloaded => "offloaded".to_owned(),
        How::OffloadedWhen => "offloaded: may wait".to_owned(),
        How::Recorded(twin) => format!("recorded: `{twin}`"),
        How::Copied => "copied".to_owned(),
        How::Paced(kind) => format!("paced: {}", kind.to_lowercase()),
        How::Passed => "passed".to_owned(),
        How::Wakes => "wakes".to_owned(),
    }
}

/// Generates docs/calls.md. Rows of one section that are handled the same way share a line.
fn calls_page() -> String {
    let mut page = PREFACE.to_owned();
    let mut lines: Vec<(String, String, Vec<String>)> = Vec::new();
    for row in testprogs::rows() {
        let how = in_words(&row.how);
        let name = format!("`{}`", row.name);
        match lines
            .iter_mut()
            .find(|(section, other, _)| (section, other) == (&row.section, &how))
        {
            Some((_, _, names)) => names.push(name),
            None => lines.push((row.section, how, vec![name])),
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

#[test]
fn the_source_of_the_table_has_every_row() {
    let hooked = defined(&libraries().aioshim);
    let rows = testprogs::rows();
    let missing: Vec<_> = rows
        .iter()
        .filter(|row| !hooked.contains(&row.name))
        .collect();
    assert!(
        rows.len() > 400 && missing.is_empty(),
        "{} rows; {missing:?}",
        rows.len()
    );
}
