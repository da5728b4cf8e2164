//! The life of a job, from an event to a model that was trained, or was not: which step leads from which state to which.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::approval::{ApprovalRequest, Grant};
use super::approvers::RepeatReason;
use super::cost::{CostEstimate, ValueEstimate};
use super::signature::SignedStatement;
use crate::fleet::Money;

/// A training run that was asked for. One event is one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name: that of the event.
    pub id: String,
    /// The model to train.
    pub model: String,
    /// The trigger that opened the event.
    pub trigger: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Not to be started, or to run, after that.
    pub deadline: Timestamp,
    /// Where it stands.
    pub state: JobState,
    /// When it came there.
    pub since: Timestamp,
    /// What it is likely to cost, once that has been reckoned.
    pub estimate: Option<CostEstimate>,
    /// What it is likely to be worth, likewise.
    pub worth: Option<ValueEstimate>,
    /// Who has allowed it, and what.
    pub grants: Vec<Grant>,
    /// How often it was started.
    pub attempts: u32,
    /// What all attempts that have ended cost.
    pub spent: Money,
    /// Why its run is to be stopped, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StopRequest>,
    /// What became of the baseline, once the model was trained; absent from jobs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineRenewal>,
    /// What is wrong with the answer of its last run, if anything is: that part of the answer is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about_answer: Option<String>,
    /// What only the store and the supervisor of the run that is under way know: a result that does not repeat it was written
    /// by somebody else. Absent while nothing runs, and from runs that older versions started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What became of the baseline of a model that was trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum BaselineRenewal {
    /// The training named a new one, which is used from then on.
    Set {
        /// What the training named.
        named: String,
        /// Where the new one is kept.
        place: String,
        /// SHA-256 of what it holds, where that can be told.
        content_hash: Option<String>,
        /// The one before.
        former: String,
        /// SHA-256 of what that holds, where it can be told.
        former_content_hash: Option<String>,
    },
    /// The training named one that cannot be used: the one before stays.
    Refused {
        /// What the training named.
        named: String,
        /// Why it cannot be used, and the remedy.
        reason: String,
    },
    /// The training named none: the one before stays.
    Kept {
        /// What follows from that, where it is older than the training.
        warning: Option<String>,
    },
}

impl BaselineRenewal {
    /// What people are told of it; nothing, where there is nothing to tell.
    pub fn sentence(&self) -> Option<String> {
        match self {
            Self::Set { place, former, .. } => Some(format!("the new baseline is {place}, in place of {former}")),
            Self::Refused { named, reason } => Some(format!(
                "the baseline stays as it was: '{named}', which the training named, cannot be used: {reason}"
            )),
            Self::Kept { warning } => warning.clone(),
        }
    }
}

/// Why a run is to be stopped. Noted before anybody is told to: whoever is killed in between is taken up by the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether its time is up.
    pub overdue: bool,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Asked for.
    Requested,
    /// With an estimate of its cost.
    Costed,
    /// Somebody has to allow it.
    AwaitingApproval(ApprovalRequest),
    /// Allowed.
    Approved,
    /// Waits for its turn, not before a time.
    Queued {
        /// A retry waits.
        not_before: Timestamp,
    },
    /// Under way.
    Running {
        /// Which start it is, from 1.
        attempt: u32,
        /// When it was started.
        started_at: Timestamp,
        /// When it is to be stopped.
        stop_at: Timestamp,
    },
    /// The model was trained.
    Succeeded,
    /// It was not.
    Failed {
        /// Why.
        reason: String,
    },
    /// It took too long, or waited too long for its turn.
    TimedOut {
        /// Which.
        reason: String,
    },
    /// Somebody called it off.
    Cancelled {
        /// Who and why.
        reason: String,
    },
    /// Somebody did not allow it.
    Rejected {
        /// Who and why.
        reason: String,
    },
    /// Nobody answered.
    Expired {
        /// Who was asked.
        reason: String,
    },
}

impl JobState {
    /// All names, in the order of a life.
    pub const NAMES: [&str; 12] = [
        "requested",
        "costed",
        "awaiting_approval",
        "approved",
        "queued",
        "running",
        "succeeded",
        "failed",
        "timed_out",
        "cancelled",
        "rejected",
        "expired",
    ];

