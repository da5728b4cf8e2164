//! What is done about a store that is not what its audit says, and what is no reason to do anything: problems that a person
//! accepts, runs of earlier months, figures that were forgotten, an older version that still writes; on both stores.

use std::fs;
use std::process::Output;
use std::time::Duration;

use driftsweep_extensions::http::Http;
use driftsweep_ops::store::{Firing, MeasurementRecord, Record, Store, StoredVerdict};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::at;
use crate::support::jobs::{Yard, add_event, open, pass, sql};
use crate::support::needs::postgres;
use crate::support::night::{Night, trained};
use crate::support::output::all_output;

/// What `audit verify` finds, as JSON, with its exit code.
fn verified(night: &Night) -> (Option<i32>, Value) {
    let output = night.run(&["audit", "verify", "--format", "json"]);
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", all_output(&output)));
    (output.status.code(), found)
}

fn head(found: &Value) -> String {
    format!("{}:{}", found["head"][0], found["head"][1].as_str().unwrap())
}

fn accept(night: &Night, head: &str, more: &[&str]) -> Output {
    let args = ["audit", "accept", "--by", "ana", "--reason", "a clean-up", "--head", head];
    night.run(&[&args[..], more].concat())
}

/// What becomes of the job that waits for an answer when the store is accepted.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    /// It is started once it is approved.
    Starts,
    /// It is not, and has to be called off.
    Held,
    /// Its row is gone: it is asked for anew.
    Anew,
}

