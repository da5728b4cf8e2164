//! Rules of the house, enforced: which room may use which, and which packages may come in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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
        "error",
        "atomic",
        "storage",
        "count",
        "metric",
        "snapshot",
        "generate",
        "fleet",
        "http",
        "baseline",
        "sweep",
        "report",
        "history",
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
        if room != "cli" {
            ["clap", "SystemTime", "Instant::now", "Timestamp::now", "println!", "process::exit"]
                .into_iter()
                .for_each(forbid);
        }
        if ["metric", "count", "policy", "retrain"].contains(&&*room) || file == "figures.rs" {
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

#[test]
fn packages_come_from_the_registry_under_known_licences_and_the_engines_come_once() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeSet<&str> = [
        "MIT",
        "MIT-0",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "ISC",
        "Zlib",
        "0BSD",
        "Unicode-3.0",
        "Unlicense",
        "CC0-1.0",
    ]
    .into();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        assert!(
            package["source"].as_str().is_some_and(|s| s.starts_with("registry+")),
            "{name} is not from the registry"
        );
        let licence = package["license"].as_str().unwrap_or_default().replace(['(', ')'], "").replace('/', " OR ");
        // Every part joined by AND must offer one allowed licence.
        let fine = licence.split(" AND ").all(|part| part.split(" OR ").any(|one| allowed.contains(one.trim())));
        assert!(fine, "{name} is under {licence}");
        versions.entry(name).or_default().insert(package["version"].as_str().unwrap());
    }
    for engine in ["polars", "polars-arrow", "polars-parquet", "rayon", "statrs", "clap", "serde", "hashbrown"] {
        let found = &versions[engine];
        assert!(found.len() == 1 || engine == "hashbrown", "{engine} comes in several versions: {found:?}");
    }
}
