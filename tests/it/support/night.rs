//! A small fleet after a night, with something in every table of its store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use driftsweep_ops::store::{Record, Store};
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};

use super::jobs::sql;
use super::output::all_output;
use super::world::World;

/// The rows of a query on a store, behind its back, each column as text.
pub fn ask(store: &str, statement: &str, columns: usize) -> Vec<Vec<String>> {
    let url = if store.starts_with("postgres") { store.to_owned() } else { format!("sqlite://{}", escaped(store)) };
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let rows = connection.fetch_all(sqlx::query(AssertSqlSafe(statement.to_owned()))).await.unwrap();
        rows.iter().map(|row| (0..columns).map(|at| row.try_get::<String, _>(at).unwrap()).collect()).collect()
    })
}

fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F")
}

/// A fleet after a small night: two models in question, and a store with something in every table.
pub struct Night {
    pub world: World,
    pub store: String,
    pub state: RefCell<PathBuf>,
}

/// The jobs of both models wait for an answer: they were asked for at three on the third of January.
pub const ASKED: &str = "2026-01-03T03:00:00Z";

impl Night {
    /// One for each store.
    pub fn all() -> Vec<Self> {
        let stores = World::new(1, "").stores().len();
        (0..stores).map(Self::new).collect()
    }

    fn new(which: usize) -> Self {
        let extra = "[approval]\napprovers = [[\"ana\"], [\"cto\"]]\n[budget]\nmonth = 200\n[defaults.trigger]\ncooldown = \
                     \"1d\"\ndrift.persistence = \"1 of 1\"\n[defaults.retrain]\nstakes = \"high\"\ncpu_hours = 1\ncpu_rate = 50\n\
                     retries = 0\ncommand = [\"sh\", \"-c\", \"echo '{\\\"cost\\\": 165}' > $DRIFTSWEEP_ANSWER_FILE\"]\n";
        let world = World::new(2, extra);
        // Without characters that mean something in the address of a store.
        let store = match which {
            0 => world.folder.path().join("store.sqlite").display().to_string(),
            _ => world.stores()[which].clone(),
        };
        let state = RefCell::new(world.folder.path().join("state"));
        let night = Self { world, store, state };
        for day in ["2026-01-02", "2026-01-03"] {
            night.tick(&format!("{day}T03:00:00Z"));
        }
        assert_eq!(night.jobs().len(), 2);
        night
    }

