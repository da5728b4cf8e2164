//! `driftsweep demo`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use driftsweep::fleet::Fleet;
use driftsweep::report;
use driftsweep::sweep::{Plan, Run};

use super::{Bar, EngineArgs, OutputArgs};

#[derive(Args)]
pub struct DemoArgs {
    /// The repository's data
    #[arg(long, default_value = "datasets", value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &DemoArgs) -> anyhow::Result<u8> {
    args.output.check()?;
    let started = Instant::now();
    let options = args.engine.start(false)?;
    let fleet = Fleet::read(&args.data.join("demo.toml"), &options)?;
    let bar = Bar::new();
    let plan = Plan::new(&fleet, jiff::Timestamp::now());
    let chosen = args.engine.counter(|| plan.survey().workload)?;
    let mut found = Run { progress: &bar, ..Run::new(&*chosen.counter) }.sweep(&plan);
    super::note(&mut found.engine, chosen);
    drop(bar);
    args.output.write(&report::sweep(&found, args.output.format, args.output.top)?)?;
    say!("swept in {:.2} s", started.elapsed().as_secs_f64());
    let s = found.summary;
    Ok(args.output.code(s.drifted > 0, s.failed + s.failed_comparisons > 0))
}
