//! From figures to a decision: which triggers fire, and what becomes of it. Pure: no file, no store, no clock.

pub mod calibrate;
mod distribution;
pub mod drift;
pub mod event;
pub mod evidence;
pub mod outcome;
pub mod outdated;
pub mod performance;

use serde::{Deserialize, Serialize};

use crate::fleet::{Setting, Trigger};
use jiff::Timestamp;

pub use drift::DriftVerdict;
pub use outcome::{FiringContext, FiringOutcome};
pub use outdated::OutdatedBaseline;
pub use performance::{PerformanceVerdict, VolumeVerdict};

/// All that was concluded of a model at a sweep: each rule with its figures and thresholds, and where they were set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// The baseline that drift was judged by; absent from verdicts of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Triggers that are off.
    pub off: Setting<Vec<Trigger>>,
    /// What it sees, says, and what comes true.
    pub drift: DriftVerdict,
    /// How well it predicts, where labels are declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceVerdict>,
    /// How much there is to learn from, where labels are declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeVerdict>,
    /// How the labels that were read were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<performance::LabelCounts>,
    /// Why labels could not be read, or cannot be held against predictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_error: Option<String>,
}

impl Evaluation {
    /// Whether the performance trigger is on.
    pub fn judges_performance(&self) -> bool {
        !self.off.value.contains(&Trigger::Performance)
    }

    /// Why the performance trigger cannot judge, if it is on and labels are declared.
    pub fn not_judged(&self) -> Option<String> {
        let performance = self.performance.as_ref().filter(|_| self.judges_performance())?;
        performance.not_judged()
    }

    /// The triggers that fire, each with the reason in a sentence.
    pub fn fired(&self) -> Vec<(Trigger, String)> {
        let performance = self.performance.as_ref().and_then(|found| found.reason());
        let volume = self.volume.as_ref().and_then(|found| found.reason());
        let drift = self.drift.fired.then(|| self.drift.reason());
        let all = [(Trigger::Performance, performance), (Trigger::Drift, drift), (Trigger::Volume, volume)];
        let on = |trigger: &Trigger| !self.off.value.contains(trigger);
        all.into_iter().filter_map(|(trigger, reason)| Some((trigger, reason?))).filter(|(t, _)| on(t)).collect()
    }
}
