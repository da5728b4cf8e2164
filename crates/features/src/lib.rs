//! The feature pipeline: features defined once, as SQL over tables of events, and computed as they were known at the time of each
//! prediction.
//!
//! ```text
//! fleet file ── event_table, feature_set
//!     │
//! tables        Parquet files → event tables with event_time and known_at, and a spine of predictions
//! lookup        what was known before each prediction: one sort by key and time, read once (in_order)
//! pipeline      spine + lookups, side by side, and SQL over them → features; a version that is a hash of the plan
//!     │
//! materialize   training and validation set with labels, and a manifest
//! verify        the same features with everything deleted that was known later: bit for bit equal
//! skew          the same features beside what serving logged
//! rows          a materialised set as trainers take it, and predictions as files
//! past          the rows of a long period, and the set that any night would have given, without computing them again
//! ```
//!
//! `engine` is the only user of DataFusion's session and runtime; `exact` and `functions` make sums that do not depend on the order
//! of rows.

mod engine;
mod exact;
mod functions;
mod in_order;
mod lookup;
mod materialize;
mod past;
mod pipeline;
mod rows;
mod side_by_side;
mod skew;
mod tables;
mod verify;
mod write;

pub use engine::Limits;
pub use materialize::{MANIFEST_FILE, Manifest, SetFile, TRAINING_FILE, VALIDATION_FILE};
pub use past::PastRows;
pub use pipeline::{FeaturePipeline, FeatureVersion, LABEL, Period, ROW_COLUMNS};
pub use rows::{PredictionColumns, ServedColumns, SetRows, read_scores};
pub use skew::{FeatureSkew, IdCounts, SkewExample, SkewReport, SkewStatus};
pub use tables::{EventRows, SourceFile};
pub use verify::{Cut, Different, Example, Verification};
