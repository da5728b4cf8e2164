//! Training-serving skew: the features as the definition gives them beside what serving logged, row by row.

use std::path::Path;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::context::SessionContext;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::ExprFunctionExt;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr, JoinType, WindowFrame, lit};
use datafusion::prelude::{DataFrame, ident};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::Serving;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Serialize;

use crate::engine::{failed, refused};
use crate::lookup::family;
use crate::pipeline::{FeaturePipeline, LABEL, Period, ROW_COLUMNS};
use crate::tables::ParquetTable;
use crate::write::OrderedRows;

/// Rows that are shown of a feature that differs.
const EXAMPLES: usize = 3;

/// What of the features differs from what serving logged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SkewReport {
    /// The name of the feature set.
    pub feature_set: String,
    /// The version of the features.
    pub feature_version: String,
    /// Predictions from this time on were compared; `None` is the first of all.
    pub from: Option<Timestamp>,
    /// The time before which they are.
    pub to: Timestamp,
    /// How the ids of both sides match.
    pub ids: IdCounts,
    /// Each feature.
    pub features: IndexMap<String, FeatureSkew>,
    /// What is over its limit, in words; training is blocked where there is any.
    pub findings: Vec<String>,
    /// Whether so few ids match that distributions should be compared.
    pub unmatched: bool,
}

/// How the ids of predictions and of logged rows match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdCounts {
    /// Predictions of the spine.
    pub predictions: u64,
    /// Rows of the log.
    pub logged: u64,
    /// Ids that are once on each side; their rows are compared.
    pub matched: u64,
    /// Predictions that the log lacks.
    pub missing: u64,
    /// Logged rows without a prediction.
    pub unexpected: u64,
    /// Rows of either side whose id is on one side more than once.
    pub duplicate: u64,
    /// Predictions without an id.
    pub predictions_without_id: u64,
    /// Logged rows without an id.
    pub logged_without_id: u64,
}

/// How a feature was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkewStatus {
    /// It differs in no more rows than it may.
    Equal,
    /// It differs in more.
    Different,
    /// The log does not have it.
    NotLogged,
    /// It is of another kind in the log: text and numbers, for example.
    OtherKind,
}

/// One feature on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureSkew {
    /// Whether it differs.
    pub status: SkewStatus,
    /// Rows that were compared.
    pub compared: u64,
    /// Rows in which it differs, those with a value on one side only among them.
    pub different: u64,
    /// Rows in which only the log has a value.
    pub only_logged: u64,
    /// Rows in which the log has no value.
    pub only_computed: u64,
    /// The largest difference of numbers.
    pub largest: f64,
    /// What the differences have in common, if anything.
    pub pattern: Option<String>,
    /// Some rows that differ.
    pub examples: Vec<SkewExample>,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkewExample {
    /// The id of the prediction.
    pub id: String,
    /// The value by the definition.
    pub computed: String,
    /// The value in the log.
    pub logged: String,
}

impl SkewReport {
    /// Whether training is blocked.
    pub fn blocks(&self) -> bool {
        !self.findings.is_empty()
    }
}

