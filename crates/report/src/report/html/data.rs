//! What the page shows, as data for its script: a small summary of all features, and a block a comparison, which is unpacked
//! only when it is looked at.

use std::borrow::Cow;
use std::collections::HashMap;

use driftsweep::metric::Metric;
use driftsweep::metric::divergence;
use driftsweep::sweep::Feature;
use driftsweep::sweep::report::{BinValues, CategoryCount, Counts, Side};
use driftsweep_common::address::without_secrets;
use driftsweep_common::error::Status;
use driftsweep_common::escape::for_display;
use jiff::Timestamp;
use serde::Serialize;

use super::View;
use super::history::{FeatureLines, HistoryLines};
use crate::report::summary::ratio;

/// How a feature is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Stable,
    Significant,
    Drifted,
    NotJudged,
    Failed,
    NotCompared,
}

impl State {
    pub(super) fn of(feature: &Feature) -> Self {
        match feature {
            _ if feature.verdict.drifted => Self::Drifted,
            _ if feature.status.is_failure() => Self::Failed,
            _ if matches!(feature.status, Status::NotCompared | Status::Added) => Self::NotCompared,
            _ if feature.is_not_judged() => Self::NotJudged,
            _ if feature.verdict.significant => Self::Significant,
            _ => Self::Stable,
        }
    }
}

/// All features in short: one list a column.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    comparisons: Vec<ComparisonSummary<'a>>,
    /// The times of the earlier sweeps and of this one, in seconds since 1970; empty without earlier ones.
    nights: Vec<i64>,
    features: FeatureColumns<'a>,
}

#[derive(Serialize)]
struct ComparisonSummary<'a> {
    model: Cow<'a, str>,
    window: Cow<'a, str>,
    segment: Cow<'a, str>,
    importance: f64,
}

#[derive(Default, Serialize)]
struct FeatureColumns<'a> {
    comparison: Vec<usize>,
    /// The place of the feature in its block.
    place: Vec<usize>,
    name: Vec<Cow<'a, str>>,
    state: Vec<u8>,
    ratio: Vec<Option<Short>>,
    importance: Vec<f64>,
    psi: Vec<Option<Short>>,
    js: Vec<Option<Short>>,
    ks: Vec<Option<Short>>,
    missing: Vec<Option<Short>>,
}

/// A figure for people: five digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Short(pub(super) f64);

impl Serialize for Short {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let shortest = format!("{:.4e}", self.0).parse().unwrap_or(self.0);
        to.serialize_f64(shortest)
    }
}

impl<'a> Summary<'a> {
    pub(super) fn of(views: &'a [View<'a>], history: &HistoryLines, as_of: &str) -> Self {
        let mut features = FeatureColumns::default();
        for (comparison, view) in views.iter().enumerate() {
            for (place, feature) in view.features.iter().enumerate() {
                let figure = |metric: Metric| main_figure(metric, feature).map(Short);
                features.comparison.push(comparison);
                features.place.push(place);
                features.name.push(for_display(&feature.name));
                features.state.push(State::of(feature) as u8);
                features.ratio.push(ratio(feature).map(Short));
                features.importance.push(feature.importance);
                features.psi.push(figure(Metric::Psi));
                features.js.push(figure(Metric::Js));
                features.ks.push(figure(Metric::Ks));
                features.missing.push(figure(Metric::Missing));
            }
        }
        let earlier = history.nights();
        let this = as_of.parse().ok().filter(|_| !earlier.is_empty()).map(Timestamp::as_second);
        let nights = earlier.iter().copied().chain(this).collect();
        let comparisons = views.iter().map(|view| ComparisonSummary {
            model: for_display(view.model),
            window: for_display(view.window),
            segment: for_display(view.segment),
            importance: view.importance,
        });
        Self { comparisons: comparisons.collect(), nights, features }
    }
}

/// The first figure of a metric, which is the one that has a threshold.
fn main_figure(metric: Metric, feature: &Feature) -> Option<f64> {
    let column = metric.spec().columns.first()?;
    (column.read)(&feature.metrics)
}

/// The features of a comparison in full.
#[derive(Serialize)]
pub(super) struct Block<'a> {
    /// What was compared with what.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    features: Vec<FeatureDetail<'a>>,
}

#[derive(Serialize)]
struct FeatureDetail<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
    reasons: Vec<Cow<'a, str>>,
    signals: Vec<SignalDetail<'a>>,
    baseline: SideDetail<'a>,
    current: SideDetail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<CountsDetail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct SignalDetail<'a> {
    metric: &'a str,
    value: Short,
    limit: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<Short>,
    #[serde(skip_serializing_if = "Option::is_none")]
    q_value: Option<Short>,
    over: bool,
    significant: bool,
}

#[derive(Serialize)]
struct SideDetail<'a> {
    #[serde(flatten)]
    side: &'a Side,
    /// Rows with a value.
    values: u64,
}

