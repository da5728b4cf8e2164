//! The store: the state kept between runs: sweeps and their conclusions, retrain events, mutes. An SQLite file, or
//! PostgreSQL by its URL.

mod accept;
mod audit;
mod backfill;
mod baselines;
mod confirm;
mod database;
mod decide;
mod evidence;
mod future_times;
mod jobs;
mod lock_holder;
mod openings;
mod probe;
mod replay;
mod rollouts;
mod triggers;
mod verify;
mod versions;
mod waiting;
mod writes;

use std::collections::BTreeSet;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Row, query};

pub use audit::{Record, SYSTEM_ACTOR};
pub use baselines::BaselineRecord;
pub use confirm::JobCheck;
use database::Database;
pub use database::{Access, is_postgres};
use driftsweep_common::error::{Error, Result};
pub use evidence::{LimitExceeded, MeasurementRecord, StoredVerdict, key};
pub use future_times::CLOCK_SUBJECT;
pub use jobs::{OutboxMessage, RunRecord, UnreadableRow, VersionedJob};
pub use openings::Cooldown;
pub use probe::StoreProbe;
use replay::AuditReplay;
pub use replay::{AcceptedProblems, Backfilled};
pub use rollouts::VersionedRollout;
pub use triggers::{Firing, LastEvent, Mute, RetrainEvent};
pub(crate) use verify::named;
pub use verify::{StartBlockers, VerifySummary};
pub use versions::ModelAlias;
pub use waiting::{Acknowledgement, FleetFile, WaitingModel};
use writes::{PendingWrites, SqlValue};

/// The store of one fleet.
pub struct Store {
    database: Database,
    fleet: String,
    /// Rows that could not be read, and were skipped.
    unreadable: BTreeSet<UnreadableRow>,
    /// Whether a transaction is active, and its writes that are not in an audit record yet.
    in_transaction: bool,
    pending: PendingWrites,
    evidence: evidence::PendingConclusions,
    /// The real clock at the first record of the transaction.
    clock_at: Option<Timestamp>,
    /// Up to which record of an older version the audit is known to cover every row.
    backfilled_until: i64,
    /// The replayed audit, for checks before starts.
    replay: Option<Box<AuditReplay>>,
    /// Whether all that is read has the same moment: inside a reading, or a transaction, which no other process writes in.
    at_one_moment: bool,
    /// Whether the replayed audit has every record of that moment.
    replay_is_complete: bool,
    /// Whether the transaction has appended a record to the audit.
    has_appended: bool,
}

/// The record of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRecord {
    /// Its name.
    pub model: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// Its schedule, and its last handled time.
    pub scheduled: Option<(String, Timestamp)>,
    /// When its volume trigger last fired.
    pub volume_fired: Option<Timestamp>,
    /// When it was last trained, if known.
    pub trained: Option<Timestamp>,
    /// The last sweep at which any of its columns could be judged.
    pub judged: Option<Timestamp>,
    /// When it was last reported that none could be judged.
    pub reported_not_judged: Option<Timestamp>,
    /// Since when its metric is beyond the warning level, if it is.
    pub warned: Option<Timestamp>,
}

