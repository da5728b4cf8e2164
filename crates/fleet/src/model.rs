//! The models of a fleet: what of each is compared, how it is judged, and how it is trained.

use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;

use indexmap::IndexMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::checks::{self, Validated, resolve};
use crate::features::{FeatureSet, TrainerChoice};
use crate::labels::Labels;
use crate::retrain::RetrainConfig;
use crate::rollout::{RolloutConfig, RolloutContext};
use crate::table::{ConditionTable, ConventionSetting, Current, FeatureTable, ModelTable, Settings};
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::metric::{Metric, MetricSet};
use driftsweep::model::{self, Options, Period, Window, check_bins, dated, unknown_placeholder};
use driftsweep::rule::{self, PartialThresholds};
use driftsweep::snapshot::{Condition, Slice};
use driftsweep_common::address::Location;
use driftsweep_common::error::Result;
use driftsweep_common::escape::for_display;
use driftsweep_extensions::trigger::Triggers;
use driftsweep_extensions::trigger::drift::Persistence;
use driftsweep_extensions::value::Origin;
use driftsweep_training::gate::GateRules;

/// One model of a fleet: what of it is compared, and what is decided about it. What is compared reads as its own.
#[derive(Clone, Debug)]
pub struct Model {
    /// What of it is compared.
    pub compared: model::Model,
    /// Its baseline as the fleet file has it: relative to the file.
    pub declared_baseline: Location,
    /// Its retrain triggers.
    pub triggers: Triggers,
    /// How its predictions are joined with labels, if that is declared.
    pub labels: Option<Labels>,
    /// The name of the feature set that it is trained on, if that is set.
    pub feature_set: Option<String>,
    /// How `driftsweep train` trains it.
    pub trainer: TrainerChoice,
    /// How it is trained, if that is set.
    pub retrain: Option<RetrainConfig>,
    /// What its candidates must show, if that is declared.
    pub gates: Option<GateRules>,
    /// How an accepted candidate is released, if that is declared.
    pub rollout: Option<RolloutConfig>,
    /// Where its convention, if it has one, was set.
    convention_origin: Origin,
    /// The thresholds set for the model and the fleet, to show where a threshold comes from.
    thresholds: [PartialThresholds; 2],
}

impl Deref for Model {
    type Target = model::Model;

    fn deref(&self) -> &model::Model {
        &self.compared
    }
}

impl Model {
    /// Where a threshold of a feature was set.
    pub fn threshold_origin(&self, feature: &str, name: &str) -> Origin {
        let [model, fleet] = &self.thresholds;
        if name == rule::CONVENTION {
            return self.convention_origin;
        }
        let layers = [
            (self.columns.get(feature).map(|settings| &settings.thresholds), Origin::Feature),
            (Some(model), Origin::Model),
            (Some(fleet), Origin::Fleet),
        ];
        let set = layers.into_iter().find(|(table, _)| table.is_some_and(|table| table.sets(name)));
        set.map_or(Origin::BuiltIn, |(_, origin)| origin)
    }
}

/// The window in which labels in a separate table are compared.
const LABELS_WINDOW: &str = "labels";

/// The value of `baseline` that compares each window with the one before it.
const PREVIOUS_WINDOW: &str = "previous";

/// What a model takes from the rest of the fleet file.
pub(crate) struct FleetContext<'a> {
    /// The folder of the file.
    pub(crate) folder: &'a Path,
    /// The time zone of the fleet.
    pub(crate) zone: &'a TimeZone,
    /// `[defaults]`.
    pub(crate) defaults: &'a Settings,
    /// What `[defaults]` says about comparisons.
    pub(crate) options: &'a Options,
    /// The feature sets of the file.
    pub(crate) feature_sets: &'a [FeatureSet],
    /// Whether anybody can approve a training.
    pub(crate) has_approvers: bool,
}

