//! Object stores, against a server of the S3 protocol on the loopback interface, which fails on request.

use std::fs;
use std::process::Output;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::run;
use crate::support::objects::{Faults, NONE, Server, serve};

/// A generated fleet in the bucket `data`, its fleet file for the disk and one for the store.
fn fleet(folder: &TempDir) -> (String, String) {
    let bucket = folder.path().join("buckets/data");
    fs::create_dir_all(&bucket).unwrap();
    let generate = ["bench", "generate", bucket.to_str().unwrap(), "--models", "4", "--features", "8"];
    assert!(run(generate.iter().chain(&["--rows", "9000", "--row-group", "4000"])).status.success());
    let local = bucket.join("fleet.toml");
    let text = fs::read_to_string(&local).unwrap();
    let remote = folder.path().join("remote.toml");
    // A file, a prefix and a pattern.
    let text = text
        .replace("\"baseline/table", "\"s3://data/baseline/table")
        .replace("\"current/table-00001.parquet", "\"s3://data/current/table-0000[1].parquet")
        .replace("\"current/table", "\"s3://data/current/table");
    fs::write(&remote, text).unwrap();
    (local.display().to_string(), remote.display().to_string())
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    let details: Vec<_> = said.lines().filter(|line| line.contains("\"detail\"")).take(3).collect();
    assert_eq!(output.status.code(), Some(0), "{} {details:?}", String::from_utf8_lossy(&output.stderr));
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["engine"] = Value::Null;
    report
}

const JSON: [&str; 5] = ["--no-state", "--now", "2026-11-23T02:00:00Z", "--format", "json"];

#[test]
fn a_sweep_from_an_object_store_is_that_from_the_disk_however_the_store_fails() {
    let folder = TempDir::new().unwrap();
    let (local, remote) = fleet(&folder);
    let sweep = |fleet| [&["sweep", fleet][..], &JSON].concat();
    // But for where the rows were read.
    let placeless = |output: &Output| {
        let mut report = report(output);
        for model in report["models"].as_array_mut().unwrap() {
            let model = model.as_object_mut().unwrap();
            assert!(model.remove("baseline").is_some() && model.remove("current").is_some());
        }
        report
    };
    let from_disk = placeless(&run(sweep(&local)));
    for faults in [NONE, Faults { error: 3, ..NONE }, Faults { cut: 4, ..NONE }, Faults { late: 40, error: 7, cut: 11 }]
    {
        let server = serve(&folder.path().join("buckets"), faults);
        let from_store = placeless(&server.run(&sweep(&remote)));
        assert!(from_store == from_disk);
        assert!(server.requests.load(Ordering::Relaxed) > 100, "columns are read in ranges");
        let faulty = server.faulty.lock().unwrap().len();
        assert_eq!(faulty > 10, faults.error < usize::MAX || faults.cut < usize::MAX, "{faulty}");
    }
}

#[test]
fn baselines_reports_and_history_live_in_an_object_store_too() {
    let folder = TempDir::new().unwrap();
    let (local, remote) = fleet(&folder);
    let server = serve(&folder.path().join("buckets"), Faults { error: 5, ..NONE });
    let built = server.run(&["baseline", "build", "--fleet", &remote, "-o", "s3://data/frozen"]);
    assert_eq!(built.status.code(), Some(0), "{}", String::from_utf8_lossy(&built.stderr));
    let text = fs::read_to_string(&remote).unwrap();
    let mut frozen = text.replace("s3://data/baseline/table-", "s3://data/frozen/model-");
    for model in 0..4 {
        frozen = frozen.replace(&format!("model-0000{model}.parquet"), &format!("model-0000{model}.baseline"));
    }
    let fleet = folder.path().join("frozen.toml");
    fs::write(&fleet, frozen).unwrap();
    let fleet = fleet.to_str().unwrap();
    let args = ["sweep", fleet, "--history", "s3://data/history", "-o", "s3://data/report.json"];
    let output = server.run(&[&args[..], &JSON].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value =
        serde_json::from_slice(&fs::read(folder.path().join("buckets/data/report.json")).unwrap()).unwrap();
    let from_disk = report(&run([&["sweep", &local][..], &JSON].concat()));
    let psi = |report: &Value| report["models"][2]["features"][3]["metrics"]["psi"]["value"].clone();
    assert_eq!(psi(&found), psi(&from_disk));
    let history = server.run(&["history", fleet, "--history", "s3://data/history", "--format", "json"]);
    let found: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert!(
        found["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["metric"] == "psi" && entry["model"] == "model-00002")
    );
    let other = folder.path().join("buckets/data/one.csv");
    fs::write(&other, "x,y\n1,a\n2,b\n").unwrap();
    let compared = server.run(&["compare", "s3://data/one.csv", "s3://data/one.csv", "--format", "json"]);
    assert_eq!(report(&compared)["rows"]["baseline"], 2);
}

#[test]
fn every_way_a_store_refuses_has_a_clear_message_without_secrets() {
    let folder = TempDir::new().unwrap();
    let (_, _) = fleet(&folder);
    let server = serve(&folder.path().join("buckets"), NONE);
    let good = "s3://data/current/table-00001.parquet";
    let refused = |output: Output, words: &[&str]| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "'{word}' is not in: {said}"));
        assert!(!said.contains("secret") && said.lines().count() == 1, "{said}");
    };
    refused(server.run(&["compare", good, "s3://data/current/none.parquet"]), &["none.parquet", "no such file"]);
    refused(server.run(&["compare", good, "s3://data/nowhere/"]), &["s3://data/nowhere/", "no such file"]);
    refused(server.run(&["compare", good, "s3://data/*/none-*.parquet"]), &["none-*.parquet", "no such file"]);
    refused(server.run(&["compare", "s3://no-such-bucket/a.parquet", good]), &["s3://no-such-bucket/a.parquet"]);
    refused(server.command("wrong-secret", &["compare", good, good]), &[good, "den"]);
    // Nobody there.
    let nobody = Server { address: "127.0.0.1:9".parse().unwrap(), ..serve(folder.path(), NONE) };
    refused(nobody.run(&["compare", good, good]), &[good, "cannot be reached"]);
    // An object that is no Parquet file.
    fs::write(folder.path().join("buckets/data/text.parquet"), "not Parquet").unwrap();
    refused(server.run(&["compare", good, "s3://data/text.parquet"]), &["text.parquet", "not a readable Parquet file"]);
    let output = server.command(
        "wrong-secret",
        &[
            "compare",
            &format!("{}/buckets/data/current/table-00001.parquet", folder.path().display()),
            &format!("{}/buckets/data/current/table-00001.parquet", folder.path().display()),
            "-o",
            "s3://data/out.txt",
        ],
    );
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}
