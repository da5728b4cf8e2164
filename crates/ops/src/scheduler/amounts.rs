//! Amounts in the audit and in messages.

use serde_json::Value;

use driftsweep_fleet::Money;

/// Fields of steps with amounts.
const AMOUNTS: [&str; 11] =
    ["cost", "declared", "expected", "low", "high", "stale_a_day", "gain", "gain_low", "above", "budget", "by"];

/// The field of a step with what gates said: its figures are no amounts, whatever they are called.
const REPORT: &str = "report";

/// Writes the amounts of a step as texts such as "612.50": canonical JSON has 612 for 612.0, and records of older versions
/// have hundredths.
pub fn as_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if field.is_f64() && AMOUNTS.contains(&&**name) {
                    *field = serde_json::from_value::<Money>(field.take()).map_or(Value::Null, |x| x.plain().into());
                } else if name != REPORT {
                    as_text(field);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(as_text),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrain::approval::{ApprovalReason, GrantedBy};
    use crate::retrain::budget::BudgetScope;
    use crate::retrain::cost::{LossSource, MetricLoss};
    use crate::retrain::{ApprovalRequest, BaselineRenewal, CostEstimate, Grant, JobStep, Overrun, ValueEstimate};
    use driftsweep::metric::performance::PerformanceMetric;
    use jiff::{SignedDuration, Timestamp};

    /// The numbers that are left in a tree, by the names of their fields.
    fn numbers(value: &Value, name: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, field)| numbers(field, name, found)),
            Value::Array(values) => values.iter().for_each(|value| numbers(value, name, found)),
            Value::Number(_) => found.push(name.to_owned()),
            _ => {}
        }
    }

    #[test]
    fn no_step_leaves_an_amount_as_a_number_and_the_texts_are_in_units() {
        let (cost, at) = (Money::from_cents(61_200), Timestamp::UNIX_EPOCH);
        let overrun =
            Overrun { scope: BudgetScope::Fleet, month: "2026-09-01".parse().unwrap(), budget: cost, by: cost };
        let lost = MetricLoss { points: 3.0, low: 1.0, loss: LossSource::Realised, missing: None };
        let worth = ValueEstimate::new(PerformanceMetric::Mae, lost, Some(cost), SignedDuration::from_hours(24));
        let reasons =
            vec![ApprovalReason::Cost { expected: cost, above: cost }, ApprovalReason::Overrun(overrun.clone())];
        let grant = Grant {
            by: GrantedBy::Person("ana".into()),
            overruns: vec![overrun],
            ..Grant::by_policy(String::new(), at)
        };
        let steps = [
            JobStep::Cost { estimate: CostEstimate::new(cost, &[]), worth },
            JobStep::Ask { request: ApprovalRequest { reasons, level: 0, asked_at: at, due: at, renewed: false } },
            JobStep::Approve { grant },
            JobStep::Succeed {
                cost,
                baseline: BaselineRenewal::Kept { warning: None },
                report: None,
                trained: None,
                place: None,
            },
            JobStep::Cancel { cost, by: "ana".into(), reason: String::new() },
        ];
        for step in steps {
            let mut body = serde_json::to_value(&step).unwrap();
            as_text(&mut body);
            assert!(body.to_string().contains("\"612.00\""), "{body}");
            let mut left = Vec::new();
            numbers(&body, "", &mut left);
            left.retain(|name| !["points", "runs", "level"].contains(&&**name));
            assert_eq!(left, [""; 0], "{body}");
        }
    }
}
