//! How a candidate is released: stages with their shares of traffic and their times, and the checks that decide.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// The plan of a rollout. A rollout keeps the plan that it has begun with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// The stages, each with no smaller share than the one before; the last has all traffic.
    pub stages: Vec<Stage>,
    /// How long the candidate has all traffic before it is settled.
    pub settle: SignedDuration,
    /// How long a stage waits for evidence after its time, before it is held for a person.
    pub give_up: SignedDuration,
    /// The probability that a candidate as good as production is taken back, over all looks and checks together; and that one that is
    /// worse by a margin is promoted, at each stage.
    pub level: f64,
    /// What is compared between the arms, by name.
    pub checks: Vec<Check>,
    /// The probability of an alarm about the division of traffic where it is right.
    pub share_level: f64,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, in reports.
    pub name: String,
    /// The share of traffic of the candidate.
    pub share: f64,
    /// How long it lasts at least, once the traffic is divided.
    pub lasts: SignedDuration,
    /// Whether a person must approve that it is entered.
    #[serde(default)]
    pub approval: bool,
    /// Whether it is left only once every check with a margin has shown that the candidate is not worse by it. Else it is left after
    /// its time, if outcomes of both arms were seen and none has shown that it is worse.
    #[serde(default = "yes")]
    pub prove: bool,
}

fn yes() -> bool {
    true
}

/// A comparison of both arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name: `quality`, or that of a column.
    pub name: String,
    /// What outcomes are.
    pub kind: CheckKind,
    /// It is rolled back if it is worse by more than that.
    pub tolerance: f64,
    /// It is promoted if it is not worse by this margin; `None` if that is not asked for.
    pub margin: Option<f64>,
    /// What its outcomes are, in words: where the fleet file says something else by now, they are not read.
    #[serde(default)]
    pub source: String,
    /// The number above which an outcome is bad, where outcomes are read from a column of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

/// What the outcomes of a check are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Good or bad.
    Binary {
        /// By how much a candidate is worse that the test is designed to find.
        worse: f64,
        /// The share of good outcomes of production before the rollout, as validated.
        prior: f64,
    },
    /// Numbers, of which more is better, between limits.
    Number {
        /// The lower limit.
        low: f64,
        /// The upper limit.
        high: f64,
    },
}

/// By default a candidate that is worse by this is to be found.
pub const DEFAULT_WORSE: f64 = 0.05;

/// The default margin of promotion.
pub const DEFAULT_MARGIN: f64 = 0.02;

/// The default level.
pub const DEFAULT_LEVEL: f64 = 0.05;

const HOURS_A_DAY: i64 = 24;

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(HOURS_A_DAY * days)
}

impl Stage {
    fn new(name: &str, share: f64, lasts: SignedDuration) -> Self {
        Self { name: name.into(), share, lasts, approval: false, prove: true }
    }
}

impl RolloutPlan {
    /// The stages that need approval by declared stages, by their index. Where the plan has the same shares, those at the same
    /// places. Where it has others, all above the share that needs no approval: the largest one before the first stage that does.
    pub(crate) fn approvals_by(&self, declared: &[Stage]) -> Vec<usize> {
        let shares = |stages: &[Stage]| stages.iter().map(|stage| stage.share).collect::<Vec<_>>();
        let Some(first) = declared.iter().position(|stage| stage.approval) else { return Vec::new() };
        let free = declared[..first].iter().map(|stage| stage.share).fold(0.0, f64::max);
        let has_same_shares = shares(&self.stages) == shares(declared);
        let needed = |(index, stage): (usize, &Stage)| match has_same_shares {
            true => declared[index].approval,
            false => stage.share > free,
        };
        (0..).zip(&self.stages).filter(|&stage| needed(stage)).map(|(index, _)| index).collect()
    }

    /// The default stages: 5 % for a day, 5 % until day 3, 25 % until day 7, then all.
    pub fn default_stages() -> Vec<Stage> {
        vec![
            Stage::new("canary", 0.05, days(1)),
            Stage::new("5 %", 0.05, days(2)),
            Stage::new("25 %", 0.25, days(4)),
            Stage::new("full", 1.0, SignedDuration::ZERO),
        ]
    }

