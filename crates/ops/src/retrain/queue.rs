//! The order of the queue: the highest expected value less cost first, within the concurrency limits.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::job::{Job, JobState};
use driftsweep_fleet::{ConcurrencyLimits, Money, RetrainConfig};

/// The value of a job less its cost; jobs of the same value are ordered by age.
pub fn priority(job: &Job) -> Money {
    let gain = job.worth.as_ref().map_or(Money::ZERO, |worth| worth.gain);
    gain - job.estimate.as_ref().map_or(Money::ZERO, |estimate| estimate.expected)
}

/// Sorts jobs in queue order; `of` is the job of an entry.
pub fn order<T>(entries: &mut [T], of: impl Fn(&T) -> &Job) {
    entries.sort_by(|a, b| {
        let (a, b) = (of(a), of(b));
        priority(b).cmp(&priority(a)).then(a.requested_at.cmp(&b.requested_at)).then(a.id.cmp(&b.id))
    });
}

/// The slots in use, for comparison with the limits.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    fleet: usize,
    teams: HashMap<String, usize>,
    resources: HashMap<String, usize>,
}

impl Slots {
    /// Whether a run of a model fits.
    pub fn fits(&self, limits: &ConcurrencyLimits, retrain: &RetrainConfig) -> bool {
        let below = |taken: &HashMap<String, usize>, name: &str, limit: Option<usize>| {
            limit.is_none_or(|limit| taken.get(name).copied().unwrap_or(0) < limit)
        };
        self.fleet < limits.fleet
            && below(&self.teams, &retrain.team, limits.team)
            && below(&self.resources, &retrain.resource, limits.resources.get(&retrain.resource).copied())
    }

    /// The full slots that a run of a model needs; `None` if it fits.
    pub fn full(&self, limits: &ConcurrencyLimits, retrain: &RetrainConfig) -> Option<String> {
        if self.fits(limits, retrain) {
            return None;
        }
        let taken = |taken: &HashMap<String, usize>, name: &str, limit: Option<usize>| {
            let used = taken.get(name).copied().unwrap_or(0);
            limit.filter(|limit| used >= *limit).map(|limit| format!("{used} of {limit}"))
        };
        let fleet = (self.fleet >= limits.fleet).then(|| format!("fleet ({} of {})", self.fleet, limits.fleet));
        let team = taken(&self.teams, &retrain.team, limits.team)
            .map(|used| format!("team {} ({used})", driftsweep_common::escape::for_display(&retrain.team)));
        let resource = taken(&self.resources, &retrain.resource, limits.resources.get(&retrain.resource).copied())
            .map(|used| format!("resource {} ({used})", driftsweep_common::escape::for_display(&retrain.resource)));
        Some([fleet, team, resource].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    /// Takes a slot.
    pub fn take(&mut self, retrain: &RetrainConfig) {
        self.fleet += 1;
        *self.teams.entry(retrain.team.clone()).or_default() += 1;
        *self.resources.entry(retrain.resource.clone()).or_default() += 1;
    }
}

/// When a job in the queue will start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueuePosition {
    /// With the next tick, unless a budget would be overrun.
    NextTick,
    /// Not before a time: it waits for another attempt.
    NotBefore(Timestamp),
    /// When a slot is free.
    Behind {
        /// Jobs before it in the queue.
        jobs: usize,
        /// The slots it waits for, and how many of them are in use or about to be.
        places: String,
    },
}

impl QueuePosition {
    /// The position of a job among all in the queue, each with its training settings; `slots` are those in use now.
    pub fn of(
        job: &str,
        queued: &[(&Job, &RetrainConfig)],
        mut slots: Slots,
        limits: &ConcurrencyLimits,
        now: Timestamp,
    ) -> Option<Self> {
        let mut queued = queued.to_vec();
        order(&mut queued, |(job, _)| job);
        let mut jobs = 0;
        for (other, retrain) in queued {
            let JobState::Queued { not_before } = other.state else { continue };
            if other.id == job {
                let places = slots.full(limits, retrain);
                return Some(match places {
                    _ if now < not_before => Self::NotBefore(not_before),
                    Some(places) => Self::Behind { jobs, places },
                    None => Self::NextTick,
                });
            }
            if now >= not_before {
                jobs += 1;
                if slots.fits(limits, retrain) {
                    slots.take(retrain);
                }
            }
        }
        None
    }

