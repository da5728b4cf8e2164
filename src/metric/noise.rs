//! The noise floor: what PSI and the Jensen-Shannon divergence would be with no drift at all.
//!
//! Given both samples together, a bin with `c` values splits under the null as `Binomial(c, n / (n + m))`. Where the
//! counts are large both metrics are then chi-square distributed times `1/n + 1/m` (and 1/8 for the divergence). Where
//! they are small this fails badly: thousands of rare categories look like drift. There the mean and the variance of
//! every bin's contribution are summed exactly over its possible splits, and a gamma distribution with that mean and
//! variance, which the chi-square law is a case of, takes its place.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma};
use statrs::function::gamma::gamma_ur;

use super::fdr::TestResult;

/// A metric compared with its noise level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseLevel {
    /// The probability of a value at least this large without drift.
    pub p_value: f64,
    /// The value that 99 % of comparisons without drift stay below.
    pub level_99: f64,
    /// The value less its 99 % noise level.
    pub effect: f64,
    /// Whether the large-sample distribution was used; else the null distribution was computed from the counts.
    pub asymptotic: bool,
    /// False discovery rate at which this value would be called, over all tests of the sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

impl NoiseLevel {
    /// The noise of the square root of the metric, as the distance is of the divergence.
    pub(super) fn of_root(self) -> Self {
        let value = (self.effect + self.level_99).max(0.0);
        let level_99 = self.level_99.max(0.0).sqrt();
        Self { level_99, effect: value.sqrt() - level_99, ..self }
    }

    /// The test that the value is that of noise.
    pub(super) fn test(&self) -> TestResult {
        TestResult { p_value: self.p_value, q_value: self.q_value }
    }
}

/// What the noise of a metric follows from.
#[derive(Clone, Copy, Debug)]
pub struct NoiseMetric {
    /// What a bin with these shares of the two sides contributes.
    pub term: fn(f64, f64) -> f64,
    /// What the metric is where counts are large, as a share of `chi-square * (1/n + 1/m)`.
    pub chi_square_share: f64,
}

/// Expected counts under which the large-sample law is not trusted (Cochran's rule).
const MIN_EXPECTED: f64 = 5.0;

/// Bins that expect more than this on the smaller side follow the large-sample law closely.
const MAX_ENUMERATED: f64 = 40.0;

/// Compares `value` of a metric over the counts `a` and `b` with its distribution without drift. `None` with fewer than
/// two occupied bins or an empty side.
pub fn floor(of: NoiseMetric, value: f64, a: &[u64], b: &[u64], epsilon: f64) -> Option<NoiseLevel> {
    let (n, m) = (a.iter().sum::<u64>(), b.iter().sum::<u64>());
    let pooled: Vec<u64> = a.iter().zip(b).map(|(x, y)| x + y).filter(|&c| c > 0).collect();
    if n == 0 || m == 0 || pooled.len() < 2 {
        return None;
    }
    let share = n as f64 / (n + m) as f64;
    let scale = (1.0 / n as f64 + 1.0 / m as f64) * of.chi_square_share;
    let asymptotic = pooled.iter().all(|&c| c as f64 * share.min(1.0 - share) >= MIN_EXPECTED);
    let (mean, variance) = if asymptotic {
        let freedom = (pooled.len() - 1) as f64;
        (freedom * scale, 2.0 * freedom * scale * scale)
    } else {
        let mut known = HashMap::new();
        pooled.iter().fold((0.0, 0.0), |(mean, variance), &c| {
            let (e, v) = *known.entry(c).or_insert_with(|| split_moments(of, c, n, m, scale, epsilon));
            (mean + e, variance + v)
        })
    };
    if variance <= 0.0 {
        return None;
    }
    // Gamma with that mean and variance; shape (k - 1) / 2 and scale 2 in the chi-square case.
    let (shape, rate) = (mean * mean / variance, mean / variance);
    let level_99 = Gamma::new(shape, rate).ok()?.inverse_cdf(0.99);
    let p_value = if value <= 0.0 { 1.0 } else { gamma_ur(shape, value * rate) };
    Some(NoiseLevel { p_value, level_99, effect: value - level_99, asymptotic, q_value: None })
}

