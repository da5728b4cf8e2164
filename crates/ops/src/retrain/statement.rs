//! The statement that an approver signs: a request and its answer, in one text; or that a version enters a stage of its
//! release.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::budget::Overrun;
use super::cost::{CostEstimate, ValueEstimate};
use super::job::Job;
use super::request::{ApprovalReason, ApprovalRequest};
use driftsweep_common::atomic::hex;
use driftsweep_fleet::{Currency, Money};

/// A request as an approver sees it.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalQuestion<'a> {
    /// The name of the fleet.
    pub fleet: &'a str,
    /// The currency of amounts.
    pub currency: &'a Currency,
    /// The job at the time of the request.
    pub job: &'a Job,
    /// The approval request.
    pub request: &'a ApprovalRequest,
    /// SHA-256 of the body of its event.
    pub event_sha256: &'a str,
}

/// The answer to a request, and its author.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalDecision<'a> {
    /// The overruns that are allowed; `None` rejects the job.
    pub allows: Option<&'a [Overrun]>,
    /// Who decides.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// The approval that a version is in a stage of its release. A version is released once, and enters each stage once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageApproval<'a> {
    /// The name of the fleet.
    pub fleet: &'a str,
    /// The model.
    pub model: &'a str,
    /// The version that is released.
    pub version: u64,
    /// When it was registered: in another store a version of this number was registered at another time.
    pub registered_at: Timestamp,
    /// The version in production.
    pub former: Option<u64>,
    /// Where the version that is released lies.
    pub source: &'a str,
    /// SHA-256 of its artefact, in hexadecimal, where it is known.
    pub digest: Option<&'a str>,
    /// The number of the stage in the plan, from 1.
    pub stage_number: usize,
    /// The name of the stage.
    pub stage: &'a str,
    /// The share of traffic that it has there.
    pub share: f64,
    /// Who approves it.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What a statement of the approval of a stage calls itself.
pub(super) const STAGE_STATEMENT: &str = "driftsweep stage approval";

/// The signed text: a request and its answer as canonical JSON (RFC 8785), which has exactly one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    text: String,
}

/// The SHA-256 of the body of an event, as statements and the audit have it.
pub fn event_sha256(body: &str) -> String {
    hex(&Sha256::digest(body))
}

impl Statement {
    /// From a request and its answer, given at a time by the real clock.
    ///
    /// # Errors
    /// The reason, for values that JSON cannot hold.
    pub fn new(
        question: &ApprovalQuestion<'_>,
        decision: &ApprovalDecision<'_>,
        at: Timestamp,
    ) -> Result<Self, String> {
        let ApprovalQuestion { job, request, .. } = question;
        let value = json!({
            "statement": "driftsweep approval",
            "version": 1,
            "fleet": question.fleet,
            "job": job.id,
            "model": job.model,
            "trigger": job.trigger,
            "event_sha256": question.event_sha256,
            "requested_at": job.requested_at,
            "deadline": job.deadline,
            "attempts": job.attempts,
            "spent": job.spent.plain(),
            "currency": question.currency.name(),
            "question": {
                "reasons": request.reasons.iter().map(reason).collect::<Vec<_>>(),
                "level": request.level,
                "asked_at": request.asked_at,
                "due": request.due,
            },
            "estimate": job.estimate.as_ref().map(estimate),
            "worth": job.worth.as_ref().map(worth),
            "decision": if decision.allows.is_some() { "approve" } else { "reject" },
            "overruns": decision.allows.unwrap_or_default().iter().map(overrun).collect::<Vec<_>>(),
            "by": decision.by,
            "reason": decision.reason,
            "at": at,
        });
        let text = serde_json_canonicalizer::to_string(&value).map_err(|e| e.to_string())?;
        Ok(Self { text })
    }

    /// From the approval of a stage, given at a time by the real clock.
    ///
    /// # Errors
    /// The reason, for values that JSON cannot hold.
    pub fn of_stage(approval: &StageApproval<'_>, at: Timestamp) -> Result<Self, String> {
        let StageApproval { fleet, model, version, registered_at, former, source, digest, .. } = approval;
        let StageApproval { stage_number, stage, share, by, reason, .. } = approval;
        let value = json!({
            "statement": STAGE_STATEMENT,
            "version": 1,
            "fleet": fleet,
            "model": model,
            "release": version,
            "registered_at": registered_at,
            "former": former,
            "source": source,
            "digest": digest,
            "stage_number": stage_number,
            "stage": stage,
            "share": share,
            "decision": "approve",
            "by": by,
            "reason": reason,
            "at": at,
        });
        let text = serde_json_canonicalizer::to_string(&value).map_err(|e| e.to_string())?;
        Ok(Self { text })
    }

