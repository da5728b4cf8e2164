//! A small fleet that is swept with a journal, in this process. The fuzz targets use it as well.

use std::path::{Path, PathBuf};

use driftsweep::count::CpuCounter;
use driftsweep::model::Options;
use driftsweep::sweep::{Journal, SweepReport, SweepRun};
use driftsweep_fleet::Fleet;
use jiff::Timestamp;

use super::seal;

/// The time that sweeps count as.
const AS_OF: &str = "2026-01-01T00:00:00Z";

/// A fleet that was swept once.
pub struct SweptFleet {
    state: PathBuf,
    fleet: Fleet,
    /// The report of a sweep that had no journal to go on from.
    pub report: SweepReport,
    /// The journal that it left.
    pub journal: Vec<u8>,
    /// The keys of its records.
    pub keys: Vec<[u8; 16]>,
}

impl SweptFleet {
    /// Sweeps a fleet of one model that compares these two files.
    pub fn new(folder: &Path, baseline: &Path, current: &Path, options: &Options) -> Self {
        let text = format!(
            "name = \"f\"\n[defaults.thresholds]\nmin_rows = 1\n[[model]]\nname = \"m\"\nbaseline = {baseline:?}\ncurrent = {current:?}\n"
        );
        let fleet = Fleet::parse(&text, &folder.join("fleet.toml"), options).unwrap();
        let state = folder.join("state");
        let _ = std::fs::remove_dir_all(&state);
        let report = sweep(&state, &fleet).unwrap();
        let journal = std::fs::read(state.join("sweep.journal")).unwrap();
        let keys = seal::records(&journal).into_iter().map(|record| seal::key(&journal[record])).collect();
        Self { state, fleet, report, journal, keys }
    }

    /// Sweeps it again with such a journal there; nothing where the file is refused.
    pub fn resume(&self, journal: &[u8]) -> Option<SweepReport> {
        std::fs::write(self.state.join("sweep.journal"), journal).unwrap();
        sweep(&self.state, &self.fleet)
    }
}

fn sweep(state: &Path, fleet: &Fleet) -> Option<SweepReport> {
    let journal = Journal::open(state, "f", AS_OF, |_| true).ok()?;
    let run = SweepRun { journal: Some(&journal), ..SweepRun::new(&CpuCounter) };
    let as_of: Timestamp = AS_OF.parse().unwrap();
    Some(run.sweep(&fleet.plan(as_of)))
}
