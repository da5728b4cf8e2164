//! Trainings on this machine: run once, ended with all that they started, with files of their own, on disks that are full.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use driftsweep_extensions::http::Http;
use driftsweep_ops::retrain::JobState;
use driftsweep_ops::scheduler::{self, PassContext};
use driftsweep_ops::store::Store;
use jiff::{SignedDuration, Timestamp};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::jobs::{Yard, add_event, chance, open, pass, sql};
use crate::support::processes::{leader, lives, supervise, until};

#[test]
fn commands_are_run_once_under_kills_and_stopped_in_time_with_all_that_they_started() {
    // Ticks are killed at random; each run leaves one line.
    let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    let yard = Yard::new(
        &names,
        "[approval]\napprovers = [[\"ana\"]]\n[queue]\nmax_concurrent = 5\n[defaults.retrain]\ncommand = [\"sh\", \"-c\", \"echo $DRIFTSWEEP_RUN >> ran; sleep 0.3\"]\n",
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
fn a_run_whose_supervisor_was_killed_has_ended_only_when_all_of_its_processes_have() {
    use rustix::process::{Pid, Signal, kill_process};
    let http = Http::new().unwrap();
    // What a command may do to be out of sight; `$$` is in the file `live` before anything else is seen of it.
    for hides in [
        // It holds on to nothing that it was given.
        "exec 0<&-; for fd in /proc/$$/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && [ $n -lt 10 ] && eval \"exec $n<&-\"; done; echo $$ >> live; sleep 1000",
        // Its first process ends; a child without the lock goes on, and does not end when it is asked to.
        "(exec 0<&-; for fd in /proc/self/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && [ $n -lt 10 ] && eval \"exec $n<&-\"; done; trap '' TERM; \
         sh -c 'echo $PPID >> live'; while :; do sleep 0.1; done) & sleep 0.5; kill -9 $$",
        // It leaves the group and the session.
        "setsid sh -c 'exec 0</dev/null; for fd in /proc/$$/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && [ $n -lt 10 ] && eval \"exec $n<&-\"; done; \
         echo $$ >> live; sleep 1000' & sleep 0.5; kill -9 $$",
        // It does not keep what names it.
        "exec env -i sh -c 'exec 0<&-; for fd in /proc/$$/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && [ $n -lt 10 ] && eval \"exec $n<&-\"; done; \
         echo $$ >> live; sleep 1000'",
    ] {
        // Were the supervisor alive, it would see the end of the first process.
        let command = format!("while [ ! -e go ]; do sleep 0.01; done; {hides}");
        let command = toml::Value::from(command);
        let head = format!(
            "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nretries = 1\nbackoff = \"1s\"\ncommand = [\"sh\", \"-c\", {command}]\n"
        );
        let yard = Yard::new(&["m".into()], &head);
        let (store, state) = (yard.stores().remove(0), yard.folder.path().join("state"));
        let now = Timestamp::now();
        add_event(&mut open(&store, &yard.fleet), "event", "m", now);
        let go = |now| pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
        let name = || open(&store, &yard.fleet).jobs("event").unwrap().remove(0).job.state.name().to_owned();
        go(now);
        let folder = state.join("jobs/event/1");
        until("it has begun", || folder.join("group").exists());
        let supervisor = leader(&folder.join("started"));
        kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
        until("the supervisor is dead", || !lives(supervisor));
        fs::write(yard.folder.path().join("go"), "").unwrap();
        let live = yard.folder.path().join("live");
        let number = || fs::read_to_string(&live).ok().and_then(|text| text.trim().parse::<i32>().ok());
        until("it hides", || number().is_some());
        std::thread::sleep(Duration::from_millis(900));
        let number = number().unwrap();
        assert!(lives(number), "{hides}");
        until("it is over", || {
            go(now + SignedDuration::from_secs(1));
            let over = name() != "running";
            assert!(!over || !lives(number), "another attempt would run at the same time: {hides}");
            over
        });
        assert_eq!(name(), "queued", "it is tried again: {hides}");
    }
}

#[test]
fn a_run_that_cannot_be_seen_from_here_has_ended_when_its_supervisor_gives_no_sign_any_more() {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    let http = Http::new().unwrap();
    for (field, other, signs) in [
        ("namespace", "pid:[1]", true),
        ("boot", "another", true),
        // Supervisors of older versions give no sign.
        ("namespace", "pid:[1]", false),
        ("boot", "another", false),
    ] {
        let head =
            "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nretries = 0\ncommand = [\"sleep\", \"1000\"]\n";
        let yard = Yard::new(&["m".into()], head);
        let (store, state) = (yard.stores().remove(0), yard.folder.path().join("state"));
        let now = Timestamp::now();
        add_event(&mut open(&store, &yard.fleet), "event", "m", now);
        let go = |now| pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
        let job = || open(&store, &yard.fleet).jobs("event").unwrap().remove(0).job;
        go(now);
        let folder = state.join("jobs/event/1");
        let (started, group, alive) = (folder.join("started"), folder.join("group"), folder.join("alive"));
        until("it has begun", || group.exists());
        let (supervisor, command) = (leader(&started), leader(&group));
        kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
        kill_process_group(Pid::from_raw(command).unwrap(), Signal::KILL).unwrap();
        until("both are gone", || !lives(supervisor) && !lives(command));
        // As if these numbers were those of another place, where they mean a process that has nothing to do with it.
        let mut stranger = Command::new("sleep");
        let mut stranger =
            std::os::unix::process::CommandExt::process_group(&mut stranger, 0).arg("1000").spawn().unwrap();
        for file in [&started, &group] {
            let mut noted: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            noted[field] = other.into();
            noted["number"] = stranger.id().into();
            fs::write(file, noted.to_string()).unwrap();
        }
        if signs {
            for seconds in [0, 200] {
                let then = std::time::SystemTime::now() - Duration::from_secs(seconds);
                fs::File::options().write(true).open(&alive).unwrap().set_modified(then).unwrap();
                let passed = go(now);
                assert_eq!(job().state.name(), "running", "its last sign is {seconds} s old");
                assert!(passed.failures[0].reason.contains("sent a heartbeat"), "{passed:?}");
            }
            let then = std::time::SystemTime::now() - Duration::from_secs(400);
            fs::File::options().write(true).open(&alive).unwrap().set_modified(then).unwrap();
            go(now);
            assert_eq!(job().state.name(), "failed", "{field}");
            assert!(job().state.reason().contains("sends no heartbeats any more"), "{:?}", job());
        } else if field == "boot" {
            fs::remove_file(&alive).unwrap();
            go(now);
            assert_eq!(job().state.name(), "failed");
            assert!(job().state.reason().contains("the machine was restarted"), "{:?}", job());
        } else {
            fs::remove_file(&alive).unwrap();
            let passed = go(now);
            assert_eq!(job().state.name(), "running");
            assert!(passed.failures[0].reason.contains("started in another container"), "{passed:?}");
            // Its time is up: it is asked to stop, and after a while nobody waits for it any more.
            let JobState::Running { stop_at, .. } = job().state else { panic!() };
            go(stop_at);
            assert_eq!(job().state.name(), "running");
            go(stop_at + SignedDuration::from_mins(3));
            assert_eq!(job().state.name(), "timed_out");
        }
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

/// A small file system of its own, which goes with it.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where it cannot be made: that takes root.
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(folder.path());
        let made = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !made {
            eprintln!("left out: no file system can be mounted here (that takes root)");
        }
        made.then_some(Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_training_that_fills_the_disk_and_succeeds_is_recorded_as_such() {
    let Some(disk) = Disk::new("1m") else { return };
    let full = disk.0.path().join("full");
    let head = format!(
        "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nretries = 0\ncommand = [\"sh\", \"-c\", \"cat /dev/zero > '{}'; echo done; true\"]\n",
        full.display()
    );
    let yard = Yard::new(&["m".into()], &head);
    let (store, state) = (yard.stores().remove(0), disk.0.path().join("state"));
    let other = state.join("jobs/other/1");
    fs::create_dir_all(&other).unwrap();
    let task =
        "{\"arguments\": [\"true\"], \"folder\": \"/\", \"variables\": [], \"within\": \"PT1H\", \"log_bytes\": 1000}";
    fs::write(other.join("task.json"), task).unwrap();
    let (http, now) = (Http::new().unwrap(), Timestamp::now());
    add_event(&mut open(&store, &yard.fleet), "event", "m", now);
    let job = || open(&store, &yard.fleet).jobs("event").unwrap().remove(0).job;
    until("it has ended", || {
        pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
        job().state.is_final()
    });
    assert_eq!(job().state.name(), "succeeded", "{:?}", job());
    let more = fs::write(disk.0.path().join("more"), vec![1; 1 << 16]);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::StorageFull, "it is full all the while");
    // On a disk that is full already nothing is started; later, when there is room, it is.
    fs::remove_file(disk.0.path().join("more")).unwrap();
    let begin = || supervise(&other);
    let said = String::from_utf8_lossy(&begin().stderr).into_owned();
    assert!(said.contains("reserve"), "{said}");
    assert!(!other.join("started").exists() && !other.join("result.json").exists());
    fs::remove_file(&full).unwrap();
    assert!(begin().status.success());
    assert!(fs::read_to_string(other.join("result.json")).unwrap().contains("succeeded"));
}

#[test]
fn the_files_of_a_run_are_for_its_owner_only_and_what_is_no_answer_holds_nothing_up() {
    use std::os::unix::fs::MetadataExt;
    for answer in
        ["mkfifo $A", "ln -s /dev/zero $A", "mkdir $A", "head -c 70000 /dev/zero > $A", "echo '{\"cost\": 5}' > $A"]
    {
        let command = toml::Value::from(format!("A=$DRIFTSWEEP_ANSWER_FILE; {answer}; echo out"));
        let head = format!(
            "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\nstorage = 3\ncommand = [\"sh\", \"-c\", {command}]\n"
        );
        let yard = Yard::new(&["m".into()], &head);
        let (store, state) = (yard.stores().remove(0), yard.folder.path().join("state"));
        let (http, now) = (Http::new().unwrap(), Timestamp::now());
        add_event(&mut open(&store, &yard.fleet), "event", "m", now);
        let job = || open(&store, &yard.fleet).jobs("event").unwrap().remove(0).job;
        until("it has ended", || {
            pass(&yard.fleet, &store, &state, &http, now, &mut |_| ());
            job().state.is_final()
        });
        let says = answer.starts_with("echo");
        assert_eq!((job().state.name(), job().spent.cents()), ("succeeded", if says { 500 } else { 300 }), "{answer}");
        let folder = state.join("jobs/event/1");
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join("exchange")).unwrap().mode() & 0o777, 0o700);
        for name in
            ["task.json", "exchange/event.json", "lock", "started", "alive", "group", "output.log", "result.json"]
        {
            assert_eq!(fs::metadata(folder.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
    }
    // Neither is a result, nor what a supervisor is told.
    let folder = tempfile::TempDir::new().unwrap();
    for name in ["task.json", "result.json"] {
        assert!(Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap().success());
    }
    let said = String::from_utf8_lossy(&supervise(folder.path()).stderr).into_owned();
    assert!(said.contains("task.json") && said.contains("not a regular file"), "{said}");
    let yard =
        Yard::new(&["m".into()], "[approval]\napprovers = [[\"ana\"]]\n[defaults.retrain]\ncommand = [\"true\"]\n");
    let (store, state) = (yard.stores().remove(0), yard.folder.path().join("state"));
    add_event(&mut open(&store, &yard.fleet), "event", "m", Timestamp::now());
    fs::create_dir_all(state.join("jobs/event/1")).unwrap();
    assert!(Command::new("mkfifo").arg(state.join("jobs/event/1/result.json")).status().unwrap().success());
    pass(&yard.fleet, &store, &state, &Http::new().unwrap(), Timestamp::now(), &mut |_| ());
    assert_eq!(open(&store, &yard.fleet).jobs_in("running").unwrap().len(), 1);
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
    let pid = leader(&group);
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    kill_process(Pid::from_raw(leader(&group.with_file_name("started"))).unwrap(), Signal::KILL).unwrap();
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
    assert!(matches!(job().state, JobState::Queued { not_before } if not_before > later), "{:?}", job().state);
    // Called off while it runs: it ends at once.
    let again = later + SignedDuration::from_secs(60);
    pass(&yard.fleet, &store, &state, &http, again, &mut |_| ());
    assert_eq!(job().state.name(), "running");
    let context = PassContext {
        http: &http,
        program: Path::new(env!("CARGO_BIN_EXE_driftsweep")),
        state: &state,
        clock: again,
        elapsed: &|| Duration::ZERO,
    };
    scheduler::cancel(
        &yard.fleet,
        &mut open(&store, &yard.fleet),
        "event",
        ("ana", "no longer needed"),
        &context,
        again,
    )
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

#[test]
fn a_store_of_a_newer_version_is_told_apart_from_a_full_disk() {
    let yard = Yard::new(&["m".into()], "");
    let store = yard.stores().remove(0);
    drop(open(&store, &yard.fleet));
    sql(
        &store,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'x', TRUE, X'00', 0)",
    );
    let error = Store::open(&store, "f").map(drop).unwrap_err().to_string();
    let version = format!("driftsweep {}", env!("CARGO_PKG_VERSION"));
    for wanted in ["newer version", "version 99", &version, "versions up to 6"] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let Some(disk) = Disk::new("64k") else { return };
    fs::write(disk.0.path().join("full"), vec![1; 56 << 10]).unwrap();
    let place = disk.0.path().join("store.sqlite").display().to_string();
    let error = Store::open(&place, "f").map(drop).unwrap_err().to_string();
    assert!(error.contains("full") && !error.contains("newer"), "{error}");
}
