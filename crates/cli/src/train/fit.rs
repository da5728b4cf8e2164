//! A model that is trained or read, whatever trained it: `fit` and `predict` of the contract of trainers (docs/trainers.md).

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::{SetRows, read_scores};
use driftsweep_fleet::TrainerChoice;
use driftsweep_trainers::{FitOptions, FitReport, Objective, Settings, Target, load};

use super::super::message::for_programs;
use super::super::model_card::ARTEFACT_FOLDER;

/// The artefact of a built-in trainer, in the folder of its model.
pub const ARTEFACT: &str = "model.bin";

/// What trains and predicts.
pub struct TrainerOf<'a> {
    pub choice: &'a TrainerChoice,
    /// The folder that programs run in.
    pub folder: &'a Path,
    pub threads: usize,
}

fn refused(what: &str, error: &driftsweep_trainers::Error) -> Error {
    Error::BadValue { what: what.into(), reason: error.to_string() }
}

/// What labels ask for: classes where all of them are 0 or 1.
pub fn objective(labels: &[f64]) -> Objective {
    match labels.iter().all(|label| *label == 0.0 || *label == 1.0) {
        true => Objective::Binary,
        false => Objective::Regression,
    }
}

/// The artefact of a built-in trainer that has learned labelled rows, going on from a state if there is one.
///
/// # Errors
/// [`Error::BadValue`] for labels, settings or a state that do not belong together.
pub fn fit_rows(
    settings: &Settings,
    rows: &SetRows,
    objective: Objective,
    state: Option<&[u8]>,
    threads: NonZeroUsize,
) -> Result<(Vec<u8>, FitReport)> {
    let target = Target::new(objective, rows.labels()?).map_err(|e| refused("label", &e))?;
    let online = matches!(settings, Settings::Online(_));
    let positions = online.then(|| rows.positions()).transpose()?;
    let options = FitOptions { positions: positions.as_deref(), state, threads };
    let table = rows.table()?;
    let fitted = settings.trainer().and_then(|trainer| trainer.fit(&table, &target, &options));
    let fitted = fitted.map_err(|e| refused("trainer", &e))?;
    let bytes = fitted.model.to_bytes().map_err(|e| refused("trainer", &e))?;
    Ok((bytes, fitted.report))
}

/// The scores of rows by the artefact of a built-in trainer.
///
/// # Errors
/// [`Error::BadValue`] for an artefact that cannot be read, or rows with other features.
pub fn predict_rows(artefact: &[u8], rows: &SetRows) -> Result<Vec<f64>> {
    let table = rows.table()?;
    load(artefact).and_then(|model| model.predict(&table)).map_err(|e| refused("model", &e))
}

/// What the labels of a training set ask for, which must have both classes if it has classes.
///
/// # Errors
/// [`Error::BadValue`] where all labels are the same class.
pub fn objective_of_training(labels: &[f64]) -> Result<Objective> {
    let kind = objective(labels);
    match labels.first() {
        Some(first) if kind == Objective::Binary && labels.iter().all(|label| label == first) => {
            let reason = format!(
                "all {} labels of the training set are {first}, and a model of classes learns from both; check label.column, or \
                 train on a longer period",
                labels.len()
            );
            Err(Error::BadValue { what: "label".into(), reason })
        }
        _ => Ok(kind),
    }
}

