//! What `explain` shows of performance, and of the labels by which it is judged.

use jiff::SignedDuration;

use super::{PerformanceStatus, PerformanceVerdict, PredictionSpan};
use crate::trigger::{ExplainView, LabelsShown, Sheet, TriggerVerdict};
use driftsweep::metric::performance::Measurement;

/// Shows the trigger; `found` is its verdict, if it was judged.
pub fn show(found: Option<&PerformanceVerdict>, view: &ExplainView<'_>, page: &mut Sheet) {
    match (found, view.labels_error, &view.inactive) {
        (Some(found), ..) => {
            verdict(page, found);
            if let Some(known) = &view.labels {
                labels(page, known);
            }
        }
        (None, Some(error), _) => {
            page.section(format_args!("performance and volume: not judged, because of the labels: {error}"));
        }
        (None, None, Some(why)) => page.section(format_args!("performance: {why}")),
        (None, None, None) => {}
    }
}

fn measured(found: Option<Measurement>) -> String {
    found.map_or("–".into(), |m| format!("{:.4} ({:.4} to {:.4}, {} rows)", m.value, m.low, m.high, m.rows))
}

fn span(found: &PredictionSpan) -> String {
    let matured = 100.0 * found.matured();
    format!("{} predictions from {} to {}, {matured:.1} % with a label", found.predictions, found.since, found.before)
}

fn verdict(page: &mut Sheet, found: &PerformanceVerdict) {
    let metric = found.metric;
    page.section(format_args!("performance: {}", found.status.name()));
    let higher = found.metric.value.higher_is_better();
    let side = if higher { "below" } else { "above" };
    match found.level.value {
        None => page.line(format_args!("  {metric} has no level; set trigger.performance.level")),
        Some(level) => {
            let warning = found
                .warning
                .value
                .map_or(String::new(), |warning| format!(", warns {side} {warning} ({})", found.warning.origin.name()));
            page.line(format_args!(
                "  {metric} triggers {side} {level} ({}){warning}, when its whole {} confidence interval is, over the \
                 newest {} of at least {}",
                found.level.origin.name(),
                found.confidence,
                found.rows,
                found.min_labels
            ));
        }
    }
    let wait = SignedDuration::from_secs(found.maturity_seconds).as_secs_f64() / 86_400.0;
    match (found.status, found.maturity_learned, found.delay_declared) {
        (PerformanceStatus::DelayUnknown, ..) => page.line("  the label delay is not known yet"),
        (_, true, _) => {
            page.line(format_args!("  label delay: {wait:.1} days (learned: 95 % of labels arrive by then)"))
        }
        (_, false, true) => page.line(format_args!("  label delay: {wait:.1} days (declared)")),
        (_, false, false) => page.line(format_args!("  label delay: {wait:.1} days (built in)")),
    }
    page.line(format_args!("  matured: {}", span(&found.matured)));
    let proxy = if found.proxy { ", using the proxy where labels are missing" } else { "" };
    page.line(format_args!("    realised  {}{proxy}", measured(found.realised)));
    page.line(format_args!("    estimated {} over the same rows", measured(found.reconciled)));
    page.line(format_args!("  newest: {}", span(&found.fresh)));
    match (found.estimated, &found.no_estimate) {
        (Some(_), _) => {
            page.line(format_args!("    estimated {} (an estimate never triggers)", measured(found.estimated)))
        }
        (None, Some(reason)) => page.line(format_args!("    no estimate: {reason}")),
        (None, None) => page.line("    no estimate: these predictions have no scores"),
    }
    if let Some(reason) = found.not_judged() {
        page.line(format_args!("  not judged: {reason}"));
    } else if let (PerformanceStatus::Ok | PerformanceStatus::Warning, Some(m), Some(level)) =
        (found.status, found.realised, found.level.value)
    {
        let end = if higher { m.high } else { m.low };
        page.line(format_args!("  it would fire if the end of its interval, {end:.4}, were {side} {level}"));
    }
}

/// How the labels that were read were used.
fn labels(page: &mut Sheet, labels: &LabelsShown) {
    let counts = labels.counts;
    page.section(format_args!("labels: {} known, {} belong to a prediction", counts.labels, counts.met));
    for (rows, what) in [
        (counts.early, "arrived before every prediction of their id and match none of these"),
        (counts.undated, "have no arrival time and are skipped"),
        (counts.rewritten, "were written again later with another value; the first one is used"),
        (counts.contradicting, "labels or predictions of the same id and time contradict each other and are skipped"),
        (counts.superseded, "predictions were made again before their label arrived and are skipped"),
    ] {
        if rows > 0 {
            page.line(format_args!("  {rows} {what}"));
        }
    }
    let missing: Vec<String> = labels.missing.iter().map(|text| format!("{text:?}")).collect();
    page.line(format_args!("  read as missing ({}): {}", labels.origin.name(), missing.join(", ")));
}
