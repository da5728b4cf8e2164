//! A trained candidate as it is left in its folder: `model.json`, and the files that its gates are judged by.

use std::fs;
use std::path::Path;

use driftsweep::metric::performance::{ClassifiedRow, PerformanceMetric, of_classes, of_errors};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::ValidationFiles;
use driftsweep_features::{Manifest, PredictionColumns, SetFile, SetRows};
use driftsweep_fleet::{Labels, Model, TrainerChoice};
use driftsweep_report::output::{Page, Table};
use driftsweep_report::report::counted;
use driftsweep_trainers::{FitReport, Objective, Settings};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::model_card::{self, CARD};
use super::super::{TextFormat, variable, write, write_json};
use super::fit::objective;

/// The version of the champion that a tick has named.
const CHAMPION_VERSION: &str = "DRIFTSWEEP_CHAMPION_VERSION";

/// Where a training writes its answer.
const ANSWER_FILE: &str = "DRIFTSWEEP_ANSWER_FILE";

/// What its gates are judged by: its predictions, those of the champion, the labels and the features of the same rows.
pub const CANDIDATE: &str = "candidate.parquet";
pub const CHAMPION: &str = "champion.parquet";
pub const LABELS: &str = "labels.parquet";
pub const FEATURES: &str = "features.parquet";

/// The files that a candidate has beside its sets and its artefact; the card is the first.
pub const FILES: [&str; 5] = [CARD, CANDIDATE, CHAMPION, LABELS, FEATURES];

/// The format of `model.json`.
const FORMAT: &str = "driftsweep.model/1";

/// What is known of a trained model: `model.json` in its folder.
#[derive(Serialize)]
pub struct ModelCard {
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
    training: LearnedRows,
    validation: SetFile,
    /// SHA-256 of the state that a step of an online model leaves for the next one; its rows are learned after they were judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<String>,
    /// Rows that a built-in trainer learned from, held out, and skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<Value>,
    /// Figures on the labelled rows of the validation set.
    metrics: IndexMap<String, f64>,
    /// The run, job and trigger that it was trained by, where a tick started it.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    run: IndexMap<String, String>,
}

/// The rows that a model has learned.
#[derive(Clone, Debug, Serialize)]
pub struct LearnedRows {
    /// The first time of prediction; `None` is the first of all.
    pub from: Option<Timestamp>,
    /// The time before which predictions are.
    pub to: Timestamp,
    /// Rows with a label.
    pub labelled: u64,
    /// The file and all that is known of it, where the model was trained on one set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<SetFile>,
}

impl From<SetFile> for LearnedRows {
    fn from(set: SetFile) -> Self {
        Self { from: set.from, to: set.to, labelled: set.labelled, set: Some(set) }
    }
}

/// The labelled rows by which a candidate is judged.
pub struct Judged {
    pub rows: SetRows,
    pub labels: Vec<f64>,
    pub kind: Objective,
    names: PredictionColumns,
}

impl Judged {
    /// Labelled rows.
    ///
    /// # Errors
    /// [`Error::BadValue`] for rows by which nothing can be judged; [`Error::UnreadableColumn`].
    pub fn of(rows: SetRows, kind: Objective, labels: Option<&Labels>) -> Result<Self> {
        let values = rows.labels()?;
        check_validation(&values, kind)?;
        let names = columns(labels, kind);
        rows.check_names(&names)?;
        Ok(Self { labels: values, names, rows, kind })
    }

    /// Without the first rows.
    pub fn without_first(&self, rows: usize) -> Self {
        let kept = self.rows.part(rows..self.rows.rows());
        Self { labels: self.labels[rows..].to_vec(), rows: kept, kind: self.kind, names: self.names.clone() }
    }

