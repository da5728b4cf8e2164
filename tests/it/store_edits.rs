//! The store behind its back: every column of every table edited, rows deleted, inserted and copied, jobs made ready by
//! hand, a store that was emptied; on both stores. What is found by nothing is listed, with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use driftsweep_ops::store::{LimitExceeded, MeasurementRecord, StartBlockers, Store, StoredVerdict};
use driftsweep_release::{Rollout, RolloutPlan};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::jobs::{Yard, add_event, open, pass, sql};
use crate::support::night::{ASKED, Night, ask, make_older, trained};
use crate::support::output::all_output;

/// What `audit verify` does not find, and why that starts and stops nothing that costs money.
const NOT_FOUND: &[(&str, &[&str], &str)] = &[
    (
        "lock_holder",
        &["fleet", "what", "host", "process", "since"],
        "names the process that holds a lock, in messages only; the lock itself is the server's or the file's",
    ),
    (
        "fleet_file",
        &["fleet", "path", "models", "last_used"],
        "tells two fleet files of one name apart: at worst a tick refuses to begin",
    ),
    (
        "outbox",
        &["fleet", "seq", "channel", "topic", "at", "body", "state", "attempts", "next_at", "error"],
        "messages to people; nothing is decided by them, and the audit has what they tell of",
    ),
    (
        "audit_head",
        &["run_secret"],
        "makes the keys of runs, by which their results are known; each key is in the row of its job, which is checked",
    ),
];

/// A night with something in every table.
fn full(night: &Night) {
    trained(night);
    // A new baseline, and a budget of which most is used.
    let baseline = night.world.folder.path().join("baseline/table-00001.parquet").display().to_string();
    let set =
        night.run(&["baseline", "set", "model-00001", &baseline, "--by", "ana", "--reason", "new", "--now", ASKED]);
    assert!(set.status.success(), "{}", all_output(&set));
    // A model in the registry, with an alias.
    let by = ["--by", "ana", "--reason", "new", "--now", ASKED];
    for args in
        [&["models", "register", "model-00001", "s3://models/1"][..], &["models", "alias", "model-00001", "blue", "1"]]
    {
        let done = night.run(&[args, &by].concat());
        assert!(done.status.success(), "{}", all_output(&done));
    }
    // A release of that version.
    let plan = RolloutPlan::of_quality(0.9);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let rollout = Rollout::new("model-00001", 1, None, plan, at(ASKED));
    night.open().transaction(|store| store.add_rollout(&rollout)).unwrap();
    // A mute, an acknowledgement, and a model whose data are late.
    let mute = night.run(&["mute", "model-00001", "--for", "900d", "--reason", "quiet", "--by", "ana", "--now", ASKED]);
    assert!(mute.status.success(), "{}", all_output(&mute));
    fs::remove_file(night.world.folder.path().join("current/2026-01-03/table-00001.parquet")).unwrap();
    night.tick("2026-01-04T03:00:00Z");
    let seen = night.run(&["status", "--acknowledge", "--by", "ana", "--reason", "known"]);
    assert!(seen.status.success(), "{}", all_output(&seen));
    // A measure as a sweep notes it: the models of this night have no labels.
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let entry = MeasurementRecord {
        model: "model-00000".into(),
        as_of: at("2026-01-04T02:00:00Z"),
        kind: "realised".into(),
        metric: "accuracy".into(),
        since: at("2026-01-01T00:00:00Z"),
        before: at("2026-01-04T00:00:00Z"),
        rows: 1000,
        value: 0.93,
        low: 0.9,
        high: 0.96,
    };
    // What was concluded of a model at a sweep is one entry of the audit, so this is a sweep of its own.
    let entry = MeasurementRecord { as_of: at("2026-01-04T01:00:00Z"), ..entry };
    night.open().transaction(|store| store.add_quality(&entry)).unwrap();
    let store = night.open().verify_audit(&[]).unwrap();
    assert_eq!(store.problems, Vec::<String>::new());
    assert_eq!(store.not_covered, 0);
}

