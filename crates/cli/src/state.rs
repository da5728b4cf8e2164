//! The state of a fleet between runs: the journal of a running sweep, and the history of past sweeps.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser};
use driftsweep::history;
use driftsweep::model::Period;
use driftsweep::sweep::{Journal, SweepReport};
use driftsweep_common::address::looks_like_address;
use driftsweep_common::atomic::hex;
use driftsweep_common::error::Error;
use driftsweep_common::storage;
use driftsweep_fleet::Fleet;
use driftsweep_report::report::html::HistoryLines;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::time_arg::{TimeArg, now_or};

/// Where the state of a fleet is.
#[derive(Args)]
pub struct FolderArgs {
    /// Folder for the journal of a running sweep and the history of past sweeps
    /// [default: one for the fleet file in $DRIFTSWEEP_STATE, or .driftsweep/NAME beside the fleet file NAME.toml]
    #[arg(long, value_name = "DIR", value_parser = text_path())]
    state: Option<PathBuf>,
    /// Folder for the history, which may be the address of one in an object store [default: history/ in the state]
    #[arg(long, value_name = "DIR", value_parser = text_path())]
    history: Option<PathBuf>,
}

/// Paths of the state are text, in reports, in the store and for commands: one that is not UTF-8 is refused. So is an
/// address that is not of an object store: it would become a folder name.
fn text_path() -> impl TypedValueParser<Value = PathBuf> {
    StringValueParser::new().try_map(|text| match looks_like_address(&text) && !storage::is_remote(&text) {
        true => Err("it is neither a path nor an address such as s3://BUCKET/FOLDER"),
        false => Ok(PathBuf::from(text)),
    })
}

/// What a sweep keeps.
#[derive(Args)]
pub struct StateArgs {
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Keep no journal, and no history unless --history names one: a killed sweep starts from the beginning
    #[arg(long, conflicts_with = "state")]
    no_state: bool,
    /// Override the time of the sweep, to replay a past night: a time such as 2026-01-31T02:00:00Z; without a zone it
    /// is read in the fleet's `time_zone`, and a day alone is its beginning there [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
}

/// Names the folder where the command line does not.
pub const VARIABLE: &str = "DRIFTSWEEP_STATE";

/// A killed sweep is resumed within this time; after that it belongs to another night.
const RESUME_WITHIN: SignedDuration = SignedDuration::from_hours(12);

impl FolderArgs {
    /// The folder for the state of a fleet, and whether it was set explicitly.
    pub fn folder(&self, fleet: &Path) -> (PathBuf, bool) {
        if let Some(folder) = &self.state {
            return (folder.clone(), true);
        }
        let stem = fleet.extension().is_some_and(|extension| extension == "toml");
        let name = if stem { fleet.file_stem() } else { fleet.file_name() }.unwrap_or_default();
        match super::variable(VARIABLE) {
            Some(folder) => {
                // Fleets in several folders may share it, and may have the same name.
                let absolute = std::path::absolute(fleet).unwrap_or_else(|_| fleet.into());
                let hash = hex(&Sha256::digest(absolute.as_os_str().as_encoded_bytes()));
                (Path::new(&folder).join(format!("{}-{}", name.display(), &hash[..8])), true)
            }
            None => (fleet.parent().unwrap_or(Path::new("")).join(".driftsweep").join(name), false),
        }
    }

    /// The folder of the history of a fleet.
    pub fn history(&self, fleet: &Path) -> PathBuf {
        self.history.clone().unwrap_or_else(|| self.folder(fleet).0.join("history"))
    }
}

impl StateArgs {
    /// The effective time of a sweep that starts now.
    pub fn as_of(&self, fleet: &Fleet, now: Timestamp) -> anyhow::Result<Timestamp> {
        now_or(self.now.as_ref(), &fleet.zone, now)
    }
}

/// Whether the windows by the calendar, and the paths with a day in them, are the same for both times.
fn same_windows(fleet: &Fleet, one: Timestamp, other: Timestamp) -> bool {
    let paths = |as_of| {
        fleet.at(as_of).models.into_iter().flat_map(|model| model.compared.windows).map(|window| window.current)
    };
    paths(one).eq(paths(other))
        && fleet.models.iter().all(|model| {
            let by_calendar = model
                .windows
                .iter()
                .filter_map(|window| Some(window.period.as_ref()?.1))
                .filter(Period::is_by_calendar);
            let mut intervals = by_calendar.map(|p| (p.interval(one, &model.zone), p.interval(other, &model.zone)));
            intervals.all(|(one, other)| one == other)
        })
}

