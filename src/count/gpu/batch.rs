//! Many columns in one dispatch.
//!
//! Threads hand in requests and wait. A thread that finds a free lane takes all waiting requests, sends them to the
//! device together, and distributes the results; meanwhile further requests gather for the next lane. So the slower the
//! device answers, the more columns share a dispatch, and uploads, counting and decoding overlap.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use wgpu::{
    BindGroupDescriptor, BindGroupEntry, Buffer, BufferBinding, BufferDescriptor, BufferUsages, CommandEncoder,
    ComputePassDescriptor, ComputePassTimestampWrites, MapMode, QuerySet, QuerySetDescriptor, QueryType,
};

use super::arena::Arena;
use super::device::{DEVICE_TIMEOUT, Device};
use super::layout::{CountComparison, CountJob, TILES, Tile};
use super::pipeline::{Pipelines, Stage};

/// Batches under way at a time.
const LANES: usize = 3;

/// Words that one batch may return, unless a single request needs more.
const BATCH_WORDS: u64 = 4 << 20;

/// The work that one comparison requests from the device. Its offsets are relative; a batch adds the base offsets.
#[derive(Default)]
pub(crate) struct BatchRequest {
    /// Tables of divisions, sets of cells, ranks.
    pub tables: Vec<u32>,
    /// Work on keys.
    pub tasks: Vec<KeyTask>,
    /// Counts to be compared once they are taken.
    pub comparison: Option<CountComparison>,
    /// Words of its results.
    pub results: u64,
}

/// Work on the keys of one column that lie in one buffer.
pub(crate) struct KeyTask {
    /// What to do.
    pub stage: Stage,
    /// Whether keys are two words.
    pub wide: bool,
    /// The buffer.
    pub slab: usize,
    /// First word and number of keys of each part.
    pub parts: Vec<(u32, u32)>,
    /// The rest.
    pub job: CountJob,
}

impl KeyTask {
    fn keys(&self) -> u64 {
        self.parts.iter().map(|&(_, keys)| u64::from(keys)).sum()
    }
}

/// What the device was used for.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Submissions.
    pub batches: AtomicU64,
    /// Requests in them.
    pub requests: AtomicU64,
    /// Time the device spent in shaders, where it measures that.
    pub nanoseconds: AtomicU64,
}

/// Buffers of a batch, kept for the next one.
#[derive(Default)]
struct LaneBuffers {
    tables: Option<Buffer>,
    jobs: Option<Buffer>,
    comparisons: Option<Buffer>,
    tiles: Option<Buffer>,
    results: Option<Buffer>,
    readback: Option<Buffer>,
    timer: Option<(QuerySet, Buffer)>,
}

struct BatchState {
    waiting: Vec<(u64, BatchRequest)>,
    finished: HashMap<u64, Result<Vec<u32>, String>>,
    lanes: Vec<LaneBuffers>,
    next: u64,
}

/// Gathers requests into batches.
pub(crate) struct Batches {
    state: Mutex<BatchState>,
    changed: Condvar,
    /// What was done.
    pub meter: Meter,
}

