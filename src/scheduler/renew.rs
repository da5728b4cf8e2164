//! New baselines: named by the answer of a training, or set by a person. What is named is checked, kept in the state
//! folder, and used from then on in place of the baseline in the fleet file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::Pass;
use crate::address::shown;
use crate::baseline::{self, Baseline, BaselineFile};
use crate::count::CpuCounter;
use crate::error::{Error, Result};
use crate::executor::Run;
use crate::fleet::{Executor, Fleet, Model, Retrain};
use crate::notify::{self, Fact};
use crate::policy::Outdated;
use crate::retrain::{Job, Renewal, Step};
use crate::storage;
use crate::store::{BaselineEntry, ITSELF, Store};

/// A baseline that was checked and is kept where no training writes over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is, as it is opened.
    pub place: String,
    /// SHA-256 of what it holds, where that can be told.
    pub content_hash: Option<String>,
}

/// Checks a baseline for a model and keeps it in the state folder: a baseline file as it is, a snapshot frozen as
/// `driftsweep baseline build --fleet` does. Used where it is: a baseline file in an object store, and a snapshot for a model
/// whose convention needs the values. `folder` is what a relative path is relative to.
///
/// # Errors
/// [`Error::BadValue`] for a model without baseline and for an empty path; what is wrong with the file or the snapshot;
/// [`Error::Write`].
pub fn keep(model: &Model, named: &str, folder: &Path, state: &Path, at: Timestamp) -> Result<Kept> {
    has_baseline(model)?;
    if named.trim().is_empty() {
        return Err(Error::BadValue { what: "baseline".into(), reason: "the path is empty".into() });
    }
    if shown(named) != named {
        let reason = "the address holds a password or a signature, which the store must not keep; name it by an address that \
                      takes its credentials from the environment (s3://, gs://, az://), or download it";
        return Err(Error::BadValue { what: shown(named), reason: reason.into() });
    }
    let place = match storage::is_remote(named) {
        true => named.to_owned(),
        false => as_text(&absolute(&folder.join(named)))?,
    };
    let kept_in = absolute(&state.join("baselines").join(baseline::file_name(&model.name)));
    // Its path is kept as text, in the store.
    as_text(&kept_in)?;
    let kept = |hash: &str| kept_in.join(format!("{}.baseline", hash.get(..32).unwrap_or(hash)));
    if Baseline::is_one(Path::new(&place)) {
        let file = BaselineFile::open(Path::new(&place))?;
        file.check_for(model)?;
        let content_hash = Some(file.content_hash().to_owned());
        if storage::is_remote(&place) {
            return Ok(Kept { place, content_hash });
        }
        // The next training may write to the same path.
        let copy = kept(file.content_hash());
        storage::write(&copy, file.bytes())?;
        return Ok(Kept { place: as_text(&copy)?, content_hash });
    }
    if model.options.convention.is_some_and(|rules| rules.convention.needs_values()) {
        baseline::training_snapshot(&place)?;
        let content_hash = baseline::content_hash(&place);
        return Ok(Kept { place, content_hash });
    }
    // Written beside, and named by its content once that is known. One that is left of a killed process is removed by a later
    // writer in the folder.
    let draft = kept(&format!(".driftsweep-draft-{}", std::process::id()));
    Baseline::of_model(&CpuCounter, model, &place, at.to_string())?.write(&draft)?;
    let file = BaselineFile::open(&draft);
    let done = file.and_then(|file| {
        file.check_for(model)?;
        let whole = kept(file.content_hash());
        std::fs::rename(&draft, &whole).map_err(|source| Error::Write { path: whole.clone(), source })?;
        Ok(Kept { place: as_text(&whole)?, content_hash: Some(file.content_hash().to_owned()) })
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    done
}

/// Refuses a model that is compared with its previous window: nothing could take the place of its baseline.
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

/// A path as it is kept in the store, where it must be whole.
fn as_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::BadValue {
        what: shown(path),
        reason: "the path is not UTF-8 text; rename the folder, or choose another one with --state".into(),
    })
}