    /// A plan with the default stages and one check of quality; `prior` is production's share of right predictions, as validated.
    pub fn of_quality(prior: f64) -> Self {
        Self {
            stages: Self::default_stages(),
            settle: days(7),
            give_up: days(14),
            level: DEFAULT_LEVEL,
            checks: vec![Check {
                name: "quality".into(),
                kind: CheckKind::Binary { worse: DEFAULT_WORSE, prior },
                tolerance: 0.0,
                margin: Some(DEFAULT_MARGIN),
                source: "quality".into(),
                limit: None,
            }],
            share_level: 0.01,
        }
    }

    /// Whether everything is in its range.
    ///
    /// # Errors
    /// The first mistake, with the values that are possible.
    pub fn check(&self) -> Result<(), String> {
        let share = |value: f64| value > 0.0 && value < 1.0;
        let Some((last, others)) = self.stages.split_last() else {
            return Err("stages is empty; give at least one, with share = 1".into());
        };
        if last.share != 1.0 {
            return Err(format!("stages: the last one has a share of {}; it must be 1", last.share));
        }
        if let Some(stage) = others.iter().find(|stage| !share(stage.share)) {
            return Err(format!(
                "stages: '{}' has a share of {}; it must be above 0 and below 1",
                stage.name, stage.share
            ));
        }
        if let Some(pair) = self.stages.windows(2).find(|pair| pair[1].share < pair[0].share) {
            return Err(format!(
                "stages: '{}' has a smaller share than '{}' before it; users who were in it would leave it again",
                pair[1].name, pair[0].name
            ));
        }
        for (what, length) in [("settle", self.settle), ("give_up", self.give_up)] {
            if length < SignedDuration::ZERO {
                return Err(format!("{what} is {length:#}; it must be 0 or more"));
            }
        }
        for (what, level) in [("level", self.level), ("share_level", self.share_level)] {
            if !(level > 0.0 && level <= 0.5) {
                return Err(format!("{what} is {level}; it must be above 0 and at most 0.5"));
            }
        }
        if self.checks.is_empty() {
            return Err("there is no check; nothing would decide about the candidate".into());
        }
        let mut names: Vec<&str> = self.checks.iter().map(|check| &*check.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("there are two checks with the name '{}'", pair[0]));
        }
        self.checks.iter().try_for_each(Check::check)
    }

    /// The probability of a wrong rollback that each check may use.
    pub fn level_of_a_check(&self) -> f64 {
        self.level / self.checks.len().max(1) as f64
    }
}

impl Check {
    /// Whether everything is in its range.
    ///
    /// # Errors
    /// The first mistake, with the values that are possible.
    pub fn check(&self) -> Result<(), String> {
        let range = match self.kind {
            CheckKind::Binary { .. } => 1.0,
            CheckKind::Number { low, high } => high - low,
        };
        let wrong =
            |what: &str, value: f64, must: &str| Err(format!("check '{}': {what} is {value}; {must}", self.name));
        if !(range > 0.0 && range.is_finite()) {
            return wrong("high", range, "it must be above low");
        }
        if !(self.tolerance >= 0.0 && self.tolerance < range) {
            return wrong("tolerance", self.tolerance, "it must be 0 or more, and less than outcomes can differ");
        }
        if let Some(margin) = self.margin.filter(|margin| !(*margin > 0.0 && *margin < range)) {
            return wrong("margin", margin, "it must be above 0, and less than outcomes can differ");
        }
        match self.kind {
            CheckKind::Binary { worse, .. } if !(worse > self.tolerance && worse < 1.0) => {
                wrong("worse", worse, "it must be above tolerance, and below 1")
            }
            CheckKind::Binary { prior, .. } if !(0.0..=1.0).contains(&prior) => {
                wrong("prior", prior, "it must be from 0 to 1")
            }
            _ => Ok(()),
        }
    }
}
