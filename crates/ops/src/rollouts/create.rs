//! New rollouts: of the candidate that may be released now, and of a version that a person names.

use jiff::Timestamp;
use serde_json::json;

use super::arms::arms;
use super::decision::RolloutDecision;
use super::observe;
use crate::notify::{self, AuditedFact};
use crate::retrain::{JobState, ModelVersion, VersionName, VersionStatus};
use crate::store::{Store, VersionedRollout};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{Fleet, Model, RolloutConfig};
use driftsweep_release::Rollout;

/// What is released, in place of what.
#[derive(Clone, Copy)]
pub(super) struct Released<'a> {
    pub(super) version: &'a ModelVersion,
    pub(super) champion: Option<&'a ModelVersion>,
}

/// The candidate of a model that may be released now, and the champion: the newest that its gates have accepted since the champion
/// is in production, and that was not released before.
///
/// # Errors
/// [`Error::Store`].
pub fn candidate(store: &mut Store, model: &Model) -> Result<Option<(ModelVersion, Option<ModelVersion>)>> {
    let versions = store.versions(Some(&model.name))?;
    let champion = versions.iter().find(|version| version.status == VersionStatus::Champion).cloned();
    // A person registers what was trained elsewhere, and says when it is released.
    let trained = |version: &&ModelVersion| version.status == VersionStatus::Candidate && version.job.is_some();
    let Some(newest) = versions.iter().rfind(trained) else { return Ok(None) };
    if !has_succeeded(store, newest)? {
        return Ok(None);
    }
    let is_older = champion.as_ref().is_some_and(|champion| champion.since > newest.since);
    let known = store.released_versions(&model.name)?;
    if is_older || known.iter().any(|(version, is_open)| *is_open || *version == newest.version) {
        return Ok(None);
    }
    Ok(Some((newest.clone(), champion)))
}

/// Whether the training of a version has succeeded; one that a person has registered has none.
fn has_succeeded(store: &mut Store, version: &ModelVersion) -> Result<bool> {
    let Some(job) = &version.job else { return Ok(true) };
    Ok(store.job(job)?.is_some_and(|versioned| versioned.job.state == JobState::Succeeded))
}

/// Adds a rollout, with its audit record and its messages.
///
/// # Errors
/// [`Error::BadValue`] where the version cannot be released; [`Error::Tampered`]; [`Error::Store`]; those of reading predictions.
pub(super) fn create(
    fleet: &Fleet,
    store: &mut Store,
    (model, config): (&Model, &RolloutConfig),
    Released { version, champion }: Released<'_>,
    RolloutDecision { by, reason, at, .. }: RolloutDecision<'_>,
) -> Result<VersionedRollout> {
    let wrong = |reason: String| Error::BadValue { what: format!("model '{}'", model.name), reason };
    let former = champion.map(|champion| champion.version);
    arms(config, version.version, former).map_err(wrong)?;
    let plan = observe::plan(model, config, version, champion, at)?;
    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    let rollout = Rollout::new(&model.name, version.version, former, plan, at);
    let rollout = Rollout { settings: config.settings(), ..rollout };
    store.transaction(|store| {
        if let Some(problem) = store.rollouts_problem(&model.name)? {
            return Err(store.tampered(problem));
        }
        let known = store.released_versions(&model.name)?;
        if let Some((open, _)) = known.iter().find(|(_, is_open)| *is_open) {
            return Err(wrong(format!("its version {open} is being released already")));
        }
        if known.iter().any(|(released, _)| *released == version.version) {
            let reason = format!("version {} was released before; each version is released once", version.version);
            return Err(wrong(reason));
        }
        if !has_succeeded(store, version)? {
            let job = version.job.as_deref().unwrap_or_default();
            return Err(wrong(format!("the training of version {}, job {job}, has not succeeded", version.version)));
        }
        let added = store.add_rollout(&rollout)?;
        let body = json!({
            "model": model.name, "version": version.version, "former": former, "job": version.job, "plan": rollout.plan,
            "reason": reason,
        });
        let fact = AuditedFact { at, actor: by, kind: "rollout.create", subject: &model.name, body };
        notify::record(fleet, store, fact)?;
        Ok(added)
    })
}

/// Adds the rollout of a version that a person names: one that was registered by hand, or accepted before the fleet file declared how
/// it is released.
///
/// # Errors
/// [`Error::BadValue`] where it cannot be released; [`Error::Tampered`]; [`Error::Store`]; those of reading predictions.
pub fn start(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    name: &VersionName,
    decision: RolloutDecision<'_>,
) -> Result<Rollout> {
    let wrong = |reason: String| Error::BadValue { what: format!("model '{}'", model.name), reason };
    let Some(config) = &model.rollout else {
        return Err(wrong("the fleet file does not say how it is released; add [model.rollout]".into()));
    };
    let version = store.version(&model.name, name)?;
    let version =
        version.ok_or_else(|| wrong(format!("there is no version {name}; `driftsweep models list` shows them")))?;
    if version.status != VersionStatus::Candidate {
        let (version, status) = (version.version, version.status);
        return Err(wrong(format!("version {version} is {status}, and only a candidate is released")));
    }
    let champion = store.champion(&model.name)?;
    let released = Released { version: &version, champion: champion.as_ref() };
    create(fleet, store, (model, config), released, decision).map(|added| added.rollout)
}
