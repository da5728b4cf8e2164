//! Infers the roles of the columns of a new data set, each with the reason. A name is only a hint: a column is excluded
//! from the features where its values agree with the hint, and stays a feature, with a note, where they do not.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use jiff::civil::Date;
use rayon::prelude::*;
use strum::IntoStaticStr;
use xxhash_rust::xxh3::xxh3_64;

use driftsweep::model::is_pandas_index;
use driftsweep::snapshot::{Column, ColumnType, RowValue, Snapshot};

/// The role of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum InferredRole {
    /// An input of the model.
    Feature,
    /// Identifies a row.
    Identifier,
    /// A point in time.
    Time,
    /// The target that the model predicts.
    Label,
    /// The prediction of the model: a class or a number.
    Prediction,
    /// The prediction of the model: a probability.
    #[strum(to_string = "prediction (score)")]
    Score,
    /// Not in the current snapshot.
    #[strum(to_string = "not in the current snapshot")]
    Absent,
    /// Cannot be compared.
    #[strum(to_string = "not comparable")]
    Unsupported,
}

impl InferredRole {
    /// The name in the fleet file's comments.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A column with its inferred role.
#[derive(Clone, Debug)]
pub struct InferredColumn {
    /// The column.
    pub column: String,
    /// The inferred role.
    pub role: InferredRole,
    /// Why.
    pub reason: String,
    /// For a feature: its possible other role.
    pub doubt: Option<String>,
}

/// The inferred roles of the columns of a model.
#[derive(Clone, Debug)]
pub struct InferredColumns {
    /// Those of the baseline, in its order.
    pub columns: Vec<InferredColumn>,
    /// The columns for evaluating predictions, if there is one of each.
    pub labels: Option<LabelColumns>,
    /// Features of the current snapshot that the baseline lacks: they are not compared.
    pub new_features: Vec<String>,
}

/// Columns for `[model.labels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelColumns {
    /// The label; absent where no column looks like one, and a person has to fill it in.
    pub label: Option<String>,
    /// Whether the label is in a table of its own: the current snapshot lacks it.
    pub elsewhere: bool,
    /// Its classes, where they are few.
    pub classes: Vec<String>,
    /// The class that was predicted, or the number.
    pub prediction: Option<String>,
    /// The probability that was predicted.
    pub score: Option<String>,
    /// When it was predicted.
    pub time: String,
    /// The column that joins the two, if there is one.
    pub id: Option<String>,
}

// Names, in lower case, that say it by themselves, and words in longer names that hint at it.
const LABELS: [&str; 6] = ["label", "labels", "target", "y_true", "ground_truth", "true_label"];
const MAYBE_LABELS: [&str; 6] = ["y", "class", "outcome", "actual", "truth", "response"];
const LABEL_WORDS: [&str; 2] = ["label", "target"];
const PREDICTION_WORDS: [&str; 6] = ["pred", "preds", "predicted", "prediction", "predictions", "yhat"];
const SCORES: [&str; 6] = ["score", "scores", "proba", "prob", "probability", "y_score"];
const SCORE_WORDS: [&str; 5] = ["score", "scores", "proba", "prob", "probability"];
const IDENTIFIER_WORDS: [&str; 8] = ["id", "ids", "uuid", "guid", "key", "rowid", "index", "pk"];
const DAY_WORDS: [&str; 4] = ["date", "day", "dt", "ds"];

/// Rows that are looked at: the first ones.
pub const MAX_ROWS: u64 = 1 << 17;
/// A label with more values has no classes.
const MAX_CLASSES: usize = 20;
/// Fewer values are not enough to judge how many are distinct.
const MIN_VALUES: usize = 100;

