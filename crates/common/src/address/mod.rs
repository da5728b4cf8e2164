//! Addresses of objects: distinguished from file paths, parsed, and shown without the secrets in them.
//!
//! A signed link holds its permission in the query (`?X-Amz-Signature=…`, `?sig=…`), and an address may hold a password
//! before the host. A [`Location`] is never printed with them; [`sanitized`] removes them from text that comes from
//! outside. Secrets are removed from addresses in one place, `cut`.

mod masking;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use masking::{Scope, cut};

const SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https"];

/// Shown in place of a secret.
pub const REDACTED: &str = "…";

/// A path or an address as it was given. It is always printed without its query, user and password.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(String);

impl Location {
    /// The full text, for the code that opens it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text that identifies it and may be stored: what is shown, and for an address with a secret also a part of its
    /// hash.
    pub fn identity(&self) -> String {
        match redacted(&self.0) {
            shown if shown == self.0 => shown,
            shown => {
                let hash = Sha256::digest(self.0.as_bytes());
                format!("{shown}#{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
            }
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", redacted(&self.0))
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&redacted(&self.0))
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Location {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<&Path> for Location {
    /// For messages only: a name that is not UTF-8 is changed by it.
    fn from(path: &Path) -> Self {
        Self(path.to_string_lossy().into_owned())
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

/// Whether a path is the address of an object.
pub fn is_remote(path: impl AsRef<Path>) -> bool {
    path.as_ref().to_str().and_then(scheme).is_some()
}

fn scheme(address: &str) -> Option<&str> {
    address.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| SCHEMES.contains(scheme))
}

/// The message for a path that is not text, with the remedy.
const NOT_TEXT: &str = "the path is not UTF-8 text, so it cannot be stored or passed on; rename the file or the \
                        folder, or choose another one (--state for the state folder)";

/// A path as text, for arguments, variables, JSON and the store: it must be complete there, or it would name another
/// file.
///
/// # Errors
/// That it is not UTF-8, and the remedy.
pub fn as_text(path: &Path) -> Result<&str, &'static str> {
    path.to_str().ok_or(NOT_TEXT)
}

/// The part that says where the object is, and its query without the `?`; paths of files have none. In an address of a
/// store (`s3://`) a `?` is a wildcard, unless the name of a parameter and `=` follow it.
pub fn split_query(text: &str) -> (&str, Option<&str>) {
    let Some(scheme) = scheme(text) else { return (text, None) };
    let is_parameter = |query: &str| {
        let name = query.split('=').next().unwrap_or_default();
        query.len() > name.len()
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match text.split_once('?') {
        Some((place, query)) if scheme.starts_with("http") || is_parameter(query) => (place, Some(query)),
        _ => (text, None),
    }
}

/// Whether a path or an address is a pattern for several files: it holds `*`, `?` or `[`, and no query.
pub fn is_pattern(text: &str) -> bool {
    split_query(text).1.is_none() && text.contains(['*', '?', '['])
}

/// What follows the last dot of the name of a file or object, in lower case.
pub fn extension(path: impl AsRef<Path>) -> Option<String> {
    let path = path.as_ref();
    let place = path.to_str().map_or(path, |text| Path::new(split_query(text).0));
    Some(place.extension()?.to_str()?.to_ascii_lowercase())
}

/// A path, an address or a snapshot as it was given, for display: without the query and without the user and the
/// password. Addresses of schemes that this program cannot read hold secrets, too, and so do paths that an address
/// became part of.
pub fn redacted(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    let shown = cut(&text, Scope::Whole);
    // The parameters of a connection: `host=… password=…`, `AccountName=…;AccountKey=…`.
    if shown.contains([' ', ';']) && shown.contains('=') { without_fields(&shown) } else { shown.into_owned() }
}

/// A text with every address in it shown as [`redacted`] has it. A text that was treated before stays as it is.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    cut(text, Scope::Text)
}

/// Whether a text that should be a file path is an address.
pub fn looks_like_address(text: &str) -> bool {
    text.contains("://") || redacted(text) != text
}

/// What [`redacted`] leaves out of an address: the user and the password, together and the password alone, and the query.
pub fn secrets_of(address: &str) -> Vec<&str> {
    let parts = masking::secrets(address, Scope::Whole).into_iter().map(|part| &address[part]);
    parts.flat_map(|part| [Some(part), part.split_once(':').map(|(_, password)| password)]).flatten().collect()
}

/// Names whose values are always secret, in lower case: fields of answers, headers, parameters.
const SECRET_FIELDS: [&str; 15] = [
    "accountkey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "passwd",
    "password",
    "secret",
    "secretaccesskey",
    "sessiontoken",
    "sharedaccesskey",
    "sig",
    "signature",
    "stringtosign",
    "token",
];

/// Whether a name of a field or parameter is that of a secret: `x-amz-security-token`, `SessionToken`, `client_secret`.
fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['-', '_', '.', ':']).next().unwrap_or_default();
    SECRET_FIELDS.contains(&last)
        || SECRET_FIELDS.contains(&&*name)
        || last.ends_with("token")
        || last.ends_with("password")
}

/// Whether a parameter of a query is secret by its name: `sig=…`, `access_token=…`.
pub fn has_secret_parameter(address: &str) -> bool {
    let parameters = address.split(['?', '&', ';', '#']).skip(1);
    parameters.filter_map(|parameter| parameter.split_once('=')).any(|(name, _)| is_secret_field(name))
}

/// A text without the values of fields that are secret by their names: `token=…`, `"password": …`, `<SessionToken>…`.
pub fn without_fields(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut safe = String::new();
    let mut left = text;
    while let Some(start) = left.find(is_name) {
        let end = left[start..].find(|c| !is_name(c)).map_or(left.len(), |end| start + end);
        safe.push_str(&left[..end]);
        let name = &left[start..end];
        left = &left[end..];
        if !is_secret_field(name) {
            continue;
        }
        // What separates name and value: quotes, and one of `=`, `:` and `>`.
        let quotes = |c: char| c.is_whitespace() || "\"'\\".contains(c);
        let sign = left.find(|c| !quotes(c)).filter(|&at| left[at..].starts_with(['=', ':', '>']));
        let Some(sign) = sign else { continue };
        let is_tag = left[sign..].starts_with('>');
        let value = sign + 1 + left[sign + 1..].find(|c| !quotes(c)).unwrap_or(left.len() - sign - 1);
        let quote = left[sign + 1..value].chars().last().filter(|c| "\"'".contains(*c));
        let stops = |c: char| match quote {
            _ if is_tag => c == '<',
            Some(quote) => c == quote,
            // The value of a header may have several words: `Bearer …`.
            None if name.to_ascii_lowercase().ends_with("authorization") => "\r\n\"'<".contains(c),
            None => c.is_whitespace() || "&,;\"'<})]".contains(c),
        };
        let stop = left[value..].find(stops).map_or(left.len(), |stop| value + stop);
        safe.push_str(&left[..value]);
        safe.push_str(if stop > value { REDACTED } else { "" });
        left = &left[stop..];
    }
    safe + left
}

/// Characters kept of a text from outside.
const MAX_MESSAGE_CHARS: usize = 500;

/// A message of a server or a library, on one line of limited length: without the `secrets`, without the credentials in
/// this process's environment, without the values of fields whose names are those of secrets, and without the queries,
/// users and passwords of addresses.
pub fn sanitized(text: &str, secrets: &[&str]) -> String {
    let own: Vec<String> = std::env::vars_os().filter_map(secret_variable).collect();
    let secrets = secrets.iter().copied().chain(own.iter().map(String::as_str));
    let mut secrets: Vec<&str> = secrets.filter(|secret| !secret.is_empty()).collect();
    // A secret may be part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED));
    let text = without_fields(&without_secrets(&text));
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MAX_MESSAGE_CHARS).collect()
}

/// Whether a variable holds the path of a file, by its name. The value cannot decide this: base64, such as an AWS key,
/// may begin with a `/`.
fn is_file_variable(name: &str) -> bool {
    ["_FILE", "_PATH", "_DIR"].iter().any(|end| name.ends_with(end)) || name == "GOOGLE_APPLICATION_CREDENTIALS"
}

/// The value of a variable whose name says that it is a secret. Short values are ignored: they would hide ordinary
/// words.
fn secret_variable((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<String> {
    const SECRET_WORDS: [&str; 6] = ["SECRET", "TOKEN", "PASSWORD", "CREDENTIAL", "SIGNATURE", "_KEY"];
    let name = name.to_str()?.to_ascii_uppercase();
    let value = value.into_string().ok().filter(|value| value.len() > 5)?;
    (SECRET_WORDS.iter().any(|word| name.contains(word)) && !is_file_variable(&name)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_told_from_a_wildcard() {
        for (text, query) in [
            ("https://h/a.parquet?X-Amz-Signature=ab/c=", Some("X-Amz-Signature=ab/c=")),
            ("https://h/download?", Some("")),
            ("az://c/a.csv?sig=x", Some("sig=x")),
            ("s3://b/day-?.parquet", None),
            ("s3://b/day=?/hour=1/a.parquet", None),
            ("data/a?b=1.parquet", None),
        ] {
            assert_eq!(split_query(text).1, query, "{text}");
            assert_eq!(is_pattern(text), query.is_none() && text.contains('?'), "{text}");
        }
        assert_eq!(extension("https://h/a.CSV?sig=x.parquet").as_deref(), Some("csv"));
        assert_eq!(extension("data/A.PARQUET").as_deref(), Some("parquet"));
        assert_eq!(extension("https://h/download?file=a.csv"), None);
    }

    #[test]
    fn a_secret_of_the_environment_is_known_by_its_name_and_not_by_its_value() {
        let secret = |name: &str, value: &str| secret_variable((name.into(), value.into()));
        for name in ["AWS_SECRET_ACCESS_KEY", "aws_session_token", "PGPASSWORD", "AZURE_STORAGE_KEY", "MY_PATH_TOKEN"] {
            for value in ["/base64+begins/so=", "./relative", "plain-text"] {
                assert_eq!(secret(name, value).as_deref(), Some(value), "{name}");
            }
            assert_eq!(secret(name, "short"), None);
        }
        for name in ["AWS_WEB_IDENTITY_TOKEN_FILE", "SSL_KEY_PATH", "GOOGLE_APPLICATION_CREDENTIALS", "HOME"] {
            assert_eq!(secret(name, "/var/run/token"), None, "{name}");
        }
    }

    #[test]
    fn what_others_say_keeps_no_secret() {
        for (text, wanted) in [
            ("<Error><SessionToken>SECRET</SessionToken></Error>", "<Error><SessionToken>…</SessionToken></Error>"),
            ("{'x-amz-security-token': 'SECRET', 'host': 'h'}", "{'x-amz-security-token': '…', 'host': 'h'}"),
            ("{\"password\":\"SECRET x\",\"a\":1}", "{\"password\":\"…\",\"a\":1}"),
            ("authorization: Bearer SECRET\r\nhost: h", "authorization: …  host: h"),
            ("GET /a?se=2&sig=SECRET&x=1 failed", "GET /a?se=2&sig=…&x=1 failed"),
            ("client_secret=SECRET, access_token = SECRET; id=3", "client_secret=…, access_token = …; id=3"),
            ("AccountName=a;AccountKey=SECRET==;x=1", "AccountName=a;AccountKey=…;x=1"),
            ("the token is expired: log in", "the token is expired: log in"),
            (
                "GET https://ana:SECRET@x/a?q=SECRET failed (see \"http://b?c=SECRET\")",
                "GET https://…@x/a?… failed (see \"http://b?…\")",
            ),
            ("it repeats hunter2 and hunter2hunter", "it repeats … and …hunter"),
        ] {
            assert_eq!(sanitized(text, &["hunter2"]), wanted);
        }
        assert_eq!(sanitized(&"long ".repeat(1000), &[]).len(), MAX_MESSAGE_CHARS);
    }
}