/// Opens the journal, and reports on standard error if it resumes a killed sweep.
fn open_journal(
    folder: &Path,
    fleet: &Fleet,
    as_of: Timestamp,
    continues: impl Fn(&str) -> bool,
) -> driftsweep_common::error::Result<Journal> {
    let journal = Journal::open(folder, &fleet.name, &as_of.to_string(), continues)?;
    if journal.as_of() != as_of.to_string() || journal.known() > 0 {
        info!("resuming the sweep of {}: {} groups of columns done", journal.as_of(), journal.known());
    }
    Ok(journal)
}

/// The state of a fleet while a sweep runs.
pub struct SweepState {
    as_of: Timestamp,
    history: Option<PathBuf>,
    journal: Option<Journal>,
}

impl SweepState {
    /// The state for a sweep as its flags have it. If no folder was set and the default one cannot be written, the
    /// sweep runs without.
    pub fn open(args: &StateArgs, path: &Path, fleet: &Fleet, now: Timestamp) -> anyhow::Result<Self> {
        let as_of = args.as_of(fleet, now)?;
        if args.no_state {
            return Ok(Self { as_of, history: args.folders.history.clone(), journal: None });
        }
        let (folder, asked_for) = args.folders.folder(path);
        if storage::is_remote(&folder) {
            return Err(super::invalid_value("--state", "is a folder on a disk; --history may be in an object store"));
        }
        let continues = |begun: &str| {
            let Ok(begun) = begun.parse::<Timestamp>() else { return false };
            match &args.now {
                Some(_) => begun == as_of,
                // The sweep of the next hour does not continue that of the last hour.
                None => now.duration_since(begun).abs() <= RESUME_WITHIN && same_windows(fleet, begun, now),
            }
        };
        let journal = match open_journal(&folder, fleet, as_of, continues) {
            Err(error @ Error::Write { .. }) if !asked_for => {
                warn!(
                    "{error}; no history is kept and a killed sweep starts from the beginning (--state names a folder, \
                     --no-state silences this)"
                );
                return Ok(Self { as_of, history: args.folders.history.clone(), journal: None });
            }
            other => other?,
        };
        let as_of = journal.as_of().parse().unwrap_or(as_of);
        Ok(Self { as_of, history: Some(args.folders.history(path)), journal: Some(journal) })
    }

    /// The state for a sweep that counts as a time, whether it is started or resumed.
    pub fn at(
        folders: &FolderArgs,
        path: &Path,
        fleet: &Fleet,
        as_of: Timestamp,
    ) -> driftsweep_common::error::Result<Self> {
        let same = |begun: &str| begun == as_of.to_string();
        let journal = open_journal(&folders.folder(path).0, fleet, as_of, same)?;
        Ok(Self { as_of, history: Some(folders.history(path)), journal: Some(journal) })
    }

    /// The time the sweep counts as.
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// The journal, if one is kept.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Gives a report its name and time.
    pub fn name(&self, report: &mut SweepReport, fleet: &Fleet) {
        report.as_of = self.as_of.to_string();
        report.id = history::sweep_id(&fleet.name, fleet.models.iter().map(|model| &*model.name), self.as_of);
    }

    /// Appends a sweep to the history.
    pub fn append(&self, report: &SweepReport) -> driftsweep_common::error::Result<()> {
        if let Some(failure) = self.journal.as_ref().and_then(Journal::failure) {
            warn!("{failure}; the journal ends there");
        }
        if let Some(history) = &self.history {
            let path = history::append(history, report, self.as_of)?;
            detail!("history: {}", path.display());
        }
        Ok(())
    }

    /// The figures of earlier sweeps, where a history is kept. Those that cannot be read are left out of a report.
    pub fn earlier(&self) -> HistoryLines {
        self.history.as_ref().map_or_else(HistoryLines::default, |history| earlier(history, self.as_of))
    }

    /// Deletes the journal of a complete sweep.
    pub fn finish(self) -> driftsweep_common::error::Result<()> {
        self.journal.map_or(Ok(()), Journal::finish)
    }
}

/// The figures of the sweeps before a time. Those that cannot be read are left out of a report.
pub fn earlier(history: &Path, as_of: Timestamp) -> HistoryLines {
    let (lines, unreadable) =
        HistoryLines::before(history, as_of).unwrap_or_else(|error| (HistoryLines::default(), vec![error]));
    unreadable.iter().for_each(|error| warn!("left out of the lines of the history: {error}"));
    lines
}
