//! The command as its users call it: messages, exit codes, formats.

use std::fs;
use std::path::Path;

use polars::prelude::{DataFrame, NamedFrom, Series};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, dataset, feature, read_parquet, run, write_parquet};

fn numbers(name: &str, n: u32) -> Series {
    Series::new(name.into(), (0..n).map(f64::from).collect::<Vec<_>>())
}

fn snapshot(folder: &Path, name: &str, columns: Vec<Series>) -> String {
    let path = folder.join(name);
    let mut frame = DataFrame::new_infer_height(columns.into_iter().map(Into::into).collect()).unwrap();
    write_parquet(&mut frame, &path, 500);
    path.display().to_string()
}

/// Runs and checks the exit code and that the message names what it is about.
fn fails(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: '{word}' is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn bad_input_is_named_with_its_remedy_and_has_its_own_exit_code() {
    let folder = TempDir::new().unwrap();
    let good = snapshot(folder.path(), "good.parquet", vec![numbers("x", 100)]);
    let path = |name: &str| folder.path().join(name).display().to_string();

    fails(&["compare", &path("missing.parquet"), &good], 3, &["missing.parquet", "no such file"]);
    fails(&["compare", &good, &path("no/*.parquet")], 3, &["no/*.parquet"]);
    fails(&["compare", folder.path().join("empty-folder").to_str().unwrap(), &good], 3, &["empty-folder"]);

    fs::write(path("text.parquet"), "this is not a Parquet file at all").unwrap();
    fails(&["compare", &path("text.parquet"), &good], 3, &["text.parquet", "not a readable Parquet file"]);
    fs::write(path("empty.parquet"), "").unwrap();
    fails(&["compare", &good, &path("empty.parquet")], 3, &["empty.parquet"]);
    fs::write(path("empty.csv"), "").unwrap();
    fails(&["compare", &good, &path("empty.csv")], 3, &["empty.csv", "header"]);
    fs::write(path("utf16.csv"), [0xFF, 0xFE, b'x', 0, b'\n', 0, b'1', 0, b'\n', 0]).unwrap();
    fails(&["compare", &good, &path("utf16.csv")], 3, &["utf16.csv", "convert it to UTF-8"]);
    fs::write(path("cr.csv"), "x,y\r1,2\r").unwrap();
    fails(&["compare", &good, &path("cr.csv")], 3, &["cr.csv", "convert them to LF"]);

    let whole = fs::read(&good).unwrap();
    fs::write(path("cut.parquet"), &whole[..whole.len() - 20]).unwrap();
    fails(&["compare", &good, &path("cut.parquet")], 3, &["cut.parquet", "truncated"]);

    let none = snapshot(folder.path(), "none.parquet", vec![numbers("x", 0)]);
    fails(&["compare", &good, &none], 3, &["none.parquet", "no rows"]);
    let other = snapshot(folder.path(), "other.parquet", vec![numbers("y", 100)]);
    fails(&["compare", &good, &other], 3, &["no column in common"]);

    fails(&["compare", &good, &good, "--metrics", "psy"], 2, &["unknown metric 'psy'", "psi"]);
    fails(&["compare", &good, &good, "--format", "xml"], 2, &["unknown format 'xml'"]);
    fails(&["compare", &good, &good, "--bins", "1"], 2, &["--bins", "between 2 and 1000"]);
    fails(&["compare", &good, &good, "--memory", "1MiB"], 2, &["--memory", "16MiB"]);
    fails(&["compare", &good, &good, "--memory", "lots"], 2, &["--memory"]);
    fails(&["compare", &good, &good, "--threads", "0"], 2, &["--threads"]);
    fails(&["compare", &good, &good, "--features", "z"], 3, &["no column 'z'", "x"]);
    fails(&["compare", &good, &format!("{good}#rows=a..b")], 2, &["#rows"]);
    fails(&["compare", &good, &good, "--gpu-memory", "1KiB"], 2, &["--gpu-memory", "1MiB"]);
    fails(&["compare", &good, &good, "-o", "/proc/nowhere/report.json"], 7, &["/proc/nowhere/report.json"]);
}

#[test]
fn a_damaged_column_is_a_status_and_the_others_are_compared() {
    let folder = TempDir::new().unwrap();
    let a = snapshot(folder.path(), "a.parquet", vec![numbers("x", 2000), numbers("y", 2000)]);
    // Overwrite the pages of the first column; the footer stays whole.
    let mut bytes = fs::read(&a).unwrap();
    bytes[4..400].fill(0xAB);
    let b = folder.path().join("b.parquet");
    fs::write(&b, bytes).unwrap();
    let report = compare(&a, b.to_str().unwrap(), &[]);
    let x = feature(&report, "x");
    assert_eq!(x["status"], "unreadable");
    assert!(x["detail"].as_str().unwrap().contains("b.parquet"), "{x}");
    assert_eq!(feature(&report, "y")["status"], "ok");
    assert_eq!(feature(&report, "y")["metrics"]["ks"]["statistic"], 0.0);
}

#[test]
fn a_schema_mismatch_is_reported_feature_by_feature() {
    let folder = TempDir::new().unwrap();
    let text = Series::new("y".into(), vec!["a"; 2000]);
    let a = snapshot(folder.path(), "a.parquet", vec![numbers("x", 2000), numbers("y", 2000), numbers("z", 2000)]);
    let b = snapshot(folder.path(), "b.parquet", vec![numbers("x", 2000), text]);
    let output = run(["compare", &a, &b, "--format", "json"]);
    assert_eq!(output.status.code(), Some(11));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let statuses = ["x", "y", "z"].map(|name| feature(&report, name)["status"].as_str().unwrap().to_owned());
    assert_eq!(statuses, ["ok", "type_changed", "missing_column"]);
}

#[test]
fn a_bad_fleet_file_is_refused_with_its_line_and_a_bad_model_is_not_fatal() {
    let folder = TempDir::new().unwrap();
    let fleet = folder.path().join("fleet.toml");
    fs::write(&fleet, "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\npsi = 3\n").unwrap();
    fails(&["sweep", fleet.to_str().unwrap()], 4, &["fleet.toml:5", "psi"]);

    snapshot(folder.path(), "a.parquet", vec![numbers("x", 2000)]);
    let text = "[[model]]\nname = \"good\"\nbaseline = \"a.parquet\"\ncurrent = \"a.parquet\"\n\
                [[model]]\nname = \"bad\"\nbaseline = \"a.parquet\"\ncurrent = \"gone.parquet\"\n";
    fs::write(&fleet, text).unwrap();
    let output = run(["sweep", fleet.to_str().unwrap(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(11));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["summary"]["failed_comparisons"], 1);
    assert_eq!(report["models"][0]["features"][0]["status"], "ok");
    assert!(report["models"][1]["error"].as_str().unwrap().contains("gone.parquet"));
    let output = run(["sweep", fleet.to_str().unwrap(), "--format", "csv"]);
    let rows = String::from_utf8(output.stdout).unwrap();
    assert!(rows.lines().any(|row| row.starts_with("bad,,,") && row.contains("gone.parquet")), "{rows}");
}

#[test]
fn the_report_does_not_depend_on_threads_or_memory() {
    let (a, b) = (dataset("car_loan/reference.parquet"), dataset("car_loan/production.parquet"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let mut reports = [["--threads", "1"], ["--threads", "7"], ["--memory", "16MiB"]].map(|args| compare(a, b, &args));
    for report in &mut reports {
        report["engine"] = Value::Null;
    }
    for other in &reports[1..] {
        for (a, b) in reports[0]["features"].as_array().unwrap().iter().zip(other["features"].as_array().unwrap()) {
            assert_eq!(a, b);
        }
        assert_eq!(reports[0]["counts_hash"], other["counts_hash"]);
    }
    assert_eq!(reports[0]["schema_version"], 1);
    assert_eq!(reports[0]["counts_hash"].as_str().unwrap().len(), 64);
}

#[test]
fn every_format_holds_the_same_figures() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (dataset("nycflights13/weather-2013-01.parquet"), dataset("nycflights13/weather-2013-07.parquet"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let report = compare(a, b, &[]);
    let csv = run(["compare", a, b, "--format", "csv"]);
    let mut rows = csv::Reader::from_reader(csv.stdout.as_slice());
    let header = rows.headers().unwrap().clone();
    let at = |name: &str| header.iter().position(|h| h == name).unwrap();
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    let file = folder.path().join("report.parquet");
    assert!(run(["compare", a, b, "--format", "parquet", "-o", file.to_str().unwrap()]).status.success());
    let frame = read_parquet(&file);
    let psi = frame.column("psi").unwrap();
    for (i, found) in report["features"].as_array().unwrap().iter().enumerate() {
        assert_eq!(rows[i][at("feature")], *found["name"].as_str().unwrap());
        let wanted = found["metrics"]["psi"]["value"].as_f64();
        // Written so that they read back to the same double.
        assert_eq!(rows[i][at("psi")].parse::<f64>().ok(), wanted);
        assert_eq!(psi.get(i).unwrap().extract::<f64>(), wanted);
    }
    let table = run(["compare", a, b, "--top", "3"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("temp") && text.contains("more; --top 0 shows all"), "{text}");
}

#[test]
fn drift_can_be_an_exit_code() {
    let (a, b) = (dataset("car_loan/reference.parquet"), dataset("car_loan/production.parquet"));
    let features = ["--features", "car_value,driver_tenure", "--fail-on-drift"];
    let code = |rows: &str| {
        let current = format!("{}#rows={rows}", b.display());
        run(["compare", a.to_str().unwrap(), &current].iter().chain(&features)).status.code()
    };
    assert_eq!(code("0..25000"), Some(0));
    assert_eq!(code("25000..50000"), Some(10));
}

#[test]
fn the_demo_is_quiet_before_the_onset_of_drift_and_not_after_it() {
    let output = run(["demo", "--data", dataset("").to_str().unwrap(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let drifted = |window: &str| {
        let models = report["models"].as_array().unwrap();
        models.iter().find(|m| m["window"] == window).unwrap()["drifted"].as_u64().unwrap()
    };
    assert_eq!(drifted("before-onset"), 0);
    assert!(drifted("after-onset") >= 4);
    let summary = &report["summary"];
    assert!(summary["columns_read"].as_u64() < summary["columns_used"].as_u64(), "shared columns are read once");
}

#[test]
fn init_writes_a_fleet_file_that_sweeps_and_says_what_it_left_out() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("fleet.toml");
    let (a, b) = (dataset("car_loan/reference.parquet"), dataset("car_loan/production.parquet"));
    let args = ["init", a.to_str().unwrap(), b.to_str().unwrap(), "-o", file.to_str().unwrap(), "--name", "it's \"x\""];
    assert_eq!(run(args).status.code(), Some(0));
    fails(&args, 2, &["--force"]);
    let text = fs::read_to_string(&file).unwrap();
    for (column, role) in
        [("id", "identifier"), ("timestamp", "time"), ("repaid", "label"), ("y_pred_proba", "prediction")]
    {
        let line = text.lines().find(|line| line.contains(&format!("\"{column}\","))).unwrap();
        assert!(line.contains(role), "{line}");
    }
    assert!(!text.lines().any(|line| line.contains("\"car_value\",")), "{text}");
    let output = run(["sweep", file.to_str().unwrap(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["models"][0]["model"], "it's \"x\"");
    assert_eq!(report["models"][0]["features"].as_array().unwrap().len(), 7);
}

#[test]
fn a_baseline_file_that_is_not_one_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = snapshot(folder.path(), "good.parquet", vec![numbers("x", 3000)]);
    assert!(run(["baseline", "build", &good, "-o", &path("x.baseline")]).status.success());
    let shown = run(["baseline", "show", &path("x.baseline")]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("3000 values"));

    fs::write(path("other.baseline"), "nonsense that is long enough").unwrap();
    fails(&["compare", &path("other.baseline"), &good], 5, &["other.baseline", "not a baseline file"]);
    let bytes = fs::read(path("x.baseline")).unwrap();
    fs::write(path("cut.baseline"), &bytes[..bytes.len() - 9]).unwrap();
    fails(&["compare", &path("cut.baseline"), &good], 5, &["cut.baseline", "build it again"]);
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(path("flipped.baseline"), &flipped).unwrap();
    fails(&["compare", &path("flipped.baseline"), &good], 5, &["does not match its hash"]);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("\"version\":\"1\""));
    let at = bytes.windows(13).position(|w| w == b"\"version\":\"1\"").unwrap();
    let mut newer = bytes.clone();
    newer[at + 11] = b'9';
    fs::write(path("newer.baseline"), &newer).unwrap();
    fails(
        &["compare", &path("newer.baseline"), &good],
        5,
        &["version 9", "knows versions up to 3; install the newer one, or build it again"],
    );
    fails(&["compare", &path("x.baseline"), &good, "--bins", "20"], 2, &["built with 10"]);
}

#[test]
fn a_model_name_never_becomes_a_path_outside_its_folder() {
    let folder = TempDir::new().unwrap();
    snapshot(folder.path(), "a.parquet", vec![numbers("x", 100)]);
    let fleet = folder.path().join("fleet.toml");
    let model =
        |name: &str| format!("[[model]]\nname = \"{name}\"\nbaseline = \"a.parquet\"\ncurrent = \"a.parquet\"\n");
    fs::write(&fleet, model("../../e vil/$(x)") + &model("a/b") + &model("a_b")).unwrap();
    let out = folder.path().join("out");
    assert!(
        run(["baseline", "build", "--fleet", fleet.to_str().unwrap(), "-o", out.to_str().unwrap()]).status.success()
    );
    let files: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files.len(), 3, "different models, different files: {files:?}");
    assert!(files.iter().all(|f| f.ends_with(".baseline") && !f.starts_with('.')), "{files:?}");
}

#[test]
fn an_output_never_overwrites_an_input() {
    let folder = TempDir::new().unwrap();
    let a = snapshot(folder.path(), "a.parquet", vec![numbers("x", 100)]);
    let before = fs::read(&a).unwrap();
    fails(&["compare", &a, &a, "-o", &a], 2, &["a.parquet", "is an input"]);
    let fleet = folder.path().join("fleet.toml");
    fs::write(&fleet, "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"a.parquet\"\n").unwrap();
    let fleet = fleet.to_str().unwrap();
    fails(&["sweep", fleet, "-o", fleet], 2, &["fleet.toml", "is an input"]);
    fails(&["sweep", fleet, "-o", &a], 2, &["a.parquet", "is an input"]);
    assert_eq!(fs::read(&a).unwrap(), before);
}

#[test]
fn a_baseline_of_extreme_values_can_be_read_back() {
    let folder = TempDir::new().unwrap();
    let values: Vec<f64> = (0..1500).map(|i| if i % 2 == 0 { 1.79e308 } else { -1e308 }).collect();
    let a = snapshot(folder.path(), "a.parquet", vec![Series::new("x".into(), values), numbers("y", 1500)]);
    let file = folder.path().join("a.baseline").display().to_string();
    assert!(run(["baseline", "build", &a, "-o", &file]).status.success());
    let report = compare(&file, &a, &[]);
    assert_eq!(feature(&report, "x")["metrics"]["psi"]["value"], 0.0);
    assert_eq!(feature(&report, "y")["status"], "ok");
}

#[test]
fn a_name_in_a_fleet_file_that_no_column_has_fails_that_model_and_doctor_says_so_first() {
    let folder = TempDir::new().unwrap();
    snapshot(folder.path(), "a.parquet", vec![numbers("x", 1500), numbers("y", 1500)]);
    let fleet = folder.path().join("fleet.toml");
    let model = |name: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"a.parquet\"\ncurrent = \"a.parquet\"\n{more}\n")
    };
    let text = model("a", "exclude = [\"typo\"]")
        + &model("b", "features = [\"typo\"]")
        + &model("c", "exclude = [\"x\", \"y\"]");
    fs::write(&fleet, text + &model("d", "")).unwrap();
    let output = run(["sweep", fleet.to_str().unwrap(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(11));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = |i: usize| report["models"][i]["error"].as_str().unwrap_or("none").to_owned();
    assert!(error(0).contains("'typo'") && error(1).contains("'typo'"), "{report}");
    assert!(error(2).contains("no feature is left"));
    assert_eq!(error(3), "none");
    let doctor = run(["doctor", fleet.to_str().unwrap()]);
    assert_eq!(doctor.status.code(), Some(11));
    assert_eq!(String::from_utf8_lossy(&doctor.stdout).matches("BROKEN").count(), 3);
}

#[test]
fn models_that_share_a_column_but_ask_other_things_of_it_each_get_their_own() {
    let folder = TempDir::new().unwrap();
    let names = Series::new("t".into(), (0..2000).map(|i| format!("c{}", i % 50)).collect::<Vec<_>>());
    snapshot(folder.path(), "a.parquet", vec![numbers("x", 2000), names]);
    let model = |name: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"a.parquet\"\ncurrent = \"a.parquet\"\n{more}\n")
    };
    let fleet = folder.path().join("fleet.toml");
    let text = model("a", "importance = 9\nmetrics = [\"psi\"]\ncategory_limit = 10") + &model("b", "");
    fs::write(&fleet, text).unwrap();
    let output = run(["sweep", fleet.to_str().unwrap(), "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (a, b) = (&report["models"][0]["features"], &report["models"][1]["features"]);
    assert!(a[0]["metrics"].get("moments").is_none());
    assert_eq!(b[0]["metrics"]["moments"]["mean_shift"], 0.0);
    assert_eq!((&a[1]["baseline"]["categories"], &b[1]["baseline"]["categories"]), (&10.into(), &50.into()));
}

#[test]
fn integers_that_come_back_as_floats_are_compared_with_a_frozen_baseline_and_fractions_are_not() {
    let folder = TempDir::new().unwrap();
    let integers = Series::new("x".into(), (0..3000).collect::<Vec<i64>>());
    let with_nulls = |x: f64| (0..3000).map(|i| (i % 7 != 0).then(|| f64::from(i) + x)).collect::<Vec<_>>();
    let a = snapshot(folder.path(), "a.parquet", vec![integers]);
    let whole = snapshot(folder.path(), "whole.parquet", vec![Series::new("x".into(), with_nulls(0.0))]);
    let fractions = snapshot(folder.path(), "fractions.parquet", vec![Series::new("x".into(), with_nulls(0.5))]);
    let frozen = folder.path().join("a.baseline").display().to_string();
    assert!(run(["baseline", "build", &a, "-o", &frozen]).status.success());

    let (live, against) = (compare(&a, &whole, &[]), compare(&frozen, &whole, &[]));
    let counts = |report: &Value| feature(report, "x")["counts"].clone();
    assert_eq!(feature(&against, "x")["status"], "ok");
    assert_eq!(counts(&live), counts(&against));
    let refused = compare(&frozen, &fractions, &[]);
    assert_eq!(feature(&refused, "x")["status"], "type_changed");
    assert!(feature(&refused, "x")["detail"].as_str().unwrap().contains("fractions.parquet, column 'x'"));
}

#[test]
fn a_convention_decides_by_its_own_figure_and_needs_the_values_for_its_bins() {
    let folder = TempDir::new().unwrap();
    let shifted = Series::new("x".into(), (0..2000).map(|i| f64::from(i * 37 % 1000) + 40.0).collect::<Vec<_>>());
    let a = snapshot(folder.path(), "a.parquet", vec![numbers("x", 2000)]);
    let b = snapshot(folder.path(), "b.parquet", vec![shifted]);
    let frozen = folder.path().join("a.baseline").display().to_string();
    assert!(run(["baseline", "build", &a, "-o", &frozen]).status.success());

    fails(&["compare", &a, &b, "--convention", "evident"], 2, &["unknown convention 'evident'", "evidently"]);
    fails(&["compare", &frozen, &b, "--convention", "evidently"], 2, &["a.baseline", "training snapshot"]);
    let deepchecks = compare(&frozen, &b, &["--convention", "deepchecks"]);
    assert!(feature(&deepchecks, "x")["metrics"]["convention"]["ks"].is_number());

    let fleet = folder.path().join("fleet.toml");
    let model = format!("[[model]]\nname = \"m\"\nbaseline = \"{a}\"\ncurrent = \"{b}\"\n");
    let drifted = |setting: &str| {
        fs::write(&fleet, format!("{model}{setting}")).unwrap();
        let output = run(["sweep", fleet.to_str().unwrap(), "--format", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["models"][0]["features"][0]["verdict"]["drifted"].as_bool().unwrap()
    };
    // The distance is 0.14 standard deviations; Evidently's limit is 0.1.
    assert!(drifted("convention = \"evidently\""));
    let rule =
        |limit| format!("[model.convention]\nname = \"evidently\"\nnumeric = {{ metric = \"js\", limit = {limit} }}");
    assert!(drifted(&rule("0.05")));
    assert!(!drifted(&rule("0.5")));
    // TFDV has no limit of its own.
    assert!(!drifted("convention = \"tfdv\""));
}
