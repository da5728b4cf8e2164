//! Handles retrain events: one pass over all jobs that are not finished. It requests approval, checks the budget,
//! starts jobs that may start and records jobs that have ended.
//!
//! A pass may be killed between any two steps and run again, or run twenty times at once: only the process that holds
//! the fleet's lock for jobs acts; each step of a job is one transaction with its audit record and its messages, and
//! counts only if no other process has changed the job since; a run is recorded before it is started, and starting is
//! idempotent.

mod amounts;
mod damaged;
mod decide;
mod estimate;
mod gating;
mod renew;
mod step;
mod trust;
mod versions;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::json;

pub use damaged::{close_damaged, damage_reason, runs_under_way};
pub use decide::{ApprovalAnswer, CurrentApprovers, answerers, cancel, decide, statement};
pub use estimate::estimate;
pub use renew::{
    BaselineChange, BaselineRequest, StoredBaseline, current_baseline, has_baseline, set_baseline, store_baseline,
};

pub use versions::{VersionDecision, delete_alias, promote, register, retire, set_alias};
pub(crate) use versions::{make_champion, reject};

use step::{StepResult, StepTime, advance};

use crate::notify::{self, AuditedFact};
use crate::retrain::approval::{self, CLOCK_TOLERANCE, StartBasis, StartRefusal};
use crate::retrain::approvers;
use crate::retrain::budget::{self, BudgetScope, BudgetStatus};
use crate::retrain::queue::{self, Slots};
use crate::retrain::{
    ApprovalRequest, CostEstimate, Grant, Job, JobState, JobStep, Ledger, Overrun, StopRequest, ValueEstimate,
};
use crate::store::{RunRecord, SYSTEM_ACTOR, StartBlockers, Store, UnreadableRow, VersionedJob};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::executor::{Logins, TrainingRun};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Model, Money, RetrainConfig};

/// The context of a pass.
pub struct PassContext<'a> {
    /// Requests to addresses.
    pub http: &'a Http,
    /// The path of this program, which supervises commands.
    pub program: &'a Path,
    /// The folder of the fleet's state: runs have their own folders in it.
    pub state: &'a Path,
    /// The real time, whatever the effective time of the pass: real trainings are stopped by it.
    pub clock: Timestamp,
    /// The running time of the pass.
    pub elapsed: &'a (dyn Fn() -> Duration + Sync),
}

/// The summary of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PassSummary {
    /// The last new state of each job, by its id; in JSON the number of jobs per state.
    #[serde(rename = "states", serialize_with = "counted")]
    pub jobs: BTreeMap<String, String>,
    /// Runs that could not be started or polled, and are retried.
    #[serde(rename = "troubles")]
    pub failures: Vec<PassFailure>,
    /// Rows of the store that cannot be read: they are skipped.
    pub unreadable: Vec<UnreadableRow>,
    /// Differences between the store and its audit: the affected jobs are not started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tampered: Vec<String>,
}

impl PassSummary {
    /// The number of jobs per new state, each job once.
    pub fn states(&self) -> BTreeMap<&str, usize> {
        let mut states = BTreeMap::new();
        for state in self.jobs.values() {
            *states.entry(&**state).or_default() += 1;
        }
        states
    }

    /// Adds the summary of a later pass. Failures are replaced by the later ones.
    pub fn then(&mut self, later: Self) {
        self.jobs.extend(later.jobs);
        // Failures that are retried are reported again; permanent ones only once.
        self.failures.retain(|failure| failure.permanent);
        self.failures.extend(later.failures);
        self.unreadable = later.unreadable;
        self.tampered = later.tampered;
    }
}

fn counted<S: Serializer>(jobs: &BTreeMap<String, String>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let summary = PassSummary { jobs: jobs.clone(), ..PassSummary::default() };
    summary.states().serialize(serializer)
}

/// A run that could not be started or polled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassFailure {
    /// Its model.
    pub model: String,
    /// Its name.
    pub run: String,
    /// Why.
    pub reason: String,
    /// Whether it is permanent: not retried.
    #[serde(rename = "lasting")]
    pub permanent: bool,
}