impl Batches {
    /// Nothing under way.
    pub fn new() -> Self {
        let lanes = (0..LANES).map(|_| LaneBuffers::default()).collect();
        let state = BatchState { waiting: Vec::new(), finished: HashMap::new(), lanes, next: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), meter: Meter::default() }
    }

    /// Executes a request, together with the other waiting requests; returns its results.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn run(
        &self,
        device: &Device,
        pipelines: &Pipelines,
        arena: &Arena,
        request: BatchRequest,
    ) -> Result<Vec<u32>, String> {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.waiting.push((id, request));
        loop {
            if let Some(outcome) = state.finished.remove(&id) {
                return outcome;
            }
            if state.waiting.is_empty() || state.lanes.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (ids, batch): (Vec<u64>, Vec<BatchRequest>) = take(&mut state.waiting).into_iter().unzip();
            let mut lane = state.lanes.pop().unwrap_or_default();
            drop(state);
            self.meter.batches.fetch_add(1, Ordering::Relaxed);
            self.meter.requests.fetch_add(batch.len() as u64, Ordering::Relaxed);
            let attempt = || execute(device, pipelines, arena, &batch, &mut lane, &self.meter);
            // A panic here must not leave the other threads waiting forever.
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

    fn lock(&self) -> MutexGuard<'_, BatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what fits one batch, oldest first, at least one request.
fn take(waiting: &mut Vec<(u64, BatchRequest)>) -> Vec<(u64, BatchRequest)> {
    let mut words = 0;
    let mut count = 0;
    while let Some((_, request)) = waiting.get(count) {
        words += request.results + request.tables.len() as u64;
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
    jobs: Vec<CountJob>,
    comparisons: Vec<CountComparison>,
    tiles: Vec<Tile>,
    dispatches: Vec<Dispatch>,
    /// First word of each request's results.
    results: Vec<u64>,
    words: u64,
}

/// Everything that shares a pipeline and a buffer of keys.
struct Dispatch {
    stage: Stage,
    wide: bool,
    slab: usize,
    tiles: std::ops::Range<usize>,
    grid: (u32, u32),
}

impl Batch {
    fn of(requests: &[BatchRequest], tile: (u32, u32), max_groups: u32, tile_alignment: usize) -> Self {
        let mut batch = Self::default();
        let all_keys: u64 = requests.iter().flat_map(|request| &request.tasks).map(KeyTask::keys).sum();
        let tile = (all_keys / TILES).next_power_of_two().clamp(tile.0.into(), tile.1.into()) as u32;
        let mut tiles: BTreeMap<(Stage, bool, usize), Vec<Tile>> = BTreeMap::new();
        for request in requests {
            let (table, results) = (batch.tables.len() as u32, batch.words as u32);
            batch.results.push(batch.words);
            for task in &request.tasks {
                let wanted = task.job.wanted + if task.job.decided == 0 { table } else { results };
                let job = batch.jobs.len() as u32;
                batch.jobs.push(CountJob {
                    table: task.job.table + table,
                    results: task.job.results + results,
                    wanted,
                    ..task.job
                });
                let words = 1 + u32::from(task.wide);
                let tiles = tiles.entry((task.stage, task.wide, task.slab)).or_default();
                for &(first, keys) in &task.parts {
                    tiles.extend((0..keys).step_by(tile as usize).map(|from| Tile {
                        job,
                        first: first + from * words,
                        count: tile.min(keys - from),
                        padding: 0,
                    }));
                }
            }
            if let Some(c) = request.comparison {
                let tile = Tile { job: batch.comparisons.len() as u32, count: 1, ..Tile::default() };
                // It reads no keys, but the binding must not be empty.
                let slab = request.tasks.first().map_or(0, |task| task.slab);
                tiles.entry((Stage::Compare, false, slab)).or_default().push(tile);
                batch.comparisons.push(CountComparison {
                    counts_a: c.counts_a + results,
                    counts_b: c.counts_b + results,
                    outcome: c.outcome + results,
                    ranks_a: c.ranks_a + table,
                    ranks_b: c.ranks_b + table,
                    inside: c.inside + table,
                    ..c
                });
            }
            batch.tables.extend_from_slice(&request.tables);
            batch.words += request.results;
        }
        // Counts before comparisons before collections: that is how stages are ordered.
        for ((stage, wide, slab), same) in tiles {
            let start = batch.tiles.len();
            let count = same.len() as u32;
            batch.tiles.extend(same);
            let rows = count.div_ceil(max_groups).max(1);
            let grid = (count.div_ceil(rows), rows);
            // Tiles without keys fill up the grid, and the buffer to where the next dispatch may start.
            let end = start + (grid.0 * grid.1) as usize;
            batch.tiles.resize(end.next_multiple_of(tile_alignment), Tile::default());
            batch.dispatches.push(Dispatch { stage, wide, slab, tiles: start..end, grid });
        }
        if batch.comparisons.is_empty() {
            // A binding holds at least one element.
            batch.comparisons.push(CountComparison::default());
        }
        batch
    }
}

/// A buffer of at least this size; one that is too small is replaced.
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
    requests: &[BatchRequest],
    lane: &mut LaneBuffers,
    meter: &Meter,
) -> Result<Vec<Vec<u32>>, String> {
    let alignment = device.limits.min_storage_buffer_offset_alignment as usize;
    let tile_alignment = alignment.div_ceil(size_of::<Tile>());
    let batch = Batch::of(requests, device.tile, device.limits.max_compute_workgroups_per_dimension, tile_alignment);
    let bytes = batch.words * 4;
    if bytes > device.limits.max_storage_buffer_binding_size.min(device.limits.max_buffer_size) {
        return Err(format!("results of {bytes} bytes do not fit the device"));
    }

    let inputs = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let tables = upload(&mut lane.tables, device, "tables", bytemuck::cast_slice(&batch.tables), inputs);
    let jobs = upload(&mut lane.jobs, device, "jobs", bytemuck::cast_slice(&batch.jobs), inputs);
    let compared = bytemuck::cast_slice(&batch.comparisons);
    let comparisons = upload(&mut lane.comparisons, device, "comparisons", compared, inputs);
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
                    part(5, &comparisons, 0, size_of_val(&*batch.comparisons)),
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
    let slice =
        |(from, request): (&u64, &BatchRequest)| words[*from as usize..(from + request.results) as usize].to_vec();
    Ok(batch.results.iter().zip(requests).map(slice).collect())
}

/// Submits, waits, and reads the first bytes of the buffer.
fn wait(device: &Device, encoder: CommandEncoder, readback: &Buffer, bytes: u64) -> Result<Vec<u32>, String> {
    let index = device.queue.submit([encoder.finish()]);
    let (sender, receiver) = mpsc::channel();
    readback.map_async(MapMode::Read, ..bytes, move |outcome| {
        let _ = sender.send(outcome);
    });
    device.wait(index)?;
    receiver.recv_timeout(DEVICE_TIMEOUT).map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
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