impl FeaturePipeline {
    /// Computes the features of a period, and compares them with what serving logged. The computed features are also written to
    /// `computed`, where it is given, for comparisons of distributions.
    ///
    /// # Errors
    /// [`Error::BadValue`] where the feature set declares no log, or where ids cannot be compared; those of
    /// [`FeaturePipeline::materialize`].
    pub fn skew(&self, period: Period, computed: Option<&Path>) -> Result<SkewReport> {
        let what = format!("feature_set '{}', serving", self.set.name);
        let Some(serving) = &self.set.serving else {
            return Err(Error::BadValue {
                what: format!("feature_set '{}'", self.set.name),
                reason: format!(
                    "it names no log of served features; add [feature_set.{}.serving] with a path",
                    self.set.name
                ),
            });
        };
        let version = self.version()?;
        let staged = self.stage(period)?;
        if staged.rows == 0 {
            return Err(Error::NoRows { path: self.set.spine.path.clone() });
        }
        let own = self.computed(&staged, period.as_of)?;
        if let Some(copy) = computed {
            std::fs::copy(own.path(), copy).map_err(|source| Error::Write { path: copy.into(), source })?;
        }
        let table = ParquetTable::of_files(&self.engine, &[own.path().to_owned()])?;
        let log = ParquetTable::open(&self.engine, &serving.path)?;
        let session = self.engine.session();
        let computed = table.frame(&session, "computed")?;
        let logged = self.log(&session, &log, serving, period)?;
        self.check_ids(&computed, &logged, &serving.id, &what)?;

        let names: Vec<String> = computed
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .filter(|name| !ROW_COLUMNS.contains(&name.as_str()) && name != LABEL && !serving.not_logged.contains(name))
            .collect();
        let mut features: IndexMap<String, FeatureSkew> = IndexMap::new();
        let mut comparisons: Vec<Comparison> = Vec::new();
        for name in &names {
            let status = match logged.schema().field_with_unqualified_name(name) {
                Err(_) => SkewStatus::NotLogged,
                Ok(field) => {
                    let own = computed.schema().field_with_unqualified_name(name).map_err(|e| refused(&what, &e))?;
                    match Common::of(own.data_type(), field.data_type()) {
                        None => SkewStatus::OtherKind,
                        Some(common) => {
                            comparisons.push(Comparison::new(name.clone(), common));
                            SkewStatus::Equal
                        }
                    }
                }
            };
            features.insert(
                name.clone(),
                FeatureSkew {
                    status,
                    compared: 0,
                    different: 0,
                    only_logged: 0,
                    only_computed: 0,
                    largest: 0.0,
                    pattern: None,
                    examples: Vec::new(),
                },
            );
        }
        let compared: Vec<&String> = comparisons.iter().map(|comparison| &comparison.name).collect();
        let mut ids = IdCounts {
            predictions: staged.rows,
            predictions_without_id: staged.without_id,
            logged: self.count_rows(logged.clone(), &what)?,
            logged_without_id: self.count_rows(
                logged.clone().filter(ident(&serving.id).is_null()).map_err(|e| refused(&what, &e))?,
                &what,
            )?,
            ..IdCounts::default()
        };
        let joined = join(side(computed, "id", &compared, "a"), side(logged, &serving.id, &compared, "b"))
            .map_err(|e| refused(&what, &e))?;
        let mut rows = OrderedRows::start(&self.engine, joined, &what)?;
        while let Some(batch) = rows.next()? {
            compare(&batch, &mut comparisons, &mut ids, serving)
                .map_err(|e| Error::BadValue { what: what.clone(), reason: e.to_string() })?;
        }
        for comparison in comparisons {
            let limit = serving.max_different;
            features.insert(comparison.name.clone(), comparison.finished(limit));
        }
        let findings = findings(&ids, &features, serving);
        let unmatched = ids.matched * 2 < ids.predictions.min(ids.logged).max(1);
        Ok(SkewReport {
            feature_set: self.set.name.clone(),
            feature_version: version.features,
            from: period.from,
            to: period.to,
            ids,
            features,
            findings,
            unmatched,
        })
    }

    /// The rows of the log in a period, where it has times.
    fn log(
        &self,
        session: &SessionContext,
        log: &ParquetTable,
        serving: &Serving,
        period: Period,
    ) -> Result<DataFrame> {
        let frame = log.frame(session, "served")?;
        let Some(time) = &serving.time else { return Ok(frame) };
        let what = format!("feature_set '{}', serving: time", self.set.name);
        let time = crate::tables::time(&frame, time, &what, self.ticks)?;
        let mut within = time.clone().lt(self.ticks.literal(period.to));
        if let Some(from) = period.from {
            within = within.and(time.gt_eq(self.ticks.literal(from)));
        }
        frame.filter(within).map_err(|e| refused(&what, &e))
    }

    fn check_ids(&self, computed: &DataFrame, logged: &DataFrame, id: &str, what: &str) -> Result<()> {
        let bad = |reason: String| Error::BadValue { what: what.into(), reason };
        let field = logged.schema().field_with_unqualified_name(id).map_err(|_| {
            bad(format!(
                "the log has no column '{id}'; name the column with the id by `id`; it has {}",
                logged.schema().field_names().join(", ")
            ))
        })?;
        let own = computed.schema().field_with_unqualified_name("id").map_err(|e| refused(what, &e))?;
        match (family(own.data_type()), family(field.data_type())) {
            (Some(a), Some(b)) if a == b => Ok(()),
            _ => Err(bad(format!(
                "ids are {} in the spine and {} in the log, and cannot be compared; make both the same in spine.id",
                own.data_type(),
                field.data_type()
            ))),
        }
    }

    fn count_rows(&self, frame: DataFrame, what: &str) -> Result<u64> {
        self.engine.wait(frame.count()).map(|rows| rows as u64).map_err(|e| failed(what, &e))
    }
}

