//! The JSON Schema of fleet files: it follows from the types that read them, and takes what they take.

use std::fs;
use std::path::Path;

use driftsweep_fleet::FLEET_SCHEMA;
use jsonschema::Validator;
use serde_json::Value;

use crate::support::data::{all_below, root, run};
use crate::support::output::all_output;

fn validator() -> Validator {
    jsonschema::validator_for(&serde_json::from_str(FLEET_SCHEMA).unwrap()).unwrap()
}

/// What a schema says about a fleet file.
fn mistakes(validator: &Validator, text: &str) -> Vec<String> {
    let table: toml::Table = toml::from_str(text).unwrap();
    let mut value = serde_json::to_value(table).unwrap();
    // A part of a file, in a document, may be of one model.
    if value["model"].is_object() {
        value["model"] = serde_json::json!([value["model"].take()]);
    }
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_is_that_of_the_types() {
    let generated = driftsweep_fleet::generated_schema();
    let file = root().join("crates/fleet/fleet.schema.json");
    if std::env::var_os("DRIFTSWEEP_UPDATE_SCHEMA").is_some() {
        fs::write(&file, &generated).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept == generated, "DRIFTSWEEP_UPDATE_SCHEMA=1 cargo test … schema writes it anew");
    let output = run(["schema"]);
    assert!(output.stdout == kept.as_bytes(), "the program has another schema than the file");
}

/// The type of a setting in words, with links to the tables of the reference.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
        return match name {
            "Length" => "length of time".into(),
            name => format!("[{name}](#{})", name.to_lowercase()),
        };
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", value.as_str().unwrap());
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = schema[several].as_array() {
            let all: Vec<String> = all.iter().filter(|one| one["type"] != "null").map(type_of).collect();
            return all.join(" or ");
        }
    }
    match &schema["type"] {
        Value::Array(all) => {
            all.iter().filter(|one| *one != "null").map(|one| plain(one, schema)).collect::<Vec<_>>().join(" or ")
        }
        one => plain(one, schema),
    }
}

fn plain(name: &Value, schema: &Value) -> String {
    match name.as_str() {
        Some("array") => format!("list of {}", type_of(&schema["items"])),
        Some("object") => match &schema["additionalProperties"] {
            Value::Object(_) => format!("table of {}", type_of(&schema["additionalProperties"])),
            _ => "table".into(),
        },
        Some("boolean") => "true or false".into(),
        Some(name) => name.into(),
        None => "any".into(),
    }
}

/// The reference of the fleet file, from its schema.
fn reference() -> String {
    let schema: Value = serde_json::from_str(FLEET_SCHEMA).unwrap();
    let mut text =
        "# Reference of the fleet file\n\nMade from the schema (`driftsweep schema`). Settings that are not marked \
                    *needed* may be left out.\n"
            .to_owned();
    let mut section = |name: &str, definition: &Value| {
        let description = definition["description"].as_str().unwrap_or_default().replace('\n', " ");
        if let Some(properties) = definition["properties"].as_object() {
            text += &format!("\n## {name}\n\n{description}\n\n| key | type | meaning |\n| --- | --- | --- |\n");
            let needed = definition["required"].as_array().cloned().unwrap_or_default();
            for (key, property) in properties {
                let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ");
                let needed = if needed.iter().any(|needed| needed == key) { " *needed*" } else { "" };
                text += &format!("| `{key}` | {} | {meaning}{needed} |\n", type_of(property));
            }
        } else if name != "Length" {
            text += &format!("\n## {name}\n\n{description}\n");
            match definition["oneOf"].as_array().filter(|all| all.iter().all(|one| one.get("const").is_some())) {
                Some(all) => {
                    text += "\n";
                    for one in all {
                        let meaning = one["description"].as_str().unwrap_or_default().replace('\n', " ");
                        text += &format!("* `{}`: {meaning}\n", one["const"].as_str().unwrap());
                    }
                }
                None => text += &format!("\n{}\n", type_of(definition)),
            }
        }
    };
    section("The file", &schema);
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        section(name, definition);
    }
    text
}

#[test]
fn the_reference_is_that_of_the_schema() {
    let file = root().join("docs/fleet-file-reference.md");
    if std::env::var_os("DRIFTSWEEP_UPDATE_SCHEMA").is_some() {
        fs::write(&file, reference()).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == reference(), "DRIFTSWEEP_UPDATE_SCHEMA=1 writes it anew");
}

#[test]
fn every_setting_is_described() {
    let schema: Value = serde_json::from_str(FLEET_SCHEMA).unwrap();
    let mut without = Vec::new();
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            if property["description"].is_null() {
                without.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(without.is_empty(), "{without:?}");
    assert!(!FLEET_SCHEMA.contains("```"), "an example in Rust is no description of a setting");
    assert!(schema["definitions"].as_object().unwrap().len() > 20);
}

#[test]
fn every_fleet_file_of_the_repository_is_valid_by_the_schema() {
    let validator = validator();
    let mut checked = 0;
    let folders = ["datasets", "deploy", "tests"].map(|folder| all_below(&root().join(folder)));
    for path in folders.iter().flatten().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = fs::read_to_string(path).unwrap();
        // Fixtures of former versions have former names of keys.
        if text.contains("[[model]]") && !path.to_string_lossy().contains("fixtures/format-1") {
            assert_eq!(mistakes(&validator, &text), [""; 0], "{}", path.display());
            checked += 1;
        }
    }
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            // Parts of files lack what every file has.
            let found = mistakes(&validator, block);
            let found: Vec<&String> =
                found.iter().filter(|mistake| !mistake.contains("is a required property")).collect();
            assert!(found.is_empty(), "{}: {found:?}\n{block}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 25, "only {checked} were found");
}

fn documents() -> Vec<std::path::PathBuf> {
    let docs = all_below(&root().join("docs"));
    let markdown = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "md");
    docs.into_iter().filter(markdown).chain([root().join("README.md")]).collect()
}

