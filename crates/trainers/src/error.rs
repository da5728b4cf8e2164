use crate::table::Kind;

/// What a fit, a prediction or the reading of a model refuses.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A column that cannot be used.
    #[error("column {name:?}: {reason}")]
    Column {
        /// Its name.
        name: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A column that the model was trained on is not in the table.
    #[error("column {name:?} is missing: the model was trained on it; add it, empty if nothing is known")]
    MissingColumn {
        /// Its name.
        name: String,
    },
    /// A column has another kind than in training.
    #[error("column {name:?} holds {found}, but the model was trained on {expected} there; convert it, or train anew")]
    ColumnKind {
        /// Its name.
        name: String,
        /// Its kind in training.
        expected: Kind,
        /// Its kind in this table.
        found: Kind,
    },
    /// The target, or what it must agree with.
    #[error("target: {0}")]
    Target(String),
    /// The rows' order or number.
    #[error("rows: {0}")]
    Rows(String),
    /// A setting out of its range.
    #[error("setting `{key}` is {value}: it must be {range}")]
    Setting {
        /// Its name, with the name of its table where there is one.
        key: String,
        /// Its value.
        value: String,
        /// The values it takes.
        range: &'static str,
    },
    /// Bytes that are no model, are damaged, or are of a later version.
    #[error("{format}: {reason}")]
    Format {
        /// The format that was expected.
        format: &'static str,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A saved state that cannot be continued.
    #[error("the saved state cannot be continued: {0}")]
    State(String),
    /// The learning diverged.
    #[error("the weights are no longer finite after row {row}: lower the learning rate, or standardise the columns")]
    Diverged {
        /// The row, counted from 0.
        row: usize,
    },
    /// The trainer is left out of this build.
    #[error("trainer `{0}` is not in this build: build driftsweep with the cargo feature `boosting`")]
    NotBuilt(&'static str),
    /// The library of boosted trees refused.
    #[error("boosted trees: {0}")]
    Boosting(String),
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;
