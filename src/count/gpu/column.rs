//! One column on the device.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::GpuCounter;
use super::arena::Region;
use super::batch::Request;
use super::layout::Job;
use super::pipeline::Stage;
use crate::count::cells::CellMap;
use crate::count::cpu::CpuColumn;
use crate::count::{CellCounts, CellSet, Collector, ColumnCounter, Domain, KeyRuns, KeySource, KeyVec};
use crate::error::Result;

/// A column, its keys on the device as far as there is room.
pub struct GpuColumn<'a> {
    gpu: &'a GpuCounter,
    wide: bool,
    source: &'a dyn KeySource,
    held: Option<Held>,
}

impl<'a> GpuColumn<'a> {
    /// Nothing sent yet.
    pub fn new(gpu: &'a GpuCounter, domain: Domain, source: &'a dyn KeySource) -> Self {
        Self { gpu, wide: !domain.is_narrow(), source, held: None }
    }
}

struct Held {
    regions: Vec<Region>,
    /// Chunks for which there was no room.
    rest: Vec<usize>,
}

/// Keys that one collection may bring back from the device; more are few steps from all of them.
const RETURNED: u64 = 1 << 22;

/// A division as the shaders read it.
fn division(map: &CellMap, wide: bool) -> (Job, Arc<[u32]>) {
    let (origin, coarse_shift, table) = map.table();
    // One-word keys are shifted by less than 32; only the division of no keys at all is coarser, into one cell.
    let shift = |shift: u32| if wide { shift } else { shift.min(31) };
    let job = Job {
        ranges: table.len() as u32,
        coarse_shift: shift(coarse_shift),
        cells: map.len() as u32,
        origin_low: origin as u32,
        origin_high: (origin >> 32) as u32,
        ..Job::default()
    };
    (job, table.iter().map(|entry| (entry & !63) | shift(entry & 63)).collect())
}

/// What of a column lies in one buffer.
struct Share {
    slab: usize,
    /// First word and number of keys of each part.
    parts: Vec<(u32, u32)>,
    keys: u64,
}

/// Some chunks of a source.
struct Rest<'a> {
    source: &'a dyn KeySource,
    chunks: &'a [usize],
}

impl KeySource for Rest<'_> {
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

impl Held {
    fn shares(&self) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for region in &self.regions {
            let at = shares.iter().position(|share| share.slab == region.slab).unwrap_or_else(|| {
                shares.push(Share { slab: region.slab, parts: Vec::new(), keys: 0 });
                shares.len() - 1
            });
            shares[at].parts.push((region.words.start as u32, region.keys));
            shares[at].keys += u64::from(region.keys);
        }
        shares
    }
}

