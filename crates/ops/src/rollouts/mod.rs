//! Takes rollouts further: one pass over all models that declare one. It begins the release of an accepted candidate, moves traffic,
//! observes both arms, and does what follows.
//!
//! A pass may be killed between any two steps and run again, or run twenty times at once: only the process that holds the fleet's lock
//! for rollouts acts; each step is one transaction with its audit record and its messages, and counts only if no other process has
//! changed the rollout since; and traffic is moved again until that is known to have succeeded.

mod approval;
mod arms;
mod create;
mod decision;
mod observe;
mod step;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

pub use approval::{ApprovalProblem, approvers_sentence, next, signature_reason, statement, with_current_rules};
pub use create::{candidate, start};
pub use decision::{RolloutAction, RolloutDecision, decide};

use crate::notify::{self, AuditedFact};
use crate::store::{Record, SYSTEM_ACTOR, Store, VersionedRollout};
use arms::arms;
use create::{Released, create};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::http::{Http, RequestFailure};
use driftsweep_extensions::traffic::{SAME_SHARE, Traffic, TrafficTools, WantedTraffic};
use driftsweep_fleet::{Fleet, Model, RolloutConfig};
use driftsweep_release::{Decision, Rollout, RolloutState, RolloutStep};
use step::{StepContext, advance};

/// The context of a pass.
pub struct RolloutContext<'a> {
    /// Requests to addresses.
    pub http: &'a Http,
    /// The folder of the fleet's state.
    pub state: &'a Path,
    /// The time now: that of the pass, and what has passed since it began.
    pub now: &'a dyn Fn() -> Timestamp,
}

/// The summary of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RolloutSummary {
    /// The last new state of each rollout, by its model.
    pub states: BTreeMap<String, String>,
    /// What could not be done, and is tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<RolloutFailure>,
    /// Differences between the store and its audit: these models are not released.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tampered: Vec<String>,
}

/// What could not be done for a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolloutFailure {
    /// The model.
    pub model: String,
    /// Why.
    pub reason: String,
}

impl RolloutSummary {
    /// Adds the summary of a later pass. Failures are replaced by the later ones.
    pub fn then(&mut self, later: Self) {
        self.states.extend(later.states);
        (self.failures, self.tampered) = (later.failures, later.tampered);
    }

    /// Whether nothing happened that should be reported.
    pub fn is_quiet(&self) -> bool {
        *self == Self::default()
    }

    fn fail(&mut self, model: &str, reason: impl Into<String>) {
        self.failures.push(RolloutFailure { model: model.into(), reason: reason.into() });
    }
}

/// Runs one pass over all models. `step` is called with the name of each step before it.
///
/// # Errors
/// [`Error::Locked`] if another process holds the lock; [`Error::Store`].
pub fn pass(
    fleet: &Fleet,
    store: &mut Store,
    context: &RolloutContext<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<RolloutSummary> {
    if store.active_rollouts(None)?.is_empty() && fleet.models.iter().all(|model| model.rollout.is_none()) {
        return Ok(RolloutSummary::default());
    }
    step("lock rollouts");
    store.with_lock("rollouts", |store| {
        let mut pass = RolloutPass { fleet, store, context, step, summary: RolloutSummary::default() };
        for model in &fleet.models {
            pass.model(model)?;
        }
        pass.without_settings()?;
        Ok(pass.summary)
    })
}

/// Moves the traffic of a model whose rollout a person has changed.
///
/// # Errors
/// [`Error::Locked`] if another process holds the lock; [`Error::Store`].
pub fn move_traffic(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    context: &RolloutContext<'_>,
) -> Result<RolloutSummary> {
    store.with_lock("rollouts", |store| {
        let mut pass = RolloutPass { fleet, store, context, step: &mut |_| (), summary: RolloutSummary::default() };
        let Some(config) = &model.rollout else {
            pass.without_settings()?;
            return Ok(pass.summary);
        };
        let active = pass.store.active_rollouts(Some(&model.name))?;
        for versioned in active.into_iter().filter(|versioned| versioned.rollout.moves_traffic()) {
            let versioned = as_ruled(model, versioned);
            if !pass.has_other_settings(model, config, &versioned.rollout) && pass.is_approved(model, &versioned)? {
                pass.move_traffic(model, config, &versioned)?;
            }
        }
        Ok(pass.summary)
    })
}

/// A rollout that was read, with the approvals that the fleet file asks for now.
fn as_ruled(model: &Model, VersionedRollout { rollout, steps }: VersionedRollout) -> VersionedRollout {
    VersionedRollout { rollout: with_current_rules(model, rollout), steps }
}

/// After how long it is told again that an approval does not count.
const REMINDED_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// How long after a rollback traffic is watched.
const WATCHED_AFTER: SignedDuration = SignedDuration::from_hours(24 * 7);

/// A rollout takes no more steps in a pass than this; a plan has fewer.
const MAX_STEPS: usize = 64;

struct RolloutPass<'a> {
    fleet: &'a Fleet,
    store: &'a mut Store,
    context: &'a RolloutContext<'a>,
    step: &'a mut dyn FnMut(&str),
    summary: RolloutSummary,
}

