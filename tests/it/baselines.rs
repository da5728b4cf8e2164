//! What becomes of the baseline after a training: named by its answer, set and restored by people; on both stores.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use driftsweep::count::CpuCounter;
use driftsweep::history::sweep_id;
use driftsweep::sweep::{SweepReport, SweepRun};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::Fleet;
use driftsweep_ops::tick::{self, Sweeper};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::jobs::{open, pass};
use crate::support::output::all_output;
use crate::support::server;
use crate::support::server::answer;
use crate::support::world::World;

const MODEL: &str = "model-00000";

/// A fleet of one model whose data drift from the night of 2026-01-02 on, its store, and its state.
struct Place {
    world: World,
    store: String,
    state: PathBuf,
}

impl Place {
    /// One fleet for each store; `how` says how it is trained.
    fn all(how: &str) -> Vec<Self> {
        let extra = format!(
            "[approval]\napprovers = [[\"ana\"]]\n[[notify]]\nname = \"log\"\nfile = \"told.jsonl\"\nabout = [\"job\"]\n\
             [defaults.trigger]\ncooldown = \"2d\"\ndrift.persistence = \"1 of 1\"\n[defaults.retrain]\n{how}\n"
        );
        let stores = World::new(1, "").stores().len();
        (0..stores)
            .map(|i| {
                let world = World::new(1, &extra);
                let (store, state) = (world.stores()[i].clone(), world.folder.path().join("state"));
                let place = Self { world, store, state };
                // Every night after the generated ones is like the last of them.
                for day in 5..=12 {
                    let [from, to] = [4, day].map(|day| place.path(&format!("current/2026-01-{day:02}")));
                    fs::create_dir_all(&to).unwrap();
                    fs::copy(from.join("table-00000.parquet"), to.join("table-00000.parquet")).unwrap();
                }
                // The clock of this test is in the past: the training snapshot is older.
                let snapshot = File::options().write(true).open(place.path("baseline/table-00000.parquet")).unwrap();
                snapshot.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_500_000)).unwrap();
                place
            })
            .collect()
    }

    /// Trained by a shell script, in which the fleet's folder is the working folder.
    fn by_script(script: &str) -> Vec<Self> {
        Self::all(&format!("command = [\"sh\", \"-c\", {}]", toml::Value::from(script)))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.world.folder.path().join(below)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).arg(self.world.fleet_file()).arg("--state").arg(&self.state);
        command.env("DRIFTSWEEP_STORE", &self.store).env_remove("USER").output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--format", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", all_output(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn tick(&self, now: &str) -> (Value, String) {
        let output = self.run(&["tick", "--format", "json", "--threads", "1", "--now", now]);
        assert!(output.status.success(), "{}", all_output(&output));
        (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What became of the drift trigger at the sweep of a day: nothing if it did not fire.
    fn drift_on(&self, day: u32) -> Vec<String> {
        let (ticked, _) = self.tick(&format!("2026-01-{day:02}T03:00:00Z"));
        assert_eq!(ticked["status"]["failures"], json!({}), "{ticked}");
        let firings = ticked["firings"].as_array().unwrap().iter();
        firings.map(|firing| firing["outcome"].as_str().unwrap().to_owned()).collect()
    }

    /// Drift on the third of January, and ticks until it has been trained for: the job, and what ticks said of it.
    fn trained(&self) -> (Value, String) {
        assert_eq!(self.drift_on(2), [""; 0]);
        assert_eq!(self.drift_on(3), ["opened"]);
        for minute in 1..59 {
            let (_, said) = self.tick(&format!("2026-01-03T03:{minute:02}:00Z"));
            let jobs = self.json(&["jobs", "list", "--all"]);
            if jobs[0]["state"]["state"] == "succeeded" {
                return (jobs[0].clone(), said);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it was never trained: {}", self.json(&["jobs", "list", "--all"]));
    }

    fn page(&self, job: &Value) -> String {
        all_output(&self.run(&["jobs", "show", job["id"].as_str().unwrap()]))
    }

    /// The baselines: the number of that in use, and all of them.
    fn baselines(&self) -> (u64, Vec<Value>) {
        let listed = self.json(&["baseline", "list", "--model", MODEL]).as_array().unwrap().clone();
        let used: Vec<&Value> = listed.iter().filter(|line| line["in_use"] == true).collect();
        assert_eq!(used.len(), 1, "{listed:?}");
        (used[0]["number"].as_u64().unwrap(), listed)
    }

    fn records(&self, kind: &str) -> Vec<Value> {
        assert!(self.run(&["audit", "verify"]).status.success());
        let exported = self.run(&["audit", "export"]).stdout;
        let records = String::from_utf8(exported).unwrap();
        let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["kind"] == kind).collect()
    }

    fn told(&self, kind: &str) -> Vec<Value> {
        let told = fs::read_to_string(self.path("told.jsonl")).unwrap();
        let told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        told.filter(|event| event["data"]["kind"] == kind).collect()
    }
}

const NEW: &str = "current/2026-01-02/table-00000.parquet";

#[test]
fn a_training_that_names_its_snapshot_is_not_asked_for_again_until_its_baseline_is_taken_back() {
    let script = format!("echo '{{\"cost\": 12.5, \"baseline\": \"{NEW}\"}}' > $DRIFTSWEEP_ANSWER_FILE");
    for place in Place::by_script(&script) {
        let (job, said) = place.trained();
        assert_eq!(said, "");
        assert_eq!(job["baseline"]["outcome"], "set", "{job}");
        let kept = job["baseline"]["place"].as_str().unwrap();
        assert!(
            kept.starts_with(place.state.join("baselines").to_str().unwrap()) && Path::new(kept).is_file(),
            "{kept}"
        );
        let page = place.page(&job);
        assert!(page.contains(&format!("the new baseline is {kept}, in place of")), "{page}");
        assert!(!page.contains("will be found again"), "{page}");
        // Beyond the cooldown there are nights of what it was trained on.
        for day in 4..8 {
            assert_eq!(place.drift_on(day), [""; 0], "day {day}");
        }
        let (used, listed) = place.baselines();
        assert_eq!((used, listed.len()), (1, 2), "{listed:?}");
        assert_eq!((&listed[1]["job"], &listed[1]["set_by"]), (&job["id"], &json!("driftsweep")));
        assert_eq!(listed[1]["place"], kept);
        // One record, in the transaction of the training's end, with both places and their contents.
        let [set] = &place.records("baseline.set")[..] else { panic!() };
        let [end] = &place.records("job.succeed")[..] else { panic!() };
        assert_eq!((&set["at"], &set["subject"], &set["body"]["job"]), (&end["at"], &json!(MODEL), &job["id"]));
        assert_eq!(set["seq"].as_u64().unwrap(), end["seq"].as_u64().unwrap() + 1);
        for side in ["former", "new"] {
            assert_eq!(set["body"][side]["content_hash"].as_str().unwrap().len(), 64, "{set}");
        }
        assert_ne!(set["body"]["former"], set["body"]["new"]);
        assert_eq!(place.told("baseline.set").len(), 1);
        // A sweep by hand is against it, too.
        let swept = place.run(&["sweep", "--format", "json", "--now", "2026-01-08T02:00:00Z", "--fail-on-drift"]);
        assert_eq!(swept.status.code(), Some(0), "{}", self::all_output(&swept));

        let restore = |more: &[&str]| {
            let args =
                [&["baseline", "restore", MODEL, "--reason", "it was worse", "--now", "2026-01-08T12:00:00Z"], more];
            place.run(&args.concat())
        };
        let nobody = restore(&[]);
        assert_eq!(nobody.status.code(), Some(2), "{}", self::all_output(&nobody));
        assert!(self::all_output(&restore(&["--by", "ana", "--to", "7"])).contains("there is no baseline 7"));
        assert!(self::all_output(&restore(&["--by", "ana", "--to", "1"])).contains("is the one in use"));
        let done = restore(&["--by", "ana"]);
        assert!(done.status.success(), "{}", self::all_output(&done));
        let (used, listed) = place.baselines();
        assert_eq!((used, listed.len()), (2, 3), "nothing is removed: {listed:?}");
        assert!(listed[2]["note"].as_str().unwrap().contains("the same drift will be found again"), "{listed:?}");
        let [back] = &place.records("baseline.restore")[..] else { panic!() };
        assert_eq!((&back["actor"], &back["body"]["former"]), (&json!("ana"), &set["body"]["new"]));
        assert_eq!(back["body"]["new"]["content_hash"], set["body"]["former"]["content_hash"]);
        assert_eq!(place.drift_on(9), ["opened"]);
        assert_eq!(place.told("baseline.restore").len(), 1);
        let swept = place.run(&["sweep", "--format", "json", "--now", "2026-01-09T02:00:00Z", "--fail-on-drift"]);
        assert_eq!(swept.status.code(), Some(10), "{}", self::all_output(&swept));
        // And the other way: the former one of what is in use now.
        assert!(restore(&["--by", "ana"]).status.success());
        assert_eq!(place.baselines().1[3]["place"], kept);
        // Another one in the fleet file counts again.
        let text = fs::read_to_string(place.world.fleet_file()).unwrap();
        assert!(text.contains("baseline/table-00000.parquet"), "{text}");
        fs::copy(place.path("baseline/table-00000.parquet"), place.path("baseline/other.parquet")).unwrap();
        let other = text.replace("baseline/table-00000.parquet", "baseline/other.parquet");
        fs::write(place.world.fleet_file(), other).unwrap();
        let (used, listed) = place.baselines();
        assert_eq!(used, 0);
        assert!(listed[3]["note"].as_str().unwrap().contains("names another one now"), "{listed:?}");
    }
}

#[test]
fn a_training_that_names_no_baseline_is_asked_for_again_and_says_why() {
    for place in Place::by_script("true") {
        let (job, _) = place.trained();
        // The file's time is that of the real clock, and so is that of the training beside it.
        let says = |text: &str| {
            text.contains("the baseline is from 2025-11-30, before the training of ")
                && text.contains(": the same drift will be found again")
        };
        let words = |value: &Value| says(value.as_str().unwrap_or_default());
        assert_eq!(job["baseline"]["outcome"], "kept");
        assert!(words(&job["outdated_baseline"]), "{job}");
        assert!(says(&place.page(&job)), "{}", place.page(&job));
        let shown = place.json(&["jobs", "show", job["id"].as_str().unwrap()]);
        assert!(words(&shown["job"]["outdated_baseline"]), "{shown}");
        let [told] = &place.told("job.succeed")[..] else { panic!() };
        assert!(words(&told["data"]["figures"]["about_baseline"]), "{told}");
        assert_eq!(place.drift_on(4), ["cooldown"]);
        assert_eq!(place.drift_on(5), ["opened"]);
        assert_eq!(place.baselines().0, 0);
    }
}

#[test]
fn a_training_that_writes_its_snapshot_anew_has_renewed_the_baseline() {
    for place in Place::by_script(&format!("cp {NEW} baseline/table-00000.parquet")) {
        let (job, _) = place.trained();
        assert_eq!(job["baseline"], json!({ "outcome": "kept", "warning": null }));
        assert!(job["outdated_baseline"].is_null(), "{job}");
        assert_eq!(place.drift_on(5), [""; 0]);
    }
}

#[test]
fn a_baseline_that_cannot_be_used_costs_no_training_and_is_told_with_the_reason() {
    let binary = env!("CARGO_BIN_EXE_driftsweep");
    for (script, named, reason) in [
        ("", "\"models/none.parquet\"", "no such file"),
        ("", "\" \"", "the path is empty"),
        ("echo junk > junk.baseline", "\"junk.baseline\"", "not a baseline file"),
        ("mkfifo pipe.baseline", "\"pipe.baseline\"", "not a regular file"),
        ("mkdir empty", "\"empty\"", "no data in it"),
        ("echo 'a,b\n1,2' > tiny.csv", "\"tiny.csv\"", "built from 1 rows, fewer than min_rows = 1000"),
        (
            "(echo a,b; seq 2000 | sed 's/$/,2/') > other.csv",
            "\"other.csv\"",
            "it has 0 of the 6 features that the model compares, fewer than half",
        ),
        (
            &format!("{binary} baseline build {NEW} --bins 7 -o seven.baseline"),
            "\"seven.baseline\"",
            "built with 7 bins",
        ),
    ] {
        let script = format!("{script}\necho '{{\"cost\": 12.5, \"baseline\": {named}}}' > $DRIFTSWEEP_ANSWER_FILE");
        for place in Place::by_script(&script).into_iter().take(1) {
            let (job, said) = place.trained();
            assert_eq!(place.records("job.succeed").len(), 1);
            assert_eq!(job["baseline"]["outcome"], "refused", "{job}");
            let told = place.told("job.succeed")[0]["data"]["figures"]["about_baseline"].as_str().unwrap().to_owned();
            for text in [&said, &place.page(&job), &told] {
                assert!(text.contains("the baseline was not changed") && text.contains(reason), "{reason}: {text}");
                assert!(!text.contains("tries again"), "{text}");
            }
            assert_eq!(place.baselines().0, 0);
            assert_eq!(place.records("baseline.set").len(), 0);
            assert!(
                !place.state.join("baselines").exists()
                    || fs::read_dir(place.state.join("baselines").join(MODEL)).unwrap().count() == 0
            );
        }
    }
}

#[test]
fn a_baseline_file_is_kept_as_it_was_whatever_is_written_to_its_path_later() {
    let binary = env!("CARGO_BIN_EXE_driftsweep");
    let script = format!(
        "{binary} baseline build {NEW} -o new.baseline; echo '{{\"baseline\": \"new.baseline\"}}' > $DRIFTSWEEP_ANSWER_FILE"
    );
    for place in Place::by_script(&script) {
        let (job, said) = place.trained();
        assert_eq!(said, "");
        let kept = job["baseline"]["place"].as_str().unwrap();
        assert_eq!(fs::read(kept).unwrap(), fs::read(place.path("new.baseline")).unwrap());
        fs::write(place.path("new.baseline"), "the next training is writing").unwrap();
        assert_eq!(place.drift_on(5), [""; 0]);
    }
}

#[test]
fn a_webhook_names_a_baseline_relative_to_the_fleet_file() {
    let url = server::http(|request| match &*request.method {
        "POST" => answer(202, "{}"),
        _ => answer(200, json!({ "state": "succeeded", "cost": 3, "baseline": NEW })),
    });
    for place in Place::all(&format!("webhook = {{ url = \"{url}\" }}")) {
        let (job, said) = place.trained();
        assert_eq!((&*said, &job["baseline"]["outcome"], &job["baseline"]["named"]), ("", &json!("set"), &json!(NEW)));
        assert_eq!(place.drift_on(5), [""; 0]);
    }
}

#[test]
fn a_person_sets_a_baseline_and_the_segments_of_the_model_are_in_it() {
    for place in Place::by_script("true") {
        let text = fs::read_to_string(place.world.fleet_file()).unwrap();
        let new = place.path(NEW).display().to_string();
        let columns = crate::support::data::read_parquet(&place.path(NEW));
        let numeric = columns.get_column_names()[0].to_string();
        let column = toml::Value::from(numeric);
        let with_segment = format!("{text}\n[model.segment.low]\n{column} = {{ below = 0.0 }}\n");
        fs::write(place.world.fleet_file(), with_segment).unwrap();
        let set = ["baseline", "set", MODEL, &new, "--reason", "trained elsewhere", "--by", "bo"];
        let done = place.run(&[&set[..], &["--now", "2026-01-02T12:00:00Z"]].concat());
        assert!(done.status.success(), "{}", all_output(&done));
        let (used, listed) = place.baselines();
        assert_eq!((used, &listed[1]["set_by"], &listed[1]["job"]), (1, &json!("bo"), &Value::Null));
        let shown = crate::support::data::run(["baseline", "show", listed[1]["place"].as_str().unwrap()]);
        assert!(all_output(&shown).contains("segment low ("), "{}", all_output(&shown));
        assert_eq!(place.drift_on(4), [""; 0]);
        let [record] = &place.records("baseline.set")[..] else { panic!() };
        assert_eq!((&record["actor"], &record["body"]["reason"]), (&json!("bo"), &json!("trained elsewhere")));
        let missing = place.run(&["baseline", "set", MODEL, "none.parquet", "--reason", "x", "--by", "bo"]);
        assert_eq!(missing.status.code(), Some(3), "{}", all_output(&missing));
    }
}

#[test]
fn a_pass_killed_between_any_two_steps_sets_the_baseline_once_and_with_the_end_of_the_training() {
    let script = format!("echo '{{\"baseline\": \"{NEW}\"}}' > $DRIFTSWEEP_ANSWER_FILE");
    for place in Place::by_script(&script) {
        place.drift_on(2);
        assert_eq!(place.drift_on(3), ["opened"]);
        let job = place.json(&["jobs", "list", "--all"])[0].clone();
        let ended = place.state.join("jobs").join(job["id"].as_str().unwrap()).join("1/result.json");
        for _ in 0..600 {
            if ended.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(ended.exists());
        let (fleet, http, now) = (place.world.fleet(), Http::new().unwrap(), "2026-01-03T03:30:00Z".parse().unwrap());
        let (mut kills, mut steps) = (0, Vec::new());
        for kill_at in 1.. {
            let mut step = 0;
            let mut dies = |name: &str| {
                step += 1;
                if step == kill_at {
                    steps.push(name.to_owned());
                    resume_unwind(Box::new("killed"));
                }
            };
            let passed =
                catch_unwind(AssertUnwindSafe(|| pass(&fleet, &place.store, &place.state, &http, now, &mut dies)));
            let mut store = open(&place.store, &fleet);
            let entries = store.baseline_entries(Some(MODEL)).unwrap();
            let succeeded = store.jobs_in("succeeded").unwrap();
            assert_eq!(entries.len(), succeeded.len(), "both or none");
            if passed.is_ok() {
                assert_eq!((entries.len(), entries[0].job.as_ref()), (1, Some(&succeeded[0].job.id)));
                break;
            }
            kills += 1;
        }
        assert!(kills > 2 && steps.iter().any(|step| step == "renew baseline"), "{steps:?}");
        assert_eq!((place.records("baseline.set").len(), place.records("job.succeed").len()), (1, 1));
        let folder = place.state.join("baselines").join(MODEL);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
    }
}

#[test]
fn a_new_baseline_must_have_half_of_the_features_that_the_model_compares_and_may_have_others() {
    for place in Place::by_script("true").into_iter().take(1) {
        place.drift_on(2);
        let whole = crate::support::data::read_parquet(&place.path(NEW));
        let names: Vec<String> = whole.get_column_names().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 6);
        let set = |kept: usize, others: usize, more: &[&str]| {
            let mut frame = whole.clone();
            for name in &names[kept..] {
                frame = frame.drop(name).unwrap();
            }
            for i in 0..others {
                let mut column = whole.column(&names[0]).unwrap().clone();
                column.rename(format!("other{i}").into());
                frame.with_column(column).unwrap();
            }
            let file = place.path(&format!("new-{kept}-{others}.parquet"));
            crate::support::data::write_parquet(&mut frame, &file, 1500);
            let file = file.display().to_string();
            let args =
                ["baseline", "set", MODEL, &file, "--by", "bo", "--reason", "r", "--now", "2026-01-02T12:00:00Z"];
            place.run(&[&args[..], more].concat())
        };
        for (kept, others, fits) in [(2, 0, false), (2, 20, false), (0, 6, false), (3, 0, true), (6, 20, true)] {
            let done = set(kept, others, &[]);
            assert_eq!(done.status.success(), fits, "{kept} {others}: {}", all_output(&done));
            if !fits {
                assert_eq!(done.status.code(), Some(5), "{}", all_output(&done));
                let wanted = format!("it has {kept} of the 6 features that the model compares, fewer than half");
                assert!(all_output(&done).contains(&wanted), "{}", all_output(&done));
                continue;
            }
            // The one before is restored whatever it holds: it was in use.
            let back = [
                "baseline",
                "restore",
                MODEL,
                "--by",
                "bo",
                "--reason",
                "r",
                "--to",
                "0",
                "--now",
                "2026-01-02T12:00:00Z",
            ];
            let restored = place.run(&back);
            assert!(restored.status.success(), "{}", all_output(&restored));
        }
        // A baseline that is gone keeps nobody from replacing it.
        fs::remove_file(place.path("baseline/table-00000.parquet")).unwrap();
        let done = set(2, 0, &[]);
        assert!(done.status.success(), "{}", all_output(&done));
    }
}

#[test]
fn a_state_folder_that_was_moved_has_its_baselines_with_it() {
    let script = format!("echo '{{\"baseline\": \"{NEW}\"}}' > $DRIFTSWEEP_ANSWER_FILE");
    for mut place in Place::by_script(&script) {
        let (job, _) = place.trained();
        assert_eq!(job["baseline"]["outcome"], "set");
        let moved = place.path("moved/to/here");
        fs::create_dir_all(moved.parent().unwrap()).unwrap();
        fs::rename(&place.state, &moved).unwrap();
        place.state = moved;
        assert_eq!(place.drift_on(5), [""; 0]);
        let (used, listed) = place.baselines();
        assert_eq!(used, 1);
        let shown = listed[1]["place"].as_str().unwrap();
        assert!(shown.starts_with(place.state.to_str().unwrap()) && Path::new(shown).is_file(), "{shown}");
        let swept = place.run(&["sweep", "--format", "json", "--now", "2026-01-06T02:00:00Z", "--fail-on-drift"]);
        assert_eq!(swept.status.code(), Some(0), "{}", all_output(&swept));
        // Back and forth by a person.
        for in_use in [2, 3] {
            let restored = place.run(&[
                "baseline",
                "restore",
                MODEL,
                "--by",
                "ana",
                "--reason",
                "r",
                "--now",
                "2026-01-06T03:00:00Z",
            ]);
            assert!(restored.status.success(), "{}", all_output(&restored));
            assert_eq!(place.baselines().0, in_use);
        }
        assert_eq!(place.drift_on(7), [""; 0]);
        // Nothing but the baseline is in its folder.
        let kept = place.state.join("baselines").join(MODEL);
        let names: Vec<_> = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.len() == 1 && names[0].to_str().unwrap().ends_with(".baseline"), "{names:?}");
    }
}

/// Sweeps, and while it does somebody sets a baseline.
struct Meanwhile<'a> {
    fleet: &'a Fleet,
    set: Option<Box<dyn FnOnce() + 'a>>,
}

impl Sweeper for Meanwhile<'_> {
    fn sweep(&mut self, as_of: Timestamp) -> driftsweep_common::error::Result<SweepReport> {
        let fleet = self.fleet.at(as_of);
        let mut report = SweepRun::new(&CpuCounter).sweep(&fleet.plan(as_of));
        report.as_of = as_of.to_string();
        report.id = sweep_id(&fleet.name, fleet.models.iter().map(|model| &*model.name), as_of);
        if let Some(set) = self.set.take() {
            set();
        }
        Ok(report)
    }

    fn keep(&mut self, _: &SweepReport) -> driftsweep_common::error::Result<()> {
        Ok(())
    }

    fn done(&mut self) -> driftsweep_common::error::Result<()> {
        Ok(())
    }
}

