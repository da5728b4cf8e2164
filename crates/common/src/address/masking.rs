//! Removes secrets from addresses: user and password, an invalid port, the query, and the part after a `#`. It hides
//! too much rather than too little.
//!
//! An address begins with `name:` or with `//`. A colon, a slash or another sign of an address counts in its other spellings,
//! too: `%40`, `%2540` and `＠` are an `@`.

use std::borrow::Cow;
use std::ops::Range;

use super::{REDACTED, SCHEMES};

/// The kind of text that is examined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One address or path, as a whole.
    Whole,
    /// A text, in which addresses end at blanks or quotes.
    Text,
}

/// A text without the secrets in its addresses. A text that was treated before stays as it is.
pub fn cut(text: &str, scope: Scope) -> Cow<'_, str> {
    let hidden = secrets(text, scope);
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut safe = String::new();
    let mut from = 0;
    for part in hidden {
        safe.push_str(&text[from..part.start]);
        safe.push_str(REDACTED);
        from = part.end;
    }
    safe.push_str(&text[from..]);
    Cow::Owned(safe)
}

/// The positions of secret parts, in order.
pub fn secrets(text: &str, scope: Scope) -> Vec<Range<usize>> {
    // Most texts contain no address with a secret.
    let signs = |c: char| "@?#;&%".contains(c) || ('\u{ff00}'..='\u{ff5e}').contains(&c);
    let begins = text.contains(':') || text.contains("//") || text.contains(|c| c == '%' || !char::is_ascii(&c));
    if !begins || !(text.contains(signs) || text.contains(":/") || text.contains("//")) {
        return Vec::new();
    }
    let signs = Signs::of(text);
    let mut hidden = Vec::new();
    let mut from = 0;
    while let Some(start) = signs.start(from) {
        let (parts, goes_on) = signs.parts(&start, scope);
        hidden.extend(parts.into_iter().filter(|part| part.start < part.end).map(|part| signs.bytes(part)));
        from = goes_on;
    }
    hidden
}

/// A character of a text, plain or encoded.
#[derive(Clone, Copy)]
struct Sign {
    /// Where it begins.
    at: usize,
    /// What it means.
    c: char,
    /// How often it was encoded by `%`.
    level: usize,
}

/// The beginning of an address.
struct Start {
    /// Where its name begins, if it has one.
    at: usize,
    /// Where its host, or user, begins.
    body: usize,
    /// The name, in lower case.
    name: String,
    /// Whether a host follows for certain: behind `://` or `//`, or the name of a known scheme.
    has_host: bool,
    /// How often the signs of the beginning were encoded: others that were encoded more often part nothing.
    level: usize,
}

struct Signs<'a> {
    text: &'a str,
    all: Vec<Sign>,
}

/// A text may contain many colons and slashes: the number of characters that are examined after each.
const MOST_NEAR: usize = 4096;

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-.".contains(c)
}

fn is_slash(c: char) -> bool {
    matches!(c, '/' | '\\')
}

/// The decoded character, how often it was encoded, and its length in bytes.
fn decoded(text: &str) -> Option<(char, usize, usize)> {
    let mut rest = text.strip_prefix('%')?;
    let mut level = 1;
    while let Some(inner) = rest.strip_prefix("25") {
        rest = inner;
        level += 1;
    }
    let code = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok())?;
    let c = char::from(code);
    "/\\:?#@=&;".contains(c).then_some((c, level, text.len() - rest.len() + 2))
}

