//! The audit: what was done, by whom, each record holding the hash of the one before it, so that none can be edited,
//! removed or put elsewhere without a trace.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::any::AnyRow;
use sqlx::query;

use super::{Store, time};
use crate::atomic::hex;
use crate::error::{Error, Result};

/// A record of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Who acted: a person, or driftsweep.
    pub actor: String,
    /// What was done, for example `job.approve`.
    pub kind: String,
    /// To which event, job, model or budget.
    pub subject: String,
    /// The figures.
    pub body: Value,
    /// The hash of the record before; empty for the first.
    pub previous: String,
    /// The hash of this one: SHA-256 of all the rest as canonical JSON (RFC 8785).
    pub hash: String,
}

/// Who acts where no person does.
pub const ITSELF: &str = "driftsweep";

/// What an audit was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// The last of them and its hash: to be kept elsewhere, and compared the next time.
    pub head: Option<(u64, String)>,
    /// What is wrong, each naming a record.
    pub problems: Vec<String>,
}

impl Record {
    /// What its hash must be.
    ///
    /// # Errors
    /// [`Error::BadValue`] for numbers that JSON does not have.
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
        }
        let hashed = Hashed {
            fleet_record: self.seq,
            at: self.at.as_microsecond(),
            actor: &self.actor,
            kind: &self.kind,
            subject: &self.subject,
            body: &self.body,
            previous: &self.previous,
        };
        Ok(hex(&Sha256::digest(canonical(&hashed)?)))
    }

    fn named(&self) -> String {
        let subject: String = crate::escape::shown(&self.subject).into_owned();
        format!("record {} ({} {subject}, {})", self.seq, self.kind, self.at)
    }
}

/// JSON of which there is one text only: RFC 8785.
fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json_canonicalizer::to_vec(value)
        .map_err(|e| Error::BadValue { what: "audit record".into(), reason: e.to_string() })
}

/// Checks records as they come, in order of their numbers.
struct Chain {
    verified: Verified,
}

impl Chain {
    fn add(&mut self, record: std::result::Result<&Record, (u64, String)>) -> Result<()> {
        let (last, hash) = self.verified.head.clone().unwrap_or_default();
        let problems = &mut self.verified.problems;
        let seq = record.as_ref().map_or_else(|(seq, _)| *seq, |record| record.seq);
        match seq - last {
            1 => {}
            2 => problems.push(format!("record {} is missing", last + 1)),
            _ => problems.push(format!("records {} to {} are missing", last + 1, seq - 1)),
        }
        self.verified.records += 1;
        match record {
            Ok(record) => {
                if record.expected_hash()? != record.hash {
                    problems.push(format!("{} was edited: its hash is not that of what it says", record.named()));
                }
                if seq == last + 1 && record.previous != hash {
                    problems.push(format!("{} does not follow on the record before it as it is now", record.named()));
                }
                self.verified.head = Some((seq, record.hash.clone()));
            }
            Err((seq, reason)) => {
                problems.push(format!("record {seq} was edited: {reason}"));
                self.verified.head = Some((seq, String::new()));
            }
        }
        Ok(())
    }
}

/// Records that are read at a time.
const PAGE: u64 = 1000;

