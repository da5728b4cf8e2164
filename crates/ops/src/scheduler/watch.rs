//! Running runs: they are started if they are not known yet, polled, and stopped if required.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::renew::RunPlace;
use super::{JobPass, PassContext, PassFailure, run_duration, run_of, settings_of_run, versions};
use crate::executor;
use crate::retrain::{BaselineRenewal, Job, JobState, JobStep, Ledger, StopRequest, queue};
use crate::store::{RunRecord, SYSTEM_ACTOR, Store, VersionedJob};
use driftsweep_common::address::redacted;
use driftsweep_common::error::Result;
use driftsweep_extensions::executor::{Logins, RunOutcome, RunResult, RunStatus, TrainingRun};
use driftsweep_extensions::http::RequestFailure;
use driftsweep_fleet::{Money, RetrainConfig};

/// Most runs that are polled at the same time.
const MAX_CONCURRENT_REQUESTS: usize = 16;

/// The longest delay of a pass by training systems that do not answer: after it no further run is polled.
const REQUEST_TIME_LIMIT: Duration = Duration::from_secs(60);

/// The time that a run has to end by itself after its timeout.
const GRACE: SignedDuration = SignedDuration::from_secs(120);

/// A run that cannot be started within this time fails.
const START_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// A training system may not know a run for a short time, for example during a restart; after this time the run counts
/// as lost.
const LOST_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// A run that is monitored.
struct WatchedRun<'a> {
    job: VersionedJob,
    noted: RunRecord,
    /// The training settings of the model in the fleet file, if it still has them.
    declared: Option<&'a RetrainConfig>,
    run: TrainingRun,
    /// Whether the store matches its audit, so that it may be started.
    may_start: bool,
}

impl WatchedRun<'_> {
    /// Whether the fleet file still says how to start it: the row of a run alone starts nothing.
    fn is_declared(&self) -> bool {
        self.declared.is_some_and(|declared| declared.executor.same_place(&self.noted.retrain.executor))
    }

    fn retrain(&self) -> &RetrainConfig {
        settings_of_run(self.declared, &self.noted)
    }

    /// Whether the training system has not known it for too long.
    fn is_lost(&self, clock: Timestamp) -> bool {
        self.noted.lost_at.is_some_and(|since| clock.duration_since(since) >= LOST_TIMEOUT)
    }
}

