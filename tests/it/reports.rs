//! `driftsweep report`: a past night as it was, from the history and the store alone.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::format_1::copied;
use crate::support::data::{dataset, run};
use crate::support::night::Night;
use crate::support::output::{all_output, parsed};

/// Two models of real data, one that cannot be read, and one with infinities, without values, and of one value.
fn fleet(folder: &Path) -> String {
    let month = |month: &str| dataset(&format!("nycflights13/flights-2013-{month}.parquet")).display().to_string();
    let rows = |shift: usize| {
        let row = |i: usize| match i % 50 {
            0 => "inf,,1,a\n".to_owned(),
            1 => "-inf,,1,\"b\"\"'{\"\n".into(),
            _ => format!("{},,1,{}\n", i + shift, i % 7),
        };
        "x,nothing,constant,word\n".to_owned() + &(0..3000).map(row).collect::<String>()
    };
    fs::write(folder.join("odd-1.csv"), rows(0)).unwrap();
    fs::write(folder.join("odd-2.csv"), rows(900)).unwrap();
    let model = |name: &str, baseline: &str, current: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"{baseline}\"\ncurrent = \"{current}\"\n{more}")
    };
    let text = model("delays", &month("01"), &month("07"), "slice_by = [\"origin\"]\n")
        + &model("quiet", &month("01"), &month("01"), "")
        + &model("odd", "odd-1.csv", "odd-2.csv", "bins = 4\n")
        + &model("lost", "odd-1.csv", "no-such.csv", "");
    let path = folder.join("fleet.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn swept(fleet: &str, now: &str) -> Value {
    let output = run(["sweep", fleet, "--now", now, "--format", "json", "--threads", "2"]);
    assert_eq!(output.status.code(), Some(11), "{}", all_output(&output));
    parsed(&output)
}

#[test]
fn a_past_report_is_the_one_that_the_sweep_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path());
    let nights = ["2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z"].map(|now| (now, swept(&fleet, now)));
    let report = |more: &[&str]| parsed(&run([&["report", &fleet, "--format", "json"], more].concat()));
    assert_eq!(report(&[]), nights[1].1, "the last one");
    for (now, night) in &nights {
        assert_eq!(&report(&["--at", now]), night);
    }
    assert_eq!(report(&["--at", "2026-01-02T01:59:59Z"]), nights[0].1);
    let odd = nights[0].1["models"].as_array().unwrap().iter().find(|model| model["model"] == "odd").unwrap();
    assert!(odd.to_string().contains("\"inf\""), "an infinite breakpoint is among the figures");
    // What is not there any more does not matter: no snapshot is read again.
    fs::remove_file(folder.path().join("odd-2.csv")).unwrap();
    assert_eq!(report(&[]), nights[1].1);
    let csv = |command: &[&str]| run([command, &["--format", "csv"]].concat()).stdout;
    assert_eq!(csv(&["report", &fleet, "--at", nights[0].0]).len(), csv(&["report", &fleet]).len());
}

#[test]
fn a_report_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path());
    let refused = |more: &[&str], code: i32, words: &[&str]| {
        let output = run([&["report", &fleet, "--format", "json"], more].concat());
        let text = all_output(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        words.iter().for_each(|words| assert!(text.contains(words), "{words}: {text}"));
    };
    refused(&[], 2, &["no sweep of fleet", "driftsweep tick"]);
    swept(&fleet, "2026-01-02T02:00:00Z");
    refused(&["--at", "2026-01-01"], 2, &["up to 2026-01-01T00:00:00Z"]);
    let history = folder.path().join(".driftsweep/fleet/history");
    // Another fleet in the same history is not this one.
    let other = folder.path().join("other.toml");
    fs::write(&other, "name = \"other\"\n".to_owned() + &fs::read_to_string(&fleet).unwrap()).unwrap();
    let other = other.display().to_string();
    let shared = history.display().to_string();
    let output = run(["report", &other, "--history", &shared]);
    assert!(all_output(&output).contains("no sweep of fleet 'other'"), "{}", all_output(&output));
    let night = glob::glob(&format!("{shared}/date=2026-01-02/*.parquet")).unwrap().next().unwrap().unwrap();
    fs::write(&night, "damaged").unwrap();
    refused(&[], 3, &[&night.display().to_string()]);
    // An earlier version kept figures only.
    let (_copy, place) = copied();
    let output = place.run(&["report"]);
    assert_eq!(output.status.code(), Some(3), "{}", all_output(&output));
    assert!(all_output(&output).contains("an earlier version wrote it"), "{}", all_output(&output));
}

#[test]
fn a_page_shows_what_fired_the_retrains_who_is_asked_and_the_budget() {
    for night in Night::all() {
        let page = |more: &[&str]| {
            let output = night.run(&[&["report"], more].concat());
            assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        let last = page(&[]);
        for words in
            ["What fired, and why", "Retrains", "ana, cto, until", "awaiting approval", "Budget of", "2 retrains wait"]
        {
            assert!(last.contains(words), "{words}");
        }
        for id in night.jobs().keys().map(|model| night.id(model)) {
            assert!(last.contains(&id));
        }
        // Nothing had fired on the night before.
        let before = page(&["--at", "2026-01-02T12:00:00Z"]);
        assert!(before.contains("No trigger fired."), "on 2 January");
        let as_of = parsed(&night.run(&["report", "--format", "json"]))["as_of"].as_str().unwrap().to_owned();
        assert!(last.contains(&format!("<td>{as_of}</td>")), "{as_of}");
    }
}

#[test]
fn an_index_lists_the_pages_of_a_folder_and_leaves_other_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path());
    let pages = folder.path().join("pages");
    let write = || {
        let output = run(["report", &fleet, "--index", &pages.display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
        fs::read_to_string(pages.join("index.html")).unwrap()
    };
    swept(&fleet, "2026-01-01T02:00:00Z");
    assert_eq!(write().matches("<a href=").count(), 1);
    fs::write(pages.join("notes.html"), "<p>mine</p>").unwrap();
    fs::write(pages.join("javascript:alert(1).html"), fs::read(only(&pages, "20260101")).unwrap()).unwrap();
    let report = swept(&fleet, "2026-01-02T02:00:00Z");
    let index = write();
    let links: Vec<&str> = index.split("<a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 2, "{links:?}");
    assert!(links[0] > links[1], "the newest first");
    links.iter().for_each(|link| assert!(pages.join(link).is_file(), "{link}"));
    let drifted = &report["summary"]["drifted"];
    assert!(index.contains(&format!("<td class=\"number\">{drifted}</td>")), "{drifted}");
    assert!(!index.contains("<script") && index.contains("default-src 'none'"), "it needs no script");
    fs::remove_file(only(&pages, "20260101")).unwrap();
    assert_eq!(write().matches("<a href=").count(), 1);
    assert_eq!(fs::read_to_string(pages.join("notes.html")).unwrap(), "<p>mine</p>");
}

fn only(folder: &Path, beginning: &str) -> std::path::PathBuf {
    let mut found = glob::glob(&format!("{}/{beginning}*.html", folder.display())).unwrap();
    found.next().unwrap().unwrap()
}
