//! What a policy would have predicted, month by month, and how well; and the baselines that need no model.

use std::ops::Range;

use driftsweep::metric::performance::{ClassifiedRow, Measurement, PerformanceMetric, of_classes, of_errors};
use driftsweep_common::error::Result;
use driftsweep_features::PastRows;
use driftsweep_ops::policy::replay::Replay;
use driftsweep_trainers::Objective;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::models::Models;

/// The confidence of intervals.
const CONFIDENCE: f64 = 0.95;

/// A prediction: the probability of class 1 or the number, and whether class 1 was predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    pub score: f64,
    pub positive: bool,
}

/// Months of the calendar, with the rows of each.
pub fn months(
    past: &PastRows,
    rows: Range<usize>,
    (from, to): (Timestamp, Timestamp),
    zone: &TimeZone,
) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    let mut begins = from;
    let mut first = rows.start;
    while begins < to {
        let month = begins.to_zoned(zone.clone());
        let next = month.date().first_of_month().checked_add(jiff::Span::new().months(1));
        let next = next.and_then(|next| next.to_zoned(zone.clone())).map_or(to, |next| next.timestamp().min(to));
        let end = past.between(None, next).end.clamp(first, rows.end);
        found.push((month.strftime("%Y-%m").to_string(), first..end));
        (begins, first) = (next, end);
    }
    found
}

/// The predictions of rows under a replay: of each by the model that was in production then.
///
/// # Errors
/// Those of predicting.
pub fn predictions(replay: &Replay, models: &mut Models<'_>, rows: Range<usize>) -> Result<Vec<Option<Said>>> {
    let mut said = Vec::with_capacity(rows.len());
    let mut first = rows.start;
    for (place, (_, model)) in replay.deployed.iter().enumerate() {
        let end = replay.deployed.get(place + 1).map_or(rows.end, |(next, _)| models.past.between(None, *next).end);
        let end = end.clamp(first, rows.end);
        let scores = models.scores(*model, first..end)?;
        said.extend(scores.into_iter().map(|score| Some(Said { score, positive: score >= 0.5 })));
        first = end;
    }
    Ok(said)
}

/// The mean label of a training set for every row: of classes the share of class 1, by which the more frequent class is predicted.
pub fn no_change(labels: &[f64], rows: usize) -> Vec<Option<Said>> {
    let score = labels.iter().sum::<f64>() / labels.len() as f64;
    vec![Some(Said { score, positive: score >= 0.5 }); rows]
}

/// The last label that was known at each prediction: of the latest prediction whose label was mature.
pub fn persistence(past: &PastRows, rows: Range<usize>) -> Vec<Option<Said>> {
    let mut usable: Vec<(i64, usize)> =
        (0..rows.end).filter_map(|row| past.usable_after(row).map(|usable| (usable, row))).collect();
    usable.sort_unstable();
    let mut usable = usable.into_iter().peekable();
    let mut last: Option<usize> = None;
    let said = |row: usize| {
        let at = past.times()[row];
        while let Some((_, known)) = usable.next_if(|(known, _)| *known < at) {
            last = last.max(Some(known));
        }
        let at = Timestamp::from_nanosecond(at.into()).ok()?;
        let score = past.label_before(last?, at)?;
        Some(Said { score, positive: score >= 0.5 })
    };
    rows.map(said).collect()
}

/// A metric over predictions and their labels. Of classes a prediction may be no probability: a metric of probabilities then is not
/// defined.
pub fn measure(
    (metric, kind): (PerformanceMetric, Objective),
    said: &[Option<Said>],
    labels: &[Option<f64>],
    probabilities: bool,
) -> Option<Measurement> {
    let known = said.iter().zip(labels).filter_map(|(said, label)| said.zip(*label));
    match kind {
        Objective::Regression => {
            let errors: Vec<f64> = known.map(|(said, label)| said.score - label).collect();
            of_errors(metric, &errors, CONFIDENCE)
        }
        Objective::Binary if metric == PerformanceMetric::LogLoss && !probabilities => None,
        Objective::Binary => {
            let row =
                |(said, chance): (Said, f64)| ClassifiedRow { chance, predicted: said.positive, score: said.score };
            of_classes(metric, &known.map(row).collect::<Vec<_>>(), CONFIDENCE)
        }
    }
}