#[test]
fn drift_from_a_baseline_that_was_replaced_during_the_sweep_opens_no_event_and_says_so() {
    for place in Place::by_script("true") {
        place.drift_on(2);
        let new = place.path(NEW).display().to_string();
        let set = || {
            let args = ["baseline", "set", MODEL, &new, "--by", "bo", "--reason", "r", "--now", "2026-01-03T02:30:00Z"];
            let done = place.run(&args);
            assert!(done.status.success(), "{}", all_output(&done));
        };
        let fleet = place.world.fleet();
        let now: Timestamp = "2026-01-03T03:00:00Z".parse().unwrap();
        let mut sweeper = Meanwhile { fleet: &fleet, set: Some(Box::new(set)) };
        let ticked = tick::tick(&fleet, &mut open(&place.store, &fleet), now, &mut sweeper, &mut |_| ()).unwrap();
        assert!(ticked.events.is_empty() && ticked.firings.is_empty(), "{ticked:?}");
        let status = ticked.status.unwrap();
        let note = &status.not_judged[MODEL][0];
        for wanted in ["no event for drift (", "baseline/table-00000.parquet", "was set during the sweep"] {
            assert!(note.contains(wanted), "'{wanted}' is not in {note}");
        }
        // The next sweep uses it, and finds no drift.
        assert_eq!(place.drift_on(5), [""; 0]);
        // Back to the old one: the event names the baseline that it was judged by, and so does the page.
        let restore = ["baseline", "restore", MODEL, "--by", "bo", "--reason", "r", "--now", "2026-01-05T12:00:00Z"];
        assert!(place.run(&restore).status.success());
        let (ticked, _) = place.tick("2026-01-06T03:00:00Z");
        let named = ticked["events"][0]["data"]["details"]["baseline"].as_str().unwrap();
        assert!(named.ends_with("baseline/table-00000.parquet"), "{named}");
        let page = all_output(&place.run(&["explain", MODEL]));
        assert!(page.contains(&format!("compared with {named}")), "{page}");
    }
}
