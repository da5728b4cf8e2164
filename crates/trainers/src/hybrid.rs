//! The weighted mean of an online and a batch model, each calibrated.
//!
//! What a fit learns from which rows, which are in the order of time:
//!
//! ```text
//!                                     rows ├──────── earlier ────────┼─ the last `calibration_share` ─┤
//! 1  both members                          learn                       predict ─▶ calibration of each
//! 2  the online member                                                 learns on
//!    the batch member                      learns anew, from all rows
//! ```
//!
//! The calibration is so fitted on rows that the members had not seen, and then used with members that have: the online one has
//! learned on, and the batch one was grown anew, with the same settings. With `early_stopping_share` each growing of the batch
//! member holds out the last share of the rows that it is given.
//!
//! A regression is not calibrated: both members learn from all rows, and the mean is of their numbers.
//!
//! The artefact is a safetensors file with the members' bytes as the tensors `online` and `batch`, and their SHA-256, weights
//! and calibrations in its header.

use serde::{Deserialize, Serialize};

use crate::boosting::{BatchModel, BatchTrainer};
use crate::calibrate::Platt;
use crate::container::{Format, Tensor, damaged, sha256};
use crate::error::{Error, Result};
use crate::model::{FitOptions, FitReport, Fitted, Model, Trainer};
use crate::online::{OnlineModel, OnlineTrainer};
use crate::settings::HybridSettings;
use crate::table::{Objective, Table, Target, check_rows};

/// The format of a hybrid model.
pub(crate) const FORMAT: Format = Format { name: "driftsweep-hybrid", version: 1 };

/// Learns both members and their calibrations.
#[derive(Clone, Debug)]
pub struct HybridTrainer {
    settings: HybridSettings,
    online: OnlineTrainer,
    batch: BatchTrainer,
}

/// The weighted mean of two models.
#[derive(Clone, Debug)]
pub struct HybridModel {
    online: OnlineModel,
    batch: BatchModel,
    weights: Pair<f64>,
    calibration: Option<Pair<Platt>>,
}

/// Something of each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// Of the online member.
    pub online: T,
    /// Of the batch member.
    pub batch: T,
}

/// The header of the artefact.
#[derive(Serialize, Deserialize)]
struct Header {
    objective: Objective,
    weights: Pair<f64>,
    calibration: Option<Pair<Platt>>,
    sha256: Pair<String>,
}

impl HybridTrainer {
    /// A trainer.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(settings: HybridSettings) -> Result<Self> {
        settings.check()?;
        let online = OnlineTrainer::new(settings.online.clone())?;
        let batch = BatchTrainer::new(settings.batch.clone())?;
        Ok(Self { settings, online, batch })
    }

    /// Learns, and gives the model itself.
    pub(crate) fn learn(
        &self,
        table: &Table,
        target: &Target,
        options: &FitOptions<'_>,
    ) -> Result<Fitted<HybridModel>> {
        check_rows(table, target, options.positions)?;
        if options.state.is_some() {
            return Err(Error::State("a hybrid is learned anew, as its batch member is; give no state".into()));
        }
        let weights = Pair { online: self.settings.online_weight, batch: 1.0 - self.settings.online_weight };
        if target.objective() == Objective::Regression {
            let online = self.online.learn(table, target, options)?;
            let batch = self.batch.learn(table, target, options)?;
            let report = FitReport { rounds: batch.report.rounds, ..online.report };
            let model = HybridModel { online: *online.model, batch: *batch.model, weights, calibration: None };
            return Ok(Fitted { report, model: Box::new(model) });
        }

        let rows = table.rows();
        let held_out = (rows as f64 * self.settings.calibration_share).round() as usize;
        let cut = rows - held_out;
        if held_out == 0 || cut == 0 {
            return Err(Error::Rows(format!("{rows} are too few for a calibration; give more, or a larger share")));
        }
        let split = |range: std::ops::Range<usize>| (table.slice(range.clone()), target.slice(range));
        let ((earlier, earlier_target), (last, last_target)) = (split(0..cut), split(cut..rows));
        let positions = options.positions.map(|positions| positions.split_at(cut));
        let first = FitOptions { positions: positions.map(|(first, _)| first), ..*options };
        let mut online = self.online.learn(&earlier, &earlier_target, &first)?;
        let batch = self.batch.learn(&earlier, &earlier_target, &first)?;
        let calibrate = |model: &dyn Model| Platt::fit(&model.predict(&last)?, last_target.values());
        let calibration = Some(Pair { online: calibrate(&*online.model)?, batch: calibrate(&*batch.model)? });

        let more = online.model.learn(&last, &last_target, positions.map(|(_, last)| last))?;
        let batch = self.batch.learn(table, target, options)?;
        let report = FitReport {
            learned: online.report.learned + more.learned,
            held_out,
            skipped: online.report.skipped + more.skipped,
            rounds: batch.report.rounds,
        };
        let model = HybridModel { online: *online.model, batch: *batch.model, weights, calibration };
        Ok(Fitted { report, model: Box::new(model) })
    }
}

