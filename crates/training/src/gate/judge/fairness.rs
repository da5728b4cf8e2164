//! Whether groups are treated alike.

use driftsweep::metric::performance::{Measurement, share_of_rows};

use super::{Judge, ROUNDING, counted, shown};
use crate::gate::{FairnessRule, Verdict};

impl Judge<'_> {
    pub(super) fn fairness(&mut self, column: &str, rule: &FairnessRule) {
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
}

/// A share of rows with its interval.
fn shown_share(share: f64, rows: usize, confidence: f64) -> String {
    let Measurement { value, low, high, .. } = share_of_rows(share, rows, confidence);
    format!("{} ({} to {}, {rows} rows)", shown(value), shown(low), shown(high))
}