    pub fn state(&self) -> PathBuf {
        self.state.borrow().clone()
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).arg(self.world.fleet_file()).arg("--state").arg(self.state());
        command.env("DRIFTSWEEP_STORE", &self.store).env_remove("USER").output().unwrap()
    }

    pub fn ticked(&self, now: &str) -> Output {
        self.run(&["tick", "--format", "json", "--threads", "1", "--now", now])
    }

    pub fn tick(&self, now: &str) -> Value {
        let output = self.ticked(now);
        assert!(matches!(output.status.code(), Some(0 | 11)), "{}", all_output(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn open(&self) -> Store {
        Store::open(&self.store, &self.name()).unwrap()
    }

    pub fn name(&self) -> String {
        self.world.fleet().name
    }

    pub fn problems(&self) -> Vec<String> {
        self.open().verify_audit(&[]).unwrap().problems
    }

    /// The jobs by their models.
    pub fn jobs(&self) -> BTreeMap<String, Value> {
        let output = self.run(&["jobs", "list", "--all", "--format", "json"]);
        assert!(output.status.success(), "{}", all_output(&output));
        let jobs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        jobs.into_iter().map(|job| (job["model"].as_str().unwrap().to_owned(), job)).collect()
    }

    pub fn id(&self, model: &str) -> String {
        self.jobs()[model]["id"].as_str().unwrap().to_owned()
    }

    pub fn answer(&self, word: &str, model: &str, now: &str) -> Output {
        self.answer_by("ana", word, model, now)
    }

    pub fn answer_by(&self, who: &str, word: &str, model: &str, now: &str) -> Output {
        self.run(&[word, &self.id(model), "--by", who, "--reason", "it pays", "--now", now])
    }

    /// The tables of the store, but for the library's list of schema steps, which a server has once for all fleets.
    pub fn tables(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let columns = if self.store.starts_with("postgres") {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns \
             WHERE table_schema = 'public'"
        } else {
            "SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        };
        let mut tables: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for row in ask(&self.store, columns, 3) {
            let [table, column, kind] = &row[..] else { panic!("{row:?}") };
            if !table.starts_with("kept_") && table != "_sqlx_migrations" {
                tables.entry(table.clone()).or_default().push((column.clone(), kind.to_lowercase()));
            }
        }
        tables
    }

    /// Keeps all rows of the fleet.
    pub fn keep(&self) -> Kept<'_> {
        let tag = self.name().replace(['.', '-'], "_").to_lowercase();
        let tables: Vec<String> = self.tables().into_keys().collect();
        for table in &tables {
            sql(
                &self.store,
                &format!("CREATE TABLE kept_{tag}_{table} AS SELECT * FROM {table} WHERE fleet = '{}'", self.name()),
            );
        }
        Kept { night: self, tag, tables }
    }
}

/// A copy of the rows of a fleet.
pub struct Kept<'a> {
    night: &'a Night,
    tag: String,
    tables: Vec<String>,
}

impl Kept<'_> {
    /// Puts the rows of some tables back, and removes those of the other fleet.
    pub fn restore(&self, tables: &[String]) {
        let (store, name) = (&self.night.store, self.night.name());
        for table in tables {
            sql(store, &format!("DELETE FROM {table} WHERE fleet IN ('{name}', '{name}x')"));
            sql(store, &format!("INSERT INTO {table} SELECT * FROM kept_{}_{table}", self.tag));
        }
    }

    pub fn restore_all(&self) {
        self.restore(&self.tables);
    }

    /// Puts the rows of a table back that a condition holds for.
    pub fn put_back(&self, table: &str, condition: &str) {
        let (store, name) = (&self.night.store, self.night.name());
        sql(store, &format!("DELETE FROM {table} WHERE fleet = '{name}' AND {condition}"));
        sql(store, &format!("INSERT INTO {table} SELECT * FROM kept_{}_{table} WHERE {condition}", self.tag));
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        for table in &self.tables {
            sql(&self.night.store, &format!("DROP TABLE kept_{}_{table}", self.tag));
        }
    }
}

/// Lets the job of the first model be approved and run.
pub fn trained(night: &Night) {
    assert!(night.answer("approve", "model-00000", "2026-01-03T03:10:00Z").status.success());
    for minute in 11..59 {
        night.tick(&format!("2026-01-03T03:{minute}:00Z"));
        if night.jobs()["model-00000"]["state"]["state"] == "succeeded" {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(night.jobs()["model-00000"]["state"]["state"], "succeeded");
}

/// Makes a store one of an older version: its records have neither the real clock nor what was written with them.
pub fn make_older(store: &str, name: &str) {
    let mut records = Vec::new();
    let mut keep = |record: Record| {
        records.extend((record.kind != "store.write").then_some(record));
        Ok(())
    };
    Store::open(store, name).unwrap().audit("", &mut keep).unwrap();
    sql(store, &format!("DELETE FROM audit WHERE fleet = '{name}'"));
    let mut previous = String::new();
    for (record, seq) in records.into_iter().zip(1..) {
        let mut record = Record { seq, clock_at: None, writes: None, previous: previous.clone(), ..record };
        record.hash = record.expected_hash().unwrap();
        previous.clone_from(&record.hash);
        let body = String::from_utf8(serde_json_canonicalizer::to_vec(&record.body).unwrap()).unwrap();
        let texts = [&record.actor, &record.kind, &record.subject, &body, &record.previous, &record.hash];
        let texts = texts.map(|text| format!("'{}'", text.replace('\'', "''")));
        let insert = format!(
            "INSERT INTO audit (fleet, seq, at, actor, kind, subject, body, previous, hash) VALUES ('{name}', {seq}, {}, {})",
            record.at.as_microsecond(),
            texts.join(", ")
        );
        sql(store, &insert);
        sql(store, &format!("UPDATE audit_head SET seq = {seq}, hash = {} WHERE fleet = '{name}'", texts[5]));
    }
}
