//! Cells: a monotone, integer-only division of the key space that is fine where the data lies.
//!
//! The key space is first cut into equal coarse ranges by a subtraction and a shift; each coarse range is
//! then cut into a power of two of equal cells, more where a sample shows more mass. Finding a cell costs a
//! subtraction, two shifts and one look-up in a small table, and gives the same cell on every device.
//! No reported figure depends on where the cells lie: they only determine how little has to be read a second time.

use super::key::Domain;

/// A coarse range in one word, so that the table stays small and a look-up is one load: its first cell in the
/// upper 26 bits, and how many low bits of the key its cells drop in the lower 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Coarse(u32);

impl Coarse {
    const MAX_CELLS: u32 = 1 << 26;

    fn new(base: u32, shift: u32) -> Self {
        debug_assert!(base < Self::MAX_CELLS && shift < 64);
        Self(base << 6 | shift)
    }

    #[inline(always)]
    fn base(self) -> u32 {
        self.0 >> 6
    }

    #[inline(always)]
    fn shift(self) -> u32 {
        self.0 & 63
    }
}

/// A division of the keys of one column into cells `0 .. len()`, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellMap {
    origin: u64,
    coarse_shift: u32,
    /// The coarse ranges, in a table of fixed length so that an index needs no check.
    coarse: Box<[Coarse; TABLE]>,
    ranges: u32,
    cells: u32,
}

/// Most coarse ranges: with 12 bits a range never spans more than one binade of an `f64`.
const MAX_COARSE_BITS: u32 = 12;

/// Room for all coarse ranges and one on either side.
const TABLE: usize = 1 << (MAX_COARSE_BITS + 1);

impl CellMap {
    /// Cells for data that a sample of keys represents; about `target` of them, plus one per coarse range.
    ///
    /// The sample is sorted in place. An empty sample gives a single cell.
    pub fn from_sample(sample: &mut [u64], domain: Domain, target: usize) -> Self {
        sample.sort_unstable();
        let (Some(&lo), Some(&hi)) = (sample.first(), sample.last()) else {
            return Self::new(0, 63, &[Coarse::new(0, 63)], 1);
        };
        let full = Self::over(lo, hi, sample, domain, target);
        // A few far outliers would leave all the rest in one cell: then cut only the middle 98 % finely.
        let tolerated = (sample.len() / 64).max(4);
        let crowd = full.max_values_per_cell(sample);
        if crowd <= tolerated {
            return full;
        }
        let trim = sample.len() / 100;
        let (lo, hi) = (sample[trim], sample[sample.len() - 1 - trim]);
        let trimmed = Self::over(lo, hi, sample, domain, target);
        if trimmed.max_values_per_cell(sample) < crowd { trimmed } else { full }
    }

    fn over(lo: u64, hi: u64, sample: &[u64], domain: Domain, target: usize) -> Self {
        let span_bits = 64 - (hi - lo).leading_zeros();
        // As few coarse ranges as give each cell its share, but never so wide that a range spans two binades.
        let wanted_bits = target.max(2).ilog2().saturating_sub(2).clamp(4, MAX_COARSE_BITS);
        let coarse_shift = span_bits.saturating_sub(wanted_bits).min(domain.linear_bits());
        let coarse_of = |key: u64| key >> coarse_shift;
        // One range is kept below `lo`, and one above `hi`, for what lies outside of the sample.
        let first = coarse_of(lo).saturating_sub(1);
        let ranges = (coarse_of(hi) - first + 2) as usize;
        let mut mass = vec![0u32; ranges];
        for &key in sample {
            if (lo..=hi).contains(&key) {
                mass[(coarse_of(key) - first) as usize] += 1;
            }
        }
        let mut coarse = Vec::with_capacity(ranges);
        let mut cells = 0u32;
        for i in 0..ranges {
            // A range that the sample happened to miss beside one that it hit is hardly empty. The outermost two
            // stay one cell each: they also take every key beyond them.
            let outermost = i == 0 || i == ranges - 1;
            let near = if outermost { 0 } else { mass[i - 1].max(mass[i + 1]) };
            let mass = mass[i].max(near.div_ceil(2)) as usize;
            let wanted = (mass * target).div_ceil(sample.len()).max(1);
            let bits = wanted.next_power_of_two().ilog2().min(coarse_shift);
            // A range without mass is one cell: all of its low bits are dropped.
            coarse.push(Coarse::new(cells, coarse_shift - bits));
            cells += 1 << bits;
        }
        Self::new(first << coarse_shift, coarse_shift, &coarse, cells)
    }

    fn new(origin: u64, coarse_shift: u32, coarse: &[Coarse], cells: u32) -> Self {
        let mut table = Box::new([Coarse::new(0, 0); TABLE]);
        table[..coarse.len()].copy_from_slice(coarse);
        Self { origin, coarse_shift, coarse: table, ranges: coarse.len() as u32, cells }
    }