    /// The names of those that are not the end.
    pub fn open_names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().take(6)
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
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Cancelled { .. } => "cancelled",
            Self::Rejected { .. } => "rejected",
            Self::Expired { .. } => "expired",
        }
    }

    /// Whether nothing can follow.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Requested
                | Self::Costed
                | Self::AwaitingApproval(_)
                | Self::Approved
                | Self::Queued { .. }
                | Self::Running { .. }
        )
    }

    /// Why it ended so, where there is more to say than the name.
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed { reason }
            | Self::TimedOut { reason }
            | Self::Cancelled { reason }
            | Self::Rejected { reason }
            | Self::Expired { reason } => reason,
            _ => "",
        }
    }
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum JobStep {
    /// Its cost and worth were reckoned.
    Cost {
        /// The cost.
        estimate: CostEstimate,
        /// The worth.
        worth: ValueEstimate,
    },
    /// Somebody is asked for approval.
    Ask {
        /// For what, and whom.
        request: ApprovalRequest,
    },
    /// Nobody has answered: the next level is asked.
    Escalate {
        /// The same, of that level.
        request: ApprovalRequest,
    },
    /// The same level is asked once more, by the fleet file as it is now.
    AskAgain {
        /// For what, and whom.
        request: ApprovalRequest,
        /// Why.
        because: RepeatReason,
    },
    /// It was allowed.
    Approve {
        /// By whom, and what.
        grant: Grant,
    },
    /// It was not.
    Reject {
        /// Who said so.
        by: String,
        /// Why.
        reason: String,
        /// The signature of the person, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<SignedStatement>,
    },
    /// Nobody has answered, and there is nobody else to ask.
    Expire {
        /// Who was asked.
        reason: String,
    },
    /// What was asked is no question any more: the budget is not overrun.
    Withdraw,
    /// It joins the queue.
    Queue,
    /// It is started.
    Start {
        /// When it is to be stopped.
        stop_at: Timestamp,
    },
    /// Its run is to be stopped.
    Stop {
        /// Why.
        stopping: StopRequest,
    },
    /// An attempt was good.
    Succeed {
        /// What it cost.
        cost: Money,
        /// What becomes of the baseline.
        baseline: BaselineRenewal,
        /// The new baseline as it is opened; with what is secret in an address, so it is not told.
        #[serde(skip)]
        place: Option<String>,
    },
    /// An attempt failed, and another is made.
    Retry {
        /// What it cost.
        cost: Money,
        /// Why it failed.
        reason: String,
        /// When the next may begin.
        not_before: Timestamp,
    },
    /// An attempt failed, and no other is made.
    Fail {
        /// What it cost.
        cost: Money,
        /// Why it failed.
        reason: String,
    },
    /// It took too long; or its deadline came before its turn, and cost nothing.
    TimeOut {
        /// What the attempt cost.
        cost: Money,
        /// Which.
        reason: String,
    },
    /// It was called off.
    Cancel {
        /// What the attempt cost that was under way.
        cost: Money,
        /// Who said so.
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
            Self::Succeed { .. } => "succeed",
            Self::Retry { .. } => "retry",
            Self::Fail { .. } => "fail",
            Self::TimeOut { .. } => "time_out",
            Self::Cancel { .. } => "cancel",
        }
    }
}

/// A step that does not lead from where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllegalStep {
    /// Where it stands.
    pub state: &'static str,
    /// The step.
    pub step: &'static str,
}

impl fmt::Display for IllegalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [state, step] = [self.state, self.step].map(|name| name.replace('_', " "));
        write!(f, "its state is '{state}', from which there is no '{step}'")
    }
}

impl Job {
    /// A job as an event asks for it.
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
            key: None,
        }
    }

    /// The job after a step.
    ///
    /// # Errors
    /// [`IllegalStep`] if the step does not lead from where the job stands.
    pub fn apply(&self, step: &JobStep, at: Timestamp) -> Result<Self, IllegalStep> {
        let mut job = Self { since: at, ..self.clone() };
        job.state = match (&self.state, step) {
            (JobState::Requested, JobStep::Cost { estimate, worth }) => {
                job.estimate = Some(*estimate);
                job.worth = Some(worth.clone());
                JobState::Costed
            }
            // Also out of the queue: a budget that was free when the job joined it may not be when its turn comes.
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
            // Also anew: what waits for a time that a clock has noted which was ahead would wait for it.
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
            (JobState::Running { .. }, JobStep::Succeed { cost, baseline, .. }) => {
                job.spent += *cost;
                job.baseline = Some(baseline.clone());
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
            JobState::Succeeded,
            JobState::Failed { reason: reason() },
            JobState::TimedOut { reason: reason() },
            JobState::Cancelled { reason: reason() },
            JobState::Rejected { reason: reason() },
            JobState::Expired { reason: reason() },
        ]
    }

    fn succeed(cost: Money) -> JobStep {
        JobStep::Succeed { cost, baseline: BaselineRenewal::Kept { warning: None }, place: None }
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
            ("running", "succeed", "succeeded"),
            ("running", "retry", "queued"),
            ("running", "fail", "failed"),
            ("running", "time_out", "timed_out"),
            ("running", "cancel", "cancelled"),
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
