//! `driftsweep simulate`: what it replays is what the commands would have done at each night, from what was known then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use driftsweep::metric::performance::{ClassifiedRow, PerformanceMetric, of_classes};
use driftsweep::model::Options;
use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_features::{FeaturePipeline, Limits, Period};
use driftsweep_fleet::Fleet;
use serde_json::Value;

use crate::support::at;
use crate::support::data::{all_below, read_parquet};
use crate::support::flights;
use crate::support::output::{all_output, parsed, says};

const DAY: i64 = 86_400;

/// Minutes between two predictions of the made history.
const STEP: i64 = 600;

/// Days of the made history, which begins in 1970, and the day from which on labels mean the opposite and a feature is shifted.
const DAYS: i64 = 120;
const TURN: i64 = 70;

/// A number from 0 to 1 that belongs to a row.
fn random(row: i64, salt: u64) -> f64 {
    let mixed = (row as u64 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 32)) as f64 / u64::MAX as f64
}

/// The label of a row at last.
fn truth(row: i64) -> bool {
    let turned = row * STEP >= TURN * DAY;
    ((random(row, 1) > 0.5) != turned) != (random(row, 2) < 0.1)
}

/// The settings of a made model; `more` is added at the end.
const MADE: &str = r#"
[defaults.thresholds]
min_rows = 100

[event_table.outcomes]
path = "outcomes.parquet"
event_time = "happened"
known_at = "known"

[feature_set.made]
training = "20d"
validation = "5d"

[feature_set.made.spine]
path = "spine.parquet"
id = "id"
time = "at"
columns = ["x", "y"]

[feature_set.made.label]
table = "outcomes"
on = ["id"]
column = "label"
maturity = "2d"

[[model]]
name = "made"
baseline = "spine.parquet"
current = "spine.parquet"
feature_set = "made"
trainer = { kind = "batch", rounds = 30 }

[model.trigger]
schedule = "0 0 1,15 * *"
cooldown = "10d"
[model.trigger.performance]
level = 0.8
within = "3d"
[model.trigger.volume]
labels = 3000
within = "30d"

[model.gates]
min_rows = 100
metrics = [{ metric = "accuracy", better_by = 0.02 }]
"#;

/// A history with labels that come late and are corrected, seen at the beginning of a day: nothing that was known later is there.
fn history(folder: &Path, until: i64) -> PathBuf {
    let rows: Vec<i64> = (0..until * DAY / STEP).collect();
    let times = |of: &[i64]| Cells::Time(of.iter().map(|at| at * 1_000_000).collect());
    let spine = to_parquet(vec![
        ("id", Cells::Signed(rows.iter().map(|row| Some(*row)).collect())),
        ("at", times(&rows.iter().map(|row| row * STEP).collect::<Vec<_>>())),
        ("x", Cells::Float(rows.iter().map(|row| Some(random(*row, 1))).collect())),
        (
            "y",
            Cells::Float(
                rows.iter().map(|row| Some(random(*row, 3) + f64::from(u8::from(row * STEP >= TURN * DAY)))).collect(),
            ),
        ),
    ]);
    // Happened after an hour and known then; one of 20 is wrong for ten days, one of 30 comes five days late, one of 40 never.
    let mut events: Vec<(i64, i64, i64, f64)> = Vec::new();
    for &row in &rows {
        let happened = row * STEP + 3600;
        let label = f64::from(u8::from(truth(row)));
        match row {
            row if row % 40 == 7 => {}
            row if row % 30 == 11 => events.push((row, happened, happened + 5 * DAY, label)),
            row if row % 20 == 3 => {
                events.push((row, happened, happened, 1.0 - label));
                events.push((row, happened, happened + 10 * DAY, label));
            }
            row => events.push((row, happened, happened, label)),
        }
    }
    events.retain(|(_, _, known, _)| *known < until * DAY);
    let outcomes = to_parquet(vec![
        ("id", Cells::Signed(events.iter().map(|event| Some(event.0)).collect())),
        ("happened", times(&events.iter().map(|event| event.1).collect::<Vec<_>>())),
        ("known", times(&events.iter().map(|event| event.2).collect::<Vec<_>>())),
        ("label", Cells::Float(events.iter().map(|event| Some(event.3)).collect())),
    ]);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("spine.parquet"), spine.unwrap()).unwrap();
    fs::write(folder.join("outcomes.parquet"), outcomes.unwrap()).unwrap();
    let fleet = folder.join("fleet.toml");
    fs::write(&fleet, MADE).unwrap();
    fleet
}

