//! Gates: whether a candidate may take the place of the champion, from both models' predictions of the same rows.
//!
//! Nothing passes for want of data: too few rows, a small group, a metric that is not defined or a champion that is not there
//! is `insufficient_data`. Each gate has its figures and a sentence, and one that does not pass says what to look at.

mod calibration;
mod judge;
mod leakage;
mod paired;
mod rules;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use calibration::CalibrationLine;
pub use judge::evaluate;
pub use leakage::{area_of_categories, area_of_numbers};
pub use paired::mcnemar;
pub use rules::{CalibrationRule, FairnessRule, GateRules, GateTable, MetricRule, MetricTable, Together};

/// What a model said about a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output {
    /// Whether it predicted the positive class.
    pub positive: bool,
    /// Whether it predicted the class of the label.
    pub correct: bool,
    /// Its score, NaN without one.
    pub score: f64,
    /// The predicted number less the true one, NaN where they are none.
    pub error: f64,
}

/// Labelled rows that both models predicted, by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidationRows {
    /// Whether the label is the positive class.
    pub positive: Vec<bool>,
    /// The class of the label, by its code; empty where labels are numbers.
    pub classes: Vec<u32>,
    /// The label as a number; empty where labels are classes.
    pub numbers: Vec<f64>,
    /// What the candidate said.
    pub candidate: Vec<Output>,
    /// What the champion said, if there is one.
    pub champion: Option<Vec<Output>>,
    /// Times in microseconds since 1970, where rows have them.
    pub times: Option<Vec<i64>>,
    /// The days of those times, by codes from 0.
    pub days: Option<Vec<u32>>,
    /// Groups by column: the names of a column's groups, and the group of each row.
    pub groups: IndexMap<String, (Vec<String>, Vec<u32>)>,
    /// Features with the area under the curve of each alone, where features are known.
    pub features: Option<Vec<(String, f64)>>,
    /// How long the candidate took for each row, where that is known.
    pub latencies: Option<Vec<f64>>,
    /// Whether it is known what was predicted: by a column, or because scores are probabilities.
    pub has_predictions: bool,
    /// Rows of the table of labels without an id.
    pub without_id: usize,
    /// Rows of the table of labels without a label.
    pub without_label: usize,
    /// Labelled rows.
    pub labelled: usize,
    /// Labelled rows that the candidate did not predict.
    pub without_candidate: usize,
    /// Labelled rows that the champion did not predict.
    pub without_champion: usize,
}

impl ValidationRows {
    /// Rows that all models predicted.
    pub fn len(&self) -> usize {
        self.candidate.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.candidate.is_empty()
    }
}

/// The verdict of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It passed, and there is something to look at.
    Warning,
    /// Data that it needs are missing or too few.
    InsufficientData,
    /// It failed.
    Failed,
}

impl Verdict {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::InsufficientData => "insufficient_data",
            Self::Failed => "failed",
        }
    }

    /// Whether the candidate may go on.
    pub fn passes(self) -> bool {
        matches!(self, Self::Passed | Self::Warning)
    }
}

/// A gate that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name, such as `auc.better_by`.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// What was found, in words.
    pub sentence: String,
    /// What to look at, where it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Its figures by name.
    pub figures: IndexMap<String, f64>,
}

/// What all gates say about a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// The verdict of all: that of the worst.
    pub verdict: Verdict,
    /// Rows that all models predicted.
    pub rows: usize,
    /// Days of these rows, where they have times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<usize>,
    /// The gates.
    pub gates: Vec<Gate>,
}

impl GateReport {
    /// Whether the candidate is accepted.
    pub fn accepts(&self) -> bool {
        self.verdict.passes()
    }

    /// Gates that did not pass.
    pub fn open(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(|gate| !gate.verdict.passes())
    }
}
