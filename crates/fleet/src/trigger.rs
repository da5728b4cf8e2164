//! The settings of the four retrain triggers, each with its origin.

use std::fmt::Display;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::checks::{Validated, in_range};
use crate::schedule::Schedule;
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::rule::FALSE_DISCOVERY_RATE;
use driftsweep_common::duration::Length;
use driftsweep_common::error::Error;

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
    fn nearest(model: Option<T>, fleet: Option<T>, built_in: T) -> Self {
        match (model, fleet) {
            (Some(value), _) => Self { value, origin: Origin::Model },
            (None, Some(value)) => Self { value, origin: Origin::Fleet },
            (None, None) => Self { value: built_in, origin: Origin::BuiltIn },
        }
    }
}

/// One of the four retrain triggers.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = Error, parse_err_fn = Self::unknown)]
pub enum Trigger {
    /// A schedule.
    Schedule,
    /// Its performance is too low.
    Performance,
    /// Its data have drifted.
    Drift,
    /// There are many new labels.
    Volume,
}

impl Trigger {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name in fleet files, events and reports.
    pub fn name(self) -> &'static str {
        self.into()
    }

    fn unknown(name: &str) -> Error {
        Error::unknown("trigger", name, Self::ALL.iter().map(|trigger| trigger.name()))
    }
}

/// How many features must drift for the trigger to fire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// A number of features.
    AtLeast(usize),
    /// A share of the compared features.
    Share(f64),
    /// A share of the importance of the compared features.
    WeightedShare(f64),
}

/// In how many of the last sweeps a column must be over its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// In this many ...
    pub hits: usize,
    /// ... of this many sweeps.
    pub of: usize,
}

/// A model's triggers, resolved.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// Triggers that are switched off.
    pub off: Setting<Vec<Trigger>>,
    /// The schedule of trainings, if there is one.
    pub schedule: Setting<Option<Schedule>>,
    /// The shortest time between two events.
    pub cooldown: Setting<SignedDuration>,
    /// How many features must drift.
    pub quorum: Setting<Quorum>,
    /// In how many of the last sweeps each of them.
    pub persistence: Setting<Persistence>,
    /// False discovery rate over all tests of a sweep up to which a test is called, in reports and for the trigger.
    pub fdr: Setting<f64>,
    /// The performance metric.
    pub metric: Setting<Option<PerformanceMetric>>,
    /// The trigger level: values below it (above it for errors) trigger.
    pub level: Setting<Option<f64>>,
    /// The warning level.
    pub warning: Setting<Option<f64>>,
    /// The period of predictions that are used ...
    pub performance_within: Setting<SignedDuration>,
    /// ... and the largest number of them, newest first.
    pub rows: Setting<usize>,
    /// The smallest number of labels.
    pub min_labels: Setting<usize>,
    /// Confidence of the interval, all of which must be beyond the level.
    pub confidence: Setting<f64>,
    /// Whether the volume trigger is on: only where `[trigger.volume]` is set.
    pub volume: Setting<bool>,
    /// The number of new labels ...
    pub labels: Setting<u64>,
    /// ... and the period in which they must arrive.
    pub volume_within: Setting<SignedDuration>,
}

