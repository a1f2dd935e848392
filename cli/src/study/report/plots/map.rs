//! A map: a table of ratios, coloured by which side is better.

use std::fmt::Write;

use crate::study::answer::Direction;
use crate::study::plot::MapCell;
use crate::study::report::markup::{escape, number as marked};
use crate::study::report::view::ExperimentView;

/// Draws the map. Empty if no field was measured.
pub fn draw(rows: &str, columns: &str, cells: &[MapCell], experiment: &ExperimentView) -> String {
    let measured = |cell: &&MapCell| experiment.finding(&cell.finding).is_some();
    if !cells.iter().any(|cell| measured(&cell)) {
        return String::new();
    }
    let row_names = unique(cells.iter().map(|cell| cell.row.as_str()));
    let column_names = unique(cells.iter().map(|cell| cell.column.as_str()));
    let mut html = format!(
        "<div class=\"scroll\"><table class=\"map\"><thead><tr><th rowspan=\"2\">{}</th><th \
        colspan=\"{}\">{}</th></tr><tr>",
        escape(rows),
        column_names.len(),
        escape(columns)
    );
    for column in &column_names {
        let _ = write!(html, "<th>{}</th>", escape(column));
    }
    html += "</tr></thead><tbody>";
    for row in row_names {
        let _ = write!(html, "<tr><th>{}</th>", escape(row));
        for column in &column_names {
            let cell = cells.iter().find(|c| c.row == row && c.column == *column);
            html += &field(cell, experiment);
        }
        html += "</tr>";
    }
    html += "</tbody></table></div>";
    let judged = |cell: &MapCell| {
        let number = experiment.finding(&cell.finding);
        number.is_some_and(|number| number.direction.is_some())
    };
    if cells.iter().any(judged) {
        html += LEGEND;
    }
    html
}

const LEGEND: &str = "<ul class=\"legend\"><li><span class=\"win key\">&#9650;</span> asynchronous \
    I/O wins</li><li><span class=\"same key\">=</span> no difference</li><li><span class=\"lose \
    key\">&#9660;</span> it loses</li></ul>";

fn field(cell: Option<&MapCell>, experiment: &ExperimentView) -> String {
    let number = cell.and_then(|cell| experiment.finding(&cell.finding));
    let Some(number) = number else {
        return "<td class=\"none\" title=\"not measured\">&ndash;</td>".to_owned();
    };
    let (class, sign) = match number.direction {
        Some(Direction::AsyncWins) => ("win", "&#9650;"),
        Some(Direction::AsyncLoses) => ("lose", "&#9660;"),
        Some(Direction::NoDifference) => ("same", "="),
        None => ("same", ""),
    };
    format!("<td class=\"{class}\">{} {sign}</td>", marked(&number))
}

/// The different names, in the order of their first appearance.
pub fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
