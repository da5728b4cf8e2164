//! Approvers who are replaced in the fleet file while their answer is waited for; on both stores.

use std::fs;

use serde_json::{Value, json};

use crate::support::night::Night;
use crate::support::output::all_output;

const BEFORE: &str = r#"approvers = [["ana"], ["cto"]]"#;

/// The fleet file with other approvers.
fn replace(night: &Night, from: &str, to: &str) -> String {
    let text = fs::read_to_string(night.world.fleet_file()).unwrap();
    assert!(text.contains(from), "{text}");
    let to = format!("approvers = {to}");
    fs::write(night.world.fleet_file(), text.replace(from, &to)).unwrap();
    to
}

fn state(night: &Night, model: &str) -> Value {
    night.jobs()[model]["state"].clone()
}

/// What `jobs show` and `explain` say of the question about a model.
fn pages(night: &Night, model: &str) -> [String; 2] {
    [all_output(&night.run(&["jobs", "show", &night.id(model)])), all_output(&night.run(&["explain", model]))]
}

#[test]
fn approvers_who_were_all_replaced_make_way_for_those_whom_the_fleet_file_names() {
    for night in Night::all() {
        let (first, second) = ("model-00000", "model-00001");
        let edited = replace(&night, BEFORE, r#"[["dan"], ["eve"]]"#);
        // Before the next tick nobody may answer, and everybody is told who will be asked.
        for who in ["ana", "cto", "dan"] {
            let refused = night.answer_by(who, "approve", first, "2026-01-03T03:10:00Z");
            assert_eq!(refused.status.code(), Some(2), "{}", all_output(&refused));
            let words = "the next tick asks the current approvers: dan, eve";
            assert!(all_output(&refused).contains(words), "{who}: {}", all_output(&refused));
        }
        for page in pages(&night, first) {
            assert!(page.contains("nobody who was asked may answer any more"), "{page}");
        }
        // A pass that replays an earlier time is none of the question's.
        night.tick("2026-01-03T02:30:00Z");
        assert_eq!(state(&night, first)["asked_at"], "2026-01-03T03:00:00Z");
        let ticked = night.tick("2026-01-03T05:00:00Z");
        assert_eq!(ticked["jobs"]["states"], json!({ "awaiting_approval": 2 }));
        let asked = json!(["2026-01-03T05:00:00Z", "2026-01-03T09:00:00Z", 0]);
        let question = |model: &str| {
            let state = state(&night, model);
            json!([state["asked_at"], state["due"], state["level"]])
        };
        assert_eq!([question(first), question(second)], [asked.clone(), asked]);
        let record = night.open().last_record(&night.id(first), &["job.ask_again"]).unwrap().unwrap();
        assert_eq!(
            (&record.body["because"], &record.body["may_answer"]),
            (&json!("nobody_may_answer"), &json!(["dan", "eve"]))
        );
        for page in pages(&night, first) {
            assert!(page.contains("it may be answered by dan, eve"), "{page}");
        }
        let nothing = night.tick("2026-01-03T05:01:00Z");
        assert_eq!(nothing["jobs"]["states"], json!({}), "it is asked again once");
        let refused = night.answer_by("ana", "approve", first, "2026-01-03T05:10:00Z");
        assert!(
            all_output(&refused).contains("'ana' is not an approver; it may be answered by dan, eve"),
            "{}",
            all_output(&refused)
        );
        let taken = night.answer_by("dan", "approve", first, "2026-01-03T05:10:00Z");
        assert!(taken.status.success(), "{}", all_output(&taken));

        // Replaced once more: those who are named now have what is left of the time.
        let edited = replace(&night, &edited, r#"[["fay"]]"#);
        night.tick("2026-01-03T06:00:00Z");
        assert_eq!(question(second), json!(["2026-01-03T06:00:00Z", "2026-01-03T09:00:00Z", 0]));
        replace(&night, &edited, r#"[["gus"]]"#);
        night.tick("2026-01-03T09:00:00Z");
        assert_eq!(state(&night, second)["state"], "expired", "{:?}", night.jobs());
        assert_eq!(night.problems(), [""; 0]);
    }
}

#[test]
fn who_was_asked_and_is_still_an_approver_may_answer_and_who_joined_later_may_not() {
    for night in Night::all() {
        replace(&night, BEFORE, r#"[["dan"], ["cto", "eve"]]"#);
        for page in pages(&night, "model-00000") {
            assert!(page.contains("it may be answered by cto"), "{page}");
        }
        let shown = night.run(&["jobs", "show", &night.id("model-00000"), "--format", "json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["may_answer"], json!(["cto"]));
        assert_eq!(
            night.tick("2026-01-03T05:00:00Z")["jobs"]["states"],
            json!({}),
            "there is no approval request \
                                                                                     again"
        );
        for who in ["ana", "dan", "eve"] {
            let refused = night.answer_by(who, "approve", "model-00000", "2026-01-03T05:10:00Z");
            assert!(all_output(&refused).contains("it may be answered by cto"), "{who}: {}", all_output(&refused));
        }
        let taken = night.answer_by("cto", "approve", "model-00000", "2026-01-03T05:10:00Z");
        assert!(taken.status.success(), "{}", all_output(&taken));
        // Those who joined later are asked with the next level.
        night.tick("2026-01-03T07:00:00Z");
        assert_eq!(state(&night, "model-00001")["level"], 1);
        let taken = night.answer_by("eve", "reject", "model-00001", "2026-01-03T07:10:00Z");
        assert!(taken.status.success(), "{}", all_output(&taken));
        assert_eq!(night.problems(), [""; 0]);
    }
}