/// Guesses the role of every column of the baseline; the current snapshot is checked for them. Both may be the
/// first rows only.
pub fn roles(baseline: &Snapshot, current: &Snapshot) -> InferredColumns {
    let guess = |column: &Column, snapshot: &Snapshot| ColumnEvidence {
        name: column.name.clone(),
        kind: column.kind.clone(),
        words: words(&column.name),
        here: current.find(&column.name).is_some(),
        facts: facts(snapshot, column),
    };
    let of_baseline: Vec<ColumnEvidence> =
        baseline.columns().par_iter().map(|column| guess(column, baseline)).collect();
    // Predictions are often made after the training, so that only the current snapshot has them.
    let new = current.columns().par_iter().filter(|column| baseline.find(&column.name).is_none());
    let of_current: Vec<ColumnEvidence> = new.map(|column| guess(column, current)).collect();

    let mut labels: Vec<(&ColumnEvidence, String)> =
        of_baseline.iter().chain(&of_current).filter_map(|e| Some((e, e.as_label()?))).collect();
    // What a prediction is named after: `price` where there is a `predicted_price`.
    if labels.is_empty() {
        let all = || of_baseline.iter().chain(&of_current);
        let named_after = |label: &ColumnEvidence| {
            all().find(|prediction| {
                prediction.has(&PREDICTION_WORDS) && prediction.words_but_prediction() == label.words
            })
        };
        labels.extend(all().filter(|label| label.facts.is_some()).filter_map(|label| {
            let name = driftsweep_common::escape::for_display(&named_after(label)?.name).into_owned();
            Some((label, format!("'{name}' predicts it, by its name")))
        }));
    }
    // A measured label has no typical name and no classes, but it arrives later, too.
    let mut missing = of_baseline.iter().filter(|e| !e.here && e.is_number());
    if let (true, Some(only), None) = (labels.is_empty(), missing.next(), missing.next()) {
        labels.push((only, "the only number that the current snapshot lacks: labels come later".into()));
    }
    let best = labels.iter().min_by_key(|(evidence, _)| evidence.label_rank()).map(|(evidence, _)| *evidence);
    let role = |evidence: &ColumnEvidence| {
        let label = labels.iter().find(|(label, _)| label.name == evidence.name).map(|(_, reason)| reason.clone());
        evidence.guess(label, best)
    };
    let columns: Vec<InferredColumn> = of_baseline.iter().map(&role).collect();
    let all: Vec<InferredColumn> = columns.iter().cloned().chain(of_current.iter().map(&role)).collect();
    let labels = label_columns(best, &all, current);
    let new = all[columns.len()..].iter().filter(|guess| guess.role == InferredRole::Feature);
    let new_features = new.map(|guess| guess.column.clone()).collect();
    InferredColumns { columns, labels, new_features }
}

/// Why the current snapshot seems to be older than the baseline, as when the two are swapped: its last time is before the
/// baseline's first. A few rows are enough to see that it is not.
pub fn older(baseline: &Snapshot, current: &Snapshot) -> Option<String> {
    let temporal = baseline.columns().iter().filter(|column| matches!(column.kind, ColumnType::Temporal(..)));
    temporal.into_iter().find_map(|column| {
        let of_current = current.find(&column.name)?;
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let each_time = |snapshot: &Snapshot, column: &Column, chunk, of: &mut dyn FnMut(i64)| {
            let found = snapshot.each_value_in(column, chunk, |value| {
                if let RowValue::Time(at) | RowValue::Day(at) = value {
                    of(at);
                }
            });
            found.ok()
        };
        for chunk in 0..baseline.chunks().max(current.chunks()) {
            if chunk < baseline.chunks() {
                each_time(baseline, column, chunk, &mut |at| first = first.min(at))?;
            }
            if chunk < current.chunks() {
                each_time(current, of_current, chunk, &mut |at| last = last.max(at))?;
            }
            if last >= first {
                return None;
            }
        }
        // Both have times.
        (first < i64::MAX && last > i64::MIN).then(|| {
            let day = |at: i64| {
                Timestamp::from_microsecond(at).map_or_else(|_| String::new(), |at| at.strftime("%F").to_string())
            };
            format!(
                "by '{}' the current data end on {}, before the baseline begins on {}; are the two swapped?",
                driftsweep_common::escape::for_display(&column.name),
                day(last),
                day(first)
            )
        })
    })
}

