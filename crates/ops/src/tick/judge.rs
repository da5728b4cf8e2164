//! From the report of a sweep to the conclusions on each model: every trigger with its figures.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::by_name;
use crate::labels::{self, Joined, LabelQuery};
use crate::store::{self, LimitExceeded, MeasurementRecord, ModelRecord, StartBlockers, Store};
use driftsweep::metric::performance::{Measurement, ScoreCalibration};
use driftsweep::sweep::{ModelReport, SweepReport};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Fault, Result};
use driftsweep_extensions::trigger::labels::{Arrivals, LabelView, NewLabels, horizon};
use driftsweep_extensions::trigger::performance::PredictionSpan;
use driftsweep_extensions::trigger::{Evaluation, ModelPast, SweepView};
use driftsweep_fleet::{Fleet, Labels, Model, Trigger};

/// Most earlier sweeps used for persistence.
pub const MAX_SWEEPS_BACK: usize = 100;

/// The evaluation of a model at a sweep.
pub struct JudgedModel {
    /// The figures of all triggers.
    pub evaluation: Evaluation,
    /// Why labels could not be used, where that is so.
    pub labels_fault: Option<Fault>,
    /// Hash of the counts they come from; empty if there were none.
    pub data_hash: String,
}

/// What is remembered of models, by which a sweep is judged.
pub struct Memory {
    /// The models.
    pub known: HashMap<String, ModelRecord>,
    /// At which sweeps each was compared, with the hash of the counts.
    compared: HashMap<String, Vec<(Timestamp, String)>>,
    hits: HashMap<String, Vec<LimitExceeded>>,
    /// When the baseline of each was last set.
    renewed: HashMap<String, Timestamp>,
    /// The models on which the sweep was concluded already.
    pub concluded: HashSet<String>,
    /// Those of which the store says so, and the audit does not.
    pub not_in_audit: HashSet<String>,
    /// What of it is not what the audit says.
    pub doubts: StartBlockers,
}

impl Memory {
    /// As the store has it at one moment.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn load(store: &mut Store, as_of: Timestamp) -> Result<Self> {
        let (memory, doubts) = store.read_to_decide(|store| {
            // More sweeps than persistence needs: several may have had the same data.
            let since = store.last_sweeps(MAX_SWEEPS_BACK)?.last().copied().unwrap_or(as_of);
            let mut compared: HashMap<String, Vec<(Timestamp, String)>> = HashMap::new();
            for (model, at, data) in store.compared_since(since)? {
                compared.entry(model).or_default().push((at, data));
            }
            let mut hits: HashMap<String, Vec<LimitExceeded>> = HashMap::new();
            for hit in store.hits_since(since)? {
                hits.entry(hit.model.clone()).or_default().push(hit);
            }
            let renewed = store.baseline_entries(None)?.into_iter().map(|entry| (entry.model, entry.set_at)).collect();
            let (known, concluded) = (by_name(store.known()?), store.concluded(as_of)?.into_iter().collect());
            let not_in_audit = store.not_in_audit(&concluded, as_of, since)?;
            let doubts = StartBlockers::default();
            Ok((Self { known, compared, hits, renewed, concluded, not_in_audit, doubts }, since))
        })?;
        Ok(Self { doubts, ..memory })
    }
}

