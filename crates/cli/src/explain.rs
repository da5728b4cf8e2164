//! `driftsweep explain`

use clap::Args;
use driftsweep::metric::performance::Measurement;
use driftsweep::model::Role;
use driftsweep::rule;
use driftsweep_fleet::{Fleet, Model, Quorum, Setting, Trigger};
use driftsweep_ops::formats::EVALUATIONS;
use driftsweep_ops::policy::Evaluation;
use driftsweep_ops::policy::drift::{DriftColumn, DriftComparison, DriftVerdict};
use driftsweep_ops::policy::performance::{
    LabelCounts, PerformanceStatus, PerformanceVerdict, PredictionSpan, VolumeVerdict,
};
use driftsweep_ops::scheduler::{self, CurrentApprovers};
use driftsweep_ops::store::{Access, Firing, Store};
use driftsweep_report::output::{Page, Table};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::TextFormat;
use super::fleet_store::FleetStoreArgs;
use super::time_arg::TimeArg;

#[derive(Args)]
pub struct ExplainArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Explain the last sweep up to this time; same format as in `tick` [default: the last sweep]
    #[arg(long, value_name = "TIME")]
    at: Option<TimeArg>,
    /// Show how well the model predicted at every sweep: realised, and as estimated without labels
    #[arg(long)]
    quality: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

pub fn run(args: &ExplainArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Read)?;
    let model = super::model_of(&fleet, &args.model)?;
    if args.quality {
        return quality(args, &mut store);
    }
    let at = args.at.as_ref().map(|at| at.resolve("--at", &fleet.zone)).transpose()?.unwrap_or(Timestamp::MAX);
    let Some(verdict) = store.last_verdict(&args.model, at)? else {
        let reason = "no tick had swept it by that time; run `driftsweep tick`";
        return Err(super::invalid_value(&format!("model '{}'", args.model), reason));
    };
    if verdict.body.is_empty() {
        let reason = format!("the figures of {} are in the history only: `driftsweep history`", verdict.as_of);
        return Err(super::invalid_value(&format!("model '{}'", args.model), &reason));
    }
    let found: Evaluation = EVALUATIONS.read(&verdict.body).map_err(|e| {
        let what = format!("figures of model '{}' at {}", args.model, verdict.as_of);
        super::invalid_value(&what, &format!("cannot be read: {e}"))
    })?;
    let firings: Vec<Firing> = store.firings(Some(&args.model), Timestamp::MIN)?;
    let firings: Vec<Firing> = firings.into_iter().filter(|firing| firing.due <= at).collect();
    let question = question(&fleet, &mut store, model)?;
    if args.format == TextFormat::Json {
        let mut page = json!({ "evaluation": found, "firings": firings });
        if let Some((job, answerers)) = question {
            page["question"] = json!({ "job": job, "answer": answerers });
        }
        super::write_json(&page)?;
        return Ok(0);
    }
    let mut page = render(model, &found, &firings, &mut store)?;
    if let Some((job, answerers)) = question {
        page.section(format_args!("job {job} waits for approval until {}: {}", answerers.due, answerers.sentence));
    }
    if let Some(outdated) = store.outdated_baseline(&fleet, model, found.as_of)? {
        page.section(outdated.sentence(&fleet.zone));
    }
    super::write(page)?;
    Ok(0)
}

/// The job of a model that waits for approval, and the current approvers.
fn question(fleet: &Fleet, store: &mut Store, model: &Model) -> anyhow::Result<Option<(String, CurrentApprovers)>> {
    let waiting = store.jobs_in("awaiting_approval")?.into_iter().map(|versioned| versioned.job);
    let Some(job) = waiting.rev().find(|job| job.model == model.name) else { return Ok(None) };
    Ok(scheduler::answerers(fleet, store, &job)?.map(|answerers| (job.id, answerers)))
}

