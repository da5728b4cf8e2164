//! The drift trigger: which columns of a model drift, by size and by significance, in enough of the last sweeps, and
//! whether they are enough of them.

use serde::{Deserialize, Serialize};

use crate::error::Status;
use crate::escape::shown;
use crate::fleet::{Given, Model, Origin, Persistence, Quorum, Role};
use crate::metric::Kind;
use crate::sweep::{Feature, ModelReport};

pub use super::shape::Shape;

/// A figure of a column against its limit and its test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Which figure.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// What it must exceed.
    pub limit: f64,
    /// Where that was set.
    pub origin: Origin,
    /// Whether it does, and its own noise, too, where that is asked for.
    pub over: bool,
    /// False discovery rate at which its test would be called; the p-value where too few values leave it out of the
    /// sweep's tests; absent where there is no test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_value: Option<f64>,
    /// Whether that is low enough.
    pub significant: bool,
}

impl Signal {
    /// Whether it says that the column has drifted: by its size, and not by chance.
    pub fn counts(&self) -> bool {
        self.over && self.significant
    }
}

/// A column that is over its limits, or near them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub feature: String,
    /// What it is to the model.
    pub role: Role,
    /// How much it counts where importance does.
    pub importance: f64,
    /// Its figures.
    pub signals: Vec<Signal>,
    /// Whether one of them counts at this sweep.
    pub over: bool,
    /// At how many of the last sweeps one did, this one included.
    pub hits: usize,
    /// Whether that is enough.
    pub drifts: bool,
    /// How its values are spread on both sides, where it is over its limits at this sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
}

/// One window and segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
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
    /// Whether they are enough.
    pub met: bool,
    /// Those over their limits now or at one of the last sweeps, and the nearest to them.
    pub columns: Vec<Column>,
}

/// The drift trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftVerdict {
    /// Whether it fires.
    pub fired: bool,
    /// How many columns must drift.
    pub quorum: Given<Quorum>,
    /// At how many of the last sweeps.
    pub persistence: Given<Persistence>,
    /// Sweeps that could be looked at, this one included.
    pub sweeps: usize,
    /// False discovery rate up to which a test counts.
    pub fdr: Given<f64>,
    /// Each window and segment.
    pub comparisons: Vec<Comparison>,
}

/// Columns near their limits that are kept for the record.
const NEAREST: usize = 5;

