//! Training: what a candidate must show before it may take the place of the champion.
//!
//! ```text
//! gate   candidate and champion on the same validation rows, judged by declared rules; pure
//! ```
//!
//! The module knows no files and no clock: rows are read by who calls it.

pub mod gate;
