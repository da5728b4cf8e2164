//! Runs: started once, stopped in time, asked for where they were started, and what waits for them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftsweep::error::Error;
use driftsweep::fleet::{Fleet, Options};
use driftsweep::http::Http;
use driftsweep::retrain::State;
use driftsweep::scheduler::{self, Means};
use jiff::{SignedDuration, Timestamp};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::retrain::{Yard, add_event, chance, open, pass};
use super::server::{self, answer};

#[test]
fn commands_are_run_once_under_kills_and_stopped_in_time_with_all_that_they_started() {
    // Ticks are killed at random; each run leaves one line.
    let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    let yard = Yard::new(
        &names,
        "[approval]\napprovers = [[\"ana\"]]\n[queue]\nat_once = 5\n[defaults.retrain]\ncommand = [\"sh\", \"-c\", \"echo $DRIFTSWEEP_RUN >> ran; sleep 0.3\"]\n",
    );
    let file = yard.folder.path().join("fleet.toml").display().to_string();
    let store = yard.stores().remove(0);
    let now = Timestamp::now();
    for name in &names {
        add_event(&mut open(&store, &yard.fleet), &format!("{name}event"), name, now);
    }
    let mut random = Pcg64::seed_from_u64(5);
    let mut done = 0;
    for round in 0.. {
        assert!(round < 400, "only {done} are done");
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["tick", "--threads", "1", &file, "--store", &store]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut ticks: Vec<_> = (0..2).map(|_| command.spawn().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(random.next_u64() % 150));
        ticks.iter_mut().filter(|_| chance(&mut random, 2)).for_each(|tick| drop(tick.kill()));
        ticks.iter_mut().for_each(|tick| drop(tick.wait()));
        done = open(&store, &yard.fleet).jobs_in("succeeded").unwrap().len();
        if done == names.len() {
            break;
        }
    }
    let ran = fs::read_to_string(yard.folder.path().join("ran")).unwrap();
    let lines: HashSet<&str> = ran.lines().collect();
    assert_eq!((lines.len(), ran.lines().count()), (names.len(), names.len()), "{ran}");
}

#[test]
fn a_command_that_takes_too_long_is_stopped_with_its_children_and_one_that_is_gone_is_tried_again() {
    let slow = "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nretries = 1\nbackoff = \"1s\"\ntimeout = \"1s\"\nlog_bytes = 4096\n\
                command = [\"sh\", \"-c\", \"trap '' TERM; (trap '' TERM; while :; do echo noise; sleep 0.01; done) & echo $! > child; wait; sleep 60\"]\n";
    let yard = Yard::new(&["m".into()], slow);
    let (store, http) = (yard.stores().remove(0), Http::new().unwrap());
    let state = yard.folder.path().join("state");
    let mut now = Timestamp::now();
    add_event(&mut open(&store, &yard.fleet), "event", "m", now);
    let job = |store: &str| open(store, &yard.fleet).jobs("event").unwrap().remove(0).job;
    for _ in 0..300 {
        pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
        if job(&store).state.is_final() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        now = Timestamp::now();
    }
    assert_eq!(job(&store).state.name(), "timed_out", "{:?}", job(&store));
    let child: i32 = fs::read_to_string(yard.folder.path().join("child")).unwrap().trim().parse().unwrap();
    // Where nobody waits for it, what has ended is still listed.
    let gone = || fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(
        (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            gone()
        }),
        "the child lives on"
    );
    let logs = ["output.log", "output.1.log"]
        .map(|name| fs::metadata(state.join("jobs/event/1").join(name)).map_or(0, |m| m.len()));
    assert!(logs.iter().sum::<u64>() <= 4096, "{logs:?}");

    // The machine goes down: supervisor and command are gone without a word.
    let quick = slow.replace("timeout = \"1s\"", "timeout = \"1h\"");
    let yard = Yard::new(&["m".into()], &quick);
    let store = yard.stores().remove(0);
    let state = yard.folder.path().join("state");
    let now = Timestamp::now();
    add_event(&mut open(&store, &yard.fleet), "event", "m", now);
    pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
    let group = state.join("jobs/event/1/group");
    (0..100)
        .find(|_| {
            std::thread::sleep(Duration::from_millis(50));
            group.exists()
        })
        .unwrap();
    let pid: i32 = fs::read_to_string(&group).unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent: i32 = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    kill_process(Pid::from_raw(parent).unwrap(), Signal::KILL).unwrap();
    let job = || open(&store, &yard.fleet).jobs("event").unwrap().remove(0).job;
    let later = now + SignedDuration::from_secs(30);
    pass(&yard.fleet, &store, &state, &http, later, &mut |_| ());
    assert_eq!(job().state.name(), "running", "the command still runs");
    kill_process_group(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(20));
        pass(&yard.fleet, &store, &state, &http, later, &mut |_| ());
        if job().state.name() != "running" {
            break;
        }
    }
    assert!(matches!(job().state, State::Queued { not_before } if not_before > later), "{:?}", job().state);
    // Called off while it runs: it ends at once.
    let again = later + SignedDuration::from_secs(60);
    pass(&yard.fleet, &store, &state, &http, again, &mut |_| ());
    assert_eq!(job().state.name(), "running");
    let means = Means {
        http: &http,
        program: Path::new(env!("CARGO_BIN_EXE_driftsweep")),
        state: &state,
        clock: again,
        elapsed: &|| Duration::ZERO,
    };
    scheduler::cancel(&yard.fleet, &mut open(&store, &yard.fleet), "event", ("ana", "no longer needed"), &means, again)
        .unwrap();
    assert_eq!(job().state.name(), "running", "until it is seen to have ended");
    let result = state.join("jobs/event/2/result.json");
    assert!((0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        result.exists()
    }));
    pass(&yard.fleet, &store, &state, &http, again, &mut |_| ());
    assert_eq!((job().state.name(), job().state.reason()), ("cancelled", "ana: no longer needed"));
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
        // The model is gone: its run is told to stop, and its word on the cost is taken.
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
        one.alone("jobs", |_| {
            assert!(matches!(other.alone("jobs", |_| Ok(())), Err(Error::Occupied { .. })));
            other.alone("outbox", |_| Ok(()))
        })
        .unwrap();
        other.alone("jobs", |_| Ok(())).unwrap();
        let failed = one.alone("jobs", |_| Err::<(), _>(Error::Backend("x".into())));
        assert!(matches!(failed, Err(Error::Backend(_))));
        other.alone("jobs", |_| Ok(())).unwrap();
    }
}

#[test]
fn a_tick_that_waits_stays_until_what_it_started_has_ended() {
    let head = "[approval]\napprovers = [[\"ana\"]]\n[queue]\nat_once = 1\n[defaults.retrain]\ncommand = [\"sh\", \"-c\", \"sleep 1; echo $DRIFTSWEEP_MODEL >> trained\"]\n";
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
        "[queue]\nat_once = 100\n[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nwebhook = {{ url = \"{url}\" }}\n"
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
    let means = Means { http: &http, program, state: &state, clock: later, elapsed: &slow };
    let passed = scheduler::pass(&yard.fleet, &mut open(&store, &yard.fleet), later, &means, &mut |_| ()).unwrap();
    assert_eq!((passed.states()["succeeded"], passed.troubles.len()), (5, 15), "{passed:?}");
    pass(&yard.fleet, &store, &state, &http, later, &mut |_| ());
    assert_eq!(open(&store, &yard.fleet).jobs_in("succeeded").unwrap().len(), 20);
}
