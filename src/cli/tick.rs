//! `driftsweep tick`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use driftsweep::error::{Error, Result};
use driftsweep::fleet::{Fleet, Options};
use driftsweep::http::Http;
use driftsweep::notify::{self, Delivered};
use driftsweep::scheduler::{self, Means, Passed, Trouble};
use driftsweep::sweep::{Plan, Run, SweepReport};
use driftsweep::tick::{self, Sweeper, Ticked};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::memory::StoreArgs;
use super::state::State;
use super::when::When;
use super::{Bar, EngineArgs, TextFormat};

#[derive(Args)]
pub struct TickArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// The time it is taken to be, for replaying the past: a time such as 2026-01-31T02:00:00Z; without a zone it is
    /// read in the fleet's `time_zone`, and a day alone is its beginning there [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<When>,
    /// Stop sweeping after this time, for example 45m; the next tick goes on from there (exit code 12)
    #[arg(long, value_name = "DURATION")]
    deadline: Option<SignedDuration>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
    /// Stay until no training is under way, at most so long, for example 6h: where what is left behind would be stopped
    #[arg(long, value_name = "DURATION")]
    wait: Option<SignedDuration>,
    /// Exit with 10 if an event was opened
    #[arg(long)]
    fail_on_event: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: &TickArgs) -> anyhow::Result<u8> {
    let started = Instant::now();
    let options = args.engine.start(super::names_objects(&args.fleet))?;
    let fleet = Fleet::read(&args.fleet, &options)?;
    let clock = Timestamp::now();
    let replayed = args.now.as_ref().map(|now| now.resolve("--now", &fleet.zone)).transpose()?;
    let now = replayed.unwrap_or(clock);
    if now.duration_since(clock) > SignedDuration::from_hours(24) {
        return Err(super::bad("--now", "lies in the future: nothing would be due until then"));
    }
    let mut store = args.store.open(&args.fleet, &fleet)?;
    let fleet = fleet.with_baselines(&store.set_baselines()?);
    let mut sweeper = Nightly { args, fleet: &fleet, started, state: None };
    let ticked = tick::tick(&fleet, &mut store, now, &mut sweeper, &mut |_| ());
    // A sweep takes its time: it is later now. Trainings do not wait for it, nor for what keeps it from being run.
    let passed = follow_up(args, &fleet, replayed.unwrap_or_else(Timestamp::now));
    let (ticked, passed) = (ticked?, passed?);
    match args.format {
        TextFormat::Json => super::write_json(&Output { ticked: &ticked, jobs: &passed })?,
        TextFormat::Table => super::write_text(&(summary(&ticked, &options) + &jobs_done(&passed)))?,
    }
    for Trouble { model, run, reason, lasting } in &passed.passed.troubles {
        let (model, reason) = (super::shown(model), super::shown(reason));
        let again = if *lasting { "" } else { "; the next tick tries again" };
        say!("driftsweep: model '{model}': run {run}: {reason}{again}");
    }
    if let Some(ahead) = ticked.ahead {
        say!(
            "driftsweep: the last sweep counts as {ahead}, later than now: no sweep is due until then; was the clock wrong?"
        );
    }
    let Some(sweep) = &ticked.sweep else { return Ok(code(args, &ticked, false)) };
    const SHOWN: usize = 20;
    for (model, failure) in sweep.failures.iter().take(SHOWN) {
        say!("driftsweep: model '{}': {failure}", model.escape_debug());
    }
    if sweep.failures.len() > SHOWN {
        say!("driftsweep: … and {} more", sweep.failures.len() - SHOWN);
    }
    if !sweep.complete && sweep.summary.not_covered == 0 {
        say!("driftsweep: nothing could be compared; the next tick tries again");
        return Ok(super::PARTIAL);
    }
    if !sweep.complete {
        say!(
            "driftsweep: the deadline came before {} comparisons; the next tick goes on with them until the next sweep is due",
            sweep.summary.not_covered
        );
        return Ok(super::sweep::NOT_COVERED);
    }
    Ok(code(args, &ticked, !sweep.failures.is_empty()))
}

/// What a tick did, as JSON.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    ticked: &'a Ticked,
    jobs: &'a FollowUp,
}

/// What became of jobs and messages.
#[derive(Default, Serialize)]
struct FollowUp {
    #[serde(flatten)]
    passed: Passed,
    messages: Delivered,
}

/// Messages hold a tick up no longer; what is left goes with the next.
const MESSAGES_WITHIN: Duration = Duration::from_secs(30);

/// How long is waited between looks at trainings.
const PAUSE: Duration = Duration::from_secs(5);

