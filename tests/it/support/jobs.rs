//! A fleet that is not swept, passes over its jobs, and what is done to a store behind its back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use driftsweep::model::Options;
use driftsweep_common::error::Error;
use driftsweep_extensions::http::Http;
use driftsweep_fleet::Fleet;
use driftsweep_ops::scheduler::{self, PassContext, PassSummary};
use driftsweep_ops::store::{RetrainEvent, Store};
use jiff::Timestamp;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use serde_json::json;
use sqlx::{AnyConnection, Connection, Executor};
use tempfile::TempDir;

use super::needs::postgres;

pub fn chance(random: &mut Pcg64, one_in: u64) -> bool {
    random.next_u64().is_multiple_of(one_in)
}

/// A fleet that is not swept: its events are put into the store.
pub struct Yard {
    pub folder: TempDir,
    pub fleet: Fleet,
}

impl Yard {
    pub fn new(models: &[String], head: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let mut text = format!("name = \"{name}\"\n{head}\n");
        for model in models {
            let model = toml::Value::from(model.as_str());
            text += &format!("[[model]]\nname = {model}\nbaseline = \"a.parquet\"\ncurrent = \"b.parquet\"\n");
        }
        let file = folder.path().join("fleet.toml");
        fs::write(&file, &text).unwrap();
        let fleet = Fleet::read(&file, &Options::new()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        Self { folder, fleet }
    }

    pub fn stores(&self) -> Vec<String> {
        let file = self.folder.path().join("store.sqlite").display().to_string();
        [Some(file), postgres()].into_iter().flatten().collect()
    }

    /// The same fleet with a name, and a state, of its own for a store.
    pub fn in_store(&self, store: &str) -> (Fleet, std::path::PathBuf) {
        let kind = if store.starts_with("postgres") { "p" } else { "s" };
        (Fleet { name: format!("{}-{kind}", self.fleet.name), ..self.fleet.clone() }, self.folder.path().join(kind))
    }
}

pub fn open(store: &str, fleet: &Fleet) -> Store {
    Store::open(store, &fleet.name).unwrap()
}

pub fn add_event(store: &mut Store, id: &str, model: &str, now: Timestamp) {
    let body = json!({ "id": id, "data": { "details": {} } }).to_string();
    let (id, model, trigger) = (id.to_owned(), model.to_owned(), "drift".to_owned());
    store
        .transaction(|store| {
            store.register_models([&*model].into_iter(), now)?;
            store.add_event(&RetrainEvent { id, model: model.clone(), trigger, triggered_at: now, body, closed: None })
        })
        .unwrap();
}

/// A pass in this process; a server may take a moment to notice that the last one is gone.
pub fn pass(
    fleet: &Fleet,
    store: &str,
    state: &Path,
    http: &Http,
    now: Timestamp,
    step: &mut dyn FnMut(&str),
) -> PassSummary {
    pass_by_clock(fleet, store, state, http, (now, now), step)
}

/// A pass that is taken to be at a time, and at which the real clock says another.
pub fn pass_by_clock(
    fleet: &Fleet,
    store: &str,
    state: &Path,
    http: &Http,
    (now, clock): (Timestamp, Timestamp),
    step: &mut dyn FnMut(&str),
) -> PassSummary {
    let program = Path::new(env!("CARGO_BIN_EXE_driftsweep"));
    let context = PassContext { http, program, state, clock, elapsed: &|| Duration::ZERO };
    for _ in 0..500 {
        match scheduler::pass(fleet, &mut open(store, fleet), now, &context, step) {
            Err(Error::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            done => return done.unwrap(),
        }
    }
    panic!("another pass never ended")
}

/// Runs a statement on a store behind its back.
pub fn sql(store: &str, statement: &str) -> u64 {
    let url = if store.starts_with("postgres") { store.to_owned() } else { format!("sqlite://{store}") };
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let done = connection.execute(sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))).await.unwrap();
        done.rows_affected()
    })
}
