//! Tables for people.

use std::cmp::Ordering;

use indexmap::IndexMap;

use super::summary::{ratio, what_happened, what_to_do};
use super::{Report, Row, counted, sparkline};
use crate::output::{CellColor, Page, Table, TableCell};
use driftsweep::metric::Band;
use driftsweep::sweep::{Comparison, Feature, ModelReport, NotJudged, Rows, SchemaChange, SweepReport};

pub fn comparison(report: &Comparison, rows: &[Row<'_>], top: usize) -> Page {
    let rows = rows.iter().map(|(model, feature)| ShownFeature::of(*model, feature)).collect();
    let mut page = features(rows, top, false, "--top 0 shows all");
    schema(&mut page, report.schema.iter().map(|change| (None, change)));
    let drifted = report.features.iter().filter(|feature| feature.verdict.drifted).count();
    let significant = report.features.iter().filter(|feature| feature.verdict.significant).count();
    page.line(format_args!(
        "{}, {drifted} drifted, {significant} significant{}; {}; backend {}; counts {}",
        counted(report.features.len(), "feature"),
        not_judged_text(report.not_judged.as_ref().map_or(0, |found| found.features)),
        rows_text(report.rows),
        report.engine.backend,
        short(&report.counts_hash)
    ));
    if let Some(found) = &report.not_judged {
        page.line(format_args!("{} not judged: {}", found.features, found.reason));
    }
    sentences(&mut page, Report::Comparison(report));
    page
}

pub fn sweep(report: &SweepReport, rows: &[Row<'_>], top: usize) -> Page {
    let mut models =
        Table::new(["model", "window", "rows", "features", "drifted", "not compared", "most drifted, or error"]);
    models.less_important(&["rows", "features", "not compared"]);
    for model in &report.models {
        let failed = model.features.iter().filter(|feature| feature.status.is_failure()).count();
        let last = model.error.clone().unwrap_or_else(|| most_drifted(model.features.iter()));
        models.row([
            TableCell::from(&model.model),
            TableCell::from(place(model)),
            right(rows_text(model.rows)),
            right(model.features.len()),
            right(model.drifted).tinted((model.drifted > 0).then_some(CellColor::Yellow)),
            right(failed).tinted((failed > 0).then_some(CellColor::Red)),
            TableCell::from(last).tinted(model.error.as_ref().map(|_| CellColor::Red)),
        ]);
    }
    let mut page = Page::new();
    page.table(models.without_empty("window"));
    let rows = rows.iter().map(|(model, feature)| ShownFeature::of(*model, feature)).collect();
    page.append(features(rows, top, true, "--top 0 shows all"));
    last_lines(&mut page, report);
    page
}

/// The lines below the tables of a sweep: changed columns, features that were not judged, and totals.
pub(super) fn last_lines(page: &mut Page, report: &SweepReport) {
    let changes = report.models.iter().flat_map(|model| model.schema.iter().map(move |change| (Some(model), change)));
    schema(page, changes);
    not_judged(page, report);
    let s = &report.summary;
    page.line(format_args!(
        "{}, {} ({} failed), {}, {} drifted, {} significant{}, {} not comparable; {} columns read for {} uses; \
         backend {}; counts {}",
        counted(s.models, "model"),
        counted(s.comparisons, "comparison"),
        s.failed_comparisons,
        counted(s.features, "feature"),
        s.drifted,
        s.significant,
        not_judged_text(s.not_judged),
        s.failed,
        s.columns_read,
        s.columns_used,
        report.engine.backend,
        short(&report.counts_hash)
    ));
    sentences(page, Report::Sweep(report));
}

/// What happened, and what to do.
fn sentences(page: &mut Page, report: Report<'_>) {
    page.section(format_args!("{} {}", what_happened(report), what_to_do(report)));
}

fn not_judged_text(not_judged: usize) -> String {
    if not_judged == 0 { String::new() } else { format!(", {not_judged} not judged") }
}

/// Most models that are listed with the reason why they, or their features, were not judged.
const MAX_REASONS: usize = 10;

/// Why features were not judged, one line per model: of its windows and segments the one with the most such features.
fn not_judged(page: &mut Page, report: &SweepReport) {
    let mut models: IndexMap<&str, Vec<(&ModelReport, &NotJudged)>> = IndexMap::new();
    for model in &report.models {
        if let Some(found) = &model.not_judged {
            models.entry(&model.model).or_default().push((model, found));
        }
    }
    for (name, found) in models.iter().take(MAX_REASONS) {
        let all: usize = found.iter().map(|(_, found)| found.features).sum();
        let Some((worst, reason)) = found.iter().rev().max_by_key(|(_, found)| found.features) else { continue };
        let place = match (found.len(), place(worst)) {
            (1, place) if place.is_empty() => String::new(),
            (1, place) => format!(" {place}"),
            (n, _) => format!(" in {n} windows or segments"),
        };
        page.line(format_args!("not judged: {name}{place}: {}: {}", counted(all, "feature"), reason.reason));
    }
    if models.len() > MAX_REASONS {
        page.line(format_args!("not judged: … and features of {} more models", models.len() - MAX_REASONS));
    }
}

/// Most schema changes that are listed.
const MAX_CHANGES: usize = 20;

fn schema<'a>(page: &mut Page, changes: impl Iterator<Item = (Option<&'a ModelReport>, &'a SchemaChange)>) {
    let changes: Vec<_> = changes.collect();
    for (model, change) in changes.iter().take(MAX_CHANGES) {
        let of = model
            .map_or(String::new(), |model| format!("{}: ", [model.model.as_str(), &place(model)].join(" ").trim()));
        page.line(format_args!("schema: {of}column '{}' {}", change.column, change.words()));
    }
    if changes.len() > MAX_CHANGES {
        page.line(format_args!("schema: … and {} more changes", changes.len() - MAX_CHANGES));
    }
}

/// A line of the table of features.
pub(super) struct ShownFeature<'a> {
    pub model: &'a str,
    /// Windows and segments.
    pub place: String,
    pub feature: &'a Feature,
}

