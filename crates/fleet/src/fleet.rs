//! The fleet file as a whole: read, checked, and as a sweep uses it.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::approval::{self, ApprovalTable};
use crate::checks;
use crate::document::{self, Checked, Located, Mistake};
use crate::features::{self, FeatureSet};
use crate::governance::{BudgetTable, Governance, QueueTable};
use crate::labels::Labels;
use crate::model::{self, FleetContext, Model};
use crate::retrain::{RetrainConfig, RetrainTable};
use crate::table::{FleetTable, ModelTable, Settings};
use driftsweep::model::{Options, dated};
use driftsweep::sweep::SweepPlan;
use driftsweep_common::address::as_text;
use driftsweep_common::atomic;
use driftsweep_common::duration::Length;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;
use driftsweep_extensions::channel::{Channel, NotifyTable};
use driftsweep_extensions::trigger::TriggerTable;
use driftsweep_extensions::value::Schedule;
use driftsweep_training::gate::{GateRules, GateTable};

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
    /// Its feature sets, in file order.
    pub feature_sets: Vec<FeatureSet>,
    /// Its models, in file order.
    pub models: Vec<Model>,
    /// The rules for training them.
    pub governance: Governance,
    /// The notification channels.
    pub channels: Vec<Channel>,
    /// The folder of the file: relative paths are relative to it.
    pub folder: PathBuf,
    /// What should be changed in the file, although it is understood: keys with their former names.
    pub hint: Option<String>,
}

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

    /// The feature set with a name.
    pub fn feature_set(&self, name: &str) -> Option<&FeatureSet> {
        self.feature_sets.iter().find(|set| set.name == name)
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
            feature_sets: self.feature_sets.clone(),
            models: vec![model.clone()],
            governance: self.governance.clone(),
            channels: self.channels.clone(),
            folder: self.folder.clone(),
            hint: self.hint.clone(),
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
        text_of(path, "fleet file")
    }

    /// Checks the text of a fleet file; `path` is where it stands.
    ///
    /// # Errors
    /// [`Error::Fleet`] with the line.
    pub fn parse(text: &str, path: &Path, base: &Options) -> Result<Self> {
        Self::checked(text, path, base).map_err(|mistake| mistake.in_file(path, text))
    }

    fn checked(text: &str, path: &Path, base: &Options) -> Checked<Self> {
        // Before any message quotes the file.
        if let Some(at) = approval::private_key(text) {
            let reason =
                "a private key stands here; take it out, replace it (others may have read it), and give the public key";
            return Err(Mistake::at(at, reason.into()));
        }
        let (table, hint) = document::parse::<FleetTable>(text)?;
        if table.models.is_empty() {
            return Err("no models; add a [[model]] with name, baseline and current".to_owned().into());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let options = table.defaults.check(|defaults| options(defaults, base, folder))?;
        let sweep = match &table.sweep {
            Some(sweep) => sweep.check(|text| Schedule::parse(text))?,
            None => Schedule::parse("@daily")?,
        };
        let zone = match &table.time_zone {
            Some(name) => name.check(|name| checks::zone(name))?,
            None => TimeZone::UTC,
        };
        let governance = Governance {
            budget: table.budget.check(BudgetTable::check)?,
            approval: table.approval.check(ApprovalTable::check)?,
            concurrency: table.queue.check(QueueTable::check)?,
        };
        let channels = channels(&table.channels, folder)?;
        let at_set = table.feature_set.clone();
        let feature_sets =
            at_set.into_checked(|sets| features::feature_sets(table.event_table.get().clone(), sets, folder))?;
        let context = FleetContext {
            folder,
            zone: &zone,
            defaults: table.defaults.get(),
            options: &options,
            feature_sets: &feature_sets,
            has_approvers: !governance.approval.approvers.is_empty(),
        };
        let models = models(table.models, &context)?;
        let stem = path.file_stem().map_or_else(|| "fleet".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            named: table.name.is_some(),
            name: table.name.unwrap_or(stem),
            sweep,
            zone,
            wait_for_data: table.wait_for_data.map_or(WAIT_FOR_DATA, Length::signed),
            feature_sets,
            models,
            governance,
            channels,
            folder: folder.to_owned(),
            hint: hint.map(|hint| hint.in_file(path, text).to_string()),
        })
    }
}

/// The text of a file that is called so.
fn text_of(path: &Path, called: &str) -> Result<String> {
    let unreadable = |reason: String| Error::Unreadable { path: path.into(), reason };
    let wrong = |reason: String| Error::Fleet { path: path.into(), line: None, reason };
    let text = atomic::read_text(path, MOST_TEXT).map_err(|e| match e.kind() {
        ErrorKind::NotFound => unreadable(format!("no such file; name the {called}")),
        ErrorKind::FileTooLarge => unreadable(format!("{e}, more than any {called}; name the {called}")),
        ErrorKind::InvalidData => wrong(format!("{e}; save the file as UTF-8")),
        _ => unreadable(e.to_string()),
    })?;
    // The parser takes many times as much memory as such a text.
    match text.contains('\0') {
        true => Err(wrong(format!("it contains zero bytes, so it is not text; name the {called}"))),
        false => Ok(text),
    }
}

