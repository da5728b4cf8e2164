//! The verdict of each gate.

mod fairness;
mod improvement;
mod untrained;

use indexmap::IndexMap;

use driftsweep::metric::performance::{
    ClassifiedRow, Influences, PerformanceMetric, influences, influences_of_errors, of_classes, of_errors,
};

use super::{CalibrationLine, Gate, GateReport, GateRules, MetricRule, Output, ValidationRows, Verdict};

/// Judges a candidate. All figures follow from the rows and the rules.
pub fn evaluate(rows: &ValidationRows, rules: &GateRules) -> GateReport {
    let mut judge = Judge { rows, rules, gates: Vec::new() };
    judge.coverage();
    for rule in &rules.metrics {
        judge.metric(rule);
    }
    judge.leakage();
    if rules.no_change {
        judge.no_change();
    }
    judge.calibration();
    for (column, rule) in &rules.fairness {
        judge.fairness(column, rule);
    }
    judge.latency();
    let severity = |verdict: Verdict| match verdict {
        Verdict::Passed => 0,
        Verdict::Warning => 1,
        Verdict::InsufficientData => 2,
        Verdict::Failed => 3,
    };
    let worst = judge.gates.iter().map(|gate| gate.verdict).max_by_key(|&verdict| severity(verdict));
    let days = rows.days.as_ref().map(|days| days.iter().max().map_or(0, |last| *last as usize + 1));
    GateReport { verdict: worst.unwrap_or(Verdict::InsufficientData), rows: rows.len(), days, gates: judge.gates }
}

struct Judge<'a> {
    rows: &'a ValidationRows,
    rules: &'a GateRules,
    gates: Vec<Gate>,
}

/// A model's metric, with what each row adds to it.
struct Influenced {
    value: f64,
    /// How many rows the metric is about: those of the rarer class for some.
    rows: usize,
    /// The influence of each row.
    of: Vec<f64>,
}

/// A figure in a sentence.
fn shown(x: f64) -> String {
    match x.abs() {
        size if size >= 1e15 || (size > 0.0 && size < 0.001) => format!("{x:.3e}"),
        size if size >= 1000.0 => format!("{x:.0}"),
        size if size >= 10.0 => format!("{x:.2}"),
        _ => format!("{x:.4}"),
    }
}

/// Where a class is more frequent, accuracy says nothing about a leak.
const MAX_CLASS_FOR_LEAKAGE: f64 = 0.9;

/// A limit that is met exactly is met, whatever rounding made of it.
const ROUNDING: f64 = 1e-9;

/// Words that a count of rows or days stands in.
fn counted(n: f64, one: &str) -> String {
    format!("{n:.0} {one}{}", if n == 1.0 { "" } else { "s" })
}

