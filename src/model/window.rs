//! Windows: which stretch of time a comparison looks at, given the time the sweep counts as.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan, Unit, Zoned};

use driftsweep_common::address::redacted;
use driftsweep_common::duration::FORMAT;
use driftsweep_common::error::{closest, did_you_mean};

/// A stretch of time that moves with the sweep.
#[derive(Clone, Copy, Debug)]
pub enum Period {
    /// The last whole hour, day, week (from Monday) or month before the sweep.
    Calendar(Unit),
    /// So long before the sweep, up to it; of dates, so many whole days before the day of the sweep.
    Rolling(Span),
}

/// From a point in time on, and before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first that is in it.
    pub from: Timestamp,
    /// The first that no longer is.
    pub before: Timestamp,
    /// The same of dates, which have no time of day: the first day in it, and the first that no longer is. Absent where
    /// the window is not made of whole days.
    pub days: Option<(Date, Date)>,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar(unit) => write!(f, "{}", calendar_name(*unit)),
            Self::Rolling(span) => write!(f, "{span}"),
        }
    }
}

/// The name of a window of the calendar.
fn calendar_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Hour => "hour",
        Unit::Week => "week",
        Unit::Month => "month",
        _ => "day",
    }
}

impl Period {
    /// Reads `hour`, `day`, `week`, `month`, or a length such as `7d` or `36h`; months and years of the calendar, too.
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
                .ok_or_else(|| {
                    let meant = did_you_mean(closest(text, ["hour", "day", "week", "month"].into_iter()));
                    format!("window '{text}' is neither hour, day, week, month nor {FORMAT}{meant}")
                }),
        }
    }

    /// So long before the sweep: by days of the calendar where the length is a whole number of them.
    ///
    /// # Errors
    /// The reason, where it is longer than the calendar.
    pub fn rolling(length: SignedDuration) -> Result<Self, String> {
        const DAY: i64 = 24 * 60 * 60;
        let (seconds, rest) = (length.as_secs(), length.subsec_nanos());
        let span = match (seconds % DAY, rest) {
            (0, 0) => Span::new().try_days(seconds / DAY),
            _ => Span::try_from(length),
        };
        span.map(Self::Rolling).map_err(|e| e.to_string())
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
        // A day that begins twice, or without a midnight, begins with its first moment.
        let begin = |day: Date| day.to_datetime(Time::midnight()).to_zoned(as_of.time_zone().clone());
        let whole_days = |first: Date, end: Date| {
            let (from, before) = (begin(first)?.timestamp(), begin(end)?.timestamp());
            Ok(Interval { from, before, days: Some((first, end)) })
        };
        let day = as_of.date();
        match *self {
            Self::Rolling(span) => {
                let days = match has_times_of_day(&span) {
                    true => None,
                    false => Some((day.checked_sub(span)?, day)),
                };
                Ok(Interval { from: as_of.checked_sub(span)?.timestamp(), before: as_of.timestamp(), days })
            }
            Self::Calendar(Unit::Hour) => {
                let before = last_hour(as_of.timestamp(), as_of.time_zone())?;
                let from = last_hour(before.checked_sub(1.nanosecond())?, as_of.time_zone())?;
                Ok(Interval { from, before, days: None })
            }
            Self::Calendar(Unit::Month) => {
                let end = day.first_of_month();
                whole_days(end.checked_sub(1.month())?, end)
            }
            Self::Calendar(Unit::Week) => {
                let end = day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days())?;
                whole_days(end.checked_sub(1.week())?, end)
            }
            Self::Calendar(_) => whole_days(day_before(as_of)?, day),
        }
    }
}

/// Whether a length has hours, or less than an hour, in it.
fn has_times_of_day(span: &Span) -> bool {
    let parts = [span.get_minutes(), span.get_seconds(), span.get_milliseconds(), span.get_microseconds()];
    span.get_hours() != 0 || span.get_nanoseconds() != 0 || parts.into_iter().any(|part| part != 0)
}

