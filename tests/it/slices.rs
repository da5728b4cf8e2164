//! Segments and windows: each is what comparing those rows alone would give.

use std::fs;
use std::path::Path;

use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, run, write_parquet};

/// Days of hourly rows from the first of January 2026 on, with a region and an amount.
fn frame(days: i64, shift: f64) -> DataFrame {
    let rows = days * 24 * 60;
    let minute = |i: i64| 20_454 * 86_400_000_000 + i * 60_000_000;
    let region = |i: i64| match i % 7 {
        0..=3 => Some("north"),
        4..=5 => Some("south"),
        _ => None,
    };
    let noise = |i: i64| ((i.wrapping_mul(2_654_435_761) >> 7) % 1000) as f64;
    // The south drifts on the last day only.
    let drifts = |i: i64| region(i) == Some("south") && i >= rows - 24 * 60;
    let amount = |i: i64| noise(i) + if drifts(i) { shift } else { 0.0 };
    DataFrame::new_infer_height(vec![
        Series::new("at".into(), (0..rows).map(minute).collect::<Vec<_>>()).into_column(),
        Series::new("region".into(), (0..rows).map(region).collect::<Vec<_>>()).into_column(),
        Series::new("amount".into(), (0..rows).map(amount).collect::<Vec<_>>()).into_column(),
        Series::new("level".into(), (0..rows).map(|i| i % 3).collect::<Vec<_>>()).into_column(),
    ])
    .unwrap()
}

/// The frame with `at` as a timestamp, for which this build of polars has no frames: through a table of our own.
fn write(frame: &DataFrame, path: &Path, row_group: usize) {
    use driftsweep::snapshot::table::{CellType, Cells, TableWriter};
    let columns =
        [("at", CellType::Time), ("region", CellType::Text), ("amount", CellType::Float), ("level", CellType::Signed)];
    let mut writer = TableWriter::new(fs::File::create(path).unwrap(), &columns).unwrap();
    let names: std::sync::Arc<[String]> = ["north".to_owned(), "south".to_owned()].into();
    for start in (0..frame.height()).step_by(row_group) {
        let part = frame.slice(start as i64, row_group);
        let at = part.column("at").unwrap().i64().unwrap().into_no_null_iter().collect();
        let regions = part.column("region").unwrap();
        let code = |name: Option<&str>| name.map(|name| u32::from(name == "south"));
        let regions = regions.str().unwrap().iter().map(code).collect();
        let amount = part.column("amount").unwrap().f64().unwrap().iter().collect();
        let level = part.column("level").unwrap().i64().unwrap().iter().collect();
        let cells =
            vec![Cells::Time(at), Cells::Names(regions, names.clone()), Cells::Float(amount), Cells::Signed(level)];
        writer.write(part.height(), cells).unwrap();
    }
    writer.finish().unwrap();
}

fn sweep(fleet: &Path, more: &[&str]) -> Value {
    let output = run(["sweep", fleet.to_str().unwrap(), "--format", "json", "--no-state"].iter().chain(more));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn found<'a>(report: &'a Value, window: &str, segment: &str) -> &'a Value {
    let text = |model: &'a Value, key: &str| model[key].as_str().unwrap_or_default();
    let mut models = report["models"].as_array().unwrap().iter();
    models.find(|m| text(m, "window") == window && text(m, "segment") == segment).unwrap()
}

/// What is known of `amount` and `level`, without what depends on the other tests of a sweep, or (the last bit of means)
/// on how rows are split into row groups.
fn figures(features: &Value) -> Vec<[Value; 7]> {
    let features = features.as_array().unwrap().iter().filter(|f| f["name"] == "amount" || f["name"] == "level");
    features
        .map(|f| {
            let ks = &f["metrics"]["ks"];
            let [status, hash, mut psi] = [&f["status"], &f["counts_hash"], &f["metrics"]["psi"]].map(Value::clone);
            psi["noise"]["q_value"] = Value::Null;
            let [missing, d, p] = [&f["current"]["null"], &ks["statistic"], &ks["p_value"]].map(Value::clone);
            [status, hash, psi, missing, d, p, f["metrics"]["wasserstein"]["value"].clone()]
        })
        .collect()
}

