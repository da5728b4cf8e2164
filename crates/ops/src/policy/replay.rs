//! The past of a model under a policy: look by look, with what was known at each. Pure: what triggers say, how a model is trained
//! and what gates say is asked of the caller, who must answer from what was known then.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::outcome::{FiringContext, FiringOutcome};
use driftsweep_fleet::Trigger;

/// When a model is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Any of these triggers starts a training; none: the model is never trained again.
    pub triggers: Vec<Trigger>,
    /// Whether gates decide about each candidate; else each goes into production.
    pub gated: bool,
}

/// A point in time at which something may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The time.
    pub at: Timestamp,
    /// Whether there is a sweep, by which triggers are judged.
    pub sweep: bool,
    /// Whether a training is scheduled.
    pub scheduled: bool,
}

/// What holds under every policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRules {
    /// The shortest time between two events.
    pub cooldown: SignedDuration,
    /// How long after the look a trained model is used.
    pub lag: SignedDuration,
}

/// What is in production at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InProduction {
    /// The model, as the caller numbers it.
    pub model: usize,
    /// Since when it predicts.
    pub since: Timestamp,
    /// When the volume trigger last fired.
    pub volume_fired: Option<Timestamp>,
}

/// What the caller answers: from what was known at the time it is asked about.
pub trait ReplayWorld {
    /// An error that ends the replay.
    type Error;

    /// Which of the wanted triggers fire at a sweep.
    ///
    /// # Errors
    /// One that ends the replay.
    fn judge(&mut self, at: Timestamp, now: InProduction, wanted: &[Trigger]) -> Result<Vec<Trigger>, Self::Error>;

    /// Trains at a time: the number of the model, or the reason why there is none.
    ///
    /// # Errors
    /// One that ends the replay.
    fn train(&mut self, at: Timestamp) -> Result<Result<usize, String>, Self::Error>;

    /// What gates say of a candidate beside the model in production; the reason where they do not accept it.
    ///
    /// # Errors
    /// One that ends the replay.
    fn gate(&mut self, at: Timestamp, candidate: usize, champion: usize) -> Result<Result<(), String>, Self::Error>;
}

/// What became of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingOutcome {
    /// It went into production then.
    Deployed(Timestamp),
    /// Gates did not accept it.
    Rejected(String),
    /// There was no model.
    Failed(String),
}

/// A training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplayTraining {
    /// When it was started.
    pub at: Timestamp,
    /// By which triggers.
    pub triggers: Vec<Trigger>,
    /// What became of it.
    pub outcome: TrainingOutcome,
}

/// The past under a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The trainings after the first model.
    pub trainings: Vec<ReplayTraining>,
    /// Which model was in production from when on, in order.
    pub deployed: Vec<(Timestamp, usize)>,
}

impl Replay {
    /// The model that predicts at a time: the last one that was in production then.
    pub fn model_at(&self, at: Timestamp) -> Option<usize> {
        let until = self.deployed.partition_point(|(since, _)| *since <= at);
        until.checked_sub(1).map(|last| self.deployed[last].1)
    }
}

/// Replays the looks, which are in order, with a first model that is in production from a time on.
///
/// # Errors
/// Those of the caller.
pub fn replay<W: ReplayWorld>(
    policy: &Policy,
    rules: ReplayRules,
    (since, first): (Timestamp, usize),
    looks: &[Look],
    world: &mut W,
) -> Result<Replay, W::Error> {
    let mut past = Replay { trainings: Vec::new(), deployed: vec![(since, first)] };
    let mut state = State::default();
    let at_sweeps: Vec<Trigger> =
        policy.triggers.iter().copied().filter(|trigger| *trigger != Trigger::Schedule).collect();
    let by_schedule = policy.triggers.contains(&Trigger::Schedule);
    for look in looks {
        state.scheduled |= by_schedule && look.scheduled;
        let (model_since, model) =
            *past.deployed.iter().rev().find(|(since, _)| *since <= look.at).unwrap_or(&(since, first));
        let mut fired = Vec::new();
        if look.sweep && !at_sweeps.is_empty() {
            let now = InProduction { model, since: model_since, volume_fired: state.volume_fired };
            fired = world.judge(look.at, now, &at_sweeps)?;
        }
        if state.scheduled {
            fired.push(Trigger::Schedule);
        }
        if fired.is_empty() {
            continue;
        }
        let outcome = FiringOutcome::of(&state.context(looks, look.at), rules.cooldown, look.at);
        if outcome.counts_as_fired() {
            // A schedule that falls into a cooldown is put off, not left out.
            state.scheduled = false;
            if fired.contains(&Trigger::Volume) {
                state.volume_fired = Some(look.at);
            }
        }
        if outcome != FiringOutcome::Opened {
            continue;
        }
        let outcome = match world.train(look.at)? {
            Err(reason) => TrainingOutcome::Failed(reason),
            Ok(candidate) => {
                let closed = look.at.checked_add(rules.lag).unwrap_or(Timestamp::MAX);
                state.event = Some((look.at, closed));
                let accepted = if policy.gated { world.gate(look.at, candidate, model)? } else { Ok(()) };
                match accepted {
                    Err(reason) => TrainingOutcome::Rejected(reason),
                    Ok(()) => {
                        past.deployed.push((closed, candidate));
                        TrainingOutcome::Deployed(closed)
                    }
                }
            }
        };
        past.trainings.push(ReplayTraining { at: look.at, triggers: fired, outcome });
    }
    Ok(past)
}

