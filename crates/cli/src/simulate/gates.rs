//! Whether gates accept a candidate of a simulation: judged by the files that a training would write.

use std::fs;
use std::path::Path;

use driftsweep_common::address::Location;
use driftsweep_common::error::{Error, Result};
use driftsweep_features::ROW_COLUMNS;
use driftsweep_fleet::{Labels, Model};
use driftsweep_ops::labels::validation::{self, ValidationQuery};
use driftsweep_trainers::Objective;
use driftsweep_training::gate::{GateRules, evaluate};
use jiff::Timestamp;

use super::super::train::candidate::{CANDIDATE, CHAMPION, FEATURES, Judged, LABELS, columns};
use super::models::Models;

/// The gates of a model.
pub struct Gates<'a> {
    pub model: &'a Model,
    pub rules: GateRules,
    /// Where their files are written.
    pub folder: &'a Path,
}

impl<'a> Gates<'a> {
    /// Those that the fleet file declares, else those that are built in. How long a prediction takes is not replayed.
    pub fn new(model: &'a Model, folder: &'a Path) -> Self {
        let rules = GateRules { latency_p95: None, ..model.gates.clone().unwrap_or_default() };
        Self { model, rules, folder }
    }

    /// Judges a candidate beside the champion on the validation set of a night; the reason where it is not accepted.
    ///
    /// # Errors
    /// Errors of files.
    pub fn judge(
        &self,
        models: &Models<'_>,
        at: Timestamp,
        [candidate, champion]: [usize; 2],
    ) -> Result<std::result::Result<(), String>> {
        match self.report(models, at, [candidate, champion]) {
            Err(Error::BadValue { what, reason }) => Ok(Err(format!("{what}: {reason}"))),
            other => other,
        }
    }

    fn report(
        &self,
        models: &Models<'_>,
        at: Timestamp,
        [candidate, champion]: [usize; 2],
    ) -> Result<std::result::Result<(), String>> {
        let [_, validation] = models.pipeline.periods(at)?;
        let rows = models.past.set(validation)?.labelled()?;
        let kind = models.kind(candidate);
        let declared = self.model.labels.as_ref();
        let judged = Judged::of(rows, kind, declared)?;
        let scores = models.predict(candidate, &judged.rows)?;
        let of_champion = models.predict(champion, &judged.rows)?;
        fs::create_dir_all(self.folder).map_err(|source| Error::Write { path: self.folder.into(), source })?;
        judged.write(self.folder, &scores, Some(&of_champion))?;
        let place = |name: &str| Location::from(self.folder.join(name));
        let names = columns(declared, kind);
        let labels = Labels {
            predictions: place(CANDIDATE),
            from: Some(place(LABELS)),
            id: Some(names.id),
            label: names.label,
            prediction: names.prediction,
            score: names.score,
            ..declared.cloned().unwrap_or_default()
        };
        let (champion, features) = (place(CHAMPION), place(FEATURES));
        let query = ValidationQuery {
            labels: &labels,
            champion: Some(&champion),
            time: Some(ROW_COLUMNS[2]),
            // Numbers have no area under a curve.
            features: (kind == Objective::Binary).then_some(&features),
            latency: None,
            rules: &self.rules,
            zone: &self.model.zone,
        };
        let report = evaluate(&validation::read(query, &self.model.options)?, &self.rules);
        if report.accepts() {
            return Ok(Ok(()));
        }
        let open: Vec<String> = report.open().map(|gate| format!("{}: {}", gate.name, gate.sentence)).collect();
        Ok(Err(open.join("; ")))
    }
}
