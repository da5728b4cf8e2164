//! Two columns counted over common cells; only the cells that decide something are read again.

use std::borrow::Cow;
use std::sync::Arc;

use super::cells::{CellMap, KeyCell};
use super::ecdf::{Ecdf, EcdfPair};
use super::key::{Domain, KeyVec, key_f32};
use super::{CellSet, Columns, CountedColumn, Counter, CpuCounter, KeyRuns, KeySource};
use driftsweep_common::error::Result;

/// The figures that must be exact.
#[derive(Clone, Copy)]
pub struct RequiredFigures<'a> {
    /// Ranks of the baseline whose keys are wanted, given its number of values.
    pub baseline_ranks: &'a (dyn Fn(u64) -> Vec<u64> + Sync),
    /// Ranks of the current side whose keys are wanted, given its number of values.
    pub current_ranks: &'a (dyn Fn(u64) -> Vec<u64> + Sync),
    /// The Kolmogorov-Smirnov distance.
    pub distance: bool,
    /// The Wasserstein distance.
    pub transport: bool,
}

/// The baseline side of a comparison.
#[derive(Clone, Copy)]
pub enum BaselineKeys<'a> {
    /// Its values can be read.
    Source(&'a dyn KeySource, u64),
    /// Only the frozen distribution is available.
    Frozen(&'a Ecdf),
}

/// Counts a baseline alone, with the cells of the wanted ranks resolved: what a baseline file keeps.
///
/// # Errors
/// Any error of reading the column.
pub(crate) fn count_baseline(
    counter: &dyn Counter,
    domain: Domain,
    source: &dyn KeySource,
    rows: u64,
    wanted: RequiredFigures<'_>,
) -> Result<Ecdf> {
    // Cells of a baseline are part of it, so they must not depend on what counts.
    let target = CpuCounter.cells(rows, wanted.transport);
    let mut columns = counter.columns(domain, vec![source]);
    // The same applies to whether the column is kept in memory.
    let mut thorough = rows <= SAMPLED_WHOLE;
    loop {
        let mut sample = sample(source, rows, thorough, FROZEN_SAMPLE)?;
        let map = Arc::new(CellMap::from_sample(&mut sample, domain, target));
        let mut counted = columns.count(&map, wanted.transport, None)?;
        let mut ecdf = ecdf(domain, &map, &map.iter().collect(), counted.swap_remove(0));
        let cells = rank_cells(&ecdf, &(wanted.baseline_ranks)(ecdf.n()));
        if !thorough && is_too_large(&ecdf, &cells) {
            thorough = true;
            continue;
        }
        resolve(&mut *columns, 0, &mut ecdf, &cells)?;
        return Ok(ecdf);
    }
}

/// Counts two columns over the same cells and resolves every cell that the wanted figures depend on.
///
/// Against a frozen baseline the current column is read once; the distances are then as exact as the
/// baseline's cells allow.
///
/// # Errors
/// Any error of reading the columns.
pub fn count_pair<'a>(
    counter: &dyn Counter,
    domain: Domain,
    baseline: BaselineKeys<'a>,
    current: &dyn KeySource,
    current_rows: u64,
    wanted: RequiredFigures<'_>,
) -> Result<(Cow<'a, Ecdf>, Ecdf)> {
    match baseline {
        BaselineKeys::Frozen(frozen) => {
            let mut columns = counter.columns(domain, vec![current]);
            let mut counted = columns.count(frozen.map(), wanted.transport, None)?;
            let mut ecdf = ecdf(domain, frozen.map(), frozen.cells(), counted.swap_remove(0));
            let mut cells = rank_cells(&ecdf, &(wanted.current_ranks)(ecdf.n()));
            for cell in frozen.resolved().0.iter() {
                cells.insert(cell);
            }
            resolve(&mut *columns, 0, &mut ecdf, &cells)?;
            Ok((Cow::Borrowed(frozen), ecdf))
        }
        BaselineKeys::Source(source, rows) => {
            let resident = source.is_resident() && current.is_resident();
            let mut thorough = resident;
            let target = counter.cells(rows.max(current_rows), wanted.transport);
            let mut columns = counter.columns(domain, vec![source, current]);
            loop {
                let mut sample = sample(source, rows, thorough || source.is_resident(), SAMPLE)?;
                sample.extend(self::sample(current, current_rows, thorough || current.is_resident(), SAMPLE)?);
                let map = Arc::new(CellMap::from_sample(&mut sample, domain, target));
                let all = map.iter().collect();
                let mut counted = columns.count(&map, wanted.transport, Some(wanted))?;
                let mut b = ecdf(domain, &map, &all, counted.swap_remove(1));
                let mut a = ecdf(domain, &map, &all, counted.swap_remove(0));
                let cells = pair_cells(&a, &b, wanted);
                if !thorough && (is_too_large(&a, &cells) || is_too_large(&b, &cells)) {
                    // The sample did not show the column as it is (sorted by this very column, say).
                    thorough = true;
                    continue;
                }
                resolve(&mut *columns, 0, &mut a, &cells)?;
                resolve(&mut *columns, 1, &mut b, &cells)?;
                return Ok((Cow::Owned(a), b));
            }
        }
    }
}

