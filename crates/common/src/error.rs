//! What can go wrong: one error type for what stops a command, one status for a problem of a single feature. Every
//! message names its subject and the remedy; secrets in addresses are not shown, not even in quoted messages.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::address::{Location, redacted, without_secrets};

/// The result of whatever may fail: its error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong for reasons outside of this program. It is always printed as its message.
///
/// ```
/// use driftsweep_common::error::Error;
///
/// let error = Error::NotFound { path: "lost.parquet".into() };
/// assert!(error.to_string().contains("lost.parquet: no such file"));
/// assert_eq!(error.exit_code(), 3);
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path or pattern that matches nothing.
    #[error(
        "{}: no such file, or no data in it; check the path (a directory is searched for .parquet, .csv, .arrow, .ipc and .feather)",
        path
    )]
    NotFound {
        /// The path as it was given.
        path: Location,
    },
    /// A file that cannot be read, or is not what its name says.
    #[error("{path}: {}", without_secrets(reason))]
    Unreadable {
        /// The file.
        path: Location,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A column of a file that cannot be read.
    #[error("{path}, column '{column}': {}", without_secrets(reason))]
    UnreadableColumn {
        /// The file.
        path: Location,
        /// The column.
        column: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A column that is to be read as integers, as those of its baseline or as categories, and holds something else.
    #[error(
        "{}, column '{column}': holds {value}, which is not an integer, unlike the baseline; correct the feature's \
         source, or build the baseline again",
        path
    )]
    NotIntegers {
        /// The file.
        path: Location,
        /// The column.
        column: String,
        /// The first value that is not an integer.
        value: String,
    },
    /// A snapshot without rows.
    #[error("{path}: no rows; a comparison needs at least one row on each side")]
    NoRows {
        /// The snapshot as it was given.
        path: Location,
    },
    /// A column that a snapshot does not have.
    #[error("{}: no column '{column}'{}; it has {known}", path, did_you_mean(closest.as_deref()))]
    NoColumn {
        /// The snapshot as it was given.
        path: Location,
        /// The missing column.
        column: String,
        /// The column of the snapshot with the most similar name, if there is one.
        closest: Option<String>,
        /// The first of the columns it has.
        known: String,
    },
    /// Two snapshots without a common column.
    #[error("{baseline} and {current} have no column in common")]
    NoCommonColumn {
        /// The baseline as it was given.
        baseline: Location,
        /// The current snapshot as it was given.
        current: Location,
    },
    /// A metric, convention or other name that does not exist.
    #[error(
        "unknown {what} '{name}'{}; known: {}",
        did_you_mean(closest(name, known.iter().map(String::as_str))),
        listed(known.iter().map(String::as_str))
    )]
    UnknownName {
        /// What kind of name.
        what: &'static str,
        /// The name as it was given.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A value out of its range.
    #[error("{}: {}", without_secrets(what), without_secrets(reason))]
    BadValue {
        /// The flag or key.
        what: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A mistake in a fleet file.
    #[error("{}{}: {}", redacted(path), line.map_or(String::new(), |l| format!(":{l}")), without_secrets(reason))]
    Fleet {
        /// The fleet file.
        path: PathBuf,
        /// Line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A baseline file that is not understood.
    #[error("{path}: {}", without_secrets(reason))]
    Baseline {
        /// The file.
        path: Location,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A backend that is not available.
    #[error("{}", without_secrets(.0))]
    Backend(String),
    /// Another process runs the same sweep.
    #[error(
        "{}: the same sweep is running already; wait for it, or give this one a --state folder of its own",
        redacted(path)
    )]
    Busy {
        /// The state folder of both.
        path: PathBuf,
    },
    /// Another process fills a folder.
    #[error(
        "{}: another command of driftsweep is writing into this folder; wait for it, or name another one",
        redacted(path)
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Another process holds the lock of the fleet.
    #[error(
        "another tick of fleet '{fleet}' is running{}; this one does nothing",
        holder.as_ref().map_or(String::new(), |holder| format!(": {holder}"))
    )]
    Locked {
        /// The fleet.
        fleet: String,
        /// Which process, if that is known.
        holder: Option<LockHolder>,
    },
    /// The store cannot be used.
    #[error("store {}: {}", without_secrets(store), without_secrets(reason))]
    Store {
        /// Its location, without secrets.
        store: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A row of the store that is not what the audit says.
    #[error(
        "store {}: {}; `driftsweep audit verify` names every record and row that differs",
        without_secrets(store),
        without_secrets(reason)
    )]
    Tampered {
        /// Its location, without secrets.
        store: String,
        /// Which row differs, and how.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {}", redacted(path), without_secrets(&source.to_string()))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The process that holds a lock of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// The machine that it runs on.
    pub host: String,
    /// Its number there.
    pub process: i64,
    /// Since when it holds the lock.
    pub since: Timestamp,
    /// For how long.
    pub held: SignedDuration,
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = self.held.as_mins().max(0);
        let held = match (minutes / 60, minutes) {
            (0, 0) => "less than a minute".to_owned(),
            (0, minutes) => format!("{minutes} min"),
            (hours, _) if hours < 48 => format!("{hours} h"),
            (hours, _) => format!("{} days", hours / 24),
        };
        write!(
            f,
            "process {} on {}, since {} ({held})",
            self.process,
            crate::escape::for_display(&self.host),
            self.since
        )
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// An unknown name.
    pub fn unknown<'a>(what: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Error::UnknownName { what, name: name.into(), known: known.into_iter().map(str::to_owned).collect() }
    }

    /// A column that a snapshot does not have.
    pub fn no_column<'a>(path: &str, column: &str, known: impl Iterator<Item = &'a str> + Clone) -> Self {
        Error::NoColumn {
            path: path.into(),
            column: column.into(),
            closest: closest(column, known.clone()).map(str::to_owned),
            known: listed(known),
        }
    }

    /// A file that cannot be opened or read, with the remedy that the kind of failure suggests.
    pub fn io(path: &Path, source: &std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            return Error::NotFound { path: path.into() };
        }
        Error::Unreadable { path: path.into(), reason: source.to_string() }
    }

    /// The cause, where this error prevents the comparison of a model.
    pub fn cause(&self) -> Cause {
        match self {
            Error::NotFound { .. } | Error::NoRows { .. } => Cause::Missing,
            // A temporary shortage of this machine, such as disk space, may be over at the next attempt.
            Error::Unreadable { .. }
            | Error::UnreadableColumn { .. }
            | Error::NotIntegers { .. }
            | Error::Backend(_)
            | Error::Busy { .. }
            | Error::InUse { .. }
            | Error::Locked { .. }
            | Error::Store { .. }
            | Error::Tampered { .. }
            | Error::Write { .. } => Cause::Unreadable,
            Error::NoColumn { .. } | Error::NoCommonColumn { .. } => Cause::Schema,
            Error::Baseline { .. } => Cause::Baseline,
            Error::UnknownName { .. } | Error::BadValue { .. } | Error::Fleet { .. } => Cause::FleetFile,
        }
    }

    /// The process's exit code for this error; see `docs/reports.md`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::UnknownName { .. } | Error::BadValue { .. } => 2,
            Error::NotFound { .. }
            | Error::Unreadable { .. }
            | Error::UnreadableColumn { .. }
            | Error::NotIntegers { .. }
            | Error::NoRows { .. }
            | Error::NoColumn { .. }
            | Error::NoCommonColumn { .. } => 3,
            Error::Fleet { .. } => 4,
            Error::Baseline { .. } => 5,
            Error::Backend(_) => 6,
            Error::Write { .. } => 7,
            Error::Busy { .. } | Error::InUse { .. } | Error::Locked { .. } => 13,
            Error::Store { .. } => 14,
            Error::Tampered { .. } => 15,
        }
    }
}

