//! The fleet file: the models, their training data, their current data, and their thresholds. TOML, checked as a whole
//! before any data is read; errors name the line.

mod approval;
mod baselines;
pub mod daily;
mod finite;
pub mod infer;
mod keys;
mod labels;
mod parser_messages;
mod retrain;
mod table;

pub use approval::{ApprovalRules, ApproverKey, AutomaticApproval, OnExpiry, Signatures};
pub use baselines::{HASH_DIGITS, SetBaseline};
pub use driftsweep_extensions::channel::{Channel, ChannelTarget, Topic};
pub use driftsweep_extensions::executor::ExecutorConfig;
pub use driftsweep_extensions::trigger::{Trigger, Triggers};
pub use driftsweep_extensions::value::{
    Currency, Endpoint, Money, Origin, Schedule, Secret, SecretSource, Setting, duration,
};
pub use labels::{Labels, class};
use retrain::RetrainTable;
pub use retrain::{BudgetConfig, ConcurrencyLimits, Governance, RetrainConfig, Stakes};
use table::{ConditionTable, ConventionSetting, Current, FleetTable};

use std::collections::HashSet;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use toml::Spanned;

use driftsweep::metric::performance::PerformanceMetric;
use driftsweep::metric::{Metric, MetricSet};
use driftsweep::model::{self, Options, Period, Window, check_bins, dated};
use driftsweep::rule::{self, PartialThresholds};
use driftsweep::snapshot::{Condition, Slice};
use driftsweep::sweep::SweepPlan;
use driftsweep_common::address::{Location, as_text};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::storage;
use driftsweep_extensions::channel::NotifyTable;
use driftsweep_extensions::trigger::TriggerTable;
use driftsweep_extensions::trigger::drift::Persistence;

/// A checked fleet file.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Its name; the file's name if it gives none.
    pub name: String,
    /// Whether the file gives one.
    pub named: bool,
    /// When a sweep is due.
    pub sweep: Schedule,
    /// The time zone of that schedule.
    pub zone: TimeZone,
    /// For how long a sweep waits for data that are missing or unreadable: later ticks retry until then.
    pub wait_for_data: SignedDuration,
    /// Its models, in file order.
    pub models: Vec<Model>,
    /// The rules for training them.
    pub governance: Governance,
    /// The notification channels.
    pub channels: Vec<Channel>,
    /// The folder of the file: relative paths are relative to it.
    pub folder: PathBuf,
}

/// One model of a fleet: what of it is compared, and what is decided about it. What is compared reads as its own.
#[derive(Clone, Debug)]
pub struct Model {
    /// What of it is compared.
    pub compared: model::Model,
    /// Its baseline as the fleet file has it: relative to the file.
    pub declared_baseline: Location,
    /// Its retrain triggers.
    pub triggers: Triggers,
    /// How its predictions are joined with labels, if that is declared.
    pub labels: Option<Labels>,
    /// How it is trained, if that is set.
    pub retrain: Option<RetrainConfig>,
    /// Where its convention, if it has one, was set.
    convention_origin: Origin,
    /// The thresholds set for the model and the fleet, to show where a threshold comes from.
    thresholds: [PartialThresholds; 2],
}

impl Deref for Model {
    type Target = model::Model;

    fn deref(&self) -> &model::Model {
        &self.compared
    }
}

/// The window in which labels in a separate table are compared.
const LABELS_WINDOW: &str = "labels";

impl Model {
    /// Where a threshold of a feature was set.
    pub fn threshold_origin(&self, feature: &str, name: &str) -> Origin {
        let [model, fleet] = &self.thresholds;
        if name == rule::CONVENTION {
            return self.convention_origin;
        }
        let layers = [
            (self.columns.get(feature).map(|settings| &settings.thresholds), Origin::Feature),
            (Some(model), Origin::Model),
            (Some(fleet), Origin::Fleet),
        ];
        let set = layers.into_iter().find(|(table, _)| table.is_some_and(|table| table.sets(name)));
        set.map_or(Origin::BuiltIn, |(_, origin)| origin)
    }
}

