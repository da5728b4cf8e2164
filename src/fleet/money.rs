//! Money, in whole hundredths.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};

use serde::{Deserialize, Serialize};

/// An amount of dollars, in cents. Sums are exact, and stay at the ends of the range where they would leave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Of cents.
    pub fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    /// Of dollars, rounded to cents; `None` for what is no amount, or more than a trillion.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        (dollars.abs() <= 1e12).then(|| Self((dollars * 100.0).round() as i64))
    }

    /// In cents.
    pub fn cents(self) -> i64 {
        self.0
    }

    /// In dollars.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 100.0
    }

    /// So many times as much, rounded to cents.
    pub fn times(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as i64)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = (self.0.unsigned_abs() / 100).to_string();
        let mut grouped = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}${grouped}.{:02}", self.0.unsigned_abs() % 100))
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Money {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_cents_and_read_as_dollars() {
        for (dollars, text) in [(0.0, "$0.00"), (1234.565, "$1,234.57"), (-0.5, "-$0.50"), (1e6, "$1,000,000.00")] {
            assert_eq!(Money::from_dollars(dollars).unwrap().to_string(), text);
        }
        for none in [f64::NAN, f64::INFINITY, 2e12] {
            assert_eq!(Money::from_dollars(none), None);
        }
        assert_eq!(Money::from_cents(i64::MAX) + Money::from_cents(1), Money::from_cents(i64::MAX));
    }
}
