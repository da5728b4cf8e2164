//! Rows of jobs that cannot be read: told at every tick, in nobody's way for longer than their runs may last, and closed by a
//! person; on both stores.

use std::fs;
use std::process::{Command, Output};

use driftsweep::model::Options;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Stakes};
use driftsweep_ops::scheduler;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::jobs::{Yard, add_event, open, pass_by_clock, sql};
use crate::support::server;
use crate::support::server::answer;

/// A fleet of two models, of which one is trained at a time, by somebody who never comes to an end; the budget does not
/// suffice for two runs.
struct Place {
    yard: Yard,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Place {
    fn new() -> Self {
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let here = asked.clone();
        let url = server::http(move |request| {
            here.lock().unwrap().push(format!("{} {}", request.method, request.path));
            match &*request.method {
                "POST" => answer(202, "{}"),
                _ => answer(200, json!({ "state": "running" })),
            }
        });
        let head = format!(
            "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 1\n[budget]\nmonth = 230\n[defaults.retrain]\n\
             timeout = \"3h\"\ncpu_hours = 3\ncpu_rate = 30\nretries = 0\nwebhook = {{ url = \"{url}\" }}\n"
        );
        Self { yard: Yard::new(&["one".into(), "two".into()], &head), asked }
    }

    /// The fleet in a store, its state and its file.
    fn fleet(&self, store: &str) -> (Fleet, std::path::PathBuf, String) {
        let (fleet, state) = self.yard.in_store(store);
        let text = fs::read_to_string(self.yard.folder.path().join("fleet.toml")).unwrap();
        let file = self.yard.folder.path().join(format!("{}.toml", fleet.name));
        fs::write(&file, text.replace(&self.yard.fleet.name, &fleet.name)).unwrap();
        (Fleet::read(&file, &Options::new()).unwrap(), state, file.display().to_string())
    }
}

/// In the middle of a month, so that its budget stays the same for a day.
fn start() -> Timestamp {
    "2026-11-11T02:00:00Z".parse().unwrap()
}

fn states(passed: &scheduler::PassSummary) -> Vec<(&str, &str)> {
    passed.jobs.iter().map(|(id, state)| (id.split('-').next().unwrap(), &**state)).collect()
}

#[test]
fn a_damaged_job_holds_a_turn_and_money_for_as_long_as_its_run_may_last_and_is_told_every_time() {
    for damage in ["body = '{\"id\": \"x'", "state = 'runing'"] {
        let place = Place::new();
        for store in place.yard.stores() {
            let (fleet, state, _) = place.fleet(&store);
            let http = Http::new().unwrap();
            let at = |minutes: i64| start() + SignedDuration::from_mins(minutes);
            let pass =
                |minutes: i64| pass_by_clock(&fleet, &store, &state, &http, (at(minutes), at(minutes)), &mut |_| ());
            let id = |model: &str| format!("{model}-{}", fleet.name);
            add_event(&mut open(&store, &fleet), &id("one"), "one", start());
            assert_eq!(states(&pass(0)), [("one", "running")]);
            sql(&store, &format!("UPDATE job SET {damage} WHERE fleet = '{}' AND id = '{}'", fleet.name, id("one")));
            add_event(&mut open(&store, &fleet), &id("two"), "two", at(1));
            for minutes in [1, 60, 179] {
                let passed = pass(minutes);
                assert!(!passed.jobs.values().any(|state| state == "running"), "{damage} {minutes}: {passed:?}");
                let found: Vec<(&str, &str)> = passed.unreadable.iter().map(|row| (row.table, &*row.id)).collect();
                assert!(found.contains(&("job", &*id("one"))), "{damage} {minutes}: {found:?}");
            }
            let mut store_here = open(&store, &fleet);
            let taken = |store: &mut driftsweep_ops::store::Store, minutes| {
                let ledger = scheduler::ledger(&fleet, store, at(minutes)).unwrap();
                let standing = &scheduler::budget_statuses(&fleet, &ledger, at(minutes))[0];
                (standing.spent + standing.committed).plain()
            };
            let aside = store_here.runs_of(&id("one")).unwrap()[0].committed;
            assert!((100.0..200.0).contains(&aside.units()), "{aside:?}: enough for one run and not for two");
            assert_eq!(taken(&mut store_here, 179), aside.plain(), "{damage}");
            assert_eq!(taken(&mut store_here, 181), "0.00", "{damage}");
            drop(store_here);
            let passed = pass(181);
            assert!(passed.unreadable.iter().any(|row| row.id == id("one")), "{passed:?}");
            assert_eq!(passed.jobs[&id("two")], "running", "{damage}: {passed:?}");
        }
    }
}

#[test]
fn a_person_closes_a_damaged_job_with_its_event_and_its_run() {
    // What is damaged, and whether it is money that the run is known to have cost.
    for (damage, of_run) in [("UPDATE job SET body = '{\"id\": \"x'", false), ("UPDATE run SET retrain = '[]'", true)] {
        let place = Place::new();
        for store in place.yard.stores() {
            let (fleet, state, file) = place.fleet(&store);
            let http = Http::new().unwrap();
            let pass = |now: Timestamp| pass_by_clock(&fleet, &store, &state, &http, (now, now), &mut |_| ());
            let id = format!("one-{}", fleet.name);
            add_event(&mut open(&store, &fleet), &id, "one", start());
            assert_eq!(states(&pass(start())), [("one", "running")]);
            let key = if of_run { "job" } else { "id" };
            assert_eq!(sql(&store, &format!("{damage} WHERE fleet = '{}' AND {key} = '{id}'", fleet.name)), 1);
            let run = |args: &[&str]| -> Output {
                let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
                command.args(args).arg(&file).arg("--state").arg(&state).env("DRIFTSWEEP_STORE", &store);
                command.env_remove("USER").output().unwrap()
            };
            let said = |output: &Output| {
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
            };
            let cancel =
                |more: &[&str]| run(&[&["jobs", "cancel", &id[..6], "--reason", "its row is lost"], more].concat());
            assert_eq!(cancel(&[]).status.code(), Some(2), "somebody says so");
            let now = "2026-11-11T03:00:00Z";
            let closed = cancel(&["--by", "ana", "--now", now]);
            assert!(closed.status.success() && said(&closed).contains("cannot be read"), "{}", said(&closed));
            assert!(place.asked.lock().unwrap().iter().any(|line| line.starts_with("DELETE")));
            let mut memory = open(&store, &fleet);
            let [job] = &memory.jobs(&id).unwrap()[..] else { panic!("one job") };
            assert_eq!((job.job.state.name(), job.job.state.reason()), ("cancelled", "ana: its row is lost"));
            // An hour at its rate: what of the run was lost is in the audit, and in the fleet file.
            assert_eq!(job.job.spent.plain(), "30.00");
            assert!(memory.open_events().unwrap().is_empty() && memory.runs_under_way().unwrap().is_empty());
            assert!(memory.unreadable().is_empty());
            drop(memory);
            let records = run(&["audit", "export"]).stdout;
            let records = String::from_utf8(records).unwrap();
            let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let record = records.iter().find(|record| record["kind"] == "job.cancel").unwrap();
            assert_eq!((&record["actor"], &record["subject"]), (&json!("ana"), &json!(id)));
            assert!(record["body"]["damage"].as_str().unwrap().contains("cannot be read"), "{record}");
            assert!(run(&["audit", "verify"]).status.success());
            // Nothing is left of it.
            assert_eq!(cancel(&["--by", "ana", "--now", now]).status.code(), Some(2));
            assert_eq!(pass(now.parse().unwrap()).unreadable.iter().filter(|row| row.table == "job").count(), 0);
            add_event(&mut open(&store, &fleet), &format!("next-{}", fleet.name), "one", now.parse().unwrap());
            let next = pass(now.parse().unwrap());
            assert!(next.jobs.values().any(|state| state == "running"), "{next:?}");
        }
    }
}

#[test]
fn a_tick_names_the_way_out_of_a_damaged_job() {
    let place = Place::new();
    for store in place.yard.stores() {
        let (fleet, state, file) = place.fleet(&store);
        let id = format!("one-{}", fleet.name);
        let http = Http::new().unwrap();
        add_event(&mut open(&store, &fleet), &id, "one", start());
        pass_by_clock(&fleet, &store, &state, &http, (start(), start()), &mut |_| ());
        sql(&store, &format!("UPDATE job SET body = '' WHERE fleet = '{}' AND id = '{id}'", fleet.name));
        for now in ["2026-11-11T03:00:00Z", "2026-11-11T04:00:00Z"] {
            let mut tick = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            tick.args(["tick", &file, "--threads", "1", "--now", now, "--state"])
                .arg(&state)
                .env("DRIFTSWEEP_STORE", &store);
            let output = tick.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(11), "{said}");
            assert!(said.contains(&format!("with `driftsweep jobs cancel {id}`")), "{said}");
        }
    }
}

