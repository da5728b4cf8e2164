//! The empirical distribution of one column, as integers: counts per cell, and all keys of the few cells
//! where more than the count matters.
//!
//! With `n` keys, `before[j]` of them below cell `j`, the ECDF is known exactly at every cell's end without
//! a sort. What happens inside a cell is bounded by its two masses, so the Kolmogorov-Smirnov statistic lies
//! in a proven interval, and only the cells whose bound beats the best found value need their keys.

use std::sync::Arc;

use super::cells::{CellMap, KeyCell};
use super::key::{Domain, two_sum};
use super::runs::KeyRuns;
use super::{CellCounts, CellSet};

/// An empirical distribution over the cells of a [`CellMap`].
#[derive(Clone, Debug)]
pub struct Ecdf {
    /// What the keys stand for.
    pub domain: Domain,
    map: Arc<CellMap>,
    cells: Arc<[KeyCell]>,
    /// `before[j]` keys lie in cells `0 .. j`; one longer than there are cells.
    before: Vec<u64>,
    offsets: Option<Vec<u64>>,
    resolved: CellSet,
    /// All keys of the resolved cells.
    found: KeyRuns,
    /// `found_before[i]` of the found keys come before the `i`-th run; one longer than there are runs.
    found_before: Vec<u64>,
}

impl Ecdf {
    /// From counts alone: no cell is resolved yet.
    pub fn new(domain: Domain, map: Arc<CellMap>, cells: Arc<[KeyCell]>, counts: CellCounts) -> Self {
        let mut before = Vec::with_capacity(counts.counts.len() + 1);
        let mut sum = 0;
        before.push(0);
        before.extend(counts.counts.iter().map(|count| {
            sum += count;
            sum
        }));
        let resolved = CellSet::new(map.len());
        Self {
            domain,
            map,
            cells,
            before,
            offsets: counts.offsets,
            resolved,
            found: KeyRuns::default(),
            found_before: vec![0],
        }
    }

    /// The division of the key space.
    pub fn map(&self) -> &Arc<CellMap> {
        &self.map
    }

    /// The cells of the map, in order.
    pub fn cells(&self) -> &Arc<[KeyCell]> {
        &self.cells
    }

    /// Number of keys.
    pub fn n(&self) -> u64 {
        self.before[self.before.len() - 1]
    }

    /// Keys in a cell.
    pub fn count(&self, cell: usize) -> u64 {
        self.before[cell + 1] - self.before[cell]
    }

    /// Sum of the offsets of the keys of each cell, modulo 2^64, where they were counted.
    pub fn offsets(&self) -> Option<&[u64]> {
        self.offsets.as_deref()
    }

    /// The resolved cells, and all their keys.
    pub fn resolved(&self) -> (&CellSet, &KeyRuns) {
        (&self.resolved, &self.found)
    }

    /// Whether all keys of a cell are known.
    pub fn is_known(&self, cell: usize) -> bool {
        self.count(cell) == 0 || self.cells[cell].is_single() || self.resolved.contains(cell as u32)
    }

    /// Marks cells as resolved; `keys` are all keys of those of them that were not known before.
    pub fn resolve(&mut self, cells: &CellSet, keys: KeyRuns) {
        for cell in cells.iter() {
            self.resolved.insert(cell);
        }
        self.found = std::mem::take(&mut self.found).merge(keys);
        self.found_before.clear();
        self.found_before.push(0);
        let mut sum = 0;
        self.found_before.extend(self.found.counts().iter().map(|count| {
            sum += count;
            sum
        }));
    }

    /// The same distribution over the keys of another domain of integers: every key moves by the same distance. `None` where
    /// the domain does not have one of them.
    pub(crate) fn moved_to(&self, domain: Domain) -> Option<Self> {
        let by = match (self.domain, domain) {
            (Domain::I32, Domain::I64) => (1 << 63) - (1 << 31),
            (Domain::U64, Domain::I64) => 1 << 63,
            _ => return None,
        };
        if let Some(last) = self.n().checked_sub(1) {
            self.key_at(last)?.checked_add(by)?;
        }
        let map = self.map.moved(by)?;
        let added = map.len() - self.map.len();
        let padded = |values: &[u64]| [vec![0; added], values.to_vec()].concat();
        let counts = padded(&(0..self.map.len()).map(|cell| self.count(cell)).collect::<Vec<_>>());
        let counts = CellCounts { counts, offsets: self.offsets.as_deref().map(padded) };
        let mut resolved = CellSet::new(map.len());
        self.resolved.iter().for_each(|cell| resolved.insert(cell + added));
        let keys = self.found.keys().iter().map(|key| key + by).collect();
        let found = KeyRuns::from_parts(keys, self.found.counts().to_vec())?;
        let cells: Arc<[KeyCell]> = map.iter().collect();
        let mut moved = Self::new(domain, Arc::new(map), cells, counts);
        moved.resolve(&resolved, found);
        Some(moved)
    }

