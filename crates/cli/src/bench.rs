//! `driftsweep bench`

use std::time::Instant;

use clap::{Args, Subcommand};
use driftsweep::count::ecdf::EcdfPair;
use driftsweep::count::gpu::{self, DeviceProbe, GpuCounter};
use driftsweep::count::key::{key_f32, key_f64};
use driftsweep::count::pair::{BaselineKeys, RequiredFigures, count_pair};
use driftsweep::count::{Backend, CellMap, Counter, CpuCounter, Domain, KeyVec, with_threads};
use driftsweep_common::error::Error;
use driftsweep_report::output::{Page, Table};
use rayon::prelude::*;

use super::EngineArgs;
use super::generate::{self, GenerateArgs};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    /// Rows of each column
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    rows: usize,
    /// Columns of each type
    #[arg(long, default_value_t = 8, value_name = "N")]
    columns: usize,
    /// Cells to count into
    #[arg(long, default_value_t = 255, value_name = "N")]
    cells: usize,
    /// How often each run is repeated; the median is reported
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Writes a fleet of generated models with drift in known columns
    Generate(GenerateArgs),
}

/// Rows of a chunk, as a row group has them.
const CHUNK: usize = 1 << 18;

pub fn run(args: &BenchArgs) -> anyhow::Result<u8> {
    if let Some(BenchCommand::Generate(args)) = &args.command {
        return generate::run(args);
    }
    let limits = [
        ("--rows", args.rows, 1 << 31),
        ("--columns", args.columns, 100_000),
        ("--cells", args.cells, 1 << 16),
        ("--runs", args.runs, 1000),
    ];
    if let Some((flag, _, most)) = limits.into_iter().find(|&(_, value, most)| !(1..=most).contains(&value)) {
        return Err(super::invalid_value(flag, &format!("must be between 1 and {most}")));
    }
    args.engine.start(false)?;
    let (choice, memory) = args.engine.device()?;
    let gpu = match args.engine.backend()? {
        Backend::Fixed(spec) if spec.name == gpu::BACKEND.name => Ok(GpuCounter::open(&choice, memory)?),
        Backend::Fixed(_) => Err(Error::Backend("only the CPU was requested".into())),
        Backend::Auto => GpuCounter::open(&choice, memory),
    };
    let mut page = Page::new();
    page.line(format_args!("{} columns of {} rows, {} threads", args.columns, args.rows, rayon::current_num_threads()));
    let ceilings = match &gpu {
        Ok(gpu) => {
            let adapter = gpu.adapter();
            page.line(format_args!(
                "device: {} ({}, {}, {})",
                adapter.name, adapter.kind, adapter.backend, adapter.driver
            ));
            let ceilings = ceilings(gpu, args.runs)?;
            page.line(format_args!(
                "ceilings: {:.2} GB/s to the device, {:.1} GB/s of its memory (copying, read and written bytes)",
                ceilings.upload / 1e9,
                ceilings.memory / 1e9
            ));
            Some(ceilings)
        }
        Err(error) => {
            page.line(format_args!("the GPU was not measured: {error}"));
            None
        }
    };
    let mut table = Table::new(["keys", "what", "by", "ms", "M values/s", "GB/s", "of ceiling", "ms in shaders"]);
    table.align_right(3..8);
    let gpu = gpu.as_ref().ok();
    for domain in [Domain::F32, Domain::F64] {
        Bench { args, domain, gpu, ceilings: ceilings.as_ref() }.fill(&mut table)?;
    }
    page.table(table);
    super::write(page)?;
    Ok(0)
}

/// The measured maximum throughput of a device, in bytes per second.
struct Ceilings {
    upload: f64,
    memory: f64,
}

