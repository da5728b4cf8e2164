//! New baselines: named by the answer of a training, or set by a person. A new baseline is checked, stored in the state
//! folder, and then used in place of the baseline in the fleet file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::JobPass;
use crate::notify::{self, AuditedFact};
use crate::policy::OutdatedBaseline;
use crate::retrain::{BaselineRenewal, Job, JobStep};
use crate::store::{BaselineRecord, SYSTEM_ACTOR, Store};
use driftsweep::baseline::{self, Baseline, BaselineFile};
use driftsweep::count::CpuCounter;
use driftsweep_common::address::{self, redacted};
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;
use driftsweep_fleet::{Fleet, HASH_DIGITS, Model, RetrainConfig};

/// A baseline that was checked and is stored where no training overwrites it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBaseline {
    /// Its path, as it is opened.
    pub place: String,
    /// SHA-256 of its content, where that is known.
    pub content_hash: Option<String>,
}

/// The context of a new baseline.
#[derive(Clone, Copy, Debug)]
pub struct BaselineRequest<'a> {
    /// The model.
    pub model: &'a Model,
    /// The baseline that it is compared with now, as it is opened.
    pub former: &'a str,
    /// The folder for relative paths.
    pub folder: &'a Path,
    /// The folder of the fleet's state.
    pub state: &'a Path,
    /// When.
    pub at: Timestamp,
}

/// Checks a baseline for a model and stores it in the state folder: a baseline file unchanged, a snapshot frozen as
/// `driftsweep baseline build --fleet` does. Not copied: a baseline file in an object store, and a snapshot for a model
/// whose convention needs the values.
///
/// # Errors
/// [`Error::BadValue`] for a model without baseline and for an empty path; an invalid file or snapshot, also one that
/// lacks most of the model's features; [`Error::Write`].
pub fn store_baseline(named: &str, adopting: BaselineRequest<'_>) -> Result<StoredBaseline> {
    let BaselineRequest { model, former, folder, state, at } = adopting;
    has_baseline(model)?;
    if named.trim().is_empty() {
        return Err(Error::BadValue { what: "baseline".into(), reason: "the path is empty".into() });
    }
    if redacted(named) != named {
        let reason = "the address holds a password or a signature, which the store must not keep; name it by an address that \
                      takes its credentials from the environment (s3://, gs://, az://), or download it";
        return Err(Error::BadValue { what: redacted(named), reason: reason.into() });
    }
    let place = match storage::is_remote(named) {
        true => named.to_owned(),
        false => as_text(&absolute(&folder.join(named)))?,
    };
    let is_file = Baseline::is_baseline_file(Path::new(&place));
    if !is_file && model.options.convention.is_some_and(|rules| rules.convention.needs_values()) {
        let snapshot = baseline::training_snapshot(&place)?;
        let columns: Vec<String> = snapshot.columns().iter().map(|column| column.name.clone()).collect();
        baseline::check_features(model, &place, &columns, former)?;
        let content_hash = baseline::content_hash(&place);
        return Ok(StoredBaseline { place, content_hash });
    }
    let file = match is_file {
        true => BaselineFile::open(Path::new(&place))?,
        false => {
            let frozen = Baseline::of_model(&CpuCounter, model, &place, at.to_string())?;
            BaselineFile::from_bytes(Path::new(&place), frozen.encoded(Path::new(&place))?)?
        }
    };
    file.check_for(model)?;
    let columns: Vec<String> = file.features().map(|feature| feature.name().to_owned()).collect();
    baseline::check_features(model, &place, &columns, former)?;
    let content_hash = file.content_hash().to_owned();
    if is_file && storage::is_remote(&place) {
        return Ok(StoredBaseline { place, content_hash: Some(content_hash) });
    }
    // The next training may write to the same path. The file is named by its content, because a state folder may be
    // moved.
    let name = format!("{}.baseline", content_hash.get(..HASH_DIGITS).unwrap_or(&content_hash));
    let copy = absolute(&state.join("baselines").join(baseline::file_name(&model.name)).join(name));
    // Its path is stored as text.
    let place = as_text(&copy)?;
    storage::write(&copy, file.bytes())?;
    Ok(StoredBaseline { place, content_hash: Some(content_hash) })
}

/// Refuses a model that is compared with its previous window: it has no baseline to replace.
///
/// # Errors
/// [`Error::BadValue`].
pub fn has_baseline(model: &Model) -> Result<()> {
    if !model.previous {
        return Ok(());
    }
    let reason =
        "is compared with its previous window (baseline = \"previous\"), so there is no baseline to set".into();
    Err(Error::BadValue { what: format!("model '{}'", model.name), reason })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as it is stored, where it must be complete.
fn as_text(path: &Path) -> Result<String> {
    let wrong = |reason: &str| Error::BadValue { what: redacted(path), reason: reason.into() };
    address::as_text(path).map(str::to_owned).map_err(wrong)
}

/// The baseline that a model is compared with now, as it is opened with this state folder.
///
/// # Errors
/// [`Error::Store`].
pub fn current_baseline(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    state: &Path,
    at: Timestamp,
) -> Result<String> {
    let last = store.baseline_entries(Some(&model.name))?.pop().map(|last| last.setting());
    Ok(match last.filter(|last| model.is_compared_with(last)) {
        Some(last) => last.place_in(state),
        None => fleet.own_baseline(model, at).expose().to_owned(),
    })
}

/// A change of the baseline in use.
#[derive(Clone, Debug)]
pub struct BaselineChange<'a> {
    /// `baseline.set` or `baseline.restore`.
    pub kind: &'a str,
    /// Its path; empty for the one in the fleet file.
    pub place: &'a str,
    /// SHA-256 of its content, where that is known.
    pub content_hash: Option<String>,
    /// The path of the previous one.
    pub former: &'a str,
    /// SHA-256 of the previous one.
    pub former_content_hash: Option<String>,
    /// The training that it comes from.
    pub job: Option<&'a str>,
    /// By whom.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// When.
    pub at: Timestamp,
}

