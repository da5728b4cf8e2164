//! What trains: a command on this machine, whoever answers at an address, a Kubernetes Job, an Airflow DAG.
//!
//! A run has a name, so that it is started once however often it is asked for: [`Executor::poll`] tells whether it is
//! known, and starting it twice is starting it once.

mod airflow;
pub mod check;
pub mod environment;
mod files;
#[cfg(feature = "kubernetes")]
mod kubernetes;
pub mod local;
mod processes;
mod supervise;
mod webhook;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::atomic::hex;
use crate::fleet::{self, Money};
use crate::http::{Failure, Http};

/// A run of a job, as those who train see it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The fleet.
    pub fleet: String,
    /// The model.
    pub model: String,
    /// The job.
    pub job: String,
    /// Which start it is, from 1.
    pub attempt: u32,
    /// The trigger.
    pub trigger: String,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// The folder that is its own on this machine.
    pub folder: PathBuf,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it is to be stopped.
    pub stop_at: Timestamp,
    /// For how long its time has been up; less than zero while it is not.
    pub late: SignedDuration,
    /// What only the store and its supervisor know: its result repeats it. Empty for a run that an older version has noted.
    pub key: String,
    /// Whether those who train have said before that they know it.
    pub seen: bool,
}

impl Run {
    /// Its name: the same for the same attempt, and good for a file, a label and a segment of an address.
    pub fn name(&self) -> String {
        format!("{}-{}", self.job, self.attempt)
    }

    /// What there is to know of it, as JSON.
    pub fn context(&self) -> Value {
        json!({
            "run": self.name(),
            "fleet": self.fleet,
            "model": self.model,
            "job": self.job,
            "attempt": self.attempt,
            "trigger": self.trigger,
            "stop_at": self.stop_at,
            "event": serde_json::from_str::<Value>(&self.event).unwrap_or_default(),
        })
    }

    /// The same as variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DRIFTSWEEP_RUN", self.name()),
            ("DRIFTSWEEP_FLEET", self.fleet.clone()),
            ("DRIFTSWEEP_MODEL", self.model.clone()),
            ("DRIFTSWEEP_JOB", self.job.clone()),
            ("DRIFTSWEEP_ATTEMPT", self.attempt.to_string()),
            ("DRIFTSWEEP_TRIGGER", self.trigger.clone()),
            ("DRIFTSWEEP_STOP_AT", self.stop_at.to_string()),
        ]
    }
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is not known there, and may be started.
    NotStarted,
    /// It was known there, and is no longer: nobody can say whether it is under way. It is not started again.
    Forgotten,
    /// It is under way.
    Running,
    /// It has ended.
    Ended(Ended),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Why, where it was not good.
    pub reason: String,
    /// How long it took, if that is known.
    pub took: Option<SignedDuration>,
    /// What it cost, if it says so itself.
    pub cost: Option<Money>,
    /// Its new baseline, if it names one: a baseline file or a snapshot.
    pub baseline: Option<String>,
    /// What is wrong with its answer, if anything is. That part of the answer is left out, and the outcome is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about_answer: Option<String>,
}

/// How a run ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model was trained.
    Succeeded,
    /// It was not.
    Failed,
    /// It was stopped: it took too long.
    TimedOut,
    /// It was stopped by somebody.
    Cancelled,
}

impl Ended {
    /// How a run ended of which no more is known.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), took: None, cost: None, baseline: None, about_answer: None }
    }
}

/// A key for a run that nobody can guess.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_key() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Trains. `now` is the real time, whatever time a pass is taken to be.
pub trait Executor: Sync {
    /// Starts a run, unless it has been started already.
    ///
    /// # Errors
    /// [`Failure`]: a lasting one is the end of the attempt, after a passing one it is asked for again.
    fn start(&self, run: &Run, now: Timestamp) -> Result<(), Failure>;

    /// How far it is.
    ///
    /// # Errors
    /// [`Failure`] if that cannot be told.
    fn poll(&self, run: &Run, now: Timestamp) -> Result<Progress, Failure>;

    /// Stops it, if it is under way; it may take a while to end.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be reached.
    fn cancel(&self, run: &Run, now: Timestamp) -> Result<(), Failure>;
}

/// Who has been let in where during a pass: each place is asked once, whatever it answers.
#[derive(Default)]
pub struct Logins(Mutex<HashMap<String, Login>>);

/// What a place answered, if it was asked.
type Login = Arc<Mutex<Option<Result<String, Failure>>>>;

