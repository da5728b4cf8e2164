//! The performance trigger, with late labels and estimates while they are missing; and the volume trigger.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use driftsweep::metric::performance::{
    ClassifiedRow, Measurement, PerformanceMetric, ScoreCalibration, maturity, of_classes, of_errors,
};
use driftsweep_common::error::Result;
use driftsweep_fleet::{Setting, Triggers};

/// A prediction and what is known of its label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// When it was made, in microseconds since 1970.
    pub at: i64,
    /// Distinguishes predictions of the same time, so that their order does not matter.
    pub key: u64,
    /// Whether the positive class was predicted.
    pub positive: bool,
    /// The score, NaN without one.
    pub score: f64,
    /// The label, where it was known before the sweep.
    pub label: Option<KnownLabel>,
    /// The proxy label.
    pub proxy: Option<KnownLabel>,
}

/// Predictions that may be too many for memory.
pub trait Predictions {
    /// Calls `of` with each of them, in no particular order.
    ///
    /// # Errors
    /// Errors of reading them.
    fn each(&self, of: &mut dyn FnMut(Prediction)) -> Result<()>;
}

impl Predictions for [Prediction] {
    fn each(&self, of: &mut dyn FnMut(Prediction)) -> Result<()> {
        self.iter().copied().for_each(of);
        Ok(())
    }
}

/// How the labels that were read were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCounts {
    /// Labels with an id and a value that were known before the sweep.
    pub labels: u64,
    /// Those of them that match a prediction.
    pub met: u64,
    /// Those of them that became known before every prediction of their id: they belong to one that was not read.
    pub early: u64,
    /// Labels without the time at which they became known; they are skipped.
    pub undated: u64,
    /// Labels that were written again later with another value; the first counts.
    pub rewritten: u64,
    /// Labels, and rows of predictions, of one id and time that contradict each other; they are skipped.
    pub contradicting: u64,
    /// Predictions followed by another one of the same id before any label arrived; they are skipped.
    pub superseded: u64,
}

/// The label of a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownLabel {
    /// When that became known, in microseconds since 1970.
    pub known_at: i64,
    /// Whether it is the positive class.
    pub positive: bool,
    /// Whether it is the predicted class.
    pub correct: bool,
    /// The predicted number less the true one, NaN where they are none.
    pub error: f64,
}

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

/// The volume trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeVerdict {
    /// Labels that became known from `since` on.
    pub labels: u64,
    /// Labels that are needed to fire.
    pub wanted: Setting<u64>,
    /// When the count begins: at the start of the period, at the last training, or when it last fired.
    pub since: Timestamp,
    /// Whether the trigger is on; where it is not, the count is only informative.
    #[serde(default = "set")]
    pub set: bool,
}

/// Evaluations of older versions: the trigger was always set there.
fn set() -> bool {
    true
}

/// The share of labels after whose delay predictions count as matured.
const MATURED_SHARE: f64 = 0.95;

/// The time of the first prediction that is used at a sweep.
pub fn horizon(triggers: &Triggers, delay: SignedDuration, as_of: Timestamp) -> Timestamp {
    let longest = triggers.performance_within.value.max(triggers.volume_within.value);
    as_of.checked_sub(delay.saturating_add(longest)).unwrap_or(Timestamp::MIN)
}

/// Delays of labels after their predictions, counted in time bins so that memory does not grow with their number.
#[derive(Clone, Debug)]
pub struct Arrivals {
    now: i64,
    /// Microseconds of a bin.
    width: i64,
    arrived: Vec<u64>,
    /// The longest delay in each bin.
    longest: Vec<i64>,
    /// Ages of predictions whose label has not arrived.
    waiting: Vec<u64>,
    oldest: Option<i64>,
}

/// Bins of [`Arrivals`]: over 97 days each is two minutes wide.
const BINS: i64 = 1 << 16;

impl Arrivals {
    /// Empty, for predictions from `since` on at a sweep.
    pub fn new(since: Timestamp, as_of: Timestamp) -> Self {
        let (since, now) = (since.as_microsecond(), as_of.as_microsecond());
        let width = (now.saturating_sub(since) / BINS).max(1) + 1;
        Self { now, width, arrived: Vec::new(), longest: Vec::new(), waiting: Vec::new(), oldest: None }
    }

    /// Counts a prediction.
    pub fn add(&mut self, prediction: &Prediction) {
        self.oldest = Some(self.oldest.map_or(prediction.at, |oldest| oldest.min(prediction.at)));
        let (bins, delay) = match prediction.label {
            Some(label) => (&mut self.arrived, label.known_at.saturating_sub(prediction.at)),
            None => (&mut self.waiting, self.now - prediction.at),
        };
        let bin = usize::try_from(delay / self.width).unwrap_or(0).min(BINS as usize);
        if bins.len() <= bin {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += 1;
        if prediction.label.is_some() {
            self.longest.resize(self.arrived.len(), 0);
            self.longest[bin] = self.longest[bin].max(delay);
        }
    }

    /// The learned label delay.
    fn wait(&self) -> Option<SignedDuration> {
        let bin = maturity(&self.arrived, &self.waiting, MATURED_SHARE)?;
        Some(SignedDuration::from_micros(self.longest[bin]))
    }

    /// The age of the oldest prediction.
    fn age(&self) -> SignedDuration {
        SignedDuration::from_micros(self.oldest.map_or(0, |oldest| self.now - oldest))
    }
}

/// The context of the predictions.
#[derive(Clone, Copy, Debug)]
pub struct LabelContext<'a> {
    /// The label delay: exact, or the maximum where it is learned.
    pub delay: SignedDuration,
    /// Whether that was declared.
    pub delay_declared: bool,
    /// The arrival times of labels, where they are known.
    pub arrivals: Option<&'a Arrivals>,
    /// Classes among labels and predictions.
    pub classes: usize,
    /// The calibration of scores, or why there is none.
    pub calibration: std::result::Result<&'a ScoreCalibration, &'a str>,
    /// When the model was last trained: earlier predictions are of another model.
    pub trained: Option<Timestamp>,
}