impl JobPass<'_> {
    /// Polls runs, starts those that are not known yet, and records those that have ended.
    pub(super) fn watch(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.poll_matching(|_| true, ledger)
    }

    /// The same for runs that this pass has recorded.
    pub(super) fn watch_new(&mut self, ledger: &mut Ledger) -> Result<()> {
        let now = self.now;
        self.poll_matching(|job| matches!(job.state, JobState::Running { started_at, .. } if started_at == now), ledger)
    }

    fn poll_matching(&mut self, which: impl Fn(&Job) -> bool, ledger: &mut Ledger) -> Result<()> {
        let read = |store: &mut Store| {
            let running = store.jobs_in("running")?.into_iter().filter(|versioned| which(&versioned.job));
            let jobs: HashMap<_, _> = running.map(|versioned| (versioned.job.id.clone(), versioned)).collect();
            let mut runs = Vec::new();
            for noted in store.runs_under_way()? {
                let Some(job) = jobs.get(&noted.job).cloned() else { continue };
                let event = store.event_body(&noted.job)?;
                // A training compares its candidate with the champion: it must be that of the audit. One that is known to run was
                // told it already.
                let problem = if noted.seen { None } else { store.versions_problem(&noted.model)? };
                let champion = match problem {
                    None if noted.seen => Ok(None),
                    None => Ok(store.champion(&noted.model)?.map(|version| version.as_champion())),
                    Some(problem) => Err(problem),
                };
                runs.push((job, noted, event, champion));
            }
            Ok(runs)
        };
        // A run is reached by its row, and started with its event: both are compared at the moment of reading.
        let confirmed = self.confirmed(read, |store, (versioned, noted, event, _)| {
            if let Some(problem) = store.check_job(versioned)?.problem(&versioned.job) {
                return Ok(Some(problem));
            }
            match store.run_problem(noted)? {
                None => store.event_problem(&noted.job, event.as_deref()),
                problem => Ok(problem),
            }
        })?;
        let mut runs = Vec::new();
        for (job, noted, event, champion) in confirmed {
            let trusted = self.is_trusted(&job.job)?;
            // A job that does not match its own records is left to a person: `jobs cancel` closes it.
            if self.start_blockers()?.jobs.contains_key(&job.job.id) {
                continue;
            }
            // All other runs are stopped in time, and their end is recorded. A run that the training system does not
            // know is started, which requires verification.
            let may_start = trusted && champion.is_ok() && self.may_start()?;
            let champion = champion.unwrap_or_else(|problem| {
                self.tampered(vec![problem]);
                None
            });
            (self.step)("look after");
            let declared = self.models.get(&*noted.model).map(|(_, retrain)| *retrain);
            let run = run_of(self.fleet, self.context, (&job.job, event), &noted, self.now);
            let run = TrainingRun { champion, ..run };
            runs.push(WatchedRun { job, noted, declared, run, may_start });
        }
        // The order is random, so that not always the same runs are skipped for lack of time.
        let now = self.now;
        runs.sort_by_cached_key(|watched| Sha256::digest(format!("{now} {}", watched.run.name())).to_vec());
        // Runs whose timeout was just reached are stopped in the same pass.
        let stopping = self.poll_runs(runs, ledger)?;
        self.poll_runs(stopping, ledger)?;
        Ok(())
    }

    /// Polls runs in parallel; returns those that must be polled again because they are to be stopped now.
    fn poll_runs<'a>(&mut self, runs: Vec<WatchedRun<'a>>, ledger: &mut Ledger) -> Result<Vec<WatchedRun<'a>>> {
        let (context, begun, next, now) = (self.context, (self.context.elapsed)(), AtomicUsize::new(0), self.now);
        // A separate value, so that the workers do not borrow the pass.
        let logins = std::mem::take(&mut self.logins);
        let logins_here = &logins;
        let (tx, rx) = channel();
        let work = |tx: std::sync::mpsc::Sender<(usize, std::result::Result<RunStatus, RequestFailure>)>| {
            while (context.elapsed)() - begun < REQUEST_TIME_LIMIT {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(watched) = runs.get(at) else { return };
                let driven = catch_unwind(AssertUnwindSafe(|| drive(watched, context, logins_here, now)));
                let progress = driven.unwrap_or_else(|_| Err(RequestFailure::transient("this program failed on it")));
                // The receiver is closed if the store failed: then nothing more must be started.
                if tx.send((at, progress)).is_err() {
                    return;
                }
            }
        };
        let polled = std::thread::scope(|scope| {
            for _ in 0..runs.len().min(MAX_CONCURRENT_REQUESTS) {
                let (tx, work) = (tx.clone(), &work);
                scope.spawn(move || work(tx));
            }
            drop(tx);
            let (mut polled, mut again) = (0, HashMap::new());
            for (at, progress) in rx {
                if let Some(stopping) = self.conclude(&runs[at], progress, ledger)? {
                    again.insert(at, stopping);
                }
                polled += 1;
            }
            Ok((polled, again))
        });
        self.logins = logins;
        let (polled, mut again) = polled?;
        for watched in runs.iter().skip(polled) {
            let reason = "it was not polled: the time was used up by training systems that did not answer";
            self.note_failure(&watched.run, reason.into(), false);
        }
        let stopping = runs.into_iter().enumerate();
        Ok(stopping.filter_map(|(at, watched)| Some(WatchedRun { job: again.remove(&at)?, ..watched })).collect())
    }

    fn note_failure(&mut self, run: &TrainingRun, reason: String, permanent: bool) {
        let failure = PassFailure { model: run.model.clone(), run: run.name(), reason, permanent };
        // A run that is polled twice is reported once.
        if !self.summary.failures.contains(&failure) {
            self.summary.failures.push(failure);
        }
    }

    /// Records that the training system does not know a run any more. It may still be running: it is not started again.
    fn mark_lost(&mut self, watched: &WatchedRun<'_>, clock: Timestamp) -> Result<()> {
        let since = watched.noted.lost_at.unwrap_or(clock);
        if watched.noted.lost_at.is_none() {
            self.store.set_run_lost(&watched.noted.job, watched.noted.attempt, clock)?;
        }
        let until = since.checked_add(LOST_TIMEOUT).unwrap_or(Timestamp::MAX);
        let reason = format!(
            "the training system no longer knows it; if this does not change until {until}, the \
                              attempt fails"
        );
        self.note_failure(&watched.run, reason, false);
        Ok(())
    }

    /// Applies the status of a run; returns its job, if a stop was just recorded for it.
    fn conclude(
        &mut self,
        watched: &WatchedRun<'_>,
        progress: std::result::Result<RunStatus, RequestFailure>,
        ledger: &mut Ledger,
    ) -> Result<Option<VersionedJob>> {
        let WatchedRun { job: versioned, noted, declared, run, .. } = watched;
        let job = &versioned.job;
        let news = !noted.seen || noted.lost_at.is_some();
        if matches!(progress, Ok(RunStatus::Running | RunStatus::Ended(_))) && news {
            self.store.set_run_known(&job.id, noted.attempt)?;
        }
        let clock = self.context.clock;
        let mut never_ran = false;
        let ended = match progress {
            Ok(RunStatus::Ended(ended)) => ended,
            Ok(RunStatus::Lost) if job.stopping.is_some() || watched.is_lost(clock) => {
                RunResult::new(RunOutcome::Failed, "the training system no longer knows it; was it deleted?")
            }
            // It was not found there, and is not polled any more.
            Ok(RunStatus::NotStarted) => {
                never_ran = !noted.seen;
                RunResult::new(RunOutcome::Failed, "it could not be started in time")
            }
            Err(failure) if failure.permanent => {
                never_ran = true;
                RunResult::new(RunOutcome::Failed, failure.reason)
            }
            other => {
                match other {
                    Err(failure) => self.note_failure(run, failure.reason, false),
                    Ok(RunStatus::Lost) => self.mark_lost(watched, clock)?,
                    Ok(_) => {}
                }
                if run.late >= SignedDuration::ZERO && job.stopping.is_none() {
                    let (by, reason) = (SYSTEM_ACTOR.into(), "it took longer than its timeout".into());
                    // Recorded before the stop is sent: if this program is killed in between, the next pass sends it.
                    return self
                        .advance(versioned, JobStep::Stop { stopping: StopRequest { by, reason, overdue: true } });
                }
                // The training system has some time to stop and to report the cost; after that it is not waited for.
                if run.late < GRACE {
                    return Ok(None);
                }
                RunResult::new(RunOutcome::TimedOut, "it took longer than its timeout")
            }
        };
        let about_answer = ended.about_answer.clone();
        let lasted = run_duration(noted, self.now, clock);
        let within = run.stop_at.duration_since(run.started_at);
        let cost = match (ended.cost, ended.outcome) {
            (Some(cost), _) => cost,
            (None, _) if never_ran => Money::ZERO,
            // Its end is unknown: not later than its timeout.
            (None, _) => run_cost(watched.retrain(), ended.took.unwrap_or(lasted.min(within + GRACE))),
        };
        let folder = noted.retrain.executor.settings().answer_folder().unwrap_or(&self.fleet.folder);
        let trained = ended.model.map(|model| Box::new(versions::with_complete_source(*model, folder)));
        let step = match (ended.outcome, &job.stopping) {
            // Results of a job in doubt are not used.
            (RunOutcome::Succeeded, _) if !watched.may_start && self.rules(&job.model).is_none() => {
                let warning =
                    Some("its new baseline and its model are not used: the store does not match its audit".into());
                JobStep::Succeed {
                    cost,
                    baseline: BaselineRenewal::Kept { warning },
                    report: None,
                    trained: None,
                    place: None,
                }
            }
            (RunOutcome::Succeeded, _) if self.rules(&job.model).is_some() => {
                // An address with a secret is not kept in the store until the gates are judged.
                let baseline = ended.baseline.clone().filter(|named| redacted(named) == *named);
                if baseline != ended.baseline {
                    let reason = "its new baseline is not used: the address holds a secret, which is not kept until the gates \
                                  are judged; name it without";
                    self.note_failure(run, reason.into(), true);
                }
                JobStep::Gate { cost, validation: ended.validation.map(|files| *files), baseline, trained }
            }
            (RunOutcome::Succeeded, _) => {
                let (baseline, place) = self.renew(run_place(run), &noted.retrain, ended.baseline)?;
                JobStep::Succeed { cost, baseline, report: None, trained, place }
            }
            (_, Some(stopping)) if stopping.overdue => JobStep::TimeOut { cost, reason: stopping.reason.clone() },
            (_, Some(StopRequest { by, reason, .. })) => {
                JobStep::Cancel { cost, by: by.clone(), reason: reason.clone() }
            }
            (RunOutcome::TimedOut, None) => JobStep::TimeOut { cost, reason: ended.reason },
            (RunOutcome::Cancelled, None) => {
                JobStep::Cancel { cost, by: "executor".into(), reason: "it was stopped by the training system".into() }
            }
            (RunOutcome::Failed, None) => {
                let retry = declared.filter(|declared| watched.may_start && job.attempts <= declared.retries);
                let not_before =
                    retry.map(|declared| queue::retry_at(&job.id, job.attempts, declared.backoff, self.now));
                match not_before.filter(|not_before| *not_before < job.deadline) {
                    Some(not_before) => JobStep::Retry { cost, reason: ended.reason, not_before },
                    None => JobStep::Fail { cost, reason: ended.reason },
                }
            }
        };
        let refused = match &step {
            JobStep::Succeed { baseline: baseline @ BaselineRenewal::Refused { .. }, .. } => baseline.sentence(),
            _ => None,
        };
        let versioned =
            VersionedJob { job: Job { about_answer: about_answer.clone(), ..job.clone() }, version: versioned.version };
        if self.advance(&versioned, step)?.is_some() {
            if let Some(reason) = refused {
                self.note_failure(run, reason, true);
            }
            if let Some(reason) = about_answer {
                self.note_failure(run, reason, true);
            }
            let (from, to) = ledger.span(&self.fleet.zone);
            if (from..to).contains(&noted.started_at) {
                ledger.settle(&job.model, &noted.retrain.team, noted.committed, cost);
            }
        }
        Ok(None)
    }
}

