//! The HTML report: it holds everything, needs no network, and runs nothing that came with the data.

use std::fs;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::data::{dataset, root, run};

fn text(output: std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn page(args: &[&str]) -> String {
    text(run([args, &["--format", "html"]].concat()))
}

fn months() -> [String; 2] {
    ["01", "07"].map(|month| dataset(&format!("nycflights13/flights-2013-{month}.parquet")).display().to_string())
}

/// The contents of the elements that begin with a tag.
fn elements<'a>(page: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    page.split(begin).skip(1).map(|rest| rest.split_once(end).unwrap().0).collect()
}

/// A block of data in the page.
fn block_of(page: &str, id: &str) -> Value {
    let begin = format!("<script type=\"application/octet-stream\" id=\"{id}\">");
    let found = elements(page, &begin, "</script>");
    assert_eq!(found.len(), 1, "{id}");
    let bytes = STANDARD.decode(found[0]).unwrap();
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn sources(page: &str, directive: &str) -> Vec<String> {
    let policy = page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    let policy = policy.replace("&#x27;", "'").replace("&#x2f;", "/");
    let of = policy.split(';').map(str::trim).find_map(|part| part.strip_prefix(directive)).unwrap().trim().to_owned();
    of.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_page_needs_no_network_and_allows_no_script_but_its_own() {
    let [baseline, current] = months();
    let page = page(&["compare", &baseline, &current]);
    let hash = |text: &&str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let scripts = elements(&page, "<script>", "</script>");
    let styles = elements(&page, "<style>", "</style>");
    assert_eq!((scripts.len(), styles.len()), (2, 2));
    assert_eq!(sources(&page, "script-src"), scripts.iter().map(hash).collect::<Vec<_>>());
    assert_eq!(sources(&page, "style-src"), styles.iter().map(hash).collect::<Vec<_>>());
    assert_eq!(sources(&page, "default-src"), ["'none'"]);
    for outside in
        [" src=", "<link", "@import", "fetch(", "XMLHttpRequest", "type=\"module\"", "new Worker", " style=\""]
    {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_feature_is_on_the_page_with_its_counts_and_what_they_add_to_psi() {
    let [baseline, current] = months();
    let page = page(&["compare", &baseline, &current]);
    let report: Value = serde_json::from_str(&text(run(["compare", &baseline, &current, "--format", "json"]))).unwrap();
    let (summary, block) = (block_of(&page, "summary"), block_of(&page, "block-0"));
    let (names, states) = (&summary["features"]["name"], &summary["features"]["state"]);
    let features = report["features"].as_array().unwrap();
    assert_eq!(names.as_array().unwrap().len(), features.len());
    let (mut with_counts, mut with_ties) = (0, 0);
    for (at, feature) in features.iter().enumerate() {
        assert_eq!(names[at], feature["name"]);
        assert_eq!(states[at] == 2, feature["verdict"]["drifted"] == true, "{}", names[at]);
        let shown = &block["features"][at];
        assert_eq!(shown["reasons"], feature["verdict"]["reasons"]);
        let Some(bins) = feature["counts"].get("bins") else { continue };
        with_counts += 1;
        let sum =
            |of: &str| -> f64 { shown["counts"][of].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum() };
        let psi = feature["metrics"]["psi"]["value"].as_f64().unwrap();
        assert!((sum("psi") - psi).abs() <= 1e-3 * psi.max(1e-3), "{}: {} {psi}", names[at], sum("psi"));
        if let Some(bins) = bins["tie_aware"].as_array() {
            with_ties += 1;
            let side = |side: &str| bins.iter().map(|bin| bin[side].clone()).collect::<Vec<_>>();
            let of = |side: &str| shown["counts"][side].as_array().unwrap().clone();
            assert_eq!((of("baseline"), of("current")), (side("baseline"), side("current")));
            continue;
        }
        assert_eq!((&shown["counts"]["baseline"], &shown["counts"]["current"]), (&bins["baseline"], &bins["current"]));
        let divergence = feature["metrics"]["js"]["divergence"].as_f64().unwrap();
        assert!((sum("js") - divergence).abs() <= 1e-3 * divergence.max(1e-3), "{}: {divergence}", names[at]);
    }
    assert!(with_counts > 5 && with_ties > 1, "{with_counts} {with_ties}");
    let plain = page.split("<noscript>").next().unwrap();
    let drifted: Vec<&Value> = features.iter().filter(|feature| feature["verdict"]["drifted"] == true).collect();
    assert!(!drifted.is_empty());
    for feature in drifted {
        let name = feature["name"].as_str().unwrap();
        assert!(plain.contains(&format!("<td class=\"name\">{name}</td>")), "{name} is not in the plain part");
    }
}

/// `month` is 1 in the whole baseline and 7 in all current rows: bins of equal share do not show that.
#[test]
fn a_value_that_fills_a_bin_has_its_own_on_the_page() {
    let [baseline, current] = months();
    let page = page(&["compare", &baseline, &current]);
    let (summary, block) = (block_of(&page, "summary"), block_of(&page, "block-0"));
    let at = summary["features"]["name"].as_array().unwrap().iter().position(|name| name == "month").unwrap();
    let counts = &block["features"][at]["counts"];
    assert_eq!(counts["tie_aware"], serde_json::json!([["below", 1.0], ["equal", 1.0], ["rest", null]]));
    let rows = |side: &str| block["features"][at][side]["rows"].as_u64().unwrap();
    assert_eq!(counts["baseline"], serde_json::json!([0, rows("baseline"), 0]));
    assert_eq!(counts["current"], serde_json::json!([0, 0, rows("current")]));
}

#[test]
fn names_and_categories_of_data_are_text() {
    let place = tempfile::tempdir().unwrap();
    let hostile = "</script><script>alert(1)</script>";
    let rows = |value: &str| {
        let rows: String = (0..2000).map(|i| format!("{value}{},{i}\n", i % 3)).collect();
        format!("\"{hostile}\",<img src=x onerror=alert(2)>\n{rows}")
    };
    let paths = [("a.csv", "<b>old"), ("b.csv", "</script>new")].map(|(name, value)| {
        let path = place.path().join(name);
        fs::write(&path, rows(value)).unwrap();
        path.display().to_string()
    });
    let page = page(&["compare", &paths[0], &paths[1]]);
    assert!(!page.contains("alert(1)</script>") && !page.contains("<img"), "a name is markup");
    assert!(page.contains("&lt;&#x2f;script&gt;"), "what drifted names it");
    assert_eq!(block_of(&page, "summary")["features"]["name"][0], hostile);
    let names = block_of(&page, "block-0")["features"][0]["counts"]["names"].to_string();
    assert!(names.contains("</script>new"), "{names}");
}

#[test]
fn a_sweep_has_a_block_a_comparison_and_names_what_could_not_be_compared() {
    let place = tempfile::tempdir().unwrap();
    let [baseline, current] = months();
    let model = |name: &str, current: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"{baseline}\"\ncurrent = \"{current}\"\n{more}")
    };
    let fleet = place.path().join("fleet.toml");
    let important = "importance = 3.0\n[model.feature.dep_time]\nimportance = 5.0\n";
    fs::write(&fleet, model("delays", &current, important) + &model("lost", "no-such.parquet", "")).unwrap();
    let file = place.path().join("report.html");
    let [fleet, file] = [&fleet, &file].map(|path| path.display().to_string());
    let output = run(["sweep", &fleet, "--no-state", "--format", "html", "--output", &file]);
    assert_eq!(output.status.code(), Some(11));
    let page = fs::read_to_string(&file).unwrap();
    let summary = block_of(&page, "summary");
    assert_eq!(summary["comparisons"].as_array().unwrap().len(), 2);
    let at = summary["features"]["name"].as_array().unwrap().iter().position(|name| name == "dep_time").unwrap();
    assert_eq!(summary["features"]["importance"][at], 5.0);
    assert_eq!(summary["comparisons"][0]["importance"], 3.0);
    assert!(block_of(&page, "block-1")["features"].as_array().unwrap().is_empty());
    let plain = page.split("<noscript>").next().unwrap();
    assert!(plain.contains("What could not be compared") && plain.contains("lost: "), "{plain}");
}

#[test]
fn the_lines_of_a_feature_are_those_of_the_history_and_end_with_this_sweep() {
    let place = tempfile::tempdir().unwrap();
    let [baseline, current] = months();
    let fleet = place.path().join("fleet.toml");
    fs::write(&fleet, format!("[[model]]\nname = \"m\"\nbaseline = \"{baseline}\"\ncurrent = \"{current}\"\n"))
        .unwrap();
    let fleet = fleet.display().to_string();
    for now in ["2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z"] {
        assert!(run(["sweep", &fleet, "--now", now, "--format", "json"]).status.success());
    }
    let page = page(&["sweep", &fleet, "--now", "2026-01-03T02:00:00Z"]);
    let (summary, block) = (block_of(&page, "summary"), block_of(&page, "block-0"));
    assert_eq!(summary["nights"].as_array().unwrap().len(), 3);
    let at = summary["features"]["name"].as_array().unwrap().iter().position(|name| name == "air_time").unwrap();
    let lines = block["features"][at]["history"].as_array().unwrap();
    let psi = lines.iter().find(|line| line["metric"] == "psi").unwrap();
    let value = &summary["features"]["psi"][at];
    assert_eq!(psi["values"].as_array().unwrap(), &vec![value.clone(); 3]);

    // A night of the history that cannot be read is named, and costs neither the page nor the sweep.
    let state = place.path().join(".driftsweep/fleet");
    let night = glob::glob(&format!("{}/history/date=2026-01-02/*.parquet", state.display())).unwrap().next().unwrap();
    fs::write(night.unwrap(), "damaged").unwrap();
    let output = run(["sweep", &fleet, "--now", "2026-01-04T02:00:00Z", "--format", "html"]);
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(messages.contains("left out of the lines of the history"), "{messages}");
    let page = text(output);
    assert_eq!(block_of(&page, "summary")["nights"].as_array().unwrap().len(), 3);
    assert_eq!(fs::metadata(state.join("sweep.journal")).unwrap().len(), 0, "the sweep is complete");
}

/// The files of the npm package uplot 1.6.32, which are in this repository unchanged.
#[test]
fn the_plot_library_is_that_of_its_package() {
    let folder = root().join("crates/report/src/report/html/vendor/uplot");
    for (name, hash) in [
        ("uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
        ("uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        ("LICENSE", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
    ] {
        let found = Sha256::digest(fs::read(folder.join(name)).unwrap());
        assert_eq!(found.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), hash, "{name}");
    }
}
