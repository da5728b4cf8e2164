//! What comes in from outside: `deny.toml` says what may, and the bill of materials lists it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[path = "../../crates/cli/examples/sbom.rs"]
mod sbom;

fn root() -> &'static Path {
    crate::support::data::root()
}

/// Whether a package is one of this repository.
fn is_own(package: &str) -> bool {
    package == "driftsweep" || package.starts_with("driftsweep-")
}

fn toml(name: &str) -> toml::Table {
    toml::from_str(&fs::read_to_string(root().join(name)).unwrap()).unwrap()
}

fn texts(value: &toml::Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).args(["--locked", "--offline"]).current_dir(root()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a licence expression can be fulfilled with allowed licences alone: one of those joined by OR, all of those joined
/// by AND, which binds closer. `/` is an old OR.
fn allows(allowed: &BTreeSet<String>, expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let fine = any(allowed, &words, &mut at);
    fine && at == words.len()
}

fn any(allowed: &BTreeSet<String>, words: &[&str], at: &mut usize) -> bool {
    let mut fine = all(allowed, words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        fine |= all(allowed, words, at);
    }
    fine
}

fn all(allowed: &BTreeSet<String>, words: &[&str], at: &mut usize) -> bool {
    let mut fine = one(allowed, words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        fine &= one(allowed, words, at);
    }
    fine
}

fn one(allowed: &BTreeSet<String>, words: &[&str], at: &mut usize) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let fine = any(allowed, words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return fine && closed;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name += &format!(" WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let allowed: BTreeSet<String> = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, fine) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND Zlib", true),
        ("GPL-3.0 OR MIT AND Zlib", true),
        ("MIT OR GPL-3.0 AND GPL-2.0", true),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("(MIT OR Zlib) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception AND (MIT)", true),
        ("", false),
        ("(MIT", false),
        ("MIT Zlib", false),
    ] {
        assert_eq!(allows(&allowed, expression), fine, "{expression}");
    }
}

#[test]
fn packages_come_from_the_registry_under_allowed_licences_and_the_engines_come_once() {
    let policy = toml("deny.toml");
    let registries = texts(&policy["sources"]["allow-registry"]);
    assert_eq!(policy["sources"]["unknown-git"].as_str(), Some("deny"));
    // Whatever machine it is for: all that the lock file names.
    let lock = toml("Cargo.lock");
    let locked = lock["package"].as_array().unwrap();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in locked {
        let part = |key: &str| package.get(key).and_then(toml::Value::as_str);
        let (name, version) = (part("name").unwrap(), part("version").unwrap());
        versions.entry(name).or_default().insert(version);
        if is_own(name) {
            continue;
        }
        let source = part("source").unwrap_or_default();
        let known = registries.iter().any(|registry| source == format!("registry+{registry}"));
        assert!(known, "{name} {version} comes from '{source}'");
        assert_eq!(part("checksum").map(str::len), Some(64), "{name} {version} has no checksum");
    }
    assert!(locked.len() > 300, "only {} packages were found", locked.len());
    let targets = texts(&policy["graph"]["targets"]);
    let filter: Vec<&str> = targets.iter().flat_map(|target| ["--filter-platform", target]).collect();
    let metadata = cargo(&[&["metadata", "--format-version", "1", "--all-features"], &filter[..]].concat());
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let allowed: BTreeSet<String> = texts(&policy["licenses"]["allow"]).into_iter().collect();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(allows(&allowed, licence), "{} is under '{licence}'", package["name"]);
    }
    for ban in policy["bans"]["deny"].as_array().unwrap() {
        let name = ban["crate"].as_str().unwrap();
        let found = versions.get(name).map_or(0, BTreeSet::len);
        match ban.get("deny-multiple-versions").and_then(toml::Value::as_bool) {
            Some(true) => assert_eq!(found, 1, "{name} comes in {found} versions"),
            _ => assert!(
                metadata["packages"].as_array().unwrap().iter().all(|package| package["name"] != name),
                "{name} is not to be used"
            ),
        }
    }
}

