//! The champion: the model in production, which predicts the same rows as a candidate.

use std::path::{Path, PathBuf};

use driftsweep_common::error::{Error, Result};
use driftsweep_features::{FeatureVersion, SetRows};
use driftsweep_fleet::{TrainerChoice, TrainerCommand};
use driftsweep_trainers::{BatchSettings, Settings};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::model_card::{self, ARTEFACT_FOLDER, CARD};
use super::super::variable;
use super::candidate::Judged;
use super::fit::TrainerOf;

/// The source and the digest of the champion, for trainings that a tick starts.
const CHAMPION_VARIABLE: &str = "DRIFTSWEEP_CHAMPION";
const CHAMPION_DIGEST: &str = "DRIFTSWEEP_CHAMPION_DIGEST";

/// The model in production.
pub struct Champion {
    /// Its folder.
    pub folder: PathBuf,
    card: Value,
    /// What predicts by it.
    choice: TrainerChoice,
}

impl Champion {
    /// The champion in a folder that the command line names, or else the one of the registry. A named folder that is not there yet
    /// is no champion: nothing was released before.
    ///
    /// # Errors
    /// [`Error::Unreadable`], also where the folder holds another model than the registry says.
    pub fn open(named: Option<&Path>, own: &TrainerChoice) -> Result<Option<Self>> {
        let of_registry = variable(CHAMPION_VARIABLE).map(PathBuf::from).filter(|_| named.is_none());
        let Some(folder) = named.or(of_registry.as_deref()) else { return Ok(None) };
        let unreadable = |reason: String| Error::Unreadable { path: folder.into(), reason };
        if !folder.exists() {
            if of_registry.is_some() {
                let reason =
                    "the champion of the registry is not there; put it back, or name a copy of it with --champion";
                return Err(unreadable(reason.into()));
            }
            warn!("{}: there is no such folder, so there is no champion to compare with", folder.display());
            return Ok(None);
        }
        let card = model_card::read(folder)?;
        model_card::check_artefact(folder, &card)?;
        let registered = variable(CHAMPION_DIGEST).filter(|_| of_registry.is_some());
        if let Some(digest) = registered.filter(|digest| card["digest"] != **digest) {
            return Err(unreadable(format!(
                "it holds the model {}, and the champion of the registry was {}: another training has overwritten it. Let \
                 each training have a folder of its own, such as --output candidates/{{run}}",
                card["digest"].as_str().and_then(|own| own.get(..12)).unwrap_or("?"),
                digest.get(..12).unwrap_or(&digest),
            )));
        }
        let choice = match (&card["trainer"]["kind"], own) {
            (kind, TrainerChoice::Command(_)) if kind == "command" => own.clone(),
            (kind, _) if kind == "command" => {
                let command = json!({ "fit": card["trainer"]["fit"], "predict": card["trainer"]["predict"] });
                let command: TrainerCommand = serde_json::from_value(command)
                    .map_err(|e| unreadable(format!("its {CARD} names no program that predicts: {e}")))?;
                TrainerChoice::Command(command)
            }
            _ => TrainerChoice::BuiltIn(Settings::Batch(BatchSettings::default())),
        };
        Ok(Some(Self { folder: folder.to_owned(), card, choice }))
    }

    /// Refuses a champion that predicts something else. Where it has learned other features, or is of another model, that is said:
    /// it is given the features of the candidate.
    ///
    /// # Errors
    /// [`Error::BadValue`].
    pub fn check(&self, version: &FeatureVersion, model: &str) -> Result<()> {
        let (label, feature_version) = (version.label.as_deref(), &version.features);
        if self.card["label_version"].as_str() != label {
            let reason = format!(
                "{}: the champion has learned another label, so that its predictions mean something else; train without it, and \
                 retire it in the registry (`driftsweep models retire`)",
                self.folder.display()
            );
            return Err(Error::BadValue { what: "--champion".into(), reason });
        }
        if self.card["model"] != *model {
            let own = self.card["model"].as_str().unwrap_or("?");
            warn!("{}: the champion is of model '{own}'", self.folder.display());
        }
        if self.card["feature_version"] != **feature_version {
            warn!(
                "{}: the champion has learned version {} of the features, and predicts by version {}; where a feature means \
                 something else now, it predicts worse than in production",
                self.folder.display(),
                self.card["feature_version"].as_str().and_then(|own| own.get(..12)).unwrap_or("?"),
                feature_version.get(..12).unwrap_or(feature_version),
            );
        }
        Ok(())
    }

    /// The first row that it has not learned: of predictions at the time up to which it has learned, or later.
    ///
    /// # Errors
    /// [`Error::BadValue`] where it has learned all of them.
    pub fn first_unlearned(&self, rows: &SetRows) -> Result<usize> {
        let to = self.card["training"]["to"].as_str().and_then(|to| to.parse::<Timestamp>().ok());
        let Some(to) = to else { return Ok(0) };
        let first = rows.first_at(to.as_nanosecond())?;
        let folder = self.folder.display();
        match first {
            0 => Ok(0),
            first if first == rows.rows() => Err(Error::BadValue {
                what: "--champion".into(),
                reason: format!(
                    "{folder}: the champion has learned all rows of the validation set, up to {to}; train later"
                ),
            }),
            first => {
                warn!(
                    "{folder}: the champion has learned predictions up to {to}; {first} rows before that judge neither model"
                );
                Ok(first)
            }
        }
    }

    /// Its scores of the rows by which a candidate is judged.
    ///
    /// # Errors
    /// Those of [`TrainerOf::predict`].
    pub fn predict(&self, judged: &Judged, tools: &TrainerOf<'_>, scratch: &Path) -> Result<Vec<f64>> {
        let trainer = TrainerOf { choice: &self.choice, folder: tools.folder, threads: tools.threads };
        trainer.predict(&self.folder.join(ARTEFACT_FOLDER), &judged.rows, judged.kind, scratch)
    }
}
