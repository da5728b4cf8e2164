//! Times: hours and days where the clocks change, windows over dates, and times on the command line.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use driftsweep::snapshot::table::{CellType, Cells, TableWriter};
use polars_arrow::array::{Array, PrimitiveArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, TimeUnit};
use polars_arrow::io::ipc::write::{FileWriter, WriteOptions};
use polars_arrow::record_batch::RecordBatchT;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::run;

const MINUTE: i64 = 60_000_000;

/// Microseconds since 1970 of a time in UTC.
fn at(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

/// A snapshot of times and numbers.
fn write(path: &Path, rows: &[(i64, f64)]) {
    let columns = [("ts", CellType::Time), ("x", CellType::Float)];
    let mut writer = TableWriter::new(fs::File::create(path).unwrap(), &columns).unwrap();
    let (times, numbers) = rows.iter().map(|&(at, x)| (at, Some(x))).unzip();
    writer.write(rows.len(), vec![Cells::Time(times), Cells::Float(numbers)]).unwrap();
    writer.finish().unwrap();
}

/// Numbers that are spread evenly from 0 to 1.
fn number(i: i64) -> f64 {
    (i.wrapping_mul(2_654_435_761) >> 7).rem_euclid(1000) as f64 / 1000.0
}

/// What a command says on success, or with models that could not be compared.
fn json(args: &[&str]) -> Value {
    let output = run(args);
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 11)), "{args:?}: {code:?} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(args: &[&str], code: i32, words: &str) {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(words), "{args:?}: '{words}' is not in {stderr}");
}

/// The hours that sweeps of a fleet look at while ticks come every twenty minutes: where each window ends, the rows it
/// has, and whether it drifts.
fn hours(fleet: &Path, from: &str, ticks: i64) -> Vec<(String, u64, bool)> {
    let mut found = Vec::new();
    for i in 0..ticks {
        let now = jiff::Timestamp::from_microsecond(at(from) + i * 20 * MINUTE).unwrap().to_string();
        let done = json(&["tick", fleet.to_str().unwrap(), "--now", &now, "--format", "json"]);
        let Some(sweep) = done.get("sweep").filter(|sweep| !sweep.is_null()) else { continue };
        let as_of = sweep["as_of"].as_str().unwrap();
        let seen = json(&["sweep", fleet.to_str().unwrap(), "--now", as_of, "--format", "json", "--no-state"]);
        let rows = seen["models"][0]["rows"]["current"].as_u64().unwrap();
        found.push((as_of.into(), rows, sweep["summary"]["drifted"] != 0));
    }
    found
}

#[test]
fn an_hourly_sweep_looks_at_every_hour_of_a_night_on_which_clocks_change() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Berlin puts its clocks back at 01:00 UTC on the 25th of October 2026; the hour from 00:00 UTC on is shifted.
    let start = at("2026-10-24T21:00:00Z");
    let shifted = at("2026-10-25T00:00:00Z")..at("2026-10-25T01:00:00Z");
    let row = |i: i64| {
        let time = start + i * MINUTE / 20;
        (time, number(i) + if shifted.contains(&time) { 3.0 } else { 0.0 })
    };
    write(&path("prod.parquet"), &(0..7 * 1200).map(row).collect::<Vec<_>>());
    write(&path("base.parquet"), &(0..2000).map(|i| (0, number(i))).collect::<Vec<_>>());
    let model = "[[model]]\nname = \"m\"\nbaseline = \"base.parquet\"\ncurrent = \"prod.parquet\"\nfeatures = [\"x\"]\n\
                 time = \"ts\"\nwindows = [\"hour\"]\n";
    let fleet = path("fleet.toml");
    fs::write(&fleet, format!("sweep = \"0 * * * *\"\ntime_zone = \"Europe/Berlin\"\n{model}")).unwrap();
    let found = hours(&fleet, "2026-10-24T23:10:00Z", 12);
    let wanted = [
        ("2026-10-24T23:00:00Z", false),
        ("2026-10-25T00:00:00Z", false),
        ("2026-10-25T01:00:00Z", true),
        ("2026-10-25T02:00:00Z", false),
        ("2026-10-25T03:00:00Z", false),
    ];
    let wanted: Vec<_> = wanted.into_iter().map(|(at, drifted)| (at.to_owned(), 1200, drifted)).collect();
    assert_eq!(found[..], wanted[..found.len()]);
    assert!(found.len() >= 4);
}

