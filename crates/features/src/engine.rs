//! The query engine: DataFusion, with bounded memory, a folder to spill to, and one way to name what went wrong. The only user of
//! its session and runtime.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::{DataFrame, SQLOptions, SessionConfig};
use driftsweep_common::error::{Error, Result};
use driftsweep_common::runtime::BlockingRuntime;

use crate::functions;

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory for sorts, windows and joins; what does not fit is written to temporary files.
    pub memory: usize,
    /// Threads.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30, threads: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

/// Runs queries.
pub struct QueryEngine {
    runtime: BlockingRuntime,
    environment: Arc<RuntimeEnv>,
    limits: Limits,
}

impl QueryEngine {
    /// An engine that spills to a folder.
    ///
    /// # Errors
    /// [`Error::Backend`] where the operating system gives no threads.
    pub fn new(limits: Limits, spill: &Path) -> Result<Self> {
        let failed = |reason: String| Error::Backend(format!("the feature pipeline cannot start: {reason}"));
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]));
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory)))
            .with_disk_manager_builder(disk)
            .with_max_temp_directory_size(u64::MAX)
            .build_arc()
            .map_err(|e| failed(e.to_string()))?;
        let runtime = BlockingRuntime::with_threads(limits.threads).map_err(|e| failed(e.to_string()))?;
        Ok(Self { runtime, environment, limits })
    }

    /// Where object stores are registered.
    pub fn environment(&self) -> &RuntimeEnv {
        &self.environment
    }

    /// Waits for a query.
    pub fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        self.runtime.wait(future)
    }

    /// A session without tables.
    pub fn session(&self) -> SessionContext {
        let mut config = SessionConfig::new()
            // With one partition, a join would hold one side in memory.
            .with_target_partitions(self.limits.threads.max(2))
            .with_information_schema(false)
            // Sorted data are merged in bounded memory; a hash join needs one side in memory.
            .set_bool("datafusion.optimizer.prefer_hash_join", false)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            // Names mean what they say: columns of files often have capital letters.
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        // What a merge of spilled parts needs at least; the default would not fit into a small memory limit.
        let reserve = (self.limits.memory / self.limits.threads / 32).clamp(1 << 20, 10 << 20);
        config.options_mut().execution.sort_spill_reservation_bytes = reserve;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.environment.clone())
            .with_default_features()
            .build();
        let context = SessionContext::new_with_state(state);
        functions::register(&context);
        context
    }

    /// Plans a query that only reads.
    ///
    /// # Errors
    /// [`Error::BadValue`] about `what`: it is not such a query, or calls a function whose result is not determined by its
    /// arguments.
    pub fn query(&self, session: &SessionContext, sql: &str, what: &str) -> Result<DataFrame> {
        let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let planned = self.wait(async { session.sql_with_options(sql, only_reads).await });
        let frame = planned.map_err(|error| refused(what, &error))?;
        check_determined(frame.logical_plan(), what)?;
        Ok(frame)
    }
}

/// Refuses functions that give another value on each run.
pub fn check_determined(plan: &LogicalPlan, what: &str) -> Result<()> {
    let mut bad = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                let function = match part {
                    Expr::ScalarFunction(call) => Some((call.func.name(), call.func.signature().volatility)),
                    _ => None,
                };
                if let Some((name, volatility)) = function
                    && volatility != Volatility::Immutable
                {
                    bad = Some(name.to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.map_err(|error| refused(what, &error))?;
    match bad {
        None => Ok(()),
        Some(name) => Err(Error::BadValue {
            what: what.into(),
            reason: format!(
                "{name}() gives another value on each run, so that the features could not be computed again; use \
                 prediction_time for the time of a prediction"
            ),
        }),
    }
}

/// The error for a query that cannot be planned.
pub fn refused(what: &str, error: &DataFusionError) -> Error {
    Error::BadValue { what: what.into(), reason: words(error) }
}

/// The error for a query that failed while it ran.
pub fn failed(what: &str, error: &DataFusionError) -> Error {
    let reason = match error.find_root() {
        DataFusionError::ResourcesExhausted(reason) => format!(
            "the memory limit is too small for the query: {}; raise --memory, or avoid what cannot be spilled to disk (a \
             cross join, or a window over all rows)",
            reason.lines().next().unwrap_or_default()
        ),
        other => words(other),
    };
    Error::BadValue { what: what.into(), reason }
}

/// Words of the engine for kinds of errors, which say nothing to the author of a query.
const KINDS: [&str; 9] = [
    "Error during planning: ",
    "SQL error: ",
    "Schema error: ",
    "Execution error: ",
    "Arrow error: ",
    "Cast error: ",
    "Internal error: ",
    "This feature is not implemented: ",
    "[return_type] ",
];

/// The message of an error, without the words for its kind and without a trace, with a remedy where the engine has none.
fn words(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let between =
        |from: &str, to: &str| text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(found, _)| found);
    if let Some(call) = between("No function matches the given name and argument types '", "'") {
        return format!("there is no function {call}; convert its arguments with CAST, for example CAST(x AS DOUBLE)");
    }
    if text.contains("ScalarSubquery") {
        return "a subquery in place of a value cannot depend on the row in this way; write it as a lookup, or as a join".into();
    }
    let text = KINDS.iter().fold(text, |text, kind| text.replace(kind, ""));
    let text = text.split(" This issue was likely caused by a bug in DataFusion").next().unwrap_or_default();
    text.trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subquery_that_cannot_be_planned_is_told_with_a_remedy() {
        let reason = "Physical plan does not support logical expression ScalarSubquery(<subquery>)";
        let error = refused("sql", &DataFusionError::NotImplemented(reason.into())).to_string();
        assert!(error.starts_with("sql: a subquery") && error.contains("write it as a lookup"), "{error}");
        let error = refused(
            "sql",
            &DataFusionError::Internal("x. This issue was likely caused by a bug in DataFusion's code.".into()),
        );
        assert_eq!(error.to_string(), "sql: x.");
    }
}
