//! The rows of a long period in memory, with every version of their labels: the set that any night would have given is a slice of
//! them. What a feature of a row is does not depend on the night, as `features verify` tests; what is known of its label does.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt64Array, new_empty_array};
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use driftsweep_common::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};

use crate::in_order::Layout;
use crate::materialize::draft_in;
use crate::pipeline::{FeaturePipeline, Period, StagedSpine};
use crate::rows::SetRows;
use crate::tables::Ticks;
use crate::write::OrderedRows;

/// The rows of a long period, in the order of their times.
pub struct PastRows {
    rows: SetRows,
    /// The time of each prediction, in nanoseconds since 1970.
    times: Vec<i64>,
    labels: LabelVersions,
    maturity: SignedDuration,
}

/// What became known of labels, in order of key and time. A label that is corrected has several versions.
struct LabelVersions {
    ticks: Ticks,
    /// When each version was known, in ticks.
    known: Vec<i64>,
    values: ArrayRef,
    /// The same as numbers, NaN where the label is missing.
    numbers: Vec<f64>,
    /// The versions of each row.
    of: Vec<Range<usize>>,
}

impl FeaturePipeline {
    /// Computes the rows of a period, with all that ever became known of their labels.
    ///
    /// # Errors
    /// [`Error::BadValue`] where the feature set has no label, or the period no prediction; those of
    /// [`FeaturePipeline::materialize`].
    pub fn past(&self, period: Period) -> Result<PastRows> {
        let staged = self.stage(period)?;
        let bad = |reason: String| Error::BadValue { what: format!("feature_set '{}'", self.set.name), reason };
        let Some(label) = &self.set.label else {
            return Err(bad(format!("it has no label; add [feature_set.{}.label]", self.set.name)));
        };
        if staged.rows == 0 {
            let from = period.from.map_or_else(String::new, |from| format!(" from {from}"));
            return Err(bad(format!(
                "the spine has no prediction{from} to {}; check spine.path and spine.time, or choose another period",
                period.to
            )));
        }
        let folder = self.folder.path();
        let file = draft_in(folder).map_err(|source| Error::Write { path: folder.into(), source })?;
        let reopened = file.reopen().map_err(|source| Error::Write { path: file.path().into(), source })?;
        self.write_rows(&staged, period.as_of, reopened, file.path())?;
        let rows = SetRows::read(file.path())?;
        let times = rows.prediction_times()?;
        let labels = self.label_versions(&staged, rows.label_type()?)?;
        Ok(PastRows { rows, times, labels, maturity: label.maturity })
    }

    /// Every version of the label of each row of a staged spine.
    fn label_versions(&self, staged: &StagedSpine, kind: DataType) -> Result<LabelVersions> {
        let what = format!("feature_set '{}', label", self.set.name);
        let bad = |error: datafusion::arrow::error::ArrowError| Error::BadValue {
            what: what.clone(),
            reason: error.to_string(),
        };
        let session = self.engine.session();
        let rows = usize::try_from(staged.rows).unwrap_or(usize::MAX);
        let mut found =
            Versions { known: Vec::new(), values: Vec::new(), of: vec![0..0; rows], key: None, latest: None };
        // At the end of time all versions are before the prediction, in the order in which they became known.
        let lookup = self.label_lookup(&session, &staged.frame_in(&session)?, Timestamp::MAX, false)?;
        if let Some(lookup) = lookup {
            let (sorted, layout) = lookup.sorted()?;
            let mut batches = OrderedRows::start(&self.engine, sorted, &what)?;
            let schema = batches.schema();
            let fields = (0..layout.keys).map(|i| SortField::new(schema.field(i).data_type().clone()));
            let mut keys = RowConverter::new(fields.collect()).map_err(bad)?;
            while let Some(batch) = batches.next()? {
                found.read(&batch, layout, &mut keys).map_err(bad)?;
            }
        }
        let parts: Vec<&dyn Array> = found.values.iter().map(AsRef::as_ref).collect();
        let values = if parts.is_empty() { new_empty_array(&kind) } else { concat(&parts).map_err(bad)? };
        let values = cast(&values, &kind).map_err(bad)?;
        let numbers = match kind.is_numeric() || kind == DataType::Boolean {
            true => cast(&values, &DataType::Float64).map_err(bad)?,
            false => {
                let reason =
                    format!("it is {kind}, not a number; convert it with CAST, or give its values numbers with CASE");
                return Err(Error::BadValue { what, reason });
            }
        };
        let numbers = numbers.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)).collect();
        Ok(LabelVersions { ticks: self.ticks, known: found.known, values, numbers, of: found.of })
    }
}

