//! Addresses of objects: told from paths of files, taken apart, and shown without what is secret in them.
//!
//! A signed link holds its permission in the query (`?X-Amz-Signature=…`, `?sig=…`), and an address may hold a password
//! before the host. A [`Place`] has no way of being printed with them; [`said`] takes them out of what others say.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

const SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https"];

/// Stands for what is not shown.
pub const HIDDEN: &str = "…";

/// A path or an address, as it was given. However it is printed, the query, the user and the password in it are not.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(String);

impl Place {
    /// The text itself, for the one who opens it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text to know it again by, which may be kept: what is shown, and for an address with something secret in it a part of
    /// its hash.
    pub fn identity(&self) -> String {
        match shown(&self.0) {
            shown if shown == self.0 => shown,
            shown => {
                let hash = Sha256::digest(self.0.as_bytes());
                format!("{shown}#{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", shown(&self.0))
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&shown(&self.0))
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Place {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<&Path> for Place {
    /// For messages: a name that is not UTF-8 is not the same afterwards.
    fn from(path: &Path) -> Self {
        Self(path.to_string_lossy().into_owned())
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&PathBuf> for Place {
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

/// What is wrong with a path that is not text, and the remedy.
const NOT_TEXT: &str = "the path is not UTF-8 text, so it cannot be kept or handed on; rename the file or the folder, or choose another \
                        one (--state for that of the state)";

/// A path as text, for arguments, variables, JSON and the store: there it must be whole, or it would name another file.
///
/// # Errors
/// That it is not UTF-8, and the remedy.
pub fn as_text(path: &Path) -> Result<&str, &'static str> {
    path.to_str().ok_or(NOT_TEXT)
}

/// The scheme of any address and what follows it, whether or not this program can read such addresses.
fn any_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (scheme.len() > 1 && scheme.chars().all(letters)).then_some((scheme, rest))
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

/// Whether a path or an address stands for several: it holds `*`, `?` or `[`, and no query.
pub fn is_pattern(text: &str) -> bool {
    split_query(text).1.is_none() && text.contains(['*', '?', '['])
}

/// What follows the last dot of the name of a file or object, in lower case.
pub fn extension(path: impl AsRef<Path>) -> Option<String> {
    let path = path.as_ref();
    let place = path.to_str().map_or(path, |text| Path::new(split_query(text).0));
    Some(place.extension()?.to_str()?.to_ascii_lowercase())
}

/// A path, an address or a snapshot as it was given, for people to read: without the query and without the user and the
/// password. Addresses of schemes that this program cannot read hold secrets, too.
pub fn shown(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    let Some((scheme, rest)) = any_scheme(&text) else { return text.into_owned() };
    let (rest, rows) = match rest.rsplit_once("#rows=") {
        Some((rest, rows)) => (rest, format!("#rows={rows}")),
        None => (rest, String::new()),
    };
    let (user, rest) = split_user(scheme, rest);
    let whole = format!("{scheme}://{rest}");
    let (place, query) = match SCHEMES.contains(&scheme) {
        true => split_query(&whole),
        false => whole.split_once('?').map_or((&*whole, None), |(place, query)| (place, Some(query))),
    };
    // Sites put tokens behind a `#`, too; the key of an object may hold one.
    let (place, fragment) = match scheme.to_ascii_lowercase().starts_with("http") {
        true => place.split_once('#').map_or((place, false), |(place, _)| (place, true)),
        false => (place, false),
    };
    let place = match user {
        Some(_) => place.replacen("://", &format!("://{HIDDEN}@"), 1),
        None => place.to_owned(),
    };
    let query = query.map_or(String::new(), |_| format!("?{HIDDEN}"));
    let fragment = if fragment { format!("#{HIDDEN}") } else { String::new() };
    format!("{place}{fragment}{query}{rows}")
}

/// The user, and password, before the host, and what follows the `@`. In `abfss://container@account` it is a container, and
/// no secret.
fn split_user<'a>(scheme: &str, rest: &'a str) -> (Option<&'a str>, &'a str) {
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let end = match host.rfind('@') {
        Some(end) => end,
        None => {
            // A password with a `/`, `?` or `#` in it: what follows the colon is no port.
            let port = host.rsplit_once(':').filter(|_| !host.starts_with('['));
            match port.filter(|(_, port)| !port.chars().all(|c| c.is_ascii_digit())).and_then(|_| rest.rfind('@')) {
                Some(end) => end,
                None => return (None, rest),
            }
        }
    };
    let user = &rest[..end];
    match scheme.to_ascii_lowercase().starts_with("ab") && !user.contains(':') {
        true => (None, rest),
        false => (Some(user), &rest[end + 1..]),
    }
}

/// The user, and password, before the host of an address.
pub fn user_of(address: &str) -> Option<&str> {
    any_scheme(address).and_then(|(scheme, rest)| split_user(scheme, rest).0)
}

/// What ends an address in a text.
fn ends_address(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'`<>(){}|\\^".contains(c)
}

/// Where the next address of a list begins that has no spaces: behind a comma or a semicolon.
fn next_address(rest: &str) -> Option<usize> {
    let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    rest.match_indices("://").find_map(|(at, _)| {
        let before = rest[..at].trim_end_matches(letters);
        (before.len() < at && before.ends_with([',', ';'])).then_some(before.len())
    })
}

/// Where the user and the password end, in what follows `://` in a text, if the password may hold a character that ends an
/// address: at the last `@` before white space. Rather too much is hidden there than too little.
fn end_of_user(rest: &str) -> Option<usize> {
    let word = &rest[..rest.find(|c: char| c.is_whitespace() || c.is_control()).unwrap_or(rest.len())];
    let host = word.find(|c| "/?#".contains(c) || ends_address(c)).unwrap_or(word.len());
    let (host, next) = (&word[..host], word[host..].chars().next()?);
    let (_, port) = host.rsplit_once(':').filter(|_| !host.starts_with('['))?;
    let is_user = match next {
        // The host ends here: it has its user, or a port and none.
        '/' | '?' | '#' => !host.contains('@') && !port.bytes().all(|byte| byte.is_ascii_digit()),
        _ => true,
    };
    word.rfind('@').filter(|_| is_user)
}

/// A text with every address in it shown as [`shown`] has it. A text that was treated before stays as it is.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut safe = String::new();
    let mut left = text;
    while let Some(at) = left.find("://") {
        let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let start =
            left[..at].rfind(|c| !letters(c)).map_or(0, |i| i + left[i..].chars().next().map_or(1, char::len_utf8));
        let after = at + 3;
        let next = next_address(&left[after..]).map_or(left.len(), |next| after + next);
        // A password may hold what ends other addresses.
        let user = end_of_user(&left[after..next]).map(|user| after + user);
        let from = user.unwrap_or(at);
        let end = left[from..next].find(ends_address).map_or(next, |end| from + end);
        // What ends a sentence or separates addresses is not part of one.
        let address = left[start..end].trim_end_matches([':', ',', ';', '.']);
        safe.push_str(&left[..start]);
        match (any_scheme(address), user) {
            (Some((scheme, _)), Some(user)) => {
                let place = left.get(user..start + address.len()).unwrap_or_default();
                safe.push_str(&shown(format!("{scheme}://{HIDDEN}{place}")));
            }
            (Some(_), None) => safe.push_str(&shown(address)),
            (None, _) => safe.push_str(address),
        }
        left = &left[start + address.len()..];
        if address.len() < at + 3 - start {
            // Nothing but a scheme.
            let rest = at + 3 - start - address.len();
            safe.push_str(&left[..rest]);
            left = &left[rest..];
        }
    }
    safe.push_str(left);
    Cow::Owned(safe)
}

/// Names whose values are secret wherever they stand, in lower case: fields of answers, headers, parameters.
const FIELDS: [&str; 13] = [
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "passwd",
    "password",
    "secret",
    "secretaccesskey",
    "sessiontoken",
    "sig",
    "signature",
    "stringtosign",
    "token",
];

/// Whether a name of a field or parameter is that of a secret: `x-amz-security-token`, `SessionToken`, `client_secret`.
fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['-', '_', '.', ':']).next().unwrap_or_default();
    FIELDS.contains(&last) || FIELDS.contains(&&*name) || last.ends_with("token") || last.ends_with("password")
}

/// A text without the values of fields that are secret by their names: `token=…`, `"password": …`, `<SessionToken>…`.
fn without_fields(text: &str) -> String {
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
        // What stands between name and value: quotes, and one of `=`, `:` and `>`.
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
        safe.push_str(if stop > value { HIDDEN } else { "" });
        left = &left[stop..];
    }
    safe + left
}

/// Characters that are kept of what others say.
const MOST_SAID: usize = 500;

/// What a server or a library says, on one line of readable length: without the `secrets`, without the credentials in this
/// process's environment, without the values of fields whose names are those of secrets, and without the queries, users and
/// passwords of addresses.
pub fn said(text: &str, secrets: &[&str]) -> String {
    let own: Vec<String> = std::env::vars_os().filter_map(secret_variable).collect();
    let secrets = secrets.iter().copied().chain(own.iter().map(String::as_str));
    let mut secrets: Vec<&str> = secrets.filter(|secret| !secret.is_empty()).collect();
    // A secret may be part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
    let text = without_fields(&without_secrets(&text));
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MOST_SAID).collect()
}

