//! What people decide is put down with their name and their reason, and is not lost. What the program decides about retrain
//! events it decides by rows that are what the audit says.

use std::cell::RefCell;
use std::fs;

use driftsweep_ops::retrain::statement::event_sha256;
use driftsweep_ops::store::{Cooldown, MeasurementRecord, RetrainEvent, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::jobs::sql;
use crate::support::night::{Kept, Night, trained};
use crate::support::output::{all_output, parsed};
use crate::support::world::World;

#[test]
fn a_request_to_judge_again_is_made_by_a_person_and_not_lost_to_a_tick_that_is_under_way() {
    let world = World::new(1, "");
    let fleet = world.fleet_file();
    for store in &world.stores() {
        let _ = fs::remove_dir_all(world.folder.path().join("state"));
        world.ticked(store, "2026-01-02T03:00:00Z");
        let again = |more: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_driftsweep"));
            command.args(["tick", fleet.to_str().unwrap(), "--format", "json", "--now", "2026-01-02T04:00:00Z"]);
            command.args(["--again", "model-00000"]).args(more).arg("--state").arg(world.folder.path().join("state"));
            command.env("DRIFTSWEEP_STORE", store).env_remove("USER").output().unwrap()
        };
        let (by, why) = (["--by", "ana"], ["--reason", "the table was corrected"]);
        for (more, words) in [
            (&[][..], "--reason"),
            (&by, "--reason"),
            (&why, "--by"),
            (&["--by", "ana", "--reason", " "], "must not be empty"),
        ] {
            let refused = again(more);
            assert_eq!(refused.status.code(), Some(2), "{more:?}: {}", all_output(&refused));
            assert!(all_output(&refused).contains(words), "{more:?}: {}", all_output(&refused));
        }
        let whole = [by, why].concat();
        // Another tick would end the waiting without having seen the corrected table.
        let mut other = Store::open(store, &world.fleet().name).unwrap();
        let refused = other.with_lock("tick", |_| Ok(again(&whole))).unwrap();
        assert_eq!(refused.status.code(), Some(13), "{}", all_output(&refused));
        assert!(
            other.waiting().unwrap().is_empty() && other.last_verdict("model-00000", Timestamp::MAX).unwrap().is_some()
        );
        drop(other);
        let done = again(&whole);
        assert_eq!(parsed(&done)["caught_up"], json!(["model-00000"]), "{}", all_output(&done));
        let exported = world.command(store, &["audit", "export", fleet.to_str().unwrap()]).stdout;
        let exported = String::from_utf8(exported).unwrap();
        let records: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [record] = &records.iter().filter(|record| record["kind"] == "sweep.again").collect::<Vec<_>>()[..] else {
            panic!("one request")
        };
        assert_eq!((&record["actor"], &record["body"]["reason"]), (&json!("ana"), &json!("the table was corrected")));
    }
}

#[test]
fn a_mute_and_its_end_and_a_closed_event_name_a_person() {
    let world = World::new(1, "[defaults.trigger]\ndrift.persistence = \"1 of 1\"\n");
    let (store, fleet) = (&world.stores()[0], world.fleet_file());
    let fleet = fleet.to_str().unwrap();
    world.ticked(store, "2026-01-02T03:00:00Z");
    let opened = world.ticked(store, "2026-01-03T03:00:00Z");
    let id = opened["events"][0]["id"].as_str().unwrap();
    let commands: [(&str, &[&str]); 3] = [
        ("mute.set", &["mute", "model-00000", fleet, "--for", "1d", "--reason", "r"]),
        ("mute.lift", &["unmute", "model-00000", fleet, "--reason", "r"]),
        ("event.close", &["events", "close", id, fleet, "--outcome", "dismissed"]),
    ];
    for (_, command) in commands {
        let nobody = world.command(store, command);
        assert_eq!(nobody.status.code(), Some(2), "{command:?}: {}", all_output(&nobody));
        assert!(all_output(&nobody).contains("--by"), "{command:?}: {}", all_output(&nobody));
        let somebody = world.command(store, &[command, &["--by", "ana"]].concat());
        assert!(somebody.status.success(), "{command:?}: {}", all_output(&somebody));
    }
    let exported = String::from_utf8(world.command(store, &["audit", "export", fleet]).stdout).unwrap();
    let records: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (kind, _) in commands {
        let record = records.iter().find(|record| record["kind"] == kind).unwrap();
        assert_eq!(record["actor"], "ana", "{record}");
    }
}

