//! Events that were opened although the audit says that none was to be opened then: the trigger was muted, the model cooled
//! down, or another event of it was open.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::audit::Record;
use super::writes::{ColumnKind, RowKey, RowValues, RowWrite, noted_text};
use crate::policy::outcome::{FiringContext, FiringOutcome, cools_since};
use crate::retrain::approvers::latest_correct_time;
use driftsweep_common::escape::for_display;
use driftsweep_fleet::{Fleet, Schedule};

/// How a model cools down, as the record of an event has it: the fleet file may say something else later.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cooldown {
    seconds: i64,
    /// When the fleet is swept.
    sweep: String,
    time_zone: Option<String>,
}

impl Cooldown {
    /// That of a model with so long a cooldown.
    pub fn new(fleet: &Fleet, length: SignedDuration) -> Self {
        let time_zone = fleet.zone.iana_name().map(str::to_owned);
        Self { seconds: length.as_secs(), sweep: fleet.sweep.text().into(), time_zone }
    }

    fn length(&self) -> SignedDuration {
        SignedDuration::from_secs(self.seconds)
    }

    /// Since when a model cools down that would open an event at a time.
    fn began(&self, opened: Timestamp, closed: Option<Timestamp>, at: Timestamp) -> Timestamp {
        let last = closed.map_or(opened, |closed| closed.max(opened));
        // Sweeps count only where they decide: to find one takes a while.
        let is_over = |since: Timestamp| since.checked_add(self.length()).is_ok_and(|until| until <= at);
        if is_over(last) || !is_over(opened) {
            return opened;
        }
        // On a machine that does not know the zone the shorter cooldown counts.
        let zone = self.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let rule = Schedule::parse(&self.sweep).ok().zip(zone);
        rule.map_or(opened, |(sweep, zone)| cools_since(&sweep, &zone, opened, closed))
    }
}

/// The events of each model, and what is wrong with how they were opened.
#[derive(Default)]
pub(super) struct Openings {
    /// Names of events by their models, as the audit has these.
    by_model: BTreeMap<String, BTreeSet<String>>,
    wrong: Vec<(String, String)>,
}

impl Openings {
    /// What is wrong, with the names of the events.
    pub(super) fn wrong(&self) -> impl Iterator<Item = (&String, &String)> {
        self.wrong.iter().map(|(id, text)| (id, text))
    }

    /// Accepts what is wrong so far.
    pub(super) fn accept(&mut self) {
        self.wrong.clear();
    }

    /// Notes of which model an event is.
    pub(super) fn note(&mut self, write: &RowWrite) {
        if let ("event", Some(Some(model))) = (&*write.table, write.set.get("model")) {
            let ids = write.rows.iter().filter_map(|row| row.first().cloned());
            self.by_model.entry(model.clone()).or_default().extend(ids);
        }
    }

    /// Checks whether an event could be opened by the rows that the audit had until then; the event itself is among them.
    pub(super) fn check(&mut self, rows: &BTreeMap<String, BTreeMap<RowKey, RowValues>>, record: &Record) {
        let Record { seq, at, subject, body, clock_at, .. } = record;
        // What was noted later than that, a clock had noted which was ahead: the pass did not let it count.
        let limit = clock_at.map_or(Timestamp::MAX, |clock| latest_correct_time(*at, clock));
        let (Some(model), Some(trigger)) = (body["model"].as_str(), body["trigger"].as_str()) else { return };
        let cooldown = Cooldown::deserialize(&body["cooldown"]).ok();
        let standing = self.standing(rows, (model, trigger), subject, cooldown.as_ref(), (*at, limit));
        let length = cooldown.map_or(SignedDuration::ZERO, |cooldown| cooldown.length());
        let why = match FiringOutcome::of(&standing, length, *at) {
            FiringOutcome::Opened => return,
            FiringOutcome::Joined(other) => format!("while event '{}' of the model was open", for_display(&other)),
            FiringOutcome::Cooldown(until) => format!("while the model cooled down until {until}"),
            FiringOutcome::Muted(until, _) => format!("while the trigger was muted until {until}"),
        };
        self.wrong.push((subject.clone(), format!("record {seq} (event.open) has opened it {why}")));
    }

    /// How things stood with a trigger of a model when an event was opened, but for that event.
    fn standing(
        &self,
        rows: &BTreeMap<String, BTreeMap<RowKey, RowValues>>,
        (model, trigger): (&str, &str),
        id: &str,
        cooldown: Option<&Cooldown>,
        (at, limit): (Timestamp, Timestamp),
    ) -> FiringContext {
        let mut standing = FiringContext::default();
        let noted = noted_text(model, ColumnKind::Text);
        let (mut opened, mut closed) = (None, None);
        let events = rows.get("event");
        for other in self.by_model.get(&noted).into_iter().flatten().filter(|other| *other != id) {
            let Some(event) = events.and_then(|events| events.get(std::slice::from_ref(other))) else { continue };
            if text(event, "model") != Some(&noted) {
                continue;
            }
            if time(event, "closed_at").is_none() {
                standing.open = Some(other.clone());
            }
            // As in the store: events whose training failed do not count.
            if !matches!(text(event, "outcome"), Some("failed" | "timed_out")) {
                opened = opened.max(time(event, "triggered_at").filter(|at| *at <= limit));
                closed = closed.max(time(event, "closed_at").filter(|at| *at <= limit));
            }
        }
        standing.last_event =
            cooldown.zip(opened.or(closed)).map(|(cooldown, opened)| cooldown.began(opened, closed, at));
        let mutes = ["", trigger].map(|trigger| rows.get("mute")?.get(&[model.to_owned(), trigger.to_owned()][..]));
        let until = mutes.into_iter().flatten().filter_map(|mute| time(mute, "until")).max();
        standing.muted = until.map(|until| (until, String::new()));
        standing
    }
}

