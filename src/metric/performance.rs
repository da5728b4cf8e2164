//! How well a model predicts: performance metrics of predictions against labels, and their estimates while labels are
//! missing.
//!
//! A row of a classifier is the prediction and the probability that the positive label is true: 0 or 1 where the label
//! is known, the calibrated score where it is not. Every measure is a smooth function of means over such rows, so one
//! formula gives both the realised figure and the estimate (confidence-based performance estimation, the expected
//! confusion matrix under calibrated scores), and the rows' influence on it (Hampel 1974) gives the interval of both.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::count::Domain;
use crate::count::key::key_f64;
use driftsweep_common::error::{Error, Result};

/// A performance metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PerformanceMetric {
    /// Share of right predictions.
    Accuracy,
    /// Share of the predicted positives that are positive.
    Precision,
    /// Share of the positives that were predicted.
    Recall,
    /// Harmonic mean of precision and recall.
    F1,
    /// Area under the receiver operating characteristic, ties counted half.
    Auc,
    /// Mean square of the score less the label (1 or 0).
    Brier,
    /// Mean negative logarithm of the probability of what came true (nats); scores are kept 1e-15 from 0 and 1.
    LogLoss,
    /// Mean absolute error.
    Mae,
    /// Root of the mean squared error.
    Rmse,
}

impl PerformanceMetric {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Accuracy,
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::Auc,
        Self::Brier,
        Self::LogLoss,
        Self::Mae,
        Self::Rmse,
    ];

    /// The name in fleet files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Auc => "auc",
            Self::Brier => "brier",
            Self::LogLoss => "log_loss",
            Self::Mae => "mae",
            Self::Rmse => "rmse",
        }
    }

    /// Whether higher is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Brier | Self::LogLoss | Self::Mae | Self::Rmse)
    }

    /// Whether it is about numbers instead of classes.
    pub fn is_of_numbers(self) -> bool {
        matches!(self, Self::Mae | Self::Rmse)
    }

    /// Whether it needs the score.
    pub fn needs_score(self) -> bool {
        matches!(self, Self::Auc | Self::Brier | Self::LogLoss)
    }
}

impl FromStr for PerformanceMetric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| Error::unknown("metric", name, Self::ALL.map(Self::name)))
    }
}

impl fmt::Display for PerformanceMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A performance metric with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The figure.
    pub value: f64,
    /// Lower end of the two-sided interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Rows that it is about: for precision those predicted, for recall those that are positive, for F1 and the area under
    /// the curve the fewer of two kinds.
    pub rows: usize,
}

/// One row of a classifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifiedRow {
    /// Probability that the positive label is true; 0 or 1 where it is known.
    pub chance: f64,
    /// Whether it was predicted.
    pub predicted: bool,
    /// The model's score, for the measures that need one.
    pub score: f64,
}

/// A metric over rows of a classifier, and the influence of each row on it (Hampel 1974): what it adds to n times the
/// metric's deviation. Influences have mean 0, and their variance divided by n is that of the metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Influences {
    /// The metric.
    pub value: f64,
    /// The influence of each row if its label is negative, and if it is positive.
    pub of: Vec<[f64; 2]>,
    /// Rows that the metric is about; see [`Measurement::rows`].
    pub rows: usize,
    /// For a metric that is a share of rows: the numerator's share of them, and their number.
    share: Option<(f64, f64)>,
}

