//! Amounts in the audit and in messages.

use serde_json::Value;

use crate::fleet::Money;

/// The fields of steps that hold amounts.
const AMOUNTS: [&str; 11] =
    ["cost", "declared", "expected", "low", "high", "stale_a_day", "gain", "gain_low", "above", "budget", "by"];

/// Writes the amounts of a step as texts such as "612.50": canonical JSON has 612 for 612.0, and records of older versions
/// have hundredths.
pub fn as_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if field.is_f64() && AMOUNTS.contains(&&**name) {
                    *field = serde_json::from_value::<Money>(field.take()).map_or(Value::Null, |x| x.plain().into());
                } else {
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
    use crate::metric::performance::Quality;
    use crate::retrain::approval::{By, Reason};
    use crate::retrain::budget::Scope;
    use crate::retrain::cost::{Loss, Lost};
    use crate::retrain::{Estimate, Grant, Overrun, Renewal, Request, Step, Worth};
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
        let overrun = Overrun { scope: Scope::Fleet, month: "2026-09-01".parse().unwrap(), budget: cost, by: cost };
        let lost = Lost { points: 3.0, low: 1.0, loss: Loss::Realised, missing: None };
        let worth = Worth::new(Quality::Mae, lost, Some(cost), SignedDuration::from_hours(24));
        let reasons = vec![Reason::Cost { expected: cost, above: cost }, Reason::Overrun(overrun.clone())];
        let grant =
            Grant { by: By::Person("ana".into()), overruns: vec![overrun], ..Grant::by_policy(String::new(), at) };
        let steps = [
            Step::Cost { estimate: Estimate::new(cost, &[]), worth },
            Step::Ask { request: Request { reasons, level: 0, asked_at: at, due: at, renewed: false } },
            Step::Approve { grant },
            Step::Succeed { cost, baseline: Renewal::Kept { warning: None }, place: None },
            Step::Cancel { cost, by: "ana".into(), reason: String::new() },
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
