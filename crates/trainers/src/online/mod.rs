//! A linear or logistic model that is updated one example at a time, saved, and continued.
//!
//! ```text
//! row ─▶ after the last one learned? ─▶ running mean and deviation ─▶ features ─▶ prediction ─▶ gradient ─▶ weights
//!        else skipped and counted       of its numbers                numbers, hashed categories
//! ```
//!
//! **Features.** A number is a feature of its own weight, standardised first by the running mean and standard deviation of its
//! column (Welford 1962; with the example itself, and the population's variance), if the settings say so. A missing number
//! contributes nothing: it changes neither moments nor its weight, and adds 0 to the prediction, which after standardising is
//! the mean; `missing_indicator` gives it a weight instead. A category is a feature of value 1 whose weight stands in bucket
//! XXH3(`column=value`) modulo 2^`hash_bits`: categories that were never seen need no place, and two may share a weight.
//! Categories that share a bucket in one row add up there.
//!
//! **Loss.** The logarithmic loss of labels; the squared error of numbers, whose derivative is twice the difference. The target
//! of a regression is standardised by its running moments (the sample's variance) if the settings say so. Steps, penalties and
//! standardising are those of river 0.26, except that it rounds derivatives of the logarithmic loss within 1.5e-8 of 1 to 1.
//!
//! **Order.** With positions, rows must be sorted by time, then by id. The last position learned is part of the state, and
//! examples that are not after it are skipped: those of a retry are learned once. So are late examples: whoever has them must
//! wait until they are there, or start anew. Learning rows 0 to n gives the same bytes as learning 0 to k, saving, loading, and
//! learning k to n.

mod optimizer;
mod state;

pub(crate) use state::FORMAT;

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::model::{FitOptions, FitReport, Fitted, Model, Trainer};
use crate::settings::{OnlineSettings, Optimizer};
use crate::table::{Column, Kind, Objective, Position, Schema, Table, Target, check_rows};
use optimizer::Slot;

/// Learns one example at a time.
#[derive(Clone, Debug)]
pub struct OnlineTrainer {
    settings: OnlineSettings,
}

/// A model that learns one example at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct OnlineModel {
    settings: OnlineSettings,
    objective: Objective,
    schema: Schema,
    /// Of each column of numbers, in order.
    moments: Vec<Moments>,
    target: Moments,
    intercept: Slot,
    /// A weight of each column of numbers, followed by that of its indicator where there are indicators.
    dense: Vec<Slot>,
    /// Weights of categories by bucket; those that no example had are not there.
    hashed: BTreeMap<u32, Slot>,
    /// Examples learned.
    learned: u64,
    last: Option<Position>,
}

/// Running mean and sum of squared differences from it (Welford 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// The standard deviation, with `less` fewer degrees of freedom than there are values; 0 where nothing is known of it.
    fn deviation(&self, less: u64) -> f64 {
        match self.count.saturating_sub(less) {
            0 => 0.0,
            freedom => (self.squares / freedom as f64).sqrt(),
        }
    }

    /// A value in standard deviations from the mean; 0 where there is no deviation.
    fn standardise(&self, value: f64, less: u64) -> f64 {
        let deviation = self.deviation(less);
        if deviation > 0.0 { (value - self.mean) / deviation } else { 0.0 }
    }
}

/// Where the weight of a feature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Dense(usize),
    Hashed(u32),
}

