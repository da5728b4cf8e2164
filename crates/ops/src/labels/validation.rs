//! Candidate and champion on the same labelled rows, for the gates.

use std::collections::HashMap;

use indexmap::IndexMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use xxhash_rust::xxh3::xxh3_64;

use super::classes::{ClassCode, Classes, ValueSource};
use super::{LabelQuery, LabelReader, check_scores, truths};
use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::model::Options;
use driftsweep::snapshot::{ColumnType, RowValue, Snapshot};
use driftsweep_common::address::Location;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;
use driftsweep_fleet::Labels;
use driftsweep_training::gate::{GateRules, Output, ValidationRows, area_of_categories, area_of_numbers};

/// What is validated.
#[derive(Clone, Copy)]
pub struct ValidationQuery<'a> {
    /// Where the labels are and what columns are called. `predictions` are the candidate's, `from` are the labels, joined by
    /// `id`. `time` is read where the labels have such a column.
    pub labels: &'a Labels,
    /// The predictions of the champion, in columns of the same names.
    pub champion: Option<&'a Location>,
    /// The column of the labels with the times of the rows, which must be there; else `labels.time` is read where it is there.
    pub time: Option<&'a str>,
    /// The features of the rows, to look for one that knows the label; joined by the same id.
    pub features: Option<&'a Location>,
    /// The column of the candidate's predictions with the time that each took.
    pub latency: Option<&'a str>,
    /// The gates, which say what columns they need.
    pub rules: &'a GateRules,
    /// The zone in which days begin.
    pub zone: &'a TimeZone,
}

/// Bytes of a row while it is read.
const ROW_BYTES: u64 = 400;

/// A column with more groups than this is not one of groups.
const MAX_GROUPS: usize = 1000;

/// Where no row of the labels has the id.
const NONE: u32 = u32::MAX;

