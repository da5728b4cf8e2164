//! How predictions are joined with labels: `[model.labels]` of the fleet file.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::checks::Validated;
use crate::literal::Literal;
use driftsweep::model::{MissingTexts, OutcomeColumns};
use driftsweep_common::address::{Location, redacted};
use driftsweep_common::duration::Length;

/// How a model's predictions are joined with labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// The snapshot of the predictions.
    pub predictions: Location,
    /// The snapshot of the labels; the predictions' own if absent.
    pub from: Option<Location>,
    /// The snapshot by which scores are calibrated, with labels: by default the baseline.
    pub reference: Option<Location>,
    /// The id of a row on both sides.
    pub id: Option<String>,
    /// When the prediction was made.
    pub time: String,
    /// The label.
    pub label: String,
    /// What was predicted.
    pub prediction: Option<String>,
    /// The probability of `positive`.
    pub score: Option<String>,
    /// The class that scores are about, where it is set.
    pub positive: Option<String>,
    /// All classes: each label, and the prediction that means the same.
    pub classes: Option<BTreeMap<String, String>>,
    /// Texts for a missing label, prediction or id.
    pub missing: MissingTexts,
    /// When the label became known.
    pub label_time: Option<String>,
    /// The delay of labels: exact, where there is no `label_time`, or else the maximum.
    pub delay: SignedDuration,
    /// Whether the delay was declared.
    pub delay_declared: bool,
    /// A column of the predictions that is used where labels are missing.
    pub proxy: Option<String>,
}

/// The classes that labels and predictions name.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "give a list of classes, or a table of labels with the prediction that means the same")]
enum ClassTable {
    /// In the same words.
    Same(Vec<Literal>),
    /// Each label with the prediction that means the same.
    Translated(BTreeMap<String, Literal>),
}

impl ClassTable {
    fn resolve(self) -> Validated<BTreeMap<String, String>> {
        let classes: BTreeMap<String, String> = match self {
            Self::Same(names) => {
                let names = names.into_iter().map(|name| class(name.text()));
                names.map(|name| (name.clone(), name)).collect()
            }
            Self::Translated(pairs) => {
                pairs.into_iter().map(|(label, said)| (class(label), class(said.text()))).collect()
            }
        };
        if classes.is_empty() { Err("labels: classes is empty".into()) } else { Ok(classes) }
    }
}

/// The same text for the same class: labels and predictions are often one a flag or text and the other a number.
pub fn class(text: String) -> String {
    match &*text {
        "true" | "True" | "TRUE" => "1".into(),
        "false" | "False" | "FALSE" => "0".into(),
        whole => match whole.strip_suffix(".0") {
            Some(whole) if whole.parse::<i64>().is_ok() => whole.to_owned(),
            _ => text,
        },
    }
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelTable {
    /// The predictions. By default `current`; needed where that has `{day}`.
    predictions: Option<String>,
    /// The labels. By default they are in the rows of the predictions.
    from: Option<String>,
    /// A snapshot with labels to calibrate scores on. By default the baseline.
    reference: Option<String>,
    /// The column that joins predictions and labels.
    id: Option<String>,
    /// The column with the time of the prediction.
    time: Option<String>,
    /// The column with the label.
    label: String,
    /// The column with the predicted class or number.
    pub(crate) prediction: Option<String>,
    /// The column with the score of the class `positive`.
    pub(crate) score: Option<String>,
    /// The label that scores, precision and recall are about.
    positive: Option<Literal>,
    /// The classes, or each label with the prediction that means the same.
    classes: Option<ClassTable>,
    /// Texts that stand for a missing label, prediction or id.
    missing: Option<Vec<String>>,
    /// The column with the time when the label became known.
    label_time: Option<String>,
    /// The time between prediction and label; with `label_time` the longest. By default 0; with `label_time` it is
    /// learned, and at most 90 days are waited for.
    delay: Option<Length>,
    /// A column that is used where labels are missing.
    proxy: Option<String>,
}

impl LabelTable {
    /// Resolved for a model whose current snapshot, baseline and column of times are given.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn resolve(
        self,
        current: &Location,
        baseline: Option<&Location>,
        time: Option<&str>,
        path: impl Fn(&str) -> Location,
    ) -> Validated<Labels> {
        let own = |given: &Option<String>| given.as_deref().map(&path);
        let from = own(&self.from);
        if from.is_some() && self.id.is_none() {
            return Err("labels: `from` names another table; name the column that joins the two with `id`".into());
        }
        if self.prediction.is_none() && self.score.is_none() {
            return Err("labels: name the column with the model's `prediction`, its `score`, or both".into());
        }
        let Some(time) = self.time.as_deref().or(time) else {
            return Err("labels: name the column with the `time` of the prediction".into());
        };
        // The predictions of a single day have no labels yet, and the labels of a single day are not those of a week.
        if let Some(path) = [&self.predictions, &self.from].into_iter().flatten().find(|path| path.contains("{day")) {
            return Err(format!("labels: '{}' is one day; name those of all days, for example with *", redacted(path)));
        }
        if self.predictions.is_none() && current.expose().contains("{day") {
            return Err("labels: `current` is one day; name the predictions of all days with labels.predictions".into());
        }
        Ok(Labels {
            predictions: own(&self.predictions).unwrap_or_else(|| current.clone()),
            reference: own(&self.reference).or_else(|| baseline.cloned()),
            time: time.to_owned(),
            positive: self.positive.map(|positive| class(positive.text())),
            classes: self.classes.map(ClassTable::resolve).transpose()?,
            missing: MissingTexts(self.missing),
            delay_declared: self.delay.is_some(),
            delay: match (self.delay, &self.label_time) {
                (Some(delay), _) => delay.signed(),
                (None, Some(_)) => SignedDuration::from_hours(24 * 90),
                (None, None) => SignedDuration::ZERO,
            },
            from,
            id: self.id,
            label: self.label,
            prediction: self.prediction,
            score: self.score,
            label_time: self.label_time,
            proxy: self.proxy,
        })
    }

    /// Whether it names the current snapshot as that of the predictions.
    pub(crate) fn needs_current(&self) -> bool {
        self.predictions.is_none()
    }
}

impl Labels {
    /// What its columns are to a comparison. `numbers` says whether labels and predictions are numbers.
    pub(crate) fn columns(&self, numbers: bool) -> OutcomeColumns {
        let join = [self.id.as_ref(), self.label_time.as_ref(), Some(&self.time)];
        OutcomeColumns {
            label: self.label.clone(),
            is_separate: self.from.is_some(),
            prediction: self.prediction.clone(),
            score: self.score.clone(),
            join: join.into_iter().flatten().cloned().collect(),
            numbers,
            missing: self.missing.clone(),
        }
    }

    /// The snapshots it names.
    pub(crate) fn paths(&mut self) -> impl Iterator<Item = &mut Location> {
        [&mut self.predictions].into_iter().chain(&mut self.from).chain(&mut self.reference)
    }
}
