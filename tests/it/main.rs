//! Everything that is tested from outside, in one binary.

#![allow(clippy::unwrap_used, clippy::panic)] // A test that cannot go on has failed.
#![allow(clippy::print_stderr)] // Long tests say how far they are.

mod approvers;
mod baselines;
mod causes;
mod cli;
mod clock;
mod commands;
mod csv;
mod damage;
mod damaged;
mod decisions;
mod docs;
mod doctor;
mod edges;
mod extensions;
mod field;
mod folders;
mod golden;
mod hostile;
mod init;
mod messages;
mod money;
mod moved;
mod network;
mod nights;
mod objects;
mod odd_files;
mod parity;
mod pipes;
mod properties;
mod put_back;
mod recovery;
mod retrain;
mod run_answers;
mod run_boundaries;
mod run_environment;
mod runs;
mod secret_places;
mod secrets;
mod shaders;
mod signatures;
mod slices;
mod snapshots;
mod store_edits;
mod store_ways_out;
mod supply;
mod support;
mod ten_nights;
mod tick;
mod tidy;
mod times;
mod types;
mod verdicts;
mod wires;