/// What is over its limit, in words.
fn findings(ids: &IdCounts, features: &IndexMap<String, FeatureSkew>, serving: &Serving) -> Vec<String> {
    let mut findings = Vec::new();
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let percent = |share: f64| format!("{:.3} %", share * 100.0);
    let mut id = |rows: u64, whole: u64, limit: f64, words: &str, remedy: &str| {
        let found = share(rows, whole);
        if found > limit {
            findings.push(format!(
                "{rows} of {whole} {words} ({}, limit {}): {remedy}",
                percent(found),
                percent(limit)
            ));
        }
    };
    id(
        ids.missing,
        ids.predictions,
        serving.max_missing,
        "predictions are not in the log",
        "check that serving logs each prediction, and under the same id",
    );
    id(
        ids.unexpected,
        ids.logged,
        serving.max_unexpected,
        "logged rows have no prediction in the spine",
        "check that the spine has all predictions of the period",
    );
    id(
        ids.duplicate,
        ids.predictions + ids.logged,
        serving.max_duplicate,
        "rows have an id that occurs more than once",
        "log each prediction once, or add what tells them apart to the id",
    );
    id(
        ids.predictions_without_id + ids.logged_without_id,
        ids.predictions + ids.logged,
        serving.max_missing,
        "rows have no id",
        "write the id of each prediction",
    );
    if ids.matched == 0 {
        findings.push("no id of the spine is in the log: no feature was compared row by row".into());
    }
    for (name, feature) in features {
        match feature.status {
            SkewStatus::Equal => {}
            SkewStatus::NotLogged => {
                findings.push(format!("feature '{name}' is not in the log; log it, or name it in serving.not_logged"))
            }
            SkewStatus::OtherKind => findings
                .push(format!("feature '{name}' is of another kind in the log; log it as the definition gives it")),
            SkewStatus::Different => {
                let pattern = feature.pattern.as_ref().map_or(String::new(), |pattern| format!(": {pattern}"));
                findings.push(format!(
                    "feature '{name}' differs in {} of {} rows ({}, limit {}){pattern}",
                    feature.different,
                    feature.compared,
                    percent(share(feature.different, feature.compared)),
                    percent(serving.max_different)
                ));
            }
        }
    }
    findings
}

const ID: &str = "__id";
const COUNT: &str = "__count";

/// One row for each id, with the number of rows that have it.
fn side(frame: DataFrame, id: &str, features: &[&String], prefix: &str) -> datafusion::error::Result<DataFrame> {
    let name = |name: &str| format!("{name}_{prefix}");
    let mut columns = vec![ident(id).alias(name(ID))];
    columns.extend(features.iter().enumerate().map(|(i, feature)| ident(*feature).alias(format!("{prefix}{i}"))));
    let frame = frame.select(columns)?.filter(ident(name(ID)).is_not_null())?;
    let mut count = WindowFunction::new(count_udaf(), vec![lit(1_i64)]);
    count.params = WindowFunctionParams {
        partition_by: vec![ident(name(ID))],
        window_frame: WindowFrame::new(None),
        ..count.params
    };
    let place = row_number().partition_by(vec![ident(name(ID))]).build()?;
    let names: Vec<String> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut columns: Vec<Expr> = names.iter().map(ident).collect();
    columns.extend([Expr::from(count).alias(name(COUNT)), place.alias("__place")]);
    let frame = frame.select(columns)?.filter(ident("__place").eq(lit(1_u64)))?;
    frame.select(names.iter().map(ident).chain([ident(name(COUNT))]).collect::<Vec<_>>())
}

fn join(
    a: datafusion::error::Result<DataFrame>,
    b: datafusion::error::Result<DataFrame>,
) -> datafusion::error::Result<DataFrame> {
    let (left, right) = (format!("{ID}_a"), format!("{ID}_b"));
    a?.join(b?, JoinType::Full, &[&left], &[&right], None)
}

/// What both sides of a feature are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Common {
    /// 64-bit integers.
    Integers,
    /// Floating-point numbers.
    Numbers,
    /// Points in time, in microseconds.
    Times,
    /// Text.
    Text,
}

impl Common {
    fn of(a: &DataType, b: &DataType) -> Option<Self> {
        let kind = |kind: &DataType| match kind {
            DataType::Dictionary(_, values) => Self::single(values),
            kind => Self::single(kind),
        };
        match (kind(a)?, kind(b)?) {
            (x, y) if x == y => Some(x),
            (Self::Integers, Self::Numbers) | (Self::Numbers, Self::Integers) => Some(Self::Numbers),
            _ => None,
        }
    }