/// The last time up to a point in time at which the clock on the wall shows a whole hour. An hour that the clocks
/// repeat is an hour each time, and where they move by half an hour one of that night has ninety minutes.
fn last_hour(at: Timestamp, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    const HOUR: i64 = 60 * 60;
    let mut at = at;
    loop {
        let offset = i64::from(zone.to_offset(at).seconds());
        // Rounded down, before 1970 too.
        let second = at.as_nanosecond().div_euclid(1_000_000_000) as i64;
        let hour = Timestamp::from_second((second + offset).div_euclid(HOUR) * HOUR - offset)?;
        match offset_since(at, zone) {
            // The clocks showed something else then.
            Some(since) if hour < since => at = since.checked_sub(1.nanosecond())?,
            _ => return Ok(hour),
        }
    }
}

/// Since when a zone's clocks have shown what they show, if they ever showed anything else.
pub fn offset_since(at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let after = at.checked_add(1.nanosecond()).ok()?;
    zone.preceding(after).next().map(|change| change.timestamp())
}

/// The last day that was over: the day before, unless a zone left that one out.
fn day_before(as_of: &Zoned) -> Result<Date, jiff::Error> {
    let today = as_of.date().to_datetime(Time::midnight()).to_zoned(as_of.time_zone().clone())?;
    Ok(today.checked_sub(1.nanosecond())?.date())
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
        let wrong =
            |e: jiff::Error| format!("'{}': {e}; write {{day}} or for example {{day:%Y/%m/%d}}", redacted(path));
        let day = day_before(&as_of.to_zoned(zone.clone())).map_err(wrong)?;
        text.push_str(&jiff::fmt::strtime::format(format, day).map_err(wrong)?);
        left = after;
    }
    Ok(text + left)
}

