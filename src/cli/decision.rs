//! What people decide: who, when and why. Flags that such commands share.

use clap::Args;
use driftsweep::fleet::Fleet;
use driftsweep::retrain::asked::MOST_AHEAD;
use jiff::Timestamp;

use super::memory::MemoryArgs;
use super::when::{When, now_or};

/// Who decides, and why.
#[derive(Args)]
pub struct DecisionArgs {
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Why: it is kept in the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who decides [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The time it is taken to be, as for tick [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<When>,
}

/// Who decides: the name that was given, or `$USER`.
///
/// # Errors
/// If neither says it: nobody is put down as somebody.
pub fn who(by: Option<&String>) -> anyhow::Result<String> {
    match by.cloned().or_else(|| super::variable("USER")) {
        Some(who) if who.trim().is_empty() => Err(super::bad("--by", "must not be empty: it is kept in the audit")),
        Some(who) => Ok(who),
        None => Err(super::bad("--by", "must say who decides: $USER is not set")),
    }
}

/// Why, as it is kept in the audit.
///
/// # Errors
/// If it says nothing.
pub fn why(reason: &str) -> anyhow::Result<&str> {
    match reason.trim() {
        "" => Err(super::bad("--reason", "must not be empty: it is kept in the audit")),
        reason => Ok(reason),
    }
}

impl DecisionArgs {
    /// Who decides, and when.
    pub fn who_and_when(&self, fleet: &Fleet) -> anyhow::Result<(String, Timestamp)> {
        why(&self.reason)?;
        let who = who(self.by.as_ref())?;
        let clock = Timestamp::now();
        let now = now_or(self.now.as_ref(), &fleet.zone, clock)?;
        if now.duration_since(clock) > MOST_AHEAD {
            return Err(super::bad("--now", "lies in the future"));
        }
        Ok((who, now))
    }
}
