//! `driftsweep tick`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use driftsweep::error::{Error, Result};
use driftsweep::fleet::{Fleet, Options};
use driftsweep::http::Http;
use driftsweep::notify::{self, Delivered};
use driftsweep::scheduler::{self, Means, Passed, Trouble};
use driftsweep::store::{Store, Unreadable};
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
    let mut sweeper = Nightly { args, fleet: &fleet, started, state: None };
    let ticked = tick::tick(&fleet, &mut store, now, &mut sweeper, &mut |_| ());
    // Its state is locked: other ticks may sweep while this one waits for trainings.
    drop(sweeper);
    // A sweep takes its time: it is later now. Trainings do not wait for it, nor for what keeps it from being run.
    let passed = follow_up(args, &fleet, replayed.unwrap_or_else(Timestamp::now));
    if let Ok(passed) = &passed {
        say_troubles(passed);
    }
    let (ticked, passed) = (ticked?, passed?);
    match args.format {
        TextFormat::Json => super::write_json(&Output { ticked: &ticked, jobs: &passed })?,
        TextFormat::Table => super::write_text(&(summary(&ticked, &options) + &jobs_done(&passed)))?,
    }
    let damaged = !passed.passed.unreadable.is_empty();
    if let Some(ahead) = ticked.ahead {
        say!(
            "driftsweep: the last sweep counts as {ahead}, later than now: no sweep is due until then; was the clock wrong?"
        );
    }
    let Some(sweep) = &ticked.sweep else { return Ok(code(args, &ticked, damaged)) };
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
    Ok(code(args, &ticked, damaged || !sweep.failures.is_empty()))
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
    /// Why jobs were not looked after, if another process was at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    occupied: Option<String>,
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
    let mut under_way = false;
    let most = args.wait.map_or(Duration::ZERO, SignedDuration::unsigned_abs);
    loop {
        let begun = Instant::now();
        let clock = Timestamp::now();
        let means = Means { http: &http, program: &program, state: &state, clock, elapsed: &|| begun.elapsed() };
        let looked = look(fleet, &mut store, at, &means, &mut done);
        let stays = started.elapsed() + PAUSE <= most;
        match looked {
            Ok(still) if still && stays => under_way = true,
            Ok(_) => return Ok(done),
            // Another process is at it. What this one has started would be stopped if it left.
            Err(Error::Occupied { .. }) if stays => {}
            Err(error @ Error::Occupied { .. }) => {
                done.occupied = Some(error.to_string());
                return Ok(done);
            }
            // The same holds while the store is out of reach; it may come back.
            Err(Error::Store { .. }) if stays && under_way => {
                if let Ok(again) = args.store.open(&args.fleet, fleet) {
                    store = again;
                }
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(PAUSE);
        at = now + SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    }
}

/// Takes jobs further, and sends what is to be told, once: whether trainings are under way.
fn look(fleet: &Fleet, store: &mut Store, at: Timestamp, means: &Means<'_>, done: &mut FollowUp) -> Result<bool> {
    done.passed.then(scheduler::pass(fleet, store, at, means, &mut |_| ())?);
    let begun = Instant::now();
    let enough = || begun.elapsed() > MESSAGES_WITHIN;
    let delivered = match store.alone("outbox", |store| notify::deliver(fleet, store, means.http, at, &enough)) {
        // Another process is sending.
        Err(Error::Occupied { .. }) => Delivered::default(),
        other => other?,
    };
    done.messages.sent += delivered.sent;
    done.messages.put_off += delivered.put_off;
    done.messages.dead += delivered.dead;
    let under_way = !store.jobs_in("running")?.is_empty();
    let damaged =
        store.unreadable().into_iter().filter(|row| !done.passed.unreadable.contains(row)).collect::<Vec<_>>();
    done.passed.unreadable.extend(damaged);
    Ok(under_way)
}

fn jobs_done(done: &FollowUp) -> String {
    let states = done.passed.states();
    let states: Vec<String> = states.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " "))).collect();
    let mut text = String::new();
    if !states.is_empty() {
        text += &format!("jobs: {}\n", states.join(", "));
    }
    let messages = done.messages;
    if messages != Delivered::default() {
        text +=
            &format!("messages: {} sent, {} put off, {} given up\n", messages.sent, messages.put_off, messages.dead);
    }
    text
}

/// Says what was in the way of jobs and messages.
fn say_troubles(done: &FollowUp) {
    for Trouble { model, run, reason } in &done.passed.troubles {
        let (model, reason) = (super::shown(model), super::shown(reason));
        say!("driftsweep: model '{model}': run {run}: {reason}; the next tick tries again");
    }
    for Unreadable { table, id, reason } in &done.passed.unreadable {
        let (id, reason) = (super::shown(id), super::shown(reason));
        say!("driftsweep: store: table {table}, row {id} cannot be read and is left out: {reason}");
    }
    if let Some(reason) = &done.occupied {
        say!("driftsweep: jobs are not looked after: {}", super::shown(reason));
    }
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