#[test]
fn every_edit_of_every_column_is_found_but_for_those_that_are_listed_with_a_reason() {
    for night in Night::all() {
        full(&night);
        let (name, store) = (night.name(), &night.store);
        let kept = night.keep();
        let mut unfound: BTreeSet<(String, String)> = BTreeSet::new();
        for (table, columns) in night.tables() {
            let rows =
                &ask(store, &format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table} WHERE fleet = '{name}'"), 1)[0][0];
            if table == "outbox" || table == "lock_holder" || table == "fleet_file" {
                // Checked below: whether they are edited makes no difference.
            } else {
                assert_ne!(rows, "0", "nothing in {table} to edit");
            }
            for (column, kind) in columns {
                let edit = match &*kind {
                    "text" => format!("COALESCE({column}, '') || 'x'"),
                    "bigint" => format!("COALESCE({column}, 0) + 1000000"),
                    "double precision" => format!("{column} + 0.001"),
                    other => panic!("{table}.{column} is {other}"),
                };
                sql(store, &format!("UPDATE {table} SET {column} = {edit} WHERE fleet = '{name}'"));
                let found = night.problems();
                if found.is_empty() {
                    unfound.insert((table.clone(), column.clone()));
                } else if table != "audit" && table != "audit_head" {
                    assert!(found.iter().any(|problem| problem.contains(&format!("table {table}"))), "{found:?}");
                }
                kept.restore(std::slice::from_ref(&table));
            }
        }
        let listed: BTreeSet<(String, String)> = NOT_FOUND
            .iter()
            .flat_map(|(table, columns, _)| columns.iter().map(|column| ((*table).to_owned(), (*column).to_owned())))
            .collect();
        assert_eq!(unfound, listed, "edits that nothing finds, and those that are listed");
        assert_eq!(night.problems(), Vec::<String>::new(), "all was put back");
    }
}

#[test]
fn a_row_that_is_deleted_added_or_copied_to_another_model_or_fleet_is_found() {
    for night in Night::all() {
        full(&night);
        let (name, store) = (night.name(), &night.store);
        let kept = night.keep();
        let exempt: BTreeSet<&str> = NOT_FOUND.iter().map(|(table, ..)| *table).collect();
        for (table, columns) in night.tables().into_iter().filter(|(table, _)| !exempt.contains(&**table)) {
            let all: Vec<&str> = columns.iter().map(|(column, _)| &**column).collect();
            // Of each table the row that comes first.
            let one = format!("(SELECT * FROM {table} WHERE fleet = '{name}' ORDER BY {} LIMIT 1)", all.join(", "));
            let insert = |change: &dyn Fn(&str, &str) -> String| {
                let values: Vec<String> = columns.iter().map(|(column, kind)| change(column, kind)).collect();
                let (all, values) = (all.join(", "), values.join(", "));
                sql(store, &format!("INSERT INTO {table} ({all}) SELECT {values} FROM {one} AS one")) == 1
            };
            let only_once = ["audit_head", "status"].contains(&&*table);
            let is_name = |column: &str, names: &[&str]| names.contains(&column);
            // Another row beside it: of another model, name, number or time.
            if !only_once {
                let names = ["model", "name", "id", "job", "scope", "seq", "as_of"];
                assert!(insert(&|column, kind| match kind {
                    "text" if is_name(column, &names) => format!("{column} || 'x'"),
                    "bigint" if is_name(column, &names) => format!("{column} + 1000000"),
                    _ => column.to_owned(),
                }));
                assert_ne!(night.problems(), Vec::<String>::new(), "a row more in {table}");
                kept.restore(std::slice::from_ref(&table));
            }
            // The same row in another fleet, of which nothing else is known.
            assert!(insert(&|column, _| match column {
                "fleet" => "fleet || 'x'".into(),
                "id" if table == "event" => "id || 'x'".into(),
                _ => column.to_owned(),
            }));
            let other = Store::open(store, &format!("{name}x")).unwrap().verify_audit(&[]).unwrap().problems;
            assert_ne!(other, Vec::<String>::new(), "a row of {table} in another fleet");
            kept.restore(std::slice::from_ref(&table));
            // And gone.
            let conditions: Vec<String> = columns
                .iter()
                .filter(|(_, kind)| kind != "double precision")
                .map(|(column, _)| format!("COALESCE(CAST({column} AS TEXT), '') = COALESCE(CAST((SELECT {column} FROM {one} AS one) AS TEXT), '')"))
                .collect();
            let deleted = sql(store, &format!("DELETE FROM {table} WHERE {}", conditions.join(" AND ")));
            assert_eq!(deleted, 1, "{table}");
            assert_ne!(night.problems(), Vec::<String>::new(), "a row less in {table}");
            kept.restore(std::slice::from_ref(&table));
        }
        assert_eq!(night.problems(), Vec::<String>::new(), "all was put back");
    }
}

