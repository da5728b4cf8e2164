//! How traffic is divided between the versions of a model: a weights file, a command, a webhook, nginx, the Gateway API of
//! Kubernetes.
//!
//! [`Traffic::apply`] is asked again until it succeeds, also after it succeeded and its answer was lost: it gives the same result
//! each time. It changes nothing that it has not set itself.

pub mod command;
pub mod file;
pub mod gateway;
pub mod nginx;
pub mod webhook;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::check::Findings;
use crate::http::{Http, RequestFailure};
use crate::value::{Validated, listed};

/// The adapters: the one list. It is passed to a macro, so that the parser of the fleet file can make the keys of
/// `[model.rollout.traffic]` from it.
#[macro_export]
macro_rules! with_traffic {
    ($with:ident) => {
        $with! {
            /// A file with the weight of each version, for a router that reads it.
            File(file): $crate::traffic::file::FileTable => $crate::traffic::file::FileConfig,
            /// A command on this machine.
            Command(command): $crate::traffic::command::CommandTable => $crate::traffic::command::CommandConfig,
            /// A webhook.
            Webhook(webhook): $crate::traffic::webhook::WebhookTable => $crate::traffic::webhook::WebhookConfig,
            /// A variable of nginx that has the version of each request.
            Nginx(nginx): $crate::traffic::nginx::NginxTable => $crate::traffic::nginx::NginxConfig,
            /// A rule of an HTTPRoute of the Kubernetes Gateway API.
            Gateway(gateway): $crate::traffic::gateway::GatewayTable => $crate::traffic::gateway::GatewayConfig,
        }
    };
}

macro_rules! traffic_config {
    ($($(#[$doc:meta])* $variant:ident($key:ident): $table:ty => $settings:ty,)*) => {
        /// How traffic is divided, with its settings.
        #[derive(Clone, Debug, PartialEq)]
        pub enum TrafficConfig {
            $($(#[$doc])* $variant($settings),)*
        }

        impl TrafficConfig {
            /// The names of all adapters: their keys in the fleet file.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($key)),*];

            /// The name in the fleet file and in reports.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($key),)*
                }
            }

            /// What it does with its settings.
            pub fn settings(&self) -> &dyn TrafficSettings {
                match self {
                    $(Self::$variant(settings) => settings,)*
                }
            }
        }

        /// The table `[model.rollout.traffic]` of the fleet file: one of its keys.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct TrafficTable {
            $($(#[$doc])* $key: Option<$table>,)*
        }

        impl TrafficTable {
            /// The adapter that is set. Paths are relative to a folder.
            ///
            /// # Errors
            /// The reason, for an invalid setting.
            pub fn resolve(&self, folder: &Path) -> Validated<TrafficConfig> {
                let set = [$(self.$key.as_ref().map(|table| table.resolve(folder).map(TrafficConfig::$variant)),)*];
                let mut set = set.into_iter().flatten();
                match (set.next(), set.next()) {
                    (Some(adapter), None) => adapter.map_err(|reason| format!("traffic: {reason}")),
                    (None, _) => Err(format!("traffic names no adapter; give {}", listed(TrafficConfig::NAMES, "or"))),
                    (_, Some(_)) => Err(format!("traffic: give one of {}", listed(TrafficConfig::NAMES, "and"))),
                }
            }
        }
    };
}

with_traffic!(traffic_config);

/// The table of an adapter in the fleet file.
pub trait TrafficAdapterTable {
    /// What it gives.
    type Settings: TrafficSettings;

    /// The settings, checked.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    fn resolve(&self, folder: &Path) -> Validated<Self::Settings>;
}

/// The settings of an adapter, and what it does with them.
pub trait TrafficSettings {
    /// The adapter itself.
    fn open<'a>(&'a self, tools: TrafficTools<'a>) -> Box<dyn Traffic + 'a>;

    /// Checks before the night what a rollout would need.
    fn check(&self, findings: &mut Findings);

    /// Whether an arm can have this name.
    ///
    /// # Errors
    /// What its name must be.
    fn check_arm(&self, _name: &str) -> Validated<()> {
        Ok(())
    }
}

/// What adapters work with.
#[derive(Clone, Copy)]
pub struct TrafficTools<'a> {
    /// The client.
    pub http: &'a Http,
    /// The time.
    pub now: Timestamp,
}

/// An arm of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arm {
    /// Its name, as the router and the logs of predictions have it.
    pub name: String,
    /// The version of the model; absent for one that is not in the registry.
    pub version: Option<u64>,
    /// Where the version is, where the registry says so.
    pub source: Option<String>,
}

/// How traffic should be divided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WantedTraffic {
    /// The fleet.
    pub fleet: String,
    /// The model.
    pub model: String,
    /// The name of the rollout: the same for all of its shares. It is the salt by which users are divided.
    pub rollout: String,
    /// A number that grows with each change of the rollout: an endpoint can refuse a request that was overtaken by a later one.
    pub sequence: u64,
    /// The candidate.
    pub candidate: Arm,
    /// The arm that has the rest.
    pub production: Arm,
    /// The share of the candidate, from 0 to 1.
    pub share: f64,
}

