//! Jobs that the store no longer holds whole: their rows, or those of their runs, cannot be read. They hold up no others for
//! longer than their runs may last, and a person can close them.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{PassContext, run_duration, run_of, settings_of_run};
use crate::error::{Error, Result};
use crate::executor::{self, Logins};
use crate::fleet::{Fleet, Money};
use crate::notify::{self, AuditedFact};
use crate::retrain::budget::Ledger;
use crate::retrain::{Job, JobState, JobStep};
use crate::store::{RunRecord, Store, UnreadableRow, VersionedJob};

/// The names of the jobs that are under way and can be read: their runs are looked after.
pub(super) fn jobs_under_way(store: &mut Store) -> Result<HashSet<String>> {
    Ok(store.jobs_in("running")?.into_iter().map(|versioned| versioned.job.id).collect())
}

/// Whether a run that has not ended takes a turn, and the money that was set aside for it. One that nobody looks after, for its
/// job cannot be read, does so for as long as it may last.
pub(super) fn takes_a_slot(run: &RunRecord, looked_after: &HashSet<String>, now: Timestamp) -> bool {
    looked_after.contains(&run.job) || now.duration_since(run.started_at) < run.retrain.timeout
}

/// When the month began whose budgets count.
pub(super) fn month_start(fleet: &Fleet, now: Timestamp) -> Timestamp {
    Ledger::new(now, &fleet.zone).span(&fleet.zone).0
}

/// The runs that take a turn.
///
/// # Errors
/// [`Error::Store`].
pub fn runs_under_way(store: &mut Store, now: Timestamp) -> Result<Vec<RunRecord>> {
    let looked_after = jobs_under_way(store)?;
    let mut runs = store.runs_under_way()?;
    runs.retain(|run| takes_a_slot(run, &looked_after, now));
    Ok(runs)
}

/// Rows that cannot be read, and runs that nobody looks after although all rows of them can: their job is gone, or is in
/// another state.
pub(super) fn unreadable_rows(store: &mut Store) -> Result<Vec<UnreadableRow>> {
    store.note_jobs_in_unknown_states()?;
    let (looked_after, runs) = (jobs_under_way(store)?, store.runs_under_way()?);
    let mut found = store.unreadable();
    for run in runs.into_iter().filter(|run| !looked_after.contains(&run.job)) {
        if found.iter().all(|row| row.table != "job" || row.id != run.job) {
            let reason = "it has not ended, and its job is not under way: nobody looks after it".into();
            found.push(UnreadableRow { table: "run", id: format!("{}-{}", run.job, run.attempt), reason });
        }
    }
    Ok(found)
}

/// Why a job cannot be called off as others are; `None` where it can.
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
        // Nobody would see that it has stopped.
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

/// Closes a damaged job, with what [`damage_reason`] has found: its event, its runs as far as they are known, and the job. What its runs cost is what they may have
/// cost by now. Those who train are told to stop; a command whose key was lost with the row is stopped when its time is up.
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
        // What the audit says counts; the row is taken for it where there is no record. The key of a run is in the row only.
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
        // A run that cannot be read has ended, too.
        if let JobState::Running { attempt, .. } = job.state {
            store.end_run(id, attempt, now, "cancelled", Money::ZERO)?;
        }
        // What is at its end by its records is put back as it was.
        let is_over = job.state.is_final();
        let step = JobStep::Cancel { cost: added, by: who.to_owned(), reason: reason.to_owned() };
        // Of an attempt that ends here no answer is known.
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
    // It is closed: whatever goes wrong from here on, nobody waits for it.
    for noted in left {
        let stop_at = noted.started_at.checked_add(noted.retrain.timeout).unwrap_or(Timestamp::MAX);
        let state = JobState::Running { attempt: noted.attempt, started_at: noted.started_at, stop_at };
        let Ok(run) = run_of(fleet, store, context, &Job { state, ..job.clone() }, &noted, now) else { continue };
        let retrain = settings_of_run(fleet.retrain_of(&job.model), &noted);
        let _ = executor::of(retrain, context.http, context.program, &Logins::default()).cancel(&run, context.clock);
    }
    Ok(job)
}

/// What a run may have cost by now: it does not outlast its timeout.
fn cost_by_now(run: &RunRecord, now: Timestamp, clock: Timestamp) -> Money {
    let lasted = run_duration(run, now, clock).clamp(SignedDuration::ZERO, run.retrain.timeout);
    run.retrain.rate.times(lasted.as_secs_f64() / 3600.0) + run.retrain.storage
}
