//! Whose answer to a request counts now, and when the request must be repeated: by the current fleet file, and by the
//! record of the request.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::clock::{CLOCK_TOLERANCE, MAX_CLOCK_DIFFERENCE, after, is_real};
use super::job::JobStep;
use super::request::ApprovalRequest;
use driftsweep_fleet::ApprovalRules;

pub use super::request::RepeatReason;

/// The largest time that may be recorded ahead of a correct clock: `--now` may be this far in the future. A later time
/// was recorded while the clock was ahead.
pub const MAX_CLOCK_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Whether a time was recorded while the clock was ahead: it is in the future by the effective time and by the real
/// clock.
pub fn is_ahead(noted: Timestamp, (now, clock): (Timestamp, Timestamp)) -> bool {
    noted > latest_correct_time(now, clock)
}

/// The latest time that a correct clock may have recorded, by the effective time and the real clock.
pub fn latest_correct_time(now: Timestamp, clock: Timestamp) -> Timestamp {
    now.max(clock).checked_add(MAX_CLOCK_AHEAD).unwrap_or(Timestamp::MAX)
}

/// A request as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedQuestion {
    /// The number of its record; 0 where there is none.
    pub seq: u64,
    /// When, by the effective time.
    pub at: Timestamp,
    /// When, by the real clock, where that is known.
    pub clock_at: Option<Timestamp>,
    /// Who could answer; `None` in records of older versions.
    pub may_answer: Option<Vec<String>>,
    /// Whether the answer must be signed.
    pub must_be_signed: bool,
}

impl AskedQuestion {
    /// From its record.
    pub fn of(seq: u64, (at, clock_at): (Timestamp, Option<Timestamp>), body: &Value) -> Self {
        let may_answer = body.get("may_answer").and_then(|names| Vec::deserialize(names).ok());
        Self { seq, at, clock_at, may_answer, must_be_signed: body["must_be_signed"] == true }
    }

    /// A request without a record.
    pub fn unknown(request: &ApprovalRequest) -> Self {
        Self { seq: 0, at: request.asked_at, clock_at: None, may_answer: None, must_be_signed: false }
    }

    /// When it was made: by the effective time, and by the real clock.
    pub fn times(&self) -> (Timestamp, Option<Timestamp>) {
        (self.at, self.clock_at)
    }

    /// Whether a person was among those who may answer; where the record does not say, everybody was.
    pub fn names(&self, who: &str) -> bool {
        self.may_answer.as_ref().is_none_or(|names| names.iter().any(|name| name == who))
    }
}

/// The approvers in the fleet file for a request: those of its level and above. For a level that does not exist any
/// more, those of the last level.
pub fn approvers_of(rules: &ApprovalRules, request: &ApprovalRequest) -> Vec<String> {
    rules.approvers.get(level(rules, request)..).unwrap_or_default().concat()
}

/// The level of a request, from 0, within the current levels.
pub fn level(rules: &ApprovalRules, request: &ApprovalRequest) -> usize {
    request.level.min(rules.approvers.len().saturating_sub(1))
}

/// Whose answer counts now: persons who were asked, are approvers in the current fleet file, and can sign if the answer
/// must be signed.
pub fn who_may_answer(rules: &ApprovalRules, request: &ApprovalRequest, asked: &AskedQuestion) -> Vec<String> {
    let mut names = approvers_of(rules, request);
    names.retain(|name| asked.names(name) && can_sign(rules, asked, name));
    names
}

/// If the fleet file requires signatures, every approver has a key.
fn can_sign(rules: &ApprovalRules, asked: &AskedQuestion, name: &str) -> bool {
    !asked.must_be_signed || rules.keys.contains_key(name)
}

