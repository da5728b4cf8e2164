//! Trainers of driftsweep: what learns a model from rows in the order of time.
//!
//! ```text
//! Settings ──trainer()──▶ Trainer ──fit(Table, Target, FitOptions)──▶ Model ──to_bytes()──▶ artefact ──load()──▶ Model
//!   │                                │ FitReport                       │ predict(Table)
//!   ├ batch   boosted trees          ▼                                 ▼
//!   ├ online  linear or logistic,    rows learned, held out, skipped   probabilities of class 1, or numbers
//!   │         one example at a time
//!   └ hybrid  the mean of both, calibrated
//! ```
//!
//! | | learns | artefact | cargo feature |
//! | --- | --- | --- | --- |
//! | [`boosting`](../driftsweep_trainers/boosting/index.html) | anew from all rows | XGBoost's JSON | `boosting` |
//! | [`online`] | on from the last row | safetensors | |
//! | [`hybrid`](../driftsweep_trainers/hybrid/index.html) | anew from all rows | safetensors, with both | `boosting` |
//!
//! A [`Table`] has named columns of numbers, of which NaN is missing, and of categories. Rows are in the order of time: the last
//! ones are held out to stop early and to calibrate. [`Position`]s prove the order, and let the online learner skip what it has
//! learned.
//!
//! The crate knows no files, no clock and no environment: rows are read and bytes are stored by who calls it. The same rows,
//! settings and state give the same bytes, on any number of threads.
//!
//! ```
//! use driftsweep_trainers::{Categories, Column, FitOptions, Objective, Settings, Table, Target, load};
//!
//! let kinds = [Some("rain"), None, Some("sun"), Some("rain")];
//! let table = Table::new([
//!     ("delay".to_owned(), Column::Numbers(vec![5.0, 1.0, f64::NAN, 7.0])),
//!     ("weather".to_owned(), Column::Categories(Categories::from_rows(&kinds))),
//! ])?;
//! let target = Target::new(Objective::Binary, vec![1.0, 0.0, 0.0, 1.0])?;
//! let settings: Settings = serde_json::from_str(r#"{"kind": "online", "optimizer": {"kind": "adagrad"}}"#).unwrap();
//! let fitted = settings.trainer()?.fit(&table, &target, &FitOptions::default())?;
//! assert_eq!(fitted.report.learned, 4);
//!
//! let model = load(&fitted.model.to_bytes()?)?;
//! let predictions = model.predict(&table)?;
//! assert!(predictions[0] > predictions[1]);
//! # Ok::<(), driftsweep_trainers::Error>(())
//! ```

#[cfg(feature = "boosting")]
pub mod boosting;
pub mod calibrate;
mod container;
mod error;
#[cfg(feature = "boosting")]
pub mod hybrid;
mod load;
mod model;
pub mod online;
mod settings;
mod table;

pub use error::{Error, Result};
pub use load::load;
pub use model::{FitOptions, FitReport, Fitted, Model, Trainer};
pub use settings::{
    AdaGradSettings, BatchSettings, FtrlSettings, HybridSettings, OnlineSettings, Optimizer, Settings, SgdSettings,
};
pub use table::{Categories, Column, Kind, Objective, Position, Table, Target};
