//! Secrets: they come from the environment or a file, and are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::Validated;
use driftsweep_common::address::{has_secret_parameter, looks_like_address, redacted as shown_address};
use driftsweep_common::atomic;
use driftsweep_common::error::{Error, Result};
use driftsweep_common::escape::for_display;

/// The largest secret.
const MAX_SECRET_BYTES: u64 = 1 << 20;

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// A variable of the environment.
    Variable(String),
    /// A file.
    File(PathBuf),
}

/// Whether a text can be the name of a variable: letters, digits, and the signs that Kubernetes allows.
fn is_variable(name: &str) -> bool {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.len() <= 256 && name.chars().all(is_sign) && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The name of a variable for messages. A secret that was put in its place by mistake must not be shown, so only what looks
/// like a name is: capital letters, digits and underscores.
fn shown_variable(name: &str) -> String {
    match name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') {
        true => format!("${name}"),
        false => "the variable that is named there (its name is not shown: it may be the secret itself)".into(),
    }
}

/// The path of a file or folder on this machine; relative ones are relative to a folder.
///
/// # Errors
/// That it is an address, which is not repeated.
pub(crate) fn local(key: &str, path: &str, folder: &Path) -> Validated<PathBuf> {
    match looks_like_address(path) {
        true => Err(format!("{key} must be a path on this machine, not an address; give the path")),
        false => Ok(folder.join(path)),
    }
}

/// A secret. It cannot be printed, and its own copy in memory is overwritten when it is dropped.
#[derive(Clone, Debug)]
pub struct Secret {
    text: SecretString,
    /// Whether it is secret: an address in the fleet file is not.
    hidden: bool,
}

impl Secret {
    /// Its value, for the code that needs it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether it must not be shown; an address in the fleet file may be shown.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self { text: text.into(), hidden: true }
    }
}

impl SecretSource {
    /// Of the two keys of a setting, `KEY_env` and `KEY_file`, of which one may be given.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn of(
        key: &str,
        variable: &Option<String>,
        file: &Option<String>,
        folder: &Path,
    ) -> Validated<Option<Self>> {
        match (variable, file) {
            (Some(_), Some(_)) => Err(format!("give one of {key}_env and {key}_file")),
            (Some(name), None) if !is_variable(name) => {
                // It is not repeated: it may be the secret itself.
                Err(format!(
                    "{key}_env is not the name of a variable; give the name, and set the variable to the secret"
                ))
            }
            (Some(name), None) => Ok(Some(Self::Variable(name.clone()))),
            (None, Some(file)) => local(&format!("{key}_file"), file, folder).map(|file| Some(Self::File(file))),
            (None, None) => Ok(None),
        }
    }

    /// Reads it; a trailing line end is removed.
    ///
    /// # Errors
    /// [`Error::BadValue`] naming the variable or file.
    pub fn read(&self) -> Result<Secret> {
        let wrong = |what: String, reason: String| Error::BadValue { what, reason };
        let text = match self {
            Self::Variable(name) => std::env::var(name).map_err(|_| {
                wrong(
                    shown_variable(name),
                    "is not set, or not text; the fleet file says that a secret is there".into(),
                )
            })?,
            Self::File(path) => atomic::read_text(path, MAX_SECRET_BYTES).map_err(|e| {
                let reason = format!("the secret in it cannot be read: {e}");
                wrong(for_display(&path.to_string_lossy()).into_owned(), reason)
            })?,
        };
        let text = text.trim_end_matches(['\n', '\r']);
        match text.is_empty() {
            true => Err(wrong(format!("{self}"), "is empty; the fleet file says that a secret is there".into())),
            false => Ok(Secret::from(text.to_owned())),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(&shown_variable(name)),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A URL, written in the fleet file, or kept as a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// In the fleet file.
    Plain(String),
    /// In the environment or a file.
    Secret(SecretSource),
}

impl Endpoint {
    /// Of the keys `url`, `url_env` and `url_file`, of which one must be given.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn of(
        url: &Option<String>,
        variable: &Option<String>,
        file: &Option<String>,
        folder: &Path,
    ) -> Validated<Self> {
        match (url, SecretSource::of("url", variable, file, folder)?) {
            (Some(_), Some(_)) => Err("give one of url, url_env and url_file".into()),
            (None, Some(source)) => Ok(Self::Secret(source)),
            (Some(url), None) => {
                let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                rest.ok_or("url must begin with https:// or http://")?;
                let place = url.split(['?', '#']).next().unwrap_or_default();
                if shown_address(place) != place {
                    return Err("url holds a user or password; keep such an address in url_env or url_file".into());
                }
                if has_secret_parameter(url) {
                    return Err("url holds a signature or token; keep such an address in url_env or url_file".into());
                }
                Ok(Self::Plain(url.clone()))
            }
            (None, None) => Err("give url, url_env or url_file".into()),
        }
    }

    /// The address itself.
    ///
    /// # Errors
    /// Those of [`SecretSource::read`].
    pub fn read(&self) -> Result<Secret> {
        match self {
            Self::Plain(url) => Ok(Secret { text: url.as_str().into(), hidden: false }),
            Self::Secret(source) => source.read(),
        }
    }

    /// Where it is kept, if it is secret.
    pub fn source(&self) -> Option<&SecretSource> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(source) => Some(source),
        }
    }
}

