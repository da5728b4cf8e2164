//! Runs: started once, stopped in time, asked for where they were started, and what waits for them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftsweep::model::Options;
use driftsweep_common::error::Error;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::Fleet;
use driftsweep_ops::scheduler::{self, PassContext};
use jiff::{SignedDuration, Timestamp};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::jobs::{Yard, add_event, chance, open, pass, pass_by_clock, sql};
use crate::support::night::make_older;
use crate::support::processes::{leader, until};
use crate::support::server;
use crate::support::server::answer;

/// A model whose trainings may take three hours at a place that says a word, and what that place was asked.
fn of_three_hours(word: &Arc<Mutex<String>>) -> (Yard, Arc<Mutex<Vec<String>>>) {
    let (url, asked) = place(word);
    let head = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ntimeout = \"3h\"\nwebhook = {{ url = \"{url}\" }}\n"
    );
    (Yard::new(&["m".into()], &head), asked)
}

#[test]
fn a_pass_that_replays_another_time_stops_no_real_training() {
    let word = Arc::new(Mutex::new(says("running")));
    let (yard, asked) = of_three_hours(&word);
    let http = Http::new().unwrap();
    for store in yard.stores() {
        asked.lock().unwrap().clear();
        let (fleet, state) = yard.in_store(&store);
        let start: Timestamp = "2026-11-24T14:00:00Z".parse().unwrap();
        add_event(&mut open(&store, &fleet), &format!("event-{}", fleet.name), "m", start);
        let job = || open(&store, &fleet).jobs("").unwrap().remove(0).job;
        let stopped =
            || asked.lock().unwrap().iter().any(|line| line.starts_with("DELETE")) || job().stopping.is_some();
        let hours = |n: i64| start + SignedDuration::from_hours(n);
        // When the pass is taken to be, what the real clock says, and whether a training of three hours is to be stopped.
        for (now, clock, late) in
            [(0, 0, false), (20, 0, false), (20, 2, false), (-100, 2, false), (1, 20, false), (3, 3, true)]
        {
            pass_by_clock(&fleet, &store, &state, &http, (hours(now), hours(clock)), &mut |_| ());
            assert_eq!((job().state.name(), stopped()), ("running", late), "{now} {clock}");
        }
        // Stores of before do not know the real time of a start.
        let other = Fleet { name: format!("{}-old", fleet.name), ..fleet.clone() };
        add_event(&mut open(&store, &other), &format!("event-{}", other.name), "m", start);
        pass(&other, &store, &state, &http, start, &mut |_| ());
        sql(&store, &format!("UPDATE run SET clock_at = NULL WHERE fleet = '{}'", other.name));
        make_older(&store, &other.name);
        pass_by_clock(&other, &store, &state, &http, (hours(4), start), &mut |_| ());
        assert!(open(&store, &other).jobs("").unwrap().remove(0).job.stopping.is_some());
    }
}

#[test]
fn one_pass_stops_a_run_whose_time_is_up_and_ends_one_whose_time_is_long_over() {
    let word = Arc::new(Mutex::new(says("running")));
    let (yard, asked) = of_three_hours(&word);
    let http = Http::new().unwrap();
    for store in yard.stores() {
        let start: Timestamp = "2026-11-24T14:00:00Z".parse().unwrap();
        // How many minutes after its time a pass comes, what the place says then, and what becomes of the job.
        for (minutes, says_then, state_then) in [
            (0, "running", "running"),
            (1, "running", "running"),
            (2, "running", "timed_out"),
            (300, "running", "timed_out"),
            // What has ended in time, and was only not asked for, has ended as it did.
            (300, "succeeded", "succeeded"),
            (300, "failed", "failed"),
        ] {
            *word.lock().unwrap() = says("running");
            asked.lock().unwrap().clear();
            let (fleet, state) = yard.in_store(&store);
            let fleet = Fleet { name: format!("{}-{minutes}-{says_then}", fleet.name), ..fleet };
            add_event(&mut open(&store, &fleet), &format!("event-{}", fleet.name), "m", start);
            pass(&fleet, &store, &state, &http, start, &mut |_| ());
            *word.lock().unwrap() = says(says_then);
            let later = start + SignedDuration::from_mins(180 + minutes);
            let passed = pass(&fleet, &store, &state, &http, later, &mut |_| ());
            let job = open(&store, &fleet).jobs("").unwrap().remove(0).job;
            let told = asked.lock().unwrap().iter().filter(|line| line.starts_with("DELETE")).count();
            let wanted = (state_then, usize::from(says_then == "running"));
            let state = if says_then == "failed" && job.state.name() == "queued" { "failed" } else { job.state.name() };
            assert_eq!((state, told), wanted, "{minutes} {says_then}: {job:?} {passed:?}");
            assert_eq!(passed.failures, []);
        }
    }
}