fn quality(args: &ExplainArgs, store: &mut Store) -> anyhow::Result<u8> {
    let entries = store.quality(&args.model, Timestamp::MIN)?;
    if args.format == TextFormat::Json {
        super::write_json(&entries)?;
        return Ok(0);
    }
    let mut table = Table::new(["sweep", "kind", "metric", "predictions from", "before", "rows", "value", "interval"]);
    for entry in &entries {
        table.row([
            entry.as_of.to_string(),
            entry.kind.clone(),
            entry.metric.clone(),
            entry.since.to_string(),
            entry.before.to_string(),
            entry.rows.to_string(),
            format!("{:.4}", entry.value),
            format!("{:.4} to {:.4}", entry.low, entry.high),
        ]);
    }
    super::write(Page::from(table))?;
    Ok(0)
}

/// A setting and where it was set.
fn setting_text<T: std::fmt::Display>(given: &Setting<T>) -> String {
    format!("{} ({})", given.value, given.origin.name())
}

fn render(model: &Model, found: &Evaluation, firings: &[Firing], store: &mut Store) -> anyhow::Result<Page> {
    let mut page = Page::new();
    page.line(format_args!("{}, sweep of {}", found.model, found.as_of));
    if let Some(baseline) = &found.baseline {
        page.line(format_args!("  compared with {baseline}"));
    }
    let now: Vec<&Firing> = firings.iter().filter(|firing| firing.due == found.as_of).collect();
    for firing in &now {
        let event = firing.event.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
        page.line(format_args!("  {} fired, {}{event}: {}", firing.trigger, firing.outcome, firing.reason));
    }
    if now.is_empty() {
        page.line("  no trigger fired");
    }
    for event in store.open_events()?.iter().filter(|event| event.model == found.model) {
        page.line(format_args!("  open event {}, since {}, by {}", event.id, event.triggered_at, event.trigger));
    }
    for waiting in store.waiting()?.iter().filter(|waiting| waiting.model == found.model) {
        page.line(format_args!(
            "  the sweep of {} waits for data, and is retried until {}: {}",
            waiting.as_of, waiting.until, waiting.reason
        ));
    }
    for mute in store.mutes()?.iter().filter(|mute| mute.model == found.model && mute.until > found.as_of) {
        let what = if mute.trigger.is_empty() { "all triggers" } else { &mute.trigger };
        page.line(format_args!("  {what} muted until {} by {}: {}", mute.until, mute.set_by, mute.reason));
    }
    if !found.off.value.is_empty() {
        let names: Vec<&str> = found.off.value.iter().map(|trigger| trigger.name()).collect();
        page.line(format_args!("  off ({}): {}", found.off.origin.name(), names.join(", ")));
    }
    drift(&mut page, &found.drift);
    match (&found.performance, &found.labels_error) {
        (Some(performance), _) => {
            self::performance(&mut page, performance);
            labels(&mut page, model, found.labels);
        }
        (None, Some(error)) => {
            page.section(format_args!("performance and volume: not judged, because of the labels: {error}"));
        }
        (None, None) => {
            for trigger in [Trigger::Performance, Trigger::Volume] {
                if let Some(why) = model.triggers.inactive(trigger, model.labels.is_some()) {
                    page.section(format_args!("{}: {why}", trigger.name()));
                }
            }
        }
    }
    if let Some(volume) = &found.volume {
        self::volume(&mut page, volume);
    }
    let schedule = &model.triggers.schedule;
    match &schedule.value {
        None => page.section("schedule: none is set"),
        Some(cron) => {
            let last = firings.iter().rev().find(|firing| firing.trigger == Trigger::Schedule.name());
            let last = last.map(|firing| format!("; last {} ({})", firing.due, firing.outcome)).unwrap_or_default();
            let next = cron.next(found.as_of, &model.zone).map_or("never".into(), |next| next.to_string());
            page.section(format_args!("schedule: {} ({}), next {next}{last}", cron.text(), schedule.origin.name()));
        }
    }
    Ok(page)
}

