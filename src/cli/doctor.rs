//! `driftsweep doctor`

use std::path::PathBuf;

use clap::Args;
use driftsweep::error::Error;
use driftsweep::fleet::{Fleet, Options};
use driftsweep::snapshot::Snapshot;
use driftsweep::sweep::BaselineSource;

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
        let mut check = |what: &str, outcome: Result<u64, Error>| match outcome {
            Ok(rows) => println!("  ok       {} {what}: {rows} rows", model.name),
            Err(error) => {
                broken += 1;
                println!("  BROKEN   {} {what}: {error}", model.name);
            }
        };
        check("baseline", BaselineSource::open(&model.baseline).map(|b| b.rows()));
        for window in &model.windows {
            check(&format!("current {}", window.name), Snapshot::open(&window.current).map(|s| s.rows()));
        }
    }
    Ok(if broken > 0 { super::PARTIAL } else { 0 })
}
