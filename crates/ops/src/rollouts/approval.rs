//! Approval that a version enters a stage: who may give it, whether it must be signed, and whether it still counts.
//!
//! A rollout goes on only while the approvals of all stages that it has entered count by the fleet file as it is: someone who
//! can write the store may have entered a stage, and approvers, keys and rules change. Whatever does not count is approved
//! again, or the candidate is taken back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::retrain::signature::{self, STAGE_RECORDS};
use crate::retrain::{ModelVersion, SignedStatement, StageApproval, Statement, VersionName};
use crate::store::{Record, SYSTEM_ACTOR, Store};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{Fleet, Model, Stakes};
use driftsweep_release::{Decision, Rollout, RolloutState};

/// An approval that is missing, or does not count any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovalProblem {
    /// The stage, by its index in the plan.
    pub stage: usize,
    /// What is wrong.
    pub reason: String,
}

/// Why the approval of a stage of a model must be signed; `None` where it need not.
pub fn signature_reason(fleet: &Fleet, model: &Model) -> Option<String> {
    signature::signature_reason(&fleet.governance.approval, &[], stakes(model))
}

fn stakes(model: &Model) -> Stakes {
    model.retrain.as_ref().map(|retrain| retrain.stakes).unwrap_or_default()
}

/// Who may approve a stage: the approvers of all levels.
pub fn approvers_sentence(fleet: &Fleet) -> String {
    match &fleet.governance.approval.approvers.concat()[..] {
        [] => "nobody may: the fleet file names no approvers ([approval])".into(),
        names => format!("those who may are {}", names.join(", ")),
    }
}

fn is_approver(fleet: &Fleet, who: &str) -> bool {
    fleet.governance.approval.approvers.iter().flatten().any(|approver| approver == who)
}

/// A rollout with the approvals that the fleet file asks for now, beside those of its plan.
pub fn with_current_rules(model: &Model, rollout: Rollout) -> Rollout {
    match &model.rollout {
        Some(config) => rollout.with_approvals_of(&config.stages),
        None => rollout,
    }
}

/// The first stage that a rollout has entered and whose approval does not count now; `None` where all count.
///
/// # Errors
/// [`Error::Store`].
pub fn problem(fleet: &Fleet, store: &mut Store, model: &Model, rollout: &Rollout) -> Result<Option<ApprovalProblem>> {
    let entered = match &rollout.state {
        RolloutState::Settled => rollout.plan.stages.len(),
        state => state.stage().map_or(0, |stage| stage + 1),
    };
    let asked: Vec<usize> = (0..entered).filter(|stage| rollout.needs_approval_of(*stage)).collect();
    if asked.is_empty() {
        return Ok(None);
    }
    // By the number of the stage, from 1, in their order.
    let mut given: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
    store.audit(&model.name, |record| {
        // A stage that a tick has entered was approved by nobody.
        if STAGE_RECORDS.contains(&&*record.kind)
            && record.actor != SYSTEM_ACTOR
            && record.body["version"] == rollout.version
            && let Some(number) = record.body["stage_number"].as_u64()
        {
            given.entry(number).or_default().push(record);
        }
        Ok(())
    })?;
    let version = store.version(&model.name, &VersionName::Number(rollout.version))?;
    for stage in asked {
        let name = &rollout.plan.stages[stage].name;
        let mut reason = format!("stage '{name}' needs approval, and was entered without one");
        let mut is_approved = false;
        for record in given.remove(&(stage as u64 + 1)).unwrap_or_default() {
            let counted = version.as_ref().ok_or_else(|| "the version is not known any more".to_owned());
            match counted.and_then(|version| counts(fleet, model, (rollout, version, stage), &record)) {
                Ok(()) => is_approved = true,
                Err(why) => {
                    reason = format!("the approval of stage '{name}' by '{}' does not count: {why}", record.actor)
                }
            }
        }
        if !is_approved {
            return Ok(Some(ApprovalProblem { stage, reason }));
        }
    }
    Ok(None)
}

/// Whether a recorded approval counts by the fleet file.
fn counts(
    fleet: &Fleet,
    model: &Model,
    (rollout, version, stage): (&Rollout, &ModelVersion, usize),
    record: &Record,
) -> std::result::Result<(), String> {
    if !is_approver(fleet, &record.actor) {
        return Err("this person is not an approver".into());
    }
    let signed = match &record.body["signature"] {
        serde_json::Value::Null => None,
        signed => Some(SignedStatement::deserialize(signed).map_err(|e| format!("its signature cannot be read: {e}"))?),
    };
    let reason = record.body["reason"].as_str().unwrap_or_default();
    let approval = approval_of(fleet, rollout, version, stage, (&record.actor, reason));
    let rules = &fleet.governance.approval;
    signature::check_stage(rules, stakes(model), &approval, signed.as_ref()).map_err(|problem| problem.to_string())
}

