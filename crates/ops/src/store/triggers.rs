//! Retrain events, triggers that fired, and triggers that are muted.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{Row, query};

use super::{Store, optional_time, time};
use driftsweep_common::error::Result;

/// A retrain event: a request to train a model again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrainEvent {
    /// Its name.
    pub id: String,
    /// The model.
    pub model: String,
    /// The trigger that opened it.
    pub trigger: String,
    /// When it did.
    pub triggered_at: Timestamp,
    /// The CloudEvent, as JSON.
    pub body: String,
    /// When it was closed, how, and why, if it was.
    pub closed: Option<(Timestamp, String, String)>,
}

/// When a model's last event was opened, and when one was last closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEvent {
    /// The model.
    pub model: String,
    /// When the last was opened.
    pub opened: Option<Timestamp>,
    /// When one was last closed.
    pub closed: Option<Timestamp>,
}

/// A trigger that fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firing {
    /// The model.
    pub model: String,
    /// The trigger.
    pub trigger: String,
    /// The sweep, or the time of the schedule.
    pub due: Timestamp,
    /// The outcome: `opened`, `joined`, `cooldown` or `muted`.
    pub outcome: String,
    /// The event it opened or joined.
    pub event: Option<String>,
    /// Why it fired.
    pub reason: String,
}

/// A mute: a trigger that opens no events for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mute {
    /// The model.
    pub model: String,
    /// The trigger; empty for all.
    pub trigger: String,
    /// Its end.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// The person who set it.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
}

impl Store {
    /// Adds an event.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`], also if the model has an open one.
    pub fn add_event(&mut self, event: &RetrainEvent) -> Result<()> {
        let cells = [
            ("id", (&event.id).into()),
            ("model", (&event.model).into()),
            ("trigger_type", (&event.trigger).into()),
            ("triggered_at", event.triggered_at.into()),
            ("body", (&event.body).into()),
        ];
        self.insert("event", &cells, false).map(drop)
    }

    /// All events, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn events(&mut self) -> Result<Vec<RetrainEvent>> {
        let sql = "SELECT id, model, trigger_type, triggered_at, body, closed_at, outcome, note FROM event \
                   WHERE fleet = $1 ORDER BY triggered_at, id";
        self.database.rows(query(sql).bind(self.fleet.clone()), event)
    }

    /// The events that are open, without their bodies.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn open_events(&mut self) -> Result<Vec<RetrainEvent>> {
        let sql = "SELECT id, model, trigger_type, triggered_at, '', closed_at, outcome, note FROM event \
                   WHERE fleet = $1 AND closed_at IS NULL";
        self.database.rows(query(sql).bind(self.fleet.clone()), event)
    }

    /// When each model's last event was opened, and when one was last closed, up to a time. Events with a failed
    /// training do not count.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn last_events(&mut self, until: Timestamp) -> Result<Vec<LastEvent>> {
        let sql = "SELECT model, MAX(CASE WHEN triggered_at <= $2 THEN triggered_at END), \
                   MAX(CASE WHEN closed_at <= $2 THEN closed_at END) FROM event WHERE fleet = $1 \
                   AND (outcome IS NULL OR outcome NOT IN ('failed', 'timed_out')) GROUP BY model";
        let select = query(sql).bind(self.fleet.clone()).bind(until.as_microsecond());
        self.database.rows(select, |row| {
            Ok(LastEvent { model: row.try_get(0)?, opened: optional_time(row, 1)?, closed: optional_time(row, 2)? })
        })
    }

    /// Closes an event; returns whether it was open.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn close_event(&mut self, id: &str, at: Timestamp, outcome: &str, note: &str) -> Result<bool> {
        let set = [("closed_at", at.into()), ("outcome", outcome.into()), ("note", note.into())];
        self.update("event", &[("id", id.into())], &set, Some("closed_at IS NULL".into()))
    }

    /// Whether it is recorded that a trigger of a model fired at a sweep.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn has_fired(&mut self, model: &str, trigger: &str, due: Timestamp) -> Result<bool> {
        let sql = "SELECT 1 FROM firing WHERE fleet = $1 AND model = $2 AND trigger_type = $3 AND due = $4";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(trigger.to_owned());
        Ok(!self.database.rows(select.bind(due.as_microsecond()), |_| Ok(()))?.is_empty())
    }

    /// Records that a trigger fired.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`], also if that is recorded already.
    pub fn add_firing(&mut self, firing: &Firing) -> Result<()> {
        let cells = [
            ("model", (&firing.model).into()),
            ("trigger_type", (&firing.trigger).into()),
            ("due", firing.due.into()),
            ("outcome", (&firing.outcome).into()),
            ("event", (&firing.event).into()),
            ("reason", (&firing.reason).into()),
        ];
        self.insert("firing", &cells, false).map(drop)
    }

    /// Every time a trigger fired since a time, oldest first; of one model, or of all.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn firings(&mut self, model: Option<&str>, since: Timestamp) -> Result<Vec<Firing>> {
        let sql = "SELECT model, trigger_type, due, outcome, event, reason FROM firing \
                   WHERE fleet = $1 AND due >= $2 AND ($3 = '' OR model = $3) ORDER BY due, model, trigger_type";
        let select = query(sql).bind(self.fleet.clone()).bind(since.as_microsecond());
        self.database.rows(select.bind(model.unwrap_or_default().to_owned()), |row| {
            Ok(Firing {
                model: row.try_get(0)?,
                trigger: row.try_get(1)?,
                due: time(row, 2)?,
                outcome: row.try_get(3)?,
                event: row.try_get(4)?,
                reason: row.try_get(5)?,
            })
        })
    }

    /// Sets a mute, replacing the former one.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn set_mute(&mut self, mute: &Mute) -> Result<()> {
        self.lift_mute(&mute.model, &mute.trigger)?;
        let cells = [
            ("model", (&mute.model).into()),
            ("trigger_type", (&mute.trigger).into()),
            ("until", mute.until.into()),
            ("reason", (&mute.reason).into()),
            ("set_by", (&mute.set_by).into()),
            ("set_at", mute.set_at.into()),
        ];
        self.insert("mute", &cells, false).map(drop)
    }

    /// Removes a mute; returns whether there was one.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn lift_mute(&mut self, model: &str, trigger: &str) -> Result<bool> {
        self.delete("mute", &[("model", model.into()), ("trigger_type", trigger.into())])
    }

    /// All mutes, also those that have ended.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn mutes(&mut self) -> Result<Vec<Mute>> {
        let sql = "SELECT model, trigger_type, until, reason, set_by, set_at FROM mute WHERE fleet = $1 ORDER BY 1, 2";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(Mute {
                model: row.try_get(0)?,
                trigger: row.try_get(1)?,
                until: time(row, 2)?,
                reason: row.try_get(3)?,
                set_by: row.try_get(4)?,
                set_at: time(row, 5)?,
            })
        })
    }
}

fn event(row: &AnyRow) -> std::result::Result<RetrainEvent, sqlx::Error> {
    let closed = optional_time(row, 5)?;
    let text = |at: usize| row.try_get::<Option<String>, _>(at).map(Option::unwrap_or_default);
    Ok(RetrainEvent {
        id: row.try_get(0)?,
        model: row.try_get(1)?,
        trigger: row.try_get(2)?,
        triggered_at: time(row, 3)?,
        body: row.try_get(4)?,
        closed: match closed {
            Some(at) => Some((at, text(6)?, text(7)?)),
            None => None,
        },
    })
}
