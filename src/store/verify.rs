//! Checking the store against its audit: the chain of the records, and every row against what the records say of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::audit::{PAGE, Record};
use super::evidence::{EVIDENCE, FORGOTTEN};
use super::found::{BEFORE, FOUND, LAST, WHOLE_JOB};
use super::writes::{Cell, HASHED, Key, Kind, TABLES, Values, Write};
use super::{ITSELF, Store};
use crate::error::Result;
use crate::fleet::Retrain;
use crate::retrain::Job;
use crate::retrain::replay::{Derived, Entry, Event, Jobs};
use crate::retrain::statement::event_sha256;

/// What a store was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// The last of them and its hash: to be kept elsewhere, and compared the next time.
    pub head: Option<(u64, String)>,
    /// Rows of other tables that were compared with the records.
    pub rows: u64,
    /// Rows of before the store was of this version, of which the audit has no hash.
    pub not_covered: u64,
    /// What is wrong, each naming a record or a row.
    pub problems: Vec<String>,
}

/// What speaks against starting jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Against starting any.
    pub all: Vec<String>,
    /// Against single jobs, by their names.
    pub jobs: BTreeMap<String, Vec<String>>,
    /// Against the jobs of a model.
    pub models: BTreeMap<String, Vec<String>>,
}

impl Doubts {
    /// What speaks against a job alone; nothing if it is as the audit says.
    pub fn of(&self, job: &Job) -> Vec<&str> {
        let own = self.jobs.get(&job.id).into_iter().chain(self.models.get(&job.model)).flatten();
        own.map(String::as_str).collect()
    }
}

/// A row that is not what the audit says.
struct Problem {
    table: &'static str,
    key: Key,
    text: String,
}

/// What follows from the audit as far as it was read.
#[derive(Default)]
pub struct Replay {
    fleet: String,
    verified: Verified,
    rows: BTreeMap<String, BTreeMap<Key, Values>>,
    jobs: Jobs,
    /// The job or model of a write that does not fit the ones before it.
    misfits: Vec<(String, Key, String)>,
    /// Whether conclusions of sweeps are kept, too.
    whole: bool,
    /// Whether the records are of an older version, and nothing was noted of the rows yet.
    older: bool,
}

impl Replay {
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
        let record = match record {
            Ok(record) => record,
            Err((seq, reason)) => {
                problems.push(format!("record {seq} was edited: {reason}"));
                self.verified.head = Some((seq, String::new()));
                return Ok(());
            }
        };
        if record.expected_hash()? != record.hash {
            problems.push(format!("{} was edited: its hash is not that of what it says", record.named()));
        }
        if seq == last + 1 && record.previous != hash {
            problems.push(format!("{} does not follow on the record before it as it is now", record.named()));
        }
        self.verified.head = Some((seq, record.hash.clone()));
        self.follow(record);
        Ok(())
    }

    /// Draws what follows from a record.
    fn follow(&mut self, record: &Record) {
        let Record { seq, at, clock_at, actor, kind, subject, body, .. } = record;
        let found = kind == FOUND && actor == ITSELF;
        if *seq == 1 {
            self.older = clock_at.is_none();
        }
        if found {
            self.older = false;
            // Older records do not hold all that is needed.
            self.jobs.begin();
        }
        for write in record.writes.iter().flat_map(|text| serde_json::from_str::<Vec<Write>>(text).unwrap_or_default())
        {
            if write.table == WHOLE_JOB {
                let set = |name: &str| write.set.get(name).and_then(Option::as_deref).unwrap_or_default();
                if let (Ok(job), true) = (serde_json::from_str::<Job>(set("body")), found) {
                    self.jobs.found(job, set("version").parse().unwrap_or_default());
                }
            } else {
                self.write(*seq, write);
            }
        }
        if kind == "event.open"
            && let Some(hash) = body["event_sha256"].as_str()
        {
            let event = self.rows.entry("event".into()).or_default().entry(vec![subject.clone()]).or_default();
            let wanted = format!("sha256:{hash}");
            let known = event.entry("body".into()).or_insert_with(|| Some(wanted.clone()));
            if known.as_ref() != Some(&wanted) {
                let text = format!("record {seq} (event.open) has another hash of it than was written");
                self.misfits.push(("event".into(), vec![subject.clone()], text));
            }
        }
        let event = self.rows.get("event").and_then(|events| events.get(std::slice::from_ref(subject)));
        let said = |name: &str| event?.get(name)?.as_deref();
        // Short texts stand there as they are.
        let sha256 =
            said("body").map(|body| body.strip_prefix(HASHED).map_or_else(|| event_sha256(body), str::to_owned));
        let event = said("model").zip(said("trigger_type")).zip(sha256.as_deref());
        let event = event.map(|((model, trigger), sha256)| Event { model, trigger, sha256 });
        let (seq, at, clock_at) = (*seq, *at, *clock_at);
        self.jobs.add(Entry { fleet: &self.fleet, event, seq, at, clock_at, actor, kind, subject, body });
    }

    fn write(&mut self, seq: u64, write: Write) {
        if write.table == EVIDENCE && !self.whole {
            return;
        }
        let rows = self.rows.entry(write.table.clone()).or_default();
        for row in write.rows {
            if write.deleted {
                rows.remove(&row);
                continue;
            }
            let values = rows.entry(row.clone()).or_default();
            for (name, was) in &write.replaced {
                if values.get(name).unwrap_or(&None) != was {
                    let (was, before) = (shown(was.as_ref()), shown(values.get(name).and_then(Option::as_ref)));
                    let text =
                        format!("record {seq} has replaced {was} in column {name}, where the audit had {before}");
                    self.misfits.push((write.table.clone(), row.clone(), text));
                }
            }
            for (name, value) in &write.set {
                if write.found {
                    values.entry(name.clone()).or_insert_with(|| value.clone());
                } else {
                    values.insert(name.clone(), value.clone());
                }
            }
        }
    }

    /// A number that stands under a name in a table of one row.
    fn limit(&self, table: &str, name: &str) -> Option<i64> {
        self.rows.get(table)?.get(&Key::new())?.get(name)?.as_ref()?.parse().ok()
    }
}

fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "nothing".into(), |value| format!("'{}'", value.escape_debug()))
}

/// A row by its table and key.
fn named(table: &str, key: &Key) -> String {
    let key: Vec<String> = key.iter().map(|part| format!("'{}'", part.escape_debug())).collect();
    format!("table {table}, row {}", if key.is_empty() { "of the fleet".into() } else { key.join(" ") })
}

/// In what a row differs from what the audit says; nothing if it does not.
fn difference(found: &Values, said: &Values) -> Option<String> {
    let names: BTreeSet<&String> = found.keys().chain(said.keys()).collect();
    names.into_iter().find_map(|name| {
        let (found, said) = (found.get(name).and_then(Option::as_ref), said.get(name).and_then(Option::as_ref));
        (found != said).then(|| format!("column {name} holds {}, the audit says {}", shown(found), shown(said)))
    })
}

impl Store {
    /// Reads on in the audit from where it was read to.
    fn read_on(&mut self, replay: &mut Replay, expected: &[(u64, &str)]) -> Result<()> {
        replay.fleet.clone_from(&self.fleet);
        loop {
            let last = replay.verified.head.as_ref().map_or(0, |(seq, _)| *seq);
            let page = self.audit_page(last, "")?;
            for record in &page {
                replay.add(record.as_ref().map_err(Clone::clone))?;
                let Ok(record) = record else { continue };
                if expected.iter().any(|(seq, hash)| *seq == record.seq && *hash != record.hash) {
                    replay.verified.problems.push(format!("{} is not the one that was seen before", record.named()));
                }
            }
            if (page.len() as u64) < PAGE {
                return Ok(());
            }
        }
    }

    /// Whether the audit ends where it was noted to end.
    fn check_end(&mut self, replay: &Replay, problems: &mut Vec<String>) -> Result<()> {
        let (last, hash) = replay.verified.head.clone().unwrap_or_default();
        let (noted, noted_hash) = self.audit_head()?.unwrap_or_default();
        if noted > last {
            problems.push(format!("records {} to {noted} are missing at the end", last + 1));
        } else if (noted, &noted_hash) != (last, &hash) {
            problems.push(format!("record {last} is not the last one that was noted, {noted}"));
        }
        Ok(())
    }

