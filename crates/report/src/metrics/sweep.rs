//! The gauges of a sweep.

use driftsweep::metric::Metric;
use driftsweep::sweep::{Feature, SweepReport};
use indexmap::IndexMap;

use super::Gauges;
use crate::report::summary::ratio;

/// The totals of a model, over its windows and segments.
#[derive(Default)]
struct ModelTotals {
    comparisons: usize,
    failed: usize,
    features: usize,
    drifted: usize,
    not_judged: usize,
    largest: f64,
    rows: [u64; 2],
}

/// The gauges of a sweep: of the whole, and of each model. With `features` there is also one of each feature with its
/// figures, which are many.
pub fn gauges(report: &SweepReport, features: bool) -> Gauges {
    let mut gauges = Gauges::default();
    let fleet = ("fleet", &*report.fleet);
    let summary = &report.summary;
    let mut whole = |name, help, value: usize| gauges.add(name, help, &[fleet], value as f64);
    whole("driftsweep_models", "Models in the last sweep.", summary.models);
    whole("driftsweep_features", "Features in the last sweep, in all windows and segments.", summary.features);
    whole("driftsweep_features_drifted", "Features that drifted.", summary.drifted);
    whole("driftsweep_features_significant", "Features with a significant test, drifted or not.", summary.significant);
    whole("driftsweep_features_not_judged", "Features without a verdict.", summary.not_judged);
    whole("driftsweep_features_failed", "Features that could not be compared.", summary.failed);
    whole(
        "driftsweep_comparisons_failed",
        "Models, windows and segments that could not be compared.",
        summary.failed_comparisons,
    );
    whole("driftsweep_comparisons_not_covered", "Comparisons that the deadline left out.", summary.not_covered);
    whole(
        "driftsweep_schema_changes",
        "Columns that were added, removed or changed their type.",
        summary.schema_changes,
    );
    if let Ok(as_of) = report.as_of.parse::<jiff::Timestamp>() {
        let help = "The time of the last sweep, in seconds since 1970.";
        gauges.add("driftsweep_sweep_timestamp_seconds", help, &[fleet], as_of.as_second() as f64);
    }
    for (name, totals) in models(report) {
        let labels = [fleet, ("model", name)];
        let mut of = |name, help, value: f64| gauges.add(name, help, &labels, value);
        of("driftsweep_model_features", "Features of a model.", totals.features as f64);
        of("driftsweep_model_features_drifted", "Features of a model that drifted.", totals.drifted as f64);
        of("driftsweep_model_features_not_judged", "Features of a model without a verdict.", totals.not_judged as f64);
        of(
            "driftsweep_model_failed",
            "Windows, segments and features of a model that could not be compared.",
            totals.failed as f64,
        );
        let help = "The largest figure of a model, divided by its threshold.";
        of("driftsweep_model_drift_ratio", help, totals.largest);
        for (side, rows) in ["baseline", "current"].into_iter().zip(totals.rows) {
            let labels = [fleet, ("model", name), ("side", side)];
            gauges.add("driftsweep_model_rows", "Rows of a model, of its largest window.", &labels, rows as f64);
        }
    }
    if features {
        add_features(&mut gauges, report);
    }
    gauges
}

fn models(report: &SweepReport) -> IndexMap<&str, ModelTotals> {
    let mut models: IndexMap<&str, ModelTotals> = IndexMap::new();
    for model in &report.models {
        let totals = models.entry(&model.model).or_default();
        totals.comparisons += 1;
        totals.failed += usize::from(model.error.is_some());
        totals.drifted += model.drifted;
        totals.rows = [totals.rows[0].max(model.rows.baseline), totals.rows[1].max(model.rows.current)];
        for feature in &model.features {
            totals.features += 1;
            totals.failed += usize::from(feature.status.is_failure());
            totals.not_judged += usize::from(feature.is_not_judged());
            totals.largest = totals.largest.max(ratio(feature).unwrap_or(0.0));
        }
    }
    models
}

fn add_features(gauges: &mut Gauges, report: &SweepReport) {
    for model in &report.models {
        for feature in &model.features {
            let labels = |metric| {
                let Feature { name, .. } = feature;
                [
                    ("fleet", &*report.fleet),
                    ("model", &model.model),
                    ("window", &model.window),
                    ("segment", &model.segment),
                    ("feature", name),
                    ("metric", metric),
                ]
            };
            let drifted = f64::from(u8::from(feature.verdict.drifted));
            gauges.add("driftsweep_feature_drifted", "Whether a feature drifted.", &labels("")[..5], drifted);
            for metric in Metric::ALL {
                let Some(column) = metric.spec().columns.first() else { continue };
                if let Some(value) = (column.read)(&feature.metrics) {
                    gauges.add("driftsweep_feature_value", "A figure of a feature.", &labels(column.name), value);
                }
            }
        }
    }
}