/// Rows of a table that a decision about a model reads.
struct Kind {
    table: &'static str,
    /// Of which model; empty for all.
    model: &'static str,
    /// The row.
    row: &'static str,
    /// How it is edited.
    set: &'static str,
    /// In what a row differs that is added, and that row.
    added: &'static [(&'static str, &'static str)],
    added_row: &'static str,
    /// Whether the model has an event at the next sweep, once the rows are as they were.
    later: bool,
}

/// All kinds, but for models that wait for their data.
const KINDS: [Kind; 10] = [
    Kind {
        table: "mute",
        model: "model-00002",
        row: "model = 'model-00002'",
        set: "until = 1",
        added: &[("trigger_type", "'volume'")],
        added_row: "trigger_type = 'volume'",
        later: false,
    },
    Kind {
        table: "event",
        model: "model-00000",
        row: "model = 'model-00000' AND triggered_at = 1767405600000000",
        set: "outcome = 'failed'",
        added: &[("id", "'e' || id"), ("triggered_at", "5")],
        added_row: "triggered_at = 5",
        later: true,
    },
    Kind {
        table: "firing",
        model: "model-00000",
        row: "model = 'model-00000' AND due = 1767405600000000",
        set: "outcome = 'muted'",
        added: &[("due", "5")],
        added_row: "due = 5",
        later: true,
    },
    Kind {
        table: "model",
        model: "model-00000",
        row: "name = 'model-00000'",
        set: "volume_fired = 5",
        added: &[],
        added_row: "",
        later: true,
    },
    Kind {
        table: "baseline",
        model: "model-00000",
        row: "model = 'model-00000' AND seq = 1",
        set: "set_at = set_at - 5",
        added: &[("seq", "2")],
        added_row: "seq = 2",
        later: true,
    },
    Kind {
        table: "run",
        model: "model-00000",
        row: "model = 'model-00000' AND attempt = 1",
        set: "started_at = started_at - 5",
        added: &[("attempt", "7")],
        added_row: "attempt = 7",
        later: true,
    },
    Kind {
        table: "sweep",
        model: "",
        row: "as_of = 1767319200000000",
        set: "id = 'x'",
        added: &[("as_of", "5")],
        added_row: "as_of = 5",
        later: true,
    },
    Kind {
        table: "verdict",
        model: "model-00000",
        row: "model = 'model-00000' AND as_of = 1767319200000000",
        set: "data_hash = 'x'",
        added: &[("as_of", "1767319200000005")],
        added_row: "as_of = 1767319200000005",
        later: true,
    },
    Kind {
        table: "hit",
        model: "model-00000",
        row: "model = 'model-00000' AND as_of = 1767405600000000",
        set: "segment = 'x'",
        added: &[("as_of", "1767319200000005")],
        added_row: "as_of = 1767319200000005",
        later: true,
    },
    Kind {
        table: "quality",
        model: "model-00000",
        row: "model = 'model-00000'",
        set: "row_count = 5",
        added: &[("kind", "'estimated'")],
        added_row: "kind = 'estimated'",
        later: true,
    },
];

/// Three models whose drift was answered: the first was trained, the others were not to be. All drift again in the next night,
/// and the last is muted.
fn answered(which: usize) -> Night {
    let extra = "[approval]\napprovers = [[\"ana\"], [\"cto\"]]\n[defaults.trigger]\ncooldown = \"1d\"\n\
                 drift.persistence = \"1 of 1\"\n[defaults.retrain]\nstakes = \"high\"\nretries = 0\ncommand = [\"true\"]\n";
    let world = World::new(3, extra);
    let store = match which {
        0 => world.folder.path().join("store.sqlite").display().to_string(),
        _ => world.stores()[which].clone(),
    };
    let state = RefCell::new(world.folder.path().join("state"));
    let night = Night { world, store, state };
    night.tick("2026-01-02T03:00:00Z");
    night.tick("2026-01-03T03:00:00Z");
    trained(&night);
    for model in ["model-00001", "model-00002"] {
        let rejected = night.answer("reject", model, "2026-01-03T03:59:00Z");
        assert!(rejected.status.success(), "{}", all_output(&rejected));
    }
    let by = ["--by", "ana", "--reason", "quiet", "--now", "2026-01-03T03:59:00Z"];
    let baseline = night.world.folder.path().join("baseline/table-00000.parquet").display().to_string();
    for command in [&["mute", "model-00002", "--for", "900d"][..], &["baseline", "set", "model-00000", &baseline]] {
        let done = night.run(&[command, &by].concat());
        assert!(done.status.success(), "{}", all_output(&done));
    }
    let as_of: Timestamp = "2026-01-03T02:00:01Z".parse().unwrap();
    let entry = MeasurementRecord {
        model: "model-00000".into(),
        as_of,
        kind: "realised".into(),
        metric: "accuracy".into(),
        since: as_of,
        before: as_of,
        rows: 1000,
        value: 0.93,
        low: 0.9,
        high: 0.96,
    };
    night.open().add_quality(&entry).unwrap();
    assert_eq!(night.problems(), Vec::<String>::new());
    night
}

