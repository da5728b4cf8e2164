//! Breakpoints: where a numeric column is cut into bins, exactly as numpy would.

use crate::count::Ecdf;

/// The position of a percentile between two neighbouring ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RankPair {
    /// The rank below (0 is the smallest value).
    pub rank: u64,
    /// How far towards the next rank, `0 <= fraction < 1`.
    pub fraction: f64,
}

/// `np.linspace(0, 100, bins + 1)`, in percent.
pub(crate) fn percents(bins: usize) -> Vec<f64> {
    let step = 100.0 / bins as f64;
    let mut percents: Vec<f64> = (0..bins).map(|i| i as f64 * step).collect();
    percents.push(100.0);
    percents
}

/// Where numpy's linear percentile of `n` sorted values lies.
pub(crate) fn rank_of(percent: f64, n: u64) -> RankPair {
    let at = (n - 1) as f64 * (percent / 100.0);
    let rank = at.floor();
    RankPair { rank: rank as u64, fraction: at - rank }
}

/// The ranks that `rank_of` needs for these percents, ascending.
pub fn ranks(percents: &[f64], n: u64) -> Vec<u64> {
    if n == 0 {
        return Vec::new();
    }
    let mut ranks: Vec<u64> =
        percents.iter().map(|&percent| rank_of(percent, n)).flat_map(|r| [r.rank, (r.rank + 1).min(n - 1)]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

/// numpy's linear percentile of a distribution; `None` where it does not hold the ranks that this needs.
pub(crate) fn percentile(ecdf: &Ecdf, percent: f64) -> Option<f64> {
    let at = rank_of(percent, ecdf.n());
    let lower = ecdf.domain.value(ecdf.key_at(at.rank)?);
    if at.fraction == 0.0 {
        return Some(lower);
    }
    Some(interpolate(lower, ecdf.domain.value(ecdf.key_at(at.rank + 1)?), at.fraction))
}

/// numpy's linear interpolation between two order statistics, operation by operation.
///
/// Where numpy would give NaN: next to an infinity it is that infinity (the nearer one between two), and where
/// the difference overflows both ends are weighted apart.
pub(crate) fn interpolate(lower: f64, upper: f64, fraction: f64) -> f64 {
    if lower == upper {
        return lower;
    }
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => return if fraction < 0.5 { lower } else { upper },
        (true, false) => return lower,
        (false, true) => return upper,
        (false, false) => {}
    }
    let step = upper - lower;
    if step.is_infinite() {
        return lower * (1.0 - fraction) + upper * fraction;
    }
    if fraction >= 0.5 { upper - step * (1.0 - fraction) } else { lower + step * fraction }
}

/// A bin of the tie-aware division.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TieBin {
    /// All values below the breakpoint that no earlier bin took.
    Below(f64),
    /// The values equal to one that fills a whole bin of the reference division by itself.
    Equal(f64),
}

/// The tie-aware bins of the percentiles `p0 ..= pk` (raw, ends not yet infinite), the last one, "the rest",
/// left out. A value that fills a reference bin or more, so that neighbouring percentiles equal it, gets a
/// bin of its own; without such values the bins are the reference's.
pub(crate) fn tie_aware(percentiles: &[f64]) -> Vec<TieBin> {
    let mut bins = Vec::new();
    let last = percentiles.len() - 1;
    let mut i = 0;
    while i <= last {
        let x = percentiles[i];
        let run = percentiles[i..].iter().take_while(|&&p| p == x).count().max(1);
        if run > 1 {
            bins.push(TieBin::Below(x));
            bins.push(TieBin::Equal(x));
        } else if i > 0 && i < last {
            bins.push(TieBin::Below(x));
        }
        i += run;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_numpy() {
        assert_eq!(rank_of(50.0, 4), RankPair { rank: 1, fraction: 0.5 });
        assert_eq!(rank_of(100.0, 4), RankPair { rank: 3, fraction: 0.0 });
        assert_eq!(ranks(&[0.0, 50.0, 100.0], 4), [0, 1, 2, 3]);
        assert_eq!(ranks(&[0.0, 100.0], 1), [0]);
        assert_eq!(percents(10)[3], 30.0);
    }

    #[test]
    fn interpolation_never_gives_nan() {
        let ends = [f64::NEG_INFINITY, f64::MIN, -1.0, 0.0, 1.0, f64::MAX, f64::INFINITY];
        for (i, &lower) in ends.iter().enumerate() {
            for &upper in &ends[i..] {
                for fraction in [0.1, 0.5, 0.9] {
                    let x = interpolate(lower, upper, fraction);
                    assert!(lower <= x && x <= upper, "{lower} {upper} {fraction}: {x}");
                }
            }
        }
    }

    #[test]
    fn a_value_that_fills_a_bin_gets_its_own() {
        use TieBin::{Below, Equal};
        assert_eq!(tie_aware(&[1.0, 2.0, 3.0]), [Below(2.0)]);
        assert_eq!(tie_aware(&[7.0; 11]), [Below(7.0), Equal(7.0)]);
        assert_eq!(tie_aware(&[0.0, 0.0, 0.0, 4.0, 9.0]), [Below(0.0), Equal(0.0), Below(4.0)]);
        assert_eq!(tie_aware(&[1.0, 5.0, 5.0, 9.0]), [Below(5.0), Equal(5.0)]);
        assert_eq!(tie_aware(&[1.0, 9.0, 9.0]), [Below(9.0), Equal(9.0)]);
    }
}
