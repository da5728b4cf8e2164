//! Releases: traffic is divided by stages, both arms are compared, and what follows is done once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use driftsweep_release::RolloutState;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::at;
use crate::support::jobs::sql;
use crate::support::output::{all_output, says};
use crate::support::release::{Arms, BEGIN, Release};
use crate::support::server::{Answer, answer, http};

const ROWS: usize = 4000;

/// Version 2 went through all stages, and each step was taken once.
fn released_once(release: &Release) {
    assert_eq!(release.rollout().state, RolloutState::Settled);
    assert_eq!(release.statuses(), ["retired", "champion"]);
    for (kind, times) in [("create", 1), ("begin", 1), ("promote", 2), ("applied", 3), ("settle", 1), ("hold", 0)] {
        assert_eq!(release.records(&format!("rollout.{kind}")).len(), times, "{kind}");
    }
    release.verified();
}

/// The time of a night, from that on which the release begins.
fn night(number: i64) -> Timestamp {
    at(BEGIN) + SignedDuration::from_hours(24 * number)
}

#[test]
fn a_candidate_that_is_as_good_goes_through_all_stages_and_becomes_the_champion() {
    for release in Release::all("") {
        let nights = release.nights(0, 8, Arms::new(0.9, 0.9), ROWS);
        for night in &nights {
            assert_eq!((&night.failures, &night.tampered), (&vec![], &vec![]));
        }
        let states: Vec<&str> = nights.iter().map(|night| night.states.get("m").map_or("", String::as_str)).collect();
        assert_eq!(
            states,
            [
                "version 2: running, stage 'canary'",
                "version 2: running, stage 'half'",
                "version 2: running, stage 'full'",
                "",
                "version 2: settled",
                "",
                "",
                "",
            ]
        );
        assert_eq!(release.share(), 1.0);
        released_once(&release);
    }
}

#[test]
fn a_worse_candidate_is_taken_back_in_the_tick_that_finds_it_and_production_stays() {
    for release in Release::all("") {
        release.nights(0, 1, Arms::new(0.8, 0.9), ROWS);
        assert_eq!(release.share(), 0.2);
        let nights = release.nights(1, 3, Arms::new(0.8, 0.9), ROWS);
        let back =
            nights.iter().position(|night| night.states.get("m").is_some_and(|state| state.contains("rolled back")));
        assert_eq!(back, Some(0), "{nights:?}");
        assert_eq!(release.share(), 0.0);
        assert_eq!(release.statuses(), ["champion", "rejected"]);
        let [record] = &release.records("rollout.roll_back")[..] else { panic!() };
        let reason = record.body["reason"].as_str().unwrap();
        assert!(reason.starts_with("quality: 0.8") && reason.contains("evidence that it is worse"), "{reason}");
        let [applied, back] = &release.records("rollout.applied")[..] else { panic!() };
        assert_eq!((&applied.body["share"], &back.body["share"]), (&json!(0.2), &json!(0)));
        release.verified();
    }
}

#[test]
fn killed_at_any_step_a_release_ends_as_it_would_have() {
    for release in Release::all("") {
        let arms = Arms::new(0.9, 0.9);
        let mut kills = 0;
        for number in 0..6 {
            let now = night(number);
            if number > 0 {
                release.predict(night(number - 1), Arms { share: release.share(), ..arms }, ROWS);
            }
            // Each attempt is killed one step later than the one before, until one is not.
            for kill_at in 0.. {
                let mut steps = 0;
                let mut die = |_: &str| {
                    steps += 1;
                    assert!(steps <= kill_at, "killed");
                };
                if catch_unwind(AssertUnwindSafe(|| release.pass(now, &mut die))).is_ok() {
                    break;
                }
                kills += 1;
            }
        }
        assert!(kills > 15, "{kills}");
        assert_eq!(release.share(), 1.0);
        released_once(&release);
    }
}

#[test]
fn twenty_passes_at_once_take_each_step_once() {
    for release in Release::all("") {
        let arms = Arms::new(0.9, 0.9);
        for number in 0..5 {
            let now = night(number);
            if number > 0 {
                release.predict(night(number - 1), Arms { share: release.share(), ..arms }, ROWS);
            }
            let (fleet, store, state) = (&release.fleet, &release.store, release.state());
            std::thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| crate::support::release::pass_once(fleet, store, &state, now));
                }
            });
        }
        release.pass(night(5), &mut |_| ());
        assert_eq!(release.share(), 1.0);
        released_once(&release);
    }
}

