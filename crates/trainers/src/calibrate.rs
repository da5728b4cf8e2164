//! Probabilities that mean what they say: Platt scaling on the logit.
//!
//! The label is regressed on the logit of the score by logistic regression, so that `p = 1 / (1 + exp(−(slope · logit(score) +
//! intercept)))`. Instead of labels 1 and 0 the targets are `(n₁ + 1) / (n₁ + 2)` and `1 / (n₀ + 2)`, with `n₁` and `n₀` the
//! numbers of labels of each class (Platt 1999), so that few rows that are told apart perfectly give no infinite slope. It is
//! fitted by Newton's method with halved steps (Lin, Lin and Weng 2007).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::online::logistic;

/// Scores are cut to this distance from 0 and 1: logits of ±16.1. A probability of 32 bits near 1 has no finer steps.
const EDGE: f64 = 1e-7;

/// The calibration of a score. A slope below 1 says that scores are too far from the mean, a negative one that they run against
/// the label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// What the logit is multiplied by.
    pub slope: f64,
    /// What is added.
    pub intercept: f64,
}

impl Platt {
    /// Fits the calibration of scores from 0 to 1 to labels of the same rows, 0 or 1.
    ///
    /// # Errors
    /// [`Error::Rows`] where the numbers of scores and labels differ, [`Error::Target`] where labels of a class are missing.
    ///
    /// ```
    /// use driftsweep_trainers::calibrate::Platt;
    ///
    /// // Scores of 0.9 that are right in three of four rows are too sure of themselves.
    /// let platt = Platt::fit(&[0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1], &[1., 1., 1., 0., 0., 0., 0., 1.])?;
    /// assert!(platt.apply(0.9) > 0.6 && platt.apply(0.9) < 0.75);
    /// # Ok::<(), driftsweep_trainers::Error>(())
    /// ```
    pub fn fit(scores: &[f64], labels: &[f64]) -> Result<Self> {
        if scores.len() != labels.len() {
            return Err(Error::Rows(format!("{} scores are calibrated on {} labels", scores.len(), labels.len())));
        }
        let ones = labels.iter().filter(|label| **label == 1.0).count() as f64;
        let zeros = labels.len() as f64 - ones;
        if ones == 0.0 || zeros == 0.0 {
            return Err(Error::Target(format!(
                "the {} rows for the calibration are all of one class; give more rows, or a larger share",
                labels.len()
            )));
        }
        let targets = [1.0 / (zeros + 2.0), (ones + 1.0) / (ones + 2.0)];
        let rows = scores.iter().zip(labels).map(|(score, label)| (logit(*score), targets[usize::from(*label == 1.0)]));
        let rows: Vec<(f64, f64)> = rows.collect();
        let start = Self { slope: 0.0, intercept: ((ones + 1.0) / (zeros + 1.0)).ln() };
        Ok(start.newton(&rows))
    }

    /// The calibrated probability of a score from 0 to 1.
    pub fn apply(&self, score: f64) -> f64 {
        logistic(self.linear(logit(score)))
    }

    fn linear(&self, x: f64) -> f64 {
        self.slope * x + self.intercept
    }

    /// The logarithmic loss of logits and targets.
    fn loss(&self, rows: &[(f64, f64)]) -> f64 {
        let of = |&(x, target): &(f64, f64)| {
            let z = self.linear(x);
            // log(1 + exp(z)) − target · z, without overflow.
            (-z.abs()).exp().ln_1p() + z.max(0.0) - target * z
        };
        rows.iter().map(of).sum()
    }

    /// Newton's method from here. The loss is convex, so that halved steps come to its minimum.
    fn newton(mut self, rows: &[(f64, f64)]) -> Self {
        // Added to the second derivatives, so that logits that are all alike do not divide by 0.
        const RIDGE: f64 = 1e-12;
        let mut loss = self.loss(rows);
        for _ in 0..100 {
            let (mut gradient, mut hessian) = ([0.0; 2], [RIDGE, 0.0, RIDGE]);
            for &(x, target) in rows {
                let p = logistic(self.linear(x));
                let (error, weight) = (p - target, p * (1.0 - p));
                gradient = [gradient[0] + error * x, gradient[1] + error];
                hessian = [hessian[0] + weight * x * x, hessian[1] + weight * x, hessian[2] + weight];
            }
            let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
            let slope = (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant;
            let intercept = (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant;
            let mut size = 1.0;
            let next = loop {
                let next = Self { slope: self.slope - size * slope, intercept: self.intercept - size * intercept };
                let next_loss = next.loss(rows);
                if next_loss < loss {
                    loss = next_loss;
                    break Some(next);
                }
                size /= 2.0;
                if size < 1e-10 {
                    break None;
                }
            };
            // No step lowers the loss: the minimum, as far as rounding lets it be found.
            match next {
                Some(next) => self = next,
                None => break,
            }
        }
        self
    }
}

fn logit(score: f64) -> f64 {
    let score = score.clamp(EDGE, 1.0 - EDGE);
    (score / (1.0 - score)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (Vec<f64>, Vec<f64>) {
        let scores: Vec<f64> = (0..90).map(|i| ((i * 37 % 101) as f64 + 1.0) / 103.0).collect();
        let label = |(i, score): (usize, &f64)| f64::from(u8::from(0.2 + 0.5 * score > (i * 29 % 31) as f64 / 31.0));
        let labels = scores.iter().enumerate().map(label).collect();
        (scores, labels)
    }

    fn close(found: f64, wanted: f64, within: f64) {
        assert!((found - wanted).abs() < within, "{found} {wanted}");
    }

    #[test]
    fn the_fit_is_the_minimum_that_scipy_and_scikit_learn_find() {
        let (scores, labels) = data();
        let platt = Platt::fit(&scores, &labels).unwrap();
        // tests/reference/calibrate.py: scipy.optimize.minimize of the smoothed loss, to a gradient of 1e-10.
        close(platt.slope, 0.365_331_861_775_237_24, 1e-9);
        close(platt.intercept, -0.167_318_604_370_395_25, 1e-9);
        // sklearn.calibration._SigmoidCalibration().fit(logit, labels), which is less exact.
        close(platt.slope, 0.365_331_862_378_285_47, 1e-7);
        close(platt.intercept, -0.167_318_602_776_718_3, 1e-7);
    }

    #[test]
    fn rows_told_apart_perfectly_give_a_finite_slope() {
        let platt = Platt::fit(&[0.1, 0.2, 0.8, 0.9], &[0.0, 0.0, 1.0, 1.0]).unwrap();
        assert!(platt.slope > 0.5 && platt.slope < 5.0, "{platt:?}");
        // The smoothed targets are 1/4 and 3/4, which these symmetric scores reach in the mean.
        close(platt.intercept, 0.0, 1e-6);
        let (low, high) = (platt.apply(0.0), platt.apply(1.0));
        assert!(low > 0.0 && high < 1.0 && low < 0.25 && high > 0.75, "{low} {high}");
    }

    #[test]
    fn scores_that_are_all_alike_give_the_share_of_ones() {
        let platt = Platt::fit(&[0.3; 10], &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        // Two smoothed targets of 3/4 and eight of 1/10.
        close(platt.apply(0.3), 0.23, 1e-9);
    }

    #[test]
    fn one_class_and_unequal_lengths_are_refused() {
        assert!(Platt::fit(&[0.1, 0.2], &[0.0, 0.0]).unwrap_err().to_string().contains("one class"));
        assert!(Platt::fit(&[0.1], &[0.0, 1.0]).is_err());
    }
}
