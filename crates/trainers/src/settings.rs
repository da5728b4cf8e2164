//! The settings of the trainers, as a fleet file declares them.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Trainer;
use crate::online::OnlineTrainer;

/// Which trainer, and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Settings {
    /// Boosted trees, fitted anew.
    Batch(BatchSettings),
    /// A linear or logistic model, updated one example at a time.
    Online(OnlineSettings),
    /// The weighted mean of both.
    Hybrid(HybridSettings),
}

/// Settings of boosted trees. Names and defaults are XGBoost's, except for those whose default is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// The largest number of rounds, each of which adds a tree. By default 200.
    pub rounds: usize,
    /// The largest depth of a tree. By default 6.
    pub depth: usize,
    /// The share of each tree's step that is taken (`eta`). By default 0.1.
    pub learning_rate: f64,
    /// The smallest sum of second derivatives of the loss in a leaf. By default 1.
    pub min_child_weight: f64,
    /// The L2 penalty of the values of leaves. By default 1.
    pub lambda: f64,
    /// The share of rows that each tree is grown from. By default 1, all.
    pub subsample: f64,
    /// The share of rows, the last in time, that is held out to find the number of rounds; then so many are grown from all
    /// rows. 0 turns it off. By default 0.1.
    pub early_stopping_share: f64,
    /// After so many rounds without a better loss on the rows held out, the search for the number of rounds stops. By default
    /// 20.
    pub early_stopping_rounds: usize,
    /// The seed of `subsample`. By default 0.
    pub seed: u64,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            rounds: 200,
            depth: 6,
            learning_rate: 0.1,
            min_child_weight: 1.0,
            lambda: 1.0,
            subsample: 1.0,
            early_stopping_share: 0.1,
            early_stopping_rounds: 20,
            seed: 0,
        }
    }
}

/// Settings of the online learner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OnlineSettings {
    /// How weights are updated. By default `ftrl`.
    pub optimizer: Optimizer,
    /// The constant learning rate of the intercept with `sgd` and `adagrad`. `ftrl` learns it like a weight, without
    /// penalties. By default 0.01.
    pub intercept_learning_rate: f64,
    /// Whether numbers are standardised by their running mean and standard deviation. By default true.
    pub standardize: bool,
    /// Whether the target of a regression is, too. By default true.
    pub standardize_target: bool,
    /// Whether each column of numbers has a second weight for the case that the number is missing. By default false.
    pub missing_indicator: bool,
    /// Categories share 2 to this power weights. By default 18, which is 262,144.
    pub hash_bits: u32,
    /// The largest absolute derivative of the loss by the prediction; larger ones are cut. By default 1e12.
    pub clip_gradient: f64,
}

impl Default for OnlineSettings {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::Ftrl(FtrlSettings::default()),
            intercept_learning_rate: 0.01,
            standardize: true,
            standardize_target: true,
            missing_indicator: false,
            hash_bits: 18,
            clip_gradient: 1e12,
        }
    }
}

/// How the online learner updates its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind")]
pub enum Optimizer {
    /// Stochastic gradient descent.
    #[serde(rename = "sgd")]
    Sgd(SgdSettings),
    /// AdaGrad (Duchi, Hazan and Singer 2011): a learning rate for each weight.
    #[serde(rename = "adagrad")]
    AdaGrad(AdaGradSettings),
    /// FTRL-Proximal (McMahan and others 2013): the same with sparse weights.
    #[serde(rename = "ftrl")]
    Ftrl(FtrlSettings),
}

/// Settings of stochastic gradient descent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SgdSettings {
    /// The learning rate of the first example. By default 0.01.
    pub learning_rate: f64,
    /// The learning rate of example t, counted from 1, is divided by t to this power. 0, the default, keeps it constant; 0.5
    /// is usual.
    pub power: f64,
    /// The L2 penalty. By default 0.
    pub l2: f64,
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self { learning_rate: 0.01, power: 0.0, l2: 0.0 }
    }
}

/// Settings of AdaGrad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AdaGradSettings {
    /// The learning rate. By default 0.1.
    pub learning_rate: f64,
    /// What is added to the sum of squared gradients. By default 1e-8.
    pub epsilon: f64,
    /// The L2 penalty. By default 0.
    pub l2: f64,
}

impl Default for AdaGradSettings {
    fn default() -> Self {
        Self { learning_rate: 0.1, epsilon: 1e-8, l2: 0.0 }
    }
}

/// Settings of FTRL-Proximal, with the names of McMahan and others 2013.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FtrlSettings {
    /// The learning rate. By default 0.1.
    pub alpha: f64,
    /// What is added to the root of the sum of squared gradients. By default 1.
    pub beta: f64,
    /// The L1 penalty; weights that it outweighs are 0. By default 0.
    pub l1: f64,
    /// The L2 penalty. By default 0.
    pub l2: f64,
}

impl Default for FtrlSettings {
    fn default() -> Self {
        Self { alpha: 0.1, beta: 1.0, l1: 0.0, l2: 0.0 }
    }
}

