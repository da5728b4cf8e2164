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
use crate::metric::performance::{Calibration, Quality};
use crate::policy::performance::{Label, Prediction};
use crate::snapshot::{Column, Condition, Slice, Snapshot, Test, Value};

/// Predictions with what is known of their truth.
pub struct Joined {
    /// Oldest first.
    pub predictions: Vec<Prediction>,
    /// Classes among labels and predictions.
    pub classes: usize,
}

/// Reads the predictions made since a time and before another. An id that comes twice among the labels has the label that
/// became known last, or else comes last; one that comes twice among the predictions is the last of them. A day on which a
/// label came is over before the label is known.
///
/// # Errors
/// A snapshot or column that is not there or cannot be read; [`Error::BadValue`] for a column of times that holds none, and
/// for labels that are measured numbers where classes are judged.
pub fn join(labels: &Labels, metric: Quality, zone: &TimeZone, since: Timestamp, before: Timestamp) -> Result<Joined> {
    let mut classes = Classes::default();
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
                Some(name) => Some(arrivals(&predictions, column(name)?, zone)?),
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
                Some(name) => Some(arrivals(&table, table.column(name)?, zone)?),
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

    if !metric.is_of_numbers() && known.iter().flatten().any(|(truth, _)| truth.class == Truth::MEASURED) {
        return Err(Error::BadValue {
            what: format!("labels '{}'", labels.label),
            reason: "are measured numbers, not classes; set trigger.performance.metric to mae or rmse".into(),
        });
    }
    let positive = classes.code(normal(labels.positive.clone()));
    let mut found: Vec<u32> = known.iter().flatten().map(|(truth, _)| truth.class).collect();
    found.sort_unstable();
    found.dedup();
    if !metric.is_of_numbers() && found.len() == 2 && !found.contains(&positive) {
        let names: Vec<&str> = found.iter().filter_map(|&class| classes.name(class)).collect();
        return Err(Error::BadValue {
            what: format!("labels '{}'", labels.label),
            reason: format!(
                "are {}, never '{}'; name the one that scores are about with labels.positive",
                names.join(" and "),
                labels.positive
            ),
        });
    }
    if metric == Quality::LogLoss && scores.iter().any(|score| !score.is_nan() && !(0.0..=1.0).contains(score)) {
        return Err(Error::BadValue {
            what: format!("scores '{}'", labels.score.as_deref().unwrap_or_default()),
            reason: "lie outside 0 to 1; log_loss takes probabilities".into(),
        });
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
            correct: said.flatten().map_or((truth.class == positive) == says_positive, |said| said.is(truth)),
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
    Ok(Joined { predictions: joined, classes: classes.0.len() })
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
    let positive = classes.code(normal(labels.positive.clone()));
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

impl Truth {
    /// Stands for all numbers with a fraction, which are no classes.
    const MEASURED: u32 = u32::MAX;

    fn is(self, other: Self) -> bool {
        self.class == other.class && (self.class != Self::MEASURED || self.number == other.number)
    }
}

/// The same text for the same class: labels and predictions are often one a flag or text and the other a number.
fn normal(class: String) -> String {
    match &*class {
        "true" | "True" | "TRUE" => "1".into(),
        "false" | "False" | "FALSE" => "0".into(),
        text => match text.strip_suffix(".0") {
            Some(whole) if whole.parse::<i64>().is_ok() => whole.to_owned(),
            _ => class,
        },
    }
}

/// Codes of classes, the same for the same text on every side.
#[derive(Default)]
struct Classes(HashMap<String, u32>);

impl Classes {
    fn name(&self, code: u32) -> Option<&str> {
        self.0.iter().find(|(_, known)| **known == code).map(|(name, _)| name.as_str())
    }

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
        let class = match value {
            Value::Number(x) if x.fract() != 0.0 => Some(Truth::MEASURED),
            value => value.text().map(|text| classes.code(normal(text))),
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
    points(snapshot, column, |day| midnight(day, zone))
}

/// When labels came: a day is over by the next midnight.
fn arrivals(snapshot: &Snapshot, column: &Column, zone: &TimeZone) -> Result<Vec<Option<i64>>> {
    points(snapshot, column, |day| midnight(day + 86_400_000_000, zone))
}

fn points(snapshot: &Snapshot, column: &Column, of_day: impl Fn(i64) -> Option<i64>) -> Result<Vec<Option<i64>>> {
    let (mut times, mut wrong) = (Vec::with_capacity(snapshot.rows() as usize), false);
    snapshot.each_value(column, |value| {
        times.push(match value {
            Value::Missing => None,
            Value::Time(at) => Some(at),
            Value::Day(day) => of_day(day),
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