#[test]
fn whatever_is_wrong_can_be_accepted_and_starts_no_job_that_was_in_doubt() {
    for night in Night::all() {
        trained(&night);
        let (name, store) = (night.name(), &night.store);
        let id = night.id("model-00001");
        let last = night.open().audit_head().unwrap().unwrap().0;
        let of = |what: &str| format!("{what} WHERE fleet = '{name}'");
        let queued = json!({ "state": "queued", "not_before": "2026-01-03T03:00:00Z" });
        let mut other = night.jobs()["model-00001"].clone();
        other["id"] = "added".into();
        other["state"].clone_from(&queued);
        let other = other.to_string().replace('\'', "''");
        let added = format!(
            "INSERT INTO job (fleet, id, model, state, requested_at, version, body) SELECT fleet, 'added', model, 'queued', \
             requested_at, version, '{other}' FROM job WHERE fleet = '{name}' AND id = '{id}'"
        );
        let (starts, held, anew) = (Then::Starts, Then::Held, Then::Anew);
        let causes: Vec<(&str, String, Then)> = vec![
            ("runs cleaned up", of("DELETE FROM run") + " AND ended_at IS NOT NULL", starts),
            ("a run edited", of("UPDATE run SET cost = 1"), starts),
            ("a record deleted", of("DELETE FROM audit") + " AND seq = 2", held),
            ("a record edited", of("UPDATE audit SET actor = 'x'") + " AND seq = 3", held),
            ("a record of no JSON", of("UPDATE audit SET body = '{'") + " AND seq = 2", held),
            ("writes of no JSON", of("UPDATE audit SET writes = '{'") + " AND seq = 1", held),
            ("the last record of no JSON", of("UPDATE audit SET body = '{'") + &format!(" AND seq = {last}"), held),
            ("the end cut off", of("DELETE FROM audit") + &format!(" AND seq > {}", last - 2), held),
            ("the end noted otherwise", of("UPDATE audit_head SET hash = 'x'"), held),
            ("the end noted further on", of("UPDATE audit_head SET seq = 9000000000000000000"), held),
            ("the audit emptied", of("DELETE FROM audit"), held),
            ("a model edited", of("UPDATE model SET trained = 5") + " AND name = 'model-00001'", held),
            ("another model edited", of("UPDATE model SET trained = 5") + " AND name = 'model-00000'", starts),
            ("an event edited", of("UPDATE event SET body = '{}'") + &format!(" AND id = '{id}'"), held),
            ("a firing deleted", of("DELETE FROM firing") + " AND model = 'model-00001'", held),
            ("a verdict edited", of("UPDATE verdict SET data_hash = 'x'"), starts),
            ("verdicts deleted", of("DELETE FROM verdict"), starts),
            ("a sweep deleted", of("DELETE FROM sweep"), starts),
            ("a job added", added, starts),
            ("a job edited", of("UPDATE job SET version = 99") + &format!(" AND id = '{id}'"), held),
            ("a job of no JSON", of("UPDATE job SET body = '{'") + &format!(" AND id = '{id}'"), held),
            ("a job deleted", of("DELETE FROM job") + &format!(" AND id = '{id}'"), anew),
            ("a misfit", String::new(), held),
            ("a step that was not allowed", String::new(), held),
        ];
        let kept = night.keep();
        for (n, (what, statement, then)) in causes.into_iter().enumerate() {
            *night.state.borrow_mut() = night.world.folder.path().join(format!("state{n}"));
            match what {
                "a misfit" => {
                    sql(store, &(of("UPDATE model SET scheduled = 1, schedule = 'x'") + " AND name = 'model-00001'"));
                    let set = |store: &mut Store| store.set_scheduled("model-00001", "y", at("2026-01-03T03:00:00Z"));
                    night.open().transaction(set).unwrap();
                }
                "a step that was not allowed" => {
                    let by = json!({ "person": "eve" });
                    let grant = json!({ "by": by, "reason": "x", "at": "2026-01-03T03:20:00Z", "overruns": [] });
                    let body = json!({ "step": "approve", "grant": grant });
                    let time = at("2026-01-03T03:20:00Z");
                    night.open().append_audit(time, "eve", "job.approve", &id, body).unwrap();
                }
                _ => assert!(sql(store, &statement) > 0, "{what}: {statement}"),
            }
            let found = night.run(&["audit", "verify"]);
            assert_eq!(found.status.code(), Some(15), "{what}: {}", all_output(&found));
            assert!(all_output(&found).contains("driftsweep audit accept"), "{what}: {}", all_output(&found));
            let (_, before) = verified(&night);
            let problems = before["problems"].as_array().unwrap().len();
            // Nobody accepts what has not been looked at.
            let refused = accept(&night, &format!("1:{}", "0".repeat(64)), &[]);
            assert_eq!(refused.status.code(), Some(2), "{what}: {}", all_output(&refused));
            assert!(all_output(&refused).contains("is not the last record"), "{what}: {}", all_output(&refused));
            assert_eq!(verified(&night), (Some(15), before.clone()), "{what}");
            let file = night.world.folder.path().join(format!("checkpoints/{n}"));
            let done = accept(&night, &head(&before), &["--checkpoint", &file.display().to_string()]);
            assert!(done.status.success(), "{what}: {}", all_output(&done));
            for problem in before["problems"].as_array().unwrap() {
                assert!(
                    all_output(&done).contains(problem.as_str().unwrap()),
                    "{what}: {problem} {}",
                    all_output(&done)
                );
            }
            let (code, after) = verified(&night);
            assert_eq!((code, &after["problems"]), (Some(0), &json!([])), "{what}: {after}");
            assert!(fs::read_to_string(&file).unwrap().starts_with(&format!("{} ", head(&after))), "{what}");
            let page = all_output(&night.run(&["audit", "verify"]));
            assert!(page.contains(&format!("accepted: {problems} problems by ana on ")), "{what}: {page}");
            let again = accept(&night, &head(&after), &[]);
            assert!(
                again.status.success() && all_output(&again).contains("nothing to accept"),
                "{what}: {}",
                all_output(&again)
            );
            // What is edited from then on is found.
            sql(store, &of("UPDATE model SET first_seen = first_seen + 1"));
            assert_eq!(verified(&night).0, Some(15), "{what}");
            sql(store, &of("UPDATE model SET first_seen = first_seen - 1"));
            assert_eq!(verified(&night).0, Some(0), "{what}");
            // Whoever is asked may still answer.
            let answer = |now: &str, more: &[&str]| {
                let answer = ["approve", &id, "--by", "ana", "--reason", "x", "--now", now];
                all_output(&night.run(&[&answer, more].concat()))
            };
            let mut answered = answer("2026-01-03T03:59:00Z", &[]);
            night.ticked("2026-01-03T04:00:00Z");
            // What the first training has left of the budget is not enough.
            answered += &answer("2026-01-03T04:10:00Z", &["--overrun", "100"]);
            let ticked = night.ticked("2026-01-03T04:11:00Z");
            let started = night.state().join("jobs").join(&id).exists();
            assert_eq!(started, then == Then::Starts, "{what}: {answered} {}", all_output(&ticked));
            assert!(!night.state().join("jobs/added").exists(), "{what}: {}", all_output(&ticked));
            let held: Vec<&str> = match (then, what) {
                (Then::Held, _) => vec![&id],
                (_, "a job added") => vec!["added"],
                _ => vec![],
            };
            for id in held {
                assert!(page.contains(&format!("not started: job {id} ")), "{what}: {page}");
                let called_off =
                    night.run(&["jobs", "cancel", id, "--by", "ana", "--reason", "x", "--now", "2026-01-03T04:12:00Z"]);
                assert!(called_off.status.success(), "{what}: {}", all_output(&called_off));
            }
            if then != Then::Starts {
                let ticked = night.ticked("2026-01-03T04:13:00Z");
                assert!(matches!(ticked.status.code(), Some(0 | 11)), "{what}: {}", all_output(&ticked));
            }
            let (code, end) = verified(&night);
            assert_eq!((code, &end["problems"]), (Some(0), &json!([])), "{what}: {end}");
            assert!(end.get("not_started").is_none(), "{what}: {end}");
            kept.restore_all();
        }
    }
}

