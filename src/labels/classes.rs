//! The classes that labels and predictions name, and whether both name the same ones.

use std::collections::{BTreeSet, HashMap};

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::fleet::{Labels, class};
use crate::snapshot::Value;

/// More distinct classes than this on both sides together are numbers or identifiers, not classes.
const MOST: usize = 10_000;

/// Share of rows whose class the other side never has, from which on many classes count as two vocabularies.
const STRANGERS: f64 = 0.05;

/// What a label or a prediction says: the code of a class, or a number where numbers are judged; or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct Truth(u64);

impl Truth {
    /// No value.
    pub const MISSING: Self = Self(u64::MAX);
    /// A number with a fraction where classes are judged.
    const MEASURED: Self = Self(u64::MAX - 1);

    /// A class.
    pub fn class(code: usize) -> Self {
        Self(code as u64)
    }

    /// A number, which is not NaN.
    fn of(number: f64) -> Self {
        // Zero has two patterns of bits.
        Self((number + 0.0).to_bits())
    }

    /// The number, where numbers are judged.
    pub fn number(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// Itself unless it is missing.
    pub fn known(self) -> Option<Self> {
        (self != Self::MISSING).then_some(self)
    }
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the column of labels (or what stands in for them).
    Label,
    /// In the column of predictions.
    Prediction,
}

/// Codes of classes, the same for the same class on both sides, with the rows of each.
pub struct Classes<'a> {
    labels: &'a Labels,
    /// Whether numbers are judged; then there are no classes.
    of_numbers: bool,
    /// What text and integers as they stand in the data mean, by side.
    texts: [HashMap<String, Truth>; 2],
    integers: [HashMap<i128, Truth>; 2],
    codes: HashMap<String, usize>,
    names: Vec<String>,
    /// Rows by side and class.
    rows: [Vec<u64>; 2],
    /// The first number with a fraction by side.
    measured: [Option<f64>; 2],
    /// The first text where numbers are judged.
    wrong: Option<(Side, String)>,
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
            measured: [None; 2],
            wrong: None,
        }
    }

    /// What a value says. The row is counted.
    pub fn truth(&mut self, side: Side, value: Value<'_>) -> Truth {
        let truth = if self.of_numbers { self.number(side, value) } else { self.class_of(side, value) };
        if !self.of_numbers && truth < Truth::MEASURED {
            let rows = &mut self.rows[side as usize];
            let class = truth.0 as usize;
            if rows.len() <= class {
                rows.resize(class + 1, 0);
            }
            rows[class] += 1;
        }
        truth
    }

    fn number(&mut self, side: Side, value: Value<'_>) -> Truth {
        match value {
            Value::Missing => Truth::MISSING,
            Value::Text(text) if self.labels.is_missing(text) => Truth::MISSING,
            Value::Text(text) => match text.trim().parse::<f64>() {
                Ok(number) if !number.is_nan() => Truth::of(number),
                _ => {
                    self.wrong.get_or_insert_with(|| (side, text.to_owned()));
                    Truth::MISSING
                }
            },
            Value::Time(at) | Value::Day(at) => Truth::of(at as f64),
            number => number.number().map_or(Truth::MISSING, Truth::of),
        }
    }

    fn class_of(&mut self, side: Side, value: Value<'_>) -> Truth {
        match value {
            Value::Missing => Truth::MISSING,
            Value::Text(text) => match self.texts[side as usize].get(text) {
                Some(known) => *known,
                None => {
                    let missing = self.labels.is_missing(text);
                    let truth = if missing { Truth::MISSING } else { self.code(side, text.to_owned()) };
                    if self.texts[side as usize].len() <= MOST {
                        self.texts[side as usize].insert(text.to_owned(), truth);
                    }
                    truth
                }
            },
            Value::Integer(x) => match self.integers[side as usize].get(&x) {
                Some(known) => *known,
                None => {
                    let truth = self.code(side, x.to_string());
                    if self.integers[side as usize].len() <= MOST {
                        self.integers[side as usize].insert(x, truth);
                    }
                    truth
                }
            },
            Value::Number(x) if x.fract() != 0.0 || x.is_infinite() => {
                self.measured[side as usize].get_or_insert(x);
                Truth::MEASURED
            }
            Value::Number(x) => self.class_of(side, Value::Integer(x as i128)),
            Value::Flag(flag) => self.class_of(side, Value::Integer(flag.into())),
            Value::Time(at) | Value::Day(at) => self.class_of(side, Value::Integer(at.into())),
        }
    }

    /// The code of a class, after the labels' words were put into those of the predictions.
    fn code(&mut self, side: Side, text: String) -> Truth {
        let plain = class(text);
        let name = match (&self.labels.classes, side) {
            (Some(classes), Side::Label) => classes.get(&plain).cloned().unwrap_or(plain),
            _ => plain,
        };
        if let Some(&code) = self.codes.get(&name) {
            return Truth::class(code);
        }
        let code = self.names.len();
        // Beyond the limit all share the last code; the check refuses them.
        if code <= MOST {
            self.codes.insert(name.clone(), code);
            self.names.push(name);
        }
        Truth::class(code.min(MOST))
    }

    /// The code of the class that scores are about.
    pub fn positive(&mut self) -> Truth {
        let positive = self.labels.positive.clone().unwrap_or_else(|| "1".into());
        self.code(Side::Label, positive)
    }

    /// How many classes either side has.
    pub fn count(&self) -> usize {
        let of = |side: usize, class: usize| self.rows[side].get(class).is_some_and(|&rows| rows > 0);
        (0..self.names.len()).filter(|&class| of(0, class) || of(1, class)).count()
    }

    /// Classes of a side with their rows, the most frequent first.
    fn found(&self, side: Side) -> Vec<(&str, u64)> {
        let rows = self.names.iter().map(String::as_str).zip(self.rows[side as usize].iter().copied());
        let mut found: Vec<(&str, u64)> = rows.filter(|(_, rows)| *rows > 0).collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        found
    }

    /// Whether labels and predictions can be held against each other.
    ///
    /// # Errors
    /// [`Error::BadValue`] with both vocabularies and the remedy: where they do not meet, where numbers stand for
    /// classes or text for numbers, and where the class that is needed is not named.
    pub fn check(&self, needs_positive: bool) -> Result<()> {
        let column = |side: Side| match side {
            Side::Label => format!("labels '{}'", self.labels.label),
            Side::Prediction => format!("predictions '{}'", self.labels.prediction.as_deref().unwrap_or_default()),
        };
        let bad = |side: Side, reason: String| Err(Error::BadValue { what: column(side), reason });
        if let Some((side, text)) = &self.wrong {
            let text = text.escape_debug();
            return bad(
                *side,
                format!(
                    "hold text such as '{text}', but errors of numbers are judged (trigger.performance.metric); correct \
                     the column, or list the text in labels.missing if it stands for a missing value"
                ),
            );
        }
        if self.of_numbers {
            return Ok(());
        }
        if let Some(x) = self.measured[Side::Label as usize] {
            let reason =
                format!("are measured numbers such as {x}, not classes; set trigger.performance.metric to mae or rmse");
            return bad(Side::Label, reason);
        }
        if let Some(x) = self.measured[Side::Prediction as usize] {
            let reason = format!(
                "are numbers with a fraction such as {x}, not classes; name a column of probabilities with labels.score"
            );
            return bad(Side::Prediction, reason);
        }
        if self.names.len() > MOST {
            let reason = format!("have more than {MOST} different values with the predictions: they are no classes");
            return bad(Side::Label, reason);
        }
        let (labels, said) = (self.found(Side::Label), self.found(Side::Prediction));
        if let Some(classes) = &self.labels.classes {
            let undeclared = |side: Side, found: &[(&str, u64)]| {
                let stranger = found.iter().find(|(name, _)| !classes.values().any(|known| known == name));
                stranger.map(|(name, rows)| {
                    let known: BTreeSet<&str> = classes.values().map(String::as_str).collect();
                    let known = list(&known.into_iter().map(|name| (name, 0)).collect::<Vec<_>>());
                    let reason = format!(
                        "are '{}' in {rows} rows, which labels.classes does not list (as predictions have it: {known}); \
                         add it there, or to labels.missing",
                        name.escape_debug()
                    );
                    bad(side, reason)
                })
            };
            if let Some(error) = undeclared(Side::Label, &labels).or_else(|| undeclared(Side::Prediction, &said)) {
                return error;
            }
        } else if !said.is_empty() && !meet(&labels, &said) {
            let reason = format!(
                "are {}, but predictions '{}' are {}: they do not name the same classes, so no prediction can be \
                 judged; say which label is which prediction with labels.classes, for example {{ {} }}",
                list(&labels),
                self.labels.prediction.as_deref().unwrap_or_default(),
                list(&said),
                example(&labels)
            );
            return bad(Side::Label, reason);
        }
        if needs_positive {
            self.check_positive(&labels, &said).or_else(|reason| bad(Side::Label, reason))?;
        }
        Ok(())
    }

    /// Whether it is certain which class scores, precision and recall are about.
    fn check_positive(&self, labels: &[(&str, u64)], said: &[(&str, u64)]) -> std::result::Result<(), String> {
        let all = || labels.iter().chain(said).map(|(name, _)| *name);
        let is = |wanted: &[&str]| all().all(|name| wanted.contains(&name));
        match &self.labels.positive {
            // Zero and one, flags, and minus one and one: everybody means the one.
            None if is(&["0", "1"]) || is(&["-1", "1"]) => Ok(()),
            None => Err(format!(
                "are {}, and nothing says which of them scores, precision and recall are about; name it with \
                 labels.positive",
                list(labels)
            )),
            Some(positive) => {
                let name = class(positive.clone());
                let name = self.labels.classes.as_ref().and_then(|classes| classes.get(&name)).unwrap_or(&name);
                let declared = self.labels.classes.as_ref().is_some_and(|c| c.values().any(|known| known == name));
                // A rare class may not have come yet where there is one other.
                if declared || labels.len() < 2 || all().any(|known| known == name) {
                    Ok(())
                } else {
                    Err(format!(
                        "are {}, never '{}'; name the one that scores are about with labels.positive",
                        list(labels),
                        positive.escape_debug()
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
        let labels = self.found(Side::Label);
        if self.measured[Side::Label as usize].is_some() {
            return Err("the labels of the reference snapshot are measured numbers".into());
        }
        if self.names.len() > MOST {
            return Err(format!("the labels of the reference snapshot have more than {MOST} different values"));
        }
        self.check_positive(&labels, &[]).map_err(|reason| format!("the labels of the reference snapshot {reason}"))
    }
}

/// Whether labels and predictions name the same classes, as far as can be told. With one or two classes a side, each
/// side may lack classes of the other, but both may not; with more, rare ones may be missing on both.
fn meet(labels: &[(&str, u64)], said: &[(&str, u64)]) -> bool {
    if labels.is_empty() || said.is_empty() {
        return true;
    }
    let strange = |these: &[(&str, u64)], those: &[(&str, u64)]| {
        let all: u64 = these.iter().map(|(_, rows)| rows).sum();
        let strange = these.iter().filter(|(name, _)| !those.iter().any(|(known, _)| known == name));
        strange.map(|(_, rows)| rows).sum::<u64>() as f64 / all as f64
    };
    let (of_labels, of_said) = (strange(labels, said), strange(said, labels));
    if of_labels == 0.0 || of_said == 0.0 {
        return true;
    }
    // A model that is always wrong says one class and sees the other.
    let all = || labels.iter().chain(said).map(|(name, _)| *name);
    if all().all(|name| ["0", "1"].contains(&name)) || all().all(|name| ["-1", "1"].contains(&name)) {
        return true;
    }
    labels.len() > 2 && said.len() > 2 && of_labels < STRANGERS && of_said < STRANGERS
}

/// Names in quotes, so that blanks are seen.
fn list(classes: &[(&str, u64)]) -> String {
    let quoted = |(name, _): &(&str, u64)| format!("'{}'", name.escape_debug());
    let (first, more) = classes.split_at(classes.len().min(5));
    match (&first.iter().map(quoted).collect::<Vec<_>>()[..], more.len()) {
        ([], _) => "nothing".into(),
        ([only], 0) => only.clone(),
        ([before @ .., last], 0) => format!("{} and {last}", before.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

/// How `labels.classes` would be written: which label is which prediction is for the user to say.
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
        truths: &[Value<'_>],
        said: &[Value<'_>],
        positive: bool,
    ) -> std::result::Result<(), String> {
        let mut classes = Classes::new(labels, false);
        for (side, values) in [(Side::Label, truths), (Side::Prediction, said)] {
            for &value in values {
                classes.truth(side, value);
            }
        }
        classes.check(positive).map_err(|e| e.to_string())
    }

    #[test]
    fn the_same_class_has_one_code_whatever_it_is_stored_as() {
        let labels = labels();
        let mut classes = Classes::new(&labels, false);
        let one = classes.truth(Side::Label, Value::Integer(1));
        for same in [Value::Flag(true), Value::Number(1.0), Value::Text("1"), Value::Text("True"), Value::Text("1.0")] {
            assert_eq!(classes.truth(Side::Prediction, same), one, "{same:?}");
        }
        assert_ne!(classes.truth(Side::Prediction, Value::Flag(false)), one);
        for missing in [Value::Missing, Value::Text(""), Value::Text(" NA "), Value::Text("nan"), Value::Text("NULL")] {
            assert_eq!(classes.truth(Side::Label, missing), Truth::MISSING, "{missing:?}");
        }
        assert_eq!(classes.count(), 2);
    }

    #[test]
    fn vocabularies_that_do_not_meet_are_refused_and_those_that_may_are_not() {
        let (zero, one, two, minus) = (Value::Integer(0), Value::Integer(1), Value::Integer(2), Value::Integer(-1));
        let (yes, no) = (Value::Text("yes"), Value::Text("no"));
        let (t, f) = (Value::Flag(true), Value::Flag(false));
        let plain = labels();
        for (truths, said, wanted) in [
            // Two vocabularies, wholly or in part, and when only one class has been seen so far.
            (vec![yes, no], vec![zero, one], false),
            (vec![yes], vec![zero, one], false),
            (vec![no], vec![one], false),
            (vec![one, minus], vec![zero, one], false),
            (vec![minus], vec![zero], false),
            (vec![one, two], vec![zero, one], false),
            (vec![two], vec![zero, one], false),
            (vec![yes, no], vec![t, f], false),
            (vec![Value::Text("Yes")], vec![yes, no], false),
            (vec![Value::Text("yes ")], vec![yes, no], false),
            // One vocabulary, of which a side lacks a class, or a model that is always wrong.
            (vec![one, zero], vec![t, f], true),
            (vec![one], vec![zero], true),
            (vec![minus], vec![one], true),
            (vec![yes], vec![yes, no], true),
            (vec![yes, no], vec![no], true),
            (
                vec![Value::Text("a"), Value::Text("b"), Value::Text("c")],
                vec![Value::Text("a"), Value::Text("b")],
                true,
            ),
            (vec![], vec![one], true),
            (vec![one], vec![], true),
        ] {
            let found = checked(&plain, &truths, &said, false);
            assert_eq!(found.is_ok(), wanted, "{truths:?} {said:?} {found:?}");
            if let Err(text) = found {
                assert!(text.contains("labels.classes") && text.contains("'p'"), "{text}");
            }
        }
    }

    #[test]
    fn rare_classes_of_many_may_be_missing_on_both_sides_but_not_common_ones() {
        let names: Vec<String> = (0..50).map(|i| format!("c{i}")).collect();
        let side = |skip: usize, rows: usize| {
            let mut all = Vec::new();
            for (i, name) in names.iter().enumerate().filter(|(i, _)| *i != skip) {
                all.extend(std::iter::repeat_n(Value::Text(name), if i < 2 { 1 } else { rows }));
            }
            all
        };
        assert!(checked(&labels(), &side(0, 100), &side(1, 100), false).is_ok());
        let common =
            |skip: &str| names.iter().filter(|n| *n != skip).map(|n| Value::Text(n)).take(6).collect::<Vec<_>>();
        assert!(checked(&labels(), &common("c0"), &common("c1"), false).is_err());
    }

    #[test]
    fn declared_classes_translate_labels_and_refuse_others() {
        let table = BTreeMap::from([("yes", "1"), ("no", "0")]);
        let classes = table.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let declared = Labels { classes: Some(classes), ..labels() };
        let (yes, no, zero, one) = (Value::Text("yes"), Value::Text("no"), Value::Integer(0), Value::Integer(1));
        assert!(checked(&declared, &[yes, no], &[zero, one], true).is_ok());
        assert!(checked(&declared, &[yes, Value::Text("maybe")], &[one], false).unwrap_err().contains("'maybe'"));
        assert!(checked(&declared, &[yes], &[Value::Integer(2)], false).unwrap_err().contains("'2'"));
        let mut classes = Classes::new(&declared, false);
        assert_eq!(classes.truth(Side::Label, yes), classes.truth(Side::Prediction, one));
    }

    #[test]
    fn the_class_that_scores_are_about_must_be_certain() {
        let (yes, no) = (Value::Text("yes"), Value::Text("no"));
        let (zero, one, two) = (Value::Integer(0), Value::Integer(1), Value::Integer(2));
        let named = |name: &str| Labels { positive: Some(name.into()), prediction: None, ..labels() };
        let unnamed = Labels { prediction: None, ..labels() };
        for (labels, truths, wanted) in [
            (&unnamed, vec![zero, one], true),
            (&unnamed, vec![zero], true),
            (&unnamed, vec![Value::Integer(-1), one], true),
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
        let half = Value::Number(0.5);
        assert!(checked(&labels(), &[half], &[half], false).unwrap_err().contains("mae or rmse"));
        assert!(checked(&labels(), &[Value::Integer(1)], &[half], false).unwrap_err().contains("labels.score"));
        let labels = labels();
        let mut classes = Classes::new(&labels, true);
        assert_eq!(classes.truth(Side::Label, Value::Text(" 12.5")).number(), 12.5);
        assert!(classes.check(false).is_ok());
        assert_eq!(classes.truth(Side::Label, Value::Text("12,5")), Truth::MISSING);
        assert!(classes.check(false).unwrap_err().to_string().contains("'12,5'"));
        let many: Vec<String> = (0..=MOST + 5).map(|i| i.to_string()).collect();
        let mut classes = Classes::new(&labels, false);
        for text in &many {
            classes.truth(Side::Label, Value::Text(text));
        }
        assert!(classes.check(false).unwrap_err().to_string().contains("no classes"));
    }
}
