//! Rows whose bodies cannot be read: damaged, of a newer version, with a value or without a field that this version knows.
//! Each is set aside with its reason, and stops nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use driftsweep_ops::store::{Record, SYSTEM_ACTOR, Store};
use serde_json::{Value, json};

use super::format_1::{Place, copied, select, states};
use crate::support::jobs::sql;
use crate::support::seal;

/// Between the last sweep of the fixture and the next.
const NOW: &str = "2026-01-04T12:20:00Z";

/// Changes a body.
type Change = fn(&mut Value);

/// A body that was made unreadable, and words of the reason.
struct Damage {
    of: &'static str,
    change: Change,
    reason: &'static str,
}

const NEWER: Damage = Damage {
    of: "a newer version",
    change: |body| body["version"] = 2.into(),
    reason: "it was written by a newer version of driftsweep: the format of ",
};

/// What is no JSON any more.
const GARBAGE: Damage = Damage { of: "garbage", change: |body| *body = Value::Null, reason: "EOF while parsing" };

impl Damage {
    fn apply(&self, body: &str) -> String {
        let mut changed: Value = serde_json::from_str(body).unwrap();
        (self.change)(&mut changed);
        match changed {
            Value::Null => body.chars().take(body.len() / 2).collect(),
            changed => changed.to_string(),
        }
    }
}

impl Place {
    fn store(&self) -> String {
        self.text("state/driftsweep.sqlite")
    }

    /// Damages one body.
    fn damage(&self, (table, column, row): (&str, &str, &str), damage: &Damage) {
        let body = &select(self, &format!("SELECT {column} FROM {table} WHERE {row}"))[0][0];
        let changed = damage.apply(body).replace('\'', "''");
        assert_eq!(sql(&self.store(), &format!("UPDATE {table} SET {column} = '{changed}' WHERE {row}")), 1);
    }

    /// A person accepts the store as it is: the rows are what the audit says, as if a newer program had written them.
    fn accept(&self) {
        let output = self.run(&["audit", "verify", "--format", "json"]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let head = format!("{}:{}", found["head"][0], found["head"][1].as_str().unwrap());
        let accept = ["audit", "accept", "--by", "ana", "--reason", "a test", "--head", &head];
        assert!(self.run(&accept).status.success());
        assert_eq!(self.run(&["audit", "verify"]).status.code(), Some(0));
    }

    /// A tick: its exit code, and what it did.
    fn tick(&self, now: &str) -> (Option<i32>, Value) {
        let output = self.run(&["tick", "--threads", "1", "--format", "json", "--now", now]);
        let done = serde_json::from_slice(&output.stdout);
        (output.status.code(), done.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
    }

    /// A command that only reads: its exit code, its JSON and its messages.
    fn read(&self, args: &[&str]) -> (Option<i32>, Value, String) {
        let output = self.run(&[args, &["--format", "json"]].concat());
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), messages)
    }

    /// Ticks, and checks that one row was set aside, and that nothing else was stopped.
    #[track_caller]
    fn sets_aside(&self, table: &str, id: &str, damage: &Damage) {
        let (code, done) = self.tick(NOW);
        let rows = done["jobs"]["unreadable"].as_array().unwrap();
        let row = rows.iter().find(|row| row["table"] == table && row["id"] == id);
        let reason = row.unwrap_or_else(|| panic!("{}: {rows:?}", damage.of))["reason"].as_str().unwrap();
        assert!(reason.contains(damage.reason), "{}: {reason}", damage.of);
        assert_eq!(code, Some(11), "{}: {rows:?}", damage.of);
    }
}

/// What becomes of all jobs but one in a tick.
fn others(place: &Place, without: &str) -> Vec<(String, String)> {
    states(place).into_iter().filter(|(model, _)| model != without).collect()
}