fn day(day: i64) -> String {
    jiff::Timestamp::from_second(day * DAY).unwrap().to_string()
}

/// A simulation from day 30 on; the temporary files are below the folder of the fleet file.
fn simulate(fleet: &Path, to: i64, more: &[&str]) -> Output {
    let scratch = fleet.parent().unwrap().join("scratch");
    fs::create_dir_all(&scratch).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.arg("simulate").arg(fleet).args(["--model", "made", "--from", &day(30), "--to", &day(to), "--scratch"]);
    command.arg(&scratch).args(more).output().unwrap()
}

fn found(fleet: &Path, more: &[&str]) -> Value {
    let output = simulate(fleet, DAYS, &[more, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    parsed(&output)
}

fn policy<'a>(found: &'a Value, name: &str, gates: bool) -> &'a Value {
    let all = found["policies"].as_array().unwrap();
    all.iter().find(|policy| policy["policy"] == name && policy["gates"] == gates).unwrap()
}

/// When trainings began.
fn trained(policy: &Value) -> Vec<String> {
    let all = policy["trainings"].as_array().unwrap();
    all.iter().map(|training| training["at"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_slice_of_the_past_is_the_set_that_the_pipeline_gives_at_that_night() {
    let made = tempfile::tempdir().unwrap();
    let flown = tempfile::tempdir().unwrap();
    let flights = flights::fleet(flown.path(), &[("training = \"90d\"", "training = \"20d\"")]);
    for (fleet, set, from, nights) in [
        (history(made.path(), DAYS), "made", day(3), [day(31), day(60), day(85)]),
        (
            flights,
            "lateness",
            "2013-01-10T00:00:00Z".into(),
            ["2013-02-12T02:00:00Z", "2013-02-20T02:00:00Z", "2013-02-20T14:30:00Z"].map(str::to_owned),
        ),
    ] {
        let fleet = Fleet::read(&fleet, &Options::new()).unwrap();
        let pipeline = FeaturePipeline::open(fleet.feature_set(set).unwrap(), Limits::default(), None).unwrap();
        let to = at(nights.last().unwrap());
        let past = pipeline.past(Period { from: Some(at(&from)), to, as_of: to }).unwrap();
        let mut late = 0;
        for night in nights {
            let folder = tempfile::tempdir().unwrap();
            let manifest = pipeline.materialize(at(&night), folder.path()).unwrap();
            let periods = pipeline.periods(at(&night)).unwrap();
            for (period, file) in periods.into_iter().zip([&manifest.training.unwrap().file, &manifest.validation.file])
            {
                let slice = past.set(period).unwrap();
                let path = folder.path().join("slice.parquet");
                slice.write(&path).unwrap();
                // Row ids go on from the training set to the validation set; a slice begins at 0.
                let [own, other] =
                    [path, folder.path().join(file)].map(|path| read_parquet(&path).drop("row_id").unwrap());
                assert!(own.height() > 500, "{set} {night} {file}");
                assert!(own.equals_missing(&other), "{set} {night} {file}: {own} {other}");
                let rows = past.between(period.from, period.to);
                late += rows.filter(|row| past.label(*row) != past.label_before(*row, at(&night))).count();
            }
        }
        assert!(set == "lateness" || late > 50, "labels that came later or were corrected were to tell: {late}");
    }
}

#[test]
fn what_was_known_later_changes_nothing_that_was_decided_before() {
    let [whole, cut] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let until = 95;
    let found = [history(whole.path(), DAYS), history(cut.path(), until)].map(|fleet| found(&fleet, &[]));
    let mut before = 0;
    for (own, other) in found[0]["policies"].as_array().unwrap().iter().zip(found[1]["policies"].as_array().unwrap()) {
        let decided = |policy: &Value| {
            let all = policy["trainings"].as_array().unwrap();
            let decided = all.iter().filter(|training| at(training["at"].as_str().unwrap()) <= at(&day(until)));
            decided.cloned().collect::<Vec<Value>>()
        };
        assert_eq!(decided(own), decided(other), "{}", own["policy"]);
        before += decided(own).len();
        // The labels of February were all known long before.
        assert_eq!(own["months"][1], other["months"][1], "{}", own["policy"]);
    }
    assert!(before > 20, "{before}");
}

#[test]
fn policies_find_a_turn_of_the_labels_and_their_costs_and_gains_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = history(folder.path(), DAYS);
    let found = found(&fleet, &["--cost", "25"]);
    assert_eq!(found["metric"], "accuracy");
    let value = |policy: &Value| policy["whole"]["value"].as_f64().unwrap();
    let never = policy(&found, "never", false);
    assert_eq!(never["trainings"].as_array().unwrap().len(), 0);
    // Right in nine of ten until the turn, and wrong in nine of ten after it.
    let months: Vec<f64> = never["months"].as_array().unwrap().iter().map(|m| m["value"].as_f64().unwrap()).collect();
    assert!(months[0] > 0.85 && months[1] > 0.85 && months.last().unwrap() < &0.15, "{months:?}");
    for name in ["schedule", "performance", "drift", "volume", "combined"] {
        let own = policy(&found, name, false);
        let trainings = own["trainings"].as_array().unwrap();
        assert!(!trainings.is_empty() && value(own) > value(never) + 0.05, "{name}: {own}");
        assert_eq!(own["cost"], format!("{}.00", 25 * trainings.len()), "{name}");
        let gain = own["gain"].as_f64().unwrap();
        assert!((gain - (value(own) - value(never))).abs() < 1e-12);
        let a_point: f64 = own["cost_per_point"].as_str().unwrap().parse().unwrap();
        assert!((a_point - 25.0 * trainings.len() as f64 / (100.0 * gain)).abs() < 0.006, "{name}: {a_point}");
        // Each model is used from its night on, and the same night gives the same model to all.
        for training in trainings {
            assert_eq!(training["outcome"]["deployed"], training["at"], "{name}");
        }
    }
    assert_eq!(trained(policy(&found, "schedule", false))[..2], [day(31), day(45)]);
    // Labels mature in two days: no trigger by labels sees the turn before that, nor the drift before the turn.
    for (name, earliest) in [("performance", TURN + 2), ("drift", TURN + 1)] {
        let first = trained(policy(&found, name, false))[0].clone();
        assert!(at(&first) >= at(&day(earliest)) && at(&first) <= at(&day(TURN + 8)), "{name}: {first}");
    }
    // Gates accept what is better by the margin, and say why they do not.
    let gated = policy(&found, "schedule", true);
    let outcomes: Vec<&Value> = gated["trainings"].as_array().unwrap().iter().map(|t| &t["outcome"]).collect();
    assert!(outcomes.iter().any(|outcome| outcome["deployed"].is_string()), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| outcome["rejected"].is_string()), "{outcomes:?}");
    assert!(found["models_trained"].as_u64().unwrap() < 40);
}

#[test]
fn persistence_is_the_last_label_that_was_mature() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = history(folder.path(), DAYS);
    let found = found(&fleet, &["--policy", "never"]);
    let persistence = &found["baselines"][1];
    assert_eq!(persistence["baseline"], "persistence");
    let first = 30 * DAY / STEP;
    let (mut rows, mut right) = (0.0, 0.0);
    for row in first..DAYS * DAY / STEP {
        // Of late labels the one that was known; a label that is wrong at first counts as it was known.
        let known = |other: i64| match other {
            other if other % 40 == 7 => None,
            other if other % 30 == 11 => (other * STEP + 3600 + 5 * DAY < row * STEP).then(|| truth(other)),
            other if other % 20 == 3 => Some(truth(other) == (other * STEP + 3600 + 10 * DAY < row * STEP)),
            other => Some(truth(other)),
        };
        let last = (0..row).rev().filter(|other| other * STEP + 2 * DAY < row * STEP).find_map(known).unwrap();
        // What the files hold at last.
        let delayed = |delay: i64| row * STEP + 3600 + delay * DAY < DAYS * DAY;
        let label = match row {
            row if row % 40 == 7 => None,
            row if row % 30 == 11 => delayed(5).then(|| truth(row)),
            row if row % 20 == 3 => delayed(0).then(|| truth(row) == delayed(10)),
            row => delayed(0).then(|| truth(row)),
        };
        rows += f64::from(u8::from(label.is_some()));
        right += f64::from(u8::from(label == Some(last)));
    }
    assert_eq!(persistence["whole"]["value"].as_f64().unwrap(), right / rows);
    assert_eq!(persistence["whole"]["rows"].as_f64().unwrap(), rows);
    let no_change = found["baselines"][0]["whole"]["value"].as_f64().unwrap();
    assert!((0.4..0.6).contains(&no_change), "{no_change}");
}

