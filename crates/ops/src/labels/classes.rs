//! The classes of labels and predictions, and whether both use the same ones.

use std::collections::{BTreeSet, HashMap};

use bytemuck::{Pod, Zeroable};

use driftsweep::snapshot::RowValue;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{Labels, class};

/// More distinct classes than this on both sides together are treated as numbers or identifiers, not classes.
const MAX_CLASSES: usize = 10_000;

/// Share of rows whose class does not occur on the other side, from which on the classes count as two vocabularies.
const UNSHARED_LIMIT: f64 = 0.05;

/// The value of a label or a prediction: the code of a class, or a number where numbers are evaluated; or missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct ClassCode(u64);

impl ClassCode {
    /// No value.
    pub const MISSING: Self = Self(u64::MAX);
    /// A number with a fraction where classes are evaluated.
    const MEASURED: Self = Self(u64::MAX - 1);
    /// Text where numbers are evaluated.
    const WRONG: Self = Self(u64::MAX - 2);

    /// A class.
    pub fn class(code: usize) -> Self {
        Self(code as u64)
    }

    /// A number, which is not NaN.
    fn of(number: f64) -> Self {
        // Zero has two bit patterns.
        Self((number + 0.0).to_bits())
    }

    /// The number, where numbers are evaluated.
    pub fn number(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// Itself unless it is missing.
    pub fn known(self) -> Option<Self> {
        (self != Self::MISSING).then_some(self)
    }
}

/// The column of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The column of labels (or its substitute).
    Label,
    /// The column of predictions.
    Prediction,
    /// The proxy column for missing labels.
    Proxy,
}

const SIDES: usize = 3;

/// Codes of classes, the same for the same class on both sides, with the rows of each.
pub struct Classes<'a> {
    labels: &'a Labels,
    /// Whether numbers are evaluated; then there are no classes.
    of_numbers: bool,
    /// The codes of texts and integers in the data, by column.
    texts: [HashMap<String, ClassCode>; SIDES],
    integers: [HashMap<i128, ClassCode>; SIDES],
    codes: HashMap<String, usize>,
    names: Vec<String>,
    /// Evaluated rows, by column and class.
    rows: [Vec<u64>; SIDES],
    /// Numbers with a fraction by column: the first, and whether such a row is evaluated.
    measured: [(Option<f64>, bool); SIDES],
    /// Text where numbers are evaluated: the first by column, and whether such a row is evaluated.
    wrong: [(Option<String>, bool); SIDES],
}

impl<'a> Classes<'a> {
    /// No class yet.
    pub fn new(labels: &'a Labels, of_numbers: bool) -> Self {
        Self {
            labels,
            of_numbers,
            texts: Default::default(),
            integers: Default::default(),
            codes: HashMap::new(),
            names: Vec::new(),
            rows: Default::default(),
            measured: Default::default(),
            wrong: Default::default(),
        }
    }

    /// The code of a value.
    pub fn truth(&mut self, side: ValueSource, value: RowValue<'_>) -> ClassCode {
        if self.of_numbers { self.number(side, value) } else { self.class_of(side, value) }
    }

    /// Counts an evaluated row: the vocabulary of a column comes from its rows. Returns the code, if it is valid.
    pub fn judged(&mut self, side: ValueSource, truth: ClassCode) -> ClassCode {
        match truth {
            ClassCode::MISSING => truth,
            ClassCode::WRONG => {
                self.wrong[side as usize].1 = true;
                ClassCode::MISSING
            }
            ClassCode::MEASURED => {
                self.measured[side as usize].1 = true;
                truth
            }
            _ if self.of_numbers => truth,
            ClassCode(class) => {
                let rows = &mut self.rows[side as usize];
                let class = class as usize;
                if rows.len() <= class {
                    rows.resize(class + 1, 0);
                }
                rows[class] += 1;
                truth
            }
        }
    }

    fn number(&mut self, side: ValueSource, value: RowValue<'_>) -> ClassCode {
        match value {
            RowValue::Missing => ClassCode::MISSING,
            RowValue::Text(text) if self.labels.missing.has(text) => ClassCode::MISSING,
            RowValue::Text(text) => match text.trim().parse::<f64>() {
                Ok(number) if !number.is_nan() => ClassCode::of(number),
                _ => {
                    self.wrong[side as usize].0.get_or_insert_with(|| text.to_owned());
                    ClassCode::WRONG
                }
            },
            RowValue::Time(at) | RowValue::Day(at) => ClassCode::of(at as f64),
            number => number.number().map_or(ClassCode::MISSING, ClassCode::of),
        }
    }

