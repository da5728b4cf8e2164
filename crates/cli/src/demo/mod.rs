//! `driftsweep demo`

#[cfg(feature = "pipeline")]
mod service;
#[cfg(feature = "pipeline")]
mod story;
#[cfg(not(feature = "pipeline"))]
#[path = "without.rs"]
mod story;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use driftsweep::sweep::SweepRun;
use driftsweep_common::error::Error;
use driftsweep_report::report::html::HistoryLines;
use driftsweep_report::report::{RenderOptions, Report};
use tempfile::TempDir;

use super::fleet_store::read_fleet;
use super::{Bar, EngineArgs, OutputArgs};

#[derive(Args)]
pub struct DemoArgs {
    /// A folder with demo.toml and its data [default: datasets, if it exists here; else the smaller demo inside this
    /// program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Shows months of nights instead: flights are predicted, drift fires, a model is trained, judged by gates, released by stages, and
    /// taken back where it is worse. It takes the flights of the repository
    #[arg(long = "loop", value_enum, value_name = "STORY", num_args = 0..=1, default_missing_value = "better")]
    story: Option<Story>,
    /// With --loop: a folder that keeps everything, for other commands
    #[arg(long, value_name = "DIR", requires = "story")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A story of `--loop`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Story {
    /// From April to October: retrains after drift are better, and become the champion
    Better,
    /// November and December: a retrain on the last 90 days is worse than the model of the spring
    Worse,
}

/// Where the repository has its data.
const REPOSITORY_FOLDER: &str = "datasets";

macro_rules! data {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../../datasets/", $name)))
    };
}

/// The smaller demo: a fleet file, and its data.
const FLEET: &str = include_str!("../../../../datasets/demo-small.toml");
const FILES: &[(&str, &[u8])] = &[
    data!("car_loan/reference.parquet"),
    data!("car_loan/production.parquet"),
    data!("nycflights13/flights-2013-01.parquet"),
    data!("nycflights13/flights-2013-02.parquet"),
    data!("nycflights13/flights-2013-06.parquet"),
    data!("nycflights13/flights-2013-07.parquet"),
    data!("nycflights13/weather-2013-01.parquet"),
    data!("nycflights13/weather-2013-02.parquet"),
    data!("nycflights13/weather-2013-03.parquet"),
    data!("nycflights13/weather-2013-06.parquet"),
    data!("nycflights13/weather-2013-07.parquet"),
    data!("nycflights13/weather-2013-08.parquet"),
];

pub fn run(args: &DemoArgs) -> anyhow::Result<u8> {
    if let Some(told) = args.story {
        let data = args.data.as_deref().unwrap_or(Path::new(REPOSITORY_FOLDER));
        return story::run(told, data, args.keep.as_deref());
    }
    args.output.check()?;
    let started = Instant::now();
    let options = args.engine.start(false)?;
    // Removed at the end.
    let mut unpacked = None;
    let file = match &args.data {
        Some(folder) => folder.join("demo.toml"),
        // The folder of the repository, not another folder of the same name.
        None if Path::new(REPOSITORY_FOLDER).join("manifest.json").is_file() => {
            Path::new(REPOSITORY_FOLDER).join("demo.toml")
        }
        None => unpacked.insert(unpack()?).path().join("demo.toml"),
    };
    let fleet = read_fleet(&file, &options)?;
    let bar = Bar::new();
    let plan = fleet.plan(jiff::Timestamp::now());
    let chosen = args.engine.counter(|| plan.survey().workload)?;
    let mut found = SweepRun { progress: &bar, ..SweepRun::new(&*chosen.counter) }.sweep(&plan);
    super::note(&mut found.engine, chosen);
    drop(bar);
    let options = RenderOptions { top: args.output.top, history: &HistoryLines::default };
    args.output.write(Report::Sweep(&found), &options)?;
    say!("swept in {:.2} s", started.elapsed().as_secs_f64());
    if unpacked.is_some() {
        say!("this is the small built-in demo; the full one is in the repository: demo --data datasets");
    }
    let s = found.summary;
    Ok(args.output.code(s.drifted > 0, s.failed + s.failed_comparisons > 0))
}

/// Unpacks the smaller demo into a folder of its own.
fn unpack() -> anyhow::Result<TempDir> {
    let temporary = std::env::temp_dir();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let folder = TempDir::with_prefix("driftsweep-demo-").map_err(failed(&temporary))?;
    let files = FILES.iter().map(|(name, bytes)| (*name, *bytes)).chain([("demo.toml", FLEET.as_bytes())]);
    for (name, bytes) in files {
        let path = folder.path().join(name);
        let parent = path.parent().unwrap_or(folder.path());
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
        std::fs::write(&path, bytes).map_err(failed(&path))?;
    }
    Ok(folder)
}
