//! `driftsweep demo --loop`: nights of a fleet whose model drifts, is trained, judged, released, and taken back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use driftsweep::model::Options;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::Fleet;
use driftsweep_ops::retrain::VersionName;
use driftsweep_ops::scheduler::{self, VersionDecision};
use driftsweep_ops::store::{Access, Record, Store};
use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use tempfile::TempDir;

use super::super::fleet_store::read_fleet;
use super::super::model_card;
use super::Story;
use super::service::Service;

/// The first day that is served, and the day after the last.
fn days(story: Story) -> (Date, Date) {
    match story {
        Story::Better => (Date::constant(2013, 4, 11), Date::constant(2013, 11, 1)),
        Story::Worse => (Date::constant(2013, 11, 18), Date::constant(2013, 12, 31)),
    }
}

/// The fleet file.
const FLEET: &str = include_str!("../../../../datasets/loop.toml");

/// The first version learns what was known then: January to March.
const FIRST_TRAINING: &str = "2013-04-10T00:00:00Z";

/// The model.
const MODEL: &str = "lateness";

/// The hour of the tick, in UTC.
const HOUR: i8 = 6;

/// Exit codes of a tick after which the nights go on.
const GOES_ON: [i32; 4] = [0, 10, 11, 12];

/// A story as it is told.
struct Night<'a> {
    folder: &'a Path,
    store: Store,
    /// The last audit record that was told.
    told: u64,
    /// Days that were served.
    days: usize,
}

pub fn run(story: Story, data: &Path, keep: Option<&Path>) -> anyhow::Result<u8> {
    let begun = Instant::now();
    let temporary = TempDir::with_prefix("driftsweep-loop-");
    let temporary = temporary.map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
    let folder = keep.unwrap_or(temporary.path());
    let file = prepare(folder, data)?;
    let fleet = read_fleet(&file, &Options::new())?;
    say!("the features of all flights, each as they were known an hour before departure …");
    let mut service = Service::open(&fleet, folder)?;
    say!("version 1 learns January to March …");
    program(folder, &["train", "fleet.toml", "--model", MODEL, "--output", "versions/first", "--now", FIRST_TRAINING])?;
    let (first, end) = days(story);
    let store = first_version(&fleet, morning(first)?)?;
    let mut night = Night { folder, store, told: 0, days: 0 };
    let mut day = first;
    while day < end {
        service.serve(day, &mut night.store)?;
        night.days += 1;
        let next = day.tomorrow().map_err(|e| Error::Backend(e.to_string()))?;
        // Between sweeps there is nothing to do but releases.
        if next.weekday() == Weekday::Monday || night.store.open_rollout(MODEL)?.is_some() {
            night.tick(morning(next)?)?;
        }
        day = next;
    }
    night.end(begun)?;
    if let Some(kept) = keep {
        say!("everything is kept in {}: try `driftsweep rollout show {MODEL} {}`", kept.display(), file.display());
    }
    Ok(0)
}

/// The time of the tick on a day.
fn morning(day: Date) -> Result<Timestamp> {
    let at = day.at(HOUR, 0, 0, 0).to_zoned(TimeZone::UTC);
    at.map(|at| at.timestamp()).map_err(|e| Error::Backend(e.to_string()))
}

/// Writes the fleet file into a folder, and makes room for what is served.
fn prepare(folder: &Path, data: &Path) -> anyhow::Result<PathBuf> {
    if !data.join("nycflights13/flights-2013-12.parquet").is_file() {
        let reason = "has no flights of the whole year; take the folder `datasets` of the repository";
        return Err(super::super::invalid_value("--data", &format!("{}: {reason}", data.display())));
    }
    let data = std::path::absolute(data)?;
    let program = std::env::current_exe()?;
    let text = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref()).to_string();
    let (data, program) = (text(&data), text(&program));
    let fleet = FLEET.replace("\"DATA/", &format!("{}/", data.trim_end_matches('"')));
    let fleet = fleet.replace("\"PROGRAM\"", &program);
    let file = folder.join("fleet.toml");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    if file.exists() {
        let reason = format!("{}: is there already; choose an empty folder", file.display());
        return Err(super::super::invalid_value("--keep", &reason));
    }
    std::fs::create_dir_all(folder.join("served")).map_err(failed(folder))?;
    std::fs::write(&file, fleet).map_err(failed(&file))?;
    Ok(file)
}

