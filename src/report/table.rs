//! Tables for people.

use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};

use super::Row;
use crate::fleet::Kind;
use crate::metric::Band;
use crate::sweep::{Comparison, Feature, ModelReport, Rows, SchemaChange, SweepReport};

pub fn comparison(report: &Comparison, rows: &[Row<'_>], top: usize) -> String {
    let mut text = features(rows, top, false);
    text.push_str(&schema(report.schema.iter().map(|change| (None, change))));
    let drifted = report.features.iter().filter(|feature| feature.verdict.drifted).count();
    let _ = writeln!(
        text,
        "{} features, {drifted} drifted; {}; backend {}; counts {}",
        report.features.len(),
        rows_text(report.rows),
        report.engine.backend,
        short(&report.counts_hash),
    );
    text
}

pub fn sweep(report: &SweepReport, rows: &[Row<'_>], top: usize) -> String {
    let mut models = new_table();
    models.set_header(["model", "window", "rows", "features", "drifted", "not compared", "most drifted"]);
    for model in &report.models {
        let failed = model.features.iter().filter(|feature| feature.status.is_failure()).count();
        let worst: Vec<&str> = ranked(&model.features.iter().map(|f| (None, f)).collect::<Vec<_>>())
            .into_iter()
            .filter(|(_, feature)| feature.verdict.drifted)
            .take(3)
            .map(|(_, feature)| feature.name.as_str())
            .collect();
        let last = model.error.clone().unwrap_or_else(|| worst.join(", "));
        models.add_row([
            shown(&model.model),
            shown(&place(model)),
            right(rows_text(model.rows)),
            right(model.features.len()),
            right(model.drifted).fg(if model.drifted > 0 { Color::Yellow } else { Color::Reset }),
            right(failed).fg(if failed > 0 { Color::Red } else { Color::Reset }),
            shown(&last).fg(if model.error.is_some() { Color::Red } else { Color::Reset }),
        ]);
    }
    let mut text = format!("{models}\n");
    text.push_str(&features(rows, top, true));
    let changes = report.models.iter().flat_map(|model| model.schema.iter().map(move |change| (Some(model), change)));
    text.push_str(&schema(changes));
    let s = &report.summary;
    let _ = writeln!(
        text,
        "{} models, {} comparisons ({} failed), {} features, {} drifted, {} not comparable; {} columns read for {} uses; backend {}; counts {}",
        s.models,
        s.comparisons,
        s.failed_comparisons,
        s.features,
        s.drifted,
        s.failed,
        s.columns_read,
        s.columns_used,
        report.engine.backend,
        short(&report.counts_hash),
    );
    text
}

/// Schema changes that are listed at most.
const CHANGES: usize = 20;

fn schema<'a>(changes: impl Iterator<Item = (Option<&'a ModelReport>, &'a SchemaChange)>) -> String {
    let changes: Vec<_> = changes.collect();
    let mut text = String::new();
    for (model, change) in changes.iter().take(CHANGES) {
        let of = model.map_or(String::new(), |model| {
            format!("{}: ", [model.model.as_str(), &place(model)].join(" ").trim().escape_debug())
        });
        let _ =
            writeln!(text, "schema: {of}column '{}' {}", change.column.escape_debug(), change.words().escape_debug());
    }
    if changes.len() > CHANGES {
        let _ = writeln!(text, "schema: … and {} more changes", changes.len() - CHANGES);
    }
    text
}

fn features(rows: &[Row<'_>], top: usize, with_model: bool) -> String {
    let mut table = new_table();
    let mut header = vec!["feature", "kind", "status", "PSI", "JS", "KS", "KS p", "missing", "verdict"];
    let convention = rows.iter().find_map(|(_, feature)| feature.metrics.convention.as_ref()).map(|c| c.name);
    if let Some(convention) = convention {
        header.insert(header.len() - 1, convention.name());
    }
    if with_model {
        header.splice(0..0, ["model", "window"]);
    }
    table.set_header(header);
    let ranked = ranked(rows);
    let count = if top == 0 { ranked.len() } else { top.min(ranked.len()) };
    for (model, feature) in &ranked[..count] {
        let mut cells = Vec::new();
        if let Some(model) = model {
            cells.extend([shown(&model.model), shown(&place(model))]);
        }
        cells.extend(feature_cells(feature));
        if convention.is_some() {
            let decisive = feature.metrics.convention.as_ref().and_then(|c| {
                let value = c.figures.get(&c.decides)?;
                Some(format!("{} {value:.4}", c.decides.name()))
            });
            cells.insert(cells.len() - 1, right(decisive.unwrap_or_else(|| "–".into())));
        }
        table.add_row(cells);
    }
    let mut text = format!("{table}\n");
    if count < ranked.len() {
        let _ = writeln!(text, "… and {} more; --top 0 shows all", ranked.len() - count);
    }
    text
}

fn feature_cells(feature: &Feature) -> Vec<Cell> {
    let m = &feature.metrics;
    let number = |x: Option<f64>| right(x.map_or("–".into(), |x| format!("{x:.4}")));
    let psi = match &m.psi {
        Some(psi) => number(Some(psi.value)).fg(match psi.band {
            Band::Stable => Color::Reset,
            Band::Moderate => Color::Yellow,
            Band::Major => Color::Red,
        }),
        None => number(None),
    };
    let missing = m.missing.as_ref().filter(|missing| missing.baseline + missing.current > 0.0);
    let verdict = if feature.verdict.drifted {
        feature.verdict.reasons.join("; ")
    } else {
        feature.detail.clone().unwrap_or_default()
    };
    vec![
        shown(&feature.name),
        Cell::new(feature.kind.name()),
        Cell::new(feature.status.name()).fg(if feature.status.is_failure() { Color::Red } else { Color::Reset }),
        psi,
        number(m.js.as_ref().map(|js| js.distance)),
        number(m.ks.as_ref().map(|ks| ks.statistic)),
        right(m.ks.as_ref().map_or("–".into(), |ks| format!("{:.2e}", ks.p_value))),
        right(missing.map_or("–".into(), |m| format!("{:.1} → {:.1} %", 100.0 * m.baseline, 100.0 * m.current))),
        shown(&verdict).fg(if feature.verdict.drifted { Color::Yellow } else { Color::Reset }),
    ]
}

/// Window and segment.
fn place(model: &ModelReport) -> String {
    [model.window.as_str(), model.segment.as_str()].join(" ").trim().to_owned()
}

/// Failures first, then drifted features, by how far their main metric moved.
fn ranked<'a>(rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let size = |feature: &Feature| match feature.kind {
        Kind::Numeric => feature.metrics.psi.as_ref().map_or(0.0, |psi| psi.value),
        Kind::Categorical => feature.metrics.js.as_ref().map_or(0.0, |js| js.distance),
    };
    let mut ranked = rows.to_vec();
    ranked.sort_by(|(_, a), (_, b)| {
        let class = |f: &Feature| (f.status.is_failure(), f.verdict.drifted);
        class(b).cmp(&class(a)).then(size(b).total_cmp(&size(a)))
    });
    ranked
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Text from outside, with control characters made visible: a name must not steer the terminal.
fn shown(text: &str) -> Cell {
    if text.chars().any(char::is_control) { Cell::new(text.escape_debug()) } else { Cell::new(text) }
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn rows_text(rows: Rows) -> String {
    format!("{} → {} rows", grouped(rows.baseline), grouped(rows.current))
}

/// An integer with thousands separators.
fn grouped(x: u64) -> String {
    let digits = x.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!((grouped(0), grouped(999), grouped(1234567)), ("0".into(), "999".into(), "1,234,567".into()));
    }
}
