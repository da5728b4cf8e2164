//! How an accepted candidate is released: `[model.rollout]` of the fleet file.

use std::fmt;
use std::path::Path;

use indexmap::IndexMap;
use jiff::SignedDuration;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::checks::{Validated, in_range, text};
use crate::labels::Labels;
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep_common::duration::Length;
use driftsweep_extensions::traffic::{TrafficConfig, TrafficTable};
use driftsweep_release::plan::{Check, CheckKind, DEFAULT_LEVEL, DEFAULT_MARGIN, DEFAULT_WORSE, RolloutPlan, Stage};

/// How a model is released, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutConfig {
    /// The column of the predictions that says which arm made them.
    pub arm: String,
    /// The name of the candidate's arm; `{version}` stands for its version.
    pub candidate: String,
    /// The name of the arm in production; `{version}` stands for the version of the champion.
    pub production: String,
    /// The column of what is assigned as one, such as a user; absent where each prediction is assigned by itself.
    pub unit: Option<String>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// How long the candidate has all traffic before it is settled.
    pub settle: SignedDuration,
    /// How long a stage waits for evidence after its time.
    pub give_up: SignedDuration,
    /// The probability of a wrong rollback.
    pub level: f64,
    /// The probability of a wrong alarm.
    pub alarm_level: f64,
    /// The largest PSI between the predictions of both arms.
    pub prediction_drift: Option<f64>,
    /// What is compared.
    pub checks: Vec<CheckConfig>,
    /// How traffic is divided.
    pub traffic: TrafficConfig,
    /// The same as the fleet file has it: paths are relative to the file, wherever it was named from.
    pub declared_traffic: String,
}

/// A comparison of both arms.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckConfig {
    /// Its name: `quality`, or the name of its table.
    pub name: String,
    /// Where its outcomes are.
    pub outcome: CheckOutcome,
    /// How long after a prediction its outcome is complete.
    pub matures: SignedDuration,
    /// By how much the candidate may be worse.
    pub tolerance: f64,
    /// By how much it must not be worse before it is promoted; `None` does not ask for that.
    pub margin: Option<f64>,
    /// The difference that the test is designed to find.
    pub worse: f64,
}

/// Where the outcomes of a check are.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckOutcome {
    /// In the labels: one outcome a row, or a pair of rows, by a metric.
    Quality {
        /// The metric.
        metric: PerformanceMetric,
        /// The largest error that counts, where labels are numbers.
        largest_error: f64,
    },
    /// A column that is true where a prediction failed.
    Failed {
        /// The column.
        column: String,
    },
    /// A column with a time; it is bad above a limit.
    Slow {
        /// The column.
        column: String,
        /// The limit; by default the 95th percentile of production in the week before.
        above: Option<f64>,
    },
    /// A column that is true where the outcome is good.
    Good {
        /// The column.
        column: String,
    },
    /// A column with a number of which more is better.
    Number {
        /// The column.
        column: String,
        /// The lower limit; what is below counts as that.
        low: f64,
        /// The upper limit.
        high: f64,
    },
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quality { metric: PerformanceMetric::Mae, largest_error } => write!(f, "mae up to {largest_error}"),
            Self::Quality { metric, .. } => write!(f, "{metric} by labels"),
            Self::Failed { column } => write!(f, "failed: column '{column}'"),
            Self::Slow { column, .. } => write!(f, "slow: column '{column}'"),
            Self::Good { column } => write!(f, "good: column '{column}'"),
            Self::Number { column, low, high } => write!(f, "number: column '{column}', {low} to {high}"),
        }
    }
}

impl CheckOutcome {
    /// The column of the predictions, where outcomes are not in the labels.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Quality { .. } => None,
            Self::Failed { column }
            | Self::Slow { column, .. }
            | Self::Good { column }
            | Self::Number { column, .. } => Some(column),
        }
    }
}

impl RolloutConfig {
    /// The plan of a rollout that begins now. `prior` is the figure of a metric that the version in production has, as validated.
    pub fn plan(&self, prior: impl Fn(PerformanceMetric) -> Option<f64>) -> RolloutPlan {
        RolloutPlan {
            stages: self.stages.clone(),
            settle: self.settle,
            give_up: self.give_up,
            level: self.level,
            checks: self.checks.iter().map(|check| check.planned(&prior)).collect(),
            share_level: self.alarm_level,
        }
    }

