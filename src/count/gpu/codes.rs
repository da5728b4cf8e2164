//! Category codes on the device: the same shader, with a division in which every code is a cell.

use super::GpuCounter;
use super::batch::{BatchRequest, KeyTask};
use super::layout::CountJob;
use super::pipeline::Stage;
use crate::count::KeyVec;

/// Codes that one request returns at most.
const MAX_CODES: usize = 1 << 22;

/// How often each code occurs. `None` where there is no room, or no device any more.
///
/// # Errors
/// What went wrong on the device.
pub fn count(gpu: &GpuCounter, codes: &KeyVec, distinct: usize) -> Option<Result<Vec<u64>, String>> {
    if !(1..=MAX_CODES).contains(&distinct) {
        return None;
    }
    let region = gpu.send(codes)?;
    // One coarse range whose cells drop no bits.
    let job = CountJob { ranges: 1, coarse_shift: 31, cells: distinct as u32, ..CountJob::default() };
    let parts = vec![(region.words.start as u32, region.keys)];
    let task = KeyTask { stage: Stage::Count { with_offsets: false }, wide: false, slab: region.slab, parts, job };
    let request = BatchRequest { tables: vec![0], tasks: vec![task], comparison: None, results: distinct as u64 + 1 };
    Some(gpu.run(request).and_then(|mut found| {
        let checksum = found.pop();
        let counts: Vec<u64> = found.into_iter().map(u64::from).collect();
        let all = counts.iter().sum::<u64>() == u64::from(region.keys) && checksum == Some(region.checksum);
        if all { Ok(counts) } else { Err("the device lost count of its codes".into()) }
    }))
}