/// Reads the rows that all models predicted.
///
/// # Errors
/// Snapshots and columns that cannot be read. [`Error::BadValue`] with the remedy where ids come twice, where labels and
/// predictions do not use the same classes, where scores are no probabilities, where candidate and champion said the same
/// about every row, and where the rows do not fit into the memory of `options`.
pub fn read(query: ValidationQuery<'_>, options: &Options) -> Result<ValidationRows> {
    let labels = query.labels;
    let Some(from) = &labels.from else {
        return Err(bad("labels", "are not named; a gate joins predictions with a table of labels"));
    };
    // All of them before anything is read, so that one that is missing is named at once.
    let table = Snapshot::open(from.expose())?;
    let of_candidate = Snapshot::open(labels.predictions.expose())?;
    let of_champion = query.champion.map(|champion| Snapshot::open(champion.expose())).transpose()?;
    let of_features = query.features.map(|features| Snapshot::open(features.expose())).transpose()?;
    let needed = table.rows() * ROW_BYTES;
    if needed > options.memory as u64 || table.rows() >= u64::from(NONE) {
        return Err(bad(
            &Location::from(table.spec()).to_string(),
            &format!(
                "{} rows take about {} MiB; allow more with --memory, or validate on fewer days",
                table.rows(),
                needed >> 20
            ),
        ));
    }
    let metrics: Vec<PerformanceMetric> = query.rules.metrics.iter().map(|rule| rule.metric).collect();
    let of_numbers = metrics.iter().any(|metric| metric.is_of_numbers());
    if of_numbers && !metrics.iter().all(|metric| metric.is_of_numbers()) {
        return Err(bad("gates", "judge classes and numbers at once; a label is one or the other"));
    }
    if let Some(metric) = metrics.iter().find(|metric| metric.needs_score() && labels.score.is_none()) {
        return Err(bad(metric.name(), "takes a score; name its column (--score, labels.score)"));
    }
    let judges_classes =
        !query.rules.fairness.is_empty() || query.rules.calibration.is_some() || query.features.is_some();
    if of_numbers && judges_classes {
        return Err(bad(
            "gates",
            "fairness, calibration and features are about classes, and the metrics about numbers",
        ));
    }
    let mut classes = Classes::new(labels, of_numbers);
    let positive = classes.positive();
    let metric = metrics.first().copied().unwrap_or(PerformanceMetric::Accuracy);
    let question = LabelQuery { metric, zone: query.zone, since: Timestamp::MIN, before: Timestamp::MAX };
    let reader = LabelReader { labels, question, span: (i64::MIN, i64::MAX), delay: 0 };
    let place = Location::from(table.spec()).to_string();
    let id_name = labels.id.as_deref().unwrap_or_default();

    let (mut rows, mut known) = (HashMap::new(), Vec::new());
    let (id, label) = (table.column(id_name)?, table.column(&labels.label)?);
    // The row of each row of the table; rows without an id or a label have none.
    let mut places: Vec<u32> = Vec::new();
    let (mut without_id, mut without_label) = (0, 0);
    for chunk in 0..table.chunks() {
        let ids = reader.ids(&table, id, chunk)?;
        let found = truths(&table, label, chunk, ValueSource::Label, &mut classes)?;
        for (id, truth) in ids.into_iter().zip(found) {
            let row = known.len() as u32;
            match id.zip(truth.known()) {
                Some((id, truth)) => {
                    if rows.insert(id, row).is_some() {
                        return Err(twice(&place, id_name, &table, places.len())?);
                    }
                    known.push(truth);
                    places.push(row);
                }
                None => {
                    without_id += usize::from(id.is_none());
                    without_label += usize::from(id.is_some());
                    places.push(NONE);
                }
            }
        }
    }
    let index = RowIndex { reader: &reader, rows: &rows, count: known.len() };
    let candidate = index.predictions(&of_candidate, &mut classes)?;
    let champion = of_champion.as_ref().map(|champion| index.predictions(champion, &mut classes)).transpose()?;

    // A score says what was predicted only where no column does.
    let said = |model: &Said, row: usize| match labels.prediction {
        Some(_) => model.predicted[row].known().is_some(),
        None => !model.scores[row].is_nan(),
    };
    let all: Vec<usize> = (0..known.len())
        .filter(|&row| said(&candidate, row) && champion.as_ref().is_none_or(|champion| said(champion, row)))
        .collect();
    let lacking = |model: &Said| (0..known.len()).filter(|&row| !said(model, row)).count();
    for &row in &all {
        classes.judged(ValueSource::Label, known[row]);
        for model in [Some(&candidate), champion.as_ref()].into_iter().flatten() {
            classes.judged(ValueSource::Prediction, model.predicted[row]);
        }
    }
    let needs_positive = labels.prediction.is_none()
        || labels.score.is_some()
        || judges_classes
        || !(of_numbers || metrics.iter().all(|metric| *metric == PerformanceMetric::Accuracy));
    classes.check(needs_positive)?;
    let mut has_predictions = true;
    for model in [Some(&candidate), champion.as_ref()].into_iter().flatten() {
        // Shares of groups are of what was predicted.
        let of_groups = Some(PerformanceMetric::Accuracy).filter(|_| !query.rules.fairness.is_empty());
        for metric in metrics.iter().copied().chain(of_groups) {
            let scores = all.iter().map(|&row| model.scores[row]).filter(|score| !score.is_nan());
            let range = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            check_scores(labels, metric, range)?;
            has_predictions &= labels.prediction.is_some() || (range.0 >= 0.0 && range.1 <= 1.0);
        }
    }
    if let Some(champion) = &champion
        && !all.is_empty()
        && all.iter().all(|&row| candidate.same(champion, row))
    {
        return Err(bad(
            "candidate and champion",
            &format!(
                "said the same about each of {} rows: one model was compared with itself, or with a copy; name the \
                 predictions of both",
                all.len()
            ),
        ));
    }
    let output = |model: &Said, row: usize| {
        let (predicted, score, truth) = (model.predicted[row].known(), model.scores[row], known[row]);
        let is_positive = predicted.map_or(score >= 0.5, |predicted| predicted == positive);
        Output {
            positive: is_positive,
            correct: predicted.map_or((truth == positive) == is_positive, |predicted| predicted == truth),
            score,
            error: match predicted {
                Some(predicted) if of_numbers => predicted.number() - truth.number(),
                _ => f64::NAN,
            },
        }
    };
    let outputs = |model: &Said| all.iter().map(|&row| output(model, row)).collect::<Vec<_>>();
    let is_positive: Vec<bool> = all.iter().map(|&row| known[row] == positive).collect();
    let kept = Kept { places: &places, rows: &all, count: known.len() };
    let time = query.time.or_else(|| table.find(&labels.time).map(|column| &*column.name));
    let times = time.map(|name| kept.times(&reader, &table, name)).transpose()?;
    let days = times.as_ref().map(|times| days(times, query.zone));
    let mut groups = IndexMap::new();
    for name in query.rules.fairness.keys().filter(|name| table.find(name).is_some()) {
        groups.insert(name.clone(), kept.groups(&table, name)?);
    }
    Ok(ValidationRows {
        features: of_features.map(|features| index.features(&features, (&all, &is_positive), labels)).transpose()?,
        positive: is_positive,
        classes: match labels.prediction {
            _ if of_numbers => Vec::new(),
            Some(_) => codes(all.iter().map(|&row| known[row])),
            // A score is about one class against all others.
            None => codes(all.iter().map(|&row| known[row] == positive)),
        },
        numbers: if of_numbers { all.iter().map(|&row| known[row].number()).collect() } else { Vec::new() },
        candidate: outputs(&candidate),
        champion: champion.as_ref().map(outputs),
        times,
        days,
        groups,
        latencies: query.latency.map(|latency| index.latencies(&of_candidate, latency, &all)).transpose()?,
        has_predictions,
        without_id,
        without_label,
        labelled: known.len(),
        without_candidate: lacking(&candidate),
        without_champion: champion.as_ref().map_or(0, lacking),
    })
}

