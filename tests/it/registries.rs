//! The registries: what stands in the table of metrics, of formats or of backends is found everywhere where it belongs. What is
//! left out stands in a list that has to be true.

use std::collections::BTreeSet;
use std::fs;

use driftsweep::count::Backend;
use driftsweep::metric::{Kind, Metric, Subject};
use driftsweep::rule::Thresholds;
use driftsweep_report::report::ReportFormat;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, dataset, documents, root, run};

/// Metrics that are no column of flat reports and of the history.
const WITHOUT_A_COLUMN: &[Metric] = &[Metric::Quantiles];

/// Tests that are not among those of the sweep: over the same bins PSI and JS are one test, that of PSI for numbers and that
/// of JS for categories.
const NOT_TESTED_TWICE: [(Metric, Kind); 2] = [(Metric::Psi, Kind::Categorical), (Metric::Js, Kind::Numeric)];

fn months() -> [String; 2] {
    ["01", "07"].map(|month| dataset(&format!("nycflights13/flights-2013-{month}.parquet")).display().to_string())
}

/// The features of a report that were compared, each with its kind.
fn compared(report: &Value) -> impl Iterator<Item = (Kind, &Value)> {
    let features = report["features"].as_array().unwrap();
    let features = features.iter().filter(|feature| feature["status"] == "ok" || feature["status"] == "constant");
    features.map(|feature| (serde_json::from_value(feature["kind"].clone()).unwrap(), feature))
}

