//! `driftsweep jobs`, `approve`, `reject` and the supervisor of commands

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use driftsweep_extensions::executor::command;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Money};
use driftsweep_ops::policy::event;
use driftsweep_ops::retrain::queue::{QueuePosition, Slots};
use driftsweep_ops::retrain::{BaselineRenewal, Job, JobState, SignedStatement, queue};
use driftsweep_ops::scheduler::{self, ApprovalAnswer, PassContext};
use driftsweep_ops::store::{Access, Store, VersionedJob};
use driftsweep_report::output::{Page, Table};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::TextFormat;
use super::decision::DecisionArgs;
use super::fleet_store::{FleetStoreArgs, code_after_reading};
use super::job_page::{self, Answers};
use super::signing::{Signing, SigningArgs};

#[derive(Subcommand)]
pub enum JobsCommand {
    /// Lists jobs that are not finished
    List(ListArgs),
    /// Shows a job on one page: its trigger, cost and gain, approval, and runs
    Show(ShowArgs),
    /// Cancels a job, and stops its run
    Cancel(CancelArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Include finished jobs
    #[arg(long)]
    all: bool,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only jobs in this state
    #[arg(long = "in", value_name = "STATE", value_parser = JobState::NAMES)]
    in_state: Option<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The job; a unique prefix is enough
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

/// A decision about a job.
#[derive(Args)]
pub struct JobDecisionArgs {
    /// The job; a unique prefix is enough
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    decision: JobDecisionArgs,
    /// The amount by which the budget may be overrun, in the fleet's currency, if the request is about an overrun
    #[arg(long, value_name = "AMOUNT")]
    overrun: Option<f64>,
    #[command(flatten)]
    signing: SigningArgs,
}

#[derive(Args)]
pub struct RejectArgs {
    #[command(flatten)]
    decision: JobDecisionArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

#[derive(Args)]
pub struct CancelArgs {
    #[command(flatten)]
    decision: JobDecisionArgs,
}

#[derive(Args)]
pub struct SuperviseArgs {
    /// The folder of the run
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs the command of a run: started by a tick, and outlives it.
pub fn supervise(args: &SuperviseArgs) -> anyhow::Result<u8> {
    let begun = Instant::now();
    let key = command::read_key(&mut std::io::stdin().lock())?;
    command::supervise(&args.folder, &key, &|| begun.elapsed())?;
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
    let (fleet, mut store) = args.memory.open(Access::Read)?;
    let wanted =
        |job: &Job| args.in_state.as_ref().map_or(args.all || !job.state.is_final(), |state| state == job.state.name());
    let of_model = |job: &Job| args.model.as_ref().is_none_or(|model| *model == job.model);
    let all: Vec<Job> = store.jobs("")?.into_iter().map(shown).filter(of_model).collect();
    super::known_model(&fleet, args.model.as_deref(), !all.is_empty())?;
    let jobs: Vec<Job> = all.into_iter().filter(wanted).collect();
    if args.format == TextFormat::Json {
        let mut listed = Vec::new();
        for job in &jobs {
            listed.push(ListedJob { job, outdated_baseline: outdated(&fleet, &mut store, job)? });
        }
        super::write_json(&listed)?;
        return Ok(code_after_reading(&mut store));
    }
    let mut table = Table::new(["job", "model", "trigger", "state", "since", "priority", "expected", "spent"]);
    table.less_important(&["priority", "since", "spent", "expected", "trigger"]);
    table.align_right(5..8);
    let currency = &fleet.governance.budget.currency;
    for job in &jobs {
        table.row([
            job.id.clone(),
            job.model.clone(),
            job.trigger.clone(),
            format!("{} {}", job.state.name(), job.state.reason()).trim_end().to_owned(),
            job.since.to_string(),
            currency.show(queue::priority(job)),
            job.estimate.map(|estimate| currency.show(estimate.expected)).unwrap_or_default(),
            currency.show(job.spent),
        ]);
    }
    super::write(Page::from(table))?;
    Ok(code_after_reading(&mut store))
}

/// A job without the key that only the store and the supervisor of its run may know.
fn shown(versioned: VersionedJob) -> Job {
    Job { key: None, ..versioned.job }
}

/// A job as it is listed for programs.
#[derive(Serialize)]
struct ListedJob<'a> {
    #[serde(flatten)]
    job: &'a Job,
    /// The warning that the baseline is older than the training, if this was the last training of its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    outdated_baseline: Option<String>,
}

/// The warning about the baseline of a model, if a job was its last training.
fn outdated(fleet: &Fleet, store: &mut Store, job: &Job) -> anyhow::Result<Option<String>> {
    let Some(model) = fleet.model(&job.model).filter(|_| job.state == JobState::Succeeded) else { return Ok(None) };
    if store.last_trained(&job.model)?.is_none_or(|(last, _)| last != job.id) {
        return Ok(None);
    }
    let found = store.outdated_baseline(fleet, model, Timestamp::now())?;
    Ok(found.map(|found| found.sentence(&fleet.zone)))
}

/// When a job in the queue will start; assuming that the next tick has no `--now`.
fn queue_position(fleet: &Fleet, store: &mut Store, job: &Job) -> anyhow::Result<Option<QueuePosition>> {
    if !matches!(job.state, JobState::Queued { .. }) {
        return Ok(None);
    }
    let mut slots = Slots::default();
    for run in scheduler::runs_under_way(store, Timestamp::now())? {
        slots.take(&run.retrain);
    }
    let queued = store.jobs_in("queued")?;
    let queued = queued.iter().filter_map(|other| Some((&other.job, fleet.retrain_of(&other.job.model)?)));
    let queued: Vec<_> = queued.collect();
    Ok(QueuePosition::of(&job.id, &queued, slots, &fleet.governance.concurrency, Timestamp::now()))
}

fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Read)?;
    let job = shown(find(&mut store, &args.job)?);
    let event = store.event_body(&job.id)?.map(|body| event_of(&mut store, &job.id, &body)).unwrap_or_default();
    let runs = store.runs_of(&job.id)?;
    let outdated_baseline = outdated(&fleet, &mut store, &job)?;
    let rejection = rejection(&mut store, &job)?;
    let answerers = scheduler::answerers(&fleet, &mut store, &job)?;
    let version = store.version_of_job(&job.model, &job.id)?;
    if args.format == TextFormat::Json {
        let mut page = json!({ "job": ListedJob { job: &job, outdated_baseline }, "event": event, "runs": runs });
        if let Some((_, signed)) = rejection {
            page["rejection_signature"] = json!(signed);
        }
        if let Some(answerers) = answerers {
            page["may_answer"] = json!(answerers.may_answer);
        }
        if let Some(version) = version {
            page["version"] = json!(version);
        }
        super::write_json(&page)?;
        return Ok(code_after_reading(&mut store));
    }
    let state = args.memory.folder();
    let turn = queue_position(&fleet, &mut store, &job)?;
    let answers = Answers { rejection: rejection.as_ref(), answerers: answerers.as_ref() };
    let mut page = job_page::page(&fleet, &job, &event, &runs, answers, (&state, turn));
    if let Some(version) = version {
        page.section("version");
        page.line(format_args!(
            "  version {} of {}, {}: {}",
            version.version, version.model, version.status, version.reason
        ));
        page.line(format_args!("  {}", version.trained.source));
    }
    // What was true when it finished may have changed.
    let at_its_end = job.baseline.as_ref().filter(|renewal| !matches!(renewal, BaselineRenewal::Kept { .. }));
    let sentences: Vec<String> =
        at_its_end.and_then(BaselineRenewal::sentence).into_iter().chain(outdated_baseline).collect();
    if !sentences.is_empty() {
        page.section("baseline");
    }
    for sentence in &sentences {
        page.line(format_args!("  {sentence}"));
    }
    if let Some(reason) = &job.about_answer {
        page.section("answer of its last run");
        page.line(format_args!("  {reason}"));
    }
    super::write(page)?;
    Ok(code_after_reading(&mut store))
}

/// An event; null where it cannot be read.
pub fn event_of(store: &mut Store, id: &str, body: &str) -> Value {
    event::read(body).unwrap_or_else(|reason| {
        store.set_aside("event", id, reason);
        Value::Null
    })
}

/// The signature of a rejection: only the audit stores it.
fn rejection(store: &mut Store, job: &Job) -> anyhow::Result<Option<(String, SignedStatement)>> {
    let (mut found, mut by, mut unreadable) = (None, String::new(), None);
    if matches!(job.state, JobState::Rejected { .. }) {
        store.audit(&job.id, |record| {
            if record.kind == "job.reject" {
                match record.current_body() {
                    Ok(body) => found = SignedStatement::deserialize(&body["signature"]).ok(),
                    Err(error) => unreadable = Some((record.seq.to_string(), error.to_string())),
                }
                by = record.actor;
            }
            Ok(())
        })?;
    }
    if let Some((record, reason)) = unreadable {
        store.set_aside("audit", &record, reason);
    }
    Ok(found.map(|signed| (by, signed)))
}

pub fn approve(args: &ApproveArgs) -> anyhow::Result<u8> {
    let overrun = match args.overrun {
        Some(units) => Some(
            Money::of(units)
                .filter(|amount| *amount > Money::ZERO)
                .ok_or_else(|| super::invalid_value("--overrun", "is an amount of money, above 0"))?,
        ),
        None => None,
    };
    decide(&args.decision, &args.signing, ApprovalAnswer::Approve(overrun))
}

pub fn reject(args: &RejectArgs) -> anyhow::Result<u8> {
    decide(&args.decision, &args.signing, ApprovalAnswer::Reject)
}

fn decide(args: &JobDecisionArgs, signing: &SigningArgs, answer: ApprovalAnswer) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (who, now) = args.decision.actor_and_time(&fleet)?;
    let id = find(&mut store, &args.job)?.job.id;
    let said = (&*who, &*args.decision.reason);
    let statement = |clock| Ok(scheduler::statement(&fleet, &mut store, &id, answer, said, (now, clock))?);
    let signed = match signing.prepare(statement)? {
        Signing::None => None,
        Signing::Write => return Ok(0),
        Signing::With(signed) => Some(signed),
    };
    let job = scheduler::decide(&fleet, &mut store, &id, answer, said, signed, now)?;
    say!("job {} of {}: {}", job.id, job.model, job.state.name().replace('_', " "));
    Ok(0)
}

