//! The performance trigger, with late labels and estimates while they are missing; and the volume trigger.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::fleet::{Setting, Triggers};
use crate::metric::performance::{
    ClassifiedRow, Measurement, PerformanceMetric, ScoreCalibration, maturity, of_classes, of_errors,
};

/// A prediction and what is known of its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// When it was made, in microseconds since 1970.
    pub at: i64,
    /// Tells predictions of one time apart, so that their order does not matter.
    pub key: u64,
    /// Whether the positive class was predicted.
    pub positive: bool,
    /// The score, NaN without one.
    pub score: f64,
    /// What came true, where that was known before the sweep.
    pub label: Option<KnownLabel>,
    /// What stands in for it.
    pub proxy: Option<KnownLabel>,
}

/// Predictions that may be too many to hold.
pub trait Predictions {
    /// Gives each of them, in no order.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
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
    /// Of those the ones that belong to a prediction.
    pub met: u64,
    /// Of those the ones that became known before every prediction of their id: they belong to one that was not read.
    pub early: u64,
    /// Labels without the time at which they became known; they are left out.
    pub undated: u64,
    /// Labels that were written again later with another value; the first counts.
    pub rewritten: u64,
    /// Labels, and rows of predictions, of one id and time that contradict one another; they are left out.
    pub contradicting: u64,
    /// Predictions that another one of the same id followed before any label came; they are left out.
    pub superseded: u64,
}

/// What came true of a prediction.
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

/// Predictions made in some time, and how many labels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictionSpan {
    /// From then on ...
    pub since: Timestamp,
    /// ... and before then.
    pub before: Timestamp,
    /// Predictions.
    pub predictions: usize,
    /// Of those the ones with a label.
    pub labelled: usize,
}

impl PredictionSpan {
    /// Counts a prediction, if it is one of them.
    fn add(&mut self, prediction: &Prediction) -> bool {
        let inside = (self.since.as_microsecond()..self.before.as_microsecond()).contains(&prediction.at);
        self.predictions += usize::from(inside);
        self.labelled += usize::from(inside && prediction.label.is_some());
        inside
    }

    /// The share of labels that have come.
    pub fn matured(&self) -> f64 {
        if self.predictions == 0 { 0.0 } else { self.labelled as f64 / self.predictions as f64 }
    }
}

/// How the performance trigger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerformanceStatus {
    /// On the right side of its levels, or not beyond them by more than chance.
    Ok,
    /// Beyond the warning level, by more than chance.
    Warning,
    /// Beyond its level, by more than chance.
    Triggered,
    /// No label is known.
    NoLabels,
    /// Fewer labels than asked for.
    TooFewLabels,
    /// How long labels take is neither declared nor seen yet.
    DelayUnknown,
    /// The measure is not defined over these rows.
    Undefined,
    /// There is no level to hold the measure against.
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
    /// How it stands.
    #[serde(rename = "standing")]
    pub status: PerformanceStatus,
    /// Which measure.
    pub metric: Setting<PerformanceMetric>,
    /// From where on it triggers.
    pub level: Setting<Option<f64>>,
    /// From where on it warns.
    pub warning: Setting<Option<f64>>,
    /// Confidence of the intervals.
    pub confidence: Setting<f64>,
    /// Labels that are asked for: of the rows that the measure is about.
    pub min_labels: Setting<usize>,
    /// Predictions with a label that are looked at, at most; the newest.
    pub rows: Setting<usize>,
    /// How long labels take, in seconds: by then most of those that will come have come.
    pub maturity_seconds: i64,
    /// Whether that was learned from when labels came.
    pub maturity_learned: bool,
    /// Whether `labels.delay` was declared.
    #[serde(default)]
    pub delay_declared: bool,
    /// When the oldest prediction that was read was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// The predictions whose labels have had that time.
    pub matured: PredictionSpan,
    /// Whether other columns stand in for labels that are missing.
    pub proxy: bool,
    /// The measure over those with a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realised: Option<Measurement>,
    /// Its estimate from scores over the same rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<Measurement>,
    /// The newest predictions, most of which have no label yet.
    pub fresh: PredictionSpan,
    /// The estimate of the measure over them, which never triggers.
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
    /// Labels that are enough.
    pub wanted: Setting<u64>,
    /// When the count begins: so long ago, or with the last training, or when it last fired.
    pub since: Timestamp,
    /// Whether the trigger is set; where it is not, the count only says what would fire.
    #[serde(default = "set")]
    pub set: bool,
}

/// Evaluations of older versions: the trigger was always set there.
fn set() -> bool {
    true
}

/// The share of the labels that will come by which time predictions count as matured.
const MATURED_SHARE: f64 = 0.95;

/// The first prediction that could matter at a sweep.
pub fn horizon(triggers: &Triggers, delay: SignedDuration, as_of: Timestamp) -> Timestamp {
    let longest = triggers.performance_within.value.max(triggers.volume_within.value);
    as_of.checked_sub(delay.saturating_add(longest)).unwrap_or(Timestamp::MIN)
}

