//! Edits of the standard library's files: lines to find, and what replaces them.
//!
//! A file of edits begins with `file: PATH`. Each edit has the lines to find between `<<<` and
//! `===`, and the new ones up to `>>>`. A line `or` begins an alternative of the edit before, for
//! another version of Go. Of each edit exactly one alternative must be found, exactly once;
//! otherwise nothing is changed.

use anyhow::{Context, Result, bail, ensure};

/// The edits of one file.
pub struct Edits {
    /// The path of the file below GOROOT/src.
    pub path: String,
    edits: Vec<Vec<Replacement>>,
}

/// One alternative of an edit.
struct Replacement {
    old: String,
    new: String,
}

impl Edits {
    /// Reads a file of edits.
    pub fn parse(text: &str) -> Result<Edits> {
        let mut lines = text.lines();
        let path = lines
            .next()
            .and_then(|line| line.strip_prefix("file: "))
            .context("the first line is not `file: PATH`")?
            .to_owned();
        let mut edits: Vec<Vec<Replacement>> = Vec::new();
        let mut alternative = false;
        while let Some(line) = lines.next() {
            match line {
                "" => {}
                "or" => alternative = true,
                "<<<" => {
                    let old = take_until(&mut lines, "===")?;
                    let new = take_until(&mut lines, ">>>")?;
                    ensure!(!old.is_empty(), "{path}: an edit finds nothing");
                    let replacement = Replacement { old, new };
                    match edits.last_mut() {
                        Some(edit) if alternative => edit.push(replacement),
                        _ => edits.push(vec![replacement]),
                    }
                    alternative = false;
                }
                _ => bail!("{path}: unexpected line: {line}"),
            }
        }
        Ok(Edits { path, edits })
    }

    /// Applies the edits to the text of the file.
    pub fn apply(&self, text: &str) -> Result<String> {
        let mut found = Vec::new();
        for edit in &self.edits {
            found.push(find_once(text, edit).with_context(|| self.path.clone())?);
        }
        found.sort_by_key(|(at, _)| *at);
        let mut result = String::with_capacity(text.len() + 4096);
        let mut end = 0;
        for (at, replacement) in found {
            ensure!(
                at >= end,
                "{}: two edits overlap at {:?}",
                self.path,
                first_line(&replacement.old)
            );
            result.push_str(&text[end..at]);
            result.push_str(&replacement.new);
            end = at + replacement.old.len();
        }
        result.push_str(&text[end..]);
        Ok(result)
    }
}

/// The lines up to the line `end`.
fn take_until<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Result<String> {
    let mut text = String::new();
    for line in lines {
        if line == end {
            return Ok(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    bail!("the line {end} is missing")
}

/// The place of the one alternative that occurs in `text`.
fn find_once<'a>(text: &str, edit: &'a [Replacement]) -> Result<(usize, &'a Replacement)> {
    let mut found = Vec::new();
    for replacement in edit {
        let whole_lines = text
            .match_indices(&replacement.old)
            .filter(|(at, _)| *at == 0 || text.as_bytes()[at - 1] == b'\n');
        found.extend(whole_lines.map(|(at, _)| (at, replacement)));
    }
    match found[..] {
        [one] => Ok(one),
        _ => bail!(
            "expected exactly once, but found {} times: {:?}",
            found.len(),
            first_line(&edit[0].old)
        ),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDITS: &str = "file: a.go\n\n<<<\none\n===\nONE\nmore\n>>>\n\n<<<\nnew\n===\nNEW\n>>>\n\
                         or\n<<<\nold\n===\nOLD\n>>>\n";

    fn apply(text: &str) -> Result<String> {
        Edits::parse(EDITS).expect("valid edits").apply(text)
    }

    #[test]
    fn edits_apply_in_any_order() {
        assert_eq!(apply("new\nx\none\n").unwrap(), "NEW\nx\nONE\nmore\n");
    }

    #[test]
    fn an_alternative_is_for_another_version() {
        assert_eq!(apply("one\nold\n").unwrap(), "ONE\nmore\nOLD\n");
    }

    #[test]
    fn a_missing_line_is_named() {
        let error = format!("{:#}", apply("one\n").unwrap_err());
        assert_eq!(
            error,
            "a.go: expected exactly once, but found 0 times: \"new\""
        );
    }

    #[test]
    fn a_line_that_occurs_twice_is_named() {
        let error = format!("{:#}", apply("one\nnew\none\n").unwrap_err());
        assert_eq!(
            error,
            "a.go: expected exactly once, but found 2 times: \"one\""
        );
    }

    #[test]
    fn two_alternatives_must_not_both_occur() {
        assert!(apply("one\nnew\nold\n").is_err());
    }

    #[test]
    fn a_part_of_a_line_is_not_found() {
        assert!(apply("someone\nnew\n").is_err());
    }

    #[test]
    fn edits_must_be_complete() {
        assert!(Edits::parse("file: a\n<<<\nx\n===\ny\n").is_err());
        assert!(Edits::parse("<<<\nx\n===\ny\n>>>\n").is_err());
        assert!(Edits::parse("file: a\n<<<\n===\ny\n>>>\n").is_err());
        assert!(Edits::parse("file: a\nx\n").is_err());
    }
}
