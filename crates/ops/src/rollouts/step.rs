//! A step of a rollout with all its effects, in one transaction.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::approval;
use crate::notify::{self, AuditedFact};
use crate::retrain::{BaselineRenewal, SignedStatement, VersionName};
use crate::scheduler::{BaselineChange, VersionDecision, current_baseline, make_champion, reject, set_baseline};
use crate::store::{SYSTEM_ACTOR, Store, VersionedRollout};
use driftsweep::baseline;
use driftsweep_common::address::redacted;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{Fleet, Model};
use driftsweep_release::{Rollout, RolloutState, RolloutStep};

/// By whom and when a step is taken.
pub(super) struct StepContext<'a> {
    pub(super) actor: &'a str,
    pub(super) at: Timestamp,
    /// The folder of the fleet's state.
    pub(super) state: &'a Path,
    /// What the actor has signed.
    pub(super) signed: Option<&'a SignedStatement>,
}

/// Applies a step to a rollout; `None` where another process has changed it since it was read. Its effects are written with it: a
/// settled version is the champion, and its baseline is used; one that was taken back is rejected.
pub(super) fn advance(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    versioned: &VersionedRollout,
    step: &RolloutStep,
    StepContext { actor, at: now, state, signed }: StepContext<'_>,
) -> Result<Option<VersionedRollout>> {
    let VersionedRollout { rollout: before, steps } = versioned;
    let wrong = |reason: String| Error::BadValue { what: format!("rollout {}", before.name()), reason };
    let after = before.apply(step, now).map_err(|illegal| wrong(illegal.to_string()))?;
    // Files are read before the store is locked.
    let baseline = match after.state {
        RolloutState::Settled if before.state != after.state => new_baseline(fleet, store, model, &after, state, now)?,
        _ => None,
    };
    store.transaction(|store| {
        if let Some(problem) = store.rollouts_problem(&model.name)? {
            return Err(store.tampered(problem));
        }
        if !store.set_rollout(&after, *steps)? {
            return Ok(None);
        }
        let kind = format!("rollout.{}", step.name());
        let mut body = described(before, &after, step);
        if let Some(signed) = signed {
            body["signature"] = json!(signed);
        }
        if matches!(step, RolloutStep::Ask { .. }) {
            body["must_be_signed"] = approval::signature_reason(fleet, model).is_some().into();
            body["next_stage"] = json!(after.next_stage().map(|next| &after.plan.stages[next].name));
        }
        let reason = body["reason"].as_str().unwrap_or_default().to_owned();
        notify::record(fleet, store, AuditedFact { at: now, actor, kind: &kind, subject: &model.name, body })?;
        let decision = VersionDecision { by: actor, reason: &reason, at: now };
        if before.state != after.state {
            match &after.state {
                RolloutState::Settled => {
                    let name = VersionName::Number(after.version);
                    make_champion(fleet, store, (&model.name, &name), decision)?;
                    if let Some(new) = &baseline {
                        new.set(fleet, store, model, &after, now)?;
                    }
                    // Labels are counted from now on by the version that predicts now.
                    store.set_trained(&model.name, now)?;
                }
                RolloutState::RolledBack { .. } => reject(fleet, store, (&model.name, after.version), decision)?,
                _ => {}
            }
        }
        Ok(Some(VersionedRollout { rollout: after.clone(), steps: steps + 1 }))
    })
}

/// The figures of a step for its audit record and its message.
fn described(before: &Rollout, after: &Rollout, step: &RolloutStep) -> Value {
    let number = after.state.stage().or(before.state.stage());
    let stage = |number: usize| after.plan.stages.get(number);
    let mut body = json!({
        "model": after.model,
        "version": after.version,
        "former": after.former,
        "state": after.state.name(),
        "stage": number.and_then(stage).map(|stage| &stage.name),
        "stage_number": number.map(|number| number + 1),
        "share": after.wanted_share(),
    });
    if let RolloutStep::Approve { stage: number, .. } = step
        && let Some(stage) = stage(*number)
    {
        (body["stage"], body["stage_number"], body["share"]) =
            (json!(stage.name), json!(number + 1), json!(stage.share));
    }
    let reason = match step {
        RolloutStep::Settle => "it has had all traffic for its time".to_owned(),
        RolloutStep::Begin { reason }
        | RolloutStep::Ask { reason }
        | RolloutStep::Promote { reason, .. }
        | RolloutStep::Approve { reason, .. }
        | RolloutStep::Hold { reason, .. }
        | RolloutStep::Resume { reason, .. }
        | RolloutStep::RollBack { reason, .. } => reason.clone(),
        RolloutStep::Applied => String::new(),
        RolloutStep::Observe { observation } => {
            body["findings"] = json!(after.findings());
            body["observed_to"] = json!(observation.observed_to);
            body["units"] = json!({ "candidate": observation.share.candidate, "all": observation.share.units });
            if !observation.alarms.is_empty() {
                body["alarms"] = json!(observation.alarms);
            }
            String::new()
        }
    };
    if !reason.is_empty() {
        body["reason"] = reason.into();
    }
    body
}

/// The baseline that the training of a version has named, which waited for its release.
struct NewBaseline {
    place: String,
    content_hash: Option<String>,
    former: String,
    former_content_hash: Option<String>,
    job: String,
}

fn new_baseline(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    rollout: &Rollout,
    state: &Path,
    now: Timestamp,
) -> Result<Option<NewBaseline>> {
    let version = store.version(&model.name, &VersionName::Number(rollout.version))?;
    let Some(job) = version.and_then(|version| version.job) else { return Ok(None) };
    let renewal = store.job(&job)?.and_then(|versioned| versioned.job.baseline);
    let Some(BaselineRenewal::Set { place, content_hash, waits: true, .. }) = renewal else { return Ok(None) };
    let former = current_baseline(fleet, store, model, state, now)?;
    let former_content_hash = baseline::content_hash(&former);
    Ok(Some(NewBaseline { place, content_hash, former: redacted(&former), former_content_hash, job }))
}

impl NewBaseline {
    fn set(&self, fleet: &Fleet, store: &mut Store, model: &Model, rollout: &Rollout, at: Timestamp) -> Result<()> {
        let change = BaselineChange {
            kind: "baseline.set",
            place: &self.place,
            content_hash: self.content_hash.clone(),
            former: &self.former,
            former_content_hash: self.former_content_hash.clone(),
            job: Some(&self.job),
            by: SYSTEM_ACTOR,
            reason: &format!("version {}, which was trained on it, is in production", rollout.version),
            at,
        };
        set_baseline(fleet, store, model, change).map(drop)
    }
}
