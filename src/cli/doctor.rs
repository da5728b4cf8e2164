//! `driftsweep doctor`

use std::path::PathBuf;

use clap::Args;
use driftsweep::fleet::{Fleet, Options};
use driftsweep::snapshot::Snapshot;
use driftsweep::sweep::{self, BaselineSource};

#[derive(Args)]
pub struct DoctorArgs {
    /// A fleet file to check: every snapshot is opened, nothing is counted
    #[arg(value_name = "FLEET")]
    fleet: Option<PathBuf>,
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    println!("driftsweep {}", env!("CARGO_PKG_VERSION"));
    println!("threads    {}", rayon::current_num_threads());
    println!("backends   cpu (this build has no GPU backend)");
    let temporary = std::env::temp_dir();
    match tempfile::tempfile() {
        Ok(_) => println!("temporary  {} (writable; CSV files are unpacked there)", temporary.display()),
        Err(e) => println!("temporary  {} NOT WRITABLE: {e}; set TMPDIR", temporary.display()),
    }
    let Some(path) = &args.fleet else { return Ok(0) };

    let fleet = Fleet::read(path, &Options::new())?;
    println!("fleet      {}: {} models", fleet.name, fleet.models.len());
    let mut broken = 0;
    for model in &fleet.models {
        let baseline = BaselineSource::open(&model.baseline);
        for window in &model.windows {
            let outcome = match (&baseline, Snapshot::open(&window.current)) {
                (Err(error), _) => Err(format!("baseline: {error}")),
                (Ok(_), Err(error)) => Err(format!("current: {error}")),
                (Ok(baseline), Ok(current)) => {
                    sweep::check_model(model, baseline, &current).map(|()| (baseline.rows(), current.rows()))
                }
            };
            match outcome {
                Ok((a, b)) => println!("  ok       {} {}: {a} and {b} rows", model.name, window.name),
                Err(reason) => {
                    broken += 1;
                    println!("  BROKEN   {} {}: {reason}", model.name, window.name);
                }
            }
        }
    }
    Ok(if broken > 0 { super::PARTIAL } else { 0 })
}