#[test]
fn a_job_that_cannot_be_read_is_set_aside() {
    let (_copy, undisturbed) = copied();
    assert_eq!(undisturbed.tick(NOW).0, Some(0));
    let expected = others(&undisturbed, "requested");
    assert!(expected.iter().any(|(model, state)| model == "costed" && state == "running"));
    for damage in [
        GARBAGE,
        NEWER,
        Damage {
            of: "an unknown value",
            change: |body| body["state"]["state"] = "paused".into(),
            reason: "unknown variant `paused`",
        },
        Damage {
            of: "a missing field",
            change: |body| drop(body.as_object_mut().unwrap().shift_remove("deadline")),
            reason: "missing field `deadline`",
        },
    ] {
        let (_copy, place) = copied();
        place.damage(("job", "body", "model = 'requested'"), &damage);
        place.accept();
        let id = &select(&place, "SELECT id FROM job WHERE model = 'requested'")[0][0];
        place.sets_aside("job", id, &damage);
        let (code, _, messages) = place.read(&["jobs", "show", id]);
        assert!(code == Some(2) && messages.contains("its row cannot be read"), "{}: {messages}", damage.of);
        let (code, jobs, messages) = place.read(&["jobs", "list", "--all"]);
        assert_eq!((code, jobs.as_array().unwrap().len()), (Some(11), 12), "{}: {messages}", damage.of);
        assert!(messages.contains(damage.reason) && messages.contains("jobs cancel"), "{}: {messages}", damage.of);
        let mut states: Vec<(String, String)> = jobs
            .as_array()
            .unwrap()
            .iter()
            .map(|job| (&job["model"], &job["state"]["state"]))
            .map(|(model, state)| (model.as_str().unwrap().to_owned(), state.as_str().unwrap().to_owned()))
            .collect();
        states.sort();
        assert_eq!(states, expected, "{}", damage.of);
    }
}

#[test]
fn a_run_that_cannot_be_read_is_set_aside() {
    let (_copy, undisturbed) = copied();
    undisturbed.tick(NOW);
    let expected = states(&undisturbed);
    for damage in [
        GARBAGE,
        NEWER,
        Damage {
            of: "an unknown value",
            change: |body| body["stakes"] = "extreme".into(),
            reason: "unknown variant `extreme`",
        },
        Damage {
            of: "a missing field",
            change: |body| drop(body.as_object_mut().unwrap().shift_remove("timeout")),
            reason: "missing field `timeout`",
        },
    ] {
        let (_copy, place) = copied();
        place.damage(("run", "retrain", "model = 'failed'"), &damage);
        place.accept();
        let id = &select(&place, "SELECT job FROM run WHERE model = 'failed'")[0][0];
        place.sets_aside("run", &format!("{id}-1"), &damage);
        assert_eq!(states(&place), expected, "{}", damage.of);
        for reading in [&["budget", "--now", NOW][..], &["jobs", "show", id]] {
            let (code, _, messages) = place.read(reading);
            assert!(code == Some(11) && messages.contains(damage.reason), "{}: {reading:?} {messages}", damage.of);
        }
    }
}

#[test]
fn figures_that_cannot_be_read_stop_nothing() {
    for damage in [
        GARBAGE,
        NEWER,
        Damage {
            of: "an unknown value",
            change: |body| body["drift"]["persistence"]["origin"] = "elsewhere".into(),
            reason: "unknown variant `elsewhere`",
        },
        Damage {
            of: "a missing field",
            change: |body| drop(body.as_object_mut().unwrap().shift_remove("off")),
            reason: "missing field `off`",
        },
    ] {
        let (_copy, place) = copied();
        let last = "model = 'drifts' AND as_of = (SELECT MAX(as_of) FROM verdict)";
        place.damage(("verdict", "body", last), &damage);
        place.accept();
        assert_eq!(place.tick(NOW).0, Some(0), "{}", damage.of);
        let (code, _, messages) = place.read(&["explain", "drifts"]);
        assert_eq!(code, Some(2), "{}: {messages}", damage.of);
        assert!(messages.contains("figures of model 'drifts' at 2026-01-04T02:00:00Z: cannot be read: "), "{messages}");
        assert!(messages.contains(damage.reason), "{}: {messages}", damage.of);
        for others in [&["explain", "scorer"][..], &["explain", "drifts", "--at", "2026-01-03T12:00:00Z"]] {
            assert_eq!(place.read(others).0, Some(0), "{}", damage.of);
        }
    }
}

