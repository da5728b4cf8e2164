//! The state machine of a rollout: `candidate → stage 1 → … → full → settled`, `held`, and `rolled_back` from each of them. Pure:
//! the time and what was observed are arguments.
//!
//! ```text
//! candidate ──begin──▶ running, stage 1 ──promote──▶ running, stage 2 … ──promote──▶ running, all traffic ──settle──▶ settled
//!                        │   ▲ resume                                                     │
//!                        ▼ hold                                                           │
//!                       held ──────────────┬──────────────────────────────────────────────┘
//!                                          ▼ roll back (also while traffic is being moved)
//!                                     rolled_back
//! ```
//!
//! A step changes what is wanted of the traffic ([`Rollout::wanted_share`]). Who moves it says when that is done
//! ([`RolloutStep::Applied`]); the time of a stage begins then.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::balance::LabelBalance;
use crate::binary::Block;
use crate::evidence::{CheckEvidence, CheckVerdict, Finding, Outcome};
use crate::plan::{RolloutPlan, Stage};
use crate::share::ShareTest;

/// The release of a version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The model.
    pub model: String,
    /// The version that is released.
    pub version: u64,
    /// The version in production before; absent where there was none.
    pub former: Option<u64>,
    /// Its plan.
    pub plan: RolloutPlan,
    /// Its state.
    pub state: RolloutState,
    /// When it entered the state.
    pub since: Timestamp,
    /// Since when traffic is divided as wanted; `None` while it is being moved.
    pub applied_at: Option<Timestamp>,
    /// When traffic was divided, in order. While it is being moved, the period of the stage before goes on: its rows may show that the
    /// candidate is worse, and prove nothing for the new stage.
    pub periods: Vec<Period>,
    /// What is known of each check, in the order of the plan.
    pub evidence: Vec<CheckEvidence>,
    /// Of each check: predictions before this time are part of the evidence.
    pub observed_to: Vec<Option<Timestamp>>,
    /// By what arms are told apart and traffic is divided; while the fleet file says something else, nothing is moved.
    #[serde(default)]
    pub settings: String,
    /// How traffic is divided in this stage.
    pub share: ShareTest,
    /// Whether labels of both arms arrive alike.
    pub labels: LabelBalance,
    /// What was observed last that a person should look at.
    pub alarms: Vec<Alarm>,
    /// The names of alarms that a person has accepted in this stage.
    pub accepted: Vec<String>,
    /// When a person was asked to approve the next stage.
    pub asked_at: Option<Timestamp>,
    /// The stages that need approval by what is declared now, by their index, beside those of the plan.
    #[serde(skip)]
    pub asks_now: Vec<usize>,
}

/// A time in which traffic was divided in one way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Period {
    /// The stage.
    pub stage: usize,
    /// The share of the candidate.
    pub share: f64,
    /// From this time on ...
    pub from: Timestamp,
    /// ... and before this one; `None` is until now.
    pub until: Option<Timestamp>,
}

/// Something that a person should look at before the rollout goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its name: `share`, `labels` or `prediction_drift`.
    pub name: String,
    /// What was observed.
    pub reason: String,
}

/// New outcomes of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The check, by its index in the plan.
    pub check: usize,
    /// The stage in which the predictions were made.
    pub stage: usize,
    /// The outcomes of both arms.
    pub outcome: Outcome,
}

/// What was observed of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// What is known of each check after it.
    pub evidence: Vec<CheckEvidence>,
    /// Of each check: predictions before this time are part of it.
    pub observed_to: Vec<Option<Timestamp>>,
    /// How traffic is divided in this stage.
    pub share: ShareTest,
    /// Whether labels of both arms arrive alike.
    pub labels: LabelBalance,
    /// What else a person should look at.
    pub alarms: Vec<Alarm>,
}

/// The state of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RolloutState {
    /// It has no traffic yet.
    Candidate,
    /// It is in a stage of its plan, by its index.
    Running {
        /// The stage.
        stage: usize,
    },
    /// It stays in its stage until a person decides; it is rolled back by itself all the same.
    Held {
        /// The stage.
        stage: usize,
        /// Why.
        reason: String,
    },
    /// It is in production.
    Settled,
    /// It was taken back.
    RolledBack {
        /// Why.
        reason: String,
    },
}

