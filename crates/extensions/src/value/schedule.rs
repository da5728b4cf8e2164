//! Schedules: cron expressions in local time.

use cronexpr::Crontab;
use driftsweep::model::window::offset_since;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A cron expression of five fields, in local time.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    /// Parsed in UTC: local times are converted here, where clock changes skip or repeat some.
    crontab: Crontab,
    /// Whether it comes at intervals (`*`, a range or a step among its minutes or hours): it then occurs at both passes
    /// of a repeated local time; a fixed time of day occurs only at the first.
    at_intervals: bool,
    /// Whether it occurs in every hour: it then misses nothing where local times are skipped. Other schedules run right
    /// after the skipped time.
    in_every_hour: bool,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Schedule {
    /// Reads an expression such as `30 2 * * 1-5`, or `@daily`.
    ///
    /// # Errors
    /// The reason.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let fields = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            fields => fields,
        };
        let wrong = |reason: String| format!("schedule '{text}': {reason}");
        if fields.split_whitespace().count() != 5 {
            return Err(wrong(
                "give minute, hour, day of month, month and day of week; the zone is `time_zone`".into(),
            ));
        }
        let crontab = |fields: &str| {
            cronexpr::parse_crontab(&format!("{fields} UTC")).map_err(|e| {
                let text = e.to_string();
                wrong(text.lines().last().unwrap_or_default().trim_start_matches(['^', ' ', '-', '|']).to_owned())
            })
        };
        let whole = crontab(fields)?;
        let at_intervals = fields.split_whitespace().take(2).any(|field| field.contains(['*', '-', '/']));
        // Its hours on a day: with all hours the 24th occurrence after midnight is the next midnight.
        let hours = crontab(&format!("0 {} * * *", fields.split_whitespace().nth(1).unwrap_or_default()))?;
        let hours = hours.iter_after(Timestamp::UNIX_EPOCH).map_err(|e| wrong(e.to_string()))?;
        let last = hours.take(24).map_while(std::result::Result::ok).last();
        let in_every_hour = last.is_some_and(|at| at.timestamp().as_second() == 24 * 60 * 60);
        let schedule = Self { text: text.trim().to_owned(), crontab: whole, at_intervals, in_every_hour };
        // 30 February never occurs.
        match schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC) {
            Some(_) => Ok(schedule),
            None => Err(wrong("it never occurs".into())),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time after a point in time. An interval (`0 * * * *`, `*/15 2-4 * * *`) occurs at both passes of a
    /// repeated local time; a time of day (`30 2 * * *`) only at the first. A skipped local time is run right after the
    /// clock change, unless the schedule occurs in every hour.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // Before the calendar ends.
        if after.to_zoned(TimeZone::UTC).year() > 9900 {
            return None;
        }
        let (mut after, mut inside) = (after, after);
        // One period without a clock change after another; there are few even until a 29 February.
        for _ in 0..1000 {
            let end = zone.following(inside).next().map(|change| change.timestamp());
            let offset = zone.to_offset(inside);
            let mut from = after;
            let mut skipped = None;
            if let Some(begin) = offset_since(inside, zone) {
                let before = zone.to_offset(just_before(begin)?);
                let forward = SignedDuration::from_secs((offset.seconds() - before.seconds()).into());
                // The local times that the clock change skipped, or repeats.
                let until = begin.checked_add(forward.abs()).ok()?;
                if forward.is_positive() && !self.in_every_hour && after < until {
                    skipped = self.next_at(before, after.max(just_before(begin)?)).filter(|&at| at < until);
                } else if forward.is_negative() && !self.at_intervals {
                    from = after.max(just_before(until)?);
                }
            }
            let shown = self.next_at(offset, from);
            let found = [skipped, shown].into_iter().flatten().min();
            match end {
                // The instant of the change belongs to the period after it.
                Some(end) if found.is_none_or(|at| at >= end) => (after, inside) = (just_before(end)?, end),
                _ => return found,
            }
        }
        None
    }

    /// The first occurrence after a point in time, at a fixed UTC offset.
    fn next_at(&self, offset: Offset, after: Timestamp) -> Option<Timestamp> {
        let offset = SignedDuration::from_secs(offset.seconds().into());
        // The local time, treated as UTC.
        let shown = self.crontab.find_next(after.checked_add(offset).ok()?).ok()?;
        shown.timestamp().checked_sub(offset).ok()
    }

    /// The last time up to a point in time and after another, if there is one: missed occurrences are made up for once.
    pub fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = self.next(after, zone).filter(|&first| first <= until)?;
        // Increasingly long periods before `until`, to avoid stepping through years of minutes.
        let mut stretch = SignedDuration::from_mins(2);
        loop {
            let from = until.checked_sub(stretch).unwrap_or(after).max(after);
            let mut found = self.next(from, zone).filter(|&at| at <= until);
            if found.is_some() || from == after {
                while let Some(next) = found.and_then(|at| self.next(at, zone)).filter(|&at| at <= until) {
                    found = Some(next);
                }
                return found.or(Some(first));
            }
            stretch = stretch.checked_mul(4)?;
        }
    }
}

