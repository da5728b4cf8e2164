//! `driftsweep tick`

mod work;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{ArgGroup, Args};
use driftsweep::model::Options;
use driftsweep::sweep::{SweepReport, SweepRun};
use driftsweep_common::duration::Length;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;
use driftsweep_fleet::Fleet;
use driftsweep_ops::retrain::approvers::MAX_CLOCK_AHEAD;
use driftsweep_ops::store::{Access, Firing, Store};
use driftsweep_ops::tick::{self, RejudgeRequest, SweepStatus, Sweeper, TickSummary};
use driftsweep_report::output::Page;
use driftsweep_report::report::counted;
use jiff::Timestamp;
use serde::Serialize;

use super::audit::{STORE_REMEDY, TAMPERED};
use super::checkpoint::{Checkpoint, CheckpointArgs};
use super::decision;
use super::fleet_store::{StoreArgs, clock_difference_warning, read_fleet};
use super::state::SweepState;
use super::state_users::{JOBS, StateUsers, StoreIdentity, StoreMatch, has_trained};
use super::time_arg::TimeArg;
use super::{Bar, EngineArgs, TextFormat, message};
use work::{JobsAndMessages, jobs_done, run_jobs_and_messages, warn_of_failures};

#[derive(Args)]
#[command(group = ArgGroup::new("decision").args(["again", "clock_was_ahead"]).multiple(true))]
pub struct TickArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// Override the current time, to replay a past night: a time such as 2026-01-31T02:00:00Z; without a zone it is
    /// read in the fleet's `time_zone`, and a day alone is its beginning there [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
    /// Stop sweeping after this time, for example 45m; the next tick continues from there (exit code 12)
    #[arg(long, value_name = "DURATION")]
    deadline: Option<Length>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
    /// Wait until no training is running, at most this long, for example 6h: for environments that stop child processes
    /// when the command ends
    #[arg(long, value_name = "DURATION")]
    wait: Option<Length>,
    /// Exit with 10 if the last sweep opened an event
    #[arg(long)]
    fail_on_event: bool,
    /// Judge this model again at the last sweep, because its data were corrected; may be given several times. The whole
    /// sweep is counted again, so that all tests are judged together
    #[arg(long, value_name = "MODEL", requires = "reason")]
    again: Vec<String>,
    /// A clock was ahead and is right now: undo the sweeps and times that it has written, which are more than a day in the
    /// future
    #[arg(long, requires = "reason")]
    clock_was_ahead: bool,
    /// With --again and --clock-was-ahead: the reason; it is stored in the audit
    #[arg(long, value_name = "TEXT", requires = "decision")]
    reason: Option<String>,
    /// With --again and --clock-was-ahead: who requests it [default: $USER]
    #[arg(long, value_name = "NAME", requires = "decision")]
    by: Option<String>,
    /// Refuse to create a new store (exit code 14): where the state is kept on external storage, a new store means that
    /// the old one was lost
    #[arg(long)]
    require_state: bool,
    /// Confirm that the fleet file was moved, the fleet renamed, or another store chosen: it replaces the previous user
    /// of the store and the state
    #[arg(long)]
    moved: bool,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub fn run(args: &TickArgs) -> anyhow::Result<u8> {
    let started = Instant::now();
    let options = args.engine.start(super::names_objects(&args.fleet))?;
    let fleet = read_fleet(&args.fleet, &options)?;
    let clock = Timestamp::now();
    let replayed = args.now.as_ref().map(|now| now.resolve("--now", &fleet.zone)).transpose()?;
    let now = replayed.unwrap_or(clock);
    if now.duration_since(clock) > MAX_CLOCK_AHEAD {
        return Err(super::invalid_value("--now", "is in the future: nothing would be due until then"));
    }
    for model in &args.again {
        super::model_of(&fleet, model)?;
    }
    // Before anything is created.
    let asked = requester(args)?;
    let access = if args.require_state { Access::Existing } else { Access::Create };
    let mut store = args.store.open(&args.fleet, &fleet, access)?;
    if args.require_state {
        store.must_know_fleet()?;
    }
    compare_clocks(&mut store, clock)?;
    if let Some((by, reason)) = asked.as_ref().filter(|_| args.clock_was_ahead) {
        undo_clock_ahead(&fleet, &mut store, (by, reason), now)?;
    }
    store.check_clock(now)?;
    let users = StateUsers::read(&args.store.folders.folder(&args.fleet).0);
    if let Some(reason) = wrong_store_reason(args, &fleet, &mut store, &users)? {
        error!("{reason}");
        return Ok(TAMPERED);
    }
    tick::register_fleet_file(&fleet, &mut store, &args.fleet, args.moved, clock)?;
    if let Err(error) = users.note(&fleet.name, store_identity(&store)) {
        // It is needed for the message if the store was lost.
        warn!("{error}");
    }
    if let Some((by, reason)) = asked.as_ref().filter(|_| !args.again.is_empty()) {
        tick::request_rejudge(&fleet, &mut store, RejudgeRequest { models: &args.again, by, reason }, now)?;
    }
    let fleet = fleet.with_baselines(&store.set_baselines()?, &args.store.folders.folder(&args.fleet).0);
    // Their models may be without settings by now.
    let releases = !store.active_rollouts(None)?.is_empty();
    let mut sweeper = TickSweeper { args, fleet: &fleet, started, state: None };
    let ticked = tick::tick(&fleet, &mut store, now, &mut sweeper, &mut |_| ());
    // Its state is locked: other ticks may sweep while this one waits for trainings.
    drop(sweeper);
    // A sweep takes a while: it is later now. Trainings do not depend on the sweep, nor on its errors.
    let mut pass_summary = run_jobs_and_messages(args, &fleet, replayed.unwrap_or_else(Timestamp::now), releases);
    if let Ok(pass_summary) = &mut pass_summary {
        pass_summary.add_unreadable(store.unreadable());
        warn_of_failures(pass_summary);
    }
    if let Ok(ticked) = &ticked {
        say_doubts(&ticked.tampered);
    }
    let (ticked, pass_summary) = (ticked?, pass_summary?);
    if !(message::is_quiet() && is_quiet(&ticked, &pass_summary)) {
        show(args, &fleet, &options, &ticked, &pass_summary)?;
    }
    if !(ticked.tampered.is_empty() && pass_summary.tampered().next().is_none()) {
        // The last verified record is kept as the one to compare with.
        return Ok(TAMPERED);
    }
    if !args.checkpoint.write(&fleet.name, &mut store)? {
        error!(
            "the last record of the audit does not match the store's own head, and is not written into the checkpoint; \
             `driftsweep audit verify` names what was changed"
        );
        return Ok(TAMPERED);
    }
    // Nothing is swept until then: where no earlier time is replayed, a clock was ahead.
    let is_ahead = ticked.ahead.is_some() && replayed.is_none();
    let apart =
        !(pass_summary.pass_summary.unreadable.is_empty() && pass_summary.rollouts.failures.is_empty()) || is_ahead;
    Ok(match code(args, &ticked, apart) {
        // Another process handles the jobs; if that takes long, the exit code must show it.
        0 if pass_summary.locked.is_some() => super::BUSY,
        code => code,
    })
}

