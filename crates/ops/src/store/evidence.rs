//! The conclusions on each model at each sweep: verdicts, columns over their thresholds, performance metrics.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Row, query};

use super::writes::{RowKey, RowValues, RowWrite, hashed};
use super::{Store, optional_time, time};
use driftsweep_common::atomic::hex;
use driftsweep_common::error::Result;

/// A column over its thresholds at a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitExceeded {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// The window; as a [`key`] when it comes back.
    pub window: String,
    /// The segment, likewise.
    pub segment: String,
    /// The column, likewise.
    pub feature: String,
}

/// The verdict on a model at a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredVerdict {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// Hash of the counts behind the drift verdict; empty if there were none.
    pub data_hash: String,
    /// All figures, as JSON.
    pub body: String,
}

/// A performance metric of a model at a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasurementRecord {
    /// The model.
    pub model: String,
    /// The sweep.
    pub as_of: Timestamp,
    /// `realised`, `estimated`, or `reconciled`: the estimate over the rows of the realised figure.
    pub kind: String,
    /// Which measure.
    pub metric: String,
    /// Predictions from then on ...
    pub since: Timestamp,
    /// ... and before then.
    pub before: Timestamp,
    /// Rows.
    pub rows: u64,
    /// The figure.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The table name under which the audit records the hashes of conclusions on a model at a sweep.
pub(super) const EVIDENCE: &str = "evidence";

/// The table name under which it records up to which sweep figures and hits were deleted.
pub(super) const FORGOTTEN: &str = "forgotten";

/// The conclusions on a model at a sweep, for the audit.
#[derive(Clone, Debug, Default)]
pub(super) struct ConclusionHashes {
    verdict: Option<String>,
    body: Option<String>,
    hits: Vec<[String; 3]>,
    measures: Vec<String>,
}

impl ConclusionHashes {
    fn judge(&mut self, data_hash: &str, body: &str) {
        self.verdict = Some(data_hash.into());
        self.body = Some(hashed(body));
    }

    /// In the form of the audit.
    fn values(mut self) -> RowValues {
        self.hits.sort_unstable();
        self.measures.sort_unstable();
        let of = |lines: Vec<String>| (!lines.is_empty()).then(|| hashed(&lines.join("\n")));
        let lines =
            |quote: Quote| self.hits.iter().map(move |[a, b, c]| format!("[{}, {}, {}]", quote(a), quote(b), quote(c)));
        let [hits, former] = [quoted as Quote, quoted_before].map(|quote| of(lines(quote).collect()));
        let former = former.filter(|former| hits.as_ref() != Some(former));
        let all = [
            ("verdict", self.verdict),
            ("body", self.body),
            ("hits", hits),
            (FORMER_HITS, former),
            ("quality", of(self.measures)),
        ];
        all.into_iter().filter(|(_, value)| value.is_some()).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The hash of hits as programs up to version 0.1 wrote it, where it is another one. It is compared, and never recorded.
pub(super) const FORMER_HITS: &str = "former_hits";

/// Writes a text in quotes.
type Quote = fn(&str) -> String;

/// A text in quotes, in the lines that the audit has the hashes of: they never change.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// The same as it was written before: by a rule for display, in which the escapes of rare characters depend on the version
/// of the compiler.
fn quoted_before(text: &str) -> String {
    format!("{text:?}")
}

/// A metric as one line that is the same in every store.
fn line_of(entry: &MeasurementRecord) -> String {
    let MeasurementRecord { kind, metric, since, before, rows, value, low, high, .. } = entry;
    // SQLite gives 0 back for -0.
    let bits = [value, low, high].map(|value| format!("{:016x}", (value + 0.0).to_bits()));
    let [since, before] = [since, before].map(|time| time.as_microsecond());
    let [value, low, high] = bits;
    let [kind, metric] = [kind, metric].map(|name| quoted(name));
    format!("{kind} {metric} [{since}, {before}] {rows} [\"{value}\", \"{low}\", \"{high}\"]")
}

/// What the audit records of values.
pub(super) fn recorded(mut values: RowValues) -> RowValues {
    values.remove(FORMER_HITS);
    values
}

/// The conclusions of a transaction so far.
#[derive(Default)]
pub(super) struct PendingConclusions(BTreeMap<(String, i64), ConclusionHashes>);

impl PendingConclusions {
    fn of(&mut self, model: &str, as_of: Timestamp) -> &mut ConclusionHashes {
        self.0.entry((model.to_owned(), as_of.as_microsecond())).or_default()
    }

    /// Whether there are no conclusions.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all of them, as writes.
    pub(super) fn take(&mut self) -> impl Iterator<Item = RowWrite> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|((model, as_of), evidence)| RowWrite {
            table: EVIDENCE.into(),
            rows: vec![vec![model, as_of.to_string()]],
            set: recorded(evidence.values()),
            ..RowWrite::default()
        })
    }
}

