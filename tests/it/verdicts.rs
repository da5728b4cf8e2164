//! One rule: all commands give the same answer to whether a feature has drifted.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, dataset, feature, run};

/// Pairs of snapshots of the repository's real data.
fn pairs() -> Vec<(String, String)> {
    let path = |name: String| dataset(&name).to_str().unwrap().to_owned();
    let month = |table: &str, month: u32| path(format!("nycflights13/{table}-2013-{month:02}.parquet"));
    let mut pairs = vec![(path("car_loan/reference.parquet".into()), path("car_loan/production.parquet".into()))];
    for table in ["flights", "weather"] {
        pairs.extend((2..=12).map(|later| (month(table, 1), month(table, later))));
    }
    let batch = |batch: u32| path(format!("bladder/batch-{batch}.parquet"));
    pairs.extend((2..=5).map(|later| (batch(1), batch(later))));
    pairs
}

/// The features of a report for which something holds.
fn names(features: &Value, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let features = features.as_array().unwrap().iter().filter(|feature| wanted(feature));
    features.map(|feature| feature["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn compare_sweep_and_tick_agree_on_what_drifted_on_every_dataset() {
    let pairs = pairs();
    let (mut drifted_in_all, mut judged_in_all) = (0, 0);
    for (baseline, current) in &pairs {
        let place = TempDir::new().unwrap();
        let fleet = place.path().join("fleet.toml");
        let text = format!(
            "[[model]]\nname = \"m\"\nbaseline = '{baseline}'\ncurrent = '{current}'\n\
             [model.trigger.drift]\npersistence = \"1 of 1\"\n"
        );
        fs::write(&fleet, text).unwrap();
        let (fleet, state) = (fleet.to_str().unwrap(), place.path().join("state"));
        let json = |args: &[&str]| -> Value {
            let output = run(args.iter().chain(&["--format", "json"]));
            assert!(output.status.code().is_some_and(|code| code == 0 || code == 11), "{args:?} {output:?}");
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let is_drifted = |feature: &Value| feature["verdict"]["drifted"] == true;
        let compared = compare(baseline, current, &[]);
        let wanted = names(&compared["features"], is_drifted);
        let swept = json(&["sweep", fleet, "--no-state"]);
        assert_eq!(names(&swept["models"][0]["features"], is_drifted), wanted, "{current}");
        assert_eq!(swept["summary"]["drifted"], wanted.len(), "{current}");
        let state = state.to_str().unwrap();
        let ticked = run(["tick", fleet, "--state", state]);
        assert!(ticked.status.code().is_some_and(|code| code == 0 || code == 11), "{ticked:?}");
        let explained = json(&["explain", "m", fleet, "--state", state]);
        let drift = &explained["evaluation"]["drift"];
        let columns = drift["comparisons"][0]["columns"].as_array().unwrap();
        let of_trigger = columns.iter().filter(|column| column["drifts"] == true);
        let of_trigger: BTreeSet<String> =
            of_trigger.map(|column| column["feature"].as_str().unwrap().to_owned()).collect();
        assert_eq!(of_trigger, wanted, "{current}");
        assert_eq!(drift["fired"], !wanted.is_empty(), "{current}");
        // The exit code asks the same.
        let code = run(["compare", baseline, current, "--fail-on-drift"]).status.code();
        assert_eq!(code == Some(10), !wanted.is_empty(), "{current}: {code:?}");
        // Each that has drifted is significant, and says by which figure.
        for name in &wanted {
            let verdict = &feature(&compared, name)["verdict"];
            assert_eq!(verdict["significant"], true, "{current}: {name}");
            let counts = |signal: &&Value| signal["over"] == true && signal["significant"] == true;
            let by = verdict["signals"].as_array().unwrap().iter().filter(counts).count();
            assert_eq!(by, verdict["reasons"].as_array().unwrap().len(), "{current}: {name}");
            assert!(by > 0, "{current}: {name}");
        }
        drifted_in_all += wanted.len();
        judged_in_all += compared["features"].as_array().unwrap().len();
    }
    assert!(drifted_in_all > 10 && drifted_in_all < judged_in_all, "{drifted_in_all} of {judged_in_all}");
}

#[test]
fn calibration_switches_no_check_off_where_nothing_varies() {
    use driftsweep::snapshot::table::{Cells, to_parquet};
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name);
    let write = |name: &str, has_value: &dyn Fn(u32) -> bool| {
        let values = |i: u32| has_value(i).then_some(f64::from(i * 7919 % 3000));
        let constant = |i: u32| has_value(i).then_some(1.0);
        let columns = vec![
            ("x", Cells::Float((0..3000).map(values).collect())),
            ("constant", Cells::Float((0..3000).map(constant).collect())),
        ];
        fs::write(path(name), to_parquet(columns).unwrap()).unwrap();
    };
    write("train.parquet", &|_| true);
    write("today.parquet", &|_| true);
    let model = "[[model]]\nname = \"m\"\nbaseline = \"train.parquet\"\ncurrent = \"today.parquet\"\n";
    fs::write(path("fleet.toml"), model).unwrap();
    let fleet = path("fleet.toml").to_str().unwrap().to_owned();
    let args = ["calibrate", &fleet, "--nights", "20", "--write", "--state", path("state").to_str().unwrap()]
        .map(str::to_owned);
    let output = run(&args);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("missing stays as it is"), "{said}");
    let text = fs::read_to_string(&fleet).unwrap();
    assert!(!text.contains("missing") && text.contains("psi ="), "{text}");
    // The next night nearly all values are missing: that is found.
    write("today.parquet", &|i| i % 20 == 0);
    let output = run(["sweep", &fleet, "--no-state", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["summary"]["drifted"], 2, "{}", report["models"][0]["features"]);
}

#[test]
fn the_false_discovery_rate_of_a_comparison_is_a_flag() {
    let path =
        |month: &str| dataset(&format!("nycflights13/flights-2013-{month}.parquet")).to_str().unwrap().to_owned();
    let (january, july) = (path("01"), path("07"));
    let drifted = |more: &[&str]| {
        let found = compare(&january, &july, more);
        names(&found["features"], |feature| feature["verdict"]["drifted"] == true)
    };
    assert!(!drifted(&[]).is_empty());
    assert_eq!(drifted(&[]), drifted(&["--fdr", "0.05"]));
    // Of values that are as unlikely as a double can tell, even that calls some.
    let strict = compare(&january, &july, &["--fdr", "1e-320"]);
    let q_is_tiny = |feature: &Value| {
        // Where nothing could be judged there are none.
        let mut signals = feature["verdict"]["signals"].as_array().into_iter().flatten();
        signals.any(|signal| signal["over"] == true && signal["q_value"].as_f64().is_some_and(|q| q <= 1e-320))
    };
    let is_drifted = |feature: &Value| feature["verdict"]["drifted"] == true;
    assert_eq!(names(&strict["features"], is_drifted), names(&strict["features"], q_is_tiny));
    for wrong in ["-0.1", "0", "1.5", "nan"] {
        let output = run(["compare", &january, &july, &format!("--fdr={wrong}")]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("above 0 and at most 1"), "{output:?}");
    }
}

/// Two snapshots of a million rows: four numeric columns that are moved by a hundredth of their standard deviation, and
/// a category whose shares move by two thousandths.
#[test]
fn a_quiet_pair_of_a_million_rows_is_significant_and_has_not_drifted() {
    use driftsweep::snapshot::table::{CellType, Cells, TableWriter};
    let place = TempDir::new().unwrap();
    let rows = 1_000_000u64;
    let uniform = |seed: u64, row: u64| {
        let mut x = (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) as f64 / u64::MAX as f64
    };
    let write = |name: &str, seed: u64, shift: f64| {
        let names = ["a", "b", "c", "d"].map(|name| (name, CellType::Float));
        let columns: Vec<_> = names.into_iter().chain([("kind", CellType::Text)]).collect();
        let path = place.path().join(name);
        let mut writer = TableWriter::new(fs::File::create(&path).unwrap(), &columns).unwrap();
        let texts: std::sync::Arc<[String]> = ["x".to_owned(), "y".to_owned(), "z".to_owned()].into();
        for start in (0..rows).step_by(250_000) {
            let part = start..start + 250_000;
            let mut cells: Vec<Cells> = (0..4)
                .map(|column| {
                    // The sum of twelve uniform numbers is nearly normal, with a standard deviation of 1.
                    let normal = |row| (0..12).map(|i| uniform(seed * 1000 + column * 100 + i, row)).sum::<f64>() - 6.0;
                    Cells::Float(part.clone().map(|row| Some(normal(row) + shift)).collect())
                })
                .collect();
            let kind = |row: u64| match uniform(seed * 7, row) - shift / 5.0 {
                x if x < 0.5 => 0,
                x if x < 0.8 => 1,
                _ => 2,
            };
            cells.push(Cells::Names(part.map(|row| Some(kind(row))).collect(), texts.clone()));
            writer.write(250_000, cells).unwrap();
        }
        writer.finish().unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (before, now) = (write("before.parquet", 1, 0.0), write("now.parquet", 2, 0.01));
    let found = compare(&before, &now, &[]);
    let features = &found["features"];
    assert_eq!(names(features, |feature| feature["verdict"]["drifted"] == true), BTreeSet::new());
    let significant = names(features, |feature| feature["verdict"]["significant"] == true);
    assert!(significant.len() >= 3, "{significant:?}");
    // By its p-value alone the Kolmogorov-Smirnov test would call them.
    let called = names(features, |feature| feature["metrics"]["ks"]["p_value"].as_f64().is_some_and(|p| p < 0.01));
    assert!(called.len() >= 3, "{called:?}");
    let output = run(["compare", &before, &now, "--fail-on-drift"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
