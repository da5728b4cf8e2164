//! Inputs that went wrong in the field, each held to its right answer (`tests/field/*/make.py` says which, and why).

use std::path::{Path, PathBuf};

use driftsweep::snapshot::table::{Cells, to_parquet};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{feature, run};

/// A file of a case.
fn case(name: &str) -> PathBuf {
    crate::support::data::root().join("tests/field").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a tick of a case's fleet file did, what it said, and its exit code; and what `explain` shows of its model.
struct Ticked {
    code: i32,
    done: Value,
    said: String,
    explained: String,
}

fn tick(fleet: &str) -> Ticked {
    let (fleet, state) = (case(fleet), TempDir::new().unwrap());
    let state = text(state.path());
    let output = run(["tick", text(&fleet), "--state", state, "--now", "2026-11-12T03:00:00Z", "--format", "json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap();
    let done = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{code}: {said}"));
    let explained = run(["explain", "m", text(&fleet), "--state", state]);
    Ticked { code, done, said, explained: String::from_utf8(explained.stdout).unwrap() }
}

impl Ticked {
    fn fired(&self) -> usize {
        self.done["firings"].as_array().unwrap().len()
    }

    /// Realised accuracy and the rows that it is over, as `explain` shows them.
    fn realised(&self) -> (f64, usize) {
        let line = self
            .explained
            .lines()
            .find(|line| line.contains("realised "))
            .unwrap_or_else(|| panic!("{}", self.explained));
        let words: Vec<&str> = line.split_whitespace().collect();
        let rows = words.iter().position(|word| word.starts_with("rows")).unwrap();
        (words[1].parse().unwrap(), words[rows - 1].parse().unwrap())
    }

    /// A refusal: no figure, no trigger, exit code 11, and words that name what is wrong.
    fn is_refused(&self, words: &[&str]) {
        assert_eq!(self.code, 11, "{}", self.said);
        assert_eq!(self.fired(), 0);
        assert!(!self.explained.contains("realised"), "{}", self.explained);
        for word in words {
            assert!(
                self.said.contains(word) && self.explained.contains(word),
                "{word}: {} {}",
                self.said,
                self.explained
            );
        }
    }
}

#[test]
fn labels_in_other_words_than_predictions_are_refused_with_both_vocabularies() {
    for (fleet, words) in [
        ("yes", ["'yes'", "'0'", "labels.classes"]),
        // What the message once advised.
        ("yes_named", ["'no'", "'1'", "labels.classes"]),
        ("plus_minus", ["'-1'", "'0'", "labels.classes"]),
        ("one_two", ["'2'", "'0'", "labels.classes"]),
    ] {
        tick(&format!("labels-other-vocabulary/{fleet}.toml")).is_refused(&words);
    }
}

#[test]
fn the_remedy_for_other_words_gives_the_true_accuracy() {
    for (fleet, classes) in [
        ("yes", "{ yes = 1, no = 0 }"),
        ("plus_minus", "{ \"1\" = 1, \"-1\" = 0 }"),
        ("one_two", "{ \"2\" = 1, \"1\" = 0 }"),
    ] {
        let with = |text: &str| format!("{text}classes = {classes}\n");
        let ticked = tick_changed("labels-other-vocabulary", &format!("{fleet}.toml"), with);
        assert_eq!((ticked.code, ticked.fired()), (0, 0), "{}", ticked.said);
        // Of the 1,065 predictions of the seven days before the 11th, pandas finds 95.68 % right.
        assert_eq!(ticked.realised(), (0.9568, 1065), "{fleet}");
    }
}

#[test]
fn labels_that_are_still_to_come_are_missing_however_a_writer_puts_it() {
    let [blank, na, nan] = ["blank", "na", "nan_text"].map(|fleet| tick(&format!("labels-na-pending/{fleet}.toml")));
    // By pandas, of the labelled predictions of the seven days before the 9th.
    let wanted = (0.9536, 647);
    for ticked in [&blank, &na, &nan] {
        assert_eq!((ticked.code, ticked.fired(), ticked.realised()), (0, 0, wanted), "{}", ticked.said);
        assert!(ticked.explained.contains("read as missing (built in): \"\", \"NA\""), "{}", ticked.explained);
    }
}

#[test]
fn a_label_stays_known_when_it_is_written_again() {
    let [once, again] = ["once", "again"].map(|fleet| tick(&format!("labels-dated-today/{fleet}.toml")));
    assert!((once.realised().0 - 0.945).abs() < 0.01, "{:?}", once.realised());
    assert_eq!(once.realised(), again.realised());
    assert_eq!((once.fired(), again.fired()), (0, 0));
}

#[test]
fn a_label_from_before_its_prediction_belongs_to_another_prediction() {
    let reuse = tick("labels-before-prediction/reuse.toml");
    assert_eq!(reuse.fired(), 0, "{}", reuse.done);
    // The first predictions are all right; the second have no label yet.
    assert!(reuse.explained.contains("performance: no_labels"), "{}", reuse.explained);
    assert!(reuse.explained.contains("not judged: none of 750 predictions"), "{}", reuse.explained);
}

#[test]
fn ids_meet_whatever_they_are_stored_as_and_it_is_said_when_none_does() {
    // By pandas: predictions.merge(labels), of the seven days before the 11th.
    let wanted = (0.9568, 1065);
    for fleet in ["int", "text", "float", "decimal"] {
        let ticked = tick(&format!("label-ids/{fleet}.toml"));
        assert_eq!((ticked.code, ticked.fired(), ticked.realised()), (0, 0, wanted), "{fleet}: {}", ticked.said);
    }
    for (fleet, example) in
        [("float_text", "'1000.0' and '1000'"), ("padded", "'00001000' and '1000'"), ("spaces", "' 1000 ' and '1000'")]
    {
        let ticked = tick(&format!("label-ids/{fleet}.toml"));
        ticked.is_refused(&[" labels, none matches a prediction, for example", example, "the same way"]);
    }
}

/// A comparison of two files of a case: its report and exit code.
fn compared(baseline: &str, current: &str, more: &[&str]) -> (Value, i32) {
    let output =
        run(["compare", baseline, current, "--metrics", "psi,js,ks,missing", "--format", "json"].iter().chain(more));
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{:?} {said}", output.status));
    (report, output.status.code().unwrap())
}

/// The same, of files of a case folder, with the baseline as it is and frozen.
fn live_and_frozen(folder: &str, baseline: &str, current: &str) -> [(Value, i32); 2] {
    let (baseline, current) = (case(folder).join(baseline), case(folder).join(current));
    let out = TempDir::new().unwrap();
    let frozen = out.path().join("frozen.baseline");
    assert!(run(["baseline", "build", text(&baseline), "-o", text(&frozen)]).status.success());
    [&baseline, &frozen].map(|side| compared(text(side), text(&current), &[]))
}

#[test]
fn columns_of_nothing_but_nulls_are_missing_whatever_type_they_are_stored_as() {
    for current in ["night.parquet", "night_nan.parquet"] {
        for (report, code) in live_and_frozen("all-null-object-column", "train.parquet", current) {
            let c = feature(&report, "c");
            assert_eq!((&c["status"], code), (&"all_null".into(), 0), "{c}");
            assert_eq!(c["metrics"]["missing"]["current"], 1.0);
            assert_eq!(c["verdict"]["drifted"], true);
        }
    }
    for (report, code) in live_and_frozen("all-null-object-column", "train.parquet", "production") {
        let c = feature(&report, "c");
        assert_eq!((&c["status"], code, &c["metrics"]["missing"]["current"]), (&"ok".into(), 0, &0.5.into()), "{c}");
        assert!(c["metrics"]["js"]["distance"].as_f64().unwrap() < 0.1, "{c}");
    }
    for (report, code) in live_and_frozen("all-null-object-column", "train.parquet", "empty") {
        let c = feature(&report, "c");
        assert_eq!((&c["status"], code, &c["current"]["rows"]), (&"ok".into(), 0, &1500.into()), "{c}");
        assert_eq!(c["metrics"]["missing"]["current"], 0.0);
    }
}

#[test]
fn single_and_double_precision_are_compared_at_the_precision_of_both() {
    for (report, code) in live_and_frozen("float32-then-float64", "train.parquet", "today.parquet") {
        let rate = feature(&report, "rate");
        assert_eq!((code, &rate["metrics"]["ks"]["statistic"]), (0, &0.0.into()), "{rate}");
        assert_eq!(rate["metrics"]["psi"]["value"], 0.0);
        assert_eq!(rate["verdict"]["drifted"], false);
    }
    // The other way round.
    for (report, _) in live_and_frozen("float32-then-float64", "today.parquet", "train.parquet") {
        assert_eq!(feature(&report, "rate")["metrics"]["ks"]["statistic"], 0.0);
    }
}

#[test]
fn integers_are_the_same_whatever_width_they_have() {
    let wanted = live_and_frozen("frozen-wider-integer", "train.parquet", "today_int64.parquet");
    let wanted = feature(&wanted[0].0, "b")["metrics"].clone();
    for current in ["int64", "uint32", "int32", "decimal"] {
        for (report, code) in
            live_and_frozen("frozen-wider-integer", "train.parquet", &format!("today_{current}.parquet"))
        {
            for name in ["n", "u", "b"] {
                let found = feature(&report, name);
                assert_eq!((&found["status"], code), (&"ok".into(), 0), "{current} {name}: {found}");
                for figure in ["/psi/value", "/ks/statistic", "/js/distance"] {
                    assert_eq!(found["metrics"].pointer(figure), wanted.pointer(figure), "{current} {name} {figure}");
                }
            }
        }
    }
}

#[test]
fn text_without_its_mark_is_text_and_a_number_that_became_a_list_has_changed_its_type() {
    for (report, code) in live_and_frozen("string-becomes-binary", "train.parquet", "today.parquet") {
        let c = feature(&report, "c");
        // scipy.spatial.distance.jensenshannon([718, 782], [21, 1479])
        assert_eq!((&c["status"], &c["verdict"]["drifted"]), (&"ok".into(), &true.into()), "{c}");
        assert!((c["metrics"]["js"]["distance"].as_f64().unwrap() - 0.41871342646379195).abs() < 1e-12, "{c}");
        let x = feature(&report, "x");
        assert_eq!((&x["status"], code), (&"type_changed".into(), 11), "{x}");
        let changes: Vec<&str> =
            report["schema"].as_array().unwrap().iter().map(|c| c["column"].as_str().unwrap()).collect();
        assert_eq!(changes, ["c", "x"]);
    }
    let state = TempDir::new().unwrap();
    let fleet = case("string-becomes-binary/fleet.toml");
    let output = run(["tick", text(&fleet), "--state", text(state.path()), "--now", "2026-11-12T03:00:00Z"]);
    assert_eq!(output.status.code(), Some(11), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn names_are_columns_of_their_own_and_two_of_one_name_are_refused_in_clear_words() {
    let [today, twice, blank] =
        ["today", "twice", "blank"].map(|name| case(&format!("duplicate-and-odd-names/{name}.parquet")));
    let train = case("duplicate-and-odd-names/train.parquet");
    let (report, code) = compared(text(&train), text(&today), &[]);
    assert_eq!((code, report["features"].as_array().unwrap().len()), (0, 8));
    assert!(report["features"].as_array().unwrap().iter().all(|feature| feature["status"] == "ok"));
    let output = run(["compare", text(&train), text(&twice)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("two columns are called 'a'"), "{said}");
    let output = run(["compare", text(&train), text(&blank)]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("'a ' added"), "{shown}");
}

/// Whether a text can be shown on a terminal: lines of what prints.
fn prints(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !(c.is_control() || ('\u{202A}'..='\u{202E}').contains(&c)))
}

#[test]
fn nothing_from_a_file_reaches_the_terminal_as_it_is() {
    let folder = TempDir::new().unwrap();
    let (clear, back) = ("clear\u{1b}[2J\u{7}", "x\u{202E}y\r\nz\u{9b}1A");
    let values: Vec<Option<f64>> = (0..1500).map(|i| Some(f64::from(i % 10))).collect();
    let texts: Vec<String> = (0..1500).map(|i| format!("\u{1b}]0;{}\u{7}", i % 3)).collect();
    let columns = |extra: &str| {
        let numbers = [clear, extra].map(|name| (name.to_owned(), Cells::Float(values.clone())));
        let all: Vec<(String, Cells)> =
            numbers.into_iter().chain([(back.to_owned(), Cells::Text(texts.clone()))]).collect();
        to_parquet(all.iter().map(|(name, cells)| (name.as_str(), cells.clone())).collect()).unwrap()
    };
    let [train, today] = ["train\u{1b}[1m.parquet", "today.parquet"].map(|name| folder.path().join(name));
    std::fs::write(&train, columns("gone\u{1b}c")).unwrap();
    std::fs::write(&today, columns("new\u{8}\u{8}")).unwrap();
    std::fs::write(folder.path().join("torn\u{1b}[2J.parquet"), b"PAR1 no").unwrap();
    let name = |text: &str| toml::Value::String(text.into()).to_string();
    let model = |called: &str, current: &str| {
        format!(
            "[[model]]\nname = {}\nbaseline = {}\ncurrent = {}\n",
            name(called),
            name("train\u{1b}[1m.parquet"),
            name(current)
        )
    };
    let fleet = folder.path().join("fleet.toml");
    let labels = format!(
        "[model.labels]\nlabel = {}\nprediction = {}\ntime = {}\n",
        name(back),
        name(clear),
        name("no\u{1b}such")
    );
    let text_of_fleet = model("m\u{1b}[31m", "today.parquet") + &labels + &model("torn", "torn\u{1b}[2J.parquet");
    std::fs::write(&fleet, &text_of_fleet).unwrap();
    let (train, today, fleet, state) = (text(&train), text(&today), text(&fleet), folder.path().join("state"));
    let state = text(&state);
    let baseline = folder.path().join("b\u{1b}.baseline");
    let now = ["--state", state, "--now", "2026-11-12T03:00:00Z"];
    let with_now = |args: &[&'static str]| -> Vec<String> {
        let args = args.iter().map(|arg| if *arg == "FLEET" { fleet } else { arg });
        args.chain(now).map(str::to_owned).collect()
    };
    let plain = |args: &[&str]| -> Vec<String> { args.iter().map(|arg| arg.to_string()).collect() };
    let mut quiet = 0;
    for args in [
        plain(&["compare", train, today]),
        plain(&["compare", train, today, "--features", "no\u{1b}such"]),
        plain(&["compare", train, "no\u{1b}where.parquet"]),
        plain(&["baseline", "build", train, "-o", text(&baseline)]),
        plain(&["baseline", "show", text(&baseline)]),
        plain(&["compare", text(&baseline), today]),
        plain(&["init", train, today]),
        plain(&["doctor", fleet]),
        with_now(&["sweep", "FLEET"]),
        with_now(&["sweep", "FLEET", "--dry-run"]),
        with_now(&["tick", "FLEET"]),
        plain(&["explain", "m\u{1b}[31m", fleet, "--state", state]),
        plain(&["explain", "m\u{1b}[32m", fleet, "--state", state]),
        plain(&["history", fleet, "--state", state]),
        plain(&["calibrate", fleet, "--state", state]),
        plain(&["events", "list", fleet, "--state", state]),
        plain(&[
            "mute",
            "m\u{1b}[31m",
            fleet,
            "--state",
            state,
            "--for",
            "1d",
            "--by",
            "\u{1b}[3m",
            "--reason",
            "\u{1b}[2J",
        ]),
        plain(&["jobs", "list", fleet, "--state", state]),
        plain(&["economics", fleet, "--state", state]),
        plain(&["audit", "show", fleet, "--state", state]),
    ] {
        let output = run(&args);
        for (what, bytes) in [("output", &output.stdout), ("messages", &output.stderr)] {
            let shown = String::from_utf8_lossy(bytes);
            quiet += usize::from(shown.is_empty());
            assert!(prints(&shown), "{what} of {args:?}: {shown:?}");
        }
        assert!(!matches!(output.status.code(), None | Some(1)), "{args:?} {output:?}");
    }
    assert!(quiet < 30, "most commands must say something of the names");
}

/// A case's folder with its fleet file changed, and what a tick of it did.
fn tick_changed(folder: &str, fleet: &str, change: impl Fn(&str) -> String) -> Ticked {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(case(folder)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let file = copy.path().join(fleet);
    let changed = change(&std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, changed).unwrap();
    tick(text(&file))
}

#[test]
fn how_long_labels_take_is_learned_where_nobody_declared_it() {
    let learned = tick_changed("label-ids", "int.toml", |text| text.replace("delay = \"3d\"\n", ""));
    assert!(learned.explained.contains("label delay: 1.0 days (learned"), "{}", learned.explained);
    assert_eq!(learned.realised(), (0.9568, 1065));
}

#[test]
fn a_trigger_that_cannot_judge_says_why() {
    let late = tick_changed("label-ids", "text.toml", |text| text.replace("delay = \"3d\"", "delay = \"30d\""));
    assert_eq!((late.code, late.fired()), (0, 0), "{}", late.said);
    assert!(late.explained.contains("performance: no_labels"), "{}", late.explained);
    assert!(late.explained.contains("the label delay is 30.0 days, as labels.delay declares"), "{}", late.explained);
    assert!(late.done["status"]["not_judged"]["m"].is_array(), "{}", late.done);
    let few = tick_changed("label-ids", "int.toml", |text| {
        text.replace("within = \"7d\"", "within = \"7d\"\nmin_labels = 1200")
    });
    assert!(
        few.explained.contains("1065 rows with a label are too few, min_labels requires 1200"),
        "{}",
        few.explained
    );
}

#[test]
fn a_label_still_to_come_is_no_category_of_its_column_either() {
    let folder = TempDir::new().unwrap();
    let table = |pending: bool| {
        let label = |i: usize| match i % 5 {
            0 | 1 if pending => "NA",
            _ if i.is_multiple_of(2) => "yes",
            _ => "no",
        };
        let said = |i: usize| if i.is_multiple_of(2) { "yes" } else { "no" };
        let text = |of: &dyn Fn(usize) -> &'static str| Cells::Text((0..2000).map(|i| of(i).to_owned()).collect());
        let at = Cells::Time((0..2000).map(|i| 1_794_355_200_000_000 + i * 60_000_000).collect());
        to_parquet(vec![("at", at), ("y", text(&label)), ("p", text(&said))]).unwrap()
    };
    std::fs::write(folder.path().join("train.parquet"), table(false)).unwrap();
    std::fs::write(folder.path().join("today.parquet"), table(true)).unwrap();
    let fleet = folder.path().join("fleet.toml");
    let text_of_fleet = "[[model]]\nname = \"m\"\nbaseline = \"train.parquet\"\ncurrent = \"today.parquet\"\nfeatures = [\"p\"]\n\
                         [model.labels]\nlabel = \"y\"\nprediction = \"p\"\ntime = \"at\"\n";
    std::fs::write(&fleet, text_of_fleet).unwrap();
    let output = run(["sweep", text(&fleet), "--no-state", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let y = feature(&report["models"][0], "y");
    assert_eq!((&y["current"]["null"], &y["current"]["categories"]), (&800.into(), &2.into()), "{y}");
    assert!(y["metrics"]["js"]["distance"].as_f64().unwrap() < 0.05, "{y}");
}
