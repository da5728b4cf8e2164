//! A setting with its origin.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use driftsweep_common::duration::Length;

/// Where a setting comes from; the most specific one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "lowercase")]
pub enum Origin {
    /// The built-in default.
    #[strum(to_string = "built in")]
    BuiltIn,
    /// `[defaults]` of the fleet file.
    Fleet,
    /// The model's own table.
    Model,
    /// The feature's own table.
    Feature,
}

impl Origin {
    /// As `explain` shows it.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A setting with its origin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting<T> {
    /// The setting.
    pub value: T,
    /// Where it was set.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// The most specific of several settings.
    pub fn nearest(model: Option<T>, fleet: Option<T>, built_in: T) -> Self {
        match (model, fleet) {
            (Some(value), _) => Self { value, origin: Origin::Model },
            (None, Some(value)) => Self { value, origin: Origin::Fleet },
            (None, None) => Self { value: built_in, origin: Origin::BuiltIn },
        }
    }
}

impl Setting<SignedDuration> {
    /// The most specific of several lengths of time.
    pub fn nearest_length(model: Option<Length>, fleet: Option<Length>, built_in: SignedDuration) -> Self {
        Self::nearest(model.map(Length::signed), fleet.map(Length::signed), built_in)
    }
}

impl<T: std::fmt::Display> std::fmt::Display for Setting<T> {
    /// With its origin, as `explain` shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.value, self.origin.name())
    }
}
