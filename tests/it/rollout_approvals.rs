//! Approvals of stages: who gives them, how they are signed, and that a release follows them.

use driftsweep_ops::notify::{self, AuditedFact};
use driftsweep_release::RolloutState;
use jiff::SignedDuration;

use crate::support::at;
use crate::support::keys::Keys;
use crate::support::output::says;
use crate::support::release::{Arms, BEGIN, Release};

const ROWS: usize = 4000;

/// The second stage needs an approval.
const ASKS: &str = "stages = [{ share = 0.2, lasts = \"1h\" }, { name = \"full\", share = 1.0, approval = true }]\n";

/// The fleet file with keys, and with rules of signatures.
fn with_keys(release: Release, keys: &Keys, signatures: &str) -> Release {
    let text = std::fs::read_to_string(release.path("fleet.toml")).unwrap();
    let begin = text.find("approvers = ").unwrap();
    let end = text.find("[[notify]]").unwrap();
    let (ana, bo) = (keys.public("ana"), keys.public("bo"));
    let rules = format!(
        "approvers = [[\"ana\", \"bo\"]]\nsignatures = \"{signatures}\"\nkeys = {{ ana = \"{ana}\", bo = \"{bo}\" }}\n"
    );
    release.with_fleet(&format!("{}{rules}{}", &text[..begin], &text[end..]))
}

#[test]
fn a_stage_that_needs_approval_waits_for_a_person_who_may_give_it() {
    let release = Release::new(ASKS);
    release.nights(0, 4, Arms::new(0.9, 0.9), ROWS);
    assert_eq!(release.rollout().state, RolloutState::Running { stage: 0 });
    let [asked] = &release.records("rollout.ask")[..] else { panic!() };
    assert!(asked.body["reason"].as_str().unwrap().contains("quality"), "{}", asked.body);
    let answer = |by| {
        release.run(&["rollout", "promote", "m", "--by", by, "--reason", "looks good", "--now", "2026-03-04T08:00:00Z"])
    };
    says(&answer("eve"), 2, &["'eve' may not approve it", "ana"]);
    says(&answer("ana"), 0, &["stage 'full'"]);
    assert_eq!(release.share(), 1.0);
}

#[test]
fn the_approval_of_a_stage_is_signed_where_the_rules_require_it_and_for_this_stage_only() {
    let Some(keys) = Keys::new(&["ana", "bo", "eve"]) else { return };
    for release in Release::all(ASKS) {
        let release = with_keys(release, &keys, "always");
        release.nights(0, 4, Arms::new(0.9, 0.9), ROWS);
        let [asked] = &release.records("rollout.ask")[..] else { panic!() };
        assert_eq!(asked.body["must_be_signed"], true, "{}", asked.body);
        let run = |args: &[&str]| release.run(&[args, &["--now", "2026-03-04T08:00:00Z"]].concat());
        let page =
            ["approval of stage 'full'", "ana, bo", "it must be signed (signatures = \"always\"", "--sign KEYFILE"];
        says(&run(&["rollout", "show", "m"]), 0, &page);

        let answer = |by: &str, reason: &str, more: &[&str]| {
            run(&[&["rollout", "promote", "m", "--by", by, "--reason", reason], more].concat())
        };
        let refused = |by: &str, more: &[&str], words: &str| {
            let records = release.records("").len();
            says(&answer(by, "looks good", more), 2, &[words]);
            assert_eq!((release.share(), release.records("").len()), (0.2, records), "{words}");
        };
        refused(
            "ana",
            &[],
            "the answer must be signed (signatures = \"always\": every answer must be): add --sign KEYFILE",
        );
        refused("eve", &["--sign", &keys.shown("eve")], "'eve' may not approve it");
        refused("ana", &["--sign", &keys.shown("eve")], "not among the keys of 'ana' in the fleet file");
        refused("ana", &["--sign", &keys.shown("bo")], "is that of 'bo', and not of 'ana'");

        // In two steps, with a key on another machine.
        let statement = release.path("statement");
        let shown = statement.display().to_string();
        says(
            &answer("ana", "looks good", &["--statement", &shown]),
            0,
            &["no decision is made yet", "ssh-keygen -Y sign"],
        );
        assert_eq!(release.share(), 0.2);
        let signature = keys.sign("ana", &statement);
        let text = std::fs::read_to_string(&statement).unwrap();
        for (from, to, words) in [
            ("\"share\":1", "\"share\":0.2", "share is 1"),
            ("\"stage\":\"full\"", "\"stage\":\"20 %\"", "stage is"),
            ("\"stage_number\":2", "\"stage_number\":1", "stage_number is 2"),
            ("\"registered_at\":\"2", "\"registered_at\":\"1", "registered_at is"),
            ("\"release\":2", "\"release\":3", "release is 2"),
            ("\"source\":\"s3://m/2\"", "\"source\":\"s3://m/1\"", "source is"),
        ] {
            let edited = text.replace(from, to);
            assert_ne!(edited, text, "{from}");
            std::fs::write(release.path("edited"), edited).unwrap();
            let edited = release.path("edited").display().to_string();
            refused("ana", &["--statement", &edited, "--signature", &signature], words);
        }
        let files = ["--statement", &*shown, "--signature", &*signature];
        says(&answer("ana", "other words", &files), 2, &["for another statement: reason is \"other words\""]);
        refused("bo", &files, "for another statement: by is \"bo\"");
        says(&answer("ana", "looks good", &files), 0, &["stage 'full'", "a share of 1"]);
        assert_eq!(release.share(), 1.0);
        says(&answer("ana", "looks good", &files), 2, &["has all traffic already"]);
        let signed = format!("signed with {}, a key of ana", keys.fingerprint("ana"));
        says(&run(&["rollout", "show", "m"]), 0, &[&signed]);
        release.verified();
        release.nights(4, 9, Arms::new(0.9, 0.9), ROWS);
        assert_eq!(release.rollout().state, RolloutState::Settled);

        // The signature in a record that a person with access to the store has added for another reason.
        let mut body = release.records("rollout.promote").pop().unwrap().body;
        body["reason"] = "other words".into();
        let fact =
            AuditedFact { at: at("2026-03-14T08:00:00Z"), actor: "ana", kind: "rollout.approve", subject: "m", body };
        let mut store = release.open();
        store.transaction(|store| notify::record(&release.fleet, store, fact.clone()).map(drop)).unwrap();
        let problems = store.verify_audit(&[]).unwrap().problems;
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.contains("rollout.approve") && problem.contains("another statement: reason is"), "{problem}");
    }
}

