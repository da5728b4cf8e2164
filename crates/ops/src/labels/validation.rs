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
use driftsweep::snapshot::{Column, ColumnType, RowValue, Snapshot};
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
    let (labels, rules) = (query.labels, query.rules);
    let Some(from) = &labels.from else {
        return Err(bad("labels", "are not named; a gate joins predictions with a table of labels"));
    };
    // All of them before anything is read, so that one that is missing is named at once.
    let table = Snapshot::open(from.expose())?;
    let of_candidate = Snapshot::open(labels.predictions.expose())?;
    let of_champion = query.champion.map(|champion| Snapshot::open(champion.expose())).transpose()?;
    let of_features = query.features.map(|features| Snapshot::open(features.expose())).transpose()?;
    check_size(&table, options)?;
    let of_numbers = check_rules(query)?;
    let mut classes = Classes::new(labels, of_numbers);
    let positive = classes.positive();
    let metric = rules.metrics.first().map_or(PerformanceMetric::Accuracy, |rule| rule.metric);
    let question = LabelQuery { metric, zone: query.zone, since: Timestamp::MIN, before: Timestamp::MAX, arm: None };
    let reader = LabelReader { labels, question, span: (i64::MIN, i64::MAX), delay: 0 };

    let labelled = Labelled::read(&reader, &table, &mut classes)?;
    let candidate = labelled.predictions(&of_candidate, query.latency, &mut classes)?;
    let champion = of_champion.map(|champion| labelled.predictions(&champion, None, &mut classes)).transpose()?;
    let models = || [Some(&candidate), champion.as_ref()].into_iter().flatten();
    let known = &labelled.known;
    let all: Vec<usize> = (0..known.len()).filter(|&row| models().all(|model| model.has(labels, row))).collect();
    for &row in &all {
        classes.judged(ValueSource::Label, known[row]);
        for model in models() {
            classes.judged(ValueSource::Prediction, model.predicted[row]);
        }
    }
    let only_accuracy = rules.metrics.iter().all(|rule| rule.metric == PerformanceMetric::Accuracy);
    let needs_positive = labels.prediction.is_none()
        || labels.score.is_some()
        || judges_classes(query)
        || !(of_numbers || only_accuracy);
    classes.check(needs_positive)?;
    let mut has_predictions = true;
    for model in models() {
        has_predictions &= model.check_scores(query, &all)?;
    }
    if let Some(champion) = &champion {
        check_different(&candidate, champion, &all)?;
    }

    let outputs = |model: &Said| all.iter().map(|&row| model.output(row, (known[row], positive), of_numbers)).collect();
    let is_positive: Vec<bool> = all.iter().map(|&row| known[row] == positive).collect();
    let time = query.time.or_else(|| table.find(&labels.time).map(|column| &*column.name));
    let times = time.map(|name| labelled.times(&table, name, &all)).transpose()?;
    let days = times.as_ref().map(|times| days(times, query.zone));
    let mut groups = IndexMap::new();
    for name in rules.fairness.keys().filter(|name| table.find(name).is_some()) {
        groups.insert(name.clone(), labelled.groups(&table, name, &all)?);
    }
    let lacking = |model: &Said| (0..known.len()).filter(|&row| !model.has(labels, row)).count();
    Ok(ValidationRows {
        features: of_features.map(|features| labelled.features(&features, (&all, &is_positive))).transpose()?,
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
        latencies: candidate.latencies.as_ref().map(|latencies| all.iter().map(|&row| latencies[row]).collect()),
        has_predictions,
        without_id: labelled.without_id,
        without_label: labelled.without_label,
        labelled: known.len(),
        without_candidate: lacking(&candidate),
        without_champion: champion.as_ref().map_or(0, lacking),
    })
}

/// Refuses more rows than fit into the memory.
fn check_size(table: &Snapshot, options: &Options) -> Result<()> {
    let needed = table.rows() * ROW_BYTES;
    if needed <= options.memory as u64 && table.rows() < u64::from(NONE) {
        return Ok(());
    }
    Err(bad(
        &place(table),
        &format!(
            "{} rows take about {} MiB; allow more with --memory, or validate on fewer days",
            table.rows(),
            needed >> 20
        ),
    ))
}

