//! From the files of event tables and of a spine to tables with known times: read as Parquet, with one schema, and with what was
//! not known yet left out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SessionContext;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, lit, when};
use datafusion::object_store::ObjectStoreExt;
use datafusion::prelude::{DataFrame, ident};
use driftsweep::snapshot::Snapshot;
use driftsweep_common::address::Location;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;
use driftsweep_fleet::{EventTable, KnownAt, Spine};
use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use url::Url;

use crate::engine::{QueryEngine, check_determined, failed, refused};

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceFile {
    /// Its path or address.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its version in its store: the entity tag, or when it was changed.
    pub version: String,
}

/// The Parquet files of one table, with one schema.
#[derive(Clone)]
pub struct ParquetTable {
    provider: Arc<dyn TableProvider>,
    /// Its files, in order.
    pub files: Vec<SourceFile>,
    /// Columns that only some files have, each with the number of files that have it.
    pub partial: IndexMap<String, usize>,
}

impl ParquetTable {
    /// Finds the files at a location, and their common schema.
    ///
    /// # Errors
    /// Those of [`Snapshot::open`]; [`Error::Unreadable`] for a file that is not Parquet or has a column of another kind than the
    /// files before it.
    pub fn open(engine: &QueryEngine, location: &Location) -> Result<Self> {
        let snapshot = Snapshot::open(location.expose())?;
        let paths: Vec<PathBuf> = snapshot.sources().into_iter().map(|source| source.path).collect();
        Self::of_files(engine, &paths)
    }

    /// The table of files.
    ///
    /// # Errors
    /// [`Error::Unreadable`], as for [`ParquetTable::open`].
    pub fn of_files(engine: &QueryEngine, paths: &[PathBuf]) -> Result<Self> {
        let session = engine.session();
        let state = session.state();
        let format = Arc::new(ParquetFormat::default().with_force_view_types(false));
        let (mut urls, mut files) = (Vec::new(), Vec::new());
        let mut schema: Option<Schema> = None;
        let mut having: IndexMap<String, usize> = IndexMap::new();
        for path in paths {
            let unreadable = |reason: String| Error::Unreadable { path: path.as_path().into(), reason };
            let url = locate(engine, path)?;
            let store = engine.environment().object_store(url.object_store()).map_err(|e| unreadable(e.to_string()))?;
            let read = engine.wait(async {
                let meta = store.head(url.prefix()).await?;
                let schema = format.infer_schema(&state, &store, std::slice::from_ref(&meta)).await?;
                Ok::<_, datafusion::error::DataFusionError>((meta, schema))
            });
            let (meta, own) = read.map_err(|error| match failed("", &error) {
                Error::BadValue { reason, .. } => unreadable(format!("it cannot be read as Parquet: {reason}")),
                other => other,
            })?;
            own.fields().iter().for_each(|field| *having.entry(field.name().clone()).or_default() += 1);
            schema = Some(match schema {
                None => own.as_ref().clone(),
                Some(schema) => merged(&schema, &own).map_err(unreadable)?,
            });
            files.push(SourceFile {
                path: Location::from(path.as_path()).to_string(),
                bytes: meta.size,
                version: meta.e_tag.unwrap_or_else(|| meta.last_modified.to_rfc3339()),
            });
            urls.push(url);
        }
        let options = ListingOptions::new(format).with_file_extension("");
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(options)
            .with_schema(Arc::new(schema.unwrap_or_else(Schema::empty)));
        let table = ListingTable::try_new(config).map_err(|e| refused("event table", &e))?;
        having.retain(|_, count| *count < files.len());
        Ok(Self { provider: Arc::new(table), files, partial: having })
    }

    /// Its columns as they are in the files.
    pub fn schema(&self) -> SchemaRef {
        self.provider.schema()
    }

    /// A query of the whole table, as it is, under a name.
    pub fn frame(&self, session: &SessionContext, name: &str) -> Result<DataFrame> {
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(self.provider.clone()), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|e| refused(name, &e))?;
        Ok(DataFrame::new(session.state(), plan))
    }
}