impl Store {
    /// Adds the verdict on a model.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_verdict(&mut self, verdict: &StoredVerdict) -> Result<()> {
        let sql = "INSERT INTO verdict (fleet, model, as_of, data_hash, body) VALUES ($1, $2, $3, $4, $5)";
        self.atomically(|store| {
            let insert = query(sql).bind(store.fleet.clone()).bind(verdict.model.clone());
            let insert = insert.bind(verdict.as_of.as_microsecond()).bind(verdict.data_hash.clone());
            store.database.run(insert.bind(verdict.body.clone()))?;
            store.evidence.of(&verdict.model, verdict.as_of).judge(&verdict.data_hash, &verdict.body);
            Ok(())
        })
    }

    /// The models that are concluded already for a sweep.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn concluded(&mut self, as_of: Timestamp) -> Result<Vec<String>> {
        let sql = "SELECT model FROM verdict WHERE fleet = $1 AND as_of = $2";
        let select = query(sql).bind(self.fleet.clone()).bind(as_of.as_microsecond());
        self.database.rows(select, |row| row.try_get(0))
    }

    /// The sweeps since a time with the models that were compared, and the hashes of the counts; oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn compared_since(&mut self, since: Timestamp) -> Result<Vec<(String, Timestamp, String)>> {
        let sql = "SELECT model, as_of, data_hash FROM verdict \
                   WHERE fleet = $1 AND as_of >= $2 AND data_hash <> '' ORDER BY as_of";
        let select = query(sql).bind(self.fleet.clone()).bind(since.as_microsecond());
        self.database.rows(select, |row| Ok((row.try_get(0)?, time(row, 1)?, row.try_get(2)?)))
    }

    /// The latest verdict on a model, up to a time.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn last_verdict(&mut self, model: &str, until: Timestamp) -> Result<Option<StoredVerdict>> {
        let sql = "SELECT model, as_of, data_hash, body FROM verdict WHERE fleet = $1 AND model = $2 AND as_of <= $3 \
                   ORDER BY as_of DESC LIMIT 1";
        let select = query(sql).bind(self.fleet.clone()).bind(model.to_owned()).bind(until.as_microsecond());
        let found = self.database.rows(select, |row| {
            let (model, data_hash) = (row.try_get(0)?, row.try_get(2)?);
            Ok(StoredVerdict { model, as_of: time(row, 1)?, data_hash, body: row.try_get(3)? })
        });
        Ok(found?.into_iter().next())
    }

    /// Deletes the figures of verdicts before a time, except where a trigger fired.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn delete_figures(&mut self, before: Timestamp) -> Result<()> {
        let sql = "UPDATE verdict SET body = '' WHERE fleet = $1 AND as_of < $2 AND body <> '' AND NOT EXISTS \
                   (SELECT 1 FROM firing WHERE firing.fleet = verdict.fleet AND firing.model = verdict.model \
                   AND firing.due = verdict.as_of)";
        self.forget(sql, "figures", before)
    }

    /// Deletes hits before a time.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn delete_hits(&mut self, before: Timestamp) -> Result<()> {
        self.forget("DELETE FROM hit WHERE fleet = $1 AND as_of < $2", "hits", before)
    }

    /// Deletes all hits up to a time, whatever earlier or later time was recorded before: after a clock was ahead, hits of
    /// correct times may be deleted already, and the recorded limit is in the future.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub(super) fn restart_hits(&mut self, now: Timestamp) -> Result<()> {
        self.atomically(|store| {
            let delete = query("DELETE FROM hit WHERE fleet = $1 AND as_of < $2").bind(store.fleet.clone());
            store.database.run(delete.bind(now.as_microsecond()))?;
            store.note_deleted("hits", now);
            Ok(())
        })
    }

    fn note_deleted(&mut self, what: &str, before: Timestamp) {
        let set = RowValues::from([(what.to_owned(), Some(before.as_microsecond().to_string()))]);
        let rows = vec![RowKey::new()];
        self.pending.add(RowWrite { table: FORGOTTEN.into(), rows, set, ..RowWrite::default() });
    }

    fn forget(&mut self, sql: &'static str, what: &str, before: Timestamp) -> Result<()> {
        self.atomically(|store| {
            let forget = query(sql).bind(store.fleet.clone()).bind(before.as_microsecond());
            if store.database.run(forget)? > 0 {
                store.note_deleted(what, before);
            }
            Ok(())
        })
    }

    /// Deletes the conclusions on a model at a sweep, so that it can be judged again.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn delete_conclusions(&mut self, model: &str, as_of: Timestamp) -> Result<()> {
        self.atomically(|store| {
            let mut forgotten = 0;
            for sql in [
                "DELETE FROM verdict WHERE fleet = $1 AND model = $2 AND as_of = $3",
                "DELETE FROM hit WHERE fleet = $1 AND model = $2 AND as_of = $3",
                "DELETE FROM quality WHERE fleet = $1 AND model = $2 AND as_of = $3",
            ] {
                let delete = query(sql).bind(store.fleet.clone()).bind(model.to_owned());
                forgotten += store.database.run(delete.bind(as_of.as_microsecond()))?;
            }
            if forgotten > 0 {
                let row = vec![model.to_owned(), as_of.as_microsecond().to_string()];
                store.pending.add(RowWrite {
                    table: EVIDENCE.into(),
                    rows: vec![row],
                    deleted: true,
                    ..RowWrite::default()
                });
            }
            // Triggers that opened or joined an event stay; muted ones and those in a cooldown may fire now.
            let sql = "SELECT trigger_type FROM firing WHERE fleet = $1 AND model = $2 AND due = $3 \
                       AND outcome NOT IN ('opened', 'joined')";
            let select = query(sql).bind(store.fleet.clone()).bind(model.to_owned()).bind(as_of.as_microsecond());
            let triggers: Vec<String> = store.database.rows(select, |row| row.try_get(0))?;
            for trigger in triggers {
                let key = [("model", model.into()), ("trigger_type", trigger.into()), ("due", as_of.into())];
                store.delete("firing", &key)?;
            }
            Ok(())
        })
    }

    /// Adds a hit: a column over its thresholds.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_hit(&mut self, hit: &LimitExceeded) -> Result<()> {
        let sql =
            "INSERT INTO hit (fleet, model, as_of, window_name, segment, feature) VALUES ($1, $2, $3, $4, $5, $6)";
        let place = [key(&hit.window), key(&hit.segment), key(&hit.feature)];
        self.atomically(|store| {
            let mut insert =
                query(sql).bind(store.fleet.clone()).bind(hit.model.clone()).bind(hit.as_of.as_microsecond());
            for part in &place {
                insert = insert.bind(part.clone());
            }
            store.database.run(insert)?;
            store.evidence.of(&hit.model, hit.as_of).hits.push(place);
            Ok(())
        })
    }

    /// The hits of sweeps since a time.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn hits_since(&mut self, since: Timestamp) -> Result<Vec<LimitExceeded>> {
        let sql = "SELECT model, as_of, window_name, segment, feature FROM hit WHERE fleet = $1 AND as_of >= $2";
        self.database.rows(query(sql).bind(self.fleet.clone()).bind(since.as_microsecond()), |row| {
            Ok(LimitExceeded {
                model: row.try_get(0)?,
                as_of: time(row, 1)?,
                window: row.try_get(2)?,
                segment: row.try_get(3)?,
                feature: row.try_get(4)?,
            })
        })
    }

    /// Adds a performance metric.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn add_quality(&mut self, entry: &MeasurementRecord) -> Result<()> {
        let sql = "INSERT INTO quality (fleet, model, as_of, kind, metric, since, before, row_count, value, low, high) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        self.atomically(|store| {
            let insert =
                query(sql).bind(store.fleet.clone()).bind(entry.model.clone()).bind(entry.as_of.as_microsecond());
            let insert = insert.bind(entry.kind.clone()).bind(entry.metric.clone());
            let insert = insert.bind(entry.since.as_microsecond()).bind(entry.before.as_microsecond());
            let insert = insert.bind(entry.rows as i64).bind(entry.value).bind(entry.low).bind(entry.high);
            store.database.run(insert)?;
            store.evidence.of(&entry.model, entry.as_of).measures.push(line_of(entry));
            Ok(())
        })
    }

    /// The measures of a model at sweeps since a time, oldest first.
    ///
    /// # Errors
    /// [`driftsweep_common::error::Error::Store`].
    pub fn quality(&mut self, model: &str, since: Timestamp) -> Result<Vec<MeasurementRecord>> {
        let select = query(MEASURES_OF_MODEL).bind(self.fleet.clone()).bind(model.to_owned());
        self.database.rows(select.bind(since.as_microsecond()), measure)
    }
}

