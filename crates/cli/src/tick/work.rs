//! What a tick does beside the sweep: jobs, rollouts and messages.

use std::time::{Duration, Instant};

use driftsweep_common::duration::Length;
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Model};
use driftsweep_ops::notify::{self, DeliverySummary};
use driftsweep_ops::rollouts::{self, RolloutContext, RolloutFailure, RolloutSummary};
use driftsweep_ops::scheduler::{self, PassContext, PassFailure, PassSummary};
use driftsweep_ops::store::{Access, Store, UnreadableRow};
use driftsweep_report::output::Page;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::audit::STORE_REMEDY;
use super::super::fleet_store::warn_of_rows;
use super::{MAX_LISTED, TickArgs};

/// The results for jobs and messages.
#[derive(Default, Serialize)]
pub struct JobsAndMessages {
    #[serde(flatten)]
    pub pass_summary: PassSummary,
    #[serde(skip_serializing_if = "RolloutSummary::is_quiet")]
    pub rollouts: RolloutSummary,
    pub messages: DeliverySummary,
    /// Why jobs were not processed: another process holds the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "occupied")]
    pub locked: Option<String>,
}

/// Sending messages delays a tick no longer than this; the rest is sent by the next tick.
const MESSAGES_TIME_LIMIT: Duration = Duration::from_secs(30);

/// The delay between two checks of trainings.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Processes jobs and sends messages; with `--wait` until no training is running. `releases` says whether the store has any under way.
pub fn run_jobs_and_messages(
    args: &TickArgs,
    fleet: &Fleet,
    now: Timestamp,
    releases: bool,
) -> Result<JobsAndMessages> {
    // Nothing to do.
    let is_idle = |model: &Model| model.retrain.is_none() && model.rollout.is_none();
    if fleet.channels.is_empty() && fleet.models.iter().all(is_idle) && !releases {
        return Ok(JobsAndMessages::default());
    }
    let started = Instant::now();
    // A separate connection: the tick's own one holds its lock.
    let mut store = args.store.open(&args.fleet, fleet, Access::Create)?;
    let http = Http::new()?;
    let program = std::env::current_exe().map_err(|e| Error::Backend(format!("cannot find this program: {e}")))?;
    let state = args.store.folders.folder(&args.fleet).0;
    let mut done = JobsAndMessages::default();
    let mut at = now;
    let mut under_way = false;
    let most = args.wait.map_or(Duration::ZERO, Length::unsigned);
    loop {
        let begun = Instant::now();
        let clock = Timestamp::now();
        let context =
            PassContext { http: &http, program: &program, state: &state, clock, elapsed: &|| begun.elapsed() };
        let pass_result = run_pass(fleet, &mut store, at, &context, &mut done);
        let stays = started.elapsed() + POLL_INTERVAL <= most;
        match pass_result {
            Ok(still) if still && stays => under_way = true,
            Ok(_) => return Ok(done),
            // Another process handles the jobs. Trainings that this one has started would be stopped if it ended.
            Err(Error::Locked { .. }) if stays => {}
            Err(error @ Error::Locked { .. }) => {
                done.locked = Some(error.to_string());
                return Ok(done);
            }
            // The same applies while the store cannot be reached; it may come back.
            Err(Error::Store { .. }) if stays && under_way => {
                if let Ok(again) = args.store.open(&args.fleet, fleet, Access::Create) {
                    store = again;
                }
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(POLL_INTERVAL);
        at = now + SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    }
}

impl JobsAndMessages {
    /// Adds rows that cannot be read, each once.
    pub fn add_unreadable(&mut self, mut rows: Vec<UnreadableRow>) {
        rows.retain(|row| !self.pass_summary.unreadable.contains(row));
        self.pass_summary.unreadable.extend(rows);
    }

    /// Rows that are not what the audit says.
    pub fn tampered(&self) -> impl Iterator<Item = &String> {
        let of_jobs = &self.pass_summary.tampered;
        of_jobs.iter().chain(self.rollouts.tampered.iter().filter(|problem| !of_jobs.contains(problem)))
    }

    /// Whether anything happened to jobs or messages that should be reported.
    pub fn has_news(&self) -> bool {
        let PassSummary { jobs, failures, unreadable, tampered } = &self.pass_summary;
        let messages = self.messages.put_off + self.messages.dead;
        let quiet = self.rollouts.is_quiet()
            && jobs.is_empty()
            && failures.is_empty()
            && unreadable.is_empty()
            && tampered.is_empty();
        !quiet || messages > 0
    }
}

/// Processes jobs and sends messages once; returns whether trainings are running.
fn run_pass(
    fleet: &Fleet,
    store: &mut Store,
    at: Timestamp,
    context: &PassContext<'_>,
    done: &mut JobsAndMessages,
) -> Result<bool> {
    done.pass_summary.then(scheduler::pass(fleet, store, at, context, &mut |_| ())?);
    // Training takes time: it is later now.
    let passed = || SignedDuration::try_from((context.elapsed)()).unwrap_or_default();
    let now = || at.checked_add(passed()).unwrap_or(at);
    let of_rollouts = RolloutContext { http: context.http, state: context.state, now: &now };
    match rollouts::pass(fleet, store, &of_rollouts, &mut |_| ()) {
        // Another process takes them further.
        Err(Error::Locked { .. }) => {}
        other => done.rollouts.then(other?),
    }
    let begun = Instant::now();
    let enough = || begun.elapsed() > MESSAGES_TIME_LIMIT;
    // Also what the pass has just recorded.
    let delivered = match store.with_lock("outbox", |store| notify::deliver(fleet, store, context.http, now(), &enough))
    {
        // Another process is sending.
        Err(Error::Locked { .. }) => DeliverySummary::default(),
        other => other?,
    };
    done.messages.sent += delivered.sent;
    done.messages.put_off += delivered.put_off;
    done.messages.dead += delivered.dead;
    let under_way = !store.jobs_in("running")?.is_empty();
    done.add_unreadable(store.unreadable());
    Ok(under_way)
}

pub fn jobs_done(page: &mut Page, done: &JobsAndMessages) {
    let states = done.pass_summary.states();
    let states: Vec<String> = states.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " "))).collect();
    if !states.is_empty() {
        page.line(format_args!("jobs: {}", states.join(", ")));
    }
    for (model, state) in &done.rollouts.states {
        page.line(format_args!("rollout of {model}: {state}"));
    }
    let messages = done.messages;
    if messages != DeliverySummary::default() {
        let DeliverySummary { sent, put_off, dead } = messages;
        page.line(format_args!("messages: {sent} sent, {put_off} postponed, {dead} abandoned"));
    }
}

/// Warns of failures of jobs and messages.
pub fn warn_of_failures(done: &JobsAndMessages) {
    for PassFailure { model, run, reason, permanent } in &done.pass_summary.failures {
        let again = if *permanent { "" } else { "; the next tick tries again" };
        warn!("model '{model}': run {run}: {reason}{again}");
    }
    for RolloutFailure { model, reason } in &done.rollouts.failures {
        warn!("model '{model}': rollout: {reason}");
    }
    warn_of_rows(&done.pass_summary.unreadable);
    for problem in done.tampered().take(MAX_LISTED) {
        error!("store: {problem}");
    }
    if done.tampered().next().is_some() {
        error!(
            "store: it does not match its audit, and affected jobs and releases are not taken further; `driftsweep audit verify` names \
             every record and row; {STORE_REMEDY}"
        );
    }
    if let Some(reason) = &done.locked {
        warn!("jobs are not processed: {reason}");
    }
}
