//! What each trigger, executor, channel and way to divide traffic has to have beside its file: documents, a place in messages, a check before the
//! night, and tests of what it does. The lists here are compared with the registries, so that none is forgotten or stale.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use driftsweep::model::Options;
use driftsweep_common::error::Result;
use driftsweep_extensions::traffic::TrafficConfig;
use driftsweep_extensions::trigger::labels::{LabelCounts, LabelView, NewLabels, Prediction, Predictions};
use driftsweep_extensions::trigger::{ExplainView, ModelPast, Sheet, Shown, SweepView};
use driftsweep_fleet::{ChannelTarget, ExecutorConfig, Fleet, Model, Origin, Trigger};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{documents, root};

/// An entry of a registry.
struct Entry {
    /// Its name in the fleet file.
    name: &'static str,
    /// Its setting in a fleet file.
    setting: &'static str,
    /// A setting with which it would fail at night, and what `doctor` says of it.
    broken: Option<(&'static str, &'static str)>,
    /// The tests of what it does.
    tests: &'static [&'static str],
}

/// The triggers; a trigger has no setting that only fails at night.
const TRIGGERS: &[Entry] = &[
    Entry {
        name: "schedule",
        setting: "schedule = \"0 4 1 * *\"",
        broken: None,
        tests: &["a_schedule_has_missed_nothing_before_it_was_set_and_is_put_off_while_muted"],
    },
    Entry {
        name: "performance",
        setting: "performance = { level = 0.9 }",
        broken: None,
        tests: &["car_loans_are_quiet_until_they_drift_and_predictions_are_judged_when_their_labels_have_come"],
    },
    Entry {
        name: "drift",
        setting: "drift = { at_least = 1 }",
        broken: None,
        tests: &["compare_sweep_and_tick_agree_on_what_drifted_on_every_dataset"],
    },
    Entry {
        name: "volume",
        setting: "volume = { labels = 10 }",
        broken: None,
        tests: &["the_volume_trigger_fires_only_where_it_is_set"],
    },
];

/// Triggers that have no verdict at a sweep.
const NOT_JUDGED_AT_SWEEPS: &[&str] = &["schedule"];

const EXECUTORS: &[Entry] = &[
    Entry {
        name: "command",
        setting: "command = [\"true\"]",
        broken: Some(("command = [\"no-such-program\"]", "is in none of the folders of $PATH")),
        tests: &[
            "a_result_that_the_command_wrote_itself_does_not_count",
            "what_a_command_leaves_behind_is_ended_with_it_wherever_it_has_gone",
        ],
    },
    Entry {
        name: "webhook",
        setting: "webhook = { url = \"http://127.0.0.1:1/train\" }",
        broken: Some(("webhook = { url_env = \"UNSET_SECRET\" }", "$UNSET_SECRET: is not set")),
        tests: &["a_webhook_is_signed_asked_by_the_runs_name_and_believed_only_in_its_own_words"],
    },
    Entry {
        name: "kubernetes",
        setting: "kubernetes = { manifest = \"job.yaml\" }",
        broken: Some(("kubernetes = { manifest = \"none.yaml\" }", "none.yaml")),
        tests: &["kubernetes_makes_a_job_of_the_manifest_once_and_tells_how_it_ended"],
    },
    Entry {
        name: "airflow",
        setting: "airflow = { url = \"http://127.0.0.1:1\", dag = \"train\" }",
        broken: Some((
            "airflow = { url = \"http://127.0.0.1:1\", dag = \"train\", token_env = \"UNSET_SECRET\" }",
            "$UNSET_SECRET: is not set",
        )),
        tests: &["airflow_is_asked_as_its_api_has_it"],
    },
];

const CHANNELS: &[Entry] = &[
    Entry {
        name: "file",
        setting: "file = \"events.jsonl\"",
        broken: Some(("file = \".\"", "is a folder; name a file")),
        tests: &["messages_reach_files_chats_and_letter_boxes_and_a_bad_channel_holds_up_no_other"],
    },
    Entry {
        name: "webhook",
        setting: "webhook = { url = \"http://127.0.0.1:1/\" }",
        broken: Some(("webhook = { url_env = \"UNSET_SECRET\" }", "$UNSET_SECRET: is not set")),
        tests: &["messages_reach_files_chats_and_letter_boxes_and_a_bad_channel_holds_up_no_other"],
    },
    Entry {
        name: "email",
        setting: "email = { host = \"127.0.0.1\", from = \"d@example.org\", to = [\"a@example.org\"] }",
        broken: Some((
            "email = { host = \"127.0.0.1\", from = \"d@example.org\", to = [\"a@example.org\"], user = \"d\", \
             password_env = \"UNSET_SECRET\" }",
            "$UNSET_SECRET: is not set",
        )),
        tests: &["messages_reach_files_chats_and_letter_boxes_and_a_bad_channel_holds_up_no_other"],
    },
    Entry {
        name: "kafka",
        setting: "kafka = { brokers = \"127.0.0.1:1\", topic = \"events\" }",
        broken: Some((
            "kafka = { brokers = \"127.0.0.1:1\", topic = \"events\", secrets_env = { \"sasl.password\" = \"UNSET_SECRET\" } }",
            "$UNSET_SECRET: is not set",
        )),
        tests: &["messages_reach_kafka"],
    },
];