#[test]
fn a_replay_from_the_command_line_does_not_stop_a_training() {
    let head =
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ntimeout = \"3h\"\ncommand = [\"sleep\", \"1000\"]\n";
    let yard = Yard::new(&["m".into()], head);
    let store = yard.stores().remove(0);
    add_event(&mut open(&store, &yard.fleet), "event", "m", Timestamp::now());
    let tick = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["tick", "--threads", "1", "--state", "state", "--store", &store]).args(more);
        command.current_dir(yard.folder.path()).output().unwrap()
    };
    tick(&[]);
    let ahead = (Timestamp::now() + SignedDuration::from_hours(20)).to_string();
    tick(&["--now", &ahead]);
    tick(&["--now", &ahead]);
    let job = open(&store, &yard.fleet).jobs("event").unwrap().remove(0).job;
    assert_eq!((job.state.name(), job.stopping), ("running", None));
    let group = yard.folder.path().join("state/jobs/event/1/group");
    let number = rustix::process::Pid::from_raw(leader(&group)).unwrap();
    rustix::process::kill_process_group(number, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_run_that_a_place_has_forgotten_is_not_started_again() {
    let known = Arc::new(Mutex::new(false));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let url = server::http({
        let (known, asked) = (known.clone(), asked.clone());
        move |request| {
            asked.lock().unwrap().push(format!("{} {}", request.method, request.path));
            let mut known = known.lock().unwrap();
            match (&*request.method, *known) {
                ("POST", _) => {
                    *known = true;
                    answer(202, "{}")
                }
                (_, true) => answer(200, says("running")),
                (_, false) => answer(404, ""),
            }
        }
    });
    let head = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nretries = 1\nbackoff = \"1m\"\ntimeout = \"9h\"\nwebhook = {{ url = \"{url}\" }}\n"
    );
    let yard = Yard::new(&["m".into()], &head);
    let http = Http::new().unwrap();
    for store in yard.stores() {
        *known.lock().unwrap() = false;
        asked.lock().unwrap().clear();
        let (fleet, state) = yard.in_store(&store);
        let start = Timestamp::now();
        add_event(&mut open(&store, &fleet), &format!("event-{}", fleet.name), "m", start);
        let job = || open(&store, &fleet).jobs("").unwrap().remove(0).job;
        let at = |minute: i64| {
            let now = start + SignedDuration::from_mins(minute);
            pass(&fleet, &store, &state, &http, now, &mut |_| ()).failures
        };
        let count = |what: &str| asked.lock().unwrap().iter().filter(|line| line.starts_with(what)).count();
        at(0);
        // It is away for nine minutes, and comes back: that is no loss.
        *known.lock().unwrap() = false;
        assert!(at(1)[0].reason.contains("no longer knows it"));
        assert_eq!(at(10).len(), 1);
        *known.lock().unwrap() = true;
        assert_eq!(at(11), []);
        *known.lock().unwrap() = false;
        at(20);
        at(29);
        assert_eq!((job().state.name(), count("POST"), count("DELETE")), ("running", 1, 0));
        // In case it is under way after all, it is asked to stop; then another attempt has its turn.
        at(30);
        assert_eq!((job().state.name(), count("POST"), count("DELETE")), ("queued", 1, 1));
        at(40);
        assert_eq!((job().state.name(), count("POST")), ("running", 2));
        assert_eq!(open(&store, &fleet).runs_of(&job().id).unwrap().len(), 2);
    }
}

