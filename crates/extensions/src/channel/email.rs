//! Messages as e-mails: `email` in the fleet file.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{SmtpTransport, Transport};
use serde::Deserialize;

use super::{ChannelSettings, ChannelTable, MessageSender, RenderedMessage};
use crate::check::{self, Findings};
use crate::http::{Http, RequestFailure};
use crate::value::{SecretSource, Validated};
use driftsweep_common::address::{looks_like_address, sanitized};
use driftsweep_common::error::error_chain;
use driftsweep_common::escape::for_display;

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EmailSecurity {
    /// From the first byte.
    Tls,
    /// After STARTTLS on an unencrypted connection.
    Starttls,
    /// Not at all.
    None,
}

/// The table `email` of the fleet file.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EmailTable {
    /// The server.
    host: String,
    /// Its port. By default 465 with `tls`, 587 with `starttls`, 25 with `none`.
    port: Option<u16>,
    /// How the connection is kept private. By default `tls`.
    security: Option<EmailSecurity>,
    /// Who sends.
    from: String,
    /// The recipients.
    to: Vec<String>,
    /// The user.
    user: Option<String>,
    /// The variable with the password.
    password_env: Option<String>,
    /// The file with the password.
    password_file: Option<String>,
}

/// Whether a text can be the name or the IP address of a server.
fn is_host(host: &str) -> bool {
    let is_sign = |c: char| c.is_alphanumeric() || "-._".contains(c);
    host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(is_sign))
}

impl ChannelTable for EmailTable {
    type Settings = EmailConfig;

    fn resolve(&self, folder: &Path) -> Validated<EmailConfig> {
        let security = self.security.unwrap_or(EmailSecurity::Tls);
        let password = SecretSource::of("password", &self.password_env, &self.password_file, folder)?;
        if self.user.is_some() != password.is_some() {
            return Err("user and password_env or password_file go together".to_owned());
        }
        if password.is_some() && security == EmailSecurity::None {
            return Err("security = \"none\" would send the password unencrypted".into());
        }
        if !is_host(&self.host) {
            // It is not repeated: it may contain a password.
            return Err("email: host must be the name of a server, such as smtp.example.org, not a URL; the port \
                        goes into port, and the user and password into user and password_env"
                .into());
        }
        let is_address = |person: &String| {
            let alone = person.rsplit('<').next().unwrap_or_default();
            looks_like_address(alone)
        };
        if [&self.from].into_iter().chain(&self.to).any(is_address) {
            return Err("email: from and to are the addresses of people, such as ana@example.org".into());
        }
        if self.to.is_empty() {
            return Err("to = [] has no recipient".into());
        }
        let usual = match security {
            EmailSecurity::Tls => 465,
            EmailSecurity::Starttls => 587,
            EmailSecurity::None => 25,
        };
        Ok(EmailConfig {
            host: self.host.clone(),
            port: self.port.unwrap_or(usual),
            security,
            from: self.from.clone(),
            to: self.to.clone(),
            user: self.user.clone(),
            password,
        })
    }
}

impl ChannelSettings for EmailConfig {
    fn open<'a>(&'a self, _: &'a Http) -> Result<Box<dyn MessageSender + 'a>, RequestFailure> {
        Ok(Box::new(EmailSender::open(self)?))
    }

    fn check(&self, findings: &mut Findings) {
        check::secrets("email", self.password.iter(), findings);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
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
            password: Some(SecretSource::File(file)),
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