    /// The exact text, which is written, signed and stored.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When a statement was made, by the real clock.
    ///
    /// # Errors
    /// The reason, for a text that is not a statement.
    pub fn time_of(text: &str) -> Result<Timestamp, String> {
        let parsed: Option<Value> = serde_json::from_str(text).ok();
        let at = parsed.as_ref().and_then(|value| value["at"].as_str()?.parse().ok());
        at.ok_or_else(|| "it is not a statement; make it with --statement FILE".into())
    }

    /// How another text differs; `None` where it is identical.
    pub(super) fn difference(&self, text: &str) -> Option<String> {
        if text == self.text {
            return None;
        }
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (own, other) = (parse(&self.text), parse(text));
        let parts = own.as_object().into_iter().flatten();
        let differing = parts.filter(|(name, value)| other[name.as_str()] != **value);
        let named: Vec<String> = differing
            .map(|(name, value)| format!("{name} is {value}, and {} in the statement", other[name.as_str()]))
            .collect();
        Some(match named.is_empty() {
            true => "its text was changed; it must be signed as --statement wrote it, without a line end".into(),
            false => named.join("; "),
        })
    }
}

fn reason(reason: &ApprovalReason) -> Value {
    match reason {
        ApprovalReason::Cost { expected, above } => {
            json!({ "because": "cost", "expected": expected.plain(), "above": above.plain() })
        }
        ApprovalReason::HighStakes => json!({ "because": "high_stakes" }),
        ApprovalReason::Overrun(over) => json!({ "because": "overrun", "overrun": overrun(over) }),
    }
}

fn overrun(overrun: &Overrun) -> Value {
    let Overrun { scope, month, budget, by } = overrun;
    json!({ "scope": scope, "month": month, "budget": budget.plain(), "by": by.plain() })
}

fn estimate(estimate: &CostEstimate) -> Value {
    let CostEstimate { declared, expected, low, high, runs } = estimate;
    let [declared, expected, low, high] = [declared, expected, low, high].map(|amount| amount.plain());
    json!({ "declared": declared, "expected": expected, "low": low, "high": high, "runs": runs })
}

