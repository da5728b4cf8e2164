//! Everything, as JSON.

use super::{Report, ReportFormat};
use crate::output::Document;

/// JSON.
pub const FORMAT: ReportFormat = ReportFormat {
    name: "json",
    is_for_terminal: true,
    render: |report, _| match report {
        Report::Comparison(report) => Document::json(report),
        Report::Sweep(report) => Document::json(report),
    },
};
