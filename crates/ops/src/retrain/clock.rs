//! The real clock in the records of the audit. Each record was written after the one before: if the clock goes back
//! between them, it was or is wrong.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// Times that differ by no more than this count as the same: a pass may take this long.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// The largest normal difference between the clocks of several machines, or after a correction: a record may be this
/// much earlier than the one before.
pub const MAX_CLOCK_DIFFERENCE: SignedDuration = CLOCK_TOLERANCE;

/// The kind of the record in which a person says that a clock was ahead: the times of records before it say nothing about
/// those after it.
pub const CLOCK_AHEAD: &str = "clock.ahead";

/// A record before which the real clock went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClockSetBack {
    /// Its number.
    pub record: u64,
    /// When it was written by the real clock.
    pub at: Timestamp,
    /// When the record before it was.
    pub before: Timestamp,
}

/// The times of records by the real clock, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct AuditClock {
    /// The records after which no later time was recorded, with their numbers: the times decrease.
    latest: Vec<(u64, Timestamp)>,
    /// The time of the last record.
    last: Option<Timestamp>,
    set_back: Vec<ClockSetBack>,
}

impl AuditClock {
    /// Adds a record.
    pub fn add(&mut self, seq: u64, at: Timestamp) {
        while self.latest.pop_if(|(_, latest)| *latest <= at).is_some() {}
        self.latest.push((seq, at));
        let before = self.last.replace(at).filter(|before| before.duration_since(at) > MAX_CLOCK_DIFFERENCE);
        self.set_back.extend(before.map(|before| ClockSetBack { record: seq, at, before }));
    }

    /// Leaves out the records so far, which a clock may have written that was ahead.
    pub fn correct(&mut self) {
        self.latest.clear();
    }

    /// Where the clock went back from one record to the next.
    pub fn set_back(&self) -> &[ClockSetBack] {
        &self.set_back
    }

    /// The record from a number on that has the latest time.
    pub fn latest_since(&self, seq: u64) -> Option<(u64, Timestamp)> {
        self.latest.get(self.latest.partition_point(|(known, _)| *known < seq)).copied()
    }
}

/// Whether a request was made at the real time. For stores of older versions this is not known: assumed true.
pub(super) fn is_real((at, clock): (Timestamp, Option<Timestamp>)) -> bool {
    clock.is_none_or(|clock| clock.duration_since(at).abs() <= CLOCK_TOLERANCE)
}

/// A length of time after a time.
pub(super) fn after(at: Timestamp, length: SignedDuration) -> Timestamp {
    at.checked_add(length).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_record_from_a_number_on_is_found_and_so_is_a_clock_that_went_back() {
        let at = |minute: i64| Timestamp::from_second(60 * minute).unwrap();
        let times = [5, 7, 100, 90, 89, 50, 50, 60, 41];
        let mut clock = AuditClock::default();
        assert_eq!(clock.latest_since(1), None);
        for (i, minute) in times.into_iter().enumerate() {
            clock.add(i as u64 + 1, at(minute));
            for from in 0..=i {
                let latest = times[from..=i].iter().max().copied().map(at);
                assert_eq!(clock.latest_since(from as u64 + 1).map(|(_, at)| at), latest, "from {from} to {i}");
            }
        }
        // Ten minutes are a correction.
        let back = [(6, 50, 89), (9, 41, 60)];
        let back = back.map(|(record, to, from)| ClockSetBack { record, at: at(to), before: at(from) });
        assert_eq!(clock.set_back(), back);
    }
}