#[test]
fn the_first_model_predicts_what_train_would_have_given() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = history(folder.path(), DAYS);
    let train = |fleet: &Path, now: i64, output: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command
            .arg("train")
            .arg(fleet)
            .args(["--model", "made", "--now", &day(now), "--output"])
            .arg(output)
            .args(more);
        says(&command.output().unwrap(), 0, &[]);
    };
    let [first, later] = ["first", "later"].map(|name| folder.path().join(name));
    train(&fleet, 30, &first, &[]);
    // The same features, judged on days 30 to 58.
    let longer = folder.path().join("longer.toml");
    fs::write(&longer, MADE.replace("validation = \"5d\"", "validation = \"28d\"")).unwrap();
    train(&longer, 60, &later, &["--champion", first.to_str().unwrap()]);
    let numbers = |file: &str, column: &str| -> Vec<f64> {
        let frame = read_parquet(&later.join(file));
        let column = frame.column(column).unwrap().cast(&polars::prelude::DataType::Float64).unwrap();
        column.f64().unwrap().iter().map(Option::unwrap).collect()
    };
    let rows = numbers("champion.parquet", "score").into_iter().zip(numbers("labels.parquet", "label"));
    let rows: Vec<ClassifiedRow> =
        rows.map(|(score, chance)| ClassifiedRow { chance, predicted: score >= 0.5, score }).collect();
    // Files that end at day 60 hold the labels that were known then.
    let cut = tempfile::tempdir().unwrap();
    let fleet = history(cut.path(), 60);
    let output = simulate(&fleet, 58, &["--policy", "never", "--metric", "auc", "--format", "json"]);
    let simulated = parsed(&output);
    let own = of_classes(PerformanceMetric::Auc, &rows, 0.95).unwrap();
    assert_eq!(policy(&simulated, "never", false)["whole"]["value"].as_f64().unwrap(), own.value);
    assert!(rows.len() > 3000 && own.value > 0.8, "{own:?}");
}

