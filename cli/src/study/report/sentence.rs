//! Sentences with figures: text in which each number knows its place in the result file.

use super::view::{ExperimentView, Number};

/// A part of a sentence.
#[derive(Clone, Debug)]
pub enum Piece {
    Text(String),
    Number(Number),
    /// A figure that was not measured.
    Missing,
}

/// Puts the findings of `experiment` where `template` names them in braces.
pub fn sentence(template: &str, experiment: &ExperimentView) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, following)) = after.split_once('}') else {
            break;
        };
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(match experiment.finding(name) {
            Some(number) => Piece::Number(number),
            None => Piece::Missing,
        });
        rest = following;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces
}

/// What a sentence says where a figure was not measured.
pub const MISSING: &str = "(not measured)";

/// The sentence as plain text.
pub fn plain(pieces: &[Piece]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Number(number) => number.text(),
        Piece::Missing => MISSING.to_owned(),
    };
    pieces.iter().map(text).collect()
}