/// The place of the baseline that a model is compared with now.
///
/// # Errors
/// [`Error::Store`].
pub fn in_use(fleet: &Fleet, store: &mut Store, model: &Model, at: Timestamp) -> Result<String> {
    let last = store.baseline_entries(Some(&model.name))?.pop();
    Ok(match last.filter(|last| model.is_compared_with(&last.setting())) {
        Some(last) => last.place,
        None => fleet.own_baseline(model, at).expose().to_owned(),
    })
}

/// A baseline to be used from now on.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// `baseline.set` or `baseline.restore`.
    pub kind: &'a str,
    /// Where it is; empty for the one in the fleet file.
    pub place: &'a str,
    /// SHA-256 of what it holds, where that can be told.
    pub content_hash: Option<String>,
    /// The same of the one before.
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

/// Uses a baseline from now on, inside a transaction; with its audit record and its messages.
///
/// # Errors
/// [`Error::Store`].
pub fn set(fleet: &Fleet, store: &mut Store, model: &Model, setting: Setting<'_>) -> Result<BaselineEntry> {
    let Setting { kind, place, content_hash, former_content_hash, job, by, reason, at } = setting;
    let former = in_use(fleet, store, model, at)?;
    let last = store.baseline_entries(Some(&model.name))?.pop();
    let entry = BaselineEntry {
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
        "former": { "place": shown(&former), "content_hash": former_content_hash },
        "new": { "place": new, "content_hash": content_hash },
        "job": job,
        "reason": reason,
    });
    notify::record(fleet, store, Fact { at, actor: by, kind, subject: &model.name, body })?;
    Ok(entry)
}

/// Uses the baseline that a training has named from now on.
pub(super) fn after_training(fleet: &Fleet, store: &mut Store, job: &Job, step: &Step, now: Timestamp) -> Result<()> {
    let Step::Succeed {
        baseline: Renewal::Set { named, content_hash, former_content_hash, .. },
        place: Some(place),
        ..
    } = step
    else {
        return Ok(());
    };
    let Some(model) = fleet.models.iter().find(|model| model.name == job.model) else { return Ok(()) };
    let setting = Setting {
        kind: "baseline.set",
        place,
        content_hash: content_hash.clone(),
        former_content_hash: former_content_hash.clone(),
        job: Some(&job.id),
        by: ITSELF,
        reason: &format!("its training has named {named}"),
        at: now,
    };
    set(fleet, store, model, setting).map(drop)
}

impl Pass<'_> {
    /// What becomes of the baseline of a model that was trained, and where the new one is. Whatever goes wrong with it, the
    /// training was good.
    pub(super) fn renew(
        &mut self,
        run: &Run,
        retrain: &Retrain,
        named: Option<String>,
    ) -> Result<(Renewal, Option<String>)> {
        let (fleet, state, now) = (self.fleet, self.means.state, self.now);
        // Its event may be of a model that the fleet file no longer has.
        let Some((model, _)) = self.models.get(&*run.model).copied() else {
            return Ok((Renewal::Kept { warning: None }, None));
        };
        let Some(named) = named else {
            let age = self.store.baseline_age(fleet, model, now)?;
            let trained = self.store.started(&run.job, run.attempt)?;
            let warning = Outdated::of(age, trained).map(|found| found.sentence(&fleet.zone));
            return Ok((Renewal::Kept { warning }, None));
        };
        (self.step)("renew baseline");
        let folder = match &retrain.executor {
            Executor::Command(command) => command.folder.as_path(),
            Executor::Webhook(_) | Executor::Kubernetes(_) | Executor::Airflow(_) => fleet.folder.as_path(),
        };
        let kept = catch_unwind(AssertUnwindSafe(|| keep(model, &named, folder, state, now)));
        let kept = kept.unwrap_or_else(|_| {
            Err(Error::BadValue { what: shown(&named), reason: "this program failed on it".into() })
        });
        match kept {
            Ok(kept) => {
                let former = in_use(fleet, self.store, model, now)?;
                let renewal = Renewal::Set {
                    named: shown(&named),
                    place: shown(&kept.place),
                    content_hash: kept.content_hash,
                    former: shown(&former),
                    former_content_hash: baseline::content_hash(&former),
                };
                Ok((renewal, Some(kept.place)))
            }
            Err(error) => {
                let renewal = Renewal::Refused { named: shown(&named), reason: error.to_string() };
                Ok((renewal, None))
            }
        }
    }
}
