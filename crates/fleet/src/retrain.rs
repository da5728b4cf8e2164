//! Training settings of a model: cost and value, limits of time, and executors.

use std::path::Path;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::checks::{Validated, in_range, money, text};
use driftsweep_common::duration::Length;
use driftsweep_extensions::executor::command::CommandKeys;
use driftsweep_extensions::executor::{ExecutorConfig, ExecutorTable, TableContext};
use driftsweep_extensions::value::{Money, listed};

/// The stakes of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stakes {
    /// Little.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// High: each training needs approval, unless a rule in `automatic` is for high stakes.
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

macro_rules! retrain_table {
    ($($(#[$doc:meta])* $variant:ident($key:ident): $table:ty => $settings:ty,)*) => {
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub(crate) struct RetrainTable {
            /// The team whose budget is used. By default `default`.
            team: Option<String>,
            /// What is at stake: `low`, `normal` (the default) or `high`. At `high` each training needs approval,
            /// unless a rule in `automatic` is for high stakes.
            stakes: Option<Stakes>,
            /// The kind of machine, for limits of the queue. By default `gpu` where `gpu_hours` is set, else `cpu`.
            resource: Option<String>,
            /// Hours on a GPU that a training takes. By default 0.
            gpu_hours: Option<f64>,
            /// What an hour on a GPU costs. By default 0.
            gpu_rate: Option<f64>,
            /// Hours on a CPU that a training takes. By default 0.
            cpu_hours: Option<f64>,
            /// What an hour on a CPU costs. By default 0.
            cpu_rate: Option<f64>,
            /// What storing the result costs. By default 0.
            storage: Option<f64>,
            /// What the model may cost in a month.
            budget: Option<f64>,
            /// What a lost point of the metric costs in a day.
            value_per_point_per_day: Option<f64>,
            /// The value of the metric that a fresh model has. By default the best since the last training.
            expected: Option<f64>,
            /// Points that are taken to be lost where labels do not tell. By default 0.
            assumed_loss: Option<f64>,
            /// How long a training is of use. By default 30 days.
            valid_for: Option<Length>,
            /// After this time a training is stopped. By default three times the declared hours, from 1 hour to 30
            /// days.
            timeout: Option<Length>,
            /// A job that has not started this long after it was requested is given up (`timed_out`); a started run is
            /// bounded by `timeout`. By default 7d.
            deadline: Option<Length>,
            /// How often a failed training is tried again, at most 20. By default 2.
            retries: Option<u32>,
            /// The first delay between attempts; it doubles, up to about 24 hours. By default 10m.
            backoff: Option<Length>,
            /// Where `command` runs. By default the folder of the fleet file.
            folder: Option<String>,
            /// How many bytes of the output of `command` are kept. By default 10 MiB.
            log_bytes: Option<u64>,
            /// Environment variables that `command` gets besides the usual ones. Only with `command`.
            env: Option<Vec<String>>,
            $($(#[$doc])* $key: Option<$table>,)*
        }

        impl RetrainTable {
            /// The executors that this table sets.
            fn executors(&self, context: TableContext<'_>) -> Vec<Validated<ExecutorConfig>> {
                let set = [$(
                    self.$key.as_ref().map(|table| table.resolve(context).map(ExecutorConfig::$variant)),
                )*];
                set.into_iter().flatten().collect()
            }
        }
    };
}

driftsweep_extensions::with_executors!(retrain_table);

impl RetrainTable {
    /// The settings of a model over those of the fleet over what is built in; `None` if it has no training settings.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub(crate) fn over(&self, fleet: &Self, folder: &Path) -> Validated<Option<RetrainConfig>> {
        // The keys beside `command` are each taken from the nearest table, as all others are.
        let command = CommandKeys {
            folder: self.folder.clone().or_else(|| fleet.folder.clone()),
            log_bytes: self.log_bytes.or(fleet.log_bytes),
            env: self.env.clone().or_else(|| fleet.env.clone()),
        };
        let context = TableContext { folder, command: &command };
        let own = self.executor(context)?;
        let Some(executor) = own.map_or_else(|| fleet.executor(context), |own| Ok(Some(own)))? else {
            let blank = Self { team: None, ..self.clone() };
            return match blank == Self::default() {
                true => Ok(None),
                false => Err(format!("retrain names no executor; give {}", listed(ExecutorConfig::NAMES, "or"))),
            };
        };
        if self.env.is_some() && !executor.settings().uses_command_keys() {
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

    /// The executor, if this table sets one.
    fn executor(&self, context: TableContext<'_>) -> Validated<Option<ExecutorConfig>> {
        let mut set = self.executors(context).into_iter();
        match (set.next(), set.next()) {
            (_, Some(_)) => Err(format!("give one of {}", listed(ExecutorConfig::NAMES, "and"))),
            (executor, None) => executor.transpose(),
        }
    }
}
