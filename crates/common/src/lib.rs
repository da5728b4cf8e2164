//! What all parts of driftsweep stand on: errors, addresses that hide what is secret in them, text that is safe to show,
//! atomic files, and storage on disk and in object stores.

pub mod address;
pub mod atomic;
pub mod duration;
pub mod error;
pub mod escape;
pub mod storage;
