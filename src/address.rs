//! Addresses of objects: told from paths of files, taken apart, and shown without what is secret in them.
//!
//! A signed link holds its permission in the query (`?X-Amz-Signature=…`, `?sig=…`), and an address may hold a password
//! before the host. Code that shows an address, a path or a snapshot as it was given does so by [`shown`].

use std::path::Path;

const SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https"];

/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// Whether a path is the address of an object.
pub fn is_remote(path: impl AsRef<Path>) -> bool {
    path.as_ref().to_str().and_then(scheme).is_some()
}

fn scheme(address: &str) -> Option<&str> {
    address.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| SCHEMES.contains(scheme))
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

/// A path, an address or a snapshot as it was given, for people to read: without the query and without the password.
pub fn shown(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    if scheme(&text).is_none() {
        return text.into_owned();
    }
    let (whole, rows) = match text.rsplit_once("#rows=") {
        Some((whole, rows)) => (whole, format!("#rows={rows}")),
        None => (&*text, String::new()),
    };
    let (place, query) = split_query(whole);
    let place = match user_of(place) {
        Some(user) => place.replacen(&format!("://{user}@"), &format!("://{HIDDEN}@"), 1),
        None => place.to_owned(),
    };
    let query = query.map_or(String::new(), |_| format!("?{HIDDEN}"));
    format!("{place}{query}{rows}")
}

/// The message of a library about an address, on one line of readable length, without what is secret in this and in any
/// other address that it quotes.
pub fn redacted(message: &str, address: &str) -> String {
    let (place, query) = split_query(address);
    let secrets = [query, user_of(place)].into_iter().flatten().filter(|secret| secret.len() > 3);
    let message = secrets.fold(message.to_owned(), |message, secret| message.replace(secret, HIDDEN));
    let ends = |c: char| c.is_whitespace() || "\"')>".contains(c);
    let mut parts = message.split("://");
    let mut hidden = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let host = part.find(|c| ends(c) || c == '/').unwrap_or(part.len());
        let user = part[..host].rfind('@');
        hidden.push_str("://");
        hidden.push_str(if user.is_some() { HIDDEN } else { "" });
        hidden.push_str(&part[user.unwrap_or(0)..]);
    }
    let mut safe = String::new();
    let mut in_query = false;
    for c in hidden.chars() {
        in_query = (in_query && !ends(c)) || c == '?';
        match c {
            '?' => safe.push_str("?…"),
            _ if in_query => {}
            c => safe.push(if c.is_control() { ' ' } else { c }),
        }
    }
    safe.chars().take(500).collect()
}

/// The user, and password, before the host. In `abfss://container@account` it is a container, and no secret.
fn user_of(place: &str) -> Option<&str> {
    let (scheme, rest) = place.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    (scheme.starts_with("http") || user.contains(':')).then_some(user)
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
    fn what_is_secret_is_not_shown() {
        for (text, wanted) in [
            ("https://h/a.parquet?sig=SECRET", "https://h/a.parquet?…"),
            ("https://h/a.parquet?sig=SECRET#rows=1..2", "https://h/a.parquet?…#rows=1..2"),
            ("https://ana:SECRET@h:8/a.parquet", "https://…@h:8/a.parquet"),
            ("http://SECRET@h/a@b.parquet", "http://…@h/a@b.parquet"),
            ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
            ("s3://key:SECRET@bucket/day-?.parquet", "s3://…@bucket/day-?.parquet"),
            ("data/day?=x/a.parquet", "data/day?=x/a.parquet"),
        ] {
            assert_eq!(shown(text), wanted);
        }
        for (message, wanted) in [
            ("GET https://x/a?sig=SECRET&se=2 failed (see \"b?c=SECRET\")", "GET https://x/a?… failed (see \"b?…\")"),
            ("no answer from http://ana:SECRET@x:8/a@b\nat all", "no answer from http://…@x:8/a@b at all"),
            ("Url { query: Some(\"sig=SECRET\"), user: \"SECRET:w\" }", "Url { query: Some(\"…\"), user: \"…\" }"),
        ] {
            assert_eq!(redacted(message, "https://SECRET:w@h/a?sig=SECRET"), wanted);
        }
    }
}