impl GpuColumn<'_> {
    /// Sends the keys, once.
    fn hold(&mut self) -> Result<&Held> {
        let held = match self.held.take() {
            Some(held) => held,
            None => {
                let (gpu, source) = (self.gpu, self.source);
                let send = |i: usize| -> Result<(Option<Region>, Option<usize>)> {
                    let (mut region, mut left) = (None, None);
                    source.with_chunk(i, &mut |keys| {
                        region = gpu.arena.upload(&gpu.device, keys);
                        let bytes = keys.len() as u64 * if matches!(keys, KeyVec::U32(_)) { 4 } else { 8 };
                        match region {
                            Some(_) => {
                                gpu.counted.fetch_add(keys.len() as u64, Ordering::Relaxed);
                                gpu.sent.fetch_add(bytes, Ordering::Relaxed);
                            }
                            None => {
                                gpu.left.fetch_add(keys.len() as u64, Ordering::Relaxed);
                                left = (!keys.is_empty()).then_some(i);
                            }
                        }
                    })?;
                    Ok((region, left))
                };
                let sent: Vec<_> =
                    (0..source.chunks()).into_par_iter().with_min_len(4).map(send).collect::<Result<_>>()?;
                let (regions, rest): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
                Held { regions: regions.into_iter().flatten().collect(), rest: rest.into_iter().flatten().collect() }
            }
        };
        Ok(self.held.insert(held))
    }

    /// What there was no room for.
    fn rest(&self) -> Rest<'_> {
        Rest { source: self.source, chunks: self.held.as_ref().map_or(&[], |held| &held.rest) }
    }

    /// A request per buffer of keys.
    fn requests(&self, stage: Stage, map: &CellMap, wanted: &[u32], room: u64, results: u64) -> Vec<(Request, u64)> {
        let (job, table) = division(map, self.wide);
        let shares = self.held.as_ref().map(Held::shares).unwrap_or_default();
        let request = |Share { slab, parts, keys }| {
            let job = Job { room: room.min(u64::from(u32::MAX)) as u32, ..job };
            let (table, wanted) = (table.clone(), wanted.to_vec());
            (Request { stage, wide: self.wide, slab, parts, job, table, wanted, results }, keys)
        };
        shares.into_iter().map(request).collect()
    }

    fn count_held(&self, map: &CellMap, with_offsets: bool) -> std::result::Result<CellCounts, String> {
        let cells = map.len();
        let words = cells as u64 * if with_offsets { 3 } else { 1 };
        let (requests, keys): (Vec<_>, Vec<_>) =
            self.requests(Stage::Count { with_offsets }, map, &[], 0, words).into_iter().unzip();
        let mut sum = CellCounts::new(cells, with_offsets);
        for (found, keys) in self.gpu.run(requests)?.into_iter().zip(keys) {
            if found[..cells].iter().map(|&count| u64::from(count)).sum::<u64>() != keys {
                return Err("the device lost count of its keys".into());
            }
            let join = |(&low, &high): (&u32, &u32)| u64::from(low) | u64::from(high) << 32;
            let counts = found[..cells].iter().map(|&count| u64::from(count)).collect();
            let offsets =
                with_offsets.then(|| found[cells..2 * cells].iter().zip(&found[2 * cells..]).map(join).collect());
            sum = sum.merge(CellCounts { counts, offsets });
        }
        Ok(sum)
    }

    fn collect_held(
        &self,
        map: &CellMap,
        cells: &CellSet,
        expected: u64,
        into: &mut Vec<u64>,
    ) -> std::result::Result<(), String> {
        let mut wanted = vec![0u32; map.len().div_ceil(32)];
        cells.iter().for_each(|cell| wanted[cell / 32] |= 1 << (cell % 32));
        let words = if self.wide { 2 } else { 1 };
        let requests = self.requests(Stage::Collect, map, &wanted, expected, 1 + expected * words);
        let requests = requests.into_iter().map(|(request, _)| request).collect();
        for found in self.gpu.run(requests)? {
            let (count, keys) = (found[0] as usize, &found[1..]);
            if count as u64 > expected {
                return Err("the device found keys that are not there".into());
            }
            match self.wide {
                false => into.extend(keys[..count].iter().map(|&key| u64::from(key))),
                true => into.extend(keys[..2 * count].chunks(2).map(|key| u64::from(key[0]) | u64::from(key[1]) << 32)),
            }
        }
        Ok(())
    }
}

impl ColumnCounter for GpuColumn<'_> {
    fn source(&self) -> &dyn KeySource {
        self.source
    }

    fn count(&mut self, map: &CellMap, with_offsets: bool) -> Result<CellCounts> {
        if !self.gpu.is_broken() {
            self.hold()?;
            match self.count_held(map, with_offsets) {
                Ok(counts) => {
                    let rest = CpuColumn { source: &self.rest() }.count(map, with_offsets)?;
                    return Ok(counts.merge(rest));
                }
                Err(reason) => self.gpu.fail(reason),
            }
        }
        CpuColumn { source: self.source }.count(map, with_offsets)
    }

    fn collect(&mut self, map: &CellMap, cells: &CellSet, expected: u64) -> Result<KeyRuns> {
        // A column that is nearly all wanted does not come back through the device.
        let fits = expected < RETURNED;
        if fits && !self.gpu.is_broken() {
            self.hold()?;
            let mut collector = Collector::default();
            match self.collect_held(map, cells, expected, collector.fresh()) {
                Ok(()) => {
                    let rest = CpuColumn { source: &self.rest() }.collect(map, cells, expected)?;
                    let found = collector.finish().merge(rest);
                    if found.counts().iter().sum::<u64>() == expected {
                        return Ok(found);
                    }
                    self.gpu.fail("the device lost some of its keys".into());
                }
                Err(reason) => self.gpu.fail(reason),
            }
        }
        CpuColumn { source: self.source }.collect(map, cells, expected)
    }
}