/// A metric of a classifier with the influence of each row. `None` where it is not defined: no rows, no positives,
/// nothing predicted, one class only, or a metric of numbers.
pub fn influences(metric: PerformanceMetric, rows: &[ClassifiedRow]) -> Option<Influences> {
    let n = rows.len() as f64;
    let mean = |of: &dyn Fn(&ClassifiedRow) -> f64| rows.iter().map(of).sum::<f64>() / n;
    let yes = |row: &ClassifiedRow| f64::from(u8::from(row.predicted));
    let each = |of: &dyn Fn(&ClassifiedRow) -> [f64; 2]| rows.iter().map(of).collect::<Vec<_>>();
    let hits = mean(&|row| row.chance * yes(row));
    let predicted = mean(&yes);
    let positives = mean(&|row| row.chance);
    let share = |value: f64, share: f64, of: Vec<[f64; 2]>| {
        Some(Influences { value, of, rows: (share * n).round() as usize, share: Some((value, share * n)) })
    };
    // The mean of a loss over the rows.
    let loss = |loss: &dyn Fn(&ClassifiedRow) -> [f64; 2]| {
        let value = mean(&|row| {
            let [negative, positive] = loss(row);
            (1.0 - row.chance) * negative + row.chance * positive
        });
        let of = each(&|row| loss(row).map(|loss| loss - value));
        Some(Influences { value, of, rows: rows.len(), share: None })
    };
    let found = match metric {
        _ if rows.is_empty() => None,
        PerformanceMetric::Accuracy => {
            let value = mean(&|row| if row.predicted { row.chance } else { 1.0 - row.chance });
            share(value, 1.0, each(&|row| [1.0 - yes(row) - value, yes(row) - value]))
        }
        PerformanceMetric::Precision if predicted > 0.0 => {
            let value = hits / predicted;
            share(value, predicted, each(&|row| [0.0, 1.0].map(|y| yes(row) * (y - value) / predicted)))
        }
        PerformanceMetric::Recall if positives > 0.0 => {
            let value = hits / positives;
            share(value, positives, each(&|row| [0.0, (yes(row) - value) / positives]))
        }
        PerformanceMetric::F1 if predicted + positives > 0.0 => {
            let value = 2.0 * hits / (predicted + positives);
            let of = each(&|row| {
                [0.0, 1.0].map(|y| (2.0 * y * yes(row) - value * (yes(row) + y)) / (predicted + positives))
            });
            // Of the rows that are positive, predicted or both, the share that is both.
            let either = predicted + positives - hits;
            let rows = (predicted.min(positives) * n).round() as usize;
            Some(Influences { value, of, rows, share: Some((hits / either, either * n)) })
        }
        PerformanceMetric::Brier => loss(&|row| [row.score * row.score, (1.0 - row.score) * (1.0 - row.score)]),
        PerformanceMetric::LogLoss => loss(&|row| {
            let score = row.score.clamp(1e-15, 1.0 - 1e-15);
            [-(-score).ln_1p(), -score.ln()]
        }),
        // A missing score has no place among the others.
        PerformanceMetric::Auc if rows.iter().any(|row| row.score.is_nan()) => None,
        PerformanceMetric::Auc if positives > 0.0 && positives < 1.0 => Some(auc(rows, positives)),
        _ => None,
    };
    found.filter(|found| found.value.is_finite() && found.of.iter().flatten().all(|influence| influence.is_finite()))
}

/// A metric of a classifier. `None` where it is not defined: no rows, no positives, nothing predicted, one class only.
pub fn of_classes(metric: PerformanceMetric, rows: &[ClassifiedRow], confidence: f64) -> Option<Measurement> {
    let z = quantile(confidence)?;
    let found = influences(metric, rows)?;
    let certain = rows.iter().all(|row| row.chance == 0.0 || row.chance == 1.0);
    let measured = match found.share {
        // The normal interval has no width at 0 and 1.
        Some((value, of)) if certain => {
            let measured = wilson(value, of, z);
            match metric {
                PerformanceMetric::F1 => {
                    let [low, high] = [measured.low, measured.high].map(|share| 2.0 * share / (1.0 + share));
                    Measurement { value: found.value, low, high, ..measured }
                }
                _ => measured,
            }
        }
        _ => {
            let square = |(row, [negative, positive]): (&ClassifiedRow, &[f64; 2])| {
                (1.0 - row.chance) * negative * negative + row.chance * positive * positive
            };
            let square = rows.iter().zip(&found.of).map(square).sum::<f64>() / rows.len() as f64;
            interval(found.value, square, rows.len(), z)
        }
    };
    let limits = match metric {
        PerformanceMetric::Auc | PerformanceMetric::Brier => 0.0..=1.0,
        _ => f64::NEG_INFINITY..=f64::INFINITY,
    };
    let within = |end: f64| end.clamp(*limits.start(), *limits.end());
    let measured = Measurement { rows: found.rows, low: within(measured.low), high: within(measured.high), ..measured };
    is_finite(&measured).then_some(measured)
}

