//! Divergences between two rows of counts over the same bins or categories.
//!
//! All take plain integers and return plain doubles; `a` is the baseline, `b` the current side.

/// The replacement for a share of exactly zero.
pub const EPSILON: f64 = 1e-10;

/// Shares of a row of counts, zeros replaced by `epsilon` (without renormalising).
pub fn shares(counts: &[u64], epsilon: f64) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    let total = total as f64;
    counts.iter().map(|&count| if count == 0 { epsilon } else { count as f64 / total }).collect()
}

/// The population stability index `sum((b - a) * ln(b / a))` (Lewis 1994, "An Introduction to Credit
/// Scoring"), over shares in which an exact zero is `epsilon`.
///
/// Bins empty on both sides add nothing.
pub fn psi(a: &[u64], b: &[u64], epsilon: f64) -> f64 {
    let terms: Vec<f64> = shares(a, epsilon).iter().zip(shares(b, epsilon)).map(|(&e, a)| psi_term(e, a)).collect();
    pairwise_sum(&terms)
}

pub(super) fn psi_term(e: f64, a: f64) -> f64 {
    (a - e) * (a / e).ln()
}

/// The Jensen-Shannon divergence in nats (Lin 1991, "Divergence measures based on the Shannon entropy"),
/// over shares in which an exact zero is `epsilon`, renormalised. Its square root is the distance.
pub fn jensen_shannon(a: &[u64], b: &[u64], epsilon: f64) -> f64 {
    jensen_shannon_of(&shares(a, epsilon), &shares(b, epsilon))
}

/// The Jensen-Shannon divergence in nats of two rows of shares, normalised first as scipy does.
pub(super) fn jensen_shannon_of(p: &[f64], q: &[f64]) -> f64 {
    let normalised = |shares: &[f64]| {
        let total = pairwise_sum(shares);
        shares.iter().map(|p| p / total).collect::<Vec<_>>()
    };
    let (p, q) = (normalised(p), normalised(q));
    let m: Vec<f64> = p.iter().zip(&q).map(|(p, q)| (p + q) / 2.0).collect();
    let from_middle =
        |p: &[f64]| pairwise_sum(&p.iter().zip(&m).map(|(&p, &m)| relative_entropy(p, m)).collect::<Vec<_>>());
    (from_middle(&p) + from_middle(&q)).max(0.0) / 2.0
}

/// `p ln(p / m)`, by `ln(1 + x)` where the two are close; 0 where `p` is.
fn relative_entropy(p: f64, m: f64) -> f64 {
    if p == 0.0 {
        return 0.0;
    }
    let ratio = p / m;
    if 0.5 < ratio && ratio < 2.0 { p * ((p - m) / m).ln_1p() } else { p * ratio.ln() }
}

/// Sums in numpy's order (pairwise, blocks of 128 in eight lanes). Where distributions nearly agree the terms
/// cancel, and the order decides the digits that remain; this keeps them those of the reference.
pub(super) fn pairwise_sum(x: &[f64]) -> f64 {
    match x.len() {
        0..8 => x.iter().fold(0.0, |sum, x| sum + x),
        8..=128 => {
            let mut lanes = [0.0; 8];
            let mut blocks = x.chunks_exact(8);
            for block in &mut blocks {
                lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane += x);
            }
            let [a, b, c, d, e, f, g, h] = lanes;
            let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
            blocks.remainder().iter().fold(sum, |sum, x| sum + x)
        }
        n => {
            let half = n / 2 / 8 * 8;
            pairwise_sum(&x[..half]) + pairwise_sum(&x[half..])
        }
    }
}

/// `p ln(p/m) + q ln(q/m)` with `m = (p+q)/2`, by `ln(1 + x)` and with the first-order parts, which cancel
/// over all bins, kept in: accurate however close `p` and `q` are.
pub(super) fn js_term(p: f64, q: f64) -> f64 {
    if p + q == 0.0 {
        return 0.0;
    }
    let d = (p - q) / (p + q);
    let m = (p + q) / 2.0;
    // p = m (1 + d), q = m (1 - d); a side without a share adds nothing.
    let part = |d: f64| if d == -1.0 { 0.0 } else { (1.0 + d) * d.ln_1p() };
    m * (part(d) + part(-d)).max(0.0)
}