/// The value of `baseline` that compares each window with the one before it.
const PREVIOUS_WINDOW: &str = "previous";

/// For how long a sweep waits for data unless the fleet file says so.
const WAIT_FOR_DATA: SignedDuration = SignedDuration::from_hours(8);

/// Bytes of a fleet file.
const MOST_TEXT: u64 = 32 << 20;

/// Most bytes in a model's name.
const MAX_NAME_BYTES: usize = 512;

impl Fleet {
    /// The fleet as a sweep at a point in time reads it: with the day in paths that name it by `{day}`.
    pub fn at(&self, as_of: Timestamp) -> Self {
        let mut fleet = self.clone();
        for model in &mut fleet.models {
            model.compared = model.compared.at(as_of);
            for path in model.labels.iter_mut().flat_map(Labels::paths) {
                // The formats were checked when the file was read.
                if let Ok(text) = dated(path.expose(), as_of, &model.compared.zone) {
                    *path = text.into();
                }
            }
        }
        fleet
    }

    /// The plan of a sweep over all models that counts as a point in time.
    pub fn plan(&self, as_of: Timestamp) -> SweepPlan<'_> {
        SweepPlan::new(&self.name, self.models.iter().map(|model| &model.compared), as_of)
    }

    /// The model with a name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The training settings of the model with a name, if the fleet file has them.
    pub fn retrain_of(&self, model: &str) -> Option<&RetrainConfig> {
        self.model(model)?.retrain.as_ref()
    }

    /// The same fleet with one of its models only.
    pub fn with_only(&self, model: &Model) -> Self {
        Self {
            name: self.name.clone(),
            named: self.named,
            sweep: self.sweep.clone(),
            zone: self.zone.clone(),
            wait_for_data: self.wait_for_data,
            models: vec![model.clone()],
            governance: self.governance.clone(),
            channels: self.channels.clone(),
            folder: self.folder.clone(),
        }
    }

    /// Reads and checks a fleet file. Relative paths in it are relative to the file. Memory settings are those
    /// of `base`.
    ///
    /// # Errors
    /// [`Error::Fleet`] with the line.
    pub fn read(path: &Path, base: &Options) -> Result<Self> {
        // Paths next to it are stored as text in reports and in the store, so they must be UTF-8.
        if let Ok(absolute) = std::path::absolute(path)
            && let Err(reason) = as_text(&absolute)
        {
            return Err(Error::Fleet { path: path.into(), line: None, reason: reason.into() });
        }
        Self::parse(&Self::text(path)?, path, base)
    }

    /// The text of a fleet file. It never waits for a pipe, and reads at most the size limit.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for a file that is missing, not regular, or too large; [`Error::Fleet`] if it is not text.
    pub fn text(path: &Path) -> Result<String> {
        let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
        let wrong = |reason: String| Error::Fleet { path: path.into(), line: None, reason };
        let text = atomic::read_text(path, MOST_TEXT).map_err(|e| match e.kind() {
            ErrorKind::NotFound => unreadable("no such file; name the fleet file".into()),
            ErrorKind::FileTooLarge => unreadable(format!("{e}, more than any fleet file; name the fleet file")),
            ErrorKind::InvalidData => wrong(format!("{e}; save the file as UTF-8")),
            _ => unreadable(e.to_string()),
        })?;
        // The parser takes many times as much memory as such a text.
        match text.contains('\0') {
            true => Err(wrong("it contains zero bytes, so it is not text; name the fleet file".into())),
            false => Ok(text),
        }
    }

    /// Checks the text of a fleet file; `path` is where it stands.
    ///
    /// # Errors
    /// [`Error::Fleet`] with the line.
    pub fn parse(text: &str, path: &Path, base: &Options) -> Result<Self> {
        let line_of = |at: usize| Some(text[..at.min(text.len())].matches('\n').count() + 1);
        let mistake =
            |at: Option<usize>, reason: String| Error::Fleet { path: path.into(), line: at.and_then(line_of), reason };
        // Before any message quotes the file.
        if let Some(at) = approval::private_key(text) {
            return Err(mistake(
                Some(at),
                "a private key stands here; take it out, replace it (others may have read it), and give the public key"
                    .into(),
            ));
        }
        let table: FleetTable = toml::from_str(text).map_err(|e| {
            let at = e.span().map(|span| span.start);
            let key = at.and_then(|at| keys::at(text, at));
            mistake(at, parser_messages::reworded(e.message(), key.as_deref()))
        })?;
        if let Some((setting, at)) = finite::first_non_finite(text) {
            return Err(mistake(at, format!("{setting}: a number must be finite; give one, or leave the key out")));
        }
        if table.models.is_empty() {
            return Err(mistake(None, "no models; add a [[model]] with name, baseline and current".into()));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut defaults = base.clone();
        let set = &table.defaults;
        apply(&mut defaults, &set.metrics, set.bins, set.category_limit, &set.convention)
            .map_err(|reason| mistake(text.find("[defaults"), reason))?;
        if let Some(reason) = table.defaults.thresholds.mistake() {
            return Err(mistake(text.find("[defaults"), reason));
        }
        defaults.thresholds = table.defaults.thresholds.over(defaults.thresholds);
        TriggerTable::default()
            .over(&table.defaults.trigger)
            .map_err(|reason| mistake(text.find("[defaults.trigger"), reason))?;
        let at = |spanned: &Spanned<String>| Some(spanned.span().start);
        let sweep = match &table.sweep {
            Some(given) => Schedule::parse(given.get_ref()).map_err(|reason| mistake(at(given), reason))?,
            None => Schedule::parse("@daily").map_err(|reason| mistake(None, reason))?,
        };
        let zone = |name: &str| {
            TimeZone::get(name).map_err(|_| match TimeZone::get("Europe/Berlin") {
                Ok(_) => format!("no time zone is called '{name}'; give a name such as Europe/Berlin or UTC"),
                Err(_) => {
                    format!("time zone '{name}': this machine has no time zones; install tzdata, or set TZDIR")
                }
            })
        };
        let fleet_zone = match &table.time_zone {
            Some(given) => zone(given.get_ref()).map_err(|reason| mistake(at(given), reason))?,
            None => TimeZone::UTC,
        };

        let wait_for_data = match &table.wait_for_data {
            Some(given) => duration("wait_for_data", given.get_ref()).map_err(|reason| mistake(at(given), reason))?,
            None => WAIT_FOR_DATA,
        };
        let governance = Governance {
            budget: table.budget.check().map_err(|reason| mistake(text.find("[budget"), reason))?,
            approval: table
                .approval
                .check()
                .map_err(|(at, reason)| mistake(at.or_else(|| text.find("[approval")), reason))?,
            concurrency: table.queue.check().map_err(|reason| mistake(text.find("[queue"), reason))?,
        };
        table
            .defaults
            .retrain
            .over(&RetrainTable::default(), folder)
            .map_err(|reason| mistake(text.find("[defaults.retrain"), reason))?;
        let channels = channels(&table.channels, folder, &mistake)?;

        let mut names = HashSet::new();
        let mut models = Vec::new();
        for spanned in table.models {
            let at = Some(spanned.span().start);
            let model = spanned.into_inner();
            let wrong = |reason: String| mistake(at, format!("model '{}': {reason}", model.name));
            if model.name.len() > MAX_NAME_BYTES || model.name.contains('\0') {
                return Err(mistake(
                    at,
                    format!("a model's name has at most {MAX_NAME_BYTES} bytes, and none that is zero"),
                ));
            }
            if model.name.trim().is_empty() {
                return Err(mistake(at, "a model needs a name".into()));
            }
            if !names.insert(model.name.clone()) {
                return Err(wrong("the name is taken; names are unique in a fleet".into()));
            }
            let importance = model.importance.unwrap_or(1.0);
            if !importance.is_finite() || importance < 0.0 {
                return Err(wrong(format!("importance {importance} must be 0 or more")));
            }
            let mut options = defaults.clone();
            apply(&mut options, &model.metrics, model.bins, model.category_limit, &model.convention).map_err(wrong)?;
            if let Some((name, bad)) = model
                .feature
                .iter()
                .find_map(|(name, table)| Some((name, table.importance.filter(|x| !(0.0..=1e9).contains(x))?)))
            {
                return Err(wrong(format!("feature '{name}': importance {bad} must be between 0 and 1e9")));
            }
            for table in std::iter::once(&model.thresholds).chain(model.feature.values().map(|f| &f.thresholds)) {
                if let Some(reason) = table.mistake() {
                    return Err(wrong(reason));
                }
            }
            options.thresholds = model.thresholds.over(options.thresholds);
            let periods = model.windows.iter().map(|text| Ok((text, Period::parse(text)?)));
            let periods = periods.collect::<std::result::Result<Vec<_>, String>>().map_err(wrong)?;
            let zone = match &model.time_zone {
                Some(name) => zone(name).map_err(wrong)?,
                None => fleet_zone.clone(),
            };
            let previous = model.baseline == PREVIOUS_WINDOW;
            if model.time.is_some() && periods.is_empty() {
                return Err(wrong("`time` is for windows; list them with `windows`".into()));
            }
            for (key, names) in [("windows", &model.windows), ("slice_by", &model.slice_by)] {
                if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
                    return Err(wrong(format!("{key} names '{}' twice", twice.1)));
                }
            }
            if model.time.is_none() && !periods.is_empty() {
                return Err(wrong("windows are found by time; name the column of times with `time`".into()));
            }
            if previous && periods.is_empty() {
                return Err(wrong("baseline = \"previous\" compares windows; list them with `windows`".into()));
            }
            let timed = |period: Period| model.time.clone().map(|column| (column, period));
            let mut windows: Vec<Window> = match &model.current {
                Current::One(current) if periods.is_empty() => vec![Window::whole("", resolve(folder, current))],
                Current::One(current) => {
                    let window = |(name, period): (&String, Period)| Window {
                        period: timed(period),
                        ..Window::whole(name, resolve(folder, current))
                    };
                    periods.into_iter().map(window).collect()
                }
                Current::Windows(_) if !periods.is_empty() => {
                    return Err(wrong("`current` names its windows already; leave out `windows`".into()));
                }
                Current::Windows(windows) => {
                    windows.iter().map(|(name, current)| Window::whole(name, resolve(folder, current))).collect()
                }
            };
            let mut segments = Vec::new();
            for (name, conditions) in model.segment {
                let condition = |(column, table): (String, ConditionTable)| {
                    let test = table.test().map_err(|reason| wrong(format!("segment '{name}', {column}: {reason}")))?;
                    Ok(Condition { column, test })
                };
                let slice = Slice(conditions.into_iter().map(condition).collect::<Result<_>>()?);
                if name.is_empty() || slice.0.is_empty() {
                    return Err(wrong("a segment needs a name and at least one condition".into()));
                }
                segments.push((name, slice));
            }
            if windows.is_empty() {
                return Err(mistake(at, format!("model '{}': current names no snapshot", model.name)));
            }
            let baseline = if previous { windows[0].current.clone() } else { resolve(folder, &model.baseline) };
            let retrain = model.retrain.over(&table.defaults.retrain, folder).map_err(wrong)?;
            if retrain.is_some() && governance.approval.approvers.is_empty() {
                return Err(wrong(
                    "training may need approval, and there are no approvers; add [approval] with approvers = \
                     [[\"NAME\"]]"
                        .into(),
                ));
            }
            let mut triggers = model.trigger.over(&table.defaults.trigger).map_err(wrong)?;
            // A step change is seen only once: on the next night both sides are after it.
            if previous && triggers.drift.persistence.origin == Origin::BuiltIn {
                triggers.drift.persistence.value = Persistence { hits: 1, of: 1 };
            }
            let judged = triggers.performance.judged_metric();
            if let Some(table) = &model.labels
                && ((judged.needs_score() && table.score.is_none())
                    || (judged.is_of_numbers() && table.prediction.is_none()))
            {
                let column = if judged.needs_score() { "score" } else { "prediction" };
                return Err(wrong(format!(
                    "metric = \"{judged}\" takes a {column}; name its column with labels.{column}"
                )));
            }
            let mut labels = match model.labels.clone() {
                Some(table) => {
                    if windows.len() > 1 && windows[0].current != windows[1].current && table.needs_current() {
                        return Err(wrong("`current` names several snapshots; name that of labels.predictions".into()));
                    }
                    let reference = (!previous).then_some(&baseline);
                    let path = |path: &str| resolve(folder, path);
                    let time = model.time.as_deref();
                    Some(table.resolve(&windows[0].current, reference, time, path).map_err(wrong)?)
                }
                None => None,
            };
            // Labels of all times say nothing about the current days.
            if let Some(labels) = &labels
                && let Some(from) = &labels.from
                && labels.label_time.is_some()
                && !previous
            {
                let within = Period::rolling(triggers.performance.within.value).map_err(wrong)?;
                let period = labels.label_time.clone().map(|column| (column, within));
                let only = Some(labels.label.clone());
                windows.push(Window { period, only, ..Window::whole(LABELS_WINDOW, from.clone()) });
            }
            let labelled = labels.iter_mut().flat_map(Labels::paths).map(|path| path.clone());
            for path in windows.iter().map(|window| window.current.clone()).chain([baseline.clone()]).chain(labelled) {
                dated(path.expose(), Timestamp::UNIX_EPOCH, &zone).map_err(wrong)?;
            }
            options.false_discovery_rate = triggers.drift.fdr.value;
            let numbers = triggers.performance.metric.value.is_some_and(PerformanceMetric::is_of_numbers);
            let declared_baseline = Location::from(model.baseline);
            models.push(Model {
                compared: model::Model {
                    name: model.name,
                    baseline_is_nightly: previous || is_dated(&declared_baseline),
                    baseline_hash: None,
                    baseline,
                    windows,
                    zone,
                    previous,
                    slice_by: model.slice_by,
                    segments,
                    importance,
                    options,
                    outcomes: labels.as_ref().map(|labels| labels.columns(numbers)),
                    features: model.features,
                    exclude: model.exclude,
                    columns: model.feature.into_iter().map(|(name, table)| (name, table.settings())).collect(),
                },
                declared_baseline,
                triggers,
                labels,
                retrain,
                convention_origin: if model.convention.is_some() { Origin::Model } else { Origin::Fleet },
                thresholds: [model.thresholds, table.defaults.thresholds],
            });
        }
        let stem = path.file_stem().map_or_else(|| "fleet".into(), |stem| stem.to_string_lossy().into_owned());
        let named = table.name.is_some();
        let (name, folder) = (table.name.unwrap_or(stem), folder.to_owned());
        Ok(Self { name, named, sweep, zone: fleet_zone, wait_for_data, models, governance, channels, folder })
    }
}