    fn single(kind: &DataType) -> Option<Self> {
        match kind {
            DataType::Boolean => Some(Self::Integers),
            DataType::UInt64 => Some(Self::Numbers),
            kind if kind.is_integer() => Some(Self::Integers),
            kind if kind.is_numeric() => Some(Self::Numbers),
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(Self::Times),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::Text),
            _ => None,
        }
    }

    fn cast(self, array: &ArrayRef) -> std::result::Result<ArrayRef, datafusion::arrow::error::ArrowError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        match self {
            Self::Integers => cast_with_options(array, &DataType::Int64, &strict),
            Self::Numbers => cast_with_options(array, &DataType::Float64, &strict),
            Self::Text => cast_with_options(array, &DataType::Utf8, &strict),
            Self::Times => {
                let times =
                    cast_with_options(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &strict)?;
                cast_with_options(&times, &DataType::Int64, &strict)
            }
        }
    }
}

/// The differences of a feature so far.
struct Comparison {
    name: String,
    common: Common,
    skew: FeatureSkew,
    /// Differences of numbers, computed minus logged: the smallest and the largest.
    differences: Option<(f64, f64)>,
    /// The same of their quotients, while all are defined.
    quotients: Option<(f64, f64)>,
    /// The difference of hours of a day, while it is the same for all.
    hours: Option<f64>,
    /// Rows whose numbers differ.
    unlike: u64,
    /// Of these, rows that are equal as 32-bit numbers.
    as_f32: u64,
    /// Rows whose texts differ in the case of letters or in spaces only.
    as_words: u64,
}

impl Comparison {
    fn new(name: String, common: Common) -> Self {
        let skew = FeatureSkew {
            status: SkewStatus::Equal,
            compared: 0,
            different: 0,
            only_logged: 0,
            only_computed: 0,
            largest: 0.0,
            pattern: None,
            examples: Vec::new(),
        };
        Self { name, common, skew, differences: None, quotients: None, hours: None, unlike: 0, as_f32: 0, as_words: 0 }
    }

    fn number(&mut self, a: f64, b: f64, serving: &Serving) -> bool {
        let near = a.is_finite() && b.is_finite() && (a - b).abs() <= serving.atol + serving.rtol * b.abs();
        if a == b || (a.is_nan() && b.is_nan()) || near {
            return true;
        }
        let difference = a - b;
        if difference.abs() > self.skew.largest && difference.is_finite() {
            self.skew.largest = difference.abs();
        }
        let (low, high) = self.differences.unwrap_or((difference, difference));
        self.differences = Some((low.min(difference), high.max(difference)));
        let quotient = a / b;
        let (low, high) = match self.unlike {
            0 => (quotient, quotient),
            _ => self.quotients.unwrap_or((f64::NAN, f64::NAN)),
        };
        self.quotients = Some((low.min(quotient), high.max(quotient)));
        if !quotient.is_finite() || low.is_nan() {
            self.quotients = Some((f64::NEG_INFINITY, f64::INFINITY));
        }
        let hours = difference.rem_euclid(24.0);
        self.hours = match self.unlike {
            0 => Some(hours),
            _ => self.hours.filter(|known| *known == hours),
        };
        self.unlike += 1;
        self.as_f32 += u64::from(a as f32 == b as f32);
        false
    }

    /// What the differences have in common.
    fn pattern(&self) -> Option<String> {
        let skew = &self.skew;
        if skew.only_computed == skew.different {
            return Some("the log has no value where the definition gives one".into());
        }
        if skew.only_logged == skew.different {
            return Some("the definition gives no value where the log has one".into());
        }
        if self.common == Common::Text {
            let unlike = skew.different - skew.only_computed - skew.only_logged;
            return (self.as_words == unlike).then(|| "only in the case of letters, or in spaces".into());
        }
        if self.unlike < 2 {
            return None;
        }
        let same = |(low, high): (f64, f64)| (high - low).abs() <= 1e-9 * high.abs().max(low.abs());
        let (low, high) = self.differences?;
        if self.common == Common::Times {
            let hours = high / 3.6e9;
            let way = if high > 0.0 { "later" } else { "earlier" };
            return same((low, high)).then(|| {
                let zone = if hours.fract() == 0.0 && hours.abs() <= 14.0 { ": a time zone?" } else { "" };
                format!("always {} h {way} by the definition than in the log{zone}", hours.abs())
            });
        }
        if self.as_f32 == self.unlike {
            return Some("the log has 32-bit numbers; where that is meant, set serving.rtol = 1e-6".into());
        }
        if same((low, high)) {
            let way = if high > 0.0 { "more" } else { "less" };
            return Some(format!("always {} {way} by the definition than in the log", high.abs()));
        }
        if let Some(hours) = self.hours.filter(|hours| *hours != 0.0 && hours.fract() == 0.0)
            && high - low == 24.0
        {
            let (hours, way) = if hours > 12.0 { (24.0 - hours, "earlier") } else { (hours, "later") };
            return Some(format!(
                "always {hours} h {way} on a clock of 24 hours by the definition than in the log: a time zone?"
            ));
        }
        let (low, high) = self.quotients?;
        (same((low, high)) && high.is_finite() && high != 0.0)
            .then(|| format!("always {high} times by the definition what is in the log"))
    }

