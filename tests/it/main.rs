//! Everything that is tested from outside, in one binary.

mod cli;
mod data;
mod edges;
mod golden;
mod properties;