#[test]
fn a_daily_sweep_within_the_hour_that_clocks_skip_or_repeat_runs_once() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("base.parquet"), &(0..2000).map(|i| (0, number(i))).collect::<Vec<_>>());
    let model =
        "[[model]]\nname = \"m\"\nbaseline = \"base.parquet\"\ncurrent = \"base.parquet\"\nfeatures = [\"x\"]\n";
    for (night, from, due) in [
        ("back", "2026-10-25T00:10:00Z", "2026-10-25T00:30:00Z"),
        ("forward", "2026-03-29T00:50:00Z", "2026-03-29T01:30:00Z"),
    ] {
        let fleet = path(&format!("{night}.toml"));
        fs::write(&fleet, format!("sweep = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\"\n{model}")).unwrap();
        // The night before is caught up with by the first tick.
        let found: Vec<String> = hours(&fleet, from, 10).into_iter().map(|(as_of, ..)| as_of).collect();
        assert_eq!(found[1..], [due.to_owned()], "{night}: {found:?}");
    }
}

/// An Arrow file of times, or days, and numbers.
fn write_ipc(path: &Path, times: Box<dyn Array>) {
    let dtype = times.dtype().clone();
    let rows = times.len();
    let numbers = PrimitiveArray::<f64>::from_vec((0..rows as i64).map(number).collect());
    let fields = [Field::new("ts".into(), dtype, true), Field::new("x".into(), ArrowDataType::Float64, true)];
    let schema = Arc::new(fields.into_iter().map(|field| (field.name.clone(), field)).collect::<ArrowSchema>());
    let batch = RecordBatchT::new(rows, schema.clone(), vec![times, numbers.boxed()]);
    let file = fs::File::create(path).unwrap();
    let mut writer = FileWriter::try_new(file, schema, None, WriteOptions { compression: None }).unwrap();
    writer.write(&batch, None).unwrap();
    writer.finish().unwrap();
}

#[test]
fn windows_over_dates_hold_the_whole_days_they_name_at_any_time_of_the_day() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    // A hundred rows a day, from the first of November 2026 on.
    let first = i32::try_from(at("2026-11-01T00:00:00Z") / (24 * 60 * MINUTE)).unwrap();
    let days = PrimitiveArray::new(ArrowDataType::Date32, (0..2500).map(|i| first + i / 100).collect(), None);
    write_ipc(&path("prod.arrow"), days.boxed());
    let fleet = path("fleet.toml");
    let text = |windows: &str| {
        format!(
            "time_zone = \"Europe/Berlin\"\n[[model]]\nname = \"m\"\nbaseline = \"prod.arrow\"\n\
             current = \"prod.arrow\"\nfeatures = [\"x\"]\ntime = \"ts\"\nwindows = [{windows}]\n"
        )
    };
    fs::write(&fleet, text("\"day\", \"1d\", \"7d\", \"week\", \"2w\"")).unwrap();
    let mut hashes = Vec::new();
    for now in ["2026-11-24", "2026-11-24 02:30", "2026-11-24T22:59:59Z"] {
        let report = json(&["sweep", fleet.to_str().unwrap(), "--now", now, "--format", "json", "--no-state"]);
        let rows: Vec<u64> =
            report["models"].as_array().unwrap().iter().map(|m| m["rows"]["current"].as_u64().unwrap()).collect();
        assert_eq!(rows, [100, 100, 700, 700, 1400], "{now}");
        hashes.push(report["counts_hash"].clone());
    }
    assert!(hashes.windows(2).all(|two| two[0] == two[1]), "a replay at another hour has the same rows");
    // Windows of hours say nothing of dates, and that is said by sweep and doctor.
    for window in ["hour", "36h", "1d 12h"] {
        fs::write(&fleet, text(&format!("\"{window}\", \"7d\""))).unwrap();
        let sweep = ["sweep", fleet.to_str().unwrap(), "--now", "2026-11-24", "--no-state"];
        refused(&sweep, 11, "holds dates, which have no time of day");
        let said = run(["doctor", fleet.to_str().unwrap()]);
        assert_eq!(said.status.code(), Some(11));
        assert!(String::from_utf8_lossy(&said.stdout).contains("a length in days such as \"7d\""), "{window}");
    }
}

