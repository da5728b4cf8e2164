//! Every figure of `datasets/reference.json`, which numpy and scipy made: see `datasets/make_reference.py`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::data::{compare, dataset, feature, read_parquet, run, write_parquet};

/// PSI, Jensen-Shannon and KS.
const TIGHT: f64 = 1e-12;
/// Near zero the reference's own rounding decides.
const TIGHT_ABSOLUTE: f64 = 1e-14;
/// Wasserstein and chi-square.
const SUMS: f64 = 1e-10;
/// p-values.
const P_VALUES: f64 = 1e-6;

fn close(found: &Value, wanted: &Value, tolerance: f64, what: &str) {
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{what}: {v} is not a number"));
    let (f, w) = (number(found), number(wanted));
    let absolute = if tolerance == P_VALUES { 1e-300 } else { TIGHT_ABSOLUTE };
    assert!((f - w).abs() <= (tolerance * w.abs()).max(absolute), "{what}: found {f:e}, reference {w:e}");
}

/// The snapshot of one side of a pair, as an argument of the command.
fn snapshot(side: &Value, scratch: &Path) -> String {
    let files = side["files"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    let path = dataset(files[0].as_str().unwrap());
    match &side["rows"] {
        Value::Array(range) => format!("{}#rows={}..{}", path.display(), range[0], range[1]),
        Value::String(rows) if rows == "all" => path.display().to_string(),
        Value::String(parity) => {
            let wanted = usize::from(parity == "odd");
            let frame = read_parquet(&path);
            let mask = (0..frame.height()).map(|i| i % 2 == wanted).collect();
            let file: PathBuf = scratch.join(format!("{parity}.parquet"));
            write_parquet(&mut frame.filter(&mask).unwrap(), &file, 1000);
            file.display().to_string()
        }
        other => panic!("rows {other}"),
    }
}

fn check_column(pair: &str, name: &str, wanted: &Value, found: &Value) {
    let what = |figure: &str| format!("{pair}, {name}, {figure}");
    let (baseline, current) = (&found["baseline"], &found["current"]);
    for (side, rate) in [(baseline, "null_rate_reference"), (current, "null_rate_production")] {
        let rate_found = side["null"].as_f64().unwrap() / side["rows"].as_f64().unwrap();
        close(&rate_found.into(), &wanted[rate], TIGHT, &what(rate));
    }
    let values =
        |side: &Value| side["rows"].as_u64().unwrap() - side["null"].as_u64().unwrap() - side["nan"].as_u64().unwrap();
    let metrics = &found["metrics"];
    match wanted["kind"].as_str().unwrap() {
        "numeric" => {
            assert_eq!(found["kind"], "numeric");
            assert_eq!(values(baseline), wanted["n_reference"], "{}", what("rows"));
            assert_eq!(values(current), wanted["n_production"], "{}", what("rows"));
            close(&metrics["psi"]["reference_value"], &wanted["psi"], TIGHT, &what("psi"));
            assert_eq!(metrics["psi"]["blind_bins"], wanted["repeated_edges"], "{}", what("repeated edges"));
            let ks = &metrics["ks"];
            assert_eq!(ks["exact"], true, "{}", what("exact"));
            close(&ks["statistic"], &wanted["ks_statistic"], TIGHT, &what("ks"));
            close(&ks["p_value"], &wanted["ks_pvalue"], P_VALUES, &what("ks p"));
            close(&ks["p_value_asymptotic"], &wanted["ks_pvalue_asymp"], P_VALUES, &what("ks asymptotic p"));
            assert_eq!(ks["method"], wanted["ks_method"], "{}", what("ks method"));
            close(&metrics["wasserstein"]["value"], &wanted["wasserstein"], SUMS, &what("wasserstein"));
            let bins = &found["counts"]["bins"];
            if let Some(percentiles) = wanted["percentiles"].as_array() {
                // Breakpoints to the last bit, counts bin by bin.
                assert_eq!(bins["edges"].as_array().unwrap().as_slice(), &percentiles[1..10], "{}", what("edges"));
                assert_eq!(baseline["min"], percentiles[0], "{}", what("minimum"));
                assert_eq!(baseline["max"], percentiles[10], "{}", what("maximum"));
                assert_eq!(bins["baseline"], wanted["reference_counts"], "{}", what("counts"));
                assert_eq!(bins["current"], wanted["production_counts"], "{}", what("counts"));
            }
        }
        "categorical" => {
            assert_eq!(found["kind"], "categorical");
            assert_eq!(values(baseline), wanted["n_reference"], "{}", what("rows"));
            assert_eq!(values(current), wanted["n_production"], "{}", what("rows"));
            assert_eq!(current["unseen_categories"], wanted["only_in_production"], "{}", what("unseen"));
            close(&metrics["js"]["distance"], &wanted["js_distance"], TIGHT, &what("js distance"));
            close(&metrics["js"]["divergence"], &wanted["js_divergence"], TIGHT, &what("js divergence"));
            if wanted["chi2"].is_null() {
                assert!(metrics["chi_square"].is_null(), "{}", what("chi2"));
            } else {
                let chi_square = &metrics["chi_square"];
                close(&chi_square["statistic"], &wanted["chi2"], SUMS, &what("chi2"));
                assert_eq!(chi_square["dof"], wanted["chi2_dof"], "{}", what("dof"));
                close(&chi_square["p_value"], &wanted["chi2_pvalue"], P_VALUES, &what("chi2 p"));
                close(&chi_square["p_value_no_yates"], &wanted["chi2_pvalue_no_yates"], P_VALUES, &what("chi2 p"));
                close(&chi_square["smallest_expected"], &wanted["chi2_smallest_expected"], TIGHT, &what("expected"));
            }
            if let Some(labels) = wanted["labels"].as_array() {
                let found = found["counts"]["categories"].as_array().unwrap();
                for (i, label) in labels.iter().enumerate() {
                    assert_eq!(&found[i]["name"], label, "{}", what("label"));
                    assert_eq!(found[i]["baseline"], wanted["reference_counts"][i], "{}", what("counts"));
                    assert_eq!(found[i]["current"], wanted["production_counts"][i], "{}", what("counts"));
                }
            }
        }
        other => panic!("{other}"),
    }
}

fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(dataset("reference.json")).unwrap()).unwrap()
}