#[test]
fn a_job_that_does_not_follow_from_its_records_is_not_started_and_the_others_are() {
    for night in Night::all() {
        let (name, store) = (night.name(), &night.store);
        let forged = night.id("model-00000");
        let own = night.id("model-00001");
        let queued = json!({ "state": "queued", "not_before": ASKED });
        // The job as somebody would have it who can write the store.
        let as_if = |change: &dyn Fn(&mut Value)| {
            let mut job = night.jobs()["model-00000"].clone();
            change(&mut job);
            job.to_string().replace('\'', "''")
        };
        let set = |body: &str, state: &str| {
            format!("UPDATE job SET body = '{body}', state = '{state}' WHERE fleet = '{name}' AND id = '{forged}'")
        };
        let ready = as_if(&|job| job["state"].clone_from(&queued));
        let granted = as_if(&|job| {
            job["state"] = queued.clone();
            job["grants"] = json!([{ "by": { "person": "cto" }, "reason": "x", "at": ASKED, "overruns": [] }]);
        });
        let running = as_if(&|job| {
            job["state"] =
                json!({ "state": "running", "attempt": 1, "started_at": ASKED, "stop_at": "2026-01-05T00:00:00Z" });
            job["attempts"] = 1.into();
        });
        let cheap = as_if(&|job| job["estimate"]["high"] = json!(0.01));
        let asked = |level: u64| {
            as_if(&|job| {
                job["state"]["level"] = level.into();
                job["state"]["due"] = "2026-01-09T00:00:00Z".into();
            })
        };
        let run = format!(
            "INSERT INTO run (fleet, job, attempt, model, retrain, started_at, declared, committed, seen) SELECT fleet, '{forged}', \
             1, 'model-00000', retrain, started_at, 1, 1, 1 FROM (SELECT '{name}' AS fleet, '{{}}' AS retrain, \
             1767409200000000 AS started_at) AS one"
        );
        let event =
            format!("UPDATE event SET body = '{{\"id\":\"{forged}\"}}' WHERE fleet = '{name}' AND id = '{forged}'");
        let model = format!("UPDATE model SET trained = 1 WHERE fleet = '{name}' AND name = 'model-00000'");
        let record = format!("DELETE FROM audit WHERE fleet = '{name}' AND seq = 2");
        let cut = format!("DELETE FROM audit WHERE fleet = '{name}' AND seq > 5");
        let twice =
            format!("UPDATE audit SET body = '{{\"models\":1,' || substr(body, 2) WHERE fleet = '{name}' AND seq = 1");
        // Each with what is done before the answer and after it, when the job in question is approved, and whether the other
        // one is started.
        let (soon, late) = (Some("2026-01-03T03:10:00Z"), Some("2026-01-03T08:10:00Z"));
        type Attack<'a> = (&'a str, Vec<String>, Option<&'a str>, Vec<String>, bool);
        let attacks: Vec<Attack<'_>> = vec![
            ("made ready", vec![], None, vec![set(&ready, "queued")], true),
            ("made ready, with somebody's leave", vec![], None, vec![set(&granted, "queued")], true),
            ("made to run", vec![], None, vec![set(&running, "running"), run.clone()], false),
            ("answered late", vec![set(&asked(0), "awaiting_approval")], late, vec![], true),
            ("of another estimate", vec![set(&cheap, "awaiting_approval")], soon, vec![], true),
            ("its event edited", vec![], soon, vec![event], true),
            ("its model edited", vec![], soon, vec![model], true),
            ("a run put beside it", vec![], soon, vec![run], false),
            ("a record deleted", vec![], soon, vec![record], false),
            ("the end of the audit cut off", vec![], soon, vec![cut], false),
            ("a name twice in a record", vec![], soon, vec![twice], false),
        ];
        let kept = night.keep();
        let edit = |what: &str, statements: &[String]| {
            for statement in statements {
                assert!(sql(store, statement) > 0, "{what}: {statement}");
            }
        };
        for (at, (what, before, answered, after, other_starts)) in attacks.into_iter().enumerate() {
            *night.state.borrow_mut() = night.world.folder.path().join(format!("state{at}"));
            edit(what, &before);
            let answer = night.answer("approve", "model-00001", "2026-01-03T03:10:00Z");
            assert!(answer.status.success(), "{what}: {}", all_output(&answer));
            if let Some(now) = answered {
                let answer = night.answer("approve", "model-00000", now);
                // What the audit does not say is not answered.
                let code = if before.is_empty() { 0 } else { 15 };
                assert_eq!(answer.status.code(), Some(code), "{what}: {}", all_output(&answer));
            }
            edit(what, &after);
            let ticked = night.ticked("2026-01-03T08:11:00Z");
            assert_eq!(ticked.status.code(), Some(15), "{what}: {}", all_output(&ticked));
            assert!(all_output(&ticked).contains("audit verify"), "{what}: {}", all_output(&ticked));
            assert!(!night.state().join("jobs").join(&forged).exists(), "{what}: it was started");
            assert_eq!(night.state().join("jobs").join(&own).exists(), other_starts, "{what}: {}", all_output(&ticked));
            let verified = night.run(&["audit", "verify"]);
            assert_eq!(verified.status.code(), Some(15), "{what}: {}", all_output(&verified));
            kept.restore_all();
        }
        *night.state.borrow_mut() = night.world.folder.path().join("state of the end");
        // Without an attack both are started.
        for model in ["model-00000", "model-00001"] {
            assert!(night.answer("approve", model, "2026-01-03T03:10:00Z").status.success());
        }
        night.tick("2026-01-03T03:11:00Z");
        assert!(night.state().join("jobs").join(&forged).exists());
    }
}

