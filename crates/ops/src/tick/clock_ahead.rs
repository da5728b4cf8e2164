//! Corrections after a clock that was ahead: its records are in the future, and nothing would be due until then.

use jiff::Timestamp;
use serde_json::json;

use super::{TickPass, by_name};
use crate::notify::{self, AuditedFact};
use crate::retrain::approvers::MAX_CLOCK_AHEAD;
use crate::store::{SYSTEM_ACTOR, Store};
use driftsweep_common::error::Result;

/// The latest time that a correct clock may have recorded. A pass with a later effective time has its own limit.
pub(super) fn limit(store: &mut Store, now: Timestamp) -> Result<Timestamp> {
    Ok(now.max(store.clock()?).checked_add(MAX_CLOCK_AHEAD).unwrap_or(Timestamp::MAX))
}

impl TickPass<'_> {
    /// Undoes records in the future, with an audit record and a message.
    pub(super) fn correct_clock(&mut self) -> Result<()> {
        let (fleet, now, limit) = (self.fleet, self.now, self.limit);
        let Some(latest) = self.store.noted_after(limit)? else { return Ok(()) };
        (self.step)("take back");
        self.store.transaction(|store| {
            let sweeps = store.undo_future_times(limit, now)?;
            let body = json!({ "latest": latest, "sweeps": sweeps, "models": fleet.models.len(), "now": now });
            let fact = AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: "clock.ahead", subject: "store", body };
            notify::record(fleet, store, fact)
        })?;
        self.known = by_name(self.store.known()?);
        self.ticked.clock_was_ahead = Some(latest);
        Ok(())
    }
}
