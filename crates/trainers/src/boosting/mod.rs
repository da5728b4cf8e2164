//! Gradient boosted trees (Friedman 2001; Chen and Guestrin 2016), grown by the crate hessboost on histograms.
//!
//! The artefact is XGBoost's own JSON, which `xgboost.Booster(model_file = …)` of Python loads and predicts the same from,
//! to 1e-6. Its attribute `driftsweep` holds, as JSON, the columns in order and the categories of each column (`header`);
//! the code of a category, which XGBoost is given, is its index there. The SHA-256 beside them is of the trees, too.
//! XGBoost's `DMatrix` refuses names of columns with `[`, `]` or `<`.
//!
//! The trees are those that XGBoost's `hist` grows with the same settings, to 1e-6 of their predictions, where `subsample` is 1
//! and columns have up to 256 distinct values. For more, columns are cut at quantiles of a sketch, and the cuts of hessboost
//! 0.4.6 are not those of XGBoost 3.2.
//!
//! * Missing values go the way at each split that lowers the loss more, as XGBoost sends them. A category that was not in the
//!   training is missing.
//! * Categories are split as XGBoost does: up to three by one against the rest, more by sets in the order of their gradients.
//! * Numbers are rounded to 32 bits, as in XGBoost. Those beyond its range are refused.
//! * With `early_stopping_share` the last rows are held out, the logarithmic loss or the root mean square error on them is
//!   watched, and the number of rounds up to the best is found. Then so many rounds are grown anew from all rows: the last rows
//!   are the nearest to what comes.
//! * The bytes do not depend on the number of threads.

mod file;

use std::collections::HashMap;
use std::num::NonZeroUsize;

use hessboost::config::{TrainingParams, TreeMethod};
use hessboost::data::{DMatrix, FeatureType};
use hessboost::error::HessboostError;
use hessboost::metric::EvalMetric;
use hessboost::model::{BoostedModel, Iterations, ModelFormat};
use hessboost::objective::{Objective as Loss, RegLoss};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::container::{Format, damaged};
use crate::error::{Error, Result};
use crate::model::{FitOptions, FitReport, Fitted, Model, Trainer};
use crate::settings::BatchSettings;
use crate::table::{Categories, Column, Objective, Schema, Table, Target, check_rows};

/// The format of a batch model. Its name and version stand in an attribute of XGBoost's file.
pub(crate) const FORMAT: Format = Format { name: "driftsweep-batch", version: 1 };

impl From<HessboostError> for Error {
    fn from(error: HessboostError) -> Self {
        Self::Boosting(error.to_string())
    }
}

/// Grows boosted trees.
#[derive(Clone, Debug)]
pub struct BatchTrainer {
    settings: BatchSettings,
}

/// Boosted trees.
#[derive(Clone, Debug)]
pub struct BatchModel {
    header: Header,
    trees: BoostedModel,
    /// The artefact, from which `trees` was read: predictions are those of the artefact.
    bytes: Vec<u8>,
}

/// The header of the artefact.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    objective: Objective,
    columns: Schema,
    /// Of each column of categories, in the order of their codes.
    categories: IndexMap<String, Vec<String>>,
}

impl BatchTrainer {
    /// A trainer.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(settings: BatchSettings) -> Result<Self> {
        settings.check("")?;
        Ok(Self { settings })
    }

    fn params(&self, objective: Objective, threads: NonZeroUsize) -> Result<TrainingParams> {
        let s = &self.settings;
        let (loss, metric) = match objective {
            Objective::Binary => (Loss::BinaryLogistic(RegLoss::default()), EvalMetric::LogLoss),
            Objective::Regression => (Loss::SquaredError(RegLoss::default()), EvalMetric::Rmse),
        };
        Ok(TrainingParams::builder()
            .objective(loss)
            .eval_metric(metric)
            .tree_method(TreeMethod::Hist)
            .max_depth(s.depth)
            .eta(s.learning_rate)
            .min_child_weight(s.min_child_weight)
            .lambda(s.lambda)
            .subsample(s.subsample)
            .seed(s.seed)
            .nthread(threads.get())
            .build()?)
    }

    /// Learns, and gives the model itself.
    pub(crate) fn learn(&self, table: &Table, target: &Target, options: &FitOptions<'_>) -> Result<Fitted<BatchModel>> {
        check_rows(table, target, options.positions)?;
        if options.state.is_some() {
            return Err(Error::State("boosted trees are grown anew; give no state".into()));
        }
        let rows = table.rows();
        let held_out = ((rows as f64 * self.settings.early_stopping_share).round() as usize).min(rows - 1);
        let earlier = rows - held_out;
        let labels: Vec<f32> = target.values().iter().map(|value| *value as f32).collect();
        check_labels(&labels[..earlier], target)?;

        let header = Header::new(table, target.objective());
        let matrix = header.matrix(table)?.with_labels(&labels)?;
        let part = |range: std::ops::Range<usize>| matrix.select_rows(&range.collect::<Vec<_>>());
        let params = self.params(target.objective(), options.threads)?;
        let rounds = match NonZeroUsize::new(self.settings.early_stopping_rounds).filter(|_| held_out > 0) {
            None => self.settings.rounds,
            Some(patience) => {
                let (train, valid) = (part(0..earlier)?, part(earlier..rows)?);
                let trainer = hessboost::training::Trainer::new(&params, &train, self.settings.rounds);
                let trees = trainer.eval(&valid, "held out").early_stopping_rounds(patience).train()?.model;
                trees.best_iteration().map_or(trees.num_boost_rounds(), |best| best + 1)
            }
        };
        let trees = hessboost::training::train(&params, &matrix, rounds)?;
        let report = FitReport { learned: rows, held_out, skipped: 0, rounds: Some(trees.num_boost_rounds()) };
        let model = Box::new(BatchModel::from_bytes(&header.write(&trees)?)?);
        Ok(Fitted { report, model })
    }
}