    /// The keys that are known one by one, ascending.
    pub(crate) fn known_keys(&self) -> Vec<u64> {
        let single = self.occupied().filter(|&cell| self.cells[cell].is_single()).map(|cell| self.cells[cell].lower);
        let mut keys: Vec<u64> = single.chain(self.found.keys().iter().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The cell that holds the key of a rank (0 is the smallest); `None` beyond the last.
    pub(crate) fn cell_of_rank(&self, rank: u64) -> Option<usize> {
        (rank < self.n()).then(|| self.before.partition_point(|&before| before <= rank) - 1)
    }

    /// The first and the last cell with a key that rounds to the same double as some key of this cell.
    pub(crate) fn rounded_cells(&self, cell: usize) -> (usize, usize) {
        let KeyCell { lower, width_bits } = self.cells[cell];
        let domain = self.domain;
        if matches!(domain, Domain::F32 | Domain::F64 | Domain::I32) {
            return (cell, cell);
        }
        let upper = lower.saturating_add((1u64 << width_bits.unwrap_or(0)) - 1);
        let first = domain.edge(domain.value(lower));
        let last = domain.edge(domain.value(upper).next_up());
        (self.map.cell(first) as usize, self.map.cell(last) as usize)
    }

    /// The key of a rank; `None` beyond the last, or where its cell is not known.
    pub fn key_at(&self, rank: u64) -> Option<u64> {
        let cell = self.cell_of_rank(rank)?;
        if self.cells[cell].is_single() {
            return Some(self.cells[cell].lower);
        }
        if !self.is_known(cell) {
            return None;
        }
        let first = self.first_run(cell);
        let wanted = self.found_before[first] + (rank - self.before[cell]);
        Some(self.found.keys()[self.found_before.partition_point(|&before| before <= wanted) - 1])
    }

    /// How many keys are smaller than `key`; `None` where that cell is not known.
    pub fn below(&self, key: u64) -> Option<u64> {
        let j = self.map.cell(key) as usize;
        let cell = self.cells[j];
        if self.count(j) == 0 || (cell.width_bits.is_some() && key == cell.lower) {
            return Some(self.before[j]);
        }
        if !self.is_known(j) {
            return None;
        }
        let first = self.first_run(j);
        let upto = self.found.keys().partition_point(|&k| k < key);
        Some(self.before[j] + self.found_before[upto] - self.found_before[first])
    }

    /// The cells with keys.
    pub fn occupied(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.cells.len()).filter(|&cell| self.count(cell) > 0)
    }

    /// All distinct keys, ascending, with their counts; `None` where a cell is not known.
    pub fn runs(&self) -> Option<Vec<(u64, u64)>> {
        let mut runs = Vec::new();
        for cell in self.occupied() {
            if self.cells[cell].is_single() {
                runs.push((self.cells[cell].lower, self.count(cell)));
            } else if self.is_known(cell) {
                let (keys, counts) = self.runs_of(cell);
                runs.extend(keys.iter().copied().zip(counts.iter().copied()));
            } else {
                return None;
            }
        }
        Some(runs)
    }

    /// The first run of a resolved cell.
    fn first_run(&self, cell: usize) -> usize {
        self.found.keys().partition_point(|&k| (self.map.cell(k) as usize) < cell)
    }

    /// The runs of a known cell: distinct keys and their counts.
    fn runs_of(&self, cell: usize) -> (&[u64], &[u64]) {
        if self.count(cell) == 0 {
            return (&[], &[]);
        }
        let (start, end) = (self.first_run(cell), self.first_run(cell + 1));
        (&self.found.keys()[start..end], &self.found.counts()[start..end])
    }
}

/// The largest distance between two ECDFs, as an exact fraction `numerator / (n * m)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    /// The proven lower bound of the distance.
    pub lower: u128,
    /// The proven upper bound; equal to `lower` where the distance is exact.
    pub upper: u128,
    /// Keys of the first distribution.
    pub n: u64,
    /// Keys of the second.
    pub m: u64,
}

impl Distance {
    /// The distance as a double; its proven lower end where it is not exact.
    pub fn statistic(&self) -> f64 {
        self.share(self.lower)
    }

    /// The end that the distance does not exceed, as a double; `None` where it is exact.
    pub(crate) fn upper_statistic(&self) -> Option<f64> {
        (!self.is_exact()).then(|| self.share(self.upper))
    }

    fn share(&self, numerator: u128) -> f64 {
        numerator as f64 / (self.n as f64 * self.m as f64)
    }

    /// Whether the distance is known exactly.
    pub fn is_exact(&self) -> bool {
        self.lower == self.upper
    }
}

