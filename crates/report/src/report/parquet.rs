//! One row per feature, as a Parquet file.

use super::flat::with_rows;
use super::{ReportFormat, Row};
use crate::output::Document;
use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep::sweep::flat::{FlatColumn, FlatValue, columns};
use driftsweep_common::error::{Error, Result};

/// Parquet.
pub const FORMAT: ReportFormat =
    ReportFormat { name: "parquet", is_for_terminal: false, render: |report, _| with_rows(report, encode) };

fn encode(rows: &[Row<'_>]) -> Result<Document> {
    let bytes = to_parquet(columns().map(|column| (column.name, cells(column, rows))).collect());
    bytes
        .map(Document::parquet)
        .map_err(|e| Error::BadValue { what: "report".into(), reason: format!("cannot be encoded: {e}") })
}

fn cells(column: FlatColumn, rows: &[Row<'_>]) -> Cells {
    let mut cells = match rows.first().map(|row| column.value(row)) {
        Some(FlatValue::Float(_)) => Cells::Float(Vec::new()),
        Some(FlatValue::Int(_)) => Cells::Int(Vec::new()),
        Some(FlatValue::Bool(_)) => Cells::Bool(Vec::new()),
        Some(FlatValue::Text(_)) | None => Cells::Text(Vec::new()),
    };
    for row in rows {
        match (&mut cells, column.value(row)) {
            (Cells::Text(cells), FlatValue::Text(x)) => cells.push(x),
            (Cells::Float(cells), FlatValue::Float(x)) => cells.push(x),
            (Cells::Int(cells), FlatValue::Int(x)) => cells.push(x),
            (Cells::Bool(cells), FlatValue::Bool(x)) => cells.push(x),
            // A column has one type.
            _ => {}
        }
    }
    cells
}
