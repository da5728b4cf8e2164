//! One feature of one comparison: read, count, judge.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::convention;
use super::figures::{self, Figures};
use super::pool::ColumnPool;
use super::report::{Feature, Side};
use crate::baseline::{BINARY_REASON, Frozen, StoredFeature, not_categorical_reason};
use crate::count::pair::{self, RequiredFigures, SinglePrecisionKeys};
use crate::count::{Counter, Domain, Ecdf, KeySource, Tally};
use crate::metric::{Kind, MetricInput, Metrics, Requirement, bins};
use crate::model::Options;
use crate::rule::Verdict;
use crate::snapshot::{Column, ColumnType, KeyEncoding, Snapshot};
use driftsweep_common::address::{Location, redacted};
use driftsweep_common::error::{Cause, Error, Result, Status};

/// The baseline side of a feature.
#[derive(Clone, Copy)]
pub enum BaselineFeature<'a> {
    /// A column of a snapshot that is read now.
    Live(&'a Snapshot, &'a Column),
    /// A feature of a baseline file.
    Frozen(StoredFeature<'a>),
}

impl<'a> BaselineFeature<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Live(_, column) => &column.name,
            Self::Frozen(feature) => feature.name(),
        }
    }

    /// The type of its column.
    pub fn dtype(&self) -> &'a ColumnType {
        match self {
            Self::Live(_, column) => &column.kind,
            Self::Frozen(feature) => feature.dtype(),
        }
    }

    /// Whether both are identical: the same column of the same snapshot, or the same feature of the same file.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Live(s, c), Self::Live(t, d)) => std::ptr::eq(*s, *t) && std::ptr::eq(*c, *d),
            (Self::Frozen(f), Self::Frozen(g)) => f.is(g),
            _ => false,
        }
    }

    /// Both sides, partition values on either of them read as the other side's type where all of them can be.
    pub(super) fn with_common_types(self, current: &'a Column) -> (Self, &'a Column) {
        if let Some(current) = current.read_for(self.dtype()) {
            return (self, current);
        }
        match self {
            Self::Live(snapshot, column) => {
                (Self::Live(snapshot, column.read_for(&current.kind).unwrap_or(column)), current)
            }
            frozen => (frozen, current),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Live(snapshot, _) => snapshot.rows(),
            Self::Frozen(feature) => feature.tally().rows,
        }
    }

    /// Whether it is read from a file.
    fn is_in(&self, path: &Location) -> bool {
        match self {
            Self::Live(snapshot, _) => {
                snapshot.sources().iter().any(|source| source.path == Path::new(&path.to_string()))
            }
            Self::Frozen(_) => false,
        }
    }
}

/// The reason why a feature has no figures.
struct CompareFailure {
    status: Status,
    cause: Option<Cause>,
    detail: String,
}

impl CompareFailure {
    fn new(status: Status, detail: String) -> Self {
        Self { status, cause: status.cause(), detail }
    }

    /// The same failure, caused by the baseline.
    fn of_baseline(self) -> Self {
        Self { cause: self.cause.map(Cause::of_baseline), ..self }
    }
}

/// Compares one feature; it is judged once the tests of all features are known. Any failure becomes a status: one bad
/// column never stops a sweep.
///
/// `kind` overrides how the column is read; without it, its type decides.
pub(crate) fn compare_feature<'a>(
    counter: &dyn Counter,
    baseline: BaselineFeature<'a>,
    current: &'a Snapshot,
    kind: Option<Kind>,
    options: &Options,
    pool: &mut ColumnPool<'a>,
) -> Feature {
    // A panic in one column must not affect the other columns either.
    let attempted = catch_unwind(AssertUnwindSafe(|| attempt(counter, baseline, current, kind, options, pool)));
    let (kind, outcome) = attempted.unwrap_or_else(|_| {
        let detail = "internal error in this column; please report it, with the message on standard error".into();
        (kind.unwrap_or(Kind::Numeric), Err(CompareFailure::new(Status::InternalError, detail)))
    });
    match outcome {
        Ok(Ok(figures)) => Feature {
            name: baseline.name().into(),
            kind,
            importance: 1.0,
            status: if figures.constant { Status::Constant } else { Status::Ok },
            cause: None,
            detail: lacking(baseline, current),
            baseline: figures.baseline,
            current: figures.current,
            metrics: figures.metrics,
            verdict: Verdict::default(),
            counts: figures.counts,
            counts_hash: figures.hash,
        },
        Ok(Err((status, ta, tb, dtypes))) => {
            let [dtype_a, dtype_b] = dtypes;
            let metrics = Metrics::of(&MetricInput { tallies: [&ta, &tb], values: None }, options.metrics);
            Feature {
                name: baseline.name().into(),
                kind,
                importance: 1.0,
                status,
                cause: None,
                detail: Some("one side has only missing values".into()),
                baseline: figures::side(&ta, dtype_a),
                current: figures::side(&tb, dtype_b),
                metrics,
                verdict: Verdict::default(),
                counts: None,
                counts_hash: figures::tally_hash(&ta, &tb),
            }
        }
        Err(refusal) => refused(baseline, current, kind, refusal),
    }
}