impl Store {
    /// Opens the store of a fleet: a `postgres://` URL, or the path of an SQLite file, which is created if it does not
    /// exist.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open(place: &str, fleet: &str) -> Result<Self> {
        Self::open_as(place, fleet, Access::Create)
    }

    /// The same, for an access.
    ///
    /// # Errors
    /// [`Error::Store`], also if there is no store and the access does not create one.
    pub fn open_as(place: &str, fleet: &str, access: Access) -> Result<Self> {
        Ok(Self::of(Database::open(place, access)?, fleet))
    }

    fn of(database: Database, fleet: &str) -> Self {
        Self {
            database,
            fleet: fleet.into(),
            unreadable: BTreeSet::new(),
            in_transaction: false,
            pending: PendingWrites::default(),
            evidence: evidence::PendingConclusions::default(),
            clock_at: None,
            backfilled_until: 0,
            replay: None,
            at_one_moment: false,
            replay_is_complete: false,
            has_appended: false,
        }
    }

    /// The store of a fleet for reading, if there is one: `None` if no tick has run yet.
    ///
    /// # Errors
    /// [`Error::Store`] where it cannot be read, also where it is of an older version: its settings apply, and are not
    /// known before it is migrated.
    pub fn read(place: &str, fleet: &str) -> Result<Option<Self>> {
        match Self::open_as(place, fleet, Access::Read) {
            Ok(store) => Ok(Some(store)),
            Err(Error::Store { reason, .. }) if reason.ends_with(database::NO_TICK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fails if the store has no record of the fleet; a server may hold other fleets.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn must_know_fleet(&mut self) -> Result<()> {
        if self.is_new()? {
            let reason = format!("the store has no record of fleet '{}': {}", self.fleet, database::NO_TICK);
            return Err(self.database.failed(reason));
        }
        Ok(())
    }

    /// Whether the store has no record of the fleet yet: it was never swept, or its state was lost.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn is_new(&mut self) -> Result<bool> {
        let select = query("SELECT 1 FROM model WHERE fleet = $1 LIMIT 1").bind(self.fleet.clone());
        Ok(self.database.rows(select, |_| Ok(()))?.is_empty())
    }

    /// What kind of store it is, and a hash of its location, which identifies it. It contains no secrets.
    pub fn identity(&self) -> (&'static str, String) {
        self.database.identity()
    }

    /// An error that names the store.
    pub fn refused(&self, reason: String) -> Error {
        self.database.failed(reason)
    }

    /// An error about a row that is not what the audit says.
    pub fn tampered(&self, reason: String) -> Error {
        match self.database.failed(reason) {
            Error::Store { store, reason } => Error::Tampered { store, reason },
            other => other,
        }
    }

    /// Runs an action under a lock of the fleet, in one process at a time.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds the lock; errors of the action.
    pub fn with_lock<T>(&mut self, what: &str, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let key = self.lock_key(what);
        let Some(lock) = self.database.try_lock(key)? else {
            // The holder is only informative.
            let holder = self.holder(what).unwrap_or_default();
            return Err(Error::Locked { fleet: self.fleet.clone(), holder });
        };
        // Only the lock decides; a store that cannot be written fails at the next step.
        let _ = self.set_holder(what);
        let done = act(self);
        let given_back = self.database.unlock(lock);
        done.and_then(|done| given_back.map(|()| done))
    }

    /// The number of a lock.
    fn lock_key(&self, what: &str) -> i64 {
        let hash = Sha256::digest(format!("driftsweep {what} {}", self.fleet));
        i64::from_be_bytes(hash[..8].try_into().unwrap_or_default())
    }

    /// Runs steps in a transaction. Transactions of one fleet are serialized: values read inside are current.
    ///
    /// # Errors
    /// Those of the steps.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let key = self.lock_key("write");
        self.database.begin(key)?;
        (self.in_transaction, self.has_appended) = (true, false);
        self.begin_moment();
        let done = self.backfill_audit().and_then(|()| work(self)).and_then(|done| {
            self.append_rest()?;
            self.database.end(true).map(|()| done)
        });
        self.in_transaction = false;
        self.clock_at = None;
        self.end_moment();
        if done.is_err() {
            (self.pending, self.evidence) = Default::default();
            self.backfilled_until = 0;
            // It may have read a record that was rolled back.
            if self.has_appended {
                self.replay = None;
            }
            // The first error is the one to report.
            let _ = self.database.end(false);
        }
        done
    }

    fn begin_moment(&mut self) {
        (self.at_one_moment, self.replay_is_complete) = (true, false);
    }

    fn end_moment(&mut self) {
        (self.at_one_moment, self.replay_is_complete) = (false, false);
    }

    /// The same, inside an active transaction, or in a new one.
    fn atomically<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.in_transaction { work(self) } else { self.transaction(work) }
    }

    /// Adds models that are seen for the first time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn register_models<'a>(&mut self, models: impl Iterator<Item = &'a str>, at: Timestamp) -> Result<()> {
        for model in models {
            self.insert("model", &[("name", model.into()), ("first_seen", at.into())], true)?;
        }
        Ok(())
    }

    /// All models that were ever seen.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn known(&mut self) -> Result<Vec<ModelRecord>> {
        let sql = "SELECT name, first_seen, schedule, scheduled, volume_fired, trained, judged, not_judged, warned \
                   FROM model WHERE fleet = $1";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| {
            Ok(ModelRecord {
                model: row.try_get(0)?,
                first_seen: time(row, 1)?,
                scheduled: row.try_get::<Option<String>, _>(2)?.zip(optional_time(row, 3)?),
                volume_fired: optional_time(row, 4)?,
                trained: optional_time(row, 5)?,
                judged: optional_time(row, 6)?,
                reported_not_judged: optional_time(row, 7)?,
                warned: optional_time(row, 8)?,
            })
        })
    }

    /// When a model was last trained, if known.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn trained(&mut self, model: &str) -> Result<Option<Timestamp>> {
        let select = query("SELECT trained FROM model WHERE fleet = $1 AND name = $2").bind(self.fleet.clone());
        let found = self.database.rows(select.bind(model.to_owned()), |row| optional_time(row, 0))?;
        Ok(found.into_iter().next().flatten())
    }

    /// Records that a schedule of a model was handled, up to a time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_scheduled(&mut self, model: &str, schedule: &str, until: Timestamp) -> Result<()> {
        self.set_model(model, &[("schedule", schedule.into()), ("scheduled", until.into())])
    }

    /// Records that a model's volume trigger has fired: it counts from then on.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_volume_fired(&mut self, model: &str, at: Timestamp) -> Result<()> {
        self.set_model(model, &[("volume_fired", at.into())])
    }

    /// Records that a model was trained.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_trained(&mut self, model: &str, at: Timestamp) -> Result<()> {
        self.set_model(model, &[("trained", at.into())])
    }

    fn set_model(&mut self, model: &str, set: &[(&'static str, SqlValue)]) -> Result<()> {
        self.update("model", &[("name", model.into())], set, None).map(drop)
    }

    /// Records that a sweep is complete.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn add_sweep(&mut self, as_of: Timestamp, id: &str, counts_hash: &str) -> Result<()> {
        let cells = [("as_of", as_of.into()), ("id", id.into()), ("counts_hash", counts_hash.into())];
        self.insert("sweep", &cells, false).map(drop)
    }

    /// The last sweeps, the latest first: their times.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn last_sweeps(&mut self, most: usize) -> Result<Vec<Timestamp>> {
        let sql = "SELECT as_of FROM sweep WHERE fleet = $1 ORDER BY as_of DESC LIMIT $2";
        self.database.rows(query(sql).bind(self.fleet.clone()).bind(most as i64), |row| time(row, 0))
    }
}

fn time(row: &AnyRow, at: usize) -> std::result::Result<Timestamp, sqlx::Error> {
    timestamp(row.try_get(at)?)
}

fn optional_time(row: &AnyRow, at: usize) -> std::result::Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(at)?.map(timestamp).transpose()
}

fn timestamp(microseconds: i64) -> std::result::Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(microseconds).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}
