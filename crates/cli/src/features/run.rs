//! `driftsweep features` in a build with the feature pipeline.

use std::path::Path;

use driftsweep::count::CpuCounter;
use driftsweep::model::{ColumnUse, Options};
use driftsweep::snapshot::Snapshot;
use driftsweep::sweep::{BaselineSource, Comparer, Comparison};
use driftsweep_common::error::Error;
use driftsweep_features::{
    FeaturePipeline, LABEL, Limits, MANIFEST_FILE, Period, ROW_COLUMNS, SkewReport, SkewStatus, TRAINING_FILE,
    VALIDATION_FILE,
};
use driftsweep_fleet::{FeatureSet, Fleet};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::super::fleet_store::read_fleet;
use super::super::gate::INSUFFICIENT_DATA;
use super::super::output_folder::{OutputFolder, check_inputs};
use super::super::time_arg::{TimeArg, now_or};
use super::super::{TextFormat, invalid_value, write, write_json};
use super::{LimitArgs, MaterializeArgs, NowArgs, PeriodArgs, SetArgs, ShowArgs, SkewArgs, VerifyArgs, pages};

/// Features saw what came later, or differ from what serving logged.
pub const WRONG: u8 = 18;

/// Least memory of a pipeline.
const MIN_MEMORY: u64 = 32 << 20;

impl LimitArgs {
    /// The limits of a pipeline.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let mut limits = Limits::default();
        if let Some(memory) = self.memory {
            if memory.as_u64() < MIN_MEMORY {
                return Err(invalid_value("--memory", "must be 32MiB or more"));
            }
            limits.memory = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
        }
        if let Some(threads) = self.threads {
            if !(1..=1024).contains(&threads) {
                return Err(invalid_value("--threads", "must be between 1 and 1024"));
            }
            limits.threads = threads;
        }
        Ok(limits)
    }

    /// The folder for temporary files, where one is given.
    pub fn scratch(&self) -> Option<&Path> {
        self.scratch.as_deref()
    }
}

/// Opens a pipeline, and warns of what its files lack.
pub fn open(set: &FeatureSet, limits: Limits, scratch: Option<&Path>) -> Result<FeaturePipeline, Error> {
    let pipeline = FeaturePipeline::open(set, limits, scratch)?;
    pipeline.warnings().iter().for_each(|warning| warn!("{warning}"));
    Ok(pipeline)
}

/// Whether a feature set can be planned: its tables are opened, and its SQL is understood.
///
/// # Errors
/// The reason why not.
pub fn plan(set: &FeatureSet) -> Option<Result<(), Error>> {
    let planned = FeaturePipeline::open(set, Limits::default(), None).and_then(|pipeline| pipeline.version().map(drop));
    Some(planned)
}

impl SetArgs {
    fn open(&self) -> anyhow::Result<(Fleet, FeaturePipeline)> {
        let limits = self.limits.limits()?;
        let fleet = read_fleet(&self.fleet, &Options::new())?;
        let set = self.set(&fleet)?;
        let pipeline = open(set, limits, self.limits.scratch())?;
        Ok((fleet, pipeline))
    }

    fn set<'a>(&self, fleet: &'a Fleet) -> anyhow::Result<&'a FeatureSet> {
        let names = || fleet.feature_sets.iter().map(|set| &*set.name);
        match (&self.set, &*fleet.feature_sets) {
            (Some(name), _) => {
                Ok(fleet.feature_set(name).ok_or_else(|| Error::unknown("feature set", name, names()))?)
            }
            (None, [only]) => Ok(only),
            (None, []) => Err(Error::Fleet {
                path: self.fleet.clone(),
                line: None,
                reason: "it has no feature set; add [event_table.NAME] and [feature_set.NAME] (docs/features.md)"
                    .into(),
            }
            .into()),
            (None, _) => Err(invalid_value(
                "--set",
                &format!(
                    "the fleet file has several feature sets; name one of {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            )),
        }
    }
}

impl NowArgs {
    fn time(&self, fleet: &Fleet) -> anyhow::Result<Timestamp> {
        now_or(self.now.as_ref(), &fleet.zone, Timestamp::now())
    }
}

impl PeriodArgs {
    /// The period that is asked for; `from` is the default of its beginning.
    fn period(&self, fleet: &Fleet, from: impl Fn(Timestamp) -> Option<Timestamp>) -> anyhow::Result<Period> {
        let time =
            |flag: &str, given: &Option<TimeArg>| given.as_ref().map(|at| at.resolve(flag, &fleet.zone)).transpose();
        let as_of = self.now.time(fleet)?;
        let to = time("--to", &self.to)?.unwrap_or(as_of);
        if to > as_of {
            return Err(invalid_value("--to", "is after --now; predictions of the future have no features yet"));
        }
        let from = time("--from", &self.from)?.or_else(|| from(to));
        if from.is_some_and(|from| from >= to) {
            return Err(invalid_value("--from", "must be before --to"));
        }
        Ok(Period { from, to, as_of })
    }
}

pub fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let (_, pipeline) = args.set.open()?;
    let version = pipeline.version()?;
    match args.format {
        TextFormat::Json => write_json(&json!({
            "feature_set": pipeline.set.name,
            "feature_version": version.features,
            "label_version": version.label,
            "features": version.columns,
            "sources": pipeline.sources(),
            "plan": version.plan,
        }))?,
        TextFormat::Table => write(pages::show(&pipeline, &version))?,
    }
    Ok(0)
}

