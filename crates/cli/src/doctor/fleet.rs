//! A fleet file, checked against the data, the machine and the notification channels: everything that would fail at
//! night.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use driftsweep::snapshot::{ColumnType, Snapshot};
use driftsweep::sweep::{Change, Rows, SweepSurvey};
use driftsweep_common::error::{Fault, Result};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Labels, Model, RolloutConfig, Trigger};
use driftsweep_ops::tick;
use driftsweep_training::gate::GateRules;
use jiff::Timestamp;
use serde::Serialize;

use super::approval::{self, ApprovalCheck};
use super::connections::{self, ChannelCheck};
use super::finding::{Findings, Severity};
use super::{decoding, locations};
use crate::features;
use crate::fleet_store::StoreArgs;

/// What was found of a fleet.
#[derive(Serialize)]
pub struct FleetCheck {
    pub name: String,
    /// The effective time of the check.
    pub now: Timestamp,
    pub summary: CheckSummary,
    pub models: Vec<ModelCheck>,
    pub channels: Vec<ChannelCheck>,
    /// The approvers, and how they sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalCheck>,
    /// Findings about all models.
    pub findings: Findings,
}

/// What was found, in numbers.
#[derive(Serialize)]
pub struct CheckSummary {
    pub models: usize,
    pub ready: usize,
    pub failing: usize,
    /// What else is broken: store, folders, channels.
    pub broken: usize,
    pub warnings: usize,
}

/// What was found of a model.
#[derive(Serialize)]
pub struct ModelCheck {
    pub name: String,
    pub ready: bool,
    /// Triggers that can fire.
    pub active: Vec<Trigger>,
    /// Triggers that cannot, with the reason.
    pub inactive: BTreeMap<Trigger, String>,
    pub comparisons: Vec<ComparisonCheck>,
    pub findings: Findings,
}

/// A comparison that could be made.
#[derive(Serialize)]
pub struct ComparisonCheck {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub window: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub segment: String,
    pub rows: Rows,
    pub features: usize,
}

/// Checks a fleet as it would be swept at a time.
///
/// # Errors
/// If the fleet cannot be checked at all.
pub fn check(path: &Path, fleet: &Fleet, now: Timestamp, store: &StoreArgs, tell: bool) -> Result<FleetCheck> {
    let dated = fleet.at(now);
    let survey = dated.plan(now).survey();
    let mut tables = Tables::default();
    let mut models: Vec<ModelCheck> =
        dated.models.iter().map(|model| check_model(model, fleet, now, &mut tables)).collect();
    add_comparisons(&mut models, &dated.models, survey);
    for (checked, model) in models.iter_mut().zip(&dated.models) {
        check_quorum(checked, model);
    }
    let mut findings = Findings::default();
    let mut of_models: Vec<&mut Findings> = models.iter_mut().map(|model| &mut model.findings).collect();
    decoding::check(&dated.models, &mut of_models, &mut findings);
    check_feature_sets(fleet, &mut models, &mut findings);
    for model in &mut models {
        model.ready = !model.findings.is_broken();
    }
    locations::check(path, fleet, store, &mut findings);
    check_tick_interval(fleet, &mut findings);
    let http = Http::new()?;
    let channels: Vec<ChannelCheck> =
        fleet.channels.iter().map(|channel| connections::channel(channel, fleet, &http, tell.then_some(now))).collect();
    let all = || models.iter().map(|m| &m.findings).chain(channels.iter().map(|c| &c.findings)).chain([&findings]);
    let failing = models.iter().filter(|model| !model.ready).count();
    let summary = CheckSummary {
        models: models.len(),
        ready: models.len() - failing,
        failing,
        broken: findings.of(Severity::Broken) + channels.iter().map(|c| c.findings.of(Severity::Broken)).sum::<usize>(),
        warnings: all().map(|findings| findings.of(Severity::Warning)).sum(),
    };
    let approval = approval::of(&fleet.governance.approval);
    Ok(FleetCheck { name: fleet.name.clone(), now, summary, models, channels, approval, findings })
}