#[test]
fn the_same_history_gives_the_same_bytes_and_leaves_no_model_behind() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = history(folder.path(), 80);
    fs::create_dir(folder.path().join("scratch")).unwrap();
    let before = all_below(folder.path());
    let more = ["--every", "5d", "--lag", "1d", "--format", "json"];
    let out = folder.path().join("out");
    let first = simulate(&fleet, 80, &[&more[..], &["--threads", "1"]].concat());
    assert_eq!(first.status.code(), Some(0), "{}", all_output(&first));
    assert_eq!(all_below(folder.path()), before, "nothing is left behind");
    let again = simulate(&fleet, 80, &[&more[..], &["--threads", "2", "--output", out.to_str().unwrap()]].concat());
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(fs::read(out.join("simulation.json")).unwrap(), first.stdout);
    let lagged = parsed(&again);
    let training = &policy(&lagged, "schedule", false)["trainings"][0];
    assert_eq!((&training["at"], &training["outcome"]["deployed"]), (&day(31).into(), &day(32).into()));
    let csv = simulate(&fleet, 80, &[&more[..4], &["--format", "csv"]].concat());
    let text = String::from_utf8(csv.stdout).unwrap();
    assert!(text.starts_with("policy,gates,month,metric,value,"), "{text}");
    assert!(text.contains("\nno change,false,all,accuracy,"), "{text}");
}

