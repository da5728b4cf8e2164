//! What a training works with.

use std::path::Path;

use driftsweep_common::error::Result;
use driftsweep_features::{Limits, Manifest};
use driftsweep_fleet::{FeatureSet, Model};
use jiff::Timestamp;

use super::super::invalid_value;
use super::TrainArgs;
use super::candidate::Judged;
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
    /// The champion's scores of the judged rows, where there is one.
    pub fn champion_scores(&self, judged: &Judged, manifest: &Manifest, scratch: &Path) -> Result<Option<Vec<f64>>> {
        let predict = |champion: &Champion| champion.predict(judged, &manifest.feature_version, &self.trainer, scratch);
        self.champion.as_ref().map(predict).transpose()
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
