//! The fleet file: the models, their training data, their current data, and their thresholds. TOML, checked as a whole
//! before any data is read; errors name the line.
//!
//! Text becomes tables (`document`, `table`), and tables become what the rest of driftsweep uses: each module resolves its own
//! part (`retrain`, `approval`, …; triggers, executors and channels are in `driftsweep_extensions`), `model` puts together a model, and `fleet` the whole.

mod approval;
mod baselines;
mod checks;
pub mod daily;
mod document;
mod features;
mod fleet;
mod governance;
pub mod infer;
mod labels;
mod literal;
mod model;
mod retrain;
mod rollout;
mod schema;
mod table;

pub use approval::{ApprovalRules, ApproverKey, AutomaticApproval, OnExpiry, Signatures};
pub use baselines::{HASH_DIGITS, SetBaseline};
pub use driftsweep_extensions::channel::{Channel, ChannelTarget, Topic};
pub use driftsweep_extensions::executor::ExecutorConfig;
pub use driftsweep_extensions::trigger::{Trigger, Triggers};
pub use driftsweep_extensions::value::{Currency, Endpoint, Money, Origin, Schedule, Secret, SecretSource, Setting};
pub use features::{
    EventTable, Expressions, FeatureSet, KnownAt, LabelLookup, Lookup, LookupKind, Serving, Spine, Sql, TrainerChoice,
    TrainerCommand,
};
pub use fleet::{Fleet, gate_rules};
pub use governance::{BudgetConfig, ConcurrencyLimits, Governance};
pub use labels::{Labels, class};
pub use model::Model;
pub use retrain::{RetrainConfig, Stakes};
pub use rollout::{CheckConfig, CheckOutcome, RolloutConfig};
pub use schema::FLEET_SCHEMA;
#[cfg(feature = "schema")]
pub use schema::generated_schema;
