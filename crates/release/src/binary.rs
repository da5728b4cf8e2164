//! Two arms with outcomes that are good or bad, compared at every look: the blockwise two-sample test of Turner, Ly and
//! Grünwald (Journal of Statistical Planning and Inference 230, 2024, 106116; margins: arXiv 2203.09785).
//!
//! A block has the new rows of both arms since the last look, of predictions of the same time. Its factor is the likelihood of
//! an alternative θ\* that was fixed before, divided by that of the nearest point θ° of the null hypothesis:
//!
//! ```text
//! ln E += Σ over both arms of  x ln(θ*/θ°) + (n − x) ln((1 − θ*)/(1 − θ°))
//! θ° = argmin over the null hypothesis of  n_c KL(θ_c* ‖ θ_c) + n_p KL(θ_p* ‖ θ_p)
//! ```
//!
//! Under the null hypothesis the expectation of a factor is at most 1, whatever the rates are and however they change from block
//! to block: ln of it is concave in (θ_c, θ_p), and its gradient at θ° is the condition under which θ° is the argmin. So the
//! product exceeds 1/α with a probability of at most α, at all looks together (Ville). Rates are compared within a block only:
//! arms whose rate falls while the share of one of them grows are equal in every block, but differ when blocks are pooled.

use serde::{Deserialize, Serialize};

/// Rows of an arm, and those with a good outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Rows.
    pub rows: u64,
    /// Rows with a good outcome.
    pub good: u64,
}

impl Outcomes {
    /// The share of good outcomes; 0 without rows.
    pub fn rate(self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.good as f64 / self.rows as f64 }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, good: self.good + other.good }
    }
}

/// The new rows of both arms since the last look, of predictions of the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The candidate's.
    pub candidate: Outcomes,
    /// Those of production.
    pub production: Outcomes,
}

impl Block {
    /// Both together: for sums that are shown or counted, and not compared.
    pub fn plus(self, other: Self) -> Self {
        Self { candidate: self.candidate.plus(other.candidate), production: self.production.plus(other.production) }
    }
}

/// What a test may reject.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Null {
    /// The candidate's rate is at least that of production, less a tolerance: rejected, it is worse.
    NotWorse {
        /// The tolerance, 0 or more.
        tolerance: f64,
    },
    /// The candidate's rate is at most that of production, less a margin: rejected, it is not inferior.
    Inferior {
        /// The margin, above 0.
        margin: f64,
    },
}

impl Null {
    /// By how much the candidate's rate is below that of production, at its boundary.
    fn distance(self) -> f64 {
        match self {
            Self::NotWorse { tolerance } => tolerance,
            Self::Inferior { margin } => margin,
        }
    }

    /// The alternative that the test is designed for, where production has a rate, and a candidate that should be taken back is
    /// worse by `worse`: the candidate's rate, that of production. `None` where there is no alternative between 0 and 1.
    fn alternative(self, production: f64, worse: f64) -> Option<(f64, f64)> {
        let production = production.clamp(SMALLEST_RATE, 1.0 - SMALLEST_RATE);
        match self {
            Self::NotWorse { tolerance } => {
                // Where production's rate is too low for that, half of what it can be worse by.
                let candidate = (production - worse).max((production - tolerance) / 2.0);
                (candidate > 0.0 && candidate < production - tolerance).then_some((candidate, production))
            }
            Self::Inferior { margin } => (margin > 0.0).then_some((production, production)),
        }
    }
}

/// Rates of the alternative are no closer to 0 and 1: an outcome that it excludes would end the test.
const SMALLEST_RATE: f64 = 1e-3;

/// Steps of the bisection: more than the bits of a number.
const BISECTIONS: u32 = 80;

/// A test that has seen some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinaryTest {
    /// What it may reject.
    pub null: Null,
    /// By how much a candidate is worse that the test is designed to find.
    pub worse: f64,
    /// The evidence so far: the logarithm of E.
    pub log_e: f64,
    /// The rate of production before the first block, as validated.
    prior: f64,
    /// All rows so far.
    pub seen: Block,
    /// The good outcomes that the candidate's rows would have with production's rate of their block: for display. Sums over blocks of
    /// both arms cannot be compared where the share of the candidate changed.
    #[serde(default)]
    matched: f64,
}

impl BinaryTest {
    /// A test before its first block. `prior` is production's rate as validated.
    pub fn new(null: Null, worse: f64, prior: f64) -> Self {
        Self { null, worse, log_e: 0.0, prior, seen: Block::default(), matched: 0.0 }
    }