/// Settings of the weighted mean of an online and a batch model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct HybridSettings {
    /// Settings of the online model.
    pub online: OnlineSettings,
    /// Settings of the batch model.
    pub batch: BatchSettings,
    /// The weight of the online model, from 0 to 1; the batch model has the rest. By default 0.3.
    pub online_weight: f64,
    /// The share of rows, the last in time, that probabilities are calibrated on. By default 0.2.
    pub calibration_share: f64,
}

impl Default for HybridSettings {
    fn default() -> Self {
        Self {
            online: OnlineSettings::default(),
            batch: BatchSettings::default(),
            online_weight: 0.3,
            calibration_share: 0.2,
        }
    }
}

impl Settings {
    /// Whether all settings are in their ranges.
    ///
    /// # Errors
    /// [`Error::Setting`] with the key and the values that it takes.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Batch(settings) => settings.check(""),
            Self::Online(settings) => settings.check(""),
            Self::Hybrid(settings) => settings.check(),
        }
    }

    /// The trainer with these settings.
    ///
    /// # Errors
    /// [`Error::Setting`] with the key and the values that it takes; [`Error::NotBuilt`] for `batch` and `hybrid` in a build
    /// without the cargo feature `boosting`.
    pub fn trainer(&self) -> Result<Box<dyn Trainer>> {
        match self {
            Self::Online(settings) => Ok(Box::new(OnlineTrainer::new(settings.clone())?)),
            #[cfg(feature = "boosting")]
            Self::Batch(settings) => Ok(Box::new(crate::boosting::BatchTrainer::new(settings.clone())?)),
            #[cfg(feature = "boosting")]
            Self::Hybrid(settings) => Ok(Box::new(crate::hybrid::HybridTrainer::new(settings.clone())?)),
            #[cfg(not(feature = "boosting"))]
            Self::Batch(settings) => settings.check("").and(Err(Error::NotBuilt("batch"))),
            #[cfg(not(feature = "boosting"))]
            Self::Hybrid(settings) => settings.check().and(Err(Error::NotBuilt("hybrid"))),
        }
    }
}

/// Refuses a setting out of its range. `table` is the table that it is in, with a point, or empty.
fn check<T: Display>(table: &str, key: &str, value: T, range: &'static str, holds: bool) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Error::Setting { key: format!("{table}{key}"), value: value.to_string(), range }),
    }
}

/// Refuses what is not a finite number above 0.
fn positive(table: &str, key: &str, value: f64) -> Result<()> {
    check(table, key, value, "a finite number above 0", value.is_finite() && value > 0.0)
}

/// Refuses what is not a finite number of at least 0.
fn penalty(table: &str, key: &str, value: f64) -> Result<()> {
    check(table, key, value, "a finite number of at least 0", value.is_finite() && value >= 0.0)
}

impl BatchSettings {
    pub(crate) fn check(&self, table: &str) -> Result<()> {
        check(table, "rounds", self.rounds, "from 1 to 100000", (1..=100_000).contains(&self.rounds))?;
        // Beyond it a tree of 2^depth leaves may not fit the memory.
        check(table, "depth", self.depth, "from 1 to 24", (1..=24).contains(&self.depth))?;
        let share = |value: f64| value > 0.0 && value <= 1.0;
        check(table, "learning_rate", self.learning_rate, "above 0 and at most 1", share(self.learning_rate))?;
        penalty(table, "min_child_weight", self.min_child_weight)?;
        penalty(table, "lambda", self.lambda)?;
        check(table, "subsample", self.subsample, "above 0 and at most 1", share(self.subsample))?;
        let held_out = (0.0..=0.5).contains(&self.early_stopping_share);
        check(table, "early_stopping_share", self.early_stopping_share, "from 0 to 0.5", held_out)?;
        check(table, "early_stopping_rounds", self.early_stopping_rounds, "at least 1", self.early_stopping_rounds > 0)
    }
}

impl OnlineSettings {
    pub(crate) fn check(&self, table: &str) -> Result<()> {
        let nested = format!("{table}optimizer.");
        match &self.optimizer {
            Optimizer::Sgd(sgd) => {
                positive(&nested, "learning_rate", sgd.learning_rate)?;
                check(&nested, "power", sgd.power, "from 0 to 1", (0.0..=1.0).contains(&sgd.power))?;
                penalty(&nested, "l2", sgd.l2)?;
            }
            Optimizer::AdaGrad(adagrad) => {
                positive(&nested, "learning_rate", adagrad.learning_rate)?;
                positive(&nested, "epsilon", adagrad.epsilon)?;
                penalty(&nested, "l2", adagrad.l2)?;
            }
            Optimizer::Ftrl(ftrl) => {
                positive(&nested, "alpha", ftrl.alpha)?;
                // Without it the first weight of a column would be divided by 0 where no example has a gradient.
                positive(&nested, "beta", ftrl.beta)?;
                penalty(&nested, "l1", ftrl.l1)?;
                penalty(&nested, "l2", ftrl.l2)?;
            }
        }
        penalty(table, "intercept_learning_rate", self.intercept_learning_rate)?;
        check(table, "hash_bits", self.hash_bits, "from 1 to 31", (1..=31).contains(&self.hash_bits))?;
        positive(table, "clip_gradient", self.clip_gradient)
    }
}