/// Whether a path names the day of the sweep.
fn is_dated(path: &Location) -> bool {
    path.expose().contains("{day")
}

/// The notification channels, checked.
fn channels(
    tables: &[Spanned<NotifyTable>],
    folder: &Path,
    mistake: &impl Fn(Option<usize>, String) -> Error,
) -> Result<Vec<Channel>> {
    let mut channels: Vec<Channel> = Vec::new();
    for spanned in tables {
        let (at, table) = (Some(spanned.span().start), spanned.get_ref());
        let name = driftsweep_common::escape::for_display(&table.name);
        if table.name.trim().is_empty() || table.name.len() > MAX_NAME_BYTES || table.name.contains('\0') {
            return Err(mistake(at, "notify needs a name".into()));
        }
        if channels.iter().any(|channel| channel.name == table.name) {
            return Err(mistake(at, format!("notify '{name}': the name is taken")));
        }
        channels.push(table.check(folder).map_err(|reason| mistake(at, format!("notify '{name}': {reason}")))?);
    }
    Ok(channels)
}

fn apply(
    options: &mut Options,
    metrics: &Option<Vec<String>>,
    bins: Option<usize>,
    category_limit: Option<usize>,
    convention: &Option<ConventionSetting>,
) -> std::result::Result<(), String> {
    if let Some(names) = metrics {
        if names.is_empty() {
            return Err("metrics = [] compares nothing; leave it out for all metrics".into());
        }
        options.metrics = names
            .iter()
            .map(|name| Metric::from_str(name))
            .collect::<Result<MetricSet>>()
            .map_err(|e| e.to_string())?;
    }
    if let Some(bins) = bins {
        options.bins = check_bins(bins)?;
    }
    if let Some(limit) = category_limit {
        if limit == 0 {
            return Err("category_limit must be 1 or more".into());
        }
        options.category_limit = limit;
    }
    if let Some(convention) = convention {
        options.convention = convention.0;
    }
    Ok(())
}

