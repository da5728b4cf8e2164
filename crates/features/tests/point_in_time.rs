//! Lookups beside the plainest program that there is: for each prediction, look at every event.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use driftsweep::model::Options;
use driftsweep_features::{FeaturePipeline, Limits, Period};
use driftsweep_fleet::Fleet;
use jiff::Timestamp;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn maybe<T>(&mut self, missing_one_in: u64, value: T) -> Option<T> {
        (self.below(missing_one_in) > 0).then_some(value)
    }
}

#[derive(Clone, Debug)]
struct Asked {
    id: i64,
    key: Option<String>,
    shop: Option<i64>,
    at: i64,
}

#[derive(Clone, Debug)]
struct Event {
    key: Option<String>,
    shop: Option<i64>,
    at: Option<i64>,
    known: Option<i64>,
    x: Option<f64>,
    n: Option<i64>,
}

const SECOND: i64 = 1_000_000;
/// The range of all times, in seconds: short, so that many are equal.
const RANGE: u64 = 60;

fn asked(random: &mut Random, rows: usize) -> Vec<Asked> {
    (0..rows)
        .map(|id| Asked {
            id: id as i64,
            key: random.maybe(20, ()).map(|()| format!("k{}", random.below(4))),
            shop: random.maybe(20, ()).map(|()| random.below(2) as i64),
            at: (random.below(RANGE) as i64) * SECOND,
        })
        .collect()
}

fn events(random: &mut Random, rows: usize) -> Vec<Event> {
    (0..rows)
        .map(|_| {
            let at = random.below(RANGE) as i64 * SECOND;
            // Late, at once, and sometimes known before.
            let after = [0, 0, 1, 2, 10, 30, -3][random.below(7) as usize] * SECOND;
            // One tick before or after the borders of windows.
            let after = after + [0, 0, 1, -1][random.below(4) as usize];
            let x = match random.below(20) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => 1e17,
                _ => (random.below(1000) as f64 - 500.0) / 7.0,
            };
            let n = random.below(5) as i64;
            Event {
                key: random.maybe(20, ()).map(|()| format!("k{}", random.below(4))),
                shop: random.maybe(20, ()).map(|()| random.below(2) as i64),
                at: random.maybe(30, at),
                known: random.maybe(30, at + after),
                x: random.maybe(6, x),
                n: random.maybe(6, n),
            }
        })
        .collect()
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn texts<'a>(values: impl Iterator<Item = &'a Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.map(Option::as_deref)))
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

fn write_asked(path: &Path, rows: &[Asked]) {
    write(
        path,
        vec![
            ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id))) as ArrayRef),
            ("key", texts(rows.iter().map(|row| &row.key))),
            ("shop", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.shop)))),
            ("at", times(rows.iter().map(|row| Some(row.at)))),
        ],
    );
}

fn write_events(path: &Path, rows: &[Event]) {
    write(
        path,
        vec![
            ("key", texts(rows.iter().map(|row| &row.key))),
            ("shop", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.shop))) as ArrayRef),
            ("at", times(rows.iter().map(|row| row.at))),
            ("known", times(rows.iter().map(|row| row.known))),
            ("x", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.x)))),
            ("n", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.n)))),
        ],
    );
}

const FLEET: &str = r#"
[event_table.events]
path = "events*.parquet"
event_time = "at"
known_at = "known"

[feature_set.all.spine]
path = "asked*.parquet"
id = "id"
time = "at"
columns = ["key", "shop"]

[feature_set.all.latest.newest]
table = "events"
on = ["key", "shop"]
columns = { latest_x = "x", latest_n = "n" }

[feature_set.all.latest.fresh]
table = "events"
on = ["key"]
max_age = "10s"
columns = { fresh_n = "n" }

[feature_set.all.aggregate.window]
table = "events"
on = ["key", "shop"]
within = "15s"
columns = { total = "sum(x)", mean_n = "avg(n)", rows = "count(*)", values = "count(x)", least = "min(n)", most = "max(n)", first = "first_value(n)", any = "bool_or(n = 3)", large = "count(*) FILTER (WHERE n > 2)", ratio = "CAST(sum(n) AS DOUBLE) / count(n)", spread = "stddev(n)" }

