//! Runs that are under way: started where they are not known yet, asked how far they are, stopped where they are to be.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{JobPass, PassContext, PassFailure, run_duration, run_of, settings_of_run};
use crate::error::Result;
use crate::executor::{self, Logins, RunOutcome, RunResult, RunStatus, TrainingRun};
use crate::fleet::{Money, RetrainConfig};
use crate::http::RequestFailure;
use crate::retrain::{BaselineRenewal, Job, JobState, JobStep, Ledger, StopRequest, queue};
use crate::store::{RunRecord, SYSTEM_ACTOR, VersionedJob};

/// Runs that are seen to at once.
const MAX_CONCURRENT_REQUESTS: usize = 16;

/// Places that do not answer hold a pass up no longer than this: it asks for no further run.
const REQUEST_TIME_LIMIT: Duration = Duration::from_secs(60);

/// After its time a run has so long to end by itself.
const GRACE: SignedDuration = SignedDuration::from_secs(120);

/// A run that cannot be started for so long makes way for others.
const START_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// A place may forget a run for a moment, while it is set up anew; for longer it is taken to have lost it.
const LOST_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// A run with what is known of it.
struct WatchedRun<'a> {
    job: VersionedJob,
    noted: RunRecord,
    /// How the fleet file says that the model is trained, if it still does.
    declared: Option<&'a RetrainConfig>,
    run: TrainingRun,
    /// Whether the store is what its audit says, so that it may be started.
    may_start: bool,
}

impl WatchedRun<'_> {
    fn retrain(&self) -> &RetrainConfig {
        settings_of_run(self.declared, &self.noted)
    }

    /// Whether the place that trains has not known it any more for a while.
    fn is_lost(&self, clock: Timestamp) -> bool {
        self.noted.lost_at.is_some_and(|since| clock.duration_since(since) >= LOST_TIMEOUT)
    }
}