/// Every cell whose inside decides one of the wanted figures.
fn pair_cells(a: &Ecdf, b: &Ecdf, wanted: RequiredFigures<'_>) -> CellSet {
    let mut cells = rank_cells(a, &(wanted.baseline_ranks)(a.n()));
    let mut add = |more: CellSet| more.iter().for_each(|cell| cells.insert(cell));
    add(rank_cells(b, &(wanted.current_ranks)(b.n())));
    // Both were counted over one map.
    if let Some(pair) = EcdfPair::new(a, b) {
        if wanted.distance {
            add(pair.distance_candidates());
        }
        if wanted.transport {
            add(pair.transport_candidates());
        }
    }
    cells
}

/// The cells of the given ranks. Where two ranks are neighbours a breakpoint may lie anywhere between
/// their keys, so the cells between theirs are included.
fn rank_cells(ecdf: &Ecdf, ranks: &[u64]) -> CellSet {
    let mut cells = CellSet::new(ecdf.map().len());
    let mut last: Option<(u64, usize)> = None;
    for &rank in ranks {
        let Some(cell) = ecdf.cell_of_rank(rank) else { continue };
        let from = match last {
            Some((previous, at)) if previous + 1 == rank => at,
            _ => cell,
        };
        // A breakpoint is a double. Beyond 2^53 it may round to keys on either side of the ranked one's cell.
        let around = [from, cell].map(|cell| ecdf.rounded_cells(cell));
        (from.min(around[0].0)..=cell.max(around[1].1)).for_each(|cell| cells.insert(cell));
        last = Some((rank, cell));
    }
    cells
}

/// Whether these cells have too many keys for collecting them in a second, small step.
fn is_too_large(ecdf: &Ecdf, cells: &CellSet) -> bool {
    let mass: u64 = cells.iter().filter(|&j| !ecdf.cells()[j].is_single()).map(|j| ecdf.count(j)).sum();
    mass > (ecdf.n() / 4).max(1 << 16)
}

/// A distribution from counts, and from the keys that came with them.
fn ecdf(domain: Domain, map: &Arc<CellMap>, cells: &Arc<[KeyCell]>, counted: CountedColumn) -> Ecdf {
    let mut ecdf = Ecdf::new(domain, map.clone(), cells.clone(), counted.counts);
    if let Some((cells, keys)) = counted.prefetched {
        ecdf.resolve(&cells, keys);
    }
    ecdf
}

/// Resolves the cells of further keys of a single column, whose rank is wanted.
///
/// # Errors
/// Any error of reading the column.
pub(crate) fn resolve_keys(columns: &mut dyn Columns, ecdf: &mut Ecdf, keys: &[u64]) -> Result<()> {
    let mut cells = CellSet::new(ecdf.map().len());
    keys.iter().for_each(|&key| cells.insert(ecdf.map().cell(key) as usize));
    resolve(columns, 0, ecdf, &cells)
}

/// Resolves the cells of further ranks of a single column, whose keys are wanted.
///
/// # Errors
/// Any error of reading the column.
pub(crate) fn resolve_ranks(columns: &mut dyn Columns, ecdf: &mut Ecdf, ranks: &[u64]) -> Result<()> {
    let cells = rank_cells(ecdf, ranks);
    resolve(columns, 0, ecdf, &cells)
}