/// The run of which a baseline is the result.
fn run_place(run: &TrainingRun) -> RunPlace<'_> {
    RunPlace { model: &run.model, job: &run.job, attempt: run.attempt }
}

/// Stops a run that must be stopped, or starts one that is not known yet; returns its status. Only failures of starting
/// are permanent: a failure of polling says nothing about the run.
fn drive(
    watched: &WatchedRun<'_>,
    context: &PassContext<'_>,
    logins: &Logins,
    now: Timestamp,
) -> std::result::Result<RunStatus, RequestFailure> {
    let (WatchedRun { run, noted, .. }, clock) = (watched, context.clock);
    let executor = executor::of(watched.retrain(), context.http, context.program, logins);
    let transient = |failure: RequestFailure| RequestFailure::transient(failure.reason);
    let stopping = watched.job.job.stopping.is_some();
    if stopping {
        executor.cancel(run, clock).map_err(transient)?;
    }
    let in_time = run.seen || run_duration(noted, now, clock) < START_TIMEOUT;
    match executor.poll(run, clock).map_err(transient)? {
        RunStatus::NotStarted if !stopping && !watched.may_start => {
            Err(RequestFailure::transient("it is not started: the store does not match its audit"))
        }
        RunStatus::NotStarted if !stopping && in_time && !watched.is_declared() => Err(RequestFailure::transient(
            "it is not started: the fleet file does not name the training system any more that it was to be started in",
        )),
        RunStatus::NotStarted if !stopping && in_time && run.late < SignedDuration::ZERO => {
            executor.start(run, clock).map(|()| RunStatus::Running)
        }
        RunStatus::Lost if watched.is_lost(clock) => {
            // If it is still running, another attempt must not run at the same time. This cannot be known.
            let _ = executor.cancel(run, clock);
            Ok(RunStatus::Lost)
        }
        progress => Ok(progress),
    }
}

/// The cost of a run with a duration.
fn run_cost(retrain: &RetrainConfig, took: SignedDuration) -> Money {
    retrain.rate.times(took.as_secs_f64().max(0.0) / 3600.0) + retrain.storage
}