/// What is remembered from look to look.
#[derive(Default)]
struct State {
    /// When the last event was opened, and when it is closed. One whose training failed does not count.
    event: Option<(Timestamp, Timestamp)>,
    /// Whether a scheduled training has not begun yet.
    scheduled: bool,
    volume_fired: Option<Timestamp>,
}

impl State {
    /// The context of a trigger that fires. A cooldown begins at a sweep, as in a tick.
    fn context(&self, looks: &[Look], at: Timestamp) -> FiringContext {
        let Some((opened, closed)) = self.event else { return FiringContext::default() };
        let open = (at < closed).then(|| "open".to_owned());
        let sweeps = looks.iter().filter(|look| look.sweep && look.at > opened && look.at <= closed);
        let last_event = sweeps.map(|look| look.at).next_back().unwrap_or(opened);
        FiringContext { open, last_event: Some(last_event), muted: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * days)
    }

    fn nights(nights: std::ops::Range<i64>, scheduled: &[i64]) -> Vec<Look> {
        nights.map(|night| Look { at: day(night), sweep: true, scheduled: scheduled.contains(&night) }).collect()
    }

    /// Triggers that fire at given days, models that are numbered by the day of their training, and gates that accept some.
    #[derive(Default)]
    struct World {
        fires: Vec<(i64, Trigger)>,
        fails: Vec<i64>,
        accepts: Vec<usize>,
        judged: Vec<(Timestamp, InProduction)>,
        gated: Vec<(usize, usize)>,
    }

    impl ReplayWorld for World {
        type Error = ();

        fn judge(&mut self, at: Timestamp, now: InProduction, wanted: &[Trigger]) -> Result<Vec<Trigger>, ()> {
            self.judged.push((at, now));
            let fires = self.fires.iter().filter(|(on, trigger)| day(*on) == at && wanted.contains(trigger));
            Ok(fires.map(|(_, trigger)| *trigger).collect())
        }

        fn train(&mut self, at: Timestamp) -> Result<Result<usize, String>, ()> {
            let night = at.as_second() / 86_400;
            Ok(if self.fails.contains(&night) { Err("no rows".into()) } else { Ok(night as usize) })
        }

        fn gate(&mut self, _: Timestamp, candidate: usize, champion: usize) -> Result<Result<(), String>, ()> {
            self.gated.push((candidate, champion));
            Ok(if self.accepts.contains(&candidate) { Ok(()) } else { Err("worse".into()) })
        }
    }

    fn run(world: &mut World, triggers: &[Trigger], gated: bool, rules: ReplayRules, looks: &[Look]) -> Replay {
        let policy = Policy { triggers: triggers.to_vec(), gated };
        replay(&policy, rules, (day(0), 0), looks, world).unwrap()
    }

    const WEEK: ReplayRules = ReplayRules { cooldown: SignedDuration::from_hours(24 * 7), lag: SignedDuration::ZERO };

    #[test]
    fn without_a_trigger_nothing_is_judged_or_trained() {
        let mut world = World { fires: vec![(3, Trigger::Drift)], ..World::default() };
        let past = run(&mut world, &[], true, WEEK, &nights(1..30, &[5]));
        assert_eq!(past, Replay { trainings: Vec::new(), deployed: vec![(day(0), 0)] });
        assert!(world.judged.is_empty());
    }