impl Store {
    /// The sweeps with conclusions.
    pub(super) fn judged_sweeps(&mut self) -> Result<Vec<Timestamp>> {
        let sql = "SELECT as_of FROM verdict WHERE fleet = $1 UNION SELECT as_of FROM hit WHERE fleet = $1 \
                   UNION SELECT as_of FROM quality WHERE fleet = $1 ORDER BY 1";
        self.database.rows(query(sql).bind(self.fleet.clone()), |row| time(row, 0))
    }

    /// The last of them.
    pub(super) fn last_judged_sweep(&mut self) -> Result<Option<Timestamp>> {
        let mut last = None;
        for sql in LAST_JUDGED {
            let select = query(sql).bind(self.fleet.clone());
            last = last.max(self.database.rows(select, |row| optional_time(row, 0))?.into_iter().flatten().next());
        }
        Ok(last)
    }

    /// The conclusions of a sweep in the form of the audit; verdicts whose figures were deleted have none.
    pub(super) fn evidence_at(&mut self, as_of: Timestamp) -> Result<Vec<(RowKey, RowValues)>> {
        self.evidence_between(as_of, as_of, true)
    }

    /// What was concluded at all sweeps since a time, without figures.
    pub(super) fn evidence_since(&mut self, since: Timestamp) -> Result<Vec<(RowKey, RowValues)>> {
        self.evidence_between(since, Timestamp::MAX, false)
    }

