//! What goes wrong in the first days with own data is said before the night, and where it is looked for.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::output::{all_output, parsed};

const ROWS: usize = 3000;

/// A column of a table by its name, and its value in a row.
type CsvColumn<'a> = (&'a str, &'a dyn Fn(usize) -> String);

fn write(path: &Path, columns: &[CsvColumn<'_>]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let row = |i: usize| columns.iter().map(|(_, value)| value(i)).collect::<Vec<_>>().join(",") + "\n";
    fs::write(path, names.join(",") + "\n" + &(0..ROWS).map(row).collect::<String>()).unwrap();
}

fn spread(i: usize) -> usize {
    i.wrapping_mul(2_654_435_761) % 1009
}

fn amount(i: usize) -> String {
    format!("{}.5", spread(i))
}

fn id(i: usize) -> String {
    format!("r{i}")
}

fn class(i: usize) -> String {
    (spread(i) % 2).to_string()
}

/// Three hundred rows a day from the first of January on.
fn time(i: usize) -> String {
    format!("2026-01-{:02}T12:00:00Z", 1 + i / 300)
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.args(args).current_dir(folder).env_remove("DRIFTSWEEP_STATE").output().unwrap()
}

/// Runs a command that must end so, and say so.
fn says(folder: &Path, args: &[&str], code: i32, words: &[&str]) -> String {
    let output = run(folder, args);
    let text = all_output(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    words.iter().for_each(|words| assert!(text.contains(words), "{args:?}: '{words}' is not in {text}"));
    text
}

const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"train.csv\"\ncurrent = \"now.csv\"\n";

/// Labels in a table of their own, each a day after its prediction.
const LABELS: &str = "[model.labels]\nfrom = \"labels.csv\"\nid = \"id\"\ntime = \"at\"\nlabel = \"paid\"\nprediction = \
                      \"predicted\"\n";

/// A fleet of one model whose labels are as they are given, by the row of the prediction.
fn labelled(folder: &Path, more: &str, label_id: &dyn Fn(usize) -> String, label: &dyn Fn(usize) -> String) {
    let columns: &[CsvColumn<'_>] = &[("id", &id), ("at", &time), ("amount", &amount), ("predicted", &class)];
    write(&folder.join("train.csv"), columns);
    write(&folder.join("now.csv"), columns);
    let came = |i: usize| format!("2026-01-{:02}T12:00:00Z", 2 + i / 300);
    write(&folder.join("labels.csv"), &[("id", label_id), ("paid", label), ("came", &came)]);
    let exclude = "exclude = [\"id\", \"at\", \"predicted\"]\n";
    fs::write(folder.join("fleet.toml"), format!("{MODEL}{exclude}{LABELS}{more}")).unwrap();
}

#[test]
fn doctor_finds_a_column_whose_type_a_sweep_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let digits = |i: usize| spread(i).to_string();
    write(&folder.join("train.csv"), &[("zip", &digits), ("amount", &amount)]);
    write(&folder.join("now.csv"), &[("zip", &|i| format!("z{i}")), ("amount", &digits)]);
    fs::write(folder.join("fleet.toml"), MODEL).unwrap();
    let text = says(folder, &["doctor", "fleet.toml"], 11, &["BROKEN", "'zip'", "1 would fail tonight"]);
    // Whole numbers in place of fractions are the same numbers.
    assert!(text.contains("'amount' changed") && !text.contains("WARNING"), "{text}");
    says(folder, &["sweep"], 11, &["type_changed"]);
    // Without values a column has no type that matters.
    write(&folder.join("now.csv"), &[("zip", &|_| String::new()), ("amount", &amount)]);
    assert_eq!(run(folder, &["doctor", "fleet.toml"]).status.code(), Some(0));
}

#[test]
fn doctor_finds_labels_that_no_tick_could_use() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let tonight = ["--now", "2026-01-12"];
    labelled(folder, "label_time = \"came\"\n", &id, &|i| ["no", "yes"][spread(i) % 2].into());
    let doctor = [&["doctor", "fleet.toml"], &tonight[..]].concat();
    says(folder, &doctor, 11, &["BROKEN", "do not use the same classes"]);
    says(folder, &[&["tick"], &tonight[..]].concat(), 11, &["do not use the same classes"]);
    // Ids of which none matches: a week of predictions is enough to know, where no delay is declared.
    let other = |i: usize| format!("x{i}");
    labelled(folder, "label_time = \"came\"\n", &other, &class);
    says(folder, &doctor, 11, &["none matches a prediction", "labels.delay"]);
    says(folder, &["doctor", "fleet.toml", "--now", "2026-01-06"], 0, &["1 ready"]);
    // Labels that take a month are not late yet.
    labelled(folder, "label_time = \"came\"\ndelay = \"30d\"\n", &other, &class);
    says(folder, &doctor, 0, &["1 ready"]);
    labelled(folder, "label_time = \"came\"\n", &id, &class);
    says(folder, &doctor, 0, &["1 ready"]);
}

#[test]
fn times_of_labels_may_be_text() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    labelled(folder, "label_time = \"came\"\n", &id, &class);
    // CSV has no times: both columns are text.
    let output = run(folder, &["tick", "--now", "2026-01-12", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    says(folder, &["explain", "m"], 0, &["2100 predictions", "100.0 % with a label"]);
    // A text that is no time is refused by name.
    let table = fs::read_to_string(folder.join("labels.csv")).unwrap();
    fs::write(folder.join("labels.csv"), table.replacen("2026-01-02T12:00:00Z", "soon", 1)).unwrap();
    says(folder, &["tick", "--now", "2026-01-13"], 11, &["'came'", "not a time"]);
}

#[test]
fn a_report_is_of_the_sweep_that_the_triggers_were_judged_by() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("train.csv"), &[("amount", &amount)]);
    write(&folder.join("now.csv"), &[("amount", &amount)]);
    fs::write(folder.join("fleet.toml"), MODEL).unwrap();
    let as_of = |more: &[&str]| -> Value {
        let output = run(folder, &[&["report", "--format", "json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
        parsed(&output)["as_of"].clone()
    };
    says(folder, &["sweep", "--now", "2026-01-02T09:00:00Z"], 0, &[]);
    assert_eq!(as_of(&[]), "2026-01-02T09:00:00Z");
    says(folder, &["tick", "--now", "2026-01-02T10:00:00Z"], 0, &[]);
    says(folder, &["sweep", "--now", "2026-01-02T11:00:00Z"], 0, &[]);
    assert_eq!(as_of(&[]), "2026-01-02T00:00:00Z", "that of the tick");
    assert_eq!(as_of(&["--at", "2026-01-02T12:00:00Z"]), "2026-01-02T11:00:00Z");
    // A mistyped year does not hide the nights until then.
    says(folder, &["sweep", "--now", "2926-01-02T09:00:00Z"], 0, &[]);
    assert_eq!(as_of(&[]), "2026-01-02T00:00:00Z");
    fs::remove_file(folder.join(".driftsweep/fleet/driftsweep.sqlite")).unwrap();
    assert_eq!(as_of(&[]), "2026-01-02T11:00:00Z");
    says(folder, &["report", "--format", "csv"], 0, &["is of a time to come", "date=2926-01-02"]);
    says(folder, &["metrics"], 0, &["is of a time to come", "driftsweep_features"]);
}

#[test]
fn init_says_how_the_data_differ_and_finds_a_label_by_its_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let guess = |i: usize| format!("{}.25", spread(i + 1));
    let day = |i: usize| format!("2026-01-{:02}", 1 + i / 300);
    let train: &[CsvColumn<'_>] = &[
        ("price", &amount),
        ("predicted_price", &guess),
        ("rooms", &|i| (spread(i) % 7).to_string()),
        ("lost", &|i| (spread(i) % 50).to_string()),
        ("at", &day),
    ];
    write(&folder.join("train.csv"), train);
    let mut now = train.to_vec();
    now[3].0 = "fresh";
    write(&folder.join("now.csv"), &now);
    let words = ["the current data lack lost", "the training data lack fresh", "\"price\", # label: 'predicted_price'"];
    let text = says(folder, &["init", "train.csv", "now.csv"], 0, &words);
    assert!(text.contains("\"predicted_price\", # prediction") && !text.contains("\"rooms\","), "{text}");
}

#[test]
fn data_that_are_older_than_what_the_model_was_trained_on_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let month = |month: &str| crate::support::data::dataset(&format!("nycflights13/flights-2013-{month}.parquet"));
    let [first, second] = ["01", "02"].map(|name| month(name).display().to_string());
    let compare = |a: &str, b: &str| all_output(&run(folder, &["compare", a, b, "--metrics", "psi"]));
    assert!(compare(&second, &first).contains("are the two swapped?"));
    assert!(!compare(&first, &second).contains("swapped"));
}

#[test]
fn a_placeholder_that_stands_for_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (current, code, words) in [
        ("p/date={dya}/", 4, "{dya} stands for nothing"),
        ("p/{date}.parquet", 4, "{date} stands for nothing"),
        ("p/{day:%Y}/{a,b}.parquet", 0, "1 model"),
    ] {
        fs::write(folder.join("fleet.toml"), MODEL.replace("now.csv", current)).unwrap();
        says(folder, &["validate", "fleet.toml"], code, &[words]);
    }
}

#[test]
fn the_name_of_a_file_says_its_format() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("train.csv"), &[("amount", &amount)]);
    for (name, begins) in [("r.html", "<!doctype html>"), ("r.json", "{"), ("r.CSV", "model,"), ("r.txt", "┌")] {
        says(folder, &["compare", "train.csv", "train.csv", "--output", name], 0, &[]);
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.to_lowercase().starts_with(begins), "{name}: {text}");
    }
    says(folder, &["compare", "train.csv", "train.csv", "--output", "r.json", "--format", "table"], 0, &[]);
    assert!(fs::read_to_string(folder.join("r.json")).unwrap().starts_with('┌'));
}
