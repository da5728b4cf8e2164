//! One pass over everything that is due: the sweep, what follows from it, and training by the calendar.
//!
//! A pass may be killed between any two of its steps and run again, or run twenty times at once: only the process that
//! holds the fleet's lock acts; a sweep counts as the time at which it was due, so that it is the same sweep when it is
//! run again; all that follows from it is written in one transaction; and what was written is not done again.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::atomic::hex;
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Model, Trigger};
use crate::labels::{self, Question};
use crate::metric::performance::{Measured, Quality};
use crate::notify::{self, Fact};
use crate::policy::drift;
use crate::policy::outcome::{Outcome, Standing};
use crate::policy::performance::{self, Arrivals, Circumstances, LabelCounts, Performance, Volume};
use crate::policy::{Evaluation, event};
use crate::store::{self, Event, Firing, Hit, ITSELF, Known, QualityEntry, Store, Verdict};
use crate::sweep::{ModelReport, Summary, SweepReport};

/// Sweeps a fleet for a tick.
pub trait Sweeper {
    /// Sweeps the fleet as of a time; the same report again if it is asked for again.
    ///
    /// # Errors
    /// Whatever keeps a sweep from being run at all.
    fn sweep(&mut self, as_of: Timestamp) -> Result<SweepReport>;

    /// Everything that follows from the last sweep has been written down.
    ///
    /// # Errors
    /// Whatever keeps it from being let go of.
    fn done(&mut self) -> Result<()>;
}

/// What a tick did.
#[derive(Debug, Default, Serialize)]
pub struct Ticked {
    /// The sweep that was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepDone>,
    /// Triggers that fired, and what became of it.
    pub firings: Vec<Firing>,
    /// Events that were opened, as CloudEvents.
    pub events: Vec<Value>,
    /// When the next sweep is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sweep: Option<Timestamp>,
    /// The next training by the calendar, and of which model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule: Option<(Timestamp, String)>,
    /// The last sweep, where it counts as a later time than this tick: nothing is due until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Timestamp>,
}

/// A sweep and how it went.
#[derive(Debug, Serialize)]
pub struct SweepDone {
    /// The time it counts as.
    pub as_of: Timestamp,
    /// Its name.
    pub id: String,
    /// Totals.
    pub summary: Summary,
    /// Whether it was completed, and anything could be compared; if not, nothing follows from it yet.
    pub complete: bool,
    /// Models that could not be compared, or whose labels could not be read, with the reason.
    pub failures: Vec<(String, String)>,
    /// Models whose performance cannot be judged although labels are declared, with the reason.
    pub not_judged: Vec<(String, String)>,
}

/// How far back the first sweep of a fleet may have been due.
const LONG_AGO: SignedDuration = SignedDuration::from_hours(24 * 366 * 5);

/// A clock may be set back by so much without a word.
const SLACK: SignedDuration = SignedDuration::from_hours(24);

/// Sweeps that persistence looks back on, at most.
const LOOKED_BACK: usize = 100;

/// Verdicts are kept with all figures for so long, those by which a trigger fired for ever.
const KEEP_FIGURES: SignedDuration = SignedDuration::from_hours(24 * 35);

/// Does everything that is due. `step` is told before each step, by its name.
///
/// # Errors
/// [`Error::Occupied`] if another process is at it; [`Error::Store`]; what `sweeper` fails with.
pub fn tick(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    sweeper: &mut dyn Sweeper,
    step: &mut dyn FnMut(&str),
) -> Result<Ticked> {
    step("lock");
    store.alone("tick", |store| see_to(fleet, store, now, sweeper, step))
}

