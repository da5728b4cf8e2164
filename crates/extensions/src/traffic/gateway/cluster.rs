//! An HTTPRoute of a cluster.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::Value;

use super::GatewayConfig;
use super::route::{share, with_weights};
use crate::executor::kubernetes::{client_of, failure, with_cluster};
use crate::http::RequestFailure;
use crate::traffic::{Traffic, WantedTraffic};

/// The adapter.
pub struct GatewayTraffic<'a> {
    /// Where, and which rule.
    pub settings: &'a GatewayConfig,
}

/// The kind of object.
fn http_route() -> ApiResource {
    ApiResource {
        group: "gateway.networking.k8s.io".into(),
        version: "v1".into(),
        api_version: "gateway.networking.k8s.io/v1".into(),
        kind: "HTTPRoute".into(),
        plural: "httproutes".into(),
    }
}

impl GatewayTraffic<'_> {
    /// Works with the route of the cluster on a thread of its own.
    fn with<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Api<DynamicObject>, GatewayConfig) -> Result<T, RequestFailure> + Send + 'static,
    ) -> Result<T, RequestFailure> {
        let settings = self.settings.clone();
        with_cluster(async move || {
            let (client, namespace) = client_of(settings.context.clone(), settings.namespace.clone()).await?;
            work(Api::namespaced_with(client, &namespace, &http_route()), settings).await
        })
    }
}

/// The route as JSON.
async fn read(api: &Api<DynamicObject>, settings: &GatewayConfig) -> Result<Value, RequestFailure> {
    let route = api.get(&settings.route).await.map_err(|e| failure(&e))?;
    serde_json::to_value(&route).map_err(|e| RequestFailure::permanent(e.to_string()))
}

/// What is wrong with a route.
fn wrong(settings: &GatewayConfig, reason: &str) -> RequestFailure {
    RequestFailure::transient(format!("HTTPRoute '{}': {reason}", settings.route))
}

impl Traffic for GatewayTraffic<'_> {
    fn apply(&self, wanted: &WantedTraffic) -> Result<(), RequestFailure> {
        let (own, rest) = wanted.weights();
        let (candidate, production) = (wanted.candidate.name.clone(), wanted.production.name.clone());
        self.with(async move |api, settings| {
            let route = read(&api, &settings).await?;
            let arms = [(&*candidate, own), (&*production, rest)];
            let changed = with_weights(&route, settings.rule.as_deref(), arms).map_err(|e| wrong(&settings, &e))?;
            let Some(changed) = changed else { return Ok(()) };
            let changed: DynamicObject =
                serde_json::from_value(changed).map_err(|e| RequestFailure::permanent(e.to_string()))?;
            // It has the resourceVersion that was read: where the route was changed since, it is refused, and the next
            // tick reads it again.
            api.replace(&settings.route, &PostParams::default(), &changed).await.map(drop).map_err(|e| failure(&e))
        })
    }

    fn share(&self, wanted: &WantedTraffic) -> Result<Option<f64>, RequestFailure> {
        let candidate = wanted.candidate.name.clone();
        self.with(async move |api, settings| {
            let route = read(&api, &settings).await?;
            share(&route, settings.rule.as_deref(), &candidate).map(Some).map_err(|e| wrong(&settings, &e))
        })
    }
}