impl Trainer for BatchTrainer {
    fn fit(&self, table: &Table, target: &Target, options: &FitOptions<'_>) -> Result<Fitted> {
        let Fitted { report, model } = self.learn(table, target, options)?;
        Ok(Fitted { report, model })
    }
}

/// Refuses labels of one class, from which nothing can be learned, and numbers beyond 32 bits.
fn check_labels(learned: &[f32], target: &Target) -> Result<()> {
    let first = learned.first().copied().unwrap_or_default();
    if target.objective() == Objective::Binary && learned.iter().all(|label| *label == first) {
        let rows = learned.len();
        return Err(Error::Target(format!(
            "all {rows} rows that are learned from are {first}; give rows of both classes"
        )));
    }
    match target.values().iter().position(|value| value.abs() > f64::from(f32::MAX)) {
        Some(row) => Err(Error::Target(format!("row {row} is beyond the range of 32 bits; scale the target"))),
        None => Ok(()),
    }
}

impl Header {
    fn new(table: &Table, objective: Objective) -> Self {
        let categories = table.columns().filter_map(|(name, column)| match column {
            Column::Numbers(_) => None,
            Column::Categories(categories) => Some((name.to_owned(), occurring(categories))),
        });
        Self { objective, columns: Schema::of(table), categories: categories.collect() }
    }

    /// The rows as the trees read them: categories by their codes in training, those that were not there missing.
    fn matrix(&self, table: &Table) -> Result<DMatrix> {
        let columns = self.columns.select(table)?;
        let (rows, width) = (table.rows(), columns.len());
        let mut values = vec![f32::NAN; rows * width];
        let mut types = Vec::with_capacity(width);
        for (at, (name, column)) in self.columns.0.keys().zip(columns).enumerate() {
            let places = values.iter_mut().skip(at).step_by(width);
            match column {
                Column::Numbers(numbers) => {
                    types.push(FeatureType::Numerical);
                    if let Some(row) = numbers.iter().position(|value| value.abs() > f64::from(f32::MAX)) {
                        let reason = format!("row {row} is {}, beyond the range of 32 bits; scale it", numbers[row]);
                        return Err(Error::Column { name: name.clone(), reason });
                    }
                    places.zip(numbers).for_each(|(place, value)| *place = *value as f32);
                }
                Column::Categories(categories) => {
                    types.push(FeatureType::Categorical);
                    let known = self.categories.get(name).map(Vec::as_slice).unwrap_or_default();
                    let known: HashMap<&str, u32> = known.iter().map(String::as_str).zip(0..).collect();
                    let code = |value: &String| known.get(value.as_str()).map_or(f32::NAN, |code| *code as f32);
                    let codes: Vec<f32> = categories.values().iter().map(code).collect();
                    for (place, code) in places.zip(categories.codes()) {
                        *place = code.map_or(f32::NAN, |code| codes[code as usize]);
                    }
                }
            }
        }
        Ok(DMatrix::from_dense_vec(values, rows, width)?.with_feature_types(&types)?)
    }
}

/// The categories that rows have, in the order of their text, so that codes depend neither on the order of rows nor on how a
/// table numbers its values.
fn occurring(categories: &Categories) -> Vec<String> {
    let mut occurs = vec![false; categories.values().len()];
    categories.codes().iter().flatten().for_each(|code| occurs[*code as usize] = true);
    let values = categories.values().iter().zip(occurs).filter(|(_, occurs)| *occurs);
    let mut values: Vec<String> = values.map(|(value, _)| value.clone()).collect();
    values.sort_unstable();
    values
}

impl BatchModel {
    /// A model from its bytes.
    ///
    /// # Errors
    /// [`Error::Format`] where they are none, are damaged, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let header = Header::read(bytes)?;
        let trees = BoostedModel::decode(bytes, ModelFormat::XgboostJson).map_err(|e| FORMAT.error(damaged(e)))?;
        let objective = match header.objective {
            Objective::Binary => "binary:logistic",
            Objective::Regression => "reg:squarederror",
        };
        if trees.n_features() != header.columns.0.len() || trees.objective().name() != objective {
            return Err(FORMAT.error(damaged("its trees do not fit its columns or its objective")));
        }
        Ok(Self { header, trees, bytes: bytes.to_vec() })
    }

    /// How many rounds it has, each of one tree.
    pub fn rounds(&self) -> usize {
        self.trees.num_boost_rounds()
    }
}

impl Model for BatchModel {
    fn predict(&self, table: &Table) -> Result<Vec<f64>> {
        if table.rows() == 0 {
            return self.header.columns.select(table).map(|_| Vec::new());
        }
        let predictions = self.trees.predict(&self.header.matrix(table)?, Iterations::Best)?;
        Ok(predictions.into_vec().into_iter().map(f64::from).collect())
    }

    fn objective(&self) -> Objective {
        self.header.objective
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.bytes.clone())
    }
}
