//! Windows: which stretch of time a comparison looks at, given the time the sweep counts as.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, Zoned};

use crate::address::shown;

/// A stretch of time that moves with the sweep.
#[derive(Clone, Copy, Debug)]
pub enum Period {
    /// The last whole hour, day, week (from Monday) or month before the sweep.
    Calendar(Unit),
    /// So long before the sweep, up to it.
    Rolling(Span),
}

/// From a point in time on, and before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first that is in it.
    pub from: Timestamp,
    /// The first that no longer is.
    pub before: Timestamp,
}

impl Period {
    /// Reads `hour`, `day`, `week`, `month`, or a length such as `7d` or `36h`.
    ///
    /// # Errors
    /// The reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "hour" => Ok(Self::Calendar(Unit::Hour)),
            "day" => Ok(Self::Calendar(Unit::Day)),
            "week" => Ok(Self::Calendar(Unit::Week)),
            "month" => Ok(Self::Calendar(Unit::Month)),
            _ => text
                .parse::<Span>()
                .ok()
                .filter(|span| span.is_positive() && !span.is_zero())
                .map(Self::Rolling)
                .ok_or_else(|| format!("window '{text}' is neither hour, day, week, month nor a length such as 7d")),
        }
    }

    /// Whether it moves with the calendar, not with every second.
    pub fn is_by_calendar(&self) -> bool {
        matches!(self, Self::Calendar(_))
    }

    /// The stretch that a sweep at a point in time looks at.
    ///
    /// # Errors
    /// The reason, where it lies beyond the calendar.
    pub fn interval(&self, as_of: Timestamp, zone: &TimeZone) -> Result<Interval, String> {
        self.last(&as_of.to_zoned(zone.clone())).map_err(|e| e.to_string())
    }

    /// The stretch before that one, as long.
    ///
    /// # Errors
    /// The reason, where it lies beyond the calendar.
    pub fn previous(&self, as_of: Timestamp, zone: &TimeZone) -> Result<Interval, String> {
        let previous = || {
            let last = self.last(&as_of.to_zoned(zone.clone()))?;
            self.last(&last.from.to_zoned(zone.clone()))
        };
        previous().map_err(|e: jiff::Error| e.to_string())
    }

    fn last(&self, as_of: &Zoned) -> Result<Interval, jiff::Error> {
        let midnight = |day: jiff::civil::Date| day.to_datetime(Time::midnight()).to_zoned(as_of.time_zone().clone());
        let (from, before) = match *self {
            Self::Rolling(span) => (as_of.checked_sub(span)?, as_of.clone()),
            Self::Calendar(Unit::Hour) => {
                let before = as_of.with().minute(0).second(0).subsec_nanosecond(0).build()?;
                (before.checked_sub(1.hour())?, before)
            }
            Self::Calendar(unit) => {
                let day = as_of.date();
                let (before, length) = match unit {
                    Unit::Month => (day.first_of_month(), 1.month()),
                    Unit::Week => (day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days())?, 1.week()),
                    _ => (day, 1.day()),
                };
                // By the calendar, so that a day of 23 or 25 hours is a day.
                (midnight(before.checked_sub(length)?)?, midnight(before)?)
            }
        };
        Ok(Interval { from: from.timestamp(), before: before.timestamp() })
    }
}

/// A path as a sweep at a point in time reads it: `{day}` is the last whole day before it, as 2026-01-31, and
/// `{day:FORMAT}` the same by a `strftime` format. Other braces are left as they are.
///
/// # Errors
/// The reason, for a format that is none.
pub fn dated(path: &str, as_of: Timestamp, zone: &TimeZone) -> Result<String, String> {
    const OPEN: &str = "{day";
    let mut text = String::new();
    let mut left = path;
    while let Some((before, rest)) = left.split_once(OPEN) {
        text.push_str(before);
        let (format, after) = match rest.strip_prefix('}') {
            Some(after) => ("%F", after),
            None => match rest.strip_prefix(':').and_then(|rest| rest.split_once('}')) {
                Some(format) => format,
                None => {
                    text.push_str(OPEN);
                    left = rest;
                    continue;
                }
            },
        };
        let wrong = |e: jiff::Error| format!("'{}': {e}; write {{day}} or for example {{day:%Y/%m/%d}}", shown(path));
        let day = as_of.to_zoned(zone.clone()).date().checked_sub(1.day()).map_err(wrong)?;
        text.push_str(&jiff::fmt::strtime::format(format, day).map_err(wrong)?);
        left = after;
    }
    Ok(text + left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dated_path_names_the_day_before_the_sweep_in_its_zone() {
        let at = |path: &str, zone: &str| {
            dated(path, "2028-03-01T02:00:00Z".parse().unwrap(), &TimeZone::get(zone).unwrap())
        };
        assert_eq!(at("p/date={day}/*.parquet", "UTC").unwrap(), "p/date=2028-02-29/*.parquet");
        assert_eq!(at("{day:%Y/%m/%d}/{day}", "America/New_York").unwrap(), "2028/02/28/2028-02-28");
        assert_eq!(at("{x}/{days}/{day", "UTC").unwrap(), "{x}/{days}/{day");
        assert!(at("{day:%!}", "UTC").unwrap_err().contains("{day:%Y/%m/%d}"));
    }

    fn interval(period: &str, as_of: &str, zone: &str) -> (String, String) {
        let zone = TimeZone::get(zone).unwrap();
        let found = Period::parse(period).unwrap().interval(as_of.parse().unwrap(), &zone).unwrap();
        (found.from.to_string(), found.before.to_string())
    }

    #[test]
    fn a_window_is_the_last_whole_one_before_the_sweep() {
        let of = |period| interval(period, "2026-11-23T02:30:00Z", "UTC");
        let pair = |from: &str, before: &str| (format!("{from}:00Z"), format!("{before}:00Z"));
        assert_eq!(of("hour"), pair("2026-11-23T01:00", "2026-11-23T02:00"));
        assert_eq!(of("day"), pair("2026-11-22T00:00", "2026-11-23T00:00"));
        assert_eq!(of("week"), pair("2026-11-16T00:00", "2026-11-23T00:00"));
        assert_eq!(of("month"), pair("2026-10-01T00:00", "2026-11-01T00:00"));
        assert_eq!(of("7d"), pair("2026-11-16T02:30", "2026-11-23T02:30"));
        let previous = Period::parse("day").unwrap().previous("2026-11-23T02:30:00Z".parse().unwrap(), &TimeZone::UTC);
        assert_eq!(previous.unwrap().from.to_string(), "2026-11-21T00:00:00Z");
    }

    #[test]
    fn a_day_is_a_day_where_the_clocks_change_and_leap_days_count() {
        // The 25th of October 2026 has 25 hours in Berlin, the 29th of March 23.
        let berlin = |as_of| interval("day", as_of, "Europe/Berlin");
        assert_eq!(berlin("2026-10-26T03:00:00Z"), ("2026-10-24T22:00:00Z".into(), "2026-10-25T23:00:00Z".into()));
        assert_eq!(berlin("2026-03-30T03:00:00Z"), ("2026-03-28T23:00:00Z".into(), "2026-03-29T22:00:00Z".into()));
        assert_eq!(interval("month", "2028-03-01T00:00:00Z", "UTC").0, "2028-02-01T00:00:00Z");
        assert_eq!(interval("day", "2028-03-01T00:00:00Z", "UTC").0, "2028-02-29T00:00:00Z");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in ["", "fortnight", "-1d", "0d", "day "] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }
}