impl fmt::Display for Endpoint {
    /// Without secrets: the part before the query, or the source of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(url) => f.write_str(&shown_address(url.split(['?', '#']).next().unwrap_or_default())),
            Self::Secret(source) => write!(f, "the address in {source}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_secret_is_read_from_a_regular_file_and_no_pipe_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        std::fs::write(at("secret"), "hunter2\r\n").unwrap();
        std::os::unix::fs::symlink(at("secret"), at("link")).unwrap();
        std::fs::write(at("bytes"), [b'h', 0xff]).unwrap();
        std::fs::write(at("large"), vec![b'x'; MAX_SECRET_BYTES as usize + 1]).unwrap();
        let read = |name: &str| SecretSource::File(at(name)).read();
        for good in ["secret", "link"] {
            assert_eq!(read(good).unwrap().expose(), "hunter2");
        }
        for (bad, words) in [
            ("pipe", "it is not a regular file"),
            (".", "it is a folder"),
            ("bytes", "it is not UTF-8 text"),
            ("large", "more than 1048576 bytes"),
            ("missing", "cannot be read"),
        ] {
            let reason = read(bad).unwrap_err().to_string();
            assert!(reason.contains(words) && reason.contains(bad), "{reason}");
        }
    }

    #[test]
    fn an_address_with_a_secret_in_it_is_refused_in_the_fleet_file_and_not_repeated() {
        let of = |url: &str| Endpoint::of(&Some(url.into()), &None, &None, Path::new(""));
        for url in [
            "https://ana:SECRET@h/x",
            "https://SECRET@h/x",
            "https://ana:SEC/RET@h/x",
            "https://ana:SEC?RET@h/x",
            "https://ana%3ASECRET%40h/x",
            "https://h:SECRET/x",
            "https://h/x?a=1&sig=SECRET",
            "https://h/x?access_token=SECRET",
            "https://h/x#token=SECRET",
            "https:/ana:SECRET@h",
            "HTTPS://ana:SECRET@h",
            "//ana:SECRET@h",
        ] {
            let error = of(url).unwrap_err();
            assert!(!error.contains("SECRET") && error.starts_with("url "), "{url}: {error}");
        }
        for url in ["https://h/x", "http://h:80/x?version=2", "http://[::1]:80/a@b"] {
            assert_eq!(of(url).unwrap(), Endpoint::Plain(url.into()));
        }
        let source = |name: &str| SecretSource::of("url", &Some(name.into()), &None, Path::new(""));
        for name in ["", "https://h/SECRET", "SECRET=x", "1SECRET", "SEC RET", "SEC\0RET", "SÉCRET"] {
            let error = source(name).unwrap_err();
            assert!(!error.contains("RET") && error.contains("url_env is not the name of a variable"), "{error}");
        }
        for name in ["HOOK_URL", "hook_url", "_X", "my.hook-url"] {
            assert_eq!(source(name).unwrap(), Some(SecretSource::Variable(name.into())));
        }
        // A secret may look like the name of a variable.
        for name in ["ghp_SECRET1secret", "xoxb-1234-SECRET", "hunter2SECRET"] {
            let source = source(name).unwrap().unwrap();
            let texts = [source.to_string(), source.read().unwrap_err().to_string()];
            assert!(texts.iter().all(|text| !text.contains("SECRET")), "{texts:?}");
        }
        assert_eq!(SecretSource::Variable("HOOK_URL".into()).to_string(), "$HOOK_URL");
        for path in ["https://h/SECRET", "s3://b/SECRET", "https:/ana:SECRET@h", "//ana:SECRET@h"] {
            let error = local("folder", path, Path::new("/f")).unwrap_err();
            assert!(!error.contains("SECRET") && error.starts_with("folder must be a path"), "{error}");
        }
        assert_eq!(local("folder", "a@b/c:d", Path::new("/f")).unwrap(), Path::new("/f/a@b/c:d"));
    }
}
