//! What people decide: who, when and why. Flags that such commands share.

use clap::Args;
use driftsweep::fleet::Fleet;
use jiff::{SignedDuration, Timestamp};

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

impl DecisionArgs {
    /// Who decides, and when.
    pub fn who_and_when(&self, fleet: &Fleet) -> anyhow::Result<(String, Timestamp)> {
        if self.reason.trim().is_empty() {
            return Err(super::bad("--reason", "must not be empty: it is kept in the audit"));
        }
        let who = self.by.clone().or_else(|| super::variable("USER"));
        let who = who.ok_or_else(|| super::bad("--by", "must say who decides: $USER is not set"))?;
        let clock = Timestamp::now();
        let now = now_or(self.now.as_ref(), &fleet.zone, clock)?;
        if now.duration_since(clock) > SignedDuration::from_hours(24) {
            return Err(super::bad("--now", "lies in the future"));
        }
        Ok((who, now))
    }
}
