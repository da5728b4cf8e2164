//! One column of a training snapshot becomes a feature of a baseline.

use super::{Frozen, FrozenFeature};
use crate::count::pair::{self, RequiredFigures};
use crate::count::{Counter, Ecdf, Tally};
use crate::metric::{Kind, Requirement, bins};
use crate::model::Options;
use crate::snapshot::{Column, ColumnType, KeyEncoding, Snapshot};
use driftsweep_common::error::{Error, Result, Status};

/// Freezes one column of a training snapshot.
pub(crate) fn freeze_feature(
    counter: &dyn Counter,
    snapshot: &Snapshot,
    column: &Column,
    kind: Option<Kind>,
    options: &Options,
) -> FrozenFeature {
    let rows = Tally { rows: snapshot.rows(), ..Tally::default() };
    let refused = |status, detail| (rows, Frozen::Refused(status, detail));
    let (tally, data) = match (kind.or(Kind::default_for(&column.kind)), &column.kind) {
        (_, ColumnType::Mixed(types)) => {
            refused(Status::TypeChanged, format!("the files of one snapshot disagree on the type: {types}"))
        }
        (_, ColumnType::Unsupported(dtype)) => {
            refused(Status::UnsupportedType, format!("columns of type {dtype} cannot be compared"))
        }
        (Some(Kind::Numeric), kind) if *kind != ColumnType::Null => match kind.reading() {
            Some(reading) => freeze_numeric(counter, snapshot, column, reading, options)
                .unwrap_or_else(|error| refused(Status::Unreadable, error.to_string())),
            None => refused(Status::UnsupportedType, format!("{} cannot be read as numbers", kind.name())),
        },
        (Some(Kind::Categorical), ColumnType::Temporal(_, unit))
            if column.kind.reading().is_some_and(|r| r.per_second.is_some()) =>
        {
            refused(Status::UnsupportedType, format!("time[{unit}] cannot be read as categories; dates can"))
        }
        (Some(_), _) | (None, ColumnType::Null) => snapshot
            .categories(counter, column, options.category_limit, None)
            .map(|(categories, tally)| match column.text_by_accident(categories.counts.len()) {
                Some(detail) if kind.is_none() => refused(Status::Unreadable, detail),
                _ => (tally, Frozen::Categorical(categories)),
            })
            .unwrap_or_else(|error| match error {
                Error::NotIntegers { value, .. } => refused(Status::UnsupportedType, not_categorical_reason(&value)),
                error => refused(Status::Unreadable, error.to_string()),
            }),
        (None, ColumnType::Binary) => refused(Status::UnsupportedType, BINARY_REASON.into()),
        (None, _) => refused(Status::NotCompared, "times are compared on request only (kind = \"numeric\")".into()),
    };
    FrozenFeature { segment: String::new(), name: column.name.clone(), dtype: column.kind.clone(), tally, data }
}

/// Why numbers are not counted by category.
pub(crate) fn not_categorical_reason(value: &str) -> String {
    format!("{value} cannot be read as a category; only integers, booleans and strings can")
}

/// Why bytes are not compared.
pub(crate) const BINARY_REASON: &str = "binary columns are compared as text on request only (kind = \"categorical\")";

fn freeze_numeric(
    counter: &dyn Counter,
    snapshot: &Snapshot,
    column: &Column,
    reading: KeyEncoding,
    options: &Options,
) -> Result<(Tally, Frozen)> {
    let ranks = |n| bins::ranks(&options.baseline_percents(), n);
    let wanted = RequiredFigures {
        baseline_ranks: &ranks,
        current_ranks: &ranks,
        distance: options.metrics.requires(Requirement::Distance),
        transport: options.metrics.requires(Requirement::Transport),
    };
    let source = snapshot.numeric(column, reading, options.requires(Requirement::Moments), options.hold(), None)?;
    let ecdf: Ecdf = pair::count_baseline(counter, reading.domain, &source, snapshot.rows(), wanted)?;
    Ok((source.tally()?, Frozen::Numeric(ecdf)))
}