/// Whether something but metrics is judged that is about classes.
fn judges_classes(query: ValidationQuery<'_>) -> bool {
    !query.rules.fairness.is_empty() || query.rules.calibration.is_some() || query.features.is_some()
}

/// Refuses rules that no table of labels fits; whether the labels are numbers.
fn check_rules(query: ValidationQuery<'_>) -> Result<bool> {
    let metrics = || query.rules.metrics.iter().map(|rule| rule.metric);
    let of_numbers = metrics().any(PerformanceMetric::is_of_numbers);
    if of_numbers && !metrics().all(PerformanceMetric::is_of_numbers) {
        return Err(bad("gates", "judge classes and numbers at once; a label is one or the other"));
    }
    if let Some(metric) = metrics().find(|metric| metric.needs_score() && query.labels.score.is_none()) {
        return Err(bad(metric.name(), "takes a score; name its column (--score, labels.score)"));
    }
    if of_numbers && judges_classes(query) {
        let reason = "fairness, calibration and features are about classes, and the metrics about numbers";
        return Err(bad("gates", reason));
    }
    Ok(of_numbers)
}

/// Refuses a model that is compared with itself.
fn check_different(candidate: &Said, champion: &Said, rows: &[usize]) -> Result<()> {
    if rows.is_empty() || !rows.iter().all(|&row| candidate.same(champion, row)) {
        return Ok(());
    }
    Err(bad(
        "candidate and champion",
        &format!(
            "said the same about each of {} rows: one model was compared with itself, or with a copy; name the \
             predictions of both",
            rows.len()
        ),
    ))
}

/// A snapshot in messages, without secrets.
fn place(table: &Snapshot) -> String {
    Location::from(table.spec()).to_string()
}

fn bad(what: &str, reason: &str) -> Error {
    Error::BadValue { what: what.into(), reason: reason.into() }
}