    fn coarse(&self) -> &[Coarse] {
        &self.coarse[..self.ranges as usize]
    }

    /// The most distinct sampled values that share one cell.
    fn max_values_per_cell(&self, sorted: &[u64]) -> usize {
        let (mut largest, mut crowd, mut last) = (0, 0, (u32::MAX, 0));
        for &key in sorted {
            let cell = self.cell(key);
            crowd = match last {
                (c, _) if c != cell => 1,
                (_, k) if k != key => crowd + 1,
                _ => crowd,
            };
            last = (cell, key);
            largest = largest.max(crowd);
        }
        largest
    }

    /// The few integers that define it.
    pub fn parts(&self) -> CellMapParts {
        CellMapParts {
            origin: self.origin,
            coarse_shift: self.coarse_shift,
            shifts: self.coarse().iter().map(|entry| entry.shift().into()).collect(),
        }
    }

    /// Rebuilds a map from its parts. `None` if the parts are not valid.
    pub fn from_parts(parts: &CellMapParts) -> Option<Self> {
        if parts.coarse_shift > 63 || parts.shifts.is_empty() || parts.shifts.len() > TABLE {
            return None;
        }
        // Only the last range may start beyond the largest key.
        let last = u128::from(parts.origin) + ((parts.shifts.len() as u128 - 1) << parts.coarse_shift);
        if last > 1 << u64::BITS {
            return None;
        }
        let mut coarse = Vec::with_capacity(parts.shifts.len());
        let mut cells = 0u32;
        for &shift in &parts.shifts {
            let shift = u32::try_from(shift).ok().filter(|&shift| shift <= parts.coarse_shift)?;
            let bits = parts.coarse_shift - shift;
            coarse.push(Coarse::new(cells, shift));
            cells = cells.checked_add(1u32.checked_shl(bits)?).filter(|&cells| cells < Coarse::MAX_CELLS)?;
        }
        Some(Self::new(parts.origin, parts.coarse_shift, &coarse, cells))
    }

    /// The same cells, `by` keys further up. Where nothing was below the first range, a range of one cell is put there.
    /// `None` where there is no room.
    pub fn moved(&self, by: u64) -> Option<Self> {
        let mut parts = self.parts();
        if parts.origin == 0 && by > 0 {
            parts.origin = by.checked_sub(1 << parts.coarse_shift)?;
            parts.shifts.insert(0, parts.coarse_shift.into());
        } else {
            parts.origin = parts.origin.checked_add(by)?;
        }
        Self::from_parts(&parts)
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.cells as usize
    }

    /// Never: a map has at least one cell.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The cell of a key. Keys below the first range fall into the first cell, keys above the last into the last.
    #[inline(always)]
    pub fn cell(&self, key: u64) -> u32 {
        let (entry, low) = self.locate(key);
        entry.base() + (low >> entry.shift()) as u32
    }

    /// The cell of a key, and how far into the cell the key lies.
    #[inline(always)]
    pub fn cell_and_offset(&self, key: u64) -> (u32, u64) {
        let (entry, low) = self.locate(key);
        (entry.base() + (low >> entry.shift()) as u32, low & ((1 << entry.shift()) - 1))
    }

    #[inline(always)]
    fn locate(&self, key: u64) -> (Coarse, u64) {
        let offset = key.saturating_sub(self.origin);
        let range = (offset >> self.coarse_shift).min(u64::from(self.ranges - 1)) as usize;
        (self.coarse[range % TABLE], offset & ((1 << self.coarse_shift) - 1))
    }

    /// For devices: where the first coarse range starts, how many low bits a coarse range spans, and a word
    /// for each coarse range, its first cell above the number of bits that its cells drop (six bits).
    pub fn table(&self) -> (u64, u32, Vec<u32>) {
        (self.origin, self.coarse_shift, self.coarse().iter().map(|entry| entry.0).collect())
    }

    /// Walks the cells in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyCell> + '_ {
        let last = self.coarse().len() - 1;
        self.coarse().iter().enumerate().flat_map(move |(i, entry)| {
            let end = self.coarse().get(i + 1).map_or(self.cells, |next| next.base());
            // The range above the largest key of 64 bits starts where no key is.
            let below = (i as u64).saturating_mul(1 << self.coarse_shift);
            let lower = self.origin.saturating_add(below);
            // Cells of the two outermost ranges also take what lies beyond them.
            let open = i == last || (i == 0 && self.origin > 0);
            (0..end - entry.base()).map(move |j| KeyCell {
                lower: lower.saturating_add(u64::from(j) << entry.shift()),
                width_bits: if open { None } else { Some(entry.shift()) },
            })
        })
    }
}

/// What a [`CellMap`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellMapParts {
    /// Lower end of the first coarse range.
    pub origin: u64,
    /// Every coarse range spans `2^coarse_shift` keys.
    pub coarse_shift: u32,
    /// Every cell of the `i`-th coarse range spans `2^shifts[i]` keys.
    pub shifts: Vec<u64>,
}