/// What `[defaults]` says about comparisons, over `base`. What it says about triggers and trainings is checked, too: there may
/// be no model that uses it.
fn options(defaults: &Settings, base: &Options, folder: &Path) -> Checked<Options> {
    let mut options = base.clone();
    model::apply(&mut options, &defaults.metrics, defaults.bins, defaults.category_limit, &defaults.convention)?;
    options.thresholds = defaults.thresholds.check(|thresholds| match thresholds.mistake() {
        Some(mistake) => Err(mistake),
        None => Ok(thresholds.over(options.thresholds)),
    })?;
    defaults.trigger.check(|trigger| TriggerTable::default().over(trigger))?;
    defaults.retrain.check(|retrain| retrain.over(&RetrainTable::default(), folder))?;
    defaults.gates.check(|gates| match gates {
        None => Ok(()),
        Some(gates) => gates.over(&GateTable::default()).map(drop).map_err(|reason| format!("gates: {reason}")),
    })?;
    Ok(options)
}

/// The notification channels, checked.
fn channels(tables: &[Located<NotifyTable>], folder: &Path) -> Checked<Vec<Channel>> {
    let mut channels: Vec<Channel> = Vec::new();
    for located in tables {
        let channel = located.check(|table| {
            let name = for_display(&table.name);
            if table.name.trim().is_empty() || table.name.len() > MAX_NAME_BYTES || table.name.contains('\0') {
                return Err("notify needs a name".to_owned());
            }
            if channels.iter().any(|channel| channel.name == table.name) {
                return Err(format!("notify '{name}': the name is taken"));
            }
            table.check(folder).map_err(|reason| format!("notify '{name}': {reason}"))
        })?;
        channels.push(channel);
    }
    Ok(channels)
}

/// The models, checked.
fn models(tables: Vec<Located<ModelTable>>, context: &FleetContext<'_>) -> Checked<Vec<Model>> {
    let mut names = HashSet::new();
    let model = |located: Located<ModelTable>| {
        located.into_checked(|table| {
            let name = table.name.clone();
            if name.len() > MAX_NAME_BYTES || name.contains('\0') {
                return Err(format!("a model's name has at most {MAX_NAME_BYTES} bytes, and none that is zero"));
            }
            if name.trim().is_empty() {
                return Err("a model needs a name".into());
            }
            if !names.insert(name.clone()) {
                return Err(format!("model '{name}': the name is taken; names are unique in a fleet"));
            }
            table.resolve(context).map_err(|reason| format!("model '{name}': {reason}"))
        })
    };
    tables.into_iter().map(model).collect()
}

