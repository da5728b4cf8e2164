//! Sweeps that are killed, hurried, run twice at once, or cannot write.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{dataset, run};

/// A generated fleet of models of different importance, two to a table.
fn fleet(folder: &Path, models: usize) -> PathBuf {
    let [models, folder_text] = [models.to_string(), folder.display().to_string()];
    let args = ["bench", "generate", &folder_text, "--models", &models, "--features", "12", "--rows", "3000"];
    let more = ["--models-per-table", "2", "--shared", "0.5", "--drift", "0.3", "--drift-kinds", "shift,scale,missing"];
    assert!(run(args.iter().chain(&more)).status.success());
    folder.join("fleet.toml")
}

const NOW: [&str; 6] = ["--now", "2026-11-23T02:00:00Z", "--format", "json", "--threads", "1"];

fn sweep(fleet: &Path, more: &[&str]) -> (Option<i32>, Value, String) {
    let output = run(["sweep", fleet.to_str().unwrap()].iter().chain(&NOW).chain(more));
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_sweep_killed_again_and_again_gives_the_report_of_one_that_was_not() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path(), 60);
    let started = Instant::now();
    let (code, undisturbed, _) = sweep(&fleet, &["--no-state"]);
    let whole = started.elapsed();
    assert_eq!(code, Some(0));
    let state = folder.path().join("state");
    let state = ["--state", state.to_str().unwrap()];
    let (mut killed, mut seed) = (0, 1u64);
    let output = folder.path().join("report.json");
    for _ in 0..20 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_driftsweep"))
            .args(["sweep", fleet.to_str().unwrap(), "-o", output.to_str().unwrap()])
            .args(NOW)
            .args(state)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(whole.mul_f64((seed >> 40) as f64 / (1u64 << 24) as f64 * 0.2));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
    }
    assert!(killed >= 10, "only {killed} of 20 were still running when they were killed");
    let (code, resumed, said) = sweep(&fleet, &state);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("resuming the sweep of 2026-11-23T02:00:00Z"), "{said}");
    assert_eq!(resumed["counts_hash"], undisturbed["counts_hash"]);
    let strip = |mut report: Value| {
        // Without a state a sweep is not part of a history, but has the same name all the same.
        report["engine"] = Value::Null;
        report
    };
    assert!(strip(resumed) == strip(undisturbed), "the reports differ");
    // Done: the next run starts from the beginning.
    let (_, _, said) = sweep(&fleet, &state);
    assert!(!said.contains("resuming"), "{said}");
}

#[test]
fn a_deadline_covers_the_most_important_models_first_and_lists_the_rest() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path(), 60);
    let text = fs::read_to_string(&fleet).unwrap();
    // The last models matter most.
    let text = text.replace("name = \"model-00059\"", "name = \"model-00059\"\nimportance = 9");
    fs::write(&fleet, text).unwrap();
    let started = Instant::now();
    let (_, whole, _) = sweep(&fleet, &["--no-state"]);
    let third = format!("{}ms", started.elapsed().as_millis() / 3);
    let state = folder.path().join("state");
    let state = ["--state", state.to_str().unwrap()];

    let (code, report, said) = sweep(&fleet, &[&state[..], &["--deadline", "0s"]].concat());
    assert_eq!(code, Some(12), "{said}");
    assert_eq!(report["models"].as_array().unwrap().len(), 0);
    assert_eq!(report["not_covered"].as_array().unwrap().len(), 60);
    assert_eq!(report["not_covered"][0]["model"], "model-00059");
    assert!(said.contains("60 comparisons were not"), "{said}");

    let mut covered = Vec::new();
    for _ in 0..6 {
        let (_, report, _) = sweep(&fleet, &[&state[..], &["--deadline", &third]].concat());
        let models = report["models"].as_array().unwrap();
        assert!(models.is_empty() || models[0]["model"] == "model-00059");
        let not_covered = report["not_covered"].as_array().cloned().unwrap_or_default();
        let missed = not_covered.len() as u64;
        assert_eq!(report["summary"]["not_covered"], missed);
        let of_status = |status: &str| {
            let features = models.iter().flat_map(|model| model["features"].as_array().unwrap());
            features.filter(|feature| feature["status"] == status).count()
        };
        let named: u64 = not_covered.iter().filter_map(|missed| missed["features"].as_u64()).sum();
        assert_eq!(of_status("not_covered") as u64, named);
        covered.push(60 - missed);
        if missed == 0 {
            break;
        }
    }
    // Each run goes on where the one before it stopped; what is known costs next to nothing.
    assert!(covered.last() > covered.first(), "{covered:?}");
    let (code, rest, _) = sweep(&fleet, &state);
    assert_eq!((code, &rest["counts_hash"]), (Some(0), &whole["counts_hash"]));
}