impl HybridSettings {
    pub(crate) fn check(&self) -> Result<()> {
        self.online.check("online.")?;
        self.batch.check("batch.")?;
        let weight = (0.0..=1.0).contains(&self.online_weight);
        check("", "online_weight", self.online_weight, "from 0 to 1", weight)?;
        let share = self.calibration_share > 0.0 && self.calibration_share <= 0.5;
        check("", "calibration_share", self.calibration_share, "above 0 and at most 0.5", share)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(value: serde_json::Value) -> serde_json::Result<Settings> {
        serde_json::from_value(value)
    }

    fn refused(value: serde_json::Value) -> String {
        parsed(value).unwrap().trainer().err().unwrap().to_string()
    }

    #[test]
    fn defaults_are_as_documented_and_survive_writing() {
        let batch = parsed(json!({"kind": "batch"})).unwrap();
        let Settings::Batch(settings) = &batch else { panic!("{batch:?}") };
        assert_eq!((settings.rounds, settings.depth, settings.learning_rate), (200, 6, 0.1));
        assert_eq!((settings.subsample, settings.early_stopping_share), (1.0, 0.1));
        let hybrid = parsed(json!({"kind": "hybrid", "online": {"optimizer": {"kind": "adagrad"}}})).unwrap();
        let Settings::Hybrid(settings) = &hybrid else { panic!("{hybrid:?}") };
        assert_eq!((settings.online_weight, settings.calibration_share), (0.3, 0.2));
        assert_eq!(settings.online.hash_bits, 18);
        assert_eq!(settings.online.optimizer, Optimizer::AdaGrad(AdaGradSettings::default()));
        for all in [batch, hybrid, parsed(json!({"kind": "online"})).unwrap()] {
            assert_eq!(parsed(serde_json::to_value(&all).unwrap()).unwrap(), all);
        }
    }

    #[test]
    fn unknown_keys_and_kinds_are_refused_by_name() {
        for (value, name) in [
            (json!({"kind": "batch", "max_depth": 3}), "max_depth"),
            (json!({"kind": "online", "optimizer": {"kind": "sgd", "alpha": 1}}), "alpha"),
            (json!({"kind": "hybrid", "batch": {"etaa": 1}}), "etaa"),
            (json!({"kind": "forest"}), "forest"),
        ] {
            let error = parsed(value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_key_and_value() {
        assert_eq!(refused(json!({"kind": "batch", "depth": 0})), "setting `depth` is 0: it must be from 1 to 24");
        for (value, key) in [
            (json!({"kind": "batch", "learning_rate": 1.5}), "`learning_rate` is 1.5"),
            (json!({"kind": "batch", "subsample": 0}), "`subsample` is 0"),
            (json!({"kind": "batch", "early_stopping_share": 0.9}), "`early_stopping_share` is 0.9"),
            (json!({"kind": "online", "hash_bits": 32}), "`hash_bits` is 32"),
            (json!({"kind": "online", "optimizer": {"kind": "ftrl", "l1": -1}}), "`optimizer.l1` is -1"),
            (json!({"kind": "hybrid", "online_weight": 1.1}), "`online_weight` is 1.1"),
            (
                json!({"kind": "hybrid", "online": {"optimizer": {"kind": "sgd", "power": 2}}}),
                "`online.optimizer.power` is 2",
            ),
        ] {
            let error = refused(value);
            assert!(error.contains(key), "{error}");
        }
        let infinite = BatchSettings { lambda: f64::INFINITY, ..BatchSettings::default() };
        assert!(Settings::Batch(infinite).trainer().err().unwrap().to_string().contains("`lambda` is inf"));
    }

    #[cfg(feature = "schema")]
    #[test]
    fn the_schema_knows_every_kind_and_the_defaults() {
        let schema = serde_json::to_value(schemars::schema_for!(Settings)).unwrap();
        let kinds = schema["oneOf"].as_array().unwrap().iter().map(|kind| &kind["properties"]["kind"]["const"]);
        assert!(kinds.eq(["batch", "online", "hybrid"].map(|kind| json!(kind)).iter()), "{schema}");
        assert_eq!(schema["$defs"]["BatchSettings"]["properties"]["rounds"]["default"], json!(200), "{schema}");
    }

    #[cfg(not(feature = "boosting"))]
    #[test]
    fn without_boosted_trees_the_message_says_what_to_build() {
        assert!(refused(json!({"kind": "batch"})).contains("cargo feature `boosting`"));
        assert!(refused(json!({"kind": "hybrid"})).contains("`hybrid`"));
        assert!(parsed(json!({"kind": "online"})).unwrap().trainer().is_ok());
    }
}
