//! `aioshim go version`: whether a program was built with the overlay, and for which Go.

use std::path::Path;

use anyhow::{Context, Result};

use super::sources::MARKER;

/// What a file is.
#[derive(Debug, PartialEq)]
pub enum Program {
    /// Built with the overlay of this version of aioshim, for this version of Go.
    Converted { aioshim: String, go: String },
    /// A Go program without the overlay.
    Plain,
    /// Not a Go program.
    Other,
}

/// What a Go program's build information begins with.
const BUILD_INFO: &[u8] = b"\xff Go buildinf:";

/// Reads a file.
pub fn inspect(file: &Path) -> Result<Program> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(recognise(&bytes))
}

fn recognise(bytes: &[u8]) -> Program {
    let marker = format!("{MARKER}(");
    for at in find_all(bytes, marker.as_bytes()) {
        let rest = &bytes[at + marker.len()..];
        let versions = rest.iter().take(100).position(|byte| *byte == b')');
        let text = versions
            .map(|end| &rest[..end])
            .filter(|bytes| {
                bytes
                    .iter()
                    .all(|byte| byte.is_ascii_graphic() && *byte != b'(')
            })
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some((aioshim, go)) = text.and_then(|text| text.split_once(',')) {
            return Program::Converted {
                aioshim: aioshim.to_owned(),
                go: go.to_owned(),
            };
        }
    }
    if find_all(bytes, BUILD_INFO).next().is_some() {
        Program::Plain
    } else {
        Program::Other
    }
}

fn find_all<'a>(bytes: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes
        .windows(wanted.len())
        .enumerate()
        .filter(move |(_, window)| *window == wanted)
        .map(|(at, _)| at)
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Program::Converted { aioshim, go } => {
                write!(f, "file I/O converted by aioshim {aioshim}, for {go}")
            }
            Program::Plain => write!(f, "plain Go: file I/O is not converted"),
            Program::Other => write!(f, "not a Go program"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_recognised() {
        let marked = format!("xx{MARKER}(yy{MARKER}(0.1.0,go1.27.3)zz");
        let expected = Program::Converted {
            aioshim: "0.1.0".to_owned(),
            go: "go1.27.3".to_owned(),
        };
        // The first brackets belong to no marker: one is not closed soon, one holds a bracket.
        let far = format!("{MARKER}({}{marked}", "-".repeat(200));
        assert_eq!(recognise(far.as_bytes()), expected);
        assert_eq!(recognise(b"x\xff Go buildinf:x"), Program::Plain);
        assert_eq!(recognise(b"x"), Program::Other);
    }
}
