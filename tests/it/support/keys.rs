//! Keys of OpenSSH, as approvers have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use driftsweep_ops::retrain::signature::NAMESPACE;
use tempfile::TempDir;

use super::needs::ssh_keygen;
use super::output::all_output;

/// Keys of OpenSSH, made by its own programs.
pub struct Keys {
    folder: TempDir,
}

impl Keys {
    /// Keys without a passphrase; `None` where there is no `ssh-keygen`.
    pub fn new(names: &[&str]) -> Option<Self> {
        if !ssh_keygen() {
            return None;
        }
        let keys = Self { folder: TempDir::new().unwrap() };
        for name in names {
            keys.make(name, "ed25519", "");
        }
        Some(keys)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn make(&self, name: &str, kind: &str, passphrase: &str) {
        let comment = format!("{name}@laptop");
        self.ssh("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", &comment, "-f", &self.shown(name)]);
    }

    /// A program of OpenSSH, which is told the passphrase if it asks: what it prints.
    pub fn ssh(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(output.status.success(), "{program} {args:?}: {}", all_output(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SSH_ASKPASS", self.path("askpass")).env("SSH_ASKPASS_REQUIRE", "force");
        command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        command
    }

    pub fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// As `ssh-keygen` shows it.
    pub fn fingerprint(&self, name: &str) -> String {
        let line = self.ssh("ssh-keygen", &["-l", "-f", &self.shown(&format!("{name}.pub"))]);
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Signs a file as the messages of driftsweep say: the file of the signature.
    pub fn sign(&self, key: &str, statement: &Path) -> String {
        let statement = statement.display().to_string();
        let _ = fs::remove_file(format!("{statement}.sig"));
        self.ssh("ssh-keygen", &["-q", "-Y", "sign", "-n", NAMESPACE, "-f", &self.shown(key), &statement]);
        format!("{statement}.sig")
    }
}
