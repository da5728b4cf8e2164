//! `driftsweep baseline`

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use driftsweep::baseline::{self, Baseline, BaselineBuilder, BaselineFile, Frozen, training_snapshot};
use driftsweep::count::with_threads;
use driftsweep_common::address::redacted;
use driftsweep_common::error::Error;
use driftsweep_common::storage;
use driftsweep_fleet::Model;
use driftsweep_report::output::Page;
use rayon::prelude::*;

use super::fleet_store::read_fleet;
use super::{EngineArgs, baselines};

#[derive(Subcommand)]
pub enum BaselineCommand {
    /// Counts a training snapshot, or those of all models of a fleet, and writes baseline files
    Build(BuildArgs),
    /// Shows what a baseline file holds
    Show(ShowArgs),
    /// Lists the baselines of each model: the one in use and the former ones, each with its date, training and author
    List(baselines::ListArgs),
    /// Sets the baseline of a model to a baseline file or a training snapshot, in place of the one in the fleet file
    Set(baselines::SetArgs),
    /// Restores a former baseline
    Restore(baselines::RestoreArgs),
}

#[derive(Args)]
pub struct BuildArgs {
    /// The training snapshot: a file, a glob or a directory
    #[arg(required_unless_present = "fleet", conflicts_with = "fleet", value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// A fleet file instead: builds NAME.baseline for every model into the output directory
    #[arg(long, value_name = "FLEET")]
    fleet: Option<PathBuf>,
    /// File to write (a directory with --fleet)
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Metrics that the baseline will be compared by, comma-separated [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with = "fleet")]
    metrics: Vec<String>,
    /// Bins of the population stability index
    #[arg(long, value_name = "N", conflicts_with = "fleet")]
    bins: Option<usize>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The baseline file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(command: &BaselineCommand) -> anyhow::Result<u8> {
    match command {
        BaselineCommand::Build(args) => build(args),
        BaselineCommand::Show(args) => show(args),
        BaselineCommand::List(args) => baselines::list(args),
        BaselineCommand::Set(args) => baselines::set(args),
        BaselineCommand::Restore(args) => baselines::restore(args),
    }
}

fn build(args: &BuildArgs) -> anyhow::Result<u8> {
    let metrics = super::metric_set(&args.metrics)?;
    let bins = args
        .bins
        .map(driftsweep::model::check_bins)
        .transpose()
        .map_err(|reason| super::invalid_value("--bins", &reason))?;
    let mut options = args.engine.start(
        args.snapshot.as_ref().is_some_and(storage::is_remote)
            || args.fleet.as_deref().is_some_and(super::names_objects),
    )?;
    if let Some(metrics) = metrics {
        options.metrics = metrics;
    }
    options.bins = bins.unwrap_or(options.bins);
    let now = || jiff::Timestamp::now().to_string();
    if let Some(spec) = &args.snapshot {
        if !Baseline::is_baseline_file(&args.output) {
            return Err(super::invalid_value("--output", "a baseline file is named *.baseline"));
        }
        let snapshot = training_snapshot(spec)?;
        let chosen = args.engine.counter(|| snapshot.workload())?;
        let baseline = BaselineBuilder::new(&snapshot).options(&options).created_at(now()).build(&*chosen.counter)?;
        super::warn_of_failure(&*chosen.counter);
        baseline.write(&args.output)?;
        return Ok(summary(&args.output, &baseline));
    }
    let path = args.fleet.as_deref().context("a snapshot or --fleet is needed")?;
    let fleet = read_fleet(path, &options)?;
    let workload = || {
        fleet
            .models
            .par_iter()
            .filter_map(|model| Some(training_snapshot(model.baseline.expose()).ok()?.workload()))
            .sum()
    };
    let counter = args.engine.counter(workload)?.counter;
    let build = |model: &Model| {
        if model.previous {
            say!("model '{}': compared with its previous window, so it has no baseline to build", model.name);
            return Ok(0);
        }
        let baseline = Baseline::of_model(&*counter, model, model.baseline.expose(), now())?;
        let file = storage::join(&args.output, &format!("{}.baseline", baseline::file_name(&model.name)));
        baseline.write(&file)?;
        Ok(summary(&file, &baseline))
    };
    let worst = with_threads(&*counter, || {
        let built = fleet.models.par_iter().map(|model| {
            build(model).unwrap_or_else(|error: Error| {
                error!("model '{}': {error}", model.name);
                super::PARTIAL
            })
        });
        built.max().unwrap_or(0)
    });
    super::warn_of_failure(&*counter);
    Ok(worst)
}

/// Reports on standard error what was written; returns the exit code.
fn summary(file: &Path, baseline: &Baseline) -> u8 {
    let refused: Vec<_> = baseline
        .features
        .iter()
        .filter_map(|feature| match &feature.data {
            Frozen::Refused(status, detail) if status.is_failure() => Some((&feature.name, detail)),
            _ => None,
        })
        .collect();
    let segments = match baseline.header.segments.len() {
        0 => String::new(),
        n => format!(", in all and in {n} segments"),
    };
    let features = baseline.features.iter().filter(|feature| feature.segment.is_empty()).count();
    say!("{}: {features} features of {} rows{segments}", redacted(file), baseline.header.rows);
    for (name, detail) in &refused {
        say!("  {name}: {detail}");
    }
    if refused.is_empty() { 0 } else { super::PARTIAL }
}

fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let baseline = BaselineFile::open(&args.file)?;
    if args.json {
        let features: Vec<serde_json::Value> = baseline
            .features()
            .map(|f| {
                let kept = size_text(&f.data()?);
                Ok(serde_json::json!({"name": f.name(), "type": f.dtype().name(), "tally": f.tally(), "kept": kept}))
            })
            .collect::<Result<_, Error>>()?;
        let value = serde_json::json!({"header": baseline.header, "features": features});
        super::write_json(&value)?;
        return Ok(0);
    }
    let mut page = Page::new();
    let header = &baseline.header;
    page.line(format_args!(
        "{} rows, {} bins, by {} at {}",
        header.rows, header.bins, header.engine, header.created_at
    ));
    for source in &header.sources {
        let path = source.path.display();
        page.line(format_args!("from {path} ({} rows, {} bytes)", source.rows, source.bytes));
    }
    for segment in &header.segments {
        page.line(format_args!("segment {} ({} rows)", segment.name, segment.rows));
    }
    for f in baseline.features() {
        let (missing, kept) = (f.tally().missing(), size_text(&f.data()?));
        let name = f.name();
        page.line(format_args!("{name:<32} {:<12} {missing:>12} missing  {kept}", f.dtype().name()));
    }
    super::write(page)?;
    Ok(0)
}

fn size_text(data: &Frozen) -> String {
    match data {
        Frozen::Numeric(ecdf) => format!("{} values in {} cells", ecdf.n(), ecdf.map().len()),
        Frozen::Categorical(categories) => format!("{} categories", categories.counts.len()),
        Frozen::Refused(status, detail) => format!("{}: {detail}", status.name()),
    }
}
