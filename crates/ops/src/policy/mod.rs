//! From figures to decisions: which triggers fire, and the outcome. Pure: no file, no store, no clock.

pub mod calibrate;
mod distribution;
pub mod drift;
pub mod event;
pub mod evidence;
pub mod outcome;
pub mod outdated;
pub mod performance;

use serde::{Deserialize, Serialize};

use driftsweep_fleet::{Setting, Trigger};
use jiff::Timestamp;

pub use drift::DriftVerdict;
pub use outcome::{FiringContext, FiringOutcome};
pub use outdated::OutdatedBaseline;
pub use performance::{PerformanceVerdict, VolumeVerdict};

/// The evaluation of a model at a sweep: each trigger with its figures, its thresholds and their origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// The baseline that drift was compared with; absent from verdicts of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Triggers that are off.
    pub off: Setting<Vec<Trigger>>,
    /// The drift trigger: features, predictions and labels.
    pub drift: DriftVerdict,
    /// The performance trigger, where labels are declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceVerdict>,
    /// The volume trigger, where labels are declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeVerdict>,
    /// How the labels that were read were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<performance::LabelCounts>,
    /// Why labels could not be read, or cannot be compared with predictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_error: Option<String>,
}

impl Evaluation {
    /// Whether the performance trigger is on.
    pub fn judges_performance(&self) -> bool {
        !self.off.value.contains(&Trigger::Performance)
    }

    /// Why the performance trigger cannot be judged, if it is on and labels are declared.
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