/// A time a minute, in a unit.
fn minutes(unit: TimeUnit, per_second: i64, from: &str) -> Box<dyn Array> {
    let seconds = |i: i64| at(from) / 1_000_000 + i * 60;
    let times = (0..24 * 60).map(|i| seconds(i) * per_second).collect();
    PrimitiveArray::new(ArrowDataType::Timestamp(unit, None), times, None).boxed()
}

#[test]
fn units_of_time_may_differ_between_the_files_of_a_folder() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("prod")).unwrap();
    // A day each: the 22nd in seconds, the 23rd in milliseconds, the 24th in nanoseconds.
    write_ipc(&path("prod/22.arrow"), minutes(TimeUnit::Second, 1, "2026-11-22T00:00:00Z"));
    write_ipc(&path("prod/23.arrow"), minutes(TimeUnit::Millisecond, 1000, "2026-11-23T00:00:00Z"));
    write_ipc(&path("prod/24.arrow"), minutes(TimeUnit::Nanosecond, 1_000_000_000, "2026-11-24T00:00:00Z"));
    let fleet = path("fleet.toml");
    let text = "[[model]]\nname = \"m\"\nbaseline = \"prod/\"\ncurrent = \"prod/\"\nfeatures = [\"x\"]\ntime = \"ts\"\n\
                windows = [\"hour\", \"day\", \"3d\"]\n";
    fs::write(&fleet, text).unwrap();
    for (now, wanted) in
        [("2026-11-24T06:30:00Z", [60, 1440, 2880 + 390]), ("2026-11-23 12:00", [60, 1440, 1440 + 720])]
    {
        let report = json(&["sweep", fleet.to_str().unwrap(), "--now", now, "--format", "json", "--no-state"]);
        let rows: Vec<u64> =
            report["models"].as_array().unwrap().iter().map(|m| m["rows"]["current"].as_u64().unwrap()).collect();
        assert_eq!(rows, wanted, "{now}");
    }
}

