//! The verdict of the performance trigger, with late labels, and with estimates while they are missing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::PerformanceTrigger;
use crate::trigger::labels::{KnownLabel, LabelView, Prediction};
use crate::value::Setting;
use driftsweep::metric::performance::{ClassifiedRow, Measurement, PerformanceMetric, of_classes, of_errors};
use driftsweep_common::error::Result;

/// Predictions of a period, and the number of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictionSpan {
    /// From then on ...
    pub since: Timestamp,
    /// ... and before then.
    pub before: Timestamp,
    /// Predictions.
    pub predictions: usize,
    /// Those of them with a label.
    pub labelled: usize,
}

impl PredictionSpan {
    /// Counts a prediction, if it is in the period.
    fn add(&mut self, prediction: &Prediction) -> bool {
        let inside = (self.since.as_microsecond()..self.before.as_microsecond()).contains(&prediction.at);
        self.predictions += usize::from(inside);
        self.labelled += usize::from(inside && prediction.label.is_some());
        inside
    }

    /// The share of labels that have arrived.
    pub fn matured(&self) -> f64 {
        if self.predictions == 0 { 0.0 } else { self.labelled as f64 / self.predictions as f64 }
    }
}

/// The status of the performance trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerformanceStatus {
    /// Within its levels, or not significantly beyond them.
    Ok,
    /// Significantly beyond the warning level.
    Warning,
    /// Significantly beyond the trigger level.
    Triggered,
    /// No label is known.
    NoLabels,
    /// Fewer labels than required.
    TooFewLabels,
    /// The label delay is neither declared nor learned yet.
    DelayUnknown,
    /// The measure is not defined over these rows.
    Undefined,
    /// There is no trigger level.
    NoLevel,
}

impl PerformanceStatus {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Triggered => "triggered",
            Self::NoLabels => "no_labels",
            Self::TooFewLabels => "too_few_labels",
            Self::DelayUnknown => "delay_unknown",
            Self::Undefined => "undefined",
            Self::NoLevel => "no_level",
        }
    }
}

/// The performance trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerformanceVerdict {
    /// Its status.
    #[serde(rename = "standing")]
    pub status: PerformanceStatus,
    /// The performance metric.
    pub metric: Setting<PerformanceMetric>,
    /// The trigger level.
    pub level: Setting<Option<f64>>,
    /// From where on it warns.
    pub warning: Setting<Option<f64>>,
    /// Confidence of the intervals.
    pub confidence: Setting<f64>,
    /// Labels that are required: rows that the metric is about.
    pub min_labels: Setting<usize>,
    /// Most predictions with a label that are used, newest first.
    pub rows: Setting<usize>,
    /// The label delay in seconds: by then most labels that will arrive have arrived.
    pub maturity_seconds: i64,
    /// Whether it was learned from the arrival times of labels.
    pub maturity_learned: bool,
    /// Whether `labels.delay` was declared.
    #[serde(default)]
    pub delay_declared: bool,
    /// When the oldest prediction that was read was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// The predictions that are older than the label delay.
    pub matured: PredictionSpan,
    /// Whether a proxy is used for missing labels.
    pub proxy: bool,
    /// The metric over those with a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realised: Option<Measurement>,
    /// Its estimate from scores over the same rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<Measurement>,
    /// The newest predictions, most of which have no label yet.
    pub fresh: PredictionSpan,
    /// The estimate of the metric over them, which never triggers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<Measurement>,
    /// Why there is no estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_estimate: Option<String>,
}

/// The label delay to use; `None` where it is not known yet. While the oldest prediction is younger than the label
/// delay, late labels cannot be distinguished from missing ones: the delay counts as learned after that, and where none
/// was declared, once the oldest prediction is twice as old as the observed delays.
fn wait(given: LabelView<'_>) -> Option<(SignedDuration, bool)> {
    let Some(arrivals) = given.arrivals else { return Some((given.delay, false)) };
    let (seen, age) = (arrivals.wait(), arrivals.age());
    match seen {
        Some(seen) if given.delay_declared && age >= given.delay => Some((seen.min(given.delay), true)),
        Some(seen) if !given.delay_declared && (seen.saturating_add(seen) <= age || age >= given.delay) => {
            Some((seen.min(given.delay), true))
        }
        _ if given.delay_declared => Some((given.delay, false)),
        _ => None,
    }
}

