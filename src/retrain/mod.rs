//! From a retrain event to a training run that somebody can afford and has allowed: the job, what it costs and is worth,
//! the budget, the approval and the queue. Pure: no file, no store, no clock.

pub mod approval;
pub mod asked;
pub mod budget;
pub mod clock;
pub mod cost;
pub mod job;
pub mod queue;
pub mod replay;
pub mod signature;
pub mod statement;

pub use approval::{Grant, Request};
pub use asked::Asked;
pub use budget::{Ledger, Overrun};
pub use cost::{Estimate, Missing, Worth};
pub use job::{Illegal, Job, Renewal, State, Step, Stopping};
pub use signature::Signed;
pub use statement::Statement;