impl RolloutState {
    /// The name in the store and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Running { .. } => "running",
            Self::Held { .. } => "held",
            Self::Settled => "settled",
            Self::RolledBack { .. } => "rolled_back",
        }
    }

    /// Whether nothing follows.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Settled | Self::RolledBack { .. })
    }

    /// Why it is held or was taken back.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Held { reason, .. } | Self::RolledBack { reason } => Some(reason),
            _ => None,
        }
    }

    /// The stage that it is in.
    pub fn stage(&self) -> Option<usize> {
        match self {
            Self::Running { stage } | Self::Held { stage, .. } => Some(*stage),
            _ => None,
        }
    }
}

/// A step of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum RolloutStep {
    /// It enters its first stage.
    Begin {
        /// Why.
        reason: String,
    },
    /// Traffic is divided as wanted.
    Applied,
    /// New rows were observed: what is known after them.
    Observe {
        /// That.
        observation: Box<Observation>,
    },
    /// A person is asked to approve the next stage.
    Ask {
        /// Why the rollout may go on.
        reason: String,
    },
    /// It enters the next stage.
    Promote {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// A stage that it has entered is approved again.
    Approve {
        /// The stage.
        stage: usize,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// It stays in its stage until a person decides.
    Hold {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// It goes on after it was held.
    Resume {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// It is taken back.
    RollBack {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// It is in production for good.
    Settle,
}

impl RolloutStep {
    /// The name in the audit and in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::Applied => "applied",
            Self::Observe { .. } => "observe",
            Self::Ask { .. } => "ask",
            Self::Promote { .. } => "promote",
            Self::Approve { .. } => "approve",
            Self::Hold { .. } => "hold",
            Self::Resume { .. } => "resume",
            Self::RollBack { .. } => "roll_back",
            Self::Settle => "settle",
        }
    }
}

/// A step that is not possible in the state of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllegalStep {
    /// Its state.
    pub state: &'static str,
    /// The step.
    pub step: &'static str,
}

impl fmt::Display for IllegalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [state, step] = [self.state, self.step].map(|name| name.replace('_', " "));
        write!(f, "its state is '{state}', in which '{step}' is not possible")
    }
}

/// What is to be done with a rollout now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Take it back: the candidate is worse.
    RollBack {
        /// Why.
        reason: String,
    },
    /// Let it enter the next stage: the first one, where it has not begun.
    Promote {
        /// Why.
        reason: String,
    },
    /// Ask a person to approve the next stage.
    Ask {
        /// Why it may go on.
        reason: String,
    },
    /// Let it be in production for good.
    Settle {
        /// Why.
        reason: String,
    },
    /// Let a person decide.
    Hold {
        /// Why.
        reason: String,
    },
    /// Wait: what for.
    Wait {
        /// What for.
        reason: String,
        /// The candidate's rows that are still needed, where that is known.
        rows_needed: Option<u64>,
    },
}

impl Decision {
    /// The name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RollBack { .. } => "roll back",
            Self::Promote { .. } => "promote",
            Self::Ask { .. } => "ask for approval",
            Self::Settle { .. } => "settle",
            Self::Hold { .. } => "hold",
            Self::Wait { .. } => "wait",
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::RollBack { reason }
            | Self::Promote { reason }
            | Self::Ask { reason }
            | Self::Settle { reason }
            | Self::Hold { reason }
            | Self::Wait { reason, .. } => reason,
        }
    }
}

impl Rollout {
    /// A rollout that has not begun.
    pub fn new(model: &str, version: u64, former: Option<u64>, plan: RolloutPlan, at: Timestamp) -> Self {
        Self {
            model: model.into(),
            version,
            former,
            evidence: plan.no_evidence(),
            observed_to: vec![None; plan.checks.len()],
            plan,
            state: RolloutState::Candidate,
            since: at,
            applied_at: None,
            periods: Vec::new(),
            settings: String::new(),
            share: ShareTest::new(0.0),
            labels: LabelBalance::default(),
            alarms: Vec::new(),
            accepted: Vec::new(),
            asked_at: None,
            asks_now: Vec::new(),
        }
    }

    /// Its name: of its model and version. Each version has one rollout.
    pub fn name(&self) -> String {
        format!("{}-{}", self.model, self.version)
    }

    /// The share of traffic that the candidate should have.
    pub fn wanted_share(&self) -> f64 {
        match &self.state {
            RolloutState::Candidate | RolloutState::RolledBack { .. } => 0.0,
            RolloutState::Settled => 1.0,
            RolloutState::Running { stage } | RolloutState::Held { stage, .. } => {
                self.plan.stages.get(*stage).map_or(0.0, |stage| stage.share)
            }
        }
    }

