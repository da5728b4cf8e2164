//! Whether a candidate is better than models that need no training.

use driftsweep::metric::performance::{PerformanceMetric, influences_of_errors};

use super::{Judge, shown};
use crate::gate::Verdict;

impl Judge<'_> {
    /// The best that a model could do which says the same about every row.
    pub(super) fn constant(&mut self, metric: PerformanceMetric, value: f64) {
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
    pub(super) fn no_change(&mut self) {
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
            if let Some(found) = self.influences(rule.metric, &self.rows.candidate) {
                judged = true;
                self.against(rule.metric, "no_change", found.value, other, "the label of the row before");
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
}