    /// The rate of production that the next alternative is made from: that of the blocks so far, which are earlier.
    fn rate(&self) -> f64 {
        let Outcomes { rows, good } = self.seen.production;
        // The validated rate counts as much as 100 rows, so that a first small block does not decide.
        const WEIGHT: f64 = 100.0;
        (good as f64 + WEIGHT * self.prior) / (rows as f64 + WEIGHT)
    }

    /// The test after one more block. A block without rows of one arm says nothing.
    pub fn after(&self, block: Block) -> Self {
        if block.candidate.rows == 0 || block.production.rows == 0 {
            return *self;
        }
        let factor = match self.null.alternative(self.rate(), self.worse) {
            Some(alternative) => log_factor(block, self.null, alternative),
            None => 0.0,
        };
        let seen = self.seen.plus(block);
        let matched = self.matched + block.candidate.rows as f64 * block.production.rate();
        Self { log_e: self.log_e + factor, seen, matched, ..*self }
    }

    /// Production's rate at the times of the candidate's rows; 0 without rows.
    pub fn matched_rate(&self) -> f64 {
        match self.seen.candidate.rows {
            0 => 0.0,
            rows => self.matched / rows as f64,
        }
    }

    /// The candidate's rows that are still needed, in expectation, if the alternative is true: until E is `1 / level`, with as many
    /// rows of production for each as there were so far. `None` where that cannot be said yet.
    pub fn rows_needed(&self, level: f64) -> Option<u64> {
        let (candidate, production) = self.null.alternative(self.rate(), self.worse)?;
        let Block { candidate: own, production: other } = self.seen;
        if own.rows == 0 || other.rows == 0 {
            return None;
        }
        let weights = (1.0, other.rows as f64 / own.rows as f64);
        let near = nearest(weights, self.null.distance(), (candidate, production));
        let growth = weights.0 * divergence(candidate, near.0) + weights.1 * divergence(production, near.1);
        let missing = (1.0 / level).ln() - self.log_e;
        (growth > 0.0).then(|| (missing / growth).max(0.0).ceil() as u64)
    }
}

/// The logarithm of the factor of a block.
fn log_factor(block: Block, null: Null, (candidate, production): (f64, f64)) -> f64 {
    let weights = (block.candidate.rows as f64, block.production.rows as f64);
    if weights.0 == 0.0 || weights.1 == 0.0 {
        return 0.0;
    }
    let near = nearest(weights, null.distance(), (candidate, production));
    let of = |Outcomes { rows, good }: Outcomes, alternative: f64, near: f64| {
        let (good, bad) = (good as f64, (rows - good.min(rows)) as f64);
        good * (alternative / near).ln() + bad * ((1.0 - alternative) / (1.0 - near)).ln()
    };
    of(block.candidate, candidate, near.0) + of(block.production, production, near.1)
}

/// The point of the boundary of a null hypothesis, at which the candidate's rate is that of production less a distance, that is
/// nearest to an alternative: the argmin of the weighted sum of divergences. It is convex along the boundary.
fn nearest(weights: (f64, f64), distance: f64, (candidate, production): (f64, f64)) -> (f64, f64) {
    if distance == 0.0 {
        let rate = (weights.0 * candidate + weights.1 * production) / (weights.0 + weights.1);
        return (rate, rate);
    }
    // The derivative by production's rate.
    let slope = |rate: f64| {
        let own = rate - distance;
        weights.0 * (own - candidate) / (own * (1.0 - own)) + weights.1 * (rate - production) / (rate * (1.0 - rate))
    };
    // The root lies between the places at which each of the two terms is 0.
    let (mut low, mut high) = match candidate + distance < production {
        true => (candidate + distance, production),
        false => (production, candidate + distance),
    };
    low = low.max(distance * (1.0 + f64::EPSILON));
    high = high.min(1.0 - f64::EPSILON);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    let rate = 0.5 * (low + high);
    (rate - distance, rate)
}

