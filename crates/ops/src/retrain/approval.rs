//! Approval of a job: who must approve it, what happens without an answer, and whether an answer is in time.

use jiff::Timestamp;

use super::budget::Overrun;
use super::clock::{after, is_real};
use super::cost::{CostEstimate, ValueEstimate};
use super::job::{Job, JobStep};
use super::signature::{self, SignatureProblem};
use driftsweep_fleet::{ApprovalRules, Currency, OnExpiry, RetrainConfig, Stakes};

pub use super::clock::CLOCK_TOLERANCE;
pub use super::request::{ApprovalReason, ApprovalRequest, Grant, GrantedBy};

/// Why a job needs approval; empty, with the rule that approves it, if it does not.
pub fn reasons(
    rules: &ApprovalRules,
    currency: &Currency,
    retrain: &RetrainConfig,
    trigger: &str,
    estimate: &CostEstimate,
) -> Result<String, Vec<ApprovalReason>> {
    let high = retrain.stakes == Stakes::High;
    let costly = estimate.expected > rules.above;
    if !high && !costly {
        return Ok(format!("{} is not above {}", currency.show(estimate.expected), currency.show(rules.above)));
    }
    for rule in &rules.automatic {
        let fits = rule.trigger.as_ref().is_none_or(|wanted| wanted.name() == trigger)
            && rule.team.as_ref().is_none_or(|team| *team == retrain.team)
            // A model of high stakes is approved automatically only by a rule for high stakes.
            && rule.stakes.map_or(!high, |stakes| stakes == retrain.stakes);
        if fits && estimate.expected <= rule.up_to {
            return Ok(format!("an automatic rule approves up to {}", currency.show(rule.up_to)));
        }
    }
    let cost = costly.then_some(ApprovalReason::Cost { expected: estimate.expected, above: rules.above });
    Err(cost.into_iter().chain(high.then_some(ApprovalReason::HighStakes)).collect())
}

/// The next step of a request without an answer: none before it is due, then escalation to the next level, then the
/// declared policy.
pub fn overdue(
    rules: &ApprovalRules,
    retrain: &RetrainConfig,
    job: &Job,
    request: &ApprovalRequest,
    now: Timestamp,
) -> Option<JobStep> {
    if now < request.due {
        return None;
    }
    if request.level + 1 < rules.approvers.len() {
        // The next level has its full time from the escalation, however late that is.
        let due = after(now, rules.answer_within);
        let request =
            ApprovalRequest { level: request.level + 1, asked_at: now, due, renewed: false, ..request.clone() };
        return Some(JobStep::Escalate { request });
    }
    let estimated = job.estimate.as_ref().zip(job.worth.as_ref());
    if request.overruns().is_empty() && estimated.is_some_and(|estimated| is_safe(rules, retrain, estimated)) {
        let reason = "no answer; low stakes, and the gain is reliably above the cost".into();
        return Some(JobStep::Approve { grant: Grant::by_policy(reason, now) });
    }
    let levels = rules.approvers.iter().take(request.level + 1);
    let asked: Vec<&str> = levels.flatten().map(String::as_str).collect();
    Some(JobStep::Expire { reason: format!("no answer by {} from {}", request.due, asked.join(", ")) })
}

/// Whether the policy approves a job without an answer: low stakes, and a gain that is reliably above the cost.
fn is_safe(rules: &ApprovalRules, retrain: &RetrainConfig, (cost, worth): (&CostEstimate, &ValueEstimate)) -> bool {
    rules.on_expiry == OnExpiry::ApproveIfSafe
        && retrain.stakes == Stakes::Low
        && ValueEstimate::surely_pays(worth, cost)
}

/// Why a job may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartBasis {
    /// A person has approved it, or no approval is needed.
    Granted,
    /// There was no answer, and the policy approves it because of the gain.
    Safe,
}

/// Why a job that was approved may not be started.
#[derive(Clone, Debug, PartialEq)]
pub enum StartRefusal {
    /// No person has approved it, and the current rules require it.
    Ask(Vec<ApprovalReason>),
    /// The signature of its approval is not valid any more.
    Signature(SignatureProblem),
}

/// Whether a job that was approved may still be started, by the current rules: its records are not enough, because the
/// fleet file may have changed since, and someone who can write the store may have added records. `fleet` is its name;
/// `estimated` is the current estimate of its cost and value.
///
/// # Errors
/// The [`StartRefusal`].
pub fn is_still_allowed(
    rules: &ApprovalRules,
    (fleet, currency): (&str, &Currency),
    retrain: &RetrainConfig,
    job: &Job,
    (estimate, worth): &(CostEstimate, ValueEstimate),
) -> Result<StartBasis, StartRefusal> {
    for grant in &job.grants {
        signature::still_counts(rules, retrain.stakes, grant, (fleet, &job.id)).map_err(StartRefusal::Signature)?;
    }
    if job.grants.iter().any(|grant| matches!(grant.by, GrantedBy::Person(_))) {
        return Ok(StartBasis::Granted);
    }
    match reasons(rules, currency, retrain, &job.trigger, estimate) {
        Ok(_) => Ok(StartBasis::Granted),
        Err(_) if is_safe(rules, retrain, (estimate, worth)) => Ok(StartBasis::Safe),
        Err(reasons) => Err(StartRefusal::Ask(reasons)),
    }
}

