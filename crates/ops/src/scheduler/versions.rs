//! The registry of models: a training adds a version, its gates decide about it, and a person decides which one is in production.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::notify::{self, AuditedFact};
use crate::retrain::{Job, JobState, JobStep, ModelVersion, VersionName, VersionStatus};
use crate::store::{ModelAlias, SYSTEM_ACTOR, Store};
use driftsweep_common::address;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;
use driftsweep_extensions::executor::TrainedModel;
use driftsweep_fleet::Fleet;

/// A decision about a version.
#[derive(Clone, Copy, Debug)]
pub struct VersionDecision<'a> {
    /// By whom.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// When.
    pub at: Timestamp,
}

/// A model with the complete path of its source.
pub(super) fn with_complete_source(model: TrainedModel, folder: &Path) -> TrainedModel {
    if storage::is_remote(&model.source) {
        return model;
    }
    let path = folder.join(&model.source);
    let path = std::path::absolute(&path).unwrap_or(path);
    match address::as_text(&path) {
        Ok(source) => TrainedModel { source: source.to_owned(), ..model },
        Err(_) => model,
    }
}

/// What the registry records after a step of a job, in the same transaction.
pub(super) fn after_step(
    fleet: &Fleet,
    store: &mut Store,
    before: &Job,
    job: &Job,
    step: &JobStep,
    now: Timestamp,
) -> Result<()> {
    let system = |reason| VersionDecision { by: SYSTEM_ACTOR, reason, at: now };
    match step {
        JobStep::Gate { trained: Some(trained), .. } => {
            let reason = "trained; its gates have not judged it yet";
            add(fleet, store, (&job.model, trained), Some((&job.id, job.attempts)), system(reason)).map(drop)
        }
        JobStep::Succeed { trained: Some(trained), .. } => {
            let run = Some((&*job.id, job.attempts));
            add(fleet, store, (&job.model, trained), run, system("trained; its model has no gates")).map(drop)
        }
        _ if !matches!(before.state, JobState::Gated { .. }) => Ok(()),
        _ => {
            let Some(version) = store.version_of_job(&job.model, &job.id)? else { return Ok(()) };
            let (status, reason, kind) = match &job.state {
                JobState::Succeeded => (VersionStatus::Candidate, "accepted by its gates", "model.accept"),
                JobState::RejectedByGate { reason } => (VersionStatus::Rejected, &**reason, "model.reject"),
                state if state.is_final() => (VersionStatus::Rejected, state.reason(), "model.reject"),
                _ => return Ok(()),
            };
            // A person may have put it aside meanwhile.
            if version.status != VersionStatus::Candidate {
                return Ok(());
            }
            let after = ModelVersion { status, reason: reason.into(), since: now, ..version };
            store.set_version_status(&after)?;
            note(fleet, store, &after, (kind, system(reason)), json!({}))
        }
    }
}

/// Registers a model that was trained elsewhere, inside a transaction. A relative path of its source is relative to `folder`.
///
/// # Errors
/// [`Error::BadValue`] for what a model cannot be; [`Error::Tampered`]; [`Error::Store`].
pub fn register(
    fleet: &Fleet,
    store: &mut Store,
    model: &str,
    trained: TrainedModel,
    folder: &Path,
    decision: VersionDecision<'_>,
) -> Result<ModelVersion> {
    check_registry(store, model)?;
    let trained = with_complete_source(trained, folder);
    trained.check().map_err(|reason| Error::BadValue { what: "model".into(), reason })?;
    add(fleet, store, (model, &trained), None, decision)
}

