//! The conclusions of a sweep, and the messages about its data.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rayon::prelude::*;
use serde_json::json;

use super::fire::{FiredTrigger, FiringContexts};
use super::judge::{self, JudgedModel, MAX_SWEEPS_BACK, Memory};
use super::late::{self, InputFaults};
use super::status::SweepStatus;
use super::{SweepDone, TickPass, WaitStatus, ids};
use crate::formats::EVALUATIONS;
use crate::notify::{self, AuditedFact};
use crate::store::{LimitExceeded, ModelRecord, SYSTEM_ACTOR, Store, StoredVerdict, WaitingModel};
use driftsweep::sweep::{Feature, ModelReport, SweepReport};
use driftsweep_common::error::{Cause, Error, Fault, Result};
use driftsweep_extensions::trigger::Evaluation;
use driftsweep_extensions::trigger::drift::DriftVerdict;
use driftsweep_extensions::trigger::performance::PerformanceStatus;
use driftsweep_fleet::{Fleet, Model, Trigger};

/// How long verdicts are kept with all figures; those of triggers that fired are kept forever.
const FIGURES_RETENTION: SignedDuration = SignedDuration::from_hours(24 * 35);

/// A model of which nothing could be judged for this time is reported, and again after the same time.
const NOT_JUDGED_INTERVAL: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Most findings in a message.
const MAX_LISTED: usize = 20;

