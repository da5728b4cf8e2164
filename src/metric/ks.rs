//! The two-sample Kolmogorov-Smirnov test, with p-values by the rules of scipy's `ks_2samp`.
//!
//! Up to 10,000 values a side the p-value is exact (ties treated as if they were none); above, it is the
//! one-sample distribution at the effective size `n m / (n + m)`, evaluated as in Simard and L'Ecuyer 2011,
//! "Computing the two-sided Kolmogorov-Smirnov distribution", with scipy's choice of method by region.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use super::Kind;
use super::fdr::TestResult;
use super::table::{
    MetricColumn, MetricInput, MetricSpec, NullDistribution, Reading, Requirement, Rule, Subject, Test, threshold,
};

/// Two-sample Kolmogorov-Smirnov test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KolmogorovSmirnov {
    /// The statistic D; its proven lower end where it is not exact.
    pub statistic: f64,
    /// Its p-value (at the lower end, so it is the largest it can be).
    pub p_value: f64,
    /// The asymptotic p-value, whatever the size.
    pub p_value_asymptotic: f64,
    /// How `p_value` was found.
    pub method: Method,
    /// Whether D is exact.
    pub exact: bool,
    /// The proven upper end of D, where it is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// False discovery rate at which this test would be called, over all tests of the sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
}

/// The metric.
pub(crate) static SPEC: MetricSpec = MetricSpec {
    kinds: &[Kind::Numeric],
    requires: &[Requirement::Distance],
    columns: &[
        MetricColumn { name: "ks", read: |metrics| Some(metrics.ks.as_ref()?.statistic) },
        MetricColumn { name: "ks_p", read: |metrics| Some(metrics.ks.as_ref()?.p_value) },
        MetricColumn { name: "ks_q", read: |metrics| metrics.ks.as_ref()?.q_value },
    ],
    test: Some(Test {
        judges: Subject::Numbers,
        read: |metrics| metrics.ks.as_ref().map(|ks| TestResult { p_value: ks.p_value, q_value: ks.q_value }),
        q_value: |metrics| Some(&mut metrics.ks.as_mut()?.q_value),
    }),
    rule: Some(Rule {
        figure: "ks",
        judges: Subject::Numbers,
        no_change: NullDistribution::OfSizes,
        largest: 1.0,
        off_at_zero: true,
        threshold: threshold!(ks_d),
        largest_p: Some(threshold!(ks_p)),
        // A distance that is known only as an interval is judged by its lower end, whose p-value is the largest possible.
        read: |metrics| Some(Reading { value: metrics.ks.as_ref()?.statistic, noise: None, text: None }),
    }),
};

/// Computes it.
pub(super) fn of(input: &MetricInput<'_>) -> Option<KolmogorovSmirnov> {
    let distance = input.values.as_ref()?.numbers.as_ref()?.distance?;
    let statistic = distance.statistic();
    let (p_value, method) = p_value(distance.lower, distance.n, distance.m);
    Some(KolmogorovSmirnov {
        statistic,
        p_value,
        p_value_asymptotic: asymptotic(statistic, distance.n, distance.m),
        method,
        exact: distance.is_exact(),
        upper: distance.upper_statistic(),
        q_value: None,
    })
}

/// Most values a side for which the p-value is exact.
pub(crate) const EXACT_LIMIT: u64 = 10_000;

/// How a p-value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By counting lattice paths.
    Exact,
    /// By the one-sample law at the effective size.
    Asymp,
}

/// The two-sided p-value for a distance of `numerator / (n * m)`: exact up to 10,000 values a side.
pub fn p_value(numerator: u128, n: u64, m: u64) -> (f64, Method) {
    if n.max(m) <= EXACT_LIMIT {
        let p = exact(numerator, n, m);
        if (0.0..=1.0).contains(&p) {
            return (p, Method::Exact);
        }
    }
    (asymptotic(numerator as f64 / (n as f64 * m as f64), n, m), Method::Asymp)
}