    /// By what arms are told apart and traffic is divided, as a hash: an address in it may hold a secret. It differs where one of these
    /// does.
    pub fn settings(&self) -> String {
        let Self { arm, candidate, production, declared_traffic, .. } = self;
        format!("{:032x}", xxh3_128(format!("{arm} {candidate} {production} {declared_traffic}").as_bytes()))
    }

    /// The name of an arm.
    pub fn arm_name(pattern: &str, version: Option<u64>) -> Option<String> {
        match (pattern.contains(VERSION), version) {
            (false, _) => Some(pattern.to_owned()),
            (true, Some(version)) => Some(pattern.replace(VERSION, &version.to_string())),
            (true, None) => None,
        }
    }
}

impl CheckConfig {
    fn planned(&self, prior: &impl Fn(PerformanceMetric) -> Option<f64>) -> Check {
        let binary = |prior: f64| CheckKind::Binary { worse: self.worse, prior };
        let kind = match &self.outcome {
            CheckOutcome::Quality { metric: PerformanceMetric::Brier, .. } => {
                CheckKind::Number { low: -1.0, high: 0.0 }
            }
            CheckOutcome::Quality { metric: PerformanceMetric::Mae, largest_error } => {
                CheckKind::Number { low: -largest_error, high: 0.0 }
            }
            CheckOutcome::Quality { metric, .. } => {
                // Any prior is valid; one that is far off needs more rows.
                const UNKNOWN: f64 = 0.8;
                binary(prior(*metric).filter(|rate| (0.0..=1.0).contains(rate)).unwrap_or(UNKNOWN))
            }
            CheckOutcome::Failed { .. } => binary(0.99),
            CheckOutcome::Slow { .. } => binary(0.95),
            CheckOutcome::Good { .. } => binary(0.5),
            CheckOutcome::Number { low, high, .. } => CheckKind::Number { low: *low, high: *high },
        };
        Check {
            name: self.name.clone(),
            kind,
            tolerance: self.tolerance,
            margin: self.margin,
            source: self.outcome.to_string(),
            limit: None,
        }
    }
}

/// What stands for the version in the name of an arm.
const VERSION: &str = "{version}";

