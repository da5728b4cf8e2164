//! The verdict of each gate.

use indexmap::IndexMap;

use driftsweep::metric::performance::{
    ClassifiedRow, Influences, Measurement, PerformanceMetric, influences, influences_of_errors, of_classes, of_errors,
    share_of_rows,
};

use super::{
    CalibrationLine, Days, FairnessRule, Gate, GateReport, GateRules, Improvement, MetricRule, Output, PairKind, Pairs,
    Together, ValidationRows, Verdict,
};

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

    /// A model's metric with the influences of its rows, more is better.
    fn influences(&self, metric: PerformanceMetric, outputs: &[Output]) -> Option<(f64, Vec<f64>)> {
        if metric.is_of_numbers() {
            let errors: Vec<f64> = outputs.iter().map(|output| output.error).collect();
            return influences_of_errors(metric, &errors);
        }
        let rows = self.classified(metric, outputs);
        let Influences { value, of, .. } = influences(metric, &rows)?;
        let at = |(row, of): (&ClassifiedRow, [f64; 2])| of[usize::from(row.chance == 1.0)];
        Some((value, rows.iter().zip(of).map(at).collect()))
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
        // What a metric is about is fewer rows than there are: positives, predicted ones, or the rarer class.
        let needed = self.rules.min_class_rows.min(self.rules.min_rows);
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

    /// The best that a model could do which says the same about every row.
    fn constant(&mut self, metric: PerformanceMetric, value: f64) {
        let rows = self.rows;
        let n = rows.len() as f64;
        let p = rows.positive.iter().filter(|positive| **positive).count() as f64 / n;
        let sorted = || {
            let mut numbers = rows.numbers.clone();
            numbers.sort_by(f64::total_cmp);
            numbers
        };
        let (constant, who) = match metric {
            PerformanceMetric::Accuracy => (self.largest_class(), "the majority class"),
            PerformanceMetric::Precision => (p, "a model that predicts all rows positive"),
            PerformanceMetric::F1 => (2.0 * p / (1.0 + p), "a model that predicts all rows positive"),
            // All positive rows are found by a model that predicts all rows positive.
            PerformanceMetric::Recall => return,
            PerformanceMetric::Auc => (0.5, "chance"),
            PerformanceMetric::Brier => (p * (1.0 - p), "the share of positives as the score of all rows"),
            PerformanceMetric::LogLoss => {
                let entropy = -[p, 1.0 - p].into_iter().filter(|p| *p > 0.0).map(|p| p * p.ln()).sum::<f64>();
                (entropy, "the share of positives as the score of all rows")
            }
            PerformanceMetric::Mae => {
                let numbers = sorted();
                let Some(&median) = numbers.get(numbers.len() / 2) else { return };
                (numbers.iter().map(|x| (x - median).abs()).sum::<f64>() / n, "the median")
            }
            PerformanceMetric::Rmse => {
                let mean = rows.numbers.iter().sum::<f64>() / n;
                ((rows.numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt(), "the mean")
            }
        };
        let one_class = !metric.is_of_numbers() && (p == 0.0 || p == 1.0) && metric != PerformanceMetric::Accuracy;
        if one_class || (metric == PerformanceMetric::Accuracy && constant == 1.0) {
            let sentence = "the labels of all rows are of one class";
            return self.missing(format!("{metric}.constant"), sentence, "validate over more days");
        }
        self.against(metric, "constant", value, constant, who);
    }

    /// A comparison with a model that needs no training.
    fn against(&mut self, metric: PerformanceMetric, gate: &str, value: f64, other: f64, who: &str) {
        let good = if metric.higher_is_better() { value > other } else { value < other };
        let sentence = format!("{metric} of {who} is {}, the candidate's {}", shown(other), shown(value));
        let verdict = if good { Verdict::Passed } else { Verdict::Failed };
        let gate = self.add(format!("{metric}.{gate}"), verdict, sentence, &[("value", value), ("other", other)]);
        if !good {
            gate.advice =
                Some(format!("the candidate is of no use by {metric}: look at its features, or judge another metric"));
        }
    }

    /// The label of the row before as the prediction.
    fn no_change(&mut self) {
        let Some(times) = &self.rows.times else {
            return self.missing("no_change", "rows have no times", "name the column of times");
        };
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&row| times[row]);
        if order.windows(2).any(|pair| times[pair[0]] == times[pair[1]]) {
            let advice = "give each row a time of its own, or leave out no_change";
            return self.missing("no_change", "rows have the same time, so that none is the row before", advice);
        }
        let pairs = || order.windows(2).map(|pair| (pair[0], pair[1]));
        let n = (self.rows.len().max(2) - 1) as f64;
        let mut judged = false;
        for rule in &self.rules.metrics {
            let other = match rule.metric {
                PerformanceMetric::Accuracy => {
                    let classes = &self.rows.classes;
                    pairs().filter(|&(before, row)| classes[before] == classes[row]).count() as f64 / n
                }
                PerformanceMetric::Mae | PerformanceMetric::Rmse => {
                    let numbers = &self.rows.numbers;
                    let errors: Vec<f64> = pairs().map(|(before, row)| numbers[before] - numbers[row]).collect();
                    match influences_of_errors(rule.metric, &errors) {
                        Some((value, _)) => value,
                        None => continue,
                    }
                }
                _ => continue,
            };
            if let Some((value, _)) = self.influences(rule.metric, &self.rows.candidate) {
                judged = true;
                self.against(rule.metric, "no_change", value, other, "the label of the row before");
            }
        }
        if !judged {
            self.missing(
                "no_change",
                "no metric is judged that the label of a row before has",
                "judge accuracy, mae or rmse",
            );
        }
    }

    /// Why there are too few rows for a metric of a model, or rows that lack what it takes.
    fn few_rows(&self, metric: PerformanceMetric, outputs: &[Output]) -> Option<String> {
        let lacking = self.lacking(metric, outputs);
        if lacking > 0 {
            return Some(format!("{} without what {metric} of the champion takes", counted(lacking as f64, "row")));
        }
        if metric.is_of_numbers() {
            return None;
        }
        let rows = influences(metric, &self.classified(metric, outputs))?.rows;
        let needed = self.rules.min_class_rows.min(self.rules.min_rows);
        (rows < needed)
            .then(|| format!("{metric} of the champion is about {} only, {needed} wanted", counted(rows as f64, "row")))
    }

    fn improvement(&mut self, rule: &MetricRule) {
        let metric = rule.metric;
        let name = |gate: &str| format!("{metric}.{gate}");
        let gate = if rule.better_by.is_some() { "better_by" } else { "significance" };
        let Some(champion) = &self.rows.champion else {
            let advice = "the first model of all is accepted by a person, or judged without better_by and significance";
            return self.missing(name(gate), "there is no champion to compare the candidate with", advice);
        };
        let both = self.influences(metric, &self.rows.candidate).zip(self.influences(metric, champion));
        let few = self.few_rows(metric, champion);
        let Some(((candidate, ours), (other, theirs))) = both.filter(|_| few.is_none()) else {
            let undefined = || format!("{metric} of the champion is not defined over these rows");
            let sentence = few.unwrap_or_else(undefined);
            return self.missing(name(gate), sentence, "look at the champion's predictions");
        };
        let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
        let influences: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| sign * (ours - theirs)).collect();
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

    /// A figure too good to be true, and the feature that knows the label.
    fn leakage(&mut self) {
        let limit = self.rules.leakage;
        let figure = |metric| self.influences(metric, &self.rows.candidate).map(|(value, _)| (metric, value));
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

    fn fairness(&mut self, column: &str, rule: &FairnessRule) {
        let name = |share: &str| format!("fairness.{column}.{share}");
        let Some((names, of)) = self.rows.groups.get(column) else {
            let sentence = format!("no column '{column}' tells groups apart");
            return self.missing(format!("fairness.{column}"), sentence, "name a column of the labels' table");
        };
        let positives = self.rows.positive.iter().filter(|positive| **positive).count();
        if positives == 0 || positives == self.rows.len() {
            let sentence = "the labels of all rows are of one class, or no label is `positive`";
            return self.missing(format!("fairness.{column}"), sentence, "look at labels.positive (--positive)");
        }
        let judged = |group: &str| rule.groups.as_ref().is_none_or(|groups| groups.iter().any(|name| name == group));
        let absent = rule.groups.iter().flatten().find(|group| !names.contains(group)).cloned();
        let (names, of) = (names.clone(), of.clone());
        for (share, limit) in [("tpr", rule.tpr), ("fpr", rule.fpr), ("selection_rate", rule.selection_rate)] {
            let Some(limit) = limit else { continue };
            // Rows that the share is of, and those of them that are predicted positive, by group.
            let mut counts = vec![(0usize, 0usize); names.len()];
            for ((output, &positive), &group) in self.rows.candidate.iter().zip(&self.rows.positive).zip(&of) {
                if share == "selection_rate" || positive == (share == "tpr") {
                    let (rows, predicted) = &mut counts[group as usize];
                    *rows += 1;
                    *predicted += usize::from(output.positive);
                }
            }
            let groups: Vec<(&str, usize, f64)> = names
                .iter()
                .zip(&counts)
                .map(|(name, &(rows, predicted))| (name.as_str(), rows, predicted as f64 / rows.max(1) as f64))
                .filter(|(name, ..)| judged(name))
                .collect();
            let small: Vec<&str> =
                groups.iter().filter(|(_, rows, _)| *rows < rule.needed()).map(|(name, ..)| *name).collect();
            let large = || groups.iter().filter(|(_, rows, _)| *rows >= rule.needed());
            let most = large().max_by(|a, b| a.2.total_cmp(&b.2));
            let least = large().min_by(|a, b| a.2.total_cmp(&b.2));
            let (Some(most), Some(least)) = (most, least) else {
                let sentence =
                    format!("no group of '{column}' has {} for its {share}", counted(rule.needed() as f64, "row"));
                self.missing(name(share), sentence, "validate over more days, or lower min_rows");
                continue;
            };
            let gap = most.2 - least.2;
            let interval = |(_, rows, share): &(&str, usize, f64)| shown_share(*share, *rows, self.rules.confidence);
            let mut sentence = format!(
                "{share} is {} for '{}' and {} for '{}': a gap of {}, at most {} allowed",
                interval(most),
                most.0,
                interval(least),
                least.0,
                shown(gap),
                shown(limit)
            );
            let (verdict, advice) = if gap > limit + ROUNDING {
                (Verdict::Failed, Some(format!("look at the rows of '{}' in the training set", least.0)))
            } else if let Some(group) = &absent {
                sentence += &format!("; there is no group '{group}'");
                (Verdict::InsufficientData, Some("look at the names of the groups".to_owned()))
            } else if large().count() < 2 {
                sentence += "; one group only is large enough";
                (Verdict::InsufficientData, Some("a gap takes two groups: validate over more days".to_owned()))
            } else if !small.is_empty() {
                sentence += &format!("; too few rows in '{}'", small.join("', '"));
                let advice = "validate over more days, lower min_rows, or name the groups to judge with `groups`";
                (Verdict::InsufficientData, Some(advice.to_owned()))
            } else {
                (Verdict::Passed, None)
            };
            let mut figures: Vec<(String, f64)> = vec![("gap".into(), gap), ("limit".into(), limit)];
            for (group, rows, share) in &groups {
                figures.push((format!("rows of {group}"), *rows as f64));
                figures.push((format!("share of {group}"), *share));
            }
            let figures: Vec<(&str, f64)> = figures.iter().map(|(name, x)| (name.as_str(), *x)).collect();
            self.add(name(share), verdict, sentence, &figures).advice = advice;
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

fn better(improvement: f64) -> String {
    let word = if improvement < 0.0 { "worse" } else { "better" };
    format!("{word} by {}", shown(improvement.abs()))
}

/// A share of rows with its interval.
fn shown_share(share: f64, rows: usize, confidence: f64) -> String {
    let Measurement { value, low, high, .. } = share_of_rows(share, rows, confidence);
    format!("{} ({} to {}, {rows} rows)", shown(value), shown(low), shown(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::GateTable;

    fn rules(text: &str) -> GateRules {
        let table: GateTable = toml::from_str(text).unwrap();
        table.over(&GateTable::default()).unwrap()
    }

    /// A number from 0 to 1 for a row.
    fn spread(row: usize) -> f64 {
        // SplitMix64 (Steele, Lea and Flood 2014)
        let mut x = (row as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn output(positive: bool, label: bool, score: f64) -> Output {
        Output { positive, correct: positive == label, score, error: f64::NAN }
    }

    /// Rows of seven days of which the models are wrong in these shares. A label is positive in two of five rows, and scores
    /// are 0.8 and 0.2.
    fn rows(n: usize, candidate: f64, champion: Option<f64>) -> ValidationRows {
        let positive: Vec<bool> = (0..n).map(|row| spread(row + 7) < 0.4).collect();
        let outputs = |wrong: f64, salt: usize| {
            let said = |(row, &label): (usize, &bool)| {
                let said = label != (spread(row * 3 + salt) < wrong);
                output(said, label, if said { 0.8 } else { 0.2 })
            };
            positive.iter().enumerate().map(said).collect::<Vec<_>>()
        };
        ValidationRows {
            classes: positive.iter().map(|positive| u32::from(*positive)).collect(),
            candidate: outputs(candidate, 1),
            champion: champion.map(|champion| outputs(champion, 5)),
            times: Some((0..n as i64).collect()),
            days: Some((0..n as u32).map(|row| row % 7).collect()),
            has_predictions: true,
            labelled: n,
            positive,
            ..ValidationRows::default()
        }
    }

    fn verdict(report: &GateReport, name: &str) -> Verdict {
        let found = report.gates.iter().find(|gate| gate.name == name);
        found.unwrap_or_else(|| panic!("no gate {name}: {report:#?}")).verdict
    }

    #[test]
    fn a_better_candidate_passes_and_one_that_is_no_better_does_not() {
        let good = evaluate(&rows(7000, 0.05, Some(0.1)), &GateRules::default());
        assert_eq!(good.verdict, Verdict::Passed, "{good:#?}");
        assert_eq!((good.rows, good.days), (7000, Some(7)));
        for (candidate, gate) in [(0.15, "accuracy.at_least"), (0.1, "accuracy.better_by"), (0.2, "accuracy.better_by")]
        {
            let found = evaluate(&rows(7000, candidate, Some(0.1)), &GateRules::default());
            assert_eq!(
                (found.verdict, verdict(&found, gate)),
                (Verdict::Failed, Verdict::Failed),
                "{candidate} {found:#?}"
            );
            assert!(found.open().all(|gate| gate.advice.is_some()));
        }
    }

    #[test]
    fn nothing_passes_for_want_of_data() {
        let of = |rows: &ValidationRows, text: &str| evaluate(rows, &rules(text));
        let small = of(&rows(900, 0.02, Some(0.1)), "");
        assert_eq!((small.verdict, verdict(&small, "rows")), (Verdict::InsufficientData, Verdict::InsufficientData));
        let alone = of(&rows(7000, 0.02, None), "");
        assert_eq!(verdict(&alone, "accuracy.better_by"), Verdict::InsufficientData);
        assert_eq!(alone.verdict, Verdict::InsufficientData);
        let lost = ValidationRows { without_candidate: 200, labelled: 7200, ..rows(7000, 0.02, Some(0.1)) };
        assert_eq!(verdict(&of(&lost, ""), "rows.candidate"), Verdict::InsufficientData);
        assert_eq!(verdict(&of(&lost, "max_unmatched = 0.05"), "rows.candidate"), Verdict::Passed);
        // Rows of one class have no area, and rows without scores no loss.
        let mut negative = rows(7000, 0.02, Some(0.1));
        negative.positive.fill(false);
        let auc = of(&negative, "metrics = [{ metric = \"auc\", at_least = 0.5 }]");
        assert_eq!(verdict(&auc, "auc"), Verdict::InsufficientData);
        let mut scoreless = rows(7000, 0.02, Some(0.1));
        scoreless.candidate.iter_mut().for_each(|output| output.score = f64::NAN);
        let loss = of(&scoreless, "metrics = [{ metric = \"log_loss\", at_most = 0.5 }]\n[calibration]");
        assert_eq!(verdict(&loss, "log_loss"), Verdict::InsufficientData);
        assert_eq!(verdict(&loss, "calibration"), Verdict::InsufficientData);
        // Twenty positives among many rows.
        let mut rare = rows(7000, 0.0, None);
        rare.positive.iter_mut().enumerate().for_each(|(row, positive)| *positive = row < 20);
        let recall = of(&rare, "metrics = [{ metric = \"recall\", at_least = 0.0 }]");
        assert_eq!(verdict(&recall, "recall"), Verdict::InsufficientData);
        assert_eq!(evaluate(&ValidationRows::default(), &GateRules::default()).verdict, Verdict::InsufficientData);
        let late = of(&rows(7000, 0.02, Some(0.1)), "latency_p95 = 10.0");
        assert_eq!(verdict(&late, "latency_p95"), Verdict::InsufficientData);
    }

    #[test]
    fn a_metric_whose_rows_are_of_one_day_is_not_tested_and_both_models_need_its_rows() {
        // Sixty positives, all of the first day.
        let mut one_day = rows(7000, 0.0, Some(0.0));
        let champion = one_day.champion.as_mut().unwrap();
        for (row, other) in champion.iter_mut().enumerate() {
            let label = row % 7 == 0 && row < 420;
            (one_day.positive[row], one_day.classes[row]) = (label, u32::from(label));
            one_day.candidate[row] = output(label && row < 217, label, 0.5);
            *other = output(label && row >= 210, label, 0.5);
        }
        let text = |metric: &str| format!("metrics = [{{ metric = \"{metric}\", significance = 0.05 }}]");
        let found = evaluate(&one_day, &rules(&text("recall")));
        assert_eq!(verdict(&found, "recall.significance"), Verdict::InsufficientData, "{found:#?}");
        // A champion that predicted one row positive has no precision to compare with.
        let mut shy = rows(7000, 0.05, Some(0.1));
        for (row, output) in shy.champion.as_mut().unwrap().iter_mut().enumerate() {
            (output.positive, output.correct) = (row == 3, (row == 3) == shy.positive[row]);
        }
        let found = evaluate(&shy, &rules(&text("precision")));
        assert_eq!(verdict(&found, "precision.significance"), Verdict::InsufficientData, "{found:#?}");
        // Days that have no rows of the metric count for none.
        let whole = evaluate(&rows(7000, 0.05, Some(0.1)), &rules(&text("recall")));
        assert_eq!(verdict(&whole, "recall.significance"), Verdict::Passed, "{whole:#?}");
    }

    #[test]
    fn limits_that_are_met_exactly_are_met() {
        let exact = |right: usize| {
            let mut rows = rows(1000, 0.0, Some(0.0));
            for (row, output) in rows.candidate.iter_mut().enumerate() {
                output.correct = row < right;
            }
            for (row, output) in rows.champion.as_mut().unwrap().iter_mut().enumerate() {
                output.correct = row < right - 10;
            }
            rows
        };
        for right in 901..1000 {
            let found = evaluate(&exact(right), &GateRules::default());
            assert_eq!(verdict(&found, "accuracy.better_by"), Verdict::Passed, "{right}");
        }
    }

    #[test]
    fn less_of_a_loss_is_better() {
        let text = "metrics = [{ metric = \"log_loss\", at_most = 0.4, better_by = 0.02, significance = 0.05 }]";
        let better = evaluate(&rows(7000, 0.1, Some(0.15)), &rules(text));
        assert_eq!(better.verdict, Verdict::Passed, "{better:#?}");
        let gate = better.gates.iter().find(|gate| gate.name == "log_loss.better_by").unwrap();
        assert!(gate.figures["improvement"] > 0.02 && gate.figures["candidate"] < gate.figures["champion"], "{gate:?}");
        let worse = evaluate(&rows(7000, 0.15, Some(0.1)), &rules(text));
        let names: Vec<&str> = worse.open().map(|gate| &*gate.name).collect();
        assert_eq!(names, ["log_loss.at_most", "log_loss.better_by", "log_loss.significance"]);
    }

    #[test]
    fn what_is_not_significant_says_how_many_rows_would_be() {
        let text = "metrics = [{ metric = \"accuracy\", better_by = 0.01, significance = 0.05 }]";
        for (together, rows_and_days) in [("day", true), ("none", false)] {
            let found = evaluate(&rows(1400, 0.1, Some(0.1)), &rules(&format!("together = \"{together}\"\n{text}")));
            let gate = found.gates.iter().find(|gate| gate.name == "accuracy.significance").unwrap();
            assert_eq!(gate.verdict, Verdict::Failed);
            assert!(gate.figures["rows_needed"] > 1400.0 && gate.figures["power"] < 0.8, "{gate:#?}");
            assert_eq!(gate.figures.contains_key("days_needed"), rows_and_days);
            assert!(gate.sentence.contains("in 80 of 100 with"), "{}", gate.sentence);
        }
        // Not worse by two points, which is easier to see.
        let text = "metrics = [{ metric = \"accuracy\", significance = 0.05, margin = -0.02 }]";
        let found = evaluate(&rows(14_000, 0.1, Some(0.1)), &rules(text));
        assert_eq!(verdict(&found, "accuracy.significance"), Verdict::Passed, "{found:#?}");
    }

    #[test]
    fn a_feature_that_knows_the_label_is_named() {
        let leaking = ValidationRows {
            features: Some(vec![("age".into(), 0.6), ("paid_at".into(), 0.998)]),
            ..rows(7000, 0.002, Some(0.1))
        };
        let found = evaluate(&leaking, &GateRules::default());
        let gate = found.gates.iter().find(|gate| gate.name == "leakage").unwrap();
        assert_eq!((found.verdict, gate.verdict), (Verdict::Failed, Verdict::Failed));
        assert!(gate.sentence.contains("'paid_at'"), "{}", gate.sentence);
        for features in [None, Some(vec![("age".into(), 0.6)])] {
            let found = evaluate(&ValidationRows { features, ..leaking.clone() }, &GateRules::default());
            assert_eq!((found.verdict, verdict(&found, "leakage")), (Verdict::Warning, Verdict::Warning));
        }
        // A feature that is as good as this is no leak while the model is not.
        let modest = ValidationRows { features: leaking.features.clone(), ..rows(7000, 0.05, Some(0.1)) };
        assert_eq!(verdict(&evaluate(&modest, &GateRules::default()), "leakage"), Verdict::Passed);
    }

    #[test]
    fn a_model_that_is_worse_than_none_is_of_no_use() {
        // One row of a hundred is positive, and the candidate finds none of them.
        let mut rare = rows(7000, 0.0, Some(0.1));
        for row in 0..7000 {
            let label = row % 100 == 0;
            (rare.positive[row], rare.classes[row]) = (label, u32::from(label));
            rare.candidate[row] = output(row % 90 == 1, label, 0.5);
        }
        let found = evaluate(&rare, &GateRules::default());
        assert_eq!(verdict(&found, "accuracy.at_least"), Verdict::Passed);
        assert_eq!(verdict(&found, "accuracy.constant"), Verdict::Failed);
        // Labels that seldom change: the label before is the better prediction.
        let mut slow = rows(7000, 0.05, Some(0.1));
        for row in 0..7000 {
            let label = row / 100 % 2 == 0;
            (slow.positive[row], slow.classes[row]) = (label, u32::from(label));
            slow.candidate[row] = output(label != (row % 20 == 0), label, 0.5);
        }
        let found = evaluate(&slow, &rules("no_change = true"));
        assert_eq!(verdict(&found, "accuracy.constant"), Verdict::Passed);
        assert_eq!(verdict(&found, "accuracy.no_change"), Verdict::Failed);
    }

    #[test]
    fn groups_that_are_treated_unequally_are_named_and_small_ones_do_not_pass() {
        let mut grouped = rows(7000, 0.05, Some(0.1));
        let of: Vec<u32> = (0..7000).map(|row| u32::from(spread(row + 11) < 0.3)).collect();
        grouped.groups.insert("sex".into(), (vec!["f".into(), "m".into()], of.clone()));
        let text = "[fairness.sex]\ntpr = 0.1\nselection_rate = 0.1";
        let fair = evaluate(&grouped, &rules(text));
        assert_eq!(fair.verdict, Verdict::Passed, "{fair:#?}");
        let mut unfair = grouped.clone();
        for (row, group) in of.iter().enumerate() {
            if *group == 1 && spread(row + 3) < 0.3 {
                unfair.candidate[row] = output(false, unfair.positive[row], 0.2);
            }
        }
        let found = evaluate(&unfair, &rules(text));
        let gate = found.gates.iter().find(|gate| gate.name == "fairness.sex.tpr").unwrap();
        assert_eq!(gate.verdict, Verdict::Failed);
        assert!(gate.sentence.contains("'m'") && gate.advice.as_ref().unwrap().contains("'m'"), "{gate:#?}");
        // Six rows of a third group, which nobody can judge.
        let mut small = grouped.clone();
        let (names, of) = &mut small.groups["sex"];
        names.push("x".into());
        of[..6].fill(2);
        for (text, wanted) in [
            (text.to_owned(), Verdict::InsufficientData),
            (format!("{text}\ngroups = [\"f\", \"m\"]"), Verdict::Passed),
            (format!("{text}\ngroups = [\"f\", \"y\"]"), Verdict::InsufficientData),
            ("[fairness.age]\ntpr = 0.1".into(), Verdict::InsufficientData),
        ] {
            assert_eq!(evaluate(&small, &rules(&text)).verdict, wanted, "{text}");
        }
    }

    #[test]
    fn scores_that_are_too_extreme_are_not_calibrated() {
        let text = "metrics = [{ metric = \"accuracy\", at_least = 0.5 }]\n[calibration]\nintercept = [-0.5, 0.5]";
        let scored = |score: &dyn Fn(f64) -> f64| {
            let mut rows = rows(7000, 0.2, None);
            rows.candidate.iter_mut().for_each(|output| output.score = score(output.score));
            rows
        };
        // 80 % of what has a score of 0.8 is positive, nearly.
        let even = evaluate(&scored(&|score| score), &rules(text));
        let slope = even.gates.iter().find(|gate| gate.name == "calibration.slope").unwrap().figures["slope"];
        assert!(slope > 0.8 && slope < 1.25, "{even:#?}");
        let extreme = evaluate(&scored(&|score| if score > 0.5 { 0.99 } else { 0.01 }), &rules(text));
        assert_eq!(verdict(&extreme, "calibration.slope"), Verdict::Failed);
        let shifted = evaluate(&scored(&|score| score / 4.0), &rules(text));
        assert_eq!(verdict(&shifted, "calibration.intercept"), Verdict::Failed, "{shifted:#?}");
    }

    #[test]
    fn errors_of_numbers_are_judged_in_their_unit() {
        let numbers: Vec<f64> = (0..2000).map(|row| 100.0 * spread(row)).collect();
        let outputs = |size: f64| {
            let of = |row: usize| Output {
                positive: false,
                correct: false,
                score: f64::NAN,
                error: size * (spread(row + 1) - 0.5),
            };
            (0..2000).map(of).collect::<Vec<_>>()
        };
        let rows = ValidationRows {
            positive: vec![false; 2000],
            candidate: outputs(10.0),
            champion: Some(outputs(12.0)),
            numbers,
            ..ValidationRows::default()
        };
        let text = "together = \"none\"\nmetrics = [{ metric = \"mae\", at_most = 3.0, better_by = 0.2, significance = 0.01 }, { metric = \"rmse\", at_most = 4.0 }]";
        let found = evaluate(&rows, &rules(text));
        assert_eq!(found.verdict, Verdict::Passed, "{found:#?}");
        assert!(found.gates.iter().all(|gate| gate.name != "leakage"));
        let constant = found.gates.iter().find(|gate| gate.name == "rmse.constant").unwrap();
        // The standard deviation of even numbers from 0 to 100.
        assert!((constant.figures["other"] - 28.9).abs() < 0.5, "{constant:?}");
    }

    #[test]
    fn latencies_are_judged_by_their_95th_percentile() {
        let mut rows = rows(2000, 0.02, Some(0.1));
        rows.latencies = Some((0..2000).map(f64::from).collect());
        // numpy.quantile(numpy.arange(2000), 0.95)
        let found = evaluate(&rows, &rules("latency_p95 = 1899.1"));
        assert_eq!(verdict(&found, "latency_p95"), Verdict::Passed);
        assert!((found.gates.last().unwrap().figures["value"] - 1899.05).abs() < 1e-9);
        assert_eq!(verdict(&evaluate(&rows, &rules("latency_p95 = 1899.0")), "latency_p95"), Verdict::Failed);
    }

    #[test]
    fn mistakes_in_rules_are_named() {
        for (text, words) in [
            ("metrics = []", "judges nothing"),
            ("metrics = [{ metric = \"auc\" }]", "'auc' has no limit; give at_least"),
            ("metrics = [{ metric = \"mae\", at_least = 1.0 }]", "give at_most instead of at_least"),
            ("metrics = [{ metric = \"f1\", at_most = 1.0 }]", "give at_least instead of at_most"),
            ("metrics = [{ metric = \"f1\", at_least = 0.1, significance = 0.5 }]", "between 0 and 0.5"),
            ("metrics = [{ metric = \"f1\", at_least = 0.1, margin = 0.1 }]", "give its level with significance"),
            ("metrics = [{ metric = \"f1\", at_least = 0.1 }, { metric = \"f1\", better_by = 0.1 }]", "'f1' twice"),
            ("[fairness.sex]\nmin_rows = 5", "has no limit"),
            ("[fairness.sex]\ntpr = 2.0", "between 0 and 1"),
            ("[calibration]\nslope = [2.0, 1.0]", "has no figure in it"),
            ("confidence = 1.0", "confidence = 1"),
            ("leakage = 1.5", "leakage = 1.5"),
            ("latency_p95 = 0.0", "latency_p95 = 0"),
        ] {
            let table: GateTable = toml::from_str(text).unwrap();
            let mistake = table.over(&GateTable::default()).unwrap_err();
            assert!(mistake.contains(words), "{text}: {mistake}");
        }
        // Those of the model come before those of the fleet.
        let of = |text: &str| toml::from_str::<GateTable>(text).unwrap();
        let fleet = of("min_rows = 5\nleakage = 0.95");
        let both = of("min_rows = 7").over(&fleet).unwrap();
        assert_eq!((both.min_rows, both.leakage), (7, 0.95));
    }
}