#[test]
fn of_twenty_ticks_at_once_under_kills_each_run_is_started_once_by_a_place_that_forgets() {
    /// The runs that it remembers, and the processes that were really started.
    type Kept = Arc<Mutex<(HashSet<String>, Vec<String>)>>;
    let kept = Kept::default();
    let url = server::http({
        let kept = kept.clone();
        move |request| {
            let mut kept = kept.lock().unwrap();
            match &*request.method {
                "POST" => {
                    let run = request.headers["idempotency-key"].clone();
                    if kept.0.insert(run.clone()) {
                        kept.1.push(run);
                    }
                    answer(202, "{}")
                }
                _ if kept.0.contains(request.path.trim_start_matches('/')) => answer(200, says("running")),
                _ => answer(404, ""),
            }
        }
    });
    let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    let head = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 100\n[defaults.retrain]\nwebhook = {{ url = \"{url}\" }}\n"
    );
    let yard = Yard::new(&names, &head);
    let mut random = Pcg64::seed_from_u64(9);
    for store in yard.stores() {
        *kept.lock().unwrap() = Default::default();
        for name in &names {
            add_event(&mut open(&store, &yard.fleet), &format!("{name}-{}", yard.fleet.name), name, Timestamp::now());
        }
        for _ in 0..4 {
            let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            command.args(["tick", "--threads", "1", "--store", &store]).current_dir(yard.folder.path());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut ticks: Vec<_> = (0..20).map(|_| command.spawn().unwrap()).collect();
            std::thread::sleep(Duration::from_millis(random.next_u64() % 400));
            ticks.iter_mut().filter(|_| chance(&mut random, 2)).for_each(|tick| drop(tick.kill()));
            ticks.iter_mut().for_each(|tick| drop(tick.wait()));
            for run in open(&store, &yard.fleet).runs_under_way().unwrap() {
                if run.seen && chance(&mut random, 3) {
                    kept.lock().unwrap().0.remove(&format!("{}-{}", run.job, run.attempt));
                }
            }
        }
        let started = &kept.lock().unwrap().1;
        let each: HashSet<&String> = started.iter().collect();
        assert_eq!((started.len(), each.len()), (names.len(), names.len()), "{started:?}");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_stops_nothing_else() {
    let names: Vec<String> = (0..4).map(|i| format!("m{i}")).collect();
    let head = "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 9\n[[notify]]\nname = \"lines\"\nfile = \"told\"\n\
                [defaults.retrain]\ncommand = [\"sh\", \"-c\", \"sleep 0.5\"]\n";
    let yard = Yard::new(&names, head);
    for store in yard.stores() {
        let (fleet, state) = yard.in_store(&store);
        let (http, now) = (Http::new().unwrap(), Timestamp::now());
        let id = |name: &str| format!("{name}-{}", fleet.name);
        for name in &names {
            add_event(&mut open(&store, &fleet), &id(name), name, now);
        }
        pass(&fleet, &store, &state, &http, now, &mut |_| ());
        let of = |name: &str| format!("fleet = '{}' AND id = '{}'", fleet.name, id(name));
        // As a failing disk, or somebody with an editor, leaves them.
        sql(&store, &format!("UPDATE job SET body = '{{\"id\": \"x' WHERE {}", of("m0")));
        sql(&store, &format!("UPDATE run SET retrain = '[]' WHERE fleet = '{}' AND job = '{}'", fleet.name, id("m1")));
        let seq = open(&store, &fleet).messages_in("pending").unwrap()[0].seq;
        let far = "UPDATE outbox SET at = 9000000000000000000";
        assert_eq!(sql(&store, &format!("{far} WHERE fleet = '{}' AND seq = {seq}", fleet.name)), 1);
        let mut last = scheduler::PassSummary::default();
        until("the others have been trained", || {
            last = pass(&fleet, &store, &state, &http, now, &mut |_| ());
            open(&store, &fleet).jobs_in("succeeded").unwrap().len() == 2
        });
        let named: Vec<_> = last.unreadable.iter().map(|row| (row.table, &*row.id)).collect();
        let run = format!("{}-1", id("m1"));
        assert_eq!(named, [("job", &*id("m0")), ("run", &*run)]);
        assert!(last.unreadable[0].reason.contains("EOF"), "{last:?}");
        // And the program says so, each once. One row is not what the audit says, either: it exits with 15.
        let mut tick = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        let text = fs::read_to_string(yard.folder.path().join("fleet.toml")).unwrap();
        let file = yard.folder.path().join("own.toml");
        fs::write(&file, text.replace(&yard.fleet.name, &fleet.name)).unwrap();
        tick.args(["tick", "--format", "json", "--threads", "1", "--store", &store, "--state"]).arg(&state).arg(&file);
        let output = tick.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(15), "{said}");
        for wanted in [
            format!("table job, row {}", id("m0")),
            format!("table run, row {run}"),
            format!("table outbox, row {seq}-lines"),
        ] {
            assert_eq!(said.matches(&wanted).count(), 1, "{wanted}: {said}");
        }
        let ticked: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(ticked["jobs"]["unreadable"].as_array().unwrap().len(), 3);
        assert!(ticked["jobs"]["messages"]["sent"].as_u64().unwrap() > 0);
        let answer = scheduler::decide(
            &fleet,
            &mut open(&store, &fleet),
            &id("m0"),
            scheduler::ApprovalAnswer::Reject,
            ("ana", "x"),
            None,
            now,
        );
        assert!(answer.unwrap_err().to_string().contains("cannot be read"));
    }
}

#[test]
fn a_lock_that_is_held_is_said_to_be_by_whom_and_since_when() {
    let yard = Yard::new(&["m".into()], "");
    for store in yard.stores() {
        let mut holder = open(&store, &yard.fleet);
        // What is left of a process that was killed means nothing.
        holder.with_lock("jobs", |_| Ok(())).unwrap();
        open(&store, &yard.fleet).with_lock("jobs", |_| Ok(())).unwrap();
        holder
            .with_lock("tick", |_| {
                let hours = "UPDATE lock_holder SET since = since - 10800000000 WHERE what = 'tick'";
                sql(&store, &format!("{hours} AND fleet = '{}'", yard.fleet.name));
                let mut tick = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
                tick.args(["tick", "--threads", "1", "--store", &store]).current_dir(yard.folder.path());
                let output = tick.output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(13), "{said}");
                let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
                let who = format!("is running: process {} on {}, since 20", std::process::id(), host.trim());
                let fleet = format!("another tick of fleet '{}'", yard.fleet.name);
                assert!(said.contains(&fleet) && said.contains(&who) && said.contains("(3 h)"), "{said}");
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn a_tick_that_waits_stays_while_another_process_has_the_lock() {
    let head =
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ncommand = [\"sh\", \"-c\", \"echo x >> trained\"]\n";
    let yard = Yard::new(&["m".into()], head);
    let store = yard.stores().remove(0);
    add_event(&mut open(&store, &yard.fleet), "event", "m", Timestamp::now());
    let command = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["tick", "--threads", "1", "--store", &store]).args(more).current_dir(yard.folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let waits = open(&store, &yard.fleet).with_lock("jobs", |_| {
        let mut waits = command(&["--wait", "2m"]).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert!(waits.try_wait().unwrap().is_none(), "it has left");
        // One that does not wait says why it does nothing.
        let leaves = command(&[]).output().unwrap();
        let said = String::from_utf8_lossy(&leaves.stderr).into_owned();
        assert!(said.contains("jobs are not processed: another tick"), "{said}");
        Ok(waits)
    });
    waits.unwrap().wait().unwrap();
    assert_eq!(fs::read_to_string(yard.folder.path().join("trained")).unwrap(), "x\n");
    assert_eq!(open(&store, &yard.fleet).jobs_in("succeeded").unwrap().len(), 1);
}

/// A place that trains: it notes what it is asked, and says of every run what `says` holds.
fn place(says: &Arc<Mutex<String>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let (says, asked) = (says.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = asked.clone();
    let url = server::http(move |request| {
        log.lock().unwrap().push(format!("{} {}", request.method, request.path));
        let known = log.lock().unwrap().iter().any(|line| line.starts_with("POST"));
        if known { answer(200, says.lock().unwrap().clone()) } else { answer(404, String::new()) }
    });
    (url, asked)
}

fn says(state: &str) -> String {
    format!("{{\"state\": \"{state}\", \"cost\": 90}}")
}

#[test]
fn a_run_is_asked_for_where_it_was_started_whatever_becomes_of_the_fleet_file() {
    let word = Arc::new(Mutex::new(says("running")));
    let ((here, asked_here), (there, asked_there)) = (place(&word), place(&word));
    let head = |url: &str| {
        format!("[defaults.retrain]\nwebhook = {{ url = \"{url}\" }}\n[approval]\napprovers = [[\"ana\"]]\n")
    };
    let yard = Yard::new(&["m".into()], &head(&here));
    for store in yard.stores() {
        *word.lock().unwrap() = says("running");
        asked_here.lock().unwrap().clear();
        let (fleet, state) = yard.in_store(&store);
        let with = |head: &str, model: &str| {
            let text = format!("{head}[[model]]\nname = \"{model}\"\nbaseline = \"a\"\ncurrent = \"b\"\n");
            Fleet { name: fleet.name.clone(), ..Fleet::parse(&text, Path::new("f"), &Options::new()).unwrap() }
        };
        let (http, now) = (Http::new().unwrap(), Timestamp::now());
        add_event(&mut open(&store, &fleet), "event", "m", now);
        pass(&fleet, &store, &state, &http, now, &mut |_| ());
        let moved = with(&head(&there), "m");
        pass(&moved, &store, &state, &http, now, &mut |_| ());
        assert_eq!(asked_here.lock().unwrap().last().unwrap(), "GET /event-1");
        assert_eq!(*asked_there.lock().unwrap(), [""; 0]);
        // The model is gone: its run is asked to stop, and its word on the cost is taken.
        let gone = with(&head(&there), "another");
        pass(&gone, &store, &state, &http, now, &mut |_| ());
        assert!(asked_here.lock().unwrap().contains(&"DELETE /event-1".to_owned()));
        *word.lock().unwrap() = says("cancelled");
        pass(&gone, &store, &state, &http, now, &mut |_| ());
        let job = open(&store, &fleet).jobs("event").unwrap().remove(0).job;
        assert_eq!((job.state.name(), job.spent.cents()), ("cancelled", 9000), "{job:?}");
        assert_eq!(*asked_there.lock().unwrap(), [""; 0]);
    }
}

#[test]
fn a_question_about_a_budget_is_withdrawn_when_the_budget_has_room_again() {
    let word = Arc::new(Mutex::new(says("running")));
    let (url, asked) = place(&word);
    let head = format!(
        "time_zone = \"UTC\"\n[budget]\nmonth = 110\n[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\n\
         deadline = \"60d\"\nstorage = 60\nwebhook = {{ url = \"{url}\" }}\n"
    );
    let yard = Yard::new(&["a".into(), "b".into()], &head);
    for store in yard.stores() {
        *word.lock().unwrap() = says("running");
        asked.lock().unwrap().clear();
        let (fleet, state) = yard.in_store(&store);
        let http = Http::new().unwrap();
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let states = || {
            let jobs = open(&store, &fleet).jobs("").unwrap();
            jobs.iter().map(|versioned| versioned.job.state.name()).collect::<Vec<_>>().join(" ")
        };
        let eve = at("2026-09-30T23:00:00Z");
        for model in ["a", "b"] {
            add_event(&mut open(&store, &fleet), &format!("event{model}"), model, eve);
        }
        let go = |now| pass(&fleet, &store, &state, &http, now, &mut |_| ());
        go(eve);
        assert_eq!(states(), "running awaiting_approval");
        go(eve);
        assert_eq!(states(), "running awaiting_approval", "nothing has changed");
        *word.lock().unwrap() = says("succeeded");
        go(eve);
        go(eve);
        assert_eq!(states(), "succeeded awaiting_approval", "90 of 110 are spent");
        *word.lock().unwrap() = says("running");
        // Its time is up as well; but there is nothing left to ask.
        go(at("2026-10-01T06:00:00Z"));
        assert_eq!(states(), "succeeded running");
        let mut kinds = Vec::new();
        let kept = open(&store, &fleet).audit("", |record| {
            kinds.push(record.kind);
            Ok(())
        });
        kept.unwrap();
        assert_eq!(kinds.iter().filter(|kind| *kind == "job.withdraw").count(), 1, "{kinds:?}");
        assert!(!kinds.contains(&"job.expire".to_owned()));
    }
}

#[test]
fn what_only_one_may_do_is_free_again_as_soon_as_it_is_done() {
    let yard = Yard::new(&["m".into()], "");
    for store in yard.stores() {
        let (mut one, mut other) = (open(&store, &yard.fleet), open(&store, &yard.fleet));
        one.with_lock("jobs", |_| {
            assert!(matches!(other.with_lock("jobs", |_| Ok(())), Err(Error::Locked { .. })));
            other.with_lock("outbox", |_| Ok(()))
        })
        .unwrap();
        other.with_lock("jobs", |_| Ok(())).unwrap();
        let failed = one.with_lock("jobs", |_| Err::<(), _>(Error::Backend("x".into())));
        assert!(matches!(failed, Err(Error::Backend(_))));
        other.with_lock("jobs", |_| Ok(())).unwrap();
    }
}

#[test]
fn a_tick_that_waits_stays_until_what_it_started_has_ended() {
    let head = "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 1\n[defaults.retrain]\ncommand = [\"sh\", \"-c\", \"sleep 1; echo $DRIFTSWEEP_MODEL >> trained\"]\n";
    let yard = Yard::new(&["a".into(), "b".into()], head);
    let store = yard.stores().remove(0);
    for model in ["a", "b"] {
        add_event(&mut open(&store, &yard.fleet), &format!("event{model}"), model, Timestamp::now());
    }
    // As a user would: in the folder of the fleet file, which is then not named.
    let mut tick = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    tick.args(["tick", "--threads", "1", "--wait", "2m", "--store", &store]).current_dir(yard.folder.path());
    assert!(!tick.output().unwrap().stdout.is_empty());
    assert_eq!(fs::read_to_string(yard.folder.path().join("trained")).unwrap(), "a\nb\n");
    assert_eq!(open(&store, &yard.fleet).jobs_in("succeeded").unwrap().len(), 2);
}

#[test]
fn runs_that_there_is_no_time_to_ask_for_are_left_to_the_next_pass() {
    let word = Arc::new(Mutex::new(says("running")));
    let (url, _) = place(&word);
    let models: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    let head = format!(
        "[queue]\nmax_concurrent = 100\n[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nwebhook = {{ url = \"{url}\" }}\n"
    );
    let yard = Yard::new(&models, &head);
    let (store, http, now) = (yard.stores().remove(0), Http::new().unwrap(), Timestamp::now());
    for model in &models {
        add_event(&mut open(&store, &yard.fleet), &format!("event-{model}"), model, now);
    }
    let state = yard.folder.path().join("state");
    pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
    *word.lock().unwrap() = says("succeeded");
    let later = now + SignedDuration::from_mins(1);
    // Each look at the clock is ten seconds after the last.
    let looks = AtomicU64::new(0);
    let slow = || Duration::from_secs(10 * looks.fetch_add(1, Ordering::Relaxed));
    let program = Path::new(env!("CARGO_BIN_EXE_driftsweep"));
    let context = PassContext { http: &http, program, state: &state, clock: later, elapsed: &slow };
    let passed = scheduler::pass(&yard.fleet, &mut open(&store, &yard.fleet), later, &context, &mut |_| ()).unwrap();
    assert_eq!((passed.states()["succeeded"], passed.failures.len()), (5, 15), "{passed:?}");
    pass(&yard.fleet, &store, &state, &http, later, &mut |_| ());
    assert_eq!(open(&store, &yard.fleet).jobs_in("succeeded").unwrap().len(), 20);
}