    fn class_of(&mut self, side: ValueSource, value: RowValue<'_>) -> ClassCode {
        match value {
            RowValue::Missing => ClassCode::MISSING,
            RowValue::Text(text) => match self.texts[side as usize].get(text) {
                Some(known) => *known,
                None => {
                    let missing = self.labels.missing.has(text);
                    let truth = if missing { ClassCode::MISSING } else { self.code(side, text.to_owned()) };
                    if self.texts[side as usize].len() <= MAX_CLASSES {
                        self.texts[side as usize].insert(text.to_owned(), truth);
                    }
                    truth
                }
            },
            RowValue::Integer(x) => match self.integers[side as usize].get(&x) {
                Some(known) => *known,
                None => {
                    let truth = self.code(side, x.to_string());
                    if self.integers[side as usize].len() <= MAX_CLASSES {
                        self.integers[side as usize].insert(x, truth);
                    }
                    truth
                }
            },
            RowValue::Number(x) if x.fract() != 0.0 || x.is_infinite() => {
                self.measured[side as usize].0.get_or_insert(x);
                ClassCode::MEASURED
            }
            RowValue::Number(x) => self.class_of(side, RowValue::Integer(x as i128)),
            RowValue::Flag(flag) => self.class_of(side, RowValue::Integer(flag.into())),
            RowValue::Time(at) | RowValue::Day(at) => self.class_of(side, RowValue::Integer(at.into())),
        }
    }

    /// The code of a class, after labels were translated to the classes of the predictions.
    fn code(&mut self, side: ValueSource, text: String) -> ClassCode {
        let plain = class(text);
        let name = match (&self.labels.classes, side) {
            (Some(classes), ValueSource::Label | ValueSource::Proxy) => classes.get(&plain).cloned().unwrap_or(plain),
            _ => plain,
        };
        if let Some(&code) = self.codes.get(&name) {
            return ClassCode::class(code);
        }
        let code = self.names.len();
        // Beyond the limit all share the last code; the check refuses them.
        if code <= MAX_CLASSES {
            self.codes.insert(name.clone(), code);
            self.names.push(name);
        }
        ClassCode::class(code.min(MAX_CLASSES))
    }

    /// The code of the class that scores are about.
    pub fn positive(&mut self) -> ClassCode {
        match self.labels.positive.clone() {
            Some(positive) => self.code(ValueSource::Label, positive),
            // It is a class of the predictions, also where labels use other names.
            None => self.code(ValueSource::Prediction, "1".into()),
        }
    }

    /// How many classes either side has.
    pub fn count(&self) -> usize {
        let has = |class: usize| self.rows.iter().any(|rows| rows.get(class).is_some_and(|&rows| rows > 0));
        (0..self.names.len()).filter(|&class| has(class)).count()
    }

    /// Classes of a side with their rows, the most frequent first.
    fn found(&self, side: ValueSource) -> Vec<(&str, u64)> {
        let rows = self.names.iter().map(String::as_str).zip(self.rows[side as usize].iter().copied());
        let mut found: Vec<(&str, u64)> = rows.filter(|(_, rows)| *rows > 0).collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        found
    }

    /// Whether labels and predictions can be compared.
    ///
    /// # Errors
    /// [`Error::BadValue`] with both vocabularies and the remedy: where they have no common classes, where there are
    /// numbers instead of classes or text instead of numbers, and where the required class is not set.
    pub fn check(&self, needs_positive: bool) -> Result<()> {
        [ValueSource::Label, ValueSource::Prediction, ValueSource::Proxy]
            .into_iter()
            .try_for_each(|side| self.check_values(side))?;
        if self.of_numbers {
            return Ok(());
        }
        let bad = |reason: String| Err(Error::BadValue { what: self.column(ValueSource::Label), reason });
        if self.names.len() > MAX_CLASSES {
            return bad(format!(
                "have, together with the predictions, more than {MAX_CLASSES} different values: they are not classes"
            ));
        }
        let predicted = self.found(ValueSource::Prediction);
        for side in [ValueSource::Label, ValueSource::Proxy] {
            self.check_classes_shared(side, &self.found(side), &predicted)?;
        }
        match needs_positive {
            true => self.check_positive(&self.found(ValueSource::Label), &predicted).or_else(bad),
            false => Ok(()),
        }
    }

