//! Executors of trainings: a command on this machine, a webhook, a Kubernetes Job, an Airflow DAG.
//!
//! A run has a name, so that it is started only once, however often it is requested: [`Executor::poll`] shows whether
//! it is known, and starting is idempotent.

pub mod airflow;
mod answer;
pub mod command;
mod files;
pub mod kubernetes;
mod trained;
pub mod webhook;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::check::Findings;
use crate::http::{Http, RequestFailure};
use crate::value::{Money, Validated, hmac_sha256};
use driftsweep_common::atomic::hex;
use driftsweep_common::versioned::Format;
pub use trained::{Champion, TrainedModel, TrainingWindow};

/// The executors: the one list. It is passed to a macro, so that the parser of the fleet file can make the keys of
/// `[retrain]` from it. Each has a name, which is its key there, its table under that key, and its settings.
#[macro_export]
macro_rules! with_executors {
    ($with:ident) => {
        $with! {
            /// A command on this machine.
            Command(command): $crate::executor::command::CommandTable => $crate::executor::command::CommandConfig,
            /// A webhook.
            Webhook(webhook): $crate::executor::webhook::WebhookTable => $crate::executor::webhook::WebhookConfig,
            /// A Kubernetes Job.
            Kubernetes(kubernetes): $crate::executor::kubernetes::KubernetesTable
                => $crate::executor::kubernetes::KubernetesConfig,
            /// A run of an Airflow DAG.
            Airflow(airflow): $crate::executor::airflow::AirflowTable => $crate::executor::airflow::AirflowConfig,
        }
    };
}

macro_rules! executor_config {
    ($($(#[$doc:meta])* $variant:ident($key:ident): $table:ty => $settings:ty,)*) => {
        /// The executor of trainings, with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum ExecutorConfig {
            $($(#[$doc])* $variant($settings),)*
        }

        impl ExecutorConfig {
            /// The names of all executors: their keys in the fleet file.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($key)),*];

            /// The name in the fleet file and in reports.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($key),)*
                }
            }

            /// What it does with its settings.
            pub fn settings(&self) -> &dyn ExecutorSettings {
                match self {
                    $(Self::$variant(settings) => settings,)*
                }
            }
        }
    };
}

with_executors!(executor_config);

impl ExecutorConfig {
    /// Whether both use the same training system, so that one can poll runs that the other has started. Credentials and
    /// the training itself may differ.
    pub fn same_place(&self, other: &Self) -> bool {
        self.name() == other.name() && self.settings().place() == other.settings().place()
    }
}

/// What the table of an executor is read with.
#[derive(Clone, Copy, Debug)]
pub struct TableContext<'a> {
    /// The folder of the fleet file.
    pub folder: &'a Path,
    /// The keys beside `command`.
    pub command: &'a command::CommandKeys,
}

/// The table of an executor in the fleet file.
pub trait ExecutorTable {
    /// What it gives.
    type Settings: ExecutorSettings;

    /// The settings, checked.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    fn resolve(&self, context: TableContext<'_>) -> Validated<Self::Settings>;
}

/// What executors work with during a pass.
#[derive(Clone, Copy)]
pub struct ExecutorTools<'a> {
    /// The longest time of a run.
    pub timeout: SignedDuration,
    /// The client.
    pub http: &'a Http,
    /// The program that supervises commands: this program, by its path.
    pub program: &'a Path,
    /// The tokens obtained so far.
    pub logins: &'a Logins,
}

/// The settings of an executor, and what it does with them.
pub trait ExecutorSettings {
    /// The training system, without credentials: another one does not know the runs that were started here.
    fn place(&self) -> Value;

    /// The executor itself.
    fn open<'a>(&'a self, tools: ExecutorTools<'a>) -> Box<dyn Executor + 'a>;

    /// Checks before the night what a training would need.
    fn check(&self, findings: &mut Findings);

    /// The folder from which a relative path in an answer is meant; the fleet file's if there is none.
    fn answer_folder(&self) -> Option<&Path> {
        None
    }

    /// Whether a training has an answer, in which it names a baseline or what its gates take.
    fn has_answer(&self) -> bool {
        true
    }

    /// Whether the keys beside `command` are for it.
    fn uses_command_keys(&self) -> bool {
        false
    }
}

/// A run of a job, as an executor sees it.
#[derive(Clone, Debug)]
pub struct TrainingRun {
    /// The fleet.
    pub fleet: String,
    /// The model.
    pub model: String,
    /// The job.
    pub job: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The trigger.
    pub trigger: String,
    /// The CloudEvent, as JSON.
    pub event: String,
    /// Its own folder on this machine.
    pub folder: PathBuf,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it has to be stopped.
    pub stop_at: Timestamp,
    /// How long ago its timeout was reached; negative before.
    pub late: SignedDuration,
    /// A key that only the store and its supervisor know: its result repeats it. Empty for a run recorded by an older
    /// version.
    pub key: String,
    /// Whether the training system has confirmed before that it knows the run.
    pub seen: bool,
    /// The version of the model in production, where the registry has one.
    pub champion: Option<Champion>,
}

impl TrainingRun {
    /// Its name: the same for the same attempt, and valid as a file name, a label and a URL segment.
    pub fn name(&self) -> String {
        format!("{}-{}", self.job, self.attempt)
    }

    /// Its context, as JSON.
    pub fn context(&self) -> Value {
        json!({
            "run": self.name(),
            "fleet": self.fleet,
            "model": self.model,
            "job": self.job,
            "attempt": self.attempt,
            "trigger": self.trigger,
            "started_at": self.started_at,
            "stop_at": self.stop_at,
            "champion": self.champion,
            "event": serde_json::from_str::<Value>(&self.event).unwrap_or_default(),
        })
    }

