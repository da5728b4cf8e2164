//! The distribution of a drifted column on both sides: a few shares, stored with the event for approvers.

use serde::{Deserialize, Serialize};

use driftsweep::sweep::report::Counts;

/// The shares of bins, or of the categories that changed the most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistributionShape {
    /// Bins in the order of their values; neighbours are merged where there are many.
    Bins {
        /// Shares in the baseline.
        baseline: Vec<f64>,
        /// Shares now.
        current: Vec<f64>,
    },
    /// Categories, the largest change first.
    Categories(Vec<CategoryShare>),
}

/// The share of a category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategoryShare {
    /// Its name, shortened where it is long.
    pub name: String,
    /// In the baseline.
    pub baseline: f64,
    /// Now.
    pub current: f64,
}

/// Most bins that are stored for a column.
const MAX_BINS: usize = 20;

/// Most categories that are stored for a column.
const MAX_CATEGORIES: usize = 5;

/// Characters of a category's name.
const MAX_NAME_CHARS: usize = 40;

/// Bars by their heights.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl DistributionShape {
    /// From the counts of a column; `None` where one side has no values. `rows` are the values of each side.
    pub fn of(counts: &Counts, rows: [u64; 2]) -> Option<Self> {
        let share = |count: u64, total: u64| (1e4 * count as f64 / total as f64).round() / 1e4;
        match counts {
            Counts::Bins { baseline, current, .. } => {
                let together = baseline.len().div_ceil(MAX_BINS).max(1);
                let shares = |counts: &[u64]| {
                    let total = counts.iter().sum::<u64>();
                    let parts = counts.chunks(together).map(|part| share(part.iter().sum(), total));
                    (total > 0).then(|| parts.collect::<Vec<f64>>())
                };
                Some(Self::Bins { baseline: shares(baseline)?, current: shares(current)? })
            }
            Counts::Categories(categories) => {
                if rows.contains(&0) {
                    return None;
                }
                let shares = categories.iter().map(|category| CategoryShare {
                    name: category.name.chars().take(MAX_NAME_CHARS).collect(),
                    baseline: share(category.baseline, rows[0]),
                    current: share(category.current, rows[1]),
                });
                let mut shares: Vec<CategoryShare> = shares.collect();
                let change = |share: &CategoryShare| (share.current - share.baseline).abs();
                shares.sort_by(|a, b| change(b).total_cmp(&change(a)));
                shares.truncate(MAX_CATEGORIES);
                Some(Self::Categories(shares))
            }
        }
    }

    /// As one line: bars of the bins, or the changes of the categories. Names are not escaped.
    pub fn line(&self) -> String {
        match self {
            Self::Bins { baseline, current } => {
                let most = baseline.iter().chain(current).copied().fold(0.0, f64::max);
                let bars = |shares: &[f64]| {
                    let bar = |share: &f64| match most > 0.0 {
                        true => BARS[((share / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
                        false => BARS[0],
                    };
                    shares.iter().map(bar).collect::<String>()
                };
                format!("{} → {}", bars(baseline), bars(current))
            }
            Self::Categories(shares) => {
                let percent = |share: f64| {
                    if share < 0.1 { format!("{:.1} %", 100.0 * share) } else { format!("{:.0} %", 100.0 * share) }
                };
                let line = |s: &CategoryShare| {
                    format!(
                        "{} {} → {}",
                        driftsweep_common::escape::for_display(&s.name),
                        percent(s.baseline),
                        percent(s.current)
                    )
                };
                shares.iter().map(line).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftsweep::sweep::report::CategoryCount;

    #[test]
    fn bins_are_bars_of_one_scale_and_many_are_put_together() {
        let counts = |baseline: Vec<u64>, current: Vec<u64>| Counts::Bins {
            edges: Vec::new(),
            baseline,
            current,
            tie_aware: Vec::new(),
        };
        let shape = DistributionShape::of(&counts(vec![10, 10, 20, 0], vec![0, 0, 20, 60]), [40, 80]).unwrap();
        assert_eq!(shape.line(), "▃▃▆▁ → ▁▁▃█");
        let many = DistributionShape::of(&counts(vec![1; 1000], (0..1000).collect()), [1000, 499_500]).unwrap();
        assert!(many.line().chars().filter(|c| BARS.contains(c)).count() <= 2 * MAX_BINS, "{}", many.line());
        assert_eq!(DistributionShape::of(&counts(vec![0, 0], vec![1, 1]), [0, 2]), None);
        let text = serde_json::to_string(&shape).unwrap();
        assert_eq!(serde_json::from_str::<DistributionShape>(&text).unwrap(), shape);
    }

    #[test]
    fn categories_are_the_largest_changes_in_words() {
        let count = |name: &str, baseline, current| CategoryCount { name: name.into(), baseline, current };
        let mut counts = vec![count("DE", 40, 12), count("FR", 30, 31), count("\u{1b}[31m", 5, 50)];
        counts.extend((0..20).map(|i| count(&"x".repeat(500), 1, 1 + i % 2)));
        let shape = DistributionShape::of(&Counts::Categories(counts), [100, 100]).unwrap();
        let line = shape.line();
        assert!(line.starts_with("\\u{1b}[31m 5.0 % → 50 %, DE 40 % → 12 %, "), "{line}");
        assert!(line.len() < 400 && !line.contains('\u{1b}'), "{line}");
        assert_eq!(DistributionShape::of(&Counts::Categories(vec![count("a", 1, 0)]), [1, 0]), None);
    }
}
