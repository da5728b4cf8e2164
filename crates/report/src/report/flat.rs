//! The rows of flat reports.

use super::{Report, Row};
use driftsweep::sweep::{Change, Feature, ModelReport, Rows, SchemaChange, flat};
use driftsweep_common::error::Result;

/// Calls `f` with one row for each feature, each model that could not be compared at all, and each column that only the
/// current snapshot has.
pub fn with_rows<T>(report: Report<'_>, f: impl FnOnce(&[Row<'_>]) -> Result<T>) -> Result<T> {
    // Those that are no features of the report.
    let others: Vec<(Option<&ModelReport>, Feature)> = match report {
        Report::Comparison(report) => added(report.rows, &report.schema).map(|feature| (None, feature)).collect(),
        Report::Sweep(report) => {
            let added = report.models.iter().flat_map(|m| added(m.rows, &m.schema).map(move |feature| (m, feature)));
            flat::failed(report).into_iter().chain(added).map(|(model, feature)| (Some(model), feature)).collect()
        }
    };
    let mut rows = features(report);
    rows.extend(others.iter().map(|(model, feature)| (*model, feature)));
    f(&rows)
}

/// One row for each feature.
pub fn features(report: Report<'_>) -> Vec<Row<'_>> {
    match report {
        Report::Comparison(report) => report.features.iter().map(|feature| (None, feature)).collect(),
        Report::Sweep(report) => {
            let models = report.models.iter();
            models.flat_map(|model| model.features.iter().map(move |feature| (Some(model), feature))).collect()
        }
    }
}

/// Stand for the columns that only the current snapshot has.
fn added(rows: Rows, schema: &[SchemaChange]) -> impl Iterator<Item = Feature> {
    let added = schema.iter().filter(|change| change.change == Change::Added);
    added.map(move |change| Feature::added(rows, change))
}