fn worth(worth: &ValueEstimate) -> Value {
    let ValueEstimate { points, loss, stale_a_day, gain, gain_low, metric, missing } = worth;
    let [stale_a_day, gain, gain_low] = [stale_a_day, gain, gain_low].map(|amount: &Money| amount.plain());
    json!({
        "points": points, "loss": loss, "stale_a_day": stale_a_day, "gain": gain, "gain_low": gain_low, "metric": metric,
        "missing": missing,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use jiff::SignedDuration;

    use super::super::approval::Grant;
    use super::super::budget::BudgetScope;
    use super::super::cost::{LossSource, MetricLoss, MissingInput};
    use super::super::job::{BaselineRenewal, JobState, StopRequest};
    use super::*;
    use driftsweep::metric::performance::PerformanceMetric;

    pub(in super::super) fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 3600 * hour).unwrap()
    }

    /// A job with all three reasons for approval, and with all fields set.
    pub(in super::super) fn job() -> Job {
        let cents = Money::from_cents;
        let lost =
            MetricLoss { points: 3.25, low: 1.0, loss: LossSource::Realised, missing: Some(MissingInput::Labels) };
        let month = "2026-09-01".parse().unwrap();
        let overrun =
            Overrun { scope: BudgetScope::Team("risk".into()), month, budget: cents(100_000), by: cents(1_250) };
        let reasons = vec![
            ApprovalReason::Cost { expected: cents(61_200), above: cents(50_000) },
            ApprovalReason::HighStakes,
            ApprovalReason::Overrun(overrun.clone()),
        ];
        let request = ApprovalRequest { reasons, level: 1, asked_at: at(2), due: at(6), renewed: false };
        Job {
            state: JobState::AwaitingApproval(request),
            since: at(2),
            estimate: Some(CostEstimate {
                declared: cents(60_000),
                expected: cents(61_200),
                low: cents(50_000),
                high: cents(70_010),
                runs: 3,
            }),
            worth: Some(ValueEstimate::new(
                PerformanceMetric::Accuracy,
                lost,
                Some(cents(2_000)),
                SignedDuration::from_hours(240),
            )),
            grants: vec![Grant { overruns: vec![overrun], ..Grant::by_policy("x".into(), at(1)) }],
            attempts: 1,
            spent: cents(612),
            stopping: Some(StopRequest { by: "ana".into(), reason: "x".into(), overdue: false }),
            baseline: Some(BaselineRenewal::Kept { warning: Some("x".into()) }),
            ..Job::request("3f9548c8", "churn", "drift", at(0), at(99))
        }
    }

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    pub(in super::super) fn asked<'a>(job: &'a Job, currency: &'a Currency) -> ApprovalQuestion<'a> {
        let JobState::AwaitingApproval(request) = &job.state else { panic!() };
        ApprovalQuestion { fleet: "shop", currency, job, request, event_sha256: SHA }
    }

    /// The statement of a question that is approved by ana.
    fn approved(job: &Job) -> String {
        let (currency, overruns) = (Currency::default(), asked(job, &Currency::default()).request.overruns());
        let decision = ApprovalDecision { allows: Some(&overruns), by: "ana", reason: "it pays" };
        Statement::new(&asked(job, &currency), &decision, at(3)).unwrap().text
    }

    #[test]
    fn a_statement_is_one_text_of_which_every_character_is_settled() {
        // What is signed with this version must be understood by all later ones.
        let wanted = concat!(
            r#"{"at":"2026-09-21T17:13:20Z","attempts":1,"by":"ana","currency":"USD","deadline":"2026-09-25T17:13:20Z","#,
            r#""decision":"approve","estimate":{"declared":"600.00","expected":"612.00","high":"700.10","low":"500.00","runs":3},"#,
            r#""event_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","fleet":"shop","job":"3f9548c8","#,
            r#""model":"churn","overruns":[{"budget":"1000.00","by":"12.50","month":"2026-09-01","scope":{"team":"risk"}}],"#,
            r#""question":{"asked_at":"2026-09-21T16:13:20Z","due":"2026-09-21T20:13:20Z","level":1,"reasons":["#,
            r#"{"above":"500.00","because":"cost","expected":"612.00"},{"because":"high_stakes"},{"because":"overrun","#,
            r#""overrun":{"budget":"1000.00","by":"12.50","month":"2026-09-01","scope":{"team":"risk"}}}]},"#,
            r#""reason":"it pays","requested_at":"2026-09-21T14:13:20Z","spent":"6.12","statement":"driftsweep approval","#,
            r#""trigger":"drift","version":1,"worth":{"gain":"650.00","gain_low":"200.00","loss":"realised","metric":"accuracy","#,
            r#""missing":["labels"],"points":3.25,"stale_a_day":"65.00"}}"#,
        );
        assert_eq!(approved(&job()), wanted);
        assert_eq!(Statement::time_of(wanted).unwrap(), at(3));
    }

    #[test]
    fn the_statement_of_a_stage_has_all_that_is_approved() {
        let approval = StageApproval {
            fleet: "shop",
            model: "churn",
            version: 3,
            registered_at: at(2),
            former: Some(2),
            source: "s3://m/3",
            digest: Some("e3b0"),
            stage_number: 3,
            stage: "25 %",
            share: 0.25,
            by: "ana",
            reason: "it pays",
        };
        let wanted = concat!(
            r#"{"at":"2026-09-21T17:13:20Z","by":"ana","decision":"approve","digest":"e3b0","fleet":"shop","former":2,"#,
            r#""model":"churn","reason":"it pays","registered_at":"2026-09-21T16:13:20Z","release":3,"share":0.25,"#,
            r#""source":"s3://m/3","stage":"25 %","stage_number":3,"statement":"driftsweep stage approval","version":1}"#,
        );
        assert_eq!(Statement::of_stage(&approval, at(3)).unwrap().text, wanted);
        assert_eq!(Statement::time_of(wanted).unwrap(), at(3));
    }

    /// Every place in a tree, as the keys and numbers on the way to it.
    fn places(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| places(field, &format!("{path}/{name}"), found))
            }
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(i, value)| places(value, &format!("{path}/{i}"), found));
            }
            _ => found.push(path.to_owned()),
        }
    }

    /// Other values in place of one.
    fn others(value: &Value) -> Vec<Value> {
        match value {
            Value::String(text) => {
                let later = text.parse().ok().map(|at: Timestamp| (at + SignedDuration::from_secs(1)).to_string());
                let tomorrow = text.parse().ok().map(|day: jiff::civil::Date| day.tomorrow().unwrap().to_string());
                let names = ["high_stakes", "estimated", "auc", "expected"].map(str::to_owned);
                let longer = Some(format!("{text}x"));
                later.into_iter().chain(tomorrow).chain(names).chain(longer).map(Value::from).collect()
            }
            Value::Number(number) if number.is_f64() => vec![json!(number.as_f64().unwrap() + 0.25)],
            Value::Number(number) => vec![json!(number.as_u64().unwrap() + 1)],
            Value::Bool(flag) => vec![json!(!flag)],
            _ => vec![json!("x"), json!(3)],
        }
    }

    #[test]
    fn all_that_is_asked_and_answered_changes_the_statement() {
        let (whole, statement) = (job(), approved(&job()));
        let tree = serde_json::to_value(&whole).unwrap();
        let mut all = Vec::new();
        places(&tree, "", &mut all);
        let mut unchanged = BTreeSet::new();
        for place in &all {
            let values = others(tree.pointer(place).unwrap());
            // Amounts are whole hundredths, so a quarter is another amount.
            let changed = values.into_iter().find_map(|other| {
                let mut tree = tree.clone();
                *tree.pointer_mut(place).unwrap() = other;
                let job: Job = serde_json::from_value(tree).ok()?;
                (job != whole && matches!(job.state, JobState::AwaitingApproval(_))).then_some(job)
            });
            match changed {
                Some(job) if approved(&job) != statement => {}
                _ => {
                    let part = place.split('/').nth(1).unwrap();
                    unchanged.insert(if part == "state" { &**place } else { part });
                }
            }
        }
        // The state itself is that it is asked; it is so since the question's own time. Earlier approvals are signed on their
        // own, and a job that waits has neither a run to stop nor a new baseline.
        assert_eq!(
            Vec::from_iter(unchanged),
            ["/state/reasons/1/because", "/state/state", "baseline", "grants", "since", "stopping"]
        );
        // One reason more or less, of which a name without more is no other.
        for i in 0..3 {
            let mut fewer = job();
            let JobState::AwaitingApproval(request) = &mut fewer.state else { panic!() };
            request.reasons.remove(i);
            assert_ne!(approved(&fewer), statement);
        }

        let (usd, eur, overruns) = (
            Currency::default(),
            Currency::parse("EUR").unwrap(),
            asked(&whole, &Currency::default()).request.overruns(),
        );
        let question = asked(&whole, &usd);
        let decision = ApprovalDecision { allows: Some(&overruns), by: "ana", reason: "it pays" };
        let more = [Overrun { by: Money::from_cents(9_999), ..overruns[0].clone() }];
        let other_questions = [
            ApprovalQuestion { fleet: "other", ..question },
            ApprovalQuestion { currency: &eur, ..question },
            ApprovalQuestion { event_sha256: "00", ..question },
        ];
        let other_decisions = [
            ApprovalDecision { allows: None, ..decision },
            ApprovalDecision { allows: Some(&more), ..decision },
            ApprovalDecision { allows: Some(&[]), ..decision },
            ApprovalDecision { by: "bo", ..decision },
            ApprovalDecision { reason: "it pays ", ..decision },
        ];
        let texts = other_questions.iter().map(|question| Statement::new(question, &decision, at(3)));
        let texts = texts.chain(other_decisions.iter().map(|decision| Statement::new(&question, decision, at(3))));
        let texts: BTreeSet<String> =
            texts.chain([Statement::new(&question, &decision, at(4))]).map(|text| text.unwrap().text).collect();
        assert_eq!((texts.len(), texts.contains(&statement)), (9, false));
    }
}