    /// Whether traffic has to be moved. A rollout that has not begun, and one that was taken back before it had traffic, moves none.
    pub fn moves_traffic(&self) -> bool {
        match &self.state {
            RolloutState::Candidate => false,
            RolloutState::RolledBack { .. } => self.applied_at.is_none() && self.has_begun(),
            _ => self.applied_at.is_none(),
        }
    }

    /// Whether it has ever been in a stage: it counts from when traffic was first to be moved.
    fn has_begun(&self) -> bool {
        self.share.wanted > 0.0 || !self.periods.is_empty()
    }

    /// Whether it is in its last stage, with all traffic.
    pub fn is_full(&self) -> bool {
        self.state.stage().is_some_and(|stage| stage + 1 == self.plan.stages.len())
    }

    /// The stage that is entered next, by its index.
    pub fn next_stage(&self) -> Option<usize> {
        let next = match &self.state {
            RolloutState::Candidate => 0,
            state => state.stage()? + 1,
        };
        (next < self.plan.stages.len()).then_some(next)
    }

    /// The same rollout, where a person must also approve what the stages that are declared now ask for.
    pub fn with_approvals_of(self, declared: &[Stage]) -> Self {
        Self { asks_now: self.plan.approvals_by(declared), ..self }
    }

    /// Whether a person must approve that a stage is entered.
    pub fn needs_approval_of(&self, stage: usize) -> bool {
        self.asks_now.contains(&stage) || self.plan.stages.get(stage).is_some_and(|stage| stage.approval)
    }

    /// Whether a person must approve that the next stage is entered.
    pub fn needs_approval(&self) -> bool {
        self.next_stage().is_some_and(|stage| self.needs_approval_of(stage))
    }

    /// What is known of each check after new outcomes, in their order.
    pub fn evidence_after(&self, news: &[Seen]) -> Vec<CheckEvidence> {
        let mut evidence = self.evidence.clone();
        for Seen { check, stage, outcome } in news {
            if let Some(known) = evidence.get_mut(*check) {
                *known = known.after(outcome, self.state.stage() == Some(*stage));
            }
        }
        evidence
    }

    /// What the evidence says of each check.
    pub fn findings(&self) -> Vec<Finding> {
        self.plan.findings(&self.evidence)
    }

    /// What a person should look at, and has not accepted in this stage.
    pub fn open_alarms(&self) -> Vec<Alarm> {
        let mut alarms = self.alarms.clone();
        if self.share.differs(self.plan.share_level) {
            let reason = format!(
                "the candidate has {:.4} of {} units of traffic, and should have {:.4}",
                self.share.observed().unwrap_or_default(),
                self.share.units,
                self.share.wanted
            );
            alarms.push(Alarm { name: "share".into(), reason });
        }
        if self.labels.differs(self.plan.share_level) {
            let Block { candidate, production } = self.labels.seen();
            let reason = format!(
                "labels of the arms do not arrive alike: {:.4} of {} rows of the candidate have one, and {:.4} of {} rows of \
                 production",
                candidate.rate(),
                candidate.rows,
                production.rate(),
                production.rows
            );
            alarms.push(Alarm { name: "labels".into(), reason });
        }
        alarms.retain(|alarm| !self.accepted.contains(&alarm.name));
        alarms
    }