#[test]
fn a_mistake_is_one_for_the_schema_and_for_the_program() {
    let validator = validator();
    let folder = tempfile::tempdir().unwrap();
    let model = "[[model]]\nname = \"m\"\nbaseline = \"a.csv\"\ncurrent = \"b.csv\"\n";
    for (part, is_right) in [
        ("", true),
        ("importance = 2.5\nwindows = [\"7d\"]\ntime = \"t\"\n", true),
        ("[model.segment.big]\namount = { from = 100 }\ncountry = [\"DE\", 3]\n", true),
        ("[model.trigger]\ncooldown = \"1h 30m\"\noff = [\"schedule\"]\n[model.trigger.drift]\nat_least = 2\n", true),
        (
            "[model.retrain]\ncommand = [\"true\"]\nstakes = \"low\"\ntimeout = \"2h\"\n[approval]\napprovers = [[\"ana\"]]\n",
            true,
        ),
        ("convention = \"none\"\n", true),
        ("[model.convention]\nname = \"evidently\"\nnumeric = { metric = \"psi\", limit = 0.2 }\n", true),
        ("importence = 2\n", false),
        ("importance = \"high\"\n", false),
        ("convention = \"evidentely\"\n", false),
        ("[model.retrain]\ncommand = \"true\"\n", false),
        ("[model.trigger]\noff = [\"drif\"]\n", false),
        ("[model.trigger]\ncooldown = \"soon\"\n", false),
        ("[model.feature.age]\nkind = \"number\"\n", false),
        ("[model.thresholds]\npsi = \"0.1\"\n", false),
    ] {
        let text = format!("{model}{part}");
        let found = mistakes(&validator, &text);
        assert_eq!(found.is_empty(), is_right, "{text}\n{found:?}");
        let path = folder.path().join("fleet.toml");
        fs::write(&path, &text).unwrap();
        let output = run(["validate".as_ref(), path.as_os_str()]);
        let code = if is_right { 0 } else { 4 };
        assert_eq!(output.status.code(), Some(code), "{text}\n{}", all_output(&output));
    }
}

#[test]
fn what_init_writes_is_valid_and_names_its_schema() {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &str, files: &[(&str, &str)]| {
        for (file, text) in files {
            let path = folder.path().join("models").join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    };
    let rows = |shift: usize| {
        let row =
            |i: usize| format!("{i},2026-01-01T00:00:{:02}Z,{},{},0.{}\n", i % 60, i % 7 + shift, i % 2, i % 9 + 1);
        "request_id,event_time,age,churned,probability\n".to_owned() + &(0..500).map(row).collect::<String>()
    };
    model("churn", &[("training.csv", &rows(0)), ("production/part-1.csv", &rows(1)), ("notes.txt", "x")]);
    model("fraud", &[("baseline/a.csv", &rows(0)), ("current.csv", &rows(2))]);
    model("half", &[("train.csv", &rows(0))]);
    let fleet = folder.path().join("fleet.toml");
    let output = run(["init".as_ref(), folder.path().join("models").as_os_str(), "-o".as_ref(), fleet.as_os_str()]);
    let said = all_output(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("half has no current data and is left out"), "{said}");
    let text = fs::read_to_string(&fleet).unwrap();
    assert!(text.starts_with("#:schema ./fleet.schema.json\n"), "{text}");
    assert_eq!(fs::read_to_string(folder.path().join("fleet.schema.json")).unwrap(), FLEET_SCHEMA);
    assert_eq!(mistakes(&validator(), &text), [""; 0]);
    for words in [
        "name = \"churn\"",
        "baseline = \"models/churn/training.csv\"",
        "current = \"models/churn/production/\"",
        "name = \"fraud\"",
        "\"request_id\", # id",
        "# label = \"…\"",
        "# id = \"request_id\"",
        "# score = \"probability\"",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let swept = run(["sweep".as_ref(), fleet.as_os_str(), "--format".as_ref(), "json".as_ref()]);
    assert_eq!(swept.status.code(), Some(0), "{}", all_output(&swept));
    // Nothing to find.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (place, code) in [(&*empty, 2), (Path::new("no-such-folder"), 3)] {
        let output = run(["init".as_ref(), place.as_os_str()]);
        assert_eq!(output.status.code(), Some(code), "{}", all_output(&output));
    }
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("sweep") && text.contains("deadline"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(run(["man".as_ref(), "-o".as_ref(), folder.path().as_os_str()]).status.success());
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("driftsweep.1").contains("driftsweep\\-sweep") && page("driftsweep-sweep.1").contains("deadline"));
    assert!(!folder.path().join("driftsweep-supervise.1").exists(), "a hidden command has no page");
}