pub fn materialize(args: &MaterializeArgs) -> anyhow::Result<u8> {
    let (fleet, pipeline) = args.set.open()?;
    let as_of = args.now.time(&fleet)?;
    let names = [TRAINING_FILE, VALIDATION_FILE, MANIFEST_FILE];
    let _folder = OutputFolder::claim(&args.output, &names)?;
    let sources = pipeline.sources();
    check_inputs(&args.output, &names, sources.values().flatten().map(|file| &*file.path))?;
    if !args.allow_skew && blocked(&pipeline, as_of)? {
        return Ok(WRONG);
    }
    let manifest = pipeline.materialize(as_of, &args.output)?;
    match args.format {
        TextFormat::Json => write_json(&manifest)?,
        TextFormat::Table => write(pages::manifest(&manifest, &args.output))?,
    }
    Ok(0)
}

/// Whether the features differ from what serving logged by more than they may: then nothing is trained on them. Says why.
pub fn blocked(pipeline: &FeaturePipeline, as_of: Timestamp) -> anyhow::Result<bool> {
    if pipeline.set.serving.is_none() {
        return Ok(false);
    }
    let period = Period { from: served_from(pipeline, as_of), to: as_of, as_of };
    let skew = pipeline.skew(period, None)?;
    skew.findings.iter().for_each(|finding| error!("{finding}"));
    if skew.blocks() {
        error!(
            "training is blocked: the features of '{}' differ from what serving logged; see `driftsweep features skew`, or give \
             --allow-skew",
            pipeline.set.name
        );
    }
    Ok(skew.blocks())
}

pub fn verify(args: &VerifyArgs) -> anyhow::Result<u8> {
    let (fleet, pipeline) = args.set.open()?;
    let period = args.period.period(&fleet, |_| None)?;
    let cuts = args.at.iter().map(|at| at.resolve("--at", &fleet.zone)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(late) = cuts.iter().find(|&&at| at >= period.as_of) {
        return Err(invalid_value("--at", &format!("{late} is not before --now: nothing would be deleted")));
    }
    let found = pipeline.verify(period, &cuts)?;
    match args.format {
        TextFormat::Json => write_json(&found)?,
        TextFormat::Table => write(pages::verification(&found))?,
    }
    Ok(match (found.passed(), found.cuts.iter().any(|cut| !cut.different.is_empty())) {
        (true, _) => 0,
        (false, true) => WRONG,
        (false, false) => INSUFFICIENT_DATA,
    })
}

/// From when on what serving logged is compared by default. A log without times is compared as a whole.
fn served_from(pipeline: &FeaturePipeline, to: Timestamp) -> Option<Timestamp> {
    let has_time = pipeline.set.serving.as_ref()?.time.is_some();
    has_time.then(|| to.checked_sub(pipeline.set.validation).ok()).flatten()
}

/// A skew report with the distributions of both sides, where ids do not match.
#[derive(Serialize)]
struct SkewDocument<'a> {
    #[serde(flatten)]
    skew: &'a SkewReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    distributions: Option<&'a Comparison>,
}

pub fn skew(args: &SkewArgs) -> anyhow::Result<u8> {
    let (fleet, pipeline) = args.set.open()?;
    let period = args.period.period(&fleet, |to| served_from(&pipeline, to))?;
    let scratch = tempfile::tempdir().map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
    let computed = scratch.path().join("computed.parquet");
    let skew = pipeline.skew(period, Some(&computed))?;
    let distributions = match (skew.unmatched, &pipeline.set.serving) {
        (true, Some(serving)) => {
            let compared = |name: &str| {
                skew.features
                    .get(name)
                    .is_some_and(|feature| !matches!(feature.status, SkewStatus::NotLogged | SkewStatus::OtherKind))
                    && name != LABEL
                    && !ROW_COLUMNS.contains(&name)
            };
            let use_of = |name: &str| if compared(name) { ColumnUse::ByType } else { ColumnUse::LeftOut };
            let baseline = BaselineSource::open(&computed.to_string_lossy())?;
            let current = Snapshot::open(serving.path.expose())?;
            Some(Comparer::new(&baseline, &current).columns(use_of).options(&Options::new()).run(&CpuCounter)?)
        }
        _ => None,
    };
    match args.format {
        TextFormat::Json => write_json(&SkewDocument { skew: &skew, distributions: distributions.as_ref() })?,
        TextFormat::Table => write(pages::skew(&skew, distributions.as_ref()))?,
    }
    Ok(if skew.blocks() { WRONG } else { 0 })
}
