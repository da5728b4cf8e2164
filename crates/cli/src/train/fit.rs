//! A model that is trained or read, whatever trained it: `fit` and `predict` of the contract of trainers (docs/trainers.md).

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::{SetRows, read_scores};
use driftsweep_fleet::TrainerChoice;
use driftsweep_trainers::{FitOptions, FitReport, Objective, Settings, Target, load};
use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::super::message::for_programs;

/// The artefact of a built-in trainer, in the folder of its model.
pub const ARTEFACT: &str = "model.bin";

/// The folder of the artefact, in that of the candidate.
pub const ARTEFACT_FOLDER: &str = "model";

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

impl TrainerOf<'_> {
    /// Trains on the labelled rows of a set, and leaves the artefact in a folder.
    pub fn fit(&self, training: &Path, folder: &Path, resume: Option<&Path>) -> Result<Option<FitReport>> {
        match self.choice {
            TrainerChoice::Command(command) => {
                if resume.is_some() {
                    let reason = "a program of trainer_command starts anew; leave it out".into();
                    return Err(Error::BadValue { what: "--resume".into(), reason });
                }
                let paths = [("DRIFTSWEEP_TRAINING", training), ("DRIFTSWEEP_MODEL_FOLDER", folder)];
                self.program(&command.fit, "fit", &paths)?;
                Ok(None)
            }
            TrainerChoice::BuiltIn(settings) => {
                let rows = SetRows::read(training)?.labelled()?;
                if rows.rows() == 0 {
                    return Err(Error::NoRows { path: training.into() });
                }
                let labels = rows.labels()?;
                let objective = objective(&labels);
                let target = Target::new(objective, labels).map_err(|e| refused("label", &e))?;
                let online = matches!(settings, Settings::Online(_));
                let positions = online.then(|| rows.positions()).transpose()?;
                let state = match resume {
                    None => None,
                    Some(_) if !online => {
                        let reason = "only the trainer `online` continues from a model; leave it out".into();
                        return Err(Error::BadValue { what: "--resume".into(), reason });
                    }
                    Some(from) => Some(artefact(from)?),
                };
                let options = FitOptions {
                    positions: positions.as_deref(),
                    state: state.as_deref(),
                    threads: NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN),
                };
                let table = rows.table()?;
                let fitted = settings.trainer().and_then(|trainer| trainer.fit(&table, &target, &options));
                let fitted = fitted.map_err(|e| refused("trainer", &e))?;
                let bytes = fitted.model.to_bytes().map_err(|e| refused("trainer", &e))?;
                atomic::write(&folder.join(ARTEFACT), &bytes)?;
                Ok(Some(fitted.report))
            }
        }
    }

    /// The scores of the artefact in a folder for rows. `scratch` is for what a program reads and writes.
    pub fn predict(&self, folder: &Path, rows: &SetRows, objective: Objective, scratch: &Path) -> Result<Vec<f64>> {
        let scores = match self.choice {
            TrainerChoice::Command(command) => self.predict_by_program(&command.predict, folder, rows, scratch)?,
            TrainerChoice::BuiltIn(_) => {
                let model = load(&artefact_in(folder)?).map_err(|e| refused(&folder.display().to_string(), &e))?;
                let table = rows.table()?;
                model.predict(&table).map_err(|e| refused(&folder.display().to_string(), &e))?
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

/// SHA-256 of each file below a folder, by its path there.
pub fn digests(folder: &Path) -> Result<IndexMap<String, String>> {
    let unreadable = |path: &Path, e: std::io::Error| Error::Unreadable { path: path.into(), reason: e.to_string() };
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(|e| unreadable(&next, e))? {
            let path = entry.map_err(|e| unreadable(&next, e))?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let digest = |path: PathBuf| {
        let bytes = fs::read(&path).map_err(|e| unreadable(&path, e))?;
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        Ok((name, atomic::hex(&Sha256::digest(&bytes))))
    };
    files.into_iter().map(digest).collect()
}
