//! Damaged jobs: their rows, or those of their runs, cannot be read. They block others no longer than their runs may
//! last, and a person can close them.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{PassContext, run_duration, run_of, settings_of_run};
use crate::executor;
use crate::notify::{self, AuditedFact};
use crate::retrain::budget::Ledger;
use crate::retrain::{Job, JobState, JobStep};
use crate::store::{RunRecord, Store, UnreadableRow, VersionedJob};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::Logins;
use driftsweep_fleet::{Fleet, Money};

/// The ids of the running jobs that can be read: their runs are monitored.
pub(super) fn jobs_under_way(store: &mut Store) -> Result<HashSet<String>> {
    Ok(store.jobs_in("running")?.into_iter().map(|versioned| versioned.job.id).collect())
}

/// Whether a run that has not ended occupies a slot and its reserved amount. A run that is not monitored, because its
/// job cannot be read, does so as long as it may last.
pub(super) fn takes_a_slot(run: &RunRecord, looked_after: &HashSet<String>, now: Timestamp) -> bool {
    looked_after.contains(&run.job) || now.duration_since(run.started_at) < run.retrain.timeout
}

/// The start of the current budget month.
pub(super) fn month_start(fleet: &Fleet, now: Timestamp) -> Timestamp {
    Ledger::new(now, &fleet.zone).span(&fleet.zone).0
}

/// The runs that occupy a slot.
///
/// # Errors
/// [`Error::Store`].
pub fn runs_under_way(store: &mut Store, now: Timestamp) -> Result<Vec<RunRecord>> {
    let looked_after = jobs_under_way(store)?;
    let mut runs = store.runs_under_way()?;
    runs.retain(|run| takes_a_slot(run, &looked_after, now));
    Ok(runs)
}

/// Rows that cannot be read, and runs that are not monitored although their rows can be read: their job is missing, or
/// is in another state.
pub(super) fn unreadable_rows(store: &mut Store) -> Result<Vec<UnreadableRow>> {
    store.note_jobs_in_unknown_states()?;
    let (looked_after, runs) = (jobs_under_way(store)?, store.runs_under_way()?);
    let mut found = store.unreadable();
    for run in runs.into_iter().filter(|run| !looked_after.contains(&run.job)) {
        if found.iter().all(|row| row.table != "job" || row.id != run.job) {
            let reason = "it has not ended, but its job is not running, so it is not monitored".into();
            found.push(UnreadableRow { table: "run", id: format!("{}-{}", run.job, run.attempt), reason });
        }
    }
    Ok(found)
}

/// Why a job cannot be cancelled in the normal way; `None` where it can.
///
/// # Errors
/// [`Error::Store`].
pub fn damage_reason(store: &mut Store, id: &str) -> Result<Option<String>> {
    let job = store.job(id)?;
    let runs = store.runs_of(id)?;
    let damaged = store.unreadable();
    let of = |table: &str| {
        let is_of_job =
            |row: &&UnreadableRow| row.table == table && (row.id == id || row.id.starts_with(&format!("{id}-")));
        damaged.iter().find(is_of_job).map(|row| row.reason.clone())
    };
    let unreadable = match job.map(|versioned| versioned.job.state) {
        None => of("job").map(|reason| format!("its row in the store cannot be read: {reason}")),
        // Its end would not be noticed.
        Some(JobState::Running { attempt, .. }) if runs.iter().all(|run| run.attempt != attempt) => {
            Some(format!("its run in the store cannot be read: {}", of("run").unwrap_or_else(|| "it is gone".into())))
        }
        Some(_) => None,
    };
    Ok(match unreadable {
        Some(damage) => Some(damage),
        None => store.start_blockers(Timestamp::UNIX_EPOCH)?.jobs.remove(id).map(|blockers| blockers.join("; ")),
    })
}