/// The asymptotic p-value of distance `d` between samples of `n` and `m` values. 1 where both have one value only, for
/// which scipy gives none.
pub fn asymptotic(d: f64, n: u64, m: u64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    let effective = (n * m / (n + m)).round_ties_even();
    if effective < 1.0 { 1.0 } else { one_sample_sf(effective, d).clamp(0.0, 1.0) }
}

/// The exact p-value: the share of lattice paths from (0, 0) to (n, m) that reach the distance
/// (Hodges 1958, "The significance probability of the Smirnov two-sample test").
pub fn exact(numerator: u128, n: u64, m: u64) -> f64 {
    let g = gcd(n, m);
    // In units of 1 / lcm(n, m).
    let h = (numerator / u128::from(g)) as u64;
    if h == 0 {
        1.0
    } else if n == m {
        paths_outside_square(n, h)
    } else {
        paths_outside_band(n, m, g, h)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Equal sizes: the reflection principle gives an alternating sum of binomials, nested so that no term
/// cancels (Gnedenko and Korolyuk 1951).
fn paths_outside_square(n: u64, h: u64) -> f64 {
    let mut p = 0.0;
    for k in (0..=n / h).rev() {
        let ratio = (0..h).fold(1.0, |r, j| (n as f64 - (k * h + j) as f64) * r / (n + k * h + j + 1) as f64);
        p = ratio * (1.0 - p);
    }
    2.0 * p
}

/// Unequal sizes: `A(i, j)`, the probability that a path to `(i, j)` has left the band
/// `|i / m - j / n| < h / lcm`, column by column; a path comes from the left with probability `i / (i + j)`.
fn paths_outside_band(n: u64, m: u64, g: u64, h: u64) -> f64 {
    let (m, n) = (m.max(n) as i64, m.min(n) as i64);
    let (mg, ng, h) = (m / g as i64, n / g as i64, h as i64);
    let reciprocal: Vec<f64> = (0..=n + m).map(|k| 1.0 / k as f64).collect();
    // Rows inside the band of a column: the smallest and one past the largest.
    let band = |i: i64| {
        let from = ((ng * i - h).div_euclid(mg) + 1).clamp(0, n);
        let to = ((ng * i + h + mg - 1).div_euclid(mg)).min(n + 1);
        (from, to)
    };
    let (mut from, mut to) = band(0);
    from = from.max(0);
    let mut inside = vec![0.0; (n + 2) as usize];
    for i in 1..=m {
        let (last_from, last_to) = (from, to);
        (from, to) = band(i);
        if to <= from {
            return 1.0;
        }
        // Coming from above the last column's band, or from below this one's, a path was outside before.
        let mut below = if from == 0 { 0.0 } else { 1.0 };
        for j in from..to {
            let left = if (last_from..last_to).contains(&j) { inside[j as usize] } else { 1.0 };
            let share = reciprocal[(i + j) as usize];
            below = left * (i as f64 * share) + below * (j as f64 * share);
            inside[j as usize] = below;
        }
    }
    inside[n as usize]
}

/// `P(D_n >= x)` of the one-sample two-sided statistic.
fn one_sample_sf(n: f64, x: f64) -> f64 {
    if n <= 0.0 {
        return f64::NAN;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let t = n * x;
    if t <= 0.5 {
        return 1.0;
    }
    if t <= 1.0 {
        // Ruben and Gambino 1982: n! / n^n * (2t - 1)^n
        return 1.0 - (ln_gamma(n + 1.0) - n * n.ln() + n * (2.0 * t - 1.0).ln()).exp();
    }
    if t >= n - 1.0 {
        return 2.0 * (n * (-x).ln_1p()).exp();
    }
    if x >= 0.5 {
        return 2.0 * one_sided_sf(n, x);
    }
    let nxx = t * x;
    if n <= 140.0 {
        return if nxx <= 4.0 { 1.0 - matrix_cdf(n, x) } else { 2.0 * one_sided_sf(n, x) };
    }
    if nxx >= 370.0 {
        0.0
    } else if nxx >= 2.2 {
        2.0 * one_sided_sf(n, x)
    } else if nxx < 0.04 {
        // The distribution function is below 1e-13 here.
        1.0
    } else if n <= 100_000.0 && n * x.powf(1.5) <= 1.4 {
        1.0 - matrix_cdf(n, x)
    } else {
        1.0 - pelz_good_cdf(n, x)
    }
}

/// `P(D_n+ >= x)` (Smirnov 1944; Birnbaum and Tingey 1951):
/// `x * sum_j C(n, j) (x + j/n)^(j-1) (1 - x - j/n)^(n-j)`.
///
/// For large `n` the terms are a smooth bump in `j` that vanishes at both ends, so every `stride`-th term
/// times `stride` is the same sum to machine precision. Beyond 10^6, as scipy does, the closed form
/// `exp(-(6nx + 1)^2 / 18n)` (van Mulbregt 2018, arXiv:1802.06966).
fn one_sided_sf(n: f64, x: f64) -> f64 {
    if n > 1e6 {
        return (-(6.0 * n * x + 1.0).powi(2) / (18.0 * n)).exp();
    }
    const TERMS: f64 = 400.0;
    let stride = (n / TERMS).floor().max(1.0);
    let ln_n_factorial = ln_gamma(n + 1.0);
    let last = (n * (1.0 - x)).floor();
    let mut sum = 0.0;
    let mut j = 0.0;
    while j <= last {
        let p = x + j / n;
        let q = 1.0 - p;
        if q > 0.0 {
            let ln_choose = ln_n_factorial - ln_gamma(j + 1.0) - ln_gamma(n - j + 1.0);
            sum += (ln_choose + (j - 1.0) * p.ln() + (n - j) * q.ln()).exp();
        }
        j += stride;
    }
    x * sum * stride
}

/// The exact distribution function by the matrix power of Durbin 1968 in the form of Marsaglia, Tsang and
/// Wang 2003, "Evaluating Kolmogorov's distribution". For small `n x` only: the matrix has `2 n x` rows.
fn matrix_cdf(n: f64, x: f64) -> f64 {
    let k = (n * x).ceil();
    let h = k - n * x;
    let size = 2 * k as usize - 1;
    let at = |i: usize, j: usize| i * size + j;
    let mut factorial = vec![1.0f64; size + 1];
    for i in 1..=size {
        factorial[i] = factorial[i - 1] * i as f64;
    }
    let mut matrix = vec![0.0; size * size];
    for i in 0..size {
        for j in 0..size.min(i + 2) {
            matrix[at(i, j)] = 1.0 / factorial[i + 1 - j];
        }
    }
    for i in 0..size {
        let border = (1.0 - h.powi(i as i32 + 1)) / factorial[i + 1];
        matrix[at(i, 0)] = border;
        matrix[at(size - 1, size - 1 - i)] = border;
    }
    let corner = 1.0 - 2.0 * h.powi(size as i32) + (2.0 * h - 1.0).max(0.0).powi(size as i32);
    matrix[at(size - 1, 0)] = corner / factorial[size];

    let multiply = |a: &[f64], b: &[f64]| {
        let mut product = vec![0.0; size * size];
        for i in 0..size {
            for l in 0..size {
                let factor = a[at(i, l)];
                for j in 0..size {
                    product[at(i, j)] += factor * b[at(l, j)];
                }
            }
        }
        product
    };
    // matrix^n, with the powers of two that keep it in range carried apart.
    let mut power: Vec<f64> = (0..size * size).map(|i| f64::from(u8::from(i % (size + 1) == 0))).collect();
    let (mut exponent, mut base_exponent) = (0i32, 0i32);
    let mut left = n as u64;
    let middle = at(k as usize - 1, k as usize - 1);
    while left > 0 {
        if left % 2 == 1 {
            power = multiply(&power, &matrix);
            exponent += base_exponent;
            rescale(&mut power, middle, &mut exponent);
        }
        matrix = multiply(&matrix, &matrix);
        base_exponent *= 2;
        rescale(&mut matrix, middle, &mut base_exponent);
        left /= 2;
    }
    // times n! / n^n
    (power[middle].ln() + f64::from(exponent) * std::f64::consts::LN_2 + ln_gamma(n + 1.0) - n * n.ln()).exp()
}

fn rescale(matrix: &mut [f64], middle: usize, exponent: &mut i32) {
    const STEP: i32 = 400;
    if matrix[middle] > 2f64.powi(STEP) {
        matrix.iter_mut().for_each(|x| *x *= 2f64.powi(-STEP));
        *exponent += STEP;
    }
}

/// The distribution function by the expansion of Pelz and Good 1976, "Approximating the lower tail-areas of
/// the Kolmogorov-Smirnov one-sample statistic": `K0 + K1 / n^(1/2) + K2 / n + K3 / n^(3/2)` at `z = x sqrt(n)`.
fn pelz_good_cdf(n: f64, x: f64) -> f64 {
    use std::f64::consts::PI;
    let z = x * n.sqrt();
    let (z2, pi2) = (z * z, PI * PI);
    let (z4, z6) = (z2 * z2, z2 * z2 * z2);
    let (mut k0, mut k1, mut k2, mut k3) = (0.0, 0.0, 0.0, 0.0);
    let terms = (16.0 * z / PI).ceil() as i32;
    for k in (0..terms).rev() {
        // Odd multiples: theta-function terms at (2k + 1)^2 / 4.
        let odd = f64::from(2 * k + 1);
        let (u, w) = (odd * odd, (-odd * odd * pi2 / (8.0 * z2)).exp());
        let (pu, pu2) = (pi2 * u, pi2 * pi2 * u * u);
        let pu3 = pu2 * pu;
        k0 += w;
        k1 += w * (pu / 4.0 - z2);
        k2 += w * (6.0 * z6 + 2.0 * z4 + (2.0 * z4 - 5.0 * z2) * pu / 4.0 + (1.0 - 2.0 * z2) * pu2 / 16.0);
        k3 += w
            * (-30.0 * z6 - 90.0 * z4 * z4
                + (135.0 * z4 - 96.0 * z6) * pu / 4.0
                + (212.0 * z4 - 60.0 * z2) * pu2 / 16.0
                + (5.0 - 30.0 * z2) * pu3 / 64.0);
    }
    let (mut k2_even, mut k3_even) = (0.0, 0.0);
    for k in (1..=terms).rev() {
        let u = f64::from(k).powi(2);
        let w = (-u * pi2 / (2.0 * z2)).exp();
        k2_even += w * u;
        k3_even += w * u * (3.0 * z2 - pi2 * u);
    }
    let root = (2.0 * PI).sqrt();
    k0 *= root / z;
    k1 *= root / (6.0 * z4);
    k2 = k2 * root / (72.0 * z6 * z) - k2_even * root * pi2 / (36.0 * z2 * z);
    k3 = k3 * root / (6480.0 * z4 * z6) + k3_even * root * pi2 / (216.0 * z6);
    k0 + k1 / n.sqrt() + k2 / n + k3 / (n * n.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, wanted: f64, what: &str) {
        assert!((found - wanted).abs() <= 1e-6 * wanted.abs(), "{what}: {found:e}, scipy {wanted:e}");
    }

    /// Figures as scipy printed them, one of which is a square root.
    #[allow(clippy::approx_constant)]
    mod golden {
        include!("../../tests/golden/ks_cases.rs");
    }
    use golden::{KS_2SAMP_EXACT, KSTWO_SF};

    #[test]
    fn asymptotic_p_values_are_those_of_scipy_in_every_region() {
        for &(n, x, wanted) in KSTWO_SF {
            assert_close(one_sample_sf(n, x), wanted, &format!("kstwo.sf({x}, {n})"));
        }
    }

    #[test]
    fn exact_p_values_are_those_of_scipy() {
        for &(n, m, numerator, wanted) in KS_2SAMP_EXACT {
            assert_close(exact(numerator, n, m), wanted, &format!("n={n} m={m} h={numerator}"));
        }
    }

    #[test]
    fn no_distance_has_p_one_and_full_distance_almost_none() {
        assert_eq!(p_value(0, 500, 400), (1.0, Method::Exact));
        let (p, _) = p_value(500 * 400, 500, 400);
        assert!(p > 0.0 && p < 1e-200, "{p:e}");
        assert_eq!(p_value(20_000 * 30_000, 20_000, 30_000), (0.0, Method::Asymp));
    }
}
