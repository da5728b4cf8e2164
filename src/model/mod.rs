//! What of a model is compared: its baseline and what it sees now, over which windows and segments, which columns and how.
//! Where the settings come from (the fleet file, a caller) is not known here.

mod missing;
mod options;
mod segment;
pub mod window;

pub use missing::{DEFAULT_MISSING_TEXTS, MissingTexts};
pub use options::{MEMORY_PER_THREAD, Options, check_bins};
pub use window::{Interval, Period, dated, unknown_placeholder};

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::metric::Kind;
use crate::rule::{PartialThresholds, Thresholds};
use crate::snapshot::Slice;
use driftsweep_common::address::Location;

/// What of a model is compared.
///
/// ```
/// use driftsweep::Model;
///
/// let mut model = Model::new("churn", "training.parquet", "production/*.parquet");
/// model.importance = 3.0;
/// model.options.thresholds.psi = 0.1;
/// assert_eq!(model.thresholds_of("age").psi, 0.1);
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Training snapshot or baseline file; may hold `{day}` until [`Model::at`] says which.
    pub baseline: Location,
    /// Whether the baseline is written anew for each sweep, so that one that cannot be read may come late.
    pub baseline_is_nightly: bool,
    /// How the SHA-256 of the content of its baseline file must begin, where that is known.
    pub baseline_hash: Option<String>,
    /// What it sees now: one snapshot, or one per named window.
    pub windows: Vec<Window>,
    /// The zone in which days begin.
    pub zone: TimeZone,
    /// Whether each window is compared with the one before it, instead of with the baseline.
    pub previous: bool,
    /// Columns whose values part the rows into segments.
    pub slice_by: Vec<String>,
    /// Segments by conditions, each with its name.
    pub segments: Vec<(String, Slice)>,
    /// How much it matters; larger goes first.
    pub importance: f64,
    /// Metrics, bins, category limit and thresholds.
    pub options: Options,
    /// The columns of its predictions and labels, if they are known.
    pub outcomes: Option<OutcomeColumns>,
    /// Features to compare; all if absent.
    pub features: Option<BTreeSet<String>>,
    /// Features to leave out.
    pub exclude: BTreeSet<String>,
    /// Settings of single columns.
    pub columns: BTreeMap<String, ColumnSettings>,
}

/// Settings of one column.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ColumnSettings {
    /// How it is read; by its type if absent.
    pub kind: Option<Kind>,
    /// How much it counts where importance does.
    pub importance: Option<f64>,
    /// Its own thresholds.
    pub thresholds: PartialThresholds,
}

/// The columns that hold predictions and labels.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeColumns {
    /// What came true.
    pub label: String,
    /// Whether labels stand in a table of their own.
    pub is_separate: bool,
    /// What the model predicted.
    pub prediction: Option<String>,
    /// The probability of it.
    pub score: Option<String>,
    /// Ids and times, which join rows and are no features.
    pub join: Vec<String>,
    /// Whether labels and predictions are numbers.
    pub numbers: bool,
    /// Text that stands for a missing label or prediction.
    pub missing: MissingTexts,
}

impl OutcomeColumns {
    /// Whether a column holds what the model predicted.
    fn is_said(&self, column: &str) -> bool {
        [&self.prediction, &self.score].into_iter().any(|said| said.as_deref() == Some(column))
    }
}

/// A current snapshot of a model.
///
/// ```
/// use driftsweep::{Model, Window};
///
/// let mut model = Model::new("churn", "training.parquet", "today.parquet");
/// model.windows.push(Window::whole("yesterday", "yesterday.parquet".into()));
/// assert_eq!(model.windows.len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Window {
    /// Its name; empty where a model has only one.
    pub name: String,
    /// Path, glob or directory; may hold `{day}` until [`Model::at`] says which.
    pub current: Location,
    /// The column of times by which its rows are found, and the stretch of time it looks at; everything if absent.
    pub period: Option<(String, Period)>,
    /// The only column that is compared; all features if absent.
    pub only: Option<String>,
}

