//! What can go wrong: one error type for what stops a command, one status for what concerns a single feature.
//! Every message names what it is about and what to do; addresses in it are shown without what is secret in them.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::address::shown;

/// Shorthand used throughout the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong for reasons outside of this program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path or pattern that matches nothing.
    #[error(
        "{}: no such file, or no data in it; check the path (a directory is searched for .parquet, .csv, .arrow, .ipc and .feather)",
        shown(path)
    )]
    NotFound {
        /// The path as it was given.
        path: String,
    },
    /// A file that cannot be read, or is not what its name says.
    #[error("{}: {reason}", shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A column of a file that cannot be read.
    #[error("{}, column '{column}': {reason}", shown(path))]
    UnreadableColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A column that is to be read as integers, as those of its baseline or as categories, and holds something else.
    #[error(
        "{}, column '{column}': holds {value}, which is no integer as the baseline has them; correct the feature's source, or \
         build the baseline again",
        shown(path)
    )]
    NotIntegers {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The first value that is none.
        value: String,
    },
    /// A snapshot without rows.
    #[error("{}: no rows; a comparison needs at least one row on each side", shown(path))]
    NoRows {
        /// The snapshot as it was given.
        path: String,
    },
    /// A column that a snapshot does not have.
    #[error("{}: no column '{column}'; it has {known}", shown(path))]
    NoColumn {
        /// The snapshot as it was given.
        path: String,
        /// The missing column.
        column: String,
        /// The columns it has.
        known: String,
    },
    /// Two snapshots without a common column.
    #[error("{} and {} have no column in common", shown(baseline), shown(current))]
    NothingInCommon {
        /// The baseline as it was given.
        baseline: String,
        /// The current snapshot as it was given.
        current: String,
    },
    /// A metric, convention or other name that does not exist.
    #[error("unknown {what} '{name}'; known: {known}")]
    UnknownName {
        /// What kind of name.
        what: &'static str,
        /// The name as it was given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A value out of its range.
    #[error("{what}: {reason}")]
    BadValue {
        /// The flag or key.
        what: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A mistake in a fleet file.
    #[error("{}{}: {reason}", shown(path), line.map_or(String::new(), |l| format!(":{l}")))]
    Fleet {
        /// The fleet file.
        path: PathBuf,
        /// Line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A baseline file that is not understood.
    #[error("{}: {reason}", shown(path))]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A backend that is not to be had.
    #[error("{0}")]
    Backend(String),
    /// Another process is at the same sweep.
    #[error(
        "{}: the same sweep is running already; wait for it, or give this one a --state folder of its own",
        shown(path)
    )]
    Busy {
        /// The folder both keep their state in.
        path: PathBuf,
    },
    /// Another process acts for the same fleet.
    #[error(
        "another tick of fleet '{fleet}' is running{}; this one does nothing",
        holder.as_ref().map_or(String::new(), |holder| format!(": {holder}"))
    )]
    Occupied {
        /// The fleet.
        fleet: String,
        /// Which process, if that is known.
        holder: Option<Holder>,
    },
    /// The store cannot be used.
    #[error("store {store}: {reason}")]
    Store {
        /// Where it is, without what is secret.
        store: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", shown(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The process that acts for a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The machine that it runs on.
    pub host: String,
    /// Its number there.
    pub process: i64,
    /// Since when it acts.
    pub since: Timestamp,
    /// For how long.
    pub held: SignedDuration,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = self.held.as_mins().max(0);
        let held = match (minutes / 60, minutes) {
            (0, 0) => "less than a minute".to_owned(),
            (0, minutes) => format!("{minutes} min"),
            (hours, _) if hours < 48 => format!("{hours} h"),
            (hours, _) => format!("{} days", hours / 24),
        };
        write!(f, "process {} on {}, since {} ({held})", self.process, self.host.escape_debug(), self.since)
    }
}

impl Error {
    /// A file that cannot be opened or read, with the remedy that the kind of failure suggests.
    pub fn io(path: &Path, source: &std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            return Error::NotFound { path: path.to_string_lossy().into_owned() };
        }
        Error::Unreadable { path: path.into(), reason: source.to_string() }
    }

    /// The process's exit code for this error; see the README.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::UnknownName { .. } | Error::BadValue { .. } => 2,
            Error::NotFound { .. }
            | Error::Unreadable { .. }
            | Error::UnreadableColumn { .. }
            | Error::NotIntegers { .. }
            | Error::NoRows { .. }
            | Error::NoColumn { .. }
            | Error::NothingInCommon { .. } => 3,
            Error::Fleet { .. } => 4,
            Error::Baseline { .. } => 5,
            Error::Backend(_) => 6,
            Error::Write { .. } => 7,
            Error::Busy { .. } | Error::Occupied { .. } => 13,
            Error::Store { .. } => 14,
        }
    }
}

/// Whether a message, as reports keep it, says that data are not there, rather than that they cannot be read.
pub fn is_of_missing_data(message: &str) -> bool {
    ["no such file, or no data in it", "no rows; a comparison needs"].iter().any(|words| message.contains(words))
}

/// Why a feature has the figures it has, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Compared.
    Ok,
    /// Compared; the baseline holds a single value.
    Constant,
    /// Compared; one side has fewer values than a verdict asks for.
    InsufficientData,
    /// One side has nothing but nulls and NaN.
    AllNull,
    /// The current snapshot lacks the column.
    MissingColumn,
    /// The column holds another type than in the baseline.
    TypeChanged,
    /// The column holds a type that cannot be compared.
    UnsupportedType,
    /// Identifiers, timestamps and the like: seen, not compared.
    NotCompared,
    /// The column cannot be read.
    Unreadable,
    /// This program failed on the column.
    InternalError,
    /// Its turn had not come when the time was up.
    NotCovered,
    /// Only the current snapshot has the column.
    Added,
}

impl Status {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Constant => "constant",
            Status::InsufficientData => "insufficient_data",
            Status::AllNull => "all_null",
            Status::MissingColumn => "missing_column",
            Status::TypeChanged => "type_changed",
            Status::UnsupportedType => "unsupported_type",
            Status::NotCompared => "not_compared",
            Status::Unreadable => "unreadable",
            Status::InternalError => "internal_error",
            Status::NotCovered => "not_covered",
            Status::Added => "added",
        }
    }

    /// Whether the feature could not be compared although it should have been.
    pub fn is_failure(self) -> bool {
        matches!(self, Status::MissingColumn | Status::TypeChanged | Status::Unreadable | Status::InternalError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_are_not_there_are_told_from_data_that_cannot_be_read() {
        let path = || "production/".to_owned();
        assert!(is_of_missing_data(&Error::NotFound { path: path() }.to_string()));
        assert!(is_of_missing_data(&format!("current: {}", Error::NoRows { path: path() })));
        let damaged = Error::Unreadable { path: path().into(), reason: "the footer is cut short".into() };
        assert!(!is_of_missing_data(&damaged.to_string()));
    }
}