/// What was approved before traffic could be moved is judged anew when it is.
#[test]
fn traffic_is_not_moved_by_an_approval_that_does_not_count_any_more() {
    let Some(keys) = Keys::new(&["ana", "bo", "eve"]) else { return };
    for (first, by_key, second, words) in [
        ("never", None, "always", "the answer must be signed"),
        ("always", Some("ana"), "key of eve", "not among the keys of 'ana'"),
    ] {
        let release = with_keys(Release::new(ASKS), &keys, first);
        release.nights(0, 4, Arms::new(0.9, 0.9), ROWS);
        let weights = std::fs::read(release.path("weights.json")).unwrap();
        std::fs::write(release.path("weights.json"), "of another program").unwrap();
        let decide = |release: &Release, words: &[&str]| {
            let by = ["--by", "ana", "--reason", "looks good", "--now", "2026-03-04T08:00:00Z"];
            release.run(&[words, &by].concat())
        };
        let sign = by_key.map(|key| keys.shown(key));
        let sign: Vec<&str> = sign.iter().flat_map(|file| ["--sign", file]).collect();
        says(
            &decide(&release, &[&["rollout", "promote", "m"], &sign[..]].concat()),
            11,
            &["the next tick tries again"],
        );
        std::fs::write(release.path("weights.json"), weights).unwrap();
        let release = match second {
            "always" => with_keys(release, &keys, second),
            _ => {
                let text = std::fs::read_to_string(release.path("fleet.toml")).unwrap();
                release.with_fleet(&text.replace(&keys.public("ana"), &keys.public("eve")))
            }
        };
        for hour in ["2026-03-04T09:00:00Z", "2026-03-04T09:30:00Z"] {
            let night = release.pass(at(hour), &mut |_| ());
            let [failure] = &night.failures[..] else { panic!("{night:?}") };
            assert!(failure.reason.contains("approval of stage 'full' by 'ana' does not count"), "{failure:?}");
            assert!(failure.reason.contains(words), "{failure:?}");
        }
        assert_eq!((release.share(), release.records("rollout.unapproved").len()), (0.2, 1));
        let sign = keys.shown(if second == "always" { "ana" } else { "eve" });
        says(&decide(&release, &["rollout", "promote", "m", "--sign", &sign]), 0, &["stage 'full'", "a share of 1"]);
        assert_eq!((release.share(), release.records("rollout.approve").len()), (1.0, 1));
        says(&decide(&release, &["rollout", "rollback", "m"]), 0, &["rolled back", "a share of 0"]);
        release.verified();
    }
}

/// Stages of which the second changes nothing of the traffic.
const REVIEWED: &str = "stages = [{ name = \"canary\", share = 0.2, lasts = \"1h\" }, { name = \"review\", share = 0.2, lasts = \"1h\", approval = true }, \
                        { name = \"full\", share = 1.0 }]\n";

