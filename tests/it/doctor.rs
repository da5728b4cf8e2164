//! `doctor`: everything that would fail at night is found before it, and nothing is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use driftsweep::snapshot::table::{Cells, to_parquet};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::all_below;
use crate::support::jobs::sql;
use crate::support::needs::postgres;
use crate::support::server;
use crate::support::server::answer;

/// A folder with a baseline of features, predictions of all days, and a table of labels.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        let n = 1500;
        let numbers = || Cells::Float((0..n).map(|i| Some(f64::from(i % 97))).collect());
        let times = || Cells::Time((0..i64::from(n)).map(|i| 1_767_225_600_000_000 + i * 60_000_000).collect());
        let text = |of: fn(i32) -> String| Cells::Text((0..n).map(of).collect());
        let ids = || text(|i| format!("id-{i}"));
        let regions = || text(|i| ["north", "south"][i as usize % 2].into());
        let features = || vec![("age", numbers()), ("income", numbers()), ("region", regions()), ("seen_at", times())];
        place.table("train.parquet", features());
        place.table("day.parquet", features());
        place.table(
            "predictions.parquet",
            vec![("row_id", ids()), ("made_at", times()), ("score", numbers()), ("class", regions())],
        );
        place.table("labels.parquet", vec![("row_id", ids()), ("outcome", regions()), ("came_at", times())]);
        place
    }

    fn table(&self, name: &str, columns: Vec<(&'static str, Cells)>) {
        fs::write(self.folder.path().join(name), to_parquet(columns).unwrap()).unwrap();
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// All files and folders, to see that none was made.
    fn files(&self) -> BTreeSet<String> {
        all_below(self.folder.path()).iter().map(|path| path.display().to_string()).collect()
    }

    fn doctor(&self, fleet: &str, more: &[&str]) -> Output {
        self.write("fleet.toml", fleet, 0o644);
        let before = self.files();
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.current_dir(self.folder.path()).args(["doctor", "fleet.toml"]).args(more);
        command
            .env("SET_SECRET", "s")
            .env("EMPTY_SECRET", "")
            .env_remove("UNSET_SECRET")
            .env_remove("DRIFTSWEEP_STORE");
        let output = command.output().unwrap();
        // What a channel of the kind `file` is sent is the only thing that is written, and on request only.
        if !more.contains(&"--channels") {
            assert_eq!(self.files(), before, "doctor writes nothing");
        }
        output
    }

    /// What is said of a fleet, with the exit code.
    fn said(&self, fleet: &str, more: &[&str]) -> (String, i32) {
        let output = self.doctor(fleet, more);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (text, output.status.code().unwrap())
    }

    /// That a fleet is broken for a reason.
    fn breaks(&self, fleet: &str, words: &[&str]) {
        let (text, code) = self.said(fleet, &[]);
        assert_eq!(code, 11, "{fleet}\n{text}");
        let broken: Vec<&str> = text.lines().filter(|line| line.starts_with("  BROKEN")).collect();
        for word in words {
            assert!(broken.iter().any(|line| line.contains(word)), "'{word}' is not in {broken:#?} of {fleet}\n{text}");
        }
    }

    /// That a fleet is not broken, and what is said beside that.
    fn passes(&self, fleet: &str, words: &[&str]) {
        let (text, code) = self.said(fleet, &[]);
        assert_eq!(code, 0, "{fleet}\n{text}");
        for word in words {
            assert!(text.contains(word), "'{word}' is not in\n{text}");
        }
    }
}

const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"train.parquet\"\ncurrent = \"day.parquet\"\n";

fn labels(changed: (&str, &str)) -> String {
    let settings = [
        ("predictions", "predictions.parquet"),
        ("from", "labels.parquet"),
        ("id", "row_id"),
        ("time", "made_at"),
        ("label", "outcome"),
        ("prediction", "class"),
        ("label_time", "came_at"),
    ];
    let mut text = format!("{MODEL}[model.labels]\n");
    for (key, value) in settings {
        let value = if key == changed.0 { changed.1 } else { value };
        text += &format!("{key} = \"{value}\"\n");
    }
    if settings.iter().all(|(key, _)| *key != changed.0) && !changed.0.is_empty() {
        text += &format!("{} = \"{}\"\n", changed.0, changed.1);
    }
    text
}

#[test]
fn a_fleet_that_is_ready_is_said_to_be_ready_with_its_triggers() {
    let place = Place::new();
    let text = labels(("", ""));
    place.passes(
        &text,
        &[
            "ok       m: 1500 and 1500 rows",
            "1 model: 1 ready, 0 would fail tonight",
            "triggers m: performance, drift; schedule: off (not set: schedule); volume: off (not set: [trigger.volume])",
            "no store yet; the first tick creates it",
        ],
    );
    place.passes(MODEL, &["triggers m: drift;", "volume: off (not set: [model.labels])"]);
    place.passes(
        &format!("{MODEL}[model.trigger]\noff = [\"drift\"]\n"),
        &["WARNING  m: no trigger is active", "; 1 warning"],
    );
    let output = place.doctor(&text, &["--format", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fleet = &found["fleet"];
    assert_eq!(fleet["summary"]["ready"], 1, "{found}");
    assert_eq!(fleet["models"][0]["active"], serde_json::json!(["performance", "drift"]));
    assert_eq!(fleet["models"][0]["inactive"]["schedule"], "not set: schedule");
    assert_eq!(fleet["models"][0]["comparisons"][0]["rows"]["current"], 1500);
    assert_eq!(fleet["findings"][0]["level"], "note");
    assert!(found["machine"]["threads"].as_u64().unwrap() > 0);
}

#[test]
fn every_column_that_a_fleet_file_names_and_no_table_has_is_found_with_the_one_that_was_meant() {
    let place = Place::new();
    for (key, misspelt, meant) in [
        ("id", "row_idd", "row_id"),
        ("time", "made_att", "made_at"),
        ("label", "outcom", "outcome"),
        ("prediction", "clas", "class"),
        ("score", "scoer", "score"),
        ("proxy", "clas", "class"),
        ("label_time", "came_a", "came_at"),
    ] {
        let wanted = format!("labels.{key}: ");
        place.breaks(&labels((key, misspelt)), &[&wanted, &format!("no column '{misspelt}'; did you mean '{meant}'?")]);
    }
    // Times that are none.
    place.breaks(&labels(("time", "score")), &["labels.time: ", "'score' holds", "no time"]);
    place.breaks(&labels(("predictions", "gone.parquet")), &["labels.predictions: gone.parquet"]);
    place.breaks(&labels(("from", "gone.parquet")), &["labels.from: gone.parquet"]);
    let reference = format!("{}reference = \"gone.parquet\"\n", labels(("score", "score")));
    place.breaks(&reference, &["labels.reference: gone.parquet"]);
    for (setting, misspelt) in [
        ("exclude = [\"incom\"]", "incom"),
        ("features = [\"age\", \"incom\"]", "incom"),
        ("[model.feature.incom]\nkind = \"categorical\"", "incom"),
        ("slice_by = [\"regoin\"]", "regoin"),
        ("[model.segment.s]\nregoin = \"north\"", "regoin"),
        ("time = \"seen_att\"\nwindows = [\"day\"]", "seen_att"),
    ] {
        let meant = match misspelt {
            "incom" => "income",
            "regoin" => "region",
            _ => "seen_at",
        };
        place.breaks(&format!("{MODEL}{setting}\n"), &[&format!("'{misspelt}'"), &format!("did you mean '{meant}'?")]);
    }
    // All of them at once.
    place.breaks(
        &format!("{MODEL}exclude = [\"incom\", \"agge\"]\n"),
        &["did you mean 'age'?", "did you mean 'income'?"],
    );
    place.breaks(&format!("{MODEL}time = \"age\"\nwindows = [\"day\"]\n"), &["column 'age'", "time"]);
    // A column of the baseline that is gone fails as a feature.
    place.table("day.parquet", vec![("age", Cells::Float(vec![Some(1.0); 1500]))]);
    place.breaks(MODEL, &["column 'income' removed", "column 'region' removed"]);
}

#[test]
fn the_time_of_the_sweep_decides_which_day_is_looked_for() {
    let place = Place::new();
    fs::rename(place.path("day.parquet"), place.path("day-2026-01-04.parquet")).unwrap();
    let fleet = MODEL.replace("day.parquet", "day-{day}.parquet");
    let (text, code) = place.said(&fleet, &["--now", "2026-01-05T02:00:00Z"]);
    assert!(code == 0 && text.contains("as of 2026-01-05T02:00:00Z"), "{text}");
    let (text, code) = place.said(&fleet, &["--now", "2026-01-06"]);
    assert!(code == 11 && text.contains("day-2026-01-05.parquet: no such file"), "{text}");
}

#[test]
fn what_trains_is_looked_up_as_it_would_be_at_night() {
    let place = Place::new();
    place.write("train.sh", "#!/bin/sh\n", 0o755);
    place.write("plain.sh", "#!/bin/sh\n", 0o644);
    place.write("key", "secret\n", 0o600);
    place.write("open-key", "secret\n", 0o644);
    place.write("no-key", "\n", 0o600);
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {}\nspec:\n  template:\n    spec:\n      containers:\n      - name: train\n        \
               image: train\n";
    place.write("train.yaml", job, 0o644);
    place.write(
        "empty.yaml",
        &job[..job.find("      - name").unwrap()].replace("containers:", "containers: []"),
        0o644,
    );
    place.write("job.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {}\n", 0o644);
    let approval = "[approval]\napprovers = [[\"ana\"]]\n";
    let fleet = |retrain: &str| format!("{approval}{MODEL}[model.retrain]\n{retrain}\n");
    for fine in [
        "command = [\"sh\", \"-c\", \"true\"]",
        "command = [\"./train.sh\"]",
        "command = [\"./{model}/train.sh\"]",
        "webhook = { url_env = \"SET_SECRET\", secret_file = \"key\" }",
        "kubernetes = { manifest = \"train.yaml\" }",
        "airflow = { url = \"http://localhost\", dag = \"d\", token_env = \"SET_SECRET\" }",
    ] {
        place.passes(&fleet(fine), &["1 ready", "run `driftsweep tick` at least every 60 minutes"]);
    }
    for (retrain, wanted) in [
        ("command = [\"train.sh\"]", "in none of the folders of $PATH; install it, or give its path: './train.sh'"),
        ("command = [\"./plain.sh\"]", "is not executable; chmod +x it"),
        ("command = [\"no-such-program\"]", "in none of the folders of $PATH"),
        ("command = [\"sh\"]\nfolder = \"gone\"", "folder gone"),
        ("command = [\"sh\"]\nfolder = \"key\"", "is no folder"),
        ("webhook = { url_env = \"UNSET_SECRET\" }", "$UNSET_SECRET: is not set"),
        ("webhook = { url_env = \"EMPTY_SECRET\" }", "$EMPTY_SECRET: is empty"),
        ("webhook = { url = \"http://h\", secret_env = \"UNSET_SECRET\" }", "$UNSET_SECRET"),
        ("webhook = { url = \"http://h\", secret_file = \"lost-key\" }", "lost-key: the secret in it cannot be read"),
        ("webhook = { url = \"http://h\", secret_file = \"no-key\" }", "no-key: is empty"),
        ("webhook = { url_file = \"lost-url\" }", "lost-url"),
        ("webhook = { url = \"http://h\", results = \"key/results\" }", "is no folder"),
        ("airflow = { url = \"http://h\", dag = \"d\", token_env = \"UNSET_SECRET\" }", "$UNSET_SECRET"),
        ("airflow = { url = \"http://h\", dag = \"d\", token_file = \"lost-key\" }", "lost-key"),
        (
            "airflow = { url = \"http://h\", dag = \"d\", user = \"u\", password_env = \"UNSET_SECRET\" }",
            "$UNSET_SECRET",
        ),
        ("airflow = { url_env = \"UNSET_SECRET\", dag = \"d\" }", "$UNSET_SECRET"),
        ("kubernetes = { manifest = \"gone.yaml\" }", "m retrain.kubernetes: gone.yaml"),
        ("kubernetes = { manifest = \"job.yaml\" }", "m retrain.kubernetes: job.yaml"),
        ("kubernetes = { manifest = \"empty.yaml\" }", "has no containers"),
    ] {
        place.breaks(&fleet(retrain), &[wanted]);
    }
    place.passes(
        &fleet("webhook = { url = \"http://h\", secret_file = \"open-key\" }"),
        &["WARNING  m retrain.webhook: open-key: every user of this machine may read this secret (mode 644)"],
    );
    // Nobody who could allow a training: the file is refused as a whole.
    let (text, code) = place.said(&fleet("command = [\"sh\"]").replace(approval, ""), &[]);
    assert!(code == 4 && text.contains("there are no approvers"), "{text}");
    // The same of many models is one line.
    let many: String = (0..6)
        .map(|i| fleet("command = [\"no-such-program\"]").replace(approval, "").replace("\"m\"", &format!("\"m{i}\"")))
        .collect();
    let (text, _) = place.said(&format!("{approval}{many}"), &[]);
    assert!(text.contains("BROKEN   m0 and 5 more models retrain: command 'no-such-program'"), "{text}");
    assert!(text.contains("6 models: 0 ready, 6 would fail tonight"), "{text}");
}

#[test]
fn channels_are_checked_with_their_secrets_and_templates() {
    let place = Place::new();
    place.write("key", "secret\n", 0o644);
    let fleet = |channel: &str| format!("[[notify]]\nname = \"ops\"\n{channel}\n{MODEL}");
    place.passes(&fleet("file = \"told/all.jsonl\""), &["ok       channel ops: ready"]);
    place.passes(
        &fleet("webhook = { url = \"http://h\", secret_file = \"key\" }"),
        &["WARNING  channel ops webhook: key: every user"],
    );
    for (channel, wanted) in [
        ("file = \"key/told.jsonl\"", "channel ops file: "),
        ("webhook = { url_env = \"UNSET_SECRET\" }", "channel ops webhook: $UNSET_SECRET: is not set"),
        ("webhook = { url = \"http://h\", secret_file = \"gone\" }", "channel ops webhook: gone"),
        (
            "email = { host = \"h\", from = \"a@b\", to = [\"c@d\"], user = \"u\", password_env = \"UNSET_SECRET\" }",
            "channel ops email: $UNSET_SECRET",
        ),
        ("email = { host = \"h\", from = \"nobody\", to = [\"c@d\"] }", "'nobody'"),
        (
            "kafka = { brokers = \"h:1\", topic = \"t\", secrets_env = { \"sasl.password\" = \"UNSET_SECRET\" } }",
            "channel ops kafka: $UNSET_SECRET",
        ),
        ("file = \"a.jsonl\"\ntemplate = \"{{ subject\"", "channel ops template: the template cannot be read"),
        ("file = \"a.jsonl\"\ntemplate = \"{{ subjct }}\"", "'subjct'; did you mean 'subject'?"),
        ("file = \"a.jsonl\"\ntemplate = \"{{ figures.modle }}\"", "'figures.modle'"),
        ("file = \"a.jsonl\"\ntemplate = \"{{ subject | uper }}\"", "uper"),
    ] {
        place.breaks(&fleet(channel), &[wanted, ""]);
    }
    place.passes(
        &fleet("file = \"a.jsonl\"\nabout = [\"job\"]\ntemplate = \"{{ figures.reason }}\""),
        &[
            "WARNING  channel ops template: the template uses a variable that some messages do not have (",
            "'figures.reason'",
        ],
    );
    let (text, _) = place.said(&fleet("webhook = { url_env = \"UNSET_SECRET\" }"), &[]);
    assert!(text.contains("1 model: 1 ready, 0 would fail tonight; also broken: 1"), "{text}");
}

#[test]
fn a_test_message_is_sent_on_request_only_and_said_to_be_taken_or_not() {
    let place = Place::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let taken = asked.clone();
    let good = server::http(move |request| {
        taken.lock().unwrap().push(request.body.clone());
        answer(200, "")
    });
    let bad = server::http(|_| answer(503, "busy"));
    let fleet = format!(
        "name = \"fleet\"\n[[notify]]\nname = \"good\"\nwebhook = {{ url = \"{good}\" }}\n[[notify]]\nname = \"bad\"\nwebhook = \
         {{ url = \"{bad}\" }}\n[[notify]]\nname = \"log\"\nfile = \"told.jsonl\"\n{MODEL}"
    );
    place.passes(&fleet, &["channel good: ready", "channel bad: ready"]);
    assert!(asked.lock().unwrap().is_empty(), "nothing is sent unasked");
    let (text, code) = place.said(&fleet, &["--channels"]);
    assert_eq!(code, 11, "{text}");
    assert!(text.contains("ok       channel good: a test message was accepted"), "{text}");
    assert!(text.contains("BROKEN   channel bad test message: ") && text.contains("503"), "{text}");
    let [body] = &asked.lock().unwrap()[..] else { panic!("one message") };
    assert!(body.contains("a test of channel 'good'"), "{body}");
    assert!(fs::read_to_string(place.path("told.jsonl")).unwrap().contains("io.driftsweep.test"));
}

#[test]
fn the_store_and_the_folders_are_looked_at_and_not_made() {
    let place = Place::new();
    place.write("file", "", 0o644);
    let fleet = format!("name = \"{}\"\n{MODEL}", place.folder.path().file_name().unwrap().display());
    for (more, wanted) in [
        (["--state", "file"], "fleet state: "),
        (["--state", "file/state"], "fleet state: "),
        (["--history", "file/history"], "fleet history: "),
        (["--store", "file/store.sqlite"], "fleet store: "),
        (["--store", "mysql://me:pass@h/d"], "fleet store: address: is neither"),
        (["--store", "postgres://nobody:pass@127.0.0.1:1/d"], "fleet store: postgres://127.0.0.1:1/d"),
    ] {
        let (text, code) = place.said(&fleet, &more);
        assert_eq!(code, 11, "{more:?}: {text}");
        assert!(text.contains(&format!("BROKEN   {wanted}")) && !text.contains("pass@"), "{more:?}: {text}");
    }
    place.write("broken.sqlite", "this is no database, whatever its name says; it has some bytes", 0o644);
    let (text, code) = place.said(&fleet, &["--store", "broken.sqlite"]);
    assert!(code == 11 && text.contains("BROKEN   fleet store: "), "{text}");
    // A store that several fleets may share needs a name.
    let (text, code) = place.said(MODEL, &["--store", "shared.sqlite"]);
    assert!(code == 11 && text.contains("need different names"), "{text}");
    // One that is there is not said to be missing; on both databases.
    let file = place.path("store.sqlite");
    for store in [Some(file), postgres()].into_iter().flatten() {
        place.write("fleet.toml", &fleet, 0o644);
        let mut tick = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        tick.current_dir(place.folder.path()).args(["tick", "fleet.toml", "--store", &store, "--threads", "1"]);
        let ticked = tick.output().unwrap();
        assert!(ticked.status.success(), "{}", String::from_utf8_lossy(&ticked.stderr));
        let (text, code) = place.said(&fleet, &["--store", &store]);
        assert!(code == 0 && !text.contains("no store yet"), "{text}");
        // Whoever may only look at it cannot keep what a night finds.
        if let Some((_, server)) = store.strip_prefix("postgres://").and_then(|rest| rest.split_once('@')) {
            let reader = format!("reader_{}", std::process::id());
            for statement in [
                format!("CREATE ROLE {reader} LOGIN PASSWORD 'read'"),
                format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}"),
            ] {
                sql(&store, &statement);
            }
            let (text, code) = place.said(&fleet, &["--store", &format!("postgres://{reader}:read@{server}")]);
            assert!(code == 11 && text.contains("can be read but not written"), "{text}");
            sql(&store, &format!("DROP OWNED BY {reader}"));
            sql(&store, &format!("DROP ROLE {reader}"));
        }
    }
}

#[test]
fn a_damaged_page_is_seen_before_the_night_whichever_table_has_it() {
    let place = Place::new();
    let damage = |name: &str| {
        let mut bytes = fs::read(place.path(name)).unwrap();
        bytes[4..200].fill(0xff);
        fs::write(place.path(name), bytes).unwrap();
    };
    let fleet = labels(("", ""));
    place.passes(&fleet, &["1 ready"]);
    for (table, column, about) in [
        ("day.parquet", "age", "m current: "),
        ("train.parquet", "age", "m baseline: "),
        ("predictions.parquet", "row_id", "m labels.predictions: "),
        ("labels.parquet", "row_id", "m labels.from: "),
    ] {
        let whole = fs::read(place.path(table)).unwrap();
        damage(table);
        place.breaks(&fleet, &[&format!("BROKEN   {about}"), &format!("{table}, column '{column}': ")]);
        fs::write(place.path(table), whole).unwrap();
    }
    // A column that nobody reads costs no model its night.
    damage("day.parquet");
    place.passes(&format!("{MODEL}exclude = [\"age\"]\n"), &["1 ready"]);
    // And one row group that is damaged among many.
    let mut frame = crate::support::data::read_parquet(Path::new(&place.path("train.parquet")));
    crate::support::data::write_parquet(&mut frame, Path::new(&place.path("day.parquet")), 100);
    let fleet = format!("{MODEL}exclude = [\"seen_at\"]\n");
    place.passes(&fleet, &["1 ready"]);
    let mut bytes = fs::read(place.path("day.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 600].fill(0xff);
    fs::write(place.path("day.parquet"), bytes).unwrap();
    place.breaks(&fleet, &["m current: day.parquet, column "]);
}

#[test]
fn what_can_never_fire_and_words_that_are_no_placeholder_are_warnings() {
    let place = Place::new();
    let drift = |settings: &str| format!("{MODEL}[model.trigger.drift]\n{settings}\n");
    place.passes(&drift("at_least = 1000"), &["WARNING  m trigger.drift: it cannot fire: at_least = 1000, and only "]);
    let (text, code) = place.said(&drift("at_least = 1"), &[]);
    assert!(code == 0 && !text.contains("it cannot fire"), "{text}");
    let (text, code) = place.said(&drift("fdr = 0"), &[]);
    assert!(code != 0 && text.contains("fdr = 0 would call no test"), "{text}");
    let fleet =
        format!("[approval]\napprovers = [[\"ana\"]]\n{MODEL}[model.retrain]\ncommand = [\"true\", \"{{modle}}\"]\n");
    place.passes(&fleet, &["WARNING  m retrain.command: no placeholder is called {modle}"]);
}

#[test]
fn an_argument_that_names_a_file_which_is_not_there_is_a_warning() {
    let place = Place::new();
    place.write("here.py", "", 0o644);
    fs::create_dir(place.folder.path().join("jobs")).unwrap();
    place.write("jobs/deep.yaml", "", 0o644);
    let fleet =
        |command: &str| format!("[approval]\napprovers = [[\"ana\"]]\n{MODEL}[model.retrain]\ncommand = [{command}]\n");
    for (command, lost) in [
        ("\"sh\", \"gone.py\"", Some("gone.py")),
        ("\"sh\", \"-u\", \"jobs/gone.yaml\", \"here.py\"", Some("jobs/gone.yaml")),
        ("\"sh\", \"/nowhere/train.R\"", Some("/nowhere/train.R")),
        ("\"sh\", \"here.py\", \"jobs/deep.yaml\"", None),
        ("\"sh\", \"{model}.py\", \"--config=gone.yaml\", \"s3://bucket/gone.json\", \"*.py\"", None),
        ("\"sh\", \"-c\", \"python gone.py > log.json\"", None),
        ("\"sh\", \"churn\", \"1.5\", \"v2.1\"", None),
    ] {
        let (text, code) = place.said(&fleet(command), &[]);
        assert_eq!(code, 0, "{command}: {text}");
        assert_eq!(text.contains("WARNING  m retrain: argument"), lost.is_some(), "{command}: {text}");
        if let Some(lost) = lost {
            assert!(text.contains(&format!("argument '{lost}': no such file in ")), "{command}: {text}");
        }
    }
    let (text, _) = place.said(&format!("{}folder = \"jobs\"\n", fleet("\"sh\", \"here.py\"")), &[]);
    assert!(text.contains("argument 'here.py': no such file in ./jobs"), "{text}");
}

#[test]
fn a_store_that_is_no_file_and_places_that_may_not_be_written_are_found() {
    let place = Place::new();
    let fleet = format!("name = \"{}\"\n{MODEL}", place.folder.path().file_name().unwrap().display());
    fs::create_dir_all(place.path("state/driftsweep.sqlite")).unwrap();
    let (text, code) = place.said(&fleet, &["--state", "state"]);
    assert!(
        code == 11 && text.contains("BROKEN   fleet store: state/driftsweep.sqlite: is a folder; name a file"),
        "{text}"
    );
    fs::remove_dir(place.path("state/driftsweep.sqlite")).unwrap();
    let pipe = place.path("state/driftsweep.sqlite");
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    let (text, code) = place.said(&fleet, &["--state", "state"]);
    assert!(code == 11 && text.contains("is not a regular file; name one"), "{text}");
    fs::remove_file(place.path("state/driftsweep.sqlite")).unwrap();
    // Somebody else may read everything and write nothing.
    let open = |path: &str, mode: u32| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    place.write("fleet.toml", &fleet, 0o644);
    place.write("state/driftsweep.sqlite", "", 0o644);
    open(&place.folder.path().display().to_string(), 0o555);
    open(&place.path("state"), 0o555);
    open(&place.path("state/driftsweep.sqlite"), 0o444);
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.current_dir(place.folder.path()).args(["doctor", "fleet.toml", "--state", "state"]);
    command.env_remove("DRIFTSWEEP_STORE");
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        std::os::unix::process::CommandExt::gid(&mut command, 65534);
    }
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    open(&place.folder.path().display().to_string(), 0o755);
    open(&place.path("state"), 0o755);
    assert_eq!(output.status.code(), Some(11), "{text}");
    for about in ["state: ", "history: ", "store: state/driftsweep.sqlite: cannot be written"] {
        assert!(text.contains(&format!("BROKEN   fleet {about}")), "'{about}' is not in {text}");
    }
}

#[test]
fn scores_are_calibrated_by_the_former_model_after_a_new_baseline_and_that_is_said() {
    let place = Place::new();
    let mut columns = vec![("score", Cells::Float((0..1500).map(|i| Some(f64::from(i % 97) / 97.0)).collect()))];
    columns.push(("outcome", Cells::Text((0..1500).map(|i| ["north", "south"][i % 2].into()).collect())));
    columns.push(("age", Cells::Float((0..1500).map(|i| Some(f64::from(i % 89))).collect())));
    columns.push(("income", Cells::Float((0..1500).map(|i| Some(f64::from(i % 83))).collect())));
    columns.push(("region", Cells::Text((0..1500).map(|i| ["north", "south"][i % 2].into()).collect())));
    place.table("train.parquet", columns);
    let name = place.folder.path().file_name().unwrap().display().to_string();
    let fleet = format!("name = \"{name}\"\n{}", labels(("score", "score")));
    place.write("fleet.toml", &fleet, 0o644);
    let words =
        "labels.reference: is still the baseline of the fleet file, train.parquet, although a newer one was set";
    let (text, _) = place.said(&fleet, &[]);
    assert!(!text.contains(words), "{text}");
    let mut set = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    set.current_dir(place.folder.path()).args(["baseline", "set", "m", "train.parquet", "fleet.toml"]);
    set.args(["--by", "ana", "--reason", "r"]).env_remove("DRIFTSWEEP_STORE");
    let done = set.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (text, _) = place.said(&fleet, &[]);
    assert!(text.contains(&format!("WARNING  m {words}")), "{text}");
}