[[model]]
name = "m"
baseline = "a.parquet"
current = "b.parquet"
feature_set = "all"
"#;

fn pipeline(folder: &Path, text: &str, limits: Limits) -> FeaturePipeline {
    let fleet = Fleet::parse(text, &folder.join("fleet.toml"), &Options::new()).unwrap();
    FeaturePipeline::open(&fleet.feature_sets[0], limits, None).unwrap()
}

fn whole() -> Period {
    let at: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
    Period { from: None, to: at, as_of: at }
}

fn computed(pipeline: &FeaturePipeline, period: Period) -> RecordBatch {
    let file = tempfile::NamedTempFile::new().unwrap();
    pipeline.compute(period, file.path()).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file.path()).unwrap()).unwrap().build().unwrap();
    let schema = datafusion::arrow::array::RecordBatchReader::schema(&reader);
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// The latest of the events that were known, with its versions.
fn latest<'a>(events: impl Iterator<Item = &'a Event>, before: i64) -> Option<&'a Event> {
    let known = events.filter(|event| event.at.is_some() && event.known.is_some_and(|known| known < before));
    // Equal ones are in the order of their values, missing ones first and NaN last.
    let x = |event: &Event| event.x.map(|x| if x.is_nan() { (1, 0) } else { (0, ordered(x)) });
    known.max_by_key(|event| (event.at, event.known, x(event), event.n))
}

fn ordered(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits }
}

fn floats(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().collect()
}

fn integers(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().collect()
}

fn bits(x: Option<f64>) -> Option<u64> {
    x.map(|x| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() })
}

