//! Many columns in one dispatch.
//!
//! Threads hand in requests and wait. Whoever finds a free lane takes all that wait, sends them to the device
//! together, and hands out the results; meanwhile further requests gather for the next lane. So the slower the
//! device answers, the more columns share a dispatch, and uploads, counting and decoding overlap.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use wgpu::{
    BindGroupDescriptor, BindGroupEntry, Buffer, BufferBinding, BufferDescriptor, BufferUsages, CommandEncoder,
    ComputePassDescriptor, ComputePassTimestampWrites, MapMode, PollType, QuerySet, QuerySetDescriptor, QueryType,
};

use super::arena::Arena;
use super::device::Device;
use super::layout::{Job, TILE, Tile};
use super::pipeline::{Pipelines, Stage};

/// Batches under way at a time.
const LANES: usize = 3;

/// How long a batch may take before the device counts as hung.
const PATIENCE: Duration = Duration::from_secs(300);

/// Words that one batch may return, unless a single request needs more.
const BATCH_WORDS: u64 = 16 << 20;

/// What one column asks of the device.
pub struct Request {
    /// What to do.
    pub stage: Stage,
    /// Whether keys are two words.
    pub wide: bool,
    /// The buffer its keys lie in.
    pub slab: usize,
    /// Where: first word and number of keys of each part.
    pub parts: Vec<(u32, u32)>,
    /// The division, its offsets still to be filled in.
    pub job: Job,
    /// The division's table.
    pub table: Arc<[u32]>,
    /// The set of wanted cells, when collecting.
    pub wanted: Vec<u32>,
    /// Words of its results.
    pub results: u64,
}

/// What the device was used for.
#[derive(Debug, Default)]
pub struct Meter {
    /// Submissions.
    pub batches: AtomicU64,
    /// Requests in them.
    pub requests: AtomicU64,
    /// Time the device spent in shaders, where it measures that.
    pub nanoseconds: AtomicU64,
}

/// Buffers of a batch, kept for the next one.
#[derive(Default)]
struct Lane {
    tables: Option<Buffer>,
    jobs: Option<Buffer>,
    tiles: Option<Buffer>,
    results: Option<Buffer>,
    readback: Option<Buffer>,
    timer: Option<(QuerySet, Buffer)>,
}

struct State {
    waiting: Vec<(u64, Request)>,
    finished: HashMap<u64, Result<Vec<u32>, String>>,
    lanes: Vec<Lane>,
    next: u64,
}

/// Gathers requests into batches.
pub struct Batches {
    state: Mutex<State>,
    changed: Condvar,
    /// What was done.
    pub meter: Meter,
}

