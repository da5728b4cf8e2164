//! Columns on the device.

use std::sync::Arc;

use rayon::prelude::*;

use super::GpuCounter;
use super::arena::{Arena, Region};
use super::batch::{BatchRequest, KeyTask};
use super::layout::{CountComparison, CountJob, OUTCOME_WORDS};
use super::pipeline::Stage;
use crate::count::cells::CellMap;
use crate::count::cpu::{collect_source, count_source};
use crate::count::pair::RequiredFigures;
use crate::count::{CellCounts, CellSet, Collector, Columns, CountedColumn, Domain, KeyRuns, KeySource, KeyVec};
use driftsweep_common::error::Result;

/// The share of keys that one collection may return from the device; above that the CPU takes all of them.
const MAX_RETURNED_SHARE: u64 = 1 << 22;

/// Keys that a comparison may return in advance: the usual share of keys that decide, plus a margin.
fn prefetch_limit(keys: u64) -> u64 {
    (keys / 16 + 4096).min(keys).min(1 << 20)
}

/// Columns, their keys on the device as far as there is room.
pub(crate) struct GpuColumns<'a> {
    gpu: &'a GpuCounter,
    wide: bool,
    sources: Vec<&'a dyn KeySource>,
    held: Vec<Arc<ResidentColumn>>,
}

/// The part of a column that was sent.
struct ResidentColumn {
    /// The arena of the device.
    arena: Arc<Arena>,
    shares: Vec<BufferShare>,
    /// Keys on the device, and the sum of their words.
    keys: u64,
    checksum: u32,
    /// Chunks for which there was no room.
    rest: Vec<usize>,
}

/// The part of a column in one buffer.
struct BufferShare {
    slab: usize,
    /// First word and number of keys of each part.
    parts: Vec<(u32, u32)>,
    /// Keeps the memory.
    _regions: Vec<Region>,
}

/// Some chunks of a source.
struct RemainingChunks<'a> {
    source: &'a dyn KeySource,
    chunks: &'a [usize],
}

impl KeySource for RemainingChunks<'_> {
    fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn is_resident(&self) -> bool {
        self.source.is_resident()
    }

    fn with_chunk(&self, i: usize, f: &mut dyn FnMut(&KeyVec)) -> Result<()> {
        self.source.with_chunk(self.chunks[i], f)
    }
}

impl ResidentColumn {
    fn of(arena: Arc<Arena>, regions: Vec<Region>, rest: Vec<usize>) -> Self {
        let keys = regions.iter().map(|region| u64::from(region.keys)).sum();
        let checksum = regions.iter().fold(0u32, |sum, region| sum.wrapping_add(region.checksum));
        let mut shares: Vec<BufferShare> = Vec::new();
        for region in regions {
            let at = shares.iter().position(|share| share.slab == region.slab).unwrap_or_else(|| {
                shares.push(BufferShare { slab: region.slab, parts: Vec::new(), _regions: Vec::new() });
                shares.len() - 1
            });
            shares[at].parts.push((region.words.start as u32, region.keys));
            shares[at]._regions.push(region);
        }
        Self { arena, shares, keys, checksum, rest }
    }
}

/// A division as the shaders read it.
fn division(map: &CellMap, wide: bool) -> (CountJob, Vec<u32>) {
    let (origin, coarse_shift, table) = map.table();
    // One-word keys are shifted by less than 32; only the division of no keys at all is coarser, into one cell.
    let shift = |shift: u32| if wide { shift } else { shift.min(31) };
    let job = CountJob {
        ranges: table.len() as u32,
        coarse_shift: shift(coarse_shift),
        cells: map.len() as u32,
        origin_low: origin as u32,
        origin_high: (origin >> 32) as u32,
        ..CountJob::default()
    };
    (job, table.iter().map(|entry| (entry & !63) | shift(entry & 63)).collect())
}

/// A set of cells, one bit each.
fn bits(cells: usize, set: impl Iterator<Item = usize>) -> Vec<u32> {
    let mut words = vec![0; cells.div_ceil(32)];
    set.for_each(|cell| words[cell / 32] |= 1 << (cell % 32));
    words
}

