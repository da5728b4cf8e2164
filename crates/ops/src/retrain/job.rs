//! The state machine of a job, from an event to the end of its training: which step leads from which state to which.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cost::{CostEstimate, ValueEstimate};
use super::request::{ApprovalRequest, Grant, RepeatReason, SignedStatement};
use driftsweep_extensions::executor::{TrainedModel, ValidationFiles};
use driftsweep_fleet::Money;
use driftsweep_training::gate::GateReport;

/// A job: a requested training. Each event has one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id: that of the event.
    pub id: String,
    /// The model to train.
    pub model: String,
    /// The trigger that opened the event.
    pub trigger: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Its deadline: it must not start or run after it.
    pub deadline: Timestamp,
    /// Its state.
    pub state: JobState,
    /// When it entered the state.
    pub since: Timestamp,
    /// The estimated cost, once it is computed.
    pub estimate: Option<CostEstimate>,
    /// The estimated value, once it is computed.
    pub worth: Option<ValueEstimate>,
    /// Its approvals.
    pub grants: Vec<Grant>,
    /// How often it was started.
    pub attempts: u32,
    /// The cost of all attempts that have ended.
    pub spent: Money,
    /// Why its run must be stopped, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StopRequest>,
    /// The baseline change after the training; absent from jobs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineRenewal>,
    /// What is malformed in the answer of its last run, if anything: that part is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about_answer: Option<String>,
    /// What its gates said of the candidate, where it has gates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<GateReport>,
    /// The key of the current run, which only the store and its supervisor know: a result without it was not written by
    /// the supervisor. Absent while nothing runs, and for runs started by older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The baseline change after a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum BaselineRenewal {
    /// The training named a new one, which is in use now, or once the candidate is released.
    Set {
        /// The path that the training named.
        named: String,
        /// The path of the new one.
        place: String,
        /// SHA-256 of its content, where that is known.
        content_hash: Option<String>,
        /// The previous one.
        former: String,
        /// SHA-256 of its content, where that is known.
        former_content_hash: Option<String>,
        /// Whether it is used only once the candidate is released.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waits: bool,
    },
    /// The training named one that cannot be used: the previous one stays in use.
    Refused {
        /// The path that the training named.
        named: String,
        /// Why it cannot be used, and the remedy.
        reason: String,
    },
    /// The training named none: the previous one stays in use.
    Kept {
        /// The warning, where it is older than the training.
        warning: Option<String>,
    },
}

impl BaselineRenewal {
    /// The message about it; `None` if there is none.
    pub fn sentence(&self) -> Option<String> {
        match self {
            Self::Set { place, former, waits: true, .. } => {
                Some(format!("the new baseline will be {place}, in place of {former}, once the candidate is released"))
            }
            Self::Set { place, former, .. } => Some(format!("the new baseline is {place}, in place of {former}")),
            Self::Refused { named, reason } => Some(format!(
                "the baseline was not changed: '{named}', named by the training, cannot be used: {reason}"
            )),
            Self::Kept { warning } => warning.clone(),
        }
    }
}

/// A request to stop a run. It is recorded before it is sent: if this process is killed in between, the next tick sends
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Who requested it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether its timeout was reached.
    pub overdue: bool,
}

/// The state of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Requested.
    Requested,
    /// Its cost is estimated.
    Costed,
    /// It waits for approval.
    AwaitingApproval(ApprovalRequest),
    /// Approved.
    Approved,
    /// It waits in the queue, not before a time.
    Queued {
        /// The earliest time of a retry.
        not_before: Timestamp,
    },
    /// Running.
    Running {
        /// Which start it is, from 1.
        attempt: u32,
        /// When it was started.
        started_at: Timestamp,
        /// When it is to be stopped.
        stop_at: Timestamp,
    },
    /// The candidate is trained, and waits for its gates.
    Gated {
        /// What it is judged by; absent where the training named nothing.
        validation: Option<ValidationFiles>,
        /// The new baseline that the training named, for where it is accepted.
        baseline: Option<String>,
    },
    /// The model was trained, and its gates accepted it, where it has any.
    Succeeded,
    /// Its gates did not accept the candidate.
    RejectedByGate {
        /// Which did not, and why.
        reason: String,
    },
    /// It was not.
    Failed {
        /// Why.
        reason: String,
    },
    /// It reached its timeout, or waited in the queue past its deadline.
    TimedOut {
        /// The reason.
        reason: String,
    },
    /// It was cancelled.
    Cancelled {
        /// Who and why.
        reason: String,
    },
    /// It was rejected.
    Rejected {
        /// Who and why.
        reason: String,
    },
    /// The approval request expired.
    Expired {
        /// Who was asked.
        reason: String,
    },
}

