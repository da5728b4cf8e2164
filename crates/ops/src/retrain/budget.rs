//! Monthly budgets: of the fleet, of each team, of each model.

use std::collections::HashMap;
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use driftsweep_fleet::{BudgetConfig, Currency, Money, RetrainConfig};

/// The scope of a budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// The whole fleet's.
    Fleet,
    /// A team's.
    Team(String),
    /// A model's.
    Model(String),
}

impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("the fleet"),
            Self::Team(team) => write!(f, "team {}", team.escape_debug()),
            Self::Model(model) => write!(f, "model {}", model.escape_debug()),
        }
    }
}

/// A budget that a job would overrun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrun {
    /// Its scope.
    pub scope: BudgetScope,
    /// The month, by its first day.
    pub month: Date,
    /// The budget.
    pub budget: Money,
    /// The amount of the overrun.
    pub by: Money,
}

impl Overrun {
    /// A sentence about the overrun.
    pub fn sentence(&self, currency: &Currency) -> String {
        let [budget, by] = [self.budget, self.by].map(|amount| currency.show(amount));
        let month = self.month.strftime("%Y-%m");
        format!("the budget of {} for {month}, {budget}, would be overrun by {by}", self.scope)
    }
}

/// The amounts spent and reserved in one month.
#[derive(Clone, Debug)]
pub struct Ledger {
    month: Date,
    spent: HashMap<BudgetScope, Money>,
    committed: HashMap<BudgetScope, Money>,
}

/// The status of a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetStatus {
    /// Its scope.
    pub scope: BudgetScope,
    /// The budget of the month.
    pub budget: Money,
    /// Spent by runs that have ended.
    pub spent: Money,
    /// Reserved for running runs.
    pub committed: Money,
    /// The forecast of spending at the end of the month, at the current rate.
    pub forecast: Money,
    /// Whether the warning level is reached.
    pub warns: bool,
}

impl Ledger {
    /// Empty, for the month of a time.
    pub fn new(at: Timestamp, zone: &TimeZone) -> Self {
        let month = at.to_zoned(zone.clone()).date().first_of_month();
        Self { month, spent: HashMap::new(), committed: HashMap::new() }
    }

    /// The month, by its first day.
    pub fn month(&self) -> Date {
        self.month
    }

    /// When the month begins and ends.
    pub fn span(&self, zone: &TimeZone) -> (Timestamp, Timestamp) {
        let start = |date: Date| date.to_zoned(zone.clone()).map_or(Timestamp::MAX, |zoned| zoned.timestamp());
        (start(self.month), self.month.checked_add(1.month()).map_or(Timestamp::MAX, start))
    }

    /// Reserves an amount for a run of a model and team.
    pub fn commit(&mut self, model: &str, team: &str, amount: Money) {
        for scope in scopes(model, team) {
            *self.committed.entry(scope).or_default() += amount;
        }
    }

    /// Replaces the reserved amount of a run that has ended by its cost.
    pub fn settle(&mut self, model: &str, team: &str, committed: Money, cost: Money) {
        self.commit(model, team, -committed);
        self.spend(model, team, cost);
    }

    /// Adds the cost of a run that has ended.
    pub fn spend(&mut self, model: &str, team: &str, cost: Money) {
        for scope in scopes(model, team) {
            *self.spent.entry(scope).or_default() += cost;
        }
    }

    /// The budgets that would be overrun by starting a run of a model with a reserved amount.
    pub fn overruns(&self, budget: &BudgetConfig, model: &str, retrain: &RetrainConfig, amount: Money) -> Vec<Overrun> {
        let limits = scopes(model, &retrain.team).into_iter().filter_map(|scope| {
            let limit = limit(budget, &scope, retrain.budget)?;
            let by = self.taken(&scope) + amount - limit;
            (by > Money::ZERO).then_some(Overrun { scope, month: self.month, budget: limit, by })
        });
        limits.collect()
    }

    fn taken(&self, scope: &BudgetScope) -> Money {
        let of = |sums: &HashMap<BudgetScope, Money>| sums.get(scope).copied().unwrap_or_default();
        of(&self.spent) + of(&self.committed)
    }

