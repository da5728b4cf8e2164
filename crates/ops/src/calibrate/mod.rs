//! Calibration: the thresholds that give a wanted number of false alarms a night, estimated from the baselines' own
//! counts, and the past alarms that would remain.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::Path;

use jiff::Timestamp;
use rayon::prelude::*;
use serde::Serialize;

use crate::policy::calibrate::{self, Nights, NullModelColumn};
use driftsweep::baseline::{Baseline, BaselineBuilder, BaselineFile, Frozen, FrozenFeature};
use driftsweep::count::Counter;
use driftsweep::history::HistoryEntry;
use driftsweep::metric::Kind;
use driftsweep::model::Role;
use driftsweep::rule::{NullDistribution, Rule, Subject, rules};
use driftsweep::snapshot::Snapshot;
use driftsweep::sweep::figures;
use driftsweep_common::error::{Error, Fault, Result};
use driftsweep_fleet::{Fleet, Model};

/// The settings of a calibration.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationOptions {
    /// False alarms a night, over the whole fleet: columns over a limit on a night without change.
    pub rate: f64,
    /// Nights without change to simulate for each column.
    pub nights: usize,
    /// Whether each model gets its own thresholds.
    pub by_model: bool,
}

/// The recommendation for one threshold, of the fleet or of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ThresholdRecommendation {
    /// The model; absent for the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Which threshold, by its key in the fleet file.
    pub limit: &'static str,
    /// Columns that it applies to, in all windows and segments.
    pub columns: usize,
    /// The values that 50 %, 99 % and 99.99 % of the columns stay below on a night without change.
    pub no_change: [f64; 3],
    /// The current threshold, where no more specific setting overrides it.
    pub now: f64,
    /// Expected false alarms a night with the current threshold.
    pub alarms_now: f64,
    /// The recommended threshold.
    pub recommended: f64,
    /// Expected false alarms a night with the recommended threshold.
    pub alarms: f64,
    /// Past sweeps that have the figure.
    pub past_sweeps: usize,
    /// The values that 50 %, 99 % and all of the columns stayed below in the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past: Option<[f64; 3]>,
    /// Columns over the current threshold, in all past sweeps.
    pub past_alarms: usize,
    /// Those of them that are also over the recommended threshold.
    pub past_alarms_that_remain: usize,
}

/// A column that was over its threshold in a past sweep.
#[derive(Clone, Debug, Serialize)]
pub struct PastAlarm {
    /// The sweep.
    pub as_of: Timestamp,
    /// The model.
    pub model: String,
    /// The window.
    pub window: String,
    /// The segment.
    pub segment: String,
    /// The column.
    pub feature: String,
    /// Which threshold, by its key in the fleet file.
    pub limit: &'static str,
    /// The figure.
    pub value: f64,
    /// Whether it is also over the recommended threshold.
    pub remains: bool,
}

/// Limits, models that were skipped with the reason, and the alarms of the past.
#[derive(Debug, Serialize)]
pub struct Calibration {
    /// The limits.
    pub limits: Vec<ThresholdRecommendation>,
    /// The alarms of the past, oldest first.
    pub past_alarms: Vec<PastAlarm>,
    /// Models that were skipped, with the reasons.
    pub left_out: Vec<(String, String)>,
    /// Files of the history that were skipped, with the reasons.
    pub history_left_out: Vec<Fault>,
}

