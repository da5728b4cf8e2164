//! `driftsweep calibrate`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use driftsweep::history::{self, Filter};
use driftsweep::rule::{Rule, rules};
use driftsweep_common::atomic;
use driftsweep_common::error::Error;
use driftsweep_fleet::Fleet;
use driftsweep_ops::calibrate::{self, Calibration, CalibrationOptions, HistoryReplay};
use driftsweep_report::output::{self, Page};
use jiff::Timestamp;
use toml_edit::{DocumentMut, Item, Table, value};

use super::fleet_store::{StoreArgs, read_fleet};
use super::time_arg::{TimeArg, now_or};
use super::{EngineArgs, TextFormat};

#[derive(Args)]
pub struct CalibrateArgs {
    /// The fleet file
    #[arg(default_value = "fleet.toml", value_name = "FLEET")]
    fleet: PathBuf,
    /// False alarms a night that are acceptable: columns of the whole fleet over a threshold without any change
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    rate: f64,
    /// Nights without change to simulate for each column
    #[arg(long, default_value_t = 200, value_name = "N")]
    nights: usize,
    /// One threshold for the whole fleet, or one per model
    #[arg(long, value_enum, default_value = "fleet", value_name = "SCOPE")]
    by: CalibrationScope,
    /// Write the recommended thresholds into the fleet file; its comments are kept
    #[arg(long)]
    write: bool,
    /// Thresholds to write, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "psi,js,missing", value_name = "NAMES", requires = "write")]
    limits: Vec<String>,
    /// Replay past sweeps since this time; same format as in `history`
    #[arg(long, value_name = "TIME")]
    since: Option<TimeArg>,
    /// The time whose snapshots give the number of rows a night; same format as in `sweep` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
    /// Most past alarms shown in a table, latest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CalibrationScope {
    Fleet,
    Model,
}