    /// The status of a budget at a time in the month, or after it.
    pub fn status(
        &self,
        budget: &BudgetConfig,
        scope: BudgetScope,
        limit: Money,
        now: Timestamp,
        zone: &TimeZone,
    ) -> BudgetStatus {
        let of = |sums: &HashMap<BudgetScope, Money>| sums.get(&scope).copied().unwrap_or_default();
        let (spent, committed) = (of(&self.spent), of(&self.committed));
        let (from, to) = self.span(zone);
        let gone = now.duration_since(from).as_secs_f64();
        let left = to.duration_since(now).as_secs_f64().max(0.0);
        // The first day is not enough for a forecast.
        let rate = if gone > 86_400.0 { left / gone } else { 0.0 };
        let forecast = spent + committed + spent.times(rate);
        let warns = spent + committed >= limit.times(budget.warning);
        BudgetStatus { scope, budget: limit, spent, committed, forecast, warns }
    }
}

/// The budget of a scope, where there is one.
pub fn limit(budget: &BudgetConfig, scope: &BudgetScope, of_model: Option<Money>) -> Option<Money> {
    match scope {
        BudgetScope::Fleet => Some(budget.month),
        BudgetScope::Team(team) => budget.teams.get(team).copied(),
        BudgetScope::Model(_) => of_model,
    }
}

fn scopes(model: &str, team: &str) -> [BudgetScope; 3] {
    [BudgetScope::Fleet, BudgetScope::Team(team.into()), BudgetScope::Model(model.into())]
}

#[cfg(test)]
mod tests {
    use super::super::approval::{Grant, allows};
    use super::*;
    use driftsweep_fleet::Fleet;

    fn dollars(x: i64) -> Money {
        Money::from_cents(100 * x)
    }

    #[test]
    fn each_budget_is_held_and_an_overrun_is_allowed_by_its_name_and_size_only() {
        let text = "[budget]\nmonth = 1000\nteams = { risk = 300 }\n[approval]\napprovers = [[\"ana\"]]\n[[model]]\nname = \"m\"\n\
                    baseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\ncommand = [\"true\"]\nteam = \"risk\"\nbudget = 200\n";
        let fleet = Fleet::parse(text, "f.toml".as_ref(), &driftsweep::model::Options::new()).unwrap();
        let (budget, retrain) = (&fleet.governance.budget, fleet.models[0].retrain.as_ref().unwrap());
        let now: Timestamp = "2026-11-16T00:00:00Z".parse().unwrap();
        let mut ledger = Ledger::new(now, &TimeZone::UTC);
        ledger.commit("other", "growth", dollars(600));
        ledger.settle("other", "growth", dollars(600), dollars(700));
        ledger.commit("m", "risk", dollars(150));
        let over = |ledger: &Ledger, amount| ledger.overruns(budget, "m", retrain, dollars(amount));
        assert_eq!(over(&ledger, 50), []);
        let [model] = &over(&ledger, 51)[..] else { panic!() };
        assert_eq!((&model.scope, model.by), (&BudgetScope::Model("m".into()), dollars(1)));
        assert_eq!(over(&ledger, 151).len(), 3, "model, team and fleet");
        let grant =
            |overrun: &Overrun| Grant { overruns: vec![overrun.clone()], ..Grant::by_policy(String::new(), now) };
        let grants = [grant(model)];
        assert!(allows(&grants, model));
        assert!(!allows(&grants, &Overrun { by: dollars(2), ..model.clone() }));
        assert!(!allows(&grants, &Overrun { scope: BudgetScope::Fleet, ..model.clone() }));
        assert!(!allows(&grants, &Overrun { month: model.month.tomorrow().unwrap(), ..model.clone() }));
        let status = ledger.status(budget, BudgetScope::Fleet, budget.month, now, &TimeZone::UTC);
        // Half the month has cost 700, and 150 are set aside.
        assert_eq!((status.spent, status.committed), (dollars(700), dollars(150)));
        assert_eq!((status.forecast, status.warns), (dollars(1550), true));
    }

    #[test]
    fn a_month_is_that_of_the_fleets_zone() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let ledger = Ledger::new("2026-12-01T04:59:59Z".parse().unwrap(), &zone);
        assert_eq!(ledger.month().to_string(), "2026-11-01");
        assert_eq!(ledger.span(&zone).1.to_string(), "2026-12-01T05:00:00Z");
    }
}
