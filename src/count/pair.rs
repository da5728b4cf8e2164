//! Two columns counted over common cells, and only the cells that decide something looked at again.

use std::borrow::Cow;
use std::sync::Arc;

use super::cells::CellMap;
use super::ecdf::{Ecdf, EcdfPair};
use super::key::Domain;
use super::{CellCounts, CellSet, Collector, Counter, KeySource, fold_chunks};
use crate::error::Result;

/// What has to be exact.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
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
pub enum Baseline<'a> {
    /// Its values can be read.
    Source(&'a dyn KeySource, u64),
    /// Only what was frozen is left.
    Frozen(&'a Ecdf),
}

/// Counts a baseline alone, with the cells of the wanted ranks resolved: what a baseline file keeps.
///
/// # Errors
/// Whatever reading the column gives.
pub fn count_baseline(
    counter: &dyn Counter,
    domain: Domain,
    source: &dyn KeySource,
    rows: u64,
    wanted: Wanted<'_>,
) -> Result<Ecdf> {
    let mut sample = sample(source, rows, false, FROZEN_SAMPLE)?;
    let mut ecdf = count(counter, domain, source, &mut sample, rows, wanted.transport)?;
    let mut cells = rank_cells(&ecdf, &(wanted.baseline_ranks)(ecdf.n()));
    if crowded(&ecdf, &cells) && !source.is_resident() {
        let mut sample = self::sample(source, rows, true, FROZEN_SAMPLE)?;
        ecdf = count(counter, domain, source, &mut sample, rows, wanted.transport)?;
        cells = rank_cells(&ecdf, &(wanted.baseline_ranks)(ecdf.n()));
    }
    resolve(counter, &mut ecdf, source, &cells)?;
    Ok(ecdf)
}

/// Counts two columns over the same cells and resolves every cell that the wanted figures depend on.
///
/// Against a frozen baseline the current column is read once; the distances are then as exact as the
/// baseline's cells allow.
///
/// # Errors
/// Whatever reading the columns gives.
pub fn count_pair<'a>(
    counter: &dyn Counter,
    domain: Domain,
    baseline: Baseline<'a>,
    current: &dyn KeySource,
    current_rows: u64,
    wanted: Wanted<'_>,
) -> Result<(Cow<'a, Ecdf>, Ecdf)> {
    match baseline {
        Baseline::Frozen(frozen) => {
            let counts = count_cells(counter, frozen.map(), current, wanted.transport)?;
            let mut ecdf = Ecdf::new(domain, frozen.map().clone(), frozen.cells().clone(), counts);
            let mut cells = rank_cells(&ecdf, &(wanted.current_ranks)(ecdf.n()));
            for cell in frozen.resolved().0.iter() {
                cells.insert(cell);
            }
            resolve(counter, &mut ecdf, current, &cells)?;
            Ok((Cow::Borrowed(frozen), ecdf))
        }
        Baseline::Source(source, rows) => {
            let resident = source.is_resident() && current.is_resident();
            let mut thorough = resident;
            loop {
                let most = rows.max(current_rows);
                let mut sample = sample(source, rows, thorough, SAMPLE)?;
                sample.extend(self::sample(current, current_rows, thorough, SAMPLE)?);
                let mut a = count(counter, domain, source, &mut sample, most, wanted.transport)?;
                let counts = count_cells(counter, a.map(), current, wanted.transport)?;
                let mut b = Ecdf::new(domain, a.map().clone(), a.cells().clone(), counts);
                let cells = pair_cells(&a, &b, wanted);
                if !thorough && (crowded(&a, &cells) || crowded(&b, &cells)) {
                    // The sample did not show the column as it is (sorted by this very column, say).
                    thorough = true;
                    continue;
                }
                resolve(counter, &mut a, source, &cells)?;
                resolve(counter, &mut b, current, &cells)?;
                return Ok((Cow::Owned(a), b));
            }
        }
    }
}