/// Which files lack the column, if some do: their rows count as missing values.
fn lacking(baseline: BaselineFeature<'_>, current: &Snapshot) -> Option<String> {
    let live = match baseline {
        BaselineFeature::Live(snapshot, column) => Some(("baseline", snapshot, column)),
        BaselineFeature::Frozen(_) => None,
    };
    let sides = live.into_iter().chain(current.find(baseline.name()).map(|column| ("current", current, column)));
    let said: Vec<String> = sides
        .filter_map(|(side, snapshot, column)| {
            let (files, rows, first) = snapshot.lacking(column)?;
            Some(format!(
                "{side}: {files} files with {rows} rows have no value in this column and count as missing, the first is {}",
                redacted(first)
            ))
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// A feature that was not reached before the deadline.
pub fn not_covered(baseline: BaselineFeature<'_>, current: &Snapshot, kind: Option<Kind>) -> Feature {
    let detail = "not compared before the deadline; run the sweep again to continue".into();
    refused(baseline, current, shown_kind(baseline, kind), CompareFailure::new(Status::NotCovered, detail))
}

fn refused(baseline: BaselineFeature<'_>, current: &Snapshot, kind: Kind, refusal: CompareFailure) -> Feature {
    let rows = |rows| Tally { rows, ..Tally::default() };
    let (ta, tb) = (rows(baseline.rows()), rows(current.rows()));
    let current_type = current.find(baseline.name()).map_or(String::new(), |column| column.kind.name());
    Feature {
        name: baseline.name().into(),
        kind,
        importance: 1.0,
        status: refusal.status,
        cause: refusal.cause,
        detail: Some(refusal.detail),
        baseline: figures::side(&ta, baseline.dtype().name()),
        current: figures::side(&tb, current_type),
        metrics: Metrics::default(),
        verdict: Verdict::default(),
        counts: None,
        counts_hash: figures::tally_hash(&ta, &tb),
    }
}

/// The kind of a feature: how it is read, or would be.
fn shown_kind(baseline: BaselineFeature<'_>, kind: Option<Kind>) -> Kind {
    kind.unwrap_or(match baseline.dtype() {
        ColumnType::Temporal(..) | ColumnType::Numeric(_) => Kind::Numeric,
        _ => Kind::Categorical,
    })
}

/// Tallies and types of a feature of which one side is all missing.
type NoValues = (Status, Tally, Tally, [String; 2]);

type CompareResult = std::result::Result<std::result::Result<Figures, NoValues>, CompareFailure>;

fn attempt<'a>(
    counter: &dyn Counter,
    baseline: BaselineFeature<'a>,
    current: &'a Snapshot,
    kind: Option<Kind>,
    options: &Options,
    pool: &mut ColumnPool<'a>,
) -> (Kind, CompareResult) {
    let shown = shown_kind(baseline, kind);
    let refuse = |status, detail: String| (shown, Err(CompareFailure::new(status, detail)));
    let Some(column) = current.find(baseline.name()) else {
        let place = driftsweep_common::address::redacted(current.spec());
        return refuse(Status::MissingColumn, format!("{place}: no column '{}'", baseline.name()));
    };
    let (baseline, column) = baseline.with_common_types(column);
    if let BaselineFeature::Frozen(feature) = baseline
        && let Some((status, detail)) = feature.refused()
    {
        return (shown, Err(CompareFailure::new(status, detail.into()).of_baseline()));
    }
    let (was, is) = (baseline.dtype(), &column.kind);
    let dtypes = || [was.name(), is.name()];
    let nothing_frozen = matches!(baseline, BaselineFeature::Frozen(feature) if feature.tally().values() == 0);
    if was == &ColumnType::Null || nothing_frozen {
        return match without_values(baseline, (current, column)) {
            Ok(Some((a, b))) => (shown, Ok(Err((Status::AllNull, a, b, dtypes())))),
            Ok(None) => refuse(Status::AllNull, "the baseline has only missing values".into()),
            Err(error) => (shown, Err(refusal(&error, baseline, current))),
        };
    }
    let asked = kind;
    match plan(was, is, kind) {
        ReadPlan::Read(kind, reading) => {
            let outcome = match reading {
                Some(reading) => numeric(counter, baseline, (current, column), reading, dtypes(), options, pool),
                None => categorical(counter, baseline, (current, column), dtypes(), options, pool),
            };
            if let (None, BaselineFeature::Live(_, column), Ok(Ok(figures))) = (asked, baseline, &outcome)
                && let Some(detail) = column.text_by_accident(figures.baseline.categories.unwrap_or_default() as usize)
            {
                return (shown, Err(CompareFailure::new(Status::Unreadable, detail).of_baseline()));
            }
            (kind, outcome.map_err(|error| refusal(&error, baseline, current)))
        }
        ReadPlan::Refuse(status, detail) => {
            // The type of a column without values is arbitrary, so the missing values are reported, not the type.
            let was_compared = status == Status::TypeChanged;
            match was_compared.then(|| without_values(baseline, (current, column))) {
                Some(Ok(Some((a, b)))) => (shown, Ok(Err((Status::AllNull, a, b, dtypes())))),
                _ => refuse(status, noted(detail, baseline, column)),
            }
        }
    }
}

/// The reason with the position of the value in a CSV file that makes a column text. CSV never contains times, so this
/// does not apply to them.
fn noted(detail: String, baseline: BaselineFeature<'_>, column: &Column) -> String {
    let of_baseline = if let BaselineFeature::Live(_, column) = baseline { column.note.as_ref() } else { None };
    let timed = matches!(baseline.dtype(), ColumnType::Temporal(..));
    let notes = of_baseline.into_iter().chain(&column.note).filter(|_| !timed);
    notes.fold(detail, |detail, note| format!("{detail}; {}", note.text))
}

/// Why a feature cannot be compared with a column of another type, which is known without reading their values. A column
/// without values has no type that matters.
pub(super) fn type_mismatch(baseline: BaselineFeature<'_>, current: &Snapshot, kind: Option<Kind>) -> Option<String> {
    let (baseline, column) = baseline.with_common_types(current.find(baseline.name())?);
    let refused = matches!(baseline, BaselineFeature::Frozen(feature) if feature.refused().is_some());
    if refused || baseline.dtype() == &ColumnType::Null {
        return None;
    }
    match plan(baseline.dtype(), &column.kind, kind) {
        ReadPlan::Refuse(Status::TypeChanged, detail) => {
            let empty = matches!(without_values(baseline, (current, column)), Ok(Some(_)));
            (!empty).then(|| noted(detail, baseline, column))
        }
        _ => None,
    }
}

/// How a feature is compared.
enum ReadPlan {
    /// As numbers, read so; or by category.
    Read(Kind, Option<KeyEncoding>),
    /// Not at all, and why.
    Refuse(Status, String),
}

/// How a feature whose baseline and current column have these types is compared: the only place where that is decided.
/// A column that was comparable and no longer is has changed its type.
fn plan(was: &ColumnType, is: &ColumnType, kind: Option<Kind>) -> ReadPlan {
    use ColumnType as T;
    let refuse = ReadPlan::Refuse;
    let changed = || {
        refuse(
            Status::TypeChanged,
            format!(
                "the baseline holds {}, the current snapshot {}; correct the feature's source, or build the baseline again",
                was.name(),
                is.name()
            ),
        )
    };
    let unsupported = |dtype: &str| {
        refuse(Status::UnsupportedType, format!("columns of type {dtype} cannot be compared; cast it, or leave it out"))
    };
    let not_asked = || refuse(Status::NotCompared, "times are compared on request only (kind = \"numeric\")".into());
    match (was, is) {
        (T::Mixed(types), _) | (_, T::Mixed(types)) => {
            return refuse(Status::TypeChanged, format!("the files of one snapshot disagree on the type: {types}"));
        }
        // A column that was not compared before does not fail now.
        (T::Unsupported(dtype), _) => return unsupported(dtype),
        (T::Temporal(..), _) if kind.is_none() => return not_asked(),
        (T::Binary, _) if kind.is_none() => return refuse(Status::UnsupportedType, BINARY_REASON.into()),
        _ => {}
    }
    let Some(common) = was.common(is) else { return changed() };
    let kind = match (kind.or(Kind::default_for(&common)), &common) {
        (Some(kind), _) => kind,
        (None, _) => return not_asked(),
    };
    match (kind, common.reading()) {
        (Kind::Numeric, Some(reading)) => ReadPlan::Read(kind, Some(reading)),
        (Kind::Numeric, None) => refuse(
            Status::UnsupportedType,
            format!("{} cannot be read as numbers; leave out kind = \"numeric\"", common.name()),
        ),
        // As categories, times would be their stored numbers, which depend on the unit.
        (Kind::Categorical, Some(KeyEncoding { per_second: Some(_), .. })) => {
            refuse(Status::UnsupportedType, format!("{} cannot be read as categories; dates can", common.name()))
        }
        (Kind::Categorical, _) => ReadPlan::Read(kind, None),
    }
}

/// The tallies of both sides, if one of them has only missing values.
fn without_values(
    baseline: BaselineFeature<'_>,
    (current, column): (&Snapshot, &Column),
) -> Result<Option<(Tally, Tally)>> {
    let b = current.missing(column)?;
    let a = match baseline {
        BaselineFeature::Live(snapshot, column) => snapshot.missing(column)?,
        BaselineFeature::Frozen(feature) => feature.tally(),
    };
    Ok((a.values() == 0 || b.values() == 0).then_some((a, b)))
}

/// The status of a feature that could not be read.
fn refusal(error: &Error, baseline: BaselineFeature<'_>, current: &Snapshot) -> CompareFailure {
    let of_baseline = match error {
        Error::UnreadableColumn { path, .. } | Error::Unreadable { path, .. } => {
            // The same file may be used on both sides.
            baseline.is_in(path) && !current.sources().iter().any(|source| source.path == Path::new(&path.to_string()))
        }
        // The distribution of a baseline file is damaged, or was counted in another way.
        Error::Baseline { .. } | Error::BadValue { .. } => true,
        _ => false,
    };
    match error {
        // If the baseline itself has such values they were never categories.
        Error::NotIntegers { path, value, .. } if baseline.is_in(path) => {
            CompareFailure::new(Status::UnsupportedType, not_categorical_reason(value))
        }
        Error::NotIntegers { .. } => CompareFailure::new(Status::TypeChanged, error.to_string()),
        _ if of_baseline => CompareFailure::new(Status::Unreadable, error.to_string()).of_baseline(),
        _ => CompareFailure::new(Status::Unreadable, error.to_string()),
    }
}

fn numeric<'a>(
    counter: &dyn Counter,
    baseline: BaselineFeature<'a>,
    (current, column): (&'a Snapshot, &'a Column),
    reading: KeyEncoding,
    dtypes: [String; 2],
    options: &Options,
    pool: &mut ColumnPool<'a>,
) -> Result<std::result::Result<Figures, NoValues>> {
    let baseline_ranks = |n| bins::ranks(&options.baseline_percents(), n);
    let current_ranks = |n| bins::ranks(&options.current_percents(), n);
    let wanted = RequiredFigures {
        baseline_ranks: &baseline_ranks,
        current_ranks: &current_ranks,
        distance: options.requires(Requirement::Distance),
        transport: options.requires(Requirement::Transport),
    };
    let thawed = match baseline {
        BaselineFeature::Frozen(feature) => Some(frozen_ecdf(feature, &column.kind)?),
        BaselineFeature::Live(..) => None,
    };
    // The current column is read with the type of the frozen baseline, which cannot be read again.
    let reading = match (&thawed, baseline.dtype().reading()) {
        (Some(ecdf), Some(frozen)) => KeyEncoding { domain: ecdf.domain, ..frozen },
        _ => reading,
    };
    let domain = reading.domain;
    let source_b = pool.numeric(current, column, reading, options.requires(Requirement::Moments), options.hold())?;
    let (source_a, snapped);
    let mut convention = None;
    let (a, b, ta, tb) = match baseline {
        BaselineFeature::Live(snapshot, column_a) => {
            source_a =
                pool.numeric(snapshot, column_a, reading, options.requires(Requirement::Moments), options.hold())?;
            let side = pair::BaselineKeys::Source(&*source_a, snapshot.rows());
            let (mut a, mut b) = pair::count_pair(counter, domain, side, &*source_b, current.rows(), wanted)?;
            // Available now: the columns were read for counting.
            let (ta, tb) = (source_a.tally()?, source_b.tally()?);
            if let Some(rules) = options.convention {
                let columns = (counter.columns(domain, vec![&*source_a]), counter.columns(domain, vec![&*source_b]));
                let a = convention::NumericSide { ecdf: a.to_mut(), column: columns.0, tally: ta };
                let b = convention::NumericSide { ecdf: &mut b, column: columns.1, tally: tb };
                convention = convention::numeric(rules, a, b, options)?;
            }
            (a, b, ta, tb)
        }
        BaselineFeature::Frozen(feature) => {
            let frozen = thawed.as_ref().ok_or_else(|| counted_otherwise(feature.name(), "categories"))?;
            let side = pair::BaselineKeys::Frozen(frozen);
            // Single-precision numbers are matched with the nearest numbers of the baseline.
            let single = domain == Domain::F64 && column.kind == ColumnType::Numeric(Domain::F32);
            snapped = SinglePrecisionKeys::new(frozen, &*source_b);
            let keys: &dyn KeySource = if single { &snapped } else { &*source_b };
            let (a, b) = pair::count_pair(counter, domain, side, keys, current.rows(), wanted)?;
            convention = options.convention.and_then(|rules| convention::frozen(rules, &a, &b, options));
            (a, b, feature.tally(), source_b.tally()?)
        }
    };
    let names = dtypes.clone();
    let figures = figures::numeric(&a, &b, &ta, &tb, dtypes, options).map(|mut figures| {
        figures.metrics.convention = convention;
        figures
    });
    Ok(figures.ok_or((Status::AllNull, ta, tb, names)))
}

/// The frozen distribution of a feature, for a current column of some type. For integers the wider type is used, which
/// only shifts their keys.
fn frozen_ecdf(feature: StoredFeature<'_>, current: &ColumnType) -> Result<Ecdf> {
    let Frozen::Numeric(ecdf) = feature.data()? else {
        return Err(counted_otherwise(feature.name(), "categories"));
    };
    let own = ecdf.domain;
    let widened = match current.reading() {
        Some(reading) if reading.domain != own => ecdf.moved_to(Domain::I64),
        _ => None,
    };
    Ok(widened.unwrap_or(ecdf))
}

fn counted_otherwise(feature: &str, how: &str) -> Error {
    Error::BadValue {
        what: format!("feature '{feature}'"),
        reason: format!("the baseline was counted as {how}; rebuild the baseline with `baseline build --fleet`"),
    }
}

fn categorical<'a>(
    counter: &dyn Counter,
    baseline: BaselineFeature<'a>,
    (current, column): (&'a Snapshot, &'a Column),
    dtypes: [String; 2],
    options: &Options,
    pool: &mut ColumnPool<'a>,
) -> Result<std::result::Result<Figures, NoValues>> {
    let limits = (options.category_limit, options.hold());
    let (live, frozen);
    let (a, ta) = match baseline {
        BaselineFeature::Live(snapshot, column) => {
            live = pool.categories(counter, snapshot, column, limits)?;
            (&live.0, live.1)
        }
        BaselineFeature::Frozen(feature) => match feature.data()? {
            Frozen::Categorical(categories) => {
                frozen = categories;
                (&frozen, feature.tally())
            }
            _ => return Err(counted_otherwise(feature.name(), "numbers")),
        },
    };
    let found = pool.categories(counter, current, column, limits)?;
    let (b, tb) = (&found.0, found.1);
    let without;
    let (a, b, ta, tb) = match &options.missing {
        Some(texts) => {
            without = [(a, ta), (b, tb)].map(|(categories, tally)| {
                let (known, missing) = categories.without(|name| texts.has(name));
                (known, Tally { null: tally.null + missing, ..tally })
            });
            (&without[0].0, &without[1].0, without[0].1, without[1].1)
        }
        None => (a, b, ta, tb),
    };
    let names = dtypes.clone();
    let figures = figures::categorical(a, b, &ta, &tb, dtypes, options).map(|mut figures| {
        figures.metrics.convention = options.convention.map(|rules| convention::categorical(rules, a, b, options));
        figures
    });
    Ok(figures.ok_or((Status::AllNull, ta, tb, names)))
}

/// Says in the status of a compared feature where it has too few values to be judged.
pub(crate) fn check_rows(feature: &mut Feature, min_rows: u64) {
    let values = |side: &Side| side.rows - side.null - side.nan;
    let fewest = values(&feature.baseline).min(values(&feature.current));
    if matches!(feature.status, Status::Ok | Status::Constant) && fewest < min_rows {
        feature.status = Status::InsufficientData;
        let few = format!("{fewest} values on one side; a verdict needs {min_rows}");
        feature.detail = Some(feature.detail.take().map_or(few.clone(), |detail| format!("{few}; {detail}")));
    }
}
