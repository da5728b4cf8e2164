//! Rules of the house, enforced: which room may use which, and where text gets out.

use std::path::{Path, PathBuf};

use crate::support::data::{root, sources};

const FLEET: &str = "crates/fleet/src";
const FEATURES: &str = "crates/features/src";

/// Where the sources of each package stand, with its rooms, lower ones first: a room may use those before it. Which package may
/// use which is held by cargo.
const PACKAGES: [(&str, &[&str]); 9] = [
    (
        "crates/common/src",
        &["versioned", "address", "escape", "error", "atomic", "duration", "infinite", "runtime", "storage"],
    ),
    ("src", &["count", "metric", "rule", "snapshot", "generate", "model", "baseline", "sweep", "history", "facade"]),
    ("crates/extensions/src", &["value", "http", "check", "trigger", "executor", "channel", "traffic"]),
    (
        FLEET,
        &[
            "document",
            "literal",
            "checks",
            "features",
            "labels",
            "retrain",
            "rollout",
            "approval",
            "governance",
            "table",
            "schema",
            "model",
            "fleet",
            "baselines",
            "daily",
            "infer",
        ],
    ),
    (
        FEATURES,
        &[
            "exact",
            "functions",
            "engine",
            "write",
            "side_by_side",
            "tables",
            "in_order",
            "lookup",
            "pipeline",
            "materialize",
            "verify",
            "skew",
            "rows",
            "past",
        ],
    ),
    ("crates/release/src", &["binary", "number", "share", "balance", "nginx", "plan", "evidence", "rollout"]),
    ("crates/report/src", &["output", "report", "metrics"]),
    (
        "crates/ops/src",
        &[
            "formats",
            "policy",
            "retrain",
            "store",
            "notify",
            "executor",
            "labels",
            "tick",
            "scheduler",
            "rollouts",
            "calibrate",
        ],
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

/// The folders whose modules import one another in a circle, for now.
const CIRCLES: &[&str] = &["crates/common/src/storage", "crates/ops/src/store", "src/sweep"];

/// The modules of a folder that a source file of it names: `super::NAME` and `crate::FOLDER::NAME`, each alone or in braces.
fn named(code: &str, prefix: &str, siblings: &[String], found: &mut Vec<String>) {
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with("::") {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let list = rest.strip_prefix('{').map_or(rest, |rest| rest.split('}').next().unwrap());
        let list = if rest.starts_with('{') { list.split(',').collect() } else { vec![list] };
        for item in list {
            let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if siblings.contains(&name) {
                found.push(name);
            }
        }
    }
}

/// The modules of circles, by what each names: those that remain when modules that name none, or that none names, are taken
/// away.
fn circle(mut names: Vec<(String, Vec<String>)>) -> Vec<String> {
    loop {
        let there: Vec<String> = names.iter().map(|(module, _)| module.clone()).collect();
        names.retain(|(module, named)| named.iter().any(|other| other != module && there.contains(other)));
        let used: Vec<String> =
            names.iter().flat_map(|(module, named)| named.iter().filter(move |n| *n != module)).cloned().collect();
        names.retain(|(module, _)| used.contains(module));
        if names.len() == there.len() {
            return there;
        }
    }
}

#[test]
fn the_modules_of_a_folder_do_not_import_one_another_in_a_circle() {
    let rooms = rooms();
    let folders: std::collections::BTreeSet<&Path> = rooms.iter().filter_map(|source| source.path.parent()).collect();
    for folder in folders {
        let inside = || rooms.iter().filter(|source| source.path.starts_with(folder) && source.path != *folder);
        // A module is a file or a folder.
        let module = |source: &Source| {
            let first = source.path.strip_prefix(folder).unwrap().components().next().unwrap();
            first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
        };
        let own = ["mod", "lib", "main"];
        let siblings: std::collections::BTreeSet<String> =
            inside().map(module).filter(|name| !own.contains(&&**name)).collect();
        let siblings: Vec<String> = siblings.into_iter().collect();
        let src = folder.ancestors().find(|folder| folder.ends_with("src")).unwrap();
        let place = folder.strip_prefix(src).unwrap().to_str().unwrap().replace('/', "::");
        let whole = if place.is_empty() { "crate::".to_owned() } else { format!("crate::{place}::") };
        let mut names: Vec<(String, Vec<String>)> = siblings.iter().map(|name| (name.clone(), Vec::new())).collect();
        for source in inside() {
            let Some((_, found)) = names.iter_mut().find(|(name, _)| *name == module(source)) else { continue };
            let is_root = source.path.file_name().is_some_and(|name| name == "mod.rs");
            let depth = source.path.strip_prefix(folder).unwrap().components().count() - usize::from(is_root);
            named(&source.code, &"super::".repeat(depth), &siblings, found);
            named(&source.code, &whole, &siblings, found);
        }
        let found = circle(names);
        let name = folder.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let is_known = CIRCLES.contains(&&*name);
        assert!(found.is_empty() || is_known, "in {name} these import one another: {}", found.join(", "));
        assert!(!found.is_empty() || !is_known, "in {name} there is no circle any more; take it out of CIRCLES");
    }
}

#[test]
fn a_circle_of_modules_is_found() {
    let siblings: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let of = |code: &str| {
        let mut found = Vec::new();
        named(code, "super::", &siblings, &mut found);
        named(code, "crate::x::", &siblings, &mut found);
        found
    };
    assert_eq!(
        of("use super::b::Y;\nuse super::{c::Z, T};\nuse super::super::a::Y;\nlet x = crate::x::a::Y;"),
        ["b", "c", "a"]
    );
    let names = |a: &str, b: &str, c: &str| siblings.iter().cloned().zip([a, b, c].map(of)).collect::<Vec<_>>();
    assert_eq!(circle(names("use super::b;", "use super::c;", "")), [""; 0]);
    assert_eq!(circle(names("use super::b;", "use super::c;", "use super::{X, a};")), ["a", "b", "c"]);
    assert_eq!(circle(names("use super::b;", "use super::c;", "fn f(x: super::b::T) {}")), ["b", "c"]);
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
        if package != FEATURES {
            forbid("datafusion");
        }
        if room != "storage" && (package, &*room) != (FEATURES, "tables") {
            forbid("object_store");
        }
        if room != "store" {
            forbid("sqlx");
        }
        if !["runtime", "storage", "store", "executor"].contains(&&*room) {
            forbid("tokio");
        }
        if !["approval", "retrain"].contains(&&*room) {
            forbid("ssh_key");
        }
        // Object stores are asked through a client whose redirects are under control.
        if room != "http" && !path.ends_with("storage/client.rs") {
            forbid("reqwest");
        }
        if room != "channel" {
            ["lettre", "rdkafka"].into_iter().for_each(forbid);
        }
        if room != "notify" && !path.ends_with("html/mod.rs") {
            forbid("minijinja");
        }
        if room != "executor" && !path.ends_with("gateway/cluster.rs") {
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
        let is_pure = ["metric", "rule", "count", "trigger", "policy", "retrain"].contains(&&*room) && package != FLEET;
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
