//! Everything that is tested from outside, in one binary.

#![allow(clippy::unwrap_used, clippy::panic)] // A test that cannot go on has failed.
#![allow(clippy::print_stderr)] // Long tests say how far they are.

mod approvers;
mod baselines;
mod canary;
mod causes;
mod cli;
mod clock;
mod commands;
mod csv;
mod damage;
mod damaged;
mod decisions;
#[cfg(feature = "pipeline")]
mod demo_loop;
mod deploy;
mod docs;
mod doctor;
mod edges;
mod extensions;
#[cfg(feature = "pipeline")]
mod features;
mod field;
mod first_days;
mod folders;
mod format_1;
mod gated_jobs;
mod gates;
mod golden;
mod hostile;
mod html;
mod init;
mod messages;
mod metrics;
mod model_versions;
mod money;
mod moved;
mod network;
mod nights;
mod objects;
mod odd_files;
mod pages;
mod parity;
mod pipes;
mod properties;
mod put_back;
mod recovery;
mod registries;
mod reports;
mod retrain;
mod rollout_approvals;
mod rollouts;
mod rollouts_nginx;
mod run_answers;
mod run_boundaries;
mod run_environment;
mod runs;
mod schema;
mod secret_places;
mod secrets;
mod shaders;
mod signatures;
#[cfg(feature = "pipeline")]
mod simulate;
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
#[cfg(feature = "pipeline")]
mod trainings;
mod types;
mod unreadable;
mod verdicts;
mod wires;