fn see_to(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    sweeper: &mut dyn Sweeper,
    step: &mut dyn FnMut(&str),
) -> Result<Ticked> {
    step("meet models");
    let mut known = by_name(store.known()?);
    let unknown: Vec<&str> =
        fleet.models.iter().map(|model| &*model.name).filter(|name| !known.contains_key(*name)).collect();
    if !unknown.is_empty() {
        store.transaction(|store| store.meet(unknown.into_iter(), now))?;
        known = by_name(store.known()?);
    }
    let mut ticked = Ticked::default();
    let last = store.last_sweeps(1)?.first().copied();
    // What keeps a sweep from being run is not to keep models from being trained by the calendar.
    let swept = sweep(fleet, store, &known, (last, now), sweeper, step, &mut ticked);
    step("schedules");
    schedules(fleet, store, &known, now, &mut ticked)?;
    step("end");
    swept?;
    ticked.next_sweep = fleet.sweep.next(last.map_or(now, |last| last.max(now)), &fleet.zone);
    ticked.ahead = last.filter(|last| last.duration_since(now) > SLACK);
    Ok(ticked)
}

/// Sweeps if that is due, and draws the conclusions.
fn sweep(
    fleet: &Fleet,
    store: &mut Store,
    known: &HashMap<String, Known>,
    (last, now): (Option<Timestamp>, Timestamp),
    sweeper: &mut dyn Sweeper,
    step: &mut dyn FnMut(&str),
    ticked: &mut Ticked,
) -> Result<()> {
    let after = last.or_else(|| now.checked_sub(LONG_AGO).ok()).unwrap_or(now);
    let Some(as_of) = fleet.sweep.latest(after, now, &fleet.zone) else { return Ok(()) };
    step("sweep");
    let report = sweeper.sweep(as_of)?;
    let complete = report.not_covered.is_empty();
    let mut failures = failures(&report);
    let mut not_judged = Vec::new();
    // Where nothing could be compared the data may not be there yet: the next tick tries again.
    let compared = report.models.iter().any(|model| model.error.is_none());
    if compared {
        step("conclude");
        // A deadline may come before some models; those before it were concluded by an earlier tick.
        let mut left_out: HashSet<String> = report.not_covered.iter().map(|missed| missed.model.clone()).collect();
        left_out.extend(store.concluded(as_of)?);
        let evaluations = evaluate(&fleet.at(as_of), store, known, &report, as_of, &left_out)?;
        failures.extend(evaluations.iter().filter_map(|(e, _)| Some((e.model.clone(), e.labels_error.clone()?))));
        not_judged.extend(evaluations.iter().filter_map(|(e, _)| Some((e.model.clone(), e.not_judged()?))));
        step("write conclusions");
        store.transaction(|store| conclude(fleet, store, &report, &evaluations, as_of, ticked))?;
        if complete {
            step("let go of the sweep");
            sweeper.done()?;
        }
    }
    let complete = complete && compared;
    ticked.sweep = Some(SweepDone { as_of, id: report.id, summary: report.summary, complete, failures, not_judged });
    Ok(())
}

