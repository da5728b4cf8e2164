//! The predictions of the arms of a rollout, which a column tells apart.

use std::collections::{BTreeSet, HashSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::{LabelQuery, LabelReader, join};
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::model::Options;
use driftsweep::snapshot::{Column, Condition, RowValue, Slice, Snapshot, Test};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::trigger::labels::Prediction;
use driftsweep_fleet::Labels;

/// The rows of both arms, of predictions of a time.
#[derive(Clone, Copy, Debug)]
pub struct ArmQuery<'a> {
    /// Where predictions and labels are.
    pub labels: &'a Labels,
    /// The column that says which arm made a prediction.
    pub column: &'a str,
    /// What it holds for the candidate, and for production.
    pub arms: [&'a str; 2],
    /// The time zone of columns of dates.
    pub zone: &'a TimeZone,
    /// Predictions from this time on ...
    pub since: Timestamp,
    /// ... and before this one.
    pub before: Timestamp,
}

/// The part of predictions that one arm made.
pub(super) fn of_arm(predictions: &Snapshot, column: &str, value: &str) -> Result<Snapshot> {
    let condition = Condition { column: column.into(), test: Test::Among(vec![value.into()]) };
    let part = predictions.sliced(&[Slice(vec![condition])])?.pop();
    part.ok_or_else(|| Error::NoRows { path: predictions.spec().into() })
}

impl<'a> ArmQuery<'a> {
    fn question(&self, metric: PerformanceMetric, before: Timestamp, arm: Option<&'a str>) -> LabelQuery<'a> {
        let ArmQuery { column, zone, since, .. } = *self;
        LabelQuery { metric, zone, since, before, arm: arm.map(|arm| (column, arm)) }
    }

    /// Calls `each` with the arm of each prediction, 0 for the candidate, and the prediction with its label where that was known
    /// before `known`.
    ///
    /// # Errors
    /// Those of [`join`].
    pub fn labelled(
        &self,
        metric: PerformanceMetric,
        known: Timestamp,
        options: &Options,
        each: &mut dyn FnMut(usize, &Prediction),
    ) -> Result<()> {
        let before = self.before.as_microsecond();
        for (arm, name) in self.arms.into_iter().enumerate() {
            join(self.labels, self.question(metric, known, Some(name)), options, &mut |prediction| {
                if prediction.at < before {
                    each(arm, &prediction);
                }
            })?;
        }
        Ok(())
    }

    /// The predictions of the time, of all arms.
    fn whole(&self) -> Result<Snapshot> {
        let reader = self.reader(self.question(PerformanceMetric::Accuracy, self.before, None));
        let whole = Snapshot::open(self.labels.predictions.expose())?;
        // A day says neither before nor after what a prediction was made.
        let mut is_day = false;
        if whole.rows() > 0 {
            let time = whole.column(&self.labels.time)?;
            whole.each_value_in(time, 0, |value| is_day |= matches!(value, RowValue::Day(_)))?;
        }
        if is_day {
            return Err(Error::BadValue {
                what: format!("{}, column '{}'", whole.spec(), self.labels.time),
                reason: "holds dates, and arms are compared by the times of predictions; log a timestamp, and name it with labels.time"
                    .into(),
            });
        }
        reader.during(&whole, Some(&self.labels.time), SignedDuration::ZERO)
    }

    /// The time of the newest prediction of both arms; `None` where there is none.
    ///
    /// # Errors
    /// As for [`Self::rows`].
    pub fn newest(&self) -> Result<Option<Timestamp>> {
        let reader = self.reader(self.question(PerformanceMetric::Accuracy, self.before, None));
        let mut newest = None;
        for table in self.snapshots()?.into_iter().filter(|table| table.rows() > 0) {
            let time = table.column(&self.labels.time)?;
            for chunk in 0..table.chunks() {
                let times = reader.times(&table, time, chunk, false)?.into_iter().flatten();
                newest = newest.max(times.filter(|at| (reader.span.0..reader.span.1).contains(at)).max());
            }
        }
        Ok(newest.and_then(|newest| Timestamp::from_microsecond(newest).ok()))
    }

    /// What the column of arms holds beside both of them, a few values; none where there are no predictions.
    ///
    /// # Errors
    /// A snapshot or column that does not exist or cannot be read.
    pub fn other_arms(&self) -> Result<BTreeSet<String>> {
        const SHOWN: usize = 5;
        let whole = self.whole()?;
        let mut found = BTreeSet::new();
        if whole.rows() > 0 {
            whole.each_value(whole.column(self.column)?, |value| {
                if found.len() < SHOWN {
                    found.extend(value.text().filter(|text| !self.arms.contains(&&**text)));
                }
            })?;
        }
        Ok(found)
    }

    /// The snapshots of both arms: the candidate's, and that of production.
    ///
    /// # Errors
    /// A snapshot or column that does not exist or cannot be read.
    pub fn snapshots(&self) -> Result<[Snapshot; 2]> {
        let whole = self.whole()?;
        let [candidate, production] = self.arms.map(|arm| match whole.rows() {
            0 => Ok(whole.clone()),
            _ => of_arm(&whole, self.column, arm),
        });
        Ok([candidate?, production?])
    }

    fn reader(&self, question: LabelQuery<'a>) -> LabelReader<'a> {
        let span = (self.since.as_microsecond(), self.before.as_microsecond());
        LabelReader { labels: self.labels, question, span, delay: 0 }
    }

    /// Calls `each` with the rows of both arms.
    ///
    /// # Errors
    /// A snapshot or column that does not exist or cannot be read; [`Error::BadValue`] for a column that is neither numbers nor
    /// flags, and for a column of times that holds none.
    pub fn rows(&self, columns: &ArmColumns<'_>, each: &mut dyn FnMut(ArmRow<'_>)) -> Result<()> {
        let reader = self.reader(self.question(PerformanceMetric::Accuracy, self.before, None));
        for (arm, table) in self.snapshots()?.into_iter().enumerate() {
            if table.rows() == 0 {
                continue;
            }
            let time = table.column(&self.labels.time)?;
            let id = self.labels.id.as_deref().and_then(|id| table.find(id));
            let unit = columns.unit.map(|unit| table.column(unit)).transpose()?;
            let values = columns.values.iter().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?;
            let mut position = 0u64;
            // A prediction that was logged more than once counts once.
            let mut known = HashSet::new();
            for chunk in 0..table.chunks() {
                let at = reader.times(&table, time, chunk, false)?;
                let hashes = |column: Option<&Column>| column.map(|column| hashes(&table, column, chunk)).transpose();
                let (ids, units) = (hashes(id)?, hashes(unit)?);
                let values =
                    values.iter().map(|column| numbers(&table, column, chunk)).collect::<Result<Vec<Vec<f64>>>>()?;
                let mut row_values = vec![f64::NAN; values.len()];
                for (row, at) in at.into_iter().enumerate() {
                    position += 1;
                    let Some(at) = at.filter(|at| (reader.span.0..reader.span.1).contains(at)) else { continue };
                    for (own, column) in row_values.iter_mut().zip(&values) {
                        *own = column[row];
                    }
                    let own = || xxh3_64(&position.to_le_bytes());
                    let hash = |of: &Option<Vec<Option<u64>>>| of.as_ref().and_then(|of| of[row]);
                    let id = hash(&ids);
                    if id.is_some_and(|id| !known.insert(id ^ xxh3_64(&at.to_le_bytes()))) {
                        continue;
                    }
                    let (key, unit) = (id.unwrap_or_else(own), hash(&units).unwrap_or_else(own));
                    each(ArmRow { arm, at, key, unit, values: &row_values });
                }
            }
        }
        Ok(())
    }
}

/// The columns that are read of the rows of both arms.
#[derive(Clone, Debug, Default)]
pub struct ArmColumns<'a> {
    /// Numbers and flags.
    pub values: Vec<&'a str>,
    /// What is assigned as one.
    pub unit: Option<&'a str>,
}

/// A row of an arm.
#[derive(Clone, Copy, Debug)]
pub struct ArmRow<'a> {
    /// 0 for the candidate, 1 for production.
    pub arm: usize,
    /// When the prediction was made, in microseconds since 1970.
    pub at: i64,
    /// Distinguishes predictions of the same time.
    pub key: u64,
    /// A hash of what was assigned; each row by itself where that is not known.
    pub unit: u64,
    /// The values of the columns; NaN where one is missing. Flags are 0 and 1.
    pub values: &'a [f64],
}

/// Hashes of the values of a column; none where one is missing.
fn hashes(table: &Snapshot, column: &Column, chunk: usize) -> Result<Vec<Option<u64>>> {
    let mut hashes = Vec::new();
    table.each_value_in(column, chunk, |value| {
        hashes.push(match value {
            RowValue::Text(text) => Some(xxh3_64(text.as_bytes())),
            value => value.text().map(|text| xxh3_64(text.as_bytes())),
        });
    })?;
    Ok(hashes)
}

/// Numbers and flags of a column.
fn numbers(table: &Snapshot, column: &Column, chunk: usize) -> Result<Vec<f64>> {
    let (mut numbers, mut wrong) = (Vec::new(), false);
    table.each_value_in(column, chunk, |value| {
        wrong |= !matches!(value, RowValue::Missing) && value.number().is_none();
        numbers.push(value.number().unwrap_or(f64::NAN));
    })?;
    match wrong {
        false => Ok(numbers),
        true => Err(Error::BadValue {
            what: format!("{}, column '{}'", table.spec(), column.name),
            reason: format!("holds {}; name a column of numbers or flags", column.kind.name()),
        }),
    }
}
