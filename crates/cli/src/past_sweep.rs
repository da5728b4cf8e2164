//! A past sweep of a fleet, from its history, and what its store says about it.

use std::path::PathBuf;

use clap::Args;
use driftsweep::history::past_report;
use driftsweep::model::Options;
use driftsweep::sweep::SweepReport;
use driftsweep_common::error::Error;
use driftsweep_fleet::Fleet;
use driftsweep_ops::store::Store;
use jiff::Timestamp;

use super::fleet_store::{StoreArgs, read_fleet};
use super::time_arg::TimeArg;

/// Which sweep of which fleet.
#[derive(Args)]
pub struct PastSweepArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// The last sweep up to this time; same format as in `tick` [default: the last sweep]
    #[arg(long, value_name = "TIME")]
    at: Option<TimeArg>,
}

/// A past sweep.
pub struct PastSweep {
    /// The fleet as its file is now.
    pub fleet: Fleet,
    /// The folder of the history.
    pub history: PathBuf,
    /// Its report.
    pub report: SweepReport,
    /// The time it counts as.
    pub as_of: Timestamp,
}

impl PastSweepArgs {
    /// Reads the report of the sweep.
    pub fn read(&self) -> anyhow::Result<PastSweep> {
        let fleet = read_fleet(&self.fleet, &Options::new())?;
        let at = self.at.as_ref().map(|at| at.resolve("--at", &fleet.zone)).transpose()?;
        let history = self.store.folders.history(&self.fleet);
        let found = match past_report(&history, &fleet.name, at.unwrap_or(Timestamp::MAX)) {
            Err(Error::NotFound { .. }) => None,
            other => other?,
        };
        let Some(report) = found else {
            let until = at.map(|at| format!(" up to {at}")).unwrap_or_default();
            let place = driftsweep_common::address::redacted(&history);
            let reason = format!(
                "{place} has no sweep of fleet '{}'{until}; run `driftsweep tick` or `driftsweep sweep`",
                fleet.name
            );
            return Err(super::invalid_value("report", &reason));
        };
        let as_of = report.as_of.parse()?;
        Ok(PastSweep { fleet, history, report, as_of })
    }

    /// The store of the fleet; `None` where no tick has run yet.
    pub fn store(&self, fleet: &Fleet) -> driftsweep_common::error::Result<Option<Store>> {
        let Some(mut store) = Store::read(&self.store.place(&self.fleet, fleet)?, &fleet.name)? else {
            return Ok(None);
        };
        Ok(if store.is_new()? { None } else { Some(store) })
    }
}
