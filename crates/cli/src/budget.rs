//! `driftsweep budget` and `economics`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use driftsweep_ops::retrain::cost::point;
use driftsweep_ops::retrain::{CostEstimate, ValueEstimate};
use driftsweep_ops::scheduler;
use driftsweep_ops::store::Access;
use driftsweep_report::output::{Page, Table};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::TextFormat;
use super::fleet_store::{FleetStoreArgs, code_after_reading};
use super::time_arg::{TimeArg, now_or};

#[derive(Args)]
pub struct BudgetArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Override the current time, which selects the month; same format as in `tick` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct EconomicsArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

pub fn run(args: &BudgetArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Read)?;
    let now = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let ledger = scheduler::ledger(&fleet, &mut store, now)?;
    let statuses = scheduler::budget_statuses(&fleet, &ledger, now);
    let currency = &fleet.governance.budget.currency;
    let month = ledger.month().strftime("%Y-%m").to_string();
    if args.format == TextFormat::Json {
        super::write_json(&json!({ "month": month, "currency": currency.name(), "budgets": statuses }))?;
        return Ok(code_after_reading(&mut store));
    }
    let mut table = Table::new(["budget", "month", "limit", "spent", "set aside", "left", "forecast", "taken"]);
    table.align_right(2..8);
    for status in &statuses {
        let taken = status.spent + status.committed;
        let share = 100.0 * taken.units() / status.budget.units().max(f64::MIN_POSITIVE);
        table.row([
            status.scope.to_string(),
            month.clone(),
            currency.show(status.budget),
            currency.show(status.spent),
            currency.show(status.committed),
            currency.show(status.budget - taken),
            currency.show(status.forecast),
            format!("{share:.0} %{}", if status.warns { " !" } else { "" }),
        ]);
    }
    super::write(Page::from(table))?;
    Ok(code_after_reading(&mut store))
}

/// A model's cost and worth.
#[derive(Serialize)]
struct EconomicsRow<'a> {
    model: &'a str,
    team: &'a str,
    currency: &'a str,
    estimate: CostEstimate,
    worth: ValueEstimate,
    /// Missing inputs, and how to provide them.
    remedies: Vec<&'static str>,
    break_even_days: Option<f64>,
    advice: &'static str,
}

pub fn economics(args: &EconomicsArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open(Access::Read)?;
    let mut lines = Vec::new();
    for model in &fleet.models {
        let Some(retrain) = &model.retrain else { continue };
        let (estimate, worth) = scheduler::estimate(&mut store, model, retrain)?;
        let (break_even_days, advice) = (worth.break_even(estimate.expected), worth.advice(&estimate));
        let remedies = worth.missing.iter().map(|missing| missing.sentence()).collect();
        let (model, team, currency) = (&*model.name, &*retrain.team, fleet.governance.budget.currency.name());
        lines.push(EconomicsRow { model, team, currency, estimate, worth, remedies, break_even_days, advice });
    }
    if lines.is_empty() {
        return Err(super::invalid_value("economics", "no model has training settings; add [model.retrain]"));
    }
    lines.sort_by_key(|line| line.estimate.expected - line.worth.gain);
    if args.format == TextFormat::Json {
        super::write_json(&lines)?;
        return Ok(0);
    }
    let heading = [
        "model",
        "team",
        "retrain costs",
        "90 % of runs below",
        "points lost",
        "stale a day",
        "gain",
        "pays after",
        "advice",
    ];
    let currency = &fleet.governance.budget.currency;
    let mut table = Table::new(heading);
    table.align_right(2..8);
    for line in &lines {
        table.row([
            line.model.to_owned(),
            line.team.to_owned(),
            currency.show(line.estimate.expected),
            currency.show(line.estimate.high),
            format!("{:.2} {}", line.worth.points, line.worth.loss.name()),
            currency.show(line.worth.stale_a_day),
            currency.show(line.worth.gain),
            line.break_even_days.map_or_else(|| "never".into(), |days| format!("{days:.1} days")),
            line.advice.into(),
        ]);
    }
    let mut page = Page::from(table);
    let points: BTreeSet<String> = lines.iter().filter_map(|line| line.worth.metric).map(point).collect();
    for point in points {
        page.line(point);
    }
    // Models with the same missing input are reported together.
    let mut lacking: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in &lines {
        for remedy in &line.remedies {
            lacking.entry(remedy).or_default().push(line.model.into());
        }
    }
    for (remedy, models) in lacking {
        const MAX_LISTED: usize = 5;
        let more = models.len().saturating_sub(MAX_LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        page.line(format_args!("{}{more}: {remedy}", models[..models.len().min(MAX_LISTED)].join(", ")));
    }
    super::write(page)?;
    Ok(0)
}