/// Registers and promotes the first version in a new store.
fn first_version(fleet: &Fleet, at: Timestamp) -> anyhow::Result<Store> {
    // Where the commands find it, without being told.
    let place = fleet.folder.join(".driftsweep/fleet/driftsweep.sqlite");
    let mut store = Store::open_as(&place.to_string_lossy(), &fleet.name, Access::Create)?;
    let source = std::path::absolute(fleet.folder.join("versions/first"))?;
    let trained = model_card::trained(&model_card::read(&source)?, &source.to_string_lossy());
    let decision = VersionDecision { by: "ana", reason: "the first model", at };
    store.transaction(|store| {
        store.register_models([MODEL].into_iter(), at)?;
        scheduler::register(fleet, store, MODEL, trained, Path::new(""), decision)?;
        scheduler::promote(fleet, store, (MODEL, &VersionName::Number(1)), decision)
    })?;
    Ok(store)
}

/// This program in a folder, with the store there.
fn command(folder: &Path, args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    for name in [super::super::fleet_store::VARIABLE, super::super::state::VARIABLE] {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args);
    Ok(command)
}

/// Runs this program, and shows what it says.
fn show(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    say!("");
    say!("$ driftsweep {}", args.join(" "));
    let status = command(folder, args)?.status()?;
    match status.code() {
        Some(code) if GOES_ON.contains(&code) => Ok(()),
        _ => Err(Error::Backend(format!("driftsweep {}: {status}", args.join(" "))).into()),
    }
}

/// Runs this program; its output is shown where it fails.
fn program(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = command(folder, args)?.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.code() {
        Some(code) if GOES_ON.contains(&code) => Ok(()),
        _ => {
            let reason = format!("driftsweep {}: {}{}", args.join(" "), text(&output.stdout), text(&output.stderr));
            Err(Error::Backend(reason).into())
        }
    }
}

impl Night<'_> {
    /// A tick, as cron would run it; and what it did.
    fn tick(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let now = now.to_string();
        program(self.folder, &["tick", "fleet.toml", "--now", &now, "--wait", "10m", "--format", "json"])?;
        let mut records = Vec::new();
        let told = self.told;
        self.store.audit("", |record| {
            if record.seq > told {
                records.push(record);
            }
            Ok(())
        })?;
        for record in records {
            self.told = record.seq;
            if let Some(sentence) = sentence(&record) {
                say!("{}  {sentence}", record.at.to_zoned(TimeZone::UTC).date());
            }
        }
        Ok(())
    }

    /// The last release on one page, what was spent, and whether the audit is whole.
    fn end(&mut self, begun: Instant) -> anyhow::Result<()> {
        let last = self.told_time()?.to_string();
        if !self.store.rollouts(Some(MODEL))?.is_empty() {
            show(self.folder, &["rollout", "show", MODEL, "fleet.toml", "--now", &last])?;
        }
        show(self.folder, &["budget", "fleet.toml", "--now", &last])?;
        show(self.folder, &["models", "list", "fleet.toml"])?;
        show(self.folder, &["audit", "verify", "fleet.toml"])?;
        say!("{} nights in {:.1} s", self.days, begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// The time of the last record.
    fn told_time(&mut self) -> Result<Timestamp> {
        let mut last = Timestamp::UNIX_EPOCH;
        self.store.audit(MODEL, |record| {
            last = last.max(record.at);
            Ok(())
        })?;
        Ok(last)
    }
}

/// What a record says, in one line; nothing where it is a detail.
fn sentence(record: &Record) -> Option<String> {
    let body = &record.body;
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    let version = &body["version"];
    Some(match &*record.kind {
        "event.open" => format!("drift: {}", text("reason")),
        "job.start" => "a training starts: the last 90 days".into(),
        "job.reject_by_gate" => format!("the gates reject the candidate: {}", lines(&body["about_gates"])),
        "job.succeed" => format!("trained for {}; gates: {}", text("spent"), lines(&body["about_gates"])),
        "rollout.begin" | "rollout.promote" => {
            format!("version {version} has a share of {} ('{}'): {}", body["share"], text("stage"), text("reason"))
        }
        "rollout.hold" => format!("version {version} is held: {}", text("reason")),
        "rollout.roll_back" => format!("version {version} is taken back: {}", text("reason")),
        "rollout.settle" => format!("version {version} is in production for good"),
        "baseline.set" => format!("the baseline moves: {}", text("reason")),
        _ => return None,
    })
}

/// A list of sentences in one.
fn lines(value: &serde_json::Value) -> String {
    let all = value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
    all.collect::<Vec<_>>().join("; ")
}