/// The columns for evaluating predictions, where there are predictions with a time.
fn label_columns(label: Option<&ColumnEvidence>, all: &[InferredColumn], current: &Snapshot) -> Option<LabelColumns> {
    let of = |role: InferredRole| {
        let found = all.iter().find(|guess| guess.role == role && current.find(&guess.column).is_some());
        found.map(|guess| guess.column.clone())
    };
    // Times of predictions may be text, too.
    let times = || all.iter().filter(|guess| guess.role == InferredRole::Time);
    let is_temporal = |guess: &&InferredColumn| {
        let kind = current.column(&guess.column).map(|column| &column.kind);
        matches!(kind, Ok(ColumnType::Temporal(..)))
    };
    let time = times().find(is_temporal).or_else(|| times().find(|guess| current.find(&guess.column).is_some()));
    let ids = all.iter().filter(|guess| guess.role == InferredRole::Identifier && !is_pandas_index(&guess.column));
    let id = ids.map(|guess| &guess.column).find(|column| current.find(column).is_some()).cloned();
    let (prediction, score) = (of(InferredRole::Prediction), of(InferredRole::Score));
    let here = label.is_some_and(|label| label.here);
    if (prediction.is_none() && score.is_none()) || (!here && id.is_none()) {
        return None;
    }
    Some(LabelColumns {
        label: label.map(|label| label.name.clone()),
        elsewhere: !here,
        classes: label.and_then(|label| label.facts.as_ref()).map(ValueFacts::few_classes).unwrap_or_default(),
        prediction,
        score,
        time: time?.column.clone(),
        id,
    })
}

/// The words of a name, in lower case: `customerId`, `customer_id` and `Customer ID` have the same two.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
        if begins {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What is known of a column.
struct ColumnEvidence {
    name: String,
    kind: ColumnType,
    words: Vec<String>,
    /// Whether the current snapshot has it.
    here: bool,
    /// Absent where it cannot be read value by value.
    facts: Option<ValueFacts>,
}

/// What its values are.
#[derive(Default)]
struct ValueFacts {
    /// Values that are not missing.
    values: usize,
    /// Different ones.
    distinct: usize,
    /// The different ones as text, while there are few.
    classes: BTreeSet<String>,
    /// Numbers: the smallest and the largest, and whether all are whole.
    range: Option<(f64, f64)>,
    whole: bool,
    /// Numbers: whether each is larger than the one before.
    increasing: bool,
    /// Texts and whole numbers: whether each is written as a day.
    days: bool,
}

fn facts(snapshot: &Snapshot, column: &Column) -> Option<ValueFacts> {
    if matches!(column.kind, ColumnType::Temporal(..) | ColumnType::Unsupported(_) | ColumnType::Mixed(_)) {
        return None;
    }
    let mut facts = ValueFacts { whole: true, increasing: true, days: true, ..ValueFacts::default() };
    let mut seen = HashSet::new();
    let read = snapshot.each_value(column, |value| {
        let hash = match value {
            RowValue::Missing => return,
            RowValue::Text(text) => xxh3_64(text.as_bytes()),
            RowValue::Flag(flag) => u64::from(flag),
            RowValue::Integer(x) => x as u64,
            RowValue::Number(x) => x.to_bits(),
            RowValue::Time(at) | RowValue::Day(at) => at as u64,
        };
        facts.values += 1;
        if seen.insert(hash) && facts.classes.len() <= MAX_CLASSES {
            facts.classes.extend(value.text());
        }
        facts.days &= match value {
            RowValue::Text(text) => text.get(..10).is_some_and(|day| Date::strptime("%Y-%m-%d", day).is_ok()),
            RowValue::Integer(x) => {
                (19_900_101..21_000_101).contains(&x)
                    && Date::new((x / 10_000) as i16, (x / 100 % 100) as i8, (x % 100) as i8).is_ok()
            }
            _ => false,
        };
        let Some(x) = value.number() else { return };
        facts.whole &= x.fract() == 0.0;
        facts.increasing &= facts.range.is_none_or(|(_, largest)| x > largest);
        facts.range = Some(facts.range.map_or((x, x), |(low, high)| (low.min(x), high.max(x))));
    });
    facts.distinct = seen.len();
    read.ok().map(|()| facts)
}

impl ValueFacts {
    /// The different values, where they are few.
    fn few_classes(&self) -> Vec<String> {
        if self.distinct <= MAX_CLASSES { self.classes.iter().cloned().collect() } else { Vec::new() }
    }

    fn share_distinct(&self) -> f64 {
        self.distinct as f64 / self.values.max(1) as f64
    }

    fn all_distinct(&self) -> bool {
        self.values > 0 && self.distinct == self.values
    }

    /// Numbers between 0 and 1 that are not all 0 or 1.
    fn is_probability(&self) -> bool {
        !self.whole && self.range.is_some_and(|(low, high)| low >= 0.0 && high <= 1.0)
    }

    /// Why numbers that are all distinct identify rows.
    fn counts_rows(&self) -> Option<&'static str> {
        let (low, high) = self.range.filter(|_| self.whole && self.all_distinct() && self.values >= MIN_VALUES)?;
        let (n, span) = (self.values as f64, high - low + 1.0);
        if self.increasing {
            return Some("every number is larger than the one before");
        }
        // In such a small range random numbers would repeat.
        (n * n / 2.0 / span > 10.0).then_some("every number is different, where chance would repeat some")
    }
}

