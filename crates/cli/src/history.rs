//! `driftsweep history`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::history::{self, Filter, HistoryEntry};
use driftsweep::model::Options;
use driftsweep::sweep::flat::FlatValue;
use driftsweep_common::error::{Error, Fault};
use driftsweep_report::output::{Csv, Document, Page, Table, TableCell};
use driftsweep_report::report::ReportFormat;
use jiff::tz::TimeZone;
use serde_json::json;

use super::fleet_store::read_fleet;
use super::state::FolderArgs;
use super::time_arg::TimeArg;

#[derive(Args)]
pub struct HistoryArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only this feature
    #[arg(long, value_name = "NAME")]
    feature: Option<String>,
    /// Figures, comma-separated, by the column names of a CSV report; "all" for all
    #[arg(long, value_delimiter = ',', default_value = "psi,js_distance", value_name = "NAMES")]
    metrics: Vec<String>,
    /// Sweeps since this time: a time such as 2026-01-31T02:00:00Z; without a zone it is read in the fleet's
    /// `time_zone`, and a day alone is its beginning there
    #[arg(long, value_name = "TIME")]
    since: Option<TimeArg>,
    /// Only features that drifted
    #[arg(long)]
    drifted: bool,
    /// table, json or csv
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: ReportFormat,
    /// Most rows shown in a table, latest first; 0 for all
    #[arg(long, default_value_t = 40, value_name = "N")]
    top: usize,
    #[command(flatten)]
    folders: FolderArgs,
}

pub fn run(args: &HistoryArgs) -> anyhow::Result<u8> {
    let all = args.metrics.iter().any(|name| name == "all");
    // The fleet file is needed for its zone only.
    let zone = match &args.since {
        Some(since) if since.is_local() => read_fleet(&args.fleet, &Options::new())?.zone,
        _ => TimeZone::UTC,
    };
    let filter = Filter {
        model: args.model.clone(),
        feature: args.feature.clone(),
        metrics: if all { Vec::new() } else { args.metrics.clone() },
        since: args.since.as_ref().map(|since| since.resolve("--since", &zone)).transpose()?,
        drifted: args.drifted,
    };
    let folder = args.folders.history(&args.fleet);
    let (entries, unreadable) = history::read(&folder, &filter)?;
    if entries.is_empty() {
        check_names(args, &folder)?;
    }
    for error in &unreadable {
        warn!("skipped: {error}");
    }
    let code = if unreadable.is_empty() { 0 } else { super::PARTIAL };
    let document = match args.format.name {
        "table" => table(&entries, args.top).into(),
        "json" => {
            let left_out: Vec<Fault> = unreadable.iter().map(Fault::from).collect();
            Document::json(&json!({ "entries": entries, "left_out": left_out }))?
        }
        "csv" => csv(entries)?,
        "parquet" => {
            return Err(super::invalid_value("--format parquet", "the history is Parquet already; read its folder"));
        }
        other => {
            let reason = format!("the history is not written as {other}; choose table, json or csv");
            return Err(super::invalid_value("--format", &reason));
        }
    };
    super::write(document)?;
    Ok(code)
}

/// Refuses the name of a model or a feature that is not in the history.
///
/// # Errors
/// [`Error::UnknownName`].
fn check_names(args: &HistoryArgs, folder: &Path) -> anyhow::Result<()> {
    let (mut models, mut features) = (BTreeSet::new(), BTreeSet::new());
    history::each(folder, &Filter::default(), |entry| {
        if args.model.as_ref().is_none_or(|model| *model == entry.model) {
            features.insert(entry.feature);
        }
        models.insert(entry.model);
    })?;
    // A history without sweeps has no names.
    let known = |what, name: &Option<String>, names: &BTreeSet<String>| match name {
        Some(name) if !names.is_empty() && !names.contains(name) => {
            Err(Error::unknown(what, name, names.iter().map(String::as_str)))
        }
        _ => Ok(()),
    };
    known("model", &args.model, &models)?;
    Ok(known("feature", &args.feature, &features)?)
}

/// The entries as CSV, by the names of their fields.
fn csv(entries: Vec<HistoryEntry>) -> driftsweep_common::error::Result<Document> {
    let heading =
        ["sweep", "as_of", "model", "window", "segment", "feature", "kind", "status", "drifted", "metric", "value"];
    let mut csv = Csv::new(heading)?;
    for entry in entries {
        csv.row([
            FlatValue::Text(entry.sweep),
            FlatValue::Text(entry.as_of.to_string()),
            FlatValue::Text(entry.model),
            FlatValue::Text(entry.window),
            FlatValue::Text(entry.segment),
            FlatValue::Text(entry.feature),
            FlatValue::Text(entry.kind),
            FlatValue::Text(entry.status),
            FlatValue::Bool(entry.drifted),
            FlatValue::Text(entry.metric),
            FlatValue::Float(entry.value),
        ])?;
    }
    csv.finish()
}

fn table(entries: &[HistoryEntry], top: usize) -> Page {
    let from = if top == 0 { 0 } else { entries.len().saturating_sub(top) };
    let heading = ["as of", "model", "window", "segment", "feature", "status", "figure", "value", "drifted"];
    let mut table = Table::new(heading);
    for entry in &entries[from..] {
        let value = entry.value.map_or("–".into(), |value| format!("{value:.4}"));
        table.row([
            TableCell::from(entry.as_of.strftime("%F %H:%M").to_string()),
            TableCell::from(&entry.model),
            TableCell::from(&entry.window),
            TableCell::from(&entry.segment),
            TableCell::from(&entry.feature),
            TableCell::from(&entry.status),
            TableCell::from(&entry.metric),
            TableCell::from(value).right(),
            TableCell::from(if entry.drifted { "yes" } else { "" }),
        ]);
    }
    let mut page = Page::from(table);
    if from > 0 {
        page.line(format_args!("… and {from} before; --top 0 shows all"));
    }
    page
}
