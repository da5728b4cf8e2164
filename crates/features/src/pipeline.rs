//! A feature set as queries: the spine, what was known of each event table at a point in time, the features and the labels.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::{DataFrame, ident};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::{FeatureSet, KnownAt, LookupKind, Spine, Sql};
use indexmap::IndexMap;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::engine::{Limits, QueryEngine, refused};
use crate::lookup::{DeclaredLookup, PlannedLookup};
use crate::side_by_side::SideBySide;
use crate::tables::{EventRows, Events, ParquetTable, SourceFile, Ticks, spine_rows, spine_time_type};
use crate::write::ParquetOutput;

/// The columns that each materialised table begins with.
pub const ROW_COLUMNS: [&str; 3] = ["row_id", "id", "prediction_time"];

/// The name of the label in a materialised table.
pub const LABEL: &str = "label";

/// What the version of a feature set is of: changes of this module that change values raise it.
const PIPELINE_VERSION: u32 = 1;

/// Bytes of a file with a query.
const MOST_SQL: u64 = 4 << 20;

/// A feature set whose files were found, ready to run.
pub struct FeaturePipeline {
    /// How it is declared.
    pub set: FeatureSet,
    pub(crate) engine: QueryEngine,
    pub(crate) ticks: Ticks,
    spine: ParquetTable,
    events: Vec<Events>,
    sql: Option<String>,
    /// Where temporary files are; gone when dropped.
    pub(crate) folder: TempDir,
    /// Whether a label counts only if it was known by its maturity.
    in_time: bool,
}

/// The predictions that are wanted, as they are seen at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first time of prediction; `None` is the first of all.
    pub from: Option<Timestamp>,
    /// The time before which predictions are.
    pub to: Timestamp,
    /// Events known at this time or later are left out.
    pub as_of: Timestamp,
}

/// The rows of a spine in a period, in a file of their own.
pub(crate) struct StagedSpine {
    table: ParquetTable,
    /// Rows, which have the ids 0, 1, ….
    pub rows: u64,
    /// Rows without an id.
    pub without_id: u64,
}

impl StagedSpine {
    /// Its rows.
    pub fn frame(&self, engine: &QueryEngine) -> Result<DataFrame> {
        self.frame_in(&engine.session())
    }

    /// The same, in a session.
    pub fn frame_in(&self, session: &SessionContext) -> Result<DataFrame> {
        self.table.frame(session, "spine")
    }
}

impl FeaturePipeline {
    /// Finds the files of a feature set. Temporary files are made below `scratch`, or else in the system's folder for them.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Unreadable`] for files; [`Error::BadValue`] for an expression that is not understood.
    pub fn open(set: &FeatureSet, limits: Limits, scratch: Option<&Path>) -> Result<Self> {
        let mut folder = tempfile::Builder::new();
        folder.prefix("driftsweep-features-");
        let folder = scratch
            .map_or_else(|| folder.tempdir(), |parent| folder.tempdir_in(parent))
            .map_err(|source| Error::Write { path: scratch.map_or_else(std::env::temp_dir, Path::to_owned), source })?;
        let engine = QueryEngine::new(limits, folder.path())?;
        let sql = match &set.sql {
            None => None,
            Some(Sql::Text(text)) => Some(text.clone()),
            Some(Sql::File(path)) => {
                let file = PathBuf::from(path.expose());
                let text = atomic::read_text(&file, MOST_SQL)
                    .map_err(|e| Error::Unreadable { path: path.clone(), reason: e.to_string() })?;
                Some(text)
            }
        };
        let spine = ParquetTable::open(&engine, &set.spine.path)?;
        let events = set
            .tables
            .iter()
            .map(|table| Ok(Events { declared: table.clone(), files: ParquetTable::open(&engine, &table.path)? }))
            .collect::<Result<Vec<Events>>>()?;
        let session = engine.session();
        let mut kinds = vec![spine_time_type(&session, &set.spine, &spine)?];
        for table in &events {
            kinds.extend(table.time_types(&session)?);
        }
        let ticks = Ticks::of(kinds.iter());
        Ok(Self { set: set.clone(), engine, ticks, spine, events, sql, folder, in_time: false })
    }

