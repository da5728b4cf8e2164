//! The page of a job: for its approvers, and for anyone who checks its progress.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use driftsweep_common::atomic;
use driftsweep_extensions::trigger;
use driftsweep_fleet::{Fleet, Money};
use driftsweep_ops::retrain::approval::GrantedBy;
use driftsweep_ops::retrain::cost::point;
use driftsweep_ops::retrain::queue::QueuePosition;
use driftsweep_ops::retrain::{Job, JobState, SignedStatement, approvers, signature};
use driftsweep_ops::scheduler::{self, CurrentApprovers};
use driftsweep_ops::store::RunRecord;
use driftsweep_report::output::Page;
use serde_json::Value;

/// Drifted columns that are shown.
const COLUMNS: usize = 10;

/// Output lines shown of a failed run.
const LINES: usize = 20;

/// Characters of such a line.
const LINE: usize = 300;

/// Bytes that are read of each file of output, from its end.
const LOG_BYTES: u64 = 64 << 10;

/// The facts about the answer to the request of a job.
#[derive(Clone, Copy)]
pub struct Answers<'a> {
    /// The person who has rejected it, with the signature.
    pub rejection: Option<&'a (String, SignedStatement)>,
    /// Who may answer now, if there is a request.
    pub answerers: Option<&'a CurrentApprovers>,
}

/// A job on one page.
pub fn page(
    fleet: &Fleet,
    job: &Job,
    event: &Value,
    runs: &[RunRecord],
    answers: Answers<'_>,
    (state, turn): (&Path, Option<QueuePosition>),
) -> Page {
    let mut page = Page::new();
    let retrain = fleet.retrain_of(&job.model);
    page.line(format_args!("job {}", job.id));
    page.line(format_args!("  model      {}", job.model));
    if let Some(retrain) = retrain {
        page.line(format_args!("  team       {}", retrain.team));
        page.line(format_args!("  trained by {} on {}", retrain.executor.name(), retrain.resource));
    }
    let why = job.state.reason();
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    page.line(format_args!("  state      {} since {}{why}", job.state.name().replace('_', " "), job.since));
    if let Some(turn) = turn {
        page.line(format_args!("  queue      {}", turn.sentence()));
    }
    page.line(format_args!("  requested  {}, deadline {}", job.requested_at, job.deadline));
    page.section(format_args!("why: the {} trigger", job.trigger));
    for line in trigger::evidence(&job.trigger, &event["data"]["details"], COLUMNS) {
        page.line(format_args!("  {line}"));
    }
    estimate(&mut page, fleet, job);
    question(&mut page, fleet, job, answers);
    decisions(&mut page, fleet, job, answers);
    trainings(&mut page, fleet, job, runs, state);
    gates(&mut page, job);
    page
}

/// What the gates said of the candidate.
fn gates(page: &mut Page, job: &Job) {
    let Some(report) = &job.gates else { return };
    page.section("gates");
    for gate in &report.gates {
        page.line(format_args!("  {:<18} {}: {}", gate.verdict.name().replace('_', " "), gate.name, gate.sentence));
        if let Some(advice) = &gate.advice {
            page.line(format_args!("  {:<18} {advice}", ""));
        }
    }
}

/// What a training costs, and what it gains.
fn estimate(page: &mut Page, fleet: &Fleet, job: &Job) {
    let (Some(estimate), Some(worth)) = (&job.estimate, &job.worth) else { return };
    let show = |amount: Money| fleet.governance.budget.currency.show(amount);
    page.section("cost and gain");
    page.line(format_args!(
        "  expected cost {} ({} to {}; declared {}, corrected by {} runs)",
        show(estimate.expected),
        show(estimate.low),
        show(estimate.high),
        show(estimate.declared),
        estimate.runs
    ));
    page.line(format_args!(
        "  lost {:.2} points ({}): {} per day; a training gains {} (at least {})",
        worth.points,
        worth.loss.name(),
        show(worth.stale_a_day),
        show(worth.gain),
        show(worth.gain_low)
    ));
    if let Some(metric) = worth.metric {
        page.line(format_args!("  {}", point(metric)));
    }
    for missing in &worth.missing {
        page.line(format_args!("  {}", missing.sentence()));
    }
    let days = worth.break_even(estimate.expected);
    let days = days.map_or_else(|| "never".into(), |days| format!("after {days:.1} days"));
    page.line(format_args!("  pays {days}; advice: {}", worth.advice(estimate)));
}

