//! The drift trigger: which columns of a model drift, by effect size and significance, in enough of the last sweeps,
//! and whether there are enough of them.

use serde::{Deserialize, Serialize};

use driftsweep::model::Role;
use driftsweep::rule;
use driftsweep::sweep::{Feature, ModelReport};
use driftsweep_common::escape::for_display;
use driftsweep_fleet::{Model, Origin, Persistence, Quorum, Setting};

pub use super::distribution::DistributionShape;

/// A figure of a column against its threshold and its test, and where the threshold was set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftSignal {
    /// The figure.
    #[serde(flatten)]
    pub figure: rule::Signal,
    /// Where its threshold was set.
    pub origin: Origin,
}

/// A column that is over its thresholds, or near them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftColumn {
    /// Its name.
    pub feature: String,
    /// Its role.
    pub role: Role,
    /// Its weight where importance is used.
    pub importance: f64,
    /// Its figures.
    pub signals: Vec<DriftSignal>,
    /// Whether one of them counts as drift at this sweep.
    pub over: bool,
    /// At how many of the last sweeps one did, including this one.
    pub hits: usize,
    /// Whether the column drifts: at enough sweeps.
    pub drifts: bool,
    /// Its distribution on both sides, where it is over its thresholds at this sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<DistributionShape>,
}

/// One window and segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftComparison {
    /// The window.
    pub window: String,
    /// The segment.
    pub segment: String,
    /// Why it could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Columns that could be judged.
    pub judged: usize,
    /// Columns that could not be compared although they should have been.
    pub failed: Vec<String>,
    /// Columns that drift.
    pub drifting: usize,
    /// Their share of those judged.
    pub share: f64,
    /// Their share of the importance of those judged.
    pub weighted_share: f64,
    /// Whether the trigger condition is met.
    pub met: bool,
    /// Columns over their thresholds now or at one of the last sweeps, and the nearest to them.
    pub columns: Vec<DriftColumn>,
}

/// The drift trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftVerdict {
    /// Whether it fires.
    pub fired: bool,
    /// How many columns must drift.
    pub quorum: Setting<Quorum>,
    /// At how many of the last sweeps.
    pub persistence: Setting<Persistence>,
    /// Sweeps that were available, including this one.
    pub sweeps: usize,
    /// False discovery rate up to which a test counts.
    pub fdr: Setting<f64>,
    /// Each window and segment.
    pub comparisons: Vec<DriftComparison>,
}

/// Most columns near their thresholds that are stored.
const MAX_NEAR_LIMIT: usize = 5;

