//! A trained candidate is judged by its gates before anything follows from it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;

use driftsweep_extensions::http::Http;
use driftsweep_ops::retrain::{JobState, VersionStatus};
use driftsweep_ops::rollouts::{self, RolloutContext};
use driftsweep_training::gate::Verdict;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::jobs::{open, pass};
use crate::support::output::says;
use crate::support::script::Place;

const ROWS: usize = 600;

const LABELS: &str = "current = \"b.parquet\"\n[model.labels]\npredictions = \"c.csv\"\nfrom = \"l.csv\"\nid = \"id\"\ntime = \
                      \"at\"\nlabel = \"late\"\nprediction = \"said\"\n";

/// A table of predictions, of which the last of every `wrong` rows is wrong.
fn table(column: &str, wrong: usize) -> String {
    let line = |row: usize| format!("r{row},{}\n", usize::from(row.is_multiple_of(3) != (row % wrong == wrong - 1)));
    format!("id,{column}\n{}", (0..ROWS).map(line).collect::<String>())
}

/// A model that is trained by a script; it answers what stands there, and the files are beside the fleet file.
fn place(answer: &str, candidate: usize, champion: usize) -> Place {
    let script = format!("echo start >> starts; echo '{answer}' > $DRIFTSWEEP_ANSWER_FILE");
    let gates =
        "[defaults.gates]\nmin_rows = 500\nmetrics = [{ metric = \"accuracy\", at_least = 0.8, better_by = 0.01 }]";
    let place = Place::with(gates, &script).changed("current = \"b.parquet\"\n", LABELS);
    for (name, text) in [
        ("c.csv", table("said", candidate)),
        ("p.csv", table("said", champion)),
        ("l.csv", table("late", usize::MAX)),
        ("b.csv", "x\n1\n".into()),
    ] {
        fs::write(place.path(name), text).unwrap();
    }
    place
}

const ANSWER: &str = r#"{"cost": 5, "validation": {"candidate": "c.csv", "champion": "p.csv", "labels": "l.csv"}, "model": {"source": "candidates/1"}}"#;

/// The versions in the registry: status and reason of each.
fn versions(place: &Place) -> Vec<(VersionStatus, String)> {
    let versions = open(&place.store, &place.yard.fleet).versions(None).unwrap();
    versions.into_iter().map(|version| (version.status, version.reason)).collect()
}

fn told(place: &Place, kind: &str) -> Vec<Value> {
    let told = fs::read_to_string(place.path("told")).unwrap_or_default();
    let told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    told.filter(|event| event["data"]["kind"] == kind).collect()
}

/// A command on the store and the state of a place.
fn command(place: &Place, args: &[&str]) -> Output {
    let state = place.state.display().to_string();
    place.program(&[args, &["--store", &place.store, "--state", &state]].concat(), &[])
}

