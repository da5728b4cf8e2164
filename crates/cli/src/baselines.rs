//! `driftsweep baseline list`, `set` and `restore`

use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::baseline::{self, Baseline, BaselineFile};
use driftsweep_common::address;
use driftsweep_common::error::Error;
use driftsweep_fleet::{Fleet, Model, SetBaseline};
use driftsweep_ops::scheduler::{self, BaselineChange, BaselineRequest};
use driftsweep_ops::store::{Access, BaselineRecord, Store};
use driftsweep_report::output::{Page, Table};
use jiff::Timestamp;
use serde::Serialize;

use super::TextFormat;
use super::decision::DecisionArgs;
use super::fleet_store::FleetStoreArgs;

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct SetArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// A baseline file, or a training snapshot (a file, a glob, a directory, an address), which is frozen
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct RestoreArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Its number, as `baseline list` shows it; 0 is the one in the fleet file [default: the one before]
    #[arg(long, value_name = "N")]
    to: Option<u64>,
}

/// A row of the list of baselines.
#[derive(Serialize)]
struct ListedBaseline {
    model: String,
    /// 0 is the one in the fleet file.
    number: u64,
    in_use: bool,
    /// Nothing where the model is compared with its previous window.
    place: Option<String>,
    since: Option<Timestamp>,
    set_by: String,
    job: Option<String>,
    note: String,
}

pub fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open_any(Access::Read)?;
    let state = args.memory.folder();
    if let Some(name) = &args.model {
        super::model_of(&fleet, name)?;
    }
    let now = Timestamp::now();
    let wanted = |model: &&Model| args.model.as_ref().is_none_or(|name| *name == model.name);
    let mut lines = Vec::new();
    for model in fleet.models.iter().filter(wanted) {
        lines.extend(listed(&fleet, &mut store, model, &state, now)?);
    }
    if args.format == TextFormat::Json {
        super::write_json(&lines)?;
        return Ok(0);
    }
    let mut table = Table::new(["model", "number", "in use", "baseline", "since", "set by", "training", "note"]);
    table.less_important(&["training", "set by", "since", "note"]);
    for line in &lines {
        table.row([
            line.model.clone(),
            line.number.to_string(),
            if line.in_use { "yes".into() } else { String::new() },
            line.place.clone().unwrap_or_else(|| "–".into()),
            line.since.map(|since| since.to_string()).unwrap_or_default(),
            line.set_by.clone(),
            line.job.clone().unwrap_or_default(),
            line.note.clone(),
        ]);
    }
    super::write(Page::from(table))?;
    Ok(0)
}

/// The number of the baseline in use: the last one that was set, unless the fleet file has been changed to another one
/// since.
fn number_in_use(model: &Model, entries: &[BaselineRecord]) -> u64 {
    entries.last().filter(|last| model.counts(&last.setting())).map_or(0, |last| last.number)
}

/// The baseline in the fleet file, and those that were set.
fn listed(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    state: &Path,
    now: Timestamp,
) -> anyhow::Result<Vec<ListedBaseline>> {
    let entries = store.baseline_entries(Some(&model.name))?;
    let in_use = number_in_use(model, &entries);
    let outdated = store.outdated_baseline(fleet, model, now)?.map(|found| found.sentence(&fleet.zone));
    let note = |number: u64| if number == in_use { outdated.clone().unwrap_or_default() } else { String::new() };
    let own = fleet.own_baseline(model, now);
    let first = ListedBaseline {
        model: model.name.clone(),
        number: 0,
        in_use: in_use == 0,
        since: (!model.previous).then(|| baseline::last_modified(own.expose())).flatten(),
        place: (!model.previous).then(|| own.to_string()),
        set_by: "fleet file".into(),
        job: None,
        note: match model.previous {
            true => "compared with the previous window: there is no baseline".into(),
            false => note(0),
        },
    };
    let changed = |entry: &BaselineRecord| {
        let place = if entry.place.is_empty() { "that of the fleet file" } else { "it" };
        format!(
            "the fleet file named '{}' when {place} was set, and names another one now",
            address::redacted(&entry.declared)
        )
    };
    let others = entries.iter().map(|entry| ListedBaseline {
        model: model.name.clone(),
        number: entry.number,
        in_use: entry.number == in_use,
        place: Some(match entry.place.is_empty() {
            true => own.to_string(),
            false => address::redacted(entry.setting().place_in(state)),
        }),
        since: Some(entry.set_at),
        set_by: entry.set_by.clone(),
        job: entry.job.clone(),
        note: if model.counts(&entry.setting()) { note(entry.number) } else { changed(entry) },
    });
    Ok(std::iter::once(first).chain(others).collect())
}

