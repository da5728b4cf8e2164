//! Writes the bill of materials of a build as CycloneDX 1.5 to standard output: every package that is compiled into it or
//! runs while it is built, each with its version, licence and checksum. The same sources give the same file.
//!
//! ```sh
//! cargo run --release --example sbom > driftsweep.cdx.json
//! cargo run --release --example sbom -- --features kafka,kubernetes > driftsweep.cdx.json
//! ```
//! Arguments are those of `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

#[allow(dead_code)] // The tests use this file as a module.
fn main() -> anyhow::Result<()> {
    let more: Vec<String> = std::env::args().skip(1).collect();
    let mut bytes = serde_json::to_vec_pretty(&of_build(&more)?)?;
    bytes.push(b'\n');
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}

/// The bill of materials of a build for this machine's kind.
pub fn of_build(more: &[String]) -> anyhow::Result<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let run = |program: &str, args: &[String]| {
        let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        anyhow::ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok::<String, anyhow::Error>(String::from_utf8(output.stdout)?)
    };
    let version = run("rustc", &["-vV".into()])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| anyhow::anyhow!("rustc does not say which machine it builds for"))?;
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host].map(str::to_owned);
    let metadata: Value = serde_json::from_str(&run(&cargo, &[&args[..], more].concat())?)?;
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"))?;
    bill(&metadata, &toml::from_str(&lock)?)
}

/// The bill of materials of what `cargo metadata` and the lock file say.
fn bill(metadata: &Value, lock: &toml::Table) -> anyhow::Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checksums: HashMap<(String, String), String> = lock
        .get("package")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let part = |key: &str| package.get(key)?.as_str().map(str::to_owned);
            Some(((part("name")?, part("version")?), part("checksum")?))
        })
        .collect();
    let packages: HashMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    // Whatever is not for tests alone.
    let needs: HashMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let built = |needed: &&Value| list(&needed["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            let needed = list(&node["deps"]).iter().filter(built).map(|needed| text(&needed["pkg"])).collect();
            (text(&node["id"]), needed)
        })
        .collect();
    let root = text(&metadata["resolve"]["root"]);
    let mut reached = BTreeSet::from([root.clone()]);
    let mut open = vec![root.clone()];
    while let Some(id) = open.pop() {
        for needed in needs.get(&id).into_iter().flatten() {
            if reached.insert(needed.clone()) {
                open.push(needed.clone());
            }
        }
    }
    let reference = |id: &String| {
        let package = &packages[id];
        format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
    };
    let component = |id: &String, kind: &str| {
        let package = &packages[id];
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let licence = text(&package["license"]).replace('/', " OR ");
        let mut component = json!({
            "type": kind,
            "bom-ref": reference(id),
            "name": name,
            "version": version,
            "purl": reference(id),
            "licenses": [{ "expression": licence }],
        });
        if let Some(sum) = checksums.get(&(name, version)) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        if let Some(repository) = package["repository"].as_str() {
            component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
        }
        component
    };
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    let mut dependencies: BTreeMap<String, Value> = BTreeMap::new();
    for id in &reached {
        if *id != root {
            components.insert(reference(id), component(id, "library"));
        }
        let needed: BTreeSet<String> = needs.get(id).into_iter().flatten().map(reference).collect();
        dependencies.insert(reference(id), json!({ "ref": reference(id), "dependsOn": needed }));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(&root, "application") },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}
