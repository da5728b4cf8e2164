//! `driftsweep demo --loop`: the whole way from drift to a new champion, and back, on real flights.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::root;
use crate::support::output::{all_output, says};

fn told(story: &str, folder: &TempDir) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    let kept = folder.path().join("kept");
    command.current_dir(root()).args(["demo", "--loop", story, "--keep"]).arg(&kept);
    // They say where other stores are; the demo has its own.
    command.env("DRIFTSWEEP_STORE", "/nowhere/x.sqlite").env("DRIFTSWEEP_STATE", "/nowhere");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    all_output(&output)
}

fn listed(folder: &TempDir, what: &str) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    let output =
        command.current_dir(folder.path().join("kept")).args([what, "list", "--format", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", all_output(&output)))
}

#[test]
fn retrains_after_drift_become_the_champion_with_their_baseline_and_those_that_are_no_better_do_not() {
    let folder = TempDir::new().unwrap();
    let told = told("better", &folder);
    for words in [
        "drift: ",
        "a training starts",
        "trained for $25.00; gates: it passes all",
        "version 2 is in production for good",
        "the baseline moves: version 2",
        "why it was trained: the drift trigger",
        ": whole; the last is",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let states: Vec<String> =
        listed(&folder, "rollout").iter().map(|rollout| rollout["state"].as_str().unwrap().to_owned()).collect();
    assert!(states.iter().filter(|state| *state == "settled").count() >= 2, "{states:?}");
    let versions = listed(&folder, "models");
    assert_eq!(versions.iter().filter(|version| version["status"] == "champion").count(), 1);
    let baselines = listed(&folder, "baseline");
    assert!(baselines.len() > states.iter().filter(|state| *state == "settled").count(), "{baselines:?}");
}

#[test]
fn a_retrain_that_is_worse_in_december_is_taken_back_and_the_former_champion_and_its_baseline_stay() {
    let folder = TempDir::new().unwrap();
    let told = told("worse", &folder);
    assert!(told.contains("version 2 is taken back: quality"), "{told}");
    assert!(!told.contains("in production for good"), "{told}");
    let statuses: Vec<String> =
        listed(&folder, "models").iter().map(|version| version["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(statuses, ["champion", "rejected"]);
    // A second time in the same folder would mix two stories.
    let mut again = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    again.current_dir(root()).args(["demo", "--loop", "--keep"]).arg(folder.path().join("kept"));
    says(&again.output().unwrap(), 2, &["is there already", "empty folder"]);
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    nowhere.current_dir(folder.path()).args(["demo", "--loop"]);
    says(&nowhere.output().unwrap(), 2, &["no flights of the whole year"]);
}