fn page(place: &Place) -> String {
    let shown = command(place, &["jobs", "show", "event"]);
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[test]
fn a_candidate_that_passes_its_gates_is_accepted_with_their_figures_in_the_audit() {
    let place = place(ANSWER, 50, 10);
    place.ends();
    let job = place.job();
    assert_eq!(job.state, JobState::Succeeded);
    let report = job.gates.as_ref().unwrap();
    assert_eq!((report.verdict, report.rows), (Verdict::Passed, ROWS));
    assert_eq!(place.records("job.gate").len(), 1);
    assert_eq!(versions(&place), [(VersionStatus::Candidate, "accepted by its gates".into())]);
    let [end] = &place.records("job.succeed")[..] else { panic!() };
    let names: Vec<&str> =
        end["report"]["gates"].as_array().unwrap().iter().map(|gate| gate["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"accuracy.better_by"), "{names:?}");
    assert_eq!(command(&place, &["audit", "verify"]).status.code(), Some(0));
    let page = page(&place);
    assert!(page.contains("accuracy.better_by") && page.contains("better by 0.08"), "{page}");
}

#[test]
fn a_candidate_that_is_no_better_is_rejected_and_that_is_told_with_what_to_look_at() {
    let place = place(ANSWER, 10, 10_000);
    place.ends();
    let job = place.job();
    let JobState::RejectedByGate { reason } = &job.state else { panic!("{job:?}") };
    assert!(reason.contains("accuracy.better_by") && reason.contains("worse by"), "{reason}");
    assert_eq!(job.spent.cents(), 500);
    assert_eq!(versions(&place), [(VersionStatus::Rejected, reason.clone())]);
    let promoted = command(&place, &["models", "promote", "m", "1", "--by", "ana", "--reason", "all the same"]);
    assert_eq!(promoted.status.code(), Some(2), "{}", crate::support::output::all_output(&promoted));
    assert_eq!(place.records("job.reject_by_gate").len(), 1);
    assert_eq!(place.records("job.succeed").len(), 0);
    let verified = command(&place, &["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", crate::support::output::all_output(&verified));
    command(&place, &["tick", "--now", &(place.now + SignedDuration::from_mins(5)).to_string()]);
    let [message] = &told(&place, "job.reject_by_gate")[..] else { panic!("{:?}", told(&place, "job.reject_by_gate")) };
    let text = message.to_string();
    assert!(text.contains("about_gates") && text.contains("keep the champion"), "{text}");
    assert!(page(&place).contains("rejected by gate"), "{}", page(&place));
}

#[test]
fn without_what_it_is_judged_by_nothing_is_accepted() {
    for (answer, words) in [
        (r#"{"cost": 5}"#, "named no predictions of the candidate"),
        (r#"{"validation": {"candidate": "c.csv", "labels": "l.csv"}}"#, "there is no champion"),
        (r#"{"validation": {"candidate": "c.csv", "champion": "c.csv", "labels": "l.csv"}}"#, "compared with itself"),
        (r#"{"validation": "c.csv"}"#, "named no predictions of the candidate"),
        (r#"{"validation": {"candidate": "c.csv", "labels": "l.csv", "more": "x"}}"#, "named no predictions"),
        (r#"{"validation": {"candidate": "s3://u:p@b/c.csv", "labels": "l.csv"}}"#, "named no predictions"),
        (r#"{"validation": {"candidate": "c.csv", "labels": "l.csv", "features": "b.csv"}}"#, "no column 'id'"),
    ] {
        let place = place(answer, 50, 10);
        place.ends();
        let job = place.job();
        let JobState::RejectedByGate { reason } = &job.state else { panic!("{answer}: {job:?}") };
        assert!(reason.contains(words), "{answer}: {reason}");
        assert_eq!(job.about_answer.is_some(), words.starts_with("named") && answer.contains("validation"), "{answer}");
    }
}

/// The version that a candidate was compared with, and the one that is in production when it is judged.
#[test]
fn a_candidate_that_was_compared_with_a_former_champion_is_not_accepted() {
    let answer = ANSWER.replace("\"champion\"", "\"champion_version\": 1, \"champion\"");
    for (promoted, accepted) in [("1", true), ("2", false)] {
        let place = place(&answer, 50, 10);
        let by = ["--by", "ana", "--reason", "for a test"];
        for args in [&["register", "m", "s3://m/1"][..], &["register", "m", "s3://m/2"], &["promote", "m", promoted]] {
            let done = command(&place, &[&["models"], args, &by[..]].concat());
            assert_eq!(done.status.code(), Some(0), "{}", crate::support::output::all_output(&done));
        }
        place.ends();
        let job = place.job();
        match accepted {
            true => {
                assert_eq!(job.state, JobState::Succeeded, "{job:?}");
                assert!(page(&place).contains("compared with version 1, which is in production"));
            }
            false => {
                let JobState::RejectedByGate { reason } = &job.state else { panic!("{job:?}") };
                assert!(reason.contains("compared with version 1, and version 2 is in production now"), "{reason}");
            }
        }
    }
}

/// Its row is gone, and the audit has it.
#[test]
fn the_number_of_a_deleted_version_is_not_given_again() {
    let place = place(ANSWER, 50, 10);
    let by = ["--by", "ana", "--reason", "for a test"];
    let done = command(&place, &[&["models", "register", "m", "s3://m/1"][..], &by].concat());
    assert_eq!(done.status.code(), Some(0), "{}", crate::support::output::all_output(&done));
    place.pass();
    crate::support::jobs::sql(&place.store, "DELETE FROM model_version");
    crate::support::processes::until("it waits for its gates", || {
        place.pass();
        place.job().state.name() == "gated"
    });
    let versions = open(&place.store, &place.yard.fleet).versions(None).unwrap();
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [2]);
    let verified = command(&place, &["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(15));
}

#[test]
fn files_that_are_not_there_yet_are_waited_for_an_hour() {
    let place = place(ANSWER, 50, 10);
    fs::rename(place.path("p.csv"), place.path("later")).unwrap();
    place.pass();
    let waits = |summary: &driftsweep_ops::scheduler::PassSummary| {
        summary.failures.iter().any(|failure| failure.reason.contains("p.csv: no such file"))
    };
    crate::support::processes::until("it waits for its gates", || waits(&place.pass()));
    assert_eq!(place.job().state.name(), "gated");
    assert_eq!(versions(&place), [(VersionStatus::Candidate, "trained; its gates have not judged it yet".into())]);
    let promoted = command(&place, &["models", "promote", "m", "1", "--by", "ana", "--reason", "too early"]);
    assert_eq!(promoted.status.code(), Some(2), "{}", crate::support::output::all_output(&promoted));
    fs::rename(place.path("later"), place.path("p.csv")).unwrap();
    place.pass();
    assert_eq!(place.job().state, JobState::Succeeded);
    // And no longer.
    let place = self::place(ANSWER, 50, 10);
    fs::remove_file(place.path("p.csv")).unwrap();
    crate::support::processes::until("it waits for its gates", || waits(&place.pass()));
    place.pass_at(place.now + SignedDuration::from_mins(70));
    assert_eq!(place.job().state.name(), "rejected_by_gate");
}

/// A pass is killed at each of its steps in turn.
#[test]
fn killed_between_any_two_steps_no_candidate_is_lost_and_none_is_trained_twice() {
    let http = Http::new().unwrap();
    for kill_at in 0.. {
        let place = place(ANSWER, 50, 10);
        let (mut steps, mut killed) = (0, false);
        let begun = std::time::Instant::now();
        let mut now: Timestamp = place.now;
        while !place.job_or_none().is_some_and(|job| job.state.is_final()) {
            assert!(begun.elapsed().as_secs() < 60, "{kill_at}: it does not end");
            let mut step = |_: &str| {
                steps += 1;
                assert!(killed || steps <= kill_at, "killed");
            };
            let ran = catch_unwind(AssertUnwindSafe(|| {
                pass(&place.yard.fleet, &place.store, &place.state, &http, now, &mut step)
            }));
            killed |= ran.is_err();
            now += SignedDuration::from_secs(1);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(place.job().state, JobState::Succeeded, "{kill_at}");
        assert_eq!(fs::read_to_string(place.path("starts")).unwrap(), "start\n", "{kill_at}");
        assert_eq!(place.records("job.gate").len(), 1, "{kill_at}");
        assert_eq!(versions(&place), [(VersionStatus::Candidate, "accepted by its gates".into())], "{kill_at}");
        assert_eq!(place.records("job.succeed").len(), 1, "{kill_at}");
        if !killed {
            assert!(kill_at > 5, "{kill_at}");
            return;
        }
    }
}

#[test]
fn the_baseline_of_a_candidate_waits_until_it_is_released_and_the_former_one_can_be_restored() {
    for back in [false, true] {
        let answer = ANSWER.replace("\"cost\": 5", "\"cost\": 5, \"baseline\": \"new.csv\"");
        let rollout = "[model.rollout]\narm = \"arm\"\nproduction = \"old\"\ntraffic = { file = \"weights.json\" }\nsettle = \"0h\"\n\
                       stages = [{ share = 0.5, approval = true }, { share = 1.0 }]\nquality = { matures = \"1d\" }\n";
        let place =
            place(&answer, 50, 10).changed("prediction = \"said\"\n", &format!("prediction = \"said\"\n{rollout}"));
        fs::write(place.path("a.parquet"), "").unwrap();
        let rows: String = (0..2000).map(|x| format!("{x}\n")).collect();
        fs::write(place.path("base.csv"), format!("x\n{rows}")).unwrap();
        fs::write(place.path("new.csv"), format!("x\n{rows}")).unwrap();
        let place = place.changed("baseline = \"a.parquet\"", "baseline = \"base.csv\"");
        place.ends();
        let page = page(&place);
        assert!(page.contains("once the candidate is released"), "{page}");
        let entries = || open(&place.store, &place.yard.fleet).baseline_entries(Some("m")).unwrap();
        let pass = |hours| {
            let (http, now) = (Http::new().unwrap(), place.now + SignedDuration::from_hours(hours));
            let context = RolloutContext { http: &http, state: &place.state, now: &|| now };
            rollouts::pass(&place.yard.fleet, &mut open(&place.store, &place.yard.fleet), &context, &mut |_| ())
                .unwrap()
        };
        pass(1);
        assert_eq!(entries(), []);
        let now = (place.now + SignedDuration::from_hours(2)).to_string();
        let by = ["--by", "ana", "--reason", "for a test", "--now", &now];
        let decide = |action: &str| command(&place, &[&["rollout", action, "m"][..], &by].concat());
        says(&decide("promote"), 0, &["a share of 0.5"]);
        if back {
            says(&decide("rollback"), 0, &["a share of 0"]);
            pass(3);
            assert_eq!((entries(), versions(&place)[0].0), (Vec::new(), VersionStatus::Rejected));
            continue;
        }
        says(&decide("promote"), 0, &["a share of 1"]);
        assert_eq!(entries(), []);
        let summary = pass(3);
        assert_eq!(summary.states["m"], "version 1: settled", "{summary:?}");
        let [entry] = &entries()[..] else { panic!("{:?}", entries()) };
        assert_eq!((entry.number, entry.job.as_deref()), (1, Some("event")));
        assert_eq!(versions(&place)[0].0, VersionStatus::Champion);
        says(
            &command(&place, &["rollout", "show", "m"]),
            0,
            &["baseline.set", "job.gate", "rollout.settle", "number 1"],
        );
        says(&command(&place, &["baseline", "restore", "m", "--by", "ana", "--reason", "x"]), 0, &[]);
        assert_eq!(entries().len(), 2);
        assert_eq!(command(&place, &["audit", "verify"]).status.code(), Some(0));
    }
}
