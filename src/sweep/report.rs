//! What a comparison gives: plain data, with names that scripts rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judged::NotJudged;
use super::schema::SchemaChange;
use crate::count::{Counter, Usage};
use crate::error::{Cause, Fault, Status};
use crate::metric::contingency::ChiSquare;
use crate::metric::convention::{Convention, Figure};
use crate::metric::ks::Method;
use crate::metric::noise::Noise;
use crate::metric::{Band, Kind};

/// What is known of one side of a feature. Counts are rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// All rows.
    pub rows: u64,
    /// Null rows.
    pub null: u64,
    /// NaN rows.
    pub nan: u64,
    /// Rows that are minus infinity.
    pub neg_inf: u64,
    /// Rows that are plus infinity.
    pub pos_inf: u64,
    /// Type of the column.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Smallest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Mean of the finite values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Population standard deviation of the finite values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Current side only: rows below the baseline's smallest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below_range: Option<u64>,
    /// Current side only: rows above the baseline's largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above_range: Option<u64>,
    /// Distinct categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<u64>,
    /// Current side only: rows with a category the baseline never had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_rows: Option<u64>,
    /// Current side only: how many such categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_categories: Option<u64>,
    /// Rows of categories beyond the limit, counted together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled_rows: Option<u64>,
}

/// Population stability index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    /// Tie-aware: a value that fills a bin has its own. What verdicts use.
    pub value: f64,
    /// As numpy's percentiles and histogram give it.
    pub reference_value: f64,
    /// The band of `value`.
    pub band: Band,
    /// Bins of zero width, which blind the reference value to changes above them.
    pub blind_bins: usize,
    /// `value` against its own noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

/// Jensen-Shannon, over the reference PSI bins or over the categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JensenShannon {
    /// Square root of the divergence.
    pub distance: f64,
    /// In nats.
    pub divergence: f64,
    /// The divergence against its own noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

/// Two-sample Kolmogorov-Smirnov test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KolmogorovSmirnov {
    /// The statistic D; its proven lower end where it is not exact.
    pub statistic: f64,
    /// Its p-value (at the lower end, so it is the largest it can be).
    pub p_value: f64,
    /// The asymptotic p-value, whatever the size.
    pub p_value_asymptotic: f64,
    /// How `p_value` was found.
    pub method: Method,
    /// Whether D is exact.
    pub exact: bool,
    /// The proven upper end of D, where it is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// Wasserstein-1 distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wasserstein {
    /// In the column's unit; a lower bound where it is not exact.
    pub value: f64,
    /// Divided by the baseline's standard deviation; absent where that is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalised: Option<f64>,
    /// Whether it is exact.
    pub exact: bool,
}

/// A single figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The figure.
    pub value: f64,
}

/// Chi-square test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChiSquareReport {
    /// The test.
    #[serde(flatten)]
    pub test: ChiSquare,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// Missing rates (null and NaN) and the test that they are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// Share of missing rows in the baseline.
    pub baseline: f64,
    /// Share of missing rows in the current snapshot.
    pub current: f64,
    /// `current - baseline`.
    pub difference: f64,
    /// p-value of the two-proportion test.
    pub p_value: f64,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// Shifts of the first two moments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentShift {
    /// Current mean less baseline mean.
    pub mean_shift: f64,
    /// The same in baseline standard deviations; absent where that is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standardised: Option<f64>,
    /// Current over baseline standard deviation; absent where the latter is zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std_ratio: Option<f64>,
}

/// One quantile on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileShift {
    /// Percent.
    pub percent: f64,
    /// In the baseline.
    pub baseline: f64,
    /// In the current snapshot.
    pub current: f64,
}

/// What another tool would say, by its own definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conventional {
    /// The tool.
    pub name: Convention,
    /// Its figures, by name.
    #[serde(flatten)]
    pub figures: BTreeMap<Figure, f64>,
    /// The figure that decides.
    pub decides: Figure,
    /// From where on the feature has drifted; absent where the tool has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The tool's bins; absent where values or categories were counted one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
}