/// What the next tick does with a rollout, by the fleet file as it is.
///
/// # Errors
/// [`Error::Store`].
pub fn next(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    rollout: &Rollout,
    now: Timestamp,
) -> Result<(Decision, Option<ApprovalProblem>)> {
    if rollout.state.is_final() {
        return Ok((rollout.decide(now), None));
    }
    let rollout = with_current_rules(model, rollout.clone());
    let problem = problem(fleet, store, model, &rollout)?;
    Ok(match (rollout.decide(now), &problem) {
        (decision @ Decision::RollBack { .. }, _) | (decision, None) => (decision, problem),
        (_, Some(ApprovalProblem { reason, .. })) => {
            (Decision::Wait { reason: reason.clone(), rows_needed: None }, problem)
        }
    })
}

/// The stage that a person approves now: one whose approval does not count, or else the next one.
fn asked_stage(fleet: &Fleet, store: &mut Store, model: &Model, rollout: &Rollout) -> Result<usize> {
    let wrong = |reason: &str| Error::BadValue { what: format!("rollout of '{}'", model.name), reason: reason.into() };
    match problem(fleet, store, model, rollout)? {
        Some(problem) => Ok(problem.stage),
        None => rollout.next_stage().ok_or_else(|| wrong("it has all traffic already; it is settled after its time")),
    }
}

/// The statement to sign for the approval of a stage of the rollout of a model, given at a time by the real clock.
///
/// # Errors
/// [`Error::BadValue`] where no rollout is under way, it has no stage to approve, or the person may not approve it or has no
/// key; [`Error::Store`].
pub fn statement(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    (by, reason): (&str, &str),
    clock: Timestamp,
) -> Result<Statement> {
    let wrong = |reason: String| Error::BadValue { what: format!("rollout of '{}'", model.name), reason };
    let rollout = store.open_rollout(&model.name)?.ok_or_else(|| wrong(NONE_IS_OPEN.into()))?.rollout;
    let rollout = with_current_rules(model, rollout);
    let stage = asked_stage(fleet, store, model, &rollout)?;
    may_approve(fleet, &rollout, stage, by).map_err(wrong)?;
    signature::can_sign(&fleet.governance.approval, by).map_err(wrong)?;
    let version = released(store, &rollout)?;
    Statement::of_stage(&approval_of(fleet, &rollout, &version, stage, (by, reason)), clock).map_err(wrong)
}

/// Why there is nothing to decide.
pub(super) const NONE_IS_OPEN: &str = "none is under way; `driftsweep rollout list` shows all";

/// The stage that the decision of a person approves, if the decision counts: where that stage needs approval it is an
/// approver's, and signed where the rules require it. A given signature must be valid.
///
/// # Errors
/// [`Error::BadValue`] where it does not count, or there is no stage to approve; [`Error::Store`].
pub(super) fn check(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    rollout: &Rollout,
    (by, reason): (&str, &str),
    signed: Option<&SignedStatement>,
) -> Result<usize> {
    let wrong = |reason: String| Error::BadValue { what: format!("rollout of '{}'", model.name), reason };
    let stage = asked_stage(fleet, store, model, rollout)?;
    may_approve(fleet, rollout, stage, by).map_err(wrong)?;
    if signed.is_none() && !rollout.needs_approval_of(stage) {
        return Ok(stage);
    }
    let version = released(store, rollout)?;
    let approval = approval_of(fleet, rollout, &version, stage, (by, reason));
    let checked = signature::check_stage(&fleet.governance.approval, stakes(model), &approval, signed);
    checked.map_err(|problem| wrong(problem.for_answer()))?;
    Ok(stage)
}

fn may_approve(fleet: &Fleet, rollout: &Rollout, stage: usize, by: &str) -> std::result::Result<(), String> {
    match !rollout.needs_approval_of(stage) || is_approver(fleet, by) {
        true => Ok(()),
        false => Err(format!("'{by}' may not approve it; {}", approvers_sentence(fleet))),
    }
}

fn released(store: &mut Store, rollout: &Rollout) -> Result<ModelVersion> {
    store.version(&rollout.model, &VersionName::Number(rollout.version))?.ok_or_else(|| Error::BadValue {
        what: format!("rollout {}", rollout.name()),
        reason: format!("there is no version {} any more", rollout.version),
    })
}

/// The approval of a stage of the plan, by its index.
fn approval_of<'a>(
    fleet: &'a Fleet,
    rollout: &'a Rollout,
    version: &'a ModelVersion,
    stage: usize,
    (by, reason): (&'a str, &'a str),
) -> StageApproval<'a> {
    let planned = &rollout.plan.stages[stage];
    StageApproval {
        fleet: &fleet.name,
        model: &rollout.model,
        version: rollout.version,
        registered_at: version.registered_at,
        former: rollout.former,
        source: &version.trained.source,
        digest: version.trained.digest.as_deref(),
        stage_number: stage + 1,
        stage: &planned.name,
        share: planned.share,
        by,
        reason,
    }
}