/// Who asks for --again or --clock-was-ahead, and why; absent where neither is given.
fn requester(args: &TickArgs) -> anyhow::Result<Option<(String, String)>> {
    if args.again.is_empty() && !args.clock_was_ahead {
        return Ok(None);
    }
    let by = decision::decider(args.by.as_ref())?;
    let reason = decision::checked_reason(args.reason.as_deref().unwrap_or_default())?;
    Ok(Some((by, reason.to_owned())))
}

/// Warns where the clocks of the store and of this machine differ.
///
/// # Errors
/// Where they differ so much that it is unknown what is due.
fn compare_clocks(store: &mut Store, clock: Timestamp) -> anyhow::Result<()> {
    if let Some(apart) = clock_difference_warning(store)? {
        warn!("store: {apart}");
    }
    let clock_of_store = store.clock()?;
    if clock.duration_since(clock_of_store).abs() > MAX_CLOCK_AHEAD {
        let reason = format!(
            "it is {clock} by the clock of this machine, and {clock_of_store} by that of the store: it is unknown what \
             is due now; correct the clocks (NTP)"
        );
        return Err(store.refused(reason).into());
    }
    Ok(())
}

/// Undoes what was written with a clock that was ahead.
fn undo_clock_ahead(fleet: &Fleet, store: &mut Store, asked: (&str, &str), now: Timestamp) -> anyhow::Result<()> {
    match tick::correct_clock(fleet, store, asked, now)? {
        Some(latest) => warn!(
            "what a clock has written that was ahead, up to {latest}, is undone; check the jobs that were started \
             meanwhile (`driftsweep jobs list`)"
        ),
        None => warn!("--clock-was-ahead: the store holds no time that is more than a day in the future"),
    }
    Ok(())
}

