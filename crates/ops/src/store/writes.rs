//! Writes of audited rows. Each write is recorded, and becomes part of the next audit record of the same transaction:
//! the records alone determine the content of every row.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row, query};

use super::Store;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::Result;
use driftsweep_fleet::Money;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A whole number.
    Int,
    /// Text; the audit has the hash of a long one.
    Text,
    /// Text that may hold a secret, such as an address with a key in it: the audit has its hash only.
    Secret,
}

/// A column.
pub struct AuditedColumn {
    /// Its name.
    pub name: &'static str,
    pub(super) kind: ColumnKind,
}

/// An audited table.
pub struct AuditedTable {
    /// Its name.
    pub name: &'static str,
    /// The key columns, in addition to the fleet.
    pub key: &'static [AuditedColumn],
    /// The others.
    pub columns: &'static [AuditedColumn],
}

const fn int(name: &'static str) -> AuditedColumn {
    AuditedColumn { name, kind: ColumnKind::Int }
}

const fn text(name: &'static str) -> AuditedColumn {
    AuditedColumn { name, kind: ColumnKind::Text }
}

const fn secret(name: &'static str) -> AuditedColumn {
    AuditedColumn { name, kind: ColumnKind::Secret }
}

/// The audited tables, row by row. Verdicts, hits and metrics are recorded as hashes: see [`super::evidence`].
pub const TABLES: &[AuditedTable] = &[
    AuditedTable {
        name: "model",
        key: &[text("name")],
        columns: &[
            int("first_seen"),
            text("schedule"),
            int("scheduled"),
            int("volume_fired"),
            int("trained"),
            int("judged"),
            int("not_judged"),
            int("warned"),
        ],
    },
    AuditedTable { name: "sweep", key: &[int("as_of")], columns: &[text("id"), text("counts_hash")] },
    AuditedTable {
        name: "event",
        key: &[text("id")],
        columns: &[
            text("model"),
            text("trigger_type"),
            int("triggered_at"),
            text("body"),
            int("closed_at"),
            text("outcome"),
            text("note"),
        ],
    },
    AuditedTable {
        name: "firing",
        key: &[text("model"), text("trigger_type"), int("due")],
        columns: &[text("outcome"), text("event"), text("reason")],
    },
    AuditedTable {
        name: "mute",
        key: &[text("model"), text("trigger_type")],
        columns: &[int("until"), text("reason"), text("set_by"), int("set_at")],
    },
    AuditedTable {
        name: "job",
        key: &[text("id")],
        columns: &[text("model"), text("state"), int("requested_at"), int("version"), text("body")],
    },
    AuditedTable {
        name: "run",
        key: &[text("job"), int("attempt")],
        columns: &[
            text("model"),
            secret("retrain"),
            int("started_at"),
            int("declared"),
            int("committed"),
            int("seen"),
            int("ended_at"),
            text("outcome"),
            int("cost"),
            int("clock_at"),
            int("lost_at"),
        ],
    },
    AuditedTable { name: "budget_warning", key: &[text("scope"), text("month")], columns: &[] },
    AuditedTable {
        name: "waiting",
        key: &[text("model"), int("as_of")],
        columns: &[int("since"), int("until"), text("input"), text("reason")],
    },
    AuditedTable {
        name: "status",
        key: &[],
        columns: &[
            int("as_of"),
            text("body"),
            int("acknowledged_at"),
            text("acknowledged_by"),
            text("acknowledged_why"),
        ],
    },
    AuditedTable {
        name: "baseline",
        key: &[text("model"), int("seq")],
        columns: &[secret("place"), secret("declared"), int("set_at"), text("set_by"), text("job")],
    },
    AuditedTable {
        name: "model_version",
        key: &[text("model"), int("version")],
        columns: &[
            text("status"),
            int("since"),
            text("reason"),
            text("job"),
            int("attempt"),
            int("registered_at"),
            text("registered_by"),
            text("body"),
        ],
    },
    AuditedTable {
        name: "rollout",
        key: &[text("model"), int("version")],
        columns: &[text("state"), int("since"), int("steps"), int("moving"), text("body")],
    },
    AuditedTable { name: "model_alias", key: &[text("model"), text("alias")], columns: &[int("version")] },
];