#[test]
fn an_endpoint_that_loses_answers_ends_with_the_weights_that_are_wanted_and_nothing_is_done_twice() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (kept, count) = (seen.clone(), AtomicUsize::new(0));
    let address = http(move |request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        kept.lock().unwrap().push(body);
        // The request has its effect, and two of three answers are lost or are errors.
        match count.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => Answer::default(),
            1 => answer(503, "{}"),
            _ => answer(200, "{}"),
        }
    });
    for release in Release::all(&format!("traffic = {{ webhook = {{ url = \"{address}\" }} }}\n")) {
        seen.lock().unwrap().clear();
        let arms = Arms::new(0.9, 0.9);
        let mut failures = 0;
        for number in 0..10 {
            let now = night(number);
            if number > 0 {
                let share = seen.lock().unwrap().last().unwrap()["share"].as_f64().unwrap();
                release.predict(night(number - 1), Arms { share, ..arms }, ROWS);
            }
            // A tick every quarter of an hour.
            for minute in [0, 15, 30, 45] {
                failures += release.pass(now + SignedDuration::from_mins(minute), &mut |_| ()).failures.len();
            }
        }
        assert!(failures >= 4, "{failures}");
        released_once(&release);
        let seen = seen.lock().unwrap();
        let sequences: Vec<u64> = seen.iter().map(|body| body["sequence"].as_u64().unwrap()).collect();
        assert!(sequences.is_sorted() && seen.len() > 6, "{sequences:?}");
        let last = seen.last().unwrap();
        assert_eq!((&last["share"], &last["weights"]), (&json!(1.0), &json!({ "1": 0.0, "2": 1.0 })));
        // The same request each time.
        let same = |a: &Value, b: &Value| a["sequence"] != b["sequence"] || a == b;
        assert!(seen.windows(2).all(|pair| same(&pair[0], &pair[1])));
    }
}

#[test]
fn weights_that_were_changed_from_outside_are_told_and_set_again() {
    let release = Release::new("");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let text = std::fs::read_to_string(release.path("weights.json")).unwrap();
    std::fs::write(release.path("weights.json"), text.replace("0.2", "0.7")).unwrap();
    let summary = release.pass(at("2026-03-01T02:15:00Z"), &mut |_| ());
    let [failure] = &summary.failures[..] else { panic!("{summary:?}") };
    assert!(failure.reason.contains("had a share of 0.7") && failure.reason.contains("set again"), "{failure:?}");
    assert_eq!(release.share(), 0.2);
    assert_eq!(release.records("rollout.traffic").len(), 1);
    // A file that is gone is written again, one of others is left as it is.
    std::fs::remove_file(release.path("weights.json")).unwrap();
    release.pass(at("2026-03-01T02:30:00Z"), &mut |_| ());
    assert_eq!(release.share(), 0.2);
    std::fs::write(release.path("weights.json"), "mine").unwrap();
    let summary = release.pass(at("2026-03-01T02:45:00Z"), &mut |_| ());
    assert!(summary.failures[0].reason.contains("left as it is"), "{summary:?}");
    assert_eq!(std::fs::read_to_string(release.path("weights.json")).unwrap(), "mine");
}

#[test]
fn without_labels_or_with_labels_or_traffic_that_are_not_alike_a_person_is_asked_and_nothing_is_promoted() {
    let none = Arms { labelled: [0.0; 2], ..Arms::new(0.9, 0.9) };
    let unlike = Arms { labelled: [0.7, 1.0], ..Arms::new(0.9, 0.9) };
    for (arms, words, nights) in
        [(none, "nothing was shown within 120h", 8), (unlike, "labels of the arms do not arrive alike", 3)]
    {
        let release = Release::new("");
        release.nights(0, nights, arms, ROWS);
        let RolloutState::Held { stage: 0, reason } = release.rollout().state else {
            panic!("{words}: {:?}", release.rollout())
        };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(release.share(), 0.2);
        assert_eq!(release.statuses(), ["champion", "candidate"]);
    }
    // The router gives the candidate half of the traffic, whatever the weights say.
    let release = Release::new("unit = \"user\"\n");
    release.nights(0, 1, none, ROWS);
    release.predict(at(BEGIN), Arms { share: 0.5, ..Arms::new(0.9, 0.9) }, ROWS);
    release.pass(at("2026-03-02T02:00:00Z"), &mut |_| ());
    let RolloutState::Held { reason, .. } = release.rollout().state else { panic!("{:?}", release.rollout()) };
    assert!(reason.contains("and should have 0.2000"), "{reason}");
    // One arm without any row says nothing, however good or bad it is.
    let release = Release::new("");
    release.nights(0, 1, none, ROWS);
    for number in 1..5 {
        release.predict(night(number - 1), Arms { share: 0.0, ..Arms::new(0.1, 0.9) }, ROWS);
        release.pass(night(number), &mut |_| ());
    }
    assert_ne!(release.rollout().state, RolloutState::Running { stage: 1 });
    assert_eq!(release.statuses(), ["champion", "candidate"]);
}

