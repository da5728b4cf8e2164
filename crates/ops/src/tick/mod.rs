//! One pass over everything that is due: models that wait for data, the sweep with its conclusions, and scheduled
//! trainings.
//!
//! A pass may be killed between any two of its steps and run again, or run twenty times at once: only the process that
//! holds the fleet's lock acts; a sweep has the time at which it was due, so that it is the same sweep when it is run
//! again; all its conclusions are written in one transaction; and what was written is not done again.

mod clock_ahead;
mod conclude;
mod fire;
mod judge;
mod late;
mod status;

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::notify::{self, AuditedFact};
use crate::policy::outcome::FiringOutcome;
use crate::retrain::clock::MAX_CLOCK_DIFFERENCE;
use crate::store::{Firing, FleetFile, ModelRecord, SYSTEM_ACTOR, StartBlockers, Store, WaitingModel};
use driftsweep::sweep::{SweepReport, SweepSummary};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{Fleet, Schedule, Trigger};

pub use clock_ahead::correct_clock;
use fire::{FiredTrigger, FiringContexts};
pub use judge::labels_fault;
pub use status::{SweepStatus, WaitStatus};

/// Sweeps a fleet for a tick.
pub trait Sweeper {
    /// Sweeps the fleet as of a time; returns the same report when it is called again.
    ///
    /// # Errors
    /// Errors that prevent a sweep.
    fn sweep(&mut self, as_of: Timestamp) -> Result<SweepReport>;

    /// Writes the figures of the last sweep into the history, replacing those of the same sweep.
    ///
    /// # Errors
    /// Errors of writing them.
    fn keep(&mut self, report: &SweepReport) -> Result<()>;

    /// The conclusions of the last sweep are written: its journal is not needed any more.
    ///
    /// # Errors
    /// Errors of removing the journal.
    fn done(&mut self) -> Result<()>;
}

/// The summary of a tick.
#[derive(Debug, Default, Serialize)]
pub struct TickSummary {
    /// Whether the store had no record of the fleet: this is its first tick, or its state was lost.
    pub new_store: bool,
    /// The sweep that was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepDone>,
    /// Models that had waited for data and were judged now: because the data arrived, or the deadline was reached.
    pub caught_up: Vec<String>,
    /// The status of the last sweep, of this tick or an earlier one; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<SweepStatus>,
    /// Whether that was acknowledged.
    pub acknowledged: bool,
    /// Triggers that fired, with their outcomes.
    pub firings: Vec<Firing>,
    /// Events that were opened, as CloudEvents.
    pub events: Vec<Value>,
    /// Rows that decide about events and are not what the audit says: no event was opened by them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tampered: Vec<String>,
    /// When the next sweep is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sweep: Option<Timestamp>,
    /// The next scheduled training, and its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule: Option<(Timestamp, String)>,
    /// The time of the last sweep, if it is later than this tick: a clock was ahead, or the tick replays an earlier time.
    /// Nothing is due until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Timestamp>,
}

impl TickSummary {
    /// Notes what speaks against opening events.
    fn doubt(&mut self, found: &[&str]) {
        for &problem in found {
            if self.tampered.iter().all(|known| known != problem) {
                self.tampered.push(problem.to_owned());
            }
        }
    }
}

/// A sweep that this tick ran; its findings for each model are in the status.
#[derive(Debug, Serialize)]
pub struct SweepDone {
    /// The time it counts as.
    pub as_of: Timestamp,
    /// Its name.
    pub id: String,
    /// Totals.
    pub summary: SweepSummary,
    /// Whether every model was covered before the deadline.
    pub complete: bool,
}

/// How far back the due time of the first sweep of a fleet may be.
const FIRST_SWEEP_LOOKBACK: SignedDuration = SignedDuration::from_hours(24 * 366 * 5);

/// Does everything that is due. `step` is called with the name of each step before it.
///
/// # Errors
/// [`Error::Locked`] if another process holds the lock; [`Error::Store`]; errors of `sweeper`.
pub fn tick(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    sweeper: &mut dyn Sweeper,
    step: &mut dyn FnMut(&str),
) -> Result<TickSummary> {
    step("lock");
    store.with_lock("tick", |store| {
        // A clock that is behind would record past times; one that was ahead has left times until which nothing is due.
        store.check_clock(now)?;
        step("meet models");
        let new_store = store.is_new()?;
        let known = register_models(fleet, store, now, new_store)?;
        let (limit, ticked) = (clock_ahead::limit(store, now)?, TickSummary { new_store, ..TickSummary::default() });
        TickPass { fleet, store, known, now, limit, sweeper, step, ticked }.run()
    })
}

