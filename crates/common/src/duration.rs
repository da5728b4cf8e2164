//! Lengths of time as they are written in flags, in the fleet file and in the environment.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, de};

/// How a length of time is written, for messages.
pub const FORMAT: &str = "a length of time such as 7d, 36h or 1h 30m";

/// A length of time of 0 or more, such as `7d`, `36h` or `1h 30m`. A day has 24 hours, a week 7 days. Months and years are
/// refused: they differ in length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(SignedDuration);

impl Length {
    /// The longest one in a fleet file. Added to a plausible time it stays within the calendar.
    const LONGEST_IN_FILE: SignedDuration = SignedDuration::from_hours(24 * 3660);

    /// The length as one that could also be negative.
    pub fn signed(self) -> SignedDuration {
        self.0
    }

    /// The length as the standard library has it.
    pub fn unsigned(self) -> Duration {
        self.0.unsigned_abs()
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
        match length {
            Ok(length) if !length.is_negative() => Ok(Self(length)),
            _ => Err(format!("it is not {FORMAT}")),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.parse() {
            Ok(Self(length)) if length > Self::LONGEST_IN_FILE => {
                Err(de::Error::custom("it must be at most ten years"))
            }
            parsed => parsed.map_err(de::Error::custom),
        }
    }
}

/// In the fleet file it is a text.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for Length {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Length".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A length of time, such as 7d, 36h, 90m or 1h 30m.",
            "pattern": r"^\s*([0-9]+\s*[A-Za-z]+\s*)+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_24_hours_and_what_is_no_length_is_refused() {
        let hours = |text: &str| text.parse::<Length>().map(|length| length.signed().as_secs_f64() / 3600.0);
        for (text, wanted) in [
            ("1d", 24.0),
            ("90m", 1.5),
            ("1h 30m", 1.5),
            ("1h30m", 1.5),
            ("1d 12h", 36.0),
            ("2w", 336.0),
            ("0s", 0.0),
            // As flags took them before days were known to them.
            ("1.5h", 1.5),
            ("PT1H30M", 1.5),
            ("01:30:00", 1.5),
            ("200000h", 200_000.0),
        ] {
            assert_eq!(hours(text), Ok(wanted), "{text}");
        }
        for text in ["", "5", "-1h", "-1d", "1h ago", "1y", "1 month", "20 years", "99999999d", "soon"] {
            assert!(hours(text).is_err_and(|reason| reason.contains("such as 7d")), "{text}");
        }
    }

    #[test]
    fn a_file_has_at_most_ten_years() {
        let read = |text: &str| serde_json::from_value::<Length>(text.into()).map_err(|e| e.to_string());
        assert_eq!(read("3660d").unwrap().unsigned(), Duration::from_secs(3660 * 24 * 60 * 60));
        assert!(read("3661d").unwrap_err().contains("ten years") && read("5").unwrap_err().contains("such as 7d"));
    }
}
