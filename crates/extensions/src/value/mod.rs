//! Values of the fleet file: money, lengths of time, schedules, secrets, and settings with their origin.

mod mac;
mod money;
mod schedule;
mod secret;
mod setting;

pub use mac::hmac_sha256;
pub use money::{Currency, Money};
pub use schedule::Schedule;
pub(crate) use secret::local;
pub use secret::{Endpoint, Secret, SecretSource};
pub use setting::{Origin, Setting};

use std::fmt::Display;
use std::ops::RangeInclusive;

/// A checked value, or the reason why it is none.
pub type Validated<T> = std::result::Result<T, String>;

/// Checks one number against its range.
///
/// # Errors
/// The range.
pub fn in_range<T: PartialOrd + Display>(what: &str, value: T, range: RangeInclusive<T>) -> Validated<T> {
    match range.contains(&value) {
        true => Ok(value),
        false => Err(format!("{what} = {value} must be between {} and {}", range.start(), range.end())),
    }
}

/// Checks one number against its range, if it is given.
///
/// # Errors
/// The range.
pub fn check_range<T: PartialOrd + Display>(
    what: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Validated<Option<T>> {
    value.map(|value| in_range(what, value, range)).transpose()
}

/// Checks a name: some text, and not too much of it.
///
/// # Errors
/// That it is none.
pub fn text(what: &str, value: &str) -> Validated<()> {
    let fine = !value.trim().is_empty() && value.len() <= 256 && !value.contains('\0');
    if fine { Ok(()) } else { Err(format!("{what} = \"{}\" is no name", value.escape_debug())) }
}

/// Names as they are enumerated in a sentence: `a, b and c`.
pub fn listed(names: &[&str], word: &str) -> String {
    match names {
        [all @ .., last] if !all.is_empty() => format!("{} {word} {last}", all.join(", ")),
        names => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        for (names, wanted) in [(&["a", "b", "c"][..], "a, b and c"), (&["a", "b"], "a and b"), (&["a"], "a")] {
            assert_eq!(listed(names, "and"), wanted);
        }
    }
}