/// The gates of a file that holds the keys of `[model.gates]`.
///
/// # Errors
/// [`Error::Unreadable`] where it cannot be read, and [`Error::Fleet`] with the line of a mistake.
pub fn gate_rules(path: &Path) -> Result<GateRules> {
    let text = text_of(path, "file of gates")?;
    let rules = document::parse::<GateTable>(&text)
        .and_then(|(table, _)| table.over(&GateTable::default()).map_err(Mistake::from));
    rules.map_err(|mistake| mistake.in_file(path, &text))
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

    /// Every key that takes a length of time, with a fleet file that sets it to `LENGTH`, and whether it takes none at all.
    fn lengths() -> Vec<(&'static str, String, bool)> {
        let table = |table: &str, key: &str| format!("{MODEL}[{table}]\n{key} = \"LENGTH\"\n");
        let labels = "id = \"i\"\ntime = \"t\"\nlabel = \"l\"\nprediction = \"p\"\n";
        let mut all = vec![
            ("wait_for_data", format!("wait_for_data = \"LENGTH\"\n{MODEL}"), true),
            ("answer_within", table("approval", "answer_within"), true),
            ("delay", format!("{MODEL}[model.labels]\n{labels}delay = \"LENGTH\"\n"), true),
            ("cooldown", table("model.trigger", "cooldown"), true),
            ("cooldown", table("defaults.trigger", "cooldown"), true),
        ];
        let rollout = format!("{MODEL}[model.labels]\n{labels}[model.rollout]\narm = \"a\"\n");
        let file = "traffic = { file = \"w\" }\n";
        for key in ["settle", "give_up"] {
            all.push((key, format!("{rollout}{file}{key} = \"LENGTH\"\n"), true));
        }
        all.extend([
            ("matures", format!("{rollout}{file}[model.rollout.quality]\nmatures = \"LENGTH\"\n"), true),
            ("lasts", format!("{rollout}{file}[[model.rollout.stages]]\nshare = 1.0\nlasts = \"LENGTH\"\n"), true),
            (
                "drain",
                format!("{rollout}[model.rollout.traffic.nginx]\ninclude = \"i\"\nvariable = \"v\"\nkey = \"$a\"\ndrain = \"LENGTH\"\n"),
                true,
            ),
        ]);
        let events = "[event_table.e]\npath = \"p\"\nevent_time = \"t\"\n";
        let spine = "[feature_set.s.spine]\npath = \"p\"\nid = \"i\"\ntime = \"t\"\ncolumns = []\n";
        let set = |table: &str| format!("{events}delay = \"1h\"\n{spine}{table}{MODEL}");
        let lookup = "on = [\"k\"]\ncolumns = { x = \"count(*)\" }\n";
        all.extend([
            ("delay", format!("{events}delay = \"LENGTH\"\n{MODEL}"), true),
            ("validation", set("[feature_set.s]\nvalidation = \"LENGTH\"\n"), false),
            ("max_age", set(&format!("[feature_set.s.latest.e]\n{lookup}max_age = \"LENGTH\"\n")), false),
            ("within", set(&format!("[feature_set.s.aggregate.e]\n{lookup}within = \"LENGTH\"\n")), false),
            ("maturity", set("[feature_set.s.label]\ntable = \"e\"\ncolumn = \"x\"\nmaturity = \"LENGTH\"\n"), true),
        ]);
        for owner in ["model", "defaults"] {
            for trigger in ["performance", "volume"] {
                all.push(("within", table(&format!("{owner}.trigger.{trigger}"), "within"), false));
            }
            for key in ["valid_for", "timeout", "deadline", "backoff"] {
                let head =
                    format!("[approval]\napprovers = [[\"ana\"]]\n{MODEL}[{owner}.retrain]\ncommand = [\"true\"]\n");
                all.push((key, format!("{head}{key} = \"LENGTH\"\n"), false));
            }
        }
        all
    }

    #[test]
    fn every_key_that_takes_a_length_of_time_takes_the_same() {
        for (key, text, takes_none) in lengths() {
            let with = |length: &str| parse(&text.replace("LENGTH", length)).map_err(|e| e.to_string());
            for length in ["1d", "90m", "1h 30m", "3650d", "PT1H"] {
                assert!(with(length).is_ok(), "{key} = {length}: {:?}", with(length).err());
            }
            assert_eq!(with("0s").is_ok(), takes_none, "{text}: {:?}", with("0s").err());
            let line = text.lines().position(|line| line.contains("LENGTH")).unwrap() + 1;
            for (length, words) in [
                ("-1h", "it is not a length of time such as 7d, 36h or 1h 30m"),
                ("1y", "it is not a length of time"),
                ("99999999d", "it is not a length of time"),
                ("5", "it is not a length of time"),
                ("", "it is not a length of time"),
                ("3661d", "it must be at most ten years"),
            ] {
                let error = with(length).unwrap_err();
                let place = format!("fleets/my.toml:{line}: ");
                assert!(error.starts_with(&place) && error.contains(&format!("{key}: {words}")), "{length}: {error}");
            }
        }
    }

    #[test]
    fn no_key_that_takes_a_length_of_time_is_forgotten() {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let extensions = concat!(env!("CARGO_MANIFEST_DIR"), "/../extensions/src");
        let mut sources = Vec::new();
        [own, extensions]
            .into_iter()
            .for_each(|folder| crate::document::finite::tests::read(Path::new(folder), &mut sources));
        let fields = sources.iter().flat_map(|source| source.lines()).filter_map(|line| line.trim().split_once(": "));
        let keys = fields.filter(|(_, kind)| *kind == "Option<Length>,");
        let mut keys: Vec<&str> = keys.map(|(key, _)| key.trim_start_matches("pub(crate) ")).collect();
        let mut known: Vec<&str> = lengths().into_iter().map(|(key, ..)| key).collect();
        for all in [&mut keys, &mut known] {
            all.sort_unstable();
            all.dedup();
        }
        assert_eq!(keys, known);
    }

    #[test]
    fn a_window_may_also_be_a_part_of_the_calendar() {
        let with = |window: &str| {
            parse(&format!("{MODEL}time = \"t\"\nwindows = [\"{window}\"]\n")).map_err(|e| e.to_string())
        };
        for window in ["1d", "90m", "1h 30m", "1y", "2 months", "day"] {
            assert!(with(window).is_ok(), "{window}: {:?}", with(window).err());
        }
        for window in ["0s", "-1h", "99999999d", "5", ""] {
            let error = with(window).unwrap_err();
            assert!(error.contains("nor a length of time such as 7d, 36h or 1h 30m"), "{error}");
        }
    }
}