impl Logins {
    /// What lets us in at a place by its name; `ask` asks for it the first time. Whoever comes meanwhile waits.
    fn at(&self, place: String, ask: impl FnOnce() -> Result<String, Failure>) -> Result<String, Failure> {
        let login = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default().clone();
        let mut login = login.lock().unwrap_or_else(PoisonError::into_inner);
        login.get_or_insert_with(ask).clone()
    }
}

/// The executor of a model: the one place where it is chosen. `program` supervises commands: this program, by its path.
pub fn of<'a>(
    retrain: &'a fleet::Retrain,
    http: &'a Http,
    program: &'a std::path::Path,
    logins: &'a Logins,
) -> Box<dyn Executor + 'a> {
    match &retrain.executor {
        fleet::Executor::Command(command) => Box::new(local::Local { command, program }),
        fleet::Executor::Webhook(webhook) => Box::new(webhook::Webhook { webhook, http }),
        fleet::Executor::Airflow(airflow) => Box::new(airflow::Airflow { airflow, http, logins }),
        #[cfg(feature = "kubernetes")]
        fleet::Executor::Kubernetes(kubernetes) => {
            Box::new(kubernetes::Kubernetes { settings: kubernetes, timeout: retrain.timeout })
        }
        #[cfg(not(feature = "kubernetes"))]
        fleet::Executor::Kubernetes(_) => Box::new(Missing("kubernetes")),
    }
}

/// An executor that this build does not have.
#[cfg(not(feature = "kubernetes"))]
struct Missing(&'static str);

#[cfg(not(feature = "kubernetes"))]
impl Missing {
    fn failure(&self) -> Failure {
        let name = self.0;
        Failure::lasting(format!("this build has no {name}; build it with `--features {name}`"))
    }
}

#[cfg(not(feature = "kubernetes"))]
impl Executor for Missing {
    fn start(&self, _: &Run, _: Timestamp) -> Result<(), Failure> {
        Err(self.failure())
    }

    fn poll(&self, _: &Run, _: Timestamp) -> Result<Progress, Failure> {
        Ok(Progress::NotStarted)
    }

    fn cancel(&self, _: &Run, _: Timestamp) -> Result<(), Failure> {
        Err(self.failure())
    }
}

/// What a run says of its own end: a state, what it cost in the fleet's currency, how many seconds it took, a reason, and
/// its new baseline. Each is read on its own: one that is malformed must not spoil the others.
#[derive(Debug, Default)]
struct Said {
    state: Option<Value>,
    cost: Option<Value>,
    seconds: Option<Value>,
    reason: Option<Value>,
    baseline: Option<Value>,
    /// What is malformed in it.
    troubles: Vec<String>,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// Reads an answer, and notes which of its keys are given twice.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Said, A::Error> {
        let (mut said, mut twice) = (Said::default(), BTreeSet::new());
        let mut seen = BTreeSet::new();
        while let Some((key, value)) = fields.next_entry::<String, Value>()? {
            let Some((name, place)) = said.field(&key) else { continue };
            *place = Some(value).filter(|value| !value.is_null());
            if !seen.insert(name) {
                twice.insert(name);
            }
        }
        for name in twice {
            if let Some((_, place)) = said.field(name) {
                *place = None;
            }
            said.troubles.push(format!("{name} is given twice; give it once"));
        }
        Ok(said)
    }
}

/// More of a reason is not kept.
const MOST_REASON: usize = 500;

/// No path is longer.
const MOST_PATH: usize = 4096;

/// How far a run is of which a place says that it does not know it.
fn unknown(run: &Run) -> Progress {
    if run.seen { Progress::Forgotten } else { Progress::NotStarted }
}

