//! The C headers compile on their own, in every language they support.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use testprogs::{c_compiler, cxx_compiler, libraries, skip};

const HEADERS: [&str; 3] = ["fiber.h", "aioshim.h", "aioshim_host.h"];

/// Whether `file` compiles with the options `words`, and what the compiler says about it.
fn check(compiler: &OsString, words: &[&str], file: &Path) -> (bool, String) {
    let include = libraries().include.iter();
    let output = Command::new(compiler)
        .args(words)
        .arg("-fsyntax-only")
        .args(include.map(|dir| format!("-I{}", dir.display())))
        .arg(file)
        .output()
        .expect("the compiler runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), errors)
}

/// Compiles a file that includes only the header, twice.
fn compiles(header: &str, compiler: &OsString, language: &str, standard: &str) {
    if Command::new(compiler).arg("--version").output().is_err() {
        skip(&format!("no compiler {}", compiler.display()));
        return;
    }
    let dir = testprogs::Scratch::new();
    let file = dir.file(
        "alone",
        format!("#include <{header}>\n#include <{header}>\nint alone(void);\n"),
    );
    let standard = format!("-std={standard}");
    let words = [
        "-x",
        language,
        &standard,
        "-pedantic-errors",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wundef",
        "-Wshadow",
    ];
    let (compiles, errors) = check(compiler, &words, &file);
    assert!(compiles, "{header} as {standard}:\n{errors}");
}

#[test]
fn headers_are_clean_in_c() {
    for header in HEADERS {
        for standard in ["c99", "c11", "gnu17"] {
            compiles(header, &c_compiler(), "c", standard);
        }
    }
}

#[test]
fn headers_are_clean_in_cxx() {
    for header in HEADERS {
        for standard in ["c++11", "c++20"] {
            compiles(header, &cxx_compiler(), "c++", standard);
        }
    }
    for standard in ["c++14", "c++20"] {
        compiles("aioshim.hpp", &cxx_compiler(), "c++", standard);
    }
}

/// What the compiler says about a file that includes aioshim.h with this version of the table.
fn with_version(version: &str, checks: &str) -> (bool, String) {
    let dir = testprogs::Scratch::new();
    let text = format!("#define AIOSHIM_USE_VERSION {version}\n#include <aioshim.h>\n{checks}\n");
    let file = dir.file("versions", text);
    check(&c_compiler(), &["-x", "c", "-std=c11", "-Werror"], &file)
}

#[test]
fn a_source_sees_the_version_of_the_table_that_it_asks_for() {
    // The first version ends with the flags, also in later headers.
    let last = "_Static_assert(sizeof(aioshim_host_t) == \
                offsetof(aioshim_host_t, LAST) + 8, \"its size\");";
    for (version, field) in [("1", "flags"), ("2", "counts")] {
        let (accepted, errors) = with_version(version, &last.replace("LAST", field));
        assert!(accepted, "{version}: {errors}");
    }
    let (accepted, errors) = with_version("1", "size_t at = offsetof(aioshim_host_t, counts);");
    assert!(!accepted && errors.contains("counts"), "{errors}");
    for version in ["0", "99"] {
        let (accepted, errors) = with_version(version, "");
        let says = errors.contains("a version of the table that this aioshim.h does not know");
        assert!(!accepted && says, "{version}: {errors}");
    }
}
