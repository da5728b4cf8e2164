//! One row per feature.

use super::{Row, unencodable};
use crate::error::Result;
use crate::output::{Csv, Document, Value};
use crate::snapshot::table::{Cells, to_parquet};
use crate::sweep::{Feature, Rows};

/// A column of the flat report.
struct FlatColumn {
    name: &'static str,
    value: fn(&Row<'_>) -> Value,
}

macro_rules! column {
    ($name:literal, $variant:ident, |$row:ident| $value:expr) => {
        FlatColumn { name: $name, value: |$row| Value::$variant($value) }
    };
}

/// The columns, in order. New ones go to the end.
const COLUMNS: &[FlatColumn] = &[
    column!("model", Text, |r| r.0.map_or(String::new(), |m| m.model.clone())),
    column!("window", Text, |r| r.0.map_or(String::new(), |m| m.window.clone())),
    column!("feature", Text, |r| r.1.name.clone()),
    column!("kind", Text, |r| r.1.kind.name().to_owned()),
    column!("status", Text, |r| r.1.status.name().to_owned()),
    column!("drifted", Bool, |r| r.1.verdict.drifted),
    column!("reasons", Text, |r| r.1.verdict.reasons.join("; ")),
    column!("detail", Text, |r| r.1.detail.clone().unwrap_or_default()),
    column!("baseline_rows", Int, |r| r.1.baseline.rows),
    column!("current_rows", Int, |r| r.1.current.rows),
    column!("baseline_missing", Int, |r| r.1.baseline.null + r.1.baseline.nan),
    column!("current_missing", Int, |r| r.1.current.null + r.1.current.nan),
    column!("psi", Float, |r| r.1.metrics.psi.as_ref().map(|m| m.value)),
    column!("psi_reference", Float, |r| r.1.metrics.psi.as_ref().map(|m| m.reference_value)),
    column!("psi_p", Float, |r| r.1.metrics.psi.as_ref().and_then(|m| m.noise).map(|n| n.p_value)),
    column!("psi_noise_99", Float, |r| r.1.metrics.psi.as_ref().and_then(|m| m.noise).map(|n| n.level_99)),
    column!("js_distance", Float, |r| r.1.metrics.js.as_ref().map(|m| m.distance)),
    column!("js_divergence", Float, |r| r.1.metrics.js.as_ref().map(|m| m.divergence)),
    column!("js_p", Float, |r| r.1.metrics.js.as_ref().and_then(|m| m.noise).map(|n| n.p_value)),
    column!("ks", Float, |r| r.1.metrics.ks.as_ref().map(|m| m.statistic)),
    column!("ks_p", Float, |r| r.1.metrics.ks.as_ref().map(|m| m.p_value)),
    column!("ks_q", Float, |r| r.1.metrics.ks.as_ref().and_then(|m| m.q_value)),
    column!("wasserstein", Float, |r| r.1.metrics.wasserstein.as_ref().map(|m| m.value)),
    column!("chi_square", Float, |r| r.1.metrics.chi_square.as_ref().map(|m| m.test.statistic)),
    column!("chi_square_p", Float, |r| r.1.metrics.chi_square.as_ref().map(|m| m.test.p_value)),
    column!("chi_square_q", Float, |r| r.1.metrics.chi_square.as_ref().and_then(|m| m.q_value)),
    column!("hellinger", Float, |r| r.1.metrics.hellinger.map(|m| m.value)),
    column!("total_variation", Float, |r| r.1.metrics.total_variation.map(|m| m.value)),
    column!("l_infinity", Float, |r| r.1.metrics.l_infinity.map(|m| m.value)),
    column!("kl", Float, |r| r.1.metrics.kl.map(|m| m.value)),
    column!("missing_difference", Float, |r| r.1.metrics.missing.as_ref().map(|m| m.difference)),
    column!("missing_p", Float, |r| r.1.metrics.missing.as_ref().map(|m| m.p_value)),
    column!("mean_shift", Float, |r| r.1.metrics.moments.map(|m| m.mean_shift)),
    column!("counts_hash", Text, |r| r.1.counts_hash.clone()),
    column!("convention", Text, |r| r.1.metrics.convention.as_ref().map_or(String::new(), |c| c.name.name().into())),
    column!("convention_metric", Text, |r| {
        r.1.metrics.convention.as_ref().map_or(String::new(), |c| c.decides.name().into())
    }),
    column!("convention_value", Float, |r| {
        r.1.metrics.convention.as_ref().and_then(|c| c.figures.get(&c.decides).copied())
    }),
    column!("convention_limit", Float, |r| r.1.metrics.convention.as_ref().and_then(|c| c.limit)),
    column!("segment", Text, |r| r.0.map_or(String::new(), |m| m.segment.clone())),
    column!("baseline_type", Text, |r| r.1.baseline.dtype.clone()),
    column!("current_type", Text, |r| r.1.current.dtype.clone()),
    column!("judged", Bool, |r| r.1.is_judged()),
    column!("significant", Bool, |r| r.1.verdict.significant),
];

/// The figures of a feature, by column.
pub fn figures(feature: &Feature) -> Vec<(&'static str, f64)> {
    let row = (None, feature);
    let of = |column: &FlatColumn| match (column.value)(&row) {
        Value::Float(Some(value)) => Some((column.name, value)),
        _ => None,
    };
    COLUMNS.iter().filter_map(of).collect()
}

/// The names of all figures.
pub fn figure_names() -> impl Iterator<Item = &'static str> {
    let nothing = Feature::failed(Rows::default(), String::new());
    let is_figure = move |column: &&FlatColumn| matches!((column.value)(&(None, &nothing)), Value::Float(_));
    COLUMNS.iter().filter(is_figure).map(|column| column.name)
}

pub fn csv(rows: &[Row<'_>]) -> Result<Document> {
    let mut csv = Csv::new(COLUMNS.iter().map(|column| column.name))?;
    rows.iter().try_for_each(|row| csv.row(COLUMNS.iter().map(|column| (column.value)(row))))?;
    csv.finish()
}

pub fn parquet(rows: &[Row<'_>]) -> Result<Document> {
    let columns = COLUMNS.iter().map(|column| {
        let mut cells = match rows.first().map(column.value) {
            Some(Value::Float(_)) => Cells::Float(Vec::new()),
            Some(Value::Int(_)) => Cells::Int(Vec::new()),
            Some(Value::Bool(_)) => Cells::Bool(Vec::new()),
            Some(Value::Text(_)) | None => Cells::Text(Vec::new()),
        };
        for row in rows {
            match (&mut cells, (column.value)(row)) {
                (Cells::Text(cells), Value::Text(x)) => cells.push(x),
                (Cells::Float(cells), Value::Float(x)) => cells.push(x),
                (Cells::Int(cells), Value::Int(x)) => cells.push(x),
                (Cells::Bool(cells), Value::Bool(x)) => cells.push(x),
                // A column has one type.
                _ => {}
            }
        }
        (column.name, cells)
    });
    to_parquet(columns.collect()).map(Document::parquet).map_err(|e| unencodable(&e))
}
