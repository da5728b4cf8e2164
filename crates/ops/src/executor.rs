//! The executor of a model.

use std::path::Path;

use driftsweep_extensions::executor::{Executor, ExecutorTools, Logins};
use driftsweep_extensions::http::Http;
use driftsweep_fleet::RetrainConfig;

/// The executor by the training settings of a model. `program` supervises commands: this program, by its path.
pub fn of<'a>(
    retrain: &'a RetrainConfig,
    http: &'a Http,
    program: &'a Path,
    logins: &'a Logins,
) -> Box<dyn Executor + 'a> {
    retrain.executor.settings().open(ExecutorTools { timeout: retrain.timeout, http, program, logins })
}
