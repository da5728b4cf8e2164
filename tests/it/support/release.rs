//! A model whose version 2 is released in place of version 1: predictions are made as traffic is divided.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use driftsweep::model::Options;
use driftsweep_common::error::Error;
use driftsweep_extensions::executor::TrainedModel;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::{Fleet, Model};
use driftsweep_ops::retrain::VersionName;
use driftsweep_ops::rollouts::{self, RolloutContext, RolloutDecision, RolloutSummary};
use driftsweep_ops::scheduler::{self, VersionDecision};
use driftsweep_ops::store::{Record, Store};
use driftsweep_release::Rollout;
use jiff::{SignedDuration, Timestamp};
use polars::prelude::*;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use serde_json::Value;
use tempfile::TempDir;

use super::at;
use super::data::write_parquet;
use super::needs::postgres;

/// The night on which the release begins.
pub const BEGIN: &str = "2026-03-01T02:00:00Z";

/// Stages that are over soon.
pub const STAGES: &str = "stages = [{ name = \"canary\", share = 0.2, lasts = \"1d\" }, { name = \"half\", share = 0.5, lasts = \"1d\" }, \
                          { name = \"full\", share = 1.0 }]\nsettle = \"2d\"\ngive_up = \"5d\"\n";

/// How often the predictions of each arm are right, and how many of its labels are known.
#[derive(Clone, Copy)]
pub struct Arms {
    pub right: [f64; 2],
    pub labelled: [f64; 2],
    /// The share that the candidate really has.
    pub share: f64,
    /// Rows of each ten that have no score.
    pub unscored: u64,
    /// What the log calls the arms.
    pub names: [&'static str; 2],
    /// How often each row is logged.
    pub copies: usize,
}

impl Arms {
    pub fn new(candidate: f64, production: f64) -> Self {
        let right = [candidate, production];
        Self { right, labelled: [1.0; 2], share: 0.0, unscored: 0, names: ["2", "1"], copies: 1 }
    }
}

pub struct Release {
    pub folder: TempDir,
    pub store: String,
    pub fleet: Fleet,
    pub http: Http,
    days: std::cell::Cell<u64>,
}

impl Release {
    /// One for each kind of store. `rollout` is what `[model.rollout]` says beside the arm; without stages those that are over soon.
    pub fn all(rollout: &str) -> Vec<Self> {
        std::iter::once(None).chain(postgres().map(Some)).map(|server| Self::in_store(rollout, server)).collect()
    }

    /// The same with another fleet file.
    pub fn with_fleet(self, text: &str) -> Self {
        let file = self.path("fleet.toml");
        fs::write(&file, text).unwrap();
        Self { fleet: Fleet::read(&file, &Options::new()).unwrap(), ..self }
    }

    /// In SQLite.
    pub fn new(rollout: &str) -> Self {
        Self::in_store(rollout, None)
    }