const TRAFFIC: &[Entry] = &[
    Entry {
        name: "file",
        setting: "file = \"weights.json\"",
        broken: Some(("file = \".\"", "is a folder; name a file")),
        tests: &["a_candidate_that_is_as_good_goes_through_all_stages_and_becomes_the_champion"],
    },
    Entry {
        name: "command",
        setting: "command = { set = [\"true\"] }",
        broken: Some(("command = { set = [\"no-such-program\"] }", "there is no such program here")),
        tests: &["a_command_is_told_the_share_and_what_it_prints_is_the_share_that_is_set"],
    },
    Entry {
        name: "webhook",
        setting: "webhook = { url = \"http://127.0.0.1:1/\" }",
        broken: Some(("webhook = { url_env = \"UNSET_SECRET\" }", "$UNSET_SECRET: is not set")),
        tests: &["an_endpoint_that_loses_answers_ends_with_the_weights_that_are_wanted_and_nothing_is_done_twice"],
    },
    Entry {
        name: "nginx",
        setting: "nginx = { include = \"arms.conf\", variable = \"arm\", key = \"$cookie_user\" }",
        broken: Some((
            "nginx = { include = \"arms.conf\", variable = \"arm\", key = \"$cookie_user\", test = [\"no-such-program\"] }",
            "there is no such program here",
        )),
        tests: &["nginx_gives_the_candidate_five_then_twenty_five_percent_then_all_and_its_users_stay_in_it"],
    },
    Entry {
        name: "gateway",
        setting: "gateway = { route = \"r\" }",
        // A cluster is not asked before the night.
        broken: None,
        tests: &["an_http_route_has_the_weights_of_each_stage_and_its_other_rules_stay_as_they_are"],
    },
];

const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\n";

fn parse(text: &str) -> Result<Fleet> {
    Fleet::parse(text, Path::new("fleet.toml"), &Options::new())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn with_executor(setting: &str) -> String {
    format!("[approval]\napprovers = [[\"ana\"]]\n{MODEL}[model.retrain]\n{setting}\n")
}

fn with_channel(setting: &str) -> String {
    format!("[[notify]]\nname = \"c\"\n{setting}\n{MODEL}")
}

fn with_traffic(setting: &str) -> String {
    format!(
        "{MODEL}[model.labels]\ntime = \"t\"\nlabel = \"l\"\nprediction = \"p\"\n[model.rollout]\narm = \"a\"\ncandidate = \
         \"m-{{version}}\"\nproduction = \"m-{{version}}\"\n[model.rollout.traffic]\n{setting}\n"
    )
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name).collect()
}

/// All sources of the tests, and the code of the packages with its unit tests.
fn tests() -> String {
    fn read(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            match entry.unwrap().path() {
                path if path.is_dir() => read(&path, found),
                path if path.extension().is_some_and(|end| end == "rs") => *found += &fs::read_to_string(path).unwrap(),
                _ => {}
            }
        }
    }
    let mut found = String::new();
    ["tests", "crates"].iter().for_each(|folder| read(&root().join(folder), &mut found));
    found
}

#[test]
fn the_lists_of_this_test_are_the_registries() {
    assert_eq!(names(TRIGGERS), Trigger::ALL.iter().map(|trigger| trigger.name()).collect::<Vec<_>>());
    assert_eq!(names(EXECUTORS), ExecutorConfig::NAMES);
    assert_eq!(names(CHANNELS), ChannelTarget::NAMES);
    assert_eq!(names(TRAFFIC), TrafficConfig::NAMES);
}

