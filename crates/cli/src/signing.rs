//! Flags by which approvers sign their answers.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep_common::atomic;
use driftsweep_common::error::Error;
use driftsweep_fleet::Secret;
use driftsweep_ops::retrain::signature::NAMESPACE;
use driftsweep_ops::retrain::{SignedStatement, Statement};
use driftsweep_report::output::Document;
use jiff::Timestamp;

/// Bytes of the largest file that is read: keys, statements and signatures are much smaller.
const MAX_BYTES: u64 = 1 << 20;

/// How an answer is signed.
#[derive(Args)]
pub struct SigningArgs {
    /// Signs the answer with a private key of OpenSSH (Ed25519) that has no passphrase
    #[arg(long, value_name = "KEYFILE", conflicts_with_all = ["statement", "signature"])]
    sign: Option<PathBuf>,
    /// Writes the statement to sign into a new file (- for standard output), without deciding. With --signature: the
    /// statement that was signed
    #[arg(long, value_name = "FILE")]
    statement: Option<PathBuf>,
    /// The signature of the statement: FILE.sig, as `ssh-keygen -Y sign -n approval@driftsweep.io -f KEYFILE FILE` writes it.
    /// KEYFILE may have a passphrase, or be the public key of one in an agent or on a security token
    #[arg(long, value_name = "FILE", requires = "statement")]
    signature: Option<PathBuf>,
}

/// How the answer is signed.
pub enum Signing {
    /// Not signed.
    None,
    /// The statement is written, and no decision is made.
    Write,
    /// Signed with this signature.
    With(SignedStatement),
}

impl SigningArgs {
    /// Signs, or reads what was signed. `statement` makes the statement of the answer at a time by the real clock.
    ///
    /// # Errors
    /// What is wrong with a file, with the remedy and without anything of a private key.
    pub fn prepare(&self, statement: impl FnOnce(Timestamp) -> anyhow::Result<Statement>) -> anyhow::Result<Signing> {
        // To the second: people read it in the statement.
        let clock = Timestamp::now();
        let clock = Timestamp::from_second(clock.as_second()).unwrap_or(clock);
        if let Some(place) = &self.sign {
            let key = private_key(place)?;
            let signed = SignedStatement::sign(&statement(clock)?, &key);
            return Ok(Signing::With(signed.map_err(|reason| wrong("--sign", place, &reason))?));
        }
        let Some(place) = &self.statement else { return Ok(Signing::None) };
        let Some(signature) = &self.signature else {
            write_statement(place, &statement(clock)?)?;
            return Ok(Signing::Write);
        };
        let (text, armoured) = (read("--statement", place)?, read("--signature", signature)?);
        let signed = SignedStatement::new(text, &armoured)
            .map_err(|problem| super::invalid_value("--signature", &problem.to_string()))?;
        signed.is_made(clock).map_err(|reason| wrong("--statement", place, &reason))?;
        Ok(Signing::With(signed))
    }
}

fn wrong(flag: &str, place: &Path, reason: &str) -> anyhow::Error {
    super::invalid_value(&format!("{flag} {}", place.display()), reason)
}

/// Writes a statement, never over an existing file: that may be a key.
fn write_statement(place: &Path, statement: &Statement) -> anyhow::Result<()> {
    if place == Path::new("-") {
        super::write(Document::exact(statement.text().to_owned()))?;
        say!("sign it with: ssh-keygen -Y sign -n {NAMESPACE} -f KEYFILE");
        return Ok(());
    }
    let file = File::options().write(true).create_new(true).open(place);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => wrong("--statement", place, "exists already; name a new file"),
        _ => Error::Write { path: place.into(), source: e }.into(),
    })?;
    let written = file.write_all(statement.text().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| Error::Write { path: place.into(), source })?;
    let place = place.display();
    say!("no decision is made yet. Read {place}, and sign it: ssh-keygen -Y sign -n {NAMESPACE} -f KEYFILE {place}");
    say!("then give this command again with --signature {place}.sig added to it");
    Ok(())
}

/// A private key, if nobody else may read it.
fn private_key(place: &Path) -> anyhow::Result<Secret> {
    let file = open("--sign", place)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(|e| Error::io(place, &e))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let reason = format!("others may read this private key (mode {mode:o}); chmod 600 it");
            return Err(wrong("--sign", place, &reason));
        }
    }
    let text = String::from_utf8(bytes("--sign", place, file)?);
    text.map(Secret::from).map_err(|_| wrong("--sign", place, "is not a private key of OpenSSH"))
}

/// A small file of text.
fn read(flag: &str, place: &Path) -> anyhow::Result<String> {
    let bytes = bytes(flag, place, open(flag, place)?)?;
    String::from_utf8(bytes).map_err(|_| wrong(flag, place, "is not text"))
}

/// Opens a regular file, without ever waiting for a pipe.
fn open(flag: &str, place: &Path) -> anyhow::Result<File> {
    atomic::open_external(place).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidInput => wrong(flag, place, &e.to_string()),
        _ => Error::io(place, &e).into(),
    })
}

/// What a small file holds.
fn bytes(flag: &str, place: &Path, file: File) -> anyhow::Result<Vec<u8>> {
    atomic::read_limited(file, MAX_BYTES).map_err(|e| match e.kind() {
        std::io::ErrorKind::FileTooLarge => wrong(flag, place, &e.to_string()),
        _ => Error::io(place, &e).into(),
    })
}
