//! The audit: what was done and by whom. Each record holds the hash of the one before it, so that none can be edited,
//! removed or moved unnoticed.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::any::AnyRow;
use sqlx::query;

use super::{Store, optional_time, time};
use crate::formats::STEPS;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::versioned::FormatError;

/// A record of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The actor: a person, or driftsweep.
    pub actor: String,
    /// What was done, for example `job.approve`.
    pub kind: String,
    /// To which event, job, model or budget.
    pub subject: String,
    /// The figures.
    pub body: Value,
    /// When it was written by the real clock, whatever the effective time was; absent in records of older versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_at: Option<Timestamp>,
    /// The rows of other tables written with it, as canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<String>,
    /// The hash of the record before; empty for the first.
    pub previous: String,
    /// The hash of this one: SHA-256 of all the rest as canonical JSON (RFC 8785).
    pub hash: String,
}

pub use crate::retrain::replay::SYSTEM_ACTOR;

impl Record {
    /// The expected hash.
    ///
    /// # Errors
    /// [`Error::BadValue`] for numbers that JSON cannot hold.
    pub fn expected_hash(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Hashed<'a> {
            fleet_record: u64,
            at: i64,
            actor: &'a str,
            kind: &'a str,
            subject: &'a str,
            body: &'a Value,
            previous: &'a str,
            // Records of older versions have neither, and keep their hash.
            #[serde(skip_serializing_if = "Option::is_none")]
            clock_at: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            writes: Option<&'a str>,
        }
        let hashed = Hashed {
            fleet_record: self.seq,
            at: self.at.as_microsecond(),
            actor: &self.actor,
            kind: &self.kind,
            subject: &self.subject,
            body: &self.body,
            previous: &self.previous,
            clock_at: self.clock_at.map(Timestamp::as_microsecond),
            writes: self.writes.as_deref(),
        };
        Ok(hex(&Sha256::digest(canonical(&hashed)?)))
    }

    /// Its body in the current format.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a step that a newer version of driftsweep wrote.
    pub fn current_body(&self) -> Result<Cow<'_, Value>> {
        if !is_step(&self.kind) {
            return Ok(Cow::Borrowed(&self.body));
        }
        let unreadable = |e: FormatError| Error::BadValue { what: self.named(), reason: e.to_string() };
        STEPS.upgraded(&self.body).map_err(unreadable)
    }

    /// The record by its number, kind, subject and time.
    pub(super) fn named(&self) -> String {
        let subject: String = driftsweep_common::escape::for_display(&self.subject).into_owned();
        format!("record {} ({} {subject}, {})", self.seq, self.kind, self.at)
    }
}

/// Whether records of a kind hold steps of jobs.
fn is_step(kind: &str) -> bool {
    kind.starts_with("job.")
}

/// Canonical JSON (RFC 8785).
pub(super) fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json_canonicalizer::to_vec(value)
        .map_err(|e| Error::BadValue { what: "audit record".into(), reason: e.to_string() })
}

/// Records that are read at a time: those of a sweep hold the hashes of all its conclusions.
pub(super) const PAGE: u64 = 200;

/// A query for records, in the order of columns that [`found`] reads.
macro_rules! select_records {
    ($condition:literal) => {
        concat!("SELECT seq, at, actor, kind, subject, body, previous, hash, clock_at, writes FROM audit ", $condition)
    };
}

