//! Whether scores are the probabilities that they look like: the logistic regression of labels on scores (Cox 1958).

/// The line of the regression on the logarithm of the odds: intercept 0 and slope 1 are calibrated scores. A slope below 1
/// is of scores that are too extreme, as those of an overfitted model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationLine {
    /// Its intercept.
    pub intercept: f64,
    /// Its slope.
    pub slope: f64,
    /// The standard error of the slope.
    pub slope_error: f64,
}

impl CalibrationLine {
    /// By maximum likelihood. `None` where there is none: one class only, equal scores, or scores that separate the labels.
    ///
    /// ```
    /// use driftsweep_training::gate::CalibrationLine;
    ///
    /// let rows = [(0.2, false), (0.2, false), (0.2, true), (0.6, true), (0.6, false), (0.6, true)];
    /// let line = CalibrationLine::fit(&rows).unwrap();
    /// // The odds are 1:2 at 0.2 and 2:1 at 0.6.
    /// assert!((line.slope - 4f64.ln() / 6f64.ln()).abs() < 1e-9);
    /// ```
    pub fn fit(rows: &[(f64, bool)]) -> Option<Self> {
        let odds: Vec<(f64, f64)> = rows
            .iter()
            .map(|&(score, positive)| {
                let score = score.clamp(1e-15, 1.0 - 1e-15);
                (score.ln() - (-score).ln_1p(), f64::from(u8::from(positive)))
            })
            .collect();
        let likelihood = |[a, b]: [f64; 2]| -> f64 {
            odds.iter().map(|&(x, y)| if y > 0.5 { -softplus(-(a + b * x)) } else { -softplus(a + b * x) }).sum()
        };
        let mut line = [0.0, 0.0];
        let mut best = likelihood(line);
        for _ in 0..100 {
            let (mut gradient, mut information) = ([0.0; 2], [0.0; 3]);
            for &(x, y) in &odds {
                let p = 1.0 / (1.0 + (-(line[0] + line[1] * x)).exp());
                let weight = p * (1.0 - p);
                gradient[0] += y - p;
                gradient[1] += (y - p) * x;
                information[0] += weight;
                information[1] += weight * x;
                information[2] += weight * x * x;
            }
            let [aa, ab, bb] = information;
            let determinant = aa * bb - ab * ab;
            if determinant <= 1e-12 * aa * bb || !determinant.is_finite() {
                return None;
            }
            let step = [
                (bb * gradient[0] - ab * gradient[1]) / determinant,
                (aa * gradient[1] - ab * gradient[0]) / determinant,
            ];
            // Newton's step, halved while it goes too far.
            let mut share = 1.0;
            let (next, reached) = loop {
                let next = [line[0] + share * step[0], line[1] + share * step[1]];
                let reached = likelihood(next);
                if reached >= best || share < 1e-6 {
                    break (next, reached);
                }
                share /= 2.0;
            };
            if !next.iter().all(|x| x.abs() < 1e6) {
                return None;
            }
            let moved = (next[0] - line[0]).abs().max((next[1] - line[1]).abs());
            (line, best) = (next, reached);
            if moved < 1e-10 {
                let slope_error = (aa / determinant).sqrt();
                return Some(Self { intercept: line[0], slope: line[1], slope_error });
            }
        }
        None
    }
}

/// ln(1 + e^x).
fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_logistic_regression() {
        let rows: Vec<(f64, bool)> = (0..60)
            .map(|i| {
                let positive = (i * 7) % 3 == 0;
                let score = (i * 37 % 101) as f64 / 101.0 + if positive { 0.3 } else { 0.0 };
                ((score / 1.3).clamp(0.0, 1.0), positive)
            })
            .collect();
        // scipy.optimize.minimize of the negative log-likelihood
        let line = CalibrationLine::fit(&rows).unwrap();
        assert!((line.slope - 0.958_940_8).abs() < 1e-6 && (line.intercept + 0.664_188_05).abs() < 1e-6, "{line:?}");
        assert!(line.slope_error > 0.0);
        // Calibrated labels of the same scores: the odds of the scores are those of the labels.
        let halves: Vec<(f64, bool)> = [(0.25, 1), (0.5, 2), (0.75, 3)]
            .into_iter()
            .flat_map(|(score, positives)| (0..4).map(move |i| (score, i < positives)))
            .collect();
        let even = CalibrationLine::fit(&halves).unwrap();
        assert!((even.slope - 1.0).abs() < 1e-9 && even.intercept.abs() < 1e-9, "{even:?}");
    }

    #[test]
    fn scores_without_a_line_have_none() {
        for rows in [
            vec![],
            vec![(0.5, true), (0.5, false)],
            vec![(0.2, true), (0.7, true)],
            // Separated: the likelihood has no maximum.
            vec![(0.1, false), (0.2, false), (0.8, true), (0.9, true)],
        ] {
            assert_eq!(CalibrationLine::fit(&rows), None, "{rows:?}");
        }
        // Scores of 0 and 1 are kept away from infinity.
        assert!(CalibrationLine::fit(&[(0.0, false), (0.0, true), (1.0, true), (1.0, false), (0.5, true)]).is_some());
    }
}