impl<'a> GpuColumns<'a> {
    /// Nothing sent yet.
    pub fn new(gpu: &'a GpuCounter, domain: Domain, sources: Vec<&'a dyn KeySource>) -> Self {
        Self { gpu, wide: !domain.is_narrow(), sources, held: Vec::new() }
    }

    /// Sends the keys of all columns that are not on the device yet.
    fn hold(&mut self) -> Result<()> {
        while let Some(&source) = self.sources.get(self.held.len()) {
            let kept = source.keep().and_then(|kept| kept.get()?.clone().downcast::<ResidentColumn>().ok());
            let held = match kept.filter(|held| Arc::ptr_eq(&held.arena, &self.gpu.arena)) {
                Some(held) => held,
                None => {
                    let held = Arc::new(self.send_all(source)?);
                    if let Some(kept) = source.keep() {
                        let _ = kept.set(held.clone());
                    }
                    held
                }
            };
            self.held.push(held);
        }
        Ok(())
    }

    fn send_all(&self, source: &dyn KeySource) -> Result<ResidentColumn> {
        let send = |i: usize| {
            let mut sent = (None, None);
            source.with_chunk(i, &mut |keys| sent = self.send(i, keys))?;
            Ok(sent)
        };
        let sent: Vec<_> = (0..source.chunks()).into_par_iter().with_min_len(4).map(send).collect::<Result<_>>()?;
        let (mut regions, mut rest, mut keys) = (Vec::new(), Vec::new(), 0u32);
        for (i, (region, left)) in sent.into_iter().enumerate() {
            rest.extend(left);
            let Some(region) = region else { continue };
            // A cell is counted in one word, so that is as many keys as a column may have on the device.
            match keys.checked_add(region.keys) {
                Some(sum) => {
                    keys = sum;
                    regions.push(region);
                }
                None => rest.push(i),
            }
        }
        Ok(ResidentColumn::of(self.gpu.arena.clone(), regions, rest))
    }

    /// Sends a chunk; returns its region, or its number if there was no room.
    fn send(&self, i: usize, keys: &KeyVec) -> (Option<Region>, Option<usize>) {
        let region = self.gpu.send(keys);
        let left = (region.is_none() && !keys.is_empty()).then_some(i);
        (region, left)
    }