/// The Kullback–Leibler divergence of two rates.
fn divergence(from: f64, to: f64) -> f64 {
    let term = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    term(from, to) + term(1.0 - from, 1.0 - to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(candidate: (u64, u64), production: (u64, u64)) -> Block {
        let outcomes = |(rows, good)| Outcomes { rows, good };
        Block { candidate: outcomes(candidate), production: outcomes(production) }
    }

    /// From numpy:
    /// ```text
    /// nc, x, npr, y, tc, tp = 1000, 850, 19000, 17100, .85, .90
    /// t0 = (nc*tc + npr*tp)/(nc + npr)
    /// x*log(tc/t0) + (nc-x)*log((1-tc)/(1-t0)) + y*log(tp/t0) + (npr-y)*log((1-tp)/(1-t0))  # 11.545749807695756
    /// ```
    #[test]
    fn a_block_has_the_factor_of_the_reference() {
        let found = log_factor(block((1000, 850), (19000, 17100)), Null::NotWorse { tolerance: 0.0 }, (0.85, 0.90));
        assert!((found - 11.545749807695756).abs() < 1e-11, "{found}");
    }

    /// The argmin over a fine grid of the boundary.
    #[test]
    fn the_nearest_point_of_the_null_hypothesis_is_that_of_a_grid() {
        for (weights, distance, alternative) in [
            ((1000.0, 19000.0), 0.02, (0.85, 0.90)),
            ((5.0, 3.0), 0.05, (0.9, 0.9)),
            ((1.0, 1e6), 0.3, (0.001, 0.999)),
            ((1e6, 1.0), 0.01, (0.5, 0.5)),
            ((10.0, 10.0), 0.04, (0.001, 0.1)),
            ((10.0, 200.0), 0.01, (0.02, 0.02)),
        ] {
            let cost = |rate: f64| {
                weights.0 * divergence(alternative.0, rate - distance) + weights.1 * divergence(alternative.1, rate)
            };
            let steps = 200_000;
            let grid = (1..steps).map(|step| distance + (1.0 - distance) * f64::from(step) / f64::from(steps));
            let best = grid.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap();
            let (own, found) = nearest(weights, distance, alternative);
            assert!((own - (found - distance)).abs() < 1e-15);
            assert!(cost(found) <= cost(best) + 1e-9, "{weights:?} {distance} {alternative:?}: {found}, {best}");
        }
    }

    /// The expectation of the factor of a block, exactly, over all outcomes: at most 1 everywhere in the null hypothesis.
    #[test]
    fn the_factor_of_a_block_has_an_expectation_of_at_most_one_under_the_null_hypothesis() {
        let choose = |n: u64, k: u64| (1..=k).fold(1.0, |c, i| c * (n - k + i) as f64 / i as f64);
        let chance = |n: u64, x: u64, rate: f64| choose(n, x) * rate.powi(x as i32) * (1.0 - rate).powi((n - x) as i32);
        for (null, worse) in [
            (Null::NotWorse { tolerance: 0.0 }, 0.05),
            (Null::NotWorse { tolerance: 0.02 }, 0.05),
            (Null::Inferior { margin: 0.05 }, 0.05),
            (Null::Inferior { margin: 0.3 }, 0.5),
        ] {
            for prior in [0.01, 0.3, 0.9, 0.999] {
                let Some(alternative) = null.alternative(prior, worse) else { continue };
                for (n, m) in [(1, 1), (4, 9), (12, 3)] {
                    let (mut highest, steps) = (0.0f64, 40);
                    for (i, j) in (0..=steps).flat_map(|i| (0..=steps).map(move |j| (i, j))) {
                        let (own, other) = (f64::from(i) / f64::from(steps), f64::from(j) / f64::from(steps));
                        let inside = match null {
                            Null::NotWorse { tolerance } => own >= other - tolerance,
                            Null::Inferior { margin } => own <= other - margin,
                        };
                        if !inside {
                            continue;
                        }
                        let mut expectation = 0.0;
                        for (x, y) in (0..=n).flat_map(|x| (0..=m).map(move |y| (x, y))) {
                            let factor = log_factor(block((n, x), (m, y)), null, alternative).exp();
                            expectation += chance(n, x, own) * chance(m, y, other) * factor;
                        }
                        highest = highest.max(expectation);
                    }
                    assert!(highest <= 1.0 + 1e-9, "{null:?} {prior} {n} {m}: {highest}");
                }
            }
        }
    }

    #[test]
    fn without_rows_of_both_arms_a_block_says_nothing() {
        let test = BinaryTest::new(Null::NotWorse { tolerance: 0.0 }, 0.05, 0.9);
        for one in [block((0, 0), (5000, 100)), block((5000, 100), (0, 0)), Block::default()] {
            assert_eq!(test.after(one).log_e, 0.0);
        }
        assert_eq!(test.rows_needed(0.05), None);
        // A candidate whose outcomes are all bad is found soon, and one that is as good is not.
        let bad = test.after(block((60, 0), (1000, 900)));
        assert!(bad.log_e > (20.0f64).ln(), "{}", bad.log_e);
        let same = test.after(block((1000, 900), (19000, 17100)));
        assert!(same.log_e < 0.0, "{}", same.log_e);
        assert!(same.rows_needed(0.05).unwrap() > 100);
    }
}
