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
    /// Text where numbers are judged.
    const WRONG: Self = Self(u64::MAX - 2);

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
    /// In the column that stands in for missing labels.
    Proxy,
}

const SIDES: usize = 3;

/// Codes of classes, the same for the same class on both sides, with the rows of each.
pub struct Classes<'a> {
    labels: &'a Labels,
    /// Whether numbers are judged; then there are no classes.
    of_numbers: bool,
    /// What text and integers as they stand in the data mean, by side.
    texts: [HashMap<String, Truth>; SIDES],
    integers: [HashMap<i128, Truth>; SIDES],
    codes: HashMap<String, usize>,
    names: Vec<String>,
    /// Rows that are judged, by side and class.
    rows: [Vec<u64>; SIDES],
    /// Numbers with a fraction by side: the first, and whether such a row is judged.
    measured: [(Option<f64>, bool); SIDES],
    /// Text where numbers are judged: the first by side, and whether such a row is judged.
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

    /// What a value says.
    pub fn truth(&mut self, side: Side, value: Value<'_>) -> Truth {
        if self.of_numbers { self.number(side, value) } else { self.class_of(side, value) }
    }

    /// Counts a row that is judged: the vocabulary of a side is what its rows say. What it says, as far as it makes sense.
    pub fn judged(&mut self, side: Side, truth: Truth) -> Truth {
        match truth {
            Truth::MISSING => truth,
            Truth::WRONG => {
                self.wrong[side as usize].1 = true;
                Truth::MISSING
            }
            Truth::MEASURED => {
                self.measured[side as usize].1 = true;
                truth
            }
            _ if self.of_numbers => truth,
            Truth(class) => {
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

    fn number(&mut self, side: Side, value: Value<'_>) -> Truth {
        match value {
            Value::Missing => Truth::MISSING,
            Value::Text(text) if self.labels.missing.has(text) => Truth::MISSING,
            Value::Text(text) => match text.trim().parse::<f64>() {
                Ok(number) if !number.is_nan() => Truth::of(number),
                _ => {
                    self.wrong[side as usize].0.get_or_insert_with(|| text.to_owned());
                    Truth::WRONG
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
                    let missing = self.labels.missing.has(text);
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
                self.measured[side as usize].0.get_or_insert(x);
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
            (Some(classes), Side::Label | Side::Proxy) => classes.get(&plain).cloned().unwrap_or(plain),
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
        match self.labels.positive.clone() {
            Some(positive) => self.code(Side::Label, positive),
            // Which is what predictions say, in whatever words labels do.
            None => self.code(Side::Prediction, "1".into()),
        }
    }

    /// How many classes either side has.
    pub fn count(&self) -> usize {
        let has = |class: usize| self.rows.iter().any(|rows| rows.get(class).is_some_and(|&rows| rows > 0));
        (0..self.names.len()).filter(|&class| has(class)).count()
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
        [Side::Label, Side::Prediction, Side::Proxy].into_iter().try_for_each(|side| self.check_values(side))?;
        if self.of_numbers {
            return Ok(());
        }
        let bad = |reason: String| Err(Error::BadValue { what: self.column(Side::Label), reason });
        if self.names.len() > MOST {
            return bad(format!("have more than {MOST} different values with the predictions: they are no classes"));
        }
        let said = self.found(Side::Prediction);
        for side in [Side::Label, Side::Proxy] {
            self.check_meet(side, &self.found(side), &said)?;
        }
        match needs_positive {
            true => self.check_positive(&self.found(Side::Label), &said).or_else(bad),
            false => Ok(()),
        }
    }

    /// A column, for messages.
    fn column(&self, side: Side) -> String {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        match side {
            Side::Label => format!("labels '{}'", self.labels.label),
            Side::Prediction => format!("predictions '{}'", name(&self.labels.prediction)),
            Side::Proxy => format!("labels.proxy '{}'", name(&self.labels.proxy)),
        }
    }

    /// Whether the values of a side are what the measure is about.
    fn check_values(&self, side: Side) -> Result<()> {
        let bad = |reason: String| Err(Error::BadValue { what: self.column(side), reason });
        if let (Some(text), true) = &self.wrong[side as usize] {
            return bad(format!(
                "hold text such as '{}', but errors of numbers are judged (trigger.performance.metric); correct the column, \
                 or list the text in labels.missing if it stands for a missing value",
                crate::escape::shown(text)
            ));
        }
        match self.measured[side as usize] {
            (Some(x), true) if side == Side::Prediction => bad(format!(
                "are numbers with a fraction such as {x}, not classes; name a column of probabilities with labels.score"
            )),
            (Some(x), true) => bad(format!(
                "are measured numbers such as {x}, not classes; set trigger.performance.metric to mae or rmse"
            )),
            _ => Ok(()),
        }
    }

    /// Whether labels, or what stands in for them, name the classes of the predictions.
    fn check_meet(&self, side: Side, labels: &[(&str, u64)], said: &[(&str, u64)]) -> Result<()> {
        let bad = |side: Side, reason: String| Err(Error::BadValue { what: self.column(side), reason });
        if let Some(classes) = &self.labels.classes {
            for (side, found) in [(side, labels), (Side::Prediction, said)] {
                let Some((name, rows)) = found.iter().find(|(name, _)| !classes.values().any(|known| known == name))
                else {
                    continue;
                };
                let known: BTreeSet<&str> = classes.values().map(String::as_str).collect();
                let known = list(&known.into_iter().map(|name| (name, 0)).collect::<Vec<_>>());
                return bad(
                    side,
                    format!(
                        "are '{}' in {rows} rows, which labels.classes does not list (as predictions have it: {known}); \
                         add it there, or to labels.missing",
                        crate::escape::shown(name)
                    ),
                );
            }
            return Ok(());
        }
        if meet(labels, said) {
            return Ok(());
        }
        let lacks = |those: &[(&str, u64)], name: &str| !those.iter().any(|(known, _)| *known == name);
        let stranger = |these: &[(&str, u64)], those: &[(&str, u64)]| {
            these
                .iter()
                .map(|(name, _)| *name)
                .find(|name| lacks(those, name))
                .map(|name| crate::escape::shown(name).into_owned())
        };
        // Only where one side has all classes of the other may a list of them be the remedy.
        let whole = match (stranger(labels, said), stranger(said, labels)) {
            (Some(name), None) => {
                format!("; if '{name}' is a class that the model just never predicts, list all classes there")
            }
            (None, Some(name)) => {
                format!("; if '{name}' is a class that just no label has yet, list all classes there")
            }
            _ => String::new(),
        };
        bad(
            side,
            format!(
                "are {}, but predictions '{}' are {}: they do not name the same classes, so no prediction can be judged; say \
                 which label is which prediction with labels.classes, for example {{ {} }}; text that stands for a missing \
                 label belongs into labels.missing{whole}",
                list(labels),
                self.labels.prediction.as_deref().unwrap_or_default(),
                list(said),
                example(labels)
            ),
        )
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
                        crate::escape::shown(positive)
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
        if self.measured[Side::Label as usize].1 {
            return Err("the labels of the reference snapshot are measured numbers".into());
        }
        if self.names.len() > MOST {
            return Err(format!("the labels of the reference snapshot have more than {MOST} different values"));
        }
        self.check_positive(&labels, &[]).map_err(|reason| format!("the labels of the reference snapshot {reason}"))
    }
}

/// Whether labels and predictions name the same classes, as far as can be told. Either side may have seen only one of two
/// classes. Otherwise each must have those of the other: a third class beside two is a word for "not known" or another
/// vocabulary as a rule. Of many classes rare ones may be missing.
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
    let all: BTreeSet<&str> = labels.iter().chain(said).map(|(name, _)| *name).collect();
    // A model that is always wrong says one class and sees the other.
    let usual = |two: [&str; 2]| all.iter().all(|name| two.contains(name));
    let one_of_two = all.len() <= 2 && (of_labels == 0.0 || of_said == 0.0);
    (of_labels == 0.0 && of_said == 0.0)
        || one_of_two
        || usual(["0", "1"])
        || usual(["-1", "1"])
        || (labels.len() > 2 && said.len() > 2 && of_labels < STRANGERS && of_said < STRANGERS)
}

/// Names in quotes, so that blanks are seen.
fn list(classes: &[(&str, u64)]) -> String {
    let quoted = |(name, _): &(&str, u64)| format!("'{}'", crate::escape::shown(name));
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
        let one = classes.truth(Side::Label, Value::Integer(1));
        for same in [Value::Flag(true), Value::Number(1.0), Value::Text("1"), Value::Text("True"), Value::Text("1.0")] {
            assert_eq!(classes.truth(Side::Prediction, same), one, "{same:?}");
        }
        assert_ne!(classes.truth(Side::Prediction, Value::Flag(false)), one);
        for missing in [
            Value::Missing,
            Value::Text(""),
            Value::Text(" NA "),
            Value::Text("nan"),
            Value::Text("NULL"),
            Value::Text("\\N"),
            Value::Text("None"),
        ] {
            assert_eq!(classes.truth(Side::Label, missing), Truth::MISSING, "{missing:?}");
        }
        for kept in [Value::Text("none"), Value::Text("Namibia"), Value::Text("0")] {
            assert_ne!(classes.truth(Side::Label, kept), Truth::MISSING, "{kept:?}");
        }
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
            // A third class beside two: a second vocabulary, or a word for "not known".
            (vec![zero, one, yes, no], vec![zero, one], false),
            (vec![zero, one, Value::Text("pending")], vec![zero, one], false),
            (vec![minus, zero, one], vec![zero, one], false),
            (vec![zero, one], vec![minus, zero, one], false),
            (
                vec![Value::Text("a"), Value::Text("b"), Value::Text("c")],
                vec![Value::Text("a"), Value::Text("b")],
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
            let found = checked(&plain, &truths, &said, false);
            assert_eq!(found.is_ok(), wanted, "{truths:?} {said:?} {found:?}");
            if let Err(text) = found {
                assert!(text.contains("labels.classes") && text.contains("'p'"), "{text}");
                // A list is no remedy where each side has words of its own.
                let own = |these: &[Value<'_>], those: &[Value<'_>]| these.iter().any(|value| !those.contains(value));
                if own(&truths, &said) && own(&said, &truths) {
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
                all.extend(std::iter::repeat_n(Value::Text(name), if i < 2 { 1 } else { rows }));
            }
            all
        };
        assert!(checked(&labels(), &side(0, 100), &side(1, 100), false).is_ok());
        let few = |skip: &str| names.iter().filter(|n| *n != skip).map(|n| Value::Text(n)).take(6).collect::<Vec<_>>();
        assert!(checked(&labels(), &few("c0"), &few("c1"), false).is_err());
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
        // What scores are about is what predictions call 1, whatever label has that name.
        let swapped = [("2", "1"), ("1", "0")].map(|(a, b)| (a.to_owned(), b.to_owned())).into_iter().collect();
        let swapped = Labels { classes: Some(swapped), ..labels() };
        let mut classes = Classes::new(&swapped, false);
        assert_eq!(classes.positive(), classes.truth(Side::Label, Value::Integer(2)));
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
        let wrong = classes.truth(Side::Label, Value::Text("12,5"));
        assert!(classes.check(false).is_ok(), "not judged yet");
        assert_eq!(classes.judged(Side::Label, wrong), Truth::MISSING);
        assert!(classes.check(false).unwrap_err().to_string().contains("'12,5'"));
        let many: Vec<String> = (0..=MOST + 5).map(|i| i.to_string()).collect();
        let mut classes = Classes::new(&labels, false);
        for text in &many {
            classes.truth(Side::Label, Value::Text(text));
        }
        assert!(classes.check(false).unwrap_err().to_string().contains("no classes"));
    }
}