fn cancel(args: &JobDecisionArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (who, now) = args.decision.actor_and_time(&fleet)?;
    let id = find_any(&mut store, &args.job)?;
    let state = args.decision.memory.folder();
    let (http, program) = (Http::new()?, std::env::current_exe()?);
    let clock = Timestamp::now();
    let means = PassContext { http: &http, program: &program, state: &state, clock, elapsed: &|| Duration::ZERO };
    if let Some(damage) = scheduler::damage_reason(&mut store, &id)? {
        let job =
            scheduler::close_damaged(&fleet, &mut store, (&id, &damage), (&who, &args.decision.reason), &means, now)?;
        let spent = fleet.governance.budget.currency.show(job.spent);
        say!("job {id} of {} is closed, with its event: {}", job.model, damage);
        say!("its runs are recorded with a cost of {spent}, from their rates and longest possible duration");
        return Ok(0);
    }
    let job = scheduler::cancel(&fleet, &mut store, &id, (&who, &args.decision.reason), &means, now)?;
    let word = if job.state.is_final() { "cancelled" } else { "asked to stop; the next tick records its end" };
    say!("job {} of {}: {word}", job.id, job.model);
    Ok(0)
}

/// The one job with this prefix.
fn find(store: &mut Store, name: &str) -> anyhow::Result<VersionedJob> {
    let mut found = store.jobs(name)?.into_iter().filter(|_| !name.is_empty());
    match (found.next(), found.next()) {
        (Some(job), None) => Ok(job),
        (None, _) => Err(super::invalid_value(&format!("job '{name}'"), &why_no_job(store, name))),
        _ => Err(super::invalid_value(&format!("job '{name}'"), "several begin with this; give more of the name")),
    }
}

