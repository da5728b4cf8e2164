//! Rows with a planted rule, and the area under the curve.

use driftsweep_trainers::{Categories, Column, Objective, Table, Target};

/// Uniform numbers from 0 to 1 (SplitMix64, Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Rows of which no single number tells the label: two numbers are on the same side of 0, a city is one of three of nine, and a
/// number is missing. The seed chooses the rows, the rule is always the same.
pub fn planted(rows: usize, seed: u64, objective: Objective) -> (Table, Target) {
    let mut random = Random(seed);
    let mut numbers = vec![Vec::new(); 4];
    let (mut cities, mut kinds, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        let x: [f64; 4] = std::array::from_fn(|_| 4.0 * random.next() - 2.0);
        let (absent, city, kind) =
            (random.next() < 0.2, (random.next() * 9.0) as usize, (random.next() * 2.0) as usize);
        let same: f64 = if x[0] * x[1] > 0.0 { 2.0 } else { -2.0 };
        let score = same + if city % 3 == 1 { 1.5 } else { -0.5 } + if absent { 1.5 } else { -0.3 };
        values.push(match objective {
            Objective::Binary => f64::from(u8::from(random.next() < 1.0 / (1.0 + (-1.5 * score).exp()))),
            Objective::Regression => 100.0 + 10.0 * score + random.next(),
        });
        (0..4).for_each(|i| numbers[i].push(if i == 2 && absent { f64::NAN } else { x[i] }));
        cities.push((random.next() > 0.05).then(|| format!("city {city}")));
        kinds.push(Some(["a", "b"][kind]));
    }
    let mut columns: Vec<(String, Column)> =
        numbers.into_iter().enumerate().map(|(i, values)| (format!("x{i}"), Column::Numbers(values))).collect();
    columns.insert(2, ("city".to_owned(), Column::Categories(Categories::from_rows(&cities))));
    columns.push(("kind".to_owned(), Column::Categories(Categories::from_rows(&kinds))));
    (Table::new(columns).unwrap(), Target::new(objective, values).unwrap())
}

/// The share of pairs of a positive and a negative in which the positive has the higher score; ties count half.
pub fn auc(scores: &[f64], labels: &[f64]) -> f64 {
    let mut rows: Vec<(f64, f64)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs) = (0.0, 0.0);
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let positives = tie.iter().filter(|(_, label)| *label == 1.0).count() as f64;
        let negatives = tie.len() as f64 - positives;
        pairs += positives * (below + negatives / 2.0);
        below += negatives;
    }
    pairs / (below * (rows.len() as f64 - below))
}