pub fn set(args: &SetArgs) -> anyhow::Result<u8> {
    let decision = &args.decision;
    let (fleet, mut store) = decision.memory.open(Access::Create)?;
    let model = super::model_of(&fleet, &args.model)?;
    let (who, now) = decision.actor_and_time(&fleet)?;
    // A path on the command line is relative to the working directory.
    let state = decision.memory.folder();
    let former = scheduler::current_baseline(&fleet, &mut store, model, &state, now)?;
    let adopting = BaselineRequest { model, former: &former, folder: Path::new(""), state: &state, at: now };
    let kept = scheduler::store_baseline(&args.file, adopting)?;
    let content = (&*kept.place, kept.content_hash);
    let fact = ("baseline.set", &*who, &*decision.reason);
    let entry = set_in_use(&fleet, &mut store, model, fact, content, &former, now)?;
    say!("{}: baseline {} is in use: {}", model.name, entry.number, address::redacted(&entry.place));
    Ok(0)
}

pub fn restore(args: &RestoreArgs) -> anyhow::Result<u8> {
    let decision = &args.decision;
    let (fleet, mut store) = decision.memory.open_any(Access::Existing)?;
    let model = super::model_of(&fleet, &args.model)?;
    let (who, now) = decision.actor_and_time(&fleet)?;
    scheduler::has_baseline(model)?;
    let entries = store.baseline_entries(Some(&model.name))?;
    let wrong = |reason: String| super::invalid_value(&format!("model '{}'", model.name), &reason);
    let Some(last) = entries.last() else {
        return Err(wrong("no baseline was ever set for it; that of the fleet file is in use".into()));
    };
    let in_use = number_in_use(model, &entries);
    let number = match args.to {
        Some(number) => number,
        // The fleet file names another one now: the previous one is the last that was set.
        None if in_use == 0 => last.number,
        None => last.number - 1,
    };
    let place = match entries.iter().find(|entry| entry.number == number) {
        Some(entry) => entry.place.clone(),
        None if number == 0 => String::new(),
        None => return Err(wrong(format!("there is no baseline {number}; `driftsweep baseline list` shows them"))),
    };
    let used = if in_use == 0 { "" } else { &last.place };
    if place == used {
        return Err(wrong(format!("baseline {number} is the one in use; name another one with --to")));
    }
    let state = decision.memory.folder();
    let read = match place.is_empty() {
        true => fleet.own_baseline(model, now).expose().to_owned(),
        false => SetBaseline { place: place.clone(), declared: String::new() }.place_in(&state),
    };
    // It may have been removed since, or may no longer match the model.
    if Baseline::is_baseline_file(Path::new(&read)) {
        BaselineFile::open(&PathBuf::from(&read))?.check_for(model)?;
    } else {
        baseline::training_snapshot(&read)?;
    }
    let content = (&*place, baseline::content_hash(&read));
    let former = scheduler::current_baseline(&fleet, &mut store, model, &state, now)?;
    let fact = ("baseline.restore", &*who, &*decision.reason);
    let entry = set_in_use(&fleet, &mut store, model, fact, content, &former, now)?;
    say!("{}: baseline {number} is in use again, as {}: {}", model.name, entry.number, address::redacted(&read));
    Ok(0)
}

/// Uses a baseline from now on: its place and the hash of its content; `former` is the one before. The command prints
/// what it does, by whom and why, first.
fn set_in_use(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    (kind, by, reason): (&str, &str, &str),
    (place, content_hash): (&str, Option<String>),
    former: &str,
    at: Timestamp,
) -> Result<BaselineRecord, Error> {
    let former_content_hash = baseline::content_hash(former);
    store.transaction(|store| {
        let setting =
            BaselineChange { kind, place, content_hash, former, former_content_hash, job: None, by, reason, at };
        scheduler::set_baseline(fleet, store, model, setting)
    })
}
