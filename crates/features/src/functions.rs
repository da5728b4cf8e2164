//! `sum`, `avg`, variance and standard deviation of floating-point numbers, without rounding on the way, and sums of integers that
//! do not wrap around: they take the place of DataFusion's own in every query, so that a feature has the same bits whatever order
//! rows are read in and whatever was in a window before. All other types are left to DataFusion.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BinaryArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::cast::{as_binary_array, as_float64_array, as_int64_array, as_uint64_array};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::context::SessionContext;
use datafusion::functions_aggregate::{average, stddev, sum, variance};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature};

use crate::exact::Moments;

/// Puts the functions in the place of DataFusion's own.
pub fn register(context: &SessionContext) {
    for (inner, result) in [
        (sum::sum_udaf(), Moment::Sum),
        (average::avg_udaf(), Moment::Mean),
        (variance::var_samp_udaf(), Moment::Variance { freedom: 1 }),
        (variance::var_pop_udaf(), Moment::Variance { freedom: 0 }),
        (stddev::stddev_udaf(), Moment::Deviation { freedom: 1 }),
        (stddev::stddev_pop_udaf(), Moment::Deviation { freedom: 0 }),
    ] {
        context.register_udaf(AggregateUDF::new_from_impl(Exact { inner, result }));
    }
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Moment {
    Sum,
    Mean,
    Variance { freedom: i64 },
    Deviation { freedom: i64 },
}

impl Moment {
    fn needs_squares(self) -> bool {
        matches!(self, Self::Variance { .. } | Self::Deviation { .. })
    }

    fn of(self, moments: &Moments) -> Option<f64> {
        match self {
            Self::Sum => moments.sum(),
            Self::Mean => moments.mean(),
            Self::Variance { freedom } => moments.variance(freedom),
            Self::Deviation { freedom } => moments.variance(freedom).map(f64::sqrt),
        }
    }
}

/// DataFusion's function, but for floating-point numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    inner: Arc<AggregateUDF>,
    result: Moment,
}

impl Exact {
    fn applies(&self, distinct: bool, fields: &[FieldRef]) -> bool {
        let kind = |field: &FieldRef| match field.data_type() {
            DataType::Float64 => true,
            DataType::Int64 | DataType::UInt64 => self.result == Moment::Sum,
            _ => false,
        };
        !distinct && matches!(fields, [field] if kind(field))
    }
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !self.applies(args.is_distinct, args.input_fields) {
            return self.inner.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "moments"), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !self.applies(args.is_distinct, args.expr_fields) {
            return self.inner.accumulator(args);
        }
        if *args.return_type() != DataType::Float64 {
            let unsigned = *args.return_type() == DataType::UInt64;
            return Ok(Box::new(WholeSum { unsigned, sum: 0, count: 0 }));
        }
        let moments = Moments::new(self.result.needs_squares());
        Ok(Box::new(ExactAccumulator { result: self.result, moments }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.applies(args.is_distinct, args.expr_fields) {
            true => self.accumulator(args),
            false => self.inner.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !self.applies(args.is_distinct, args.expr_fields) && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> datafusion::logical_expr::utils::AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(kind)
    }
}

/// A sum of 64-bit integers.
#[derive(Debug)]
struct WholeSum {
    unsigned: bool,
    sum: i128,
    count: i64,
}

impl WholeSum {
    fn change(&mut self, values: &[ArrayRef], by: i128) -> Result<()> {
        let [values] = values else { return Err(DataFusionError::Internal("a sum takes one argument".into())) };
        let mut add = |x: i128| {
            self.sum += by * x;
            self.count += by as i64;
        };
        match self.unsigned {
            true => as_uint64_array(values)?.iter().flatten().for_each(|x| add(x.into())),
            false => as_int64_array(values)?.iter().flatten().for_each(|x| add(x.into())),
        }
        Ok(())
    }
}

impl Accumulator for WholeSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let beyond = || {
            DataFusionError::Execution(format!(
                "a sum of integers is {}, beyond 64 bits; sum numbers instead, by CAST(… AS DOUBLE)",
                self.sum
            ))
        };
        let some = self.count > 0;
        Ok(match self.unsigned {
            true => ScalarValue::UInt64(some.then(|| u64::try_from(self.sum).map_err(|_| beyond())).transpose()?),
            false => ScalarValue::Int64(some.then(|| i64::try_from(self.sum).map_err(|_| beyond())).transpose()?),
        })
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let bytes = [&self.sum.to_le_bytes()[..], &self.count.to_le_bytes()].concat();
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else { return Err(DataFusionError::Internal("a sum has one state".into())) };
        for bytes in as_binary_array(states)?.iter().flatten() {
            let parts = bytes.split_first_chunk::<16>().and_then(|(sum, rest)| Some((sum, rest.first_chunk::<8>()?)));
            let (sum, count) =
                parts.ok_or_else(|| DataFusionError::Internal("the state of a sum is damaged".into()))?;
            self.sum += i128::from_le_bytes(*sum);
            self.count += i64::from_le_bytes(*count);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[derive(Debug)]
struct ExactAccumulator {
    result: Moment,
    moments: Moments,
}

fn numbers(values: &[ArrayRef]) -> Result<&Float64Array> {
    match values {
        [values] => as_float64_array(values),
        _ => Err(DataFusionError::Internal("a moment takes one argument".into())),
    }
}

impl Accumulator for ExactAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        numbers(values)?.iter().flatten().for_each(|x| self.moments.add(x));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        numbers(values)?.iter().flatten().for_each(|x| self.moments.remove(x));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.result.of(&self.moments)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.moments.to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [states] = states else { return Err(DataFusionError::Internal("a moment has one state".into())) };
        let states: &BinaryArray = as_binary_array(states)?;
        for bytes in states.iter().flatten() {
            let part = Moments::from_bytes(bytes, self.result.needs_squares());
            let part = part.ok_or_else(|| DataFusionError::Internal("the state of a moment is damaged".into()))?;
            self.moments.merge(&part);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.moments.heap()
    }
}