pub fn run(args: &CalibrateArgs) -> anyhow::Result<u8> {
    if !(args.rate > 0.0 && args.rate.is_finite()) {
        return Err(super::invalid_value("--rate", "must be above 0"));
    }
    if !(20..=100_000).contains(&args.nights) {
        return Err(super::invalid_value("--nights", "must be between 20 and 100000"));
    }
    for name in &args.limits {
        if !rules().any(|rule| rule.key() == name) {
            return Err(Error::unknown("limit", name, rules().map(Rule::key)).into());
        }
    }
    let options = args.engine.start(super::names_objects(&args.fleet))?;
    let fleet = args.store.with_baselines(&args.fleet, read_fleet(&args.fleet, &options)?)?;
    let since = args.since.as_ref().map(|since| since.resolve("--since", &fleet.zone)).transpose()?;
    let now = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    let metrics = rules().map(|rule| rule.figure.to_owned()).collect();
    let filter = Filter { metrics, since, ..Filter::default() };
    let settings =
        CalibrationOptions { rate: args.rate, nights: args.nights, by_model: args.by == CalibrationScope::Model };
    let mut past = HistoryReplay::of(&fleet, settings);
    match history::each(&args.store.folders.history(&args.fleet), &filter, |entry| past.add(entry)) {
        Ok(unreadable) => unreadable.iter().for_each(|error| {
            warn!("skipped: {error}");
            past.leave_out(error);
        }),
        // A fleet can be calibrated before its first sweep.
        Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let chosen = args.engine.counter(Default::default)?;
    let found = calibrate::calibrate(&*chosen.counter, &fleet, now, past, settings);
    match args.format {
        TextFormat::Json => super::write_json(&found)?,
        TextFormat::Table => super::write(render(&found, args))?,
    }
    for (model, reason) in &found.left_out {
        warn!("model '{model}' was skipped: {reason}");
    }
    if found.limits.is_empty() {
        return Err(super::invalid_value(
            "calibrate",
            "no column could be simulated; `driftsweep doctor` says what is wrong",
        ));
    }
    if args.write {
        write(&args.fleet, &found, &args.limits)?;
    }
    Ok(if found.left_out.is_empty() && found.history_left_out.is_empty() { 0 } else { super::PARTIAL })
}

fn render(found: &Calibration, args: &CalibrateArgs) -> Page {
    let mut table = output::Table::new([
        "model",
        "limit",
        "columns",
        "no change: 50, 99, 99.99 %",
        "past: 50, 99, 100 %",
        "now",
        "alarms a night",
        "recommended",
        "alarms a night",
        "past alarms",
        "would remain",
    ]);
    let three = |values: [f64; 3]| values.map(|value| format!("{value:.4}")).join(", ");
    for limit in &found.limits {
        table.row([
            limit.model.clone().unwrap_or_else(|| "all".into()),
            limit.limit.to_owned(),
            limit.columns.to_string(),
            three(limit.no_change),
            limit.past.map_or("–".into(), three),
            limit.now.to_string(),
            format!("{:.3}", limit.alarms_now),
            limit.recommended.to_string(),
            format!("{:.3}", limit.alarms),
            limit.past_alarms.to_string(),
            limit.past_alarms_that_remain.to_string(),
        ]);
    }
    let mut page = Page::from(table);
    page.line(format_args!(
        "on nights without change, simulated {} times from the baselines' counts; {} alarms a night \
                            wanted. An alarm is a column over its threshold on one night, before its test and \
                            persistence: events are fewer.",
        args.nights, args.rate
    ));
    let from = found.past_alarms.len().saturating_sub(args.top);
    for alarm in &found.past_alarms[from..] {
        let place = super::sweep::place(&alarm.window, &alarm.segment);
        page.line(format_args!(
            "{} {}{place} {}: {} {:.4}{}",
            alarm.as_of.strftime("%F"),
            alarm.model,
            alarm.feature,
            alarm.limit,
            alarm.value,
            if alarm.remains { ", remains" } else { ", would go" }
        ));
    }
    if from > 0 {
        page.line(format_args!("… after {from} earlier ones"));
    }
    page
}

/// Writes thresholds into a fleet file, and leaves everything else in it unchanged.
fn write(path: &Path, found: &Calibration, names: &[String]) -> anyhow::Result<()> {
    let unreadable = |reason: String| Error::Fleet { path: path.into(), line: None, reason };
    let text = Fleet::text(path)?;
    // Only the message: the whole error shows the line of the file, which may contain a secret.
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| unreadable(e.message().to_owned()))?;
    let mut written = 0;
    for limit in found.limits.iter().filter(|limit| names.iter().any(|name| name == limit.limit)) {
        let largest = rules().find(|rule| rule.key() == limit.limit).map_or(f64::INFINITY, |rule| rule.largest);
        if limit.recommended <= 0.0 || limit.recommended >= largest {
            let of = limit.model.as_deref().map_or(String::new(), |name| format!("model '{name}': "));
            say!("{of}{} stays as it is: its figure does not vary where nothing has changed", limit.limit);
            continue;
        }
        let owner: &mut dyn toml_edit::TableLike = match &limit.model {
            None => document.entry("defaults").or_insert_with(implicit_table).as_table_like_mut(),
            Some(name) => {
                document.get_mut("model").and_then(|models| models.as_array_of_tables_mut()).and_then(|models| {
                    let named = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(name);
                    models.iter_mut().find(named).map(|table| table as &mut dyn toml_edit::TableLike)
                })
            }
        }
        .ok_or_else(|| unreadable("has no table to write into; write [defaults.thresholds] by hand".into()))?;
        let thresholds = owner.entry("thresholds").or_insert_with(|| Item::Table(Table::new()));
        let thresholds = thresholds.as_table_like_mut();
        let thresholds = thresholds.ok_or_else(|| unreadable("`thresholds` is no table".into()))?;
        match thresholds.get_mut(limit.limit).and_then(Item::as_value_mut) {
            // With the comment behind it.
            Some(known) => {
                let decor = known.decor().clone();
                *known = limit.recommended.into();
                *known.decor_mut() = decor;
            }
            None => drop(thresholds.insert(limit.limit, value(limit.recommended))),
        }
        written += 1;
    }
    let mut written_text = document.to_string();
    // The library writes the line ends of Unix.
    if text.contains("\r\n") {
        written_text = written_text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    atomic::write(path, written_text.as_bytes())?;
    say!("{}: {written} thresholds written", path.display());
    Ok(())
}

/// A table without a heading of its own.
fn implicit_table() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}