#[test]
fn each_further_check_takes_a_candidate_back_and_no_good_one() {
    // Quality is known too late here.
    let quality = "quality = { margin = 0.05, matures = \"300d\" }\n";
    for check in [
        "check.errors = { kind = \"failed\", column = \"failed\", worse = 0.05 }\n",
        "check.latency = { kind = \"slow\", column = \"millis\" }\n",
        "check.limit = { kind = \"slow\", column = \"millis\", above = 151.0 }\n",
        "check.value = { kind = \"number\", column = \"said\", low = 0.0, high = 1.0 }\n",
    ] {
        // `said` is positive more often where it is wrong: 0.3 are positive.
        let worse = if check.contains("number") { 1.0 } else { 0.75 };
        let production = if check.contains("number") { 0.6 } else { 0.9 };
        for (candidate, back) in [(worse, true), (production, false)] {
            let release = Release::new(&format!("{check}{quality}"));
            release.nights(0, 5, Arms::new(candidate, production), ROWS);
            let state = release.rollout().state;
            assert_eq!(matches!(state, RolloutState::RolledBack { .. }), back, "{check}: {candidate}: {state:?}");
            if let RolloutState::RolledBack { reason } = state {
                let name = check.split(['.', ' ']).nth(1).unwrap();
                assert!(reason.starts_with(&format!("{name}: ")), "{reason}");
            }
        }
    }
}

#[test]
fn predictions_that_are_distributed_differently_are_held_and_a_person_may_let_them_go_on() {
    // More positive predictions, with labels that are known to nobody yet.
    let release = Release::new("prediction_drift = 0.1\n");
    let arms = Arms { labelled: [0.0; 2], ..Arms::new(0.5, 1.0) };
    release.nights(0, 2, arms, 2 * ROWS);
    let RolloutState::Held { reason, .. } = release.rollout().state else { panic!("{:?}", release.rollout()) };
    assert!(reason.contains("predictions of the arms differ: score"), "{reason}");
    says(
        &release.run(&[
            "rollout",
            "resume",
            "m",
            "--by",
            "ana",
            "--reason",
            "as intended",
            "--now",
            "2026-03-02T09:00:00Z",
        ]),
        0,
        &[],
    );
    release.predict(at("2026-03-02T02:00:00Z"), Arms { share: 0.2, ..arms }, 2 * ROWS);
    release.pass(at("2026-03-03T02:00:00Z"), &mut |_| ());
    assert_eq!(release.rollout().state, RolloutState::Running { stage: 0 });
}