/// A file as the engine names it. The store of a remote one is registered for it.
fn locate(engine: &QueryEngine, path: &Path) -> Result<ListingTableUrl> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    let url = match storage::is_remote(path) {
        false => {
            // Without `..`, which is no part of an object's name.
            let absolute = path.canonicalize().map_err(|e| unreadable(e.to_string()))?;
            Url::from_file_path(absolute).map_err(|()| unreadable("it is no path of this machine".into()))?
        }
        true => {
            let object = storage::object(path)?;
            // One name for each store: the address of a bucket may have the account in its path.
            let url = format!("store://{}/{}", object.store_name, object.key);
            let url = Url::parse(&url).map_err(|e| unreadable(e.to_string()))?;
            engine.environment().register_object_store(&url, object.store);
            url
        }
    };
    ListingTableUrl::try_new(url, None).map_err(|e| unreadable(e.to_string()))
}

/// The columns of two files of one table: a column that one of them lacks is missing there, and numbers of one kind become the
/// wider ones.
fn merged(first: &Schema, second: &Schema) -> std::result::Result<Schema, String> {
    let mut fields: Vec<Field> = first.fields().iter().map(|field| field.as_ref().clone()).collect();
    for field in second.fields() {
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            None => fields.push(field.as_ref().clone().with_nullable(true)),
            Some(known) => {
                let wider = wider(known.data_type(), field.data_type()).ok_or_else(|| {
                    format!(
                        "column '{}' is {} here and {} in the files before; write all files of a table with one type",
                        field.name(),
                        field.data_type(),
                        known.data_type()
                    )
                })?;
                *known = known.clone().with_data_type(wider).with_nullable(known.is_nullable() || field.is_nullable());
            }
        }
    }
    for known in &mut fields {
        if second.field_with_name(known.name()).is_err() {
            *known = known.clone().with_nullable(true);
        }
    }
    Ok(Schema::new(fields))
}

/// The type that holds the values of both; `None` where there is none.
fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if a == b {
        return Some(a.clone());
    }
    let signed = |kind: &DataType| match kind {
        T::Int8 => Some(8),
        T::Int16 | T::UInt8 => Some(16),
        T::Int32 | T::UInt16 => Some(32),
        T::Int64 | T::UInt32 => Some(64),
        _ => None,
    };
    match (a, b) {
        (T::Null, other) | (other, T::Null) => Some(other.clone()),
        (T::Timestamp(x, zone), T::Timestamp(y, other)) if zone == other => Some(T::Timestamp(*x.max(y), zone.clone())),
        (T::Float32, T::Float64) | (T::Float64, T::Float32) => Some(T::Float64),
        (T::Utf8, T::LargeUtf8) | (T::LargeUtf8, T::Utf8) => Some(T::LargeUtf8),
        // Integers with missing values are often written as floating-point numbers.
        (T::Float64, other) | (other, T::Float64) if signed(other).is_some() => Some(T::Float64),
        _ => Some(match signed(a)?.max(signed(b)?) {
            16 => T::Int16,
            32 => T::Int32,
            _ => T::Int64,
        }),
    }
}

/// The unit of time that all times of a pipeline are in: microseconds, or nanoseconds where a table has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks(TimeUnit);