impl JobState {
    /// All names, in order.
    pub const NAMES: [&str; 14] = [
        "requested",
        "costed",
        "awaiting_approval",
        "approved",
        "queued",
        "running",
        "gated",
        "succeeded",
        "rejected_by_gate",
        "failed",
        "timed_out",
        "cancelled",
        "rejected",
        "expired",
    ];

    /// The names of states that are not final.
    pub fn open_names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().take(7)
    }

    /// The name in the store and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Costed => "costed",
            Self::AwaitingApproval(_) => "awaiting_approval",
            Self::Approved => "approved",
            Self::Queued { .. } => "queued",
            Self::Running { .. } => "running",
            Self::Gated { .. } => "gated",
            Self::Succeeded => "succeeded",
            Self::RejectedByGate { .. } => "rejected_by_gate",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::Rejected { .. } => "rejected",
            Self::Expired { .. } => "expired",
        }
    }

    /// Whether it is final.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Requested
                | Self::Costed
                | Self::AwaitingApproval(_)
                | Self::Approved
                | Self::Queued { .. }
                | Self::Running { .. }
                | Self::Gated { .. }
        )
    }

    /// The reason for a final state, if there is one.
    pub fn reason(&self) -> &str {
        match self {
            Self::RejectedByGate { reason }
            | Self::Failed { reason }
            | Self::TimedOut { reason }
            | Self::Cancelled { reason }
            | Self::Rejected { reason }
            | Self::Expired { reason } => reason,
            _ => "",
        }
    }
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum JobStep {
    /// Its cost and value were estimated.
    Cost {
        /// The cost.
        estimate: CostEstimate,
        /// The value.
        worth: ValueEstimate,
    },
    /// An approval request.
    Ask {
        /// The request.
        request: ApprovalRequest,
    },
    /// Escalation to the next level.
    Escalate {
        /// The request to that level.
        request: ApprovalRequest,
    },
    /// The request to the same level is repeated, with the current fleet file.
    AskAgain {
        /// The request.
        request: ApprovalRequest,
        /// Why.
        because: RepeatReason,
    },
    /// It was approved.
    Approve {
        /// The approval.
        grant: Grant,
    },
    /// It was not.
    Reject {
        /// Who requested it.
        by: String,
        /// Why.
        reason: String,
        /// The signature of the person, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<SignedStatement>,
    },
    /// The request expired at the last level.
    Expire {
        /// Who was asked.
        reason: String,
    },
    /// The request is withdrawn: the budget is not overrun any more.
    Withdraw,
    /// It joins the queue.
    Queue,
    /// It is started.
    Start {
        /// When it is to be stopped.
        stop_at: Timestamp,
    },
    /// Its run must be stopped.
    Stop {
        /// Why.
        stopping: StopRequest,
    },
    /// An attempt has trained a candidate, which must pass its gates.
    Gate {
        /// The cost of the attempt.
        cost: Money,
        /// What the candidate is judged by.
        validation: Option<ValidationFiles>,
        /// The new baseline that the training named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        baseline: Option<String>,
        /// The candidate, where the training described it: it becomes a version in the registry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trained: Option<Box<TrainedModel>>,
    },
    /// The gates did not accept the candidate.
    RejectByGate {
        /// What each gate said.
        report: GateReport,
    },
    /// An attempt succeeded, or the gates have accepted its candidate.
    Succeed {
        /// Its cost.
        cost: Money,
        /// The baseline change.
        baseline: BaselineRenewal,
        /// What the gates said, where there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<GateReport>,
        /// The model, where the training described it and there are no gates: it becomes a version in the registry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trained: Option<Box<TrainedModel>>,
        /// The new baseline as it is opened; it may contain secrets of an address, so it is not reported.
        #[serde(skip)]
        place: Option<String>,
    },
    /// An attempt failed, and is retried.
    Retry {
        /// Its cost.
        cost: Money,
        /// Why it failed.
        reason: String,
        /// The earliest time of the next attempt.
        not_before: Timestamp,
    },
    /// An attempt failed, and is not retried.
    Fail {
        /// Its cost.
        cost: Money,
        /// Why it failed.
        reason: String,
    },
    /// It reached its timeout; or its deadline passed in the queue, at no cost.
    TimeOut {
        /// The cost of the attempt.
        cost: Money,
        /// The reason.
        reason: String,
    },
    /// It was cancelled.
    Cancel {
        /// The cost of the attempt that was running.
        cost: Money,
        /// Who requested it.
        by: String,
        /// Why.
        reason: String,
    },
}

