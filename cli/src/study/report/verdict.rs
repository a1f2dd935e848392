//! The verdict: the sentences that experiments contribute, in an order that a reader can follow.

use super::sentence::{Piece, sentence};
use super::view::ExperimentView;

/// The experiments that contribute, in the order of the verdict: the hypothesis, the map of its
/// limits, threads, and whole programs.
const ORDER: [&str; 4] = ["utilisation", "map", "many-threads", "whole-programs"];

/// The sentences of the verdict.
pub fn verdict(experiments: &[ExperimentView]) -> Vec<Vec<Piece>> {
    let contributors = ORDER
        .iter()
        .filter_map(|id| experiments.iter().find(|e| e.record.id == *id));
    contributors
        .flat_map(|experiment| {
            let templates = &experiment.record.answer.verdict;
            templates.iter().map(|text| sentence(text, experiment))
        })
        .collect()
}

/// The place of an experiment in the verdict, or `None` if it does not contribute.
pub fn place(id: &str) -> Option<usize> {
    ORDER.iter().position(|contributor| *contributor == id)
}

/// What a report says if nothing that the verdict needs was measured.
pub const NO_VERDICT: &str =
    "This study has no verdict: the experiments that it rests on were not measured.";
