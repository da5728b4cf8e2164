//! The service of the demo: it predicts the flights of a day by the versions that have traffic, and logs what it predicted.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use driftsweep_common::error::{Error, Result};
use driftsweep_features::{Limits, ServedColumns, SetRows};
use driftsweep_fleet::{FeatureSet, Fleet};
use driftsweep_ops::store::Store;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::features::open;
use super::super::model_card::ARTEFACT_FOLDER;
use super::super::train::{ARTEFACT, predict_rows};

/// When the labels of all flights of the year were known.
const ALL_KNOWN: &str = "2014-01-10T00:00:00Z";

/// The columns of the log.
const LOG: ServedColumns<'_> = ServedColumns { score: "score", prediction: "late", arm: "version" };

/// The service.
pub struct Service {
    folder: PathBuf,
    model: String,
    /// All flights, in the order of their times.
    flights: SetRows,
    /// The artefact of each version.
    artefacts: HashMap<u64, Vec<u8>>,
}

impl Service {
    /// Makes the features of all flights: each row has what was known at its own time, whatever the time of the set is.
    pub fn open(fleet: &Fleet, folder: &Path) -> anyhow::Result<Self> {
        let (Some(model), Some(set)) = (fleet.models.first(), fleet.feature_sets.first()) else {
            return Err(Error::Backend("the fleet of the demo has no model".into()).into());
        };
        let all = FeatureSet { training: None, ..set.clone() };
        let pipeline = open(&all, Limits::default(), None)?;
        let now = ALL_KNOWN.parse().map_err(|e: jiff::Error| Error::Backend(e.to_string()))?;
        let output = folder.join("flights");
        let manifest = pipeline.materialize(now, &output)?;
        let training = manifest.training.ok_or_else(|| Error::NoRows { path: output.as_path().into() })?;
        let flights = SetRows::read(&output.join(&training.file))?;
        Ok(Self { folder: folder.to_owned(), model: model.name.clone(), flights, artefacts: HashMap::new() })
    }

    /// Predicts the flights of a day, as traffic is divided then.
    pub fn serve(&mut self, day: Date, store: &mut Store) -> anyhow::Result<()> {
        let midnight = |day: Date| -> Result<i128> {
            let at = day.to_zoned(TimeZone::UTC).map_err(|e| Error::Backend(e.to_string()))?;
            Ok(at.timestamp().as_nanosecond())
        };
        let next = day.tomorrow().map_err(|e| Error::Backend(e.to_string()))?;
        let range = self.flights.first_at(midnight(day)?)?..self.flights.first_at(midnight(next)?)?;
        let flights = self.flights.part(range);
        if flights.rows() == 0 {
            return Ok(());
        }
        let (weights, salt) = self.weights(store)?;
        let ids = flights.positions()?;
        let mut scores: HashMap<u64, Vec<f64>> = HashMap::new();
        for &(version, _) in &weights {
            let artefact = self.artefact(version, store)?;
            scores.insert(version, predict_rows(artefact, &flights)?);
        }
        let (mut chosen, mut arms) = (Vec::new(), Vec::new());
        for (row, position) in ids.iter().enumerate() {
            let place = place(&format!("{}:{salt}", position.id));
            let mut sum = 0.0;
            let found = weights.iter().find(|(_, share)| {
                sum += share;
                place < sum
            });
            let version = found.or(weights.last()).map_or(1, |(version, _)| *version);
            chosen.push(scores.get(&version).map_or(f64::NAN, |scores| scores[row]));
            arms.push(version.to_string());
        }
        let arms: Vec<&str> = arms.iter().map(String::as_str).collect();
        let file = self.folder.join("served").join(format!("{day}.parquet"));
        Ok(flights.write_served(&file, &LOG, &chosen, &arms)?)
    }

    /// The versions that have traffic with their shares, the candidate first, and the name of the release. Without a weights file all
    /// traffic goes to the champion.
    fn weights(&self, store: &mut Store) -> Result<(Vec<(u64, f64)>, String)> {
        let text = fs::read_to_string(self.folder.join("weights.json")).unwrap_or_default();
        let set: Value = serde_json::from_str(&text).unwrap_or_default();
        let shares = set["weights"].as_object().into_iter().flatten();
        let mut weights: Vec<(u64, f64)> =
            shares.filter_map(|(version, share)| Some((version.parse().ok()?, share.as_f64()?))).collect();
        weights.retain(|(_, share)| *share > 0.0);
        weights.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
        if weights.is_empty() {
            weights.extend(store.champion(&self.model)?.map(|champion| (champion.version, 1.0)));
        }
        Ok((weights, set["rollout"].as_str().unwrap_or_default().to_owned()))
    }

    /// The artefact of a version, read once.
    fn artefact(&mut self, version: u64, store: &mut Store) -> Result<&[u8]> {
        if !self.artefacts.contains_key(&version) {
            let versions = store.versions(Some(&self.model))?;
            let found = versions.iter().find(|known| known.version == version);
            let source = found.map(|known| known.trained.source.clone()).unwrap_or_default();
            let path = Path::new(&source).join(ARTEFACT_FOLDER).join(ARTEFACT);
            let bytes = fs::read(&path)
                .map_err(|e| Error::Unreadable { path: path.as_path().into(), reason: e.to_string() })?;
            self.artefacts.insert(version, bytes);
        }
        Ok(self.artefacts.get(&version).map_or(&[], Vec::as_slice))
    }
}

/// Where a text stands between 0 and 1: the same each time.
fn place(text: &str) -> f64 {
    let hash = Sha256::digest(text);
    let first: [u8; 8] = hash[..8].try_into().unwrap_or_default();
    u64::from_be_bytes(first) as f64 / u64::MAX as f64
}
