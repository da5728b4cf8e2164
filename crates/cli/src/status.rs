//! `driftsweep status`

use clap::Args;
use driftsweep_ops::notify::{self, AuditedFact};
use driftsweep_ops::retrain::JobState;
use driftsweep_ops::store::{Access, Acknowledgement, Store};
use driftsweep_ops::tick::SweepStatus;
use driftsweep_report::output::Page;
use driftsweep_report::report::counted;
use jiff::Timestamp;
use serde_json::json;

use super::TextFormat;
use super::decision;
use super::fleet_store::{FleetStoreArgs, code_after_reading};

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Exit as a tick would: 12 if the deadline came before some models, 11 if something could not be compared; 0 once that is
    /// acknowledged
    #[arg(long)]
    exit_code: bool,
    /// With --exit-code: exit with 10 if the last sweep opened an event
    #[arg(long, requires = "exit_code")]
    fail_on_event: bool,
    /// Acknowledge the problems of the last sweep: ticks then exit with 0 until the next sweep, or until a new problem
    /// is found in this one
    #[arg(long, requires = "reason", conflicts_with = "exit_code")]
    acknowledge: bool,
    /// Who acknowledges [default: $USER]
    #[arg(long, value_name = "NAME", requires = "acknowledge")]
    by: Option<String>,
    /// The reason; it is stored in the audit
    #[arg(long, value_name = "TEXT", requires = "acknowledge")]
    reason: Option<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

/// The exit code of a sweep. An incomplete sweep cannot be acknowledged: the next tick continues it.
pub fn code(status: &SweepStatus, acknowledged: bool, fail_on_event: bool) -> u8 {
    if !status.complete {
        super::sweep::NOT_COVERED
    } else if acknowledged {
        0
    } else if fail_on_event && !status.events.is_empty() {
        super::DRIFT
    } else if status.is_partial() {
        super::PARTIAL
    } else {
        0
    }
}

pub fn run(args: &StatusArgs) -> anyhow::Result<u8> {
    if args.acknowledge {
        return acknowledge(args);
    }
    let (_, mut store) = args.memory.open(Access::Read)?;
    let found = SweepStatus::load(&mut store)?;
    let jobs = store.job_counts()?;
    let jobs: Vec<_> = jobs.into_iter().filter(|(state, _)| JobState::open_names().any(|open| open == state)).collect();
    let events = store.open_events()?.len();
    let skipped = code_after_reading(&mut store);
    match args.format {
        TextFormat::Json => {
            let (status, acknowledged) = found.as_ref().map_or((None, None), |(s, a)| (Some(s), a.as_ref()));
            let jobs: serde_json::Map<_, _> = jobs.into_iter().map(|(state, n)| (state, n.into())).collect();
            super::write_json(&json!({
                "status": status, "acknowledged": acknowledged, "open_events": events, "jobs": jobs,
            }))?;
        }
        TextFormat::Table => super::write(page(found.as_ref(), skipped != 0, events, &jobs))?,
    }
    Ok(match found {
        Some((status, acknowledged)) if args.exit_code => code(&status, acknowledged.is_some(), args.fail_on_event),
        _ => skipped,
    })
}

fn page(
    found: Option<&(SweepStatus, Option<Acknowledgement>)>,
    unreadable: bool,
    events: usize,
    jobs: &[(String, u64)],
) -> Page {
    let mut page = Page::new();
    match found {
        Some((status, acknowledged)) => show_sweep(&mut page, status, acknowledged.as_ref()),
        None if unreadable => page.line("the status of the last sweep cannot be read; the next sweep writes its own"),
        None => {
            page.line("no sweep has been run yet");
            return page;
        }
    }
    let jobs: Vec<String> = jobs.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " "))).collect();
    page.line(format_args!(
        "open events: {events}; jobs: {}",
        if jobs.is_empty() { "none".into() } else { jobs.join(", ") }
    ));
    page
}

/// What a sweep has found.
fn show_sweep(page: &mut Page, status: &SweepStatus, acknowledged: Option<&Acknowledgement>) {
    let whole = if status.complete { "" } else { ", not complete: the deadline was reached" };
    page.line(format_args!(
        "sweep of {}: {}, {}, {} drifted{whole}",
        status.as_of,
        counted(status.models, "model"),
        counted(status.features, "feature"),
        status.drifted
    ));
    for (model, waits) in &status.waiting {
        page.line(format_args!("  waiting     {}: {}; it is read again until {:.0}", model, waits.reason, waits.until));
    }
    for (model, all) in &status.failures {
        for fault in all {
            let cause = fault.cause.name().replace('_', " ");
            page.line(format_args!("  failed      {model}: {} ({cause})", fault.reason));
        }
    }
    for (what, found) in [("schema", &status.schema), ("not judged", &status.not_judged), ("refused", &status.refused)]
    {
        for (model, all) in found {
            for one in all {
                page.line(format_args!("  {what:<11} {}: {}", model, one));
            }
        }
    }
    for (model, warning) in &status.warnings {
        page.line(format_args!("  warning     {}: {}", model, warning));
    }
    if status.is_quiet() {
        page.line("  no problems");
    }
    if let Some(Acknowledgement { at, by, reason }) = acknowledged {
        page.line(format_args!("acknowledged at {at} by {}: {}", by, reason));
    }
    if !status.events.is_empty() {
        page.line(format_args!("events opened since: {}", status.events.join(", ")));
    }
}

fn acknowledge(args: &StatusArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Existing)?;
    let reason = decision::checked_reason(args.reason.as_deref().unwrap_or_default())?;
    let by = decision::decider(args.by.as_ref())?;
    let at = Timestamp::now();
    let seen = store.transaction(|store: &mut Store| {
        let Some((status, _)) = SweepStatus::load(store)? else {
            code_after_reading(store);
            return Ok(None);
        };
        let subject = format!("sweep {}", status.as_of);
        let body = json!({ "as_of": status.as_of, "reason": reason });
        store.acknowledge(at, &by, reason)?;
        notify::record(
            &fleet,
            store,
            AuditedFact { at, actor: &by, kind: "sweep.acknowledge", subject: &subject, body },
        )?;
        Ok(Some(status))
    })?;
    let Some(status) = seen else {
        return Err(super::invalid_value("--acknowledge", "there is no sweep to acknowledge"));
    };
    say!("the sweep of {} is acknowledged", status.as_of);
    Ok(0)
}
