//! Ten nights of a fleet of five models, as an on-call person sees them: a late partition, a retry of the scheduler, damaged
//! data, drift, an approval, a training that fails and is tried again, new baselines, a metric that warns, a model that is too
//! small, and a state that is lost and found.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_ops::notify::MessageKind;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::data::run;
use crate::support::needs::postgres;
use crate::support::output::{error_output, kinds, parsed, told};

const FLEET: &str = r#"
sweep = "0 2 * * *"
wait_for_data = "8h"
[defaults.trigger]
cooldown = "0d"
[approval]
approvers = [["ana"]]
[[notify]]
name = "lines"
file = "told.jsonl"
[[model]]
name = "churn"
baseline = "baseline/table-00000.parquet"
current = "current/{day}/table-00000.parquet"
[model.retrain]
stakes = "high"
command = ["sh", "-c", "echo churn >> ran; echo '{\"cost\": 40, \"baseline\": \"current/2026-01-06/table-00000.parquet\"}' > $DRIFTSWEEP_ANSWER_FILE"]
[[model]]
name = "fraud"
baseline = "baseline/table-00001.parquet"
current = "current/{day}/table-00001.parquet"
[model.retrain]
backoff = "1m"
command = ["sh", "train-fraud.sh"]
[[model]]
name = "quiet"
baseline = "baseline/table-00002.parquet"
current = "current/2026-01-01/table-00002.parquet"
[[model]]
name = "small"
baseline = "small.parquet"
current = "small.parquet"
[[model]]
name = "scorer"
baseline = "scored.parquet"
current = "scored.parquet"
time = "at"
windows = ["1d"]
[model.labels]
label = "actual"
prediction = "predicted"
time = "at"
[model.trigger]
off = ["drift"]
[model.trigger.performance]
warning = 0.95
level = 0.7
within = "2d"
"#;

/// The first run fails, the second says nothing of its baseline, the third names it.
const TRAIN_FRAUD: &str = r#"
echo fraud >> ran
case $(grep -c fraud ran) in
    1) echo "reading the data"; echo "no luck: out of memory" >&2; exit 3 ;;
    2) echo '{"cost": 5}' > "$DRIFTSWEEP_ANSWER_FILE" ;;
    *) echo '{"cost": 5, "baseline": "current/2026-01-08/table-00001.parquet"}' > "$DRIFTSWEEP_ANSWER_FILE" ;;
esac
"#;

struct Fleet {
    folder: TempDir,
    store: String,
}