/// Runs one pass over all jobs. `step` is called with the name of each step before it.
///
/// # Errors
/// [`Error::Locked`] if another process holds the lock; [`Error::Store`].
pub fn pass(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    context: &PassContext<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<PassSummary> {
    // As precise as the store keeps it, so that a job follows exactly from its records.
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    step("lock jobs");
    store.with_lock("jobs", |store| run_pass(fleet, store, now, context, step))
}

fn run_pass(
    fleet: &Fleet,
    store: &mut Store,
    now: Timestamp,
    context: &PassContext<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<PassSummary> {
    let models = fleet.models.iter().filter_map(|model| Some((&*model.name, (model, model.retrain.as_ref()?))));
    let (models, logins, summary) = (Rc::new(models.collect()), Logins::default(), PassSummary::default());
    if store.run_secret()?.is_none() {
        store.transaction(|store| step::run_secret(store).map(drop))?;
    }
    let mut pass = JobPass { fleet, store, now, context, step, models, logins, summary, blockers: None };
    let mut ledger = pass.ledger()?;
    pass.request()?;
    pass.cancel_orphaned()?;
    pass.estimate_costs()?;
    pass.ask()?;
    pass.enqueue()?;
    pass.withdraw(&ledger)?;
    pass.remind()?;
    pass.watch(&mut ledger)?;
    pass.start(&mut ledger)?;
    pass.watch_new(&mut ledger)?;
    pass.judge_candidates()?;
    pass.warn(&ledger)?;
    (pass.step)("end");
    pass.summary.unreadable = damaged::unreadable_rows(pass.store)?;
    Ok(pass.summary)
}

type TrainableModels<'a> = HashMap<&'a str, (&'a Model, &'a RetrainConfig)>;

struct JobPass<'a> {
    fleet: &'a Fleet,
    store: &'a mut Store,
    now: Timestamp,
    context: &'a PassContext<'a>,
    step: &'a mut dyn FnMut(&str),
    models: Rc<TrainableModels<'a>>,
    logins: Logins,
    summary: PassSummary,
    /// The problems that block starting jobs, of all moments at which something was read by which they are started.
    blockers: Option<StartBlockers>,
}

impl JobPass<'_> {
    /// The amounts of this month. Where jobs may be started by them, they are compared with the audit.
    fn ledger(&mut self) -> Result<Ledger> {
        let (fleet, now, models) = (self.fleet, self.now, self.models.clone());
        let counts = self.store.job_counts()?;
        let is_open = |state: &str| JobState::open_names().any(|open| open == state);
        let needed = counts.iter().any(|(state, _)| is_open(state))
            || self.store.events_without_job()?.iter().any(|(_, model, ..)| models.contains_key(&**model));
        match needed {
            true => self.read_to_start(|store| ledger(fleet, store, now)),
            false => ledger(fleet, self.store, now),
        }
    }

    /// Creates jobs for open events.
    fn request(&mut self) -> Result<()> {
        let models = self.models.clone();
        let open = self.confirmed(
            |store| {
                let mut open = store.events_without_job()?;
                // Without training settings, a person trains the model and closes the event.
                open.retain(|(_, model, ..)| models.contains_key(&**model));
                Ok(open)
            },
            |store, (id, model, trigger, at)| store.request_problem((id, model, trigger), *at),
        )?;
        for (id, model, trigger, at) in open {
            let Some((_, retrain)) = models.get(&*model) else { continue };
            (self.step)("request");
            let deadline = at.max(self.now).checked_add(retrain.deadline).unwrap_or(Timestamp::MAX);
            let job = Job::request(&id, &model, &trigger, self.now, deadline);
            if !self.is_trusted(&job)? {
                continue;
            }
            let (fleet, now) = (self.fleet, self.now);
            let new = self.store.transaction(|store| {
                // The event may have been closed since.
                if store.request_problem((&id, &model, &trigger), at)?.is_some() || !store.add_job(&job)? {
                    return Ok(false);
                }
                let body = json!({ "model": model, "trigger": trigger, "deadline": deadline });
                notify::record(
                    fleet,
                    store,
                    AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: "job.request", subject: &id, body },
                )?;
                Ok(true)
            })?;
            if new {
                self.summary.jobs.insert(id, "requested".into());
            }
        }
        Ok(())
    }

    /// Cancels jobs whose event was closed, or whose model has no training settings any more.
    fn cancel_orphaned(&mut self) -> Result<()> {
        let closed = self.confirmed(Store::jobs_without_event, |store, (versioned, _)| {
            let event = store.event_body(&versioned.job.id)?;
            Ok(match store.check_job(versioned)?.problem(&versioned.job) {
                None => store.event_problem(&versioned.job.id, event.as_deref())?,
                problem => problem,
            })
        })?;
        for (versioned, outcome) in closed {
            self.stop(&versioned, &format!("its event was closed: {outcome}"))?;
        }
        for state in JobState::open_names() {
            for versioned in self.jobs_in(state)? {
                if !self.models.contains_key(&*versioned.job.model) {
                    self.stop(&versioned, "the fleet file has no training settings for the model any more")?;
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, versioned: &VersionedJob, reason: &str) -> Result<()> {
        (self.step)("call off");
        let job = &versioned.job;
        let (by, reason) = (SYSTEM_ACTOR.to_owned(), reason.to_owned());
        if !matches!(job.state, JobState::Running { .. }) {
            return self.advance(versioned, JobStep::Cancel { cost: Money::ZERO, by, reason }).map(drop);
        }
        if job.stopping.is_none() {
            self.advance(versioned, JobStep::Stop { stopping: StopRequest { by, reason, overdue: false } })?;
        }
        Ok(())
    }

    /// Estimates the cost and value of jobs.
    fn estimate_costs(&mut self) -> Result<()> {
        if self.store.jobs_in("requested")?.is_empty() {
            return Ok(());
        }
        let models = self.models.clone();
        let estimates = self.read_to_start(|store| {
            let mut estimates = Vec::new();
            for versioned in store.jobs_in("requested")? {
                let Some((model, retrain)) = models.get(&*versioned.job.model) else { continue };
                estimates.push((versioned, estimate::estimate(store, model, retrain)?));
            }
            Ok(estimates)
        })?;
        for (versioned, (estimate, worth)) in estimates {
            if !self.is_trusted(&versioned.job)? {
                continue;
            }
            self.advance(&versioned, JobStep::Cost { estimate, worth })?;
        }
        Ok(())
    }

    /// Requests approval where it is needed.
    fn ask(&mut self) -> Result<()> {
        let rules = &self.fleet.governance.approval;
        for versioned in self.jobs_in("costed")? {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let Some(estimate) = &versioned.job.estimate else { continue };
            if !self.is_trusted(&versioned.job)? {
                continue;
            }
            let currency = &self.fleet.governance.budget.currency;
            let step = match approval::reasons(rules, currency, retrain, &versioned.job.trigger, estimate) {
                Ok(reason) => JobStep::Approve { grant: Grant::by_policy(reason, self.now) },
                Err(reasons) => JobStep::Ask { request: ApprovalRequest::new(rules, reasons, self.now) },
            };
            self.advance(&versioned, step)?;
        }
        Ok(())
    }

    /// Queues approved jobs; and queues jobs again that would wait for a time recorded by a clock that was ahead.
    fn enqueue(&mut self) -> Result<()> {
        for versioned in self.jobs_in("approved")? {
            self.advance(&versioned, JobStep::Queue)?;
        }
        let times = (self.now, self.store.clock()?);
        if times.0.duration_since(times.1).abs() > CLOCK_TOLERANCE {
            return Ok(());
        }
        let queued = self.jobs_in("queued")?;
        for versioned in queued.iter().filter(|versioned| approvers::is_ahead(versioned.job.since, times)) {
            if self.is_trusted(&versioned.job)? {
                self.advance(versioned, JobStep::Queue)?;
            }
        }
        Ok(())
    }

    /// Withdraws requests about budgets that would not be overrun any more: a new month has begun, another run cost
    /// less than was reserved for it, or the budget was raised.
    fn withdraw(&mut self, ledger: &Ledger) -> Result<()> {
        let mut asked = self.jobs_in("awaiting_approval")?;
        asked.retain(|v| matches!(&v.job.state, JobState::AwaitingApproval(request) if request.is_of_budgets()));
        if asked.is_empty() {
            return Ok(());
        }
        // Queued jobs use the same budgets.
        asked.extend(self.jobs_in("queued")?);
        queue::order(&mut asked, |versioned| &versioned.job);
        let mut ledger = ledger.clone();
        for versioned in asked {
            let job = &versioned.job;
            let Some((_, retrain)) = self.models.get(&*job.model).copied() else { continue };
            let amount = amount_to_commit(job, retrain);
            if !self.overruns(&ledger, job, retrain, amount).is_empty() {
                continue;
            }
            ledger.commit(&job.model, &retrain.team, amount);
            if matches!(job.state, JobState::AwaitingApproval(_)) {
                self.advance(&versioned, JobStep::Withdraw)?;
            }
        }
        Ok(())
    }

    /// The budgets that a job would overrun and that are not approved.
    fn overruns(&self, ledger: &Ledger, job: &Job, retrain: &RetrainConfig, amount: Money) -> Vec<Overrun> {
        let mut overruns = ledger.overruns(&self.fleet.governance.budget, &job.model, retrain, amount);
        overruns.retain(|overrun| !approval::allows(&job.grants, overrun));
        overruns
    }

    /// Escalates requests without an answer, and repeats those that nobody who was asked may answer any more.
    fn remind(&mut self) -> Result<()> {
        for versioned in self.jobs_in("awaiting_approval")? {
            let Some((_, retrain)) = self.models.get(&*versioned.job.model).copied() else { continue };
            let JobState::AwaitingApproval(request) = &versioned.job.state else { continue };
            let rules = &self.fleet.governance.approval;
            let asked = match decide::question_of(self.store, &versioned.job, request) {
                // The others are handled, and this one is reported when it would change.
                Err(Error::BadValue { what, reason }) => {
                    if self.now >= request.due {
                        self.tampered(vec![format!("{what}: {reason}")]);
                    }
                    continue;
                }
                asked => asked?,
            };
            let clock = self.store.clock()?;
            if let Some(step) = approvers::repeat_request(rules, request, &asked, (self.now, clock)) {
                if self.is_trusted(&versioned.job)? {
                    self.advance(&versioned, step)?;
                }
                continue;
            }
            if approval::is_expired(request, asked.times(), (self.now, Some(clock))).is_err() {
                continue;
            }
            if let Some(step) = approval::overdue(rules, retrain, &versioned.job, request, self.now) {
                let approved = matches!(step, JobStep::Approve { .. });
                // There was no answer: the data for the decision of the policy must be verified.
                if approved && !(self.is_trusted(&versioned.job)? && self.is_store_verified()?) {
                    continue;
                }
                let job = self.advance(&versioned, step)?;
                if let Some(job) = job.filter(|_| approved) {
                    self.advance(&job, JobStep::Queue)?;
                }
            }
        }
        Ok(())
    }

    /// Starts queued jobs in order.
    fn start(&mut self, ledger: &mut Ledger) -> Result<()> {
        let limits = &self.fleet.governance.concurrency;
        if self.store.jobs_in("queued")?.is_empty() {
            return Ok(());
        }
        let (models, now) = (self.models.clone(), self.now);
        let (under_way, mut queued) = self.read_to_start(|store| {
            let under_way = runs_under_way(store, now)?;
            let mut queued = Vec::new();
            for versioned in store.jobs_in("queued")? {
                let estimated = match models.get(&*versioned.job.model) {
                    Some((model, retrain)) => Some(estimate::estimate(store, model, retrain)?),
                    None => None,
                };
                queued.push((versioned, estimated));
            }
            Ok((under_way, queued))
        })?;
        let mut slots = Slots::default();
        under_way.iter().for_each(|run| slots.take(&run.retrain));
        queue::order(&mut queued, |(versioned, _)| &versioned.job);
        for (versioned, estimated) in queued {
            let job = &versioned.job;
            if self.now >= job.deadline {
                let reason = format!("it was still in the queue at its deadline, {}", job.deadline);
                self.advance(&versioned, JobStep::TimeOut { cost: Money::ZERO, reason })?;
                continue;
            }
            let JobState::Queued { not_before } = job.state else { continue };
            let (Some((model, retrain)), Some(estimated)) = (models.get(&*job.model).copied(), estimated) else {
                continue;
            };
            // Also reported for those that are not first in the queue.
            if !self.is_trusted(job)? || !self.may_start()? {
                continue;
            }
            if self.now < not_before || !slots.fits(limits, retrain) {
                continue;
            }
            let (rules, currency) = (&self.fleet.governance.approval, &self.fleet.governance.budget.currency);
            let name = &self.fleet.name;
            let basis = |(cost, worth): (CostEstimate, ValueEstimate)| {
                approval::is_still_allowed(rules, (name, currency), retrain, job, &(cost, worth))
            };
            match basis(estimated) {
                Ok(StartBasis::Granted) => {}
                Ok(StartBasis::Safe) => {
                    // By measures that are compared at the moment at which they are read.
                    let estimated = self.read_verified(|store| estimate::estimate(store, model, retrain))?;
                    if estimated.is_none_or(|estimated| !matches!(basis(estimated), Ok(StartBasis::Safe))) {
                        continue;
                    }
                }
                Err(StartRefusal::Ask(reasons)) => {
                    let request = ApprovalRequest::new(rules, reasons, self.now);
                    self.advance(&versioned, JobStep::Ask { request })?;
                    continue;
                }
                Err(StartRefusal::Signature(problem)) => {
                    let reason = format!(
                        "it is not started because its approval is not valid any more: {problem}; correct the fleet \
                         file, or cancel the job with `driftsweep jobs cancel`"
                    );
                    let (model, run) = (job.model.clone(), job.id.clone());
                    self.summary.failures.push(PassFailure { model, run, reason, permanent: false });
                    continue;
                }
            }
            let amount = amount_to_commit(job, retrain);
            let overruns = self.overruns(ledger, job, retrain, amount);
            if !overruns.is_empty() {
                let reasons = overruns.into_iter().map(approval::ApprovalReason::Overrun).collect();
                let request = ApprovalRequest::new(&self.fleet.governance.approval, reasons, self.now);
                self.advance(&versioned, JobStep::Ask { request })?;
                continue;
            }
            let stop_at = self.now.checked_add(retrain.timeout).unwrap_or(Timestamp::MAX);
            if self.advance(&versioned, JobStep::Start { stop_at })?.is_some() {
                slots.take(retrain);
                ledger.commit(&job.model, &retrain.team, amount);
            }
        }
        Ok(())
    }

    /// Warns of budgets that are nearly used up, once per month each.
    fn warn(&mut self, ledger: &Ledger) -> Result<()> {
        let month = ledger.month().strftime("%Y-%m").to_string();
        for status in budget_statuses(self.fleet, ledger, self.now).into_iter().filter(|status| status.warns) {
            (self.step)("warn");
            let (fleet, now) = (self.fleet, self.now);
            let (scope, currency) = (status.scope.to_string(), &fleet.governance.budget.currency);
            let body = json!({
                "budget": currency.show(status.budget),
                "taken": currency.show(status.spent + status.committed),
                "forecast": currency.show(status.forecast),
                "month": month,
            });
            let month = &month;
            self.store.transaction(|store| {
                if store.add_budget_warning(&scope, month)? {
                    let fact =
                        AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: "budget.warning", subject: &scope, body };
                    notify::record(fleet, store, fact)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn advance(&mut self, versioned: &VersionedJob, step: JobStep) -> Result<Option<VersionedJob>> {
        (self.step)(step.name());
        let (fleet, when) = (self.fleet, StepTime { now: self.now, clock: Some(self.context.clock) });
        match self.store.transaction(|store| advance(fleet, store, versioned, &step, when, SYSTEM_ACTOR))? {
            StepResult::Applied(after) => {
                self.summary.jobs.insert(after.job.id.clone(), after.job.state.name().into());
                Ok(Some(*after))
            }
            StepResult::Changed => Ok(None),
            StepResult::Refused(problem) => {
                self.tampered(vec![problem]);
                Ok(None)
            }
        }
    }
}

/// The amount reserved for a run of a job.
fn amount_to_commit(job: &Job, retrain: &RetrainConfig) -> Money {
    job.estimate.map_or(retrain.cost, |estimate| estimate.high)
}

/// A run as its executor sees it, with the body of its event.
fn run_of(
    fleet: &Fleet,
    context: &PassContext<'_>,
    (job, event): (&Job, Option<String>),
    noted: &RunRecord,
    now: Timestamp,
) -> TrainingRun {
    let stop_at = match job.state {
        JobState::Running { stop_at, .. } => stop_at,
        _ => job.deadline,
    };
    let late = time_past_timeout(stop_at, noted, now, context.clock);
    let folder = run_folder(context.state, &job.id, noted.attempt);
    TrainingRun {
        fleet: fleet.name.clone(),
        model: job.model.clone(),
        job: job.id.clone(),
        attempt: noted.attempt,
        trigger: job.trigger.clone(),
        event: event.unwrap_or_default(),
        folder: std::path::absolute(&folder).unwrap_or(folder),
        started_at: noted.started_at,
        stop_at,
        late,
        key: job.key.clone().unwrap_or_default(),
        seen: noted.seen,
        champion: None,
    }
}

/// How long ago the timeout of a run was reached; negative before. Both by the effective time of the pass and by
/// the real clock, whichever is less: a pass that replays another time must not stop a real training.
fn time_past_timeout(stop_at: Timestamp, noted: &RunRecord, now: Timestamp, clock: Timestamp) -> SignedDuration {
    let length = stop_at.duration_since(noted.started_at);
    run_duration(noted, now, clock).saturating_sub(length)
}

/// How long ago a run was started, computed in the same way. A start that was recorded while the clock was ahead is
/// ignored.
fn run_duration(noted: &RunRecord, now: Timestamp, clock: Timestamp) -> SignedDuration {
    let by_now = now.duration_since(noted.started_at);
    match noted.clock_at.map(|started| clock.duration_since(started)) {
        Some(by_clock) if approvers::is_ahead(noted.started_at, (now, clock)) => by_clock,
        Some(by_clock) => by_now.min(by_clock),
        None => by_now,
    }
}

/// The amounts spent and reserved this month.
///
/// # Errors
/// [`Error::Store`].
pub fn ledger(fleet: &Fleet, store: &mut Store, now: Timestamp) -> Result<Ledger> {
    let mut ledger = Ledger::new(now, &fleet.zone);
    let (from, to) = ledger.span(&fleet.zone);
    let looked_after = damaged::jobs_under_way(store)?;
    for run in store.runs_between(from, to)? {
        match run.ended {
            Some((_, _, cost)) => ledger.spend(&run.model, &run.retrain.team, cost),
            None if damaged::takes_a_slot(&run, &looked_after, now) => {
                ledger.commit(&run.model, &run.retrain.team, run.committed);
            }
            None => {}
        }
    }
    Ok(ledger)
}

/// The status of all budgets of a fleet.
pub fn budget_statuses(fleet: &Fleet, ledger: &Ledger, now: Timestamp) -> Vec<BudgetStatus> {
    let budget = &fleet.governance.budget;
    let teams = budget.teams.keys().map(|team| (BudgetScope::Team(team.clone()), None));
    let models = fleet
        .models
        .iter()
        .filter_map(|model| Some((BudgetScope::Model(model.name.clone()), Some(model.retrain.as_ref()?.budget?))));
    let scopes = std::iter::once((BudgetScope::Fleet, None)).chain(teams).chain(models);
    let statuses = scopes.filter_map(|(scope, of_model)| {
        let limit = budget::limit(budget, &scope, of_model)?;
        Some(ledger.status(budget, scope, limit, now, &fleet.zone))
    });
    statuses.collect()
}

/// The folder of a job's run.
pub fn run_folder(state: &Path, job: &str, attempt: u32) -> PathBuf {
    state.join("jobs").join(job).join(attempt.to_string())
}

/// The settings for reaching a run whose row matches the audit: those of the fleet file, unless they name another
/// training system than the one where it was started.
fn settings_of_run<'a>(declared: Option<&'a RetrainConfig>, noted: &'a RunRecord) -> &'a RetrainConfig {
    let kept = &noted.retrain;
    declared.filter(|declared| declared.executor.same_place(&kept.executor)).unwrap_or(kept)
}
