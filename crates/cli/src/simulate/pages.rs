//! What people and spreadsheets read of a simulation.

use driftsweep::metric::performance::Measurement;
use driftsweep::sweep::flat::FlatValue;
use driftsweep_common::error::Result;
use driftsweep_fleet::Currency;
use driftsweep_ops::retrain::cost::point;
use driftsweep_report::output::{Csv, Document, Page, Table};
use driftsweep_report::report::counted;

use super::report::{Month, PolicyResult, Simulation};

/// Where there is nothing to show.
const NONE: &str = "–";

fn figure(found: Option<Measurement>) -> String {
    decimals(found.map(|found| found.value))
}

fn decimals(figure: Option<f64>) -> String {
    figure.map_or_else(|| NONE.into(), |figure| format!("{figure:.4}"))
}

/// The table, and what is to be known about it.
pub fn page(found: &Simulation, currency: &Currency) -> Page {
    // What a policy is chosen by comes first: there may be many months.
    let first = ["policy", "whole", "months' mean", "gain", "trainings", "accepted", "failed", "cost", "cost a point"];
    let months = found.months.iter().map(|month| month.month.as_str());
    let mut table = Table::new(first.into_iter().chain(months));
    let by_month = |months: &[Option<Measurement>]| months.iter().map(|found| figure(*found)).collect::<Vec<String>>();
    for policy in &found.policies {
        let amount = |amount: Option<_>| amount.map_or_else(|| NONE.into(), |amount| currency.show(amount));
        let [trained, accepted, failed] = match policy.not_replayed {
            Some(_) => [NONE; 3].map(str::to_owned),
            None => [policy.trained(), policy.accepted(), policy.failed()].map(|count| count.to_string()),
        };
        let gain = policy.gain.map_or_else(|| NONE.into(), |gain| format!("{gain:+.4}"));
        let (cost, a_point) = (amount(policy.cost), amount(policy.cost_per_point));
        let mean = decimals(policy.mean);
        let cells = [policy.name(), figure(policy.whole), mean, gain, trained, accepted, failed, cost, a_point];
        table.row(cells.into_iter().chain(by_month(&policy.months)));
    }
    let empty = || [""; 6].map(str::to_owned);
    for baseline in &found.baselines {
        let cells =
            [baseline.baseline.to_owned(), figure(baseline.whole), decimals(baseline.mean)].into_iter().chain(empty());
        table.row(cells.chain(by_month(&baseline.months)));
    }
    let labelled = |month: &Month| month.labelled.to_string();
    let cells = ["labelled rows".to_owned(), labelled(&found.whole), String::new()].into_iter().chain(empty());
    table.row(cells.chain(found.months.iter().map(labelled)));
    table.align_right(1..found.months.len() + first.len());
    let mut page = Page::new();
    page.table(table);
    page.line(format_args!(
        "{} of model '{}' by month of prediction, {} to {}: {} looked at, {} trained",
        found.metric,
        found.model,
        found.from,
        found.to,
        counted(found.nights, "night"),
        counted(found.models_trained, "model")
    ));
    page.line(format_args!("The first model, of {}, is the same for all; {}", found.from, point(found.metric)));
    for policy in &found.policies {
        if let Some(reason) = &policy.not_replayed {
            page.line(format_args!("{}: not replayed, {reason}", policy.name()));
        }
    }
    for note in &found.notes {
        page.line(note);
    }
    page
}

/// A row for each policy and month, and for the whole span.
///
/// # Errors
/// [`driftsweep_common::error::Error::BadValue`] where it cannot be encoded.
pub fn csv(found: &Simulation) -> Result<Document> {
    let heading = [
        "policy",
        "gates",
        "month",
        "metric",
        "value",
        "low",
        "high",
        "predictions",
        "labelled",
        "trainings",
        "accepted",
        "failed",
        "cost",
        "gain",
        "cost_per_point",
    ];
    let mut csv = Csv::new(heading)?;
    let text = |text: &str| FlatValue::Text(text.into());
    let count = |count: usize| FlatValue::Int(count as u64);
    let mut row = |(name, gates): (&str, bool), month: &Month, value: Option<Measurement>, rest: [FlatValue; 6]| {
        let of = |of: fn(&Measurement) -> f64| FlatValue::Float(value.as_ref().map(of));
        let figures = [of(|found| found.value), of(|found| found.low), of(|found| found.high)];
        let first = [text(name), FlatValue::Bool(gates), text(&month.month), text(found.metric.name())];
        let rows = [count(month.predictions), count(month.labelled)];
        csv.row(first.into_iter().chain(figures).chain(rows).chain(rest))
    };
    let empty = || [0; 6].map(|_| text(""));
    for policy in &found.policies {
        let name = (policy.policy.as_str(), policy.gates);
        for (month, value) in found.months.iter().zip(&policy.months) {
            row(name, month, *value, empty())?;
        }
        row(name, &found.whole, policy.whole, totals(policy))?;
    }
    for baseline in &found.baselines {
        for (month, value) in found.months.iter().zip(&baseline.months) {
            row((baseline.baseline, false), month, *value, empty())?;
        }
        row((baseline.baseline, false), &found.whole, baseline.whole, empty())?;
    }
    csv.finish()
}

/// What is known of a policy beside its metric.
fn totals(policy: &PolicyResult) -> [FlatValue; 6] {
    let count = |count: usize| match policy.not_replayed {
        Some(_) => FlatValue::Text(String::new()),
        None => FlatValue::Int(count as u64),
    };
    [
        count(policy.trained()),
        count(policy.accepted()),
        count(policy.failed()),
        FlatValue::Float(policy.cost.map(|cost| cost.units())),
        FlatValue::Float(policy.gain),
        FlatValue::Float(policy.cost_per_point.map(|cost| cost.units())),
    ]
}
