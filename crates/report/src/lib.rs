//! What people and programs read: tables, JSON, CSV and Parquet. Nothing is written but what [`output`] made, which escapes
//! names and values from data.

pub mod metrics;
pub mod output;
pub mod report;