#[test]
fn every_command_reads_a_time_without_a_zone_in_that_of_the_fleet_and_refuses_nonsense() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("base.parquet"), &(0..2000).map(|i| (0, number(i))).collect::<Vec<_>>());
    let fleet = path("fleet.toml");
    let text = "name = \"f\"\ntime_zone = \"Asia/Tokyo\"\n[[model]]\nname = \"m\"\nbaseline = \"base.parquet\"\n\
                current = \"base.parquet\"\nfeatures = [\"x\"]\n";
    fs::write(&fleet, text).unwrap();
    let fleet = fleet.to_str().unwrap();
    // Nine hours before it is there in Greenwich.
    for (now, as_of) in [
        ("2026-11-12T03:00:00", "2026-11-11T18:00:00Z"),
        ("2026-11-12 03:00", "2026-11-11T18:00:00Z"),
        ("2026-11-12", "2026-11-11T15:00:00Z"),
        ("2026-11-12T03:00:00Z", "2026-11-12T03:00:00Z"),
    ] {
        let report = json(&["sweep", fleet, "--now", now, "--format", "json", "--no-state"]);
        assert_eq!(report["as_of"], as_of, "{now}");
    }
    let done = json(&["tick", fleet, "--now", "2026-11-12 00:00", "--format", "json"]);
    assert_eq!(done["sweep"]["as_of"], "2026-11-11T15:00:00Z", "midnight in Tokyo");
    let entries = |since: &str| {
        json(&["history", fleet, "--since", since, "--format", "json"])["entries"].as_array().unwrap().len()
    };
    assert_ne!(entries("2026-11-12"), 0);
    assert_eq!(entries("2026-11-12 00:01"), 0);
    assert_eq!(entries("2026-11-12T00:00:00Z"), 0);
    let until =
        run(["mute", "m", fleet, "--until", "2126-11-12 03:00", "--reason", "x", "--by", "y", "--now", "2026-11-12"]);
    assert!(String::from_utf8_lossy(&until.stderr).contains("2126-11-11T18:00:00Z"), "{until:?}");

    let by = ["--reason", "x", "--by", "y"];
    let commands: [&[&str]; 13] = [
        &["explain", "m", fleet, "--at"],
        &["sweep", fleet, "--no-state", "--now"],
        &["tick", fleet, "--now"],
        &["history", fleet, "--since"],
        &["budget", fleet, "--now"],
        &["calibrate", fleet, "--now"],
        &["calibrate", fleet, "--since"],
        &["events", "close", "x", fleet, "--outcome", "trained", "--by", "y", "--now"],
        &["mute", "m", fleet, by[0], by[1], by[2], by[3], "--until"],
        &["mute", "m", fleet, by[0], by[1], by[2], by[3], "--for", "1d", "--now"],
        &["outbox", "list", fleet, "--now"],
        &["approve", "x", fleet, by[0], by[1], by[2], by[3], "--now"],
        &["jobs", "cancel", "x", fleet, by[0], by[1], by[2], by[3], "--now"],
    ];
    for command in commands {
        let with = |time: &'static str| [command, &[time]].concat();
        refused(&with("2026-02-30"), 2, "there is no day 2026-02-30");
        refused(&with("2026-11-12 25:00"), 2, "there is no time of day 25:00");
        refused(&with("25:00"), 2, "not a time");
    }
    fs::write(fleet, text.replace("Asia/Tokyo", "Europe/Berlin")).unwrap();
    for command in commands {
        let with = |time: &'static str| [command, &[time]].concat();
        refused(&with("2026-10-25 02:30"), 2, "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00");
        refused(&with("2026-03-29T02:30"), 2, "is skipped in Europe/Berlin");
    }
}

#[test]
fn every_flag_that_takes_a_length_of_time_takes_the_same() {
    for command in [
        ["sweep", "missing.toml", "--deadline"],
        ["tick", "missing.toml", "--deadline"],
        ["tick", "missing.toml", "--wait"],
        ["mute", "a-model", "--for"],
    ] {
        let said = |length: &str| {
            let flag = format!("{}={length}", command[2]);
            let output = run([command[0], command[1], &flag]);
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        for length in ["1d", "90m", "1h 30m", "1h30m", "0s", "PT1H", "1.5h", "200000h"] {
            let (_, text) = said(length);
            assert!(!text.contains("invalid value"), "{command:?} {length}: {text}");
        }
        for length in ["-1h", "1y", "99999999d", "5", ""] {
            let (code, text) = said(length);
            let wanted = format!(
                "invalid value '{length}' for '{} <DURATION>': it is not a length of time such as 7d, 36h or 1h 30m",
                command[2]
            );
            // clap has a sentence of its own for a value that is empty.
            let is_refused = text.contains(&wanted) || (length.is_empty() && text.contains("DURATION"));
            assert!(code == Some(2) && is_refused, "{command:?} {length}: {text}");
        }
    }
}