#[test]
fn every_figure_of_the_reference_is_reproduced() {
    let scratch = tempfile::tempdir().unwrap();
    let (mut pairs, mut columns) = (0, 0);
    for pair in reference()["pairs"].as_array().unwrap() {
        let name = pair["name"].as_str().unwrap();
        let (a, b) = (snapshot(&pair["reference"], scratch.path()), snapshot(&pair["production"], scratch.path()));
        let report = compare(&a, &b, &[]);
        assert_eq!(report["rows"]["baseline"], pair["rows_reference"]);
        assert_eq!(report["rows"]["current"], pair["rows_production"]);
        for (column, wanted) in pair["columns"].as_object().unwrap() {
            match wanted["kind"].as_str().unwrap() {
                "numeric" | "categorical" => {
                    check_column(name, column, wanted, feature(&report, column));
                    columns += 1;
                }
                "timestamp" if column == "time_hour" && name.contains("even") => {}
                "timestamp" => assert_eq!(feature(&report, column)["status"], "not_compared"),
                "missing_in_production" => assert_eq!(feature(&report, column)["status"], "missing_column"),
                // An identifier: the reference gives its null rate only.
                "key" => assert_eq!(feature(&report, column)["baseline"]["null"], 0),
                other => panic!("{other}"),
            }
        }
        pairs += 1;
    }
    assert!(pairs == 14 && columns > 550, "{pairs} pairs, {columns} columns");
}

#[test]
fn a_baseline_file_gives_the_same_bins_and_an_interval_that_holds_the_statistic() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("january.baseline");
    let january = dataset("nycflights13/flights-2013-01.parquet");
    let output = run(["baseline", "build", january.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let july = dataset("nycflights13/flights-2013-07.parquet");
    let frozen = compare(file.to_str().unwrap(), july.to_str().unwrap(), &[]);
    let live = compare(january.to_str().unwrap(), july.to_str().unwrap(), &[]);
    let mut intervals = 0;
    for wanted in live["features"].as_array().unwrap() {
        let found = feature(&frozen, wanted["name"].as_str().unwrap());
        assert_eq!(found["counts"], wanted["counts"], "{}", wanted["name"]);
        assert_eq!(found["status"], wanted["status"]);
        for metric in ["psi", "js", "chi_square", "hellinger", "quantiles", "moments"] {
            assert_eq!(found["metrics"][metric], wanted["metrics"][metric], "{} {metric}", wanted["name"]);
        }
        if let Some(d) = wanted["metrics"]["ks"]["statistic"].as_f64() {
            let ks = &found["metrics"]["ks"];
            let lower = ks["statistic"].as_f64().unwrap();
            let upper = ks["upper"].as_f64().unwrap_or(lower);
            assert!(lower <= d && d <= upper, "{}: {d} not in [{lower}, {upper}]", wanted["name"]);
            assert!(upper - lower < 0.005, "{}: [{lower}, {upper}]", wanted["name"]);
            assert_eq!(ks["exact"] == true, ks["upper"].is_null());
            intervals += 1;
        }
    }
    assert!(intervals >= 14);
}

/// Figures taken from the tools themselves (`tests/golden/against_conventions.py --record`).
#[test]
fn every_figure_of_a_convention_is_that_of_the_tool() {
    let text = include_str!("../golden/conventions.json");
    let tools: std::collections::BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    let known: Vec<&str> = tools.keys().map(String::as_str).collect();
    let mut all = driftsweep::metric::convention::Convention::ALL.map(|convention| convention.name());
    all.sort_unstable();
    assert_eq!(known, all);
    let months = ["01", "07"].map(|month| dataset(&format!("nycflights13/flights-2013-{month}.parquet")));
    let [baseline, current] = months.map(|path| path.display().to_string());
    for (tool, columns) in tools {
        let report = compare(&baseline, &current, &["--convention", &tool]);
        for (name, figures) in columns.as_object().unwrap() {
            let found = &feature(&report, name)["metrics"]["convention"];
            assert_eq!(found["name"], tool.as_str());
            for (figure, wanted) in figures.as_object().unwrap() {
                let what = format!("{tool} {name} {figure}");
                if figure == "decides" {
                    assert_eq!(&found[figure], wanted, "{what}");
                } else {
                    // NannyML's share outside of its bins is what rounding leaves of one.
                    let tolerance = if tool == "nannyml" { 1e-7 } else { 1e-10 };
                    close(&found[figure], wanted, tolerance, &what);
                }
            }
        }
    }
}
