//! Guessing what the columns of a new data set are for, with the reason beside each guess.

use crate::count::{CategoryCounts, CpuCounter, Domain, KeySource, KeyVec};
use crate::error::Result;
use crate::snapshot::{Column, ColumnType, Snapshot};

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Something the model sees.
    Feature,
    /// Names a row.
    Identifier,
    /// A point in time.
    Time,
    /// What the model is to predict.
    Label,
    /// What the model said.
    Prediction,
    /// Cannot be compared.
    Unsupported,
}

impl Role {
    /// The name in the fleet file's comments.
    pub fn name(self) -> &'static str {
        match self {
            Role::Feature => "feature",
            Role::Identifier => "identifier",
            Role::Time => "time",
            Role::Label => "label",
            Role::Prediction => "prediction",
            Role::Unsupported => "not comparable",
        }
    }
}

/// A guess.
#[derive(Clone, Debug)]
pub struct Guess {
    /// The column.
    pub column: String,
    /// What it seems to be for.
    pub role: Role,
    /// Why.
    pub reason: String,
}

const LABELS: [&str; 9] = ["label", "target", "y", "y_true", "ground_truth", "outcome", "class", "actual", "truth"];
const PREDICTIONS: [&str; 7] = ["pred", "predicted", "prediction", "score", "proba", "probability", "prob"];
const IDENTIFIERS: [&str; 7] = ["id", "uuid", "guid", "key", "rowid", "index", "pk"];
const MOST_ROWS: u64 = 1 << 22;

/// Guesses the role of every column of the baseline.
///
/// # Errors
/// A column that cannot be read.
pub fn roles(baseline: &Snapshot, current: &Snapshot) -> Result<Vec<Guess>> {
    baseline
        .columns()
        .iter()
        .map(|column| {
            let (role, reason) = role(baseline, current, column)?;
            Ok(Guess { column: column.name.clone(), role, reason })
        })
        .collect()
}

fn role(baseline: &Snapshot, current: &Snapshot, column: &Column) -> Result<(Role, String)> {
    let name = column.name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let is = |known: &[&str]| words.iter().any(|word| known.contains(word));
    Ok(match &column.kind {
        ColumnType::Temporal(..) => (Role::Time, format!("its type is {}", column.kind.name())),
        ColumnType::Unsupported(_) | ColumnType::Mixed(_) => {
            (Role::Unsupported, format!("its type is {}", column.kind.name()))
        }
        _ if LABELS.contains(&name.as_str()) || is(&["label", "target"]) => (Role::Label, "by its name".into()),
        _ if is(&PREDICTIONS) || name == "y_hat" || name == "yhat" => (Role::Prediction, "by its name".into()),
        _ if current.column(&column.name).is_err() => {
            (Role::Label, "the current snapshot lacks it: labels come later".into())
        }
        _ if words.last().is_some_and(|word| IDENTIFIERS.contains(word)) => (Role::Identifier, "by its name".into()),
        ColumnType::Text if mostly_distinct_text(baseline, column)? => {
            (Role::Identifier, "nearly every text is different".into())
        }
        ColumnType::Numeric(domain) if !domain.is_float() && all_distinct(baseline, column, *domain)? => {
            (Role::Identifier, "every number is different".into())
        }
        kind => (Role::Feature, kind.name()),
    })
}

fn mostly_distinct_text(snapshot: &Snapshot, column: &Column) -> Result<bool> {
    if snapshot.rows() < 100 || snapshot.rows() > MOST_ROWS {
        return Ok(false);
    }
    let (categories, _) = snapshot.categories(&CpuCounter, column, CategoryCounts::DEFAULT_LIMIT, None)?;
    let distinct = categories.counts.len() as u64 + categories.pooled;
    Ok(distinct as f64 > 0.9 * categories.total() as f64)
}

fn all_distinct(snapshot: &Snapshot, column: &Column, domain: Domain) -> Result<bool> {
    if snapshot.rows() < 100 || snapshot.rows() > MOST_ROWS {
        return Ok(false);
    }
    let source = snapshot.numeric(column, domain.into(), false, usize::MAX, None)?;
    let mut all: Vec<u64> = Vec::new();
    for i in 0..source.chunks() {
        source.with_chunk(i, &mut |keys| match keys {
            KeyVec::U32(keys) => all.extend(keys.iter().map(|&key| u64::from(key))),
            KeyVec::U64(keys) => all.extend(keys),
        })?;
    }
    let rows = all.len();
    all.sort_unstable();
    all.dedup();
    Ok(rows > 0 && all.len() == rows)
}