/// All figures of one feature; what was not asked for, or does not apply, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Population stability index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
    /// Jensen-Shannon distance and divergence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub js: Option<JensenShannon>,
    /// Kolmogorov-Smirnov test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks: Option<KolmogorovSmirnov>,
    /// Wasserstein-1 distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<Wasserstein>,
    /// Chi-square test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chi_square: Option<ChiSquareReport>,
    /// Hellinger distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hellinger: Option<Value>,
    /// Total variation distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_variation: Option<Value>,
    /// Largest difference of two shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l_infinity: Option<Value>,
    /// Kullback-Leibler divergence of the current side from the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Value>,
    /// Missing rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Mean and standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moments: Option<MomentShift>,
    /// Quantiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<Vec<QuantileShift>>,
    /// The figures of another tool's convention, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convention: Option<Conventional>,
}

/// Counts per bin or category: what every figure but KS and Wasserstein follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// The reference PSI bins: `edges` are the finite breakpoints, one fewer than there are bins.
    Bins {
        /// Inner breakpoints, ascending, repeated where ties repeat them.
        edges: Vec<f64>,
        /// Baseline counts, half-open bins.
        baseline: Vec<u64>,
        /// Current counts.
        current: Vec<u64>,
    },
    /// The categories with the largest differences of shares, at most fifty.
    Categories(Vec<CategoryCount>),
}

/// One category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategoryCount {
    /// Its name.
    pub name: String,
    /// Rows in the baseline.
    pub baseline: u64,
    /// Rows in the current snapshot.
    pub current: u64,
}

/// Whether a feature has drifted, and by which rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether any rule was met.
    pub drifted: bool,
    /// The rules that were met, with figure and threshold.
    pub reasons: Vec<String>,
}

/// One feature of one comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Column name.
    pub name: String,
    /// How it was read, or would be if it were compared.
    pub kind: Kind,
    /// Whether the figures mean what they say.
    pub status: Status,
    /// What kept it from being compared, where something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What the status is about, where it is not `ok`; or what is to be known beside the figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The baseline.
    pub baseline: Side,
    /// The current snapshot.
    pub current: Side,
    /// The figures.
    pub metrics: Metrics,
    /// The verdict.
    pub verdict: Verdict,
    /// The counts behind the figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// SHA-256 of every integer that the figures follow from.
    pub counts_hash: String,
}

impl Feature {
    /// Stands for a column that only the current snapshot has.
    pub fn added(rows: Rows, change: &SchemaChange) -> Self {
        let dtype = change.current.clone().unwrap_or_default();
        Self {
            name: change.column.clone(),
            status: Status::Added,
            cause: None,
            detail: Some("only the current snapshot has this column".into()),
            current: Side { rows: rows.current, dtype, ..Side::default() },
            ..Self::failed(rows, String::new())
        }
    }

    /// What kept it from being compared although it should have been.
    pub fn fault(&self) -> Option<Fault> {
        let cause = self.cause.or(self.status.cause()).filter(|_| self.status.is_failure())?;
        let detail = self.detail.as_deref().unwrap_or(self.status.name());
        let reason = format!("column '{}': {detail}", self.name);
        Some(Fault { column: Some(self.name.clone()), ..Fault::new(cause, reason) })
    }

    /// Stands for all features of a model that could not be compared; it has no name.
    pub fn failed(rows: Rows, reason: String) -> Self {
        Self {
            name: String::new(),
            kind: Kind::Numeric,
            status: Status::Unreadable,
            cause: Some(Cause::Unreadable),
            detail: Some(reason),
            baseline: Side { rows: rows.baseline, ..Side::default() },
            current: Side { rows: rows.current, ..Side::default() },
            metrics: Metrics::default(),
            verdict: Verdict::default(),
            counts: None,
            counts_hash: String::new(),
        }
    }
}