fn bad(what: &str, reason: &str) -> Error {
    Error::BadValue { what: what.into(), reason: reason.into() }
}

/// The error for an id that comes twice; the value is read again from its row.
fn twice(place: &str, name: &str, table: &Snapshot, row: usize) -> Result<Error> {
    let (mut seen, mut value) = (0, None);
    table.each_value(table.column(name)?, |found| {
        if seen == row {
            value = found.text();
        }
        seen += 1;
    })?;
    let value = value.unwrap_or_default();
    Ok(bad(
        &format!("{place}, column '{name}'"),
        &format!("'{}' comes twice; a row has one label and one prediction of a model", for_display(&value)),
    ))
}

/// Codes from 0 for values.
fn codes<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>) -> Vec<u32> {
    let mut known: HashMap<T, u32> = HashMap::new();
    values
        .map(|value| {
            let next = known.len() as u32;
            *known.entry(value).or_insert(next)
        })
        .collect()
}

/// The days of times, by codes.
fn days(times: &[i64], zone: &TimeZone) -> Vec<u32> {
    let day = |at: i64| Timestamp::from_microsecond(at).map(|at| at.to_zoned(zone.clone()).date()).ok();
    codes(times.iter().map(|&at| day(at)))
}

/// What a model said about the labelled rows.
struct Said {
    predicted: Vec<ClassCode>,
    scores: Vec<f64>,
}

impl Said {
    fn same(&self, other: &Self, row: usize) -> bool {
        let scores = [self.scores[row], other.scores[row]].map(f64::to_bits);
        self.predicted[row] == other.predicted[row] && scores[0] == scores[1]
    }
}