fn text<'a>(row: &'a RowValues, name: &str) -> Option<&'a str> {
    row.get(name)?.as_deref()
}

fn time(row: &RowValues, name: &str) -> Option<Timestamp> {
    Timestamp::from_microsecond(text(row, name)?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is wrong with opening an event of a model, given its other events (when they were opened and closed, and how) and
    /// its mutes.
    fn wrong(
        events: &[(&str, Option<&str>, &str)],
        mutes: &[(&str, &str)],
        at: &str,
        cooldown: Value,
    ) -> Option<String> {
        let micros = |text: &str| Some(text.parse::<Timestamp>().unwrap().as_microsecond().to_string());
        let mut openings = Openings::default();
        let mut rows: BTreeMap<String, BTreeMap<RowKey, RowValues>> = BTreeMap::new();
        let mut insert = |table: &str, key: RowKey, set: &[(&str, Option<String>)]| {
            let set: RowValues = set.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let write =
                RowWrite { table: table.into(), rows: vec![key.clone()], set: set.clone(), ..RowWrite::default() };
            openings.note(&write);
            rows.entry(table.into()).or_default().insert(key, set);
        };
        for ((opened, closed, outcome), number) in events.iter().zip(0..) {
            let outcome = closed.map(|_| (*outcome).to_owned());
            let set = [
                ("model", Some("m".to_owned())),
                ("triggered_at", micros(opened)),
                ("closed_at", closed.and_then(micros)),
                ("outcome", outcome),
            ];
            insert("event", vec![format!("e{number}")], &set);
        }
        insert("event", vec!["new".into()], &[("model", Some("m".into())), ("triggered_at", micros(at))]);
        for (trigger, until) in mutes {
            insert("mute", vec!["m".into(), (*trigger).to_owned()], &[("until", micros(until))]);
        }
        let record = Record {
            seq: 9,
            at: at.parse().unwrap(),
            actor: "driftsweep".into(),
            kind: "event.open".into(),
            subject: "new".into(),
            body: json!({ "model": "m", "trigger": "drift", "cooldown": cooldown }),
            clock_at: Some(Timestamp::UNIX_EPOCH),
            writes: None,
            previous: String::new(),
            hash: String::new(),
        };
        openings.check(&rows, &record);
        openings.wrong().next().map(|(_, text)| text.clone())
    }

    #[test]
    fn an_event_follows_from_the_mutes_cooldowns_and_open_events_before_it() {
        let at = "2026-01-10T02:00:00Z";
        let day = json!({ "seconds": 86_400, "sweep": "0 2 * * *", "time_zone": "UTC" });
        let closed = |opened, closed| (opened, Some(closed), "dismissed");
        let (soon, late) = ("2026-01-10T02:00:00.000001Z", "2026-01-10T02:00:00Z");
        type Case<'a> = (&'a [(&'a str, Option<&'a str>, &'a str)], &'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 12] = [
            (&[], &[], None),
            (&[], &[("", soon)], Some("muted until")),
            (&[], &[("drift", soon)], Some("muted until")),
            (&[], &[("volume", soon), ("", late), ("drift", late)], None),
            (&[("2026-01-02T02:00:00Z", None, "")], &[], Some("event 'e0' of the model was open")),
            (&[closed("2026-01-02T02:00:00Z", "2026-01-03T03:00:00Z")], &[], None),
            (&[closed("2026-01-09T02:00:00.000001Z", "2026-01-09T02:10:00Z")], &[], Some("cooled down until")),
            // It cools down since the sweep before it was closed.
            (&[closed("2026-01-08T02:00:00Z", "2026-01-10T01:00:00Z")], &[], None),
            (
                &[closed("2026-01-08T02:00:00Z", "2026-01-10T02:00:00Z")],
                &[],
                Some("cooled down until 2026-01-11T02:00:00Z"),
            ),
            // A training that failed puts nothing off.
            (&[("2026-01-09T12:00:00Z", Some("2026-01-09T13:00:00Z"), "failed")], &[], None),
            (&[("2026-01-09T12:00:00Z", Some("2026-01-09T13:00:00Z"), "timed_out")], &[], None),
            (&[("2026-01-09T12:00:00Z", Some("2026-01-09T13:00:00Z"), "succeeded")], &[], Some("cooled down until")),
        ];
        for (events, mutes, wanted) in cases {
            let found = wrong(events, mutes, at, day.clone());
            let is_right = match wanted {
                Some(wanted) => found.as_ref().is_some_and(|text| text.contains(wanted)),
                None => found.is_none(),
            };
            assert!(is_right, "{events:?} {mutes:?}: {found:?}");
        }
        // Of a record that does not say how long a cooldown is nothing follows about it.
        let recent = [closed("2026-01-09T12:00:00Z", "2026-01-09T13:00:00Z")];
        assert_eq!(wrong(&recent, &[], at, Value::Null), None);
    }
}