/// The newest predictions, limited to a number.
struct Newest<T> {
    most: usize,
    /// The oldest on top.
    heap: BinaryHeap<Reverse<Aged<T>>>,
}

/// Ordered by time, then by key.
struct Aged<T>((i64, u64), T);

impl<T> PartialEq for Aged<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Aged<T> {}

impl<T> PartialOrd for Aged<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Aged<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Newest<T> {
    fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::new() }
    }

    fn add(&mut self, prediction: &Prediction, row: T) {
        let at = (prediction.at, prediction.key);
        if self.heap.len() < self.most {
            self.heap.push(Reverse(Aged(at, row)));
        } else if self.heap.peek().is_some_and(|Reverse(oldest)| oldest.0 < at) {
            self.heap.pop();
            self.heap.push(Reverse(Aged(at, row)));
        }
    }

    /// The newest first.
    fn rows(self) -> Vec<T> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(Aged(_, row))| row).collect()
    }
}

/// Evaluates predictions at a sweep. Those from before the last training are of another model.
///
/// # Errors
/// Those of [`Predictions::each`](crate::trigger::labels::Predictions::each).
pub fn assess(
    triggers: &PerformanceTrigger,
    given: LabelView<'_>,
    trained: Option<Timestamp>,
    as_of: Timestamp,
) -> Result<PerformanceVerdict> {
    let waits = wait(given);
    let (wait, maturity_learned) = waits.unwrap_or((given.delay, false));
    let within = triggers.within.value;
    let span = |before: Timestamp| {
        let since = before.checked_sub(within).unwrap_or(Timestamp::MIN);
        let since = trained.map_or(since, |trained| trained.clamp(since, before.max(since)));
        PredictionSpan { since, before, predictions: 0, labelled: 0 }
    };
    let mut matured = span(as_of.checked_sub(wait).unwrap_or(Timestamp::MIN));
    let mut fresh = span(as_of);
    let most = triggers.rows.value;
    let (mut labelled, mut proxies, mut new) = (Newest::new(most), Newest::new(most), Newest::new(most));
    let mut oldest: Option<i64> = None;
    given.predictions.each(&mut |row| {
        oldest = Some(oldest.map_or(row.at, |oldest| oldest.min(row.at)));
        if matured.add(&row) {
            if let Some(label) = row.label {
                labelled.add(&row, (row, label));
            }
            if let Some(label) = row.label.or(row.proxy) {
                proxies.add(&row, (row, label));
            }
        }
        if fresh.add(&row) {
            new.add(&row, row);
        }
    })?;

    let metric = Setting { value: triggers.judged_metric(), origin: triggers.metric.origin };
    let confidence = triggers.confidence.value;
    let enough = triggers.min_labels.value;
    let (labelled, proxies) = (labelled.rows(), proxies.rows());
    let proxy = labelled.len() < enough && proxies.len() >= enough && proxies.len() > labelled.len();
    let truth = if proxy { proxies } else { labelled };
    let realised = realised(metric.value, &truth, confidence);
    // The score separates one class from all others.
    let calibration = match given.calibration {
        _ if metric.value.is_of_numbers() => Err("numeric errors cannot be estimated"),
        _ if metric.value == PerformanceMetric::Accuracy && given.classes > 2 => Err("there are more than two classes"),
        calibration => calibration,
    };
    let estimate = |rows: &mut dyn Iterator<Item = &Prediction>| {
        let calibration = calibration.ok()?;
        let classified = |row: &Prediction| {
            let chance = calibration.chance(row.score);
            Some(ClassifiedRow { chance, predicted: row.positive, score: row.score }).filter(|_| chance.is_finite())
        };
        let rows: Vec<ClassifiedRow> = rows.filter_map(classified).collect();
        of_classes(metric.value, &rows, confidence)
    };
    let estimated = estimate(&mut new.rows().iter());
    let reconciled = realised.and_then(|_| estimate(&mut truth.iter().map(|(row, _)| row)));

    let higher = metric.value.higher_is_better();
    let beyond = |level: f64| realised.is_some_and(|found| if higher { found.high < level } else { found.low > level });
    let status = match triggers.level.value {
        _ if waits.is_none() && given.arrivals.is_some_and(|arrivals| !arrivals.arrived.is_empty()) => {
            PerformanceStatus::DelayUnknown
        }
        _ if waits.is_none() || truth.is_empty() => PerformanceStatus::NoLabels,
        _ if truth.len() < enough => PerformanceStatus::TooFewLabels,
        _ if realised.is_none() => PerformanceStatus::Undefined,
        _ if realised.is_some_and(|found| found.rows < enough) => PerformanceStatus::TooFewLabels,
        None => PerformanceStatus::NoLevel,
        Some(level) if beyond(level) => PerformanceStatus::Triggered,
        Some(_) if triggers.warning.value.is_some_and(beyond) => PerformanceStatus::Warning,
        Some(_) => PerformanceStatus::Ok,
    };
    Ok(PerformanceVerdict {
        status,
        metric,
        level: triggers.level,
        warning: triggers.warning,
        confidence: triggers.confidence,
        min_labels: triggers.min_labels,
        rows: triggers.rows,
        maturity_seconds: wait.as_secs(),
        maturity_learned,
        delay_declared: given.delay_declared,
        oldest: oldest.and_then(|oldest| Timestamp::from_microsecond(oldest).ok()),
        matured,
        proxy,
        realised,
        reconciled,
        fresh,
        no_estimate: calibration.err().filter(|_| estimated.is_none()).map(str::to_owned),
        estimated,
    })
}