    /// The rows that are not what the audit says, and how many were compared.
    fn compare_rows(&mut self, replay: &Replay) -> Result<(Vec<Problem>, u64)> {
        let (mut problems, mut compared) = (Vec::new(), 0);
        let none = BTreeMap::new();
        for table in TABLES {
            let said = replay.rows.get(table.name).unwrap_or(&none);
            let mut there = BTreeSet::new();
            let mut add = |key: &Key, what: String| {
                let text = format!("{} {what}", named(table.name, key));
                problems.push(Problem { table: table.name, key: key.clone(), text });
            };
            for (key, found) in self.rows_of(table, None)? {
                compared += 1;
                match said.get(&key) {
                    None => add(&key, "is in no record of the audit".into()),
                    Some(said) => {
                        if let Some(difference) = difference(&found, said) {
                            add(&key, format!("was edited: {difference}"));
                        }
                    }
                }
                there.insert(key);
            }
            said.keys().filter(|key| !there.contains(*key)).for_each(|key| add(key, "was deleted".into()));
        }
        for (table, key, text) in &replay.misfits {
            let Some(table) = TABLES.iter().find(|known| known.name == table) else { continue };
            let text = format!("{} was edited: {text}", named(table.name, key));
            problems.push(Problem { table: table.name, key: key.clone(), text });
        }
        let unreadable = std::mem::take(&mut self.unreadable);
        let jobs = self.jobs("")?;
        self.unreadable = unreadable;
        for versioned in jobs {
            // What cannot be read is compared by its hash above.
            let Some(derived) = replay.jobs.get(&versioned.job.id) else { continue };
            if !derived.is(&versioned.job, versioned.version) {
                let key = vec![versioned.job.id.clone()];
                let [stands, follows] = [&versioned.job, &derived.job].map(|job| job.state.name().replace('_', " "));
                let text = format!(
                    "{} is not what follows from its steps: its state is '{stands}' after {} steps, and they lead to \
                     '{follows}' after {}",
                    named("job", &key),
                    versioned.version,
                    derived.version
                );
                problems.push(Problem { table: "job", key, text });
            }
        }
        for (id, text) in replay.jobs.problems() {
            problems.push(Problem { table: "job", key: vec![id.to_owned()], text: text.clone() });
        }
        Ok((problems, compared))
    }

    /// The conclusions of sweeps that are not what the audit says; how many were compared, and of how many it says nothing.
    fn compare_evidence(&mut self, replay: &Replay) -> Result<(Vec<String>, u64, u64)> {
        let (mut problems, mut compared, mut not_covered) = (Vec::new(), 0, 0);
        let none = BTreeMap::new();
        let said = replay.rows.get(EVIDENCE).unwrap_or(&none);
        let firings = replay.rows.get("firing").unwrap_or(&none);
        let fired: BTreeSet<[&str; 2]> =
            firings.keys().filter_map(|key| Some([&**key.first()?, &**key.get(2)?])).collect();
        let before = replay.limit(BEFORE, LAST);
        let forgotten = |what: &str, as_of: i64| replay.limit(FORGOTTEN, what).is_some_and(|before| as_of < before);
        let mut there = BTreeSet::new();
        let mut check = |key: &Key, found: Option<&Values>| {
            let [model, time] = [0, 1].map(|at| key.get(at).map_or("", String::as_str));
            let as_of = time.parse().unwrap_or_default();
            let name = format!("the conclusions on model '{}' of the sweep of {}", model.escape_debug(), at(as_of));
            let Some(said) = said.get(key) else {
                if before.is_some_and(|before| as_of <= before) {
                    not_covered += 1;
                } else {
                    problems.push(format!("{name} (verdict, hit or quality) are in no record of the audit"));
                }
                return;
            };
            let mut said = said.clone();
            if forgotten("hits", as_of) {
                said.remove("hits");
            }
            // Figures by which a trigger fired are kept.
            let empty = found.is_some_and(|found| !found.contains_key("body"));
            if empty && forgotten("figures", as_of) && !fired.contains(&[model, time]) {
                said.remove("body");
            }
            compared += 1;
            if said.is_empty() && found.is_none() {
                return;
            }
            for (name_there, table) in
                [("verdict", "verdict"), ("body", "verdict"), ("hits", "hit"), ("quality", "quality")]
            {
                if found.and_then(|found| found.get(name_there)) != said.get(name_there) {
                    problems.push(format!("table {table}: {name} were edited"));
                }
            }
        };
        for as_of in self.judged_sweeps()? {
            for (key, found) in self.evidence_at(as_of)? {
                check(&key, Some(&found));
                there.insert(key);
            }
        }
        said.keys().filter(|key| !there.contains(*key)).for_each(|key| check(key, None));
        Ok((problems, compared, not_covered))
    }