/// The error for an id that comes twice; the value is read again from its row.
fn twice(table: &Snapshot, name: &str, row: usize) -> Result<Error> {
    let (mut seen, mut value) = (0, None);
    table.each_value(table.column(name)?, |found| {
        if seen == row {
            value = found.text();
        }
        seen += 1;
    })?;
    let value = value.unwrap_or_default();
    Ok(bad(
        &format!("{}, column '{name}'", place(table)),
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
    /// How long it took for each row, where that was asked for.
    latencies: Option<Vec<f64>>,
}

impl Said {
    fn same(&self, other: &Self, row: usize) -> bool {
        let scores = [self.scores[row], other.scores[row]].map(f64::to_bits);
        self.predicted[row] == other.predicted[row] && scores[0] == scores[1]
    }

    /// Whether it predicted a row. A score says what was predicted only where no column does.
    fn has(&self, labels: &Labels, row: usize) -> bool {
        match labels.prediction {
            Some(_) => self.predicted[row].known().is_some(),
            None => !self.scores[row].is_nan(),
        }
    }

    /// Refuses scores that do not fit what is judged; whether it is known what was predicted.
    fn check_scores(&self, query: ValidationQuery<'_>, rows: &[usize]) -> Result<bool> {
        let scores = rows.iter().map(|&row| self.scores[row]).filter(|score| !score.is_nan());
        let range = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        // Shares of groups are of what was predicted.
        let of_groups = Some(PerformanceMetric::Accuracy).filter(|_| !query.rules.fairness.is_empty());
        for metric in query.rules.metrics.iter().map(|rule| rule.metric).chain(of_groups) {
            check_scores(query.labels, metric, range)?;
        }
        Ok(query.labels.prediction.is_some() || (range.0 >= 0.0 && range.1 <= 1.0))
    }

    /// What it said about a row with this label.
    fn output(&self, row: usize, (truth, positive): (ClassCode, ClassCode), of_numbers: bool) -> Output {
        let (predicted, score) = (self.predicted[row].known(), self.scores[row]);
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
    }
}

/// The labelled rows: those of the table of labels that have an id and a label.
struct Labelled<'a> {
    reader: &'a LabelReader<'a>,
    /// The row of each id.
    rows: HashMap<u128, u32>,
    /// The label of each row.
    known: Vec<ClassCode>,
    /// The labelled row of each row of the table.
    places: Vec<u32>,
    without_id: usize,
    without_label: usize,
}

impl<'a> Labelled<'a> {
    fn read(reader: &'a LabelReader<'a>, table: &Snapshot, classes: &mut Classes<'_>) -> Result<Self> {
        let (id, label) = (table.column(reader.id())?, table.column(&reader.labels.label)?);
        let (rows, known, places) = (HashMap::new(), Vec::new(), Vec::new());
        let mut found = Self { reader, rows, known, places, without_id: 0, without_label: 0 };
        for chunk in 0..table.chunks() {
            let ids = reader.ids(table, id, chunk)?;
            let truths = truths(table, label, chunk, ValueSource::Label, classes)?;
            for (id, truth) in ids.into_iter().zip(truths) {
                let row = found.known.len() as u32;
                let Some((id, truth)) = id.zip(truth.known()) else {
                    found.without_id += usize::from(id.is_none());
                    found.without_label += usize::from(id.is_some());
                    found.places.push(NONE);
                    continue;
                };
                if found.rows.insert(id, row).is_some() {
                    return Err(twice(table, reader.id(), found.places.len())?);
                }
                found.known.push(truth);
                found.places.push(row);
            }
        }
        Ok(found)
    }

    /// The labelled rows of a chunk of another table.
    fn places_of(&self, table: &Snapshot, chunk: usize) -> Result<Vec<u32>> {
        let ids = self.reader.ids(table, table.column(self.reader.id())?, chunk)?;
        Ok(ids.into_iter().map(|id| id.and_then(|id| self.rows.get(&id)).copied().unwrap_or(NONE)).collect())
    }

    /// The predictions of a model, with the times they took where that column is named.
    fn predictions(&self, table: &Snapshot, latency: Option<&str>, classes: &mut Classes<'_>) -> Result<Said> {
        let (labels, count) = (self.reader.labels, self.known.len());
        let column = |name: Option<&str>| name.map(|name| table.column(name)).transpose();
        let (predicted, score) = (column(labels.prediction.as_deref())?, column(labels.score.as_deref())?);
        let latency = column(latency)?;
        let mut said = Said {
            predicted: vec![ClassCode::MISSING; count],
            scores: vec![f64::NAN; count],
            latencies: latency.map(|_| vec![f64::NAN; count]),
        };
        let mut seen = vec![false; count];
        let mut position = 0;
        for chunk in 0..table.chunks() {
            let places = self.places_of(table, chunk)?;
            let values = predicted.map(|column| truths(table, column, chunk, ValueSource::Prediction, classes));
            let values = values.transpose()?;
            let numbers = |column: Option<&Column>| column.map(|column| self.reader.numbers(table, column, chunk));
            let (scores, latencies) = (numbers(score).transpose()?, numbers(latency).transpose()?);
            for (i, &place) in places.iter().enumerate().filter(|(_, place)| **place != NONE) {
                let row = place as usize;
                if std::mem::replace(&mut seen[row], true) {
                    return Err(twice(table, self.reader.id(), position + i)?);
                }
                said.predicted[row] = values.as_ref().map_or(ClassCode::MISSING, |values| values[i]);
                said.scores[row] = scores.as_ref().map_or(f64::NAN, |scores| scores[i]);
                if let (Some(all), Some(latencies)) = (&mut said.latencies, &latencies) {
                    all[row] = latencies[i];
                }
            }
            position += places.len();
        }
        Ok(said)
    }

    /// The area under the curve of each feature alone, where it has one. Columns that are read for the join are no features.
    fn features(&self, table: &Snapshot, (rows, positive): (&[usize], &[bool])) -> Result<Vec<(String, f64)>> {
        let (labels, count) = (self.reader.labels, self.known.len());
        let (mut places, mut seen) = (Vec::new(), vec![false; count]);
        for chunk in 0..table.chunks() {
            for place in self.places_of(table, chunk)? {
                if place != NONE && std::mem::replace(&mut seen[place as usize], true) {
                    return Err(twice(table, self.reader.id(), places.len())?);
                }
                places.push(place);
            }
        }
        let missing = rows.iter().filter(|&&row| !seen[row]).count();
        if missing > 0 {
            let reason = format!("has no features of {missing} of {} labelled rows; look at its ids", rows.len());
            return Err(bad(&place(table), &reason));
        }
        // By the hash of the id: whatever the order of the rows.
        let mut halves = vec![false; count];
        self.rows.iter().for_each(|(id, &row)| halves[row as usize] = id & 1 == 1);
        let halves: Vec<bool> = rows.iter().map(|&row| halves[row]).collect();
        let joined = [Some(&labels.label), labels.id.as_ref(), labels.prediction.as_ref(), labels.score.as_ref()];
        let mut areas = Vec::new();
        for column in table.columns().iter().filter(|column| !joined.contains(&Some(&column.name))) {
            let area = match column.kind {
                ColumnType::Numeric(_) | ColumnType::Temporal(..) => {
                    let mut values = vec![f64::NAN; count];
                    each(table, column, &places, |row, value| {
                        values[row] = match value {
                            RowValue::Time(at) | RowValue::Day(at) => at as f64,
                            value => value.number().unwrap_or(f64::NAN),
                        }
                    })?;
                    area_of_numbers(&rows.iter().map(|&row| values[row]).collect::<Vec<_>>(), positive)
                }
                ColumnType::Unsupported(_) | ColumnType::Mixed(_) | ColumnType::Null => None,
                _ => {
                    let mut values = vec![0; count];
                    each(table, column, &places, |row, value| {
                        values[row] = value.text().map_or(0, |text| xxh3_64(text.as_bytes()));
                    })?;
                    area_of_categories(&codes(rows.iter().map(|&row| values[row])), &halves, positive)
                }
            };
            areas.extend(area.map(|area| (column.name.clone(), area)));
        }
        Ok(areas)
    }

    /// The times of rows.
    fn times(&self, table: &Snapshot, name: &str, rows: &[usize]) -> Result<Vec<i64>> {
        let column = table.column(name)?;
        let (mut found, mut places) = (vec![None; self.known.len()], self.places.iter());
        for chunk in 0..table.chunks() {
            for (at, &place) in self.reader.times(table, column, chunk, false)?.into_iter().zip(places.by_ref()) {
                if place != NONE {
                    found[place as usize] = at;
                }
            }
        }
        let missing = rows.iter().filter(|&&row| found[row].is_none()).count();
        if missing > 0 {
            let what = format!("{}, column '{name}'", place(table));
            let reason = format!("{missing} labelled rows have no time; give all of them one, or leave out the column");
            return Err(bad(&what, &reason));
        }
        Ok(rows.iter().filter_map(|&row| found[row]).collect())
    }

    /// The groups of a column, by their names, and the group of each row; missing values are a group.
    fn groups(&self, table: &Snapshot, name: &str, rows: &[usize]) -> Result<(Vec<String>, Vec<u32>)> {
        let mut known: IndexMap<String, u32> = IndexMap::new();
        let mut found = vec![0; self.known.len()];
        each(table, table.column(name)?, &self.places, |row, value| {
            if known.len() <= MAX_GROUPS {
                let next = known.len() as u32;
                let name = value.text().unwrap_or_else(|| "missing".into());
                found[row] = *known.entry(name).or_insert(next);
            }
        })?;
        if known.len() > MAX_GROUPS {
            let what = format!("{}, column '{name}'", place(table));
            return Err(bad(&what, &format!("has more than {MAX_GROUPS} values: these are no groups")));
        }
        Ok((known.into_keys().collect(), rows.iter().map(|&row| found[row]).collect()))
    }
}

/// Calls `of` with the values of a column and their labelled rows.
fn each(table: &Snapshot, column: &Column, places: &[u32], mut of: impl FnMut(usize, RowValue<'_>)) -> Result<()> {
    let mut places = places.iter();
    table.each_value(column, |value| {
        if let Some(&place) = places.next().filter(|place| **place != NONE) {
            of(place as usize, value);
        }
    })
}