/// Why a model, or a column of it, cannot be compared. It determines whether waiting for better data may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// The data are not there: no file, or no rows.
    Missing,
    /// The data are there and cannot be read.
    Unreadable,
    /// The data can be read, and lack a column or have it in another type.
    Schema,
    /// The baseline is missing, cannot be read, or does not fit the model.
    Baseline,
    /// The fleet file names something that does not exist, or something that is not possible.
    FleetFile,
    /// A defect of this program.
    Internal,
}

impl Cause {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether it may be resolved when the data of the night are complete. Waiting does not resolve the other causes.
    pub fn is_transient(self) -> bool {
        matches!(self, Cause::Missing | Cause::Unreadable)
    }

    /// The same for a baseline that is not written every night: its problems stay until it is replaced.
    #[must_use]
    pub fn of_baseline(self) -> Self {
        match self {
            Cause::Missing | Cause::Unreadable => Cause::Baseline,
            // The fleet file names something that is not in the training data either.
            Cause::Schema => Cause::FleetFile,
            other => other,
        }
    }
}

/// Why a model, or a column of it, cannot be compared: the cause and the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// The cause.
    pub cause: Cause,
    /// The column that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Whether it is about predictions and labels, not about the data that are compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels: bool,
    /// In words.
    pub reason: String,
}

