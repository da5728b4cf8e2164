//! Predictions and their labels, as triggers see them.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use driftsweep::metric::performance::{ScoreCalibration, maturity};
use driftsweep_common::error::Result;

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

/// The time of the first prediction that is used at a sweep: labels of a period belong to predictions of up to a delay
/// before it.
pub fn horizon(within: SignedDuration, delay: SignedDuration, as_of: Timestamp) -> Timestamp {
    as_of.checked_sub(delay.saturating_add(within)).unwrap_or(Timestamp::MIN)
}

/// Labels that became known from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewLabels {
    /// How many.
    pub labels: u64,
    /// The time.
    pub since: Timestamp,
}

impl NewLabels {
    /// None, from a time on.
    pub fn since(since: Timestamp) -> Self {
        Self { labels: 0, since }
    }

    /// Counts the label of a prediction.
    pub fn add(&mut self, prediction: &Prediction) {
        let new = prediction.label.is_some_and(|label| label.known_at >= self.since.as_microsecond());
        self.labels += u64::from(new);
    }
}

/// The share of labels after whose delay predictions count as matured.
const MATURED_SHARE: f64 = 0.95;

/// Delays of labels after their predictions, counted in time bins so that memory does not grow with their number.
#[derive(Clone, Debug)]
pub struct Arrivals {
    now: i64,
    /// Microseconds of a bin.
    width: i64,
    pub(super) arrived: Vec<u64>,
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
    pub(super) fn wait(&self) -> Option<SignedDuration> {
        let bin = maturity(&self.arrived, &self.waiting, MATURED_SHARE)?;
        Some(SignedDuration::from_micros(self.longest[bin]))
    }

    /// The age of the oldest prediction.
    pub(super) fn age(&self) -> SignedDuration {
        SignedDuration::from_micros(self.oldest.map_or(0, |oldest| self.now - oldest))
    }
}

/// The predictions of a model, and what is known of their labels.
#[derive(Clone, Copy)]
pub struct LabelView<'a> {
    /// The predictions.
    pub predictions: &'a dyn Predictions,
    /// The label delay: exact, or the maximum where it is learned.
    pub delay: SignedDuration,
    /// Whether that was declared.
    pub delay_declared: bool,
    /// The arrival times of labels, where they are known.
    pub arrivals: Option<&'a Arrivals>,
    /// Labels since the count of the volume trigger began.
    pub new: NewLabels,
    /// Classes among labels and predictions.
    pub classes: usize,
    /// The calibration of scores, or why there is none.
    pub calibration: std::result::Result<&'a ScoreCalibration, &'a str>,
    /// How the labels were used.
    pub counts: LabelCounts,
}
