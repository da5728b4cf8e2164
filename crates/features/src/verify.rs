//! The truncation test: features must not change when everything that was known later is deleted.
//!
//! The features are computed twice: with all events, and with every event deleted that was known at a point in time T or later.
//! What a prediction up to T was given must be the same bit for bit. A difference is a look into the future, whatever the
//! query looks like. What it cannot see: a time of knowledge that is wrong in the data, and a row whose future no cut divides.

use std::fs::File;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::lit;
use datafusion::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use datafusion::prelude::{cast, ident};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::KnownAt;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

use crate::engine::{failed, refused};
use crate::pipeline::{FeaturePipeline, Period, ROW_COLUMNS, StagedSpine};

/// What the truncation test found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// The name of the feature set.
    pub feature_set: String,
    /// The version of the features.
    pub feature_version: String,
    /// Predictions from this time on were computed.
    pub from: Option<Timestamp>,
    /// The time before which they are.
    pub to: Timestamp,
    /// Their number.
    pub rows: u64,
    /// Whether the same computation gave the same bits twice. It is tried where a cut finds a difference.
    pub reproducible: bool,
    /// The cuts, in order of time.
    pub cuts: Vec<Cut>,
}

impl Verification {
    /// Whether no cut found a difference, and at least one could have found one.
    pub fn passed(&self) -> bool {
        self.cuts.iter().all(|cut| cut.different.is_empty()) && self.cuts.iter().any(Cut::tells)
    }
}

/// The test at one point in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cut {
    /// Everything known at this time or later was deleted.
    pub at: Timestamp,
    /// Why this time was chosen.
    pub chosen: String,
    /// Predictions up to it, all of which were compared.
    pub rows: u64,
    /// Events that were deleted, by table, and predictions after the cut, as `spine`.
    pub deleted: IndexMap<String, u64>,
    /// The features that changed.
    pub different: IndexMap<String, Different>,
}

impl Cut {
    /// Whether anything was compared, and anything deleted.
    pub fn tells(&self) -> bool {
        self.rows > 0 && self.deleted.values().any(|&rows| rows > 0)
    }
}

/// A feature that saw what came later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Different {
    /// Rows in which it changed.
    pub rows: u64,
    /// The first of them.
    pub example: Example,
}

/// A value that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The id of the prediction.
    pub id: String,
    /// When it was made.
    pub prediction_time: String,
    /// The value with all events.
    pub with_future: String,
    /// The value without those known later.
    pub without_future: String,
}

/// Cuts at parts of the predictions.
const PARTS: u64 = 4;

impl FeaturePipeline {
    /// Runs the truncation test over a period. `cuts` are points in time; where there are none, they are chosen: at quarters of the
    /// predictions, and for each event table with a time of knowledge of its own where the event that was known latest after it
    /// happened becomes known.
    ///
    /// # Errors
    /// Those of [`FeaturePipeline::materialize`]; [`Error::NoRows`] for a period without predictions.
    pub fn verify(&self, period: Period, cuts: &[Timestamp]) -> Result<Verification> {
        let version = self.version()?;
        let staged = self.stage(period)?;
        if staged.rows == 0 {
            return Err(Error::NoRows { path: self.set.spine.path.clone() });
        }
        let cuts = match cuts {
            [] => self.chosen_cuts(&staged)?,
            given => given.iter().map(|&at| (at, "given".to_owned())).collect(),
        };
        let whole = self.computed(&staged, period.as_of)?;
        let mut tested = Vec::new();
        for (at, chosen) in cuts {
            tested.push(self.cut(period, &staged, &whole, at, chosen)?);
        }
        let found = tested.iter().any(|cut| !cut.different.is_empty());
        let reproducible = !found || {
            let again = self.computed(&staged, period.as_of)?;
            compare(self, &whole, &again, None)?.1.is_empty()
        };
        Ok(Verification {
            feature_set: self.set.name.clone(),
            feature_version: version.features,
            from: period.from,
            to: period.to,
            rows: staged.rows,
            reproducible,
            cuts: tested,
        })
    }