/// Every cell whose inside decides one of the wanted figures.
fn pair_cells(a: &Ecdf, b: &Ecdf, wanted: Wanted<'_>) -> CellSet {
    let mut cells = rank_cells(a, &(wanted.baseline_ranks)(a.n()));
    let pair = EcdfPair::new(a, b);
    let mut add = |more: CellSet| more.iter().for_each(|cell| cells.insert(cell));
    add(rank_cells(b, &(wanted.current_ranks)(b.n())));
    if wanted.distance {
        add(pair.distance_candidates());
    }
    if wanted.transport {
        add(pair.transport_candidates());
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

/// Whether so many keys lie in these cells that collecting them would not be a second, small step.
fn crowded(ecdf: &Ecdf, cells: &CellSet) -> bool {
    let mass: u64 = cells.iter().filter(|&j| !ecdf.cells()[j].is_single()).map(|j| ecdf.count(j)).sum();
    mass > (ecdf.n() / 4).max(1 << 16)
}

fn count(
    counter: &dyn Counter,
    domain: Domain,
    source: &dyn KeySource,
    sample: &mut [u64],
    rows: u64,
    with_offsets: bool,
) -> Result<Ecdf> {
    // Fine enough that few keys share a cell with anything that decides; coarse enough that the tables stay in
    // the second-level cache, unless the column is so long that decoding it again is what costs.
    let most = if rows > 1 << 21 { 1 << 16 } else { 1 << 15 };
    let target = (rows / 32).next_power_of_two().clamp(256, most) as usize;
    let map = Arc::new(CellMap::from_sample(sample, domain, target));
    let counts = count_cells(counter, &map, source, with_offsets)?;
    let cells = map.iter().collect();
    Ok(Ecdf::new(domain, map, cells, counts))
}

fn count_cells(counter: &dyn Counter, map: &CellMap, source: &dyn KeySource, with_offsets: bool) -> Result<CellCounts> {
    fold_chunks(
        source,
        || CellCounts::new(map.len(), with_offsets),
        |counts, keys| counter.count(map, keys, counts),
        CellCounts::merge,
    )
}

/// Resolves the cells of further keys, whose rank is wanted.
///
/// # Errors
/// Whatever reading the column gives.
pub fn resolve_keys(counter: &dyn Counter, ecdf: &mut Ecdf, source: &dyn KeySource, keys: &[u64]) -> Result<()> {
    let mut cells = CellSet::new(ecdf.map().len());
    keys.iter().for_each(|&key| cells.insert(ecdf.map().cell(key) as usize));
    resolve(counter, ecdf, source, &cells)
}

/// Resolves the cells of further ranks, whose keys are wanted.
///
/// # Errors
/// Whatever reading the column gives.
pub fn resolve_ranks(counter: &dyn Counter, ecdf: &mut Ecdf, source: &dyn KeySource, ranks: &[u64]) -> Result<()> {
    let cells = rank_cells(ecdf, ranks);
    resolve(counter, ecdf, source, &cells)
}

/// Resolves every cell, after which [`Ecdf::runs`] knows all distinct keys.
///
/// # Errors
/// Whatever reading the column gives.
pub fn resolve_all(counter: &dyn Counter, ecdf: &mut Ecdf, source: &dyn KeySource) -> Result<()> {
    let mut cells = CellSet::new(ecdf.map().len());
    ecdf.occupied().for_each(|cell| cells.insert(cell));
    resolve(counter, ecdf, source, &cells)
}

/// Resolves cells: reads the keys of those of which anything is unknown.
fn resolve(counter: &dyn Counter, ecdf: &mut Ecdf, source: &dyn KeySource, cells: &CellSet) -> Result<()> {
    let map = ecdf.map().clone();
    let mut missing = CellSet::new(map.len());
    cells.iter().filter(|&cell| !ecdf.is_known(cell)).for_each(|cell| missing.insert(cell));
    let found = if missing.is_empty() {
        Collector::default()
    } else {
        fold_chunks(
            source,
            Collector::default,
            |collector, keys| {
                counter.collect(&map, &missing, keys, collector.fresh());
                collector.settle();
            },
            Collector::merge,
        )?
    };
    ecdf.resolve(cells, found.finish());
    Ok(())
}

/// Keys of a side that decide the cells of a comparison, at most.
const SAMPLE: u64 = 2048;
/// For a frozen baseline, whose cells bound how exact later comparisons are.
const FROZEN_SAMPLE: u64 = 1 << 14;

/// Evenly spaced keys: of all chunks where that is cheap or `thorough`, else of every sixteenth.
fn sample(source: &dyn KeySource, rows: u64, thorough: bool, most: u64) -> Result<Vec<u64>> {
    let wanted = (rows / 64).clamp(256, most) as usize;
    let chunks = source.chunks();
    let chosen: Vec<usize> = if thorough || source.is_resident() {
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