impl RolloutPass<'_> {
    /// The time now, as precise as the store keeps it.
    fn now(&self) -> Timestamp {
        let now = (self.context.now)();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// Takes the rollout of a model further.
    fn model(&mut self, model: &Model) -> Result<()> {
        let Some(config) = &model.rollout else { return Ok(()) };
        if let Some(problem) = self.store.rollouts_problem(&model.name)? {
            self.summary.tampered.push(problem);
            return Ok(());
        }
        let mut observed = false;
        for _ in 0..MAX_STEPS {
            let Some(versioned) = self.current(model, config)? else { return Ok(()) };
            let versioned = as_ruled(model, versioned);
            let rollout = &versioned.rollout;
            if self.now() < rollout.since {
                let reason =
                    format!("its last step is of {}, later than {}; correct the clock", rollout.since, self.now());
                self.summary.fail(&model.name, reason);
                return Ok(());
            }
            if self.has_other_settings(model, config, rollout) {
                return Ok(());
            }
            let is_approved = self.is_approved(model, &versioned)?;
            if rollout.state.is_final() && !rollout.moves_traffic() {
                self.correct_traffic(model, config, &versioned)?;
                return Ok(());
            }
            // A worse candidate is also taken back while its traffic is moved.
            if rollout.state.stage().is_some() && !observed {
                observed = true;
                if is_approved && !rollout.moves_traffic() {
                    self.correct_traffic(model, config, &versioned)?;
                }
                self.observe(model, config, &versioned)?;
                continue;
            }
            if rollout.moves_traffic() {
                let is_moved = is_approved && self.move_traffic(model, config, &versioned)?;
                if is_moved || self.has_changed(&versioned)? {
                    continue;
                }
                if rollout.state.is_final() || !self.decide(model, &versioned, is_approved)? {
                    return Ok(());
                }
                continue;
            }
            if !self.decide(model, &versioned, is_approved)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the approvals of all stages that a rollout has entered count now. Where one does not, that is reported in each pass
    /// and told once a day, and the rollout goes no further, except back.
    fn is_approved(&mut self, model: &Model, VersionedRollout { rollout, .. }: &VersionedRollout) -> Result<bool> {
        let Some(problem) = approval::problem(self.fleet, self.store, model, rollout)? else { return Ok(true) };
        let ApprovalProblem { stage, reason } = problem;
        let reason =
            format!("{reason}; approve it again with `driftsweep rollout promote`, or take the candidate back");
        if self.summary.failures.iter().all(|known| known.model != model.name || known.reason != reason) {
            self.summary.fail(&model.name, &*reason);
        }
        const KIND: &str = "rollout.unapproved";
        let now = self.now();
        let is_known = |record: Record| {
            let is_same = record.body["reason"] == *reason && record.body["version"] == rollout.version;
            is_same && now.duration_since(record.at) < REMINDED_AFTER
        };
        if !self.store.last_record(&model.name, &[KIND])?.is_some_and(is_known) {
            let must_be_signed = approval::signature_reason(self.fleet, model).is_some();
            let name = rollout.plan.stages.get(stage).map(|stage| &stage.name);
            let body = json!({
                "model": model.name, "version": rollout.version, "stage": name, "reason": reason,
                "must_be_signed": must_be_signed,
            });
            self.tell(model, KIND, body)?;
        }
        Ok(false)
    }

    /// Whether the fleet file names other arms, or another way to divide traffic, than when a rollout began: what is set elsewhere
    /// would stay there.
    fn has_other_settings(&mut self, model: &Model, config: &RolloutConfig, rollout: &Rollout) -> bool {
        let differs = rollout.settings != config.settings();
        if differs {
            self.summary.fail(
                &model.name,
                "the fleet file names other arms, or another way to divide traffic, than when the release began: nothing is moved; put \
                 [model.rollout] back, end the release, and change it then",
            );
        }
        differs
    }

    /// Whether another process has taken a rollout further since it was read: moving traffic may take a while.
    fn has_changed(&mut self, versioned: &VersionedRollout) -> Result<bool> {
        let known = self.store.rollouts(Some(&versioned.rollout.model))?;
        let now = known.iter().find(|known| known.rollout.version == versioned.rollout.version);
        Ok(now.is_some_and(|now| now.steps != versioned.steps))
    }

    /// Rollouts whose model has no settings any more cannot be taken further.
    fn without_settings(&mut self) -> Result<()> {
        for VersionedRollout { rollout, .. } in self.store.active_rollouts(None)? {
            let missing = match self.fleet.model(&rollout.model) {
                None => "the model is not in the fleet file any more",
                Some(model) if model.rollout.is_none() => "the fleet file has no [model.rollout] of the model any more",
                Some(_) => continue,
            };
            let reason = format!(
                "the release of version {} has not ended, and {missing}: traffic stays as it is; add it again",
                rollout.version
            );
            self.summary.fail(&rollout.model, reason);
        }
        Ok(())
    }

    /// The rollout that has something to do; a new one where a candidate may be released.
    fn current(&mut self, model: &Model, config: &RolloutConfig) -> Result<Option<VersionedRollout>> {
        let mut active = self.store.active_rollouts(Some(&model.name))?;
        // Traffic of one that has ended is moved first.
        if let Some(at) = active.iter().position(|versioned| versioned.rollout.state.is_final()) {
            return Ok(Some(active.swap_remove(at)));
        }
        if let Some(open) = active.pop() {
            return Ok(Some(open));
        }
        if let Some((version, champion)) = candidate(self.store, model)? {
            return self.begin(model, config, Released { version: &version, champion: champion.as_ref() });
        }
        // A candidate that was taken back may be given traffic again from outside.
        let last = self.store.rollouts(Some(&model.name))?.pop();
        Ok(last.filter(|VersionedRollout { rollout, .. }| {
            matches!(rollout.state, RolloutState::RolledBack { .. })
                && rollout.applied_at.is_some()
                && rollout.settings == config.settings()
                && self.now().duration_since(rollout.since) < WATCHED_AFTER
        }))
    }

    /// Adds the rollout of a candidate.
    fn begin(
        &mut self,
        model: &Model,
        config: &RolloutConfig,
        released: Released<'_>,
    ) -> Result<Option<VersionedRollout>> {
        (self.step)("add rollout");
        let reason = &released.version.reason;
        let decision = RolloutDecision { by: SYSTEM_ACTOR, reason, state: self.context.state, at: self.now() };
        match create(self.fleet, self.store, (model, config), released, decision) {
            Ok(added) => Ok(Some(added)),
            Err(error) => self.report(error).map(|reason| {
                if let Some(reason) = reason {
                    let version = released.version.version;
                    self.summary.fail(&model.name, format!("version {version} is not released yet: {reason}"));
                }
                None
            }),
        }
    }

    /// Divides traffic as wanted; returns whether that succeeded.
    fn move_traffic(&mut self, model: &Model, config: &RolloutConfig, versioned: &VersionedRollout) -> Result<bool> {
        (self.step)("move traffic");
        let moved = match self.wanted(model, config, versioned)? {
            Ok(wanted) => self.with_traffic(config, |traffic| traffic.apply(&wanted)),
            Err(reason) => Err(RequestFailure::transient(reason)),
        };
        let Err(failure) = moved else {
            (self.step)("traffic moved");
            return self.advance(model, versioned, &RolloutStep::Applied, SYSTEM_ACTOR);
        };
        let VersionedRollout { rollout, steps } = versioned;
        let (version, share) = (rollout.version, rollout.wanted_share());
        let reason = format!("traffic of version {version} could not be set to a share of {share}: {}", failure.reason);
        self.summary.fail(&model.name, format!("{reason}; the next tick tries again"));
        // It is told once for each step of a rollout.
        const KIND: &str = "rollout.traffic_failed";
        let known = self.store.last_record(&model.name, &[KIND])?;
        if known.is_none_or(|record| record.body["step"] != *steps || record.body["version"] != version) {
            let body = json!({ "model": model.name, "version": version, "step": steps, "reason": reason });
            self.tell(model, KIND, body)?;
        }
        Ok(false)
    }

    /// Works with the traffic of a rollout; a failure of this program there ends no night.
    fn with_traffic<T>(
        &self,
        config: &RolloutConfig,
        work: impl FnOnce(&dyn Traffic) -> std::result::Result<T, RequestFailure>,
    ) -> std::result::Result<T, RequestFailure> {
        let tools = TrafficTools { http: self.context.http, now: self.now() };
        let done = catch_unwind(AssertUnwindSafe(|| work(&*config.traffic.settings().open(tools))));
        done.unwrap_or_else(|_| Err(RequestFailure::transient("this program failed on it")))
    }

    /// Records a fact about the traffic of a model, with its messages.
    fn tell(&mut self, model: &Model, kind: &str, body: Value) -> Result<()> {
        let (fleet, at) = (self.fleet, self.now());
        self.store.transaction(|store| {
            let fact = AuditedFact { at, actor: SYSTEM_ACTOR, kind, subject: &model.name, body };
            notify::record(fleet, store, fact).map(drop)
        })
    }

    /// How traffic should be divided.
    fn wanted(
        &mut self,
        model: &Model,
        config: &RolloutConfig,
        VersionedRollout { rollout, steps }: &VersionedRollout,
    ) -> Result<std::result::Result<WantedTraffic, String>> {
        let versions = self.store.versions(Some(&model.name))?;
        let source = |number: u64| {
            versions.iter().find(|version| version.version == number).map(|version| version.trained.source.clone())
        };
        Ok(arms(config, rollout.version, rollout.former).map(|[candidate, production]| WantedTraffic {
            fleet: self.fleet.name.clone(),
            model: model.name.clone(),
            rollout: rollout.name(),
            sequence: *steps,
            candidate: candidate.with_source(source),
            production: production.with_source(source),
            share: rollout.wanted_share(),
        }))
    }

    /// Sets traffic again where it was divided in another way from outside.
    fn correct_traffic(&mut self, model: &Model, config: &RolloutConfig, versioned: &VersionedRollout) -> Result<()> {
        let Ok(wanted) = self.wanted(model, config, versioned)? else { return Ok(()) };
        let found = match self.with_traffic(config, |traffic| traffic.share(&wanted)) {
            Ok(None) => return Ok(()),
            Ok(Some(share)) if (share - wanted.share).abs() <= SAME_SHARE => return Ok(()),
            Ok(Some(share)) => share,
            Err(failure) => {
                self.summary.fail(&model.name, format!("how traffic is divided cannot be read: {}", failure.reason));
                return Ok(());
            }
        };
        (self.step)("correct traffic");
        let share = wanted.share;
        let reason = match found.is_finite() {
            true => format!("the candidate had a share of {found} of traffic, and should have {share}"),
            false => format!("traffic was not divided as it was set, with a share of {share} of the candidate"),
        };
        let version = versioned.rollout.version;
        let body =
            json!({ "model": model.name, "version": version, "found": found, "wanted": share, "reason": reason });
        self.tell(model, "rollout.traffic", body)?;
        let outcome = match self.with_traffic(config, |traffic| traffic.apply(&wanted)) {
            Ok(()) => format!("{reason}; it was set again"),
            Err(failure) => format!("{reason}; setting it failed, and is tried again: {}", failure.reason),
        };
        self.summary.fail(&model.name, outcome);
        Ok(())
    }

    /// Reads what is new of both arms, and records what is known then.
    fn observe(&mut self, model: &Model, config: &RolloutConfig, versioned: &VersionedRollout) -> Result<()> {
        let now = self.now();
        (self.step)("observe arms");
        let observed = catch_unwind(AssertUnwindSafe(|| observe::observe(model, config, &versioned.rollout, now)));
        let observed = observed.unwrap_or_else(|_| {
            Err(Error::BadValue { what: "rollout".into(), reason: "this program failed on its predictions".into() })
        });
        match observed {
            Ok((observation, failures)) => {
                for reason in failures {
                    self.summary.fail(&model.name, reason);
                }
                if let Some(observation) = observation {
                    let step = RolloutStep::Observe { observation: Box::new(observation) };
                    self.advance(model, versioned, &step, SYSTEM_ACTOR)?;
                }
            }
            Err(error) => self.summary.fail(&model.name, format!("both arms cannot be compared: {error}")),
        }
        Ok(())
    }

    /// Does what follows from what is known; returns whether anything was done. Without its approvals a rollout only goes back.
    fn decide(&mut self, model: &Model, versioned: &VersionedRollout, is_approved: bool) -> Result<bool> {
        let rollout = &versioned.rollout;
        let by = SYSTEM_ACTOR.to_owned();
        let step = match rollout.decide(self.now()) {
            Decision::RollBack { reason } => RolloutStep::RollBack { by, reason },
            Decision::Wait { .. } => return Ok(false),
            _ if !is_approved => return Ok(false),
            Decision::Promote { reason } if rollout.state == RolloutState::Candidate => RolloutStep::Begin { reason },
            Decision::Promote { reason } => RolloutStep::Promote { by, reason },
            Decision::Ask { reason } => RolloutStep::Ask { reason },
            Decision::Settle { .. } => RolloutStep::Settle,
            Decision::Hold { reason } => RolloutStep::Hold { by, reason },
        };
        self.advance(model, versioned, &step, SYSTEM_ACTOR)
    }

    /// Records a step; returns whether it was recorded. A step that is refused is reported, and others go on.
    fn advance(
        &mut self,
        model: &Model,
        versioned: &VersionedRollout,
        step: &RolloutStep,
        actor: &str,
    ) -> Result<bool> {
        (self.step)(step.name());
        let context = StepContext { actor, at: self.now(), state: self.context.state, signed: None };
        match advance(self.fleet, self.store, model, versioned, step, context) {
            Ok(Some(after)) => {
                if !matches!(step, RolloutStep::Observe { .. }) {
                    self.summary.states.insert(model.name.clone(), described(&after.rollout));
                }
                Ok(true)
            }
            // Another process was faster; what it left is read again.
            Ok(None) => Ok(true),
            Err(error) => self.report(error).map(|reason| {
                if let Some(reason) = reason {
                    self.summary.fail(&model.name, reason);
                }
                false
            }),
        }
    }

    /// Why something was refused; `None` where that is a row which is not what the audit says, which is reported as such.
    ///
    /// # Errors
    /// Errors of the store, which end the pass.
    fn report(&mut self, error: Error) -> Result<Option<String>> {
        match error {
            Error::Store { .. } | Error::Locked { .. } => Err(error),
            Error::Tampered { .. } => {
                self.summary.tampered.push(error.to_string());
                Ok(None)
            }
            other => Ok(Some(other.to_string())),
        }
    }
}

/// The state of a rollout in few words.
pub fn described(rollout: &Rollout) -> String {
    let state = rollout.state.name().replace('_', " ");
    match rollout.state.stage().and_then(|stage| rollout.plan.stages.get(stage)) {
        Some(stage) => format!("version {}: {state}, stage '{}'", rollout.version, stage.name),
        None => format!("version {}: {state}", rollout.version),
    }
}
