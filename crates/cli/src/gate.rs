//! `driftsweep gate`

use std::path::PathBuf;

use clap::Args;
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::model::{MissingTexts, Options};
use driftsweep_common::address::Location;
use driftsweep_fleet::{Fleet, Labels, class, gate_rules};
use driftsweep_ops::labels::validation::{self, ValidationQuery};
use driftsweep_report::output::{CellColor, Page, Table, TableCell};
use driftsweep_report::report::counted;
use driftsweep_training::gate::{GateReport, GateRules, GateTable, MetricTable, Together, Verdict, evaluate};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::fleet_store::read_fleet;
use super::{EngineArgs, TextFormat};

#[derive(Args)]
pub struct GateArgs {
    /// The candidate's predictions: a snapshot with the id of each row
    #[arg(value_name = "CANDIDATE")]
    candidate: String,
    /// The champion's predictions of the same rows; `-` where there is no champion
    #[arg(value_name = "CHAMPION", allow_hyphen_values = true)]
    champion: String,
    /// The labels of these rows, with the same ids, and with times and groups where they are needed
    #[arg(value_name = "LABELS")]
    labels: String,
    /// Judge by the gates of this fleet file, with the columns of the model's labels
    #[arg(long, value_name = "FLEET", requires = "model")]
    fleet: Option<PathBuf>,
    /// The model of the fleet file
    #[arg(long, value_name = "NAME", requires = "fleet")]
    model: Option<String>,
    /// Judge by the gates of this file, with the keys of [model.gates] [default: accuracy of at least 0.90, and better by
    /// 0.01]
    #[arg(long, value_name = "FILE", conflicts_with = "fleet")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    metric: MetricArgs,
    /// The column that joins the rows
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,
    /// The column with the label
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The column with the predicted class or number, in both files of predictions
    #[arg(long, value_name = "COLUMN")]
    prediction: Option<String>,
    /// The column with the score of the positive class
    #[arg(long, value_name = "COLUMN")]
    score: Option<String>,
    /// The class that scores, precision and recall are about [default: 1]
    #[arg(long, value_name = "CLASS")]
    positive: Option<String>,
    /// The column of the labels with the times of the rows: rows of a day are not independent
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// Take all rows to be independent, also those of a day
    #[arg(long, conflicts_with_all = ["rules", "fleet"])]
    independent: bool,
    /// The zone in which days begin; times without a zone are in UTC [default: UTC, or that of the fleet]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// The column of the candidate's predictions with the time that each took
    #[arg(long, value_name = "COLUMN")]
    latency: Option<String>,
    /// A snapshot of the features of these rows, to look for one that knows the label
    #[arg(long, value_name = "SNAPSHOT")]
    features: Option<String>,
    #[command(flatten)]
    engine: EngineArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

/// The gate of one metric.
#[derive(Args)]
struct MetricArgs {
    /// Judge this metric: accuracy, precision, recall, f1, auc, brier, log_loss, mae or rmse
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rules", "fleet"])]
    metric: Option<PerformanceMetric>,
    /// The smallest figure of the candidate
    #[arg(long, value_name = "FIGURE", requires = "metric")]
    at_least: Option<f64>,
    /// The largest figure of the candidate, of a metric where less is better
    #[arg(long, value_name = "FIGURE", requires = "metric")]
    at_most: Option<f64>,
    /// How much better than the champion the candidate must be
    #[arg(long, value_name = "FIGURE", requires = "metric", allow_hyphen_values = true)]
    better_by: Option<f64>,
    /// The level of a paired test that it is better, for example 0.05
    #[arg(long, value_name = "LEVEL", requires = "metric")]
    significance: Option<f64>,
    /// The margin of that test; below 0 that it is not worse by more
    #[arg(long, value_name = "FIGURE", requires = "significance", allow_hyphen_values = true)]
    margin: Option<f64>,
    /// Labelled rows that are required [default: 1000]
    #[arg(long, value_name = "N", conflicts_with_all = ["rules", "fleet"])]
    min_rows: Option<usize>,
}

/// A gate failed.
pub const REJECTED: u8 = 16;

/// No gate failed, and one had too few data.
pub const INSUFFICIENT_DATA: u8 = 17;

pub fn run(args: &GateArgs) -> anyhow::Result<u8> {
    let names = [&args.candidate, &args.champion, &args.labels];
    let options: Options = args.engine.start(names.into_iter().any(driftsweep_common::storage::is_remote))?;
    let (rules, declared, zone) = rules(args)?;
    let labels = labels(args, declared)?;
    let champion = Some(Location::from(args.champion.clone())).filter(|_| args.champion != "-");
    let features = args.features.clone().map(Location::from);
    let zone = match &args.time_zone {
        Some(name) => TimeZone::get(name)
            .map_err(|_| super::invalid_value("--time-zone", &format!("no time zone is called '{name}'")))?,
        None => zone,
    };
    let query = ValidationQuery {
        labels: &labels,
        champion: champion.as_ref(),
        time: args.time.as_deref(),
        features: features.as_ref(),
        latency: args.latency.as_deref(),
        rules: &rules,
        zone: &zone,
    };
    let report = evaluate(&validation::read(query, &options)?, &rules);
    match args.format {
        TextFormat::Json => super::write_json(&report)?,
        TextFormat::Table => super::write(page(&report))?,
    }
    Ok(code(report.verdict))
}

fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Passed | Verdict::Warning => 0,
        Verdict::Failed => REJECTED,
        Verdict::InsufficientData => INSUFFICIENT_DATA,
    }
}

