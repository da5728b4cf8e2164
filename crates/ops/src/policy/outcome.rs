//! The outcome of a trigger that fires: one open event per model, none while it is muted or in its cooldown.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use driftsweep_fleet::Schedule;

/// The context of a model when one of its triggers fires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FiringContext {
    /// Its open event.
    pub open: Option<String>,
    /// When its last event was opened or closed.
    pub last_event: Option<Timestamp>,
    /// Until when the trigger is muted, and why.
    pub muted: Option<(Timestamp, String)>,
}

/// Since when a model cools down, by when its last events were opened and closed. A cooldown ends at the time of a sweep, so
/// it begins at one: the seconds that a training takes after the sweep do not put its end off by a night.
pub fn cools_since(sweep: &Schedule, zone: &TimeZone, opened: Timestamp, closed: Option<Timestamp>) -> Timestamp {
    let closed = closed.map(|closed| sweep.latest(opened, closed, zone).unwrap_or(opened));
    closed.map_or(opened, |closed| closed.max(opened))
}

/// The outcome of a trigger that fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FiringOutcome {
    /// A new event.
    Opened,
    /// It is added to the open one.
    Joined(String),
    /// Within the cooldown.
    Cooldown(Timestamp),
    /// Muted until then, for a reason.
    Muted(Timestamp, String),
}

impl FiringOutcome {
    /// Decides the outcome. A mute has priority; an open event is joined however old it is; a cooldown begins when the
    /// last event is opened, and again when it is closed.
    pub fn of(context: &FiringContext, cooldown: SignedDuration, at: Timestamp) -> Self {
        if let Some((until, reason)) = context.muted.as_ref().filter(|(until, _)| at < *until) {
            return Self::Muted(*until, reason.clone());
        }
        if let Some(open) = &context.open {
            return Self::Joined(open.clone());
        }
        let until = context.last_event.and_then(|last| last.checked_add(cooldown).ok());
        match until {
            Some(until) if at < until => Self::Cooldown(until),
            _ => Self::Opened,
        }
    }

    /// The name in the store and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Joined(_) => "joined",
            Self::Cooldown(_) => "cooldown",
            Self::Muted(..) => "muted",
        }
    }

    /// Whether the trigger counts as having fired.
    pub fn counts_as_fired(&self) -> bool {
        matches!(self, Self::Opened | Self::Joined(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_model_none_while_muted_or_cooling_down() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let week = SignedDuration::from_hours(168);
        let now = at("2026-11-23T02:00:00Z");
        let mut context = FiringContext::default();
        assert_eq!(FiringOutcome::of(&context, week, now), FiringOutcome::Opened);
        context.last_event = Some(at("2026-11-16T02:00:00Z"));
        assert_eq!(FiringOutcome::of(&context, week, now), FiringOutcome::Opened);
        assert_eq!(FiringOutcome::of(&context, week, at("2026-11-23T01:59:59Z")), FiringOutcome::Cooldown(now));
        context.open = Some("e".into());
        assert_eq!(FiringOutcome::of(&context, week, at("2026-11-17T00:00:00Z")), FiringOutcome::Joined("e".into()));
        context.muted = Some((at("2026-11-24T00:00:00Z"), "holidays".into()));
        assert_eq!(
            FiringOutcome::of(&context, week, now),
            FiringOutcome::Muted(at("2026-11-24T00:00:00Z"), "holidays".into())
        );
        assert_eq!(FiringOutcome::of(&context, week, at("2026-11-24T00:00:00Z")), FiringOutcome::Joined("e".into()));
    }
}
