//! What a training says of itself, malformed in every way: told once, and never at the cost of the training.

use std::fs;

use driftsweep_extensions::http::Http;
use driftsweep_ops::retrain::JobState;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::jobs::{Yard, add_event, open, pass};
use crate::support::output::all_output;
use crate::support::processes::until;
use crate::support::script::Place;
use crate::support::server;
use crate::support::server::answer;

#[test]
fn a_malformed_answer_is_told_once_everywhere_and_costs_the_training_nothing() {
    for (script, wanted, cost) in [
        ("mkfifo $A", "not a regular file", 300),
        ("mkdir $A", "it is a folder", 300),
        ("ln -s /dev/zero $A", "not a regular file", 300),
        ("head -c 70000 /dev/zero > $A", "more than 65536 bytes", 300),
        (": > $A", "not a JSON object", 300),
        ("echo 'cost=5' > $A", "not a JSON object", 300),
        ("echo '[\"succeeded\", 5]' > $A", "not a JSON object", 300),
        ("echo '{\"cost\": 5' > $A", "ends too early", 300),
        ("echo '{\"cost\": \"x\"}' > $A", "cost is text; give an amount", 300),
        ("echo '{\"cost\": -1}' > $A", "cost is -1", 300),
        ("echo '{\"cost\": 5, \"baseline\": 7}' > $A", "baseline is 7; give the path", 500),
        ("echo '{\"cost\": 5, \"cost\": 6}' > $A", "cost is given twice", 300),
        ("echo '{\"cost\": 5, \"baseline\": [\"a\"], \"x\": 1}' > $A", "baseline is a list", 500),
        ("echo '{\"cost\": 5, \"x\": 1}' > $A", "", 500),
        ("true", "", 300),
    ] {
        let place = Place::new(&format!("A=$DRIFTSWEEP_ANSWER_FILE; {script}"));
        let last = place.ends();
        let job = place.job();
        assert_eq!((job.state.name(), job.spent.cents()), ("succeeded", cost), "{script}: {job:?}");
        if wanted.is_empty() {
            assert_eq!((job.about_answer, last.failures), (None, vec![]), "{script}");
            continue;
        }
        let told = job.about_answer.unwrap();
        assert!(told.contains(wanted) && told.contains("answer.json"), "{script}: {told}");
        assert_eq!(last.failures.len(), 1, "{last:?}");
        assert!(last.failures[0].permanent && last.failures[0].reason == told, "{last:?}");
        assert_eq!(place.pass().failures, [], "once");
        let records = place.records("job.succeed");
        assert_eq!((records.len(), records[0]["about_answer"].as_str()), (1, Some(&*told)));
        let shown = all_output(&place.program(&["jobs", "show", "event", "fleet.toml", "--store", &place.store], &[]));
        assert!(shown.contains("answer of its last run") && shown.contains(wanted), "{shown}");
    }
}

#[test]
fn a_tick_says_that_an_answer_is_malformed_in_words_in_json_and_to_those_who_are_notified() {
    let place = Place::new("echo '{\"cost\": \"x\"}' > $DRIFTSWEEP_ANSWER_FILE");
    let args =
        ["tick", "--threads", "1", "--wait", "1m", "--format", "json", "--state", "state", "--store", &place.store];
    let output = place.program(&args, &[]);
    let (words, ticked) = (String::from_utf8_lossy(&output.stderr), serde_json::from_slice::<Value>(&output.stdout));
    let ticked = ticked.unwrap();
    let failures = ticked["jobs"]["troubles"].as_array().unwrap();
    assert_eq!((failures.len(), &failures[0]["lasting"]), (1, &Value::Bool(true)), "{ticked}");
    assert!(failures[0]["reason"].as_str().unwrap().contains("cost is text"), "{ticked}");
    assert_eq!(words.matches("cost is text").count(), 1, "{words}");
    let again = place.program(&args, &[]);
    assert!(!all_output(&again).contains("cost is text"), "{}", all_output(&again));
    let told = fs::read_to_string(place.path("told")).unwrap();
    let about: Vec<&str> = told.lines().filter(|line| line.contains("cost is text")).collect();
    assert!(about.len() == 1 && about[0].contains("job.succeed"), "{told}");
}

#[test]
fn an_attempt_that_fails_tells_of_its_answer_and_the_next_one_starts_clean() {
    let script =
        "[ -e again ] || echo '{\"cost\": -1}' > $DRIFTSWEEP_ANSWER_FILE; [ -e again ] || { : > again; exit 1; }";
    let place = Place::with("backoff = \"1s\"", script);
    let place = place.changed("retries = 0", "retries = 1");
    until("it is tried again", || {
        place.pass();
        matches!(place.job().state, JobState::Queued { .. })
    });
    assert!(place.records("job.retry")[0]["about_answer"].as_str().unwrap().contains("cost is -1"));
    until("it has ended", || {
        place.pass_at(place.now + SignedDuration::from_mins(1));
        place.job().state.is_final()
    });
    assert_eq!((place.job().state.name(), place.job().about_answer), ("succeeded", None));
    assert!(place.records("job.start")[1].get("about_answer").is_none());
    assert!(place.records("job.succeed")[0].get("about_answer").is_none());
}

#[test]
fn a_malformed_field_of_a_webhooks_answer_is_told_and_spoils_neither_its_state_nor_the_rest() {
    for (fields, wanted, cents) in [
        ("\"cost\": \"x\"", "cost is text", 0),
        ("\"cost\": 5, \"baseline\": 7", "baseline is 7", 500),
        ("\"cost\": 5, \"seconds\": -1", "seconds is -1", 500),
        ("\"cost\": 5, \"reason\": {}", "reason is an object", 500),
        ("\"cost\": 5, \"cost\": 6", "cost is given twice", 0),
        ("\"cost\": 5", "", 500),
    ] {
        let body = format!("{{\"state\": \"succeeded\", {fields}}}");
        let url = server::http(move |request| match &*request.method {
            "POST" => answer(202, "{}"),
            _ => answer(200, body.clone()),
        });
        let head = format!(
            "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nretries = 0\nwebhook = {{ url = \"{url}\" }}\n"
        );
        let yard = Yard::new(&["m".into()], &head);
        for store in yard.stores() {
            let (fleet, state) = yard.in_store(&store);
            let (http, now) = (Http::new().unwrap(), Timestamp::now());
            add_event(&mut open(&store, &fleet), &format!("event-{}", fleet.name), "m", now);
            let passed = pass(&fleet, &store, &state, &http, now, &mut |_| ());
            let job = open(&store, &fleet).jobs("").unwrap().remove(0).job;
            assert_eq!((job.state.name(), job.spent.cents()), ("succeeded", cents), "{fields}");
            let told = job.about_answer.unwrap_or_default();
            assert!(told.contains(wanted) && told.is_empty() == wanted.is_empty(), "{fields}: {told}");
            assert_eq!(passed.failures.len(), usize::from(!wanted.is_empty()), "{passed:?}");
        }
    }
}