/// `F1 - F2` at both ends of a cell and its two masses, all times `n * m`.
#[derive(Clone, Copy)]
struct CellBounds {
    left: i128,
    right: i128,
    up: i128,
    down: i128,
}

impl CellBounds {
    /// The largest and smallest `F1 - F2` the cell can hold: all of one side may come first.
    fn bounds(self) -> (i128, i128) {
        let highest = (self.left + self.up).min(self.right + self.down);
        let lowest = (self.left - self.down).max(self.right - self.up);
        (highest, lowest)
    }

    fn largest(self) -> u128 {
        let (highest, lowest) = self.bounds();
        highest.max(-lowest).max(0) as u128
    }

    fn can_change_sign(self) -> bool {
        let (highest, lowest) = self.bounds();
        highest > 0 && lowest < 0
    }
}

/// Two distributions over the same cells.
#[derive(Clone, Copy, Debug)]
pub struct EcdfPair<'a> {
    a: &'a Ecdf,
    b: &'a Ecdf,
}

impl<'a> EcdfPair<'a> {
    /// Pairs two distributions; `None` where they are not over the same cells.
    pub fn new(a: &'a Ecdf, b: &'a Ecdf) -> Option<Self> {
        (Arc::ptr_eq(&a.map, &b.map) || a.map == b.map).then_some(Self { a, b })
    }

    fn steps(self) -> impl Iterator<Item = (usize, CellBounds)> + 'a {
        let (n, m) = (i128::from(self.a.n()), i128::from(self.b.n()));
        let mut left = 0i128;
        (0..self.a.cells.len()).map(move |j| {
            let up = i128::from(self.a.count(j)) * m;
            let down = i128::from(self.b.count(j)) * n;
            let step = CellBounds { left, right: left + up - down, up, down };
            left = step.right;
            (j, step)
        })
    }

    /// Whether the inside of a cell can matter: both sides have keys there, and they are not all the same.
    fn has_inside(self, j: usize, step: CellBounds) -> bool {
        step.up > 0 && step.down > 0 && !self.a.cells[j].is_single()
    }

    /// The cells that can hold the largest distance and are not resolved yet.
    pub(crate) fn distance_candidates(self) -> CellSet {
        let best = self.distance().lower;
        let mut wanted = CellSet::new(self.a.cells.len());
        for (j, step) in self.steps() {
            if self.has_inside(j, step) && step.largest() > best {
                wanted.insert(j);
            }
        }
        wanted
    }

    /// The two-sample Kolmogorov-Smirnov distance `max |F1(x) - F2(x)|`, as integers.
    pub fn distance(self) -> Distance {
        let (n, m) = (self.a.n(), self.b.n());
        let (mut lower, mut upper) = (0u128, 0u128);
        for (j, step) in self.steps() {
            lower = lower.max(step.right.unsigned_abs());
            if self.has_inside(j, step) {
                if self.a.is_known(j) && self.b.is_known(j) {
                    self.walk(j, step, |_, gap| lower = lower.max(gap.unsigned_abs()));
                } else {
                    upper = upper.max(step.largest());
                }
            }
        }
        Distance { lower, upper: upper.max(lower), n, m }
    }

    /// Walks the distinct keys of a resolved cell in order: `f(key, gap from it on)`.
    fn walk(self, j: usize, step: CellBounds, mut f: impl FnMut(u64, i128)) {
        let (n, m) = (i128::from(self.a.n()), i128::from(self.b.n()));
        let ((keys_a, counts_a), (keys_b, counts_b)) = (self.a.runs_of(j), self.b.runs_of(j));
        let (mut i, mut k) = (0, 0);
        let mut gap = step.left;
        loop {
            let key = match (keys_a.get(i), keys_b.get(k)) {
                (None, None) => return,
                (Some(&x), Some(&y)) => x.min(y),
                (Some(&x), None) | (None, Some(&x)) => x,
            };
            if keys_a.get(i) == Some(&key) {
                gap += i128::from(counts_a[i]) * m;
                i += 1;
            }
            if keys_b.get(k) == Some(&key) {
                gap -= i128::from(counts_b[k]) * n;
                k += 1;
            }
            f(key, gap);
        }
    }

    /// The cells that have to be resolved for the Wasserstein distance to be exact.
    pub(crate) fn transport_candidates(self) -> CellSet {
        let mut wanted = CellSet::new(self.a.cells.len());
        for (j, step) in self.steps() {
            let occupied = step.up > 0 || step.down > 0;
            if occupied && !self.is_affine(j, step) {
                wanted.insert(j);
            }
        }
        wanted
    }

    /// Whether counts and offsets alone give the area of a cell: bounded, no sign change, no overflow.
    fn is_affine(self, j: usize, step: CellBounds) -> bool {
        let cell = self.a.cells[j];
        let Some(bits) = cell.width_bits else { return false };
        if cell.is_single() {
            return true;
        }
        let fits = |count: u64| u128::from(count) << bits < 1 << 64;
        !step.can_change_sign() && fits(self.a.count(j)) && fits(self.b.count(j))
    }

    /// The Wasserstein-1 distance, the area between the two ECDFs, in the column's unit.
    ///
    /// `None` where an infinity makes it meaningless. The flag tells whether every cell was exact; where it
    /// is false (a baseline kept without its values), the figure is a lower bound.
    pub fn wasserstein(self) -> Option<(f64, bool)> {
        let (a, b) = (self.a, self.b);
        let (oa, ob) = (a.offsets()?, b.offsets()?);
        let (n, m) = (i128::from(a.n()), i128::from(b.n()));
        let scale = a.n() as f64 * b.n() as f64;
        let domain = a.domain;
        let (mut area, mut exact) = (Area::default(), true);
        for (j, step) in self.steps() {
            let cell = a.cells[j];
            let occupied = step.up > 0 || step.down > 0;
            if !occupied && step.right == 0 {
                continue;
            }
            if self.is_affine(j, step) || (!occupied && cell.width_bits.is_some()) {
                let bits = cell.width_bits.unwrap_or(0);
                // value = lower + ulp * offset, so the area is an integer number of ulps.
                let ulp = domain.width(cell.lower, cell.lower.saturating_add(1)).0;
                let ulps = (step.right << bits) - m * i128::from(oa[j]) + n * i128::from(ob[j]);
                area.add_product(ulps.abs(), ulp);
                // But for the last step, which below zero is shorter where it crosses a power of two.
                let last = cell.lower + ((1u64 << bits) - 1);
                let short = ulp - domain.width(last, last.saturating_add(1)).0;
                if short > 0.0 {
                    area.add_product(step.right.abs(), -short);
                }
            } else if a.is_known(j) && b.is_known(j) {
                // Step by step. The first cell starts at its first key, the last one ends at its last.
                let starts = cell.width_bits.is_some() || step.left != 0;
                let mut from = starts.then_some((cell.lower, step.left));
                self.walk(j, step, |key, after| {
                    if let Some((start, gap)) = from {
                        area.add_rectangle(gap, domain.width(start, key));
                    }
                    from = Some((key, after));
                });
                if let (Some((start, gap)), Some(next)) = (from, a.cells.get(j + 1)) {
                    area.add_rectangle(gap, domain.width(start, next.lower));
                }
            } else {
                exact = false;
            }
        }
        let area = area.total();
        let distance = area / scale;
        distance.is_finite().then_some((distance, exact))
    }
}