/// When labels came after their predictions, counted in bins of time so that memory does not grow with their number.
#[derive(Clone, Debug)]
pub struct Arrivals {
    now: i64,
    /// Microseconds of a bin.
    width: i64,
    arrived: Vec<u64>,
    /// The longest delay in each bin.
    longest: Vec<i64>,
    /// Ages of predictions whose label has not come.
    waiting: Vec<u64>,
    oldest: Option<i64>,
}

/// Bins of [`Arrivals`]: over 97 days each is two minutes wide.
const BINS: i64 = 1 << 16;

impl Arrivals {
    /// None yet, of predictions from `since` on that are looked at by a sweep.
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

    /// How long labels take, as far as can be seen.
    fn wait(&self) -> Option<SignedDuration> {
        let bin = maturity(&self.arrived, &self.waiting, MATURED_SHARE)?;
        Some(SignedDuration::from_micros(self.longest[bin]))
    }

    /// The age of the oldest prediction.
    fn age(&self) -> SignedDuration {
        SignedDuration::from_micros(self.oldest.map_or(0, |oldest| self.now - oldest))
    }
}

/// What is known beside the predictions.
#[derive(Clone, Copy, Debug)]
pub struct LabelContext<'a> {
    /// How long labels take: exactly, or at most where their delay is learned.
    pub delay: SignedDuration,
    /// Whether that was declared.
    pub delay_declared: bool,
    /// When labels came, where they carry that time.
    pub arrivals: Option<&'a Arrivals>,
    /// Classes among labels and predictions.
    pub classes: usize,
    /// What scores mean, or why that is not known.
    pub calibration: std::result::Result<&'a ScoreCalibration, &'a str>,
    /// When the model was last trained: predictions before are another's.
    pub trained: Option<Timestamp>,
}

/// How long to wait for labels; `None` where that cannot be told yet. Before the oldest prediction has had the time that
/// labels may take, those to come cannot be told from those that never will: the delay counts as learned once that is so,
/// and where none was declared, once the oldest prediction is twice as old as the labels that were seen took.
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

/// The newest of some predictions, at most so many.
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

/// Judges predictions at a sweep.
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
    // The score is about one class against all others.
    let calibration = match given.calibration {
        _ if metric.value.is_of_numbers() => Err("errors of numbers are not estimated"),
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
    /// Why it fires, in a sentence, if it does.
    pub fn reason(&self) -> Option<String> {
        let (found, level) = (self.realised?, self.level.value?);
        let (side, end) =
            if self.metric.value.higher_is_better() { ("below", found.high) } else { ("above", found.low) };
        (self.status == PerformanceStatus::Triggered).then(|| {
            format!(
                "{} {:.4} over {} rows, {side} {level} even at the end of its interval ({end:.4})",
                self.metric.value, found.value, found.rows
            )
        })
    }

    /// Why it cannot judge, in a sentence with the remedy, if so.
    pub fn not_judged(&self) -> Option<String> {
        let days = |seconds: i64| format!("{:.1} days", seconds as f64 / 86_400.0);
        let takes = || {
            let how = match (self.maturity_learned, self.delay_declared) {
                (true, _) => "as learned from when they came",
                (false, true) => "as labels.delay declares",
                (false, false) => "as nothing says otherwise",
            };
            format!("labels take {}, {how}", days(self.maturity_seconds))
        };
        let fewest = self.min_labels.value;
        Some(match self.status {
            PerformanceStatus::Ok | PerformanceStatus::Warning | PerformanceStatus::Triggered => return None,
            PerformanceStatus::DelayUnknown => format!(
                "how long labels take is not known yet: the oldest prediction is of {} and labels are still coming; declare labels.delay, or wait until predictions are twice as old as their labels take",
                self.oldest.map_or_else(|| "unknown time".into(), |oldest| oldest.to_string())
            ),
            PerformanceStatus::NoLabels if self.matured.predictions > 0 => {
                format!("none of {} predictions whose labels are due has a label", self.matured.predictions)
            }
            PerformanceStatus::NoLabels => match self.oldest {
                None => "there are no predictions in the time that is looked at".into(),
                Some(oldest) => format!(
                    "no prediction from {} to {} is there ({}); the oldest is of {oldest}",
                    self.matured.since,
                    self.matured.before,
                    takes()
                ),
            },
            PerformanceStatus::TooFewLabels => {
                let rows = self.realised.map_or(self.matured.labelled, |found| found.rows);
                format!("{rows} rows with a label are too few, min_labels asks for {fewest} ({})", takes())
            }
            PerformanceStatus::Undefined => {
                format!("{} is not defined over these rows: one class alone, or nothing predicted", self.metric.value)
            }
            PerformanceStatus::NoLevel => format!("{} has no level; set trigger.performance.level", self.metric.value),
        })
    }
}

impl VolumeVerdict {
    /// No label yet, of those that become known before a sweep, from when the count begins.
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

    /// Why it fires, in a sentence, if it does.
    pub fn reason(&self) -> Option<String> {
        (self.set && self.labels >= self.wanted.value)
            .then(|| format!("{} new labels since {}, {} are enough", self.labels, self.since, self.wanted.value))
    }
}
