//! Materialised sets as trainers take them, and what a trained model says about them, as files.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchReader, StringArray,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options, concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use driftsweep_common::error::{Error, Result};
use driftsweep_trainers::{Categories, Column, Position, Table};

use crate::pipeline::{LABEL, ROW_COLUMNS};
use crate::write::ParquetOutput;

/// A materialised set in memory.
pub struct SetRows {
    batch: RecordBatch,
    path: std::path::PathBuf,
}

impl SetRows {
    /// Reads a materialised file.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn read(path: &Path) -> Result<Self> {
        let batch = read(path)?;
        for name in ROW_COLUMNS {
            if batch.column_by_name(name).is_none() {
                let reason = format!("it has no column '{name}'; name a file of `driftsweep features materialize`");
                return Err(Error::Unreadable { path: path.into(), reason });
            }
        }
        Ok(Self { batch, path: path.into() })
    }

    /// Its number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows whose label is known.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where the set has no labels.
    pub fn labelled(&self) -> Result<Self> {
        let label = self.column(LABEL)?;
        let known = BooleanArray::from_iter((0..label.len()).map(|row| Some(label.is_valid(row))));
        let batch = filter_record_batch(&self.batch, &known).map_err(|e| self.unreadable(&e.to_string()))?;
        Ok(Self { batch, path: self.path.clone() })
    }

    /// Some of its rows, in their order, numbered anew, with other labels.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where the labels are of another number or type.
    pub(crate) fn relabelled(&self, rows: Range<usize>, labels: ArrayRef) -> Result<Self> {
        let part = self.part(rows);
        let schema = part.batch.schema();
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..part.rows() as i64));
        let columns = schema.fields().iter().zip(part.batch.columns()).map(|(field, values)| match field.name() {
            name if name == ROW_COLUMNS[0] => ids.clone(),
            name if name == LABEL => labels.clone(),
            _ => values.clone(),
        });
        let batch = RecordBatch::try_new(schema.clone(), columns.collect());
        Ok(Self { batch: batch.map_err(|e| self.unreadable(&e.to_string()))?, path: self.path.clone() })
    }

    /// The type of its labels.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where the set has no labels.
    pub(crate) fn label_type(&self) -> Result<DataType> {
        self.column(LABEL).map(|labels| labels.data_type().clone())
    }

    /// The names of the features.
    pub fn features(&self) -> Vec<String> {
        let schema = self.batch.schema();
        let names = schema.fields().iter().map(|field| field.name());
        names.filter(|name| !ROW_COLUMNS.contains(&name.as_str()) && *name != LABEL).cloned().collect()
    }

    /// Writes all of it, as it is materialised.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, self.batch.clone())
    }

    /// Writes the features, without the columns of the row and the label.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_only_features(&self, path: &Path) -> Result<()> {
        let schema = self.batch.schema();
        let names = self.features();
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|&i| names.contains(schema.field(i).name())).collect();
        let batch = self.batch.project(&kept).map_err(|e| self.unreadable(&e.to_string()))?;
        write(path, batch)
    }

    /// Some of its rows, in their order.
    pub fn part(&self, rows: Range<usize>) -> Self {
        let end = rows.end.min(self.rows());
        let begin = rows.start.min(end);
        Self { batch: self.batch.slice(begin, end - begin), path: self.path.clone() }
    }

    /// The label of each row, as a number; NaN where it is not known.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`] where labels are no numbers.
    pub fn labels(&self) -> Result<Vec<f64>> {
        self.numbers(LABEL, self.column(LABEL)?)
    }

    /// The features, as trainers take them: numbers and truth values as numbers, text as categories.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`] for a feature of another type, or an infinite number.
    pub fn table(&self) -> Result<Table> {
        let schema = self.batch.schema();
        let features = schema.fields().iter().zip(self.batch.columns());
        let features =
            features.filter(|(field, _)| !ROW_COLUMNS.contains(&field.name().as_str()) && field.name() != LABEL);
        let columns = features.map(|(field, values)| Ok((field.name().clone(), self.feature(field.name(), values)?)));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Table::new(columns).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn feature(&self, name: &str, values: &ArrayRef) -> Result<Column> {
        let kind = match values.data_type() {
            DataType::Dictionary(_, values) => values.as_ref(),
            kind => kind,
        };
        match kind {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let text = cast(values, &DataType::Utf8).map_err(|e| self.bad(name, &e.to_string()))?;
                let text: Vec<Option<&str>> = text.as_string::<i32>().iter().collect();
                Ok(Column::Categories(Categories::from_rows(&text)))
            }
            kind if kind.is_numeric() || *kind == DataType::Boolean => {
                let numbers = self.numbers(name, values)?;
                match numbers.iter().position(|number| number.is_infinite()) {
                    None => Ok(Column::Numbers(numbers)),
                    Some(row) => Err(self.bad(
                        name,
                        &format!(
                            "row {row} is {}; make it missing with NULLIF or CASE in the SQL of the feature",
                            numbers[row]
                        ),
                    )),
                }
            }
            kind => Err(self.bad(
                name,
                &format!("it is {kind}; trainers take numbers and text: convert it in the SQL of the feature set"),
            )),
        }
    }

    fn numbers(&self, name: &str, values: &ArrayRef) -> Result<Vec<f64>> {
        let numeric = values.data_type().is_numeric() || *values.data_type() == DataType::Boolean;
        if !numeric {
            return Err(self.bad(
                name,
                &format!(
                    "it is {}, not a number; convert it with CAST, or give its values numbers with CASE",
                    values.data_type()
                ),
            ));
        }
        let numbers = cast(values, &DataType::Float64).map_err(|e| self.bad(name, &e.to_string()))?;
        Ok(numbers.as_primitive::<Float64Type>().iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    }

    /// The places of the rows in time.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`] for a row without an id.
    pub fn positions(&self) -> Result<Vec<Position>> {
        let id = ROW_COLUMNS[1];
        let times = self.times()?;
        let ids = self.column(id)?;
        let shown =
            ArrayFormatter::try_new(ids, &FormatOptions::default()).map_err(|e| self.bad(id, &e.to_string()))?;
        let whole = ids.data_type().is_integer().then(|| cast(ids, &DataType::Int64));
        let whole = whole.transpose().map_err(|e| self.bad(id, &e.to_string()))?;
        let place = |(row, time): (usize, Option<i64>)| {
            let text = match &whole {
                _ if ids.is_null(row) => {
                    return Err(self.bad(id, &format!("row {row} has none; give each prediction an id")));
                }
                // Numbers in the order of their values.
                Some(whole) => {
                    format!("{:020}", i128::from(whole.as_primitive::<Int64Type>().value(row)) - i128::from(i64::MIN))
                }
                None => shown.value(row).to_string(),
            };
            Ok(Position { time: time.unwrap_or(i64::MIN), id: text })
        };
        times.as_primitive::<Int64Type>().iter().enumerate().map(place).collect()
    }

    /// The number of rows of predictions before a time, in nanoseconds since 1970: rows are in the order of their times.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn first_at(&self, nanoseconds: i128) -> Result<usize> {
        let times = self.times()?;
        Ok(times.as_primitive::<Int64Type>().values().partition_point(|&time| i128::from(time) < nanoseconds))
    }

    /// The times of predictions, in nanoseconds since 1970.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn prediction_times(&self) -> Result<Vec<i64>> {
        Ok(self.times()?.as_primitive::<Int64Type>().values().to_vec())
    }

    /// The times of predictions, in nanoseconds.
    fn times(&self) -> Result<ArrayRef> {
        let name = ROW_COLUMNS[2];
        // One unit whatever that of the tables is: a model may be continued with another.
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(self.column(name)?, &nanoseconds, &strict)
            .and_then(|times| cast(&times, &DataType::Int64))
            .map_err(|e| self.bad(name, &e.to_string()))
    }

    /// Writes the features alone, for a program that predicts: the columns of the row and the features, without the label.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_features(&self, path: &Path) -> Result<()> {
        let schema = self.batch.schema();
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|&i| schema.field(i).name() != LABEL).collect();
        let batch = self.batch.project(&kept).map_err(|e| self.unreadable(&e.to_string()))?;
        write(path, batch)
    }

    /// Writes predictions of all rows: the id, the score, and for classes what is predicted by a score of 0.5 or more.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_predictions(
        &self,
        path: &Path,
        names: &PredictionColumns,
        scores: &[f64],
        classes: bool,
    ) -> Result<()> {
        let mut columns: Vec<(&str, ArrayRef)> = vec![(&names.id, self.column(ROW_COLUMNS[1])?.clone())];
        if let Some(prediction) = &names.prediction {
            let predicted: ArrayRef = match classes {
                true => Arc::new(scores.iter().map(|&score| Some(i64::from(score >= 0.5))).collect::<Int64Array>()),
                false => Arc::new(Float64Array::from(scores.to_vec())),
            };
            columns.push((prediction, predicted));
        }
        if let Some(score) = &names.score {
            columns.push((score, Arc::new(Float64Array::from(scores.to_vec()))));
        }
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)));
        write(path, batch.map_err(|e| self.unreadable(&e.to_string()))?)
    }

    /// Writes the features and the id with the name that the fleet file has for it, without the label.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_features_of_gates(&self, path: &Path, names: &PredictionColumns) -> Result<()> {
        let schema = self.batch.schema();
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|&i| schema.field(i).name() != LABEL).collect();
        let batch = self.batch.project(&kept).map_err(|e| self.unreadable(&e.to_string()))?;
        Self { batch, path: self.path.clone() }.write_labels(path, names)
    }

    /// Refuses features that have the name of the id or of the label in the fleet file: gates would take them for these.
    ///
    /// # Errors
    /// [`Error::UnreadableColumn`].
    pub fn check_names(&self, names: &PredictionColumns) -> Result<()> {
        let schema = self.batch.schema();
        let features = schema.fields().iter().map(|field| field.name());
        let mut features = features.filter(|name| !ROW_COLUMNS.contains(&name.as_str()) && name.as_str() != LABEL);
        match features.find(|name| [&names.id, &names.label].contains(name)) {
            None => Ok(()),
            Some(name) => {
                Err(self.bad(name, "it has the name of labels.id or labels.label; give the feature another name"))
            }
        }
    }

    /// Writes the labels with the names that the fleet file has for them, and all other columns beside them.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_labels(&self, path: &Path, names: &PredictionColumns) -> Result<()> {
        let schema = self.batch.schema();
        let renamed = HashMap::from([(ROW_COLUMNS[1], &names.id), (LABEL, &names.label)]);
        let mut fields: Vec<Field> = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (field, values) in schema.fields().iter().zip(self.batch.columns()) {
            let name = renamed.get(field.name().as_str()).map_or(field.name(), |name| name);
            // The id may have the name of another column of the row.
            if !renamed.contains_key(field.name().as_str()) && renamed.values().any(|taken| *taken == name) {
                continue;
            }
            fields.push(field.as_ref().clone().with_name(name));
            columns.push(values.clone());
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        write(path, batch.map_err(|e| self.unreadable(&e.to_string()))?)
    }

    /// Writes rows as a service would log them: the id, the time, the features, the label, and for each row its score, what is predicted
    /// by a score of 0.5 or more, and the arm that served it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_served(&self, path: &Path, names: &ServedColumns<'_>, scores: &[f64], arms: &[&str]) -> Result<()> {
        let schema = self.batch.schema();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (field, values) in schema.fields().iter().zip(self.batch.columns()) {
            if field.name() != ROW_COLUMNS[0] {
                columns.push((field.name(), values.clone()));
            }
        }
        let predicted = scores.iter().map(|&score| Some(i64::from(score >= 0.5))).collect::<Int64Array>();
        columns.push((names.score, Arc::new(Float64Array::from(scores.to_vec()))));
        columns.push((names.prediction, Arc::new(predicted)));
        columns.push((names.arm, Arc::new(arms.iter().map(|arm| Some(*arm)).collect::<StringArray>())));
        let columns = columns.into_iter().map(|(name, values)| (name, values, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns);
        write(path, batch.map_err(|e| self.unreadable(&e.to_string()))?)
    }

    fn column(&self, name: &str) -> Result<&ArrayRef> {
        let found = self.batch.column_by_name(name);
        found.ok_or_else(|| self.unreadable(&format!("it has no column '{name}'; declare it in the feature set")))
    }

    fn unreadable(&self, reason: &str) -> Error {
        Error::Unreadable { path: self.path.as_path().into(), reason: reason.into() }
    }

    fn bad(&self, column: &str, reason: &str) -> Error {
        Error::UnreadableColumn { path: self.path.as_path().into(), column: column.into(), reason: reason.into() }
    }
}

