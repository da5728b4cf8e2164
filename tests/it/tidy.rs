//! Rules of the house, enforced: which room may use which, and where text gets out.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Source files by the room they stand in, with their code up to the unit tests.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(root().join("src")).unwrap();
            let room =
                inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            (room, path, code)
        })
        .collect()
}

#[test]
fn imports_point_down_only() {
    // Lower rooms first; a room may use those before it.
    let order = [
        "address",
        "escape",
        "error",
        "atomic",
        "storage",
        "count",
        "metric",
        "rule",
        "snapshot",
        "generate",
        "model",
        "baseline",
        "sweep",
        "history",
        "output",
        "report",
        "fleet",
        "http",
        "policy",
        "retrain",
        "store",
        "notify",
        "executor",
        "labels",
        "tick",
        "scheduler",
        "calibrate",
        "cli",
    ];
    let height = |room: &str| order.iter().position(|&r| r == room);
    for (room, path, code) in rooms() {
        if room == "lib" || room == "main" {
            continue;
        }
        let own = height(&room).unwrap_or_else(|| panic!("{room} is a new room; give it its place here"));
        for other in order {
            let used = code.contains(&format!("crate::{other}::")) || code.contains(&format!("driftsweep::{other}::"));
            assert!(!used || height(other).unwrap() <= own, "{} uses {other}", path.display());
        }
    }
}

#[test]
fn every_heavy_package_has_one_user_and_the_pure_rooms_stay_pure() {
    for (room, path, code) in rooms() {
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
        if !["fleet", "retrain"].contains(&&*room) {
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
        if ["metric", "rule", "count", "policy", "retrain"].contains(&&*room) || file == "figures.rs" {
            ["std::fs", "std::env", "std::path", "polars", "crate::snapshot", "crate::store"]
                .into_iter()
                .for_each(forbid);
        }
        ["todo!", "unimplemented!", "dbg!"].into_iter().for_each(forbid);
    }
}

#[test]
fn a_file_is_one_room_of_readable_size() {
    for (_, path, code) in rooms() {
        let lines = code.lines().count();
        assert!(lines <= 600, "{} has {lines} lines: is it several rooms?", path.display());
    }
}
