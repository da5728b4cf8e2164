//! Everything that is tested from outside, in one binary.

#![allow(clippy::unwrap_used, clippy::panic)] // A test that cannot go on has failed.
#![allow(clippy::print_stderr)] // Long tests say how far they are.

mod baselines;
mod cli;
mod commands;
mod csv;
mod damage;
mod data;
mod docs;
mod doctor;
mod edges;
mod field;
mod folders;
mod golden;
mod init;
mod journals;
mod messages;
mod money;
mod nights;
mod objects;
mod parity;
mod properties;
mod recovery;
mod retrain;
mod runs;
mod seal;
mod server;
mod shaders;
mod slices;
mod store_edits;
mod ten_nights;
mod tick;
mod tidy;
mod times;
mod types;
mod wires;
