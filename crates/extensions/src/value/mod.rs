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

use jiff::SignedDuration;

/// A checked value, or the reason why it is none.
pub type Validated<T> = std::result::Result<T, String>;

/// Reads a length of time such as `7d`, `36h` or `90m`; a day has 24 hours.
///
/// # Errors
/// The reason.
pub fn duration(what: &str, text: &str) -> Validated<SignedDuration> {
    let span: jiff::Span =
        text.parse().map_err(|_| format!("{what} = \"{text}\" is not a length of time such as 7d or 36h"))?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|e| format!("{what}: {e}"))?;
    if length.is_negative() || length > SignedDuration::from_hours(24 * 3660) {
        return Err(format!("{what} = \"{text}\" must be between 0 and ten years"));
    }
    Ok(length)
}

/// Checks one number against its range.
///
/// # Errors
/// The range.
pub fn check_range<T: PartialOrd + std::fmt::Display + Copy>(
    what: &str,
    value: Option<T>,
    range: std::ops::RangeInclusive<T>,
) -> Validated<Option<T>> {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(format!("{what} = {value} must be between {} and {}", range.start(), range.end()))
        }
        value => Ok(value),
    }
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
    fn a_length_of_time_has_days_of_24_hours() {
        assert_eq!(duration("x", "7d").unwrap(), SignedDuration::from_hours(168));
        assert_eq!(duration("x", "1d 12h").unwrap(), SignedDuration::from_hours(36));
        for text in ["", "-1d", "1 month", "20 years", "7"] {
            assert!(duration("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        for (names, wanted) in [(&["a", "b", "c"][..], "a, b and c"), (&["a", "b"], "a and b"), (&["a"], "a")] {
            assert_eq!(listed(names, "and"), wanted);
        }
    }
}