fn ceilings(gpu: &GpuCounter, runs: usize) -> Result<Ceilings, Error> {
    let software = gpu.adapter().is_software();
    let probe = DeviceProbe::new(gpu, if software { 32 << 20 } else { 256 << 20 });
    let copies = if software { 1 } else { 20 };
    let upload = median(runs, || probe.upload())?;
    let copy = median(runs, || probe.copy(copies))?;
    let bytes = probe.bytes() as f64;
    Ok(Ceilings { upload: bytes / upload, memory: 2.0 * bytes * copies as f64 / copy })
}

/// A device in one line: its ceilings, and how fast it counts keys in its memory.
///
/// # Errors
/// [`Error::Backend`] where the device failed.
pub(super) fn measure(gpu: &GpuCounter) -> Result<String, Error> {
    const RUNS: usize = 3;
    let ceilings = ceilings(gpu, RUNS)?;
    let keys = column(Domain::F32, 1 << 20, 1, 0.0);
    let mut sample: Vec<u64> = (0..1000).map(|i| keys[0].get(i)).collect();
    let map = CellMap::from_sample(&mut sample, Domain::F32, 255);
    let mut columns = gpu.columns(Domain::F32, vec![&keys]);
    let seconds = median(RUNS, || columns.count(&map, false, None).map(drop))?;
    Ok(format!(
        "{:.2} GB/s to the device, {:.1} GB/s of its memory, {:.0} M keys/s counted (f32, one column of {} at a time)",
        ceilings.upload / 1e9,
        ceilings.memory / 1e9,
        (1 << 20) as f64 / seconds / 1e6,
        1 << 20,
    ))
}

/// Median seconds of some runs, after one that warms up.
fn median(runs: usize, mut run: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    run()?;
    let mut seconds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[runs / 2])
}

struct Bench<'a> {
    args: &'a BenchArgs,
    domain: Domain,
    gpu: Option<&'a GpuCounter>,
    ceilings: Option<&'a Ceilings>,
}

