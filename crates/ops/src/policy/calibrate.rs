//! The distribution of figures without any change, and the thresholds for a wanted number of false alarms a night.
//!
//! Both sides are simulated from the baseline's own counts, with the real numbers of rows: the figure of a column is
//! then its noise. The expected number of columns over a limit is the sum over all columns, whether they move together
//! or not, so every column is drawn on its own.

use std::collections::{BTreeMap, HashMap};

use rand_distr::{Binomial, Distribution as _};
use rand_pcg::Pcg64Mcg;

use driftsweep::metric::ks;
use driftsweep::rule::NullDistribution;

/// A column of the baseline, with the numbers of rows compared.
#[derive(Clone, Debug)]
pub struct NullModelColumn {
    /// How its figure varies where nothing has changed.
    pub no_change: NullDistribution,
    /// Shares of bins or categories, or of missing rows and others, by weight. The Kolmogorov-Smirnov distance needs
    /// none: its distribution is the same for all continuous columns (ties make it smaller).
    pub weights: Vec<u64>,
    /// Rows of both sides.
    pub rows: [u64; 2],
    /// The current threshold.
    pub limit: f64,
    /// The seed of the simulation.
    pub seed: u64,
}

/// The figures of many columns on nights without change.
#[derive(Clone, Debug, Default)]
pub struct Nights {
    /// Columns.
    pub columns: usize,
    /// Expected columns over their current thresholds in a night.
    pub alarms_now: f64,
    /// Expected number of columns by figure, in steps of a thousandth.
    steps: BTreeMap<u32, f64>,
    /// Pairs of sizes whose Kolmogorov-Smirnov distance has the known distribution, with the number of columns.
    sizes: HashMap<(u64, u64), f64>,
}

/// Columns with more bins or categories than this are simulated less often.
const REDUCED_DRAWS_FROM: usize = 1000;

impl Nights {
    /// Simulates one column.
    pub fn of(column: &NullModelColumn, nights: usize) -> Self {
        let [n, m] = column.rows;
        let mut found = Self { columns: 1, ..Self::default() };
        if matches!(column.no_change, NullDistribution::OfSizes) {
            if column.limit > 0.0 {
                found.alarms_now = ks::asymptotic(column.limit, n, m);
            }
            found.sizes.insert((n, m), 1.0);
            return found;
        }
        let nights = (nights * REDUCED_DRAWS_FROM / column.weights.len().max(REDUCED_DRAWS_FROM)).max(20);
        let weight = 1.0 / nights as f64;
        let mut rng = Pcg64Mcg::new(u128::from(column.seed) << 1 | 1);
        for _ in 0..nights {
            let [a, b] = column.rows.map(|rows| multinomial(&column.weights, rows, &mut rng));
            let value = match column.no_change {
                NullDistribution::OfCounts(figure) => figure(&a, &b),
                NullDistribution::OfMissing | NullDistribution::OfSizes => {
                    (b[0] as f64 / m as f64 - a[0] as f64 / n as f64).abs()
                }
            };
            *found.steps.entry(step(value)).or_default() += weight;
            found.alarms_now += if value > column.limit { weight } else { 0.0 };
        }
        found
    }

    /// Combines both.
    pub fn merge(mut self, other: Self) -> Self {
        self.columns += other.columns;
        self.alarms_now += other.alarms_now;
        for (step, weight) in other.steps {
            *self.steps.entry(step).or_default() += weight;
        }
        for (size, weight) in other.sizes {
            *self.sizes.entry(size).or_default() += weight;
        }
        self
    }

    /// Expected columns over a threshold in a night.
    pub fn alarms(&self, limit: f64) -> f64 {
        // What is 0 is over no threshold.
        let drawn = self.steps.range(step(limit).max(1)..).map(|(_, weight)| weight);
        let law = self.sizes.iter().map(|(&(n, m), weight)| weight * ks::asymptotic(limit, n, m));
        drawn.fold(0.0, |sum, weight| sum + weight) + law.fold(0.0, |sum, weight| sum + weight)
    }