/// The kind of a value, as it is told to people. What it holds is not repeated: it may be anything, secrets too.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Said {
    /// An answer as it was written: one JSON object, each of its keys once.
    fn of(bytes: &[u8]) -> Result<Self, String> {
        // A list would be taken for the fields in their order.
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
            _ => return None,
        })
    }

    /// One that cannot be read.
    fn nothing(trouble: String) -> Self {
        Self { troubles: vec![trouble], ..Self::default() }
    }

    /// What a command says, in a file: its cost, its new baseline, and what is malformed. How it ended is not its word.
    fn of_command(mut self, place: &str) -> (Option<Money>, Option<String>, Option<String>) {
        (self.cost(), self.baseline(), self.about(place))
    }

    fn cost(&mut self) -> Option<Money> {
        let value = self.cost.take()?;
        let cost = value.as_f64().and_then(Money::of).filter(|cost| *cost >= Money::ZERO);
        if cost.is_none() {
            let found = if value.is_number() { "is negative, or more than any amount" } else { kind(&value) };
            self.wrong("cost", found, "give an amount of money as a number, 0 or more");
        }
        cost
    }

    fn took(&mut self) -> Option<SignedDuration> {
        let value = self.seconds.take()?;
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0);
        let took = seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
        if took.is_none() {
            let found = if value.is_number() { "is negative, or more than any time" } else { kind(&value) };
            self.wrong("seconds", found, "give a number, 0 or more");
        }
        took
    }

    fn reason(&mut self) -> String {
        match self.reason.take() {
            None => String::new(),
            Some(Value::String(reason)) => reason.chars().take(MOST_REASON).collect(),
            Some(other) => {
                self.wrong("reason", kind(&other), "give text");
                String::new()
            }
        }
    }

    /// The new baseline as it is named: a path.
    fn baseline(&mut self) -> Option<String> {
        let value = self.baseline.take()?;
        let found = match value {
            Value::String(path) if path.len() > MOST_PATH => "is longer than any path",
            Value::String(path) if path.contains('\0') => "holds a zero byte",
            Value::String(path) => return Some(path),
            other => kind(&other),
        };
        self.wrong("baseline", found, "give the path of a baseline file or of a snapshot as text");
        None
    }

    fn wrong(&mut self, field: &str, found: &str, remedy: &str) {
        let verb = if found.starts_with("is ") || found.starts_with("holds ") { "" } else { "is " };
        self.troubles.push(format!("{field} {verb}{found}; {remedy}"));
    }

    /// What is malformed in an answer that stands in `place`, in a sentence.
    fn about(&self, place: &str) -> Option<String> {
        (!self.troubles.is_empty()).then(|| format!("{place}: {}; it is left out", self.troubles.join("; and ")))
    }

    /// How far a run is by the answer of whoever runs it.
    fn progress(mut self, place: &str) -> Result<Progress, Failure> {
        let outcome = match self.state.as_ref().and_then(Value::as_str) {
            Some("queued" | "running") => return Ok(Progress::Running),
            Some("succeeded") => Outcome::Succeeded,
            Some("failed") => Outcome::Failed,
            Some("timed_out") => Outcome::TimedOut,
            Some("cancelled") => Outcome::Cancelled,
            _ => {
                return Err(Failure::passing(
                    "its state is none of queued, running, succeeded, failed, timed_out and cancelled",
                ));
            }
        };
        let (cost, took, reason, baseline) = (self.cost(), self.took(), self.reason(), self.baseline());
        Ok(Progress::Ended(Ended { outcome, reason, took, cost, baseline, about_answer: self.about(place) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end that an answer tells of, and what is wrong with it.
    fn ended(fields: &str) -> Ended {
        let said = Said::of(format!("{{\"state\": \"succeeded\", {fields}}}").as_bytes()).unwrap();
        match said.progress("its answer").unwrap() {
            Progress::Ended(ended) => ended,
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
                let mut fields = vec![("cost", "5"), ("seconds", "7.5"), ("reason", "\"x\""), ("baseline", "\"b\"")];
                fields.iter_mut().filter(|(name, _)| *name == field).for_each(|pair| pair.1 = value);
                let text: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                let ended = ended(&text.join(", "));
                assert_eq!(ended.outcome, Outcome::Succeeded);
                match &ended.about_answer {
                    None => assert!(fine.contains(&value), "{field} = {value} is taken: {ended:?}"),
                    Some(told) => {
                        assert!(!fine.contains(&value), "{field} = {value} is refused: {told}");
                        assert!(told.starts_with(&format!("its answer: {field} ")), "{told}");
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
        let path = "p".repeat(MOST_PATH + 1);
        assert!(ended(&format!("\"baseline\": \"{path}\"")).about_answer.unwrap().contains("longer than any path"));
        assert!(ended("\"baseline\": \"a\\u0000b\"").about_answer.unwrap().contains("zero byte"));
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
            let told = Said::of(text.as_bytes()).unwrap_err();
            assert!(told.contains(wanted), "{text}: {told}");
        }
        let twice = ended("\"cost\": 5, \"baseline\": \"b\", \"cost\": 6");
        assert_eq!((twice.cost, twice.baseline.as_deref()), (None, Some("b")));
        assert!(twice.about_answer.unwrap().contains("cost is given twice"));
        assert!(Said::of(b" {\"another\": [1]}").unwrap().troubles.is_empty(), "other keys are nobody's business");
    }

    #[test]
    fn no_two_keys_are_alike() {
        assert_ne!(new_key().unwrap(), new_key().unwrap());
        assert_eq!(new_key().unwrap().len(), 64);
    }
}