#[test]
fn the_same_sweep_is_not_run_twice_at_once() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path(), 2);
    let state = folder.path().join("state");
    fs::create_dir_all(&state).unwrap();
    let journal = File::create(state.join("sweep.journal")).unwrap();
    journal.lock().unwrap();
    let (code, _, said) = sweep(&fleet, &["--state", state.to_str().unwrap()]);
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("running already"), "{said}");
    drop(journal);
    assert_eq!(sweep(&fleet, &["--state", state.to_str().unwrap()]).0, Some(0));
}

#[test]
fn what_cannot_be_written_is_said_and_nothing_is_left_half_written() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path(), 6);
    let (_, whole, _) = sweep(&fleet, &["--no-state"]);

    // A full disk under the report.
    let output = run(["sweep", fleet.to_str().unwrap(), "--no-state", "-o", "/dev/full"]);
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    // A folder for the state that cannot be one: refused where it was asked for, done without where it was not.
    let (code, _, said) = sweep(&fleet, &["--state", "/proc/nowhere"]);
    assert_eq!(code, Some(7), "{said}");
    fs::write(folder.path().join(".driftsweep"), "in the way").unwrap();
    let (code, report, said) = sweep(&fleet, &[]);
    assert_eq!((code, &report["counts_hash"]), (Some(0), &whole["counts_hash"]));
    assert!(said.contains("no history is kept"), "{said}");

    // Folders that may be read only, by a user who is not root.
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::remove_file(folder.path().join(".driftsweep")).unwrap();
    open(folder.path(), 0o555);
    let as_nobody = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(["sweep", fleet.to_str().unwrap()]).args(NOW).args(more).env("TMPDIR", folder.path());
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, report, said) = as_nobody(&[]);
    let report: Value = serde_json::from_slice(&report).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((code, &report["counts_hash"]), (Some(0), &whole["counts_hash"]), "{said}");
    assert!(said.contains("no history is kept") && said.contains("ermission denied"), "{said}");
    let state = folder.path().join("state");
    for refused in [["--state", state.to_str().unwrap()], ["-o", state.to_str().unwrap()]] {
        let (code, _, said) = as_nobody(&refused);
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains("state") && said.contains("ermission denied"), "{said}");
        assert!(!state.exists());
    }
    open(folder.path(), 0o755);

    // A disk that fills up while the sweep runs: files may grow to 8 KiB.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} sweep {} --state {} {}",
        env!("CARGO_BIN_EXE_driftsweep"),
        fleet.display(),
        state.display(),
        NOW.join(" ")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("sweep.journal") && said.contains("history"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["counts_hash"], whole["counts_hash"]);
    let left: Vec<_> = fs::read_dir(state.join("history/date=2026-11-23")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_a_status() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    let original = dataset("nycflights13/weather-2013-01.parquet");
    fs::copy(&original, &a).unwrap();
    fs::copy(&original, &b).unwrap();
    let compare = |meanwhile: &dyn Fn()| {
        let baseline = BaselineSource::open(a.to_str().unwrap()).unwrap();
        let current = Snapshot::open(b.to_str().unwrap()).unwrap();
        meanwhile();
        Comparer::new(&baseline, &current).run(&CpuCounter).unwrap()
    };
    let statuses = |meanwhile: &dyn Fn()| {
        let features = compare(meanwhile).features.into_iter();
        features.map(|feature| (feature.status, feature.detail.unwrap_or_default())).collect::<Vec<_>>()
    };
    // Written over with something as valid, rather than beside and renamed.
    let changed = statuses(&|| {
        std::thread::sleep(Duration::from_millis(20));
        let other = fs::read(dataset("nycflights13/weather-2013-07.parquet")).unwrap();
        fs::write(&b, other).unwrap();
    });
    assert!(changed.iter().any(|(_, detail)| detail.contains("b.parquet")), "{changed:?}");
    assert!(changed.iter().all(|(status, _)| status.name() != "ok"), "{changed:?}");
    // Cut short.
    fs::copy(&original, &b).unwrap();
    let cut = statuses(&|| File::options().write(true).open(&b).unwrap().set_len(500).unwrap());
    assert!(cut.iter().all(|(status, _)| status.name() != "ok"), "{cut:?}");
    // Renamed over: the open file is what was there.
    fs::copy(&original, &b).unwrap();
    let whole = statuses(&|| {
        fs::copy(dataset("nycflights13/weather-2013-07.parquet"), folder.path().join("new")).unwrap();
        fs::rename(folder.path().join("new"), &b).unwrap();
    });
    assert!(whole.iter().filter(|(status, _)| status.name() == "ok").count() > 5, "{whole:?}");
}

