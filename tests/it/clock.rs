//! Clocks that were wrong: one that was weeks ahead once, one that is behind, one that was set back after a question was put.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use driftsweep::model::Options;
use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::Fleet;
use driftsweep_ops::store::Store;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::jobs::pass;
use crate::support::needs::postgres;
use crate::support::output::{CHANNEL, all_output, kinds, told};
use crate::support::world::tick_here;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What stands between a program and the clock of the system: it says another time.
const WRONG_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, at);
    const char *seconds = getenv("TEST_CLOCK_AHEAD");
    if (!failed && id == CLOCK_REALTIME && seconds) at->tv_sec += atol(seconds);
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"#;

/// Two models that are trained only after an approval, and that drift once their data are shifted.
struct Place {
    folder: TempDir,
    store: String,
}

impl Place {
    /// With an SQLite file as its store.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        // No sweep is due while the test runs.
        let hour = (Timestamp::now().as_second() / 3600 + 12) % 24;
        let models = ["m", "n"]
            .map(|model| format!("[[model]]\nname = \"{model}\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\n"));
        let text = format!(
            "name = \"{name}\"\nsweep = \"0 {hour} * * *\"\n{CHANNEL}[approval]\napprovers = [[\"ana\"], [\"cto\"]]\n\
             [defaults.trigger]\ncooldown = \"7d\"\ndrift.persistence = \"1 of 1\"\n[defaults.retrain]\nstakes = \"high\"\n\
             command = [\"true\"]\n{}",
            models.concat()
        );
        fs::write(folder.path().join("fleet.toml"), text).unwrap();
        let store = folder.path().join("store.sqlite").display().to_string();
        let place = Self { folder, store };
        place.write("a", 0.0);
        place.write("b", 0.0);
        place
    }

    /// One for each store.
    fn all() -> Vec<Self> {
        let on_server = postgres().map(|store| Self { store, ..Self::new() });
        [Some(Self::new()), on_server].into_iter().flatten().collect()
    }

    fn write(&self, name: &str, shift: f64) {
        let values = (0..3000).map(|i| Some(f64::from(i) * 0.37 % 5.0 + shift)).collect();
        let bytes = to_parquet(vec![("x", Cells::Float(values))]).unwrap();
        fs::write(self.folder.path().join(format!("{name}.parquet")), bytes).unwrap();
    }

    fn fleet(&self) -> Fleet {
        Fleet::read(&self.folder.path().join("fleet.toml"), &Options::new()).unwrap()
    }

    fn open(&self) -> Store {
        Store::open(&self.store, &self.fleet().name).unwrap()
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command, on a machine whose clock is ahead.
    fn run_at(&self, ahead: SignedDuration, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).arg(self.folder.path().join("fleet.toml")).arg("--state").arg(self.state());
        command.env("DRIFTSWEEP_STORE", &self.store).env_remove("USER");
        if !ahead.is_zero() {
            let library = self.folder.path().join("clock.so");
            if !library.exists() {
                let source = self.folder.path().join("clock.c");
                fs::write(&source, WRONG_CLOCK).unwrap();
                let mut compiler = Command::new("cc");
                compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
                assert!(compiler.status().unwrap().success());
            }
            command.env("LD_PRELOAD", library).env("TEST_CLOCK_AHEAD", ahead.as_secs().to_string());
        }
        command.output().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_at(SignedDuration::ZERO, args)
    }

    fn jobs(&self) -> Vec<Value> {
        serde_json::from_slice(&self.run(&["jobs", "list", "--all", "--format", "json"]).stdout).unwrap()
    }

    fn job(&self, model: &str) -> Value {
        self.jobs().into_iter().find(|job| job["model"] == model).unwrap()
    }

    #[track_caller]
    fn is_whole(&self) {
        let verified = self.run(&["audit", "verify"]);
        assert_eq!(verified.status.code(), Some(0), "{}", all_output(&verified));
    }
}

/// A person says that a clock was ahead.
const CORRECT: [&str; 7] = ["tick", "--clock-was-ahead", "--by", "ana", "--reason", "NTP was off", "--threads=1"];

const TICK: [&str; 5] = ["tick", "--format", "json", "--threads", "1"];