/// Area under the curve by ranks; influences as DeLong, DeLong and Clarke-Pearson 1988 have them.
fn auc(rows: &[ClassifiedRow], positives: f64) -> Influences {
    let n = rows.len() as f64;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&i, &j| rows[i].score.total_cmp(&rows[j].score));
    // For each row: the weight of negatives below it, and of positives above it, ties half; both as shares.
    let (mut below, mut above) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
    let (mut negative_weight, mut positive_weight) = (0.0, 0.0);
    for tie in order.chunk_by(|&i, &j| rows[i].score == rows[j].score) {
        let positive: f64 = tie.iter().map(|&i| rows[i].chance).sum();
        let negative = tie.len() as f64 - positive;
        for &i in tie {
            below[i] = (negative_weight + negative / 2.0) / (n * (1.0 - positives));
            above[i] = 1.0 - (positive_weight + positive / 2.0) / (n * positives);
        }
        negative_weight += negative;
        positive_weight += positive;
    }
    let value = rows.iter().zip(&below).map(|(row, below)| row.chance * below).sum::<f64>() / (n * positives);
    let of = below
        .iter()
        .zip(&above)
        .map(|(below, above)| [(above - value) / (1.0 - positives), (below - value) / positives]);
    let fewer = (positives.min(1.0 - positives) * n).round() as usize;
    Influences { value, of: of.collect(), rows: fewer, share: None }
}

/// A metric of a model that predicts numbers, from its errors, and the influence of each of them; see [`Influences`]. `None`
/// without rows, and for a metric of classes.
pub fn influences_of_errors(metric: PerformanceMetric, errors: &[f64]) -> Option<(f64, Vec<f64>)> {
    let n = errors.len() as f64;
    let mean = |of: &dyn Fn(f64) -> f64| errors.iter().map(|&e| of(e)).sum::<f64>() / n;
    let (value, of): (f64, Vec<f64>) = match metric {
        _ if errors.is_empty() => return None,
        PerformanceMetric::Mae => {
            let value = mean(&f64::abs);
            (value, errors.iter().map(|e| e.abs() - value).collect())
        }
        PerformanceMetric::Rmse => {
            let square = mean(&|e| e * e);
            let value = square.sqrt();
            let of = |e: &f64| if value > 0.0 { (e * e - square) / (2.0 * value) } else { 0.0 };
            (value, errors.iter().map(of).collect())
        }
        _ => return None,
    };
    value.is_finite().then_some((value, of))
}

/// A metric of a model that predicts numbers, from its errors. `None` without rows.
pub fn of_errors(metric: PerformanceMetric, errors: &[f64], confidence: f64) -> Option<Measurement> {
    let z = quantile(confidence)?;
    let (value, of) = influences_of_errors(metric, errors)?;
    let square = of.iter().map(|influence| influence * influence).sum::<f64>() / errors.len() as f64;
    let measured = interval(value, square, errors.len(), z);
    is_finite(&measured).then_some(Measurement { low: measured.low.max(0.0), ..measured })
}

fn is_finite(measured: &Measurement) -> bool {
    [measured.value, measured.low, measured.high].into_iter().all(f64::is_finite)
}

fn quantile(confidence: f64) -> Option<f64> {
    (0.0..1.0).contains(&confidence).then(|| Normal::standard().inverse_cdf(0.5 + confidence / 2.0))
}

fn interval(value: f64, square: f64, rows: usize, z: f64) -> Measurement {
    let half = z * (square / rows as f64).sqrt();
    Measurement { value, low: value - half, high: value + half, rows }
}

/// A share of a number of rows with Wilson's interval (Wilson 1927).
pub fn share_of_rows(share: f64, rows: usize, confidence: f64) -> Measurement {
    match quantile(confidence).filter(|_| rows > 0) {
        Some(z) => wilson(share, rows as f64, z),
        None => Measurement { value: share, low: 0.0, high: 1.0, rows },
    }
}

