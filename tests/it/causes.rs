//! What keeps a model from being compared, by its cause: what may pass is waited for, everything else is told at once as what
//! it is. And what is told of it, once.

use std::fs;
use std::path::{Path, PathBuf};

use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_ops::store::Store;
use serde_json::{Value, json};

use crate::support::output::{CHANNEL, error_output, kinds, parsed, told};
use crate::support::world::World;

/// A fleet of one model, and what may be wrong with it.
struct Place {
    world: World,
}

impl Place {
    fn new() -> Self {
        Self { world: World::new(1, &format!("wait_for_data = \"8h\"\n{CHANNEL}")) }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.world.folder.path().join(below)
    }

    fn baseline(&self) -> PathBuf {
        self.path("baseline/table-00000.parquet")
    }

    /// The table of the night before the first sweep.
    fn current(&self) -> PathBuf {
        self.path("current/2026-01-01/table-00000.parquet")
    }

    /// Adds settings of the model.
    fn set(&self, settings: &str) {
        let text = fs::read_to_string(self.world.fleet_file()).unwrap();
        fs::write(self.world.fleet_file(), format!("{text}\n{settings}\n")).unwrap();
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.world.fleet_file()).unwrap();
        assert!(text.contains(from), "'{from}' is not in {text}");
        fs::write(self.world.fleet_file(), text.replace(from, to)).unwrap();
    }

    fn columns(&self) -> Vec<String> {
        let frame = crate::support::data::read_parquet(&self.baseline());
        frame.get_column_names().into_iter().map(ToString::to_string).collect()
    }

    fn freeze(&self, more: &[&str]) {
        let [from, to] = [self.baseline(), self.path("m.baseline")].map(|path| path.display().to_string());
        let built = crate::support::data::run(["baseline", "build", &from, "-o", &to].iter().chain(more));
        assert!(built.status.success(), "{}", error_output(&built));
        self.replace("baseline/table-00000.parquet", "m.baseline");
    }
}

