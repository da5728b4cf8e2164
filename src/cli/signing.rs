//! Flags by which approvers sign their answers.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use driftsweep::error::Error;
use driftsweep::fleet::Secret;
use driftsweep::output::Document;
use driftsweep::retrain::signature::NAMESPACE;
use driftsweep::retrain::{Signed, Statement};
use jiff::Timestamp;

/// Bytes of the largest file that is read: keys, statements and signatures are much smaller.
const MOST_BYTES: u64 = 1 << 20;

/// How an answer is signed.
#[derive(Args)]
pub struct SigningArgs {
    /// Signs the answer with a private key of OpenSSH (Ed25519) that has no passphrase
    #[arg(long, value_name = "KEYFILE", conflicts_with_all = ["statement", "signature"])]
    sign: Option<PathBuf>,
    /// Writes what is to be signed into a new file (- for standard output), and decides nothing. With --signature: what was
    /// signed
    #[arg(long, value_name = "FILE")]
    statement: Option<PathBuf>,
    /// The signature of the statement: FILE.sig, as `ssh-keygen -Y sign -n approval@driftsweep.io -f KEYFILE FILE` writes it.
    /// KEYFILE may have a passphrase, or be the public key of one in an agent or on a security token
    #[arg(long, value_name = "FILE", requires = "statement")]
    signature: Option<PathBuf>,
}

/// What is to be done about a signature.
pub enum Signing {
    /// Nothing: the answer is handed in as it is.
    None,
    /// The statement is written, and nothing decided.
    Write,
    /// The answer is handed in with it.
    With(Signed),
}

impl SigningArgs {
    /// Signs, or reads what was signed. `statement` makes the statement of the answer.
    ///
    /// # Errors
    /// What is wrong with a file, with the remedy and without anything of a private key.
    pub fn prepare(
        &self,
        clock: Timestamp,
        statement: impl FnOnce() -> anyhow::Result<Statement>,
    ) -> anyhow::Result<Signing> {
        if let Some(place) = &self.sign {
            let key = private_key(place)?;
            let signed = Signed::sign(&statement()?, &key);
            return Ok(Signing::With(signed.map_err(|reason| wrong("--sign", place, &reason))?));
        }
        let Some(place) = &self.statement else { return Ok(Signing::None) };
        let Some(signature) = &self.signature else {
            write_statement(place, &statement()?)?;
            return Ok(Signing::Write);
        };
        let (text, armoured) = (read("--statement", place)?, read("--signature", signature)?);
        let signed = Signed::new(text, &armoured).map_err(|problem| super::bad("--signature", &problem.to_string()))?;
        signed.is_made(clock).map_err(|reason| wrong("--statement", place, &reason))?;
        Ok(Signing::With(signed))
    }
}

fn wrong(flag: &str, place: &Path, reason: &str) -> anyhow::Error {
    super::bad(&format!("{flag} {}", place.display()), reason)
}

/// Writes a statement, never over what is there: that may be a key.
fn write_statement(place: &Path, statement: &Statement) -> anyhow::Result<()> {
    if place == Path::new("-") {
        super::write(Document::exact(statement.text().to_owned()))?;
        say!("sign it with: ssh-keygen -Y sign -n {NAMESPACE} -f KEYFILE");
        return Ok(());
    }
    let file = File::options().write(true).create_new(true).open(place);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => wrong("--statement", place, "is there already; name a new file"),
        _ => Error::Write { path: place.into(), source: e }.into(),
    })?;
    let written = file.write_all(statement.text().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| Error::Write { path: place.into(), source })?;
    let place = place.display();
    say!("nothing is decided yet. Read {place}, and sign it: ssh-keygen -Y sign -n {NAMESPACE} -f KEYFILE {place}");
    say!("then give this command again with --signature {place}.sig added to it");
    Ok(())
}

/// A private key, if nobody else may read it.
fn private_key(place: &Path) -> anyhow::Result<Secret> {
    let unreadable = |e: &std::io::Error| anyhow::Error::from(Error::io(place, e));
    let mut file = File::open(place).map_err(|e| unreadable(&e))?;
    let found = file.metadata().map_err(|e| unreadable(&e))?;
    if found.is_dir() {
        return Err(wrong("--sign", place, "is a folder; give the file of the key"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let reason = format!("others may read this private key (mode {mode:o}); chmod 600 it");
            return Err(wrong("--sign", place, &reason));
        }
    }
    let mut text = String::new();
    let read = Read::by_ref(&mut file).take(MOST_BYTES).read_to_string(&mut text);
    match read {
        Ok(_) => Ok(Secret::from(text)),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(wrong("--sign", place, "is not a private key of OpenSSH"))
        }
        Err(e) => Err(unreadable(&e)),
    }
}

/// A small file of text.
fn read(flag: &str, place: &Path) -> anyhow::Result<String> {
    let unreadable = |e: &std::io::Error| anyhow::Error::from(Error::io(place, e));
    let file = File::open(place).map_err(|e| unreadable(&e))?;
    let mut text = String::new();
    match file.take(MOST_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(wrong(flag, place, "is not text")),
        Err(e) => Err(unreadable(&e)),
    }
}
