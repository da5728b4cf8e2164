//! What is known of the checks of a rollout, and what follows from it.

use serde::{Deserialize, Serialize};

use crate::binary::{BinaryTest, Block, Null};
use crate::number::DifferenceBound;
use crate::plan::{Check, CheckKind, RolloutPlan};

/// New outcomes of a check, of predictions of the same time in both arms.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Good or bad.
    Binary(Block),
    /// Numbers, of which more is better, in an order that does not depend on them.
    Numbers {
        /// The candidate's.
        candidate: Vec<f64>,
        /// Those of production.
        production: Vec<f64>,
    },
}

/// What is known of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckEvidence {
    /// Of outcomes that are good or bad.
    Binary {
        /// Whether the candidate is worse, over the whole rollout.
        worse: BinaryTest,
        /// The highest evidence of that. It may be acted on later, too.
        most_worse: f64,
        /// Whether it is not inferior, in this stage.
        sound: Option<BinaryTest>,
        /// The highest evidence that it is not inferior, in this stage.
        most_sound: f64,
        /// The outcomes in this stage.
        in_stage: Block,
    },
    /// Of outcomes that are numbers.
    Number {
        /// The difference over the whole rollout.
        whole: DifferenceBound,
        /// That of this stage.
        stage: DifferenceBound,
    },
}

/// What the evidence of a check says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The check.
    pub check: String,
    /// What it says.
    pub verdict: CheckVerdict,
    /// The figures in words.
    pub sentence: String,
    /// The candidate's rows that are still needed until it is promoted, in expectation, if it is as good as production.
    pub rows_needed: Option<u64>,
}

/// What the evidence of a check allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// The candidate is worse than production by more than the tolerance.
    Worse,
    /// It is not worse by the margin; or no margin is asked for.
    Sound,
    /// Neither is shown.
    Open,
}

impl CheckEvidence {
    /// Before the first block.
    pub fn new(check: &Check, level: f64) -> Self {
        match check.kind {
            CheckKind::Binary { worse, prior } => {
                let worse_test = BinaryTest::new(Null::NotWorse { tolerance: check.tolerance }, worse, prior);
                let sound = check.margin.map(|margin| BinaryTest::new(Null::Inferior { margin }, worse, prior));
                Self::Binary { worse: worse_test, most_worse: 0.0, sound, most_sound: 0.0, in_stage: Block::default() }
            }
            CheckKind::Number { low, high } => {
                // Each end of an interval is missed with half of its level.
                let bound = |level: f64| DifferenceBound::new(high - low, 2.0 * level);
                Self::Number { whole: bound(level), stage: bound(level) }
            }
        }
    }

    /// After one more block. `in_stage` says whether its predictions were made in the current stage: those of an earlier one may show
    /// that the candidate is worse, and not that it is sound in this stage. An outcome of another kind than the check's says nothing.
    pub fn after(&self, outcome: &Outcome, in_stage: bool) -> Self {
        match (self, outcome) {
            (Self::Binary { worse, most_worse, sound, most_sound, in_stage: seen }, Outcome::Binary(block)) => {
                let worse = worse.after(*block);
                let most_worse = worse.log_e.max(*most_worse);
                let sound = sound.map(|sound| if in_stage { sound.after(*block) } else { sound });
                let most_sound = sound.map_or(0.0, |sound| sound.log_e).max(*most_sound);
                let in_stage = if in_stage { seen.plus(*block) } else { *seen };
                Self::Binary { worse, most_worse, sound, most_sound, in_stage }
            }
            (Self::Number { whole, stage }, Outcome::Numbers { candidate, production }) => {
                let stage = if in_stage { stage.after(candidate, production) } else { *stage };
                Self::Number { whole: whole.after(candidate, production), stage }
            }
            _ => self.clone(),
        }
    }