    /// The same as variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("DRIFTSWEEP_RUN", self.name()),
            ("DRIFTSWEEP_FLEET", self.fleet.clone()),
            ("DRIFTSWEEP_MODEL", self.model.clone()),
            ("DRIFTSWEEP_JOB", self.job.clone()),
            ("DRIFTSWEEP_ATTEMPT", self.attempt.to_string()),
            ("DRIFTSWEEP_TRIGGER", self.trigger.clone()),
            ("DRIFTSWEEP_STARTED_AT", self.started_at.to_string()),
            ("DRIFTSWEEP_STOP_AT", self.stop_at.to_string()),
        ];
        if let Some(Champion { version, source, digest }) = &self.champion {
            variables.push(("DRIFTSWEEP_CHAMPION", source.clone()));
            variables.push(("DRIFTSWEEP_CHAMPION_VERSION", version.to_string()));
            variables.extend(digest.clone().map(|digest| ("DRIFTSWEEP_CHAMPION_DIGEST", digest)));
        }
        variables
    }
}

/// The status of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunStatus {
    /// The training system does not know it; it may be started.
    NotStarted,
    /// The training system knew it before, and no longer does: it may still be running. It is not started again.
    Lost,
    /// It is running.
    Running,
    /// It has ended.
    Ended(RunResult),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The outcome.
    pub outcome: RunOutcome,
    /// The reason, where it was not successful.
    pub reason: String,
    /// How long it took, if that is known.
    pub took: Option<SignedDuration>,
    /// Its cost, if it reports one.
    pub cost: Option<Money>,
    /// Its new baseline, if it reports one: a baseline file or a snapshot.
    pub baseline: Option<String>,
    /// What its gates are judged by, if it reports that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Box<ValidationFiles>>,
    /// The model that it trained, if it reports that: it becomes a version in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<TrainedModel>>,
    /// What is malformed in its answer, if anything. That part is ignored; the outcome does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about_answer: Option<String>,
}

/// The predictions of a candidate and of the champion on the same labelled rows, as a training names them: snapshots, whose
/// relative paths are relative to the folder in which it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationFiles {
    /// The candidate's predictions.
    pub candidate: String,
    /// The champion's; absent where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<String>,
    /// The version of the champion in the registry; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion_version: Option<u64>,
    /// The labels, with the columns that tell groups apart.
    pub labels: String,
    /// The column of the labels with the times of the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The features of these rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// The column of the candidate's predictions with the time that each took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
}

impl ValidationFiles {
    /// The paths and addresses that it names.
    pub fn places(&self) -> impl Iterator<Item = &String> {
        [Some(&self.candidate), self.champion.as_ref(), Some(&self.labels), self.features.as_ref()]
            .into_iter()
            .flatten()
    }
}

/// The form of results of commands: their supervisors may be of another version than the tick that reads them.
pub const RESULTS: Format = Format::new("results of commands", &[]);

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// The model was trained.
    Succeeded,
    /// The training failed.
    Failed,
    /// It was stopped at its timeout.
    TimedOut,
    /// It was cancelled.
    Cancelled,
}

impl RunResult {
    /// A result without details.
    pub fn new(outcome: RunOutcome, reason: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: reason.into(),
            took: None,
            cost: None,
            baseline: None,
            validation: None,
            model: None,
            about_answer: None,
        }
    }
}

/// A random secret, from which the keys of runs are derived.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

/// The key of a run. It is derived from the secret of the store and the run's name, so that a store restored from a
/// backup has the same key for the same run, and accepts its result.
pub fn key_of(secret: &str, job: &str, attempt: u32) -> String {
    hex(&hmac_sha256(secret.as_bytes(), &[format!("run {attempt} {job}").as_bytes()]))
}

/// Runs trainings. `now` is the real time, whatever the effective time of the pass.
pub trait Executor: Sync {
    /// Starts a run, unless it has been started already.
    ///
    /// # Errors
    /// [`RequestFailure`]: a permanent one ends the attempt, a transient one is retried.
    fn start(&self, run: &TrainingRun, now: Timestamp) -> Result<(), RequestFailure>;

    /// Polls its status.
    ///
    /// # Errors
    /// [`RequestFailure`] if the status is not available.
    fn poll(&self, run: &TrainingRun, now: Timestamp) -> Result<RunStatus, RequestFailure>;

    /// Stops it, if it is running; it may take a while to end.
    ///
    /// # Errors
    /// [`RequestFailure`] if it cannot be reached.
    fn cancel(&self, run: &TrainingRun, now: Timestamp) -> Result<(), RequestFailure>;
}

/// The access tokens of a pass: each address is asked once, whatever it answers.
#[derive(Default)]
pub struct Logins(Mutex<HashMap<String, Login>>);

/// The token of an address, or the failure, once it was requested.
type Login = Arc<Mutex<Option<Result<String, RequestFailure>>>>;

impl Logins {
    /// The token for an address; `ask` requests it the first time. Other threads wait meanwhile.
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

/// The status of a run that the training system does not know.
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
        assert_eq!((one.len(), key_of(&one, "e", 1).len()), (64, 64));
        assert_eq!(key_of(&one, "e", 1), key_of(&one, "e", 1));
        for (secret, job, attempt) in [(&other, "e", 1), (&one, "f", 1), (&one, "e", 2), (&one, "1 e", 1)] {
            assert_ne!(key_of(secret, job, attempt), key_of(&one, "e", 1));
        }
    }
}