fn add(
    fleet: &Fleet,
    store: &mut Store,
    (model, trained): (&str, &TrainedModel),
    run: Option<(&str, u32)>,
    VersionDecision { by, reason, at }: VersionDecision<'_>,
) -> Result<ModelVersion> {
    let version = ModelVersion {
        model: model.into(),
        version: store.next_version(model)?,
        status: VersionStatus::Candidate,
        since: at,
        reason: reason.into(),
        job: run.map(|(job, _)| job.into()),
        attempt: run.map(|(_, attempt)| attempt),
        registered_at: at,
        registered_by: by.into(),
        trained: trained.clone(),
    };
    store.add_version(&version)?;
    note(fleet, store, &version, ("model.register", VersionDecision { by, reason, at }), json!({}))?;
    Ok(version)
}

/// Refuses a registry of a model that is not what the audit says.
fn check_registry(store: &mut Store, model: &str) -> Result<()> {
    match store.versions_problem(model)? {
        None => Ok(()),
        Some(problem) => Err(store.tampered(problem)),
    }
}

/// The version with a name.
fn find(store: &mut Store, model: &str, name: &VersionName) -> Result<ModelVersion> {
    check_registry(store, model)?;
    let wrong = |reason: String| Error::BadValue { what: format!("model '{model}'"), reason };
    let found = store.version(model, name)?;
    found.ok_or_else(|| wrong(format!("there is no version {name}; `driftsweep models list` shows them")))
}

/// Makes a version the champion by the decision of a person, inside a transaction. Returns it and the former one.
///
/// # Errors
/// As for releases; and [`Error::BadValue`] while a version of the model is released.
pub fn promote(
    fleet: &Fleet,
    store: &mut Store,
    (model, name): (&str, &VersionName),
    decision: VersionDecision<'_>,
) -> Result<(ModelVersion, Option<ModelVersion>)> {
    if let Some(open) = open_version(store, model)? {
        return Err(released(model, open));
    }
    make_champion(fleet, store, (model, name), decision)
}

/// The version of a model that is being released, also where its row cannot be read.
fn open_version(store: &mut Store, model: &str) -> Result<Option<u64>> {
    let known = store.released_versions(model)?;
    Ok(known.into_iter().find(|(_, is_open)| *is_open).map(|(version, _)| version))
}

/// While a version is released, both arms stay as they are.
fn released(model: &str, version: u64) -> Error {
    let reason = format!(
        "its version {version} is being released; wait until that has ended, or end it with `driftsweep rollout rollback {model}`"
    );
    Error::BadValue { what: format!("model '{model}'"), reason }
}

/// Rejects a candidate that was taken back, inside a transaction. A version that is no candidate stays as it is.
///
/// # Errors
/// [`Error::Tampered`]; [`Error::Store`].
pub(crate) fn reject(
    fleet: &Fleet,
    store: &mut Store,
    (model, version): (&str, u64),
    decision: VersionDecision<'_>,
) -> Result<()> {
    let found = find(store, model, &VersionName::Number(version))?;
    match found.with_status(VersionStatus::Rejected, decision.reason, decision.at) {
        Ok(after) => {
            store.set_version_status(&after)?;
            note(fleet, store, &after, ("model.reject", decision), json!({}))
        }
        Err(_) => Ok(()),
    }
}

/// Makes a version the champion, inside a transaction: the one in production. The former champion is retired. Returns both.
///
/// # Errors
/// [`Error::BadValue`] for a version that cannot become it: one that its gates rejected, or have not judged yet;
/// [`Error::Tampered`]; [`Error::Store`].
pub(crate) fn make_champion(
    fleet: &Fleet,
    store: &mut Store,
    (model, name): (&str, &VersionName),
    decision: VersionDecision<'_>,
) -> Result<(ModelVersion, Option<ModelVersion>)> {
    let VersionDecision { reason, at, .. } = decision;
    let found = find(store, model, name)?;
    let wrong = |reason: String| Error::BadValue { what: format!("version {} of '{model}'", found.version), reason };
    let after = found.with_status(VersionStatus::Champion, reason, at).map_err(wrong)?;
    if let Some(job) = &found.job {
        let state = store.job(job)?.map(|versioned| versioned.job.state);
        if state != Some(JobState::Succeeded) {
            let state = state.map_or("not there", |state| state.name()).replace('_', " ");
            return Err(wrong(format!("its training, job {job}, has not succeeded: it is {state}")));
        }
    }
    let former = store.champion(model)?;
    if let Some(former) = &former {
        let reason = format!("version {} took its place: {reason}", found.version);
        let retired = former.with_status(VersionStatus::Retired, &reason, at).map_err(wrong)?;
        store.set_version_status(&retired)?;
    }
    store.set_version_status(&after)?;
    let body = json!({ "former": former.as_ref().map(|former| former.version) });
    note(fleet, store, &after, ("model.promote", decision), body)?;
    Ok((after, former))
}

