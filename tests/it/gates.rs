//! `driftsweep gate`: two files of predictions and one of labels in, a verdict and an exit code out.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::output::{all_output, parsed};

const ROWS: usize = 3000;

fn spread(row: usize) -> f64 {
    // SplitMix64 (Steele, Lea and Flood 2014)
    let mut x = (row as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn label(row: usize) -> bool {
    spread(row + 7) < 0.4
}

/// A table with a line for each row.
fn write(path: &Path, heading: &str, line: &dyn Fn(usize) -> String) {
    let lines: String = (0..ROWS).map(|row| line(row) + "\n").collect();
    fs::write(path, format!("{heading}\n{lines}")).unwrap();
}

/// Predictions that are wrong in a share of the rows, with scores and latencies.
fn predictions(path: &Path, wrong: f64, salt: usize) {
    write(path, "id,predicted,score,ms", &|row| {
        let said = label(row) != (spread(row * 3 + salt) < wrong);
        format!("r{row},{},{},{}", u8::from(said), if said { 0.8 } else { 0.2 }, row % 40)
    });
}

/// A candidate that is right in 95 of 100 rows, a champion that is in 90, and the labels of seven days.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    predictions(&path("candidate.csv"), 0.05, 1);
    predictions(&path("champion.csv"), 0.1, 5);
    write(&path("labels.csv"), "id,late,at,sex", &|row| {
        let sex = if spread(row + 11) < 0.3 { "m" } else { "f" };
        format!("r{row},{},2026-01-0{}T12:00:00Z,{sex}", u8::from(label(row)), 1 + row % 7)
    });
    write(&path("features.csv"), "id,age,paid_at", &|row| {
        format!("r{row},{},{}", 20 + row % 50, f64::from(u8::from(label(row))) + spread(row) / 2.0)
    });
    folder
}

const COLUMNS: [&str; 6] = ["--id", "id", "--label", "late", "--prediction", "predicted"];

fn gate(folder: &Path, files: [&str; 3], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.arg("gate").args(files).args(COLUMNS).args(more).current_dir(folder);
    if !more.contains(&"--score") {
        command.args(["--score", "score"]);
    }
    command.output().unwrap()
}

const FILES: [&str; 3] = ["candidate.csv", "champion.csv", "labels.csv"];

fn says(output: &Output, code: i32, words: &[&str]) -> String {
    let text = all_output(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    words.iter().for_each(|words| assert!(text.contains(words), "'{words}' is not in {text}"));
    text
}

#[test]
fn a_candidate_is_accepted_or_rejected_by_exit_code_with_the_reasons() {
    let folder = folder();
    let folder = folder.path();
    let accepted = gate(folder, FILES, &["--time", "at"]);
    says(&accepted, 0, &["accuracy.better_by", "The candidate passes every gate.", "3000 rows of 7 days"]);
    let [candidate, champion, labels] = FILES;
    let turned = gate(folder, [champion, candidate, labels], &[]);
    says(&turned, 16, &["The candidate is rejected", "worse by", "keep the champion"]);
    says(&gate(folder, [candidate, "-", labels], &[]), 17, &["there is no champion", "is not accepted"]);
    let few = gate(folder, FILES, &["--metric", "auc", "--at-least", "0.7", "--min-rows", "5000"]);
    says(&few, 17, &["3000 labelled rows", "5000 wanted"]);
    let more = ["--metric", "log_loss", "--better-by", "0.01", "--significance", "0.05", "--time", "at"];
    let report: Value = parsed(&gate(folder, FILES, &[&more[..], &["--format", "json"]].concat()));
    assert_eq!(report["verdict"], "passed", "{report}");
    let gates = report["gates"].as_array().unwrap();
    let significance = gates.iter().find(|gate| gate["name"] == "log_loss.significance").unwrap();
    assert!(significance["figures"]["p_value"].as_f64().unwrap() < 0.05, "{significance}");
    assert!(significance["sentence"].as_str().unwrap().contains("(test by days)"), "{significance}");
}

#[test]
fn gates_of_a_file_and_of_a_fleet_are_judged() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let gates = "latency_p95 = 38.0\nmetrics = [{ metric = \"auc\", at_least = 0.9, better_by = 0.01 }]\n";
    let fairness = "[fairness.sex]\ntpr = 0.1\n";
    fs::write(path("gates.toml"), format!("{gates}{fairness}")).unwrap();
    let of_file = |more: &[&str]| gate(folder.path(), FILES, &[&["--rules", "gates.toml"], more].concat());
    says(&of_file(&["--latency", "ms"]), 0, &["fairness.sex.tpr", "latency_p95", "passes every gate"]);
    says(&of_file(&[]), 17, &["name the column of latencies"]);
    let model = "[[model]]\nname = \"late\"\nbaseline = \"labels.csv\"\ncurrent = \"candidate.csv\"\n[model.labels]\nfrom = \
                 \"labels.csv\"\nid = \"id\"\ntime = \"at\"\nlabel = \"late\"\nprediction = \"predicted\"\nscore = \"score\"\n";
    let fleet = format!("{model}[model.gates]\n{gates}{}", fairness.replace("[fairness", "[model.gates.fairness"));
    fs::write(path("fleet.toml"), fleet).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.arg("gate").args(FILES).args(["--fleet", "fleet.toml", "--model", "late", "--latency", "ms"]);
    says(&command.current_dir(folder.path()).output().unwrap(), 0, &["auc.better_by"]);
    says(
        &gate(folder.path(), FILES, &["--rules", "lost.toml"]),
        3,
        &["lost.toml: no such file; name the file of gates"],
    );
    says(&gate(folder.path(), FILES, &["--rules", "/dev/zero"]), 3, &["not a regular file"]);
    fs::write(path("gates.toml"), "").unwrap();
    says(&of_file(&[]), 0, &["accuracy.better_by"]);
    for (text, line, words) in [
        ("\nmetrics = []\n", "gates.toml", "judges nothing"),
        ("[fairness.sex]\ntrp = 0.1\n", "gates.toml:2", "trp"),
        ("leakage = inf\n", "gates.toml:1", "must be finite"),
    ] {
        fs::write(path("gates.toml"), text).unwrap();
        says(&of_file(&[]), 4, &[line, words]);
    }
}

#[test]
fn a_planted_leak_is_named() {
    let folder = folder();
    let folder = folder.path();
    predictions(&folder.join("perfect.csv"), 0.001, 1);
    let files = ["perfect.csv", "champion.csv", "labels.csv"];
    says(&gate(folder, files, &["--features", "features.csv"]), 16, &["'paid_at' alone", "remove it"]);
    says(&gate(folder, files, &[]), 0, &["warning", "no features were given"]);
}

#[test]
fn nothing_is_made_of_what_is_missing() {
    let folder = folder();
    let folder = folder.path();
    let [candidate, champion, labels] = FILES;
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let changed = |name: &str, to: &str, change: &dyn Fn(usize, &str) -> String| {
        let of = text(name);
        let lines: Vec<String> =
            of.lines().enumerate().map(|(at, line)| if at == 0 { line.into() } else { change(at, line) }).collect();
        fs::write(folder.join(to), lines.join("\n") + "\n").unwrap();
    };
    let without = |field: usize, line: &str| {
        let fields: Vec<&str> =
            line.split(',').enumerate().map(|(i, part)| if i == field { "" } else { part }).collect();
        fields.join(",")
    };
    // Scores that are missing where the label is positive: they have no place among the others.
    let auc = ["--metric", "auc", "--at-least", "0.5"];
    changed(candidate, "scoreless.csv", &|at, line| if label(at - 1) { without(2, line) } else { line.into() });
    says(&gate(folder, ["scoreless.csv", champion, labels], &auc), 17, &["without a score of the candidate"]);
    changed(champion, "scoreless.csv", &|at, line| if at % 3 == 0 { without(2, line) } else { line.into() });
    let better = ["--metric", "auc", "--better-by", "0.0"];
    says(&gate(folder, [candidate, "scoreless.csv", labels], &better), 17, &["auc of the champion takes"]);
    // A prediction that is missing is not made of the score.
    changed(champion, "silent.csv", &|at, line| if at % 2 == 0 { without(1, line) } else { line.into() });
    says(&gate(folder, [candidate, "silent.csv", labels], &[]), 17, &["without a prediction of the champion"]);
    // Labels without an id, and labels that have not come.
    changed(labels, "anonymous.csv", &|at, line| if at % 2 == 0 { without(0, line) } else { line.into() });
    says(
        &gate(folder, [candidate, champion, "anonymous.csv"], &[]),
        17,
        &["1500 labelled rows (50.00 %) without an id"],
    );
    changed(labels, "late.csv", &|at, line| if at % 3 == 0 { without(1, line) } else { line.into() });
    says(&gate(folder, [candidate, champion, "late.csv"], &[]), 0, &["1000 rows without a label yet"]);
    // Features of other rows, and of a row twice.
    changed("features.csv", "others.csv", &|_, line| line.replacen('r', "x", 1));
    let features = |name: &str| gate(folder, FILES, &["--features", name]);
    says(&features("others.csv"), 2, &["others.csv", "no features of 3000 of 3000"]);
    changed("features.csv", "twice.csv", &|at, line| {
        if at == 9 { line.replacen("r8,", "r7,", 1) } else { line.into() }
    });
    says(&features("twice.csv"), 2, &["'r7' comes twice"]);
    // A class that does not occur, by which groups would all be alike.
    fs::write(folder.join("fair.toml"), "[fairness.sex]\ntpr = 0.1\nselection_rate = 0.1\n").unwrap();
    let fair = |more: &[&str]| gate(folder, FILES, &[&["--rules", "fair.toml"], more].concat());
    says(&fair(&[]), 0, &["fairness.sex.selection_rate"]);
    says(&fair(&["--positive", "yes"]), 2, &["yes"]);
    // Rows of a day are not independent: a test without times is no test, unless that is said.
    let test = ["--metric", "accuracy", "--significance", "0.05"];
    says(&gate(folder, FILES, &test), 17, &["rows have no times"]);
    says(&gate(folder, FILES, &[&test[..], &["--independent"]].concat()), 0, &["test by mcnemar"]);
    // Rows that never ended are slow.
    changed(candidate, "slow.csv", &|at, line| {
        let (rest, _) = line.rsplit_once(',').unwrap();
        format!("{rest},{}", if at % 5 == 0 { "inf" } else { "1" })
    });
    fs::write(folder.join("fast.toml"), "latency_p95 = 10.0\n").unwrap();
    let slow = gate(folder, ["slow.csv", champion, labels], &["--rules", "fast.toml", "--latency", "ms"]);
    says(&slow, 16, &["95 % of predictions take inf"]);
}

#[test]
fn rows_that_do_not_fit_are_refused_by_name() {
    let folder = folder();
    let folder = folder.path();
    let file = |name: &str| folder.join(name);
    let refused =
        |files: [&str; 3], more: &[&str], code: i32, words: &[&str]| says(&gate(folder, files, more), code, words);
    let [candidate, champion, labels] = FILES;
    refused([candidate, candidate, labels], &[], 2, &["said the same about each of 3000 rows"]);
    fs::copy(file(candidate), file("copy.csv")).unwrap();
    refused([candidate, "copy.csv", labels], &[], 2, &["compared with itself"]);
    refused([candidate, "lost.csv", labels], &[], 3, &["lost.csv: no such file"]);
    // An id twice, in each of the three.
    for (at, name) in FILES.into_iter().enumerate() {
        let text = fs::read_to_string(file(name)).unwrap();
        fs::write(file("twice.csv"), text.replacen("\nr7,", "\nr8,", 1)).unwrap();
        let mut files = FILES;
        files[at] = "twice.csv";
        refused(files, &[], 2, &["twice.csv, column 'id'", "'r8' comes twice"]);
    }
    // A tenth of the rows is not there.
    let text = fs::read_to_string(file(champion)).unwrap();
    fs::write(file("part.csv"), text.lines().take(2701).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    refused(
        [candidate, "part.csv", labels],
        &[],
        17,
        &["300 labelled rows (10.00 %) without a prediction of the champion"],
    );
    // Other classes, and scores that are no probabilities.
    let text = fs::read_to_string(file(labels)).unwrap();
    let words = text.replace(",1,2026", ",yes,2026").replace(",0,2026", ",no,2026");
    fs::write(file("words.csv"), words).unwrap();
    refused([candidate, champion, "words.csv"], &[], 2, &["do not use the same classes"]);
    let text = fs::read_to_string(file(candidate)).unwrap().replace(",0.8,", ",3.5,");
    fs::write(file("odds.csv"), text).unwrap();
    let loss = ["--metric", "log_loss", "--at-most", "0.5"];
    refused(["odds.csv", champion, labels], &loss, 2, &["log_loss takes probabilities"]);
    refused(FILES, &["--score", "scroe"], 3, &["no column 'scroe'", "score"]);
    refused(FILES, &["--metric", "accuracy", "--at-most", "0.5"], 2, &["give at_least instead of at_most"]);
    refused(FILES, &["--metric", "brier", "--at-most", "25"], 2, &["between 0 and 1"]);
    refused(FILES, &["--metric", "auk", "--at-least", "0.5"], 2, &["auk"]);
    refused(FILES, &["--memory", "16MiB", "--time", "when"], 3, &["no column 'when'"]);
    refused(FILES, &["--time", "late"], 2, &["'late'", "is not a time"]);
}

/// By the rows that both predicted, whatever their order, type and number of files.
#[test]
fn the_verdict_does_not_depend_on_the_order_of_rows() {
    let folder = folder();
    let folder = folder.path();
    let shuffled = |name: &str, to: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1..].reverse();
        lines[1..].sort_by_key(|line| line.len());
        fs::write(folder.join(to), lines.join("\n") + "\n").unwrap();
    };
    let names = ["c.csv", "p.csv", "l.csv"];
    FILES.into_iter().zip(names).for_each(|(name, to)| shuffled(name, to));
    let more = ["--time", "at", "--format", "json", "--features", "features.csv"];
    let [first, second] = [FILES, names].map(|files| parsed(&gate(folder, files, &more)));
    let figures = |report: &Value| -> Vec<(String, String)> {
        let gates = report["gates"].as_array().unwrap();
        gates.iter().map(|gate| (gate["name"].to_string(), gate["sentence"].to_string())).collect()
    };
    assert_eq!(figures(&first), figures(&second));
}