#[test]
fn a_person_shows_holds_resumes_promotes_and_takes_back_by_commands_that_move_the_traffic() {
    let release = Release::new("");
    let run = |args: &[&str], now: &str| {
        let more = match args[1] {
            "list" => vec![],
            "show" => vec!["--now", now],
            _ => vec!["--by", "ana", "--reason", "for a test", "--now", now],
        };
        release.run(&[args, &more[..]].concat())
    };
    says(
        &run(&["rollout", "show", "m"], BEGIN),
        0,
        &["release of version 2 of m, in place of version 1", "next       promote"],
    );
    says(&run(&["rollout", "hold", "m"], BEGIN), 2, &["'candidate'", "not possible"]);
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    says(&run(&["rollout", "list"], ""), 0, &["canary", "running"]);
    release.run(&["tick", "--now", "2026-03-01T02:30:00Z"]);
    let gauge = "driftsweep_rollout_share{fleet=";
    let metrics = all_output(&release.run(&["metrics"]));
    assert!(metrics.contains(gauge) && metrics.contains("version=\"2\",state=\"running\"} 0.2"), "{metrics}");
    says(
        &run(&["models", "promote", "m", "2"], "2026-03-01T03:00:00Z"),
        2,
        &["is being released", "rollout rollback m"],
    );
    says(&run(&["models", "retire", "m", "1"], "2026-03-01T03:00:00Z"), 2, &["is being released"]);
    says(&run(&["rollout", "hold", "m"], "2026-03-01T03:00:00Z"), 0, &["held, stage 'canary'"]);
    release.nights(1, 1, Arms::new(0.9, 0.9), ROWS);
    assert_eq!(release.share(), 0.2);
    says(&run(&["rollout", "show", "m"], "2026-03-02T03:00:00Z"), 0, &["held", "for a test", "it is held", "observed"]);
    says(&run(&["rollout", "promote", "m"], "2026-03-02T03:00:00Z"), 0, &["stage 'half'", "a share of 0.5"]);
    assert_eq!(release.share(), 0.5);
    says(&run(&["rollout", "resume", "m"], "2026-03-02T03:00:00Z"), 2, &["not possible"]);
    says(&run(&["rollout", "promote", "m"], "2026-03-02T04:00:00Z"), 0, &["stage 'full'", "a share of 1"]);
    says(&run(&["rollout", "promote", "m"], "2026-03-02T04:00:00Z"), 2, &["has all traffic already"]);
    says(&run(&["rollout", "rollback", "m"], "2026-03-02T05:00:00Z"), 0, &["rolled back", "a share of 0"]);
    assert_eq!((release.share(), release.statuses()), (0.0, vec!["champion".to_owned(), "rejected".into()]));
    says(&run(&["rollout", "rollback", "m"], "2026-03-02T06:00:00Z"), 2, &["none is under way"]);
    says(&run(&["rollout", "start", "m", "2"], "2026-03-02T06:00:00Z"), 2, &["rejected"]);
    let page = says(
        &run(&["rollout", "show", "m"], "2026-03-02T06:00:00Z"),
        0,
        &["rolled back", "rollout.roll_back", "model.reject"],
    );
    assert!(!page.contains("next"), "{page}");
    let json = run(&["rollout", "show", "m", "--format", "json"], "2026-03-02T06:00:00Z");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["rollout"]["state"]["state"], "rolled_back");
    release.verified();
}

#[test]
fn a_check_of_the_plan_that_the_fleet_file_lost_and_settings_that_are_gone_are_told_and_promote_nothing() {
    let release = Release::new("check.errors = { kind = \"failed\", column = \"failed\" }\n");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let text = std::fs::read_to_string(release.path("fleet.toml")).unwrap();
    let without = text.replace("check.errors = { kind = \"failed\", column = \"failed\" }\n", "");
    let changed = release.with_fleet(&without);
    let night = changed.nights(1, 1, Arms::new(0.9, 0.9), ROWS).pop().unwrap();
    assert!(night.failures.iter().any(|failure| failure.reason.contains("check 'errors' of its plan")), "{night:?}");
    let gone = changed.with_fleet(&without[..without.find("[model.rollout]").unwrap()]);
    let night = gone.nights(2, 1, Arms::new(0.5, 0.9), ROWS).pop().unwrap();
    assert!(night.failures[0].reason.contains("no [model.rollout] of the model any more"), "{night:?}");
    assert!(gone.share() > 0.0);
}

#[test]
fn a_release_whose_rows_were_edited_is_not_taken_further() {
    for statement in [
        "UPDATE rollout SET body = replace(body, '\"candidate\":0', '\"candidate\":1')",
        "UPDATE rollout SET state = 'settled'",
        "DELETE FROM rollout",
        "UPDATE model_version SET status = 'retired' WHERE version = 1",
    ] {
        for release in Release::all("") {
            release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
            let of_fleet = format!(
                "{statement}{} fleet = '{}'",
                if statement.contains("WHERE") { " AND" } else { " WHERE" },
                release.fleet.name
            );
            assert_eq!(sql(&release.store, &of_fleet), 1, "{statement}");
            let night = release.nights(1, 1, Arms::new(0.8, 0.9), ROWS).pop().unwrap();
            assert!(!night.tampered.is_empty() && night.states.is_empty(), "{statement}: {night:?}");
            assert_eq!(release.share(), 0.2);
            let by = ["--by", "ana", "--reason", "x", "--now", "2026-03-02T03:00:00Z"];
            let output = release.run(&[&["rollout", "rollback", "m"][..], &by].concat());
            assert!([2, 15].contains(&output.status.code().unwrap()), "{statement}: {}", all_output(&output));
            says(&release.run(&["tick", "--now", "2026-03-02T03:00:00Z"]), 15, &["releases are not taken further"]);
        }
    }
}

