//! Counting on the CPU.
//!
//! These loops are the simple form: one pass, one cell per key. Every other backend must give the same results.

use super::cells::CellMap;
use super::key::{Domain, Key, KeyVec};
use super::pair::RequiredFigures;
use super::{
    BackendSpec, CellCounts, CellSet, Collector, Columns, CountedColumn, Counter, KeyRuns, KeySource, fold_chunks,
};
use driftsweep_common::error::Result;

/// The backend.
pub static BACKEND: BackendSpec = BackendSpec { name: "cpu", open: |_, _| Ok(Box::new(CpuCounter)) };

/// Counts on the threads of the pool, over columns and chunks.
///
/// ```
/// use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/weather-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/weather-2013-07.parquet")?;
/// let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
/// let all = Comparer::new(&baseline, &current).run(&CpuCounter)?;
/// let alone = one_thread.install(|| Comparer::new(&baseline, &current).run(&CpuCounter))?;
/// assert_eq!(all.counts_hash, alone.counts_hash);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuCounter;

impl Counter for CpuCounter {
    fn name(&self) -> &'static str {
        BACKEND.name
    }

    fn cells(&self, rows: u64, _with_offsets: bool) -> usize {
        // Fine enough that few keys share a cell with anything that decides; coarse enough that the tables stay in
        // the second-level cache, unless the column is so long that decoding it again is what costs.
        let most = if rows > 1 << 21 { 1 << 16 } else { 1 << 15 };
        (rows / 32).next_power_of_two().clamp(256, most) as usize
    }

    fn columns<'a>(&'a self, _domain: Domain, sources: Vec<&'a dyn KeySource>) -> Box<dyn Columns + 'a> {
        Box::new(CpuColumns(sources))
    }
}

/// Columns that are counted one by one.
struct CpuColumns<'a>(Vec<&'a dyn KeySource>);

impl Columns for CpuColumns<'_> {
    fn sources(&self) -> &[&dyn KeySource] {
        &self.0
    }

    fn count(
        &mut self,
        map: &CellMap,
        with_offsets: bool,
        _wanted: Option<RequiredFigures<'_>>,
    ) -> Result<Vec<CountedColumn>> {
        let count = |source: &&dyn KeySource| {
            Ok(CountedColumn { counts: count_source(*source, map, with_offsets)?, prefetched: None })
        };
        self.0.iter().map(count).collect()
    }

    fn collect(&mut self, column: usize, map: &CellMap, cells: &CellSet, _expected: u64) -> Result<KeyRuns> {
        collect_source(self.0[column], map, cells)
    }
}

/// Counts all keys of a column.
///
/// # Errors
/// Any error of reading it.
pub(crate) fn count_source(source: &dyn KeySource, map: &CellMap, with_offsets: bool) -> Result<CellCounts> {
    fold_chunks(
        source,
        || CellCounts::new(map.len(), with_offsets),
        |counts, keys| count(map, keys, counts),
        CellCounts::merge,
    )
}

/// The keys of a column that lie in the given cells.
///
/// # Errors
/// Any error of reading it.
pub(crate) fn collect_source(source: &dyn KeySource, map: &CellMap, cells: &CellSet) -> Result<KeyRuns> {
    let found = fold_chunks(
        source,
        Collector::default,
        |collector, keys| {
            collect(map, cells, keys, collector.buffer());
            collector.settle();
        },
        |one, other| Ok(one.merge(other)),
    )?;
    Ok(found.finish())
}

/// How often each of this number of codes occurs.
pub fn count_codes(codes: &[u32], distinct: usize) -> Vec<u64> {
    let mut counts = vec![0; distinct];
    for &code in codes {
        counts[code as usize] += 1;
    }
    counts
}

/// Adds the keys to the counts of their cells (and, if requested, their offsets within the cells).
pub fn count(map: &CellMap, keys: &KeyVec, into: &mut CellCounts) {
    match keys {
        KeyVec::U32(keys) => count_each(map, keys, into),
        KeyVec::U64(keys) => count_each(map, keys, into),
    }
}

/// Appends the keys that lie in the given cells, in no particular order.
pub fn collect(map: &CellMap, cells: &CellSet, keys: &KeyVec, into: &mut Vec<u64>) {
    match keys {
        KeyVec::U32(keys) => collect_each(map, cells, keys, into),
        KeyVec::U64(keys) => collect_each(map, cells, keys, into),
    }
}

/// Keys handled at a time: their cells stay in the first-level cache between the small loops.
const BLOCK: usize = 1024;

/// The cells of a block of keys. Straight-line integer code without a branch, compiled once for every vector
/// unit and chosen when it runs.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2", "x86_64+avx2+bmi1+bmi2"))]
fn cells_of<K: Key>(map: &CellMap, keys: &[K], cells: &mut [u32; BLOCK]) {
    for (cell, &key) in cells.iter_mut().zip(keys) {
        *cell = map.cell(key.into());
    }
}

/// The cells of a block of keys, and how far into its cell each key lies.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+bmi1+bmi2", "x86_64+avx2+bmi1+bmi2"))]
fn places_of<K: Key>(map: &CellMap, keys: &[K], cells: &mut [u32; BLOCK], offsets: &mut [u64; BLOCK]) {
    for ((cell, offset), &key) in cells.iter_mut().zip(offsets).zip(keys) {
        (*cell, *offset) = map.cell_and_offset(key.into());
    }
}

fn count_each<K: Key>(map: &CellMap, keys: &[K], into: &mut CellCounts) {
    let CellCounts { counts, offsets } = into;
    // The increments depend on each other and stay scalar, so they get loops of their own.
    let mut cells = [0u32; BLOCK];
    match offsets {
        None => {
            for block in keys.chunks(BLOCK) {
                cells_of(map, block, &mut cells);
                for &cell in &cells[..block.len()] {
                    counts[cell as usize] += 1;
                }
            }
        }
        Some(sums) => {
            let mut offsets = [0u64; BLOCK];
            for block in keys.chunks(BLOCK) {
                places_of(map, block, &mut cells, &mut offsets);
                for (&cell, &offset) in cells[..block.len()].iter().zip(&offsets) {
                    counts[cell as usize] += 1;
                    // Wraps only in cells that are resolved before the sum is used.
                    let sum = &mut sums[cell as usize];
                    *sum = sum.wrapping_add(offset);
                }
            }
        }
    }
}

fn collect_each<K: Key>(map: &CellMap, wanted: &CellSet, keys: &[K], into: &mut Vec<u64>) {
    let mut cells = [0u32; BLOCK];
    let mut found = [0u64; BLOCK];
    for block in keys.chunks(BLOCK) {
        cells_of(map, block, &mut cells);
        // Branch-free: every key is written, and only the wanted ones advance the end.
        let mut n = 0;
        for (&key, &cell) in block.iter().zip(&cells) {
            found[n] = key.into();
            n += usize::from(wanted.contains(cell));
        }
        into.extend_from_slice(&found[..n]);
    }
}