/// The check that is there without being named.
const QUALITY: &str = "quality";

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RolloutTable {
    /// The column of the predictions with the version that made them, or the name of its arm.
    arm: String,
    /// What the column holds for the candidate. By default `{version}`, which stands for its version.
    candidate: Option<String>,
    /// What the column holds for production. By default `{version}`, which stands for that of the champion.
    production: Option<String>,
    /// The column of what is assigned to an arm as one, such as a user. By default each prediction is assigned by itself.
    unit: Option<String>,
    /// The stages, in order; the last one has all traffic. By default 5 % for 1d, 5 % for 2d, 25 % for 4d, then all.
    stages: Option<Vec<StageTable>>,
    /// How long the candidate has all traffic before it is the champion for good, and its baseline is taken over. By default 7d.
    settle: Option<Length>,
    /// How long a stage waits for evidence after its time, before a person must decide. By default 14d.
    give_up: Option<Length>,
    /// The probability that a candidate as good as production is taken back, over all looks and checks. By default 0.05.
    level: Option<f64>,
    /// The probability of a wrong alarm about the division of traffic, or about labels. By default 0.01.
    alarm_level: Option<f64>,
    /// The PSI between the predictions of both arms above which a person must decide. By default it is not compared.
    prediction_drift: Option<f64>,
    /// How labels are compared.
    #[serde(default)]
    quality: QualityTable,
    /// Further comparisons, by columns of the predictions.
    #[serde(default)]
    check: IndexMap<String, CheckTable>,
    /// How traffic is divided.
    traffic: TrafficTable,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct StageTable {
    /// Its name. By default its share.
    name: Option<String>,
    /// The share of traffic of the candidate, above 0 and at most 1.
    share: f64,
    /// How long it lasts at least. By default 0h.
    lasts: Option<Length>,
    /// Whether a person must approve that it is entered. By default not.
    #[serde(default)]
    approval: bool,
    /// Whether it is left only once checks have shown that the candidate is not worse by their margin. By default true; with false
    /// it is left after its time, if outcomes of both arms were seen and it is not shown to be worse.
    prove: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct QualityTable {
    /// accuracy, precision, recall, auc, brier or mae. By default that of the performance trigger, where it is one of these.
    metric: Option<String>,
    /// How long after a prediction its label is there. By default `delay` of the labels.
    matures: Option<Length>,
    /// By how much the candidate may be worse. By default 0.
    tolerance: Option<f64>,
    /// By how much it must not be worse before it is promoted. By default 0.02.
    margin: Option<f64>,
    /// The difference that the test is designed to find. By default 0.05.
    worse: Option<f64>,
    /// The largest error that counts, with mae.
    largest_error: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct CheckTable {
    /// What the column holds.
    kind: CheckColumn,
    /// The column of the predictions.
    column: String,
    /// How long after a prediction its outcome is in the log; what comes later is not counted. By default 1h.
    matures: Option<Length>,
    /// By how much the candidate may be worse. By default 0.
    tolerance: Option<f64>,
    /// By how much it must not be worse before it is promoted. By default that is not asked for.
    margin: Option<f64>,
    /// The difference that the test is designed to find: not for `number`. By default 0.05; for `failed` 0.01.
    worse: Option<f64>,
    /// For `slow`: the limit. By default the 95th percentile of production in the week before the rollout.
    above: Option<f64>,
    /// For `number`: the lower limit.
    low: Option<f64>,
    /// For `number`: the upper limit.
    high: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum CheckColumn {
    /// True, or 1, where the prediction failed.
    Failed,
    /// A time that the prediction took.
    Slow,
    /// True, or 1, where the outcome is good.
    Good,
    /// A number of which more is better.
    Number,
}

/// The metrics by which arms can be compared.
const METRICS: [PerformanceMetric; 6] = [
    PerformanceMetric::Accuracy,
    PerformanceMetric::Precision,
    PerformanceMetric::Recall,
    PerformanceMetric::Auc,
    PerformanceMetric::Brier,
    PerformanceMetric::Mae,
];

/// The metric of a trigger, or the nearest that two arms can be compared by.
fn comparable(metric: PerformanceMetric) -> PerformanceMetric {
    match metric {
        PerformanceMetric::LogLoss => PerformanceMetric::Brier,
        PerformanceMetric::Rmse => PerformanceMetric::Mae,
        PerformanceMetric::F1 => PerformanceMetric::Accuracy,
        other => other,
    }
}

impl QualityTable {
    fn resolve(&self, labels: &Labels, judged: PerformanceMetric) -> Validated<CheckConfig> {
        let metric = match &self.metric {
            None => comparable(judged),
            Some(name) => METRICS.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
                let names: Vec<&str> = METRICS.iter().map(|metric| metric.name()).collect();
                format!("quality.metric = \"{name}\" cannot be compared row by row; give one of {}", names.join(", "))
            })?,
        };
        if metric.needs_score() && labels.score.is_none() {
            return Err(format!("quality.metric = \"{metric}\" takes a score; name its column with labels.score"));
        }
        let matures = match self.matures {
            Some(matures) => matures.signed(),
            None if labels.label_time.is_some() && !labels.delay_declared => {
                return Err("quality: say after which time labels are there: matures = \"…\", or labels.delay".into());
            }
            None => labels.delay,
        };
        // Without a time of its own a label is known after the delay, and not before.
        if labels.label_time.is_none() && matures < labels.delay {
            return Err(format!("quality.matures = {matures:#} is shorter than labels.delay, {:#}", labels.delay));
        }
        let largest_error = match (metric, self.largest_error) {
            (PerformanceMetric::Mae, None) => {
                return Err("quality: mae takes largest_error, the largest error that counts".into());
            }
            (PerformanceMetric::Mae, Some(largest)) if !(largest > 0.0 && largest.is_finite()) => {
                return Err(format!("quality.largest_error = {largest} must be above 0"));
            }
            (_, largest) => largest.unwrap_or(1.0),
        };
        Ok(CheckConfig {
            name: QUALITY.into(),
            outcome: CheckOutcome::Quality { metric, largest_error },
            matures,
            tolerance: self.tolerance.unwrap_or(0.0),
            margin: Some(self.margin.unwrap_or(DEFAULT_MARGIN)),
            worse: self.worse.unwrap_or(DEFAULT_WORSE),
        })
    }
}

impl CheckTable {
    fn resolve(&self, name: &str) -> Validated<CheckConfig> {
        let wrong = |reason: &str| Err(format!("check '{name}': {reason}"));
        text("check", name)?;
        text("column", &self.column)?;
        if name == QUALITY {
            return wrong("is compared by labels; set it with [model.rollout.quality]");
        }
        let column = self.column.clone();
        if self.above.is_some() && self.kind != CheckColumn::Slow {
            return wrong("above is for kind = \"slow\"");
        }
        if (self.low.is_some() || self.high.is_some()) && self.kind != CheckColumn::Number {
            return wrong("low and high are for kind = \"number\"");
        }
        let outcome = match (self.kind, self.low, self.high) {
            (CheckColumn::Failed, ..) => CheckOutcome::Failed { column },
            (CheckColumn::Slow, ..) => CheckOutcome::Slow { column, above: self.above },
            (CheckColumn::Good, ..) => CheckOutcome::Good { column },
            (CheckColumn::Number, Some(low), Some(high)) if low < high => CheckOutcome::Number { column, low, high },
            (CheckColumn::Number, ..) => return wrong("give low and high, the limits of the number"),
        };
        let worse = if self.kind == CheckColumn::Failed { 0.01 } else { DEFAULT_WORSE };
        Ok(CheckConfig {
            name: name.to_owned(),
            outcome,
            matures: self.matures.map_or(SignedDuration::from_hours(1), Length::signed),
            tolerance: self.tolerance.unwrap_or(0.0),
            margin: self.margin,
            worse: self.worse.unwrap_or(worse),
        })
    }
}

/// What a rollout takes from the rest of its model.
pub(crate) struct RolloutContext<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) labels: Option<&'a Labels>,
    /// The metric of the performance trigger.
    pub(crate) judged: PerformanceMetric,
    pub(crate) has_approvers: bool,
}

