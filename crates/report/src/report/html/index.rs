//! A page that lists the pages of many sweeps in a folder.
//!
//! Every page of a sweep has its totals in its head. The index is made of these each time: pages may be deleted at will.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftsweep::SweepReport;
use driftsweep_common::error::Result;
use serde::{Deserialize, Serialize};

use super::{hashes, rendered, text, unencodable};
use crate::output::Document;

/// The totals of a page are within so many bytes of its beginning.
pub const HEAD_BYTES: u64 = 8 << 10;

const TEMPLATE: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");

/// The totals of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    fleet: String,
    as_of: String,
    models: usize,
    features: usize,
    drifted: usize,
    not_judged: usize,
    failed: usize,
    /// Triggers that fired; absent where no store was read.
    fired: Option<usize>,
}

impl Totals {
    pub(super) fn of(report: &SweepReport, fired: Option<usize>) -> Self {
        let summary = report.summary;
        Self {
            fleet: text(&report.fleet).into_owned(),
            as_of: report.as_of.clone(),
            models: summary.models,
            features: summary.features,
            drifted: summary.drifted,
            not_judged: summary.not_judged,
            failed: summary.failed + summary.failed_comparisons,
            fired,
        }
    }

    /// For the head of a page.
    pub(super) fn encoded(&self) -> Result<String> {
        Ok(STANDARD.encode(serde_json::to_vec(self).map_err(|e| unencodable(&e))?))
    }
}

/// The element of the head with the totals, before and after them.
const BEFORE: &str = "<meta name=\"driftsweep\" content=\"";
const AFTER: char = '"';

/// A page of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Night {
    file: String,
    /// The height of its bar in the plot, of 100.
    bar: f64,
    #[serde(flatten)]
    totals: Totals,
}

/// A page of a sweep by its file name, from its first [`HEAD_BYTES`]. `None` for other pages, and for one whose name is not
/// that of a sweep: it could not be a link as it is.
pub fn night(file: &str, head: &[u8]) -> Option<Night> {
    if !file.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return None;
    }
    let head = String::from_utf8_lossy(head);
    let (encoded, _) = head.split_once(BEFORE)?.1.split_once(AFTER)?;
    let totals = serde_json::from_slice(&STANDARD.decode(encoded).ok()?).ok()?;
    Some(Night { file: file.into(), bar: 0.0, totals })
}

/// The sweeps of a fleet, newest first.
#[derive(Serialize)]
struct FleetNights {
    fleet: String,
    nights: Vec<Night>,
    /// The same oldest first, at most [`MAX_BARS`], for the plot.
    bars: Vec<Night>,
    /// The place of the first bar: the last one is at the right.
    first: usize,
    most: usize,
}

/// Most bars in the plot of a fleet, and the fewest that it has room for.
const MAX_BARS: usize = 90;
const MIN_BARS: usize = 30;

#[derive(Serialize)]
struct Content {
    fleets: Vec<FleetNights>,
    style: &'static str,
    style_hashes: String,
}

/// The index.
///
/// # Errors
/// [`driftsweep_common::error::Error::BadValue`] where it cannot be rendered.
pub fn render(mut nights: Vec<Night>) -> Result<Document> {
    nights
        .sort_by(|a, b| (&a.totals.fleet, &b.totals.as_of, &a.file).cmp(&(&b.totals.fleet, &a.totals.as_of, &b.file)));
    let fleets = nights.chunk_by(|a, b| a.totals.fleet == b.totals.fleet).map(|nights| {
        let recent = &nights[..nights.len().min(MAX_BARS)];
        let most = recent.iter().map(|night| night.totals.drifted).max().unwrap_or(0);
        let scale = 100.0 / most.max(1) as f64;
        let bar = |night: &Night| Night { bar: night.totals.drifted as f64 * scale, ..night.clone() };
        let bars = recent.iter().rev().map(bar).collect();
        let first = MIN_BARS.saturating_sub(recent.len());
        FleetNights { fleet: nights[0].totals.fleet.clone(), nights: nights.to_vec(), bars, first, most }
    });
    let content = Content { fleets: fleets.collect(), style: STYLE, style_hashes: hashes(&[STYLE]) };
    rendered("index.html", TEMPLATE, &content)
}
