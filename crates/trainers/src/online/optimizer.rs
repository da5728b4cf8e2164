//! How one weight is updated from one gradient.

use crate::settings::{AdaGradSettings, FtrlSettings, Optimizer, SgdSettings};

/// What is kept of a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Slot {
    /// The weight; with FTRL z of McMahan and others 2013, from which the weight follows.
    pub(super) value: f64,
    /// The sum of squared gradients, with AdaGrad and FTRL.
    pub(super) squares: f64,
}

impl Optimizer {
    /// The weight.
    pub(super) fn weight(&self, slot: &Slot) -> f64 {
        match self {
            Self::Sgd(_) | Self::AdaGrad(_) => slot.value,
            Self::Ftrl(ftrl) => ftrl.weight(slot),
        }
    }

    /// Updates the weight of a feature from the gradient of the loss by it. `step` counts examples from 0.
    pub(super) fn update(&self, slot: &mut Slot, gradient: f64, step: u64) {
        match self {
            // As river does: the penalty's gradient is l2 times the weight, and only of weights of the example's features.
            Self::Sgd(SgdSettings { learning_rate, power, l2 }) => {
                let rate = learning_rate / ((step + 1) as f64).powf(*power);
                slot.value -= rate * (gradient + l2 * slot.value);
            }
            Self::AdaGrad(AdaGradSettings { learning_rate, epsilon, l2 }) => {
                let gradient = gradient + l2 * slot.value;
                slot.squares += gradient * gradient;
                slot.value -= learning_rate / (slot.squares + epsilon).sqrt() * gradient;
            }
            Self::Ftrl(ftrl) => ftrl.update(slot, gradient),
        }
    }

    /// The intercept.
    pub(super) fn intercept(&self, slot: &Slot) -> f64 {
        match self {
            Self::Sgd(_) | Self::AdaGrad(_) => slot.value,
            Self::Ftrl(ftrl) => ftrl.without_penalties().weight(slot),
        }
    }

    /// Updates the intercept: by gradient descent of its own rate, with FTRL like a weight without penalties.
    pub(super) fn update_intercept(&self, slot: &mut Slot, gradient: f64, rate: f64) {
        match self {
            Self::Sgd(_) | Self::AdaGrad(_) => slot.value -= rate * gradient,
            Self::Ftrl(ftrl) => ftrl.without_penalties().update(slot, gradient),
        }
    }
}

/// Algorithm 1 of McMahan and others, Ad click prediction: a view from the trenches, KDD 2013.
impl FtrlSettings {
    fn without_penalties(&self) -> Self {
        Self { l1: 0.0, l2: 0.0, ..*self }
    }

    fn weight(&self, slot: &Slot) -> f64 {
        let z = slot.value;
        if z.abs() <= self.l1 {
            return 0.0;
        }
        -(z - z.signum() * self.l1) / ((self.beta + slot.squares.sqrt()) / self.alpha + self.l2)
    }

    fn update(&self, slot: &mut Slot, gradient: f64) {
        let weight = self.weight(slot);
        let squares = slot.squares + gradient * gradient;
        let sigma = (squares.sqrt() - slot.squares.sqrt()) / self.alpha;
        slot.value += gradient - sigma * weight;
        slot.squares = squares;
    }
}
