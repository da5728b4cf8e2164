//! Schema changes: changes of the columns themselves, reported separately from the figures.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::BaselineSide;
use crate::snapshot::{Column, ColumnType, Snapshot};

/// How a column differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the current snapshot has it.
    Added,
    /// Only the baseline has it.
    Gone,
    /// Both have it, with different types.
    Changed,
}

impl Change {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Gone => "gone",
            Self::Changed => "changed",
        }
    }
}

/// A column whose type is not the baseline's, or that only one side has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChange {
    /// The column.
    pub column: String,
    /// How it differs.
    pub change: Change,
    /// Its type in the baseline, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Its type in the current snapshot, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
}

impl SchemaChange {
    /// As text, without the name of the column.
    pub fn words(&self) -> String {
        match (&self.baseline, &self.current) {
            (Some(was), Some(is)) => format!("changed from {was} to {is}"),
            (Some(was), None) => format!("removed (was {was})"),
            (None, Some(is)) => format!("added ({is})"),
            (None, None) => self.change.name().into(),
        }
    }
}

/// The changes among the wanted columns, in the baseline's order, then the added ones in that of the current snapshot.
/// A column without values has an arbitrary type, which is not a change.
pub fn changes(baseline: BaselineSide<'_>, current: &Snapshot, wanted: impl Fn(&str) -> bool) -> Vec<SchemaChange> {
    let features = baseline.features();
    let known: HashMap<&str, &ColumnType> = features.iter().map(|feature| (feature.name(), feature.dtype())).collect();
    let mut changes = Vec::new();
    for feature in features.iter().filter(|feature| wanted(feature.name())) {
        let (feature, is) = match current.find(feature.name()) {
            Some(column) => {
                let (feature, column) = feature.with_common_types(column);
                (feature, Some(&column.kind))
            }
            None => (*feature, None),
        };
        let was = feature.dtype();
        let change = match is {
            None => Change::Gone,
            Some(is) if is.is_same(was) || *is == ColumnType::Null || *was == ColumnType::Null => continue,
            Some(_) => Change::Changed,
        };
        changes.push(SchemaChange {
            column: feature.name().into(),
            change,
            baseline: Some(was.name()),
            current: is.map(ColumnType::name),
        });
    }
    // A key of folders says where the rows are, and is no new column of them.
    let is_new =
        |column: &&Column| !known.contains_key(&*column.name) && !column.is_partition_key() && wanted(&column.name);
    let added = current.columns().iter().filter(is_new);
    changes.extend(added.map(|column| SchemaChange {
        column: column.name.clone(),
        change: Change::Added,
        baseline: None,
        current: Some(column.kind.name()),
    }));
    changes
}
