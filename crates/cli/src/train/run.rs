//! `driftsweep train` in a build with the feature pipeline.

use std::fs;
use std::path::{Path, PathBuf};

use driftsweep::metric::performance::{ClassifiedRow, PerformanceMetric, of_classes, of_errors};
use driftsweep::model::Options;
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::ValidationFiles;
use driftsweep_features::{FeaturePipeline, MANIFEST_FILE, Manifest, PredictionColumns, SetFile, SetRows};
use driftsweep_fleet::{Labels, TrainerChoice, TrainerCommand};
use driftsweep_report::output::{Page, Table};
use driftsweep_report::report::counted;
use driftsweep_trainers::{BatchSettings, Objective, Settings};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::features::{WRONG, blocked};
use super::super::fleet_store::read_fleet;
use super::super::time_arg::now_or;
use super::super::{TextFormat, invalid_value, model_of, variable, write, write_json};
use super::TrainArgs;
use super::fit::{ARTEFACT_FOLDER, TrainerOf, digests, objective};

/// Where a training writes its answer.
const ANSWER_FILE: &str = "DRIFTSWEEP_ANSWER_FILE";

/// What is known of the model, in the folder of the output.
const CARD: &str = "model.json";

/// What its gates are judged by.
const CANDIDATE: &str = "candidate.parquet";
const CHAMPION: &str = "champion.parquet";
const LABELS: &str = "labels.parquet";
const FEATURES: &str = "features.parquet";

/// Bytes of a card.
const MOST_CARD: u64 = 16 << 20;

/// The format of `model.json`.
const FORMAT: &str = "driftsweep.model/1";

/// What is known of a trained model: `model.json` in its folder.
#[derive(Serialize)]
struct ModelCard {
    format: &'static str,
    model: String,
    /// SHA-256 over the digests of all files of the artefact.
    digest: String,
    /// SHA-256 of each file of the artefact.
    files: IndexMap<String, String>,
    trainer: Value,
    objective: Objective,
    feature_set: String,
    feature_version: String,
    label_version: Option<String>,
    features: IndexMap<String, String>,
    as_of: Timestamp,
    training: SetFile,
    validation: SetFile,
    /// Rows that a built-in trainer learned from, held out, and skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<Value>,
    /// Figures on the labelled rows of the validation set.
    metrics: IndexMap<String, f64>,
    /// The run, job and trigger that it was trained by, where a tick started it.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    run: IndexMap<String, String>,
}

pub fn run(args: &TrainArgs) -> anyhow::Result<u8> {
    let limits = args.limits.limits()?;
    let fleet = read_fleet(&args.fleet, &Options::new())?;
    let model = model_of(&fleet, &args.model)?;
    let Some(set) = model.feature_set.as_deref().and_then(|name| fleet.feature_set(name)) else {
        return Err(Error::Fleet {
            path: args.fleet.clone(),
            line: None,
            reason: format!("model '{}' names no feature set to train on; add feature_set = \"…\"", model.name),
        }
        .into());
    };
    if set.label.is_none() {
        return Err(Error::Fleet {
            path: args.fleet.clone(),
            line: None,
            reason: format!("feature set '{}' has no label; add [feature_set.{}.label]", set.name, set.name),
        }
        .into());
    }
    let as_of = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let output = &args.output;
    let artefact = output.join(ARTEFACT_FOLDER);
    empty(args, &artefact)?;
    for folder in [output, &artefact] {
        fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    }
    let pipeline = FeaturePipeline::open(set, limits, args.limits.scratch())?;
    if !args.allow_skew && blocked(&pipeline, as_of)? {
        return Ok(WRONG);
    }
    let champion = champion(args, &model.trainer)?;
    let manifest = pipeline.materialize(as_of, output)?;
    drop(pipeline);
    if let Some(from) = &args.resume {
        check_resumed(&read_card(from)?, &manifest)?;
    }
    let folder = match fleet.folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => &fleet.folder,
    };
    let trainer = TrainerOf { choice: &model.trainer, folder, threads: limits.threads };
    let report = trainer.fit(&output.join(&manifest.training.file), &artefact, args.resume.as_deref())?;
    let files = digests(&artefact)?;
    if files.is_empty() {
        return Err(Error::NotFound { path: artefact.into() }.into());
    }

    // The same labelled rows for the candidate and the champion.
    let kind = objective(&SetRows::read(&output.join(&manifest.training.file))?.labelled()?.labels()?);
    let rows = SetRows::read(&output.join(&manifest.validation.file))?.labelled()?;
    let labels = rows.labels()?;
    check_validation(&labels, kind)?;
    let names = columns(model.labels.as_ref(), kind);
    let scratch = tempfile::tempdir_in(output).map_err(|source| Error::Write { path: output.clone(), source })?;
    let scores = trainer.predict(&artefact, &rows, kind, scratch.path())?;
    let classes = kind == Objective::Binary;
    let candidate = output.join(CANDIDATE);
    rows.write_predictions(&candidate, &names, &scores, classes)?;
    let champion = match &champion {
        None => None,
        Some((folder, choice)) => {
            let trainer = TrainerOf { choice, folder: trainer.folder, threads: trainer.threads };
            let scores = trainer.predict(&folder.join(ARTEFACT_FOLDER), &rows, kind, scratch.path())?;
            let path = output.join(CHAMPION);
            rows.write_predictions(&path, &names, &scores, classes)?;
            Some(path)
        }
    };
    let features = output.join(FEATURES);
    rows.write_features_of_gates(&features, &names)?;
    let labelled = output.join(LABELS);
    rows.write_labels(&labelled, &names)?;
    let card = card(&manifest, model, files, kind, report, metrics(kind, &scores, &labels))?;
    let text = serde_json::to_vec_pretty(&card).map_err(|e| Error::Write { path: output.clone(), source: e.into() })?;
    atomic::write(&output.join(CARD), &text)?;
    let path = |path: &Path| {
        std::path::absolute(path).map_or_else(|_| path.display().to_string(), |p| p.display().to_string())
    };
    let files = ValidationFiles {
        candidate: path(&candidate),
        champion: champion.as_deref().map(path),
        labels: path(&labelled),
        time: Some("prediction_time".into()),
        features: Some(path(&features)),
        latency: None,
    };
    if let Some(answer) = variable(ANSWER_FILE) {
        let text = serde_json::to_vec(&json!({ "validation": files })).map_err(anyhow::Error::from)?;
        fs::write(&answer, text).map_err(|source| Error::Write { path: answer.into(), source })?;
    }
    match args.format {
        TextFormat::Json => write_json(&card)?,
        TextFormat::Table => write(page(&card, output))?,
    }
    Ok(0)
}

