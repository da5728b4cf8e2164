//! Tests on tables of counts.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;
use statrs::function::gamma::gamma_ur;

/// The upper tail of the chi-square distribution.
pub(crate) fn chi_square_sf(statistic: f64, freedom: f64) -> f64 {
    if statistic <= 0.0 {
        return 1.0;
    }
    if statistic.is_infinite() {
        return 0.0;
    }
    gamma_ur(freedom / 2.0, statistic / 2.0)
}

/// Pearson's chi-square test that two rows of counts come from one distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChiSquare {
    /// The statistic; with Yates' correction where there is one degree of freedom, as scipy's
    /// `chi2_contingency` does.
    pub statistic: f64,
    /// Degrees of freedom: categories that occur on either side, less one.
    pub dof: u64,
    /// Its p-value.
    pub p_value: f64,
    /// The p-value without Yates' correction (the same beyond one degree of freedom).
    pub p_value_no_yates: f64,
    /// The smallest expected count; below 5 the p-value is rough.
    pub smallest_expected: f64,
    /// Cramér's V: `sqrt(chi2 / (n + m))` of the uncorrected statistic, between 0 and 1.
    pub cramers_v: f64,
}

/// Tests two rows of counts. `None` with fewer than two occupied categories or an empty side.
pub fn chi_square(a: &[u64], b: &[u64]) -> Option<ChiSquare> {
    let (n, m) = (a.iter().sum::<u64>() as f64, b.iter().sum::<u64>() as f64);
    let occupied = a.iter().zip(b).filter(|&(&x, &y)| x + y > 0);
    let dof = (occupied.clone().count() as u64).checked_sub(1).filter(|&dof| dof > 0)?;
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let (mut plain, mut corrected, mut smallest) = (0.0, 0.0, f64::INFINITY);
    for (&x, &y) in occupied {
        let column = (x + y) as f64;
        for (observed, row) in [(x as f64, n), (y as f64, m)] {
            let expected = row * column / (n + m);
            let difference = (observed - expected).abs();
            plain += difference * difference / expected;
            let less = difference - difference.min(0.5);
            corrected += less * less / expected;
            smallest = smallest.min(expected);
        }
    }
    let statistic = if dof == 1 { corrected } else { plain };
    Some(ChiSquare {
        statistic,
        dof,
        p_value: chi_square_sf(statistic, dof as f64),
        p_value_no_yates: chi_square_sf(plain, dof as f64),
        smallest_expected: smallest,
        cramers_v: (plain / (n + m)).min(1.0).sqrt(),
    })
}

/// The two-sided p-value that two shares are the same, by the pooled two-proportion z test.
///
/// `x` of `n` and `y` of `m`; 1 where nothing could differ.
pub(crate) fn two_proportions(x: u64, n: u64, y: u64, m: u64) -> f64 {
    let (x, n, y, m) = (x as f64, n as f64, y as f64, m as f64);
    let pooled = (x + y) / (n + m);
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    if variance.is_nan() || variance <= 0.0 {
        return 1.0;
    }
    let z = (x / n - y / m) / variance.sqrt();
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chi_square_is_that_of_scipy() {
        // chi2_contingency([[10, 20, 30], [6, 9, 17]]) and [[10, 20], [30, 15]]
        let found = chi_square(&[10, 20, 30], &[6, 9, 17]).unwrap();
        assert!((found.statistic - 0.27157465150403504).abs() < 1e-12);
        assert!((found.p_value - 0.873028283380073).abs() < 1e-9);
        let found = chi_square(&[10, 20], &[30, 15]).unwrap();
        assert!((found.statistic - 6.752232142857143).abs() < 1e-12, "{found:?}");
        assert!((found.p_value - 0.00936304763753395).abs() < 1e-12);
        assert!((found.p_value_no_yates - 0.0045863920802535025).abs() < 1e-12);
    }

    #[test]
    fn one_category_or_an_empty_side_gives_no_test() {
        assert_eq!(chi_square(&[5, 0], &[7, 0]), None);
        assert_eq!(chi_square(&[0, 0], &[7, 1]), None);
    }

    #[test]
    fn a_share_that_could_not_differ_has_p_one() {
        assert_eq!(two_proportions(0, 100, 0, 50), 1.0);
        assert_eq!(two_proportions(100, 100, 50, 50), 1.0);
        // statsmodels' proportions_ztest([30, 10], [100, 100])
        assert!((two_proportions(30, 100, 10, 100) - 0.00040695201744495867).abs() < 1e-12);
    }
}
