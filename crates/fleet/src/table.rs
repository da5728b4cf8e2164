//! The TOML structure of the fleet file: one struct per table, with the checks of a single table.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use indexmap::IndexMap;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::approval::ApprovalTable;
use crate::checks::Validated;
use crate::document::Located;
use crate::governance::{BudgetTable, QueueTable};
use crate::labels::LabelTable;
use crate::literal::Literal;
use crate::retrain::RetrainTable;
use driftsweep::metric::Kind;
use driftsweep::metric::convention::{Convention, ConventionRules, DecisionRule};
use driftsweep::model::ColumnSettings;
use driftsweep::rule::PartialThresholds;
use driftsweep::snapshot::{Bound, Test};
use driftsweep_common::duration::Length;
use driftsweep_extensions::channel::NotifyTable;
use driftsweep_extensions::trigger::TriggerTable;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetTable {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) sweep: Option<Located<String>>,
    #[serde(default)]
    pub(crate) time_zone: Option<Located<String>>,
    #[serde(default)]
    pub(crate) wait_for_data: Option<Length>,
    #[serde(default)]
    pub(crate) defaults: Located<Settings>,
    #[serde(default)]
    pub(crate) budget: Located<BudgetTable>,
    #[serde(default)]
    pub(crate) approval: Located<ApprovalTable>,
    #[serde(default)]
    pub(crate) queue: Located<QueueTable>,
    #[serde(default, rename = "notify")]
    pub(crate) channels: Vec<Located<NotifyTable>>,
    #[serde(default, rename = "model")]
    pub(crate) models: Vec<Located<ModelTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    pub(crate) name: String,
    pub(crate) baseline: String,
    pub(crate) current: Current,
    #[serde(default)]
    pub(crate) time: Option<String>,
    #[serde(default)]
    pub(crate) time_zone: Option<String>,
    #[serde(default)]
    pub(crate) windows: Vec<String>,
    #[serde(default)]
    pub(crate) slice_by: Vec<String>,
    #[serde(default)]
    pub(crate) segment: IndexMap<String, IndexMap<String, ConditionTable>>,
    #[serde(default)]
    pub(crate) importance: Option<f64>,
    #[serde(default)]
    pub(crate) features: Option<BTreeSet<String>>,
    #[serde(default)]
    pub(crate) exclude: BTreeSet<String>,
    #[serde(default)]
    pub(crate) metrics: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) bins: Option<usize>,
    #[serde(default)]
    pub(crate) category_limit: Option<usize>,
    #[serde(default)]
    pub(crate) convention: Option<ConventionSetting>,
    #[serde(default)]
    pub(crate) thresholds: PartialThresholds,
    #[serde(default)]
    pub(crate) trigger: TriggerTable,
    #[serde(default)]
    pub(crate) labels: Option<LabelTable>,
    #[serde(default)]
    pub(crate) retrain: RetrainTable,
    #[serde(default)]
    pub(crate) feature: BTreeMap<String, FeatureTable>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "give a path, or a table of windows with a path each")]
pub(crate) enum Current {
    One(String),
    Windows(IndexMap<String, String>),
}

/// A condition on a column: a value, several, or a table of bounds.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a condition is a string, boolean or integer, a list of them, { from = 1, below = 2 } or { missing = true }"
)]
pub(crate) enum ConditionTable {
    One(Literal),
    Several(Vec<Literal>),
    Bounds(Bounds),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    pub(crate) from: Option<Bound>,
    pub(crate) below: Option<Bound>,
    pub(crate) missing: Option<bool>,
}

impl ConditionTable {
    pub(crate) fn test(self) -> Validated<Test> {
        match self {
            Self::One(literal) => Ok(Test::Among(vec![literal.text()])),
            Self::Several(literals) if literals.is_empty() => Err("no values are given".into()),
            Self::Several(literals) => Ok(Test::Among(literals.into_iter().map(Literal::text).collect())),
            Self::Bounds(Bounds { from: None, below: None, missing: Some(missing) }) => Ok(Test::Missing(missing)),
            Self::Bounds(Bounds { from, below, missing: None }) if from.or(below).is_some() => {
                let [least, most] = [from, below].map(|bound| bound.map(Bound::number));
                let empty = least.zip(most).is_some_and(|(from, below)| from > below);
                if empty || [least, most].into_iter().flatten().any(f64::is_nan) {
                    return Err("no number is between its bounds".into());
                }
                Ok(Test::Between { from, below })
            }
            Self::Bounds(_) => Err("give from, below or both, or missing".into()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) metrics: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) bins: Option<usize>,
    #[serde(default)]
    pub(crate) category_limit: Option<usize>,
    #[serde(default)]
    pub(crate) convention: Option<ConventionSetting>,
    #[serde(default)]
    pub(crate) thresholds: Located<PartialThresholds>,
    #[serde(default)]
    pub(crate) trigger: Located<TriggerTable>,
    #[serde(default)]
    pub(crate) retrain: Located<RetrainTable>,
}

/// `convention = "evidently"`, `"none"`, or a table that also says which figure decides. Checked as it is read, so that
/// a mistake is reported where it stands.
pub(crate) struct ConventionSetting(pub(crate) Option<ConventionRules>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConventionTable {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) numeric: Option<DecisionRule>,
    #[serde(default)]
    pub(crate) categorical: Option<DecisionRule>,
}

impl<'de> Deserialize<'de> for ConventionSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ConventionVisitor;

        impl<'de> Visitor<'de> for ConventionVisitor {
            type Value = ConventionSetting;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a convention, or a table with name, numeric and categorical")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Self::Value, E> {
                if name == "none" {
                    return Ok(ConventionSetting(None));
                }
                let convention = Convention::from_str(name).map_err(E::custom)?;
                Ok(ConventionSetting(Some(ConventionRules::new(convention))))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Self::Value, A::Error> {
                let table = ConventionTable::deserialize(MapAccessDeserializer::new(map))?;
                let custom = <A::Error as serde::de::Error>::custom::<String>;
                let convention = Convention::from_str(&table.name).map_err(|e| custom(e.to_string()))?;
                let rules = [(Kind::Numeric, table.numeric), (Kind::Categorical, table.categorical)];
                let conventional =
                    rules.into_iter().try_fold(ConventionRules::new(convention), |conventional, (kind, rule)| {
                        rule.map_or(Ok(conventional), |rule| conventional.with_rule(kind, rule))
                    });
                Ok(ConventionSetting(Some(conventional.map_err(custom)?)))
            }
        }

        deserializer.deserialize_any(ConventionVisitor)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeatureTable {
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
    #[serde(default)]
    pub(crate) importance: Option<f64>,
    #[serde(default)]
    pub(crate) thresholds: PartialThresholds,
}

impl FeatureTable {
    pub(crate) fn settings(self) -> ColumnSettings {
        ColumnSettings { kind: self.kind, importance: self.importance, thresholds: self.thresholds }
    }
}