fn drift(page: &mut Page, found: &DriftVerdict) {
    let quorum = match found.quorum.value {
        Quorum::AtLeast(least) => format!("at least {least} columns"),
        Quorum::Share(share) => format!("{} % of the columns", 100.0 * share),
        Quorum::WeightedShare(share) => format!("{} % of the importance of the columns", 100.0 * share),
    };
    page.section(format_args!("drift: {}", if found.fired { "fires" } else { "does not fire" }));
    page.line(format_args!(
        "  needs {quorum} ({}), each over its threshold at {} of {} sweeps ({}; {} available), with tests at a false \
         discovery rate of {}",
        found.quorum.origin.name(),
        found.persistence.value.hits,
        found.persistence.value.of,
        found.persistence.origin.name(),
        found.sweeps,
        setting_text(&found.fdr)
    ));
    for comparison in &found.comparisons {
        self::comparison(page, found, comparison);
    }
}

fn comparison(page: &mut Page, found: &DriftVerdict, comparison: &DriftComparison) {
    let mut place = String::new();
    for (what, name) in [("window", &comparison.window), ("segment", &comparison.segment)] {
        if !name.is_empty() {
            place += &format!("{what} {name}, ");
        }
    }
    if let Some(error) = &comparison.error {
        page.line(format_args!("  {place}not compared: {error}"));
        return;
    }
    page.line(format_args!(
        "  {place}{} of {} columns drift ({:.1} %; {:.1} % of the importance)",
        comparison.drifting,
        comparison.judged,
        100.0 * comparison.share,
        100.0 * comparison.weighted_share
    ));
    for failed in &comparison.failed {
        page.line(format_args!("  not judged: {failed}"));
    }
    let mut table = Table::new(["column", "figure", "value", "limit", "q", "over", "counts as drift, or would if"]);
    for column in &comparison.columns {
        for (i, signal) in column.signals.iter().enumerate() {
            let figure = &signal.figure;
            let name = if i == 0 { column.feature.clone() } else { String::new() };
            let role = match column.role {
                _ if i > 0 => "",
                Role::Feature => "",
                Role::Prediction => " (prediction)",
                Role::Label => " (label)",
            };
            table.row([
                name + role,
                figure.metric.clone(),
                format!("{:.4}", figure.value),
                format!("{} ({})", figure.limit, signal.origin.name()),
                figure.q_value.map_or("–".into(), |q| format!("{q:.1e}")),
                if i == 0 { format!("{} of {}", column.hits, found.sweeps) } else { String::new() },
                change(column, figure, found),
            ]);
        }
    }
    page.table(table);
}

/// What would have to change for a figure to count as drift.
fn change(column: &DriftColumn, signal: &rule::Signal, found: &DriftVerdict) -> String {
    match (signal.over, signal.significant) {
        (true, true) if column.drifts => "drifts".into(),
        (true, true) => {
            format!(
                "it is over its threshold at {} of {} sweeps",
                found.persistence.value.hits, found.persistence.value.of
            )
        }
        (true, false) => format!("its q is at most {}", found.fdr.value),
        (false, _) if signal.value.abs() > signal.limit => match &*signal.metric {
            "ks" | "missing" => format!("its p-value is below {}_p, too", signal.metric),
            _ => "it is above its noise level, too".into(),
        },
        (false, _) => format!("{} is above {}", signal.metric, signal.limit),
    }
}

fn measured(found: Option<Measurement>) -> String {
    found.map_or("–".into(), |m| format!("{:.4} ({:.4} to {:.4}, {} rows)", m.value, m.low, m.high, m.rows))
}

fn span(found: &PredictionSpan) -> String {
    let matured = 100.0 * found.matured();
    format!("{} predictions from {} to {}, {matured:.1} % with a label", found.predictions, found.since, found.before)
}