impl Judge<'_> {
    fn add(
        &mut self,
        name: impl Into<String>,
        verdict: Verdict,
        sentence: String,
        figures: &[(&str, f64)],
    ) -> &mut Gate {
        let figures: IndexMap<String, f64> =
            figures.iter().filter(|(_, x)| x.is_finite()).map(|&(name, x)| (name.to_owned(), x)).collect();
        self.gates.push(Gate { name: name.into(), verdict, sentence, advice: None, figures });
        let last = self.gates.len() - 1;
        &mut self.gates[last]
    }

    fn missing(&mut self, name: impl Into<String>, sentence: impl Into<String>, advice: &str) {
        self.add(name, Verdict::InsufficientData, sentence.into(), &[]).advice = Some(advice.into());
    }

    /// Rows that are required, and those that a model left out.
    fn coverage(&mut self) {
        let (rows, rules) = (self.rows, self.rules);
        let enough = rows.len() >= rules.min_rows;
        let who = if rows.champion.is_some() { "both models" } else { "the candidate" };
        let late = match rows.without_label {
            0 => String::new(),
            n => format!("; {} without a label yet", counted(n as f64, "row")),
        };
        let found = counted(rows.len() as f64, "labelled row");
        let sentence = format!("{found} that {who} predicted, {} wanted{late}", rules.min_rows);
        let verdict = if enough { Verdict::Passed } else { Verdict::InsufficientData };
        let gate =
            self.add("rows", verdict, sentence, &[("rows", rows.len() as f64), ("min_rows", rules.min_rows as f64)]);
        if !enough {
            gate.advice = Some("validate over more days, or lower min_rows".into());
        }
        let missing = [
            ("candidate", rows.without_candidate, rows.labelled, "without a prediction of the candidate"),
            ("champion", rows.without_champion, rows.labelled, "without a prediction of the champion"),
            ("id", rows.without_id, rows.labelled + rows.without_id, "without an id"),
        ];
        for (what, without, of, words) in missing {
            let share = without as f64 / of.max(1) as f64;
            if without == 0 {
                continue;
            }
            let bad = share > rules.max_unmatched;
            let verdict = if bad { Verdict::InsufficientData } else { Verdict::Passed };
            let sentence = format!(
                "{} ({:.2} %) {words}; at most {:.2} % may be",
                counted(without as f64, "labelled row"),
                100.0 * share,
                100.0 * rules.max_unmatched
            );
            let gate =
                self.add(format!("rows.{what}"), verdict, sentence, &[("share", share), ("rows", without as f64)]);
            if bad {
                gate.advice = Some("look at the ids on both sides, or raise max_unmatched".into());
            }
        }
    }

    /// Rows of a model that lack what a metric takes.
    fn lacking(&self, metric: PerformanceMetric, outputs: &[Output]) -> usize {
        let lacks = |output: &&Output| match metric {
            _ if metric.is_of_numbers() => !output.error.is_finite(),
            _ if metric.needs_score() => output.score.is_nan(),
            _ => false,
        };
        outputs.iter().filter(lacks).count()
    }

    /// Rows that a metric has to be about. What it is about is fewer than all rows: positives, predicted ones, or the rarer class.
    fn needed_rows(&self) -> usize {
        self.rules.min_class_rows.min(self.rules.min_rows)
    }

    /// A model's metric with the influences of its rows.
    fn influences(&self, metric: PerformanceMetric, outputs: &[Output]) -> Option<Influenced> {
        if metric.is_of_numbers() {
            let errors: Vec<f64> = outputs.iter().map(|output| output.error).collect();
            let (value, of) = influences_of_errors(metric, &errors)?;
            return Some(Influenced { value, rows: of.len(), of });
        }
        let classified = self.classified(metric, outputs);
        let Influences { value, rows, of, .. } = influences(metric, &classified)?;
        let at = |(row, of): (&ClassifiedRow, [f64; 2])| of[usize::from(row.chance == 1.0)];
        Some(Influenced { value, rows, of: classified.iter().zip(of).map(at).collect() })
    }

    /// Rows as a metric takes them: for accuracy whether the prediction is right, among any number of classes.
    fn classified(&self, metric: PerformanceMetric, outputs: &[Output]) -> Vec<ClassifiedRow> {
        let row = |(output, &positive): (&Output, &bool)| match metric {
            PerformanceMetric::Accuracy => {
                ClassifiedRow { chance: f64::from(u8::from(output.correct)), predicted: true, score: output.score }
            }
            _ => {
                ClassifiedRow { chance: f64::from(u8::from(positive)), predicted: output.positive, score: output.score }
            }
        };
        outputs.iter().zip(&self.rows.positive).map(row).collect()
    }

    fn metric(&mut self, rule: &MetricRule) {
        let metric = rule.metric;
        let outputs = &self.rows.candidate;
        let lacking = self.lacking(metric, outputs);
        if lacking > 0 {
            let what = if metric.is_of_numbers() { "number that was predicted" } else { "score" };
            let sentence = format!("{} without a {what} of the candidate", counted(lacking as f64, "row"));
            return self.missing(metric.name(), sentence, "let the candidate write one for every row");
        }
        let measured = if metric.is_of_numbers() {
            let errors: Vec<f64> = outputs.iter().map(|output| output.error).collect();
            of_errors(metric, &errors, self.rules.confidence)
        } else {
            of_classes(metric, &self.classified(metric, outputs), self.rules.confidence)
        };
        let Some(measured) = measured else {
            let sentence = format!("{metric} is not defined over these rows");
            let advice = "look at the ids, and at whether both classes are among labels and predictions";
            return self.missing(metric.name(), sentence, advice);
        };
        let needed = self.needed_rows();
        if measured.rows < needed {
            let sentence = format!("{metric} is about {} only, {needed} wanted", counted(measured.rows as f64, "row"));
            self.missing(metric.name(), sentence, "validate over more days, or lower min_class_rows");
            return;
        }
        if let Some(limit) = rule.limit {
            let (good, bound) = match metric.higher_is_better() {
                true => (measured.value >= limit - ROUNDING, "at least"),
                false => (measured.value <= limit + ROUNDING, "at most"),
            };
            let sentence = format!(
                "{metric} is {} ({} to {}), {bound} {} wanted",
                shown(measured.value),
                shown(measured.low),
                shown(measured.high),
                shown(limit)
            );
            let verdict = if good { Verdict::Passed } else { Verdict::Failed };
            let name = if metric.higher_is_better() { "at_least" } else { "at_most" };
            let figures = [("value", measured.value), ("low", measured.low), ("high", measured.high), ("limit", limit)];
            let gate = self.add(format!("{metric}.{name}"), verdict, sentence, &figures);
            if !good {
                gate.advice = Some("look at the features and at the length of the training window".into());
            }
        }
        self.constant(metric, measured.value);
        if rule.better_by.or(rule.significance).is_some() {
            self.improvement(rule);
        }
    }

    /// The share of the most frequent class.
    fn largest_class(&self) -> f64 {
        let mut counts: Vec<usize> = Vec::new();
        for &class in &self.rows.classes {
            let class = class as usize;
            counts.resize(counts.len().max(class + 1), 0);
            counts[class] += 1;
        }
        counts.into_iter().max().unwrap_or(0) as f64 / self.rows.len() as f64
    }

    /// A figure too good to be true, and the feature that knows the label.
    fn leakage(&mut self) {
        let limit = self.rules.leakage;
        let figure = |metric| self.influences(metric, &self.rows.candidate).map(|found| (metric, found.value));
        if !self.rows.numbers.is_empty() {
            return;
        }
        // Of a rare class every model is right nearly always.
        let says_much = |metric: &PerformanceMetric| match metric {
            PerformanceMetric::Accuracy => self.rows.has_predictions && self.largest_class() <= MAX_CLASS_FOR_LEAKAGE,
            _ => true,
        };
        let metrics = [PerformanceMetric::Accuracy, PerformanceMetric::Auc].into_iter().filter(says_much);
        let Some((metric, value)) = metrics.filter_map(figure).max_by(|a, b| a.1.total_cmp(&b.1)) else { return };
        let features = self.rows.features.as_deref().unwrap_or_default();
        let worst = features.iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, area)| *area > limit);
        let mut figures = vec![(metric.name(), value), ("limit", limit)];
        let (verdict, sentence, advice) = match worst {
            _ if value <= limit + ROUNDING => {
                (Verdict::Passed, format!("{metric} is {}, and not above {limit}", shown(value)), None)
            }
            Some((name, area)) => {
                figures.push(("area_of_feature", *area));
                let sentence = format!(
                    "{metric} is {}, above {limit}, and feature '{name}' alone has an area under the curve of {}",
                    shown(value),
                    shown(*area)
                );
                let advice = format!("'{name}' is likely known only after the label: remove it, or declare its delay");
                (Verdict::Failed, sentence, Some(advice))
            }
            None => {
                let reason = match &self.rows.features {
                    None => "no features were given to look for the reason".to_owned(),
                    Some(features) if features.is_empty() => "none of the features could be looked at".into(),
                    Some(features) => {
                        format!("none of {} explains it alone", counted(features.len() as f64, "feature"))
                    }
                };
                let advice = "look for a feature that is known only after the label".to_owned();
                (Verdict::Warning, format!("{metric} is {}, above {limit}; {reason}", shown(value)), Some(advice))
            }
        };
        self.add("leakage", verdict, sentence, &figures).advice = advice;
    }

    fn calibration(&mut self) {
        let Some(rule) = self.rules.calibration else { return };
        let outputs = self.rows.candidate.iter().zip(&self.rows.positive);
        let scores: Vec<(f64, bool)> = outputs.map(|(output, &positive)| (output.score, positive)).collect();
        if scores.iter().any(|(score, _)| !(0.0..=1.0).contains(score)) {
            let advice = "name the column of scores; a score is a probability";
            return self.missing("calibration", "not every row has a score between 0 and 1", advice);
        }
        let Some(line) = CalibrationLine::fit(&scores) else {
            let advice = "validate over rows of both classes and several scores";
            return self.missing("calibration", "labels and scores have no regression line", advice);
        };
        for (name, value, range) in
            [("slope", line.slope, Some(rule.slope)), ("intercept", line.intercept, rule.intercept)]
        {
            let Some([low, high]) = range else { continue };
            let good = (low..=high).contains(&value);
            let sentence =
                format!("the {name} of labels on scores is {}, {} to {} wanted", shown(value), shown(low), shown(high));
            let verdict = if good { Verdict::Passed } else { Verdict::Failed };
            let figures = [(name, value), ("low", low), ("high", high)];
            let gate = self.add(format!("calibration.{name}"), verdict, sentence, &figures);
            if !good {
                let reason = match (name, value < low) {
                    ("slope", true) => "scores are too extreme: regularise more, or calibrate them",
                    ("slope", false) => "scores are too close to each other: calibrate them",
                    _ => "scores are too high or too low on the whole: calibrate them",
                };
                gate.advice = Some(reason.into());
            }
        }
    }

    fn latency(&mut self) {
        let Some(limit) = self.rules.latency_p95 else { return };
        // An infinite one is a row that never ended.
        let is_time = |latency: &f64| *latency >= 0.0;
        let mut latencies: Vec<f64> = self.rows.latencies.iter().flatten().copied().filter(is_time).collect();
        let lacking = self.rows.len() - latencies.len();
        let too_many = lacking as f64 > self.rules.max_unmatched * self.rows.len() as f64;
        if latencies.len() < self.rules.min_rows || too_many {
            let sentence = format!(
                "{} with a latency of 0 or more, {} without, {} wanted",
                counted(latencies.len() as f64, "row"),
                lacking,
                self.rules.min_rows
            );
            return self.missing("latency_p95", sentence, "name the column of latencies of the candidate");
        }
        latencies.sort_by(f64::total_cmp);
        // numpy.quantile(latencies, 0.95)
        let place = 0.95 * (latencies.len() - 1) as f64;
        let (low, share) = (place.floor() as usize, place.fract());
        let next = latencies[(low + 1).min(latencies.len() - 1)];
        let value =
            if share > 0.0 && next.is_infinite() { next } else { latencies[low] + share * (next - latencies[low]) };
        let good = value <= limit;
        let sentence = format!("95 % of predictions take {} or less, at most {} wanted", shown(value), shown(limit));
        let verdict = if good { Verdict::Passed } else { Verdict::Failed };
        let gate = self.add("latency_p95", verdict, sentence, &[("value", value), ("limit", limit)]);
        if !good {
            gate.advice = Some("look at the size of the model, and at the machine that was measured".into());
        }
    }
}

#[cfg(test)]
mod tests;