    /// One task for each buffer that holds keys of a column.
    fn tasks(&self, column: usize, stage: Stage, job: CountJob) -> impl Iterator<Item = KeyTask> + '_ {
        let task = move |share: &BufferShare| KeyTask {
            stage,
            wide: self.wide,
            slab: share.slab,
            parts: share.parts.clone(),
            job,
        };
        self.held[column].shares.iter().map(task)
    }

    fn key_words(&self) -> u64 {
        if self.wide { 2 } else { 1 }
    }

    /// The first keys of a collection's results: how many were found, then the keys.
    fn keys(&self, found: &[u32]) -> Vec<u64> {
        let (count, words) = (found[0] as usize, self.key_words() as usize);
        let keys = found[1..=count * words].chunks(words);
        keys.map(|key| key.iter().rev().fold(0, |key, &word| key << 32 | u64::from(word))).collect()
    }

    /// The cells to prefetch, if both columns are on the device.
    fn prefetching<'w>(&self, wanted: Option<RequiredFigures<'w>>) -> Option<(RequiredFigures<'w>, u64, u64)> {
        let [a, b] = &self.held[..] else { return None };
        let whole = a.rest.is_empty() && b.rest.is_empty();
        let countable = [a.keys, b.keys].iter().all(|keys| (1..1 << 31).contains(keys));
        wanted.filter(|_| whole && countable).map(|wanted| (wanted, a.keys, b.keys))
    }

    fn count_held(
        &self,
        map: &CellMap,
        with_offsets: bool,
        wanted: Option<RequiredFigures<'_>>,
    ) -> std::result::Result<Vec<CountedColumn>, String> {
        let cells = map.len();
        // Counts, offsets in two words, and the checksum.
        let words = cells * if with_offsets { 3 } else { 1 } + 1;
        let (job, tables) = division(map, self.wide);
        let mut request = BatchRequest { tables, ..BatchRequest::default() };
        for column in 0..self.held.len() {
            let job = CountJob { results: (column * words) as u32, ..job };
            request.tasks.extend(self.tasks(column, Stage::Count { with_offsets }, job));
        }
        request.results = (self.held.len() * words) as u64;
        let prefetching = self.prefetching(wanted);
        let outcome = request.results as usize;
        if let Some((wanted, n, m)) = prefetching {
            let mut table = |words: Vec<u32>| {
                let at = request.tables.len() as u32;
                request.tables.extend(words);
                at
            };
            let ranks = |ranks: Vec<u64>| -> Vec<u32> { ranks.into_iter().map(|rank| rank as u32).collect() };
            let (ranks_a, ranks_b) = (ranks((wanted.baseline_ranks)(n)), ranks((wanted.current_ranks)(m)));
            let inside = map.iter().enumerate().filter(|(_, cell)| !cell.is_single()).map(|(i, _)| i);
            request.comparison = Some(CountComparison {
                counts_a: 0,
                counts_b: words as u32,
                cells: cells as u32,
                n: n as u32,
                m: m as u32,
                ranks_a_count: ranks_a.len() as u32,
                ranks_b_count: ranks_b.len() as u32,
                ranks_a: table(ranks_a),
                ranks_b: table(ranks_b),
                inside: table(bits(cells, inside)),
                distance: wanted.distance.into(),
                transport: wanted.transport.into(),
                outcome: outcome as u32,
                padding: [0; 3],
            });
            request.results += OUTCOME_WORDS + cells.div_ceil(32) as u64;
            for (column, keys) in [n, m].into_iter().enumerate() {
                let job = CountJob {
                    results: request.results as u32,
                    wanted: outcome as u32 + OUTCOME_WORDS as u32,
                    decided: 1,
                    room: prefetch_limit(keys) as u32,
                    ..job
                };
                request.tasks.extend(self.tasks(column, Stage::Collect, job));
                request.results += 1 + prefetch_limit(keys) * self.key_words();
            }
        }
        if request.tasks.is_empty() {
            let none = || CountedColumn { counts: CellCounts::new(cells, with_offsets), prefetched: None };
            return Ok(self.held.iter().map(|_| none()).collect());
        }
        let found = self.gpu.run(request)?;

        let mut counted = Vec::with_capacity(self.held.len());
        for (column, held) in self.held.iter().enumerate() {
            let found = &found[column * words..(column + 1) * words];
            let (&checksum, found) = found.split_last().unwrap_or((&0, &[]));
            if checksum != held.checksum {
                return Err("the device did not count the keys that were sent".into());
            }
            let counts: Vec<u64> = found[..cells].iter().map(|&count| count.into()).collect();
            if counts.iter().sum::<u64>() != held.keys {
                return Err("the device lost count of its keys".into());
            }
            let join = |(&low, &high): (&u32, &u32)| u64::from(low) | u64::from(high) << 32;
            let offsets =
                with_offsets.then(|| found[cells..2 * cells].iter().zip(&found[2 * cells..]).map(join).collect());
            counted.push(CountedColumn { counts: CellCounts { counts, offsets }, prefetched: None });
        }
        if let Some((_, n, m)) = prefetching {
            let set = self.outcome(&found[outcome..], &counted, n, m)?;
            let mut at = outcome + OUTCOME_WORDS as usize + cells.div_ceil(32);
            for (counted, keys) in counted.iter_mut().zip([n, m]) {
                let expected: u64 = set.iter().map(|cell| counted.counts.counts[cell]).sum();
                if u64::from(found[at]) != expected {
                    return Err("the device found other keys than it counted".into());
                }
                // Keys beyond the available room are requested again.
                if expected <= prefetch_limit(keys) {
                    let mut collector = Collector::default();
                    *collector.buffer() = self.keys(&found[at..]);
                    counted.prefetched = Some((set.clone(), collector.finish()));
                }
                at += 1 + (prefetch_limit(keys) * self.key_words()) as usize;
            }
        }
        Ok(counted)
    }

    /// The cells that a comparison chose; its distance is checked against one computed here.
    fn outcome(
        &self,
        found: &[u32],
        counted: &[CountedColumn],
        n: u64,
        m: u64,
    ) -> std::result::Result<CellSet, String> {
        let (mut gap, mut largest, mut at) = (0i128, 0u128, 0);
        let pairs = counted[0].counts.counts.iter().zip(&counted[1].counts.counts);
        for (cell, (&a, &b)) in pairs.enumerate() {
            gap += i128::from(a) * i128::from(m) - i128::from(b) * i128::from(n);
            if gap.unsigned_abs() > largest {
                (largest, at) = (gap.unsigned_abs(), cell);
            }
        }
        let from_device = (u128::from(found[0]) | u128::from(found[1]) << 32, found[2] as usize);
        if from_device != (largest, at) {
            return Err(format!("the device found the distance {from_device:?}, which is {:?}", (largest, at)));
        }
        let cells = counted[0].counts.counts.len();
        let mut set = CellSet::new(cells);
        let bits = &found[OUTCOME_WORDS as usize..];
        (0..cells).filter(|cell| bits[cell / 32] >> (cell % 32) & 1 != 0).for_each(|cell| set.insert(cell));
        Ok(set)
    }

    fn collect_held(
        &self,
        column: usize,
        map: &CellMap,
        cells: &CellSet,
        expected: u64,
    ) -> std::result::Result<Vec<u64>, String> {
        let (job, mut tables) = division(map, self.wide);
        let job = CountJob { wanted: tables.len() as u32, room: expected as u32, ..job };
        tables.extend(bits(map.len(), cells.iter()));
        let tasks: Vec<KeyTask> = self.tasks(column, Stage::Collect, job).collect();
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let results = 1 + expected * self.key_words();
        let found = self.gpu.run(BatchRequest { tables, tasks, comparison: None, results })?;
        if u64::from(found[0]) > expected {
            return Err("the device found keys that are not there".into());
        }
        Ok(self.keys(&found))
    }

    /// Adds the counts of what is not on the device; or why the device has failed.
    fn add_rest(
        &self,
        counted: &mut [CountedColumn],
        map: &CellMap,
        with_offsets: bool,
    ) -> Result<std::result::Result<(), String>> {
        for (column, counted) in counted.iter_mut().enumerate() {
            let Some(rest) = self.rest(column) else { continue };
            let rest = count_source(&rest, map, with_offsets)?;
            match rest.merge(std::mem::take(&mut counted.counts)) {
                Ok(sum) => counted.counts = sum,
                Err(e) => return Ok(Err(e.to_string())),
            }
        }
        Ok(Ok(()))
    }

    /// The part of a column that is not on the device.
    fn rest(&self, column: usize) -> Option<RemainingChunks<'_>> {
        let chunks = &self.held[column].rest;
        (!chunks.is_empty()).then(|| RemainingChunks { source: self.sources[column], chunks })
    }
}

