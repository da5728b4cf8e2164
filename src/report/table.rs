//! Tables for people.

use std::cmp::Ordering;
use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};
use indexmap::IndexMap;

use super::{Row, counted};
use crate::fleet::Kind;
use crate::metric::Band;
use crate::sweep::{Comparison, Feature, ModelReport, NotJudged, Rows, SchemaChange, SweepReport};

pub fn comparison(report: &Comparison, rows: &[Row<'_>], top: usize) -> String {
    let rows = rows.iter().map(|(model, feature)| Shown::of(*model, feature)).collect();
    let mut text = features(rows, top, false, "--top 0 shows all");
    text.push_str(&schema(report.schema.iter().map(|change| (None, change))));
    let drifted = report.features.iter().filter(|feature| feature.verdict.drifted).count();
    let _ = writeln!(
        text,
        "{}, {drifted} drifted{}; {}; backend {}; counts {}",
        counted(report.features.len(), "feature"),
        so_many(report.not_judged.as_ref().map_or(0, |found| found.features)),
        rows_text(report.rows),
        report.engine.backend,
        short(&report.counts_hash),
    );
    if let Some(found) = &report.not_judged {
        let _ = writeln!(text, "{} not judged: {}", found.features, escaped(&found.reason));
    }
    text
}

pub fn sweep(report: &SweepReport, rows: &[Row<'_>], top: usize) -> String {
    let mut models = new_table();
    models.set_header(["model", "window", "rows", "features", "drifted", "not compared", "most drifted"]);
    for model in &report.models {
        let failed = model.features.iter().filter(|feature| feature.status.is_failure()).count();
        let last = model.error.clone().unwrap_or_else(|| most_drifted(model.features.iter()));
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
    let rows = rows.iter().map(|(model, feature)| Shown::of(*model, feature)).collect();
    text.push_str(&features(rows, top, true, "--top 0 shows all"));
    text.push_str(&last_lines(report));
    text
}

/// What is said below the tables of a sweep: changed columns, what was not judged, and totals.
pub(super) fn last_lines(report: &SweepReport) -> String {
    let changes = report.models.iter().flat_map(|model| model.schema.iter().map(move |change| (Some(model), change)));
    let mut text = schema(changes);
    text.push_str(&not_judged(report));
    let s = &report.summary;
    let _ = writeln!(
        text,
        "{}, {} ({} failed), {}, {} drifted{}, {} not comparable; {} columns read for {} uses; \
         backend {}; counts {}",
        counted(s.models, "model"),
        counted(s.comparisons, "comparison"),
        s.failed_comparisons,
        counted(s.features, "feature"),
        s.drifted,
        so_many(s.not_judged),
        s.failed,
        s.columns_read,
        s.columns_used,
        report.engine.backend,
        short(&report.counts_hash),
    );
    text
}

fn so_many(not_judged: usize) -> String {
    if not_judged == 0 { String::new() } else { format!(", {not_judged} not judged") }
}

/// Models that are named with the reason why they, or features of theirs, were not judged.
const REASONS: usize = 10;

/// Why features were not judged, a line a model: of its windows and segments the one with the most such features.
fn not_judged(report: &SweepReport) -> String {
    let mut models: IndexMap<&str, Vec<(&ModelReport, &NotJudged)>> = IndexMap::new();
    for model in &report.models {
        if let Some(found) = &model.not_judged {
            models.entry(&model.model).or_default().push((model, found));
        }
    }
    let mut text = String::new();
    for (name, found) in models.iter().take(REASONS) {
        let all: usize = found.iter().map(|(_, found)| found.features).sum();
        let Some((worst, reason)) = found.iter().rev().max_by_key(|(_, found)| found.features) else { continue };
        let place = match (found.len(), place(worst)) {
            (1, place) if place.is_empty() => String::new(),
            (1, place) => format!(" {place}"),
            (n, _) => format!(" in {n} windows or segments"),
        };
        let told = format!("not judged: {name}{place}: {}: {}", counted(all, "feature"), reason.reason);
        let _ = writeln!(text, "{}", escaped(&told));
    }
    if models.len() > REASONS {
        let _ = writeln!(text, "not judged: … and features of {} more models", models.len() - REASONS);
    }
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

/// A line of the table of features.
pub(super) struct Shown<'a> {
    pub model: &'a str,
    /// Windows and segments.
    pub place: String,
    pub feature: &'a Feature,
}

impl<'a> Shown<'a> {
    fn of(model: Option<&'a ModelReport>, feature: &'a Feature) -> Self {
        Self { model: model.map_or("", |model| &model.model), place: model.map_or(String::new(), place), feature }
    }
}

/// A table of features, those first that somebody should look at; `more` says how the others are shown.
pub(super) fn features(mut rows: Vec<Shown<'_>>, top: usize, with_model: bool, more: &str) -> String {
    let mut table = new_table();
    let mut header = vec!["feature", "kind", "status", "PSI", "JS", "KS", "KS p", "missing", "verdict"];
    let convention = rows.iter().find_map(|row| row.feature.metrics.convention.as_ref()).map(|c| c.name);
    if let Some(convention) = convention {
        header.insert(header.len() - 1, convention.name());
    }
    if with_model {
        header.splice(0..0, ["model", "window"]);
    }
    table.set_header(header);
    rows.sort_by(|a, b| worse_first(a.feature, b.feature));
    let count = if top == 0 { rows.len() } else { top.min(rows.len()) };
    for Shown { model, place, feature } in &rows[..count] {
        let mut cells = Vec::new();
        if with_model {
            cells.extend([shown(model), shown(place)]);
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
    if count < rows.len() {
        let _ = writeln!(text, "… and {} more; {more}", rows.len() - count);
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

/// The names of the features that drifted furthest.
pub(super) fn most_drifted<'a>(features: impl Iterator<Item = &'a Feature>) -> String {
    let mut drifted: Vec<&Feature> = features.filter(|feature| feature.verdict.drifted).collect();
    drifted.sort_by(|a, b| worse_first(a, b));
    let mut names: Vec<&str> = Vec::new();
    for feature in drifted {
        if !names.contains(&&*feature.name) && names.len() < 3 {
            names.push(&feature.name);
        }
    }
    names.join(", ")
}

/// Window and segment.
pub(super) fn place(model: &ModelReport) -> String {
    [model.window.as_str(), model.segment.as_str()].join(" ").trim().to_owned()
}

/// Failures first, then drifted features, by how far their main metric moved.
pub(super) fn worse_first(a: &Feature, b: &Feature) -> Ordering {
    let size = |feature: &Feature| match feature.kind {
        Kind::Numeric => feature.metrics.psi.as_ref().map_or(0.0, |psi| psi.value),
        Kind::Categorical => feature.metrics.js.as_ref().map_or(0.0, |js| js.distance),
    };
    let class = |f: &Feature| (f.status.is_failure(), f.verdict.drifted);
    class(b).cmp(&class(a)).then(size(b).total_cmp(&size(a)))
}

pub(super) fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Text from outside, with control characters made visible: a name must not steer the terminal.
pub(super) fn shown(text: &str) -> Cell {
    if text.chars().any(char::is_control) { Cell::new(text.escape_debug()) } else { Cell::new(text) }
}

pub(super) fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

pub(super) fn rows_text(rows: Rows) -> String {
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

/// Text from outside, on one line.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] }).collect()
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