impl TickPass<'_> {
    /// Runs the sweep and writes the conclusions. Models with missing or unreadable data wait.
    pub(super) fn sweep(&mut self, as_of: Timestamp) -> Result<()> {
        (self.step)("sweep");
        let report = self.sweeper.sweep(as_of)?;
        self.sweeper.keep(&report)?;
        (self.step)("conclude");
        let complete = report.not_covered.is_empty();
        // A deadline may have cut the sweep; models before it were concluded by an earlier tick.
        let memory = Memory::load(self.store, as_of)?;
        let mut settled: HashSet<String> = report.not_covered.iter().map(|missed| missed.model.clone()).collect();
        settled.extend(memory.concluded.iter().cloned());
        let all = self.fleet.models.iter().map(|model| &model.name);
        let mut judge: HashSet<String> = all.filter(|model| !settled.contains(*model)).cloned().collect();
        let noted: HashMap<String, WaitingModel> =
            self.store.waiting()?.into_iter().map(|w| (w.model.clone(), w)).collect();
        let inputs = late::inputs(self.fleet, &report);
        let mut late = Vec::new();
        for (model, fault) in inputs.iter().filter_map(|(model, input)| Some((model, input.late.as_ref()?))) {
            let since = noted.get(model).filter(|noted| noted.as_of == as_of).map_or(self.now, |noted| noted.since);
            let until = since.checked_add(self.fleet.wait_for_data).unwrap_or(Timestamp::MAX);
            if self.now < until && judge.remove(model) {
                late.push((model, fault, (since, until)));
            }
        }
        let fleet = self.fleet;
        let waits = late.into_par_iter().map(|(model, fault, span)| {
            late::waiting_model(fault, model, as_of, span, late::files_read(fault, fleet, model, as_of))
        });
        let waits = waits.collect();
        let done = self.conclude((&report, as_of, memory), &judge, (waits, inputs), complete)?;
        self.ticked.sweep = Some(done);
        if complete && self.store.waiting()?.is_empty() {
            (self.step)("remove the journal");
            self.sweeper.done()?;
        }
        Ok(())
    }

    /// Evaluates models of a report, and writes the conclusions in one transaction. `waits` are those that wait for
    /// data, `inputs` the input faults; `complete` says that the sweep is complete.
    pub(super) fn conclude(
        &mut self,
        (report, as_of, memory): (&SweepReport, Timestamp, Memory),
        judge: &HashSet<String>,
        (waits, inputs): (Vec<WaitingModel>, BTreeMap<String, InputFaults>),
        complete: bool,
    ) -> Result<SweepDone> {
        let fleet = self.fleet.at(as_of);
        // What was concluded already stays, whatever rows say that a model waits.
        let wanted = |model: &str| judge.contains(model) && !memory.concluded.contains(model);
        let judged = judge::evaluate(&fleet, &memory, report, as_of, &wanted)?;
        self.known = memory.known;
        // What keeps a trigger from firing is told of, too.
        // A row that only says that a model was judged keeps all its triggers from it.
        let forged: Vec<String> = memory.not_in_audit.iter().cloned().collect();
        judge.iter().chain(&forged).for_each(|model| self.ticked.doubt(&memory.doubts.against(model)));
        let fires = judged.iter().any(|judged| !judged.evaluation.fired().is_empty()).then_some(memory.doubts);
        (self.step)("write conclusions");
        let before = SweepStatus::load(self.store)?.map(|(status, _)| status);
        let (this, known, limit, ticked) = (self.fleet, &self.known, self.limit, &mut self.ticked);
        let opened = ticked.events.len();
        self.store.transaction(|store| {
            let same = before.clone().filter(|before| before.as_of == as_of);
            let mut status = same.unwrap_or_else(|| SweepStatus::begin(as_of, report, before.as_ref()));
            status.total(report);
            for model in &forged {
                let note = "it is not judged: the store held conclusions on it that the audit does not have; ask for it with \
                            `driftsweep tick --again` once the store is right";
                status.refused.entry(model.clone()).or_default().push(note.into());
            }
            let mut messages = DataMessages::new(this, as_of);
            let mut contexts = FiringContexts::load(this, store, limit, fires)?;
            // Another process may have set baselines during the sweep.
            let set = store.set_baselines()?;
            let models: HashMap<&str, &Model> = fleet.models.iter().map(|model| (&*model.name, model)).collect();
            let mut reports: HashMap<&str, Vec<&ModelReport>> = HashMap::new();
            report.models.iter().for_each(|report| reports.entry(&report.model).or_default().push(report));
            for waiting in &waits {
                let Some(input) = inputs.get(&waiting.model).filter(|input| input.late.is_some()) else { continue };
                wait(&mut status, &mut messages, waiting, input);
                store.set_waiting(waiting)?;
            }
            for judged in &judged {
                let evaluation = &judged.evaluation;
                let Some(&model) = models.get(&*evaluation.model) else { continue };
                let reports = reports.get(&*model.name).map_or(&[][..], Vec::as_slice);
                let former = status.take(&model.name);
                store.end_waiting(&model.name, as_of)?;
                write(store, judged)?;
                match inputs.get(&model.name) {
                    Some(InputFaults { late, wrong }) => {
                        late.iter().chain(wrong).for_each(|fault| messages.add_new(&former, &model.name, fault));
                    }
                    None if !former.waiting.is_empty() => messages.add("data.arrived", &model.name, "judged now"),
                    None => {}
                }
                find(&mut status, &former, &mut messages, reports, judged);
                let known = known.get(&model.name);
                if reports.iter().any(|r| r.error.is_none()) && judged_columns(evaluation) > 0 {
                    store.set_judged(&model.name, as_of)?;
                } else if known.is_some_and(|known| is_long_not_judged(known, as_of)) {
                    messages.add("data.not_judged", &model.name, why_not_judged(&status, &model.name));
                    store.set_reported_not_judged(&model.name, as_of)?;
                }
                warn(this, store, &mut status, judged, known.and_then(|known| known.warned))?;
                let replaced = this.replaced_baseline(model, set.get(&model.name), as_of);
                for (trigger, reason) in evaluation.fired() {
                    // A training or a person has already set a new baseline: the next sweep uses it.
                    if let Some(newer) = replaced.as_ref().filter(|_| trigger.properties().compares_with_baseline) {
                        let used = evaluation.baseline.as_deref().unwrap_or_default();
                        let name = trigger.name();
                        let note = format!(
                            "no event for {name} ({reason}): it was judged with the baseline {used}, and {newer} was \
                             set during the sweep; the next sweep uses that"
                        );
                        status.not_judged.entry(model.name.clone()).or_default().push(note);
                        continue;
                    }
                    let details = judge::details(trigger, evaluation, report)?;
                    let fired = FiredTrigger { model, trigger, due: as_of, at: as_of, reason, details };
                    if contexts.refuses(&model.name, ticked) {
                        let note = format!(
                            "no event for {} ({}): rows that decide about it are not what the audit says; the next sweep \
                             decides again",
                            trigger.name(),
                            fired.reason
                        );
                        status.refused.entry(model.name.clone()).or_default().push(note);
                        fired.refuse(this, store, &contexts)?;
                    } else {
                        fired.write(this, store, &mut contexts, ticked)?;
                    }
                }
            }
            messages.record(store)?;
            forget(store, as_of)?;
            if complete && store.last_sweeps(1)?.first().is_none_or(|last| *last < as_of) {
                store.add_sweep(as_of, &report.id, &report.counts_hash)?;
            }
            status.events.extend(ids(&ticked.events[opened..]));
            // The status of a later sweep stays, unless the clock was ahead then.
            if before.as_ref().is_none_or(|before| before.as_of <= as_of || before.as_of > limit) {
                status.save(store)?;
            }
            Ok(())
        })?;
        Ok(SweepDone { as_of, id: report.id.clone(), summary: report.summary, complete })
    }
}