    /// What is to be done at a time. It follows from the evidence alone: asked again, it gives the same.
    pub fn decide(&self, now: Timestamp) -> Decision {
        let wait = |reason: String| Decision::Wait { reason, rows_needed: None };
        let (held, stage) = match &self.state {
            RolloutState::Candidate => return self.promote("it is the candidate to be released".into()),
            RolloutState::Settled | RolloutState::RolledBack { .. } => return wait("it has ended".into()),
            RolloutState::Running { stage } => (None, *stage),
            RolloutState::Held { stage, reason } => (Some(reason), *stage),
        };
        let findings = self.findings();
        if let Some(worse) = findings.iter().find(|finding| finding.verdict == CheckVerdict::Worse) {
            return Decision::RollBack { reason: format!("{}: {}", worse.check, worse.sentence) };
        }
        if let Some(reason) = held {
            return wait(format!("it is held: {reason}"));
        }
        let Some(applied_at) = self.applied_at else { return wait("traffic is being moved".into()) };
        if let Some(alarm) = self.open_alarms().first() {
            return Decision::Hold { reason: alarm.reason.clone() };
        }
        let Some(declared) = self.plan.stages.get(stage) else { return wait("its plan has no such stage".into()) };
        let lasts = if self.is_full() { declared.lasts.max(self.plan.settle) } else { declared.lasts };
        let until = applied_at.checked_add(lasts).unwrap_or(Timestamp::MAX);
        if now < until {
            return wait(format!("stage '{}' lasts until {until}", declared.name));
        }
        if self.is_full() {
            return Decision::Settle { reason: format!("it has had all traffic since {applied_at}") };
        }
        let said = |findings: &mut dyn Iterator<Item = &Finding>| {
            findings.map(|found| format!("{}: {}", found.check, found.sentence)).collect::<Vec<_>>().join("; ")
        };
        let is_open = |finding: &Finding, evidence: &CheckEvidence| {
            finding.verdict == CheckVerdict::Open && (declared.prove || !evidence.has_outcomes())
        };
        let known = findings.iter().zip(&self.evidence);
        let open: Vec<&Finding> =
            known.filter(|(finding, evidence)| is_open(finding, evidence)).map(|(finding, _)| finding).collect();
        if open.is_empty() {
            return self.promote(said(&mut findings.iter()));
        }
        let said = said(&mut open.iter().copied());
        // After it was held, a person gives it this time again.
        match now >= until.max(self.since).checked_add(self.plan.give_up).unwrap_or(Timestamp::MAX) {
            true => Decision::Hold { reason: format!("nothing was shown within {:#}: {said}", self.plan.give_up) },
            false => {
                Decision::Wait { reason: said, rows_needed: open.iter().filter_map(|found| found.rows_needed).max() }
            }
        }
    }

    /// Lets it enter the next stage, or asks for that where a person must approve it.
    fn promote(&self, reason: String) -> Decision {
        match (self.needs_approval(), self.asked_at) {
            (false, _) => Decision::Promote { reason },
            (true, None) => Decision::Ask { reason },
            (true, Some(at)) => {
                Decision::Wait { reason: format!("approval was asked for at {at}: {reason}"), rows_needed: None }
            }
        }
    }

    /// The rollout after a step.
    ///
    /// # Errors
    /// [`IllegalStep`] if the step is not possible in the state of the rollout.
    pub fn apply(&self, step: &RolloutStep, at: Timestamp) -> Result<Self, IllegalStep> {
        let illegal = || IllegalStep { state: self.state.name(), step: step.name() };
        let mut next = self.clone();
        let state = match (&self.state, step) {
            (RolloutState::Candidate, RolloutStep::Begin { .. }) => RolloutState::Running { stage: 0 },
            (_, RolloutStep::Applied) if self.moves_traffic() => {
                next.applied_at = Some(at);
                // Until then traffic was divided as before.
                next.end_period(at);
                next.begin_period(at);
                return Ok(next);
            }
            (state, RolloutStep::Observe { observation })
                if state.stage().is_some() && observation.evidence.len() == self.evidence.len() =>
            {
                let Observation { evidence, observed_to, share, labels, alarms } = (**observation).clone();
                return Ok(Self { evidence, observed_to, share, labels, alarms, ..next });
            }
            (state, RolloutStep::Ask { .. }) if !state.is_final() && self.asked_at.is_none() => {
                next.asked_at = Some(at);
                return Ok(next);
            }
            (state, RolloutStep::Approve { stage, .. }) if state.stage().is_some_and(|entered| *stage <= entered) => {
                return Ok(next);
            }
            // A person may promote also while it is held.
            (RolloutState::Running { stage } | RolloutState::Held { stage, .. }, RolloutStep::Promote { .. })
                if !self.is_full() =>
            {
                RolloutState::Running { stage: stage + 1 }
            }
            (RolloutState::Running { stage }, RolloutStep::Hold { reason, .. }) => {
                RolloutState::Held { stage: *stage, reason: reason.clone() }
            }
            (RolloutState::Held { stage, .. }, RolloutStep::Resume { .. }) => {
                // Who lets it go on has seen why it was held.
                next.accepted.extend(self.open_alarms().into_iter().map(|alarm| alarm.name));
                RolloutState::Running { stage: *stage }
            }
            (RolloutState::Running { .. }, RolloutStep::Settle) if self.is_full() => RolloutState::Settled,
            (state, RolloutStep::RollBack { reason, .. }) if !state.is_final() => {
                RolloutState::RolledBack { reason: reason.clone() }
            }
            _ => return Err(illegal()),
        };
        next.state = state;
        next.since = at;
        if next.wanted_share() != self.wanted_share() {
            next.applied_at = None;
        }
        if next.state.stage() != self.state.stage() {
            next.asked_at = None;
        }
        if next.state.is_final() || next.applied_at.is_some() && next.state.stage() != self.state.stage() {
            next.end_period(at);
        }
        if next.state.stage().is_some() && next.state.stage() != self.state.stage() {
            let level = self.plan.level_of_a_check();
            let checks = self.plan.checks.iter().zip(&self.evidence);
            next.evidence = checks.map(|(check, known)| known.in_next_stage(check, level)).collect();
            next.share = ShareTest::new(next.wanted_share());
            (next.alarms, next.accepted) = (Vec::new(), Vec::new());
            // A stage with the share of the one before begins at once.
            next.applied_at = next.applied_at.map(|_| at);
            if next.applied_at.is_some() {
                next.begin_period(at);
            }
        }
        Ok(next)
    }

