//! The result of a comparison: plain data, with names that scripts rely on.

use serde::{Deserialize, Serialize};

use super::not_judged::NotJudged;
use super::schema::SchemaChange;
use crate::count::{Counter, Usage};
use crate::metric::{Kind, Metrics};
use crate::rule::Verdict;
use driftsweep_common::error::{Cause, Fault, Status};
use driftsweep_common::infinite;

/// One side of a feature. Counts are rows.
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

/// Counts per bin or category, from which all figures except KS and Wasserstein are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// The reference PSI bins: `edges` are the inner breakpoints, one fewer than there are bins.
    Bins {
        /// Inner breakpoints, ascending, repeated where ties repeat them. An infinite one is `"inf"` or `"-inf"` in JSON.
        #[serde(serialize_with = "infinite::serialize_list", deserialize_with = "infinite::deserialize_list")]
        edges: Vec<f64>,
        /// Baseline counts, half-open bins.
        baseline: Vec<u64>,
        /// Current counts.
        current: Vec<u64>,
        /// The bins of the tie-aware PSI, in order, where a value fills a reference bin or more; empty where none does: they
        /// are the reference bins then.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tie_aware: Vec<TieAwareBin>,
    },
    /// The categories with the largest differences of shares, at most fifty.
    Categories(Vec<CategoryCount>),
}

/// A bin of the tie-aware PSI.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TieAwareBin {
    /// Which values are in it.
    pub values: BinValues,
    /// Rows in the baseline.
    pub baseline: u64,
    /// Rows in the current snapshot.
    pub current: u64,
}

/// The values of a tie-aware bin, of those that no earlier bin has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinValues {
    /// Those below a breakpoint.
    Below(#[serde(with = "infinite")] f64),
    /// Those equal to a value that fills a reference bin or more.
    Equal(#[serde(with = "infinite")] f64),
    /// The rest.
    Rest,
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

/// One feature of one comparison.
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot, Status};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
/// let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
/// let temperature = report.features.iter().find(|feature| feature.name == "temp").unwrap();
/// assert_eq!(temperature.status, Status::Ok);
/// assert_eq!(temperature.current.rows, current.rows());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Feature {
    /// Column name.
    pub name: String,
    /// How it was read, or would be if it were compared.
    pub kind: Kind,
    /// Its importance within its model.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub importance: f64,
    /// The status: whether the figures are valid.
    pub status: Status,
    /// Why it could not be compared, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The detail of a status other than `ok`; or a note on the figures.
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
    /// SHA-256 of every integer that the figures are computed from.
    pub counts_hash: String,
}

fn one() -> f64 {
    1.0
}

fn is_one(importance: &f64) -> bool {
    *importance == 1.0
}

impl Feature {
    /// An entry for a column that only the current snapshot has.
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

    /// Why it could not be compared although it should have been.
    pub fn fault(&self) -> Option<Fault> {
        let cause = self.cause.or(self.status.cause()).filter(|_| self.status.is_failure())?;
        let detail = self.detail.as_deref().unwrap_or(self.status.name());
        let reason = format!("column '{}': {detail}", self.name);
        Some(Fault { column: Some(self.name.clone()), ..Fault::new(cause, reason) })
    }

