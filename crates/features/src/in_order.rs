//! Predictions and events of each key, read once in the order of time: what was known before each prediction.
//!
//! The rows come sorted by key, time and kind, in several partitions, none of which divides a key. Memory is needed for a batch, and
//! for the events of the window of one key.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array, new_null_array};
use datafusion::arrow::compute::{filter, interleave, take};
use datafusion::arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::execution::context::SessionContext;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion::prelude::DataFrame;
use futures_util::StreamExt;

use crate::engine::QueryEngine;

/// The columns of the sorted table, in order: keys, then these, then the values.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How many columns the key has.
    pub keys: usize,
    /// How many values follow.
    pub values: usize,
}

impl Layout {
    /// When the row counts, in ticks: of an event when it was known, of a prediction the last tick before it.
    pub const AT: &str = "__at";
    /// Whether the row is a prediction.
    pub const IS_SPINE: &str = "__is_spine";
    /// When the event happened, in ticks; of a prediction the earliest time of an event that may be used, if there is one.
    pub const EVENT: &str = "__event_time";
    /// The row of the spine.
    pub const ROW: &str = "row_id";

    /// The place of [`Layout::AT`].
    pub fn at(self) -> usize {
        self.keys
    }

    /// The place of [`Layout::IS_SPINE`].
    pub fn is_spine(self) -> usize {
        self.keys + 1
    }

    /// The place of [`Layout::EVENT`].
    pub fn event(self) -> usize {
        self.keys + 2
    }

    /// The place of [`Layout::ROW`].
    pub fn row(self) -> usize {
        self.keys + 3
    }

    /// The place of a value.
    pub fn value(self, i: usize) -> usize {
        self.keys + 4 + i
    }
}

/// What is taken from the events of a key.
#[derive(Clone)]
pub enum Taken {
    /// The values of the latest event.
    Latest,
    /// Aggregates over the events that were known in the last ticks.
    Window {
        /// The length of the window, in ticks.
        ticks: i64,
        /// The functions; each has the places of its arguments among the values, and that of its filter.
        calls: Vec<Call>,
    },
}

/// An aggregate function over values.
#[derive(Clone)]
pub struct Call {
    /// The function.
    pub function: Arc<AggregateFunctionExpr>,
    /// Its arguments, as places among the values.
    pub arguments: Vec<usize>,
    /// Its filter, as a place among the values.
    pub filter: Option<usize>,
}

/// Plans the sort of a table by key and `order`, and what is taken in that order: a table of `row_id` and the results.
pub fn read_in_order(
    engine: &QueryEngine,
    session: &SessionContext,
    both: DataFrame,
    layout: Layout,
    taken: Taken,
) -> PlanResult<DataFrame> {
    let source = engine.wait(both.create_physical_plan())?;
    let schema = source.schema();
    let column = |i: usize| expressions::col(schema.field(i).name(), &schema);
    let keys = (0..layout.keys).map(column).collect::<PlanResult<Vec<_>>>()?;
    // Keys, time, events before predictions, and then all that tells events apart.
    let tells_apart = (0..layout.values).map(|i| layout.value(i)).filter(|&i| !schema.field(i).data_type().is_nested());
    let order = (0..layout.row()).chain(tells_apart);
    let order = order.map(|i| column(i).map(PhysicalSortExpr::new_default)).collect::<PlanResult<Vec<_>>>()?;
    let partitions = session.state().config().target_partitions();
    let divided = RepartitionExec::try_new(source, Partitioning::Hash(keys, partitions))?;
    let Some(order) = LexOrdering::new(order) else {
        return Err(datafusion::common::DataFusionError::Internal("a lookup has no key".into()));
    };
    let sorted: Arc<dyn ExecutionPlan> =
        Arc::new(SortExec::new(order, Arc::new(divided)).with_preserve_partitioning(true));
    let mut fields = vec![schema.field(layout.row()).clone()];
    match &taken {
        Taken::Latest => {
            fields.extend((0..layout.values).map(|i| schema.field(layout.value(i)).clone().with_nullable(true)));
        }
        Taken::Window { calls, .. } => {
            let result = |(i, call): (usize, &Call)| {
                Field::new(format!("__window{i}"), call.function.field().data_type().clone(), true)
            };
            fields.extend(calls.iter().enumerate().map(result));
        }
    }
    let output = Arc::new(Schema::new(fields));
    let streams = (0..partitions).map(|partition| {
        let sorted = sorted.clone();
        let (output, taken) = (output.clone(), taken.clone());
        Arc::new(SortedPartition { sorted, partition, layout, taken, output }) as Arc<dyn PartitionStream>
    });
    session.read_table(Arc::new(StreamingTable::try_new(output.clone(), streams.collect())?))
}

struct SortedPartition {
    sorted: Arc<dyn ExecutionPlan>,
    partition: usize,
    layout: Layout,
    taken: Taken,
    output: SchemaRef,
}

impl fmt::Debug for SortedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SortedPartition").field("partition", &self.partition).field("layout", &self.layout).finish()
    }
}