impl Store {
    /// Appends a record, inside a transaction; returns its number.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn append_audit(&mut self, at: Timestamp, actor: &str, kind: &str, subject: &str, body: Value) -> Result<u64> {
        self.atomically(|store| {
            let (last, previous) = store.audit_head()?.unwrap_or_default();
            let clock_at = Some(store.clock_in_transaction()?);
            let mut writes = store.pending.take();
            writes.extend(store.evidence.take());
            let writes = match writes.is_empty() {
                true => None,
                false => Some(String::from_utf8_lossy(&canonical(&writes)?).into_owned()),
            };
            // Stored with the same precision as it is hashed.
            let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
            let [actor, subject] = [actor, subject].map(|text| text.replace('\0', "\u{fffd}"));
            let mut body = body;
            if is_step(kind) {
                STEPS.mark(&mut body);
            }
            let (seq, kind, hash) = (last + 1, kind.into(), String::new());
            let mut record = Record { seq, at, actor, kind, subject, body, clock_at, writes, previous, hash };
            record.hash = record.expected_hash()?;
            let body = String::from_utf8_lossy(&canonical(&record.body)?).into_owned();
            let sql = "INSERT INTO audit (fleet, seq, at, actor, kind, subject, body, previous, hash, clock_at, writes) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
            let insert = query(sql).bind(store.fleet.clone()).bind(record.seq as i64).bind(at.as_microsecond());
            let insert = insert.bind(record.actor).bind(record.kind).bind(record.subject).bind(body);
            let insert = insert.bind(record.previous).bind(record.hash.clone());
            store.database.run(insert.bind(clock_at.map(Timestamp::as_microsecond)).bind(record.writes))?;
            let sql = "INSERT INTO audit_head (fleet, seq, hash) VALUES ($1, $2, $3) \
                       ON CONFLICT (fleet) DO UPDATE SET seq = $2, hash = $3";
            store.database.run(query(sql).bind(store.fleet.clone()).bind(record.seq as i64).bind(record.hash))?;
            (store.replay_is_complete, store.has_appended) = (false, true);
            Ok(record.seq)
        })
    }

    /// Appends the writes of a transaction since its last record, as a separate record.
    pub(super) fn append_rest(&mut self) -> Result<()> {
        if self.pending.is_empty() && self.evidence.is_empty() {
            return Ok(());
        }
        let at = self.clock_in_transaction()?;
        self.append_audit(at, SYSTEM_ACTOR, "store.write", "store", Value::Object(serde_json::Map::new())).map(drop)
    }

    /// The time by the real clock, one for all records of a transaction.
    fn clock_in_transaction(&mut self) -> Result<Timestamp> {
        if let Some(clock) = self.clock_at {
            return Ok(clock);
        }
        let clock = self.database.clock()?;
        self.clock_at = Some(clock);
        Ok(clock)
    }

    /// The time by the real clock: that of the store, which is the same for all processes. Inside a transaction it is
    /// that of its records: decisions that depend on it must be reproducible from the records.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn clock(&mut self) -> Result<Timestamp> {
        if self.in_transaction { self.clock_in_transaction() } else { self.database.clock() }
    }

    /// The last record of some kinds about a subject.
    ///
    /// # Errors
    /// [`Error::Store`], also for a damaged record.
    pub fn last_record(&mut self, subject: &str, kinds: &[&str]) -> Result<Option<Record>> {
        let sql = select_records!("WHERE fleet = $1 AND subject = $2 ORDER BY seq DESC");
        let select = query(sql).bind(self.fleet.clone()).bind(subject.to_owned());
        for found in self.database.rows(select, found)? {
            let found = found.map_err(|(seq, reason)| Error::BadValue {
                what: format!("audit record {seq}"),
                reason: damaged(&reason),
            })?;
            if kinds.contains(&&*found.kind) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The hash of the record with a number, if it exists and its hash is correct.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn record_hash(&mut self, seq: u64) -> Result<Option<String>> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let found = self.audit_between(seq.saturating_sub(1), seq)?.into_iter().next();
        let Some(Ok(record)) = found else { return Ok(None) };
        Ok((record.expected_hash()? == record.hash).then_some(record.hash))
    }

    /// The number and hash of the last record, as recorded in the head.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn audit_head(&mut self) -> Result<Option<(u64, String)>> {
        let select = query("SELECT seq, hash FROM audit_head WHERE fleet = $1").bind(self.fleet.clone());
        let found = self.database.rows(select, |row| Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get(1)?)));
        Ok(found?.into_iter().next())
    }

    /// The secret for the keys of runs, if there is one yet. It is stored with the head of the audit, and in no record.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn run_secret(&mut self) -> Result<Option<String>> {
        let select = query("SELECT run_secret FROM audit_head WHERE fleet = $1").bind(self.fleet.clone());
        Ok(self.database.rows(select, |row| row.try_get::<Option<String>, _>(0))?.into_iter().flatten().next())
    }

    /// Stores the secret, if there is none yet.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_run_secret(&mut self, secret: &str) -> Result<()> {
        let sql = "UPDATE audit_head SET run_secret = $2 WHERE fleet = $1 AND run_secret IS NULL";
        self.database.run(query(sql).bind(self.fleet.clone()).bind(secret.to_owned())).map(drop)
    }

    /// The records after a number, at most a page of them; none where there are no more. A damaged record is returned
    /// as its number and the reason.
    pub(super) fn audit_page(&mut self, after: u64) -> Result<Vec<Found>> {
        let mut after = after as i64;
        loop {
            // A range of numbers: a server that knows nothing of a table yet would sort all that is left of it for each page.
            let until = after.saturating_add(PAGE as i64);
            let page = self.audit_between(after, until)?;
            if !page.is_empty() {
                return Ok(page);
            }
            // Records may be missing.
            let sql = "SELECT MIN(seq) FROM audit WHERE fleet = $1 AND seq > $2";
            let next = query(sql).bind(self.fleet.clone()).bind(after);
            let next = self.database.rows(next, |row| row.try_get::<Option<i64>, _>(0))?.into_iter().flatten().next();
            match next {
                Some(next) => after = next - 1,
                None => return Ok(page),
            }
        }
    }

    /// The records after a number and up to another one.
    fn audit_between(&mut self, after: i64, until: i64) -> Result<Vec<Found>> {
        let sql = select_records!("WHERE fleet = $1 AND seq > $2 AND seq <= $3 ORDER BY seq");
        self.database.rows(query(sql).bind(self.fleet.clone()).bind(after).bind(until), found)
    }

    /// The records of one subject after a number, at most a page of them.
    fn audit_page_of(&mut self, after: u64, subject: &str) -> Result<Vec<Found>> {
        let sql = select_records!("WHERE fleet = $1 AND subject = $2 AND seq > $3 ORDER BY seq LIMIT $4");
        let page = query(sql).bind(self.fleet.clone()).bind(subject.to_owned()).bind(after as i64).bind(PAGE as i64);
        self.database.rows(page, found)
    }

    /// Every record of a subject, or of all, oldest first, one by one. What is no longer a record is skipped, and added to
    /// [`Self::unreadable`].
    ///
    /// # Errors
    /// [`Error::Store`]; those of `of`.
    pub fn audit(&mut self, subject: &str, mut of: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let mut last = 0;
        loop {
            let page = if subject.is_empty() { self.audit_page(last)? } else { self.audit_page_of(last, subject)? };
            if page.is_empty() {
                return Ok(());
            }
            for record in page {
                match record {
                    Ok(record) => {
                        last = record.seq;
                        of(record)?;
                    }
                    Err((seq, reason)) => {
                        last = seq;
                        self.set_aside("audit", &seq.to_string(), damaged(&reason));
                    }
                }
            }
        }
    }
}

