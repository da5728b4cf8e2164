//! Times on the command line: read once the zone of the fleet is known.

use std::str::FromStr;

use driftsweep_common::error::Error;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// A point in time as it was given: an instant, or a local time in a zone that is not known yet.
#[derive(Clone, Debug)]
pub enum TimeArg {
    Moment(Timestamp),
    Wall(DateTime),
    Day(Date),
}

impl FromStr for TimeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |reason: String| {
            format!(
                "{reason}; give a time such as 2026-01-31T02:00:00Z or 2026-01-31T02:00:00+01:00, or one in the fleet's \
                 `time_zone` such as \"2026-01-31 02:00\" or, for the beginning of the day, 2026-01-31"
            )
        };
        if let Ok(moment) = text.parse() {
            return Ok(Self::Moment(moment));
        }
        // The whole text is parsed: a parser that stops early would drop the time of day, or a zone.
        if let Ok(day) = Date::strptime("%Y-%m-%d", text) {
            return Ok(Self::Day(day));
        }
        let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
        if let Some(wall) = forms.into_iter().find_map(|form| DateTime::strptime(form, text).ok()) {
            return Ok(Self::Wall(wall));
        }
        // The part that is wrong, as far as possible.
        let digits = |i: usize, b: u8| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() };
        let day = text.get(..10).filter(|day| day.bytes().enumerate().all(|(i, b)| digits(i, b)));
        Err(wrong(match day.map(|day| (day, Date::strptime("%Y-%m-%d", day))) {
            Some((day, Err(_))) => format!("there is no day {day}"),
            Some((_, Ok(_))) if text[10..].starts_with(['T', ' ']) => {
                format!("there is no time of day {}", &text[11..])
            }
            _ => "it is not a time".into(),
        }))
    }
}

impl TimeArg {
    /// Whether it depends on a zone.
    pub fn is_local(&self) -> bool {
        !matches!(self, Self::Moment(_))
    }

    /// The instant, in a zone.
    ///
    /// # Errors
    /// A local time that occurs twice or never; with what it may mean.
    pub fn resolve(&self, flag: &str, zone: &TimeZone) -> anyhow::Result<Timestamp> {
        let name = zone.iana_name().unwrap_or("the fleet's time zone");
        let wall = match *self {
            Self::Moment(moment) => return Ok(moment),
            // A day begins at its first instant, whatever the clock change at midnight.
            Self::Day(day) => return Ok(day.to_zoned(zone.clone())?.timestamp()),
            Self::Wall(wall) => wall,
        };
        let with = |offset: jiff::tz::Offset| offset.to_timestamp(wall).map(|at| zone_time(at, zone));
        let reason = match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => return Ok(offset.to_timestamp(wall)?),
            AmbiguousOffset::Fold { before, after } => {
                format!(
                    "{wall} comes twice in {name}, where the clocks go back; give {} or {}",
                    with(before)?,
                    with(after)?
                )
            }
            AmbiguousOffset::Gap { before, .. } => {
                format!("{wall} is skipped in {name}, where the clocks go forward; give {}", with(before)?)
            }
        };
        Err(Error::BadValue { what: flag.into(), reason }.into())
    }
}

/// An instant with the offset of a zone, in the format of the command line.
fn zone_time(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The effective time: what `--now` says, or else the clock.
pub fn now_or(given: Option<&TimeArg>, zone: &TimeZone, clock: Timestamp) -> anyhow::Result<Timestamp> {
    given.map_or(Ok(clock), |when| when.resolve("--now", zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, zone: &str) -> Result<String, String> {
        let when: TimeArg = text.parse()?;
        when.resolve("--now", &TimeZone::get(zone).unwrap()).map(|at| at.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_time_without_a_zone_is_one_of_the_fleets() {
        for (text, utc, berlin) in [
            ("2026-11-12T03:00:00Z", "2026-11-12T03:00:00Z", "2026-11-12T03:00:00Z"),
            ("2026-11-12T03:00:00+05:30", "2026-11-11T21:30:00Z", "2026-11-11T21:30:00Z"),
            ("2026-11-12T03:00:00", "2026-11-12T03:00:00Z", "2026-11-12T02:00:00Z"),
            ("2026-11-12 03:00", "2026-11-12T03:00:00Z", "2026-11-12T02:00:00Z"),
            ("2026-11-12T03:00:00.25", "2026-11-12T03:00:00.25Z", "2026-11-12T02:00:00.25Z"),
            ("2026-07-12", "2026-07-12T00:00:00Z", "2026-07-11T22:00:00Z"),
            // A leap second counts as the one before it.
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z", "2016-12-31T23:59:59Z"),
            ("2016-12-31 23:59:60", "2016-12-31T23:59:59Z", "2016-12-31T22:59:59Z"),
        ] {
            assert_eq!(read(text, "UTC").as_deref(), Ok(utc), "{text}");
            assert_eq!(read(text, "Europe/Berlin").as_deref(), Ok(berlin), "{text}");
        }
        // Midnight is skipped there on that day, and comes twice in Havana on the other.
        assert_eq!(read("2018-11-04", "America/Sao_Paulo").unwrap(), "2018-11-04T03:00:00Z");
        assert_eq!(read("2026-11-01", "America/Havana").unwrap(), "2026-11-01T04:00:00Z");
    }

    #[test]
    fn a_time_that_comes_twice_or_never_is_refused_with_what_it_may_mean() {
        let twice = read("2026-10-25 02:30", "Europe/Berlin").unwrap_err();
        assert!(twice.contains("2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"), "{twice}");
        let never = read("2026-03-29T02:30:00", "Europe/Berlin").unwrap_err();
        assert!(never.contains("skipped") && never.contains("2026-03-29T03:30:00+02:00"), "{never}");
    }

    #[test]
    fn what_is_no_time_is_refused_by_the_part_that_is_wrong() {
        for (text, words) in [
            ("2026-02-30", "no day 2026-02-30"),
            ("2026-02-30T00:00:00Z", "no day 2026-02-30"),
            ("2026-11-12 25:00", "no time of day 25:00"),
            ("2026-11-12T24:00:00", "no time of day 24:00:00"),
            ("2026-11-12T03:00:00 CET", "no time of day 03:00:00 CET"),
            ("2026-11-12T03:00[Europe/Berlin]", "no time of day 03:00[Europe/Berlin]"),
            ("25:00", "not a time"),
            ("yesterday", "not a time"),
            ("1764547200", "not a time"),
            ("2026-11-12é", "not a time"),
            ("", "not a time"),
        ] {
            let error = read(text, "UTC").unwrap_err();
            assert!(error.contains(words) && error.contains("time_zone"), "{text}: {error}");
        }
    }
}
