//! A report in two sentences: what happened, and what to do.

use driftsweep::sweep::{Comparison, Feature, ModelReport, SweepReport};
use driftsweep_common::escape::for_display;
use indexmap::IndexMap;

use super::{Report, counted};

/// How far a feature is from its threshold: the largest of its figures, each divided by its threshold. Absent where no figure
/// has one.
pub(crate) fn ratio(feature: &Feature) -> Option<f64> {
    let ratios = feature.verdict.signals.iter().filter(|signal| signal.limit > 0.0);
    ratios.map(|signal| signal.value.abs() / signal.limit).filter(|ratio| ratio.is_finite()).reduce(f64::max)
}

/// What happened: how many features drifted, and what could not be compared.
pub fn what_happened(report: Report<'_>) -> String {
    match report {
        Report::Comparison(report) => of_comparison(report),
        Report::Sweep(report) => of_sweep(report),
    }
}

fn of_comparison(report: &Comparison) -> String {
    let drifted = report.features.iter().filter(|feature| feature.verdict.drifted).count();
    let failed = report.features.iter().filter(|feature| feature.status.is_failure()).count();
    format!("{} drifted{}.", share(drifted, report.features.len()), not_compared(&[(failed, "column")]))
}

fn of_sweep(report: &SweepReport) -> String {
    let summary = &report.summary;
    let mut drifted: IndexMap<&str, bool> = IndexMap::new();
    for model in &report.models {
        *drifted.entry(&model.model).or_default() |= model.drifted > 0;
    }
    let with_drift = drifted.values().filter(|drifted| **drifted).count();
    let place = match with_drift {
        0 => format!(" of {}", counted(summary.models, "model")),
        n => format!(" in {n} of {}", counted(summary.models, "model")),
    };
    let missed = [(summary.failed_comparisons, "comparison"), (summary.failed, "column")];
    let late = match summary.not_covered {
        0 => String::new(),
        n => format!("; the deadline came before {}", counted(n, "comparison")),
    };
    let judged = report.models.iter().flat_map(|model| &model.features).any(Feature::is_judged);
    let verdict = match summary.features {
        0 => "was compared",
        _ if judged => "drifted",
        _ => "was judged",
    };
    format!("{}{place} {verdict}{}{late}.", share(summary.drifted, summary.features), not_compared(&missed))
}

fn share(drifted: usize, features: usize) -> String {
    match drifted {
        0 if features == 0 => "No feature".into(),
        0 => format!("None of {}", counted(features, "feature")),
        n => format!("{n} of {}", counted(features, "feature")),
    }
}

fn not_compared(found: &[(usize, &str)]) -> String {
    let found: Vec<String> = found.iter().filter(|(n, _)| *n > 0).map(|&(n, noun)| counted(n, noun)).collect();
    if found.is_empty() { String::new() } else { format!("; {} could not be compared", found.join(" and ")) }
}

/// The drifted feature to look at first, by its importance and its distance from its threshold: its name and place, and how
/// many times its threshold it is.
pub(super) fn first_to_look_at(report: Report<'_>) -> Option<(String, Option<f64>)> {
    let all: Vec<(Option<&ModelReport>, &Feature)> = match report {
        Report::Comparison(report) => report.features.iter().map(|feature| (None, feature)).collect(),
        Report::Sweep(report) => {
            let of_model = |model| -> Vec<_> {
                let model: &ModelReport = model;
                model.features.iter().map(|feature| (Some(model), feature)).collect()
            };
            report.models.iter().flat_map(of_model).collect()
        }
    };
    let weight = |(model, feature): &(Option<&ModelReport>, &Feature)| {
        model.map_or(1.0, |model| model.importance) * feature.importance * ratio(feature).unwrap_or(1.0)
    };
    let drifted = all.iter().rev().filter(|(_, feature)| feature.verdict.drifted);
    let (model, feature) = drifted.max_by(|a, b| weight(a).total_cmp(&weight(b)))?;
    let of = model.map_or(String::new(), |model| format!(" of {}", for_display(&model.model)));
    Some((format!("{}{of}", for_display(&feature.name)), ratio(feature)))
}

/// What to do, where no store is known.
pub fn what_to_do(report: Report<'_>) -> String {
    let failed = match report {
        Report::Comparison(report) => report.features.iter().any(|feature| feature.status.is_failure()),
        Report::Sweep(report) => report.summary.failed + report.summary.failed_comparisons > 0,
    };
    let not_judged = match report {
        Report::Comparison(report) => report.not_judged.is_some(),
        Report::Sweep(report) => report.summary.not_judged > 0,
    };
    match first_to_look_at(report) {
        Some((feature, Some(ratio))) => format!("Look first at {feature}, {ratio:.1} times its threshold."),
        Some((feature, None)) => format!("Look first at {feature}."),
        None if failed => "Correct what could not be compared.".into(),
        None if not_judged => "See why features were not judged.".into(),
        None => "Nothing needs attention.".into(),
    }
}
