//! One part of the report: a table with its notes and goals for a reader, and the same with all
//! samples as JSON.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::{Value, json};

use super::goals::Goal;
use crate::bench::environment::Environment;

/// The results of one part.
pub struct Part {
    /// The name of its JSON file.
    pub key: &'static str,
    pub title: String,
    pub table: Table,
    /// What a reader must know to interpret the table.
    pub notes: Vec<String>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
    pub goals: Vec<Goal>,
    /// The raw samples.
    pub samples: Value,
}

impl Part {
    /// Writes the part to `<dir>/<key>.json`. `others` is the number of processors that other
    /// programs kept busy during the part.
    pub fn write(
        &self,
        dir: &Path,
        environment: &Environment,
        quick: bool,
        others: Option<f64>,
    ) -> Result<PathBuf> {
        let path = dir.join(self.key).with_extension("json");
        let value = json!({
            "part": self.key,
            "title": self.title,
            "quick": quick,
            "processors_busy_with_others": others,
            "environment": environment,
            "samples": self.samples,
            "notes": self.notes,
            "failures": self.failures,
            "bars": self.goals,
        });
        let text = serde_json::to_string_pretty(&value)?;
        fs::write(&path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.title, self.table)?;
        for failure in &self.failures {
            writeln!(f, "not measured: {failure}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for goal in &self.goals {
            writeln!(f, "{goal}")?;
        }
        Ok(())
    }
}

const BORDERS: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('═').junction('═'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// Creates a table with `header`. The first `left` columns hold words, the others figures. `ruled`
/// puts a line between rows.
pub fn table(header: &[&str], left: usize, ruled: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if ruled { UTF8_HORIZONTAL_ONLY } else { BORDERS });
    table.set_header(header);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
