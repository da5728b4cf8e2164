//! The points in time at which a simulation looks at its model.

use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::Schedule;
use driftsweep_ops::policy::replay::Look;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Most looks: more are a mistake, such as a sweep every minute.
const MOST: usize = 10_000;

/// When triggers are judged.
pub enum Nights<'a> {
    /// At the sweeps of the fleet.
    Sweeps(&'a Schedule, &'a TimeZone),
    /// So often.
    Every(SignedDuration),
}

/// The looks after a time and before another, in order. `scheduled` is the schedule of trainings, which is due at its own times: a
/// tick looks at the clock more often than there are sweeps.
///
/// # Errors
/// [`Error::BadValue`] where there are none, or too many.
pub fn looks(
    nights: &Nights<'_>,
    scheduled: Option<(&Schedule, &TimeZone)>,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<Look>> {
    let bad = |reason: String| Error::BadValue { what: "--every".into(), reason };
    let after = |at: Timestamp| match nights {
        Nights::Sweeps(schedule, zone) => schedule.next(at, zone),
        Nights::Every(length) => at.checked_add(*length).ok(),
    };
    if matches!(nights, Nights::Every(length) if length.is_zero()) {
        return Err(bad("must be longer than 0".into()));
    }
    let times = |next: &dyn Fn(Timestamp) -> Option<Timestamp>| {
        let times = std::iter::successors(next(from), |at| next(*at)).take_while(|at| *at < to).take(MOST + 1);
        let times: Vec<Timestamp> = times.collect();
        match times.len() > MOST {
            true => Err(bad(format!("there are more than {MOST} of them between --from and --to; give --every 1d"))),
            false => Ok(times),
        }
    };
    let sweeps = times(&after)?;
    let trainings =
        scheduled.map(|(schedule, zone)| times(&|at| schedule.next(at, zone))).transpose()?.unwrap_or_default();
    if sweeps.is_empty() {
        return Err(bad("there is no night between --from and --to; give a later --to, or a shorter --every".into()));
    }
    let mut all: Vec<Timestamp> = sweeps.iter().chain(&trainings).copied().collect();
    all.sort_unstable();
    all.dedup();
    let look = |at: Timestamp| Look {
        at,
        sweep: sweeps.binary_search(&at).is_ok(),
        scheduled: trainings.binary_search(&at).is_ok(),
    };
    Ok(all.into_iter().map(look).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_is_due_at_its_own_times_and_triggers_at_nights() {
        let monthly = Schedule::parse("0 4 1 * *").unwrap();
        let span = (at("2013-04-01T00:00:00Z"), at("2013-05-10T00:00:00Z"));
        let found = looks(&Nights::Every(SignedDuration::from_hours(24 * 7)), Some((&monthly, &TimeZone::UTC)), span);
        let found = found.unwrap();
        let shown: Vec<(String, bool, bool)> =
            found.iter().map(|look| (look.at.strftime("%m-%dT%H").to_string(), look.sweep, look.scheduled)).collect();
        let of = |text: &str, sweep, scheduled| (text.to_owned(), sweep, scheduled);
        assert_eq!(shown[..3], [of("04-01T04", false, true), of("04-08T00", true, false), of("04-15T00", true, false)]);
        assert!(shown.contains(&of("05-01T04", false, true)));
        let daily = Schedule::parse("0 2 * * *").unwrap();
        let found = looks(&Nights::Sweeps(&daily, &TimeZone::UTC), None, span).unwrap();
        assert_eq!(
            (found.len(), found[0].at),
            (39, at("2013-04-01T02:00:00Z")),
            "the night of --from is that of the first training"
        );
    }

    #[test]
    fn no_night_or_too_many_are_refused_with_the_remedy() {
        let minutely = Schedule::parse("* * * * *").unwrap();
        let span = (at("2013-04-01T00:00:00Z"), at("2013-05-01T00:00:00Z"));
        let refused = looks(&Nights::Sweeps(&minutely, &TimeZone::UTC), None, span).unwrap_err().to_string();
        assert!(refused.contains("--every 1d"), "{refused}");
        let rare = Nights::Every(SignedDuration::from_hours(24 * 40));
        assert!(looks(&rare, None, span).unwrap_err().to_string().contains("no night"));
        assert!(looks(&Nights::Every(SignedDuration::ZERO), None, span).is_err());
    }
}
