//! The performance trigger, with late labels and estimates while they are missing; and the volume trigger.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fleet::{Given, Triggers};
use crate::metric::performance::{Calibration, Classified, Measured, Quality, maturity, of_classes, of_errors};

/// A prediction and what is known of its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// When it was made, in microseconds since 1970.
    pub at: i64,
    /// Whether the positive class was predicted.
    pub positive: bool,
    /// The score, NaN without one.
    pub score: f64,
    /// What came true.
    pub label: Option<Label>,
    /// What stands in for it.
    pub proxy: Option<Label>,
}

/// What came true of a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
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
pub struct Span {
    /// From then on ...
    pub since: Timestamp,
    /// ... and before then.
    pub before: Timestamp,
    /// Predictions.
    pub predictions: usize,
    /// Of those the ones with a label.
    pub labelled: usize,
}

impl Span {
    /// The share of labels that have come.
    pub fn matured(&self) -> f64 {
        if self.predictions == 0 { 0.0 } else { self.labelled as f64 / self.predictions as f64 }
    }
}

/// How the performance trigger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
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
    /// The measure is not defined over these rows.
    Undefined,
    /// There is no level to hold the measure against.
    NoLevel,
}

impl Standing {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Triggered => "triggered",
            Self::NoLabels => "no_labels",
            Self::TooFewLabels => "too_few_labels",
            Self::Undefined => "undefined",
            Self::NoLevel => "no_level",
        }
    }
}

/// The performance trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// How it stands.
    pub standing: Standing,
    /// Which measure.
    pub metric: Given<Quality>,
    /// From where on it triggers.
    pub level: Given<Option<f64>>,
    /// From where on it warns.
    pub warning: Given<Option<f64>>,
    /// Confidence of the intervals.
    pub confidence: Given<f64>,
    /// Labels that are asked for: of the rows that the measure is about.
    pub min_labels: Given<usize>,
    /// Predictions with a label that are looked at, at most; the newest.
    pub rows: Given<usize>,
    /// How long labels take, in seconds: by then most of those that will come have come.
    pub maturity_seconds: i64,
    /// Whether that was learned from when labels came.
    pub maturity_learned: bool,
    /// The predictions whose labels have had that time.
    pub matured: Span,
    /// Whether other columns stand in for labels that are missing.
    pub proxy: bool,
    /// The measure over those with a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realised: Option<Measured>,
    /// Its estimate from scores over the same rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<Measured>,
    /// The newest predictions, most of which have no label yet.
    pub fresh: Span,
    /// The estimate of the measure over them, which never triggers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<Measured>,
}

/// The volume trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Labels that became known from `since` on.
    pub labels: u64,
    /// Labels that are enough.
    pub wanted: Given<u64>,
    /// When the count begins: so long ago, or with the last training, or when it last fired.
    pub since: Timestamp,
}

/// The share of the labels that will come by which time predictions count as matured.
const MATURED: f64 = 0.95;

/// The first prediction that could matter at a sweep.
pub fn horizon(triggers: &Triggers, delay: SignedDuration, as_of: Timestamp) -> Timestamp {
    let longest = triggers.performance_within.value.max(triggers.volume_within.value);
    as_of.checked_sub(delay.saturating_add(longest)).unwrap_or(Timestamp::MIN)
}

/// What is known beside the predictions.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// How long labels take: exactly, or at most where their delay is learned.
    pub delay: SignedDuration,
    /// Whether labels carry the time at which they came.
    pub learned: bool,
    /// Classes among labels and predictions.
    pub classes: usize,
    /// What scores mean.
    pub calibration: Option<&'a Calibration>,
    /// When the model was last trained: predictions before are another's.
    pub trained: Option<Timestamp>,
}