#[test]
fn each_prediction_sees_exactly_what_was_known_before_it() {
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let asked = asked(&mut random, 150);
        let events = events(&mut random, [0, 5, 300][seed as usize % 3]);
        write_asked(&folder.path().join("asked.parquet"), &asked);
        write_events(&folder.path().join("events.parquet"), &events);
        let batch = computed(&pipeline(folder.path(), FLEET, Limits::default()), whole());
        assert_eq!(batch.num_rows(), asked.len());
        let by_id: BTreeMap<i64, &Asked> = asked.iter().map(|row| (row.id, row)).collect();
        let ids = integers(&batch, "id");
        assert!(ids.iter().map(|id| by_id[&id.unwrap()].at).is_sorted());
        for (row, id) in ids.iter().enumerate() {
            let asked = by_id[&id.unwrap()];
            let same_key = |event: &&Event| event.key.is_some() && event.key == asked.key;
            let same = |event: &&Event| same_key(event) && event.shop.is_some() && event.shop == asked.shop;
            let newest = latest(events.iter().filter(same), asked.at);
            let place = format!("seed {seed}, {asked:?}");
            assert_eq!(bits(floats(&batch, "latest_x")[row]), bits(newest.and_then(|event| event.x)), "{place}");
            assert_eq!(integers(&batch, "latest_n")[row], newest.and_then(|event| event.n), "{place}");
            // The latest event decides, also where it is too old.
            let of_key = |event: &&Event| same_key(event);
            let known: Vec<&Event> = events.iter().filter(of_key).collect();
            let newest_at = known
                .iter()
                .filter(|event| event.at.is_some() && event.known.is_some_and(|known| known < asked.at))
                .map(|event| (event.at, event.known))
                .max();
            let candidates: Vec<Option<i64>> =
                known.iter().filter(|event| newest_at == Some((event.at, event.known))).map(|event| event.n).collect();
            let fresh = newest_at
                .filter(|(at, _)| at.unwrap() >= asked.at - 10 * SECOND)
                .and_then(|_| candidates.into_iter().max().flatten());
            assert_eq!(integers(&batch, "fresh_n")[row], fresh, "{place}");

            let window: Vec<&Event> = events
                .iter()
                .filter(same)
                .filter(|event| event.at.is_some())
                .filter(|event| event.known.is_some_and(|known| known < asked.at && known >= asked.at - 15 * SECOND))
                .collect();
            let n: Vec<i64> = window.iter().filter_map(|event| event.n).collect();
            let x: Vec<f64> = window.iter().filter_map(|event| event.x).collect();
            assert_eq!(integers(&batch, "rows")[row], Some(window.len() as i64), "{place}");
            assert_eq!(integers(&batch, "values")[row], Some(x.len() as i64), "{place}");
            assert_eq!(integers(&batch, "least")[row], n.iter().min().copied(), "{place}");
            assert_eq!(integers(&batch, "most")[row], n.iter().max().copied(), "{place}");
            assert_eq!(integers(&batch, "large")[row], Some(n.iter().filter(|n| **n > 2).count() as i64), "{place}");
            // Functions that cannot take values away; equal times are in the order of the values.
            let any = batch.column_by_name("any").unwrap().as_boolean();
            assert_eq!(any.is_valid(row).then(|| any.value(row)), (!n.is_empty()).then(|| n.contains(&3)), "{place}");
            let mut in_order = window.clone();
            in_order.sort_by_key(|event| event.known);
            let first = in_order.first().map(|event| event.known);
            let firsts = in_order.iter().filter(|event| Some(event.known) == first).map(|event| event.n);
            let found = integers(&batch, "first")[row];
            assert!(first.is_none() && found.is_none() || firsts.clone().any(|n| n == found), "{place}: {found:?}");
            let mean = (!n.is_empty()).then(|| n.iter().sum::<i64>() as f64 / n.len() as f64);
            assert_eq!(bits(floats(&batch, "mean_n")[row]), bits(mean), "{place}");
            assert_eq!(bits(floats(&batch, "ratio")[row]), bits(mean), "{place}");
            let spread = (n.len() > 1).then(|| {
                let (sum, squares) = (n.iter().sum::<i64>(), n.iter().map(|n| n * n).sum::<i64>());
                let count = n.len() as i64;
                ((count * squares - sum * sum) as f64 / count as f64 / (count - 1) as f64).sqrt()
            });
            assert_eq!(bits(floats(&batch, "spread")[row]), bits(spread), "{place}");
            // A sum that knows no order: of exact integers where they are small enough, or not finite.
            let total = floats(&batch, "total")[row];
            match x.is_empty() {
                true => assert_eq!(total, None, "{place}"),
                false if x.iter().any(|x| x.is_nan()) => assert!(total.unwrap().is_nan(), "{place}"),
                false if x.contains(&f64::INFINITY) => assert_eq!(total, Some(f64::INFINITY), "{place}"),
                false => {
                    let mut largest_first = x.clone();
                    largest_first.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
                    let plain: f64 = largest_first.iter().sum();
                    assert!(
                        (total.unwrap() - plain).abs() <= 1e-12 * plain.abs().max(1.0),
                        "{place}: {total:?} {plain}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_order_of_rows_and_files_and_the_memory_change_no_bit() {
    let mut random = Random(99);
    let asked = asked(&mut random, 3000);
    let events = events(&mut random, 20_000);
    let mut results = Vec::new();
    for variant in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let (mut asked, mut events) = (asked.clone(), events.clone());
        if variant > 0 {
            for i in (1..asked.len()).rev() {
                asked.swap(i, random.below(i as u64 + 1) as usize);
            }
            for i in (1..events.len()).rev() {
                events.swap(i, random.below(i as u64 + 1) as usize);
            }
        }
        let parts = 1 + 2 * variant;
        for (part, rows) in asked.chunks(asked.len().div_ceil(parts)).enumerate() {
            write_asked(&folder.path().join(format!("asked-{part}.parquet")), rows);
        }
        for (part, rows) in events.chunks(events.len().div_ceil(parts)).enumerate() {
            write_events(&folder.path().join(format!("events-{part}.parquet")), rows);
        }
        let limits = match variant {
            2 => Limits { memory: 32 << 20, threads: 1 },
            threads => Limits { threads: 1 + 3 * threads, ..Limits::default() },
        };
        results.push(computed(&pipeline(folder.path(), FLEET, limits), whole()));
    }
    assert_eq!(results[0].num_rows(), asked.len());
    assert!(results.iter().all(|batch| *batch == results[0]));
}

#[test]
fn the_version_is_of_what_is_computed_and_not_of_how_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(5);
    write_asked(&folder.path().join("asked.parquet"), &asked(&mut random, 10));
    write_events(&folder.path().join("events.parquet"), &events(&mut random, 10));
    let version = |text: &str| pipeline(folder.path(), text, Limits::default()).version().unwrap().features;
    let with = |sql: &str| {
        FLEET.replace(
            "[feature_set.all.spine]",
            &format!("[feature_set.all]\nsql = '''{sql}'''\n[feature_set.all.spine]"),
        )
    };
    let first = version(&with("SELECT row_id, latest_n + 1 AS next, rows FROM spine"));
    for same in [
        "select   row_id,\n latest_n+1 as next, -- a comment\n rows from spine",
        "SELECT row_id, (latest_n + 1) AS next, spine.rows FROM spine",
    ] {
        assert_eq!(version(&with(same)), first, "{same}");
    }
    for other in [
        "SELECT row_id, latest_n + 2 AS next, rows FROM spine",
        "SELECT row_id, latest_n + 1 AS following, rows FROM spine",
    ] {
        assert_ne!(version(&with(other)), first, "{other}");
    }
    let text = with("SELECT row_id, latest_n + 1 AS next, rows FROM spine");
    for (from, to) in [
        ("known_at = \"known\"", "delay = \"1h\""),
        ("known_at = \"known\"", "delay = \"2h\""),
        ("within = \"15s\"", "within = \"16s\""),
        ("max_age = \"10s\"", "max_age = \"11s\""),
    ] {
        assert_ne!(version(&text.replace(from, to)), first, "{to}");
    }
    let one = version(&text.replace("known_at = \"known\"", "delay = \"1h\""));
    assert_ne!(one, version(&text.replace("known_at = \"known\"", "delay = \"2h\"")));
}

#[test]
fn a_query_that_loses_or_repeats_predictions_or_is_not_determined_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    write_asked(&folder.path().join("asked.parquet"), &asked(&mut random, 50));
    write_events(&folder.path().join("events.parquet"), &events(&mut random, 200));
    for (sql, words) in [
        ("SELECT row_id, rows FROM spine WHERE row_id <> 17", "no row for row 17 of the spine"),
        ("SELECT row_id, rows FROM spine WHERE row_id < 40", "no row for row 40"),
        ("SELECT row_id, rows FROM spine UNION ALL SELECT 3, 0", "more than one row for row 3"),
        ("SELECT s.row_id, e.x FROM spine s JOIN events e ON e.key = s.key", "row"),
        ("SELECT row_id, rows FROM spine UNION ALL SELECT 50, 0", "more rows than the spine has"),
        ("SELECT row_id, rows FROM spine UNION ALL SELECT NULL, 0", "without row_id"),
        ("SELECT rows FROM spine", "does not give row_id"),
        ("SELECT CAST(row_id AS VARCHAR) AS row_id, rows FROM spine", "give that of the spine unchanged"),
        ("SELECT row_id FROM spine", "gives no feature"),
        ("SELECT row_id, random() AS x FROM spine", "random() gives another value on each run"),
        ("SELECT row_id, now() AS x FROM spine", "now() gives another value on each run"),
        ("SELECT row_id, latest_m FROM spine", "latest_m"),
        ("SELECT row_id, x FROM spine, other", "other"),
        ("CREATE TABLE t AS SELECT 1", "DDL"),
        ("COPY spine TO '/tmp/x.parquet'", "DML"),
        ("SELECT row_id FROM", "Expected: identifier"),
        ("SELECT row_id, (SELECT sum(9223372036854775807) FROM events) AS x FROM spine", "beyond 64 bits"),
        ("", "blank"),
    ] {
        let text = FLEET.replace(
            "[feature_set.all.spine]",
            &format!("[feature_set.all]\nsql = '''{sql}'''\n[feature_set.all.spine]"),
        );
        let fleet = Fleet::parse(&text, &folder.path().join("fleet.toml"), &Options::new());
        let target = folder.path().join("out.parquet");
        let done = fleet.and_then(|fleet| {
            FeaturePipeline::open(&fleet.feature_sets[0], Limits::default(), None)?.compute(whole(), &target)
        });
        let error = done.map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{sql}: {error}");
        assert!(!target.exists(), "{sql}");
    }
}