#[test]
fn the_bill_of_materials_lists_every_package_of_the_release_build_and_none_of_the_tests_alone() {
    let bill = sbom::of_build(&["--offline".into()]).unwrap();
    assert_eq!((bill["bomFormat"].as_str(), bill["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    let components = bill["components"].as_array().unwrap();
    let listed: BTreeSet<String> = components
        .iter()
        .map(|one| format!("{} v{}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap()))
        .collect();
    assert_eq!(listed.len(), components.len(), "each once");
    // As cargo itself builds it.
    let tree = cargo(&[
        "tree",
        "--package",
        env!("CARGO_PKG_NAME"),
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let built: BTreeSet<String> = tree
        .lines()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty() && !is_own(line.split(' ').next().unwrap_or_default()))
        .collect();
    assert!(built.len() > 100, "{built:?}");
    assert_eq!(built.difference(&listed).next(), None, "is not listed");
    for only_of_tests in ["criterion", "proptest", "s3s", "standardwebhooks"] {
        let found = components.iter().find(|one| one["name"] == only_of_tests);
        assert_eq!(found, None, "is of the tests alone");
    }
    for one in components.iter().filter(|one| !is_own(one["name"].as_str().unwrap())) {
        let sum = one["hashes"][0]["content"].as_str().unwrap_or_default();
        assert_eq!(sum.len(), 64, "{one}");
        assert!(!one["licenses"][0]["expression"].as_str().unwrap().is_empty(), "{one}");
    }
    let refs: BTreeSet<&str> =
        bill["dependencies"].as_array().unwrap().iter().map(|one| one["ref"].as_str().unwrap()).collect();
    assert_eq!(refs.len(), components.len() + 1);
}

#[cfg(unix)]
#[test]
fn what_the_tools_could_not_check_is_told_as_skipped_with_the_reason_and_fails_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (bin, home) = (at("bin"), at("home"));
    fs::create_dir_all(&bin).unwrap();
    // Stands in for the tools where they are not installed: it says what the real ones say.
    let stand_in = r#"#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
"deny --version") test -z "$NO_DENY" ;;
"audit --version") test -z "$NO_AUDIT" ;;
"deny "*) exit "${DENY:-0}" ;;
"audit "*) printf '%s\n' "$SAYS" >&2; exit "${AUDIT:-0}" ;;
*) exit 101 ;;
esac
"#;
    fs::write(bin.join("cargo"), stand_in).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |variables: &[(&str, &str)]| {
        let _ = (fs::remove_file(at("calls")), fs::remove_file(at("skipped")));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(root().join("tests/supply.sh")).arg(at("skipped")).env("PATH", path).env("CARGO_HOME", &home);
        let output = command.env("CALLS", at("calls")).envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let skipped = fs::read_to_string(at("skipped")).unwrap_or_default();
        assert!(skipped.lines().all(|line| line.starts_with("SKIPPED: ") && said.contains(line)), "{said}");
        let calls = fs::read_to_string(at("calls")).unwrap();
        (output.status.code(), skipped, calls.contains("audit --no-fetch"), said)
    };
    let (code, skipped, _, said) = run(&[("NO_DENY", "1"), ("NO_AUDIT", "1")]);
    assert!(code == Some(0) && skipped.lines().count() == 2, "{said}");
    assert!(
        skipped.contains("cargo-deny is not installed") && skipped.contains("cargo-audit is not installed"),
        "{said}"
    );
    // The tools are there, and the database is not, or is empty: an audit would fail, or pass.
    for folder in ["home", "home/advisory-db", "home/advisory-db/crates/x"] {
        fs::create_dir_all(at(folder)).unwrap();
        let (code, skipped, audited, said) = run(&[]);
        assert!(code == Some(0) && skipped.lines().count() == 1 && !audited, "{folder}: {said}");
        let reason = format!("no advisories in {}; they were not checked", home.join("advisory-db").display());
        assert!(skipped.contains(&reason), "{said}");
    }
    fs::write(at("home/advisory-db/crates/x/RUSTSEC-2026-0001.md"), "").unwrap();
    let (code, skipped, audited, said) = run(&[]);
    assert!(code == Some(0) && skipped.is_empty() && audited, "{said}");
    let unreadable = "error: error loading advisory database: parse error";
    let (code, skipped, _, said) = run(&[("AUDIT", "1"), ("SAYS", unreadable)]);
    assert!(code == Some(0) && skipped.contains("cannot read the advisories"), "{said}");
    // What they find fails.
    assert_eq!(run(&[("AUDIT", "1"), ("SAYS", "error: 1 vulnerability found!")]).0, Some(1));
    assert_ne!(run(&[("DENY", "1")]).0, Some(0));
}
