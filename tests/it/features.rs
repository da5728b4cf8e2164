//! `driftsweep features` on the flights of the repository: sets, the truncation test, and skew.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use jiff::SignedDuration;
use jiff::civil::date;
use jiff::tz::TimeZone;
use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, PlSmallStr, Series};
use serde_json::Value;

use crate::support::at;
use crate::support::data::{dataset, read_parquet, write_parquet};
use crate::support::flights::fleet;
use crate::support::objects::{Faults, NONE, serve};
use crate::support::output::{all_output, parsed, says};

fn features(args: &[&str], fleet: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
    command.arg("features").args(args).arg(fleet).args(more).output().unwrap()
}

const NOW: [&str; 2] = ["--now", "2013-05-11T00:00:00Z"];
const DAYS: [&str; 4] = ["--now", "2013-03-12T00:00:00Z", "--from", "2013-02-25T00:00:00Z"];
const SQL: &str = "[feature_set.lateness]\n";

fn with_sql(sql: &str) -> String {
    format!("{SQL}sql = '''{sql}'''\n")
}

fn integers(frame: &DataFrame, name: &str) -> Vec<i64> {
    let column = frame.column(name).unwrap().to_physical_repr().cast(&polars::prelude::DataType::Int64).unwrap();
    column.i64().unwrap().iter().map(Option::unwrap).collect()
}