/// Counts of bins or of categories, and what each adds to two of the metrics.
#[derive(Default, Serialize)]
struct CountsDetail<'a> {
    /// Of the reference bins.
    #[serde(skip_serializing_if = "Option::is_none")]
    edges: Option<Vec<Edge>>,
    /// Of the tie-aware bins: which values each has.
    #[serde(skip_serializing_if = "Option::is_none")]
    tie_aware: Option<Vec<(&'static str, Option<Edge>)>>,
    /// Of categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<Cow<'a, str>>>,
    baseline: Vec<u64>,
    current: Vec<u64>,
    psi: Vec<Short>,
    /// Empty for tie-aware bins: the divergence is that of the reference bins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    js: Vec<Short>,
}

/// A breakpoint. JSON has no infinities: they are texts.
struct Edge(f64);

impl Serialize for Edge {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            f64::INFINITY => to.serialize_str("∞"),
            f64::NEG_INFINITY => to.serialize_str("−∞"),
            finite => to.serialize_f64(finite),
        }
    }
}

/// The values of a metric at the earlier sweeps and at this one.
#[derive(Serialize)]
struct Line<'a> {
    metric: &'a str,
    values: Vec<Option<Short>>,
}

impl<'a> Block<'a> {
    pub(super) fn of(view: &'a View<'a>, history: &HistoryLines) -> Self {
        let lines = history.of_comparison([view.model, view.window, view.segment]);
        let [baseline, current] = view.read;
        let read = !current.is_empty();
        let read = read.then(|| format!("{} compared with {}", for_display(current), for_display(baseline)));
        Self { read, features: view.features.iter().map(|feature| FeatureDetail::of(feature, lines)).collect() }
    }
}

impl<'a> FeatureDetail<'a> {
    fn of(feature: &'a Feature, lines: Option<&HashMap<String, FeatureLines>>) -> Self {
        let signals = &feature.verdict.signals;
        let lines = lines.and_then(|lines| lines.get(&feature.name));
        let history = signals.iter().filter_map(|signal| {
            let values = lines?.of(&signal.metric)?;
            let values = values.iter().copied().chain([Some(signal.value)]);
            Some(Line { metric: &signal.metric, values: values.map(|value| value.map(Short)).collect() })
        });
        Self {
            kind: feature.kind.name(),
            detail: feature.detail.as_deref().map(text),
            reasons: feature.verdict.reasons.iter().map(|reason| text(reason)).collect(),
            history: history.collect(),
            signals: signals
                .iter()
                .map(|signal| SignalDetail {
                    metric: &signal.metric,
                    value: Short(signal.value),
                    limit: signal.limit,
                    noise: signal.noise.map(Short),
                    q_value: signal.q_value.map(Short),
                    over: signal.over,
                    significant: signal.significant,
                })
                .collect(),
            baseline: SideDetail::of(&feature.baseline),
            current: SideDetail::of(&feature.current),
            counts: feature
                .counts
                .as_ref()
                .map(|counts| CountsDetail::of(counts, [values_of(&feature.baseline), values_of(&feature.current)])),
        }
    }
}

impl<'a> SideDetail<'a> {
    fn of(side: &'a Side) -> Self {
        Self { side, values: values_of(side) }
    }
}

fn values_of(side: &Side) -> u64 {
    side.rows.saturating_sub(side.null + side.nan)
}

impl<'a> CountsDetail<'a> {
    /// `values` are the rows of both sides with a value: only the categories with the largest differences are listed.
    fn of(counts: &'a Counts, values: [u64; 2]) -> Self {
        let found = match counts {
            Counts::Bins { edges, baseline, current, tie_aware } if tie_aware.is_empty() => Self {
                edges: Some(edges.iter().copied().map(Edge).collect()),
                baseline: baseline.clone(),
                current: current.clone(),
                ..Self::default()
            },
            Counts::Bins { tie_aware, .. } => {
                let named = |bin| match bin {
                    BinValues::Below(x) => ("below", Some(Edge(x))),
                    BinValues::Equal(x) => ("equal", Some(Edge(x))),
                    BinValues::Rest => ("rest", None),
                };
                Self {
                    tie_aware: Some(tie_aware.iter().map(|bin| named(bin.values)).collect()),
                    baseline: tie_aware.iter().map(|bin| bin.baseline).collect(),
                    current: tie_aware.iter().map(|bin| bin.current).collect(),
                    ..Self::default()
                }
            }
            Counts::Categories(all) => {
                let side = |of: fn(&CategoryCount) -> u64| all.iter().map(of).collect();
                Self {
                    names: Some(all.iter().map(|category| for_display(&category.name)).collect()),
                    baseline: side(|category| category.baseline),
                    current: side(|category| category.current),
                    ..Self::default()
                }
            }
        };
        let terms = divergence::terms([&found.baseline, &found.current], values);
        let (psi, js): (_, Vec<Short>) = terms.map(|(psi, js)| (Short(psi), Short(js))).unzip();
        Self { psi, js: if found.tie_aware.is_some() { Vec::new() } else { js }, ..found }
    }
}

/// A text from a report: without secrets in addresses, and escaped.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    match without_secrets(text) {
        Cow::Borrowed(text) => for_display(text),
        Cow::Owned(text) => Cow::Owned(for_display(&text).into_owned()),
    }
}