    /// Traffic is divided as wanted from now on.
    fn begin_period(&mut self, at: Timestamp) {
        if let Some(stage) = self.state.stage() {
            self.periods.push(Period { stage, share: self.wanted_share(), from: at, until: None });
        }
    }

    /// Traffic is divided in this way no longer.
    fn end_period(&mut self, at: Timestamp) {
        if let Some(last) = self.periods.last_mut().filter(|last| last.until.is_none()) {
            last.until = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::binary::Outcomes;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 3600 * hours).unwrap()
    }

    fn new() -> Rollout {
        Rollout::new("m", 3, Some(2), RolloutPlan::of_quality(0.9), at(0))
    }

    fn by(kind: &str) -> RolloutStep {
        let (by, reason) = ("ana".to_owned(), "because".to_owned());
        match kind {
            "begin" => RolloutStep::Begin { reason },
            "applied" => RolloutStep::Applied,
            "promote" => RolloutStep::Promote { by, reason },
            "hold" => RolloutStep::Hold { by, reason },
            "resume" => RolloutStep::Resume { by, reason },
            "roll_back" => RolloutStep::RollBack { by, reason },
            "settle" => RolloutStep::Settle,
            other => panic!("{other}"),
        }
    }

    const KINDS: [&str; 7] = ["begin", "applied", "promote", "hold", "resume", "roll_back", "settle"];

    fn walk(kinds: &[&str]) -> Rollout {
        kinds.iter().zip(1..).fold(new(), |rollout, (kind, hour)| rollout.apply(&by(kind), at(hour)).unwrap())
    }

    fn observed(rollout: &Rollout, candidate: (u64, u64), production: (u64, u64), hour: i64) -> Rollout {
        let outcomes = |(rows, good)| Outcomes { rows, good };
        let block = Block { candidate: outcomes(candidate), production: outcomes(production) };
        let stage = rollout.state.stage().unwrap();
        let seen = Seen { check: 0, stage, outcome: Outcome::Binary(block) };
        let observation = Observation {
            evidence: rollout.evidence_after(&[seen]),
            observed_to: vec![Some(at(hour))],
            share: rollout.share.after(candidate.0, candidate.0 + production.0),
            labels: rollout.labels,
            alarms: Vec::new(),
        };
        rollout.apply(&RolloutStep::Observe { observation: Box::new(observation) }, at(hour)).unwrap()
    }

    #[test]
    fn only_the_steps_of_the_diagram_lead_anywhere() {
        let places: [(&str, &[&str]); 6] = [
            ("candidate", &[]),
            ("running 0", &["begin"]),
            ("held 0", &["begin", "hold"]),
            ("running 3", &["begin", "promote", "promote", "promote"]),
            ("settled", &["begin", "promote", "promote", "promote", "settle"]),
            ("rolled_back", &["begin", "roll_back"]),
        ];
        let name = |rollout: &Rollout| match rollout.state.stage() {
            Some(stage) => format!("{} {stage}", rollout.state.name()),
            None => rollout.state.name().to_owned(),
        };
        let mut legal = Vec::new();
        for (place, path) in places {
            let rollout = walk(path);
            assert_eq!(name(&rollout), place);
            for kind in KINDS.into_iter().filter(|kind| *kind != "applied") {
                match rollout.apply(&by(kind), at(20)) {
                    Ok(after) => legal.push(format!("{place} {kind} {}", name(&after))),
                    Err(illegal) => assert!(illegal.to_string().contains("is not possible")),
                }
            }
        }
        let wanted = [
            "candidate begin running 0",
            "candidate roll_back rolled_back",
            "running 0 promote running 1",
            "running 0 hold held 0",
            "running 0 roll_back rolled_back",
            "held 0 promote running 1",
            "held 0 resume running 0",
            "held 0 roll_back rolled_back",
            "running 3 hold held 3",
            "running 3 roll_back rolled_back",
            "running 3 settle settled",
        ];
        assert_eq!(legal, wanted);
    }