impl TrainerOf<'_> {
    /// Trains on a set, which is given as its file and as its labelled rows, and leaves the artefact in a folder.
    pub fn fit(
        &self,
        (training, rows): (&Path, SetRows),
        objective: Objective,
        folder: &Path,
        resume: Option<&Path>,
    ) -> Result<Option<FitReport>> {
        match self.choice {
            TrainerChoice::Command(command) => {
                // The program reads the file itself.
                drop(rows);
                if resume.is_some() {
                    let reason = "a program of trainer_command starts anew; leave it out".into();
                    return Err(Error::BadValue { what: "--resume".into(), reason });
                }
                let paths = [("DRIFTSWEEP_TRAINING", training), ("DRIFTSWEEP_MODEL_FOLDER", folder)];
                self.program(&command.fit, "fit", &paths)?;
                Ok(None)
            }
            TrainerChoice::BuiltIn(settings) => {
                if rows.rows() == 0 {
                    return Err(Error::NoRows { path: training.into() });
                }
                let state = match resume {
                    None => None,
                    Some(_) if !matches!(settings, Settings::Online(_)) => {
                        let reason = "only the trainer `online` continues from a model; leave it out".into();
                        return Err(Error::BadValue { what: "--resume".into(), reason });
                    }
                    Some(from) => Some(artefact(from)?),
                };
                let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
                let (bytes, report) = fit_rows(settings, &rows, objective, state.as_deref(), threads)?;
                atomic::write(&folder.join(ARTEFACT), &bytes)?;
                Ok(Some(report))
            }
        }
    }

    /// The scores of the artefact in a folder for rows. `scratch` is for what a program reads and writes.
    pub fn predict(&self, folder: &Path, rows: &SetRows, objective: Objective, scratch: &Path) -> Result<Vec<f64>> {
        let scores = match self.choice {
            TrainerChoice::Command(command) => self.predict_by_program(&command.predict, folder, rows, scratch)?,
            TrainerChoice::BuiltIn(_) => {
                let predicted = artefact_in(folder).and_then(|bytes| predict_rows(&bytes, rows));
                predicted.map_err(|e| match e {
                    Error::BadValue { reason, .. } => Error::BadValue { what: folder.display().to_string(), reason },
                    other => other,
                })?
            }
        };
        match scores.iter().position(|score| objective == Objective::Binary && !(0.0..=1.0).contains(score)) {
            None => Ok(scores),
            Some(row) => Err(Error::BadValue {
                what: "trainer_command.predict".into(),
                reason: format!("row {row} has the score {}; the score of a class is a probability", scores[row]),
            }),
        }
    }

    fn predict_by_program(
        &self,
        predict: &[String],
        folder: &Path,
        rows: &SetRows,
        scratch: &Path,
    ) -> Result<Vec<f64>> {
        let (input, output) = (scratch.join("rows.parquet"), scratch.join("scores.parquet"));
        rows.write_features(&input)?;
        let _ = fs::remove_file(&output);
        let paths =
            [("DRIFTSWEEP_ROWS", &*input), ("DRIFTSWEEP_MODEL_FOLDER", folder), ("DRIFTSWEEP_SCORES", &*output)];
        self.program(predict, "predict", &paths)?;
        read_scores(&output, rows)
    }

    /// Runs a program of the user; what it prints goes to standard error.
    fn program(&self, arguments: &[String], what: &str, paths: &[(&str, &Path)]) -> Result<()> {
        let bad = |reason: String| Error::BadValue { what: format!("trainer_command.{what}"), reason };
        let Some((program, arguments)) = arguments.split_first() else { return Err(bad("it names no program".into())) };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder).stdin(Stdio::null()).stdout(for_programs());
        for (name, path) in paths {
            let absolute = std::path::absolute(path).map_err(|source| Error::Write { path: (*path).into(), source })?;
            command.env(name, absolute);
        }
        command.env("DRIFTSWEEP_THREADS", self.threads.to_string());
        let status = command.status().map_err(|e| bad(format!("'{program}' cannot be started: {e}")))?;
        match status.success() {
            true => Ok(()),
            false => Err(bad(format!("'{program}' failed: {status}; what it printed is above"))),
        }
    }
}

fn artefact_in(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(ARTEFACT);
    fs::read(&path).map_err(|e| Error::Unreadable { path: path.as_path().into(), reason: e.to_string() })
}

/// The artefact of a candidate's folder.
fn artefact(folder: &Path) -> Result<Vec<u8>> {
    artefact_in(&folder.join(ARTEFACT_FOLDER))
}