/// Shows what was done, and warns of problems.
fn show(
    args: &TickArgs,
    fleet: &Fleet,
    options: &Options,
    ticked: &TickSummary,
    pass_summary: &JobsAndMessages,
) -> anyhow::Result<()> {
    match args.format {
        TextFormat::Json => super::write_json(&Output { ticked, jobs: pass_summary })?,
        TextFormat::Table => {
            let mut page = summary(ticked, options);
            jobs_done(&mut page, pass_summary);
            page.section(format_args!("{} {}", what_happened(ticked), what_to_do(&args.fleet, ticked, pass_summary)));
            super::write(page)?;
        }
    }
    report(fleet, ticked);
    Ok(())
}

/// The store of a fleet, as it is recorded.
fn store_identity(store: &Store) -> StoreIdentity {
    let (kind, hash) = store.identity();
    StoreIdentity { kind: kind.into(), hash }
}

/// Why the store is not the expected one, if it is not: it lacks the record that was seen last, or has no record of a
/// fleet that has trainings.
///
/// # Errors
/// [`Error::Store`] where it may be another store on purpose, or another fleet: a person has to confirm it.
fn wrong_store_reason(
    args: &TickArgs,
    fleet: &Fleet,
    store: &mut Store,
    users: &StateUsers,
) -> anyhow::Result<Option<String>> {
    let state = args.store.folders.folder(&args.fleet).0;
    let name = for_display(&fleet.name);
    if let Some(Checkpoint { seq, hash }) = args.checkpoint.read(&state, &fleet.name)?
        && store.record_hash(seq)? != Some(hash)
    {
        return Ok(Some(format!(
            "the store of fleet '{name}' does not hold record {seq} of the audit as the last tick left it: it was \
             emptied, rewritten, or another one is named; restore it, or remove the checkpoint to start over"
        )));
    }
    if !has_trained(&state) || !store.is_new()? {
        return Ok(None);
    }
    match users.match_store(&fleet.name, &store_identity(store)) {
        StoreMatch::Same => Ok(Some(format!(
            "the store has no record of fleet '{name}', and {} holds its trainings: the store was emptied; restore it, \
             or move that folder away to start over",
            state.join(JOBS).display()
        ))),
        StoreMatch::Other(_) if args.moved => Ok(None),
        StoreMatch::Other(reason) => Err(store.refused(reason).into()),
    }
}

/// Whether there is nothing to report: nothing was due, and nothing was found.
fn is_quiet(ticked: &TickSummary, pass_summary: &JobsAndMessages) -> bool {
    let found = ticked.status.as_ref().is_some_and(|status| !status.is_quiet());
    let swept = ticked.sweep.is_some() || !ticked.caught_up.is_empty();
    let doubts = !ticked.tampered.is_empty();
    let news = doubts || ticked.ahead.is_some() || pass_summary.has_news();
    !(ticked.new_store || (swept && found) || !ticked.firings.is_empty() || news)
}

/// Warnings about problems, on standard error.
fn report(fleet: &Fleet, ticked: &TickSummary) {
    if ticked.new_store {
        warn!(
            "new store created for fleet '{}': it had no record of the fleet. If the fleet has been swept before, its \
             state was lost (--state, --store); --require-state refuses that",
            fleet.name
        );
    }
    if let Some(ahead) = ticked.ahead {
        warn!("the last sweep has the time {ahead}, later than the effective time: no sweep is due until then");
    }
    let Some(status) = ticked.status.as_ref().filter(|_| !ticked.acknowledged) else { return };
    // A sweep of an earlier tick was reported by that tick.
    if ticked.sweep.is_none() && ticked.caught_up.is_empty() {
        if status.is_partial() {
            warn!(
                "the last sweep, of {}, has open problems: {} models waiting for data, {} with failures; \
                 `driftsweep status` shows it, and acknowledges it",
                status.as_of,
                status.waiting.len(),
                status.failures.len()
            );
        }
        return;
    }
    const MAX_LISTED: usize = 20;
    let waiting = status
        .waiting
        .iter()
        .map(|(model, waits)| format!("model '{model}': {}; it is read again until {:.0}", waits.reason, waits.until));
    let failures = status.failures.iter().flat_map(|(model, all)| {
        all.iter().map(|fault| format!("model '{model}': {}", fault.reason)).collect::<Vec<_>>()
    });
    let all: Vec<String> = waiting.chain(failures).collect();
    all.iter().take(MAX_LISTED).for_each(|line| warn!("{line}"));
    if all.len() > MAX_LISTED {
        warn!("… and {} more; `driftsweep status` shows them", all.len() - MAX_LISTED);
    }
    if !status.complete {
        warn!(
            "the deadline was reached before some models; the next tick continues with them until the next sweep is \
               due"
        );
    }
}

