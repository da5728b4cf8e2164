//! Which files a folder, a pattern or an address stands for, and what the names of folders say.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::data::{compare, feature, run, write_ipc, write_parquet};
use crate::support::objects::NONE;
use crate::support::output::error_output;
use crate::support::server::{Answer, Request, answer, http};
use crate::support::{objects, server};

fn field(case: &str) -> PathBuf {
    crate::support::data::root().join("tests/field").join(case)
}

/// Numbers in no order, and the same ones every time.
fn frame(rows: usize) -> DataFrame {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) % 1000;
    DataFrame::new_infer_height(vec![
        Series::new("v".into(), (0..rows).map(|i| value(i) as f64).collect::<Vec<_>>()).into_column(),
    ])
    .unwrap()
}

/// The same numbers as CSV.
fn csv(path: PathBuf, rows: usize) {
    let values = frame(rows);
    let lines = values.column("v").unwrap().f64().unwrap().iter().flatten().map(|x| format!("{x}\n"));
    fs::write(path, format!("v\n{}", lines.collect::<String>())).unwrap();
}

/// A Parquet file of so many rows, with its folders.
fn file(path: impl AsRef<Path>, rows: usize) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    write_parquet(&mut frame(rows), path.as_ref(), rows);
}

/// A folder for a test, and paths in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Rows of a snapshot in the folder.
    fn rows(&self, spec: &str) -> u64 {
        let spec = self.at(spec);
        compare(&spec, &spec, &[])["rows"]["current"].as_u64().unwrap()
    }
}

/// What is said where a snapshot cannot be read.
fn refusal(spec: &str) -> String {
    let output = run(["compare", spec, spec]);
    assert_eq!(output.status.code(), Some(3), "{spec}: {}", error_output(&output));
    error_output(&output)
}