#[test]
fn a_store_that_is_not_the_one_of_the_checkpoint_can_be_accepted_with_it() {
    for night in Night::all() {
        let file = night.world.folder.path().join("kept/checkpoint");
        let checkpoint = ["--checkpoint", &file.display().to_string()].map(str::to_owned);
        let checkpoint: Vec<&str> = checkpoint.iter().map(String::as_str).collect();
        let run = |args: &[&str]| night.run(&[args, &checkpoint].concat());
        let tick = ["tick", "--threads", "1", "--now", "2026-01-03T03:05:00Z"];
        assert!(run(&tick).status.success());
        // Another last record than this store has, which is whole in itself.
        let seq = night.open().audit_head().unwrap().unwrap().0;
        fs::write(&file, format!("{seq}:{}\n", "0".repeat(64))).unwrap();
        let refused = run(&tick);
        assert_eq!(refused.status.code(), Some(15), "{}", all_output(&refused));
        assert_eq!(run(&["audit", "verify"]).status.code(), Some(15));
        let (code, found) = verified(&night);
        assert_eq!(code, Some(0));
        let done = accept(&night, &head(&found), &checkpoint);
        assert!(
            done.status.success() && all_output(&done).contains("1 problems are accepted"),
            "{}",
            all_output(&done)
        );
        assert_eq!(run(&["audit", "verify"]).status.code(), Some(0));
        assert!(run(&tick).status.success());
        let (_, found) = verified(&night);
        assert_eq!(found["not_started"].as_array().unwrap().len(), 2, "{found}");
    }
}

#[test]
fn an_acceptance_that_was_edited_accepts_nothing() {
    for night in Night::all() {
        let name = night.name();
        sql(&night.store, &format!("UPDATE model SET trained = 5 WHERE fleet = '{name}'"));
        // A record of another kind made into one.
        sql(&night.store, &format!("UPDATE audit SET kind = 'store.accept' WHERE fleet = '{name}' AND seq = 2"));
        let found = night.problems();
        assert!(found.iter().any(|problem| problem.starts_with("record 2 (store.accept")), "{found:?}");
        assert!(found.iter().any(|problem| problem.contains("column trained")), "{found:?}");
    }
}