impl PartitionStream for SortedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.output
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let started = self.sorted.execute(self.partition, context).and_then(|rows| Ok((rows, Reader::new(self)?)));
        let output = self.output.clone();
        match started {
            Err(error) => {
                let failed = futures_util::stream::iter([Err(error)]);
                Box::pin(RecordBatchStreamAdapter::new(output, failed))
            }
            Ok((rows, mut reader)) => {
                let read = rows.map(move |batch| reader.read(&batch?));
                Box::pin(RecordBatchStreamAdapter::new(output, read))
            }
        }
    }
}

/// Reads the rows of one partition.
struct Reader {
    layout: Layout,
    output: SchemaRef,
    keys: RowConverter,
    /// The key of the last row.
    key: Option<OwnedRow>,
    state: State,
}

enum State {
    Latest(Latest),
    Window(Box<Window>),
}

impl Reader {
    fn new(partition: &SortedPartition) -> PlanResult<Self> {
        let schema = partition.sorted.schema();
        let fields = (0..partition.layout.keys).map(|i| SortField::new(schema.field(i).data_type().clone()));
        let state = match &partition.taken {
            Taken::Latest => State::Latest(Latest::default()),
            Taken::Window { ticks, calls } => State::Window(Box::new(Window::new(*ticks, calls)?)),
        };
        Ok(Self {
            layout: partition.layout,
            output: partition.output.clone(),
            keys: RowConverter::new(fields.collect())?,
            key: None,
            state,
        })
    }

    fn read(&mut self, batch: &RecordBatch) -> PlanResult<RecordBatch> {
        let layout = self.layout;
        let keys: Rows = self.keys.convert_columns(&batch.columns()[..layout.keys])?;
        // The first row of each key.
        let begins: Vec<bool> = (0..batch.num_rows())
            .map(|i| match i {
                0 => self.key.as_ref().is_none_or(|last| last.row() != keys.row(0)),
                i => keys.row(i) != keys.row(i - 1),
            })
            .collect();
        self.key = batch.num_rows().checked_sub(1).map(|last| keys.row(last).owned());
        let rows = SortedRows {
            begins,
            at: batch.column(layout.at()).as_primitive::<Int64Type>().values(),
            is_spine: batch.column(layout.is_spine()).as_boolean(),
            values: &batch.columns()[layout.value(0)..],
        };
        let event = batch.column(layout.event()).as_primitive::<Int64Type>();
        let mut columns = vec![filter(batch.column(layout.row()), rows.is_spine)?];
        columns.extend(match &mut self.state {
            State::Latest(latest) => latest.read(&rows, event)?,
            State::Window(window) => window.read(&rows)?,
        });
        Ok(RecordBatch::try_new(self.output.clone(), columns)?)
    }
}

/// A batch of sorted rows.
struct SortedRows<'a> {
    begins: Vec<bool>,
    at: &'a [i64],
    is_spine: &'a BooleanArray,
    values: &'a [ArrayRef],
}

/// The latest event of the key so far.
#[derive(Default)]
struct Latest {
    found: Option<Found>,
    /// The values of an event of an earlier batch, one row a column.
    kept: Option<Vec<ArrayRef>>,
}

#[derive(Clone, Copy)]
struct Found {
    event: i64,
    /// Its row in this batch; `None` if it is kept from an earlier one.
    row: Option<usize>,
}

impl Latest {
    fn read(
        &mut self,
        rows: &SortedRows<'_>,
        event: &datafusion::arrow::array::PrimitiveArray<Int64Type>,
    ) -> PlanResult<Vec<ArrayRef>> {
        // Where the values of each prediction are: no event, that of an earlier batch, or a row of this one.
        const NONE: (usize, usize) = (0, 0);
        const KEPT: (usize, usize) = (1, 0);
        let mut places = Vec::new();
        for i in 0..rows.at.len() {
            if rows.begins[i] {
                self.found = None;
            }
            if !rows.is_spine.value(i) {
                let latest = self.found.is_none_or(|found| event.value(i) >= found.event);
                if latest {
                    self.found = Some(Found { event: event.value(i), row: Some(i) });
                }
                continue;
            }
            let too_old = |found: &Found| event.is_valid(i) && found.event < event.value(i);
            places.push(match self.found.filter(|found| !too_old(found)) {
                None => NONE,
                Some(Found { row: None, .. }) => KEPT,
                Some(Found { row: Some(row), .. }) => (2, row),
            });
        }
        let column = |(i, values): (usize, &ArrayRef)| {
            let none = new_null_array(values.data_type(), 1);
            let kept = self.kept.as_ref().map_or(&none, |kept| &kept[i]);
            interleave(&[none.as_ref(), kept.as_ref(), values.as_ref()], &places)
        };
        let columns = rows.values.iter().enumerate().map(column).collect::<std::result::Result<Vec<_>, _>>()?;
        if let Some(found) = &mut self.found
            && let Some(row) = found.row.take()
        {
            // A copy: a slice would keep the whole batch.
            let row = UInt64Array::from(vec![row as u64]);
            let kept = rows.values.iter().map(|values| take(values, &row, None));
            self.kept = Some(kept.collect::<std::result::Result<Vec<_>, _>>()?);
        }
        Ok(columns)
    }
}

