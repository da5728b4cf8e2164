//! Operations: from what a sweep found to a governed retrain.
//!
//! ```text
//! labels     predictions with late labels
//! policy     which triggers fire, and why; pure
//! calibrate  thresholds for a wanted number of false alarms
//! tick       everything that is due
//! store      what is remembered, with its audit; the only user of sqlx
//! retrain    jobs: cost, budget, approval, queue; pure
//! scheduler  takes jobs further, one transaction a step
//! executor   training runs: command, webhook, Kubernetes, Airflow
//! notify     messages: outbox and channels
//! http       one HTTP client for all of them
//! ```
//!
//! Imports point down only: `calibrate`, `scheduler`, `tick` → `labels`, `executor`, `notify` → `store` → `retrain`, `policy` →
//! `http`. `policy` and `retrain` know neither files nor clocks nor backends.

pub mod calibrate;
pub mod executor;
pub mod http;
pub mod labels;
pub mod notify;
pub mod policy;
pub mod retrain;
pub mod scheduler;
pub mod store;
pub mod tick;
