//! Triggers: when a model is to be trained. Each has its keys in the fleet file beside what it decides at a sweep, how it
//! shows why, and what it changes when it fires. Pure: figures and state are arguments, no file, no store, no clock.

mod distribution;
pub mod drift;
pub mod labels;
pub mod performance;
pub mod schedule;
pub mod volume;

use std::fmt::Display;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::value::{Origin, Setting, Validated};
use driftsweep::model::Model;
use driftsweep::sweep::ModelReport;
use driftsweep_common::duration::Length;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;
use labels::{LabelCounts, LabelView};

macro_rules! triggers {
    ($($(#[$doc:meta])* $variant:ident($key:ident): $table:ty => $settings:ty, $verdict:ty;)*) => {
        /// A retrain trigger. Where several fire at once, the one that comes first here opens the event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum Trigger {
            $($(#[$doc])* $variant,)*
        }

        impl Trigger {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in fleet files, events and reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($key),)*
                }
            }

            /// Its properties, which do not depend on settings.
            pub fn properties(self) -> TriggerProperties {
                match self {
                    $(Self::$variant => <$settings>::PROPERTIES,)*
                }
            }

            /// The details of an event as lines for approvers, if it has a form of its own for them.
            fn evidence(self, details: &Value, most: usize) -> Option<Vec<String>> {
                match self {
                    $(Self::$variant => serde_json::from_value::<$verdict>(details.clone()).ok()?.evidence(most),)*
                }
            }
        }

        /// The table `trigger` of the fleet file.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct TriggerTable {
            /// Triggers that are off.
            off: Option<Vec<Trigger>>,
            /// The shortest time between two events. By default 7d.
            cooldown: Option<Length>,
            $($(#[$doc])* $key: Option<$table>,)*
        }

        /// A model's triggers, resolved.
        #[derive(Clone, Debug)]
        pub struct Triggers {
            /// Triggers that are switched off.
            pub off: Setting<Vec<Trigger>>,
            /// The shortest time between two events.
            pub cooldown: Setting<SignedDuration>,
            $($(#[$doc])* pub $key: $settings,)*
        }

        impl TriggerTable {
            /// The settings of a model, else those of the fleet, else the defaults.
            ///
            /// # Errors
            /// The reason, for an invalid setting.
            pub fn over(&self, fleet: &Self) -> Validated<Triggers> {
                Ok(Triggers {
                    off: Setting::nearest(self.off.clone(), fleet.off.clone(), Vec::new()),
                    $($key: <$settings>::resolve(self.$key.as_ref(), fleet.$key.as_ref())?,)*
                    cooldown: Setting::nearest_length(self.cooldown, fleet.cooldown, COOLDOWN),
                })
            }
        }

        impl Triggers {
            /// The setting without which a trigger cannot fire, where it is missing.
            fn missing(&self, trigger: Trigger, labels: bool) -> Option<&'static str> {
                match trigger {
                    $(Trigger::$variant => self.$key.missing(labels),)*
                }
            }

            /// Whether a trigger has a use for labels.
            fn uses_labels(&self, trigger: Trigger) -> bool {
                match trigger {
                    $(Trigger::$variant => self.$key.uses_labels(),)*
                }
            }

            /// The longest period of labels that a trigger looks at.
            pub fn labels_within(&self) -> SignedDuration {
                [$(self.$key.labels_within()),*].into_iter().fold(SignedDuration::ZERO, SignedDuration::max)
            }

            /// Judges all triggers of a model at a sweep.
            ///
            /// # Errors
            /// Errors of reading the predictions of the view.
            pub fn judge(&self, view: &SweepView<'_>) -> Result<Evaluation> {
                Ok(Evaluation {
                    model: view.model.name.clone(),
                    as_of: view.as_of,
                    baseline: (!view.model.previous).then(|| view.model.baseline.to_string()),
                    off: self.off.clone(),
                    $($key: self.$key.judge(view)?,)*
                    labels: view.labels.as_ref().map(|labels| labels.counts),
                    labels_error: None,
                })
            }

            /// Shows a trigger as `explain` does.
            pub fn explain(&self, found: &Evaluation, view: &ExplainView<'_>, page: &mut Sheet) {
                match view.trigger {
                    $(Trigger::$variant => self.$key.explain(found.$key.as_ref(), view, page),)*
                }
            }
        }

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
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $key: Option<$verdict>,
            )*
            /// How the labels that were read were used.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub labels: Option<LabelCounts>,
            /// Why labels could not be read, or cannot be compared with predictions.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub labels_error: Option<String>,
        }

        impl Evaluation {
            /// Why a trigger fires, in a sentence, if it does.
            fn reason(&self, trigger: Trigger) -> Option<String> {
                match trigger {
                    $(Trigger::$variant => self.$key.as_ref().and_then(TriggerVerdict::reason),)*
                }
            }

            /// Why a trigger could not be judged, if so.
            fn why_not_judged(&self, trigger: Trigger) -> Option<String> {
                match trigger {
                    $(Trigger::$variant => self.$key.as_ref().and_then(TriggerVerdict::not_judged),)*
                }
            }

            /// The figures that a trigger fires by.
            ///
            /// # Errors
            /// Values that JSON cannot hold.
            pub fn details(&self, trigger: Trigger) -> serde_json::Result<Value> {
                match trigger {
                    $(Trigger::$variant => serde_json::to_value(self.$key.as_ref().map(TriggerVerdict::details)),)*
                }
            }
        }
    };
}