/// One cell of a [`CellMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCell {
    /// The smallest key of the cell (keys below the first cell fall into it too).
    pub lower: u64,
    /// The cell spans `2^width_bits` keys; `None` where it is open to one side.
    pub width_bits: Option<u32>,
}

impl KeyCell {
    /// Whether every key of the cell is the same.
    pub(crate) fn is_single(&self) -> bool {
        self.width_bits == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::{key_f64, key_i64};
    use super::*;

    fn check_monotone(map: &CellMap, mut keys: Vec<u64>) {
        keys.sort_unstable();
        let cells: Vec<_> = map.iter().collect();
        assert_eq!(cells.len(), map.len());
        let mut last = 0;
        for &key in &keys {
            let cell = map.cell(key);
            assert!(cell >= last && (cell as usize) < map.len());
            last = cell;
            if let Some(bits) = cells[cell as usize].width_bits {
                assert!(key >= cells[cell as usize].lower);
                assert!(key - cells[cell as usize].lower < 1 << bits);
                assert_eq!(map.cell_and_offset(key), (cell, key - cells[cell as usize].lower));
            }
        }
    }

    proptest! {
        #[test]
        fn cells_keep_the_order_of_any_keys(
            mut sample in prop::collection::vec(any::<u64>(), 0..300),
            keys in prop::collection::vec(any::<u64>(), 0..300),
            target in 1usize..5000,
        ) {
            let map = CellMap::from_sample(&mut sample, Domain::F64, target);
            check_monotone(&map, [sample, keys, vec![0, u64::MAX]].concat());
            assert_eq!(CellMap::from_parts(&map.parts()), Some(map));
        }

        #[test]
        fn cells_keep_the_order_of_doubles(
            sample in prop::collection::vec(any::<f64>().prop_filter("nan", |x| !x.is_nan()), 1..300),
            target in 1usize..5000,
        ) {
            let mut keys: Vec<u64> = sample.iter().map(|&x| key_f64(x)).collect();
            let map = CellMap::from_sample(&mut keys, Domain::F64, target);
            check_monotone(&map, keys);
        }
    }

    #[test]
    fn cells_around_the_smallest_and_the_largest_key_are_in_order() {
        for domain in [Domain::I64, Domain::U64] {
            for mut sample in [vec![0, u64::MAX], vec![u64::MAX], vec![1 << 63, u64::MAX - 1], vec![0, 1, u64::MAX]] {
                let map = CellMap::from_sample(&mut sample, domain, 64);
                let lowers: Vec<u64> = map.iter().map(|cell| cell.lower).collect();
                assert!(lowers.is_sorted(), "{sample:?}: {lowers:?}");
                assert_eq!(CellMap::from_parts(&map.parts()), Some(map));
            }
        }
    }

    #[test]
    fn parts_that_reach_beyond_the_largest_key_are_refused() {
        let map = CellMap::from_sample(&mut [0, u64::MAX], Domain::U64, 64);
        let parts = map.parts();
        for change in [CellMapParts { origin: 1, ..parts.clone() }, CellMapParts { coarse_shift: 63, ..parts }] {
            assert_eq!(CellMap::from_parts(&change), None);
        }
    }

    #[test]
    fn small_integers_get_a_cell_each() {
        let mut sample: Vec<u64> = (0..100).map(key_i64).collect();
        let map = CellMap::from_sample(&mut sample, Domain::I64, 1024);
        let cells: Vec<_> = map.iter().collect();
        for x in 0..100 {
            assert!(cells[map.cell(key_i64(x)) as usize].is_single(), "{x}");
        }
    }

    #[test]
    fn moved_cells_hold_what_they_held() {
        for first in [0u64, 5, 1 << 20] {
            let mut sample: Vec<u64> = (first..first + 500).collect();
            let map = CellMap::from_sample(&mut sample, Domain::U64, 300);
            let by = 1 << 63;
            let moved = map.moved(by).unwrap();
            let added = (moved.len() - map.len()) as u32;
            let (cells, moved_cells): (Vec<_>, Vec<_>) = (map.iter().collect(), moved.iter().collect());
            for &key in &sample {
                let cell = map.cell(key);
                assert_eq!(moved.cell(key + by), cell + added);
                let (was, is) = (cells[cell as usize], moved_cells[(cell + added) as usize]);
                assert_eq!((was.lower + by, was.width_bits), (is.lower, is.width_bits));
            }
        }
    }

    #[test]
    fn a_far_outlier_does_not_crowd_the_rest_into_one_cell() {
        let mut sample: Vec<u64> = (0..1000).map(key_i64).chain([key_i64(1 << 60)]).collect();
        let map = CellMap::from_sample(&mut sample, Domain::I64, 4096);
        assert!(map.max_values_per_cell(&sample) < 20, "{}", map.max_values_per_cell(&sample));
    }
}