/// The gates, the labels of the model where they are those of a fleet file, and where days begin.
fn rules(args: &GateArgs) -> anyhow::Result<(GateRules, Option<Labels>, TimeZone)> {
    if let (Some(path), Some(name)) = (&args.fleet, &args.model) {
        let fleet: Fleet = read_fleet(path, &Options::new())?;
        let model = super::model_of(&fleet, name)?;
        if model.gates.is_none() {
            info!("model '{}' has no gates in the fleet file: judged by those that are built in", model.name);
        }
        if model.labels.is_none() && args.id.is_none() {
            let reason = "has no [model.labels] that name the columns; add it, or give --id, --label and --prediction";
            return Err(super::invalid_value(&format!("model '{}'", model.name), reason));
        }
        return Ok((model.gates.clone().unwrap_or_default(), model.labels.clone(), model.zone.clone()));
    }
    if let Some(path) = &args.rules {
        return Ok((gate_rules(path)?, None, TimeZone::UTC));
    }
    let given = &args.metric;
    let table = GateTable {
        metrics: given.metric.map(|metric| {
            vec![MetricTable {
                metric,
                at_least: given.at_least,
                at_most: given.at_most,
                better_by: given.better_by,
                significance: given.significance,
                margin: given.margin,
            }]
        }),
        min_rows: given.min_rows,
        together: args.independent.then_some(Together::None),
        ..GateTable::default()
    };
    let rules = table.over(&GateTable::default()).map_err(|reason| super::invalid_value("--metric", &reason))?;
    Ok((rules, None, TimeZone::UTC))
}

/// Where the rows are, and what their columns are called.
fn labels(args: &GateArgs, declared: Option<Labels>) -> anyhow::Result<Labels> {
    let declared = declared.unwrap_or_default();
    let or = |given: &Option<String>, declared: Option<String>| given.clone().or(declared);
    let named = |flag: &str, found: Option<String>| {
        found
            .filter(|name| !name.is_empty())
            .ok_or_else(|| super::invalid_value(flag, "is needed: name the column, or give --fleet and --model"))
    };
    let (prediction, score) = (or(&args.prediction, declared.prediction), or(&args.score, declared.score));
    if prediction.is_none() && score.is_none() {
        return Err(super::invalid_value(
            "--prediction",
            "is needed, or --score: name the column with what was predicted",
        ));
    }
    Ok(Labels {
        predictions: args.candidate.clone().into(),
        from: Some(args.labels.clone().into()),
        id: Some(named("--id", or(&args.id, declared.id))?),
        time: declared.time,
        label: named("--label", or(&args.label, Some(declared.label)))?,
        prediction,
        score,
        positive: args.positive.clone().map(class).or(declared.positive),
        classes: declared.classes,
        missing: MissingTexts(declared.missing.0),
        delay: SignedDuration::ZERO,
        ..Labels::default()
    })
}

fn page(report: &GateReport) -> Page {
    let mut table = Table::new(["gate", "verdict", "what was found"]);
    for gate in &report.gates {
        let color = match gate.verdict {
            Verdict::Passed => None,
            Verdict::Warning | Verdict::InsufficientData => Some(CellColor::Yellow),
            Verdict::Failed => Some(CellColor::Red),
        };
        table.row([
            TableCell::from(&gate.name),
            TableCell::from(gate.verdict.name()).tinted(color),
            TableCell::long(&gate.sentence),
        ]);
    }
    let mut page = Page::new();
    page.table(table);
    for gate in report.gates.iter().filter(|gate| gate.advice.is_some()) {
        page.line(format_args!("{}: {}", gate.name, gate.advice.as_deref().unwrap_or_default()));
    }
    let rows = counted(report.rows, "row");
    let days = report.days.map_or_else(String::new, |days| format!(" of {}", counted(days, "day")));
    let open = report.open().count();
    let verdict = match report.verdict {
        Verdict::Passed => "The candidate passes every gate.".to_owned(),
        Verdict::Warning => "The candidate passes every gate; see the warnings.".into(),
        Verdict::Failed => format!("The candidate is rejected: {} did not pass.", counted(open, "gate")),
        Verdict::InsufficientData => {
            format!("The candidate is not accepted: {} had too few data.", counted(open, "gate"))
        }
    };
    page.section(format_args!("{verdict} Judged on {rows}{days}."));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passed_is_exit_code_zero() {
        assert_eq!(
            [Verdict::Passed, Verdict::Warning, Verdict::Failed, Verdict::InsufficientData].map(code),
            [0, 0, REJECTED, INSUFFICIENT_DATA]
        );
    }
}
