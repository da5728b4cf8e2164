//! Predictions and their labels, which arrive later.

pub mod arms;
mod classes;
mod matching;
mod parts;
pub mod validation;

use std::collections::HashMap;
use std::path::Path;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use classes::{ClassCode, Classes, ValueSource};
use driftsweep::baseline::Baseline;
use driftsweep::count::Domain;
use driftsweep::metric::performance::{PerformanceMetric, ScoreCalibration, ScoreCounts};
use driftsweep::model::Options;
use driftsweep::snapshot::{Column, ColumnType, Condition, PointInTime, RowValue, Slice, Snapshot, Test};
use driftsweep_common::error::{Error, Result};
use driftsweep_extensions::trigger::labels::{KnownLabel, LabelCounts, Prediction, Predictions};
use driftsweep_fleet::Labels;
use matching::{ArrivedLabel, LoggedPrediction, NO_TIME};
use parts::HashPartitions;

/// The metric to evaluate, and the period.
#[derive(Clone, Copy, Debug)]
pub struct LabelQuery<'a> {
    /// The performance metric.
    pub metric: PerformanceMetric,
    /// The time zone of columns of dates.
    pub zone: &'a TimeZone,
    /// Predictions from this time on ...
    pub since: Timestamp,
    /// ... and before the sweep, which uses only what was known before it.
    pub before: Timestamp,
    /// Only predictions that have a value in a column: those of one arm of a rollout.
    pub arm: Option<(&'a str, &'a str)>,
}

/// Predictions with the labels known for them.
pub struct Joined {
    predictions: HashPartitions<LoggedPrediction>,
    labels: HashPartitions<ArrivedLabel>,
    parts: usize,
    join: Join,
    /// Classes among labels and predictions.
    pub classes: usize,
    /// Counts of labels, and of those that match a prediction.
    pub counts: LabelCounts,
}

/// Microseconds of predictions after which labels of which none matches are a mistake, where no delay is declared.
const UNDECLARED_WAIT: i64 = 7 * 24 * 3_600_000_000;

/// How rows are joined to predictions.
#[derive(Clone, Copy)]
struct Join {
    /// Whether labels are in a separate table.
    by_id: bool,
    /// Microseconds from a prediction to its label, where labels have no time of their own.
    delay: i64,
    before: i64,
    positive: ClassCode,
    of_numbers: bool,
}

/// Most bytes for a row while its partition is joined.
const PREDICTION: u64 = 2 * size_of::<LoggedPrediction>() as u64;
const LABEL: u64 = 2 * size_of::<ArrivedLabel>() as u64;

/// Most files for the rows of a table: several models are evaluated at the same time.
const MAX_PARTS: u64 = 64;