/// Fires the schedules that are due, all in one transaction.
fn schedules(
    fleet: &Fleet,
    store: &mut Store,
    known: &HashMap<String, Known>,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<()> {
    let (mut due, mut begun) = (Vec::new(), Vec::new());
    for model in &fleet.models {
        let (Some(schedule), Some(known)) = (&model.triggers.schedule.value, known.get(&*model.name)) else { continue };
        if model.triggers.off.value.contains(&Trigger::Schedule) {
            continue;
        }
        let text = format!("{} {}", schedule.text(), model.zone.iana_name().unwrap_or_default());
        let after = match &known.scheduled {
            Some((known, until)) if *known == text => *until,
            // New, or changed: it has missed nothing.
            _ => {
                begun.push((model, text.clone(), now));
                now
            }
        };
        if let Some(at) = schedule.latest(after, now, &model.zone) {
            due.push((model, schedule, text, at));
        }
        let next = schedule.next(now.max(after), &model.zone);
        if let Some(next) = next.filter(|next| ticked.next_schedule.as_ref().is_none_or(|(known, _)| next < known)) {
            ticked.next_schedule = Some((next, model.name.clone()));
        }
    }
    if due.is_empty() && begun.is_empty() {
        return Ok(());
    }
    store.transaction(|store| {
        let mut standings = Standings::load(store)?;
        for (model, text, at) in begun {
            store.set_scheduled(&model.name, &text, at)?;
        }
        for (model, schedule, text, due) in due {
            // While the model cools down or is muted its training is put off, not left out.
            let standing = standings.of(&model.name, Trigger::Schedule);
            if !Outcome::of(&standing, model.triggers.cooldown.value, now).took() {
                continue;
            }
            store.set_scheduled(&model.name, &text, due)?;
            let reason = format!("it was due at {due} ({})", schedule.text());
            let details = json!({ "schedule": schedule.text(), "time_zone": model.zone.iana_name(), "due": due });
            let fired = Fired { model, trigger: Trigger::Schedule, due, at: now, reason, details };
            fired.write(fleet, store, &mut standings, ticked)?;
        }
        Ok(())
    })
}

fn by_name(known: Vec<Known>) -> HashMap<String, Known> {
    known.into_iter().map(|known| (known.model.clone(), known)).collect()
}

fn failures(report: &SweepReport) -> Vec<(String, String)> {
    let whole = report.models.iter().filter_map(|model| Some((model.model.clone(), model.error.clone()?)));
    let features = report.models.iter().flat_map(|model| {
        let failed = model.features.iter().filter(|feature| feature.status.is_failure());
        failed.map(|feature| {
            let detail = feature.detail.as_deref().unwrap_or(feature.status.name());
            (model.model.clone(), format!("column '{}': {detail}", feature.name))
        })
    });
    whole.chain(features).collect()
}

/// Judges every model that was swept.
fn evaluate(
    fleet: &Fleet,
    store: &mut Store,
    known: &HashMap<String, Known>,
    report: &SweepReport,
    as_of: Timestamp,
    left_out: &HashSet<String>,
) -> Result<Vec<(Evaluation, String)>> {
    // More sweeps than persistence asks for: several may have seen the same data.
    let since = store.last_sweeps(LOOKED_BACK)?.last().copied().unwrap_or(as_of);
    let mut compared: HashMap<String, Vec<(Timestamp, String)>> = HashMap::new();
    for (model, at, data) in store.compared_since(since)? {
        compared.entry(model).or_default().push((at, data));
    }
    let mut hits: HashMap<String, Vec<Hit>> = HashMap::new();
    for hit in store.hits_since(since)? {
        hits.entry(hit.model.clone()).or_default().push(hit);
    }
    let mut reports: HashMap<&str, Vec<&ModelReport>> = HashMap::new();
    for model in &report.models {
        reports.entry(&model.model).or_default().push(model);
    }
    let evaluate = |model: &Model| {
        let trained = known.get(&model.name).and_then(|known| known.trained);
        let reports = reports.get(&*model.name).map_or(&[][..], Vec::as_slice);
        let data = data_hash(reports);
        // What was seen before the last training was of another model; and the same data twice is one observation.
        let mut seen = HashSet::from([&*data]);
        let before_this = compared.get(&model.name).map_or(&[][..], Vec::as_slice);
        let counts = |at: Timestamp| at < as_of && trained.is_none_or(|trained| at > trained);
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
        let (judged, labels_error) = match judge_labels(model, known.get(&model.name), as_of) {
            Ok(judged) => (judged, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (performance, volume, labels) =
            judged.map_or((None, None, None), |(p, volume, labels)| (Some(p), Some(volume), Some(labels)));
        let off = model.triggers.off.clone();
        let model = model.name.clone();
        let evaluation = Evaluation { model, as_of, off, drift, performance, volume, labels, labels_error };
        (evaluation, data)
    };
    Ok(fleet.models.par_iter().filter(|model| !left_out.contains(&model.name)).map(evaluate).collect())
}

/// What the counts of a model came from; empty if there were none.
fn data_hash(reports: &[&ModelReport]) -> String {
    let mut hash = Sha256::new();
    let mut counted = false;
    for report in reports.iter().filter(|report| report.error.is_none() && !report.features.is_empty()) {
        hash.update(&report.counts_hash);
        counted = true;
    }
    if counted { hex(&hash.finalize()) } else { String::new() }
}

/// How a model predicts, how much there is to learn from, and how its labels were used.
type Judged = (Performance, Volume, LabelCounts);

fn judge_labels(model: &Model, known: Option<&Known>, as_of: Timestamp) -> Result<Option<Judged>> {
    let triggers = &model.triggers;
    // Without a level the figures are still shown.
    let off = |trigger| triggers.off.value.contains(&trigger);
    let needed = !off(Trigger::Performance) || triggers.inactive(Trigger::Volume, true).is_none();
    let Some(labels) = model.labels.as_ref().filter(|_| needed) else { return Ok(None) };
    let since = performance::horizon(triggers, labels.delay, as_of);
    let metric = triggers.metric.value.unwrap_or(Quality::Accuracy);
    let question = Question { metric, zone: &model.zone, since, before: as_of };
    let mut arrivals = Arrivals::new(since, as_of);
    let begun = known.and_then(|known| known.volume_fired.max(known.trained));
    let mut volume = Volume::begin(triggers, begun, as_of);
    let joined = labels::join(labels, question, &model.options, &mut |prediction| {
        arrivals.add(&prediction);
        volume.add(&prediction);
    })?;
    let calibration = labels::calibrate(labels)?;
    let given = Circumstances {
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

/// Writes down what was concluded from a sweep.
fn conclude(
    fleet: &Fleet,
    store: &mut Store,
    report: &SweepReport,
    evaluations: &[(Evaluation, String)],
    as_of: Timestamp,
    ticked: &mut Ticked,
) -> Result<()> {
    let mut standings = Standings::load(store)?;
    let models: HashMap<&str, &Model> = fleet.models.iter().map(|model| (&*model.name, model)).collect();
    for (evaluation, data_hash) in evaluations {
        let Some(&model) = models.get(&*evaluation.model) else { continue };
        let body = serde_json::to_string(evaluation)
            .map_err(|e| Error::BadValue { what: "verdict".into(), reason: e.to_string() })?;
        let data_hash = data_hash.clone();
        store.add_verdict(&Verdict { model: model.name.clone(), as_of, data_hash, body })?;
        for (comparison, column) in evaluation.drift.hits() {
            store.add_hit(&Hit {
                model: model.name.clone(),
                as_of,
                window: comparison.window.clone(),
                segment: comparison.segment.clone(),
                feature: column.feature.clone(),
            })?;
        }
        for entry in quality(model, evaluation) {
            store.add_quality(&entry)?;
        }
        for (trigger, reason) in evaluation.fired() {
            let details = details(trigger, evaluation, report)?;
            let fired = Fired { model, trigger, due: as_of, at: as_of, reason, details };
            fired.write(fleet, store, &mut standings, ticked)?;
        }
    }
    if let Ok(before) = as_of.checked_sub(KEEP_FIGURES) {
        store.forget_figures(before)?;
    }
    if let Some(&before) = store.last_sweeps(LOOKED_BACK)?.get(LOOKED_BACK - 1) {
        store.forget_hits(before)?;
    }
    if report.not_covered.is_empty() {
        store.add_sweep(as_of, &report.id, &report.counts_hash)?;
    }
    Ok(())
}

/// The figures that a trigger fired by.
fn details(trigger: Trigger, evaluation: &Evaluation, report: &SweepReport) -> Result<Value> {
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
    Ok(value)
}

fn quality(model: &Model, evaluation: &Evaluation) -> Vec<QualityEntry> {
    let Some(found) = &evaluation.performance else { return Vec::new() };
    let figures = [
        ("realised", found.realised, found.matured),
        ("reconciled", found.reconciled, found.matured),
        ("estimated", found.estimated, found.fresh),
    ];
    let entry = |(kind, measured, span): (&str, Option<Measured>, performance::Span)| {
        let measured = measured?;
        Some(QualityEntry {
            model: model.name.clone(),
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

/// How things stand with all models.
struct Standings {
    open: HashMap<String, String>,
    last: HashMap<String, Timestamp>,
    /// By model and trigger; an empty trigger stands for all.
    mutes: HashMap<(String, String), (Timestamp, String)>,
}

impl Standings {
    fn load(store: &mut Store) -> Result<Self> {
        Ok(Self {
            open: store.open_events()?.into_iter().map(|event| (event.model, event.id)).collect(),
            last: store.last_events()?.into_iter().collect(),
            mutes: store.mutes()?.into_iter().map(|m| ((m.model, m.trigger), (m.until, m.reason))).collect(),
        })
    }

    fn of(&self, model: &str, trigger: Trigger) -> Standing {
        let mutes = ["", trigger.name()].map(|trigger| self.mutes.get(&(model.to_owned(), trigger.to_owned())));
        Standing {
            open: self.open.get(model).cloned(),
            last_event: self.last.get(model).copied(),
            muted: mutes.into_iter().flatten().max_by_key(|(until, _)| *until).cloned(),
        }
    }
}

/// A trigger that fires.
struct Fired<'a> {
    model: &'a Model,
    trigger: Trigger,
    /// When it was due.
    due: Timestamp,
    /// When that is seen to.
    at: Timestamp,
    reason: String,
    details: Value,
}

impl Fired<'_> {
    /// Decides what becomes of it, and writes that down.
    fn write(self, fleet: &Fleet, store: &mut Store, standings: &mut Standings, ticked: &mut Ticked) -> Result<()> {
        let Self { model, trigger, due, at, reason, details } = self;
        let outcome = Outcome::of(&standings.of(&model.name, trigger), model.triggers.cooldown.value, at);
        let event = match &outcome {
            Outcome::Opened => {
                let id = event::id(&fleet.name, &model.name, trigger, due);
                let body = event::cloud_event(&id, &fleet.name, &model.name, trigger, due, details);
                store.add_event(&Event {
                    id: id.clone(),
                    model: model.name.clone(),
                    trigger: trigger.name().into(),
                    triggered_at: due,
                    body: body.to_string(),
                    closed: None,
                })?;
                let sha256 = hex(&Sha256::digest(body.to_string()));
                let told = json!({
                    "model": model.name, "trigger": trigger.name(), "reason": reason, "due": due, "sweep": body["data"]["details"]["sweep"],
                    "event_sha256": sha256,
                });
                let fact = Fact { at, actor: ITSELF, kind: "event.open", subject: &id, body: told };
                notify::record(fleet, store, fact)?;
                standings.open.insert(model.name.clone(), id.clone());
                standings.last.insert(model.name.clone(), due);
                ticked.events.push(body);
                Some(id)
            }
            Outcome::Joined(id) => Some(id.clone()),
            Outcome::Cooldown(_) | Outcome::Muted(..) => None,
        };
        if trigger == Trigger::Volume && outcome.took() {
            store.set_volume_fired(&model.name, at)?;
        }
        let why = match &outcome {
            Outcome::Cooldown(until) => format!("; cooling down until {until}"),
            Outcome::Muted(until, reason) => format!("; muted until {until}: {reason}"),
            _ => String::new(),
        };
        let firing = Firing {
            model: model.name.clone(),
            trigger: trigger.name().into(),
            due,
            outcome: outcome.name().into(),
            event,
            reason: reason + &why,
        };
        store.add_firing(&firing)?;
        ticked.firings.push(firing);
        Ok(())
    }
}
