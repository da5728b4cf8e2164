//! Memory on the device for keys: a bounded number of large buffers, handed out in parts.
//!
//! Keys of many columns lie in one buffer, so that one dispatch can count them all. When there is no room the caller
//! counts on the CPU; no thread waits for memory, so there can be no deadlock.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use range_alloc::RangeAllocator;
use wgpu::{Buffer, BufferDescriptor, BufferUsages};

use super::device::Device;
use crate::count::KeyVec;

/// Key memory of one device.
pub(crate) struct Arena {
    slab_words: u64,
    slabs: Mutex<Vec<Slab>>,
    max_slabs: usize,
    /// Bytes handed to the driver since it was last seen to have sent everything.
    staged: AtomicU64,
}

/// Bytes that the driver may hold in host memory before it has sent them.
const STAGED: u64 = 64 << 20;

struct Slab {
    buffer: Buffer,
    free: RangeAllocator<u64>,
}

/// Keys that lie on the device until this is dropped.
pub(crate) struct Region {
    arena: Arc<Arena>,
    /// Which buffer.
    pub slab: usize,
    /// Words within it.
    pub words: Range<u64>,
    /// Number of keys.
    pub keys: u32,
    /// Sum of all their words, modulo 2^32: what was sent must be what is counted.
    pub checksum: u32,
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut slabs = self.arena.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        slabs[self.slab].free.free_range(self.words.clone());
    }
}

impl Arena {
    /// At most `bytes` of device memory, in buffers as large as the device binds, but no larger than 128 MiB.
    pub fn new(device: &Device, bytes: u64) -> Arc<Self> {
        let limits = &device.limits;
        let largest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(128 << 20);
        let slab_words = (largest.min(bytes) / 4).max(1);
        let max_slabs = (bytes / (slab_words * 4)).max(1) as usize;
        Arc::new(Self { slab_words, slabs: Mutex::new(Vec::new()), max_slabs, staged: AtomicU64::new(0) })
    }

    /// Bytes it may take.
    pub(crate) fn capacity(&self) -> u64 {
        self.slab_words * 4 * self.max_slabs as u64
    }

    /// The buffer of a slab.
    pub fn buffer(&self, slab: usize) -> Buffer {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)[slab].buffer.clone()
    }

    /// Sends keys to the device; they arrive before anything that is submitted later. `None` where there is no
    /// room.
    pub fn upload(self: &Arc<Self>, device: &Device, keys: &KeyVec) -> Option<Region> {
        let bytes: &[u8] = match keys {
            KeyVec::U32(keys) => bytemuck::cast_slice(keys),
            KeyVec::U64(keys) => bytemuck::cast_slice(keys),
        };
        if bytes.is_empty() {
            return None;
        }
        let count = u32::try_from(keys.len()).ok()?;
        let (slab, words, buffer) = self.allocate(device, bytes.len() as u64 / 4)?;
        let sum = |words: &[u32]| words.iter().fold(0u32, |sum, &word| sum.wrapping_add(word));
        let checksum = sum(bytemuck::cast_slice(bytes));
        let region = Region { arena: self.clone(), slab, words, keys: count, checksum };
        device.queue.write_buffer(&buffer, region.words.start * 4, bytes);
        let size = bytes.len() as u64;
        if self.staged.fetch_add(size, Ordering::Relaxed) + size > STAGED {
            // Wait until it is sent, or a long column would gather in host memory first.
            self.staged.store(0, Ordering::Relaxed);
            device.wait(device.queue.submit([])).ok()?;
        }
        Some(region)
    }

    fn allocate(&self, device: &Device, words: u64) -> Option<(usize, Range<u64>, Buffer)> {
        if words > self.slab_words {
            return None;
        }
        let mut slabs = self.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, slab) in slabs.iter_mut().enumerate() {
            if let Ok(range) = slab.free.allocate_range(words) {
                return Some((i, range, slab.buffer.clone()));
            }
        }
        if slabs.len() == self.max_slabs {
            return None;
        }
        let scope = device.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = device.device.create_buffer(&BufferDescriptor {
            label: Some("keys"),
            size: self.slab_words * 4,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if pollster::block_on(scope.pop()).is_some() {
            return None;
        }
        // wgpu zeroes what was never written when it is first bound, and may do so after another thread's keys have
        // gone there. Cleared now, there is nothing left for it to zero.
        let mut encoder = device.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(&buffer, 0, None);
        device.wait(device.queue.submit([encoder.finish()])).ok()?;
        let mut free = RangeAllocator::new(0..self.slab_words);
        let range = free.allocate_range(words).ok()?;
        slabs.push(Slab { buffer: buffer.clone(), free });
        Some((slabs.len() - 1, range, buffer))
    }
}
