//! What all parts of driftsweep stand on: errors, addresses that hide what is secret in them, text that is safe to show,
//! atomic files, waiting for asynchronous libraries, storage on disk and in object stores, and the versions of what is stored.

pub mod address;
pub mod atomic;
pub mod duration;
pub mod error;
pub mod escape;
pub mod infinite;
pub mod runtime;
pub mod storage;
pub mod versioned;