/// Evaluates the selected models of a sweep.
///
/// # Errors
/// None while triggers need nothing but labels to be read: a model whose labels cannot be read is judged without them.
pub fn evaluate(
    fleet: &Fleet,
    memory: &Memory,
    report: &SweepReport,
    as_of: Timestamp,
    wanted: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<JudgedModel>> {
    let Memory { known, compared, hits, renewed, .. } = memory;
    let mut reports: HashMap<&str, Vec<&ModelReport>> = HashMap::new();
    for model in &report.models {
        reports.entry(&model.model).or_default().push(model);
    }
    let evaluate = |model: &Model| -> Result<JudgedModel> {
        let renewed = renewed.get(&model.name);
        let trained = known.get(&model.name).and_then(|known| known.trained);
        let reports = reports.get(&*model.name).map_or(&[][..], Vec::as_slice);
        let data = data_hash(reports);
        // Sweeps before the last training belong to another model; and the same data twice is one observation.
        let mut seen = HashSet::from([&*data]);
        let before_this = compared.get(&model.name).map_or(&[][..], Vec::as_slice);
        // Nor does what was compared with another baseline.
        let counts = |at: Timestamp| {
            at < as_of && trained.is_none_or(|trained| at > trained) && renewed.is_none_or(|renewed| at > *renewed)
        };
        let sweeps = before_this.iter().filter(|(at, data)| counts(*at) && seen.insert(data));
        let mut sweeps: Vec<Timestamp> = sweeps.map(|(at, _)| *at).collect();
        let before = model.triggers.drift.persistence.value.of - 1;
        sweeps.drain(..sweeps.len().saturating_sub(before));
        let looked_at: HashSet<Timestamp> = sweeps.iter().copied().collect();
        let mut places: HashMap<[String; 3], usize> = HashMap::new();
        for hit in hits.get(&model.name).into_iter().flatten().filter(|hit| looked_at.contains(&hit.as_of)) {
            *places.entry([hit.window.clone(), hit.segment.clone(), hit.feature.clone()]).or_default() += 1;
        }
        let hits = |place: [&str; 3]| places.get(&place.map(store::key)).copied().unwrap_or(0);
        let past = known.get(&model.name).map(past).unwrap_or_default();
        let origin = |feature: &str, name: &str| model.threshold_origin(feature, name);
        let read = LabelFacts::read(model, past, as_of);
        let labels = read.as_ref().map(|facts| facts.as_ref().map(LabelFacts::view));
        let view = |labels| SweepView {
            as_of,
            model: &model.compared,
            past,
            reports,
            threshold_origin: &origin,
            sweeps: sweeps.len(),
            hits: &hits,
            labels,
        };
        let fault = |error: &Error| Fault { labels: true, ..Fault::from(error) };
        let judged =
            labels.map_err(fault).and_then(|labels| model.triggers.judge(&view(labels)).map_err(|e| fault(&e)));
        // A model whose labels cannot be used is judged without them.
        let (evaluation, labels_fault) = match judged {
            Ok(evaluation) => (evaluation, None),
            Err(fault) => (model.triggers.judge(&view(None))?, Some(fault)),
        };
        let labels_error = labels_fault.as_ref().map(|fault| fault.reason.clone());
        let evaluation = Evaluation { labels_error, ..evaluation };
        Ok(JudgedModel { evaluation, labels_fault, data_hash: data })
    };
    fleet.models.par_iter().filter(|model| wanted(&model.name)).map(evaluate).collect()
}

/// Why the labels of a model could not be used at a sweep; `None` where they can, or where no trigger needs them.
pub fn labels_fault(model: &Model, as_of: Timestamp) -> Option<String> {
    LabelFacts::read(model, ModelPast::default(), as_of).err().map(|error| error.to_string())
}

/// What of a model's record its triggers see.
fn past(known: &ModelRecord) -> ModelPast {
    ModelPast { trained: known.trained, volume_fired: known.volume_fired }
}

/// A hash of the counts of a model; empty if there were none.
fn data_hash(reports: &[&ModelReport]) -> String {
    let mut hash = Sha256::new();
    let mut counted = false;
    for report in reports.iter().filter(|report| report.error.is_none() && !report.features.is_empty()) {
        hash.update(&report.counts_hash);
        counted = true;
    }
    if counted { hex(&hash.finalize()) } else { String::new() }
}

/// What was read of the predictions and labels of a model.
struct LabelFacts<'a> {
    labels: &'a Labels,
    joined: Joined,
    arrivals: Arrivals,
    new: NewLabels,
    calibration: std::result::Result<ScoreCalibration, String>,
}

impl<'a> LabelFacts<'a> {
    /// Reads them, where a trigger needs them.
    fn read(model: &'a Model, past: ModelPast, as_of: Timestamp) -> Result<Option<Self>> {
        let triggers = &model.triggers;
        let Some(labels) = model.labels.as_ref().filter(|_| triggers.need_labels()) else { return Ok(None) };
        let since = horizon(triggers.labels_within(), labels.delay, as_of);
        let metric = triggers.performance.judged_metric();
        let question = LabelQuery { metric, zone: &model.zone, since, before: as_of, arm: None };
        let mut arrivals = Arrivals::new(since, as_of);
        let mut new = NewLabels::since(triggers.volume.since(past, as_of));
        let joined = labels::join(labels, question, &model.options, &mut |prediction| {
            arrivals.add(&prediction);
            new.add(&prediction);
        })?;
        let calibration = labels::calibrate(labels)?;
        Ok(Some(Self { labels, joined, arrivals, new, calibration }))
    }

    /// As triggers see them.
    fn view(&self) -> LabelView<'_> {
        LabelView {
            predictions: &self.joined,
            delay: self.labels.delay,
            delay_declared: self.labels.delay_declared,
            arrivals: self.labels.label_time.is_some().then_some(&self.arrivals),
            new: self.new,
            classes: self.joined.classes,
            calibration: self.calibration.as_ref().map_err(String::as_str),
            counts: self.joined.counts,
        }
    }
}

/// The figures that a trigger fired by.
///
/// # Errors
/// [`Error::BadValue`] for values that JSON cannot hold.
pub fn details(trigger: Trigger, evaluation: &Evaluation, report: &SweepReport) -> Result<Value> {
    let value = evaluation.details(trigger);
    let mut value = value.map_err(|e| Error::BadValue { what: "event".into(), reason: e.to_string() })?;
    value["sweep"] = json!({ "id": report.id, "counts_hash": report.counts_hash });
    if let Some(baseline) = evaluation.baseline.as_ref().filter(|_| trigger.properties().compares_with_baseline) {
        value["baseline"] = json!(baseline);
    }
    Ok(value)
}

/// The performance metrics of a model at a sweep.
pub fn quality(evaluation: &Evaluation) -> Vec<MeasurementRecord> {
    let Some(found) = &evaluation.performance else { return Vec::new() };
    let figures = [
        ("realised", found.realised, found.matured),
        ("reconciled", found.reconciled, found.matured),
        ("estimated", found.estimated, found.fresh),
    ];
    let entry = |(kind, measured, span): (&str, Option<Measurement>, PredictionSpan)| {
        let measured = measured?;
        Some(MeasurementRecord {
            model: evaluation.model.clone(),
            as_of: evaluation.as_of,
            kind: kind.into(),
            metric: found.metric.value.name().into(),
            since: span.since,
            before: span.before,
            rows: measured.rows as u64,
            value: measured.value,
            low: measured.low,
            high: measured.high,
        })
    };
    figures.into_iter().filter_map(entry).collect()
}