/// Why no job with this prefix was found.
fn why_no_job(store: &mut Store, name: &str) -> String {
    let rows = store.unreadable();
    let mut damaged = rows.iter().filter(|row| row.table == "job" && row.id.starts_with(name));
    let reason = match damaged.next().filter(|_| !name.is_empty()) {
        Some(row) => {
            format!("its row cannot be read: {}; close it with `driftsweep jobs cancel {}`", row.reason, row.id)
        }
        None => "there is none; `jobs list --all` shows them".into(),
    };
    rows.into_iter().for_each(|row| store.set_aside(row.table, &row.id, row.reason));
    reason
}

/// The name of the one job with this prefix, even if its row cannot be read.
fn find_any(store: &mut Store, name: &str) -> anyhow::Result<String> {
    let found = find(store, name);
    let damaged = store.unreadable().into_iter().filter(|row| row.table == "job" && row.id.starts_with(name));
    let damaged: Vec<String> = damaged.map(|row| row.id).collect();
    match (found, &damaged[..]) {
        (Ok(_), [_, ..]) | (Err(_), [_, _, ..]) if !name.is_empty() => {
            Err(super::invalid_value(&format!("job '{name}'"), "several begin with this; give more of the name"))
        }
        (Err(_), [one]) if !name.is_empty() => Ok(one.clone()),
        (found, _) => Ok(found?.job.id),
    }
}
