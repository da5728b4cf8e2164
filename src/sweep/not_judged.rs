//! What was judged, what was not, and why: no verdict is not the same as no drift.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::{Feature, ModelReport, Side};
use crate::rule::{self, Judged, Limits};
use driftsweep_common::error::Status;

/// Features without a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotJudged {
    /// How many.
    pub features: usize,
    /// The reason, and the remedy.
    pub reason: String,
}

/// What was compared: the remedy for too few rows depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// Two snapshots by the command line.
    Pair,
    /// A model in a window.
    Whole,
    /// A segment of a model.
    Segment,
}

impl Feature {
    /// Which of its figures there are enough rows for. Labels that are missing have not arrived yet: of them the values alone
    /// are judged.
    pub(super) fn judged(&self, min_rows: u64, is_label: bool) -> Judged {
        let enough_rows = self.baseline.rows.min(self.current.rows) >= min_rows;
        let values = matches!(self.status, Status::Ok | Status::Constant);
        // With too few values the missing rate, which is of rows, can still be judged.
        let rows = values || matches!(self.status, Status::InsufficientData | Status::AllNull);
        Judged { values, missing: rows && enough_rows && !is_label }
    }

    /// Judges it; the q-values of its tests must be known.
    pub(super) fn judge(&mut self, judged: Judged, limits: &Limits<'_>) {
        self.verdict = rule::evaluate(&self.metrics, self.kind, judged, limits);
    }

    /// Whether it has no verdict although one may be expected: it was not compared, or has too few values. Failures are
    /// reported separately, and times are compared on request only.
    pub fn is_not_judged(&self) -> bool {
        let without = matches!(
            self.status,
            Status::InsufficientData | Status::AllNull | Status::UnsupportedType | Status::NotCovered
        );
        // Missing rates are judged even where there are no values.
        (without || self.lacks_threshold().is_some()) && !self.verdict.drifted
    }

    /// Why its values can never drift although they were compared, if so: none of their figures has a threshold.
    fn lacks_threshold(&self) -> Option<String> {
        if !matches!(self.status, Status::Ok | Status::Constant) {
            return None;
        }
        if let Some(found) = self.metrics.convention.as_ref().filter(|found| found.limit.is_none()) {
            return Some(format!(
                "the convention {0} has no limit of its own; set one in the fleet file: convention = {{ name = \"{0}\", {1} = \
                 {{ metric = \"{2}\", limit = 0.1 }} }}",
                found.name,
                self.kind.name(),
                found.decides.name()
            ));
        }
        let reason = "none of the metrics that were asked for has a threshold; add psi, ks, js or missing (metrics)";
        self.verdict.signals.is_empty().then(|| reason.into())
    }

    /// Whether it has a verdict.
    pub fn is_judged(&self) -> bool {
        let is_compared = matches!(self.status, Status::Ok | Status::Constant);
        self.verdict.drifted || (is_compared && self.lacks_threshold().is_none())
    }
}

impl ModelReport {
    /// Why nothing of the model was judged, if so, although it could be compared.
    pub fn why_not_judged(&self) -> Option<String> {
        let not_judged = self.not_judged.as_ref()?;
        (!self.features.iter().any(Feature::is_judged)).then(|| not_judged.reason.clone())
    }
}

impl NotJudged {
    /// Of the features of a comparison; `min_rows` is the fewest values a side that a verdict on a feature takes.
    pub(super) fn of(features: &[Feature], compared: Compared, min_rows: impl Fn(&str) -> u64) -> Option<Self> {
        let with = |status: Status| -> Vec<&Feature> {
            features.iter().filter(|feature| feature.status == status && feature.is_not_judged()).collect()
        };
        let mut reasons: Vec<(usize, String)> = Vec::new();
        let few = with(Status::InsufficientData);
        if !few.is_empty() {
            let least = few.iter().map(|feature| min_rows(&feature.name)).max().unwrap_or_default();
            reasons.push((few.len(), too_few(&few, compared, least)));
        }
        for (status, reason) in [
            (
                Status::AllNull,
                "only missing values on one side; correct the source of the columns, or leave them out (exclude)",
            ),
            (Status::UnsupportedType, "a type that cannot be compared; cast the columns, or leave them out (exclude)"),
            (Status::NotCovered, "the deadline was reached; run the sweep again to continue"),
        ] {
            let found = with(status).len();
            if found > 0 {
                reasons.push((found, reason.into()));
            }
        }
        let mut without_threshold: BTreeMap<String, usize> = BTreeMap::new();
        for reason in features.iter().filter(|feature| feature.is_not_judged()).filter_map(Feature::lacks_threshold) {
            *without_threshold.entry(reason).or_default() += 1;
        }
        reasons.extend(without_threshold.into_iter().map(|(reason, found)| (found, reason)));
        let features = reasons.iter().map(|(found, _)| found).sum();
        let reason = match &reasons[..] {
            [] => return None,
            [(_, only)] => only.clone(),
            several => {
                let listed: Vec<String> = several.iter().map(|(found, reason)| format!("{found}: {reason}")).collect();
                listed.join("; ")
            }
        };
        Some(Self { features, reason })
    }
}