/// What the columns of predictions and labels are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictionColumns {
    /// The id.
    pub id: String,
    /// The label.
    pub label: String,
    /// What is predicted, if that is written.
    pub prediction: Option<String>,
    /// The score, if that is written.
    pub score: Option<String>,
}

/// What the columns of a log are called beside those of a set.
#[derive(Clone, Copy, Debug)]
pub struct ServedColumns<'a> {
    /// The score.
    pub score: &'a str,
    /// What is predicted.
    pub prediction: &'a str,
    /// The arm.
    pub arm: &'a str,
}

/// The scores that a program wrote for rows, in the order of `row_id`.
///
/// # Errors
/// [`Error::Unreadable`] where a row has no score, or more than one, or scores are not finite numbers.
pub fn read_scores(path: &Path, rows: &SetRows) -> Result<Vec<f64>> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    if !path.exists() {
        let reason = "trainer_command.predict has not written it; let it write row_id and score of each row into the file that \
                      DRIFTSWEEP_SCORES names";
        return Err(unreadable(reason.into()));
    }
    let batch = read(path)?;
    let column = |name: &str, kind: &DataType| {
        let found = batch
            .column_by_name(name)
            .ok_or_else(|| unreadable(format!("it has no column '{name}'; write row_id and score")));
        found.and_then(|values| cast(values, kind).map_err(|e| unreadable(format!("column '{name}': {e}"))))
    };
    let (ids, scores) = (column("row_id", &DataType::Int64)?, column("score", &DataType::Float64)?);
    let wanted = rows.column(ROW_COLUMNS[0])?.as_primitive::<Int64Type>();
    let mut found: HashMap<i64, f64> = HashMap::new();
    for (id, score) in ids.as_primitive::<Int64Type>().iter().zip(scores.as_primitive::<Float64Type>()) {
        let Some(id) = id else { return Err(unreadable("a row has no row_id".into())) };
        let Some(score) = score.filter(|score| score.is_finite()) else {
            return Err(unreadable(format!("row_id {id} has no finite score; give each row a number")));
        };
        if found.insert(id, score).is_some() {
            return Err(unreadable(format!("row_id {id} has more than one score")));
        }
    }
    let score = |id: &i64| found.remove(id).ok_or_else(|| unreadable(format!("row_id {id} has no score")));
    let scores = wanted.values().iter().map(score).collect::<Result<Vec<f64>>>()?;
    match found.keys().min() {
        None => Ok(scores),
        Some(id) => Err(unreadable(format!("row_id {id} is none of the rows in the file that DRIFTSWEEP_ROWS names"))),
    }
}

fn read(path: &Path) -> Result<RecordBatch> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
    let reader = reader.map_err(|e| unreadable(format!("it cannot be read as Parquet: {e}")))?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| unreadable(e.to_string()))?;
    concat_batches(&schema, &batches).map_err(|e| unreadable(e.to_string()))
}

fn write(path: &Path, batch: RecordBatch) -> Result<()> {
    let file = File::create(path).map_err(|source| Error::Write { path: path.into(), source })?;
    let mut output = ParquetOutput::new(file, path, batch.schema())?;
    output.push(batch)?;
    output.finish().map(drop)
}