impl<'a> ShownFeature<'a> {
    fn of(model: Option<&'a ModelReport>, feature: &'a Feature) -> Self {
        Self { model: model.map_or("", |model| &model.model), place: model.map_or(String::new(), place), feature }
    }
}

/// A table of features, findings first; `more` says how to show the others.
pub(super) fn features(mut rows: Vec<ShownFeature<'_>>, top: usize, with_model: bool, more: &str) -> Page {
    let mut header =
        vec!["feature", "kind", "status", "PSI", "JS", "KS", "KS p", "missing", "baseline → current", "verdict"];
    let convention = rows.iter().find_map(|row| row.feature.metrics.convention.as_ref()).map(|c| c.name);
    if let Some(convention) = convention {
        header.insert(header.len() - 1, convention.name());
    }
    if with_model {
        header.splice(0..0, ["model", "window"]);
    }
    let mut table = Table::new(header);
    table.less_important(&["KS p", "kind", "baseline → current", "JS", "missing", "status", "window"]);
    rows.sort_by(|a, b| worse_first(a.feature, b.feature));
    let count = if top == 0 { rows.len() } else { top.min(rows.len()) };
    for ShownFeature { model, place, feature } in &rows[..count] {
        let mut cells = Vec::new();
        if with_model {
            cells.extend([TableCell::from(*model), TableCell::from(place)]);
        }
        cells.extend(feature_cells(feature));
        if convention.is_some() {
            let decisive = feature.metrics.convention.as_ref().and_then(|c| {
                let value = c.figures.get(&c.decides)?;
                Some(format!("{} {value:.4}", c.decides.name()))
            });
            cells.insert(cells.len() - 1, right(decisive.unwrap_or_else(|| "–".into())));
        }
        table.row(cells);
    }
    let mut page = Page::new();
    page.table(table.without_empty("window"));
    if count < rows.len() {
        page.line(format_args!("… and {} more; {more}", rows.len() - count));
    }
    page
}

fn feature_cells(feature: &Feature) -> Vec<TableCell> {
    let m = &feature.metrics;
    let number = |x: Option<f64>| right(x.map_or("–".into(), |x| format!("{x:.4}")));
    let psi = match &m.psi {
        Some(psi) => number(Some(psi.value)).tinted(match psi.band {
            Band::Stable => None,
            Band::Moderate => Some(CellColor::Yellow),
            Band::Major => Some(CellColor::Red),
        }),
        None => number(None),
    };
    let missing = m.missing.as_ref().filter(|missing| missing.baseline + missing.current > 0.0);
    let verdict = if feature.verdict.drifted {
        feature.verdict.reasons.join("; ")
    } else {
        feature.detail.clone().or_else(|| of_chance(feature)).unwrap_or_default()
    };
    vec![
        TableCell::from(&feature.name),
        TableCell::from(feature.kind.name()),
        TableCell::from(feature.status.name()).tinted(feature.status.is_failure().then_some(CellColor::Red)),
        psi,
        number(m.js.as_ref().map(|js| js.distance)),
        number(m.ks.as_ref().map(|ks| ks.statistic)),
        right(m.ks.as_ref().map_or("–".into(), |ks| format!("{:.2e}", ks.p_value))),
        right(missing.map_or("–".into(), |m| format!("{:.1} → {:.1} %", 100.0 * m.baseline, 100.0 * m.current))),
        TableCell::from(sparkline::pair(feature)).right(),
        TableCell::from(verdict).tinted(feature.verdict.drifted.then_some(CellColor::Yellow)),
    ]
}

/// The figure that is above its threshold and is no drift, with the reason.
fn of_chance(feature: &Feature) -> Option<String> {
    let mut large =
        feature.verdict.signals.iter().filter(|signal| signal.limit > 0.0 && signal.value.abs() > signal.limit);
    let signal = large.next()?;
    let why = match signal.noise.filter(|noise| signal.value <= *noise) {
        Some(noise) => format!("chance gives up to {noise:.4}"),
        None => "not significant".into(),
    };
    Some(format!("{} {:.4} > {}: {why}", signal.metric, signal.value, signal.limit))
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

/// Failures first, then drifted features, by how many times its threshold a figure is.
pub(super) fn worse_first(a: &Feature, b: &Feature) -> Ordering {
    let size = |feature: &Feature| ratio(feature).unwrap_or(0.0);
    let class = |f: &Feature| (f.status.is_failure(), f.verdict.drifted);
    class(b).cmp(&class(a)).then(size(b).total_cmp(&size(a)))
}

pub(super) fn right(text: impl Into<TableCell>) -> TableCell {
    text.into().right()
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
