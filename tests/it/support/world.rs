//! A generated fleet that is swept for some nights, and a real one whose labels come late.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use driftsweep::count::CpuCounter;
use driftsweep::history::sweep_id;
use driftsweep::model::Options;
use driftsweep::snapshot::table::{Cells, to_parquet};
use driftsweep::sweep::{SweepReport, SweepRun};
use driftsweep_common::error::{Error, Result};
use driftsweep_fleet::Fleet;
use driftsweep_ops::store::Store;
use driftsweep_ops::tick::{self, Sweeper, TickSummary};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use super::at;
use super::data::{dataset, read_parquet, run};
use super::needs::postgres;

/// A folder with a generated fleet of three nights, drifting from the second on, and both stores. Its name is its own, so
/// that fleets can share a server.
pub struct World {
    pub folder: TempDir,
}

impl World {
    pub fn new(models: usize, extra: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let [path, models] = [folder.path().display().to_string(), models.to_string()];
        let args = ["bench", "generate", &path, "--models", &models, "--features", "6", "--rows", "1500"];
        let nights = ["--nights", "4", "--drift-from", "2", "--drift", "0.5", "--categorical", "0"];
        assert!(run(args.iter().chain(&nights)).status.success());
        let world = Self { folder };
        let text = fs::read_to_string(world.fleet_file()).unwrap();
        let name = world.folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let text = text.replace("name = \"generated\"", &format!("name = \"{name}\"\nsweep = \"0 2 * * *\"\n{extra}"));
        fs::write(world.fleet_file(), text).unwrap();
        world
    }

    pub fn fleet_file(&self) -> PathBuf {
        self.folder.path().join("fleet.toml")
    }

    pub fn fleet(&self) -> Fleet {
        Fleet::read(&self.fleet_file(), &Options::new()).unwrap()
    }

    /// An SQLite file, and the test server.
    pub fn stores(&self) -> Vec<String> {
        let file = self.folder.path().join("a b?c%20.sqlite").display().to_string();
        [Some(file), postgres()].into_iter().flatten().collect()
    }

    pub fn tick(&self, store: &str, now: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        let state = self.folder.path().join("state");
        command.args(["tick", "--format", "json", "--threads", "1", "--now", now]).args(more);
        command.arg(self.fleet_file()).arg("--state").arg(state).env("DRIFTSWEEP_STORE", store);
        command.output().unwrap()
    }

    pub fn ticked(&self, store: &str, now: &str) -> Value {
        let output = self.tick(store, now, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn command(&self, store: &str, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).env("DRIFTSWEEP_STORE", store).env_remove("USER").output().unwrap()
    }
}

/// Sweeps without journal or history.
struct Plain<'a>(&'a Fleet);

impl Sweeper for Plain<'_> {
    fn sweep(&mut self, as_of: Timestamp) -> Result<SweepReport> {
        let fleet = self.0.at(as_of);
        let mut report = SweepRun::new(&CpuCounter).sweep(&fleet.plan(as_of));
        report.as_of = as_of.to_string();
        report.id = sweep_id(&fleet.name, fleet.models.iter().map(|model| &*model.name), as_of);
        Ok(report)
    }

    fn keep(&mut self, _: &SweepReport) -> Result<()> {
        Ok(())
    }

    fn done(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A tick in this process; a server may take a moment to notice that the last one is gone.
pub fn tick_here(fleet: &Fleet, store: &str, now: Timestamp, step: &mut dyn FnMut(&str)) -> Result<TickSummary> {
    // A tick that another one keeps waiting has not begun: it is one step, however often it is tried.
    let mut begun = false;
    let mut step = |name: &str| {
        if name != "lock" || !std::mem::replace(&mut begun, true) {
            step(name);
        }
    };
    for _ in 0..100 {
        match tick::tick(fleet, &mut Store::open(store, &fleet.name)?, now, &mut Plain(fleet), &mut step) {
            Err(Error::Locked { .. }) => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
    panic!("another tick never ended")
}

/// Car loans whose labels come late: each twenty days after its prediction, more or less.
pub fn loans(folder: &Path, policy: &str) -> PathBuf {
    let (production, labels) = (dataset("car_loan/production.parquet"), dataset("car_loan/production_labels.parquet"));
    let labels = read_parquet(&labels);
    let ids: Vec<i64> = labels.column("id").unwrap().i64().unwrap().iter().flatten().collect();
    // The data's own clock: a prediction every 523.152 s from 2018-10-30 18:00 on.
    let first = at("2018-10-30T18:00:00Z").as_microsecond();
    let came = ids.iter().map(|id| {
        let row = id - ids[0];
        let days = 10 + (row * 7919) % 21;
        first + row * 523_152_000 + days * 86_400_000_000
    });
    let repaid = labels.column("repaid").unwrap().i64().unwrap();
    let columns = vec![
        ("came", Cells::Time(came.collect())),
        ("id", Cells::Signed(ids.iter().map(|&id| Some(id)).collect())),
        ("repaid", Cells::Signed(repaid.iter().collect())),
    ];
    let path = folder.join("labels.parquet");
    fs::write(&path, to_parquet(columns).unwrap()).unwrap();
    let fleet = folder.join("loans.toml");
    let text = format!(
        "sweep = \"0 3 * * *\"\n[[model]]\nname = \"loans\"\nbaseline = '{}'\ncurrent = '{}'\ntime = \"timestamp\"\n\
         windows = [\"7d\"]\n[model.labels]\nfrom = '{}'\nid = \"id\"\nlabel = \"repaid\"\nprediction = \"y_pred\"\n\
         score = \"y_pred_proba\"\n{policy}",
        dataset("car_loan/reference.parquet").display(),
        production.display(),
        path.display(),
    );
    fs::write(&fleet, text).unwrap();
    fleet
}