    /// The smallest threshold, with a relative precision of a thousandth, with at most this many columns over it in a
    /// night.
    pub fn limit(&self, alarms: f64) -> f64 {
        if self.sizes.is_empty() {
            let mut over = 0.0;
            for (&step, weight) in self.steps.iter().rev() {
                over += weight;
                if over > alarms {
                    // Nothing varies.
                    return if step == 0 { 0.0 } else { end(step) };
                }
            }
            return 0.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        while high - low > 1e-6 {
            let middle = (low + high) / 2.0;
            if self.alarms(middle) > alarms { low = middle } else { high = middle }
        }
        high
    }

    /// The value that a share of the columns stays below in a night.
    pub fn quantile(&self, share: f64) -> f64 {
        self.limit((1.0 - share) * self.columns as f64)
    }
}

/// Doubles of zero or more in steps of a thousandth.
fn step(value: f64) -> u32 {
    (value.max(0.0).to_bits() >> 42) as u32
}

/// The first value beyond a step.
fn end(step: u32) -> f64 {
    f64::from_bits(u64::from(step + 1) << 42)
}

/// Distributes rows over the parts by their shares.
fn multinomial(weights: &[u64], rows: u64, rng: &mut Pcg64Mcg) -> Vec<u64> {
    let mut total: u64 = weights.iter().sum();
    let mut left = rows;
    let mut drawn = vec![0; weights.len()];
    for (drawn, &weight) in drawn.iter_mut().zip(weights) {
        if left == 0 {
            break;
        }
        // A share between 0 and 1 is always a binomial's.
        let share = if total == 0 { 0.0 } else { (weight as f64 / total as f64).min(1.0) };
        *drawn = Binomial::new(left, share).map_or(0, |binomial| binomial.sample(rng));
        left -= *drawn;
        total -= weight;
    }
    drawn
}

/// The shares behind the counts of categories: categories never seen get the share of Good 1953, that of the categories
/// seen once, and are as many as Chao 1984 expects. Without them the noise of rare categories would be underestimated.
pub fn categories(counts: &[u64]) -> Vec<u64> {
    const UNIT: u64 = 1 << 20;
    let rows: u64 = counts.iter().sum();
    let seen = |times: u64| counts.iter().filter(|&&count| count == times).count() as u64;
    let (once, twice) = (seen(1), seen(2));
    let unseen = (once * once.saturating_sub(1)).div_ceil(2 * (twice + 1));
    if unseen == 0 || once >= rows {
        return counts.iter().map(|&count| count * UNIT).collect();
    }
    let known = (rows - once) as f64 / rows as f64;
    let share = (once * UNIT / unseen).max(1);
    let counts = counts.iter().map(|&count| (count as f64 * known * UNIT as f64) as u64);
    counts.chain((0..unseen).map(|_| share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftsweep::rule::rules;

    fn no_change(threshold: &str) -> NullDistribution {
        rules().find(|rule| rule.key() == threshold).unwrap().no_change
    }

    fn column(threshold: &str, weights: Vec<u64>, current: u64) -> NullModelColumn {
        let rows = [weights.iter().sum(), current];
        NullModelColumn { no_change: no_change(threshold), weights, rows, limit: 0.15, seed: 5 }
    }

    #[test]
    fn without_change_psi_follows_its_law() {
        let drawn = Nights::of(&column("psi", vec![1000; 10], 5000), 20_000);
        let scale = 1.0 / 10_000.0 + 1.0 / 5000.0;
        // chi2.ppf([0.5, 0.99], 9)
        for (share, wanted) in [(0.5, 8.342_832_692_252_948), (0.99, 21.665_994_333_461_924)] {
            let found = drawn.quantile(share) / scale;
            assert!((found / wanted - 1.0).abs() < 0.04, "{share}: {found}");
        }
        assert_eq!(drawn.alarms_now, 0.0);
        assert!((drawn.alarms(drawn.limit(0.01)) - 0.01).abs() < 0.002);
    }

    #[test]
    fn columns_add_up_whatever_their_sizes() {
        let one = Nights::of(&column("psi", vec![100; 10], 1000), 2000);
        let two = Nights::of(&column("psi", vec![100_000; 10], 1_000_000), 2000);
        let both = one.clone().merge(two);
        assert_eq!(both.columns, 2);
        // Only the small one is ever near its limit.
        assert!((both.limit(0.01) - one.limit(0.01)).abs() < 1e-12);
        let ks = Nights::of(&column("ks_d", vec![10_000], 10_000), 10);
        // kstwo.isf(0.01, 5000)
        assert!((ks.limit(0.01) - 0.022983922603082615).abs() < 1e-5, "{}", ks.limit(0.01));
        let missing = Nights::of(&column("missing", vec![50, 950], 1000), 5000);
        // The difference of two rates of 5 %: standard deviation 0.00975.
        assert!((missing.quantile(0.954) / (2.0 * 0.009_747) - 1.0).abs() < 0.06, "{}", missing.quantile(0.954));
    }

    #[test]
    fn where_nothing_varies_no_limit_is_found() {
        for (metric, weights) in [("missing", vec![0, 1000]), ("psi", vec![1000]), ("js", vec![1000])] {
            let drawn = Nights::of(&column(metric, weights, 1000), 200);
            assert_eq!((drawn.limit(0.01), drawn.alarms(0.0), drawn.alarms_now), (0.0, 0.0, 0.0), "{metric}");
        }
    }

    #[test]
    fn categories_never_seen_are_expected() {
        // 2,000 rows of 1,000 categories with shares as 1/k.
        let mut rng = Pcg64Mcg::new(3);
        let truth: Vec<u64> = (1..=1000u64).map(|k| 1_000_000 / k).collect();
        let sample: Vec<u64> = multinomial(&truth, 2000, &mut rng).into_iter().filter(|&count| count > 0).collect();
        let median = |weights: Vec<u64>| {
            Nights::of(&NullModelColumn { rows: [2000, 2000], ..column("js", weights, 0) }, 400).quantile(0.5)
        };
        let (wanted, found, naive) = (median(truth), median(categories(&sample)), median(sample));
        assert!((found / wanted - 1.0).abs() < 0.05, "{wanted} {found}");
        assert!((naive / wanted - 1.0).abs() > 0.15, "{wanted} {naive}");
        assert_eq!(categories(&[5, 3]), [5 << 20, 3 << 20]);
    }

    #[test]
    fn rows_are_all_dealt() {
        let mut rng = Pcg64Mcg::new(1);
        for counts in [vec![1, 0, 3], vec![5], vec![0, 0, 7], (1..2000).collect()] {
            let drawn = multinomial(&counts, 1234, &mut rng);
            assert_eq!(drawn.iter().sum::<u64>(), 1234);
            assert!(counts.iter().zip(&drawn).all(|(count, drawn)| *count > 0 || *drawn == 0));
        }
    }
}
