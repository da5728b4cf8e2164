//! Messages, suggestions, what a sweep lists, and the demo.

use std::fs;
use std::process::{Command, Output};

use driftsweep::snapshot::table::{Cells, to_parquet};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{dataset, run};
use crate::support::output::error_output;

/// Rows of three numbers and a group; of `shift` the first is moved.
fn table(rows: usize, shift: f64) -> Vec<u8> {
    let numbers = |by: f64| Cells::Float((0..rows).map(|i| Some((i % 101) as f64 + by)).collect());
    let groups = Cells::Text((0..rows).map(|i| format!("group-{}", i % 4)).collect());
    let times = Cells::Time((0..rows as i64).map(|i| 1_767_225_600_000_000 + i * 1_000_000).collect());
    let columns =
        vec![("age", numbers(shift)), ("income", numbers(0.0)), ("debt", numbers(0.0)), ("grp", groups), ("at", times)];
    to_parquet(columns).unwrap()
}

struct Place(TempDir);

impl Place {
    fn new(fleet: &str) -> Self {
        let place = Self(TempDir::new().unwrap());
        for (name, rows, shift) in [
            ("train.parquet", 8000, 0.0),
            ("same.parquet", 8000, 0.0),
            ("moved.parquet", 8000, 60.0),
            ("few.parquet", 300, 0.0),
        ] {
            fs::write(place.0.path().join(name), table(rows, shift)).unwrap();
        }
        fs::write(place.0.path().join("fleet.toml"), fleet).unwrap();
        place
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.current_dir(self.0.path()).args(args).env_remove("DRIFTSWEEP_LOG").env_remove("DRIFTSWEEP_STORE");
        command.output().unwrap()
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[args, &["--format", "json"]].concat())).unwrap()
    }
}

fn model(name: &str, current: &str, more: &str) -> String {
    format!(
        "[[model]]\nname = \"{name}\"\nbaseline = \"train.parquet\"\ncurrent = \"{current}\"\nexclude = [\"at\"]\n{more}\n"
    )
}

#[test]
fn a_quiet_night_is_two_lines_and_the_features_are_listed_on_request() {
    let place = Place::new(
        &(model("a", "same.parquet", "") + &model("b", "same.parquet", "") + &model("c", "same.parquet", "")),
    );
    let sweep = ["sweep", "fleet.toml", "--no-state"];
    let text = place.text(&sweep);
    assert!(text.contains("None of 12 features of 3 models drifted. Nothing needs attention."), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let all = place.text(&[&sweep[..], &["--top", "0"]].concat());
    assert!(all.contains("income") && all.matches("grp").count() == 3, "{all}");
    let some = place.text(&[&sweep[..], &["--top", "5"]].concat());
    assert!(some.contains("… and 7 more; --top 0 shows all"), "{some}");
    // A pair is looked at for its figures.
    let pair = place.text(&["compare", "train.parquet", "same.parquet"]);
    assert!(["age", "income", "debt", "grp"].iter().all(|name| pair.contains(name)), "{pair}");
}

#[test]
fn windows_and_segments_of_one_finding_are_one_line_with_the_worst_figure() {
    let fleet = model("a", "moved.parquet", "slice_by = [\"grp\"]")
        + &model("b", "same.parquet", "")
        + &model("w", "moved.parquet", "")
            .replace("current = \"moved.parquet\"", "current = { one = \"moved.parquet\", two = \"moved.parquet\" }");
    let place = Place::new(&fleet);
    let text = place.text(&["sweep", "fleet.toml", "--no-state"]);
    // In the table of models, and once in that of features.
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("age")).collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines.last().unwrap().contains("Look first at age of a, "), "{text}");
    assert!(lines.iter().any(|line| line.contains("all and 4 segments")), "{text}");
    assert!(lines.iter().any(|line| line.contains("2 windows")), "{text}");
    assert!(!text.contains("income") && !text.contains("│ b "), "only findings are listed: {text}");
    let report = place.json(&["sweep", "fleet.toml", "--no-state"]);
    let worst = report["models"].as_array().unwrap().iter().filter(|model| model["model"] == "a").map(|model| {
        let features = model["features"].as_array().unwrap();
        features.iter().find(|feature| feature["name"] == "age").unwrap()["metrics"]["psi"]["value"].as_f64().unwrap()
    });
    let worst = format!("{:.4}", worst.fold(0.0, f64::max));
    assert!(lines.iter().any(|line| line.contains("4 segments") && line.contains(&worst)), "{worst}: {text}");
}