impl JobStep {
    /// The name in the audit and in notifications.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cost { .. } => "cost",
            Self::Ask { .. } => "ask",
            Self::Escalate { .. } => "escalate",
            Self::AskAgain { .. } => "ask_again",
            Self::Approve { .. } => "approve",
            Self::Reject { .. } => "reject",
            Self::Expire { .. } => "expire",
            Self::Withdraw => "withdraw",
            Self::Queue => "queue",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Gate { .. } => "gate",
            Self::RejectByGate { .. } => "reject_by_gate",
            Self::Succeed { .. } => "succeed",
            Self::Retry { .. } => "retry",
            Self::Fail { .. } => "fail",
            Self::TimeOut { .. } => "time_out",
            Self::Cancel { .. } => "cancel",
        }
    }
}

/// A step that is not possible in the state of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllegalStep {
    /// Its state.
    pub state: &'static str,
    /// The step.
    pub step: &'static str,
}

impl fmt::Display for IllegalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [state, step] = [self.state, self.step].map(|name| name.replace('_', " "));
        write!(f, "its state is '{state}', in which '{step}' is not possible")
    }
}

impl Job {
    /// A new job, requested by an event.
    pub fn request(id: &str, model: &str, trigger: &str, at: Timestamp, deadline: Timestamp) -> Self {
        Self {
            id: id.into(),
            model: model.into(),
            trigger: trigger.into(),
            requested_at: at,
            deadline,
            state: JobState::Requested,
            since: at,
            estimate: None,
            worth: None,
            grants: Vec::new(),
            attempts: 0,
            spent: Money::ZERO,
            stopping: None,
            baseline: None,
            about_answer: None,
            gates: None,
            key: None,
        }
    }