impl Store {
    /// Appends a record, inside a transaction: its number.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn append_audit(&mut self, at: Timestamp, actor: &str, kind: &str, subject: &str, body: Value) -> Result<u64> {
        let (last, previous) = self.audit_head()?.unwrap_or_default();
        // Kept as precisely as it is hashed.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        let [actor, subject] = [actor, subject].map(|text| text.replace('\0', "\u{fffd}"));
        let mut record =
            Record { seq: last + 1, at, actor, kind: kind.into(), subject, body, previous, hash: String::new() };
        record.hash = record.expected_hash()?;
        let body = String::from_utf8_lossy(&canonical(&record.body)?).into_owned();
        let sql = "INSERT INTO audit (fleet, seq, at, actor, kind, subject, body, previous, hash) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let insert = query(sql).bind(self.fleet.clone()).bind(record.seq as i64).bind(at.as_microsecond());
        let insert = insert.bind(record.actor).bind(record.kind).bind(record.subject).bind(body);
        self.database.run(insert.bind(record.previous).bind(record.hash.clone()))?;
        let sql = "INSERT INTO audit_head (fleet, seq, hash) VALUES ($1, $2, $3) \
                   ON CONFLICT (fleet) DO UPDATE SET seq = $2, hash = $3";
        self.database.run(query(sql).bind(self.fleet.clone()).bind(record.seq as i64).bind(record.hash))?;
        Ok(record.seq)
    }

    /// The last record's number and hash, as they were noted apart from it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn audit_head(&mut self) -> Result<Option<(u64, String)>> {
        let select = query("SELECT seq, hash FROM audit_head WHERE fleet = $1").bind(self.fleet.clone());
        let found = self.database.rows(select, |row| Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get(1)?)));
        Ok(found?.into_iter().next())
    }

    /// The records after a number, at most a thousand; of one subject, or of all. What is no longer a record comes as
    /// its number and the reason.
    fn audit_page(&mut self, after: u64, subject: &str) -> Result<Vec<std::result::Result<Record, (u64, String)>>> {
        let sql = "SELECT seq, at, actor, kind, subject, body, previous, hash FROM audit \
                   WHERE fleet = $1 AND seq > $2 AND ($3 = '' OR subject = $3) ORDER BY seq LIMIT $4";
        let select = query(sql).bind(self.fleet.clone()).bind(after as i64).bind(subject.to_owned());
        self.database.rows(select.bind(PAGE as i64), |row| {
            let seq = row.try_get::<i64, _>(0)?.unsigned_abs();
            Ok(record(row, seq).map_err(|e| (seq, e.to_string())))
        })
    }

    /// Every record of a subject, or of all, oldest first, one by one.
    ///
    /// # Errors
    /// [`Error::Store`], also for what is no longer a record; those of `of`.
    pub fn audit(&mut self, subject: &str, mut of: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let mut last = 0;
        loop {
            let page = self.audit_page(last, subject)?;
            let whole = page.len() as u64 == PAGE;
            for record in page {
                let record = record.map_err(|(seq, reason)| Error::BadValue {
                    what: format!("audit record {seq}"),
                    reason: format!("{reason}; `audit verify` says what is wrong"),
                })?;
                last = record.seq;
                of(record)?;
            }
            if !whole {
                return Ok(());
            }
        }
    }

    /// Checks the whole audit; `expected` is a head that was seen before, if one was kept.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn verify_audit(&mut self, expected: Option<(u64, &str)>) -> Result<Verified> {
        let mut chain = Chain { verified: Verified::default() };
        loop {
            let last = chain.verified.head.as_ref().map_or(0, |(seq, _)| *seq);
            let page = self.audit_page(last, "")?;
            for record in &page {
                chain.add(record.as_ref().map_err(Clone::clone))?;
                if let (Some((seq, hash)), Ok(record)) = (expected, record)
                    && seq == record.seq
                    && hash != record.hash
                {
                    chain.verified.problems.push(format!("{} is not the one that was seen before", record.named()));
                }
            }
            if (page.len() as u64) < PAGE {
                break;
            }
        }
        let mut verified = chain.verified;
        if verified.records == 0 {
            let reason =
                "there is no record at all: no tick has run, or the audit was removed; a store begins with one";
            verified.problems.push(reason.into());
        }
        let (last, hash) = verified.head.clone().unwrap_or_default();
        let (noted, noted_hash) = self.audit_head()?.unwrap_or_default();
        if noted > last {
            verified.problems.push(format!("records {} to {noted} are missing at the end", last + 1));
        } else if (noted, &noted_hash) != (last, &hash) {
            verified.problems.push(format!("record {last} is not the last one that was noted, {noted}"));
        }
        if let Some((seq, _)) = expected.filter(|(seq, _)| *seq > last) {
            verified.problems.push(format!("record {seq}, which was seen before, is missing"));
        }
        Ok(verified)
    }
}

fn record(row: &AnyRow, seq: u64) -> std::result::Result<Record, Box<dyn std::error::Error>> {
    let body: String = row.try_get(5)?;
    Ok(Record {
        seq,
        at: time(row, 1)?,
        actor: row.try_get(2)?,
        kind: row.try_get(3)?,
        subject: row.try_get(4)?,
        body: serde_json::from_str(&body)?,
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
            previous: String::new(),
            hash: String::new(),
        };
        let hash = |body| record(body).expected_hash().unwrap();
        assert_eq!(hash(json!({"a": 1, "b": [1.0, "é\n"]})), hash(json!({"b": [1, "é\n"], "a": 1})));
        assert_ne!(hash(json!({"a": 1})), hash(json!({"a": 2})));
        assert_eq!(canonical(&json!({"b": 1e21, "a": 0.1})).unwrap(), br#"{"a":0.1,"b":1e+21}"#);
    }
}
