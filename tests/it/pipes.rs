//! Places to write to that are no regular files: nothing is waited for without end.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::nights::small;

use crate::support::data::run;
use crate::support::output::{CHANNEL, error_output, kinds, told};
use crate::support::world::World;

#[test]
fn a_channel_of_lines_that_is_no_regular_file_holds_up_no_tick_and_its_messages_wait() {
    type Made = (&'static str, fn(&Path));
    let made: [Made; 5] = [
        ("a pipe", |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("a folder", |path| fs::create_dir(path).unwrap()),
        ("a device", |path| std::os::unix::fs::symlink("/dev/full", path).unwrap()),
        ("a loop of links", |path| std::os::unix::fs::symlink("told.jsonl", path).unwrap()),
        ("a link to a pipe", |path| {
            let pipe = path.with_file_name("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            std::os::unix::fs::symlink(pipe, path).unwrap();
        }),
    ];
    for (name, make) in made {
        let world = World::new(1, CHANNEL);
        let (store, fleet) = (&world.stores()[0], world.fleet_file());
        make(&world.folder.path().join("told.jsonl"));
        let begun = std::time::Instant::now();
        let ticked = world.ticked(store, "2026-01-02T03:00:00Z");
        assert!(begun.elapsed().as_secs() < 20, "{name}");
        assert_eq!(
            (&ticked["jobs"]["messages"]["sent"], &ticked["jobs"]["messages"]["put_off"]),
            (&json!(0), &json!(1)),
            "{name}"
        );
        let doctor = run(["doctor", fleet.to_str().unwrap(), "--now", "2026-01-02T03:00:00Z"]);
        let words = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(words.contains("BROKEN   channel lines file: "), "{name}: {words}");
        // It is put right, and nothing is lost.
        let path = world.folder.path().join("told.jsonl");
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        assert_eq!(world.ticked(store, "2026-01-02T09:00:00Z")["jobs"]["messages"]["sent"], 1, "{name}");
        assert_eq!(kinds(&told(world.folder.path())), ["store.create"], "{name}");
    }
}

#[test]
fn an_output_to_a_pipe_that_nobody_reads_ends_with_an_error_and_one_that_is_read_is_written() {
    let folder = TempDir::new().unwrap();
    small(folder.path(), 1500);
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let compare = || run(["compare", &at("a.parquet"), &at("b.parquet"), "--format", "json", "--output", &at("pipe")]);
    let begun = std::time::Instant::now();
    let alone = compare();
    assert_eq!(alone.status.code(), Some(7), "{}", error_output(&alone));
    assert!(
        error_output(&alone).contains("no program reads from it") && begun.elapsed().as_secs() < 40,
        "{}",
        error_output(&alone)
    );
    let reader = std::thread::spawn({
        let pipe = at("pipe");
        move || fs::read(pipe).unwrap()
    });
    assert!(compare().status.success());
    assert!(serde_json::from_slice::<Value>(&reader.join().unwrap()).unwrap()["features"].is_array());
}
