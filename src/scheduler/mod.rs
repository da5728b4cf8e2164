//! What becomes of retrain events: one pass over all jobs that are not at their end. It asks for leave, watches the budget,
//! starts what may be started and notes what has ended.
//!
//! A pass may be killed between any two steps and run again, or run twenty times at once: only the process that holds the
//! fleet's lock for jobs acts; each step of a job is one transaction with its audit record and its messages, and counts
//! only if nobody else has changed the job since; a run is noted before it is started, and starting it twice is starting
//! it once.

mod answer;
mod worth;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

pub use answer::{Answer, answer, cancel};
pub use worth::reckon;

use crate::error::{Error, Result};
use crate::executor::{self, Ended, Outcome, Progress, Run};
use crate::fleet::{Fleet, Model, Money, Retrain};
use crate::http::{Failure, Http};
use crate::notify::{self, Fact};
use crate::retrain::approval::{self, By};
use crate::retrain::budget::{self, Scope, Standing};
use crate::retrain::queue::{self, Slots};
use crate::retrain::{Grant, Job, Ledger, Request, State, Step, Stopping};
use crate::store::{ITSELF, RunEntry, Store, Versioned};

/// What a pass works with.
pub struct Means<'a> {
    /// Requests to addresses.
    pub http: &'a Http,
    /// This program, by its path: it supervises commands.
    pub program: &'a Path,
    /// The folder of the fleet's state: runs have folders of their own in it.
    pub state: &'a Path,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// Jobs by the state they came to, as often as they did.
    pub steps: std::collections::BTreeMap<String, usize>,
    /// What could not be started or asked, by run: it is tried again.
    pub troubles: Vec<(String, String)>,
}

/// Runs that are asked for at once how far they are.
const AT_ONCE: usize = 16;

/// Once over all jobs. `step` is told before each step, by its name.
///
/// # Errors
/// [`Error::Occupied`] if another process is at it; [`Error::Store`].
pub fn pass(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    means: &Means<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<Passed> {
    step("lock jobs");
    let _lock = store.lock("jobs")?;
    let models = fleet.models.iter().filter_map(|model| Some((&*model.name, (model, model.retrain.as_ref()?))));
    let mut pass = Pass { fleet, store, now, means, step, models: models.collect(), passed: Passed::default() };
    pass.request()?;
    pass.call_off()?;
    pass.reckon()?;
    pass.ask()?;
    pass.enqueue()?;
    pass.remind()?;
    let mut ledger = pass.ledger()?;
    pass.watch(&mut ledger)?;
    pass.start(&mut ledger)?;
    pass.watch_new(&mut ledger)?;
    pass.warn(&ledger)?;
    (pass.step)("end");
    Ok(pass.passed)
}

type Trained<'a> = HashMap<&'a str, (&'a Model, &'a Retrain)>;

struct Pass<'a> {
    fleet: &'a Fleet,
    store: &'a mut Store,
    now: Timestamp,
    means: &'a Means<'a>,
    step: &'a mut dyn FnMut(&str),
    models: Trained<'a>,
    passed: Passed,
}

