//! Drift of a fleet of models: what thousands of features look like in production against what each model was
//! trained on, counted exactly, every night.
//!
//! This is the engine: it reads snapshots, counts, compares and judges. It knows neither the fleet file nor the store.
//!
//! # Data flow
//!
//! ```text
//! models                                        model     snapshots, segments, windows, columns, options
//!     │
//! snapshots: Parquet, CSV, Arrow IPC            snapshot  the only user of polars
//!     │  one column of one row group at a time
//! keys: order-preserving unsigned integers      count     the seam between CPU and GPU (count::gpu, shaders/)
//!     │  counts per cell, then the keys of the few cells that decide something
//! integers: bins, categories, ranks, KS         count::ecdf, count::category
//!     │  (or the frozen baseline's integers)    baseline
//! metrics: PSI, JS, KS, Wasserstein, …          metric    pure functions, f64
//!     │
//! verdicts                                      rule      significant and drifted; pure
//!     │
//! sweeps                                        sweep     of a whole fleet, resumable
//!     │
//! figures of all nights                         history   a folder of Parquet files
//! ```
//!
//! Imports point down only: `history` → `sweep` → `baseline` → `model` → `generate`, `snapshot` → `rule` → `metric` → `count`; a test
//! enforces this order. `metric`, `rule` and [`sweep::figures`] know neither files nor clocks nor backends.
//!
//! # The other packages
//!
//! ```text
//! crates/common      errors, addresses, text that is safe to show, atomic files, storage (the only user of object_store)
//! crates/extensions  triggers, executors and channels, each with its settings in the fleet file
//! crates/fleet       the fleet file: what is compared, and what is decided about it
//! crates/features    features as SQL, as they were known at the time of each prediction; the only user of DataFusion
//! crates/trainers    boosted trees, a model that learns one example at a time, and both
//! crates/training    gates: what a candidate must show
//! crates/release     rollouts by steps: the evidence, and the state machine
//! crates/report      tables, JSON, CSV, Parquet
//! crates/ops         what a sweep means, retrain jobs, approvals, the store and its audit, messages
//! crates/cli         the command
//! ```
//! `cli` uses all of them; `ops` uses `fleet`, `fleet` uses `extensions`, and all use the engine and `common`. The tests of everything from outside stand in
//! tests/ and belong to the command.
//!
//! # How a comparison stays exact and fast
//!
//! 1. Every number becomes a key that orders as the number does ([`count::key`]). From here on there are no
//!    floating-point comparisons, so every backend gives the same integers.
//! 2. A small sample decides a [`count::CellMap`]: cells that are fine where the data lies. Both sides are
//!    counted over the same cells: one pass, one cell per key.
//! 3. The counts alone prove, for nearly every cell, that nothing inside it can matter: it holds no wanted rank and
//!    cannot hold the largest ECDF distance. The keys of the few remaining cells are collected in a second pass and
//!    sorted. Percentiles, bin counts, the Kolmogorov-Smirnov distance and the Wasserstein distance then are exact,
//!    without having sorted the data ([`count::ecdf`], [`count::pair`]).
//! 4. A column that fits its share of the memory limit is decoded once; a larger one is decoded again for the second
//!    pass, so that memory does not grow with the snapshot.
//!
//! # How a fleet is swept
//!
//! [`sweep::SweepPlan`] puts the most important models first, each with those that share its files. [`sweep::SweepRun`]
//! opens a few while it compares those before them, so neither memory nor open files grow with the fleet; a baseline's
//! distributions are unpacked feature by feature. Within the models that are open, features that read the same column,
//! for whichever model, window or segment, form a group: a worker takes the next group, reads each column once, and
//! records the result in the [`sweep::Journal`]. A segment or a window is a [`snapshot::Snapshot`] of some rows of the
//! same table ([`snapshot::Slice`]), so no later stage needs to know about them.
//!
//! # On a GPU
//!
//! [`count::GpuCounter`] does steps 2 and 3 on a device: keys are uploaded once per comparison, counted by
//! `shaders/count_keys.wgsl` into histograms private to a workgroup, compared by `shaders/compare_counts.wgsl`, which
//! also chooses the cells that decide, and collected by `shaders/collect_keys.wgsl`: one request a feature. Both backends
//! implement [`count::Counter`], the choice is made in [`count::backend`], and whatever the device cannot do the
//! CPU does: a chunk for which there is no room, a column after a failure, a collection that is nearly everything.
//!
//! # Invariants
//!
//! * Which cells were chosen, how rows were split into chunks, files or threads, and in which order they came
//!   changes no integer of a report; [`sweep::Comparison::counts_hash`] hashes them all.
//! * Missing values (null, NaN) never enter a distribution metric; they are a metric of their own.
//! * Nothing is sampled: every row is counted, and the rows decoded are checked against each file's metadata.
//! * One column, file or model that cannot be read is a status of its own and does not stop the rest.
//! * A file is written whole or not at all ([`driftsweep_common::atomic`]), and text from data is shown escaped
//!   ([`driftsweep_common::escape`]).
//! * A file can only claim as much memory as its size and the memory limit allow, and a damaged one is a status of its
//!   model.
//! * A sweep that was killed, however often, gives the same report as an uninterrupted one; what has changed since is
//!   not taken from the journal.
//!
//! # Example
//!
//! ```no_run
//! use driftsweep::{BaselineSource, Comparer, CpuCounter, Snapshot};
//!
//! # fn main() -> driftsweep::Result<()> {
//! let baseline = BaselineSource::open("training.parquet")?;
//! let current = Snapshot::open("production/*.parquet")?;
//! let report = Comparer::new(&baseline, &current).run(&CpuCounter)?;
//! for feature in report.features.iter().filter(|feature| feature.verdict.drifted) {
//!     println!("{}: {}", feature.name, feature.verdict.reasons.join(", "));
//! }
//! # Ok(())
//! # }
//! ```

mod facade;

pub use facade::*;

pub mod baseline;
pub mod count;
pub mod generate;
pub mod history;
pub mod metric;
pub mod model;
pub mod rule;
pub mod snapshot;
pub mod sweep;
