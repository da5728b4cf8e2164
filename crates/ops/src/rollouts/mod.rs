//! Takes rollouts further: one pass over all models that declare one. It begins the release of an accepted candidate, moves traffic,
//! observes both arms, and does what follows.
//!
//! A pass may be killed between any two steps and run again, or run twenty times at once: only the process that holds the fleet's lock
//! for rollouts acts; each step is one transaction with its audit record and its messages, and counts only if no other process has
//! changed the rollout since; and traffic is moved again until that is known to have succeeded.

mod arms;
mod observe;
mod step;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::notify::{self, AuditedFact};
use crate::retrain::{JobState, ModelVersion, VersionName, VersionStatus};
use crate::store::{SYSTEM_ACTOR, Store, VersionedRollout};
use arms::arms;
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::http::{Http, RequestFailure};
use driftsweep_extensions::traffic::{SAME_SHARE, TrafficTools, WantedTraffic};
use driftsweep_fleet::{Fleet, Model, RolloutConfig};
use driftsweep_release::{Decision, Rollout, RolloutState, RolloutStep};
use step::advance;

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
        for versioned in active.iter().filter(|versioned| versioned.rollout.moves_traffic()) {
            if !pass.has_other_settings(model, config, &versioned.rollout) {
                pass.move_traffic(model, config, versioned)?;
            }
        }
        Ok(pass.summary)
    })
}

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
            if rollout.state.is_final() && !rollout.moves_traffic() {
                self.correct_traffic(model, config, &versioned)?;
                return Ok(());
            }
            // A worse candidate is also taken back while its traffic is moved.
            if rollout.state.stage().is_some() && !observed {
                observed = true;
                if !rollout.moves_traffic() {
                    self.correct_traffic(model, config, &versioned)?;
                }
                self.observe(model, config, &versioned)?;
                continue;
            }
            if rollout.moves_traffic() {
                if self.move_traffic(model, config, &versioned)? || self.has_changed(&versioned)? {
                    continue;
                }
                if rollout.state.is_final() || !self.decide(model, &versioned)? {
                    return Ok(());
                }
                continue;
            }
            if !self.decide(model, &versioned)? {
                return Ok(());
            }
        }
        Ok(())
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

    /// Whether somebody else has taken a rollout further since it was read: moving traffic may take a while.
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
        // Somebody may give a candidate traffic again that was taken back.
        if let Some(last) = self.store.rollouts(Some(&model.name))?.pop()
            && matches!(last.rollout.state, RolloutState::RolledBack { .. })
            && last.rollout.applied_at.is_some()
            && last.rollout.settings == config.settings()
            && self.now().duration_since(last.rollout.since) < WATCHED_AFTER
            && candidate(self.store, model)?.is_none()
        {
            return Ok(Some(last));
        }
        match candidate(self.store, model)? {
            None => Ok(None),
            Some((version, champion)) => self.begin(model, config, &version, champion.as_ref()),
        }
    }

    /// Adds the rollout of a candidate.
    fn begin(
        &mut self,
        model: &Model,
        config: &RolloutConfig,
        version: &ModelVersion,
        champion: Option<&ModelVersion>,
    ) -> Result<Option<VersionedRollout>> {
        if let Err(reason) = arms(config, version.version, champion.map(|champion| champion.version)) {
            self.summary.fail(&model.name, format!("version {} is not released: {reason}", version.version));
            return Ok(None);
        }
        let plan = match observe::plan(model, config, version, champion, self.now()) {
            Ok(plan) => plan,
            Err(error) => {
                self.summary.fail(&model.name, format!("version {} is not released yet: {error}", version.version));
                return Ok(None);
            }
        };
        (self.step)("add rollout");
        let now = self.now();
        let former = champion.map(|champion| champion.version);
        let rollout = Rollout::new(&model.name, version.version, former, plan, now);
        let rollout = Rollout { settings: config.settings(), ..rollout };
        let fleet = self.fleet;
        let added = self.store.transaction(|store| {
            if let Some(problem) = store.rollouts_problem(&model.name)? {
                return Err(store.tampered(problem));
            }
            let added = store.add_rollout(&rollout)?;
            let body = json!({
                "model": model.name, "version": version.version, "former": former, "job": version.job,
                "plan": rollout.plan, "reason": version.reason,
            });
            let fact = AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: "rollout.create", subject: &model.name, body };
            notify::record(fleet, store, fact)?;
            Ok(added)
        })?;
        Ok(Some(added))
    }

    /// Divides traffic as wanted; returns whether that succeeded.
    fn move_traffic(&mut self, model: &Model, config: &RolloutConfig, versioned: &VersionedRollout) -> Result<bool> {
        (self.step)("move traffic");
        match self.set_traffic(model, config, versioned)? {
            Ok(()) => {
                (self.step)("traffic moved");
                self.advance(model, versioned, &RolloutStep::Applied, SYSTEM_ACTOR)
            }
            Err(failure) => {
                let rollout = &versioned.rollout;
                let reason = format!(
                    "traffic of version {} could not be set to a share of {}: {}",
                    rollout.version,
                    rollout.wanted_share(),
                    failure.reason
                );
                self.tell_once(model, versioned, &reason)?;
                self.summary.fail(&model.name, format!("{reason}; the next tick tries again"));
                Ok(false)
            }
        }
    }

    /// Tells that traffic cannot be moved, once for each step of a rollout.
    fn tell_once(&mut self, model: &Model, versioned: &VersionedRollout, reason: &str) -> Result<()> {
        const KIND: &str = "rollout.traffic_failed";
        let known = self.store.last_record(&model.name, &[KIND])?;
        if known.is_some_and(|record| {
            record.body["step"] == versioned.steps && record.body["version"] == versioned.rollout.version
        }) {
            return Ok(());
        }
        let body = json!({
            "model": model.name, "version": versioned.rollout.version, "step": versioned.steps, "reason": reason,
        });
        let (fleet, now) = (self.fleet, self.now());
        self.store.transaction(|store| {
            let fact = AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: KIND, subject: &model.name, body };
            notify::record(fleet, store, fact).map(drop)
        })
    }

    fn set_traffic(
        &mut self,
        model: &Model,
        config: &RolloutConfig,
        versioned: &VersionedRollout,
    ) -> Result<std::result::Result<(), RequestFailure>> {
        let wanted = match self.wanted(model, config, versioned)? {
            Ok(wanted) => wanted,
            Err(reason) => return Ok(Err(RequestFailure::transient(reason))),
        };
        let tools = TrafficTools { http: self.context.http, now: self.now() };
        let moved = catch_unwind(AssertUnwindSafe(|| config.traffic.settings().open(tools).apply(&wanted)));
        Ok(moved.unwrap_or_else(|_| Err(RequestFailure::transient("this program failed on it"))))
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

    /// Sets traffic again where somebody else has divided it in another way.
    fn correct_traffic(&mut self, model: &Model, config: &RolloutConfig, versioned: &VersionedRollout) -> Result<()> {
        let Ok(wanted) = self.wanted(model, config, versioned)? else { return Ok(()) };
        let tools = TrafficTools { http: self.context.http, now: self.now() };
        let set = catch_unwind(AssertUnwindSafe(|| config.traffic.settings().open(tools).share(&wanted)));
        let set = set.unwrap_or_else(|_| Err(RequestFailure::transient("this program failed on it")));
        let found = match set {
            Ok(None) => return Ok(()),
            Ok(Some(share)) if (share - wanted.share).abs() <= SAME_SHARE => return Ok(()),
            Ok(Some(share)) => share,
            Err(failure) => {
                self.summary.fail(&model.name, format!("how traffic is divided cannot be read: {}", failure.reason));
                return Ok(());
            }
        };
        (self.step)("correct traffic");
        let reason = match found.is_finite() {
            true => format!("the candidate had a share of {found} of traffic, and should have {}", wanted.share),
            false => {
                format!("traffic was not divided as it was set, with a share of {} of the candidate", wanted.share)
            }
        };
        let body = json!({
            "model": model.name, "version": versioned.rollout.version, "found": found, "wanted": wanted.share, "reason": reason,
        });
        let (fleet, now) = (self.fleet, self.now());
        self.store.transaction(|store| {
            let fact =
                AuditedFact { at: now, actor: SYSTEM_ACTOR, kind: "rollout.traffic", subject: &model.name, body };
            notify::record(fleet, store, fact).map(drop)
        })?;
        match self.set_traffic(model, config, versioned)? {
            Ok(()) => self.summary.fail(&model.name, format!("{reason}; it was set again")),
            Err(failure) => self
                .summary
                .fail(&model.name, format!("{reason}; setting it failed, and is tried again: {}", failure.reason)),
        }
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

    /// Does what follows from what is known; returns whether anything was done.
    fn decide(&mut self, model: &Model, versioned: &VersionedRollout) -> Result<bool> {
        let rollout = &versioned.rollout;
        let by = SYSTEM_ACTOR.to_owned();
        let step = match rollout.decide(self.now()) {
            Decision::Wait { .. } => return Ok(false),
            Decision::Promote { .. } if rollout.state == RolloutState::Candidate => RolloutStep::Begin,
            Decision::Promote { reason } => RolloutStep::Promote { by, reason },
            Decision::Ask { reason } => RolloutStep::Ask { reason },
            Decision::Settle { .. } => RolloutStep::Settle,
            Decision::Hold { reason } => RolloutStep::Hold { by, reason },
            Decision::RollBack { reason } => RolloutStep::RollBack { by, reason },
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
        let now = self.now();
        match advance(self.fleet, self.store, model, versioned, step, (actor, now, self.context.state)) {
            Ok(Some(after)) => {
                if !matches!(step, RolloutStep::Observe { .. }) {
                    self.summary.states.insert(model.name.clone(), described(&after.rollout));
                }
                Ok(true)
            }
            // Another process was faster; what it left is read again.
            Ok(None) => Ok(true),
            Err(error @ (Error::Store { .. } | Error::Locked { .. })) => Err(error),
            Err(error @ Error::Tampered { .. }) => {
                self.summary.tampered.push(error.to_string());
                Ok(false)
            }
            Err(error) => {
                self.summary.fail(&model.name, error.to_string());
                Ok(false)
            }
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

/// The candidate of a model that may be released now, and the champion: the newest that its gates have accepted since the champion
/// is in production, and that was not released before.
///
/// # Errors
/// [`Error::Store`].
pub fn candidate(store: &mut Store, model: &Model) -> Result<Option<(ModelVersion, Option<ModelVersion>)>> {
    let versions = store.versions(Some(&model.name))?;
    let champion = versions.iter().find(|version| version.status == VersionStatus::Champion).cloned();
    // A person registers what was trained elsewhere, and says when it is released.
    let trained = |version: &&ModelVersion| version.status == VersionStatus::Candidate && version.job.is_some();
    let Some(newest) = versions.iter().rfind(trained) else { return Ok(None) };
    let Some(job) = &newest.job else { return Ok(None) };
    if store.job(job)?.is_none_or(|versioned| versioned.job.state != JobState::Succeeded) {
        return Ok(None);
    }
    let is_older = champion.as_ref().is_some_and(|champion| champion.since > newest.since);
    let known = store.released_versions(&model.name)?;
    if is_older || known.iter().any(|(version, is_open)| *is_open || *version == newest.version) {
        return Ok(None);
    }
    Ok(Some((newest.clone(), champion)))
}

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
/// [`Error::BadValue`] where there is none, where the step is not possible, and where somebody else must approve it;
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
    for _ in 0..MAX_STEPS {
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

/// Adds the rollout of a version that a person names: one that was registered by hand, or accepted before the fleet file declared how
/// it is released.
///
/// # Errors
/// [`Error::BadValue`] where it cannot be released; [`Error::Tampered`]; [`Error::Store`]; those of reading predictions.
pub fn start(
    fleet: &Fleet,
    store: &mut Store,
    model: &Model,
    name: &VersionName,
    decision: RolloutDecision<'_>,
) -> Result<Rollout> {
    let wrong = |reason: String| Error::BadValue { what: format!("model '{}'", model.name), reason };
    let Some(config) = &model.rollout else {
        return Err(wrong("the fleet file does not say how it is released; add [model.rollout]".into()));
    };
    let version = store.version(&model.name, name)?;
    let version =
        version.ok_or_else(|| wrong(format!("there is no version {name}; `driftsweep models list` shows them")))?;
    if version.status != VersionStatus::Candidate {
        return Err(wrong(format!(
            "version {} is {}, and only a candidate is released",
            version.version, version.status
        )));
    }
    let champion = store.champion(&model.name)?;
    let former = champion.as_ref().map(|champion| champion.version);
    arms(config, version.version, former).map_err(wrong)?;
    let plan = observe::plan(model, config, &version, champion.as_ref(), decision.at)?;
    let at = Timestamp::from_microsecond(decision.at.as_microsecond()).unwrap_or(decision.at);
    let rollout = Rollout::new(&model.name, version.version, former, plan, at);
    let rollout = Rollout { settings: config.settings(), ..rollout };
    store.transaction(|store| {
        if let Some(problem) = store.rollouts_problem(&model.name)? {
            return Err(store.tampered(problem));
        }
        let known = store.released_versions(&model.name)?;
        if let Some((open, _)) = known.iter().find(|(_, is_open)| *is_open) {
            return Err(wrong(format!("its version {open} is being released already")));
        }
        if known.iter().any(|(released, _)| *released == version.version) {
            return Err(wrong(format!(
                "version {} was released before; each version is released once",
                version.version
            )));
        }
        if let Some(job) = &version.job
            && store.job(job)?.is_none_or(|versioned| versioned.job.state != JobState::Succeeded)
        {
            return Err(wrong(format!("the training of version {}, job {job}, has not succeeded", version.version)));
        }
        store.add_rollout(&rollout)?;
        let body = json!({
            "model": model.name, "version": version.version, "former": former, "job": version.job, "plan": rollout.plan,
            "reason": decision.reason,
        });
        let fact = AuditedFact { at, actor: decision.by, kind: "rollout.create", subject: &model.name, body };
        notify::record(fleet, store, fact).map(drop)
    })?;
    Ok(rollout)
}