impl Window {
    /// A snapshot as a whole.
    pub fn whole(name: &str, current: Location) -> Self {
        Self { name: name.into(), current, period: None, only: None }
    }
}

/// What a compared column is to its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What it sees.
    Feature,
    /// What it says.
    Prediction,
    /// What came true.
    Label,
}

/// What a comparison does with a column.
///
/// ```
/// use driftsweep::{BaselineSource, ColumnUse, Comparer, CpuCounter, Kind, Snapshot};
///
/// # fn main() -> driftsweep::Result<()> {
/// let baseline = BaselineSource::open("datasets/nycflights13/flights-2013-01.parquet")?;
/// let current = Snapshot::open("datasets/nycflights13/flights-2013-02.parquet")?;
/// let report = Comparer::new(&baseline, &current)
///     .columns(|name| match name {
///         "flight" => ColumnUse::As(Kind::Categorical),
///         "tailnum" => ColumnUse::LeftOut,
///         _ => ColumnUse::ByType,
///     })
///     .run(&CpuCounter)?;
/// assert!(report.features.iter().all(|feature| feature.name != "tailnum"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnUse {
    /// It is left out.
    LeftOut,
    /// It is compared, and read as its type says.
    ByType,
    /// It is compared, and read as this kind.
    As(Kind),
}

impl ColumnUse {
    /// Compared: as a kind, or as its type says.
    pub fn read_as(kind: Option<Kind>) -> Self {
        kind.map_or(Self::ByType, Self::As)
    }

    /// Whether the column is compared.
    pub fn is_compared(self) -> bool {
        self != Self::LeftOut
    }

    /// The kind that it is to be read as, if one is given.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::As(kind) => Some(kind),
            Self::ByType | Self::LeftOut => None,
        }
    }
}

impl Model {
    /// A model that is compared as a whole, with default options.
    pub fn new(name: &str, baseline: &str, current: &str) -> Self {
        Self {
            name: name.into(),
            baseline: baseline.into(),
            baseline_is_nightly: false,
            baseline_hash: None,
            windows: vec![Window::whole("", current.into())],
            zone: TimeZone::UTC,
            previous: false,
            slice_by: Vec::new(),
            segments: Vec::new(),
            importance: 1.0,
            options: Options::new(),
            outcomes: None,
            features: None,
            exclude: BTreeSet::new(),
            columns: BTreeMap::new(),
        }
    }

    /// What a column is to the model.
    pub fn role_of(&self, column: &str) -> Role {
        match &self.outcomes {
            Some(outcomes) if outcomes.label == column => Role::Label,
            Some(outcomes) if outcomes.is_said(column) => Role::Prediction,
            _ => Role::Feature,
        }
    }

    /// What a comparison does with a column. Predictions and labels are compared, too, even if they are excluded.
    pub fn use_of(&self, column: &str) -> ColumnUse {
        let own = self.columns.get(column).and_then(|settings| settings.kind);
        let of_numbers = self.outcomes.as_ref().is_some_and(|outcomes| outcomes.numbers);
        match (self.role_of(column), &self.outcomes) {
            (Role::Prediction, Some(outcomes)) if outcomes.score.as_deref() == Some(column) => ColumnUse::read_as(own),
            (Role::Label | Role::Prediction, _) => {
                ColumnUse::read_as(own.or((!of_numbers).then_some(Kind::Categorical)))
            }
            (Role::Feature, Some(outcomes)) if outcomes.join.iter().any(|join| join == column) => ColumnUse::LeftOut,
            (Role::Feature, _) => {
                let wanted = match &self.features {
                    Some(features) => features.contains(column),
                    // A number for each row, which pandas wrote beside the data.
                    None => column.is_empty() || !is_pandas_index(column) || self.columns.contains_key(column),
                };
                match wanted && !self.exclude.contains(column) {
                    true => ColumnUse::read_as(own),
                    false => ColumnUse::LeftOut,
                }
            }
        }
    }