/// Simulates nights without change for every column of a fleet, as a sweep at a given time would compare it, and
/// replays past sweeps.
pub fn calibrate(
    counter: &dyn Counter,
    fleet: &Fleet,
    as_of: Timestamp,
    mut past: HistoryReplay<'_>,
    settings: CalibrationOptions,
) -> Calibration {
    let fleet = fleet.at(as_of);
    let survey = fleet.plan(as_of).survey();
    let mut rows: HashMap<(&str, &str), Vec<u64>> = HashMap::new();
    for planned in survey.comparisons.iter().filter(|planned| planned.error.is_none()) {
        rows.entry((&planned.model, &planned.segment)).or_default().push(planned.rows.current);
    }
    type NoChangeByThreshold = HashMap<(Option<String>, &'static str), Nights>;
    let merge = |mut all: NoChangeByThreshold, other: NoChangeByThreshold| {
        for (key, drawn) in other {
            let before = all.remove(&key).unwrap_or_default();
            all.insert(key, before.merge(drawn));
        }
        all
    };
    let draw = |model: &Model| -> std::result::Result<NoChangeByThreshold, (String, String)> {
        let failed = |reason: String| (model.name.clone(), reason);
        if model.previous {
            return Err(failed("it is compared with its previous window; it has no baseline to draw from".into()));
        }
        let features = features(counter, model).map_err(|e| failed(e.to_string()))?;
        let key = |limit: &'static str| (settings.by_model.then(|| model.name.clone()), limit);
        let columns = features.par_iter().flat_map_iter(|feature| {
            let rows = rows.get(&(&*model.name, &*feature.segment)).map_or(&[][..], Vec::as_slice);
            rows.iter().flat_map(|&current| columns(model, feature, current))
        });
        let drawn =
            columns.map(|(rule, column)| HashMap::from([(key(rule.key()), Nights::of(&column, settings.nights))]));
        Ok(drawn.reduce(NoChangeByThreshold::new, merge))
    };
    let (mut drawn, mut left_out) = (NoChangeByThreshold::new(), Vec::new());
    for found in fleet.models.par_iter().map(draw).collect::<Vec<_>>() {
        match found {
            Ok(found) => drawn = merge(drawn, found),
            Err(reason) => left_out.push(reason),
        }
    }

    past.values.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
    past.alarms.sort_by_key(|alarm| alarm.as_of);
    // The wanted alarms are divided among the thresholds, and among the models where each has its own, in proportion to
    // their columns.
    let total: usize = drawn.values().map(|drawn| drawn.columns).sum();
    let mut limits: Vec<ThresholdRecommendation> = drawn
        .into_iter()
        .filter_map(|((model, limit), drawn)| {
            let rule = rules().find(|rule| rule.key() == limit)?;
            let share = settings.rate * drawn.columns as f64 / total as f64;
            let recommended = round_up(drawn.limit(share)).min(rule.largest);
            let thresholds = fleet.models.iter().find(|m| model.as_ref().is_none_or(|name| *name == m.name));
            let values = past.values.get(&(model.clone(), limit)).map_or(&[][..], Vec::as_slice);
            let of = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
            Some(ThresholdRecommendation {
                limit,
                columns: drawn.columns,
                no_change: [0.5, 0.99, 0.9999].map(|share| drawn.quantile(share)),
                now: thresholds.map_or(f64::NAN, |model| rule.threshold(&model.options.thresholds)),
                alarms_now: drawn.alarms_now,
                recommended,
                alarms: drawn.alarms(recommended),
                past_sweeps: past.sweeps.len(),
                past: (!values.is_empty()).then(|| [of(0.5), of(0.99), of(1.0)]),
                past_alarms: 0,
                past_alarms_that_remain: 0,
                model,
            })
        })
        .collect();
    limits.sort_by(|a, b| (&a.model, a.limit).cmp(&(&b.model, b.limit)));
    let mut past_alarms = past.alarms;
    for alarm in &mut past_alarms {
        let of = |found: &&mut ThresholdRecommendation| {
            found.limit == alarm.limit && found.model.as_ref().is_none_or(|model| *model == alarm.model)
        };
        if let Some(found) = limits.iter_mut().find(of) {
            alarm.remains = alarm.value.abs() > found.recommended;
            found.past_alarms += 1;
            found.past_alarms_that_remain += usize::from(alarm.remains);
        }
    }
    Calibration { limits, past_alarms, left_out, history_left_out: past.left_out }
}

/// The baseline's features, from its file or counted now.
fn features(counter: &dyn Counter, model: &Model) -> Result<Vec<FrozenFeature>> {
    let path = Path::new(model.baseline.expose());
    if Baseline::is_baseline_file(path) {
        let file = BaselineFile::open(path)?;
        return file.features().map(|feature| feature.decode()).collect();
    }
    let snapshot = Snapshot::open(model.baseline.expose())?;
    let segments = model.segments_in(&snapshot)?;
    let builder = BaselineBuilder::new(&snapshot).segments(segments).options(&model.options);
    Ok(builder.columns(|name| model.use_of(name)).build(counter)?.features)
}

/// The figures of a feature that have a threshold, with the rule of each.
fn columns(model: &Model, feature: &FrozenFeature, current: u64) -> Vec<(&'static Rule, NullModelColumn)> {
    let thresholds = model.thresholds_of(&feature.name);
    let (rows, missing) = (feature.tally.rows, feature.tally.missing());
    let mut columns = Vec::new();
    if !model.use_of(&feature.name).is_compared() || rows.min(current) < thresholds.min_rows {
        return columns;
    }
    // The current side is taken to miss as many values as the baseline.
    let values = (current as f64 * (1.0 - missing as f64 / rows as f64)).round() as u64;
    let sides = [rows - missing, values];
    let enough_values = sides[0].min(sides[1]) >= thresholds.min_rows;
    for rule in rules() {
        // By a convention other limits decide; labels that are missing have not arrived yet.
        let is_judged = match rule.judges {
            Subject::MissingRows => model.role_of(&feature.name) != Role::Label,
            Subject::Numbers | Subject::Categories => model.options.convention.is_none(),
        };
        if !is_judged {
            continue;
        }
        let drawn = match (rule.judges, &feature.data) {
            (Subject::MissingRows, _) => Some((vec![missing, rows - missing], [rows, current])),
            (Subject::Numbers, Frozen::Numeric(ecdf)) if enough_values => match rule.no_change {
                NullDistribution::OfSizes => Some((Vec::new(), sides)),
                _ => figures::tie_counts(ecdf, model.options.bins).map(|counts| (counts, sides)),
            },
            (Subject::Categories, Frozen::Categorical(categories)) if enough_values => {
                let counts = categories.counts.iter().map(|(_, count)| *count);
                let pooled = Some(categories.pooled).filter(|&pooled| pooled > 0);
                let counts: Vec<u64> = counts.chain(pooled).collect();
                Some((calibrate::categories(&counts), sides))
            }
            _ => None,
        };
        if let Some((weights, rows)) = drawn {
            let mut seed = DefaultHasher::new();
            (&model.name, &feature.segment, &feature.name, rule.key(), rows).hash(&mut seed);
            let (no_change, limit) = (rule.no_change, rule.threshold(&thresholds));
            columns.push((rule, NullModelColumn { no_change, weights, rows, limit, seed: seed.finish() }));
        }
    }
    columns
}

/// Rounds up to three digits.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 10f64.powi(value.log10().floor() as i32 - 2);
    // Through its decimal form, so that no rounding error shows in the last digits.
    format!("{:.12}", (value / unit).ceil() * unit).parse().unwrap_or(value)
}

