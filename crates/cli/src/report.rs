//! `driftsweep report`

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::sweep::SweepReport;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage::{self, StoredFile};
use driftsweep_extensions::value::listed;
use driftsweep_fleet::Fleet;
use driftsweep_ops::retrain::Job;
use driftsweep_ops::retrain::budget::BudgetScope;
use driftsweep_ops::scheduler;
use driftsweep_ops::store::{Firing, Store};
use driftsweep_report::output::Document;
use driftsweep_report::report::html::{EventLine, HistoryLines, HtmlPage, JobLine, index};
use driftsweep_report::report::{RenderOptions, Report, ReportFormat};
use jiff::Timestamp;

use super::fleet_store::code_after_reading;
use super::past_sweep::{PastSweep, PastSweepArgs};
use super::state::earlier;
use super::{sink, write};

#[derive(Args)]
pub struct ReportArgs {
    #[command(flatten)]
    sweep: PastSweepArgs,
    #[arg(long, default_value = "html", value_name = "FORMAT", help = listed(&ReportFormat::ALL.map(|format| format.name), "or"))]
    format: ReportFormat,
    /// File to write instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the page into this folder, which may be the address of one in an object store, under the name of the sweep,
    /// and an index.html that lists all pages in it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "format"])]
    index: Option<PathBuf>,
    /// Most features shown in a table, most drifted first; 0 for all
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

/// Finished jobs on a page, at most, the newest.
const MAX_FINISHED: usize = 20;

pub fn run(args: &ReportArgs) -> anyhow::Result<u8> {
    if args.index.is_none() && args.output.is_none() && !args.format.is_for_terminal && sink::is_terminal() {
        let reason = "is not for a terminal; add --output FILE, or --index DIR";
        return Err(super::invalid_value(&format!("--format {}", args.format.name), reason));
    }
    let PastSweep { fleet, history, report, as_of } = args.sweep.read()?;
    let (document, code) = if args.format.name == "html" {
        let lines = earlier(&history, as_of);
        let (governance, code) = match args.sweep.store(&fleet)? {
            Some(store) => governance(store, &fleet, &lines, as_of).map(|(found, code)| (Some(found), code))?,
            None => (None, 0),
        };
        (page(&report, lines, governance).render()?, code)
    } else {
        let options = RenderOptions { top: args.top, history: &HistoryLines::default };
        (args.format.render(Report::Sweep(&report), &options)?, 0)
    };
    match (&args.index, &args.output) {
        (Some(folder), _) => {
            let path = storage::join(folder, &format!("{}.html", report.id));
            sink::write_file(&path, &document)?;
            sink::write_file(&storage::join(folder, INDEX), &index_of(folder)?)?;
            say!("{}", path.display());
        }
        (None, Some(path)) => sink::write_file(path, &document)?,
        (None, None) => write(document)?,
    }
    Ok(code)
}

fn page(report: &SweepReport, history: HistoryLines, governance: Option<Governance>) -> HtmlPage<'_> {
    let page = HtmlPage { history, ..HtmlPage::new(Report::Sweep(report)) };
    match governance {
        Some(Governance { events, jobs, budget }) => HtmlPage { events: Some(events), jobs, budget, ..page },
        None => page,
    }
}

/// What a store has about a sweep.
struct Governance {
    events: Vec<EventLine>,
    jobs: Vec<JobLine>,
    budget: Option<String>,
}

