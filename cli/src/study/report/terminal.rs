//! The verdict in plain words for a terminal.

use std::fmt::Write;

use super::sentence::plain;
use super::verdict::{NO_VERDICT, verdict as sentences_of};
use super::view::experiments;
use crate::study::file::Study;

/// The widest line.
pub const COLUMNS: usize = 88;

/// The verdict, the skipped experiments with their reasons, and the failures.
pub fn verdict(study: &Study) -> String {
    let experiments = experiments(study, "");
    let mut text = String::new();
    let sentences: Vec<String> = sentences_of(&experiments)
        .iter()
        .map(|s| plain(s))
        .collect();
    if sentences.is_empty() {
        text += &wrapped(NO_VERDICT, "", COLUMNS);
    }
    for (i, sentence) in sentences.iter().enumerate() {
        text += &wrapped(&format!("{}. {sentence}", i + 1), "   ", COLUMNS);
    }
    for experiment in &experiments {
        let record = experiment.record;
        if let Some(reason) = &record.skipped {
            let _ = writeln!(text, "not measured: {}: {reason}", record.id);
        }
        for failure in &record.failures {
            let _ = writeln!(text, "failed: {}: {failure}", record.id);
        }
    }
    text
}

/// Breaks a text into lines; every line except the first starts with `indent`.
pub fn wrapped(text: &str, indent: &str, columns: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines += &line;
            lines.push('\n');
            line = format!("{indent}{word}");
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_sentences_are_broken() {
        let text = super::wrapped(&"word ".repeat(40), "   ", super::COLUMNS);
        assert!(text.lines().count() > 2);
        assert!(text.lines().all(|line| line.len() <= super::COLUMNS));
        assert!(text.lines().skip(1).all(|line| line.starts_with("   word")));
    }
}