/// Aggregates over the events of the key that are in the window.
struct Window {
    ticks: i64,
    calls: Vec<Call>,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// The events in the window that the accumulators hold, in order.
    held: VecDeque<Events>,
}

/// Events that follow each other.
struct Events {
    at: Vec<i64>,
    /// How many of the first were taken away again.
    gone: usize,
    values: Vec<ArrayRef>,
}

impl Events {
    fn values(&self, from: usize, length: usize) -> Vec<ArrayRef> {
        self.values.iter().map(|values| values.slice(from, length)).collect()
    }
}

impl Window {
    fn new(ticks: i64, calls: &[Call]) -> PlanResult<Self> {
        let mut window = Self { ticks, calls: calls.to_vec(), accumulators: Vec::new(), held: VecDeque::new() };
        window.restart()?;
        Ok(window)
    }

    /// Begins anew, without events.
    fn restart(&mut self) -> PlanResult<()> {
        self.held.clear();
        self.accumulators = self.calls.iter().map(accumulator).collect::<PlanResult<_>>()?;
        Ok(())
    }

    fn read(&mut self, rows: &SortedRows<'_>) -> PlanResult<Vec<ArrayRef>> {
        let mut results: Vec<Vec<ScalarValue>> = self.calls.iter().map(|_| Vec::new()).collect();
        let mut first_new = 0;
        for i in 0..rows.at.len() {
            if rows.begins[i] {
                // Events after the last prediction of a key are seen by none.
                first_new = i;
                if !self.held.is_empty() {
                    self.restart()?;
                }
            }
            if rows.is_spine.value(i) {
                self.add(rows, first_new, i)?;
                self.drop_before(rows.at[i].saturating_sub(self.ticks - 1))?;
                for (accumulator, results) in self.accumulators.iter_mut().zip(&mut results) {
                    results.push(accumulator.evaluate()?);
                }
                first_new = i + 1;
            }
        }
        self.add(rows, first_new, rows.at.len())?;
        let array = |(call, results): (&Call, Vec<ScalarValue>)| match results.is_empty() {
            true => Ok(new_null_array(call.function.field().data_type(), 0)),
            false => ScalarValue::iter_to_array(results),
        };
        self.calls.iter().zip(results).map(array).collect()
    }

    /// Adds the events of a range of rows.
    fn add(&mut self, rows: &SortedRows<'_>, from: usize, to: usize) -> PlanResult<()> {
        if from == to {
            return Ok(());
        }
        let values = rows.values.iter().map(|values| values.slice(from, to - from)).collect();
        let events = Events { at: rows.at[from..to].to_vec(), gone: 0, values };
        for (call, accumulator) in self.calls.iter().zip(&mut self.accumulators) {
            accumulator.update_batch(&arguments(call, &events.values)?)?;
        }
        self.held.push_back(events);
        Ok(())
    }

    /// Takes away the events before a tick.
    fn drop_before(&mut self, begins: i64) -> PlanResult<()> {
        let mut anew = Vec::new();
        while let Some(events) = self.held.front_mut() {
            let from = events.gone;
            let gone = events.at[from..].partition_point(|&at| at < begins);
            if gone > 0 {
                let values = events.values(from, gone);
                for (i, (call, accumulator)) in self.calls.iter().zip(&mut self.accumulators).enumerate() {
                    match accumulator.supports_retract_batch() {
                        true => accumulator.retract_batch(&arguments(call, &values)?)?,
                        false if anew.contains(&i) => {}
                        false => anew.push(i),
                    }
                }
                events.gone += gone;
            }
            if events.gone < events.at.len() {
                break;
            }
            self.held.pop_front();
        }
        // A function that cannot take values away is computed again from those that are left.
        for i in anew {
            let mut accumulator = accumulator(&self.calls[i])?;
            for events in &self.held {
                let left = events.values(events.gone, events.at.len() - events.gone);
                accumulator.update_batch(&arguments(&self.calls[i], &left)?)?;
            }
            self.accumulators[i] = accumulator;
        }
        Ok(())
    }
}

/// An accumulator from which values can be taken away, where the function has one.
fn accumulator(call: &Call) -> PlanResult<Box<dyn Accumulator>> {
    call.function.create_sliding_accumulator().or_else(|_| call.function.create_accumulator())
}

/// The arguments of a call, of the rows that its filter keeps.
fn arguments(call: &Call, values: &[ArrayRef]) -> PlanResult<Vec<ArrayRef>> {
    let arguments = call.arguments.iter().map(|&i| values[i].clone());
    let Some(kept) = call.filter else { return Ok(arguments.collect()) };
    let kept = values[kept].as_boolean();
    arguments.map(|values| Ok(filter(&values, kept)?)).collect()
}