/// Whether the answer of a person counts now.
///
/// # Errors
/// Why it does not, and who may answer.
pub fn may_answer(
    rules: &ApprovalRules,
    request: &ApprovalRequest,
    asked: &AskedQuestion,
    who: &str,
) -> Result<(), String> {
    if who_may_answer(rules, request, asked).iter().any(|name| name == who) {
        return Ok(());
    }
    let is_named = |names: &[String]| names.iter().any(|name| name == who);
    let why = if is_named(&approvers_of(rules, request)) {
        if asked.names(who) {
            "has no key in the fleet file, and the answer must be signed (the request was made under a rule that \
             requires it)"
                .into()
        } else {
            format!("was not an approver at the time of the request, {}", request.asked_at)
        }
    } else if is_named(&rules.approvers.concat()) {
        "was asked before, and the request was escalated".into()
    } else {
        "is not an approver".into()
    };
    Err(format!("'{who}' {why}; {}", sentence(rules, request, asked)))
}

/// Who may answer now, as text.
pub fn sentence(rules: &ApprovalRules, request: &ApprovalRequest, asked: &AskedQuestion) -> String {
    let names = who_may_answer(rules, request, asked);
    if !names.is_empty() {
        return format!("it may be answered by {}", names.join(", "));
    }
    match approvers_of(rules, request) {
        whom if whom.is_empty() => "nobody can answer it: the fleet file has no approvers ([approval])".into(),
        whom => {
            let whom = whom.join(", ");
            format!("nobody who was asked may answer any more; the next tick asks the current approvers: {whom}")
        }
    }
}

/// Whether an answer is in time also by the records written since the request: a clock that was set back extends no
/// deadline. `latest` is the latest of them by the real clock.
///
/// # Errors
/// Why it does not.
pub fn in_time_by_records(
    request: &ApprovalRequest,
    asked: &AskedQuestion,
    given: Option<Timestamp>,
    latest: Option<(u64, Timestamp)>,
) -> Result<(), String> {
    let (Some(given), Some((seq, latest))) = (given, latest) else { return Ok(()) };
    if !is_real(asked.times()) || latest < request.due || latest.duration_since(given) <= MAX_CLOCK_DIFFERENCE {
        return Ok(());
    }
    Err(format!(
        "it was due at {}, and record {seq} was written at {latest}: the clock, which shows {given}, was set back \
         since, and the answer is too late. If the clock of that record was ahead, run `driftsweep tick \
         --clock-was-ahead` first",
        request.due
    ))
}

/// Repeats a request that nobody could answer, or whose deadline is invalid. A changed fleet file extends the deadline
/// of a level once; after another change the new approvers have the remaining time. A pass that replays another time
/// does not repeat a current request.
pub fn repeat_request(
    rules: &ApprovalRules,
    request: &ApprovalRequest,
    asked: &AskedQuestion,
    times: (Timestamp, Timestamp),
) -> Option<JobStep> {
    let (now, clock) = times;
    let is_now = clock.duration_since(now).abs() <= CLOCK_TOLERANCE;
    let level = level(rules, request);
    let put = |due, renewed| ApprovalRequest { level, asked_at: now, due, renewed, ..request.clone() };
    let due = after(now, rules.answer_within);
    if is_now && is_ahead(request.asked_at, times) {
        return Some(JobStep::AskAgain { request: put(due, request.renewed), because: RepeatReason::ClockWasAhead });
    }
    let is_of_that_time = is_now || (!is_real(asked.times()) && now >= request.asked_at);
    let could_be_answered = !who_may_answer(rules, request, asked).is_empty();
    if !is_of_that_time || could_be_answered || approvers_of(rules, request).is_empty() {
        return None;
    }
    // It is escalated, or the policy decides.
    let has_next = request.level + 1 < rules.approvers.len();
    if now >= request.due && (has_next || request.renewed) {
        return None;
    }
    let due = if request.renewed { request.due } else { due };
    Some(JobStep::AskAgain { request: put(due, true), because: RepeatReason::NobodyMayAnswer })
}