/// What made a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// `driftsweep`.
    pub name: String,
    /// Version of the engine.
    pub version: String,
    /// Backend that counted.
    pub backend: String,
    /// Why this backend counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Worker threads.
    pub threads: usize,
    /// What a device was used for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Usage>,
}

impl Engine {
    /// This engine, with what has counted.
    pub fn this(counter: &dyn Counter) -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            backend: counter.name().into(),
            reason: None,
            threads: rayon::current_num_threads(),
            device: counter.usage(),
        }
    }
}

/// Rows of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Of the baseline.
    pub baseline: u64,
    /// Of the current snapshot.
    pub current: u64,
}

/// A comparison of two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Version of this layout.
    pub schema_version: u32,
    /// What made it.
    pub engine: Engine,
    /// Rows of both sides.
    pub rows: Rows,
    /// SHA-256 over the hashes of all features: equal on every backend.
    pub counts_hash: String,
    /// Columns that came, went, or have another type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<SchemaChange>,
    /// Features without a verdict, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_judged: Option<NotJudged>,
    /// The features, in the baseline's order.
    pub features: Vec<Feature>,
}

/// Version of [`Comparison`] and [`super::SweepReport`] as JSON.
pub const SCHEMA_VERSION: u32 = 1;

/// What a sweep found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Version of this layout.
    pub schema_version: u32,
    /// What made it.
    pub engine: Engine,
    /// Name of the sweep; empty where it was not given one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The time it counts as, RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub as_of: String,
    /// Name of the fleet.
    pub fleet: String,
    /// SHA-256 over the hashes of all comparisons: equal on every backend.
    pub counts_hash: String,
    /// Totals.
    pub summary: Summary,
    /// What was not compared before the deadline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_covered: Vec<NotCovered>,
    /// One entry per model, window and segment, most important model first.
    pub models: Vec<ModelReport>,
}

/// A comparison that was not, or not wholly, made before the deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCovered {
    /// Name of the model.
    pub model: String,
    /// Name of the window; absent where the model has only one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub window: String,
    /// Name of the segment; absent for the whole.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub segment: String,
    /// Features that were not compared; absent where the model was not even opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<usize>,
}

/// Totals of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Models.
    pub models: usize,
    /// Models times windows times segments.
    pub comparisons: usize,
    /// Comparisons that could not be made at all.
    pub failed_comparisons: usize,
    /// Comparisons that were not, or not wholly, made before the deadline.
    #[serde(default)]
    pub not_covered: usize,
    /// Features compared or tried.
    pub features: usize,
    /// Features that drifted.
    pub drifted: usize,
    /// Features that should have been compared and could not be.
    pub failed: usize,
    /// Features without a verdict: too few values, nothing but missing values, a type that cannot be compared, no time left.
    #[serde(default)]
    pub not_judged: usize,
    /// Columns that came, went, or have another type.
    #[serde(default)]
    pub schema_changes: usize,
    /// Columns read from files.
    pub columns_read: usize,
    /// Columns used by comparisons; what would have been read without sharing.
    pub columns_used: usize,
}

/// One segment of one model in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Name of the model.
    pub model: String,
    /// Name of the window; absent where the model has only one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub window: String,
    /// Name of the segment; absent for the whole.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub segment: String,
    /// How much the model matters.
    pub importance: f64,
    /// Why there are no features, where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The cause of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Rows of both sides.
    pub rows: Rows,
    /// SHA-256 over the hashes of its features.
    pub counts_hash: String,
    /// Features that drifted.
    pub drifted: usize,
    /// Columns that came, went, or have another type; said once, of the whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<SchemaChange>,
    /// Features without a verdict, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_judged: Option<NotJudged>,
    /// The features, in the baseline's order.
    pub features: Vec<Feature>,
}

impl ModelReport {
    /// Why it could not be compared at all.
    pub fn fault(&self) -> Option<Fault> {
        let reason = self.error.clone()?;
        Some(Fault::new(self.cause.unwrap_or(Cause::Unreadable), reason))
    }
}
