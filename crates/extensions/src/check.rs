//! What is looked at before the night, and what was found.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::http::SigningKey;
use crate::value::{Endpoint, SecretSource};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information.
    Note,
    /// Possibly a mistake; the sweep runs all the same.
    Warning,
    /// The sweep or the training would fail.
    Broken,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub level: Severity,
    /// What it is about: empty for a whole model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What, and the remedy.
    pub reason: String,
}

/// What was found of a model, a channel, or the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Adds a finding, once.
    pub fn add(&mut self, level: Severity, about: &str, reason: impl Into<String>) {
        let finding = Finding { level, about: about.into(), reason: reason.into() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// How many are of a level.
    pub fn of(&self, level: Severity) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    /// Whether anything is broken.
    pub fn is_broken(&self) -> bool {
        self.of(Severity::Broken) > 0
    }
}

/// The secret that holds an address, where it is not in the fleet file.
pub fn address(address: &Endpoint) -> impl Iterator<Item = &SecretSource> {
    address.source().into_iter()
}

/// Checks that secrets exist, and that other users cannot read them.
pub fn secrets<'a>(about: &str, sources: impl Iterator<Item = &'a SecretSource>, findings: &mut Findings) {
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
pub fn signing(about: &str, secret: Option<&SecretSource>, findings: &mut Findings) {
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

/// Whether a file can be written to, or made.
pub fn file(about: &str, file: &Path, findings: &mut Findings) {
    let mut wrong = |reason: &str| findings.add(Severity::Broken, about, format!("{}: {reason}", file.display()));
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => wrong("is a folder; name a file"),
        Ok(found) if !found.is_file() => wrong("is not a regular file; name one"),
        Ok(_) => {
            if let Err(reason) = may_write(file) {
                wrong(&reason);
            }
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => wrong(&e.to_string()),
        Err(_) => {
            if let Some(parent) = file.parent() {
                folder(about, parent, findings);
            }
        }
    }
}

/// Whether a folder can be written to, or made.
pub fn folder(about: &str, folder: &Path, findings: &mut Findings) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    let mut there: PathBuf = absolute.clone();
    // The folder itself, or the one in which it would be made.
    while std::fs::symlink_metadata(&there).is_err() {
        match there.parent() {
            Some(parent) => there = parent.into(),
            None => break,
        }
    }
    let made = if there == absolute { String::new() } else { format!(" (to create {})", folder.display()) };
    if !there.is_dir() {
        findings.add(Severity::Broken, about, format!("{}{made}: is no folder", there.display()));
    } else if let Err(reason) = may_write(&there) {
        findings.add(Severity::Broken, about, format!("{}{made}: {reason}", there.display()));
    }
}

#[cfg(unix)]
fn may_write(path: &Path) -> Result<(), String> {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
        .map_err(|e| format!("cannot be written: {}; change its owner or its permissions", std::io::Error::from(e)))
}

#[cfg(not(unix))]
fn may_write(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.permissions().readonly() => Err("cannot be written; it is read-only".into()),
        Ok(_) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}