#[test]
fn what_was_not_judged_is_counted_with_the_reason_and_the_remedy() {
    let place = Place::new(&(model("few", "few.parquet", "") + &model("good", "same.parquet", "")));
    let sweep = ["sweep", "fleet.toml", "--no-state"];
    let reason = "at most 300 rows on one side, fewer than min_rows = 1000; provide a longer window (windows = \
                  [\"7d\"]), or set a smaller min_rows";
    for more in [&[][..], &["--top", "0"]] {
        let text = place.text(&[&sweep[..], more].concat());
        assert!(text.contains(&format!("not judged: few: 4 features: {reason}")), "{text}");
        assert!(text.contains("8 features, 0 drifted, 0 significant, 4 not judged, 0 not comparable"), "{text}");
    }
    let report = place.json(&sweep);
    assert_eq!(report["summary"]["not_judged"], 4);
    assert_eq!(report["models"][0]["not_judged"], serde_json::json!({ "features": 4, "reason": reason }));
    assert!(report["models"][1].get("not_judged").is_none());
    let csv = place.text(&[&sweep[..], &["--format", "csv"]].concat());
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let judged = rows.headers().unwrap().iter().position(|name| name == "judged").unwrap();
    let judged: Vec<String> = rows.records().map(|row| row.unwrap()[judged].to_owned()).collect();
    assert_eq!(judged.iter().filter(|judged| *judged == "false").count(), 4, "{judged:?}");
    // Nothing at all was judged: that is not a quiet night.
    let place = Place::new(&model("few", "few.parquet", ""));
    let text = place.text(&sweep);
    assert!(text.contains("None of 4 features of 1 model was judged. See why features were not judged."), "{text}");
    // With fewer rows asked for they are judged.
    let place = Place::new(&model("few", "few.parquet", "[model.thresholds]\nmin_rows = 100"));
    assert!(place.text(&sweep).contains("None of 4 features of 1 model drifted."));
    let pair = place.text(&["compare", "train.parquet", "few.parquet"]);
    assert!(
        pair.contains("0 drifted, 0 significant, 4 not judged")
            && pair.contains(
                "more rows, or set a smaller \
                                                                                  --min-rows"
            ),
        "{pair}"
    );
    let pair = place.json(&["compare", "train.parquet", "few.parquet"]);
    assert_eq!(pair["not_judged"]["features"], 4);
}

#[test]
fn unknown_names_are_answered_with_the_one_that_was_meant() {
    let fleet = format!("name = \"f\"\n{}", model("churn", "same.parquet", ""));
    let place = Place::new(&fleet);
    let state = ["--state", "state"];
    let ticked = place.run(&[&["tick", "fleet.toml", "--threads", "1"][..], &state].concat());
    assert!(ticked.status.success(), "{}", error_output(&ticked));
    let meant = |args: &[&str], code: i32, wanted: &str| {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", error_output(&output));
        let wanted = format!("did you mean '{wanted}'?");
        assert!(error_output(&output).contains(&wanted), "{args:?}: '{wanted}' is not in {}", error_output(&output));
    };
    for flag in ["--exclude", "--numeric", "--categorical", "--features"] {
        meant(&["compare", "train.parquet", "same.parquet", flag, "incom"], 3, "income");
    }
    meant(&["compare", "train.parquet", "same.parquet", "--metrics", "wassertein"], 2, "wasserstein");
    meant(&["compare", "train.parquet", "same.parquet", "--convention", "evidenly"], 2, "evidently");
    meant(&["compare", "train.parquet", "same.parquet", "--format", "jsno"], 2, "json");
    for args in [
        &["explain", "chrun", "fleet.toml"][..],
        &["mute", "chrun", "fleet.toml", "--for", "1d", "--reason", "r", "--by", "me"],
        &["unmute", "chrun", "fleet.toml", "--reason", "r", "--by", "me"],
        &["jobs", "list", "fleet.toml", "--model", "chrun"],
        &["events", "list", "fleet.toml", "--model", "chrun"],
        &["history", "fleet.toml", "--model", "chrun"],
    ] {
        meant(&[args, &state].concat(), 2, "churn");
    }
    meant(&[&["history", "fleet.toml", "--feature", "incom"][..], &state].concat(), 2, "income");
    meant(&[&["history", "fleet.toml", "--metrics", "js_distanc"][..], &state].concat(), 2, "js_distance");
    meant(&["calibrate", "fleet.toml", "--write", "--limits", "ks_dd"], 2, "ks_d");
    for (line, wanted) in
        [("windws = [\"day\"]", "windows"), ("metrics = [\"pis\"]", "psi"), ("convention = \"tfvd\"", "tfdv")]
    {
        fs::write(place.0.path().join("bad.toml"), format!("{fleet}{line}\n")).unwrap();
        meant(&["sweep", "bad.toml"], 4, wanted);
    }
    let strange = place.run(&[&["explain", "zzzzzzzz", "fleet.toml"][..], &state].concat());
    assert!(
        error_output(&strange).contains("known: 'churn'") && !error_output(&strange).contains("did you mean"),
        "{}",
        error_output(&strange)
    );
}

