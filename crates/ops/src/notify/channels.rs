//! Senders of messages: file, webhook, e-mail, Kafka.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{SmtpTransport, Transport};
use serde_json::json;

use super::text::RenderedMessage;
use crate::http::{Http, Request, RequestFailure, SigningKey};
use driftsweep_common::address::sanitized;
use driftsweep_common::atomic;
use driftsweep_common::error::error_chain;
use driftsweep_common::escape::for_display;
#[cfg(feature = "kafka")]
use driftsweep_fleet::SecretSource;
use driftsweep_fleet::{Channel, ChannelTarget, EmailConfig, EmailSecurity, Secret};

/// Sends messages through a channel.
pub trait MessageSender {
    /// Sends a message.
    ///
    /// # Errors
    /// [`RequestFailure`]: a permanent one is not retried.
    fn send(&mut self, rendered: &RenderedMessage, now: Timestamp) -> Result<(), RequestFailure>;
}

/// The sender of a channel: the only place where it is chosen.
pub fn open<'a>(channel: &'a Channel, http: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure> {
    Ok(match &channel.target {
        ChannelTarget::File(path) => Box::new(FileSender { path }),
        ChannelTarget::Webhook { url, secret, chat } => Box::new(WebhookSender {
            url: url.read()?,
            key: secret.as_ref().map(SigningKey::read).transpose()?,
            chat: *chat,
            http,
        }),
        ChannelTarget::Email(email) => Box::new(EmailSender::open(email)?),
        #[cfg(feature = "kafka")]
        ChannelTarget::Kafka { brokers, topic, settings, secrets } => {
            Box::new(kafka::KafkaSender::open(brokers, topic, settings, secrets)?)
        }
        #[cfg(not(feature = "kafka"))]
        ChannelTarget::Kafka { .. } => {
            return Err(RequestFailure::transient("this build has no kafka; build it with `--features kafka`"));
        }
    })
}

/// Lines of JSON at the end of a file.
struct FileSender<'a> {
    path: &'a Path,
}