/// A column whose categories have been hashed.
enum Encoded<'a> {
    Numbers(&'a [f64]),
    Buckets { of_code: Vec<u32>, codes: &'a [Option<u32>] },
}

impl OnlineTrainer {
    /// A trainer.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(settings: OnlineSettings) -> Result<Self> {
        settings.check("")?;
        Ok(Self { settings })
    }

    /// The model to learn with: a new one, or the one to continue.
    fn start(&self, table: &Table, target: &Target, options: &FitOptions<'_>) -> Result<OnlineModel> {
        let Some(state) = options.state else {
            return Ok(OnlineModel::new(self.settings.clone(), target.objective(), Schema::of(table)));
        };
        let model = OnlineModel::from_bytes(state)?;
        let refuse = |reason: String| Err(Error::State(reason));
        if model.settings != self.settings {
            return refuse("it was learned with other settings; set these again, or start anew".to_owned());
        }
        if model.objective != target.objective() {
            return refuse(format!(
                "it was learned for {:?}, and the target is for another objective",
                model.objective
            ));
        }
        match (&model.last, options.positions) {
            (Some(_), None) => {
                refuse("it knows positions and these rows have none, so that repeats would count".into())
            }
            (None, Some(_)) => {
                refuse("it was learned without positions, so that repeats would count; start anew".into())
            }
            _ => Ok(model),
        }
    }

    /// Learns, and gives the model itself.
    pub(crate) fn learn(
        &self,
        table: &Table,
        target: &Target,
        options: &FitOptions<'_>,
    ) -> Result<Fitted<OnlineModel>> {
        check_rows(table, target, options.positions)?;
        let mut model = Box::new(self.start(table, target, options)?);
        let report = model.learn(table, target, options.positions)?;
        Ok(Fitted { report, model })
    }
}

impl Trainer for OnlineTrainer {
    fn fit(&self, table: &Table, target: &Target, options: &FitOptions<'_>) -> Result<Fitted> {
        let Fitted { report, model } = self.learn(table, target, options)?;
        Ok(Fitted { report, model })
    }
}

impl OnlineModel {
    fn new(settings: OnlineSettings, objective: Objective, schema: Schema) -> Self {
        let numbers = schema.0.values().filter(|kind| **kind == Kind::Numbers).count();
        Self {
            moments: vec![Moments::default(); numbers],
            target: Moments::default(),
            intercept: Slot::default(),
            dense: vec![Slot::default(); numbers * weights_per_number(&settings)],
            hashed: BTreeMap::new(),
            learned: 0,
            last: None,
            settings,
            objective,
            schema,
        }
    }

    /// Learns the rows that are after the last one learned. The model is lost where that fails.
    pub(crate) fn learn(&mut self, table: &Table, target: &Target, at: Option<&[Position]>) -> Result<FitReport> {
        let columns = self.encode(table)?;
        let mut report = FitReport::default();
        let mut features = Vec::new();
        for (row, &value) in target.values().iter().enumerate() {
            let position = at.map(|positions| &positions[row]);
            if position.is_some_and(|position| self.last.as_ref().is_some_and(|last| position <= last)) {
                report.skipped += 1;
                continue;
            }
            if !self.learn_row(&columns, row, value, &mut features) {
                return Err(Error::Diverged { row });
            }
            self.last = position.cloned();
            report.learned += 1;
        }
        match self.is_finite() {
            true => Ok(report),
            false => Err(Error::Diverged { row: table.rows() - 1 }),
        }
    }

    fn is_finite(&self) -> bool {
        let finite = |slot: &Slot| slot.value.is_finite() && slot.squares.is_finite();
        finite(&self.intercept) && self.dense.iter().all(finite) && self.hashed.values().all(finite)
    }

    /// Learns a row. False where its prediction is not finite.
    fn learn_row(&mut self, columns: &[Encoded], row: usize, value: f64, features: &mut Vec<(Place, f64)>) -> bool {
        if self.settings.standardize {
            let numbers = columns.iter().filter_map(|column| column.number(row));
            for (moments, number) in self.moments.iter_mut().zip(numbers).filter(|(_, number)| !number.is_nan()) {
                moments.add(number);
            }
        }
        let target = match self.standardizes_target() {
            false => value,
            true => {
                self.target.add(value);
                self.target.standardise(value, 1)
            }
        };
        self.features(columns, row, features);
        let prediction = self.raw(features);
        let slope = match self.objective {
            Objective::Binary => logistic(prediction) - target,
            Objective::Regression => 2.0 * (prediction - target),
        };
        let slope = slope.clamp(-self.settings.clip_gradient, self.settings.clip_gradient);
        let optimizer = &self.settings.optimizer;
        optimizer.update_intercept(&mut self.intercept, slope, self.settings.intercept_learning_rate);
        for &(place, value) in features.iter() {
            let slot = match place {
                Place::Dense(at) => &mut self.dense[at],
                Place::Hashed(bucket) => self.hashed.entry(bucket).or_default(),
            };
            optimizer.update(slot, slope * value, self.learned);
        }
        self.learned += 1;
        prediction.is_finite()
    }