/// The label delay to use; `None` where it is not known yet. While the oldest prediction is younger than the label
/// delay, late labels cannot be distinguished from missing ones: the delay counts as learned after that, and where none
/// was declared, once the oldest prediction is twice as old as the observed delays.
fn wait(given: LabelContext<'_>) -> Option<(SignedDuration, bool)> {
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

/// Evaluates predictions at a sweep.
///
/// # Errors
/// Those of [`Predictions::each`].
pub fn assess(
    triggers: &Triggers,
    given: LabelContext<'_>,
    predictions: &(impl Predictions + ?Sized),
    as_of: Timestamp,
) -> Result<PerformanceVerdict> {
    let waits = wait(given);
    let (wait, maturity_learned) = waits.unwrap_or((given.delay, false));
    let within = triggers.performance_within.value;
    let span = |before: Timestamp| {
        let since = before.checked_sub(within).unwrap_or(Timestamp::MIN);
        let since = given.trained.map_or(since, |trained| trained.clamp(since, before.max(since)));
        PredictionSpan { since, before, predictions: 0, labelled: 0 }
    };
    let mut matured = span(as_of.checked_sub(wait).unwrap_or(Timestamp::MIN));
    let mut fresh = span(as_of);
    let most = triggers.rows.value;
    let (mut labelled, mut proxies, mut new) = (Newest::new(most), Newest::new(most), Newest::new(most));
    let mut oldest: Option<i64> = None;
    predictions.each(&mut |row| {
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

    let metric =
        Setting { value: triggers.metric.value.unwrap_or(PerformanceMetric::Accuracy), origin: triggers.metric.origin };
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

impl PerformanceVerdict {
    /// A sentence that says why it fires, if it does.
    pub fn reason(&self) -> Option<String> {
        let (found, level) = (self.realised?, self.level.value?);
        let (side, end) =
            if self.metric.value.higher_is_better() { ("below", found.high) } else { ("above", found.low) };
        (self.status == PerformanceStatus::Triggered).then(|| {
            format!(
                "{} {:.4} over {} rows, {side} {level} for its whole interval (up to {end:.4})",
                self.metric.value, found.value, found.rows
            )
        })
    }

    /// A sentence that says why it cannot be judged, with the remedy, if so.
    pub fn not_judged(&self) -> Option<String> {
        let days = |seconds: i64| format!("{:.1} days", seconds as f64 / 86_400.0);
        let takes = || {
            let how = match (self.maturity_learned, self.delay_declared) {
                (true, _) => "as learned from their arrival times",
                (false, true) => "as labels.delay declares",
                (false, false) => "by default",
            };
            format!("the label delay is {}, {how}", days(self.maturity_seconds))
        };
        let fewest = self.min_labels.value;
        Some(match self.status {
            PerformanceStatus::Ok | PerformanceStatus::Warning | PerformanceStatus::Triggered => return None,
            PerformanceStatus::DelayUnknown => format!(
                "the label delay is not known yet: the oldest prediction is of {} and labels are still arriving; \
                 declare labels.delay, or wait until predictions are twice as old as the label delay",
                self.oldest.map_or_else(|| "unknown time".into(), |oldest| oldest.to_string())
            ),
            PerformanceStatus::NoLabels if self.matured.predictions > 0 => {
                format!("none of {} predictions whose labels are due has a label", self.matured.predictions)
            }
            PerformanceStatus::NoLabels => match self.oldest {
                None => "there are no predictions in the period".into(),
                Some(oldest) => format!(
                    "there is no prediction from {} to {} ({}); the oldest is of {oldest}",
                    self.matured.since,
                    self.matured.before,
                    takes()
                ),
            },
            PerformanceStatus::TooFewLabels => {
                let rows = self.realised.map_or(self.matured.labelled, |found| found.rows);
                format!("{rows} rows with a label are too few, min_labels requires {fewest} ({})", takes())
            }
            PerformanceStatus::Undefined => {
                format!("{} is not defined over these rows: one class alone, or nothing predicted", self.metric.value)
            }
            PerformanceStatus::NoLevel => format!("{} has no level; set trigger.performance.level", self.metric.value),
        })
    }
}

impl VolumeVerdict {
    /// Starts to count labels that become known before a sweep.
    pub fn begin(triggers: &Triggers, since: Option<Timestamp>, as_of: Timestamp) -> Self {
        let window = as_of.checked_sub(triggers.volume_within.value).unwrap_or(Timestamp::MIN);
        let since = since.map_or(window, |since| since.max(window));
        Self { labels: 0, wanted: triggers.labels, since, set: triggers.volume.value }
    }

    /// Counts the label of a prediction.
    pub fn add(&mut self, prediction: &Prediction) {
        let new = prediction.label.is_some_and(|label| label.known_at >= self.since.as_microsecond());
        self.labels += u64::from(new);
    }

    /// A sentence that says why it fires, if it does.
    pub fn reason(&self) -> Option<String> {
        (self.set && self.labels >= self.wanted.value)
            .then(|| format!("{} new labels since {}, {} are needed", self.labels, self.since, self.wanted.value))
    }
}
