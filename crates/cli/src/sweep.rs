//! `driftsweep sweep`

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use driftsweep::count::ChosenCounter;
use driftsweep::model::Options;
use driftsweep::sweep::{SweepRun, SweepSurvey};
use driftsweep_common::duration::Length;
use driftsweep_report::output::{Page, Table};
use driftsweep_report::report::{RenderOptions, Report};
use jiff::Timestamp;

use super::fleet_store::{StoreLocationArgs, read_fleet};
use super::state::{StateArgs, SweepState};
use super::{Bar, EngineArgs, OutputArgs};

#[derive(Args)]
pub struct SweepArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// Metrics, comma-separated [default: those of the fleet file]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    metrics: Vec<String>,
    /// Stop after this time, for example 45m or 1h30m: the most important models come first, and the rest is listed as
    /// not covered (exit code 12)
    #[arg(long, value_name = "DURATION")]
    deadline: Option<Length>,
    /// Show what would be read and compared, the time and the memory it would take; compare nothing
    #[arg(long)]
    dry_run: bool,
    /// Show the same on standard error, then sweep
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    store: StoreLocationArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Done, but the deadline was reached before some models.
pub const NOT_COVERED: u8 = 12;

pub fn run(args: &SweepArgs) -> anyhow::Result<u8> {
    let started = Instant::now();
    args.output.check()?;
    let metrics = super::metric_set(&args.metrics)?;
    let options = args.engine.start(super::names_objects(&args.fleet))?;
    super::check_not_an_input(args.output.output.as_deref(), [args.fleet.as_path()])?;
    let mut fleet = args.store.with_baselines(&args.state.folders, &args.fleet, read_fleet(&args.fleet, &options)?)?;
    let inputs = fleet.models.iter().flat_map(|m| m.windows.iter().map(|w| &w.current).chain([&m.baseline]));
    super::check_not_an_input(args.output.output.as_deref(), inputs.map(|input| Path::new(input.expose())))?;
    if let Some(metrics) = metrics {
        fleet.models.iter_mut().for_each(|model| model.compared.options.metrics = metrics);
    }
    let now = Timestamp::now();
    if args.dry_run || args.explain {
        let survey = {
            let as_of = args.state.as_of(&fleet, now)?;
            fleet.at(as_of).plan(as_of).survey()
        };
        let chosen = args.engine.counter(|| survey.workload)?;
        let page = explain(&survey, &chosen, &options, args);
        if args.dry_run {
            super::write(page)?;
            return Ok(0);
        }
        page.to_string().lines().for_each(|line| say!("{line}"));
    }
    let state = SweepState::open(&args.state, &args.fleet, &fleet, now)?;
    let fleet = fleet.at(state.as_of());
    let plan = fleet.plan(state.as_of());
    let chosen = args.engine.counter(|| plan.survey().workload)?;
    let bar = Bar::new();
    let deadline = args.deadline.map(Length::unsigned);
    let time_is_up = || deadline.is_some_and(|deadline| started.elapsed() >= deadline);
    let run = SweepRun {
        progress: &bar,
        time_is_up: &time_is_up,
        journal: state.journal(),
        ..SweepRun::new(&*chosen.counter)
    };
    detail!(
        "sweep of {}: {} threads, {} of memory",
        state.as_of(),
        options.threads,
        bytesize::ByteSize(options.memory as u64)
    );
    let mut found = run.sweep(&plan);
    detail!(
        "{} columns read, used {} times, in {:.2} s",
        found.summary.columns_read,
        found.summary.columns_used,
        started.elapsed().as_secs_f64()
    );
    state.name(&mut found, &fleet);
    super::note(&mut found.engine, chosen);
    drop(bar);
    let history = || state.earlier();
    args.output.write(Report::Sweep(&found), &RenderOptions { top: args.output.top, history: &history })?;
    for failed in found.models.iter().filter_map(|m| Some((m, m.error.as_ref()?))) {
        warn!("model '{}'{}: {}", failed.0.model, place(&failed.0.window, &failed.0.segment), failed.1);
    }
    let missed = found.not_covered.len();
    if missed > 0 {
        const MAX_LISTED: usize = 20;
        let named = found.not_covered.iter().take(MAX_LISTED);
        let named: Vec<String> =
            named.map(|missed| format!("{}{}", missed.model, place(&missed.window, &missed.segment))).collect();
        let more = match missed.saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!(" … and {more} more; the report lists all"),
        };
        warn!(
            "{missed} comparisons were not, or not completely, covered before the deadline: {}{more}",
            named.join(", ")
        );
    }
    // An incomplete sweep keeps its journal: the next run covers the rest.
    state.append(&found)?;
    if missed == 0 {
        state.finish()?;
    }
    let s = found.summary;
    let code = args.output.code(s.drifted > 0, s.failed + s.failed_comparisons > 0);
    Ok(if missed > 0 { NOT_COVERED } else { code })
}

/// Window and segment, where there are any.
pub fn place(window: &str, segment: &str) -> String {
    [window, segment].iter().filter(|name| !name.is_empty()).map(|name| format!(" {name}")).collect()
}

fn explain(survey: &SweepSurvey, chosen: &ChosenCounter, options: &Options, args: &SweepArgs) -> Page {
    let threads = options.threads as f64;
    let top = args.output.top.unwrap_or(super::TOP);
    let size = |bytes: u64| bytesize::ByteSize(bytes).to_string();
    let mut table = Table::new(["", "model", "window", "segment", "rows", "features", "to read", "after"]);
    table.align_right(0..1);
    table.align_right(4..8);
    let (mut after, mut covered) = (0.0, 0);
    for (place, planned) in survey.comparisons.iter().enumerate() {
        after += planned.cpu_seconds / threads;
        covered += usize::from(args.deadline.is_none_or(|deadline| after <= deadline.unsigned().as_secs_f64()));
        if top == 0 || place < top {
            let rows = format!("{} → {}", planned.rows.baseline, planned.rows.current);
            table.row([
                (place + 1).to_string(),
                planned.model.clone(),
                planned.window.clone(),
                planned.segment.clone(),
                planned.error.as_ref().map_or(rows, |fault| fault.reason.clone()),
                planned.features.to_string(),
                size(planned.bytes),
                format!("{after:.1} s"),
            ]);
        }
    }
    let mut page = Page::from(table);
    let total = survey.comparisons.len();
    if top > 0 && total > top {
        page.line(format_args!("… and {} more; --top 0 shows all", total - top));
    }
    let features: usize = survey.comparisons.iter().map(|planned| planned.features).sum();
    let bytes: u64 = survey.comparisons.iter().map(|planned| planned.bytes).sum();
    page.line(format_args!("{total} comparisons of {features} features, most important models first"));
    page.line(format_args!(
        "{} to read: {} columns, used {} times; {} numeric values",
        size(bytes),
        survey.columns_read,
        survey.columns_used,
        survey.workload.values
    ));
    page.line(format_args!("counted by {}: {}", chosen.counter.name(), chosen.reason));
    page.line(format_args!("predicted: {after:.1} s on {} threads", options.threads));
    page.line(format_args!(
        "memory: counting stays under {} (--memory), figures and report need about {} in addition",
        size(options.memory as u64),
        size(survey.memory)
    ));
    if let Some(deadline) = args.deadline {
        page.line(format_args!("deadline: about {covered} of {total} comparisons within {:#}", deadline.signed()));
    }
    page
}
