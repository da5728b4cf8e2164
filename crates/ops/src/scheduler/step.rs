//! A step of a job with all its effects, in one transaction.

use jiff::Timestamp;
use serde_json::Value;

use super::{amounts, renew, versions};
use crate::notify::{self, AuditedFact};
use crate::policy;
use crate::retrain::approvers;
use crate::retrain::signature;
use crate::retrain::{BaselineRenewal, Job, JobState, JobStep};
use crate::store::{JobCheck, RunRecord, Store, VersionedJob};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::{key_of, new_secret};
use driftsweep_extensions::trigger;
use driftsweep_fleet::{Fleet, Money};
use driftsweep_training::gate::{Gate, GateReport};

/// The time of a step.
#[derive(Clone, Copy)]
pub(super) struct StepTime {
    /// By the effective time.
    pub(super) now: Timestamp,
    /// By the real clock, where that is known.
    pub(super) clock: Option<Timestamp>,
}

/// What became of a step.
pub(super) enum StepResult {
    /// It was applied: the job after it.
    Applied(Box<VersionedJob>),
    /// Another process has changed the job since it was read.
    Changed,
    /// The job that was read, or its row, is not the job of its records.
    Refused(String),
}

/// Applies a step to a job, inside a transaction and before anything else is written there. The job must be the one that
/// its records in the audit give: a row alone allows nothing, whenever it was edited. All effects are written with the
/// step: reserved or spent amounts, the end of the event, the audit and the messages.
pub(super) fn advance(
    fleet: &Fleet,
    store: &mut Store,
    versioned: &VersionedJob,
    step: &JobStep,
    StepTime { now, clock }: StepTime,
    actor: &str,
) -> Result<StepResult> {
    match store.check_job(versioned)? {
        JobCheck::Same => {}
        JobCheck::Moved => return Ok(StepResult::Changed),
        JobCheck::Differs(problem) => return Ok(StepResult::Refused(problem)),
    }
    let before = &versioned.job;
    let mut job = before
        .apply(step, now)
        .map_err(|illegal| Error::BadValue { what: format!("job {}", before.id), reason: illegal.to_string() })?;
    if let (JobState::Queued { .. }, JobState::Running { .. }) = (&before.state, &job.state) {
        let secret = run_secret(store)?;
        job.key = Some(key_of(&secret, &job.id, job.attempts));
    }
    if !store.set_job(&job, versioned.version)? {
        return Ok(StepResult::Changed);
    }
    if let (JobState::Queued { .. }, JobState::Running { attempt, started_at, .. }) = (&before.state, &job.state) {
        let (attempt, started_at) = (*attempt, *started_at);
        let retrain = fleet.retrain_of(&job.model).cloned().ok_or_else(|| Error::BadValue {
            what: format!("job {}", job.id),
            reason: "the fleet file does not say how to train its model".into(),
        })?;
        let estimate = job.estimate.unwrap_or_else(|| crate::retrain::CostEstimate::new(Money::ZERO, &[]));
        store.add_run(&RunRecord {
            job: job.id.clone(),
            attempt,
            model: job.model.clone(),
            retrain,
            // It is not read from the store.
            retrain_hash: String::new(),
            started_at,
            clock_at: clock,
            lost_at: None,
            declared: estimate.declared,
            committed: estimate.high,
            seen: false,
            ended: None,
        })?;
    }
    let mut body = serde_json::to_value(step)
        .map_err(|e| Error::BadValue { what: format!("job {}", job.id), reason: e.to_string() })?;
    if let (JobState::Running { attempt, .. }, false) = (&before.state, matches!(step, JobStep::Stop { .. })) {
        let attempt = *attempt;
        let outcome = match step {
            JobStep::Retry { .. } => "failed",
            JobStep::Gate { .. } => "succeeded",
            _ => job.state.name(),
        };
        let cost = job.spent - before.spent;
        store.end_run(&job.id, attempt, now, outcome, cost)?;
        body["attempt"] = attempt.into();
        body["cost"] = cost.plain().into();
        if let Some(reason) = &job.about_answer {
            body["about_answer"] = reason.clone().into();
        }
    }
    amounts::as_text(&mut body);
    if job.state.is_final() {
        let (outcome, note) = match &job.state {
            JobState::Succeeded => ("trained", String::new()),
            state => (state.name(), state.reason().to_owned()),
        };
        // It may have been closed by a person.
        store.close_event(&job.id, now, outcome, &note.replace('\0', "\u{fffd}"))?;
        if job.state == JobState::Succeeded {
            store.set_trained(&job.model, now)?;
        }
    }
    if let JobState::AwaitingApproval(_) = job.state {
        body["evidence"] = evidence(store, &job)?.into();
    }
    describe(fleet, &job, &mut body);
    let kind = format!("job.{}", step.name());
    notify::record(fleet, store, AuditedFact { at: now, actor, kind: &kind, subject: &job.id, body })?;
    versions::after_step(fleet, store, before, &job, step, now)?;
    renew::after_training(fleet, store, &job, step, now)?;
    Ok(StepResult::Applied(Box::new(VersionedJob { job, version: versioned.version + 1 })))
}