impl Ticks {
    /// The unit for tables whose times have these types.
    pub fn of<'a>(mut kinds: impl Iterator<Item = &'a DataType>) -> Self {
        let nanoseconds = kinds.any(|kind| matches!(kind, DataType::Timestamp(TimeUnit::Nanosecond, _)));
        Self(if nanoseconds { TimeUnit::Nanosecond } else { TimeUnit::Microsecond })
    }

    /// The type of all times: instants, shown in UTC.
    pub fn kind(self) -> DataType {
        DataType::Timestamp(self.0, Some("UTC".into()))
    }

    /// A point in time in this unit; what the unit cannot hold is its end.
    pub fn count(self, at: Timestamp) -> i64 {
        let nanoseconds = at.as_nanosecond();
        let ticks = if self.0 == TimeUnit::Nanosecond { nanoseconds } else { nanoseconds.div_euclid(1000) };
        i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }

    /// A length of time in this unit.
    pub fn length(self, length: SignedDuration) -> i64 {
        let nanoseconds = length.as_nanos();
        let ticks = if self.0 == TimeUnit::Nanosecond { nanoseconds } else { nanoseconds / 1000 };
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// A point in time from its number of ticks.
    pub fn time(self, ticks: i64) -> Option<Timestamp> {
        match self.0 {
            TimeUnit::Nanosecond => Timestamp::from_nanosecond(ticks.into()).ok(),
            _ => Timestamp::from_microsecond(ticks).ok(),
        }
    }

    /// A point in time as a literal.
    pub fn literal(self, at: Timestamp) -> Expr {
        self.tick_literal(self.count(at))
    }

    /// A length of time as a literal.
    pub fn duration(self, length: SignedDuration) -> Expr {
        lit(match self.0 {
            TimeUnit::Nanosecond => {
                ScalarValue::DurationNanosecond(Some(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)))
            }
            _ => ScalarValue::DurationMicrosecond(Some(i64::try_from(length.as_micros()).unwrap_or(i64::MAX))),
        })
    }

    /// A number of ticks as a literal time.
    pub fn tick_literal(self, ticks: i64) -> Expr {
        let zone = Some("UTC".into());
        lit(match self.0 {
            TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(ticks), zone),
            _ => ScalarValue::TimestampMicrosecond(Some(ticks), zone),
        })
    }
}

/// An expression of the fleet file over the columns of a frame.
fn expression(frame: &DataFrame, text: &str, what: &str) -> Result<Expr> {
    frame.parse_sql_expr(text).map_err(|e| refused(what, &e))
}

/// The type of an expression that is a time.
pub fn time_type(frame: &DataFrame, text: &str, what: &str) -> Result<DataType> {
    let kind = expression(frame, text, what)?.get_type(frame.schema()).map_err(|e| refused(what, &e))?;
    match kind {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Ok(kind),
        other => Err(Error::BadValue {
            what: what.into(),
            reason: format!(
                "it is {other}, not a time; convert it, for example with to_timestamp_seconds({text}) for seconds since \
                 1970, or to_timestamp({text}) for text"
            ),
        }),
    }
}

/// An expression that is a time, in the common unit.
pub fn time(frame: &DataFrame, text: &str, what: &str, ticks: Ticks) -> Result<Expr> {
    time_type(frame, text, what)?;
    expression(frame, text, what)?.cast_to(&ticks.kind(), frame.schema()).map_err(|e| refused(what, &e))
}

/// An event table that was opened.
#[derive(Clone)]
pub struct Events {
    /// How it is declared.
    pub declared: EventTable,
    /// Its files.
    pub files: ParquetTable,
}

/// How many rows of an event table cannot be used as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventRows {
    /// All rows.
    pub rows: u64,
    /// Rows without `event_time` or `known_at`: no query sees them.
    pub without_time: u64,
    /// Rows that were known before they happened.
    pub known_before_event: u64,
}

impl Events {
    /// What messages call it.
    pub fn what(&self) -> String {
        format!("event_table '{}'", self.declared.name)
    }

    /// The types of its times.
    pub fn time_types(&self, session: &SessionContext) -> Result<Vec<DataType>> {
        let frame = self.files.frame(session, &self.declared.name)?;
        let mut kinds = vec![time_type(&frame, &self.declared.event_time, &format!("{}: event_time", self.what()))?];
        if let KnownAt::Expression(text) = &self.declared.known_at {
            kinds.push(time_type(&frame, text, &format!("{}: known_at", self.what()))?);
        }
        Ok(kinds)
    }