    /// The job after a step.
    ///
    /// # Errors
    /// [`IllegalStep`] if the step is not possible in the state of the job.
    pub fn apply(&self, step: &JobStep, at: Timestamp) -> Result<Self, IllegalStep> {
        let mut job = Self { since: at, ..self.clone() };
        job.state = match (&self.state, step) {
            (JobState::Requested, JobStep::Cost { estimate, worth }) => {
                job.estimate = Some(*estimate);
                job.worth = Some(worth.clone());
                JobState::Costed
            }
            // Also from the queue: a budget may be used up by the time the job is first in the queue.
            (JobState::Costed | JobState::Queued { .. }, JobStep::Ask { request })
            | (JobState::AwaitingApproval(_), JobStep::Escalate { request } | JobStep::AskAgain { request, .. }) => {
                JobState::AwaitingApproval(request.clone())
            }
            (JobState::Costed | JobState::AwaitingApproval(_), JobStep::Approve { grant }) => {
                job.grants.push(grant.clone());
                JobState::Approved
            }
            (JobState::AwaitingApproval(_), JobStep::Reject { by, reason, .. }) => {
                JobState::Rejected { reason: format!("{by}: {reason}") }
            }
            (JobState::AwaitingApproval(_), JobStep::Expire { reason }) => JobState::Expired { reason: reason.clone() },
            (JobState::AwaitingApproval(request), JobStep::Withdraw) if request.is_of_budgets() => {
                JobState::Queued { not_before: at }
            }
            // Also repeated: a job that waits for a time recorded by a clock that was ahead would wait too long.
            (JobState::Approved | JobState::Queued { .. }, JobStep::Queue) => JobState::Queued { not_before: at },
            (JobState::Queued { not_before }, JobStep::Start { stop_at }) if at >= *not_before => {
                job.attempts += 1;
                JobState::Running { attempt: job.attempts, started_at: at, stop_at: *stop_at }
            }
            (JobState::Running { .. }, JobStep::Stop { stopping }) => {
                job.stopping = Some(stopping.clone());
                job.since = self.since;
                self.state.clone()
            }
            (JobState::Running { .. }, JobStep::Gate { cost, validation, baseline, .. }) => {
                job.spent += *cost;
                JobState::Gated { validation: validation.clone(), baseline: baseline.clone() }
            }
            (JobState::Gated { .. }, JobStep::RejectByGate { report }) => {
                job.gates = Some(report.clone());
                let open = report.open().map(|gate| format!("{}: {}", gate.name, gate.sentence));
                JobState::RejectedByGate { reason: open.collect::<Vec<_>>().join("; ") }
            }
            (JobState::Running { .. } | JobState::Gated { .. }, JobStep::Succeed { cost, baseline, report, .. }) => {
                job.spent += *cost;
                job.baseline = Some(baseline.clone());
                job.gates = report.clone();
                JobState::Succeeded
            }
            (JobState::Running { .. }, JobStep::Retry { cost, not_before, .. }) => {
                job.spent += *cost;
                JobState::Queued { not_before: *not_before }
            }
            (JobState::Running { .. }, JobStep::Fail { cost, reason }) => {
                job.spent += *cost;
                JobState::Failed { reason: reason.clone() }
            }
            (JobState::Running { .. } | JobState::Queued { .. }, JobStep::TimeOut { cost, reason }) => {
                job.spent += *cost;
                JobState::TimedOut { reason: reason.clone() }
            }
            (state, JobStep::Cancel { cost, by, reason }) if !state.is_final() => {
                job.spent += *cost;
                JobState::Cancelled { reason: format!("{by}: {reason}") }
            }
            (state, step) => return Err(IllegalStep { state: state.name(), step: step.name() }),
        };
        if !matches!(job.state, JobState::Running { .. }) {
            job.key = None;
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::super::approval::ApprovalReason;
    use super::super::budget::{BudgetScope, Overrun};
    use super::*;
    use driftsweep_training::gate::Verdict;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 3600 * hour).unwrap()
    }

    fn request() -> ApprovalRequest {
        let (month, cents) = ("2026-09-01".parse().unwrap(), Money::from_cents(5));
        let overrun = Overrun { scope: BudgetScope::Fleet, month, budget: cents, by: cents };
        ApprovalRequest {
            reasons: vec![ApprovalReason::Overrun(overrun)],
            level: 0,
            asked_at: at(0),
            due: at(4),
            renewed: false,
        }
    }

    fn states() -> Vec<JobState> {
        let reason = String::new;
        vec![
            JobState::Requested,
            JobState::Costed,
            JobState::AwaitingApproval(request()),
            JobState::Approved,
            JobState::Queued { not_before: at(0) },
            JobState::Running { attempt: 1, started_at: at(0), stop_at: at(9) },
            JobState::Gated { validation: None, baseline: None },
            JobState::Succeeded,
            JobState::RejectedByGate { reason: reason() },
            JobState::Failed { reason: reason() },
            JobState::TimedOut { reason: reason() },
            JobState::Cancelled { reason: reason() },
            JobState::Rejected { reason: reason() },
            JobState::Expired { reason: reason() },
        ]
    }

    fn rejection() -> GateReport {
        GateReport { verdict: Verdict::Failed, rows: 0, days: None, gates: Vec::new() }
    }

    fn succeed(cost: Money) -> JobStep {
        JobStep::Succeed {
            cost,
            baseline: BaselineRenewal::Kept { warning: None },
            report: None,
            trained: None,
            place: None,
        }
    }

    fn steps() -> Vec<JobStep> {
        let (cost, text) = (Money::from_cents(5), String::new);
        let grant = Grant::by_policy(text(), at(0));
        vec![
            JobStep::Cost { estimate: CostEstimate::new(cost, &[]), worth: ValueEstimate::default() },
            JobStep::Ask { request: request() },
            JobStep::Escalate { request: request() },
            JobStep::AskAgain { request: request(), because: RepeatReason::NobodyMayAnswer },
            JobStep::Approve { grant },
            JobStep::Reject { by: text(), reason: text(), signature: None },
            JobStep::Expire { reason: text() },
            JobStep::Withdraw,
            JobStep::Queue,
            JobStep::Start { stop_at: at(9) },
            JobStep::Stop { stopping: StopRequest { by: text(), reason: text(), overdue: false } },
            JobStep::Gate { cost, validation: None, baseline: None, trained: None },
            JobStep::RejectByGate { report: rejection() },
            succeed(cost),
            JobStep::Retry { cost, reason: text(), not_before: at(2) },
            JobStep::Fail { cost, reason: text() },
            JobStep::TimeOut { cost, reason: text() },
            JobStep::Cancel { cost, by: text(), reason: text() },
        ]
    }