impl<'a> Signs<'a> {
    fn of(text: &'a str) -> Self {
        let mut all = Vec::new();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let (c, level, bytes) = decoded(&text[at..]).unwrap_or_else(|| {
                // The wide forms of ASCII characters.
                let narrow = match c {
                    '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
                    _ => c,
                };
                (narrow, 0, c.len_utf8())
            });
            all.push(Sign { at, c, level });
            at += bytes;
        }
        Self { text, all }
    }

    fn c(&self, at: usize) -> Option<char> {
        self.all.get(at).map(|sign| sign.c)
    }

    fn bytes(&self, part: Range<usize>) -> Range<usize> {
        let at = |i: usize| self.all.get(i).map_or(self.text.len(), |sign| sign.at);
        at(part.start)..at(part.end)
    }

    fn first(&self, mut part: Range<usize>, wanted: impl Fn(&Sign) -> bool) -> Option<usize> {
        part.find(|&at| wanted(&self.all[at]))
    }

    fn last(&self, part: Range<usize>, wanted: impl Fn(&Sign) -> bool) -> Option<usize> {
        part.rev().find(|&at| wanted(&self.all[at]))
    }

    /// The next beginning of an address.
    fn start(&self, from: usize) -> Option<Start> {
        (from..self.all.len()).find_map(|at| match self.c(at)? {
            ':' => {
                let run = self.all[from..at].iter().rev().take_while(|sign| is_name(sign.c)).count();
                // Characters before the first letter belong to the text.
                let begin = self.first(at - run..at, |sign| sign.c.is_ascii_alphabetic())?;
                let slashes = self.all[at + 1..].iter().take_while(|sign| is_slash(sign.c)).count();
                let body = at + 1 + slashes;
                self.c(body).filter(|c| !c.is_whitespace())?;
                let name: String = self.all[begin..at].iter().map(|sign| sign.c.to_ascii_lowercase()).collect();
                let has_host = slashes > 1 || SCHEMES.contains(&&*name);
                let level = self.all[at..body].iter().map(|sign| sign.level).max().unwrap_or(0);
                Some(Start { at: begin, body, has_host, name, level })
            }
            '/' if self.c(at + 1) == Some('/') => {
                let slashes = self.all[at..].iter().take_while(|sign| is_slash(sign.c)).count();
                let body = at + slashes;
                self.c(body).filter(|c| !c.is_whitespace())?;
                let level = self.all[at..body].iter().map(|sign| sign.level).max().unwrap_or(0);
                Some(Start { at, body, has_host: true, name: String::new(), level })
            }
            _ => None,
        })
    }

    /// Where an address ends, without the signs that belong to the text around it.
    fn end(&self, start: &Start, scope: Scope, most: usize) -> usize {
        let all = self.all.len();
        let near = all.min(start.body + most);
        if scope == Scope::Whole {
            return near;
        }
        let is_end = |c: char| matches!(c, ' ' | '\n' | '\r');
        let opened = start.at.checked_sub(1).and_then(|at| self.c(at)).filter(|c| "\"'`".contains(*c));
        let line = self.line_end(start.body, near);
        // A quote within a password is followed by more of it.
        let follows = |at: usize| self.c(at + 1).is_none_or(|c| c.is_whitespace() || ",:;.)]}>\\".contains(c));
        let closed = opened.and_then(|quote| (start.body..line).find(|&at| self.c(at) == Some(quote) && follows(at)));
        let closing_tag = |at: usize| self.c(at) == Some('<') && self.c(at + 1) == Some('/');
        let end = closed.unwrap_or_else(|| {
            let ends = |at: &usize| self.c(*at).is_some_and(is_end) || closing_tag(*at);
            (start.body..line).find(ends).unwrap_or(line)
        });
        let end = self.next_of_list(start.body, end);
        // Punctuation that ends a sentence, or closing brackets and quotes around the address.
        let trimmed = self.last(start.body..end, |sign| !":,;.)]}>\"'`\\".contains(sign.c) || sign.level > 0);
        trimmed.map_or(start.body, |last| last + 1)
    }

    fn line_end(&self, from: usize, most: usize) -> usize {
        self.first(from..most, |sign| matches!(sign.c, '\n' | '\r')).unwrap_or(most)
    }

    /// Where the next address of a list begins that has no blanks: behind a comma or a semicolon.
    fn next_of_list(&self, from: usize, end: usize) -> usize {
        let next = (from..end).find(|&at| {
            matches!(self.c(at), Some(',' | ';')) && {
                let name = self.all[at + 1..end].iter().take_while(|sign| is_name(sign.c)).count();
                let colon = at + 1 + name;
                name > 0 && [colon, colon + 1, colon + 2].map(|at| self.c(at)) == [Some(':'), Some('/'), Some('/')]
            }
        });
        next.unwrap_or(end)
    }

    /// The secret parts of an address, and from where on the next one is looked for.
    fn parts(&self, start: &Start, scope: Scope) -> (Vec<Range<usize>>, usize) {
        let mut end = self.end(start, scope, MOST_NEAR);
        let body = start.body;
        let mut parts = Vec::new();
        let mut host = body;
        if let Some(at) = self.end_of_user(start, end, scope) {
            parts.push(body..at);
            host = at + 1;
            if at == end {
                return (parts, end);
            }
            end = end.max(host);
        }
        let query = self.query(start, host..end);
        let host_end = self.host_end(start, host..query.unwrap_or(end));
        if start.has_host
            && let Some(port) = self.wrong_port(host..host_end)
        {
            parts.push(port);
        }
        if let Some(query) = query {
            // However long it is.
            let end = self.end(start, scope, usize::MAX - start.body).max(end);
            parts.push(query + 1..self.rows(query, end));
            return (parts, end);
        }
        let goes_on = parts.last().map_or(body, |part| part.end);
        (parts, goes_on)
    }

    fn host_end(&self, start: &Start, part: Range<usize>) -> usize {
        let end = part.end;
        let parts = |sign: &Sign| sign.level <= start.level && "/?#".contains(sign.c);
        self.first(part, parts).unwrap_or(end)
    }

    /// The `@` that ends the user and the password, if there are any; the end of the address if that is unclear.
    fn end_of_user(&self, start: &Start, end: usize, scope: Scope) -> Option<usize> {
        let host = start.body..self.host_end(start, start.body..end);
        let is_at = |sign: &Sign| sign.c == '@';
        let whole = || {
            let (first, last) = (self.first(start.body..end, is_at)?, self.last(start.body..end, is_at)?);
            // An `@` in the query, or a `?` in the password: the position of the host is unclear.
            let unclear = (start.body..last)
                .any(|at| "?#&;".contains(self.all[at].c) && (at > first || self.is_parameter(at + 1, end)));
            Some(if unclear { end } else { last })
        };
        let Some(at) = self.last(host.clone(), is_at) else {
            // A password with a `/`, `?` or `#` in it: what follows the colon is no port, or an `@` comes later, which only
            // paths of the web have.
            let has_port = self.first(host.clone(), |sign| sign.c == ':').is_some();
            let is_user = has_port && !start.name.starts_with("http") && self.first(host.end..end, is_at).is_some();
            if !is_user {
                self.wrong_port(host)?;
            }
            // In a text it may have been cut at a space.
            let on_this_line = || {
                self.first(end..self.line_end(end, self.all.len().min(end + MOST_NEAR)), is_at)
                    .filter(|_| start.has_host)
            };
            return whole().or_else(|| if scope == Scope::Text { on_this_line() } else { None });
        };
        let user = start.body..at;
        if self.first(user.clone(), |sign| sign.c == ':').is_some() {
            // A password may hold an `@`, and what ends a host.
            return whole();
        }
        // In `abfss://container@account` it is a container, and no secret.
        let is_container =
            |sign: &Sign| sign.c.is_ascii_lowercase() || sign.c.is_ascii_digit() || "-_$.".contains(sign.c);
        let container = matches!(&*start.name, "abfs" | "abfss") && self.all[user].iter().all(is_container);
        (!container).then_some(at)
    }

    /// What follows the colon of a host, and is no port. It may be a misplaced secret.
    fn wrong_port(&self, host: Range<usize>) -> Option<Range<usize>> {
        let end = host.end;
        let inside = match self.c(host.start) {
            Some('[') => self.first(host.clone(), |sign| sign.c == ']').unwrap_or(host.start),
            _ => host.start,
        };
        let colon = self.last(inside..end, |sign| sign.c == ':')?;
        let port = colon + 1..end;
        let is_port =
            (1..=5).contains(&port.len()) && self.all[port.clone()].iter().all(|sign| sign.c.is_ascii_digit());
        (!is_port).then_some(port)
    }

    /// The sign that begins a query, or what a site keeps behind a `#`.
    fn query(&self, start: &Start, mut part: Range<usize>) -> Option<usize> {
        let end = part.end;
        // In the address of a store a `?` is a wildcard and a `#` part of a key, unless the name of a parameter follows.
        let is_other = start.has_host && !start.name.is_empty() && !SCHEMES.contains(&&*start.name);
        let is_web = start.name.starts_with("http") || is_other;
        part.find(|&at| {
            let sign = self.all[at];
            let any = is_web && sign.level <= start.level && at + 1 < end;
            match sign.c {
                '?' => any || self.is_parameter(at + 1, end),
                '#' => self.rows(at, end) != at && (any || self.is_parameter(at + 1, end)),
                '&' | ';' => self.is_parameter(at + 1, end),
                _ => false,
            }
        })
    }

    /// Whether the name of a parameter and `=` follow here; or text that was hidden before.
    fn is_parameter(&self, from: usize, end: usize) -> bool {
        if from < end && self.c(from) == REDACTED.chars().next() {
            return true;
        }
        let stop = self.first(from..end, |sign| "/?&;#=".contains(sign.c));
        stop.is_some_and(|stop| stop > from && self.c(stop) == Some('='))
    }

    /// Where `#rows=A..B` begins at the end of an address: a part of a snapshot, and no secret.
    fn rows(&self, from: usize, end: usize) -> usize {
        const ROWS: [char; 6] = ['#', 'r', 'o', 'w', 's', '='];
        let is_bound = |sign: &Sign| sign.c.is_ascii_digit() || sign.c == '.';
        let bounds = self.all[from..end].iter().rev().take_while(|sign| is_bound(sign)).count();
        match (end - bounds).checked_sub(ROWS.len()).filter(|&at| at >= from) {
            Some(at) if self.all[at..at + ROWS.len()].iter().map(|sign| sign.c).eq(ROWS) => at,
            _ => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::{Config, TestRunner};

    use crate::address::{Location, redacted, without_secrets};

    const ADDRESSES: [(&str, &str); 55] = [
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
        // What stands in the place of a port.
        ("abfss://container@account:SECRET/a", "abfss://container@account:…/a"),
        ("https://ana:SECRET/a", "https://ana:…/a"),
        ("http://[::1]:SECRET/a", "http://[::1]:…/a"),
        ("http://[fe80::1%eth0]:80/a", "http://[fe80::1%eth0]:80/a"),
        ("http://ana:SECRET@[::1]:80/a", "http://…@[::1]:80/a"),
        ("abc://SECRET@h/a", "abc://…@h/a"),
        // With too few slashes, with too many, and with none.
        ("https:/ana:SECRET@h/a", "https:/…@h/a"),
        ("https:ana:SECRET@h/a", "https:…@h/a"),
        ("https:///ana:SECRET@h/a", "https:///…@h/a"),
        ("https:\\\\ana:SECRET@h/a", "https:\\\\…@h/a"),
        ("//ana:SECRET@h/a", "//…@h/a"),
        ("://ana:SECRET@h/a", "://…@h/a"),
        ("ana:SECRET@h/a", "ana:…@h/a"),
        ("mailto:SECRET@h", "mailto:…@h"),
        // An address that became part of a path.
        ("/data/https:/ana:SECRET@h/a?sig=SECRET", "/data/https:/…@h/a?…"),
        ("fleets/HTTPS://ana:SECRET@h/a", "fleets/HTTPS://…@h/a"),
        ("/data/jdbc:postgresql:/h/db?user=a&password=SECRET", "/data/jdbc:postgresql:/h/db?…"),
        ("jdbc:postgresql://h/db?password=SECRET", "jdbc:postgresql://h/db?…"),
        ("jdbc:postgresql://ana:SECRET@h/db", "jdbc:…@h/db"),
        ("jdbc:sqlserver://h:1433;user=a;password=SECRET", "jdbc:sqlserver://h:1433;…"),
        ("jdbc:oracle:thin:ana/SECRET@h:1521/x", "jdbc:…@h:1521/x"),
        ("http://h/to/https://ana:SECRET@h2/a", "http://h/to/https://…@h2/a"),
        // Other spellings.
        ("https://ana%3ASECRET%40h/a", "https://…%40h/a"),
        ("https%3A%2F%2Fana%3ASECRET%40h%2Fa%3Fsig%3DSECRET", "https%3A%2F%2F…%40h%2Fa%3F…"),
        ("https%253A%252F%252Fana%253ASECRET%2540h", "https%253A%252F%252F…%2540h"),
        ("https：／／ana：SECRET＠h／a？sig＝SECRET", "https：／／…＠h／a？…"),
        ("https://SEC%2FRET@h/a", "https://…@h/a"),
        // A password that begins like a port.
        ("ftp://ana:12/SECRET@h/a", "ftp://…@h/a"),
        ("postgres://ana:5432?SECRET@h/db", "postgres://…@h/db"),
        ("http://h:80/a@b.parquet", "http://h:80/a@b.parquet"),
        // Queries.
        ("https://h/{day}/a?sig=SEC{day}RET", "https://h/{day}/a?…"),
        ("https://h/a?sig=SEC\u{1}RET\tSEC RET", "https://h/a?…"),
        ("https://h/a&sig=SECRET", "https://h/a&…"),
        ("https://h/a?x=1#rows=1..2?sig=SECRET", "https://h/a?…"),
        ("s3://b/a.parquet#token=SECRET", "s3://b/a.parquet#…"),
        ("S3://b/day-?.parquet", "S3://b/day-?.parquet"),
        ("s3://b/k#1.parquet", "s3://b/k#1.parquet"),
    ];

    #[test]
    fn a_place_shows_no_secret_however_it_is_printed() {
        for (text, wanted) in ADDRESSES {
            let place = Location::from(text);
            assert_eq!(redacted(text), wanted);
            assert_eq!(redacted(wanted), wanted, "shown twice");
            assert_eq!(place.to_string(), wanted);
            assert_eq!(format!("{place:?}"), format!("{wanted:?}"));
            assert_eq!(serde_json::to_value(&place).unwrap(), serde_json::Value::from(wanted));
            assert_eq!(place.expose(), text);
            assert!(!place.identity().contains("SEC") && place.identity().starts_with(wanted), "{}", place.identity());
            assert_eq!(place.identity() == text, wanted == text);
        }
        let other = Location::from("https://h/a.parquet?sig=OTHER");
        assert_ne!(Location::from("https://h/a.parquet?sig=SECRET").identity(), other.identity());
    }

    /// What may stand around an address in a text.
    const AROUND: [(&str, &str); 7] = [
        ("", ""),
        ("(", ")"),
        ("\"", "\": no"),
        ("'", "', or 'x'"),
        ("no answer from ", ": gone"),
        ("ü", ", x"),
        ("<a>", "</a>"),
    ];

    #[test]
    fn no_address_in_a_text_shows_a_secret() {
        for (address, wanted) in ADDRESSES {
            // In a text an address may end at a blank.
            let quotes = if address.contains(' ') { &[("'", "'"), ("\"", "\": no")][..] } else { &AROUND };
            for &(before, after) in quotes {
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
    fn what_holds_no_secret_is_left_as_it_is() {
        for text in [
            "fleet.toml:3: model 'm': importance -1 must be 0 or more",
            "{\"by\":\"ana@h\",\"at\":\"2026-01-02T02:10:00Z\",\"x\":\"a:b\"}",
            "write to ana@example.org",
            "sha256:0123abcd, SHA256:UCUiLr7Pjs9 ana@laptop",
            "is it http://h/x?",
            "(see https://h:80/a/b).",
            "http://h1:1,http://h2:2;http://h3",
            "driftsweep_common::address::shown at src/a.rs:3:4",
            "/data/a@b/day=3/x.parquet",
            "s3://b/[ab]-?/*.parquet",
            "postgres://h1:1,h2:2/db",
            "100 % of 3:4",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn a_long_text_of_many_colons_is_searched_quickly() {
        for part in ["a:", "a:b@", "T02:10,", "//a/", "x://h,", "'a://b"] {
            let text = part.repeat(5_000);
            let begun = std::time::Instant::now();
            without_secrets(&text);
            assert!(begun.elapsed().as_secs() < 20, "{part}: {:?}", begun.elapsed());
        }
    }

    /// The two halves of a secret, around what may stand in its middle.
    const HALVES: [&str; 2] = ["Zq7Left", "Zq7Right"];

    fn secret(middles: &'static [&'static str]) -> impl Strategy<Value = String> {
        select(middles).prop_map(|middle| format!("{}{middle}{}", HALVES[0], HALVES[1]))
    }

    /// What any secret may hold; then what a password may, and what a query may, which tell what follows them.
    const ANY: &[&str] = &[
        "", "\"", "'", "`", "<", ">", "(", ")", "{day}", "|", "^", "~", "ü", "\u{1}", "\t", "\u{200b}", "$", "%20", "%",
    ];
    const IN_PASSWORD: &[&str] = &[
        "", "@", ":", "/", "?", "#", "\\", "&", ";", "=", "%40", "%2F", "%3a", "://", "@/", "/@", "?@", "\"", "'", "{",
        ",", "＠",
    ];
    const IN_QUERY: &[&str] =
        &["", "@", ":", "/", "?", "#", "\\", "&", ";", "=", "&x=", "#x", "#rows=", "%26", "{day}", "\u{1}", "\t", "|"];

    /// An address with a secret in it somewhere.
    fn addresses() -> impl Strategy<Value = String> {
        let schemes = &[
            "https",
            "HTTPS",
            "http",
            "s3",
            "S3",
            "gs",
            "az",
            "abfs",
            "abfss",
            "ftp",
            "postgres",
            "mysql",
            "hdfs",
            "sqlite",
            "jdbc:postgresql",
            "git+ssh",
        ];
        let hosts =
            &["h", "h.example.org", "h:8", "[::1]", "[::1]:80", "127.0.0.1:9000", "b-{day}", "xn--bcher-kva", "bücher"];
        let paths = &["", "/", "/a.parquet", "/{day}/a-*.parquet", "/ü/x@y.csv", "/day=3/[ab]?.csv", "/a%40b"];
        let part = prop_oneof![
            secret(IN_PASSWORD).prop_map(|s| (format!("ana:{s}@"), String::new(), String::new())),
            secret(ANY).prop_map(|s| (format!("ana:{s}@"), String::new(), String::new())),
            secret(IN_PASSWORD).prop_map(|s| (format!(":{s}@"), String::new(), String::new())),
            secret(ANY).prop_map(|s| (format!("{s}@"), String::new(), String::new())),
            secret(IN_QUERY).prop_map(|s| (String::new(), String::new(), format!("?sig={s}"))),
            secret(IN_QUERY).prop_map(|s| (String::new(), String::new(), format!("?x=1&password={s}&y=2"))),
            secret(ANY).prop_map(|s| (String::new(), String::new(), format!("#access_token={s}"))),
            secret(ANY).prop_map(|s| (String::new(), String::new(), format!(";password={s}"))),
            (secret(IN_PASSWORD), secret(IN_QUERY)).prop_map(|(p, q)| (
                format!("ana:{p}@"),
                String::new(),
                format!("?sig={q}")
            )),
        ];
        let with_port = (select(schemes), secret(&["", "ü", "{", "(", "'", "%20"]), select(paths))
            .prop_map(|(scheme, s, path)| format!("{scheme}://h:{s}{path}"));
        let begins = prop_oneof![
            (select(schemes), select(&["://", ":/", ":", ":///", ":\\\\"]))
                .prop_map(|(scheme, by)| format!("{scheme}{by}")),
            Just("//".to_owned()),
        ];
        let whole =
            (begins, part, select(hosts), select(paths), select(&["", "", "/data/", "./fleets/"]), any::<bool>());
        let whole = whole.prop_map(|(begin, (user, _, query), host, path, before, encoded)| {
            let address = format!("{begin}{user}{host}{path}{query}");
            // Encoded as a whole, as the parameter of another address.
            let encode = |text: String| {
                [
                    ("%", "%25"),
                    (":", "%3A"),
                    ("/", "%2F"),
                    ("@", "%40"),
                    ("?", "%3F"),
                    ("=", "%3D"),
                    ("&", "%26"),
                    ("#", "%23"),
                    (";", "%3B"),
                ]
                .iter()
                .fold(text, |text, (from, to)| text.replace(from, to))
            };
            format!("{before}{}", if encoded { encode(address) } else { address })
        });
        prop_oneof![6 => whole, 1 => with_port]
    }

    #[test]
    fn no_part_of_a_secret_survives_in_any_address() {
        let config = Config { cases: 5_000, failure_persistence: None, ..Config::default() };
        let tested = TestRunner::new(config).run(&addresses(), |address| {
            let whole = |text: &str| !HALVES.iter().any(|half| text.contains(half));
            let place = Location::from(&*address);
            let json = serde_json::to_string(&place).unwrap();
            for text in [place.to_string(), format!("{place:?}"), json, place.identity()] {
                prop_assert!(whole(&text), "{} shows {}", address, text);
            }
            prop_assert_eq!(redacted(redacted(&address)), redacted(&address));
            // In messages: quoted, alone, and as they are escaped.
            for text in [format!("unknown '{address}'"), format!("{address}: gone"), format!("see {address:?}")] {
                let found = without_secrets(&text).into_owned();
                prop_assert!(whole(&found), "{} shows {}", text, found);
                prop_assert_eq!(&without_secrets(&found), &found);
            }
            Ok(())
        });
        tested.unwrap();
    }
}