impl WantedTraffic {
    /// The key by which a receiver knows a request that was sent before.
    pub fn key(&self) -> String {
        format!("{}-{}", self.rollout, self.sequence)
    }

    /// The weight of each arm, in parts of 10,000.
    pub fn weights(&self) -> (u32, u32) {
        let candidate = (self.share.clamp(0.0, 1.0) * 10_000.0).round() as u32;
        (candidate, 10_000 - candidate)
    }

    /// As JSON, with the share of each arm by its name.
    pub fn json(&self) -> Value {
        let mut value = json!(self);
        value["weights"] = json!({ &self.candidate.name: self.share, &self.production.name: 1.0 - self.share });
        value
    }

    /// The same as variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("DRIFTSWEEP_FLEET", self.fleet.clone()),
            ("DRIFTSWEEP_MODEL", self.model.clone()),
            ("DRIFTSWEEP_ROLLOUT", self.rollout.clone()),
            ("DRIFTSWEEP_SEQUENCE", self.sequence.to_string()),
            ("DRIFTSWEEP_SHARE", self.share.to_string()),
            ("DRIFTSWEEP_CANDIDATE", self.candidate.name.clone()),
            ("DRIFTSWEEP_PRODUCTION", self.production.name.clone()),
        ];
        variables.extend(self.candidate.source.clone().map(|source| ("DRIFTSWEEP_CANDIDATE_SOURCE", source)));
        variables.extend(self.production.source.clone().map(|source| ("DRIFTSWEEP_PRODUCTION_SOURCE", source)));
        variables
    }
}

/// Divides traffic.
pub trait Traffic {
    /// Divides traffic as wanted. Asked again, it gives the same.
    ///
    /// # Errors
    /// [`RequestFailure`]: traffic is divided in an unknown way until it succeeds.
    fn apply(&self, wanted: &WantedTraffic) -> Result<(), RequestFailure>;

    /// The share of the candidate that is set now; `None` where that cannot be asked.
    ///
    /// # Errors
    /// [`RequestFailure`] where it cannot be read.
    fn share(&self, wanted: &WantedTraffic) -> Result<Option<f64>, RequestFailure>;
}

/// Shares that differ by no more are the same: nginx and weights have parts of 10,000.
pub const SAME_SHARE: f64 = 5.1e-5;

/// How an adapter divides traffic in tests.
#[cfg(test)]
pub(crate) fn wanted(share: f64, sequence: u64) -> WantedTraffic {
    let arm = |version: u64| Arm {
        name: version.to_string(),
        version: Some(version),
        source: Some(format!("models/{version}")),
    };
    let (fleet, model, rollout) = ("f".into(), "churn".into(), "churn-3".into());
    WantedTraffic { fleet, model, rollout, sequence, candidate: arm(3), production: arm(2), share }
}
