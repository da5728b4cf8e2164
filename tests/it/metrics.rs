//! `driftsweep metrics`: what Prometheus and its tools take, and what is sent.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use driftsweep_extensions::http::{Http, Request};
use driftsweep_extensions::value::Secret;
use serde_json::Value;

use crate::support::at;
use crate::support::needs;
use crate::support::night::Night;
use crate::support::output::{all_output, parsed};
use crate::support::processes::until;
use crate::support::server::{self, answer};

fn night() -> Night {
    Night::all().swap_remove(0)
}

fn metrics(night: &Night, more: &[&str]) -> String {
    let output = night.run(&[&["metrics"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The value of each series.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

#[test]
fn gauges_say_what_the_report_the_events_and_the_jobs_say() {
    let night = night();
    let text = metrics(&night, &[]);
    let found = series(&text);
    let fleet = night.name();
    let report = parsed(&night.run(&["report", "--format", "json"]));
    let of = |name: &str, more: &str| found[&*format!("{name}{{fleet=\"{fleet}\"{more}}}")];
    let summary = |name: &str| report["summary"][name].as_f64().unwrap();
    assert_eq!(of("driftsweep_features", ""), summary("features"));
    assert_eq!(of("driftsweep_features_drifted", ""), summary("drifted"));
    let swept_at = at(report["as_of"].as_str().unwrap()).as_second() as f64;
    assert_eq!(of("driftsweep_sweep_timestamp_seconds", ""), swept_at);
    assert_eq!(of("driftsweep_jobs", ",state=\"awaiting_approval\""), 2.0);
    for model in night.jobs().keys() {
        let model = format!(",model=\"{model}\"");
        assert_eq!(of("driftsweep_model_event_open", &model), 1.0);
        assert!(of("driftsweep_model_features_drifted", &model) > 0.0);
        assert!(of("driftsweep_model_drift_ratio", &model) > 1.0);
        assert_eq!(of("driftsweep_trigger_fired_timestamp_seconds", &format!("{model},trigger=\"drift\"")), swept_at);
    }
    assert_eq!(of("driftsweep_budget", ",scope=\"the fleet\",part=\"limit\",currency=\"USD\""), 200.0);
    // One series a feature only where that is asked for.
    assert!(!text.contains("feature=") && !text.contains(" info"));
    let all = metrics(&night, &["--features"]);
    let features = series(&all);
    let drifted = features.iter().filter(|(name, _)| name.starts_with("driftsweep_feature_drifted{"));
    assert_eq!(drifted.map(|(_, value)| value).sum::<f64>(), summary("drifted"));
}

#[test]
fn promtool_and_node_exporter_take_the_file() {
    if !needs::prometheus() {
        return;
    }
    let night = night();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("driftsweep.prom");
    metrics(&night, &["--features", "--output", &file.display().to_string()]);
    let mut check = Command::new("promtool");
    let checked = check.args(["check", "metrics"]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", all_output(&checked));
    let (_exporter, address) = served("prometheus-node-exporter", |address| {
        vec![
            "--collector.disable-defaults".into(),
            "--collector.textfile".into(),
            format!("--collector.textfile.directory={}", folder.path().display()),
            format!("--web.listen-address={address}"),
        ]
    });
    let shown = get(&address);
    assert!(shown.contains("node_textfile_scrape_error 0"), "{shown}");
    let text = fs::read_to_string(&file).unwrap();
    let there: BTreeMap<String, f64> = series(&shown).into_iter().map(|(name, value)| (sorted(name), value)).collect();
    for (name, value) in series(&text) {
        assert_eq!(there.get(&sorted(name)), Some(&value), "{name}");
    }
}

#[test]
fn a_pushgateway_holds_the_last_gauges_of_each_fleet() {
    if !needs::prometheus() {
        return;
    }
    let night = night();
    let (_gateway, address) =
        served("prometheus-pushgateway", |address| vec![format!("--web.listen-address={address}")]);
    let push = format!("--push={address}");
    metrics(&night, &["--features", &push]);
    assert!(get(&address).contains("driftsweep_feature_drifted{"));
    metrics(&night, &[&push]);
    let shown = get(&address);
    assert!(!shown.contains("driftsweep_feature_drifted{"), "the former gauges are replaced");
    let features = format!("driftsweep_features{{fleet=\"{}\",instance=\"\",job=\"driftsweep\"}}", night.name());
    assert!(series(&shown).contains_key(&*features), "{shown}");
}

/// What a collector was sent: the path, a key, and the body.
type Sent = (String, Option<String>, Value);

#[test]
fn a_collector_gets_otlp_with_the_headers_of_the_environment() {
    let got: Arc<Mutex<Vec<Sent>>> = Arc::default();
    let kept = got.clone();
    let address = server::http(move |request| {
        let key = request.headers.get("x-api-key").cloned();
        kept.lock().unwrap().push((request.path.clone(), key, serde_json::from_str(&request.body).unwrap()));
        answer(200, "{}")
    });
    let night = night();
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.args(["metrics", "--otlp"]).arg(night.world.fleet_file()).arg("--state").arg(night.state());
    command.env("DRIFTSWEEP_STORE", &night.store).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{address}/"));
    let output = command.env("OTEL_EXPORTER_OTLP_HEADERS", "X-Api-Key=se%20cret").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    let got = got.lock().unwrap();
    let [(path, key, body)] = &got[..] else { panic!("{} requests", got.len()) };
    assert_eq!((&**path, key.as_deref()), ("/v1/metrics", Some("se cret")));
    let sent = body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let features = sent.iter().find(|metric| metric["name"] == "driftsweep_features").unwrap();
    let text = metrics(&night, &[]);
    let wanted = series(&text)[&*format!("driftsweep_features{{fleet=\"{}\"}}", night.name())];
    assert_eq!(features["gauge"]["dataPoints"][0]["asDouble"], wanted);
}

#[test]
fn what_cannot_be_written_or_sent_is_refused_without_its_secrets() {
    let night = night();
    let refused = |more: &[&str], code: i32, words: &str| {
        let output = night.run(&[&["metrics"], more].concat());
        let text = all_output(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words) && !text.contains("pass-word"), "{words}: {text}");
    };
    refused(&["--output", "figures.txt"], 2, ".prom");
    refused(&["--push"], 2, "DRIFTSWEEP_PUSHGATEWAY");
    refused(&["--otlp"], 2, "OTEL_EXPORTER_OTLP_ENDPOINT");
    let closed = format!("127.0.0.1:{}", free_port());
    refused(&[&format!("--push=http://ana:pass-word@{closed}")], 7, "127.0.0.1");
    let broken = server::http(|_| answer(500, "pass-word"));
    refused(&[&format!("--otlp={broken}")], 7, "status 500");
}

/// The labels of a series in order of their names.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.into() };
    let mut labels: Vec<&str> =
        labels.trim_end_matches('}').split("\",").map(|label| label.trim_end_matches('"')).collect();
    labels.sort_unstable();
    format!("{name} {labels:?}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that serves until it is dropped.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn served(program: &str, args: impl Fn(&str) -> Vec<String>) -> (Served, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program);
    command.args(args(&address)).current_dir(Path::new("/")).stdout(Stdio::null()).stderr(Stdio::null());
    let served = Served(command.spawn().unwrap());
    until(program, || std::net::TcpStream::connect(&address).is_ok());
    (served, format!("http://{address}"))
}

fn get(address: &str) -> String {
    let answer = Http::new().unwrap().send(&Secret::from(address.to_owned()), &["metrics"], Request::get()).unwrap();
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}