/// The figures of past sweeps, added one by one.
pub struct HistoryReplay<'a> {
    models: HashMap<&'a str, &'a Model>,
    by_model: bool,
    sweeps: HashSet<String>,
    values: HashMap<(Option<String>, &'static str), Vec<f64>>,
    alarms: Vec<PastAlarm>,
    left_out: Vec<Fault>,
}

impl<'a> HistoryReplay<'a> {
    /// For a fleet, before any sweep.
    pub fn of(fleet: &'a Fleet, settings: CalibrationOptions) -> Self {
        Self {
            models: fleet.models.iter().map(|model| (&*model.name, model)).collect(),
            by_model: settings.by_model,
            sweeps: HashSet::new(),
            values: HashMap::new(),
            alarms: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Records a file of the history that cannot be read.
    pub fn leave_out(&mut self, error: &Error) {
        self.left_out.push(Fault::from(error));
    }

    /// Adds an entry of the history, if it is a figure with a threshold of a model that still exists.
    pub fn add(&mut self, entry: HistoryEntry) {
        let Some(model) = self.models.get(&*entry.model) else { return };
        let Some(rule) = rules().find(|rule| rule.figure == entry.metric) else { return };
        // The figure of numbers or of categories, as verdicts use it; only columns with enough values.
        let has_rules = model.options.convention.is_none();
        let of_kind = match rule.judges {
            Subject::Numbers if !has_rules => false,
            Subject::Categories if !has_rules => false,
            Subject::MissingRows if model.role_of(&entry.feature) == Role::Label => false,
            Subject::Numbers => entry.kind == Kind::Numeric.name(),
            Subject::Categories => entry.kind == Kind::Categorical.name(),
            Subject::MissingRows => true,
        };
        let (Some(value), true) = (entry.value, of_kind && matches!(&*entry.status, "ok" | "constant")) else { return };
        let (limit, now) = (rule.key(), rule.threshold(&model.thresholds_of(&entry.feature)));
        if !self.sweeps.contains(&entry.sweep) {
            self.sweeps.insert(entry.sweep);
        }
        self.values.entry((self.by_model.then(|| entry.model.clone()), limit)).or_default().push(value.abs());
        if value.abs() > now && now > 0.0 {
            let HistoryEntry { as_of, model, window, segment, feature, .. } = entry;
            self.alarms.push(PastAlarm { as_of, model, window, segment, feature, limit, value, remains: true });
        }
    }
}
