//! A training command that is a shell script.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use driftsweep::model::Options;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::Fleet;
use driftsweep_ops::retrain::Job;
use driftsweep_ops::scheduler::PassSummary;
use jiff::Timestamp;
use serde_json::Value;

use super::jobs::{Yard, add_event, open, pass};
use super::processes::until;

/// A fleet of one model that is trained by a shell script, with an event that asks for it.
pub struct Place {
    pub yard: Yard,
    pub store: String,
    pub state: PathBuf,
    pub now: Timestamp,
}

impl Place {
    pub fn new(script: &str) -> Self {
        Self::with("", script)
    }

    /// The same with other settings of its training.
    pub fn with(settings: &str, script: &str) -> Self {
        let script = toml::Value::from(script);
        let head = format!(
            "[approval]\napprovers = [[\"ana\"]]\n[[notify]]\nname = \"lines\"\nfile = \"told\"\n\
             [defaults.retrain]\nretries = 0\nstorage = 3\ntimeout = \"1h\"\ncommand = [\"sh\", \"-c\", {script}]\n{settings}\n"
        );
        let yard = Yard::new(&["m".into()], &head);
        let (store, state, now) = (yard.stores().remove(0), yard.folder.path().join("state"), Timestamp::now());
        add_event(&mut open(&store, &yard.fleet), "event", "m", now);
        Self { yard, store, state, now }
    }

    /// The same by another fleet file, in which one text takes the place of another.
    pub fn changed(self, from: &str, to: &str) -> Self {
        let file = self.path("fleet.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
        let fleet = Fleet::read(&file, &Options::new()).unwrap();
        Self { yard: Yard { fleet, ..self.yard }, ..self }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.yard.folder.path().join(name)
    }

    /// The folder of its first run.
    pub fn run(&self) -> PathBuf {
        self.state.join("jobs/event/1")
    }

    pub fn pass(&self) -> PassSummary {
        self.pass_at(self.now)
    }

    pub fn pass_at(&self, now: Timestamp) -> PassSummary {
        pass(&self.yard.fleet, &self.store, &self.state, &Http::new().unwrap(), now, &mut |_| ())
    }

    pub fn job(&self) -> Job {
        self.job_or_none().unwrap()
    }

    /// The job, once a pass has made it.
    pub fn job_or_none(&self) -> Option<Job> {
        open(&self.store, &self.yard.fleet).jobs("event").unwrap().pop().map(|versioned| versioned.job)
    }

    /// Passes until the job has ended: the last of them.
    pub fn ends(&self) -> PassSummary {
        let mut last = PassSummary::default();
        until("it has ended", || {
            last = self.pass();
            self.job().state.is_final()
        });
        last
    }

    pub fn program(&self, args: &[&str], set: &[(&str, &OsStr)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).current_dir(self.yard.folder.path()).envs(set.iter().copied()).output().unwrap()
    }

    /// Bodies of the audit records of a kind.
    pub fn records(&self, kind: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let read = open(&self.store, &self.yard.fleet).audit("", |record| {
            if record.kind == kind {
                found.push(record.body);
            }
            Ok(())
        });
        read.unwrap();
        found
    }
}