/// What a tick says in JSON.
#[track_caller]
fn ticked(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", all_output(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

#[test]
fn a_clock_that_was_weeks_ahead_once_keeps_no_night_from_being_swept() {
    for place in Place::all() {
        let (fleet, http, began) = (place.fleet(), Http::new().unwrap(), Timestamp::now());
        let first = ticked(&place.run(&TICK), 0);
        assert!(first["sweep"].is_object() && first["firings"] == json!([]), "{first}");
        // A month ahead: both models drift, and their trainings are asked for. That of n ends there.
        place.write("b", 3.0);
        let future = began + 30 * DAY;
        let ahead = tick_here(&fleet, &place.store, future, &mut |_| ()).unwrap();
        assert_eq!(ahead.firings.len(), 2);
        let last = ahead.sweep.unwrap().as_of;
        pass(&fleet, &place.store, &place.state(), &http, future, &mut |_| ());
        assert_eq!(time(&place.job("m")["state"]["asked_at"]).duration_since(future).as_secs(), 0);
        let n = place.job("n")["id"].as_str().unwrap().to_owned();
        place.open().transaction(|store| store.close_event(&n, future, "trained", "")).unwrap();

        // The clock is right again. Which of the two was wrong the program cannot know: it does nothing until a person says so.
        let records = place.open().audit_head().unwrap();
        for _ in 0..2 {
            let refused = place.run(&TICK);
            assert_eq!(refused.status.code(), Some(14), "{}", all_output(&refused));
            assert!(all_output(&refused).contains("tick --clock-was-ahead --reason TEXT"), "{}", all_output(&refused));
        }
        assert_eq!(place.open().audit_head().unwrap(), records);
        assert_eq!(place.run(&CORRECT[..4]).status.code(), Some(2), "a reason is asked for");
        let corrected = place.run(&CORRECT);
        assert_eq!(corrected.status.code(), Some(0), "{}", all_output(&corrected));
        assert!(all_output(&corrected).contains(&format!("up to {last}")), "{}", all_output(&corrected));
        let again = place.run(&CORRECT);
        assert!(
            again.status.success() && all_output(&again).contains("holds no time that is"),
            "{}",
            all_output(&again)
        );
        assert!(ticked(&place.run(&TICK), 0)["ahead"].is_null());
        let asked = place.job("m");
        assert!(time(&asked["state"]["asked_at"]).duration_since(Timestamp::now()) < HOUR, "{asked}");
        assert!(time(&asked["state"]["due"]).duration_since(Timestamp::now()) < 5 * HOUR, "{asked}");
        let told = told(place.folder.path());
        assert!(["job.ask_again", "clock.ahead"].iter().all(|kind| kinds(&told).contains(kind)), "{told:?}");
        let explained = all_output(&place.run(&["explain", "m"]));
        assert!(explained.contains("it may be answered by ana, cto"), "{explained}");
        let id = asked["id"].as_str().unwrap();
        let answered = place.run(&["approve", id, "--by", "ana", "--reason", "it pays"]);
        assert!(answered.status.success(), "{}", all_output(&answered));
        place.is_whole();

        // The next night is swept. The cooldown of n is none of a time to come.
        let next = (began + 23 * HOUR).to_string();
        let night = [&TICK[..], &["--now", &next]].concat();
        let found = ticked(&place.run(&night), 0);
        assert!(time(&found["sweep"]["as_of"]) > began, "{found}");
        let fired = found["firings"].as_array().unwrap().iter();
        let fired: Vec<_> = fired.map(|firing| (&firing["model"], &firing["outcome"])).collect();
        assert_eq!(fired, [(&json!("m"), &json!("joined")), (&json!("n"), &json!("opened"))]);
        place.is_whole();
        // When the time has come that the clock had said, its night is swept like any other.
        let come = tick_here(&fleet, &place.store, future, &mut |_| ()).unwrap();
        assert_eq!(come.sweep.map(|sweep| sweep.as_of), Some(last));
        place.is_whole();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_machine_whose_clock_was_ahead_or_is_behind_is_told_of_and_loses_nothing() {
    let place = Place::new();
    place.write("b", 3.0);
    ticked(&place.run(&TICK), 0);
    let before = place.job("m");
    // The clock goes a month ahead for one tick: nobody has answered in time, as far as that can be told.
    let ahead = ticked(&place.run_at(30 * DAY, &TICK), 0);
    assert!(time(&ahead["sweep"]["as_of"]).duration_since(Timestamp::now()) > 28 * DAY, "{ahead}");
    assert_eq!((place.job("m")["state"]["level"].as_u64(), &before["state"]["level"]), (Some(1), &json!(0)));
    assert_eq!(place.run(&TICK).status.code(), Some(14));
    let corrected = place.run(&CORRECT);
    assert!(corrected.status.success(), "{}", all_output(&corrected));
    assert!(time(&place.job("m")["state"]["due"]).duration_since(Timestamp::now()) < 5 * HOUR);
    // The night after that is swept.
    let night = ticked(&place.run_at(DAY, &TICK), 0);
    assert!(time(&night["sweep"]["as_of"]) < Timestamp::now() + DAY, "{night}");
    ticked(&place.run_at(2 * DAY, &TICK), 0);
    // Where the clock went back is named, and breaks nothing.
    let verified = place.run(&["audit", "verify", "--format", "json"]);
    let verified = ticked(&verified, 0);
    let set_back = verified["clock_set_back"].as_array().unwrap();
    assert_eq!(set_back.len(), 1, "{verified}");
    assert!(time(&set_back[0]["before"]).duration_since(time(&set_back[0]["at"])) > 28 * DAY);
    let page = all_output(&place.run(&["audit", "verify"]));
    assert!(page.contains("clock: the record before record") && page.contains("whole"), "{page}");

    // A clock that is behind does nothing at all.
    let records = place.open().audit_head().unwrap();
    for behind in [-3 * DAY, -400 * DAY, -20_000 * DAY] {
        let refused = place.run_at(behind, &TICK);
        assert_eq!(refused.status.code(), Some(14), "{}", all_output(&refused));
        assert!(
            all_output(&refused).contains("or the clock is behind now") && all_output(&refused).contains("(NTP)"),
            "{}",
            all_output(&refused)
        );
    }
    assert_eq!(place.open().audit_head().unwrap(), records);
}

#[cfg(target_os = "linux")]
#[test]
fn a_tick_does_nothing_where_the_clocks_of_the_machine_and_the_server_are_days_apart() {
    let Some(store) = postgres() else { return };
    let place = Place { store, ..Place::new() };
    ticked(&place.run(&TICK), 0);
    let records = place.open().audit_head().unwrap();
    for apart in [30 * DAY, -30 * DAY] {
        let refused = place.run_at(apart, &TICK);
        assert_eq!(refused.status.code(), Some(14), "{}", all_output(&refused));
        assert!(all_output(&refused).contains("by the clock of this machine, and"), "{}", all_output(&refused));
    }
    assert_eq!(place.open().audit_head().unwrap(), records);
}

#[cfg(target_os = "linux")]
#[test]
fn a_clock_that_is_set_back_puts_off_no_deadline() {
    let place = Place::new();
    place.write("b", 3.0);
    ticked(&place.run(&TICK), 0);
    let (m, n) = (place.job("m"), place.job("n"));
    let answer =
        |word: &str, job: &Value| place.run(&[word, job["id"].as_str().unwrap(), "--by", "ana", "--reason", "it pays"]);
    assert!(answer("approve", &n).status.success());
    // It is five hours later: the answer was due in four.
    let muted = place.run_at(5 * HOUR, &["mute", "n", "--for", "1d", "--by", "ana", "--reason", "quiet"]);
    assert!(muted.status.success(), "{}", all_output(&muted));
    for word in ["approve", "reject"] {
        let refused = answer(word, &m);
        assert_eq!(refused.status.code(), Some(2), "{}", all_output(&refused));
        assert!(
            all_output(&refused).contains("was set back since, and the answer is too late"),
            "{}",
            all_output(&refused)
        );
    }
    place.is_whole();
    // The next level is asked when it is due by the clock, too.
    ticked(&place.run_at(5 * HOUR, &TICK), 0);
    assert_eq!(place.job("m")["state"]["level"], 1);
    // An answer that was written into the audit in spite of that is found, and starts nothing.
    let time = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap();
    let grant = json!({ "by": { "person": "cto" }, "reason": "x", "at": time, "overruns": [] });
    let (id, body) = (m["id"].as_str().unwrap(), json!({ "step": "approve", "grant": grant }));
    let late = place.run_at(10 * HOUR, &["mute", "n", "--for", "1d", "--by", "ana", "--reason", "quiet"]);
    assert!(late.status.success(), "{}", all_output(&late));
    place.open().append_audit(time, "cto", "job.approve", id, body).unwrap();
    let verified = place.run(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(15), "{}", all_output(&verified));
    assert!(all_output(&verified).contains("the answer is too late"), "{}", all_output(&verified));
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_of_a_time_to_come_is_told_of_by_every_tick_until_then() {
    let place = Place::new();
    ticked(&place.run(&TICK), 0);
    // Less than a day ahead: the sweep of the next night is made now.
    let early = ticked(&place.run_at(23 * HOUR, &TICK), 0);
    let as_of = time(&early["sweep"]["as_of"]);
    assert!(as_of > Timestamp::now(), "{early}");
    for _ in 0..2 {
        let output = place.run(&TICK);
        assert_eq!(time(&ticked(&output, 11)["ahead"]), as_of);
        assert!(all_output(&output).contains("no sweep is due until then"), "{}", all_output(&output));
    }
    // A night that is replayed is earlier on purpose.
    let now = Timestamp::now().to_string();
    ticked(&place.run(&[&TICK[..], &["--now", &now]].concat()), 0);
}
