//! The ways in which somebody is told: a file, an address, a letter, Kafka.

use std::path::Path;

use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{SmtpTransport, Transport};
use serde_json::json;

use super::text::Letter;
use crate::atomic;
use crate::fleet::{Channel, Email, Secret, Security, Source, Way};
use crate::http::{Failure, Http, Request};

/// Sends letters.
pub trait Sender {
    /// Sends one.
    ///
    /// # Errors
    /// [`Failure`]: after a lasting one it is not sent again.
    fn send(&mut self, letter: &Letter, now: Timestamp) -> Result<(), Failure>;
}

/// The sender of a channel: the one place where it is chosen.
pub fn open<'a>(channel: &'a Channel, http: &'a Http) -> Result<Box<dyn Sender + 'a>, Failure> {
    Ok(match &channel.way {
        Way::File(path) => Box::new(Lines { path }),
        Way::Webhook { url, secret, chat } => Box::new(Webhook {
            url: url.read()?,
            secret: secret.as_ref().map(Source::read).transpose()?,
            chat: *chat,
            http,
        }),
        Way::Email(email) => Box::new(Letters::open(email)?),
        #[cfg(feature = "kafka")]
        Way::Kafka { brokers, topic, settings, secrets } => {
            Box::new(kafka::Kafka::open(brokers, topic, settings, secrets)?)
        }
        #[cfg(not(feature = "kafka"))]
        Way::Kafka { .. } => {
            return Err(Failure::passing("this build has no kafka; build it with `--features kafka`"));
        }
    })
}

/// Lines of JSON at the end of a file.
struct Lines<'a> {
    path: &'a Path,
}

impl Sender for Lines<'_> {
    fn send(&mut self, letter: &Letter, _: Timestamp) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::passing(format!("{}: {e}", self.path.display()));
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        atomic::append(self.path, format!("{}\n", letter.event).as_bytes()).map_err(failed)
    }
}

/// Requests to an address.
struct Webhook<'a> {
    url: Secret,
    secret: Option<Secret>,
    chat: bool,
    http: &'a Http,
}

impl Sender for Webhook<'_> {
    fn send(&mut self, letter: &Letter, now: Timestamp) -> Result<(), Failure> {
        let request = match self.chat {
            true => Request::post(&json!({ "text": letter.text })),
            false => Request::post(&letter.event).with("content-type", "application/cloudevents+json"),
        };
        let request = request.signed(&letter.id, now, self.secret.as_ref());
        // The address may work again later that refuses: only what is too large never fits.
        let answer = self.http.send(&self.url, &[], request)?;
        let lasting = answer.status == 413;
        answer.good().map(drop).map_err(|failure| Failure { lasting, ..failure })
    }
}

/// Letters by an e-mail server.
struct Letters<'a> {
    email: &'a Email,
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl<'a> Letters<'a> {
    fn open(email: &'a Email) -> Result<Self, Failure> {
        let mailbox = |address: &String| {
            address.parse::<Mailbox>().map_err(|e| Failure::passing(format!("'{}': {e}", address.escape_debug())))
        };
        let failed = |e: lettre::transport::smtp::Error| Failure::passing(e.to_string());
        let builder = match email.security {
            Security::Tls => SmtpTransport::relay(&email.host).map_err(failed)?,
            Security::Starttls => SmtpTransport::starttls_relay(&email.host).map_err(failed)?,
            Security::None => SmtpTransport::builder_dangerous(&email.host),
        };
        let builder = builder.port(email.port).timeout(Some(std::time::Duration::from_secs(10)));
        let builder = match (&email.user, &email.password) {
            (Some(user), Some(password)) => {
                builder.credentials(Credentials::new(user.clone(), password.read()?.expose().to_owned()))
            }
            _ => builder,
        };
        Ok(Self {
            email,
            transport: builder.build(),
            from: mailbox(&email.from)?,
            to: email.to.iter().map(mailbox).collect::<Result<_, _>>()?,
        })
    }
}

impl Sender for Letters<'_> {
    fn send(&mut self, letter: &Letter, _: Timestamp) -> Result<(), Failure> {
        let subject: String = letter.text.lines().next().unwrap_or_default().chars().take(200).collect();
        let host = self.from.email.domain();
        let name: String = letter.id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let builder: MessageBuilder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject)
            // The same letter sent again has the same name: most readers show it once.
            .message_id(Some(format!("<driftsweep-{name}@{host}>")))
            .header(ContentType::TEXT_PLAIN);
        let builder = self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        let message = builder.body(letter.text.clone()).map_err(|e| Failure::lasting(e.to_string()))?;
        match self.transport.send(&message) {
            Ok(_) => Ok(()),
            Err(e) => Err(Failure::passing(format!("{}: {}", self.email.host, with_cause(&e)))),
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(feature = "kafka")]
mod kafka {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use rdkafka::ClientContext;
    use rdkafka::config::ClientConfig;
    use rdkafka::error::KafkaError;
    use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

    use super::{Failure, Letter, Sender, Source, Timestamp};

    /// Messages of a topic.
    pub struct Kafka<'a> {
        producer: BaseProducer<Acknowledged>,
        topic: &'a str,
    }

    /// Whether the last message was taken.
    #[derive(Clone, Default)]
    struct Acknowledged(Arc<Mutex<Option<Result<(), String>>>>);

    impl ClientContext for Acknowledged {}

    impl ProducerContext for Acknowledged {
        type DeliveryOpaque = ();

        fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
            if let Ok(mut last) = self.0.lock() {
                *last = Some(result.as_ref().map(drop).map_err(|(e, _)| e.to_string()));
            }
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(10);

    impl<'a> Kafka<'a> {
        pub fn open(
            brokers: &str,
            topic: &'a str,
            settings: &BTreeMap<String, String>,
            secrets: &BTreeMap<String, Source>,
        ) -> Result<Self, Failure> {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
            config.set("message.timeout.ms", "9000").set("socket.timeout.ms", "9000");
            for (key, value) in settings {
                config.set(key, value);
            }
            for (key, source) in secrets {
                config.set(key, source.read()?.expose());
            }
            let producer = config.create_with_context(Acknowledged::default());
            Ok(Self { producer: producer.map_err(|e| Failure::passing(without_value(e)))?, topic })
        }
    }

    /// What went wrong, without the value of a setting, which may be secret.
    fn without_value(error: KafkaError) -> String {
        match error {
            KafkaError::ClientConfig(_, reason, key, _) => {
                format!("setting {key}: {}", reason.split('"').next().unwrap_or(""))
            }
            other => other.to_string(),
        }
    }

    impl Sender for Kafka<'_> {
        fn send(&mut self, letter: &Letter, _: Timestamp) -> Result<(), Failure> {
            let payload = letter.event.to_string();
            let header = Header { key: "content-type", value: Some("application/cloudevents+json") };
            let subject = letter.event["subject"].as_str().unwrap_or_default();
            let record = BaseRecord::to(self.topic).key(subject).payload(&payload);
            let last = self.producer.context().0.clone();
            if let Ok(mut last) = last.lock() {
                *last = None;
            }
            self.producer
                .send(record.headers(OwnedHeaders::new().insert(header)))
                .map_err(|(e, _)| Failure::passing(e.to_string()))?;
            self.producer.flush(TIMEOUT).map_err(|e| Failure::passing(e.to_string()))?;
            let taken = last.lock().map(|mut last| last.take());
            match taken {
                Ok(Some(taken)) => taken.map_err(Failure::passing),
                _ => Err(Failure::passing("no broker has acknowledged it")),
            }
        }
    }
}
