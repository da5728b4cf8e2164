//! Point in time: what was known of an event table before each prediction.
//!
//! Predictions and events are put into one table, sorted once by key and time, and read in that order (`in_order`): the rows so far
//! are exactly what was known before each prediction. No prediction meets all the events of its key, and no side of a join is held in
//! memory; the sort spills. An event known in the same instant as a prediction is not seen by it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue, plan_err};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions;
use datafusion::prelude::{DataFrame, cast, ident};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::LookupKind;
use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::engine::{QueryEngine, refused};
use crate::in_order::{Call, Layout, Taken, read_in_order};
use crate::tables::Ticks;

fn key(i: usize) -> String {
    format!("__key{i}")
}

fn value(i: usize) -> String {
    format!("__value{i}")
}

/// A lookup as it is declared.
pub struct DeclaredLookup<'a> {
    /// What messages call it.
    pub what: String,
    /// Columns of the spine, with those of the table that must be equal.
    pub on: &'a IndexMap<String, String>,
    /// The columns it adds, with their expressions.
    pub columns: &'a IndexMap<String, String>,
    /// What of the rows that match is taken.
    pub kind: &'a LookupKind,
    /// The time before which a row must have been known; `None` is that of the prediction.
    pub before: Option<Expr>,
}

/// A lookup that is planned, and not run yet.
pub struct PlannedLookup {
    what: String,
    both: DataFrame,
    layout: Layout,
    taken: Taken,
    /// Expressions over what is taken: the columns it adds.
    columns: Vec<Expr>,
    /// What is taken, in words that are part of the version of a feature set.
    words: String,
    /// The columns it adds, with their types.
    pub schema: Schema,
}

/// What is taken from the events, before it is sorted, and what is made of it after.
struct Values {
    /// Expressions over the event table.
    values: Vec<Expr>,
    taken: Taken,
    /// Expressions over what is taken.
    columns: Vec<Expr>,
    words: String,
}

