//! Reports: the same figures as a table for people, JSON for programs, and flat CSV or Parquet.

mod findings;
mod flat;
mod table;

use std::str::FromStr;

use crate::output::Document;
use driftsweep::sweep::flat::Row;
use driftsweep::sweep::{Change, Comparison, Feature, Rows, SchemaChange, SweepReport};
use driftsweep_common::error::{Error, Result};

/// The format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// A table for a terminal.
    #[default]
    Table,
    /// Everything, as JSON.
    Json,
    /// One line per feature.
    Csv,
    /// One row per feature.
    Parquet,
}

impl FromStr for ReportFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "table" => Ok(ReportFormat::Table),
            "json" => Ok(ReportFormat::Json),
            "csv" => Ok(ReportFormat::Csv),
            "parquet" => Ok(ReportFormat::Parquet),
            _ => Err(Error::unknown("format", name, ["table", "json", "csv", "parquet"])),
        }
    }
}

/// A number with a noun, which gets an s unless the number is 1.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Renders a comparison. Tables show at most `top` features (0 for all), drifted ones first.
///
/// # Errors
/// [`Error::BadValue`] where a figure cannot be encoded.
pub fn comparison(report: &Comparison, format: ReportFormat, top: usize) -> Result<Document> {
    let rows: Vec<Row<'_>> = report.features.iter().map(|feature| (None, feature)).collect();
    let added = added(report.rows, &report.schema);
    let all_rows = || rows.iter().copied().chain(added.iter().map(|feature| (None, feature))).collect::<Vec<_>>();
    match format {
        ReportFormat::Table => Ok(table::comparison(report, &rows, top).into()),
        ReportFormat::Json => Document::json(report),
        ReportFormat::Csv => flat::csv(&all_rows()),
        ReportFormat::Parquet => flat::parquet(&all_rows()),
    }
}

/// Stand for the columns that only the current snapshot has.
fn added(rows: Rows, schema: &[SchemaChange]) -> Vec<Feature> {
    schema.iter().filter(|change| change.change == Change::Added).map(|change| Feature::added(rows, change)).collect()
}

/// Renders a sweep. Tables show at most `top` features (0 for all), drifted ones first; without a number only findings,
/// with segments and windows of the same feature combined.
///
/// # Errors
/// [`Error::BadValue`] where a figure cannot be encoded.
pub fn sweep(report: &SweepReport, format: ReportFormat, top: Option<usize>) -> Result<Document> {
    let rows = || {
        let models = report.models.iter();
        models.flat_map(|model| model.features.iter().map(move |f| (Some(model), f))).collect::<Vec<Row<'_>>>()
    };
    let mut others = driftsweep::sweep::flat::failed(report);
    let added =
        report.models.iter().flat_map(|model| added(model.rows, &model.schema).into_iter().map(move |f| (model, f)));
    others.extend(added);
    let all_rows = || {
        let mut rows = rows();
        rows.extend(others.iter().map(|(model, feature)| (Some(*model), feature)));
        rows
    };
    match format {
        ReportFormat::Table => Ok(match top {
            Some(top) => table::sweep(report, &rows(), top),
            None => findings::sweep(report, &rows()),
        }
        .into()),
        ReportFormat::Json => Document::json(report),
        ReportFormat::Csv => flat::csv(&all_rows()),
        ReportFormat::Parquet => flat::parquet(&all_rows()),
    }
}

fn unencodable(e: &dyn std::fmt::Display) -> Error {
    Error::BadValue { what: "report".into(), reason: format!("cannot be encoded: {e}") }
}
