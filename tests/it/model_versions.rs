//! The registry of models: a training adds a version, gates decide about it, a person says which one is in production, and the
//! next training is told.

use std::fs;
use std::path::Path;
use std::process::Output;

use driftsweep_ops::retrain::JobState;
use serde_json::{Value, json};

use crate::support::jobs::sql;
use crate::support::output::{all_output, says};
use crate::support::script::Place;

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A training without gates that answers with a model, and keeps what it was told of the champion.
fn place(model: &str) -> Place {
    let script = format!(
        "echo \"$DRIFTSWEEP_CHAMPION|$DRIFTSWEEP_CHAMPION_VERSION|$DRIFTSWEEP_CHAMPION_DIGEST\" > champion; \
         echo '{{\"cost\": 5, \"model\": {model}}}' > $DRIFTSWEEP_ANSWER_FILE"
    );
    Place::new(&script)
}

fn models(place: &Place, args: &[&str]) -> Output {
    let state = place.state.display().to_string();
    let decides = !["list", "show"].contains(&args[0]);
    let by: &[&str] = if decides { &["--by", "ana", "--reason", "for a test"] } else { &[] };
    place.program(&[&["models"], args, by, &["--store", &place.store, "--state", &state]].concat(), &[])
}

fn listed(place: &Place) -> Vec<Value> {
    let output = models(place, &["list", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The status of each version.
fn statuses(place: &Place) -> Vec<String> {
    listed(place).iter().map(|version| version["status"].as_str().unwrap().to_owned()).collect()
}

fn verified(place: &Place) {
    let state = place.state.display().to_string();
    let output = place.program(&["audit", "verify", "--store", &place.store, "--state", &state], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
}

#[test]
fn a_training_without_gates_adds_a_version_with_all_that_it_said_of_it() {
    let model = format!(
        r#"{{"source": "candidates/7", "digest": "{DIGEST}", "trainer": "batch", "feature_set": "f", "feature_version": "v9",
            "training": {{"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z", "rows": 7}}, "metrics": {{"auc": 0.71}}}}"#
    );
    let place = place(&model);
    place.ends();
    assert_eq!(place.job().state, JobState::Succeeded);
    let [version] = &listed(&place)[..] else { panic!() };
    let source = place.path("candidates/7").canonicalize().unwrap_or_else(|_| place.path("candidates/7"));
    for (key, wanted) in [
        ("model", json!("m")),
        ("version", json!(1)),
        ("status", json!("candidate")),
        ("job", json!("event")),
        ("attempt", json!(1)),
        ("source", json!(source.display().to_string())),
        ("digest", json!(DIGEST)),
        ("feature_version", json!("v9")),
        ("training", json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z", "rows": 7 })),
        ("metrics", json!({ "auc": 0.71 })),
        ("registered_by", json!("driftsweep")),
        ("aliases", json!([])),
    ] {
        assert_eq!(version[key], wanted, "{key}");
    }
    let [record] = &place.records("model.register")[..] else { panic!() };
    assert_eq!((&record["version"], &record["digest"]), (&json!(1), &json!(DIGEST)));
    says(
        &models(&place, &["show", "m", "latest"]),
        0,
        &["version 1 of m", "auc 0.7100", "f, version v9", "7 labelled rows"],
    );
    let state = place.state.display().to_string();
    let page = place.program(&["jobs", "show", "event", "--store", &place.store, "--state", &state], &[]);
    says(&page, 0, &["version 1 of m, candidate", "candidates/7"]);
    verified(&place);
}

#[test]
fn a_malformed_model_spoils_neither_the_training_nor_the_registry() {
    let place = place(r#"{"source": "candidates/7", "digest": "no digest"}"#);
    place.ends();
    assert_eq!(place.job().state, JobState::Succeeded);
    assert!(place.job().about_answer.unwrap().contains("digest is no SHA-256"));
    assert_eq!(listed(&place), Vec::<Value>::new());
}

#[test]
fn a_person_registers_promotes_and_retires_and_each_step_is_in_the_audit() {
    let place = place("null");
    for number in ["1", "2", "3"] {
        let address = format!("s3://models/{number}");
        says(
            &models(&place, &["register", "m", &address, "--digest", DIGEST]),
            0,
            &[&format!("version {number} is registered")],
        );
    }
    assert_eq!(statuses(&place), ["candidate"; 3]);
    says(&models(&place, &["show", "m", "champion"]), 2, &["there is no version champion"]);
    says(&models(&place, &["promote", "m", "1"]), 0, &["version 1 is the champion"]);
    says(&models(&place, &["promote", "m", "1"]), 2, &["champion already"]);
    says(&models(&place, &["promote", "m", "latest"]), 0, &["version 3 is the champion, in place of version 1"]);
    assert_eq!(statuses(&place), ["retired", "candidate", "champion"]);
    // Back to the former one.
    says(&models(&place, &["promote", "m", "1"]), 0, &["version 1 is the champion, in place of version 3"]);
    says(&models(&place, &["retire", "m", "2"]), 0, &["version 2 is retired"]);
    says(&models(&place, &["retire", "m", "2"]), 2, &["retired already"]);
    assert_eq!(statuses(&place), ["champion", "retired", "retired"]);
    // Aliases are moved.
    says(&models(&place, &["alias", "m", "blue", "2"]), 0, &["blue is version 2"]);
    says(&models(&place, &["alias", "m", "blue", "champion"]), 0, &["blue is version 1"]);
    says(&models(&place, &["show", "m", "blue"]), 0, &["version 1 of m", "s3://models/1"]);
    says(&models(&place, &["unalias", "m", "blue"]), 0, &["blue names no version"]);
    says(&models(&place, &["unalias", "m", "blue"]), 2, &["there is no alias 'blue'"]);
    says(&models(&place, &["show", "m", "blue"]), 2, &["there is no version 'blue'"]);
    for wrong in ["v3", "7", "champion", "a b", ""] {
        assert_eq!(models(&place, &["alias", "m", wrong, "1"]).status.code(), Some(2), "{wrong}");
    }
    says(&models(&place, &["promote", "m", "9"]), 2, &["there is no version 9", "models list"]);
    says(&models(&place, &["register", "other", "s3://models/1"]), 2, &["other"]);
    says(&models(&place, &["register", "m", "s3://u:p@models/1"]), 2, &["secret"]);
    says(&models(&place, &["register", "m", "nowhere"]), 2, &["no such file"]);
    says(&models(&place, &["list", "--in", "champion"]), 0, &["champion"]);
    for (kind, times) in [("register", 3), ("promote", 3), ("retire", 1), ("alias", 2), ("delete_alias", 1)] {
        assert_eq!(place.records(&format!("model.{kind}")).len(), times, "{kind}");
    }
    let last = place.records("model.promote").pop().unwrap();
    assert_eq!((&last["version"], &last["former"], &last["reason"]), (&json!(1), &json!(3), &json!("for a test")));
    verified(&place);
}

#[test]
fn a_training_is_told_the_champion_and_nothing_where_there_is_none() {
    for (promoted, wanted) in [(true, format!("s3://models/1|1|{DIGEST}")), (false, "||".into())] {
        let place = place("null");
        says(&models(&place, &["register", "m", "s3://models/1", "--digest", DIGEST]), 0, &[]);
        if promoted {
            says(&models(&place, &["promote", "m", "1"]), 0, &[]);
        }
        place.ends();
        assert_eq!(fs::read_to_string(place.path("champion")).unwrap().trim(), wanted);
    }
}

#[test]
fn no_training_starts_with_a_champion_that_is_not_that_of_the_audit() {
    for edit in [
        "UPDATE model_version SET body = replace(body, 'models/1', 'models/2')",
        "UPDATE model_version SET status = 'retired'",
        "DELETE FROM model_version",
    ] {
        let place = place("null");
        says(&models(&place, &["register", "m", "s3://models/1"]), 0, &[]);
        says(&models(&place, &["promote", "m", "1"]), 0, &[]);
        sql(&place.store, edit);
        let summary = place.pass();
        assert!(
            summary.tampered.iter().any(|problem| problem.contains("table model_version, row 'm' '1'")),
            "{summary:?}"
        );
        assert!(!place.path("champion").exists(), "{edit}");
        for args in [&["promote", "m", "1"][..], &["register", "m", "s3://models/2"], &["alias", "m", "blue", "1"]] {
            says(&models(&place, args), 15, &["model_version"]);
        }
    }
}

#[test]
fn an_alias_that_was_edited_is_not_followed_and_a_deleted_version_stays_missed() {
    let place = place(r#"{"source": "candidates/3"}"#);
    for number in ["1", "2"] {
        says(&models(&place, &["register", "m", &format!("s3://models/{number}")]), 0, &[]);
    }
    says(&models(&place, &["alias", "m", "next", "1"]), 0, &[]);
    sql(&place.store, "UPDATE model_alias SET version = 2");
    for args in [&["promote", "m", "next"][..], &["alias", "m", "next", "1"], &["unalias", "m", "next"]] {
        says(&models(&place, args), 15, &["table model_alias, row 'm' 'next'"]);
    }
    sql(&place.store, "UPDATE model_alias SET version = 1");
    // A training that is under way ends all the same.
    place.pass();
    sql(&place.store, "DELETE FROM model_version WHERE version = 2");
    place.ends();
    let numbers: Vec<u64> = listed(&place).iter().map(|version| version["version"].as_u64().unwrap()).collect();
    // Its store was in doubt, and it has no gates: what it has made is not used.
    assert_eq!(numbers, [1]);
    let state = place.state.display().to_string();
    let output = place.program(&["audit", "verify", "--store", &place.store, "--state", &state], &[]);
    says(&output, 15, &["table model_version, row 'm' '2' was deleted"]);
}

/// The folder of a model, as `driftsweep train` leaves it.
fn trained_folder(folder: &Path, content: &str) {
    fs::create_dir_all(folder.join("model")).unwrap();
    fs::write(folder.join("model/model.bin"), content).unwrap();
    let file = sha256(content.as_bytes());
    let digest = sha256(format!("{file}  model.bin\n").as_bytes());
    let card = json!({
        "digest": digest, "trainer": { "kind": "batch" }, "feature_set": "f", "feature_version": "v1",
        "training": { "from": null, "to": "2026-03-01T00:00:00Z", "labelled": 9 }, "metrics": { "auc": 0.7 },
    });
    fs::write(folder.join("model.json"), card.to_string()).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    driftsweep_common::atomic::hex(&Sha256::digest(bytes))
}

#[test]
fn a_folder_that_was_written_over_is_neither_registered_nor_promoted() {
    let place = place("null");
    let folder = place.path("candidate");
    trained_folder(&folder, "one");
    says(&models(&place, &["register", "m", "candidate", "--digest", DIGEST]), 2, &["leave it out"]);
    says(&models(&place, &["register", "m", "candidate"]), 0, &[]);
    let [version] = &listed(&place)[..] else { panic!() };
    assert_eq!((&version["training"]["rows"], &version["feature_version"]), (&json!(9), &json!("v1")));
    // Another training, into the same folder.
    trained_folder(&folder, "two");
    says(&models(&place, &["promote", "m", "1"]), 2, &["holds another model by now"]);
    fs::rename(&folder, place.path("moved")).unwrap();
    says(&models(&place, &["alias", "m", "kept", "1"]), 0, &[]);
    fs::rename(place.path("moved"), &folder).unwrap();
    fs::write(folder.join("model/model.bin"), "three").unwrap();
    says(&models(&place, &["promote", "m", "1"]), 3, &["changed since"]);
    says(&models(&place, &["register", "m", "candidate"]), 3, &["changed since"]);
    trained_folder(&folder, "one");
    says(&models(&place, &["promote", "m", "1"]), 0, &[]);
}