    #[test]
    fn the_time_of_a_stage_begins_when_traffic_is_divided_and_what_moves_it_is_asked_again_until_then() {
        let rollout = walk(&["begin"]);
        assert_eq!((rollout.wanted_share(), rollout.applied_at), (0.05, None));
        assert!(matches!(rollout.decide(at(900)), Decision::Wait { reason, .. } if reason == "traffic is being moved"));
        let rollout = rollout.apply(&by("applied"), at(10)).unwrap();
        // Evidence that it is sound, long before the stage has lasted.
        let rollout = observed(&rollout, (5000, 4500), (95_000, 85_500), 12);
        assert!(matches!(rollout.decide(at(33)), Decision::Wait { reason, .. } if reason.contains("lasts until")));
        assert!(matches!(rollout.decide(at(34)), Decision::Promote { .. }), "{:?}", rollout.decide(at(34)));
        // The next stage has the same share: nothing is moved, and its time begins at once.
        let rollout = rollout.apply(&by("promote"), at(34)).unwrap();
        assert_eq!((rollout.wanted_share(), rollout.applied_at), (0.05, Some(at(34))));
        // It must show anew that it is not inferior.
        assert!(matches!(rollout.decide(at(34 + 48)), Decision::Wait { .. }));
        let rollout = observed(&rollout, (5000, 4500), (95_000, 85_500), 80);
        let rollout = rollout.apply(&by("promote"), at(34 + 48)).unwrap();
        assert_eq!((rollout.wanted_share(), rollout.applied_at), (0.25, None));
    }

    #[test]
    fn a_worse_candidate_is_taken_back_from_every_stage_also_while_it_is_held_or_traffic_is_being_moved() {
        for path in [
            &["begin"][..],
            &["begin", "applied"],
            &["begin", "applied", "hold"],
            &["begin", "applied", "promote", "promote"],
            &["begin", "applied", "promote", "promote", "applied"],
        ] {
            let rollout = observed(&walk(path), (2000, 1600), (8000, 7200), 30);
            let Decision::RollBack { reason } = rollout.decide(at(31)) else {
                panic!("{path:?}: {:?}", rollout.decide(at(31)))
            };
            assert!(reason.contains("quality: 0.8000 of 2000 rows"), "{reason}");
            let step = RolloutStep::RollBack { by: "driftsweep".into(), reason };
            let back = rollout.apply(&step, at(31)).unwrap();
            assert_eq!((back.wanted_share(), back.applied_at), (0.0, None));
            assert!(matches!(back.decide(at(99)), Decision::Wait { .. }));
        }
    }

    #[test]
    fn no_data_never_promotes_and_a_person_is_asked_in_the_end() {
        let rollout = walk(&["begin", "applied"]);
        for hour in [30, 24 * 10] {
            assert!(matches!(rollout.decide(at(hour)), Decision::Wait { rows_needed: None, .. }));
        }
        let Decision::Hold { reason } = rollout.decide(at(24 * 16)) else { panic!() };
        assert!(reason.contains("nothing was shown"), "{reason}");
        // One arm alone is no data, however many rows it has.
        for (candidate, production) in [((90_000, 90_000), (0, 0)), ((0, 0), (90_000, 90_000))] {
            let one = observed(&rollout, candidate, production, 20);
            assert!(!matches!(one.decide(at(30)), Decision::Promote { .. } | Decision::RollBack { .. }));
        }
        // Some rows: how many more.
        let some = observed(&rollout, (200, 180), (3800, 3420), 20);
        let Decision::Wait { rows_needed: Some(rows), .. } = some.decide(at(30)) else {
            panic!("{:?}", some.decide(at(30)))
        };
        assert!((1000..10_000).contains(&rows), "{rows}");
    }

    #[test]
    fn traffic_that_is_divided_in_another_way_is_held() {
        let rollout = walk(&["begin", "applied"]);
        let rollout = observed(&rollout, (4000, 3600), (16_000, 14_400), 12);
        let Decision::Hold { reason } = rollout.decide(at(40)) else { panic!("{:?}", rollout.decide(at(40))) };
        assert!(reason.contains("0.2000 of 20000 units of traffic, and should have 0.0500"), "{reason}");
    }