/// Whether a variable holds the path of a file, by its name. The value does not tell: base64, such as a key of AWS, may begin
/// with a `/`.
fn names_file(name: &str) -> bool {
    ["_FILE", "_PATH", "_DIR"].iter().any(|end| name.ends_with(end)) || name == "GOOGLE_APPLICATION_CREDENTIALS"
}

/// The value of a variable whose name says that it is a secret. Short values are no secrets, and would hide words.
fn secret_variable((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<String> {
    const WORDS: [&str; 6] = ["SECRET", "TOKEN", "PASSWORD", "CREDENTIAL", "SIGNATURE", "_KEY"];
    let name = name.to_str()?.to_ascii_uppercase();
    let value = value.into_string().ok().filter(|value| value.len() > 5)?;
    (WORDS.iter().any(|word| name.contains(word)) && !names_file(&name)).then_some(value)
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

    const ADDRESSES: [(&str, &str); 18] = [
        ("https://h/a.parquet?sig=SECRET", "https://h/a.parquet?…"),
        ("https://h/a.parquet?sig=SECRET#rows=1..2", "https://h/a.parquet?…#rows=1..2"),
        ("https://h/a.parquet#token=SECRET", "https://h/a.parquet#…"),
        ("https://ana:SECRET@h:8/a.parquet", "https://…@h:8/a.parquet"),
        ("http://SECRET@h/a@b.parquet", "http://…@h/a@b.parquet"),
        ("http://h:80/a@b.parquet", "http://h:80/a@b.parquet"),
        ("http://[::1]:80/a@b.parquet", "http://[::1]:80/a@b.parquet"),
        ("http://ana:SEC/RET@h/a.parquet", "http://…@h/a.parquet"),
        ("http://ana:SEC?RET@h/a.parquet", "http://…@h/a.parquet"),
        ("http://ana:SEC#RET@h/a.parquet", "http://…@h/a.parquet"),
        ("HTTPS://ana:SECRET@h/a.parquet?sig=SECRET", "HTTPS://…@h/a.parquet?…"),
        ("ftp://ana:SECRET@h/a.parquet", "ftp://…@h/a.parquet"),
        ("postgres://ana:SECRET@h/db?password=SECRET", "postgres://…@h/db?…"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
        ("s3://key:SECRET@bucket/day-?.parquet", "s3://…@bucket/day-?.parquet"),
        ("s3://key:SECRET@bucket/a.parquet?X-Amz-Security-Token=SECRET", "s3://…@bucket/a.parquet?…"),
        ("data/day?=x/a.parquet", "data/day?=x/a.parquet"),
        ("data/über straße.parquet", "data/über straße.parquet"),
    ];

    #[test]
    fn a_place_shows_no_secret_however_it_is_printed() {
        for (text, wanted) in ADDRESSES {
            let place = Place::from(text);
            assert_eq!(shown(text), wanted);
            assert_eq!(shown(wanted), wanted, "shown twice");
            assert_eq!(place.to_string(), wanted);
            assert_eq!(format!("{place:?}"), format!("{wanted:?}"));
            assert_eq!(serde_json::to_value(&place).unwrap(), serde_json::Value::from(wanted));
            assert_eq!(place.expose(), text);
            assert!(!place.identity().contains("SEC") && place.identity().starts_with(wanted), "{}", place.identity());
            assert_eq!(place.identity() == text, wanted == text);
        }
        let other = Place::from("https://h/a.parquet?sig=OTHER");
        assert_ne!(Place::from("https://h/a.parquet?sig=SECRET").identity(), other.identity());
    }

    #[test]
    fn no_address_in_a_text_shows_a_secret() {
        for (address, wanted) in ADDRESSES {
            let Some(_) = any_scheme(address) else { continue };
            for (before, after) in [("", ""), ("(", ")"), ("\"", "\": no"), ("no answer from ", ": gone"), ("ü", ", x")]
            {
                let text = format!("{before}{address}{after}");
                let found = without_secrets(&text).into_owned();
                assert_eq!(found, format!("{before}{wanted}{after}"));
                assert_eq!(without_secrets(&found), found, "treated twice");
            }
        }
        for text in ["did you mean 'x'? then", "a :// b", "://", "x://", "http://", "see http://. So", "", "ü://ü"] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn a_password_that_holds_what_ends_an_address_is_not_shown_from_there_on() {
        for odd in "\"'`<>(){}|\\^".chars() {
            for (password, tail) in [
                ("SEC%RET", "/db"),
                ("%SECRET", "/db"),
                ("SECRET%", ""),
                ("1%SECRET", "/db?x=SECRET"),
                ("SEC@%RET", "/db"),
                ("SEC/%RET", "/db"),
                ("SEC%/RET", "/db"),
                ("SEC%@RET", ":5432/db"),
            ] {
                let password = password.replace('%', &odd.to_string());
                for (before, after) in [("", ""), ("no answer from ", ": gone"), ("(", " and the rest)")] {
                    let text = format!("{before}postgres://ana:{password}@h{tail}{after}");
                    let wanted = format!("{before}postgres://…@h{}{after}", tail.replace("x=SECRET", "…"));
                    let found = without_secrets(&text).into_owned();
                    assert_eq!(found, wanted, "{text}");
                    assert_eq!(without_secrets(&found), found, "treated twice");
                }
            }
        }
        // An address without user and password ends where it did.
        for text in [
            "{\"a\":\"http://h/x\",\"b\":\"me@y\"}",
            "{\"a\":\"http://h:80/x\",\"b\":\"me@y\"}",
            "{\"a\":\"http://[::1]/x\",\"b\":\"me@y\"}",
            "'http://h:80' or 'me@y'",
        ] {
            assert_eq!(without_secrets(text), text);
        }
        let several = "http://ana:SECRET@h1/a,http://bo:SECRET@h2/b and http://ana:SECRET@h1,http://bo:SECRET@h2/b";
        assert!(!without_secrets(several).contains("SECRET"), "{}", without_secrets(several));
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
            ("the token is expired: log in", "the token is expired: log in"),
            (
                "GET https://ana:SECRET@x/a?q=SECRET failed (see \"http://b?c=SECRET\")",
                "GET https://…@x/a?… failed (see \"http://b?…\")",
            ),
            ("it repeats hunter2 and hunter2hunter", "it repeats … and …hunter"),
        ] {
            assert_eq!(said(text, &["hunter2"]), wanted);
        }
        assert_eq!(said(&"long ".repeat(1000), &[]).len(), MOST_SAID);
    }
}
