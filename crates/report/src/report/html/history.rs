//! The figures of earlier sweeps, for the lines of a feature.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use driftsweep::history::{self, Filter};
use driftsweep::metric::Metric;
use driftsweep_common::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};

/// The figures of the last sweeps, by comparison and feature.
#[derive(Debug, Default)]
pub struct HistoryLines {
    nights: Vec<i64>,
    comparisons: HashMap<[String; 3], HashMap<String, FeatureLines>>,
}

/// Most earlier sweeps in a line; with the one of the report they are thirty.
const MAX_EARLIER: usize = 29;

/// Older sweeps are not read. A sweep a day is usual; a fleet that is swept less often than every other day has a shorter line.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24 * 60);

/// A metric at a time in seconds since 1970, and its value.
type Point = (&'static str, i64, f64);

/// The lines of a feature, by metric.
#[derive(Debug, Default)]
pub(super) struct FeatureLines(Vec<(&'static str, Vec<Option<f64>>)>);

impl FeatureLines {
    pub(super) fn of(&self, metric: &str) -> Option<&[Option<f64>]> {
        self.0.iter().find(|(name, _)| *name == metric).map(|(_, values)| &**values)
    }
}

/// The metrics with a threshold, each with the name of its figure in the history.
fn judged_figures() -> impl Iterator<Item = (Metric, &'static str)> {
    let judged = Metric::ALL.into_iter().filter(|metric| metric.spec().rule.is_some());
    judged.filter_map(|metric| Some((metric, metric.spec().columns.first()?.name)))
}

impl HistoryLines {
    /// Reads the last sweeps before a time, and the errors of files that cannot be read. A history that does not exist has no
    /// lines.
    ///
    /// # Errors
    /// Those of [`history::each`].
    pub fn before(folder: &Path, as_of: Timestamp) -> Result<(Self, Vec<Error>)> {
        let metrics = judged_figures().map(|(_, figure)| figure.to_owned()).collect();
        let since = as_of.checked_sub(MAX_AGE).ok();
        let filter = Filter { metrics, since, ..Filter::default() };
        let mut found: HashMap<[String; 3], HashMap<String, Vec<Point>>> = HashMap::new();
        let mut times = BTreeSet::new();
        let names: HashMap<&str, &'static str> =
            judged_figures().map(|(metric, figure)| (figure, metric.name())).collect();
        let read = history::each(folder, &filter, |entry| {
            let (Some(&metric), Some(value)) = (names.get(&*entry.metric), entry.value) else { return };
            if entry.as_of >= as_of {
                return;
            }
            let time = entry.as_of.as_second();
            times.insert(time);
            let comparison = found.entry([entry.model, entry.window, entry.segment]).or_default();
            comparison.entry(entry.feature).or_default().push((metric, time, value));
        });
        let unreadable = match read {
            Ok(unreadable) => unreadable,
            Err(Error::NotFound { .. }) => return Ok((Self::default(), Vec::new())),
            Err(error) => return Err(error),
        };
        let nights: Vec<i64> = times.iter().copied().skip(times.len().saturating_sub(MAX_EARLIER)).collect();
        let place: HashMap<i64, usize> = nights.iter().enumerate().map(|(at, &time)| (time, at)).collect();
        let lines = |figures: Vec<Point>| {
            let mut lines = FeatureLines::default();
            for (metric, time, value) in figures {
                let Some(&at) = place.get(&time) else { continue };
                let line = match lines.0.iter_mut().find(|(name, _)| *name == metric) {
                    Some((_, line)) => line,
                    None => {
                        lines.0.push((metric, vec![None; nights.len()]));
                        let Some((_, line)) = lines.0.last_mut() else { continue };
                        line
                    }
                };
                line[at] = Some(value);
            }
            lines
        };
        let comparisons = found.into_iter().map(|(comparison, features)| {
            (comparison, features.into_iter().map(|(feature, figures)| (feature, lines(figures))).collect())
        });
        let comparisons = comparisons.collect();
        Ok((Self { nights, comparisons }, unreadable))
    }

    /// The times of the sweeps, in seconds since 1970.
    pub(super) fn nights(&self) -> &[i64] {
        &self.nights
    }

    /// The time of the last of these sweeps.
    pub fn last_night(&self) -> Option<Timestamp> {
        Timestamp::from_second(*self.nights.last()?).ok()
    }

    /// The lines of a comparison: model, window, segment.
    pub(super) fn of_comparison(&self, [model, window, segment]: [&str; 3]) -> Option<&HashMap<String, FeatureLines>> {
        self.comparisons.get(&[model.to_owned(), window.to_owned(), segment.to_owned()])
    }
}