impl Batches {
    /// Nothing under way.
    pub fn new() -> Self {
        let lanes = (0..LANES).map(|_| Lane::default()).collect();
        let state = State { waiting: Vec::new(), finished: HashMap::new(), lanes, next: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), meter: Meter::default() }
    }

    /// Has requests carried out, together with whatever else waits; their results, in order.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn run(
        &self,
        device: &Device,
        pipelines: &Pipelines,
        arena: &Arena,
        requests: Vec<Request>,
    ) -> Result<Vec<Vec<u32>>, String> {
        let mut state = self.lock();
        let ids: Vec<u64> = (state.next..).take(requests.len()).collect();
        state.next += requests.len() as u64;
        state.waiting.extend(ids.iter().copied().zip(requests));
        loop {
            if ids.iter().all(|id| state.finished.contains_key(id)) {
                return ids.iter().filter_map(|id| state.finished.remove(id)).collect();
            }
            if state.waiting.is_empty() || state.lanes.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (ids, batch): (Vec<u64>, Vec<Request>) = take(&mut state.waiting).into_iter().unzip();
            let mut lane = state.lanes.pop().unwrap_or_default();
            drop(state);
            self.meter.batches.fetch_add(1, Ordering::Relaxed);
            self.meter.requests.fetch_add(batch.len() as u64, Ordering::Relaxed);
            let attempt = || execute(device, pipelines, arena, &batch, &mut lane, &self.meter);
            // A defect here must not leave the others waiting for ever.
            let outcome = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| Err("failed inside".into()));
            state = self.lock();
            state.lanes.push(lane);
            match outcome {
                Ok(results) => state.finished.extend(ids.into_iter().zip(results.into_iter().map(Ok))),
                Err(reason) => state.finished.extend(ids.into_iter().map(|id| (id, Err(reason.clone())))),
            }
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what fits one batch, oldest first, at least one request.
fn take(waiting: &mut Vec<(u64, Request)>) -> Vec<(u64, Request)> {
    let mut words = 0;
    let mut count = 0;
    while let Some((_, request)) = waiting.get(count) {
        words += request.results + (request.table.len() + request.wanted.len()) as u64;
        if count > 0 && words > BATCH_WORDS {
            break;
        }
        count += 1;
    }
    waiting.drain(..count).collect()
}

/// The tables of a batch, as the shaders read them.
#[derive(Default)]
struct Batch {
    tables: Vec<u32>,
    jobs: Vec<Job>,
    tiles: Vec<Tile>,
    /// Pipeline, buffer of keys, range of tiles and shape of the grid of each dispatch.
    dispatches: Vec<Dispatch>,
    /// First word of each request's results.
    results: Vec<u64>,
    words: u64,
}

struct Dispatch {
    stage: Stage,
    wide: bool,
    slab: usize,
    tiles: std::ops::Range<usize>,
    grid: (u32, u32),
}

impl Batch {
    fn of(requests: &[Request], most_groups: u32, tile_alignment: usize) -> Self {
        let mut batch = Self::default();
        for request in requests {
            batch.results.push(batch.words);
            let mut job = Job { table: batch.tables.len() as u32, results: batch.words as u32, ..request.job };
            batch.tables.extend_from_slice(&request.table);
            job.wanted = batch.tables.len() as u32;
            batch.tables.extend_from_slice(&request.wanted);
            batch.jobs.push(job);
            batch.words += request.results;
        }
        // One dispatch for all requests that share a pipeline and a buffer of keys.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        let group = |i: usize| (requests[i].stage, requests[i].wide, requests[i].slab);
        order.sort_by_key(|&i| group(i));
        for same in order.chunk_by(|&i, &j| group(i) == group(j)) {
            let start = batch.tiles.len();
            for &job in same {
                for &(first, keys) in &requests[job].parts {
                    let words = 1 + u32::from(requests[job].wide);
                    batch.tiles.extend((0..keys).step_by(TILE as usize).map(|from| Tile {
                        job: job as u32,
                        first: first + from * words,
                        count: TILE.min(keys - from),
                        padding: 0,
                    }));
                }
            }
            let count = (batch.tiles.len() - start) as u32;
            let rows = count.div_ceil(most_groups).max(1);
            let grid = (count.div_ceil(rows), rows);
            // Tiles without keys fill up the grid, and the buffer to where the next dispatch may start.
            let end = start + (grid.0 * grid.1) as usize;
            batch.tiles.resize(end.next_multiple_of(tile_alignment), Tile::default());
            let (stage, wide, slab) = group(same[0]);
            batch.dispatches.push(Dispatch { stage, wide, slab, tiles: start..end, grid });
        }
        batch
    }
}

/// A buffer of at least so many bytes; a larger one takes the place of one that is too small.
fn room<'a>(slot: &'a mut Option<Buffer>, device: &Device, label: &str, bytes: u64, usage: BufferUsages) -> &'a Buffer {
    if slot.as_ref().is_none_or(|buffer| buffer.size() < bytes) {
        *slot = None;
    }
    slot.get_or_insert_with(|| {
        device.device.create_buffer(&BufferDescriptor {
            label: Some(label),
            size: bytes.next_power_of_two().min(device.limits.max_buffer_size).max(bytes).max(256),
            usage,
            mapped_at_creation: false,
        })
    })
}

