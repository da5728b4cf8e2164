//! From the report of a sweep to the conclusions on each model: every trigger with its figures.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::by_name;
use crate::labels::{self, LabelQuery};
use crate::policy::performance::{self, Arrivals, LabelContext, LabelCounts, PerformanceVerdict, VolumeVerdict};
use crate::policy::{Evaluation, drift};
use crate::store::{self, LimitExceeded, MeasurementRecord, ModelRecord, StartBlockers, Store};
use driftsweep::metric::performance::{Measurement, PerformanceMetric};
use driftsweep::sweep::{ModelReport, SweepReport};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Fault, Result};
use driftsweep_fleet::{Fleet, Model, Trigger};

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
pub fn evaluate(
    fleet: &Fleet,
    memory: &Memory,
    report: &SweepReport,
    as_of: Timestamp,
    wanted: &(dyn Fn(&str) -> bool + Sync),
) -> Vec<JudgedModel> {
    let Memory { known, compared, hits, renewed, .. } = memory;
    let mut reports: HashMap<&str, Vec<&ModelReport>> = HashMap::new();
    for model in &report.models {
        reports.entry(&model.model).or_default().push(model);
    }
    let evaluate = |model: &Model| {
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
        let before = model.triggers.persistence.value.of - 1;
        sweeps.drain(..sweeps.len().saturating_sub(before));
        let looked_at: HashSet<Timestamp> = sweeps.iter().copied().collect();
        let mut places: HashMap<[String; 3], usize> = HashMap::new();
        for hit in hits.get(&model.name).into_iter().flatten().filter(|hit| looked_at.contains(&hit.as_of)) {
            *places.entry([hit.window.clone(), hit.segment.clone(), hit.feature.clone()]).or_default() += 1;
        }
        let drift = drift::judge(model, reports, sweeps.len(), &|place| {
            places.get(&place.map(store::key)).copied().unwrap_or(0)
        });
        let (judged, labels_fault) = match judge_labels(model, known.get(&model.name), as_of) {
            Ok(judged) => (judged, None),
            Err(error) => (None, Some(Fault { labels: true, ..Fault::from(&error) })),
        };
        let (performance, volume, labels) =
            judged.map_or((None, None, None), |(p, volume, labels)| (Some(p), Some(volume), Some(labels)));
        let off = model.triggers.off.clone();
        let baseline = (!model.previous).then(|| model.baseline.to_string());
        let labels_error = labels_fault.as_ref().map(|fault| fault.reason.clone());
        let model = model.name.clone();
        let evaluation = Evaluation { model, as_of, baseline, off, drift, performance, volume, labels, labels_error };
        JudgedModel { evaluation, labels_fault, data_hash: data }
    };
    fleet.models.par_iter().filter(|model| wanted(&model.name)).map(evaluate).collect()
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

/// The performance and volume verdicts of a model, and how its labels were used.
type LabelVerdicts = (PerformanceVerdict, VolumeVerdict, LabelCounts);

fn judge_labels(model: &Model, known: Option<&ModelRecord>, as_of: Timestamp) -> Result<Option<LabelVerdicts>> {
    let triggers = &model.triggers;
    // The figures are shown even without a level.
    let off = |trigger| triggers.off.value.contains(&trigger);
    let needed = !off(Trigger::Performance) || triggers.inactive(Trigger::Volume, true).is_none();
    let Some(labels) = model.labels.as_ref().filter(|_| needed) else { return Ok(None) };
    let since = performance::horizon(triggers, labels.delay, as_of);
    let metric = triggers.metric.value.unwrap_or(PerformanceMetric::Accuracy);
    let question = LabelQuery { metric, zone: &model.zone, since, before: as_of };
    let mut arrivals = Arrivals::new(since, as_of);
    let begun = known.and_then(|known| known.volume_fired.max(known.trained));
    let mut volume = VolumeVerdict::begin(triggers, begun, as_of);
    let joined = labels::join(labels, question, &model.options, &mut |prediction| {
        arrivals.add(&prediction);
        volume.add(&prediction);
    })?;
    let calibration = labels::calibrate(labels)?;
    let given = LabelContext {
        delay: labels.delay,
        delay_declared: labels.delay_declared,
        arrivals: labels.label_time.is_some().then_some(&arrivals),
        classes: joined.classes,
        calibration: calibration.as_ref().map_err(String::as_str),
        trained: known.and_then(|known| known.trained),
    };
    let performance = performance::assess(triggers, given, &joined, as_of)?;
    Ok(Some((performance, volume, joined.counts)))
}

/// The figures that a trigger fired by.
///
/// # Errors
/// [`Error::BadValue`] for values that JSON cannot hold.
pub fn details(trigger: Trigger, evaluation: &Evaluation, report: &SweepReport) -> Result<Value> {
    let value = match trigger {
        Trigger::Drift => {
            let mut drift = evaluation.drift.clone();
            drift.comparisons.retain(|comparison| comparison.met);
            drift.comparisons.iter_mut().for_each(|comparison| comparison.columns.retain(|column| column.drifts));
            serde_json::to_value(drift)
        }
        Trigger::Performance => serde_json::to_value(&evaluation.performance),
        Trigger::Volume => serde_json::to_value(&evaluation.volume),
        Trigger::Schedule => Ok(Value::Null),
    };
    let mut value = value.map_err(|e| Error::BadValue { what: "event".into(), reason: e.to_string() })?;
    value["sweep"] = json!({ "id": report.id, "counts_hash": report.counts_hash });
    if let (Trigger::Drift, Some(baseline)) = (trigger, &evaluation.baseline) {
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
    let entry = |(kind, measured, span): (&str, Option<Measurement>, performance::PredictionSpan)| {
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
