//! Release: how an accepted candidate reaches production by steps, and is taken back by itself when it is worse.
//!
//! ```text
//! rollout    the state machine: stages, decisions at a time, steps
//! evidence   what is known of each check, and what follows from it
//! balance    whether labels of both arms arrive alike
//! plan       stages, checks and levels, as declared
//! binary     two arms with good and bad outcomes, at every look
//! number     two arms with outcomes that are numbers, at every look
//! share      whether traffic is divided as it should be, at every look
//! nginx      the settings by which nginx divides traffic
//! ```
//!
//! Imports point down only. The crate knows no files, no clock and no traffic: rows are counted, steps are stored and traffic is moved by
//! who calls it.
//!
//! # Invariants
//!
//! * A decision follows from evidence that holds at all looks together: looking every night, or twenty times a night, takes back a
//!   candidate that is as good as production with a probability of at most the declared level.
//! * Both arms are compared within a block of predictions of the same time, and never by sums over stages with other shares.
//! * No data, or data of one arm alone, neither promotes nor takes back.

pub mod balance;
pub mod binary;
pub mod evidence;
pub mod nginx;
pub mod number;
pub mod plan;
pub mod rollout;
pub mod share;

pub use evidence::{CheckEvidence, CheckVerdict, Finding, Outcome};
pub use plan::{Check, CheckKind, RolloutPlan, Stage};
pub use rollout::{Alarm, Decision, IllegalStep, Observation, Period, Rollout, RolloutState, RolloutStep, Seen};