/// Evaluates the reports of a model. `sweeps` is the number of earlier sweeps that count for persistence; `hits` gives
/// at how many of them a column (window, segment, name) was over its thresholds.
pub fn judge(
    model: &Model,
    reports: &[&ModelReport],
    sweeps: usize,
    hits: &dyn Fn([&str; 3]) -> usize,
) -> DriftVerdict {
    let triggers = &model.triggers;
    let persistence = triggers.persistence;
    let compare = |report: &&ModelReport| {
        let (mut judged, mut weight, mut failed, mut columns) = (0, 0.0, Vec::new(), Vec::new());
        for feature in &report.features {
            if feature.status.is_failure() {
                failed.push(format!("{}: {}", feature.name, feature.status.name()));
            }
            let signals = signals(model, feature);
            if signals.is_empty() {
                continue;
            }
            let importance = model.importance_of(&feature.name);
            judged += 1;
            weight += importance;
            let over = feature.verdict.drifted;
            let hits = hits([&report.window, &report.segment, &feature.name]) + usize::from(over);
            columns.push(DriftColumn {
                feature: feature.name.clone(),
                role: model.role_of(&feature.name),
                importance,
                signals,
                over,
                hits,
                drifts: over && hits >= persistence.value.hits,
                shape: feature
                    .counts
                    .as_ref()
                    .filter(|_| over)
                    .and_then(|counts| DistributionShape::of(counts, values(feature))),
            });
        }
        let drifting = columns.iter().filter(|column| column.drifts).count();
        let weights = columns.iter().filter(|column| column.drifts).map(|column| column.importance);
        let drifting_weight = weights.fold(0.0, |sum, weight| sum + weight);
        let share = if judged > 0 { drifting as f64 / judged as f64 } else { 0.0 };
        let weighted_share = if weight > 0.0 { drifting_weight / weight } else { 0.0 };
        let near = |column: &DriftColumn| {
            column.signals.iter().map(|s| s.figure.value.abs() / s.figure.limit).fold(0.0, f64::max)
        };
        columns.sort_by(|a, b| (b.over, b.hits).cmp(&(a.over, a.hits)).then(near(b).total_cmp(&near(a))));
        let kept = columns.iter().filter(|column| column.hits > 0).count();
        columns.truncate(kept.max(MAX_NEAR_LIMIT));
        DriftComparison {
            window: report.window.clone(),
            segment: report.segment.clone(),
            error: report.error.clone(),
            judged,
            failed,
            drifting,
            share,
            weighted_share,
            met: drifting > 0
                && match triggers.quorum.value {
                    Quorum::AtLeast(least) => drifting >= least,
                    Quorum::Share(least) => share >= least,
                    Quorum::WeightedShare(least) => weighted_share >= least,
                },
            columns,
        }
    };
    let comparisons: Vec<DriftComparison> = reports.iter().map(compare).collect();
    DriftVerdict {
        fired: comparisons.iter().any(|comparison| comparison.met),
        quorum: triggers.quorum,
        persistence,
        sweeps: sweeps + 1,
        fdr: triggers.fdr,
        comparisons,
    }
}

/// The values of a column on both sides: rows that are not missing.
fn values(feature: &Feature) -> [u64; 2] {
    [&feature.baseline, &feature.current].map(|side| side.rows.saturating_sub(side.null + side.nan))
}

/// What the rules say of a column: nothing if it could not be judged.
fn signals(model: &Model, feature: &Feature) -> Vec<DriftSignal> {
    let with_origin = |figure: &rule::Signal| DriftSignal {
        origin: model.threshold_origin(&feature.name, figure.key()),
        figure: figure.clone(),
    };
    feature.verdict.signals.iter().map(with_origin).collect()
}

impl DriftVerdict {
    /// The columns over their thresholds at this sweep.
    pub fn hits(&self) -> impl Iterator<Item = (&DriftComparison, &DriftColumn)> {
        let columns = self.comparisons.iter().flat_map(|c| c.columns.iter().map(move |column| (c, column)));
        columns.filter(|(_, column)| column.over)
    }

    /// Columns that could be judged, over all windows and segments.
    pub fn judged(&self) -> usize {
        self.comparisons.iter().map(|comparison| comparison.judged).sum()
    }

    /// A sentence that says why it fires.
    pub fn reason(&self) -> String {
        let Some(met) = self.comparisons.iter().filter(|c| c.met).max_by_key(|c| c.drifting) else {
            return String::new();
        };
        let names: Vec<String> = met
            .columns
            .iter()
            .filter(|column| column.drifts)
            .take(3)
            .map(|column| {
                let signals = column.signals.iter().map(|signal| &signal.figure).filter(|figure| figure.drifted());
                let figures: Vec<_> = signals.map(|s| format!("{} {:.3} > {}", s.metric, s.value, s.limit)).collect();
                format!("{} ({})", for_display(&column.feature), figures.join(", "))
            })
            .collect();
        let more = if met.drifting > names.len() { ", …" } else { "" };
        let place = [&*met.window, &*met.segment]
            .iter()
            .filter(|x| !x.is_empty())
            .fold(String::new(), |t, x| t + " in " + &for_display(x));
        format!("{} of {} columns drift{place}: {}{more}", met.drifting, met.judged, names.join(", "))
    }
}
