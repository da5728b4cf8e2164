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
use crate::features::{EventTableTable, FeatureSetTable, TrainerCommand};
use crate::governance::{BudgetTable, QueueTable};
use crate::labels::LabelTable;
use crate::literal::Literal;
use crate::retrain::RetrainTable;
use crate::rollout::RolloutTable;
use driftsweep::metric::Kind;
use driftsweep::metric::convention::{Convention, ConventionRules, DecisionRule};
use driftsweep::model::ColumnSettings;
use driftsweep::rule::PartialThresholds;
use driftsweep::snapshot::{Bound, Test};
use driftsweep_common::duration::Length;
use driftsweep_extensions::channel::NotifyTable;
use driftsweep_extensions::trigger::TriggerTable;
use driftsweep_training::gate::GateTable;

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetTable {
    /// The name of the fleet, in reports, events and the store. By default that of the file. Needed with `--store` or
    /// `$DRIFTSWEEP_STORE`; fleets that share a store need different names.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// When the sweep runs: a cron expression in `time_zone`. By default every night at 0:00.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(crate) sweep: Option<Located<String>>,
    /// The time zone of the schedules, and where days begin: a name such as `Europe/Berlin`. By default UTC.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(crate) time_zone: Option<Located<String>>,
    /// How long a model waits whose data are missing or unreadable. By default 8h; `0h` does not wait.
    #[serde(default)]
    pub(crate) wait_for_data: Option<Length>,
    /// Settings for all models.
    #[serde(default)]
    pub(crate) defaults: Located<Settings>,
    /// What retrains may cost.
    #[serde(default)]
    pub(crate) budget: Located<BudgetTable>,
    /// Which retrains need approval, and by whom.
    #[serde(default)]
    pub(crate) approval: Located<ApprovalTable>,
    /// How many trainings run at once.
    #[serde(default)]
    pub(crate) queue: Located<QueueTable>,
    /// Channels for messages.
    #[serde(default, rename = "notify")]
    pub(crate) channels: Vec<Located<NotifyTable>>,
    /// Tables of events, from which features are made: Parquet files, with the time of each event and the time from which it was
    /// known.
    #[serde(default)]
    pub(crate) event_table: Located<IndexMap<String, EventTableTable>>,
    /// Features, defined once: for training sets, and for what serving logged.
    #[serde(default)]
    pub(crate) feature_set: Located<IndexMap<String, FeatureSetTable>>,
    /// The models.
    #[serde(default, rename = "model")]
    pub(crate) models: Vec<Located<ModelTable>>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    /// The name of the model.
    pub(crate) name: String,
    /// What it was trained on: a baseline file, a snapshot (a file, a folder, a pattern or an address), or `previous`
    /// for the window before. Paths are relative to the fleet file.
    pub(crate) baseline: String,
    /// What it sees in production: a snapshot; `{day}` stands for the day before the sweep. Or a table of windows
    /// with a path each.
    pub(crate) current: Current,
    /// The column with the times of the rows; needed for windows.
    #[serde(default)]
    pub(crate) time: Option<String>,
    /// Where days begin for this model. By default as for the fleet.
    #[serde(default)]
    pub(crate) time_zone: Option<String>,
    /// Periods that are compared on their own: `hour`, `day`, `week`, `month`, or a length such as `7d`.
    #[serde(default)]
    pub(crate) windows: Vec<String>,
    /// Columns whose most frequent values are compared on their own, as segments.
    #[serde(default)]
    pub(crate) slice_by: Vec<String>,
    /// Segments: a name, and conditions on columns that must all hold.
    #[serde(default)]
    pub(crate) segment: IndexMap<String, IndexMap<String, ConditionTable>>,
    /// How important the model is. More important models come first. By default 1.
    #[serde(default)]
    pub(crate) importance: Option<f64>,
    /// Only these columns are compared, and the prediction, score and label of `[model.labels]`, as outcomes.
    #[serde(default)]
    pub(crate) features: Option<BTreeSet<String>>,
    /// Columns that are not compared; except the prediction, score and label of `[model.labels]`, which are compared as
    /// outcomes.
    #[serde(default)]
    pub(crate) exclude: BTreeSet<String>,
    /// The metrics to compute. By default all.
    #[serde(default)]
    pub(crate) metrics: Option<Vec<String>>,
    /// The number of bins for PSI, 2 to 1000. By default 10.
    #[serde(default)]
    pub(crate) bins: Option<usize>,
    /// The largest number of distinct categories; more are pooled. By default 1048576.
    #[serde(default)]
    pub(crate) category_limit: Option<usize>,
    /// The figures and rule of another tool; `none` takes a model out of a default.
    #[serde(default)]
    pub(crate) convention: Option<ConventionSetting>,
    /// Thresholds of this model.
    #[serde(default)]
    pub(crate) thresholds: PartialThresholds,
    /// Triggers of this model.
    #[serde(default)]
    pub(crate) trigger: TriggerTable,
    /// How predictions are joined with labels.
    #[serde(default)]
    pub(crate) labels: Option<LabelTable>,
    /// The feature set that it is trained on.
    #[serde(default)]
    pub(crate) feature_set: Option<String>,
    /// The trainer that `driftsweep train` uses; by default boosted trees.
    #[serde(default)]
    pub(crate) trainer: Option<driftsweep_trainers::Settings>,
    /// Programs that `driftsweep train` uses in place of a built-in trainer.
    #[serde(default)]
    pub(crate) trainer_command: Option<TrainerCommand>,
    /// How the model is trained.
    #[serde(default)]
    pub(crate) retrain: RetrainTable,
    /// What a candidate must show before it may take the place of the champion.
    #[serde(default)]
    pub(crate) gates: Option<GateTable>,
    /// How an accepted candidate is released.
    #[serde(default)]
    pub(crate) rollout: Option<RolloutTable>,
    /// Settings of single columns.
    #[serde(default)]
    pub(crate) feature: BTreeMap<String, FeatureTable>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) enum ConditionTable {
    One(Literal),
    Several(Vec<Literal>),
    Bounds(Bounds),
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    /// The smallest value.
    pub(crate) from: Option<Bound>,
    /// Values are below this one.
    pub(crate) below: Option<Bound>,
    /// Whether the value is missing.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The metrics to compute. By default all.
    #[serde(default)]
    pub(crate) metrics: Option<Vec<String>>,
    /// The number of bins for PSI, 2 to 1000. By default 10.
    #[serde(default)]
    pub(crate) bins: Option<usize>,
    /// The largest number of distinct categories; more are pooled. By default 1048576.
    #[serde(default)]
    pub(crate) category_limit: Option<usize>,
    /// The figures and rule of another tool; `none` takes a model out of a default.
    #[serde(default)]
    pub(crate) convention: Option<ConventionSetting>,
    /// Thresholds of all features.
    #[serde(default)]
    pub(crate) thresholds: Located<PartialThresholds>,
    /// Triggers of all models.
    #[serde(default)]
    pub(crate) trigger: Located<TriggerTable>,
    /// How models are trained.
    #[serde(default)]
    pub(crate) retrain: Located<RetrainTable>,
    /// What the candidates of all models must show.
    #[serde(default)]
    pub(crate) gates: Located<Option<GateTable>>,
}

/// `convention = "evidently"`, `"none"`, or a table that also says which figure decides. Checked as it is read, so that
/// a mistake is reported where it stands.
pub(crate) struct ConventionSetting(pub(crate) Option<ConventionRules>);

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ConventionTable {
    /// The tool.
    #[cfg_attr(feature = "schema", schemars(with = "Convention"))]
    pub(crate) name: String,
    /// The figure that decides for numbers, and its limit.
    #[serde(default)]
    pub(crate) numeric: Option<DecisionRule>,
    /// The figure that decides for categories, and its limit.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct FeatureTable {
    /// How the column is read. By default by its type.
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
    /// How important the column is within its model. By default 1.
    #[serde(default)]
    pub(crate) importance: Option<f64>,
    /// Thresholds of this column.
    #[serde(default)]
    pub(crate) thresholds: PartialThresholds,
}

impl FeatureTable {
    pub(crate) fn settings(self) -> ColumnSettings {
        ColumnSettings { kind: self.kind, importance: self.importance, thresholds: self.thresholds }
    }
}
