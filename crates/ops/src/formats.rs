//! The forms of what the store and the folders of runs hold as JSON, all in one place. A new version of one is one more
//! upgrade here, and one more fixture in tests/fixtures.
//!
//! | what | where | version |
//! | --- | --- | --- |
//! | jobs | `job.body`; whole jobs in the audit | [`JOBS`] |
//! | steps of jobs | bodies of the audit records `job.…` | [`STEPS`] |
//! | training settings | `run.retrain` | [`TRAINING_SETTINGS`] |
//! | evaluations of models | `verdict.body` | [`EVALUATIONS`] |
//! | status of the last sweep | `status.body` | [`SWEEP_STATUSES`] |
//! | versions of models | `model_version.body` | [`VERSIONS`] |
//! | rollouts | `rollout.body` | [`ROLLOUTS`] |
//! | results of commands | `result.json` in the folder of a run | [`driftsweep_extensions::executor::RESULTS`] |
//! | retrain events, messages | `event.body`, `outbox.body` | none: CloudEvents, whose `type` says what they are |
//!
//! Bodies without a version are of version 1.

use driftsweep_common::versioned::Format;

/// Jobs.
pub const JOBS: Format = Format::new("jobs", &[]);

/// Steps of jobs, and their requests.
pub const STEPS: Format = Format::new("steps of jobs", &[]);

/// The training settings of runs.
pub const TRAINING_SETTINGS: Format = Format::new("training settings", &[]);

/// What was concluded of models at sweeps.
pub const EVALUATIONS: Format = Format::new("evaluations of models", &[]);

/// What is known of versions of models.
pub const VERSIONS: Format = Format::new("versions of models", &[]);

/// Rollouts.
pub const ROLLOUTS: Format = Format::new("rollouts", &[]);

/// The status of the last sweep.
pub const SWEEP_STATUSES: Format = Format::new("sweep statuses", &[]);
