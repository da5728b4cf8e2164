//! An approval request and its answer, as they are stored: with the job, and in the records of the audit.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::budget::Overrun;
use super::clock::after;
use driftsweep_fleet::{ApprovalRules, Currency, Money};

/// Why a job needs approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum ApprovalReason {
    /// It may cost more than the approval limit.
    Cost {
        /// Its estimate.
        expected: Money,
        /// The approval limit.
        above: Money,
    },
    /// The model is of high stakes.
    HighStakes,
    /// A budget would be overrun.
    Overrun(Overrun),
}

impl ApprovalReason {
    /// The reason in a sentence.
    pub fn sentence(&self, currency: &Currency) -> String {
        match self {
            Self::Cost { expected, above } => {
                format!("its cost may be {}, more than {}", currency.show(*expected), currency.show(*above))
            }
            Self::HighStakes => "the model is marked high-stakes".into(),
            Self::Overrun(overrun) => overrun.sentence(currency),
        }
    }
}

/// A pending approval request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// The reasons for it.
    pub reasons: Vec<ApprovalReason>,
    /// The level of approvers, from 0.
    pub level: usize,
    /// Since when.
    pub asked_at: Timestamp,
    /// When an answer is due.
    pub due: Timestamp,
    /// Whether its deadline was extended, because no approver who was asked before could answer any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewed: bool,
}

impl ApprovalRequest {
    /// A request to the first level.
    pub fn new(rules: &ApprovalRules, reasons: Vec<ApprovalReason>, at: Timestamp) -> Self {
        Self { reasons, level: 0, asked_at: at, due: after(at, rules.answer_within), renewed: false }
    }

    /// Whether it is only about budgets that would be overrun: for a job from the queue, which was approved before.
    pub fn is_of_budgets(&self) -> bool {
        !self.reasons.is_empty() && self.reasons.iter().all(|reason| matches!(reason, ApprovalReason::Overrun(_)))
    }

    /// The overruns that an approval would allow.
    pub fn overruns(&self) -> Vec<Overrun> {
        let overruns = self.reasons.iter().filter_map(|reason| match reason {
            ApprovalReason::Overrun(overrun) => Some(overrun.clone()),
            _ => None,
        });
        overruns.collect()
    }
}

/// Who approved a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantedBy {
    /// The policy: no person was needed.
    Policy,
    /// A person.
    Person(String),
}

/// The approval of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// Who approved it.
    pub by: GrantedBy,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Overruns of budgets that are allowed.
    pub overruns: Vec<Overrun>,
    /// The signature of the person, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignedStatement>,
}

impl Grant {
    /// An approval by the policy: automatic, or after no answer.
    pub fn by_policy(reason: String, at: Timestamp) -> Self {
        Self { by: GrantedBy::Policy, reason, at, overruns: Vec::new(), signature: None }
    }
}

/// Why a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatReason {
    /// The fleet file was changed, and none of the approvers who were asked may answer any more.
    NobodyMayAnswer,
    /// The clock was ahead when it was made: an answer would be due far in the future.
    ClockWasAhead,
}

/// A statement with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedStatement {
    /// The text of the statement.
    pub statement: String,
    /// The signature: an SSHSIG in its armour.
    pub signature: String,
    /// The public key by which it was made, as OpenSSH writes it, without a comment.
    pub key: String,
}
