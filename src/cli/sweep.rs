//! `driftsweep sweep`

use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::fleet::Fleet;
use driftsweep::report;
use driftsweep::sweep::Plan;

use super::{Bar, EngineArgs, OutputArgs};

#[derive(Args)]
pub struct SweepArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// Metrics, comma-separated [default: those of the fleet file]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    metrics: Vec<String>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &SweepArgs) -> anyhow::Result<u8> {
    args.output.check()?;
    let metrics = super::metric_set(&args.metrics)?;
    let options = args.engine.start()?;
    super::protect(args.output.output.as_deref(), [args.fleet.as_path()])?;
    let mut fleet = Fleet::read(&args.fleet, &options)?;
    let inputs = fleet.models.iter().flat_map(|m| m.windows.iter().map(|w| &w.current).chain([&m.baseline]));
    super::protect(args.output.output.as_deref(), inputs.map(Path::new))?;
    if let Some(metrics) = metrics {
        fleet.models.iter_mut().for_each(|model| model.options.metrics = metrics);
    }
    let bar = Bar::new();
    let plan = Plan::open(&fleet);
    let chosen = args.engine.counter(plan.workload())?;
    let mut found = plan.run(&*chosen.counter, &bar);
    super::note(&mut found.engine, chosen);
    drop(bar);
    args.output.write(&report::sweep(&found, args.output.format, args.output.top)?)?;
    for failed in found.models.iter().filter_map(|m| Some((m, m.error.as_ref()?))) {
        eprintln!("driftsweep: model '{}' {}: {}", failed.0.model, failed.0.window, failed.1);
    }
    let s = found.summary;
    Ok(args.output.code(s.drifted > 0, s.failed + s.failed_comparisons > 0))
}