fn names(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_metric_is_in_the_report_of_the_kinds_that_have_it() {
    let [baseline, current] = months();
    let all = compare(&baseline, &current, &[]);
    for kind in Kind::ALL {
        let found: BTreeSet<&str> =
            compared(&all).filter(|(of, _)| *of == kind).flat_map(|(_, feature)| names(&feature["metrics"])).collect();
        let having = Metric::ALL.into_iter().filter(|metric| metric.spec().kinds.contains(&kind));
        assert_eq!(found, having.map(Metric::name).collect(), "{}", kind.name());
    }
    // Each can be had by its name, alone, with the same figures.
    for metric in Metric::ALL {
        let alone = compare(&baseline, &current, &["--metrics", metric.name()]);
        let mut seen = 0;
        for ((kind, found), (_, wanted)) in compared(&alone).zip(compared(&all)) {
            let has = metric.spec().kinds.contains(&kind) && !wanted["metrics"][metric.name()].is_null();
            assert_eq!(names(&found["metrics"]).into_iter().collect::<Vec<_>>(), vec![metric.name(); has.into()]);
            let without_q_values = |metrics: &Value| {
                let mut figures = metrics[metric.name()].clone();
                figures.as_object_mut().map(|figures| figures.remove("q_value"));
                figures.get_mut("noise").and_then(|noise| noise.as_object_mut()?.remove("q_value"));
                figures
            };
            assert_eq!(without_q_values(&found["metrics"]), without_q_values(&wanted["metrics"]), "{metric}");
            seen += usize::from(has);
        }
        assert!(seen > 0, "{metric} is nowhere");
    }
}

#[test]
fn every_metric_is_in_flat_reports_and_in_the_history() {
    let folder = TempDir::new().unwrap();
    let (fleet, state) = (folder.path().join("fleet.toml"), folder.path().join("state"));
    let (fleet, state) = (fleet.to_str().unwrap(), state.to_str().unwrap());
    let [baseline, current] = months();
    fs::write(fleet, format!("[[model]]\nname = \"m\"\nbaseline = '{baseline}'\ncurrent = '{current}'\n")).unwrap();
    let read = |args: &[&str]| {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report = read(&["sweep", fleet, "--state", state, "--format", "csv"]);
    let heading: BTreeSet<&str> = report.lines().next().unwrap().split(',').collect();
    let history: Value =
        serde_json::from_str(&read(&["history", fleet, "--state", state, "--metrics", "all", "--format", "json"]))
            .unwrap();
    let entries = history["entries"].as_array().unwrap();
    let figures: BTreeSet<&str> = entries.iter().map(|entry| entry["metric"].as_str().unwrap()).collect();
    for metric in Metric::ALL {
        let columns = metric.spec().columns;
        assert_eq!(columns.is_empty(), WITHOUT_A_COLUMN.contains(&metric), "{metric}");
        for column in columns {
            assert!(heading.contains(column.name), "{} is not in the CSV report", column.name);
            assert!(figures.contains(column.name), "{} is not in the history", column.name);
        }
    }
}

#[test]
fn every_test_is_in_the_family_of_the_false_discovery_rate() {
    let [baseline, current] = months();
    let report = compare(&baseline, &current, &[]);
    let (mut tested, mut left_out) = (BTreeSet::new(), BTreeSet::new());
    for (kind, feature) in compared(&report) {
        for metric in Metric::ALL {
            let figures = &feature["metrics"][metric.name()];
            for place in [figures, &figures["noise"]].into_iter().filter(|place| place.get("p_value").is_some()) {
                let of_test = |test: &driftsweep::metric::Test| {
                    test.judges == Subject::of(kind) || test.judges == Subject::MissingRows
                };
                let is_tested = metric.spec().test.as_ref().is_some_and(of_test);
                let what = format!("{metric} of {} {}: {place}", kind.name(), feature["name"]);
                assert_eq!(place.get("q_value").is_some(), is_tested, "{what}");
                if is_tested {
                    assert!(place["q_value"].as_f64() >= place["p_value"].as_f64(), "{what}");
                    tested.insert(metric);
                } else {
                    left_out.insert((metric, kind.name()));
                }
            }
        }
    }
    let with_a_test = Metric::ALL.into_iter().filter(|metric| metric.spec().test.is_some());
    assert_eq!(tested, with_a_test.collect());
    assert_eq!(left_out, NOT_TESTED_TWICE.map(|(metric, kind)| (metric, kind.name())).into());
}

#[test]
fn the_documents_list_every_metric_with_the_kinds_that_have_it() {
    let chapter = fs::read_to_string(root().join("docs/statistics.md")).unwrap();
    let table = chapter.split("# Statistics\n\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut listed = Vec::new();
    for line in table.lines().skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        for name in cells[0].split(", ") {
            let metric: Metric = name.trim_matches('`').parse().unwrap();
            let kinds = match metric.spec().kinds {
                [only] => only.name(),
                _ => "both",
            };
            assert_eq!(cells[2], kinds, "{metric}");
            listed.push(metric);
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, Metric::ALL);
}

#[test]
fn the_documents_show_every_threshold_with_its_default() {
    let chapter = fs::read_to_string(root().join("docs/fleet-file.md")).unwrap();
    let shown = chapter.split("[defaults.thresholds]\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let shown: Value = serde_json::to_value(toml::from_str::<toml::Table>(shown).unwrap()).unwrap();
    assert_eq!(shown, serde_json::to_value(Thresholds::default()).unwrap());
}

#[test]
fn every_format_and_backend_is_in_the_documents_and_in_the_help() {
    let formats = ReportFormat::ALL.map(|format| format.name);
    assert!(documents().contains(&format!("`--format {}`", formats.join("|"))));
    // The help breaks lines where it must.
    let help = String::from_utf8(run(["compare", "--help"]).stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let [others @ .., last] = &formats;
    assert!(help.contains(&format!("{} or {last}", others.join(", "))), "{help}");
    let mut backends: Vec<&str> = Backend::names().collect();
    assert!(help.contains(&format!("[possible values: {}]", backends.join(", "))), "{help}");
    backends.rotate_left(1);
    assert!(documents().contains(&format!("`--backend {}`", backends.join("|"))));
    let [baseline, current] = months();
    for format in ReportFormat::ALL {
        let output = run(["compare", &baseline, &current, "--features", "origin", "--format", format.name]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{}", format.name);
        assert!(String::from_utf8(output.stdout).is_ok() || !format.is_for_terminal, "{}", format.name);
    }
    let refused = run(["compare", &baseline, &current, "--format", "jsn"]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("unknown format 'jsn'") && formats.iter().all(|name| message.contains(name)), "{message}");
}
