//! Decisions of people about rollouts.

use std::path::Path;

use jiff::Timestamp;

use super::step::advance;
use crate::store::Store;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{Fleet, Model};
use driftsweep_release::{Rollout, RolloutState, RolloutStep};

/// How often a decision is tried where ticks take steps at the same time.
const MAX_ATTEMPTS: usize = 64;

/// A decision of a person about a rollout.
#[derive(Clone, Copy, Debug)]
pub struct RolloutDecision<'a> {
    /// By whom.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The folder of the fleet's state.
    pub state: &'a Path,
    /// When.
    pub at: Timestamp,
}

/// What a person may do with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutAction {
    /// Let it enter the next stage.
    Promote,
    /// Keep it in its stage.
    Hold,
    /// Let it go on after it was held.
    Resume,
    /// Take it back.
    RollBack,
}

/// Applies the decision of a person to the rollout of a model that is under way.
///
/// # Errors
/// [`Error::BadValue`] where there is none, where the step is not possible, and where another person must approve it;
/// [`Error::Tampered`]; [`Error::Store`].
pub fn decide(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    action: RolloutAction,
    decision: RolloutDecision<'_>,
) -> Result<Rollout> {
    let RolloutDecision { by, reason, state, at } = decision;
    let wrong = |reason: String| Error::BadValue { what: format!("rollout of '{}'", model.name), reason };
    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    // A tick may take a step between reading and writing.
    for _ in 0..MAX_ATTEMPTS {
        let Some(versioned) = store.open_rollout(&model.name)? else {
            return Err(wrong("none is under way; `driftsweep rollout list` shows all".into()));
        };
        let rollout = &versioned.rollout;
        if at < rollout.since {
            return Err(wrong(format!("its last step is of {}, later than {at}", rollout.since)));
        }
        let (by_name, why) = (by.to_owned(), reason.to_owned());
        let step = match action {
            RolloutAction::Promote if rollout.is_full() => {
                return Err(wrong("it has all traffic already; it is settled after its time".into()));
            }
            RolloutAction::Promote if rollout.needs_approval() && !may_approve(fleet, by) => {
                return Err(wrong(format!(
                    "'{by}' may not approve it; those who may are {}",
                    fleet.governance.approval.approvers.concat().join(", ")
                )));
            }
            RolloutAction::Promote if rollout.state == RolloutState::Candidate => RolloutStep::Begin,
            RolloutAction::Promote => RolloutStep::Promote { by: by_name, reason: why },
            RolloutAction::Hold => RolloutStep::Hold { by: by_name, reason: why },
            RolloutAction::Resume => RolloutStep::Resume { by: by_name, reason: why },
            RolloutAction::RollBack => RolloutStep::RollBack { by: by_name, reason: why },
        };
        rollout.apply(&step, at).map_err(|illegal| wrong(illegal.to_string()))?;
        if let Some(after) = advance(fleet, store, model, &versioned, &step, (by, at, state))? {
            return Ok(after.rollout);
        }
    }
    Err(wrong("other processes keep changing it; try again".into()))
}

/// Whether a person may approve that a stage is entered.
fn may_approve(fleet: &Fleet, who: &str) -> bool {
    fleet.governance.approval.approvers.iter().flatten().any(|approver| approver == who)
}
