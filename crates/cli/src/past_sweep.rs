//! A past sweep of a fleet, from its history, and what its store says about it.

use std::path::PathBuf;

use clap::Args;
use driftsweep::history::{file_after, past_report};
use driftsweep::model::Options;
use driftsweep::sweep::SweepReport;
use driftsweep_common::address::redacted;
use driftsweep_common::error::Error;
use driftsweep_fleet::Fleet;
use driftsweep_ops::store::Store;
use jiff::{SignedDuration, Timestamp};

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
    /// The last sweep up to this time; same format as in `tick` [default: the last sweep of a tick, or the last sweep where
    /// no tick has run]
    #[arg(long, value_name = "TIME")]
    at: Option<TimeArg>,
}

/// Clocks of two machines may differ by so much.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_hours(24);

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
        let now = Timestamp::now().checked_add(CLOCK_DIFFERENCE).unwrap_or(Timestamp::MAX);
        let find = |until: Timestamp| match past_report(&history, &fleet.name, until) {
            Err(Error::NotFound { .. }) => Ok(None),
            other => other,
        };
        let of_tick = match at {
            Some(_) => None,
            None => self
                .store(&fleet)?
                .map(|mut store| store.last_sweeps(1))
                .transpose()?
                .and_then(|sweeps| sweeps.first().copied()),
        };
        let found = match of_tick.filter(|of_tick| *of_tick <= now).map(find).transpose()?.flatten() {
            // The figures that the triggers were judged by.
            Some(report) if of_tick.is_some_and(|of_tick| report.as_of == of_tick.to_string()) => Some(report),
            _ => find(at.unwrap_or(now))?,
        };
        let Some(report) = found else {
            let until = at.map(|at| format!(" up to {at}")).unwrap_or_default();
            let place = redacted(&history);
            let reason = format!(
                "{place} has no sweep of fleet '{}'{until}; run `driftsweep tick` or `driftsweep sweep`",
                fleet.name
            );
            return Err(super::invalid_value("history", &reason));
        };
        if at.is_none() {
            detail!("the sweep of {}", report.as_of);
            if let Some(later) = file_after(&history, now)? {
                warn!("{}: is of a time to come, and left out; remove it if its time was a mistake", redacted(&later));
            }
        }
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