impl RolloutTable {
    /// Resolved for a model.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub(crate) fn resolve(self, context: &RolloutContext<'_>) -> Validated<RolloutConfig> {
        self.resolved(context).map_err(|reason| format!("rollout: {reason}"))
    }

    fn resolved(self, context: &RolloutContext<'_>) -> Validated<RolloutConfig> {
        let Some(labels) = context.labels else {
            return Err("takes the predictions of both arms; add [model.labels]".into());
        };
        let (candidate, production) =
            (self.candidate.unwrap_or_else(|| VERSION.into()), self.production.unwrap_or_else(|| VERSION.into()));
        for (what, name) in [("arm", &self.arm), ("candidate", &candidate), ("production", &production)] {
            text(what, name)?;
        }
        if candidate == production && !candidate.contains(VERSION) {
            return Err(format!("candidate and production are both '{candidate}'; the arms need different names"));
        }
        let stages = match self.stages {
            None => RolloutPlan::default_stages(),
            Some(stages) => stages.into_iter().map(StageTable::resolve).collect(),
        };
        if stages.iter().any(|stage| stage.approval) && !context.has_approvers {
            return Err("a stage needs approval, and there are no approvers; add [approval] with approvers = \
                        [[\"NAME\"]]"
                .into());
        }
        let mut checks = vec![self.quality.resolve(labels, context.judged)?];
        for (name, table) in &self.check {
            checks.push(table.resolve(name)?);
        }
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        let config = RolloutConfig {
            arm: self.arm,
            candidate,
            production,
            unit: self.unit,
            stages,
            settle: self.settle.map_or(days(7), Length::signed),
            give_up: self.give_up.map_or(days(14), Length::signed),
            level: self.level.unwrap_or(DEFAULT_LEVEL),
            alarm_level: self.alarm_level.unwrap_or(0.01),
            prediction_drift: self
                .prediction_drift
                .map(|limit| in_range("prediction_drift", limit, 0.0..=100.0))
                .transpose()?,
            checks,
            declared_traffic: format!("{:?}", self.traffic),
            traffic: self.traffic.resolve(context.folder)?,
        };
        config.plan(|_| None).check()?;
        let parts = |share: f64| (share * 10_000.0).round();
        if let Some(stage) =
            config.stages.iter().find(|stage| stage.share < 1.0 && !(1.0..=9999.0).contains(&parts(stage.share)))
        {
            return Err(format!(
                "stages: a share of {} cannot be set; traffic is divided in parts of 10,000",
                stage.share
            ));
        }
        for pattern in [&config.candidate, &config.production] {
            let name = pattern.replace(VERSION, "1");
            config.traffic.settings().check_arm(&name).map_err(|reason| format!("traffic: {reason}"))?;
        }
        Ok(config)
    }
}