    /// In words.
    pub fn sentence(&self) -> String {
        match self {
            Self::NextTick => "starts with the next tick".into(),
            Self::NotBefore(at) => format!("starts not before {at}: it waits for another attempt"),
            Self::Behind { jobs, places } => {
                let behind = match jobs {
                    0 => String::new(),
                    1 => "behind 1 queued job, ".into(),
                    n => format!("behind {n} queued jobs, "),
                };
                format!("{behind}waits for a free slot: {places} in use")
            }
        }
    }
}

/// The longest delay between attempts.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_hours(24);

/// The time of the next retry after a number of failures: the delay doubles each time, with a random part of a quarter
/// that depends on the name, so that simultaneous failures are not retried simultaneously.
pub fn retry_at(name: &str, failures: u32, first: SignedDuration, now: Timestamp) -> Timestamp {
    let hash = Sha256::digest(format!("{name} {failures}"));
    let share = f64::from(u16::from_le_bytes([hash[0], hash[1]])) / f64::from(u16::MAX);
    let wait = first.as_secs_f64() * 2f64.powi(failures.saturating_sub(1).min(32) as i32);
    let wait = wait.min(MAX_BACKOFF.as_secs_f64()) * (0.75 + 0.5 * share);
    now.checked_add(SignedDuration::try_from_secs_f64(wait).unwrap_or(MAX_BACKOFF)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::cost::{CostEstimate, ValueEstimate};
    use super::*;
    use driftsweep_fleet::Fleet;

    #[test]
    fn value_less_cost_goes_first_then_age() {
        let dollars = |x: f64| Money::of(x).unwrap();
        let job = |id: &str, gain: f64, cost: f64, hour: i64| {
            let at = Timestamp::from_second(3600 * hour).unwrap();
            Job {
                estimate: Some(CostEstimate::new(dollars(cost), &[])),
                worth: Some(ValueEstimate { gain: dollars(gain), ..ValueEstimate::default() }),
                ..Job::request(id, "m", "drift", at, at)
            }
        };
        let mut jobs =
            [job("a", 10.0, 100.0, 0), job("b", 500.0, 100.0, 3), job("c", 0.0, 90.0, 2), job("d", 500.0, 100.0, 1)];
        order(&mut jobs, |job| job);
        assert_eq!(jobs.each_ref().map(|job| &*job.id), ["d", "b", "a", "c"]);
    }

    #[test]
    fn fleet_team_and_resource_each_have_their_places() {
        let text = "[queue]\nmax_concurrent = 3\nper_team = 2\nresources = { gpu = 1 }\n[approval]\napprovers = [[\"a\"]]\n\
                    [defaults.retrain]\ncommand = [\"true\"]\n";
        let model = |name: &str, team: &str, resource: &str| {
            format!(
                "[[model]]\nname = \"{name}\"\nbaseline = \"a\"\ncurrent = \"b\"\n[model.retrain]\nteam = \"{team}\"\nresource = \"{resource}\"\n"
            )
        };
        let text = text.to_owned()
            + &model("1", "x", "gpu")
            + &model("2", "x", "cpu")
            + &model("3", "y", "gpu")
            + &model("4", "y", "cpu");
        let fleet = Fleet::parse(&text, "f.toml".as_ref(), &driftsweep::model::Options::new()).unwrap();
        let of = |i: usize| fleet.models[i].retrain.as_ref().unwrap();
        let (limits, mut slots) = (&fleet.governance.concurrency, Slots::default());
        slots.take(of(0));
        assert!(!slots.fits(limits, of(2)), "one gpu");
        slots.take(of(1));
        assert!(!slots.fits(limits, of(1)), "two of team x");
        assert!(slots.fits(limits, of(3)));
        slots.take(of(3));
        assert!(!slots.fits(limits, of(3)), "three in all");
        // Who waits is told for what, and behind how many.
        let now = Timestamp::UNIX_EPOCH;
        let queued = |id: &str, not_before| Job {
            state: JobState::Queued { not_before },
            ..Job::request(id, "m", "drift", now, now)
        };
        let later = now + SignedDuration::from_hours(1);
        let jobs = [queued("a", now), queued("b", now), queued("c", later), queued("d", now)];
        let entries = [(&jobs[0], of(1)), (&jobs[1], of(2)), (&jobs[2], of(3)), (&jobs[3], of(3))];
        let turn = |id: &str, slots: &Slots| QueuePosition::of(id, &entries, slots.clone(), limits, now).unwrap();
        let mut running = Slots::default();
        assert_eq!(turn("a", &running), QueuePosition::NextTick);
        assert_eq!(turn("c", &running), QueuePosition::NotBefore(later));
        running.take(of(0));
        let QueuePosition::Behind { jobs, places } = turn("b", &running) else { panic!() };
        assert_eq!((jobs, &*places), (1, "resource gpu (1 of 1)"));
        assert_eq!(turn("d", &running), QueuePosition::NextTick, "the one before it waits for a gpu");
        let sentence = turn("d", &slots).sentence();
        assert_eq!(sentence, "behind 2 queued jobs, waits for a free slot: fleet (3 of 3) in use");
    }

    #[test]
    fn each_wait_is_twice_the_last_and_no_two_jobs_wait_alike() {
        let now = Timestamp::UNIX_EPOCH;
        let wait = |name: &str, n| {
            retry_at(name, n, SignedDuration::from_mins(10), now).duration_since(now).as_secs_f64() / 600.0
        };
        for n in 1..8 {
            let share = wait("a", n) / f64::from(1 << (n - 1));
            assert!((0.75..=1.25).contains(&share), "{n}: {share}");
        }
        assert_ne!(wait("a", 1), wait("b", 1));
        assert!(wait("a", 1000) <= 1.25 * 144.0);
    }
}