    /// A column, for messages.
    fn column(&self, side: ValueSource) -> String {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        match side {
            ValueSource::Label => format!("labels '{}'", self.labels.label),
            ValueSource::Prediction => format!("predictions '{}'", name(&self.labels.prediction)),
            ValueSource::Proxy => format!("labels.proxy '{}'", name(&self.labels.proxy)),
        }
    }

    /// Whether the values of a column fit the metric.
    fn check_values(&self, side: ValueSource) -> Result<()> {
        let bad = |reason: String| Err(Error::BadValue { what: self.column(side), reason });
        if let (Some(text), true) = &self.wrong[side as usize] {
            return bad(format!(
                "hold text such as '{}', but the metric is about errors of numbers (trigger.performance.metric); \
                 correct the column, or list the text in labels.missing if it means a missing value",
                driftsweep_common::escape::for_display(text)
            ));
        }
        match self.measured[side as usize] {
            (Some(x), true) if side == ValueSource::Prediction => bad(format!(
                "are numbers with a fraction such as {x}, not classes; name a column of probabilities with labels.score"
            )),
            (Some(x), true) => bad(format!(
                "are measured numbers such as {x}, not classes; set trigger.performance.metric to mae or rmse"
            )),
            _ => Ok(()),
        }
    }

    /// Whether labels, or their substitute, use the classes of the predictions.
    fn check_classes_shared(&self, side: ValueSource, labels: &[(&str, u64)], predicted: &[(&str, u64)]) -> Result<()> {
        let bad = |side: ValueSource, reason: String| Err(Error::BadValue { what: self.column(side), reason });
        if let Some(classes) = &self.labels.classes {
            for (side, found) in [(side, labels), (ValueSource::Prediction, predicted)] {
                let Some((name, rows)) = found.iter().find(|(name, _)| !classes.values().any(|known| known == name))
                else {
                    continue;
                };
                let known: BTreeSet<&str> = classes.values().map(String::as_str).collect();
                let known = list(&known.into_iter().map(|name| (name, 0)).collect::<Vec<_>>());
                return bad(
                    side,
                    format!(
                        "are '{}' in {rows} rows, which labels.classes does not list (classes of the predictions: \
                         {known}); add it there, or to labels.missing",
                        driftsweep_common::escape::for_display(name)
                    ),
                );
            }
            return Ok(());
        }
        if share_classes(labels, predicted) {
            return Ok(());
        }
        let lacks = |those: &[(&str, u64)], name: &str| !those.iter().any(|(known, _)| *known == name);
        let unshared = |these: &[(&str, u64)], those: &[(&str, u64)]| {
            these
                .iter()
                .map(|(name, _)| *name)
                .find(|name| lacks(those, name))
                .map(|name| driftsweep_common::escape::for_display(name).into_owned())
        };
        // A list of classes can be the remedy only where one side has all classes of the other.
        let whole = match (unshared(labels, predicted), unshared(predicted, labels)) {
            (Some(name), None) => {
                format!("; if '{name}' is a class that the model never predicts, list all classes there")
            }
            (None, Some(name)) => {
                format!("; if '{name}' is a class that no label has yet, list all classes there")
            }
            _ => String::new(),
        };
        bad(
            side,
            format!(
                "are {}, but predictions '{}' are {}: they do not use the same classes, so no prediction can be \
                 evaluated; map labels to predictions with labels.classes, for example {{ {} }}; list text for a \
                 missing label in labels.missing{whole}",
                list(labels),
                self.labels.prediction.as_deref().unwrap_or_default(),
                list(predicted),
                example(labels)
            ),
        )
    }