/// Registers models that are seen for the first time, and reports a new store.
fn register_models(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    new_store: bool,
) -> Result<HashMap<String, ModelRecord>> {
    let known = by_name(store.known()?);
    let unknown: Vec<&str> =
        fleet.models.iter().map(|model| &*model.name).filter(|name| !known.contains_key(*name)).collect();
    if unknown.is_empty() && !new_store {
        return Ok(known);
    }
    store.transaction(|store| {
        if new_store {
            let body = json!({ "models": fleet.models.len() });
            let fact = AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: "store.create", subject: "store", body };
            notify::record(fleet, store, fact)?;
        }
        store.register_models(unknown.into_iter(), now)
    })?;
    Ok(by_name(store.known()?))
}

/// A pass: its context, and its summary so far.
struct TickPass<'a> {
    fleet: &'a Fleet,
    store: &'a mut Store,
    known: HashMap<String, ModelRecord>,
    now: Timestamp,
    /// A correct clock records no later time.
    limit: Timestamp,
    sweeper: &'a mut dyn Sweeper,
    step: &'a mut dyn FnMut(&str),
    ticked: TickSummary,
}

impl TickPass<'_> {
    fn run(mut self) -> Result<TickSummary> {
        let (fleet, now) = (self.fleet, self.now);
        let last = self.store.last_sweep(self.limit)?;
        let after = last.or_else(|| now.checked_sub(FIRST_SWEEP_LOOKBACK).ok()).unwrap_or(now);
        let due = fleet.sweep.latest(after, now, &fleet.zone);
        // An error of the sweep must not prevent scheduled trainings.
        let caught_up = self.catch_up(due);
        let swept = due.map_or(Ok(()), |as_of| self.sweep(as_of));
        (self.step)("schedules");
        self.schedules()?;
        (self.step)("end");
        caught_up?;
        swept?;
        let mut ticked = self.ticked;
        ticked.next_sweep = fleet.sweep.next(last.map_or(now, |last| last.max(now)), &fleet.zone);
        ticked.ahead = last.filter(|last| last.duration_since(now) > MAX_CLOCK_DIFFERENCE);
        if let Some((status, acknowledged)) = SweepStatus::load(self.store)? {
            ticked.acknowledged = acknowledged.is_some();
            ticked.status = Some(status);
        }
        Ok(ticked)
    }

    /// Fires the schedules that are due, all in one transaction.
    fn schedules(&mut self) -> Result<()> {
        let (fleet, now) = (self.fleet, self.now);
        let (mut due, mut begun) = (Vec::new(), Vec::new());
        for model in fleet.models.iter().filter(|model| !model.triggers.is_off(Trigger::Schedule)) {
            let Some(known) = self.known.get(&*model.name) else { continue };
            let Some(state) = model.triggers.schedule.at(&model.zone, known.scheduled.as_ref(), now) else { continue };
            let first = |next: &Timestamp| self.ticked.next_schedule.as_ref().is_none_or(|(known, _)| next < known);
            if let Some(next) = state.next.filter(first) {
                self.ticked.next_schedule = Some((next, model.name.clone()));
            }
            if state.is_new {
                begun.push((model, state.text.clone()));
            }
            if let Some(at) = state.due {
                due.push((model, state.text, at));
            }
        }
        if due.is_empty() && begun.is_empty() {
            return Ok(());
        }
        let (known, limit, ticked) = (&self.known, self.limit, &mut self.ticked);
        self.store.transaction(|store| {
            let mut contexts =
                FiringContexts::load(fleet, store, limit, (!due.is_empty()).then(StartBlockers::default))?;
            contexts.expect_schedules(store, known)?;
            let opened = ticked.events.len();
            for (model, text) in begun {
                store.set_scheduled(&model.name, &text, now)?;
            }
            for (model, text, due) in due {
                // While the model is in doubt, cools down or is muted its training is put off, not left out.
                let context = contexts.of(&model.name, Trigger::Schedule);
                let took = FiringOutcome::of(&context, model.triggers.cooldown.value, now).counts_as_fired();
                if contexts.refuses(&model.name, ticked) || !took {
                    continue;
                }
                store.set_scheduled(&model.name, &text, due)?;
                let cron = model.triggers.schedule.cron.value.as_ref().map_or("", Schedule::text);
                let reason = format!("it was due at {due} ({cron})");
                let details = json!({ "schedule": cron, "time_zone": model.zone.iana_name(), "due": due });
                let fired = FiredTrigger { model, trigger: Trigger::Schedule, due, at: now, reason, details };
                fired.write(fleet, store, &mut contexts, ticked)?;
            }
            if let (Some((mut status, _)), true) = (SweepStatus::load(store)?, ticked.events.len() > opened) {
                status.events.extend(ids(&ticked.events[opened..]));
                status.save(store)?;
            }
            Ok(())
        })
    }
}