/// Judges predictions, oldest first, at a sweep. Labels that came when it was due, or later, are not known to it.
pub fn assess(
    triggers: &Triggers,
    given: Circumstances<'_>,
    predictions: &[Prediction],
    as_of: Timestamp,
) -> Performance {
    let now = as_of.as_microsecond();
    let known = |prediction: &Prediction| prediction.label.filter(|label| label.known_at < now);
    // Before the oldest prediction has had the time that labels may take, those to come cannot be told from those that
    // never will.
    let oldest = as_of.checked_sub(given.delay).unwrap_or(Timestamp::MIN).as_microsecond();
    let wait = if given.learned && predictions.first().is_some_and(|first| first.at <= oldest) {
        let (mut arrived, mut ages) = (Vec::new(), Vec::new());
        for prediction in predictions.iter().filter(|prediction| prediction.at <= now) {
            match known(prediction) {
                Some(label) => arrived.push((label.known_at - prediction.at).max(0)),
                None => ages.push(now - prediction.at),
            }
        }
        maturity(&arrived, &ages, MATURED).map(|wait| SignedDuration::from_micros(wait).min(given.delay))
    } else {
        None
    };
    let maturity_learned = wait.is_some();
    let wait = wait.unwrap_or(given.delay);
    let within = triggers.performance_within.value;
    let span = |before: Timestamp| {
        let since = before.checked_sub(within).unwrap_or(Timestamp::MIN);
        let since = given.trained.map_or(since, |trained| trained.clamp(since, before.max(since)));
        let first = predictions.partition_point(|prediction| prediction.at < since.as_microsecond());
        let last = predictions.partition_point(|prediction| prediction.at < before.as_microsecond());
        let rows = &predictions[first.min(last)..last];
        let labelled = rows.iter().filter(|row| known(row).is_some()).count();
        (Span { since, before, predictions: rows.len(), labelled }, rows)
    };
    let (matured, old) = span(as_of.checked_sub(wait).unwrap_or(Timestamp::MIN));
    let (fresh, new) = span(as_of);

    let metric = Given { value: triggers.metric.value.unwrap_or(Quality::Accuracy), origin: triggers.metric.origin };
    let confidence = triggers.confidence.value;
    let enough = triggers.min_labels.value;
    let newest = |label: &dyn Fn(&Prediction) -> Option<Label>| {
        let labelled = old.iter().rev().filter_map(|row| Some((row, label(row)?)));
        labelled.take(triggers.rows.value).collect::<Vec<_>>()
    };
    let labelled = newest(&known);
    let proxies = if labelled.len() < enough { newest(&|row| known(row).or(row.proxy)) } else { Vec::new() };
    let proxy = proxies.len() >= enough;
    let truth = if proxy { proxies } else { labelled };
    let realised = realised(metric.value, &truth, confidence);
    let estimate = |rows: &mut dyn Iterator<Item = &Prediction>| {
        // The score is about one class against all others.
        let tells = !metric.value.is_of_numbers() && (metric.value != Quality::Accuracy || given.classes <= 2);
        let calibration = given.calibration.filter(|_| tells)?;
        let classified = |row: &Prediction| {
            let chance = calibration.chance(row.score);
            Some(Classified { chance, predicted: row.positive, score: row.score }).filter(|_| chance.is_finite())
        };
        let rows: Vec<Classified> = rows.filter_map(classified).collect();
        of_classes(metric.value, &rows, confidence)
    };
    let estimated = estimate(&mut new.iter().rev().take(triggers.rows.value));
    let reconciled = realised.and_then(|_| estimate(&mut truth.iter().map(|(row, _)| *row)));

    let higher = metric.value.higher_is_better();
    let beyond = |level: f64| realised.is_some_and(|found| if higher { found.high < level } else { found.low > level });
    let standing = match triggers.level.value {
        _ if truth.is_empty() => Standing::NoLabels,
        _ if truth.len() < enough => Standing::TooFewLabels,
        _ if realised.is_none() => Standing::Undefined,
        _ if realised.is_some_and(|found| found.rows < enough) => Standing::TooFewLabels,
        None => Standing::NoLevel,
        Some(level) if beyond(level) => Standing::Triggered,
        Some(_) if triggers.warning.value.is_some_and(beyond) => Standing::Warning,
        Some(_) => Standing::Ok,
    };
    Performance {
        standing,
        metric,
        level: triggers.level,
        warning: triggers.warning,
        confidence: triggers.confidence,
        min_labels: triggers.min_labels,
        rows: triggers.rows,
        maturity_seconds: wait.as_secs(),
        maturity_learned,
        matured,
        proxy,
        realised,
        reconciled,
        fresh,
        estimated,
    }
}

fn realised(metric: Quality, truth: &[(&Prediction, Label)], confidence: f64) -> Option<Measured> {
    if metric.is_of_numbers() {
        let errors: Vec<f64> = truth.iter().map(|(_, label)| label.error).filter(|error| !error.is_nan()).collect();
        return of_errors(metric, &errors, confidence);
    }
    let share = |yes: bool| f64::from(u8::from(yes));
    let rows: Vec<Classified> = truth
        .iter()
        .filter(|(row, _)| !metric.needs_score() || !row.score.is_nan())
        .map(|(row, label)| match metric {
            // Of any number of classes.
            Quality::Accuracy => Classified { chance: share(label.correct), predicted: true, score: row.score },
            _ => Classified { chance: share(label.positive), predicted: row.positive, score: row.score },
        })
        .collect();
    of_classes(metric, &rows, confidence)
}

impl Performance {
    /// Why it fires, in a sentence, if it does.
    pub fn reason(&self) -> Option<String> {
        let (found, level) = (self.realised?, self.level.value?);
        let (side, end) =
            if self.metric.value.higher_is_better() { ("below", found.high) } else { ("above", found.low) };
        (self.standing == Standing::Triggered).then(|| {
            format!(
                "{} {:.4} over {} rows, {side} {level} even at the end of its interval ({end:.4})",
                self.metric.value, found.value, found.rows
            )
        })
    }
}

impl Volume {
    /// Counts the labels that became known before a sweep, from when the count began.
    pub fn count(triggers: &Triggers, predictions: &[Prediction], since: Option<Timestamp>, as_of: Timestamp) -> Self {
        let window = as_of.checked_sub(triggers.volume_within.value).unwrap_or(Timestamp::MIN);
        let since = since.map_or(window, |since| since.max(window));
        let new = since.as_microsecond()..as_of.as_microsecond();
        let labels =
            predictions.iter().filter_map(|row| row.label).filter(|label| new.contains(&label.known_at)).count();
        Self { labels: labels as u64, wanted: triggers.labels, since }
    }

    /// Why it fires, in a sentence, if it does.
    pub fn reason(&self) -> Option<String> {
        (self.labels >= self.wanted.value)
            .then(|| format!("{} new labels since {}, {} are enough", self.labels, self.since, self.wanted.value))
    }
}
