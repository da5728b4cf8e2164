//! Human decisions: to approve, reject or cancel a job.

use jiff::Timestamp;
use serde::Serialize;

use super::{PassContext, StepResult, StepTime, advance, run_of, settings_of_run};
use crate::executor;
use crate::retrain::approval::{GrantedBy, in_time};
use crate::retrain::approvers::{self, AskedQuestion};
use crate::retrain::signature::{self, SignatureProblem};
use crate::retrain::statement::{self, ApprovalDecision, ApprovalQuestion};
use crate::retrain::{
    ApprovalRequest, Grant, Job, JobState, JobStep, Overrun, SignedStatement, Statement, StopRequest,
};
use crate::store::{Store, VersionedJob};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::Logins;
use driftsweep_fleet::{Currency, Fleet, Money};

/// An answer to an approval request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalAnswer {
    /// Approve; budgets may be overrun by this amount.
    Approve(Option<Money>),
    /// Reject.
    Reject,
}

/// Answers the request of a job; returns the job after it. The answer must be signed where the fleet file requires it;
/// a given signature must be valid.
///
/// # Errors
/// [`Error::BadValue`] if there is no request, if the person may not answer, if an overrun is not named, or if the
/// answer is not signed as it must be.
pub fn decide(
    fleet: &Fleet,
    store: &mut Store,
    id: &str,
    answer: ApprovalAnswer,
    (who, reason): (&str, &str),
    signature: Option<SignedStatement>,
    now: Timestamp,
) -> Result<Job> {
    let wrong = |reason: String| Error::BadValue { what: format!("job {id}"), reason };
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let when = StepTime { now, clock: None };
    let result = store.transaction(|store| {
        let versioned = recorded_job(store, id)?;
        let job = &versioned.job;
        let (request, allowed) = asked(fleet, store, job, answer, (who, signature.is_some()), now)?;
        // Only a statement names the event.
        let event_sha256 = if signature.is_some() { event_of(store, id)? } else { String::new() };
        let question = question(fleet, job, request, &event_sha256);
        let decision = ApprovalDecision { allows: allowed.as_deref(), by: who, reason };
        let stakes = fleet.retrain_of(&job.model).map(|retrain| retrain.stakes).unwrap_or_default();
        let rules = &fleet.governance.approval;
        signature::check(rules, stakes, &question, &decision, signature.as_ref())
            .map_err(|problem| wrong(problem.for_answer()))?;
        let (by, why, signature) = (who.to_owned(), reason.to_owned(), signature.clone());
        let step = match allowed {
            None => JobStep::Reject { by, reason: why, signature },
            Some(overruns) => JobStep::Approve {
                grant: Grant { by: GrantedBy::Person(by), reason: why, at: now, overruns, signature },
            },
        };
        // No other process can change it under the lock of the transaction.
        let after = advance(fleet, store, &versioned, &step, when, who)?;
        let after = applied(store, id, after)?;
        match after.job.state {
            JobState::Approved => {
                let queued = advance(fleet, store, &after, &JobStep::Queue, when, who)?;
                applied(store, id, queued)
            }
            _ => Ok(after),
        }
    });
    result.map(|versioned| versioned.job)
}

/// The statement to sign for an answer given now, at a time by the real clock.
///
/// # Errors
/// [`Error::BadValue`] as for [`decide()`], except for errors of signatures; or if the person has no key.
pub fn statement(
    fleet: &Fleet,
    store: &mut Store,
    id: &str,
    answer: ApprovalAnswer,
    (who, reason): (&str, &str),
    (now, clock): (Timestamp, Timestamp),
) -> Result<Statement> {
    let wrong = |reason: String| Error::BadValue { what: format!("job {id}"), reason };
    // The rows of a store of an older version are recorded first.
    let job = store.transaction(|store| recorded_job(store, id))?.job;
    let (request, allowed) = asked(fleet, store, &job, answer, (who, true), now)?;
    signature::can_sign(&fleet.governance.approval, who).map_err(wrong)?;
    let event_sha256 = event_of(store, id)?;
    let decision = ApprovalDecision { allows: allowed.as_deref(), by: who, reason };
    Statement::new(&question(fleet, &job, request, &event_sha256), &decision, clock).map_err(wrong)
}

