//! One line per feature, as CSV.

use super::ReportFormat;
use super::flat::with_rows;
use crate::output::Csv;
use driftsweep::sweep::flat::columns;

/// CSV.
pub const FORMAT: ReportFormat = ReportFormat {
    name: "csv",
    is_for_terminal: true,
    render: |report, _| {
        with_rows(report, |rows| {
            let mut csv = Csv::new(columns().map(|column| column.name))?;
            rows.iter().try_for_each(|row| csv.row(columns().map(|column| column.value(row))))?;
            csv.finish()
        })
    },
};
