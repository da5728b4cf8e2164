//! Predictions and the labels that come to them later, joined by id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use xxhash_rust::xxh3::xxh3_128;

use crate::baseline::Baseline;
use crate::error::{Error, Result};
use crate::fleet::Labels;
use crate::metric::performance::Calibration;
use crate::policy::performance::{Label, Prediction};
use crate::snapshot::{Column, Condition, Slice, Snapshot, Test, Value};

/// Reads the predictions made since a time and before another, oldest first, with what is known of their truth. An id
/// that comes twice among the labels has the label that became known last, or else comes last.
///
/// # Errors
/// A snapshot or column that is not there or cannot be read; [`Error::BadValue`] for a column of times that holds none.
pub fn join(labels: &Labels, zone: &TimeZone, since: Timestamp, before: Timestamp) -> Result<Vec<Prediction>> {
    let mut classes = Classes::default();
    let positive = classes.code(labels.positive.clone());
    let predictions = during(&Snapshot::open(&labels.predictions)?, &labels.time, zone, since, before)?;
    let column = |name: &str| predictions.column(name);
    let times = times(&predictions, column(&labels.time)?, zone)?;
    let said = match &labels.prediction {
        Some(name) => Some(truths(&predictions, column(name)?, &mut classes)?),
        None => None,
    };
    let scores = match &labels.score {
        Some(name) => numbers(&predictions, column(name)?)?,
        None => vec![f64::NAN; times.len()],
    };
    let proxies = match &labels.proxy {
        Some(name) => truths(&predictions, column(name)?, &mut classes)?,
        None => vec![None; times.len()],
    };
    let delay = i64::try_from(labels.delay.as_micros()).unwrap_or(i64::MAX);

    // What came true of each row, and when that became known.
    let mut known: Vec<Option<(Truth, i64)>> = vec![None; times.len()];
    let own_time = |row: usize| times[row].map_or(i64::MAX, |at| at.saturating_add(delay));
    match &labels.from {
        None => {
            let came = match &labels.label_time {
                Some(name) => Some(self::times(&predictions, column(name)?, zone)?),
                None => None,
            };
            for (row, truth) in truths(&predictions, column(&labels.label)?, &mut classes)?.into_iter().enumerate() {
                let at = came.as_ref().map_or(Some(own_time(row)), |came| came[row]);
                known[row] = truth.zip(at);
            }
        }
        Some(from) => {
            let id = labels.id.as_deref().unwrap_or_default();
            let rows = ids(&predictions, column(id)?)?;
            let mut row_of: HashMap<u128, usize> = HashMap::with_capacity(rows.len());
            for (row, id) in rows.into_iter().enumerate() {
                let Some(id) = id else { continue };
                // A prediction that was logged twice is the last one; the other has no label.
                row_of.insert(id, row);
            }
            let mut table = Snapshot::open(from)?;
            if let Some(name) = &labels.label_time {
                table = during(&table, name, zone, since, before)?;
            }
            let ids = ids(&table, table.column(id)?)?;
            let came = match &labels.label_time {
                Some(name) => Some(self::times(&table, table.column(name)?, zone)?),
                None => None,
            };
            let truths = truths(&table, table.column(&labels.label)?, &mut classes)?;
            for (i, (id, truth)) in ids.into_iter().zip(truths).enumerate() {
                let Some(&row) = id.and_then(|id| row_of.get(&id)) else { continue };
                let at = came.as_ref().map_or(Some(own_time(row)), |came| came[i]);
                if let Some(new) = truth.zip(at)
                    && known[row].is_none_or(|(_, last)| last <= new.1)
                {
                    known[row] = Some(new);
                }
            }
        }
    }

    let mut joined = Vec::with_capacity(times.len());
    for (row, at) in times.iter().enumerate() {
        let Some(at) = *at else { continue };
        let said = said.as_ref().map(|said| said[row]);
        let score = scores[row];
        if matches!(said, Some(None)) || (said.is_none() && score.is_nan()) {
            continue;
        }
        let says_positive = match said.flatten() {
            Some(said) => said.class == positive,
            None => score >= 0.5,
        };
        let label = |(truth, known_at): (Truth, i64)| Label {
            known_at,
            positive: truth.class == positive,
            correct: said
                .flatten()
                .map_or((truth.class == positive) == says_positive, |said| said.class == truth.class),
            error: said.flatten().map_or(f64::NAN, |said| said.number) - truth.number,
        };
        joined.push(Prediction {
            at,
            positive: says_positive,
            score,
            label: known[row].map(label),
            proxy: proxies[row].map(|proxy| label((proxy, at))),
        });
    }
    joined.sort_by_key(|prediction| prediction.at);
    Ok(joined)
}