    #[test]
    fn only_the_steps_of_the_diagram_lead_anywhere() {
        let legal = [
            ("requested", "cost", "costed"),
            ("requested", "cancel", "cancelled"),
            ("costed", "ask", "awaiting_approval"),
            ("costed", "approve", "approved"),
            ("costed", "cancel", "cancelled"),
            ("awaiting_approval", "escalate", "awaiting_approval"),
            ("awaiting_approval", "ask_again", "awaiting_approval"),
            ("awaiting_approval", "approve", "approved"),
            ("awaiting_approval", "reject", "rejected"),
            ("awaiting_approval", "expire", "expired"),
            ("awaiting_approval", "withdraw", "queued"),
            ("awaiting_approval", "cancel", "cancelled"),
            ("approved", "queue", "queued"),
            ("approved", "cancel", "cancelled"),
            ("queued", "ask", "awaiting_approval"),
            ("queued", "queue", "queued"),
            ("queued", "start", "running"),
            ("queued", "time_out", "timed_out"),
            ("queued", "cancel", "cancelled"),
            ("running", "stop", "running"),
            ("running", "gate", "gated"),
            ("running", "succeed", "succeeded"),
            ("running", "retry", "queued"),
            ("running", "fail", "failed"),
            ("running", "time_out", "timed_out"),
            ("running", "cancel", "cancelled"),
            ("gated", "reject_by_gate", "rejected_by_gate"),
            ("gated", "succeed", "succeeded"),
            ("gated", "cancel", "cancelled"),
        ];
        let mut found = Vec::new();
        assert_eq!(states().iter().map(JobState::name).collect::<Vec<_>>(), JobState::NAMES);
        let open = states().into_iter().filter(|state| !state.is_final());
        assert!(open.map(|state| state.name()).eq(JobState::open_names()));
        for state in states() {
            for step in steps() {
                let job = Job { state: state.clone(), ..Job::request("e", "m", "drift", at(0), at(48)) };
                match job.apply(&step, at(1)) {
                    Ok(after) => {
                        assert!(!state.is_final());
                        found.push((state.name(), step.name(), after.state.name()));
                    }
                    Err(refused) => assert_eq!((refused.state, refused.step), (state.name(), step.name())),
                }
            }
        }
        assert_eq!(found, legal);
    }

    #[test]
    fn only_a_question_of_budgets_is_withdrawn() {
        let asked = |reasons| JobState::AwaitingApproval(ApprovalRequest { reasons, ..request() });
        for reasons in
            [vec![ApprovalReason::HighStakes], [request().reasons, vec![ApprovalReason::HighStakes]].concat(), vec![]]
        {
            let job = Job { state: asked(reasons), ..Job::request("e", "m", "drift", at(0), at(48)) };
            assert!(job.apply(&JobStep::Withdraw, at(1)).is_err());
        }
    }

    #[test]
    fn a_retry_waits_and_every_attempt_is_paid_for() {
        let job =
            Job { state: JobState::Queued { not_before: at(0) }, ..Job::request("e", "m", "drift", at(0), at(48)) };
        let running = job.apply(&JobStep::Start { stop_at: at(3) }, at(1)).unwrap();
        let cost = Money::from_cents(700);
        let again = running.apply(&JobStep::Retry { cost, reason: "x".into(), not_before: at(5) }, at(2)).unwrap();
        assert!(again.apply(&JobStep::Start { stop_at: at(9) }, at(4)).is_err(), "before its time");
        let running = again.apply(&JobStep::Start { stop_at: at(9) }, at(5)).unwrap();
        assert_eq!(running.attempts, 2);
        assert_eq!(running.apply(&succeed(cost), at(6)).unwrap().spent, Money::from_cents(1400));
    }
}