    fn cut(
        &self,
        period: Period,
        all: &StagedSpine,
        whole: &tempfile::NamedTempFile,
        at: Timestamp,
        chosen: String,
    ) -> Result<Cut> {
        // Predictions up to the cut, and it among them: events of the same instant are not seen by them.
        let next = self.ticks.time(self.ticks.count(at).saturating_add(1)).unwrap_or(at);
        let staged = self.stage(Period { to: next.min(period.to), ..period })?;
        let mut deleted = IndexMap::from([("spine".to_owned(), all.rows - staged.rows)]);
        for table in self.events() {
            let session = self.engine.session();
            let what = table.what();
            let (at, until) = (self.ticks.literal(at), self.ticks.literal(period.as_of));
            let later = ident("known_at").gt_eq(at).and(ident("known_at").lt(until));
            let rows = table.all(&session, self.ticks)?.filter(later).map_err(|e| refused(&what, &e))?;
            let rows = self.engine.wait(rows.count()).map_err(|e| failed(&what, &e))?;
            deleted.insert(table.declared.name.clone(), rows as u64);
        }
        let (rows, different) = match staged.rows {
            0 => (0, IndexMap::new()),
            rows => {
                let without = self.computed(&staged, at.min(period.as_of))?;
                compare(self, whole, &without, Some(rows))?
            }
        };
        Ok(Cut { at, chosen, rows, deleted, different })
    }

    /// The features of a staged spine, in a temporary file.
    pub(crate) fn computed(&self, staged: &StagedSpine, as_of: Timestamp) -> Result<tempfile::NamedTempFile> {
        let write = |source| Error::Write { path: self.folder.path().into(), source };
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).map_err(write)?;
        self.write_rows(staged, as_of, file.reopen().map_err(write)?, file.path())?;
        Ok(file)
    }

    /// Times at which a look into the future would show.
    fn chosen_cuts(&self, staged: &StagedSpine) -> Result<Vec<(Timestamp, String)>> {
        let mut cuts: Vec<(Timestamp, String)> = Vec::new();
        let session = self.engine.session();
        let time_of_row = |row: u64| {
            let tick = cast(ident("prediction_time"), datafusion::arrow::datatypes::DataType::Int64);
            let frame = staged.frame_in(&session)?.filter(ident("row_id").eq(lit(row as i64)));
            let frame = frame.and_then(|frame| frame.select(vec![tick])).map_err(|e| refused("spine", &e))?;
            self.first_number(frame, "spine")
        };
        for part in 1..PARTS {
            let row = staged.rows * part / PARTS;
            if let Some(at) = time_of_row(row)?.and_then(|tick| self.ticks.time(tick)) {
                cuts.push((at, format!("{part} of {PARTS} parts of the predictions are before it")));
            }
        }
        let (first, last) = (time_of_row(0)?, time_of_row(staged.rows - 1)?);
        let (Some(first), Some(last)) = (first, last) else { return Ok(cuts) };
        for table in self.events().iter().filter(|table| matches!(table.declared.known_at, KnownAt::Expression(_))) {
            let what = table.what();
            let tick = |name: &str| cast(ident(name), datafusion::arrow::datatypes::DataType::Int64);
            let within = ident("known_at")
                .gt(self.ticks.tick_literal(first))
                .and(ident("known_at").lt_eq(self.ticks.tick_literal(last)));
            let frame = table.all(&session, self.ticks)?;
            let frame = frame
                .filter(within.and(ident("event_time").is_not_null()))
                .and_then(|frame| {
                    frame.select(vec![
                        tick("known_at").alias("known_at"),
                        (tick("known_at") - tick("event_time")).alias("after"),
                    ])
                })
                .and_then(|frame| {
                    frame.sort(vec![ident("after").sort(false, false), ident("known_at").sort(true, false)])
                })
                .and_then(|frame| frame.limit(0, Some(1)))
                .map_err(|e| refused(&what, &e))?;
            if let Some(at) = self.first_number(frame, &what)?.and_then(|tick| self.ticks.time(tick)) {
                let name = &table.declared.name;
                cuts.push((at, format!("the row of '{name}' that was known latest after its event becomes known")));
            }
        }
        cuts.sort();
        cuts.dedup_by(|a, b| a.0 == b.0);
        Ok(cuts)
    }

    fn first_number(&self, frame: datafusion::prelude::DataFrame, what: &str) -> Result<Option<i64>> {
        let batches = self.engine.wait(frame.collect()).map_err(|e| failed(what, &e))?;
        let batch = batches.iter().find(|batch| batch.num_rows() > 0);
        Ok(batch.and_then(|batch| batch.column(0).as_primitive::<Int64Type>().iter().next().flatten()))
    }
}

