//! `driftsweep jobs`, `approve`, `reject` and the supervisor of commands

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use driftsweep::executor::local;
use driftsweep::fleet::{Fleet, Money};
use driftsweep::http::Http;
use driftsweep::policy::drift::DriftVerdict;
use driftsweep::retrain::approval::By;
use driftsweep::retrain::{Job, Renewal, State, queue};
use driftsweep::scheduler::{self, Answer, Means};
use driftsweep::store::{RunEntry, Store, Versioned};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::TextFormat;
use super::memory::MemoryArgs;
use super::when::{When, now_or};

#[derive(Subcommand)]
pub enum JobsCommand {
    /// Lists jobs: those that are not at their end
    List(ListArgs),
    /// Shows a job on one page: what fired, what it costs and gains, who was asked, how its runs went
    Show(ShowArgs),
    /// Calls a job off, and stops its run
    Cancel(CancelArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    memory: MemoryArgs,
    /// Those at their end, too
    #[arg(long)]
    all: bool,
    /// Of this model only
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// In this state only
    #[arg(long = "in", value_name = "STATE", value_parser = State::NAMES)]
    in_state: Option<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The job; its first letters are enough
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    memory: MemoryArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

/// Who decides, and why.
#[derive(Args)]
pub struct DecisionArgs {
    /// The job; its first letters are enough
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Why, for those who come after
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who decides [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The time it is taken to be, as for tick [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<When>,
}

#[derive(Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    decision: DecisionArgs,
    /// By how many dollars a budget may be overrun, where the question is about that
    #[arg(long, value_name = "DOLLARS")]
    overrun: Option<f64>,
}

#[derive(Args)]
pub struct CancelArgs {
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct SuperviseArgs {
    /// The folder of the run
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs the command of a run: started by a tick, and outlives it.
pub fn supervise(args: &SuperviseArgs) -> anyhow::Result<u8> {
    local::supervise(&args.folder, &Timestamp::now)?;
    Ok(0)
}

pub fn run(command: &JobsCommand) -> anyhow::Result<u8> {
    match command {
        JobsCommand::List(args) => list(args),
        JobsCommand::Show(args) => show(args),
        JobsCommand::Cancel(args) => cancel(&args.decision),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open()?;
    let wanted = |job: &Job| {
        let state = args.in_state.as_ref().map_or(args.all || !job.state.is_final(), |state| state == job.state.name());
        state && args.model.as_ref().is_none_or(|model| *model == job.model)
    };
    let jobs: Vec<Job> = store.jobs("")?.into_iter().map(|versioned| versioned.job).filter(wanted).collect();
    if args.format == TextFormat::Json {
        let mut listed = Vec::new();
        for job in &jobs {
            listed.push(Listed { job, outdated_baseline: outdated(&fleet, &mut store, job)? });
        }
        super::write_json(&listed)?;
        return Ok(0);
    }
    let mut table = super::table(["job", "model", "trigger", "state", "since", "priority", "expected", "spent"]);
    super::align_right(&mut table, 5..8);
    for job in &jobs {
        table.add_row([
            job.id.clone(),
            job.model.escape_debug().to_string(),
            job.trigger.clone(),
            format!("{} {}", job.state.name(), super::shown(job.state.reason())).trim_end().to_owned(),
            job.since.to_string(),
            queue::priority(job).to_string(),
            job.estimate.map(|estimate| estimate.expected.to_string()).unwrap_or_default(),
            job.spent.to_string(),
        ]);
    }
    super::write_text(&table.to_string())?;
    Ok(0)
}

/// A job as it is listed for programs.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    job: &'a Job,
    /// What follows from a baseline that is older than the training, where this was the last of its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    outdated_baseline: Option<String>,
}

/// What is to be said of the baseline of a model of which a job was the last training.
fn outdated(fleet: &Fleet, store: &mut Store, job: &Job) -> anyhow::Result<Option<String>> {
    let model = fleet.models.iter().find(|model| model.name == job.model);
    let Some(model) = model.filter(|_| job.state == State::Succeeded) else { return Ok(None) };
    if store.last_trained(&job.model)?.is_none_or(|(last, _)| last != job.id) {
        return Ok(None);
    }
    let found = store.outdated_baseline(fleet, model, Timestamp::now())?;
    Ok(found.map(|found| found.sentence(&fleet.zone)))
}

fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open()?;
    let job = find(&mut store, &args.job)?.job;
    let event: Value = serde_json::from_str(&store.event_body(&job.id)?.unwrap_or_default()).unwrap_or_default();
    let runs = store.runs_of(&job.id)?;
    let outdated_baseline = outdated(&fleet, &mut store, &job)?;
    if args.format == TextFormat::Json {
        super::write_json(&json!({ "job": Listed { job: &job, outdated_baseline }, "event": event, "runs": runs }))?;
        return Ok(0);
    }
    let state = args.memory.folder();
    let mut text = page(&fleet, &job, &event, &runs, &state)?;
    // What was true at its end may not be any more.
    let at_its_end = job.baseline.as_ref().filter(|renewal| !matches!(renewal, Renewal::Kept { .. }));
    let sentences: Vec<String> = at_its_end.and_then(Renewal::sentence).into_iter().chain(outdated_baseline).collect();
    if !sentences.is_empty() {
        writeln!(text, "\nbaseline")?;
    }
    for sentence in &sentences {
        writeln!(text, "  {}", super::shown(sentence))?;
    }
    super::write_text(&text)?;
    Ok(0)
}

/// A job on one page.
fn page(fleet: &Fleet, job: &Job, event: &Value, runs: &[RunEntry], state: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let retrain = fleet.models.iter().find(|model| model.name == job.model).and_then(|model| model.retrain.as_ref());
    writeln!(text, "job {}", job.id)?;
    writeln!(text, "  model      {}", job.model.escape_debug())?;
    if let Some(retrain) = retrain {
        writeln!(text, "  team       {}", retrain.team.escape_debug())?;
        writeln!(text, "  trained by {} on {}", retrain.executor.name(), retrain.resource.escape_debug())?;
    }
    let why = job.state.reason();
    let why = if why.is_empty() { String::new() } else { format!(": {}", super::shown(why)) };
    writeln!(text, "  state      {} since {}{why}", job.state.name().replace('_', " "), job.since)?;
    writeln!(text, "  asked for  {}, wanted until {}", job.requested_at, job.deadline)?;
    writeln!(text, "\nwhy: the {} trigger", job.trigger)?;
    for line in evidence(&job.trigger, &event["data"]["details"]) {
        writeln!(text, "  {line}")?;
    }
    if let (Some(estimate), Some(worth)) = (&job.estimate, &job.worth) {
        writeln!(text, "\ncost and gain")?;
        writeln!(
            text,
            "  expected cost {} ({} to {}; declared {}, corrected by {} runs)",
            estimate.expected, estimate.low, estimate.high, estimate.declared, estimate.runs
        )?;
        writeln!(
            text,
            "  lost {:.2} points ({}): {} a day; a training gains {} ({} at least)",
            worth.points,
            worth.loss.name(),
            worth.stale_a_day,
            worth.gain,
            worth.gain_low
        )?;
        let days = worth.break_even(estimate.expected);
        let days = days.map_or_else(|| "never".into(), |days| format!("after {days:.1} days"));
        writeln!(text, "  pays {days}; advice: {}", worth.advice(estimate))?;
    }
    if let State::AwaitingApproval(request) = &job.state {
        writeln!(text, "\nmay it be run?")?;
        for reason in &request.reasons {
            writeln!(text, "  {reason}")?;
        }
        let levels = &fleet.governance.approval.approvers;
        let asked = levels.get(request.level).map(|names| names.join(", ")).unwrap_or_default();
        writeln!(
            text,
            "  asked: {} (level {} of {}), answer by {}",
            asked,
            request.level + 1,
            levels.len(),
            request.due
        )?;
        let overrun = request.overruns().iter().map(|overrun| overrun.by).max();
        let overrun = overrun.map(|by| format!(" --overrun {:.2}", by.dollars())).unwrap_or_default();
        writeln!(text, "  driftsweep approve {} --by NAME --reason TEXT{overrun}", &job.id)?;
    }
    if !job.grants.is_empty() {
        writeln!(text, "\nallowed")?;
    }
    for grant in &job.grants {
        let by = match &grant.by {
            By::Policy => "policy",
            By::Person(name) => name,
        };
        writeln!(text, "  {} by {}: {}", grant.at, super::shown(by), super::shown(&grant.reason))?;
        for overrun in &grant.overruns {
            writeln!(text, "    {overrun}")?;
        }
    }
    if !runs.is_empty() {
        writeln!(text, "\nruns")?;
    }
    for run in runs {
        let end = run.ended.as_ref().map_or_else(
            || format!("under way, {} set aside", run.committed),
            |(at, outcome, cost)| format!("{outcome} {at}, {cost}"),
        );
        let folder = scheduler::folder_of(state, &job.id, run.attempt);
        writeln!(text, "  {} {}: {end}; {}", run.attempt, run.started_at, folder.display())?;
    }
    Ok(text)
}

/// What a trigger fired by.
fn evidence(trigger: &str, details: &Value) -> Vec<String> {
    const SHOWN: usize = 10;
    if trigger == "drift"
        && let Ok(verdict) = serde_json::from_value::<DriftVerdict>(details.clone())
    {
        let mut lines = vec![verdict.reason()];
        let columns = verdict.comparisons.iter().flat_map(|comparison| &comparison.columns);
        for column in columns.clone().take(SHOWN) {
            let signals = column.signals.iter().filter(|signal| signal.counts());
            let figures: Vec<String> = signals
                .map(|signal| {
                    let q = signal.q_value.map(|q| format!(", q {q:.2e}")).unwrap_or_default();
                    format!("{} {:.4} above {}{q}", signal.metric, signal.value, signal.limit)
                })
                .collect();
            lines.push(format!("{}: {}", column.feature.escape_debug(), figures.join("; ")));
        }
        let more = columns.count().saturating_sub(SHOWN);
        if more > 0 {
            lines.push(format!("… and {more} more columns"));
        }
        return lines;
    }
    let Some(details) = details.as_object() else { return Vec::new() };
    let plain = details.iter().filter(|(_, value)| !value.is_object() && !value.is_array() && !value.is_null());
    plain.map(|(name, value)| format!("{name}: {}", value.to_string().trim_matches('"'))).collect()
}

pub fn approve(args: &ApproveArgs) -> anyhow::Result<u8> {
    let overrun = match args.overrun {
        Some(dollars) => Some(
            Money::from_dollars(dollars)
                .filter(|amount| *amount > Money::ZERO)
                .ok_or_else(|| super::bad("--overrun", "is an amount of dollars, above 0"))?,
        ),
        None => None,
    };
    decide(&args.decision, Answer::Approve(overrun))
}

pub fn reject(args: &DecisionArgs) -> anyhow::Result<u8> {
    decide(args, Answer::Reject)
}

fn decide(args: &DecisionArgs, answer: Answer) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open()?;
    let (who, now) = who_and_when(args, &fleet.zone)?;
    let id = find(&mut store, &args.job)?.job.id;
    let job = scheduler::answer(&fleet, &mut store, &id, answer, (&who, &args.reason), now)?;
    say!("job {} of {}: {}", job.id, job.model.escape_debug(), job.state.name().replace('_', " "));
    Ok(0)
}

fn cancel(args: &DecisionArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open()?;
    let (who, now) = who_and_when(args, &fleet.zone)?;
    let id = find(&mut store, &args.job)?.job.id;
    let state = args.memory.folder();
    let (http, program) = (Http::new()?, std::env::current_exe()?);
    let means = Means { http: &http, program: &program, state: &state, elapsed: &|| Duration::ZERO };
    let job = scheduler::cancel(&fleet, &mut store, &id, (&who, &args.reason), &means, now)?;
    let word = if job.state.is_final() { "cancelled" } else { "told to stop; the next tick notes its end" };
    say!("job {} of {}: {word}", job.id, job.model.escape_debug());
    Ok(0)
}

fn who_and_when(args: &DecisionArgs, zone: &TimeZone) -> anyhow::Result<(String, Timestamp)> {
    if args.reason.trim().is_empty() {
        return Err(super::bad("--reason", "must say something to those who come after"));
    }
    let who = args.by.clone().or_else(|| super::variable("USER"));
    let who = who.ok_or_else(|| super::bad("--by", "must say who decides: $USER is not set"))?;
    let clock = Timestamp::now();
    let now = now_or(args.now.as_ref(), zone, clock)?;
    if now.duration_since(clock) > SignedDuration::from_hours(24) {
        return Err(super::bad("--now", "lies in the future"));
    }
    Ok((who, now))
}

/// The one job whose name begins so.
fn find(store: &mut Store, name: &str) -> anyhow::Result<Versioned> {
    let mut found = store.jobs(name)?.into_iter().filter(|_| !name.is_empty());
    match (found.next(), found.next()) {
        (Some(job), None) => Ok(job),
        (None, _) => Err(super::bad(&format!("job '{name}'"), "there is none; `jobs list --all` shows them")),
        _ => Err(super::bad(&format!("job '{name}'"), "several begin so; give more of the name")),
    }
}