impl ColumnEvidence {
    fn is_number(&self) -> bool {
        matches!(self.kind, ColumnType::Numeric(_)) && !is_pandas_index(&self.name) && !self.is_identifier_by_name()
    }

    fn lower(&self) -> String {
        self.words.join("_")
    }

    fn is(&self, known: &[&str]) -> bool {
        known.contains(&&*self.lower())
    }

    fn has(&self, known: &[&str]) -> bool {
        self.words.iter().any(|word| known.contains(&&**word))
    }

    /// Its different values, where they are few and make classes.
    fn classes(&self) -> Vec<String> {
        match &self.facts {
            Some(facts) if facts.whole || facts.range.is_none() => facts.few_classes(),
            _ => Vec::new(),
        }
    }

    /// Why it is the label, if it seems to be.
    fn as_label(&self) -> Option<String> {
        if is_pandas_index(&self.name) || self.is_prediction_by_name() || self.facts.is_none() {
            return None;
        }
        let (classes, named) = (self.classes(), self.is(&LABELS) || self.is(&MAYBE_LABELS));
        let few = (2..=MAX_CLASSES).contains(&classes.len());
        if !self.here && !self.is_identifier_by_name() {
            let late = "the current snapshot lacks it: labels come later";
            return match (named || self.has(&LABEL_WORDS), few) {
                (true, _) => Some(format!("{late}, and its name says so")),
                (false, true) => Some(late.into()),
                (false, false) => None,
            };
        }
        let enough = if self.is(&LABELS) { few } else { self.is(&MAYBE_LABELS) && classes.len() == 2 };
        enough.then(|| format!("by its name, and it has {} values", classes.len()))
    }

    /// The order of preference among several labels: typical names first.
    fn label_rank(&self) -> u8 {
        match () {
            () if self.is(&LABELS) => 0,
            () if self.is(&MAYBE_LABELS) => 1,
            () if self.has(&LABEL_WORDS) => 2,
            () => 3,
        }
    }

    fn is_prediction_by_name(&self) -> bool {
        self.has(&PREDICTION_WORDS) || self.is(&SCORES) || self.is(&["y_hat"])
    }

    /// The words of its name without those that say that it is a prediction.
    fn words_but_prediction(&self) -> Vec<String> {
        self.words.iter().filter(|word| !PREDICTION_WORDS.contains(&&***word)).cloned().collect()
    }

    fn is_identifier_by_name(&self) -> bool {
        self.words.last().is_some_and(|word| IDENTIFIER_WORDS.contains(&&**word))
    }

    /// Why its values are predictions, if they are, and which role that is.
    fn as_prediction(&self, label: Option<&ColumnEvidence>) -> Option<(InferredRole, String)> {
        let facts = self.facts.as_ref()?;
        if facts.is_probability() {
            return Some((InferredRole::Score, "by its name, and its values lie between 0 and 1".into()));
        }
        let (classes, truth) = (self.classes(), label.map(ColumnEvidence::classes).unwrap_or_default());
        if let Some(label) = label
            && !classes.is_empty()
            && classes.iter().all(|class| truth.contains(class))
        {
            return Some((
                InferredRole::Prediction,
                format!(
                    "by its name, and it has the values of {}",
                    driftsweep_common::escape::for_display(&label.name)
                ),
            ));
        }
        if truth.is_empty() && classes.len() == 2 {
            return Some((InferredRole::Prediction, "by its name, and it has 2 values".into()));
        }
        // Numbers in about the same range as the label.
        let (low, high) = facts.range?;
        let (least, most) = label?.facts.as_ref()?.range?;
        let reach = (most - least) / 2.0;
        (truth.is_empty() && low >= least - reach && high <= most + reach)
            .then(|| (InferredRole::Prediction, "by its name, and its values lie where the label's do".into()))
    }