    fn standardizes_target(&self) -> bool {
        self.settings.standardize_target && self.objective == Objective::Regression
    }

    /// The columns of the training, with categories hashed once for each distinct value.
    fn encode<'a>(&self, table: &'a Table) -> Result<Vec<Encoded<'a>>> {
        let mask = (1u64 << self.settings.hash_bits) - 1;
        let encode = |(name, column): (&String, &'a Column)| match column {
            Column::Numbers(values) => Encoded::Numbers(values),
            Column::Categories(categories) => {
                let bucket = |value: &String| (xxh3_64(format!("{name}={value}").as_bytes()) & mask) as u32;
                let of_code = categories.values().iter().map(bucket).collect();
                Encoded::Buckets { of_code, codes: categories.codes() }
            }
        };
        Ok(self.schema.0.keys().zip(self.schema.select(table)?).map(encode).collect())
    }

    /// The features of a row, each place once.
    fn features(&self, columns: &[Encoded], row: usize, features: &mut Vec<(Place, f64)>) {
        features.clear();
        let width = weights_per_number(&self.settings);
        let mut numbers = 0;
        for column in columns {
            match column {
                Encoded::Numbers(values) => {
                    let at = numbers * width;
                    match values[row] {
                        missing if missing.is_nan() && self.settings.missing_indicator => {
                            features.push((Place::Dense(at + 1), 1.0));
                        }
                        missing if missing.is_nan() => {}
                        value if self.settings.standardize => {
                            features.push((Place::Dense(at), self.moments[numbers].standardise(value, 0)));
                        }
                        value => features.push((Place::Dense(at), value)),
                    }
                    numbers += 1;
                }
                Encoded::Buckets { of_code, codes } => {
                    if let Some(code) = codes[row] {
                        features.push((Place::Hashed(of_code[code as usize]), 1.0));
                    }
                }
            }
        }
        features.sort_unstable_by_key(|(place, _)| *place);
        features.dedup_by(|(place, value), (kept, sum)| {
            let same = place == kept;
            if same {
                *sum += *value;
            }
            same
        });
    }

    /// The prediction before the logistic function, or of the standardised target.
    fn raw(&self, features: &[(Place, f64)]) -> f64 {
        let optimizer: &Optimizer = &self.settings.optimizer;
        let weight = |place| match place {
            Place::Dense(at) => optimizer.weight(&self.dense[at]),
            Place::Hashed(bucket) => self.hashed.get(&bucket).map_or(0.0, |slot| optimizer.weight(slot)),
        };
        let sum: f64 = features.iter().map(|&(place, value)| weight(place) * value).sum();
        sum + optimizer.intercept(&self.intercept)
    }

    /// Examples that were learned.
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// The position of the last example that was learned, where positions are known.
    pub fn last(&self) -> Option<&Position> {
        self.last.as_ref()
    }
}

impl Model for OnlineModel {
    fn predict(&self, table: &Table) -> Result<Vec<f64>> {
        let columns = self.encode(table)?;
        let mut features = Vec::new();
        let predict = |row| {
            self.features(&columns, row, &mut features);
            let raw = self.raw(&features);
            match self.objective {
                Objective::Binary => logistic(raw),
                Objective::Regression if self.standardizes_target() => {
                    self.target.mean + raw * self.target.deviation(1)
                }
                Objective::Regression => raw,
            }
        };
        Ok((0..table.rows()).map(predict).collect())
    }

    fn objective(&self) -> Objective {
        self.objective
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        self.write()
    }
}

impl Encoded<'_> {
    /// The number of a row, where the column has numbers.
    fn number(&self, row: usize) -> Option<f64> {
        match self {
            Self::Numbers(values) => Some(values[row]),
            Self::Buckets { .. } => None,
        }
    }
}

/// Weights of a column of numbers.
fn weights_per_number(settings: &OnlineSettings) -> usize {
    1 + usize::from(settings.missing_indicator)
}

/// The logistic function, without overflow.
pub(crate) fn logistic(x: f64) -> f64 {
    if x >= 0.0 {
        return 1.0 / (1.0 + (-x).exp());
    }
    let e = x.exp();
    e / (1.0 + e)
}
