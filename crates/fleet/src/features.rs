//! Event tables and feature sets: `[event_table.NAME]` and `[feature_set.NAME]` of the fleet file. Names and lengths are checked
//! here; SQL is checked where it is planned, by the feature pipeline.

use std::path::Path;

use indexmap::IndexMap;
use jiff::SignedDuration;
use serde::Deserialize;

use crate::checks::{Validated, resolve};
use driftsweep_common::address::Location;
use driftsweep_common::duration::Length;
use driftsweep_common::escape::for_display;

/// Columns that the pipeline gives to a spine, and to what is made of it: no declared column may have such a name.
const OF_SPINE: [&str; 4] = ["row_id", "id", "prediction_time", "label"];

/// Columns that the pipeline gives to an event table.
const OF_EVENTS: [&str; 2] = ["event_time", "known_at"];

/// SQL expressions by the name of the column that they give, in order.
pub type Expressions = IndexMap<String, String>;

/// A table of events, each with the time when it happened and the time from which it was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTable {
    /// Its name in SQL.
    pub name: String,
    /// Its files: Parquet.
    pub path: Location,
    /// When the event happened: an expression over the columns of the files.
    pub event_time: String,
    /// From when on the row was known.
    pub known_at: KnownAt,
    /// Its columns; those of the files if absent.
    pub columns: Option<Expressions>,
}

/// From when on a row of an event table was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownAt {
    /// An expression over the columns of the files.
    Expression(String),
    /// This long after the event.
    Delay(SignedDuration),
}

/// Features of one kind of prediction, defined once.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSet {
    /// Its name.
    pub name: String,
    /// The rows that ask for features.
    pub spine: Spine,
    /// The event tables of the fleet file, all of which SQL may name.
    pub tables: Vec<EventTable>,
    /// The lookups, in order: each adds columns to the spine.
    pub lookups: Vec<Lookup>,
    /// The query that gives the features; all columns of the spine and of the lookups if absent.
    pub sql: Option<Sql>,
    /// The label, if it is declared.
    pub label: Option<LabelLookup>,
    /// The length of the training set; `None` is everything before the validation set.
    pub training: Option<SignedDuration>,
    /// The length of the validation set.
    pub validation: SignedDuration,
    /// What serving logged, if it is declared.
    pub serving: Option<Serving>,
}

/// Where the query of a feature set stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    /// In the fleet file.
    Text(String),
    /// In a file of its own.
    File(Location),
}

/// The rows that ask for features: one for each prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spine {
    /// Its files: Parquet.
    pub path: Location,
    /// The id of a prediction: an expression.
    pub id: String,
    /// When the prediction is made: an expression.
    pub time: String,
    /// What is known of it at that time; nothing else of its files can be named in SQL.
    pub columns: Expressions,
}

/// Values of an event table at the time of each prediction: of rows known before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Its name.
    pub name: String,
    /// The event table.
    pub table: String,
    /// The columns of the spine, and those of the table, that must be equal.
    pub on: IndexMap<String, String>,
    /// The columns it adds.
    pub columns: Expressions,
    /// What of the rows that match is taken.
    pub kind: LookupKind,
}

/// What a lookup takes of the rows that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupKind {
    /// The row of the latest event; of several versions of it the one that was known last.
    Latest {
        /// The largest age of the event at the time of the prediction.
        max_age: Option<SignedDuration>,
    },
    /// Aggregates over the rows that became known within this time before the prediction.
    Aggregate {
        /// The length of the window.
        within: SignedDuration,
    },
}

/// The label of a prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelLookup {
    /// The event table.
    pub table: String,
    /// The columns of the spine, and those of the table, that must be equal.
    pub on: IndexMap<String, String>,
    /// The label: an expression over the columns of the table.
    pub column: String,
    /// How long after the prediction labels are known: the validation set ends this long before now.
    pub maturity: SignedDuration,
}

