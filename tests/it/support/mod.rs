//! What tests share: fleets, servers, stores, processes, and what a test needs that may be missing.

pub mod browser;
pub mod data;
#[cfg(feature = "pipeline")]
pub mod flights;
pub mod jobs;
pub mod journals;
pub mod keys;
pub mod needs;
pub mod night;
pub mod objects;
pub mod output;
pub mod processes;
pub mod release;
pub mod script;
pub mod seal;
pub mod server;
pub mod world;

use jiff::Timestamp;

/// A time from its text.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
