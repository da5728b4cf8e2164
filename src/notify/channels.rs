//! The ways in which somebody is told: a file, an address, a letter, Kafka.

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

use super::text::Letter;
use crate::address::said;
use crate::atomic;
use crate::error::whole;
use crate::escape::shown;
#[cfg(feature = "kafka")]
use crate::fleet::Source;
use crate::fleet::{Channel, Email, Secret, Security, Way};
use crate::http::{Failure, Http, Request, SigningKey};

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
            key: secret.as_ref().map(SigningKey::read).transpose()?,
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
        atomic::append(self.path, format!("{}\n", letter.event).as_bytes()).map_err(failed)
    }
}

/// Requests to an address.
struct Webhook<'a> {
    url: Secret,
    key: Option<SigningKey>,
    chat: bool,
    http: &'a Http,
}

impl Sender for Webhook<'_> {
    fn send(&mut self, letter: &Letter, now: Timestamp) -> Result<(), Failure> {
        let request = match self.chat {
            true => Request::post(&json!({ "text": letter.text })),
            false => Request::post(&letter.event).with("content-type", "application/cloudevents+json"),
        };
        let request = request.signed(&letter.id, now, self.key.as_ref());
        // The address may work again later that refuses: only what is too large never fits.
        let answer = self.http.send(&self.url, &[], request)?;
        let lasting = answer.status == 413;
        answer.good().map(drop).map_err(|failure| Failure { lasting, ..failure })
    }
}

/// A letter is sent within this time, or it has failed: connection, encryption, login and text, however slowly they go.
const LETTER: Duration = Duration::from_secs(30);

/// Letters by an e-mail server.
struct Letters<'a> {
    email: &'a Email,
    transport: SmtpTransport,
    /// How long sending one may take.
    within: Duration,
    /// What must not be shown, should the server repeat it.
    secrets: Vec<String>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl<'a> Letters<'a> {
    fn open(email: &'a Email) -> Result<Self, Failure> {
        let mailbox = |address: &String| {
            address.parse::<Mailbox>().map_err(|e| Failure::passing(format!("'{}': {e}", shown(address))))
        };
        let failed = |e: lettre::transport::smtp::Error| Failure::passing(e.to_string());
        let builder = match email.security {
            Security::Tls => SmtpTransport::relay(&email.host).map_err(failed)?,
            Security::Starttls => SmtpTransport::starttls_relay(&email.host).map_err(failed)?,
            Security::None => SmtpTransport::builder_dangerous(&email.host),
        };
        let builder = builder.port(email.port).timeout(Some(Duration::from_secs(10)));
        let mut secrets = Vec::new();
        let builder = match (&email.user, &email.password) {
            (Some(user), Some(password)) => {
                let password = password.read()?.expose().to_owned();
                // As the ways of logging in write them.
                let [alone, pair] = [&password, &format!("\0{user}\0{password}")].map(|text| STANDARD.encode(text));
                secrets = vec![password.clone(), alone, pair];
                builder.credentials(Credentials::new(user.clone(), password))
            }
            _ => builder,
        };
        Ok(Self {
            email,
            transport: builder.build(),
            within: LETTER,
            secrets,
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
        // The library's own limit is for each line: a server that sends one now and then is waited for without end. The thread
        // is left behind then.
        let (tell, told) = std::sync::mpsc::channel();
        let transport = self.transport.clone();
        std::thread::spawn(move || tell.send(transport.send(&message).map(drop).map_err(|e| whole(&e))));
        let reason = match told.recv_timeout(self.within) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => format!("the letter is not taken after {:?}", self.within),
        };
        let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        Err(Failure::passing(format!("{}: {}", self.email.host, said(&reason, &secrets))))
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
        let email = Email {
            host: "127.0.0.1".into(),
            port,
            security: Security::None,
            from: "a@example.org".into(),
            to: vec!["b@example.org".into()],
            user: Some("me".into()),
            password: Some(crate::fleet::Source::File(file)),
        };
        let mut letters = Letters { within: Duration::from_secs(2), ..Letters::open(&email).unwrap() };
        let letter = Letter { id: "1".into(), event: json!({}), text: "x".into() };
        let begun = Instant::now();
        let failure = letters.send(&letter, Timestamp::now()).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(!failure.lasting);
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
            assert!(fails(port, folder.path()).contains("not taken after 2s"));
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