/// What serving logged, and how much it may differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Serving {
    /// Its files: Parquet.
    pub path: Location,
    /// The id of the prediction: a column.
    pub id: String,
    /// The time of the prediction: an expression. Without it, all rows of the log belong to the period that is compared.
    pub time: Option<String>,
    /// Features that serving does not log.
    pub not_logged: Vec<String>,
    /// The largest absolute difference that counts as equal.
    pub atol: f64,
    /// The largest difference that counts as equal, relative to the logged value.
    pub rtol: f64,
    /// The largest share of rows in which a feature may differ.
    pub max_different: f64,
    /// The largest share of predictions that the log may lack.
    pub max_missing: f64,
    /// The largest share of logged rows without a prediction in the spine.
    pub max_unexpected: f64,
    /// The largest share of rows whose id occurs more than once.
    pub max_duplicate: f64,
}

/// Programs that train and predict, in place of a built-in trainer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrainerCommand {
    /// The program that trains, with its arguments: reads `$DRIFTSWEEP_TRAINING`, and writes into `$DRIFTSWEEP_MODEL_FOLDER`.
    pub fit: Vec<String>,
    /// The program that predicts, with its arguments: reads `$DRIFTSWEEP_ROWS` and `$DRIFTSWEEP_MODEL_FOLDER`, and writes
    /// `$DRIFTSWEEP_SCORES`.
    pub predict: Vec<String>,
}

/// How `driftsweep train` trains a model.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainerChoice {
    /// A trainer of this program.
    BuiltIn(driftsweep_trainers::Settings),
    /// Programs of the user.
    Command(TrainerCommand),
}

impl TrainerChoice {
    /// What the fleet file says; boosted trees if it says nothing.
    pub(crate) fn resolve(
        settings: Option<driftsweep_trainers::Settings>,
        command: Option<TrainerCommand>,
    ) -> Validated<Self> {
        match (settings, command) {
            (Some(_), Some(_)) => Err("give trainer or trainer_command, not both".into()),
            (_, Some(command)) if command.fit.is_empty() || command.predict.is_empty() => {
                Err("trainer_command: fit and predict need a program each".into())
            }
            (None, Some(command)) => Ok(Self::Command(command)),
            (Some(settings), None) => {
                settings.check().map_err(|e| format!("trainer: {e}"))?;
                Ok(Self::BuiltIn(settings))
            }
            (None, None) => {
                Ok(Self::BuiltIn(driftsweep_trainers::Settings::Batch(driftsweep_trainers::BatchSettings::default())))
            }
        }
    }
}

/// Columns as they are, or names with an SQL expression each.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "give a list of columns, or a table of names with an SQL expression each")]
pub(crate) enum ColumnsTable {
    Listed(Vec<String>),
    Named(IndexMap<String, String>),
}

impl ColumnsTable {
    fn resolve(self, reserved: &[&str]) -> Validated<Expressions> {
        let columns: Expressions = match self {
            Self::Listed(names) => {
                let count = names.len();
                let columns: Expressions = names.into_iter().map(|name| (name.clone(), quoted(&name))).collect();
                if columns.len() < count {
                    return Err("columns names a column twice".into());
                }
                columns
            }
            Self::Named(expressions) => expressions,
        };
        for (name, expression) in &columns {
            check_name(name, reserved)?;
            not_blank(&format!("column '{}'", for_display(name)), expression)?;
        }
        Ok(columns)
    }
}

/// Columns that are equal on both sides: listed where they have the same name.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "give a list of columns, or a table of columns of the spine with those of the table")]
pub(crate) enum OnTable {
    Listed(Vec<String>),
    Named(IndexMap<String, String>),
}

