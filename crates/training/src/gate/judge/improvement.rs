//! Whether a candidate is better than the champion, and by more than chance.

use driftsweep::metric::performance::PerformanceMetric;

use super::{Judge, ROUNDING, counted, shown};
use crate::gate::paired::{Days, Improvement, PairKind, Pairs};
use crate::gate::{MetricRule, Output, Together, Verdict};

impl Judge<'_> {
    pub(super) fn improvement(&mut self, rule: &MetricRule) {
        let metric = rule.metric;
        let name = |gate: &str| format!("{metric}.{gate}");
        let gate = if rule.better_by.is_some() { "better_by" } else { "significance" };
        let Some(champion) = &self.rows.champion else {
            let advice = "the first model of all is accepted by a person, or judged without better_by and significance";
            return self.missing(name(gate), "there is no champion to compare the candidate with", advice);
        };
        let (lacking, needed) = (self.lacking(metric, champion), self.needed_rows());
        let both = self.influences(metric, &self.rows.candidate).zip(self.influences(metric, champion));
        let both = match both {
            _ if lacking > 0 => {
                Err(format!("{} without what {metric} of the champion takes", counted(lacking as f64, "row")))
            }
            None => Err(format!("{metric} of the champion is not defined over these rows")),
            Some((_, theirs)) if theirs.rows < needed => {
                let rows = counted(theirs.rows as f64, "row");
                Err(format!("{metric} of the champion is about {rows} only, {needed} wanted"))
            }
            Some(both) => Ok(both),
        };
        let (ours, theirs) = match both {
            Ok(both) => both,
            Err(sentence) => return self.missing(name(gate), sentence, "look at the champion's predictions"),
        };
        let (candidate, other) = (ours.value, theirs.value);
        let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
        let influences: Vec<f64> =
            ours.of.iter().zip(&theirs.of).map(|(ours, theirs)| sign * (ours - theirs)).collect();
        let only = |right: bool| {
            let outputs = self.rows.candidate.iter().zip(champion);
            outputs.filter(|(ours, theirs)| ours.correct == right && theirs.correct != right).count() as u64
        };
        let kind = match metric {
            PerformanceMetric::Accuracy => PairKind::Accuracy { candidate: only(true), champion: only(false) },
            PerformanceMetric::Auc => PairKind::Auc(&self.rows.positive),
            _ => PairKind::Other,
        };
        let wants_days = self.rules.together == Together::Day;
        let days = self.rows.days.as_deref().filter(|_| wants_days).map(|days| {
            let about = [self.about(metric, &self.rows.candidate), self.about(metric, champion)].concat();
            Days::new(days, &about)
        });
        let pairs = Pairs { value: sign * (candidate - other), influences: &influences, days: days.as_ref(), kind };
        let found = Improvement::test(&pairs, rule.margin, self.rules.confidence);
        let days = days.as_ref().map(Days::count);
        let figures = [
            ("candidate", candidate),
            ("champion", other),
            ("improvement", found.value),
            ("low", found.low),
            ("high", found.high),
        ];
        if let Some(better_by) = rule.better_by {
            let good = found.value >= better_by - ROUNDING;
            let sentence = format!(
                "{metric} of the candidate is {}, of the champion {}: {}, at least {} wanted",
                shown(candidate),
                shown(other),
                better(found.value),
                shown(better_by)
            );
            let verdict = if good { Verdict::Passed } else { Verdict::Failed };
            let figures = [&figures[..], &[("limit", better_by)]].concat();
            let gate = self.add(name("better_by"), verdict, sentence, &figures);
            if !good {
                gate.advice = Some("keep the champion, or look at what the training set lacks".into());
            }
        }
        let Some(level) = rule.significance else { return };
        match days {
            Some(days) if days < 2 => {
                let sentence = format!("rows that {metric} is about are of {} only", counted(days as f64, "day"));
                self.missing(name("significance"), sentence, "validate over more days");
            }
            None if wants_days => {
                let advice = "name the column of times, or say that rows are independent: together = \"none\"";
                self.missing(name("significance"), "rows have no times, and rows of a day are not independent", advice);
            }
            _ => self.significance(rule, &found, level, &figures),
        }
    }

    /// Whether an improvement is more than chance, and where it is not seen, what would be.
    fn significance(&mut self, rule: &MetricRule, found: &Improvement, level: f64, figures: &[(&str, f64)]) {
        let metric = rule.metric;
        // The candidate that matters: as good as declared, or an equal one where the test is that it is not worse.
        let matters = match (rule.better_by, rule.margin) {
            (Some(better_by), _) => Some(better_by),
            _ if metric.is_of_numbers() => None,
            (None, margin) if margin < 0.0 => Some(0.0),
            (None, margin) => Some(margin + 0.01),
        };
        let wanted = matters.map(|matters| matters - rule.margin).filter(|wanted| *wanted > 0.0);
        let good = found.p_value <= level;
        let against = match rule.margin {
            0.0 => "no better".to_owned(),
            margin if margin > 0.0 => format!("better by {} at most", shown(margin)),
            margin => format!("worse by {} or more", shown(-margin)),
        };
        let mut sentence = format!(
            "the difference is {} ({} to {}); p = {:.4} against '{against}' (test by {}), at most {} wanted",
            shown(found.value),
            shown(found.low),
            shown(found.high),
            found.p_value,
            found.test.name(),
            level
        );
        let mut all = [figures, &[("p_value", found.p_value), ("level", level), ("margin", rule.margin)]].concat();
        if let Some(power) = wanted.and_then(|wanted| found.power(wanted, level)) {
            all.push(("power", power));
        }
        if let (false, Some(wanted), Some(matters)) = (good, wanted, matters)
            && let Some(power) = found.power(wanted, level)
        {
            let candidate = match matters {
                0.0 => "an equal candidate".to_owned(),
                matters => format!("a candidate that is better by {}", shown(matters)),
            };
            sentence += &format!("; {candidate} would pass in {:.0} of 100 such validations", 100.0 * power);
            if let Some((rows, days)) = found.needed(wanted, level) {
                let days_text = days.map_or_else(String::new, |days| format!(" of {}", counted(days, "day")));
                sentence += &format!(", and in 80 of 100 with {}{days_text}", counted(rows, "row"));
                all.push(("rows_needed", rows));
                all.extend(days.map(|days| ("days_needed", days)));
            }
        }
        let verdict = if good { Verdict::Passed } else { Verdict::Failed };
        let gate = self.add(format!("{metric}.significance"), verdict, sentence, &all);
        if !good {
            gate.advice = Some("validate over more days, or keep the champion".into());
        }
    }

    /// Which rows a metric is about, for a model: of each kind that it needs.
    fn about(&self, metric: PerformanceMetric, outputs: &[Output]) -> Vec<Vec<bool>> {
        let positive = || self.rows.positive.clone();
        let predicted = || outputs.iter().map(|output| output.positive).collect::<Vec<_>>();
        match metric {
            PerformanceMetric::Recall => vec![positive()],
            PerformanceMetric::Precision => vec![predicted()],
            PerformanceMetric::F1 => {
                vec![
                    positive()
                        .into_iter()
                        .zip(predicted())
                        .map(|(positive, predicted)| positive || predicted)
                        .collect(),
                ]
            }
            PerformanceMetric::Auc => vec![positive(), self.rows.positive.iter().map(|positive| !positive).collect()],
            _ => Vec::new(),
        }
    }
}

fn better(improvement: f64) -> String {
    let word = if improvement < 0.0 { "worse" } else { "better" };
    format!("{word} by {}", shown(improvement.abs()))
}