/// Resolves every cell of a single column, after which [`Ecdf::runs`] knows all distinct keys.
///
/// # Errors
/// Any error of reading the column.
pub(crate) fn resolve_all(columns: &mut dyn Columns, ecdf: &mut Ecdf) -> Result<()> {
    let mut cells = CellSet::new(ecdf.map().len());
    ecdf.occupied().for_each(|cell| cells.insert(cell));
    resolve(columns, 0, ecdf, &cells)
}

/// Resolves cells: reads the keys of those of which anything is unknown.
fn resolve(columns: &mut dyn Columns, column: usize, ecdf: &mut Ecdf, cells: &CellSet) -> Result<()> {
    let map = ecdf.map().clone();
    let mut missing = CellSet::new(map.len());
    cells.iter().filter(|&cell| !ecdf.is_known(cell)).for_each(|cell| missing.insert(cell));
    let expected = missing.iter().map(|cell| ecdf.count(cell)).sum();
    let found = if expected == 0 { KeyRuns::default() } else { columns.collect(column, &map, &missing, expected)? };
    ecdf.resolve(cells, found);
    Ok(())
}

/// Double-precision keys of numbers that are stored with single precision, as the numbers that a frozen baseline has:
/// where one that the baseline has rounds to the same single-precision number, that one is used.
pub(crate) struct SinglePrecisionKeys<'a> {
    source: &'a dyn KeySource,
    /// Known keys of the baseline by the key of their single-precision number, ascending in both.
    known: Vec<(u32, u64)>,
}

impl<'a> SinglePrecisionKeys<'a> {
    /// Keys of a source over [`Domain::F64`].
    pub fn new(baseline: &Ecdf, source: &'a dyn KeySource) -> Self {
        let single = |key: u64| key_f32(Domain::F64.value(key) as f32);
        let mut known: Vec<(u32, u64)> = match baseline.domain {
            Domain::F64 => baseline.known_keys().into_iter().map(|key| (single(key), key)).collect(),
            _ => Vec::new(),
        };
        known.dedup_by_key(|(single, _)| *single);
        Self { source, known }
    }
}

impl KeySource for SinglePrecisionKeys<'_> {
    fn chunks(&self) -> usize {
        self.source.chunks()
    }

    fn is_resident(&self) -> bool {
        self.source.is_resident()
    }

    fn with_chunk(&self, i: usize, f: &mut dyn FnMut(&KeyVec)) -> Result<()> {
        self.source.with_chunk(i, &mut |keys| {
            let KeyVec::U64(keys) = keys else { return f(keys) };
            let snap = |&key: &u64| {
                let single = key_f32(Domain::F64.value(key) as f32);
                self.known.binary_search_by_key(&single, |known| known.0).map_or(key, |at| self.known[at].1)
            };
            f(&KeyVec::U64(keys.iter().map(snap).collect()));
        })
    }
}

/// Keys of a side that decide the cells of a comparison, at most.
const SAMPLE: u64 = 2048;
/// For a frozen baseline, whose cells bound how exact later comparisons are.
const FROZEN_SAMPLE: u64 = 1 << 14;

/// Rows up to which a baseline's sample comes from every chunk, even if that means reading the column once more.
const SAMPLED_WHOLE: u64 = 1 << 23;

/// Evenly spaced keys, of all chunks or of every sixteenth.
fn sample(source: &dyn KeySource, rows: u64, all: bool, most: u64) -> Result<Vec<u64>> {
    let wanted = (rows / 64).clamp(256, most) as usize;
    let chunks = source.chunks();
    let chosen: Vec<usize> = if all {
        (0..chunks).collect()
    } else {
        // The middle one of every sixteen.
        (0..chunks).step_by(16).map(|i| i + 8.min((chunks - i) / 2)).collect()
    };
    let mut keys = Vec::with_capacity(wanted + chosen.len());
    let each = wanted.div_ceil(chosen.len().max(1));
    for i in chosen {
        source.with_chunk(i, &mut |chunk| {
            let step = (chunk.len() / each).max(1);
            keys.extend((0..chunk.len()).step_by(step).map(|i| chunk.get(i)));
        })?;
    }
    Ok(keys)
}