/// Versions of labels while they are read, key by key.
struct Versions {
    known: Vec<i64>,
    values: Vec<ArrayRef>,
    of: Vec<Range<usize>>,
    /// The key of the last row, and where its versions begin.
    key: Option<(OwnedRow, usize)>,
    /// The time of the latest event of the key so far.
    latest: Option<i64>,
}

impl Versions {
    fn read(
        &mut self,
        batch: &datafusion::arrow::array::RecordBatch,
        layout: Layout,
        keys: &mut RowConverter,
    ) -> std::result::Result<(), datafusion::arrow::error::ArrowError> {
        let own = keys.convert_columns(&batch.columns()[..layout.keys])?;
        let at = batch.column(layout.at()).as_primitive::<Int64Type>();
        let is_spine = batch.column(layout.is_spine()).as_boolean();
        let event = batch.column(layout.event()).as_primitive::<Int64Type>();
        let ids = batch.column(layout.row()).as_primitive::<Int64Type>();
        let mut taken = Vec::new();
        for row in 0..batch.num_rows() {
            let begins = match &self.key {
                Some((key, begins)) if key.row() == own.row(row) => *begins,
                _ => {
                    self.key = Some((own.row(row).owned(), self.known.len()));
                    self.latest = None;
                    self.known.len()
                }
            };
            if is_spine.value(row) {
                if let Some(of) = usize::try_from(ids.value(row)).ok().and_then(|id| self.of.get_mut(id)) {
                    *of = begins..self.known.len();
                }
            } else if self.latest.is_none_or(|latest| event.value(row) >= latest) {
                // As a lookup takes the latest event: of what is known, not of what happened earlier.
                self.latest = Some(event.value(row));
                self.known.push(at.value(row));
                taken.push(row as u64);
            }
        }
        self.values.push(take(batch.column(layout.value(0)), &UInt64Array::from(taken), None)?);
        Ok(())
    }
}

impl PastRows {
    /// The rows, with the labels that became known at last.
    pub fn rows(&self) -> &SetRows {
        &self.rows
    }

    /// The time of each prediction, in nanoseconds since 1970.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// The rows of predictions from a time on, and before another.
    pub fn between(&self, from: Option<Timestamp>, to: Timestamp) -> Range<usize> {
        let first_at = |time: Timestamp| {
            let time = time.as_nanosecond();
            self.times.partition_point(|&own| i128::from(own) < time)
        };
        let end = first_at(to);
        from.map_or(0, first_at).min(end)..end
    }

    /// The set of a period as the pipeline gives it: what was known before `as_of`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where the labels do not fit.
    pub fn set(&self, period: Period) -> Result<SetRows> {
        let rows = self.between(period.from, period.to);
        let before = self.labels.ticks.count(period.as_of);
        let versions = rows.clone().map(|row| self.labels.version(row, before).map(|version| version as u64));
        let labels = take(&self.labels.values, &versions.collect::<UInt64Array>(), None);
        let labels = labels.map_err(|e| Error::BadValue { what: "label".into(), reason: e.to_string() })?;
        self.rows.relabelled(rows, labels)
    }

    /// What was known before a time of the label of a row; `None` where none was, or it is missing.
    pub fn label_before(&self, row: usize, time: Timestamp) -> Option<f64> {
        let version = self.labels.version(row, self.labels.ticks.count(time))?;
        Some(self.labels.numbers[version]).filter(|label| !label.is_nan())
    }

    /// The label that became known of a row at last.
    pub fn label(&self, row: usize) -> Option<f64> {
        let last = self.labels.of[row].clone().next_back()?;
        Some(self.labels.numbers[last]).filter(|label| !label.is_nan())
    }

    /// When a label of a row was first known and mature, in nanoseconds since 1970: only later than that it may be used.
    pub fn usable_after(&self, row: usize) -> Option<i64> {
        let labels = &self.labels;
        let first = labels.of[row].clone().find(|&version| !labels.numbers[version].is_nan())?;
        let known = labels.ticks.time(labels.known[first])?.as_nanosecond();
        let mature = i128::from(self.times[row]) + self.maturity.as_nanos();
        i64::try_from(known.max(mature)).ok()
    }
}

impl LabelVersions {
    /// The version of a row that was known before a tick.
    fn version(&self, row: usize, before: i64) -> Option<usize> {
        let of = self.of[row].clone();
        let known = self.known[of.clone()].partition_point(|&at| at < before);
        known.checked_sub(1).map(|last| of.start + last)
    }
}
