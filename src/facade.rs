//! The types for programs that compare snapshots, re-exported at the root of the crate. They are what a version promises;
//! the modules below it are public for the other packages of the workspace, and may move.

pub use driftsweep_common::error::{Error, Result, Status};

pub use crate::baseline::{Baseline, BaselineBuilder, BaselineFile};
pub use crate::count::gpu::{DeviceChoice, GpuCounter};
pub use crate::count::{Backend, Counter, CpuCounter};
pub use crate::metric::convention::{Convention, ConventionRules};
pub use crate::metric::{Band, Kind, Metric, MetricSet, Metrics};
pub use crate::model::{ColumnUse, Model, Options, Window};
pub use crate::rule::{Signal, Thresholds, Verdict};
pub use crate::snapshot::{Slice, Snapshot};
pub use crate::sweep::{
    BaselineSource, Comparer, Comparison, Feature, Journal, ModelReport, SweepPlan, SweepProgress, SweepReport,
    SweepRun,
};
