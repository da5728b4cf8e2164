//! Corrections after a clock that was ahead: what it has written is in the future, and nothing would be due until then.

use driftsweep_common::error::Result;
use driftsweep_fleet::Fleet;
use jiff::Timestamp;
use serde_json::json;

use crate::notify::{self, AuditedFact};
use crate::retrain::approvers::latest_correct_time;
use crate::retrain::clock::CLOCK_AHEAD;
use crate::store::{CLOCK_SUBJECT, Store};

/// The latest time that a correct clock may have recorded. A pass with a later effective time has its own limit.
pub(super) fn limit(store: &mut Store, now: Timestamp) -> Result<Timestamp> {
    Ok(latest_correct_time(now, store.clock()?))
}

/// Undoes what a clock has written that was ahead, because a person says so: with an audit record and a message. Returns the
/// latest of its times; nothing is done where there are none.
///
/// # Errors
/// [`driftsweep_common::error::Error::Locked`] if a tick is running;
/// [`driftsweep_common::error::Error::Store`].
pub fn correct_clock(
    fleet: &Fleet,
    store: &mut Store,
    (by, reason): (&str, &str),
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    store.with_lock("tick", |store| {
        let limit = limit(store, now)?;
        let Some(latest) = store.noted_after(limit)? else { return Ok(None) };
        store.transaction(|store| {
            let sweeps = store.undo_future_times(limit, now)?;
            let body = json!({
                "latest": latest, "sweeps": sweeps, "models": fleet.models.len(), "now": now, "reason": reason,
            });
            let fact = AuditedFact { at: now, actor: by, kind: CLOCK_AHEAD, subject: CLOCK_SUBJECT, body };
            notify::record(fleet, store, fact)
        })?;
        Ok(Some(latest))
    })
}
