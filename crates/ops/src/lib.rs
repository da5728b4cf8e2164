//! Operations: from what a sweep found to a governed retrain.
//!
//! ```text
//! labels     predictions with late labels
//! policy     what becomes an event when a trigger fires, and how it reads; pure
//! calibrate  thresholds for a wanted number of false alarms
//! tick       everything that is due
//! store      what is remembered, with its audit; the only user of sqlx
//! retrain    jobs: cost, budget, approval, queue; pure
//! scheduler  takes jobs further, one transaction a step
//! rollouts   takes releases further: observes both arms, decides, and moves traffic
//! executor   the executor of a model
//! notify     messages: outbox, texts and delivery
//! formats    versions of what is stored
//! ```
//!
//! Imports point down only: `rollouts` → `scheduler`; `calibrate`, `scheduler`, `tick` → `labels`, `executor`, `notify` → `store` → `retrain`, `policy` →
//! `formats`; a test enforces this order. Triggers, executors and channels themselves are in `driftsweep_extensions`. `policy`
//! and `retrain` know neither files nor clocks nor backends.
//!
//! # Invariants
//!
//! * [`tick`] may be killed between any two steps, and run any number of times at once: no event is lost or duplicated. A sweep
//!   counts as the time at which it was due, so that it is the same sweep when it is run again, and all that follows from it
//!   is one transaction.
//! * The same holds for [`scheduler`]: each event has one job, a run is recorded before it is started and is started once by
//!   its name, and every step has its audit record.
//! * What a sweep concludes follows from what was known when it was due: labels that came later are not read. Which label
//!   belongs to which prediction follows from ids and times, never from the order of rows ([`labels`]).

pub mod calibrate;
pub mod executor;
pub mod formats;
pub mod labels;
pub mod notify;
pub mod policy;
pub mod retrain;
pub mod rollouts;
pub mod scheduler;
pub mod store;
pub mod tick;