#[test]
#[cfg(feature = "kubernetes")]
fn an_http_route_has_the_weights_of_each_stage_and_its_other_rules_stay_as_they_are() {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "churn", "namespace": "ml", "resourceVersion": "1" },
        "spec": { "rules": [
            { "name": "staff", "matches": [{ "headers": [{ "name": "x-staff", "value": "1" }] }],
              "backendRefs": [{ "name": "m-2", "port": 80, "weight": 1 }] },
            { "name": "users", "backendRefs": [{ "name": "m-1", "port": 80 }] },
        ] },
    });
    let stored = Arc::new(Mutex::new(route.clone()));
    let (kept, puts) = (stored.clone(), Arc::new(AtomicUsize::new(0)));
    let count = puts.clone();
    let url = http(move |request| {
        let status = |code: u16, reason: &str| {
            answer(
                code,
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code }),
            )
        };
        if request.headers.get("authorization").is_none_or(|given| given != "Bearer tok") {
            return status(401, "Unauthorized");
        }
        let path = request.path.split('?').next().unwrap();
        if path != "/apis/gateway.networking.k8s.io/v1/namespaces/ml/httproutes/churn" {
            return status(404, "NotFound");
        }
        let mut stored = kept.lock().unwrap();
        if request.method == "PUT" {
            let new: Value = serde_json::from_str(&request.body).unwrap();
            if new["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
                return status(409, "Conflict");
            }
            let number = count.fetch_add(1, Ordering::SeqCst) + 2;
            *stored = new;
            stored["metadata"]["resourceVersion"] = number.to_string().into();
        }
        answer(200, &*stored)
    });
    let release = Release::new(
        "candidate = \"m-{version}\"\nproduction = \"m-{version}\"\ntraffic = { gateway = { route = \"churn\", rule = \"users\", context = \
         \"test\" } }\n",
    );
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "c", "cluster": { "server": url } }],
        "users": [{ "name": "u", "user": { "token": "tok" } }],
        "contexts": [{ "name": "test", "context": { "cluster": "c", "user": "u", "namespace": "ml" } }],
    });
    // The library finds its configuration by the environment: processes of their own.
    std::fs::write(release.path("kubeconfig"), config.to_string()).unwrap();
    let weights = || {
        let route = stored.lock().unwrap();
        let backends = route["spec"]["rules"][1]["backendRefs"].as_array().unwrap().clone();
        let weight =
            |name| backends.iter().find(|backend| backend["name"] == name).map(|found| found["weight"].clone());
        (weight("m-1"), weight("m-2"))
    };
    let decide = |action: &str, now: &str| {
        release.run_with(
            "KUBECONFIG",
            &release.path("kubeconfig"),
            &["rollout", action, "m", "--by", "ana", "--reason", "x", "--now", now],
        )
    };
    says(&decide("promote", "2026-03-01T02:10:00Z"), 0, &["a share of 0.2"]);
    assert_eq!(weights(), (Some(json!(8000)), Some(json!(2000))));
    says(&decide("promote", "2026-03-01T02:20:00Z"), 0, &["a share of 0.5"]);
    assert_eq!(weights(), (Some(json!(5000)), Some(json!(5000))));
    says(&decide("rollback", "2026-03-01T02:30:00Z"), 0, &["a share of 0"]);
    assert_eq!(weights(), (Some(json!(10_000)), Some(json!(0))));
    assert_eq!(puts.load(Ordering::SeqCst), 3);
    let now = stored.lock().unwrap().clone();
    assert_eq!(now["spec"]["rules"][0], route["spec"]["rules"][0]);
}

/// How many outcomes of each arm a check has seen.
fn seen(release: &Release, check: usize) -> (u64, u64) {
    let rollout = serde_json::to_value(release.rollout()).unwrap();
    let block = &rollout["evidence"][check]["binary"]["worse"]["seen"];
    (block["candidate"]["rows"].as_u64().unwrap(), block["production"]["rows"].as_u64().unwrap())
}