    fn evidence_between(
        &mut self,
        from: Timestamp,
        until: Timestamp,
        figures: bool,
    ) -> Result<Vec<(RowKey, RowValues)>> {
        let (mut found, fleet) = (PendingConclusions::default(), self.fleet.clone());
        let between =
            |sql: &'static str| query(sql).bind(fleet.clone()).bind(from.as_microsecond()).bind(until.as_microsecond());
        let verdicts = between(if figures { VERDICTS } else { VERDICTS_WITHOUT_FIGURES });
        let verdicts: Vec<(String, Timestamp, [String; 2])> = self
            .database
            .rows(verdicts, |row| Ok((row.try_get(0)?, time(row, 1)?, [row.try_get(2)?, row.try_get(3)?])))?;
        for (model, as_of, [data_hash, body]) in verdicts {
            let evidence = found.of(&model, as_of);
            evidence.judge(&data_hash, &body);
            if body.is_empty() {
                evidence.body = None;
            }
        }
        let hits: Vec<(String, Timestamp, [String; 3])> = self.database.rows(between(HITS), |row| {
            Ok((row.try_get(0)?, time(row, 1)?, [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?]))
        })?;
        for (model, as_of, place) in hits {
            found.of(&model, as_of).hits.push(place);
        }
        for entry in self.database.rows(between(MEASURES), measure)? {
            found.of(&entry.model, entry.as_of).measures.push(line_of(&entry));
        }
        let rows = found.0.into_iter();
        Ok(rows.map(|((model, as_of), evidence)| (vec![model, as_of.to_string()], evidence.values())).collect())
    }
}

/// The last sweep of each table of conclusions.
const LAST_JUDGED: [&str; 3] = [
    "SELECT MAX(as_of) FROM verdict WHERE fleet = $1",
    "SELECT MAX(as_of) FROM hit WHERE fleet = $1",
    "SELECT MAX(as_of) FROM quality WHERE fleet = $1",
];

const VERDICTS: &str =
    "SELECT model, as_of, data_hash, body FROM verdict WHERE fleet = $1 AND as_of >= $2 AND as_of <= $3";

const VERDICTS_WITHOUT_FIGURES: &str =
    "SELECT model, as_of, data_hash, '' FROM verdict WHERE fleet = $1 AND as_of >= $2 AND as_of <= $3";

const HITS: &str =
    "SELECT model, as_of, window_name, segment, feature FROM hit WHERE fleet = $1 AND as_of >= $2 AND as_of <= $3";

const MEASURES: &str = "SELECT model, as_of, kind, metric, since, before, row_count, value, low, high FROM quality \
                        WHERE fleet = $1 AND as_of >= $2 AND as_of <= $3";

/// The measures of one model since a time: its key finds them, however long the history is.
const MEASURES_OF_MODEL: &str = "SELECT model, as_of, kind, metric, since, before, row_count, value, low, high FROM quality \
     WHERE fleet = $1 AND model = $2 AND as_of >= $3 ORDER BY as_of, kind";