/// A record, or the number of what is no longer one, and the reason.
pub(super) type Found = std::result::Result<Record, (u64, String)>;

fn found(row: &AnyRow) -> std::result::Result<Found, sqlx::Error> {
    let seq = row.try_get::<i64, _>(0)?.unsigned_abs();
    Ok(record(row, seq).map_err(|e| (seq, e.to_string())))
}

/// What is said of a damaged record.
fn damaged(reason: &str) -> String {
    format!("{reason}; `audit verify` shows the problem")
}

fn record(row: &AnyRow, seq: u64) -> std::result::Result<Record, Box<dyn std::error::Error>> {
    let text: String = row.try_get(5)?;
    let body: Value = serde_json::from_str(&text)?;
    // It must be canonical: a duplicate name, or spaces, are edits.
    if canonical(&body)? != text.as_bytes() {
        return Err("its body is not canonical JSON".into());
    }
    Ok(Record {
        seq,
        at: time(row, 1)?,
        actor: row.try_get(2)?,
        kind: row.try_get(3)?,
        subject: row.try_get(4)?,
        body,
        clock_at: optional_time(row, 8)?,
        writes: row.try_get(9)?,
        previous: row.try_get(6)?,
        hash: row.try_get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_has_one_hash_however_its_body_is_ordered() {
        let record = |body| Record {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            actor: "ana".into(),
            kind: "job.approve".into(),
            subject: "e".into(),
            body,
            clock_at: None,
            writes: None,
            previous: String::new(),
            hash: String::new(),
        };
        let hash = |body| record(body).expected_hash().unwrap();
        assert_eq!(hash(json!({"a": 1, "b": [1.0, "é\n"]})), hash(json!({"b": [1, "é\n"], "a": 1})));
        assert_ne!(hash(json!({"a": 1})), hash(json!({"a": 2})));
        let whole = record(json!({"a": 1}));
        // As older versions have hashed it.
        let older = r#"{"actor":"ana","at":0,"body":{"a":1},"fleet_record":1,"kind":"job.approve","previous":"","subject":"e"}"#;
        assert_eq!(whole.expected_hash().unwrap(), hex(&Sha256::digest(older)));
        let clock = Record { clock_at: Some(Timestamp::UNIX_EPOCH), ..whole.clone() };
        let writes = Record { writes: Some("[]".into()), ..whole };
        assert_ne!(clock.expected_hash().unwrap(), hash(json!({"a": 1})));
        assert_ne!(writes.expected_hash().unwrap(), hash(json!({"a": 1})));
        assert_eq!(canonical(&json!({"b": 1e21, "a": 0.1})).unwrap(), br#"{"a":0.1,"b":1e+21}"#);
    }
}