#[test]
fn rows_without_a_score_are_left_out_and_spoil_nothing() {
    for metric in ["brier", "auc"] {
        let release = Release::new(&format!("quality = {{ metric = \"{metric}\", margin = 0.1 }}\n"));
        release.nights(0, 1, Arms::new(0.5, 0.9), ROWS);
        release.nights(1, 6, Arms { unscored: 3, ..Arms::new(0.5, 0.9) }, ROWS);
        let RolloutState::RolledBack { reason } = release.rollout().state else {
            panic!("{metric}: {:?}", release.rollout())
        };
        assert!(reason.contains("quality"), "{reason}");
        assert_eq!((release.share(), release.open().unreadable()), (0.0, vec![]));
    }
}

#[test]
fn a_release_that_cannot_be_read_keeps_its_version_and_its_place() {
    let release = Release::new("");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    sql(&release.store, "UPDATE rollout SET body = 'nothing'");
    let by = ["--by", "ana", "--reason", "x", "--now", "2026-03-02T03:00:00Z"];
    for args in [&["models", "promote", "m", "2"][..], &["models", "retire", "m", "1"], &["rollout", "start", "m", "2"]]
    {
        let output = release.run(&[args, &by].concat());
        assert!([2, 15].contains(&output.status.code().unwrap()), "{args:?}: {}", all_output(&output));
    }
    assert_eq!(release.statuses(), ["champion", "candidate"]);
}

#[test]
fn what_is_logged_as_a_whole_day_later_is_counted_once_it_is_there() {
    let release = Release::new(
        "check.errors = { kind = \"failed\", column = \"failed\", worse = 0.05 }\nquality = { matures = \"300d\" }\n",
    );
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    // The log of the first day comes after the tick of the night.
    release.pass(at("2026-03-02T02:00:00Z"), &mut |_| ());
    assert_eq!(seen(&release, 1), (0, 0));
    release.predict(at("2026-03-01T02:00:00Z"), Arms { share: 0.2, ..Arms::new(0.7, 0.9) }, ROWS);
    release.pass(at("2026-03-03T02:00:00Z"), &mut |_| ());
    let (candidate, production) = seen(&release, 1);
    // All but the last hour, which may go on.
    let all = (ROWS - ROWS / 24 - 1) as u64;
    assert!(candidate + production >= all, "{candidate} + {production} of {ROWS}");
    assert!(matches!(release.rollout().state, RolloutState::RolledBack { .. }), "{:?}", release.rollout().state);
}

#[test]
fn a_check_without_outcomes_promotes_nothing_whatever_its_margin_is() {
    for check in [
        "check.errors = { kind = \"failed\", column = \"none\" }\n",
        "check.errors = { kind = \"failed\", column = \"failed\", matures = \"300d\" }\n",
        "check.errors = { kind = \"good\", column = \"arm\" }\n",
    ] {
        let release = Release::new(check);
        release.nights(0, 4, Arms::new(0.9, 0.9), ROWS);
        assert_eq!(release.rollout().state, RolloutState::Running { stage: 0 }, "{check}");
    }
}

#[test]
fn rows_that_are_logged_more_than_once_count_once() {
    let release = Release::new("check.errors = { kind = \"failed\", column = \"failed\" }\n");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    release.nights(1, 1, Arms { copies: 3, ..Arms::new(0.9, 0.9) }, ROWS);
    for check in [0, 1] {
        let (candidate, production) = seen(&release, check);
        assert!((candidate + production) as usize <= ROWS && candidate > 0, "{candidate} {production}");
    }
    assert!(release.rollout().share.units as usize <= ROWS);
}

#[test]
fn arms_that_the_log_calls_otherwise_are_told_at_once() {
    let release = Release::new("");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let night = release.nights(1, 1, Arms { names: ["v2", "v1"], ..Arms::new(0.9, 0.9) }, ROWS).pop().unwrap();
    let [failure] = &night.failures[..] else { panic!("{night:?}") };
    for words in ["holds neither '2' nor '1'", "'v1', 'v2'", "rollout.candidate"] {
        assert!(failure.reason.contains(words), "{failure:?}");
    }
}