fn by_name(known: Vec<ModelRecord>) -> HashMap<String, ModelRecord> {
    known.into_iter().map(|known| (known.model.clone(), known)).collect()
}

/// The names of events.
fn ids(events: &[Value]) -> impl Iterator<Item = String> {
    events.iter().filter_map(|event| event["id"].as_str().map(str::to_owned))
}

/// A request to judge models again.
#[derive(Clone, Copy, Debug)]
pub struct RejudgeRequest<'a> {
    /// The models.
    pub models: &'a [String],
    /// The person who requests it.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// Asks for models to be judged again at the last sweep, because their data were corrected: the next tick does it. A
/// running tick could remove the request without having seen the corrected data, so none may be running.
///
/// # Errors
/// [`Error::Locked`] if another process holds the lock; [`Error::BadValue`] before the first sweep; [`Error::Store`].
pub fn request_rejudge(fleet: &Fleet, store: &mut Store, again: RejudgeRequest<'_>, now: Timestamp) -> Result<()> {
    let RejudgeRequest { models, by, reason } = again;
    let note = |store: &mut Store| {
        let limit = clock_ahead::limit(store, now)?;
        let Some(as_of) = store.last_sweep(limit)? else {
            return Err(Error::BadValue { what: "--again".into(), reason: "no sweep has been run yet".into() });
        };
        for model in models {
            store.delete_conclusions(model, as_of)?;
            let asked = format!("requested again by {by}: {reason}");
            let (model, input) = (model.clone(), String::new());
            store.set_waiting(&WaitingModel {
                model: model.clone(),
                as_of,
                since: now,
                until: now,
                input,
                reason: asked,
            })?;
            let body = json!({ "model": model, "as_of": as_of, "reason": reason });
            notify::record(
                fleet,
                store,
                AuditedFact { at: now, actor: by, kind: "sweep.again", subject: &model, body },
            )?;
        }
        Ok(())
    };
    store.with_lock("tick", |store| store.transaction(note))
}

/// The path of a file with its real folder. The file itself may be a link that is replaced, as in Kubernetes.
fn in_its_folder(path: &std::path::Path) -> std::path::PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = absolute.parent().and_then(|folder| folder.canonicalize().ok());
    // It is recorded as text: a folder whose real name is not UTF-8 is recorded by the given path.
    let folder = folder.filter(|folder| folder.to_str().is_some());
    match (folder, absolute.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

/// Records which fleet file uses the store under the fleet's name. Two files with one name would treat each other's
/// sweeps as done and cancel each other's trainings, so the second is refused. A file that was moved is recognised by
/// its models; `moved` confirms that it was moved.
///
/// # Errors
/// [`Error::Fleet`] for a second file; [`Error::Store`].
pub fn register_fleet_file(
    fleet: &Fleet,
    store: &mut Store,
    path: &std::path::Path,
    moved: bool,
    now: Timestamp,
) -> Result<()> {
    let absolute = in_its_folder(path);
    let mut names: Vec<&str> = fleet.models.iter().map(|model| &*model.name).collect();
    names.sort_unstable();
    let models = hex(&Sha256::digest(names.join("\0")));
    let own = FleetFile { path: absolute.to_string_lossy().into_owned(), models, last_used: now };
    store.transaction(|store| {
        if moved {
            store.delete_fleet_files()?;
        }
        let files = store.fleet_files()?;
        let latest = files.first();
        let moves = latest
            .is_some_and(|latest| latest.models == own.models && !std::path::Path::new(&latest.path).exists())
            // A file that was used before, but not last, was not moved: both files are in use.
            && files.iter().all(|file| file.path != own.path);
        match latest {
            Some(latest) if latest.path != own.path && !moves => Err(Error::Fleet {
                path: path.to_owned(),
                line: None,
                reason: format!(
                    "the store is used by another fleet file of the name '{}', {}; give one of them another `name`, or, if \
                     the file was moved, run `driftsweep tick --moved` once",
                    fleet.name, latest.path
                ),
            }),
            _ => store.set_fleet_file(&own),
        }
    })
}