/// Plans each feature set once; a mistake is one of each model that uses it.
fn check_feature_sets(fleet: &Fleet, models: &mut [ModelCheck], findings: &mut Findings) {
    for set in &fleet.feature_sets {
        let uses = |name: &str| fleet.model(name).is_some_and(|model| model.feature_set.as_ref() == Some(&set.name));
        let (level, reason) = match features::plan(set) {
            Some(Ok(())) => continue,
            Some(Err(error)) => (Severity::Broken, error.to_string()),
            None => (
                Severity::Note,
                format!("feature_set '{}' was not checked: this build has no feature pipeline", set.name),
            ),
        };
        let mut users: Vec<&mut ModelCheck> = models.iter_mut().filter(|model| uses(&model.name)).collect();
        if users.is_empty() {
            findings.add(level, "features", &reason);
        }
        users.iter_mut().for_each(|model| model.findings.add(level, "features", &reason));
    }
}

/// Tables of predictions and labels, each opened once: many models may share one.
#[derive(Default)]
struct Tables(HashMap<String, std::result::Result<Snapshot, String>>);

impl Tables {
    fn open(&mut self, spec: &str) -> &std::result::Result<Snapshot, String> {
        self.0.entry(spec.to_owned()).or_insert_with(|| Snapshot::open(spec).map_err(|e| e.to_string()))
    }
}

fn check_model(model: &Model, fleet: &Fleet, now: Timestamp, tables: &mut Tables) -> ModelCheck {
    let mut findings = Findings::default();
    let labels = model.labels.is_some();
    let (mut active, mut inactive) = (Vec::new(), BTreeMap::new());
    for &trigger in Trigger::ALL {
        match model.triggers.inactive(trigger, labels) {
            None => active.push(trigger),
            Some(reason) => {
                inactive.insert(trigger, reason);
            }
        }
    }
    if active.is_empty() {
        findings.add(Severity::Warning, "", "no trigger is active: no training will ever be requested");
    }
    if let Some(labels) = &model.labels {
        check_labels(labels, model, tables, &mut findings);
        if !findings.is_broken()
            && labelled_rows(labels, tables) <= MAX_JOINED_ROWS
            && let Some(reason) = tick::labels_fault(model, now)
        {
            findings.add(Severity::Broken, "labels", reason);
        }
        let declared = fleet.own_baseline(model, now);
        if let (Some(reference), Some(_)) = (&labels.reference, &labels.score)
            && !model.previous
            && model.baseline != declared
            && *reference == declared
        {
            findings.add(
                Severity::Warning,
                "labels.reference",
                format!(
                    "is still the baseline of the fleet file, {}, although a newer one was set: what scores mean is learned from \
                     the former model; name a table with scores and labels of the new one",
                    reference
                ),
            );
        }
    }
    if model.gates.is_some() && model.labels.as_ref().is_none_or(|labels| labels.id.is_none()) {
        let reason = "candidates are judged by ids and labels, and [model.labels] names no id: every candidate would be rejected";
        findings.add(Severity::Broken, "gates", reason);
    }
    if let Some(gates) = &model.gates {
        check_gates(gates, model, &mut findings);
    }
    match &model.retrain {
        Some(retrain) => retrain.executor.settings().check(&mut findings),
        None if fleet.models.iter().any(|other| other.retrain.is_some()) => {
            findings.add(Severity::Note, "", "has no [model.retrain]: its events are opened, and nothing is trained");
        }
        None => {}
    }
    if let Some(rollout) = &model.rollout {
        check_rollout(rollout, model, tables, &mut findings);
    }
    ModelCheck { name: model.name.clone(), ready: true, active, inactive, comparisons: Vec::new(), findings }
}

/// Whether a candidate could pass the gates of a model at all.
fn check_gates(gates: &GateRules, model: &Model, findings: &mut Findings) {
    let scored = model.labels.as_ref().is_some_and(|labels| labels.score.is_some());
    if let Some(rule) = gates.metrics.iter().find(|rule| rule.metric.needs_score() && !scored) {
        let reason =
            format!("'{}' takes a score, and labels.score is not set: every candidate would be rejected", rule.metric);
        findings.add(Severity::Broken, "gates", reason);
    }
    let executor = model.retrain.as_ref().map(|retrain| &retrain.executor);
    if let Some(executor) = executor.filter(|executor| !executor.settings().has_answer()) {
        let reason = format!(
            "a training by {} cannot name the predictions that candidates are judged by: every candidate would be \
             rejected; train by command or webhook, or judge in the training itself with `driftsweep gate`",
            executor.name()
        );
        findings.add(Severity::Broken, "gates", reason);
    }
}