// The triggers: the one list. Each has a name, which is its key in the fleet file, its table under that key, its settings,
// and its verdict at a sweep.
triggers! {
    /// A schedule.
    Schedule(schedule): schedule::ScheduleTable => schedule::ScheduleTrigger, schedule::NoVerdict;
    /// Its performance is too low.
    Performance(performance): performance::PerformanceTable
        => performance::PerformanceTrigger, performance::PerformanceVerdict;
    /// Its data have drifted.
    Drift(drift): drift::DriftTable => drift::DriftTrigger, drift::DriftVerdict;
    /// There are many new labels.
    Volume(volume): volume::VolumeTable => volume::VolumeTrigger, volume::VolumeVerdict;
}

/// The shortest time between two events unless the fleet file says so.
const COOLDOWN: SignedDuration = SignedDuration::from_hours(24 * 7);

/// The properties of a trigger, which do not depend on settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerProperties {
    /// Whether it fires by a comparison with the baseline: another baseline answers it, and an outdated one repeats it.
    pub compares_with_baseline: bool,
    /// Whether the time at which it fires is stored, as [`ModelPast::volume_fired`], because its count begins there again.
    pub stores_volume_fired: bool,
    /// Its place on the page of `explain`.
    pub place: u8,
}

impl TriggerProperties {
    /// Those of most triggers: last on the page, and nothing else.
    pub const DEFAULT: Self = Self { compares_with_baseline: false, stores_volume_fired: false, place: u8::MAX };
}

/// The settings of a trigger, and what it does with them.
pub trait TriggerSettings: Sized {
    /// Its table in the fleet file.
    type Table;

    /// Its verdict at a sweep.
    type Verdict: TriggerVerdict;

    /// Its properties, which do not depend on settings.
    const PROPERTIES: TriggerProperties = TriggerProperties::DEFAULT;

    /// The settings of a model, else those of the fleet, else the defaults.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    fn resolve(model: Option<&Self::Table>, fleet: Option<&Self::Table>) -> Validated<Self>;

    /// The setting without which it cannot fire, where it is missing. `labels` says whether `[model.labels]` is set.
    fn missing(&self, labels: bool) -> Option<&'static str>;

    /// Whether labels are read for it.
    fn uses_labels(&self) -> bool {
        false
    }

    /// The period of labels that it looks at.
    fn labels_within(&self) -> SignedDuration {
        SignedDuration::ZERO
    }

    /// Its verdict at a sweep; `None` where it is not judged at sweeps, or what it looks at is not there.
    ///
    /// # Errors
    /// Errors of reading the predictions of the view.
    fn judge(&self, view: &SweepView<'_>) -> Result<Option<Self::Verdict>>;

    /// Shows it as `explain` does: by default why it cannot fire, or does.
    fn explain(&self, found: Option<&Self::Verdict>, view: &ExplainView<'_>, page: &mut Sheet) {
        let reason = found.and_then(TriggerVerdict::reason).or_else(|| view.inactive.clone());
        let reason = reason.unwrap_or_else(|| "does not fire".into());
        page.section(format_args!("{}: {reason}", view.trigger.name()));
    }
}

/// The verdict of a trigger at a sweep. It is stored.
pub trait TriggerVerdict: Clone + Serialize + DeserializeOwned {
    /// A sentence that says why it fires, if it does.
    fn reason(&self) -> Option<String>;

    /// What of it an event holds.
    fn details(&self) -> Self {
        self.clone()
    }

    /// A sentence that says why it could not be judged, with the remedy, if so.
    fn not_judged(&self) -> Option<String> {
        None
    }

    /// Lines for approvers about at most some columns, where the plain figures are not what they need.
    fn evidence(&self, _most: usize) -> Option<Vec<String>> {
        None
    }
}

/// What is stored of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelPast {
    /// When it was last trained.
    pub trained: Option<Timestamp>,
    /// When its volume trigger last fired.
    pub volume_fired: Option<Timestamp>,
}

/// What triggers see of a model at a sweep.
pub struct SweepView<'a> {
    /// The sweep.
    pub as_of: Timestamp,
    /// The model.
    pub model: &'a Model,
    /// What is stored of it.
    pub past: ModelPast,
    /// What the sweep found: each window and segment.
    pub reports: &'a [&'a ModelReport],
    /// Where a threshold of a feature was set.
    pub threshold_origin: &'a dyn Fn(&str, &str) -> Origin,
    /// Earlier sweeps that count for persistence.
    pub sweeps: usize,
    /// At how many of them a column (window, segment, name) was over its thresholds.
    pub hits: &'a dyn Fn([&str; 3]) -> usize,
    /// Its predictions with their labels, where they were read.
    pub labels: Option<LabelView<'a>>,
}

