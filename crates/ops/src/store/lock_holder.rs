//! The process that holds a lock, for messages. Only the lock itself decides: an outdated entry has no effect.

use sqlx::{Row, query};

use super::{Store, time};
use driftsweep_common::error::{LockHolder, Result};

impl Store {
    /// Records that this process holds a lock.
    pub(super) fn set_holder(&mut self, what: &str) -> Result<()> {
        let since = self.database.clock()?;
        let sql = "INSERT INTO lock_holder (fleet, what, host, process, since) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (fleet, what) DO UPDATE SET host = $3, process = $4, since = $5";
        let insert = query(sql).bind(self.fleet.clone()).bind(what.to_owned()).bind(host());
        self.database.run(insert.bind(i64::from(std::process::id())).bind(since.as_microsecond())).map(drop)
    }

    /// The process that was last recorded as the holder of a lock.
    pub(super) fn holder(&mut self, what: &str) -> Result<Option<LockHolder>> {
        // The clock of the store, which was also used when it was recorded.
        let now = self.database.clock()?;
        let sql = "SELECT host, process, since FROM lock_holder WHERE fleet = $1 AND what = $2";
        let select = query(sql).bind(self.fleet.clone()).bind(what.to_owned());
        let found = self.database.rows(select, |row| {
            let since = time(row, 2)?;
            Ok(LockHolder { host: row.try_get(0)?, process: row.try_get(1)?, since, held: now.duration_since(since) })
        })?;
        Ok(found.into_iter().next())
    }
}

/// The name of this machine.
fn host() -> String {
    let known = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let known = known.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    match known.trim() {
        "" => "a machine without a name".into(),
        name => name.to_owned(),
    }
}
