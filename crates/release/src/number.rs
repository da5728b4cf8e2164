//! Two arms with outcomes that are numbers, compared at every look: an interval for the difference of their means that holds at
//! all looks together.
//!
//! Each row of the candidate is compared with the mean of rows of production of the same block, as many for each as there are.
//! The differences lie between known limits, and their interval is the empirical Bernstein confidence sequence of Waudby-Smith and
//! Ramdas (Journal of the Royal Statistical Society B 86, 2024, theorem 2; reference: `confseq`, predmix_empbern_cs):
//!
//! ```text
//! Σ λ_i x_i / Σ λ_i ± (ln(2/α) + Σ v_i ψ(λ_i)) / Σ λ_i      v_i = 4 (x_i − μ_{i−1})²      ψ(λ) = (−ln(1 − λ) − λ) / 4
//! λ_i = min(½, √(2 ln(2/α) / (σ²_{i−1} i ln(1 + i))))       μ, σ²: running, with one value of ½ and a variance of ¼ before them
//! ```
//!
//! Rows of a block must come in an order that does not depend on their outcomes.

use serde::{Deserialize, Serialize};

/// The largest weight of a difference.
const MAX_WEIGHT: f64 = 0.5;

/// An interval for a mean difference, after some rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifferenceBound {
    /// The largest difference of two outcomes: outcomes lie between known limits that are so far apart.
    range: f64,
    level: f64,
    rows: u64,
    sum: f64,
    squares: f64,
    weights: f64,
    weighted: f64,
    spread: f64,
}

impl DifferenceBound {
    /// Before the first row. Outcomes are clamped to limits that are `range` apart; the interval misses the mean with a probability
    /// of at most `level`.
    pub fn new(range: f64, level: f64) -> Self {
        Self { range, level, rows: 0, sum: 0.0, squares: 0.0, weights: 0.0, weighted: 0.0, spread: 0.0 }
    }

    /// After one more block: the outcomes of both arms, in an order that does not depend on them. Rows of production that are left
    /// over are used in the mean for the last row of the candidate.
    pub fn after(mut self, candidate: &[f64], production: &[f64]) -> Self {
        // Without as many rows of production, rows of the candidate are left out.
        let pairs = candidate.len().min(production.len());
        if pairs == 0 {
            return self;
        }
        let each = production.len() / pairs;
        for (row, own) in candidate[..pairs].iter().enumerate() {
            let others = match row + 1 == pairs {
                true => &production[row * each..],
                false => &production[row * each..(row + 1) * each],
            };
            let mean = others.iter().sum::<f64>() / others.len() as f64;
            self.add(own - mean);
        }
        self
    }

    fn add(&mut self, difference: f64) {
        // What is no number says nothing; it would spoil all that follows.
        if !difference.is_finite() {
            return;
        }
        let x = (0.5 + 0.5 * difference / self.range).clamp(0.0, 1.0);
        let row = (self.rows + 1) as f64;
        let mean = (0.5 + self.sum) / row;
        let variance = (0.25 + self.squares) / row;
        let weight = (2.0 * (2.0 / self.level).ln() / (variance * row * (1.0 + row).ln())).sqrt().min(MAX_WEIGHT);
        self.weights += weight;
        self.weighted += weight * x;
        self.spread += (x - mean).powi(2) * (-(1.0 - weight).ln() - weight);
        self.rows += 1;
        self.sum += x;
        let after = (0.5 + self.sum) / (self.rows as f64 + 1.0);
        self.squares += (x - after).powi(2);
    }

    /// The rows of the candidate that were compared.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The interval of the mean difference, the candidate less production; the whole range before the first row.
    pub fn interval(&self) -> (f64, f64) {
        if self.rows == 0 {
            return (-self.range, self.range);
        }
        let middle = self.weighted / self.weights;
        let half = ((2.0 / self.level).ln() + self.spread) / self.weights;
        let scaled = |x: f64| (2.0 * x.clamp(0.0, 1.0) - 1.0) * self.range;
        (scaled(middle - half), scaled(middle + half))
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Normal};
    use rand_pcg::Pcg64;

    use super::*;

    /// The loop of the formula in plain Python, with x = (7 i mod 11) / 10 for i from 0 to 199, at level 0.05.
    #[test]
    fn the_interval_is_that_of_the_formula() {
        let mut bound = DifferenceBound::new(1.0, 0.05);
        for i in 0..200u32 {
            let x = f64::from(7 * i % 11) / 10.0;
            bound.add(2.0 * x - 1.0);
        }
        let (low, high) = bound.interval();
        let half = |x: f64| (x + 1.0) / 2.0;
        assert!((half(low) - REFERENCE.0).abs() < 1e-12 && (half(high) - REFERENCE.1).abs() < 1e-12, "{low} {high}");
    }

    const REFERENCE: (f64, f64) = (0.420453857583175, 0.5767847955748654);

    #[test]
    fn the_interval_holds_at_all_looks_whatever_the_level_of_outcomes_does() {
        let (trials, mut missed, mut found) = (400, 0, 0);
        for trial in 0..trials {
            let mut random = Pcg64::new(trial, 7);
            for (worse, count) in [(0.0, &mut missed), (0.2, &mut found)] {
                let mut bound = DifferenceBound::new(1.0, 0.05);
                let mut out = false;
                for day in 0..20u32 {
                    // Outcomes of both arms fall from day to day.
                    let level = 0.7 - 0.01 * f64::from(day);
                    let normal = |mean: f64| Normal::new(mean, 0.1).unwrap();
                    let draw = |random: &mut Pcg64, n: usize, mean: f64| -> Vec<f64> {
                        (0..n).map(|_| normal(mean).sample(random).clamp(0.0, 1.0)).collect()
                    };
                    let own = draw(&mut random, 20, level - worse);
                    let other = draw(&mut random, 380, level);
                    bound = bound.after(&own, &other);
                    let (low, high) = bound.interval();
                    out |= high < 0.0 || low > 0.0;
                }
                *count += u32::from(out);
            }
        }
        assert!(missed <= 20, "{missed} of {trials} intervals missed no difference");
        assert!(found >= 396, "{found} of {trials} found a difference of 0.2");
        assert_eq!(DifferenceBound::new(2.0, 0.05).after(&[], &[1.0]).interval(), (-2.0, 2.0));
    }
}
