//! The TOML structure of the fleet file: one struct per table, with the checks of a single table.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use indexmap::IndexMap;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::approval::ApprovalTable;
use super::channel::ChannelTable;
use super::labels::LabelTable;
use super::policy::TriggerTable;
use super::retrain::{BudgetTable, QueueTable, RetrainTable};
use crate::metric::Kind;
use crate::metric::convention::{Convention, ConventionRules, DecisionRule};
use crate::model::ColumnSettings;
use crate::rule::PartialThresholds;
use crate::snapshot::{Bound, Test};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetTable {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) sweep: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) time_zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) wait_for_data: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) defaults: Settings,
    #[serde(default)]
    pub(super) budget: BudgetTable,
    #[serde(default)]
    pub(super) approval: ApprovalTable,
    #[serde(default)]
    pub(super) queue: QueueTable,
    #[serde(default, rename = "notify")]
    pub(super) channels: Vec<Spanned<ChannelTable>>,
    #[serde(default, rename = "model")]
    pub(super) models: Vec<Spanned<ModelTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelTable {
    pub(super) name: String,
    pub(super) baseline: String,
    pub(super) current: Current,
    #[serde(default)]
    pub(super) time: Option<String>,
    #[serde(default)]
    pub(super) time_zone: Option<String>,
    #[serde(default)]
    pub(super) windows: Vec<String>,
    #[serde(default)]
    pub(super) slice_by: Vec<String>,
    #[serde(default)]
    pub(super) segment: IndexMap<String, IndexMap<String, ConditionTable>>,
    #[serde(default)]
    pub(super) importance: Option<f64>,
    #[serde(default)]
    pub(super) features: Option<BTreeSet<String>>,
    #[serde(default)]
    pub(super) exclude: BTreeSet<String>,
    #[serde(default)]
    pub(super) metrics: Option<Vec<String>>,
    #[serde(default)]
    pub(super) bins: Option<usize>,
    #[serde(default)]
    pub(super) category_limit: Option<usize>,
    #[serde(default)]
    pub(super) convention: Option<ConventionSetting>,
    #[serde(default)]
    pub(super) thresholds: PartialThresholds,
    #[serde(default)]
    pub(super) trigger: TriggerTable,
    #[serde(default)]
    pub(super) labels: Option<LabelTable>,
    #[serde(default)]
    pub(super) retrain: RetrainTable,
    #[serde(default)]
    pub(super) feature: BTreeMap<String, FeatureTable>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "give a path, or a table of windows with a path each")]
pub(super) enum Current {
    One(String),
    Windows(IndexMap<String, String>),
}

/// A condition on a column: a value, several, or a table of bounds.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a condition is a string, boolean or integer, a list of them, { from = 1, below = 2 } or { missing = true }"
)]
pub(super) enum ConditionTable {
    One(Literal),
    Several(Vec<Literal>),
    Bounds(Bounds),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "give a string, a whole number, true or false")]
pub(super) enum Literal {
    Text(String),
    Integer(i64),
    Flag(bool),
}

impl Literal {
    pub(super) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub(super) from: Option<Bound>,
    pub(super) below: Option<Bound>,
    pub(super) missing: Option<bool>,
}

impl ConditionTable {
    pub(super) fn test(self) -> std::result::Result<Test, String> {
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
pub(super) struct Settings {
    #[serde(default)]
    pub(super) metrics: Option<Vec<String>>,
    #[serde(default)]
    pub(super) bins: Option<usize>,
    #[serde(default)]
    pub(super) category_limit: Option<usize>,
    #[serde(default)]
    pub(super) convention: Option<ConventionSetting>,
    #[serde(default)]
    pub(super) thresholds: PartialThresholds,
    #[serde(default)]
    pub(super) trigger: TriggerTable,
    #[serde(default)]
    pub(super) retrain: RetrainTable,
}

/// `convention = "evidently"`, `"none"`, or a table that also says which figure decides. Checked as it is read, so that
/// a mistake is reported where it stands.
pub(super) struct ConventionSetting(pub(super) Option<ConventionRules>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConventionTable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) numeric: Option<DecisionRule>,
    #[serde(default)]
    pub(super) categorical: Option<DecisionRule>,
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
pub(super) struct FeatureTable {
    #[serde(default)]
    pub(super) kind: Option<Kind>,
    #[serde(default)]
    pub(super) importance: Option<f64>,
    #[serde(default)]
    pub(super) thresholds: PartialThresholds,
}

impl FeatureTable {
    pub(super) fn settings(self) -> ColumnSettings {
        ColumnSettings { kind: self.kind, importance: self.importance, thresholds: self.thresholds }
    }
}
