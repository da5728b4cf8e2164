//! Executors and notification channels: programs, addresses, secrets and templates.

use std::path::Path;

use driftsweep_fleet::{Channel, ChannelTarget, CommandConfig, Endpoint, ExecutorConfig, Fleet, SecretSource};
use driftsweep_ops::executor::check;
use driftsweep_ops::http::{Http, SigningKey};
use driftsweep_ops::notify;
use jiff::Timestamp;

use super::finding::{Findings, Severity};
use super::fleet::ChannelCheck;
use super::locations;

/// Checks the executor of a model.
pub fn executor(executor: &ExecutorConfig, findings: &mut Findings) {
    match executor {
        ExecutorConfig::Command(command) => {
            let path = super::super::variable("PATH").unwrap_or_default();
            match check::command(command, &path) {
                Err(reason) => findings.add(Severity::Broken, "retrain", reason),
                Ok(()) => missing_file_arguments(command)
                    .into_iter()
                    .for_each(|reason| findings.add(Severity::Warning, "retrain", reason)),
            }
            for name in check::unset(command) {
                let reason = format!("the variable {name} is not set here, so the command does not get it; set it");
                findings.add(Severity::Warning, "retrain.env", reason);
            }
        }
        ExecutorConfig::Webhook(webhook) => {
            secrets("retrain.webhook", address(&webhook.url).chain(&webhook.secret), findings);
            signing("retrain.webhook", webhook.secret.as_ref(), findings);
            if let Some(results) = &webhook.results {
                locations::folder("retrain.webhook.results", results, findings);
            }
        }
        ExecutorConfig::Airflow(airflow) => {
            let sources = address(&airflow.url).chain(&airflow.token).chain(&airflow.password);
            secrets("retrain.airflow", sources, findings);
        }
        ExecutorConfig::Kubernetes(kubernetes) => {
            if let Err(reason) = check::manifest(kubernetes) {
                findings.add(Severity::Broken, "retrain.kubernetes", reason);
            }
        }
    }
}

/// File extensions that arguments of commands may have: scripts, and the files they read.
const FILES: [&str; 18] = [
    "py", "sh", "bash", "r", "jl", "js", "ts", "pl", "rb", "lua", "jar", "sql", "ipynb", "yaml", "yml", "toml", "json",
    "ini",
];

/// Arguments of a command that look like files of its folder and are not there. Only the program knows their purpose,
/// so it may be correct: a warning.
fn missing_file_arguments(command: &CommandConfig) -> Vec<String> {
    let folder = Path::new(".").join(&command.folder);
    let is_named = |argument: &str| {
        let path = Path::new(argument);
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        // Flags, shell syntax, addresses, patterns and placeholders.
        let is_other = argument.starts_with('-')
            || argument.contains("://")
            || argument.contains(|c| "{}*?$=;|&<>' \t\n\"".contains(c));
        !is_other && FILES.contains(&&*ending)
    };
    let named = command.arguments.iter().skip(1).filter(|argument| is_named(argument));
    let lost = named.filter(|argument| !folder.join(argument).exists());
    lost.map(|argument| {
        let (argument, folder) = (argument, folder.display());
        format!("argument '{argument}': no such file in {folder}, where the command is started; correct it, or set retrain.folder")
    })
    .collect()
}

fn address(address: &Endpoint) -> impl Iterator<Item = &SecretSource> {
    address.source().into_iter()
}

/// Checks that secrets exist, and that other users cannot read them.
fn secrets<'a>(about: &str, sources: impl Iterator<Item = &'a SecretSource>, findings: &mut Findings) {
    for source in sources {
        if let Err(error) = source.read() {
            findings.add(Severity::Broken, about, error.to_string());
        }
        #[cfg(unix)]
        if let SecretSource::File(path) = source
            && let Ok(found) = std::fs::metadata(path)
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777;
            if mode & 0o007 != 0 {
                let place = path.display();
                findings.add(
                    Severity::Warning,
                    about,
                    format!("{place}: every user of this machine may read this secret (mode {mode:o}); chmod 600 it"),
                );
            }
        }
    }
}

/// Checks that requests can be signed with a secret, and that it is as long as receivers may ask for.
fn signing(about: &str, secret: Option<&SecretSource>, findings: &mut Findings) {
    let Some(source) = secret else { return };
    match SigningKey::read(source) {
        Err(failure) if failure.permanent => findings.add(Severity::Broken, about, failure.reason),
        // A missing secret was reported before.
        Err(_) => {}
        Ok(key) if SigningKey::LENGTHS.contains(&key.bytes()) => {}
        Ok(key) => {
            let (least, most) = (SigningKey::LENGTHS.start(), SigningKey::LENGTHS.end());
            let bytes = key.bytes();
            let reason =
                format!("{source}: the secret has {bytes} bytes; Standard Webhooks recommends {least} to {most}");
            findings.add(Severity::Warning, about, reason);
        }
    }
}

/// Checks a channel, and sends it a test message if a time is given.
pub fn channel(channel: &Channel, fleet: &Fleet, http: &Http, tell: Option<Timestamp>) -> ChannelCheck {
    let mut findings = Findings::default();
    match &channel.target {
        ChannelTarget::File(path) => {
            locations::file("file", path, &mut findings);
        }
        ChannelTarget::Webhook { url, secret, .. } => {
            secrets("webhook", address(url).chain(secret), &mut findings);
            signing("webhook", secret.as_ref(), &mut findings);
        }
        ChannelTarget::Email(email) => secrets("email", email.password.iter(), &mut findings),
        ChannelTarget::Kafka { secrets: sources, .. } => secrets("kafka", sources.values(), &mut findings),
    }
    if !findings.is_broken()
        && let Err(failure) = notify::check::settings(channel, http)
    {
        findings.add(Severity::Broken, "", failure.reason);
    }
    for slip in notify::check::template(channel, fleet) {
        let level = if slip.everywhere { Severity::Broken } else { Severity::Warning };
        findings.add(level, "template", slip.reason);
    }
    let test = tell.map(|now| match notify::check::send_test(channel, fleet, http, now) {
        Ok(()) => "answered",
        Err(failure) => {
            findings.add(Severity::Broken, "test message", failure.reason);
            "failed"
        }
    });
    ChannelCheck { name: channel.name.clone(), test, findings }
}