/// Whether the approvals cover an overrun: the same budget and month, and at least this amount.
pub fn allows(grants: &[Grant], overrun: &Overrun) -> bool {
    let allowed = grants.iter().flat_map(|grant| &grant.overruns);
    allowed
        .into_iter()
        .any(|a| a.scope == overrun.scope && a.month == overrun.month && a.budget + a.by >= overrun.budget + overrun.by)
}

/// Whether an answer comes in time. `asked` is the time of the request, and `given` that of the answer: each by the
/// effective time, and by the real clock where that is known. A request made at the real time is answered at the real
/// time; one of a replayed night is answered within that night.
///
/// # Errors
/// Why it does not.
pub fn in_time(
    request: &ApprovalRequest,
    asked: (Timestamp, Option<Timestamp>),
    given: (Timestamp, Option<Timestamp>),
) -> Result<(), String> {
    let (now, clock) = given;
    let clock = clock.filter(|_| is_real(asked)).unwrap_or(now);
    if clock.duration_since(now) > CLOCK_TOLERANCE {
        return Err(format!(
            "the request was made at the real time, {}, so it cannot be answered as of {now}: it is {clock}; leave out \
             --now",
            request.asked_at
        ));
    }
    if now.max(clock) >= request.due {
        return Err(format!(
            "it was due at {}, and it is {}; the next tick escalates or ends the request",
            request.due,
            now.max(clock)
        ));
    }
    Ok(())
}