#[test]
fn a_status_that_cannot_be_read_is_set_aside_until_the_next_sweep() {
    for damage in [
        GARBAGE,
        NEWER,
        Damage {
            of: "an unknown value",
            change: |body| body["failures"] = json!({ "quiet": [{ "cause": "mood", "reason": "x" }] }),
            reason: "did not match any variant",
        },
        Damage {
            of: "a missing field",
            change: |body| drop(body.as_object_mut().unwrap().shift_remove("as_of")),
            reason: "missing field `as_of`",
        },
    ] {
        let (_copy, place) = copied();
        place.damage(("status", "body", "fleet = 'stored'"), &damage);
        place.accept();
        let (code, status, messages) = place.read(&["status", "--exit-code"]);
        assert_eq!((code, &status["status"]), (Some(11), &Value::Null), "{}: {messages}", damage.of);
        assert!(messages.contains(damage.reason), "{}: {messages}", damage.of);
        place.sets_aside("status", "of the last sweep", &damage);
        assert_eq!(states(&place)["requested"], "running", "{}", damage.of);
        // The next sweep has a status of its own.
        let (_, done) = place.tick("2026-01-05T03:00:00Z");
        assert_eq!(done["status"]["as_of"], "2026-01-05T02:00:00Z", "{}", damage.of);
        assert_eq!(place.tick("2026-01-05T03:01:00Z").0, Some(0), "{}", damage.of);
        assert_eq!(place.read(&["status"]).0, Some(0), "{}", damage.of);
    }
}

#[test]
fn an_event_that_cannot_be_read_is_shown_as_one() {
    let (_copy, undisturbed) = copied();
    undisturbed.tick(NOW);
    let expected = states(&undisturbed);
    for damage in [
        GARBAGE,
        Damage {
            of: "a newer version",
            change: |body| body["type"] = "io.driftsweep.retrain.requested.v2".into(),
            reason: "install the version that wrote it",
        },
    ] {
        let (_copy, place) = copied();
        place.damage(("event", "body", "model = 'failed'"), &damage);
        place.accept();
        let id = &select(&place, "SELECT id FROM event WHERE model = 'failed'")[0][0];
        assert_eq!(place.tick(NOW).0, Some(0), "{}", damage.of);
        assert_eq!(states(&place), expected, "{}", damage.of);
        for reading in [&["jobs", "show", id][..], &["events", "list", "--all"]] {
            let (code, page, messages) = place.read(reading);
            assert!(code == Some(11) && messages.contains(damage.reason), "{}: {reading:?} {messages}", damage.of);
            assert!(page.is_object() || page.as_array().unwrap().len() == expected.len(), "{}: {page}", damage.of);
        }
    }
    // Other values, and fields that are not there, are shown as they are.
    let changes: [Change; 2] = [|body| body["data"]["trigger_type"] = "mood".into(), |body| body["data"] = json!({})];
    for change in changes {
        let (_copy, place) = copied();
        place.damage(("event", "body", "model = 'failed'"), &Damage { of: "", change, reason: "" });
        place.accept();
        assert_eq!(place.read(&["events", "list", "--all"]).0, Some(0));
    }
}

