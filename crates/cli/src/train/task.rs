//! What a training works with.

use std::path::Path;

use driftsweep_common::error::{Error, Result};
use driftsweep_features::{FeatureVersion, Limits};
use driftsweep_fleet::{FeatureSet, Model};
use jiff::Timestamp;
use serde_json::Value;

use super::super::invalid_value;
use super::TrainArgs;
use super::candidate::{self, Judged, ModelCard, Training};
use super::champion::Champion;
use super::fit::TrainerOf;

/// What a training works with.
pub struct Task<'a> {
    pub args: &'a TrainArgs,
    pub model: &'a Model,
    pub set: &'a FeatureSet,
    pub limits: Limits,
    pub as_of: Timestamp,
    pub trainer: TrainerOf<'a>,
    pub champion: Option<Champion>,
}

impl Task<'_> {
    /// Judges a candidate by its scores of labelled rows: writes what its gates take into its folder, and gives its card. Rows
    /// that the champion has learned are left out.
    pub fn judge(
        &self,
        training: Training<'_>,
        judged: &Judged,
        scores: &[f64],
        folder: &Path,
        scratch: &Path,
    ) -> Result<ModelCard> {
        let begins = self.champion.as_ref().map_or(Ok(0), |champion| champion.first_unlearned(&judged.rows))?;
        let (judged, scores) = (judged.without_first(begins), &scores[begins..]);
        let champion = self.champion.as_ref();
        let of_champion = champion.map(|champion| champion.predict(&judged, &self.trainer, scratch)).transpose()?;
        judged.write(folder, scores, of_champion.as_deref())?;
        candidate::card(training, &judged, scores)
    }

    /// Refuses to go on from a model that has learned something else: another model, other features, or another label.
    pub fn check_same(&self, flag: &str, card: &Value, version: &FeatureVersion) -> Result<()> {
        let other = match () {
            () if card["model"] != *self.model.name => "it is of another model",
            () if card["feature_version"] != *version.features => "it has learned another version of the features",
            () if card["label_version"].as_str() != version.label.as_deref() => "it has learned another label",
            () => return Ok(()),
        };
        let reason = format!("the model there cannot be continued: {other}; begin anew in an empty folder");
        Err(Error::BadValue { what: flag.into(), reason })
    }

    /// Refuses an output that is the folder of another model.
    pub fn check_output(&self) -> anyhow::Result<()> {
        let same = |other: &Path| match (self.args.output.canonicalize(), other.canonicalize()) {
            (Ok(output), Ok(other)) => output == other,
            _ => false,
        };
        let champion = self.champion.as_ref().map(|champion| &*champion.folder);
        for (what, folder) in [("the champion", champion), ("--resume", self.args.resume.as_deref())] {
            if folder.is_some_and(same) {
                return Err(invalid_value("--output", &format!("is the folder of {what}; choose another folder")));
            }
        }
        Ok(())
    }
}
