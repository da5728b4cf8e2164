//! The answer of the training system about a run. It is not trusted: it may contain anything.

use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{RunOutcome, RunResult, RunStatus, TrainedModel, ValidationFiles};
use crate::http::RequestFailure;
use crate::value::Money;
use driftsweep_common::address::redacted;

/// What a run reports about its end: a state, its cost in the fleet's currency, its duration in seconds, a reason, its new
/// baseline, the files that its gates are judged by, and the model that it trained. Each field is read separately: a malformed one does not affect the others.
#[derive(Debug, Default)]
pub(super) struct RunAnswer {
    state: Option<Value>,
    cost: Option<Value>,
    seconds: Option<Value>,
    reason: Option<Value>,
    baseline: Option<Value>,
    validation: Option<Value>,
    model: Option<Value>,
    /// What is malformed in it.
    problems: Vec<String>,
}

impl<'de> Deserialize<'de> for RunAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// Reads an answer, and notes which of its keys are given twice.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = RunAnswer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<RunAnswer, A::Error> {
        let (mut reply, mut twice) = (RunAnswer::default(), BTreeSet::new());
        let mut seen = BTreeSet::new();
        while let Some((key, value)) = fields.next_entry::<String, Value>()? {
            let Some((name, place)) = reply.field(&key) else { continue };
            *place = Some(value).filter(|value| !value.is_null());
            if !seen.insert(name) {
                twice.insert(name);
            }
        }
        for name in twice {
            if let Some((_, place)) = reply.field(name) {
                *place = None;
            }
            reply.problems.push(format!("{name} is given twice; give it once"));
        }
        Ok(reply)
    }
}

/// The longest reason that is stored.
const MAX_REASON_CHARS: usize = 500;

/// No path is longer.
const MAX_PATH_BYTES: usize = 4096;

/// The kind of a value, for messages; a number with its value. Other contents are not repeated: they may be secrets.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "is null".into(),
        Value::Bool(_) => "is true or false".into(),
        Value::Number(number) => format!("is {number}"),
        Value::String(_) => "is text".into(),
        Value::Array(_) => "is a list".into(),
        Value::Object(_) => "is an object".into(),
    }
}

