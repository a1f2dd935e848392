//! Checks that fiber.h and the source of the C API agree. A header is generated from the source,
//! and both are compiled together, so a differing signature is a compile error. Each must declare
//! exactly the functions that the other declares.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The Rust names of the C types.
const TYPES: [(&str, &str); 11] = [
    ("Cleanup", "fiber_cleanup_t"),
    ("FiberHandle", "fiber_t"),
    ("FiberOptions", "fiber_options_t"),
    ("FiberAttr", "fiber_attr_t"),
    ("FiberMutexAttr", "fiber_mutexattr_t"),
    ("RawMutex", "fiber_mutex_t"),
    ("RawCond", "fiber_cond_t"),
    ("RawSem", "fiber_sem_t"),
    ("RawRwLock", "fiber_rwlock_t"),
    ("RawBarrier", "fiber_barrier_t"),
    ("RawOnce", "fiber_once_t"),
];

/// Function types that the C API refers to by a name, and the file that defines each. cbindgen
/// would take such a name for a struct.
const CALLBACKS: [(&str, &str); 2] = [
    ("Entry", "record/fiber.rs"),
    ("Destructor", "record/unwind.rs"),
];

/// Copies a file of the C API and replaces the names of function types by their definitions.
fn source(root: &Path, dir: &Path, name: &str) -> std::path::PathBuf {
    let read = |name: &str| std::fs::read_to_string(root.join("src").join(name)).unwrap();
    let mut text = read(&format!("capi/{name}"))
        .replace("mod sync;", "")
        .replace("mod cancel;", "")
        .replace("key::", "");
    for (callback, file) in CALLBACKS {
        let definition = read(file);
        let (_, rest) = definition
            .split_once(&format!("type {callback} = "))
            .expect("its definition");
        let (definition, _) = rest.split_once(';').unwrap();
        text = text.replace(
            &format!("Option<{callback}>"),
            &format!("Option<{definition}>"),
        );
    }
    let to = dir.join(name);
    std::fs::write(&to, text).unwrap();
    to
}

fn generated(dir: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        no_includes: true,
        // The header's type names are typedefs, and so is the stand-in for `struct timespec`.
        style: cbindgen::Style::Type,
        ..Default::default()
    };
    config.export.item_types = vec![cbindgen::ItemType::Functions];
    for (rust, c) in TYPES {
        config.export.rename.insert(rust.into(), c.into());
    }
    config
        .export
        .rename
        .insert("timespec".into(), "timespec_".into());
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(source(root, dir, "mod.rs"))
        .with_src(source(root, dir, "cancel.rs"))
        .with_src(source(root, dir, "sync.rs"))
        .generate()
        .expect("cbindgen reads the C API");
    let mut out = Vec::new();
    bindings.write(&mut out);
    String::from_utf8(out).unwrap()
}

/// Returns the names of the functions that a header declares.
fn functions(header: &str) -> BTreeSet<&str> {
    header
        .lines()
        .filter(|l| !l.trim_start().starts_with(['/', '*', '#']))
        .flat_map(|l| l.match_indices("fiber_").map(move |(at, _)| &l[at..]))
        .filter_map(|l| l.split_once('(').map(|(name, _)| name))
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect()
}

fn compile(dir: &Path, what: &[&str], file: &str, text: &str) -> Result<(), String> {
    let path = dir.join(file);
    std::fs::write(&path, text).unwrap();
    let out = Command::new(what[0])
        .args(&what[1..])
        .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
        .arg(&path)
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", what[0]));
    if out.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn both(generated: &str) -> String {
    format!(
        "#include <fiber.h>\n#include <stdbool.h>\n#include <time.h>\ntypedef struct timespec \
        timespec_;\n{generated}"
    )
}

#[test]
fn header_and_source_declare_the_same() {
    let dir = scratch("drift");
    let generated = generated(&dir);
    let header = include_str!("../include/fiber.h");
    assert_eq!(functions(header), functions(&generated));
    assert_eq!(
        functions(header).len(),
        64,
        "the number of functions in the header; update it when you add one"
    );
    compile(&dir, &["cc", "-std=c11"], "both.c", &both(&generated)).unwrap();
    // Check this test itself: it must notice a changed signature.
    let drifted = generated.replacen("int fiber_sleep(uint64_t ", "int fiber_sleep(uint32_t ", 1);
    assert_ne!(drifted, generated, "{generated}");
    assert!(compile(&dir, &["cc", "-std=c11"], "drifted.c", &both(&drifted)).is_err());
}

#[test]
fn the_header_is_self_contained_in_every_language() {
    let dir = scratch("alone");
    let text = "#include <fiber.h>\nint main(void) \
        { fiber_options_t o = FIBER_OPTIONS_INIT; fiber_attr_t a = \
                FIBER_ATTR_INIT; fiber_mutex_t m = FIBER_MUTEX_INITIALIZER; \
                return (int)(o.workers + a.stack_size + m.opaque[0]); }\n";
    compile(&dir, &["cc", "-std=c99", "-pedantic"], "c99.c", text).unwrap();
    compile(&dir, &["cc", "-std=c23"], "c23.c", text)
        .or_else(|_| compile(&dir, &["cc", "-std=c2x"], "c2x.c", text))
        .unwrap();
    if Command::new("c++").arg("--version").output().is_err() {
        println!("skip: no C++ compiler c++ on PATH");
        return;
    }
    compile(&dir, &["c++", "-std=c++11", "-pedantic"], "cpp.cc", text).unwrap();
}