/// Removes an earlier candidate from the folder of the output: its card first, so that none stands beside another artefact. What
/// was not written by this command is left alone, and refused.
fn empty(args: &TrainArgs, artefact: &Path) -> anyhow::Result<()> {
    let write = |source| Error::Write { path: artefact.into(), source };
    let same = |other: &Path| match (args.output.canonicalize(), other.canonicalize()) {
        (Ok(output), Ok(other)) => output == other,
        _ => false,
    };
    for (flag, folder) in [("--champion", &args.champion), ("--resume", &args.resume)] {
        if folder.as_deref().is_some_and(same) {
            return Err(invalid_value("--output", &format!("is the folder of {flag}; choose another folder")));
        }
    }
    let card = args.output.join(CARD);
    if card.exists() {
        for name in [CARD, CANDIDATE, CHAMPION, LABELS, FEATURES] {
            match fs::remove_file(args.output.join(name)) {
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
    match has_files && !args.output.join(MANIFEST_FILE).exists() {
        true => Err(invalid_value(
            "--output",
            &format!("{} holds files of something else; choose another folder", artefact.display()),
        )),
        // Left by a training that was stopped.
        false if has_files => Ok(fs::remove_dir_all(artefact).map_err(write)?),
        false => Ok(()),
    }
}

/// The card of a trained model, as JSON.
fn read_card(folder: &Path) -> Result<Value> {
    let path = folder.join(CARD);
    let unreadable = |reason: String| Error::Unreadable { path: path.as_path().into(), reason };
    let text = atomic::read_text(&path, MOST_CARD)
        .map_err(|e| unreadable(format!("{e}; name the folder of a model that `driftsweep train` made")))?;
    serde_json::from_str(&text).map_err(|e| unreadable(format!("it is no card of a model: {e}")))
}

/// The champion and how it predicts: by a program that its card names, or as a built-in model. A folder that is not there yet is
/// no champion: nothing was released before.
fn champion(args: &TrainArgs, own: &TrainerChoice) -> anyhow::Result<Option<(PathBuf, TrainerChoice)>> {
    let Some(folder) = &args.champion else { return Ok(None) };
    if !folder.exists() {
        warn!("{}: there is no such folder, so there is no champion to compare with", folder.display());
        return Ok(None);
    }
    let card = read_card(folder)?;
    let choice = match (&card["trainer"]["kind"], own) {
        (kind, TrainerChoice::Command(_)) if kind == "command" => own.clone(),
        (kind, _) if kind == "command" => {
            let command = json!({ "fit": card["trainer"]["fit"], "predict": card["trainer"]["predict"] });
            let command: TrainerCommand = serde_json::from_value(command).map_err(|e| Error::Unreadable {
                path: folder.as_path().into(),
                reason: format!("its {CARD} names no program that predicts: {e}"),
            })?;
            TrainerChoice::Command(command)
        }
        _ => TrainerChoice::BuiltIn(Settings::Batch(BatchSettings::default())),
    };
    Ok(Some((folder.clone(), choice)))
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

/// Refuses a validation set by which nothing can be judged.
fn check_validation(labels: &[f64], kind: Objective) -> Result<()> {
    let bad = |reason: &str| Err(Error::BadValue { what: "validation set".into(), reason: reason.into() });
    if labels.is_empty() {
        return bad("none of its labels is known yet; raise label.maturity, or check `on` of the label");
    }
    match kind == Objective::Binary && objective(labels) != Objective::Binary {
        true => bad("it has labels other than 0 and 1, and the training set has not; correct label.column"),
        false => Ok(()),
    }
}

/// What the columns of predictions are called: as the fleet file has them.
fn columns(labels: Option<&Labels>, kind: Objective) -> PredictionColumns {
    let Some(labels) = labels else {
        let score = (kind == Objective::Binary).then(|| "score".into());
        return PredictionColumns {
            id: "id".into(),
            label: "label".into(),
            prediction: Some("prediction".into()),
            score,
        };
    };
    PredictionColumns {
        id: labels.id.clone().unwrap_or_else(|| "id".into()),
        label: labels.label.clone(),
        prediction: labels.prediction.clone(),
        score: labels.score.clone(),
    }
}

/// Figures on the validation set.
fn metrics(kind: Objective, scores: &[f64], labels: &[f64]) -> IndexMap<String, f64> {
    use PerformanceMetric as M;
    let named = |metric: M, value: Option<f64>| value.map(|value| (metric.name().to_owned(), value));
    match kind {
        Objective::Binary => {
            let rows: Vec<ClassifiedRow> = scores
                .iter()
                .zip(labels)
                .map(|(&score, &chance)| ClassifiedRow { chance, predicted: score >= 0.5, score })
                .collect();
            let all = [M::Auc, M::Accuracy, M::LogLoss, M::Brier];
            all.into_iter()
                .filter_map(|metric| named(metric, of_classes(metric, &rows, 0.95).map(|m| m.value)))
                .collect()
        }
        Objective::Regression => {
            let errors: Vec<f64> = scores.iter().zip(labels).map(|(score, label)| score - label).collect();
            let all = [M::Mae, M::Rmse];
            all.into_iter()
                .filter_map(|metric| named(metric, of_errors(metric, &errors, 0.95).map(|m| m.value)))
                .collect()
        }
    }
}

fn card(
    manifest: &Manifest,
    model: &driftsweep_fleet::Model,
    files: IndexMap<String, String>,
    objective: Objective,
    report: Option<driftsweep_trainers::FitReport>,
    metrics: IndexMap<String, f64>,
) -> Result<ModelCard> {
    let trainer = match &model.trainer {
        TrainerChoice::Command(command) => {
            Ok(json!({ "kind": "command", "fit": command.fit, "predict": command.predict }))
        }
        TrainerChoice::BuiltIn(settings) => serde_json::to_value(settings as &Settings),
    };
    let trainer = trainer.map_err(|e| Error::BadValue { what: "trainer".into(), reason: e.to_string() })?;
    let mut hash = Sha256::new();
    files.iter().for_each(|(name, digest)| hash.update(format!("{digest}  {name}\n")));
    let run = ["DRIFTSWEEP_RUN", "DRIFTSWEEP_JOB", "DRIFTSWEEP_TRIGGER"];
    let run = run.into_iter().filter_map(|name| {
        let key = name.trim_start_matches("DRIFTSWEEP_").to_lowercase();
        variable(name).map(|value| (key, value))
    });
    Ok(ModelCard {
        format: FORMAT,
        model: model.name.clone(),
        digest: atomic::hex(&hash.finalize()),
        files,
        trainer,
        objective,
        feature_set: manifest.feature_set.clone(),
        feature_version: manifest.feature_version.clone(),
        label_version: manifest.label_version.clone(),
        features: manifest.features.clone(),
        as_of: manifest.as_of,
        training: manifest.training.clone(),
        validation: manifest.validation.clone(),
        fit: report.map(|report| {
            json!({
                "learned": report.learned, "held_out": report.held_out, "skipped": report.skipped, "rounds": report.rounds,
            })
        }),
        metrics,
        run: run.collect(),
    })
}

fn page(card: &ModelCard, folder: &Path) -> Page {
    let mut table = Table::new(["metric", "on the validation set"]);
    for (name, value) in &card.metrics {
        table.row([name.clone(), format!("{value:.4}")]);
    }
    table.align_right(1..2);
    let mut page = Page::new();
    page.table(table);
    let rows = |set: &SetFile| counted(usize::try_from(set.labelled).unwrap_or(usize::MAX), "labelled row");
    page.line(format_args!(
        "Trained on {} up to {}, validated on {} up to {}; model {} in {}",
        rows(&card.training),
        card.training.to,
        rows(&card.validation),
        card.validation.to,
        card.digest.get(..12).unwrap_or_default(),
        folder.display()
    ));
    if let Some(fit) = &card.fit
        && fit["skipped"] != 0
    {
        page.line(format_args!(
            "{} rows were learned, {} skipped: they were learned before",
            fit["learned"], fit["skipped"]
        ));
    }
    page
}