/// The request for a person who may answer now, and the overruns that an approval allows.
fn asked<'a>(
    fleet: &Fleet,
    store: &mut Store,
    job: &'a Job,
    answer: ApprovalAnswer,
    (who, signed): (&str, bool),
    now: Timestamp,
) -> Result<(&'a ApprovalRequest, Option<Vec<Overrun>>)> {
    let wrong = |reason: String| Error::BadValue { what: format!("job {}", job.id), reason };
    let JobState::AwaitingApproval(request) = &job.state else {
        return Err(wrong(format!(
            "there is no approval request: its state is '{}'",
            job.state.name().replace('_', " ")
        )));
    };
    let asked = question_of(store, job, request)?;
    approvers::may_answer(&fleet.governance.approval, request, &asked, who).map_err(wrong)?;
    if now < request.asked_at {
        return Err(wrong(format!("the request was made at {}, later than {now}", request.asked_at)));
    }
    if !signed && asked.must_be_signed {
        let missing = SignatureProblem::Missing("the request was made under a rule that requires it".into());
        return Err(wrong(missing.for_answer()));
    }
    let clock = store.clock()?;
    in_time(request, asked.times(), (now, Some(clock))).map_err(wrong)?;
    approvers::in_time_by_records(request, &asked, Some(clock), store.latest_record_since(asked.seq)?)
        .map_err(wrong)?;
    let currency = &fleet.governance.budget.currency;
    let allowed = match answer {
        ApprovalAnswer::Reject => None,
        ApprovalAnswer::Approve(named) => Some(name_overruns(request.overruns(), named, currency).map_err(wrong)?),
    };
    Ok((request, allowed))
}

fn question<'a>(
    fleet: &'a Fleet,
    job: &'a Job,
    request: &'a ApprovalRequest,
    event_sha256: &'a str,
) -> ApprovalQuestion<'a> {
    ApprovalQuestion { fleet: &fleet.name, currency: &fleet.governance.budget.currency, job, request, event_sha256 }
}

/// The SHA-256 of the event of a job.
fn event_of(store: &mut Store, id: &str) -> Result<String> {
    let body = store.event_body(id)?.ok_or_else(|| Error::BadValue {
        what: format!("job {id}"),
        reason: "its event is not in the store, or cannot be read; an answer cannot be signed without it".into(),
    })?;
    Ok(statement::event_sha256(&body))
}

/// The kinds of records of approval requests.
const QUESTION_KINDS: &[&str] = &["job.ask", "job.escalate", "job.ask_again"];

/// A request from its record.
pub(super) fn question_of(store: &mut Store, job: &Job, request: &ApprovalRequest) -> Result<AskedQuestion> {
    let Some(found) = store.last_record(&job.id, QUESTION_KINDS)? else {
        return Ok(AskedQuestion::unknown(request));
    };
    let body = found.current_body()?;
    Ok(AskedQuestion::of(found.seq, (found.at, found.clock_at), &body))
}

/// The persons who may answer the request of a job now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CurrentApprovers {
    /// Their names; empty if nobody who was asked may answer any more.
    pub may_answer: Vec<String>,
    /// The same as text, with the persons who will be asked if nobody may answer.
    #[serde(skip)]
    pub sentence: String,
    /// Until when an answer is due.
    pub due: Timestamp,
    /// Whether the answer had to be signed by the rules at the request; the current fleet file may require it, too.
    pub must_be_signed: bool,
}

/// The persons who may answer the request of a job now; `None` if there is no request.
///
/// # Errors
/// [`Error::Store`]; [`Error::BadValue`] for a record that cannot be read.
pub fn answerers(fleet: &Fleet, store: &mut Store, job: &Job) -> Result<Option<CurrentApprovers>> {
    let JobState::AwaitingApproval(request) = &job.state else { return Ok(None) };
    let asked = question_of(store, job, request)?;
    let rules = &fleet.governance.approval;
    Ok(Some(CurrentApprovers {
        may_answer: approvers::who_may_answer(rules, request, &asked),
        sentence: approvers::sentence(rules, request, &asked),
        due: request.due,
        must_be_signed: asked.must_be_signed,
    }))
}