#[test]
fn a_program_of_the_user_trains_and_predicts_in_a_simulation() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = history(folder.path(), 60);
    // It copies its rows as its scores, which lack a column: the program is asked, and what it writes is read.
    let trainer = "trainer_command = { fit = [\"sh\", \"-c\", \"test -s $DRIFTSWEEP_TRAINING && echo x > \
                   $DRIFTSWEEP_MODEL_FOLDER/weights && echo fit >> calls\"], predict = [\"sh\", \"-c\", \"cp $DRIFTSWEEP_ROWS \
                   $DRIFTSWEEP_SCORES\"] }";
    fs::write(&fleet, MADE.replace("trainer = { kind = \"batch\", rounds = 30 }", trainer)).unwrap();
    let output = simulate(&fleet, 60, &["--policy", "never"]);
    says(&output, 3, &["no column 'score'; write row_id and score"]);
    assert_eq!(fs::read_to_string(folder.path().join("calls")).unwrap(), "fit\n");
}

#[test]
fn what_cannot_be_simulated_is_said_with_the_remedy_and_months_without_labels_are_shown_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = history(folder.path(), 50);
    for (more, words) in [
        (&["--metric", "rmse"][..], "rmse is about numbers, and all labels are 0 or 1"),
        (&["--every", "60d"], "there is no night between --from and --to"),
        (&["--every", "0d"], "must be longer than 0"),
        (&["--window", "0d"], "must be longer than 0"),
        (&["--cost=-1"], "--cost"),
    ] {
        says(&simulate(&fleet, 50, more), 2, &[words]);
    }
    says(&simulate(&fleet, 20, &[]), 2, &["must be before --to"]);
    let text = MADE.replace("level = 0.8", "metric = \"mae\"\nlevel = 0.8");
    let text = text.replace("schedule = \"0 0 1,15 * *\"\n", "off = [\"drift\"]\n");
    fs::write(&fleet, text).unwrap();
    // Beyond the end of the data there is a month without predictions.
    let page = says(&simulate(&fleet, 70, &["--every", "10d"]), 0, &[]);
    for words in [
        "schedule: not replayed, not set: schedule",
        "drift: not replayed, off",
        "performance: not replayed, mae does not fit labels that are classes",
        "What a training costs is not known; give --cost",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let line = |name: &str| page.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let cells =
        |name: &str| line(name).split('┆').map(|cell| cell.trim_matches([' ', '│']).to_owned()).collect::<Vec<_>>();
    let month = page.lines().find(|line| line.contains("policy")).unwrap();
    let march = month.split('┆').position(|cell| cell.trim_matches([' ', '│']) == "1970-03").unwrap();
    assert_eq!((&*cells("never")[march], &*cells("labelled rows")[march]), ("–", "0"));
    // Before the first labels there is no model.
    fs::write(&fleet, MADE).unwrap();
    let early = Command::new(env!("CARGO_BIN_EXE_driftsweep"))
        .arg("simulate")
        .arg(&fleet)
        .args(["--model", "made", "--from", &day(3), "--to", &day(20)])
        .output()
        .unwrap();
    says(&early, 2, &["the first model cannot be trained at 1970-01-04"]);
}