/// A word in braces of a path that looks like a placeholder and is none, such as `{date}` or a mistyped `{day}`.
pub fn unknown_placeholder(path: &str) -> Option<&str> {
    let words = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word);
    let is_day = |word: &str| word == "day" || word.starts_with("day:");
    // A glob pattern has alternatives in braces, with commas.
    let mut others =
        words.filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    others.find(|word| !is_day(word))
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

    /// Zones that move their clocks by an hour or by half of one, at midnight or with a quarter of an hour, or never.
    const ZONES: [&str; 7] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Havana",
        "Pacific/Chatham",
        "Asia/Kathmandu",
    ];

    #[test]
    fn windows_one_after_another_tile_the_time_line() {
        let (start, end): (Timestamp, Timestamp) =
            ("2026-01-01T00:07:31Z".parse().unwrap(), "2027-02-02T00:00:00Z".parse().unwrap());
        for name in ZONES {
            let zone = TimeZone::get(name).unwrap();
            for (text, least) in [("hour", 9000), ("day", 396), ("week", 56), ("month", 13)] {
                let period = Period::parse(text).unwrap();
                let mut found: Vec<Interval> = Vec::new();
                let mut at = start;
                while at < end {
                    let window = period.interval(at, &zone).unwrap();
                    assert!(window.from < window.before && window.before <= at, "{name} {text} {at}");
                    if found.last() != Some(&window) {
                        if let Some(last) = found.last() {
                            assert_eq!(last.before, window.from, "{name} {text} {at}");
                            assert_eq!(last.days.map(|days| days.1), window.days.map(|days| days.0));
                            assert_eq!(period.previous(at, &zone).unwrap(), *last, "{name} {text} {at}");
                        }
                        found.push(window);
                    }
                    at += 15.minutes();
                }
                assert!(found.len() >= least, "{name} {text}: {}", found.len());
            }
        }
    }

    #[test]
    fn an_hour_that_the_clocks_repeat_is_an_hour_each_time() {
        let berlin = |as_of| interval("hour", as_of, "Europe/Berlin");
        for (as_of, from, before) in [
            ("2026-10-25T00:05:00Z", "2026-10-24T23:00:00Z", "2026-10-25T00:00:00Z"),
            ("2026-10-25T01:05:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
            ("2026-10-25T02:05:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
            ("2026-03-29T01:05:00Z", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
        ] {
            assert_eq!(berlin(as_of), (from.into(), before.into()));
        }
        // Half an hour back at 02:00, on Lord Howe Island: from 01:00 to 02:00 by the clock took ninety minutes.
        let long = interval("hour", "2026-04-04T15:35:00Z", "Australia/Lord_Howe");
        assert_eq!(long, ("2026-04-04T14:00:00Z".into(), "2026-04-04T15:30:00Z".into()));
    }

    #[test]
    fn of_dates_a_window_is_made_of_whole_days_whatever_the_time_of_the_sweep() {
        let days = |period: &str, as_of: &str| {
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let found = Period::parse(period).unwrap().interval(as_of.parse().unwrap(), &zone).unwrap();
            found.days.map(|(first, end)| format!("{first} {end}"))
        };
        for as_of in ["2026-11-22T23:00:00Z", "2026-11-23T02:30:00Z", "2026-11-23T22:59:59Z"] {
            assert_eq!(days("day", as_of).unwrap(), "2026-11-22 2026-11-23");
            assert_eq!(days("1d", as_of), days("day", as_of));
            assert_eq!(days("7d", as_of).unwrap(), "2026-11-16 2026-11-23");
            assert_eq!(days("2w", as_of).unwrap(), "2026-11-09 2026-11-23");
            assert_eq!(days("week", as_of).unwrap(), "2026-11-16 2026-11-23");
            for period in ["hour", "36h", "1d 12h", "90m"] {
                assert_eq!(days(period, as_of), None);
            }
        }
        let length = |hours| Period::rolling(SignedDuration::from_hours(hours)).unwrap();
        let found = length(168).interval("2026-11-23T02:30:00Z".parse().unwrap(), &TimeZone::UTC).unwrap();
        assert!(found.days.is_some());
        assert!(length(36).interval("2026-11-23T02:30:00Z".parse().unwrap(), &TimeZone::UTC).unwrap().days.is_none());
    }

    #[test]
    fn a_day_that_a_zone_left_out_is_not_the_day_before() {
        // Samoa went from the 29th to the 31st of December 2011.
        let zone = TimeZone::get("Pacific/Apia").unwrap();
        let noon: Timestamp = "2011-12-30T22:00:00Z".parse().unwrap();
        assert_eq!(noon.to_zoned(zone.clone()).date().day(), 31);
        assert_eq!(dated("{day}", noon, &zone).unwrap(), "2011-12-29");
        let day = Period::parse("day").unwrap().interval(noon, &zone).unwrap();
        assert_eq!(day.before.duration_since(day.from), SignedDuration::from_hours(24));
    }

    #[test]
    fn a_dated_path_is_right_where_the_clocks_change_and_at_the_ends_of_months() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (as_of, day) in [
            ("2026-10-24T22:30:00Z", "2026-10-24"),
            ("2026-10-25T00:30:00Z", "2026-10-24"),
            ("2026-10-25T01:30:00Z", "2026-10-24"),
            ("2026-10-25T22:59:00Z", "2026-10-24"),
            ("2026-10-25T23:00:00Z", "2026-10-25"),
            ("2026-03-29T01:30:00Z", "2026-03-28"),
            ("2026-03-29T22:00:00Z", "2026-03-29"),
            ("2026-12-31T23:00:00Z", "2026-12-31"),
            ("2026-02-28T23:00:00Z", "2026-02-28"),
        ] {
            assert_eq!(dated("{day}", as_of.parse().unwrap(), &berlin).unwrap(), day, "{as_of}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in ["", "fortnight", "-1d", "0d", "day "] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }
}
