//! The models that a simulation trains, each once, and what they say about rows.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use driftsweep_common::error::{Error, Result};
use driftsweep_features::{FeaturePipeline, PastRows, Period, SetRows, TRAINING_FILE};
use driftsweep_fleet::TrainerChoice;
use driftsweep_trainers::Objective;
use jiff::Timestamp;

use super::super::model_card::ARTEFACT_FOLDER;
use super::super::train::fit::{TrainerOf, objective_of_training};

/// Rows that a model predicts at once: a model is read, or a program started, once for each.
const BLOCK: usize = 16_384;

/// A trained model.
struct TrainedModel {
    folder: PathBuf,
    kind: Objective,
    training: Period,
    /// Its scores, by blocks of rows.
    scores: HashMap<usize, Vec<f64>>,
}

/// All models of a simulation, by their numbers.
pub struct Models<'a> {
    pub pipeline: &'a FeaturePipeline,
    pub past: &'a PastRows,
    pub trainer: TrainerOf<'a>,
    folder: &'a Path,
    trained: Vec<TrainedModel>,
    /// What became of the training of a night: the same night gives the same sets and the same model.
    by_night: HashMap<Timestamp, std::result::Result<usize, String>>,
}

impl<'a> Models<'a> {
    pub fn new(pipeline: &'a FeaturePipeline, past: &'a PastRows, trainer: TrainerOf<'a>, folder: &'a Path) -> Self {
        Self { pipeline, past, trainer, folder, trained: Vec::new(), by_night: HashMap::new() }
    }

    /// How many were trained.
    pub fn trained(&self) -> usize {
        self.trained.len()
    }

    /// The model that is trained at a night, from what was known then; the reason where there is none.
    ///
    /// # Errors
    /// Errors of files. What is wrong with rows, settings or a program is a reason.
    pub fn train(&mut self, at: Timestamp) -> Result<std::result::Result<usize, String>> {
        if let Some(known) = self.by_night.get(&at) {
            return Ok(known.clone());
        }
        let outcome = match self.fit(at) {
            Ok(model) => {
                self.trained.push(model);
                Ok(self.trained.len() - 1)
            }
            Err(error @ Error::BadValue { .. }) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        self.by_night.insert(at, outcome.clone());
        Ok(outcome)
    }

    fn fit(&self, at: Timestamp) -> Result<TrainedModel> {
        let [training, _] = self.pipeline.periods(at)?;
        let rows = self.past.set(training)?;
        let labelled = rows.labelled()?;
        if labelled.rows() == 0 {
            let from = training.from.map_or_else(String::new, |from| format!(" from {from}"));
            let reason = format!("no label of predictions{from} to {} was known at {at}; begin later", training.to);
            return Err(Error::BadValue { what: "training set".into(), reason });
        }
        let kind = objective_of_training(&labelled.labels()?)?;
        let folder = self.folder.join(format!("model-{}", self.trained.len()));
        let artefact = folder.join(ARTEFACT_FOLDER);
        fs::create_dir_all(&artefact).map_err(|source| Error::Write { path: artefact.clone(), source })?;
        let file = folder.join(TRAINING_FILE);
        if let TrainerChoice::Command(_) = self.trainer.choice {
            rows.write(&file)?;
        }
        self.trainer.fit((&file, labelled), kind, &artefact, None)?;
        // Only programs have one, and it is large.
        let _ = fs::remove_file(&file);
        Ok(TrainedModel { folder, kind, training, scores: HashMap::new() })
    }

    /// What a model predicts.
    pub fn kind(&self, model: usize) -> Objective {
        self.trained[model].kind
    }

    /// The period of its training set.
    pub fn training(&self, model: usize) -> Period {
        self.trained[model].training
    }

    /// Where files that belong to a model may lie.
    pub fn folder(&self, model: usize) -> &Path {
        &self.trained[model].folder
    }

    /// The scores of a model for a set.
    ///
    /// # Errors
    /// Those of [`TrainerOf::predict`].
    pub fn predict(&self, model: usize, rows: &SetRows) -> Result<Vec<f64>> {
        let TrainedModel { folder, kind, .. } = &self.trained[model];
        self.trainer.predict(&folder.join(ARTEFACT_FOLDER), rows, *kind, folder)
    }

    /// The scores of a model for rows of the past. They are kept.
    ///
    /// # Errors
    /// Those of [`TrainerOf::predict`].
    pub fn scores(&mut self, model: usize, rows: Range<usize>) -> Result<Vec<f64>> {
        let mut all = Vec::with_capacity(rows.len());
        let mut next = rows.start;
        while next < rows.end {
            let block = next / BLOCK;
            if !self.trained[model].scores.contains_key(&block) {
                let part = self.past.rows().part(block * BLOCK..(block + 1) * BLOCK);
                let scores = self.predict(model, &part)?;
                self.trained[model].scores.insert(block, scores);
            }
            let scores = &self.trained[model].scores[&block];
            let until = rows.end.min((block + 1) * BLOCK);
            all.extend_from_slice(&scores[next - block * BLOCK..until - block * BLOCK]);
            next = until;
        }
        Ok(all)
    }
}
