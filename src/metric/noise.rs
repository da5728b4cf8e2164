//! The noise floor: what PSI and the Jensen-Shannon divergence would be with no drift at all.
//!
//! Given what the two samples hold together, a bin with `c` values splits under the null as
//! `Binomial(c, n / (n + m))`. Where the counts are large both metrics are then chi-square distributed times
//! `1/n + 1/m` (and 1/8 for the divergence). Where they are small that fails, badly: thousands of rare
//! categories look like drift. There the mean and the variance of every bin's contribution are summed
//! exactly over its possible splits, and a gamma distribution with that mean and variance, which the
//! chi-square law is a case of, takes its place.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma};
use statrs::function::gamma::gamma_ur;

use super::divergence::{js_term, psi_term};

/// A metric held against its own noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// The chance of a value at least this large without drift.
    pub p_value: f64,
    /// The value that 99 % of comparisons without drift stay under.
    pub level_99: f64,
    /// The value less its 99 % noise level.
    pub effect: f64,
    /// Whether the large-sample law sufficed; else the null came from the counts.
    pub asymptotic: bool,
}

/// Which metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The population stability index.
    Psi,
    /// The Jensen-Shannon divergence in nats.
    JensenShannon,
}

impl Of {
    fn term(self, e: f64, a: f64) -> f64 {
        match self {
            Of::Psi => psi_term(e, a),
            Of::JensenShannon => js_term(e, a) / 2.0,
        }
    }

    fn chi_square_share(self) -> f64 {
        match self {
            Of::Psi => 1.0,
            Of::JensenShannon => 0.125,
        }
    }
}

/// Expected counts under which the large-sample law is not trusted (Cochran's rule).
const ENOUGH: f64 = 5.0;

/// Splits of bins with more values than this are taken as normal.
const ENUMERATE: u64 = 400;

/// Holds `value` of a metric over the counts `a` and `b` against no drift. `None` with fewer than two
/// occupied bins or an empty side.
pub fn floor(of: Of, value: f64, a: &[u64], b: &[u64], epsilon: f64) -> Option<Noise> {
    let (n, m) = (a.iter().sum::<u64>(), b.iter().sum::<u64>());
    let pooled: Vec<u64> = a.iter().zip(b).map(|(x, y)| x + y).filter(|&c| c > 0).collect();
    if n == 0 || m == 0 || pooled.len() < 2 {
        return None;
    }
    let share = n as f64 / (n + m) as f64;
    let scale = (1.0 / n as f64 + 1.0 / m as f64) * of.chi_square_share();
    let asymptotic = pooled.iter().all(|&c| c as f64 * share.min(1.0 - share) >= ENOUGH);
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
    Some(Noise { p_value, level_99, effect: value - level_99, asymptotic })
}

/// Mean and variance of what a bin with `c` values in both samples together contributes.
fn split_moments(of: Of, c: u64, n: u64, m: u64, scale: f64, epsilon: f64) -> (f64, f64) {
    let (nf, mf) = (n as f64, m as f64);
    let share = nf / (nf + mf);
    if c > ENUMERATE {
        let rest = 1.0 - c as f64 / (nf + mf);
        return (rest * scale, 2.0 * (rest * scale).powi(2));
    }
    let proportion = |x: u64, total: f64| if x == 0 { epsilon } else { x as f64 / total };
    let (mut mean, mut square) = (0.0, 0.0);
    let cf = c as f64;
    // The binomial weights, from the first split that is possible.
    let mut weight = (1.0 - share).powf(cf);
    for x in 0..=c {
        if x <= n && c - x <= m {
            let value = of.term(proportion(x, nf), proportion(c - x, mf));
            mean += weight * value;
            square += weight * value * value;
        }
        weight *= (cf - x as f64) / (x as f64 + 1.0) * (share / (1.0 - share));
    }
    (mean, (square - mean * mean).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::super::divergence::{EPSILON, jensen_shannon};
    use super::*;

    #[test]
    fn large_counts_follow_the_chi_square_law() {
        let (a, b) = ([1000; 10], [2000; 10]);
        let scale = 1.0 / 10_000.0 + 1.0 / 20_000.0;
        let noise = floor(Of::Psi, 0.004, &a, &b, EPSILON).unwrap();
        assert!(noise.asymptotic);
        // chi2.ppf(0.99, 9), chi2.sf(0.004 / scale, 9)
        assert!((noise.level_99 / scale - 21.665994333461924).abs() < 1e-6, "{}", noise.level_99 / scale);
        assert!((noise.p_value - super::super::contingency::chi_square_sf(0.004 / scale, 9.0)).abs() < 1e-12);
    }

    #[test]
    fn the_split_moments_of_large_counts_are_those_of_the_chi_square_law() {
        let (n, m) = (10_000, 20_000);
        let scale = 1.0 / 10_000.0 + 1.0 / 20_000.0;
        let (mean, variance) = split_moments(Of::Psi, 400, n, m, scale, EPSILON);
        assert!((mean / scale - 1.0).abs() < 0.05, "{}", mean / scale);
        assert!((variance / (2.0 * scale * scale) - 1.0).abs() < 0.1);
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
        let noise = floor(Of::JensenShannon, value, &a, &b, EPSILON).unwrap();
        assert!(!noise.asymptotic);
        assert!(noise.p_value > 0.01, "{noise:?}");
        assert!(noise.effect < 0.0, "{noise:?}");
    }
}