    fn finished(mut self, limit: f64) -> FeatureSkew {
        if self.skew.different as f64 > limit * self.skew.compared as f64 {
            self.skew.status = SkewStatus::Different;
        }
        if self.skew.different > 0 {
            self.skew.pattern = self.pattern();
        }
        self.skew
    }
}

/// Compares the joined rows of a batch: ids first, and the features of ids that are once on each side.
fn compare(
    batch: &RecordBatch,
    comparisons: &mut [Comparison],
    ids: &mut IdCounts,
    serving: &Serving,
) -> std::result::Result<(), datafusion::arrow::error::ArrowError> {
    let counts = |prefix: &str| {
        let column = batch.column_by_name(&format!("{COUNT}_{prefix}"));
        column.map(|column| column.as_primitive::<Int64Type>().clone())
    };
    let (Some(a), Some(b)) = (counts("a"), counts("b")) else { return Ok(()) };
    let mut matched = Vec::new();
    for row in 0..batch.num_rows() {
        let of = |counts: &datafusion::arrow::array::Int64Array| {
            if counts.is_null(row) { 0 } else { counts.value(row) as u64 }
        };
        match (of(&a), of(&b)) {
            (1, 1) => matched.push(row),
            (1, 0) => ids.missing += 1,
            (0, 1) => ids.unexpected += 1,
            (x, y) => ids.duplicate += x + y,
        }
    }
    ids.matched += matched.len() as u64;
    let shown = FormatOptions::default().with_null("null");
    let Some(id) = batch.column_by_name(&format!("{ID}_a")) else { return Ok(()) };
    let id = ArrayFormatter::try_new(id, &shown)?;
    for (i, comparison) in comparisons.iter_mut().enumerate() {
        let columns = (batch.column_by_name(&format!("a{i}")), batch.column_by_name(&format!("b{i}")));
        let (Some(raw_a), Some(raw_b)) = columns else { continue };
        let (a, b) = (comparison.common.cast(raw_a)?, comparison.common.cast(raw_b)?);
        let (shown_a, shown_b) = (ArrayFormatter::try_new(raw_a, &shown)?, ArrayFormatter::try_new(raw_b, &shown)?);
        comparison.skew.compared += matched.len() as u64;
        for &row in &matched {
            let equal = match (a.is_null(row), b.is_null(row)) {
                (true, true) => true,
                (true, false) => {
                    comparison.skew.only_logged += 1;
                    false
                }
                (false, true) => {
                    comparison.skew.only_computed += 1;
                    false
                }
                (false, false) => match comparison.common {
                    Common::Numbers => {
                        let (a, b) =
                            (a.as_primitive::<Float64Type>().value(row), b.as_primitive::<Float64Type>().value(row));
                        comparison.number(a, b, serving)
                    }
                    Common::Integers | Common::Times => {
                        let (a, b) =
                            (a.as_primitive::<Int64Type>().value(row), b.as_primitive::<Int64Type>().value(row));
                        a == b || comparison.number(a as f64, b as f64, serving)
                    }
                    Common::Text => {
                        let (a, b) = (a.as_string::<i32>().value(row), b.as_string::<i32>().value(row));
                        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
                        let equal = a == b;
                        comparison.as_words += u64::from(!equal && words(a) == words(b));
                        equal
                    }
                },
            };
            if !equal {
                comparison.skew.different += 1;
                if comparison.skew.examples.len() < EXAMPLES {
                    comparison.skew.examples.push(SkewExample {
                        id: id.value(row).to_string(),
                        computed: shown_a.value(row).to_string(),
                        logged: shown_b.value(row).to_string(),
                    });
                }
            }
        }
    }
    Ok(())
}