/// Whether the reason for repeating a request is confirmed by the records. `before` is the previous request.
///
/// # Errors
/// Why not.
pub fn is_confirmed_by_records(
    because: RepeatReason,
    (before, asked): (&ApprovalRequest, &AskedQuestion),
    (next, next_asked): (&ApprovalRequest, &AskedQuestion),
) -> Result<(), String> {
    if next.level > before.level || next.reasons != before.reasons {
        return Err("it is not the previous request".into());
    }
    match because {
        RepeatReason::ClockWasAhead => {
            let times = (next_asked.at, next_asked.clock_at.unwrap_or(next_asked.at));
            if !is_ahead(before.asked_at, times) {
                return Err(format!("the clock was not ahead at the time of the request, {}", before.asked_at));
            }
        }
        RepeatReason::NobodyMayAnswer => {
            let before_names = asked.may_answer.as_deref().unwrap_or_default();
            let still = before_names.iter().find(|name| next_asked.may_answer.is_some() && next_asked.names(name));
            // A person without a key could not sign, and need not any more.
            let needs_no_key = asked.must_be_signed && !next_asked.must_be_signed;
            if let Some(name) = still.filter(|_| !needs_no_key) {
                return Err(format!("'{name}' was asked, and may still answer"));
            }
            if !next.renewed || (before.renewed && next.due != before.due) {
                return Err("its deadline was extended a second time".into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::approval::ApprovalReason;
    use super::*;
    use driftsweep::model::Options;
    use driftsweep_fleet::Fleet;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 3600 * hour).unwrap()
    }

    fn rules(approvers: &str, more: &str) -> ApprovalRules {
        let text = format!(
            "[approval]\napprovers = {approvers}\n{more}\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n"
        );
        Fleet::parse(&text, "f.toml".as_ref(), &Options::new()).unwrap().governance.approval
    }

    /// A question of a level, as it was put by rules at a time.
    fn put(rules: &ApprovalRules, level: usize, hour: i64) -> (ApprovalRequest, AskedQuestion) {
        let request =
            ApprovalRequest { level, ..ApprovalRequest::new(rules, vec![ApprovalReason::HighStakes], at(hour)) };
        let names = Some(approvers_of(rules, &request));
        (
            request,
            AskedQuestion { seq: 1, at: at(hour), clock_at: Some(at(hour)), may_answer: names, must_be_signed: false },
        )
    }

    /// The question that is put anew, with its record.
    fn again(
        rules: &ApprovalRules,
        (request, asked): &(ApprovalRequest, AskedQuestion),
        hour: i64,
    ) -> Option<(ApprovalRequest, AskedQuestion)> {
        let JobStep::AskAgain { request: next, because } = repeat_request(rules, request, asked, (at(hour), at(hour)))?
        else {
            panic!()
        };
        let names = Some(approvers_of(rules, &next));
        let next_asked =
            AskedQuestion { seq: 1, at: at(hour), clock_at: Some(at(hour)), may_answer: names, must_be_signed: false };
        is_confirmed_by_records(because, (request, asked), (&next, &next_asked)).unwrap();
        // Then a person may answer, and it is not repeated.
        assert!(!who_may_answer(rules, &next, &next_asked).is_empty());
        assert_eq!(repeat_request(rules, &next, &next_asked, (at(hour), at(hour))), None);
        Some((next, next_asked))
    }

    #[test]
    fn who_may_answer_follows_from_who_was_asked_and_from_the_fleet_file_as_it_is() {
        let two = r#"[["ana", "bo"], ["cto"]]"#;
        // How the fleet file was, the level that was asked, how it is: who may answer, and who is asked where nobody may.
        type Case = (&'static str, usize, &'static str, &'static [&'static str], &'static [&'static str]);
        let cases: [Case; 12] = [
            (two, 0, two, &["ana", "bo", "cto"], &[]),
            (two, 1, two, &["cto"], &[]),
            // All of a level were replaced, some of them, or one was added.
            (two, 0, r#"[["dan"], ["eve"]]"#, &[], &["dan", "eve"]),
            (two, 0, r#"[["dan"], ["cto"]]"#, &["cto"], &[]),
            (two, 1, r#"[["ana", "bo"], ["eve"]]"#, &[], &["eve"]),
            (two, 0, r#"[["ana", "dan"], ["eve"]]"#, &["ana"], &[]),
            (two, 1, r#"[["ana"], ["cto", "eve"]]"#, &["cto"], &[]),
            // The level that was asked is gone.
            (two, 1, r#"[["ana", "bo"]]"#, &[], &["ana", "bo"]),
            (two, 1, r#"[["cto"]]"#, &["cto"], &[]),
            // Levels were moved: who stands below the level that is asked does not decide about it any more.
            (two, 1, r#"[["cto"], ["ceo"]]"#, &[], &["ceo"]),
            (two, 0, r#"[["cto"], ["ana"]]"#, &["cto", "ana"], &[]),
            (two, 0, "[]", &[], &[]),
        ];
        for (before, level, now, may, asks) in cases {
            let question = put(&rules(before, ""), level, 0);
            let now_rules = rules(now, "");
            assert_eq!(who_may_answer(&now_rules, &question.0, &question.1), may, "{before} {level} {now}");
            for who in ["ana", "bo", "cto", "dan", "eve", "ceo", "Ana", ""] {
                let allowed = may_answer(&now_rules, &question.0, &question.1, who);
                assert_eq!(allowed.is_ok(), may.contains(&who), "{before} {level} {now}: {allowed:?}");
            }
            let next = again(&now_rules, &question, 1);
            let asked = next.as_ref().map_or(Vec::new(), |(_, asked)| asked.may_answer.clone().unwrap());
            assert_eq!(asked, asks, "{before} {level} {now}");
            if let Some((next, _)) = next {
                assert_eq!((next.asked_at, next.due, next.renewed), (at(1), at(5), true));
            }
        }
    }

    #[test]
    fn only_those_who_are_asked_or_stand_above_them_may_answer() {
        let rules = rules(r#"[["ana", "bo"], ["cto"]]"#, "");
        let (request, asked) = put(&rules, 0, 0);
        let may = |request: &ApprovalRequest, who: &str| may_answer(&rules, request, &asked, who);
        assert!(may(&request, "bo").is_ok() && may(&request, "cto").is_ok());
        assert!(may(&request, "eve").unwrap_err().contains("is not an approver"));
        let gone_on = ApprovalRequest { level: 1, ..request };
        assert!(may(&gone_on, "ana").unwrap_err().contains("was escalated; it may be answered by cto"));
        assert!(may(&gone_on, "cto").is_ok());
    }

    #[test]
    fn a_refusal_says_who_may_answer_now_or_who_will_be_asked() {
        let question = put(&rules(r#"[["ana", "bo"], ["cto"]]"#, ""), 0, 0);
        let refused = |now: &str, who: &str| may_answer(&rules(now, ""), &question.0, &question.1, who).unwrap_err();
        let partly = r#"[["ana", "dan"], ["eve"]]"#;
        assert!(refused(partly, "bo").ends_with("'bo' is not an approver; it may be answered by ana"));
        assert!(refused(partly, "dan").contains("was not an approver at the time of the request, 2026-"));
        let other = refused(r#"[["dan"], ["eve"]]"#, "ana");
        assert!(other.ends_with("the next tick asks the current approvers: dan, eve"), "{other}");
        assert!(refused("[]", "ana").ends_with("the fleet file has no approvers ([approval])"));
    }

    #[test]
    fn who_had_to_sign_and_has_no_key_any_more_is_asked_anew_without() {
        let key = format!("signatures = \"always\"\nkeys = {{ ana = \"{KEY}\" }}");
        let (signed, free) = (rules(r#"[["ana"]]"#, &key), rules(r#"[["ana"]]"#, ""));
        let (request, asked) = put(&signed, 0, 0);
        let must = (request.clone(), AskedQuestion { must_be_signed: true, ..asked.clone() });
        assert_eq!(again(&signed, &must, 1), None);
        assert!(may_answer(&free, &must.0, &must.1, "ana").unwrap_err().contains("has no key in the fleet file"));
        assert!(again(&free, &must, 1).is_some());
        // Where signatures are wanted since, who was asked has a key and may answer.
        assert_eq!(again(&signed, &(request, asked), 1), None);
    }

    #[test]
    fn the_deadline_of_a_level_is_put_off_once_and_expiry_waits_for_those_who_can_answer() {
        let (first, second, third) = (rules(r#"[["ana"]]"#, ""), rules(r#"[["bo"]]"#, ""), rules(r#"[["cy"]]"#, ""));
        let question = put(&first, 0, 0);
        let once = again(&second, &question, 3).unwrap();
        assert_eq!((once.0.asked_at, once.0.due), (at(3), at(7)));
        let twice = again(&third, &once, 5).unwrap();
        assert_eq!((twice.0.asked_at, twice.0.due), (at(5), at(7)));
        assert_eq!(again(&first, &twice, 8), None, "then the policy decides");
        // Nobody could answer before it was due, and no level is left.
        assert_eq!(again(&second, &question, 9).unwrap().0.due, at(13));
        // A level is left, which is asked instead.
        assert_eq!(again(&rules(r#"[["bo"], ["cto"]]"#, ""), &question, 9), None);
    }

    #[test]
    fn a_pass_that_replays_another_time_leaves_a_question_of_now_alone() {
        let (first, second) = (rules(r#"[["ana"]]"#, ""), rules(r#"[["bo"]]"#, ""));
        let (request, asked) = put(&first, 0, 100);
        let repeat_request = |asked: &AskedQuestion, now, clock| {
            repeat_request(&second, &request, asked, (at(now), at(clock))).is_some()
        };
        assert!(repeat_request(&asked, 101, 101));
        assert!(!repeat_request(&asked, 50, 101) && !repeat_request(&asked, 120, 101));
        // One of a replayed night is put anew within that night, and by a pass of now.
        let replayed = AskedQuestion { clock_at: Some(at(5000)), ..asked };
        assert!(
            repeat_request(&replayed, 101, 5000)
                && repeat_request(&replayed, 5000, 5000)
                && !repeat_request(&replayed, 99, 5000)
        );
    }

    #[test]
    fn a_question_of_a_clock_that_was_ahead_is_put_anew_when_the_clock_is_right() {
        let rules = rules(r#"[["ana"], ["cto"]]"#, "");
        let question = put(&rules, 1, 24 * 30);
        let (next, _) = again(&rules, &question, 0).unwrap();
        assert_eq!((next.level, next.asked_at, next.due, next.renewed), (1, at(0), at(4), false));
        // As far as `--now` may be ahead, it is a time like any other; and a replay changes nothing.
        assert_eq!(again(&rules, &put(&rules, 0, 24), 0), None);
        assert_eq!(repeat_request(&rules, &question.0, &question.1, (at(-500), at(0))), None);
    }

    #[test]
    fn a_record_that_puts_a_question_anew_without_a_reason_is_found() {
        let (first, second) = (rules(r#"[["ana"], ["cto"]]"#, ""), rules(r#"[["bo"], ["eve"]]"#, ""));
        let before = put(&first, 0, 0);
        let next = again(&second, &before, 1).unwrap();
        let borne_out = |because, next: &(ApprovalRequest, AskedQuestion)| {
            is_confirmed_by_records(because, (&before.0, &before.1), (&next.0, &next.1))
                .map_or_else(|e| e, |()| String::new())
        };
        assert_eq!(borne_out(RepeatReason::NobodyMayAnswer, &next), "");
        assert!(borne_out(RepeatReason::ClockWasAhead, &next).contains("was not ahead"));
        let with_ana = AskedQuestion { may_answer: Some(vec!["bo".into(), "ana".into()]), ..next.1.clone() };
        assert!(borne_out(RepeatReason::NobodyMayAnswer, &(next.0.clone(), with_ana)).contains("'ana' was asked"));
        for other in [
            ApprovalRequest { level: 1, ..next.0.clone() },
            ApprovalRequest { reasons: Vec::new(), ..next.0.clone() },
            ApprovalRequest { renewed: false, ..next.0.clone() },
        ] {
            assert_ne!(borne_out(RepeatReason::NobodyMayAnswer, &(other, next.1.clone())), "");
        }
    }
}
