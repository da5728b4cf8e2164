//! Reports: the same figures as a table for people, JSON for programs, flat CSV or Parquet,
//! and an HTML page with plots.
//!
//! A format is a module with a [`ReportFormat`] and a place in [`ReportFormat::ALL`].

mod csv;
mod findings;
mod flat;
pub mod html;
mod json;
mod parquet;
mod sparkline;
pub mod summary;
mod table;
mod text;

use std::str::FromStr;

use self::html::HistoryLines;
use crate::output::Document;
use driftsweep::sweep::flat::Row;
use driftsweep::sweep::{Comparison, SweepReport};
use driftsweep_common::error::{Error, Result};

/// What is reported.
#[derive(Clone, Copy)]
pub enum Report<'a> {
    /// A comparison of two snapshots.
    Comparison(&'a Comparison),
    /// A sweep of a fleet.
    Sweep(&'a SweepReport),
}

/// The format of a report.
#[derive(Clone, Copy)]
pub struct ReportFormat {
    /// Its name on the command line.
    pub name: &'static str,
    /// Whether a person can read it on a terminal.
    pub is_for_terminal: bool,
    render: fn(Report<'_>, &RenderOptions<'_>) -> Result<Document>,
}

/// What a report is rendered with.
pub struct RenderOptions<'a> {
    /// Tables show at most this many features (0 for all), drifted ones first; without a number that of a comparison shows
    /// all, and that of a sweep only findings, with segments and windows of the same feature combined.
    pub top: Option<usize>,
    /// Reads the figures of earlier sweeps; called by formats that show them.
    pub history: &'a dyn Fn() -> HistoryLines,
}

impl ReportFormat {
    /// All formats.
    pub const ALL: [ReportFormat; 5] = [text::FORMAT, json::FORMAT, csv::FORMAT, parquet::FORMAT, html::FORMAT];

    /// The format of a file whose name ends so; the table for people where no format has that name.
    pub fn of_extension(extension: &str) -> Self {
        let named = |format: &Self| format.name.eq_ignore_ascii_case(extension);
        Self::ALL.into_iter().find(named).unwrap_or(text::FORMAT)
    }

    /// Renders a report.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a figure cannot be encoded.
    pub fn render(self, report: Report<'_>, options: &RenderOptions<'_>) -> Result<Document> {
        (self.render)(report, options)
    }
}

impl FromStr for ReportFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|format| format.name == name);
        found.ok_or_else(|| Error::unknown("format", name, Self::ALL.map(|format| format.name)))
    }
}

/// A number with a noun, which gets an s unless the number is 1.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
