//! Money, in whole hundredths of a currency.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount, in hundredths of the fleet's currency. Sums are exact, and stay at the ends of the range where they would leave
/// it.
///
/// As JSON it is a number of whole units that always has a decimal point: 612.5, 600.0. A number without one is an amount of
/// hundredths as older versions wrote it: 61250 is 612.5. Canonical JSON (RFC 8785) drops the point, so nothing may read
/// an amount from the audit; amounts are texts there, see [`Money::plain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Of hundredths.
    pub fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    /// Of whole units, rounded to hundredths; `None` for what is no amount, or more than a trillion.
    pub fn of(units: f64) -> Option<Self> {
        (units.abs() <= 1e12).then(|| Self((units * 100.0).round() as i64))
    }

    /// In hundredths.
    pub fn cents(self) -> i64 {
        self.0
    }

    /// In whole units.
    pub fn units(self) -> f64 {
        self.0 as f64 / 100.0
    }

    /// As a text of digits only, as it is given on the command line and kept in the audit: 612.50.
    pub fn plain(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }

    /// Of such a text.
    pub fn from_plain(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (units, hundredths) = digits.split_once('.')?;
        let only_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if hundredths.len() != 2 || !only_digits(units) || !only_digits(hundredths) {
            return None;
        }
        let sign = if digits.len() < text.len() { "-" } else { "" };
        format!("{sign}{units}{hundredths}").parse().ok().map(Self)
    }

    /// Multiplied by a factor, rounded to hundredths.
    pub fn times(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as i64)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.units())
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl Visitor<'_> for Amount {
            type Value = Money;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount with a decimal point, as a number or as text, or a whole number of hundredths")
            }

            fn visit_i64<E: Error>(self, cents: i64) -> Result<Money, E> {
                Ok(Money(cents))
            }

            fn visit_u64<E: Error>(self, cents: u64) -> Result<Money, E> {
                i64::try_from(cents).map(Money).map_err(E::custom)
            }

            fn visit_f64<E: Error>(self, units: f64) -> Result<Money, E> {
                Ok(Money((units * 100.0).round() as i64))
            }

            // As the audit has it.
            fn visit_str<E: Error>(self, text: &str) -> Result<Money, E> {
                let amount = Money::from_plain(text);
                amount.ok_or_else(|| {
                    E::custom(format!(
                        "'{}' is not an amount with a decimal point, such as 612.50",
                        driftsweep_common::escape::for_display(text)
                    ))
                })
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

/// The currency of a fleet: a symbol that stands before amounts, or a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency(String);

impl Default for Currency {
    fn default() -> Self {
        Self("USD".into())
    }
}

impl Currency {
    /// The longest symbol or code, in characters.
    const LONGEST: usize = 8;

    /// By its symbol or code; USD is shown as $.
    ///
    /// # Errors
    /// The reason, for a symbol that could be confused with the amount.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unclear = |c: char| c.is_control() || c.is_whitespace() || c.is_numeric() || "-+,".contains(c);
        if text.is_empty() || text.chars().count() > Self::LONGEST || text.chars().any(unclear) {
            return Err(format!(
                "currency = \"{}\" is not a symbol or code of 1 to {} characters; give for example \"EUR\" or \"€\"",
                text.escape_debug(),
                Self::LONGEST
            ));
        }
        Ok(Self(text.into()))
    }

    /// The symbol or code as it was given.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// An amount for display: $1,234.50, EUR 1,234.50.
    pub fn show(&self, amount: Money) -> String {
        let digits = (amount.0.unsigned_abs() / 100).to_string();
        let mut grouped = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let sign = if amount.0 < 0 { "-" } else { "" };
        let name = if self.0 == "USD" { "$" } else { &*self.0 };
        let space = if name.ends_with(|c: char| c.is_alphanumeric() || c == '.') { " " } else { "" };
        format!("{sign}{name}{space}{grouped}.{:02}", amount.0.unsigned_abs() % 100)
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
    fn amounts_are_hundredths_and_read_in_their_currency() {
        let [usd, eur, krone] = ["USD", "EUR", "kr."].map(|text| Currency::parse(text).unwrap());
        for (units, dollars, euros) in [
            (0.0, "$0.00", "EUR 0.00"),
            (1234.565, "$1,234.57", "EUR 1,234.57"),
            (-0.5, "-$0.50", "-EUR 0.50"),
            (1e6, "$1,000,000.00", "EUR 1,000,000.00"),
        ] {
            let amount = Money::of(units).unwrap();
            assert_eq!((usd.show(amount), eur.show(amount)), (dollars.to_owned(), euros.to_owned()));
        }
        assert_eq!(krone.show(Money::from_cents(5)), "kr. 0.05");
        assert_eq!(Currency::parse("€").unwrap().show(Money::from_cents(100)), "€1.00");
        for wrong in ["", "a b", "12", "-", "NINELETTERS", "\u{1b}[m", "E,"] {
            assert!(Currency::parse(wrong).unwrap_err().contains("symbol or code"), "{wrong:?}");
        }
        for none in [f64::NAN, f64::INFINITY, 2e12] {
            assert_eq!(Money::of(none), None);
        }
        assert_eq!(Money::from_cents(i64::MAX) + Money::from_cents(1), Money::from_cents(i64::MAX));
        assert_eq!([-5, 61_250].map(|cents| Money::from_cents(cents).plain()), ["-0.05", "612.50"]);
        for cents in [0, 5, -5, 61_250, i64::MAX, i64::MIN] {
            assert_eq!(Money::from_plain(&Money::from_cents(cents).plain()), Some(Money::from_cents(cents)));
        }
        for none in ["", "612", "612.5", "612.500", "+1.00", "--1.00", "1e2.00", ".50", "1.-5"] {
            assert_eq!(Money::from_plain(none), None, "{none}");
        }
    }

    #[test]
    fn json_has_units_with_a_point_and_whole_numbers_are_hundredths_of_older_stores() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            Paid { amount: Money, perhaps: Option<Money> },
        }
        for (cents, text) in
            [(0, "0.0"), (60_000, "600.0"), (61_250, "612.5"), (-1, "-0.01"), (100_000_000_000_000, "1000000000000.0")]
        {
            let amount = Money::from_cents(cents);
            assert_eq!(serde_json::to_string(&amount).unwrap(), text);
            assert_eq!(serde_json::from_str::<Money>(text).unwrap(), amount);
            assert_eq!(serde_json::from_str::<Money>(&cents.to_string()).unwrap(), amount, "as it was written before");
            // Also where an enum is read by its tag, and through a tree of values.
            let paid = Tagged::Paid { amount, perhaps: Some(amount) };
            let tree = serde_json::to_value(&paid).unwrap();
            assert_eq!(serde_json::from_str::<Tagged>(&tree.to_string()).unwrap(), paid);
            assert_eq!(serde_json::from_value::<Tagged>(tree).unwrap(), paid);
            let old = format!("{{\"kind\":\"Paid\",\"amount\":{cents}}}");
            assert_eq!(serde_json::from_str::<Tagged>(&old).unwrap(), Tagged::Paid { amount, perhaps: None });
        }
        assert!(serde_json::from_str::<Money>("\"5\"").unwrap_err().to_string().contains("decimal point"));
    }
}