/// Wilson's interval of a share of `of` rows.
fn wilson(value: f64, of: f64, z: f64) -> Measurement {
    let square = z * z / of;
    let middle = (value + square / 2.0) / (1.0 + square);
    let half = z / (1.0 + square) * (value * (1.0 - value) / of + square / (4.0 * of)).sqrt();
    Measurement { value, low: (middle - half).max(0.0), high: (middle + half).min(1.0), rows: of.round() as usize }
}

/// The best increasing step function from scores to the probability of the label: isotonic regression by pooling
/// adjacent violators, linear between the steps' ends.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreCalibration {
    /// Increasing scores, each with its probability.
    points: Vec<(f64, f64)>,
}

/// Scores with labels, counted by score so that memory does not grow with the rows.
#[derive(Clone, Debug)]
pub struct ScoreCounts {
    /// Most distinct scores that are distinguished.
    most: usize,
    /// Low bits of the scores' keys that are dropped: none unless there are more distinct scores than that.
    dropped: u32,
    /// Rows and positive ones by key.
    counts: HashMap<u64, (u64, u64)>,
}

impl ScoreCounts {
    /// Without rows. More than `most` distinct scores are rounded, as little as necessary.
    pub fn new(most: usize) -> Self {
        Self { most, dropped: 0, counts: HashMap::new() }
    }

    /// Counts a row; one without a finite score is skipped.
    pub fn add(&mut self, score: f64, positive: bool) {
        if !score.is_finite() {
            return;
        }
        let (rows, positives) = self.counts.entry(key_f64(score) >> self.dropped).or_default();
        *rows += 1;
        *positives += u64::from(positive);
        while self.counts.len() > self.most && self.dropped < 52 {
            self.dropped += 1;
            for (key, (rows, positives)) in std::mem::take(&mut self.counts) {
                let merged = self.counts.entry(key >> 1).or_default();
                merged.0 += rows;
                merged.1 += positives;
            }
        }
    }
}

/// Most distinct scores in a calibration: about 50 MB of counts.
const MAX_SCORES: usize = 1 << 20;

impl Default for ScoreCounts {
    fn default() -> Self {
        Self::new(MAX_SCORES)
    }
}

impl ScoreCalibration {
    /// Fits scores to labels. `None` where there are none.
    pub fn fit(scored: ScoreCounts) -> Option<Self> {
        let mut rows: Vec<(u64, (u64, u64))> = scored.counts.into_iter().collect();
        rows.sort_unstable();
        // Blocks of equal scores, then of pooled violators: first and last score, weight, sum.
        let mut blocks: Vec<[f64; 4]> = Vec::new();
        for (key, (rows, positives)) in rows {
            let score = Domain::F64.value(key << scored.dropped);
            let mut block = [score, score, rows as f64, positives as f64];
            while let Some(last) = blocks.last()
                && last[3] * block[2] >= block[3] * last[2]
            {
                block = [last[0], block[1], last[2] + block[2], last[3] + block[3]];
                blocks.pop();
            }
            blocks.push(block);
        }
        let points: Vec<(f64, f64)> = blocks
            .into_iter()
            .flat_map(|[first, last, weight, sum]| {
                let chance = sum / weight;
                [Some((first, chance)), Some((last, chance)).filter(|_| last > first)]
            })
            .flatten()
            .collect();
        (!points.is_empty()).then_some(Self { points })
    }

