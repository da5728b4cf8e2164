//! Training settings of a model: cost and value, limits of time, and executors.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::checks::{Validated, in_range, money, text};
use crate::money::Money;
use crate::secret::{Endpoint, SecretSource, local};
use driftsweep_common::duration::Length;

/// The stakes of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stakes {
    /// Little.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// High: each training needs approval.
    High,
}

/// How a model is trained, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainConfig {
    /// The team whose budget is used.
    pub team: String,
    /// Its stakes.
    pub stakes: Stakes,
    /// The resource it runs on.
    pub resource: String,
    /// The declared cost: hours times rates, and storage.
    pub cost: Money,
    /// The cost per hour, to compute the cost of a run from its duration.
    pub rate: Money,
    /// The cost of storage, independent of the duration.
    pub storage: Money,
    /// The monthly budget of the model.
    pub budget: Option<Money>,
    /// The value of one point per day: a hundredth of its metric where more is better (accuracy, AUC, …), one percent
    /// of the reference where it is an error (MAE, RMSE, log loss). The reference is `expected`.
    #[serde(rename = "point_a_day")]
    pub value_per_point_per_day: Option<Money>,
    /// The expected value of the metric; the best since the last training if absent.
    pub expected: Option<f64>,
    /// Points assumed as lost where a trigger fires and nothing is measured.
    pub assumed_loss: f64,
    /// How long the gain of a training lasts.
    #[serde(rename = "holds")]
    pub valid_for: SignedDuration,
    /// The timeout of a run.
    pub timeout: SignedDuration,
    /// The deadline of a job, counted from its event.
    pub deadline: SignedDuration,
    /// How often a failed run is retried.
    pub retries: u32,
    /// The first delay between attempts.
    pub backoff: SignedDuration,
    /// Its executor.
    pub executor: ExecutorConfig,
}

/// The executor of trainings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum ExecutorConfig {
    /// A command on this machine.
    Command(CommandConfig),
    /// A webhook.
    Webhook(WebhookConfig),
    /// A Kubernetes Job.
    Kubernetes(KubernetesConfig),
    /// A run of an Airflow DAG.
    Airflow(AirflowConfig),
}

impl ExecutorConfig {
    /// Whether both use the same training system, so that one can poll runs that the other has started. Credentials and
    /// the training itself may differ.
    pub fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Command(_), Self::Command(_)) => true,
            (Self::Webhook(a), Self::Webhook(b)) => (&a.url, &a.results) == (&b.url, &b.results),
            (Self::Kubernetes(a), Self::Kubernetes(b)) => (&a.context, &a.namespace) == (&b.context, &b.namespace),
            (Self::Airflow(a), Self::Airflow(b)) => (&a.url, &a.dag) == (&b.url, &b.dag),
            _ => false,
        }
    }

    /// The name in reports.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// A command and its arguments; no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandConfig {
    /// The program, and its arguments, in which placeholders such as `{model}` are replaced.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// How many bytes of its latest output are kept.
    pub log_bytes: u64,
    /// Environment variables that it gets in addition to those of every command: its credentials.
    #[serde(default)]
    pub env: Vec<String>,
}

/// A webhook that trains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// The address.
    pub url: Endpoint,
    /// The secret for signing requests.
    pub secret: Option<SecretSource>,
    /// The folder for results, if they are not polled.
    pub results: Option<PathBuf>,
}

/// A Job of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesConfig {
    /// The file of the Job, YAML or JSON.
    pub manifest: PathBuf,
    /// The namespace; that of the context, or of the pod, if absent.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; the current one, or that of the pod, if absent.
    pub context: Option<String>,
}

