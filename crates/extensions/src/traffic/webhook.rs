//! Traffic by a webhook: `webhook` in the fleet file. The share is sent with POST; a GET of the same address answers with it.

use std::path::Path;

use serde::Deserialize;

use super::{Traffic, TrafficAdapterTable, TrafficSettings, TrafficTools, WantedTraffic};
use crate::check::{self, Findings};
use crate::http::{Request, RequestFailure, Response, SigningKey};
use crate::value::{Endpoint, SecretSource, Validated};

/// A webhook that divides traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The address.
    pub url: Endpoint,
    /// The secret for signing requests.
    pub secret: Option<SecretSource>,
    /// Whether it answers a GET with the share that is set.
    pub answers: bool,
}

/// The table `webhook` of `[model.rollout.traffic]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WebhookTable {
    /// The address.
    url: Option<String>,
    /// The variable with the address.
    url_env: Option<String>,
    /// The file with the address.
    url_file: Option<String>,
    /// The variable with the secret that signs requests.
    secret_env: Option<String>,
    /// The file with that secret.
    secret_file: Option<String>,
    /// Whether a GET of the address, with the name of the model below it, answers `{ "share": … }`. By default not.
    #[serde(default)]
    answers: bool,
}

impl TrafficAdapterTable for WebhookTable {
    type Settings = WebhookConfig;

    fn resolve(&self, folder: &Path) -> Validated<WebhookConfig> {
        Ok(WebhookConfig {
            url: Endpoint::of(&self.url, &self.url_env, &self.url_file, folder)?,
            secret: SecretSource::of("secret", &self.secret_env, &self.secret_file, folder)?,
            answers: self.answers,
        })
    }
}

impl TrafficSettings for WebhookConfig {
    fn open<'a>(&'a self, tools: TrafficTools<'a>) -> Box<dyn Traffic + 'a> {
        Box::new(WebhookTraffic { webhook: self, tools })
    }

    fn check(&self, findings: &mut Findings) {
        check::secrets("rollout.traffic.webhook", check::address(&self.url).chain(&self.secret), findings);
        check::signing("rollout.traffic.webhook", self.secret.as_ref(), findings);
    }
}

/// The adapter.
pub struct WebhookTraffic<'a> {
    webhook: &'a WebhookConfig,
    tools: TrafficTools<'a>,
}

impl WebhookTraffic<'_> {
    fn send(&self, below: &[&str], request: Request, wanted: &WantedTraffic) -> Result<Response, RequestFailure> {
        let key = self.webhook.secret.as_ref().map(SigningKey::read).transpose()?;
        let request =
            request.with("idempotency-key", &wanted.key()).signed(&wanted.key(), self.tools.now, key.as_ref());
        self.tools.http.send(&self.webhook.url.read()?, below, request)
    }
}

impl Traffic for WebhookTraffic<'_> {
    fn apply(&self, wanted: &WantedTraffic) -> Result<(), RequestFailure> {
        self.send(&[], Request::post(&wanted.json()), wanted)?.json_if_success().map(drop)
    }

    fn share(&self, wanted: &WantedTraffic) -> Result<Option<f64>, RequestFailure> {
        if !self.webhook.answers {
            return Ok(None);
        }
        let answer = match self.send(&[&wanted.model], Request::get(), wanted)? {
            // It knows nothing of the model yet.
            Response { status: 404, .. } => return Ok(Some(0.0)),
            answer => answer.json_if_success()?,
        };
        match answer["share"].as_f64() {
            Some(share) if (0.0..=1.0).contains(&share) => Ok(Some(share)),
            _ => Err(RequestFailure::transient("its answer has no \"share\" from 0 to 1")),
        }
    }
}