impl Columns for GpuColumns<'_> {
    fn sources(&self) -> &[&dyn KeySource] {
        &self.sources
    }

    fn count(
        &mut self,
        map: &CellMap,
        with_offsets: bool,
        wanted: Option<RequiredFigures<'_>>,
    ) -> Result<Vec<CountedColumn>> {
        if !self.gpu.is_broken() {
            self.hold()?;
            match self.count_held(map, with_offsets, wanted) {
                Ok(mut counted) => match self.add_rest(&mut counted, map, with_offsets)? {
                    Ok(()) => return Ok(counted),
                    Err(reason) => self.gpu.fail(reason),
                },
                Err(reason) => self.gpu.fail(reason),
            }
        }
        let count = |source: &&dyn KeySource| {
            Ok(CountedColumn { counts: count_source(*source, map, with_offsets)?, prefetched: None })
        };
        self.sources.iter().map(count).collect()
    }

    fn collect(&mut self, column: usize, map: &CellMap, cells: &CellSet, expected: u64) -> Result<KeyRuns> {
        // A column of which nearly all keys are wanted is read by the CPU.
        if expected <= MAX_RETURNED_SHARE && !self.gpu.is_broken() {
            self.hold()?;
            match self.collect_held(column, map, cells, expected) {
                Ok(keys) => {
                    let mut collector = Collector::default();
                    *collector.buffer() = keys;
                    let mut found = collector.finish();
                    if let Some(rest) = self.rest(column) {
                        found = found.merge(collect_source(&rest, map, cells)?);
                    }
                    if found.counts().iter().sum::<u64>() == expected {
                        return Ok(found);
                    }
                    self.gpu.fail("the device lost some of its keys".into());
                }
                Err(reason) => self.gpu.fail(reason),
            }
        }
        collect_source(self.sources[column], map, cells)
    }
}