/// Retires a version, inside a transaction.
///
/// # Errors
/// [`Error::BadValue`] for a version that is retired or rejected already; [`Error::Tampered`]; [`Error::Store`].
pub fn retire(
    fleet: &Fleet,
    store: &mut Store,
    (model, name): (&str, &VersionName),
    decision: VersionDecision<'_>,
) -> Result<ModelVersion> {
    let found = find(store, model, name)?;
    if let Some(open) = open_version(store, model)? {
        // One that cannot be read may have any version as its other arm.
        let rollout = store.open_rollout(model)?.map(|known| known.rollout);
        if rollout.is_none_or(|rollout| open == found.version || rollout.former == Some(found.version)) {
            return Err(released(model, open));
        }
    }
    let wrong = |reason| Error::BadValue { what: format!("version {} of '{model}'", found.version), reason };
    let after = found.with_status(VersionStatus::Retired, decision.reason, decision.at).map_err(wrong)?;
    store.set_version_status(&after)?;
    note(fleet, store, &after, ("model.retire", decision), json!({ "former_status": found.status }))?;
    Ok(after)
}

/// Gives a version an alias, inside a transaction; another version loses it.
///
/// # Errors
/// [`Error::BadValue`] for a version that is not there; [`Error::Tampered`]; [`Error::Store`].
pub fn set_alias(
    fleet: &Fleet,
    store: &mut Store,
    (model, name): (&str, &VersionName),
    alias: &str,
    decision: VersionDecision<'_>,
) -> Result<ModelVersion> {
    let found = find(store, model, name)?;
    store.set_alias(&ModelAlias { model: model.into(), alias: alias.into(), version: found.version })?;
    note(fleet, store, &found, ("model.alias", decision), json!({ "alias": alias }))?;
    Ok(found)
}

/// Deletes an alias, inside a transaction.
///
/// # Errors
/// [`Error::BadValue`] if there is none; [`Error::Tampered`]; [`Error::Store`].
pub fn delete_alias(
    fleet: &Fleet,
    store: &mut Store,
    (model, alias): (&str, &str),
    VersionDecision { by, reason, at }: VersionDecision<'_>,
) -> Result<()> {
    check_registry(store, model)?;
    if !store.delete_alias(model, alias)? {
        let reason = format!("there is no alias '{alias}'; `driftsweep models list` shows them");
        return Err(Error::BadValue { what: format!("model '{model}'"), reason });
    }
    let body = json!({ "model": model, "alias": alias, "reason": reason });
    let fact = AuditedFact { at, actor: by, kind: "model.delete_alias", subject: model, body };
    notify::record(fleet, store, fact).map(drop)
}

/// Records a decision about a version in the audit, with its messages. `more` is added to its figures.
fn note(
    fleet: &Fleet,
    store: &mut Store,
    version: &ModelVersion,
    (kind, VersionDecision { by, reason, at }): (&str, VersionDecision<'_>),
    more: Value,
) -> Result<()> {
    let mut body = json!({
        "model": version.model,
        "version": version.version,
        "status": version.status,
        "source": version.trained.source,
        "digest": version.trained.digest,
        "job": version.job,
        "reason": reason,
    });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    notify::record(fleet, store, AuditedFact { at, actor: by, kind, subject: &version.model, body }).map(drop)
}