/// Reads a computed file in the order of its rows.
fn reader(pipeline: &FeaturePipeline, file: &tempfile::NamedTempFile) -> Result<ParquetRecordBatchReader> {
    let unreadable = |reason: String| Error::Unreadable { path: pipeline.folder.path().into(), reason };
    let file: File = file.reopen().map_err(|e| unreadable(e.to_string()))?;
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.with_batch_size(8192).build());
    reader.map_err(|e| unreadable(e.to_string()))
}

/// Compares the first rows of two computed files, bit for bit: how many were compared, and the features that differ.
fn compare(
    pipeline: &FeaturePipeline,
    whole: &tempfile::NamedTempFile,
    without: &tempfile::NamedTempFile,
    rows: Option<u64>,
) -> Result<(u64, IndexMap<String, Different>)> {
    let what = pipeline.what();
    let unreadable = |e: &dyn std::fmt::Display| Error::BadValue { what: what.clone(), reason: e.to_string() };
    let (mut a, mut b) = (reader(pipeline, whole)?, reader(pipeline, without)?);
    let mut left = rows.unwrap_or(u64::MAX);
    let (mut compared, mut different) = (0, IndexMap::new());
    while left > 0 {
        let (Some(x), Some(y)) =
            (a.next().transpose().map_err(|e| unreadable(&e))?, b.next().transpose().map_err(|e| unreadable(&e))?)
        else {
            break;
        };
        // Both files have batches of the same size, up to the last.
        let n = x.num_rows().min(y.num_rows()).min(usize::try_from(left).unwrap_or(usize::MAX));
        compare_batches(&x.slice(0, n), &y.slice(0, n), &mut different).map_err(|e| unreadable(&e))?;
        compared += n as u64;
        left -= n as u64;
    }
    Ok((compared, different))
}

fn compare_batches(
    whole: &RecordBatch,
    without: &RecordBatch,
    different: &mut IndexMap<String, Different>,
) -> std::result::Result<(), datafusion::arrow::error::ArrowError> {
    let schema = whole.schema();
    let shown = FormatOptions::default().with_null("null");
    for (i, field) in schema.fields().iter().enumerate() {
        // Labels come from later by their nature.
        if ROW_COLUMNS.contains(&field.name().as_str()) || field.name() == crate::pipeline::LABEL {
            continue;
        }
        let (a, b) = (whole.column(i), without.column(i));
        if a.to_data() == b.to_data() {
            continue;
        }
        let order = make_comparator(a, b, SortOptions::default())?;
        let changed = |row: &usize| a.is_null(*row) != b.is_null(*row) || order(*row, *row).is_ne();
        let mut rows = (0..a.len()).filter(changed);
        let Some(first) = rows.next() else { continue };
        let count = 1 + rows.count() as u64;
        let text = |batch: &RecordBatch, column: usize| {
            ArrayFormatter::try_new(batch.column(column), &shown).map(|format| format.value(first).to_string())
        };
        let example = Example {
            id: text(whole, 1)?,
            prediction_time: text(whole, 2)?,
            with_future: text(whole, i)?,
            without_future: text(without, i)?,
        };
        different.entry(field.name().clone()).or_insert(Different { rows: 0, example }).rows += count;
    }
    Ok(())
}