#[test]
fn a_trigger_that_was_made_to_fire_again_is_found_although_the_tick_has_written_over_the_edit() {
    for night in Night::all() {
        let name = night.name();
        let edit = format!("UPDATE model SET scheduled = 1, schedule = 'x' WHERE fleet = '{name}'");
        sql(&night.store, &edit);
        let fleet = night.world.fleet();
        let mut store = night.open();
        let now = "2026-01-03T04:00:00Z".parse().unwrap();
        store.transaction(|store| store.set_scheduled(&fleet.models[0].name, "0 1 * * *", now)).unwrap();
        let found = night.problems();
        assert!(found.iter().any(|problem| problem.contains("replaced '1' in column scheduled")), "{found:?}");
    }
}

#[test]
fn a_late_answer_is_refused_whether_a_tick_came_or_not_and_nobody_answers_as_of_an_earlier_time() {
    let yard = Yard::new(
        &["m".into()],
        "[approval]\napprovers = [[\"ana\"], [\"cto\"]]\nanswer_within = \"6s\"\n[defaults.retrain]\ncommand = [\"true\"]\nstakes = \
         \"high\"\n",
    );
    let http = driftsweep_extensions::http::Http::new().unwrap();
    for store in yard.stores() {
        let (fleet, state) = (&yard.fleet, yard.folder.path().join("state"));
        let id = format!("e{}", fleet.name);
        let now = Timestamp::now();
        add_event(&mut open(&store, fleet), &id, "m", now);
        pass(fleet, &store, &state, &http, now, &mut |_| ());
        // A pass that is taken to be later ends no question that was put at the real time.
        pass(fleet, &store, &state, &http, now + jiff::SignedDuration::from_hours(1), &mut |_| ());
        let level = || {
            serde_json::to_value(open(&store, fleet).jobs("").unwrap().remove(0).job).unwrap()["state"]["level"].clone()
        };
        assert_eq!(level(), 0);
        std::thread::sleep(Duration::from_secs(8));
        let answer = |word: &str, who: &str, more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            command.args([word, &id]).arg(yard.folder.path().join("fleet.toml")).arg("--state").arg(&state);
            command.args(["--by", who, "--reason", "x"]).args(more).env("DRIFTSWEEP_STORE", &store);
            command.output().unwrap()
        };
        let earlier = now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap().to_string();
        for word in ["approve", "reject"] {
            for who in ["ana", "cto"] {
                for more in [&[][..], &["--now", &earlier]] {
                    let refused = answer(word, who, more);
                    assert_eq!(refused.status.code(), Some(2), "{}", all_output(&refused));
                    assert!(all_output(&refused).contains("it was due at"), "{}", all_output(&refused));
                }
            }
        }
        // The next pass asks the next level, who has time of its own.
        pass(fleet, &store, &state, &http, Timestamp::now(), &mut |_| ());
        assert_eq!(level(), 1);
        assert_eq!(answer("approve", "ana", &[]).status.code(), Some(2));
        let given = answer("approve", "cto", &[]);
        assert!(given.status.success(), "{}", all_output(&given));
        let mut store = open(&store, fleet);
        assert_eq!(store.verify_audit(&[]).unwrap().problems, Vec::<String>::new());
        // Both times are in the record.
        let record = store.last_record(&id, &["job.approve"]).unwrap().unwrap();
        let clock = record.clock_at.unwrap();
        assert!(clock.duration_since(record.at).abs() < jiff::SignedDuration::from_secs(30), "{record:?}");
    }
}

