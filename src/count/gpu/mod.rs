//! Counting on a GPU, through wgpu and the WGSL of `shaders/`.
//!
//! Keys of a column are sent to the device once and stay there until the comparison is over, so the second pass (the
//! keys of the few cells that decide) needs no second upload. Columns of many features share a dispatch. What comes
//! back are integers, and they are checked: every key must have been counted. After any failure (no room, a lost
//! device, a rejected shader) the CPU does the work, with the same integers.

mod arena;
mod batch;
mod codes;
mod columns;
mod device;
mod layout;
mod pipeline;
mod probe;

pub use device::{ADAPTER_VARIABLE, AdapterDescription, DeviceChoice, adapters, chosen};
pub use layout::{CountComparison, CountJob, TILE, Tile};
pub use pipeline::Stage;
pub use probe::DeviceProbe;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::arena::{Arena, Region};
use self::batch::{BatchRequest, Batches};
use self::columns::GpuColumns;
use self::device::Device;
use self::pipeline::Pipelines;
use super::{BackendSpec, Columns, Counter, Domain, KeySource, KeyVec, Usage, cpu};
use driftsweep_common::error::Result;

/// The backend.
pub static BACKEND: BackendSpec =
    BackendSpec { name: "gpu", open: |choice, memory| Ok(Box::new(GpuCounter::open(choice, memory)?)) };

/// Default device memory for keys.
pub const DEFAULT_MEMORY: u64 = 1 << 30;

/// Threads that hand columns to the device, for each requested worker thread.
const THREADS_EACH: usize = 4;

/// Counts on a GPU.
///
/// ```no_run
/// use driftsweep::{BaselineSource, Comparer, DeviceChoice, GpuCounter, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// // The best device, with at most 1 GiB of its memory for keys.
/// let gpu = GpuCounter::open(&DeviceChoice::default(), 1 << 30)?;
/// let baseline = BaselineSource::open("training.parquet")?;
/// let report = Comparer::new(&baseline, &Snapshot::open("today.parquet")?).run(&gpu)?;
/// # Ok(())
/// # }
/// ```
pub struct GpuCounter {
    device: Device,
    pipelines: Pipelines,
    arena: Arc<Arena>,
    batches: Batches,
    /// Keys counted on the device, keys left to the CPU, bytes sent.
    counted: AtomicU64,
    left: AtomicU64,
    sent: AtomicU64,
}

impl GpuCounter {
    /// Opens a device and reserves at most `memory` bytes of it for keys.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Backend`] where there is no such device.
    pub fn open(choice: &DeviceChoice, memory: u64) -> Result<Self> {
        let device = Device::open(choice)?;
        let (pipelines, arena) = (Pipelines::new(&device), Arena::new(&device, memory));
        Ok(Self {
            device,
            pipelines,
            arena,
            batches: Batches::new(),
            counted: AtomicU64::new(0),
            left: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        })
    }

    /// What it counts on.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.device.adapter
    }

    /// Releases the device at once, as if it were lost; the CPU takes over.
    pub fn lose(&self) {
        self.device.device.destroy();
    }

    fn is_broken(&self) -> bool {
        self.device.failure.get().is_some()
    }

    fn run(&self, request: BatchRequest) -> std::result::Result<Vec<u32>, String> {
        if let Some(reason) = self.device.failure.get() {
            return Err(reason.clone());
        }
        self.batches.run(&self.device, &self.pipelines, &self.arena, request)
    }

    /// Sends keys; `None` where there is no room, or no device any more.
    fn send(&self, keys: &KeyVec) -> Option<Region> {
        let region = if self.is_broken() { None } else { self.arena.upload(&self.device, keys) };
        let bytes = if matches!(keys, KeyVec::U32(_)) { 4 } else { 8 };
        if region.is_some() {
            self.counted.fetch_add(keys.len() as u64, Ordering::Relaxed);
            self.sent.fetch_add(keys.len() as u64 * bytes, Ordering::Relaxed);
        } else {
            self.left.fetch_add(keys.len() as u64, Ordering::Relaxed);
        }
        region
    }

    /// Records a failure, after which the device is not used.
    fn fail(&self, reason: String) {
        let _ = self.device.failure.set(reason);
    }
}

impl Counter for GpuCounter {
    fn name(&self) -> &'static str {
        BACKEND.name
    }

    fn cells(&self, rows: u64, with_offsets: bool) -> usize {
        // As many as a private histogram holds: a division has up to about three times the requested cells.
        let words = self.pipelines.private_words() as usize / if with_offsets { 3 } else { 1 };
        let most = (words / 3).next_power_of_two() / 2;
        ((rows / 32).next_power_of_two() as usize).clamp(256, most.max(256))
    }

    fn threads(&self) -> Option<usize> {
        // Threads that wait for the device cost nothing, and each brings a column to the next dispatch.
        Some(THREADS_EACH * rayon::current_num_threads())
    }

    fn count_codes(&self, codes: Vec<u32>, distinct: usize) -> Vec<u64> {
        let codes = KeyVec::U32(codes);
        match codes::count(self, &codes, distinct) {
            Some(Ok(counts)) => return counts,
            Some(Err(reason)) => self.fail(reason),
            None => {}
        }
        let KeyVec::U32(codes) = codes else { return Vec::new() };
        cpu::count_codes(&codes, distinct)
    }

    fn columns<'a>(&'a self, domain: Domain, sources: Vec<&'a dyn KeySource>) -> Box<dyn Columns + 'a> {
        Box::new(GpuColumns::new(self, domain, sources))
    }

    fn usage(&self) -> Option<Usage> {
        let meter = &self.batches.meter;
        let load = |x: &AtomicU64| x.load(Ordering::Relaxed);
        let nanoseconds = load(&meter.nanoseconds);
        Some(Usage {
            adapter: self.device.adapter.name.clone(),
            driver: self.device.adapter.driver.clone(),
            memory: self.arena.capacity(),
            keys_counted: load(&self.counted),
            keys_left_to_cpu: load(&self.left),
            bytes_sent: load(&self.sent),
            batches: load(&meter.batches),
            requests: load(&meter.requests),
            shader_seconds: (nanoseconds > 0).then_some(nanoseconds as f64 / 1e9),
            failure: self.device.failure.get().cloned(),
        })
    }
}
