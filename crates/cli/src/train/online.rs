//! `driftsweep train --online`: an online model follows the labels that have become known.
//!
//! The folder of the output has one folder for each step, which is named by the time up to which the model has learned by then. A
//! step begins with the newest of them and adds the next: an interrupted step leaves nothing, and a repeated one finds nothing new.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::{FeaturePipeline, MANIFEST_FILE, Manifest, SetRows};
use driftsweep_fleet::TrainerChoice;
use driftsweep_trainers::{FitReport, Settings, load};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::features::{WRONG, blocked};
use super::super::model_card::{self, ARTEFACT_FOLDER, CARD};
use super::super::{TextFormat, invalid_value, write_json};
use super::candidate::{self, Judged, LearnedRows, Training};
use super::fit::{ARTEFACT, fit_rows, objective_of_training, predict_rows};
use super::task::Task;

/// Steps are named by times in UTC, so that the last name is the newest.
const NAME: &str = "%Y%m%dT%H%M%SZ";

/// What a step in the making is called.
const DRAFT: &str = ".next-";

/// A prediction is made by what was known at the beginning of its day: the model follows once a day.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A model as the last step has left it.
struct Last {
    card: Value,
    state: Vec<u8>,
    /// It has learned predictions before this time.
    to: Timestamp,
}

pub fn run(task: &Task<'_>) -> anyhow::Result<u8> {
    let TrainerChoice::BuiltIn(Settings::Online(_)) = task.trainer.choice else {
        let reason =
            "only the trainer `online` follows new labels; set trainer = { kind = \"online\" }, or leave it out";
        return Err(invalid_value("--online", reason));
    };
    let output = &task.args.output;
    task.check_output()?;
    remove_drafts(output)?;
    if output.join(CARD).exists() || output.join(MANIFEST_FILE).exists() {
        return Err(invalid_value("--output", "is the folder of a model; name another one, for the steps of --online"));
    }
    let last = last_step(output)?;
    let pipeline = FeaturePipeline::open(task.set, task.limits, task.args.limits.scratch())?;
    if let Some(last) = &last {
        let version = pipeline.version()?.features;
        if last.card["feature_version"] != *version {
            let reason = "its models have learned another version of the features; name an empty folder, to begin anew";
            return Err(invalid_value("--output", reason));
        }
    }
    if !task.args.allow_skew && blocked(&pipeline, task.as_of)? {
        return Ok(WRONG);
    }
    // Steps are named by whole seconds.
    let as_of = Timestamp::from_second(task.as_of.as_second()).unwrap_or(task.as_of);
    let mut draft = tempfile::Builder::new();
    draft.prefix(DRAFT);
    // Others may read it as any folder.
    #[cfg(unix)]
    draft.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let draft = draft.tempdir_in(output).map_err(|source| Error::Write { path: output.clone(), source })?;
    let manifest = match &last {
        None => Some(pipeline.materialize(as_of, draft.path())?),
        Some(last) => pipeline.materialize_after(last.to, as_of, draft.path())?,
    };
    drop(pipeline);
    let manifest = manifest.filter(|manifest| manifest.validation.labelled > 0);
    let Some(manifest) = manifest else { return nothing_new(task, last.as_ref()) };
    let step = step(task, last, &manifest, draft.path())?;
    let folder = output.join(manifest.validation.to.strftime(NAME).to_string());
    candidate::write_card(&step, draft.path())?;
    fs::rename(draft.path(), &folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    candidate::tell(&step, &folder, task.args.format)?;
    Ok(0)
}

/// Where no label has become known since the last step. A job has nothing to judge then, and fails.
fn nothing_new(task: &Task<'_>, last: Option<&Last>) -> anyhow::Result<u8> {
    let since = last.map_or_else(String::new, |last| format!(" of predictions since {}", last.to));
    if candidate::is_of_a_job() {
        return Err(Error::Unreadable {
            path: task.args.output.as_path().into(),
            reason: format!("no new label{since} is known, so that there is nothing to learn or to judge; train later"),
        }
        .into());
    }
    match (task.args.format, last) {
        (TextFormat::Json, Some(last)) => write_json(&last.card)?,
        _ => say!("no new label{since} is known; nothing was learned"),
    }
    Ok(0)
}

/// Removes what an interrupted step has left.
fn remove_drafts(output: &Path) -> Result<()> {
    let write = |source| Error::Write { path: output.into(), source };
    for entry in fs::read_dir(output).map_err(write)? {
        let entry = entry.map_err(write)?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            fs::remove_dir_all(entry.path()).map_err(write)?;
        }
    }
    Ok(())
}