#[test]
fn a_store_that_was_emptied_or_written_anew_is_refused_and_expectations_that_say_nothing_too() {
    for night in Night::all() {
        let name = night.name();
        let file = night.world.folder.path().join("kept/checkpoint");
        let kept = file.display().to_string();
        let tick = |now: &str, file: &str| night.run(&["tick", "--threads", "1", "--now", now, "--checkpoint", file]);
        // Before there is one it is made.
        let first = tick("2026-01-03T03:05:00Z", &kept);
        assert!(first.status.success(), "{}", all_output(&first));
        let text = fs::read_to_string(&file).unwrap();
        let head = night.open().audit_head().unwrap().unwrap();
        assert_eq!(text, format!("{}:{} \"{name}\"\n", head.0, head.1));
        assert!(tick("2026-01-03T03:06:00Z", &kept).status.success());
        let inside = tick("2026-01-03T03:06:00Z", &night.state().join("checkpoint").display().to_string());
        assert_eq!(inside.status.code(), Some(2), "{}", all_output(&inside));
        fs::write(&file, "").unwrap();
        assert_eq!(tick("2026-01-03T03:06:00Z", &kept).status.code(), Some(2), "not a checkpoint");
        fs::write(&file, &text).unwrap();
        let verify = |args: &[&str], variable: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            command
                .args(["audit", "verify"])
                .arg(night.world.fleet_file())
                .arg("--state")
                .arg(night.state())
                .args(args);
            command.env("DRIFTSWEEP_STORE", &night.store).env("DRIFTSWEEP_EXPECT", variable).output().unwrap()
        };
        let (right, other) = (text.split(' ').next().unwrap(), format!("{}:{}", head.0, "0".repeat(64)));
        let later = format!("{}:{}", head.0 + 99, head.1);
        assert_eq!(verify(&["--checkpoint", &kept], "").status.code(), Some(0));
        for (value, code) in [(right, 0), (&*other, 15), (&*later, 15), ("0:", 2), ("7:", 2), ("0:00", 2), ("x", 2)] {
            assert_eq!(verify(&["--expect", value], "").status.code(), Some(code), "{value}");
            assert_eq!(verify(&[], value).status.code(), Some(code), "{value}");
        }
        // Emptied.
        let copy = night.keep();
        for table in night.tables().keys() {
            sql(&night.store, &format!("DELETE FROM {table} WHERE fleet = '{name}'"));
        }
        let refused = tick("2026-01-03T03:07:00Z", &kept);
        assert_eq!(refused.status.code(), Some(15), "{}", all_output(&refused));
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "the checkpoint stays");
        assert!(night.open().is_new().unwrap(), "nothing was done");
        // Without a checkpoint what a training has left tells.
        let runs = night.state().join("jobs/x/1");
        fs::create_dir_all(&runs).unwrap();
        let refused = night.ticked("2026-01-03T03:07:00Z");
        assert_eq!(refused.status.code(), Some(15), "{}", all_output(&refused));
        assert!(all_output(&refused).contains("holds its trainings"), "{}", all_output(&refused));
        fs::remove_dir_all(night.state().join("jobs")).unwrap();
        // Written anew: whole in itself, and not the one that was seen.
        night.tick("2026-01-03T03:08:00Z");
        assert_eq!(verify(&[], "").status.code(), Some(0));
        assert_eq!(verify(&["--checkpoint", &kept], "").status.code(), Some(15));
        assert_eq!(tick("2026-01-03T03:09:00Z", &kept).status.code(), Some(15));
        copy.restore_all();
        assert!(tick("2026-01-03T03:09:00Z", &kept).status.success());
    }
}