/// What approvers are asked, and how they answer.
fn question(page: &mut Page, fleet: &Fleet, job: &Job, answers: Answers<'_>) {
    let JobState::AwaitingApproval(request) = &job.state else { return };
    let (currency, retrain) = (&fleet.governance.budget.currency, fleet.retrain_of(&job.model));
    page.section("approval");
    for reason in &request.reasons {
        page.line(format_args!("  {}", reason.sentence(currency)));
    }
    let rules = &fleet.governance.approval;
    let level = approvers::level(rules, request);
    // A person who was added to the fleet file since then was not asked.
    let may_answer = answers.answerers.map_or(&[][..], |answerers| &answerers.may_answer);
    let asked = rules.approvers.get(level).into_iter().flatten().filter(|name| may_answer.contains(name));
    let asked: Vec<&str> = asked.map(String::as_str).collect();
    let asked = if asked.is_empty() { "nobody can answer any more".to_owned() } else { asked.join(", ") };
    page.line(format_args!(
        "  requested from: {asked} (level {} of {}), answer due {}",
        level + 1,
        rules.approvers.len(),
        request.due
    ));
    if let Some(answerers) = answers.answerers {
        page.line(format_args!("  {}", answerers.sentence));
    }
    let stakes = retrain.map(|retrain| retrain.stakes).unwrap_or_default();
    let wanted = signature::signature_reason(rules, &request.reasons, stakes);
    let when_asked = answers.answerers.filter(|answerers| answerers.must_be_signed);
    let wanted = wanted.or(when_asked.map(|_| "the request was made under a rule that requires it".into()));
    let sign = if wanted.is_some() { " --sign KEYFILE" } else { "" };
    if let Some(why) = wanted {
        page.line(format_args!("  the answer must be signed ({why})"));
    }
    let overrun = request.overruns().iter().map(|overrun| overrun.by).max();
    let overrun = overrun.map(|by| format!(" --overrun {}", by.plain())).unwrap_or_default();
    page.line(format_args!("  driftsweep approve {} --by NAME --reason TEXT{overrun}{sign}", &job.id));
}

/// What was allowed or rejected, and by whom.
fn decisions(page: &mut Page, fleet: &Fleet, job: &Job, answers: Answers<'_>) {
    let currency = &fleet.governance.budget.currency;
    if !job.grants.is_empty() {
        page.section("allowed");
    }
    for grant in &job.grants {
        let by = match &grant.by {
            GrantedBy::Policy => "policy",
            GrantedBy::Person(name) => name,
        };
        page.line(format_args!("  {} by {}: {}", grant.at, by, grant.reason));
        for overrun in &grant.overruns {
            page.line(format_args!("    {}", overrun.sentence(currency)));
        }
        if let Some(signed) = &grant.signature {
            page.line(format_args!("    {}", signature_line(fleet, signed, by)));
        }
    }
    if let Some((by, signed)) = answers.rejection {
        page.section("rejected");
        page.line(format_args!("  {}", signature_line(fleet, signed, by)));
    }
}

/// The runs of the job, and the last output of one that has just failed.
fn trainings(page: &mut Page, fleet: &Fleet, job: &Job, runs: &[RunRecord], state: &Path) {
    let show = |amount: Money| fleet.governance.budget.currency.show(amount);
    if !runs.is_empty() {
        page.section("runs");
    }
    for run in runs {
        let end = run.ended.as_ref().map_or_else(
            || format!("running, {} reserved", show(run.committed)),
            |(at, outcome, cost)| format!("{outcome} {at}, {}", show(*cost)),
        );
        let folder = scheduler::run_folder(state, &job.id, run.attempt);
        page.line(format_args!("  {} {}: {end}; {}", run.attempt, run.started_at, folder.display()));
    }
    let failed = runs.iter().rev().find(|run| run.ended.as_ref().is_some_and(|(_, outcome, _)| outcome != "succeeded"));
    if let Some(run) = failed.filter(|run| runs.last().is_some_and(|last| last.attempt == run.attempt)) {
        let lines = last_lines(&scheduler::run_folder(state, &job.id, run.attempt));
        if !lines.is_empty() {
            page.section("last lines of its output");
        }
        for line in lines {
            page.line(format_args!("  {line}"));
        }
    }
}

/// The key that signed an answer, and its owner by the fleet file.
pub fn signature_line(fleet: &Fleet, signed: &SignedStatement, by: &str) -> String {
    let key = match signed.verify() {
        Ok(key) => key,
        Err(problem) => return format!("NOT SIGNED: {}", problem),
    };
    let whose = match fleet.governance.approval.owner_of(key.key_data()) {
        Some(owner) if owner == by => format!("a key of {}", owner),
        Some(owner) => format!("a key of {}, who is a different person", owner),
        None => "a key that the fleet file does not list (any more)".into(),
    };
    format!("signed with {}, {whose}", signature::fingerprint(&key))
}

/// The last lines of the output of a run on this machine; long ones are cut short. Nothing, where there is no output here.
fn last_lines(folder: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    for name in ["output.1.log", "output.log"] {
        // The command may have put a link or a pipe in its place.
        let opened = atomic::open_regular(&folder.join(name), OpenOptions::new().read(true));
        let Ok(mut file) = opened else { continue };
        let length = file.metadata().map_or(0, |found| found.len());
        let read = file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)));
        let _ = read.and_then(|_| file.take(LOG_BYTES).read_to_end(&mut bytes));
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let short = |line: &&str| line.chars().take(LINE).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(short).collect()
}