    /// Whether it is certain which class scores, precision and recall are about.
    fn check_positive(&self, labels: &[(&str, u64)], predicted: &[(&str, u64)]) -> std::result::Result<(), String> {
        let all = || labels.iter().chain(predicted).map(|(name, _)| *name);
        let is = |wanted: &[&str]| all().all(|name| wanted.contains(&name));
        match &self.labels.positive {
            // For zero and one, booleans, and minus one and one, the positive class is clear.
            None if is(&["0", "1"]) || is(&["-1", "1"]) => Ok(()),
            None => Err(format!(
                "are {}, and it is not set which of them scores, precision and recall are about; set it with \
                 labels.positive",
                list(labels)
            )),
            Some(positive) => {
                let name = class(positive.clone());
                let name = self.labels.classes.as_ref().and_then(|classes| classes.get(&name)).unwrap_or(&name);
                let declared = self.labels.classes.as_ref().is_some_and(|c| c.values().any(|known| known == name));
                // With a single class so far, a rare class may not have occurred yet.
                if declared || labels.len() < 2 || all().any(|known| known == name) {
                    Ok(())
                } else {
                    Err(format!(
                        "are {}, never '{}'; set the class that scores are about with labels.positive",
                        list(labels),
                        driftsweep_common::escape::for_display(positive)
                    ))
                }
            }
        }
    }

    /// Whether the labels of the snapshot by which scores are calibrated hold the class that scores are about.
    ///
    /// # Errors
    /// The reason.
    pub fn check_reference(&self) -> std::result::Result<(), String> {
        let labels = self.found(ValueSource::Label);
        if self.measured[ValueSource::Label as usize].1 {
            return Err("the labels of the reference snapshot are measured numbers".into());
        }
        if self.names.len() > MAX_CLASSES {
            return Err(format!("the labels of the reference snapshot have more than {MAX_CLASSES} different values"));
        }
        self.check_positive(&labels, &[]).map_err(|reason| format!("the labels of the reference snapshot {reason}"))
    }
}

/// Whether labels and predictions name the same classes, as far as can be told. Either side may have seen only one of
/// two classes. Otherwise each must have those of the other: a third class besides two usually means "unknown" or
/// another vocabulary. Of many classes rare ones may be missing.
fn share_classes(labels: &[(&str, u64)], predicted: &[(&str, u64)]) -> bool {
    if labels.is_empty() || predicted.is_empty() {
        return true;
    }
    let unshared_share = |these: &[(&str, u64)], those: &[(&str, u64)]| {
        let all: u64 = these.iter().map(|(_, rows)| rows).sum();
        let unshared_share = these.iter().filter(|(name, _)| !those.iter().any(|(known, _)| known == name));
        unshared_share.map(|(_, rows)| rows).sum::<u64>() as f64 / all as f64
    };
    let (of_labels, of_predictions) = (unshared_share(labels, predicted), unshared_share(predicted, labels));
    let all: BTreeSet<&str> = labels.iter().chain(predicted).map(|(name, _)| *name).collect();
    // A model that is always wrong predicts one class while the labels have the other.
    let usual = |two: [&str; 2]| all.iter().all(|name| two.contains(name));
    let one_of_two = all.len() <= 2 && (of_labels == 0.0 || of_predictions == 0.0);
    (of_labels == 0.0 && of_predictions == 0.0)
        || one_of_two
        || usual(["0", "1"])
        || usual(["-1", "1"])
        || (labels.len() > 2 && predicted.len() > 2 && of_labels < UNSHARED_LIMIT && of_predictions < UNSHARED_LIMIT)
}

