//! What becomes of retrain events: one pass over all jobs that are not at their end. It asks for approval, watches the budget,
//! starts what may be started and notes what has ended.
//!
//! A pass may be killed between any two steps and run again, or run twenty times at once: only the process that holds the
//! fleet's lock for jobs acts; each step of a job is one transaction with its audit record and its messages, and counts
//! only if nobody else has changed the job since; a run is noted before it is started, and starting it twice is starting
//! it once.

mod amounts;
mod answer;
mod damaged;
mod renew;
mod step;
mod trust;
mod watch;
mod worth;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::json;

pub use answer::{Answer, Answerers, answer, answerers, cancel, statement};
pub use damaged::{close_damaged, damage, runs_under_way};
pub use renew::{Adopting, Kept, Setting, has_baseline, in_use, keep, set};
pub use worth::reckon;

use step::{When, advance};

use crate::error::{Error, Result};
use crate::executor::{Logins, Run};
use crate::fleet::{Fleet, Model, Money, Retrain};
use crate::http::Http;
use crate::notify::{self, Fact};
use crate::retrain::approval::{self, Basis, Refusal, SAME_TIME};
use crate::retrain::asked;
use crate::retrain::budget::{self, Scope, Standing};
use crate::retrain::queue::{self, Slots};
use crate::retrain::{Grant, Job, Ledger, Overrun, Request, State, Step, Stopping};
use crate::store::{Doubts, ITSELF, RunEntry, Store, Unreadable, Versioned};

/// What a pass works with.
pub struct Means<'a> {
    /// Requests to addresses.
    pub http: &'a Http,
    /// This program, by its path: it supervises commands.
    pub program: &'a Path,
    /// The folder of the fleet's state: runs have folders of their own in it.
    pub state: &'a Path,
    /// The real time, whatever time a pass is taken to be: by it real trainings are stopped.
    pub clock: Timestamp,
    /// For how long the pass has been at it.
    pub elapsed: &'a (dyn Fn() -> Duration + Sync),
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// The last state that each job came to, by the job's name; in JSON how many came to each.
    #[serde(rename = "states", serialize_with = "counted")]
    pub jobs: BTreeMap<String, String>,
    /// What could not be started or asked: it is tried again.
    pub troubles: Vec<Trouble>,
    /// Rows of the store that cannot be read: they are left out.
    pub unreadable: Vec<Unreadable>,
    /// What the store holds that does not follow from its audit: the jobs in question are not started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tampered: Vec<String>,
}

impl Passed {
    /// How many jobs came to each state: each job once, by its last.
    pub fn states(&self) -> BTreeMap<&str, usize> {
        let mut states = BTreeMap::new();
        for state in self.jobs.values() {
            *states.entry(&**state).or_default() += 1;
        }
        states
    }

    /// Adds what a later pass did. What was in the way is as it was last.
    pub fn then(&mut self, later: Self) {
        self.jobs.extend(later.jobs);
        // What is tried again is told anew; what is not is told once.
        self.troubles.retain(|trouble| trouble.lasting);
        self.troubles.extend(later.troubles);
        self.unreadable = later.unreadable;
        self.tampered = later.tampered;
    }
}

fn counted<S: Serializer>(jobs: &BTreeMap<String, String>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let passed = Passed { jobs: jobs.clone(), ..Passed::default() };
    passed.states().serialize(serializer)
}

/// A run that could not be started or asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Its model.
    pub model: String,
    /// Its name.
    pub run: String,
    /// Why.
    pub reason: String,
    /// Whether it is not tried again.
    pub lasting: bool,
}

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
    // As precise as the store keeps it, so that a job follows exactly from its records.
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    step("lock jobs");
    store.alone("jobs", |store| take_further(fleet, store, now, means, step))
}