/// Closes a damaged job, with what [`damage_reason`] has found: its event, its runs as far as they are known, and the
/// job. Its runs are recorded with the most they may have cost by now. The training system is asked to stop; a command
/// whose key was lost with the row is stopped at its timeout.
///
/// # Errors
/// [`Error::Store`].
pub fn close_damaged(
    fleet: &Fleet,
    store: &mut Store,
    (id, damage): (&str, &str),
    (who, reason): (&str, &str),
    context: &PassContext<'_>,
    now: Timestamp,
) -> Result<Job> {
    // As precise as the store keeps it, so that the job follows exactly from its records.
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let (job, left) = store.transaction(|store| {
        let wrong = |reason: &str| Error::BadValue { what: format!("job {id}"), reason: reason.into() };
        let event = store.open_events()?.into_iter().find(|event| event.id == id);
        let row = store.job(id)?;
        // The audit takes precedence; the row is used where there is no record. The key of a run is only in the row.
        let key = row.as_ref().and_then(|row| row.job.key.clone());
        let derived = store.derived_job(id)?;
        let derived = derived.map(|found| VersionedJob { job: Job { key, ..found.job }, version: found.version });
        let known = derived.or(row);
        let named = event.as_ref().map(|event| event.model.clone());
        let named = named.or(known.as_ref().map(|known| known.job.model.clone())).unwrap_or_default();
        store.restore_runs(id, fleet.retrain_of(&named))?;
        let runs = store.runs_of(id)?;
        let model = event.as_ref().map(|event| &event.model).or(runs.first().map(|run| &run.model));
        let (model, trigger) = (model.cloned().unwrap_or_default(), event.map_or_else(String::new, |e| e.trigger));
        let requested_at = runs.first().map_or(now, |run| run.started_at.min(now));
        let VersionedJob { job, version } = known.unwrap_or_else(|| {
            let job = Job::request(id, &model, &trigger, requested_at, now);
            VersionedJob { job, version: 1 }
        });
        let (mut added, mut left) = (Money::ZERO, Vec::new());
        for run in runs.into_iter().filter(|run| run.ended.is_none()) {
            let cost = cost_by_now(&run, now, context.clock);
            store.end_run(id, run.attempt, now, "cancelled", cost)?;
            added += cost;
            left.push(run);
        }
        // A run that cannot be read is ended, too.
        if let JobState::Running { attempt, .. } = job.state {
            store.end_run(id, attempt, now, "cancelled", Money::ZERO)?;
        }
        // A job that is finished by its records is restored.
        let is_over = job.state.is_final();
        let step = JobStep::Cancel { cost: added, by: who.to_owned(), reason: reason.to_owned() };
        // An attempt that ends here has no answer.
        let was_running = matches!(job.state, JobState::Running { .. });
        let about_answer = job.about_answer.clone().filter(|_| !was_running);
        let last = Job { about_answer, ..job.clone() };
        let closed = match is_over {
            true => job.clone(),
            false => last.apply(&step, now).map_err(|illegal| wrong(&illegal.to_string()))?,
        };
        store.replace_job(&VersionedJob { job: closed.clone(), version: version + u64::from(!is_over) })?;
        store.close_event(id, now, closed.state.name(), reason)?;
        let body = json!({
            "step": "cancel", "model": closed.model, "by": who, "reason": reason, "cost": added.plain(),
            "spent": fleet.governance.budget.currency.show(closed.spent), "damage": damage,
        });
        let kind = if is_over { "store.restore" } else { "job.cancel" };
        notify::record(fleet, store, AuditedFact { at: now, actor: who, kind, subject: id, body })?;
        Ok((closed, left))
    })?;
    // It is closed: failures from here on have no effect.
    for noted in left {
        let stop_at = noted.started_at.checked_add(noted.retrain.timeout).unwrap_or(Timestamp::MAX);
        let state = JobState::Running { attempt: noted.attempt, started_at: noted.started_at, stop_at };
        let event = store.event_body(id)?;
        let run = run_of(fleet, context, (&Job { state, ..job.clone() }, event), &noted, now);
        let declared = fleet.retrain_of(&job.model);
        // A row alone names no place to send anything to.
        let is_known = declared.is_some_and(|declared| declared.executor.same_place(&noted.retrain.executor));
        if !is_known && !store.has_recorded_settings(&noted)? {
            continue;
        }
        let retrain = settings_of_run(declared, &noted);
        let _ = executor::of(retrain, context.http, context.program, &Logins::default()).cancel(&run, context.clock);
    }
    Ok(job)
}

/// The most a run may have cost by now: it does not run longer than its timeout.
fn cost_by_now(run: &RunRecord, now: Timestamp, clock: Timestamp) -> Money {
    let lasted = run_duration(run, now, clock).clamp(SignedDuration::ZERO, run.retrain.timeout);
    run.retrain.rate.times(lasted.as_secs_f64() / 3600.0) + run.retrain.storage
}