    /// In the next stage: that it is not inferior is to be shown anew, and that it is worse is not forgotten.
    pub fn in_next_stage(&self, check: &Check, level: f64) -> Self {
        match (self, Self::new(check, level)) {
            (Self::Binary { worse, most_worse, .. }, Self::Binary { sound, most_sound, in_stage, .. }) => {
                // It begins with the rate that production had so far.
                let rate = worse.seen.production;
                let known = |sound: BinaryTest| match rate.rows {
                    0 => sound,
                    _ => BinaryTest::new(sound.null, sound.worse, rate.rate()),
                };
                Self::Binary { worse: *worse, most_worse: *most_worse, sound: sound.map(known), most_sound, in_stage }
            }
            (Self::Number { whole, .. }, Self::Number { stage, .. }) => Self::Number { whole: *whole, stage },
            (_, new) => new,
        }
    }

    /// Whether outcomes of both arms were seen in this stage.
    pub fn has_outcomes(&self) -> bool {
        match self {
            Self::Binary { in_stage: Block { candidate, production }, .. } => candidate.rows > 0 && production.rows > 0,
            Self::Number { stage, .. } => stage.rows() > 0,
        }
    }

    /// What it says. `level` is that of a rollback by this check, and `stage_level` that of a promotion.
    pub fn finding(&self, check: &Check, level: f64, stage_level: f64) -> Finding {
        let limit = |level: f64| (1.0 / level).ln();
        let (is_worse, is_sound, sentence, rows_needed) = match self {
            Self::Binary { worse, most_worse, sound, most_sound, .. } => {
                let Block { candidate, production } = worse.seen;
                let sentence = format!(
                    "{:.4} of {} rows of the candidate are good, and {:.4} of production at the same times ({} rows); evidence that it \
                     is worse: {}, of {:.0} needed{}",
                    candidate.rate(),
                    candidate.rows,
                    worse.matched_rate(),
                    production.rows,
                    shown(*most_worse),
                    1.0 / level,
                    sound.map_or_else(String::new, |_| format!(
                        "; that it is not worse by {}: {}, of {:.0} needed",
                        check.margin.unwrap_or_default(),
                        shown(*most_sound),
                        1.0 / stage_level
                    )),
                );
                let is_sound = sound.is_none() || *most_sound >= limit(stage_level);
                (
                    *most_worse >= limit(level),
                    is_sound,
                    sentence,
                    sound.and_then(|sound| sound.rows_needed(stage_level)),
                )
            }
            Self::Number { whole, stage } => {
                let ((low, high), (stage_low, stage_high)) = (whole.interval(), stage.interval());
                let sentence = format!(
                    "the candidate differs from production by {low:.4} to {high:.4} ({} rows), in this stage by {stage_low:.4} to \
                     {stage_high:.4} ({} rows)",
                    whole.rows(),
                    stage.rows()
                );
                let is_sound = check.margin.is_none_or(|margin| stage_low > -margin);
                (high < -check.tolerance, is_sound, sentence, None)
            }
        };
        // Without an outcome in this stage nothing is sound.
        let is_sound = is_sound && self.has_outcomes();
        let verdict = match (is_worse, is_sound) {
            (true, _) => CheckVerdict::Worse,
            (false, true) => CheckVerdict::Sound,
            (false, false) => CheckVerdict::Open,
        };
        let rows_needed = rows_needed.filter(|_| verdict == CheckVerdict::Open);
        Finding { check: check.name.clone(), verdict, sentence, rows_needed }
    }
}

/// Evidence by its logarithm, as people read it.
fn shown(log_e: f64) -> String {
    match log_e.exp() {
        large if large >= 1e6 => format!("{large:.1e}"),
        small if small < 0.01 => "below 0.01".into(),
        evidence => format!("{evidence:.2}"),
    }
}

impl RolloutPlan {
    /// The evidence of all checks before the first block.
    pub fn no_evidence(&self) -> Vec<CheckEvidence> {
        self.checks.iter().map(|check| CheckEvidence::new(check, self.level_of_a_check())).collect()
    }

    /// What the evidence of all checks says.
    pub fn findings(&self, evidence: &[CheckEvidence]) -> Vec<Finding> {
        let level = self.level_of_a_check();
        // A promotion needs all checks, so that none of them has to share its level.
        self.checks.iter().zip(evidence).map(|(check, known)| known.finding(check, level, self.level)).collect()
    }
}
