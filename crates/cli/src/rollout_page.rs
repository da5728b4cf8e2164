//! The page of a release: for who decides about it, and for anyone who asks how a version came into production.

use driftsweep_extensions::trigger;
use driftsweep_fleet::Fleet;
use driftsweep_ops::retrain::{Job, ModelVersion, SignedStatement, VersionName};
use driftsweep_ops::rollouts::{self, ApprovalProblem};
use driftsweep_ops::store::{BaselineRecord, Record, Store};
use driftsweep_release::{Alarm, Decision, Finding, Rollout};
use driftsweep_report::output::{Page, Table};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job_page::signature_line;
use super::jobs::event_of;

/// All that is known of a release.
#[derive(Serialize)]
pub struct RolloutView<'a> {
    rollout: &'a Rollout,
    /// What the evidence says of each check.
    findings: Vec<Finding>,
    /// What a person should look at.
    alarms: Vec<Alarm>,
    /// What the next tick does.
    next: Decision,
    /// An approval that is missing, or does not count any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    unapproved: Option<ApprovalProblem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<ModelVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Job>,
    /// The event that it was trained for.
    event: Value,
    /// The baseline that came with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<BaselineRecord>,
    /// What was done, oldest first, by the audit.
    steps: Vec<Record>,
}

impl<'a> RolloutView<'a> {
    /// What the store knows of a release.
    pub fn load(fleet: &Fleet, store: &mut Store, rollout: &'a Rollout, now: Timestamp) -> anyhow::Result<Self> {
        let (next, unapproved) = match fleet.model(&rollout.model) {
            Some(model) => rollouts::next(fleet, store, model, rollout, now)?,
            None => (rollout.decide(now), None),
        };
        let version = store.version(&rollout.model, &VersionName::Number(rollout.version))?;
        let id = version.as_ref().and_then(|version| version.job.clone());
        let (mut job, mut event, mut baseline, mut steps) = (None, Value::Null, None, Vec::new());
        if let Some(id) = &id {
            job = store.job(id)?.map(|versioned| versioned.job);
            event = store.event_body(id)?.map(|body| event_of(store, id, &body)).unwrap_or_default();
            store.audit(id, |record| {
                steps.push(record);
                Ok(())
            })?;
            let entries = store.baseline_entries(Some(&rollout.model))?;
            baseline = entries.into_iter().find(|entry| entry.job.as_ref() == Some(id));
        }
        let of_version = Value::from(rollout.version);
        store.audit(&rollout.model, |record| {
            let is_own = record.body["version"] == of_version && record.kind != "rollout.observe";
            let is_baseline = id.is_some() && record.body["job"].as_str() == id.as_deref();
            if is_own || (is_baseline && record.kind.starts_with("baseline.")) {
                steps.push(record);
            }
            Ok(())
        })?;
        steps.sort_by_key(|record| record.seq);
        Ok(Self {
            findings: rollout.findings(),
            alarms: rollout.open_alarms(),
            next,
            unapproved,
            rollout,
            version,
            job,
            event,
            baseline,
            steps,
        })
    }
}

/// Drifted columns that are shown.
const COLUMNS: usize = 5;