impl Fault {
    /// A fault that is not about a single column.
    pub fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, column: None, labels: false, reason: reason.into() }
    }

    /// Whether it is the same problem as another one, so that it need not be reported again. Messages about nightly
    /// data name the day: there only the cause and the column are compared.
    pub fn is_like(&self, other: &Self) -> bool {
        let same = (self.cause, &self.column, self.labels) == (other.cause, &other.column, other.labels);
        same && (self.cause.is_transient() || self.reason == other.reason)
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let column = match error {
            Error::UnreadableColumn { column, .. }
            | Error::NotIntegers { column, .. }
            | Error::NoColumn { column, .. } => Some(column.clone()),
            _ => None,
        };
        Self { cause: error.cause(), column, labels: false, reason: error.to_string() }
    }
}

/// Names that a message lists at most.
const MAX_LISTED: usize = 20;

/// Characters of a name that a message lists at most.
const MAX_NAME_CHARS: usize = 200;

/// A name in a list.
fn quoted(name: &str) -> String {
    format!("'{}'", crate::escape::truncated(&redacted(name), MAX_NAME_CHARS))
}

/// Names for a message, the first of them.
fn listed<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let shown: Vec<String> = names.clone().take(MAX_LISTED).map(quoted).collect();
    match names.skip(MAX_LISTED).count() {
        0 if shown.is_empty() => "none".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The known name that was most likely meant by `name`: the one with the fewest letters inserted, left out,
/// changed or swapped, if at most a third of its letters are. Upper and lower case are the same.
pub fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    let mut best: Option<(usize, &str)> = None;
    for candidate in known.filter(|candidate| *candidate != name) {
        let other = candidate.to_lowercase();
        let most = length.max(other.chars().count()) / 3;
        // Names of very different lengths are skipped: tables may have thousands of columns.
        if other.chars().count().abs_diff(length) > most {
            continue;
        }
        let changes = strsim::osa_distance(&wanted, &other);
        if changes <= most && best.is_none_or(|(fewest, _)| changes < fewest) {
            best = Some((changes, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The message of an error and its causes, each said once.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The part of a message that names what was most likely meant.
pub fn did_you_mean(closest: Option<&str>) -> String {
    closest.map_or(String::new(), |name| format!("; did you mean {}?", quoted(name)))
}

/// The status of a feature: whether and how it was compared.
///
/// ```
/// use driftsweep_common::error::Status;
///
/// assert!(Status::TypeChanged.is_failure());
/// assert_eq!(Status::AllNull.name(), "all_null");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// Compared.
    Ok,
    /// Compared; the baseline holds a single value.
    Constant,
    /// Compared; one side has fewer values than a verdict needs.
    InsufficientData,
    /// One side has only nulls and NaN.
    AllNull,
    /// The current snapshot lacks the column.
    MissingColumn,
    /// The column holds another type than in the baseline.
    TypeChanged,
    /// The column holds a type that cannot be compared.
    UnsupportedType,
    /// Identifiers, timestamps and similar columns: not compared by design.
    NotCompared,
    /// The column cannot be read.
    Unreadable,
    /// This program failed on the column.
    InternalError,
    /// It was not reached before the deadline.
    NotCovered,
    /// Only the current snapshot has the column.
    Added,
}

impl Status {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Why the feature was not compared, as far as the status shows it; `None` where it was.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Status::MissingColumn | Status::TypeChanged => Some(Cause::Schema),
            Status::Unreadable => Some(Cause::Unreadable),
            Status::InternalError => Some(Cause::Internal),
            _ => None,
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
    fn the_cause_follows_from_the_kind_of_error_and_not_from_its_words() {
        let path = || "no such file, or no data in it".to_owned();
        let cause = |error: Error| Fault::from(&error).cause;
        assert_eq!(cause(Error::NotFound { path: path().into() }), Cause::Missing);
        assert_eq!(cause(Error::NoRows { path: path().into() }), Cause::Missing);
        assert_eq!(cause(Error::Unreadable { path: path().into(), reason: path() }), Cause::Unreadable);
        assert_eq!(cause(Error::no_column(&path(), "a", ["b"].into_iter())), Cause::Schema);
        assert_eq!(cause(Error::BadValue { what: path(), reason: path() }), Cause::FleetFile);
        assert_eq!(cause(Error::Baseline { path: path().into(), reason: path() }), Cause::Baseline);
        for status in [Status::MissingColumn, Status::TypeChanged, Status::Unreadable, Status::InternalError] {
            assert!(status.is_failure() && status.cause().is_some(), "{status:?}");
        }
        assert_eq!((Status::Ok.cause(), Status::AllNull.cause()), (None, None));
    }

    #[test]
    fn what_is_known_is_decided_by_cause_and_column_and_of_what_stays_wrong_by_the_words_too() {
        let fault = |cause, column: Option<&str>, reason: &str| Fault {
            cause,
            column: column.map(str::to_owned),
            labels: false,
            reason: reason.into(),
        };
        let known = fault(Cause::Missing, None, "current: day-2026-01-02: no such file");
        assert!(known.is_like(&fault(Cause::Missing, None, "current: day-2026-01-03: no such file")));
        assert!(!known.is_like(&fault(Cause::Unreadable, None, "current: day-2026-01-02: no such file")));
        assert!(!known.is_like(&Fault { labels: true, ..known.clone() }));
        assert!(!known.is_like(&fault(Cause::Missing, Some("a"), "current: day-2026-01-02: no such file")));
        // Names that differ in a digit are different names.
        let named = |name: &str| fault(Cause::FleetFile, None, &format!("'{name}' is named in the fleet file"));
        assert!(named("x1").is_like(&named("x1")) && !named("x1").is_like(&named("x2")));
    }

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant_and_a_strange_one_finds_none() {
        let known = ["psi", "js", "ks", "wasserstein", "dep_delay", "arr_delay", "Temperature", "größe"];
        let found = |name: &str| closest(name, known.into_iter());
        for (name, wanted) in [
            ("psy", "psi"),
            ("wassertein", "wasserstein"),
            ("wassersetin", "wasserstein"),
            ("dep_dealy", "dep_delay"),
            ("depdelay", "dep_delay"),
            ("temperature", "Temperature"),
            ("TEMPERATUR", "Temperature"),
            ("grösse", "größe"),
            ("PSI", "psi"),
        ] {
            assert_eq!(found(name), Some(wanted), "{name}");
        }
        for name in ["", "x", "jz", "humidity", "psi"] {
            assert_ne!(found(name), Some("psi"), "{name}");
        }
        assert_eq!(found("humidity"), None);
        assert_eq!(closest("y", ["x"].into_iter()), None, "every letter is another one");
    }

    #[test]
    fn a_message_names_what_was_meant_and_lists_no_thousands_of_names() {
        let names: Vec<String> = (0..1000).map(|i| format!("feature {i:04}")).collect();
        let error = Error::unknown("model", "faeture 0999", names.iter().map(String::as_str)).to_string();
        assert!(error.contains("did you mean 'feature 0999'?") && error.contains("and 980 more"), "{error}");
        assert!(error.len() < 600, "{error}");
        let error = Error::no_column("a.csv", "feature 099", names.iter().map(String::as_str)).to_string();
        assert!(error.contains("a.csv: no column 'feature 099'; did you mean 'feature 0099'?"), "{error}");
        let error = Error::unknown("metric", "weight", ["psi"]).to_string();
        assert_eq!(error, "unknown metric 'weight'; known: 'psi'");
    }
}