/// Reads the predictions of a time with the labels that were known before it is over. Which label belongs to which
/// prediction follows from their times, never from the order of rows: the latest prediction of an id before its label,
/// and the first label after it. A day on which a label came is over before the label is known. Rows that need more
/// memory than `options` allow per thread are partitioned into temporary files. `each` is given every prediction, in no
/// order.
///
/// # Errors
/// A snapshot or column that does not exist or cannot be read. [`Error::BadValue`] with the remedy where a column of
/// times holds none, where labels and predictions do not use the same classes, where no label matches a prediction
/// although some should, and where labels, predictions or scores do not fit the metric.
pub fn join(
    labels: &Labels,
    question: LabelQuery<'_>,
    options: &Options,
    each: &mut dyn FnMut(Prediction),
) -> Result<Joined> {
    let of_numbers = question.metric.is_of_numbers();
    let mut classes = Classes::new(labels, of_numbers);
    let positive = classes.positive();
    let (since, before) = (question.since.as_microsecond(), question.before.as_microsecond());
    let delay = i64::try_from(labels.delay.as_micros()).unwrap_or(i64::MAX);
    let reader = LabelReader { labels, question, span: (since, before), delay };
    let mut predictions =
        reader.during(&Snapshot::open(labels.predictions.expose())?, Some(&labels.time), SignedDuration::ZERO)?;
    if let Some((column, value)) = question.arm.filter(|_| predictions.rows() > 0) {
        predictions = arms::of_arm(&predictions, column, value)?;
    }
    let mut undated = 0;
    let table = match &labels.from {
        Some(from) => {
            let whole = Snapshot::open(from.expose())?;
            if let Some(name) = &labels.label_time {
                undated = whole.missing(whole.column(name)?)?.null;
            }
            // A day on which a label came is known at its end, so the day before the first counts.
            let day = SignedDuration::from_hours(48);
            Some(reader.during(&whole, labels.label_time.as_deref(), day)?)
        }
        None => None,
    };
    let bytes = predictions.rows() * PREDICTION + table.as_ref().map_or(0, Snapshot::rows) * LABEL;
    let share = (options.memory / options.threads / 2).max(1) as u64;
    let parts = bytes.div_ceil(share).clamp(1, MAX_PARTS) as usize;
    let join = Join { by_id: table.is_some(), delay, before, positive, of_numbers };
    let mut joined = Joined {
        predictions: HashPartitions::new(parts)?,
        labels: HashPartitions::new(parts)?,
        parts,
        join,
        classes: 0,
        counts: LabelCounts::default(),
    };
    let scores = reader.predictions(&predictions, &mut classes, &mut joined)?;
    if let Some(table) = &table {
        reader.labels(table, &mut classes, &mut joined)?;
    }
    let in_memory = (joined.predictions.rows_in_memory()?, joined.labels.rows_in_memory()?);
    if let (Some(predictions), Some(labels)) = in_memory {
        matching::sort(predictions, labels);
    }
    let mut counts = LabelCounts { undated: joined.counts.undated + undated, ..LabelCounts::default() };
    let (mut rows, mut first) = (0, i64::MAX);
    joined.match_labels(&mut counts, &mut |row, label| {
        rows += 1;
        first = first.min(row.at);
        // Only labels that match a prediction define the classes: a table may also hold those of other models.
        let label = label.map(|(truth, at)| (classes.judged(ValueSource::Label, truth), at));
        each(join.prediction(row, label.filter(|(truth, _)| truth.known().is_some())));
    })?;
    joined.counts = counts;
    // Within the label delay it is normal that no label matches a prediction.
    // A default of months hides a mistake for as long: a week of predictions is enough then.
    let wait = if labels.delay_declared { delay } else { delay.min(UNDECLARED_WAIT) };
    let due = first.saturating_add(wait) < before;
    if let Some(table) = &table
        && counts.met == 0
        && counts.labels > counts.early
        && rows > 0
        && let Some(reason) = reader.no_match_reason(&predictions, table, counts.labels, due)?
    {
        return Err(Error::BadValue { what: format!("labels.id '{}'", reader.id()), reason });
    }
    let needs_positive = labels.prediction.is_none()
        || labels.score.is_some()
        || !(of_numbers || question.metric == PerformanceMetric::Accuracy);
    classes.check(needs_positive)?;
    check_scores(labels, question.metric, scores)?;
    joined.classes = classes.count();
    Ok(joined)
}

impl Joined {
    fn match_labels(
        &self,
        counts: &mut LabelCounts,
        each: &mut dyn FnMut(LoggedPrediction, matching::MatchedLabel),
    ) -> Result<()> {
        let join = self.join;
        for part in 0..self.parts {
            let (mut predictions, mut labels) = (self.predictions.read(part)?, self.labels.read(part)?);
            if self.parts > 1 {
                matching::sort(&mut predictions, &mut labels);
            }
            if join.by_id {
                matching::by_id(&predictions, &labels, (join.delay, join.before), counts, each);
            } else {
                matching::labels_in_same_row(&predictions, counts, each);
            }
        }
        Ok(())
    }
}