    /// The same in one of its windows.
    pub fn use_in(&self, window: &Window, column: &str) -> ColumnUse {
        match &window.only {
            Some(only) if only != column => ColumnUse::LeftOut,
            // Labels in a table of their own are compared there.
            None if self.role_of(column) == Role::Label && self.outcomes.as_ref().is_some_and(|of| of.is_separate) => {
                ColumnUse::LeftOut
            }
            _ => self.use_of(column),
        }
    }

    /// What shapes the figures of a column. A label that has not come yet may be written as text: it is missing, no category.
    pub(crate) fn options_of(&self, column: &str) -> Cow<'_, Options> {
        match &self.outcomes {
            Some(outcomes) if self.role_of(column) != Role::Feature => {
                Cow::Owned(Options { missing: Some(outcomes.missing.clone()), ..self.options.clone() })
            }
            _ => Cow::Borrowed(&self.options),
        }
    }

    /// How much a feature counts where importance does.
    pub fn importance_of(&self, feature: &str) -> f64 {
        self.columns.get(feature).and_then(|settings| settings.importance).unwrap_or(1.0)
    }

    /// The thresholds of a feature: the nearest setting wins, from feature over model to fleet.
    pub fn thresholds_of(&self, feature: &str) -> Thresholds {
        match self.columns.get(feature) {
            Some(settings) => settings.thresholds.over(self.options.thresholds),
            None => self.options.thresholds,
        }
    }

    /// A text that is the same as long as all settings that decide about figures and statuses are. How much memory and how
    /// many threads there are changes no figure. What is secret in addresses counts, and is not in the text.
    pub fn fingerprint(&self) -> String {
        let place = |place: &Location| Value::from(place.identity());
        let period = |(column, period): &(String, Period)| json!([column, period.to_string()]);
        let window = |window: &Window| {
            json!([window.name, place(&window.current), window.period.as_ref().map(period), window.only])
        };
        json!({
            "name": self.name,
            "baseline": place(&self.baseline),
            "windows": self.windows.iter().map(window).collect::<Vec<_>>(),
            // Only a zone of the system can be without a name.
            "zone": DateTimePrinter::new().time_zone_to_string(&self.zone).ok(),
            "previous": self.previous,
            "slice_by": self.slice_by,
            "segments": self.segments,
            "importance": self.importance,
            "options": self.options.fingerprint(),
            "outcomes": self.outcomes,
            "features": self.features,
            "exclude": self.exclude,
            "columns": self.columns,
        })
        .to_string()
    }

    /// The model as a sweep at a point in time reads it: with the day in paths that name it by `{day}`.
    pub fn at(&self, as_of: Timestamp) -> Self {
        let mut model = self.clone();
        for path in model.windows.iter_mut().map(|window| &mut window.current).chain([&mut model.baseline]) {
            // The formats were checked when the path was read.
            if let Ok(text) = dated(path.expose(), as_of, &self.zone) {
                *path = text.into();
            }
        }
        model
    }

    /// Features that are named in the file, to be checked against the data.
    pub(crate) fn named_features(&self) -> impl Iterator<Item = &str> {
        let times = self.windows.iter().filter(|w| w.only.is_none()).filter_map(|w| Some(&w.period.as_ref()?.0));
        let slicing = self.slice_by.iter().chain(times);
        let features = self.features.iter().flatten().chain(&self.exclude).chain(self.columns.keys());
        features.chain(slicing).map(String::as_str)
    }
}

/// Whether a column is the row index that pandas wrote with the data: an unnamed one, or `__index_level_0__`.
pub fn is_pandas_index(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let level = name.strip_prefix("__index_level_").and_then(|rest| rest.strip_suffix("__"));
    name.is_empty() || level.or(name.strip_prefix("Unnamed: ")).is_some_and(digits)
}
