//! `driftsweep explain`

use clap::Args;
use driftsweep_extensions::trigger::labels::LabelCounts;
use driftsweep_extensions::trigger::{Evaluation, ExplainView, LabelsShown, Sheet, Shown};
use driftsweep_fleet::{Fleet, Labels, Model, Origin, Trigger};
use driftsweep_ops::formats::EVALUATIONS;
use driftsweep_ops::rollouts::{self, described};
use driftsweep_ops::scheduler::{self, CurrentApprovers};
use driftsweep_ops::store::{Access, Firing, Store, VersionedRollout};
use driftsweep_release::Decision;
use driftsweep_report::output::{Page, Table};
use jiff::Timestamp;
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
    let rollout = rollout(&fleet, &mut store, model, at)?;
    if args.format == TextFormat::Json {
        let mut page = json!({ "evaluation": found, "firings": firings });
        if let Some((job, answerers)) = question {
            page["question"] = json!({ "job": job, "answer": answerers });
        }
        if let Some((sentence, decision)) = rollout {
            page["rollout"] = json!({ "sentence": sentence, "next": decision });
        }
        super::write_json(&page)?;
        return Ok(0);
    }
    let mut page = render(model, &found, &firings, &mut store)?;
    if let Some((job, answerers)) = question {
        page.section(format_args!("job {job} waits for approval until {}: {}", answerers.due, answerers.sentence));
    }
    if let Some((sentence, decision)) = rollout {
        let next = decision.map(|decision| format!("; next: {}: {}", decision.name(), decision.reason()));
        page.section(format_args!("release: {sentence}{}", next.unwrap_or_default()));
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

/// The release of a model that is under way, or that the next tick begins, and what it decides next.
fn rollout(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    at: Timestamp,
) -> anyhow::Result<Option<(String, Option<Decision>)>> {
    if let Some(VersionedRollout { rollout, .. }) = store.open_rollout(&model.name)? {
        let now = if at == Timestamp::MAX { Timestamp::now() } else { at };
        let (next, _) = rollouts::next(fleet, store, model, &rollout, now)?;
        return Ok(Some((described(&rollout), Some(next))));
    }
    if model.rollout.is_none() {
        return Ok(None);
    }
    let candidate = rollouts::candidate(store, model)?;
    Ok(candidate
        .map(|(version, _)| (format!("version {} is accepted, and begins with the next tick", version.version), None)))
}

fn quality(args: &ExplainArgs, store: &mut Store) -> anyhow::Result<u8> {
    let entries = store.quality(&args.model, Timestamp::MIN)?;
    if args.format == TextFormat::Json {
        super::write_json(&entries)?;
        return Ok(0);
    }
    let mut table = Table::new(["sweep", "kind", "metric", "predictions from", "before", "rows", "value", "interval"]);
    table.less_important(&["predictions from", "before", "rows", "interval"]);
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
    for trigger in Trigger::in_order_of_page() {
        let last = firings.iter().rev().find(|firing| firing.trigger == trigger.name());
        let view = ExplainView {
            trigger,
            as_of: found.as_of,
            zone: &model.zone,
            inactive: model.triggers.inactive(trigger, model.labels.is_some()),
            last: last.map(|firing| (firing.due, &*firing.outcome)),
            labels: found.labels.zip(model.labels.as_ref()).map(|(counts, labels)| labels_shown(counts, labels)),
            labels_error: found.labels_error.as_deref(),
        };
        let mut sheet = Sheet::default();
        model.triggers.explain(found, &view, &mut sheet);
        sheet.0.into_iter().for_each(|part| show(&mut page, part));
    }
    Ok(page)
}

/// How labels were used, and as what they are read.
fn labels_shown(counts: LabelCounts, labels: &Labels) -> LabelsShown {
    let origin = if labels.missing.0.is_some() { Origin::Model } else { Origin::BuiltIn };
    LabelsShown { counts, missing: labels.missing.texts().iter().map(ToString::to_string).collect(), origin }
}

/// Puts a part of what is shown of a trigger on the page.
fn show(page: &mut Page, part: Shown) {
    match part {
        Shown::Section(text) => page.section(text),
        Shown::Line(text) => page.line(text),
        Shown::Table { heading, rows } => {
            let mut table = Table::new(heading);
            table.less_important(&["q", "over", "limit"]);
            rows.into_iter().for_each(|row| table.row(row));
            page.table(table);
        }
    }
}