fn too_few(features: &[&Feature], compared: Compared, least: u64) -> String {
    let values = |side: &Side| side.rows - side.null - side.nan;
    let most = |of: &dyn Fn(&Feature) -> u64| features.iter().map(|feature| of(feature)).max().unwrap_or_default();
    let (baseline, current) = (most(&|feature| feature.baseline.rows), most(&|feature| feature.current.rows));
    let rows = baseline.min(current);
    let found = match rows < least {
        true => format!("at most {rows} rows on one side"),
        false => {
            let values = most(&|feature| values(&feature.baseline).min(values(&feature.current)));
            format!("at most {values} values on one side; the others are missing")
        }
    };
    let limit = if compared == Compared::Pair { "--min-rows" } else { "min_rows" };
    let remedy = match compared {
        Compared::Pair => "more rows",
        _ if rows >= least => "columns with more values",
        _ if baseline < current => "a larger baseline",
        Compared::Whole => "a longer window (windows = [\"7d\"])",
        Compared::Segment => "a longer window (windows = [\"7d\"]), larger segments",
    };
    format!("{found}, fewer than min_rows = {least}; provide {remedy}, or set a smaller {limit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::convention::{Convention, ConventionFigures, Figure};
    use crate::rule::{Signal, Verdict};
    use crate::sweep::report::Rows;

    fn signal() -> Signal {
        Signal {
            metric: "psi".into(),
            value: 0.0,
            limit: 0.15,
            noise: None,
            over: false,
            q_value: None,
            significant: false,
        }
    }

    fn feature(status: Status, baseline: u64, current: u64) -> Feature {
        let rows = Rows { baseline, current };
        Feature { name: "x".into(), status, ..Feature::failed(rows, String::new()) }
    }

    #[test]
    fn every_status_is_judged_failed_by_design_without_a_verdict_or_not_judged() {
        for (status, judged, not_judged) in [
            (Status::Ok, true, false),
            (Status::Constant, true, false),
            (Status::InsufficientData, false, true),
            (Status::AllNull, false, true),
            (Status::UnsupportedType, false, true),
            (Status::NotCovered, false, true),
            (Status::MissingColumn, false, false),
            (Status::TypeChanged, false, false),
            (Status::Unreadable, false, false),
            (Status::InternalError, false, false),
            (Status::NotCompared, false, false),
            (Status::Added, false, false),
        ] {
            let mut feature = feature(status, 10, 10);
            feature.verdict.signals = vec![signal()];
            assert_eq!((feature.is_judged(), feature.is_not_judged()), (judged, not_judged), "{status:?}");
            let one = NotJudged::of(std::slice::from_ref(&feature), Compared::Whole, |_| 1000);
            assert_eq!(one.map(|found| found.features), not_judged.then_some(1), "{status:?}");
            feature.verdict = Verdict { drifted: true, ..Verdict::default() };
            assert!(feature.is_judged() && !feature.is_not_judged(), "{status:?}");
        }
    }

    #[test]
    fn a_feature_of_which_no_figure_has_a_threshold_is_not_judged() {
        let mut feature = feature(Status::Ok, 5000, 5000);
        assert!(!feature.is_judged() && feature.is_not_judged());
        let found = NotJudged::of(std::slice::from_ref(&feature), Compared::Whole, |_| 1000).unwrap();
        assert!(found.features == 1 && found.reason.contains("add psi, ks, js or missing"), "{found:?}");
        feature.verdict.signals = vec![signal()];
        assert_eq!(NotJudged::of(&[feature], Compared::Whole, |_| 1000), None);
    }

    #[test]
    fn a_convention_without_a_limit_judges_no_values_but_missing_rows() {
        let mut feature = feature(Status::Ok, 5000, 5000);
        let missing = Signal { metric: "missing".into(), ..signal() };
        feature.verdict.signals = vec![missing];
        assert!(feature.is_judged() && !feature.is_not_judged(), "missing rows alone were asked for");
        feature.metrics.convention = Some(ConventionFigures {
            name: Convention::Tfdv,
            figures: [(Figure::Js, 0.3)].into(),
            decides: Figure::Js,
            limit: None,
            bins: None,
        });
        assert!(!feature.is_judged() && feature.is_not_judged());
        let found = NotJudged::of(std::slice::from_ref(&feature), Compared::Whole, |_| 1000).unwrap();
        assert!(found.features == 1 && found.reason.contains("the convention tfdv has no limit"), "{found:?}");
        feature.verdict.drifted = true;
        assert!(feature.is_judged() && !feature.is_not_judged(), "more rows are missing");
        assert_eq!(NotJudged::of(&[feature], Compared::Whole, |_| 1000), None);
    }

    #[test]
    fn the_reason_names_the_side_that_is_too_small_and_what_would_judge() {
        let few = |baseline, current| vec![feature(Status::InsufficientData, baseline, current); 40];
        let reason = |features: &[Feature], compared| NotJudged::of(features, compared, |_| 1000).unwrap().reason;
        assert_eq!(
            reason(&few(5000, 300), Compared::Whole),
            "at most 300 rows on one side, fewer than min_rows = 1000; provide a longer window (windows = [\"7d\"]), \
             or set a smaller min_rows"
        );
        assert!(reason(&few(300, 5000), Compared::Whole).contains("a larger baseline, or set a smaller min_rows"));
        assert!(reason(&few(5000, 300), Compared::Segment).contains("larger segments, or set a smaller min_rows"));
        assert!(reason(&few(5000, 300), Compared::Pair).contains("more rows, or set a smaller --min-rows"));
        let mut sparse = feature(Status::InsufficientData, 5000, 5000);
        sparse.current.null = 4990;
        assert!(reason(&[sparse.clone()], Compared::Whole).starts_with("at most 10 values on one side"));
        let mixed = [sparse, feature(Status::AllNull, 5000, 5000), feature(Status::AllNull, 5000, 5000)];
        let found = NotJudged::of(&mixed, Compared::Whole, |_| 1000).unwrap();
        assert!(found.features == 3 && found.reason.contains("; 2: only missing values"), "{found:?}");
    }
}