/// A release on one page.
pub fn page(fleet: &Fleet, view: &RolloutView<'_>) -> Page {
    let RolloutView { rollout, version, job, event, baseline, .. } = view;
    let mut page = Page::new();
    let former = rollout.former.map(|former| format!(", in place of version {former}")).unwrap_or_default();
    page.line(format_args!("release of version {} of {}{former}", rollout.version, rollout.model));
    let reason = rollout.state.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
    page.line(format_args!(
        "  state      {} since {:.0}{reason}",
        rollout.state.name().replace('_', " "),
        rollout.since
    ));
    let moving = if rollout.moves_traffic() { ", which is being moved" } else { "" };
    page.line(format_args!("  traffic    a share of {}{moving}", rollout.wanted_share()));
    if let Some(observed) = rollout.share.observed() {
        page.line(format_args!("  observed   {observed:.4} of {} units in this stage", rollout.share.units));
    }
    if !rollout.state.is_final() {
        page.line(format_args!("  next       {}: {}", view.next.name(), view.next.reason()));
        if let Decision::Wait { rows_needed: Some(rows), .. } = view.next {
            page.line(format_args!(
                "             some {rows} more rows of the candidate are needed, if it is as good as production"
            ));
        }
    }
    for Alarm { name, reason } in &view.alarms {
        page.line(format_args!("  alarm      {name}: {reason}"));
    }
    approval(&mut page, fleet, view);
    if let Some(job) = job {
        page.section(format_args!("why it was trained: the {} trigger", job.trigger));
        for line in trigger::evidence(&job.trigger, &event["data"]["details"], COLUMNS) {
            page.line(format_args!("  {line}"));
        }
        if let Some(report) = &job.gates {
            page.section("gates");
            for gate in &report.gates {
                page.line(format_args!(
                    "  {:<18} {}: {}",
                    gate.verdict.name().replace('_', " "),
                    gate.name,
                    gate.sentence
                ));
            }
        }
    }
    stages(&mut page, rollout);
    page.section("checks");
    for finding in &view.findings {
        page.line(format_args!("  {}: {}", finding.check, finding.sentence));
    }
    if let Some(version) = version {
        page.section("version");
        page.line(format_args!("  {} since {:.0}: {}", version.status, version.since, version.reason));
        page.line(format_args!("  {}", version.trained.source));
    }
    if let Some(baseline) = baseline {
        page.section("baseline");
        page.line(format_args!("  number {}, set {:.0}: {}", baseline.number, baseline.set_at, baseline.place));
    }
    history(&mut page, fleet, &view.steps);
    page
}

/// Who approves the next stage, where that is needed, and how.
fn approval(page: &mut Page, fleet: &Fleet, RolloutView { rollout, unapproved, .. }: &RolloutView<'_>) {
    let asked = rollout.next_stage().filter(|_| rollout.needs_approval() && !rollout.state.is_final());
    let asked = unapproved.as_ref().map(|problem| problem.stage).or(asked);
    let Some(stage) = asked.and_then(|stage| rollout.plan.stages.get(stage)) else { return };
    page.section(format_args!("approval of stage '{}'", stage.name));
    page.line(format_args!("  {}", rollouts::approvers_sentence(fleet)));
    let wanted = fleet.model(&rollout.model).and_then(|model| rollouts::signature_reason(fleet, model));
    let sign = if wanted.is_some() { " --sign KEYFILE" } else { "" };
    if let Some(why) = wanted {
        page.line(format_args!("  it must be signed ({why})"));
    }
    page.line(format_args!("  driftsweep rollout promote {} --by NAME --reason TEXT{sign}", rollout.model));
}

/// The stages of the plan, and when each was.
fn stages(page: &mut Page, rollout: &Rollout) {
    page.section("stages");
    let mut table = Table::new(["stage", "share", "lasts", "from", "until"]);
    for (number, stage) in rollout.plan.stages.iter().enumerate() {
        let mut of_stage = rollout.periods.iter().filter(|period| period.stage == number);
        let first = of_stage.next();
        let last = of_stage.next_back().or(first);
        let is_last = number + 1 == rollout.plan.stages.len();
        let lasts = if is_last { stage.lasts.max(rollout.plan.settle) } else { stage.lasts };
        let approval = if rollout.needs_approval_of(number) { ", needs approval" } else { "" };
        table.row([
            format!("{}{approval}", stage.name),
            stage.share.to_string(),
            format!("{lasts:#}"),
            first.map(|period| format!("{:.0}", period.from)).unwrap_or_default(),
            last.and_then(|period| period.until).map(|until| format!("{until:.0}")).unwrap_or_default(),
        ]);
    }
    page.table(table);
}

/// What was done, by the audit.
fn history(page: &mut Page, fleet: &Fleet, steps: &[Record]) {
    page.section("audit");
    for record in steps {
        let body = &record.body;
        let stage = body["stage"].as_str().filter(|_| record.kind.starts_with("rollout."));
        let stage = stage.map(|stage| format!(" ({stage})")).unwrap_or_default();
        let why = ["reason", "question", "about_baseline"].into_iter().find_map(|key| body[key].as_str());
        let why = why.or_else(|| body["grant"]["reason"].as_str()).map(|why| format!(": {why}")).unwrap_or_default();
        page.line(format_args!("  {:>4}  {:.0}  {}  {}{stage}{why}", record.seq, record.at, record.actor, record.kind));
        if let Ok(signed) = SignedStatement::deserialize(&body["signature"]) {
            page.line(format_args!("        {}", signature_line(fleet, &signed, &record.actor)));
        }
    }
}