    #[test]
    fn who_lets_a_held_rollout_go_on_has_accepted_its_alarms_in_this_stage() {
        let rollout = walk(&["begin", "applied"]);
        let rollout = observed(&rollout, (4000, 3600), (16_000, 14_400), 30);
        assert!(matches!(rollout.decide(at(40)), Decision::Hold { .. }));
        let held = rollout.apply(&by("hold"), at(40)).unwrap();
        let resumed = held.apply(&by("resume"), at(41)).unwrap();
        assert_eq!(resumed.accepted, ["share"]);
        assert!(matches!(resumed.decide(at(41)), Decision::Promote { .. }), "{:?}", resumed.decide(at(41)));
        let next = resumed.apply(&by("promote"), at(41)).unwrap();
        assert!(next.accepted.is_empty());
        // One that was held because nothing was shown has its time again.
        let long = walk(&["begin", "applied"]);
        assert!(matches!(long.decide(at(24 * 16)), Decision::Hold { .. }));
        let resumed = long.apply(&by("hold"), at(24 * 16)).unwrap().apply(&by("resume"), at(24 * 17)).unwrap();
        assert!(matches!(resumed.decide(at(24 * 18)), Decision::Wait { .. }));
        assert!(matches!(resumed.decide(at(24 * 31)), Decision::Hold { .. }));
    }

    #[test]
    fn while_traffic_is_moved_the_stage_before_goes_on_and_rows_of_an_earlier_stage_show_harm_alone() {
        let rollout = walk(&["begin", "applied", "promote", "promote", "applied"]);
        let periods: Vec<_> = rollout.periods.iter().map(|p| (p.stage, p.share, p.from, p.until)).collect();
        let wanted = [(0, 0.05, at(2), Some(at(3))), (1, 0.05, at(3), Some(at(5))), (2, 0.25, at(5), None)];
        assert_eq!(periods, wanted);
        let block = |good| {
            let outcomes = |rows, good| Outcomes { rows, good };
            Outcome::Binary(Block { candidate: outcomes(5000, good), production: outcomes(95_000, 85_500) })
        };
        let after = |stage, good| Rollout {
            evidence: rollout.evidence_after(&[Seen { check: 0, stage, outcome: block(good) }]),
            ..rollout.clone()
        };
        let verdict = |rollout: Rollout| rollout.findings()[0].verdict;
        assert_eq!(verdict(after(2, 4500)), CheckVerdict::Sound);
        assert_eq!(verdict(after(1, 4500)), CheckVerdict::Open);
        assert_eq!(verdict(after(1, 4000)), CheckVerdict::Worse);
    }

    #[test]
    fn a_stage_that_needs_approval_is_asked_for_once_and_entered_by_a_person() {
        let mut plan = RolloutPlan::of_quality(0.9);
        plan.stages[0].approval = true;
        let rollout = Rollout::new("m", 3, Some(2), plan, at(0));
        let Decision::Ask { reason } = rollout.decide(at(0)) else { panic!("{:?}", rollout.decide(at(0))) };
        let asked = rollout.apply(&RolloutStep::Ask { reason }, at(0)).unwrap();
        assert!(matches!(asked.decide(at(1)), Decision::Wait { .. }));
        assert!(asked.apply(&RolloutStep::Ask { reason: String::new() }, at(1)).is_err());
        let begun = asked.apply(&RolloutStep::Begin { reason: "looked at".into() }, at(2)).unwrap();
        assert_eq!((begun.asked_at, begun.wanted_share()), (None, 0.05));
        let again = |stage| RolloutStep::Approve { stage, by: "ana".into(), reason: "looked at".into() };
        assert_eq!(begun.apply(&again(0), at(3)).unwrap(), begun);
        assert!(begun.apply(&again(1), at(3)).is_err(), "it has not been entered");
        assert!(asked.apply(&again(0), at(3)).is_err(), "it has not been entered");
    }