impl Pass<'_> {
    /// Makes jobs of open events.
    fn request(&mut self) -> Result<()> {
        for (id, model, trigger, at) in self.store.events_without_job()? {
            // Without a word on how to train it, somebody does that by hand and closes the event.
            let Some((_, retrain)) = self.models.get(&*model) else { continue };
            (self.step)("request");
            let deadline = at.max(self.now).checked_add(retrain.deadline).unwrap_or(Timestamp::MAX);
            let job = Job::request(&id, &model, &trigger, self.now, deadline);
            let (fleet, now) = (self.fleet, self.now);
            let new = self.store.transaction(|store| {
                if !store.add_job(&job)? {
                    return Ok(false);
                }
                let body = json!({ "model": model, "trigger": trigger, "deadline": deadline });
                notify::record(fleet, store, Fact { at: now, actor: ITSELF, kind: "job.request", subject: &id, body })?;
                Ok(true)
            })?;
            if new {
                *self.passed.steps.entry("requested".into()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Calls off jobs whose event somebody has closed, or whose model is no longer trained.
    fn call_off(&mut self) -> Result<()> {
        for (versioned, outcome) in self.store.jobs_without_event()? {
            self.stop(&versioned, &format!("its event was closed: {outcome}"))?;
        }
        for state in State::NAMES.into_iter().take(6) {
            for versioned in self.store.jobs_in(state)? {
                if !self.models.contains_key(&*versioned.job.model) {
                    self.stop(&versioned, "the fleet file no longer says how to train the model")?;
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, versioned: &Versioned, reason: &str) -> Result<()> {
        (self.step)("call off");
        let job = &versioned.job;
        let (by, reason) = (ITSELF.to_owned(), reason.to_owned());
        let State::Running { attempt, .. } = job.state else {
            return self.advance(versioned, Step::Cancel { cost: Money::ZERO, by, reason }).map(drop);
        };
        if self.models.contains_key(&*job.model) {
            if job.stopping.is_none() {
                self.advance(versioned, Step::Stop { stopping: Stopping { by, reason, overdue: false } })?;
            }
            return Ok(());
        }
        // Nobody knows any more where it runs: a command is told by its folder, and all that was set aside is taken as spent.
        let run = run_of(self.fleet, self.store, self.means, job, attempt, false)?;
        if run.folder.is_dir() {
            crate::atomic::write(&run.folder.join("cancel"), b"")?;
        }
        let cost = job.estimate.map_or(Money::ZERO, |estimate| estimate.high);
        self.advance(versioned, Step::Cancel { cost, by, reason }).map(drop)
    }

    /// Reckons what jobs cost and are worth.
    fn reckon(&mut self) -> Result<()> {
        for versioned in self.store.jobs_in("requested")? {
            let Some((model, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let (estimate, worth) = worth::reckon(self.store, model, retrain)?;
            self.advance(&versioned, Step::Cost { estimate, worth })?;
        }
        Ok(())
    }

    /// Asks for leave where that is needed.
    fn ask(&mut self) -> Result<()> {
        let rules = &self.fleet.governance.approval;
        for versioned in self.store.jobs_in("costed")? {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let Some(estimate) = &versioned.job.estimate else { continue };
            let step = match approval::reasons(rules, retrain, &versioned.job.trigger, estimate) {
                Ok(reason) => {
                    Step::Approve { grant: Grant { by: By::Policy, reason, at: self.now, overruns: Vec::new() } }
                }
                Err(reasons) => Step::Ask { request: Request::new(rules, reasons, self.now) },
            };
            self.advance(&versioned, step)?;
        }
        Ok(())
    }

    fn enqueue(&mut self) -> Result<()> {
        for versioned in self.store.jobs_in("approved")? {
            self.advance(&versioned, Step::Queue)?;
        }
        Ok(())
    }

    /// Asks the next level where nobody has answered.
    fn remind(&mut self) -> Result<()> {
        for versioned in self.store.jobs_in("awaiting_approval")? {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let State::AwaitingApproval(request) = &versioned.job.state else { continue };
            let rules = &self.fleet.governance.approval;
            if let Some(step) = approval::overdue(rules, retrain, &versioned.job, request, self.now) {
                let approved = matches!(step, Step::Approve { .. });
                let job = self.advance(&versioned, step)?;
                if let Some(job) = job.filter(|_| approved) {
                    self.advance(&job, Step::Queue)?;
                }
            }
        }
        Ok(())
    }

    fn ledger(&mut self) -> Result<Ledger> {
        ledger(self.fleet, self.store, self.now)
    }

    /// Sees how far runs are, starts those that are not known yet, and notes those that have ended.
    fn watch(&mut self, ledger: &mut Ledger) -> Result<()> {
        let running = self.store.jobs_in("running")?;
        self.look_after(running, ledger)
    }

    /// The same for runs that this pass has noted.
    fn watch_new(&mut self, ledger: &mut Ledger) -> Result<()> {
        let now = self.now;
        let mut running = self.store.jobs_in("running")?;
        running.retain(|v| matches!(v.job.state, State::Running { started_at, .. } if started_at == now));
        self.look_after(running, ledger)
    }

    fn look_after(&mut self, running: Vec<Versioned>, ledger: &mut Ledger) -> Result<()> {
        let mut runs = Vec::new();
        for versioned in running {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let State::Running { attempt, .. } = versioned.job.state else { continue };
            (self.step)("look after");
            let noted = self.store.runs_of(&versioned.job.id)?.into_iter().find(|run| run.attempt == attempt);
            let Some(noted) = noted else { continue };
            let run = run_of(self.fleet, self.store, self.means, &versioned.job, attempt, noted.seen)?;
            runs.push((versioned, retrain, run, noted));
        }
        for some in runs.chunks(AT_ONCE) {
            let (means, now) = (self.means, self.now);
            let progress: Vec<std::result::Result<Progress, Failure>> = std::thread::scope(|scope| {
                let drive = |(versioned, retrain, run, _): &(Versioned, &Retrain, Run, RunEntry)| {
                    drive(retrain, means, run, versioned.job.stopping.is_some(), now)
                };
                let asked: Vec<_> = some.iter().map(|of| scope.spawn(move || drive(of))).collect();
                let gone = || Failure::passing("this program failed on it");
                asked.into_iter().map(|asked| asked.join().unwrap_or_else(|_| Err(gone()))).collect()
            });
            for ((versioned, retrain, run, noted), progress) in some.iter().zip(progress) {
                self.conclude(versioned, retrain, (run, noted), progress, ledger)?;
            }
        }
        Ok(())
    }

    /// Draws the consequences of how far a run is.
    fn conclude(
        &mut self,
        versioned: &Versioned,
        retrain: &Retrain,
        (run, noted): (&Run, &RunEntry),
        progress: std::result::Result<Progress, Failure>,
        ledger: &mut Ledger,
    ) -> Result<()> {
        let job = &versioned.job;
        if matches!(progress, Ok(Progress::Running | Progress::Ended(_))) && !noted.seen {
            self.store.see_run(&job.id, noted.attempt)?;
        }
        let late = self.now.duration_since(run.stop_at);
        let mut never_ran = false;
        let ended = match progress {
            Ok(Progress::Ended(ended)) => ended,
            // It was not there, and is not asked for any more.
            Ok(Progress::NotStarted) => {
                never_ran = !noted.seen;
                Ended::new(Outcome::Failed, "it could not be started in time")
            }
            Err(failure) if failure.lasting => {
                never_ran = true;
                Ended::new(Outcome::Failed, failure.reason)
            }
            other => {
                if let Err(failure) = other {
                    self.passed.troubles.push((run.name(), failure.reason));
                }
                if late >= SignedDuration::ZERO && job.stopping.is_none() {
                    let (by, reason) = (ITSELF.into(), "it took longer than its timeout".into());
                    self.advance(versioned, Step::Stop { stopping: Stopping { by, reason, overdue: true } })?;
                    return Ok(());
                }
                // Those who train have a while to stop and say what it cost; after that nobody waits for their word.
                if late < GRACE {
                    return Ok(());
                }
                Ended::new(Outcome::TimedOut, "it took longer than its timeout")
            }
        };
        let lasted = self.now.duration_since(run.started_at);
        let cost = match (ended.cost, ended.outcome) {
            (Some(cost), _) => cost,
            (None, _) if never_ran => Money::ZERO,
            (None, _) => price(retrain, ended.took.unwrap_or(lasted)),
        };
        let step = match (ended.outcome, &job.stopping) {
            (Outcome::Succeeded, _) => Step::Succeed { cost },
            (_, Some(stopping)) if stopping.overdue => Step::TimeOut { cost, reason: stopping.reason.clone() },
            (_, Some(Stopping { by, reason, .. })) => Step::Cancel { cost, by: by.clone(), reason: reason.clone() },
            (Outcome::TimedOut, None) => Step::TimeOut { cost, reason: ended.reason },
            (Outcome::Cancelled, None) => {
                Step::Cancel { cost, by: "executor".into(), reason: "it was stopped there".into() }
            }
            (Outcome::Failed, None) => {
                let not_before = queue::retry_at(&job.id, job.attempts, retrain.backoff, self.now);
                if job.attempts <= retrain.retries && not_before < job.deadline {
                    Step::Retry { cost, reason: ended.reason, not_before }
                } else {
                    Step::Fail { cost, reason: ended.reason }
                }
            }
        };
        if self.advance(versioned, step)?.is_some() {
            let (from, to) = ledger.span(&self.fleet.zone);
            if (from..to).contains(&noted.started_at) {
                ledger.settle(&job.model, &noted.team, noted.committed, cost);
            }
        }
        Ok(())
    }

    /// Starts what has its turn.
    fn start(&mut self, ledger: &mut Ledger) -> Result<()> {
        let limits = &self.fleet.governance.at_once;
        let mut slots = Slots::default();
        for versioned in self.store.jobs_in("running")? {
            if let Some((_, retrain)) = self.models.get(&*versioned.job.model) {
                slots.take(retrain);
            }
        }
        let queued = self.store.jobs_in("queued")?;
        let mut versions: HashMap<String, u64> = HashMap::new();
        let mut jobs = Vec::new();
        for versioned in queued {
            if self.now >= versioned.job.deadline {
                let reason = format!("its turn did not come before its deadline, {}", versioned.job.deadline);
                self.advance(&versioned, Step::TimeOut { cost: Money::ZERO, reason })?;
                continue;
            }
            versions.insert(versioned.job.id.clone(), versioned.version);
            jobs.push(versioned.job);
        }
        queue::order(&mut jobs);
        for job in jobs {
            if slots.full(limits) {
                break;
            }
            let State::Queued { not_before } = job.state else { continue };
            let Some((_, retrain)) = self.models.get(&*job.model).copied() else { continue };
            if self.now < not_before || !slots.fits(limits, retrain) {
                continue;
            }
            let committed = job.estimate.map_or(retrain.cost, |estimate| estimate.high);
            let versioned = Versioned { version: versions.get(&job.id).copied().unwrap_or_default(), job };
            let job = &versioned.job;
            let mut overruns = ledger.overruns(&self.fleet.governance.budget, &job.model, retrain, committed);
            overruns.retain(|overrun| !budget::is_allowed(overrun, &job.grants));
            if !overruns.is_empty() {
                let reasons = overruns.into_iter().map(approval::Reason::Overrun).collect();
                let request = Request::new(&self.fleet.governance.approval, reasons, self.now);
                self.advance(&versioned, Step::Ask { request })?;
                continue;
            }
            let stop_at = self.now.checked_add(retrain.timeout).unwrap_or(Timestamp::MAX);
            if self.advance(&versioned, Step::Start { stop_at })?.is_some() {
                slots.take(retrain);
                ledger.commit(&versioned.job.model, &retrain.team, committed);
            }
        }
        Ok(())
    }

    /// Warns of budgets that are nearly used up, once a month each.
    fn warn(&mut self, ledger: &Ledger) -> Result<()> {
        let month = ledger.month().strftime("%Y-%m").to_string();
        for standing in standings(self.fleet, ledger, self.now).into_iter().filter(|standing| standing.warns) {
            (self.step)("warn");
            let (fleet, now) = (self.fleet, self.now);
            let scope = standing.scope.to_string();
            let body = json!({
                "budget": standing.budget.to_string(),
                "taken": (standing.spent + standing.committed).to_string(),
                "forecast": standing.forecast.to_string(),
                "month": month,
            });
            let month = &month;
            self.store.transaction(|store| {
                if store.add_budget_warning(&scope, month)? {
                    let fact = Fact { at: now, actor: ITSELF, kind: "budget.warning", subject: &scope, body };
                    notify::record(fleet, store, fact)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn advance(&mut self, versioned: &Versioned, step: Step) -> Result<Option<Versioned>> {
        (self.step)(step.name());
        let (fleet, now) = (self.fleet, self.now);
        let team = self.models.get(&*versioned.job.model).map_or("", |(_, retrain)| &retrain.team);
        let after = self.store.transaction(|store| advance(fleet, store, versioned, &step, now, ITSELF, team))?;
        if let Some(after) = &after {
            *self.passed.steps.entry(after.job.state.name().into()).or_default() += 1;
        }
        Ok(after)
    }
}

/// After its time a run has so long to end by itself.
const GRACE: SignedDuration = SignedDuration::from_secs(120);

/// A run that cannot be started for so long makes way for others.
const START_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Stops a run that is to be stopped, or starts one that is not known yet; how far it is. A lasting failure is one of a
/// start: what went wrong in asking says nothing of the run.
fn drive(
    retrain: &Retrain,
    means: &Means<'_>,
    run: &Run,
    stopping: bool,
    now: Timestamp,
) -> std::result::Result<Progress, Failure> {
    let executor = executor::of(retrain, means.http, means.program);
    let passing = |failure: Failure| Failure::passing(failure.reason);
    if stopping {
        executor.cancel(run, now).map_err(passing)?;
    }
    let in_time = run.seen || now.duration_since(run.started_at) < START_WITHIN;
    match executor.poll(run, now).map_err(passing)? {
        Progress::NotStarted if !stopping && in_time && now < run.stop_at => {
            executor.start(run, now).map(|()| Progress::Running)
        }
        progress => Ok(progress),
    }
}

/// What a run costs that takes so long.
fn price(retrain: &Retrain, took: SignedDuration) -> Money {
    retrain.rate.times(took.as_secs_f64().max(0.0) / 3600.0) + retrain.storage
}

fn run_of(fleet: &Fleet, store: &mut Store, means: &Means<'_>, job: &Job, attempt: u32, seen: bool) -> Result<Run> {
    let (started_at, stop_at) = match job.state {
        State::Running { started_at, stop_at, .. } => (started_at, stop_at),
        _ => (job.since, job.deadline),
    };
    let folder = means.state.join("jobs").join(&job.id).join(attempt.to_string());
    let executors = fleet.models.iter().filter_map(|model| Some(model.retrain.as_ref()?.executor.variables()));
    let channels = fleet.channels.iter().map(crate::fleet::Channel::variables);
    let mut hidden: Vec<String> = executors.chain(channels).flatten().map(str::to_owned).collect();
    hidden.push("DRIFTSWEEP_STORE".into());
    Ok(Run {
        fleet: fleet.name.clone(),
        model: job.model.clone(),
        job: job.id.clone(),
        attempt,
        trigger: job.trigger.clone(),
        event: store.event_body(&job.id)?.unwrap_or_default(),
        folder: std::path::absolute(&folder).unwrap_or(folder),
        started_at,
        stop_at,
        hidden,
        seen,
    })
}

/// What is spent and set aside this month.
///
/// # Errors
/// [`Error::Store`].
pub fn ledger(fleet: &Fleet, store: &mut Store, now: Timestamp) -> Result<Ledger> {
    let mut ledger = Ledger::new(now, &fleet.zone);
    let (from, to) = ledger.span(&fleet.zone);
    for run in store.runs_between(from, to)? {
        match run.ended {
            Some((_, _, cost)) => ledger.spend(&run.model, &run.team, cost),
            None => ledger.commit(&run.model, &run.team, run.committed),
        }
    }
    Ok(ledger)
}

/// How all budgets of a fleet stand.
pub fn standings(fleet: &Fleet, ledger: &Ledger, now: Timestamp) -> Vec<Standing> {
    let budget = &fleet.governance.budget;
    let teams = budget.teams.keys().map(|team| (Scope::Team(team.clone()), None));
    let models = fleet
        .models
        .iter()
        .filter_map(|model| Some((Scope::Model(model.name.clone()), Some(model.retrain.as_ref()?.budget?))));
    let scopes = std::iter::once((Scope::Fleet, None)).chain(teams).chain(models);
    let standings = scopes.filter_map(|(scope, of_model)| {
        let limit = budget::limit(budget, &scope, of_model)?;
        Some(ledger.standing(budget, scope, limit, now, &fleet.zone))
    });
    standings.collect()
}

/// Takes a job a step further, inside a transaction: `None` if somebody else has changed it since. All that belongs to the
/// step is written with it: what is set aside or was spent, the end of the event, the audit and the messages.
fn advance(
    fleet: &Fleet,
    store: &mut Store,
    versioned: &Versioned,
    step: &Step,
    now: Timestamp,
    actor: &str,
    team: &str,
) -> Result<Option<Versioned>> {
    let before = &versioned.job;
    let job = before
        .apply(step, now)
        .map_err(|illegal| Error::BadValue { what: format!("job {}", before.id), reason: illegal.to_string() })?;
    if !store.set_job(&job, versioned.version)? {
        return Ok(None);
    }
    if let (State::Queued { .. }, State::Running { attempt, started_at, .. }) = (&before.state, &job.state) {
        let (attempt, started_at) = (*attempt, *started_at);
        let estimate = job.estimate.unwrap_or_else(|| crate::retrain::Estimate::new(Money::ZERO, &[]));
        store.add_run(&RunEntry {
            job: job.id.clone(),
            attempt,
            model: job.model.clone(),
            team: team.into(),
            started_at,
            declared: estimate.declared,
            committed: estimate.high,
            seen: false,
            ended: None,
        })?;
    }
    let mut body = serde_json::to_value(step)
        .map_err(|e| Error::BadValue { what: format!("job {}", job.id), reason: e.to_string() })?;
    if let (State::Running { attempt, .. }, false) = (&before.state, matches!(step, Step::Stop { .. })) {
        let attempt = *attempt;
        let outcome = if matches!(step, Step::Retry { .. }) { "failed" } else { job.state.name() };
        let cost = job.spent - before.spent;
        store.end_run(&job.id, attempt, now, outcome, cost)?;
        body["attempt"] = attempt.into();
        body["cost"] = cost.cents().into();
    }
    if job.state.is_final() {
        let (outcome, note) = match &job.state {
            State::Succeeded => ("trained", String::new()),
            state => (state.name(), state.reason().to_owned()),
        };
        // It may have been closed by hand.
        store.close_event(&job.id, now, outcome, &note.replace('\0', "\u{fffd}"))?;
        if job.state == State::Succeeded {
            store.set_trained(&job.model, now)?;
        }
    }
    describe(fleet, &job, &mut body);
    let kind = format!("job.{}", step.name());
    notify::record(fleet, store, Fact { at: now, actor, kind: &kind, subject: &job.id, body })?;
    Ok(Some(Versioned { job, version: versioned.version + 1 }))
}

/// What somebody who is told of a step wants to know beside it.
fn describe(fleet: &Fleet, job: &Job, body: &mut Value) {
    body["model"] = job.model.clone().into();
    match &job.state {
        State::Running { attempt, .. } => body["attempt"] = (*attempt).into(),
        State::AwaitingApproval(request) => {
            let reasons: Vec<String> = request.reasons.iter().map(ToString::to_string).collect();
            let asked = fleet.governance.approval.approvers.get(request.level).cloned().unwrap_or_default();
            body["question"] = reasons.join("; ").into();
            body["asked"] = asked.join(", ").into();
            if let (Some(estimate), Some(worth)) = (&job.estimate, &job.worth) {
                body["expected"] = estimate.expected.to_string().into();
                body["low"] = estimate.low.to_string().into();
                body["high"] = estimate.high.to_string().into();
                body["gain"] = worth.gain.to_string().into();
            }
        }
        state if state.is_final() => body["spent"] = job.spent.to_string().into(),
        _ => {}
    }
}

/// Where the files of a job's run are.
pub fn folder_of(state: &Path, job: &str, attempt: u32) -> PathBuf {
    state.join("jobs").join(job).join(attempt.to_string())
}
