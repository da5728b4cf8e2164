//! The rules for trainings of the whole fleet: `[budget]`, `[approval]` and `[queue]` of the fleet file.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::approval::ApprovalRules;
use crate::checks::{Validated, in_range, money, text};
use driftsweep_extensions::value::{Currency, Money};

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

#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetTable {
    /// What all trainings may cost in a month. By default 10000.
    month: Option<f64>,
    /// The share of a budget from which on a message warns. By default 0.8.
    warning: Option<f64>,
    /// The currency of all amounts. By default USD.
    currency: Option<String>,
    /// Budgets of teams.
    #[serde(default)]
    teams: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueTable {
    /// Trainings that run at once. By default 4.
    max_concurrent: Option<usize>,
    /// Trainings of a team that run at once.
    per_team: Option<usize>,
    /// Trainings that run at once on a kind of machine.
    #[serde(default)]
    resources: BTreeMap<String, usize>,
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
            warning: in_range("warning", self.warning.unwrap_or(0.8), 0.0..=1.0)?,
            currency: self.currency.as_deref().map_or_else(|| Ok(Currency::default()), Currency::parse)?,
        })
    }
}

impl QueueTable {
    pub(crate) fn check(&self) -> Validated<ConcurrencyLimits> {
        let resources = self.resources.iter().map(|(name, most)| Ok((name.clone(), slot_count(name, *most)?)));
        Ok(ConcurrencyLimits {
            fleet: slot_count("max_concurrent", self.max_concurrent.unwrap_or(4))?,
            team: self.per_team.map(|most| slot_count("per_team", most)).transpose()?,
            resources: resources.collect::<Validated<_>>()?,
        })
    }
}