impl Fleet {
    fn new(store: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().display().to_string();
        let args =
            ["bench", "generate", &path, "--models", "3", "--features", "6", "--rows", "1500", "--categorical", "0"];
        let nights = ["--nights", "11", "--drift-from", "5", "--drift", "0.5"];
        assert!(run(args.iter().chain(&nights)).status.success());
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        fs::write(folder.path().join("fleet.toml"), format!("name = \"{name}\"{FLEET}")).unwrap();
        fs::write(folder.path().join("train-fraud.sh"), TRAIN_FRAUD).unwrap();
        let small = to_parquet(vec![("x", Cells::Float((0..300).map(|i| Some(f64::from(i % 17))).collect()))]).unwrap();
        fs::write(folder.path().join("small.parquet"), small).unwrap();
        fs::write(folder.path().join("scored.parquet"), scored()).unwrap();
        // The clock of this test is in the past: what was trained on is older.
        for file in fs::read_dir(folder.path().join("baseline")).unwrap().flatten() {
            let file = fs::File::options().write(true).open(file.path()).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_764_500_000)).unwrap();
        }
        let store = store.unwrap_or_else(|| folder.path().join("state/driftsweep.sqlite").display().to_string());
        Self { folder, store }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).arg(self.path("fleet.toml")).arg("--state").arg(self.path("state"));
        command.env("DRIFTSWEEP_STORE", &self.store).env_remove("USER").output().unwrap()
    }

    /// A tick: its exit code, what it did, and what it said.
    fn tick(&self, now: &str, more: &[&str]) -> (i32, Value, String) {
        let output = self.run(&[&["tick", "--format", "json", "--threads", "1", "--now", now], more].concat());
        let code = output.status.code().unwrap();
        assert!(!output.stdout.is_empty() || code == 14, "{}", error_output(&output));
        (code, serde_json::from_slice(&output.stdout).unwrap_or_default(), error_output(&output))
    }

    fn words(&self, args: &[&str]) -> String {
        let output = self.run(args);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), error_output(&output))
    }

    fn fired(&self, ticked: &Value) -> Vec<String> {
        let firings = ticked["firings"].as_array().unwrap().iter();
        firings.map(|f| format!("{} {}", f["model"].as_str().unwrap(), f["outcome"].as_str().unwrap())).collect()
    }

    /// The jobs of a model: their states.
    fn jobs(&self, model: &str) -> Vec<Value> {
        let output = self.run(&["jobs", "list", "--all", "--model", model, "--format", "json"]);
        parsed(&output).as_array().unwrap().clone()
    }

    /// Ticks every minute until the last job of a model is in a state.
    fn until(&self, day: &str, first: u32, model: &str, state: &str) -> u32 {
        for minute in first..59 {
            self.tick(&format!("2026-01-{day}T03:{minute:02}:00Z"), &[]);
            if self.jobs(model).last().unwrap()["state"]["state"] == state {
                return minute + 1;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no job of {model} is {state}: {:?}", self.jobs(model));
    }
}

/// Predictions of eleven days, a thousand a day, with what came true: right in 98 of 100, from the seventh of January on in 88.
fn scored() -> Vec<u8> {
    let day = |i: i64| i / 1000;
    let rows = 0..11_000_i64;
    let right = |i: i64| (i * 37) % 100 < if day(i) < 6 { 98 } else { 88 };
    let start = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond();
    to_parquet(vec![
        ("at", Cells::Time(rows.clone().map(|i| start + i * 86_400_000).collect())),
        ("actual", Cells::Signed(rows.clone().map(|i| Some(i % 2)).collect())),
        ("predicted", Cells::Signed(rows.clone().map(|i| Some(if right(i) { i % 2 } else { 1 - i % 2 })).collect())),
        ("x", Cells::Float(rows.map(|i| Some((i * 7919 % 1000) as f64)).collect())),
    ])
    .unwrap()
}

/// What an example of a message shows and the message itself does not have.
fn lacks(example: &Value, figures: &Value, path: &str, found: &mut Vec<String>) {
    // Only some messages of the kind have these.
    const OPTIONAL: [&str; 4] = ["about_answer", "about_baseline", "evidence", "until"];
    for (key, value) in example.as_object().into_iter().flatten().filter(|(key, _)| !OPTIONAL.contains(&key.as_str())) {
        match figures.get(key) {
            Some(real) => lacks(value, real, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}.{key}")),
        }
    }
}

#[test]
fn ten_nights_are_safe_to_leave_alone() {
    for store in [None, postgres()].into_iter().enumerate().filter(|(i, store)| *i == 0 || store.is_some()) {
        ten_nights(&Fleet::new(store.1));
    }
}

fn ten_nights(fleet: &Fleet) {
    let page = |args: &[&str]| fleet.words(args);
    let told = || told(fleet.folder.path());
    let new_kinds = |before: usize| -> Vec<String> {
        let all = told();
        kinds(&all[before..]).into_iter().map(str::to_owned).collect()
    };

    // Night 1: a new store. One model is too small to be judged, which is not green in silence.
    let (code, first, words) = fleet.tick("2026-01-02T03:00:00Z", &[]);
    assert_eq!((code, &first["new_store"]), (0, &json!(true)), "{words}");
    assert!(words.contains("new store created"), "{words}");
    assert!(first["status"]["not_judged"].to_string().contains("min_rows"), "{first}");
    assert_eq!(new_kinds(0), ["store.create"]);

    // Night 2: a partition is late. It is red, also for the retry of the scheduler, until it comes.
    let late = fleet.path("current/2026-01-02/table-00000.parquet");
    fs::rename(&late, fleet.path("away")).unwrap();
    let seen = told().len();
    let (code, _, words) = fleet.tick("2026-01-03T03:00:00Z", &[]);
    assert_eq!(code, 11, "{words}");
    assert!(
        words.contains("model 'churn': current: ") && words.contains("it is read again until 2026-01-03T11:00:00Z"),
        "{words}"
    );
    assert_eq!(fleet.tick("2026-01-03T03:01:00Z", &[]).0, 11, "a retry");
    fs::rename(fleet.path("away"), &late).unwrap();
    let (code, came, words) = fleet.tick("2026-01-03T06:05:00Z", &["--require-state"]);
    assert_eq!((code, &came["caught_up"]), (0, &json!(["churn"])), "{words}");
    assert_eq!(new_kinds(seen), ["data.late", "data.arrived"]);

    // Night 3: a file is damaged, and nobody mends it: at the deadline it is told of, and somebody acknowledges it.
    let damaged = fleet.path("current/2026-01-03/table-00001.parquet");
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() / 3]).unwrap();
    let seen = told().len();
    assert_eq!(fleet.tick("2026-01-04T03:00:00Z", &[]).0, 11);
    assert_eq!(fleet.tick("2026-01-04T10:59:00Z", &[]).0, 11);
    assert_eq!(new_kinds(seen), ["data.late"]);
    assert_eq!(fleet.tick("2026-01-04T11:00:00Z", &[]).0, 11);
    assert_eq!(new_kinds(seen), ["data.late", "data.unreadable"]);
    let shown = page(&["status"]);
    assert!(shown.contains("failed      fraud: current: ") && shown.contains("not judged  small: "), "{shown}");
    assert_eq!(fleet.run(&["status", "--exit-code"]).status.code(), Some(11));
    assert!(fleet.run(&["status", "--acknowledge", "--by", "ana", "--reason", "known"]).status.success());
    assert_eq!(fleet.tick("2026-01-04T12:00:00Z", &[]).0, 0);

    // Night 4: nothing but the small model.
    let (code, fourth, words) = fleet.tick("2026-01-05T03:00:00Z", &[]);
    assert_eq!((code, &*words, fleet.fired(&fourth)), (0, "", vec![]));
    let quiet = fleet.run(&["tick", "--quiet", "--threads", "1", "--now", "2026-01-05T04:00:00Z"]);
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}", error_output(&quiet));

    // Night 5: the data drift. One night is not enough.
    let (code, fifth, words) = fleet.tick("2026-01-06T03:00:00Z", &["--fail-on-event"]);
    assert_eq!((code, fleet.fired(&fifth)), (0, vec![]), "{words}");

    // Night 6: two events. One training waits for approval, the other one fails and is retried.
    let seen = told().len();
    let (code, sixth, words) = fleet.tick("2026-01-07T03:00:00Z", &["--fail-on-event"]);
    assert_eq!((code, fleet.fired(&sixth)), (10, vec!["churn opened".to_owned(), "fraud opened".into()]), "{words}");
    assert_eq!(fleet.tick("2026-01-07T03:00:30Z", &["--fail-on-event"]).0, 10, "a retry");
    let churn = fleet.jobs("churn")[0]["id"].as_str().unwrap().to_owned();
    let shown = page(&["jobs", "show", &churn]);
    for wanted in ["why: the drift trigger", "above 0.15", "→", "requested from: ana (level 1 of 1)", "high"] {
        assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
    assert!(shown.chars().any(|c| ('▁'..='█').contains(&c)), "no distributions in\n{shown}");
    let minute = fleet.until("07", 1, "fraud", "queued");
    let fraud = fleet.jobs("fraud")[0]["id"].as_str().unwrap().to_owned();
    let shown = page(&["jobs", "show", &fraud]);
    assert!(shown.contains("no luck: out of memory"), "{shown}");
    let approve = ["approve", &churn, "--by", "ana", "--reason", "it pays", "--now", "2026-01-07T03:20:00Z"];
    assert!(fleet.run(&approve).status.success());
    let minute = fleet.until("07", minute.max(21), "churn", "succeeded");
    fleet.until("07", minute, "fraud", "succeeded");
    let kinds_told = new_kinds(seen);
    for kind in ["event.open", "job.ask", "job.approve", "job.start", "job.retry", "job.succeed", "baseline.set"] {
        assert!(kinds_told.iter().any(|told| told == kind), "{kind} is not in {kinds_told:?}");
    }
    let shown = page(&["baseline", "list"]);
    assert!(shown.contains("churn") && shown.contains(&churn), "{shown}");
    let shown = page(&["jobs", "show", &fraud]);
    assert!(shown.contains("the same drift will be found again"), "{shown}");

    // Night 7: the model with the new baseline is quiet; the other has drifted for one night since its training. Ten points of
    // accuracy are lost, which warns.
    let seen = told().len();
    let (code, seventh, words) = fleet.tick("2026-01-08T03:00:00Z", &["--fail-on-event"]);
    assert_eq!((code, fleet.fired(&seventh)), (0, vec![]), "{words}");
    assert!(
        seventh["status"]["warnings"]["scorer"].as_str().unwrap().contains("beyond its warning level 0.95"),
        "{seventh}"
    );
    assert_eq!(new_kinds(seen), ["performance.warning"]);

    // Night 8: the baseline is older than the model, and the reason says so. This training names its baseline.
    let (code, eighth, words) = fleet.tick("2026-01-09T03:00:00Z", &["--fail-on-event"]);
    assert_eq!((code, fleet.fired(&eighth)), (10, vec!["fraud opened".to_owned()]), "{words}");
    let reason = eighth["firings"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the same drift will be found again"), "{reason}");
    fleet.until("09", 1, "fraud", "succeeded");

    // Night 9: the state is gone, which is seen; it is put back.
    if fleet.store.contains("sqlite") {
        fs::rename(fleet.path("state"), fleet.path("elsewhere")).unwrap();
        let (code, _, words) = fleet.tick("2026-01-10T03:00:00Z", &["--require-state"]);
        assert_eq!(code, 14, "{words}");
        assert!(!fleet.path("state/driftsweep.sqlite").exists());
        let _ = fs::remove_dir_all(fleet.path("state"));
        fs::rename(fleet.path("elsewhere"), fleet.path("state")).unwrap();
    }
    let (code, ninth, words) = fleet.tick("2026-01-10T03:00:00Z", &["--require-state", "--fail-on-event"]);
    assert_eq!((code, fleet.fired(&ninth)), (0, vec![]), "{words}");

    // Night 10: quiet, in few words; the warning and the small model are still shown.
    let seen = told().len();
    let words = page(&["tick", "--threads", "1", "--now", "2026-01-11T03:00:00Z"]);
    assert!(
        words.contains("5 models") && words.contains("WARNING scorer") && words.contains("small: drift is not judged"),
        "{words}"
    );
    assert!(words.lines().count() <= 6, "{words}");
    // The small model was judged on none of ten nights.
    assert_eq!(new_kinds(seen), [""; 0]);
    let all = told();
    assert_eq!(kinds(&all).iter().filter(|kind| **kind == "data.not_judged").count(), 1, "{:?}", kinds(&all));
    // The examples by which templates are checked are like the messages themselves.
    let mut lacking = Vec::new();
    for event in &all {
        let kind = MessageKind::of(event["data"]["kind"].as_str().unwrap()).unwrap();
        lacks(&kind.example(), &event["data"]["figures"], kind.name, &mut lacking);
    }
    assert_eq!(lacking, [""; 0]);
    assert_eq!(fleet.run(&["status", "--exit-code"]).status.code(), Some(0));
    assert!(fleet.run(&["audit", "verify"]).status.success());
    // Trainings that really ran: one of churn; of fraud one that failed, one without a baseline, one with it.
    let ran = fs::read_to_string(fleet.path("ran")).unwrap();
    let count = |model: &str| ran.lines().filter(|line| *line == model).count();
    assert_eq!((count("churn"), count("fraud")), (1, 3), "{ran}");
}