    /// The same, where a label counts only if it was known by its maturity after the prediction: then the label of a row does not
    /// depend on when it is asked for.
    pub fn with_labels_in_time(self) -> Self {
        Self { in_time: true, ..self }
    }

    /// The files of each table.
    pub fn sources(&self) -> IndexMap<String, Vec<SourceFile>> {
        let spine = [("spine".to_owned(), self.spine.files.clone())];
        spine
            .into_iter()
            .chain(self.events.iter().map(|table| (table.declared.name.clone(), table.files.files.clone())))
            .collect()
    }

    /// Columns that are used, and that some files of their table lack: their values are missing there. A sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |table: &str, files: &ParquetTable, expressions: &[&str]| {
            // All columns are used where none is declared.
            let is_used = |name: &String| {
                expressions.is_empty() || expressions.iter().any(|expression| expression.contains(name.as_str()))
            };
            for (column, count) in files.partial.iter().filter(|(name, _)| is_used(name)) {
                found.push(format!(
                    "{table}: {} of {} files have no column '{}'; its values are missing there, and rows without a key meet no lookup",
                    files.files.len() - count,
                    files.files.len(),
                    driftsweep_common::escape::for_display(column),
                ));
            }
        };
        let Spine { id, time, columns, .. } = &self.set.spine;
        let expressions: Vec<&str> = [id, time].into_iter().chain(columns.values()).map(String::as_str).collect();
        add("spine", &self.spine, &expressions);
        for Events { declared, files } in &self.events {
            let mut expressions = Vec::new();
            if let Some(columns) = &declared.columns {
                expressions.extend(columns.values().map(String::as_str));
                expressions.push(&declared.event_time);
                if let KnownAt::Expression(known_at) = &declared.known_at {
                    expressions.push(known_at);
                }
            }
            add(&format!("event_table '{}'", declared.name), files, &expressions);
        }
        found
    }

    pub(crate) fn events(&self) -> &[Events] {
        &self.events
    }

    /// All rows of the spine's files.
    pub(crate) fn spine_frame(&self, session: &SessionContext) -> Result<DataFrame> {
        spine_rows(session, &self.set.spine, &self.spine, self.ticks)
    }

    /// Writes the rows of the spine in a period, in the order of their times, with row ids. Equal times are in the order of all
    /// other columns, so that the row ids do not depend on the order of the files.
    pub(crate) fn stage(&self, period: Period) -> Result<StagedSpine> {
        let what = "spine";
        let session = self.engine.session();
        let mut wanted = ident("prediction_time").lt(self.ticks.literal(period.to));
        if let Some(from) = period.from {
            wanted = wanted.and(ident("prediction_time").gt_eq(self.ticks.literal(from)));
        }
        let frame = self.spine_frame(&session)?;
        let names: Vec<String> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut order = vec![ident("prediction_time").sort(true, true)];
        order.extend(names.iter().filter(|name| *name != "prediction_time").map(|name| ident(name).sort(true, true)));
        let frame = frame.filter(wanted).and_then(|frame| frame.sort(order)).map_err(|e| refused(what, &e))?;
        let (file, path) = self.scratch_file("spine-")?;
        let written = ParquetOutput::numbered(&self.engine, frame, what, file, &path)?;
        let without_id = written.nulls.get("id").copied().unwrap_or(0);
        Ok(StagedSpine { table: ParquetTable::of_files(&self.engine, &[path])?, rows: written.rows, without_id })
    }

    /// The lookups of a staged spine, planned.
    fn lookups(&self, session: &SessionContext, spine: &DataFrame, before: &Expr) -> Result<Vec<PlannedLookup>> {
        let planned = self.set.lookups.iter().map(|lookup| {
            let declared = DeclaredLookup {
                what: format!("feature_set '{}', lookup '{}'", self.set.name, lookup.name),
                on: &lookup.on,
                columns: &lookup.columns,
                kind: &lookup.kind,
                before: None,
            };
            declared.plan(spine, self.known(session, &lookup.table, before)?, self.ticks)
        });
        planned.collect()
    }

    /// The rows of an event table that were known before a point in time.
    fn known(&self, session: &SessionContext, table: &str, before: &Expr) -> Result<DataFrame> {
        match self.events.iter().find(|events| events.declared.name == table) {
            Some(events) => events.known(session, self.ticks, before),
            None => Err(Error::BadValue {
                what: format!("event_table '{table}'"),
                reason: "the fleet file does not declare it".into(),
            }),
        }
    }

    /// The features of a staged spine as they were at a point in time, with `row_id`; one row for each row of the spine is what it
    /// should be.
    pub(crate) fn features(&self, spine: &StagedSpine, as_of: Timestamp) -> Result<DataFrame> {
        let session = self.engine.session();
        let before = self.ticks.literal(as_of);
        let frame = spine.frame_in(&session)?;
        let lookups = self.lookups(&session, &frame, &before)?;
        let with_lookups = match &*lookups {
            [] => frame,
            lookups => {
                // Each lookup is computed on its own, and all of them are put side by side: nothing is joined.
                let found = lookups.iter().map(|lookup| lookup.run(&self.engine, &session));
                let found = found.collect::<Result<Vec<_>>>()?;
                let mut rows = SideBySide::start(&self.engine, frame, found, &self.what())?;
                let (file, path) = self.scratch_file("lookups-")?;
                rows.write(file, &path, None)?;
                ParquetTable::of_files(&self.engine, &[path])?.frame(&session, "spine")?
            }
        };
        self.queried(&session, with_lookups, &before)
    }

    /// The query over the spine with its lookups.
    fn queried(&self, session: &SessionContext, spine: DataFrame, before: &Expr) -> Result<DataFrame> {
        let what = self.what();
        let features = match &self.sql {
            None => spine,
            Some(sql) => {
                register(session, "spine", spine, &what)?;
                for table in &self.events {
                    let name = &table.declared.name;
                    register(session, name, self.known(session, name, before)?, &what)?;
                }
                self.engine.query(session, sql, &what)?
            }
        };
        self.checked(features)
    }

    /// A temporary file that is gone with the pipeline.
    fn scratch_file(&self, prefix: &str) -> Result<(File, PathBuf)> {
        let file = tempfile::Builder::new().prefix(prefix).suffix(".parquet").tempfile_in(self.folder.path());
        file.and_then(|file| file.keep().map_err(|e| e.error))
            .map_err(|source| Error::Write { path: self.folder.path().into(), source })
    }

    /// What messages call the query.
    pub(crate) fn what(&self) -> String {
        format!("feature_set '{}', sql", self.set.name)
    }

    /// The result of the query without the columns of the row, which are added again where it is written.
    fn checked(&self, features: DataFrame) -> Result<DataFrame> {
        let bad = |reason: String| Error::BadValue { what: self.what(), reason };
        let fields = features.schema().fields().clone();
        let Some(row_id) = fields.iter().find(|field| field.name() == "row_id") else {
            return Err(bad(
                "it does not give row_id, by which features belong to a prediction; begin it with SELECT row_id, …"
                    .into(),
            ));
        };
        if *row_id.data_type() != DataType::Int64 {
            return Err(bad(format!("its row_id is {}; give that of the spine unchanged", row_id.data_type())));
        }
        let mut names: Vec<&String> = Vec::new();
        for field in &fields {
            if names.contains(&field.name()) {
                return Err(bad(format!("it gives two columns '{}'; name one of them with AS", field.name())));
            }
            if field.name() == LABEL || field.name().starts_with("__") {
                return Err(bad(format!("a feature cannot be called '{}'; name it with AS", field.name())));
            }
            names.push(field.name());
        }
        let kept = names.into_iter().filter(|name| !["id", "prediction_time"].contains(&name.as_str())).map(ident);
        let kept: Vec<Expr> = kept.collect();
        if kept.len() < 2 {
            return Err(bad("it gives no feature".into()));
        }
        features.select(kept).map_err(|e| refused(&self.what(), &e))
    }

    /// The label of each row of the spine, as far as it was known at a point in time.
    pub(crate) fn labels(&self, spine: &StagedSpine, as_of: Timestamp) -> Result<Option<DataFrame>> {
        let session = self.engine.session();
        let lookup = self.label_lookup(&session, &spine.frame_in(&session)?, as_of, self.in_time)?;
        lookup.map(|lookup| lookup.run(&self.engine, &session)).transpose()
    }

    /// The label of each row of a frame, planned.
    pub(crate) fn label_lookup(
        &self,
        session: &SessionContext,
        spine: &DataFrame,
        as_of: Timestamp,
        in_time: bool,
    ) -> Result<Option<PlannedLookup>> {
        let Some(label) = &self.set.label else { return Ok(None) };
        let before = self.ticks.literal(as_of);
        let columns = IndexMap::from([(LABEL.to_owned(), label.column.clone())]);
        let declared = DeclaredLookup {
            what: format!("feature_set '{}', label", self.set.name),
            on: &label.on,
            columns: &columns,
            kind: &LookupKind::Latest { max_age: None },
            before: Some(match in_time {
                true => ident("prediction_time") + self.ticks.duration(label.maturity),
                false => before.clone(),
            }),
        };
        declared.plan(spine, self.known(session, &label.table, &before)?, self.ticks).map(Some)
    }

    /// The version of the features: a hash of the plan of their query, the columns of the files, the delays, and the version of
    /// the engine. Comments, formatting and the place of files do not change it.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a query or an expression that is not understood.
    pub fn version(&self) -> Result<FeatureVersion> {
        // Any time would do: it is not part of a definition.
        let at = Timestamp::UNIX_EPOCH;
        let before = self.ticks.literal(at);
        let session = self.engine.session();
        let source = self.spine_frame(&session)?;
        let mut fields = vec![Field::new("row_id", DataType::Int64, false)];
        fields.extend(source.schema().fields().iter().map(|field| field.as_ref().clone()));
        let spine = empty(&session, fields.clone())?;
        let lookups = self.lookups(&session, &spine, &before)?;
        let label = self.label_lookup(&session, &spine, at, false)?;
        fields.extend(
            lookups.iter().flat_map(|lookup| lookup.schema.fields().iter().map(|field| field.as_ref().clone())),
        );
        let features = self.queried(&session, empty(&session, fields)?, &before)?;
        let start = || {
            let mut hash = Sha256::new();
            hash.update(format!(
                "driftsweep features {PIPELINE_VERSION}, datafusion {}\n",
                datafusion::DATAFUSION_VERSION
            ));
            hash
        };
        let mut hash = start();
        for plan in [source.logical_plan(), features.logical_plan()] {
            hash.update(plan.display_indent_schema().to_string());
            hash.update("\n\n");
        }
        lookups.iter().for_each(|lookup| lookup.hash(&mut hash));
        let label = label.map(|label| {
            let mut hash = start();
            label.hash(&mut hash);
            atomic::hex(&hash.finalize())
        });
        let shown = lookups.iter().map(PlannedLookup::shown);
        let plan =
            shown.chain([format!("sql:\n{}", features.logical_plan().display_indent())]).collect::<Vec<_>>().join("\n");
        let columns = features.schema().fields().iter().skip(1);
        Ok(FeatureVersion {
            features: atomic::hex(&hash.finalize()),
            label,
            columns: columns.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
            plan,
        })
    }

    /// Rows of each event table, and how many of them cannot be used.
    ///
    /// # Errors
    /// [`Error::BadValue`] where an expression fails.
    pub fn event_rows(&self) -> Result<IndexMap<String, EventRows>> {
        let rows = |table: &Events| Ok((table.declared.name.clone(), table.rows(&self.engine, self.ticks)?));
        self.events.iter().map(rows).collect()
    }
}

/// What identifies features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureVersion {
    /// The version of the features.
    pub features: String,
    /// The version of the label.
    pub label: Option<String>,
    /// The features with their types.
    pub columns: IndexMap<String, String>,
    /// The plan of the query.
    pub plan: String,
}

/// A table without rows, which is planned as one with rows.
fn empty(session: &SessionContext, fields: Vec<Field>) -> Result<DataFrame> {
    let table = Arc::new(EmptyTable::new(Arc::new(Schema::new(fields))));
    let plan = LogicalPlanBuilder::scan("spine", provider_as_source(table), None).and_then(LogicalPlanBuilder::build);
    Ok(DataFrame::new(session.state(), plan.map_err(|e| refused("spine", &e))?))
}

fn register(session: &SessionContext, name: &str, frame: DataFrame, what: &str) -> Result<()> {
    session.register_table(TableReference::bare(name), frame.into_view()).map(drop).map_err(|e| refused(what, &e))
}
