//! The hook table as its source has it: `shim/src/hooks/mod.rs`, a line a row.

use crate::workspace;

/// A row: libc's name, and what becomes of its calls on a fiber.
#[derive(Clone, Debug)]
pub struct Row {
    /// The comment above its group.
    pub section: String,
    pub name: String,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By a function of the shim's: `rw::read`.
    Converted(String),
    /// libc's own, on a thread of the pool.
    Offloaded,
    /// The same where it may wait.
    OffloadedWhen,
    /// By its reentrant twin, on a thread of the pool, into memory of the fiber's.
    Recorded(String),
    /// It does not wait, and its result is in memory of the fiber's.
    Copied,
    /// Inline while such calls are quick, else on a thread of the pool.
    Paced(String),
    /// libc's own, which does not wait, with something done besides.
    Passed,
    /// It never waits; it may end another's wait.
    Wakes,
}

/// Functions that give their calls to libc, always.
const PASSED: [&str; 6] = [
    "file::dup",
    "file::dup2",
    "file::dup3",
    "file::ioctl",
    "file::setsockopt",
    "process::ptrace",
];

/// All rows, in order.
///
/// # Panics
/// When the source is not as it is expected to be.
pub fn rows() -> Vec<Row> {
    let source = std::fs::read_to_string(workspace().join("shim/src/hooks/mod.rs"))
        .expect("the table can be read");
    let (_, table) = source.split_once("\nhooks! {\n").expect("the table begins");
    let (table, _) = table.split_once("\n}\n").expect("and ends");
    let mut section = String::new();
    let mut rows = Vec::new();
    let mut above = "";
    for line in table.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("// ") {
            // The first comment after an empty line is a heading, if it ends a sentence with few
            // words.
            if above.is_empty() && comment.ends_with('.') && !comment.starts_with("Variadic") {
                let heading = comment.split([':', ',', '.']).next().unwrap_or(comment);
                if heading.split(' ').count() <= 4 {
                    section = comment.trim_end_matches('.').to_owned();
                }
            }
        } else if let Some(row) = line.strip_prefix("fn ") {
            let (name, rest) = row.split_once('(').expect("a row has arguments");
            let (_, how) = rest
                .split_once(" => ")
                .expect("a row says what becomes of it");
            rows.push(Row {
                section: section.clone(),
                name: name.to_owned(),
                how: how_of(how.trim_end_matches(';')),
            });
        }
        above = line;
    }
    rows
}

fn how_of(text: &str) -> How {
    if text.contains("at: everywhere") {
        return How::Wakes;
    }
    let function = |text: &str| {
        let path = text.strip_prefix("calls::").unwrap_or(text);
        let end = path.find([',', ')', ' ']).unwrap_or(path.len());
        path[..end].to_owned()
    };
    if text.starts_with("offload") && text.contains(" when ") {
        How::OffloadedWhen
    } else if text.starts_with("offload") {
        How::Offloaded
    } else if let Some(twin) = text.strip_prefix("recorded(") {
        How::Recorded(function(twin))
    } else if text.starts_with("in_record(calls::results::getlogin)") {
        How::Recorded("getlogin_r".to_owned())
    } else if text.starts_with("in_record(") || text.starts_with("copied") {
        How::Copied
    } else if let Some(kind) = text.strip_prefix("paced(") {
        How::Paced(function(kind))
    } else {
        let function = function(text.strip_prefix("with_libc(").unwrap_or(text));
        if PASSED.contains(&function.as_str()) {
            How::Passed
        } else {
            How::Converted(function)
        }
    }
}