/// Calibrates scores by the reference snapshot. `None` if there is no score, or no reference that still has its rows.
///
/// # Errors
/// A snapshot or column that is not there or cannot be read.
pub fn calibrate(labels: &Labels) -> Result<Option<Calibration>> {
    let (Some(score), Some(reference)) = (&labels.score, &labels.reference) else { return Ok(None) };
    if Baseline::is_one(Path::new(reference)) {
        return Ok(None);
    }
    let reference = Snapshot::open(reference)?;
    // A baseline of features alone does not calibrate anything.
    let (Ok(score), Ok(label)) = (reference.column(score), reference.column(&labels.label)) else { return Ok(None) };
    let mut classes = Classes::default();
    let positive = classes.code(labels.positive.clone());
    let truths = truths(&reference, label, &mut classes)?;
    let scores = numbers(&reference, score)?;
    let known = scores.into_iter().zip(truths).filter_map(|(score, truth)| Some((score, truth?.class == positive)));
    Ok(Calibration::fit(known))
}

/// A label or prediction: its class, and its number if it is one.
#[derive(Clone, Copy, Debug)]
struct Truth {
    class: u32,
    number: f64,
}

/// Codes of classes, the same for the same text on every side.
#[derive(Default)]
struct Classes(HashMap<String, u32>);

impl Classes {
    fn code(&mut self, class: String) -> u32 {
        let next = self.0.len() as u32;
        match self.0.entry(class) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(next),
        }
    }
}

fn truths(snapshot: &Snapshot, column: &Column, classes: &mut Classes) -> Result<Vec<Option<Truth>>> {
    let mut truths = Vec::with_capacity(snapshot.rows() as usize);
    snapshot.each_value(column, |value| {
        let number = value.number().unwrap_or(f64::NAN);
        // Measured numbers are all different, and are no classes.
        let class = match value {
            Value::Number(x) if x.fract() != 0.0 => Some(u32::MAX),
            // Flags and 0 and 1 are the same, as scores and labels often are one and the other.
            Value::Flag(flag) => Some(classes.code(u8::from(flag).to_string())),
            value => value.text().map(|text| classes.code(text)),
        };
        truths.push(class.map(|class| Truth { class, number }));
    })?;
    Ok(truths)
}

fn numbers(snapshot: &Snapshot, column: &Column) -> Result<Vec<f64>> {
    let mut numbers = Vec::with_capacity(snapshot.rows() as usize);
    snapshot.each_value(column, |value| numbers.push(value.number().unwrap_or(f64::NAN)))?;
    Ok(numbers)
}

fn ids(snapshot: &Snapshot, column: &Column) -> Result<Vec<Option<u128>>> {
    let mut ids = Vec::with_capacity(snapshot.rows() as usize);
    snapshot.each_value(column, |value| {
        ids.push(match value {
            Value::Text(text) => Some(xxh3_128(text.as_bytes())),
            value => value.text().map(|text| xxh3_128(text.as_bytes())),
        });
    })?;
    Ok(ids)
}

fn times(snapshot: &Snapshot, column: &Column, zone: &TimeZone) -> Result<Vec<Option<i64>>> {
    let (mut times, mut wrong) = (Vec::with_capacity(snapshot.rows() as usize), false);
    snapshot.each_value(column, |value| {
        times.push(match value {
            Value::Missing => None,
            Value::Time(at) => Some(at),
            Value::Day(at) => midnight(at, zone),
            _ => {
                wrong = true;
                None
            }
        });
    })?;
    if wrong {
        return Err(Error::BadValue {
            what: format!("{}, column '{}'", snapshot.spec(), column.name),
            reason: format!("is no time but {}", column.kind.name()),
        });
    }
    Ok(times)
}

/// When a day began, by the clock on the wall.
fn midnight(day: i64, zone: &TimeZone) -> Option<i64> {
    let civil: DateTime = Timestamp::from_microsecond(day).ok()?.to_zoned(TimeZone::UTC).datetime();
    Some(civil.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond())
}

/// The rows of some time.
fn during(snapshot: &Snapshot, column: &str, zone: &TimeZone, since: Timestamp, before: Timestamp) -> Result<Snapshot> {
    let condition = Condition { column: column.into(), test: Test::during(since, before, zone) };
    let part = snapshot.sliced(&[Slice(vec![condition])])?.pop();
    part.ok_or_else(|| Error::NoRows { path: snapshot.spec().into() })
}