impl DeclaredLookup<'_> {
    /// Plans the lookup. `spine` has `row_id` and `prediction_time`; `events` has `event_time`, `known_at` and the columns of its
    /// table.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a column is missing, keys are of different kinds, or an expression is not understood.
    pub fn plan(&self, spine: &DataFrame, events: DataFrame, ticks: Ticks) -> Result<PlannedLookup> {
        self.check_keys(spine, &events)?;
        self.planned(spine.clone(), events, ticks).map_err(|error| refused(&self.what, &error))
    }

    fn check_keys(&self, spine: &DataFrame, events: &DataFrame) -> Result<()> {
        for (own, other) in self.on {
            let kind = |frame: &DataFrame, name: &str, of: &str| {
                let schema = frame.schema();
                let field = schema.field_with_unqualified_name(name).map_err(|_| Error::BadValue {
                    what: self.what.clone(),
                    reason: format!(
                        "on: {of} has no column '{name}'; it has {}",
                        schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
                    ),
                })?;
                Ok::<_, Error>(field.data_type().clone())
            };
            let (a, b) = (kind(spine, own, "the spine")?, kind(events, other, "the event table")?);
            let reason = match (family(&a), family(&b)) {
                (None, _) => format!("on: '{own}' of the spine is {a}, which cannot be compared exactly; convert it"),
                (_, None) => {
                    format!("on: '{other}' of the event table is {b}, which cannot be compared exactly; convert it")
                }
                (x, y) if x != y => format!(
                    "on: '{own}' of the spine is {a}, and '{other}' of the event table is {b}; make both the same with \
                     CAST in the columns of the table"
                ),
                _ => continue,
            };
            return Err(Error::BadValue { what: self.what.clone(), reason });
        }
        Ok(())
    }

    fn planned(&self, spine: DataFrame, events: DataFrame, ticks: Ticks) -> PlanResult<PlannedLookup> {
        let tick = |time: Expr| cast(cast(time, ticks.kind()), DataType::Int64);
        let Values { values, taken, columns, words } = match self.kind {
            LookupKind::Latest { .. } => self.latest(&events)?,
            LookupKind::Aggregate { within } => self.aggregates(&events, ticks.length(*within))?,
        };
        let kinds = values.iter().map(|value| value.get_type(events.schema())).collect::<PlanResult<Vec<_>>>()?;
        let mut of_event = Vec::new();
        let mut of_spine = Vec::new();
        let mut known = ident("known_at").is_not_null();
        for (i, (own, other)) in self.on.iter().enumerate() {
            // Both sides of a union have the type of the first, so that keys of different widths are equal.
            of_event.push(ident(other).alias(key(i)));
            of_spine.push(ident(own).alias(key(i)));
            known = known.and(ident(other).is_not_null());
        }
        let oldest = match self.kind {
            LookupKind::Latest { max_age: Some(age) } => tick(ident("prediction_time")) - lit(ticks.length(*age)),
            _ => lit(ScalarValue::Int64(None)),
        };
        let before = self.before.clone().unwrap_or_else(|| ident("prediction_time"));
        of_event.extend([
            tick(ident("known_at")).alias(Layout::AT),
            lit(false).alias(Layout::IS_SPINE),
            tick(ident("event_time")).alias(Layout::EVENT),
            lit(ScalarValue::Int64(None)).alias(Layout::ROW),
        ]);
        of_spine.extend([
            // Strictly before: the last tick at which an event may have become known.
            (tick(before) - lit(1_i64)).alias(Layout::AT),
            lit(true).alias(Layout::IS_SPINE),
            oldest.alias(Layout::EVENT),
            ident(Layout::ROW),
        ]);
        for (i, (expression, kind)) in values.iter().zip(&kinds).enumerate() {
            of_event.push(expression.clone().alias(value(i)));
            of_spine.push(lit(ScalarValue::try_from(kind)?).alias(value(i)));
        }
        let both = events.filter(known)?.select(of_event)?.union(spine.select(of_spine)?)?;
        let layout = Layout { keys: self.on.len(), values: values.len() };
        // The types of the result, as of a table that has what is taken.
        let fields: Vec<_> = match &taken {
            Taken::Latest => (0..values.len())
                .map(|i| Arc::new(datafusion::arrow::datatypes::Field::new(value(i), kinds[i].clone(), true)))
                .collect(),
            Taken::Window { calls, .. } => calls
                .iter()
                .enumerate()
                .map(|(i, call)| {
                    let kind = call.function.field().data_type().clone();
                    Arc::new(datafusion::arrow::datatypes::Field::new(format!("__window{i}"), kind, true))
                })
                .collect(),
        };
        let taken_schema = DFSchema::try_from(Schema::new(fields))?;
        let schema = columns
            .iter()
            .zip(self.columns.keys())
            .map(|(column, name)| {
                let coerced = simplifier(&taken_schema).coerce(column.clone(), &taken_schema)?;
                Ok(datafusion::arrow::datatypes::Field::new(name, coerced.get_type(&taken_schema)?, true))
            })
            .collect::<PlanResult<Vec<_>>>()?;
        let columns = columns.into_iter().zip(self.columns.keys()).map(|(column, name)| column.alias(name)).collect();
        Ok(PlannedLookup { what: self.what.clone(), both, layout, taken, columns, words, schema: Schema::new(schema) })
    }

    fn latest(&self, events: &DataFrame) -> PlanResult<Values> {
        let values =
            self.columns.values().map(|text| events.parse_sql_expr(text)).collect::<PlanResult<Vec<Expr>>>()?;
        let columns = (0..values.len()).map(|i| ident(value(i))).collect();
        let words = format!("latest {:?}", self.kind);
        Ok(Values { values, taken: Taken::Latest, columns, words })
    }

    fn aggregates(&self, events: &DataFrame, ticks: i64) -> PlanResult<Values> {
        let mut values: Vec<Expr> = Vec::new();
        let mut calls: Vec<(AggregateFunction, Vec<usize>, Option<usize>)> = Vec::new();
        let mut columns = Vec::new();
        for text in self.columns.values() {
            let before = calls.len();
            let parsed = events.parse_sql_expr(text)?;
            let transformed = parsed.transform_up(|part| {
                let Expr::AggregateFunction(_) = &part else { return Ok(Transformed::no(part)) };
                let part = simplifier(events.schema()).coerce(part, events.schema())?;
                let Expr::AggregateFunction(call) = part else { return plan_err!("{text} is not understood") };
                if !call.params.order_by.is_empty() {
                    return plan_err!("{}: an aggregate of a window takes no ORDER BY", call.func.name());
                }
                let mut place = |value: Expr| {
                    values.iter().position(|known| *known == value).unwrap_or_else(|| {
                        values.push(value);
                        values.len() - 1
                    })
                };
                let arguments = call.params.args.iter().map(|argument| place(argument.clone())).collect();
                let filter = call.params.filter.as_ref().map(|filter| place(filter.as_ref().clone()));
                calls.push((call, arguments, filter));
                Ok(Transformed::yes(ident(format!("__window{}", calls.len() - 1))))
            })?;
            if calls.len() == before {
                return plan_err!("'{text}' is no aggregate; give one such as avg(amount) or count(*)");
            }
            columns.push(transformed.data);
        }
        let kinds = values.iter().map(|value| value.get_type(events.schema())).collect::<PlanResult<Vec<_>>>()?;
        let fields = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| datafusion::arrow::datatypes::Field::new(value(i), kind.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut words = format!("aggregate within {ticks}");
        let calls = calls
            .into_iter()
            .map(|(call, arguments, filter)| {
                let nulls = call.params.null_treatment;
                let distinct = call.params.distinct;
                words.push_str(&format!("; {} {arguments:?} {filter:?} {distinct} {nulls:?}", call.func.name()));
                let columns =
                    arguments.iter().map(|&i| expressions::col(&value(i), &schema)).collect::<PlanResult<Vec<_>>>()?;
                let function = AggregateExprBuilder::new(call.func, columns)
                    .schema(schema.clone())
                    .alias("window")
                    .with_distinct(call.params.distinct)
                    .with_ignore_nulls(nulls == Some(datafusion::logical_expr::expr::NullTreatment::IgnoreNulls))
                    .build()?;
                Ok(Call { function: Arc::new(function), arguments, filter })
            })
            .collect::<PlanResult<Vec<Call>>>()?;
        let shown: Vec<String> = columns.iter().map(ToString::to_string).collect();
        words.push_str(&format!("; {}", shown.join(", ")));
        Ok(Values { values, taken: Taken::Window { ticks, calls }, columns, words })
    }
}