impl Predictions for Joined {
    fn each(&self, of: &mut dyn FnMut(Prediction)) -> Result<()> {
        self.match_labels(&mut LabelCounts::default(), &mut |row, label| of(self.join.prediction(row, label)))
    }
}

impl Join {
    fn prediction(&self, row: LoggedPrediction, label: matching::MatchedLabel) -> Prediction {
        let predicted = row.predicted.known();
        let positive = match predicted {
            Some(predicted) => predicted == self.positive,
            None => row.score >= 0.5,
        };
        let label_of = |(truth, known_at): (ClassCode, i64)| KnownLabel {
            known_at,
            positive: truth == self.positive,
            correct: predicted.map_or((truth == self.positive) == positive, |predicted| predicted == truth),
            error: match predicted {
                Some(predicted) if self.of_numbers => predicted.number() - truth.number(),
                _ => f64::NAN,
            },
        };
        Prediction {
            at: row.at,
            key: row.id as u64,
            positive,
            score: row.score,
            label: label.map(label_of),
            proxy: row.proxy.known().map(|proxy| label_of((proxy, row.at))),
        }
    }
}

/// Smallest and largest score.
type Scores = (f64, f64);

fn check_scores(labels: &Labels, metric: PerformanceMetric, (least, most): Scores) -> Result<()> {
    let bad = |reason: String| {
        Err(Error::BadValue { what: format!("scores '{}'", labels.score.as_deref().unwrap_or_default()), reason })
    };
    if least > most || (0.0 <= least && most <= 1.0) || metric.is_of_numbers() {
        return Ok(());
    }
    if matches!(metric, PerformanceMetric::Brier | PerformanceMetric::LogLoss) {
        return bad(format!("lie outside 0 to 1 ({least} to {most}); {metric} takes probabilities"));
    }
    if labels.prediction.is_none() && metric != PerformanceMetric::Auc {
        return bad(format!(
            "lie outside 0 to 1 ({least} to {most}), so the predicted class is unknown; name the column of \
             predicted classes with labels.prediction"
        ));
    }
    Ok(())
}

/// Reads the columns of both tables.
struct LabelReader<'a> {
    labels: &'a Labels,
    question: LabelQuery<'a>,
    /// Microseconds: from the first on, before the second.
    span: (i64, i64),
    delay: i64,
}