/// The secret for the keys of runs, inside a transaction. It is created as early as possible, so that backups contain
/// it.
pub(super) fn run_secret(store: &mut Store) -> Result<String> {
    if let Some(secret) = store.run_secret()? {
        return Ok(secret);
    }
    let secret = new_secret().map_err(no_random_bytes)?;
    store.set_run_secret(&secret)?;
    Ok(secret)
}

fn no_random_bytes(e: std::io::Error) -> Error {
    Error::BadValue { what: "/dev/urandom".into(), reason: e.to_string() }
}

/// The evidence of the trigger of a job, in short.
fn evidence(store: &mut Store, job: &Job) -> Result<Vec<String>> {
    const COLUMNS: usize = 3;
    let Some(body) = store.event_body(&job.id)? else { return Ok(Vec::new()) };
    Ok(match policy::event::read(&body) {
        Ok(event) => trigger::evidence(&job.trigger, &event["data"]["details"], COLUMNS),
        Err(reason) => {
            let sentence = format!("its event cannot be read: {reason}");
            store.set_aside("event", &job.id, reason);
            vec![sentence]
        }
    })
}

/// What the gates said: those that did not pass with what to look at, or else how many passed.
fn gate_lines(report: &GateReport) -> Vec<String> {
    let line = |gate: &Gate| {
        let advice = gate.advice.as_ref().map_or_else(String::new, |advice| format!(" ({advice})"));
        format!("{}: {}{advice}", gate.name, gate.sentence)
    };
    let open: Vec<String> = report.open().map(line).collect();
    match open.is_empty() {
        true => vec![format!("it passes all of its {} gates", report.gates.len())],
        false => open,
    }
}

/// Adds details for the messages about a step.
fn describe(fleet: &Fleet, job: &Job, body: &mut Value) {
    let currency = &fleet.governance.budget.currency;
    body["model"] = job.model.clone().into();
    match &job.state {
        JobState::Running { attempt, .. } => body["attempt"] = (*attempt).into(),
        JobState::AwaitingApproval(request) => {
            let reasons: Vec<String> = request.reasons.iter().map(|reason| reason.sentence(currency)).collect();
            let rules = &fleet.governance.approval;
            let asked = rules.approvers.get(approvers::level(rules, request)).cloned().unwrap_or_default();
            body["question"] = reasons.join("; ").into();
            body["asked"] = asked.join(", ").into();
            let stakes = fleet.retrain_of(&job.model).map(|retrain| retrain.stakes).unwrap_or_default();
            let wanted = signature::signature_reason(rules, &request.reasons, stakes);
            body["must_be_signed"] = wanted.is_some().into();
            body["may_answer"] = approvers::approvers_of(rules, request).into();
            if let (Some(estimate), Some(worth)) = (&job.estimate, &job.worth) {
                body["expected"] = currency.show(estimate.expected).into();
                body["low"] = currency.show(estimate.low).into();
                body["high"] = currency.show(estimate.high).into();
                body["gain"] = currency.show(worth.gain).into();
            }
        }
        state if state.is_final() => {
            body["spent"] = currency.show(job.spent).into();
            if let Some(sentence) = job.baseline.as_ref().and_then(BaselineRenewal::sentence) {
                body["about_baseline"] = sentence.into();
            }
            if let Some(report) = &job.gates {
                body["about_gates"] = gate_lines(report).into();
            }
        }
        _ => {}
    }
}
