//! The flags that commands for human decisions share: who, when and why.

use clap::Args;
use driftsweep_fleet::Fleet;
use driftsweep_ops::retrain::approvers::MAX_CLOCK_AHEAD;
use jiff::Timestamp;

use super::fleet_store::FleetStoreArgs;
use super::time_arg::{TimeArg, now_or};

/// Who decides, and why.
#[derive(Args)]
pub struct DecisionArgs {
    #[command(flatten)]
    pub memory: FleetStoreArgs,
    /// The reason; it is stored in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who decides [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Override the current time; same format as in `tick` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
}

/// The person who decides: the given name, or `$USER`.
///
/// # Errors
/// If neither is set: a decision always has an author.
pub fn decider(by: Option<&String>) -> anyhow::Result<String> {
    match by.cloned().or_else(|| super::variable("USER")) {
        Some(who) if who.trim().is_empty() => {
            Err(super::invalid_value("--by", "must not be empty: it is stored in the audit"))
        }
        Some(who) => Ok(who),
        None => Err(super::invalid_value("--by", "must say who decides: $USER is not set")),
    }
}

/// The reason, as it is stored in the audit.
///
/// # Errors
/// If it is empty.
pub fn checked_reason(reason: &str) -> anyhow::Result<&str> {
    match reason.trim() {
        "" => Err(super::invalid_value("--reason", "must not be empty: it is stored in the audit")),
        reason => Ok(reason),
    }
}

impl DecisionArgs {
    /// Who decides, and when.
    pub fn actor_and_time(&self, fleet: &Fleet) -> anyhow::Result<(String, Timestamp)> {
        checked_reason(&self.reason)?;
        let who = decider(self.by.as_ref())?;
        let clock = Timestamp::now();
        let now = now_or(self.now.as_ref(), &fleet.zone, clock)?;
        if now.duration_since(clock) > MAX_CLOCK_AHEAD {
            return Err(super::invalid_value("--now", "is in the future"));
        }
        Ok((who, now))
    }
}