/// The columns of models that triggers depend on: the replaced value is recorded, too, so that a manipulated value is
/// detected even after it was replaced.
const REPLACED: [&str; 4] = ["schedule", "scheduled", "volume_fired", "trained"];

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlValue {
    /// A number, or null.
    Int(Option<i64>),
    /// Text, or null.
    Text(Option<String>),
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Timestamp> for SqlValue {
    fn from(value: Timestamp) -> Self {
        Self::Int(Some(value.as_microsecond()))
    }
}

impl From<Option<Timestamp>> for SqlValue {
    fn from(value: Option<Timestamp>) -> Self {
        Self::Int(value.map(Timestamp::as_microsecond))
    }
}

impl From<Money> for SqlValue {
    fn from(value: Money) -> Self {
        Self::Int(Some(value.cents()))
    }
}

impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        // PostgreSQL accepts no text with a zero byte, and a name in a file may contain one.
        Self::Text(Some(value.replace('\0', "\u{fffd}")))
    }
}

impl From<&String> for SqlValue {
    fn from(value: &String) -> Self {
        value.as_str().into()
    }
}

impl From<String> for SqlValue {
    fn from(value: String) -> Self {
        value.as_str().into()
    }
}

impl From<&Option<String>> for SqlValue {
    fn from(value: &Option<String>) -> Self {
        value.as_deref().map_or(Self::Text(None), Self::from)
    }
}

impl SqlValue {
    /// In the form of the audit. Numbers are texts: canonical JSON has no integers above 2^53.
    pub(super) fn noted(&self, kind: ColumnKind) -> Option<String> {
        match self {
            Self::Int(value) => value.map(|value| value.to_string()),
            Self::Text(value) => value.as_ref().map(|value| noted_text(value, kind)),
        }
    }

    /// As part of the key of a row, for messages.
    fn named(&self) -> String {
        match self {
            Self::Int(value) => value.map(|value| value.to_string()).unwrap_or_default(),
            Self::Text(value) => value.clone().unwrap_or_default(),
        }
    }

    fn bind<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        match self {
            Self::Int(value) => query.bind(*value),
            Self::Text(value) => query.bind(value.clone()),
        }
    }
}

/// Longer texts are recorded as hashes.
const MAX_PLAIN_BYTES: usize = 64;

/// A text in the form of the audit.
pub(super) fn noted_text(text: &str, kind: ColumnKind) -> String {
    if kind == ColumnKind::Secret || text.len() > MAX_PLAIN_BYTES || text.starts_with(HASHED) {
        hashed(text)
    } else {
        text.into()
    }
}

/// The prefix of a hash in place of a text.
pub const HASHED: &str = "sha256:";

/// The hash of a text, with its prefix.
pub fn hashed(text: &str) -> String {
    format!("{HASHED}{}", hex(&Sha256::digest(text)))
}

/// The columns and values of a row, in the form of the audit.
pub type RowValues = BTreeMap<String, Option<String>>;

/// The key of a row.
pub type RowKey = Vec<String>;

/// A write of the same values into rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowWrite {
    /// The table.
    pub table: String,
    /// The rows.
    pub rows: Vec<RowKey>,
    /// The written values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: RowValues,
    /// The replaced values, where they are recorded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: RowValues,
    /// Whether the rows were deleted instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Whether the rows were found in a store of an older version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
}

/// The table of a name.
pub(super) fn table(name: &str) -> &'static AuditedTable {
    // An unknown name is a mistake in this module, which every test of the store finds.
    TABLES.iter().find(|table| table.name == name).unwrap_or(&TABLES[0])
}

impl AuditedTable {
    fn kind(&self, column: &str) -> ColumnKind {
        self.key
            .iter()
            .chain(self.columns)
            .find(|known| known.name == column)
            .map_or(ColumnKind::Secret, |known| known.kind)
    }

    /// The key columns of a row with their values.
    pub(super) fn cells(&self, key: &RowKey) -> Vec<(&'static str, SqlValue)> {
        let cell = |column: &AuditedColumn, value: &String| match column.kind {
            ColumnKind::Int => SqlValue::Int(value.parse().ok()),
            ColumnKind::Text | ColumnKind::Secret => SqlValue::Text(Some(value.clone())),
        };
        self.key.iter().zip(key).map(|(column, value)| (column.name, cell(column, value))).collect()
    }