    /// Why it identifies rows, if it does.
    fn as_identifier(&self) -> Option<String> {
        let facts = self.facts.as_ref()?;
        let percent = format!("{:.0} % of its values are different", 100.0 * facts.share_distinct());
        let may_name = match self.kind {
            ColumnType::Text => true,
            ColumnType::Numeric(_) => facts.whole,
            _ => false,
        };
        if !may_name {
            return None;
        }
        if self.is_identifier_by_name() {
            let enough = if facts.values < MIN_VALUES {
                facts.values >= 10 && facts.all_distinct()
            } else {
                facts.share_distinct() >= 0.5
            };
            return enough.then(|| format!("by its name, and {percent}"));
        }
        if facts.values < MIN_VALUES {
            return None;
        }
        match self.kind {
            ColumnType::Text => {
                (facts.share_distinct() > 0.9).then(|| format!("nearly every text is different: {percent}"))
            }
            _ => facts.counts_rows().map(str::to_owned),
        }
    }

    fn guess(&self, label: Option<String>, best_label: Option<&ColumnEvidence>) -> InferredColumn {
        let made = |role: InferredRole, reason: String| InferredColumn {
            column: self.name.clone(),
            role,
            reason,
            doubt: None,
        };
        if is_pandas_index(&self.name) {
            return made(InferredRole::Identifier, "the row index that pandas wrote with the data".into());
        }
        match &self.kind {
            ColumnType::Temporal(..) => return made(InferredRole::Time, format!("its type is {}", self.kind.name())),
            ColumnType::Unsupported(_) | ColumnType::Mixed(_) => {
                return made(InferredRole::Unsupported, format!("its type is {}", self.kind.name()));
            }
            _ => {}
        }
        let feature = |doubt: Option<String>| InferredColumn { doubt, ..made(InferredRole::Feature, self.kind.name()) };
        let Some(facts) = &self.facts else {
            return feature(Some("its values could not be read; `driftsweep doctor` says why".into()));
        };
        let days = facts.values > 0 && facts.days;
        if days && (self.kind == ColumnType::Text || self.has(&DAY_WORDS)) {
            return made(InferredRole::Time, "each of its values is, or begins with, a day".into());
        }
        if let Some(reason) = label {
            return made(InferredRole::Label, reason);
        }
        let says = self.is_prediction_by_name();
        if says && let Some((role, reason)) = self.as_prediction(best_label) {
            return made(role, reason);
        }
        if let Some(reason) = self.as_identifier() {
            return made(InferredRole::Identifier, reason);
        }
        if !self.here {
            let reason = "if the model sees it, find out why it is not there, and take it out of this list";
            return made(InferredRole::Absent, reason.into());
        }
        // Its name hints at something else, or its values do; not enough to leave it out.
        let may_be = |what: &str| Some(format!("may be {what}: add it to `exclude` if it is"));
        let whole = facts.whole && facts.range.is_some();
        feature(match () {
            () if self.is(&LABELS) || self.is(&MAYBE_LABELS) || self.has(&LABEL_WORDS) => {
                may_be("the label, by its name")
            }
            () if says || self.has(&SCORE_WORDS) => may_be("a prediction, by its name"),
            () if self.is_identifier_by_name() && (whole || self.kind == ColumnType::Text) => {
                may_be(&format!("an identifier, by its name ({} different values)", facts.distinct))
            }
            () if whole && facts.all_distinct() && facts.values >= MIN_VALUES => {
                may_be("an identifier, for every number is different")
            }
            () => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_name_are_found_however_it_is_written() {
        for name in ["customer_id", "customerId", "Customer ID", "CUSTOMER-ID", " customer.id "] {
            assert_eq!(words(name), ["customer", "id"], "{name}");
        }
        assert_eq!(words("größe"), ["größe"]);
        assert!(words("__").is_empty());
    }

    #[test]
    fn the_indexes_that_pandas_writes_are_known() {
        for name in ["__index_level_0__", "__index_level_12__", "Unnamed: 0", "Unnamed: 0.1", ""] {
            assert!(is_pandas_index(name), "{name}");
        }
        for name in ["index", "__index_level__", "__index_level_x__", "Unnamed: x", "Unnamed", "unnamed: 0", " "] {
            assert!(!is_pandas_index(name), "{name}");
        }
    }
}