#[test]
fn a_store_of_an_older_version_is_taken_as_it_is_found_and_what_changes_from_then_on_is_found() {
    for night in Night::all() {
        let name = night.name();
        make_older(&night.store, &name);
        let before = night.open().verify_audit(&[]).unwrap();
        assert_eq!((before.problems, before.rows), (Vec::new(), 0), "nothing is said of its rows");
        assert!(before.not_covered > 10);
        night.tick("2026-01-03T03:05:00Z");
        let verified = night.open().verify_audit(&[]).unwrap();
        assert_eq!(verified.problems, Vec::<String>::new());
        assert!(verified.not_covered > 0, "conclusions of older sweeps have no hash");
        let id = night.id("model-00000");
        for statement in [
            format!("UPDATE model SET trained = 5 WHERE fleet = '{name}'"),
            format!("UPDATE job SET state = 'queued' WHERE fleet = '{name}' AND id = '{id}'"),
            format!("UPDATE event SET body = '{{}}' WHERE fleet = '{name}' AND id = '{id}'"),
            format!("DELETE FROM firing WHERE fleet = '{name}'"),
        ] {
            let kept = night.keep();
            assert!(sql(&night.store, &statement) > 0, "{statement}");
            assert_ne!(night.problems(), Vec::<String>::new(), "{statement}");
            kept.restore_all();
        }
        // Its jobs go on. Of a question in an older store it is not known whether it was asked at the real time, so it is
        // taken to have been; the next level is asked in a replayed night.
        let refused = night.answer("approve", "model-00000", "2026-01-03T03:10:00Z");
        assert!(all_output(&refused).contains("leave out --now"), "{}", all_output(&refused));
        night.tick("2026-01-03T07:00:00Z");
        let given = night.answer_by("cto", "approve", "model-00000", "2026-01-03T07:10:00Z");
        assert!(given.status.success(), "{}", all_output(&given));
        night.tick("2026-01-03T07:11:00Z");
        assert!(night.state().join("jobs").join(&id).exists());
        assert_eq!(night.problems(), Vec::<String>::new());
    }
}

