//! 10,000 simulated rollouts each: how often a candidate is taken back that is as good as production, and one that is worse.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.
#![allow(clippy::print_stdout)] // The figures of benches/RESULTS.md.

use driftsweep_release::binary::{BinaryTest, Block, Null, Outcomes};
use driftsweep_release::plan::DEFAULT_WORSE;
use rand_distr::{Binomial, Distribution};
use rand_pcg::Pcg64;

const ROLLOUTS: u32 = 10_000;
const LEVEL: f64 = 0.05;
const RATE: f64 = 0.9;

fn draw(rows: u64, rate: f64, random: &mut Pcg64) -> Outcomes {
    Outcomes { rows, good: Binomial::new(rows, rate).unwrap().sample(random) }
}

fn test(tolerance: f64) -> BinaryTest {
    BinaryTest::new(Null::NotWorse { tolerance }, DEFAULT_WORSE, RATE)
}

/// How many rollouts are taken back at some look.
fn taken_back(seed: u128, tolerance: f64, looks: impl Fn(&mut Pcg64) -> Vec<Block>) -> u32 {
    let mut taken = 0;
    for rollout in 0..ROLLOUTS {
        let mut random = Pcg64::new(u128::from(rollout), seed);
        let mut test = test(tolerance);
        let found = looks(&mut random).into_iter().any(|block| {
            test = test.after(block);
            test.log_e >= (1.0 / LEVEL).ln()
        });
        taken += u32::from(found);
    }
    taken
}

/// At most the level, and three standard errors of the simulation.
fn within_level(taken: u32) -> bool {
    let rollouts = f64::from(ROLLOUTS);
    f64::from(taken) <= rollouts * LEVEL + 3.0 * (rollouts * LEVEL * (1.0 - LEVEL)).sqrt()
}

fn nights(random: &mut Pcg64, night: impl Fn(u32) -> (u64, u64, f64, f64)) -> Vec<Block> {
    let of = |number: u32, random: &mut Pcg64| {
        let (own, other, own_rate, other_rate) = night(number);
        Block { candidate: draw(own, own_rate, random), production: draw(other, other_rate, random) }
    };
    (0..30).map(|number| of(number, random)).collect()
}

#[test]
fn a_candidate_that_is_as_good_is_rarely_taken_back_by_a_look_every_night() {
    let equal = |random: &mut Pcg64| nights(random, |_| (100, 1900, RATE, RATE));
    let by_evidence = taken_back(1, 0.0, equal);
    assert!(within_level(by_evidence), "{by_evidence}");
    // What the same looks do to the test of two shares, one-sided at the same level.
    let mut by_z = 0;
    for rollout in 0..ROLLOUTS {
        let mut random = Pcg64::new(u128::from(rollout), 1);
        let mut sum = Block::default();
        by_z += u32::from(equal(&mut random).into_iter().any(|block| {
            sum = Block {
                candidate: sum.candidate.plus(block.candidate),
                production: sum.production.plus(block.production),
            };
            let both = sum.candidate.plus(sum.production).rate();
            let weight = 1.0 / sum.candidate.rows as f64 + 1.0 / sum.production.rows as f64;
            (sum.candidate.rate() - sum.production.rate()) / (both * (1.0 - both) * weight).sqrt() < -1.6449
        }));
    }
    assert!((1500..3000).contains(&by_z), "{by_z}");
    println!("as good, 30 looks: {by_evidence} of {ROLLOUTS} by evidence, {by_z} by a z test every night");
}

#[test]
fn a_candidate_that_is_worse_by_five_points_is_taken_back_at_the_first_look() {
    for (tolerance, rows) in [(0.0, 1510), (0.01, 2430)] {
        let worse = |random: &mut Pcg64| {
            vec![Block { candidate: draw(rows, 0.85, random), production: draw(19 * rows, 0.90, random) }]
        };
        let taken = taken_back(2, tolerance, worse);
        println!("worse by 0.05, tolerance {tolerance}, {rows} rows: {taken} of {ROLLOUTS} at the first look");
        assert!(taken >= ROLLOUTS * 99 / 100, "{tolerance}: {taken}");
    }
}

#[test]
fn rates_that_fall_while_the_share_grows_take_back_no_more_candidates() {
    let moving = |number: u32| {
        // 5 % of the traffic, then 25 % in a harder season.
        if number < 15 { (100, 1900, 0.95, 0.95) } else { (500, 1500, 0.85, 0.85) }
    };
    let by_block = taken_back(3, 0.0, |random| nights(random, moving));
    assert!(within_level(by_block), "{by_block}");
    // The same rows in one block: this is why blocks are not pooled.
    let pooled = taken_back(3, 0.0, |random| {
        let sum = nights(random, moving).into_iter().fold(Block::default(), |sum, block| Block {
            candidate: sum.candidate.plus(block.candidate),
            production: sum.production.plus(block.production),
        });
        vec![sum]
    });
    assert!(pooled > 9900, "{pooled}");
    println!("rates that move with the share: {by_block} of {ROLLOUTS} by blocks, {pooled} pooled");
}

/// Outcomes of a day become known over the following days, in production on the first of them, and of the candidate later. A block has
/// the rows of one day of predictions once its labels are mature, so that an arm whose labels are late is not compared with other days.
#[test]
fn labels_that_are_late_in_one_arm_take_back_no_more_candidates() {
    let rate = |day: u32| if day.is_multiple_of(7) { 0.75 } else { 0.93 };
    let by_day_of_prediction = taken_back(4, 0.0, |random| {
        nights(random, |day| {
            // A third of the candidate's labels is not known when the block is closed.
            (67, 1900, rate(day), rate(day))
        })
    });
    assert!(within_level(by_day_of_prediction), "{by_day_of_prediction}");
    // By the day on which labels arrive, two days later for the candidate, other days are compared.
    let by_arrival =
        taken_back(4, 0.0, |random| nights(random, |day| (100, 1900, rate(day.saturating_sub(2)), rate(day))));
    assert!(by_arrival > 2 * by_day_of_prediction + 500, "{by_arrival}");
    println!("late labels: {by_day_of_prediction} of {ROLLOUTS} by day of prediction, {by_arrival} by day of arrival");
}