#[test]
fn traffic_that_a_command_which_was_left_behind_sets_after_a_rollback_is_set_back() {
    let release = Release::new("");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let given = std::fs::read_to_string(release.path("weights.json")).unwrap();
    release.nights(1, 1, Arms::new(0.7, 0.9), ROWS);
    assert_eq!(release.share(), 0.0);
    std::fs::write(release.path("weights.json"), given).unwrap();
    let night = release.pass(at("2026-03-03T02:00:00Z"), &mut |_| ());
    assert!(night.failures[0].reason.contains("had a share of 0.2"), "{night:?}");
    assert_eq!(release.share(), 0.0);
    // Another version, too, and one that is not part of the release.
    let release = Release::new("");
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let given = std::fs::read_to_string(release.path("weights.json")).unwrap();
    std::fs::write(release.path("weights.json"), given.replace("\"1\": 0.8", "\"9\": 0.8")).unwrap();
    let night = release.pass(at("2026-03-01T03:00:00Z"), &mut |_| ());
    assert!(night.failures[0].reason.contains("not divided as it was set"), "{night:?}");
    let set = std::fs::read_to_string(release.path("weights.json")).unwrap();
    assert!(set.contains("\"1\": 0.8"), "{set}");
}

#[test]
fn a_candidate_is_taken_back_while_its_next_share_cannot_be_set_and_a_rollback_meanwhile_is_not_overtaken() {
    let set = "set = [\"sh\", \"-c\", \"test $DRIFTSWEEP_SHARE != 0.5 && echo $DRIFTSWEEP_SHARE > share\"]";
    let release = Release::new(&format!("traffic = {{ command = {{ {set} }} }}\n"));
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    release.predict(night(0), Arms { share: 0.2, ..Arms::new(0.9, 0.9) }, ROWS);
    let failed = release.pass(night(1), &mut |_| ());
    assert!(failed.failures[0].reason.contains("could not be set to a share of 0.5"), "{failed:?}");
    assert_eq!(release.records("rollout.traffic_failed").len(), 1);
    release.predict(night(1), Arms { share: 0.2, ..Arms::new(0.6, 0.9) }, ROWS);
    release.pass(night(2), &mut |_| ());
    assert!(matches!(release.rollout().state, RolloutState::RolledBack { .. }), "{:?}", release.rollout());
    assert_eq!(std::fs::read_to_string(release.path("share")).unwrap().trim(), "0");
}

#[test]
fn settings_that_were_changed_during_a_release_move_nothing_and_no_release_begins_in_the_past() {
    let release = Release::new("");
    assert_eq!(release.pass(at("2026-02-20T02:00:00Z"), &mut |_| ()).failures.len(), 1);
    assert_eq!((release.share(), release.rollout().state), (0.0, RolloutState::Candidate));
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let text = std::fs::read_to_string(release.path("fleet.toml")).unwrap();
    let changed = release.with_fleet(&text.replace("weights.json", "others.json"));
    let night = changed.nights(1, 1, Arms::new(0.9, 0.9), ROWS).pop().unwrap();
    assert!(night.failures[0].reason.contains("another way to divide traffic"), "{night:?}");
    assert!(!changed.path("others.json").exists());
    let back = ["rollout", "hold", "m", "--by", "ana", "--reason", "x", "--now", "2026-03-02T03:00:00Z"];
    says(&changed.run(&back), 0, &["held"]);
    let back = ["rollout", "promote", "m", "--by", "ana", "--reason", "x", "--now", "2026-03-02T03:30:00Z"];
    says(&changed.run(&back), 11, &["another way to divide traffic"]);
    assert!(!changed.path("others.json").exists());
    let metric = text.replace("quality = { margin = 0.05 }", "quality = { margin = 0.05, metric = \"auc\" }");
    let changed = changed.with_fleet(&metric);
    let night = changed.nights(2, 1, Arms::new(0.9, 0.9), ROWS).pop().unwrap();
    assert!(night.failures[0].reason.contains("check 'quality' of its plan (accuracy by labels)"), "{night:?}");
}

#[test]
fn a_tick_within_the_hour_of_the_last_reads_no_predictions() {
    let release = Release::new("");
    release.nights(0, 2, Arms::new(0.9, 0.9), ROWS);
    std::fs::rename(release.path("predictions"), release.path("away")).unwrap();
    assert_eq!(release.pass(at("2026-03-02T02:45:00Z"), &mut |_| ()).failures, []);
    assert_eq!(release.pass(at("2026-03-02T03:00:00Z"), &mut |_| ()).failures.len(), 1);
}