/// The last instant before another.
fn just_before(at: Timestamp) -> Option<Timestamp> {
    at.checked_sub(SignedDuration::from_nanos(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), TimeZone::get(zone).unwrap());
        let mut at = from.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..n {
            at = schedule.next(at, &zone).unwrap();
            found.push(at.to_zoned(zone.clone()).strftime("%F %H:%M %:z").to_string());
        }
        found
    }

    #[test]
    fn a_time_that_the_clocks_skip_or_repeat_comes_once() {
        // Berlin skips 02:30 on the 29th of March 2026, and has it twice on the 25th of October.
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28 02:30 +01:00", "2026-03-29 03:30 +02:00", "2026-03-30 02:30 +02:00"]);
        let autumn = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]);
        // From within the repeated hour.
        let within = times("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1);
        assert_eq!(within, ["2026-10-26 02:30 +01:00"]);
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["2028-02-29 00:00 +00:00"]);
        // A day that never was: Samoa went from the 29th to the 31st of December 2011.
        let samoa = times("0 12 30 * *", "Pacific/Apia", "2011-12-01T00:00:00Z", 2);
        assert_eq!(samoa, ["2011-12-31 12:00 +14:00", "2012-01-30 12:00 +14:00"]);
    }

    /// How often a schedule comes on a day, by the clocks of a zone.
    fn on(day: &str, schedule: &str, zone: &str) -> Vec<Timestamp> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), TimeZone::get(zone).unwrap());
        let day: jiff::civil::Date = day.parse().unwrap();
        let begin = |day: jiff::civil::Date| day.to_zoned(zone.clone()).unwrap().timestamp();
        let mut at = just_before(begin(day)).unwrap();
        let mut found = Vec::new();
        while let Some(next) = schedule.next(at, &zone).filter(|&next| next < begin(day.tomorrow().unwrap())) {
            assert!(next > at);
            // The same from every point of time in between.
            for part in 1..10 {
                let between =
                    at + SignedDuration::from_nanos((next.as_nanosecond() - at.as_nanosecond()) as i64 / 10 * part);
                assert_eq!(schedule.next(between, &zone), Some(next), "{between}");
            }
            at = next;
            found.push(next);
        }
        found
    }

    #[test]
    fn what_comes_at_intervals_comes_in_both_hours_and_a_time_of_day_once() {
        let (back, forward) = ("2026-10-25", "2026-03-29");
        for (schedule, on_back, on_forward) in [
            ("0 * * * *", 25, 23),
            ("@hourly", 25, 23),
            ("*/15 * * * *", 100, 92),
            ("17,47 0-23 * * *", 50, 46),
            ("* * * * *", 1500, 1380),
            // Every other hour: 02:00 comes twice, or when the clocks have gone on.
            ("0 */2 * * *", 13, 12),
            ("0 1-3 * * *", 4, 2),
            ("*/15 2 * * *", 8, 4),
            ("30 2 * * *", 1, 1),
            ("0,30 2,3 * * *", 4, 2),
            ("30 2,14 * * *", 2, 2),
            ("0 2 * * *", 1, 1),
            ("@daily", 1, 1),
            ("@midnight", 1, 1),
            ("@weekly", 1, 1),
            ("@monthly", 0, 0),
            ("@yearly", 0, 0),
        ] {
            assert_eq!(on(back, schedule, "Europe/Berlin").len(), on_back, "{schedule}");
            assert_eq!(on(forward, schedule, "Europe/Berlin").len(), on_forward, "{schedule}");
            assert_eq!(
                on("2026-10-26", schedule, "Europe/Berlin"),
                on("2026-10-26", schedule, "Etc/GMT-1"),
                "{schedule}"
            );
        }
        // Half an hour, on Lord Howe Island: back from 02:00 to 01:30, and on from 02:00 to 02:30.
        let (back, forward, zone) = ("2026-04-05", "2026-10-04", "Australia/Lord_Howe");
        for (schedule, on_back, on_forward) in [
            ("0 * * * *", 24, 23),
            ("30 * * * *", 25, 24),
            ("*/15 * * * *", 98, 94),
            ("45 1 * * *", 1, 1),
            ("15 2 * * *", 1, 1),
            ("15,30 2 * * *", 2, 2),
        ] {
            assert_eq!(on(back, schedule, zone).len(), on_back, "{schedule}");
            assert_eq!(on(forward, schedule, zone).len(), on_forward, "{schedule}");
        }
        // A midnight that is skipped, and one that comes twice.
        assert_eq!(on("2018-11-04", "@daily", "America/Sao_Paulo").len(), 1);
        assert_eq!(on("2026-11-01", "@daily", "America/Havana").len(), 1);
    }

    #[test]
    fn an_hourly_schedule_looks_at_every_hour_once() {
        use driftsweep::model::Period;
        let hour = Period::parse("hour").unwrap();
        for zone in
            ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Pacific/Chatham", "Asia/Kathmandu"]
        {
            let (schedule, zone) = (Schedule::parse("0 * * * *").unwrap(), TimeZone::get(zone).unwrap());
            let mut at = "2026-01-01T00:00:00Z".parse().unwrap();
            let mut looked_at = None;
            for _ in 0..9000 {
                at = schedule.next(at, &zone).unwrap();
                let window = hour.interval(at, &zone).unwrap();
                assert_eq!(window.before, at);
                assert!(looked_at.is_none_or(|until| until == window.from), "{zone:?} {at}");
                looked_at = Some(window.before);
            }
        }
    }

    #[test]
    fn what_was_missed_is_caught_up_with_once_and_quickly() {
        let utc = TimeZone::UTC;
        let latest = |schedule: &str, after: &str, until: &str| {
            let found = Schedule::parse(schedule).unwrap().latest(after.parse().unwrap(), until.parse().unwrap(), &utc);
            found.map(|at| at.to_string())
        };
        let (long_ago, now) = ("1990-01-01T00:00:00Z", "2026-11-23T10:00:30Z");
        assert_eq!(latest("* * * * *", long_ago, now).unwrap(), "2026-11-23T10:00:00Z");
        assert_eq!(latest("0 2 * * 1", long_ago, now).unwrap(), "2026-11-23T02:00:00Z");
        assert_eq!(latest("0 0 29 2 *", long_ago, now).unwrap(), "2024-02-29T00:00:00Z");
        assert_eq!(latest("0 2 * * *", "2026-11-23T02:00:00Z", now), None);
        // The clock was set back.
        assert_eq!(latest("0 2 * * *", "2026-12-01T02:00:00Z", now), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for text in ["", "* * * *", "61 * * * *", "0 0 30 2 *", "0 2 * * * Europe/Berlin", "@never", "a b c d e"] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains("schedule") && error.len() < 200, "{error}");
        }
    }
}
