//! Rows that are edited while a pass over the jobs is under way, and put back before it ends, at every moment that there is
//! between two steps; on both stores. What the audit does not say starts nothing and reaches no other place.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use driftsweep_extensions::http::Http;
use driftsweep_ops::scheduler::PassSummary;
use driftsweep_ops::store::Store;
use serde_json::{Value, json};

use crate::support::jobs::{pass, sql};
use crate::support::night::{Kept, Night, ask, trained};
use crate::support::output::all_output;
use crate::support::server;
use crate::support::server::answer;
use crate::support::world::World;

/// What is edited, and which rows are put back.
struct Edit {
    what: &'static str,
    statements: Vec<String>,
    rows: Vec<(&'static str, String)>,
}

/// Runs passes in which the rows are edited before one step and put back before a later one, for all pairs of steps; each from
/// the same store. `is_harmless` fails if the edit has had an effect.
fn at_every_moment(night: &Night, kept: &Kept<'_>, now: &str, edit: &Edit, is_harmless: &dyn Fn(&str)) {
    let (http, fleet) = (Http::new().unwrap(), night.world.fleet());
    let put_back = || edit.rows.iter().for_each(|(table, condition)| kept.put_back(table, condition));
    let mut trials = 0;
    for first in 0.. {
        let mut steps = 0;
        for last in first + 1.. {
            kept.restore_all();
            trials += 1;
            *night.state.borrow_mut() = night.world.folder.path().join(format!("{} {trials}", edit.what));
            let mut names = Vec::new();
            let mut step = |name: &str| {
                if names.len() == first {
                    edit.statements
                        .iter()
                        .for_each(|statement| assert!(sql(&night.store, statement) > 0, "{statement}"));
                }
                if names.len() == last {
                    put_back();
                }
                names.push(name.to_owned());
            };
            let passed: PassSummary =
                pass(&fleet, &night.store, &night.state(), &http, now.parse().unwrap(), &mut step);
            let moment = format!("{} before step {first} and put back before step {last} of {names:?}", edit.what);
            is_harmless(&moment);
            steps = names.len();
            if last >= steps {
                // Nobody has put it back: if it was edited before anything was read, that is told.
                assert!(first > 0 || !passed.tampered.is_empty(), "{moment}: {passed:?}");
                break;
            }
        }
        if first + 1 >= steps {
            break;
        }
    }
    kept.restore_all();
    assert!(trials > 3, "{}: {trials} moments", edit.what);
}

fn in_store(which: usize, models: usize, extra: &str) -> Night {
    let world = World::new(models, extra);
    let store = match which {
        0 => world.folder.path().join("store.sqlite").display().to_string(),
        _ => world.stores()[which].clone(),
    };
    let state = RefCell::new(world.folder.path().join("state"));
    Night { world, store, state }
}

/// A fleet that trains by a webhook which takes no run for the time being.
fn by_webhook(which: usize) -> Night {
    let url = server::http(|request| match &*request.method {
        "POST" => answer(503, "busy"),
        _ => answer(404, "unknown"),
    });
    let extra = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n[defaults.retrain]\nretries = 0\nwebhook = {{ url = \"{url}\" }}\n"
    );
    in_store(which, 1, &extra)
}

/// The training settings that an attacker who can write the store would put into a row.
fn with_command(retrain: &str, marker: &Path) -> String {
    let mut retrain: Value = serde_json::from_str(retrain).unwrap();
    retrain["executor"] = json!({ "Command": {
        "arguments": ["touch", marker.display().to_string()], "folder": "", "log_bytes": 1_000_000, "env": ["PGPASSWORD"],
    } });
    retrain.to_string().replace('\'', "''")
}

#[test]
fn the_row_of_a_run_that_was_edited_and_put_back_starts_no_command() {
    let stores = World::new(1, "").stores().len();
    for which in 0..stores {
        let night = by_webhook(which);
        for day in ["2026-01-02", "2026-01-03"] {
            night.tick(&format!("{day}T03:00:00Z"));
        }
        let (name, id) = (night.name(), night.id("model-00000"));
        assert_eq!(night.jobs()["model-00000"]["state"]["state"], "running");
        let retrain = &ask(&night.store, &format!("SELECT retrain FROM run WHERE fleet = '{name}'"), 1)[0][0];
        let marker = night.world.folder.path().join("marker");
        let evil = with_command(retrain, &marker);
        let kept = night.keep();
        let edit = Edit {
            what: "settings of a run",
            statements: vec![format!("UPDATE run SET retrain = '{evil}' WHERE fleet = '{name}' AND job = '{id}'")],
            rows: vec![("run", format!("job = '{id}'"))],
        };
        at_every_moment(&night, &kept, "2026-01-03T03:01:00Z", &edit, &|moment| {
            assert!(!night.state().join("jobs").exists(), "{moment}: a command was started");
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!marker.exists());
    }
}

#[test]
fn a_store_that_rewrites_the_row_of_a_run_while_it_is_recorded_starts_no_command() {
    let night = by_webhook(0);
    night.tick("2026-01-02T03:00:00Z");
    let marker = night.world.folder.path().join("marker");
    // The settings as the fleet file has them: only their executor differs.
    let retrain = night.world.fleet().models[0].retrain.clone().unwrap();
    let evil = with_command(&serde_json::to_string(&retrain).unwrap(), &marker);
    sql(
        &night.store,
        &format!(
            "CREATE TRIGGER rewrite AFTER INSERT ON run BEGIN UPDATE run SET retrain = '{evil}' WHERE fleet = new.fleet AND job = \
             new.job; END"
        ),
    );
    for minute in 0..2 {
        let ticked = night.ticked(&format!("2026-01-03T03:0{minute}:00Z"));
        assert_eq!(ticked.status.code(), Some(15), "{}", all_output(&ticked));
        assert!(all_output(&ticked).contains("table run"), "{}", all_output(&ticked));
        assert!(!night.state().join("jobs").exists(), "a command was started");
    }
}

/// The row of a job as an attacker would change it.
fn set_job(night: &Night, id: &str, change: impl Fn(&mut Value)) -> String {
    let name = night.name();
    let found = ask(&night.store, &format!("SELECT body FROM job WHERE fleet = '{name}' AND id = '{id}'"), 1);
    let mut job: Value = serde_json::from_str(&found[0][0]).unwrap();
    change(&mut job);
    let (body, state) = (job.to_string().replace('\'', "''"), job["state"]["state"].as_str().unwrap());
    format!("UPDATE job SET body = '{body}', state = '{state}' WHERE fleet = '{name}' AND id = '{id}'")
}

/// The number of the last start of a job.
fn last_start(night: &Night, id: &str) -> Option<u64> {
    let record = Store::open(&night.store, &night.name()).unwrap().last_record(id, &["job.start"]).unwrap();
    record.map(|record| record.seq)
}

#[test]
fn a_job_that_was_made_ready_and_put_back_is_not_started() {
    for night in Night::all() {
        let id = night.id("model-00000");
        let asked = "2026-01-03T03:00:00Z";
        let ready = json!({ "state": "queued", "not_before": asked });
        let granted = set_job(&night, &id, |job| {
            job["state"] = ready.clone();
            job["grants"] = json!([{ "by": { "person": "ana" }, "reason": "ok", "at": asked, "overruns": [] }]);
        });
        let approved = set_job(&night, &id, |job| {
            job["state"] = json!({ "state": "approved" });
            job["grants"] = json!([{ "by": { "person": "ana" }, "reason": "ok", "at": asked, "overruns": [] }]);
        });
        let cheap = set_job(&night, &id, |job| {
            job["state"] = json!({ "state": "costed" });
            job["estimate"]["high"] = json!(0.01);
        });
        let kept = night.keep();
        for (what, statement) in [("ready", granted), ("approved", approved), ("costed again", cheap)] {
            let rows = vec![("job", format!("id = '{id}'"))];
            let edit = Edit { what, statements: vec![statement], rows };
            at_every_moment(&night, &kept, "2026-01-03T03:01:00Z", &edit, &|moment| {
                assert_eq!(last_start(&night, &id), None, "{moment}");
                assert!(!night.state().join("jobs").exists(), "{moment}");
            });
        }
        // Nor does a person answer what the audit does not say.
        let cheap = set_job(&night, &id, |job| job["estimate"]["high"] = json!(0.01));
        assert_eq!(sql(&night.store, &cheap), 1);
        for word in ["approve", "reject"] {
            let refused = night.answer(word, "model-00000", "2026-01-03T03:10:00Z");
            assert_eq!(refused.status.code(), Some(15), "{word}: {}", all_output(&refused));
            assert!(all_output(&refused).contains("table job"), "{word}: {}", all_output(&refused));
        }
        kept.restore_all();
        assert!(night.answer("approve", "model-00000", "2026-01-03T03:10:00Z").status.success());
    }
}

#[test]
fn a_finished_job_that_was_put_into_the_queue_with_its_approval_is_not_started_again() {
    let extra = "[approval]\napprovers = [[\"ana\"]]\n[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n[defaults.retrain]\n\
                 stakes = \"high\"\nretries = 0\ncommand = [\"true\"]\n";
    let stores = World::new(1, "").stores().len();
    for which in 0..stores {
        let night = in_store(which, 1, extra);
        for day in ["2026-01-02", "2026-01-03"] {
            night.tick(&format!("{day}T03:00:00Z"));
        }
        trained(&night);
        let (name, id) = (night.name(), night.id("model-00000"));
        let again = set_job(&night, &id, |job| {
            job["state"] = json!({ "state": "queued", "not_before": "2026-01-03T03:00:00Z" });
        });
        let reopened = format!(
            "UPDATE event SET closed_at = NULL, outcome = NULL, note = NULL WHERE fleet = '{name}' AND id = '{id}'"
        );
        let removed = format!("DELETE FROM job WHERE fleet = '{name}' AND id = '{id}'");
        let before = last_start(&night, &id);
        assert!(before.is_some());
        let kept = night.keep();
        for (what, statement) in [("queued again", again), ("requested again", removed)] {
            let rows = ["job", "event"].map(|table| (table, format!("id = '{id}'"))).to_vec();
            let edit = Edit { what, statements: vec![reopened.clone(), statement], rows };
            at_every_moment(&night, &kept, "2026-01-03T03:59:30Z", &edit, &|moment| {
                assert_eq!(last_start(&night, &id), before, "{moment}");
                let requests = ask(
                    &night.store,
                    &format!(
                        "SELECT CAST(COUNT(*) AS TEXT) FROM audit WHERE fleet = '{name}' AND subject = '{id}' AND kind = 'job.request'"
                    ),
                    1,
                );
                assert_eq!(requests[0][0], "1", "{moment}");
            });
        }
    }
}

#[test]
fn a_budget_is_not_overrun_because_runs_were_deleted_and_put_back() {
    for night in Night::all() {
        // One has spent most of the budget; the other one would overrun it.
        trained(&night);
        let (name, id) = (night.name(), night.id("model-00001"));
        let answer = night.answer("approve", "model-00001", "2026-01-03T03:59:00Z");
        assert!(answer.status.success(), "{}", all_output(&answer));
        let kept = night.keep();
        let edit = Edit {
            what: "runs deleted",
            statements: vec![format!("DELETE FROM run WHERE fleet = '{name}'")],
            rows: vec![("run", "job <> ''".into())],
        };
        at_every_moment(&night, &kept, "2026-01-03T03:59:30Z", &edit, &|moment| {
            assert_eq!(last_start(&night, &id), None, "{moment}");
        });
    }
}

#[test]
fn a_conclusion_that_was_added_before_a_tick_hides_no_night() {
    let stores = World::new(1, "").stores().len();
    for which in 0..stores {
        let night = in_store(which, 2, "[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n");
        night.tick("2026-01-02T03:00:00Z");
        let name = night.name();
        let day = 24 * 3600 * 1_000_000_i64;
        let added = sql(
            &night.store,
            &format!(
                "INSERT INTO verdict (fleet, model, as_of, data_hash, body) SELECT fleet, model, as_of + {day}, data_hash, body \
                 FROM verdict WHERE fleet = '{name}' AND model = 'model-00000'"
            ),
        );
        assert_eq!(added, 1);
        let ticked = night.ticked("2026-01-03T03:00:00Z");
        assert_eq!(ticked.status.code(), Some(15), "{}", all_output(&ticked));
        let told: Value = serde_json::from_slice(&ticked.stdout).unwrap();
        assert!(told["tampered"].to_string().contains("model 'model-00000'"), "{}", told["tampered"]);
        let events = told["events"].as_array().unwrap();
        assert!(events.len() == 1 && events[0]["subject"] == "model-00001", "{}", told["events"]);
        // It is told of until the next sweep, also once the row is gone.
        let removed = format!(
            "DELETE FROM verdict WHERE fleet = '{name}' AND model = 'model-00000' AND as_of > 1767400000000000"
        );
        assert_eq!(sql(&night.store, &removed), 1);
        let status = night.run(&["status", "--exit-code"]);
        assert_eq!(status.status.code(), Some(11), "{}", all_output(&status));
        assert!(all_output(&status).contains("the audit does not have"), "{}", all_output(&status));
    }
}

#[test]
fn a_kept_baseline_file_that_was_replaced_by_another_one_is_a_fault_of_its_model() {
    let night = in_store(0, 2, "");
    night.tick("2026-01-02T03:00:00Z");
    for model in 0..2 {
        let place = night.world.folder.path().join(format!("baseline/table-0000{model}.parquet")).display().to_string();
        let name = format!("model-0000{model}");
        let now = "2026-01-02T04:00:00Z";
        let set = night.run(&["baseline", "set", &name, &place, "--by", "ana", "--reason", "new", "--now", now]);
        assert!(set.status.success(), "{}", all_output(&set));
    }
    let kept = |model: &str| {
        let folder = std::fs::read_dir(night.state().join("baselines")).unwrap().map(|entry| entry.unwrap().path());
        let folder = folder.into_iter().find(|path| path.display().to_string().contains(model)).unwrap();
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    };
    let (own, other) = (kept("model-00000"), kept("model-00001"));
    let right = std::fs::read(&own).unwrap();
    std::fs::copy(&other, &own).unwrap();
    let ticked = night.ticked("2026-01-03T03:00:00Z");
    assert_eq!(ticked.status.code(), Some(11), "{}", all_output(&ticked));
    let told: Value = serde_json::from_slice(&ticked.stdout).unwrap();
    let failures = &told["status"]["failures"];
    assert_eq!(failures.as_object().unwrap().len(), 1, "{failures}");
    let fault = &failures["model-00000"][0];
    assert_eq!(fault["cause"], "baseline", "{fault}");
    assert!(fault["reason"].as_str().unwrap().contains("another hash"), "{fault}");
    std::fs::write(&own, right).unwrap();
    let next = night.tick("2026-01-04T03:00:00Z");
    assert_eq!(next["status"]["failures"], json!({}), "{next}");
}