/// Sets the baseline in use, inside a transaction; with its audit record and its messages.
///
/// # Errors
/// [`Error::Store`].
pub fn set_baseline(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    setting: BaselineChange<'_>,
) -> Result<BaselineRecord> {
    let BaselineChange { kind, place, content_hash, former, former_content_hash, job, by, reason, at } = setting;
    let last = store.baseline_entries(Some(&model.name))?.pop();
    let entry = BaselineRecord {
        model: model.name.clone(),
        number: last.map_or(1, |last| last.number + 1),
        place: place.into(),
        declared: model.declared_baseline.identity(),
        set_at: at,
        set_by: by.into(),
        job: job.map(str::to_owned),
    };
    store.add_baseline(&entry)?;
    let new = if place.is_empty() { fleet.own_baseline(model, at) } else { place.into() };
    let body = json!({
        "model": model.name,
        "number": entry.number,
        "former": { "place": redacted(former), "content_hash": former_content_hash },
        "new": { "place": new, "content_hash": content_hash },
        "job": job,
        "reason": reason,
    });
    notify::record(fleet, store, AuditedFact { at, actor: by, kind, subject: &model.name, body })?;
    Ok(entry)
}

/// Sets the baseline in use to the one that a training has named, unless that waits until its candidate is released.
pub(super) fn after_training(
    fleet: &Fleet,
    store: &mut Store,
    job: &Job,
    step: &JobStep,
    now: Timestamp,
) -> Result<()> {
    let JobStep::Succeed {
        baseline: BaselineRenewal::Set { named, content_hash, former, former_content_hash, waits: false, .. },
        place: Some(place),
        ..
    } = step
    else {
        return Ok(());
    };
    let Some(model) = fleet.model(&job.model) else { return Ok(()) };
    let setting = BaselineChange {
        kind: "baseline.set",
        place,
        content_hash: content_hash.clone(),
        former,
        former_content_hash: former_content_hash.clone(),
        job: Some(&job.id),
        by: SYSTEM_ACTOR,
        reason: &format!("named by its training: {named}"),
        at: now,
    };
    set_baseline(fleet, store, model, setting).map(drop)
}

/// A run that has ended.
#[derive(Clone, Copy)]
pub(super) struct RunPlace<'a> {
    /// The model that it trained.
    pub(super) model: &'a str,
    /// Its job.
    pub(super) job: &'a str,
    /// Which start of the job it was, from 1.
    pub(super) attempt: u32,
}

impl JobPass<'_> {
    /// The baseline change after a training, and the path of the new one. A failure here does not affect the success of
    /// the training.
    pub(super) fn renew(
        &mut self,
        run: RunPlace<'_>,
        retrain: &RetrainConfig,
        named: Option<String>,
    ) -> Result<(BaselineRenewal, Option<String>)> {
        let (fleet, state, now) = (self.fleet, self.context.state, self.now);
        // Its event may be about a model that is no longer in the fleet file.
        let Some((model, _)) = self.models.get(run.model).copied() else {
            return Ok((BaselineRenewal::Kept { warning: None }, None));
        };
        let Some(named) = named else {
            let age = self.store.baseline_age(fleet, model, now)?;
            let trained = self.store.started(run.job, run.attempt)?;
            let warning = OutdatedBaseline::of(age, trained).map(|found| found.sentence(&fleet.zone));
            return Ok((BaselineRenewal::Kept { warning }, None));
        };
        (self.step)("renew baseline");
        let folder = retrain.executor.settings().answer_folder().unwrap_or(&fleet.folder);
        let former = current_baseline(fleet, self.store, model, state, now)?;
        let adopting = BaselineRequest { model, former: &former, folder, state, at: now };
        let kept = catch_unwind(AssertUnwindSafe(|| store_baseline(&named, adopting)));
        let kept = kept.unwrap_or_else(|_| {
            Err(Error::BadValue { what: redacted(&named), reason: "this program failed on it".into() })
        });
        match kept {
            Ok(kept) => {
                let renewal = BaselineRenewal::Set {
                    named: redacted(&named),
                    place: redacted(&kept.place),
                    content_hash: kept.content_hash,
                    former: redacted(&former),
                    former_content_hash: baseline::content_hash(&former),
                    waits: model.rollout.is_some(),
                };
                Ok((renewal, Some(kept.place)))
            }
            Err(error) => {
                let renewal = BaselineRenewal::Refused { named: redacted(&named), reason: error.to_string() };
                Ok((renewal, None))
            }
        }
    }
}