fn performance(page: &mut Page, found: &PerformanceVerdict) {
    let metric = setting_text(&found.metric);
    page.section(format_args!("performance: {}", found.status.name()));
    let higher = found.metric.value.higher_is_better();
    let side = if higher { "below" } else { "above" };
    match found.level.value {
        None => page.line(format_args!("  {metric} has no level; set trigger.performance.level")),
        Some(level) => {
            let warning = found
                .warning
                .value
                .map_or(String::new(), |warning| format!(", warns {side} {warning} ({})", found.warning.origin.name()));
            page.line(format_args!(
                "  {metric} triggers {side} {level} ({}){warning}, when its whole {} confidence interval is, over the \
                 newest {} of at least {}",
                found.level.origin.name(),
                setting_text(&found.confidence),
                setting_text(&found.rows),
                setting_text(&found.min_labels)
            ));
        }
    }
    let wait = SignedDuration::from_secs(found.maturity_seconds).as_secs_f64() / 86_400.0;
    match (found.status, found.maturity_learned, found.delay_declared) {
        (PerformanceStatus::DelayUnknown, ..) => page.line("  the label delay is not known yet"),
        (_, true, _) => {
            page.line(format_args!("  label delay: {wait:.1} days (learned: 95 % of labels arrive by then)"))
        }
        (_, false, true) => page.line(format_args!("  label delay: {wait:.1} days (declared)")),
        (_, false, false) => page.line(format_args!("  label delay: {wait:.1} days (built in)")),
    }
    page.line(format_args!("  matured: {}", span(&found.matured)));
    let proxy = if found.proxy { ", using the proxy where labels are missing" } else { "" };
    page.line(format_args!("    realised  {}{proxy}", measured(found.realised)));
    page.line(format_args!("    estimated {} over the same rows", measured(found.reconciled)));
    page.line(format_args!("  newest: {}", span(&found.fresh)));
    match (found.estimated, &found.no_estimate) {
        (Some(_), _) => {
            page.line(format_args!("    estimated {} (an estimate never triggers)", measured(found.estimated)))
        }
        (None, Some(reason)) => page.line(format_args!("    no estimate: {reason}")),
        (None, None) => page.line("    no estimate: these predictions have no scores"),
    }
    if let Some(reason) = found.not_judged() {
        page.line(format_args!("  not judged: {reason}"));
    } else if let (PerformanceStatus::Ok | PerformanceStatus::Warning, Some(m), Some(level)) =
        (found.status, found.realised, found.level.value)
    {
        let end = if higher { m.high } else { m.low };
        page.line(format_args!("  it would fire if the end of its interval, {end:.4}, were {side} {level}"));
    }
}

/// How the labels that were read were used.
fn labels(page: &mut Page, model: &Model, counts: Option<LabelCounts>) {
    let (Some(counts), Some(labels)) = (counts, &model.labels) else { return };
    page.section(format_args!("labels: {} known, {} belong to a prediction", counts.labels, counts.met));
    for (rows, what) in [
        (counts.early, "arrived before every prediction of their id and match none of these"),
        (counts.undated, "have no arrival time and are skipped"),
        (counts.rewritten, "were written again later with another value; the first one is used"),
        (counts.contradicting, "labels or predictions of the same id and time contradict each other and are skipped"),
        (counts.superseded, "predictions were made again before their label arrived and are skipped"),
    ] {
        if rows > 0 {
            page.line(format_args!("  {rows} {what}"));
        }
    }
    let missing: Vec<String> = labels.missing.texts().iter().map(|text| format!("{text:?}")).collect();
    let origin = if labels.missing.0.is_some() { "model" } else { "built in" };
    page.line(format_args!("  read as missing ({origin}): {}", missing.join(", ")));
}

fn volume(page: &mut Page, found: &VolumeVerdict) {
    let missing = found.wanted.value.saturating_sub(found.labels);
    let change = match (found.set, missing) {
        (true, 0) => "fires".into(),
        (true, _) => format!("{missing} more are needed to fire"),
        (false, 0) => "the trigger is not set; with [trigger.volume] it would fire".into(),
        (false, _) => format!("the trigger is not set; with [trigger.volume] {missing} more are needed to fire"),
    };
    page.section(format_args!(
        "volume: {} new labels since {}, {} are needed: {change}",
        found.labels,
        found.since,
        setting_text(&found.wanted)
    ));
}