    /// Writes what gates are judged by into the folder of a candidate: its scores, and those of the champion.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, folder: &Path, scores: &[f64], champion: Option<&[f64]>) -> Result<()> {
        let Self { rows, names, kind, .. } = self;
        let classes = *kind == Objective::Binary;
        rows.write_predictions(&folder.join(CANDIDATE), names, scores, classes)?;
        if let Some(scores) = champion {
            rows.write_predictions(&folder.join(CHAMPION), names, scores, classes)?;
        }
        rows.write_features_of_gates(&folder.join(FEATURES), names)?;
        rows.write_labels(&folder.join(LABELS), names)
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
pub fn columns(labels: Option<&Labels>, kind: Objective) -> PredictionColumns {
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

/// What was trained, from what.
pub struct Training<'a> {
    pub manifest: &'a Manifest,
    pub model: &'a Model,
    /// The digests of the files of the artefact.
    pub files: IndexMap<String, String>,
    pub learned: LearnedRows,
    /// Of an online model: SHA-256 of the state that the next step begins with.
    pub lag: Option<String>,
    pub report: Option<FitReport>,
}

/// The card of a candidate with its scores of the judged rows.
///
/// # Errors
/// [`Error::BadValue`].
pub fn card(training: Training<'_>, judged: &Judged, scores: &[f64]) -> Result<ModelCard> {
    let Training { manifest, model, files, learned, lag, report } = training;
    let trainer = match &model.trainer {
        TrainerChoice::Command(command) => {
            Ok(json!({ "kind": "command", "fit": command.fit, "predict": command.predict }))
        }
        TrainerChoice::BuiltIn(settings) => serde_json::to_value(settings as &Settings),
    };
    let trainer = trainer.map_err(|e| Error::BadValue { what: "trainer".into(), reason: e.to_string() })?;
    let run = ["DRIFTSWEEP_RUN", "DRIFTSWEEP_JOB", "DRIFTSWEEP_TRIGGER"];
    let run = run.into_iter().filter_map(|name| {
        let key = name.trim_start_matches("DRIFTSWEEP_").to_lowercase();
        variable(name).map(|value| (key, value))
    });
    Ok(ModelCard {
        format: FORMAT,
        model: model.name.clone(),
        digest: model_card::digest_of(&files),
        files,
        trainer,
        objective: judged.kind,
        feature_set: manifest.feature_set.clone(),
        feature_version: manifest.feature_version.clone(),
        label_version: manifest.label_version.clone(),
        features: manifest.features.clone(),
        as_of: manifest.as_of,
        training: learned,
        validation: manifest.validation.clone(),
        lag,
        fit: report.map(|report| {
            json!({
                "learned": report.learned, "held_out": report.held_out, "skipped": report.skipped, "rounds": report.rounds,
            })
        }),
        metrics: metrics(judged.kind, scores, &judged.labels),
        run: run.collect(),
    })
}

/// Writes the card of a candidate into its folder: it is complete from then on.
///
/// # Errors
/// [`Error::Write`].
pub fn write_card(card: &ModelCard, folder: &Path) -> Result<()> {
    let text = serde_json::to_vec_pretty(card).map_err(|e| Error::Write { path: folder.into(), source: e.into() })?;
    atomic::write(&folder.join(CARD), &text)
}

/// Answers the tick that has started this training, if one has: with what gates take, with the card of the candidate, and with its new
/// baseline where that is asked for.
///
/// # Errors
/// [`Error::Write`].
pub fn answer(card: &Value, folder: &Path, baseline: Option<&Path>) -> Result<()> {
    let Some(place) = variable(ANSWER_FILE) else { return Ok(()) };
    let absolute = |path: &Path| {
        std::path::absolute(path).map_or_else(|_| path.display().to_string(), |path| path.display().to_string())
    };
    let path = |name: &str| absolute(&folder.join(name));
    let has_champion = folder.join(CHAMPION).exists();
    let files = ValidationFiles {
        candidate: path(CANDIDATE),
        champion: has_champion.then(|| path(CHAMPION)),
        champion_version: variable(CHAMPION_VERSION).filter(|_| has_champion).and_then(|version| version.parse().ok()),
        labels: path(LABELS),
        time: Some("prediction_time".into()),
        // A feature that knows the label is looked for among classes: gates of numbers refuse features.
        features: (card["objective"] == json!(Objective::Binary)).then(|| path(FEATURES)),
        latency: None,
    };
    let mut answer = json!({ "validation": files, "model": model_card::trained(card, &absolute(folder)) });
    if let Some(baseline) = baseline {
        answer["baseline"] = absolute(baseline).into();
    }
    fs::write(&place, answer.to_string()).map_err(|source| Error::Write { path: place.into(), source })
}

/// Shows the candidate.
pub fn show(card: &ModelCard, folder: &Path, format: TextFormat) -> anyhow::Result<()> {
    match format {
        TextFormat::Json => write_json(card),
        TextFormat::Table => write(page(card, folder)),
    }
}

/// Whether the job that this training belongs to has made a model, by its card.
pub fn is_of_this_job(card: &Value) -> bool {
    variable("DRIFTSWEEP_JOB").is_some_and(|job| card["run"]["job"] == *job)
}

/// Whether a tick has started this training, and waits for its answer.
pub fn is_of_a_job() -> bool {
    variable(ANSWER_FILE).is_some()
}

fn page(card: &ModelCard, folder: &Path) -> Page {
    let mut table = Table::new(["metric", "on the validation set"]);
    for (name, value) in &card.metrics {
        table.row([name.clone(), format!("{value:.4}")]);
    }
    table.align_right(1..2);
    let mut page = Page::new();
    page.table(table);
    let rows = |labelled: u64| counted(usize::try_from(labelled).unwrap_or(usize::MAX), "labelled row");
    page.line(format_args!(
        "Trained on {} up to {}, validated on {} up to {}; model {} in {}",
        rows(card.training.labelled),
        card.training.to,
        rows(card.validation.labelled),
        card.validation.to,
        card.digest.get(..12).unwrap_or_default(),
        folder.display()
    ));
    if card.objective == Objective::Regression {
        page.line("Labels are taken as numbers: some are neither 0 nor 1");
    }
    if card.lag.is_some() {
        page.line("Each row of the validation set was predicted before it was learned");
    }
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