#[test]
fn messages_have_time_and_level_where_that_was_asked_for_and_are_one_line_each() {
    let place = Place::new(
        &(model("a", "gone\u{1b}31m.parquet", "").replace('\u{1b}', "\\u001b") + &model("b", "same.parquet", "")),
    );
    let sweep = ["sweep", "fleet.toml", "--no-state", "--format", "json"];
    let plain = error_output(&place.run(&sweep));
    assert!(plain.starts_with("driftsweep: model 'a': current: gone\\u{1b}31m.parquet"), "{plain}");
    let entries = |output: &Output| -> Vec<Value> {
        error_output(output)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    };
    // The flag, before and after the command, and the environment.
    let mut by_variable = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    by_variable.current_dir(place.0.path()).args(sweep).env("DRIFTSWEEP_LOG", "json");
    for output in [
        place.run(&[&["--log", "json"][..], &sweep].concat()),
        place.run(&[&sweep[..], &["--log=json"]].concat()),
        by_variable.output().unwrap(),
    ] {
        let [entry] = &entries(&output)[..] else { panic!("{}", error_output(&output)) };
        assert_eq!(entry["level"], "warn");
        assert!(
            entry["message"].as_str().unwrap().starts_with("model 'a': current: gone\\u{1b}31m.parquet"),
            "{entry}"
        );
        assert!(entry["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{entry}");
    }
    let text = error_output(&place.run(&[&sweep[..], &["--log", "text"]].concat()));
    let mut words = text.split(' ');
    assert!(words.next().unwrap().parse::<jiff::Timestamp>().is_ok(), "{text}");
    assert_eq!(words.next(), Some("WARN"), "{text}");
    // What ends a command is an error, also where the command line itself is wrong.
    for (args, code, words) in [
        (&["sweep", "none.toml", "--log", "json"][..], 3, "none.toml"),
        (&["sweep", "--no-such-flag", "--log", "json"], 2, "--no-such-flag"),
        (&["--log=json", "compare"], 2, "required"),
    ] {
        let output = place.run(args);
        let [entry] = &entries(&output)[..] else { panic!("{}", error_output(&output)) };
        assert_eq!((output.status.code(), &entry["level"]), (Some(code), &Value::from("error")), "{args:?}");
        assert!(entry["message"].as_str().unwrap().contains(words), "{entry}");
    }
    // An answer is info.
    let output = place.run(&["baseline", "build", "train.parquet", "-o", "t.baseline", "--log", "json"]);
    assert!(
        entries(&output).iter().all(|entry| entry["level"] == "info") && !error_output(&output).is_empty(),
        "{}",
        error_output(&output)
    );
    let help = place.run(&["sweep", "--help", "--log", "json"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Usage"));
    // A variable that is none is refused before anything is done.
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    let wrong = wrong.current_dir(place.0.path()).args(sweep).env("DRIFTSWEEP_LOG", "jsn").output().unwrap();
    assert!(
        wrong.status.code() == Some(2) && error_output(&wrong).contains("did you mean 'json'?"),
        "{}",
        error_output(&wrong)
    );
}

#[test]
fn the_demo_runs_in_any_folder_leaves_nothing_behind_and_has_the_figures_of_the_repository() {
    let folder = TempDir::new().unwrap();
    let temporary = TempDir::new().unwrap();
    let demo = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.current_dir(folder.path()).args(["demo", "--format", "json", "--backend", "cpu"]).args(more);
        let output = command.env("TMPDIR", temporary.path()).output().unwrap();
        assert!(output.status.success(), "{}", error_output(&output));
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), error_output(&output))
    };
    let (inside, told) = demo(&[]);
    assert!(told.contains("small built-in demo"), "{told}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "what was unpacked is removed");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let (whole, told) = demo(&["--data", dataset("").to_str().unwrap()]);
    assert!(!told.contains("small built-in demo"), "{told}");
    let hashes = |report: &Value| -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let models = report["models"].as_array().unwrap().iter();
        models.map(|m| (text(&m["model"]), text(&m["window"]), text(&m["counts_hash"]))).collect()
    };
    let (inside, whole) = (hashes(&inside), hashes(&whole));
    assert_eq!((inside.len(), whole.len()), (8, 16));
    assert!(inside.iter().all(|one| whole.contains(one)), "{inside:?}\n{whole:?}");
    // In the repository it is the whole demo.
    let mut here = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    here.current_dir(crate::support::data::root()).args(["demo", "--format", "json", "--backend", "cpu"]);
    assert_eq!(hashes(&serde_json::from_slice(&here.output().unwrap().stdout).unwrap()), whole);
    assert!(run(["demo", "--data", "nowhere"]).status.code() == Some(3));
}