/// The Wasserstein-1 distance of two rows of distinct keys, ascending, and their counts. 0 where a side is empty.
pub(crate) fn wasserstein_of(domain: Domain, a: &[(u64, u64)], b: &[(u64, u64)]) -> f64 {
    let total = |runs: &[(u64, u64)]| runs.iter().map(|(_, count)| i128::from(*count)).sum::<i128>();
    let (n, m) = (total(a), total(b));
    let mut steps: Vec<(u64, i128)> = a.iter().map(|&(key, count)| (key, i128::from(count) * m)).collect();
    steps.extend(b.iter().map(|&(key, count)| (key, -i128::from(count) * n)));
    steps.sort_unstable();
    let (mut area, mut gap) = (Area::default(), 0);
    for pair in steps.windows(2) {
        gap += pair[0].1;
        area.add_rectangle(gap, domain.width(pair[0].0, pair[1].0));
    }
    if n == 0 || m == 0 { 0.0 } else { area.total() / (n as f64 * m as f64) }
}

/// A sum carried to twice the precision of a double, so that its rounding does not depend on where cells lie.
#[derive(Default)]
struct Area {
    high: f64,
    low: f64,
}

impl Area {
    /// Knuth's two-sum: `x` is added, and what rounding lost is kept.
    fn add(&mut self, x: f64) {
        let (sum, lost) = two_sum(self.high, x);
        self.high = sum;
        self.low += lost;
    }

    /// Adds `count * x`.
    fn add_product(&mut self, count: i128, x: f64) {
        let high = count as f64;
        let low = (count - high as i128) as f64;
        for factor in [high, low] {
            let product = factor * x;
            self.add(product);
            self.add(factor.mul_add(x, -product));
        }
    }

    /// Adds the area of a stretch of this width, given with what its rounding lost, where the ECDFs are `gap` apart.
    fn add_rectangle(&mut self, gap: i128, (width, lost): (f64, f64)) {
        if gap != 0 {
            self.add_product(gap.abs(), width);
            self.add_product(gap.abs(), lost);
        }
    }

    fn total(&self) -> f64 {
        self.high + self.low
    }
}