/// Adds a model that waits for data to the status.
fn wait(status: &mut SweepStatus, messages: &mut DataMessages<'_>, waiting: &WaitingModel, input: &InputFaults) {
    let former = status.take(&waiting.model);
    let Some(late) = &input.late else { return };
    // An earlier attempt was reported then.
    if former.waiting.is_empty() && !former.is_known(&waiting.model, late) {
        messages.add_late(&waiting.model, &waiting.reason, waiting.until);
    }
    // Permanent faults are not resolved by waiting.
    if let Some(wrong) = &input.wrong {
        messages.add_new(&former, &waiting.model, wrong);
        status.failures.insert(waiting.model.clone(), vec![wrong.clone()]);
    }
    // It is not judged yet.
    status.former.extend(former.former);
    let waits = WaitStatus { until: waiting.until, cause: late.cause, reason: waiting.reason.clone() };
    status.waiting.insert(waiting.model.clone(), waits);
}

/// Whether a model was not judged for so long that it is reported, again if it was before.
fn is_long_not_judged(known: &ModelRecord, as_of: Timestamp) -> bool {
    let since = known.judged.unwrap_or(known.first_seen).max(known.reported_not_judged.unwrap_or(Timestamp::MIN));
    as_of.duration_since(since) >= NOT_JUDGED_INTERVAL
}

/// Why a model was not judged.
fn why_not_judged<'a>(status: &'a SweepStatus, model: &str) -> &'a str {
    let reason = status.not_judged.get(model).and_then(|all| all.first());
    let failure = status.failures.get(model).and_then(|all| all.first());
    reason.or(failure.map(|fault| &fault.reason)).map_or("no column was judged", String::as_str)
}

/// Writes the figures of a model.
fn write(store: &mut Store, judged: &JudgedModel) -> Result<()> {
    let evaluation = &judged.evaluation;
    let (model, as_of) = (&evaluation.model, evaluation.as_of);
    let body =
        EVALUATIONS.write(evaluation).map_err(|e| Error::BadValue { what: "verdict".into(), reason: e.to_string() })?;
    store.add_verdict(&StoredVerdict { model: model.clone(), as_of, data_hash: judged.data_hash.clone(), body })?;
    for (comparison, column) in evaluation.drift.iter().flat_map(DriftVerdict::hits) {
        store.add_hit(&LimitExceeded {
            model: model.clone(),
            as_of,
            window: comparison.window.clone(),
            segment: comparison.segment.clone(),
            feature: column.feature.clone(),
        })?;
    }
    judge::quality(evaluation).iter().try_for_each(|entry| store.add_quality(entry))
}

fn forget(store: &mut Store, as_of: Timestamp) -> Result<()> {
    if let Ok(before) = as_of.checked_sub(FIGURES_RETENTION) {
        store.delete_figures(before)?;
    }
    if let Some(&before) = store.last_sweeps(MAX_SWEEPS_BACK)?.get(MAX_SWEEPS_BACK - 1) {
        store.delete_hits(before)?;
    }
    Ok(())
}

/// Columns that could be judged.
fn judged_columns(evaluation: &Evaluation) -> usize {
    evaluation.drift.as_ref().map_or(0, DriftVerdict::judged)
}

/// Adds the findings of a model other than triggers.
fn find(
    status: &mut SweepStatus,
    former: &SweepStatus,
    messages: &mut DataMessages<'_>,
    reports: &[&ModelReport],
    judged: &JudgedModel,
) {
    let evaluation = &judged.evaluation;
    let model = &evaluation.model;
    let mut failures = late::failures(reports);
    if let Some(fault) = &judged.labels_fault {
        if !former.is_known(model, fault) {
            messages.add("data.labels", model, &fault.reason);
        }
        failures.push(fault.clone());
    }
    let schema = reports.iter().flat_map(|report| &report.schema);
    let schema: Vec<String> =
        schema.map(|change| format!("column '{}': {}", change.column, change.change.name())).collect();
    let new_changes = schema.iter().filter(|change| !former.is_known_change(model, change));
    new_changes.for_each(|change| messages.add("data.schema", model, change));
    let nothing_judged = !reports.iter().flat_map(|report| &report.features).any(Feature::is_judged);
    let drift = (nothing_judged && failures.is_empty())
        .then(|| reports.iter().find_map(|report| report.why_not_judged()))
        .flatten();
    let drift = drift.map(|reason| format!("drift is not judged: {reason}"));
    let others = evaluation.not_judged().into_iter();
    let others = others.map(|(trigger, reason)| format!("{} is not judged: {reason}", trigger.name()));
    let not_judged: Vec<String> = drift.into_iter().chain(others).collect();
    if !failures.is_empty() {
        status.failures.insert(model.clone(), failures);
    }
    for (all, found) in [(&mut status.schema, schema), (&mut status.not_judged, not_judged)] {
        if !found.is_empty() {
            all.insert(model.clone(), found);
        }
    }
}