    /// An entry for all features of a model that could not be compared; it has no name.
    pub fn failed(rows: Rows, reason: String) -> Self {
        Self {
            name: String::new(),
            kind: Kind::Numeric,
            importance: 1.0,
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

/// The engine that made a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// This engine, with its counter.
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
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
/// let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
/// assert_eq!(report.rows.current, current.rows());
/// println!("{}", serde_json::to_string(&report).unwrap());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Version of this layout.
    pub schema_version: u32,
    /// The engine that made it.
    pub engine: Engine,
    /// Rows of both sides.
    pub rows: Rows,
    /// SHA-256 over the hashes of all features: equal on every backend.
    pub counts_hash: String,
    /// Columns that were added, removed, or have another type.
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

/// The report of a sweep.
///
/// ```
/// use driftsweep::{CpuCounter, Model, SweepPlan, SweepRun};
///
/// let model = Model::new("weather", "datasets/nycflights13/weather-2013-01.parquet", "datasets/nycflights13/weather-2013-07.parquet");
/// let plan = SweepPlan::new("fleet", [&model], jiff::Timestamp::UNIX_EPOCH);
/// let report = SweepRun::new(&CpuCounter).sweep(&plan);
/// assert_eq!((report.summary.models, report.summary.failed), (1, 0));
/// assert!(report.summary.drifted > 0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SweepReport {
    /// Version of this layout.
    pub schema_version: u32,
    /// The engine that made it.
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
    pub summary: SweepSummary,
    /// Comparisons that were not covered before the deadline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_covered: Vec<NotCovered>,
    /// One entry per model, window and segment, most important model first.
    pub models: Vec<ModelReport>,
}

impl SweepReport {
    /// The same without the comparisons.
    pub(crate) fn without_comparisons(&self) -> Self {
        Self {
            schema_version: self.schema_version,
            engine: self.engine.clone(),
            id: self.id.clone(),
            as_of: self.as_of.clone(),
            fleet: self.fleet.clone(),
            counts_hash: self.counts_hash.clone(),
            summary: self.summary,
            not_covered: self.not_covered.clone(),
            models: Vec::new(),
        }
    }
}

/// A comparison that was not, or not completely, made before the deadline.
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
#[non_exhaustive]
pub struct SweepSummary {
    /// Models.
    pub models: usize,
    /// Models times windows times segments.
    pub comparisons: usize,
    /// Comparisons that could not be made at all.
    pub failed_comparisons: usize,
    /// Comparisons that were not, or not completely, made before the deadline.
    #[serde(default)]
    pub not_covered: usize,
    /// Features compared or tried.
    pub features: usize,
    /// Features that drifted.
    pub drifted: usize,
    /// Features with a test that is called at the false discovery rate, drifted or not.
    #[serde(default)]
    pub significant: usize,
    /// Features that should have been compared and could not be.
    pub failed: usize,
    /// Features without a verdict: too few values, nothing but missing values, a type that cannot be compared, no time left.
    #[serde(default)]
    pub not_judged: usize,
    /// Columns that were added, removed, or have another type.
    #[serde(default)]
    pub schema_changes: usize,
    /// Columns read from files.
    pub columns_read: usize,
    /// Columns used by comparisons; what would have been read without sharing.
    pub columns_used: usize,
}

/// One segment of one model in one window.
///
/// ```
/// use driftsweep::{CpuCounter, Model, SweepPlan, SweepRun};
///
/// let model = Model::new("lost", "no-such-file.parquet", "datasets/nycflights13/weather-2013-07.parquet");
/// let plan = SweepPlan::new("fleet", [&model], jiff::Timestamp::UNIX_EPOCH);
/// let report = SweepRun::new(&CpuCounter).sweep(&plan);
/// assert!(report.models[0].error.as_ref().unwrap().contains("no such file"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelReport {
    /// Name of the model.
    pub model: String,
    /// Name of the window; absent where the model has only one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub window: String,
    /// Name of the segment; absent for the whole.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub segment: String,
    /// The path or address of the baseline, without secrets. Absent from reports of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub baseline: String,
    /// The same of the current snapshot, with the day in it that was read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current: String,
    /// The importance of the model.
    pub importance: f64,
    /// Why it could not be compared, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The cause of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Rows of both sides.
    pub rows: Rows,
    /// SHA-256 over the hashes of its features.
    pub counts_hash: String,
    /// Features that drifted.
    pub drifted: usize,
    /// Features with a test that is called at the false discovery rate, drifted or not.
    #[serde(default)]
    pub significant: usize,
    /// Columns that were added, removed, or have another type; said once, of the whole.
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

impl ModelReport {
    /// The same without the features.
    pub(crate) fn without_features(&self) -> Self {
        Self {
            model: self.model.clone(),
            window: self.window.clone(),
            segment: self.segment.clone(),
            baseline: self.baseline.clone(),
            current: self.current.clone(),
            importance: self.importance,
            error: self.error.clone(),
            cause: self.cause,
            rows: self.rows,
            counts_hash: self.counts_hash.clone(),
            drifted: self.drifted,
            significant: self.significant,
            schema: self.schema.clone(),
            not_judged: self.not_judged.clone(),
            features: Vec::new(),
        }
    }
}