#[test]
fn a_message_that_cannot_be_read_is_abandoned_and_the_others_are_sent() {
    let changes: [(&str, Change, i32); 4] = [
        ("garbage", |body| *body = Value::Null, 1),
        ("a newer version", |body| body["type"] = "io.driftsweep.job.ask.v2".into(), 0),
        ("an unknown value", |body| body["data"]["kind"] = "job.pause".into(), 0),
        ("a missing field", |body| body["data"] = json!({}), 0),
    ];
    for (of, change, dead) in changes {
        let (_copy, place) = copied();
        let waiting =
            "channel = 'log' AND seq = (SELECT MIN(seq) FROM outbox WHERE channel = 'log' AND state = 'pending')";
        let count = select(&place, "SELECT seq || '' FROM outbox WHERE channel = 'log' AND state = 'pending'").len();
        assert!(count > 3);
        place.damage(("outbox", "body", waiting), &Damage { of, change, reason: "" });
        let (code, done) = place.tick(NOW);
        assert_eq!((code, &done["jobs"]["messages"]["dead"]), (Some(0), &json!(dead)), "{of}");
        let left =
            select(&place, "SELECT state, COALESCE(error, '') FROM outbox WHERE channel = 'log' AND state <> 'sent'");
        assert_eq!(left.len(), usize::from(dead == 1), "{of}: {left:?}");
        assert!(left.iter().all(|row| row[1].contains("the message is not JSON")), "{of}: {left:?}");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_the_others_are_shown() {
    let (_copy, place) = copied();
    let rows = || select(&place, "SELECT seq || '' FROM audit WHERE fleet = 'stored'").len();
    let shown = |place: &Place| {
        let output = place.run(&["audit", "export"]);
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        (output.status.code(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, lines, messages) = shown(&place);
    assert_eq!((code, lines), (Some(0), rows()), "{messages}");
    assert_eq!(sql(&place.store(), "UPDATE audit SET body = '{' WHERE fleet = 'stored' AND seq = 2"), 1);
    let (code, lines, messages) = shown(&place);
    assert_eq!((code, lines), (Some(11), rows() - 1), "{messages}");
    assert!(messages.contains("table audit, row 2 cannot be read"), "{messages}");
    let output = place.run(&["audit", "show"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(11) && text.contains("job."), "{text}");
    assert_eq!(place.run(&["audit", "verify"]).status.code(), Some(15));
}

/// Appends a record, as a newer program would.
fn append(place: &Place, subject: &str, kind: &str, body: Value) {
    let mut store = Store::open(&place.store(), "stored").unwrap();
    let mut last = None;
    store
        .audit("", |record| {
            last = Some(record);
            Ok(())
        })
        .unwrap();
    let last: Record = last.unwrap();
    let (seq, previous, actor) = (last.seq + 1, last.hash.clone(), SYSTEM_ACTOR.to_owned());
    let (kind, subject, writes, hash) = (kind.to_owned(), subject.to_owned(), None, String::new());
    let mut record = Record { seq, actor, kind, subject, body, writes, previous, hash, ..last };
    record.hash = record.expected_hash().unwrap();
    let text = serde_json_canonicalizer::to_string(&record.body).unwrap();
    let at = record.at.as_microsecond();
    let clock = record.clock_at.unwrap().as_microsecond();
    let insert = format!(
        "INSERT INTO audit (fleet, seq, at, actor, kind, subject, body, previous, hash, clock_at) VALUES ('stored', {seq}, \
         {at}, '{}', '{}', '{}', '{text}', '{}', '{}', {clock})",
        record.actor, record.kind, record.subject, record.previous, record.hash
    );
    assert_eq!(sql(&place.store(), &insert), 1);
    assert_eq!(sql(&place.store(), &format!("UPDATE audit_head SET seq = {seq}, hash = '{}'", record.hash)), 1);
}

#[test]
fn a_step_that_cannot_be_read_keeps_its_job_from_being_started_and_no_other() {
    let (_copy, undisturbed) = copied();
    undisturbed.tick(NOW);
    let expected = others(&undisturbed, "requested");
    // What is no JSON is no record: `audit verify` says so, and the whole audit is in doubt.
    for (of, body, reason) in [
        ("a newer version", json!({ "step": "cost", "version": 2 }), "the format of steps of jobs has version 2"),
        ("an unknown value", json!({ "step": "pause" }), "unknown variant `pause`"),
        ("a missing field", json!({ "step": "cost" }), "missing field"),
        ("a version that is none", json!({ "step": "queue", "version": "x" }), "not a whole number from 1 on"),
    ] {
        let (_copy, place) = copied();
        let id = &select(&place, "SELECT id FROM job WHERE model = 'requested'")[0][0];
        append(&place, id, "job.cost", body);
        let (code, done) = place.tick(NOW);
        let found = done["jobs"]["tampered"].to_string();
        assert_eq!(code, Some(15), "{of}: {found}");
        assert!(found.contains(reason), "{of}: {found}");
        assert_eq!(states(&place)["requested"], "requested", "{of}");
        assert_eq!(others(&place, "requested"), expected, "{of}");
        let output = place.run(&["audit", "verify", "--format", "json"]);
        let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = verified["problems"].as_array().unwrap();
        assert_eq!((output.status.code(), problems.len()), (Some(15), 1), "{of}: {problems:?}");
        assert!(problems[0].as_str().unwrap().contains(reason), "{of}: {problems:?}");
    }
}

/// Replaces the one place of a text in a file.
fn edited(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    let [at] = places[..] else { panic!("{} places", places.len()) };
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn files_of_a_newer_version_are_refused_and_left_as_they_are() {
    let (_copy, place) = copied();
    let newer = |below: &str, from: &[u8], to: &[u8], sealed: &dyn Fn(&[u8]) -> Vec<u8>| {
        let path = place.path(below);
        let bytes = sealed(&edited(&fs::read(&path).unwrap(), from, to));
        fs::write(&path, &bytes).unwrap();
        (path, bytes)
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let seal_baseline = |bytes: &[u8]| seal::baseline(bytes).unwrap();
    newer("baselines/plain.baseline", br#""version":"1""#, br#""version":"9""#, &seal_baseline);
    let output = place.command(&["compare", "baselines/plain.baseline", "data/current.parquet"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    for words in ["newer version of driftsweep", "the format of baseline files has version 9", "or build it again"] {
        assert!(said(&output).contains(words), "{}", said(&output));
    }

    let seal_journal = |bytes: &[u8]| seal::journal(bytes, &[]);
    let (path, bytes) = newer("interrupted/sweep.journal", b"\xa7version\x02", b"\xa7version\x03", &seal_journal);
    let sweep = ["sweep", "interrupted.toml", "--state", "interrupted", "--now", "2026-01-04T02:00:00Z"];
    let output = place.command(&sweep);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    for words in ["sweep.journal: ", "the format of journals has version 3", "or delete the file"] {
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    assert!(fs::read(&path).unwrap() == bytes);
    fs::remove_file(path).unwrap();
    assert_eq!(place.command(&sweep).status.code(), Some(0));

    // A file of this version has its version in its metadata; those of the fixture have none.
    assert_eq!(place.tick("2026-01-05T03:00:00Z").0, Some(0));
    let night = place.path("state/history/date=2026-01-05");
    let file = fs::read_dir(&night).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let below = format!("state/history/date=2026-01-05/{file}");
    newer(&below, b"driftsweep.history\x18\x011", b"driftsweep.history\x18\x012", &|bytes| bytes.to_vec());
    let (code, history, messages) = place.read(&["history", "--model", "drifts", "--metrics", "psi"]);
    assert_eq!(code, Some(11), "{messages}");
    assert!(messages.contains("the format of history files has version 2"), "{messages}");
    let nights: BTreeSet<&str> =
        history["entries"].as_array().unwrap().iter().map(|entry| entry["as_of"].as_str().unwrap()).collect();
    assert_eq!(nights, BTreeSet::from(["2026-01-03T02:00:00Z", "2026-01-04T02:00:00Z"]));
    assert_eq!(history["left_out"].as_array().unwrap().len(), 1);
}
