//! What a fleet file chooses from by name: triggers, executors and channels. Each of them is one file, which holds its keys in
//! the fleet file beside what it does, and one line of a list: [`trigger`], [`executor`], [`channel`] and [`traffic`] each have one. All
//! other code goes by these lists: the parser of the fleet file, the tick, `doctor`, `explain` and messages about unknown
//! names. Tests compare the lists with documents and checks.
//!
//! ```text
//! value      money, lengths of time, schedules, secrets, settings with their origin
//! http       one HTTP client for executors and channels
//! check      what is looked at before the night, and what was found
//! trigger    when a model is to be trained: schedule, performance, drift, volume; pure
//! executor   how it is trained: command, webhook, Kubernetes, Airflow
//! channel    who is told: file, webhook, e-mail, Kafka
//! traffic    how traffic is divided between versions: file, command, webhook, nginx, Kubernetes Gateway API
//! ```
//!
//! Each room uses only those above it in this list; a test enforces this order. `trigger` knows neither files nor clocks: the
//! figures and the state that it needs are arguments.
//!
//! # Adding one
//!
//! * A trigger: a file in `trigger/` with its table, its settings ([`trigger::TriggerSettings`]) and its verdict
//!   ([`trigger::TriggerVerdict`]), and a line in the list of `trigger/mod.rs`.
//! * An executor: a file in `executor/` with its table ([`executor::ExecutorTable`]), its settings
//!   ([`executor::ExecutorSettings`]) and its [`executor::Executor`], and a line in the list of `executor/mod.rs`.
//! * A channel: a file in `channel/` with its table ([`channel::ChannelTable`]), its settings ([`channel::ChannelSettings`])
//!   and its [`channel::MessageSender`], and a line in the list of `channel/mod.rs`.
//! * A way to divide traffic: a file in `traffic/` with its table ([`traffic::TrafficAdapterTable`]), its settings
//!   ([`traffic::TrafficSettings`]) and its [`traffic::Traffic`], and a line in the list of `traffic/mod.rs`.
//!
//! Beside the code, each has its part in the documents; a test names the one that has none.

pub mod channel;
pub mod check;
pub mod executor;
pub mod http;
pub mod traffic;
pub mod trigger;
pub mod value;
