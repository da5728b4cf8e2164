//! From a query to a Parquet file: in order, in batches of one size, so that the same rows give the same bytes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::DataFrame;
use driftsweep_common::error::{Error, Result};
use futures_util::StreamExt;
use indexmap::IndexMap;

use crate::engine::{QueryEngine, failed};

/// Rows of a batch, and of a row group.
const BATCH: usize = 8192;
const ROW_GROUP: usize = 131_072;

/// A file that was written.
pub struct Written {
    /// Its rows.
    pub rows: u64,
    /// Missing values of each column.
    pub nulls: IndexMap<String, u64>,
}

/// A Parquet file that is being written.
pub struct ParquetOutput<'a> {
    writer: ArrowWriter<File>,
    batches: BatchCoalescer,
    path: &'a Path,
    written: Written,
}

impl<'a> ParquetOutput<'a> {
    /// A file for rows with a schema.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn new(file: File, path: &'a Path, schema: SchemaRef) -> Result<Self> {
        let level = ZstdLevel::try_new(3).map_err(|e| write_error(path, e))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_created_by("driftsweep".into())
            .build();
        let nulls = schema.fields().iter().map(|field| (field.name().clone(), 0)).collect();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|e| write_error(path, e))?;
        Ok(Self { writer, batches: BatchCoalescer::new(schema, BATCH), path, written: Written { rows: 0, nulls } })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.written.rows += batch.num_rows() as u64;
        for (count, column) in self.written.nulls.values_mut().zip(batch.columns()) {
            *count += column.logical_null_count() as u64;
        }
        self.batches.push_batch(batch).map_err(|e| write_error(self.path, e))?;
        self.drain()
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(batch) = self.batches.next_completed_batch() {
            self.writer.write(&batch).map_err(|e| write_error(self.path, e))?;
        }
        Ok(())
    }

    /// Ends the file, and makes sure that it is on the disk.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(mut self) -> Result<Written> {
        self.batches.finish_buffered_batch().map_err(|e| write_error(self.path, e))?;
        self.drain()?;
        let mut file = self.writer.into_inner().map_err(|e| write_error(self.path, e))?;
        file.flush()
            .and_then(|()| file.sync_all())
            .map_err(|source| Error::Write { path: self.path.into(), source })?;
        Ok(self.written)
    }

    /// Writes the rows of a query in its order, with `row_id` before them: 0, 1, ….
    ///
    /// # Errors
    /// [`Error::BadValue`] about `what` where the query fails; [`Error::Write`].
    pub fn numbered(engine: &QueryEngine, frame: DataFrame, what: &str, file: File, path: &'a Path) -> Result<Written> {
        let mut rows = OrderedRows::start(engine, frame, what)?;
        let mut fields = vec![Field::new("row_id", DataType::Int64, false)];
        fields.extend(rows.schema().fields().iter().map(|field| field.as_ref().clone()));
        let schema = Arc::new(Schema::new(fields));
        let mut output = Self::new(file, path, schema.clone())?;
        while let Some(batch) = rows.next()? {
            let first = output.written.rows as i64;
            let ids = Int64Array::from_iter_values(first..first + batch.num_rows() as i64);
            let columns = std::iter::once(Arc::new(ids) as ArrayRef).chain(batch.columns().iter().cloned()).collect();
            output.push(RecordBatch::try_new(schema.clone(), columns).map_err(|e| write_error(path, e))?)?;
        }
        output.finish()
    }
}

fn write_error(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Write { path: path.into(), source: std::io::Error::other(error) }
}

/// The result of a query, batch by batch.
pub struct OrderedRows<'a> {
    engine: &'a QueryEngine,
    stream: SendableRecordBatchStream,
    what: String,
}

impl<'a> OrderedRows<'a> {
    /// Starts a query.
    ///
    /// # Errors
    /// [`Error::BadValue`] about `what`.
    pub fn start(engine: &'a QueryEngine, frame: DataFrame, what: &str) -> Result<Self> {
        let stream = engine.wait(frame.execute_stream()).map_err(|e| failed(what, &e))?;
        Ok(Self { engine, stream, what: what.into() })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    /// The next batch that has rows.
    ///
    /// # Errors
    /// [`Error::BadValue`] where the query fails.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let stream = &mut self.stream;
            let next: Option<std::result::Result<RecordBatch, DataFusionError>> =
                self.engine.wait(async { stream.next().await });
            match next.transpose().map_err(|e| failed(&self.what, &e))? {
                Some(batch) if batch.num_rows() == 0 => {}
                other => return Ok(other),
            }
        }
    }
}