impl Triggers {
    /// Why a trigger of a model cannot fire; `None` where it can. `labels` says whether `[model.labels]` is set.
    pub fn inactive(&self, trigger: Trigger, labels: bool) -> Option<String> {
        if self.off.value.contains(&trigger) {
            return Some(format!("off ({})", self.off.origin.name()));
        }
        let missing = match trigger {
            Trigger::Schedule => self.schedule.value.is_none().then_some("schedule"),
            Trigger::Drift => None,
            Trigger::Performance | Trigger::Volume if !labels => Some("[model.labels]"),
            Trigger::Performance => self.level.value.is_none().then_some("trigger.performance.level"),
            Trigger::Volume => (!self.volume.value).then_some("[trigger.volume]"),
        };
        missing.map(|missing| format!("not set: {missing}"))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriggerTable {
    off: Option<Vec<Trigger>>,
    schedule: Option<String>,
    cooldown: Option<Length>,
    #[serde(default)]
    drift: DriftTable,
    #[serde(default)]
    performance: PerformanceTable,
    volume: Option<VolumeTable>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DriftTable {
    at_least: Option<usize>,
    share: Option<f64>,
    weighted_share: Option<f64>,
    persistence: Option<String>,
    fdr: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PerformanceTable {
    metric: Option<PerformanceMetric>,
    level: Option<f64>,
    warning: Option<f64>,
    within: Option<Length>,
    rows: Option<usize>,
    min_labels: Option<usize>,
    confidence: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeTable {
    labels: Option<u64>,
    within: Option<Length>,
}

/// Checks one number against its range, if it is given.
fn check_range<T: PartialOrd + Display>(
    what: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Validated<Option<T>> {
    value.map(|value| in_range(what, value, range)).transpose()
}

impl TriggerTable {
    fn quorum(&self) -> Validated<Option<Quorum>> {
        let drift = &self.drift;
        let at_least = check_range("at_least", drift.at_least, 1..=1_000_000)?.map(Quorum::AtLeast);
        let share = |what, share| match check_range(what, share, 0.0..=1.0)? {
            Some(0.0) => Err(format!("{what} = 0 would always hold; use at_least = 1")),
            share => Ok(share),
        };
        let shares = [
            share("share", drift.share)?.map(Quorum::Share),
            share("weighted_share", drift.weighted_share)?.map(Quorum::WeightedShare),
        ];
        let mut given = shares.into_iter().chain([at_least]).flatten();
        match (given.next(), given.next()) {
            (_, Some(_)) => Err("give one of at_least, share and weighted_share".into()),
            (quorum, None) => Ok(quorum),
        }
    }

    fn persistence(&self) -> Validated<Option<Persistence>> {
        let Some(text) = &self.drift.persistence else { return Ok(None) };
        let wrong = || format!("persistence = \"{text}\": write \"2 of 3\", at most of 100");
        let (hits, of) = text.split_once(" of ").ok_or_else(wrong)?;
        let (hits, of) = (hits.trim().parse().map_err(|_| wrong())?, of.trim().parse().map_err(|_| wrong())?);
        if hits == 0 || hits > of || of > 100 { Err(wrong()) } else { Ok(Some(Persistence { hits, of })) }
    }

    fn schedule(&self) -> Validated<Option<Option<Schedule>>> {
        self.schedule.as_deref().map(|text| Schedule::parse(text).map(Some)).transpose()
    }

    /// The settings of a model, else those of the fleet, else the defaults.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub(crate) fn over(&self, fleet: &Self) -> Validated<Triggers> {
        const WEEK: SignedDuration = SignedDuration::from_hours(24 * 7);
        let length = |model: Option<Length>, fleet: Option<Length>| {
            Setting::nearest(model.map(Length::signed), fleet.map(Length::signed), WEEK)
        };
        let (p, fp) = (&self.performance, &fleet.performance);
        let [v, fv] = [self, fleet].map(|table| table.volume.clone().unwrap_or_default());
        let metric = Setting::nearest(p.metric.map(Some), fp.metric.map(Some), None);
        // A level belongs to a metric: a level for another metric is not inherited.
        let or_default = |metric: Option<PerformanceMetric>| metric.unwrap_or(PerformanceMetric::Accuracy);
        let same = p.metric.is_none() || p.metric == Some(or_default(fp.metric));
        let level = |model: Option<f64>, fleet: Option<f64>, built_in: Option<f64>| {
            Setting::nearest(model.map(Some), fleet.filter(|_| same).map(Some), built_in)
        };
        let of_shares = metric.value.is_none_or(|metric| metric == PerformanceMetric::Accuracy);
        let triggers = Triggers {
            off: Setting::nearest(self.off.clone(), fleet.off.clone(), Vec::new()),
            schedule: Setting::nearest(self.schedule()?, fleet.schedule()?, None),
            cooldown: length(self.cooldown, fleet.cooldown),
            quorum: Setting::nearest(self.quorum()?, fleet.quorum()?, Quorum::AtLeast(1)),
            persistence: Setting::nearest(self.persistence()?, fleet.persistence()?, Persistence { hits: 2, of: 3 }),
            fdr: Setting::nearest(
                check_range("fdr", self.drift.fdr, 0.0..=1.0)?,
                check_range("fdr", fleet.drift.fdr, 0.0..=1.0)?,
                FALSE_DISCOVERY_RATE,
            ),
            metric,
            level: level(p.level, fp.level, Some(0.9).filter(|_| of_shares)),
            warning: level(p.warning, fp.warning, None),
            performance_within: length(p.within, fp.within),
            rows: Setting::nearest(
                check_range("rows", p.rows, 1..=100_000_000)?,
                check_range("rows", fp.rows, 1..=100_000_000)?,
                10_000,
            ),
            min_labels: Setting::nearest(
                check_range("min_labels", p.min_labels, 1..=100_000_000)?,
                check_range("min_labels", fp.min_labels, 1..=100_000_000)?,
                200,
            ),
            confidence: Setting::nearest(
                check_range("confidence", p.confidence, 0.5..=0.999_999)?,
                check_range("confidence", fp.confidence, 0.5..=0.999_999)?,
                0.95,
            ),
            volume: Setting::nearest(self.volume.as_ref().map(|_| true), fleet.volume.as_ref().map(|_| true), false),
            labels: Setting::nearest(
                check_range("labels", v.labels, 1..=u64::MAX)?,
                check_range("labels", fv.labels, 1..=u64::MAX)?,
                5000,
            ),
            volume_within: length(v.within, fv.within),
        };
        let judged = or_default(triggers.metric.value);
        let most = if judged.higher_is_better() { 1.0 } else { f64::MAX };
        for x in [triggers.level.value, triggers.warning.value].into_iter().flatten() {
            if !(0.0..=most).contains(&x) {
                let range = if most == 1.0 { "between 0 and 1" } else { "0 or more" };
                return Err(format!("level = {x}: {judged} is {range}"));
            }
        }
        if triggers.rows.value < triggers.min_labels.value {
            let (rows, least) = (triggers.rows.value, triggers.min_labels.value);
            return Err(format!("rows = {rows} are fewer than min_labels = {least}"));
        }
        if triggers.performance_within.value.is_zero() || triggers.volume_within.value.is_zero() {
            return Err("within = \"0d\" looks at nothing".into());
        }
        let higher = judged.higher_is_better();
        if let (Some(level), Some(warning)) = (triggers.level.value, triggers.warning.value)
            && (warning < level) == higher
            && warning != level
        {
            return Err(format!("warning = {warning} comes after level = {level}; it must come before"));
        }
        Ok(triggers)
    }
}