    fn in_store(rollout: &str, server: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let stages = if rollout.contains("stages") { "" } else { STAGES };
        let quality = if rollout.contains("quality") { "" } else { "quality = { margin = 0.05 }\n" };
        let traffic = if rollout.contains("traffic") { "" } else { "traffic = { file = \"weights.json\" }\n" };
        let text = format!(
            "name = \"{name}\"\n[approval]\napprovers = [[\"ana\"]]\n[[notify]]\nname = \"lines\"\nfile = \"told\"\n\
             [[model]]\nname = \"m\"\nbaseline = \"base.parquet\"\ncurrent = \"base.parquet\"\n\
             [model.labels]\npredictions = \"predictions/*.parquet\"\nid = \"id\"\ntime = \"time\"\nlabel = \"label\"\n\
             prediction = \"said\"\nscore = \"score\"\npositive = \"1\"\ndelay = \"2h\"\n\
             [model.rollout]\narm = \"arm\"\n{quality}{stages}{traffic}{rollout}"
        );
        let text = text.replace("FOLDER", &folder.path().display().to_string());
        fs::write(folder.path().join("fleet.toml"), &text).unwrap();
        let mut base = df!("x" => (0..100).collect::<Vec<i64>>()).unwrap();
        write_parquet(&mut base, &folder.path().join("base.parquet"), 100);
        fs::create_dir(folder.path().join("predictions")).unwrap();
        let fleet =
            Fleet::read(&folder.path().join("fleet.toml"), &Options::new()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let store = server.unwrap_or_else(|| folder.path().join("store.sqlite").display().to_string());
        let http = Http::new().unwrap();
        let release = Self { folder, store, fleet, http, days: 0.into() };
        release.begin();
        release
    }

    /// Version 1 is in production, and version 2 is to be released.
    fn begin(&self) {
        let (fleet, mut store) = (&self.fleet, self.open());
        let decision = |reason| VersionDecision { by: "ana", reason, at: at(BEGIN) };
        store
            .transaction(|store| {
                store.register_models(["m"].into_iter(), at(BEGIN))?;
                for number in [1, 2] {
                    let metrics = [("accuracy".to_owned(), 0.9)].into();
                    let trained =
                        TrainedModel { source: format!("s3://m/{number}"), metrics, ..TrainedModel::default() };
                    scheduler::register(fleet, store, "m", trained, Path::new(""), decision("for a test"))?;
                }
                scheduler::promote(fleet, store, ("m", &VersionName::Number(1)), decision("for a test"))
            })
            .unwrap();
        // So that it has predictions when limits are found.
        self.predict(at("2026-02-28T00:00:00Z"), Arms::new(0.9, 0.9), 500);
        let decision = RolloutDecision { by: "ana", reason: "for a test", state: &self.state(), at: at(BEGIN) };
        rollouts::start(fleet, &mut store, self.model(), &VersionName::Number(2), decision).unwrap();
    }

    pub fn model(&self) -> &Model {
        &self.fleet.models[0]
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn open(&self) -> Store {
        Store::open(&self.store, &self.fleet.name).unwrap()
    }

    /// Writes the predictions of a day.
    pub fn predict(&self, from: Timestamp, arms: Arms, rows: usize) {
        let number = self.days.replace(self.days.get() + 1);
        let mut random = Pcg64::new(u128::from(number), 11);
        let mut share = || random.next_u64() as f64 / u64::MAX as f64;
        let (mut ids, mut times, mut of, mut said, mut labels, mut scores) =
            (vec![], vec![], vec![], vec![], vec![], vec![]);
        let (mut failed, mut millis, mut users) = (vec![], vec![], vec![]);
        for row in 0..rows {
            let user = (share() * 1e6) as u64;
            let arm = usize::from(share() >= arms.share);
            let positive = share() < 0.3;
            let right = share() < arms.right[arm];
            ids.push(format!("{number}-{row}"));
            let at = from.as_microsecond() + (row as i64 * 86_400_000_000) / rows as i64;
            times.push(Timestamp::from_microsecond(at).unwrap().to_string());
            of.push(arms.names[arm]);
            said.push(i64::from(positive == right));
            labels.push((share() < arms.labelled[arm]).then_some(i64::from(positive)));
            let score = (f64::from(u8::from(positive == right)) + share()) / 2.0;
            scores.push((row as u64 % 10 >= arms.unscored).then_some(score));
            failed.push(share() > arms.right[arm]);
            millis.push(100.0 + 50.0 * share() + if right { 0.0 } else { 100.0 });
            users.push(user);
        }
        let mut frame =
            df!("id" => ids, "time" => times, "arm" => of, "said" => said, "label" => labels, "score" => scores, "failed" => failed,
            "millis" => millis, "user" => users)
            .unwrap();
        for copy in 0..arms.copies {
            write_parquet(&mut frame, &self.path(&format!("predictions/{number:04}-{copy}.parquet")), 100_000);
        }
    }

    /// The share that the weights file gives the candidate.
    pub fn share(&self) -> f64 {
        let text = fs::read_to_string(self.path("weights.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()["weights"]["2"].as_f64().unwrap_or(0.0)
    }

    /// A pass at a time; another one may hold the lock for a moment.
    pub fn pass(&self, now: Timestamp, step: &mut dyn FnMut(&str)) -> RolloutSummary {
        let state = self.state();
        let context = RolloutContext { http: &self.http, state: &state, now: &|| now };
        for _ in 0..1000 {
            match rollouts::pass(&self.fleet, &mut self.open(), &context, step) {
                Err(Error::Locked { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
                done => return done.unwrap(),
            }
        }
        panic!("another pass never ended")
    }

    /// Nights, one after another, each after the predictions of its day, divided as the weights file says.
    pub fn nights(&self, first: u32, count: u32, mut arms: Arms, rows: usize) -> Vec<RolloutSummary> {
        let night = |number: u32| at(BEGIN) + SignedDuration::from_hours(24 * i64::from(number));
        (first..first + count)
            .map(|number| {
                if number > 0 {
                    arms.share = self.share();
                    self.predict(night(number - 1), arms, rows);
                }
                self.pass(night(number), &mut |_| ())
            })
            .collect()
    }

    pub fn rollout(&self) -> Rollout {
        self.open().rollouts(Some("m")).unwrap().pop().unwrap().rollout
    }

    /// The status of each version.
    pub fn statuses(&self) -> Vec<String> {
        self.open().versions(Some("m")).unwrap().iter().map(|version| version.status.to_string()).collect()
    }

    /// The records of a kind; of an empty one, all.
    pub fn records(&self, kind: &str) -> Vec<Record> {
        let mut found = Vec::new();
        let keep = |record: Record| {
            if kind.is_empty() || record.kind == kind {
                found.push(record);
            }
            Ok(())
        };
        self.open().audit("", keep).unwrap();
        found
    }

    /// Nothing is what its audit does not say.
    pub fn verified(&self) {
        assert_eq!(self.open().verify_audit(&[]).unwrap().problems, Vec::<String>::new());
    }

    /// The program, with the store and the state.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with("DRIFTSWEEP_TEST", Path::new(""), args)
    }

    /// The same with a variable.
    pub fn run_with(&self, variable: &str, value: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.current_dir(self.folder.path()).env(variable, value).args(args).args([
            "--store",
            &self.store,
            "--state",
            "state",
        ]);
        command.output().unwrap()
    }
}

/// One pass of a process of its own; where another holds the lock, it does nothing.
pub fn pass_once(fleet: &Fleet, store: &str, state: &Path, now: Timestamp) {
    let context = RolloutContext { http: &Http::new().unwrap(), state, now: &|| now };
    match rollouts::pass(fleet, &mut Store::open(store, &fleet.name).unwrap(), &context, &mut |_| ()) {
        Ok(_) | Err(Error::Locked { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}
