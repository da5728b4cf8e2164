//! Notification channels: who gets which messages, as configured in the fleet file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::checks::Validated;
use crate::secret::{Endpoint, SecretSource, local};
use driftsweep_common::address::{looks_like_address, redacted};

/// A notification channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name, unique in the fleet.
    pub name: String,
    /// The topics it is about.
    pub about: Vec<Topic>,
    /// A template for the text, instead of the built-in one.
    pub template: Option<String>,
    /// How.
    pub target: ChannelTarget,
}

/// A topic of messages.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Topic {
    /// Retrain events.
    Event,
    /// Approval requests, and their answers.
    Approval,
    /// Jobs that were started, and how they ended.
    Job,
    /// Budgets that are nearly used up.
    Budget,
    /// A metric beyond its warning level.
    Warning,
    /// Data that are missing, late, unreadable, of another schema, or too few to judge; a store that was created again.
    Data,
}

impl Topic {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name in fleet files.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The target of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelTarget {
    /// A line of JSON at the end of a file.
    File(PathBuf),
    /// A request to an address: `{"text": …}` for chats such as Slack, or the CloudEvent.
    Webhook {
        /// The address.
        url: Endpoint,
        /// The secret for signing requests.
        secret: Option<SecretSource>,
        /// Whether a chat reads it.
        chat: bool,
    },
    /// An e-mail.
    Email(EmailConfig),
    /// A message of a topic.
    Kafka {
        /// The brokers.
        brokers: String,
        /// The topic.
        topic: String,
        /// Settings of the client.
        settings: BTreeMap<String, String>,
        /// Settings whose values are secret.
        secrets: BTreeMap<String, SecretSource>,
    },
}

/// An e-mail server and its recipients.
#[derive(Clone, Debug, PartialEq)]
pub struct EmailConfig {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept private.
    pub security: EmailSecurity,
    /// Who sends.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// The user there,
    pub user: Option<String>,
    /// and the password.
    pub password: Option<SecretSource>,
}

/// How the connection to an e-mail server is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmailSecurity {
    /// From the first byte.
    Tls,
    /// After STARTTLS on an unencrypted connection.
    Starttls,
    /// Not at all.
    None,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelTable {
    pub(crate) name: String,
    about: Option<Vec<Topic>>,
    template: Option<String>,
    file: Option<String>,
    webhook: Option<WebhookTable>,
    email: Option<EmailTable>,
    kafka: Option<KafkaTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookTable {
    url: Option<String>,
    url_env: Option<String>,
    url_file: Option<String>,
    secret_env: Option<String>,
    secret_file: Option<String>,
    format: Option<WebhookFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WebhookFormat {
    Chat,
    Cloudevent,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmailTable {
    host: String,
    port: Option<u16>,
    security: Option<EmailSecurity>,
    from: String,
    to: Vec<String>,
    user: Option<String>,
    password_env: Option<String>,
    password_file: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KafkaTable {
    brokers: String,
    topic: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    secrets_env: BTreeMap<String, String>,
}

/// Whether a text can be the name or the IP address of a server.
fn is_host(host: &str) -> bool {
    let is_sign = |c: char| c.is_alphanumeric() || "-._".contains(c);
    host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(is_sign))
}

impl ChannelTable {
    /// # Errors
    /// The reason, for an invalid setting.
    pub(crate) fn check(&self, folder: &Path) -> Validated<Channel> {
        let file = self.file.as_ref().map(|file| local("file", file, folder).map(ChannelTarget::File));
        let webhook = self.webhook.as_ref().map(|table| {
            Ok(ChannelTarget::Webhook {
                url: Endpoint::of(&table.url, &table.url_env, &table.url_file, folder)?,
                secret: SecretSource::of("secret", &table.secret_env, &table.secret_file, folder)?,
                chat: table.format != Some(WebhookFormat::Cloudevent),
            })
        });
        let email = self.email.as_ref().map(|table| {
            let security = table.security.unwrap_or(EmailSecurity::Tls);
            let password = SecretSource::of("password", &table.password_env, &table.password_file, folder)?;
            if table.user.is_some() != password.is_some() {
                return Err("user and password_env or password_file go together".to_owned());
            }
            if password.is_some() && security == EmailSecurity::None {
                return Err("security = \"none\" would send the password unencrypted".into());
            }
            if !is_host(&table.host) {
                // It is not repeated: it may contain a password.
                return Err("email: host must be the name of a server, such as smtp.example.org, not a URL; the port \
                            goes into port, and the user and password into user and password_env"
                    .into());
            }
            let is_address = |person: &String| {
                let alone = person.rsplit('<').next().unwrap_or_default();
                looks_like_address(alone)
            };
            if [&table.from].into_iter().chain(&table.to).any(is_address) {
                return Err("email: from and to are the addresses of people, such as ana@example.org".into());
            }
            if table.to.is_empty() {
                return Err("to = [] has no recipient".into());
            }
            let usual = match security {
                EmailSecurity::Tls => 465,
                EmailSecurity::Starttls => 587,
                EmailSecurity::None => 25,
            };
            Ok(ChannelTarget::Email(EmailConfig {
                host: table.host.clone(),
                port: table.port.unwrap_or(usual),
                security,
                from: table.from.clone(),
                to: table.to.clone(),
                user: table.user.clone(),
                password,
            }))
        });
        let kafka = self.kafka.as_ref().map(|table| {
            if let Some(key) = table.settings.keys().find(|key| key.contains("password") || key.contains("secret")) {
                return Err(format!("settings: keep '{key}' in the environment, and name its variable in secrets_env"));
            }
            if table.brokers.split(',').any(|broker| broker.contains('@') || redacted(broker) != broker) {
                return Err(
                    "kafka: brokers are HOST:PORT, separated by commas, without user and password; those go into \
                            settings and secrets_env"
                        .into(),
                );
            }
            let secrets = table.secrets_env.iter().map(|(key, name)| {
                let source = SecretSource::of(key, &Some(name.clone()), &None, folder)?;
                source.map(|source| (key.clone(), source)).ok_or_else(String::new)
            });
            Ok(ChannelTarget::Kafka {
                brokers: table.brokers.clone(),
                topic: table.topic.clone(),
                settings: table.settings.clone(),
                secrets: secrets.collect::<Validated<_>>()?,
            })
        });
        let mut given = [file, webhook, email, kafka].into_iter().flatten();
        let target = match (given.next(), given.next()) {
            (Some(target), None) => target?,
            _ => return Err("give one of file, webhook, email and kafka".into()),
        };
        Ok(Channel {
            name: self.name.clone(),
            about: self.about.clone().unwrap_or_else(|| Topic::ALL.into()),
            template: self.template.clone(),
            target,
        })
    }
}
