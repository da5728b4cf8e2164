//! Decisions of people about rollouts.

use std::path::Path;

use jiff::Timestamp;

use super::approval::{self, NONE_IS_OPEN};
use super::step::{StepContext, advance};
use crate::retrain::SignedStatement;
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
    /// Let it enter the next stage; where the approval of a stage that it has entered does not count any more, approve that
    /// stage again.
    Promote,
    /// Keep it in its stage.
    Hold,
    /// Let it go on after it was held.
    Resume,
    /// Take it back.
    RollBack,
}

/// Applies the decision of a person to the rollout of a model that is under way. `signed` is what the person has signed for
/// a promotion.
///
/// # Errors
/// [`Error::BadValue`] where there is none, where the step is not possible, where another person must approve it, and where
/// it is not signed as it must be; [`Error::Tampered`]; [`Error::Store`].
pub fn decide(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    action: RolloutAction,
    decision: RolloutDecision<'_>,
    signed: Option<&SignedStatement>,
) -> Result<Rollout> {
    let RolloutDecision { by, reason, state, at } = decision;
    let wrong = |reason: String| Error::BadValue { what: format!("rollout of '{}'", model.name), reason };
    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    // A tick may take a step between reading and writing.
    for _ in 0..MAX_ATTEMPTS {
        let Some(versioned) = store.open_rollout(&model.name)? else {
            return Err(wrong(NONE_IS_OPEN.into()));
        };
        let versioned = super::as_ruled(model, versioned);
        let rollout = &versioned.rollout;
        if at < rollout.since {
            return Err(wrong(format!("its last step is of {}, later than {at}", rollout.since)));
        }
        let (by_name, why) = (by.to_owned(), reason.to_owned());
        let step = match action {
            RolloutAction::Promote => {
                let stage = approval::check(fleet, store, model, rollout, (by, reason), signed)?;
                match &rollout.state {
                    RolloutState::Candidate => RolloutStep::Begin { reason: why },
                    state if state.stage() >= Some(stage) => RolloutStep::Approve { stage, by: by_name, reason: why },
                    _ => RolloutStep::Promote { by: by_name, reason: why },
                }
            }
            RolloutAction::Hold => RolloutStep::Hold { by: by_name, reason: why },
            RolloutAction::Resume => RolloutStep::Resume { by: by_name, reason: why },
            RolloutAction::RollBack => RolloutStep::RollBack { by: by_name, reason: why },
        };
        rollout.apply(&step, at).map_err(|illegal| wrong(illegal.to_string()))?;
        if let Some(after) =
            advance(fleet, store, model, &versioned, &step, StepContext { actor: by, at, state, signed })?
        {
            return Ok(after.rollout);
        }
    }
    Err(wrong("other processes keep changing it; try again".into()))
}