/// How long a check takes that comes before a start: `DRIFTSWEEP_TEST_RECORDS` [default: 2000] records.
#[test]
fn a_long_audit_is_checked_before_a_start_and_read_on_from_there() {
    let records: usize = std::env::var("DRIFTSWEEP_TEST_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let yard = Yard::new(&["m".into()], "");
    for place in yard.stores() {
        let mut store = open(&place, &yard.fleet);
        let now: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let all: Vec<usize> = (0..records).collect();
        let begun = Instant::now();
        for some in all.chunks(100) {
            store
                .transaction(|store| {
                    // What a sweep concludes of a model is in the records, too.
                    let as_of = now + SignedDuration::from_hours(some[0] as i64);
                    let (model, data_hash, body) = ("m".to_owned(), "0".repeat(64), "{}".repeat(500));
                    store.add_verdict(&StoredVerdict { model: model.clone(), as_of, data_hash, body })?;
                    let [window, segment, feature] = ["today", "all", "f"].map(str::to_owned);
                    store.add_hit(&LimitExceeded { model, as_of, window, segment, feature })?;
                    for i in some {
                        let body = json!({ "step": "x", "model": "m", "reason": "a sentence of a usual length", "cost": "12.50" });
                        store.set_reported_not_judged("m", now)?;
                        store.append_audit(now, "driftsweep", "test.record", &format!("subject {i}"), body)?;
                    }
                    Ok(())
                })
                .unwrap();
        }
        let written = begun.elapsed();
        let mut timed = |check: &mut dyn FnMut(&mut Store)| {
            let begun = Instant::now();
            check(&mut store);
            begun.elapsed()
        };
        let mut before_start =
            |store: &mut Store| assert_eq!(store.start_blockers(now).unwrap(), StartBlockers::default());
        let starts = [timed(&mut before_start), timed(&mut before_start)];
        let mut before_event = |store: &mut Store| {
            let (_, doubts) = store.read_to_decide(|_| Ok(((), now))).unwrap();
            assert_eq!(doubts, StartBlockers::default());
        };
        let events = [timed(&mut before_event), timed(&mut before_event)];
        let verify = timed(&mut |store| {
            let verified = store.verify_audit(&[]).unwrap();
            assert_eq!((verified.records, verified.problems), (records as u64, Vec::new()));
        });
        eprintln!(
            "{records} records in {}, written in {written:.2?}: before a start {:.2?}, and again {:.2?}; before an event {:.2?}, and \
             again {:.2?}; the whole store {verify:.2?}",
            if place.starts_with("postgres") { "PostgreSQL" } else { "SQLite" },
            starts[0],
            starts[1],
            events[0],
            events[1],
        );
    }
}

#[test]
fn a_night_of_a_thousand_models_is_one_record_of_moderate_size_and_every_conclusion_is_in_it() {
    let yard = Yard::new(&["m".into()], "");
    for place in yard.stores() {
        let mut store = open(&place, &yard.fleet);
        let as_of: Timestamp = "2026-03-02T02:00:00Z".parse().unwrap();
        let body =
            json!({ "drift": { "columns": vec![json!({ "feature": "a feature", "psi": 0.123 }); 40] } }).to_string();
        let begun = Instant::now();
        store
            .transaction(|store| {
                for i in 0..1000 {
                    let model = format!("model-{i:05}");
                    store.register_models([&*model].into_iter(), as_of)?;
                    let (data_hash, body) = ("0".repeat(64), body.clone());
                    store.add_verdict(&StoredVerdict { model: model.clone(), as_of, data_hash, body })?;
                    for feature in 0..5 {
                        let [window, segment] = ["today", "all"].map(str::to_owned);
                        let (model, feature) = (model.clone(), format!("feature-{feature}"));
                        store.add_hit(&LimitExceeded { model, as_of, window, segment, feature })?;
                    }
                    store.set_judged(&model, as_of)?;
                }
                Ok(())
            })
            .unwrap();
        let took = begun.elapsed();
        let record = store.last_record("store", &["store.write"]).unwrap().unwrap();
        let size = record.writes.unwrap().len();
        eprintln!("1000 models: a record of {size} bytes; written with all its rows in {took:?}");
        assert!(size < 400_000, "{size}");
        let verified = store.verify_audit(&[]).unwrap();
        assert_eq!((verified.records, verified.problems), (1, Vec::new()));
        let name = &yard.fleet.name;
        sql(
            &place,
            &format!(
                "UPDATE hit SET feature = 'x' WHERE fleet = '{name}' AND model = 'model-00777' AND feature = 'feature-4'"
            ),
        );
        let found = store.verify_audit(&[]).unwrap().problems;
        assert!(found.len() == 1 && found[0].contains("model 'model-00777'"), "{found:?}");
    }
}