/// Mean and variance of what a bin with `c` values in both samples together contributes.
fn split_moments(of: NoiseMetric, c: u64, n: u64, m: u64, scale: f64, epsilon: f64) -> (f64, f64) {
    let (nf, mf, cf) = (n as f64, m as f64, c as f64);
    // Splits are enumerated by what the smaller side gets, which is few.
    let share = nf.min(mf) / (nf + mf);
    if cf * share > MAX_ENUMERATED {
        let rest = 1.0 - cf / (nf + mf);
        return (rest * scale, 2.0 * (rest * scale).powi(2));
    }
    let proportion = |x: u64, total: f64| if x == 0 { epsilon } else { x as f64 / total };
    let (mut mean, mut square, mut seen) = (0.0, 0.0, 0.0);
    let mut weight = (cf * (-share).ln_1p()).exp();
    for small in 0..=c {
        let (x, y) = if n <= m { (small, c - small) } else { (c - small, small) };
        if x <= n && y <= m {
            let value = (of.term)(proportion(x, nf), proportion(y, mf));
            mean += weight * value;
            square += weight * value * value;
        }
        seen += weight;
        if seen > 1.0 - 1e-14 && small as f64 > cf * share {
            break;
        }
        weight *= (cf - small as f64) / (small as f64 + 1.0) * (share / (1.0 - share));
    }
    (mean, (square - mean * mean).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::super::divergence::{EPSILON, jensen_shannon};
    use super::super::{js, psi};
    use super::*;

    #[test]
    fn large_counts_follow_the_chi_square_law() {
        let (a, b) = ([1000; 10], [2000; 10]);
        let scale = 1.0 / 10_000.0 + 1.0 / 20_000.0;
        let noise = floor(psi::NOISE, 0.004, &a, &b, EPSILON).unwrap();
        assert!(noise.asymptotic);
        // chi2.ppf(0.99, 9), chi2.sf(0.004 / scale, 9)
        assert!((noise.level_99 / scale - 21.665994333461924).abs() < 1e-6, "{}", noise.level_99 / scale);
        assert!((noise.p_value - super::super::contingency::chi_square_sf(0.004 / scale, 9.0)).abs() < 1e-12);
    }

    #[test]
    fn the_split_moments_of_large_counts_are_those_of_the_chi_square_law() {
        let (n, m) = (10_000, 20_000);
        let scale = 1.0 / 10_000.0 + 1.0 / 20_000.0;
        let (mean, variance) = split_moments(psi::NOISE, 110, n, m, scale, EPSILON);
        assert!((mean / scale - 1.0).abs() < 0.08, "{}", mean / scale);
        assert!((variance / (2.0 * scale * scale) - 1.0).abs() < 0.3);
    }

    #[test]
    fn a_small_sample_against_a_large_one_is_not_drift_either() {
        // Expected counts on the small side are about 3 (rare categories) and 1 (many bins).
        for (n, m, bins) in [(1_000_000u64, 10_000u64, 3000usize), (1_000_000, 1_000, 1000)] {
            let (mut state, mut a, mut b) = (7u64, vec![0u64; bins], vec![0u64; bins]);
            for row in 0..n + m {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let bin = (state >> 33) as usize % bins;
                if row < n { a[bin] += 1 } else { b[bin] += 1 }
            }
            let value = super::super::divergence::psi(&a, &b, EPSILON);
            let noise = floor(psi::NOISE, value, &a, &b, EPSILON).unwrap();
            assert!(noise.p_value > 0.001 && noise.p_value < 0.999, "{n} {m}: {value} {noise:?}");
        }
    }

    #[test]
    fn thousands_of_rare_categories_are_expected_to_differ() {
        // 3,000 categories with about nine rows each, dealt to the two sides like cards: no drift.
        let mut state = 1u64;
        let (mut a, mut b) = (vec![0; 3000], vec![0; 3000]);
        for row in 0..27_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let category = (state >> 33) as usize % 3000;
            if row % 2 == 0 { a[category] += 1 } else { b[category] += 1 }
        }
        let value = jensen_shannon(&a, &b, EPSILON);
        assert!(value.sqrt() > 0.15, "looks like drift");
        let noise = floor(js::NOISE, value, &a, &b, EPSILON).unwrap();
        assert!(!noise.asymptotic);
        assert!(noise.p_value > 0.01, "{noise:?}");
        assert!(noise.effect < 0.0, "{noise:?}");
    }
}