impl JobPass<'_> {
    /// Sees how far runs are, starts those that are not known yet, and notes those that have ended.
    pub(super) fn watch(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.poll_matching(|_| true, ledger)
    }

    /// The same for runs that this pass has noted.
    pub(super) fn watch_new(&mut self, ledger: &mut Ledger) -> Result<()> {
        let now = self.now;
        self.poll_matching(|job| matches!(job.state, JobState::Running { started_at, .. } if started_at == now), ledger)
    }

    fn poll_matching(&mut self, which: impl Fn(&Job) -> bool, ledger: &mut Ledger) -> Result<()> {
        let running = self.store.jobs_in("running")?.into_iter().filter(|versioned| which(&versioned.job));
        let jobs: HashMap<_, _> = running.map(|versioned| (versioned.job.id.clone(), versioned)).collect();
        let mut runs = Vec::new();
        for noted in self.store.runs_under_way()? {
            let Some(job) = jobs.get(&noted.job).cloned() else { continue };
            let trusted = self.is_trusted(&job.job)?;
            // What becomes of a job that is not what its own records say, a person decides: `jobs cancel` closes it.
            if self.start_blockers()?.jobs.contains_key(&job.job.id) {
                continue;
            }
            // All else is stopped in time, and its end is noted. A run that is not known where it trains is started there,
            // which takes trust.
            let may_start = trusted && self.may_start()?;
            (self.step)("look after");
            let declared = self.models.get(&*noted.model).map(|(_, retrain)| *retrain);
            let run = run_of(self.fleet, self.store, self.context, &job.job, &noted, self.now)?;
            runs.push(WatchedRun { job, noted, declared, run, may_start });
        }
        // The order is random, so that it is not always the same runs for which there is no time.
        let now = self.now;
        runs.sort_by_cached_key(|watched| Sha256::digest(format!("{now} {}", watched.run.name())).to_vec());
        // Those whose time was found to be up are told to stop, which takes no other pass.
        let stopping = self.poll_runs(runs, ledger)?;
        self.poll_runs(stopping, ledger)?;
        Ok(())
    }

    /// Sees to runs, many at once: those that are to be seen to again, because they are to be stopped from now on.
    fn poll_runs<'a>(&mut self, runs: Vec<WatchedRun<'a>>, ledger: &mut Ledger) -> Result<Vec<WatchedRun<'a>>> {
        let (context, begun, next, now) = (self.context, (self.context.elapsed)(), AtomicUsize::new(0), self.now);
        // A value of its own, so that the workers do not hold on to the pass.
        let logins = std::mem::take(&mut self.logins);
        let logins_here = &logins;
        let (tx, rx) = channel();
        let work = |tx: std::sync::mpsc::Sender<(usize, std::result::Result<RunStatus, RequestFailure>)>| {
            while (context.elapsed)() - begun < REQUEST_TIME_LIMIT {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(watched) = runs.get(at) else { return };
                let driven = catch_unwind(AssertUnwindSafe(|| drive(watched, context, logins_here, now)));
                let progress = driven.unwrap_or_else(|_| Err(RequestFailure::transient("this program failed on it")));
                // Whoever listens is gone if the store is: then nothing more is to be started.
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
            let reason = "it was not asked: places before it took too long to answer";
            self.note_failure(&watched.run, reason.into(), false);
        }
        let stopping = runs.into_iter().enumerate();
        Ok(stopping.filter_map(|(at, watched)| Some(WatchedRun { job: again.remove(&at)?, ..watched })).collect())
    }

    fn note_failure(&mut self, run: &TrainingRun, reason: String, permanent: bool) {
        let failure = PassFailure { model: run.model.clone(), run: run.name(), reason, permanent };
        // A run that is seen to twice is told of once.
        if !self.summary.failures.contains(&failure) {
            self.summary.failures.push(failure);
        }
    }

    /// Notes that a place does not know a run any more. It may be under way all the same: it is not started again.
    fn mark_lost(&mut self, watched: &WatchedRun<'_>, clock: Timestamp) -> Result<()> {
        let since = watched.noted.lost_at.unwrap_or(clock);
        if watched.noted.lost_at.is_none() {
            self.store.set_run_lost(&watched.noted.job, watched.noted.attempt, clock)?;
        }
        let until = since.checked_add(LOST_TIMEOUT).unwrap_or(Timestamp::MAX);
        let reason = format!("it is no longer known there; if that is still so at {until}, this attempt has failed");
        self.note_failure(&watched.run, reason, false);
        Ok(())
    }

    /// Draws the consequences of how far a run is: its job, where that was noted to be stopped just now.
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
                RunResult::new(RunOutcome::Failed, "it is no longer known there; was it deleted?")
            }
            // It was not there, and is not asked for any more.
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
                    // Noted before anybody is told: if this program is killed in between, the next pass tells them.
                    return self
                        .advance(versioned, JobStep::Stop { stopping: StopRequest { by, reason, overdue: true } });
                }
                // Those who train have a while to stop and say what it cost; after that nobody waits for their word.
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
            // Nobody knows when it ended: not later than it would have been stopped.
            (None, _) => run_cost(watched.retrain(), ended.took.unwrap_or(lasted.min(within + GRACE))),
        };
        let step = match (ended.outcome, &job.stopping) {
            // What a job in doubt has made is not used.
            (RunOutcome::Succeeded, _) if !watched.may_start => {
                let warning = Some("its new baseline is not used: the store is not what its audit says".into());
                JobStep::Succeed { cost, baseline: BaselineRenewal::Kept { warning }, place: None }
            }
            (RunOutcome::Succeeded, _) => {
                let (baseline, place) = self.renew(run, &noted.retrain, ended.baseline)?;
                JobStep::Succeed { cost, baseline, place }
            }
            (_, Some(stopping)) if stopping.overdue => JobStep::TimeOut { cost, reason: stopping.reason.clone() },
            (_, Some(StopRequest { by, reason, .. })) => {
                JobStep::Cancel { cost, by: by.clone(), reason: reason.clone() }
            }
            (RunOutcome::TimedOut, None) => JobStep::TimeOut { cost, reason: ended.reason },
            (RunOutcome::Cancelled, None) => {
                JobStep::Cancel { cost, by: "executor".into(), reason: "it was stopped there".into() }
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

/// Stops a run that is to be stopped, or starts one that is not known yet; how far it is. A lasting failure is one of a
/// start: what went wrong in asking says nothing of the run.
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
            Err(RequestFailure::transient("it is not started: the store is not what its audit says"))
        }
        RunStatus::NotStarted if !stopping && in_time && run.late < SignedDuration::ZERO => {
            executor.start(run, clock).map(|()| RunStatus::Running)
        }
        RunStatus::Lost if watched.is_lost(clock) => {
            // Should it be under way after all, another attempt must not run beside it. It cannot be known whether it is.
            let _ = executor.cancel(run, clock);
            Ok(RunStatus::Lost)
        }
        progress => Ok(progress),
    }
}

/// What a run costs that takes so long.
fn run_cost(retrain: &RetrainConfig, took: SignedDuration) -> Money {
    retrain.rate.times(took.as_secs_f64().max(0.0) / 3600.0) + retrain.storage
}