/// Judges the reports on a model. `sweeps` are those before this one that count, at most as many as persistence looks
/// back; `hits` says at how many of them a column (window, segment, name) was over its limits.
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
            let over = signals.iter().any(Signal::counts);
            let hits = hits([&report.window, &report.segment, &feature.name]) + usize::from(over);
            columns.push(Column {
                feature: feature.name.clone(),
                role: model.role_of(&feature.name),
                importance,
                signals,
                over,
                hits,
                drifts: over && hits >= persistence.value.hits,
                shape: feature.counts.as_ref().filter(|_| over).and_then(|counts| Shape::of(counts, values(feature))),
            });
        }
        let drifting = columns.iter().filter(|column| column.drifts).count();
        let weights = columns.iter().filter(|column| column.drifts).map(|column| column.importance);
        let drifting_weight = weights.fold(0.0, |sum, weight| sum + weight);
        let share = if judged > 0 { drifting as f64 / judged as f64 } else { 0.0 };
        let weighted_share = if weight > 0.0 { drifting_weight / weight } else { 0.0 };
        let near = |column: &Column| column.signals.iter().map(|s| s.value.abs() / s.limit).fold(0.0, f64::max);
        columns.sort_by(|a, b| (b.over, b.hits).cmp(&(a.over, a.hits)).then(near(b).total_cmp(&near(a))));
        let kept = columns.iter().filter(|column| column.hits > 0).count();
        columns.truncate(kept.max(NEAREST));
        Comparison {
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
    let comparisons: Vec<Comparison> = reports.iter().map(compare).collect();
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

/// What can be said of a column: nothing if it could not be judged.
fn signals(model: &Model, feature: &Feature) -> Vec<Signal> {
    let limits = model.thresholds_of(&feature.name);
    let fdr = model.triggers.fdr.value;
    let metrics = &feature.metrics;
    let signal = |metric: &str, value: f64, (limit, name): (f64, &str), over: bool, q_value: Option<f64>| Signal {
        metric: metric.into(),
        value,
        limit,
        origin: model.threshold_origin(&feature.name, name),
        over,
        q_value,
        significant: q_value.is_none_or(|q| q <= fdr),
    };
    let mut signals = Vec::new();
    let judged = matches!(feature.status, Status::Ok | Status::Constant);
    let convention = metrics.convention.as_ref().and_then(|c| Some((c, *c.figures.get(&c.decides)?)));
    let noise = match feature.kind {
        Kind::Numeric => metrics.psi.as_ref().and_then(|psi| psi.noise),
        Kind::Categorical => metrics.js.as_ref().and_then(|js| js.noise),
    };
    let heard = !limits.above_noise || noise.is_none_or(|noise| noise.effect > 0.0);
    let noise_q = noise.and_then(|noise| noise.q_value);
    if judged && let Some((figures, value)) = convention {
        let tests = [noise_q, metrics.ks.as_ref().and_then(|ks| ks.q_value)];
        let chi_square = metrics.chi_square.as_ref().and_then(|test| test.q_value);
        let q_value = tests.into_iter().chain([chi_square]).flatten().reduce(f64::min);
        let name = format!("{} {}", figures.name, figures.decides.name());
        // Without a limit there is nothing to be over.
        if let Some(limit) = figures.limit {
            let over = figures.name.exceeds(value, limit);
            signals.push(signal(&name, value, (limit, "convention"), over, q_value));
        }
    } else if judged && feature.kind == Kind::Numeric {
        if let Some(psi) = &metrics.psi {
            let over = psi.value > limits.psi && heard;
            signals.push(signal("psi", psi.value, (limits.psi, "psi"), over, noise_q));
        }
        // Without a distance to exceed the test alone would call every difference of a large snapshot.
        if let Some(ks) = metrics.ks.as_ref().filter(|_| limits.ks_d > 0.0) {
            let over = ks.statistic > limits.ks_d && ks.p_value < limits.ks_p;
            signals.push(signal("ks", ks.statistic, (limits.ks_d, "ks_d"), over, ks.q_value));
        }
    } else if judged && let Some(js) = &metrics.js {
        let over = js.distance > limits.js && heard;
        signals.push(signal("js", js.distance, (limits.js, "js"), over, noise_q));
    }
    let enough_rows = feature.baseline.rows.min(feature.current.rows) >= limits.min_rows;
    // A label that is missing has not arrived yet.
    if let Some(missing) =
        metrics.missing.as_ref().filter(|_| enough_rows && model.role_of(&feature.name) != Role::Label)
    {
        let over = missing.difference.abs() > limits.missing && missing.p_value < limits.missing_p;
        let q_value = Some(missing.q_value.unwrap_or(missing.p_value));
        signals.push(signal("missing", missing.difference, (limits.missing, "missing"), over, q_value));
    }
    signals
}

impl DriftVerdict {
    /// The columns over their limits at this sweep.
    pub fn hits(&self) -> impl Iterator<Item = (&Comparison, &Column)> {
        let columns = self.comparisons.iter().flat_map(|c| c.columns.iter().map(move |column| (c, column)));
        columns.filter(|(_, column)| column.over)
    }

    /// Columns that could be judged, over all windows and segments.
    pub fn judged(&self) -> usize {
        self.comparisons.iter().map(|comparison| comparison.judged).sum()
    }

    /// Why it fires, in a sentence.
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
                let signals = column.signals.iter().filter(|signal| signal.counts());
                let figures: Vec<_> = signals.map(|s| format!("{} {:.3} > {}", s.metric, s.value, s.limit)).collect();
                format!("{} ({})", shown(&column.feature), figures.join(", "))
            })
            .collect();
        let more = if met.drifting > names.len() { ", …" } else { "" };
        let place = [&*met.window, &*met.segment]
            .iter()
            .filter(|x| !x.is_empty())
            .fold(String::new(), |t, x| t + " in " + &shown(x));
        format!("{} of {} columns drift{place}: {}{more}", met.drifting, met.judged, names.join(", "))
    }
}