fn measure(row: &AnyRow) -> std::result::Result<MeasurementRecord, sqlx::Error> {
    let rows: i64 = row.try_get(6)?;
    Ok(MeasurementRecord {
        model: row.try_get(0)?,
        as_of: time(row, 1)?,
        kind: row.try_get(2)?,
        metric: row.try_get(3)?,
        since: time(row, 4)?,
        before: time(row, 5)?,
        rows: rows.unsigned_abs(),
        value: row.try_get(7)?,
        low: row.try_get(8)?,
        high: row.try_get(9)?,
    })
}

/// A name from data as part of a key: no server accepts a zero byte, and not all accept a long one.
pub fn key(name: &str) -> String {
    const MAX_KEY_BYTES: usize = 256;
    if name.len() <= MAX_KEY_BYTES && !name.contains('\0') {
        return name.to_owned();
    }
    let hash = hex(&Sha256::digest(name));
    let start: String = name.chars().filter(|&c| c != '\0').take(MAX_KEY_BYTES / 8).collect();
    format!("{start}…{}", &hash[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_the_audit_stay_as_they_were_except_for_characters_that_are_written_differently_by_display_rules() {
        for text in [
            "",
            "plain",
            "a b",
            "it's",
            "say \"x\"",
            "c:\\d",
            "a\nb\tc\rd",
            "\u{1}",
            "\u{7f}",
            "r\u{e9}tro",
            "\u{65e5}\u{672c}",
        ] {
            assert_eq!(quoted(text), quoted_before(text));
        }
        // No character is left out, and no two texts are the same.
        assert_eq!(quoted("\u{301}\u{200b}"), "\"\u{301}\u{200b}\"");
        assert_ne!(quoted("\u{1}"), quoted("\\u{1}"));
        let hash = |place: &str| {
            let hits = vec![[place.to_owned(), String::new(), "x".into()]];
            ConclusionHashes { hits, ..ConclusionHashes::default() }.values()
        };
        assert_eq!(hash("plain")["hits"], Some(hashed(r#"["plain", "", "x"]"#)));
        assert_eq!(hash("plain").get(FORMER_HITS), None);
        assert_eq!(hash("\u{200b}")[FORMER_HITS], Some(hashed("[\"\\u{200b}\", \"\", \"x\"]")));
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let entry = MeasurementRecord {
            model: "m".into(),
            as_of: at(3),
            kind: "realised".into(),
            metric: "accuracy".into(),
            since: at(1),
            before: at(2),
            rows: 7,
            value: 0.5,
            low: -0.0,
            high: 1.0,
        };
        let line = r#""realised" "accuracy" [1000000, 2000000] 7 ["3fe0000000000000", "0000000000000000", "3ff0000000000000"]"#;
        assert_eq!(line_of(&entry), line);
    }

    #[test]
    fn conclusions_are_found_by_their_time_however_long_the_history_is() {
        let folder = tempfile::TempDir::new().unwrap();
        let place = folder.path().join("store.sqlite").display().to_string();
        let mut store = Store::open(&place, "f").unwrap();
        let ranges = [VERDICTS, VERDICTS_WITHOUT_FIGURES, HITS, MEASURES, MEASURES_OF_MODEL];
        for (sql, ranged) in ranges.map(|sql| (sql, true)).into_iter().chain(LAST_JUDGED.map(|sql| (sql, false))) {
            let plan = query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let plan: Vec<String> = store.database.rows(plan, |row| row.try_get(3)).unwrap();
            let by_time = plan.iter().any(|step| step.starts_with("SEARCH") && (!ranged || step.contains("as_of>?")));
            assert!(by_time && plan.iter().all(|step| !step.starts_with("SCAN")), "{sql}: {plan:?}");
        }
        let at = |day: i64| Timestamp::from_second(86_400 * day).unwrap();
        for day in 0..500 {
            let [kind, metric] = ["realised", "accuracy"].map(str::to_owned);
            let (model, as_of, since, before) = ("m".to_owned(), at(day), at(day - 7), at(day));
            let (rows, value, low, high) = (10, 0.9, 0.8, 0.95);
            let entry = MeasurementRecord { model, as_of, kind, metric, since, before, rows, value, low, high };
            store.add_quality(&entry).unwrap();
        }
        assert_eq!(store.quality("m", at(490)).unwrap().len(), 10);
        assert_eq!(store.evidence_since(at(490)).unwrap().len(), 10);
        assert_eq!(store.evidence_at(at(490)).unwrap().len(), 1);
        assert_eq!(store.last_judged_sweep().unwrap(), Some(at(499)));
    }
}