impl ModelTable {
    /// The model that the table declares.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub(crate) fn resolve(mut self, fleet: &FleetContext<'_>) -> Validated<Model> {
        let mut options = self.options(fleet.options)?;
        let zone = self.time_zone.as_deref().map_or_else(|| Ok(fleet.zone.clone()), checks::zone)?;
        let previous = self.baseline == PREVIOUS_WINDOW;
        let mut windows = self.windows(fleet.folder, previous)?;
        let segments = segments(std::mem::take(&mut self.segment))?;
        let [first, ..] = &*windows else { return Err("current names no snapshot".into()) };
        let baseline = if previous { first.current.clone() } else { resolve(fleet.folder, &self.baseline) };
        let retrain = self.retrain.over(fleet.defaults.retrain.get(), fleet.folder)?;
        if retrain.is_some() && !fleet.has_approvers {
            let reason = "training may need approval, and there are no approvers; add [approval] with approvers = \
                          [[\"NAME\"]]";
            return Err(reason.into());
        }
        if let Some(name) = &self.feature_set
            && !fleet.feature_sets.iter().any(|set| set.name == *name)
        {
            return Err(format!("no [feature_set.{}]; add it, or correct feature_set", for_display(name)));
        }
        let triggers = self.triggers(fleet.defaults, previous)?;
        let reference = (!previous).then_some(&baseline);
        let mut labels = self.labels(fleet.folder, &windows, reference)?;
        let gates = match (&self.gates, fleet.defaults.gates.get()) {
            (None, None) => None,
            (own, fleet) => {
                let (own, fleet) = (own.clone().unwrap_or_default(), fleet.clone().unwrap_or_default());
                Some(own.over(&fleet).map_err(|reason| format!("gates: {reason}"))?)
            }
        };
        let context = RolloutContext {
            folder: fleet.folder,
            labels: labels.as_ref(),
            judged: triggers.performance.judged_metric(),
            has_approvers: fleet.has_approvers,
        };
        let rollout = self.rollout.take().map(|rollout| rollout.resolve(&context)).transpose()?;
        // Labels of all times say nothing about the current days.
        if let Some(labels) = &labels
            && let Some(from) = &labels.from
            && let Some(column) = &labels.label_time
            && !previous
        {
            let period = Some((column.clone(), Period::rolling(triggers.performance.within.value)?));
            let only = Some(labels.label.clone());
            windows.push(Window { period, only, ..Window::whole(LABELS_WINDOW, from.clone()) });
        }
        let labelled = labels.iter_mut().flat_map(Labels::paths).map(|path| path.clone());
        for path in windows.iter().map(|window| window.current.clone()).chain([baseline.clone()]).chain(labelled) {
            dated(path.expose(), Timestamp::UNIX_EPOCH, &zone)?;
            if let Some(word) = unknown_placeholder(path.expose()) {
                return Err(format!(
                    "'{path}': {{{word}}} stands for nothing; write {{day}}, or for example {{day:%Y/%m/%d}}"
                ));
            }
        }
        options.false_discovery_rate = triggers.drift.fdr.value;
        let numbers = triggers.performance.metric.value.is_some_and(PerformanceMetric::is_of_numbers);
        let declared_baseline = Location::from(self.baseline);
        Ok(Model {
            compared: model::Model {
                name: self.name,
                baseline_is_nightly: previous || declared_baseline.expose().contains("{day"),
                baseline_hash: None,
                baseline,
                windows,
                zone,
                previous,
                slice_by: self.slice_by,
                segments,
                importance: self.importance.unwrap_or(1.0),
                options,
                outcomes: labels.as_ref().map(|labels| labels.columns(numbers)),
                features: self.features,
                exclude: self.exclude,
                columns: self.feature.into_iter().map(|(name, table)| (name, table.settings())).collect(),
            },
            declared_baseline,
            triggers,
            labels,
            feature_set: self.feature_set,
            trainer: TrainerChoice::resolve(self.trainer, self.trainer_command)?,
            retrain,
            gates,
            rollout,
            convention_origin: if self.convention.is_some() { Origin::Model } else { Origin::Fleet },
            thresholds: [self.thresholds, *fleet.defaults.thresholds.get()],
        })
    }

    /// How it is compared, where `[defaults]` says the rest; with its importance and that of its features checked.
    fn options(&self, defaults: &Options) -> Validated<Options> {
        let importance = self.importance.unwrap_or(1.0);
        if !importance.is_finite() || importance < 0.0 {
            return Err(format!("importance {importance} must be 0 or more"));
        }
        let mut options = defaults.clone();
        apply(&mut options, &self.metrics, self.bins, self.category_limit, &self.convention)?;
        let importance_of =
            |(name, table): (_, &FeatureTable)| Some((name, table.importance.filter(|x| !(0.0..=1e9).contains(x))?));
        if let Some((name, bad)) = self.feature.iter().find_map(importance_of) {
            return Err(format!("feature '{name}': importance {bad} must be between 0 and 1e9"));
        }
        let of_features = self.feature.values().map(|feature| &feature.thresholds);
        match std::iter::once(&self.thresholds).chain(of_features).find_map(PartialThresholds::mistake) {
            Some(mistake) => Err(mistake),
            None => {
                options.thresholds = self.thresholds.over(options.thresholds);
                Ok(options)
            }
        }
    }

    /// The windows of its current data.
    fn windows(&self, folder: &Path, previous: bool) -> Validated<Vec<Window>> {
        let periods = self.windows.iter().map(|text| Ok((text, Period::parse(text)?)));
        let periods = periods.collect::<Validated<Vec<_>>>()?;
        if self.time.is_some() && periods.is_empty() {
            return Err("`time` is for windows; list them with `windows`".into());
        }
        for (key, names) in [("windows", &self.windows), ("slice_by", &self.slice_by)] {
            if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
                return Err(format!("{key} names '{}' twice", twice.1));
            }
        }
        if self.time.is_none() && !periods.is_empty() {
            return Err("windows are found by time; name the column of times with `time`".into());
        }
        if previous && periods.is_empty() {
            return Err("baseline = \"previous\" compares windows; list them with `windows`".into());
        }
        let timed = |period: Period| self.time.clone().map(|column| (column, period));
        match &self.current {
            Current::One(current) if periods.is_empty() => Ok(vec![Window::whole("", resolve(folder, current))]),
            Current::One(current) => {
                let window = |(name, period): (&String, Period)| Window {
                    period: timed(period),
                    ..Window::whole(name, resolve(folder, current))
                };
                Ok(periods.into_iter().map(window).collect())
            }
            Current::Windows(_) if !periods.is_empty() => {
                Err("`current` names its windows already; leave out `windows`".into())
            }
            Current::Windows(windows) => {
                Ok(windows.iter().map(|(name, current)| Window::whole(name, resolve(folder, current))).collect())
            }
        }
    }

    /// Its triggers. A performance metric whose column the labels do not name is refused.
    fn triggers(&self, defaults: &Settings, previous: bool) -> Validated<Triggers> {
        let mut triggers = self.trigger.over(defaults.trigger.get())?;
        // A step change is seen only once: on the next night both sides are after it.
        if previous && triggers.drift.persistence.origin == Origin::BuiltIn {
            triggers.drift.persistence.value = Persistence { hits: 1, of: 1 };
        }
        let judged = triggers.performance.judged_metric();
        if let Some(table) = &self.labels
            && ((judged.needs_score() && table.score.is_none())
                || (judged.is_of_numbers() && table.prediction.is_none()))
        {
            let column = if judged.needs_score() { "score" } else { "prediction" };
            return Err(format!("metric = \"{judged}\" takes a {column}; name its column with labels.{column}"));
        }
        Ok(triggers)
    }

    /// How its predictions are joined with labels.
    fn labels(&self, folder: &Path, windows: &[Window], baseline: Option<&Location>) -> Validated<Option<Labels>> {
        let Some(table) = self.labels.clone() else { return Ok(None) };
        if let [first, second, ..] = windows
            && first.current != second.current
            && table.needs_current()
        {
            return Err("`current` names several snapshots; name that of labels.predictions".into());
        }
        let path = |path: &str| resolve(folder, path);
        table.resolve(&windows[0].current, baseline, self.time.as_deref(), path).map(Some)
    }
}