fn realised(metric: PerformanceMetric, truth: &[(Prediction, KnownLabel)], confidence: f64) -> Option<Measurement> {
    if metric.is_of_numbers() {
        let errors: Vec<f64> = truth.iter().map(|(_, label)| label.error).filter(|error| !error.is_nan()).collect();
        return of_errors(metric, &errors, confidence);
    }
    let share = |yes: bool| f64::from(u8::from(yes));
    let rows: Vec<ClassifiedRow> = truth
        .iter()
        .filter(|(row, _)| !metric.needs_score() || !row.score.is_nan())
        .map(|(row, label)| match metric {
            // Of any number of classes.
            PerformanceMetric::Accuracy => {
                ClassifiedRow { chance: share(label.correct), predicted: true, score: row.score }
            }
            _ => ClassifiedRow { chance: share(label.positive), predicted: row.positive, score: row.score },
        })
        .collect();
    of_classes(metric, &rows, confidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::TriggerSettings;
    use crate::trigger::labels::{Arrivals, LabelCounts, NewLabels, Predictions};
    use crate::trigger::performance::PerformanceTable;

    const HOUR: i64 = 3_600_000_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_microsecond(hours * HOUR).unwrap()
    }

    /// Predictions of one hour each, from hour 0 on: whether each was right, where its label is known; and the hours that
    /// labels take.
    struct Made(Vec<Option<bool>>, i64);

    impl Made {
        fn rows(&self) -> impl Iterator<Item = Prediction> {
            self.0.iter().zip(0..).map(|(right, hour)| {
                let known_at = (hour + self.1) * HOUR;
                let label = right.map(|correct| KnownLabel { known_at, positive: correct, correct, error: f64::NAN });
                Prediction { at: hour * HOUR, key: hour as u64, positive: true, score: f64::NAN, label, proxy: None }
            })
        }
    }

    impl Predictions for Made {
        fn each(&self, of: &mut dyn FnMut(Prediction)) -> Result<()> {
            self.rows().for_each(of);
            Ok(())
        }
    }

    /// The verdict at an hour, by settings in the fleet file and with labels that take an hour.
    fn verdict(made: &Made, settings: &str, trained: Option<i64>, hour: i64) -> PerformanceVerdict {
        let table: PerformanceTable = toml::from_str(settings).unwrap();
        let trigger = PerformanceTrigger::resolve(Some(&table), None).unwrap();
        let view = LabelView {
            predictions: made,
            delay: SignedDuration::from_hours(1),
            delay_declared: true,
            arrivals: None,
            new: NewLabels::since(at(0)),
            classes: 2,
            calibration: Err("there are no scores"),
            counts: LabelCounts::default(),
        };
        assess(&trigger, view, trained.map(at), at(hour)).unwrap()
    }

    fn status(made: &Made, settings: &str, trained: Option<i64>) -> PerformanceStatus {
        verdict(made, settings, trained, made.0.len() as i64 + 1).status
    }

    #[test]
    fn a_level_is_crossed_by_the_whole_interval_and_by_enough_labels() {
        use PerformanceStatus::{NoLabels, Ok, TooFewLabels, Triggered, Warning};
        let share = |right: usize, of: usize| Made((0..of).map(|i| Some(i < right)).collect(), 1);
        const USUAL: &str = "within = \"3650d\"\nmin_labels = 100\n";
        for (right, of, more, wanted) in [
            (950, 1000, "", Ok),
            // Below 0.90, and 0.90 is within its interval.
            (890, 1000, "", Ok),
            (800, 1000, "", Triggered),
            (40, 50, "", TooFewLabels),
            (940, 1000, "warning = 0.96", Warning),
            (940, 1000, "level = 0.96", Triggered),
            (800, 1000, "rows = 200", Triggered),
        ] {
            assert_eq!(status(&share(right, of), &format!("{USUAL}{more}"), None), wanted, "{right} of {of}: {more}");
        }
        assert_eq!(status(&Made(vec![None; 500], 1), USUAL, None), NoLabels);
        // Only what the present model has predicted counts: the second half, of which all are right.
        let half = Made((0..1000).map(|hour| Some(hour >= 500)).collect(), 1);
        assert_eq!(status(&half, USUAL, None), Triggered);
        assert_eq!(status(&half, USUAL, Some(500)), Ok);
        assert_eq!(status(&half, USUAL, Some(950)), TooFewLabels);
    }

    #[test]
    fn predictions_count_once_their_labels_can_have_come() {
        // Of the last day no label has come yet, and those that did say nothing of it.
        let made = Made((0..1000).map(|hour| (hour < 976).then_some(true)).collect(), 1);
        let found = verdict(&made, "within = \"3650d\"\nmin_labels = 100", None, 1000);
        assert_eq!((found.matured.before, found.matured.predictions, found.matured.labelled), (at(999), 999, 976));
        let week = verdict(&made, "within = \"7d\"\nmin_labels = 100", None, 1000);
        assert_eq!((week.matured.since, week.matured.predictions), (at(999 - 168), 168));
        assert_eq!(week.realised.unwrap().rows, 145);
    }

    #[test]
    fn a_delay_that_is_neither_declared_nor_learned_is_said() {
        // Labels take a hundred hours. Only once the oldest prediction is twice as old, that is known of them.
        for (hour, wanted) in [(150, PerformanceStatus::DelayUnknown), (350, PerformanceStatus::Ok)] {
            let made = Made((0..hour).map(|made| (made + 100 < hour).then_some(true)).collect(), 100);
            let mut arrivals = Arrivals::new(at(0), at(hour));
            made.rows().for_each(|row| arrivals.add(&row));
            let table: PerformanceTable = toml::from_str("within = \"3650d\"\nmin_labels = 40").unwrap();
            let trigger = PerformanceTrigger::resolve(Some(&table), None).unwrap();
            let view = LabelView {
                predictions: &made,
                delay: SignedDuration::from_hours(24 * 90),
                delay_declared: false,
                arrivals: Some(&arrivals),
                new: NewLabels::since(at(0)),
                classes: 2,
                calibration: Err("there are no scores"),
                counts: LabelCounts::default(),
            };
            assert_eq!(assess(&trigger, view, None, at(hour)).unwrap().status, wanted, "at hour {hour}");
        }
    }
}
