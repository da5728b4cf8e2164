//! Traffic by the Kubernetes Gateway API: `gateway` in the fleet file. The weights of two backends in one rule of an HTTPRoute are
//! set; all else of the route stays as it is, also rules that match headers.

#[cfg(feature = "kubernetes")]
mod cluster;
#[cfg(any(feature = "kubernetes", test))]
mod route;

use std::path::Path;

use serde::Deserialize;

use super::{Traffic, TrafficAdapterTable, TrafficSettings, TrafficTools};
use crate::check::Findings;
use crate::value::{Validated, text};

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The name of the HTTPRoute.
    pub route: String,
    /// The name of its rule; absent where it has one rule only.
    pub rule: Option<String>,
    /// The namespace; that of the context, or of the pod, if absent.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; the current one, or that of the pod, if absent.
    pub context: Option<String>,
}

/// The table `gateway` of `[model.rollout.traffic]`. The names of the arms are those of Services.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GatewayTable {
    /// The name of the HTTPRoute.
    route: String,
    /// The name of its rule; needed where it has several.
    rule: Option<String>,
    /// The namespace.
    namespace: Option<String>,
    /// The context of the kubeconfig.
    context: Option<String>,
}

impl TrafficAdapterTable for GatewayTable {
    type Settings = GatewayConfig;

    fn resolve(&self, _: &Path) -> Validated<GatewayConfig> {
        text("gateway.route", &self.route)?;
        let Self { route, rule, namespace, context } = self.clone();
        Ok(GatewayConfig { route, rule, namespace, context })
    }
}

impl TrafficSettings for GatewayConfig {
    #[cfg(feature = "kubernetes")]
    fn open<'a>(&'a self, _: TrafficTools<'a>) -> Box<dyn Traffic + 'a> {
        Box::new(cluster::GatewayTraffic { settings: self })
    }

    #[cfg(not(feature = "kubernetes"))]
    fn open<'a>(&'a self, _: TrafficTools<'a>) -> Box<dyn Traffic + 'a> {
        Box::new(UnavailableGateway)
    }

    #[cfg(feature = "kubernetes")]
    fn check(&self, _: &mut Findings) {}

    #[cfg(not(feature = "kubernetes"))]
    fn check(&self, findings: &mut Findings) {
        findings.add(crate::check::Severity::Broken, "rollout.traffic.gateway", UNAVAILABLE);
    }

    /// Services are named by DNS labels.
    fn check_arm(&self, name: &str) -> Validated<()> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match name.chars().all(inner)
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.len() <= 63
        {
            true => Ok(()),
            false => Err(format!(
                "'{name}' cannot be the name of a Service; use lower-case letters, digits and '-', beginning with a letter"
            )),
        }
    }
}

/// What is said in a build that has no Kubernetes.
#[cfg(not(feature = "kubernetes"))]
const UNAVAILABLE: &str = "this build has no kubernetes; build it with `--features kubernetes`";

/// The adapter of such a build.
#[cfg(not(feature = "kubernetes"))]
struct UnavailableGateway;

#[cfg(not(feature = "kubernetes"))]
impl Traffic for UnavailableGateway {
    fn apply(&self, _: &super::WantedTraffic) -> Result<(), crate::http::RequestFailure> {
        Err(crate::http::RequestFailure::permanent(UNAVAILABLE))
    }

    fn share(&self, _: &super::WantedTraffic) -> Result<Option<f64>, crate::http::RequestFailure> {
        Err(crate::http::RequestFailure::permanent(UNAVAILABLE))
    }
}