    /// Does something that reads, and sees the store as it is at one moment.
    fn reading<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.database.begin_reading()?;
        let done = work(self);
        let ended = self.database.end(false);
        done.and_then(|done| ended.map(|()| done))
    }

    /// Checks the whole store: the chain of the audit, and every row against the records; `expected` are heads that
    /// were seen before, where one was kept.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn verify_audit(&mut self, expected: &[(u64, &str)]) -> Result<Verified> {
        self.reading(|store| {
            let mut replay = Replay { whole: true, ..Replay::default() };
            store.read_on(&mut replay, expected)?;
            let mut problems = std::mem::take(&mut replay.verified.problems);
            if replay.verified.records == 0 {
                let reason =
                    "there is no record at all: no tick has run, or the audit was removed; a store begins with one";
                problems.push(reason.into());
            }
            store.check_end(&replay, &mut problems)?;
            let last = replay.verified.head.as_ref().map_or(0, |(seq, _)| *seq);
            for (seq, _) in expected.iter().filter(|(seq, _)| *seq > last) {
                problems.push(format!("record {seq}, which was seen before, is missing"));
            }
            if replay.older {
                let mut not_covered = 0;
                for table in TABLES {
                    not_covered += store.rows_of(table, None)?.len() as u64;
                }
                for as_of in store.judged_sweeps()? {
                    not_covered += store.evidence_at(as_of)?.len() as u64;
                }
                let Verified { records, head, .. } = replay.verified;
                return Ok(Verified { records, head, rows: 0, not_covered, problems });
            }
            let (rows, compared) = store.compare_rows(&replay)?;
            problems.extend(rows.into_iter().map(|problem| problem.text));
            let (conclusions, judged, not_covered) = store.compare_evidence(&replay)?;
            problems.extend(conclusions);
            let Verified { records, head, .. } = replay.verified;
            Ok(Verified { records, head, rows: compared + judged, not_covered, problems })
        })
    }

    /// A job as it follows from the audit, inside a transaction; `None` where there is no record of it.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn derived_job(&mut self, id: &str) -> Result<Option<Derived>> {
        let mut replay = Replay::default();
        self.read_on(&mut replay, &[])?;
        // Records of older versions do not hold all that is needed.
        Ok(replay.jobs.get(id).filter(|_| !replay.older).cloned())
    }

    /// Puts the runs of a job back as the audit has them, inside a transaction. How the model is trained stands there by its
    /// hash only: where that was lost, it is as it is `now`.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn restore_runs(&mut self, job: &str, now: Option<&Retrain>) -> Result<()> {
        let Some(table) = TABLES.iter().find(|table| table.name == "run") else { return Ok(()) };
        let mut replay = Replay::default();
        self.read_on(&mut replay, &[])?;
        let said = replay.rows.remove(table.name).unwrap_or_default();
        for (key, said) in said.into_iter().filter(|(key, _)| key.first().is_some_and(|of| of == job)) {
            let [_, attempt] = &key[..] else { continue };
            let named = [("job", job.into()), ("attempt", Cell::Int(attempt.parse().ok()))];
            let found = self.rows_of(table, Some(&named))?.into_iter().next().map(|(_, found)| found);
            if found.as_ref().is_some_and(|found| difference(found, &said).is_none()) {
                continue;
            }
            let mut set = Vec::new();
            for column in table.columns {
                let value = said.get(column.name).cloned().flatten();
                let is_as_said = found.as_ref().is_some_and(|found| found.get(column.name) == said.get(column.name));
                match column.kind {
                    _ if is_as_said => {}
                    Kind::Int => set.push((column.name, Cell::Int(value.and_then(|value| value.parse().ok())))),
                    Kind::Secret => {
                        let Some(retrain) = now else { continue };
                        set.push((column.name, super::jobs::json(job, retrain)?.into()));
                    }
                    // A long text stands there by its hash.
                    Kind::Text if value.as_ref().is_some_and(|value| value.starts_with(HASHED)) => {}
                    Kind::Text => set.push((column.name, Cell::from(&value))),
                }
            }
            match found {
                Some(_) => self.update(table.name, &named, &set, None)?,
                None => self.insert(table.name, &[&named[..], &set].concat(), true)?,
            };
        }
        Ok(())
    }

    /// What speaks against starting jobs: a broken chain against all, and rows that are not what the audit says against
    /// their jobs and models. The audit is read on from where it was read to the last time.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`].
    pub fn doubts(&mut self) -> Result<Doubts> {
        // A store of an older version is answered for first.
        self.transaction(|_| Ok(()))?;
        let mut replay = self.replay.take().unwrap_or_default();
        let doubts = self.reading(|store| {
            store.read_on(&mut replay, &[])?;
            let mut doubts = Doubts { all: replay.verified.problems.clone(), ..Doubts::default() };
            store.check_end(&replay, &mut doubts.all)?;
            for Problem { table, key, text } in store.compare_rows(&replay)?.0 {
                let first = key.into_iter().next().unwrap_or_default();
                match table {
                    "job" | "event" => doubts.jobs.entry(first).or_default().push(text),
                    "model" | "firing" | "mute" | "baseline" => doubts.models.entry(first).or_default().push(text),
                    // What was spent and is set aside is not known then.
                    "run" => {
                        doubts.all.push(text.clone());
                        doubts.jobs.entry(first).or_default().push(text);
                    }
                    // The others decide nothing about a start.
                    _ => {}
                }
            }
            Ok(doubts)
        })?;
        self.replay = Some(replay);
        Ok(doubts)
    }
}

fn at(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
