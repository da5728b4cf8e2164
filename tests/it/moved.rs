//! What a fleet uses changes: its name, its store, its state, its checkpoint, the clock of its server; each is told in words,
//! and told from a store that was emptied. On both stores.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftsweep_ops::store::Store;
use serde_json::Value;

use crate::support::jobs::sql;
use crate::support::needs::postgres;
use crate::support::output::all_output;
use crate::support::server;
use crate::support::world::World;

const NIGHT: &str = "2026-01-02T03:00:00Z";

/// The stores of a world, without characters that mean something in the address of a store.
fn stores(world: &World) -> Vec<String> {
    let file = world.folder.path().join("store.sqlite").display().to_string();
    [Some(file), postgres()].into_iter().flatten().collect()
}

/// A command on the fleet of a world, with a state and a store.
fn run(world: &World, state: &Path, store: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.args(args).arg(world.fleet_file()).arg("--state").arg(state).env("DRIFTSWEEP_STORE", store);
    command.env_remove("DRIFTSWEEP_CHECKPOINT").output().unwrap()
}

fn tick(world: &World, state: &Path, store: &str, more: &[&str]) -> Output {
    run(world, state, store, &[&["tick", "--threads", "1", "--now", NIGHT], more].concat())
}

#[track_caller]
fn gives(output: &Output, code: i32, words: &[&str]) {
    let told = all_output(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    words.iter().for_each(|words| assert!(told.contains(words), "'{words}' is not in {told}"));
}

/// What a training leaves in the state.
fn leave_training(state: &Path) {
    fs::create_dir_all(state.join("jobs/x/1")).unwrap();
}

fn rename(world: &World, new: &str) {
    let text = fs::read_to_string(world.fleet_file()).unwrap();
    let old = format!("name = \"{}\"", world.fleet().name);
    assert!(text.contains(&old));
    fs::write(world.fleet_file(), text.replacen(&old, &format!("name = \"{new}\""), 1)).unwrap();
}

fn empty(store: &str, fleet: &str) {
    assert_ne!(sql(store, &format!("DELETE FROM model WHERE fleet = '{fleet}'")), 0);
}

#[test]
fn a_fleet_that_was_renamed_is_told_from_a_store_that_was_emptied() {
    for which in 0..stores(&World::new(1, "")).len() {
        let world = World::new(1, "");
        let (store, state) = (&stores(&world)[which], world.folder.path().join("state"));
        let old = world.fleet().name;
        let new = format!("{old}-new");
        gives(&tick(&world, &state, store, &[]), 0, &[]);
        leave_training(&state);
        rename(&world, &new);
        let words = [&*format!("is the state of fleet '{old}'"), "--moved", "a folder of its own with --state"];
        for _ in 0..2 {
            gives(&tick(&world, &state, store, &[]), 14, &words);
        }
        assert!(Store::open(store, &new).unwrap().is_new().unwrap(), "nothing was done");
        gives(&run(&world, &state, store, &["doctor"]), 11, &["A tick refuses this", "--moved"]);
        // A state of its own, or its former name.
        gives(&tick(&world, &world.folder.path().join("other"), store, &[]), 0, &[]);
        empty(store, &new);
        rename(&world, &old);
        gives(&tick(&world, &state, store, &[]), 0, &[]);
        // It is meant.
        rename(&world, &new);
        gives(&tick(&world, &state, store, &["--moved"]), 0, &[]);
        gives(&tick(&world, &state, store, &[]), 0, &[]);
        // Emptied: nobody can mean that, also not with --moved.
        empty(store, &new);
        for more in [&[][..], &["--moved"]] {
            gives(&tick(&world, &state, store, more), 15, &["the store was emptied", "holds its trainings"]);
        }
        // A state of a version that did not note it: not known.
        fs::remove_file(state.join("fleets.json")).unwrap();
        gives(&tick(&world, &state, store, &[]), 14, &["emptied, another one is named, or the fleet was renamed"]);
    }
}

#[test]
fn another_store_is_told_from_one_that_was_emptied_and_its_secrets_are_not_noted() {
    let world = World::new(1, "");
    let (first, state) = (stores(&world)[0].clone(), world.folder.path().join("state"));
    gives(&tick(&world, &state, &first, &[]), 0, &[]);
    leave_training(&state);
    let second = world.folder.path().join("second.sqlite").display().to_string();
    let mut last = "SQLite";
    for other in [Some(second), postgres()].into_iter().flatten() {
        let refused = tick(&world, &state, &other, &[]);
        gives(&refused, 14, &[&format!("in another store ({last})"), "--moved"]);
        assert!(!all_output(&refused).contains(&other) || !other.contains("://"), "{}", all_output(&refused));
        gives(&tick(&world, &state, &other, &["--moved"]), 0, &[]);
        gives(&tick(&world, &state, &other, &[]), 0, &[]);
        let noted = fs::read_to_string(state.join("fleets.json")).unwrap();
        last = if other.contains("://") { "PostgreSQL" } else { "SQLite" };
        assert!(noted.contains(last) && !noted.contains("://"), "{noted}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(state.join("fleets.json")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // The store that knows the fleet is taken without a question, and through a link it is the same.
    gives(&tick(&world, &state, &first, &[]), 0, &[]);
    let link = world.folder.path().join("link.sqlite");
    std::os::unix::fs::symlink(&first, &link).unwrap();
    empty(&first, &world.fleet().name);
    gives(&tick(&world, &state, &link.display().to_string(), &[]), 15, &["the store was emptied"]);
}

#[test]
fn two_fleets_with_one_state_are_no_alarm() {
    let (one, two, three) = (World::new(1, ""), World::new(1, ""), World::new(1, ""));
    let (store, state) = (stores(&one)[0].clone(), one.folder.path().join("state"));
    gives(&tick(&one, &state, &store, &[]), 0, &[]);
    gives(&tick(&two, &state, &store, &[]), 0, &[]);
    leave_training(&state);
    for world in [&one, &two] {
        gives(&tick(world, &state, &store, &[]), 0, &[]);
    }
    // One that comes later may mean it, or not.
    gives(&tick(&three, &state, &store, &[]), 14, &["if it is another fleet, give it a folder of its own"]);
    gives(&tick(&three, &state, &store, &["--moved"]), 0, &[]);
    for world in [&one, &two, &three] {
        gives(&tick(world, &state, &store, &[]), 0, &[]);
    }
    empty(&store, &two.fleet().name);
    gives(&tick(&two, &state, &store, &[]), 15, &["the store was emptied"]);
    gives(&tick(&one, &state, &store, &[]), 0, &[]);
}

#[test]
fn a_checkpoint_is_of_one_fleet_a_regular_file_and_never_what_the_audit_does_not_bear_out() {
    for which in 0..stores(&World::new(1, "")).len() {
        let (one, two) = (World::new(1, ""), World::new(1, ""));
        let store = &stores(&one)[which];
        let state = |world: &World| world.folder.path().join("state");
        let at = |name: &str| one.folder.path().join(name).display().to_string();
        let file = at("checkpoint");
        gives(&tick(&one, &state(&one), store, &["--checkpoint", &file]), 0, &[]);
        let text = fs::read_to_string(&file).unwrap();
        // Another fleet's.
        let words = format!("is that of fleet '{}', and not of '{}'", one.fleet().name, two.fleet().name);
        let words = [&*words, "one file per fleet"];
        gives(&tick(&two, &state(&two), store, &["--checkpoint", &file]), 2, &words);
        gives(&tick(&two, &state(&two), store, &[]), 0, &[]);
        gives(&run(&two, &state(&two), store, &["audit", "verify", "--checkpoint", &file]), 2, &words);
        gives(&run(&one, &state(&one), store, &["audit", "verify", "--checkpoint", &file]), 0, &[]);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        // A pipe is not waited for, and a folder is none.
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let begun = Instant::now();
        for (name, words) in [("pipe", "it is not a regular file"), ("current", "it is a folder")] {
            gives(&tick(&one, &state(&one), store, &["--checkpoint", &at(name)]), 2, &[words]);
            let verify = ["audit", "verify", "--checkpoint", &at(name)];
            gives(&run(&one, &state(&one), store, &verify), 2, &[words]);
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        // The note of the last record was edited.
        let name = one.fleet().name;
        sql(store, &format!("UPDATE audit_head SET hash = '{}' WHERE fleet = '{name}'", "f".repeat(64)));
        gives(&tick(&one, &state(&one), store, &["--checkpoint", &file]), 15, &["is not written into the checkpoint"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_server_whose_clock_is_not_that_of_the_machine_is_told_of_by_tick_and_doctor() {
    let Some(server) = postgres() else { return };
    for (minutes, told_of) in [(-15, true), (2, true), (0, false)] {
        let world = World::new(1, "");
        let state = world.folder.path().join("state");
        let schema = format!("clock_{}", world.fleet().name.replace(['.', '-'], "_").to_lowercase());
        sql(&server, &format!("CREATE SCHEMA {schema}"));
        sql(
            &server,
            &format!(
                "CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
                 $$ SELECT pg_catalog.clock_timestamp() + interval '{minutes} minutes' $$"
            ),
        );
        // Its own clock comes before the server's.
        let store = format!("{server}?options=-c%20search_path%3D{schema},pg_catalog");
        let words = "its clock shows";
        let ticked = tick(&world, &state, &store, &[]);
        gives(&ticked, 0, &[]);
        assert_eq!(all_output(&ticked).contains(words), told_of, "{minutes}: {}", all_output(&ticked));
        let doctor = run(&world, &state, &store, &["doctor"]);
        assert_eq!(all_output(&doctor).contains(words), told_of, "{minutes}: {}", all_output(&doctor));
        sql(&server, &format!("DROP SCHEMA {schema} CASCADE"));
    }
}

#[test]
fn what_only_reads_refuses_a_store_of_an_older_version_whose_baselines_it_cannot_see() {
    let world = World::new(1, "");
    let (store, state) = (stores(&world)[0].clone(), world.folder.path().join("state"));
    gives(&run(&world, &state, &store, &["sweep", "--now", NIGHT]), 0, &[]);
    gives(&tick(&world, &state, &store, &[]), 0, &[]);
    gives(&run(&world, &state, &store, &["sweep", "--now", NIGHT]), 0, &[]);
    // As if the last step of the schema had not been taken yet.
    assert_eq!(
        sql(&store, "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)"),
        1
    );
    for command in ["sweep", "calibrate"] {
        let words = ["was written by an older version", "the next tick migrates it"];
        gives(&run(&world, &state, &store, &[command]), 14, &words);
    }
}

#[test]
fn a_test_message_in_a_chat_mentions_nobody_by_the_names_of_fleet_and_channel() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let received = told.clone();
    let address = server::http(move |request| {
        received.lock().unwrap().push(request.body.clone());
        server::answer(200, "ok")
    });
    let webhook = format!("webhook = {{ url = \"{address}/\", format =");
    let world = World::new(
        1,
        &format!(
            "[[notify]]\nname = \"<@U1>\"\n{webhook} \"chat\" }}\n[[notify]]\nname = \"all\"\n{webhook} \"cloudevent\" }}\n"
        ),
    );
    rename(&world, "a <!channel> & b");
    let state = world.folder.path().join("state");
    gives(&run(&world, &state, &stores(&world)[0], &["doctor", "--channels", "--now", NIGHT]), 0, &[]);
    let told: Vec<Value> = told.lock().unwrap().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    let wanted = "[a &lt;!channel&gt; &amp; b] a test of channel '&lt;@U1&gt;' by `driftsweep doctor --channels`";
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["text"], wanted);
    // A program is told the name as it is.
    assert_eq!(told[1]["data"]["fleet"], "a <!channel> & b");
}
