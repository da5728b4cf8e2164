//! One row a feature: the columns of CSV and Parquet reports, and the figures of the history.

use super::report::{Feature, ModelReport, Rows, SweepReport};

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
pub struct FlatColumn {
    /// Its name.
    pub name: &'static str,
    /// What it holds for a feature. All values of a column have one type.
    pub value: fn(&Row<'_>) -> FlatValue,
}

macro_rules! column {
    ($name:literal, $variant:ident, |$row:ident| $value:expr) => {
        FlatColumn { name: $name, value: |$row| FlatValue::$variant($value) }
    };
}

/// The columns, in order. New ones go to the end.
pub const COLUMNS: &[FlatColumn] = &[
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
        FlatValue::Float(Some(value)) => Some((column.name, value)),
        _ => None,
    };
    COLUMNS.iter().filter_map(of).collect()
}

/// The names of all figures.
pub fn figure_names() -> impl Iterator<Item = &'static str> {
    let nothing = Feature::failed(Rows::default(), String::new());
    let is_figure = move |column: &&FlatColumn| matches!((column.value)(&(None, &nothing)), FlatValue::Float(_));
    COLUMNS.iter().filter(is_figure).map(|column| column.name)
}

/// Every feature of a sweep with its model. A model that could not be compared at all has a nameless one, or it would be
/// missed.
pub fn each_feature(report: &SweepReport, mut f: impl FnMut(&ModelReport, &Feature)) {
    report.models.iter().for_each(|model| model.features.iter().for_each(|feature| f(model, feature)));
    failed(report).iter().for_each(|(model, feature)| f(model, feature));
}

/// Models that could not be compared at all, each with a feature without a name that says why.
pub fn failed(report: &SweepReport) -> Vec<(&ModelReport, Feature)> {
    let models = report.models.iter();
    models.filter_map(|model| Some((model, Feature::failed(model.rows, model.error.clone()?)))).collect()
}