impl Trainer for HybridTrainer {
    fn fit(&self, table: &Table, target: &Target, options: &FitOptions<'_>) -> Result<Fitted> {
        let Fitted { report, model } = self.learn(table, target, options)?;
        Ok(Fitted { report, model })
    }
}

impl HybridModel {
    /// A model from its bytes.
    ///
    /// # Errors
    /// [`Error::Format`] where they are none, are damaged, or of another version, also of a member.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (header, tensors) = FORMAT.read::<Header>(bytes)?;
        let member = |name: &str, digest: &str| {
            let tensor = tensors.tensor(name).map_err(|e| FORMAT.error(damaged(e)))?;
            match sha256(&[tensor.data()]) == digest {
                true => Ok(tensor.data()),
                false => Err(FORMAT.error(damaged(format!("the {name} member does not match its SHA-256")))),
            }
        };
        let online = OnlineModel::from_bytes(member("online", &header.sha256.online)?)?;
        let batch = BatchModel::from_bytes(member("batch", &header.sha256.batch)?)?;
        let calibrated = header.calibration.is_some() == (header.objective == Objective::Binary);
        if online.objective() != header.objective || batch.objective() != header.objective || !calibrated {
            return Err(FORMAT.error(damaged("its members predict something else")));
        }
        Ok(Self { online, batch, weights: header.weights, calibration: header.calibration })
    }

    /// The online member.
    pub fn online(&self) -> &OnlineModel {
        &self.online
    }

    /// The batch member.
    pub fn batch(&self) -> &BatchModel {
        &self.batch
    }

    /// The weights, whose sum is 1.
    pub fn weights(&self) -> Pair<f64> {
        self.weights
    }

    /// The calibrations of probabilities; a regression has none.
    pub fn calibration(&self) -> Option<Pair<Platt>> {
        self.calibration
    }
}

impl Model for HybridModel {
    fn predict(&self, table: &Table) -> Result<Vec<f64>> {
        let (online, batch) = (self.online.predict(table)?, self.batch.predict(table)?);
        let mean = |(online, batch): (f64, f64)| {
            let (online, batch) = match self.calibration {
                Some(platt) => (platt.online.apply(online), platt.batch.apply(batch)),
                None => (online, batch),
            };
            self.weights.online * online + self.weights.batch * batch
        };
        Ok(online.into_iter().zip(batch).map(mean).collect())
    }

    fn objective(&self) -> Objective {
        self.online.objective()
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let (online, batch) = (self.online.to_bytes()?, self.batch.to_bytes()?);
        let header = Header {
            objective: self.objective(),
            weights: self.weights,
            calibration: self.calibration,
            sha256: Pair { online: sha256(&[&online]), batch: sha256(&[&batch]) },
        };
        FORMAT.write(&header, &[("online", Tensor::bytes(online)), ("batch", Tensor::bytes(batch))])
    }
}