impl MessageSender for FileSender<'_> {
    fn send(&mut self, rendered: &RenderedMessage, _: Timestamp) -> Result<(), RequestFailure> {
        let failed = |e: std::io::Error| RequestFailure::transient(format!("{}: {e}", self.path.display()));
        atomic::append(self.path, format!("{}\n", rendered.event).as_bytes()).map_err(failed)
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

/// The time limit for sending an e-mail: connection, encryption, login and text together.
const EMAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// E-mails through a server.
struct EmailSender<'a> {
    email: &'a EmailConfig,
    transport: SmtpTransport,
    /// The time limit for sending one.
    within: Duration,
    /// Secrets that must not be shown if the server repeats them.
    secrets: Vec<String>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl<'a> EmailSender<'a> {
    fn open(email: &'a EmailConfig) -> Result<Self, RequestFailure> {
        let mailbox = |address: &String| {
            address
                .parse::<Mailbox>()
                .map_err(|e| RequestFailure::transient(format!("'{}': {e}", for_display(address))))
        };
        let failed = |e: lettre::transport::smtp::Error| RequestFailure::transient(e.to_string());
        let builder = match email.security {
            EmailSecurity::Tls => SmtpTransport::relay(&email.host).map_err(failed)?,
            EmailSecurity::Starttls => SmtpTransport::starttls_relay(&email.host).map_err(failed)?,
            EmailSecurity::None => SmtpTransport::builder_dangerous(&email.host),
        };
        let builder = builder.port(email.port).timeout(Some(Duration::from_secs(10)));
        let mut secrets = Vec::new();
        let builder = match (&email.user, &email.password) {
            (Some(user), Some(password)) => {
                let password = password.read()?.expose().to_owned();
                // The encodings used by login methods.
                let [alone, pair] = [&password, &format!("\0{user}\0{password}")].map(|text| STANDARD.encode(text));
                secrets = vec![password.clone(), alone, pair];
                builder.credentials(Credentials::new(user.clone(), password))
            }
            _ => builder,
        };
        Ok(Self {
            email,
            transport: builder.build(),
            within: EMAIL_TIMEOUT,
            secrets,
            from: mailbox(&email.from)?,
            to: email.to.iter().map(mailbox).collect::<Result<_, _>>()?,
        })
    }
}

impl MessageSender for EmailSender<'_> {
    fn send(&mut self, rendered: &RenderedMessage, _: Timestamp) -> Result<(), RequestFailure> {
        let subject: String = rendered.text.lines().next().unwrap_or_default().chars().take(200).collect();
        let host = self.from.email.domain();
        let name: String = rendered.id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let builder: MessageBuilder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject)
            // A repeated e-mail has the same message ID: most mail programs show it once.
            .message_id(Some(format!("<driftsweep-{name}@{host}>")))
            .header(ContentType::TEXT_PLAIN);
        let builder = self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        let message = builder.body(rendered.text.clone()).map_err(|e| RequestFailure::permanent(e.to_string()))?;
        // The library's own limit is for each line: a server that sends a line now and then would block forever. The
        // thread is abandoned then.
        let (tx, rx) = std::sync::mpsc::channel();
        let transport = self.transport.clone();
        std::thread::spawn(move || tx.send(transport.send(&message).map(drop).map_err(|e| error_chain(&e))));
        let reason = match rx.recv_timeout(self.within) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => format!("the e-mail was not accepted after {:?}", self.within),
        };
        let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        Err(RequestFailure::transient(format!("{}: {}", self.email.host, sanitized(&reason, &secrets))))
    }
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

    use super::{MessageSender, RenderedMessage, RequestFailure, SecretSource, Timestamp};

    /// Messages of a topic.
    pub struct KafkaSender<'a> {
        producer: BaseProducer<DeliveryReport>,
        topic: &'a str,
    }

    /// Whether the last message was acknowledged.
    #[derive(Clone, Default)]
    struct DeliveryReport(Arc<Mutex<Option<Result<(), String>>>>);

    impl ClientContext for DeliveryReport {}

    impl ProducerContext for DeliveryReport {
        type DeliveryOpaque = ();

        fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
            if let Ok(mut last) = self.0.lock() {
                *last = Some(result.as_ref().map(drop).map_err(|(e, _)| e.to_string()));
            }
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(10);

    impl<'a> KafkaSender<'a> {
        pub fn open(
            brokers: &str,
            topic: &'a str,
            settings: &BTreeMap<String, String>,
            secrets: &BTreeMap<String, SecretSource>,
        ) -> Result<Self, RequestFailure> {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
            config.set("message.timeout.ms", "9000").set("socket.timeout.ms", "9000");
            for (key, value) in settings {
                config.set(key, value);
            }
            for (key, source) in secrets {
                config.set(key, source.read()?.expose());
            }
            let producer = config.create_with_context(DeliveryReport::default());
            Ok(Self { producer: producer.map_err(|e| RequestFailure::transient(without_value(e)))?, topic })
        }
    }

    /// The error without the value of a setting, which may be secret.
    fn without_value(error: KafkaError) -> String {
        match error {
            KafkaError::ClientConfig(_, reason, key, _) => {
                format!("setting {key}: {}", reason.split('"').next().unwrap_or(""))
            }
            other => other.to_string(),
        }
    }

    impl MessageSender for KafkaSender<'_> {
        fn send(&mut self, rendered: &RenderedMessage, _: Timestamp) -> Result<(), RequestFailure> {
            let payload = rendered.event.to_string();
            let header = Header { key: "content-type", value: Some("application/cloudevents+json") };
            let subject = rendered.event["subject"].as_str().unwrap_or_default();
            let record = BaseRecord::to(self.topic).key(subject).payload(&payload);
            let last = self.producer.context().0.clone();
            if let Ok(mut last) = last.lock() {
                *last = None;
            }
            self.producer
                .send(record.headers(OwnedHeaders::new().insert(header)))
                .map_err(|(e, _)| RequestFailure::transient(e.to_string()))?;
            self.producer.flush(TIMEOUT).map_err(|e| RequestFailure::transient(e.to_string()))?;
            let taken = last.lock().map(|mut last| last.take());
            match taken {
                Ok(Some(taken)) => taken.map_err(RequestFailure::transient),
                _ => Err(RequestFailure::transient("no broker has acknowledged it")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    /// A server that begins as one of e-mail does, and goes on as told.
    fn server(then: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || listener.incoming().flatten().for_each(then));
        port
    }

    fn fails(port: u16, folder: &Path) -> String {
        let file = folder.join("password");
        std::fs::write(&file, "hunter2").unwrap();
        let email = EmailConfig {
            host: "127.0.0.1".into(),
            port,
            security: EmailSecurity::None,
            from: "a@example.org".into(),
            to: vec!["b@example.org".into()],
            user: Some("me".into()),
            password: Some(driftsweep_fleet::SecretSource::File(file)),
        };
        let mut letters = EmailSender { within: Duration::from_secs(2), ..EmailSender::open(&email).unwrap() };
        let rendered = RenderedMessage { id: "1".into(), event: json!({}), text: "x".into() };
        let begun = Instant::now();
        let failure = letters.send(&rendered, Timestamp::now()).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(!failure.permanent);
        failure.reason
    }

    #[test]
    fn a_server_that_is_silent_or_slow_holds_up_a_letter_no_longer_than_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let silent = server(|stream| {
            std::thread::sleep(Duration::from_secs(20));
            drop(stream);
        });
        // A line each second, each of them one of a greeting that goes on.
        let slow = server(|mut stream| {
            while stream.write_all(b"220-here\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        for port in [silent, slow] {
            assert!(fails(port, folder.path()).contains("not accepted after 2s"));
        }
    }

    #[test]
    fn a_server_that_repeats_the_login_makes_no_password_be_shown() {
        let folder = tempfile::tempdir().unwrap();
        let port = server(|mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let _ = stream.write_all(b"220 here\r\n");
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                let answer = match line.starts_with("EHLO") {
                    true => "250-here\r\n250 AUTH PLAIN LOGIN\r\n".to_owned(),
                    false => format!("535 hunter2 is wrong in {}\r\n", line.trim()),
                };
                let _ = stream.write_all(answer.as_bytes());
                line.clear();
            }
        });
        let reason = fails(port, folder.path());
        assert!(reason.contains("535") && !reason.contains("hunter2"), "{reason}");
        for secret in ["hunter2", "\0me\0hunter2"] {
            assert!(!reason.contains(&STANDARD.encode(secret)), "{reason}");
        }
    }
}
