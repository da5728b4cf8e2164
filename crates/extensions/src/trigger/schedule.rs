//! The schedule trigger: a training at fixed times. It is not judged at sweeps; every tick looks at the clock.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{ExplainView, Sheet, SweepView, TriggerProperties, TriggerSettings, TriggerVerdict};
use crate::value::{Schedule, Setting, Validated};
use driftsweep_common::error::Result;

/// The cron expression in the fleet file.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ScheduleTable(String);

/// The schedule of trainings.
#[derive(Clone, Debug)]
pub struct ScheduleTrigger {
    /// When, if that is set.
    pub cron: Setting<Option<Schedule>>,
}

/// A schedule has no verdict at a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoVerdict {}

impl TriggerVerdict for NoVerdict {
    fn reason(&self) -> Option<String> {
        match *self {}
    }
}

/// What is due of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleState {
    /// The schedule as it is recorded.
    pub text: String,
    /// Whether it is not recorded yet, or was changed: it has no missed times.
    pub is_new: bool,
    /// The last time that is due.
    pub due: Option<Timestamp>,
    /// The next time.
    pub next: Option<Timestamp>,
}

impl ScheduleTrigger {
    /// What is due at a time; `None` without a schedule. `recorded` is the schedule as it was last recorded, and the time up
    /// to which nothing is due any more.
    pub fn at(&self, zone: &TimeZone, recorded: Option<&(String, Timestamp)>, now: Timestamp) -> Option<ScheduleState> {
        let cron = self.cron.value.as_ref()?;
        let text = format!("{} {}", cron.text(), zone.iana_name().unwrap_or_default());
        let known = recorded.filter(|(known, _)| *known == text);
        let after = known.map_or(now, |(_, until)| *until);
        Some(ScheduleState {
            text,
            is_new: known.is_none(),
            due: cron.latest(after, now, zone),
            next: cron.next(now.max(after), zone),
        })
    }
}

impl TriggerSettings for ScheduleTrigger {
    type Table = ScheduleTable;
    type Verdict = NoVerdict;

    const PROPERTIES: TriggerProperties = TriggerProperties { place: 3, ..TriggerProperties::DEFAULT };

    fn resolve(model: Option<&ScheduleTable>, fleet: Option<&ScheduleTable>) -> Validated<Self> {
        let schedule = |table: Option<&ScheduleTable>| {
            table.map(|ScheduleTable(text)| Schedule::parse(text).map(Some)).transpose()
        };
        Ok(Self { cron: Setting::nearest(schedule(model)?, schedule(fleet)?, None) })
    }

    fn missing(&self, _: bool) -> Option<&'static str> {
        self.cron.value.is_none().then_some("schedule")
    }

    fn judge(&self, _: &SweepView<'_>) -> Result<Option<NoVerdict>> {
        Ok(None)
    }

    fn explain(&self, _: Option<&NoVerdict>, view: &ExplainView<'_>, page: &mut Sheet) {
        let Some(cron) = &self.cron.value else { return page.section("schedule: none is set") };
        let last = view.last.map(|(due, outcome)| format!("; last {due} ({outcome})")).unwrap_or_default();
        let next = cron.next(view.as_of, view.zone).map_or("never".into(), |next| next.to_string());
        page.section(format_args!("schedule: {} ({}), next {next}{last}", cron.text(), self.cron.origin.name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Origin;

    #[test]
    fn a_schedule_that_is_new_has_no_missed_times_and_a_recorded_one_has() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let cron = Setting { value: Some(Schedule::parse("0 3 * * *").unwrap()), origin: Origin::Model };
        let (trigger, now) = (ScheduleTrigger { cron }, at("2026-11-26T12:00:00Z"));
        let state = |recorded: Option<(&str, &str)>| {
            let recorded = recorded.map(|(text, until)| (text.to_owned(), at(until)));
            trigger.at(&TimeZone::UTC, recorded.as_ref(), now).unwrap()
        };
        let new = state(None);
        assert_eq!((new.is_new, new.due, new.next), (true, None, Some(at("2026-11-27T03:00:00Z"))));
        let known = state(Some(("0 3 * * * UTC", "2026-11-24T03:00:00Z")));
        assert_eq!((known.is_new, known.due), (false, Some(at("2026-11-26T03:00:00Z"))));
        let changed = state(Some(("0 4 * * * UTC", "2026-11-24T03:00:00Z")));
        assert_eq!((changed.is_new, changed.due), (true, None));
        // What was recorded while a clock was ahead is not due before then.
        let ahead = state(Some(("0 3 * * * UTC", "2026-11-30T03:00:00Z")));
        assert_eq!((ahead.due, ahead.next), (None, Some(at("2026-12-01T03:00:00Z"))));
    }
}
