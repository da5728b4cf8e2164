//! The plan of a sweep: the order of models, which of them are opened together, and the predicted cost.

use std::collections::HashSet;

use jiff::Timestamp;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::compare::{BaselineFeature, type_mismatch};
use super::report::Rows;
use super::schema::SchemaChange;
use super::shard::{self, RankedModel, Shard, columns_of, groups};
use crate::count::Workload;
use crate::model::Model;
use crate::snapshot::ColumnType;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::Fault;

/// A fleet in the order in which it will be swept. No file has been opened yet.
///
/// ```
/// use driftsweep::{Model, SweepPlan};
///
/// let model = Model::new("weather", "datasets/nycflights13/weather-2013-01.parquet", "datasets/nycflights13/weather-2013-07.parquet");
/// let plan = SweepPlan::new("fleet", [&model], jiff::Timestamp::UNIX_EPOCH);
/// let survey = plan.survey();
/// assert!(survey.comparisons[0].features > 5 && survey.comparisons[0].error.is_none());
/// ```
pub struct SweepPlan<'a> {
    /// The name of the fleet.
    pub(super) name: &'a str,
    pub(super) models: Vec<&'a Model>,
    /// The time the sweep counts as; windows are relative to it.
    pub(super) as_of: Timestamp,
    /// Models that share files, most important first.
    pub(super) shards: Vec<Vec<RankedModel<'a>>>,
}

/// What a sweep will read and compare, and what it will cost, from the files' metadata.
#[derive(Clone, Debug, Default)]
pub struct SweepSurvey {
    /// Every model and window, in order.
    pub comparisons: Vec<PlannedComparison>,
    /// Columns that will be read.
    pub columns_read: usize,
    /// Columns that comparisons use: what would be read without sharing.
    pub columns_used: usize,
    /// Numeric values that will be read.
    pub workload: Workload,
    /// Predicted seconds on one thread.
    pub cpu_seconds: f64,
    /// Predicted bytes of memory, in addition to counting within its limit.
    pub memory: u64,
}

/// One model, window and segment of a plan.
#[derive(Clone, Debug)]
pub struct PlannedComparison {
    /// Name of the model.
    pub model: String,
    /// Name of the window.
    pub window: String,
    /// Name of the segment; empty for the whole.
    pub segment: String,
    /// The importance of the model.
    pub importance: f64,
    /// Rows of both sides.
    pub rows: Rows,
    /// Features that will be compared.
    pub features: usize,
    /// Bytes of columns, as stored, that are read for it and for none before it.
    pub bytes: u64,
    /// Predicted seconds on one thread.
    pub cpu_seconds: f64,
    /// Columns that were added, removed, or have another type; said once, of the whole.
    pub schema: Vec<SchemaChange>,
    /// Features that cannot be compared for their types, with the reason.
    pub type_mismatches: Vec<(String, String)>,
    /// Why it cannot be compared.
    pub error: Option<Fault>,
}

impl<'a> SweepPlan<'a> {
    /// Orders the models of a fleet, whose names are unique: the most important one first, and with it those that share its
    /// files. The sweep counts as a point in time.
    pub fn new(fleet: &'a str, models: impl IntoIterator<Item = &'a Model>, as_of: Timestamp) -> Self {
        let models: Vec<&'a Model> = models.into_iter().collect();
        let mut ranked = models.clone();
        ranked.sort_by(|a, b| b.importance.total_cmp(&a.importance));
        let ranked: Vec<RankedModel<'a>> = ranked.into_iter().enumerate().collect();
        Self { name: fleet, models, as_of, shards: shard::shards(&ranked) }
    }

    /// Hash of the files that it reads: the same until a file, or the reason why one cannot be opened, has changed.
    /// Also returns these reasons.
    pub fn fingerprint(&self) -> (String, Vec<String>) {
        let (mut hash, mut reasons) = (Sha256::new(), Vec::new());
        for models in &self.shards {
            let shard = Shard::open(models, self.as_of);
            hash.update(shard.fingerprint());
            for fault in shard.tasks.iter().filter_map(|task| shard.sides(task).err()) {
                hash.update((fault.reason.len() as u64).to_le_bytes());
                hash.update(&fault.reason);
                reasons.push(fault.reason);
            }
        }
        (hex(&hash.finalize()), reasons)
    }

    /// Opens everything once, a few models at a time, and predicts what a sweep would do.
    pub fn survey(&self) -> SweepSurvey {
        let parts: Vec<SweepSurvey> =
            self.shards.par_iter().map(|models| survey(&Shard::open(models, self.as_of))).collect();
        let mut whole = SweepSurvey::default();
        for part in parts {
            whole.comparisons.extend(part.comparisons);
            whole.columns_read += part.columns_read;
            whole.columns_used += part.columns_used;
            whole.workload = [whole.workload, part.workload].into_iter().sum();
            whole.cpu_seconds += part.cpu_seconds;
            whole.memory += part.memory;
        }
        whole
    }
}

/// Seconds that one core takes, measured on the machine of `benches/RESULTS.md`.
mod cost {
    /// To read and decompress a stored byte.
    pub(crate) const BYTE: f64 = 1.6e-9;
    /// To decode a number, make its key and count it, both passes together.
    pub const VALUE: f64 = 8e-9;
    /// To decode a text and count it.
    pub const TEXT: f64 = 15e-9;
    /// To open a column, compute the figures of a feature and write them down.
    pub(crate) const FEATURE: f64 = 150e-6;
}

/// Bytes that the report takes for a feature while it is gathered and written.
const FEATURE_BYTES: u64 = 12 << 10;

fn survey(shard: &Shard<'_>) -> SweepSurvey {
    let mut survey = SweepSurvey::default();
    for task in &shard.tasks {
        survey.comparisons.push(PlannedComparison {
            model: task.model.name.clone(),
            window: task.window.name.clone(),
            segment: task.segment.clone(),
            importance: task.model.importance,
            rows: shard.rows(task),
            features: 0,
            bytes: 0,
            cpu_seconds: 0.0,
            schema: shard.schema_changes(task),
            type_mismatches: Vec::new(),
            error: shard.sides(task).err(),
        });
    }
    let mut read: HashSet<(usize, &str)> = HashSet::new();
    for item in groups(shard.items()).iter().flatten() {
        let comparison = &mut survey.comparisons[item.task];
        comparison.features += 1;
        if let Some(reason) = type_mismatch(item.baseline, item.current, item.kind) {
            comparison.type_mismatches.push((item.baseline.name().to_owned(), reason));
        }
        comparison.cpu_seconds += cost::FEATURE;
        survey.memory += FEATURE_BYTES;
        survey.workload = [survey.workload, shard::workload(item.baseline, item.current)].into_iter().sum();
        survey.columns_used += 1 + usize::from(matches!(item.baseline, BaselineFeature::Live(..)));
        for (snapshot, column) in columns_of(item) {
            if read.insert((snapshot.table_id(), &column.name)) {
                let bytes = snapshot.stored_bytes(column);
                let value = if matches!(column.kind, ColumnType::Numeric(_)) { cost::VALUE } else { cost::TEXT };
                comparison.bytes += bytes;
                comparison.cpu_seconds += bytes as f64 * cost::BYTE + snapshot.rows() as f64 * value;
            }
        }
    }
    survey.columns_read = read.len();
    survey.cpu_seconds = survey.comparisons.iter().map(|comparison| comparison.cpu_seconds).sum();
    survey
}