#[test]
fn each_entry_has_documents_and_tests_of_what_it_does() {
    let documents = documents();
    let glossary = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let code = tests();
    for (what, entries) in [("trigger", TRIGGERS), ("executor", EXECUTORS), ("channel", CHANNELS), ("traffic", TRAFFIC)]
    {
        let begin = format!("| {what} |");
        let row = glossary.lines().find(|line| line.starts_with(&begin)).unwrap().replace('-', "").to_lowercase();
        for entry in entries {
            let name = entry.name;
            // As a key, which may be one of several or commented out, or as a table.
            let shown =
                [format!("\n{name} = "), format!(" {name} = "), format!("trigger.{name}]"), format!("`{name} = ")];
            assert!(shown.iter().any(|shown| documents.contains(shown)), "no document shows the {what} {name}");
            assert!(row.contains(name), "docs/glossary.md does not list the {what} {name}: {row}");
            assert!(!entry.tests.is_empty(), "no test is named for the {what} {name}");
            for test in entry.tests {
                assert!(code.contains(&format!("fn {test}()")), "there is no test {test} of the {what} {name}");
            }
        }
    }
}

#[test]
fn each_entry_is_listed_where_a_name_is_unknown_or_missing() {
    let mute =
        Command::new(env!("CARGO_BIN_EXE_driftsweep")).args(["mute", "m", "--trigger", "wind"]).output().unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_driftsweep")).args(["mute", "--help"]).output().unwrap();
    let places = [
        (TRIGGERS, error(&format!("{MODEL}[model.trigger]\noff = [\"wind\"]\n"))),
        (TRIGGERS, error(&format!("{MODEL}[model.trigger]\nwind = 1\n"))),
        (TRIGGERS, String::from_utf8(mute.stderr).unwrap()),
        (TRIGGERS, String::from_utf8(help.stdout).unwrap()),
        (EXECUTORS, error(&with_executor("timeout = \"1h\""))),
        (EXECUTORS, error(&with_executor("steam = 1"))),
        (CHANNELS, error(&with_channel(""))),
        (CHANNELS, error(&with_channel("pigeon = 1"))),
        (TRAFFIC, error(&with_traffic(""))),
        (TRAFFIC, error(&with_traffic("pigeon = 1"))),
    ];
    for (entries, text) in places {
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        for entry in entries {
            assert!(words.contains(entry.name), "{} is not in: {text}", entry.name);
        }
    }
    // One at a time: each pair is refused, with the names of all.
    for (entries, with) in
        [(EXECUTORS, with_executor as fn(&str) -> String), (CHANNELS, with_channel), (TRAFFIC, with_traffic)]
    {
        let text = error(&with(&format!("{}\n{}", entries[0].setting, entries[1].setting)));
        assert!(text.contains(&format!("give one of {}", names(entries)[..2].join(", "))), "{text}");
    }
}