#[test]
fn a_segment_is_what_comparing_its_rows_alone_gives() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (mut a, mut b) = (frame(20, 0.0), frame(20, 400.0));
    write_parquet(&mut a, &path("a.parquet"), 5000);
    write_parquet(&mut b, &path("b.parquet"), 3000);
    let text = "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\nexclude = [\"at\"]\n\
                slice_by = [\"region\"]\n[model.segment.large]\namount = { from = 500 }\nlevel = [0, 2]\n\
                [model.segment.unknown]\nregion = { missing = true }\n";
    fs::write(path("fleet.toml"), text).unwrap();
    let report = sweep(&path("fleet.toml"), &[]);
    // The whole, three conditions' worth, and nothing for the null region but its own condition.
    let names: Vec<_> =
        report["models"].as_array().unwrap().iter().map(|m| m["segment"].as_str().unwrap_or("")).collect();
    assert_eq!(names, ["", "large", "unknown", "region=north", "region=south"]);
    assert_eq!(report["summary"]["columns_read"], 6, "each column of each side is read once for all segments");

    let alone = |name: &str, keep: &dyn Fn(usize, &DataFrame) -> bool| {
        let mut files = Vec::new();
        for (side, frame) in [("a", &a), ("b", &b)] {
            let mask = (0..frame.height()).map(|i| keep(i, frame)).collect();
            let file = path(&format!("{name}-{side}.parquet"));
            write_parquet(&mut frame.filter(&mask).unwrap(), &file, 2000);
            files.push(file.display().to_string());
        }
        compare(&files[0], &files[1], &["--exclude", "at"])
    };
    let region = |frame: &DataFrame, i: usize| frame.column("region").unwrap().str().unwrap().get(i).map(str::to_owned);
    let level = |frame: &DataFrame, i: usize| frame.column("level").unwrap().i64().unwrap().get(i).unwrap();
    let amount = |frame: &DataFrame, i: usize| frame.column("amount").unwrap().f64().unwrap().get(i).unwrap();
    for (segment, alone) in [
        ("", alone("all", &|_, _| true)),
        ("large", alone("large", &|i, frame| amount(frame, i) >= 500.0 && level(frame, i) != 1)),
        ("unknown", alone("unknown", &|i, frame| region(frame, i).is_none())),
        ("region=north", alone("north", &|i, frame| region(frame, i).as_deref() == Some("north"))),
        ("region=south", alone("south", &|i, frame| region(frame, i).as_deref() == Some("south"))),
    ] {
        let model = found(&report, "", segment);
        assert_eq!(model["rows"], alone["rows"], "{segment}");
        assert_eq!(figures(&model["features"]), figures(&alone["features"]), "{segment}");
    }
    // Columns that are not held in memory are read again, with the same result; and so is a frozen baseline.
    let again = sweep(&path("fleet.toml"), &["--memory", "16MiB", "--threads", "5"]);
    assert_eq!(again["counts_hash"], report["counts_hash"]);
    let built = run([
        "baseline",
        "build",
        "--fleet",
        path("fleet.toml").to_str().unwrap(),
        "-o",
        path("frozen").to_str().unwrap(),
    ]);
    assert!(built.status.success() && String::from_utf8_lossy(&built.stderr).contains("4 segments"));
    fs::write(path("frozen.toml"), text.replace("\"a.parquet\"", "\"frozen/m.baseline\"")).unwrap();
    let frozen = sweep(&path("frozen.toml"), &[]);
    for segment in names {
        let psi = |report: &Value| found(report, "", segment)["features"][1]["metrics"]["psi"].clone();
        assert_eq!(psi(&frozen), psi(&report), "{segment}");
    }
}

#[test]
fn a_window_is_what_comparing_its_rows_alone_gives() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (a, b) = (frame(20, 0.0), frame(20, 800.0));
    write(&a, &path("a.parquet"), 5000);
    write(&b, &path("b.parquet"), 3000);
    let text = "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\ntime = \"at\"\n\
                windows = [\"day\", \"7d\"]\nslice_by = [\"region\"]\n\
                [[model]]\nname = \"p\"\nbaseline = \"previous\"\ncurrent = \"b.parquet\"\ntime = \"at\"\nwindows = [\"day\"]\n";
    fs::write(path("fleet.toml"), text).unwrap();
    let report = sweep(&path("fleet.toml"), &["--now", "2026-01-21T00:30:00Z"]);
    let day = 24 * 60;
    let rows = |window: &str, segment: &str| found(&report, window, segment)["rows"]["current"].as_u64().unwrap();
    assert_eq!((rows("day", ""), rows("7d", "")), (day, 7 * day - 30));
    let last = compare(
        path("a.parquet").to_str().unwrap(),
        &format!("{}#rows={}..{}", path("b.parquet").display(), 19 * day, 20 * day),
        &[],
    );
    assert_eq!(figures(&found(&report, "day", "")["features"]), figures(&last["features"]));
    // The south has too few rows in a day for a verdict, but in a week it is seen to have moved.
    let south = found(&report, "7d", "region=south");
    assert!(south["rows"]["current"].as_u64().unwrap() > 2000);
    let previous = report["models"].as_array().unwrap().iter().find(|m| m["model"] == "p").unwrap();
    let before = compare(
        &format!("{}#rows={}..{}", path("b.parquet").display(), 18 * day, 19 * day),
        &format!("{}#rows={}..{}", path("b.parquet").display(), 19 * day, 20 * day),
        &[],
    );
    assert_eq!(figures(&previous["features"]), figures(&before["features"]));
    assert_eq!(previous["features"][2]["verdict"]["drifted"], true);
    // Beyond the data there are no rows, and that is said.
    let fleet = path("fleet.toml");
    let output = run(["sweep", fleet.to_str().unwrap(), "--no-state", "--now", "2026-03-01T00:00:00Z"]);
    assert_eq!(output.status.code(), Some(11));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no rows"));
}

#[test]
fn mistakes_in_segments_and_windows_are_named() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&frame(3, 0.0), &path("a.parquet"), 5000);
    let model = "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"a.parquet\"\n";
    for (more, code, words) in [
        ("windows = [\"day\"]", 4, "name the column of times with `time`"),
        ("time = \"at\"\nwindows = [\"fortnight\"]", 4, "'fortnight' is neither"),
        ("time = \"at\"\ntime_zone = \"Mars/Base\"\nwindows = [\"day\"]", 4, "no time zone is called 'Mars/Base'"),
        ("[model.segment.s]\namount = {}", 4, "give from, below or both"),
        ("[model.segment.s]\namount = []", 4, "no values are given"),
        ("slice_by = [\"regoin\"]", 11, "no column 'regoin'"),
        ("[model.segment.s]\nregion = { from = 3 }", 11, "only numbers can"),
        ("[model.segment.s]\nregoin = \"north\"", 11, "no column 'regoin'"),
        ("time = \"region\"\nwindows = [\"day\"]", 11, "holds text that is not a time"),
    ] {
        fs::write(path("fleet.toml"), format!("{model}{more}\n")).unwrap();
        let output = run(["sweep", path("fleet.toml").to_str().unwrap(), "--no-state"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more}: {said}");
        assert!(said.contains(words), "{more}: {said}");
    }
}
