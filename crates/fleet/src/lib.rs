//! The fleet file: the models, their training data, their current data, and their thresholds. TOML, checked as a whole
//! before any data is read; errors name the line.
//!
//! Text becomes tables (`document`, `table`), and tables become what the rest of driftsweep uses: each module resolves its own
//! part (`trigger`, `retrain`, `approval`, …), `model` puts together a model, and `fleet` the whole.

mod approval;
mod baselines;
mod channel;
mod checks;
pub mod daily;
mod document;
mod fleet;
mod governance;
pub mod infer;
mod labels;
mod literal;
mod model;
mod money;
mod retrain;
mod schedule;
mod secret;
mod table;
mod trigger;

pub use approval::{ApprovalRules, ApproverKey, AutomaticApproval, OnExpiry, Signatures};
pub use baselines::{HASH_DIGITS, SetBaseline};
pub use channel::{Channel, ChannelTarget, EmailConfig, EmailSecurity, Topic};
pub use fleet::Fleet;
pub use governance::{BudgetConfig, ConcurrencyLimits, Governance};
pub use labels::{Labels, class};
pub use model::Model;
pub use money::{Currency, Money};
pub use retrain::{
    AirflowConfig, CommandConfig, ExecutorConfig, KubernetesConfig, RetrainConfig, Stakes, WebhookConfig,
};
pub use schedule::Schedule;
pub use secret::{Endpoint, Secret, SecretSource};
pub use trigger::{Origin, Persistence, Quorum, Setting, Trigger, Triggers};
