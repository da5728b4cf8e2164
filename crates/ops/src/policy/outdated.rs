//! Whether the baseline of a model is older than its last training: the same drift is then found again.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The age of a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineAge {
    /// It was set in the store at that time, which may be one given by `--now`.
    Set(Timestamp),
    /// Its newest file was written then, by the real clock.
    Written(Timestamp),
}

/// The last successful training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTraining {
    /// When its run was started, which may be a time given by `--now`.
    pub started_at: Timestamp,
    /// The same by the real clock, if recorded.
    pub clock_at: Option<Timestamp>,
}

/// A baseline that is older than the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutdatedBaseline {
    /// The age of the baseline.
    pub since: Timestamp,
    /// When the run of the last training was started.
    pub trained: Timestamp,
}

impl OutdatedBaseline {
    /// Whether a baseline is older than the start of the last training. A training that writes the same files again has
    /// renewed it. `None` where one of the two is not known.
    pub fn of(baseline: Option<BaselineAge>, trained: Option<LastTraining>) -> Option<Self> {
        let trained = trained?;
        let (since, before) = match baseline? {
            BaselineAge::Set(since) => (since, trained.started_at),
            BaselineAge::Written(since) => (since, trained.clock_at.unwrap_or(trained.started_at)),
        };
        (since < before).then_some(Self { since, trained: before })
    }

    /// A sentence with the consequence and the remedy; days are in a time zone.
    pub fn sentence(&self, zone: &TimeZone) -> String {
        let [since, trained] = [self.since, self.trained].map(|at| at.to_zoned(zone.clone()));
        let form = if since.date() == trained.date() { "%F %H:%M" } else { "%F" };
        format!(
            "the baseline is from {}, before the training of {}: the same drift will be found again; the training \
             should answer with {{\"baseline\": \"PATH\"}}, or set one with `driftsweep baseline set`",
            since.strftime(form),
            trained.strftime(form)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_baseline_from_before_the_last_training_is_outdated_and_the_sentence_has_both_days() {
        let (old, new) = (at("2026-10-01T00:00:00Z"), at("2026-11-20T12:00:00Z"));
        let trained = |started_at, clock_at| Some(LastTraining { started_at, clock_at });
        let found = OutdatedBaseline::of(Some(BaselineAge::Set(old)), trained(new, None)).unwrap();
        let text = found.sentence(&TimeZone::UTC);
        assert!(
            text.starts_with("the baseline is from 2026-10-01, before the training of 2026-11-20: the same"),
            "{text}"
        );
        assert!(text.contains("{\"baseline\": \"PATH\"}"), "{text}");
        for fine in [
            OutdatedBaseline::of(Some(BaselineAge::Set(new)), trained(new, None)),
            OutdatedBaseline::of(Some(BaselineAge::Written(new)), trained(old, None)),
            OutdatedBaseline::of(None, trained(new, None)),
            OutdatedBaseline::of(Some(BaselineAge::Set(old)), None),
            // The run was replayed: files are compared by the real clock, what was set by the time that was given.
            OutdatedBaseline::of(Some(BaselineAge::Written(new)), trained(at("2027-01-01T00:00:00Z"), Some(old))),
            OutdatedBaseline::of(Some(BaselineAge::Set(new)), trained(old, Some(at("2027-01-01T00:00:00Z")))),
        ] {
            assert_eq!(fine, None);
        }
        let replayed =
            OutdatedBaseline::of(Some(BaselineAge::Written(old)), trained(at("2026-01-01T00:00:00Z"), Some(new)))
                .unwrap();
        assert_eq!((replayed.since, replayed.trained), (old, new));
        let same_day = OutdatedBaseline { since: at("2026-11-20T08:05:00Z"), trained: new };
        assert!(
            same_day
                .sentence(&TimeZone::UTC)
                .contains("from 2026-11-20 08:05, before the training of 2026-11-20 12:00")
        );
    }
}
