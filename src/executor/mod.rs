//! What trains: a command on this machine, whoever answers at an address, a Kubernetes Job, an Airflow DAG.
//!
//! A run has a name, so that it is started once however often it is asked for: [`Executor::poll`] tells whether it is
//! known, and starting it twice is starting it once.

mod airflow;
mod answer;
pub mod check;
pub mod environment;
mod files;
#[cfg(feature = "kubernetes")]
mod kubernetes;
pub mod local;
mod processes;
mod supervise;
mod webhook;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::atomic::hex;
use crate::fleet::{self, Money};
use crate::http::{Http, RequestFailure};

/// A run of a job, as those who train see it.
#[derive(Clone, Debug)]
pub struct TrainingRun {
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

impl TrainingRun {
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
pub enum RunStatus {
    /// It is not known there, and may be started.
    NotStarted,
    /// It was known there, and is no longer: nobody can say whether it is under way. It is not started again.
    Lost,
    /// It is under way.
    Running,
    /// It has ended.
    Ended(RunResult),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// How.
    pub outcome: RunOutcome,
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
pub enum RunOutcome {
    /// The model was trained.
    Succeeded,
    /// It was not.
    Failed,
    /// It was stopped: it took too long.
    TimedOut,
    /// It was stopped by somebody.
    Cancelled,
}

impl RunResult {
    /// How a run ended of which no more is known.
    pub fn new(outcome: RunOutcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), took: None, cost: None, baseline: None, about_answer: None }
    }
}

/// A secret that nobody can guess: the keys of runs follow from it.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

/// The key of a run. It follows from the secret of the store and from the run's name, so that a store that was restored from a
/// backup has the same key for the same run, and believes its result.
///
/// # Errors
/// None that is known: any secret will do.
pub fn key_of(secret: &str, job: &str, attempt: u32) -> io::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(io::Error::other)?;
    mac.update(format!("run {attempt} {job}").as_bytes());
    Ok(hex(&mac.finalize().into_bytes()))
}

/// Trains. `now` is the real time, whatever time a pass is taken to be.
pub trait Executor: Sync {
    /// Starts a run, unless it has been started already.
    ///
    /// # Errors
    /// [`RequestFailure`]: a lasting one is the end of the attempt, after a passing one it is asked for again.
    fn start(&self, run: &TrainingRun, now: Timestamp) -> Result<(), RequestFailure>;

    /// How far it is.
    ///
    /// # Errors
    /// [`RequestFailure`] if that cannot be told.
    fn poll(&self, run: &TrainingRun, now: Timestamp) -> Result<RunStatus, RequestFailure>;

    /// Stops it, if it is under way; it may take a while to end.
    ///
    /// # Errors
    /// [`RequestFailure`] if it cannot be reached.
    fn cancel(&self, run: &TrainingRun, now: Timestamp) -> Result<(), RequestFailure>;
}

/// Who has been let in where during a pass: each place is asked once, whatever it answers.
#[derive(Default)]
pub struct Logins(Mutex<HashMap<String, Login>>);

/// What a place answered, if it was asked.
type Login = Arc<Mutex<Option<Result<String, RequestFailure>>>>;

impl Logins {
    /// What lets us in at a place by its name; `ask` asks for it the first time. Whoever comes meanwhile waits.
    fn at(
        &self,
        place: String,
        ask: impl FnOnce() -> Result<String, RequestFailure>,
    ) -> Result<String, RequestFailure> {
        let login = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default().clone();
        let mut login = login.lock().unwrap_or_else(PoisonError::into_inner);
        login.get_or_insert_with(ask).clone()
    }
}

/// The executor of a model: the one place where it is chosen. `program` supervises commands: this program, by its path.
pub fn of<'a>(
    retrain: &'a fleet::RetrainConfig,
    http: &'a Http,
    program: &'a std::path::Path,
    logins: &'a Logins,
) -> Box<dyn Executor + 'a> {
    match &retrain.executor {
        fleet::ExecutorConfig::Command(command) => Box::new(local::LocalExecutor { command, program }),
        fleet::ExecutorConfig::Webhook(webhook) => Box::new(webhook::WebhookExecutor { webhook, http }),
        fleet::ExecutorConfig::Airflow(airflow) => Box::new(airflow::AirflowExecutor { airflow, http, logins }),
        #[cfg(feature = "kubernetes")]
        fleet::ExecutorConfig::Kubernetes(kubernetes) => {
            Box::new(kubernetes::KubernetesExecutor { settings: kubernetes, timeout: retrain.timeout })
        }
        #[cfg(not(feature = "kubernetes"))]
        fleet::ExecutorConfig::Kubernetes(_) => Box::new(UnavailableExecutor("kubernetes")),
    }
}

/// An executor that this build does not have.
#[cfg(not(feature = "kubernetes"))]
struct UnavailableExecutor(&'static str);

#[cfg(not(feature = "kubernetes"))]
impl UnavailableExecutor {
    fn failure(&self) -> RequestFailure {
        let name = self.0;
        RequestFailure::permanent(format!("this build has no {name}; build it with `--features {name}`"))
    }
}

#[cfg(not(feature = "kubernetes"))]
impl Executor for UnavailableExecutor {
    fn start(&self, _: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        Err(self.failure())
    }

    fn poll(&self, _: &TrainingRun, _: Timestamp) -> Result<RunStatus, RequestFailure> {
        Ok(RunStatus::NotStarted)
    }

    fn cancel(&self, _: &TrainingRun, _: Timestamp) -> Result<(), RequestFailure> {
        Err(self.failure())
    }
}

/// How far a run is of which a place says that it does not know it.
fn status_of_unknown_run(run: &TrainingRun) -> RunStatus {
    if run.seen { RunStatus::Lost } else { RunStatus::NotStarted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_alike() {
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), key_of(&one, "e", 1).unwrap().len()), (64, 64));
        assert_eq!(key_of(&one, "e", 1).unwrap(), key_of(&one, "e", 1).unwrap());
        for (secret, job, attempt) in [(&other, "e", 1), (&one, "f", 1), (&one, "e", 2), (&one, "1 e", 1)] {
            assert_ne!(key_of(secret, job, attempt).unwrap(), key_of(&one, "e", 1).unwrap());
        }
    }
}