/// Names in quotes, so that spaces are visible.
fn list(classes: &[(&str, u64)]) -> String {
    let quoted = |(name, _): &(&str, u64)| format!("'{}'", driftsweep_common::escape::for_display(name));
    let (first, more) = classes.split_at(classes.len().min(5));
    match (&first.iter().map(quoted).collect::<Vec<_>>()[..], more.len()) {
        ([], _) => "nothing".into(),
        ([only], 0) => only.clone(),
        ([before @ .., last], 0) => format!("{} and {last}", before.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

/// An example of `labels.classes`: the user must fill in the matching predictions.
fn example(labels: &[(&str, u64)]) -> String {
    let pair = |(name, _): &(&str, u64)| format!("\"{}\" = …", name.escape_debug());
    labels.iter().take(3).map(pair).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn labels() -> Labels {
        Labels { label: "y".into(), prediction: Some("p".into()), ..Labels::default() }
    }

    fn checked(
        labels: &Labels,
        truths: &[RowValue<'_>],
        predicted: &[RowValue<'_>],
        positive: bool,
    ) -> std::result::Result<(), String> {
        let mut classes = Classes::new(labels, false);
        for (side, values) in [(ValueSource::Label, truths), (ValueSource::Prediction, predicted)] {
            for &value in values {
                let truth = classes.truth(side, value);
                classes.judged(side, truth);
            }
        }
        classes.check(positive).map_err(|e| e.to_string())
    }

    #[test]
    fn the_same_class_has_one_code_whatever_it_is_stored_as() {
        let labels = labels();
        let mut classes = Classes::new(&labels, false);
        let one = classes.truth(ValueSource::Label, RowValue::Integer(1));
        for same in [
            RowValue::Flag(true),
            RowValue::Number(1.0),
            RowValue::Text("1"),
            RowValue::Text("True"),
            RowValue::Text("1.0"),
        ] {
            assert_eq!(classes.truth(ValueSource::Prediction, same), one, "{same:?}");
        }
        assert_ne!(classes.truth(ValueSource::Prediction, RowValue::Flag(false)), one);
        for missing in [
            RowValue::Missing,
            RowValue::Text(""),
            RowValue::Text(" NA "),
            RowValue::Text("nan"),
            RowValue::Text("NULL"),
            RowValue::Text("\\N"),
            RowValue::Text("None"),
        ] {
            assert_eq!(classes.truth(ValueSource::Label, missing), ClassCode::MISSING, "{missing:?}");
        }
        for kept in [RowValue::Text("none"), RowValue::Text("Namibia"), RowValue::Text("0")] {
            assert_ne!(classes.truth(ValueSource::Label, kept), ClassCode::MISSING, "{kept:?}");
        }
    }

    #[test]
    fn vocabularies_that_do_not_meet_are_refused_and_those_that_may_are_not() {
        let (zero, one, two, minus) =
            (RowValue::Integer(0), RowValue::Integer(1), RowValue::Integer(2), RowValue::Integer(-1));
        let (yes, no) = (RowValue::Text("yes"), RowValue::Text("no"));
        let (t, f) = (RowValue::Flag(true), RowValue::Flag(false));
        let plain = labels();
        for (truths, predicted, wanted) in [
            // Two vocabularies, wholly or in part, and when only one class has been seen so far.
            (vec![yes, no], vec![zero, one], false),
            (vec![yes], vec![zero, one], false),
            (vec![no], vec![one], false),
            (vec![one, minus], vec![zero, one], false),
            (vec![minus], vec![zero], false),
            (vec![one, two], vec![zero, one], false),
            (vec![two], vec![zero, one], false),
            (vec![yes, no], vec![t, f], false),
            (vec![RowValue::Text("Yes")], vec![yes, no], false),
            (vec![RowValue::Text("yes ")], vec![yes, no], false),
            // A third class beside two: a second vocabulary, or a word for "not known".
            (vec![zero, one, yes, no], vec![zero, one], false),
            (vec![zero, one, RowValue::Text("pending")], vec![zero, one], false),
            (vec![minus, zero, one], vec![zero, one], false),
            (vec![zero, one], vec![minus, zero, one], false),
            (
                vec![RowValue::Text("a"), RowValue::Text("b"), RowValue::Text("c")],
                vec![RowValue::Text("a"), RowValue::Text("b")],
                false,
            ),
            // One vocabulary, of which a side lacks a class, or a model that is always wrong.
            (vec![one, zero], vec![t, f], true),
            (vec![one], vec![zero], true),
            (vec![minus], vec![one], true),
            (vec![yes], vec![yes, no], true),
            (vec![yes, no], vec![no], true),
            (vec![], vec![one], true),
            (vec![one], vec![], true),
        ] {
            let found = checked(&plain, &truths, &predicted, false);
            assert_eq!(found.is_ok(), wanted, "{truths:?} {predicted:?} {found:?}");
            if let Err(text) = found {
                assert!(text.contains("labels.classes") && text.contains("'p'"), "{text}");
                // A list is no remedy where each side has words of its own.
                let own =
                    |these: &[RowValue<'_>], those: &[RowValue<'_>]| these.iter().any(|value| !those.contains(value));
                if own(&truths, &predicted) && own(&predicted, &truths) {
                    assert!(!text.contains("list all"), "{text}");
                }
            }
        }
    }

    #[test]
    fn rare_classes_of_many_may_be_missing_on_both_sides_but_not_common_ones() {
        let names: Vec<String> = (0..50).map(|i| format!("c{i}")).collect();
        let side = |skip: usize, rows: usize| {
            let mut all = Vec::new();
            for (i, name) in names.iter().enumerate().filter(|(i, _)| *i != skip) {
                all.extend(std::iter::repeat_n(RowValue::Text(name), if i < 2 { 1 } else { rows }));
            }
            all
        };
        assert!(checked(&labels(), &side(0, 100), &side(1, 100), false).is_ok());
        let few =
            |skip: &str| names.iter().filter(|n| *n != skip).map(|n| RowValue::Text(n)).take(6).collect::<Vec<_>>();
        assert!(checked(&labels(), &few("c0"), &few("c1"), false).is_err());
    }

    #[test]
    fn declared_classes_translate_labels_and_refuse_others() {
        let table = BTreeMap::from([("yes", "1"), ("no", "0")]);
        let classes = table.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let declared = Labels { classes: Some(classes), ..labels() };
        let (yes, no, zero, one) =
            (RowValue::Text("yes"), RowValue::Text("no"), RowValue::Integer(0), RowValue::Integer(1));
        assert!(checked(&declared, &[yes, no], &[zero, one], true).is_ok());
        assert!(checked(&declared, &[yes, RowValue::Text("maybe")], &[one], false).unwrap_err().contains("'maybe'"));
        assert!(checked(&declared, &[yes], &[RowValue::Integer(2)], false).unwrap_err().contains("'2'"));
        let mut classes = Classes::new(&declared, false);
        assert_eq!(classes.truth(ValueSource::Label, yes), classes.truth(ValueSource::Prediction, one));
        // What scores are about is what predictions call 1, whatever label has that name.
        let swapped = [("2", "1"), ("1", "0")].map(|(a, b)| (a.to_owned(), b.to_owned())).into_iter().collect();
        let swapped = Labels { classes: Some(swapped), ..labels() };
        let mut classes = Classes::new(&swapped, false);
        assert_eq!(classes.positive(), classes.truth(ValueSource::Label, RowValue::Integer(2)));
    }

    #[test]
    fn the_class_that_scores_are_about_must_be_certain() {
        let (yes, no) = (RowValue::Text("yes"), RowValue::Text("no"));
        let (zero, one, two) = (RowValue::Integer(0), RowValue::Integer(1), RowValue::Integer(2));
        let named = |name: &str| Labels { positive: Some(name.into()), prediction: None, ..labels() };
        let unnamed = Labels { prediction: None, ..labels() };
        for (labels, truths, wanted) in [
            (&unnamed, vec![zero, one], true),
            (&unnamed, vec![zero], true),
            (&unnamed, vec![RowValue::Integer(-1), one], true),
            (&unnamed, vec![yes, no], false),
            (&unnamed, vec![no], false),
            (&unnamed, vec![one, two], false),
            (&named("yes"), vec![yes, no], true),
            (&named("yes"), vec![no], true),
            (&named("2"), vec![one, two], true),
            (&named("y"), vec![yes, no], false),
            (&named("true"), vec![zero, one], true),
        ] {
            let found = checked(labels, &truths, &[], true);
            assert_eq!(found.is_ok(), wanted, "{truths:?} {:?} {found:?}", labels.positive);
        }
    }

    #[test]
    fn numbers_are_no_classes_and_text_is_no_number() {
        let half = RowValue::Number(0.5);
        assert!(checked(&labels(), &[half], &[half], false).unwrap_err().contains("mae or rmse"));
        assert!(checked(&labels(), &[RowValue::Integer(1)], &[half], false).unwrap_err().contains("labels.score"));
        let labels = labels();
        let mut classes = Classes::new(&labels, true);
        assert_eq!(classes.truth(ValueSource::Label, RowValue::Text(" 12.5")).number(), 12.5);
        assert!(classes.check(false).is_ok());
        let wrong = classes.truth(ValueSource::Label, RowValue::Text("12,5"));
        assert!(classes.check(false).is_ok(), "not judged yet");
        assert_eq!(classes.judged(ValueSource::Label, wrong), ClassCode::MISSING);
        assert!(classes.check(false).unwrap_err().to_string().contains("'12,5'"));
        let many: Vec<String> = (0..=MAX_CLASSES + 5).map(|i| i.to_string()).collect();
        let mut classes = Classes::new(&labels, false);
        for text in &many {
            classes.truth(ValueSource::Label, RowValue::Text(text));
        }
        assert!(classes.check(false).unwrap_err().to_string().contains("not classes"));
    }
}