#[test]
fn a_release_goes_only_back_while_the_approval_of_a_stage_that_it_has_entered_does_not_count() {
    let Some(keys) = Keys::new(&["ana", "bo", "eve"]) else { return };
    for good in [0.9, 0.5] {
        for release in Release::all(REVIEWED) {
            // By a fleet file without the rules, as a person with access to the store may have one.
            let release = with_keys(release, &keys, "never");
            release.nights(0, 4, Arms::new(0.9, 0.9), ROWS);
            let decide = |release: &Release, more: &[&str]| {
                let words = ["rollout", "promote", "m", "--reason", "looks good", "--now", "2026-03-05T01:00:00Z"];
                release.run(&[&words[..], more].concat())
            };
            let now = ["--now", "2026-03-04T08:00:00Z"];
            says(
                &release.run(&[&["rollout", "promote", "m", "--by", "ana", "--reason", "x"][..], &now].concat()),
                0,
                &["'review'"],
            );
            let release = with_keys(release, &keys, "always");
            let nights = release.nights(4, 1, Arms::new(good, 0.9), ROWS);
            let failure = "the approval of stage 'review' by 'ana' does not count: the answer must be signed";
            assert!(nights[0].failures.iter().any(|found| found.reason.contains(failure)), "{nights:?}");
            if good < 0.9 {
                assert!(matches!(release.rollout().state, RolloutState::RolledBack { .. }));
                assert_eq!(release.share(), 0.0);
                continue;
            }
            assert_eq!(release.rollout().state, RolloutState::Running { stage: 1 });
            says(&decide(&release, &["--by", "eve"]), 2, &["'eve' may not approve it"]);
            says(&decide(&release, &["--by", "ana"]), 2, &["must be signed"]);
            let page = ["wait: the approval of stage 'review' by 'ana' does not count", "approval of stage 'review'"];
            says(&release.run(&["rollout", "show", "m", "--now", "2026-03-05T01:00:00Z"]), 0, &page);
            // Traffic that was changed from outside is not set again by what was not approved.
            let weights = std::fs::read_to_string(release.path("weights.json")).unwrap();
            std::fs::write(release.path("weights.json"), weights.replace("0.2", "0.1").replace("0.8", "0.9")).unwrap();
            release.pass(at("2026-03-05T02:00:00Z"), &mut |_| ());
            assert_eq!(release.share(), 0.1);
            std::fs::write(release.path("weights.json"), weights).unwrap();

            let sign = keys.shown("ana");
            let later = ["--by", "ana", "--sign", &sign];
            says(&decide(&release, &later), 0, &["stage 'review'"]);
            assert_eq!((release.share(), release.records("rollout.approve").len()), (0.2, 1));
            release.nights(5, 3, Arms::new(0.9, 0.9), ROWS);
            assert_eq!(release.share(), 1.0);
            release.verified();
        }
    }
}

#[test]
fn a_stage_needs_approval_where_the_plan_or_the_fleet_file_says_so() {
    let stages = "stages = [{ share = 0.2, lasts = \"1h\" }, { name = \"full\", share = 1.0 }]\n";
    let release = Release::new(stages);
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let text = std::fs::read_to_string(release.path("fleet.toml")).unwrap();
    let release = release.with_fleet(&text.replace("share = 1.0 }", "share = 1.0, approval = true }"));
    release.nights(1, 3, Arms::new(0.9, 0.9), ROWS);
    assert_eq!((release.share(), release.records("rollout.ask").len()), (0.2, 1));
    let page = ["approval of stage 'full'", "those who may are ana", "full, needs approval"];
    says(&release.run(&["rollout", "show", "m", "--now", "2026-03-04T08:00:00Z"]), 0, &page);
    let release = release.with_fleet(&text);
    release.nights(4, 1, Arms::new(0.9, 0.9), ROWS);
    assert_eq!(release.share(), 1.0, "nobody asks for it any more");

    // A plan that is weaker than the fleet file, as a person with access to the store may begin one.
    let release =
        Release::new("stages = [{ name = \"x\", share = 0.99, lasts = \"1h\" }, { name = \"full\", share = 1.0 }]\n");
    let text = std::fs::read_to_string(release.path("fleet.toml")).unwrap();
    let from = text.find("stages = ").unwrap();
    let to = from + text[from..].find('\n').unwrap();
    let strict = "stages = [{ share = 0.05, lasts = \"1h\" }, { name = \"full\", share = 1.0, approval = true }]";
    let release = release.with_fleet(&format!("{}{strict}{}", &text[..from], &text[to..]));
    release.nights(0, 2, Arms::new(0.9, 0.9), ROWS);
    assert_eq!((release.share(), release.rollout().state), (0.0, RolloutState::Candidate));
    assert_eq!(release.records("rollout.ask").len(), 1);
}

/// A message that a tick has recorded is sent by this tick: the next one may be a day later.
#[test]
fn what_a_tick_does_with_a_release_is_told_by_the_same_tick() {
    let release = Release::new(ASKS);
    release.nights(0, 1, Arms::new(0.9, 0.9), ROWS);
    let mut arms = Arms::new(0.9, 0.9);
    arms.share = release.share();
    release.predict(at(BEGIN), arms, ROWS);
    assert_eq!(release.records("rollout.ask").len(), 0);
    says(&release.run(&["tick", "--now", &(at(BEGIN) + SignedDuration::from_hours(24)).to_string()]), 0, &[]);
    assert_eq!(release.records("rollout.ask").len(), 1);
    let told = std::fs::read_to_string(release.path("told")).unwrap();
    assert!(told.contains("\"kind\":\"rollout.ask\"") && told.contains("\"next_stage\":\"full\""), "{told}");
}
