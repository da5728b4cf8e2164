//! Nights as they are: data that come late, retries of a scheduler, state that was lost, models that are too small, metrics
//! that warn, two fleets of one name.

use std::fs;
use std::path::{Path, PathBuf};

use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep_ops::store::Store;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::data::{all_below, run};
use crate::support::output::{CHANNEL, error_output, kinds, parsed, told};
use crate::support::world::{World, loans};

/// The file of a model on the night before a sweep.
fn file(world: &World, day: u32, model: usize) -> PathBuf {
    world.folder.path().join(format!("current/2026-01-0{day}/table-{model:05}.parquet"))
}

/// What becomes of a file that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Missing,
    /// A writer was killed in the middle of it.
    CutShort,
    /// Its footer is fine, a column's pages are not.
    Damaged,
    Empty,
}

fn spoil(path: &Path, fate: Fate) {
    let bytes = fs::read(path).unwrap();
    match fate {
        Fate::Missing => fs::remove_file(path).unwrap(),
        Fate::CutShort => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        Fate::Empty => fs::write(path, b"").unwrap(),
        Fate::Damaged => {
            let mut bytes = bytes;
            bytes[4..600].fill(0xff);
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_night_whose_data_are_late_is_judged_when_they_come_and_counts() {
    for fate in [Fate::Missing, Fate::CutShort, Fate::Damaged, Fate::Empty] {
        let world = World::new(3, &format!("wait_for_data = \"8h\"\n{CHANNEL}"));
        for store in world.stores() {
            let _ = fs::remove_file(world.folder.path().join("told.jsonl"));
            let _ = fs::remove_dir_all(world.folder.path().join("state"));
            world.ticked(&store, "2026-01-02T03:00:00Z");
            world.ticked(&store, "2026-01-03T03:00:00Z");
            // The second night of drift: one model's data are not there, or no good.
            let late = file(&world, 3, 1);
            let whole = fs::read(&late).unwrap();
            spoil(&late, fate);
            let output = world.tick(&store, "2026-01-04T03:00:00Z", &[]);
            assert_eq!(output.status.code(), Some(11), "{fate:?}: {}", error_output(&output));
            assert!(
                error_output(&output).contains("it is read again until 2026-01-04T11:00:00Z"),
                "{}",
                error_output(&output)
            );
            let ticked = parsed(&output);
            assert_eq!(ticked["status"]["waiting"].as_object().unwrap().keys().collect::<Vec<_>>(), ["model-00001"]);
            assert_eq!(ticked["events"].as_array().unwrap().len(), 2, "the others do not wait");
            // Nothing has changed: nothing is swept, and it is still red.
            assert_eq!(world.tick(&store, "2026-01-04T04:00:00Z", &[]).status.code(), Some(11));
            let same = world.tick(&store, "2026-01-04T05:00:00Z", &[]);
            assert_eq!(same.status.code(), Some(11), "{}", error_output(&same));
            assert!(
                parsed(&same)["sweep"].is_null() && !error_output(&same).contains("resuming"),
                "{}",
                error_output(&same)
            );
            fs::write(&late, &whole).unwrap();
            let came = world.tick(&store, "2026-01-04T06:05:00Z", &[]);
            assert_eq!(came.status.code(), Some(0), "{fate:?}: {}", error_output(&came));
            let came = parsed(&came);
            assert_eq!(came["caught_up"], json!(["model-00001"]));
            assert_eq!(came["events"][0]["subject"], "model-00001");
            assert_eq!(came["events"][0]["data"]["triggered_at"], "2026-01-04T02:00:00Z", "the night counts");
            assert_eq!(came["status"]["waiting"], json!({}));
            let again = world.ticked(&store, "2026-01-04T06:06:00Z");
            assert_eq!((&again["caught_up"], &again["sweep"]), (&json!([]), &Value::Null));
            let told = told(world.folder.path());
            let data: Vec<&str> = kinds(&told).into_iter().filter(|kind| kind.starts_with("data.")).collect();
            assert_eq!(data, ["data.late", "data.arrived"], "{fate:?}");
            let late = told.iter().find(|event| event["data"]["kind"] == "data.late").unwrap();
            assert_eq!(late["data"]["figures"]["findings"][0]["model"], "model-00001");
        }
    }
}

#[test]
fn data_that_do_not_come_are_told_of_at_the_deadline_or_before_the_next_sweep() {
    // The deadline of the fleet file, the next sweep before it, and no wait at all.
    for (wait, judged_at) in
        [("3h", "2026-01-04T06:00:00Z"), ("40h", "2026-01-05T03:00:00Z"), ("0h", "2026-01-04T03:00:00Z")]
    {
        for (fate, kind) in [(Fate::Missing, "data.missing"), (Fate::CutShort, "data.unreadable")] {
            let world = World::new(2, &format!("wait_for_data = \"{wait}\"\n{CHANNEL}"));
            let store = &world.stores()[0];
            world.ticked(store, "2026-01-02T03:00:00Z");
            world.ticked(store, "2026-01-03T03:00:00Z");
            spoil(&file(&world, 3, 1), fate);
            let verdict = || {
                let fleet = world.fleet();
                let mut store = Store::open(store, &fleet.name).unwrap();
                store.last_verdict("model-00001", Timestamp::MAX).unwrap().unwrap().as_of.to_string()
            };
            for now in ["2026-01-04T03:00:00Z", "2026-01-04T05:59:00Z", "2026-01-04T06:00:00Z", "2026-01-05T03:00:00Z"]
            {
                let output = world.tick(store, now, &[]);
                let is_over = now >= judged_at;
                if now.starts_with("2026-01-04") {
                    assert_eq!(output.status.code(), Some(11), "{now}: {}", error_output(&output));
                    let wanted = if is_over { "2026-01-04T02:00:00Z" } else { "2026-01-03T02:00:00Z" };
                    assert_eq!(verdict(), wanted, "{wait} {now}");
                    assert_eq!(parsed(&output)["status"]["waiting"].as_object().unwrap().is_empty(), is_over);
                }
                assert_eq!(kinds(&told(world.folder.path())).contains(&kind), is_over, "{wait} {now} {kind}");
            }
            let told = told(world.folder.path());
            let kinds = kinds(&told);
            assert_eq!(kinds.iter().filter(|k| **k == kind).count(), 1, "{kinds:?}");
            assert_eq!(kinds.contains(&"data.late"), wait != "0h", "{kinds:?}");
        }
    }
}

#[test]
fn a_model_whose_data_were_corrected_is_judged_again_on_request() {
    let world = World::new(2, "wait_for_data = \"0h\"\n");
    let store = &world.stores()[0];
    let again = |model: &str| {
        world.tick(store, "2026-01-04T12:00:00Z", &["--again", model, "--by", "ana", "--reason", "corrected"])
    };
    assert_eq!(again("model-00001").status.code(), Some(2), "no sweep has been run yet");
    world.ticked(store, "2026-01-02T03:00:00Z");
    world.ticked(store, "2026-01-03T03:00:00Z");
    let (path, other) = (file(&world, 3, 1), file(&world, 1, 1));
    let whole = fs::read(&path).unwrap();
    // The wrong day's data, without drift.
    fs::copy(other, &path).unwrap();
    assert_eq!(parsed(&world.tick(store, "2026-01-04T03:00:00Z", &[]))["events"].as_array().unwrap().len(), 1);
    fs::write(&path, whole).unwrap();
    let unknown = again("model-0001");
    assert!(
        unknown.status.code() == Some(2) && error_output(&unknown).contains("model-00001"),
        "{}",
        error_output(&unknown)
    );
    let done = parsed(&again("model-00001"));
    assert_eq!(done["caught_up"], json!(["model-00001"]));
    assert_eq!(done["events"][0]["subject"], "model-00001");
    // Once more: what has fired has fired.
    let done = parsed(&again("model-00001"));
    assert_eq!((&done["caught_up"], &done["firings"]), (&json!(["model-00001"]), &json!([])));
}

#[test]
fn a_retry_of_the_scheduler_does_not_hide_what_was_found() {
    let world = World::new(2, "wait_for_data = \"0h\"\n[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n");
    let fleet = world.fleet_file();
    for store in &world.stores() {
        let _ = fs::remove_dir_all(world.folder.path().join("state"));
        let status = |more: &[&str]| world.command(store, &[&["status", fleet.to_str().unwrap()], more].concat());
        let gone = status(&["--exit-code"]);
        assert_eq!(gone.status.code(), Some(14), "{}", error_output(&gone));
        let path = file(&world, 2, 1);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let tick = |more: &[&str]| world.tick(store, "2026-01-03T03:00:00Z", more).status.code();
        assert_eq!(tick(&["--fail-on-event"]), Some(10));
        // The same again, as a CronJob or Airflow would.
        assert_eq!([tick(&["--fail-on-event"]), tick(&[]), tick(&["--quiet"])], [Some(10), Some(11), Some(11)]);
        let shown = status(&["--exit-code"]);
        assert_eq!(shown.status.code(), Some(11));
        assert_eq!(status(&["--exit-code", "--fail-on-event"]).status.code(), Some(10));
        let page = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(page.contains("failed      model-00001: current: ") && page.contains("events opened since"), "{page}");
        assert_eq!(status(&["--acknowledge"]).status.code(), Some(2), "a reason is required");
        let acknowledged = status(&["--acknowledge", "--by", "ana", "--reason", "the table is retired"]);
        assert!(acknowledged.status.success(), "{}", error_output(&acknowledged));
        assert_eq!([tick(&["--fail-on-event"]), tick(&[])], [Some(0), Some(0)]);
        // By another way to the same file.
        let other_way = world.folder.path().join("current/../fleet.toml");
        let state = world.folder.path().join("state").display().to_string();
        let args =
            ["tick", other_way.to_str().unwrap(), "--state", &state, "--now", "2026-01-03T03:00:00Z", "--store", store];
        assert_eq!(run(args).status.code(), Some(0));
        assert_eq!(status(&["--exit-code"]).status.code(), Some(0));
        let shown = parsed(&status(&["--format", "json"]));
        assert_eq!((&shown["acknowledged"]["by"], &shown["open_events"]), (&json!("ana"), &json!(1)));
        // The next sweep has a status of its own.
        spoil(&file(&world, 3, 1), Fate::Empty);
        assert_eq!(world.tick(store, "2026-01-04T03:00:00Z", &[]).status.code(), Some(11));
        assert_eq!(world.tick(store, "2026-01-05T03:00:00Z", &[]).status.code(), Some(0), "superseded");
        fs::write(&path, whole).unwrap();
        fs::copy(&path, file(&world, 3, 1)).unwrap();
    }
}

#[test]
fn a_store_that_is_new_is_said_so_and_refused_where_it_must_not_be() {
    let world = World::new(1, CHANNEL);
    let (fleet, state) = (world.fleet_file(), world.folder.path().join("state"));
    for store in &world.stores() {
        let required = world.tick(store, "2026-01-02T03:00:00Z", &["--require-state"]);
        assert_eq!(required.status.code(), Some(14), "{}", error_output(&required));
        let first = world.tick(store, "2026-01-02T03:00:00Z", &[]);
        assert!(error_output(&first).contains("new store created"), "{}", error_output(&first));
        assert_eq!(parsed(&first)["new_store"], true);
        let second = world.tick(store, "2026-01-03T03:00:00Z", &["--require-state"]);
        assert!(second.status.success() && !error_output(&second).contains("new store"), "{}", error_output(&second));
        assert_eq!(parsed(&second)["new_store"], false);
        assert!(world.command(store, &["audit", "verify", fleet.to_str().unwrap()]).status.success());
    }
    // The state is lost every night: the team is told every night.
    let lost = world.folder.path().join("lost.sqlite").display().to_string();
    let before = kinds(&told(world.folder.path())).iter().filter(|kind| **kind == "store.create").count();
    for now in ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z", "2026-01-04T03:00:00Z"] {
        fs::remove_dir_all(&state).unwrap();
        let _ = fs::remove_file(&lost);
        assert_eq!(parsed(&world.tick(&lost, now, &[]))["new_store"], true);
    }
    let after = kinds(&told(world.folder.path())).iter().filter(|kind| **kind == "store.create").count();
    assert_eq!(after - before, 3);
}

#[test]
fn commands_that_only_read_create_nothing() {
    let world = World::new(1, "");
    let folder = world.folder.path();
    let fleet = world.fleet_file().display().to_string();
    let listing = || {
        let mut found = all_below(folder);
        found.sort();
        found
    };
    let before = listing();
    let commands: [&[&str]; 14] = [
        &["status", &fleet],
        &["explain", "model-00000", &fleet],
        &["events", "list", &fleet],
        &["events", "close", "x", &fleet, "--outcome", "trained", "--by", "a"],
        &["jobs", "list", &fleet],
        &["jobs", "show", "x", &fleet],
        &["approve", "x", &fleet, "--by", "a", "--reason", "b"],
        &["budget", &fleet],
        &["economics", &fleet],
        &["audit", "show", "--subject", "x", &fleet],
        &["audit", "verify", &fleet],
        &["audit", "export", &fleet],
        &["outbox", "list", &fleet],
        &["unmute", "model-00000", &fleet, "--by", "a", "--reason", "b"],
    ];
    for place in ["", "--store"] {
        for command in commands {
            let file = folder.join("none.sqlite").display().to_string();
            let more = if place.is_empty() { vec![] } else { vec![place, &file] };
            let output = run(command.iter().copied().chain(more));
            assert_eq!(output.status.code(), Some(14), "{command:?}: {}", error_output(&output));
            assert!(error_output(&output).contains("no tick has run"), "{command:?}: {}", error_output(&output));
            assert_eq!(listing(), before, "{command:?}");
        }
    }
    // A file without a record is not whole.
    let store = &world.stores()[0];
    drop(Store::open(store, &world.fleet().name).unwrap());
    let verified = world.command(store, &["audit", "verify", &fleet]);
    assert_eq!(verified.status.code(), Some(15), "{}", error_output(&verified));
    assert!(!String::from_utf8_lossy(&verified.stdout).contains(": whole"));
    // Where nothing may be written, what is there can be read.
    world.ticked(store, "2026-01-02T03:00:00Z");
    let read = world.command(store, &["status", &fleet]);
    assert!(read.status.success(), "{}", error_output(&read));
}

#[test]
fn the_volume_trigger_fires_only_where_it_is_set() {
    let folder = TempDir::new().unwrap();
    let quiet = "delay = \"20d\"\n[model.trigger]\noff = [\"performance\", \"drift\"]\ncooldown = \"0d\"\n";
    for (set, fires) in
        [("", false), ("[model.trigger.volume]\n", true), ("[model.trigger.volume]\nwithin = \"60d\"\n", true)]
    {
        let fleet = loans(folder.path(), &format!("{quiet}{set}"));
        // Fewer labels than the built-in number come in a week here: what counts is whether it may fire at all.
        let text = fs::read_to_string(&fleet)
            .unwrap()
            .replace("[model.trigger.volume]\n", "[model.trigger.volume]\nlabels = 900\n");
        fs::write(&fleet, text).unwrap();
        let store = folder.path().join(format!("{}.sqlite", set.len())).display().to_string();
        let [fleet, state] = [fleet.display().to_string(), folder.path().join("state").display().to_string()];
        let named = fs::read_to_string(&fleet).unwrap();
        fs::write(&fleet, format!("name = \"loans\"\n{named}")).unwrap();
        let args =
            ["tick", &fleet, "--store", &store, "--state", &state, "--format", "json", "--now", "2019-03-10T04:00:00Z"];
        let ticked = parsed(&run(args));
        let fired: Vec<_> = ticked["firings"].as_array().unwrap().iter().map(|f| f["trigger"].clone()).collect();
        assert_eq!(fired, if fires { vec![json!("volume")] } else { vec![] }, "{set}");
        let text = run(["explain", "loans", &fleet, "--store", &store, "--state", &state]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert_eq!(text.contains("volume: not set: [trigger.volume]"), !fires, "{text}");
    }
}

#[test]
fn explain_says_what_the_volume_trigger_would_do_where_it_is_not_set() {
    let folder = TempDir::new().unwrap();
    let fleet = loans(folder.path(), "delay = \"20d\"\n").display().to_string();
    assert!(run(["tick", &fleet, "--now", "2019-03-10T04:00:00Z"]).status.success());
    let text = run(["explain", "loans", &fleet]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("the trigger is not set; with [trigger.volume] 3"), "{text}");
}

#[test]
fn a_metric_beyond_its_warning_level_is_told_once_and_shown_every_night() {
    let folder = TempDir::new().unwrap();
    let policy = "delay = \"20d\"\n[model.trigger.performance]\nlevel = 0.5\nwarning = 0.97\nwithin = \"14d\"\n[model.trigger]\noff = [\"drift\"]\n";
    let fleet = loans(folder.path(), policy);
    let text = fs::read_to_string(&fleet).unwrap();
    fs::write(&fleet, format!("name = \"l\"\n{}\n{CHANNEL}", text)).unwrap();
    let [fleet, state] = [fleet.display().to_string(), folder.path().join("state").display().to_string()];
    for day in 10..13 {
        let now = format!("2019-03-{day}T04:00:00Z");
        let output = run(["tick", &fleet, "--state", &state, "--now", &now]);
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && words.contains("WARNING loans: accuracy 0.9"),
            "{words}{}",
            error_output(&output)
        );
        let again = parsed(&run(["tick", &fleet, "--state", &state, "--now", &now, "--format", "json"]));
        assert!(again["status"]["warnings"]["loans"].as_str().unwrap().contains("warning level 0.97"), "{again}");
    }
    let told = told(folder.path());
    let warnings: Vec<&Value> = told.iter().filter(|e| e["data"]["kind"] == "performance.warning").collect();
    assert_eq!(warnings.len(), 1, "{told:?}");
    assert_eq!(warnings[0]["data"]["figures"]["warning"], 0.97);
}

/// A model of so few rows that no column can be judged.
pub fn small(folder: &Path, rows: usize) -> PathBuf {
    let table = |shift: f64| {
        to_parquet(vec![("x", Cells::Float((0..rows).map(|i| Some(i as f64 * 0.37 % 5.0 + shift)).collect()))]).unwrap()
    };
    fs::write(folder.join("a.parquet"), table(0.0)).unwrap();
    fs::write(folder.join("b.parquet"), table(0.5)).unwrap();
    let file = folder.join("fleet.toml");
    let model = "[[model]]\nname = \"small\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\n";
    fs::write(&file, format!("name = \"s\"\nsweep = \"0 2 * * *\"\n{CHANNEL}{model}")).unwrap();
    file
}

#[test]
fn a_model_that_cannot_be_judged_is_counted_every_night_and_told_of_every_week() {
    let folder = TempDir::new().unwrap();
    let fleet = small(folder.path(), 300).display().to_string();
    for day in 1..=20 {
        let output = run(["tick", &fleet, "--now", &format!("2026-05-{day:02}T03:00:00Z")]);
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", error_output(&output));
        assert!(words.contains("0 drifted") && words.contains("1 not judged"), "{words}");
        assert!(words.contains("small: drift is not judged: at most 300 rows"), "{words}");
    }
    let told = told(folder.path());
    let weekly: Vec<&Value> = told.iter().filter(|e| e["data"]["kind"] == "data.not_judged").collect();
    assert_eq!(weekly.len(), 2, "{:?}", kinds(&told));
    assert!(weekly[0]["data"]["figures"]["findings"][0]["reason"].as_str().unwrap().contains("min_rows"), "{weekly:?}");
    let status = parsed(&run(["status", &fleet, "--format", "json"]));
    assert!(status["status"]["not_judged"]["small"].is_array(), "{status}");
    // More rows, and it is judged.
    small(folder.path(), 3000);
    let output = run(["tick", &fleet, "--now", "2026-05-21T03:00:00Z"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("not judged"), "{output:?}");
}

#[test]
fn schema_changes_are_told_of_when_they_come_and_not_every_night() {
    let folder = TempDir::new().unwrap();
    let fleet = small(folder.path(), 3000).display().to_string();
    let tick = |day: u32| run(["tick", &fleet, "--now", &format!("2026-05-{day:02}T03:00:00Z")]);
    tick(1);
    let wider = to_parquet(vec![
        ("x", Cells::Float((0..3000).map(|i| Some(i as f64 * 0.37 % 5.0)).collect())),
        ("y", Cells::Float(vec![Some(1.0); 3000])),
    ]);
    fs::write(folder.path().join("b.parquet"), wider.unwrap()).unwrap();
    (2..6).for_each(|day| drop(tick(day)));
    let told = told(folder.path());
    let changes: Vec<&Value> = told.iter().filter(|e| e["data"]["kind"] == "data.schema").collect();
    assert_eq!(changes.len(), 1, "{:?}", kinds(&told));
    assert_eq!(changes[0]["data"]["figures"]["findings"][0]["reason"], "column 'y': added");
}

#[test]
fn a_table_that_is_gone_for_many_nights_is_told_of_once_and_red_every_night() {
    let folder = TempDir::new().unwrap();
    let fleet = small(folder.path(), 3000).display().to_string();
    let tick = |day: u32| run(["tick", &fleet, "--now", &format!("2026-05-{day:02}T03:00:00Z")]).status.code();
    assert_eq!(tick(1), Some(0));
    fs::remove_file(folder.path().join("b.parquet")).unwrap();
    assert_eq!([2, 3, 4, 5].map(tick), [Some(11); 4]);
    let told = told(folder.path());
    let count = |kind: &str| kinds(&told).into_iter().filter(|told| *told == kind).count();
    assert_eq!((count("data.late"), count("data.missing")), (1, 1), "{:?}", kinds(&told));
}

#[test]
fn what_was_muted_by_mistake_fires_when_the_model_is_judged_again() {
    let world = World::new(1, "[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n");
    let (store, fleet) = (&world.stores()[0], world.fleet_file());
    let fleet = fleet.to_str().unwrap();
    world.ticked(store, "2026-01-02T03:00:00Z");
    let mute =
        ["mute", "model-00000", fleet, "--for", "3d", "--reason", "x", "--by", "ana", "--now", "2026-01-02T12:00:00Z"];
    assert!(world.command(store, &mute).status.success());
    assert_eq!(world.ticked(store, "2026-01-03T03:00:00Z")["firings"][0]["outcome"], "muted");
    assert!(
        world
            .command(store, &["unmute", "model-00000", fleet, "--by", "ana", "--reason", "a mistake"])
            .status
            .success()
    );
    let again = parsed(&world.tick(
        store,
        "2026-01-03T06:00:00Z",
        &["--again", "model-00000", "--by", "ana", "--reason", "it was muted"],
    ));
    assert_eq!(again["firings"][0]["outcome"], "opened", "{again}");
}

#[test]
fn that_a_sweep_is_not_complete_cannot_be_acknowledged() {
    let world = World::new(2, "");
    let (store, fleet) = (&world.stores()[0], world.fleet_file());
    let late = || world.tick(store, "2026-01-02T03:00:00Z", &["--deadline", "0s"]).status.code();
    assert_eq!(late(), Some(12));
    let acknowledge = ["status", fleet.to_str().unwrap(), "--acknowledge", "--by", "a", "--reason", "r"];
    assert!(world.command(store, &acknowledge).status.success());
    assert_eq!(late(), Some(12));
    assert_eq!(world.command(store, &["status", fleet.to_str().unwrap(), "--exit-code"]).status.code(), Some(12));
}

#[test]
fn a_model_taken_out_of_the_fleet_waits_no_longer() {
    let world = World::new(2, "");
    let store = &world.stores()[0];
    fs::remove_file(file(&world, 1, 1)).unwrap();
    assert_eq!(world.tick(store, "2026-01-02T03:00:00Z", &[]).status.code(), Some(11));
    let text = fs::read_to_string(world.fleet_file()).unwrap();
    let at = text.rfind("[[model]]").unwrap();
    assert!(text[at..].contains("model-00001"));
    fs::write(world.fleet_file(), &text[..at]).unwrap();
    let output = world.tick(store, "2026-01-02T04:00:00Z", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", error_output(&output));
    assert_eq!(parsed(&output)["status"]["waiting"], json!({}));
}

#[test]
fn a_sweep_that_is_repeated_in_part_takes_nothing_from_the_nights_figures() {
    let world = World::new(3, "");
    let store = &world.stores()[0];
    let history = world.folder.path().join("state/history/date=2026-01-02");
    let kept = || {
        let file = fs::read_dir(&history).unwrap().next().unwrap().unwrap();
        fs::read(file.path()).unwrap().len()
    };
    let first = world.ticked(store, "2026-01-02T03:00:00Z");
    let (features, bytes) = (first["status"]["features"].clone(), kept());
    // No time for any model.
    let again = world.tick(
        store,
        "2026-01-02T04:00:00Z",
        &["--again", "model-00000", "--by", "a", "--reason", "b", "--deadline", "0s"],
    );
    assert_eq!(parsed(&again)["status"]["features"], features);
    // The data of another model are gone by now.
    fs::remove_file(file(&world, 1, 2)).unwrap();
    let rest = world.tick(store, "2026-01-02T05:00:00Z", &[]);
    assert_eq!(parsed(&rest)["caught_up"], json!(["model-00000"]), "{}", error_output(&rest));
    assert_eq!((&parsed(&rest)["status"]["features"], kept()), (&features, bytes));
    assert_eq!(rest.status.code(), Some(0), "{}", error_output(&rest));
}

#[test]
fn a_cooldown_counts_from_the_time_of_a_sweep_and_not_after_a_training_that_failed() {
    // Closed five seconds after the sweep: two days later the sweep is not five seconds too early.
    let head = "[defaults.trigger]\ncooldown = \"1d\"\ndrift.persistence = \"1 of 1\"\n";
    for (outcome, fires_at) in [("dismissed", "2026-01-04T03:00:00Z"), ("failed", "2026-01-04T03:00:00Z")] {
        let longer = if outcome == "failed" { head.replace("1d", "9d") } else { head.to_owned() };
        let world = World::new(1, &longer);
        for store in &world.stores() {
            let _ = fs::remove_dir_all(world.folder.path().join("state"));
            let opened = world.ticked(store, "2026-01-03T03:00:00Z");
            let id = opened["events"][0]["id"].as_str().unwrap().to_owned();
            let closed = "2026-01-03T02:00:05Z".parse().unwrap();
            let mut memory = Store::open(store, &world.fleet().name).unwrap();
            memory.transaction(|store| store.close_event(&id, closed, outcome, "")).unwrap();
            let next = world.ticked(store, fires_at);
            assert_eq!(next["firings"][0]["outcome"], "opened", "{outcome}: {next}");
        }
    }
    // Within it nothing opens.
    let world = World::new(1, &head.replace("1d", "2d"));
    let store = &world.stores()[0];
    let opened = world.ticked(store, "2026-01-03T03:00:00Z");
    let id = opened["events"][0]["id"].as_str().unwrap().to_owned();
    let mut memory = Store::open(store, &world.fleet().name).unwrap();
    let closed = "2026-01-03T02:00:05Z".parse().unwrap();
    memory.transaction(|store| store.close_event(&id, closed, "trained", "")).unwrap();
    assert_eq!(world.ticked(store, "2026-01-04T03:00:00Z")["firings"][0]["outcome"], "cooldown");
    assert_eq!(world.ticked(store, "2026-01-05T03:00:00Z")["firings"][0]["outcome"], "opened");
}

#[test]
fn two_fleet_files_of_one_name_in_one_store_are_refused_and_one_that_moved_is_not() {
    let world = World::new(2, "");
    let (folder, file) = (world.folder.path(), world.fleet_file());
    for store in &world.stores() {
        let tick = |file: &Path, now: &str, more: &[&str]| {
            let state = folder.join("state").display().to_string();
            let args = ["tick", file.to_str().unwrap(), "--state", &state, "--store", store, "--now", now];
            run(args.iter().chain(more))
        };
        assert!(tick(&file, "2026-01-02T03:00:00Z", &[]).status.success());
        // Another fleet of the same name: its models are others.
        let text = fs::read_to_string(&file).unwrap();
        let other = folder.join("other.toml");
        fs::write(&other, text.replace("model-0000", "churn-0000")).unwrap();
        let refused = tick(&other, "2026-01-03T03:00:00Z", &[]);
        assert_eq!(refused.status.code(), Some(4), "{}", error_output(&refused));
        assert!(
            error_output(&refused).contains("fleet.toml") && error_output(&refused).contains("--moved"),
            "{}",
            error_output(&refused)
        );
        // The file was edited in its place.
        let edited = text.replace("model-00001", "model-99999");
        fs::write(&file, &edited).unwrap();
        assert!(tick(&file, "2026-01-03T03:00:00Z", &[]).status.success());
        // It was moved, and the old one is still in use somewhere.
        let moved = folder.join("moved.toml");
        fs::write(&moved, &edited).unwrap();
        assert_eq!(tick(&moved, "2026-01-03T04:00:00Z", &[]).status.code(), Some(4), "a copy beside it");
        fs::rename(&file, &moved).unwrap();
        assert!(tick(&moved, "2026-01-03T04:00:00Z", &[]).status.success());
        fs::write(&file, &edited).unwrap();
        assert_eq!(tick(&file, "2026-01-03T05:00:00Z", &[]).status.code(), Some(4));
        assert!(tick(&moved, "2026-01-03T05:00:00Z", &[]).status.success());
        assert!(tick(&other, "2026-01-03T06:00:00Z", &["--moved"]).status.success());
        assert_eq!(tick(&moved, "2026-01-03T07:00:00Z", &[]).status.code(), Some(4));
        fs::write(&file, text).unwrap();
    }
}

#[test]
fn a_quiet_tick_prints_nothing_unless_something_was_due_or_found() {
    let world = World::new(1, "[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n");
    let store = &world.stores()[0];
    let printed = |now: &str| {
        let output = world.tick(store, now, &["--quiet"]);
        assert!(output.status.success(), "{}", error_output(&output));
        !output.stdout.is_empty() || !output.stderr.is_empty()
    };
    assert!(printed("2026-01-02T03:00:00Z"), "a new store");
    assert!(!printed("2026-01-02T03:01:00Z"), "nothing is due");
    assert!(printed("2026-01-03T03:00:00Z"), "drift");
    assert!(!printed("2026-01-03T03:01:00Z"));
}