/// The segments that are compared separately, by their names.
fn segments(tables: IndexMap<String, IndexMap<String, ConditionTable>>) -> Validated<Vec<(String, Slice)>> {
    let segment = |(name, conditions): (String, IndexMap<String, ConditionTable>)| {
        let condition = |(column, table): (String, ConditionTable)| match table.test() {
            Ok(test) => Ok(Condition { column, test }),
            Err(reason) => Err(format!("segment '{name}', {column}: {reason}")),
        };
        let slice = Slice(conditions.into_iter().map(condition).collect::<Validated<_>>()?);
        if name.is_empty() || slice.0.is_empty() {
            return Err("a segment needs a name and at least one condition".into());
        }
        Ok((name, slice))
    };
    tables.into_iter().map(segment).collect()
}

/// Sets what `[defaults]` or a model says about comparisons.
pub(crate) fn apply(
    options: &mut Options,
    metrics: &Option<Vec<String>>,
    bins: Option<usize>,
    category_limit: Option<usize>,
    convention: &Option<ConventionSetting>,
) -> Validated<()> {
    if let Some(names) = metrics {
        if names.is_empty() {
            return Err("metrics = [] compares nothing; leave it out for all metrics".into());
        }
        options.metrics = names
            .iter()
            .map(|name| Metric::from_str(name))
            .collect::<Result<MetricSet>>()
            .map_err(|e| e.to_string())?;
    }
    if let Some(bins) = bins {
        options.bins = check_bins(bins)?;
    }
    if let Some(limit) = category_limit {
        if limit == 0 {
            return Err("category_limit must be 1 or more".into());
        }
        options.category_limit = limit;
    }
    if let Some(convention) = convention {
        options.convention = convention.0;
    }
    Ok(())
}
