//! The format for people: the table of a comparison, and of a sweep its findings or its table.

use super::{Report, ReportFormat, findings, flat, table};

/// The format.
pub const FORMAT: ReportFormat = ReportFormat {
    name: "table",
    is_for_terminal: true,
    render: |report, options| {
        let rows = flat::features(report);
        let page = match (report, options.top) {
            (Report::Comparison(report), top) => table::comparison(report, &rows, top.unwrap_or(0)),
            (Report::Sweep(report), Some(top)) => table::sweep(report, &rows, top),
            (Report::Sweep(report), None) => findings::sweep(report, &rows),
        };
        Ok(page.into())
    },
};
