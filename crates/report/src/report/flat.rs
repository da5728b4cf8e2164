//! One row per feature.

use super::{Row, unencodable};
use crate::output::{Csv, Document};
use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep::sweep::flat::{FlatValue, columns};
use driftsweep_common::error::Result;

pub fn csv(rows: &[Row<'_>]) -> Result<Document> {
    let mut csv = Csv::new(columns().map(|column| column.name))?;
    rows.iter().try_for_each(|row| csv.row(columns().map(|column| column.value(row))))?;
    csv.finish()
}

pub fn parquet(rows: &[Row<'_>]) -> Result<Document> {
    let columns = columns().map(|column| {
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
        (column.name, cells)
    });
    to_parquet(columns.collect()).map(Document::parquet).map_err(|e| unencodable(&e))
}