impl Bench<'_> {
    fn fill(&self, table: &mut Table) -> Result<(), Error> {
        let (rows, columns) = (self.args.rows, self.args.columns);
        let column = |seed: usize, shift: f64| column(self.domain, rows, seed as u64, shift);
        let data: Vec<Vec<KeyVec>> = (0..columns).into_par_iter().map(|i| column(i, 0.0)).collect();
        let other: Vec<Vec<KeyVec>> = (0..columns).into_par_iter().map(|i| column(columns + i, 0.1)).collect();
        let mut sample: Vec<u64> = (0..4096.min(rows)).map(|i| data[0][0].get(i % data[0][0].len())).collect();
        let map = CellMap::from_sample(&mut sample, self.domain, self.args.cells);
        let runs = self.args.runs;

        let count = |counter: &dyn Counter| {
            with_threads(counter, || {
                data.par_iter().try_for_each(|column| {
                    counter.columns(self.domain, vec![column]).count(&map, false, None).map(drop)
                })
            })
        };
        let what = format!("count, {} cells", map.len());
        let on_cpu = median(runs, || count(&CpuCounter))?;
        self.row(table, &what, "cpu", on_cpu, 1, None, None);
        if let Some(gpu) = self.gpu {
            let (seconds, shaders) = self.on_gpu(gpu, || count(gpu))?;
            self.row(table, &what, "gpu, from host memory", seconds, 1, self.ceilings.map(|c| c.upload), shaders);
            // Every column again and again while its keys stay on the device.
            const AGAIN: usize = 8;
            let resident = || {
                with_threads(gpu, || {
                    data.par_iter().try_for_each(|column| {
                        let mut column = gpu.columns(self.domain, vec![column]);
                        (0..=AGAIN).try_for_each(|_| column.count(&map, false, None).map(drop))
                    })
                })
            };
            let (all, all_shaders) = self.on_gpu(gpu, resident)?;
            let shaders = all_shaders.zip(shaders).map(|(all, first)| (all - first).max(0.0));
            let ceiling = self.ceilings.map(|c| c.memory);
            let what = format!("{what}, again {AGAIN} times");
            self.row(table, &what, "gpu, resident", (all - seconds).max(1e-9), AGAIN, ceiling, shaders);
        }

        let ranks = |n: u64| (0..=10).map(|i| (n - 1) * i / 10).collect();
        let wanted =
            RequiredFigures { baseline_ranks: &ranks, current_ranks: &ranks, distance: true, transport: false };
        let compare = |counter: &dyn Counter| {
            with_threads(counter, || {
                data.par_iter().zip(&other).try_for_each(|(a, b)| {
                    let side = BaselineKeys::Source(a, rows as u64);
                    let (a, b) = count_pair(counter, self.domain, side, b, rows as u64, wanted)?;
                    std::hint::black_box(EcdfPair::new(&a, &b).map(|pair| pair.distance()));
                    Ok::<(), Error>(())
                })
            })
        };
        let what = "exact deciles and KS of two columns";
        let on_cpu = median(runs, || compare(&CpuCounter))?;
        self.row(table, what, "cpu", on_cpu, 2, None, None);
        if let Some(gpu) = self.gpu {
            let (seconds, shaders) = self.on_gpu(gpu, || compare(gpu))?;
            self.row(table, what, "gpu, from host memory", seconds, 2, self.ceilings.map(|c| c.upload), shaders);
        }
        Ok(())
    }

    /// Median seconds, and seconds that shaders ran in a run.
    fn on_gpu(&self, gpu: &GpuCounter, run: impl FnMut() -> Result<(), Error>) -> Result<(f64, Option<f64>), Error> {
        let shaders = || gpu.usage().and_then(|usage| usage.shader_seconds);
        let left = || gpu.usage().map_or(0, |usage| usage.keys_left_to_cpu);
        let (before, left_before) = (shaders().unwrap_or(0.0), left());
        let seconds = median(self.args.runs, run)?;
        // Keys that the CPU counted do not count for the device.
        if let Some(failure) = gpu.usage().and_then(|usage| usage.failure) {
            return Err(Error::Backend(failure));
        }
        if left() > left_before {
            return Err(Error::BadValue {
                what: "--gpu-memory".into(),
                reason: "too small for these columns; give more, or take fewer rows or columns".into(),
            });
        }
        let ran = (self.args.runs + 1) as f64;
        Ok((seconds, shaders().map(|after| (after - before) / ran)))
    }

    #[allow(clippy::too_many_arguments)] // One row of a table.
    fn row(
        &self,
        table: &mut Table,
        what: &str,
        by: &str,
        seconds: f64,
        passes: usize,
        ceiling: Option<f64>,
        shaders: Option<f64>,
    ) {
        let values = (self.args.rows * self.args.columns * passes) as f64;
        let bytes = values * self.domain.key_bytes() as f64;
        let width = if self.domain.is_narrow() { "f32" } else { "f64" };
        table.row([
            width.to_owned(),
            what.to_owned(),
            by.to_owned(),
            format!("{:.2}", seconds * 1e3),
            format!("{:.0}", values / seconds / 1e6),
            format!("{:.2}", bytes / seconds / 1e9),
            ceiling.map_or(String::new(), |ceiling| format!("{:.0} %", 100.0 * bytes / seconds / ceiling)),
            shaders.map_or(String::new(), |seconds| format!("{:.2}", seconds * 1e3)),
        ]);
    }
}

/// Approximately normal keys from a fixed linear congruential generator.
fn column(domain: Domain, rows: usize, seed: u64, shift: f64) -> Vec<KeyVec> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut value = move || (0..4).map(|_| uniform()).sum::<f64>() - 2.0 + shift;
    let chunk = |from: usize| CHUNK.min(rows - from);
    (0..rows)
        .step_by(CHUNK)
        .map(|from| match domain.is_narrow() {
            true => KeyVec::U32((0..chunk(from)).map(|_| key_f32(value() as f32)).collect()),
            false => KeyVec::U64((0..chunk(from)).map(|_| key_f64(value())).collect()),
        })
        .collect()
}