fn execute(
    device: &Device,
    pipelines: &Pipelines,
    arena: &Arena,
    requests: &[Request],
    lane: &mut Lane,
    meter: &Meter,
) -> Result<Vec<Vec<u32>>, String> {
    let alignment = device.limits.min_storage_buffer_offset_alignment as usize;
    let tile_alignment = alignment.div_ceil(size_of::<Tile>());
    let batch = Batch::of(requests, device.limits.max_compute_workgroups_per_dimension, tile_alignment);
    let bytes = batch.words * 4;
    if bytes > device.limits.max_storage_buffer_binding_size.min(device.limits.max_buffer_size) {
        return Err(format!("results of {bytes} bytes do not fit the device"));
    }

    let inputs = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let tables = upload(&mut lane.tables, device, "tables", bytemuck::cast_slice(&batch.tables), inputs);
    let jobs = upload(&mut lane.jobs, device, "jobs", bytemuck::cast_slice(&batch.jobs), inputs);
    let tiles = upload(&mut lane.tiles, device, "tiles", bytemuck::cast_slice(&batch.tiles), inputs);
    let outputs = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let results = room(&mut lane.results, device, "results", bytes, outputs).clone();
    let landing = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    // Two timestamps follow the results.
    let stamps = bytes.next_multiple_of(8);
    let readback = room(&mut lane.readback, device, "readback", stamps + 16, landing).clone();

    let mut encoder = device.device.create_command_encoder(&Default::default());
    encoder.clear_buffer(&results, 0, Some(bytes.next_multiple_of(4)));
    if device.adapter.timestamps {
        lane.timer.get_or_insert_with(|| timer(device));
    }
    let timer = lane.timer.as_ref();
    {
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor {
            label: Some("batch"),
            timestamp_writes: timer.map(|(query_set, _)| ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            }),
        });
        for dispatch in &batch.dispatches {
            let part = |binding, buffer, offset: usize, size: usize| BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(BufferBinding {
                    buffer,
                    offset: offset as u64,
                    size: std::num::NonZeroU64::new(size as u64),
                }),
            };
            let keys = arena.buffer(dispatch.slab);
            let (from, to) = (dispatch.tiles.start * size_of::<Tile>(), dispatch.tiles.end * size_of::<Tile>());
            let bind_group = device.device.create_bind_group(&BindGroupDescriptor {
                label: None,
                layout: pipelines.layout(),
                entries: &[
                    BindGroupEntry { binding: 0, resource: keys.as_entire_binding() },
                    part(1, &tables, 0, size_of_val(&*batch.tables)),
                    part(2, &jobs, 0, size_of_val(&*batch.jobs)),
                    part(3, &tiles, from, to - from),
                    part(4, &results, 0, bytes as usize),
                ],
            });
            pass.set_pipeline(pipelines.get(device, dispatch.stage, dispatch.wide));
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(dispatch.grid.0, dispatch.grid.1, 1);
        }
    }
    encoder.copy_buffer_to_buffer(&results, 0, &readback, 0, bytes);
    if let Some((query_set, buffer)) = timer {
        encoder.resolve_query_set(query_set, 0..2, buffer, 0);
        encoder.copy_buffer_to_buffer(buffer, 0, &readback, stamps, 16);
    }
    let words = wait(device, encoder, &readback, stamps + 16)?;
    if timer.is_some() {
        let stamp = |at: u64| u64::from(words[(at / 4) as usize]) | u64::from(words[(at / 4 + 1) as usize]) << 32;
        let ticks = stamp(stamps + 8).saturating_sub(stamp(stamps));
        let nanoseconds = ticks as f64 * f64::from(device.queue.get_timestamp_period());
        meter.nanoseconds.fetch_add(nanoseconds as u64, Ordering::Relaxed);
    }
    let slice = |(from, request): (&u64, &Request)| words[*from as usize..(from + request.results) as usize].to_vec();
    Ok(batch.results.iter().zip(requests).map(slice).collect())
}

/// Submits, waits, and reads the first bytes of the buffer.
fn wait(device: &Device, encoder: CommandEncoder, readback: &Buffer, bytes: u64) -> Result<Vec<u32>, String> {
    let index = device.queue.submit([encoder.finish()]);
    let (sender, receiver) = mpsc::channel();
    readback.map_async(MapMode::Read, ..bytes, move |outcome| {
        let _ = sender.send(outcome);
    });
    device
        .device
        .poll(PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) })
        .map_err(|e| e.to_string())?;
    if let Some(reason) = device.failure.get() {
        return Err(reason.clone());
    }
    receiver.recv_timeout(PATIENCE).map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let words = {
        let view = readback.get_mapped_range(..bytes).map_err(|e| e.to_string())?;
        bytemuck::pod_collect_to_vec(&view)
    };
    readback.unmap();
    Ok(words)
}

fn upload(slot: &mut Option<Buffer>, device: &Device, label: &str, bytes: &[u8], usage: BufferUsages) -> Buffer {
    let buffer = room(slot, device, label, bytes.len() as u64, usage).clone();
    device.queue.write_buffer(&buffer, 0, bytes);
    buffer
}

fn timer(device: &Device) -> (QuerySet, Buffer) {
    let descriptor = QuerySetDescriptor { label: Some("timer"), ty: QueryType::Timestamp, count: 2 };
    let buffer = device.device.create_buffer(&BufferDescriptor {
        label: Some("timer"),
        size: 16,
        usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    (device.device.create_query_set(&descriptor), buffer)
}
