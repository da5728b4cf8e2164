//! The kits in `deploy/`: their commands are the program's, and their files are what they claim to be.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::data::{all_below, root, run};
use crate::support::needs;
use crate::support::output::all_output;

fn kit(name: &str) -> PathBuf {
    root().join("deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(kit(name)).unwrap()
}

/// The commands that the kits run, each as its words after the name of the program.
fn commands() -> Vec<Vec<String>> {
    let plain = |text: &str| text.replace("{FLEET}", "fleet.toml").replace("FLEET", "\"fleet.toml\"");
    let list = |text: &str| -> Vec<String> {
        text.split(',').map(|word| word.trim().trim_matches('"').to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let mut found = Vec::new();
    for path in all_below(&root().join("deploy")) {
        // The table of the README is no command, and Dockerfiles have none with flags.
        if !path.is_file() || path.extension().is_some_and(|extension| extension == "md" || extension == "json") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(args) = line.strip_prefix("args: [") {
                found.push(list(args.trim_end_matches(']')));
            } else if let Some((_, args)) = line.split_once("[\"driftsweep\", ") {
                found.push(list(&plain(args.split(']').next().unwrap())));
            } else if let Some((_, args)) = ["ExecStart", "ExecStopPost", "bash_command", "*"]
                .iter()
                .any(|begin| line.starts_with(begin) || line.starts_with("30 6"))
                .then(|| line.split_once("driftsweep "))
                .flatten()
            {
                let args = plain(args.trim_end_matches(['"', ',']));
                found.push(args.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect());
            }
        }
    }
    found
}

#[test]
fn every_command_of_a_kit_has_the_flags_it_is_written_with() {
    let commands = commands();
    assert!(commands.len() >= 12, "only {} commands were found: {commands:?}", commands.len());
    for args in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_driftsweep")).args(&args).arg("--help").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", all_output(&output));
    }
    let fleet = kit("kubernetes/base/fleet.toml");
    let output = run(["validate".as_ref(), fleet.as_os_str()]);
    assert!(output.status.success(), "{}", all_output(&output));
}

/// The keys of `part` that `whole` lacks: what an API does not know is lost when it is read.
#[cfg(feature = "kubernetes")]
fn lost(part: &Value, whole: &Value, place: &str, found: &mut Vec<String>) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in part {
                let place = format!("{place}.{key}");
                match whole.get(key) {
                    Some(known) => lost(value, known, &place, found),
                    // Absent and empty are the same.
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => found.push(place),
                }
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.iter().zip(whole).enumerate().for_each(|(at, (a, b))| lost(a, b, &format!("{place}[{at}]"), found));
        }
        _ => {}
    }
}

#[cfg(feature = "kubernetes")]
fn is_known<T: serde::Serialize + serde::de::DeserializeOwned>(text: &str) -> T {
    let given: Value = serde_saphyr::from_str(text).unwrap();
    let read: T = serde_saphyr::from_str(text).unwrap();
    let mut found = Vec::new();
    lost(&given, &serde_json::to_value(&read).unwrap(), "", &mut found);
    assert!(found.is_empty(), "unknown keys: {found:?}");
    read
}

#[cfg(feature = "kubernetes")]
#[test]
fn every_key_of_the_kubernetes_kit_is_one_of_the_api() {
    use k8s_openapi::api::batch::v1::CronJob;
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    let job: CronJob = is_known(&read("kubernetes/base/cronjob.yaml"));
    is_known::<PersistentVolumeClaim>(&read("kubernetes/base/volume.yaml"));
    let spec = job.spec.unwrap();
    assert_eq!(spec.concurrency_policy.as_deref(), Some("Forbid"));
    let job = spec.job_template.spec.unwrap();
    let rules = job.pod_failure_policy.unwrap().rules;
    let codes: Vec<i32> = rules.iter().flat_map(|rule| rule.on_exit_codes.as_ref().unwrap().values.clone()).collect();
    // A retry neither hides what was found nor fails over another tick.
    assert!([2, 4, 10, 11, 13, 15].iter().all(|code| codes.contains(code)), "{codes:?}");
    for overlay in ["gpu", "postgres"] {
        let kustomization: Value =
            serde_saphyr::from_str(&read(&format!("kubernetes/{overlay}/kustomization.yaml"))).unwrap();
        for patch in kustomization["patches"].as_array().unwrap() {
            let patch: CronJob = is_known(patch["patch"].as_str().unwrap());
            let pod = patch.spec.unwrap().job_template.spec.unwrap().template.spec.unwrap();
            assert_eq!(pod.containers[0].name, "driftsweep", "a patch is of a container by its name");
        }
    }
}

#[test]
fn systemd_takes_the_units() {
    if !needs::systemd() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["driftsweep.service", "driftsweep.timer"] {
        // The program must be there.
        let unit =
            read(&format!("systemd/{name}")).replace("/usr/local/bin/driftsweep", env!("CARGO_BIN_EXE_driftsweep"));
        fs::write(folder.path().join(name), unit).unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    let output = verify.arg("verify").arg(folder.path().join("driftsweep.timer")).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", all_output(&output));
    let output = Command::new("systemd-analyze").args(["calendar", "*:0/15"]).output().unwrap();
    assert!(output.status.success(), "{}", all_output(&output));
}

#[test]
fn every_gauge_of_the_dashboard_exists() {
    let dashboard: Value = serde_json::from_str(&read("grafana/driftsweep.json")).unwrap();
    let night = crate::support::night::Night::all().swap_remove(0);
    let output = night.run(&["metrics"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let known: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let names = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            used.extend(names.filter(|name| name.starts_with("driftsweep_")));
        }
    }
    assert!(used.len() > 12, "{used:?}");
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
