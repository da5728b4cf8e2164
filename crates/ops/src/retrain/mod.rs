//! From a retrain event to an approved training run: the job, its cost and value, the budget, the approval and the
//! queue. Pure: no file, no store, no clock.
//!
//! Imports point down only: `replay` → `approval`, `approvers`, `queue` → `signature` → `statement` → `job` → `request` →
//! `budget`, `clock`, `cost`; a test finds circles.

pub mod approval;
pub mod approvers;
pub mod budget;
pub mod clock;
pub mod cost;
pub mod job;
pub mod queue;
pub mod replay;
mod request;
pub mod signature;
pub mod statement;
pub mod version;

pub use approval::{ApprovalRequest, Grant};
pub use approvers::AskedQuestion;
pub use budget::{Ledger, Overrun};
pub use cost::{CostEstimate, MissingInput, ValueEstimate};
pub use job::{BaselineRenewal, IllegalStep, Job, JobState, JobStep, StopRequest};
pub use signature::SignedStatement;
pub use statement::{StageApproval, Statement};
pub use version::{ModelVersion, VersionName, VersionStatus};
