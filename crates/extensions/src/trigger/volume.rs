//! The volume trigger: enough new labels have arrived.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::labels::NewLabels;
use super::{ExplainView, ModelPast, Sheet, SweepView, TriggerProperties, TriggerSettings, TriggerVerdict};
use crate::value::{Setting, Validated, check_range};
use driftsweep_common::duration::Length;
use driftsweep_common::error::Result;

/// The table `trigger.volume` of the fleet file. The trigger is on only where it is given.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeTable {
    /// Fires at this many new labels. By default 5000.
    labels: Option<u64>,
    /// In this time. By default 7d.
    within: Option<Length>,
}

/// How many new labels trigger a training.
#[derive(Clone, Debug)]
pub struct VolumeTrigger {
    /// Whether it is on: only where `[trigger.volume]` is set.
    pub set: Setting<bool>,
    /// The number of new labels ...
    pub labels: Setting<u64>,
    /// ... and the period in which they must arrive.
    pub within: Setting<SignedDuration>,
}

impl VolumeTrigger {
    /// When the count of new labels begins at a sweep: at the start of the period, at the last training, or when it last
    /// fired.
    pub fn since(&self, past: ModelPast, as_of: Timestamp) -> Timestamp {
        let period = as_of.checked_sub(self.within.value).unwrap_or(Timestamp::MIN);
        past.volume_fired.max(past.trained).map_or(period, |since| since.max(period))
    }
}

/// The volume trigger at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeVerdict {
    /// Labels that became known from `since` on.
    pub labels: u64,
    /// Labels that are needed to fire.
    pub wanted: Setting<u64>,
    /// When the count begins: at the start of the period, at the last training, or when it last fired.
    pub since: Timestamp,
    /// Whether the trigger is on; where it is not, the count is only informative.
    #[serde(default = "set")]
    pub set: bool,
}

/// Evaluations of older versions: the trigger was always set there.
fn set() -> bool {
    true
}

impl TriggerVerdict for VolumeVerdict {
    fn reason(&self) -> Option<String> {
        (self.set && self.labels >= self.wanted.value)
            .then(|| format!("{} new labels since {}, {} are needed", self.labels, self.since, self.wanted.value))
    }
}

impl TriggerSettings for VolumeTrigger {
    type Table = VolumeTable;
    type Verdict = VolumeVerdict;

    const PROPERTIES: TriggerProperties =
        TriggerProperties { stores_volume_fired: true, place: 2, ..TriggerProperties::DEFAULT };

    fn resolve(model: Option<&VolumeTable>, fleet: Option<&VolumeTable>) -> Validated<Self> {
        let set = Setting::nearest(model.map(|_| true), fleet.map(|_| true), false);
        let labels =
            |table: Option<&VolumeTable>| check_range("labels", table.and_then(|table| table.labels), 1..=u64::MAX);
        let within = |table: Option<&VolumeTable>| table.and_then(|table| table.within);
        let week = SignedDuration::from_hours(24 * 7);
        let settings = Self {
            set,
            labels: Setting::nearest(labels(model)?, labels(fleet)?, 5000),
            within: Setting::nearest_length(within(model), within(fleet), week),
        };
        match settings.within.value.is_zero() {
            true => Err("within = \"0d\" looks at nothing".into()),
            false => Ok(settings),
        }
    }

    fn missing(&self, labels: bool) -> Option<&'static str> {
        match labels {
            false => Some("[model.labels]"),
            true => (!self.set.value).then_some("[trigger.volume]"),
        }
    }

    fn uses_labels(&self) -> bool {
        self.set.value
    }

    fn labels_within(&self) -> SignedDuration {
        self.within.value
    }

    fn judge(&self, view: &SweepView<'_>) -> Result<Option<VolumeVerdict>> {
        Ok(view.labels.as_ref().map(|known| {
            let NewLabels { labels, since } = known.new;
            VolumeVerdict { labels, wanted: self.labels, since, set: self.set.value }
        }))
    }

    fn explain(&self, found: Option<&VolumeVerdict>, view: &ExplainView<'_>, page: &mut Sheet) {
        let Some(found) = found else {
            // The performance trigger says that the labels cannot be used.
            if let (Some(why), None) = (&view.inactive, view.labels_error) {
                page.section(format_args!("volume: {why}"));
            }
            return;
        };
        let missing = found.wanted.value.saturating_sub(found.labels);
        let change = match (found.set, missing) {
            (true, 0) => "fires".into(),
            (true, _) => format!("{missing} more are needed to fire"),
            (false, 0) => "the trigger is not set; with [trigger.volume] it would fire".into(),
            (false, _) => format!("the trigger is not set; with [trigger.volume] {missing} more are needed to fire"),
        };
        let (labels, since, wanted) = (found.labels, found.since, found.wanted);
        page.section(format_args!("volume: {labels} new labels since {since}, {wanted} are needed: {change}"));
    }
}