/// The triggers that fired since the sweep before, and the retrains; with the exit code for rows that were left out.
fn governance(mut store: Store, fleet: &Fleet, earlier: &HistoryLines, as_of: Timestamp) -> Result<(Governance, u8)> {
    let former = earlier.last_night().unwrap_or(Timestamp::MIN);
    let jobs: Vec<Job> = store.jobs("")?.into_iter().map(|versioned| versioned.job).collect();
    let states: HashMap<&str, String> = jobs.iter().map(|job| (&*job.id, state_of(job))).collect();
    let firings = store.firings(None, former)?;
    // The time of the sweep before is known to the second.
    let fired = firings.iter().filter(|firing| firing.due.as_second() > former.as_second() && firing.due <= as_of);
    let events = fired.map(|firing| event_line(firing, &states)).collect();
    let mut shown: Vec<&Job> = jobs.iter().filter(|job| !job.state.is_final()).collect();
    let finished = jobs.iter().filter(|job| job.state.is_final() && job.since > former);
    let finished: Vec<&Job> = finished.collect();
    shown.extend(finished.iter().rev().take(MAX_FINISHED));
    let mut lines = Vec::new();
    for job in shown {
        lines.push(job_line(fleet, &mut store, job)?);
    }
    let has_retrains = fleet.models.iter().any(|model| model.retrain.is_some());
    let budget = has_retrains.then(|| budget(fleet, &mut store, as_of)).transpose()?.flatten();
    let code = code_after_reading(&mut store);
    Ok((Governance { events, jobs: lines, budget }, code))
}

fn state_of(job: &Job) -> String {
    let why = job.state.reason();
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("{}{why}", job.state.name().replace('_', " "))
}

fn event_line(firing: &Firing, states: &HashMap<&str, String>) -> EventLine {
    let job = match &firing.event {
        Some(event) => states.get(&**event).map_or_else(|| event.clone(), |state| format!("{event}, {state}")),
        // Muted, or in its cooldown.
        None => firing.outcome.clone(),
    };
    EventLine {
        model: firing.model.clone(),
        trigger: firing.trigger.clone(),
        reason: firing.reason.clone(),
        at: firing.due.to_string(),
        job,
    }
}

fn job_line(fleet: &Fleet, store: &mut Store, job: &Job) -> Result<JobLine> {
    let currency = &fleet.governance.budget.currency;
    let answerers = scheduler::answerers(fleet, store, job)?;
    let asked = answerers.map(|answerers| match &answerers.may_answer[..] {
        [] => "nobody can answer any more".into(),
        names => format!("{}, until {}", names.join(", "), answerers.due),
    });
    Ok(JobLine {
        id: job.id.clone(),
        model: job.model.clone(),
        trigger: job.trigger.clone(),
        state: state_of(job),
        asked: asked.unwrap_or_default(),
        expected: job.estimate.map(|estimate| currency.show(estimate.expected)).unwrap_or_default(),
        spent: currency.show(job.spent),
    })
}

/// The budget of the fleet in the month of the sweep, in a sentence.
fn budget(fleet: &Fleet, store: &mut Store, as_of: Timestamp) -> Result<Option<String>> {
    let ledger = scheduler::ledger(fleet, store, as_of)?;
    let statuses = scheduler::budget_statuses(fleet, &ledger, as_of);
    let of_fleet = statuses.iter().find(|status| status.scope == BudgetScope::Fleet);
    Ok(of_fleet.map(|status| {
        let currency = &fleet.governance.budget.currency;
        format!(
            "Budget of {}: {} spent and {} set aside of {}; {} expected by the end of the month.",
            ledger.month().strftime("%Y-%m"),
            currency.show(status.spent),
            currency.show(status.committed),
            currency.show(status.budget),
            currency.show(status.forecast),
        )
    }))
}

/// The name of the index in its folder.
const INDEX: &str = "index.html";

/// The index of the pages in a folder. Other files in it are left alone.
fn index_of(folder: &Path) -> Result<Document> {
    let mut nights = Vec::new();
    for path in storage::list(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_here = storage::join(folder, name) == path;
        if !is_here || name == INDEX || !name.ends_with(".html") {
            continue;
        }
        let unreadable = |reason| Error::Unreadable { path: path.as_path().into(), reason };
        let head = StoredFile::open(&path).and_then(|file| {
            let mut head = Vec::new();
            file.reader().take(index::HEAD_BYTES).read_to_end(&mut head).map_err(|e| unreadable(e.to_string()))?;
            Ok(head)
        });
        match head {
            Ok(head) => nights.extend(index::night(name, &head)),
            Err(error) => warn!("left out of the index: {error}"),
        }
    }
    index::render(nights)
}