/// The rows of the labels by their ids.
struct RowIndex<'a> {
    reader: &'a LabelReader<'a>,
    rows: &'a HashMap<u128, u32>,
    count: usize,
}

impl RowIndex<'_> {
    /// The rows of a chunk; those without a label are none.
    fn places(&self, table: &Snapshot, chunk: usize) -> Result<Vec<u32>> {
        let ids = self.reader.ids(table, table.column(self.reader.id())?, chunk)?;
        Ok(ids.into_iter().map(|id| id.and_then(|id| self.rows.get(&id)).copied().unwrap_or(NONE)).collect())
    }

    /// The predictions of a model.
    fn predictions(&self, table: &Snapshot, classes: &mut Classes<'_>) -> Result<Said> {
        let labels = self.reader.labels;
        let column = |name: &Option<String>| name.as_ref().map(|name| table.column(name)).transpose();
        let (predicted, score) = (column(&labels.prediction)?, column(&labels.score)?);
        let mut said = Said { predicted: vec![ClassCode::MISSING; self.count], scores: vec![f64::NAN; self.count] };
        let mut seen = vec![false; self.count];
        let mut position = 0;
        for chunk in 0..table.chunks() {
            let places = self.places(table, chunk)?;
            let values = predicted.map(|column| truths(table, column, chunk, ValueSource::Prediction, classes));
            let (values, scores) =
                (values.transpose()?, score.map(|score| self.reader.numbers(table, score, chunk)).transpose()?);
            for (i, &place) in places.iter().enumerate() {
                if place != NONE {
                    let row = place as usize;
                    if std::mem::replace(&mut seen[row], true) {
                        let place = Location::from(table.spec()).to_string();
                        return Err(twice(&place, self.reader.id(), table, position + i)?);
                    }
                    said.predicted[row] = values.as_ref().map_or(ClassCode::MISSING, |values| values[i]);
                    said.scores[row] = scores.as_ref().map_or(f64::NAN, |scores| scores[i]);
                }
            }
            position += places.len();
        }
        Ok(said)
    }

    /// The latencies of rows.
    fn latencies(&self, table: &Snapshot, name: &str, rows: &[usize]) -> Result<Vec<f64>> {
        let column = table.column(name)?;
        let mut found = vec![f64::NAN; self.count];
        for chunk in 0..table.chunks() {
            let places = self.places(table, chunk)?;
            for (&place, latency) in places.iter().zip(self.reader.numbers(table, column, chunk)?) {
                if place != NONE {
                    found[place as usize] = latency;
                }
            }
        }
        Ok(rows.iter().map(|&row| found[row]).collect())
    }

    /// The area under the curve of each feature alone, where it has one. Columns that are read for the join are no features.
    fn features(&self, table: &Snapshot, of: (&[usize], &[bool]), labels: &Labels) -> Result<Vec<(String, f64)>> {
        let (rows, positive) = of;
        let joined = [Some(&labels.label), labels.id.as_ref(), labels.prediction.as_ref(), labels.score.as_ref()];
        let mut areas = Vec::new();
        let (mut places, mut seen) = (Vec::new(), vec![false; self.count]);
        for chunk in 0..table.chunks() {
            for place in self.places(table, chunk)? {
                if place != NONE && std::mem::replace(&mut seen[place as usize], true) {
                    let name = Location::from(table.spec()).to_string();
                    return Err(twice(&name, self.reader.id(), table, places.len())?);
                }
                places.push(place);
            }
        }
        let missing = rows.iter().filter(|&&row| !seen[row]).count();
        if missing > 0 {
            let name = Location::from(table.spec()).to_string();
            return Err(bad(
                &name,
                &format!("has no features of {missing} of {} labelled rows; look at its ids", rows.len()),
            ));
        }
        // By the hash of the id: whatever the order of the rows.
        let mut halves = vec![false; self.count];
        self.rows.iter().for_each(|(id, &row)| halves[row as usize] = id & 1 == 1);
        let halves: Vec<bool> = rows.iter().map(|&row| halves[row]).collect();
        for column in table.columns().iter().filter(|column| !joined.contains(&Some(&column.name))) {
            let area = match column.kind {
                ColumnType::Numeric(_) | ColumnType::Temporal(..) => {
                    let mut values = vec![f64::NAN; self.count];
                    self.each(table, &places, &column.name, |row, value| {
                        values[row] = match value {
                            RowValue::Time(at) | RowValue::Day(at) => at as f64,
                            value => value.number().unwrap_or(f64::NAN),
                        }
                    })?;
                    area_of_numbers(&rows.iter().map(|&row| values[row]).collect::<Vec<_>>(), positive)
                }
                ColumnType::Unsupported(_) | ColumnType::Mixed(_) | ColumnType::Null => None,
                _ => {
                    let mut values = vec![0; self.count];
                    self.each(table, &places, &column.name, |row, value| {
                        values[row] = value.text().map_or(0, |text| xxh3_64(text.as_bytes()));
                    })?;
                    area_of_categories(&codes(rows.iter().map(|&row| values[row])), &halves, positive)
                }
            };
            areas.extend(area.map(|area| (column.name.clone(), area)));
        }
        Ok(areas)
    }

    /// Calls `of` with the values of a column and their rows.
    fn each(
        &self,
        table: &Snapshot,
        places: &[u32],
        name: &str,
        mut of: impl FnMut(usize, RowValue<'_>),
    ) -> Result<()> {
        let mut places = places.iter();
        table.each_value(table.column(name)?, |value| {
            if let Some(&place) = places.next().filter(|place| **place != NONE) {
                of(place as usize, value);
            }
        })
    }
}

