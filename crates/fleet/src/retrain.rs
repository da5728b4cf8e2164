//! Training settings of the fleet file: cost and value, concurrency limits, and executors.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::approval::ApprovalRules;
use driftsweep_extensions::executor::command::CommandKeys;
use driftsweep_extensions::executor::{ExecutorConfig, ExecutorTable, TableContext};
use driftsweep_extensions::value::{Currency, Money, Validated, duration, listed, text};

/// The rules for training in the whole fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Governance {
    /// The budget.
    pub budget: BudgetConfig,
    /// The approval rules.
    pub approval: ApprovalRules,
    /// The concurrency limits.
    pub concurrency: ConcurrencyLimits,
}

/// The monthly budget.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    /// For the whole fleet.
    pub month: Money,
    /// For teams.
    pub teams: BTreeMap<String, Money>,
    /// The share of a budget at which a warning is sent.
    pub warning: f64,
    /// The currency of amounts.
    pub currency: Currency,
}

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

/// How many trainings may run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// In the fleet.
    pub fleet: usize,
    /// Of each team.
    pub team: Option<usize>,
    /// On each kind of resource.
    pub resources: BTreeMap<String, usize>,
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
    pub point_a_day: Option<Money>,
    /// The expected value of the metric; the best since the last training if absent.
    pub expected: Option<f64>,
    /// Points assumed as lost where a trigger fires and nothing is measured.
    pub assumed_loss: f64,
    /// How long the gain of a training lasts.
    pub holds: SignedDuration,
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

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetTable {
    month: Option<f64>,
    warning: Option<f64>,
    currency: Option<String>,
    #[serde(default)]
    teams: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueTable {
    at_once: Option<usize>,
    per_team: Option<usize>,
    #[serde(default)]
    resources: BTreeMap<String, usize>,
}

macro_rules! retrain_table {
    ($($(#[$doc:meta])* $variant:ident($key:ident): $table:ty => $settings:ty,)*) => {
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
            point_a_day: Option<f64>,
            expected: Option<f64>,
            assumed_loss: Option<f64>,
            holds: Option<String>,
            timeout: Option<String>,
            deadline: Option<String>,
            retries: Option<u32>,
            backoff: Option<String>,
            folder: Option<String>,
            log_bytes: Option<u64>,
            env: Option<Vec<String>>,
            $($key: Option<$table>,)*
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

pub(crate) fn money(what: &str, units: f64) -> Validated<Money> {
    let amount = Money::of(units).filter(|amount| *amount >= Money::ZERO);
    amount.ok_or_else(|| format!("{what} = {units} is not an amount of money: give 0 or more, at most a trillion"))
}

fn number(what: &str, value: f64, most: f64) -> Validated<f64> {
    if (0.0..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{what} = {value} must be between 0 and {most}"))
    }
}

fn slot_count(what: &str, value: usize) -> Validated<usize> {
    if (1..=100_000).contains(&value) { Ok(value) } else { Err(format!("{what} = {value} must be 1 or more")) }
}

impl BudgetTable {
    pub(crate) fn check(&self) -> Validated<BudgetConfig> {
        let teams = self.teams.iter().map(|(team, limit)| {
            text("team", team)?;
            Ok((team.clone(), money(team, *limit)?))
        });
        Ok(BudgetConfig {
            month: money("month", self.month.unwrap_or(10_000.0))?,
            teams: teams.collect::<Validated<_>>()?,
            warning: number("warning", self.warning.unwrap_or(0.8), 1.0)?,
            currency: self.currency.as_deref().map_or_else(|| Ok(Currency::default()), Currency::parse)?,
        })
    }
}

impl QueueTable {
    pub(crate) fn check(&self) -> Validated<ConcurrencyLimits> {
        let resources = self.resources.iter().map(|(name, most)| Ok((name.clone(), slot_count(name, *most)?)));
        Ok(ConcurrencyLimits {
            fleet: slot_count("at_once", self.at_once.unwrap_or(4))?,
            team: self.per_team.map(|most| slot_count("per_team", most)).transpose()?,
            resources: resources.collect::<Validated<_>>()?,
        })
    }
}

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
        let x = |what, own: Option<f64>, fleet: Option<f64>, most| number(what, own.or(fleet).unwrap_or(0.0), most);
        let gpu_hours = x("gpu_hours", self.gpu_hours, fleet.gpu_hours, 1e6)?;
        let cpu_hours = x("cpu_hours", self.cpu_hours, fleet.cpu_hours, 1e6)?;
        let gpu_rate = x("gpu_rate", self.gpu_rate, fleet.gpu_rate, 1e6)?;
        let cpu_rate = x("cpu_rate", self.cpu_rate, fleet.cpu_rate, 1e6)?;
        let storage = money("storage", self.storage.or(fleet.storage).unwrap_or(0.0))?;
        let hours = gpu_hours.max(cpu_hours);
        let cost = gpu_hours * gpu_rate + cpu_hours * cpu_rate;
        // The cost per hour of duration: the declared cost divided by the longer of the two declared durations.
        let rate = if hours > 0.0 { cost / hours } else { gpu_rate + cpu_rate };
        let length = |what: &str, own: &Option<String>, fleet: &Option<String>, built_in: &str| {
            let found = duration(what, own.as_deref().or(fleet.as_deref()).unwrap_or(built_in))?;
            if found.is_zero() { Err(format!("{what} = \"0\" leaves no time")) } else { Ok(found) }
        };
        let timeout = match (&self.timeout, &fleet.timeout) {
            // Three times the expected duration, but at least one hour.
            (None, None) => SignedDuration::from_secs(((hours * 3.0).clamp(1.0, 24.0 * 30.0) * 3600.0) as i64),
            (own, fleet) => length("timeout", own, fleet, "")?,
        };
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
            point_a_day: self.point_a_day.or(fleet.point_a_day).map(|x| money("point_a_day", x)).transpose()?,
            expected: match self.expected.or(fleet.expected) {
                Some(value) if !value.is_finite() => return Err(format!("expected = {value} is not a number")),
                expected => expected,
            },
            assumed_loss: x("assumed_loss", self.assumed_loss, fleet.assumed_loss, 1e6)?,
            holds: length("holds", &self.holds, &fleet.holds, "30d")?,
            timeout,
            deadline: length("deadline", &self.deadline, &fleet.deadline, "7d")?,
            retries: match self.retries.or(fleet.retries).unwrap_or(2) {
                few @ 0..=20 => few,
                many => return Err(format!("retries = {many} must be between 0 and 20")),
            },
            backoff: length("backoff", &self.backoff, &fleet.backoff, "10m")?,
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
