//! Whether traffic is divided as it should be, at every look: the test of Lindon and Malek (Anytime-valid inference for multinomial
//! count data, 2022; reference: `savvi`, Multinomial), for two arms.
//!
//! ```text
//! E = B(a + x, b + n − x) / B(a, b) / (p^x (1 − p)^(n − x))      a = K p, b = K (1 − p)
//! ```
//!
//! Counted are units that are assigned as one (users, where assignment is by user): requests of a user are not independent.

use serde::{Deserialize, Serialize};
use statrs::function::beta::ln_beta;

/// The share of units of an arm that should have none.
const STRAY: f64 = 0.01;

/// How much the alternatives are concentrated at the wanted share.
const CONCENTRATION: f64 = 100.0;

/// Units that were assigned while a share was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareTest {
    /// The wanted share of the candidate.
    pub wanted: f64,
    /// Units of the candidate.
    pub candidate: u64,
    /// All units.
    pub units: u64,
}

impl ShareTest {
    /// Before the first unit.
    pub fn new(wanted: f64) -> Self {
        Self { wanted, candidate: 0, units: 0 }
    }

    /// After more units.
    pub fn after(&self, candidate: u64, units: u64) -> Self {
        Self { candidate: self.candidate + candidate, units: self.units + units, ..*self }
    }

    /// The observed share; `None` without units.
    pub fn observed(&self) -> Option<f64> {
        (self.units > 0).then(|| self.candidate as f64 / self.units as f64)
    }

    /// The logarithm of the evidence against the wanted share. Where one arm should have all units, a few of the other are none: a
    /// router takes a moment to follow, and falls back to production where the candidate does not answer.
    pub fn log_e(&self) -> f64 {
        let (own, other) = (self.candidate as f64, (self.units - self.candidate.min(self.units)) as f64);
        let wanted = self.wanted.clamp(STRAY, 1.0 - STRAY);
        let observed = self.observed().unwrap_or(wanted);
        if (self.wanted <= STRAY && observed <= STRAY) || (self.wanted >= 1.0 - STRAY && observed >= 1.0 - STRAY) {
            return 0.0;
        }
        let (a, b) = (CONCENTRATION * wanted, CONCENTRATION * (1.0 - wanted));
        ln_beta(a + own, b + other) - ln_beta(a, b) - own * wanted.ln() - other * (1.0 - wanted).ln()
    }

    /// Whether the observed share is not the wanted one, at a level.
    pub fn differs(&self, level: f64) -> bool {
        self.log_e() >= (1.0 / level).ln()
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Binomial, Distribution};
    use rand_pcg::Pcg64;

    use super::*;

    #[test]
    fn a_wrong_share_is_found_and_a_right_one_is_not_at_any_of_many_looks() {
        let (trials, mut right, mut wrong) = (2000u64, 0, 0);
        for trial in 0..trials {
            let mut random = Pcg64::new(u128::from(trial), 3);
            for (share, count) in [(0.05, &mut right), (0.06, &mut wrong)] {
                let (mut test, mut differs) = (ShareTest::new(0.05), false);
                for _ in 0..30 {
                    let candidate = Binomial::new(1000, share).unwrap().sample(&mut random);
                    test = test.after(candidate, 1000);
                    differs |= test.differs(0.01);
                }
                *count += u32::from(differs);
            }
        }
        assert!(right <= 20, "{right} of {trials}");
        assert!(wrong >= 1990, "{wrong} of {trials}");
    }

    #[test]
    fn few_units_of_the_other_arm_belong_to_a_share_of_none_or_all() {
        assert!(
            ShareTest::new(1.0).after(900, 1000).differs(0.01) && ShareTest::new(0.0).after(100, 1000).differs(0.01)
        );
        assert!(
            !ShareTest::new(1.0).after(4999, 5000).differs(0.01) && !ShareTest::new(0.0).after(1, 5000).differs(0.01)
        );
        assert!(!ShareTest::new(1.0).after(100, 100).differs(0.01) && !ShareTest::new(0.0).after(0, 100).differs(0.01));
        assert!(!ShareTest::new(0.5).differs(0.01));
        assert_eq!(ShareTest::new(0.5).observed(), None);
    }
}