/// Rows of the table of labels that are kept.
struct Kept<'a> {
    /// The labelled row of each row of the table.
    places: &'a [u32],
    /// Those labelled rows that are kept.
    rows: &'a [usize],
    count: usize,
}

impl Kept<'_> {
    fn times(&self, reader: &LabelReader<'_>, table: &Snapshot, name: &str) -> Result<Vec<i64>> {
        let column = table.column(name)?;
        let (mut found, mut places) = (vec![None; self.count], self.places.iter());
        for chunk in 0..table.chunks() {
            for at in reader.times(table, column, chunk, false)? {
                if let Some(&place) = places.next().filter(|place| **place != NONE) {
                    found[place as usize] = at;
                }
            }
        }
        let missing = self.rows.iter().filter(|&&row| found[row].is_none()).count();
        if missing > 0 {
            let what = format!("{}, column '{name}'", Location::from(table.spec()));
            return Err(bad(
                &what,
                &format!("{missing} labelled rows have no time; give all of them one, or leave out the column"),
            ));
        }
        Ok(self.rows.iter().filter_map(|&row| found[row]).collect())
    }

    /// The groups of a column; missing values are a group.
    fn groups(&self, table: &Snapshot, name: &str) -> Result<(Vec<String>, Vec<u32>)> {
        let column = table.column(name)?;
        let mut known: IndexMap<String, u32> = IndexMap::new();
        let (mut found, mut places) = (vec![0; self.count], self.places.iter());
        table.each_value(column, |value| {
            if let Some(&place) = places.next().filter(|place| **place != NONE)
                && known.len() <= MAX_GROUPS
            {
                let next = known.len() as u32;
                let name = value.text().unwrap_or_else(|| "missing".into());
                found[place as usize] = *known.entry(name).or_insert(next);
            }
        })?;
        if known.len() > MAX_GROUPS {
            let what = format!("{}, column '{name}'", Location::from(table.spec()));
            return Err(bad(&what, &format!("has more than {MAX_GROUPS} values: these are no groups")));
        }
        Ok((known.into_keys().collect(), self.rows.iter().map(|&row| found[row]).collect()))
    }
}