/// The models of which a tick has opened events.
fn opened(ticked: &Value) -> Vec<String> {
    let mut models: Vec<String> =
        ticked["events"].as_array().unwrap().iter().map(|event| event["subject"].as_str().unwrap().into()).collect();
    models.sort();
    models
}

/// Deletes, edits or adds a row: the condition for it.
fn edit(night: &Night, kind: &Kind, how: &str) -> &'static str {
    let (name, table) = (night.name(), kind.table);
    let statement = match how {
        "deleted" => format!("DELETE FROM {table} WHERE fleet = '{name}' AND {}", kind.row),
        "edited" => format!("UPDATE {table} SET {} WHERE fleet = '{name}' AND {}", kind.set, kind.row),
        _ => {
            let tables = night.tables();
            let columns: Vec<&str> = tables[table].iter().map(|(column, _)| &**column).collect();
            let value = |column: &str| {
                kind.added
                    .iter()
                    .find(|(name, _)| *name == column)
                    .map_or(column.to_owned(), |(_, value)| (*value).to_owned())
            };
            let values: Vec<String> = columns.iter().map(|column| value(column)).collect();
            format!(
                "INSERT INTO {table} ({}) SELECT {} FROM (SELECT * FROM {table} WHERE fleet = '{name}' AND {} LIMIT 1) AS one",
                columns.join(", "),
                values.join(", "),
                kind.row
            )
        }
    };
    assert!(sql(&night.store, &statement) > 0, "{statement}");
    if how == "added" { kind.added_row } else { kind.row }
}

fn put_back(kept: &Kept<'_>, night: &Night, kind: &Kind, row: &str) {
    if kind.table == "model" {
        // The tick has written other columns.
        let name = night.name();
        sql(&night.store, &format!("UPDATE model SET volume_fired = NULL WHERE fleet = '{name}' AND {row}"));
    } else {
        kept.put_back(kind.table, row);
    }
}

#[test]
fn no_event_is_opened_by_a_row_that_was_edited_whether_it_is_put_back_or_left() {
    let stores = World::new(1, "").stores().len();
    for which in 0..stores {
        let night = answered(which);
        let kept = night.keep();
        let mut states = 0..;
        let mut anew = || {
            *night.state.borrow_mut() = night.world.folder.path().join(format!("state{}", states.next().unwrap()));
        };
        anew();
        assert_eq!(opened(&night.tick("2026-01-04T03:00:00Z")), ["model-00000", "model-00001"], "without an edit");
        kept.restore_all();
        for kind in &KINDS {
            for how in ["deleted", "edited", "added"] {
                let what = format!("{} {how} in {}", kind.table, night.store);
                if how == "added" && kind.added.is_empty() {
                    // A row of another model decides nothing about this one.
                    continue;
                }
                anew();
                let row = edit(&night, kind, how);
                let ticked = night.ticked("2026-01-04T03:00:00Z");
                assert_eq!(ticked.status.code(), Some(15), "{what}: {}", all_output(&ticked));
                let told: Value = serde_json::from_slice(&ticked.stdout).unwrap();
                let mut others = vec!["model-00000", "model-00001"];
                others.retain(|model| !kind.model.is_empty() && *model != kind.model);
                assert_eq!(opened(&told), others, "{what}: {}", all_output(&ticked));
                let named = format!("{}", told["tampered"]);
                assert!(named.contains(kind.table), "{what}: {named}");
                assert!(
                    String::from_utf8_lossy(&ticked.stderr).contains("opens no event"),
                    "{what}: {}",
                    all_output(&ticked)
                );
                let model = if kind.model.is_empty() { "model-00000" } else { kind.model };
                let refused = night.open().last_record(model, &["event.refuse"]).unwrap().unwrap();
                assert!(refused.body["doubts"].to_string().contains(kind.table), "{what}: {}", refused.body);
                // A retry of the scheduler does not hide it.
                let status = night.run(&["status", "--exit-code"]);
                assert!(
                    status.status.code() == Some(11) && all_output(&status).contains("refused"),
                    "{what}: {}",
                    all_output(&status)
                );
                let found = night.problems();
                assert!(found.iter().any(|problem| problem.contains(kind.table)), "{what}, left: {found:?}");
                if (kind.table, how) == ("model", "deleted") {
                    // The tick has met the model anew.
                    kept.restore_all();
                    continue;
                }
                put_back(&kept, &night, kind, row);
                assert_eq!(night.problems(), Vec::<String>::new(), "{what}, put back");
                let next = opened(&night.tick("2026-01-05T03:00:00Z"));
                assert_eq!(next.iter().any(|opened| opened == model), kind.later, "{what}, put back: {next:?}");
                kept.restore_all();
            }
        }
    }
}