/// Whether a request has expired, so that it is escalated or the policy decides: not before it was due by the real
/// clock either, if it was made at the real time. Times as for [`in_time`].
///
/// # Errors
/// Why it has not expired.
pub fn is_expired(
    request: &ApprovalRequest,
    asked: (Timestamp, Option<Timestamp>),
    given: (Timestamp, Option<Timestamp>),
) -> Result<(), String> {
    let (now, clock) = given;
    let earlier = clock.filter(|clock| is_real(asked) && *clock < now).unwrap_or(now);
    if earlier < request.due {
        return Err(format!("an answer is due only at {}, and it is {earlier}", request.due));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use driftsweep_fleet::Money;
    use jiff::SignedDuration;

    use super::super::cost::{LossSource, MetricLoss};
    use super::super::job::JobState;
    use super::*;
    use driftsweep::metric::performance::PerformanceMetric;
    use driftsweep_fleet::Fleet;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 3600 * hour).unwrap()
    }

    fn fleet(approval: &str, retrain: &str) -> (ApprovalRules, RetrainConfig) {
        let text = format!(
            "[approval]\napprovers = [[\"ana\", \"bo\"], [\"cto\"]]\n{approval}\n[[model]]\nname = \"m\"\nbaseline = \"a\"\n\
             current = \"b\"\n[model.retrain]\ncommand = [\"true\"]\n{retrain}"
        );
        let fleet = Fleet::parse(&text, "f.toml".as_ref(), &driftsweep::model::Options::new()).unwrap();
        (fleet.governance.approval, fleet.models.into_iter().next().unwrap().retrain.unwrap())
    }

    fn usd() -> Currency {
        Currency::default()
    }

    fn cost(units: f64) -> CostEstimate {
        CostEstimate::new(Money::of(units).unwrap(), &[])
    }

    #[test]
    fn above_500_or_of_high_stakes_somebody_is_asked_unless_a_rule_lets_it_pass() {
        let (rules, normal) = fleet("", "");
        assert!(reasons(&rules, &usd(), &normal, "drift", &cost(500.0)).is_ok());
        assert_eq!(reasons(&rules, &usd(), &normal, "drift", &cost(500.01)).unwrap_err().len(), 1);
        let (rules, high) = fleet("automatic = [{ up_to = 900 }]", "stakes = \"high\"");
        assert_eq!(reasons(&rules, &usd(), &high, "drift", &cost(1.0)).unwrap_err(), [ApprovalReason::HighStakes]);
        assert_eq!(reasons(&rules, &usd(), &high, "drift", &cost(901.0)).unwrap_err().len(), 2);
        let rule = "automatic = [{ trigger = \"schedule\", stakes = \"low\", up_to = 900 }]";
        let (rules, low) = fleet(rule, "stakes = \"low\"");
        assert!(reasons(&rules, &usd(), &low, "schedule", &cost(900.0)).is_ok());
        assert!(reasons(&rules, &usd(), &low, "drift", &cost(900.0)).is_err());
        assert!(reasons(&rules, &usd(), &low, "schedule", &cost(900.5)).is_err());
        assert!(reasons(&rules, &usd(), &normal, "schedule", &cost(900.0)).is_err());
    }

    #[test]
    fn what_the_policy_allowed_is_judged_anew_before_it_is_started() {
        let job = |grants: Vec<Grant>| Job { grants, ..Job::request("e", "m", "drift", at(0), at(99)) };
        let policy = || vec![Grant::by_policy("x".into(), at(1))];
        let person = || vec![Grant { by: GrantedBy::Person("ana".into()), ..Grant::by_policy("x".into(), at(1)) }];
        let judge = |(rules, retrain): &(ApprovalRules, RetrainConfig), grants, units| {
            is_still_allowed(rules, ("f", &usd()), retrain, &job(grants), &(cost(units), ValueEstimate::default()))
        };
        let asks = |found: Result<StartBasis, StartRefusal>| matches!(found, Err(StartRefusal::Ask(_)));
        let (normal, high) = (fleet("", ""), fleet("", "stakes = \"high\""));
        for grants in [policy(), vec![]] {
            assert_eq!(judge(&normal, grants.clone(), 400.0), Ok(StartBasis::Granted));
            // By the fleet file and the runs so far, whatever the job says of its cost.
            assert!(asks(judge(&normal, grants.clone(), 600.0)));
            assert!(asks(judge(&high, grants, 1.0)));
        }
        assert_eq!(
            (judge(&normal, person(), 600.0), judge(&high, person(), 600.0)),
            (Ok(StartBasis::Granted), Ok(StartBasis::Granted))
        );
        // Where answers must be signed by now, that of a person who has not signed does not count any more.
        let mut signed = fleet("", "");
        signed.0.signatures = driftsweep_fleet::Signatures::Always;
        assert!(matches!(judge(&signed, person(), 600.0), Err(StartRefusal::Signature(SignatureProblem::Missing(_)))));
    }

    #[test]
    fn nobody_answers_so_the_next_level_is_asked_and_then_the_policy_decides() {
        let (rules, low) = fleet("on_expiry = \"approve_if_safe\"", "stakes = \"low\"");
        let estimate = cost(600.0);
        let asked = ApprovalRequest::new(&rules, reasons(&rules, &usd(), &low, "drift", &estimate).unwrap_err(), at(0));
        assert_eq!(asked.due, at(4));
        let lost = |low| MetricLoss { points: 9.0, low, loss: LossSource::Realised, missing: None };
        let worth = |low| {
            ValueEstimate::new(PerformanceMetric::Accuracy, lost(low), Money::of(10.0), SignedDuration::from_hours(720))
        };
        let job = |low, asked: &ApprovalRequest| Job {
            state: JobState::AwaitingApproval(asked.clone()),
            estimate: Some(estimate),
            worth: Some(worth(low)),
            ..Job::request("e", "m", "drift", at(0), at(99))
        };
        assert_eq!(overdue(&rules, &low, &job(8.0, &asked), &asked, at(3)), None);
        let Some(JobStep::Escalate { request }) = overdue(&rules, &low, &job(8.0, &asked), &asked, at(12)) else {
            panic!()
        };
        assert_eq!((request.level, request.due), (1, at(16)));
        let end = |low_end, retrain: &RetrainConfig, rules: &ApprovalRules| {
            overdue(rules, retrain, &job(low_end, &request), &request, at(16)).unwrap().name()
        };
        assert_eq!(end(8.0, &low, &rules), "approve");
        assert_eq!(end(1.0, &low, &rules), "expire", "not surely worth it");
        let (rejects, normal) = fleet("", "");
        assert_eq!(end(8.0, &normal, &rules), "expire", "not of low stakes");
        assert_eq!(end(8.0, &low, &rejects), "expire", "not by the policy");
    }

    #[test]
    fn an_answer_is_judged_by_the_real_clock_unless_the_question_is_of_a_replayed_night() {
        let (rules, _) = fleet("", "");
        let request = ApprovalRequest::new(&rules, vec![ApprovalReason::HighStakes], at(0));
        let real = (at(0), Some(at(0)));
        let replayed = (at(0), Some(at(5000)));
        let in_time = |asked, now: i64, clock: i64| in_time(&request, asked, (at(now), Some(at(clock)))).err();
        assert_eq!(in_time(real, 3, 3), None);
        assert!(in_time(real, 4, 4).unwrap().contains("was due at"));
        assert!(in_time(real, 3, 5).unwrap().contains("leave out --now"), "backdated");
        assert!(in_time(real, 1, 3).unwrap().contains("leave out --now"), "backdated, though in time");
        assert!(in_time(real, 5, 3).unwrap().contains("was due at"), "later than the clock");
        assert_eq!(in_time(replayed, 3, 5000), None);
        assert!(in_time(replayed, 4, 5000).unwrap().contains("was due at"));
        let is_expired = |asked, now: i64, clock: i64| is_expired(&request, asked, (at(now), Some(at(clock)))).is_ok();
        assert!(
            is_expired(real, 4, 4)
                && is_expired(real, 4, 9)
                && is_expired(replayed, 4, 5000)
                && is_expired(replayed, 4, 0)
        );
        assert!(!is_expired(real, 5, 3), "a pass that is taken to be later ends no real question");
        assert!(!is_expired(real, 3, 5) && !is_expired(replayed, 3, 5000));
        // Of questions in stores of older versions the real clock is not known: they were asked in earnest.
        assert!(in_time((at(0), None), 3, 5).is_some());
    }
}
