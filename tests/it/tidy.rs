//! Rules of the house, enforced: which room may use which, and where text gets out.

use std::path::PathBuf;

use crate::data::{root, sources};

const FLEET: &str = "crates/fleet/src";

/// Where the sources of each package stand, with its rooms, lower ones first: a room may use those before it. Which package may
/// use which is held by cargo.
const PACKAGES: [(&str, &[&str]); 6] = [
    ("crates/common/src", &["address", "escape", "error", "atomic", "duration", "storage"]),
    ("src", &["count", "metric", "rule", "snapshot", "generate", "model", "baseline", "sweep", "history"]),
    (
        FLEET,
        &[
            "document",
            "literal",
            "money",
            "checks",
            "schedule",
            "secret",
            "trigger",
            "labels",
            "channel",
            "retrain",
            "approval",
            "governance",
            "table",
            "model",
            "fleet",
            "baselines",
            "daily",
            "infer",
        ],
    ),
    ("crates/report/src", &["output", "report"]),
    (
        "crates/ops/src",
        &["http", "policy", "retrain", "store", "notify", "executor", "labels", "tick", "scheduler", "calibrate"],
    ),
    ("crates/cli/src", &["cli"]),
];

/// A source file, with its code up to the unit tests.
struct Source {
    /// Where the sources of its package stand.
    package: &'static str,
    /// The rooms of its package.
    rooms: &'static [&'static str],
    room: String,
    path: PathBuf,
    /// How many folders of its package it is in: one for a file of a room that has a folder.
    depth: usize,
    code: String,
}

fn rooms() -> Vec<Source> {
    let mut found = Vec::new();
    for (folder, rooms) in PACKAGES {
        let files = sources(folder);
        assert!(!files.is_empty(), "{folder} is empty");
        for path in files {
            let inside = path.strip_prefix(root().join(folder)).unwrap();
            let first = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
            // A package of one room has no folder for it.
            let room = if let [only] = rooms { (*only).to_owned() } else { first.to_owned() };
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            let depth = inside.components().count() - 1 - usize::from(inside.ends_with("mod.rs"));
            found.push(Source { package: folder, rooms, room, path, depth, code });
        }
    }
    found
}

#[test]
fn imports_point_down_only() {
    for Source { rooms, room, path, depth, code, .. } in rooms() {
        if room == "lib" || rooms.len() == 1 {
            continue;
        }
        let path = path.display();
        // Other ways to the root of the package would be hidden from what follows.
        assert!(!code.contains(&"super::".repeat(depth + 1)), "{path}: name other rooms by crate::ROOM");
        let height = |room: &str| rooms.iter().position(|&r| r == room);
        let own = height(&room).unwrap_or_else(|| panic!("{room} is a new room; give it its place here"));
        for named in code.split("crate::").skip(1) {
            let other = named.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let other = height(other)
                .unwrap_or_else(|| panic!("{path}: crate::{other} is no room; import from rooms, one by one"));
            assert!(other <= own, "{path} uses {}", rooms[other]);
        }
    }
}

#[test]
fn every_heavy_package_has_one_user_and_the_pure_rooms_stay_pure() {
    for Source { package, room, path, code, .. } in rooms() {
        let file = path.file_name().unwrap().to_str().unwrap();
        let forbid = |word: &str| assert!(!code.contains(word), "{} contains {word}", path.display());
        if room != "snapshot" {
            ["polars::", "polars_arrow", "polars_parquet"].into_iter().for_each(forbid);
        }
        if !path.components().any(|part| part.as_os_str() == "gpu") {
            ["wgpu::", "pollster"].into_iter().for_each(forbid);
        }
        if room != "storage" {
            forbid("object_store");
        }
        if room != "store" {
            forbid("sqlx");
        }
        if !["storage", "store", "http", "executor"].contains(&&*room) {
            forbid("tokio");
        }
        if !["approval", "retrain"].contains(&&*room) {
            forbid("ssh_key");
        }
        // Object stores are asked through a client whose redirects are under control.
        if room != "http" && !path.ends_with("storage/client.rs") {
            forbid("reqwest");
        }
        if room != "notify" {
            ["lettre", "rdkafka", "minijinja"].into_iter().for_each(forbid);
        }
        if room != "executor" {
            ["kube::", "k8s_openapi"].into_iter().for_each(forbid);
        }
        // Text from outside gets out only through what escapes it.
        if room != "output" {
            ["comfy_table", " csv::Writer"].into_iter().for_each(forbid);
        }
        if file != "sink.rs" {
            ["stdout()", "print!(", "println!("].into_iter().for_each(forbid);
        }
        if file != "message.rs" {
            forbid("stderr()");
        }
        if room != "cli" {
            ["clap", "SystemTime", "Instant::now", "Timestamp::now", "process::exit"].into_iter().for_each(forbid);
        }
        let is_pure = ["metric", "rule", "count", "policy", "retrain"].contains(&&*room) && package != FLEET;
        if is_pure || file == "figures.rs" {
            ["std::fs", "std::env", "std::path", "polars", "crate::snapshot", "driftsweep::snapshot", "crate::store"]
                .into_iter()
                .for_each(forbid);
        }
        ["todo!", "unimplemented!", "dbg!"].into_iter().for_each(forbid);
    }
}

#[test]
fn a_file_is_one_room_of_readable_size() {
    for Source { path, code, .. } in rooms() {
        let lines = code.lines().count();
        assert!(lines <= 600, "{} has {lines} lines: is it several rooms?", path.display());
    }
}
