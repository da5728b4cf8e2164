//! Channels: where messages go. Each has its keys in the fleet file beside what it does.

pub mod email;
pub mod file;
pub mod kafka;
pub mod webhook;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};

use crate::check::Findings;
use crate::http::{Http, RequestFailure};
use crate::value::{Validated, listed};

macro_rules! channels {
    ($($(#[$doc:meta])* $variant:ident($key:ident): $table:ty => $settings:ty,)*) => {
        /// The target of a channel, with its settings.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ChannelTarget {
            $($(#[$doc])* $variant($settings),)*
        }

        impl ChannelTarget {
            /// The names of all targets: their keys in the fleet file.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($key)),*];

            /// The name in the fleet file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($key),)*
                }
            }

            /// What it does with its settings.
            pub fn settings(&self) -> &dyn ChannelSettings {
                match self {
                    $(Self::$variant(settings) => settings,)*
                }
            }
        }

        /// A table `[[notify]]` of the fleet file.
        #[derive(Clone, Debug, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct NotifyTable {
            /// The name of the channel.
            pub name: String,
            /// What messages are about. By default everything.
            about: Option<Vec<Topic>>,
            /// A template for the text, in place of the built-in one.
            template: Option<String>,
            $($(#[$doc])* $key: Option<$table>,)*
        }

        impl NotifyTable {
            /// The targets that it names.
            fn targets(&self, folder: &Path) -> Vec<Validated<ChannelTarget>> {
                let named = [$(
                    self.$key.as_ref().map(|table| table.resolve(folder).map(ChannelTarget::$variant)),
                )*];
                named.into_iter().flatten().collect()
            }
        }
    };
}

// The channels: the one list. Each has a name, which is its key in the fleet file, its table under that key, and its
// settings.
channels! {
    /// A line of JSON at the end of a file.
    File(file): file::FileTable => file::FileChannel,
    /// A request to an address: `{"text": …}` for chats such as Slack, or the CloudEvent.
    Webhook(webhook): webhook::WebhookTable => webhook::WebhookChannel,
    /// An e-mail.
    Email(email): email::EmailTable => email::EmailConfig,
    /// A message of a topic.
    Kafka(kafka): kafka::KafkaTable => kafka::KafkaChannel,
}

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

impl NotifyTable {
    /// The channel, checked; relative paths are relative to a folder.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    pub fn check(&self, folder: &Path) -> Validated<Channel> {
        let mut targets = self.targets(folder).into_iter();
        let target = match (targets.next(), targets.next()) {
            (Some(target), None) => target?,
            _ => return Err(format!("give one of {}", listed(ChannelTarget::NAMES, "and"))),
        };
        Ok(Channel {
            name: self.name.clone(),
            about: self.about.clone().unwrap_or_else(|| Topic::ALL.into()),
            template: self.template.clone(),
            target,
        })
    }
}

/// The table of a channel's target in the fleet file.
pub trait ChannelTable {
    /// What it gives.
    type Settings: ChannelSettings;

    /// The settings, checked; relative paths are relative to a folder.
    ///
    /// # Errors
    /// The reason, for an invalid setting.
    fn resolve(&self, folder: &Path) -> Validated<Self::Settings>;
}

/// The settings of a channel's target, and what it does with them.
pub trait ChannelSettings {
    /// The sender, after its secrets, addresses and settings are read; nothing is sent.
    ///
    /// # Errors
    /// [`RequestFailure`] with the reason.
    fn open<'a>(&'a self, http: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure>;

    /// Checks before the night what [`ChannelSettings::open`] does not.
    fn check(&self, findings: &mut Findings);

    /// Whether a chat reads the text, in which a name from data could be read as a mention or a link.
    fn is_chat(&self) -> bool {
        false
    }
}

/// A rendered message.
pub struct RenderedMessage {
    /// Its id: the same when it is sent again.
    pub id: String,
    /// The CloudEvent.
    pub event: Value,
    /// Its text; the first line is the subject.
    pub text: String,
}

/// Sends messages through a channel.
pub trait MessageSender {
    /// Sends a message.
    ///
    /// # Errors
    /// [`RequestFailure`]: a permanent one is not retried.
    fn send(&mut self, rendered: &RenderedMessage, now: Timestamp) -> Result<(), RequestFailure>;
}
