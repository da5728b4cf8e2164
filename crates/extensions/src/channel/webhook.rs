//! Messages as requests to a webhook: `webhook` in the fleet file.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{ChannelSettings, ChannelTable, MessageSender, RenderedMessage};
use crate::check::{self, Findings};
use crate::http::{Http, Request, RequestFailure, SigningKey};
use crate::value::{Endpoint, Secret, SecretSource, Validated};

/// A webhook for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookChannel {
    /// The address.
    pub url: Endpoint,
    /// The secret for signing requests.
    pub secret: Option<SecretSource>,
    /// Whether a chat reads it.
    pub chat: bool,
}

/// The table `webhook` of the fleet file.
#[derive(Clone, Debug, Deserialize)]
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
    /// `chat` (a text for people) or `cloudevent`. By default `chat`.
    format: Option<WebhookFormat>,
}

/// The format of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum WebhookFormat {
    /// A text for people, as chats read it.
    Chat,
    /// The CloudEvent.
    Cloudevent,
}

impl ChannelTable for WebhookTable {
    type Settings = WebhookChannel;

    fn resolve(&self, folder: &Path) -> Validated<WebhookChannel> {
        Ok(WebhookChannel {
            url: Endpoint::of(&self.url, &self.url_env, &self.url_file, folder)?,
            secret: SecretSource::of("secret", &self.secret_env, &self.secret_file, folder)?,
            chat: self.format != Some(WebhookFormat::Cloudevent),
        })
    }
}

impl ChannelSettings for WebhookChannel {
    fn open<'a>(&'a self, http: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure> {
        let key = self.secret.as_ref().map(SigningKey::read).transpose();
        Ok(Box::new(WebhookSender { url: self.url.read()?, key: key?, chat: self.chat, http }))
    }

    fn check(&self, findings: &mut Findings) {
        check::secrets("webhook", check::address(&self.url).chain(&self.secret), findings);
        check::signing("webhook", self.secret.as_ref(), findings);
    }

    fn is_chat(&self) -> bool {
        self.chat
    }
}

/// Requests to a webhook.
struct WebhookSender<'a> {
    url: Secret,
    key: Option<SigningKey>,
    chat: bool,
    http: &'a Http,
}

impl MessageSender for WebhookSender<'_> {
    fn send(&mut self, rendered: &RenderedMessage, now: Timestamp) -> Result<(), RequestFailure> {
        let request = match self.chat {
            true => Request::post(&json!({ "text": rendered.text })),
            false => Request::post(&rendered.event).with("content-type", "application/cloudevents+json"),
        };
        let request = request.signed(&rendered.id, now, self.key.as_ref());
        // An address that refuses may accept later: only a message that is too large is a permanent failure.
        let answer = self.http.send(&self.url, &[], request)?;
        let permanent = answer.status == 413;
        answer.json_if_success().map(drop).map_err(|failure| RequestFailure { permanent, ..failure })
    }
}
