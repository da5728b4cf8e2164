//! `driftsweep train` in a build with the feature pipeline.

use std::fs;
use std::path::Path;

use driftsweep::model::Options;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::{MANIFEST_FILE, Manifest, SetRows, TRAINING_FILE, VALIDATION_FILE};
use driftsweep_fleet::{FeatureSet, Fleet, Model};
use jiff::Timestamp;
use serde_json::Value;

use super::super::features::{WRONG, blocked, open};
use super::super::fleet_store::read_fleet;
use super::super::model_card::{self, ARTEFACT_FOLDER, CARD};
use super::super::model_of;
use super::super::output_folder::{OutputFolder, check_inputs};
use super::super::time_arg::now_or;
use super::candidate::{self, FILES, Judged, LearnedRows, Training};
use super::champion::Champion;
use super::fit::{TrainerOf, objective, objective_of_training};
use super::task::Task;
use super::{TrainArgs, online};

/// What is written into the folder of a candidate.
const NAMES: [&str; 9] = {
    let [card, candidate, champion, labels, features] = FILES;
    [card, candidate, champion, labels, features, ARTEFACT_FOLDER, TRAINING_FILE, VALIDATION_FILE, MANIFEST_FILE]
};

pub fn run(args: &TrainArgs) -> anyhow::Result<u8> {
    let limits = args.limits.limits()?;
    let fleet = read_fleet(&args.fleet, &Options::new())?;
    let model = model_of(&fleet, &args.model)?;
    let set = feature_set(&args.fleet, &fleet, model)?;
    let as_of = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let folder = match fleet.folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => &fleet.folder,
    };
    let trainer = TrainerOf { choice: &model.trainer, folder, threads: limits.threads };
    let champion = Champion::open(args.champion.as_deref(), &model.trainer)?;
    let task = Task { args, model, set, limits, as_of, trainer, champion };
    task.check_output()?;
    match args.online {
        true => {
            let _folder = OutputFolder::claim(&args.output, &[])?;
            online::run(&task)
        }
        false => {
            let _folder = OutputFolder::claim(&args.output, &NAMES)?;
            train(&task)
        }
    }
}

/// The feature set of a model, which must have a label.
pub fn feature_set<'a>(path: &Path, fleet: &'a Fleet, model: &Model) -> Result<&'a FeatureSet> {
    let wrong = |reason: String| Error::Fleet { path: path.into(), line: None, reason };
    let Some(set) = model.feature_set.as_deref().and_then(|name| fleet.feature_set(name)) else {
        return Err(wrong(format!("model '{}' names no feature set to train on; add feature_set = \"…\"", model.name)));
    };
    match set.label {
        Some(_) => Ok(set),
        None => Err(wrong(format!("feature set '{}' has no label; add [feature_set.{}.label]", set.name, set.name))),
    }
}

fn train(task: &Task<'_>) -> anyhow::Result<u8> {
    let Task { args, model, limits, as_of, trainer, .. } = task;
    let output = &args.output;
    let artefact = output.join(ARTEFACT_FOLDER);
    let pipeline = open(task.set, *limits, args.limits.scratch())?;
    let sources = pipeline.sources();
    check_inputs(output, &NAMES, sources.values().flatten().map(|file| &*file.path))?;
    empty(output, &artefact)?;
    fs::create_dir_all(&artefact).map_err(|source| Error::Write { path: artefact.clone(), source })?;
    if !args.allow_skew && blocked(&pipeline, *as_of)? {
        return Ok(WRONG);
    }
    let version = pipeline.version()?;
    if let Some(champion) = &task.champion {
        champion.check(&version, &model.name)?;
    }
    let resumed = args.resume.as_deref().map(model_card::read).transpose()?;
    if let Some(card) = &resumed {
        task.check_same("--resume", card, &version)?;
    }
    let manifest = pipeline.materialize(*as_of, output)?;
    drop(pipeline);
    let Some(training) = manifest.training.clone() else {
        return Err(Error::NoRows { path: output.as_path().into() }.into());
    };
    if let Some(card) = &resumed {
        check_resumed(card, &manifest)?;
    }
    let training_file = output.join(&training.file);
    let rows = SetRows::read(&training_file)?.labelled()?;
    let labels = rows.labels()?;
    // What follows a model that is continued may be of one class.
    let kind = if args.resume.is_some() { objective(&labels) } else { objective_of_training(&labels)? };
    let report = trainer.fit((&training_file, rows), kind, &artefact, args.resume.as_deref())?;
    let files = model_card::digests(&artefact)?;
    if files.is_empty() {
        let reason = "the program of trainer_command.fit has left no file there; let it write its model into the folder that \
                      DRIFTSWEEP_MODEL_FOLDER names";
        return Err(Error::Unreadable { path: artefact.into(), reason: reason.into() }.into());
    }
    // The same labelled rows for the candidate and the champion.
    let rows = SetRows::read(&output.join(&manifest.validation.file))?.labelled()?;
    let judged = Judged::of(rows, kind, model.labels.as_ref())?;
    let scratch = tempfile::tempdir_in(output).map_err(|source| Error::Write { path: output.clone(), source })?;
    let scores = trainer.predict(&artefact, &judged.rows, kind, scratch.path())?;
    let learned = LearnedRows::from(training);
    let training = Training { manifest: &manifest, model, files, learned, lag: None, report };
    let card = task.judge(training, &judged, &scores, output, scratch.path())?;
    candidate::write_card(&card, output)?;
    let baseline = args.baseline.then_some(&*training_file);
    candidate::answer(&serde_json::to_value(&card)?, output, baseline)?;
    candidate::show(&card, output, args.format)?;
    Ok(0)
}

/// Removes an earlier candidate from the folder of the output: its card first, so that none stands beside another artefact.
fn empty(output: &Path, artefact: &Path) -> Result<()> {
    let write = |source| Error::Write { path: artefact.into(), source };
    for name in FILES {
        match fs::remove_file(output.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(write(error)),
            _ => {}
        }
    }
    match fs::remove_dir_all(artefact) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(write(error)),
        _ => Ok(()),
    }
}

/// Refuses to continue a model that has learned what it would be judged by.
fn check_resumed(card: &Value, manifest: &Manifest) -> Result<()> {
    let bad = |reason: String| Err(Error::BadValue { what: "--resume".into(), reason });
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
