//! The truncation test: what it finds, what it does not accuse, and what it says where it cannot tell.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::parquet::arrow::ArrowWriter;
use driftsweep::model::Options;
use driftsweep_common::error::Result;
use driftsweep_features::{FeaturePipeline, Limits, Period, Verification};
use driftsweep_fleet::Fleet;
use jiff::Timestamp;

const HOUR: i64 = 3_600_000_000;

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn whole(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

/// Predictions each hour for 200 hours about two keys, and events each half hour that are known at once. Every tenth is
/// corrected 24 hours later.
fn data(folder: &Path) {
    write(
        &folder.join("asked.parquet"),
        vec![
            ("id", whole(0..400)),
            ("key", whole((0..400).map(|i| i % 2))),
            ("at", times((0..400).map(|i| i / 2 * HOUR + HOUR / 4))),
        ],
    );
    let events: Vec<(i64, i64, i64, i64)> = (0..800)
        .flat_map(|i| {
            let (key, at) = (i % 2, i / 2 * HOUR / 2);
            let corrected = (i / 2 % 10 == 3).then_some((key, at, at + 24 * HOUR, 1000 + i));
            [(key, at, at, i)].into_iter().chain(corrected)
        })
        .collect();
    write(
        &folder.join("events.parquet"),
        vec![
            ("key", whole(events.iter().map(|event| event.0))),
            ("at", times(events.iter().map(|event| event.1))),
            ("known", times(events.iter().map(|event| event.2))),
            ("x", whole(events.iter().map(|event| event.3))),
        ],
    );
}

fn verify(sql: &str, cuts: &[&str]) -> Result<Verification> {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let text = format!(
        r#"
[event_table.events]
path = "events.parquet"
event_time = "at"
known_at = "known"
[feature_set.s]
sql = '''{sql}'''
[feature_set.s.spine]
path = "asked.parquet"
id = "id"
time = "at"
columns = ["key"]
[feature_set.s.latest.events]
on = ["key"]
columns = {{ newest = "x" }}
[feature_set.s.aggregate.day]
table = "events"
on = ["key"]
within = "24h"
columns = {{ total = "sum(x)" }}
[[model]]
name = "m"
baseline = "a"
current = "b"
"#
    );
    let fleet = Fleet::parse(&text, &folder.path().join("fleet.toml"), &Options::new())?;
    let at: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
    let cuts: Vec<Timestamp> = cuts.iter().map(|cut| cut.parse().unwrap()).collect();
    let pipeline = FeaturePipeline::open(&fleet.feature_sets[0], Limits::default(), None)?;
    pipeline.verify(Period { from: None, to: at, as_of: at }, &cuts)
}

fn accused(found: &Verification) -> Vec<&str> {
    let mut names: Vec<&str> = found.cuts.iter().flat_map(|cut| cut.different.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn what_sees_the_future_is_found_and_named_alone() {
    for (sql, leak) in [
        // A window one row too far, over the spine and over the events.
        ("SELECT row_id, newest, lead(key) OVER (ORDER BY row_id) AS leak FROM spine", "leak"),
        (
            "WITH smooth AS (SELECT *, avg(x) OVER (PARTITION BY key ORDER BY known_at, x ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS \
             y, row_number() OVER (PARTITION BY key, event_time ORDER BY known_at) AS version FROM events) \
             SELECT s.row_id, s.total, e.y AS leak FROM spine s LEFT JOIN smooth e ON e.key = s.key AND e.version = 1 AND \
             e.event_time = date_trunc('hour', s.prediction_time)",
            "leak",
        ),
        // A join without known_at.
        (
            "SELECT s.row_id, s.newest, max(e.x) AS leak FROM spine s LEFT JOIN events e ON e.key = s.key AND e.event_time < \
             s.prediction_time + INTERVAL '2 hours' GROUP BY s.row_id, s.newest",
            "leak",
        ),
        // A correction that came later: the newest version of an event of the past.
        (
            "WITH newest AS (SELECT *, row_number() OVER (PARTITION BY key, event_time ORDER BY known_at DESC) AS version FROM events) \
             SELECT s.row_id, s.newest, s.total, e.x AS leak FROM spine s LEFT JOIN newest e ON e.key = s.key AND e.version = 1 AND \
             e.event_time = date_trunc('hour', s.prediction_time) - INTERVAL '30 minutes'",
            "leak",
        ),
        // A figure over all events, also those to come.
        ("SELECT row_id, newest, newest - (SELECT avg(x) FROM events) AS leak FROM spine", "leak"),
        // A number of rows that are still to come.
        ("SELECT row_id, total, count(*) OVER () - row_id AS leak FROM spine", "leak"),
    ] {
        let found = verify(sql, &[]).unwrap();
        assert!(!found.passed() && found.reproducible, "{sql}");
        assert_eq!(accused(&found), [leak], "{sql}");
        let cut = found.cuts.iter().find(|cut| !cut.different.is_empty()).unwrap();
        let example = &cut.different[leak].example;
        assert_ne!(example.with_future, example.without_future, "{sql}");
        assert!(example.prediction_time.parse::<Timestamp>().unwrap() <= cut.at, "{sql}");
    }
}

#[test]
fn what_uses_only_what_was_known_is_not_accused() {
    for sql in [
        "SELECT row_id, newest, total FROM spine",
        "SELECT row_id, lag(newest) OVER (PARTITION BY key ORDER BY row_id) AS before, total FROM spine",
        "SELECT s.row_id, max(e.x) AS largest FROM spine s LEFT JOIN events e ON e.key = s.key AND e.known_at < s.prediction_time \
         GROUP BY s.row_id",
        // An event of the instant of the cut itself is deleted, and no prediction up to it may see it.
        "SELECT s.row_id, count(e.x) AS seen FROM spine s LEFT JOIN events e ON e.key = s.key AND e.known_at < s.prediction_time AND \
         e.known_at >= s.prediction_time - INTERVAL '6 hours' GROUP BY s.row_id",
    ] {
        let found = verify(sql, &[]).unwrap();
        assert!(found.passed(), "{sql}: {:?}", found.cuts);
        // Quarters, and the correction that came latest.
        assert!(
            found.cuts.len() >= 4 && found.cuts.iter().any(|cut| cut.chosen.contains("'events'")),
            "{:?}",
            found.cuts
        );
        let given = verify(sql, &["1970-01-03T00:00:00Z", "1970-01-03T00:15:00Z"]).unwrap();
        assert!(given.passed() && given.cuts.len() == 2);
    }
}

#[test]
fn a_cut_that_deletes_nothing_or_leaves_nothing_proves_nothing() {
    let sql = "SELECT row_id, lead(key) OVER (ORDER BY row_id) AS leak FROM spine";
    for cut in ["1960-01-01T00:00:00Z", "1980-01-01T00:00:00Z"] {
        let found = verify(sql, &[cut]).unwrap();
        assert!(!found.passed() && accused(&found).is_empty() && !found.cuts[0].tells(), "{cut}");
    }
}