    #[test]
    fn approvals_that_are_declared_count_also_where_the_plan_has_others_or_other_stages() {
        let plan = RolloutPlan::of_quality(0.9);
        let declared = |index: usize| {
            let mut stages = plan.stages.clone();
            stages[index].approval = true;
            stages
        };
        let asked = |plan: &RolloutPlan, declared: &[Stage]| {
            let rollout = Rollout::new("m", 3, Some(2), plan.clone(), at(0)).with_approvals_of(declared);
            (0..plan.stages.len()).filter(|stage| rollout.needs_approval_of(*stage)).collect::<Vec<_>>()
        };
        assert_eq!(asked(&plan, &plan.stages), [0; 0]);
        // The plan's own stages, whatever they are called: also where two have one share.
        let shares: Vec<f64> = plan.stages.iter().map(|stage| stage.share).collect();
        assert_eq!(shares, [0.05, 0.05, 0.25, 1.0]);
        for index in 0..4 {
            let mut renamed = declared(index);
            renamed[index].name = "renamed".into();
            assert_eq!(asked(&plan, &renamed), [index]);
        }
        let own = RolloutPlan { stages: declared(1), ..plan.clone() };
        assert_eq!(asked(&own, &plan.stages), [1], "what the plan asks for is not taken away");
        // Other stages: what is above the share that is declared to be free.
        for (stages, index, wanted) in [
            (vec![Stage { share: 0.99, ..plan.stages[0].clone() }, plan.stages[3].clone()], 3, vec![0, 1]),
            (vec![plan.stages[3].clone()], 2, vec![0]),
            (vec![plan.stages[0].clone(), plan.stages[3].clone()], 2, vec![1]),
            (vec![plan.stages[0].clone(), plan.stages[3].clone()], 0, vec![0, 1]),
        ] {
            assert_eq!(asked(&RolloutPlan { stages, ..plan.clone() }, &declared(index)), wanted);
        }
    }

    #[test]
    fn a_stage_that_proves_nothing_is_left_after_its_time_but_not_without_outcomes_of_both_arms() {
        let mut plan = RolloutPlan::of_quality(0.9);
        plan.stages[0].prove = false;
        let rollout = Rollout::new("m", 3, Some(2), plan, at(0));
        let rollout = rollout.apply(&by("begin"), at(0)).unwrap().apply(&by("applied"), at(0)).unwrap();
        assert!(matches!(rollout.decide(at(30)), Decision::Wait { .. }));
        let one = observed(&rollout, (0, 0), (900, 800), 20);
        assert!(!matches!(one.decide(at(30)), Decision::Promote { .. }), "{:?}", one.decide(at(30)));
        let both = observed(&rollout, (50, 45), (950, 855), 20);
        assert!(matches!(both.decide(at(20)), Decision::Wait { .. }));
        assert!(matches!(both.decide(at(30)), Decision::Promote { .. }));
        let worse = observed(&rollout, (2000, 1600), (8000, 7200), 20);
        assert!(matches!(worse.decide(at(30)), Decision::RollBack { .. }));
    }

    #[test]
    fn a_rollout_that_never_had_traffic_moves_none_when_it_is_taken_back() {
        assert!(!walk(&["roll_back"]).moves_traffic());
        assert!(walk(&["begin", "roll_back"]).moves_traffic());
        assert!(!walk(&["begin", "roll_back", "applied"]).moves_traffic());
        assert!(!walk(&["begin", "promote", "promote", "promote", "applied", "settle"]).moves_traffic());
    }

    #[test]
    fn a_rollout_is_stored_and_read_as_it_was() {
        let rollout = observed(&walk(&["begin", "applied"]), (2000, 1800), (38_000, 34_200), 30);
        let text = serde_json::to_string(&rollout).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout);
        let held = rollout.apply(&by("hold"), at(40)).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&serde_json::to_string(&held).unwrap()).unwrap(), held);
    }

    #[test]
    fn plans_with_a_mistake_are_refused_with_what_is_possible() {
        let plan = || RolloutPlan::of_quality(0.9);
        assert_eq!(plan().check(), Ok(()));
        let changed = |change: &dyn Fn(&mut RolloutPlan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err()
        };
        for (found, words) in [
            (changed(&|plan| plan.stages.clear()), "stages is empty"),
            (changed(&|plan| drop(plan.stages.pop())), "must be 1"),
            (changed(&|plan| plan.stages[0].share = 0.0), "above 0"),
            (changed(&|plan| plan.stages[0].share = 0.5), "smaller share"),
            (changed(&|plan| plan.level = 0.0), "level is 0"),
            (changed(&|plan| plan.settle = SignedDuration::from_hours(-1)), "settle is"),
            (changed(&|plan| plan.checks.clear()), "no check"),
            (changed(&|plan| plan.checks.push(plan.checks[0].clone())), "two checks"),
            (changed(&|plan| plan.checks[0].tolerance = 0.06), "worse is 0.05"),
            (changed(&|plan| plan.checks[0].margin = Some(0.0)), "margin is 0"),
        ] {
            assert!(found.contains(words), "{found}");
        }
    }
}
