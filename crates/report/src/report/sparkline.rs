//! Two small distributions as text, for a cell of a table.

use driftsweep::sweep::Feature;
use driftsweep::sweep::report::{CategoryCount, Counts};

/// Most bars of a side: neighbouring bins are added up where there are more.
const MAX_BARS: usize = 12;

/// Most categories that are shown, those with the largest shares.
const MAX_CATEGORIES: usize = 8;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The baseline and the current distribution of a feature, in one scale. Empty where there are no counts.
pub(super) fn pair(feature: &Feature) -> String {
    let Some(counts) = &feature.counts else { return String::new() };
    let [baseline, current] = sides(counts).map(|counts| shares(&counts));
    let most = baseline.iter().chain(&current).copied().fold(f64::MIN_POSITIVE, f64::max);
    let bars = |shares: &[f64]| -> String { shares.iter().map(|share| bar(share / most)).collect() };
    format!("{} → {}", bars(&baseline), bars(&current))
}

/// The counts of both sides, bar by bar.
fn sides(counts: &Counts) -> [Vec<u64>; 2] {
    match counts {
        Counts::Bins { baseline, current, tie_aware, .. } if tie_aware.is_empty() => {
            [joined(baseline.iter().copied()), joined(current.iter().copied())]
        }
        Counts::Bins { tie_aware, .. } => {
            [joined(tie_aware.iter().map(|bin| bin.baseline)), joined(tie_aware.iter().map(|bin| bin.current))]
        }
        Counts::Categories(all) => {
            let total = |of: fn(&CategoryCount) -> u64| all.iter().map(of).sum::<u64>().max(1) as f64;
            let (n, m) = (total(|category| category.baseline), total(|category| category.current));
            let larger = |category: &CategoryCount| (category.baseline as f64 / n).max(category.current as f64 / m);
            let mut largest: Vec<&CategoryCount> = all.iter().collect();
            largest.sort_by(|a, b| larger(b).total_cmp(&larger(a)));
            largest.truncate(MAX_CATEGORIES);
            let side = |of: fn(&CategoryCount) -> u64| largest.iter().map(|category| of(category)).collect();
            [side(|category| category.baseline), side(|category| category.current)]
        }
    }
}

/// Counts added up to [`MAX_BARS`] at most, of about equally many each.
fn joined(counts: impl ExactSizeIterator<Item = u64>) -> Vec<u64> {
    let counts: Vec<u64> = counts.collect();
    let bars = counts.len().min(MAX_BARS);
    let bounds = |bar: usize| bar * counts.len() / bars;
    (0..bars).map(|bar| counts[bounds(bar)..bounds(bar + 1)].iter().sum()).collect()
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| count as f64 / total).collect()
}

/// The bar for a share of the largest.
fn bar(share: f64) -> char {
    let steps = BARS.len() as f64;
    BARS[((share * steps).ceil() as usize).clamp(1, BARS.len()) - 1]
}

#[cfg(test)]
mod tests {
    use driftsweep::sweep::Rows;
    use driftsweep::sweep::report::{BinValues, TieAwareBin};

    use super::*;

    fn shown(counts: Counts) -> String {
        let mut feature = Feature::failed(Rows::default(), String::new());
        feature.counts = Some(counts);
        pair(&feature)
    }

    #[test]
    fn both_sides_have_one_scale_and_a_bounded_width() {
        let bins = |baseline: Vec<u64>, current: Vec<u64>, tie_aware| Counts::Bins {
            edges: Vec::new(),
            baseline,
            current,
            tie_aware,
        };
        assert_eq!(shown(bins(vec![5, 5, 0], vec![0, 0, 10], Vec::new())), "▄▄▁ → ▁▁█");
        let many = shown(bins(vec![1; 96], vec![2; 96], Vec::new()));
        assert_eq!(many.chars().filter(|c| ['▇', '█'].contains(c)).count(), 2 * 12, "{many}");
        let tie = |values, baseline, current| TieAwareBin { values, baseline, current };
        let ties = vec![tie(BinValues::Below(1.0), 0, 0), tie(BinValues::Equal(1.0), 9, 0), tie(BinValues::Rest, 0, 9)];
        assert_eq!(shown(bins(vec![0, 9], vec![0, 9], ties)), "▁█▁ → ▁▁█");
        let category = |name: &str, baseline, current| CategoryCount { name: name.into(), baseline, current };
        assert_eq!(shown(Counts::Categories(vec![category("a", 1, 4), category("b", 3, 0)])), "▂▆ → █▁");
        assert_eq!(pair(&Feature::failed(Rows::default(), String::new())), "");
    }
}