/// Gives expressions the types that functions take.
fn simplifier(schema: &DFSchema) -> ExprSimplifier {
    ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build())
}

impl PlannedLookup {
    /// The query: `row_id` and the columns it adds, in any order.
    ///
    /// # Errors
    /// [`Error::BadValue`] where it cannot be planned.
    pub fn run(&self, engine: &QueryEngine, session: &SessionContext) -> Result<DataFrame> {
        let found = read_in_order(engine, session, self.both.clone(), self.layout, self.taken.clone());
        let selected = std::iter::once(ident(Layout::ROW)).chain(self.columns.iter().cloned()).collect::<Vec<_>>();
        found.and_then(|found| found.select(selected)).map_err(|error| refused(&self.what, &error))
    }

    /// Events and predictions of each key together, in the order in which `run` reads them; and where its columns are.
    ///
    /// # Errors
    /// [`Error::BadValue`] where it cannot be planned.
    pub fn sorted(&self) -> Result<(DataFrame, Layout)> {
        let fields = self.both.schema().fields();
        let places = (0..self.layout.row()).chain((0..self.layout.values).map(|i| self.layout.value(i)));
        let order = places.map(|i| ident(fields[i].name()).sort(true, true)).collect();
        let sorted = self.both.clone().sort(order).map_err(|error| refused(&self.what, &error))?;
        Ok((sorted, self.layout))
    }

    /// Adds what is computed to the hash of a version.
    pub fn hash(&self, hash: &mut Sha256) {
        hash.update(self.words.as_bytes());
        hash.update("\n");
        hash.update(self.both.logical_plan().display_indent_schema().to_string());
        hash.update("\n\n");
    }

    /// Its plan, for people.
    pub fn shown(&self) -> String {
        format!("{}: {}\n{}", self.what, self.words, self.both.logical_plan().display_indent())
    }
}

/// Types whose values are equal or not whatever their width; `None` for those without exact equality.
pub fn family(kind: &DataType) -> Option<u8> {
    match kind {
        _ if kind.is_integer() => Some(0),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(1),
        DataType::Dictionary(_, values) => family(values),
        DataType::Boolean => Some(2),
        DataType::Timestamp(..) => Some(3),
        DataType::Date32 | DataType::Date64 => Some(4),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Some(5),
        DataType::Decimal128(..) | DataType::Decimal256(..) => Some(6),
        _ => None,
    }
}