#[test]
fn runs_that_ended_in_an_earlier_month_stop_no_start_and_are_named_by_verify() {
    let yard = Yard::new(
        &["one".into(), "two".into()],
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ncommand = [\"true\"]\n",
    );
    let http = Http::new().unwrap();
    for store in yard.stores() {
        let (fleet, state) = yard.in_store(&store);
        let name = &fleet.name;
        let pass = |now: &str| pass(&fleet, &store, &state, &http, at(now), &mut |_| ());
        let id = |what: &str| format!("{what}-{name}");
        add_event(&mut open(&store, &fleet), &id("january"), "one", at("2026-01-15T00:00:00Z"));
        for minute in 10..59 {
            pass(&format!("2026-01-15T00:{minute}:00Z"));
            if open(&store, &fleet).jobs(&id("january")).unwrap()[0].job.state.name() == "succeeded" {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let doubts = |since: &str| open(&store, &fleet).start_blockers(at(since)).unwrap().all.len();
        let [this_month, next_month] = ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"];
        assert_eq!(doubts(this_month), 0);
        // Whether a run has ended, and when it was started, is not for the row alone to say.
        for (edit, next) in
            [("cost = 7", 0), ("started_at = 1", 0), ("ended_at = NULL", 1), ("started_at = 1, ended_at = 2", 0)]
        {
            sql(&store, &format!("CREATE TABLE kept_run AS SELECT * FROM run WHERE fleet = '{name}'"));
            assert_eq!(sql(&store, &format!("UPDATE run SET {edit} WHERE fleet = '{name}'")), 1);
            assert_eq!((doubts(this_month), doubts(next_month)), (1, next), "{edit}");
            sql(&store, &format!("DELETE FROM run WHERE fleet = '{name}'"));
            sql(&store, "INSERT INTO run SELECT * FROM kept_run");
            sql(&store, "DROP TABLE kept_run");
        }
        assert_eq!(sql(&store, &format!("DELETE FROM run WHERE fleet = '{name}' AND ended_at IS NOT NULL")), 1);
        let found = open(&store, &fleet).verify_audit(&[]).unwrap().problems;
        assert!(found.len() == 1 && found[0].contains("table run") && found[0].contains("was deleted"), "{found:?}");
        add_event(&mut open(&store, &fleet), &id("two"), "two", at("2026-01-30T00:00:00Z"));
        let passed = pass("2026-01-30T00:00:00Z");
        assert_eq!((passed.tampered.len(), &*passed.jobs[&id("two")]), (1, "queued"), "{passed:?}");
        let passed = pass("2026-02-01T00:00:00Z");
        assert_eq!((passed.tampered.len(), &*passed.jobs[&id("two")]), (0, "running"), "{passed:?}");
    }
}

#[test]
fn figures_that_were_forgotten_stay_so_when_a_trigger_fires_for_their_time_later() {
    let yard = Yard::new(&["m".into()], "");
    for place in yard.stores() {
        let mut store = open(&place, &yard.fleet);
        let name = &yard.fleet.name;
        let [first, second] = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"].map(at);
        let firing = |due: Timestamp, trigger: &str| Firing {
            model: "m".into(),
            trigger: trigger.into(),
            due,
            outcome: "muted".into(),
            event: None,
            reason: "x".into(),
        };
        store
            .transaction(|store| {
                store.register_models(["m"].into_iter(), first)?;
                for as_of in [first, second] {
                    let (data_hash, body) = ("h".into(), "{}".into());
                    store.add_verdict(&StoredVerdict { model: "m".into(), as_of, data_hash, body })?;
                }
                // By the figures of the second a trigger fires at once.
                store.add_firing(&firing(second, "drift"))
            })
            .unwrap();
        store.transaction(|store| store.delete_figures(at("2026-01-08T00:00:00Z"))).unwrap();
        let problems = |store: &mut Store| store.verify_audit(&[]).unwrap().problems;
        assert_eq!(problems(&mut store), Vec::<String>::new());
        store.transaction(|store| store.add_firing(&firing(first, "schedule"))).unwrap();
        assert_eq!(problems(&mut store), Vec::<String>::new());
        // What is forgotten later changes nothing about that.
        store.transaction(|store| store.delete_figures(at("2026-01-09T00:00:00Z"))).unwrap();
        assert_eq!(problems(&mut store), Vec::<String>::new());
        let set = |as_of: Timestamp, body: &str| {
            let time = as_of.as_microsecond();
            sql(&place, &format!("UPDATE verdict SET body = '{body}' WHERE fleet = '{name}' AND as_of = {time}"));
        };
        for (as_of, body, wrong) in
            [(second, "", 1), (second, "{}", 0), (first, "{\"a\":1}", 1), (first, "{}", 0), (first, "", 0)]
        {
            set(as_of, body);
            assert_eq!(problems(&mut store).len(), wrong, "{as_of} {body}");
        }
        // A sweep that is judged again begins anew.
        store
            .transaction(|store| {
                store.delete_conclusions("m", first)?;
                let body = "{\"b\":2}".into();
                store.add_verdict(&StoredVerdict { model: "m".into(), as_of: first, data_hash: "h".into(), body })
            })
            .unwrap();
        assert_eq!(problems(&mut store), Vec::<String>::new());
        store.transaction(|store| store.delete_figures(at("2026-01-09T00:00:00Z"))).unwrap();
        assert_eq!(problems(&mut store), Vec::<String>::new());
    }
}

/// Writes a record as an older version does: without the real clock, and without the rows that were written with it.
fn write_as_older(night: &Night, kind: &str) {
    let (seq, previous) = night.open().audit_head().unwrap().unwrap();
    let mut record = Record {
        seq: seq + 1,
        at: at("2026-01-03T03:30:00Z"),
        actor: "driftsweep".into(),
        kind: kind.into(),
        subject: "model-00000".into(),
        body: json!({}),
        clock_at: None,
        writes: None,
        previous,
        hash: String::new(),
    };
    record.hash = record.expected_hash().unwrap();
    let (name, Record { seq, at, actor, kind, subject, previous, hash, .. }) = (night.name(), record);
    let at = at.as_microsecond();
    sql(
        &night.store,
        &format!(
            "INSERT INTO audit (fleet, seq, at, actor, kind, subject, body, previous, hash) VALUES ('{name}', {seq}, {at}, \
             '{actor}', '{kind}', '{subject}', '{{}}', '{previous}', '{hash}')"
        ),
    );
    sql(&night.store, &format!("UPDATE audit_head SET seq = {seq}, hash = '{hash}' WHERE fleet = '{name}'"));
}

#[test]
fn an_older_version_that_still_writes_during_an_upgrade_raises_no_alarm_and_that_is_said() {
    for night in Night::all() {
        let (name, store) = (night.name(), &night.store);
        let model = |set: &str| sql(store, &format!("UPDATE model SET {set} WHERE fleet = '{name}'"));
        for round in 1..3u64 {
            model(&format!("judged = {round}, trained = {round}"));
            sql(store, &format!("UPDATE verdict SET data_hash = 'older{round}' WHERE fleet = '{name}'"));
            assert_ne!(night.problems(), Vec::<String>::new());
            write_as_older(&night, "model.note");
            let older = night.open().audit_head().unwrap().unwrap().0;
            let (code, before) = verified(&night);
            assert_eq!((code, &before["rows"]), (Some(0), &json!(0)), "nothing is said of its rows: {before}");
            night.tick(&format!("2026-01-03T03:4{round}:00Z"));
            let (code, after) = verified(&night);
            assert_eq!((code, &after["problems"]), (Some(0), &json!([])), "{after}");
            let noted = &after["noted_again"][round as usize - 1];
            assert_eq!((&noted["after"], &noted["record"]), (&json!(older), &json!(older + 1)), "{after}");
            let page = all_output(&night.run(&["audit", "verify"]));
            assert!(
                page.contains(&format!("recorded again: an older version of driftsweep wrote up to record {older}")),
                "{page}"
            );
        }
        for statement in [
            format!("UPDATE model SET trained = 5 WHERE fleet = '{name}'"),
            format!("UPDATE job SET state = 'queued' WHERE fleet = '{name}'"),
            format!("DELETE FROM firing WHERE fleet = '{name}'"),
        ] {
            let kept = night.keep();
            assert!(sql(store, &statement) > 0, "{statement}");
            assert_ne!(night.problems(), Vec::<String>::new(), "{statement}");
            kept.restore_all();
        }
        // The body of an event never changes: it is compared with what was known before, too.
        let kept = night.keep();
        sql(store, &format!("UPDATE event SET body = '{{}}' WHERE fleet = '{name}'"));
        write_as_older(&night, "model.note");
        night.ticked("2026-01-03T03:45:00Z");
        let found = night.problems();
        assert!(
            found.iter().any(|problem| problem.contains("table event") && problem.contains("column body")),
            "{found:?}"
        );
        kept.restore_all();
        // A record of this version that is made to look like an older one is an edited record.
        model("trained = 7");
        let last = night.open().audit_head().unwrap().unwrap().0;
        sql(store, &format!("UPDATE audit SET clock_at = NULL WHERE fleet = '{name}' AND seq = {last}"));
        night.ticked("2026-01-03T03:46:00Z");
        let found = night.problems();
        assert!(found.iter().any(|problem| problem.starts_with(&format!("record {last} "))), "{found:?}");
    }
}

#[test]
fn what_is_judged_by_the_clock_of_a_transaction_has_the_time_of_its_record() {
    let yard = Yard::new(&["m".into()], "");
    for place in yard.stores() {
        let mut store = open(&place, &yard.fleet);
        let now = Timestamp::now();
        let judged = store
            .transaction(|store| {
                let clock = store.clock()?;
                std::thread::sleep(Duration::from_millis(1100));
                store.append_audit(now, "ana", "test.record", "x", json!({}))?;
                Ok(clock)
            })
            .unwrap();
        let record = store.last_record("x", &["test.record"]).unwrap().unwrap();
        assert_eq!(record.clock_at, Some(judged));
        assert!(store.clock().unwrap() > judged, "outside of a transaction it goes on");
    }
}

#[test]
fn a_figure_of_minus_zero_is_no_edit() {
    let yard = Yard::new(&["m".into()], "");
    for place in yard.stores() {
        let mut store = open(&place, &yard.fleet);
        let now = at("2026-01-01T00:00:00Z");
        let (model, kind, metric) = ("m".to_owned(), "realised".to_owned(), "r2".to_owned());
        let entry = MeasurementRecord {
            model,
            as_of: now,
            kind,
            metric,
            since: now,
            before: now,
            rows: 1,
            value: -0.0,
            low: -0.0,
            high: -0.0,
        };
        store.transaction(|store| store.add_quality(&entry)).unwrap();
        assert_eq!(store.verify_audit(&[]).unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn a_run_whose_model_is_not_in_the_fleet_file_any_more_holds_up_no_cancelling() {
    for night in Night::all() {
        trained(&night);
        let (name, id) = (night.name(), night.id("model-00000"));
        sql(&night.store, &format!("DELETE FROM run WHERE fleet = '{name}'"));
        night.open().transaction(|store| store.restore_runs(&id, None)).unwrap();
        assert_eq!(night.open().runs_of(&id).unwrap().len(), 0);
        let fleet = night.world.fleet();
        let retrain = fleet.models[0].retrain.as_ref();
        night.open().transaction(|store| store.restore_runs(&id, retrain)).unwrap();
        assert_eq!(night.open().runs_of(&id).unwrap().len(), 1);
    }
}

#[test]
fn a_training_that_has_succeeded_is_recorded_so_after_a_backup_of_before_was_restored() {
    for night in Night::all() {
        let kept = night.keep();
        trained(&night);
        let folder = night.state().join("jobs").join(night.id("model-00000"));
        let result = fs::read(folder.join("1/result.json")).unwrap();
        kept.restore_all();
        assert_eq!(night.jobs()["model-00000"]["state"]["state"], "awaiting_approval");
        // It is allowed once more. It has run already, and is not run again: its own result counts.
        trained(&night);
        assert_eq!(fs::read(folder.join("1/result.json")).unwrap(), result);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(night.jobs()["model-00000"]["spent"], json!(165.0));
        assert_eq!(night.problems(), [""; 0]);
        drop(kept);
    }
}

#[test]
fn a_lock_that_was_waited_for_in_vain_leaves_a_store_that_can_be_used() {
    let Some(server) = postgres() else { return };
    let fleet = format!("waits{}", std::process::id());
    let (begun, has_begun) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            Store::open(&server, &fleet).unwrap().transaction(|_| {
                begun.send(()).unwrap();
                std::thread::sleep(Duration::from_secs(63));
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        let mut store = Store::open(&server, &fleet).unwrap();
        let refused = store.transaction(|_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains("lock timeout"), "{refused}");
        holder.join().unwrap().unwrap();
        let now = Timestamp::now();
        store.transaction(|store| store.register_models(["m"].into_iter(), now)).unwrap();
        // What was written is there for others.
        assert_eq!(Store::open(&server, &fleet).unwrap().known().unwrap().len(), 1);
    });
}

#[test]
fn a_store_whose_writer_was_killed_is_read_at_once() {
    let night = Night::all().remove(0);
    let store = night.store.clone();
    let journal = format!("{store}-journal");
    trained(&night);
    // The files as they are while a transaction writes: what a process leaves that is killed then.
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let copies = runtime.block_on(async {
        use sqlx::{AnyConnection, Connection, Executor};
        let mut connection = AnyConnection::connect(&format!("sqlite://{store}")).await.unwrap();
        for statement in ["PRAGMA cache_size = 1", "BEGIN IMMEDIATE", "UPDATE audit SET kind = 'none'"] {
            connection.execute(statement).await.unwrap();
        }
        [&store, &journal].map(|path| fs::read(path).unwrap())
    });
    for args in [&["status"][..], &["audit", "verify"], &["jobs", "list"], &["events", "list"]] {
        for (path, bytes) in [&store, &journal].into_iter().zip(&copies) {
            fs::write(path, bytes).unwrap();
        }
        let output = night.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", all_output(&output));
    }
}
