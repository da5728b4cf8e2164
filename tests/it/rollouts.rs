//! Releases: traffic is divided by stages, both arms are compared, and what follows is done once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use driftsweep_release::RolloutState;
use jiff::SignedDuration;
use serde_json::json;

use crate::support::at;
use crate::support::release::{Arms, BEGIN, Release};

const ROWS: usize = 4000;

#[test]
fn a_candidate_that_is_as_good_goes_through_all_stages_and_becomes_the_champion() {
    for release in Release::all("") {
        let nights = release.nights(0, 8, Arms::new(0.9, 0.9), ROWS);
        for night in &nights {
            assert_eq!((&night.failures, &night.tampered), (&vec![], &vec![]));
        }
        let states: Vec<&str> = nights.iter().map(|night| night.states.get("m").map_or("", String::as_str)).collect();
        assert_eq!(
            states,
            [
                "version 2: running, stage 'canary'",
                "version 2: running, stage 'half'",
                "version 2: running, stage 'full'",
                "",
                "version 2: settled",
                "",
                "",
                "",
            ]
        );
        assert_eq!(release.statuses(), ["retired", "champion"]);
        assert_eq!(release.share(), 1.0);
        for (kind, times) in [("create", 1), ("begin", 1), ("promote", 2), ("applied", 3), ("settle", 1), ("hold", 0)] {
            assert_eq!(release.records(&format!("rollout.{kind}")).len(), times, "{kind}");
        }
        release.verified();
    }
}

#[test]
fn a_worse_candidate_is_taken_back_in_the_tick_that_finds_it_and_production_stays() {
    for release in Release::all("") {
        release.nights(0, 1, Arms::new(0.8, 0.9), ROWS);
        assert_eq!(release.share(), 0.2);
        let nights = release.nights(1, 3, Arms::new(0.8, 0.9), ROWS);
        let back =
            nights.iter().position(|night| night.states.get("m").is_some_and(|state| state.contains("rolled back")));
        assert_eq!(back, Some(0), "{nights:?}");
        assert_eq!(release.share(), 0.0);
        assert_eq!(release.statuses(), ["champion", "rejected"]);
        let [record] = &release.records("rollout.roll_back")[..] else { panic!() };
        assert!(record.body["reason"].as_str().unwrap().starts_with("quality: 0.7"), "{}", record.body);
        let [applied, back] = &release.records("rollout.applied")[..] else { panic!() };
        assert_eq!((&applied.body["share"], &back.body["share"]), (&json!(0.2), &json!(0.0)));
        release.verified();
    }
}

#[test]
fn killed_at_any_step_a_release_ends_as_it_would_have() {
    for release in Release::all("") {
        let arms = Arms::new(0.9, 0.9);
        let mut kills = 0;
        for night in 0..6 {
            let now = at(BEGIN) + SignedDuration::from_hours(24 * night);
            if night > 0 {
                release.predict(now - SignedDuration::from_hours(24), Arms { share: release.share(), ..arms }, ROWS);
            }
            // Each attempt is killed one step later than the one before, until one is not.
            for kill_at in 0.. {
                let mut steps = 0;
                let mut die = |_: &str| {
                    steps += 1;
                    assert!(steps <= kill_at, "killed");
                };
                if catch_unwind(AssertUnwindSafe(|| release.pass(now, &mut die))).is_ok() {
                    break;
                }
                kills += 1;
            }
        }
        assert!(kills > 15, "{kills}");
        assert_eq!(release.statuses(), ["retired", "champion"]);
        assert_eq!((release.share(), release.rollout().state), (1.0, RolloutState::Settled));
        for (kind, times) in [("begin", 1), ("promote", 2), ("applied", 3), ("settle", 1)] {
            assert_eq!(release.records(&format!("rollout.{kind}")).len(), times, "{kind}");
        }
        release.verified();
    }
}

#[test]
fn twenty_passes_at_once_take_each_step_once() {
    for release in Release::all("") {
        let arms = Arms::new(0.9, 0.9);
        for night in 0..5 {
            let now = at(BEGIN) + SignedDuration::from_hours(24 * night);
            if night > 0 {
                release.predict(now - SignedDuration::from_hours(24), Arms { share: release.share(), ..arms }, ROWS);
            }
            let (fleet, store, state) = (&release.fleet, &release.store, release.state());
            std::thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| crate::support::release::pass_once(fleet, store, &state, now));
                }
            });
        }
        release.pass(at(BEGIN) + SignedDuration::from_hours(24 * 5), &mut |_| ());
        assert_eq!(release.statuses(), ["retired", "champion"]);
        assert_eq!((release.share(), release.rollout().state), (1.0, RolloutState::Settled));
        for (kind, times) in [("begin", 1), ("promote", 2), ("applied", 3), ("settle", 1)] {
            assert_eq!(release.records(&format!("rollout.{kind}")).len(), times, "{kind}");
        }
        release.verified();
    }
}
