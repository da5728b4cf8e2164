//! `driftsweep compare`

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use driftsweep::metric::Kind;
use driftsweep::metric::convention::{Convention, ConventionRules};
use driftsweep::model::{ColumnUse, is_pandas_index};
use driftsweep::snapshot::{ColumnType, Snapshot};
use driftsweep::sweep::{self, BaselineSource, Comparer, SweepProgress};
use driftsweep_common::error::Error;
use driftsweep_common::storage;
use driftsweep_fleet::infer;
use driftsweep_report::report::html::HistoryLines;
use driftsweep_report::report::{RenderOptions, Report};

use super::{Bar, EngineArgs, OutputArgs};

#[derive(Args)]
pub struct CompareArgs {
    /// What the model was trained on: a file, a glob, a directory, or a .baseline file
    #[arg(value_name = "REF")]
    baseline: String,
    /// What it sees now: a file, a glob or a directory; #rows=A..B selects rows by position
    #[arg(value_name = "CUR")]
    current: String,
    /// Metrics, comma-separated [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    metrics: Vec<String>,
    /// Features to compare, comma-separated [default: all]
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    features: Vec<String>,
    /// Features to leave out, comma-separated
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    exclude: Vec<String>,
    /// Columns to read as categories, comma-separated
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    categorical: Vec<String>,
    /// Columns to read as numbers, comma-separated: times and dates, which are not compared otherwise
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    numeric: Vec<String>,
    /// Bins of the population stability index [default: 10, or what the baseline file holds]
    #[arg(long, value_name = "N")]
    bins: Option<usize>,
    /// Use another tool's definitions and default thresholds: evidently, nannyml, tfdv, deepchecks or azureml
    #[arg(long, value_name = "NAME")]
    convention: Option<Convention>,
    /// Most distinct categories that are counted separately; the others are pooled, and reported
    #[arg(long, value_name = "N")]
    category_limit: Option<usize>,
    /// Fewest values per side for a verdict
    #[arg(long, value_name = "N")]
    min_rows: Option<u64>,
    /// False discovery rate, over all tests of the comparison, up to which a difference is significant [default: 0.05]
    #[arg(long, value_name = "RATE")]
    fdr: Option<f64>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: &CompareArgs) -> anyhow::Result<u8> {
    args.output.check()?;
    let metrics = super::metric_set(&args.metrics)?;
    let bins = args
        .bins
        .map(driftsweep::model::check_bins)
        .transpose()
        .map_err(|reason| super::invalid_value("--bins", &reason))?;
    if args.category_limit == Some(0) {
        return Err(super::invalid_value("--category-limit", "must be 1 or more"));
    }
    if args.fdr.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
        return Err(super::invalid_value("--fdr", "must be above 0 and at most 1; 0 would call no test"));
    }
    let mut options = args.engine.start([&args.baseline, &args.current].into_iter().any(storage::is_remote))?;
    let baseline = BaselineSource::open(&args.baseline)?;
    let current = Snapshot::open(&args.current)?;
    let files = |snapshot: &Snapshot| snapshot.sources().into_iter().map(|source| source.path);
    let mut inputs: Vec<PathBuf> = files(&current).chain([PathBuf::from(&args.baseline)]).collect();
    if let BaselineSource::Live(snapshot) = &baseline {
        inputs.extend(files(snapshot));
    }
    super::check_not_an_input(args.output.output.as_deref(), inputs.iter().map(PathBuf::as_path))?;
    if let Some(metrics) = metrics {
        options.metrics = metrics;
    }
    options.bins = bins.or(baseline.side().frozen_bins()).unwrap_or(options.bins);
    options.convention = args.convention.map(ConventionRules::new);
    options.category_limit = args.category_limit.unwrap_or(options.category_limit);
    options.false_discovery_rate = args.fdr.unwrap_or(options.false_discovery_rate);
    options.thresholds.min_rows = args.min_rows.unwrap_or(options.thresholds.min_rows);

    let set = |names: &[String]| names.iter().cloned().collect::<HashSet<String>>();
    let (features, exclude) = (set(&args.features), set(&args.exclude));
    let (categorical, numeric) = (set(&args.categorical), set(&args.numeric));
    let known: HashSet<&str> = baseline.features().iter().map(|feature| feature.name()).collect();
    for name in [&features, &exclude, &categorical, &numeric].into_iter().flatten() {
        if !known.contains(name.as_str()) {
            let features = baseline.features();
            return Err(Error::no_column(&args.baseline, name, features.iter().map(|feature| feature.name())).into());
        }
    }
    if let Some(both) = categorical.intersection(&numeric).next() {
        return Err(super::invalid_value("--categorical", &format!("'{both}' is also given to --numeric; choose one")));
    }
    let named = |name: &str| [&features, &categorical, &numeric].into_iter().any(|names| names.contains(name));
    // The row index that pandas wrote with the data. An unnamed column may be any other column, too.
    let whole = |kind: &ColumnType| matches!(kind, ColumnType::Numeric(domain) if !domain.is_float());
    let unnamed = baseline.features().iter().any(|feature| feature.name().is_empty() && whole(feature.dtype()));
    let is_index = |name: &str| is_pandas_index(name) && (!name.is_empty() || unnamed);
    let use_of = |name: &str| {
        let wanted = match named(name) {
            true => features.is_empty() || features.contains(name),
            false => features.is_empty() && !is_index(name),
        } && !exclude.contains(name);
        match (wanted, categorical.contains(name), numeric.contains(name)) {
            (false, _, _) => ColumnUse::LeftOut,
            (true, true, _) => ColumnUse::As(Kind::Categorical),
            (true, false, true) => ColumnUse::As(Kind::Numeric),
            (true, false, false) => ColumnUse::ByType,
        }
    };

    if let BaselineSource::Live(snapshot) = &baseline
        && let Some(reason) = infer::older(snapshot, &current)
    {
        warn!("{reason}");
    }
    let bar = Bar::new();
    bar.planned(known.iter().filter(|name| use_of(name).is_compared()).count());
    let wanted = baseline.features().into_iter().filter(|feature| use_of(feature.name()).is_compared());
    let chosen = args.engine.counter(|| wanted.map(|feature| sweep::workload(feature, &current)).sum())?;
    let mut found = Comparer::new(&baseline, &current)
        .columns(use_of)
        .options(&options)
        .progress(|| bar.advance())
        .run(&*chosen.counter)?;
    super::note(&mut found.engine, chosen);
    drop(bar);
    let top = args.output.top.or(Some(super::TOP));
    args.output.write(Report::Comparison(&found), &RenderOptions { top, history: &HistoryLines::default })?;
    Ok(args.output.code(
        found.features.iter().any(|feature| feature.verdict.drifted),
        found.features.iter().any(|feature| feature.status.is_failure()),
    ))
}