/// What a tick did, as JSON.
#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    ticked: &'a TickSummary,
    jobs: &'a JobsAndMessages,
}

/// Says by which rows no event was opened.
fn say_doubts(found: &[String]) {
    for problem in found.iter().take(MAX_LISTED) {
        error!("store: {problem}");
    }
    if !found.is_empty() {
        error!(
            "store: it was not what its audit says when the tick read it, and opens no event of the models that this is about; \
             the next sweep decides about them again; `driftsweep audit verify` names every record and row that still differs; \
             {STORE_REMEDY}"
        );
    }
}

/// The exit code is that of the last sweep, so that a retry of the scheduler does not hide a failure.
/// `apart` says whether there is another problem.
fn code(args: &TickArgs, ticked: &TickSummary, apart: bool) -> u8 {
    let code = match &ticked.status {
        Some(status) => super::status::code(status, ticked.acknowledged, args.fail_on_event),
        // A schedule that fires before the first sweep.
        _ if args.fail_on_event && !ticked.events.is_empty() => super::DRIFT,
        _ => 0,
    };
    if code == 0 && apart { super::PARTIAL } else { code }
}

/// Runs the sweep of a tick, with its journal and history.
struct TickSweeper<'a> {
    args: &'a TickArgs,
    fleet: &'a Fleet,
    started: Instant,
    state: Option<SweepState>,
}

impl Sweeper for TickSweeper<'_> {
    fn sweep(&mut self, as_of: Timestamp) -> Result<SweepReport> {
        let args = self.args;
        // An open journal of another sweep is closed first.
        self.state = None;
        let state = SweepState::at(&args.store.folders, &args.fleet, self.fleet, as_of)?;
        let fleet = self.fleet.at(as_of);
        let plan = fleet.plan(as_of);
        let chosen = args.engine.counter(|| plan.survey().workload).map_err(as_error)?;
        let bar = Bar::new();
        let deadline = args.deadline.map(Length::unsigned);
        let time_is_up = || deadline.is_some_and(|deadline| self.started.elapsed() >= deadline);
        let run = SweepRun {
            progress: &bar,
            time_is_up: &time_is_up,
            journal: state.journal(),
            ..SweepRun::new(&*chosen.counter)
        };
        let mut report = run.sweep(&plan);
        state.name(&mut report, self.fleet);
        super::note(&mut report.engine, chosen);
        self.state = Some(state);
        Ok(report)
    }

    fn keep(&mut self, report: &SweepReport) -> Result<()> {
        self.state.as_ref().map_or(Ok(()), |state| state.append(report))
    }

    fn done(&mut self) -> Result<()> {
        self.state.take().map_or(Ok(()), SweepState::finish)
    }
}

/// Errors of the command line become those of the library.
fn as_error(error: anyhow::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|other| Error::Backend(format!("{other:#}")))
}