impl OnTable {
    fn resolve(self) -> Validated<IndexMap<String, String>> {
        let on: IndexMap<String, String> = match self {
            Self::Listed(names) => names.into_iter().map(|name| (name.clone(), name)).collect(),
            Self::Named(pairs) => pairs,
        };
        if on.is_empty() { Err("on names no column".into()) } else { Ok(on) }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct EventTableTable {
    /// The files: Parquet; a file, a folder, a pattern or an address.
    path: String,
    /// When the event happened: a column, or an SQL expression.
    event_time: String,
    /// From when on the row was known: a column, or an SQL expression. Give it or `delay`.
    known_at: Option<String>,
    /// How long after the event the row was known.
    delay: Option<Length>,
    /// The columns that SQL can name: a list, or names with an SQL expression each. By default all columns.
    columns: Option<ColumnsTable>,
}

impl EventTableTable {
    fn resolve(self, name: String, folder: &Path) -> Validated<EventTable> {
        check_name(&name, &[])?;
        if ["spine", "served"].contains(&&*name) {
            return Err(format!("'{name}' is the name of another table in SQL; choose another"));
        }
        not_blank("event_time", &self.event_time)?;
        let known_at = match (self.known_at, self.delay) {
            (Some(known_at), None) => {
                not_blank("known_at", &known_at)?;
                KnownAt::Expression(known_at)
            }
            (None, Some(delay)) => KnownAt::Delay(delay.signed()),
            (Some(_), Some(_)) => return Err("give known_at or delay, not both".into()),
            (None, None) => {
                return Err("say from when on a row is known: by known_at, a column, or by delay, a length of time \
                            after event_time (delay = \"0s\" where it is known at once)"
                    .into());
            }
        };
        let columns = self.columns.map(|columns| columns.resolve(&OF_EVENTS)).transpose()?;
        Ok(EventTable { name, path: resolve(folder, &self.path), event_time: self.event_time, known_at, columns })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SpineTable {
    /// The files: Parquet; a file, a folder, a pattern or an address.
    path: String,
    /// The id of the prediction: a column, or an SQL expression.
    id: String,
    /// When the prediction is made: a column, or an SQL expression.
    time: String,
    /// What is known when the prediction is made: a list of columns, or names with an SQL expression each. Nothing else of the
    /// files can be named in SQL.
    columns: ColumnsTable,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct LatestTable {
    /// The event table. By default the one with the name of the lookup.
    table: Option<String>,
    /// The columns that must be equal: a list, or columns of the spine with those of the table.
    on: OnTable,
    /// The columns it adds: a list, or names with an SQL expression each.
    columns: ColumnsTable,
    /// Older events are not used. By default there is no limit.
    max_age: Option<Length>,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct AggregateTable {
    /// The event table. By default the one with the name of the lookup.
    table: Option<String>,
    /// The columns that must be equal: a list, or columns of the spine with those of the table.
    on: OnTable,
    /// The columns it adds: names with an aggregate each, such as `avg(amount)`.
    columns: IndexMap<String, String>,
    /// Rows that became known within this time before the prediction are aggregated.
    within: Length,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelLookupTable {
    /// The event table that has the label.
    table: String,
    /// The columns that must be equal: a list, or columns of the spine with those of the table. By default the id.
    on: Option<OnTable>,
    /// The label: a column of the table, or an SQL expression.
    column: String,
    /// How long after the prediction labels are known. By default the `delay` of the table.
    maturity: Option<Length>,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ServingTable {
    /// The files with the features as they were served: Parquet; a file, a folder, a pattern or an address.
    path: String,
    /// The column with the id of the prediction. By default `id`.
    id: Option<String>,
    /// The time of the prediction: a column, or an SQL expression. Without it, all rows belong to the period that is compared.
    time: Option<String>,
    /// Features that serving does not log.
    #[serde(default)]
    not_logged: Vec<String>,
    /// The largest absolute difference that counts as equal. By default 1e-12.
    atol: Option<f64>,
    /// The largest difference that counts as equal, relative to the logged value. By default 1e-9; 1e-6 accepts 32-bit
    /// numbers.
    rtol: Option<f64>,
    /// The largest share of rows in which a feature may differ. By default 0.001.
    max_different: Option<f64>,
    /// The largest share of predictions that the log may lack. By default 0.01.
    max_missing: Option<f64>,
    /// The largest share of logged rows without a prediction in the spine. By default 0.01.
    max_unexpected: Option<f64>,
    /// The largest share of rows whose id occurs more than once. By default 0.
    max_duplicate: Option<f64>,
}

impl ServingTable {
    fn resolve(self, folder: &Path) -> Validated<Serving> {
        let within = |what: &str, value: Option<f64>, built_in: f64, most: f64| match value.unwrap_or(built_in) {
            value if (0.0..=most).contains(&value) => Ok(value),
            value => Err(format!("serving: {what} = {value} must be between 0 and {most}")),
        };
        Ok(Serving {
            path: resolve(folder, &self.path),
            id: self.id.unwrap_or_else(|| "id".into()),
            time: self.time,
            not_logged: self.not_logged,
            atol: within("atol", self.atol, 1e-12, f64::MAX)?,
            rtol: within("rtol", self.rtol, 1e-9, 1.0)?,
            max_different: within("max_different", self.max_different, 0.001, 1.0)?,
            max_missing: within("max_missing", self.max_missing, 0.01, 1.0)?,
            max_unexpected: within("max_unexpected", self.max_unexpected, 0.01, 1.0)?,
            max_duplicate: within("max_duplicate", self.max_duplicate, 0.0, 1.0)?,
        })
    }
}

/// How far back the training set reaches.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Expanding {
    Expanding,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "give a length of time such as 90d, or \"expanding\"")]
enum TrainingLength {
    Expanding(Expanding),
    Rolling(Length),
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct FeatureSetTable {
    /// The rows that ask for features: one for each prediction.
    spine: SpineTable,
    /// Lookups of the latest row that was known before the prediction.
    #[serde(default)]
    latest: IndexMap<String, LatestTable>,
    /// Lookups of aggregates over rows that became known in a window before the prediction.
    #[serde(default)]
    aggregate: IndexMap<String, AggregateTable>,
    /// The query that gives the features: one row, with `row_id`, for each row of the table `spine`. By default all columns of the
    /// spine and of the lookups.
    sql: Option<String>,
    /// A file with that query.
    sql_file: Option<String>,
    /// The label.
    label: Option<LabelLookupTable>,
    /// The length of the training set, or `expanding` for all that is before the validation set. By default 90d.
    training: Option<TrainingLength>,
    /// The length of the validation set: the last part, after the training set. By default 7d.
    validation: Option<Length>,
    /// What serving logged, and how much it may differ.
    serving: Option<ServingTable>,
}

impl FeatureSetTable {
    fn resolve(self, name: String, tables: &IndexMap<String, EventTable>, folder: &Path) -> Validated<FeatureSet> {
        let known = |table: &str| match tables.contains_key(table) {
            true => Ok(()),
            false => {
                let names: Vec<String> = tables.keys().map(|name| for_display(name).to_string()).collect();
                let known = if names.is_empty() { "there are none".into() } else { names.join(", ") };
                Err(format!("no [event_table.{}]; known: {known}", for_display(table)))
            }
        };
        for (what, text) in [("spine.id", &self.spine.id), ("spine.time", &self.spine.time)] {
            not_blank(what, text)?;
        }
        let spine = Spine {
            path: resolve(folder, &self.spine.path),
            id: self.spine.id,
            time: self.spine.time,
            columns: self.spine.columns.resolve(&OF_SPINE).map_err(|reason| format!("spine: {reason}"))?,
        };
        let latest = self.latest.into_iter().map(|(name, lookup)| {
            let kind = LookupKind::Latest { max_age: positive("max_age", lookup.max_age)? };
            self::lookup(name, lookup.table, lookup.on, lookup.columns, kind)
        });
        let aggregates = self.aggregate.into_iter().map(|(name, lookup)| {
            let Some(within) = positive("within", Some(lookup.within))? else { return Err("within is missing".into()) };
            let columns = ColumnsTable::Named(lookup.columns);
            self::lookup(name, lookup.table, lookup.on, columns, LookupKind::Aggregate { within })
        });
        let lookups = latest.chain(aggregates).collect::<Validated<Vec<Lookup>>>()?;
        let mut seen: Vec<&String> = spine.columns.keys().collect();
        let mut names: Vec<&String> = Vec::new();
        for lookup in &lookups {
            known(&lookup.table).map_err(|reason| format!("lookup '{}': {reason}", for_display(&lookup.name)))?;
            if names.contains(&&lookup.name) {
                return Err(format!("lookup '{}': the name is taken", for_display(&lookup.name)));
            }
            names.push(&lookup.name);
            for column in lookup.columns.keys() {
                if seen.contains(&column) {
                    return Err(format!(
                        "lookup '{}': the column '{}' is there already; give it another name, for example columns = \
                         {{ {}_{} = \"…\" }}",
                        for_display(&lookup.name),
                        for_display(column),
                        for_display(&lookup.name),
                        for_display(column)
                    ));
                }
                seen.push(column);
            }
        }
        let sql = match (self.sql, self.sql_file) {
            (Some(_), Some(_)) => return Err("give sql or sql_file, not both".into()),
            (Some(text), None) => {
                not_blank("sql", &text)?;
                Some(Sql::Text(text))
            }
            (None, file) => file.map(|file| Sql::File(resolve(folder, &file))),
        };
        let label = self.label.map(|label| -> Validated<LabelLookup> {
            known(&label.table).map_err(|reason| format!("label: {reason}"))?;
            not_blank("label.column", &label.column)?;
            let delay = match tables.get(&label.table).map(|table| &table.known_at) {
                Some(KnownAt::Delay(delay)) => Some(*delay),
                _ => None,
            };
            let Some(maturity) = label.maturity.map(Length::signed).or(delay) else {
                return Err("label: say with maturity how long after the prediction labels are known".into());
            };
            let own_id = OnTable::Listed(vec!["id".into()]);
            let on = label.on.unwrap_or(own_id).resolve().map_err(|reason| format!("label: {reason}"))?;
            Ok(LabelLookup { table: label.table, on, column: label.column, maturity })
        });
        Ok(FeatureSet {
            name,
            spine,
            tables: tables.values().cloned().collect(),
            lookups,
            sql,
            label: label.transpose()?,
            training: match self.training {
                None => Some(SignedDuration::from_hours(90 * 24)),
                Some(TrainingLength::Expanding(Expanding::Expanding)) => None,
                Some(TrainingLength::Rolling(length)) => positive("training", Some(length))?,
            },
            validation: positive("validation", self.validation)?.unwrap_or(SignedDuration::from_hours(7 * 24)),
            serving: self.serving.map(|serving| serving.resolve(folder)).transpose()?,
        })
    }
}

/// A lookup, of either kind.
fn lookup(
    name: String,
    table: Option<String>,
    on: OnTable,
    columns: ColumnsTable,
    kind: LookupKind,
) -> Validated<Lookup> {
    let about = |reason| format!("lookup '{}': {reason}", for_display(&name));
    check_name(&name, &[])?;
    let columns = columns.resolve(&OF_SPINE).map_err(about)?;
    if columns.is_empty() {
        return Err(about("it adds no column; name some with columns".into()));
    }
    let on = on.resolve().map_err(about)?;
    Ok(Lookup { table: table.unwrap_or_else(|| name.clone()), name, on, columns, kind })
}

/// The event tables and feature sets of a fleet file, checked.
pub(crate) fn feature_sets(
    tables: IndexMap<String, EventTableTable>,
    sets: IndexMap<String, FeatureSetTable>,
    folder: &Path,
) -> Validated<Vec<FeatureSet>> {
    let tables = tables
        .into_iter()
        .map(|(name, table)| {
            let reason = |reason| format!("event_table '{}': {reason}", for_display(&name));
            table.resolve(name.clone(), folder).map(|table| (name.clone(), table)).map_err(reason)
        })
        .collect::<Validated<IndexMap<_, _>>>()?;
    let set = |(name, set): (String, FeatureSetTable)| {
        let reason = |reason| format!("feature_set '{}': {reason}", for_display(&name));
        check_name(&name, &[]).and_then(|()| set.resolve(name.clone(), &tables, folder)).map_err(reason)
    };
    sets.into_iter().map(set).collect()
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name of a table, lookup or column. Those that begin with `__` are the pipeline's own.
fn check_name(name: &str, reserved: &[&str]) -> Validated<()> {
    if name.trim().is_empty() || name.contains('\0') {
        return Err("a name is blank".into());
    }
    if reserved.contains(&name) || name.starts_with("__") {
        return Err(format!("'{}' is a name of the pipeline itself; choose another", for_display(name)));
    }
    Ok(())
}

fn not_blank(what: &str, text: &str) -> Validated<()> {
    if text.trim().is_empty() { Err(format!("{what} is blank")) } else { Ok(()) }
}

fn positive(what: &str, length: Option<Length>) -> Validated<Option<SignedDuration>> {
    match length.map(Length::signed) {
        Some(length) if length.is_zero() => Err(format!("{what} = \"0\" is no time at all")),
        length => Ok(length),
    }
}
