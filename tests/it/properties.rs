//! What must hold for any data.

use std::sync::Arc;

use driftsweep::count::ecdf::EcdfPair;
use driftsweep::count::key::key_f64;
use driftsweep::count::pair::{BaselineKeys, RequiredFigures, count_pair};
use driftsweep::count::{CellCounts, CellMap, Domain, KeyVec, cpu};
use proptest::prelude::*;

use super::parity::backends;

/// Values with ties, wide gaps, both zeros and extremes.
fn values(most: usize) -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        4 => (-8i32..8).prop_map(f64::from),
        4 => -1.0e3..1.0e3,
        2 => any::<f64>().prop_filter("finite", |x| x.is_finite()),
        1 => Just(-0.0),
        1 => Just(5e-324),
    ];
    prop::collection::vec(value, 1..most)
}

fn chunks(values: &[f64], size: usize) -> Vec<KeyVec> {
    values.chunks(size).map(|part| KeyVec::U64(part.iter().map(|&x| key_f64(x)).collect())).collect()
}

/// The largest ECDF distance by its definition, as a numerator over `n * m`.
fn distance_by_definition(a: &[f64], b: &[f64]) -> u128 {
    let below = |side: &[f64], x: f64| side.iter().filter(|&&y| y <= x).count() as i128;
    let gap = |x: f64| below(a, x) * b.len() as i128 - below(b, x) * a.len() as i128;
    a.iter().chain(b).map(|&x| gap(x).unsigned_abs()).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn the_distance_and_every_rank_are_exact_however_the_rows_are_split(
        a in values(400), b in values(400), size in 1usize..90, reverse in any::<bool>(),
    ) {
        let all = |n: u64| (0..n).collect::<Vec<u64>>();
        let wanted = RequiredFigures { baseline_ranks: &all, current_ranks: &all, distance: true, transport: true };
        let mut shuffled = a.clone();
        if reverse { shuffled.reverse() }
        let (source, current) = (chunks(&shuffled, size), chunks(&b, 64));
        let mut sorted: Vec<u64> = a.iter().map(|&x| key_f64(x)).collect();
        sorted.sort_unstable();
        for counter in backends() {
            let side = BaselineKeys::Source(&source, a.len() as u64);
            let (ea, eb) = count_pair(&**counter, Domain::F64, side, &current, b.len() as u64, wanted).unwrap();
            let distance = EcdfPair::new(&ea, &eb).unwrap().distance();
            prop_assert!(distance.is_exact(), "{}", counter.name());
            prop_assert_eq!(distance.lower, distance_by_definition(&a, &b), "{}", counter.name());
            for (rank, &key) in sorted.iter().enumerate() {
                prop_assert_eq!(ea.key_at(rank as u64), Some(key), "{}", counter.name());
                let below = sorted.partition_point(|&k| k < key) as u64;
                prop_assert_eq!(ea.below(key), Some(below), "{}", counter.name());
            }
            // The other way round it is the same distance.
            let side = BaselineKeys::Source(&current, b.len() as u64);
            let (eb, ea) = count_pair(&**counter, Domain::F64, side, &source, a.len() as u64, wanted).unwrap();
            prop_assert_eq!(EcdfPair::new(&eb, &ea).unwrap().distance().lower, distance.lower, "{}", counter.name());
        }
    }

    #[test]
    fn the_area_between_the_ecdfs_is_that_of_the_sorted_values(
        a in prop::collection::vec(-1.0e6..1.0e6f64, 1..300), b in prop::collection::vec(-1.0e6..1.0e6f64, 1..300),
    ) {
        let none = |_: u64| Vec::new();
        let wanted = RequiredFigures { baseline_ranks: &none, current_ranks: &none, distance: false, transport: true };
        let (sa, sb) = (chunks(&a, 50), chunks(&b, 50));
        let mut all: Vec<f64> = a.iter().chain(&b).copied().collect();
        all.sort_by(f64::total_cmp);
        let share = |side: &[f64], x: f64| side.iter().filter(|&&y| y <= x).count() as f64 / side.len() as f64;
        let by_definition: f64 = all.windows(2).map(|w| (share(&a, w[0]) - share(&b, w[0])).abs() * (w[1] - w[0])).sum();
        for counter in backends() {
            let side = BaselineKeys::Source(&sa, a.len() as u64);
            let (ea, eb) = count_pair(&**counter, Domain::F64, side, &sb, b.len() as u64, wanted).unwrap();
            let (found, exact) = EcdfPair::new(&ea, &eb).unwrap().wasserstein().unwrap();
            let what = format!("{}: {found} {by_definition}", counter.name());
            prop_assert!(exact, "{what}");
            prop_assert!((found - by_definition).abs() <= 1e-9 * by_definition.max(1.0), "{what}");
        }
    }

    #[test]
    fn tables_merge_in_any_order_to_the_same_counts(a in values(300), at in 0usize..300, with_offsets in any::<bool>()) {
        let mut sample: Vec<u64> = a.iter().map(|&x| key_f64(x)).collect();
        let map = Arc::new(CellMap::from_sample(&mut sample, Domain::F64, 64));
        let count = |part: &[f64]| {
            let mut counts = CellCounts::new(map.len(), with_offsets);
            chunks(part, 37).iter().for_each(|keys| cpu::count(&map, keys, &mut counts));
            counts
        };
        let (left, right) = a.split_at(at.min(a.len()));
        let whole = count(&a);
        prop_assert_eq!(&count(left).merge(count(right)).unwrap(), &whole);
        prop_assert_eq!(&count(right).merge(count(left)).unwrap(), &whole);
        prop_assert_eq!(whole.counts.iter().sum::<u64>(), a.len() as u64);
    }
}

#[test]
fn the_area_is_exact_in_single_precision_below_zero_too() {
    use driftsweep::count::KeyVec;
    use driftsweep::count::key::key_f32;
    let side = |salt: u64, shift: f32| -> Vec<f32> {
        let unit = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt) >> 40) as f32 / (1 << 24) as f32;
        (0..30_000).map(|i| (unit(i) + unit(i + 77_777) + unit(i + 1_234_567)) * 2.0 - 3.0 + shift).collect()
    };
    let (a, b) = (side(1, 0.0), side(99, -0.02));
    let keys = |side: &[f32]| vec![KeyVec::U32(side.iter().map(|&x| key_f32(x)).collect())];
    let (sa, sb) = (keys(&a), keys(&b));
    let none = |_: u64| Vec::new();
    let wanted = RequiredFigures { baseline_ranks: &none, current_ranks: &none, distance: false, transport: true };
    let mut steps: Vec<(f64, i64)> =
        a.iter().map(|&x| (x.into(), 1)).chain(b.iter().map(|&x| (x.into(), -1))).collect();
    steps.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut gap, mut area) = (0i64, 0.0);
    for pair in steps.windows(2) {
        gap += pair[0].1;
        area += gap.unsigned_abs() as f64 * (pair[1].0 - pair[0].0);
    }
    let by_definition = area / a.len() as f64;
    for counter in backends() {
        let side = BaselineKeys::Source(&sa, a.len() as u64);
        let (ea, eb) = count_pair(&**counter, Domain::F32, side, &sb, b.len() as u64, wanted).unwrap();
        let (found, exact) = EcdfPair::new(&ea, &eb).unwrap().wasserstein().unwrap();
        let what = format!("{}: {found:e} {by_definition:e}", counter.name());
        assert!(exact && ((found - by_definition) / by_definition).abs() < 1e-12, "{what}");
    }
}
