//! Tables with the same row ids put side by side, without a join; and the check that they have the same row ids.

use std::cmp::Ordering;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::prelude::{DataFrame, ident};
use driftsweep_common::error::{Error, Result};

use crate::engine::{QueryEngine, refused};
use crate::write::{OrderedRows, ParquetOutput, Written};

/// Rows of one query, of which some were not used yet.
struct Part<'a> {
    rows: OrderedRows<'a>,
    batch: Option<RecordBatch>,
}

impl Part<'_> {
    /// Rows that are at hand; 0 at the end.
    fn at_hand(&mut self) -> Result<usize> {
        if self.batch.is_none() {
            self.batch = self.rows.next()?;
        }
        Ok(self.batch.as_ref().map_or(0, RecordBatch::num_rows))
    }

    /// The next rows, of those at hand.
    fn take(&mut self, rows: usize) -> Option<RecordBatch> {
        let batch = self.batch.take()?;
        if batch.num_rows() > rows {
            self.batch = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        Some(batch.slice(0, rows))
    }
}

/// A spine, whose row ids are 0, 1, …, and tables that should have the same, in any order.
pub struct SideBySide<'a> {
    spine: Part<'a>,
    others: Vec<Part<'a>>,
    schema: SchemaRef,
    next: i64,
    what: String,
}

impl<'a> SideBySide<'a> {
    /// Starts the queries. The first column of each is `row_id`; messages are about `what`.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a query that fails.
    pub fn start(engine: &'a QueryEngine, spine: DataFrame, others: Vec<DataFrame>, what: &str) -> Result<Self> {
        let by_row = |frame: DataFrame| {
            let sorted = frame.sort(vec![ident("row_id").sort(true, true)]).map_err(|e| refused(what, &e))?;
            Ok(Part { rows: OrderedRows::start(engine, sorted, what)?, batch: None })
        };
        let spine = by_row(spine)?;
        let others = others.into_iter().map(by_row).collect::<Result<Vec<_>>>()?;
        let schemas: Vec<SchemaRef> = others.iter().map(|part| part.rows.schema()).collect();
        let beside = schemas.iter().flat_map(|schema| schema.fields().iter().skip(1));
        let fields = spine.rows.schema().fields().iter().chain(beside).cloned().collect::<Vec<_>>();
        Ok(Self { spine, others, schema: Arc::new(Schema::new(fields)), next: 0, what: what.into() })
    }

    /// Writes the next rows: so many, or all that are left.
    ///
    /// # Errors
    /// [`Error::BadValue`] where a query fails, or does not give one row for each row of the spine; [`Error::Write`].
    pub fn write(&mut self, file: File, path: &Path, rows: Option<u64>) -> Result<Written> {
        let mut output = ParquetOutput::new(file, path, self.schema.clone())?;
        let mut left = rows.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(batch) = self.next(usize::try_from(left).unwrap_or(usize::MAX))? else { break };
            left -= batch.num_rows() as u64;
            output.push(batch)?;
        }
        output.finish()
    }

    /// The next rows, `most` at most.
    fn next(&mut self, most: usize) -> Result<Option<RecordBatch>> {
        let mut rows = self.spine.at_hand()?.min(most);
        let ended = rows == 0;
        for other in &mut self.others {
            let found = other.at_hand()?;
            match (ended, found) {
                (true, 0) => {}
                (true, _) => {
                    return Err(self.bad("it gives more rows than the spine has; a join must match at most one row"));
                }
                (false, 0) => return Err(self.lost(self.next)),
                (false, found) => rows = rows.min(found),
            }
        }
        let Some(spine) = self.spine.take(rows) else { return Ok(None) };
        let mut columns: Vec<ArrayRef> = spine.columns().to_vec();
        let parts: Vec<Option<RecordBatch>> = self.others.iter_mut().map(|other| other.take(rows)).collect();
        for part in parts.into_iter().flatten() {
            self.check(&part)?;
            columns.extend(part.columns().iter().skip(1).cloned());
        }
        self.next += rows as i64;
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        batch.map(Some).map_err(|e| self.bad(&e.to_string()))
    }

    /// The row ids must go on where those before ended.
    fn check(&self, batch: &RecordBatch) -> Result<()> {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        for i in 0..ids.len() {
            let wanted = self.next + i as i64;
            if ids.is_null(i) {
                return Err(self.bad(
                    "it gives a row without row_id; keep the rows of the spine, for example by LEFT JOIN from it",
                ));
            }
            match ids.value(i).cmp(&wanted) {
                Ordering::Equal => {}
                Ordering::Less => {
                    return Err(self.bad(&format!(
                        "it gives more than one row for row {} of the spine; a join must match at most one row: aggregate by \
                         row_id, or use a lookup",
                        ids.value(i)
                    )));
                }
                Ordering::Greater => return Err(self.lost(wanted)),
            }
        }
        Ok(())
    }

    fn bad(&self, reason: &str) -> Error {
        Error::BadValue { what: self.what.clone(), reason: reason.into() }
    }

    fn lost(&self, row: i64) -> Error {
        self.bad(&format!(
            "it gives no row for row {row} of the spine; every prediction needs a row: use LEFT JOIN from the spine, and no \
             WHERE"
        ))
    }
}
