//! The evidence of a trigger, as lines for approvers.

use serde_json::Value;

use super::drift::{DriftColumn, DriftVerdict};
use super::performance::PerformanceVerdict;
use driftsweep::rule;
use driftsweep_fleet::Trigger;

/// The figures of an event as lines, limited to a number of columns. Names are escaped.
pub fn lines(trigger: &str, details: &Value, most: usize) -> Vec<String> {
    if trigger == Trigger::Drift.name()
        && let Ok(verdict) = serde_json::from_value::<DriftVerdict>(details.clone())
    {
        return drift(&verdict, most);
    }
    if trigger == Trigger::Performance.name()
        && let Ok(found) = serde_json::from_value::<PerformanceVerdict>(details.clone())
    {
        return performance(&found);
    }
    let Some(details) = details.as_object() else { return Vec::new() };
    let given = details.iter().map(|(name, value)| match value {
        // A setting with its origin.
        Value::Object(fields) if fields.contains_key("origin") => (name, fields.get("value").unwrap_or(&Value::Null)),
        _ => (name, value),
    });
    let plain = given.filter(|(_, value)| !value.is_object() && !value.is_array() && !value.is_null());
    let shown = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), |text| driftsweep_common::escape::for_display(text).into_owned())
    };
    plain.map(|(name, value)| format!("{}: {}", name.replace('_', " "), shown(value))).collect()
}

fn drift(verdict: &DriftVerdict, most: usize) -> Vec<String> {
    let mut lines = vec![verdict.reason()];
    let columns = || {
        let of = |comparison: &super::drift::DriftComparison| {
            let names = [("window", comparison.window.clone()), ("segment", comparison.segment.clone())];
            let named = names.into_iter().filter(|(_, name)| !name.is_empty());
            named
                .map(|(what, name)| format!(" ({what} {})", driftsweep_common::escape::for_display(&name)))
                .collect::<String>()
        };
        verdict.comparisons.iter().flat_map(move |c| c.columns.iter().map(move |column| (of(c), column)))
    };
    for (place, column) in columns().take(most) {
        lines.push(format!("{}{place}: {}", driftsweep_common::escape::for_display(&column.feature), figures(column)));
        if let Some(shape) = &column.shape {
            lines.push(format!("  {}", shape.line()));
        }
    }
    let more = columns().count().saturating_sub(most);
    if more > 0 {
        lines.push(format!("… and {more} more columns"));
    }
    lines
}

fn figures(column: &DriftColumn) -> String {
    let figure = |signal: &rule::Signal| {
        let q = signal.q_value.map(|q| format!(", q {q:.2e}")).unwrap_or_default();
        format!("{} {:.4} above {}{q}", signal.metric, signal.value, signal.limit)
    };
    column
        .signals
        .iter()
        .map(|signal| &signal.figure)
        .filter(|figure| figure.drifted())
        .map(figure)
        .collect::<Vec<_>>()
        .join("; ")
}

fn performance(found: &PerformanceVerdict) -> Vec<String> {
    let metric = found.metric.value;
    let mut lines = Vec::new();
    if let Some(m) = found.realised {
        lines.push(format!(
            "{metric} {:.4}, {:.4} to {:.4} at {} % confidence, over {} rows",
            m.value,
            m.low,
            m.high,
            100.0 * found.confidence.value,
            m.rows
        ));
    }
    let side = if metric.higher_is_better() { "below" } else { "above" };
    if let Some(level) = found.level.value {
        lines.push(format!("it triggers where the whole interval is {side} {level} ({})", found.level.origin.name()));
    }
    if let Some(m) = found.estimated {
        lines.push(format!(
            "the newest predictions, estimated without labels: {:.4} ({:.4} to {:.4})",
            m.value, m.low, m.high
        ));
    }
    lines
}