/// Records a metric beyond its warning level; it is reported when it first gets there.
fn warn(
    fleet: &Fleet,
    store: &mut Store,
    status: &mut SweepStatus,
    judged: &JudgedModel,
    warned: Option<Timestamp>,
) -> Result<()> {
    let evaluation = &judged.evaluation;
    let (model, as_of) = (&evaluation.model, evaluation.as_of);
    let Some(found) = evaluation.performance.as_ref().filter(|_| evaluation.is_on(Trigger::Performance)) else {
        return Ok(());
    };
    let (PerformanceStatus::Warning, Some(measured), Some(level)) = (found.status, found.realised, found.warning.value)
    else {
        // Beyond the trigger level it is also beyond the warning level.
        let over = matches!(found.status, PerformanceStatus::Ok);
        return if over && warned.is_some() { store.set_warned(model, None) } else { Ok(()) };
    };
    let metric = found.metric.value.name();
    let text = format!(
        "{metric} {:.4} ({:.4} to {:.4}, {} rows) is beyond its warning level {level}",
        measured.value, measured.low, measured.high, measured.rows
    );
    status.warnings.insert(model.clone(), text);
    if warned.is_some() {
        return Ok(());
    }
    store.set_warned(model, Some(as_of))?;
    let body = json!({
        "model": model, "metric": metric, "value": rounded(measured.value), "low": rounded(measured.low),
        "high": rounded(measured.high), "rows": measured.rows, "warning": level, "level": found.level.value, "as_of": as_of,
    });
    let fact = AuditedFact { at: as_of, actor: SYSTEM_ACTOR, kind: "performance.warning", subject: model, body };
    notify::record(fleet, store, fact).map(drop)
}

/// Rounded to four decimals, for display.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// A finding about the data of a model.
struct DataFinding {
    model: String,
    reason: String,
    /// Until when late data are retried.
    until: Option<Timestamp>,
}

/// The messages about the data of a sweep: one message per kind, for any number of models.
struct DataMessages<'a> {
    fleet: &'a Fleet,
    as_of: Timestamp,
    found: BTreeMap<&'static str, Vec<DataFinding>>,
}

impl<'a> DataMessages<'a> {
    fn new(fleet: &'a Fleet, as_of: Timestamp) -> Self {
        Self { fleet, as_of, found: BTreeMap::new() }
    }

    fn add(&mut self, kind: &'static str, model: &str, reason: &str) {
        let finding = DataFinding { model: model.to_owned(), reason: reason.to_owned(), until: None };
        self.found.entry(kind).or_default().push(finding);
    }

    fn add_late(&mut self, model: &str, reason: &str, until: Timestamp) {
        let finding = DataFinding { model: model.to_owned(), reason: reason.to_owned(), until: Some(until) };
        self.found.entry("data.late").or_default().push(finding);
    }

    /// Adds the reason why a model could not be compared, by its cause, unless it was reported before.
    fn add_new(&mut self, former: &SweepStatus, model: &str, fault: &Fault) {
        if former.is_known(model, fault) {
            return;
        }
        let kind = match fault.cause {
            Cause::Missing => "data.missing",
            Cause::Unreadable | Cause::Internal => "data.unreadable",
            Cause::Schema => "data.schema",
            Cause::Baseline => "data.baseline",
            Cause::FleetFile => "data.fleet_file",
        };
        self.add(kind, model, &fault.reason);
    }

    /// Writes the messages, inside a transaction.
    fn record(self, store: &mut Store) -> Result<()> {
        for (kind, found) in &self.found {
            let finding = |finding: &DataFinding| {
                let mut messages = json!({ "model": finding.model, "reason": finding.reason });
                if let Some(until) = finding.until {
                    messages["until"] = json!(until);
                }
                messages
            };
            let findings: Vec<_> = found.iter().take(MAX_LISTED).map(finding).collect();
            let mut models: Vec<&str> = found.iter().map(|finding| finding.model.as_str()).collect();
            models.dedup();
            let body = json!({
                "as_of": self.as_of, "models": models.len(), "findings": findings, "more": found.len().saturating_sub(MAX_LISTED),
            });
            let subject = format!("sweep {}", self.as_of);
            let fact = AuditedFact { at: self.as_of, actor: SYSTEM_ACTOR, kind, subject: &subject, body };
            notify::record(self.fleet, store, fact)?;
        }
        Ok(())
    }
}
