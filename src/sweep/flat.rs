//! One row a feature: the columns of CSV and Parquet reports, and the figures of the history.

use super::report::{Feature, ModelReport, Rows, SweepReport};
use crate::metric::{Metric, MetricColumn};

/// A feature with the model and window it belongs to.
pub type Row<'a> = (Option<&'a ModelReport>, &'a Feature);

/// What a cell holds.
#[derive(Clone, Debug, PartialEq)]
pub enum FlatValue {
    /// A text, which may come from outside.
    Text(String),
    /// A figure, or none: the shortest text that reads back to the same double.
    Float(Option<f64>),
    /// A count.
    Int(u64),
    /// `true` or `false`.
    Bool(bool),
}

/// A column of the flat report.
#[derive(Clone, Copy)]
pub struct FlatColumn {
    /// Its name.
    pub name: &'static str,
    cell: FlatCell,
}

#[derive(Clone, Copy)]
enum FlatCell {
    Row(fn(&Row<'_>) -> FlatValue),
    Figure(&'static MetricColumn),
}

impl FlatColumn {
    /// What it holds for a feature. All values of a column have one type.
    pub fn value(&self, row: &Row<'_>) -> FlatValue {
        match self.cell {
            FlatCell::Row(value) => value(row),
            FlatCell::Figure(column) => FlatValue::Float((column.read)(&row.1.metrics)),
        }
    }
}

macro_rules! column {
    ($name:literal, $variant:ident, |$row:ident| $value:expr) => {
        FlatColumn { name: $name, cell: FlatCell::Row(|$row| FlatValue::$variant($value)) }
    };
}

/// The columns before those of the first metrics.
const COLUMNS_BEFORE_METRICS: &[FlatColumn] = &[
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
];

/// The columns after those of the first metrics. New ones go to the end.
const COLUMNS_AFTER_METRICS: &[FlatColumn] = &[
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

/// The last of the metrics whose columns stand in the middle. Those of later metrics stand at the end, so that no column moves.
const LAST_METRIC_BEFORE_THEM: Metric = Metric::Quantiles;

/// The columns, in order.
pub fn columns() -> impl Iterator<Item = FlatColumn> {
    let of_metrics = |later: bool| {
        let metrics = Metric::ALL.into_iter().filter(move |metric| (*metric > LAST_METRIC_BEFORE_THEM) == later);
        let columns = metrics.flat_map(|metric| metric.spec().columns);
        columns.map(|column| FlatColumn { name: column.name, cell: FlatCell::Figure(column) })
    };
    COLUMNS_BEFORE_METRICS
        .iter()
        .copied()
        .chain(of_metrics(false))
        .chain(COLUMNS_AFTER_METRICS.iter().copied())
        .chain(of_metrics(true))
}

/// The figures of a feature, by column.
pub fn figures(feature: &Feature) -> Vec<(&'static str, f64)> {
    let row = (None, feature);
    let of = |column: FlatColumn| match column.value(&row) {
        FlatValue::Float(Some(value)) => Some((column.name, value)),
        _ => None,
    };
    columns().filter_map(of).collect()
}

/// The names of all figures.
pub(crate) fn figure_names() -> impl Iterator<Item = &'static str> {
    let nothing = Feature::failed(Rows::default(), String::new());
    let is_figure = move |column: &FlatColumn| matches!(column.value(&(None, &nothing)), FlatValue::Float(_));
    columns().filter(is_figure).map(|column| column.name)
}

/// A feature without a name that says why a model could not be compared at all, or it would be missed.
pub(crate) fn nameless(model: &ModelReport) -> Option<Feature> {
    Some(Feature::failed(model.rows, model.error.clone()?))
}

/// Models that could not be compared at all, each with a feature without a name that says why.
pub fn failed(report: &SweepReport) -> Vec<(&ModelReport, Feature)> {
    let models = report.models.iter();
    models.filter_map(|model| Some((model, nameless(model)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs read the columns by position, too.
    #[test]
    fn no_column_has_moved_and_new_ones_stand_at_the_end() {
        let known = [
            "model",
            "window",
            "feature",
            "kind",
            "status",
            "drifted",
            "reasons",
            "detail",
            "baseline_rows",
            "current_rows",
            "baseline_missing",
            "current_missing",
            "psi",
            "psi_reference",
            "psi_p",
            "psi_noise_99",
            "js_distance",
            "js_divergence",
            "js_p",
            "ks",
            "ks_p",
            "ks_q",
            "wasserstein",
            "chi_square",
            "chi_square_p",
            "chi_square_q",
            "hellinger",
            "total_variation",
            "l_infinity",
            "kl",
            "missing_difference",
            "missing_p",
            "mean_shift",
            "counts_hash",
            "convention",
            "convention_metric",
            "convention_value",
            "convention_limit",
            "segment",
            "baseline_type",
            "current_type",
            "judged",
            "significant",
        ];
        let found: Vec<&str> = columns().map(|column| column.name).collect();
        assert_eq!(found[..known.len()], known);
        assert!(found.iter().enumerate().all(|(i, name)| !found[..i].contains(name)), "{found:?}");
    }
}