/// The newest step in a folder.
fn last_step(output: &Path) -> Result<Option<Last>> {
    let unreadable = |path: &Path, reason: String| Error::Unreadable { path: path.into(), reason };
    let entries = fs::read_dir(output).map_err(|e| unreadable(output, e.to_string()))?;
    let is_step = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        jiff::civil::DateTime::strptime(NAME, &name).is_ok() && path.join(CARD).exists()
    };
    let Some(folder) = entries.flatten().map(|entry| entry.path()).filter(is_step).max() else { return Ok(None) };
    let card = model_card::read(&folder)?;
    model_card::check_artefact(&folder, &card)?;
    let to = card["training"]["to"].as_str().and_then(|to| to.parse().ok());
    let to = to.ok_or_else(|| unreadable(&folder, format!("its {CARD} does not say up to when it has learned")))?;
    let path = folder.join(ARTEFACT_FOLDER).join(ARTEFACT);
    let state = fs::read(&path).map_err(|e| unreadable(&path, e.to_string()))?;
    Ok(Some(Last { card, state, to }))
}

/// Predicts the new rows day by day, each day by what was known at its beginning, then has learned them all.
fn step(
    task: &Task<'_>,
    last: Option<Last>,
    manifest: &Manifest,
    folder: &Path,
) -> anyhow::Result<candidate::ModelCard> {
    let threads = NonZeroUsize::new(task.limits.threads).unwrap_or(NonZeroUsize::MIN);
    let TrainerChoice::BuiltIn(settings) = task.trainer.choice else {
        return Err(invalid_value("--online", "needs a trainer"));
    };
    let validation = folder.join(&manifest.validation.file);
    let mut report = FitReport::default();
    let (from, before, mut state, kind) = match last {
        Some(last) => {
            let kind = load(&last.state).map_err(|e| invalid_value("--output", &e.to_string()))?.objective();
            let from = last.card["training"]["from"].as_str().and_then(|from| from.parse().ok());
            (from, last.card["training"]["labelled"].as_u64().unwrap_or(0), last.state, kind)
        }
        None => {
            let training = manifest.training.as_ref().map(|set| folder.join(&set.file));
            let rows = SetRows::read(&training.unwrap_or_else(|| validation.clone()))?.labelled()?;
            let kind = objective_of_training(&rows.labels()?)?;
            let (state, first) = fit_rows(settings, &rows, kind, None, threads)?;
            report = first;
            (manifest.training.as_ref().and_then(|set| set.from), report.learned as u64, state, kind)
        }
    };
    let judged = Judged::read(&validation, kind, task.model.labels.as_ref())?;
    let scores = follow(task, settings, &judged, manifest, &mut state, &mut report)?;
    let artefact = folder.join(ARTEFACT_FOLDER);
    fs::create_dir_all(&artefact).map_err(|source| Error::Write { path: artefact.clone(), source })?;
    atomic::write(&artefact.join(ARTEFACT), &state)?;
    let scratch = tempfile::tempdir_in(folder).map_err(|source| Error::Write { path: folder.into(), source })?;
    let champion = task.champion_scores(&judged, manifest, scratch.path())?;
    judged.write(folder, &scores, champion.as_deref())?;
    let learned =
        LearnedRows { from, to: manifest.validation.to, labelled: before + manifest.validation.labelled, set: None };
    let files = model_card::digests(&artefact)?;
    let training =
        Training { manifest, model: task.model, files, learned, learned_validation: true, report: Some(report) };
    Ok(candidate::card(training, &judged, &scores)?)
}

/// The scores of the judged rows. `state` has learned all of them in the end.
fn follow(
    task: &Task<'_>,
    settings: &Settings,
    judged: &Judged,
    manifest: &Manifest,
    state: &mut Vec<u8>,
    report: &mut FitReport,
) -> anyhow::Result<Vec<f64>> {
    let threads = NonZeroUsize::new(task.limits.threads).unwrap_or(NonZeroUsize::MIN);
    let maturity = task.set.label.as_ref().map_or(SignedDuration::ZERO, |label| label.maturity);
    let positions = judged.rows.positions()?;
    let row_at = |time: Timestamp| positions.partition_point(|at| i128::from(at.time) < time.as_nanosecond());
    let (mut scores, mut learned) = (Vec::with_capacity(positions.len()), 0);
    let mut learn = |until: usize, state: &mut Vec<u8>| -> Result<()> {
        if until > learned {
            let rows = judged.rows.part(learned..until);
            let (next, part) = fit_rows(settings, &rows, judged.kind, Some(state), threads)?;
            report.learned += part.learned;
            report.skipped += part.skipped;
            (*state, learned) = (next, until);
        }
        Ok(())
    };
    let mut day = manifest.validation.from.unwrap_or(manifest.validation.to);
    while scores.len() < positions.len() {
        let next = day.checked_add(DAY).unwrap_or(Timestamp::MAX);
        // Days without a row are passed over.
        let (begins, ends) = (scores.len(), if next == Timestamp::MAX { positions.len() } else { row_at(next) });
        if ends > begins {
            // Labels of later predictions were not known yet at the beginning of this day.
            let known = day.checked_sub(maturity).map_or(0, row_at).min(begins);
            learn(known, state)?;
            scores.extend(predict_rows(state, &judged.rows.part(begins..ends))?);
        }
        day = next;
    }
    learn(positions.len(), state)?;
    Ok(scores)
}