fn summary(ticked: &TickSummary, options: &Options) -> Page {
    let mut page = Page::new();
    match &ticked.sweep {
        Some(done) => {
            let mut line = format!(
                "sweep of {}: {}, {}, {} drifted, {}",
                done.as_of,
                counted(done.summary.models, "model"),
                counted(done.summary.features, "feature"),
                done.summary.drifted,
                counted(ticked.status.as_ref().map_or(0, SweepStatus::failed), "failure"),
            );
            if done.summary.not_judged > 0 {
                line += &format!(", {} not judged", done.summary.not_judged);
            }
            page.line(format_args!("{line}, {}", counted(options.threads, "thread")));
        }
        None if ticked.caught_up.is_empty() => page.line("no sweep is due"),
        None => {}
    }
    if !ticked.caught_up.is_empty() {
        let names: Vec<String> = ticked.caught_up.iter().take(MAX_LISTED).cloned().collect();
        let more = if ticked.caught_up.len() > MAX_LISTED { ", …" } else { "" };
        page.line(format_args!("judged after waiting for data: {}{more}", names.join(", ")));
    }
    let swept = ticked.sweep.is_some() || !ticked.caught_up.is_empty();
    let not_judged: Vec<(&String, &String)> = ticked
        .status
        .iter()
        .filter(|_| swept)
        .flat_map(|status| &status.not_judged)
        .flat_map(|(model, all)| all.iter().map(move |reason| (model, reason)))
        .collect();
    for (model, reason) in not_judged.iter().take(MAX_LISTED) {
        page.line(format_args!("{model}: {reason}"));
    }
    if not_judged.len() > MAX_LISTED {
        let more = not_judged.len() - MAX_LISTED;
        page.line(format_args!("and {more} more that are not judged; `driftsweep status` shows them"));
    }
    for (model, warning) in ticked.status.iter().filter(|_| swept).flat_map(|status| &status.warnings) {
        page.line(format_args!("WARNING {model}: {warning}"));
    }
    for firing in &ticked.firings {
        let event = firing.event.as_ref().map(|id| format!(" event {id}")).unwrap_or_default();
        let Firing { model, trigger, outcome, reason, .. } = firing;
        page.line(format_args!("{model}: {trigger} {outcome}{event}: {reason}"));
    }
    if let Some(next) = ticked.next_sweep {
        page.line(format_args!("next sweep: {next}"));
    }
    if let Some((next, model)) = &ticked.next_schedule {
        page.line(format_args!("next scheduled training: {next}, {model}"));
    }
    page
}

/// What happened, in a sentence.
fn what_happened(ticked: &TickSummary) -> String {
    let fired = counted(ticked.firings.len(), "trigger");
    match &ticked.sweep {
        Some(done) => {
            let summary = done.summary;
            let drifted = match summary.drifted {
                0 => "none".to_owned(),
                n => n.to_string(),
            };
            let failed = match ticked.status.as_ref().map_or(0, SweepStatus::failed) {
                0 => String::new(),
                n => format!("; {} could not be compared or read", counted(n, "input")),
            };
            let (features, models) = (counted(summary.features, "feature"), counted(summary.models, "model"));
            format!("Of {features} in {models} {drifted} drifted, and {fired} fired{failed}.")
        }
        None if ticked.caught_up.is_empty() && ticked.firings.is_empty() => "Nothing was due.".into(),
        None => {
            format!("{} judged after waiting for data, and {fired} fired.", counted(ticked.caught_up.len(), "model"))
        }
    }
}

/// What to do, in a sentence.
fn what_to_do(fleet: &Path, ticked: &TickSummary, done: &JobsAndMessages) -> String {
    let fleet = super::fleet_argument(fleet);
    let states = done.pass_summary.states();
    let waiting = states.iter().find(|(state, _)| **state == "awaiting_approval").map_or(0, |(_, n)| *n);
    let has_failures = ticked.status.as_ref().is_some_and(SweepStatus::is_partial) && !ticked.acknowledged;
    let drifted = ticked.sweep.as_ref().map_or(0, |done| done.summary.drifted);
    if !ticked.tampered.is_empty() || !done.pass_summary.tampered.is_empty() {
        format!("`driftsweep audit verify{fleet}` shows what differs in the store.")
    } else if waiting > 0 {
        let wait = if waiting == 1 { "waits" } else { "wait" };
        format!("{} {wait} for approval: `driftsweep jobs list{fleet}`.", counted(waiting, "retrain"))
    } else if has_failures {
        format!("`driftsweep status{fleet}` shows what could not be compared.")
    } else if !ticked.firings.is_empty() {
        format!("`driftsweep report{fleet} --output report.html` shows what moved.")
    } else if drifted > 0 {
        format!(
            "`driftsweep report{fleet} --output report.html` shows what moved, `driftsweep explain MODEL{fleet}` why no \
             trigger fired."
        )
    } else {
        "Nothing needs attention.".into()
    }
}

/// Models that are named in a summary.
const MAX_LISTED: usize = 5;