fn resolve(folder: &Path, path: &str) -> Location {
    if Path::new(path).is_absolute() || storage::is_remote(path) || folder.as_os_str().is_empty() {
        return path.into();
    }
    folder.join(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fleet> {
        Fleet::parse(text, Path::new("fleets/my.toml"), &Options::new())
    }

    const MODEL: &str = "[[model]]\nname = \"m\"\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\n";

    #[test]
    fn the_nearest_threshold_wins() {
        let text = format!(
            "[defaults.thresholds]\npsi = 0.3\njs = 0.4\n{MODEL}[model.thresholds]\njs = 0.5\n[model.feature.x.thresholds]\npsi = 0.9\n"
        );
        let fleet = parse(&text).unwrap();
        let (model, x) = (&fleet.models[0], fleet.models[0].thresholds_of("x"));
        assert_eq!((x.psi, x.js), (0.9, 0.5));
        let y = model.thresholds_of("y");
        assert_eq!((y.psi, y.js, y.ks_p), (0.3, 0.5, 0.01));
        assert_eq!(model.baseline.expose(), "fleets/a.parquet");
    }

    #[test]
    fn every_mistake_names_its_line_and_remedy() {
        for (text, line, words) in [
            ("[[model]]\nname = \"m\"\nbaseline = 3\n", Some(3), "model.baseline must be a string, not a whole number"),
            ("x = 1\n", Some(1), "unknown field"),
            (&format!("{MODEL}exclud = [\"id\"]\n"), Some(5), "did you mean 'exclude'?"),
            (&format!("{MODEL}[model.trigger]\noff = [\"drfit\"]\n"), Some(6), "did you mean 'drift'?"),
            (&format!("{MODEL}time = \"t\"\nwindows = [\"dya\"]\n"), Some(1), "did you mean 'day'?"),
            ("name = \"f\"\n\n[[model]\n", Some(3), "]"),
            (&format!("{MODEL}{MODEL}"), Some(5), "the name is taken"),
            (&format!("{MODEL}metrics = [\"psy\"]\n"), Some(1), "unknown metric 'psy'; did you mean 'psi'?"),
            (&format!("{MODEL}bins = 1\n"), Some(1), "between 2 and 1000"),
            (&format!("{MODEL}[model.thresholds]\nks_p = 2.0\n"), Some(1), "between 0 and 1"),
            (&format!("{MODEL}convention = \"tfvd\"\n"), Some(5), "unknown convention 'tfvd'"),
            (&format!("{MODEL}convention = 3\n"), Some(5), "the name of a convention"),
            (
                &format!("{MODEL}[model.convention]\nname = \"tfdv\"\nnumeric = {{ metric = \"psi\", limit = 0.1 }}\n"),
                Some(5),
                "tfdv has no psi of numeric features; choose js",
            ),
            ("", None, "no models"),
        ] {
            let error = parse(text).unwrap_err();
            let Error::Fleet { line: found, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*found, line, "{text}: {error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn windows_are_named_and_keep_their_order() {
        let text = "[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = { \"02\" = \"x\", \"01\" = \"/y\" }\n";
        let windows = parse(text).unwrap().models.remove(0).compared.windows;
        assert_eq!((windows[0].name.as_str(), windows[1].name.as_str()), ("02", "01"));
        assert_eq!((windows[0].current.expose(), windows[1].current.expose()), ("fleets/x", "/y"));
    }
}