#[test]
fn what_the_policy_allowed_is_asked_for_where_the_stakes_were_raised_since() {
    let place = Place::new();
    for store in place.yard.stores() {
        let (mut fleet, state, _) = place.fleet(&store);
        let http = Http::new().unwrap();
        for model in ["one", "two"] {
            add_event(&mut open(&store, &fleet), &format!("{model}-{}", fleet.name), model, start());
        }
        let passed = pass_by_clock(&fleet, &store, &state, &http, (start(), start()), &mut |_| ());
        assert_eq!(states(&passed), [("one", "running"), ("two", "queued")]);
        // Now there is room for the other one, of which the policy had said that nobody is to be asked.
        fleet.governance.concurrency.fleet = 2;
        fleet.models[1].retrain.as_mut().unwrap().stakes = Stakes::High;
        let passed = pass_by_clock(&fleet, &store, &state, &http, (start(), start()), &mut |_| ());
        assert_eq!(states(&passed), [("two", "awaiting_approval")]);
    }
}

#[test]
fn a_run_of_a_model_in_doubt_is_stopped_in_time_and_starts_nothing_again() {
    let place = Place::new();
    for store in place.yard.stores() {
        let (fleet, state, file) = place.fleet(&store);
        let http = Http::new().unwrap();
        let id = format!("one-{}", fleet.name);
        add_event(&mut open(&store, &fleet), &id, "one", start());
        let pass = |now: Timestamp| pass_by_clock(&fleet, &store, &state, &http, (now, now), &mut |_| ());
        assert_eq!(states(&pass(start())), [("one", "running")]);
        sql(&store, &format!("UPDATE model SET trained = 5 WHERE fleet = '{}' AND name = 'one'", fleet.name));
        let passed = pass(start() + SignedDuration::from_mins(1));
        assert!(passed.jobs.is_empty() && passed.tampered[0].contains("column trained"), "{passed:?}");
        // Its time is up: it is asked to stop, and its end is noted.
        pass(start() + SignedDuration::from_mins(181));
        assert!(place.asked.lock().unwrap().iter().any(|line| line.starts_with("DELETE")));
        assert_eq!(states(&pass(start() + SignedDuration::from_mins(190))), [("one", "timed_out")]);
        // A job that is not what its own records say is closed by a person, and is what they say from then on.
        let other = format!("two-{}", fleet.name);
        // The budget of the next month.
        let later = start() + SignedDuration::from_hours(24 * 30);
        add_event(&mut open(&store, &fleet), &other, "two", later);
        assert_eq!(states(&pass(later)), [("two", "running")]);
        let edit = "UPDATE job SET body = replace(body, '\"attempts\":1', '\"attempts\":0')";
        assert_eq!(sql(&store, &format!("{edit} WHERE fleet = '{}' AND id = '{other}'", fleet.name)), 1);
        assert!(!pass(later).tampered.is_empty());
        let mut cancel = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        cancel.args(["jobs", "cancel", &other, &file, "--by", "ana", "--reason", "edited", "--state"]).arg(&state);
        let closed = cancel.env("DRIFTSWEEP_STORE", &store).output().unwrap();
        assert!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
        let mut memory = open(&store, &fleet);
        let job = memory.jobs(&other).unwrap().remove(0).job;
        assert_eq!((job.state.name(), job.attempts), ("cancelled", 1));
        let problems = memory.verify_audit(&[]).unwrap().problems;
        assert!(problems.iter().all(|problem| problem.contains("table model, row 'one'")), "{problems:?}");
    }
}