#[test]
fn each_entry_is_checked_before_the_night() {
    let folder = TempDir::new().unwrap();
    let doctor = |text: &str| -> Value {
        fs::write(folder.path().join("fleet.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.current_dir(folder.path()).args(["doctor", "fleet.toml", "--format", "json"]);
        let output = command.env_remove("UNSET_SECRET").output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        found["fleet"].clone()
    };
    for trigger in TRIGGERS {
        let found = doctor(&format!("{MODEL}[model.trigger]\n{}\n", trigger.setting));
        let (found, name) = (&found["models"][0], trigger.name);
        let active = found["active"].as_array().unwrap().iter().any(|active| active == name);
        let inactive = found["inactive"][name].as_str();
        assert!(active != inactive.is_some(), "{found}");
        // What is missing is never the setting that is there.
        assert!(inactive.is_none_or(|why| why == "not set: [model.labels]"), "{inactive:?}");
    }
    let told = |found: &Value, about: &str, words: &str| {
        let findings = found.as_array().unwrap().iter();
        let of = findings.filter(|finding| {
            finding["level"] == "broken" && finding["about"].as_str().unwrap_or_default().starts_with(about)
        });
        of.filter(|finding| finding["reason"].as_str().unwrap().contains(words)).count()
    };
    for executor in EXECUTORS {
        let (broken, words) = executor.broken.unwrap();
        let found = doctor(&with_executor(broken));
        assert_eq!(told(&found["models"][0]["findings"], "retrain", words), 1, "{found}");
    }
    for traffic in TRAFFIC {
        let Some((broken, words)) = traffic.broken else { continue };
        let found = doctor(&with_traffic(broken));
        assert_eq!(told(&found["models"][0]["findings"], "rollout.traffic", words), 1, "{found}");
    }
    for channel in CHANNELS {
        let (broken, words) = channel.broken.unwrap();
        let found = doctor(&with_channel(broken));
        assert_eq!(told(&found["channels"][0]["findings"], channel.name, words), 1, "{found}");
    }
}

/// The executor that a setting names.
fn executor(setting: &str) -> ExecutorConfig {
    parse(&with_executor(setting)).unwrap().models.remove(0).retrain.unwrap().executor
}

#[test]
fn each_executor_is_stored_under_its_name_and_knows_its_own_place_only() {
    let all: Vec<ExecutorConfig> = EXECUTORS.iter().map(|entry| executor(entry.setting)).collect();
    for (executor, entry) in all.iter().zip(EXECUTORS) {
        assert_eq!(executor.name(), entry.name);
        let stored = serde_json::to_value(executor).unwrap();
        // `{"Webhook": {…}}`: the form of stores that there are.
        let tags: Vec<String> = stored.as_object().unwrap().keys().map(|key| key.to_lowercase()).collect();
        assert_eq!(tags, [entry.name]);
        assert_eq!(serde_json::from_value::<ExecutorConfig>(stored).unwrap(), *executor);
        let same: Vec<&str> = all.iter().filter(|other| executor.same_place(other)).map(|other| other.name()).collect();
        assert_eq!(same, [entry.name]);
    }
    for (one, other, same) in [
        ("command = [\"true\"]", "command = [\"false\"]", true),
        ("webhook = { url = \"http://h/a\" }", "webhook = { url = \"http://h/a\", secret_env = \"X\" }", true),
        ("webhook = { url = \"http://h/a\" }", "webhook = { url = \"http://h/b\" }", false),
        ("webhook = { url = \"http://h/a\" }", "webhook = { url = \"http://h/a\", results = \"r\" }", false),
        ("kubernetes = { manifest = \"a\" }", "kubernetes = { manifest = \"b\" }", true),
        ("kubernetes = { manifest = \"a\" }", "kubernetes = { manifest = \"a\", context = \"c\" }", false),
        ("kubernetes = { manifest = \"a\" }", "kubernetes = { manifest = \"a\", namespace = \"n\" }", false),
        (
            "airflow = { url = \"http://h\", dag = \"d\" }",
            "airflow = { url = \"http://h\", dag = \"d\", api = 1 }",
            true,
        ),
        ("airflow = { url = \"http://h\", dag = \"d\" }", "airflow = { url = \"http://h\", dag = \"e\" }", false),
    ] {
        assert_eq!(executor(one).same_place(&executor(other)), same, "{one} {other}");
    }
}

/// No predictions at all.
struct NoPredictions;

impl Predictions for NoPredictions {
    fn each(&self, _: &mut dyn FnMut(Prediction)) -> Result<()> {
        Ok(())
    }
}

#[test]
fn each_trigger_has_a_verdict_at_sweeps_under_its_name_and_is_explained() {
    let settings: String = TRIGGERS.iter().map(|entry| format!("{}\n", entry.setting)).collect();
    let fleet = parse(&format!("{MODEL}[model.trigger]\n{settings}")).unwrap();
    let model: &Model = &fleet.models[0];
    let as_of: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
    let labels = LabelView {
        predictions: &NoPredictions,
        delay: jiff::SignedDuration::ZERO,
        delay_declared: true,
        arrivals: None,
        new: NewLabels::since(as_of),
        classes: 0,
        calibration: Err("there are none"),
        counts: LabelCounts::default(),
    };
    let view = SweepView {
        as_of,
        model: &model.compared,
        past: ModelPast::default(),
        reports: &[],
        threshold_origin: &|_, _| Origin::BuiltIn,
        sweeps: 0,
        hits: &|_| 0,
        labels: Some(labels),
    };
    let found = model.triggers.judge(&view).unwrap();
    // Nothing has been swept, so nothing fires.
    assert_eq!(found.fired(), []);
    let stored = serde_json::to_value(&found).unwrap();
    for &trigger in Trigger::ALL {
        let name = trigger.name();
        assert_eq!(stored.get(name).is_some(), !NOT_JUDGED_AT_SWEEPS.contains(&name), "{stored}");
        assert_eq!(name.parse::<Trigger>().unwrap(), trigger);
        let view = ExplainView {
            trigger,
            as_of,
            zone: &model.zone,
            inactive: None,
            last: None,
            labels: None,
            labels_error: None,
        };
        let mut sheet = Sheet::default();
        model.triggers.explain(&found, &view, &mut sheet);
        let first = sheet.0.first().cloned();
        assert!(matches!(&first, Some(Shown::Section(text)) if text.starts_with(&format!("{name}: "))), "{first:?}");
    }
    assert!(NOT_JUDGED_AT_SWEEPS.iter().all(|name| name.parse::<Trigger>().is_ok()));
    let read: driftsweep_extensions::trigger::Evaluation = serde_json::from_value(stored).unwrap();
    assert_eq!(read, found);
    // In the order of the page, each once.
    let mut page = Trigger::in_order_of_page();
    assert_eq!(page.first(), Some(&Trigger::Drift));
    page.sort();
    assert_eq!(page, Trigger::ALL);
}
