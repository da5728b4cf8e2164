//! `driftsweep train` in a build with the feature pipeline.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use driftsweep::model::Options;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::{FeaturePipeline, MANIFEST_FILE, Manifest, SetRows};
use driftsweep_fleet::{FeatureSet, Fleet, Model};
use jiff::Timestamp;
use serde_json::Value;

use super::super::features::{WRONG, blocked};
use super::super::fleet_store::read_fleet;
use super::super::model_card::{self, ARTEFACT_FOLDER, CARD};
use super::super::time_arg::now_or;
use super::super::{invalid_value, model_of};
use super::candidate::{self, FILES, Judged, LearnedRows, Training};
use super::champion::Champion;
use super::fit::{TrainerOf, objective, objective_of_training};
use super::task::Task;
use super::{TrainArgs, online};

/// The lock of an output folder.
const LOCK: &str = ".driftsweep-lock";

pub fn run(args: &TrainArgs) -> anyhow::Result<u8> {
    let limits = args.limits.limits()?;
    let fleet = read_fleet(&args.fleet, &Options::new())?;
    let model = model_of(&fleet, &args.model)?;
    let set = feature_set(args, &fleet, model)?;
    let as_of = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let folder = match fleet.folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => &fleet.folder,
    };
    let trainer = TrainerOf { choice: &model.trainer, folder, threads: limits.threads };
    let champion = Champion::open(args.champion.as_deref(), &model.trainer)?;
    let task = Task { args, model, set, limits, as_of, trainer, champion };
    fs::create_dir_all(&args.output).map_err(|source| Error::Write { path: args.output.clone(), source })?;
    let _lock = lock(&args.output)?;
    match args.online {
        true => online::run(&task),
        false => train(&task),
    }
}

/// The feature set of a model, which must have a label.
fn feature_set<'a>(args: &TrainArgs, fleet: &'a Fleet, model: &Model) -> Result<&'a FeatureSet> {
    let wrong = |reason: String| Error::Fleet { path: args.fleet.clone(), line: None, reason };
    let Some(set) = model.feature_set.as_deref().and_then(|name| fleet.feature_set(name)) else {
        return Err(wrong(format!("model '{}' names no feature set to train on; add feature_set = \"…\"", model.name)));
    };
    match set.label {
        Some(_) => Ok(set),
        None => Err(wrong(format!("feature set '{}' has no label; add [feature_set.{}.label]", set.name, set.name))),
    }
}

/// One training at a time writes into a folder. The lock ends with this process.
fn lock(output: &Path) -> anyhow::Result<File> {
    let path = output.join(LOCK);
    let write = |source| Error::Write { path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(write)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: output.into() }.into()),
        Err(TryLockError::Error(source)) => Err(write(source).into()),
    }
}

fn train(task: &Task<'_>) -> anyhow::Result<u8> {
    let Task { args, model, limits, as_of, trainer, .. } = task;
    let output = &args.output;
    let artefact = output.join(ARTEFACT_FOLDER);
    empty(task, &artefact)?;
    fs::create_dir_all(&artefact).map_err(|source| Error::Write { path: artefact.clone(), source })?;
    let pipeline = FeaturePipeline::open(task.set, *limits, args.limits.scratch())?;
    if !args.allow_skew && blocked(&pipeline, *as_of)? {
        return Ok(WRONG);
    }
    let manifest = pipeline.materialize(*as_of, output)?;
    drop(pipeline);
    let Some(training) = manifest.training.clone() else {
        return Err(Error::NoRows { path: output.as_path().into() }.into());
    };
    if let Some(from) = &args.resume {
        check_resumed(&model_card::read(from)?, &manifest)?;
    }
    let training_file = output.join(&training.file);
    let labels = SetRows::read(&training_file)?.labelled()?.labels()?;
    // What follows a model that is continued may be of one class.
    let kind = if args.resume.is_some() { objective(&labels) } else { objective_of_training(&labels)? };
    let report = trainer.fit(&training_file, kind, &artefact, args.resume.as_deref())?;
    let files = model_card::digests(&artefact)?;
    if files.is_empty() {
        let reason = "the program of trainer_command.fit has left no file there; let it write its model into the folder that \
                      DRIFTSWEEP_MODEL_FOLDER names";
        return Err(Error::Unreadable { path: artefact.into(), reason: reason.into() }.into());
    }
    // The same labelled rows for the candidate and the champion.
    let judged = Judged::read(&output.join(&manifest.validation.file), kind, model.labels.as_ref())?;
    let scratch = tempfile::tempdir_in(output).map_err(|source| Error::Write { path: output.clone(), source })?;
    let scores = trainer.predict(&artefact, &judged.rows, kind, scratch.path())?;
    let champion = task.champion_scores(&judged, &manifest, scratch.path())?;
    judged.write(output, &scores, champion.as_deref())?;
    let learned = LearnedRows::from(training);
    let training = Training { manifest: &manifest, model, files, learned, learned_validation: false, report };
    let card = candidate::card(training, &judged, &scores)?;
    candidate::write_card(&card, output)?;
    candidate::tell(&card, output, args.format)?;
    Ok(0)
}

/// Removes an earlier candidate from the folder of the output: its card first, so that none stands beside another artefact. What
/// was not written by this command is left alone, and refused.
fn empty(task: &Task<'_>, artefact: &Path) -> anyhow::Result<()> {
    task.check_output()?;
    let (output, write) = (&task.args.output, |source| Error::Write { path: artefact.into(), source });
    if output.join(CARD).exists() {
        for name in FILES {
            match fs::remove_file(output.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(write(error).into()),
                _ => {}
            }
        }
        if artefact.exists() {
            fs::remove_dir_all(artefact).map_err(write)?;
        }
        return Ok(());
    }
    let has_files = fs::read_dir(artefact).is_ok_and(|mut files| files.next().is_some());
    match has_files && !output.join(MANIFEST_FILE).exists() {
        true => Err(invalid_value(
            "--output",
            &format!("{} holds files of something else; choose another folder", artefact.display()),
        )),
        // Left by a training that was stopped.
        false if has_files => Ok(fs::remove_dir_all(artefact).map_err(write)?),
        false => Ok(()),
    }
}

/// Refuses to continue a model that has learned what it would be judged by, or other features.
fn check_resumed(card: &Value, manifest: &Manifest) -> Result<()> {
    let bad = |reason: String| Err(Error::BadValue { what: "--resume".into(), reason });
    if card["feature_version"] != *manifest.feature_version {
        return bad("the model learned another version of the features; train anew, without --resume".into());
    }
    let learned_to = card["training"]["to"].as_str().and_then(|to| to.parse::<Timestamp>().ok());
    match (learned_to, manifest.validation.from) {
        (Some(to), Some(from)) if to > from => bad(format!(
            "the model has learned predictions up to {to}, and the validation set begins at {from}: it would be judged by what it \
             has learned; train anew, or give a later --now"
        )),
        (None, _) => bad(format!("its {CARD} does not say up to when it learned; train anew")),
        _ => Ok(()),
    }
}