fn report(output: &Output) -> Value {
    assert!(matches!(output.status.code(), Some(0 | 11)), "{}", error_output(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The comparison of two snapshots as it is, and with the baseline frozen.
fn live_and_frozen(baseline: &str, current: &str, more: &[&str]) -> [Value; 2] {
    let folder = Folder::new();
    let frozen = folder.at("b.baseline");
    assert!(run(["baseline", "build", baseline, "-o", &frozen]).status.success());
    [compare(baseline, current, more), compare(&frozen, current, more)]
}

#[test]
fn partition_values_are_what_was_written_before_they_were_escaped() {
    let case = field("hive-percent-encoded");
    let [train, production] = ["train.parquet", "production"].map(|name| case.join(name).display().to_string());
    for report in live_and_frozen(&train, &production, &[]) {
        // The same rows: numpy and scipy give 0 for both.
        let city = feature(&report, "city");
        assert_eq!((&city["status"], &city["metrics"]["js"]["distance"]), (&"ok".into(), &0.0.into()), "{city}");
        assert_eq!(feature(&report, "v")["metrics"]["psi"]["value"], 0.0);
        assert_eq!(report["rows"]["current"], 1500);
    }
}

/// A folder of a hundred rows for each value of a key.
fn partitioned(folder: &Path, key: &str, values: &[&str]) {
    values.iter().for_each(|value| file(folder.join(format!("{key}={value}")).join("a.parquet"), 100));
}

#[test]
fn the_type_of_a_partition_key_does_not_depend_on_the_night() {
    // `scipy.spatial.distance.jensenshannon([.5, .5], [1, 0])`, and `[1, 0], [.5, .5]`; where nothing is, 1e-10 is counted.
    const HALF: f64 = 0.46450140402245893;
    for (baseline, current, dtypes, distance) in [
        (&["12", "007"][..], &["12"][..], ["string", "string"], Some(HALF)),
        (&["12", "A7"], &["12"], ["string", "string"], Some(HALF)),
        (&["2026-11-25", "unknown"], &["2026-11-25"], ["string", "string"], Some(HALF)),
        (&["01", "02"], &["02"], ["string", "string"], Some(HALF)),
        (&["10", "11"], &["10", "11"], ["int64", "int64"], None),
        (&["10", "11"], &["10", "__HIVE_DEFAULT_PARTITION__"], ["int64", "int64"], None),
        (&["1", "2"], &["01", "02"], ["int64", "int64"], None),
        (&["x", "y"], &["x", "y"], ["string", "string"], Some(0.0)),
    ] {
        let folder = Folder::new();
        partitioned(&folder.path("a"), "code", baseline);
        partitioned(&folder.path("b"), "code", current);
        for report in live_and_frozen(&folder.at("a"), &folder.at("b"), &["--min-rows", "1"]) {
            let code = feature(&report, "code");
            let seen = (&code["baseline"]["type"], &code["current"]["type"]);
            assert_eq!(seen, (&dtypes[0].into(), &dtypes[1].into()), "{baseline:?} {current:?}: {code}");
            assert!(matches!(code["status"].as_str(), Some("ok" | "constant")), "{code}");
            if let Some(distance) = distance {
                let found = code["metrics"]["js"]["distance"].as_f64().unwrap();
                assert!((found - distance).abs() < 1e-8, "{baseline:?} {current:?}: {found}");
            }
        }
    }
    // Codes that are integers in the baseline by chance: read as text, where that can still be done.
    let folder = Folder::new();
    partitioned(&folder.path("a"), "code", &["12"]);
    partitioned(&folder.path("b"), "code", &["12", "A7"]);
    let [live, frozen] = live_and_frozen(&folder.at("a"), &folder.at("b"), &["--min-rows", "1"]);
    let found = feature(&live, "code")["metrics"]["js"]["distance"].as_f64().unwrap();
    assert!((found - HALF).abs() < 1e-8, "{found}");
    assert_eq!(feature(&frozen, "code")["status"], "type_changed");
}

#[test]
fn partition_values_meet_stored_columns_of_any_type() {
    let folder = Folder::new();
    let stored = |name: &str, series: Series| {
        let mut frame = frame(200);
        frame.with_column(series.with_name("k".into()).into_column()).unwrap();
        write_parquet(&mut frame, &folder.path(name), 200);
        folder.at(name)
    };
    let half = |a: &'static str, b: &'static str| (0..200).map(move |i| if i < 100 { a } else { b });
    let texts = stored("text.parquet", Series::new("".into(), half("12", "007").collect::<Vec<_>>()));
    let integers = stored("int.parquet", Series::new("".into(), (0..200).map(|i| 1 + i / 100).collect::<Vec<i64>>()));
    let floats = stored(
        "float.parquet",
        Series::new("".into(), half("0.5", "2").map(|x| x.parse().unwrap()).collect::<Vec<f64>>()),
    );
    let flags = stored("flag.parquet", Series::new("".into(), (0..200).map(|i| i < 100).collect::<Vec<_>>()));
    for (baseline, values, same, status) in [
        (&texts, &["12", "007"][..], true, "ok"),
        (&texts, &["12"], false, "ok"),
        (&integers, &["1", "2"], true, "ok"),
        (&integers, &["01", "02"], true, "ok"),
        (&integers, &["1", "x"], false, "type_changed"),
        (&floats, &["0.5", "2"], true, "ok"),
        (&floats, &["1", "2"], false, "ok"),
        (&flags, &["true", "false"], true, "ok"),
        (&flags, &["True", "False"], true, "ok"),
        (&flags, &["yes", "no"], false, "type_changed"),
    ] {
        let night = folder.at("night");
        let _ = fs::remove_dir_all(&night);
        partitioned(Path::new(&night), "k", values);
        for report in live_and_frozen(baseline, &night, &["--min-rows", "1"]) {
            let k = feature(&report, "k");
            assert_eq!(k["status"], status, "{baseline} {values:?}: {k}");
            let metrics = &k["metrics"];
            let distance = metrics["ks"]["statistic"].as_f64().or(metrics["js"]["distance"].as_f64());
            assert_eq!(distance.is_some_and(|distance| distance == 0.0), same, "{baseline} {values:?}: {k}");
        }
    }
    // A stored column of the name wins, file by file; the others follow its type.
    let mixed = folder.path("mixed");
    fs::create_dir_all(mixed.join("k=9")).unwrap();
    fs::copy(&texts, mixed.join("k=9/stored.parquet")).unwrap();
    partitioned(&mixed, "k", &["12"]);
    let report = compare(&texts, &folder.at("mixed"), &["--min-rows", "1"]);
    assert_eq!(feature(&report, "k")["status"], "ok");
    // 12 in 200 of 300 rows: `jensenshannon([.5, .5], [2/3, 1/3])`.
    let found = feature(&report, "k")["metrics"]["js"]["distance"].as_f64().unwrap();
    assert!((found - 0.11984403015647774).abs() < 1e-8, "{found}");
}

#[test]
fn windows_and_segments_go_by_partitions() {
    let folder = Folder::new();
    for (day, rows) in [("2026-11-23", 300), ("2026-11-24", 400), ("2026-11-25", 500)] {
        for (month, part) in [("07", 100), ("11", rows)] {
            file(folder.path(&format!("data/date={day}/month={month}/a.parquet")), part);
        }
    }
    let fleet = folder.path("fleet.toml");
    let text = "[[model]]\nname = \"m\"\nbaseline = \"data\"\ncurrent = \"data\"\nslice_by = [\"date\"]\n\
                time = \"date\"\nwindows = [\"day\", \"2d\"]\n[model.segment.july]\nmonth = [7]\n\
                [model.segment.text]\nmonth = \"07\"\n[model.segment.late]\nmonth = { from = 8 }\n\
                [model.segment.first]\ndate = \"2026-11-23\"\n[model.segment.none]\ndate = { missing = true }\n";
    fs::write(&fleet, text).unwrap();
    let args = ["sweep", fleet.to_str().unwrap(), "--no-state", "--format", "json", "--now", "2026-11-26T00:00:00Z"];
    let output = run(args);
    let report = report(&output);
    let rows = |window: &str, segment: &str| {
        let mut models = report["models"].as_array().unwrap().iter();
        let is = |model: &&Value| model["window"] == window && model["segment"].as_str().unwrap_or_default() == segment;
        let found = models.find(is).unwrap_or_else(|| panic!("{window} {segment}: {}", error_output(&output)));
        let rows = |side: &str| found["rows"][side].as_u64().unwrap();
        (rows("baseline"), rows("current"))
    };
    assert_eq!(rows("day", ""), (1500, 600));
    assert_eq!(rows("2d", ""), (1500, 1100));
    assert_eq!(rows("2d", "july"), (300, 200));
    assert_eq!(rows("2d", "text"), (300, 200));
    assert_eq!(rows("day", "late"), (1200, 500));
    assert_eq!(rows("2d", "first"), (400, 0));
    assert_eq!(rows("2d", "none"), (0, 0));
    assert_eq!(rows("2d", "date=2026-11-25"), (600, 600));
    // Dates are compared on request only, as stored ones are.
    let whole = report["models"].as_array().unwrap().iter().find(|model| model["window"] == "day").unwrap();
    assert_eq!(feature(whole, "date")["status"], "not_compared");
    // A frozen baseline has the same segments.
    let built = run(["baseline", "build", "--fleet", fleet.to_str().unwrap(), "-o", &folder.at("frozen")]);
    assert!(built.status.success(), "{}", error_output(&built));
    fs::write(&fleet, text.replace("baseline = \"data\"", "baseline = \"frozen/m.baseline\"")).unwrap();
    let frozen = self::report(&run(args));
    let all = |report: &Value| {
        let models = report["models"].as_array().unwrap().iter();
        models.map(|m| (m["segment"].clone(), m["rows"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(all(&frozen), all(&report));
}

#[test]
fn a_table_of_another_format_is_refused_however_it_is_reached() {
    let case = field("delta-folder");
    let [train, table] = ["train.parquet", "table"].map(|name| case.join(name).display().to_string());
    let output = run(["compare", &train, &table]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        error_output(&output).contains("Delta Lake table (_delta_log)") && error_output(&output).contains("removed"),
        "{}",
        error_output(&output)
    );
    let live = compare(&train, &format!("{table}/part-1-right.parquet"), &[]);
    assert_eq!((&live["rows"]["current"], &feature(&live, "x")["verdict"]["drifted"]), (&1500.into(), &false.into()));

    let folder = Folder::new();
    for (table, log, data) in [
        ("delta", "_delta_log/00000000000000000000.json", ""),
        ("hudi", ".hoodie/hoodie.properties", ""),
        ("iceberg", "metadata/00000-ab.metadata.json", "data/"),
    ] {
        let part = format!("x/{table}/{data}date=2026-11-25/part-0.parquet");
        file(folder.path(&part), 100);
        file(folder.path(&format!("x/{table}/{data}part-1.parquet")), 100);
        fs::create_dir_all(folder.path(&format!("x/{table}/{log}")).parent().unwrap()).unwrap();
        fs::write(folder.path(&format!("x/{table}/{log}")), "{}").unwrap();
        symlink(folder.path(&format!("x/{table}/{data}date=2026-11-25")), folder.path(&format!("link-{table}")))
            .unwrap();
        fs::create_dir_all(folder.path(&format!("around-{table}"))).unwrap();
        symlink(folder.path(&format!("x/{table}")), folder.path(&format!("around-{table}/t"))).unwrap();
        for spec in [
            format!("x/{table}"),
            format!("x/{table}/"),
            format!("x/{table}/{data}*.parquet"),
            format!("x/{table}/**/*.parquet"),
            format!("x/{table}/{data}date=*"),
            format!("x/{table}/{data}date=2026-11-25"),
            format!("x/{table}/{data}date=2026-11-25/*.parquet"),
            format!("x/../x/{table}/{data}date=2026-11-25"),
            format!("x/*{}/**/part-*", &table[1..]),
            format!("link-{table}"),
            format!("around-{table}"),
            "x".to_owned(),
        ] {
            let said = refusal(&folder.at(&spec));
            assert!(said.contains("table (") && said.contains("current file"), "{spec}: {said}");
        }
        assert_eq!(folder.rows(&part), 100, "a file that is named outright is what was asked for");
        // The remedy: a folder of links to the live files.
        let links = folder.path(&format!("live-{table}"));
        fs::create_dir_all(&links).unwrap();
        symlink(folder.path(&part), links.join("part-0.parquet")).unwrap();
        assert_eq!(folder.rows(&format!("live-{table}")), 100);
        fs::remove_dir_all(folder.path("x")).unwrap();
    }
    // A folder that is called `metadata` is none by its name.
    file(folder.path("y/data/a.parquet"), 100);
    file(folder.path("y/metadata/b.parquet"), 10);
    fs::write(folder.path("y/metadata/columns.metadata.json"), "{}").unwrap();
    assert_eq!(folder.rows("y"), 110);
}

#[test]
fn every_file_counts_once_however_many_links_lead_to_it() {
    let folder = Folder::new();
    let rows = |name: &str| folder.rows(name);
    let link = |to: &str, at: &str| {
        fs::create_dir_all(folder.path(at).parent().unwrap()).unwrap();
        symlink(to, folder.path(at)).unwrap();
    };
    for (day, rows) in [("2026-11-24", 100), ("2026-11-25", 250)] {
        file(folder.path(&format!("a/date={day}/x.parquet")), rows);
    }
    link("date=2026-11-25", "a/latest");
    link("date=2026-11-25", "a/date=0-latest");
    assert_eq!((rows("a"), rows("a/*"), rows("a/**/*.parquet"), rows("a/*/*.parquet")), (350, 350, 350, 350));
    assert_eq!((rows("a/latest"), rows("a/lat*"), rows("a/l*/*.parquet")), (250, 250, 250));
    // The partition is that of the real folder: dates, not the name of a link.
    let report = compare(&folder.at("a"), &folder.at("a"), &["--numeric", "date", "--min-rows", "1"]);
    assert_eq!(feature(&report, "date")["current"]["type"], "time[days]", "{report}");
    // Links in a circle, to itself from below, to what is around it, and between two folders.
    link(".", "a/self");
    link("..", "a/date=2026-11-24/up");
    link("../..", "a/date=2026-11-24/up2");
    link("../../", "a/parent");
    link("../date=2026-11-25", "a/date=2026-11-24/other");
    link("../date=2026-11-24", "a/date=2026-11-25/other");
    assert_eq!((rows("a"), rows("a/**/*.parquet"), rows("a/**")), (350, 350, 350));
    // Links to files.
    link("../a/date=2026-11-25/x.parquet", "b/one.parquet");
    link("../a/date=2026-11-25/x.parquet", "b/two.parquet");
    assert_eq!((rows("b"), rows("b/*")), (250, 250));
    // Folders elsewhere are followed.
    link("../a/date=2026-11-24", "b/day");
    assert_eq!(rows("b"), 350);
    // A hard link under the same partition is the same rows; under another one it is a day that did not change.
    file(folder.path("c/day=1/x.parquet"), 100);
    fs::create_dir_all(folder.path("c/day=2")).unwrap();
    fs::hard_link(folder.path("c/day=1/x.parquet"), folder.path("c/day=1/y.parquet")).unwrap();
    fs::hard_link(folder.path("c/day=1/x.parquet"), folder.path("c/day=2/x.parquet")).unwrap();
    assert_eq!((rows("c"), rows("c/*/*.parquet"), rows("c/day=1"), rows("c/day=2")), (200, 200, 100, 100));
    link("day=2/x.parquet", "c/z.parquet");
    assert_eq!(rows("c"), 200);
    // What leads nowhere is missing rows, unless nobody would have looked there.
    link("gone", "c/.hidden");
    link("gone.tmp", "c/x.tmp");
    assert_eq!(rows("c"), 200);
    link("/nowhere/else", "c/day=3");
    assert!(refusal(&folder.at("c")).contains("c/day=3: a broken link"));
    fs::remove_file(folder.path("c/day=3")).unwrap();
    link("round.parquet", "c/round.parquet");
    assert!(refusal(&folder.at("c")).contains("c/round.parquet: a broken link"));
}

#[test]
fn what_lies_beside_the_data_is_left_out() {
    let folder = Folder::new();
    file(folder.path("a/part-0.parquet"), 100);
    for name in [
        "_SUCCESS",
        "_metadata",
        "_x.parquet",
        ".part-0.parquet.crc",
        "._part-0.parquet",
        ".y.parquet",
        "part-0.parquet.crc",
        "part-1.parquet.tmp",
        "part-1.parquet.inprogress",
        ".part-1.parquet.inprogress.4711",
        "part-2.inprogress.4711.parquet",
        "part-0.parquet~",
        "part-3.parquet._COPYING_",
        "_temporary/0/part-0.parquet",
        ".staging/part-0.parquet",
        "part-4.parquet.tmp/part-0.parquet",
    ] {
        fs::create_dir_all(folder.path(&format!("a/{name}")).parent().unwrap()).unwrap();
        fs::write(folder.path(&format!("a/{name}")), "not data").unwrap();
    }
    for spec in ["a", "a/", "a/*", "a/*part*", "a/**/*", "*", "**/*.parquet", "a/part-0.parquet"] {
        assert_eq!(folder.rows(spec), 100, "{spec}");
    }
    file(folder.path("a/_part-9.parquet"), 30);
    file(folder.path("a/_year=2026/x.parquet"), 7);
    assert_eq!((folder.rows("a/_part*"), folder.rows("a/_part-9.parquet"), folder.rows("a")), (30, 30, 107));
    // A file without a byte under the name of data is no snapshot of no rows.
    for name in ["x.parquet", "x.csv", "x.arrow"] {
        file(folder.path("b/a.parquet"), 10);
        fs::write(folder.path(&format!("b/{name}")), "").unwrap();
        let said = refusal(&folder.at("b"));
        assert!(said.contains(&format!("b/{name}: ")) && said.contains("empty file"), "{said}");
        fs::remove_file(folder.path(&format!("b/{name}"))).unwrap();
    }
}

#[test]
fn names_and_formats_of_every_kind_are_read() {
    let folder = Folder::new();
    file(folder.path("a/x.PARQUET"), 100);
    write_ipc(&mut frame(20), &folder.path("a/y.Arrow"));
    csv(folder.path("a/z.Csv"), 3);
    fs::write(folder.path("a/README.md"), "words").unwrap();
    assert_eq!((folder.rows("a"), folder.rows("a/*.PARQUET"), folder.rows("a/x.PARQUET")), (123, 100, 100));
    // The same name in two formats is one export, twice.
    fs::copy(folder.path("a/z.Csv"), folder.path("a/x.csv")).unwrap();
    let said = refusal(&folder.at("a"));
    assert!(said.contains("x.csv") && said.contains("also exists as Parquet"), "{said}");
    assert_eq!(folder.rows("a/*.PARQUET"), 100);
    // A folder under the name of a file, as Spark writes it.
    file(folder.path("b/x.parquet/part-0.parquet"), 10);
    file(folder.path("b/y.parquet"), 1);
    assert_eq!((folder.rows("b"), folder.rows("b/*.parquet"), folder.rows("b/x.parquet")), (11, 11, 10));
    // Wildcards in names: what is there under the very name is meant.
    file(folder.path("c/[1].parquet"), 10);
    file(folder.path("c/1.parquet"), 1);
    file(folder.path("c/[ab]/what? *.parquet"), 5);
    assert_eq!((folder.rows("c/[1].parquet"), folder.rows("c/[12].parquet"), folder.rows("c/[[]*")), (10, 1, 15));
    assert_eq!((folder.rows("c/[ab]"), folder.rows("c/[ab]/what? *.parquet")), (5, 5));
    // Spaces, and names that are no UTF-8, of files and of folders without a partition.
    file(folder.path("d/a b/x y.parquet"), 10);
    let odd = |bytes: &[u8]| folder.path("d").join(std::ffi::OsStr::from_bytes(bytes));
    file(odd(b"caf\xe9.parquet"), 2);
    file(odd(b"\xff\xfe/x.parquet"), 3);
    assert_eq!((folder.rows("d"), folder.rows("d/a b/*"), folder.rows("d/*")), (15, 10, 15));
    let frozen = folder.at("d.baseline");
    let built = run(["baseline", "build", &folder.at("d"), "-o", &frozen]);
    assert!(
        built.status.success() && run(["baseline", "show", "--json", &frozen]).status.success(),
        "{}",
        self::error_output(&built)
    );
    file(odd(b"city=Z\xfcrich/x.parquet"), 1);
    assert!(refusal(&folder.at("d")).contains("must be UTF-8"));
    for spec in ["none", "none/*.parquet", "d/*.csv", "a/README.md/*"] {
        assert!(refusal(&folder.at(spec)).contains("no such file, or no data"), "{spec}");
    }
    let output = run(["compare", &folder.at("a/***"), &folder.at("a")]);
    assert!(
        output.status.code() == Some(2) && self::error_output(&output).contains("pattern"),
        "{}",
        self::error_output(&output)
    );
}

#[test]
fn an_object_store_is_read_by_the_same_rules() {
    let folder = Folder::new();
    let bucket = |name: &str| folder.path(&format!("buckets/data/{name}"));
    file(bucket("one.parquet"), 1);
    let server = objects::serve(&folder.path("buckets"), NONE);
    let compared = |a: &str, b: &str| server.run(&["compare", a, b, "--format", "json", "--min-rows", "1"]);
    let rows = |spec: &str| {
        let spec = format!("s3://data/{spec}");
        report(&compared(&spec, &spec))["rows"]["current"].as_u64().unwrap()
    };
    for (city, rows) in [("New%20York", 100), ("San%20Jos%C3%A9", 50), ("Paris", 7)] {
        file(bucket(&format!("prod/city={city}/a.parquet")), rows);
    }
    for name in ["_SUCCESS", "city=Paris/b.parquet.tmp", "_temporary/0/a.parquet", "city=Paris/.b.parquet"] {
        fs::create_dir_all(bucket(&format!("prod/{name}")).parent().unwrap()).unwrap();
        fs::write(bucket(&format!("prod/{name}")), "not data").unwrap();
    }
    for spec in ["prod/", "prod", "prod/*", "prod/**", "prod/*/*", "prod/**/*.parquet", "pro?/city=*"] {
        assert_eq!(rows(spec), 157, "{spec}");
    }
    assert_eq!((rows("prod/city=P*/*"), rows("prod/city=Paris/a.parquet")), (7, 7));
    // The values are those of a folder on the disk.
    let local = folder.at("buckets/data/prod");
    for spec in ["s3://data/prod", "s3://data/prod/**/*.parquet"] {
        let found = report(&compared(&local, spec));
        assert_eq!(feature(&found, "city")["metrics"]["js"]["distance"], 0.0, "{found}");
    }
    // A folder under the name of a file.
    file(bucket("x.parquet/part-0.parquet"), 10);
    assert_eq!((rows("x.parquet"), rows("x.parquet/"), rows("*.parquet")), (10, 10, 11));
    for (table, log, data) in [
        ("delta", "_delta_log/00000000000000000000.json", ""),
        ("hudi", ".hoodie/hoodie.properties", ""),
        ("iceberg", "metadata/00000-ab.metadata.json", "data/"),
    ] {
        let part = format!("t/{table}/{data}date=2026-11-25/part-0.parquet");
        file(bucket(&part), 10);
        fs::create_dir_all(bucket(&format!("t/{table}/{log}")).parent().unwrap()).unwrap();
        fs::write(bucket(&format!("t/{table}/{log}")), "{}").unwrap();
        for spec in [
            "t",
            &format!("t/{table}"),
            &format!("t/{table}/{data}date=*"),
            &format!("t/{table}/{data}date=2026-11-25/"),
        ] {
            let output = compared(&format!("s3://data/{spec}"), "s3://data/x.parquet");
            assert_eq!(output.status.code(), Some(3), "{spec}");
            assert!(error_output(&output).contains("table ("), "{spec}: {}", error_output(&output));
        }
        assert_eq!(rows(&part), 10);
    }
}

/// A server of signed links to the files of a folder: what comes without the signature, or asks with another method than
/// the one that was signed, is refused.
fn signed(root: PathBuf, query: &'static str) -> (String, Arc<Mutex<Vec<Request>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let address = http(move |request| {
        seen.lock().unwrap().push(request.clone());
        let (path, found) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if request.method != "GET" || found != query {
            return answer(403, "");
        }
        let Ok(bytes) = fs::read(root.join(path.trim_start_matches('/').replace("%20", " "))) else {
            return answer(404, format!("no {} here", request.path));
        };
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((from, to)) = range else { return answer(400, "ranges only") };
        let from: usize = from.parse().unwrap();
        if from >= bytes.len() {
            return answer(416, "");
        }
        let to = to.parse::<usize>().unwrap().min(bytes.len() - 1);
        let head = format!("etag: \"{}\"\r\ncontent-range: bytes {from}-{to}/{}\r\n", bytes.len(), bytes.len());
        Answer { status: Some(206), head, body: bytes[from..=to].to_vec() }
    });
    (address, asked)
}

const SIGNATURE: &str = "X-Amz-Credential=AKIA%2F20261125&X-Amz-Signature=5ecre7%3D/x=";

#[test]
fn a_signed_link_is_one_object_and_is_never_shown() {
    let folder = Folder::new();
    let files = folder.path("files");
    file(files.join("day one.parquet"), 2000);
    write_ipc(&mut frame(2000), &files.join("a.arrow"));
    csv(files.join("a.csv"), 2000);
    fs::write(files.join("text.parquet"), "no Parquet").unwrap();
    fs::write(files.join("text.arrow"), "no Arrow").unwrap();
    fs::write(files.join("text.csv"), [0, 0, 1]).unwrap();
    let (server, asked) = signed(files.clone(), SIGNATURE);
    let link = |name: &str| format!("{server}/{name}?{SIGNATURE}");
    let shown = |name: &str| format!("{server}/{name}?…");
    let clean = |what: &str, text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        let secrets = ["5ecre7", "AKIA", "X-Amz", "pa55word"];
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{what} shows a secret: {text}");
    };
    let ran = |args: &[&str], code: i32, words: &[&str]| {
        let output = run(args);
        let all = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&all).into_owned();
        assert_eq!(output.status.code(), Some(code), "{}: {text}", args[0]);
        words.iter().for_each(|word| assert!(text.contains(word), "{}: '{word}' is not in {text}", args[0]));
        clean(args[0], &all);
        text
    };
    let (good, local) = (link("day%20one.parquet"), files.join("day one.parquet").display().to_string());
    // Every format, from either side, whole or in part.
    for (name, rows) in [("day%20one.parquet", 2000), ("a.arrow", 2000), ("a.csv", 2000)] {
        let report = compare(&local, &link(name), &[]);
        assert_eq!(
            (&report["rows"]["current"], &feature(&report, "v")["metrics"]["psi"]["value"]),
            (&rows.into(), &0.0.into())
        );
        clean(name, report.to_string().as_bytes());
    }
    assert_eq!(compare(&format!("{good}#rows=0..1500"), &good, &[])["rows"]["baseline"], 1500);
    assert!(asked.lock().unwrap().iter().all(|request| request.method == "GET"), "links are signed for GET");

    // Every way of failing.
    for (name, words) in [
        ("none.parquet", "no such file"),
        ("text.parquet", "not a readable Parquet file"),
        ("text.arrow", "Arrow"),
        ("text.csv", "CSV"),
    ] {
        ran(&["compare", &link(name), &good], 3, &[&shown(name), words]);
    }
    let cut = link("a.csv").replace("5ecre7", "0ther5ecre7");
    ran(&["compare", &cut, &good], 3, &["a.csv?…"]);
    ran(&["compare", &format!("{good}#rows=x"), &good], 2, &["rows are given as"]);
    ran(&["compare", &good, &good, "--features", "w"], 3, &["no column 'w'", "day%20one.parquet?…"]);
    ran(&["compare", &format!("{good}#rows=5000.."), &good], 3, &["no rows"]);
    ran(
        &["compare", &format!("s3://bucket/a.parquet?{SIGNATURE}"), &good],
        3,
        &["s3://bucket/a.parquet?…", "https://"],
    );
    ran(&["compare", "http://ana:pa55word@127.0.0.1:9/a.parquet", &good], 3, &["http://…@127.0.0.1:9/a.parquet"]);
    ran(
        &["compare", &format!("http://127.0.0.1:9/a.parquet?{SIGNATURE}"), &good],
        3,
        &["http://127.0.0.1:9/a.parquet?…"],
    );
    let [none, folder_link] = [link("none.baseline"), format!("{server}/files/?{SIGNATURE}")];
    ran(&["compare", &none, &good], 3, &["none.baseline?…"]);
    ran(&["compare", &folder_link, &good], 3, &["files/?…"]);
    ran(&["compare", &good, &good, "-o", &link("out.json")], 7, &["out.json?…"]);

    // Baselines, by themselves and over a link.
    let baseline = folder.at("m.baseline");
    ran(&["baseline", "build", &good, "-o", &baseline], 0, &[]);
    ran(&["baseline", "show", &baseline], 0, &[&shown("day%20one.parquet")]);
    ran(&["baseline", "show", &baseline, "--json"], 0, &[]);
    ran(
        &["baseline", "build", &link("x.baseline"), "-o", &baseline],
        2,
        &["x.baseline?…", "is a baseline file already"],
    );
    fs::copy(&baseline, files.join("m.baseline")).unwrap();
    ran(&["compare", &link("m.baseline"), &good, "--format", "json"], 0, &["2000"]);
    ran(&["compare", &link("m.baseline"), &good, "--bins", "7"], 2, &["m.baseline?…", "was built with 10 bins"]);
    ran(&["compare", &link("m.baseline"), &good, "--convention", "evidently"], 2, &["m.baseline?…"]);
    ran(&["init", &good, &good], 0, &[&shown("day%20one.parquet"), "Secret parts of addresses are removed"]);

    // A fleet: reports, the journal, history, and what is said about models that fail.
    let fleet = folder.path("fleet.toml");
    let model = |name: &str, baseline: &str, current: &str, more: &str| {
        format!("[[model]]\nname = \"{name}\"\nbaseline = \"{baseline}\"\ncurrent = \"{current}\"\n{more}")
    };
    let text = [
        model("good", &good, &good, ""),
        model("frozen", &link("m.baseline"), &link("a.csv"), ""),
        model("gone", &good, &link("none.parquet"), ""),
        model("column", &good, &good, "exclude = [\"w\"]\n"),
        model("empty", &good, &format!("{good}#rows=5000.."), ""),
        model("segment", &link("m.baseline"), &good, "slice_by = [\"v\"]\n"),
        model("floats", &good, &good, "[model.segment.s]\nv = [\"x\"]\n"),
    ];
    fs::write(&fleet, text.concat()).unwrap();
    let (fleet, state) = (fleet.display().to_string(), folder.at("state"));
    ran(&["doctor", &fleet], 11, &["none.parquet?…", "'w' is named in the fleet file"]);
    ran(&["sweep", &fleet, "--dry-run", "--explain"], 0, &["none.parquet?…"]);
    let sweep = ["sweep", &fleet, "--state", &state, "--now", "2026-11-26T02:00:00Z", "--deadline", "1h"];
    for format in ["table", "json", "csv"] {
        ran(&[&sweep[..], &["--format", format]].concat(), 11, &[]);
    }
    ran(&["history", &fleet, "--state", &state, "--format", "json"], 0, &["good"]);
    ran(&["tick", &fleet, "--state", &state, "--now", "2026-11-27T02:00:00Z", "--format", "json"], 11, &[]);
    ran(&["explain", "good", &fleet, "--state", &state], 0, &[]);
    ran(&["calibrate", &fleet, "--state", &state], 11, &[]);
    let mut kept = vec![folder.path("m.baseline"), folder.path("state")];
    let mut searched = 0;
    while let Some(path) = kept.pop() {
        if path.is_dir() {
            kept.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            searched += 1;
            clean(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
    assert!(searched > 4, "{searched} files");
    let mistake = fs::read_to_string(folder.path("fleet.toml")).unwrap().replace("a.csv?", "{day:%!}/a.csv?");
    fs::write(folder.path("fleet.toml"), mistake).unwrap();
    ran(&["sweep", &fleet, "--no-state"], 4, &["a.csv?…"]);
}

#[test]
fn a_question_mark_is_a_wildcard_where_no_parameter_follows() {
    let folder = Folder::new();
    file(folder.path("buckets/data/day-1.parquet"), 10);
    let server = objects::serve(&folder.path("buckets"), NONE);
    let spec = "s3://data/day-?.parquet";
    let found = report(&server.run(&["compare", spec, spec, "--format", "json"]));
    assert_eq!(found["rows"]["current"], 10);
    // The address of a plain web server needs no query, and is asked by HEAD as before.
    let web = server::http(|request| answer(404, &request.path));
    assert!(refusal(&format!("{web}/a.parquet")).contains("no such file"));
}