#[test]
fn every_sweep_is_in_the_history() {
    let folder = TempDir::new().unwrap();
    let fleet = fleet(folder.path(), 4);
    let state = folder.path().join("state");
    let state = ["--state", state.to_str().unwrap()];
    for now in ["2026-11-22T02:00:00Z", "2026-11-23T02:00:00Z", "2026-11-23T02:00:00Z"] {
        let output = run(["sweep", fleet.to_str().unwrap(), "--now", now].iter().chain(&state));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (_, report, _) = sweep(&fleet, &state);
    let history = |more: &[&str]| {
        let output = run(["history", fleet.to_str().unwrap(), "--format", "json"].iter().chain(&state).chain(more));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = serde_json::from_slice::<Value>(&output.stdout).unwrap();
        assert_eq!(found["left_out"], serde_json::json!([]));
        found["entries"].as_array().unwrap().clone()
    };
    let model = &report["models"][0];
    let feature = model["features"].as_array().unwrap().iter().find(|f| f["metrics"]["psi"].is_object()).unwrap();
    let name = feature["name"].as_str().unwrap();
    let found = history(&["--model", "model-00000", "--feature", name, "--metrics", "psi"]);
    // The same sweep twice is one sweep.
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[1]["value"], feature["metrics"]["psi"]["value"]);
    assert_eq!(found[1]["sweep"], report["id"]);
    assert_eq!(history(&["--since", "2026-11-23T00:00:00Z"]).len() * 2, history(&[]).len());
    let drifted = history(&["--drifted", "--since", "2026-11-23T00:00:00Z", "--metrics", "missing_difference"]);
    assert_eq!(drifted.len() as u64, report["summary"]["drifted"].as_u64().unwrap());
}

#[test]
fn nights_in_a_row_are_swept_by_their_day_and_drift_begins_when_it_should() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = ["bench", "generate", path, "--models", "2", "--features", "10", "--rows", "5000", "--nights", "4"];
    assert!(run(args.iter().chain(&["--drift-from", "3", "--drift", "0.2"])).status.success());
    let fleet = folder.path().join("fleet.toml");
    let night = |as_of: &str| {
        let output = run(["sweep", fleet.to_str().unwrap(), "--format", "json", "--metrics", "psi,js", "--now", as_of]);
        let report = serde_json::from_slice::<Value>(&output.stdout).unwrap();
        (report["summary"]["drifted"].as_u64().unwrap(), report["counts_hash"].to_string())
    };
    // The sweep early on a day is that of the day before.
    let found = ["2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z", "2026-01-04T02:00:00Z", "2026-01-05"].map(night);
    assert_eq!(found.each_ref().map(|(drifted, _)| drifted.min(&1)), [&0, &0, &1, &1]);
    assert_ne!(found[2].1, found[3].1);
    let output = run(["sweep", fleet.to_str().unwrap(), "--now", "2026-01-09"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("2026-01-08"), "the missing day is named");
}

#[test]
fn generated_drift_is_where_the_truth_says_and_the_files_follow_from_the_seed() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let files = |folder: &TempDir, threads: &str| {
        let path = folder.path().to_str().unwrap();
        let args =
            ["bench", "generate", path, "--models", "3", "--features", "30", "--rows", "20000", "--drift", "0.3"];
        let output = Command::new(env!("CARGO_BIN_EXE_driftsweep"))
            .args(args)
            .args(["--drift-kinds", "shift,scale,missing", "--row-group", "7000"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(output.status.success());
        ["baseline/table-00001.parquet", "current/table-00002.parquet", "truth.json", "fleet.toml"]
            .map(|name| fs::read(folder.path().join(name)).unwrap())
    };
    assert!(files(&one, "1") == files(&two, "3"), "the same seed must give the same bytes");
    let truth: Value = serde_json::from_slice(&fs::read(one.path().join("truth.json")).unwrap()).unwrap();
    let (_, report, _) = sweep(&one.path().join("fleet.toml"), &["--no-state"]);
    for (table, model) in truth["tables"].as_array().unwrap().iter().zip(report["models"].as_array().unwrap()) {
        for (column, feature) in table["columns"].as_array().unwrap().iter().zip(model["features"].as_array().unwrap())
        {
            let metrics = &feature["metrics"];
            let psi = metrics["psi"]["reference_value"].as_f64().unwrap_or(f64::NAN);
            let missing = metrics["missing"]["difference"].as_f64().unwrap();
            match (column["drift"]["kind"].as_str(), feature["kind"].as_str()) {
                (None, Some("numeric")) => assert!(missing.abs() < 0.02 && psi < 0.02, "{column} {feature}"),
                (None, _) => assert_eq!(feature["verdict"]["drifted"], false, "{column} {feature}"),
                (Some("missing"), _) => assert!((missing - 0.25).abs() < 0.03, "{column} {feature}"),
                // Ties move breakpoints, so only columns without many have the index they were asked for.
                (Some(_), Some("numeric")) if column["shape"] != "integer" && column["shape"] != "money" => {
                    assert!((psi - 0.25).abs() < 0.04, "{column} {feature}");
                }
                _ => {}
            }
        }
    }
}