    /// The probability of the label at a score; NaN without one.
    pub fn chance(&self, score: f64) -> f64 {
        if score.is_nan() {
            return score;
        }
        let at = self.points.partition_point(|&(x, _)| x < score);
        match (at.checked_sub(1).map(|below| self.points[below]), self.points.get(at)) {
            (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (score - x0) / (x1 - x0),
            (None, Some(&(_, y))) => y,
            (Some((_, y)), None) => y,
            (None, None) => f64::NAN,
        }
    }
}

/// The label delay: the smallest delay by which `share` of the labels that ever arrive have arrived, by Kaplan and
/// Meier 1958, in bins of time. `arrived` counts labels by their delay, `waiting` rows without a label by their age,
/// which says only that the delay is larger. The number of the bin; `None` if no label has arrived.
pub fn maturity(arrived: &[u64], waiting: &[u64], share: f64) -> Option<usize> {
    let mut at_risk: u64 = arrived.iter().chain(waiting).sum();
    let mut left = 1.0;
    let mut curve: Vec<(usize, f64)> = Vec::new();
    // An arrival at the age of another row comes before it.
    for (bin, &came) in arrived.iter().enumerate() {
        if came > 0 {
            left *= 1.0 - came as f64 / at_risk as f64;
            curve.push((bin, 1.0 - left));
        }
        at_risk -= came + waiting.get(bin).copied().unwrap_or(0);
    }
    let most = curve.last()?.1;
    curve.iter().find(|(_, arrived)| *arrived >= share * most * (1.0 - 1e-12)).map(|(bin, _)| *bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(data: &[(f64, bool, f64)]) -> Vec<ClassifiedRow> {
        data.iter().map(|&(chance, predicted, score)| ClassifiedRow { chance, predicted, score }).collect()
    }

    /// sklearn.metrics on y = [1,0,1,1,0,0,1,0], predicted = [1,0,1,0,1,0,1,0], score as below.
    fn known() -> Vec<ClassifiedRow> {
        rows(&[
            (1.0, true, 0.9),
            (0.0, false, 0.2),
            (1.0, true, 0.7),
            (1.0, false, 0.4),
            (0.0, true, 0.6),
            (0.0, false, 0.4),
            (1.0, true, 0.8),
            (0.0, false, 0.1),
        ])
    }

    #[test]
    fn realised_measures_are_those_of_scikit_learn() {
        for (quality, wanted) in [
            (PerformanceMetric::Accuracy, 0.75),
            (PerformanceMetric::Precision, 0.75),
            (PerformanceMetric::Recall, 0.75),
            (PerformanceMetric::F1, 0.75),
            // roc_auc_score, log_loss
            (PerformanceMetric::Auc, 0.90625),
            (PerformanceMetric::LogLoss, 0.419_636_270_674_638_2),
            // brier_score_loss
            (PerformanceMetric::Brier, 0.133_75),
        ] {
            let found = of_classes(quality, &known(), 0.95).unwrap();
            assert!((found.value - wanted).abs() < 1e-12, "{quality} {found:?}");
            assert!(found.low < wanted && wanted < found.high, "{quality} {found:?}");
        }
        // statsmodels proportion_confint(6, 8, method="wilson")
        let accuracy = of_classes(PerformanceMetric::Accuracy, &known(), 0.95).unwrap();
        assert!((accuracy.low - 0.409_275_430_3).abs() < 1e-9, "{accuracy:?}");
        assert!((accuracy.high - 0.928_520_787_2).abs() < 1e-9, "{accuracy:?}");
        let errors = [1.0, -2.0, 3.0];
        assert!((of_errors(PerformanceMetric::Mae, &errors, 0.95).unwrap().value - 2.0).abs() < 1e-15);
        assert!(
            (of_errors(PerformanceMetric::Rmse, &errors, 0.95).unwrap().value - (14.0f64 / 3.0).sqrt()).abs() < 1e-15
        );
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        // A calibrated score of three values; the label by a fixed generator. The truth is the estimate over the chances.
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        for quality in [
            PerformanceMetric::Accuracy,
            PerformanceMetric::Precision,
            PerformanceMetric::Recall,
            PerformanceMetric::F1,
            PerformanceMetric::Auc,
            PerformanceMetric::LogLoss,
            PerformanceMetric::Brier,
        ] {
            let scores = [0.1, 0.4, 0.6, 0.9];
            let all = scores.map(|score| ClassifiedRow { chance: score, predicted: score > 0.5, score });
            let truth = of_classes(quality, &all, 0.95).unwrap().value;
            let inside = (0..1000).filter(|_| {
                let sample: Vec<_> = (0..400)
                    .map(|_| {
                        let row = all[(draw() * 4.0) as usize];
                        ClassifiedRow { chance: f64::from(u8::from(draw() < row.chance)), ..row }
                    })
                    .collect();
                let found = of_classes(quality, &sample, 0.95).unwrap();
                found.low <= truth && truth <= found.high
            });
            let inside = inside.count();
            assert!((925..=975).contains(&inside), "{quality}: {inside} of 1000");
        }
    }

    #[test]
    fn one_row_of_the_rare_class_says_little() {
        let mut rare = rows(&[(0.0, false, 0.1); 199]);
        rare.push(ClassifiedRow { chance: 1.0, predicted: false, score: 0.1 });
        for quality in [PerformanceMetric::Recall, PerformanceMetric::F1, PerformanceMetric::Auc] {
            let found = of_classes(quality, &rare, 0.95).unwrap();
            assert!(found.rows <= 1, "{quality} {found:?}");
        }
        assert!(of_classes(PerformanceMetric::F1, &rare, 0.95).unwrap().high > 0.8);
    }

    #[test]
    fn what_is_not_defined_is_not_a_figure() {
        let nothing_predicted = rows(&[(1.0, false, 0.1), (0.0, false, 0.2)]);
        assert!(of_classes(PerformanceMetric::Precision, &nothing_predicted, 0.95).is_none());
        let one_class = rows(&[(0.0, true, 0.1), (0.0, false, 0.2)]);
        for quality in [PerformanceMetric::Recall, PerformanceMetric::Auc] {
            assert!(of_classes(quality, &one_class, 0.95).is_none(), "{quality}");
        }
        assert!(of_classes(PerformanceMetric::Accuracy, &[], 0.95).is_none());
        assert!(of_errors(PerformanceMetric::Mae, &[], 0.95).is_none());
    }

    #[test]
    fn calibration_is_isotonic_regression() {
        // sklearn IsotonicRegression().fit([1,2,3,4,5,5], [0,1,0,1,1,0]).predict([0,1,2,2.5,4,5,9])
        let rows = [(1.0, false), (2.0, true), (3.0, false), (4.0, true), (5.0, true), (5.0, false)];
        let fit = |rows: &[(f64, bool)], most| {
            let mut scored = ScoreCounts::new(most);
            rows.iter().for_each(|&(score, positive)| scored.add(score, positive));
            ScoreCalibration::fit(scored)
        };
        let fitted = fit(&rows, 100).unwrap();
        let two_thirds = 2.0 / 3.0;
        for (score, wanted) in
            [(0.0, 0.0), (1.0, 0.0), (2.0, 0.5), (2.5, 0.5), (4.0, two_thirds), (5.0, two_thirds), (9.0, two_thirds)]
        {
            assert!((fitted.chance(score) - wanted).abs() < 1e-12, "{score}: {}", fitted.chance(score));
        }
        assert!(fitted.chance(f64::NAN).is_nan());
        assert!(fit(&[(f64::NAN, true)], 100).is_none());
        // More distinct scores than are told apart: rounded, the same in any order of the rows.
        let mut many: Vec<(f64, bool)> =
            (0..5000).map(|i| (f64::from(i) / 5000.0, i % 5000 > 2500 || i % 7 == 0)).collect();
        let (exact, rounded) = (fit(&many, 10_000).unwrap(), fit(&many, 500).unwrap());
        for score in [0.05, 0.3, 0.7, 0.95] {
            assert!((exact.chance(score) - rounded.chance(score)).abs() < 0.02, "{score}");
        }
        many.reverse();
        assert_eq!(fit(&many, 500).unwrap(), rounded);
    }

    #[test]
    fn labels_still_to_come_make_the_delay_longer_not_shorter() {
        let at = |delays: &[(usize, u64)]| {
            let mut bins = vec![0; 1001];
            delays.iter().for_each(|&(bin, rows)| bins[bin] += rows);
            bins
        };
        // Without rows that wait the delay is a quantile.
        let arrived: Vec<u64> = at(&(1..=100).map(|delay| (delay, 1)).collect::<Vec<_>>());
        assert_eq!(maturity(&arrived, &[], 0.95), Some(95));
        // Young rows without labels do not change it, rows that will never have one do not either.
        assert_eq!(maturity(&arrived, &at(&[(1000, 50)]), 0.95), Some(95));
        // Half of the rows waiting at 50 push weight to what arrives later.
        assert!(maturity(&arrived, &at(&[(50, 100)]), 0.5).unwrap() > 50);
        assert_eq!(maturity(&[], &at(&[(5, 1)]), 0.95), None);
    }
}
