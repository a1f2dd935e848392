//! Options: a value that the caller leaves open comes from the environment, or else is a default.
//!
//! A bad value in the environment never makes the program fail: one line on stderr says what was
//! expected and which value is used. A program with more privileges than its caller ignores the
//! environment, because the caller controls it.

#![deny(unsafe_code)]

use crate::output::Out;
use crate::record::stack::Class;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::ffi::OsString;

const NAMES: [&str; 2] = ["FIBER_WORKERS", "FIBER_STACK"];

pub(crate) const WORKERS_MAX: usize = 1024;
const WORKERS_DEFAULT: usize = 1;
const STACK_DEFAULT: usize = 256 << 10;

/// `FIBER_WORKERS`: OS threads that run fibers.
pub(crate) fn workers() -> usize {
    read(
        "FIBER_WORKERS",
        "a number from 1 to 1024",
        "1",
        parse_workers,
    )
    .unwrap_or(WORKERS_DEFAULT)
}

/// `FIBER_STACK`: bytes of address space per fiber stack.
pub(crate) fn stack() -> Class {
    let size = read(
        "FIBER_STACK",
        "a number of bytes, optionally with K or M, from 16K to 1024M",
        "256K",
        parse_stack,
    );
    Class::of(size.unwrap_or(STACK_DEFAULT)).expect("checked")
}

fn parse_workers(text: &str) -> Option<usize> {
    text.parse().ok().filter(|n| (1..=WORKERS_MAX).contains(n))
}

fn parse_stack(text: &str) -> Option<usize> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<usize>().ok()?.checked_mul(unit)?;
    Class::of(size).map(|_| size)
}

fn read<T>(name: &str, expected: &str, used: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    let value: OsString = std::env::var_os(name).filter(|v| !v.is_empty())?;
    if has_more_rights_than_its_caller() {
        return None;
    }
    let parsed = value.to_str().and_then(parse);
    if parsed.is_none() {
        let value = value.to_string_lossy();
        let _ = writeln!(
            Out::to_stderr(),
            "fiber: {name}={value}: expected {expected}; using {used}"
        );
    }
    parsed
}

/// Reports each variable whose name looks like a misspelt option, once per process. Other names
/// that begin with `FIBER_` may belong to other software.
pub(crate) fn report_misspelt_names() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Relaxed) || has_more_rights_than_its_caller() {
        return;
    }
    for (name, _) in std::env::vars_os() {
        if let Some((name, meant)) = name.to_str().and_then(|name| Some((name, meant_by(name)?))) {
            let _ = writeln!(
                Out::to_stderr(),
                "fiber: {name}: no such option; ignored; did you mean {meant}?"
            );
        }
    }
}

/// The option that `name` misspells, if any.
fn meant_by(name: &str) -> Option<&'static str> {
    if !name.starts_with("FIBER_") || NAMES.contains(&name) {
        return None;
    }
    NAMES
        .into_iter()
        .find(|option| strsim::damerau_levenshtein(option, name) <= 2)
}

/// Whether the program runs set-user-ID, set-group-ID or with file capabilities.
#[expect(unsafe_code, reason = "getauxval has no safe form")]
fn has_more_rights_than_its_caller() -> bool {
    // SAFETY: getauxval only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_stack("65536"), Some(65536));
        assert_eq!(parse_stack("64K"), Some(64 << 10));
        assert_eq!(parse_stack("64k"), Some(64 << 10));
        assert_eq!(parse_stack("1M"), Some(1 << 20));
        for bad in [
            "",
            "K",
            "x",
            "-1",
            "+5",
            "64KB",
            "1G",
            "1.5M",
            "8K",
            "2048M",
            "99999999999999999999M",
            "64é",
        ] {
            assert_eq!(parse_stack(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        assert_eq!(meant_by("FIBER_WORKER"), Some("FIBER_WORKERS"));
        assert_eq!(meant_by("FIBER_STAKC"), Some("FIBER_STACK"));
        for other in ["FIBER_STACK", "FIBER_OPTICS", "FIBRE_STACK", "PATH"] {
            assert_eq!(meant_by(other), None, "{other}");
        }
    }

    #[test]
    fn workers_are_bounded() {
        assert_eq!(parse_workers("8"), Some(8));
        for bad in ["", "0", "1025", "two", "-1", "1.0"] {
            assert_eq!(parse_workers(bad), None, "{bad:?}");
        }
    }
}
