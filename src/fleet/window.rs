//! Windows: which stretch of time a comparison looks at, given the time the sweep counts as.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, Zoned};

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

#[cfg(test)]
mod tests {
    use super::*;

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