/// The allowed overruns: by the given amount, which must cover each.
fn name_overruns(
    overruns: Vec<Overrun>,
    named: Option<Money>,
    currency: &Currency,
) -> std::result::Result<Vec<Overrun>, String> {
    let most = overruns.iter().map(|overrun| overrun.by).max();
    match (most, named) {
        (None, None) => Ok(overruns),
        (None, Some(_)) => Err("no budget would be overrun; leave out --overrun".into()),
        (Some(by), None) => {
            let what: Vec<String> = overruns.iter().map(|overrun| overrun.sentence(currency)).collect();
            Err(format!("{}; give the amount that you allow with --overrun {}", what.join("; "), by.plain()))
        }
        (Some(by), Some(named)) if named < by => {
            Err(format!("--overrun {} is less than the overrun of {}", named.plain(), currency.show(by)))
        }
        (Some(_), Some(named)) => Ok(overruns.into_iter().map(|overrun| Overrun { by: named, ..overrun }).collect()),
    }
}

/// Cancels a job; returns the job after it. A running run is asked to stop; the job ends when the next pass sees that
/// the run has stopped.
///
/// # Errors
/// [`Error::BadValue`] if it is finished.
pub fn cancel(
    fleet: &Fleet,
    store: &mut Store,
    id: &str,
    (who, reason): (&str, &str),
    context: &PassContext<'_>,
    now: Timestamp,
) -> Result<Job> {
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let (by, reason) = (who.to_owned(), reason.to_owned());
    let when = StepTime { now, clock: Some(context.clock) };
    let after = store.transaction(|store| {
        let versioned = recorded_job(store, id)?;
        let step = match versioned.job.state {
            JobState::Running { .. } => JobStep::Stop { stopping: StopRequest { by, reason, overdue: false } },
            _ => JobStep::Cancel { cost: Money::ZERO, by, reason },
        };
        let after = advance(fleet, store, &versioned, &step, when, who)?;
        applied(store, id, after)
    })?;
    // The cancellation is recorded: after any failure from here on, the next pass repeats it.
    if let JobState::Running { attempt, .. } = &after.job.state
        && let Some(noted) = store.runs_of(id)?.into_iter().find(|run| run.attempt == *attempt)
        && store.run_problem(&noted)?.is_none()
    {
        let event = store.event_body(id)?;
        let run = run_of(fleet, context, (&after.job, event), &noted, now);
        let retrain = settings_of_run(fleet.retrain_of(&after.job.model), &noted);
        let _ = executor::of(retrain, context.http, context.program, &Logins::default()).cancel(&run, context.clock);
    }
    Ok(after.job)
}

/// The job after a step that must have been applied.
fn applied(store: &Store, id: &str, result: StepResult) -> Result<VersionedJob> {
    match result {
        StepResult::Applied(after) => Ok(*after),
        StepResult::Changed => Err(Error::BadValue {
            what: format!("job {id}"),
            reason: "it was changed at the same time; try again".into(),
        }),
        StepResult::Refused(problem) => Err(store.tampered(problem)),
    }
}

/// The job with an id, inside a transaction, if it is the job of its records.
fn recorded_job(store: &mut Store, id: &str) -> Result<VersionedJob> {
    let versioned = job_of(store, id)?;
    match store.check_job(&versioned)?.problem(&versioned.job) {
        None => Ok(versioned),
        Some(problem) => Err(store.tampered(problem)),
    }
}

/// The job with an id.
fn job_of(store: &mut Store, id: &str) -> Result<VersionedJob> {
    store.job(id)?.ok_or_else(|| {
        let damaged = store.unreadable().into_iter().find(|row| row.id == id);
        let reason = damaged.map_or_else(
            || "there is none; `jobs list` shows them".into(),
            |row| format!("its row in the store cannot be read: {}", row.reason),
        );
        Error::BadValue { what: format!("job {id}"), reason }
    })
}