impl LabelReader<'_> {
    fn id(&self) -> &str {
        self.labels.id.as_deref().unwrap_or_default()
    }

    /// The rows of the period. Times written as text are checked row by row.
    fn during(&self, snapshot: &Snapshot, column: Option<&str>, earlier: SignedDuration) -> Result<Snapshot> {
        let Some(column) = column.filter(|_| snapshot.rows() > 0) else { return Ok(snapshot.clone()) };
        if snapshot.column(column)?.kind == ColumnType::Text {
            return Ok(snapshot.clone());
        }
        let LabelQuery { since, before, zone, .. } = self.question;
        let since = since.checked_sub(earlier).unwrap_or(Timestamp::MIN);
        let condition = Condition { column: column.into(), test: Test::during(since, before, zone) };
        let part = snapshot.sliced(&[Slice(vec![condition])])?.pop();
        part.ok_or_else(|| Error::NoRows { path: snapshot.spec().into() })
    }

    fn predictions(&self, table: &Snapshot, classes: &mut Classes<'_>, into: &mut Joined) -> Result<Scores> {
        let labels = self.labels;
        let column = |name: &String| table.column(name);
        let optional = |name: &Option<String>| name.as_ref().map(column).transpose();
        let time = column(&labels.time)?;
        let (predicted, score, proxy) =
            (optional(&labels.prediction)?, optional(&labels.score)?, optional(&labels.proxy)?);
        let beside = labels.from.is_none();
        let id = optional(&labels.id)?;
        let own = beside.then(|| column(&labels.label)).transpose()?;
        let own_at = optional(&labels.label_time.clone().filter(|_| beside))?;
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut position = 0u64;
        for chunk in 0..table.chunks() {
            let at = self.times(table, time, chunk, false)?;
            let ids = id.map(|id| self.ids(table, id, chunk)).transpose()?;
            let mut truths = |side, column: Option<&Column>| {
                column.map(|column| truths(table, column, chunk, side, classes)).transpose()
            };
            let predicted = truths(ValueSource::Prediction, predicted)?;
            let proxy = truths(ValueSource::Proxy, proxy)?;
            let own = truths(ValueSource::Label, own)?;
            let own_at = own_at.map(|column| self.times(table, column, chunk, true)).transpose()?;
            let score = score.map(|column| self.numbers(table, column, chunk)).transpose()?;
            for (row, at) in at.into_iter().enumerate() {
                position += 1;
                let Some(at) = at.filter(|at| (self.span.0..self.span.1).contains(at)) else { continue };
                let truth = |of: &Option<Vec<ClassCode>>| of.as_ref().map_or(ClassCode::MISSING, |of| of[row]);
                let known = classes.judged(ValueSource::Prediction, truth(&predicted));
                let proxy = classes.judged(ValueSource::Proxy, truth(&proxy));
                let score = score.as_ref().map_or(f64::NAN, |score| score[row]);
                if known == ClassCode::MISSING && (predicted.is_some() || score.is_nan()) {
                    continue;
                }
                if !score.is_nan() {
                    (least, most) = (least.min(score), most.max(score));
                }
                let (mut own, mut known_at) = (truth(&own), at.saturating_add(self.delay));
                if let Some(times) = &own_at {
                    into.counts.undated += u64::from(own.known().is_some() && times[row].is_none());
                    known_at = times[row].unwrap_or(i64::MAX);
                }
                if known_at >= self.span.1 {
                    own = ClassCode::MISSING;
                }
                // Without an id every row is a separate prediction.
                let id = ids.as_ref().and_then(|ids| ids[row]).unwrap_or_else(|| xxh3_128(&position.to_le_bytes()));
                let row = LoggedPrediction { id, at, predicted: known, score, proxy, own, own_at: known_at };
                into.predictions.push(id, row)?;
            }
        }
        Ok((least, most))
    }

    fn labels(&self, table: &Snapshot, classes: &mut Classes<'_>, into: &mut Joined) -> Result<()> {
        let id = table.column(self.id())?;
        let label = table.column(&self.labels.label)?;
        let time = self.labels.label_time.as_ref().map(|name| table.column(name)).transpose()?;
        for chunk in 0..table.chunks() {
            let ids = self.ids(table, id, chunk)?;
            let truths = truths(table, label, chunk, ValueSource::Label, classes)?;
            let at = time.map(|time| self.times(table, time, chunk, true)).transpose()?;
            for (row, (id, truth)) in ids.into_iter().zip(truths).enumerate() {
                let (Some(id), Some(truth)) = (id, truth.known()) else { continue };
                let at = match at.as_ref().map(|at| at[row]) {
                    None => NO_TIME,
                    Some(Some(at)) if (self.span.0..self.span.1).contains(&at) => at,
                    _ => continue,
                };
                into.labels.push(id, ArrivedLabel { id, at, truth })?;
            }
        }
        Ok(())
    }

    /// Hashes of the ids of a chunk.
    fn ids(&self, table: &Snapshot, column: &Column, chunk: usize) -> Result<Vec<Option<u128>>> {
        let mut ids = Vec::new();
        let most = if column.kind == ColumnType::Numeric(Domain::F32) { 2f64.powi(24) } else { 2f64.powi(53) };
        let mut inexact = None;
        table.each_value_in(column, chunk, |value| {
            if let RowValue::Number(x) = value
                && x.abs() > most
            {
                inexact.get_or_insert(x);
            }
            ids.push(match value {
                RowValue::Text(text) if self.labels.missing.has(text) => None,
                RowValue::Text(text) => Some(xxh3_128(text.as_bytes())),
                value => value.text().map(|text| xxh3_128(text.as_bytes())),
            });
        })?;
        match inexact {
            None => Ok(ids),
            Some(x) => Err(Error::BadValue {
                what: format!("{}, labels.id '{}'", table.spec(), column.name),
                reason: format!(
                    "{x} is a floating-point number that represents several ids; write ids as integers or text"
                ),
            }),
        }
    }

    fn numbers(&self, table: &Snapshot, column: &Column, chunk: usize) -> Result<Vec<f64>> {
        let (mut numbers, mut wrong) = (Vec::new(), None);
        table.each_value_in(column, chunk, |value| {
            numbers.push(match value {
                RowValue::Text(text) if self.labels.missing.has(text) => f64::NAN,
                RowValue::Text(text) => text.trim().parse().unwrap_or_else(|_| {
                    wrong.get_or_insert_with(|| text.to_owned());
                    f64::NAN
                }),
                value => value.number().unwrap_or(f64::NAN),
            });
        })?;
        match wrong {
            None => Ok(numbers),
            Some(text) => Err(Error::BadValue {
                what: format!("{}, scores '{}'", table.spec(), column.name),
                reason: format!(
                    "hold text such as '{}', which is not a number; correct the column, or list the text in \
                     labels.missing",
                    driftsweep_common::escape::for_display(&text)
                ),
            }),
        }
    }

    /// Points in time, in microseconds. A day begins at its midnight by the clock of the zone, and a label that `came`
    /// on a day is known at the end of that day. Text is read as ISO 8601; without a zone it is in UTC.
    fn times(&self, table: &Snapshot, column: &Column, chunk: usize, came: bool) -> Result<Vec<Option<i64>>> {
        let (mut times, mut wrong) = (Vec::new(), None);
        let zone = self.question.zone;
        let days = |days: i64| Date::constant(1970, 1, 1).checked_add(jiff::Span::new().try_days(days).ok()?).ok();
        let midnight = |day: Date| {
            let day = if came { day.tomorrow().ok()? } else { day };
            Some(day.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond())
        };
        table.each_value_in(column, chunk, |value| {
            times.push(match value {
                RowValue::Missing => None,
                RowValue::Time(at) => Some(at),
                RowValue::Day(day) => days(day.div_euclid(86_400_000_000)).and_then(midnight),
                RowValue::Text(text) if self.labels.missing.has(text) => None,
                RowValue::Text(text) => match PointInTime::parse(text.trim()) {
                    Some(PointInTime::Time(at)) => Some(at.as_microsecond()),
                    Some(PointInTime::Day(day)) => midnight(day),
                    None => {
                        wrong.get_or_insert_with(|| {
                            format!(
                                "is text such as '{}', which is not a time (ISO 8601)",
                                driftsweep_common::escape::for_display(text)
                            )
                        });
                        None
                    }
                },
                _ => {
                    wrong.get_or_insert_with(|| format!("is not a time but {}", column.kind.name()));
                    None
                }
            });
        })?;
        match wrong {
            None => Ok(times),
            Some(reason) => {
                Err(Error::BadValue { what: format!("{}, column '{}'", table.spec(), column.name), reason })
            }
        }
    }

    /// Why no label matches a prediction, if that must be a mistake: the ids differ only in how they are written, or
    /// labels were `due`.
    fn no_match_reason(
        &self,
        predictions: &Snapshot,
        table: &Snapshot,
        labels: u64,
        due: bool,
    ) -> Result<Option<String>> {
        let ids = |table: &Snapshot, most: usize, of: &mut dyn FnMut(String)| -> Result<()> {
            let column = table.column(self.id())?;
            let mut seen = 0;
            for chunk in 0..table.chunks() {
                if seen >= most {
                    break;
                }
                table.each_value_in(column, chunk, |value| {
                    if let Some(text) = value.text().filter(|text| seen < most && !self.labels.missing.has(text)) {
                        seen += 1;
                        of(text);
                    }
                })?;
            }
            Ok(())
        };
        // The likely form of the id in the other table.
        let plain = |id: &str| {
            let id = id.trim();
            let id = id.strip_suffix(".0").unwrap_or(id).trim_start_matches('0');
            id.to_lowercase()
        };
        let mut known: HashMap<String, String> = HashMap::new();
        let mut first: Option<String> = None;
        ids(table, MAX_IDS_COMPARED, &mut |id| {
            first.get_or_insert_with(|| id.clone());
            known.entry(plain(&id)).or_insert(id);
        })?;
        let (mut alike, mut other) = (None::<(String, String)>, None::<String>);
        ids(predictions, usize::MAX, &mut |id| {
            if alike.is_none()
                && let Some(label) = known.get(&plain(&id))
                && *label != id
            {
                alike = Some((label.clone(), id.clone()));
            }
            other.get_or_insert(id);
        })?;
        if alike.is_none() && !due {
            return Ok(None);
        }
        let remedy = if alike.is_some() {
            "write the ids the same way in both tables"
        } else {
            "name the column that joins predictions and labels with labels.id, or how long labels take with labels.delay"
        };
        let Some((label, prediction)) = alike.or(first.zip(other)) else { return Ok(None) };
        Ok(Some(format!(
            "{labels} labels, none matches a prediction, for example '{}' and '{}'; {remedy}",
            driftsweep_common::escape::for_display(&label),
            driftsweep_common::escape::for_display(&prediction)
        )))
    }
}