/// Most rows of predictions and labels that are joined before the night: a few seconds.
const MAX_JOINED_ROWS: u64 = 10_000_000;

/// Rows of the predictions and labels of a model, as far as they can be opened.
fn labelled_rows(labels: &Labels, tables: &mut Tables) -> u64 {
    let mut rows = |spec: &str| tables.open(spec).as_ref().map_or(0, Snapshot::rows);
    rows(labels.predictions.expose()) + labels.from.as_ref().map_or(0, |from| rows(from.expose()))
}

/// What the survey of the data found. The same reason for several windows or segments is reported once.
fn add_comparisons(models: &mut [ModelCheck], of_fleet: &[Model], survey: SweepSurvey) {
    let at: HashMap<String, usize> = models.iter().enumerate().map(|(i, model)| (model.name.clone(), i)).collect();
    let mut failed: Vec<(usize, String, Vec<String>)> = Vec::new();
    for planned in survey.comparisons {
        let Some(&i) = at.get(&planned.model) else { continue };
        let place = [&*planned.window, &*planned.segment].join(" ").trim().to_owned();
        for change in &planned.schema {
            let words = format!("column '{}' {}", change.column, change.words());
            match change.change {
                Change::Gone => models[i].findings.add(
                    Severity::Broken,
                    &place,
                    format!("{words}; correct the feature's source, or leave the column out (exclude)"),
                ),
                // One that cannot be compared is reported with its reason.
                Change::Changed if planned.type_mismatches.iter().any(|(column, _)| *column == change.column) => {}
                Change::Changed => models[i].findings.add(Severity::Note, &place, words),
                Change::Added => {}
            }
        }
        for (column, reason) in &planned.type_mismatches {
            models[i].findings.add(Severity::Broken, &place, format!("column '{column}': {reason}"));
        }
        match planned.error {
            Some(Fault { reason, .. }) => match failed.iter_mut().find(|(of, known, _)| *of == i && *known == reason) {
                Some((_, _, places)) => places.push(place),
                None => failed.push((i, reason, vec![place])),
            },
            None => {
                let needed = of_fleet[i].options.thresholds.min_rows;
                let rows = planned.rows.baseline.min(planned.rows.current);
                if rows < needed && planned.segment.is_empty() {
                    let reason =
                        format!("{rows} rows are too few to be judged: min_rows is {needed}, and nothing can drift");
                    models[i].findings.add(Severity::Warning, &place, reason);
                }
                models[i].comparisons.push(ComparisonCheck {
                    window: planned.window,
                    segment: planned.segment,
                    rows: planned.rows,
                    features: planned.features,
                });
            }
        }
    }
    for (i, reason, places) in failed {
        let about = match &places[..] {
            [first] => first.clone(),
            [first, more @ ..] => {
                format!("{first} and {} more windows or segments", more.len()).trim_start().to_owned()
            }
            [] => String::new(),
        };
        models[i].findings.add(Severity::Broken, &about, reason);
    }
}

/// Whether enough columns are compared for the drift trigger to fire.
fn check_quorum(checked: &mut ModelCheck, model: &Model) {
    let compared = checked.comparisons.iter().map(|comparison| comparison.features).max();
    let reason = compared.and_then(|columns| model.triggers.drift.quorum.value.too_large_for(columns));
    if let Some(reason) = reason.filter(|_| checked.active.contains(&Trigger::Drift)) {
        checked.findings.add(Severity::Warning, "trigger.drift", reason);
    }
}

/// The tables and columns that join predictions with labels.
fn check_labels(labels: &Labels, model: &Model, tables: &mut Tables, findings: &mut Findings) {
    let own = labels.from.is_none();
    let predictions = [
        ("time", Some(&labels.time), true),
        ("prediction", labels.prediction.as_ref(), false),
        ("score", labels.score.as_ref(), false),
        ("proxy", labels.proxy.as_ref(), false),
        ("id", labels.id.as_ref(), false),
        ("label", Some(&labels.label).filter(|_| own), false),
        ("label_time", labels.label_time.as_ref().filter(|_| own), true),
    ];
    check_table("labels.predictions", tables.open(labels.predictions.expose()), &predictions, findings);
    if let Some(from) = &labels.from {
        let columns = [
            ("id", labels.id.as_ref(), false),
            ("label", Some(&labels.label), false),
            ("label_time", labels.label_time.as_ref(), true),
        ];
        check_table("labels.from", tables.open(from.expose()), &columns, findings);
    }
    // The default reference is the baseline, which need not have scores.
    if let (Some(reference), Some(score)) = (&labels.reference, &labels.score)
        && *reference != model.baseline
    {
        let columns = [("score", Some(score), false), ("label", Some(&labels.label), false)];
        check_table("labels.reference", tables.open(reference.expose()), &columns, findings);
    }
}

