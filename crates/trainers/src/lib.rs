//! Trainers.

mod container;
mod error;
mod model;
mod settings;
mod table;
pub mod online;

pub use error::{Error, Result};
pub use model::{FitOptions, FitReport, Fitted, Model, Trainer};
pub use settings::{
    AdaGradSettings, BatchSettings, FtrlSettings, HybridSettings, OnlineSettings, Optimizer, Settings, SgdSettings,
};
pub use table::{Categories, Column, Kind, Objective, Position, Table, Target};