/// Ids of labels that are searched in other forms among the predictions, if none matches.
const MAX_IDS_COMPARED: usize = 100_000;

fn truths(
    table: &Snapshot,
    column: &Column,
    chunk: usize,
    side: ValueSource,
    classes: &mut Classes<'_>,
) -> Result<Vec<ClassCode>> {
    let mut truths = Vec::new();
    table.each_value_in(column, chunk, |value| truths.push(classes.truth(side, value)))?;
    Ok(truths)
}

/// Calibrates scores by the reference snapshot: `Ok(Err(_))` with the reason where that is not possible.
///
/// # Errors
/// A snapshot or column that cannot be read.
pub fn calibrate(labels: &Labels) -> Result<std::result::Result<ScoreCalibration, String>> {
    let Some(name) = &labels.score else { return Ok(Err("it needs a column of scores (labels.score)".into())) };
    let Some(reference) = &labels.reference else {
        return Ok(Err("it needs a snapshot with scores and labels for calibration (labels.reference)".into()));
    };
    if Baseline::is_baseline_file(Path::new(reference.expose())) {
        return Ok(Err(
            "a baseline file holds no rows to calibrate scores by; name a snapshot with labels.reference".into()
        ));
    }
    let reference = Snapshot::open(reference.expose())?;
    // A baseline of features alone does not calibrate anything.
    let (Ok(score), Ok(label)) = (reference.column(name), reference.column(&labels.label)) else {
        return Ok(Err(format!(
            "{} lacks '{name}' or '{}'; name a snapshot that has both with labels.reference",
            reference.spec(),
            labels.label
        )));
    };
    let mut classes = Classes::new(labels, false);
    let positive = classes.positive();
    let mut scored = ScoreCounts::default();
    for chunk in 0..reference.chunks() {
        let truths = truths(&reference, label, chunk, ValueSource::Label, &mut classes)?;
        let mut scores = Vec::with_capacity(truths.len());
        reference.each_value_in(score, chunk, |value| scores.push(value.number().unwrap_or(f64::NAN)))?;
        for (score, truth) in scores.into_iter().zip(truths) {
            if let Some(truth) = classes.judged(ValueSource::Label, truth).known() {
                scored.add(score, truth == positive);
            }
        }
    }
    if let Err(reason) = classes.check_reference() {
        return Ok(Err(reason));
    }
    Ok(ScoreCalibration::fit(scored).ok_or_else(|| "the reference snapshot has no scores with labels".into()))
}