#[test]
fn a_model_is_not_judged_for_a_sweep_because_of_a_row_that_was_edited() {
    let extra = "[defaults.trigger]\ncooldown = \"1d\"\ndrift.persistence = \"1 of 1\"\n";
    let stores = World::new(1, "").stores().len();
    for which in 0..stores {
        let world = World::new(1, extra);
        let store = match which {
            0 => world.folder.path().join("store.sqlite").display().to_string(),
            _ => world.stores()[which].clone(),
        };
        let state = RefCell::new(world.folder.path().join("state"));
        let night = Night { world, store, state };
        night.tick("2026-01-02T03:00:00Z");
        let late = night.world.folder.path().join("current/2026-01-02/table-00000.parquet");
        let away = night.world.folder.path().join("away");
        fs::rename(&late, &away).unwrap();
        night.tick("2026-01-03T03:00:00Z");
        assert_eq!(night.open().waiting().unwrap().len(), 1);
        fs::rename(&away, &late).unwrap();
        let kind = Kind {
            table: "waiting",
            model: "model-00000",
            row: "as_of = 1767405600000000",
            set: "until = until + 5",
            added: &[("as_of", "1767319200000000")],
            added_row: "as_of = 1767319200000000",
            later: true,
        };
        let kept = night.keep();
        let due = |ticked: &Value| {
            let events = ticked["events"].as_array().unwrap().iter();
            events.map(|event| event["time"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (third, fourth) = ("2026-01-03T02:00:00Z", "2026-01-04T02:00:00Z");
        assert_eq!(due(&night.tick("2026-01-04T03:00:00Z")), [third], "without an edit");
        // The sweep of the fourth is judged by the rows as the tick has left them.
        for (how, wanted) in [("deleted", &[][..]), ("edited", &[fourth]), ("added", &[])] {
            kept.restore_all();
            *night.state.borrow_mut() = night.world.folder.path().join(how);
            edit(&night, &kind, how);
            let ticked = night.ticked("2026-01-04T03:00:00Z");
            assert_eq!(ticked.status.code(), Some(15), "{how}: {}", all_output(&ticked));
            let told: Value = serde_json::from_slice(&ticked.stdout).unwrap();
            assert_eq!(due(&told), wanted, "{how}: {}", all_output(&ticked));
            assert!(told["tampered"].to_string().contains("table waiting"), "{how}: {}", told["tampered"]);
        }
    }
}

#[test]
fn a_schedule_that_was_put_back_to_fire_again_opens_nothing_and_is_put_off_until_the_row_is_right() {
    let extra = "[defaults.trigger]\nschedule = \"0 1 * * *\"\noff = [\"drift\"]\ncooldown = \"0d\"\n";
    let world = World::new(1, extra);
    let mut stores = world.stores();
    stores[0] = world.folder.path().join("store.sqlite").display().to_string();
    for store in stores {
        let _ = fs::remove_dir_all(world.folder.path().join("state"));
        let name = world.fleet().name;
        world.ticked(&store, "2026-01-02T03:00:00Z");
        let opened = world.ticked(&store, "2026-01-03T03:00:00Z");
        assert_eq!(opened["events"].as_array().unwrap().len(), 1);
        let id = opened["events"][0]["id"].as_str().unwrap();
        let at = "2026-01-03T03:10:00Z".parse().unwrap();
        assert!(Store::open(&store, &name).unwrap().close_event(id, at, "dismissed", "x").unwrap());
        let day = SignedDuration::from_hours(24).as_micros();
        let put = |by: &str| {
            let text = format!("UPDATE model SET scheduled = scheduled {by} WHERE fleet = '{name}'");
            assert_eq!(sql(&store, &text), 1);
        };
        put(&format!("- {day}"));
        for now in ["2026-01-03T04:00:00Z", "2026-01-03T05:00:00Z"] {
            let ticked = world.tick(&store, now, &[]);
            assert_eq!(ticked.status.code(), Some(15), "{}", all_output(&ticked));
            assert!(all_output(&ticked).contains("column scheduled"), "{}", all_output(&ticked));
            assert_eq!(parsed(&ticked)["events"], json!([]));
        }
        put(&format!("+ {day}"));
        assert_eq!(Store::open(&store, &name).unwrap().verify_audit(&[]).unwrap().problems, Vec::<String>::new());
        let next = world.ticked(&store, "2026-01-04T01:30:00Z");
        assert_eq!(next["events"].as_array().unwrap().len(), 1, "{next}");
    }
}

#[test]
fn verify_names_an_event_that_was_opened_while_it_was_not_to_be_and_its_job_is_not_started() {
    let stores = World::new(1, "").stores().len();
    for which in 0..stores {
        let night = answered(which);
        let fleet = night.world.fleet();
        let kept = night.keep();
        // As a tick opens one that was shown other rows.
        let open = |model: &str, at: &str| {
            let at: Timestamp = at.parse().unwrap();
            let (id, body) = (format!("e-{model}-{}", night.name()), json!({ "figures": "0".repeat(100) }).to_string());
            let sha256 = event_sha256(&body);
            let told = json!({
                "model": model, "trigger": "drift", "event_sha256": sha256,
                "cooldown": Cooldown::new(&fleet, SignedDuration::from_hours(24)),
            });
            let event = RetrainEvent {
                id: id.clone(),
                model: model.into(),
                trigger: "drift".into(),
                triggered_at: at,
                body,
                closed: None,
            };
            night
                .open()
                .transaction(|store| {
                    store.add_event(&event)?;
                    store.append_audit(at, "driftsweep", "event.open", &id, told.clone())
                })
                .unwrap();
            id
        };
        let night_of_4 = "2026-01-04T02:00:00Z";
        open("model-00001", night_of_4);
        assert_eq!(night.problems(), Vec::<String>::new(), "as it was to be");
        kept.restore_all();
        let name = night.name();
        let close = format!(
            "UPDATE event SET closed_at = 1767409200000000, outcome = 'dismissed' WHERE fleet = '{name}' AND closed_at IS NULL"
        );
        for (model, at, edit, why) in [
            ("model-00002", night_of_4, None, "while the trigger was muted until"),
            ("model-00001", "2026-01-04T01:59:59Z", None, "while the model cooled down until 2026-01-04T02:00:00Z"),
            ("model-00001", night_of_4, Some(&close), "of the model was open"),
        ] {
            if edit.is_some() {
                // The row of another event says that it was closed.
                let id = format!("other-{name}");
                let event = RetrainEvent {
                    id: id.clone(),
                    model: model.into(),
                    trigger: "drift".into(),
                    triggered_at: "2026-01-03T02:00:00Z".parse().unwrap(),
                    body: "{}".into(),
                    closed: None,
                };
                night.open().add_event(&event).unwrap();
            }
            edit.into_iter().for_each(|edit| assert_eq!(sql(&night.store, edit), 1));
            let id = open(model, at);
            let found = night.problems();
            assert!(found.iter().any(|problem| problem.contains(&id) && problem.contains(why)), "{why}: {found:?}");
            let verified = night.run(&["audit", "verify"]);
            assert_eq!(verified.status.code(), Some(15), "{}", all_output(&verified));
            let ticked = night.ticked("2026-01-03T04:30:00Z");
            assert_eq!(ticked.status.code(), Some(15), "{why}: {}", all_output(&ticked));
            assert!(night.open().jobs(&id).unwrap().is_empty(), "{why}: a job was made of it");
            kept.restore_all();
        }
    }
}
