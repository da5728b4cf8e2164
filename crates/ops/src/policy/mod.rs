//! What becomes an event when a trigger fires, and how it reads; recommended thresholds; the past under a policy. Pure: no file, no store, no clock.

pub mod calibrate;
pub mod event;
pub mod outcome;
pub mod outdated;
pub mod replay;

pub use outcome::{FiringContext, FiringOutcome};
pub use outdated::OutdatedBaseline;