fn cut_short(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn damage(path: &Path, bytes: std::ops::Range<usize>) {
    let mut whole = fs::read(path).unwrap();
    whole[bytes].fill(0xff);
    fs::write(path, whole).unwrap();
}

fn without_rows(place: &Place, path: &Path) {
    let columns = place.columns().into_iter().map(|name| (&*name.leak(), Cells::Float(Vec::new()))).collect();
    fs::write(path, to_parquet(columns).unwrap()).unwrap();
}

/// Only columns of the baseline but the first.
fn without_a_column(place: &Place) {
    let mut frame = crate::support::data::read_parquet(&place.current());
    frame = frame.drop(&place.columns()[0]).unwrap();
    crate::support::data::write_parquet(&mut frame, &place.current(), 1500);
}

type Case = (&'static str, fn(&Place), bool, &'static str, &'static str);

/// What is wrong, whether it is waited for, the cause, and the kind of message.
const CASES: [Case; 22] = [
    ("no table", |p| fs::remove_file(p.current()).unwrap(), true, "missing", "data.late"),
    ("a table without rows", |p| without_rows(p, &p.current()), true, "missing", "data.late"),
    ("a table that is cut short", |p| cut_short(&p.current()), true, "unreadable", "data.late"),
    ("an empty file", |p| fs::write(p.current(), "").unwrap(), true, "unreadable", "data.late"),
    ("damaged pages", |p| damage(&p.current(), 4..600), true, "unreadable", "data.late"),
    (
        "a baseline of each night that is not there",
        |p| p.replace("baseline/table-00000.parquet", "baseline/{day}.parquet"),
        true,
        "missing",
        "data.late",
    ),
    (
        "a baseline of each night with damaged pages",
        |p| {
            p.replace("baseline/table-00000.parquet", "baseline/{day}.parquet");
            fs::rename(p.baseline(), p.path("baseline/2026-01-01.parquet")).unwrap();
            damage(&p.path("baseline/2026-01-01.parquet"), 4..600);
        },
        true,
        "unreadable",
        "data.late",
    ),
    (
        "an excluded feature that is nowhere",
        |p| p.set("exclude = [\"nowhere\"]"),
        false,
        "fleet_file",
        "data.fleet_file",
    ),
    ("a listed feature that is nowhere", |p| p.set("features = [\"nowhere\"]"), false, "fleet_file", "data.fleet_file"),
    (
        "slices by a column that is nowhere",
        |p| p.set("slice_by = [\"nowhere\"]"),
        false,
        "fleet_file",
        "data.fleet_file",
    ),
    (
        "a segment by a column that is nowhere",
        |p| p.set("[model.segment.low]\nnowhere = { below = 0.0 }"),
        false,
        "fleet_file",
        "data.fleet_file",
    ),
    (
        "no feature to compare",
        |p| p.set(&format!("exclude = {:?}", p.columns())),
        false,
        "fleet_file",
        "data.fleet_file",
    ),
    (
        "windows by a column that the table lacks",
        |p| p.set("time = \"nowhere\"\nwindows = [\"day\"]"),
        false,
        "schema",
        "data.schema",
    ),
    (
        "a segment by a column that the table lost",
        |p| {
            p.set(&format!("[model.segment.low]\n{:?} = {{ below = 0.0 }}", p.columns()[0]));
            without_a_column(p);
        },
        false,
        "schema",
        "data.schema",
    ),
    ("a column that the table lost", without_a_column, false, "schema", "data.schema"),
    ("no baseline", |p| fs::remove_file(p.baseline()).unwrap(), false, "baseline", "data.baseline"),
    ("a baseline without rows", |p| without_rows(p, &p.baseline()), false, "baseline", "data.baseline"),
    ("a baseline that is cut short", |p| cut_short(&p.baseline()), false, "baseline", "data.baseline"),
    ("a baseline with damaged pages", |p| damage(&p.baseline(), 4..600), false, "baseline", "data.baseline"),
    (
        "no baseline file",
        |p| p.replace("baseline/table-00000.parquet", "none.baseline"),
        false,
        "baseline",
        "data.baseline",
    ),
    (
        "a damaged baseline file",
        |p| {
            p.freeze(&[]);
            let length = fs::metadata(p.path("m.baseline")).unwrap().len() as usize;
            damage(&p.path("m.baseline"), length - 40..length);
        },
        false,
        "baseline",
        "data.baseline",
    ),
    ("a baseline file of other bins", |p| p.freeze(&["--bins", "7"]), false, "baseline", "data.baseline"),
];

#[test]
fn only_data_that_may_come_are_waited_for_and_everything_else_is_told_at_once_as_what_it_is() {
    for (name, spoil, waited, cause, kind) in CASES {
        let place = Place::new();
        let store = &place.world.stores()[0];
        spoil(&place);
        let output = place.world.tick(store, "2026-01-02T03:00:00Z", &[]);
        assert_eq!(output.status.code(), Some(11), "{name}: {}", error_output(&output));
        let status = parsed(&output)["status"].clone();
        let waiting = &status["waiting"]["model-00000"];
        assert_eq!(waiting.is_object(), waited, "{name}: {status}");
        let found = if waited { waiting } else { &status["failures"]["model-00000"][0] };
        assert_eq!(found["cause"], cause, "{name}: {status}");
        let messages = told(place.world.folder.path());
        let of_data: Vec<&str> = kinds(&messages).into_iter().filter(|kind| kind.starts_with("data.")).collect();
        assert_eq!(of_data, [kind], "{name}");
        let mut memory = Store::open(store, &place.world.fleet().name).unwrap();
        let judged = memory.last_verdict("model-00000", jiff::Timestamp::MAX).unwrap().is_some();
        assert_eq!(judged, !waited, "{name}: judged with the available data");
        // The report of a sweep says the same.
        let file = place.world.fleet_file().display().to_string();
        let swept = crate::support::data::run([
            "sweep",
            &file,
            "--no-state",
            "--format",
            "json",
            "--now",
            "2026-01-02T02:00:00Z",
        ]);
        let report: Value = serde_json::from_slice(&swept.stdout).unwrap();
        let models = report["models"].as_array().unwrap();
        let features = models.iter().flat_map(|model| model["features"].as_array().unwrap());
        let mut causes: Vec<&Value> = features.chain(models).map(|part| &part["cause"]).collect();
        causes.retain(|cause| !cause.is_null());
        assert!(!causes.is_empty() && causes.iter().all(|found| **found == cause), "{name}: {causes:?} {report:.2000}");
        // What stays wrong is red every night and told once.
        if !waited && place.current().exists() && kind != "data.schema" {
            assert_eq!(place.world.tick(store, "2026-01-03T03:00:00Z", &[]).status.code(), Some(11), "{name}");
            let messages = told(place.world.folder.path());
            assert_eq!(kinds(&messages).iter().filter(|told| **told == kind).count(), 1, "{name}");
        }
    }
}

#[test]
fn a_mistake_is_told_at_once_also_of_a_model_that_waits_for_its_data() {
    let place = Place::new();
    let store = &place.world.stores()[0];
    // Another column of each.
    damage(&place.baseline(), 4..600);
    let whole = fs::read(place.current()).unwrap();
    damage(&place.current(), whole.len() / 3..whole.len() * 2 / 3);
    let first = parsed(&place.world.tick(store, "2026-01-02T03:00:00Z", &[]));
    let status = &first["status"];
    assert_eq!(status["waiting"]["model-00000"]["cause"], "unreadable", "{status}");
    assert_eq!(status["failures"]["model-00000"][0]["cause"], "baseline", "{status}");
    let told_of = || {
        let messages = told(place.world.folder.path());
        kinds(&messages).into_iter().filter(|kind| kind.starts_with("data.")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told_of(), ["data.baseline", "data.late"]);
    fs::write(place.current(), whole).unwrap();
    let came = parsed(&place.world.tick(store, "2026-01-02T05:00:00Z", &[]));
    assert_eq!((&came["caught_up"], &came["status"]["waiting"]), (&json!(["model-00000"]), &json!({})));
    assert_eq!(came["status"]["failures"]["model-00000"][0]["cause"], "baseline", "{came}");
    assert_eq!(told_of(), ["data.baseline", "data.late"], "it is known");
}

#[test]
fn each_model_that_waits_has_its_own_deadline_in_the_message() {
    let world = World::new(2, &format!("wait_for_data = \"3h\"\n{CHANNEL}"));
    let store = &world.stores()[0];
    let file = |model: u32| world.folder.path().join(format!("current/2026-01-01/table-{model:05}.parquet"));
    fs::remove_file(file(0)).unwrap();
    fs::remove_file(file(1)).unwrap();
    world.tick(store, "2026-01-02T03:00:00Z", &[]);
    let messages = told(world.folder.path());
    let late: Vec<&Value> = messages.iter().filter(|event| event["data"]["kind"] == "data.late").collect();
    let figures = &late[0]["data"]["figures"];
    assert!(late.len() == 1 && figures["until"].is_null(), "{figures}");
    for (i, model) in ["model-00000", "model-00001"].into_iter().enumerate() {
        let found = &figures["findings"][i];
        assert_eq!((&found["model"], &found["until"]), (&json!(model), &json!("2026-01-02T06:00:00Z")));
    }
}

#[test]
fn labels_that_are_missing_every_night_are_told_of_once_and_are_no_fault_of_the_data() {
    let folder = tempfile::TempDir::new().unwrap();
    let fleet = crate::support::world::loans(folder.path(), "delay = \"20d\"\n");
    let text = fs::read_to_string(&fleet).unwrap();
    let labels = folder.path().join("labels.parquet").display().to_string();
    assert!(text.contains(&labels), "{text}");
    let text = text.replace(&labels, "gone/*.parquet");
    fs::write(&fleet, format!("name = \"l\"\n{text}\n{CHANNEL}")).unwrap();
    let [fleet, state] = [fleet.display().to_string(), folder.path().join("state").display().to_string()];
    for day in 10..13 {
        let now = format!("2019-03-{day}T04:00:00Z");
        let output = crate::support::data::run(["tick", &fleet, "--state", &state, "--now", &now, "--format", "json"]);
        assert_eq!(output.status.code(), Some(11), "{}", error_output(&output));
        let failures = &parsed(&output)["status"]["failures"]["loans"];
        let of_labels = failures.as_array().unwrap().iter().find(|fault| fault["labels"] == true);
        assert_eq!(of_labels.unwrap()["cause"], "missing", "{failures}");
    }
    let messages = told(folder.path());
    assert_eq!(kinds(&messages).iter().filter(|kind| **kind == "data.labels").count(), 1, "{:?}", kinds(&messages));
}

#[test]
fn what_history_and_calibrate_leave_out_is_in_their_exit_code_and_in_their_json() {
    let world = World::new(1, "");
    let (store, fleet) = (&world.stores()[0], world.fleet_file());
    for now in ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z"] {
        world.ticked(store, now);
    }
    let state = world.folder.path().join("state");
    let file = |day: &str| {
        let folder = state.join("history").join(format!("date={day}"));
        fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    };
    let [fleet, folder] = [fleet.display().to_string(), state.display().to_string()];
    let now = "2026-01-04T02:00:00Z";
    let history = |more: &[&str]| crate::support::data::run(["history", &fleet, "--state", &folder].iter().chain(more));
    let calibrate = || {
        crate::support::data::run([
            "calibrate",
            &fleet,
            "--state",
            &folder,
            "--format",
            "json",
            "--now",
            now,
            "--nights",
            "20",
        ])
    };
    let json_format = ["--format", "json"];
    let whole = history(&json_format);
    assert_eq!((whole.status.code(), &parsed(&whole)["left_out"]), (Some(0), &json!([])), "{}", error_output(&whole));
    let all = parsed(&whole)["entries"].as_array().unwrap().len();
    let calibrated = calibrate();
    assert_eq!((calibrated.status.code(), &parsed(&calibrated)["history_left_out"]), (Some(0), &json!([])));
    let kept = fs::read(file("2026-01-03")).unwrap();
    let without_time = to_parquet(vec![
        ("sweep", Cells::Text(vec!["s".into()])),
        ("as_of", Cells::Float(vec![None])),
        ("model", Cells::Text(vec!["model-00000".into()])),
        ("window", Cells::Text(vec!["".into()])),
        ("segment", Cells::Text(vec!["".into()])),
        ("feature", Cells::Text(vec!["x".into()])),
        ("kind", Cells::Text(vec!["numeric".into()])),
        ("status", Cells::Text(vec!["ok".into()])),
        ("metric", Cells::Text(vec!["psi".into()])),
        ("drifted", Cells::Float(vec![Some(0.0)])),
        ("value", Cells::Float(vec![Some(0.1)])),
    ]);
    for (name, bytes, cause) in [
        ("cut short", kept[..kept.len() / 2].to_vec(), "unreadable"),
        ("of other columns", to_parquet(vec![("x", Cells::Float(vec![Some(1.0)]))]).unwrap(), "schema"),
        ("without a time", without_time.unwrap(), "unreadable"),
    ] {
        fs::write(file("2026-01-03"), bytes).unwrap();
        let rest = history(&json_format);
        assert_eq!(rest.status.code(), Some(11), "{name}: {}", error_output(&rest));
        let found = parsed(&rest);
        let left = found["entries"].as_array().unwrap().len();
        assert!(left > 0 && left < all, "{name}: {left} of {all}");
        assert_eq!(
            (&found["left_out"][0]["cause"], found["left_out"].as_array().unwrap().len()),
            (&json!(cause), 1),
            "{name}"
        );
        for format in ["table", "csv"] {
            assert_eq!(history(&["--format", format]).status.code(), Some(11), "{name} {format}");
        }
        let calibrated = calibrate();
        assert_eq!(calibrated.status.code(), Some(11), "{name}: {}", error_output(&calibrated));
        assert_eq!(parsed(&calibrated)["history_left_out"][0]["cause"], cause, "{name}");
    }
}
