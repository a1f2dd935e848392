//! Parses the hook table from its source, `shim/src/hooks/mod.rs`, which has one line per row.

use crate::workspace;

/// A row: the libc name, and how its calls are handled on a fiber.
#[derive(Clone, Debug)]
pub struct Row {
    /// The comment above the row's group.
    pub section: String,
    pub name: String,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By a function of the shim, such as `rw::read`.
    Converted(String),
    /// The libc function runs on a pool thread.
    Offloaded,
    /// The libc function runs on a pool thread if it may wait.
    OffloadedWhen,
    /// The reentrant variant runs on a pool thread and writes to memory of the fiber.
    Recorded(String),
    /// The call does not wait, and its result is in memory of the fiber.
    Copied,
    /// Inline while such calls are quick, otherwise on a pool thread.
    Paced(String),
    /// The libc function runs inline, because it does not wait; the shim does something in
    /// addition.
    Passed,
    /// The call never waits; it may end the wait of another fiber.
    Wakes,
}

/// Functions that always pass their calls to libc.
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
/// When the source does not have the expected format.
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
            // The first comment after an empty line is a heading if it is a sentence with few
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