    /// All rows, with `event_time` and `known_at` beside the declared columns.
    pub fn all(&self, session: &SessionContext, ticks: Ticks) -> Result<DataFrame> {
        let what = self.what();
        let frame = self.files.frame(session, &self.declared.name)?;
        let event_time = time(&frame, &self.declared.event_time, &format!("{what}: event_time"), ticks)?;
        let known_at = match &self.declared.known_at {
            KnownAt::Expression(text) => time(&frame, text, &format!("{what}: known_at"), ticks)?,
            KnownAt::Delay(delay) => {
                let nanoseconds = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
                event_time.clone() + lit(ScalarValue::new_interval_mdn(0, 0, nanoseconds))
            }
        };
        let mut columns = Vec::new();
        match &self.declared.columns {
            None => {
                let names = self.files.schema();
                let names = names.fields().iter().map(|field| field.name());
                columns.extend(names.filter(|name| !["event_time", "known_at"].contains(&name.as_str())).map(ident));
            }
            Some(declared) => {
                for (name, text) in declared {
                    columns.push(expression(&frame, text, &format!("{what}: column '{name}'"))?.alias(name));
                }
            }
        }
        columns.extend([event_time.alias("event_time"), known_at.alias("known_at")]);
        let frame = frame.select(columns).map_err(|e| refused(&what, &e))?;
        check_determined(frame.logical_plan(), &what)?;
        Ok(frame)
    }

    /// How many rows there are, and how many of them cannot be used.
    pub fn rows(&self, engine: &QueryEngine, ticks: Ticks) -> Result<EventRows> {
        let what = self.what();
        let (event, known) = (ident("event_time"), ident("known_at"));
        let one_if = |condition: Expr| when(condition, lit(1_i64)).otherwise(lit(0_i64));
        let columns = one_if(event.clone().is_null().or(known.clone().is_null())).and_then(|without| {
            let early = one_if(known.lt(event))?;
            Ok(vec![count(lit(1_i64)).alias("rows"), sum(without).alias("without"), sum(early).alias("early")])
        });
        let columns = columns.map_err(|e| refused(&what, &e))?;
        let counted =
            self.all(&engine.session(), ticks)?.aggregate(Vec::new(), columns).map_err(|e| refused(&what, &e))?;
        let batches = engine.wait(counted.collect()).map_err(|e| failed(&what, &e))?;
        let number = |i: usize| {
            let found = batches.first()?.column(i).as_primitive::<Int64Type>().iter().next().flatten()?;
            u64::try_from(found).ok()
        };
        let [rows, without_time, known_before_event] = [0, 1, 2].map(|i| number(i).unwrap_or(0));
        Ok(EventRows { rows, without_time, known_before_event })
    }

    /// The rows that were known before a point in time.
    pub fn known(&self, session: &SessionContext, ticks: Ticks, before: &Expr) -> Result<DataFrame> {
        self.all(session, ticks)?
            .filter(ident("known_at").lt(before.clone()).and(ident("event_time").is_not_null()))
            .map_err(|e| refused(&self.what(), &e))
    }
}

/// The rows of a spine: `id`, `prediction_time` and the declared columns.
pub fn spine_rows(session: &SessionContext, spine: &Spine, files: &ParquetTable, ticks: Ticks) -> Result<DataFrame> {
    let frame = files.frame(session, "spine")?;
    let mut columns = vec![
        expression(&frame, &spine.id, "spine: id")?.alias("id"),
        time(&frame, &spine.time, "spine: time", ticks)?.alias("prediction_time"),
    ];
    for (name, text) in &spine.columns {
        columns.push(expression(&frame, text, &format!("spine: column '{name}'"))?.alias(name));
    }
    let frame = frame.select(columns).map_err(|e| refused("spine", &e))?;
    check_determined(frame.logical_plan(), "spine")?;
    if let Some(nested) = frame.schema().fields().iter().find(|field| field.data_type().is_nested()) {
        return Err(Error::BadValue {
            what: format!("spine: column '{}'", nested.name()),
            reason: format!("it is {}; select single values of it, as SQL expressions", nested.data_type()),
        });
    }
    Ok(frame)
}

/// The type of the times of a spine.
pub fn spine_time_type(session: &SessionContext, spine: &Spine, files: &ParquetTable) -> Result<DataType> {
    time_type(&files.frame(session, "spine")?, &spine.time, "spine: time")
}