impl RunAnswer {
    /// An answer as it was written: one JSON object, each of its keys once.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, String> {
        // A list must not be read as the fields in their order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err("is not a JSON object".into());
        }
        serde_json::from_slice(bytes).map_err(|e| {
            let what = if e.is_eof() { "ends too early to be JSON" } else { "is not JSON" };
            format!("{what} (line {}, column {})", e.line(), e.column())
        })
    }

    /// A field by its key, with its name.
    fn field(&mut self, key: &str) -> Option<(&'static str, &mut Option<Value>)> {
        Some(match key {
            "state" => ("state", &mut self.state),
            "cost" => ("cost", &mut self.cost),
            "seconds" => ("seconds", &mut self.seconds),
            "reason" => ("reason", &mut self.reason),
            "baseline" => ("baseline", &mut self.baseline),
            "validation" => ("validation", &mut self.validation),
            "model" => ("model", &mut self.model),
            _ => return None,
        })
    }

    /// One that cannot be read.
    pub(super) fn nothing(problem: String) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// The end of a command, with what its answer file says of it. The exit code alone decides how it ended.
    pub(super) fn of_command(mut self, place: &str, ended: RunResult) -> RunResult {
        let (cost, baseline, validation, model) = (self.cost(), self.baseline(), self.validation(), self.model());
        RunResult { cost, baseline, validation, model, about_answer: self.about(place), ..ended }
    }

    fn cost(&mut self) -> Option<Money> {
        let value = self.cost.take()?;
        let cost = value.as_f64().and_then(Money::of).filter(|cost| *cost >= Money::ZERO);
        if cost.is_none() {
            self.wrong("cost", &kind(&value), "give an amount of money as a number, 0 or more");
        }
        cost
    }

    fn took(&mut self) -> Option<SignedDuration> {
        let value = self.seconds.take()?;
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0);
        let took = seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
        if took.is_none() {
            self.wrong("seconds", &kind(&value), "give a number, 0 or more");
        }
        took
    }

    fn reason(&mut self) -> String {
        match self.reason.take() {
            None => String::new(),
            Some(Value::String(reason)) => reason.chars().take(MAX_REASON_CHARS).collect(),
            Some(other) => {
                self.wrong("reason", &kind(&other), "give text");
                String::new()
            }
        }
    }

    /// The path of the new baseline.
    fn baseline(&mut self) -> Option<String> {
        let value = self.baseline.take()?;
        let found = match value {
            Value::String(path) if path.len() > MAX_PATH_BYTES => "is longer than any path".into(),
            Value::String(path) if path.contains('\0') => "holds a zero byte".into(),
            Value::String(path) => return Some(path),
            other => kind(&other),
        };
        self.wrong("baseline", &found, "give the path of a baseline file or of a snapshot as text");
        None
    }

    /// The files that gates are judged by.
    fn validation(&mut self) -> Option<Box<ValidationFiles>> {
        let value = self.validation.take()?;
        const REMEDY: &str =
            "give { candidate, labels } and, where there is one, champion: paths of snapshots, without secrets";
        if !value.is_object() {
            self.wrong("validation", &kind(&value), REMEDY);
            return None;
        }
        let Ok(files) = ValidationFiles::deserialize(&value) else {
            self.wrong("validation", "has other keys than it may have, or one that is no text", REMEDY);
            return None;
        };
        let is_path = |path: &String| {
            !path.is_empty() && path.len() <= MAX_PATH_BYTES && !path.contains('\0') && redacted(path) == *path
        };
        if !files.places().all(is_path) {
            self.wrong("validation", "names a file by what is no path, or by an address with a secret", REMEDY);
            return None;
        }
        Some(Box::new(files))
    }

    /// The model that was trained.
    fn model(&mut self) -> Option<Box<TrainedModel>> {
        let value = self.model.take()?;
        const REMEDY: &str = "give { source } and, where they are known, digest, trainer, feature_set, feature_version, training \
                              { from, to, rows } and metrics";
        if !value.is_object() {
            self.wrong("model", &kind(&value), REMEDY);
            return None;
        }
        let Ok(model) = TrainedModel::deserialize(&value) else {
            self.wrong("model", "lacks source, has other keys than it may have, or a value of another type", REMEDY);
            return None;
        };
        match model.check() {
            Ok(()) => Some(Box::new(model)),
            Err(reason) => {
                self.problems.push(format!("model: {reason}"));
                None
            }
        }
    }

    fn wrong(&mut self, field: &str, found: &str, remedy: &str) {
        self.problems.push(format!("{field} {found}; {remedy}"));
    }

    /// A sentence about the malformed fields of an answer in `place`.
    fn about(&self, place: &str) -> Option<String> {
        (!self.problems.is_empty()).then(|| format!("{place}: {}; it is ignored", self.problems.join("; and ")))
    }

    /// The status of a run by the answer of the training system.
    pub(super) fn progress(mut self, place: &str) -> Result<RunStatus, RequestFailure> {
        let outcome = match self.state.as_ref().and_then(Value::as_str) {
            Some("queued" | "running") => return Ok(RunStatus::Running),
            Some("succeeded") => RunOutcome::Succeeded,
            Some("failed") => RunOutcome::Failed,
            Some("timed_out") => RunOutcome::TimedOut,
            Some("cancelled") => RunOutcome::Cancelled,
            _ => {
                return Err(RequestFailure::transient(
                    "its state is none of queued, running, succeeded, failed, timed_out and cancelled",
                ));
            }
        };
        let (cost, took, reason) = (self.cost(), self.took(), self.reason());
        let (baseline, validation, model) = (self.baseline(), self.validation(), self.model());
        let about_answer = self.about(place);
        Ok(RunStatus::Ended(RunResult { outcome, reason, took, cost, baseline, validation, model, about_answer }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end that an answer tells of, and what is wrong with it.
    fn ended(fields: &str) -> RunResult {
        let reply = RunAnswer::of(format!("{{\"state\": \"succeeded\", {fields}}}").as_bytes()).unwrap();
        match reply.progress("its answer").unwrap() {
            RunStatus::Ended(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_malformed_field_of_an_answer_is_told_and_spoils_neither_the_state_nor_the_others() {
        let good = ended("\"cost\": 5, \"seconds\": 7.5, \"reason\": \"x\", \"baseline\": \"new.parquet\"");
        assert_eq!(good.about_answer, None);
        let values = ["7", "-1", "1e300", "true", "\"x\"", "[1]", "{\"a\": 1}", "null"];
        let taken = [
            ("cost", ["7", "null"].as_slice()),
            ("seconds", &["7", "null"]),
            ("reason", &["\"x\"", "null"]),
            ("baseline", &["\"x\"", "null"]),
        ];
        for (field, fine) in taken {
            for value in values {
                let mut fields = [("cost", "5"), ("seconds", "7.5"), ("reason", "\"x\""), ("baseline", "\"b\"")];
                fields.iter_mut().filter(|(name, _)| *name == field).for_each(|pair| pair.1 = value);
                let text: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                let ended = ended(&text.join(", "));
                assert_eq!(ended.outcome, RunOutcome::Succeeded);
                match &ended.about_answer {
                    None => assert!(fine.contains(&value), "{field} = {value} is taken: {ended:?}"),
                    Some(message) => {
                        assert!(!fine.contains(&value), "{field} = {value} is refused: {message}");
                        assert!(message.starts_with(&format!("its answer: {field} ")), "{message}");
                    }
                }
                let others = [
                    field == "cost" || ended.cost == Money::of(5.0),
                    field == "seconds" || ended.took == Some(SignedDuration::from_millis(7500)),
                    field == "reason" || ended.reason == "x",
                    field == "baseline" || ended.baseline.as_deref() == Some("b"),
                ];
                assert_eq!(others, [true; 4], "{field} = {value}: {ended:?}");
            }
        }
        let path = "p".repeat(MAX_PATH_BYTES + 1);
        assert!(ended(&format!("\"baseline\": \"{path}\"")).about_answer.unwrap().contains("longer than any path"));
        assert!(ended("\"baseline\": \"a\\u0000b\"").about_answer.unwrap().contains("zero byte"));
    }

    #[test]
    fn a_trained_model_is_taken_whole_or_refused_with_the_key_that_is_wrong() {
        let digest = "0123456789abcdef".repeat(4);
        let full = format!(
            r#"{{"source": "s3://models/7", "digest": "{digest}", "trainer": "batch", "feature_set": "f", "feature_version": "v",
                "training": {{"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z", "rows": 7}}, "metrics": {{"auc": 0.7}}}}"#
        );
        for fine in [r#"{"source": "models/7"}"#, &full] {
            let ended = ended(&format!("\"model\": {fine}"));
            assert_eq!(ended.about_answer, None);
            assert_eq!(
                serde_json::to_value(ended.model.unwrap()).unwrap(),
                serde_json::from_str::<Value>(fine).unwrap()
            );
        }
        for (wrong, what) in [
            ("7", "model is 7"),
            ("[\"a\"]", "model is a list"),
            ("{}", "lacks source"),
            (r#"{"source": 7}"#, "lacks source"),
            (r#"{"source": "m", "sorce": "m"}"#, "other keys"),
            (r#"{"source": ""}"#, "source is no path"),
            (r#"{"source": "https://bucket.s3.amazonaws.com/m?X-Amz-Signature=abc"}"#, "secret"),
            (r#"{"source": "m", "digest": "abc"}"#, "digest is no SHA-256"),
            (r#"{"source": "m", "trainer": ""}"#, "trainer is empty"),
            (r#"{"source": "m", "metrics": {"auc": "high"}}"#, "another type"),
            (
                r#"{"source": "m", "training": {"from": "2026-03-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}}"#,
                "ends before",
            ),
            (r#"{"source": "m", "training": {"to": "yesterday"}}"#, "another type"),
        ] {
            let ended = ended(&format!("\"model\": {wrong}, \"cost\": 5"));
            assert_eq!(
                (ended.outcome, &ended.model, ended.cost),
                (RunOutcome::Succeeded, &None, Money::of(5.0)),
                "{wrong}"
            );
            assert!(ended.about_answer.as_ref().unwrap().contains(what), "{wrong}: {ended:?}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_no_answer_and_a_key_that_is_given_twice_is_left_out() {
        for (text, wanted) in [
            ("", "not a JSON object"),
            ("cost = 5", "not a JSON object"),
            ("[\"succeeded\", 5]", "not a JSON object"),
            ("{\"cost\": 5", "too early"),
            ("{\"cost\": NaN}", "not JSON"),
            ("{\"cost\": 5} x", "not JSON"),
        ] {
            let message = RunAnswer::of(text.as_bytes()).unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
        }
        let twice = ended("\"cost\": 5, \"baseline\": \"b\", \"cost\": 6");
        assert_eq!((twice.cost, twice.baseline.as_deref()), (None, Some("b")));
        assert!(twice.about_answer.unwrap().contains("cost is given twice"));
        assert!(RunAnswer::of(b" {\"another\": [1]}").unwrap().problems.is_empty(), "other keys are nobody's business");
    }
}
