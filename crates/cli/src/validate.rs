//! `driftsweep validate` and `schema`

use std::path::PathBuf;

use clap::Args;
use driftsweep::model::Options;
use driftsweep_fleet::FLEET_SCHEMA;
use driftsweep_report::output::{Document, Page};
use driftsweep_report::report::counted;

use super::fleet_store::read_fleet;
use super::write;

#[derive(Args)]
pub struct ValidateArgs {
    /// The fleet files
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleets: Vec<PathBuf>,
}

/// Reads fleet files, without their data. The first mistake is the error.
pub fn run(args: &ValidateArgs) -> anyhow::Result<u8> {
    let mut page = Page::new();
    for path in &args.fleets {
        let fleet = read_fleet(path, &Options::new())?;
        let retrained = fleet.models.iter().filter(|model| model.retrain.is_some()).count();
        page.line(format_args!(
            "{}: fleet '{}', {}, {retrained} of them with trainings, {}; `driftsweep doctor` checks their data",
            path.display(),
            fleet.name,
            counted(fleet.models.len(), "model"),
            counted(fleet.channels.len(), "channel")
        ));
    }
    write(page)?;
    Ok(0)
}

/// Prints the JSON Schema of fleet files.
pub fn schema() -> anyhow::Result<u8> {
    write(Document::exact(FLEET_SCHEMA.into()))?;
    Ok(0)
}
