//! The traits of trainers and models.

use std::num::NonZeroUsize;

use crate::error::Result;
use crate::table::{Objective, Position, Table, Target};

/// What a fit is given beside the rows.
#[derive(Clone, Copy, Debug)]
pub struct FitOptions<'a> {
    /// The places of the rows, which must be in order. Without them the rows are taken to be in the order of time, and an
    /// example that comes twice is learned twice.
    pub positions: Option<&'a [Position]>,
    /// The bytes of a model to continue from. Only the online trainer takes them; the others start anew.
    pub state: Option<&'a [u8]>,
    /// Threads. The model does not depend on their number.
    pub threads: NonZeroUsize,
}

impl Default for FitOptions<'_> {
    fn default() -> Self {
        Self { positions: None, state: None, threads: NonZeroUsize::MIN }
    }
}

/// What a fit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FitReport {
    /// Rows that were learned from.
    pub learned: usize,
    /// Rows that were held out to stop early or to calibrate. They are learned from afterwards, and counted there, too.
    pub held_out: usize,
    /// Rows that were skipped, as they are not after the last one that was learned.
    pub skipped: usize,
    /// Rounds of boosting that were kept.
    pub rounds: Option<usize>,
}

/// A model, and what its fit did.
pub struct Fitted<M: ?Sized = dyn Model> {
    /// What the fit did.
    pub report: FitReport,
    /// The model.
    pub model: Box<M>,
}

/// What learns a model from rows.
pub trait Trainer: Send + Sync {
    /// Learns from rows in the order of time. The same rows, settings and state give the same bytes, whatever the threads.
    ///
    /// # Errors
    /// [`Error`](crate::Error), with the column, row or setting.
    fn fit(&self, table: &Table, target: &Target, options: &FitOptions<'_>) -> Result<Fitted>;
}

/// What predicts.
pub trait Model: Send + Sync {
    /// The probability of class 1 of each row, or its number.
    ///
    /// The table must have the columns of the training, by name and kind, in any order; others are not read.
    ///
    /// # Errors
    /// [`Error::MissingColumn`](crate::Error::MissingColumn), [`Error::ColumnKind`](crate::Error::ColumnKind).
    fn predict(&self, table: &Table) -> Result<Vec<f64>>;

    /// What it predicts.
    fn objective(&self) -> Objective;

    /// Its artefact, which [`load()`](crate::load()) reads.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) where it cannot be written.
    fn to_bytes(&self) -> Result<Vec<u8>>;
}