/// A DAG of an Airflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AirflowConfig {
    /// The address of the web server.
    pub url: Endpoint,
    /// The DAG.
    pub dag: String,
    /// A token; or
    pub token: Option<SecretSource>,
    /// a user and
    pub user: Option<String>,
    /// their password.
    pub password: Option<SecretSource>,
    /// Whether it has the API of Airflow 2.
    pub version_1: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetrainTable {
    team: Option<String>,
    stakes: Option<Stakes>,
    resource: Option<String>,
    gpu_hours: Option<f64>,
    gpu_rate: Option<f64>,
    cpu_hours: Option<f64>,
    cpu_rate: Option<f64>,
    storage: Option<f64>,
    budget: Option<f64>,
    value_per_point_per_day: Option<f64>,
    expected: Option<f64>,
    assumed_loss: Option<f64>,
    valid_for: Option<Length>,
    timeout: Option<Length>,
    deadline: Option<Length>,
    retries: Option<u32>,
    backoff: Option<Length>,
    command: Option<Vec<String>>,
    folder: Option<String>,
    log_bytes: Option<u64>,
    env: Option<Vec<String>>,
    webhook: Option<WebhookTable>,
    kubernetes: Option<KubernetesTable>,
    airflow: Option<AirflowTable>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookTable {
    url: Option<String>,
    url_env: Option<String>,
    url_file: Option<String>,
    secret_env: Option<String>,
    secret_file: Option<String>,
    results: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct KubernetesTable {
    manifest: String,
    namespace: Option<String>,
    context: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct AirflowTable {
    url: Option<String>,
    url_env: Option<String>,
    url_file: Option<String>,
    dag: String,
    token_env: Option<String>,
    token_file: Option<String>,
    user: Option<String>,
    password_env: Option<String>,
    password_file: Option<String>,
    api: Option<u8>,
}

/// The name of a variable that a command is given. No patterns: one such as `AWS_*` may pass secrets by accident.
fn variable(name: &str) -> Validated<String> {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match name {
        "" => Err("env holds an empty name; give the names of variables".into()),
        _ if name.contains(['*', '?', '[']) => {
            Err("env contains a pattern, which could pass secrets by accident; give each name, such as \
             \"AWS_ACCESS_KEY_ID\""
                .into())
        }
        // An invalid name is not repeated: it may be a secret.
        _ if name.contains('=') => {
            Err("env gives a value with a name; give the name alone, and set the variable where driftsweep is started"
                .into())
        }
        _ if name.len() <= 256 && is_name(name) && !name.starts_with(|first: char| first.is_ascii_digit()) => {
            Ok(name.to_owned())
        }
        _ => Err("env contains an invalid name of a variable: letters, digits and _ only".into()),
    }
}

impl RetrainTable {
    /// The settings of a model over those of the fleet over what is built in; `None` if it has no training settings.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub(crate) fn over(&self, fleet: &Self, folder: &Path) -> Validated<Option<RetrainConfig>> {
        // The settings of a command are each taken from the nearest table, as all others are.
        let shared = Self {
            folder: self.folder.clone().or_else(|| fleet.folder.clone()),
            log_bytes: self.log_bytes.or(fleet.log_bytes),
            env: self.env.clone().or_else(|| fleet.env.clone()),
            ..Self::default()
        };
        let own = self.executor(&shared, folder)?;
        let Some(executor) = own.map_or_else(|| fleet.executor(&shared, folder), |own| Ok(Some(own)))? else {
            let blank = Self { team: None, ..self.clone() };
            return match blank == Self::default() {
                true => Ok(None),
                false => Err("retrain names no executor; give command, webhook, kubernetes or airflow".into()),
            };
        };
        if self.env.is_some() && !matches!(executor, ExecutorConfig::Command(_)) {
            return Err(
                "env names variables for a command, but the model is not trained by a command; remove env".into()
            );
        }
        let x = |what, own: Option<f64>, fleet: Option<f64>| in_range(what, own.or(fleet).unwrap_or(0.0), 0.0..=1e6);
        let gpu_hours = x("gpu_hours", self.gpu_hours, fleet.gpu_hours)?;
        let cpu_hours = x("cpu_hours", self.cpu_hours, fleet.cpu_hours)?;
        let gpu_rate = x("gpu_rate", self.gpu_rate, fleet.gpu_rate)?;
        let cpu_rate = x("cpu_rate", self.cpu_rate, fleet.cpu_rate)?;
        let storage = money("storage", self.storage.or(fleet.storage).unwrap_or(0.0))?;
        let hours = gpu_hours.max(cpu_hours);
        let cost = gpu_hours * gpu_rate + cpu_hours * cpu_rate;
        // The cost per hour of duration: the declared cost divided by the longer of the two declared durations.
        let rate = if hours > 0.0 { cost / hours } else { gpu_rate + cpu_rate };
        let length = |what: &str, own: Option<Length>, fleet: Option<Length>, built_in: SignedDuration| {
            let length = own.or(fleet).map_or(built_in, Length::signed);
            if length.is_zero() { Err(format!("{what} = \"0\" leaves no time")) } else { Ok(length) }
        };
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        // Three times the expected duration, but at least one hour.
        let expected_timeout = SignedDuration::from_secs(((hours * 3.0).clamp(1.0, 24.0 * 30.0) * 3600.0) as i64);
        let named = |what: &str, own: &Option<String>, fleet: &Option<String>, built_in: &str| {
            let name = own.as_deref().or(fleet.as_deref()).unwrap_or(built_in);
            text(what, name).map(|()| name.to_owned())
        };
        Ok(Some(RetrainConfig {
            team: named("team", &self.team, &fleet.team, "default")?,
            stakes: self.stakes.or(fleet.stakes).unwrap_or_default(),
            resource: named("resource", &self.resource, &fleet.resource, if gpu_hours > 0.0 { "gpu" } else { "cpu" })?,
            cost: money("cost", cost)? + storage,
            rate: money("rate", rate)?,
            storage,
            budget: self.budget.or(fleet.budget).map(|limit| money("budget", limit)).transpose()?,
            value_per_point_per_day: self
                .value_per_point_per_day
                .or(fleet.value_per_point_per_day)
                .map(|value| money("value_per_point_per_day", value))
                .transpose()?,
            expected: match self.expected.or(fleet.expected) {
                Some(value) if !value.is_finite() => return Err(format!("expected = {value} is not a number")),
                expected => expected,
            },
            assumed_loss: x("assumed_loss", self.assumed_loss, fleet.assumed_loss)?,
            valid_for: length("valid_for", self.valid_for, fleet.valid_for, days(30))?,
            timeout: length("timeout", self.timeout, fleet.timeout, expected_timeout)?,
            deadline: length("deadline", self.deadline, fleet.deadline, days(7))?,
            retries: match self.retries.or(fleet.retries).unwrap_or(2) {
                few @ 0..=20 => few,
                many => return Err(format!("retries = {many} must be between 0 and 20")),
            },
            backoff: length("backoff", self.backoff, fleet.backoff, SignedDuration::from_mins(10))?,
            executor,
        }))
    }

    /// The executor, if this table sets one; `shared` holds the settings of commands.
    fn executor(&self, shared: &Self, folder: &Path) -> Validated<Option<ExecutorConfig>> {
        let command = self.command.as_ref().map(|arguments| {
            if arguments.first().is_none_or(|program| program.trim().is_empty()) {
                return Err("command runs nothing: its first word is the program".to_owned());
            }
            if arguments.iter().any(|argument| argument.contains('\0')) {
                return Err("command holds a zero byte".to_owned());
            }
            Ok(ExecutorConfig::Command(CommandConfig {
                arguments: arguments.clone(),
                folder: match &shared.folder {
                    Some(own) => local("folder", own, folder)?,
                    None => folder.to_owned(),
                },
                log_bytes: shared.log_bytes.unwrap_or(10 << 20).max(1 << 10),
                env: shared.env.iter().flatten().map(|name| variable(name)).collect::<Validated<_>>()?,
            }))
        });
        let webhook = self.webhook.as_ref().map(|table| {
            Ok(ExecutorConfig::Webhook(WebhookConfig {
                url: Endpoint::of(&table.url, &table.url_env, &table.url_file, folder)?,
                secret: SecretSource::of("secret", &table.secret_env, &table.secret_file, folder)?,
                results: table.results.as_ref().map(|results| local("results", results, folder)).transpose()?,
            }))
        });
        let kubernetes = self.kubernetes.as_ref().map(|table| {
            Ok(ExecutorConfig::Kubernetes(KubernetesConfig {
                manifest: local("manifest", &table.manifest, folder)?,
                namespace: table.namespace.clone(),
                context: table.context.clone(),
            }))
        });
        let airflow = self.airflow.as_ref().map(|table| {
            text("dag", &table.dag)?;
            let password = SecretSource::of("password", &table.password_env, &table.password_file, folder)?;
            if table.user.is_some() != password.is_some() {
                return Err("airflow: user and password_env or password_file go together".into());
            }
            Ok(ExecutorConfig::Airflow(AirflowConfig {
                url: Endpoint::of(&table.url, &table.url_env, &table.url_file, folder)?,
                dag: table.dag.clone(),
                token: SecretSource::of("token", &table.token_env, &table.token_file, folder)?,
                user: table.user.clone(),
                password,
                version_1: match table.api {
                    Some(1) => true,
                    None | Some(2) => false,
                    Some(other) => return Err(format!("airflow: api = {other}; it is 1 (Airflow 2) or 2 (Airflow 3)")),
                },
            }))
        });
        let mut given = [command, webhook, kubernetes, airflow].into_iter().flatten();
        match (given.next(), given.next()) {
            (_, Some(_)) => Err("give one of command, webhook, kubernetes and airflow".into()),
            (executor, None) => executor.transpose(),
        }
    }
}