fn take_further(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    means: &Means<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<Passed> {
    let models = fleet.models.iter().filter_map(|model| Some((&*model.name, (model, model.retrain.as_ref()?))));
    let (models, logins, passed) = (models.collect(), Logins::default(), Passed::default());
    if store.run_secret()?.is_none() {
        store.transaction(|store| step::run_secret(store).map(drop))?;
    }
    let mut pass = Pass { fleet, store, now, means, step, models, logins, passed, doubts: None };
    pass.request()?;
    pass.call_off()?;
    pass.reckon()?;
    pass.ask()?;
    pass.enqueue()?;
    let mut ledger = ledger(fleet, pass.store, now)?;
    pass.withdraw(&ledger)?;
    pass.remind()?;
    pass.watch(&mut ledger)?;
    pass.start(&mut ledger)?;
    pass.watch_new(&mut ledger)?;
    pass.warn(&ledger)?;
    (pass.step)("end");
    pass.passed.unreadable = damaged::found(pass.store)?;
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
    logins: Logins,
    passed: Passed,
    /// What speaks against starting jobs, once that was asked.
    doubts: Option<Doubts>,
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
            if !self.is_trusted(&job)? {
                continue;
            }
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
                self.passed.jobs.insert(id, "requested".into());
            }
        }
        Ok(())
    }

    /// Calls off jobs whose event somebody has closed, or whose model is no longer trained.
    fn call_off(&mut self) -> Result<()> {
        for (versioned, outcome) in self.store.jobs_without_event()? {
            self.stop(&versioned, &format!("its event was closed: {outcome}"))?;
        }
        for state in State::open_names() {
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
        if !matches!(job.state, State::Running { .. }) {
            return self.advance(versioned, Step::Cancel { cost: Money::ZERO, by, reason }).map(drop);
        }
        if job.stopping.is_none() {
            self.advance(versioned, Step::Stop { stopping: Stopping { by, reason, overdue: false } })?;
        }
        Ok(())
    }

    /// Reckons what jobs cost and are worth.
    fn reckon(&mut self) -> Result<()> {
        for versioned in self.store.jobs_in("requested")? {
            let Some((model, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            if !self.is_trusted(&versioned.job)? {
                continue;
            }
            let (estimate, worth) = worth::reckon(self.store, model, retrain)?;
            self.advance(&versioned, Step::Cost { estimate, worth })?;
        }
        Ok(())
    }

    /// Asks for approval where that is needed.
    fn ask(&mut self) -> Result<()> {
        let rules = &self.fleet.governance.approval;
        for versioned in self.store.jobs_in("costed")? {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let Some(estimate) = &versioned.job.estimate else { continue };
            if !self.is_trusted(&versioned.job)? {
                continue;
            }
            let currency = &self.fleet.governance.budget.currency;
            let step = match approval::reasons(rules, currency, retrain, &versioned.job.trigger, estimate) {
                Ok(reason) => Step::Approve { grant: Grant::by_policy(reason, self.now) },
                Err(reasons) => Step::Ask { request: Request::new(rules, reasons, self.now) },
            };
            self.advance(&versioned, step)?;
        }
        Ok(())
    }

    /// Lets jobs that were allowed join the queue; and those anew that would wait for a time that a clock has noted which was
    /// ahead.
    fn enqueue(&mut self) -> Result<()> {
        for versioned in self.store.jobs_in("approved")? {
            self.advance(&versioned, Step::Queue)?;
        }
        let times = (self.now, self.store.clock()?);
        if times.0.duration_since(times.1).abs() > SAME_TIME {
            return Ok(());
        }
        let queued = self.store.jobs_in("queued")?;
        for versioned in queued.iter().filter(|versioned| asked::was_ahead(versioned.job.since, times)) {
            if self.is_trusted(&versioned.job)? {
                self.advance(versioned, Step::Queue)?;
            }
        }
        Ok(())
    }

    /// Withdraws questions about budgets that would not be overrun any more: a new month has begun, another run cost less
    /// than was set aside for it, or the budget was raised.
    fn withdraw(&mut self, ledger: &Ledger) -> Result<()> {
        let mut asked = self.store.jobs_in("awaiting_approval")?;
        asked.retain(|v| matches!(&v.job.state, State::AwaitingApproval(request) if request.is_of_budgets()));
        if asked.is_empty() {
            return Ok(());
        }
        // Those that wait for their turn take from the same budgets.
        asked.extend(self.store.jobs_in("queued")?);
        queue::order(&mut asked, |versioned| &versioned.job);
        let mut ledger = ledger.clone();
        for versioned in asked {
            let job = &versioned.job;
            let Some((_, retrain)) = self.models.get(&*job.model).copied() else { continue };
            let amount = to_commit(job, retrain);
            if !self.overruns(&ledger, job, retrain, amount).is_empty() {
                continue;
            }
            ledger.commit(&job.model, &retrain.team, amount);
            if matches!(job.state, State::AwaitingApproval(_)) {
                self.advance(&versioned, Step::Withdraw)?;
            }
        }
        Ok(())
    }

    /// The budgets that a job would overrun without an approval.
    fn overruns(&self, ledger: &Ledger, job: &Job, retrain: &Retrain, amount: Money) -> Vec<Overrun> {
        let mut overruns = ledger.overruns(&self.fleet.governance.budget, &job.model, retrain, amount);
        overruns.retain(|overrun| !budget::is_allowed(overrun, &job.grants));
        overruns
    }

    /// Asks the next level where nobody has answered, and the same one anew where nobody who was asked may answer any more.
    fn remind(&mut self) -> Result<()> {
        for versioned in self.store.jobs_in("awaiting_approval")? {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let State::AwaitingApproval(request) = &versioned.job.state else { continue };
            let rules = &self.fleet.governance.approval;
            let asked = match answer::question_of(self.store, &versioned.job, request) {
                // The others are seen to, and this one is told of when something would become of it.
                Err(Error::BadValue { what, reason }) => {
                    if self.now >= request.due {
                        self.tampered(vec![format!("{what}: {reason}")]);
                    }
                    continue;
                }
                asked => asked?,
            };
            let clock = self.store.clock()?;
            if let Some(step) = asked::anew(rules, request, &asked, (self.now, clock)) {
                if self.is_trusted(&versioned.job)? {
                    self.advance(&versioned, step)?;
                }
                continue;
            }
            if approval::is_over(request, asked.times(), (self.now, Some(clock))).is_err() {
                continue;
            }
            if let Some(step) = approval::overdue(rules, retrain, &versioned.job, request, self.now) {
                let approved = matches!(step, Step::Approve { .. });
                // Nobody has answered: what the policy decides by must be beyond doubt.
                if approved && !(self.is_trusted(&versioned.job)? && self.is_whole()?) {
                    continue;
                }
                let job = self.advance(&versioned, step)?;
                if let Some(job) = job.filter(|_| approved) {
                    self.advance(&job, Step::Queue)?;
                }
            }
        }
        Ok(())
    }

    /// Starts what has its turn.
    fn start(&mut self, ledger: &mut Ledger) -> Result<()> {
        let limits = &self.fleet.governance.at_once;
        let mut slots = Slots::default();
        for run in runs_under_way(self.store, self.now)? {
            slots.take(&run.retrain);
        }
        let mut queued = self.store.jobs_in("queued")?;
        queue::order(&mut queued, |versioned| &versioned.job);
        // The rows were read just now; what was found before may not be true of them.
        self.doubts = None;
        for versioned in queued {
            let job = &versioned.job;
            if self.now >= job.deadline {
                let reason = format!("its turn did not come before its deadline, {}", job.deadline);
                self.advance(&versioned, Step::TimeOut { cost: Money::ZERO, reason })?;
                continue;
            }
            let State::Queued { not_before } = job.state else { continue };
            let Some((model, retrain)) = self.models.get(&*job.model).copied() else { continue };
            // Told also of those whose turn has not come.
            if !self.is_trusted(job)? || !self.may_start()? {
                continue;
            }
            if self.now < not_before || !slots.fits(limits, retrain) {
                continue;
            }
            let (rules, currency) = (&self.fleet.governance.approval, &self.fleet.governance.budget.currency);
            let reckoned = worth::reckon(self.store, model, retrain)?;
            match approval::is_still_allowed(rules, (&self.fleet.name, currency), retrain, job, &reckoned) {
                Ok(Basis::Granted) => {}
                Ok(Basis::Safe) => {
                    if !self.is_whole()? {
                        continue;
                    }
                }
                Err(Refusal::Ask(reasons)) => {
                    let request = Request::new(rules, reasons, self.now);
                    self.advance(&versioned, Step::Ask { request })?;
                    continue;
                }
                Err(Refusal::Signature(problem)) => {
                    let reason = format!(
                        "it is not started, for its approval does not count any more: {problem}; correct the fleet file, or \
                         call the job off with `driftsweep jobs cancel`"
                    );
                    let (model, run) = (job.model.clone(), job.id.clone());
                    self.passed.troubles.push(Trouble { model, run, reason, lasting: false });
                    continue;
                }
            }
            let amount = to_commit(job, retrain);
            let overruns = self.overruns(ledger, job, retrain, amount);
            if !overruns.is_empty() {
                let reasons = overruns.into_iter().map(approval::Reason::Overrun).collect();
                let request = Request::new(&self.fleet.governance.approval, reasons, self.now);
                self.advance(&versioned, Step::Ask { request })?;
                continue;
            }
            let stop_at = self.now.checked_add(retrain.timeout).unwrap_or(Timestamp::MAX);
            if self.advance(&versioned, Step::Start { stop_at })?.is_some() {
                slots.take(retrain);
                ledger.commit(&job.model, &retrain.team, amount);
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
            let (scope, currency) = (standing.scope.to_string(), &fleet.governance.budget.currency);
            let body = json!({
                "budget": currency.show(standing.budget),
                "taken": currency.show(standing.spent + standing.committed),
                "forecast": currency.show(standing.forecast),
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
        let (fleet, when) = (self.fleet, When { now: self.now, clock: Some(self.means.clock) });
        let after = self.store.transaction(|store| advance(fleet, store, versioned, &step, when, ITSELF))?;
        if let Some(after) = &after {
            self.passed.jobs.insert(after.job.id.clone(), after.job.state.name().into());
        }
        Ok(after)
    }
}

/// What is set aside for a run of a job.
fn to_commit(job: &Job, retrain: &Retrain) -> Money {
    job.estimate.map_or(retrain.cost, |estimate| estimate.high)
}

/// A run as its executor sees it.
fn run_of(
    fleet: &Fleet,
    store: &mut Store,
    means: &Means<'_>,
    job: &Job,
    noted: &RunEntry,
    now: Timestamp,
) -> Result<Run> {
    let stop_at = match job.state {
        State::Running { stop_at, .. } => stop_at,
        _ => job.deadline,
    };
    let late = late(stop_at, noted, now, means.clock);
    let folder = folder_of(means.state, &job.id, noted.attempt);
    Ok(Run {
        fleet: fleet.name.clone(),
        model: job.model.clone(),
        job: job.id.clone(),
        attempt: noted.attempt,
        trigger: job.trigger.clone(),
        event: store.event_body(&job.id)?.unwrap_or_default(),
        folder: std::path::absolute(&folder).unwrap_or(folder),
        started_at: noted.started_at,
        stop_at,
        late,
        key: job.key.clone().unwrap_or_default(),
        seen: noted.seen,
    })
}

/// For how long a run's time has been up; less than zero while it is not. Both by the time that the pass is taken to be and by
/// the real clock, whichever says less: a pass that replays another time must not stop a real training.
fn late(stop_at: Timestamp, noted: &RunEntry, now: Timestamp, clock: Timestamp) -> SignedDuration {
    let length = stop_at.duration_since(noted.started_at);
    lasted(noted, now, clock).saturating_sub(length)
}

/// How long ago a run was started, likewise. A start that was noted while the clock was ahead says nothing.
fn lasted(noted: &RunEntry, now: Timestamp, clock: Timestamp) -> SignedDuration {
    let by_now = now.duration_since(noted.started_at);
    match noted.clock_at.map(|started| clock.duration_since(started)) {
        Some(by_clock) if asked::was_ahead(noted.started_at, (now, clock)) => by_clock,
        Some(by_clock) => by_now.min(by_clock),
        None => by_now,
    }
}

/// What is spent and set aside this month.
///
/// # Errors
/// [`Error::Store`].
pub fn ledger(fleet: &Fleet, store: &mut Store, now: Timestamp) -> Result<Ledger> {
    let mut ledger = Ledger::new(now, &fleet.zone);
    let (from, to) = ledger.span(&fleet.zone);
    let looked_after = damaged::looked_after(store)?;
    for run in store.runs_between(from, to)? {
        match run.ended {
            Some((_, _, cost)) => ledger.spend(&run.model, &run.retrain.team, cost),
            None if damaged::counts(&run, &looked_after, now) => {
                ledger.commit(&run.model, &run.retrain.team, run.committed);
            }
            None => {}
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

/// Where the files of a job's run are.
pub fn folder_of(state: &Path, job: &str, attempt: u32) -> PathBuf {
    state.join("jobs").join(job).join(attempt.to_string())
}

/// The settings by which a run is reached: those of the fleet file, unless they lead elsewhere than where it was started.
fn reaching<'a>(declared: Option<&'a Retrain>, noted: &'a RunEntry) -> &'a Retrain {
    let kept = &noted.retrain;
    declared.filter(|declared| declared.executor.same_place(&kept.executor)).unwrap_or(kept)
}