    #[test]
    fn a_training_begins_a_cooldown_and_its_model_predicts_from_then_on() {
        let fires = (3..20).map(|night| (night, Trigger::Drift)).collect();
        let mut world = World { fires, ..World::default() };
        let past = run(&mut world, &[Trigger::Drift], false, WEEK, &nights(1..20, &[]));
        assert_eq!(past.deployed, [(day(0), 0), (day(3), 3), (day(10), 10), (day(17), 17)]);
        assert_eq!([0, 2, 3, 9, 10, 30].map(|at| past.model_at(day(at))), [0, 0, 3, 3, 10, 17].map(Some));
        // Each sweep after a training sees the new model.
        assert_eq!(world.judged[2].1, InProduction { model: 0, since: day(0), volume_fired: None });
        assert_eq!(world.judged[3].1, InProduction { model: 3, since: day(3), volume_fired: None });
    }

    #[test]
    fn a_lag_delays_the_model_and_keeps_the_event_open() {
        let fires = (3..20).map(|night| (night, Trigger::Volume)).collect();
        let mut world = World { fires, ..World::default() };
        let rules = ReplayRules { cooldown: SignedDuration::ZERO, lag: days(4) };
        let past = run(&mut world, &[Trigger::Volume], false, rules, &nights(1..12, &[]));
        assert_eq!(past.deployed, [(day(0), 0), (day(7), 3), (day(11), 7), (day(15), 11)]);
        assert_eq!(past.model_at(day(6)), Some(0));
        // What fires meanwhile joins, and begins the count of the volume trigger again.
        assert_eq!(world.judged[5].1, InProduction { model: 0, since: day(0), volume_fired: Some(day(5)) });
    }

    #[test]
    fn a_candidate_that_gates_reject_changes_nothing_but_cools_down() {
        let fires = (1..16).map(|night| (night, Trigger::Performance)).collect();
        let mut world = World { fires, accepts: vec![8], ..World::default() };
        let past = run(&mut world, &[Trigger::Performance], true, WEEK, &nights(1..16, &[]));
        assert_eq!(past.deployed, [(day(0), 0), (day(8), 8)]);
        assert_eq!(world.gated, [(1, 0), (8, 0), (15, 8)], "each beside what is in production then");
        let rejected = |training: &ReplayTraining| matches!(training.outcome, TrainingOutcome::Rejected(_));
        assert_eq!(past.trainings.iter().map(rejected).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_schedule_in_a_cooldown_is_put_off_and_a_failed_training_cools_nothing_down() {
        let mut world = World { fires: vec![(2, Trigger::Drift)], fails: vec![20], ..World::default() };
        let triggers = [Trigger::Schedule, Trigger::Drift];
        let past = run(&mut world, &triggers, false, WEEK, &nights(1..30, &[5, 20]));
        let at: Vec<Timestamp> = past.trainings.iter().map(|training| training.at).collect();
        assert_eq!(at, [day(2), day(9), day(20)]);
        assert_eq!(past.trainings[1].triggers, [Trigger::Schedule]);
        assert_eq!(past.trainings[2].outcome, TrainingOutcome::Failed("no rows".into()));
        assert_eq!(past.deployed.last(), Some(&(day(9), 9)));
        // A schedule alone is due at times of its own, without a sweep.
        let looks = [Look { at: day(4), sweep: false, scheduled: true }];
        let mut world = World::default();
        assert_eq!(run(&mut world, &[Trigger::Schedule], false, WEEK, &looks).deployed.len(), 2);
        assert!(world.judged.is_empty());
    }

    #[test]
    fn several_triggers_at_once_are_one_training() {
        let fires = vec![(4, Trigger::Drift), (4, Trigger::Volume), (4, Trigger::Performance)];
        let mut world = World { fires, ..World::default() };
        let all = [Trigger::Performance, Trigger::Drift, Trigger::Volume];
        let past = run(&mut world, &all, false, WEEK, &nights(1..9, &[]));
        assert_eq!(past.trainings.len(), 1);
        assert_eq!(past.trainings[0].triggers, [Trigger::Drift, Trigger::Volume, Trigger::Performance]);
    }
}
