//! Messages of a topic of Kafka: `kafka` in the fleet file.

#[cfg(feature = "kafka")]
mod producer;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{ChannelSettings, ChannelTable, MessageSender};
use crate::check::{self, Findings};
use crate::http::{Http, RequestFailure};
use crate::value::{SecretSource, Validated};
use driftsweep_common::address::redacted;

/// A topic of Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaChannel {
    /// The brokers.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Settings of the client.
    pub settings: BTreeMap<String, String>,
    /// Settings whose values are secret.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// The table `kafka` of the fleet file.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KafkaTable {
    /// The brokers: HOST:PORT, separated by commas.
    brokers: String,
    /// The topic.
    topic: String,
    /// Settings of the client, by the names of librdkafka.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// Settings whose values are secret, each with the variable that holds it.
    #[serde(default)]
    secrets_env: BTreeMap<String, String>,
}

impl ChannelTable for KafkaTable {
    type Settings = KafkaChannel;

    fn resolve(&self, folder: &Path) -> Validated<KafkaChannel> {
        if let Some(key) = self.settings.keys().find(|key| key.contains("password") || key.contains("secret")) {
            return Err(format!("settings: keep '{key}' in the environment, and name its variable in secrets_env"));
        }
        if self.brokers.split(',').any(|broker| broker.contains('@') || redacted(broker) != broker) {
            return Err("kafka: brokers are HOST:PORT, separated by commas, without user and password; those go into \
                        settings and secrets_env"
                .into());
        }
        let secrets = self.secrets_env.iter().map(|(key, name)| {
            let source = SecretSource::of(key, &Some(name.clone()), &None, folder)?;
            source.map(|source| (key.clone(), source)).ok_or_else(String::new)
        });
        Ok(KafkaChannel {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            settings: self.settings.clone(),
            secrets: secrets.collect::<Result<_, String>>()?,
        })
    }
}

impl ChannelSettings for KafkaChannel {
    #[cfg(feature = "kafka")]
    fn open<'a>(&'a self, _: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure> {
        Ok(Box::new(producer::KafkaSender::open(self)?))
    }

    #[cfg(not(feature = "kafka"))]
    fn open<'a>(&'a self, _: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure> {
        Err(RequestFailure::transient("this build has no kafka; build it with `--features kafka`"))
    }

    fn check(&self, findings: &mut Findings) {
        check::secrets("kafka", self.secrets.values(), findings);
    }
}