#[test]
fn training_and_validation_follow_each_other_and_have_every_prediction_once() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path(), &[]);
    let set = folder.path().join("set");
    let output = features(&["materialize"], &fleet, &[&NOW[..], &["--output", set.to_str().unwrap()]].concat());
    says(&output, 0, &["training.parquet", "validation.parquet", "version"]);
    let manifest: Value = serde_json::from_slice(&fs::read(set.join("manifest.json")).unwrap()).unwrap();
    // 90 days, then 7, up to the two days in which labels are not known yet.
    assert_eq!(manifest["validation"]["to"], "2013-05-09T00:00:00Z");
    assert_eq!(manifest["validation"]["from"], "2013-05-02T00:00:00Z");
    assert_eq!(manifest["training"]["to"], "2013-05-02T00:00:00Z");
    assert_eq!(manifest["training"]["from"], "2013-02-01T00:00:00Z");
    let mut spine = 0;
    for name in ["training", "validation"] {
        let part = &manifest[name];
        let found = read_parquet(&set.join(format!("{name}.parquet")));
        assert_eq!(found.height() as u64, part["rows"].as_u64().unwrap());
        let labels = found.column("label").unwrap();
        assert_eq!((found.height() - labels.null_count()) as u64, part["labelled"].as_u64().unwrap());
        // A flight that was cancelled never landed.
        assert!(part["labelled"].as_u64().unwrap() * 100 > 94 * part["rows"].as_u64().unwrap());
        assert!(found.column("temp").unwrap().null_count() * 100 < found.height());
        spine += found.height();
    }
    // The flights whose prediction is in these days, by the clocks of New York.
    let new_york = TimeZone::get("America/New_York").unwrap();
    let period = at("2013-02-01T00:00:00Z")..at("2013-05-09T00:00:00Z");
    let mut wanted = 0;
    for month in 1..=5 {
        let flights = read_parquet(&dataset(&format!("nycflights13/flights-2013-{month:02}.parquet")));
        let [days, hours, minutes] = ["day", "hour", "minute"].map(|name| integers(&flights, name));
        for (day, (hour, minute)) in days.into_iter().zip(hours.into_iter().zip(minutes)) {
            let departs = date(2013, month, day as i8).at(hour as i8, minute as i8, 0, 0).to_zoned(new_york.clone());
            let asked = departs.unwrap().timestamp() - SignedDuration::from_hours(1);
            wanted += usize::from(period.contains(&asked));
        }
    }
    assert_eq!(spine, wanted);
    // The same input gives the same bytes.
    let again = folder.path().join("again");
    says(
        &features(
            &["materialize"],
            &fleet,
            &[&NOW[..], &["--output", again.to_str().unwrap(), "--memory", "64MiB", "--threads", "1"]].concat(),
        ),
        0,
        &[],
    );
    for name in ["training.parquet", "validation.parquet"] {
        assert!(fs::read(set.join(name)).unwrap() == fs::read(again.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_look_into_the_future_is_found_in_any_query() {
    let folder = tempfile::tempdir().unwrap();
    let honest = fleet(folder.path(), &[]);
    says(&features(&["verify"], &honest, &DAYS), 0, &["passes: no feature", "predictions"]);
    let joined = "SELECT s.row_id, w.temp AS temp_then FROM spine s LEFT JOIN weather w ON w.origin = s.origin AND w.event_time = \
                  date_trunc('hour', s.prediction_time + INTERVAL '1 hour')";
    let corrected = "WITH newest AS (SELECT w.*, row_number() OVER (PARTITION BY origin, date_trunc('day', event_time) ORDER BY \
                     known_at DESC, event_time DESC) AS place FROM weather w) SELECT s.row_id, n.temp AS temp_of_day FROM spine s LEFT \
                     JOIN newest n ON n.origin = s.origin AND n.place = 1 AND date_trunc('day', n.event_time) = \
                     date_trunc('day', s.prediction_time) - INTERVAL '1 day'";
    // The last hour of each day is corrected two days later.
    let late = "known_at = \"CASE WHEN date_part('hour', time_hour) = 12 THEN time_hour + INTERVAL '2 days' ELSE time_hour + INTERVAL '1 hour' END\"\ncolumns";
    let weather = "event_time = \"time_hour\"\ndelay = \"1h\"\ncolumns";
    for (name, sql, change, feature) in [
        (
            "a window one row too far",
            "SELECT row_id, avg(share_late) OVER (PARTITION BY origin ORDER BY prediction_time, row_id ROWS BETWEEN 3 PRECEDING AND 1 \
             FOLLOWING) AS smooth, temp FROM spine",
            None,
            "smooth",
        ),
        ("a join without known_at", joined, None, "temp_then"),
        ("a correction that came later", corrected, Some((weather, late)), "temp_of_day"),
    ] {
        let sql = with_sql(sql);
        let late = change.map(|(from, to)| (from, format!("event_time = \"time_hour\"\n{to}")));
        let mut changes = vec![(SQL, &*sql)];
        changes.extend(late.as_ref().map(|(from, to)| (*from, &**to)));
        let fleet = fleet(folder.path(), &changes);
        let text = says(&features(&["verify"], &fleet, &DAYS), 18, &["features see what was known later", feature]);
        assert!(text.contains(&format!("{feature}: ")), "{name}: {text}");
        let found = features(&["verify"], &fleet, &[&DAYS[..], &["--format", "json"]].concat());
        let found = parsed(&found);
        assert_eq!(found["reproducible"], true, "{name}");
        let cuts = found["cuts"].as_array().unwrap();
        let different: Vec<&String> =
            cuts.iter().flat_map(|cut| cut["different"].as_object().unwrap().keys()).collect();
        assert!(!different.is_empty() && different.iter().all(|found| *found == feature), "{name}: {different:?}");
    }
    // With the time of knowledge heeded, the same join is honest.
    let heeded = joined.replace("s.origin AND", "s.origin AND w.known_at < s.prediction_time AND");
    let fleet = fleet(
        folder.path(),
        &[(SQL, &with_sql(&heeded.replace("w.temp AS temp_then", "w.temp AS temp_then, s.distance")))],
    );
    says(&features(&["verify"], &fleet, &DAYS), 0, &["passes"]);
    // Nothing is deleted, so nothing is tested.
    says(
        &features(
            &["verify"],
            &fleet,
            &[
                "--now",
                "2013-01-01T12:00:00Z",
                "--at",
                "2013-01-01T11:59:59Z",
                "--to",
                "2013-01-01T11:00:00Z",
                "--from",
                "2013-01-01T10:59:00Z",
            ],
        ),
        17,
        &["was not tested"],
    );
}

/// What an honest serving would have logged: the features of some days, with the ids.
fn served(folder: &Path, fleet: &Path) -> DataFrame {
    let set = folder.join("served-set");
    let now = ["--now", "2013-03-12T00:00:00Z"];
    says(
        &features(&["materialize"], fleet, &[&now[..], &["--output", set.to_str().unwrap(), "--allow-skew"]].concat()),
        0,
        &[],
    );
    read_parquet(&set.join("validation.parquet"))
}

fn changed(frame: &DataFrame, name: &str, values: impl IntoColumn) -> DataFrame {
    let mut frame = frame.clone();
    let mut column: Column = values.into_column();
    column.rename(PlSmallStr::from(name));
    frame.with_column(column).unwrap();
    frame
}

fn numbers(frame: &DataFrame, name: &str, change: impl Fn(usize, f64) -> f64) -> Series {
    let column = frame.column(name).unwrap().cast(&polars::prelude::DataType::Float64).unwrap();
    let values: Vec<Option<f64>> =
        column.f64().unwrap().iter().enumerate().map(|(i, x)| x.map(|x| change(i, x))).collect();
    Series::new(name.into(), values)
}

#[test]
fn skew_is_named_with_its_feature_and_equal_data_are_silent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("served.parquet");
    let serving = format!("[feature_set.lateness.serving]\npath = \"{}\"\n\n[[model]]", path.display());
    // The hour of the departure on a clock: of integers from 0 to 23.
    let sql = with_sql(
        "SELECT row_id, distance, temp, share_late, carrier, date_part('hour', prediction_time) AS hour_of_day FROM spine",
    );
    let fleet = fleet(folder.path(), &[("[[model]]", &serving), (SQL, &sql)]);
    fs::copy(dataset("car_loan/reference.parquet"), &path).unwrap();
    let honest = served(folder.path(), &fleet);
    // The days of the validation set: it ends two days before now. The log has no times, and is of these days.
    let period = ["--now", "2013-03-12T00:00:00Z", "--from", "2013-03-03T00:00:00Z", "--to", "2013-03-10T00:00:00Z"];
    let skew = |frame: &DataFrame| {
        write_parquet(&mut frame.clone(), &path, 1 << 20);
        features(&["skew"], &fleet, &period)
    };
    let text = says(&skew(&honest), 0, &["is what serving logged: 5 features equal in"]);
    assert!(!text.contains("differs") && !text.contains("by the definition"), "{text}");

    let rows = honest.height();
    let f32s = changed(&honest, "share_late", numbers(&honest, "share_late", |_, x| f64::from(x as f32)));
    let infinite = changed(&honest, "temp", numbers(&honest, "temp", |_, _| f64::INFINITY));
    let fahrenheit = changed(&honest, "temp", numbers(&honest, "temp", |_, x| (x - 32.0) / 1.8));
    let double = changed(&honest, "distance", numbers(&honest, "distance", |_, x| x * 1.609344));
    let zone = changed(&honest, "hour_of_day", numbers(&honest, "hour_of_day", |_, x| (x + 23.0) % 24.0));
    let carrier: Vec<Option<String>> =
        honest.column("carrier").unwrap().str().unwrap().iter().map(|x| x.map(str::to_lowercase)).collect();
    let lower = changed(&honest, "carrier", Series::new("carrier".into(), carrier));
    let zeros = {
        let column = honest.column("share_late").unwrap().f64().unwrap().clone();
        let values: Vec<f64> = column.iter().map(|x| x.unwrap_or(0.0)).collect();
        changed(&honest, "share_late", Series::new("share_late".into(), values))
    };
    let fewer = honest.slice(0, rows - rows / 50 - 1);
    let twice = honest.vstack(&honest.slice(0, 3)).unwrap();
    let renamed = {
        let ids: Vec<String> =
            honest.column("id").unwrap().str().unwrap().iter().map(|id| format!("x{}", id.unwrap())).collect();
        changed(&fahrenheit, "id", Series::new("id".into(), ids))
    };
    for (what, frame, words) in [
        ("32-bit numbers", &f32s, vec!["feature 'share_late' differs", "32-bit numbers"]),
        ("infinity", &infinite, vec!["feature 'temp' differs in"]),
        ("a changed definition", &fahrenheit, vec!["feature 'temp' differs in"]),
        ("miles and kilometres", &double, vec!["feature 'distance' differs in", "always 0.62137"]),
        (
            "a time zone",
            &zone,
            vec!["feature 'hour_of_day' differs in", "1 h later on a clock of 24 hours", "a time zone?"],
        ),
        ("lower case", &lower, vec!["feature 'carrier' differs in", "only in the case of letters"]),
        (
            "0 for a missing value",
            &zeros,
            vec!["feature 'share_late' differs in", "the definition gives no value where the log has one"],
        ),
        ("2 % missing", &fewer, vec!["predictions are not in the log (2.0", "limit 1.000 %"]),
        ("repeated ids", &twice, vec!["9 of", "rows have an id that occurs more than once"]),
        ("other ids", &renamed, vec!["no id of the spine is in the log", "Few ids match", "drifted: temp"]),
        ("a lost feature", &honest.drop("temp").unwrap(), vec!["feature 'temp' is not in the log"]),
    ] {
        let text = says(&skew(frame), 18, &words);
        // The others are not accused.
        let accused: Vec<&str> = ["distance", "temp", "share_late", "carrier", "hour_of_day"]
            .into_iter()
            .filter(|name| text.contains(&format!("feature '{name}'")))
            .collect();
        assert!(accused.len() <= 1, "{what}: {accused:?}");
    }
    // What differs blocks training, unless that is wanted.
    let set = folder.path().join("set");
    write_parquet(&mut fahrenheit.clone(), &path, 1 << 20);
    let now = ["--now", "2013-03-12T00:00:00Z", "--output", set.to_str().unwrap()];
    says(&features(&["materialize"], &fleet, &now), 18, &["training is blocked", "feature 'temp' differs"]);
    assert!(!set.join("manifest.json").exists());
    says(&features(&["materialize"], &fleet, &[&now[..], &["--allow-skew"]].concat()), 0, &["training.parquet"]);
}

#[test]
fn what_cannot_be_computed_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    for (changes, words) in [
        (vec![("event_time = \"time_hour\"", "event_time = \"time_our\"")], "event_table 'weather': event_time"),
        (vec![("event_time = \"time_hour\"", "event_time = \"hour\"")], "it is Int32, not a time"),
        (vec![("on = [\"origin\"]\nmax_age", "on = [\"orgin\"]\nmax_age")], "the spine has no column 'orgin'"),
        (
            vec![("on = [\"origin\"]\nmax_age", "on = { distance = \"origin\" }\nmax_age")],
            "make both the same with CAST",
        ),
        (vec![("columns = [\"origin\", \"temp\"", "columns = [\"origin\", \"tmp\"")], "column 'tmp'"),
        (vec![("avg(late)", "late + 1")], "no aggregate"),
        (vec![("flights-2013-*", "flights-2014-*")], "no such file"),
    ] {
        let fleet = fleet(folder.path(), &changes);
        let text = says(&features(&["show"], &fleet, &[]), if words == "no such file" { 3 } else { 2 }, &[words]);
        assert!(!text.contains("panicked"), "{text}");
    }
    let fleet = fleet(folder.path(), &[]);
    says(&features(&["show"], &fleet, &["--set", "latenes"]), 2, &["did you mean 'lateness'?"]);
    let none = ["--now", "2011-01-01T00:00:00Z", "--output", folder.path().to_str().unwrap()];
    says(&features(&["materialize"], &fleet, &none), 2, &["the spine has no prediction from 2010"]);
}

#[test]
fn tables_in_an_object_store_give_the_same_bytes_however_the_store_fails() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("buckets/data/flights and weather");
    fs::create_dir_all(&bucket).unwrap();
    for month in 1..=3 {
        for table in ["flights", "weather"] {
            let name = format!("{table}-2013-{month:02}.parquet");
            fs::copy(dataset(&format!("nycflights13/{name}")), bucket.join(name)).unwrap();
        }
    }
    let local = fleet(folder.path(), &[("training = \"90d\"", "training = \"20d\"")]);
    let text = fs::read_to_string(&local).unwrap();
    let here = format!("{}/", dataset("nycflights13").display());
    let remote = folder.path().join("remote.toml");
    // Months that are not in the bucket are not known in March either.
    fs::write(&remote, text.replace(&here, "s3://data/flights and weather/")).unwrap();
    let near = folder.path().join("near.toml");
    fs::write(&near, text.replace(&here, &format!("{}/", bucket.display()))).unwrap();
    let set = |name: &str| folder.path().join(name).display().to_string();
    let args = |fleet: &Path, name: &str| {
        let fleet = fleet.display().to_string();
        ["features", "materialize", &fleet, "--now", "2013-03-12T00:00:00Z", "--output", &set(name)].map(str::to_owned)
    };
    says(&crate::support::data::run(args(&near, "near")), 0, &[]);
    for faults in [NONE, Faults { error: 4, ..NONE }, Faults { late: 40, error: 7, cut: 11 }] {
        let server = serve(&folder.path().join("buckets"), faults);
        let args = args(&remote, "far");
        says(&server.run(&args.each_ref().map(String::as_str)), 0, &[]);
        for name in ["training.parquet", "validation.parquet"] {
            let [near, far] = ["near", "far"].map(|set| fs::read(folder.path().join(set).join(name)).unwrap());
            assert!(near == far, "{name}");
        }
    }
    let manifest: Value = serde_json::from_slice(&fs::read(folder.path().join("far/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["sources"]["weather"][0]["path"], "s3://data/flights and weather/weather-2013-01.parquet");
}

#[test]
fn doctor_plans_feature_sets_before_a_night_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |fleet: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        all_output(&command.arg("doctor").arg(fleet).args(NOW).output().unwrap())
    };
    let sound = doctor(&fleet(folder.path(), &[]));
    assert!(!sound.contains("feature_set"), "{sound}");
    for (change, word) in [
        (("\"temp\"", "\"tempo\""), "tempo"),
        ((SQL, &*with_sql("SELECT row_id, humid / FROM spine")), "row_id"),
        (("avg(late)", "average(late)"), "average"),
    ] {
        let told = doctor(&fleet(folder.path(), &[change]));
        assert!(told.contains("BROKEN") && told.contains("lateness features:") && told.contains(word), "{told}");
    }
}

/// A column that one of two files lacks is missing in its rows: that is said, where the column is used.
#[test]
fn a_used_column_that_a_file_of_its_table_lacks_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let hours: Vec<i64> = (0..48).collect();
    let time = |hours: &[i64]| {
        let seconds: Vec<i64> = hours.iter().map(|hour| (375_000 + hour) * 3600).collect();
        Series::new("t".into(), seconds).into_column()
    };
    let write = |name: &str, columns: Vec<Column>| {
        let height = columns[0].len();
        write_parquet(&mut DataFrame::new(height, columns).unwrap(), &folder.path().join(name), 1 << 20);
    };
    let number = |name: &str| Series::new(PlSmallStr::from(name), &hours).into_column();
    write("spine.parquet", vec![number("id"), time(&hours)]);
    write("events-1.parquet", vec![number("id"), number("v"), number("unused"), time(&hours)]);
    write("events-2.parquet", vec![number("id"), time(&hours)]);
    let fleet = folder.path().join("fleet.toml");
    fs::write(
        &fleet,
        "[event_table.e]\npath = \"events-*.parquet\"\nevent_time = \"to_timestamp_seconds(t)\"\ndelay = \"1s\"\ncolumns = [\"id\", \"v\"]\n\
         [feature_set.s]\ntraining = \"1d\"\nvalidation = \"1h\"\n\
         [feature_set.s.spine]\npath = \"spine.parquet\"\nid = \"id\"\ntime = \"to_timestamp_seconds(t)\"\ncolumns = []\n\
         [feature_set.s.latest.l]\ntable = \"e\"\non = [\"id\"]\ncolumns = [\"v\"]\n\
         [[model]]\nname = \"m\"\nbaseline = \"spine.parquet\"\ncurrent = \"spine.parquet\"\nfeature_set = \"s\"\n",
    )
    .unwrap();
    let told = says(&features(&["show"], &fleet, &[]), 0, &["event_table 'e': 1 of 2 files have no column 'v'"]);
    assert!(!told.contains("unused"), "{told}");
}

/// What the engine refuses is told in words that help, without those for its own developers.
#[test]
fn a_query_that_is_refused_is_told_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for (sql, words) in [
        (
            "SELECT row_id, sum(hour > 9) OVER (PARTITION BY origin) AS s FROM spine",
            "no function sum(Boolean); convert",
        ),
        ("SELECT row_id, sum(sum(hour)) AS s FROM spine GROUP BY row_id", "cannot be nested"),
    ] {
        let fleet = fleet(folder.path(), &[(SQL, &with_sql(sql))]);
        let output = folder.path().join("set");
        let told = features(&["materialize"], &fleet, &[&NOW[..], &["--output", output.to_str().unwrap()]].concat());
        let told = says(&told, 2, &["feature_set 'lateness'", words]);
        assert!(!told.contains("DataFusion") && !told.contains("Internal error"), "{told}");
    }
}
