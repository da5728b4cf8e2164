//! What a replay is answered: triggers, trainings and gates, from what was known at each night.

use std::collections::HashMap;

use driftsweep_common::error::Error;
use driftsweep_extensions::trigger::labels::{
    KnownLabel, LabelCounts, LabelView, NewLabels, Prediction, Predictions, horizon,
};
use driftsweep_extensions::trigger::{ModelPast, SweepView};
use driftsweep_fleet::{FeatureSet, Model, Trigger};
use driftsweep_ops::policy::replay::{InProduction, ReplayWorld};
use driftsweep_trainers::Objective;
use jiff::{SignedDuration, Timestamp};

use super::drift::{DriftNights, Earlier};
use super::gates::Gates;
use super::models::Models;

/// Nanoseconds of a microsecond.
const MICROSECOND: i64 = 1000;

/// A model and its past.
pub struct World<'a> {
    pub model: &'a Model,
    pub set: &'a FeatureSet,
    pub models: Models<'a>,
    pub drift: DriftNights<'a>,
    pub gates: Gates<'a>,
    /// What the first model predicts: all others must predict the same.
    pub kind: Objective,
    /// What gates said of a candidate beside a champion.
    pub gated: HashMap<[usize; 2], Result<(), String>>,
}

impl World<'_> {
    /// The predictions that triggers look at, with the labels that were known.
    fn predictions(&mut self, at: Timestamp, now: InProduction) -> Result<LoggedPredictions, Error> {
        let maturity = self.maturity();
        let since = horizon(self.model.triggers.labels_within(), maturity, at);
        let past = self.models.past;
        let (all, own) = (past.between(Some(since), at), past.between(Some(now.since), at));
        let own = own.start.max(all.start)..all.end.max(own.start.max(all.start));
        let scores = self.models.scores(now.model, own.clone())?;
        let before = i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
        let kind = self.kind;
        let prediction = |row: usize| {
            // What another model has predicted counts as a label only.
            let score = row.checked_sub(own.start).and_then(|place| scores.get(place)).copied().unwrap_or(f64::NAN);
            let positive = kind == Objective::Binary && score >= 0.5;
            let usable = past.usable_after(row).filter(|usable| *usable < before);
            let label = usable.zip(past.label_before(row, at)).map(|(usable, label)| KnownLabel {
                known_at: usable / MICROSECOND,
                positive: label == 1.0,
                correct: kind == Objective::Binary && positive == (label == 1.0),
                error: if kind == Objective::Regression { score - label } else { f64::NAN },
            });
            Prediction { at: past.times()[row] / MICROSECOND, key: row as u64, positive, score, label, proxy: None }
        };
        Ok(LoggedPredictions(all.map(prediction).collect()))
    }

    fn maturity(&self) -> SignedDuration {
        self.set.label.as_ref().map_or(SignedDuration::ZERO, |label| label.maturity)
    }
}

/// Predictions in memory.
struct LoggedPredictions(Vec<Prediction>);

impl Predictions for LoggedPredictions {
    fn each(&self, of: &mut dyn FnMut(Prediction)) -> Result<(), Error> {
        self.0.iter().for_each(|prediction| of(*prediction));
        Ok(())
    }
}

impl ReplayWorld for World<'_> {
    type Error = Error;

    fn judge(&mut self, at: Timestamp, now: InProduction, wanted: &[Trigger]) -> Result<Vec<Trigger>, Error> {
        let past = ModelPast { trained: Some(now.since), volume_fired: now.volume_fired };
        let triggers = &self.model.triggers;
        let by_labels = [Trigger::Performance, Trigger::Volume].iter().any(|trigger| wanted.contains(trigger));
        let predictions = if by_labels { Some(self.predictions(at, now)?) } else { None };
        let labels = predictions.as_ref().map(|predictions| {
            let mut new = NewLabels::since(triggers.volume.since(past, at));
            predictions.0.iter().for_each(|prediction| new.add(prediction));
            LabelView {
                predictions,
                delay: self.maturity(),
                delay_declared: true,
                arrivals: None,
                new,
                classes: 2,
                calibration: Err("a simulation estimates nothing"),
                counts: LabelCounts::default(),
            }
        });
        let (mut reports, mut earlier) = (Vec::new(), Earlier { sweeps: 0, hits: HashMap::new() });
        if wanted.contains(&Trigger::Drift) {
            self.drift.reports(&self.models, at, now)?;
            earlier = self.drift.earlier(at, now, triggers.drift.persistence.value.of - 1);
            reports = self.drift.reports(&self.models, at, now)?;
        }
        let hits = |place: [&str; 3]| earlier.hits.get(&place.map(str::to_owned)).copied().unwrap_or(0);
        let view = SweepView {
            as_of: at,
            model: &self.model.compared,
            past,
            reports: &reports,
            threshold_origin: &|feature, name| self.model.threshold_origin(feature, name),
            sweeps: earlier.sweeps,
            hits: &hits,
            labels,
        };
        let fired = triggers.judge(&view)?.fired();
        Ok(fired.into_iter().map(|(trigger, _)| trigger).filter(|trigger| wanted.contains(trigger)).collect())
    }

    fn train(&mut self, at: Timestamp) -> Result<Result<usize, String>, Error> {
        Ok(match self.models.train(at)? {
            Ok(model) if self.models.kind(model) != self.kind => {
                Err("its labels are classes and those of the first model numbers, or the other way round".into())
            }
            trained => trained,
        })
    }

    fn gate(&mut self, at: Timestamp, candidate: usize, champion: usize) -> Result<Result<(), String>, Error> {
        if let Some(known) = self.gated.get(&[candidate, champion]) {
            return Ok(known.clone());
        }
        let verdict = self.gates.judge(&self.models, at, [candidate, champion])?;
        self.gated.insert([candidate, champion], verdict.clone());
        Ok(verdict)
    }
}