/// What `explain` knows of a model beside its evaluation.
pub struct ExplainView<'a> {
    /// The trigger.
    pub trigger: Trigger,
    /// The sweep.
    pub as_of: Timestamp,
    /// The time zone of the model.
    pub zone: &'a TimeZone,
    /// Why the trigger cannot fire, if so.
    pub inactive: Option<String>,
    /// When it last fired, and the outcome.
    pub last: Option<(Timestamp, &'a str)>,
    /// How labels were used, and as what they are read.
    pub labels: Option<LabelsShown>,
    /// Why labels could not be used.
    pub labels_error: Option<&'a str>,
}

/// How labels were used, and which texts are read as missing.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelsShown {
    /// How they were used.
    pub counts: LabelCounts,
    /// The texts that are read as missing.
    pub missing: Vec<String>,
    /// Where that was set.
    pub origin: Origin,
}

/// What `explain` shows of a trigger, in parts. They are escaped where they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet(pub Vec<Shown>);

/// A part of a [`Sheet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The first line of what belongs together.
    Section(String),
    /// A line.
    Line(String),
    /// A table.
    Table {
        /// Its heading.
        heading: Vec<&'static str>,
        /// Its rows.
        rows: Vec<Vec<String>>,
    },
}

impl Sheet {
    /// Adds the first line of what belongs together.
    pub fn section(&mut self, text: impl Display) {
        self.0.push(Shown::Section(text.to_string()));
    }

    /// Adds a line.
    pub fn line(&mut self, text: impl Display) {
        self.0.push(Shown::Line(text.to_string()));
    }

    /// Adds a table.
    pub fn table<const COLUMNS: usize>(&mut self, heading: [&'static str; COLUMNS], rows: Vec<[String; COLUMNS]>) {
        let rows = rows.into_iter().map(Vec::from).collect();
        self.0.push(Shown::Table { heading: heading.into(), rows });
    }
}

impl Trigger {
    /// All of them in the order of the page of `explain`.
    pub fn in_order_of_page() -> Vec<Self> {
        let mut all = Self::ALL.to_vec();
        all.sort_by_key(|trigger| trigger.properties().place);
        all
    }
}

impl FromStr for Trigger {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|trigger| trigger.name() == name);
        found.ok_or_else(|| Error::unknown("trigger", name, Self::ALL.iter().map(|trigger| trigger.name())))
    }
}

impl Triggers {
    /// Whether a trigger is switched off.
    pub fn is_off(&self, trigger: Trigger) -> bool {
        self.off.value.contains(&trigger)
    }

    /// Why a trigger of a model cannot fire; `None` where it can. `labels` says whether `[model.labels]` is set.
    pub fn inactive(&self, trigger: Trigger, labels: bool) -> Option<String> {
        if self.is_off(trigger) {
            return Some(format!("off ({})", self.off.origin.name()));
        }
        self.missing(trigger, labels).map(|missing| format!("not set: {missing}"))
    }

    /// Whether labels have to be read.
    pub fn need_labels(&self) -> bool {
        Trigger::ALL.iter().any(|&trigger| !self.is_off(trigger) && self.uses_labels(trigger))
    }
}

impl Evaluation {
    /// Whether a trigger is on.
    pub fn is_on(&self, trigger: Trigger) -> bool {
        !self.off.value.contains(&trigger)
    }

    /// The triggers that are on, each with what is said of it, if anything is.
    fn on<'a>(
        &'a self,
        of: impl Fn(&'a Self, Trigger) -> Option<String> + 'a,
    ) -> impl Iterator<Item = (Trigger, String)> + 'a {
        let on = Trigger::ALL.iter().copied().filter(|&trigger| self.is_on(trigger));
        on.filter_map(move |trigger| Some((trigger, of(self, trigger)?)))
    }

    /// The triggers that are on and could not be judged, each with the reason in a sentence.
    pub fn not_judged(&self) -> Vec<(Trigger, String)> {
        self.on(Self::why_not_judged).collect()
    }

    /// The triggers that fire, each with the reason in a sentence.
    pub fn fired(&self) -> Vec<(Trigger, String)> {
        self.on(Self::reason).collect()
    }
}

/// The details of an event as lines for approvers, limited to a number of columns. Names are escaped.
pub fn evidence(trigger: &str, details: &Value, most: usize) -> Vec<String> {
    let own = trigger.parse::<Trigger>().ok().and_then(|trigger| trigger.evidence(details, most));
    own.unwrap_or_else(|| plain_figures(details))
}

/// The figures of an event that are plain values, a line each.
fn plain_figures(details: &Value) -> Vec<String> {
    let Some(details) = details.as_object() else { return Vec::new() };
    let given = details.iter().map(|(name, value)| match value {
        // A setting with its origin.
        Value::Object(fields) if fields.contains_key("origin") => (name, fields.get("value").unwrap_or(&Value::Null)),
        _ => (name, value),
    });
    let plain = given.filter(|(_, value)| !value.is_object() && !value.is_array() && !value.is_null());
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), |text| for_display(text).into_owned());
    plain.map(|(name, value)| format!("{}: {}", name.replace('_', " "), shown(value))).collect()
}
