//! What people decide is put down with their name and their reason, and is not lost.

use std::fs;

use driftsweep::store::Store;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::nights::{parsed, said};
use super::tick::World;

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
            assert_eq!(refused.status.code(), Some(2), "{more:?}: {}", said(&refused));
            assert!(said(&refused).contains(words), "{more:?}: {}", said(&refused));
        }
        let whole = [by, why].concat();
        // Another tick would end the waiting without having seen the corrected table.
        let mut other = Store::open(store, &world.fleet().name).unwrap();
        let refused = other.alone("tick", |_| Ok(again(&whole))).unwrap();
        assert_eq!(refused.status.code(), Some(13), "{}", said(&refused));
        assert!(
            other.waiting().unwrap().is_empty() && other.last_verdict("model-00000", Timestamp::MAX).unwrap().is_some()
        );
        drop(other);
        let done = again(&whole);
        assert_eq!(parsed(&done)["caught_up"], json!(["model-00000"]), "{}", said(&done));
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
        assert_eq!(nobody.status.code(), Some(2), "{command:?}: {}", said(&nobody));
        assert!(said(&nobody).contains("--by"), "{command:?}: {}", said(&nobody));
        let somebody = world.command(store, &[command, &["--by", "ana"]].concat());
        assert!(somebody.status.success(), "{command:?}: {}", said(&somebody));
    }
    let exported = String::from_utf8(world.command(store, &["audit", "export", fleet]).stdout).unwrap();
    let records: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (kind, _) in commands {
        let record = records.iter().find(|record| record["kind"] == kind).unwrap();
        assert_eq!(record["actor"], "ana", "{record}");
    }
}