/// Takes jobs further, and sends what is to be told; with `--wait` until no training is under way.
fn follow_up(args: &TickArgs, fleet: &Fleet, now: Timestamp) -> Result<FollowUp> {
    // Nothing to do, and nothing to open.
    if fleet.channels.is_empty() && fleet.models.iter().all(|model| model.retrain.is_none()) {
        return Ok(FollowUp::default());
    }
    let started = Instant::now();
    // A connection of its own: the tick's has its lock to hold.
    let mut store = args.store.open(&args.fleet, fleet)?;
    let http = Http::new()?;
    let program = std::env::current_exe().map_err(|e| Error::Backend(format!("cannot find this program: {e}")))?;
    let state = args.store.folders.folder(&args.fleet).0;
    let mut done = FollowUp::default();
    let mut at = now;
    loop {
        let begun = Instant::now();
        let means = Means { http: &http, program: &program, state: &state, elapsed: &|| begun.elapsed() };
        let passed = match scheduler::pass(fleet, &mut store, at, &means, &mut |_| ()) {
            // Another process is at it.
            Err(Error::Occupied { .. }) => return Ok(done),
            other => other?,
        };
        for (state, times) in passed.steps {
            *done.passed.steps.entry(state).or_default() += times;
        }
        done.passed.troubles.retain(|trouble| trouble.lasting);
        done.passed.troubles.extend(passed.troubles);
        let begun = Instant::now();
        let enough = || begun.elapsed() > MESSAGES_WITHIN;
        let delivered = match store.alone("outbox", |store| notify::deliver(fleet, store, &http, at, &enough)) {
            // Another process is sending.
            Err(Error::Occupied { .. }) => Delivered::default(),
            other => other?,
        };
        done.messages.sent += delivered.sent;
        done.messages.put_off += delivered.put_off;
        done.messages.dead += delivered.dead;
        let most = args.wait.map_or(Duration::ZERO, SignedDuration::unsigned_abs);
        if started.elapsed() + PAUSE > most || store.jobs_in("running")?.is_empty() {
            return Ok(done);
        }
        std::thread::sleep(PAUSE);
        at = now + SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    }
}

fn jobs_done(done: &FollowUp) -> String {
    let steps: Vec<String> =
        done.passed.steps.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " "))).collect();
    let mut text = String::new();
    if !steps.is_empty() {
        text += &format!("jobs: {}\n", steps.join(", "));
    }
    let messages = done.messages;
    if messages != Delivered::default() {
        text +=
            &format!("messages: {} sent, {} put off, {} given up\n", messages.sent, messages.put_off, messages.dead);
    }
    text
}

fn code(args: &TickArgs, ticked: &Ticked, partial: bool) -> u8 {
    match (args.fail_on_event && !ticked.events.is_empty(), partial) {
        (true, _) => super::DRIFT,
        (false, true) => super::PARTIAL,
        (false, false) => 0,
    }
}

/// Runs the sweep of a tick, with its journal and history.
struct Nightly<'a> {
    args: &'a TickArgs,
    fleet: &'a Fleet,
    started: Instant,
    state: Option<State>,
}

impl Sweeper for Nightly<'_> {
    fn sweep(&mut self, as_of: Timestamp) -> Result<SweepReport> {
        let args = self.args;
        let state = State::at(&args.store.folders, &args.fleet, self.fleet, as_of)?;
        let fleet = self.fleet.at(as_of);
        let plan = Plan::new(&fleet, as_of);
        let chosen = args.engine.counter(|| plan.survey().workload).map_err(as_error)?;
        let bar = Bar::new();
        let deadline = args.deadline.map(SignedDuration::unsigned_abs);
        let time_is_up = || deadline.is_some_and(|deadline| self.started.elapsed() >= deadline);
        let run =
            Run { progress: &bar, time_is_up: &time_is_up, journal: state.journal(), ..Run::new(&*chosen.counter) };
        let mut report = run.sweep(&plan);
        state.name(&mut report, self.fleet);
        super::note(&mut report.engine, chosen);
        state.append(&report)?;
        self.state = Some(state);
        Ok(report)
    }

    fn done(&mut self) -> Result<()> {
        self.state.take().map_or(Ok(()), State::finish)
    }
}

/// The command line's errors are the library's.
fn as_error(error: anyhow::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|other| Error::Backend(format!("{other:#}")))
}

fn summary(ticked: &Ticked, options: &Options) -> String {
    let mut lines = Vec::new();
    match &ticked.sweep {
        Some(done) => lines.push(format!(
            "sweep of {}: {} models, {} features, {} drifted, {} failures, {} threads",
            done.as_of,
            done.summary.models,
            done.summary.features,
            done.summary.drifted,
            done.failures.len(),
            options.threads
        )),
        None => lines.push("no sweep is due".into()),
    }
    if let Some([(model, reason), more @ ..]) = ticked.sweep.as_ref().map(|done| &done.not_judged[..]) {
        let others = match more.len() {
            0 => String::new(),
            n => format!(" (and {n} more models; `driftsweep explain MODEL` says why)"),
        };
        lines.push(format!("performance is not judged for {}: {}{others}", model.escape_debug(), super::shown(reason)));
    }
    for firing in &ticked.firings {
        let event = firing.event.as_ref().map(|id| format!(" event {id}")).unwrap_or_default();
        let model = firing.model.escape_debug();
        lines.push(format!("{model}: {} {}{event}: {}", firing.trigger, firing.outcome, super::shown(&firing.reason)));
    }
    if let Some(next) = ticked.next_sweep {
        lines.push(format!("next sweep: {next}"));
    }
    if let Some((next, model)) = &ticked.next_schedule {
        lines.push(format!("next training by the calendar: {next}, {}", model.escape_debug()));
    }
    lines.join("\n") + "\n"
}