/// What a release would need: the columns that tell the arms apart and that are compared, and the way to divide traffic.
fn check_rollout(rollout: &RolloutConfig, model: &Model, tables: &mut Tables, findings: &mut Findings) {
    rollout.traffic.settings().check(findings);
    let Some(labels) = &model.labels else { return };
    // Predictions that are not there were reported with the labels.
    if let Ok(table) = tables.open(labels.predictions.expose()) {
        let of_checks = rollout.checks.iter().filter_map(|check| Some((check.name.as_str(), check.outcome.column()?)));
        let named = [("arm", &*rollout.arm)].into_iter().chain(rollout.unit.as_deref().map(|unit| ("unit", unit)));
        for (setting, name) in named.chain(of_checks) {
            if let Err(error) = table.column(name) {
                findings.add(Severity::Broken, &format!("rollout.{setting}"), error.to_string());
            }
        }
    }
    let executor = model.retrain.as_ref().map(|retrain| &retrain.executor);
    if executor.is_some_and(|executor| !executor.settings().has_answer()) {
        let reason = "its training has no answer, so no version is registered; let its last step run `driftsweep models register`, and \
                      start the release with `driftsweep rollout start`";
        findings.add(Severity::Warning, "rollout", reason);
    }
}

/// Whether a table is there with its columns: of each the setting that names it, and whether it holds times.
fn check_table(
    about: &str,
    table: &std::result::Result<Snapshot, String>,
    columns: &[(&str, Option<&String>, bool)],
    findings: &mut Findings,
) {
    let table = match table {
        Ok(table) => table,
        Err(reason) => return findings.add(Severity::Broken, about, reason.clone()),
    };
    for &(setting, name, timed) in columns {
        let Some(name) = name else { continue };
        let about = format!("labels.{setting}");
        match table.column(name) {
            Err(error) => findings.add(Severity::Broken, &about, error.to_string()),
            Ok(column) if timed && !may_hold_times(&column.kind) => {
                let place = driftsweep_common::address::redacted(table.spec());
                let kind = column.kind.name();
                findings.add(
                    Severity::Broken,
                    &about,
                    format!("{place}: column '{name}' holds {kind}, which is no time; name a column of times or dates"),
                );
            }
            Ok(_) => {}
        }
    }
    let columns: Vec<_> = columns.iter().filter_map(|(_, name, _)| table.find((*name)?)).collect();
    let within = std::time::Instant::now() + std::time::Duration::from_secs(2);
    for (_, reason) in decoding::decode(table, &columns, within).1 {
        findings.add(Severity::Broken, about, reason);
    }
}

/// Text is read as times row by row.
fn may_hold_times(kind: &ColumnType) -> bool {
    matches!(kind, ColumnType::Temporal(..) | ColumnType::Text | ColumnType::Null)
}

/// Approval requests are sent and escalated by ticks.
fn check_tick_interval(fleet: &Fleet, findings: &mut Findings) {
    let within = fleet.governance.approval.answer_within;
    if fleet.models.iter().all(|model| model.retrain.is_none()) || within >= jiff::SignedDuration::from_hours(24) {
        return;
    }
    let minutes = (within.as_mins() / 4).clamp(1, 60);
    let cron = match minutes {
        60 => "0 * * * *".to_owned(),
        minutes => format!("*/{minutes} * * * *"),
    };
    findings.add(
        Severity::Note,
        "approval",
        format!(
            "answer_within = \"{within:#}\" is looked at when there is a tick: run `driftsweep tick` at least every {minutes} \
             minutes (cron: {cron}), not once a night; a tick sweeps only when a sweep is due"
        ),
    );
}