impl StageTable {
    fn resolve(self) -> Stage {
        Stage {
            name: self.name.unwrap_or_else(|| format!("{} %", (self.share * 1e4).round() / 1e2)),
            share: self.share,
            lasts: self.lasts.map_or(SignedDuration::ZERO, Length::signed),
            approval: self.approval,
            prove: self.prove.unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fleet;
    use driftsweep::model::Options;

    const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.labels]\nid = \"i\"\ntime = \"t\"\n\
                         label = \"l\"\nprediction = \"p\"\ndelay = \"2d\"\n";

    fn parse(rollout: &str) -> Result<RolloutConfig, String> {
        let text = format!("{MODEL}[model.rollout]\n{rollout}");
        let fleet = Fleet::parse(&text, "/f/fleet.toml".as_ref(), &Options::new()).map_err(|e| e.to_string())?;
        Ok(fleet.models.into_iter().next().unwrap().rollout.unwrap())
    }

    #[test]
    fn what_is_not_set_has_the_documented_default() {
        let config = parse("arm = \"version\"\ntraffic = { file = \"w.json\" }\n").unwrap();
        assert_eq!((&*config.candidate, &*config.production), ("{version}", "{version}"));
        assert_eq!(RolloutConfig::arm_name(&config.candidate, Some(3)).as_deref(), Some("3"));
        assert_eq!(RolloutConfig::arm_name(&config.production, None), None);
        assert_eq!(config.stages, RolloutPlan::default_stages());
        let [quality] = &*config.checks else { panic!("{config:?}") };
        assert_eq!(
            (quality.matures, quality.tolerance, quality.margin),
            (SignedDuration::from_hours(48), 0.0, Some(0.02))
        );
        assert_eq!(quality.worse, 0.05);
        let TrafficConfig::File(file) = &config.traffic else { panic!("{config:?}") };
        assert_eq!(file.path, Path::new("/f/w.json"));
        assert!(!config.declared_traffic.contains("/f/") && config.settings().len() == 32, "{config:?}");
        let plan = config.plan(|_| Some(0.91));
        assert_eq!(plan.checks[0].kind, CheckKind::Binary { worse: 0.05, prior: 0.91 });
    }

    #[test]
    fn mistakes_are_refused_with_what_is_possible() {
        let base = "arm = \"v\"\ntraffic = { file = \"w\" }\n";
        for (rollout, words) in [
            ("arm = \"v\"\ntraffic = {}\n", "names no adapter"),
            ("arm = \"v\"\ntraffic = { file = \"w\", webhook = { url = \"http://h\" } }\n", "give one of"),
            ("arm = \"v\"\ncandidate = \"x\"\nproduction = \"x\"\ntraffic = { file = \"w\" }\n", "different names"),
            (&format!("{base}stages = [{{ share = 0.5 }}]\n"), "must be 1"),
            (&format!("{base}stages = [{{ share = 1.0, approval = true }}]\n"), "no approvers"),
            (&format!("{base}stages = [{{ share = 0.00001 }}, {{ share = 1.0 }}]\n"), "parts of 10,000"),
            (&format!("{base}quality = {{ metric = \"f1\" }}\n"), "row by row"),
            (&format!("{base}quality = {{ metric = \"auc\" }}\n"), "takes a score"),
            (&format!("{base}quality = {{ metric = \"mae\" }}\n"), "largest_error"),
            (&format!("{base}quality = {{ tolerance = 0.05 }}\n"), "worse is 0.05"),
            (&format!("{base}quality = {{ matures = \"1h\" }}\n"), "shorter than labels.delay"),
            (&format!("{base}check.quality = {{ kind = \"good\", column = \"c\" }}\n"), "[model.rollout.quality]"),
            (&format!("{base}check.x = {{ kind = \"number\", column = \"c\" }}\n"), "low and high"),
            (&format!("{base}check.x = {{ kind = \"good\", column = \"c\", above = 3.0 }}\n"), "kind = \"slow\""),
            (
                "arm = \"v\"\ncandidate = \"a b\"\ntraffic = { nginx = { include = \"i\", variable = \"v\", key = \"$a\" } }\n",
                "cannot be a value",
            ),
            ("arm = \"v\"\ntraffic = { gateway = { route = \"r\" } }\n", "name of a Service"),
        ] {
            let error = parse(rollout).unwrap_err();
            assert!(error.contains(words) && error.contains("rollout"), "{rollout}\n{error}");
        }
    }
}