/// What each bin or category adds to the population stability index and to the Jensen-Shannon divergence in nats, of `totals`
/// rows a side: the bins may be some of all.
pub fn terms<'a>([a, b]: [&'a [u64]; 2], totals: [u64; 2]) -> impl Iterator<Item = (f64, f64)> + 'a {
    let share = move |count: u64, total: u64| count as f64 / total.max(1) as f64;
    let floor = |share: f64| if share == 0.0 { EPSILON } else { share };
    a.iter().zip(b).map(move |(&a, &b)| {
        let (p, q) = (share(a, totals[0]), share(b, totals[1]));
        let psi = if a == 0 && b == 0 { 0.0 } else { psi_term(floor(p), floor(q)) };
        (psi, js_term(p, q) / 2.0)
    })
}

/// The shares of both sides, bin by bin.
pub(super) fn pairs(a: &[u64], b: &[u64]) -> impl Iterator<Item = (f64, f64)> {
    shares(a, 0.0).into_iter().zip(shares(b, 0.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metric::hellinger::hellinger;
    use crate::metric::l_infinity::l_infinity;
    use crate::metric::total_variation::total_variation;

    #[test]
    fn figures_are_those_of_numpy_and_scipy() {
        // e = np.array([30, 0, 50, 20]); a = np.array([10, 5, 45, 40]), shares with 0 -> 1e-10
        let (a, b) = ([30, 0, 50, 20], [10, 5, 45, 40]);
        // np.sum((a - e) * np.log(a / e))
        assert!((psi(&a, &b, EPSILON) - 1.3651258504448136).abs() < 1e-14);
        // scipy.spatial.distance.jensenshannon(e, a) ** 2
        assert!((jensen_shannon(&a, &b, EPSILON) - 0.061139188172683115).abs() < 1e-15);
    }

    #[test]
    fn the_terms_of_all_bins_are_the_whole() {
        let (a, b) = ([30, 0, 50, 20], [10, 5, 45, 40]);
        let found: Vec<(f64, f64)> = terms([&a, &b], [100, 100]).collect();
        assert!((found.iter().map(|term| term.0).sum::<f64>() - psi(&a, &b, EPSILON)).abs() < 1e-12);
        assert!((found.iter().map(|term| term.1).sum::<f64>() - jensen_shannon(&a, &b, EPSILON)).abs() < 1e-8);
        // 0.1 ln(0.1 / 0.05) / 2: the category is new, or gone.
        for (a, b) in [([0], [10]), ([10], [0])] {
            let term = terms([&a, &b], [100, 100]).next().unwrap();
            assert!((term.1 - 0.05 * 2f64.ln()).abs() < 1e-15, "{term:?}");
        }
        assert_eq!(terms([&[0], &[0]], [0, 0]).collect::<Vec<_>>(), [(0.0, 0.0)]);
    }

    proptest! {
        #[test]
        fn symmetric_metrics_are_symmetric_and_bounded(
            rows in prop::collection::vec((0u64..1000, 0u64..1000), 1..40)
        ) {
            let (a, b): (Vec<u64>, Vec<u64>) = rows.into_iter().unzip();
            prop_assume!(a.iter().sum::<u64>() > 0 && b.iter().sum::<u64>() > 0);
            let close = |x: f64, y: f64| (x - y).abs() <= 1e-12 * x.abs().max(1e-3);
            prop_assert!(close(psi(&a, &b, EPSILON), psi(&b, &a, EPSILON)));
            prop_assert!(close(jensen_shannon(&a, &b, EPSILON), jensen_shannon(&b, &a, EPSILON)));
            prop_assert!(close(hellinger(&a, &b), hellinger(&b, &a)));
            prop_assert!(psi(&a, &b, EPSILON) >= 0.0);
            prop_assert!((0.0..=std::f64::consts::LN_2 + 1e-12).contains(&jensen_shannon(&a, &b, EPSILON)));
            prop_assert!((0.0..=1.0 + 1e-12).contains(&hellinger(&a, &b)));
            prop_assert!(l_infinity(&a, &b) <= total_variation(&a, &b) + 1e-12);
            prop_assert_eq!(psi(&a, &a, EPSILON), 0.0);
            prop_assert_eq!(jensen_shannon(&a, &a, EPSILON), 0.0);
        }
    }
}