    /// The key and the other values of cells, in the form of the audit.
    fn split(&self, cells: &[(&'static str, SqlValue)]) -> (RowKey, RowValues) {
        let is_key = |name: &str| self.key.iter().any(|column| column.name == name);
        let cell = |name: &str| cells.iter().find(|(known, _)| *known == name).map(|(_, cell)| cell.named());
        let key = self.key.iter().filter_map(|column| cell(column.name)).collect();
        let rest = cells.iter().filter(|(name, _)| !is_key(name));
        (key, rest.map(|(name, cell)| ((*name).to_owned(), cell.noted(self.kind(name)))).collect())
    }
}

/// The recorded writes of a transaction.
#[derive(Default)]
pub struct PendingWrites {
    writes: Vec<RowWrite>,
    /// The last write of each row.
    last: BTreeMap<(String, RowKey), usize>,
    /// The last write of the same values.
    same: BTreeMap<(String, RowValues), usize>,
}

impl PendingWrites {
    /// Adds a write of one row. The same values in several rows are one entry.
    pub fn add(&mut self, write: RowWrite) {
        let Some(row) = write.rows.first().map(|row| (write.table.clone(), row.clone())) else { return };
        let plain = write.replaced.is_empty() && !write.deleted && !write.found;
        let same = (write.table.clone(), write.set.clone());
        if plain
            && let Some(&at) = self.same.get(&same)
            && self.last.get(&row).is_none_or(|last| *last < at)
        {
            self.writes[at].rows.push(row.1.clone());
            self.last.insert(row, at);
            return;
        }
        let at = self.writes.len();
        if plain {
            self.same.insert(same, at);
        }
        self.last.insert(row, at);
        self.writes.push(write);
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Takes all writes so far.
    pub fn take(&mut self) -> Vec<RowWrite> {
        std::mem::take(self).writes
    }
}

impl Store {
    /// Inserts a row; returns whether it is new. An existing row is an error, unless it is to be `kept`.
    pub(super) fn insert(&mut self, name: &str, cells: &[(&'static str, SqlValue)], kept: bool) -> Result<bool> {
        let table = table(name);
        let columns: Vec<&str> = cells.iter().map(|(name, _)| *name).collect();
        let places: Vec<String> = (2..cells.len() + 2).map(|at| format!("${at}")).collect();
        let kept = if kept { " ON CONFLICT DO NOTHING" } else { "" };
        let sql = format!(
            "INSERT INTO {name} (fleet{}{}) VALUES ($1{}{}){kept}",
            if columns.is_empty() { "" } else { ", " },
            columns.join(", "),
            if places.is_empty() { "" } else { ", " },
            places.join(", ")
        );
        let (key, set) = table.split(cells);
        self.atomically(|store| {
            let mut insert = query(AssertSqlSafe(sql)).bind(store.fleet.clone());
            for (_, cell) in cells {
                insert = cell.bind(insert);
            }
            let done = store.database.run(insert)? > 0;
            if done {
                store.pending.add(RowWrite { table: name.into(), rows: vec![key], set, ..RowWrite::default() });
            }
            Ok(done)
        })
    }

    /// Updates a row, if it exists and a condition holds; returns whether it did.
    pub(super) fn update(
        &mut self,
        name: &str,
        key: &[(&'static str, SqlValue)],
        set: &[(&'static str, SqlValue)],
        only: Option<String>,
    ) -> Result<bool> {
        let table = table(name);
        let places: Vec<String> = set.iter().zip(2..).map(|((name, _), at)| format!("{name} = ${at}")).collect();
        let only = only.map(|only| format!(" AND {only}")).unwrap_or_default();
        let sql = format!("UPDATE {name} SET {} WHERE {}{only}", places.join(", "), named_by(key, set.len() + 2));
        let (row, _) = table.split(key);
        let (_, values) = table.split(set);
        self.atomically(|store| {
            let mut replaced = RowValues::new();
            if name == "model" && set.iter().any(|(name, _)| REPLACED.contains(name)) {
                let found = store.rows_of(table, Some(key))?.into_iter().next();
                replaced = found.map(|(_, values)| values).unwrap_or_default();
                replaced.retain(|name, _| REPLACED.contains(&&**name) && values.contains_key(name));
            }
            let mut update = query(AssertSqlSafe(sql)).bind(store.fleet.clone());
            for (_, cell) in set.iter().chain(key) {
                update = cell.bind(update);
            }
            let done = store.database.run(update)? > 0;
            if done {
                let (table, rows) = (name.into(), vec![row]);
                store.pending.add(RowWrite { table, rows, set: values, replaced, ..RowWrite::default() });
            }
            Ok(done)
        })
    }

    /// Deletes a row; returns whether it existed.
    pub(super) fn delete(&mut self, name: &str, key: &[(&'static str, SqlValue)]) -> Result<bool> {
        let sql = format!("DELETE FROM {name} WHERE {}", named_by(key, 2));
        let (row, _) = table(name).split(key);
        self.atomically(|store| {
            let mut delete = query(AssertSqlSafe(sql)).bind(store.fleet.clone());
            for (_, cell) in key {
                delete = cell.bind(delete);
            }
            let done = store.database.run(delete)? > 0;
            if done {
                store.pending.add(RowWrite {
                    table: name.into(),
                    rows: vec![row],
                    deleted: true,
                    ..RowWrite::default()
                });
            }
            Ok(done)
        })
    }

    /// The rows of a table, or one of them, in the form of the audit.
    pub(super) fn rows_of(
        &mut self,
        table: &'static AuditedTable,
        key: Option<&[(&'static str, SqlValue)]>,
    ) -> Result<Vec<(RowKey, RowValues)>> {
        let columns: Vec<&str> = table.key.iter().chain(table.columns).map(|column| column.name).collect();
        // A table without columns of its own still has its fleet.
        let sql =
            format!("SELECT {} FROM {} WHERE {}", columns.join(", "), table.name, named_by(key.unwrap_or(&[]), 2));
        let mut select = query(AssertSqlSafe(sql)).bind(self.fleet.clone());
        for (_, cell) in key.unwrap_or(&[]) {
            select = cell.bind(select);
        }
        self.database.rows(select, |row| {
            let key = table.key.iter().zip(0..).map(|(column, at)| cell(row, at, column.kind).named());
            let rest = table.columns.iter().zip(table.key.len()..);
            let rest = rest.map(|(column, at)| (column.name.to_owned(), cell(row, at, column.kind).noted(column.kind)));
            Ok((key.collect(), rest.collect()))
        })
    }
}

/// The value of a column; for a value of a wrong type a text that differs from all valid ones.
fn cell(row: &AnyRow, at: usize, kind: ColumnKind) -> SqlValue {
    let other = |e: sqlx::Error| SqlValue::Text(Some(format!("not readable: {e}")));
    match kind {
        ColumnKind::Int => row.try_get(at).map_or_else(other, SqlValue::Int),
        ColumnKind::Text | ColumnKind::Secret => row.try_get(at).map_or_else(other, SqlValue::Text),
    }
}

/// The condition for the key of a row, with the number of its first parameter.
fn named_by(key: &[(&'static str, SqlValue)], first: usize) -> String {
    let conditions = key.iter().zip(first..).map(|((name, _), at)| format!(" AND {name} = ${at}"));
    format!("fleet = $1{}", conditions.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(row: &str, value: &str) -> RowWrite {
        let set = RowValues::from([("judged".to_owned(), Some(value.to_owned()))]);
        RowWrite { table: "model".into(), rows: vec![vec![row.into()]], set, ..RowWrite::default() }
    }

    #[test]
    fn the_same_values_in_several_rows_are_one_note_and_the_order_of_a_rows_writes_is_kept() {
        let mut pending = PendingWrites::default();
        for (row, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("a", "1")] {
            pending.add(write(row, value));
        }
        let writes = pending.take();
        let rows: Vec<Vec<&str>> = writes.iter().map(|write| write.rows.iter().map(|row| &*row[0]).collect()).collect();
        assert_eq!(rows, [vec!["a", "b", "c"], vec!["a"], vec!["a"]]);
        assert!(pending.is_empty());
    }

    #[test]
    fn long_texts_and_what_may_be_secret_are_noted_by_their_hash() {
        let long = "x".repeat(65);
        assert_eq!(SqlValue::from("short").noted(ColumnKind::Text).unwrap(), "short");
        assert_eq!(SqlValue::from(&long).noted(ColumnKind::Text).unwrap(), hashed(&long));
        assert_eq!(SqlValue::from("key").noted(ColumnKind::Secret).unwrap(), hashed("key"));
        // A text that looks like a hash is not taken for one.
        let like = hashed("short");
        assert_ne!(SqlValue::from(&like).noted(ColumnKind::Text).unwrap(), like);
        assert_eq!(SqlValue::Int(None).noted(ColumnKind::Int), None);
    }
}
