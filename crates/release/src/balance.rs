//! Whether the labels of both arms arrive alike. Where those of one arm arrive later, or less often, the rows that are known are not
//! comparable: late labels are often the bad ones.

use serde::{Deserialize, Serialize};

use crate::binary::{BinaryTest, Block, Null};

/// Shares of labelled rows that differ by no more than this are alike.
const TOLERANCE: f64 = 0.01;

/// A difference that the test is designed to find.
const DIFFERENCE: f64 = 0.05;

/// A test of both directions, at every look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelBalance {
    /// Whether the candidate's rows have fewer labels: an outcome is good where the row is labelled.
    fewer: BinaryTest,
    /// Whether they have more: an outcome is good where the row is not labelled.
    more: BinaryTest,
    /// The highest evidence so far, the logarithm of E.
    most: f64,
}

impl Default for LabelBalance {
    fn default() -> Self {
        let test = || BinaryTest::new(Null::NotWorse { tolerance: TOLERANCE }, DIFFERENCE, 0.5);
        Self { fewer: test(), more: test(), most: 0.0 }
    }
}

impl LabelBalance {
    /// After a block of rows whose labels should all have arrived; a row is good where its label has.
    pub fn after(&self, labelled: Block) -> Self {
        let unlabelled = |arm: crate::binary::Outcomes| crate::binary::Outcomes { good: arm.rows - arm.good, ..arm };
        let block = Block { candidate: unlabelled(labelled.candidate), production: unlabelled(labelled.production) };
        let (fewer, more) = (self.fewer.after(labelled), self.more.after(block));
        Self { fewer, more, most: self.most.max(mean(fewer.log_e, more.log_e)) }
    }

    /// Whether labels do not arrive alike, at a level.
    pub fn differs(&self, level: f64) -> bool {
        self.most >= (1.0 / level).ln()
    }

    /// The rows with labels of both arms so far.
    pub fn seen(&self) -> Block {
        self.fewer.seen
    }
}

/// The logarithm of the mean of two numbers that are given by their logarithms. The mean of two e-values is one.
fn mean(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (0.5 * (1.0 + (low - high).exp())).ln()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Binomial, Distribution};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::binary::Outcomes;

    #[test]
    fn labels_that_arrive_alike_raise_no_alarm_and_others_do_in_both_directions() {
        let trials = 2000;
        let (mut alike, mut fewer, mut more) = (0, 0, 0);
        for trial in 0..trials {
            let mut random = Pcg64::new(trial, 7);
            for (share, count) in [(0.8, &mut alike), (0.7, &mut fewer), (0.9, &mut more)] {
                let mut balance = LabelBalance::default();
                for _ in 0..30 {
                    let mut arm =
                        |rows, share| Outcomes { rows, good: Binomial::new(rows, share).unwrap().sample(&mut random) };
                    balance = balance.after(Block { candidate: arm(100, share), production: arm(1900, 0.8) });
                }
                *count += u32::from(balance.differs(0.01));
            }
        }
        assert!(alike <= 20, "{alike} of {trials}");
        assert!(fewer >= 1990 && more >= 1990, "{fewer}, {more} of {trials}");
    }
}
